//! The vector facility without floating point: what the comparison with another implementation cannot show (enablement,
//! an instruction that QEMU 7.2 lacks or has wrong), and results against definitions written a second time.
#![expect(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use cloister_arch::s390x::{CpuState, Exit, Psw, RunState, TimeMode, VmConfig, facility};
use cloister_cpu_s390x::{CoreExit, FACILITIES, RunLimit, System, decode_any};
use cloister_memory::Storage;
use proptest::prelude::*;
use std::cell::Cell;
use std::sync::Arc;

const SIZE: u64 = 1 << 20;
/// Control register 0: AFP registers and vectors on.
const ENABLED: u64 = 3 << 17;
const SPECIFICATION: u32 = 6;
const DATA: u32 = 7;

/// A machine, and where the next program stands: each has an address of its own, since nobody tells the core that the
/// test writes code.
struct Machine(System, Cell<usize>);

impl Machine {
    fn new() -> Self {
        let storage = Arc::new(Storage::new(SIZE).unwrap());
        storage.ram().write_u64_be(0x1d0, 0x0002_0001_8000_0000);
        let mut facilities = [0; 4];
        for bit in FACILITIES.iter().chain(&[129, 134, 135, 148, 152]) {
            facility::set(&mut facilities, *bit, true);
        }
        let config = VmConfig {
            memory_bytes: SIZE,
            max_cpus: 1,
            facilities,
            cpu_id: 0,
            time: TimeMode::Virtual { shift: 0 },
            tod_start: Some(1 << 60),
            name: "vector".into(),
            uuid: [0; 16],
        };
        Self(System::new(config, storage).unwrap(), Cell::new(0x2000))
    }

    /// Executes `code` after `prepare`, which gets its address too: the program-interruption code, or 0, and the state.
    fn run(&self, code: &[[u8; 6]], prepare: impl FnOnce(&mut CpuState, u64)) -> (u32, CpuState) {
        let ram = self.0.storage().ram();
        let (start, len) = (self.1.get(), 6 * code.len());
        self.1.set(start + len + 2);
        assert!(self.1.get() < SIZE as usize - 0x1000);
        ram.copy_in(start, code.as_flattened());
        let mut state = self.0.state(0).unwrap();
        state.crs[0] = ENABLED;
        prepare(&mut state, start as u64);
        state.psw = Psw { mask: Psw::EA | Psw::BA, addr: start as u64 };
        state.run_state = RunState::Operating;
        self.0.set_state(0, &state).unwrap();
        let exit = self.0.run(0, RunLimit { instructions: Some(100), block: false }, None).unwrap();
        assert!(matches!(exit, CoreExit::Guest(Exit::DisabledWait(_))), "{exit:?}");
        // The zeros behind the code are an operation exception that says that all was executed.
        let (interruption, end) = (ram.read_u32_be(0x8c) & 0xffff, ram.read_u64_be(0x158) as usize);
        let mut state = self.0.state(0).unwrap();
        state.psw.mask = ram.read_u64_be(0x150);
        (if interruption == 1 && end == start + len + 2 { 0 } else { interruption }, state)
    }
}

thread_local! {
    static MACHINE: Machine = Machine::new();
}

/// VRR-c, VRR-d: `op` v1,v2,v3,v4 with the masks in bits 20-23, 24-27 and 32-35; the last is V4 for VRR-d.
fn vrr(op: u8, m20: u8, m24: u8, last: u8) -> [u8; 6] {
    [0xe7, 0x12, 0x30 | m20, m24 << 4, last << 4, op]
}

/// Executes it with V2, V3 and V4: V1 and the condition code.
#[track_caller]
fn result(code: [u8; 6], v: [u128; 3]) -> (u128, u8) {
    MACHINE.with(|machine| {
        let (interruption, state) = machine.run(&[code], |state, _| state.vrs[2..5].copy_from_slice(&v));
        assert_eq!(interruption, 0);
        (state.vrs[1], (state.psw.mask >> 44) as u8 & 3)
    })
}

