//! The machine as crate `gdbstub` wants it: threads are CPUs, memory is what the current CPU's addresses lead to.
//!
//! What a debugger may do is asked of [`DebugPolicy`] before each answer; the platform carries out breakpoints, steps
//! and translations. No instruction of the guest is patched. Packets are not known here.

use crate::Monitor;
use crate::arch::{self, Register, Registers, S390x};
use crate::policy::DebugPolicy;
use cloister_control::{Cause, ControlError, Machine, RunState};
use cloister_platform::arch::s390x::{
    CpuState, DebugExit, DebugReason, GuestDebug, WatchKind as Kind, Watchpoint, facility,
};
use cloister_platform::{HostMemory, Vm};
use gdbstub::common::{Endianness, Signal, Tid};
use gdbstub::stub::MultiThreadStopReason;
use gdbstub::target::ext::base::BaseOps;
use gdbstub::target::ext::base::multithread::{
    MultiThreadBase, MultiThreadResume, MultiThreadResumeOps, MultiThreadSchedulerLocking,
    MultiThreadSchedulerLockingOps, MultiThreadSingleStep, MultiThreadSingleStepOps,
};
use gdbstub::target::ext::base::single_register_access::{SingleRegisterAccess, SingleRegisterAccessOps};
use gdbstub::target::ext::breakpoints::{
    Breakpoints, BreakpointsOps, HwBreakpoint, HwBreakpointOps, HwWatchpoint, HwWatchpointOps, SwBreakpoint,
    SwBreakpointOps, WatchKind,
};
use gdbstub::target::ext::host_info::{HostInfo, HostInfoOps, HostInfoResponse};
use gdbstub::target::ext::monitor_cmd::{ConsoleOutput, MonitorCmd, MonitorCmdOps};
use gdbstub::target::ext::target_description_xml_override::{
    TargetDescriptionXmlOverride, TargetDescriptionXmlOverrideOps,
};
use gdbstub::target::ext::thread_extra_info::{ThreadExtraInfo, ThreadExtraInfoOps};
use gdbstub::target::{Target, TargetError, TargetResult};
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use vm_memory::{GuestAddress, GuestMemory, Permissions};

/// A stop as gdb hears of it.
pub(crate) type Stop = MultiThreadStopReason<u64>;

const PAGE: u64 = 4096;
/// Breakpoints and watchpoints that a debugger may have.
const POINTS: usize = 1024;
/// Bytes of a monitor command's answer; gdb keeps it in memory.
const CONSOLE: usize = 256 << 10;
/// Bytes of it in one packet.
const CONSOLE_PART: usize = 1024;

const EFAULT: u8 = 14;
const EPERM: u8 = 1;
const EINVAL: u8 = 22;
const ENOSPC: u8 = 28;

/// A machine under a debugger.
pub(crate) struct Guest {
    machine: Arc<dyn Machine>,
    monitor: Monitor,
    /// Memory is addressed by absolute address (`Qqemu.PhyMemMode`).
    pub(crate) physical: bool,
    /// While the stub is brought to a state that it had before, nothing happens to the machine.
    pub(crate) rehearsal: bool,
    /// Why the last command was refused, if there is something to say.
    pub(crate) refusal: Option<String>,
    /// What the debugger's user should read when the protocol next allows it.
    pub(crate) notices: VecDeque<String>,
    /// The stop to report at once instead of one that will come.
    pub(crate) at_once: Option<Stop>,
    breakpoints: BTreeMap<u64, Breakpoint>,
    watchpoints: Vec<Watchpoint>,
    actions: BTreeMap<u16, Action>,
    locked: bool,
    armed: bool,
    told: bool,
    current: u16,
    /// Stops of several CPUs at the same time, not reported yet.
    stops: VecDeque<(u16, DebugExit)>,
}

#[derive(Clone, Copy, Default)]
struct Breakpoint {
    software: bool,
    hardware: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    Continue,
    Step,
}

