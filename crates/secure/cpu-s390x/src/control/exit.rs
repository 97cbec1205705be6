//! Instructions that leave the core for the hypervisor or the Ultravisor, with their operand blocks, and the few
//! of them that the core answers itself (SIGP, TPI, DIAGNOSE 44 and 9C).
//!
//! A protected guest's exits show what the hardware shows: copies of operand blocks, and the registers that are
//! operands of the instruction, normalised so that their numbers say nothing. SIE's notifications of executed
//! instructions (SPX, SIGP, DIAGNOSE 44, 9C) and of enabled masks are not needed: they exist to
//! let the host kernel deliver what the core's own queues, prefix and timers deliver here. The one that the host
//! must act upon, UVC unsharing a pinned page, is [`CoreExit::Notify`]; DIAGNOSE 308 leaves as an instruction,
//! because it has to be completed.

use super::{sup, sup_last};
use crate::cpu::Cpu;
use crate::dat::TRAP_LEAVE;
use crate::op::{Entry, Flow, Format, Op, Step, Trap};
use crate::system::{CoreExit, OperandFault, Pending, Store, UvcOperands};
use cloister_arch::s390x::{Exit, Instruction, InstructionExit, program};

pub(super) const TABLE: &[Entry] = &[
    sup_last(0xb220, "servc", Format::RRE, 0, servc),
    sup_last(0xb230, "csch", Format::S, 0, |c, op| subchannel(c, op, Instruction::Csch)),
    sup_last(0xb231, "hsch", Format::S, 0, |c, op| subchannel(c, op, Instruction::Hsch)),
    sup_last(0xb238, "rsch", Format::S, 0, |c, op| subchannel(c, op, Instruction::Rsch)),
    sup_last(0xb276, "xsch", Format::S, 0, |c, op| subchannel(c, op, Instruction::Xsch)),
    sup_last(0xb23b, "rchp", Format::S, 0, |c, op| subchannel(c, op, Instruction::Rchp)),
    sup_last(0xb232, "msch", Format::S, 0, |c, op| with_block(c, op, 52, Instruction::Msch)),
    sup_last(0xb233, "ssch", Format::S, 0, |c, op| with_block(c, op, 32, Instruction::Ssch)),
    sup_last(0xb234, "stsch", Format::S, 0, stsch),
    sup_last(0xb235, "tsch", Format::S, 0, tsch),
    sup_last(0xb236, "tpi", Format::S, 0, tpi),
    sup_last(0xb239, "stcrw", Format::S, 0, stcrw),
    sup_last(0xb23c, "schm", Format::S, 0, |c, op| {
        let what = Instruction::Schm(c.gprs[1], c.gprs[2]);
        leave(c, op, what, Vec::new(), Pending::default())
    }),
    sup_last(0xb237, "sal", Format::S, 0, |c, op| {
        let what = Instruction::Sal(c.gprs[1]);
        leave(c, op, what, Vec::new(), Pending::default())
    }),
    sup(0xb23a, "stcps", Format::S, 0, |_, _| Ok(Flow::Next)),
    sup_last(0xb25f, "chsc", Format::RRE, 0, chsc),
    sup_last(0x8300, "diag", Format::RSa, 0, diagnose),
    sup_last(0xb9a2, "ptf", Format::RRE, 11, |c, op| {
        let what = Instruction::Ptf(c.g(op.r1) as u8);
        leave(c, op, what, Vec::new(), Pending::default())
    }),
    // No adjunct processors are installed, and guests find that out by the exception.
    sup(0xb2af, "pqap", Format::RRE, 0, |c, _| Err(c.program(program::OPERATION))),
    sup(0xebd1, "sic", Format::RSYa, 72, |_, _| Ok(Flow::Next)),
    sup_last(0xae00, "sigp", Format::RSa, 0, |c, op| c.sigp(op)),
    sup_last(0xb9a4, "uvc", Format::RRFb, 158, uvc),
];

/// Leaves the core with an instruction.
fn leave(c: &mut Cpu, op: &Op, instruction: Instruction, buffer: Vec<u8>, pending: Pending) -> Step {
    c.pending = Some(Pending { ilc: op.len, ..pending });
    let protected = c.env.protected().is_some();
    c.exit = Some(Exit::Instruction(InstructionExit { instruction, buffer, protected }));
    Ok(Flow::Exit)
}

fn subchannel(c: &mut Cpu, op: &Op, instruction: fn(u32) -> Instruction) -> Step {
    let id = c.w(1);
    leave(c, op, instruction(id), Vec::new(), Pending::default())
}

