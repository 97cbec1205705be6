//! PERFORM LOCKED OPERATION (SA22-7832, chapter 7).
//!
//! One lock stands for all program-lock tokens. It serialises the instruction with itself, as the architecture
//! says, and not with other accesses to storage.

use super::arith::even;
use super::fac::Z;
use super::row;
use crate::cpu::Cpu;
use crate::op::{Entry, Flow, Format::*, Op, Step, Trap};
use cloister_arch::s390x::program;
use std::sync::PoisonError;

/// The row of the instruction.
pub(crate) const TABLE: &[Entry] = &[row(0xee00, "plo", SSe, Z, plo)];

/// Where the operands of a function code are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    /// Words; comparison and replacement values in registers.
    Word,
    /// Doublewords in the parameter list.
    Listed,
    /// Doublewords; comparison and replacement values in registers.
    Registers,
    /// Quadwords in the parameter list.
    Quad,
}

impl Size {
    fn bytes(self) -> u64 {
        match self {
            Self::Word => 4,
            Self::Listed | Self::Registers => 8,
            Self::Quad => 16,
        }
    }

    fn in_registers(self) -> bool {
        matches!(self, Self::Word | Self::Registers)
    }
}

/// The operands of one execution.
struct Plo {
    size: Size,
    r1: u8,
    r3: u8,
    second: u64,
    /// Fourth operand or parameter list.
    fourth: u64,
}

fn plo(c: &mut Cpu, op: &Op) -> Step {
    let function = c.w(0) as u8;
    if c.w(0) & 0x100 != 0 {
        c.cc = if function < 24 { 0 } else { 3 };
        return Ok(Flow::Next);
    }
    if c.w(0) & 0xffff_fe00 != 0 || function >= 24 {
        return Err(c.program(program::SPECIFICATION));
    }
    let size = [Size::Word, Size::Listed, Size::Registers, Size::Quad][usize::from(function & 3)];
    let p = Plo {
        size,
        r1: op.r1,
        r3: op.r2,
        second: c.base(op.b).wrapping_add_signed(op.imm) & c.addr_mask,
        fourth: c.base(op.b2).wrapping_add(u64::from(op.aux & 0xfff)) & c.addr_mask,
    };
    let kind = function >> 2;
    let listed = !size.in_registers() || kind >= 4;
    if kind > 0 && size.in_registers() {
        even(c, op)?;
        if kind == 2 && op.r2 & 1 != 0 {
            return Err(c.program(program::SPECIFICATION));
        }
    }
    p.aligned(c, p.second)?;
    // CS in registers has no fourth operand.
    if listed && p.fourth & 7 != 0 {
        return Err(c.program(program::SPECIFICATION));
    }
    if !listed && kind != 1 {
        p.aligned(c, p.fourth)?;
    }
    let lock = c.locked_operation();
    let _guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
    match kind {
        0 => p.compare_and_load(c),
        1 => p.compare_and_swap_and_store(c, &[]),
        2 => p.double_compare_and_swap(c),
        3 if size.in_registers() => {
            let value = p.register(c, p.r3);
            p.swap_and_store(c, &[(p.fourth, value)])
        }
        3 => p.compare_and_swap_and_store(c, &[3]),
        4 => p.compare_and_swap_and_store(c, &[3, 5]),
        _ => p.compare_and_swap_and_store(c, &[3, 5, 7]),
    }
}

impl Plo {
    fn aligned(&self, c: &mut Cpu, addr: u64) -> Result<(), Trap> {
        if addr & (self.size.bytes() - 1) != 0 {
            return Err(c.program(program::SPECIFICATION));
        }
        Ok(())
    }

    fn fetch(&self, c: &mut Cpu, addr: u64) -> Result<u128, Trap> {
        Ok(match self.size {
            Size::Word => u128::from(c.read_u32(addr)?),
            Size::Listed | Size::Registers => u128::from(c.read_u64(addr)?),
            Size::Quad => c.read_u128(addr)?,
        })
    }

    fn store(&self, c: &mut Cpu, addr: u64, value: u128) -> Result<(), Trap> {
        match self.size {
            Size::Word => c.write_u32(addr, value as u32),
            Size::Listed | Size::Registers => c.write_u64(addr, value as u64),
            Size::Quad => c.write_u128(addr, value),
        }
    }

