//! Interruptions: program-status-word swaps, what they store in the lowcore, their order and their masks
//! (SA22-7832, chapter 6).
//!
//! Which interruption a device or the service processor raises is not decided here.

use crate::cpu::{Cpu, address_mask};
use crate::lowcore;
use crate::op::Trap;
use crate::system::{CoreExit, Floating, Local, LocalQueue};
use cloister_arch::s390x::{Exit, IoInterrupt, LocalInterrupt, Psw, RunState, program};
use std::sync::atomic::Ordering;

/// PSW bits that must be zero (SA22-7832, chapter 4, "Program-Status Word": 0, 2-4, 12, 24-30, 33-63).
const PSW_UNASSIGNED: u64 = 0xb808_00fe_7fff_ffff;

/// PSW bits 8-11: access key.
const KEY: u64 = 0xf << 52;

/// CR0 subclass masks.
const EMERGENCY: u64 = 0x4000;
const EXTERNAL_CALL: u64 = 0x2000;
const CLOCK_COMPARATOR: u64 = 0x800;
const CPU_TIMER: u64 = 0x400;
const SERVICE_SIGNAL: u64 = 0x200;
/// CR14: channel-report-pending subclass mask.
const CHANNEL_REPORT: u64 = 0x1000_0000;
/// Machine-check interruption code: channel report pending, all information valid that every CPU saves.
const CHANNEL_REPORT_CODE: u64 = 0x0040_0f1d_4033_0000;

/// Program interruptions in a row, without an instruction in between, that no guest survives.
const LOOP_LIMIT: u32 = 8;

impl Cpu {
    /// The PSW with its condition code.
    pub(crate) fn full_psw(&self) -> Psw {
        Psw { mask: self.psw.mask & !Psw::CC | u64::from(self.cc & 3) << 44, addr: self.psw.addr }
    }

    /// Makes `psw` the current PSW, valid or not; says whether it is valid.
    pub(crate) fn set_psw(&mut self, psw: Psw) -> bool {
        self.cc = (psw.mask >> 44 & 3) as u8;
        let changed = self.psw.mask ^ psw.mask;
        self.psw = Psw { mask: psw.mask & !Psw::CC, addr: psw.addr };
        self.addr_mask = address_mask(psw.mask);
        self.recheck = true;
        if changed & (Psw::DAT | Psw::ASC | KEY) != 0 || self.context.is_none() {
            self.update_view();
        }
        let extended_alone = psw.mask & (Psw::EA | Psw::BA) == Psw::EA;
        psw.mask & PSW_UNASSIGNED == 0 && !extended_alone && psw.addr & !self.addr_mask == 0
    }

    /// What the hypervisor may see of a PSW that stops the CPU: of a protected guest that it waits, and neither
    /// where nor with which modes. Outside protection all of it, because the address is the guest's reason.
    pub(crate) fn visible_psw(&self, psw: Psw) -> Psw {
        match self.env.protected() {
            Some(_) => Psw { mask: psw.mask & Psw::WAIT, addr: 0 },
            None => psw,
        }
    }

    /// After loading an invalid PSW: the early specification exception, with ILC 0 and the new PSW as old.
    pub(crate) fn early_specification(&mut self) -> Result<(), CoreExit> {
        self.trap = program::SPECIFICATION;
        self.trap_detail = 0;
        self.take_program(0)
    }

    /// `-d int`: an interruption is taken. Of a protected guest nothing is told.
    fn tell(&self, what: std::fmt::Arguments<'_>) {
        if tracing::enabled!(target: "int", tracing::Level::TRACE) && self.env.protected().is_none() {
            let (mask, addr) = (self.full_psw().mask, self.psw.addr);
            tracing::trace!(target: "int", "CPU {}: {what}, PSW {mask:016x} {addr:016x}", self.address);
        }
    }

