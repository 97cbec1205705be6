//! The `s390-ccw-virtio` machine.
//!
//! It loads a kernel, answers the instructions that the core leaves to it and carries out resets and the
//! transitions of a confidential guest. CPUs, interruption queues and memory are behind the upper door.

mod backing;
mod cpu_model;
mod instruction;
mod ipl;
mod load;

use crate::console::Console;
use crate::run::{Conductor, End, Guest, Idle, Next, Report};
use crate::{MachineError, Outlets, outlets::MessageSink};
use cloister_cgs::{BootImage, ConfidentialGuest, DeviceFacts, HostFacts, MachineFacts};
use cloister_devices::css::{ChannelSubsystem, DeviceNumber, VIRTUAL_CSSID};
use cloister_devices::entropy::{EntropySource, SeededEntropy, SystemEntropy};
use cloister_devices::sclp::{Sclp, SclpConfig};
use cloister_devices::virtio::blk::{Block, BlockOptions};
use cloister_devices::virtio::ccw::{VirtioCcw, VirtioCcwOptions};
use cloister_devices::virtio::disk::{DiskOptions, open_disk};
use cloister_devices::virtio::rng::Rng;
use cloister_devices::{HostInterrupt, InterruptSink};
use cloister_options::{
    CommandLine, DeviceSpec, Drive, DriveFormat, DriveInterface, DriveMedia, IcountShift, OnOffAuto, RtcBase,
};
use cloister_platform::arch::s390x::{Exit, RunState, TimeMode, VmConfig, facility};
use cloister_platform::{Capabilities, Door, HostMemory, PageCounts, Vm};
use load::BootFiles;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most CPUs of the machine.
const MAX_CPUS: u32 = 248;
/// RAM without `-m`.
const DEFAULT_MEMORY: u64 = 128 << 20;
/// Seconds from the TOD epoch (1900) to 1970.
const EPOCH: i64 = 2_208_988_800;
/// Guest time of a run with virtual time and no `-rtc base=`: 2026-01-01, the same at each run.
const VIRTUAL_START: i64 = 1_767_225_600;

/// A machine ready to run.
pub struct S390Ccw {
    vm: Vm,
    capabilities: Capabilities,
    css: Mutex<ChannelSubsystem<HostMemory>>,
    sclp: Mutex<Sclp>,
    cgs: Mutex<Option<Box<dyn ConfidentialGuest>>>,
    facts: MachineFacts,
    ipl: Mutex<ipl::Ipl>,
    boot: BootFiles,
    console: Console,
    /// One thread for all CPUs, and what it does when they wait; else a thread for each.
    in_turn: Option<Idle>,
    no_reboot: bool,
    conductor: Conductor,
    protected: std::sync::atomic::AtomicBool,
    warnings: Vec<String>,
    messages: MessageSink,
}

impl S390Ccw {
    /// Builds the machine that the command line describes, on the platform behind `door`.
    pub fn new(line: &CommandLine, door: Arc<dyn Door>) -> Result<Self, MachineError> {
        Self::with_outlets(line, door, Outlets::default())
    }

