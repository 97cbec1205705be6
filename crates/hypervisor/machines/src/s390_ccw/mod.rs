//! The `s390-ccw-virtio` machine.
//!
//! It loads a kernel or the boot loader, answers the instructions that the core leaves to it and carries out resets and the
//! transitions of a confidential guest. CPUs, interruption queues and memory are behind the upper door.

mod bios;
mod control;
mod cpu_model;
mod device;
mod dump;
mod instruction;
mod ipl;
mod load;
mod plug;
mod port;
mod storage;
mod timers;
mod worker;

use crate::backing;
use crate::blocks::Blocks;
use crate::exits::{Exits, reason};
use crate::objects::Objects;
use crate::run::Policy;
use crate::run::{Conductor, End, Guest, Idle, Next, Report};
use crate::{MachineError, Outlets, Run, outlets::MessageSink};
use cloister_cgs::{BootImage, ConfidentialGuest, HostFacts, MachineFacts};
use cloister_control::{Cause, DeviceInfo, Events, Facts, RunState as MachineState};
use cloister_devices::css::ChannelSubsystem;
use cloister_devices::sclp::{Sclp, SclpConfig};
use cloister_devices::{HostInterrupt, InterruptSink};
use cloister_network::Network;
use cloister_options::{CommandLine, DeviceSpec, Drive, IcountShift, RtcBase};
use cloister_platform::arch::s390x::{Exit, RunState, TimeMode, VmConfig, facility};
use cloister_platform::{Capabilities, Door, HostMemory, PageCounts, Vm};
use load::BootFiles;
use std::sync::atomic::{AtomicBool, Ordering};
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
    /// Of `-kernel`.
    boot: Option<BootFiles>,
    disk_boot: bios::DiskBoot,
    /// One thread for all CPUs, and what it does when they wait; else a thread for each.
    in_turn: Option<Idle>,
    no_reboot: bool,
    described: Facts,
    confidential_id: Option<String>,
    events: Events,
    objects: Objects,
    attached: Mutex<Vec<plug::Attached>>,
    consoles: Vec<(DeviceSpec, DeviceInfo)>,
    drives: Vec<Drive>,
    defaults: device::Defaults,
    host: device::Host,
    timers: timers::Timers,
    worker: worker::Worker,
    conductor: Conductor,
    exits: Exits,
    dump: dump::Dump,
    protected: Arc<AtomicBool>,
    warnings: Vec<String>,
    messages: MessageSink,
    console_room: Option<Box<dyn Fn() + Send + Sync>>,
    /// Console input waits for room.
    console_stalled: AtomicBool,
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
            let machine = "s390-ccw-virtio".into();
            return Err(MachineError::TooManyCpus { asked: line.smp.max_cpus, most, machine });
        }
        let facilities = cpu_model::facilities(line.cpu.as_ref(), &capabilities.facilities)?;
        let files =
            |kernel| BootFiles::read(kernel, line.initrd.as_deref(), line.append.clone(), memory_bytes);
        let boot = line.kernel.as_deref().map(files).transpose()?;
        let disk_boot = bios::DiskBoot::read(line, memory_bytes)?;

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
        facts.devices = plug::facts(line, iommu_default);

        let mut warnings: Vec<String> = backing.unused.into_iter().collect();
        warnings.extend(disk_boot.warnings(line));
        if let Some(cgs) = &mut cgs {
            let host = HostFacts { ultravisor: capabilities.ultravisor, prot_virt: capabilities.prot_virt };
            cgs.check(&host, &facts)?;
            warnings.extend(cgs.init(&facts)?.warnings);
            // What is on a disk is seen when it runs.
            if let Some(boot) = &boot {
                let image = BootImage {
                    protected: boot.is_protected(),
                    initrd: boot.has_initrd(),
                    append: boot.has_append(),
                };
                warnings.extend(cgs.on_boot_image(&image)?.warnings);
            }
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
        let mut sclp_config = SclpConfig::new(memory_bytes, line.smp.cpus as u8);
        sclp_config.highest_cpu = line.smp.max_cpus.saturating_sub(1) as u16;
        sclp_config.extended_length = facts.extended_length_sccb;
        let loadparm = line.machine.loadparm.as_deref().unwrap_or_default();
        sclp_config.loadparm = ipl::loadparm(loadparm);
        let sclp = Sclp::new(sclp_config, outlets.console, outlets.line_console, Arc::clone(&sink));
        let mut css = ChannelSubsystem::new(sink);
        let defaults = device::Defaults { iommu_platform: iommu_default, seed: line.seed };
        let worker = worker::Worker::new();
        let events = Events::default();
        let host = device::Host {
            memory: vm.memory().clone(),
            events: events.clone(),
            protected: Arc::default(),
            ports: outlets.ports,
            network: outlets.network.unwrap_or_else(Network::none),
            macs: device::Macs::default(),
            blocks: Blocks::open(&line.block_nodes)?,
            jobs: worker.jobs().clone(),
            repeatable: line.icount.is_some(),
        };
        device::tell_network(&host.network, &events);
        let attached = plug::attach(line, &mut css, defaults, &host, worker.jobs())?;
        let has_watchdog = line.devices.iter().any(DeviceSpec::is_watchdog);
        let described = Facts {
            target: line.target,
            machine: line.machine.name.clone(),
            name: line.name.clone(),
            uuid: line.uuid.unwrap_or_default(),
            platform: capabilities.platform.clone(),
            model: capabilities.model,
            memory: memory_bytes,
            memory_id: line.machine.memory_backend.clone().unwrap_or_else(|| "s390.ram".into()),
        };
        let policy = Policy { shutdown: line.actions.shutdown, panic: line.actions.panic };
        let begin = if line.stopped { MachineState::Prelaunch } else { MachineState::Running };
        let conductor = Conductor::new(events.clone(), policy, begin);

        Ok(Self {
            vm,
            capabilities,
            css: Mutex::new(css),
            sclp: Mutex::new(sclp),
            cgs: Mutex::new(cgs),
            facts,
            ipl: Mutex::new(ipl::Ipl::default()),
            boot,
            disk_boot,
            in_turn,
            no_reboot: line.no_reboot,
            described,
            confidential_id: line.machine.confidential_guest.as_ref().map(|reference| reference.id.clone()),
            events,
            objects: Objects::new(line),
            attached: Mutex::new(attached),
            consoles: plug::consoles(line),
            drives: line.drives.clone(),
            defaults,
            timers: timers::Timers::new(has_watchdog, line.actions.watchdog),
            worker,
            conductor,
            exits: Exits::default(),
            dump: dump::Dump::default(),
            protected: Arc::clone(&host.protected),
            host,
            warnings,
            console_room: outlets.console_room,
            console_stalled: AtomicBool::new(false),
            messages: outlets.messages.unwrap_or_else(|| Box::new(crate::outlets::to_stderr)),
        })
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

    /// Whether guest time is counted by instructions.
    fn virtual_time(&self) -> bool {
        matches!(self.in_turn, Some(Idle::Skip | Idle::SkipSlowly))
    }

    /// Whether the guest runs protected.
    pub fn is_protected(&self) -> bool {
        self.protected.load(Ordering::Acquire)
    }

    /// Tells the user something while the machine runs.
    fn say(&self, text: &str) {
        (self.messages)(text);
    }

    fn attached(&self) -> MutexGuard<'_, Vec<plug::Attached>> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
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

impl Run for S390Ccw {
    fn run(self: Arc<Self>) -> Result<Report, MachineError> {
        // Operators may be at work already.
        self.conductor.rest_and(&self.vm, || {
            self.boot()?;
            Ok(false)
        })?;
        let run = || match self.in_turn {
            Some(idle) => self.conductor.run_in_turn(&self.vm, self.as_ref(), idle),
            None => self.conductor.run_threads(&self.vm, self.as_ref()),
        };
        let run = || self.with_timers(run);
        let thread = |source| MachineError::Host { what: "start the thread of the devices", source };
        self.worker.beside(&self, run).flatten().map_err(thread)
    }

    fn end(&self, end: End, cause: Cause) {
        self.conductor.end(&self.vm, end, cause);
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn console_input(&self, bytes: &[u8]) -> usize {
        let mut sclp = self.sclp();
        let taken = sclp.console_input(bytes);
        if taken < bytes.len() {
            self.console_stalled.store(true, Ordering::Release);
        }
        taken
    }
}

impl Guest for S390Ccw {
    fn exit(&self, cpu: u16, exit: Exit) -> Result<Next, MachineError> {
        self.exits.counted(reason(&exit), || self.handle(cpu, exit))
    }

    fn at_rest(&self, cpu: u16) -> Result<(Next, bool), MachineError> {
        self.ipl_function(cpu)
    }

    fn virtual_tick(&self) -> Option<u64> {
        if self.virtual_time() { self.tick() } else { None }
    }
}

impl S390Ccw {
    fn handle(&self, cpu: u16, exit: Exit) -> Result<Next, MachineError> {
        Ok(match exit {
            // The conductor deals with the debugger's stops before.
            Exit::Budget | Exit::Kicked | Exit::Idle { .. } | Exit::Debug(_) => Next::Continue,
            Exit::Instruction(instruction) => self.instruction(&instruction),
            Exit::Stopped => self.stopped()?,
            // The end of a guest that was asked to power itself off.
            Exit::DisabledWait(psw) if psw.addr == QUIESCED => Next::End(End::PowerOff),
            Exit::DisabledWait(psw) => Next::End(End::Crashed { cpu, mask: psw.mask, addr: psw.addr }),
            Exit::Stuck { reason } => Next::End(End::Stuck { cpu, reason }),
            Exit::MemoryFault { address, .. } => {
                Next::End(End::Stuck { cpu, reason: format!("access to {address:#x}, where no memory is") })
            }
        })
    }

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
        match interrupt {
            HostInterrupt::Io { subchannel_id, nr, parameter, word } => tracing::trace!(
                target: "css_io_interrupt",
                subchannel = format_args!("{subchannel_id:04x}.{nr:04x}"),
                parameter = format_args!("{parameter:#x}"),
                word = format_args!("{word:#x}")
            ),
            HostInterrupt::Adapter { isc } => tracing::trace!(target: "css_adapter_interrupt", isc),
            HostInterrupt::ServiceSignal(_) | HostInterrupt::ChannelReport => {}
        }
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

/// Address of the disabled wait by which Linux says that it has ended after a signal-quiesce event
/// (Linux, drivers/s390/char/sclp_quiesce.c); QEMU's machine takes it for a power-off, too.
const QUIESCED: u64 = 0xfff;

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