impl Guest {
    pub(crate) fn new(machine: Arc<dyn Machine>, monitor: Monitor) -> Self {
        Self {
            machine,
            monitor,
            physical: false,
            rehearsal: false,
            refusal: None,
            notices: VecDeque::new(),
            at_once: None,
            breakpoints: BTreeMap::new(),
            watchpoints: Vec::new(),
            actions: BTreeMap::new(),
            locked: false,
            armed: false,
            told: false,
            current: 0,
            stops: VecDeque::new(),
        }
    }

    /// Stops the machine because a debugger has come or wants it.
    pub(crate) fn halt(&mut self) {
        if let Err(error) = self.machine.stop() {
            self.notice(error.to_string());
        }
    }

    /// The debugger has gone: nothing of it stays. The machine goes on only if it is told to.
    pub(crate) fn leave(&mut self, go_on: bool) {
        self.breakpoints.clear();
        self.watchpoints.clear();
        let runs = self.machine.run_state().is_running();
        if self.armed {
            self.armed = false;
            let _ = self.machine.stop();
            self.disarm();
            if runs {
                self.try_cont();
            }
        }
        if go_on && !runs {
            self.try_cont();
        }
    }

    /// Ends the machine.
    pub(crate) fn kill(&mut self) {
        tracing::info!("gdb killed the machine");
        self.machine.quit(Cause::HostQmpQuit);
    }

    /// Why the machine stands still; `None` while it runs.
    pub(crate) fn stop_reason(&mut self) -> Option<Stop> {
        let state = self.machine.run_state();
        let signal = match state {
            RunState::Running => return None,
            RunState::Debug => {
                // New ones first: an older one may be of a CPU that did not take part.
                let new: Vec<_> = std::iter::from_fn(|| self.machine.debug_exit()).take(POINTS).collect();
                self.stops.retain(|(old, _)| new.iter().all(|(cpu, _)| cpu != old));
                new.into_iter().rev().for_each(|stop| self.stops.push_front(stop));
                if let Some((cpu, exit)) = self.stops.pop_front() {
                    return Some(self.debug_stop(cpu, exit));
                }
                Signal::SIGTRAP
            }
            RunState::Prelaunch | RunState::Paused | RunState::InMigrate => Signal::SIGINT,
            RunState::Shutdown => Signal::SIGQUIT,
            RunState::IoError => Signal::SIGSTOP,
            RunState::Watchdog => Signal::SIGALRM,
            RunState::GuestPanicked | RunState::InternalError => Signal::SIGABRT,
            RunState::PostMigrate | RunState::FinishMigrate | RunState::SaveVm => Signal::SIGXCPU,
        };
        Some(self.signal(signal))
    }

    /// A signal to the CPU that gdb last heard of.
    pub(crate) fn signal(&self, signal: Signal) -> Stop {
        let cpus = self.cpus();
        let cpu = cpus.iter().find(|cpu| **cpu == self.current).or(cpus.first());
        match cpu.copied().and_then(tid) {
            Some(tid) => MultiThreadStopReason::SignalWithThread { tid, signal },
            None => MultiThreadStopReason::Signal(signal),
        }
    }

    /// Says so, once each time, if the guest has become protected. Then what was set is gone.
    pub(crate) fn watch_policy(&mut self) -> DebugPolicy {
        let policy = DebugPolicy::of(self.machine.as_ref());
        match policy.refusal() {
            Some(why) if !self.told => {
                self.told = true;
                let had_points = !self.breakpoints.is_empty() || !self.watchpoints.is_empty();
                self.breakpoints.clear();
                self.watchpoints.clear();
                self.stops.clear();
                let gone = if had_points { "; breakpoints and watchpoints are gone" } else { "" };
                self.notice(format!("{why}{gone}"));
            }
            Some(_) => {}
            None => self.told = false,
        }
        policy
    }

    fn notice(&mut self, text: String) {
        if self.notices.len() < 16 {
            self.notices.push_back(format!("{text}\n"));
        }
    }

