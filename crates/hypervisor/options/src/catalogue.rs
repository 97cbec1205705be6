//! Everything that a command line can name, for one target: machines, CPU models, objects, devices, accelerators.
//!
//! The catalogue knows names and properties. It makes nothing.

use crate::invocation::Target;
use crate::schema::Key;
use crate::tables;

/// A machine type.
#[derive(Clone, Debug)]
pub struct MachineType {
    /// Its full name.
    pub name: String,
    /// A shorter name for the newest version.
    pub alias: Option<&'static str>,
    /// Whether it is meant when none is named.
    pub is_default: bool,
    /// The target it belongs to; `None` is for a machine without CPUs.
    pub target: Option<Target>,
    /// One line for `-machine help`.
    pub description: String,
    /// Its properties.
    pub keys: &'static [Key],
    /// What the parser must know to check other options.
    pub capabilities: MachineCapabilities,
}

impl MachineType {
    pub(crate) fn class(&self) -> String {
        format!("{}-machine", self.name)
    }
}

/// Limits of a machine type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineCapabilities {
    /// Most CPUs.
    pub max_cpus: u32,
    /// CPUs that the user did not place become sockets, not cores.
    pub prefer_sockets: bool,
    /// Whether it has CPUs at all.
    pub has_cpus: bool,
    /// Whether a core may have several threads.
    pub has_threads: bool,
}

/// A CPU model.
#[derive(Clone, Debug)]
pub struct CpuModel {
    /// The name for `-cpu`.
    pub name: String,
    /// The machine it stands for.
    pub description: String,
    /// Whether its features never change.
    pub is_static: bool,
}

impl CpuModel {
    pub(crate) fn new(name: &str, description: &str, is_static: bool) -> Self {
        Self { name: name.to_owned(), description: description.to_owned(), is_static }
    }
}

/// What an object is for, so that references to it can be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectRole {
    /// Guest memory.
    MemoryBackend,
    /// A source of random bytes.
    Rng,
    /// A password or a key.
    Secret,
    /// A mechanism for confidential guests.
    ConfidentialGuest,
    /// Anything else.
    Other,
}

/// An object type.
#[derive(Clone, Debug)]
pub struct ObjectType {
    /// The name for `-object`.
    pub name: &'static str,
    /// The targets that have it; `None` means all. Elsewhere it is an "invalid object type".
    pub targets: Option<&'static [Target]>,
    /// What it is for.
    pub role: ObjectRole,
    /// Its properties besides `id`.
    pub keys: &'static [Key],
    /// One line for the user.
    pub doc: &'static str,
}

impl ObjectType {
    /// Whether a target has this type.
    pub fn is_for(&self, target: Target) -> bool {
        self.targets.is_none_or(|targets| targets.contains(&target))
    }
}

/// A device type.
#[derive(Clone, Debug)]
pub struct DeviceType {
    /// The name for `-device`.
    pub name: &'static str,
    /// A shorter name.
    pub alias: Option<&'static str>,
    /// The device behind the transport, which some messages name.
    pub inner: &'static str,
    /// The heading in `-device help`.
    pub class: &'static str,
    /// The kind of bus it sits on.
    pub bus: &'static str,
    /// Its properties besides `id` and `bus`.
    pub keys: &'static [Key],
    /// A few words for `-device help`.
    pub doc: &'static str,
    /// Whether it hands the guest a device of the host.
    pub pass_through: bool,
}

/// Everything that can be named for one target.
#[derive(Clone, Debug)]
pub struct Catalogue {
    target: Target,
    machines: Vec<MachineType>,
    cpus: Vec<CpuModel>,
    objects: Vec<ObjectType>,
    devices: Vec<DeviceType>,
    accelerators: Vec<&'static str>,
}

impl Catalogue {
    /// The catalogue of a target, without the objects of confidential-guest mechanisms.
    pub fn new(target: Target) -> Self {
        let cpus = match target {
            Target::S390x => tables::cpus::models(),
            Target::X86_64 => tables::cpus_x86::models(),
            Target::Ppc64 => Vec::new(),
        };
        let devices = match target {
            Target::S390x => tables::devices::devices(),
            Target::X86_64 | Target::Ppc64 => Vec::new(),
        };
        Self {
            target,
            machines: tables::machines::machines(target),
            cpus,
            objects: tables::objects::objects(),
            devices,
            // "tcg" is what managers write for "no hardware".
            accelerators: vec!["soft", "tcg"],
        }
    }

    /// Add object types, those of other targets included: they are known and refused.
    pub fn add_objects(&mut self, objects: impl IntoIterator<Item = ObjectType>) {
        self.objects.extend(objects);
        self.objects.sort_by_key(|object| object.name);
    }

    /// Add an accelerator that this build has.
    pub fn add_accelerator(&mut self, name: &'static str) {
        self.accelerators.push(name);
    }

    /// The target.
    pub fn target(&self) -> Target {
        self.target
    }

    /// All machine types.
    pub fn machines(&self) -> &[MachineType] {
        &self.machines
    }

    /// All CPU models.
    pub fn cpus(&self) -> &[CpuModel] {
        &self.cpus
    }

    /// The object types of this target.
    pub fn objects(&self) -> impl Iterator<Item = &ObjectType> {
        self.objects.iter().filter(|object| object.is_for(self.target))
    }

    /// All devices.
    pub fn devices(&self) -> &[DeviceType] {
        &self.devices
    }

    /// The accelerators of this build.
    pub fn accelerators(&self) -> &[&'static str] {
        &self.accelerators
    }

    /// A machine type by name or alias.
    pub fn machine(&self, name: &str) -> Option<&MachineType> {
        self.machines.iter().find(|machine| machine.name == name || machine.alias == Some(name))
    }

    /// An object type by name, those of other targets included.
    pub fn object(&self, name: &str) -> Option<&ObjectType> {
        self.objects.iter().find(|object| object.name == name)
    }

    /// A device by name or alias.
    pub fn device(&self, name: &str) -> Option<&DeviceType> {
        self.devices.iter().find(|device| device.name == name || device.alias == Some(name))
    }

    pub(crate) fn default_machine(&self) -> Option<&MachineType> {
        self.machines.iter().find(|machine| machine.is_default)
    }
}
