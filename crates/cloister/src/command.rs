//! The subcommands of `cloister`: which there are, how they are parsed, how they end.
//!
//! A virtual machine's command line is not here: it has QEMU's grammar and its own parser.

use crate::{demo, doctor, out, pv, sev};
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// What `cloister WORD ...` understands.
#[derive(Debug, Parser)]
#[command(name = "cloister", version, about = ABOUT, after_help = VM_MODE, disable_help_subcommand = true)]
struct Cloister {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Boot a small protected guest and look at it from both sides (on a MODEL machine)
    Demo(demo::Demo),
    /// Say what this host can do for confidential guests, and what is missing
    Doctor(doctor::Doctor),
    /// IBM Secure Execution: model machines and boot images
    #[command(subcommand)]
    Pv(pv::Pv),
    /// AMD SEV and SEV-ES: sessions, measurements, secrets and certificates of the guest owner
    #[command(subcommand)]
    Sev(sev::Sev),
    /// Print this help, or that of a subcommand
    Help {
        /// The subcommand, as words
        words: Vec<String>,
    },
}

/// Runs the subcommand that the arguments (without the program's name) describe.
pub(crate) fn run(args: &[String]) -> ExitCode {
    match Cloister::try_parse_from(std::iter::once("cloister").chain(args.iter().map(String::as_str))) {
        Ok(Cloister { command: Command::Help { words } }) => help(&words),
        Ok(Cloister { command: Command::Demo(demo) }) => finish("demo", demo.run()),
        Ok(Cloister { command: Command::Doctor(doctor) }) => finish("doctor", doctor.run()),
        Ok(Cloister { command: Command::Pv(pv) }) => finish("pv", pv.run()),
        Ok(Cloister { command: Command::Sev(sev) }) => finish("sev", sev.run()),
        Err(error) => parsed(&error),
    }
}

/// Lists the subcommands and says how a virtual machine is started; of a subcommand given as words, its help.
pub(crate) fn help(words: &[String]) -> ExitCode {
    if words.is_empty() {
        return run(&["--help".to_owned()]);
    }
    let asked: Vec<String> = words.iter().cloned().chain(["--help".to_owned()]).collect();
    run(&asked)
}

/// Help and version are successes; everything else is status 1, as in all of this program.
fn parsed(error: &clap::Error) -> ExitCode {
    // A closed pipe has nobody to tell.
    let _ = error.print();
    if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn finish(name: &str, result: anyhow::Result<ExitCode>) -> ExitCode {
    let status = result.unwrap_or_else(|error| {
        out::tell(&format!("cloister {name}: {}", words(&error)));
        ExitCode::FAILURE
    });
    match out::failure() {
        Some(error) => {
            out::tell(&format!("cloister {name}: cannot write to standard output: {error}"));
            ExitCode::FAILURE
        }
        None => status,
    }
}

/// An error with its causes, each said once.
pub(crate) fn words(error: &anyhow::Error) -> String {
    let mut words = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if words.is_empty() {
            words = cause;
        } else if !words.contains(&cause) {
            words = format!("{words}: {cause}");
        }
    }
    words
}

const ABOUT: &str = "Confidential guests on any machine: a virtual machine monitor with QEMU's command line";
const VM_MODE: &str = "Virtual machines: a first argument with a dash is QEMU's command line, for example
  cloister -machine s390-ccw-virtio,confidential-guest-support=pv0 -object s390-pv-guest,id=pv0 \\
           -nographic -kernel IMAGE
`cloister -help` lists its options, `cloister -object help` the kinds of protection. Called as
cloister-system-s390x or qemu-system-s390x, every argument is read so.";