fn with_block(c: &mut Cpu, op: &Op, len: usize, instruction: fn(u32) -> Instruction) -> Step {
    let addr = c.ea(op);
    let addr = c.aligned(addr, 4)?;
    let mut buffer = vec![0; len];
    c.read_bytes(addr, &mut buffer)?;
    let id = c.w(1);
    leave(c, op, instruction(id), buffer, Pending::default())
}

/// A completion that stores `len` bytes at a logical address, which is checked now.
fn output(c: &mut Cpu, addr: u64, len: usize) -> Result<Pending, Trap> {
    c.probe_write(addr, len as u64)?;
    Ok(Pending { store: Store::Logical(addr), len, ..Pending::default() })
}

fn stsch(c: &mut Cpu, op: &Op) -> Step {
    let addr = c.ea(op);
    let addr = c.aligned(addr, 4)?;
    let pending = output(c, addr, 52)?;
    let what = Instruction::Stsch(c.w(1));
    leave(c, op, what, Vec::new(), pending)
}

fn tsch(c: &mut Cpu, op: &Op) -> Step {
    let addr = c.ea(op);
    let addr = c.aligned(addr, 4)?;
    let pending = output(c, addr, 64)?;
    let subsystem_id = c.w(1);
    let dequeued = c.env.with_floating(|floating| floating.take_subchannel(subsystem_id));
    leave(c, op, Instruction::Tsch { subsystem_id, dequeued }, Vec::new(), pending)
}

fn tpi(c: &mut Cpu, op: &Op) -> Step {
    let addr = c.ea(op);
    let addr = c.aligned(addr, 4)?;
    if addr != 0 {
        c.probe_write(addr, 8)?;
    }
    let classes = (c.crs[6] >> 24) as u8;
    let Some(io) = c.env.with_floating(|floating| floating.take_io(classes)) else {
        c.cc = 0;
        return Ok(Flow::End);
    };
    let mut code = [0; 12];
    code[..4].copy_from_slice(&io.subsystem_id.to_be_bytes());
    code[4..8].copy_from_slice(&io.parameter.to_be_bytes());
    code[8..].copy_from_slice(&io.word.to_be_bytes());
    if addr == 0 {
        let lowcore = c.prefix + crate::lowcore::IO;
        c.write_absolute(lowcore, &code)?;
    } else {
        c.write_bytes(addr, &code[..8])?;
    }
    c.cc = 1;
    Ok(Flow::End)
}

fn stcrw(c: &mut Cpu, op: &Op) -> Step {
    let addr = c.ea(op);
    let addr = c.aligned(addr, 4)?;
    let pending = output(c, addr, 4)?;
    leave(c, op, Instruction::Stcrw, Vec::new(), pending)
}

fn chsc(c: &mut Cpu, op: &Op) -> Step {
    let addr = c.g(op.r1) & c.addr_mask;
    let addr = c.aligned(addr, 4096)?;
    let mut buffer = vec![0; 4096];
    c.read_bytes(addr, &mut buffer)?;
    let len = usize::from(u16::from_be_bytes([buffer[0], buffer[1]]));
    if !(16..=4088).contains(&len) || len % 8 != 0 {
        return Err(c.program(program::OPERAND));
    }
    let pending = output(c, addr, 4096)?;
    leave(c, op, Instruction::Chsc, buffer, pending)
}

fn servc(c: &mut Cpu, op: &Op) -> Step {
    let (command, sccb) = (c.w(op.r1), c.w(op.r2));
    let address = u64::from(sccb);
    if c.env.storage.record(address >> 12).is_none() {
        return Err(c.program(program::ADDRESSING));
    }
    let in_prefix = address & !0x1fff == c.prefix;
    if sccb & !0x7fff_fff8 != 0 || address < 0x2000 || in_prefix {
        return Err(c.specification());
    }
    let mut header = [0; 2];
    c.read_absolute(address, &mut header)?;
    let len = usize::from(u16::from_be_bytes(header));
    if len < 8 {
        return Err(c.specification());
    }
    // One that is longer than a page, or does not exist to its end, is for the service processor to refuse:
    // it sees the length in the header.
    let len = len.min(4096).min(c.env.storage.size().saturating_sub(address) as usize);
    let mut buffer = vec![0; len];
    c.read_absolute(address, &mut buffer)?;
    let pending = Pending { store: Store::Absolute(address), len, ..Pending::default() };
    leave(c, op, Instruction::Servc { command, sccb }, buffer, pending)
}

