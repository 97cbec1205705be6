//! Loads, stores and moves (SA22-7832, chapter 21).

use super::enabled;
use crate::cpu::Cpu;
use crate::insn::fac::VECTOR;
use crate::insn::row;
use crate::op::{Entry, Flow, Format::*, Op, Trap};
use cloister_arch::s390x::program;

pub(crate) const TABLE: &[Entry] = &[
    row(0xe706, "vl", VRX, VECTOR, |c, op| {
        enabled(c)?;
        let addr = c.ea(op);
        let value = c.read_u128(addr)?;
        c.set_v(op.r1, value);
        Ok(Flow::Next)
    }),
    row(0xe70e, "vst", VRX, VECTOR, |c, op| {
        enabled(c)?;
        let addr = c.ea(op);
        c.write_u128(addr, c.v(op.r1))?;
        Ok(c.stored())
    }),
    row(0xe736, "vlm", VRSa, VECTOR, |c, op| {
        enabled(c)?;
        let mut bytes = [0; 256];
        let bytes = &mut bytes[..16 * multiple(c, op)?];
        let addr = c.ea(op);
        c.read_bytes(addr, bytes)?;
        let (values, _) = bytes.as_chunks();
        for (r, value) in (op.r1..).zip(values) {
            c.set_v(r, u128::from_be_bytes(*value));
        }
        Ok(Flow::Next)
    }),
    row(0xe73e, "vstm", VRSa, VECTOR, |c, op| {
        enabled(c)?;
        let mut bytes = [0; 256];
        let bytes = &mut bytes[..16 * multiple(c, op)?];
        let (values, _) = bytes.as_chunks_mut();
        for (r, value) in (op.r1..).zip(values) {
            *value = c.v(r).to_be_bytes();
        }
        let addr = c.ea(op);
        c.write_bytes(addr, bytes)?;
        Ok(c.stored())
    }),
    row(0xe756, "vlr", VRRa, VECTOR, |c, op| {
        enabled(c)?;
        c.set_v(op.r1, c.v(op.r2));
        Ok(Flow::Next)
    }),
];

/// Registers from V1 to V3: 16 at most, and none before V1.
fn multiple(c: &mut Cpu, op: &Op) -> Result<usize, Trap> {
    match op.r2.checked_sub(op.r1) {
        Some(more @ 0..16) => Ok(usize::from(more) + 1),
        _ => Err(c.program(program::SPECIFICATION)),
    }
}
