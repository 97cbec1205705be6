//! The message-security assist (SA22-7832, chapter 7, "CIPHER MESSAGE" and following): ciphers, digests, message
//! authentication and random numbers at the speed of the host's own instructions.
//!
//! One execution handles at most [`UNIT`] bytes, in chunks that end where a page of an operand ends. Each chunk is
//! committed as a whole: the result, the chaining value in the parameter block, the registers. What follows the
//! last chunk is left to the next execution, by condition code 3; so is an operand's page that is not accessible,
//! unless it is the first.

use super::row;
use super::storage::{address, length, set_length, to_page_end};
use crate::cpu::Cpu;
use crate::op::{Entry, Format::*, Op, Step, Trap};
use cloister_arch::s390x::program;

mod cipher;
mod digest;
mod gcm;
mod mac;
mod random;

/// Bytes that one execution handles, if there is no chunk across a page border at the end of them.
const UNIT: usize = 64 << 10;

/// Most bytes of a chunk.
const CHUNK: usize = 4096;

/// Rows of the message-security assist.
pub(crate) const TABLE: &[Entry] = &[
    row(0xb91e, "kmac", RRE, 17, |c, op| serve(c, op, &mac::KMAC)),
    row(0xb929, "kma", RRFb, 146, |c, op| serve(c, op, &gcm::KMA)),
    row(0xb92a, "kmf", RRE, 77, |c, op| serve(c, op, &cipher::KMF)),
    row(0xb92b, "kmo", RRE, 77, |c, op| serve(c, op, &cipher::KMO)),
    row(0xb92c, "pcc", RRE, 77, |c, op| serve(c, op, &mac::PCC)),
    row(0xb92d, "kmctr", RRFb, 77, |c, op| serve(c, op, &cipher::KMCTR)),
    row(0xb92e, "km", RRE, 17, |c, op| serve(c, op, &cipher::KM)),
    row(0xb92f, "kmc", RRE, 17, |c, op| serve(c, op, &cipher::KMC)),
    row(0xb93c, "prno", RRE, 57, |c, op| serve(c, op, &random::PRNO)),
    row(0xb93e, "kimd", RRE, 17, |c, op| serve(c, op, &digest::KIMD)),
    row(0xb93f, "klmd", RRE, 17, |c, op| serve(c, op, &digest::KLMD)),
];

/// What one instruction offers.
struct Service {
    /// Function codes in ascending order, without the query function.
    functions: &'static [u8],
    /// Bit 56 of general register 0 has a meaning; else it must be zero.
    modifier: bool,
    /// Whether R1, R2 and R3 designate pairs of registers, none of them general register 0.
    pairs: [bool; 3],
    /// Carries a function out.
    run: fn(&mut Cpu, &Op, u8) -> Step,
}

/// Bit 56 of general register 0: decipher, seed and so on.
const MODIFIER: u64 = 0x80;

fn serve(c: &mut Cpu, op: &Op, service: &Service) -> Step {
    let function = (c.gprs[0] & 0x7f) as u8;
    let bad_pair =
        [op.r1, op.r2, op.x].iter().zip(service.pairs).any(|(&r, pair)| pair && (r == 0 || r & 1 != 0));
    let known = function == 0 || service.functions.contains(&function);
    if bad_pair || !known || (!service.modifier && c.gprs[0] & MODIFIER != 0) {
        return Err(specification(c));
    }
    if function == 0 {
        let status = service.functions.iter().fold(1 << 127, |bits, code| bits | 1_u128 << (127 - code));
        c.write_u128(parameters(c), status)?;
        c.cc = 0;
        return Ok(c.stored());
    }
    (service.run)(c, op, function)
}

fn specification(c: &mut Cpu) -> Trap {
    c.program(program::SPECIFICATION)
}

/// Specification exception unless `right`.
fn require(c: &mut Cpu, right: bool) -> Result<(), Trap> {
    if right { Ok(()) } else { Err(specification(c)) }
}

/// Address of the parameter block.
fn parameters(c: &Cpu) -> u64 {
    c.gprs[1] & c.addr_mask
}

/// The parameter block's field at an offset.
fn fetch<const N: usize>(c: &mut Cpu, offset: usize) -> Result<[u8; N], Trap> {
    let mut field = [0; N];
    let addr = c.wrap(parameters(c), offset);
    c.read_bytes(addr, &mut field)?;
    Ok(field)
}

/// Recognises every exception of storing into the parameter block's field.
fn probe_parameters(c: &mut Cpu, offset: usize, len: usize) -> Result<(), Trap> {
    let addr = c.wrap(parameters(c), offset);
    c.probe_write(addr, len as u64)
}

/// Stores the parameter block's field.
fn update(c: &mut Cpu, offset: usize, field: &[u8]) -> Result<(), Trap> {
    let addr = c.wrap(parameters(c), offset);
    c.write_bytes(addr, field)
}

/// Stores a chunk's result and the parameter block's field, or neither.
fn commit(c: &mut Cpu, at: u64, result: &[u8], offset: usize, field: &[u8]) -> Result<(), Trap> {
    c.probe_write(at, result.len() as u64)?;
    probe_parameters(c, offset, field.len())?;
    c.write_bytes(at, result)?;
    update(c, offset, field)
}

/// Takes the operand whose length is in `counted` through `step` in chunks of whole blocks. `moving` are the
/// registers of all addresses that advance with it. Answers whether fewer bytes than a block are left; otherwise the
/// rest is for the next execution.
fn chunks(
    c: &mut Cpu,
    block: usize,
    moving: &[u8],
    counted: u8,
    mut step: impl FnMut(&mut Cpu, usize) -> Result<(), Trap>,
) -> Result<bool, Trap> {
    let mut handled = 0;
    loop {
        let left = length(c, counted);
        if left < block as u64 {
            return Ok(true);
        }
        if handled >= UNIT {
            return Ok(false);
        }
        let room = moving.iter().map(|&r| to_page_end(address(c, r))).fold(left, u64::min) as usize;
        let len = (room / block * block).max(block);
        match step(c, len) {
            Err(Trap) if handled > 0 => {
                // The next execution begins there and has the exception, if it is still one.
                c.core_exit = None;
                return Ok(false);
            }
            other => other?,
        }
        advance(c, moving, counted, len);
        handled += len;
    }
}

/// Registers after `len` bytes. Two of the operands may be in the same registers.
fn advance(c: &mut Cpu, moving: &[u8], counted: u8, len: usize) {
    let mut next = [0; 3];
    for (next, &r) in next.iter_mut().zip(moving) {
        *next = c.wrap(address(c, r), len);
    }
    for (next, &r) in next.iter().zip(moving) {
        set_address(c, r, *next);
    }
    let left = length(c, counted).wrapping_sub(len as u64);
    set_length(c, counted, left);
}

/// Sets an operand's address. Unlike other instructions', these leave alone what the addressing mode does not use.
fn set_address(c: &mut Cpu, r: u8, addr: u64) {
    let kept = c.g(r) & !c.addr_mask;
    c.set_g(r, kept | addr & c.addr_mask);
}

/// Condition code 0 if everything is done, else 3.
fn finished(c: &mut Cpu, all: bool) -> Step {
    c.cc = if all { 0 } else { 3 };
    Ok(c.stored())
}

/// `to ^= with`, as far as both go.
fn xor(to: &mut [u8], with: &[u8]) {
    to.iter_mut().zip(with).for_each(|(a, b)| *a ^= b);
}