    /// A word in this CPU's lowcore.
    pub(crate) fn lowcore_offset(&mut self, at: u64) -> Result<usize, CoreExit> {
        let absolute = self.prefix + at;
        match self.absolute_offset(absolute, true) {
            Ok(offset) => Ok(offset),
            Err(Trap) => Err(self.core_exit.take().unwrap_or_else(|| {
                stuck(format!("the lowcore at absolute {absolute:#x} has no storage; SIGP set prefix gave a wrong address"))
            })),
        }
    }

    /// Stores a doubleword in the lowcore.
    pub(crate) fn lowcore_u64(&mut self, at: u64, value: u64) -> Result<(), CoreExit> {
        let offset = self.lowcore_offset(at)?;
        self.ram.write_u64_be(offset, value);
        Ok(())
    }

    /// Stores a word in the lowcore.
    pub(crate) fn lowcore_u32(&mut self, at: u64, value: u32) -> Result<(), CoreExit> {
        let offset = self.lowcore_offset(at)?;
        self.ram.write_u32_be(offset, value);
        Ok(())
    }

    fn lowcore_u16(&mut self, at: u64, value: u16) -> Result<(), CoreExit> {
        let offset = self.lowcore_offset(at)?;
        self.ram.write_u16_be(offset, value);
        Ok(())
    }

    /// Stores the current PSW at `old` and loads the one behind it.
    pub(crate) fn swap_psw(&mut self, old: u64) -> Result<(), CoreExit> {
        let psw = self.full_psw();
        let at = self.lowcore_offset(old)?;
        self.ram.write_u64_be(at, psw.mask);
        self.ram.write_u64_be(at + 8, psw.addr);
        let new = self.lowcore_offset(old + lowcore::NEW_PSW)?;
        let psw = Psw { mask: self.ram.read_u64_be(new), addr: self.ram.read_u64_be(new + 8) };
        if self.set_psw(psw) {
            return Ok(());
        }
        self.early_specification()
    }

    /// Takes the program interruption that a trap has described; the PSW address is already what the old PSW
    /// gets. `ilc` is the instruction length in bytes.
    pub(crate) fn take_program(&mut self, ilc: u8) -> Result<(), CoreExit> {
        let code = self.trap;
        self.program_streak += 1;
        if self.program_streak > LOOP_LIMIT {
            let place = match self.env.protected() {
                Some(_) => String::new(),
                None => format!(" at {:#x}", self.psw.addr),
            };
            let reason = format!(
                "program interruption {code:#x} again and again{place}, without an instruction in between"
            );
            return Err(stuck(reason));
        }
        self.tell(format_args!("program interruption {code:#x}, ILC {ilc}, teid {:#x}", self.teid));
        self.lowcore_u32(lowcore::PROGRAM, u32::from(ilc) << 16 | u32::from(code))?;
        match code & 0xff {
            program::DATA | program::VECTOR_PROCESSING => {
                self.lowcore_u32(lowcore::DATA_EXCEPTION, self.trap_detail)?
            }
            program::MONITOR_EVENT => {
                self.lowcore_u16(lowcore::MONITOR_CLASS, self.trap_detail as u16)?;
                self.lowcore_u64(lowcore::MONITOR_CODE, self.monitor_code)?;
            }
            _ if stores_teid(code) => {
                self.lowcore_u64(lowcore::TRANSLATION_EXCEPTION, self.teid)?;
                let offset = self.lowcore_offset(lowcore::EXCEPTION_ACCESS)?;
                self.ram.write_u8(offset, self.access_id);
            }
            _ => {}
        }
        self.lowcore_u64(lowcore::BREAKING_EVENT, self.breaking_event)?;
        self.swap_psw(lowcore::PROGRAM_OLD)
    }

    /// Takes the supervisor-call interruption.
    pub(crate) fn take_svc(&mut self, code: u8, ilc: u8) -> Result<(), CoreExit> {
        self.tell(format_args!("supervisor call {code}"));
        self.lowcore_u32(lowcore::SVC, u32::from(ilc) << 16 | u32::from(code))?;
        self.swap_psw(lowcore::SVC_OLD)
    }

