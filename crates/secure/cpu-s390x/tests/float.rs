//! Floating-point instructions on the bare core: what traps leave behind, and the controls of vector instructions.
#![expect(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use cloister_arch::s390x::{CpuState, Exit, Psw, RunState, TimeMode, VmConfig, facility};
use cloister_cpu_s390x::{CoreExit, RunLimit, System};
use cloister_memory::Storage;
use std::sync::Arc;

const SCALAR: &[u16] = &[37, 41];
const VECTOR: &[u16] = &[37, 41, 129];
const ALL: &[u16] = &[37, 41, 129, 135, 148];

/// Masks of the floating-point-control register.
const INVALID: u32 = 0x8000_0000;
const DIVIDE: u32 = 0x4000_0000;
const OVERFLOW: u32 = 0x2000_0000;
const UNDERFLOW: u32 = 0x1000_0000;
const INEXACT: u32 = 0x0800_0000;

/// What an instruction left.
#[derive(Debug)]
struct After {
    state: CpuState,
    /// Program-interruption code and the word at 144, or none.
    interruption: Option<(u32, u32)>,
}

impl After {
    fn long(&self, r: usize) -> u64 {
        self.state.fpr(r)
    }

    fn short(&self, r: usize) -> u32 {
        (self.state.fpr(r) >> 32) as u32
    }

    fn cc(&self) -> u64 {
        self.state.psw.mask >> 44 & 3
    }

    fn code(&self) -> u32 {
        self.interruption.unwrap().0 & 0xffff
    }

    /// The data- or vector-exception code, which stands in two places.
    fn dxc(&self) -> u32 {
        let (code, dxc) = self.interruption.unwrap();
        assert!(matches!(code & 0xff, 0x07 | 0x1b), "{code:x}");
        assert_eq!(self.state.fpc >> 8 & 0xff, dxc);
        dxc
    }

    fn flags(&self) -> u32 {
        self.state.fpc >> 16 & 0xff
    }
}

/// Executes one instruction with condition code 3 and these registers; its interruption leads nowhere.
fn execute(facilities: &[u16], code: u64, fpc: u32, registers: &[(usize, u128)]) -> After {
    execute_with(facilities, code, fpc, 0, registers)
}

/// The same with a value in general register 0.
fn execute_with(facilities: &[u16], code: u64, fpc: u32, general: u64, registers: &[(usize, u128)]) -> After {
    let len = if code >> 32 != 0 { 6 } else { 4 };
    let storage = Arc::new(Storage::new(1 << 20).unwrap());
    let ram = storage.ram();
    ram.copy_in(0x2000, &code.to_be_bytes()[8 - len..]);
    ram.write_u64_be(0x1d0, 0x0002_0001_8000_0000);
    let mut bits = [0; 4];
    [0, 1, 2, 3, 7, 18, 21, 25, 27, 34, 35, 45]
        .iter()
        .chain(facilities)
        .for_each(|&bit| facility::set(&mut bits, bit, true));
    let config = VmConfig {
        memory_bytes: storage.size(),
        max_cpus: 1,
        facilities: bits,
        cpu_id: 0,
        time: TimeMode::Virtual { shift: 0 },
        tod_start: None,
        name: "float".into(),
        uuid: [0; 16],
    };
    let system = System::new(config, storage).unwrap();
    let mut state = system.state(0).unwrap();
    state.psw = Psw { mask: Psw::EA | Psw::BA | 3 << 44, addr: 0x2000 };
    state.crs[0] |= 0x0006_0000;
    state.fpc = fpc;
    state.gprs[0] = general;
    registers.iter().for_each(|(n, value)| state.vrs[*n] = *value);
    state.run_state = RunState::Operating;
    system.set_state(0, &state).unwrap();
    let limit = RunLimit { instructions: Some(1), block: false };
    let exit = system.run(0, limit, None).unwrap();
    let mut state = system.state(0).unwrap();
    let ram = system.storage().ram();
    let interruption = (ram.read_u32_be(0x8c) != 0).then(|| {
        // The instruction was completed or suppressed: the old PSW is behind it.
        assert_eq!(ram.read_u64_be(0x158), 0x2000 + len as u64, "{exit:?}");
        assert_eq!(ram.read_u32_be(0x8c) >> 16, len as u32);
        state.psw = Psw { mask: ram.read_u64_be(0x150), addr: ram.read_u64_be(0x158) };
        (ram.read_u32_be(0x8c), ram.read_u32_be(0x90))
    });
    assert!(interruption.is_some() || exit == CoreExit::Guest(Exit::Budget), "{exit:?}");
    After { state, interruption }
}

