//! What a machine asks a mechanism, and the facts that it tells it.
//!
//! Plain data in both directions: a mechanism reaches neither devices nor the platform by itself.

use std::fmt;

use cloister_options::DeviceSpec;

use crate::error::CgsError;
use crate::launch::HostLaunch;

/// A mechanism that protects one guest from its host.
///
/// The machine calls it at fixed points and knows nothing else about it. In the order of a run: [`check`], [`init`],
/// [`on_boot_image`], [`on_first_run`], then [`on_transition`] and [`on_reset`] as the guest asks for them.
///
/// [`check`]: Self::check
/// [`init`]: Self::init
/// [`on_boot_image`]: Self::on_boot_image
/// [`on_first_run`]: Self::on_first_run
/// [`on_transition`]: Self::on_transition
/// [`on_reset`]: Self::on_reset
pub trait ConfidentialGuest: fmt::Debug + Send {
    /// The object type, as in `-object TYPE`.
    fn type_name(&self) -> &'static str;

    /// Whether the user asked for it; otherwise the guest may still use it on its own.
    fn requested(&self) -> bool;

    /// Whether this machine on this platform can be protected. A refusal ends the start.
    fn check(&self, host: &HostFacts, machine: &MachineFacts) -> Result<(), CgsError>;

    /// Once CPUs and memory exist: what the machine must change from the start.
    fn init(&mut self, machine: &MachineFacts) -> Result<Effects, CgsError>;

    /// The boot image is known. Mechanisms that measure it do so here.
    fn on_boot_image(&mut self, image: &BootImage) -> Result<Effects, CgsError>;

    /// Before the first instruction of the guest.
    fn on_first_run(&mut self) -> Result<(), CgsError> {
        Ok(())
    }

    /// The guest changes between clear and protected while it runs.
    fn on_transition(&mut self, transition: Transition, machine: &MachineFacts) -> Result<Effects, CgsError>;

    /// What the platform must be asked, in order, when the guest or the user resets the machine.
    fn on_reset(&mut self, kind: ResetKind) -> &'static [PlatformStep];

    /// Why the guest cannot be migrated now; empty if it can.
    fn migration_blockers(&self) -> &'static [&'static str];

    /// Properties of virtio devices that are on unless the user says otherwise.
    fn virtio_defaults(&self) -> &'static [VirtioDefault];

    /// Monitor commands that exist with this mechanism only.
    fn monitor_commands(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether the guest is protected, as far as a platform that knows has said so.
    fn secure(&self) -> Option<bool>;

    /// The launch by the host, for mechanisms that have one.
    fn host_launch(&mut self) -> Option<&mut dyn HostLaunch> {
        None
    }
}

/// What the platform can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// It has an Ultravisor.
    pub ultravisor: bool,
    /// The Ultravisor was switched on when the host booted (`prot_virt=1`).
    pub prot_virt: bool,
}

/// What the machine looks like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MachineFacts {
    /// CPUs, those added later included.
    pub max_cpus: u32,
    /// The CPU model has the unpack facility (facility 161).
    pub unpack: bool,
    /// The CPU model has the extended-length SCCB facility (facility 140).
    pub extended_length_sccb: bool,
    /// Its devices.
    pub devices: Vec<DeviceFacts>,
    /// The size of the host's huge pages behind the guest's memory, if there are some.
    pub huge_pages: Option<u64>,
    /// Something relies on memory being given back to the host and cannot stop (a balloon may, virtio-mem not).
    pub needs_discard: bool,
    /// `-only-migratable`.
    pub only_migratable: bool,
}

/// What a mechanism must know about a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceFacts {
    /// The device type.
    pub driver: String,
    /// Its id or another name for messages.
    pub name: String,
    /// It hands the guest a device of the host.
    pub pass_through: bool,
    /// For virtio devices: whether it offers VIRTIO_F_ACCESS_PLATFORM (virtio 1.2, 6).
    pub access_platform: Option<bool>,
}

impl DeviceFacts {
    /// The facts of a device from the command line, with the virtio defaults of the guest's mechanism, if it has one.
    pub fn new(spec: &DeviceSpec, guest: Option<&dyn ConfidentialGuest>) -> Self {
        let default = guest
            .into_iter()
            .flat_map(ConfidentialGuest::virtio_defaults)
            .any(|default| default.property == "iommu_platform" && default.value);
        Self {
            driver: spec.driver.clone(),
            name: spec.id.clone().unwrap_or_else(|| spec.driver.clone()),
            pass_through: spec.pass_through,
            access_platform: spec
                .driver
                .starts_with("virtio-")
                .then(|| spec.properties.bool("iommu_platform").unwrap_or(default)),
        }
    }
}

/// What the user boots with `-kernel`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BootImage {
    /// It is encrypted for this mechanism.
    pub protected: bool,
    /// `-initrd` was given.
    pub initrd: bool,
    /// `-append` was given.
    pub append: bool,
}

/// A change between clear and protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// The guest asks to enter; nothing has happened yet. A refusal is the guest's answer.
    Enter,
    /// The platform let it in, and says whether the guest is protected if it knows.
    Entered {
        /// What the platform says.
        secure: Option<bool>,
    },
    /// It is clear again, or never got in.
    Leave,
}

/// A kind of reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetKind {
    /// All CPUs cleared (DIAG 308 subcode 0).
    Clear,
    /// CPUs reset without clearing (DIAG 308 subcode 1).
    Normal,
    /// By the user, or a re-IPL: the guest starts anew.
    External,
}

/// Something to ask of the platform during a reset. Devices and CPUs are reset by the machine around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlatformStep {
    /// After the subsystem reset, with all CPUs stopped: withdraw all sharing.
    UnshareAll,
    /// Then, before any CPU is reset.
    PrepareReset,
    /// After the subsystem reset: give up the protected configuration.
    Disable,
}

/// A property that virtio devices have unless the user says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtioDefault {
    /// Its name.
    pub property: &'static str,
    /// Its value.
    pub value: bool,
}

/// What the machine must do after a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Never merge the guest's memory with others' from now on.
    pub merging_off: bool,
    /// Whether memory may be given back to the host, if that changes.
    pub discard: Option<bool>,
    /// What the user is told, each a line after `warning: `.
    pub warnings: Vec<String>,
}
