//! The PCs `q35` and `pc`, far enough to build a guest: memory, firmware flash, fw_cfg with a kernel, CPU models, and
//! the launch of a confidential guest with everything that operators ask of it.
//!
//! No CPU back end of this version executes x86-64 code: a machine waits for its operators and refuses to go on. There
//! are no buses and no disks.

mod boot;
mod control;
mod firmware;
mod layout;
mod sev;

use crate::blocks::{Blocks, Hold};
use crate::objects::Objects;
use crate::run::{End, Report};
use crate::{MachineError, Outlets, Run, backing, outlets::MessageSink};
use cloister_cgs::{ConfidentialGuest, FirmwareImage, HostFacts, LaunchHost, MachineFacts};
use cloister_control::{Cause, Event, Events, Facts, RunState};
use cloister_devices::flash::Flash;
use cloister_devices::fw_cfg::{FwCfg, key};
use cloister_options::{CommandLine, DriveInterface, X86_DEFAULT_CPU, x86_cpu_signature};
use cloister_platform::arch::x86_64::{VmConfig, VmType};
use cloister_platform::{Capabilities, Door, Vm};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use firmware::Firmware;
pub use firmware::stand_in as stand_in_firmware;
pub use sev::SevPlatform;

/// Why a guest does not run.
pub const NO_CPU: &str = "no CPU back end of this version of Cloister can run an x86-64 guest: the guest has been \
                          built as far as its first instruction and stays there; everything about it can still be \
                          queried, and 'quit' ends it";

/// RAM without `-m`.
const DEFAULT_MEMORY: u64 = 128 << 20;

/// A machine, built and waiting.
pub struct Q35 {
    vm: Vm,
    capabilities: Capabilities,
    described: Facts,
    cpu_model: String,
    line: CommandLine,
    flashes: Vec<Flash>,
    flash_holds: Vec<Hold>,
    blocks: Blocks,
    fw_cfg: FwCfg,
    events: Events,
    objects: Objects,
    warnings: Vec<String>,
    messages: MessageSink,
    shared: Mutex<Shared>,
    changed: Condvar,
}

/// What changes.
struct Shared {
    cgs: Option<Box<dyn ConfidentialGuest>>,
    end: Option<End>,
}

impl Q35 {
    /// Builds the machine that the command line describes, on the platform behind `door`; a confidential guest's
    /// launch is done as far as its measurement.
    pub fn with_outlets(
        line: &CommandLine,
        door: Arc<dyn Door>,
        outlets: Outlets,
    ) -> Result<Self, MachineError> {
        let capabilities = Vm::capabilities(door.as_ref())?;
        let backing = backing::read(line)?;
        let memory = backing.size.unwrap_or(DEFAULT_MEMORY);
        if memory == 0 || memory % (1 << 20) != 0 {
            return Err(MachineError::MemorySize);
        }
        if let Some(drive) = line.drives.iter().find(|drive| drive.interface == DriveInterface::Virtio) {
            return Err(MachineError::Device {
                location: drive.location.to_string(),
                problem: "this machine has no disks in this version of Cloister; firmware flash is if=pflash"
                    .into(),
            });
        }
        // A platform that names no limit has none.
        let most = match capabilities.max_cpus {
            0 => u32::from(u16::MAX),
            most => u32::from(most),
        };
        if line.smp.max_cpus > most {
            let machine = line.machine.name.clone();
            return Err(MachineError::TooManyCpus { asked: line.smp.max_cpus, most, machine });
        }
        let cpu_model = line.cpu.as_ref().map_or(X86_DEFAULT_CPU, |cpu| &cpu.model).to_owned();
        let cpu_signature = x86_cpu_signature(&cpu_model)
            .ok_or_else(|| MachineError::CpuModel(format!("unable to find CPU model '{cpu_model}'")))?;

        let facts = MachineFacts {
            max_cpus: line.smp.max_cpus,
            huge_pages: backing.huge_pages,
            only_migratable: line.only_migratable,
            ..MachineFacts::default()
        };
        let mut warnings: Vec<String> = backing.unused.into_iter().collect();
        let mut cgs = cloister_cgs::resolve_or_implicit(line, &facts)?;
        if let Some(cgs) = &mut cgs {
            cgs.check(&HostFacts::default(), &facts)?;
            warnings.extend(cgs.init(&facts)?.warnings);
        }

        let blocks = Blocks::open(&line.block_nodes)?;
        let Firmware { flashes, holds: flash_holds, said } = firmware::read(line, &blocks)?;
        warnings.extend(said);
        let family = layout::Family::of(&line.machine.name);
        let limit = line.machine.properties.number("max-ram-below-4g").unwrap_or(0);
        let low = family.below_4g(memory, limit);
        let kernel = boot::Kernel::read(line, low)?;
        let (slots, memory_bytes) = layout::slots(memory, low, &flashes);
        let vm_type =
            cgs.as_mut().and_then(|cgs| cgs.host_launch()).map_or(VmType::Default, |launch| launch.vm_type());
        // `-smp` allows no more than fit.
        let vcpus = u16::try_from(line.smp.cpus).unwrap_or(u16::MAX);
        let vm = Vm::create_x86(door, VmConfig { vcpus, memory_bytes, slots, vm_type, cpu_signature })?;

        let mut machine = Self {
            described: Facts {
                target: line.target,
                machine: line.machine.name.clone(),
                name: line.name.clone(),
                uuid: line.uuid.unwrap_or_default(),
                platform: capabilities.platform.clone(),
                model: capabilities.model,
                memory,
                memory_id: line.machine.memory_backend.clone().unwrap_or_else(|| "pc.ram".into()),
            },
            vm,
            capabilities,
            cpu_model,
            line: line.clone(),
            flashes,
            flash_holds,
            blocks,
            fw_cfg: FwCfg::default(),
            events: Events::default(),
            objects: Objects::new(line),
            warnings,
            messages: outlets.messages.unwrap_or_else(|| Box::new(crate::outlets::to_stderr)),
            shared: Mutex::new(Shared { cgs, end: None }),
            changed: Condvar::new(),
        };
        machine.build(kernel, low)?;
        Ok(machine)
    }

