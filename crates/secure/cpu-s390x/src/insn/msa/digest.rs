//! COMPUTE INTERMEDIATE MESSAGE DIGEST and COMPUTE LAST MESSAGE DIGEST: SHA-1, SHA-2, SHA-3, SHAKE, GHASH.

use super::{
    CHUNK, Service, chunks, commit, fetch, finished, parameters, probe_parameters, require, update, xor,
};
use crate::cpu::Cpu;
use crate::insn::storage::{address, length, set_length};
use crate::op::{Op, Step, Trap};
use aes::cipher::Array;
use ghash::GHash;
use ghash::universal_hash::UniversalHash;
use zeroize::Zeroizing;

pub(super) const KIMD: Service = Service {
    functions: &[1, 2, 3, 32, 33, 34, 35, 36, 37, 65],
    modifier: false,
    pairs: [false, true, false],
    run: intermediate,
};
pub(super) const KLMD: Service = Service {
    functions: &[1, 2, 3, 32, 33, 34, 35, 36, 37],
    modifier: false,
    pairs: [false, true, false],
    run: last,
};

/// Bit 55 of general register 0: the message of SHAKE has been padded, there is only output to be made.
const PADDED: u64 = 0x100;

/// Longest chaining value: the state of SHA-3.
const STATE: usize = 200;

/// GHASH under one key, from any intermediate value on.
pub(super) struct Ghash {
    keyed: GHash,
    pub(super) value: [u8; 16],
}

impl Ghash {
    pub(super) fn new(key: [u8; 16], value: [u8; 16]) -> Self {
        Self { keyed: GHash::new(&key.into()), value }
    }

    /// Takes whole blocks in; the first is changed.
    pub(super) fn absorb(&mut self, blocks: &mut [u8]) {
        xor(blocks, &self.value[..16.min(blocks.len())]);
        let mut hash = self.keyed.clone();
        hash.update(Array::slice_as_chunks(blocks).0);
        self.value = hash.finalize().into();
    }
}

/// A chaining value.
enum Chain {
    Sha1([u32; 5]),
    Sha256([u32; 8]),
    Sha512([u64; 8]),
    Sponge { state: [u64; 25], rate: usize },
    Ghash(Box<Ghash>),
}

/// Bytes of a function's block.
fn block_size(function: u8) -> usize {
    match function {
        1 | 2 => 64,
        3 => 128,
        32 => 144,
        33 | 37 => 136,
        34 => 104,
        35 => 72,
        36 => 168,
        _ => 16,
    }
}

/// Bytes of a function's chaining value.
fn chain_size(function: u8) -> usize {
    match function {
        1 => 20,
        2 => 32,
        3 => 64,
        65 => 16,
        _ => STATE,
    }
}

fn words<const N: usize>(bytes: &[u8]) -> [u32; N] {
    let (words, _) = bytes.as_chunks::<4>();
    std::array::from_fn(|i| u32::from_be_bytes(words[i]))
}

fn permute(state: &mut [u64; 25]) {
    keccak::Keccak::new().with_f1600(|f1600| f1600(state));
}

impl Chain {
    fn fetch(c: &mut Cpu, function: u8) -> Result<Self, Trap> {
        let mut bytes = [0; STATE];
        let bytes = &mut bytes[..chain_size(function)];
        c.read_bytes(parameters(c), bytes)?;
        let (doubles, _) = bytes.as_chunks::<8>();
        Ok(match function {
            1 => Self::Sha1(words(bytes)),
            2 => Self::Sha256(words(bytes)),
            3 => Self::Sha512(std::array::from_fn(|i| u64::from_be_bytes(doubles[i]))),
            65 => {
                let key = Zeroizing::new(fetch::<16>(c, 16)?);
                Self::Ghash(Box::new(Ghash::new(*key, fetch::<16>(c, 0)?)))
            }
            _ => Self::Sponge {
                state: std::array::from_fn(|i| u64::from_le_bytes(doubles[i])),
                rate: block_size(function),
            },
        })
    }

    /// Takes whole blocks in; they may be changed.
    fn absorb(&mut self, blocks: &mut [u8]) {
        match self {
            Self::Sha1(state) => sha1::block_api::compress(state, blocks.as_chunks().0),
            Self::Sha256(state) => sha2::block_api::compress256(state, blocks.as_chunks().0),
            Self::Sha512(state) => sha2::block_api::compress512(state, blocks.as_chunks().0),
            Self::Sponge { state, rate } => {
                for block in blocks.chunks_exact(*rate) {
                    for (lane, bytes) in state.iter_mut().zip(block.as_chunks().0) {
                        *lane ^= u64::from_le_bytes(*bytes);
                    }
                    permute(state);
                }
            }
            Self::Ghash(ghash) => ghash.absorb(blocks),
        }
    }

    /// The chaining value as it stands in storage, in the first bytes.
    fn bytes(&self) -> [u8; STATE] {
        fn put<const N: usize>(words: impl Iterator<Item = [u8; N]>) -> [u8; STATE] {
            let mut bytes = [0; STATE];
            bytes.as_chunks_mut().0.iter_mut().zip(words).for_each(|(at, word)| *at = word);
            bytes
        }
        match self {
            Self::Sha1(state) => put(state.iter().map(|word| word.to_be_bytes())),
            Self::Sha256(state) => put(state.iter().map(|word| word.to_be_bytes())),
            Self::Sha512(state) => put(state.iter().map(|word| word.to_be_bytes())),
            Self::Sponge { state, .. } => put(state.iter().map(|word| word.to_le_bytes())),
            Self::Ghash(ghash) => put([ghash.value].into_iter()),
        }
    }
}

