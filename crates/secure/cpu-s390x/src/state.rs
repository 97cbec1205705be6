//! Saving, restoring and resetting a CPU, and store status.
//!
//! Nothing here changes while a CPU runs: all of it happens between instructions.

use crate::cpu::Cpu;
use crate::lowcore;
use crate::op::Trap;
use crate::system::{CoreExit, LocalQueue, Order};
use cloister_arch::s390x::{CpuState, Psw, ResetKind, RunState, facility};
use std::sync::atomic::Ordering;

/// CR0 and CR14 after an initial CPU reset (SA22-7832, chapter 4, "Resets").
const CR0_RESET: u64 = 0xe0;
const CR14_RESET: u64 = 0xc200_0000;

/// Machine-check interruption code: validity of vector registers and of guarded-storage registers.
const VECTOR_VALID: u64 = 1 << 38;
const GUARDED_STORAGE_VALID: u64 = 1 << 27;

/// Where vector and guarded-storage registers are saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExtendedArea {
    /// Absolute address, a multiple of the size.
    origin: u64,
    /// There is room for the guarded-storage registers, and the CPU has them.
    guarded_storage: bool,
}

impl ExtendedArea {
    /// Place of the guarded-storage control block.
    const GUARDED_STORAGE: u64 = 1024;

    /// The area that SIGP designates: with guarded storage a length characteristic in the last four bits. Nothing if
    /// that is not one, or the address no multiple of the size.
    pub(crate) fn designated(parameter: u64, guarded: bool) -> Option<Self> {
        let (origin, size) = match parameter & 15 {
            lc @ 10..=12 if guarded => (parameter & !15, 1 << lc),
            _ => (parameter, 1024),
        };
        let area = Self { origin, guarded_storage: size > 1024 };
        (origin & (size - 1) == 0).then_some(area)
    }
}

impl Cpu {
    /// CPU, initial-CPU or clear reset.
    pub(crate) fn reset(&mut self, kind: ResetKind) {
        tracing::trace!(target: "cpu_reset", cpu = self.address, ?kind);
        self.reset_by_order(kind);
        self.local().with_queue(|queue| queue.orders.clear());
    }

    /// The same by SIGP: orders stay, of which this is one.
    fn reset_by_order(&mut self, kind: ResetKind) {
        self.reset_registers(kind);
        let local = self.local();
        local.with_queue(|queue| {
            *queue = LocalQueue { orders: std::mem::take(&mut queue.orders), ..LocalQueue::default() };
        });
        local.set_run_state(RunState::Stopped);
    }

    fn reset_registers(&mut self, kind: ResetKind) {
        if kind != ResetKind::Normal {
            self.initial_reset();
        }
        if kind == ResetKind::Clear {
            self.gprs = [0; 16];
            self.ars = [0; 16];
            self.vrs = [0; 32];
            self.guarded_storage = [0; 3];
        }
        self.program_streak = 0;
        self.pending = None;
        self.forget_stops();
        self.flush_translations();
    }

    /// The initial-reset part: PSW, prefix, timers, control registers.
    pub(crate) fn initial_reset(&mut self) {
        self.crs = [0; 16];
        self.crs[0] = CR0_RESET;
        self.crs[14] = CR14_RESET;
        self.fpc = 0;
        self.prefix = 0;
        self.todpr = 0;
        self.clock_comparator = 0;
        self.cpu_timer = 0;
        self.cpu_timer_at = self.tod();
        self.breaking_event = 1;
        self.set_psw(Psw::default());
    }

    /// Carries out a SIGP order on this CPU.
    pub(crate) fn carry_out(&mut self, order: Order) -> Result<(), CoreExit> {
        match order {
            Order::Reset(kind) => self.reset_by_order(kind),
            Order::SetPrefix(prefix) => {
                self.prefix = u64::from(prefix);
                self.flush_translations();
            }
            Order::StoreStatus(Order::AT_PREFIX) => self.store_status(self.prefix + lowcore::SAVE, true)?,
            Order::StoreStatus(absolute) => self.store_status(absolute, true)?,
            Order::StoreAdditionalStatus(area) => self.store_additional_status(area)?,
        }
        Ok(())
    }

    /// Stores the status (SA22-7832, chapter 4, "Store Status"): at `base` the floating-point registers, then
    /// the rest. With `psw`, the PSW and the prefix too.
    pub(crate) fn store_status(&mut self, base: u64, psw: bool) -> Result<(), CoreExit> {
        let mut area = [0; 0x200];
        let mut put = |at: usize, bytes: &[u8]| area[at..at + bytes.len()].copy_from_slice(bytes);
        for i in 0..16 {
            put(8 * i, &self.fpr(i as u8).to_be_bytes());
            put(0x80 + 8 * i, &self.gprs[i].to_be_bytes());
            put(0x140 + 4 * i, &self.ars[i].to_be_bytes());
            put(0x180 + 8 * i, &self.crs[i].to_be_bytes());
        }
        if psw {
            let psw = self.full_psw();
            put(0x100, &psw.mask.to_be_bytes());
            put(0x108, &psw.addr.to_be_bytes());
        }
        put(0x118, &(self.prefix as u32).to_be_bytes());
        put(0x11c, &self.fpc.to_be_bytes());
        put(0x124, &self.todpr.to_be_bytes());
        put(0x128, &self.cpu_timer_now().to_be_bytes());
        put(0x130, &(self.clock_comparator >> 8).to_be_bytes());
        self.save_absolute(base, &area)
    }

