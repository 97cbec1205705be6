//! Guest debugging: breakpoints, single steps and watchpoints of one CPU, and the run loop that looks at them.
//!
//! Without a debugger none of this runs. What the stops mean is said at [`GuestDebug`]; PER, the guest's own means to
//! debug itself, is not here.

use super::{End, Found, JUMPS, Vcpu, mode, run_ops};
use crate::cpu::Cpu;
use crate::dat::Access;
use crate::op::{Op, Trap};
use crate::system::CoreExit;
use cloister_arch::s390x::{DebugExit, DebugReason, Exit, GuestDebug, Psw, WatchKind, Watchpoint};

/// What a debugger has set for one CPU, and what came of it.
pub(crate) struct Debug {
    single_step: bool,
    /// In ascending order.
    breakpoints: Vec<u64>,
    /// None is empty.
    watchpoints: Vec<Watchpoint>,
    /// Touched by the instruction that runs, or that the hypervisor completes.
    hit: Option<Hit>,
    /// The instruction that the hypervisor completes was a single step.
    step_due: bool,
}

#[derive(Clone, Copy)]
struct Hit {
    address: u64,
    kind: WatchKind,
    stored: bool,
}

impl Debug {
    fn new(debug: &GuestDebug) -> Self {
        let mut breakpoints = debug.breakpoints.clone();
        breakpoints.sort_unstable();
        breakpoints.dedup();
        let watchpoints = debug.watchpoints.iter().copied().filter(|watch| watch.len > 0).collect();
        Self { single_step: debug.single_step, breakpoints, watchpoints, hit: None, step_due: false }
    }

    fn breaks_at(&self, addr: u64) -> bool {
        self.breakpoints.binary_search(&addr).is_ok()
    }

    /// How many operations of a block at `addr` may be executed before something has to be looked at.
    fn span(&self, addr: u64, ops: &[Op]) -> usize {
        if self.single_step || !self.watchpoints.is_empty() {
            return ops.len().min(1);
        }
        match self.breakpoints.get(self.breakpoints.partition_point(|&at| at <= addr)) {
            Some(&next) => ops.partition_point(|op| addr.wrapping_add(u64::from(op.offset)) < next),
            None => ops.len(),
        }
    }
}

impl Vcpu {
    /// As [`Vcpu::execute`], for a CPU with a debugger.
    #[cold]
    #[inline(never)]
    pub(super) fn execute_debugged(&mut self, mut left: u64) -> Result<(), CoreExit> {
        while left > 0 && self.cpu.side.check() == 0 && !self.cpu.recheck {
            let cpu = &mut self.cpu;
            cpu.stop_before()?;
            let addr = cpu.psw.addr;
            let mode = mode(cpu);
            let jump = &self.jumps[(addr >> 1) as usize % JUMPS];
            let block = if jump.addr == addr && jump.mode == mode {
                jump.link.and_then(|link| self.blocks.follow(&self.storage, link))
            } else {
                None
            };
            let (end, done) = match block {
                Some(block) => {
                    let span =
                        cpu.debug.as_ref().map_or(block.ops.len(), |debug| debug.span(addr, &block.ops));
                    run_ops(cpu, &block.ops[..span.min(left as usize)])
                }
                None => match self.find(addr, mode) {
                    Ok(Found::Cached) => continue,
                    Ok(Found::Once(op)) => run_ops(&mut self.cpu, std::slice::from_ref(&op)),
                    Err(Trap) => {
                        let next = addr.wrapping_add(2) & self.cpu.addr_mask;
                        (End::Trap { here: addr, next, len: 2 }, 0)
                    }
                },
            };
            let cpu = &mut self.cpu;
            cpu.executed += done;
            left -= done;
            cpu.debug_passed = None;
            if done > 0 {
                cpu.program_streak = 0;
            }
            match end {
                End::Go => {}
                End::Exit => {
                    if let Some(debug) = &mut cpu.debug {
                        debug.step_due = debug.single_step;
                    }
                    let exit = cpu.exit.take().map(CoreExit::Guest).or_else(|| cpu.core_exit.take());
                    return Err(exit.unwrap_or(CoreExit::Guest(Exit::Kicked)));
                }
                End::Trap { here, next, len } => {
                    if let Some(debug) = &mut cpu.debug {
                        // Nothing of the instruction counts, but what an interruptible one has stored.
                        debug.hit = debug.hit.filter(|hit| hit.stored);
                    }
                    cpu.trapped(here, next, len)?;
                }
            }
            cpu.stop_behind()?;
        }
        Ok(())
    }
}