/// Registers with long or short operands.
fn fp(values: &[(usize, u64)]) -> Vec<(usize, u128)> {
    values.iter().map(|(n, value)| (*n, u128::from(*value) << 64)).collect()
}

fn longs(a: f64, b: f64) -> u128 {
    u128::from(a.to_bits()) << 64 | u128::from(b.to_bits())
}

fn shorts(values: [f32; 4]) -> u128 {
    values.iter().fold(0, |all, v| all << 32 | u128::from(v.to_bits()))
}

const LARGEST: u64 = 0x7fef_ffff_ffff_ffff;
const SIGNALING: u64 = 0x7ff0_0000_0000_0001;
const QUIET: u64 = 0x7ff8_0000_0000_0001;

#[test]
fn sa22_7832_9_overflow_traps_complete_with_a_scaled_result() {
    // ADBR: the sum is 2^1025 less two units, exactly; scaled by 2^-1536.
    let a = execute(SCALAR, 0xb31a_0002, OVERFLOW, &fp(&[(0, LARGEST), (2, LARGEST)]));
    assert_eq!((a.dxc(), a.long(0), a.cc(), a.flags()), (0x20, 0x1fff_ffff_ffff_ffff, 2, 0));
    // MEEBR: not exact, and the same one unit larger when it is rounded up.
    let operands = fp(&[(0, 0x7f7f_ffff << 32), (2, 0x7f7f_fffd << 32)]);
    let a = execute(SCALAR, 0xb317_0002, OVERFLOW | 1, &operands);
    assert_eq!((a.dxc(), a.short(0), a.flags()), (0x28, 0x5f7f_fffc, 0));
    let a = execute(SCALAR, 0xb317_0002, OVERFLOW | 2, &operands);
    assert_eq!((a.dxc(), a.short(0), a.flags()), (0x2c, 0x5f7f_fffd, 0));
    // Without the trap, the largest number or infinity.
    let a = execute(SCALAR, 0xb317_0002, 1, &operands);
    assert_eq!((a.interruption, a.short(0), a.flags()), (None, 0x7f7f_ffff, 0x28));
    let a = execute(SCALAR, 0xb317_0002, 0, &operands);
    assert_eq!((a.interruption, a.short(0), a.flags()), (None, 0x7f80_0000, 0x28));
    // With the trap of inexact alone the flag of the overflow is set all the same.
    let a = execute(SCALAR, 0xb317_0002, INEXACT, &operands);
    assert_eq!((a.dxc(), a.short(0), a.flags()), (0x0c, 0x7f80_0000, 0x20));
}

#[test]
fn sa22_7832_9_underflow_traps_even_when_exact() {
    // DDBR: the smallest normal number by two.
    let operands = fp(&[(0, 0x0010 << 48), (2, 0x4000 << 48)]);
    let a = execute(SCALAR, 0xb31d_0002, UNDERFLOW, &operands);
    assert_eq!((a.dxc(), a.long(0), a.flags()), (0x10, 0x6000 << 48, 0));
    let a = execute(SCALAR, 0xb31d_0002, 0, &operands);
    assert_eq!((a.interruption, a.long(0), a.flags()), (None, 0x0008 << 48, 0));
    // By three.
    let operands = fp(&[(0, 0x0010 << 48), (2, 0x4008 << 48)]);
    let a = execute(SCALAR, 0xb31d_0002, UNDERFLOW, &operands);
    assert_eq!((a.dxc(), a.long(0), a.flags()), (0x18, 0x5ff5_5555_5555_5555, 0));
    let a = execute(SCALAR, 0xb31d_0002, UNDERFLOW | 2, &operands);
    assert_eq!((a.dxc(), a.long(0), a.flags()), (0x1c, 0x5ff5_5555_5555_5556, 0));
    let a = execute(SCALAR, 0xb31d_0002, 0, &operands);
    assert_eq!((a.interruption, a.long(0), a.flags()), (None, 0x0005_5555_5555_5555, 0x18));
}