    /// Takes the pending interruption of highest priority that the masks let through; whether there was one.
    pub(crate) fn take_interruption(&mut self) -> Result<bool, CoreExit> {
        let env = self.env.clone();
        let floating = env.floating_pending.load(Ordering::SeqCst);
        let mask = self.psw.mask;
        if mask & Psw::MACHINE_CHECK != 0
            && floating & Floating::CHANNEL_REPORT != 0
            && self.crs[14] & CHANNEL_REPORT != 0
            && env.with_floating(Floating::take_channel_report)
        {
            self.tell(format_args!("machine check, channel report"));
            self.store_status(self.prefix + lowcore::SAVE, false)?;
            let code = CHANNEL_REPORT_CODE | self.store_extended_area()?;
            self.lowcore_u64(lowcore::MACHINE_CHECK_CODE, code)?;
            self.swap_psw(lowcore::MACHINE_CHECK_OLD)?;
            return Ok(true);
        }
        if mask & Psw::EXTERNAL != 0 && self.take_external(floating)? {
            return Ok(true);
        }
        let classes = (floating >> Floating::IO_SHIFT) as u8 & (self.crs[6] >> 24) as u8;
        if mask & Psw::IO != 0
            && classes != 0
            && let Some(io) = env.with_floating(|floating| floating.take_io(classes))
        {
            self.tell(format_args!("I/O interruption, subchannel {:#x}", io.subsystem_id));
            self.store_io(io)?;
            self.swap_psw(lowcore::IO_OLD)?;
            return Ok(true);
        }
        let local = &env.locals[usize::from(self.address)];
        if local.pending.load(Ordering::SeqCst)
            && local.with_queue(|queue| std::mem::take(&mut queue.restart))
        {
            self.tell(format_args!("restart"));
            self.swap_psw(lowcore::RESTART_OLD)?;
            return Ok(true);
        }
        Ok(false)
    }

    fn take_external(&mut self, floating: u32) -> Result<bool, CoreExit> {
        let env = self.env.clone();
        let local = &env.locals[usize::from(self.address)];
        let cr0 = self.crs[0];
        if local.pending.load(Ordering::SeqCst) {
            if cr0 & EMERGENCY != 0
                && let Some(source) = local.with_queue(LocalQueue::take_emergency)
            {
                return self.external(0x1201, Some(source), None);
            }
            if cr0 & EXTERNAL_CALL != 0
                && let Some(source) = local.with_queue(|queue| queue.external_call.take())
            {
                return self.external(0x1202, Some(source), None);
            }
        }
        if cr0 & CLOCK_COMPARATOR != 0 && self.tod() > self.clock_comparator {
            return self.external(0x1004, None, None);
        }
        if cr0 & CPU_TIMER != 0 && self.cpu_timer_now() as i64 <= -1 {
            return self.external(0x1005, None, None);
        }
        if cr0 & SERVICE_SIGNAL != 0
            && floating & Floating::SERVICE != 0
            && let Some(parameter) = env.with_floating(Floating::take_service)
        {
            return self.external(0x2401, None, Some(parameter));
        }
        Ok(false)
    }

    fn external(&mut self, code: u16, source: Option<u16>, parameter: Option<u32>) -> Result<bool, CoreExit> {
        self.tell(format_args!("external interruption {code:#x}"));
        self.lowcore_u16(lowcore::EXTERNAL_CODE, code)?;
        self.lowcore_u16(lowcore::EXTERNAL_CPU, source.unwrap_or(0))?;
        if let Some(parameter) = parameter {
            self.lowcore_u32(lowcore::EXTERNAL_PARAMETER, parameter)?;
        }
        self.swap_psw(lowcore::EXTERNAL_OLD)?;
        Ok(true)
    }

    fn store_io(&mut self, io: IoInterrupt) -> Result<(), CoreExit> {
        self.lowcore_u32(lowcore::IO, io.subsystem_id)?;
        self.lowcore_u32(lowcore::IO + 4, io.parameter)?;
        self.lowcore_u32(lowcore::IO + 8, io.word)
    }

