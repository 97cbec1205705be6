//! IBM Secure Execution (protected virtualization on s390x): `-object s390-pv-guest`.
//!
//! The guest enters protected mode by itself with DIAGNOSE X'308' subcode 10 and leaves it on a reset, so most of
//! this module answers [`Transition`]s. What the Ultravisor does then is not here: the machine asks the platform.

use cloister_options::{ObjectRole, ObjectSpec, ObjectType, Target};
use cloister_platform::PvCommand;

use crate::error::CgsError;
use crate::guest::{
    BootImage, ConfidentialGuest, Effects, HostFacts, MachineFacts, PlatformStep, ResetKind, Transition,
    VirtioDefault,
};
use crate::registry::Mechanism;

/// The registry's line.
pub(crate) const MECHANISM: Mechanism = Mechanism {
    object: &ObjectType {
        name: TYPE,
        targets: Some(&[Target::S390x]),
        role: ObjectRole::ConfidentialGuest,
        // The image carries everything that is the owner's to say.
        keys: &[],
        doc: "IBM Secure Execution",
    },
    make: Some(|_: &ObjectSpec| Box::new(S390PvGuest::new(true))),
    make_implicit: Some(|machine| {
        machine.unpack.then(|| Box::new(S390PvGuest::new(false)) as Box<dyn ConfidentialGuest>)
    }),
};

/// Why a protected guest stays where it is.
pub const MIGRATION_BLOCKER: &str = "protected VMs are currently not migratable.";

/// DIAGNOSE X'308' subcode 10: the machine or the parameters are not fit for a protected guest. The guest gets this
/// answer whenever [`Transition::Enter`] is refused, and the user the refusal's text.
pub const DIAG_308_INVALID_FOR_PV: u16 = 0x0a02;

/// UV return code of "set secure configuration parameters" when no key slot of the header opens.
pub const RC_NO_KEY_SLOT: u16 = 0x0108;

/// Most CPUs of a protected guest: so many 16-byte entries fit into the 4 KiB SCCB of "read SCP information" behind
/// its fixed part, which the extended-length facility makes longer.
pub fn max_cpus(extended_length_sccb: bool) -> u32 {
    let first_entry = if extended_length_sccb { 144 } else { 128 };
    (4096 - first_entry) / 16
}

/// A guest that may enter protected mode.
#[derive(Debug)]
pub struct S390PvGuest {
    requested: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Clear,
    Entering,
    Protected { secure: Option<bool> },
}

impl S390PvGuest {
    /// A guest in the clear; `requested` by an object, or able to protect itself because its CPU can unpack.
    pub fn new(requested: bool) -> Self {
        Self { requested, state: State::Clear }
    }

    fn enter(&mut self, machine: &MachineFacts) -> Result<Effects, CgsError> {
        fit(machine)?;
        if machine.needs_discard {
            return Err(CgsError::Discard);
        }
        if machine.only_migratable {
            return Err(CgsError::OnlyMigratable(MIGRATION_BLOCKER));
        }
        self.state = State::Entering;
        let blind = machine.devices.iter().filter(|device| device.access_platform == Some(false));
        Ok(Effects {
            merging_off: true,
            discard: Some(false),
            warnings: blind
                .map(|device| {
                    format!(
                        "{} '{}' has iommu_platform=off: a protected guest refuses it",
                        device.driver, device.name
                    )
                })
                .collect(),
        })
    }
}