#[test]
fn sa22_7832_9_invalid_and_division_traps_suppress() {
    for (code, mask, dxc, divisor) in [
        (0xb31d_0002, INVALID, 0x80, SIGNALING),
        (0xb31d_0002, DIVIDE, 0x40, 0),
        (0xb319_0002, INVALID, 0x80, SIGNALING),
    ] {
        let a = execute(SCALAR, code, mask, &fp(&[(0, 0x3ff0 << 48), (2, divisor)]));
        assert_eq!((a.code(), a.dxc(), a.long(0), a.cc(), a.flags()), (7, dxc, 0x3ff0 << 48, 3, 0));
    }
    let a = execute(SCALAR, 0xb31d_0002, 0, &fp(&[(0, 0x3ff0 << 48), (2, 0)]));
    assert_eq!((a.interruption, a.long(0), a.flags()), (None, 0x7ff0 << 48, 0x40));
}

#[test]
fn sa22_7832_9_inexact_traps_complete_and_tell_the_direction() {
    // One plus a little, up and down.
    let operands = fp(&[(0, 0x3ff0 << 48), (2, 0x3000 << 48)]);
    for (mode, dxc, result) in
        [(1, 0x08, 0x3ff0 << 48), (2, 0x0c, (0x3ff0 << 48) + 1), (7, 0x0c, (0x3ff0 << 48) + 1)]
    {
        let a = execute(SCALAR, 0xb31a_0002, INEXACT | mode, &operands);
        assert_eq!((a.code(), a.dxc(), a.long(0), a.cc(), a.flags()), (7, dxc, result, 2, 0));
    }
}

#[test]
fn sa22_7832_19_load_rounded_traps_with_the_longer_format() {
    // LEDBRA of 2^200: the register gets a long number, scaled by 2^-512.
    let a = execute(SCALAR, 0xb344_0002, OVERFLOW, &fp(&[(0, 5), (2, 0x4c70 << 48)]));
    assert_eq!((a.dxc(), a.long(0)), (0x20, 0x2c70 << 48));
    // LEXBRA of 2^-1000, scaled by 2^8192, in the pair of registers.
    let a = execute(SCALAR, 0xb346_0001, UNDERFLOW, &fp(&[(1, 0x3c17 << 48), (3, 0)]));
    assert_eq!((a.dxc(), a.long(0), a.long(2)), (0x10, 0x5c17 << 48, 0));
}

#[test]
fn sa22_7832_19_conversions_suppress_inexact_on_demand_and_note_nans() {
    // CGDBRA toward zero of 1.5, with XxC and without.
    let operands = fp(&[(2, 0x3ff8 << 48)]);
    for (code, flags) in [(0xb3a9_5002u64, 8), (0xb3a9_5402, 0)] {
        let a = execute(SCALAR, code, 0, &operands);
        assert_eq!((a.interruption, a.state.gprs[0], a.flags(), a.cc()), (None, 1, flags, 2));
    }
    let a = execute(SCALAR, 0xb3a9_5002, INEXACT, &operands);
    assert_eq!((a.dxc(), a.state.gprs[0], a.flags(), a.cc()), (0x08, 1, 0, 2));
    let a = execute(SCALAR, 0xb3a9_5402, INEXACT, &operands);
    assert_eq!((a.interruption, a.state.gprs[0]), (None, 1));
    // A NaN gives the most negative number with both flags, or the trap of inexact.
    let nan = fp(&[(2, QUIET)]);
    let a = execute(SCALAR, 0xb3a9_5002, 0, &nan);
    assert_eq!((a.interruption, a.state.gprs[0], a.flags(), a.cc()), (None, 1 << 63, 0x88, 3));
    let a = execute(SCALAR, 0xb3a9_5002, INEXACT, &nan);
    assert_eq!((a.dxc(), a.state.gprs[0], a.flags(), a.cc()), (0x08, 1 << 63, 0x80, 3));
    let a = execute(SCALAR, 0xb3a9_5002, INVALID, &nan);
    assert_eq!((a.dxc(), a.state.gprs[0], a.flags()), (0x80, 0, 0));
    let a = execute(SCALAR, 0xb3a9_5402, 0, &nan);
    assert_eq!((a.interruption, a.flags()), (None, 0x80));
}

