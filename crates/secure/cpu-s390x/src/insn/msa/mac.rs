//! COMPUTE MESSAGE AUTHENTICATION CODE, and PERFORM CRYPTOGRAPHIC COMPUTATION: the last block of a CMAC, the first
//! parameter of XTS.

use super::cipher::{CIPHERS, Cipher, block_size, times_x};
use super::{CHUNK, Service, chunks, fetch, finished, probe_parameters, require, update, xor};
use crate::cpu::Cpu;
use crate::insn::storage::{address, length};
use crate::op::{Op, Step};
use zeroize::Zeroizing;

pub(super) const KMAC: Service = Service {
    functions: CIPHERS,
    modifier: false,
    pairs: [false, true, false],
    run: |c, op, function| {
        if block_size(function) == 8 { kmac::<8>(c, op, function) } else { kmac::<16>(c, op, function) }
    },
};
pub(super) const PCC: Service = Service {
    functions: &[1, 2, 3, 18, 19, 20, 50, 52],
    modifier: false,
    pairs: [false; 3],
    run: |c, _, function| match function {
        1..16 => last_block::<8>(c, function, 0x1b),
        16..50 => last_block::<16>(c, function, 0x87),
        50 => xts_parameter(c, function, 16),
        _ => xts_parameter(c, function, 32),
    },
};

fn kmac<const N: usize>(c: &mut Cpu, op: &Op, function: u8) -> Step {
    let left = length(c, op.r2 + 1);
    require(c, left.is_multiple_of(N as u64))?;
    if left == 0 {
        return finished(c, true);
    }
    let mut value = fetch::<N>(c, 0)?;
    let cipher = Cipher::fetch(c, function, N)?;
    let mut buffer = [0; CHUNK];
    let all = chunks(c, N, &[op.r2], op.r2 + 1, |c, len| {
        let bytes = &mut buffer[..len];
        c.read_bytes(address(c, op.r2), bytes)?;
        probe_parameters(c, 0, N)?;
        cipher.chain(&mut value, bytes);
        update(c, 0, &value)
    })?;
    finished(c, all)
}

/// The last block of a CMAC (SP 800-38B, section 6.2). `reduction` is the field's polynomial.
fn last_block<const N: usize>(c: &mut Cpu, function: u8, reduction: u8) -> Step {
    // Length in bits, message, chaining value, key.
    let (message_at, value_at, key_at) = (8, 8 + N, 8 + 2 * N);
    let [bits] = fetch::<1>(c, 0)?;
    let mut block = fetch::<N>(c, message_at)?;
    let value = fetch::<N>(c, value_at)?;
    let cipher = Cipher::fetch(c, function, key_at)?;
    probe_parameters(c, value_at, N)?;
    let bits = usize::from(bits);
    if bits > 8 * N {
        c.cc = 2;
        return Ok(c.stored());
    }
    let double = |value: &mut [u8; N]| {
        let carry = value[0] >> 7;
        for i in 0..N {
            value[i] = value[i] << 1 | value.get(i + 1).map_or(0, |next| next >> 7);
        }
        value[N - 1] ^= carry * reduction;
    };
    let mut subkey = Zeroizing::new([0; N]);
    cipher.encipher(&mut subkey[..]);
    double(&mut subkey);
    if bits < 8 * N {
        double(&mut subkey);
        block[bits / 8] = block[bits / 8] & !(0xff >> (bits % 8)) | 0x80 >> (bits % 8);
        block[bits / 8 + 1..].fill(0);
    }
    xor(&mut block, &value);
    xor(&mut block, &subkey[..]);
    cipher.encipher(&mut block);
    update(c, value_at, &block)?;
    finished(c, true)
}

/// The parameter that KM begins with: the enciphered tweak times x to the power of the block's number.
fn xts_parameter(c: &mut Cpu, function: u8, key: usize) -> Step {
    // Key, tweak, block-sequential number, intermediate bit index, result. No execution stops halfway, so the index is
    // not used.
    let cipher = Cipher::fetch(c, function, 0)?;
    let mut tweak = fetch::<16>(c, key)?;
    let number = u128::from_be_bytes(fetch::<16>(c, key + 16)?);
    probe_parameters(c, key + 48, 16)?;
    cipher.encipher(&mut tweak);
    let parameter = product(u128::from_le_bytes(tweak), power_of_x(number));
    update(c, key + 48, &parameter.to_le_bytes())?;
    finished(c, true)
}

fn product(a: u128, b: u128) -> u128 {
    (0..128).rev().fold(0, |sum, bit| times_x(sum) ^ if b >> bit & 1 != 0 { a } else { 0 })
}

fn power_of_x(exponent: u128) -> u128 {
    (exponent.leading_zeros()..128).fold(1, |power, bit| {
        let square = product(power, power);
        if exponent << bit >> 127 != 0 { times_x(square) } else { square }
    })
}
