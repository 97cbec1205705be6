//! The parsed command line: plain data, every form checked, every reference among options resolved.
//!
//! Files were not opened and devices not made; what only a machine or a platform can refuse is still to come.

use std::path::PathBuf;

use crate::blockdev::{BlockNode, DetectZeroes};
use crate::chardev::{CharBackend, Chardev};
use crate::error::{Location, Problem, Warning};
use crate::inject::Injection;
use crate::invocation::Target;
use crate::netdev::Netdev;
use crate::process::{Actions, AddFd, MemoryMap, Sandbox};
use crate::schema::Properties;

/// A virtual machine as the user wants it.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandLine {
    /// The program's name for messages.
    pub program: String,
    /// The architecture.
    pub target: Target,
    /// `-machine`.
    pub machine: MachineOptions,
    /// `-accel` and `-machine accel=`, in order of preference; empty means the default.
    pub accel: Vec<AccelSpec>,
    /// `-cpu`; without it the machine's default holds.
    pub cpu: Option<CpuSpec>,
    /// `-m` and `-mem-path`.
    pub memory: MemoryOptions,
    /// `-smp`.
    pub smp: Smp,
    /// `-kernel`.
    pub kernel: Option<PathBuf>,
    /// `-initrd`.
    pub initrd: Option<PathBuf>,
    /// `-append`.
    pub append: Option<String>,
    /// `-bios`.
    pub bios: Option<PathBuf>,
    /// `-L`, in order.
    pub firmware_folders: Vec<PathBuf>,
    /// `-object`, in order.
    pub objects: Vec<ObjectSpec>,
    /// `-device`, in order.
    pub devices: Vec<DeviceSpec>,
    /// `-drive` and disk images, in order.
    pub drives: Vec<Drive>,
    /// The nodes of `-blockdev` in order, then those of drives; whoever is named stands before.
    pub block_nodes: Vec<BlockNode>,
    /// `-netdev`, and what `-nic` and `-net` make, in order.
    pub netdevs: Vec<Netdev>,
    /// `-serial`, in order, as given.
    pub serials: Vec<CharBackend>,
    /// `-chardev`, in order.
    pub chardevs: Vec<Chardev>,
    /// `-mon`, `-monitor` and `-qmp`, in order; `-monitor none` leaves an entry with no backend.
    pub monitors: Vec<Monitor>,
    /// `-display` and `-nographic`.
    pub display: Display,
    /// `-nodefaults`.
    pub no_defaults: bool,
    /// `-no-user-config`.
    pub no_user_config: bool,
    /// Whether [`Actions::reboot`] is to power off: `-no-reboot`.
    pub no_reboot: bool,
    /// Whether [`Actions::shutdown`] is to pause: `-no-shutdown`.
    pub no_shutdown: bool,
    /// `-action` and the options that are short for parts of it.
    pub actions: Actions,
    /// `-daemonize`: go on in the background, without the standard streams.
    pub daemonize: bool,
    /// `-pidfile`.
    pub pid_file: Option<PathBuf>,
    /// `-add-fd`, in order.
    pub fd_sets: Vec<AddFd>,
    /// `-gdb` or `-s`: where to wait for a debugger; never [`CharBackend::None`].
    pub gdb: Option<CharBackend>,
    /// `-sandbox`, if it was given.
    pub sandbox: Option<Sandbox>,
    /// `-memory-map`.
    pub memory_map: Option<MemoryMap>,
    /// `-S`: wait for the monitor before the first instruction.
    pub stopped: bool,
    /// `-only-migratable`: refuse what cannot be migrated.
    pub only_migratable: bool,
    /// `-name guest=`.
    pub name: Option<String>,
    /// `-name process=`.
    pub process_name: Option<String>,
    /// `-name debug-threads=`.
    pub debug_threads: bool,
    /// `-uuid`.
    pub uuid: Option<[u8; 16]>,
    /// `-rtc`.
    pub rtc: Rtc,
    /// `-boot`.
    pub boot: Boot,
    /// `-icount`: time by counted instructions.
    pub icount: Option<Icount>,
    /// `-seed`: reproducible entropy.
    pub seed: Option<u64>,
    /// `-inject`: faults of the modelled firmware.
    pub injections: Vec<Injection>,
    /// `-platform`: the folder of the model platform.
    pub platform: Option<PathBuf>,
    /// `-msg timestamp=`.
    pub message_timestamps: bool,
    /// `-msg guest-name=`.
    pub message_guest_name: bool,
    /// `-d`, `-D`, `-trace`.
    pub log: LogOptions,
    /// What the user should hear before the start.
    pub warnings: Vec<Warning>,
}

