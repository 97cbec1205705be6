//! Taking in options about the process around the guest.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::take::{json_members, json_text, simple};
use super::{Builder, Given};
use crate::error::Problem;
use crate::flat::FlatOptions;
use crate::keyval::parse_keyval;
use crate::process::{
    AddFd, MemoryMap, PanicAction, PictureFormat, Privileges, RebootAction, Sandbox, ShutdownAction,
    WatchdogAction,
};
use crate::schema::Properties;
use crate::table::LOG_ITEMS;

type Taken = Result<(), Problem>;

pub(crate) fn daemonize(b: &mut Builder<'_>, _: &Given<'_>) -> Taken {
    b.line.daemonize = true;
    Ok(())
}

pub(crate) fn pid_file(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    b.line.pid_file = Some(given.value.to_owned());
    Ok(())
}

pub(crate) fn add_fd(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    let mut flat = given.flat(true)?;
    b.warn(given, std::mem::take(&mut flat.warnings));
    if flat.help {
        b.ask(crate::help::Topic::Option("add-fd"));
        return Ok(());
    }
    let negative = |name| negative_number(&flat, name);
    if negative("fd") {
        return Err(Problem::FdRequired);
    }
    if negative("set") {
        return Err(Problem::FdSetRequired);
    }
    let properties = given.keys(&flat, &[])?;
    let number = |name| properties.number(name);
    let fd = number("fd").and_then(|fd| i32::try_from(fd).ok()).ok_or(Problem::FdRequired)?;
    if fd <= 2 {
        return Err(Problem::FdStandard);
    }
    let set = number("set").and_then(|set| u32::try_from(set).ok()).ok_or(Problem::FdSetRequired)?;
    b.line.fd_sets.push(AddFd { fd, set, opaque: properties.text("opaque").map(str::to_owned) });
    Ok(())
}

fn negative_number(flat: &FlatOptions, name: &str) -> bool {
    let digits = flat.get(name).and_then(|text| text.strip_prefix('-'));
    digits.is_some_and(|digits| crate::value::parse_number(digits).is_some())
}

pub(crate) fn action(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    let properties = simple(b, given)?;
    set_actions(b, &properties);
    Ok(())
}

fn set_actions(b: &mut Builder<'_>, properties: &Properties) {
    let actions = &mut b.line.actions;
    match properties.text("reboot") {
        Some("reset") => actions.reboot = RebootAction::Reset,
        Some("shutdown") => actions.reboot = RebootAction::Shutdown,
        _ => {}
    }
    match properties.text("shutdown") {
        Some("poweroff") => actions.shutdown = ShutdownAction::PowerOff,
        Some("pause") => actions.shutdown = ShutdownAction::Pause,
        _ => {}
    }
    match properties.text("panic") {
        Some("shutdown") => actions.panic = PanicAction::Shutdown,
        Some("pause") => actions.panic = PanicAction::Pause,
        Some("exit-failure") => actions.panic = PanicAction::ExitFailure,
        Some("none") => actions.panic = PanicAction::None,
        _ => {}
    }
    if let Some(action) = properties.text("watchdog").and_then(WatchdogAction::from_name) {
        actions.watchdog = action;
    }
}

pub(crate) fn watchdog_action(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    b.line.actions.watchdog = WatchdogAction::from_name(given.value).ok_or_else(|| Problem::DoesNotAccept {
        name: "watchdog".to_owned(),
        value: given.value.to_owned(),
    })?;
    Ok(())
}

pub(crate) fn no_reboot(b: &mut Builder<'_>, _: &Given<'_>) -> Taken {
    b.line.actions.reboot = RebootAction::Shutdown;
    Ok(())
}

pub(crate) fn no_shutdown(b: &mut Builder<'_>, _: &Given<'_>) -> Taken {
    b.line.actions.shutdown = ShutdownAction::Pause;
    Ok(())
}

