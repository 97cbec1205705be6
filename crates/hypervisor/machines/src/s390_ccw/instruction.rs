//! Instructions that the core leaves to the machine: devices answer theirs, the rest is here.

use super::S390Ccw;
use crate::run::Next;
use cloister_devices::dispatch;
use cloister_devices::watchdog::DIAGNOSE;
use cloister_platform::arch::s390x::{Completion, Instruction, InstructionExit, program};
use std::sync::atomic::Ordering;

/// DIAGNOSE code of the IPL functions.
const DIAG_IPL: u16 = 0x308;

impl S390Ccw {
    pub(super) fn instruction(&self, exit: &InstructionExit) -> Next {
        if let Instruction::Diag { code: DIAG_IPL, .. } = exit.instruction {
            return self.diag_308(exit);
        }
        if let Instruction::Diag { code: DIAGNOSE, r1, v1, v1_next, v3, .. } = exit.instruction {
            return self.diag_288(r1, v1, v1_next, v3);
        }
        let completion = dispatch::complete(&mut self.sclp(), &mut self.css(), self.vm.memory(), exit);
        if let (Instruction::Servc { .. }, Some(room)) = (exit.instruction, &self.console_room)
            && self.console_stalled.swap(false, Ordering::AcqRel)
        {
            room();
        }
        Next::Complete(completion.unwrap_or_else(|| match exit.instruction {
            // An unknown DIAGNOSE is a specification exception; adjunct processors, topology and PCI are not
            // installed.
            Instruction::Diag { .. } => Completion::program(program::SPECIFICATION),
            _ => Completion::program(program::OPERATION),
        }))
    }
}
