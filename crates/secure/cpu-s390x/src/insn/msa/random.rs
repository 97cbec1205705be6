//! PERFORM RANDOM NUMBER OPERATION: the deterministic generator of SP 800-90A (Hash_DRBG with SHA-512) and the true
//! random numbers of the configuration's source.

use super::{CHUNK, MODIFIER, Service, chunks, finished, parameters, probe_parameters, require, update};
use crate::cpu::Cpu;
use crate::insn::storage::{address, length};
use crate::op::{Op, Step, Trap};
use crate::system::lock;
use sha2::{Digest, Sha512};
use zeroize::{Zeroize, Zeroizing};

pub(super) const PRNO: Service =
    Service { functions: &[3, 112, 114], modifier: true, pairs: [true, true, false], run: random };

/// Bytes of V and C: 888 bits.
const SEED: usize = 111;
/// Most bytes of seed material.
const MATERIAL: usize = 512;
/// Most bytes that one request of the generator gives (SP 800-90A, table 2).
const REQUEST: u64 = 1 << 16;

fn random(c: &mut Cpu, op: &Op, function: u8) -> Step {
    match function {
        3 if c.gprs[0] & MODIFIER != 0 => seed(c, op),
        3 => generate(c, op),
        112 => {
            // Raw bytes of the source are as good as conditioned ones.
            update(c, 0, &[0, 0, 0, 1, 0, 0, 0, 1])?;
            finished(c, true)
        }
        _ => truly(c, op),
    }
}

/// Raw entropy into the first operand, conditioned into the second.
fn truly(c: &mut Cpu, op: &Op) -> Step {
    let before = length(c, op.r1 + 1);
    let draw = |c: &mut Cpu, r: u8| {
        let mut bytes = Zeroizing::new([0; CHUNK]);
        chunks(c, 1, &[r], r + 1, |c, len| {
            c.probe_write(address(c, r), len as u64)?;
            lock(&c.env.entropy).fill(&mut bytes[..len]);
            c.write_bytes(address(c, r), &bytes[..len])
        })
    };
    let mut all = draw(c, op.r1)?;
    if all {
        all = match draw(c, op.r2) {
            Err(Trap) if length(c, op.r1 + 1) != before => {
                c.core_exit = None;
                false
            }
            answer => answer?,
        };
    }
    finished(c, all)
}

/// The parameter block.
#[derive(Zeroize)]
#[zeroize(drop)]
struct Generator {
    reseeds: u32,
    stream_bytes: u64,
    v: [u8; SEED],
    c: [u8; SEED],
}

impl Generator {
    const SIZE: usize = 240;

    fn fetch(c: &mut Cpu) -> Result<Self, Trap> {
        let mut block = Zeroizing::new([0; Self::SIZE]);
        c.read_bytes(parameters(c), &mut block[..])?;
        probe_parameters(c, 0, Self::SIZE)?;
        let mut generator = Self { reseeds: 0, stream_bytes: 0, v: [0; SEED], c: [0; SEED] };
        generator.v.copy_from_slice(&block[17..128]);
        generator.c.copy_from_slice(&block[129..]);
        generator.reseeds = block[4..8].iter().fold(0, |word, byte| word << 8 | u32::from(*byte));
        generator.stream_bytes = block[8..16].iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        Ok(generator)
    }

    /// Everything but the reserved first word.
    fn update(&self, c: &mut Cpu) -> Result<(), Trap> {
        let mut block = Zeroizing::new([0; Self::SIZE - 4]);
        block[..4].copy_from_slice(&self.reseeds.to_be_bytes());
        block[4..12].copy_from_slice(&self.stream_bytes.to_be_bytes());
        block[13..124].copy_from_slice(&self.v);
        block[125..].copy_from_slice(&self.c);
        update(c, 4, &block[..])
    }
}

/// Hash_df (SP 800-90A, section 10.3.1) of the inputs one after the other.
fn derive(inputs: &[&[u8]]) -> [u8; SEED] {
    let mut derived = [0; SEED];
    for (piece, counter) in derived.chunks_mut(64).zip(1..) {
        let mut hash = Sha512::new().chain_update([counter]).chain_update((8 * SEED as u32).to_be_bytes());
        inputs.iter().for_each(|input| hash.update(input));
        piece.copy_from_slice(&hash.finalize()[..piece.len()]);
    }
    derived
}

/// `to += number`, modulo 2^888.
fn add(to: &mut [u8; SEED], number: &[u8]) {
    let mut carry = 0;
    let addend = number.iter().rev().chain(std::iter::repeat(&0));
    for (byte, other) in to.iter_mut().rev().zip(addend) {
        let sum = u16::from(*byte) + u16::from(*other) + carry;
        *byte = sum as u8;
        carry = sum >> 8;
    }
}

/// Instantiates a generator whose reseed counter is zero, else reseeds it.
fn seed(c: &mut Cpu, op: &Op) -> Step {
    let len = length(c, op.r2 + 1);
    require(c, len <= MATERIAL as u64)?;
    let mut material = Zeroizing::new([0; MATERIAL]);
    let material = &mut material[..len as usize];
    c.read_bytes(address(c, op.r2), material)?;
    let mut generator = Generator::fetch(c)?;
    generator.v = match generator.reseeds {
        0 => derive(&[material]),
        _ => derive(&[&[1], &generator.v, material]),
    };
    generator.c = derive(&[&[0], &generator.v]);
    generator.reseeds = 1;
    generator.stream_bytes = 0;
    generator.update(c)?;
    finished(c, true)
}

/// One request of at most [`REQUEST`] bytes; a longer first operand takes more executions, each a request.
fn generate(c: &mut Cpu, op: &Op) -> Step {
    let len = length(c, op.r1 + 1).min(REQUEST) as usize;
    if len == 0 {
        return finished(c, true);
    }
    let mut generator = Generator::fetch(c)?;
    c.probe_write(address(c, op.r1), len as u64)?;
    let mut data = Zeroizing::new(generator.v);
    let mut output = Zeroizing::new(vec![0; len]);
    for piece in output.chunks_mut(64) {
        piece.copy_from_slice(&Sha512::digest(&data[..])[..piece.len()]);
        add(&mut data, &[1]);
    }
    let hash = Sha512::new().chain_update([3]).chain_update(generator.v).finalize();
    let (constant, reseeds) = (Zeroizing::new(generator.c), generator.reseeds.to_be_bytes());
    add(&mut generator.v, &hash);
    add(&mut generator.v, &constant[..]);
    add(&mut generator.v, &reseeds);
    generator.reseeds = generator.reseeds.wrapping_add(1);
    generator.stream_bytes = generator.stream_bytes.wrapping_add(len as u64);
    c.write_bytes(address(c, op.r1), &output)?;
    generator.update(c)?;
    super::advance(c, &[op.r1], op.r1 + 1, len);
    let all = length(c, op.r1 + 1) == 0;
    finished(c, all)
}