/// Takes the whole blocks of the second operand in. Answers whether less than a block is left.
fn absorb(c: &mut Cpu, op: &Op, function: u8, chain: &mut Chain) -> Result<bool, Trap> {
    let size = chain_size(function);
    let mut buffer = [0; CHUNK];
    chunks(c, block_size(function), &[op.r2], op.r2 + 1, |c, len| {
        let bytes = &mut buffer[..len];
        c.read_bytes(address(c, op.r2), bytes)?;
        probe_parameters(c, 0, size)?;
        chain.absorb(bytes);
        update(c, 0, &chain.bytes()[..size])
    })
}

fn intermediate(c: &mut Cpu, op: &Op, function: u8) -> Step {
    let left = length(c, op.r2 + 1);
    require(c, left.is_multiple_of(block_size(function) as u64))?;
    if left == 0 {
        return finished(c, true);
    }
    let mut chain = Chain::fetch(c, function)?;
    let all = absorb(c, op, function, &mut chain)?;
    finished(c, all)
}

fn last(c: &mut Cpu, op: &Op, function: u8) -> Step {
    let shake = matches!(function, 36 | 37);
    require(c, !shake || (op.r1 != 0 && op.r1 & 1 == 0))?;
    let before = length(c, op.r2 + 1);
    let mut chain = Chain::fetch(c, function)?;
    probe_parameters(c, 0, chain_size(function))?;
    if shake && c.gprs[0] & PADDED != 0 {
        return output(c, op, &mut chain, None);
    }
    if !absorb(c, op, function, &mut chain)? {
        return finished(c, false);
    }
    let ended = rest(c, op, function, &mut chain).and_then(|left| {
        if shake {
            return output(c, op, &mut chain, Some(left));
        }
        update(c, 0, &chain.bytes()[..chain_size(function)])?;
        consumed(c, op, left);
        finished(c, true)
    });
    match ended {
        Err(Trap) if length(c, op.r2 + 1) != before => {
            c.core_exit = None;
            finished(c, false)
        }
        ended => ended,
    }
}

/// Takes the incomplete block in, padded. Answers its bytes.
fn rest(c: &mut Cpu, op: &Op, function: u8, chain: &mut Chain) -> Result<usize, Trap> {
    let left = length(c, op.r2 + 1) as usize;
    let block = block_size(function);
    // SHA-512's padding can need a second block.
    let mut bytes = [0; 256];
    c.read_bytes(address(c, op.r2), &mut bytes[..left])?;
    let whole = if matches!(function, 1..=3) {
        // The message's length in bits is the program's.
        let size = block / 8;
        let mut bits = [0; 16];
        let addr = c.wrap(parameters(c), chain_size(function));
        c.read_bytes(addr, &mut bits[..size])?;
        bytes[left] = 0x80;
        let whole = if left + 1 + size > block { 2 * block } else { block };
        bytes[whole - size..whole].copy_from_slice(&bits[..size]);
        whole
    } else {
        bytes[left] = if function < 36 { 0x06 } else { 0x1f };
        bytes[block - 1] |= 0x80;
        block
    };
    chain.absorb(&mut bytes[..whole]);
    Ok(left)
}

/// The message is at its end.
fn consumed(c: &mut Cpu, op: &Op, left: usize) {
    let next = c.wrap(address(c, op.r2), left);
    super::set_address(c, op.r2, next);
    set_length(c, op.r2 + 1, 0);
}

/// Makes SHAKE's output, a block at a time. `message` is what of the message has just been taken in, and the chaining
/// value is that before the first block; else it is the one of the last block.
fn output(c: &mut Cpu, op: &Op, chain: &mut Chain, message: Option<usize>) -> Step {
    let Chain::Sponge { state, rate } = chain else { return finished(c, true) };
    let rate = *rate;
    let mut fresh = message;
    if length(c, op.r1 + 1) == 0 {
        let bytes = state.map(u64::to_le_bytes);
        update(c, 0, bytes.as_flattened())?;
        if let Some(left) = fresh {
            consumed(c, op, left);
        }
        return finished(c, true);
    }
    let mut made = 0;
    while length(c, op.r1 + 1) > 0 {
        if made >= super::UNIT {
            c.gprs[0] |= PADDED;
            return finished(c, false);
        }
        if fresh.is_none() {
            permute(state);
        }
        let bytes = state.map(u64::to_le_bytes);
        let bytes = bytes.as_flattened();
        let len = length(c, op.r1 + 1).min(rate as u64) as usize;
        match commit(c, address(c, op.r1), &bytes[..len], 0, bytes) {
            Err(Trap) if made > 0 => {
                c.core_exit = None;
                c.gprs[0] |= PADDED;
                return finished(c, false);
            }
            other => other?,
        }
        if let Some(left) = fresh.take() {
            consumed(c, op, left);
        }
        super::advance(c, &[op.r1], op.r1 + 1, len);
        made += len;
    }
    finished(c, true)
}