    /// Puts everything in its place, in the order in which a confidential guest's firmware measures it.
    fn build(&mut self, mut kernel: Option<boot::Kernel>, low: u64) -> Result<(), MachineError> {
        let host = LaunchHost {
            sev: self.capabilities.sev,
            no_irqchip: self.line.machine.properties.text("kernel-irqchip") == Some("off"),
        };
        let port = sev::Port::new(&self.vm);
        let shared = self.shared.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut launch = shared.cgs.as_mut().and_then(|cgs| cgs.host_launch());
        if let Some(launch) = &mut launch {
            launch.begin(&host, &port)?;
        }
        for flash in &self.flashes {
            let fail = |source| MachineError::Host { what: "put the firmware into guest memory", source };
            self.vm.memory().load(flash.guest_physical, &flash.bytes).map_err(fail)?;
        }
        if let (Some(launch), Some(flash)) = (&mut launch, self.flashes.first()) {
            let image = FirmwareImage { guest_physical: flash.guest_physical, bytes: &flash.bytes };
            self.warnings.extend(launch.on_firmware(&image, &port)?);
            if let Some(address) = launch.reset_address() {
                for cpu in 1..self.vm.cpus() {
                    self.vm.set_reset_address(cpu, address)?;
                }
            }
        }
        if let Some(kernel) = &mut kernel {
            match &mut launch {
                Some(launch) => launch.on_kernel(&kernel.image(), &port)?,
                None => kernel.patch(),
            }
        }
        self.fill_fw_cfg(kernel.as_ref(), low);
        let shared = self.shared.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(launch) = shared.cgs.as_mut().and_then(|cgs| cgs.host_launch()) {
            self.warnings.extend(launch.on_machine_ready(&sev::Port::new(&self.vm))?);
        }
        Ok(())
    }

    fn fill_fw_cfg(&mut self, kernel: Option<&boot::Kernel>, low: u64) {
        let device = &mut self.fw_cfg;
        device.set(key::UUID, self.described.uuid.to_vec());
        device.set_u64(key::RAM_SIZE, self.described.memory);
        device.set_u16(key::NOGRAPHIC, u16::from(self.line.display != cloister_options::Display::Default));
        device.set_u16(key::NB_CPUS, u16::try_from(self.line.smp.cpus).unwrap_or(u16::MAX));
        device.set_u16(key::MAX_CPUS, u16::try_from(self.line.smp.max_cpus).unwrap_or(u16::MAX));
        device.set_u16(key::BOOT_MENU, u16::from(self.line.boot.menu == Some(true)));
        // Start, length and type of each range: 1 is memory.
        let range = |start: u64, len: u64| {
            [start.to_le_bytes().as_slice(), &len.to_le_bytes(), &1u32.to_le_bytes()].concat()
        };
        let mut map = range(0, low);
        if self.described.memory > low {
            map.extend(range(1 << 32, self.described.memory - low));
        }
        // There are fewer files than the directory has room for.
        let _ = device.add_file("etc/e820", map);
        if let Some(kernel) = kernel {
            kernel.load(device);
        }
    }

    /// What the firmware would read of the machine.
    pub fn fw_cfg(&self) -> &FwCfg {
        &self.fw_cfg
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Run for Q35 {
    /// Waits for the end, as the guest cannot run.
    fn run(self: Arc<Self>) -> Result<Report, MachineError> {
        let begin = Instant::now();
        let mut shared = self.lock();
        loop {
            if let Some(end) = shared.end.clone() {
                return Ok(Report { end, instructions: 0, wall: begin.elapsed() });
            }
            if !self.line.stopped {
                return Err(MachineError::NoCpuBackEnd);
            }
            shared = self.changed.wait(shared).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn end(&self, end: End, cause: Cause) {
        let mut shared = self.lock();
        if shared.end.is_none() {
            shared.end = Some(end);
            drop(shared);
            tracing::trace!(target: "qemu_system_shutdown_request", reason = cause.name());
            self.events.emit(Event::Shutdown(cause));
            self.changed.notify_all();
        }
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn console_input(&self, bytes: &[u8]) -> usize {
        bytes.len()
    }
}

/// What it does while it waits.
const WAITING: RunState = RunState::Prelaunch;
