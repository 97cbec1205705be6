//! Registers of a CPU: `info registers` and `$name` in expressions, in QEMU's layout for s390x.
//!
//! The registers of a protected guest's CPU are not the host's to see; the platform refuses them, and so does this.

use crate::arguments::Arguments;
use crate::{Answer, ExpressionError, Monitor, Refusal};
use cloister_platform::arch::s390x::{CpuState, facility};
use cloister_platform::{Vm, VmError};
use std::fmt::Write;

/// What to say instead of registers.
pub(crate) const HIDDEN: &str =
    "the guest is protected: its CPUs keep their registers from the host, and no command can show them";

/// `info registers`.
pub(crate) fn info(monitor: &mut Monitor, arguments: &Arguments) -> Answer {
    let cpus = monitor.operator.machine.cpus();
    if cpus.is_empty() {
        return Err(Refusal::words("No CPU available"));
    }
    let wanted: Vec<u16> = if arguments.has('a') {
        cpus.iter().map(|cpu| cpu.index).collect()
    } else {
        let wanted = arguments.number(0).unwrap_or(u64::from(monitor.cpu));
        let cpu = cpus.iter().find(|cpu| u64::from(cpu.index) == wanted);
        vec![cpu.ok_or_else(|| Refusal::words(format!("CPU#{wanted} not available")))?.index]
    };
    if is_protected(monitor) {
        return Err(Refusal::words(HIDDEN));
    }
    let vm = monitor.operator.machine.vm().ok_or_else(|| Refusal::words("No CPU available"))?;
    let states = quiet(monitor, || wanted.iter().map(|cpu| vm.state(*cpu)).collect::<Result<Vec<_>, _>>())?;
    let mut out = String::new();
    for (cpu, state) in wanted.iter().zip(&states?) {
        write(&mut out, *cpu, state, vm.has_facility(facility::VECTOR)).expect("a String takes everything");
    }
    Ok(out)
}

/// The value of a register.
pub(crate) fn value(monitor: &Monitor, name: &str) -> Result<u64, ExpressionError> {
    // Names are checked first: the machine is not stopped for a misspelt one.
    if select(&CpuState::default(), name).is_none() {
        return Err(ExpressionError::UnknownRegister);
    }
    if is_protected(monitor) {
        return Err(ExpressionError::Register(HIDDEN.to_owned()));
    }
    let machine = &monitor.operator.machine;
    let vm = machine.vm().ok_or_else(|| ExpressionError::Register("No CPU available".to_owned()))?;
    let refuse = |error: &dyn std::error::Error| ExpressionError::Register(error.to_string());
    let state = quiet(monitor, || vm.state(monitor.cpu)).map_err(|error| refuse(&error))?;
    select(&state.map_err(|error| refuse(&error))?, name).ok_or(ExpressionError::UnknownRegister)
}

/// Whether the guest is protected now, as far as the platform has said so.
pub(crate) fn is_protected(monitor: &Monitor) -> bool {
    monitor.operator.machine.confidential().is_some_and(|confidential| confidential.secure == Some(true))
}

/// Does something while no CPU is in the core.
pub(crate) fn quiet<T>(monitor: &Monitor, what: impl FnOnce() -> T) -> Result<T, Refusal> {
    let (mut what, mut out) = (Some(what), None);
    monitor.operator.machine.at_rest(&mut || out = what.take().map(|what| what()))?;
    out.ok_or_else(|| cloister_control::ControlError::new("the machine has ended").into())
}

/// Where a logical address of the current CPU leads.
pub(crate) fn translate(monitor: &Monitor, vm: &Vm, address: u64) -> Result<Option<u64>, VmError> {
    Ok(vm.translate(monitor.cpu, address)?.map(|found| found.absolute))
}

