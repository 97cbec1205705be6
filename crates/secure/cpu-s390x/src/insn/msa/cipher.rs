//! CIPHER MESSAGE and its modes of operation: ECB and XTS, CBC, counter, CFB, OFB.

use super::{
    CHUNK, MODIFIER, Service, chunks, commit, fetch, finished, parameters, probe_parameters, require, xor,
};
use crate::cpu::Cpu;
use crate::insn::storage::{address, length};
use crate::op::{Op, Step, Trap};
use aes::cipher::array::ArraySize;
use aes::cipher::{
    Array, Block, BlockCipherDecrypt, BlockCipherEncBackend, BlockCipherEncClosure, BlockCipherEncrypt,
    BlockSizeUser, KeyInit,
};
use zeroize::Zeroizing;

/// Function codes of the clear-key ciphers.
pub(super) const CIPHERS: &[u8] = &[1, 2, 3, 18, 19, 20];

pub(super) const KM: Service = Service {
    functions: &[1, 2, 3, 18, 19, 20, 50, 52],
    modifier: true,
    pairs: [true, true, false],
    run: |c, op, function| if function < 50 { ecb(c, op, function) } else { xts(c, op, function) },
};
pub(super) const KMC: Service = Service {
    functions: &[1, 2, 3, 18, 19, 20, 67],
    modifier: true,
    pairs: [true, true, false],
    run: |c, op, function| match function {
        1..16 => cbc::<8>(c, op, function),
        67 => pseudorandom(c, op),
        _ => cbc::<16>(c, op, function),
    },
};
pub(super) const KMCTR: Service =
    Service { functions: CIPHERS, modifier: true, pairs: [true; 3], run: counter };
pub(super) const KMF: Service =
    Service { functions: CIPHERS, modifier: true, pairs: [true, true, false], run: feedback };
pub(super) const KMO: Service =
    Service { functions: CIPHERS, modifier: true, pairs: [true, true, false], run: output_feedback };

/// A cipher with its expanded key.
pub(super) enum Cipher {
    Des(des::Des),
    Tdes2(des::TdesEde2),
    Tdes3(des::TdesEde3),
    Aes128(aes::Aes128),
    Aes192(aes::Aes192),
    Aes256(aes::Aes256),
}

/// Block size of a function's cipher.
pub(super) fn block_size(function: u8) -> usize {
    if function < 16 { 8 } else { 16 }
}

fn key_size(function: u8) -> usize {
    match function {
        1 => 8,
        2 | 18 | 50 => 16,
        3 | 19 => 24,
        _ => 32,
    }
}

impl Cipher {
    /// The cipher of a function, its key at an offset in the parameter block.
    pub(super) fn fetch(c: &mut Cpu, function: u8, offset: usize) -> Result<Self, Trap> {
        let mut key = Zeroizing::new([0; 32]);
        let addr = c.wrap(parameters(c), offset);
        let key = &mut key[..key_size(function)];
        c.read_bytes(addr, key)?;
        Self::new(function, key).ok_or_else(|| super::specification(c))
    }

    /// `None` for a key of another length.
    pub(super) fn new(function: u8, key: &[u8]) -> Option<Self> {
        fn with<C: KeyInit>(key: &[u8], cipher: fn(C) -> Cipher) -> Option<Cipher> {
            C::new_from_slice(key).ok().map(cipher)
        }
        match function {
            1 => with(key, Self::Des),
            2 => with(key, Self::Tdes2),
            3 => with(key, Self::Tdes3),
            18 | 50 => with(key, Self::Aes128),
            19 => with(key, Self::Aes192),
            _ => with(key, Self::Aes256),
        }
    }

    /// Enciphers blocks independently of one another.
    pub(super) fn encipher(&self, blocks: &mut [u8]) {
        fn each<C: BlockCipherEncrypt>(cipher: &C, blocks: &mut [u8]) {
            cipher.encrypt_blocks(whole::<C>(blocks));
        }
        match self {
            Self::Des(cipher) => each(cipher, blocks),
            Self::Tdes2(cipher) => each(cipher, blocks),
            Self::Tdes3(cipher) => each(cipher, blocks),
            Self::Aes128(cipher) => each(cipher, blocks),
            Self::Aes192(cipher) => each(cipher, blocks),
            Self::Aes256(cipher) => each(cipher, blocks),
        }
    }

    /// Deciphers blocks independently of one another.
    pub(super) fn decipher(&self, blocks: &mut [u8]) {
        fn each<C: BlockCipherDecrypt>(cipher: &C, blocks: &mut [u8]) {
            cipher.decrypt_blocks(whole::<C>(blocks));
        }
        match self {
            Self::Des(cipher) => each(cipher, blocks),
            Self::Tdes2(cipher) => each(cipher, blocks),
            Self::Tdes3(cipher) => each(cipher, blocks),
            Self::Aes128(cipher) => each(cipher, blocks),
            Self::Aes192(cipher) => each(cipher, blocks),
            Self::Aes256(cipher) => each(cipher, blocks),
        }
    }

