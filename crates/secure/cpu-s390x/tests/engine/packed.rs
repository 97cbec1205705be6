//! The vector packed-decimal facility: known results, the scalar instructions, and arithmetic digit by digit.

use super::*;

const ALL: &[u16] = &[129, 134, 152];
const DATA: u16 = 7;
const DECIMAL_OVERFLOW: u16 = 10;
const DECIMAL_DIVIDE: u16 = 11;
const SPECIFICATION: u16 = 6;

/// One CPU that executes one instruction at a time.
struct One(System);

impl One {
    fn new(facilities: &[u16]) -> Self {
        Self(system_with("j .", 1, VIRTUAL, facilities))
    }

    /// The state after an instruction, and the interruption code if it ended in one. Vectors are enabled; the
    /// condition code is 2 before, the decimal-overflow and fixed-point-overflow masks are zero.
    fn execute(&self, code: &[u8], change: impl FnOnce(&mut CpuState)) -> (CpuState, Option<u16>) {
        let storage = self.0.storage();
        storage.ram().copy_in(0x2000, code);
        storage.code_write(2, 0, 8);
        storage.ram().write_u32_be(0x8c, 0);
        let mut state = CpuState { version: CpuState::VERSION, ..CpuState::default() };
        state.psw = Psw { mask: Psw::EA | Psw::BA | 2 << 44, addr: 0x2000 };
        state.crs[0] = 0xe0 | 3 << 17;
        state.run_state = RunState::Operating;
        change(&mut state);
        self.0.set_state(0, &state).unwrap();
        self.0.run(0, RunLimit { instructions: Some(1), block: false }, None).unwrap();
        let after = self.0.state(0).unwrap();
        let code = (after.psw.addr == 0x1d0).then(|| u32_at(&self.0, 0x8c) as u16);
        (after, code)
    }

    /// An instruction of three registers, here 17, 2 and 19: the result, the condition code, the interruption.
    fn three(&self, op: u8, a: u128, b: u128, i4: u8, m5: u8) -> (u128, u8, Option<u16>) {
        self.three_masked(op, a, b, i4, m5, 0)
    }

    fn three_masked(&self, op: u8, a: u128, b: u128, i4: u8, m5: u8, mask: u64) -> (u128, u8, Option<u16>) {
        let code = [0xe6, 0x12, 0x30, m5 << 4 | i4 >> 4, i4 << 4 | 0b1010, op];
        let (state, code) = self.execute(&code, |state| {
            (state.vrs[2], state.vrs[19], state.vrs[17]) = (a, b, 0x99);
            state.psw.mask |= mask;
        });
        (state.vrs[17], self.condition(&state, code), code)
    }

    /// VSRP, VPSOP from register 18 to register 1.
    fn two(&self, op: u8, a: u128, i4: u8, i3: u8, m5: u8) -> (u128, u8, Option<u16>) {
        let code = [0xe6, 0x12, i4, m5 << 4 | i3 >> 4, i3 << 4 | 0b0100, op];
        let (state, code) = self.execute(&code, |state| (state.vrs[18], state.vrs[1]) = (a, 0x99));
        (state.vrs[1], self.condition(&state, code), code)
    }

    /// The condition code, which an interruption has in its old PSW.
    fn condition(&self, state: &CpuState, code: Option<u16>) -> u8 {
        cc(if code.is_some() { u64_at(&self.0, 0x150) } else { state.psw.mask })
    }

    /// A storage instruction of the general kind, with registers 4 and 5 as bases and 6 as third operand.
    fn bytes(&self, code: &[u8], gprs: &[(usize, u64)]) -> (CpuState, Option<u16>) {
        self.execute(code, |state| gprs.iter().for_each(|&(r, value)| state.gprs[r] = value))
    }
}

fn cc(mask: u64) -> u8 {
    (mask >> 44 & 3) as u8
}

/// A packed number of 31 digits with preferred signs.
fn packed(value: i128) -> u128 {
    let digits = format!("{:031}{}", value.unsigned_abs(), if value < 0 { 'd' } else { 'c' });
    u128::from_str_radix(&digits, 16).unwrap()
}

