//! DIAGNOSE X'308': IPL parameter blocks, resets, re-IPL, entering and leaving protected mode.
//!
//! Whatever resets more than the calling CPU waits until all CPUs are out of the core; the order of the
//! steps is that of QEMU's machine and KVM's interface.

use super::S390Ccw;
use crate::MachineError;
use crate::run::{End, Next};
use cloister_cgs::s390_pv::failure_text;
use cloister_cgs::{PlatformStep, ResetKind as GuestReset, Transition};
use cloister_control::{Cause, Event};
use cloister_formats::s390x::ipl_block::{IplBlock, IplKind, PvBlock, result};
use cloister_platform::arch::s390x::{
    Completion, CpuState, Instruction, InstructionExit, Psw, ResetKind, RunState, program,
};
use cloister_platform::{PvCommand, PvResult, Vm};
use std::sync::atomic::Ordering;
use vm_memory::{Bytes, GuestAddress};

/// Subcodes of DIAG 308.
mod subcode {
    pub(super) const CLEAR_RESET: u64 = 0;
    pub(super) const NORMAL_RESET: u64 = 1;
    pub(super) const LOAD_CLEAR: u64 = 3;
    pub(super) const LOAD_NORMAL_DUMP: u64 = 4;
    pub(super) const SET_BLOCK: u64 = 5;
    pub(super) const STORE_BLOCK: u64 = 6;
    pub(super) const LOAD_NORMAL: u64 = 7;
    pub(super) const SET_PV_BLOCK: u64 = 8;
    pub(super) const STORE_PV_BLOCK: u64 = 9;
    pub(super) const ENTER_PROTECTED: u64 = 10;
}

/// Bytes in a page.
const PAGE: u64 = 4096;

/// IPL state of the machine.
#[derive(Default)]
pub(super) struct Ipl {
    /// Block of subcode 5, as set.
    block: Option<Vec<u8>>,
    /// Block of the device that the machine booted from on its own.
    own: Option<Vec<u8>>,
    /// Block of subcode 8, as set, and parsed.
    protected: Option<(Vec<u8>, PvBlock)>,
    /// What waits for the machine to be at rest.
    pending: Option<Function>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Function {
    /// Subcode 0 or 1.
    Reset(GuestReset),
    /// Subcodes 3, 4, 7.
    Load,
    /// Subcode 10; a refusal is answered in this register, the one after R1.
    Enter { answer: usize },
}

impl S390Ccw {
    /// DIAG 308. The checks come in the order of QEMU's machine.
    pub(super) fn diag_308(&self, exit: &InstructionExit) -> Next {
        let Instruction::Diag { r1, v1, v3: code, block_accessible, .. } = exit.instruction else {
            return Next::Complete(Completion::program(program::SPECIFICATION));
        };
        let refuse = |program| Next::Complete(Completion::program(program));
        let protected = self.is_protected();
        if code > 0xffff || code >= subcode::SET_PV_BLOCK && !self.facts.unpack {
            return refuse(program::SPECIFICATION);
        }
        if protected
            && matches!(code, subcode::LOAD_NORMAL_DUMP | subcode::LOAD_NORMAL..=subcode::ENTER_PROTECTED)
        {
            return refuse(program::SPECIFICATION);
        }
        let with_block = matches!(
            code,
            subcode::SET_BLOCK | subcode::STORE_BLOCK | subcode::SET_PV_BLOCK | subcode::STORE_PV_BLOCK
        );
        // For a protected guest the Ultravisor made these checks.
        if with_block && !protected {
            if r1 & 1 != 0 || v1 % PAGE != 0 {
                return refuse(program::SPECIFICATION);
            }
            if !block_accessible {
                return refuse(program::ADDRESSING);
            }
        }
        let function = match code {
            subcode::SET_BLOCK => return answer(self.ipl().set(&exit.buffer)),
            subcode::STORE_BLOCK => {
                let ipl = self.ipl();
                return store(ipl.block.as_ref().or(ipl.own.as_ref()).cloned());
            }
            subcode::SET_PV_BLOCK => return answer(self.ipl().set_protected(&exit.buffer)),
            subcode::STORE_PV_BLOCK => {
                return store(self.ipl().protected.as_ref().map(|(bytes, _)| bytes.clone()));
            }
            subcode::CLEAR_RESET => Function::Reset(GuestReset::Clear),
            subcode::NORMAL_RESET => Function::Reset(GuestReset::Normal),
            subcode::LOAD_CLEAR | subcode::LOAD_NORMAL_DUMP | subcode::LOAD_NORMAL => Function::Load,
            subcode::ENTER_PROTECTED => {
                if self.ipl().protected.is_none() {
                    return answer(result::NO_PV_BLOCK);
                }
                Function::Enter { answer: usize::from(r1 + 1) & 15 }
            }
            _ => return refuse(program::SPECIFICATION),
        };
        if self.no_reboot && function == Function::Load {
            return Next::End(End::NoReboot);
        }
        self.ipl().pending = Some(function);
        Next::Rest
    }