    /// As [`new`](Self::new); the guest's console and the machine's own messages go where `outlets` says.
    pub fn with_outlets(
        line: &CommandLine,
        door: Arc<dyn Door>,
        outlets: Outlets,
    ) -> Result<Self, MachineError> {
        let capabilities = Vm::capabilities(door.as_ref())?;
        let backing = backing::read(line)?;
        let memory_bytes = backing.size.unwrap_or(DEFAULT_MEMORY);
        if memory_bytes == 0 || memory_bytes % (1 << 20) != 0 {
            return Err(MachineError::MemorySize);
        }
        let most = MAX_CPUS.min(u32::from(capabilities.max_cpus));
        if line.smp.max_cpus > most {
            return Err(MachineError::TooManyCpus { asked: line.smp.max_cpus, most });
        }
        let facilities = cpu_model::facilities(line.cpu.as_ref(), &capabilities.facilities)?;
        let kernel = line.kernel.as_deref().ok_or(MachineError::NothingToBoot)?;
        let boot = BootFiles::read(kernel, line.initrd.as_deref(), line.append.clone(), memory_bytes)?;

        let mut facts = MachineFacts {
            max_cpus: line.smp.max_cpus,
            unpack: facility::test(&facilities, facility::SECURE_UNPACK),
            extended_length_sccb: facility::test(&facilities, 140),
            devices: Vec::new(),
            huge_pages: backing.huge_pages,
            needs_discard: false,
            only_migratable: line.only_migratable,
        };
        let mut cgs = cloister_cgs::resolve_or_implicit(line, &facts)?;
        let iommu_default = cgs
            .iter()
            .flat_map(|cgs| cgs.virtio_defaults())
            .any(|default| default.property == "iommu_platform" && default.value);
        facts.devices = device_facts(line, iommu_default);

        let mut warnings: Vec<String> = backing.unused.into_iter().collect();
        if let Some(cgs) = &mut cgs {
            let host = HostFacts { ultravisor: capabilities.ultravisor, prot_virt: capabilities.prot_virt };
            cgs.check(&host, &facts)?;
            let image = BootImage {
                protected: boot.is_protected(),
                initrd: boot.has_initrd(),
                append: boot.has_append(),
            };
            warnings.extend(cgs.init(&facts)?.warnings);
            warnings.extend(cgs.on_boot_image(&image)?.warnings);
            cgs.on_first_run()?;
        }

        let virtual_time = line.icount.is_some();
        let one_thread = line.accel.first().is_some_and(|accel| accel.multi_threaded == Some(false));
        let in_turn = match line.icount {
            Some(icount) if icount.sleep => Some(Idle::SkipSlowly),
            Some(_) => Some(Idle::Skip),
            None => one_thread.then_some(Idle::Wait),
        };
        let config = VmConfig {
            memory_bytes,
            // CPUs of `maxcpus=` beyond `cpus=` could only come by hot-plug, which this machine lacks.
            max_cpus: line.smp.cpus as u16,
            facilities,
            cpu_id: CPU_ID,
            time: match line.icount {
                Some(icount) => TimeMode::Virtual {
                    shift: match icount.shift {
                        IcountShift::Fixed(shift) => shift,
                        IcountShift::Auto => 0,
                    },
                },
                None => TimeMode::Real,
            },
            tod_start: tod_start(line, virtual_time),
            name: line.name.clone().unwrap_or_else(|| "Cloister".into()),
            uuid: line.uuid.unwrap_or_default(),
        };
        let vm = Vm::create(door, config)?;
        let sink: Arc<dyn InterruptSink> = Arc::new(Interrupts(vm.clone()));
        let console = Console::from_options(line)?;
        let output = match outlets.console {
            Some(output) => Some(output),
            None => console.sink()?,
        };
        let mut sclp_config = SclpConfig::new(memory_bytes, line.smp.cpus as u8);
        sclp_config.highest_cpu = line.smp.max_cpus.saturating_sub(1) as u16;
        sclp_config.extended_length = facts.extended_length_sccb;
        let loadparm = line.machine.loadparm.as_deref().unwrap_or_default();
        sclp_config.loadparm = ipl::loadparm(loadparm);
        let sclp = Sclp::new(sclp_config, output, None, Arc::clone(&sink));
        let mut css = ChannelSubsystem::new(sink);
        attach_devices(line, &mut css, iommu_default)?;

        Ok(Self {
            vm,
            capabilities,
            css: Mutex::new(css),
            sclp: Mutex::new(sclp),
            cgs: Mutex::new(cgs),
            facts,
            ipl: Mutex::new(ipl::Ipl::default()),
            boot,
            console,
            in_turn,
            no_reboot: line.no_reboot,
            conductor: Conductor::new(),
            protected: std::sync::atomic::AtomicBool::new(false),
            warnings,
            messages: outlets.messages.unwrap_or_else(|| Box::new(crate::outlets::to_stderr)),
        })
    }

    /// What the user should be told before the run.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The platform that this machine runs on, in words.
    pub fn platform(&self) -> &str {
        &self.capabilities.platform
    }

    /// Guest memory as the host sees it, for those who look at it from outside.
    pub fn memory(&self) -> &HostMemory {
        self.vm.memory()
    }

    /// Page states, counted.
    pub fn page_counts(&self) -> Result<PageCounts, MachineError> {
        Ok(self.vm.page_counts()?)
    }

    /// Whether the guest runs protected.
    pub fn is_protected(&self) -> bool {
        self.protected.load(std::sync::atomic::Ordering::Acquire)
    }

    /// Tells the user something while the machine runs.
    fn say(&self, text: &str) {
        (self.messages)(text);
    }

    /// Ends the run from another thread.
    pub fn end(&self, end: End) {
        self.conductor.end(&self.vm, end);
    }