    /// TOD value at which a timer of this CPU will interrupt, if one is enabled and can.
    pub(crate) fn timer_deadline(&self) -> Option<u64> {
        if self.psw.mask & Psw::EXTERNAL == 0 {
            return None;
        }
        let comparator = (self.crs[0] & CLOCK_COMPARATOR != 0 && self.clock_comparator != u64::MAX)
            .then(|| self.clock_comparator + 1);
        let timer = (self.crs[0] & CPU_TIMER != 0)
            .then(|| self.cpu_timer_at.saturating_add(self.cpu_timer).saturating_add(1))
            .filter(|_| self.cpu_timer as i64 >= 0);
        match (comparator, timer) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Serves what other CPUs and the hypervisor have asked of this one: stop, start, restart, resets. Whether
    /// the CPU has just been stopped.
    pub(crate) fn serve_orders(&mut self) -> Result<bool, CoreExit> {
        let env = self.env.clone();
        let local = &env.locals[usize::from(self.address)];
        if !local.pending.load(Ordering::SeqCst) {
            return Ok(false);
        }
        // An order stays in the queue until it has been carried out. Until then the CPU answers busy; else an order that
        // came meanwhile would be accepted, and then forgotten by a reset.
        while let Some(order) = local.with_queue(|queue| queue.orders.front().copied()) {
            self.carry_out(order)?;
            local.with_queue(|queue| queue.orders.pop_front());
        }
        if local.state.load(Ordering::SeqCst) == Local::STOPPED {
            // A restart leads out of the stopped state; its interruption is taken like any other.
            if local.with_queue(|queue| {
                queue.stop = None;
                queue.restart
            }) {
                local.set_run_state(RunState::Operating);
            }
            return Ok(false);
        }
        let Some(store_status) = local.with_queue(|queue| queue.stop.take()) else { return Ok(false) };
        local.set_run_state(RunState::Stopped);
        if store_status {
            self.store_status(self.prefix + lowcore::SAVE, true)?;
        }
        Ok(true)
    }
}

impl LocalQueue {
    /// Queues an interruption.
    pub(crate) fn add(&mut self, interrupt: LocalInterrupt) {
        match interrupt {
            LocalInterrupt::ExternalCall(source) => self.external_call = Some(source),
            LocalInterrupt::EmergencySignal(source) => {
                self.emergency[usize::from(source / 64) & 3] |= 1 << (source % 64);
            }
            LocalInterrupt::Restart => self.restart = true,
            LocalInterrupt::Stop { store_status } => {
                self.stop = Some(store_status || self.stop == Some(true));
            }
        }
    }

    /// All queued interruptions, for saving.
    pub(crate) fn interruptions(&self) -> Vec<LocalInterrupt> {
        let mut all: Vec<_> = self.external_call.map(LocalInterrupt::ExternalCall).into_iter().collect();
        let pending = |source: &u16| self.emergency[usize::from(source / 64)] & 1 << (source % 64) != 0;
        all.extend((0..256).filter(pending).map(LocalInterrupt::EmergencySignal));
        all.extend(self.restart.then_some(LocalInterrupt::Restart));
        all.extend(self.stop.map(|store_status| LocalInterrupt::Stop { store_status }));
        all
    }

    fn take_emergency(&mut self) -> Option<u16> {
        let word = self.emergency.iter().position(|&word| word != 0)?;
        let bit = self.emergency[word].trailing_zeros();
        self.emergency[word] &= !(1 << bit);
        Some(word as u16 * 64 + bit as u16)
    }
}

/// Whether an interruption leaves the PSW at the instruction (nullification) instead of behind it.
pub(crate) fn nullifies(code: u16) -> bool {
    matches!(code, 0x10 | 0x11 | 0x29..=0x2d | 0x38..=0x3b | 0x3d..=0x3f)
}

fn stores_teid(code: u16) -> bool {
    matches!(code, 0x04 | 0x10 | 0x11 | 0x28..=0x2d | 0x38..=0x3b | 0x3d..=0x3f)
}

/// The exit for what no CPU can leave.
pub(crate) fn stuck(reason: String) -> CoreExit {
    CoreExit::Guest(Exit::Stuck { reason })
}