#[test]
fn sa22_7832_19_divide_to_integer_delivers_both_results_with_a_trap() {
    // DIDBR 7 by 2, to nearest: quotient 4, remainder -1.
    let a = execute(SCALAR, 0xb35b_4402, 0, &fp(&[(0, 7f64.to_bits()), (2, 2f64.to_bits())]));
    assert_eq!((a.interruption, a.long(0), a.long(4), a.cc()), (None, (-1f64).to_bits(), 4f64.to_bits(), 0));
    // A tiny remainder traps after the quotient is there.
    let smallest = 0x0010 << 48;
    let operands = fp(&[(0, smallest + 1), (2, smallest)]);
    let a = execute(SCALAR, 0xb35b_4502, UNDERFLOW, &operands);
    assert_eq!((a.dxc(), a.long(4), a.cc()), (0x10, 1f64.to_bits(), 0));
    assert_eq!(a.long(0), (1536 - 1074 + 1023) << 52);
    // Registers must differ.
    assert_eq!(execute(SCALAR, 0xb35b_2402, 0, &operands).code(), 6);
}

#[test]
fn sa22_7832_9_signals_report_what_was_flagged_before() {
    for (flags, dxc) in
        [(0x80, 0x83), (0x40, 0x43), (0x28, 0x2b), (0x20, 0x23), (0x18, 0x1b), (0x08, 0x0b), (0x04, 0x07)]
    {
        // SFASR 0, where the register enables everything.
        let mut after = None;
        for masks in [0xfc00_0000u64, 0] {
            let a = execute_with(SCALAR, 0xb385_0000, flags << 16, masks, &[]);
            assert_eq!(a.flags(), flags);
            if masks == 0 { assert!(a.interruption.is_none()) } else { after = Some(a.dxc()) }
        }
        assert_eq!(after, Some(dxc));
    }
}

/// VFADB 0,2,4
const VFADB: u64 = 0xe702_4000_30e3;

