//! What the machine says about itself: facility lists and system information.

use super::{row, sup};
use crate::cpu::Cpu;
use crate::lowcore;
use crate::op::{Entry, Flow, Format, Op, Step};

pub(super) const TABLE: &[Entry] = &[
    sup(0xb2b1, "stfl", Format::S, 0, stfl),
    row(0xb2b0, "stfle", Format::S, 7, stfle),
    sup(0xb27d, "stsi", Format::S, 0, stsi),
];

fn stfl(c: &mut Cpu, _: &Op) -> Step {
    let list = c.env.facilities()[0] >> 32;
    let absolute = c.prefix + lowcore::STFL;
    c.write_absolute(absolute, &(list as u32).to_be_bytes())?;
    Ok(Flow::Next)
}

fn stfle(c: &mut Cpu, op: &Op) -> Step {
    let addr = c.ea(op);
    let addr = c.aligned(addr, 8)?;
    let list = c.env.facilities();
    let present = list.iter().rposition(|&word| word != 0).unwrap_or(0) + 1;
    let wanted = (c.gprs[0] & 0xff) as usize + 1;
    let bytes: Vec<u8> = list[..present.min(wanted)].iter().flat_map(|word| word.to_be_bytes()).collect();
    c.write_bytes(addr, &bytes)?;
    c.gprs[0] = c.gprs[0] & !0xff | (present - 1) as u64;
    c.cc = if wanted >= present { 0 } else { 3 };
    Ok(c.stored())
}

/// The highest configuration level: this is a virtual machine.
const LEVEL: u64 = 3;

fn stsi(c: &mut Cpu, op: &Op) -> Step {
    let (function, selector1, selector2) =
        (c.gprs[0] >> 28 & 15, c.gprs[0] as u32 & 0xff, c.gprs[1] as u32 & 0xffff);
    if function == 0 {
        c.set_w(0, (LEVEL << 28) as u32);
        c.cc = 0;
        return Ok(Flow::Next);
    }
    if c.gprs[0] as u32 & 0x0fff_ff00 != 0 || c.gprs[1] as u32 & 0xffff_0000 != 0 {
        return Err(c.specification());
    }
    let addr = c.ea(op);
    let addr = c.aligned(addr, 4096)?;
    let Some(block) = block(c, function, selector1, selector2) else {
        c.cc = 3;
        return Ok(Flow::Next);
    };
    c.write_bytes(addr, &block)?;
    c.cc = 0;
    Ok(c.stored())
}

/// A system-information block (SA22-7832, chapter 10, "STORE SYSTEM INFORMATION").
fn block(c: &Cpu, function: u64, selector1: u32, selector2: u32) -> Option<[u8; 4096]> {
    let mut block = [0; 4096];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    let config = &c.env.config;
    let cpus = config.max_cpus.to_be_bytes();
    let machine = format!("{:04X}", config.cpu_id >> 16 & 0xffff);
    match (function, selector1, selector2) {
        (1, 1, 1) => {
            put(32, &ebcdic("CLOISTER", 16));
            put(48, &ebcdic(&machine, 4));
            put(64, &ebcdic("SOFT", 16));
            put(80, &ebcdic("0000000000000000", 16));
            put(96, &ebcdic("00", 4));
            put(100, &ebcdic("SOFT", 16));
        }
        (1, 2, 1) => {
            put(32, &ebcdic("0000000000000000", 16));
            put(48, &ebcdic("00", 4));
            put(52, &c.address.to_be_bytes());
        }
        (1, 2, 2) => {
            put(36, &cpus);
            put(38, &cpus);
        }
        (2, 2, 1) => {
            put(32, &ebcdic("0000000000000000", 16));
            put(48, &ebcdic("00", 4));
            put(54, &c.address.to_be_bytes());
        }
        (2, 2, 2) => {
            put(36, &cpus);
            put(38, &cpus);
            put(44, &ebcdic("CLOISTER", 8));
            put(72, &cpus);
        }
        (3, 2, 2) => {
            put(31, &[1]);
            put(36, &cpus);
            put(38, &cpus);
            put(44, &ebcdic(&config.name, 8));
            // Guests look for this text to know that virtio and paravirtual calls exist.
            put(56, &ebcdic("KVM/Linux", 16));
            put(75, &[2]);
            put(80, &config.uuid);
            let name = config.name.as_bytes();
            put(2048, &name[..name.len().min(255)]);
        }
        _ => return None,
    }
    Some(block)
}

/// Text in EBCDIC (code page 037), padded with blanks; what it cannot express becomes a question mark.
fn ebcdic(text: &str, len: usize) -> Vec<u8> {
    let convert = |c: char| match c.to_ascii_uppercase() {
        'A'..='I' => c.to_ascii_uppercase() as u8 - b'A' + 0xc1,
        'J'..='R' => c.to_ascii_uppercase() as u8 - b'J' + 0xd1,
        'S'..='Z' => c.to_ascii_uppercase() as u8 - b'S' + 0xe2,
        '0'..='9' => c as u8 - b'0' + 0xf0,
        ' ' => 0x40,
        '/' => 0x61,
        '-' => 0x60,
        '_' => 0x6d,
        '.' => 0x4b,
        _ => 0x6f,
    };
    let keep_case = |c: char| match c {
        'a'..='i' => c as u8 - b'a' + 0x81,
        'j'..='r' => c as u8 - b'j' + 0x91,
        's'..='z' => c as u8 - b's' + 0xa2,
        c => convert(c),
    };
    text.chars().map(keep_case).chain(std::iter::repeat(0x40)).take(len).collect()
}