    fn register(&self, c: &Cpu, r: u8) -> u128 {
        match self.size {
            Size::Word => u128::from(c.w(r)),
            _ => u128::from(c.g(r)),
        }
    }

    fn set_register(&self, c: &mut Cpu, r: u8, value: u128) {
        match self.size {
            Size::Word => c.set_w(r, value as u32),
            _ => c.set_g(r, value as u64),
        }
    }

    /// Address of an operand in the parameter list: each has 16 bytes, in which it is on the right.
    fn item(&self, c: &Cpu, end: u64) -> u64 {
        c.wrap(self.fourth, (end - self.size.bytes()) as usize)
    }

    /// An address in the parameter list.
    fn address(&self, c: &mut Cpu, at: usize) -> Result<u64, Trap> {
        let addr = c.read_u64(c.wrap(self.fourth, at))? & c.addr_mask;
        self.aligned(c, addr)?;
        Ok(addr)
    }

    /// A comparison or replacement value: a register, or an operand in the list that ends at `end`.
    fn value(&self, c: &mut Cpu, r: u8, end: u64) -> Result<u128, Trap> {
        if self.size.in_registers() {
            return Ok(self.register(c, r));
        }
        let at = self.item(c, end);
        self.fetch(c, at)
    }

    /// A comparison failed: the comparison value becomes what was found.
    fn found(&self, c: &mut Cpu, r: u8, end: u64, value: u128, cc: u8) -> Step {
        if self.size.in_registers() {
            self.set_register(c, r, value);
        } else {
            let at = self.item(c, end);
            self.store(c, at, value)?;
        }
        c.cc = cc;
        Ok(c.stored())
    }

    fn compare_and_load(&self, c: &mut Cpu) -> Step {
        let comparison = self.value(c, self.r1, 16)?;
        let current = self.fetch(c, self.second)?;
        if comparison != current {
            return self.found(c, self.r1, 16, current, 1);
        }
        if self.size.in_registers() {
            let value = self.fetch(c, self.fourth)?;
            self.set_register(c, self.r3, value);
        } else {
            let addr = self.address(c, 72)?;
            let value = self.fetch(c, addr)?;
            let at = self.item(c, 48);
            self.store(c, at, value)?;
        }
        c.cc = 0;
        Ok(c.stored())
    }

    fn double_compare_and_swap(&self, c: &mut Cpu) -> Step {
        let fourth = if self.size.in_registers() { self.fourth } else { self.address(c, 72)? };
        let (first, third) = (self.value(c, self.r1, 16)?, self.value(c, self.r3, 48)?);
        let current = self.fetch(c, self.second)?;
        if first != current {
            return self.found(c, self.r1, 16, current, 1);
        }
        let other = self.fetch(c, fourth)?;
        if third != other {
            return self.found(c, self.r3, 48, other, 2);
        }
        let replacement = self.value(c, self.r3.wrapping_add(1), 64)?;
        self.swap_and_store(c, &[(fourth, replacement)])
    }

    /// With the stores of the parameter list: pairs of operand (third, fifth, seventh) and address.
    fn compare_and_swap_and_store(&self, c: &mut Cpu, operands: &[u64]) -> Step {
        let mut stores = [(0, 0); 3];
        for (store, operand) in stores.iter_mut().zip(operands) {
            // Third operand up to 64 with its address at 72, the next ones 32 bytes further each.
            let place = (operand - 3) / 2 * 32;
            let addr = self.address(c, 72 + place as usize)?;
            let at = self.item(c, 64 + place);
            *store = (addr, self.fetch(c, at)?);
        }
        self.swap_and_store(c, &stores[..operands.len()])
    }

    /// Compares with the second operand, and if equal replaces it after the stores.
    fn swap_and_store(&self, c: &mut Cpu, stores: &[(u64, u128)]) -> Step {
        let comparison = self.value(c, self.r1, 16)?;
        let replacement = self.value(c, self.r1.wrapping_add(1), 32)?;
        let current = self.fetch(c, self.second)?;
        if comparison != current {
            return self.found(c, self.r1, 16, current, 1);
        }
        c.probe_write(self.second, self.size.bytes())?;
        for (addr, _) in stores {
            c.probe_write(*addr, self.size.bytes())?;
        }
        for (addr, value) in stores {
            self.store(c, *addr, *value)?;
        }
        self.store(c, self.second, replacement)?;
        c.cc = 0;
        Ok(c.stored())
    }
}