#[test]
fn sa22_7832_24_a_trap_names_its_element_and_suppresses_everything() {
    let one = longs(1.0, 1.0);
    for (mask, other, vxc) in [
        (INEXACT, longs(1.0, 1e-300), 0x15),
        (INEXACT, longs(1e-300, 1e-300), 0x05),
        (INVALID, longs(1.0, f64::from_bits(SIGNALING)), 0x11),
        (UNDERFLOW, longs(1e-300, -1.0), 0),
    ] {
        let a = execute(VECTOR, VFADB, mask, &[(0, 77), (2, one), (4, other)]);
        if vxc == 0 {
            assert_eq!((a.interruption, a.flags()), (None, 8));
        } else {
            assert_eq!((a.code(), a.dxc(), a.state.vrs[0], a.flags()), (0x1b, vxc, 77, 0));
        }
    }
    // VFDDB: one by zero, then zero by zero.
    let a = execute(VECTOR, 0xe702_4000_30e5, DIVIDE, &[(2, longs(0.0, 1.0)), (4, longs(0.0, 0.0))]);
    assert_eq!((a.dxc(), a.flags()), (0x12, 0));
    let a = execute(VECTOR, 0xe702_4000_30e5, 0, &[(2, longs(0.0, 1.0)), (4, longs(0.0, 0.0))]);
    assert_eq!((a.interruption, a.flags(), a.state.vrs[0]), (None, 0xc0, longs(f64::NAN, f64::INFINITY)));
    // VFMDB: overflow and underflow.
    let a = execute(VECTOR, 0xe702_4000_30e7, OVERFLOW, &[(2, longs(1.0, 1e300)), (4, longs(1.0, 1e300))]);
    assert_eq!(a.dxc(), 0x13);
    let half_smallest = &[(2, longs(1.0, f64::MIN_POSITIVE)), (4, longs(1.0, 0.5))];
    assert_eq!(execute(VECTOR, 0xe702_4000_30e7, UNDERFLOW, half_smallest).dxc(), 0x14);
    assert_eq!(execute(VECTOR, 0xe702_4000_30e7, 0, half_smallest).flags(), 0);
    // Of short elements (VFASB) the fourth; of conversions the source's number.
    let nan = f32::from_bits(0x7f80_0001);
    let a =
        execute(ALL, 0xe702_4000_20e3, INVALID, &[(2, shorts([1.0; 4])), (4, shorts([1.0, 1.0, 1.0, nan]))]);
    assert_eq!(a.dxc(), 0x31);
    let a = execute(VECTOR, 0xe702_0000_20c4, INVALID, &[(2, shorts([1.0, nan, nan, 1.0]))]);
    assert_eq!(a.dxc(), 0x21);
    let a = execute(VECTOR, 0xe702_0000_30c5, OVERFLOW, &[(2, longs(1.0, 1e300))]);
    assert_eq!(a.dxc(), 0x13);
}

#[test]
fn sa22_7832_24_single_element_control_looks_at_the_first_element_only() {
    let a = execute(VECTOR, 0xe702_4008_30e3, INEXACT, &[(2, longs(1.0, 1.0)), (4, longs(1.0, 1e-300))]);
    assert_eq!((a.interruption, a.long(0), a.flags()), (None, 2f64.to_bits(), 0));
    // WFLRD rounds an extended number: the exponent shows that it was one.
    let a = execute(ALL, 0xe702_0008_40c5, 0, &fp(&[(2, 0x4000 << 48)]));
    assert_eq!(a.long(0), 2f64.to_bits());
}

#[test]
fn sa22_7832_24_formats_and_controls_depend_on_facilities() {
    let operands = [(2, longs(2.0, 3.0)), (4, longs(4.0, 5.0))];
    for (code, with_base, with_all) in [
        (0xe702_4000_30e3u64, 0, 0), // VFADB
        (0xe702_4000_20e3, 6, 0),    // VFASB
        (0xe702_4000_40e3, 6, 0),    // WFAXB
        (0xe702_4000_50e3, 6, 6),
        (0xe702_4004_30e3, 6, 6), // a reserved bit of M5
        (0xe702_4004_30e8, 6, 0), // VFKEDB
        (0xe702_4020_30e8, 6, 6), // a reserved bit of M6
        (0xe702_0050_30c2, 0, 0), // VCGDB
        (0xe702_0050_20c2, 6, 0), // VCFEB
        (0xe702_0020_30c2, 6, 6), // a rounding method that does not exist
        (0xe702_0000_30c4, 6, 0), // WFLLD
        (0xe702_0000_40c5, 6, 0), // WFLRX
        (0xe702_0030_30cc, 6, 6), // a sign operation that does not exist
        (0xe702_4000_30ef, 1, 0), // VFMAXDB
        (0xe702_4050_30ef, 1, 6),
        (0xe702_4300_409f, 1, 0), // VFNMADB
    ] {
        for (facilities, expected) in [(VECTOR, with_base), (ALL, with_all)] {
            let a = execute(facilities, code, 0, &operands);
            assert_eq!(a.interruption.map_or(0, |(code, _)| code & 0xffff), expected, "{code:x}");
        }
    }
}

