//! The `cloister` command.
//!
//! Wiring only: it chooses the platform, puts a machine in front of it, or hands a subcommand to its
//! module. Exit status 0 is success, 1 everything else that is the user's or the guest's to mend.
#![forbid(unsafe_code)]

mod accel;
mod command;
mod demo;
mod desk;
mod doctor;
mod inject;
mod log;
mod out;
mod pv;
mod sev;
mod signals;
mod vm;
mod wiring;

use cloister_chardev::process::become_daemon;
use cloister_options::{Command, classify};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut names: Vec<_> = std::env::args_os().collect();
    let name = if names.is_empty() { "cloister".into() } else { names.remove(0) };
    let argv0 = name.to_string_lossy().into_owned();
    let ready = match become_daemon(&mut names) {
        Ok(ready) => ready,
        Err(error) => {
            out::tell(&format!("{argv0}: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let mut args = Vec::new();
    for arg in names {
        match arg.into_string() {
            Ok(arg) => args.push(arg),
            Err(arg) => {
                out::tell(&format!("{argv0}: {}: this argument is not valid UTF-8", arg.display()));
                return ExitCode::FAILURE;
            }
        }
    }
    match classify(&argv0, args) {
        // QEMU's own help is `-help`; both dashes ask for the whole program's.
        Command::Vm(invocation, args) if invocation.target.is_none() && args == ["--help"] => {
            command::help(&[])
        }
        Command::Vm(invocation, args) => vm::run(&name, &invocation, &args, ready),
        Command::Subcommand(name, rest) => {
            let words: Vec<_> = std::iter::once(name).chain(rest).collect();
            command::run(&words)
        }
        Command::Bare => {
            out::tell(&format!(
                "{argv0}: nothing to do; try `{argv0} help` for what there is, or `{argv0} demo`"
            ));
            ExitCode::FAILURE
        }
    }
}
