//! The name under which the program was called, and what follows from it.
//!
//! The subcommands themselves are the binary's.

use std::fmt;

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
    /// Every target whose machines this version has.
    pub const AVAILABLE: &'static [Self] = &[Self::S390x];

    /// The name as in `qemu-system-NAME`.
    pub fn name(self) -> &'static str {
        match self {
            Self::S390x => "s390x",
            Self::X86_64 => "x86_64",
            Self::Ppc64 => "ppc64",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::S390x, Self::X86_64, Self::Ppc64].into_iter().find(|target| target.name() == name)
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
    /// The target that the name implies; without one the machine type decides.
    pub target: Option<Target>,
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
        let target = Target::from_name(name);
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
            assert_eq!(invocation.target, Some(Target::S390x));
            assert!(!invocation.program.contains('/'));
            assert_eq!(args[0], "disk.img");
        }
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
