//! Nanoseconds of one vector instruction. `vector [SECONDS]`
//!
//! A loop of eight copies; the branch back is in the number.

mod bare;

use cloister_cpu_s390x::decode_any;
use std::time::Duration;

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
    let system = bare::machine("vector", 1 << 20, &bare::repeated(&code, COPIES), |state| {
        state.crs[0] |= 0x0006_0000;
        state.vrs =
            std::array::from_fn(|n| (n as u128 + 1).wrapping_mul(0x0102_0408_1121_4181_3c5a_69f0_0f96_a5c3));
        state.gprs[3] = 0x8000;
        state.gprs[4] = 9;
    })?;
    let turns = 100_000;
    let best = bare::fastest(&system, turns * (COPIES + 1), time)?;
    Ok(best * 1e9 / (turns * COPIES) as f64)
}
