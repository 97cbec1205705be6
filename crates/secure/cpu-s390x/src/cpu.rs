//! The hot state of one CPU, and the small vocabulary in which instructions are written.

use crate::op::{Flow, Op, Trap};
use cloister_arch::s390x::{Exit, Psw, program};

/// One CPU's registers and what its instructions need at hand.
pub(crate) struct Cpu {
    /// General registers.
    pub(crate) gprs: [u64; 16],
    /// Current PSW. `addr` is exact between blocks; inside a block use [`Cpu::here`].
    /// The condition code is *not* kept in `mask` but in `cc`.
    pub(crate) psw: Psw,
    /// Condition code, 0-3.
    pub(crate) cc: u8,
    /// Logical address of the running block's first instruction.
    pub(crate) block_addr: u64,
    /// Mask for effective addresses of the current addressing mode (24, 31 or 64 bits).
    pub(crate) addr_mask: u64,
    /// Floating-point registers.
    pub(crate) fprs: [u64; 16],
    /// Floating-point-control register.
    pub(crate) fpc: u32,
    /// Access registers.
    pub(crate) ars: [u32; 16],
    /// Control registers.
    pub(crate) crs: [u64; 16],
    /// Program interruption of the instruction that answered [`Trap`]: code (with data-exception code etc.
    /// in `trap_detail`).
    pub(crate) trap: u16,
    /// DXC/VXC for data exceptions, monitor class..., or 0.
    pub(crate) trap_detail: u32,
    /// Filled with [`Flow::Exit`].
    pub(crate) exit: Option<Exit>,
    /// A store hit a page that holds decoded code of the running block's page.
    pub(crate) code_written: bool,
}

impl Cpu {
    /// Address of `op`.
    #[inline(always)]
    pub(crate) fn here(&self, op: &Op) -> u64 {
        self.block_addr.wrapping_add(u64::from(op.offset)) & self.addr_mask
    }

    /// Address behind `op`.
    #[inline(always)]
    pub(crate) fn next(&self, op: &Op) -> u64 {
        self.block_addr.wrapping_add(u64::from(op.offset) + u64::from(op.len)) & self.addr_mask
    }

    /// Continues at `target` (already a valid logical address; it is cut to the addressing mode).
    #[inline(always)]
    pub(crate) fn jump(&mut self, target: u64) -> Flow {
        self.psw.addr = target & self.addr_mask;
        Flow::Jump
    }

    /// Continues at `op.imm` bytes from `op`.
    #[inline(always)]
    pub(crate) fn jump_relative(&mut self, op: &Op) -> Flow {
        let target = self.here(op).wrapping_add_signed(op.imm);
        self.jump(target)
    }

    /// Raises a program interruption.
    #[cold]
    pub(crate) fn program(&mut self, code: u16) -> Trap {
        self.trap = code;
        self.trap_detail = 0;
        Trap
    }

    /// Raises a data exception with its DXC.
    #[cold]
    pub(crate) fn data_exception(&mut self, dxc: u8) -> Trap {
        self.trap = program::DATA;
        self.trap_detail = u32::from(dxc);
        Trap
    }

    /// Register as an address operand: register 0 means no register.
    #[inline(always)]
    pub(crate) fn base(&self, r: u8) -> u64 {
        if r == 0 { 0 } else { self.gprs[usize::from(r & 15)] }
    }

    /// Effective address of the (first) storage operand: base + index + displacement.
    #[inline(always)]
    pub(crate) fn ea(&self, op: &Op) -> u64 {
        self.base(op.b).wrapping_add(self.base(op.x)).wrapping_add_signed(op.imm) & self.addr_mask
    }

    /// 64-bit register.
    #[inline(always)]
    pub(crate) fn g(&self, r: u8) -> u64 {
        self.gprs[usize::from(r & 15)]
    }

    /// Sets a 64-bit register.
    #[inline(always)]
    pub(crate) fn set_g(&mut self, r: u8, value: u64) {
        self.gprs[usize::from(r & 15)] = value;
    }

    /// Low half of a register.
    #[inline(always)]
    pub(crate) fn w(&self, r: u8) -> u32 {
        self.gprs[usize::from(r & 15)] as u32
    }

    /// Sets the low half of a register; the high half stays.
    #[inline(always)]
    pub(crate) fn set_w(&mut self, r: u8, value: u32) {
        let g = &mut self.gprs[usize::from(r & 15)];
        *g = (*g & 0xffff_ffff_0000_0000) | u64::from(value);
    }

    /// Answer of an instruction that stored: leaves the block if it may have changed its own code.
    #[inline(always)]
    pub(crate) fn stored(&self) -> Flow {
        if self.code_written { Flow::End } else { Flow::Next }
    }
}