    /// Loads the boot files and runs the machine to its end. SIGINT, SIGTERM and SIGHUP end it too.
    pub fn run(self: &Arc<Self>) -> Result<Report, MachineError> {
        let entry = self.boot.load(self.vm.memory())?;
        ipl::start(&self.vm, 0, entry)?;
        let signals = self.watch_signals()?;
        let (input, quit) = (Arc::clone(self), Arc::clone(self));
        let terminal = self.console.start_input(
            move |bytes| {
                input.sclp().console_input(bytes);
            },
            move || quit.end(End::Quit),
        )?;
        let report = match self.in_turn {
            Some(idle) => self.conductor.run_in_turn(&self.vm, self.as_ref(), idle),
            None => self.conductor.run_threads(&self.vm, self.as_ref()),
        };
        drop(terminal);
        signals.close();
        Ok(report)
    }

    fn watch_signals(self: &Arc<Self>) -> Result<signal_hook::iterator::Handle, MachineError> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        let fail = |source| MachineError::Host { what: "watch signals", source };
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(fail)?;
        let handle = signals.handle();
        let machine = Arc::downgrade(self);
        let watch = move || {
            for signal in signals.forever() {
                if let Some(machine) = machine.upgrade() {
                    machine.end(End::Signal(signal));
                }
            }
        };
        std::thread::Builder::new().name("signals".into()).spawn(watch).map_err(fail)?;
        Ok(handle)
    }

    fn css(&self) -> MutexGuard<'_, ChannelSubsystem<HostMemory>> {
        self.css.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sclp(&self) -> MutexGuard<'_, Sclp> {
        self.sclp.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ipl(&self) -> MutexGuard<'_, ipl::Ipl> {
        self.ipl.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guest for S390Ccw {
    fn exit(&self, cpu: u16, exit: Exit) -> Result<Next, MachineError> {
        Ok(match exit {
            Exit::Budget | Exit::Kicked | Exit::Idle { .. } => Next::Continue,
            Exit::Instruction(instruction) => self.instruction(&instruction),
            Exit::Stopped => self.stopped()?,
            Exit::DisabledWait(psw) => Next::End(End::Crashed { cpu, mask: psw.mask, addr: psw.addr }),
            Exit::Stuck { reason } => Next::End(End::Stuck { cpu, reason }),
            Exit::MemoryFault { address, .. } => {
                Next::End(End::Stuck { cpu, reason: format!("access to {address:#x}, where no memory is") })
            }
        })
    }

    fn at_rest(&self, cpu: u16) -> Result<(Next, bool), MachineError> {
        self.ipl_function(cpu)
    }
}

impl S390Ccw {
    /// A CPU was stopped: with the last one the guest has powered off.
    fn stopped(&self) -> Result<Next, MachineError> {
        for cpu in 0..self.vm.cpus() {
            if matches!(self.vm.run_state(cpu)?, RunState::Operating | RunState::Load) {
                return Ok(Next::Continue);
            }
        }
        Ok(Next::End(End::PowerOff))
    }
}

/// Interruptions of devices, on their way through the door.
struct Interrupts(Vm);

impl InterruptSink for Interrupts {
    fn raise(&self, interrupt: HostInterrupt) {
        if let Err(why) = self.0.inject(interrupt.into()) {
            tracing::error!(%why, "interruption lost");
        }
    }

    fn withdraw_io(&self, subchannel_id: u16, nr: u16) {
        if let Err(why) = self.0.retract_io(u32::from(subchannel_id) << 16 | u32::from(nr)) {
            tracing::error!(%why, "interruption could not be withdrawn");
        }
    }
}

/// CPU identification: version 0xff (under a hypervisor), identifier 0, machine type 0x3906 as a machine of
/// the implemented level has it (STIDP, SA22-7832, chapter 10).
const CPU_ID: u64 = 0xff00_0000_3906_8000;

fn tod_start(line: &CommandLine, virtual_time: bool) -> Option<u64> {
    let unix = match line.rtc.base {
        RtcBase::Seconds(seconds) => seconds,
        RtcBase::Utc | RtcBase::LocalTime if virtual_time => VIRTUAL_START,
        RtcBase::Utc | RtcBase::LocalTime => return None,
    };
    // 4096 TOD units to a microsecond.
    Some(((unix + EPOCH).max(0) as u64).wrapping_mul(1_000_000 << 12))
}

fn is_virtio(device: &DeviceSpec) -> bool {
    device.driver.starts_with("virtio-")
}