    /// Stores the additional status, as far as the area has room for it (SA22-7832, chapter 4, "Store Additional
    /// Status at Address").
    fn store_additional_status(&mut self, to: ExtendedArea) -> Result<(), CoreExit> {
        if self.facility(facility::VECTOR) {
            let vrs: Vec<u8> = self.vrs.iter().flat_map(|vr| vr.to_be_bytes()).collect();
            self.save_absolute(to.origin, &vrs)?;
        }
        if to.guarded_storage {
            let [designation, mask, list] = self.guarded_storage;
            let block: Vec<u8> =
                [0, designation, mask, list].into_iter().flat_map(u64::to_be_bytes).collect();
            self.save_absolute(to.origin + ExtendedArea::GUARDED_STORAGE, &block)?;
        }
        Ok(())
    }

    /// Stores what a machine check adds to the status, in the area that the lowcore designates. The validity bits
    /// of what it has (SA22-7832, chapter 11, "Machine-Check Extended Save Area").
    pub(crate) fn store_extended_area(&mut self) -> Result<u64, CoreExit> {
        let vector = self.facility(facility::VECTOR);
        if !vector && !self.facility(facility::GUARDED_STORAGE) {
            // Linux insists on the registers' validity, which an absent facility does not make untrue.
            return Ok(VECTOR_VALID);
        }
        let at = self.lowcore_offset(lowcore::EXTENDED_SAVE_AREA)?;
        let designation = self.ram.read_u64_be(at);
        // Unlike SIGP's, this one is cut to the boundary.
        let (lc, guarded) = (designation & 15, self.facility(facility::GUARDED_STORAGE));
        let size = if guarded && matches!(lc, 11 | 12) { 1 << lc } else { 1024 };
        let origin = designation & !(size - 1);
        if origin == 0 || (guarded && !matches!(lc, 0 | 10..=12)) {
            return Ok(if vector { 0 } else { VECTOR_VALID });
        }
        let area = ExtendedArea { origin, guarded_storage: size > 1024 };
        self.store_additional_status(area)?;
        Ok(VECTOR_VALID | if area.guarded_storage { GUARDED_STORAGE_VALID } else { 0 })
    }

    /// Stores at an absolute address; what has no storage is left out.
    fn save_absolute(&mut self, base: u64, area: &[u8]) -> Result<(), CoreExit> {
        let mut done = 0;
        while done < area.len() {
            let at = base + done as u64;
            let part = (0x1000 - (at & 0xfff) as usize).min(area.len() - done);
            match self.absolute_offset(at, true) {
                Ok(offset) => self.ram.copy_in(offset, &area[done..done + part]),
                Err(Trap) => {
                    if let Some(exit) = self.core_exit.take() {
                        return Err(exit);
                    }
                }
            }
            self.env.storage.code_write(at >> 12, (at & 0xfff) as usize, part);
            done += part;
        }
        Ok(())
    }

    /// The whole state.
    pub(crate) fn save(&self) -> CpuState {
        let local = &self.env.locals[usize::from(self.address)];
        CpuState {
            version: CpuState::VERSION,
            address: self.address,
            psw: self.full_psw(),
            gprs: self.gprs,
            ars: self.ars,
            crs: self.crs,
            vrs: self.vrs,
            guarded_storage: self.guarded_storage,
            fpc: self.fpc,
            prefix: self.prefix as u32,
            todpr: self.todpr,
            clock_comparator: self.clock_comparator,
            cpu_timer: self.cpu_timer_now(),
            breaking_event: self.breaking_event,
            run_state: local.run_state(),
            pending: local.with_queue(|queue| queue.interruptions()),
            instructions: self.executed,
        }
    }

    /// Takes over a state; the CPU address stays. With another PSW address nothing is left to be completed, and
    /// no debugger has seen the CPU there.
    pub(crate) fn restore(&mut self, state: &CpuState) {
        if state.psw.addr != self.psw.addr {
            self.pending = None;
            self.forget_stops();
        }
        self.gprs = state.gprs;
        self.ars = state.ars;
        self.crs = state.crs;
        self.vrs = state.vrs;
        self.guarded_storage = state.guarded_storage;
        self.fpc = state.fpc;
        self.prefix = u64::from(state.prefix & 0x7fff_e000);
        self.todpr = state.todpr;
        self.clock_comparator = state.clock_comparator;
        self.set_cpu_timer(state.cpu_timer);
        self.breaking_event = state.breaking_event;
        self.executed = state.instructions;
        self.retired = self.executed;
        self.program_streak = 0;
        self.set_psw(state.psw);
        self.flush_translations();
        let env = self.env.clone();
        let local = &env.locals[usize::from(self.address)];
        local.with_queue(|queue| {
            *queue = LocalQueue::default();
            state.pending.iter().for_each(|&interrupt| queue.add(interrupt));
        });
        local.set_run_state(state.run_state);
        local.instructions.store(self.executed, Ordering::Relaxed);
    }
}
