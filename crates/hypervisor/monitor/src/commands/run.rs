//! What the machine does: status, stop, cont, reset, power, end.

use crate::call::Call;
use crate::table::{Command, Reply};
use crate::types::{Enum, Struct, Type, Union, member};
use cloister_control::{Cause, ControlError};
use serde_json::json;

const RUN_STATE: Enum = Enum {
    name: "RunState",
    values: &[
        "debug",
        "inmigrate",
        "internal-error",
        "io-error",
        "paused",
        "postmigrate",
        "prelaunch",
        "finish-migrate",
        "restore-vm",
        "running",
        "save-vm",
        "shutdown",
        "suspended",
        "watchdog",
        "guest-panicked",
        "colo",
    ],
};

const STATUS: Struct = Struct::new(
    "StatusInfo",
    &[
        member("running", Type::Bool),
        member("singlestep", Type::Bool),
        member("status", Type::Enum(&RUN_STATE)),
    ],
);

pub(crate) const SHUTDOWN_CAUSE: Enum = Enum {
    name: "ShutdownCause",
    values: &[
        "none",
        "host-error",
        "host-qmp-quit",
        "host-qmp-system-reset",
        "host-signal",
        "host-ui",
        "guest-shutdown",
        "guest-reset",
        "guest-panic",
        "subsystem-reset",
        "snapshot-load",
    ],
};

pub(crate) const PANIC_ACTION: Enum =
    Enum { name: "GuestPanicAction", values: &["pause", "poweroff", "run"] };

const PANIC_TYPE: Enum = Enum { name: "GuestPanicInformationType", values: &["s390"] };

const CRASH_REASON: Enum = Enum {
    name: "S390CrashReason",
    values: &["unknown", "disabled-wait", "extint-loop", "pgmint-loop", "opint-loop"],
};

const PANIC_S390: Struct = Struct::new(
    "GuestPanicInformationS390",
    &[
        member("core", Type::Unsigned(32)),
        member("psw-mask", Type::Unsigned(64)),
        member("psw-addr", Type::Unsigned(64)),
        member("reason", Type::Enum(&CRASH_REASON)),
    ],
);

pub(crate) const PANIC_INFORMATION: Union = Union {
    name: "GuestPanicInformation",
    base: &[member("type", Type::Enum(&PANIC_TYPE))],
    tag: "type",
    variants: &[("s390", &PANIC_S390)],
};

pub(crate) const ROWS: &[Command] = &[
    Command::new("query-status", "What the machine is doing.", query_status)
        .returns(Type::Struct(&STATUS))
        .preconfig(),
    Command::new("stop", "Stops all CPUs and guest time. Event: STOP.", |call| {
        call.machine().stop().map(|()| json!({}))
    }),
    Command::new(
        "cont",
        "Lets CPUs run. Refused after a shutdown of the guest, until a reset. Event: RESUME.",
        |call| call.machine().cont().map(|()| json!({})),
    ),
    Command::new("system_reset", "Resets the machine. Event: RESET.", |call| {
        call.machine().reset(Cause::HostQmpSystemReset).map(|()| json!({}))
    }),
    Command::new(
        "system_powerdown",
        "Asks the guest to power itself off; it need not. Event: POWERDOWN.",
        |call| call.machine().powerdown().map(|()| json!({})),
    ),
    Command::new("system_wakeup", "Refused: no machine of this version can be suspended.", |_| {
        Err(ControlError::new("wake-up from suspend is not supported by this guest"))
    }),
    Command::new("quit", "Ends the run and the process. Event: SHUTDOWN, before the answer.", quit)
        .preconfig(),
    Command::new(
        "inject-nmi",
        "Interrupts the guest as an operator does: RESTART to the first CPU of an s390x machine.",
        |call| call.machine().inject_nmi(None).map(|()| json!({})),
    ),
];

fn query_status(call: &Call<'_>) -> Reply {
    let state = call.machine().run_state();
    Ok(json!({ "running": state.is_running(), "singlestep": false, "status": state.name() }))
}

fn quit(call: &Call<'_>) -> Reply {
    call.monitor().end(|| call.machine().quit(Cause::HostQmpQuit));
    Ok(json!({}))
}
