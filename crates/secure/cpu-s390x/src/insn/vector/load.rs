//! Loads, stores and moves (SA22-7832, chapter 21).

use super::enabled;
use crate::insn::fac::VECTOR;
use crate::insn::row;
use crate::op::{Entry, Flow, Format::*};

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
    row(0xe756, "vlr", VRRa, VECTOR, |c, op| {
        enabled(c)?;
        c.set_v(op.r1, c.v(op.r2));
        Ok(Flow::Next)
    }),
];
