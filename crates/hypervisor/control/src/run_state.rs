//! What a machine is doing, and why it ended or was reset, by QMP's names.

use serde::{Deserialize, Serialize};

/// What a machine is doing (`RunState`, QEMU QMP Reference Manual, "VM run state").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// Made, and started with `-S`.
    Prelaunch,
    /// Waits for an incoming migration.
    #[serde(rename = "inmigrate")]
    InMigrate,
    /// CPUs run.
    Running,
    /// Stopped by an operator.
    Paused,
    /// Stopped by a debugger.
    Debug,
    /// The guest powered itself off and the process stays (`-no-shutdown`).
    Shutdown,
    /// The guest crashed and the process stays (`-action panic=pause`).
    GuestPanicked,
    /// A disk of the host failed, and the machine was to stop then (`werror=stop`).
    #[serde(rename = "io-error")]
    IoError,
    /// The guest's watchdog expired (`-action watchdog=pause`).
    Watchdog,
    /// The platform failed.
    InternalError,
    /// Migrated away.
    #[serde(rename = "postmigrate")]
    PostMigrate,
    /// The last phase of a migration.
    FinishMigrate,
    /// Its state is being saved: it goes on by itself.
    #[serde(rename = "save-vm")]
    SaveVm,
}

impl RunState {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Prelaunch,
        Self::InMigrate,
        Self::Running,
        Self::Paused,
        Self::Debug,
        Self::Shutdown,
        Self::GuestPanicked,
        Self::IoError,
        Self::Watchdog,
        Self::InternalError,
        Self::PostMigrate,
        Self::FinishMigrate,
        Self::SaveVm,
    ];

    /// As in the protocol.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prelaunch => "prelaunch",
            Self::InMigrate => "inmigrate",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Debug => "debug",
            Self::Shutdown => "shutdown",
            Self::GuestPanicked => "guest-panicked",
            Self::IoError => "io-error",
            Self::Watchdog => "watchdog",
            Self::InternalError => "internal-error",
            Self::PostMigrate => "postmigrate",
            Self::FinishMigrate => "finish-migrate",
            Self::SaveVm => "save-vm",
        }
    }

    /// Whether CPUs run.
    pub fn is_running(self) -> bool {
        self == Self::Running
    }

    /// Whether only a reset lets it go on.
    pub fn needs_reset(self) -> bool {
        matches!(self, Self::Shutdown | Self::InternalError)
    }
}

/// Why a machine ended or was reset (`ShutdownCause`, QEMU QMP Reference Manual).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The platform failed.
    HostError,
    /// `quit`.
    HostQmpQuit,
    /// `system_reset`.
    HostQmpSystemReset,
    /// SIGINT, SIGTERM or SIGHUP.
    HostSignal,
    /// The terminal's Ctrl-a x.
    HostUi,
    /// The guest powered itself off.
    GuestShutdown,
    /// The guest reset itself.
    GuestReset,
    /// The guest crashed.
    GuestPanic,
    /// The guest reset its devices.
    SubsystemReset,
}

impl Cause {
    /// As in the protocol.
    pub fn name(self) -> &'static str {
        match self {
            Self::HostError => "host-error",
            Self::HostQmpQuit => "host-qmp-quit",
            Self::HostQmpSystemReset => "host-qmp-system-reset",
            Self::HostSignal => "host-signal",
            Self::HostUi => "host-ui",
            Self::GuestShutdown => "guest-shutdown",
            Self::GuestReset => "guest-reset",
            Self::GuestPanic => "guest-panic",
            Self::SubsystemReset => "subsystem-reset",
        }
    }

    /// Whether the guest did it.
    pub fn by_guest(self) -> bool {
        matches!(self, Self::GuestShutdown | Self::GuestReset | Self::GuestPanic | Self::SubsystemReset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_serialised_names() {
        for state in RunState::ALL {
            assert_eq!(serde_json::json!(state), state.name());
        }
        for cause in [Cause::HostError, Cause::HostQmpSystemReset, Cause::HostUi, Cause::SubsystemReset] {
            assert_eq!(serde_json::json!(cause), cause.name());
        }
    }
}