    /// Carries out what [`diag_308`](Self::diag_308) asked for; no CPU runs. True: all CPUs were reset.
    pub(super) fn ipl_function(&self, cpu: u16) -> Result<(Next, bool), MachineError> {
        let Some(function) = self.ipl().pending.take() else { return Ok((Next::Continue, false)) };
        match function {
            Function::Reset(kind) => self.reset(cpu, kind)?,
            Function::Load => {
                self.load_again()?;
                self.events.emit(Event::Reset(Cause::GuestReset));
            }
            Function::Enter { answer } => return self.enter(cpu, answer),
        }
        Ok((Next::Continue, true))
    }

    /// Subcodes 0 and 1.
    fn reset(&self, caller: u16, kind: GuestReset) -> Result<(), MachineError> {
        self.subsystem_reset()?;
        let protected = self.is_protected();
        if protected {
            for cpu in 0..self.vm.cpus() {
                self.must(PvCommand::CpuSetState { cpu, state: RunState::Stopped })?;
            }
            self.steps(kind)?;
        }
        for cpu in 0..self.vm.cpus() {
            let reset = match kind {
                GuestReset::Clear | GuestReset::External => ResetKind::Clear,
                GuestReset::Normal if cpu == caller => ResetKind::Initial,
                GuestReset::Normal => ResetKind::Normal,
            };
            if protected {
                self.must(PvCommand::CpuReset { cpu, kind: reset })?;
            } else {
                self.vm.reset(cpu, reset)?;
            }
        }
        if protected {
            // The Ultravisor loads the PSW of the image's header.
            self.must(PvCommand::CpuSetState { cpu: caller, state: RunState::Load })
        } else {
            self.load_psw(caller)
        }
    }

    /// Subcodes 3, 4 and 7: as if the machine were switched on again.
    pub(super) fn load_again(&self) -> Result<(), MachineError> {
        self.subsystem_reset()?;
        if self.is_protected() {
            self.steps(GuestReset::External)?;
            self.left();
        }
        for cpu in 0..self.vm.cpus() {
            self.vm.reset(cpu, ResetKind::Clear)?;
        }
        let clear = |source| MachineError::Host { what: "clear guest memory", source };
        self.vm.memory().clear().map_err(clear)?;
        self.boot()
    }

    /// An operator's reset: what the guest chose to boot from next is forgotten.
    pub(super) fn reset_from_outside(&self) -> Result<(), MachineError> {
        self.ipl().block = None;
        self.load_again()
    }

