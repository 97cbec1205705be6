//! Taking in character devices and their users: `-chardev`, `-serial`, the monitors, `-gdb`. What stands in one
//! argument is read by [`crate::chardev`]; here is who may use what.

use super::{Builder, Given};
use crate::chardev::parse::{self, Origin, ShortError};
use crate::chardev::{CharBackend, Chardev};
use crate::command_line::{DeviceSpec, Display, Monitor, MonitorMode};
use crate::error::{Location, OptionError, Problem};
use crate::help::Topic;

type Taken = Result<(), Problem>;

/// How many users a chardev with `mux=on` has room for.
const MUX_USERS: usize = 4;

pub(crate) fn chardev(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    let mut flat = given.flat(true)?;
    b.warn(given, std::mem::take(&mut flat.warnings));
    if flat.help {
        b.ask(match flat.get("backend") {
            None => Topic::Chardevs,
            Some(_) => Topic::Option("chardev"),
        });
        return Ok(());
    }
    let chardev = parse::from_flat(&flat, Origin::CommandLine)?;
    note_stdio(b, &chardev.backend, given)?;
    b.chardevs.push((chardev, given.location.clone()));
    Ok(())
}

pub(crate) fn serial(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    let with_backend = |problem: Option<Problem>| {
        let last = Problem::SerialBackend(given.value.to_owned());
        Problem::Several(problem.into_iter().chain([last]).collect())
    };
    let backend = parse::short(given.value).map_err(|error| match error {
        ShortError::Form(problem) => with_backend(problem),
        ShortError::Value(problem) => with_backend(Some(problem)),
    })?;
    note_stdio(b, &backend, given).map_err(|problem| with_backend(Some(problem)))?;
    b.serials.push((backend, given.location.clone()));
    Ok(())
}

pub(crate) fn parallel(_: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    match given.value {
        "none" | "null" => Ok(()),
        other => {
            Err(Problem::NotAvailable(format!("-parallel {other}"), "; no machine has that port".to_owned()))
        }
    }
}

pub(crate) fn monitor(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    add_monitor(b, given, MonitorMode::Readline, false)
}

pub(crate) fn qmp(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    add_monitor(b, given, MonitorMode::Control, false)
}

pub(crate) fn qmp_pretty(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    add_monitor(b, given, MonitorMode::Control, true)
}

fn add_monitor(b: &mut Builder<'_>, given: &Given<'_>, mode: MonitorMode, pretty: bool) -> Taken {
    let parse_error = |problem: Option<Problem>| {
        let last = Problem::MonitorBackend(given.value.to_owned());
        Problem::Several(problem.into_iter().chain([last]).collect())
    };
    let backend = match parse::short(given.value) {
        Ok(CharBackend::None) if mode == MonitorMode::Control => {
            return Err(parse_error(Some(Problem::CharDriver(given.value.to_owned()))));
        }
        Ok(CharBackend::Stdio { with_monitor: true }) if mode == MonitorMode::Control => {
            return Err(Problem::NotAvailable(
                "QMP on a terminal that a monitor shares".to_owned(),
                "; use -qmp stdio".to_owned(),
            ));
        }
        Ok(backend) => backend,
        Err(ShortError::Form(problem)) => return Err(parse_error(problem)),
        Err(ShortError::Value(problem)) => return Err(problem),
    };
    note_stdio(b, &backend, given)?;
    b.monitors.push((Monitor { mode, backend, pretty }, given.location.clone()));
    Ok(())
}

pub(crate) fn mon(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    let mut flat = given.flat(true)?;
    b.warn(given, std::mem::take(&mut flat.warnings));
    // QEMU takes this word for the id of a chardev.
    if flat.help {
        b.ask(Topic::Option("mon"));
        return Ok(());
    }
    let properties = given.keys(&flat, &[])?;
    if let Some(id) = &flat.id {
        if b.monitor_ids.contains(id) {
            return Err(Problem::DuplicateId { id: id.clone(), what: "mon" });
        }
        b.monitor_ids.push(id.clone());
    }
    let chardev = properties.text("chardev").ok_or_else(|| Problem::Missing("chardev".to_owned()))?;
    let pretty = properties.bool("pretty").unwrap_or(false);
    let mode = match properties.text("mode") {
        Some("control") => MonitorMode::Control,
        _ if pretty => return Err(Problem::PrettyForPeople),
        _ => MonitorMode::Readline,
    };
    let backend = CharBackend::Chardev(chardev.to_owned());
    b.monitors.push((Monitor { mode, backend, pretty }, given.location.clone()));
    Ok(())
}

