//! Instructions that the core leaves to the machine: service calls, I/O, DIAGNOSE.

use super::S390Ccw;
use crate::run::Next;
use cloister_devices::Outcome;
use cloister_platform::arch::s390x::{Completion, Instruction, InstructionExit, program};

/// DIAGNOSE codes (QEMU and KVM, "s390 DIAGNOSE").
const DIAG_IPL: u16 = 0x308;
const DIAG_VIRTIO: u16 = 0x500;
/// Function of DIAG 500 that notifies a virtio-ccw queue.
const VIRTIO_CCW_NOTIFY: u64 = 3;
/// `-EOPNOTSUPP`
const NOT_SUPPORTED: i64 = -95;

impl S390Ccw {
    pub(super) fn instruction(&self, cpu: u16, exit: InstructionExit) -> Next {
        let InstructionExit { instruction, mut buffer, .. } = exit;
        let memory = self.vm.memory();
        let completion = match instruction {
            Instruction::Servc { command, sccb } => {
                let answer = self.sclp().service_call(command, sccb.into(), &mut buffer);
                with_buffer(answer.outcome, buffer)
            }
            Instruction::Ssch(id) => plain(self.css().ssch(memory, id.into(), &buffer)),
            Instruction::Msch(id) => plain(self.css().msch(id.into(), &buffer)),
            Instruction::Stsch(id) => {
                let (outcome, schib) = self.css().stsch(id.into());
                with_optional(outcome, schib.map(Vec::from))
            }
            Instruction::Tsch { subsystem_id, .. } => {
                let (outcome, irb) = self.css().tsch(subsystem_id.into());
                with_optional(outcome, irb.map(Vec::from))
            }
            Instruction::Csch(id) => plain(self.css().csch(id.into())),
            Instruction::Hsch(id) => plain(self.css().hsch(id.into())),
            Instruction::Xsch(id) => plain(self.css().xsch(id.into())),
            Instruction::Rsch(id) => plain(self.css().rsch(memory, id.into())),
            Instruction::Chsc => {
                let outcome = self.css().chsc(&mut buffer);
                with_buffer(outcome, buffer)
            }
            Instruction::Stcrw => {
                let (outcome, word) = self.css().stcrw();
                with_buffer(outcome, word.to_vec())
            }
            Instruction::Schm(gr1, gr2) => plain(self.css().schm(gr1, gr2)),
            Instruction::Rchp(gr1) => plain(self.css().rchp(gr1.into())),
            Instruction::Sal(gr1) => plain(self.css().sal(gr1)),
            Instruction::Diag { code: DIAG_VIRTIO, args, .. } => {
                let [function, id, queue, cookie] = args;
                let result = if function == VIRTIO_CCW_NOTIFY {
                    self.css().notify(memory, id, queue, cookie).unwrap_or_else(|errno| errno)
                } else {
                    NOT_SUPPORTED
                };
                Completion::result(result as u64)
            }
            Instruction::Diag { code: DIAG_IPL, .. } => return self.diag_308(cpu, &exit_of(instruction, buffer)),
            Instruction::Diag { .. } => Completion::program(program::SPECIFICATION),
            // No adjunct processors, no topology, no PCI.
            Instruction::Pqap(..) => Completion::cc(3),
            Instruction::Ptf(_) | Instruction::Clp => Completion::program(program::OPERATION),
        };
        Next::Complete(completion)
    }
}

fn exit_of(instruction: Instruction, buffer: Vec<u8>) -> InstructionExit {
    InstructionExit { instruction, buffer, protected: false }
}

fn plain(outcome: Outcome) -> Completion {
    match outcome {
        Outcome::Cc(cc) => Completion::cc(cc),
        Outcome::Done => Completion::default(),
        Outcome::Program(code) => Completion::program(code),
    }
}

fn with_buffer(outcome: Outcome, buffer: Vec<u8>) -> Completion {
    with_optional(outcome, Some(buffer))
}

fn with_optional(outcome: Outcome, buffer: Option<Vec<u8>>) -> Completion {
    let mut completion = plain(outcome);
    if completion.program.is_none() {
        completion.buffer = buffer;
    }
    completion
}