#[test]
fn sa22_7832_24_comparisons_tell_all_some_or_none() {
    let (ab, nan) = (longs(1.0, 2.0), longs(f64::NAN, f64::NAN));
    for (code, other, cc, result) in [
        (0xe702_4010_30e8u64, ab, 0, u128::MAX),
        (0xe702_4010_30e8, longs(1.0, 0.0), 1, u128::MAX << 64),
        (0xe702_4010_30e8, nan, 3, 0),
        (0xe702_4010_30eb, longs(0.0, 0.0), 0, u128::MAX),
        (0xe702_4010_30ea, ab, 0, u128::MAX),
        (0xe702_4018_30e8, longs(1.0, 0.0), 0, u128::MAX << 64),
        (0xe702_4000_30e8, ab, 3, u128::MAX),
    ] {
        let a = execute(VECTOR, code, 0, &[(2, ab), (4, other)]);
        assert_eq!((a.cc(), a.state.vrs[0], a.flags()), (cc, result, 0), "{code:x} {other:x}");
    }
    // A quiet NaN is invalid for VFKE and WFK alone.
    for (code, flags) in
        [(0xe702_4010_30e8u64, 0), (0xe702_4014_30e8, 0x80), (0xe724_0000_30cb, 0), (0xe724_0000_30ca, 0x80)]
    {
        let a = execute(ALL, code, 0, &[(2, ab), (4, nan)]);
        assert_eq!((a.cc(), a.flags()), (3, flags), "{code:x}");
    }
    for (a, b, cc) in [(1.0, 1.0, 0), (1.0, 2.0, 1), (2.0, 1.0, 2)] {
        assert_eq!(execute(VECTOR, 0xe724_0000_30cb, 0, &[(2, longs(a, 9.0)), (4, longs(b, 0.0))]).cc(), cc);
    }
    // VFTCIDB for zeros and infinities of either sign.
    for (value, cc) in [(longs(0.0, f64::INFINITY), 0), (longs(-0.0, 1.0), 1), (longs(1.0, f64::NAN), 3)] {
        assert_eq!(execute(VECTOR, 0xe702_c300_304a, 0, &[(2, value)]).cc(), cc);
    }
}

#[test]
fn sa22_7832_24_conversions() {
    // VCSFP of short elements, toward zero: large, small, a NaN, with both flags for the last.
    let source = shorts([1.5, -3e9, 3e9, f32::NAN]);
    let a = execute(ALL, 0xe702_0050_20c2, 0, &[(2, source)]);
    assert_eq!((a.state.vrs[0], a.flags()), (0x0000_0001_8000_0000_7fff_ffff_8000_0000, 0x88));
    let a = execute(ALL, 0xe702_0050_20c0, 0, &[(2, shorts([1.0, 4_294_967_040.0, 0.0, -0.5]))]);
    assert_eq!((a.state.vrs[0], a.flags()), (0x0000_0001_ffff_ff00_0000_0000_0000_0000, 0x08));
    // With suppression of inexact there is neither flag nor trap.
    let a = execute(ALL, 0xe702_0054_20c2, INEXACT, &[(2, shorts([1.5; 4]))]);
    assert_eq!((a.interruption, a.flags()), (None, 0));
    // VCDGB and VCDLGB.
    let integers = (u128::from(u64::MAX) << 64) | 5;
    let a = execute(VECTOR, 0xe702_0000_30c3, 0, &[(2, integers)]);
    assert_eq!((a.state.vrs[0], a.flags()), (longs(-1.0, 5.0), 0));
    let a = execute(VECTOR, 0xe702_0000_30c1, 0, &[(2, integers)]);
    assert_eq!((a.state.vrs[0], a.flags()), (longs(2f64.powi(64), 5.0), 8));
    // VFLLS takes the even elements, VFLRD fills them.
    let a = execute(VECTOR, 0xe702_0000_20c4, 0, &[(2, shorts([1.5, 9.0, -2.0, 9.0]))]);
    assert_eq!(a.state.vrs[0], longs(1.5, -2.0));
    let a = execute(VECTOR, 0xe702_0000_30c5, 0, &[(2, longs(1.5, -2.0))]);
    assert_eq!(a.state.vrs[0], shorts([1.5, 0.0, -2.0, 0.0]));
}