/// Numbers of up to 31 digits in which short ones and close ones are frequent.
fn number() -> impl Strategy<Value = i128> {
    let digits = (0_u32..=31, any::<u128>()).prop_map(|(n, value)| (value % 10_u128.pow(n)) as i128);
    let edge = (0_u32..=31, -1_i128..=1).prop_map(|(n, by)| (10_i128.pow(n) + by) % 10_i128.pow(31));
    (prop_oneof![digits, edge], any::<bool>()).prop_map(|(value, minus)| if minus { -value } else { value })
}

/// Digits of a product, least significant first, the way it is done at school.
fn school(a: u128, b: u128) -> Vec<u8> {
    let digits = |value: u128| -> Vec<u32> {
        format!("{value}").bytes().rev().map(|digit| u32::from(digit - b'0')).collect()
    };
    let (a, b) = (digits(a), digits(b));
    let mut out = vec![0_u32; a.len() + b.len()];
    for (i, x) in a.iter().enumerate() {
        for (j, y) in b.iter().enumerate() {
            out[i + j] += x * y;
        }
    }
    let mut carry = 0;
    out.iter()
        .map(|digit| {
            carry += digit;
            let digit = (carry % 10) as u8;
            carry /= 10;
            digit
        })
        .collect()
}

/// What is stored of exact digits: the register, and whether some were lost.
fn cut(digits: &[u8], count: usize, negative: bool) -> (u128, bool) {
    let lost = digits.iter().skip(count).any(|digit| *digit != 0);
    let kept = digits.iter().take(count).rev().fold(0, |value, digit| value << 4 | u128::from(*digit));
    let zero = kept == 0 && !lost;
    (kept << 4 | if negative && !zero { 13 } else { 12 }, lost)
}

fn condition(value: u128, lost: bool) -> u8 {
    match (lost, value >> 4, value & 15) {
        (true, ..) => 3,
        (_, 0, _) => 0,
        (.., 13) => 1,
        _ => 2,
    }
}

fn reversed(value: u128) -> Vec<u8> {
    format!("{value}").bytes().rev().map(|digit| digit - b'0').collect()
}

#[test]
fn sa22_7832_25_arithmetic_is_as_digit_by_digit() {
    let one = One::new(ALL);
    let mut runner = proptest::test_runner::TestRunner::new(proptest::test_runner::Config::with_cases(3000));
    runner
        .run(&(number(), number(), 1_usize..=31, 0_u32..=31), |(a, b, count, shift)| {
            let (pa, pb) = (packed(a), packed(b));
            let digits = count as u8;
            let check = |op, controls, (value, lost)| {
                let got = one.three(op, pa, pb, controls, 1);
                prop_assert_eq!(
                    got,
                    (value, condition(value, lost), None),
                    "{:x} {} {} {}",
                    op,
                    a,
                    b,
                    controls
                );
                Ok(())
            };
            check(0x71, digits, cut(&reversed((a + b).unsigned_abs()), count, a + b < 0))?;
            check(0x73, digits, cut(&reversed((a - b).unsigned_abs()), count, a - b < 0))?;
            let product = school(a.unsigned_abs(), b.unsigned_abs());
            let minus = (a < 0) != (b < 0);
            check(0x78, digits, cut(&product, count, minus))?;
            let shifted = product.get(shift as usize..).unwrap_or_default();
            check(0x79, shift as u8, cut(shifted, 31, minus))?;
            if b == 0 {
                let got = one.three(0x7a, pa, pb, digits, 1);
                prop_assert_eq!(got, (0x99, 2, Some(DECIMAL_DIVIDE)));
                return Ok(());
            }
            check(0x7a, digits, cut(&reversed((a / b).unsigned_abs()), count, minus))?;
            check(0x7b, digits, cut(&reversed((a % b).unsigned_abs()), count, a < 0))?;
            // The quotient of the shifted dividend, digit by digit as at school.
            let dividend = reversed(a.unsigned_abs());
            let mut rest = 0;
            let mut quotient = Vec::new();
            let zeros = std::iter::repeat_n(&0, shift as usize);
            for digit in dividend.iter().rev().chain(zeros) {
                rest = rest * 10 + u128::from(*digit);
                quotient.push((rest / b.unsigned_abs()) as u8);
                rest %= b.unsigned_abs();
            }
            quotient.reverse();
            check(0x7e, shift as u8, cut(&quotient, 31, minus))?;
            let got =
                one.execute(&[0xe6, 2, 0x30, 0, 2, 0x77], |state| (state.vrs[2], state.vrs[19]) = (pa, pb));
            prop_assert_eq!(cc(got.0.psw.mask), [1, 0, 2][(a.cmp(&b) as i8 + 1) as usize]);
            Ok(())
        })
        .unwrap();
}