pub(crate) fn sandbox(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    let properties = simple(b, given)?;
    let enabled = properties.bool("enable").unwrap_or(false);
    // Switched off, QEMU does not look at the rest.
    let given = |name: &'static str| properties.text(name).filter(|_| enabled);
    let allow = |name: &'static str, default| match given(name) {
        None => Ok(default),
        Some("allow") => Ok(true),
        Some("deny") => Ok(false),
        Some(_) => Err(Problem::SandboxArgument(name)),
    };
    b.line.sandbox = Some(Sandbox {
        enabled,
        allow_obsolete: allow("obsolete", false)?,
        privileges: match given("elevateprivileges") {
            None | Some("allow") => Privileges::Allow,
            Some("deny") => Privileges::Deny,
            Some("children") => Privileges::Children,
            Some(_) => return Err(Problem::SandboxArgument("elevateprivileges")),
        },
        allow_spawn: allow("spawn", true)?,
        allow_resource_control: allow("resourcecontrol", true)?,
    });
    Ok(())
}

pub(crate) fn memory_map(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    let path = PathBuf::from(given.value);
    let extension = path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase);
    let format = match extension.as_deref() {
        Some("svg") => PictureFormat::Svg,
        Some("png") => PictureFormat::Png,
        _ => return Err(Problem::PictureFormat(given.value.to_owned())),
    };
    b.line.memory_map = Some(MemoryMap { path, format });
    Ok(())
}

/// Sound backends of QEMU that this version lacks.
const SOUND_LATER: &[&str] =
    &["alsa", "coreaudio", "dbus", "dsound", "jack", "oss", "pa", "pipewire", "sdl", "sndio", "spice", "wav"];

/// Nothing makes a sound, so only the backend that makes none is taken.
pub(crate) fn audiodev(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    let members = match json_members(given.value)? {
        Some(members) => members,
        None => {
            let parsed = parse_keyval(given.value, Some("driver"))?;
            if parsed.help {
                b.print_now = Some("Available audio drivers:\nnone\n".to_owned());
                return Ok(());
            }
            parsed.tree
        }
    };
    let driver = json_text(&members, "driver")?;
    let id = json_text(&members, "id")?;
    let missing = |name: &str| Problem::Missing(name.to_owned());
    if id.is_none() && driver.is_some() {
        return Err(missing("id"));
    }
    match driver.as_deref() {
        None => return Err(missing("driver")),
        Some("none") => {}
        Some(later) if SOUND_LATER.contains(&later) => {
            return Err(Problem::NotAvailable(
                format!("audio driver '{later}'"),
                "; use driver=none".to_owned(),
            ));
        }
        Some(other) => {
            return Err(Problem::DoesNotAccept { name: "driver".to_owned(), value: other.to_owned() });
        }
    }
    for (name, value) in &members {
        match name.as_str() {
            "driver" | "id" => {}
            "in" | "out" if value.is_object() => {}
            "timer-period" if matches!(value, Value::String(_) | Value::Number(_)) => {}
            other => return Err(Problem::Unexpected(other.to_owned())),
        }
    }
    Ok(())
}

pub(crate) fn log_items(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    for item in given.value.split(',').filter(|item| !item.is_empty()) {
        if item == "help" || item == "?" {
            b.print_now = Some(crate::help::log_items());
            return Ok(());
        }
        match item.strip_prefix("trace:") {
            Some(pattern) => b.line.log.trace.push(pattern.to_owned()),
            None if LOG_ITEMS.iter().any(|(name, _)| *name == item) => b.line.log.items.push(item.to_owned()),
            None => return Err(Problem::LogItem(item.to_owned())),
        }
    }
    Ok(())
}

pub(crate) fn log_file(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    b.line.log.file = Some(PathBuf::from(given.value));
    Ok(())
}

pub(crate) fn trace(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    let properties = simple(b, given)?;
    let path = |name| properties.text(name).map(|text| Path::new(text).to_owned());
    b.line.log.trace.extend(properties.text("enable").map(str::to_owned));
    b.line.log.trace_events = path("events").or(b.line.log.trace_events.take());
    b.line.log.trace_file = path("file").or(b.line.log.trace_file.take());
    Ok(())
}
