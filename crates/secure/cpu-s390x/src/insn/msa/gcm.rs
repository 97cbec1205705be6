//! CIPHER MESSAGE WITH AUTHENTICATION: AES in Galois/counter mode (SP 800-38D).

use super::cipher::Cipher;
use super::digest::Ghash;
use super::{
    CHUNK, MODIFIER, Service, advance, chunks, commit, fetch, finished, probe_parameters, require, update,
    xor,
};
use crate::cpu::Cpu;
use crate::insn::storage::{address, length};
use crate::op::{Op, Step, Trap};
use zeroize::Zeroizing;

pub(super) const KMA: Service =
    Service { functions: &[18, 19, 20], modifier: true, pairs: [true; 3], run: galois_counter };

/// Bit 53 of general register 0: the hash subkey is in the parameter block.
const HAS_SUBKEY: u64 = 0x400;
/// Bit 54: the associated data end here.
const LAST_ASSOCIATED: u64 = 0x200;
/// Bit 55: the text ends here.
const LAST_TEXT: u64 = 0x100;

/// Offsets in the parameter block: counter value (followed by the tag), tag, hash subkey, lengths in bits of the
/// associated data and of the text, initial counter block, key.
mod at {
    pub(super) const COUNTER: usize = 12;
    pub(super) const TAG: usize = 16;
    pub(super) const SUBKEY: usize = 32;
    pub(super) const LENGTHS: usize = 48;
    pub(super) const INITIAL: usize = 64;
    pub(super) const KEY: usize = 80;
}

/// A message under way.
struct Message {
    cipher: Cipher,
    hash: Ghash,
    /// The counter block, its last word apart.
    initial: [u8; 16],
    counter: u32,
    decipher: bool,
}

impl Message {
    /// Ciphers and hashes `bytes`; an incomplete block can only be the last.
    fn text(&mut self, bytes: &mut [u8]) {
        let padded = bytes.len().next_multiple_of(16);
        let (mut key_stream, mut hashed) = ([0; CHUNK], [0; CHUNK]);
        let (key_stream, hashed) = (&mut key_stream[..padded], &mut hashed[..padded]);
        for block in key_stream.as_chunks_mut::<16>().0 {
            self.counter = self.counter.wrapping_add(1);
            *block = self.initial;
            block[12..].copy_from_slice(&self.counter.to_be_bytes());
        }
        self.cipher.encipher(key_stream);
        if self.decipher {
            hashed[..bytes.len()].copy_from_slice(bytes);
        }
        xor(bytes, key_stream);
        if !self.decipher {
            hashed[..bytes.len()].copy_from_slice(bytes);
        }
        self.hash.absorb(hashed);
    }

    /// Counter value and tag as they stand next to each other in the parameter block.
    fn counter_and_tag(&self) -> [u8; 20] {
        let mut field = [0; 20];
        field[..4].copy_from_slice(&self.counter.to_be_bytes());
        field[4..].copy_from_slice(&self.hash.value);
        field
    }
}

fn galois_counter(c: &mut Cpu, op: &Op, function: u8) -> Step {
    let flags = c.gprs[0];
    let (associated, text) = (length(c, op.x + 1), length(c, op.r2 + 1));
    require(c, op.x != op.r1 && op.x != op.r2)?;
    require(c, flags & LAST_ASSOCIATED != 0 || associated.is_multiple_of(16))?;
    require(c, flags & LAST_TEXT != 0 || text.is_multiple_of(16))?;
    let cipher = Cipher::fetch(c, function, at::KEY)?;
    let initial = fetch::<16>(c, at::INITIAL)?;
    let counter = u32::from_be_bytes(fetch(c, at::COUNTER)?);
    let tag = fetch::<16>(c, at::TAG)?;
    probe_parameters(c, at::COUNTER, at::LENGTHS - at::COUNTER)?;
    let mut subkey = Zeroizing::new([0; 16]);
    if flags & HAS_SUBKEY == 0 {
        cipher.encipher(&mut subkey[..]);
        update(c, at::SUBKEY, &subkey[..])?;
        c.gprs[0] |= HAS_SUBKEY;
    } else {
        *subkey = fetch(c, at::SUBKEY)?;
    }
    let decipher = flags & MODIFIER != 0;
    let mut message = Message { cipher, hash: Ghash::new(*subkey, tag), initial, counter, decipher };
    match proceed(c, op, &mut message, flags) {
        Err(Trap) if (length(c, op.x + 1), length(c, op.r2 + 1), c.gprs[0]) != (associated, text, flags) => {
            c.core_exit = None;
            finished(c, false)
        }
        ended => finished(c, ended?),
    }
}

/// Answers whether everything has been done that the flags ask for.
fn proceed(c: &mut Cpu, op: &Op, message: &mut Message, flags: u64) -> Result<bool, Trap> {
    let mut buffer = [0; CHUNK];
    let mut associated = |c: &mut Cpu, message: &mut Message, len: usize| {
        let bytes = &mut buffer[..len.next_multiple_of(16)];
        bytes[len..].fill(0);
        c.read_bytes(address(c, op.x), &mut bytes[..len])?;
        probe_parameters(c, at::TAG, 16)?;
        message.hash.absorb(bytes);
        update(c, at::TAG, &message.hash.value)
    };
    if !chunks(c, 16, &[op.x], op.x + 1, |c, len| associated(c, message, len))? {
        return Ok(false);
    }
    if flags & LAST_ASSOCIATED == 0 {
        return Ok(true);
    }
    let left = length(c, op.x + 1) as usize;
    if left > 0 {
        associated(c, message, left)?;
        advance(c, &[op.x], op.x + 1, left);
    }
    let mut text = |c: &mut Cpu, len: usize| {
        let bytes = &mut buffer[..len];
        c.read_bytes(address(c, op.r2), bytes)?;
        // Found out before the message goes on.
        c.probe_write(address(c, op.r1), len as u64)?;
        probe_parameters(c, at::COUNTER, 20)?;
        message.text(bytes);
        commit(c, address(c, op.r1), bytes, at::COUNTER, &message.counter_and_tag())
    };
    if !chunks(c, 16, &[op.r1, op.r2], op.r2 + 1, &mut text)? {
        return Ok(false);
    }
    let left = length(c, op.r2 + 1) as usize;
    if left > 0 {
        text(c, left)?;
        advance(c, &[op.r1, op.r2], op.r2 + 1, left);
    }
    if flags & LAST_TEXT != 0 {
        let mut lengths = fetch::<16>(c, at::LENGTHS)?;
        message.hash.absorb(&mut lengths);
        let mut tag = message.initial;
        message.cipher.encipher(&mut tag);
        xor(&mut tag, &message.hash.value);
        update(c, at::TAG, &tag)?;
    }
    Ok(true)
}