#[test]
fn sa22_7832_25_scalar_instructions_agree() {
    let one = One::new(ALL);
    let ram = one.0.storage().ram();
    let mut runner = proptest::test_runner::TestRunner::new(proptest::test_runner::Config::with_cases(2000));
    let signs = proptest::sample::select(vec![0xa_u128, 0xb, 0xc, 0xd, 0xe, 0xf]);
    runner
        .run(&(number(), number(), signs, -32_i8..32, any::<u64>()), |(a, b, sign, shift, binary)| {
            let (pa, pb) = (packed(a) & !15 | sign, packed(b));
            let scalar = |code: &[u8]| {
                ram.write_u128_be(0x4000, pa);
                ram.write_u128_be(0x5000, pb);
                ram.fill(0x6000, 0x5a, 0x100);
                let gprs = [(4, 0x4000), (5, 0x5000), (6, binary), (7, 0x6000)];
                let (state, code) = one.bytes(code, &gprs);
                assert_eq!(code, None);
                (ram.read_u128_be(0x4000), cc(state.psw.mask), state.gprs)
            };
            // AP, SP, CP of 16 bytes each; TP; SRP with rounding digit 5.
            for (code, op) in [(0xfa, 0x71), (0xfb, 0x73)] {
                let (value, cc, _) = scalar(&[code, 0xff, 0x40, 0, 0x50, 0]);
                prop_assert_eq!(one.three(op, pa, pb, 31, 1), (value, cc, None));
            }
            let (_, compared, _) = scalar(&[0xf9, 0xff, 0x40, 0, 0x50, 0]);
            let got =
                one.execute(&[0xe6, 2, 0x30, 0, 2, 0x77], |state| (state.vrs[2], state.vrs[19]) = (pa, pb));
            prop_assert_eq!(cc(got.0.psw.mask), compared);
            let (value, shifted, _) = scalar(&[0xf0, 0xf5, 0x40, 0, 0, shift as u8 & 63]);
            prop_assert_eq!(one.two(0x59, pa, 0x80 | shift as u8 & 127, 31, 1), (value, shifted, None));
            // CVBG, CVDG.
            if let Ok(small) = i64::try_from(a) {
                let (.., gprs) = scalar(&[0xe3, 0x60, 0x40, 0, 0, 0x0e]);
                let signed =
                    if matches!(sign, 0xb | 0xd) { small.abs().wrapping_neg() } else { small.wrapping_abs() };
                prop_assert_eq!(gprs[6] as i64, signed);
                let (state, _) = one.execute(&[0xe6, 0x62, 0, 0x10, 0, 0x52], |state| state.vrs[2] = pa);
                prop_assert_eq!((state.gprs[6], cc(state.psw.mask)), (gprs[6], 0));
            }
            let (value, ..) = scalar(&[0xe3, 0x60, 0x40, 0, 0, 0x2e]);
            let (state, _) = one.bytes(&[0xe6, 0x16, 0, 0x11, 0xf0, 0x5a], &[(6, binary)]);
            prop_assert_eq!((state.vrs[1], cc(state.psw.mask)), (value, 0));
            // UNPK of 16 digits, PACK of them: the vector instructions have 31 digits, so eight bytes are enough.
            let len = (binary % 15) as u8;
            let _ = scalar(&[0xf3, len << 4 | 0xf, 0x70, 0, 0x40, 0]);
            let expected = ram.read_u128_be(0x6000);
            ram.fill(0x6000, 0x5a, 0x100);
            let (_, code) = one.execute(&[0xe6, len, 0x70, 0, 0x20, 0x3c], |state| {
                (state.vrs[2], state.gprs[7]) = (pa, 0x6000);
            });
            prop_assert_eq!((code, ram.read_u128_be(0x6000)), (None, expected));
            let (state, _) = one.bytes(&[0xe6, len, 0x70, 0, 0x20, 0x34], &[(7, 0x6000)]);
            ram.write_u128_be(0x4000, 0);
            let (_, code) = one.bytes(&[0xf2, 0xf0 | len, 0x40, 0, 0x70, 0], &[(4, 0x4000), (7, 0x6000)]);
            prop_assert_eq!((code, ram.read_u128_be(0x4000)), (None, state.vrs[2]));
            Ok(())
        })
        .unwrap();
}