    /// `state = E(state ^ block)` for every block: CBC in which each block is replaced by its cipher, or CBC-MAC.
    pub(super) fn chain(&self, state: &mut [u8], blocks: &mut [u8]) {
        fn each<C: BlockCipherEncrypt>(cipher: &C, state: &mut [u8], blocks: &mut [u8]) {
            if let [state, ..] = whole::<C>(state) {
                cipher.encrypt_with_backend(Chaining { state, blocks: whole::<C>(blocks) });
            }
        }
        match self {
            Self::Des(cipher) => each(cipher, state, blocks),
            Self::Tdes2(cipher) => each(cipher, state, blocks),
            Self::Tdes3(cipher) => each(cipher, state, blocks),
            Self::Aes128(cipher) => each(cipher, state, blocks),
            Self::Aes192(cipher) => each(cipher, state, blocks),
            Self::Aes256(cipher) => each(cipher, state, blocks),
        }
    }
}

/// What [`Cipher::chain`] does, inside the host's implementation of a cipher: its keys are made ready once.
struct Chaining<'a, N: ArraySize> {
    state: &'a mut Array<u8, N>,
    blocks: &'a mut [Array<u8, N>],
}

impl<N: ArraySize> BlockSizeUser for Chaining<'_, N> {
    type BlockSize = N;
}

impl<N: ArraySize> BlockCipherEncClosure for Chaining<'_, N> {
    fn call<B: BlockCipherEncBackend<BlockSize = N>>(self, backend: &B) {
        for block in self.blocks {
            xor(self.state, block);
            backend.encrypt_block(self.state.into());
            block.clone_from(self.state);
        }
    }
}

fn whole<C: BlockSizeUser>(bytes: &mut [u8]) -> &mut [Block<C>] {
    Array::slice_as_chunks_mut(bytes).0
}

/// The second operand through `transform`, chunk by chunk, into the first. `transform` changes the bytes in place; what
/// it leaves in its second argument goes to the parameter block's field at `field`.
fn stream<const N: usize>(
    c: &mut Cpu,
    op: &Op,
    block: usize,
    (field, mut value): (usize, [u8; N]),
    mut transform: impl FnMut(&mut [u8], &mut [u8; N]),
) -> Step {
    let mut buffer = [0; CHUNK];
    let all = chunks(c, block, &[op.r1, op.r2], op.r2 + 1, |c, len| {
        let bytes = &mut buffer[..len];
        c.read_bytes(address(c, op.r2), bytes)?;
        let mut next = value;
        transform(bytes, &mut next);
        commit(c, address(c, op.r1), bytes, field, &next)?;
        value = next;
        Ok(())
    })?;
    finished(c, all)
}

/// Whether there is nothing to do, after the length has been found to be a multiple of `block`.
fn nothing(c: &mut Cpu, op: &Op, block: usize) -> Result<bool, Trap> {
    let left = length(c, op.r2 + 1);
    require(c, left.is_multiple_of(block as u64))?;
    Ok(left == 0)
}

fn ecb(c: &mut Cpu, op: &Op, function: u8) -> Step {
    let block = block_size(function);
    if nothing(c, op, block)? {
        return finished(c, true);
    }
    let cipher = Cipher::fetch(c, function, 0)?;
    let decipher = c.gprs[0] & MODIFIER != 0;
    stream(
        c,
        op,
        block,
        (0, []),
        |bytes, []| {
            if decipher { cipher.decipher(bytes) } else { cipher.encipher(bytes) }
        },
    )
}

/// The next XTS tweak: times x in GF(2^128), the bytes in little-endian order (IEEE 1619).
pub(super) fn times_x(tweak: u128) -> u128 {
    tweak << 1 ^ if tweak >> 127 != 0 { 0x87 } else { 0 }
}

fn xts(c: &mut Cpu, op: &Op, function: u8) -> Step {
    if nothing(c, op, 16)? {
        return finished(c, true);
    }
    let field = key_size(function);
    let cipher = Cipher::fetch(c, function, 0)?;
    let parameter = fetch::<16>(c, field)?;
    probe_parameters(c, field, 16)?;
    let decipher = c.gprs[0] & MODIFIER != 0;
    let mut tweaks = [0; CHUNK];
    stream(c, op, 16, (field, parameter), |bytes, parameter| {
        let mut tweak = u128::from_le_bytes(*parameter);
        let tweaks = &mut tweaks[..bytes.len()];
        for at in tweaks.chunks_exact_mut(16) {
            at.copy_from_slice(&tweak.to_le_bytes());
            tweak = times_x(tweak);
        }
        xor(bytes, tweaks);
        if decipher {
            cipher.decipher(bytes)
        } else {
            cipher.encipher(bytes)
        }
        xor(bytes, tweaks);
        *parameter = tweak.to_le_bytes();
    })
}