impl CommandLine {
    /// The object with this id.
    pub fn object(&self, id: &str) -> Option<&ObjectSpec> {
        self.objects.iter().find(|object| object.id == id)
    }

    /// The drive with this id.
    pub fn drive(&self, id: &str) -> Option<&Drive> {
        self.drives.iter().find(|drive| drive.id.as_deref() == Some(id))
    }

    /// The console: what was asked for, or else the terminal with `-nographic`, or else nothing.
    pub fn console(&self) -> CharBackend {
        match self.named_console() {
            CharBackend::Chardev(id) => self
                .chardevs
                .iter()
                .find(|chardev| chardev.id == id)
                .map_or(CharBackend::None, |chardev| chardev.backend.clone()),
            backend => backend,
        }
    }

    /// The same as it was named: a `-chardev` by its id. It may come from `-serial` or from a device.
    pub fn named_console(&self) -> CharBackend {
        match self.serials.first() {
            Some(backend) if *backend != CharBackend::None => backend.clone(),
            None if self.has_default_console() => {
                CharBackend::Stdio { with_monitor: self.monitors.is_empty() }
            }
            _ => self.console_device("sclpconsole"),
        }
    }

    /// The console that takes whole lines, which is a device.
    pub fn line_console(&self) -> CharBackend {
        self.console_device("sclplmconsole")
    }

    /// Where a console that is a device writes; without a chardev nobody reads it.
    fn console_device(&self, driver: &str) -> CharBackend {
        let device = self.devices.iter().find(|device| device.driver == driver);
        device.map_or(CharBackend::None, |device| match device.properties.text("chardev") {
            Some(id) => CharBackend::Chardev(id.to_owned()),
            None => CharBackend::Null,
        })
    }

    /// The monitors: those asked for and, with `-nographic` or `mon:stdio`, the one on this terminal. One whose
    /// backend has `with_monitor` shares the terminal with a console.
    pub fn all_monitors(&self) -> Vec<Monitor> {
        let on_terminal = |with_monitor| Monitor {
            mode: MonitorMode::Readline,
            backend: CharBackend::Stdio { with_monitor },
            pretty: false,
        };
        let asked = self.monitors.iter().filter(|monitor| monitor.backend != CharBackend::None);
        let mut out: Vec<_> = asked.cloned().collect();
        if self.serials.contains(&CharBackend::Stdio { with_monitor: true }) {
            out.push(on_terminal(true));
        } else if self.monitors.is_empty() && self.display == Display::Nographic && !self.no_defaults {
            out.push(on_terminal(self.has_default_console()));
        }
        out
    }

    fn has_default_console(&self) -> bool {
        self.serials.is_empty()
            && self.display == Display::Nographic
            && !self.no_defaults
            && self.machine.name != "none"
    }
}

/// `-machine`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MachineOptions {
    /// The full, versioned name of the machine type.
    pub name: String,
    /// `confidential-guest-support=` or its old name.
    pub confidential_guest: Option<ConfidentialGuestRef>,
    /// `loadparm=` in capitals.
    pub loadparm: Option<String>,
    /// `memory-backend=`: the id of an object that exists.
    pub memory_backend: Option<String>,
    /// `aes-key-wrap=`.
    pub aes_key_wrap: bool,
    /// `dea-key-wrap=`.
    pub dea_key_wrap: bool,
    /// `mem-merge=`.
    pub mem_merge: bool,
    /// `dump-guest-core=`.
    pub dump_guest_core: bool,
    /// Every property as given.
    pub properties: Properties,
}

/// A reference to the object that protects the guest. Whether it exists is checked by the one who knows the
/// mechanisms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfidentialGuestRef {
    /// The object's id.
    pub id: String,
    /// Whether it was given as `memory-encryption=`, whose messages differ.
    pub legacy: bool,
}

/// One accelerator.
#[derive(Clone, Debug, PartialEq)]
pub struct AccelSpec {
    /// Its name: `soft`, `tcg` (the same) or another of the catalogue.
    pub name: String,
    /// `thread=multi|single`.
    pub multi_threaded: Option<bool>,
    /// Every property as given.
    pub properties: Properties,
}

