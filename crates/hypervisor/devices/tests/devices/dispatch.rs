//! Instruction exits reach their models, and answers become completions.

use std::sync::Arc;

use cloister_arch::s390x::{Completion, FloatingInterrupt, Instruction, InstructionExit, IoInterrupt};
use cloister_devices::dispatch::complete;
use cloister_devices::entropy::SeededEntropy;
use cloister_devices::sclp::{Sclp, SclpConfig};
use cloister_devices::virtio::{Rng, VirtioCcw, VirtioCcwOptions};
use cloister_devices::{HostInterrupt, InterruptSink};

use crate::common::{CCW, DATA, Guest, OK, ccw1};

const SCH: u32 = 0x0001_0000;

struct Rig {
    guest: Guest,
    sclp: Sclp,
    protected: bool,
}

impl Rig {
    fn new() -> Self {
        let mut guest = Guest::new();
        let rng = Box::new(Rng::new(Box::new(SeededEntropy::new(1))));
        guest.css.attach(None, Box::new(VirtioCcw::new(rng, VirtioCcwOptions::default()))).unwrap();
        let sink = Arc::clone(&guest.irqs) as Arc<dyn InterruptSink>;
        let sclp = Sclp::new(SclpConfig::new(1 << 20, 1), None, None, sink);
        Self { guest, sclp, protected: false }
    }

    fn run(&mut self, instruction: Instruction, buffer: &[u8]) -> Option<Completion> {
        let exit = InstructionExit { instruction, buffer: buffer.to_vec(), protected: self.protected };
        complete(&mut self.sclp, &mut self.guest.css, &self.guest.mem, &exit)
    }
}

fn diag(code: u16, args: [u64; 4]) -> Instruction {
    Instruction::Diag { code, r1: 2, v1: 0, v1_next: 0, v3: 0, args, block_accessible: true }
}

#[test]
fn a_guest_starts_a_program() {
    let mut rig = Rig::new();
    let mut schib = rig.run(Instruction::Stsch(SCH), &[]).unwrap().buffer.unwrap();
    assert_eq!(rig.run(Instruction::Stsch(SCH + 1), &[]), Some(Completion::cc(3)));
    schib[5] |= 0x80;
    assert_eq!(rig.run(Instruction::Msch(SCH), &schib), Some(Completion::cc(0)));
    rig.guest.put(CCW, &ccw1(0xe4, 0, 7, DATA as u32));
    assert_eq!(rig.run(Instruction::Ssch(SCH), &Guest::orb(true)), Some(Completion::cc(0)));
    let interrupt: Vec<FloatingInterrupt> = rig.guest.irqs.take().into_iter().map(Into::into).collect();
    let io = IoInterrupt { subsystem_id: SCH, parameter: 0xcafe_f00d, word: 0 };
    assert_eq!(interrupt, [FloatingInterrupt::Io(io)]);
    let tsch = Instruction::Tsch { subsystem_id: SCH, dequeued: Some(io) };
    let answer = rig.run(tsch, &[]).unwrap();
    assert_eq!((answer.cc, answer.buffer.unwrap()[8]), (Some(0), OK.dstat));
    assert_eq!(rig.run(Instruction::Ssch(0), &Guest::orb(true)), Some(Completion::program(0x15)));
    assert_eq!(rig.run(Instruction::Sal(0), &[]), Some(Completion::default()));
}

#[test]
fn service_calls_of_clear_and_protected_guests() {
    let mut rig = Rig::new();
    let mut sccb = vec![0; 4096];
    sccb[0] = 0x10;
    let read = |sccb| Instruction::Servc { command: 0x0002_0001, sccb };
    assert_eq!(rig.run(read(0x1000), &sccb), Some(Completion::program(6)));
    assert_eq!(rig.run(read(1 << 20), &sccb), Some(Completion::program(5)));
    let answer = rig.run(read(0x4000), &sccb).unwrap();
    assert_eq!((answer.cc, answer.buffer.unwrap()[6..8].to_vec()), (Some(0), vec![0, 0x10]));
    assert_eq!(rig.guest.irqs.take(), [HostInterrupt::ServiceSignal(0x4000)]);
    rig.protected = true;
    assert_eq!(rig.run(read(0x1000), &sccb).unwrap().cc, Some(0), "the Ultravisor checks addresses");
    sccb[..2].copy_from_slice(&[0x20, 0]);
    let answer = rig.run(read(0x4000), &sccb).unwrap().buffer.unwrap();
    assert_eq!((answer.len(), answer[6..8].to_vec()), (4096, vec![0x01, 0x00]));
}

#[test]
fn doorbells_and_strangers() {
    let mut rig = Rig::new();
    assert_eq!(rig.run(diag(0x500, [3, SCH.into(), 0, 0]), &[]), Some(Completion::result(0)));
    let einval = (-22_i64).cast_unsigned();
    assert_eq!(rig.run(diag(0x500, [3, 5, 0, 0]), &[]), Some(Completion::result(einval)));
    assert_eq!(rig.run(diag(0x500, [9, 0, 0, 0]), &[]), Some(Completion::program(6)));
    assert_eq!(rig.run(diag(0x308, [0; 4]), &[]), None);
    assert_eq!(rig.run(Instruction::Clp, &[]), None);
}