/// Chaining value and cipher of a function that has both in its parameter block, in this order.
fn chained<const N: usize>(c: &mut Cpu, function: u8) -> Result<([u8; N], Cipher), Trap> {
    let value = fetch::<N>(c, 0)?;
    let cipher = Cipher::fetch(c, function, N)?;
    probe_parameters(c, 0, N)?;
    Ok((value, cipher))
}

fn cbc<const N: usize>(c: &mut Cpu, op: &Op, function: u8) -> Step {
    if nothing(c, op, N)? {
        return finished(c, true);
    }
    let (value, cipher) = chained::<N>(c, function)?;
    if c.gprs[0] & MODIFIER == 0 {
        return stream(c, op, N, (0, value), |bytes, value| cipher.chain(value, bytes));
    }
    let mut before = [0; CHUNK];
    stream(c, op, N, (0, value), |bytes, value| {
        let last = bytes.len() - N;
        before[..N].copy_from_slice(value);
        before[N..N + last].copy_from_slice(&bytes[..last]);
        value.copy_from_slice(&bytes[last..]);
        cipher.decipher(bytes);
        xor(bytes, &before);
    })
}

/// The generator of ANSI X9.17 under triple DES, its seed in the chaining value.
fn pseudorandom(c: &mut Cpu, op: &Op) -> Step {
    require(c, c.gprs[0] & MODIFIER == 0)?;
    if nothing(c, op, 8)? {
        return finished(c, true);
    }
    let (value, cipher) = chained::<8>(c, 3)?;
    stream(c, op, 8, (0, value), |bytes, value| {
        for block in bytes.chunks_exact_mut(8) {
            cipher.encipher(block);
            let mut date = [0; 8];
            date.copy_from_slice(block);
            xor(block, value);
            cipher.encipher(block);
            value.copy_from_slice(block);
            xor(value, &date);
            cipher.encipher(value);
        }
    })
}

fn counter(c: &mut Cpu, op: &Op, function: u8) -> Step {
    let block = block_size(function);
    if nothing(c, op, block)? {
        return finished(c, true);
    }
    let cipher = Cipher::fetch(c, function, 0)?;
    let (mut buffer, mut key_stream) = ([0; CHUNK], [0; CHUNK]);
    let all = chunks(c, block, &[op.r1, op.r2, op.x], op.r2 + 1, |c, len| {
        let (bytes, key_stream) = (&mut buffer[..len], &mut key_stream[..len]);
        c.read_bytes(address(c, op.r2), bytes)?;
        c.read_bytes(address(c, op.x), key_stream)?;
        cipher.encipher(key_stream);
        xor(bytes, key_stream);
        c.write_bytes(address(c, op.r1), bytes)
    })?;
    finished(c, all)
}

fn feedback(c: &mut Cpu, op: &Op, function: u8) -> Step {
    if block_size(function) == 8 {
        feedback_of::<8>(c, op, function)
    } else {
        feedback_of::<16>(c, op, function)
    }
}

fn feedback_of<const N: usize>(c: &mut Cpu, op: &Op, function: u8) -> Step {
    // Bits 32-39 of general register 0: bytes of feedback.
    let bytes_fed = (c.gprs[0] >> 24 & 0xff) as usize;
    require(c, (1..=N).contains(&bytes_fed))?;
    if nothing(c, op, bytes_fed)? {
        return finished(c, true);
    }
    let (value, cipher) = chained::<N>(c, function)?;
    let decipher = c.gprs[0] & MODIFIER != 0;
    let mut inputs = [0; CHUNK];
    stream(c, op, bytes_fed, (0, value), |bytes, value| {
        if decipher && bytes_fed == N {
            // All inputs of the cipher are known.
            let last = bytes.len() - N;
            let inputs = &mut inputs[..bytes.len()];
            inputs[..N].copy_from_slice(value);
            inputs[N..].copy_from_slice(&bytes[..last]);
            value.copy_from_slice(&bytes[last..]);
            cipher.encipher(inputs);
            xor(bytes, inputs);
            return;
        }
        for piece in bytes.chunks_exact_mut(bytes_fed) {
            let mut stream = *value;
            cipher.encipher(&mut stream);
            let mut fed = [0; N];
            fed[..bytes_fed].copy_from_slice(piece);
            xor(piece, &stream);
            if !decipher {
                fed[..bytes_fed].copy_from_slice(piece);
            }
            value.rotate_left(bytes_fed);
            value[N - bytes_fed..].copy_from_slice(&fed[..bytes_fed]);
        }
    })
}

fn output_feedback(c: &mut Cpu, op: &Op, function: u8) -> Step {
    fn of<const N: usize>(c: &mut Cpu, op: &Op, function: u8) -> Step {
        if nothing(c, op, N)? {
            return finished(c, true);
        }
        let (value, cipher) = chained::<N>(c, function)?;
        stream(c, op, N, (0, value), |bytes, value| {
            for block in bytes.chunks_exact_mut(N) {
                cipher.encipher(value);
                xor(block, value);
            }
        })
    }
    if block_size(function) == 8 { of::<8>(c, op, function) } else { of::<16>(c, op, function) }
}
