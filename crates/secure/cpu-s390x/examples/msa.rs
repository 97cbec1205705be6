//! Throughput of the message-security assist, as a guest sees it: an instruction over a megabyte, again and again.
//!
//! `msa [SECONDS]`: so long for each function (0.5 if nothing is said).

mod bare;

use cloister_cpu_s390x::RunLimit;
use std::time::{Duration, Instant};

const LENGTH: u64 = 1 << 20;

/// Name, instruction, general register 0, how many bytes an operand has.
const FUNCTIONS: &[(&str, u32, u64, u64)] = &[
    ("AES-128-ECB", 0xb92e_0046, 18, LENGTH),
    ("AES-128-CBC encipher", 0xb92f_0046, 18, LENGTH),
    ("AES-128-CBC decipher", 0xb92f_0046, 18 | 0x80, LENGTH),
    ("AES-256-CBC decipher", 0xb92f_0046, 20 | 0x80, LENGTH),
    ("AES-128-XTS", 0xb92e_0046, 50, LENGTH),
    ("AES-256-XTS", 0xb92e_0046, 52, LENGTH),
    ("AES-128-XTS by sectors", 0xb92e_0046, 50, 512),
    ("AES-128-CTR", 0xb92d_8046, 18, LENGTH),
    ("AES-128-CTR by pages", 0xb92d_8046, 18, 4096),
    ("AES-128-GCM", 0xb929_8046, 18 | 0x300, LENGTH),
    ("AES-128-CMAC", 0xb91e_0046, 18, LENGTH),
    ("GHASH", 0xb93e_0046, 65, LENGTH),
    ("SHA-1", 0xb93e_0046, 1, LENGTH),
    ("SHA-256", 0xb93e_0046, 2, LENGTH),
    ("SHA-256 by blocks", 0xb93e_0046, 2, 64),
    ("SHA-512", 0xb93e_0046, 3, LENGTH),
    ("SHA3-256", 0xb93e_0046, 33, LENGTH / 136 * 136),
    ("TDES-CBC encipher", 0xb92f_0046, 3, LENGTH),
    ("SHA-512-DRNG", 0xb93c_0046, 3, LENGTH),
    ("TRNG", 0xb93c_0046, 114, LENGTH),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seconds = std::env::args().nth(1).map_or(Ok(0.5), |text| text.parse())?;
    for &(name, text, function, length) in FUNCTIONS {
        let rate = measure(text, function, length, Duration::from_secs_f64(seconds))?;
        println!("{name:24}{rate:8.0} MB/s");
    }
    Ok(())
}

fn measure(text: u32, function: u64, length: u64, time: Duration) -> Result<f64, Box<dyn std::error::Error>> {
    // Again while it is condition code 3; then the registers as they were.
    let program = format!(
        "
        .origin 0x2000
        0: lgr %r4,%r10
        lgr %r5,%r13
        lgr %r6,%r11
        lgr %r7,%r13
        lgr %r8,%r12
        lghi %r9,0
        lgr %r0,%r2
        1: .long {text:#x}
        jo 1b
        brctg %r3,0b
        2: j 2b
        "
    );
    let object = cloister_asm_s390x::assemble(&program, "msa.s")?;
    let system = bare::machine("msa", 8 << 20, &object.bytes, |state| {
        state.gprs[1] = 0x3000;
        state.gprs[2] = function;
        state.gprs[3] = 1 << 40;
        (state.gprs[10], state.gprs[11], state.gprs[12]) = (0x10_0000, 0x30_0000, 0x50_0000);
        state.gprs[13] = length;
    })?;
    let start = Instant::now();
    while start.elapsed() < time {
        system.run(0, RunLimit { instructions: Some(200), block: false }, None)?;
    }
    let elapsed = start.elapsed().as_secs_f64();
    let rounds = (1_u64 << 40) - system.state(0)?.gprs[3];
    Ok(rounds as f64 * length as f64 / elapsed / 1e6)
}