fn diagnose(c: &mut Cpu, op: &Op) -> Step {
    let code = c.ea(op) as u16;
    if matches!(code, 0x44 | 0x9c) {
        c.give_way();
        return Ok(Flow::End);
    }
    let next = (op.r1 + 1) & 15;
    let (v1, v1_next, v3) = (c.g(op.r1), c.g(next), c.g(op.r2));
    let mut buffer = Vec::new();
    let mut pending = Pending::default();
    let mut block_accessible = false;
    let protected = c.env.protected().is_some();
    let mut args = [0; 4];
    match code {
        0x308 => {
            pending.result = Some(next);
            if matches!(v3, 5 | 6 | 8 | 9) && v1 & 0xfff == 0 && op.r1 & 1 == 0 {
                buffer = vec![0; 4096];
                let access = if matches!(v3, 5 | 8) {
                    c.read_absolute(v1, &mut buffer)
                } else {
                    c.absolute_offset(v1, true).map(drop)
                };
                match access {
                    Ok(()) => block_accessible = true,
                    Err(Trap) if c.core_exit.is_some() => return Err(Trap),
                    Err(Trap) => buffer.clear(),
                }
                if matches!(v3, 6 | 9) {
                    buffer.clear();
                    pending.store = Store::Absolute(v1);
                    pending.len = 4096;
                }
            }
        }
        0x500 => {
            pending.result = Some(2);
            args.copy_from_slice(&c.gprs[1..5]);
        }
        _ => pending.result = Some(next),
    }
    let r1 = if protected { 0 } else { op.r1 };
    let what = Instruction::Diag { code, r1, v1, v1_next, v3, args, block_accessible };
    leave(c, op, what, buffer, pending)
}

fn uvc(c: &mut Cpu, op: &Op) -> Step {
    if op.x != 0 || op.aux & 15 != 0 {
        return Err(c.specification());
    }
    let addr = c.g(op.r2) & c.addr_mask;
    let mut header = [0; 8];
    c.read_bytes(addr, &mut header)?;
    let len = usize::from(u16::from_be_bytes([header[0], header[1]])).clamp(8, 4096);
    let mut block = vec![0; len];
    c.read_bytes(addr, &mut block)?;
    c.probe_write(addr, len as u64)?;
    let Some(guest) = c.env.secure_guest() else {
        // Installed, but nobody there to answer: invalid command.
        block[4..6].copy_from_slice(&2_u16.to_be_bytes());
        c.write_bytes(addr, &block)?;
        c.cc = 1;
        return Ok(Flow::End);
    };
    let side = c.side.clone();
    let number = c.address;
    let mut operands = Operands { cpu: c, block: (addr, len), leaves: None };
    let answer = guest.uvc(number, &mut block, &mut operands, &side);
    let leaves = operands.leaves;
    // Its conversions may have flushed this CPU too.
    c.serve_flushes();
    if let Some(exit) = leaves {
        return Err(c.leave(exit));
    }
    if let Some(page) = answer.import {
        return Err(c.leave(CoreExit::Import { page }));
    }
    c.write_bytes(addr, &block)?;
    c.cc = answer.cc & 3;
    if let Some(parameter) = answer.notify {
        c.core_exit = Some(CoreExit::Notify { ipa: 0xb9a4, parameter });
        return Ok(Flow::Exit);
    }
    Ok(Flow::End)
}

/// What a control block points at, for the length of one call.
struct Operands<'a> {
    cpu: &'a mut Cpu,
    /// Address and length of the block.
    block: (u64, usize),
    /// An access found that the core must be left first.
    leaves: Option<CoreExit>,
}

impl Operands<'_> {
    fn access(
        &mut self,
        address: u64,
        access: impl FnOnce(&mut Cpu, u64) -> Result<(), Trap>,
    ) -> Result<(), OperandFault> {
        let address = address & self.cpu.addr_mask;
        access(self.cpu, address).map_err(|Trap| {
            if self.cpu.trap == TRAP_LEAVE {
                self.leaves = self.leaves.take().or(self.cpu.core_exit.take());
                return OperandFault::Leaves;
            }
            // The answer says so, and no interruption does.
            self.cpu.trap = 0;
            OperandFault::Invalid
        })
    }
}

impl UvcOperands for Operands<'_> {
    fn read(&mut self, address: u64, to: &mut [u8]) -> Result<(), OperandFault> {
        self.access(address, |cpu, address| cpu.read_bytes(address, to))
    }

    fn probe_write(&mut self, address: u64, len: usize) -> Result<(), OperandFault> {
        self.access(address, |cpu, address| cpu.probe_write(address, len as u64))
    }

    fn write(&mut self, address: u64, from: &[u8]) -> Result<(), OperandFault> {
        self.access(address, |cpu, address| cpu.write_bytes(address, from))
    }

    fn settle(&mut self) -> Result<(), OperandFault> {
        let (address, len) = self.block;
        self.probe_write(address, len)
    }
}
