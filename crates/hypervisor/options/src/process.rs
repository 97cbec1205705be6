//! What the command line says about the process around the guest: inherited descriptors, the ends of a run, the
//! sandbox, the picture of memory.
//!
//! Plain data: nothing is opened, forked or locked here.

use std::path::PathBuf;

/// `-add-fd`: an inherited descriptor, duplicated into a set that `/dev/fdset/SET` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddFd {
    /// The descriptor; never a standard stream.
    pub fd: i32,
    /// The set.
    pub set: u32,
    /// What `query-fdsets` shows about it.
    pub opaque: Option<String>,
}

/// `-action`, with `-no-reboot`, `-no-shutdown` and `-watchdog-action`, which are short for parts of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Actions {
    /// The guest reboots.
    pub reboot: RebootAction,
    /// The guest powers off.
    pub shutdown: ShutdownAction,
    /// The guest gives up.
    pub panic: PanicAction,
    /// A watchdog of the guest expires.
    pub watchdog: WatchdogAction,
}

/// What a reboot of the guest does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RebootAction {
    /// Reset the machine.
    #[default]
    Reset,
    /// Power it off.
    Shutdown,
}

/// What a power-off of the guest does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ShutdownAction {
    /// End the program.
    #[default]
    PowerOff,
    /// Stop the guest and keep the program, for a monitor to look at it.
    Pause,
}

/// What the guest's panic does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PanicAction {
    /// Power off.
    #[default]
    Shutdown,
    /// Stop the guest and keep the program.
    Pause,
    /// End the program with a status that says so.
    ExitFailure,
    /// Nothing.
    None,
}

/// What a watchdog does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are QEMU's")]
pub enum WatchdogAction {
    #[default]
    Reset,
    Shutdown,
    PowerOff,
    Pause,
    Debug,
    None,
    InjectNmi,
}

impl WatchdogAction {
    /// All of them, by name.
    pub const NAMES: &[&str] = &["reset", "shutdown", "poweroff", "pause", "debug", "none", "inject-nmi"];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Shutdown => "shutdown",
            Self::PowerOff => "poweroff",
            Self::Pause => "pause",
            Self::Debug => "debug",
            Self::None => "none",
            Self::InjectNmi => "inject-nmi",
        }
    }

    /// The action with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "reset" => Self::Reset,
            "shutdown" => Self::Shutdown,
            "poweroff" => Self::PowerOff,
            "pause" => Self::Pause,
            "debug" => Self::Debug,
            "none" => Self::None,
            "inject-nmi" => Self::InjectNmi,
            _ => return None,
        })
    }
}

/// `-sandbox`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// `on` or `off`.
    pub enabled: bool,
    /// `obsolete=allow`: system calls that nothing needs any more.
    pub allow_obsolete: bool,
    /// `elevateprivileges=`.
    pub privileges: Privileges,
    /// `spawn=allow`: making processes.
    pub allow_spawn: bool,
    /// `resourcecontrol=allow`: changing priorities and affinities.
    pub allow_resource_control: bool,
}

/// Who may gain privileges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privileges {
    /// Whoever the kernel lets.
    Allow,
    /// Nobody.
    Deny,
    /// Only programs that this one starts.
    Children,
}

/// `-memory-map`: a picture of who owns each page, written at the end of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryMap {
    /// Where to.
    pub path: PathBuf,
    /// Its format, by the end of the name.
    pub format: PictureFormat,
}

/// The format of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum PictureFormat {
    Svg,
    Png,
}
