//! Single devices: the balloon and the watchdog.

use crate::call::Call;
use crate::table::{Command, Reply};
use crate::types::{Enum, Struct, Type, member};
use cloister_control::ControlError;
use cloister_options::WatchdogAction;
use serde_json::json;

pub(crate) const WATCHDOG_ACTION: Enum = Enum { name: "WatchdogAction", values: WatchdogAction::NAMES };

const BALLOON: Struct = Struct::new("BalloonInfo", &[member("actual", Type::Int)]);

pub(crate) const ROWS: &[Command] = &[
    Command::new(
        "query-balloon",
        "Bytes of memory that the guest keeps, by what its balloon says.",
        |call| call.machine().balloon().map(|actual| json!({ "actual": actual })),
    )
    .returns(Type::Struct(&BALLOON)),
    Command::new(
        "balloon",
        "Asks the guest to keep so many bytes of memory; it need not. Event: BALLOON_CHANGE.",
        balloon,
    )
    .takes(&[member("value", Type::Int)]),
    Command::new("watchdog-set-action", "What an expired watchdog of the guest does.", watchdog_set_action)
        .takes(&[member("action", Type::Enum(&WATCHDOG_ACTION))]),
];

fn balloon(call: &Call<'_>) -> Reply {
    let machine = call.machine();
    // Without a balloon that is the answer, whatever the value.
    machine.balloon()?;
    let value = call.arguments().get("value").and_then(serde_json::Value::as_u64).filter(|value| *value > 0);
    let value = value.ok_or_else(|| ControlError::new("Parameter 'target' expects a size"))?;
    machine.set_balloon(value).map(|()| json!({}))
}

fn watchdog_set_action(call: &Call<'_>) -> Reply {
    if let Some(action) = WatchdogAction::from_name(call.required("action")) {
        call.machine().set_watchdog_action(action);
    }
    Ok(json!({}))
}