fn opcodes() -> impl Iterator<Item = ([u8; 6], &'static str)> {
    (0..=255).flat_map(|sub| [0xe6, 0xe7].map(|first| [first, 0, 0, 0, 0, sub])).filter_map(|bytes| {
        let (name, _) = decode_any(bytes);
        Some((bytes, name?))
    })
}

#[test]
fn sa22_7832_21_a_vector_instruction_needs_both_enablement_controls() {
    let machine = Machine::new();
    let mut count = 0;
    // LCBB touches no vector register.
    for (bytes, name) in opcodes().filter(|(_, name)| *name != "lcbb") {
        for cr0 in [0, 1 << 17, 1 << 18] {
            let (code, state) = machine.run(&[bytes], |state, _| state.crs[0] = cr0);
            assert_eq!(code, DATA, "{name}");
            assert_eq!(machine.0.storage().ram().read_u32_be(0x90), 0xfe, "{name}");
            assert_eq!(state.vrs, [0; 32], "{name}");
        }
        count += 1;
    }
    assert!(count > 130, "{count}");
}

#[test]
fn sa22_7832_21_an_element_size_that_is_not_there_is_a_specification_exception() {
    let machine = Machine::new();
    // Opcode, and the sizes that are allowed, where bits 32-35 have the size.
    let sizes: &[(u8, &[u8])] = &[
        (0x30, &[0, 1, 2, 3]),
        (0x64, &[0, 1]),
        (0x65, &[1, 2]),
        (0x67, &[2, 3]),
        (0x80, &[0, 1, 2]),
        (0x94, &[1, 2, 3]),
        (0xa1, &[0, 1, 2]),
        (0xb4, &[0, 1, 2, 3]),
        (0xd4, &[0, 1, 2]),
        (0xf0, &[0, 1, 2, 3]),
        (0xf3, &[0, 1, 2, 3, 4]),
    ];
    for (op, allowed) in sizes {
        for size in 0..16 {
            let (code, _) = machine.run(&[vrr(*op, 0, 0, size)], |_, _| {});
            assert_eq!(code, if allowed.contains(&size) { 0 } else { SPECIFICATION }, "{op:02x} {size}");
        }
    }
}

#[test]
fn a_store_that_reaches_beyond_storage_stores_nothing() {
    let machine = Machine::new();
    let ram = machine.0.storage().ram();
    let ones = |state: &mut CpuState, _: u64| {
        state.vrs = [u128::MAX; 32];
        state.gprs[3] = SIZE - 8;
        state.gprs[4] = 15;
    };
    // VST, VSTM 0-15, VSTL with 16 bytes, VSTBR
    let stores: [[u8; 6]; 4] = [
        [0xe7, 0x00, 0x30, 0, 0, 0x0e],
        [0xe7, 0x0f, 0x30, 0, 0, 0x3e],
        [0xe7, 0x04, 0x30, 0, 0, 0x3f],
        [0xe6, 0x00, 0x30, 0, 0x10, 0x0e],
    ];
    for code in stores {
        let (interruption, _) = machine.run(&[code], ones);
        assert_eq!(interruption, 5, "{code:02x?}");
        assert_eq!(ram.read_u64_be(SIZE as usize - 8), 0, "{code:02x?}");
    }
    // What ends with storage is stored.
    let (interruption, _) = machine.run(&[stores[2]], |state, at| {
        ones(state, at);
        state.gprs[4] = 7;
    });
    assert_eq!((interruption, ram.read_u64_be(SIZE as usize - 8)), (0, u64::MAX));
}

#[test]
fn a_vector_store_into_the_code_that_follows_is_seen() {
    let machine = Machine::new();
    // VST stores over the instruction behind it, which becomes VLEIB 2,0x55.
    let code = [[0xe7, 0x10, 0x30, 0, 0, 0x0e], [0xe7, 0x20, 0, 0, 0, 0x44]];
    let (interruption, state) = machine.run(&code, |state, at| {
        state.vrs[1] = 0xe720_0055_0040_u128 << 80;
        state.gprs[3] = at + 6;
    });
    // The bytes behind are zeros now, as before.
    assert_eq!((interruption, state.vrs[2]), (0, 0x55_u128 << 120));
}

