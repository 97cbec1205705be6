//! Control registers, prefix, CPU identity.

use super::{row, sup, sup_last};
use crate::cpu::Cpu;
use crate::op::{Entry, Flow, Format, Op, Step};
use cloister_arch::s390x::program;

pub(super) const TABLE: &[Entry] = &[
    sup_last(0xb700, "lctl", Format::RSa, 0, lctl),
    sup_last(0xeb2f, "lctlg", Format::RSYa, 0, lctlg),
    sup(0xb600, "stctl", Format::RSa, 0, stctl),
    sup(0xeb25, "stctg", Format::RSYa, 0, stctg),
    sup_last(0xb210, "spx", Format::S, 0, spx),
    sup(0xb211, "stpx", Format::S, 0, stpx),
    sup(0xb212, "stap", Format::S, 0, stap),
    sup(0xb202, "stidp", Format::S, 0, stidp),
    row(0xb226, "epar", Format::RRE, 0, |c, op| extract_asn(c, op, 4)),
    row(0xb227, "esar", Format::RRE, 0, |c, op| extract_asn(c, op, 3)),
    sup(0xb280, "lpp", Format::S, 40, lpp),
    sup(0xb248, "palb", Format::RRE, 0, |_, _| Ok(Flow::Next)),
];

/// The registers R1 to R3, which may wrap.
fn range(op: &Op) -> impl Iterator<Item = usize> + use<> {
    let (first, last) = (usize::from(op.r1), usize::from(op.r2));
    let count = (last.wrapping_sub(first) & 15) + 1;
    (0..count).map(move |i| (first + i) & 15)
}

fn loaded(c: &mut Cpu) -> Step {
    c.recheck = true;
    c.update_view();
    Ok(Flow::End)
}

fn lctl(c: &mut Cpu, op: &Op) -> Step {
    let addr = c.ea(op);
    let addr = c.aligned(addr, 4)?;
    let count = range(op).count();
    let mut bytes = [0; 64];
    c.read_bytes(addr, &mut bytes[..4 * count])?;
    for (word, r) in bytes.as_chunks::<4>().0.iter().zip(range(op)) {
        c.crs[r] = c.crs[r] & !0xffff_ffff | u64::from(u32::from_be_bytes(*word));
    }
    loaded(c)
}

fn lctlg(c: &mut Cpu, op: &Op) -> Step {
    let addr = c.ea(op);
    let addr = c.aligned(addr, 8)?;
    let count = range(op).count();
    let mut bytes = [0; 128];
    c.read_bytes(addr, &mut bytes[..8 * count])?;
    for (word, r) in bytes.as_chunks::<8>().0.iter().zip(range(op)) {
        c.crs[r] = u64::from_be_bytes(*word);
    }
    loaded(c)
}

fn stctl(c: &mut Cpu, op: &Op) -> Step {
    let addr = c.ea(op);
    let addr = c.aligned(addr, 4)?;
    let bytes: Vec<u8> = range(op).flat_map(|r| (c.crs[r] as u32).to_be_bytes()).collect();
    c.write_bytes(addr, &bytes)?;
    Ok(c.stored())
}

fn stctg(c: &mut Cpu, op: &Op) -> Step {
    let addr = c.ea(op);
    let addr = c.aligned(addr, 8)?;
    let bytes: Vec<u8> = range(op).flat_map(|r| c.crs[r].to_be_bytes()).collect();
    c.write_bytes(addr, &bytes)?;
    Ok(c.stored())
}

fn spx(c: &mut Cpu, op: &Op) -> Step {
    let addr = c.ea(op);
    let addr = c.aligned(addr, 4)?;
    let prefix = u64::from(c.read_u32(addr)? & 0x7fff_e000);
    for page in [prefix, prefix + 0x1000] {
        if c.env.storage.record(page >> 12).is_none() {
            return Err(c.program(program::ADDRESSING));
        }
    }
    c.prefix = prefix;
    c.flush_translations();
    Ok(Flow::End)
}

fn stpx(c: &mut Cpu, op: &Op) -> Step {
    let addr = c.ea(op);
    let addr = c.aligned(addr, 4)?;
    c.write_u32(addr, c.prefix as u32)?;
    Ok(c.stored())
}

fn stap(c: &mut Cpu, op: &Op) -> Step {
    let addr = c.ea(op);
    let addr = c.aligned(addr, 2)?;
    c.write_u16(addr, c.address)?;
    Ok(c.stored())
}

fn stidp(c: &mut Cpu, op: &Op) -> Step {
    let addr = c.ea(op);
    let addr = c.aligned(addr, 8)?;
    c.write_u64(addr, c.env.config.cpu_id)?;
    Ok(c.stored())
}

fn extract_asn(c: &mut Cpu, op: &Op, cr: usize) -> Step {
    // CR0 bit 36: extraction-authority control.
    if c.problem_state() && c.crs[0] & 1 << 27 == 0 {
        return Err(c.program(program::PRIVILEGED));
    }
    let asn = c.crs[cr] as u32 & 0xffff;
    c.set_w(op.r1, asn);
    Ok(Flow::Next)
}

fn lpp(c: &mut Cpu, op: &Op) -> Step {
    // The program parameter is seen by the measurement facility only, which is not there.
    let addr = c.ea(op);
    let addr = c.aligned(addr, 8)?;
    c.read_u64(addr)?;
    Ok(Flow::Next)
}