    /// Refuses a command with a text, if the policy does.
    fn permit(&mut self) -> Result<(), TargetError<Infallible>> {
        match self.watch_policy() {
            DebugPolicy::Open => Ok(()),
            DebugPolicy::HostView { why } => {
                self.refusal = Some(why);
                Err(TargetError::Errno(EPERM))
            }
        }
    }

    fn refuse(&mut self, why: impl ToString) -> TargetError<Infallible> {
        self.refusal = Some(why.to_string());
        TargetError::Errno(EFAULT)
    }

    fn cpus(&self) -> Vec<u16> {
        self.machine.cpus().iter().map(|cpu| cpu.index).collect()
    }

    fn vm(&self) -> Result<&Vm, TargetError<Infallible>> {
        self.machine.vm().ok_or(TargetError::Errno(EFAULT))
    }

    /// The CPU behind a thread, if there is one.
    fn cpu(&self, tid: Tid) -> Result<u16, TargetError<Infallible>> {
        let cpu = u16::try_from(tid.get() - 1).ok().filter(|cpu| self.cpus().contains(cpu));
        cpu.ok_or(TargetError::Errno(EINVAL))
    }

    fn state(&mut self, tid: Tid) -> Result<(u16, CpuState), TargetError<Infallible>> {
        let cpu = self.cpu(tid)?;
        let state = self.vm()?.state(cpu);
        match state {
            Ok(state) => Ok((cpu, state)),
            Err(error) => Err(self.refuse(error)),
        }
    }

    fn set_state(&mut self, cpu: u16, state: CpuState) -> TargetResult<(), Self> {
        let done = self.vm()?.set_state(cpu, state);
        done.map_err(|error| self.refuse(error))
    }

    /// Absolute address and length of the first piece of a range; at most to the end of its page.
    fn piece(&mut self, cpu: u16, by_absolute: bool, address: u64, len: usize) -> Option<(u64, usize)> {
        let vm = self.machine.vm()?;
        let in_page = usize::try_from(PAGE - address % PAGE).unwrap_or(len).min(len);
        let absolute = match by_absolute {
            true => address,
            false => vm.translate(cpu, address).ok()??.absolute,
        };
        let room = vm.memory().size().checked_sub(absolute).filter(|room| *room > 0)?;
        Some((absolute, in_page.min(usize::try_from(room).unwrap_or(in_page))))
    }

    fn debug_stop(&mut self, cpu: u16, exit: DebugExit) -> Stop {
        self.current = cpu;
        let Some(tid) = tid(cpu) else { return MultiThreadStopReason::Signal(Signal::SIGTRAP) };
        match exit.reason {
            DebugReason::Step => MultiThreadStopReason::SignalWithThread { tid, signal: Signal::SIGTRAP },
            DebugReason::Breakpoint { address } => match self.breakpoints.get(&address) {
                Some(Breakpoint { software: false, hardware: true }) => MultiThreadStopReason::HwBreak(tid),
                _ => MultiThreadStopReason::SwBreak(tid),
            },
            DebugReason::Watchpoint { address, kind } => {
                let kind = match kind {
                    Kind::Write => WatchKind::Write,
                    Kind::Read => WatchKind::Read,
                    Kind::Access => WatchKind::ReadWrite,
                };
                MultiThreadStopReason::Watch { tid, kind, addr: address }
            }
        }
    }

    /// A stop of another CPU that is still worth reporting when the debugger goes on.
    fn waiting_stop(&mut self) -> Option<Stop> {
        let (breakpoints, watchpoints) = (&self.breakpoints, &self.watchpoints);
        self.stops.retain(|(_, exit)| match exit.reason {
            DebugReason::Step => false,
            DebugReason::Breakpoint { address } => breakpoints.contains_key(&address),
            DebugReason::Watchpoint { .. } => !watchpoints.is_empty(),
        });
        let goes_on = |cpu: u16| !self.locked || self.actions.contains_key(&cpu);
        let at = self.stops.iter().position(|(cpu, _)| goes_on(*cpu))?;
        let (cpu, exit) = self.stops.remove(at)?;
        Some(self.debug_stop(cpu, exit))
    }

