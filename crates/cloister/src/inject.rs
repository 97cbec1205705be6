//! `-inject`: faults of the modelled firmware, so that managers and CI can test what they do about them.
//!
//! The names are those of the specifications: here operations and statuses become numbers, and the firmware model does
//! the rest. A real machine has no such switch.

use anyhow::bail;
use cloister_formats::sev::command::Command;
use cloister_formats::sev::status::Status;
use cloister_options::{CommandLine, Injection, Target};

/// A fault of the AMD secure processor's firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SevFault {
    /// The command that fails.
    pub(crate) command: Command,
    /// Its status.
    pub(crate) status: Status,
    /// At which call of the command, counted from 1.
    pub(crate) nth: u32,
}

/// The faults of a command line.
///
/// # Errors
/// If there is no such mechanism, operation or status; the words list those that there are.
pub(crate) fn sev_faults(line: &CommandLine) -> anyhow::Result<Vec<SevFault>> {
    line.injections.iter().map(fault).collect()
}

/// Refuses faults that do not exist, or that the machine of the command line cannot have.
pub(crate) fn check(line: &CommandLine) -> anyhow::Result<()> {
    if sev_faults(line)?.is_empty() || line.target == Target::X86_64 {
        return Ok(());
    }
    bail!(
        "-inject sev.*: the machine {} has no AMD secure processor; it is in machines of the target x86_64 (q35, pc)",
        line.machine.name
    );
}

/// Whether the command line asks what could be injected.
pub(crate) fn asks_for_help(line: &CommandLine) -> bool {
    line.injections.iter().any(|injection| injection.operation == "help")
}

/// What can be injected.
pub(crate) fn help() -> String {
    format!(
        "-inject MECHANISM.OPERATION=STATUS[@N] makes the Nth such operation of the modelled firmware fail (the first \
         without @N);\nthe status is a name or a number. The firmware does nothing else then. A question \
         for a length is a call too: the measurement of a launch is the 2nd sev.launch_measure.\nOperations:\n{}\nStatuses:\n{}",
        columns(operations()),
        columns(statuses())
    )
}

fn fault(injection: &Injection) -> anyhow::Result<SevFault> {
    let Injection { operation, status, nth } = injection;
    let at = format!("-inject {operation}={status}@{nth}");
    let Some(name) = operation.strip_prefix("sev.") else {
        bail!(
            "{at}: no firmware model of that name; there is sev, for AMD SEV: sev.launch_secret for example"
        );
    };
    let Some(command) = Command::from_name(&name.replace('.', "_")) else {
        bail!("{at}: no operation '{operation}'; there are:\n{}", columns(operations()));
    };
    let found = match number(status) {
        Some(code) => Some(Status(code)),
        None => Status::from_name(status).filter(|status| *status != Status::NO_FW_CALL),
    };
    match found {
        Some(Status::SUCCESS) => bail!("{at}: SUCCESS is no failure; give another status"),
        Some(status) => Ok(SevFault { command, status, nth: *nth }),
        None => bail!(
            "{at}: no status '{status}'; there are the numbers 1 to 0xffff, and:\n{}",
            columns(statuses())
        ),
    }
}

/// A status of the mailbox: 16 bits.
fn number(text: &str) -> Option<u32> {
    let code = match text.strip_prefix("0x") {
        Some(digits) => u16::from_str_radix(digits, 16).ok()?,
        None => text.parse::<u16>().ok()?,
    };
    Some(code.into())
}

fn operations() -> impl Iterator<Item = String> {
    Command::ALL.iter().filter_map(|command| Some(format!("sev.{}", command.name()?.to_ascii_lowercase())))
}

fn statuses() -> impl Iterator<Item = String> {
    let failures = Status::ALL.iter().filter(|status| !status.is_success());
    failures.filter_map(|status| status.name().map(str::to_owned))
}

fn columns(names: impl Iterator<Item = String>) -> String {
    let names: Vec<_> = names.collect();
    let rows = names.chunks(3).map(|row| {
        let row: String = row.iter().map(|name| format!("  {name:<27}")).collect();
        row.trim_end().to_owned()
    });
    rows.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(operation: &str, status: &str) -> Result<SevFault, String> {
        fault(&Injection { operation: operation.into(), status: status.into(), nth: 2 })
            .map_err(|e| e.to_string())
    }

    #[test]
    fn names_and_numbers_are_those_of_the_specification() {
        let wanted = SevFault { command: Command::LAUNCH_SECRET, status: Status::HWERROR_PLATFORM, nth: 2 };
        for operation in ["sev.launch_secret", "sev.launch-secret", "sev.launch.secret", "sev.LAUNCH_SECRET"]
        {
            for status in ["HWERROR_PLATFORM", "hwerror_platform", "0x13", "19"] {
                assert_eq!(read(operation, status), Ok(wanted));
            }
        }
        assert_eq!(read("sev.init", "0xffff").unwrap().status, Status(0xffff));
    }

    #[test]
    fn a_wrong_name_is_answered_with_the_right_ones() {
        let listed = read("sev.launch_secrets", "5").unwrap_err();
        assert!(listed.split_whitespace().any(|word| word == "sev.launch_secret"), "{listed}");
        assert!(read("sev.init", "BAD").unwrap_err().contains("BAD_MEASUREMENT"));
        assert!(read("sev.init", "SUCCESS").unwrap_err().contains("no failure"));
        assert!(read("sev.init", "0").is_err() && read("sev.init", "65536").is_err());
        assert!(read("tdx.init", "5").unwrap_err().contains("sev"));
        for command in Command::ALL {
            assert!(help().contains(&format!("sev.{}", command.name().unwrap().to_lowercase())));
        }
    }
}