#[test]
fn sa22_7832_25_controls_force_signs_and_mask_overflow() {
    let one = One::new(ALL);
    let (five, minus) = (packed(5), packed(-7));
    // P1 makes the sign 1111; P2 and P3 make operands positive whatever their sign.
    assert_eq!(one.three(0x71, five, minus, 31, 1), (packed(-2), 1, None));
    assert_eq!(one.three(0x71, five, minus, 31, 0), (packed(-2), 2, None), "no condition code");
    assert_eq!(one.three(0x71, five, minus, 31, 3), (0x2f, 2, None));
    assert_eq!(one.three(0x71, five, minus, 31, 5), (packed(12), 2, None));
    assert_eq!(one.three(0x71, 0x51, five, 31, 9), (packed(10), 2, None), "the sign 1 is not looked at");
    assert_eq!(one.three(0x71, 0x51, five, 31, 1), (0x99, 2, Some(DATA)));
    assert_eq!(u32_at(&one.0, 0x90), 0);
    assert_eq!(one.three(0x71, 0xa0c, five, 31, 9), (0x99, 2, Some(DATA)));
    // A zero that is left after an overflow keeps its sign.
    assert_eq!(one.three(0x73, packed(-5), packed(5), 1, 1), (0xd, 3, None));
    assert_eq!(one.three(0x73, five, five, 1, 1), (0xc, 0, None));
    // Decimal-overflow mask; the instruction-overflow mask keeps it off.
    assert_eq!(one.three_masked(0x71, five, five, 1, 1, 4 << 40), (0xc, 3, Some(DECIMAL_OVERFLOW)));
    assert_eq!(u64_at(&one.0, 0x158), 0x2006);
    assert_eq!(one.three_masked(0x71, five, five, 0x81, 1, 4 << 40), (0xc, 3, None));
    // No digits, reserved bits, and the overflow mask without its facility.
    for controls in [0, 0x80, 0x3f, 0x5f] {
        assert_eq!(one.three(0x71, five, five, controls, 1), (0x99, 2, Some(SPECIFICATION)), "{controls:#x}");
    }
    let plain = One::new(&[129, 134]);
    assert_eq!(plain.three(0x71, five, five, 0x81, 1), (0x99, 2, Some(SPECIFICATION)));
    assert_eq!(plain.three(0x79, five, five, 0, 1), (packed(25), 2, None), "a shift amount may be 0");
    // Neither without vectors enabled nor without the facility.
    let (_, code) = one.execute(&[0xe6, 0, 0, 0, 0, 0x5f], |state| state.crs[0] = 0xe0 | 1 << 18);
    assert_eq!((code, u32_at(&one.0, 0x90)), (Some(DATA), 0xfe));
    assert_eq!(One::new(&[129]).three(0x71, five, five, 31, 1), (0x99, 2, Some(1)));
}

#[test]
fn sa22_7832_25_perform_sign_operation() {
    let one = One::new(ALL);
    let (plus, minus, zero, minus_zero) = (0x12a_u128, 0x12b, 0xe, 0xd);
    // Operand, I4, result, condition code. I4: NV, NZ, SO, PC, SV.
    let cases = [
        (plus, 0x00, 0x12c, 2),
        (plus, 0x02, 0x12f, 2),
        (minus, 0x00, 0x12d, 1),
        (minus, 0x02, 0x12d, 1),
        (zero, 0x40, 0xc, 0),
        (minus_zero, 0x00, 0xc, 0),
        (minus_zero, 0x02, 0xf, 0),
        (minus_zero, 0x40, 0xd, 0),
        (plus, 0x04, 0x12d, 1),
        (minus, 0x04, 0x12c, 2),
        (minus, 0x06, 0x12f, 2),
        (zero, 0x04, 0xc, 0),
        (zero, 0x44, 0xd, 0),
        (minus, 0x08, 0x12c, 2),
        (minus, 0x0a, 0x12f, 2),
        (0x121, 0x08, 0x12c, 2),
        (plus, 0x0c, 0x12d, 1),
        (0x121, 0x0c, 0x12d, 1),
        (zero, 0x0c, 0xc, 0),
        (zero, 0x4c, 0xd, 0),
        // No validation.
        (0x1a1, 0x80, 0x1a1, 2),
        (0x1ad, 0x80, 0x1ad, 1),
    ];
    for (operand, i4, result, cc) in cases {
        assert_eq!(one.two(0x5b, operand, i4, 31, 1), (result, cc, None), "{operand:x} {i4:x}");
    }
    for (operand, i4) in [(0x121, 0), (0x121, 4), (0x121, 9), (0x121, 0x84), (0x1ac, 0)] {
        assert_eq!(one.two(0x5b, operand, i4, 31, 1), (0x99, 2, Some(DATA)), "{operand:x} {i4:x}");
    }
    assert_eq!(one.two(0x5b, packed(-123), 0, 2, 1), (0x23d, 3, None));
    // Without the enhancement digits are always checked, and zero is not negative.
    let plain = One::new(&[129, 134]);
    assert_eq!(plain.two(0x5b, 0x1a1, 0x80, 31, 1), (0x99, 2, Some(DATA)));
    assert_eq!(plain.two(0x5b, minus_zero, 0x40, 31, 1), (0xc, 0, None));
}