pub(crate) fn gdb(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    let text = given.value;
    // gdb connects to a TCP port; that of the other sockets says who does.
    let with_server = match text.strip_prefix("tcp:") {
        Some(_) => format!("{text},wait=off,nodelay=on,server=on"),
        None => text.to_owned(),
    };
    let backend = parse::short(&with_server).map_err(|error| match error {
        ShortError::Form(Some(problem)) | ShortError::Value(problem) => problem,
        ShortError::Form(None) => Problem::GdbBackend(text.to_owned()),
    })?;
    note_stdio(b, &backend, given)?;
    b.gdb = Some((backend, given.location.clone()));
    Ok(())
}

pub(crate) fn gdb_default(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    gdb(
        b,
        &Given { value: "tcp::1234", spec: given.spec, location: given.location.clone(), name: given.name },
    )
}

fn most_users(chardev: &Chardev) -> usize {
    if chardev.mux { MUX_USERS } else { 1 }
}

/// There is one terminal.
fn note_stdio(b: &mut Builder<'_>, backend: &CharBackend, given: &Given<'_>) -> Taken {
    if !matches!(backend, CharBackend::Stdio { .. }) {
        return Ok(());
    }
    match b.stdio.replace(given.location.clone()) {
        None => Ok(()),
        Some(_) => Err(Problem::StdioTwice),
    }
}

