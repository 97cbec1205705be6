//! The message-security assist: every function is offered as "query only".
//!
//! No cipher or digest is implemented here; guests then use their own code.

use super::row;
use crate::cpu::Cpu;
use crate::op::{Entry, Flow, Format, Op, Step};

pub(super) const TABLE: &[Entry] = &[
    row(0xb91e, "kmac", Format::RRE, 17, query),
    row(0xb92e, "km", Format::RRE, 17, query),
    row(0xb92f, "kmc", Format::RRE, 17, query),
    row(0xb93e, "kimd", Format::RRE, 17, query),
    row(0xb93f, "klmd", Format::RRE, 17, query),
    row(0xb92a, "kmf", Format::RRE, 77, query),
    row(0xb92b, "kmo", Format::RRE, 77, query),
    row(0xb92c, "pcc", Format::RRE, 77, query),
    row(0xb92d, "kmctr", Format::RRFb, 77, query),
];

fn query(c: &mut Cpu, _: &Op) -> Step {
    // Function code 0 in bits 57-63 of GR0 asks which functions there are; any other is not installed.
    if c.gprs[0] & 0x7f != 0 {
        return Err(c.specification());
    }
    let addr = c.gprs[1] & c.addr_mask;
    c.write_u128(addr, 1 << 127)?;
    c.cc = 0;
    if c.code_written { Ok(Flow::End) } else { Ok(Flow::Next) }
}