impl ConfidentialGuest for S390PvGuest {
    fn type_name(&self) -> &'static str {
        TYPE
    }

    fn requested(&self) -> bool {
        self.requested
    }

    fn check(&self, host: &HostFacts, machine: &MachineFacts) -> Result<(), CgsError> {
        if !self.requested {
            return Ok(());
        }
        if !host.ultravisor {
            return Err(CgsError::NoUltravisor);
        }
        if !host.prot_virt {
            return Err(CgsError::ProtVirtOff);
        }
        if !machine.unpack {
            return Err(CgsError::CpuModel);
        }
        // QEMU tells about huge pages only when the guest wants to enter; such a guest never could.
        fit(machine)
    }

    fn init(&mut self, machine: &MachineFacts) -> Result<Effects, CgsError> {
        let mut effects = Effects::default();
        if self.requested {
            effects.merging_off = true;
            if machine.only_migratable {
                effects.warnings.push(format!(
                    "with -only-migratable the guest cannot enter protected mode: {MIGRATION_BLOCKER}"
                ));
            }
        }
        Ok(effects)
    }

    fn on_boot_image(&mut self, image: &BootImage) -> Result<Effects, CgsError> {
        let mut effects = Effects::default();
        if image.protected {
            for (given, option, part) in [
                (image.initrd, "-initrd", "initial ramdisk"),
                (image.append, "-append", "kernel command line"),
            ] {
                if given {
                    effects.warnings.push(format!(
                        "{option} has no effect: the image is encrypted and carries its own {part}"
                    ));
                }
            }
        } else if self.requested {
            // It may still load and enter an encrypted image later.
            tracing::debug!("the boot image is not encrypted; the guest starts in the clear");
        }
        Ok(effects)
    }

    fn on_transition(&mut self, transition: Transition, machine: &MachineFacts) -> Result<Effects, CgsError> {
        match transition {
            Transition::Enter => self.enter(machine),
            Transition::Entered { secure } => {
                self.state = State::Protected { secure };
                Ok(Effects::default())
            }
            Transition::Leave => {
                let was_clear = self.state == State::Clear;
                self.state = State::Clear;
                Ok(Effects { discard: (!was_clear).then_some(true), ..Effects::default() })
            }
        }
    }

    fn on_reset(&mut self, kind: ResetKind) -> &'static [PlatformStep] {
        match (self.state, kind) {
            (State::Clear, ResetKind::Clear | ResetKind::Normal | ResetKind::External) => &[],
            (State::Entering | State::Protected { .. }, ResetKind::Clear | ResetKind::Normal) => {
                &[PlatformStep::UnshareAll, PlatformStep::PrepareReset]
            }
            (State::Entering | State::Protected { .. }, ResetKind::External) => &[PlatformStep::Disable],
        }
    }

    fn migration_blockers(&self) -> &'static [&'static str] {
        match self.state {
            State::Clear => &[],
            State::Entering | State::Protected { .. } => &[MIGRATION_BLOCKER],
        }
    }

    fn virtio_defaults(&self) -> &'static [VirtioDefault] {
        match self.requested {
            true => &[VirtioDefault { property: "iommu_platform", value: true }],
            false => &[],
        }
    }

    fn secure(&self) -> Option<bool> {
        match self.state {
            State::Clear | State::Entering => Some(false),
            State::Protected { secure } => secure,
        }
    }
}

/// Whether the run cannot go on after a command's failure: the guest's pages would stay in a state nobody knows.
pub fn failure_is_fatal(command: &PvCommand) -> bool {
    match command {
        PvCommand::Disable | PvCommand::PrepareReset | PvCommand::UnshareAll => true,
        PvCommand::Enable
        | PvCommand::SetSecParms { .. }
        | PvCommand::Unpack { .. }
        | PvCommand::Verify
        | PvCommand::DumpInfo
        | PvCommand::DumpInit
        | PvCommand::DumpConfigStorState { .. }
        | PvCommand::DumpCpu { .. }
        | PvCommand::DumpComplete
        | PvCommand::CpuReset { .. }
        | PvCommand::CpuSetState { .. } => false,
    }
}

/// What the user is told when the platform refuses a command: `rc` and `rrc` of the Ultravisor, `errno` of the call.
pub fn failure_text(command: &PvCommand, rc: u16, rrc: u16, errno: i32) -> String {
    let name = command.name();
    if let PvCommand::CpuReset { .. } | PvCommand::CpuSetState { .. } = command {
        // KVM has no PV command for these, so QEMU has no text either.
        return format!("{name} failed: rc {rc:x} rrc {rrc:x}");
    }
    let mut text = format!(
        "KVM PV command {} ({name}) failed: header rc {rc:x} rrc {rrc:x} IOCTL rc: {errno}",
        command.number()
    );
    if let Some(subcommand) = command.dump_number() {
        text.push_str(&format!("\nKVM DUMP command {subcommand} failed"));
    }
    if let PvCommand::SetSecParms { .. } = command {
        text.push_str("\nFailed to set secure execution parameters");
        if rc == RC_NO_KEY_SLOT {
            text.push_str("\nPlease check whether the image is correctly encrypted for this host");
        }
    }
    text
}

const TYPE: &str = "s390-pv-guest";

/// What holds for a start with the object and for entering, asked for or not.
fn fit(machine: &MachineFacts) -> Result<(), CgsError> {
    let most = max_cpus(machine.extended_length_sccb);
    if machine.max_cpus > most {
        return Err(CgsError::TooManyCpus(most));
    }
    if let Some(device) = machine.devices.iter().find(|device| device.pass_through) {
        return Err(CgsError::PassThrough { name: device.name.clone(), driver: device.driver.clone() });
    }
    match machine.huge_pages {
        Some(size) => Err(CgsError::HugePages { size }),
        None => Ok(()),
    }
}
