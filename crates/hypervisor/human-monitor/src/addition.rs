//! Devices and objects added to a running machine, given as on the command line.
//!
//! The command line's own parser reads them, so that both accept the same and refuse in the same words. Whether the
//! machine takes them is its decision.

use crate::arguments::Arguments;
use crate::{Answer, Monitor, Refusal};
use cloister_control::Operator;
use cloister_options::{CommandLine, Invocation, ObjectRole, Outcome, parse};
use serde_json::Value;

pub(crate) fn device_add(monitor: &mut Monitor, arguments: &Arguments) -> Answer {
    let operator = &monitor.operator;
    let mut line = match read(operator, "-device", arguments.text())? {
        Outcome::Print(help) => return Ok(help),
        Outcome::Run(line) => line,
    };
    let Some(device) = line.devices.pop() else {
        return Err(Refusal::error("Parameter 'driver' is missing"));
    };
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
    let mut line = match read(&monitor.operator, "-object", arguments.text())? {
        Outcome::Print(help) => return Ok(help),
        Outcome::Run(line) => line,
    };
    let object = line.objects.pop().ok_or_else(|| Refusal::error("Parameter 'qom-type' is missing"))?;
    monitor.operator.machine.object_add(object)?;
    Ok(String::new())
}

pub(crate) fn object_del(monitor: &mut Monitor, arguments: &Arguments) -> Answer {
    monitor.operator.machine.object_del(arguments.text())?;
    Ok(String::new())
}

/// Reads an option as on the command line of a machine that has what this one has to refer to: drives that no device
/// uses, and sources of random bytes.
fn read(operator: &Operator, option: &str, text: &str) -> Result<Outcome, Refusal> {
    if text.starts_with('{') {
        return Err(Refusal::error("JSON is for QMP: give key=value,..."));
    }
    let mut args = vec!["-nodefaults".to_owned()];
    if option == "-device" {
        args.extend(drives(operator, &operator.line));
        args.extend(sources(operator));
    }
    args.extend([option.to_owned(), text.to_owned()]);
    let target = operator.catalogue.target().to_string();
    let invocation = Invocation { program: "cloister".to_owned(), target: Some(target) };
    parse(&invocation, &operator.catalogue, &args).map_err(|error| Refusal::error(error.headline()))
}

fn drives(operator: &Operator, line: &CommandLine) -> Vec<String> {
    let blocks = operator.machine.blocks();
    let mut known: Vec<(String, String)> = Vec::new();
    for block in blocks.iter().filter(|block| block.qdev.is_none()) {
        let file = block.file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
        known.push((block.device.clone(), file));
    }
    for drive in &line.drives {
        if let (Some(id), Some(file)) = (&drive.id, &drive.file)
            && !blocks.iter().any(|block| block.device == *id)
        {
            known.push((id.clone(), file.display().to_string()));
        }
    }
    let drive = |(id, file): (String, String)| {
        ["-drive".to_owned(), format!("id={id},if=none,file={}", file.replace(',', ",,"))]
    };
    known.into_iter().filter(|(_, file)| !file.is_empty()).flat_map(drive).collect()
}

fn sources(operator: &Operator) -> Vec<String> {
    let mut args = Vec::new();
    for object in operator.machine.objects() {
        let known = operator.catalogue.object(&object.qom_type);
        let Some(known) = known.filter(|known| known.role == ObjectRole::Rng) else { continue };
        let mut text = format!("{},id={}", object.qom_type, object.id);
        for property in object.properties {
            let value = match property.value {
                Value::Bool(on) => if on { "on" } else { "off" }.to_owned(),
                Value::String(value) => value.replace(',', ",,"),
                Value::Number(value) => value.to_string(),
                Value::Null | Value::Array(_) | Value::Object(_) => continue,
            };
            if known.keys.iter().any(|key| key.name == property.name) {
                text += &format!(",{}={value}", property.name);
            }
        }
        args.extend(["-object".to_owned(), text]);
    }
    args
}
