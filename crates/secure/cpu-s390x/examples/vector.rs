//! Nanoseconds of one vector instruction. `vector [SECONDS]`
//!
//! A loop of eight copies; the branch back is in the number.

use cloister_arch::s390x::{Psw, RunState, TimeMode, VmConfig, facility};
use cloister_cpu_s390x::{FACILITIES, RunLimit, System, decode_any};
use cloister_memory::Storage;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// First operand 1, second 2 (or storage at register 3), third 3, fourth 4; byte and larger sizes.
const INSTRUCTIONS: &[u64] = &[
    0xe712_0000_0056, // vlr
    0xe710_3000_0006, // vl
    0xe710_3000_000e, // vst
    0xe704_3000_0036, // vlm 0-4
    0xe704_3000_003e, // vstm 0-4
    0xe714_3000_0037, // vll
    0xe710_3000_0007, // vlbb
    0xe714_3000_0022, // vlvg
    0xe712_3000_306d, // vx
    0xe712_3000_00f3, // vab
    0xe712_3000_20f3, // vaf
    0xe712_3000_30f3, // vag
    0xe712_3000_00f8, // vceqb
    0xe712_3000_0030, // veslb
    0xe712_3000_0070, // veslvb
    0xe712_3000_0074, // vsl
    0xe712_3000_0075, // vslb
    0xe712_3003_0077, // vsldb
    0xe712_3000_008c, // vperm
    0xe712_3000_0061, // vmrhb
    0xe712_3000_2094, // vpkf
    0xe712_3000_00d5, // vuplhb
    0xe712_3000_00a2, // vmlb
    0xe712_3000_20a4, // vmlef
    0xe712_3000_30b4, // vgfmg
    0xe712_3000_0066, // vcksm
    0xe712_3000_0064, // vsumb
    0xe712_3030_0080, // vfeezbs
    0xe712_3030_0081, // vfenezbs
    0xe712_3030_0082, // vfaezbs
    0xe712_3000_408a, // vstrcb
    0xe712_3000_408b, // vstrsb
    0xe712_0000_005c, // vistrb
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seconds = std::env::args().nth(1).map_or(Ok(0.2), |word| word.parse())?;
    for code in INSTRUCTIONS {
        let bytes: [u8; 8] = code.to_be_bytes();
        let [_, _, code @ ..] = bytes;
        let each = nanoseconds(code, Duration::from_secs_f64(seconds))?;
        println!("{:<8}{each:>7.1} ns", decode_any(code).0.unwrap_or("?"));
    }
    Ok(())
}

fn nanoseconds(code: [u8; 6], time: Duration) -> Result<f64, Box<dyn std::error::Error>> {
    const COPIES: u64 = 8;
    let mut program = code.repeat(COPIES as usize);
    let back = (-(program.len() as i64) / 2) as i16;
    program.extend_from_slice(&[0xa7, 0xf4]);
    program.extend_from_slice(&back.to_be_bytes());
    let storage = Arc::new(Storage::new(1 << 20)?);
    storage.ram().copy_in(0x2000, &program);
    let mut facilities = [0; 4];
    FACILITIES.iter().chain(&[129, 135, 148]).for_each(|&bit| facility::set(&mut facilities, bit, true));
    let config = VmConfig {
        memory_bytes: storage.size(),
        max_cpus: 1,
        facilities,
        cpu_id: 0,
        time: TimeMode::Real,
        tod_start: None,
        name: "vector".into(),
        uuid: [0; 16],
    };
    let system = System::new(config, storage)?;
    let mut state = system.state(0)?;
    state.psw = Psw { mask: Psw::EA | Psw::BA, addr: 0x2000 };
    state.crs[0] |= 0x0006_0000;
    state.vrs =
        std::array::from_fn(|n| (n as u128 + 1).wrapping_mul(0x0102_0408_1121_4181_3c5a_69f0_0f96_a5c3));
    state.gprs[3] = 0x8000;
    state.gprs[4] = 9;
    state.run_state = RunState::Operating;
    system.set_state(0, &state)?;
    let turns = 100_000;
    let limit = RunLimit { instructions: Some(turns * (COPIES + 1)), block: false };
    let (mut best, start) = (f64::MAX, Instant::now());
    while start.elapsed() < time {
        let begin = Instant::now();
        system.run(0, limit, None)?;
        best = best.min(begin.elapsed().as_secs_f64());
    }
    Ok(best * 1e9 / (turns * COPIES) as f64)
}
