//! Nanoseconds of one floating-point instruction, with the inexact flag on (as after any division) and with it taken away
//! before each. `float [SECONDS]`
//!
//! A loop without the instruction is subtracted.

mod bare;

use std::time::Duration;

/// First operand 2, second 6, third 4 (floating point); general register 6.
const INSTRUCTIONS: &[(&str, u32)] = &[
    ("adbr", 0xb31a_0026),
    ("sdbr", 0xb31b_0026),
    ("mdbr", 0xb31c_0026),
    ("ddbr", 0xb31d_0026),
    ("sqdbr", 0xb315_0026),
    ("madbr", 0xb31e_2046),
    ("cdbr", 0xb319_0026),
    ("fidbr", 0xb35f_7026),
    ("ldebr", 0xb304_0026),
    ("ledbr", 0xb344_0026),
    ("cdgbr", 0xb3a5_0026),
    ("cgdbr", 0xb3a9_5066),
    ("aebr", 0xb30a_0026),
    ("meebr", 0xb317_0026),
    ("debr", 0xb30d_0026),
    ("sqebr", 0xb314_0026),
    ("maebr", 0xb30e_2046),
];

/// LDR 2,4 and SFPC 5.
const RESTORE: &[u8] = &[0x28, 0x24];
const CLEAR: &[u8] = &[0xb3, 0x84, 0x00, 0x50];
/// Instructions in a turn of the loop.
const COPIES: u64 = 8;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seconds = std::env::args().nth(1).map_or(Ok(0.3), |word| word.parse())?;
    let seconds = Duration::from_secs_f64(seconds);
    let mut bases = [0.0; 2];
    for (base, clear) in bases.iter_mut().zip([false, true]) {
        *base = nanoseconds(&[], clear, seconds)?;
    }
    println!("{:<8}{:>12}{:>12}", "", "flag on", "flag off");
    for (name, code) in INSTRUCTIONS {
        let code = code.to_be_bytes();
        let on = nanoseconds(&code, false, seconds)? - bases[0];
        let off = nanoseconds(&code, true, seconds)? - bases[1];
        println!("{name:<8}{on:>9.1} ns{off:>9.1} ns");
    }
    Ok(())
}

/// Time of one copy of the instruction with what goes before it.
fn nanoseconds(code: &[u8], clear: bool, time: Duration) -> Result<f64, Box<dyn std::error::Error>> {
    let one = [RESTORE, if clear { CLEAR } else { &[] }, code].concat();
    let program = bare::repeated(&one, COPIES);
    let system = bare::machine("float", 1 << 20, &program, |state| {
        state.crs[0] |= 0x0004_0000;
        state.fpc = 0x0008_0000;
        state.vrs[4] = u128::from(1.234_567_f64.to_bits()) << 64;
        state.vrs[6] = u128::from(0.777_123_f64.to_bits()) << 64;
        state.gprs[6] = 0x1234_5678_9abc_def1;
    })?;
    let each = (code.len() / 4 + 1 + usize::from(clear)) as u64;
    let turns = 100_000;
    let best = bare::fastest(&system, turns * (each * COPIES + 1), time)?;
    Ok(best * 1e9 / (turns * COPIES) as f64)
}
