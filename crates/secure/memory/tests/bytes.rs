//! Accesses to the bytes of storage against a plain vector, aligned and not.

use cloister_memory::{Ram, Storage};
use proptest::prelude::*;

const SIZE: usize = 0x2000;

#[derive(Clone, Debug)]
enum Op {
    Write(usize, u8, u128),
    CopyIn(usize, Vec<u8>),
    Fill(usize, u8, usize),
    Within(usize, usize, usize),
    Forward(usize, usize, usize),
    Bits(usize, u8, u8),
}

fn op() -> impl Strategy<Value = Op> {
    let at = 0..300usize;
    prop_oneof![
        (at.clone(), 0..5u8, any::<u128>()).prop_map(|(at, width, value)| Op::Write(at, width, value)),
        (at.clone(), prop::collection::vec(any::<u8>(), 0..70)).prop_map(|(at, bytes)| Op::CopyIn(at, bytes)),
        (at.clone(), any::<u8>(), 0..70usize).prop_map(|(at, value, len)| Op::Fill(at, value, len)),
        (at.clone(), at.clone(), 0..257usize).prop_map(|(to, from, len)| Op::Within(to, from, len)),
        (at.clone(), at.clone(), 0..257usize).prop_map(|(to, from, len)| Op::Forward(to, from, len)),
        (at, 0..3u8, any::<u8>()).prop_map(|(at, kind, value)| Op::Bits(at, kind, value)),
    ]
}

proptest! {
    #[test]
    fn bytes_agree_with_a_vector(ops in prop::collection::vec(op(), 1..80)) {
        let storage = Storage::new(SIZE as u64).unwrap();
        let ram = storage.ram();
        let mut model = vec![0u8; SIZE];
        for op in ops {
            match op {
                Op::Write(at, width, value) => {
                    let bytes = value.to_be_bytes();
                    let len = 1 << width;
                    model[at..at + len].copy_from_slice(&bytes[16 - len..]);
                    match width {
                        0 => ram.write_u8(at, value as u8),
                        1 => ram.write_u16_be(at, value as u16),
                        2 => ram.write_u32_be(at, value as u32),
                        3 => ram.write_u64_le(at, (value as u64).swap_bytes()),
                        _ => ram.write_u128_be(at, value),
                    }
                }
                Op::CopyIn(at, bytes) => {
                    ram.copy_in(at, &bytes);
                    model[at..at + bytes.len()].copy_from_slice(&bytes);
                }
                Op::Fill(at, value, len) => {
                    ram.fill(at, value, len);
                    model[at..at + len].fill(value);
                }
                Op::Within(to, from, len) => {
                    ram.copy_within(to, from, len);
                    model.copy_within(from..from + len, to);
                }
                Op::Forward(to, from, len) => {
                    ram.copy_forward(to, from, len);
                    (0..len).for_each(|at| model[to + at] = model[from + at]);
                }
                Op::Bits(at, kind, value) => {
                    let old = match kind {
                        0 => ram.fetch_or_u8(at, value),
                        1 => ram.fetch_and_u8(at, value),
                        _ => ram.fetch_xor_u8(at, value),
                    };
                    prop_assert_eq!(old, model[at]);
                    match kind {
                        0 => model[at] |= value,
                        1 => model[at] &= value,
                        _ => model[at] ^= value,
                    }
                }
            }
            let mut bytes = vec![0; SIZE];
            ram.copy_out(0, &mut bytes);
            prop_assert_eq!(&bytes, &model);
        }
        for at in 0..320 {
            let of = |len: usize| model[at..at + len].iter().fold(0u128, |value, &byte| value << 8 | u128::from(byte));
            prop_assert_eq!(u128::from(ram.read_u8(at)), of(1));
            prop_assert_eq!(u128::from(ram.read_u16_be(at)), of(2));
            prop_assert_eq!(u128::from(ram.read_u32_le(at).swap_bytes()), of(4));
            prop_assert_eq!(u128::from(ram.read_u64_be(at)), of(8));
            prop_assert_eq!(ram.read_u128_be(at), of(16));
        }
    }
}

#[test]
fn interlocked_updates_compare_and_replace() {
    let storage = Storage::new(0x1000).unwrap();
    let ram = storage.ram();
    ram.write_u64_be(16, 7);
    assert_eq!(ram.compare_exchange_u64_be(16, 8, 9), Err(7));
    assert_eq!(ram.compare_exchange_u64_be(16, 7, 9), Ok(7));
    assert_eq!(ram.fetch_update_u64_be(16, |old| old + 1), 9);
    assert_eq!(ram.fetch_update_u32_be(20, |old| old << 8), 10);
    assert_eq!(ram.read_u64_be(16), 0xa00);
    let wide = 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff;
    ram.store_u128_be_atomic(32, wide);
    assert_eq!((ram.read_u128_be(32), ram.load_u128_be_atomic(32), ram.read_u8(32)), (wide, wide, 0));
    assert_eq!(ram.compare_exchange_u128_be(32, 1, 2), Err(wide));
    assert_eq!(ram.compare_exchange_u128_be(32, wide, 2), Ok(wide));
    assert_eq!(ram.read_u64_be(40), 2);
}

#[test]
fn interlocked_updates_of_16_bytes_lose_nothing() {
    let storage = Storage::new(0x1000).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let ram = storage.ram();
                for _ in 0..20_000 {
                    let mut old = ram.load_u128_be_atomic(64);
                    while let Err(found) = ram.compare_exchange_u128_be(64, old, old + (1 << 64) + 1) {
                        old = found;
                    }
                }
            });
        }
    });
    assert_eq!(storage.ram().read_u128_be(64), 40_000 << 64 | 40_000);
}

#[test]
fn a_handle_keeps_the_storage_mapped() {
    let ram = Storage::new(0x1000).unwrap().ram();
    ram.write_u8(0x1fff, 1);
    assert_eq!(ram.read_u8(0x1fff), 1);
}

#[test]
fn an_offset_outside_never_reaches_memory() {
    let storage = Storage::new(0x1000).unwrap();
    let ram = storage.ram();
    assert_eq!(ram.reservation(), 0x2000);
    let tries: [fn(&Ram); 8] = [
        |ram| ram.write_u8(0x2000, 1),
        |ram| _ = ram.read_u64_be(0x1ff9),
        |ram| _ = ram.read_u128_be(0x1ff8),
        |ram| _ = ram.read_u32_be(usize::MAX - 1),
        |ram| ram.fill(1, 0, 0x2000),
        |ram| ram.copy_within(0x1000, 0, usize::MAX),
        |ram| ram.copy_forward(0x1001, 0x1000, 0x1000),
        |ram| _ = ram.compare_exchange_u32_be(2, 0, 0),
    ];
    for (number, access) in tries.iter().enumerate() {
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| access(&ram)));
        assert!(caught.is_err(), "try {number}");
    }
    ram.copy_out(0x2000, &mut []);
}
