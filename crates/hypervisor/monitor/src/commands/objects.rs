//! Adding and taking away objects and devices.

use crate::call::Call;
use crate::table::{Command, Reply};
use crate::types::{Type, member, optional};
use cloister_control::ControlError;
use cloister_options::{OptionError, parse_device_json, parse_object_json};
use serde_json::json;

pub(crate) const ROWS: &[Command] = &[
    Command::new("object-add", "Makes an object, as `-object` does.", object_add).takes_object().preconfig(),
    Command::new("object-del", "Takes an object away that nothing uses.", |call| {
        call.machine().object_del(call.required("id")).map(|()| json!({}))
    })
    .takes(&[member("id", Type::Str)])
    .preconfig(),
    Command::new(
        "device_add",
        "Plugs a device into the machine; the other arguments are its properties, see `device-list-properties`.",
        device_add,
    )
    .takes_any(&[member("driver", Type::Str), optional("bus", Type::Str), optional("id", Type::Str)]),
    Command::new(
        "device_del",
        "Unplugs a device, by id or path. Event: DEVICE_DELETED, when the guest has let go of it.",
        device_del,
    )
    .takes(&[member("id", Type::Str)]),
];

fn object_add(call: &Call<'_>) -> Reply {
    let spec = parse_object_json(&call.operator().catalogue, call.arguments()).map_err(refusal)?;
    call.machine().object_add(spec).map(|()| json!({}))
}

fn device_add(call: &Call<'_>) -> Reply {
    let spec = parse_device_json(&call.operator().catalogue, call.arguments()).map_err(refusal)?;
    call.machine().device_add(spec).map(|()| json!({}))
}

fn device_del(call: &Call<'_>) -> Reply {
    let given = call.required("id");
    let devices = call.machine().devices();
    let by_path = devices.iter().find(|device| device.qom_path == given);
    match by_path {
        None => call.machine().device_del(given).map(|()| json!({})),
        Some(device) => match &device.id {
            Some(id) => call.machine().device_del(id).map(|()| json!({})),
            None => Err(ControlError::new(format!(
                "the device at '{given}' has no id and belongs to the machine; only devices with an id can be unplugged"
            ))),
        },
    }
}

/// The problem alone: QMP's clients know which command they sent.
fn refusal(error: OptionError) -> ControlError {
    ControlError::new(error.problem.to_string())
}