#[test]
fn sa22_7832_25_conversions_and_their_limits() {
    let one = One::new(ALL);
    // VCVB 6,2: M3, value, result, condition code.
    let big = i128::from(i32::MAX);
    let cases = [
        (1, big, 0x7fff_ffff_u32, 0),
        (1, big + 1, 0x8000_0000, 3),
        (1, -big - 1, 0x8000_0000, 0),
        (1, -big - 2, 0x7fff_ffff, 3),
        (3, (1 << 32) - 1, u32::MAX, 0),
        (3, 1 << 32, 0, 3),
        (3, -5, 5, 0),
        (9, -5, 5, 0),
        (0, -5, -5_i32 as u32, 2),
    ];
    for (m3, value, result, expected) in cases {
        let (state, code) = one.execute(&[0xe6, 0x62, 0, m3 << 4, 0, 0x50], |state| {
            (state.vrs[2], state.gprs[6]) = (packed(value), 0x77 << 32);
        });
        let got = (state.gprs[6], cc(state.psw.mask), code);
        assert_eq!(got, (0x77 << 32 | u64::from(result), expected, None), "{m3} {value}");
    }
    for (m4, code) in [(0, Some(8)), (8, None)] {
        let got = one.execute(&[0xe6, 0x62, 0, 0x10 | m4, 0, 0x52], |state| {
            state.vrs[2] = packed(1 << 63);
            state.psw.mask |= 8 << 40;
        });
        assert_eq!((got.1, got.0.gprs[6]), (code, 1 << 63), "completed in either case");
    }
    // VCVD 1,6: the last 32 bits, signed or not; P1; digits.
    let cases = [
        (0x1, 31, packed(-2), 0),
        (0x9, 31, packed(0xffff_fffe), 0),
        (0x3, 31, 0x2f, 0),
        (0x9, 3, 0x294c, 3),
        (0x8, 3, 0x294c, 2),
    ];
    for (m4, i3, result, expected) in cases {
        let code = [0xe6, 0x16, 0, m4 << 4 | i3 >> 4, i3 << 4, 0x58];
        let (state, code) = one.bytes(&code, &[(6, 0x5_ffff_fffe)]);
        assert_eq!((state.vrs[1], cc(state.psw.mask), code), (result, expected, None), "{m4:x} {i3}");
    }
    // VLIP 17,0x1234: sign and shift.
    for (i3, value) in [(0, 0x1234c), (8, 0x1234d), (1, 0x1_2340c), (0xf, 0x1234_0000_000d)] {
        let (state, code) = one.execute(&[0xe6, 0x10, 0x12, 0x34, i3 << 4 | 8, 0x49], |_| {});
        assert_eq!((state.vrs[17], code), (value, None), "{i3}");
    }
    for digits in [[0xa2, 0x34], [0x1b, 0x34], [0x12, 0xc4], [0x12, 0x3d]] {
        let code = [0xe6, 0x10, digits[0], digits[1], 0, 0x49];
        assert_eq!(one.execute(&code, |_| {}).1, Some(DATA));
    }
    for (value, expected) in [(0x12c, 0), (0x123, 1), (0xa2d, 2), (0x1a3, 3)] {
        let (state, _) = one.execute(&[0xe6, 1, 0, 0, 0x4, 0x5f], |state| state.vrs[17] = value);
        assert_eq!(cc(state.psw.mask), expected);
    }
}

