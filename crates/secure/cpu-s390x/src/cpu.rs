//! The hot state of one CPU, and the small vocabulary in which instructions are written.

use crate::dat::{Contexts, View};
use crate::op::{Flow, Op, Trap};
use crate::run::Debug;
use crate::system::{CoreExit, Env, Pending, Side};
use cloister_arch::s390x::{Exit, Psw, program};
use cloister_jit::{Context, Tlb};
use cloister_memory::Ram;
use std::sync::{Arc, Mutex};

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
    /// Vector registers. Bits 0-63 of the first 16 are the floating-point registers.
    pub(crate) vrs: [u128; 32],
    /// Guarded-storage designation, section mask, and event-parameter-list address.
    pub(crate) guarded_storage: [u64; 3],
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
    /// The last signed operation overflowed (set and taken within one instruction).
    pub(crate) fixed_overflow: bool,
    /// A store hit a page that holds decoded code of the running block's page.
    pub(crate) code_written: bool,
    /// Number of the current view of storage, part of every TLB tag.
    pub(crate) context: Context,
    /// Number of the view of instruction fetches.
    pub(crate) code_context: u64,
    /// Access to guest storage by offset.
    pub(crate) ram: Ram,
    /// Translation lookaside buffer.
    pub(crate) tlb: Tlb,
    /// Masks, timers or translations have changed: look at them before the next block.
    pub(crate) recheck: bool,
    /// The program waits for another CPU: on a thread shared with others it is their turn.
    pub(crate) gives_way: bool,
    /// Instructions executed, exact between blocks.
    pub(crate) executed: u64,
    /// Translated code leaves when so many have been executed.
    pub(crate) until: u64,
    /// Numbers of views were used up and begin again: whoever has kept one forgets it before the next block.
    pub(crate) renumbered: bool,
    /// What the current view is.
    pub(crate) view: View,
    /// Views that have a number.
    pub(crate) contexts: Box<Contexts>,
    /// What all CPUs share.
    pub(crate) env: Arc<Env>,
    /// This CPU's side of the rendezvous.
    pub(crate) side: Side,
    /// CPU address.
    pub(crate) address: u16,
    /// Prefix.
    pub(crate) prefix: u64,
    /// TOD programmable register.
    pub(crate) todpr: u32,
    /// Clock comparator.
    pub(crate) clock_comparator: u64,
    /// CPU timer: guest time at which it passes zero, or its value while the CPU does not run.
    pub(crate) cpu_timer: u64,
    /// Guest time (TOD units) at which `cpu_timer` had its value.
    pub(crate) cpu_timer_at: u64,
    /// Breaking-event address.
    pub(crate) breaking_event: u64,
    /// Translation-exception identification of the pending [`Trap`].
    pub(crate) teid: u64,
    /// Exception access identification of the pending [`Trap`].
    pub(crate) access_id: u8,
    /// Monitor code of the pending [`Trap`].
    pub(crate) monitor_code: u64,
    /// Real address of the table entry that the last walk stopped at, or 0.
    pub(crate) walk_entry: u64,
    /// Leave for something other than an architected exit.
    pub(crate) core_exit: Option<CoreExit>,
    /// Program interruptions since an instruction was last completed.
    pub(crate) program_streak: u32,
    /// Instructions that a virtual clock knows of.
    pub(crate) retired: u64,
    /// What the completion of the last exit does.
    pub(crate) pending: Option<Pending>,
    /// A debugger looks at this CPU.
    pub(crate) debug: Option<Box<Debug>>,
    /// Where the CPU has stopped for its debugger, until the next instruction.
    pub(crate) debug_passed: Option<u64>,
}

impl Cpu {
    /// A CPU after a clear reset.
    pub(crate) fn new(env: Arc<Env>, address: u16, side: Side) -> Self {
        let mut cpu = Self {
            gprs: [0; 16],
            psw: Psw::default(),
            cc: 0,
            block_addr: 0,
            addr_mask: 0,
            vrs: [0; 32],
            guarded_storage: [0; 3],
            fpc: 0,
            ars: [0; 16],
            crs: [0; 16],
            trap: 0,
            trap_detail: 0,
            exit: None,
            code_written: false,
            context: Context::default(),
            code_context: 0,
            ram: env.storage.ram(),
            tlb: Tlb::new(env.storage.ram()),
            recheck: true,
            gives_way: false,
            executed: 0,
            until: 0,
            renumbered: false,
            view: View::default(),
            contexts: Box::new(Contexts::new()),
            env,
            side,
            address,
            prefix: 0,
            todpr: 0,
            clock_comparator: 0,
            cpu_timer: 0,
            cpu_timer_at: 0,
            breaking_event: 0,
            teid: 0,
            access_id: 0,
            monitor_code: 0,
            walk_entry: 0,
            core_exit: None,
            program_streak: 0,
            retired: 0,
            pending: None,
            debug: None,
            debug_passed: None,
            fixed_overflow: false,
        };
        cpu.initial_reset();
        cpu
    }

    /// The program spins: another CPU of the configuration should run.
    #[cold]
    pub(crate) fn give_way(&mut self) {
        self.gives_way = true;
        self.recheck = true;
        std::thread::yield_now();
    }

    /// Whether the guest has this facility.
    pub(crate) fn facility(&self, bit: u16) -> bool {
        self.env.has_facility(bit)
    }

    /// Serialises operations that need more than one interlocked access (PERFORM LOCKED OPERATION).
    pub(crate) fn locked_operation(&self) -> Arc<Mutex<()>> {
        Arc::clone(&self.env.locked_operation)
    }

    /// Sets the addressing mode: EA and BA as in the PSW mask.
    pub(crate) fn set_addressing_mode(&mut self, mode: u64) {
        self.psw.mask = self.psw.mask & !(Psw::EA | Psw::BA) | mode;
        self.addr_mask = address_mask(mode);
    }

    /// Access registers have been loaded. They are taken as designating the primary space, so that nothing
    /// depends on them.
    pub(crate) fn access_registers_changed(&mut self) {}

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

    /// Floating-point register.
    #[inline(always)]
    pub(crate) fn fpr(&self, r: u8) -> u64 {
        (self.vrs[usize::from(r & 15)] >> 64) as u64
    }

    /// Sets a floating-point register; the second half of the vector register stays.
    #[inline(always)]
    pub(crate) fn set_fpr(&mut self, r: u8, value: u64) {
        let vr = &mut self.vrs[usize::from(r & 15)];
        *vr = *vr & u128::from(u64::MAX) | u128::from(value) << 64;
    }

    /// Vector register.
    #[inline(always)]
    pub(crate) fn v(&self, r: u8) -> u128 {
        self.vrs[usize::from(r & 31)]
    }

    /// Sets a vector register.
    #[inline(always)]
    pub(crate) fn set_v(&mut self, r: u8, value: u128) {
        self.vrs[usize::from(r & 31)] = value;
    }

    /// Answer of an instruction that stored: leaves the block if it may have changed its own code.
    #[inline(always)]
    pub(crate) fn stored(&self) -> Flow {
        if self.code_written { Flow::End } else { Flow::Next }
    }
}

/// Mask for effective addresses in an addressing mode.
pub(crate) fn address_mask(psw_mask: u64) -> u64 {
    match psw_mask & (Psw::EA | Psw::BA) {
        0 => 0xff_ffff,
        Psw::BA => 0x7fff_ffff,
        _ => u64::MAX,
    }
}