impl AccelSpec {
    pub(crate) fn named(name: &str) -> Self {
        Self { name: name.to_owned(), multi_threaded: None, properties: Properties::default() }
    }
}

/// `-cpu`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuSpec {
    /// The model's name.
    pub model: String,
    /// Features with what they are set to, in order; later ones win.
    pub features: Vec<(String, bool)>,
}

impl CpuSpec {
    /// What a feature was set to, if it was.
    pub fn feature(&self, name: &str) -> Option<bool> {
        self.features.iter().rev().find(|(feature, _)| feature == name).map(|(_, on)| *on)
    }
}

/// `-m`, `-mem-path` and `-mem-prealloc`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryOptions {
    /// Bytes at the start, a multiple of 1 MiB; without it the machine's default holds.
    pub size: Option<u64>,
    /// Bytes with those added later.
    pub max_size: Option<u64>,
    /// Slots for memory added later.
    pub slots: u64,
    /// File or folder that backs the memory.
    pub path: Option<PathBuf>,
    /// Take all of it before the start.
    pub preallocate: bool,
}

/// `-smp`, with everything filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Smp {
    pub cpus: u32,
    pub max_cpus: u32,
    pub sockets: u32,
    pub cores: u32,
    pub threads: u32,
}

/// `-object`.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectSpec {
    /// The type, which this target has.
    pub qom_type: String,
    /// The id, unique among objects.
    pub id: String,
    /// Checked properties.
    pub properties: Properties,
    /// Where it was given.
    pub location: Location,
}

/// `-device`.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceSpec {
    /// The full name of the device type, never an alias.
    pub driver: String,
    /// The id, unique among devices.
    pub id: Option<String>,
    /// The bus that it asks for, by name.
    pub bus: Option<String>,
    /// Checked properties; `drive` and `rng` name what exists.
    pub properties: Properties,
    /// Whether it hands the guest a device of the host.
    pub pass_through: bool,
    /// Where it was given.
    pub location: Location,
}

impl DeviceSpec {
    /// Whether it is a console of the SCLP, which stays for as long as the machine.
    pub fn is_console(&self) -> bool {
        matches!(self.driver.as_str(), "sclpconsole" | "sclplmconsole")
    }

    /// Whether it is a port of a virtio-serial device.
    pub fn is_port(&self) -> bool {
        matches!(self.driver.as_str(), "virtconsole" | "virtserialport")
    }

    /// Whether it is the watchdog, which sits on no bus and stays for as long as the machine.
    pub fn is_watchdog(&self) -> bool {
        self.driver == "diag288"
    }

    /// The controller among `devices` whose bus a port goes to, and the name of that bus.
    ///
    /// # Errors
    /// There is none, in QEMU's words.
    pub fn controller<'a>(&self, devices: &'a [Self]) -> Result<(&'a Self, String), Problem> {
        let mut nameless = 0;
        let mut found = None;
        for device in devices.iter().filter(|device| device.driver == "virtio-serial-ccw") {
            let name = match &device.id {
                Some(id) => format!("{id}.0"),
                None => {
                    nameless += 1;
                    format!("virtio-serial-bus.{}", nameless - 1)
                }
            };
            // Without a name the bus that was made last is taken.
            if self.bus.as_ref().is_none_or(|wanted| *wanted == name) {
                found = Some((device, name));
            }
        }
        found.ok_or_else(|| match &self.bus {
            Some(bus) => Problem::BusNotFound(bus.clone()),
            None => Problem::NoBus { driver: self.driver.clone(), bus: "virtio-serial-bus" },
        })
    }
}

/// `-drive`, or a disk image as a word of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Drive {
    /// The id.
    pub id: Option<String>,
    /// The image; without one the drive is empty.
    pub file: Option<PathBuf>,
    /// Whether a device is made for it.
    pub interface: DriveInterface,
    /// The format; without one the image's first bytes decide.
    pub format: Option<DriveFormat>,
    /// `media=`.
    pub media: DriveMedia,
    /// Never write to the image.
    pub read_only: bool,
    /// Keep what is written apart and throw it away at the end.
    pub snapshot: bool,
    /// `cache=`.
    pub cache: Option<String>,
    /// Place among the drives of its interface.
    pub index: Option<u32>,
    /// `node-name=`.
    pub node_name: Option<String>,
    /// `discard=unmap`: pass on what the guest discards.
    pub discard: bool,
    /// `detect-zeroes=`.
    pub detect_zeroes: DetectZeroes,
    /// `werror=`.
    pub write_error: Option<ErrorAction>,
    /// `rerror=`.
    pub read_error: Option<ErrorAction>,
    /// The node at its root; an empty drive has none.
    pub node: Option<String>,
    /// Where it was given.
    pub location: Location,
}

