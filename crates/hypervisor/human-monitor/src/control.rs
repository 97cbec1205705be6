//! Commands that change what the machine does.

use crate::arguments::Arguments;
use crate::{Answer, Monitor, Refusal};
use cloister_control::{Cause, ControlError};
use cloister_options::WatchdogAction;

pub(crate) fn cont(monitor: &mut Monitor, _: &Arguments) -> Answer {
    done(monitor.operator.machine.cont())
}

pub(crate) fn stop(monitor: &mut Monitor, _: &Arguments) -> Answer {
    done(monitor.operator.machine.stop())
}

pub(crate) fn reset(monitor: &mut Monitor, _: &Arguments) -> Answer {
    done(monitor.operator.machine.reset(Cause::HostQmpSystemReset))
}

pub(crate) fn powerdown(monitor: &mut Monitor, _: &Arguments) -> Answer {
    done(monitor.operator.machine.powerdown())
}

pub(crate) fn quit(monitor: &mut Monitor, _: &Arguments) -> Answer {
    monitor.quit = true;
    monitor.operator.machine.quit(Cause::HostQmpQuit);
    Ok(String::new())
}

pub(crate) fn nmi(monitor: &mut Monitor, _: &Arguments) -> Answer {
    done(monitor.operator.machine.inject_nmi(Some(monitor.cpu)))
}

pub(crate) fn cpu(monitor: &mut Monitor, arguments: &Arguments) -> Answer {
    let wanted = arguments.number(0).unwrap_or(u64::MAX);
    let cpus = monitor.operator.machine.cpus();
    let cpu = cpus.iter().find(|cpu| u64::from(cpu.index) == wanted);
    monitor.cpu = cpu.ok_or_else(|| Refusal::words("invalid CPU index"))?.index;
    Ok(String::new())
}

pub(crate) fn gdbserver(monitor: &mut Monitor, arguments: &Arguments) -> Answer {
    let device = match arguments.text() {
        "" => "tcp::1234",
        device => device,
    };
    match monitor.operator.process.gdbserver(device) {
        Ok(answer) => Ok(answer.trim_ascii_end().to_owned() + "\n"),
        Err(error) => Err(Refusal::words(format!("{error}\nCould not open gdbserver on device '{device}'"))),
    }
}

pub(crate) fn migrate(monitor: &mut Monitor, arguments: &Arguments) -> Answer {
    let protocols = ["tcp:", "unix:", "exec:", "fd:", "file:", "rdma:"];
    if !protocols.iter().any(|protocol| arguments.text().starts_with(protocol)) {
        return Err(Refusal::error("Parameter 'uri' expects a valid migration protocol"));
    }
    let blockers = monitor.operator.machine.migration_blockers();
    if blockers.is_empty() {
        return Err(Refusal::error("this version of Cloister cannot migrate"));
    }
    Err(Refusal::error(blockers.join("\n")))
}

/// QEMU counts in MiB.
pub(crate) fn balloon(monitor: &mut Monitor, arguments: &Arguments) -> Answer {
    let machine = &monitor.operator.machine;
    machine.balloon()?;
    let target =
        arguments.number(0).and_then(|target| target.checked_mul(1 << 20)).filter(|target| *target > 0);
    let target = target.ok_or_else(|| Refusal::error("Parameter 'target' expects a size"))?;
    done(machine.set_balloon(target))
}

pub(crate) fn watchdog_action(monitor: &mut Monitor, arguments: &Arguments) -> Answer {
    let name = arguments.text();
    let action = WatchdogAction::from_name(name)
        .ok_or_else(|| Refusal::error(format!("invalid parameter value: {name}")))?;
    monitor.operator.machine.set_watchdog_action(action);
    Ok(String::new())
}

fn done(result: Result<(), ControlError>) -> Answer {
    result?;
    Ok(String::new())
}