    /// Lets the machine go on as the debugger asked.
    fn go(&mut self) -> Result<(), ControlError> {
        let policy = self.watch_policy();
        let steps = self.actions.values().any(|action| *action == Action::Step);
        if let Some(why) = policy.refusal().filter(|_| steps) {
            return Err(ControlError::new(why));
        }
        if self.machine.run_state().is_running() {
            self.machine.stop()?;
        }
        if policy == DebugPolicy::Open {
            self.arm()?;
        }
        if self.locked {
            let cpus: Vec<u16> = self.actions.keys().copied().collect();
            self.machine.cont_only(&cpus)
        } else {
            self.machine.cont()
        }
    }

    fn arm(&mut self) -> Result<(), ControlError> {
        let Some(vm) = self.machine.vm() else { return Ok(()) };
        let points = GuestDebug {
            single_step: false,
            breakpoints: self.breakpoints.keys().copied().collect(),
            watchpoints: self.watchpoints.clone(),
        };
        let steps = |cpu: &u16| self.actions.get(cpu) == Some(&Action::Step);
        let cpus = self.cpus();
        let on = !points.is_off() || cpus.iter().any(steps);
        if !on && !self.armed {
            return Ok(());
        }
        // Set before: should the platform take one CPU and refuse the next, `leave` still cleans up.
        self.armed = true;
        for cpu in &cpus {
            vm.set_guest_debug(*cpu, GuestDebug { single_step: steps(cpu), ..points.clone() })?;
        }
        self.armed = on;
        Ok(())
    }

    fn disarm(&self) {
        let Some(vm) = self.machine.vm() else { return };
        for cpu in self.cpus() {
            // Refused for a guest that is protected now: the platform has dropped what was set.
            if let Err(error) = vm.set_guest_debug(cpu, GuestDebug::default()) {
                tracing::debug!(cpu, %error, "breakpoints of a debugger that left");
            }
        }
    }

    /// Whether the guest's CPUs have vector registers.
    fn has_vectors(&self) -> bool {
        self.machine.vm().is_some_and(|vm| vm.has_facility(facility::VECTOR))
    }

    fn try_cont(&self) {
        if let Err(error) = self.machine.cont() {
            tracing::warn!(%error, "the machine does not go on after the debugger left");
        }
    }

    fn add_breakpoint(&mut self, address: u64, set: fn(&mut Breakpoint)) -> TargetResult<bool, Self> {
        self.permit()?;
        if self.breakpoints.len() >= POINTS && !self.breakpoints.contains_key(&address) {
            self.refusal = Some(format!("there are {POINTS} breakpoints already; delete some"));
            return Err(TargetError::Errno(ENOSPC));
        }
        set(self.breakpoints.entry(address).or_default());
        Ok(true)
    }

    /// Taking away what is not there is no error: a guest that became protected has lost them.
    fn remove_breakpoint(&mut self, address: u64, unset: fn(&mut Breakpoint)) -> TargetResult<bool, Self> {
        if let Some(breakpoint) = self.breakpoints.get_mut(&address) {
            unset(breakpoint);
            if !breakpoint.software && !breakpoint.hardware {
                self.breakpoints.remove(&address);
            }
        }
        Ok(true)
    }
}

/// The thread of a CPU. Thread numbers start at 1.
fn tid(cpu: u16) -> Option<Tid> {
    Tid::new(usize::from(cpu) + 1)
}

fn watchpoint(address: u64, len: u64, kind: WatchKind) -> Watchpoint {
    let kind = match kind {
        WatchKind::Write => Kind::Write,
        WatchKind::Read => Kind::Read,
        WatchKind::ReadWrite => Kind::Access,
    };
    Watchpoint { address, len, kind }
}

/// Writes through the host's view, which tells the platform about overwritten code.
fn poke(memory: &HostMemory, address: u64, bytes: &[u8]) -> Option<()> {
    let mut done = 0;
    let slices = memory.get_slices(GuestAddress(address), bytes.len(), Permissions::Write).ok()?;
    for slice in slices {
        let slice = slice.ok()?;
        let part = bytes.get(done..done + slice.len())?;
        slice.copy_from(part);
        done += slice.len();
    }
    (done == bytes.len()).then_some(())
}