fn iommu_platform(device: &DeviceSpec, default: bool) -> bool {
    match device.properties.on_off_auto("iommu_platform") {
        Some(OnOffAuto::On) => true,
        Some(OnOffAuto::Off) => false,
        Some(OnOffAuto::Auto) | None => device.properties.bool("iommu_platform").unwrap_or(default),
    }
}

fn device_facts(line: &CommandLine, iommu_default: bool) -> Vec<DeviceFacts> {
    let explicit = line.devices.iter().map(|device| DeviceFacts {
        driver: device.driver.clone(),
        name: device.id.clone().unwrap_or_else(|| device.driver.clone()),
        pass_through: device.pass_through,
        access_platform: is_virtio(device).then(|| iommu_platform(device, iommu_default)),
    });
    let implicit =
        line.drives.iter().filter(|drive| drive.interface == DriveInterface::Virtio).map(|drive| {
            DeviceFacts {
                driver: "virtio-blk-ccw".into(),
                name: drive.id.clone().unwrap_or_else(|| "drive".into()),
                pass_through: false,
                access_platform: Some(iommu_default),
            }
        });
    explicit.chain(implicit).collect()
}

fn attach_devices(
    line: &CommandLine,
    css: &mut ChannelSubsystem<HostMemory>,
    iommu_default: bool,
) -> Result<(), MachineError> {
    // Drives with `if=virtio` come first, as in QEMU.
    let mut drives: Vec<&Drive> =
        line.drives.iter().filter(|drive| drive.interface == DriveInterface::Virtio).collect();
    drives.sort_by_key(|drive| drive.index);
    for drive in drives {
        let block = block_device(drive, BlockOptions::default())?;
        let options = VirtioCcwOptions { iommu_platform: iommu_default, ..VirtioCcwOptions::default() };
        css.attach(None, Box::new(VirtioCcw::new(Box::new(block), options)))?;
    }
    for device in &line.devices {
        let fail = |problem: String| MachineError::Device { location: device.location.to_string(), problem };
        let options = VirtioCcwOptions {
            iommu_platform: iommu_platform(device, iommu_default),
            ..VirtioCcwOptions::default()
        };
        let devno = device
            .properties
            .device_number("devno")
            .map(|number| match number.cssid() {
                VIRTUAL_CSSID | 0 => Ok(DeviceNumber { ssid: number.ssid(), devno: number.number() }),
                other => Err(fail(format!(
                    "channel subsystem image {other:x} does not exist: virtual devices are in image fe"
                ))),
            })
            .transpose()?;
        let transport = match device.driver.as_str() {
            "virtio-blk-ccw" | "virtio-blk" => {
                let name = device
                    .properties
                    .text("drive")
                    .ok_or_else(|| fail("drive property not set; give drive=ID of a -drive".into()))?;
                let drive = line.drive(name).ok_or_else(|| {
                    fail(format!("Property 'virtio-blk-device.drive' can't find value '{name}'"))
                })?;
                let mut block_options = BlockOptions::default();
                if let Some(serial) = device.properties.text("serial") {
                    block_options.serial = serial.to_owned();
                }
                VirtioCcw::new(Box::new(block_device(drive, block_options)?), options)
            }
            "virtio-rng-ccw" | "virtio-rng" => {
                let source: Box<dyn EntropySource> = match line.seed {
                    Some(seed) => Box::new(SeededEntropy::new(seed)),
                    None => Box::new(SystemEntropy),
                };
                VirtioCcw::new(Box::new(Rng::new(source)), options)
            }
            other => return Err(fail(format!("'{other}' is not a device of this version of Cloister"))),
        };
        css.attach(devno, Box::new(transport))?;
    }
    Ok(())
}

fn block_device(drive: &Drive, options: BlockOptions) -> Result<Block, MachineError> {
    let path = drive.file.as_deref().ok_or_else(|| MachineError::Device {
        location: drive.location.to_string(),
        problem: "the drive has no file; give file=PATH".into(),
    })?;
    let disk = open_disk(
        path,
        &DiskOptions {
            format: drive.format.map(|format| {
                match format {
                    DriveFormat::Raw => "raw",
                    DriveFormat::Qcow2 => "qcow2",
                }
                .to_owned()
            }),
            read_only: drive.read_only || drive.media == DriveMedia::Cdrom,
            snapshot: drive.snapshot,
        },
    )?;
    Ok(Block::new(disk, options)?)
}