impl Builder<'_> {
    /// Checks of several options: who uses which chardev, who has the terminal, and whether there is one.
    pub(super) fn check_characters(&self, has_cpus: bool) -> Result<(), OptionError> {
        self.check_terminal(has_cpus)?;
        for (index, (chardev, location)) in self.chardevs.iter().enumerate() {
            if self.chardevs[..index].iter().any(|(other, _)| other.id == chardev.id) {
                return Err(Problem::DuplicateId { id: chardev.id.clone(), what: "chardev" }.at(location));
            }
        }
        let mut users: Vec<&str> = Vec::new();
        let monitors = self.monitors.iter().map(|(monitor, location)| {
            let not_found = |id: &str| Problem::ChardevNotFound(id.to_owned());
            (
                &monitor.backend,
                location,
                monitor.mode == MonitorMode::Control,
                not_found as fn(&str) -> Problem,
            )
        });
        let serials = self.serials.iter().map(|(backend, location)| {
            let not_found = |id: &str| Problem::SerialBackend(format!("chardev:{id}"));
            (backend, location, false, not_found as fn(&str) -> Problem)
        });
        let gdb = self.gdb.iter().map(|(backend, location)| {
            let not_found = |id: &str| Problem::GdbBackend(format!("chardev:{id}"));
            (backend, location, false, not_found as fn(&str) -> Problem)
        });
        for (backend, location, is_qmp, not_found) in monitors.chain(serials).chain(gdb) {
            let CharBackend::Chardev(id) = backend else {
                continue;
            };
            let Some(chardev) = self.chardev(id) else {
                return Err(not_found(id).at(location));
            };
            if chardev.mux && is_qmp {
                return Err(Problem::CharMuxForQmp(id.clone()).at(location));
            }
            let before = users.iter().filter(|user| *user == id).count();
            if before >= most_users(chardev) {
                return Err(Problem::CharInUse(id.clone()).at(location));
            }
            users.push(id);
        }
        if let Some((_, location)) = self.gdb.as_ref().filter(|_| !has_cpus) {
            return Err(Problem::GdbWithoutCpu.at(location));
        }
        Ok(())
    }

    /// A console that is a device: who else uses its chardev, and whether the machine has such a console already.
    pub(super) fn check_console(
        &self,
        device: &DeviceSpec,
        before: &[DeviceSpec],
        has_cpus: bool,
    ) -> Result<(), Problem> {
        let driver = || device.driver.clone();
        if !has_cpus {
            return Err(Problem::NoBus { driver: driver(), bus: "s390-sclp-events-bus" });
        }
        self.check_console_chardev(device, before)?;
        // The first -serial, or without one the terminal, is a console already; the second is for lines.
        let serial = |index| {
            self.serials
                .get(index)
                .is_some_and(|(backend, _): &(CharBackend, _)| *backend != CharBackend::None)
        };
        let (kind, is_there) = match device.driver.as_str() {
            "sclpconsole" => ("VT220", serial(0) || self.has_default_console(has_cpus)),
            _ => ("line-mode", serial(1)),
        };
        match is_there || before.iter().any(|other| other.driver == device.driver) {
            true => Err(Problem::Several(vec![Problem::TwoConsoles(kind), Problem::SclpEvent])),
            false => Ok(()),
        }
    }

    /// The chardev of a console or of another port: whether it exists, and who else uses it.
    pub(super) fn check_console_chardev(
        &self,
        device: &DeviceSpec,
        before: &[DeviceSpec],
    ) -> Result<(), Problem> {
        if let Some(id) = device.properties.text("chardev") {
            let (class, name, value) = (device.driver.clone(), "chardev".to_owned(), id.to_owned());
            let Some(chardev) = self.chardev(id) else {
                return Err(Problem::CannotFindValue { class, name, value });
            };
            let monitors = self.monitors.iter().map(|(monitor, _)| &monitor.backend);
            let others = self.serials.iter().chain(&self.gdb).map(|(backend, _)| backend);
            let named =
                |backend: &&CharBackend| matches!(backend, CharBackend::Chardev(other) if other == id);
            let users = monitors.chain(others).filter(named).count()
                + before.iter().filter(|other| other.properties.text("chardev") == Some(id)).count();
            if users >= most_users(chardev) {
                return Err(Problem::ValueInUse { class, name, value });
            }
        }
        Ok(())
    }

    /// Whether `-nographic` puts a console on the terminal, because the user put none elsewhere.
    fn has_default_console(&self, has_cpus: bool) -> bool {
        let line = &self.line;
        line.display == Display::Nographic && !line.no_defaults && has_cpus && self.serials.is_empty()
    }

    fn check_terminal(&self, has_cpus: bool) -> Result<(), OptionError> {
        let line = &self.line;
        let nographic = line.display == Display::Nographic && !line.no_defaults;
        let default_console = self.has_default_console(has_cpus);
        let with_monitor = |(backend, _): &(CharBackend, Location)| {
            matches!(backend, CharBackend::Stdio { with_monitor: true })
        };
        let default_monitor = nographic && self.monitors.is_empty() && !self.serials.iter().any(with_monitor);
        if line.daemonize {
            if default_console || default_monitor {
                return Err(Problem::NographicDaemon.anywhere());
            }
            if let Some(location) = &self.stdio {
                return Err(self.refuse_stdio(Problem::StdioDaemon, location));
            }
        }
        match &self.stdio {
            Some(_) if default_console => {
                Err(Problem::Several(vec![Problem::StdioTwice, Problem::SerialBackend("stdio".to_owned())])
                    .anywhere())
            }
            // Without a place of its own: the monitor that nobody asked for comes after the chardevs.
            Some(location) if default_monitor && self.chardevs.iter().any(|(_, other)| other == location) => {
                Err(Problem::StdioTwice.anywhere())
            }
            Some(location) if default_monitor => Err(self.refuse_stdio(Problem::StdioTwice, location)),
            _ => Ok(()),
        }
    }

    fn refuse_stdio(&self, problem: Problem, location: &Location) -> OptionError {
        let serial = self.serials.iter().find(|(_, other)| other == location);
        match serial {
            None => problem.at(location),
            Some((backend, _)) => {
                Problem::Several(vec![problem, Problem::SerialBackend(backend.to_string())]).at(location)
            }
        }
    }

    fn chardev(&self, id: &str) -> Option<&Chardev> {
        self.chardevs.iter().map(|(chardev, _)| chardev).find(|chardev| chardev.id == id)
    }
}