impl Target for Guest {
    type Arch = S390x;
    type Error = Infallible;

    fn base_ops(&mut self) -> BaseOps<'_, S390x, Infallible> {
        BaseOps::MultiThread(self)
    }

    fn support_breakpoints(&mut self) -> Option<BreakpointsOps<'_, Self>> {
        Some(self)
    }

    fn support_monitor_cmd(&mut self) -> Option<MonitorCmdOps<'_, Self>> {
        Some(self)
    }

    fn support_target_description_xml_override(
        &mut self,
    ) -> Option<TargetDescriptionXmlOverrideOps<'_, Self>> {
        Some(self)
    }

    fn use_fork_stop_reason(&self) -> bool {
        false
    }

    fn use_vfork_stop_reason(&self) -> bool {
        false
    }

    fn use_vforkdone_stop_reason(&self) -> bool {
        false
    }

    fn support_host_info(&mut self) -> Option<HostInfoOps<'_, Self>> {
        Some(self)
    }
}

impl TargetDescriptionXmlOverride for Guest {
    fn target_description_xml(
        &self,
        annex: &[u8],
        offset: u64,
        length: usize,
        to: &mut [u8],
    ) -> TargetResult<usize, Self> {
        if annex != b"target.xml" {
            return Err(TargetError::NonFatal);
        }
        let description = arch::description(self.has_vectors());
        let rest = description.as_bytes().get(offset as usize..).unwrap_or_default();
        let part = &rest[..rest.len().min(length).min(to.len())];
        to[..part.len()].copy_from_slice(part);
        Ok(part.len())
    }
}

impl MultiThreadBase for Guest {
    fn read_registers(&mut self, registers: &mut Registers, tid: Tid) -> TargetResult<(), Self> {
        *registers = match self.watch_policy() {
            DebugPolicy::Open => Registers::of(&self.state(tid)?.1, self.has_vectors()),
            DebugPolicy::HostView { .. } => Registers::hidden(self.has_vectors()),
        };
        Ok(())
    }

    fn write_registers(&mut self, registers: &Registers, tid: Tid) -> TargetResult<(), Self> {
        self.permit()?;
        let (cpu, mut state) = self.state(tid)?;
        if !registers.apply(&mut state) {
            return Err(TargetError::Errno(EINVAL));
        }
        self.set_state(cpu, state)
    }

    fn support_single_register_access(&mut self) -> Option<SingleRegisterAccessOps<'_, Tid, Self>> {
        Some(self)
    }

    fn read_addrs(&mut self, start: u64, data: &mut [u8], tid: Tid) -> TargetResult<usize, Self> {
        let by_absolute = self.watch_policy() != DebugPolicy::Open || self.physical;
        let cpu = if by_absolute { 0 } else { self.cpu(tid)? };
        let mut done = 0;
        while let Some(address) = start.checked_add(done as u64).filter(|_| done < data.len()) {
            let piece = self.piece(cpu, by_absolute, address, data.len() - done);
            let Some((absolute, len)) = piece else { break };
            let Some(to) = data.get_mut(done..done + len) else { break };
            // Asks nobody: what a debugger looks at must not export pages.
            if self.vm()?.memory().peek(absolute, to).is_err() {
                break;
            }
            done += len;
        }
        if done == 0 { Err(TargetError::Errno(EFAULT)) } else { Ok(done) }
    }

    fn write_addrs(&mut self, start: u64, data: &[u8], tid: Tid) -> TargetResult<(), Self> {
        self.permit()?;
        let cpu = if self.physical { 0 } else { self.cpu(tid)? };
        // All of it or nothing.
        let mut pieces = Vec::new();
        let mut done = 0;
        while done < data.len() {
            let address = start.checked_add(done as u64).ok_or(TargetError::Errno(EFAULT))?;
            let piece = self.piece(cpu, self.physical, address, data.len() - done);
            let (absolute, len) = piece.ok_or(TargetError::Errno(EFAULT))?;
            pieces.push((absolute, done..done + len));
            done += len;
        }
        let memory = self.vm()?.memory();
        for (absolute, range) in pieces {
            let bytes = data.get(range).ok_or(TargetError::Errno(EFAULT))?;
            poke(memory, absolute, bytes).ok_or(TargetError::Errno(EFAULT))?;
        }
        Ok(())
    }

    fn list_active_threads(&mut self, thread_is_active: &mut dyn FnMut(Tid)) -> Result<(), Infallible> {
        self.cpus().into_iter().filter_map(tid).for_each(thread_is_active);
        Ok(())
    }

    fn support_resume(&mut self) -> Option<MultiThreadResumeOps<'_, Self>> {
        Some(self)
    }

    fn support_thread_extra_info(&mut self) -> Option<ThreadExtraInfoOps<'_, Self>> {
        Some(self)
    }
}