#[test]
fn a_load_reads_a_register_list_or_nothing() {
    let machine = Machine::new();
    // VLM 0-15 from the last 240 bytes of storage
    let (interruption, state) = machine.run(&[[0xe7, 0x0f, 0x30, 0, 0, 0x36]], |state, _| {
        state.vrs = [7; 32];
        state.gprs[3] = SIZE - 240;
    });
    assert_eq!((interruption, state.vrs), (5, [7; 32]));
    // VLM 17-16 names no register.
    let (interruption, _) = machine.run(&[[0xe7, 0x10, 0x30, 0, 0x0c, 0x36]], |_, _| {});
    assert_eq!(interruption, SPECIFICATION);
}

/// QEMU 7.2 computes something else, so that these stand alone.
#[test]
fn sa22_7832_22_vector_checksum_adds_carries_at_the_right() {
    let checksum = |v2, v3| result(vrr(0x66, 0, 0, 0), [v2, v3, 0]).0;
    let word = |n: u32| u128::from(n) << 64;
    assert_eq!(checksum(0, 0), 0);
    assert_eq!(checksum(0x0000_0001_0000_0002_0000_0003_0000_0004, word(5)), word(15));
    assert_eq!(checksum(u128::MAX, 0), word(u32::MAX));
    assert_eq!(checksum(0xffff_ffff << 96 | 1, 0), word(1));
    assert_eq!(checksum(0x8000_0000_8000_0000_0000_0000_0000_0000, word(u32::MAX)), word(1));
    // Only word 1 of the third operand takes part.
    assert_eq!(checksum(0, !word(u32::MAX)), 0);
}

/// From the text of SA22-7832, chapter 23: strings that end at zeros, and such that do not.
#[test]
fn sa22_7832_23_vector_string_search_tells_full_and_partial_matches() {
    let text = |s: &[u8]| {
        let mut bytes = [b'.'; 16];
        bytes[..s.len()].copy_from_slice(s);
        u128::from_be_bytes(bytes)
    };
    let search = |zeros: u8, a: &[u8], b: &[u8], len: u8| {
        let (index, cc) = result(vrr(0x8b, 0, zeros << 1, 4), [text(a), text(b), u128::from(len) << 64]);
        (index >> 64, cc)
    };
    assert_eq!(search(0, b"where is it", b"is", 2), (6, 2));
    assert_eq!(search(0, b"where is it, end", b"end of", 6), (13, 3));
    assert_eq!(search(0, b"where is it", b"nowhere", 7), (16, 0));
    assert_eq!(search(1, b"where\0 is it", b"is", 2), (16, 1));
    assert_eq!(search(1, b"where is\0", b"is\0", 10), (6, 2));
    assert_eq!(search(1, b"where\0", b"", 0), (0, 2));
}

/// A polynomial product bit by bit.
fn carry_less(a: u128, b: u128) -> u128 {
    (0..64).filter(|n| a >> n & 1 != 0).fold(0, |product, n| product ^ b << n)
}

fn element(v: u128, bits: u32, n: u32) -> u128 {
    v << (bits * n) >> (128 - bits)
}

fn register() -> impl Strategy<Value = u128> {
    let byte = prop_oneof![Just(0_u8), Just(0xff), Just(0x80), 0_u8..4, any::<u8>()];
    prop_oneof![any::<u128>(), proptest::array::uniform16(byte).prop_map(u128::from_be_bytes)]
}

