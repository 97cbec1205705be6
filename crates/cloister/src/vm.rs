//! Running a virtual machine from QEMU's command line.

use crate::command::words;
use crate::desk::Desk;
use crate::wiring::{self, Hardware};
use crate::{accel, inject, log, out, signals};
use anyhow::Context;
use cloister_chardev::process::{PidFile, Ready, daemonize};
use cloister_machines::{End, Outlets, Report};
use cloister_memory_map::MemoryMap;
use cloister_network::{Helpers, Network, NetworkError};
use cloister_options::{Catalogue, CommandLine, Invocation, Netdev, Outcome};
use std::ffi::{OsStr, OsString};
use std::process::ExitCode;
use std::sync::Arc;

/// Parses the arguments and runs what they describe.
///
/// With `-daemonize` the process that the user started starts another, which has `ready`, and waits until it runs.
pub(crate) fn run(name: &OsStr, invocation: &Invocation, args: &[String], ready: Option<Ready>) -> ExitCode {
    let program = invocation.program.clone();
    let catalogue = match invocation.resolve_target(args) {
        Ok(target) => cloister_cgs::catalogue(target),
        Err(error) => return fail(&error.report(&program)),
    };
    match cloister_options::parse(invocation, &catalogue, args) {
        Ok(Outcome::Print(text)) => {
            out::line(text.trim_end_matches('\n'));
            ExitCode::SUCCESS
        }
        Ok(Outcome::Run(line)) if log::asks_for_help(&line) => {
            out::line(log::help().trim_end());
            ExitCode::SUCCESS
        }
        Ok(Outcome::Run(line)) if inject::asks_for_help(&line) => {
            out::line(&inject::help());
            ExitCode::SUCCESS
        }
        Ok(Outcome::Run(line)) if line.daemonize && ready.is_none() => {
            let args: Vec<OsString> = args.iter().map(OsString::from).collect();
            match daemonize(name, &args) {
                Ok(true) => ExitCode::SUCCESS,
                Ok(false) => ExitCode::FAILURE,
                Err(error) => fail(&format!("{program}: {error}")),
            }
        }
        Ok(Outcome::Run(line)) => {
            for warning in &line.warnings {
                out::tell(&warning.report(&program));
            }
            match start(*line, catalogue, ready) {
                Ok(status) => status,
                Err(error) => fail(&format!("{program}: {}", words(&error))),
            }
        }
        Err(error) => fail(&error.report(&program)),
    }
}

fn start(mut line: CommandLine, catalogue: Catalogue, ready: Option<Ready>) -> anyhow::Result<ExitCode> {
    let log = log::start(&line)?;
    for text in accel::settle(&mut line)? {
        out::tell(&format!("{}: {text}", line.program));
    }
    inject::check(&line)?;
    // A daemon leaves its folder.
    let picture = line.memory_map.as_ref().map(|map| std::path::absolute(&map.path)).transpose()?;
    let rules = cloister_sandbox::Rules::of(&line);
    let hardware = Hardware::open(&line)?;
    // Programs can be run until the sandbox closes.
    let helpers = Helpers::start(&line.netdevs).map_err(|refused| network_refusal(*refused))?;
    // Before there are threads: most kernels can take files from a thread only together with its children.
    if !matches!(hardware, Hardware::None) {
        rules.guard(hardware.folder());
    }
    let desk = Attended(Desk::open(&line)?);
    let pid_file = line.pid_file.as_deref().map(PidFile::create).transpose()?;
    let network =
        Network::open(&line.netdevs, helpers, desk.0.fds()).map_err(|refused| network_refusal(*refused))?;
    let outlets = Outlets { network: Some(network), ..desk.0.outlets()? };
    let machine = wiring::any_machine(&line, hardware, outlets)?;
    for warning in machine.warnings() {
        out::tell(&format!("{}: warning: {warning}", line.program));
    }
    // A manager that reads our words until their end takes them for the reason of a failure.
    if ready.is_none() {
        out::tell(&format!("{}: platform: {}", line.program, machine.facts().platform));
    }
    desk.0.serve(&machine, line.clone(), catalogue)?;
    let signals = signals::watch(&machine).context("cannot watch signals")?;
    rules.enter()?;
    if let Some(ready) = ready {
        ready.signal()?;
    }
    log.prepare(machine.as_ref());
    let report = Arc::clone(&machine).run()?;
    drop(signals);
    if let (Some(picture), Some(vm)) = (&picture, machine.vm()) {
        let written =
            MemoryMap::observe(vm).and_then(|map| cloister_memory_map::write_picture(picture, &map));
        written.with_context(|| format!("-memory-map {}", picture.display()))?;
    }
    log.finish(&line.program, machine.as_ref(), &report);
    let status = finish(&line, &report);
    desk.0.close(u8::from(status != ExitCode::SUCCESS));
    drop(pid_file);
    Ok(status)
}

fn network_refusal((netdev, why): (Netdev, NetworkError)) -> anyhow::Error {
    anyhow::Error::new(why).context(netdev.location.to_string())
}

/// However the start ends, terminals are given back and sockets removed.
struct Attended(Arc<Desk>);

impl Drop for Attended {
    fn drop(&mut self) {
        self.0.close(1);
    }
}

fn finish(line: &CommandLine, report: &Report) -> ExitCode {
    let program = &line.program;
    match &report.end {
        End::PowerOff | End::NoReboot | End::Quit => ExitCode::SUCCESS,
        End::Signal(signal) => {
            out::tell(&format!("{program}: terminating on signal {signal}"));
            ExitCode::SUCCESS
        }
        End::Crashed { cpu, mask, addr } => fail(&format!(
            "{program}: the guest stopped itself: CPU {cpu} entered a disabled wait, PSW {mask:016x} {addr:016x}"
        )),
        End::Stuck { cpu, reason } => {
            fail(&format!("{program}: the guest cannot go on: CPU {cpu}: {reason}"))
        }
        End::Failed(why) => fail(&format!("{program}: the run failed: {why}")),
    }
}

fn fail(message: &str) -> ExitCode {
    out::tell(message);
    ExitCode::FAILURE
}