impl SingleRegisterAccess<Tid> for Guest {
    fn read_register(&mut self, tid: Tid, register: Register, to: &mut [u8]) -> TargetResult<usize, Self> {
        if register.is_vector() && !self.has_vectors() {
            return Err(TargetError::Errno(EINVAL));
        }
        if self.watch_policy() != DebugPolicy::Open {
            let Some(byte) = register.if_hidden() else { return Ok(0) };
            to.get_mut(..register.size()).ok_or(TargetError::NonFatal)?.fill(byte);
            return Ok(register.size());
        }
        let bytes = register.encode(register.get(&self.state(tid)?.1));
        to.get_mut(..bytes.len()).ok_or(TargetError::NonFatal)?.copy_from_slice(&bytes);
        Ok(bytes.len())
    }

    fn write_register(&mut self, tid: Tid, register: Register, value: &[u8]) -> TargetResult<(), Self> {
        self.permit()?;
        if register.is_vector() && !self.has_vectors() {
            return Err(TargetError::Errno(EINVAL));
        }
        let (cpu, mut state) = self.state(tid)?;
        let value = register.decode(value).ok_or(TargetError::Errno(EINVAL))?;
        if !register.set(&mut state, value) {
            self.refusal = Some(format!("{register:?} cannot have the value {value:#x}"));
            return Err(TargetError::Errno(EINVAL));
        }
        self.set_state(cpu, state)
    }
}

impl MultiThreadResume for Guest {
    fn resume(&mut self) -> Result<(), Infallible> {
        if self.rehearsal {
            return Ok(());
        }
        self.at_once = self.waiting_stop();
        if self.at_once.is_none()
            && let Err(error) = self.go()
        {
            self.notice(error.to_string());
            self.at_once = Some(self.signal(Signal::SIGTRAP));
        }
        Ok(())
    }

    fn clear_resume_actions(&mut self) -> Result<(), Infallible> {
        self.actions.clear();
        self.locked = false;
        Ok(())
    }

    fn set_resume_action_continue(&mut self, tid: Tid, _signal: Option<Signal>) -> Result<(), Infallible> {
        if let Ok(cpu) = self.cpu(tid) {
            // The first action for a thread counts (GDB manual, "vCont").
            self.actions.entry(cpu).or_insert(Action::Continue);
        }
        Ok(())
    }

    fn support_single_step(&mut self) -> Option<MultiThreadSingleStepOps<'_, Self>> {
        Some(self)
    }

    fn support_scheduler_locking(&mut self) -> Option<MultiThreadSchedulerLockingOps<'_, Self>> {
        Some(self)
    }
}

impl MultiThreadSingleStep for Guest {
    fn set_resume_action_step(&mut self, tid: Tid, _signal: Option<Signal>) -> Result<(), Infallible> {
        if let Ok(cpu) = self.cpu(tid) {
            self.current = cpu;
            self.actions.entry(cpu).or_insert(Action::Step);
        }
        Ok(())
    }
}

impl MultiThreadSchedulerLocking for Guest {
    fn set_resume_action_scheduler_lock(&mut self) -> Result<(), Infallible> {
        self.locked = true;
        Ok(())
    }
}