proptest! {
    #[test]
    fn checksums_are_sums_modulo_ones(a in register(), b in register()) {
        let total = (0..4).map(|n| element(a, 32, n)).sum::<u128>() + element(b, 32, 1);
        let (value, _) = result(vrr(0x66, 0, 0, 0), [a, b, 0]);
        prop_assert_eq!(value >> 64 & 0xffff_ffff, if total == 0 { 0 } else { (total - 1) % 0xffff_ffff + 1 });
        prop_assert_eq!(value & !(0xffff_ffff << 64), 0);
    }

    #[test]
    fn galois_products_are_products_of_bits(a in register(), b in register(), d in register(), size in 0_u8..4) {
        let bits = 8 << size;
        let expected = (0..64 / bits).fold(0, |out, n| {
            let product = |i| carry_less(element(a, bits, i), element(b, bits, i));
            let sum = product(2 * n) ^ product(2 * n + 1);
            out | sum << (128 - 2 * bits * (n + 1))
        });
        prop_assert_eq!(result(vrr(0xb4, 0, 0, size), [a, b, d]).0, expected);
        prop_assert_eq!(result(vrr(0xbc, size, 0, 4), [a, b, d]).0, expected ^ d);
    }

    /// Additions of 256 bits by VACC, VACCC and VAC, and subtractions by VSCBI, VSBCBI and VSBI.
    #[test]
    fn quadword_carries_make_longer_numbers(a: [u128; 2], b: [u128; 2]) {
        let carry = result(vrr(0xf1, 0, 0, 4), [a[1], b[1], 0]).0;
        let (low, over) = a[1].overflowing_add(b[1]);
        prop_assert_eq!((carry, result(vrr(0xf3, 0, 0, 4), [a[1], b[1], 0]).0), (u128::from(over), low));
        let high = result(vrr(0xbb, 4, 0, 4), [a[0], b[0], carry]).0;
        prop_assert_eq!(high, a[0].wrapping_add(b[0]).wrapping_add(carry));
        let carry_out = result(vrr(0xb9, 4, 0, 4), [a[0], b[0], carry]).0;
        prop_assert_eq!(carry_out == 1, a[0].checked_add(b[0]).and_then(|x| x.checked_add(carry)).is_none());

        let no_borrow = result(vrr(0xf5, 0, 0, 4), [a[1], b[1], 0]).0;
        prop_assert_eq!(no_borrow == 1, a[1] >= b[1]);
        let high = result(vrr(0xbf, 4, 0, 4), [a[0], b[0], no_borrow]).0;
        prop_assert_eq!(high, a[0].wrapping_sub(b[0]).wrapping_sub(1 - no_borrow));
        let no_borrow_out = result(vrr(0xbd, 4, 0, 4), [a[0], b[0], no_borrow]).0;
        prop_assert_eq!(no_borrow_out == 1, a[0].checked_sub(b[0]).and_then(|x| x.checked_sub(1 - no_borrow)).is_some());
    }

    /// Both halves of a product are the whole one, and even and odd products are all of them.
    #[test]
    fn products_fit_together(a in register(), b in register(), size in 0_u8..3) {
        let bits = 8 << size;
        let value = |op| result(vrr(op, 0, 0, size), [a, b, 0]).0;
        let (high, low, even, odd) = (value(0xa1), value(0xa2), value(0xa4), value(0xa5));
        for n in 0..128 / bits {
            let product = element(a, bits, n) * element(b, bits, n);
            prop_assert_eq!(element(high, bits, n) << bits | element(low, bits, n), product);
            prop_assert_eq!(element(if n % 2 == 0 { even } else { odd }, 2 * bits, n / 2), product);
        }
    }

    /// M6 doubles the even and the odd product.
    #[test]
    fn multiply_sum_adds_both_products(a in register(), b in register(), d in register(), m6 in 0_u8..16) {
        let product = |n| element(a, 64, n) * element(b, 64, n);
        let expected = (product(0) << (m6 >> 3)).wrapping_add(product(1) << (m6 >> 2 & 1)).wrapping_add(d);
        prop_assert_eq!(result(vrr(0xb8, 3, m6, 4), [a, b, d]).0, expected);
    }

    #[test]
    fn bit_permute_picks_bits(a in register(), b in register()) {
        let bit = |n: u128| if n < 128 { a >> (127 - n) & 1 } else { 0 };
        let expected = (0..16).fold(0, |bits, n| bits << 1 | bit(element(b, 8, n)));
        prop_assert_eq!(result(vrr(0x85, 0, 0, 0), [a, b, 0]).0, expected << 64);
    }
}