#[test]
fn sa22_7832_24_negative_multiply_and_add_changes_the_sign_of_the_rounded_sum() {
    // VFNMADB: -(1 * 1 + 1e-300), toward +infinity: the sum is rounded up, and then negative.
    let operands = [(2, longs(1.0, 1.0)), (4, longs(1.0, 1.0)), (6, longs(1e-300, f64::NAN))];
    let a = execute(ALL, 0xe702_4300_609f, 2, &operands);
    assert_eq!(a.state.vrs[0], longs(-(1.0 + f64::EPSILON), f64::NAN));
}

#[test]
fn sa22_7832_24_maximum_and_minimum_functions() {
    let nan = f64::NAN;
    let vfmaxdb = |function: u64, a: f64, b: f64| {
        let a = execute(ALL, 0xe702_4000_30ef | function << 20, 0, &[(2, longs(a, a)), (4, longs(b, b))]);
        (f64::from_bits(a.long(0)), a.flags())
    };
    let vfmindb = |function: u64, a: f64, b: f64| {
        let a = execute(ALL, 0xe702_4000_30ee | function << 20, 0, &[(2, longs(a, a)), (4, longs(b, b))]);
        f64::from_bits(a.long(0))
    };
    for function in [0, 1, 2, 3, 4] {
        assert_eq!((vfmaxdb(function, 1.0, 2.0), vfmindb(function, 1.0, 2.0)), ((2.0, 0), 1.0));
        assert_eq!((vfmaxdb(function, 1.0, -2.0), vfmindb(function, 1.0, -2.0)), ((1.0, 0), -2.0));
    }
    // MaxNumMag keeps the sign, the functions above it are of magnitudes.
    assert_eq!((vfmaxdb(8, 1.0, -2.0), vfmindb(8, -1.0, 2.0)), ((-2.0, 0), -1.0));
    for function in [9, 10, 11, 12] {
        assert_eq!((vfmaxdb(function, 1.0, -2.0), vfmindb(function, -1.0, 2.0)), ((2.0, 0), 1.0));
    }
    // NaNs: a number before a quiet one (IEEE, fmax), the NaN (Java), the second or first operand (C, C++).
    assert_eq!((vfmaxdb(0, nan, 1.0), vfmaxdb(4, 1.0, nan)), ((1.0, 0), (1.0, 0)));
    assert!(vfmaxdb(1, nan, 1.0).0.is_nan() && vfmaxdb(1, 1.0, nan).0.is_nan());
    assert_eq!((vfmaxdb(2, nan, 1.0), vfmaxdb(3, 1.0, nan)), ((1.0, 0x80), (1.0, 0x80)));
    assert_eq!(vfmaxdb(0, f64::from_bits(SIGNALING), 1.0).1, 0x80);
    // Zeros.
    for function in [0, 1, 4] {
        assert!(vfmaxdb(function, -0.0, 0.0).0.is_sign_positive());
        assert!(vfmindb(function, 0.0, -0.0).is_sign_negative());
    }
    assert!(vfmaxdb(2, 0.0, -0.0).0.is_sign_negative() && vfmaxdb(3, -0.0, 0.0).0.is_sign_negative());
}

#[test]
fn sa22_7832_24_signs() {
    let source = longs(-1.0, f64::from_bits(SIGNALING));
    for (operation, result) in [
        (0u64, longs(1.0, f64::from_bits(SIGNALING | 1 << 63))),
        (1, longs(-1.0, f64::from_bits(SIGNALING | 1 << 63))),
        (2, longs(1.0, f64::from_bits(SIGNALING))),
    ] {
        let a = execute(VECTOR, 0xe702_0000_30cc | operation << 20, INVALID, &[(2, source)]);
        assert_eq!((a.interruption, a.state.vrs[0], a.flags()), (None, result, 0));
    }
}