fn select(state: &CpuState, name: &str) -> Option<u64> {
    let numbered = |prefix: &str| -> Option<usize> {
        name.strip_prefix(prefix)?.parse().ok().filter(|number| *number < 16)
    };
    match name {
        "pc" | "pswa" => Some(state.psw.addr),
        "pswm" => Some(state.psw.mask),
        "prefix" => Some(u64::from(state.prefix)),
        "fpc" => Some(u64::from(state.fpc)),
        "cpu_timer" => Some(state.cpu_timer),
        "ckc" => Some(state.clock_comparator),
        "todpr" => Some(u64::from(state.todpr)),
        "bea" => Some(state.breaking_event),
        _ => None
            .or_else(|| numbered("r").map(|number| state.gprs[number]))
            .or_else(|| numbered("c").map(|number| state.crs[number]))
            .or_else(|| numbered("cr").map(|number| state.crs[number]))
            .or_else(|| numbered("f").map(|number| state.fpr(number)))
            .or_else(|| numbered("a").map(|number| u64::from(state.ars[number])))
            .or_else(|| numbered("acr").map(|number| u64::from(state.ars[number]))),
    }
}

/// As QEMU prints a CPU; the last lines are ours.
fn write(out: &mut String, cpu: u16, state: &CpuState, vectors: bool) -> std::fmt::Result {
    let cc = state.psw.mask >> 44 & 3;
    writeln!(out, "\nCPU#{cpu}")?;
    writeln!(out, "PSW=mask {:016x} addr {:016x} cc {cc:02x}", state.psw.mask, state.psw.addr)?;
    let doublewords = |out: &mut String, letter, registers: &[u64; 16]| {
        let named =
            registers.iter().enumerate().map(|(number, value)| format!("{letter}{number:02}={value:016x}"));
        rows(out, 4, &named.collect::<Vec<_>>())
    };
    doublewords(out, 'R', &state.gprs)?;
    if vectors {
        let named = state.vrs.iter().enumerate().map(|(number, value)| format!("V{number:02}={value:032x}"));
        rows(out, 2, &named.collect::<Vec<_>>())?;
    } else {
        doublewords(out, 'F', &state.fprs())?;
    }
    doublewords(out, 'C', &state.crs)?;
    let named = state.ars.iter().enumerate().map(|(number, value)| format!("A{number:02}={value:08x}"));
    rows(out, 4, &named.collect::<Vec<_>>())?;
    writeln!(out, "PREFIX={:08x} FPC={:08x} TODPR={:08x}", state.prefix, state.fpc, state.todpr)?;
    writeln!(
        out,
        "TIMER={:016x} CKC={:016x} BEA={:016x}",
        state.cpu_timer, state.clock_comparator, state.breaking_event
    )?;
    writeln!(out)
}

fn rows(out: &mut String, columns: usize, cells: &[String]) -> std::fmt::Result {
    cells.chunks(columns).try_for_each(|row| writeln!(out, "{}", row.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_have_the_fields_names() {
        let mut state = CpuState::default();
        state.psw.addr = 7;
        state.gprs[15] = 8;
        state.crs[1] = 9;
        let pairs = [
            ("pc", Some(7)),
            ("r15", Some(8)),
            ("c1", Some(9)),
            ("cr1", Some(9)),
            ("r16", None),
            ("r", None),
        ];
        for (name, expected) in pairs {
            assert_eq!(select(&state, name), expected, "{name}");
        }
    }

    #[test]
    fn the_layout_is_qemus() {
        let mut text = String::new();
        write(&mut text, 3, &CpuState::default(), false).unwrap();
        assert!(text.starts_with(
            "\nCPU#3\nPSW=mask 0000000000000000 addr 0000000000000000 cc 00\n\
             R00=0000000000000000 R01=0000000000000000 R02=0000000000000000 R03=0000000000000000\n"
        ));
        assert!(text.contains("\nF00=0000000000000000 ") && text.contains("\nC12=0000000000000000 "));

        text.clear();
        let mut state = CpuState::default();
        (state.vrs[1], state.vrs[31]) = (0x17 << 64 | 0x18, 0x19);
        write(&mut text, 3, &state, true).unwrap();
        assert!(text.contains(
            " R15=0000000000000000\n\
             V00=00000000000000000000000000000000 V01=00000000000000170000000000000018\n\
             V02=00000000000000000000000000000000 V03=00000000000000000000000000000000\n"
        ));
        assert!(text.contains(" V31=00000000000000000000000000000019\nC00=") && !text.contains("F00="));
    }
}
