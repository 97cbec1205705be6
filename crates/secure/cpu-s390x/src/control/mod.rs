//! Privileged and semiprivileged instructions, input/output, interruptions asked for by the program: one table
//! row each.
//!
//! General and floating-point instructions stand in `insn`.

use crate::cpu::Cpu;
use crate::op::{Entry, Exec, Flow, Format, Op, Step, Trap};
use cloister_arch::s390x::{Psw, program};

mod exit;
mod info;
mod key;
mod psw;
mod register;
mod space;
mod time;
mod translation;

/// The tables of this module, in no particular order.
pub(crate) const TABLES: &[&[Entry]] = &[
    exit::TABLE,
    info::TABLE,
    key::TABLE,
    psw::TABLE,
    register::TABLE,
    space::TABLE,
    time::TABLE,
    translation::TABLE,
];

/// A row that problem state may use.
const fn row(code: u16, mnemonic: &'static str, format: Format, facility: u16, exec: Exec) -> Entry {
    Entry { code, mnemonic, format, facility, privileged: false, ends_block: false, exec }
}

/// A row that problem state may use and that ends the block.
const fn last(code: u16, mnemonic: &'static str, format: Format, facility: u16, exec: Exec) -> Entry {
    Entry { code, mnemonic, format, facility, privileged: false, ends_block: true, exec }
}

/// A privileged row.
const fn sup(code: u16, mnemonic: &'static str, format: Format, facility: u16, exec: Exec) -> Entry {
    Entry { code, mnemonic, format, facility, privileged: true, ends_block: false, exec }
}

/// A privileged row that ends the block.
const fn sup_last(code: u16, mnemonic: &'static str, format: Format, facility: u16, exec: Exec) -> Entry {
    Entry { code, mnemonic, format, facility, privileged: true, ends_block: true, exec }
}

impl Cpu {
    fn specification(&mut self) -> Trap {
        self.program(program::SPECIFICATION)
    }

    fn special_operation(&mut self) -> Trap {
        self.program(program::SPECIAL_OPERATION)
    }

    /// Specification exception unless `addr` is a multiple of `to`.
    fn aligned(&mut self, addr: u64, to: u64) -> Result<u64, Trap> {
        if addr & (to - 1) == 0 { Ok(addr) } else { Err(self.specification()) }
    }

    fn problem_state(&self) -> bool {
        self.psw.mask & Psw::PROBLEM != 0
    }

    fn psw_key(&self) -> u8 {
        (self.psw.mask >> 52 & 15) as u8
    }

    /// Whether problem state may use an access key (CR3 bits 32-47).
    fn key_allowed(&self, key: u8) -> bool {
        !self.problem_state() || self.crs[3] & 0x8000_0000 >> key != 0
    }

    /// Effective address of the second operand of SS formats.
    fn ea2(&self, op: &Op) -> u64 {
        self.base(op.b2).wrapping_add(u64::from(op.aux & 0xfff)) & self.addr_mask
    }

    /// Fetches at a real address with the PSW key.
    fn read_real(&mut self, real: u64, to: &mut [u8]) -> Result<(), Trap> {
        let key = self.psw_key();
        self.read_bytes_as(crate::access::Space::Real, key, real, to)
    }

    /// Stores at an absolute address without protection.
    pub(crate) fn write_absolute(&mut self, absolute: u64, from: &[u8]) -> Result<(), Trap> {
        let mut done = 0;
        while done < from.len() {
            let at = absolute + done as u64;
            let part = (0x1000 - (at & 0xfff) as usize).min(from.len() - done);
            let offset = self.absolute_offset(at, true)?;
            self.ram.copy_in(offset, &from[done..done + part]);
            self.env.storage.code_write(at >> 12, (at & 0xfff) as usize, part);
            done += part;
        }
        Ok(())
    }

    /// Fetches at an absolute address without protection.
    fn read_absolute(&mut self, absolute: u64, to: &mut [u8]) -> Result<(), Trap> {
        let mut done = 0;
        while done < to.len() {
            let at = absolute + done as u64;
            let part = (0x1000 - (at & 0xfff) as usize).min(to.len() - done);
            let offset = self.absolute_offset(at, false)?;
            self.ram.copy_out(offset, &mut to[done..done + part]);
            done += part;
        }
        Ok(())
    }

    /// After an interruption inside an instruction: the PSW is the new one.
    fn swapped(&mut self, result: Result<(), crate::system::CoreExit>) -> Step {
        match result {
            Ok(()) => Ok(Flow::Jump),
            Err(exit) => {
                self.core_exit = Some(exit);
                Ok(Flow::Exit)
            }
        }
    }
}
