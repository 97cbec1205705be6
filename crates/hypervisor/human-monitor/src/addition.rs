//! Devices and objects added to a running machine, given as on the command line.
//!
//! The command line's own parser reads them, so that both accept the same and refuse in the same words. Whether the
//! machine takes them, and whether the drives and objects that they name are there, is its decision.

use crate::arguments::Arguments;
use crate::{Answer, Monitor, Refusal};
use cloister_options::{OptionError, parse_device_text, parse_object_text};

pub(crate) fn device_add(monitor: &mut Monitor, arguments: &Arguments) -> Answer {
    let operator = &monitor.operator;
    let device = parse_device_text(&operator.catalogue, arguments.text()).map_err(refusal)?;
    if let Some(id) = &device.id
        && operator.machine.devices().iter().any(|known| known.id.as_ref() == Some(id))
    {
        return Err(Refusal::error(format!("Duplicate device ID '{id}'")));
    }
    operator.machine.device_add(device)?;
    Ok(String::new())
}

pub(crate) fn device_del(monitor: &mut Monitor, arguments: &Arguments) -> Answer {
    monitor.operator.machine.device_del(arguments.text())?;
    Ok(String::new())
}

pub(crate) fn object_add(monitor: &mut Monitor, arguments: &Arguments) -> Answer {
    let operator = &monitor.operator;
    let object = parse_object_text(&operator.catalogue, arguments.text()).map_err(refusal)?;
    operator.machine.object_add(object)?;
    Ok(String::new())
}

pub(crate) fn object_del(monitor: &mut Monitor, arguments: &Arguments) -> Answer {
    monitor.operator.machine.object_del(arguments.text())?;
    Ok(String::new())
}

fn refusal(error: OptionError) -> Refusal {
    Refusal::error(error.headline())
}
