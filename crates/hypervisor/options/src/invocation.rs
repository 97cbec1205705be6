//! The name under which the program was called, and what follows from it.
//!
//! The subcommands themselves are the binary's.

use std::fmt;

use crate::catalogue::Catalogue;
use crate::error::{OptionError, Problem};
use crate::keyval::parse_keyval;
use crate::table;

/// An architecture that guests can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// IBM Z.
    S390x,
    /// AMD64.
    X86_64,
    /// POWER.
    Ppc64,
}

impl Target {
    /// Every target that a program's name can choose. All have the machine `none`.
    pub const AVAILABLE: &'static [Self] = &[Self::S390x, Self::X86_64, Self::Ppc64];

    /// The name as in `qemu-system-NAME`.
    pub fn name(self) -> &'static str {
        match self {
            Self::S390x => "s390x",
            Self::X86_64 => "x86_64",
            Self::Ppc64 => "ppc64",
        }
    }

    /// The target with this name.
    fn from_name(name: &str) -> Result<Self, OptionError> {
        Self::AVAILABLE.iter().copied().find(|target| target.name() == name).ok_or_else(|| {
            let available: Vec<_> = Self::AVAILABLE.iter().map(|t| t.name()).collect();
            Problem::UnknownTarget(name.to_owned(), available.join(", ")).anywhere()
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a virtual machine's command line was called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// The program's name without its folder, as messages show it.
    pub program: String,
    /// The target's name if the program's name has one; without one the machine type decides.
    pub target: Option<String>,
}

impl Invocation {
    /// The target: as the program's name says, else the one that has the machine type, else the first available.
    pub fn resolve_target(&self, args: &[String]) -> Result<Target, OptionError> {
        if let Some(name) = &self.target {
            return Target::from_name(name);
        }
        let first = Target::AVAILABLE[0];
        let Some(machine) = machine_type(args) else {
            return Ok(first);
        };
        let has_it = |target: &Target| {
            Catalogue::new(*target).machine(&machine).is_some_and(|machine| machine.target.is_some())
        };
        // An unknown machine is refused by the parser, in its own words.
        Ok(Target::AVAILABLE.iter().copied().find(has_it).unwrap_or(first))
    }
}

/// The last machine type named among the arguments.
fn machine_type(args: &[String]) -> Option<String> {
    args.windows(2)
        .filter(|pair| {
            let name = pair[0].trim_start_matches('-');
            pair[0].starts_with('-') && table::find(name).is_some_and(|spec| spec.name == "machine")
        })
        .filter_map(|pair| {
            let parsed = parse_keyval(&pair[1], Some("type")).ok()?;
            parsed.tree.get("type")?.as_str().map(str::to_owned)
        })
        .next_back()
}

/// What a call of the program asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Run a virtual machine (or print help about one).
    Vm(Invocation, Vec<String>),
    /// A subcommand with its arguments.
    Subcommand(String, Vec<String>),
    /// Called as `cloister` with nothing at all: the caller shows what there is.
    Bare,
}

/// Decide from the program's name and its arguments (without the name) what is asked for.
///
/// Called as `qemu-system-TARGET` or `cloister-system-TARGET`, everything is a virtual machine's command line and a
/// word without a dash is a disk image. Called by any other name, a first argument without a dash is a subcommand.
pub fn classify(argv0: &str, args: Vec<String>) -> Command {
    let program = argv0.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("cloister").to_owned();
    let system = program.strip_prefix("qemu-system-").or_else(|| program.strip_prefix("cloister-system-"));
    if let Some(name) = system {
        let target = Some(name.to_owned());
        return Command::Vm(Invocation { program, target }, args);
    }
    match args.first() {
        None => Command::Bare,
        Some(first) if first.starts_with('-') => Command::Vm(Invocation { program, target: None }, args),
        Some(first) => Command::Subcommand(first.clone(), args[1..].to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_system_name_gives_the_target_and_takes_disk_images() {
        for name in ["/usr/bin/qemu-system-s390x", "cloister-system-s390x"] {
            let Command::Vm(invocation, args) = classify(name, words("disk.img -m 1G")) else {
                panic!("{name} is a virtual machine's command line");
            };
            assert_eq!(invocation.resolve_target(&args), Ok(Target::S390x));
            assert!(!invocation.program.contains('/'));
            assert_eq!(args[0], "disk.img");
        }
    }

    #[test]
    fn a_system_name_without_machines_is_refused() {
        let Command::Vm(invocation, args) = classify("qemu-system-riscv64", Vec::new()) else {
            panic!("a virtual machine's command line");
        };
        let error = invocation.resolve_target(&args).unwrap_err();
        assert!(error.report("x").contains("no machines for target 'riscv64'"));
    }

    #[test]
    fn the_machine_type_gives_the_target() {
        let Command::Vm(invocation, args) =
            classify("cloister", words("--machine s390-ccw-virtio-8.2,usb=off"))
        else {
            panic!("a virtual machine's command line");
        };
        assert_eq!(invocation.resolve_target(&args), Ok(Target::S390x));
    }

    #[test]
    fn as_cloister_a_word_is_a_subcommand_and_a_dash_a_machine() {
        assert_eq!(
            classify("./cloister", words("demo --json")),
            Command::Subcommand("demo".into(), words("--json"))
        );
        assert!(matches!(
            classify("cloister", words("-machine none demo")),
            Command::Vm(Invocation { target: None, .. }, _)
        ));
        assert_eq!(classify("cloister", Vec::new()), Command::Bare);
        assert_eq!(classify("", Vec::new()), Command::Bare);
    }
}
