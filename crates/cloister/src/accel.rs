//! `-accel`: which of the accelerators that a command line asks for this host has.
//!
//! KVM is for x86-64 guests under SEV and SEV-ES. It knows no machine.

use anyhow::bail;
use cloister_kvm::{Host, KvmDoor, RealKernel};
use cloister_options::CommandLine;
use cloister_platform::Door;
use std::sync::Arc;

/// Leaves out what this host does not have, up to the first that it has. What was left out, and why, in words.
pub(crate) fn settle(line: &mut CommandLine) -> anyhow::Result<Vec<String>> {
    settle_by(line, || open().map(drop))
}

/// The door to KVM, if that is what the command line has come to.
pub(crate) fn kvm(line: &CommandLine) -> anyhow::Result<Option<Arc<dyn Door>>> {
    if !wants_kvm(line) {
        return Ok(None);
    }
    Ok(Some(Arc::new(open().map_err(failed)?)))
}

fn settle_by(
    line: &mut CommandLine,
    usable: impl Fn() -> Result<(), cloister_kvm::Error>,
) -> anyhow::Result<Vec<String>> {
    let mut said = Vec::new();
    while wants_kvm(line) {
        let Err(why) = usable() else { break };
        let why = failed(why);
        if line.accel.len() == 1 {
            bail!(why);
        }
        line.accel.remove(0);
        said.push(why.to_string());
    }
    if wants_kvm(line) && (line.platform.is_some() || !line.injections.is_empty()) {
        bail!("-platform and -inject are for the software platform: leave them out, or use -accel soft");
    }
    match line.accel.first() {
        Some(next) if !said.is_empty() => said.push(format!("falling back to {}", next.name)),
        _ => {}
    }
    Ok(said)
}

fn wants_kvm(line: &CommandLine) -> bool {
    line.accel.first().is_some_and(|accel| accel.name == "kvm")
}

fn open() -> Result<KvmDoor<RealKernel>, cloister_kvm::Error> {
    KvmDoor::open(RealKernel::new(), Host::here().cpuid)
}

fn failed(why: cloister_kvm::Error) -> anyhow::Error {
    anyhow::anyhow!("failed to initialize kvm: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloister_kvm::{Device, Errno, OpenError, OpenFailure};
    use cloister_options::{Invocation, Outcome, Target};

    fn line(args: &[&str]) -> CommandLine {
        let invocation = Invocation { program: "qemu-system-x86_64".into(), target: None };
        let args: Vec<_> = args.iter().map(|arg| (*arg).to_owned()).collect();
        match cloister_options::parse(&invocation, &cloister_cgs::catalogue(Target::X86_64), &args) {
            Ok(Outcome::Run(line)) => *line,
            other => panic!("{other:?}"),
        }
    }

    fn missing() -> Result<(), cloister_kvm::Error> {
        let failure = OpenFailure::Errno(Errno::NO_ENTRY);
        Err(OpenError { device: Device::Sev, failure }.into())
    }

    #[test]
    fn without_the_device_the_next_accelerator_is_taken_and_said() {
        for args in [["-machine", "none,accel=kvm:tcg"].as_slice(), &["-accel", "kvm", "-accel", "tcg"]] {
            let mut line = line(args);
            let said = settle_by(&mut line, missing).unwrap();
            assert!(said[0].starts_with("failed to initialize kvm: cannot open /dev/sev: it does not exist"));
            assert_eq!(said[1..], ["falling back to tcg"]);
            assert_eq!(line.accel[0].name, "tcg");
            assert!(kvm(&line).unwrap().is_none());
        }
    }

    #[test]
    fn without_the_device_and_another_accelerator_nothing_starts() {
        let mut line = line(&["-accel", "kvm"]);
        let error = settle_by(&mut line, missing).unwrap_err().to_string();
        assert!(error.contains("modprobe ccp"), "{error}");
    }

    #[test]
    fn with_the_device_kvm_is_taken_and_nothing_said() {
        let mut line = line(&["-machine", "q35,accel=kvm:tcg"]);
        assert!(settle_by(&mut line, || Ok(())).unwrap().is_empty());
        assert!(wants_kvm(&line));
        let mut line = self::line(&["-machine", "q35,accel=kvm:tcg", "-platform", "/p"]);
        assert!(settle_by(&mut line, || Ok(())).is_err() && settle_by(&mut line, missing).is_ok());
        // What comes before KVM is there always.
        let mut line = self::line(&["-machine", "q35,accel=tcg:kvm"]);
        assert!(settle_by(&mut line, missing).unwrap().is_empty() && !wants_kvm(&line));
    }
}
