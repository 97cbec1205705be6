//! What the engine and the machine have counted, for people.

use crate::{ControlError, Machine};
use cloister_platform::PageCounts;
use cloister_platform::arch::profile::{HotBlock, Profile, Translated, UnknownInstruction};
use std::fmt::Write;
use std::time::Duration;

/// How often CPUs left the core for one reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExitCount {
    /// In a word or two.
    pub reason: &'static str,
    /// How often.
    pub count: u64,
    /// Time that the machine took to deal with it, all together.
    pub time: Duration,
}

/// The answer to `info jit` and `x-query-jit`: in QEMU's layout what both have, then the interpreter's numbers.
///
/// # Errors
/// If nothing of this program's runs the guest: there is none, or the kernel does.
pub fn jit(machine: &dyn Machine) -> Result<String, ControlError> {
    let profile = machine.vm().and_then(|vm| vm.profile().ok());
    let refused = || ControlError::new("JIT information is only available with accel=tcg");
    profile.as_ref().map(jit_text).ok_or_else(refused)
}

/// As [`jit`], of these numbers.
pub fn jit_text(profile: &Profile) -> String {
    let Profile { decoded, compiled, .. } = profile;
    let (target, host, ratio) = averages(compiled);
    let mut out = format!(
        "Translation buffer state:\n\
         gen code size       {}/{}\n\
         TB count            {}\n\
         TB avg target size  {target} max={} bytes\n\
         TB avg host size    {host} bytes (expansion ratio: {ratio:.1})\n\n\
         Statistics:\n\
         TB flush count      {}\n\
         TLB full flushes    {}\n\
         TLB fills           {}\n",
        compiled.host_bytes,
        profile.code_room,
        compiled.blocks,
        compiled.longest,
        profile.code_flushes,
        profile.tlb_flushes,
        profile.tlb_fills,
    );
    for (name, kind) in [("Compiled", compiled), ("Decoded for the interpreter", decoded)] {
        let (target, host, _) = averages(kind);
        let _ = writeln!(out, "\n{name}:\nblocks              {}", kind.blocks);
        let _ = writeln!(out, "instructions        {}", kind.instructions);
        let _ = writeln!(out, "average block       {target} bytes of the guest, {host} of the host");
        if kind.nanoseconds > 0 {
            let each = kind.nanoseconds / kind.instructions.max(1);
            let _ = writeln!(
                out,
                "time                {} ({each} ns for an instruction)",
                milliseconds(kind.nanoseconds)
            );
        }
    }
    out
}

fn averages(kind: &Translated) -> (u64, u64, f64) {
    let blocks = kind.blocks.max(1);
    let ratio = kind.host_bytes as f64 / kind.guest_bytes.max(1) as f64;
    (kind.guest_bytes / blocks, kind.host_bytes / blocks, ratio)
}

fn milliseconds(ns: u64) -> String {
    format!("{:.1} ms", ns as f64 / 1e6)
}

/// The instructions that the guest does not have and executed.
pub fn unknown_text(unknown: &[UnknownInstruction]) -> String {
    let mut out = "Operation exceptions by instruction:\n".to_owned();
    for UnknownInstruction { text, mnemonic, count, first } in unknown {
        let len = [2, 4, 4, 6][usize::from(text[0] >> 6)];
        let bytes = text[..len].iter().fold(String::new(), |bytes, byte| bytes + &format!("{byte:02x}"));
        let name = mnemonic.as_deref().unwrap_or("not known to the core");
        let why = if mnemonic.is_some() { " (the guest lacks its facility)" } else { "" };
        let _ = writeln!(out, "{count:>12}  {bytes:<12}  first at {first:#x}  {name}{why}");
    }
    or_none(out, unknown.is_empty())
}

/// The blocks in which most instructions were executed.
pub fn hot_text(hot: &[HotBlock], most: usize, all: u64) -> String {
    let mut out = "Hot blocks (share of all instructions, executions, bytes, address, S or problem state):\n"
        .to_owned();
    for block in hot.iter().take(most) {
        let share = block.instructions as f64 * 100.0 / all.max(1) as f64;
        let state = if block.problem { 'P' } else { 'S' };
        let (executions, length, address) = (block.executions, block.length, block.address);
        let _ = writeln!(
            out,
            "{share:>5.1}%  {executions:>12}  {length:>4}  {address:#018x} {state}  {}",
            block.mnemonics
        );
    }
    or_none(out, hot.is_empty())
}

/// Why CPUs left the core.
pub fn exits_text(exits: &[ExitCount]) -> String {
    let mut out = "Exits by reason (count, time in the handler):\n".to_owned();
    for ExitCount { reason, count, time } in exits {
        let each = time.as_nanos() / u128::from(*count).max(1);
        let total = milliseconds(time.as_nanos() as u64);
        let _ = writeln!(out, "{count:>12}  {total:>12}  {each:>8} ns each  {reason}");
    }
    or_none(out, exits.is_empty())
}

/// Conversions of pages.
pub fn pages_text(counts: &PageCounts) -> String {
    let mut out = "Page conversions:\n".to_owned();
    for (name, count) in counts.conversions.named() {
        let _ = writeln!(out, "{count:>12}  {name}");
    }
    out
}

fn or_none(text: String, empty: bool) -> String {
    if empty { text + "        none\n" } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeMachine;

    #[test]
    fn words_of_qemu_and_our_own_numbers() {
        let decoded = Translated {
            blocks: 4,
            instructions: 20,
            guest_bytes: 80,
            longest: 60,
            host_bytes: 800,
            nanoseconds: 2_000_000,
        };
        let text = jit_text(&Profile { decoded, tlb_fills: 9, code_room: 1 << 20, ..Profile::default() });
        for line in [
            "gen code size       0/1048576",
            "TB count            0",
            "TB avg target size  0 max=0 bytes",
            "TB avg host size    0 bytes (expansion ratio: 0.0)",
            "TLB fills           9",
            "average block       20 bytes of the guest, 200 of the host",
            "time                2.0 ms (100000 ns for an instruction)",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn without_a_guest_there_is_nothing_to_tell() {
        let refused = jit(&FakeMachine::none()).unwrap_err().to_string();
        assert_eq!(refused, "JIT information is only available with accel=tcg");
    }

    #[test]
    fn tables_name_what_was_counted() {
        let unknown = |text, mnemonic: Option<&str>| UnknownInstruction {
            text,
            mnemonic: mnemonic.map(str::to_owned),
            count: 3,
            first: 0x1234,
        };
        let text = unknown_text(&[
            unknown([0xb9, 0x3c, 0, 0, 0, 0], None),
            unknown([0xe7, 0, 0, 0, 0, 6], Some("vl")),
        ]);
        assert!(text.contains("3  b93c0000      first at 0x1234  not known to the core\n"), "{text}");
        assert!(
            text.contains("e70000000006  first at 0x1234  vl (the guest lacks its facility)\n"),
            "{text}"
        );
        assert!(exits_text(&[]).ends_with("none\n"));
        let block = HotBlock {
            address: 0x2000,
            problem: true,
            length: 8,
            executions: 25,
            instructions: 50,
            mnemonics: "lr brc".into(),
        };
        let text = hot_text(&[block], 20, 200);
        assert!(text.contains(" 25.0%            25     8  0x0000000000002000 P  lr brc\n"), "{text}");
    }
}