impl Breakpoints for Guest {
    fn support_sw_breakpoint(&mut self) -> Option<SwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_breakpoint(&mut self) -> Option<HwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_watchpoint(&mut self) -> Option<HwWatchpointOps<'_, Self>> {
        Some(self)
    }
}

impl SwBreakpoint for Guest {
    fn add_sw_breakpoint(&mut self, address: u64, _kind: usize) -> TargetResult<bool, Self> {
        self.add_breakpoint(address, |breakpoint| breakpoint.software = true)
    }

    fn remove_sw_breakpoint(&mut self, address: u64, _kind: usize) -> TargetResult<bool, Self> {
        self.remove_breakpoint(address, |breakpoint| breakpoint.software = false)
    }
}

impl HwBreakpoint for Guest {
    fn add_hw_breakpoint(&mut self, address: u64, _kind: usize) -> TargetResult<bool, Self> {
        self.add_breakpoint(address, |breakpoint| breakpoint.hardware = true)
    }

    fn remove_hw_breakpoint(&mut self, address: u64, _kind: usize) -> TargetResult<bool, Self> {
        self.remove_breakpoint(address, |breakpoint| breakpoint.hardware = false)
    }
}

impl HwWatchpoint for Guest {
    fn add_hw_watchpoint(&mut self, address: u64, len: u64, kind: WatchKind) -> TargetResult<bool, Self> {
        self.permit()?;
        let watchpoint = watchpoint(address, len, kind);
        if self.watchpoints.len() >= POINTS {
            self.refusal = Some(format!("there are {POINTS} watchpoints already; delete some"));
            return Err(TargetError::Errno(ENOSPC));
        }
        if !self.watchpoints.contains(&watchpoint) {
            self.watchpoints.push(watchpoint);
        }
        Ok(true)
    }

    fn remove_hw_watchpoint(&mut self, address: u64, len: u64, kind: WatchKind) -> TargetResult<bool, Self> {
        let watchpoint = watchpoint(address, len, kind);
        self.watchpoints.retain(|other| *other != watchpoint);
        Ok(true)
    }
}

impl MonitorCmd for Guest {
    fn handle_monitor_cmd(&mut self, line: &[u8], mut out: ConsoleOutput<'_>) -> Result<(), Infallible> {
        self.watch_policy();
        for notice in self.notices.drain(..) {
            out.write_raw(notice.as_bytes());
            out.flush();
        }
        let answer = (self.monitor)(&String::from_utf8_lossy(line));
        for part in answer.as_bytes().chunks(CONSOLE_PART).take(CONSOLE / CONSOLE_PART) {
            out.write_raw(part);
            out.flush();
        }
        Ok(())
    }
}

impl HostInfo for Guest {
    fn host_info(&self, write_item: &mut dyn FnMut(&HostInfoResponse<'_>)) -> Result<(), Infallible> {
        write_item(&HostInfoResponse::Triple("s390x-ibm-linux-gnu"));
        write_item(&HostInfoResponse::Endianness(Endianness::Big));
        write_item(&HostInfoResponse::PointerSize(8));
        Ok(())
    }
}

impl ThreadExtraInfo for Guest {
    fn thread_extra_info(&self, tid: Tid, to: &mut [u8]) -> Result<usize, Infallible> {
        let cpus = self.machine.cpus();
        let cpu = cpus.iter().find(|cpu| usize::from(cpu.index) + 1 == tid.get());
        let text = cpu.map_or(String::new(), |cpu| {
            let open = DebugPolicy::of(self.machine.as_ref()) == DebugPolicy::Open;
            let doing = match cpu.halted.filter(|_| open) {
                Some(true) => "halted ",
                Some(false) => "running",
                None => "runs protected, registers are not visible",
            };
            format!("CPU#{} [{doing}]", cpu.index)
        });
        let len = text.len().min(to.len());
        to[..len].copy_from_slice(&text.as_bytes()[..len]);
        Ok(len)
    }
}
