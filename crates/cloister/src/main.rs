//! The `cloister` command.
//!
//! Wiring only: it chooses the platform, puts a machine in front of it, or hands a subcommand to its
//! module. Exit status 0 is success, 1 everything else that is the user's or the guest's to mend.
#![forbid(unsafe_code)]

mod vm;

use cloister_options::{Command, classify};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = Vec::new();
    let mut names = std::env::args_os();
    let argv0 = names.next().map_or_else(|| "cloister".into(), |name| name.to_string_lossy().into_owned());
    for arg in names {
        match arg.into_string() {
            Ok(arg) => args.push(arg),
            Err(arg) => {
                eprintln!("{argv0}: {}: this argument is not valid UTF-8", arg.display());
                return ExitCode::FAILURE;
            }
        }
    }
    match classify(&argv0, args) {
        Command::Vm(invocation, args) => vm::run(&invocation, &args),
        Command::Subcommand(name, _) => {
            eprintln!("{argv0}: unknown subcommand '{name}'");
            ExitCode::FAILURE
        }
        Command::Bare => {
            eprintln!("{argv0}: nothing to do; try `{argv0} -help`");
            ExitCode::FAILURE
        }
    }
}