#[test]
fn sa22_7832_25_shift_and_round() {
    let one = One::new(ALL);
    let right = |n: u8| n.wrapping_neg() & 127;
    // Value, I4, digits, result, condition code.
    let cases = [
        (1249, right(2), 31, 12, 2),
        (1250, 0x80 | right(2), 31, 13, 2),
        (-1250, 0x80 | right(2), 31, -13, 1),
        (-1249, 0x80 | right(2), 31, -12, 1),
        (-4, right(1), 31, 0, 0),
        (9_999_999, right(64), 31, 0, 0),
        (12, 3, 31, 12000, 2),
        (12, 3, 4, 2000, 3),
        (7, 31, 31, 0, 3),
        (0, 63, 31, 0, 0),
        (12, 0, 2, 12, 2),
    ];
    for (value, i4, digits, result, cc) in cases {
        assert_eq!(one.two(0x59, packed(value), i4, digits, 1), (packed(result), cc, None), "{value} {i4}");
    }
}

#[test]
fn sa22_7832_25_rightmost_bytes_are_loaded_and_stored_whole() {
    let one = One::new(ALL);
    let ram = one.0.storage().ram();
    let value = 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10_u128;
    for len in 0..16_u8 {
        ram.write_u128_be(0x4ff8, value);
        let expected = value >> (120 - 8 * u32::from(len));
        // VLRL 18,0(4),len and VLRLR 18,6,0(4).
        let (state, _) = one.bytes(&[0xe6, len, 0x40, 0, 0x21, 0x35], &[(4, 0x4ff8)]);
        assert_eq!(state.vrs[18], expected);
        for length in [u64::from(len) | 1 << 32, if len == 15 { 0xffff_ffff } else { len.into() }] {
            let (state, _) = one.bytes(&[0xe6, 6, 0x40, 0, 0x21, 0x37], &[(4, 0x4ff8), (6, length)]);
            assert_eq!(state.vrs[18], expected);
        }
        for code in [[0xe6, len, 0x40, 0, 0x21, 0x3d], [0xe6, 6, 0x40, 0, 0x21, 0x3f]] {
            ram.fill(0x4ff8, 0xee, 32);
            one.execute(&code, |state| {
                (state.vrs[18], state.gprs[4], state.gprs[6]) = (value, 0x4ff8, len.into())
            });
            let mut bytes = [0; 17];
            ram.copy_out(0x4ff8, &mut bytes);
            let len = usize::from(len) + 1;
            assert_eq!(bytes[..len], value.to_be_bytes()[16 - len..]);
            assert!(bytes[len..].iter().all(|byte| *byte == 0xee));
        }
    }
    for (op, i3) in [(0x35, 16), (0x3d, 0x80), (0x34, 31), (0x34, 0x20), (0x3c, 31)] {
        assert_eq!(one.bytes(&[0xe6, i3, 0x40, 0, 0x21, op], &[(4, 0x4000)]).1, Some(SPECIFICATION));
    }
    // The second page is not there: nothing is stored in the first.
    let end = one.0.storage().size();
    for code in [[0xe6, 15, 0x40, 0, 0x21, 0x3d], [0xe6, 30, 0x40, 0, 0x21, 0x3c]] {
        let (_, interruption) = one.execute(&code, |state| (state.vrs[18], state.gprs[4]) = (value, end - 8));
        assert_eq!((interruption, ram.read_u64_be(end as usize - 8)), (Some(5), 0));
    }
    // VPKZ and VUPKZ of all 31 digits.
    let zoned: Vec<u8> = (0..31).map(|n| if n == 30 { 0xd7 } else { 0xf0 | (n % 10) }).collect();
    ram.copy_in(0x4000, &zoned);
    let (state, _) = one.bytes(&[0xe6, 30, 0x40, 0, 0x21, 0x34], &[(4, 0x4000)]);
    assert_eq!(state.vrs[18], 0x0123_4567_8901_2345_6789_0123_4567_897d);
    one.execute(&[0xe6, 30, 0x50, 0, 0x21, 0x3c], |now| (now.vrs[18], now.gprs[5]) = (state.vrs[18], 0x5000));
    let mut back = vec![0; 31];
    ram.copy_out(0x5000, &mut back);
    assert_eq!(back, zoned);
}