    /// Subcode 10. A refusal is the guest's answer, with the failed command packed in.
    fn enter(&self, caller: u16, register: usize) -> Result<(Next, bool), MachineError> {
        let entering = match &mut *self.guest_support() {
            Some(cgs) => cgs.on_transition(Transition::Enter, &self.facts),
            None => return Ok((answer(result::INVALID_FOR_PV), false)),
        };
        match entering {
            Ok(effects) => self.warn(&effects.warnings),
            Err(why) => {
                self.say(&why.to_string());
                return Ok((answer(result::INVALID_FOR_PV), false));
            }
        }
        self.subsystem_reset()?;
        for cpu in 0..self.vm.cpus() {
            let kind = if cpu == caller { ResetKind::Normal } else { ResetKind::Clear };
            self.vm.reset(cpu, kind)?;
        }
        match self.unpack(caller) {
            Ok(()) => {
                self.protected.store(true, Ordering::Release);
                if let Some(cgs) = &mut *self.guest_support() {
                    let secure = Some(true);
                    let effects = cgs.on_transition(Transition::Entered { secure }, &self.facts)?;
                    self.warn(&effects.warnings);
                }
                Ok((Next::Continue, true))
            }
            Err(Refusal::Platform(why)) => Err(why),
            Err(Refusal::Command { command, result: refused, enabled }) => {
                self.tell(&command, &refused);
                if enabled {
                    self.must(PvCommand::Disable)?;
                }
                self.left();
                // The CPU reset before left registers and PSW, which is behind the DIAG, but ended the exit.
                let mut state = self.vm.state(caller)?;
                state.gprs[register] = result::enter_refused(command.number(), refused.rc, refused.rrc);
                self.vm.set_state(caller, state)?;
                self.vm.set_run_state(caller, RunState::Operating)?;
                Ok((Next::Continue, true))
            }
        }
    }

    fn unpack(&self, caller: u16) -> Result<(), Refusal> {
        let Some(block) = self.ipl().protected.as_ref().map(|(_, block)| block.clone()) else {
            return Err(Refusal::Platform(MachineError::NoProtectedBlock));
        };
        self.command(PvCommand::Enable, false)?;
        let mut header =
            vec![0; usize::try_from(block.header_size).unwrap_or(usize::MAX).min(2 * PAGE as usize)];
        // A header beyond memory is the guest's mistake: the Ultravisor refuses zeros in words.
        if self.vm.memory().read_slice(&mut header, GuestAddress(block.header_addr)).is_err() {
            header.fill(0);
        }
        self.command(PvCommand::SetSecParms { header }, true)?;
        for component in &block.components {
            let size = component.size.next_multiple_of(PAGE);
            self.command(
                PvCommand::Unpack { address: component.addr, size, tweak: component.tweak_pref.0 },
                true,
            )?;
        }
        self.command(PvCommand::Verify, true)?;
        self.command(PvCommand::CpuSetState { cpu: caller, state: RunState::Load }, true)
    }

    fn command(&self, command: PvCommand, enabled: bool) -> Result<(), Refusal> {
        let result = self.vm.pv(command.clone()).map_err(MachineError::from)?;
        tracing::trace!(
            target: "s390_pv_command",
            command = command.name(),
            rc = format_args!("{:#x}", result.rc),
            rrc = format_args!("{:#x}", result.rrc)
        );
        if result.ok { Ok(()) } else { Err(Refusal::Command { command, result, enabled }) }
    }

    /// A command whose failure leaves pages in a state that nobody knows: the run ends.
    fn must(&self, command: PvCommand) -> Result<(), MachineError> {
        match self.command(command, true) {
            Ok(()) => Ok(()),
            Err(Refusal::Platform(why)) => Err(why),
            Err(Refusal::Command { command, result, .. }) => {
                self.tell(&command, &result);
                Err(MachineError::Vm(cloister_platform::VmError::Refused(format!(
                    "{} failed, and the guest cannot go on without it",
                    command.name()
                ))))
            }
        }
    }

    fn tell(&self, command: &PvCommand, refused: &PvResult) {
        self.say(&failure_text(command, refused.rc, refused.rrc, EIO));
        if !refused.reason.is_empty() {
            self.say(&refused.reason);
        }
    }

    fn warn(&self, warnings: &[String]) {
        for warning in warnings {
            self.say(&format!("warning: {warning}"));
        }
    }

    /// What the mechanism wants asked of the platform during a reset.
    fn steps(&self, kind: GuestReset) -> Result<(), MachineError> {
        let steps = self.guest_support().as_mut().map_or(&[][..], |cgs| cgs.on_reset(kind));
        for step in steps {
            self.must(match step {
                PlatformStep::UnshareAll => PvCommand::UnshareAll,
                PlatformStep::PrepareReset => PvCommand::PrepareReset,
                PlatformStep::Disable => PvCommand::Disable,
            })?;
        }
        Ok(())
    }