impl Cpu {
    /// What a debugger sets, in place of what was set.
    pub(crate) fn set_debug(&mut self, debug: &GuestDebug) {
        let watched = |cpu: &Self| cpu.debug.as_ref().is_some_and(|debug| !debug.watchpoints.is_empty());
        let before = watched(self);
        self.debug = (!debug.is_off()).then(|| Box::new(Debug::new(debug)));
        if before || watched(self) {
            self.flush_translations();
        }
    }

    /// Forgets the debugger and where the CPU has stopped for it.
    pub(crate) fn drop_debug(&mut self) {
        self.set_debug(&GuestDebug::default());
        self.debug_passed = None;
    }

    /// Before the CPU is entered. Whatever was set in the clear is nothing to a protected CPU.
    pub(super) fn prepare_debug(&mut self) {
        if self.debug.is_none() {
            self.debug_passed = None;
        } else if self.env.protected().is_some() {
            self.drop_debug();
        }
    }

    /// Forgets what an instruction that will not be completed has come to.
    pub(crate) fn forget_stops(&mut self) {
        self.debug_passed = None;
        if let Some(debug) = &mut self.debug {
            (debug.hit, debug.step_due) = (None, false);
        }
    }

    /// Whether operands in the page of `addr` are watched. Real addresses are not logical ones.
    pub(crate) fn is_watched(&self, addr: u64, access: Access, translated: bool) -> bool {
        let Some(debug) = &self.debug else { return false };
        let first = addr & !0xfff;
        access != Access::Execute
            && (translated || self.psw.mask & Psw::DAT == 0)
            && debug.watchpoints.iter().any(|watch| overlap(watch, first, 0x1000).is_some())
    }

    /// After an access to `len` bytes, within a page, of a page that is watched.
    pub(crate) fn touched(&mut self, addr: u64, len: usize, stored: bool) {
        let Some(debug) = &mut self.debug else { return };
        if debug.hit.is_some_and(|hit| hit.stored || !stored) {
            return;
        }
        let counts = |kind| match kind {
            WatchKind::Write => stored,
            WatchKind::Read => !stored,
            WatchKind::Access => true,
        };
        let hit = debug.watchpoints.iter().filter(|watch| counts(watch.kind)).find_map(|watch| {
            let address = overlap(watch, addr, len as u64)?;
            Some(Hit { address, kind: watch.kind, stored })
        });
        debug.hit = hit.or(debug.hit);
    }

    /// Whether the instruction at the PSW is one at which the CPU has stopped before: it is executed before an
    /// interruption is taken, so that going on leads somewhere.
    pub(crate) fn goes_on_from_breakpoint(&self) -> bool {
        let addr = self.psw.addr;
        self.debug_passed == Some(addr)
            && self.psw.mask & Psw::WAIT == 0
            && self.debug.as_ref().is_some_and(|debug| !debug.single_step && debug.breaks_at(addr))
    }

    /// Stops at a breakpoint.
    fn stop_before(&mut self) -> Result<(), CoreExit> {
        let address = self.psw.addr;
        let stops = self.debug_passed != Some(address)
            && self.debug.as_ref().is_some_and(|debug| debug.breaks_at(address));
        if stops { Err(self.stop_for(DebugReason::Breakpoint { address })) } else { Ok(()) }
    }

    /// Stops for what the instruction, or the interruption, just now has done.
    pub(crate) fn stop_behind(&mut self) -> Result<(), CoreExit> {
        let Some(debug) = &mut self.debug else { return Ok(()) };
        debug.step_due = false;
        if let Some(Hit { address, kind, .. }) = debug.hit.take() {
            return Err(self.stop_for(DebugReason::Watchpoint { address, kind }));
        }
        if debug.single_step { Err(self.stop_for(DebugReason::Step)) } else { Ok(()) }
    }

    /// Stops for an instruction that the hypervisor has completed now.
    pub(crate) fn stop_behind_completed(&mut self) -> Result<(), CoreExit> {
        match &self.debug {
            Some(debug) if debug.step_due || debug.hit.is_some() => self.stop_behind(),
            _ => Ok(()),
        }
    }

    fn stop_for(&mut self, reason: DebugReason) -> CoreExit {
        let psw_address = self.psw.addr;
        self.debug_passed = Some(psw_address);
        CoreExit::Guest(Exit::Debug(DebugExit { reason, psw_address }))
    }
}

/// First byte of a watched range among `len` (not 0) bytes at `addr`, which do not wrap.
fn overlap(watch: &Watchpoint, addr: u64, len: u64) -> Option<u64> {
    let last = watch.address.saturating_add(watch.len - 1).min(addr + (len - 1));
    let first = watch.address.max(addr);
    (first <= last).then_some(first)
}
