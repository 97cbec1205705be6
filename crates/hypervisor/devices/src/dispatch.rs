//! Instruction exits of s390x CPUs to the device models: which model completes which instruction, and how its answer
//! becomes a completion.
//!
//! Instructions that are no device's (DIAGNOSE 0x308, topology, adjunct processors) are not here; the machine sees
//! them first or gets `None` back.

use cloister_arch::s390x::{Completion, FloatingInterrupt, Instruction, InstructionExit, IoInterrupt};
use vm_memory::GuestMemory;

use crate::css::ChannelSubsystem;
use crate::interrupt::{HostInterrupt, Outcome};
use crate::sclp::Sclp;

/// The doorbell of virtio-ccw among the functions of DIAGNOSE 0x500.
const VIRTIO_CCW_NOTIFY: u64 = 3;

impl From<HostInterrupt> for FloatingInterrupt {
    fn from(interrupt: HostInterrupt) -> Self {
        match interrupt {
            HostInterrupt::Io { subchannel_id, nr, parameter, word } => Self::Io(IoInterrupt {
                subsystem_id: u32::from(subchannel_id) << 16 | u32::from(nr),
                parameter,
                word,
            }),
            HostInterrupt::Adapter { isc } => Self::Adapter { isc },
            HostInterrupt::ServiceSignal(parameter) => Self::ServiceSignal(parameter),
            HostInterrupt::ChannelReport => Self::ChannelReport,
        }
    }
}

impl From<Outcome> for Completion {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Cc(cc) => Self::cc(cc),
            Outcome::Done => Self::default(),
            Outcome::Program(code) => Self::program(code),
        }
    }
}

/// Completes an instruction that belongs to a device; `None` if it belongs to none of them.
pub fn complete<M: GuestMemory>(
    sclp: &mut Sclp,
    css: &mut ChannelSubsystem<M>,
    mem: &M,
    exit: &InstructionExit,
) -> Option<Completion> {
    let block = &exit.buffer[..];
    Some(match exit.instruction {
        Instruction::Servc { command, sccb } => {
            // The Ultravisor has checked the address of a protected guest, which is no absolute one.
            let checked = if exit.protected { Ok(()) } else { sclp.check_address(sccb.into(), None) };
            match checked {
                Ok(()) => {
                    let mut bytes = block.to_vec();
                    let done = sclp.service_call(command, sccb.into(), &mut bytes);
                    // What lies beyond the fetched block was only checked, never answered.
                    bytes.truncate(block.len());
                    with_block(done.outcome, Some(&bytes))
                }
                Err(exception) => exception.into(),
            }
        }
        Instruction::Ssch(gr1) => css.ssch(mem, gr1.into(), block).into(),
        Instruction::Rsch(gr1) => css.rsch(mem, gr1.into()).into(),
        Instruction::Msch(gr1) => css.msch(gr1.into(), block).into(),
        Instruction::Csch(gr1) => css.csch(gr1.into()).into(),
        Instruction::Hsch(gr1) => css.hsch(gr1.into()).into(),
        Instruction::Xsch(gr1) => css.xsch(gr1.into()).into(),
        Instruction::Stsch(gr1) => {
            let (outcome, schib) = css.stsch(gr1.into());
            with_block(outcome, schib.as_ref().map(|b| &b[..]))
        }
        Instruction::Tsch { subsystem_id, .. } => {
            // Whatever was dequeued with the exit is the interruption of the status that is cleared here.
            let (outcome, irb) = css.tsch(subsystem_id.into());
            with_block(outcome, irb.as_ref().map(|b| &b[..]))
        }
        Instruction::Chsc => {
            let mut bytes = block.to_vec();
            let outcome = css.chsc(&mut bytes);
            with_block(outcome, Some(&bytes))
        }
        Instruction::Stcrw => {
            let (outcome, report) = css.stcrw();
            with_block(outcome, Some(&report))
        }
        Instruction::Schm(gr1, gr2) => css.schm(gr1, gr2).into(),
        Instruction::Rchp(gr1) => css.rchp(gr1.into()).into(),
        Instruction::Sal(gr1) => css.sal(gr1).into(),
        Instruction::Diag { code: 0x500, args: [VIRTIO_CCW_NOTIFY, subchannel, queue, cookie], .. } => {
            let answer = css.notify(mem, subchannel, queue, cookie).unwrap_or_else(|error| error);
            Completion::result(answer.cast_unsigned())
        }
        Instruction::Diag { code: 0x500, .. } => Outcome::SPECIFICATION.into(),
        Instruction::Diag { .. } | Instruction::Ptf(_) | Instruction::Pqap(..) | Instruction::Clp => {
            return None;
        }
    })
}

/// A completion that stores a block, unless a program interruption takes its place.
fn with_block(outcome: Outcome, block: Option<&[u8]>) -> Completion {
    let mut completion = Completion::from(outcome);
    if completion.program.is_none() {
        completion.buffer = block.map(<[u8]>::to_vec);
    }
    completion
}