    fn left(&self) {
        self.protected.store(false, Ordering::Release);
        if let Some(cgs) = &mut *self.guest_support() {
            // Leaving cannot be refused.
            let _ = cgs.on_transition(Transition::Leave, &self.facts);
        }
    }

    fn subsystem_reset(&self) -> Result<(), MachineError> {
        self.css().reset();
        self.sclp().reset();
        self.vm.clear_floating()?;
        Ok(())
    }

    /// Loads the short PSW at absolute 0 (SA22-7832, chapter 17, "Initial Program Loading").
    fn load_psw(&self, cpu: u16) -> Result<(), MachineError> {
        let mut bytes = [0; 8];
        self.vm
            .memory()
            .read_slice(&mut bytes, GuestAddress(0))
            .map_err(|source| MachineError::Memory { address: 0, source })?;
        let short = u64::from_be_bytes(bytes);
        let mut state = self.vm.state(cpu)?;
        state.psw = Psw { mask: short & 0xffff_ffff_8000_0000 & !Psw::SHORT, addr: short & 0x7fff_ffff };
        state.run_state = RunState::Operating;
        self.vm.set_state(cpu, state)?;
        Ok(self.vm.set_run_state(cpu, RunState::Operating)?)
    }

    pub(super) fn guest_support(
        &self,
    ) -> std::sync::MutexGuard<'_, Option<Box<dyn cloister_cgs::ConfidentialGuest>>> {
        self.cgs.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// `errno` that KVM answers for a refused Ultravisor call.
const EIO: i32 = -5;

enum Refusal {
    Command { command: PvCommand, result: PvResult, enabled: bool },
    Platform(MachineError),
}

impl From<MachineError> for Refusal {
    fn from(why: MachineError) -> Self {
        Self::Platform(why)
    }
}

impl Ipl {
    /// The block that the guest set.
    pub(super) fn block(&self) -> Option<&[u8]> {
        self.block.as_deref()
    }

    /// The machine boots from this device unless the guest chose one.
    pub(super) fn begin(&mut self, own: Option<Vec<u8>>) {
        self.own = own;
    }

    fn set(&mut self, bytes: &[u8]) -> u64 {
        match IplBlock::parse(bytes) {
            Ok(block) if !matches!(block.kind, IplKind::Pv(_)) => {
                self.block = Some(cut(bytes));
                result::OK
            }
            Ok(_) | Err(_) => result::INVALID_BLOCK,
        }
    }

    fn set_protected(&mut self, bytes: &[u8]) -> u64 {
        match IplBlock::parse(bytes) {
            Ok(IplBlock { kind: IplKind::Pv(block), .. }) => {
                self.protected = Some((cut(bytes), block));
                result::OK
            }
            Ok(_) | Err(_) => result::INVALID_BLOCK,
        }
    }
}

/// The block without what follows it in its page.
fn cut(bytes: &[u8]) -> Vec<u8> {
    let total = bytes.get(..4).map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize);
    bytes[..total.min(bytes.len())].to_vec()
}

/// CPU `cpu` begins in 64-bit mode at `entry`, everything else is as after a reset.
pub(super) fn start(vm: &Vm, cpu: u16, entry: u64) -> Result<(), MachineError> {
    let mut state: CpuState = vm.state(cpu)?;
    state.psw = Psw { mask: Psw::EA | Psw::BA, addr: entry };
    state.run_state = RunState::Operating;
    vm.set_state(cpu, state)?;
    Ok(vm.set_run_state(cpu, RunState::Operating)?)
}

/// The load parameter in EBCDIC, padded with blanks. The characters were checked by the command line.
pub(super) fn loadparm(text: &str) -> [u8; 8] {
    let mut out = [0x40; 8];
    let ebcdic = cloister_devices::sclp::ebcdic::from_text(&text.to_ascii_uppercase());
    for (to, from) in out.iter_mut().zip(ebcdic) {
        *to = from;
    }
    out
}

fn answer(result: u64) -> Next {
    Next::Complete(Completion::result(result))
}

fn store(block: Option<Vec<u8>>) -> Next {
    Next::Complete(match block {
        Some(bytes) => Completion { buffer: Some(bytes), result: Some(result::OK), ..Completion::default() },
        None => Completion::result(result::NO_BLOCK),
    })
}