impl Drive {
    /// Whether the guest is told of a write cache: `cache=` other than `writethrough` and `directsync`.
    pub fn write_cache(&self) -> bool {
        !matches!(self.cache.as_deref(), Some("writethrough" | "directsync"))
    }
}

/// What follows an error of the host's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorAction {
    /// Tell the guest.
    Report,
    /// Tell the guest that all is well.
    Ignore,
    /// Stop the machine, and try again when it goes on.
    Stop,
    /// Stop if the host's disk is full, else tell the guest.
    Enospc,
}

impl ErrorAction {
    /// The action with this name; `auto` is none.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "report" => Some(Self::Report),
            "ignore" => Some(Self::Ignore),
            "stop" => Some(Self::Stop),
            "enospc" => Some(Self::Enospc),
            _ => None,
        }
    }
}

/// How a drive reaches the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriveInterface {
    /// A virtio disk is made for it.
    Virtio,
    /// A `-device` names it.
    None,
    /// It is firmware flash: unit 0 has the code, unit 1 its variables.
    Pflash,
}

/// The format of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriveFormat {
    /// The disk's bytes.
    Raw,
    /// QEMU's copy-on-write format.
    Qcow2,
}

/// Disk or CD-ROM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriveMedia {
    /// A disk.
    Disk,
    /// A read-only disk.
    Cdrom,
}

/// A monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Monitor {
    /// The language spoken.
    pub mode: MonitorMode,
    /// Where.
    pub backend: CharBackend,
    /// Indent QMP.
    pub pretty: bool,
}

/// The language of a monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MonitorMode {
    /// For people.
    Readline,
    /// QMP.
    Control,
}

/// `-display` and `-nographic`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Display {
    /// Nothing was said; there is no graphics to show.
    #[default]
    Default,
    /// `-display none`.
    None,
    /// `-nographic`: as none, and the console is the terminal.
    Nographic,
}

/// `-rtc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rtc {
    /// `base=`.
    pub base: RtcBase,
    /// `clock=`.
    pub clock: RtcClock,
}

/// What the clock shows at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RtcBase {
    /// Now, universal time.
    Utc,
    /// Now, local time.
    LocalTime,
    /// These seconds after 1970-01-01T00:00:00 universal time.
    Seconds(i64),
}

/// What makes the clock go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RtcClock {
    /// The host's wall clock.
    Host,
    /// The host's steady clock.
    Rt,
    /// The guest's own time.
    Vm,
}

/// `-boot`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Boot {
    /// Drives in order.
    pub order: Option<String>,
    /// Drives in order for the first boot only.
    pub once: Option<String>,
    /// Show a menu.
    pub menu: Option<bool>,
    /// Milliseconds until the menu goes on by itself.
    pub splash_time: Option<u64>,
    /// Boot only from devices with a boot index.
    pub strict: bool,
}

/// `-icount`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Icount {
    /// Length of an instruction.
    pub shift: IcountShift,
    /// Let real time pass while the guest waits.
    pub sleep: bool,
    /// Hold the guest's time back to the host's.
    pub align: bool,
}

/// The length of an instruction in guest time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcountShift {
    /// Follows the host: not reproducible.
    Auto,
    /// 2^N nanoseconds, N at most 10.
    Fixed(u8),
}

/// `-d`, `-D`, `-trace`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// `-d`, one item each.
    pub items: Vec<String>,
    /// `-D`.
    pub file: Option<PathBuf>,
    /// `-trace enable=` and `-d trace:`: patterns of event names, one each.
    pub trace: Vec<String>,
    /// `-trace events=`: a file with such patterns.
    pub trace_events: Option<PathBuf>,
    /// `-trace file=`: where to write the events.
    pub trace_file: Option<PathBuf>,
}
