//! What the tests share: a recorder of interruptions and a guest driver that talks through channel programs.

use std::sync::{Arc, Mutex};

use cloister_devices::access;
use cloister_devices::css::ChannelSubsystem;
use cloister_devices::interrupt::{HostInterrupt, InterruptSink, Outcome};
use vm_memory::{GuestAddress, GuestMemoryMmap};

pub(crate) type Memory = GuestMemoryMmap<()>;

#[derive(Default)]
pub(crate) struct Recorder(Mutex<Vec<HostInterrupt>>);

impl InterruptSink for Recorder {
    fn raise(&self, interrupt: HostInterrupt) {
        self.0.lock().unwrap().push(interrupt);
    }
}

impl Recorder {
    pub(crate) fn take(&self) -> Vec<HostInterrupt> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

pub(crate) const RAM: usize = 1 << 20;

pub(crate) fn memory() -> Memory {
    Memory::from_ranges(&[(GuestAddress(0), RAM)]).unwrap()
}

/// A guest that runs one channel program at a time.
pub(crate) struct Guest {
    pub(crate) mem: Memory,
    pub(crate) css: ChannelSubsystem<Memory>,
    pub(crate) irqs: Arc<Recorder>,
}

/// How a channel program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) dstat: u8,
    pub(crate) cstat: u8,
    pub(crate) residual: u16,
    pub(crate) sense: u8,
}

pub(crate) const OK: Ended = Ended { dstat: 0x0c, cstat: 0, residual: 0, sense: 0 };
pub(crate) const REJECTED: u8 = 0x80;
pub(crate) const CCW: u64 = 0x1000;
pub(crate) const DATA: u64 = 0x2000;

impl Guest {
    pub(crate) fn new() -> Self {
        let irqs = Arc::new(Recorder::default());
        let css = ChannelSubsystem::new(irqs.clone() as Arc<dyn InterruptSink>);
        Self { mem: memory(), css, irqs }
    }

    pub(crate) fn enable(&mut self, gr1: u64) {
        let (outcome, block) = self.css.stsch(gr1);
        assert_eq!(outcome, Outcome::Cc(0));
        let mut block = block.unwrap();
        // ISC 3, enabled; concurrent sense.
        block[4] = block[4] & !0x38 | 3 << 3;
        block[5] |= 0x80;
        block[27] |= 1;
        assert_eq!(self.css.msch(gr1, &block), Outcome::Cc(0));
    }

    pub(crate) fn orb(format1: bool) -> [u8; 12] {
        let mut orb = [0; 12];
        orb[..4].copy_from_slice(&0xcafe_f00d_u32.to_be_bytes());
        orb[5] = if format1 { 0x80 } else { 0 };
        orb[6] = 0xff;
        orb[8..].copy_from_slice(&(CCW as u32).to_be_bytes());
        orb
    }

    /// Runs the program at [`CCW`].
    pub(crate) fn run(&mut self, gr1: u64) -> Ended {
        assert_eq!(self.css.ssch(&self.mem, gr1, &Self::orb(true)), Outcome::Cc(0));
        self.collect(gr1)
    }

    pub(crate) fn collect(&mut self, gr1: u64) -> Ended {
        let (outcome, irb) = self.css.tsch(gr1);
        assert_eq!(outcome, Outcome::Cc(0));
        let irb = irb.unwrap();
        assert_eq!(self.css.tsch(gr1).0, Outcome::Cc(1), "the status was cleared");
        Ended {
            dstat: irb[8],
            cstat: irb[9],
            residual: u16::from_be_bytes([irb[10], irb[11]]),
            sense: irb[32],
        }
    }

    /// One command with its data at [`DATA`].
    pub(crate) fn command(&mut self, gr1: u64, command: u8, flags: u8, data: &[u8]) -> Ended {
        self.put(DATA, data);
        self.put(CCW, &ccw1(command, flags, data.len() as u16, DATA as u32));
        self.run(gr1)
    }

    /// One command that must succeed; returns its data.
    pub(crate) fn answer(&mut self, gr1: u64, command: u8, data: &[u8]) -> Vec<u8> {
        assert_eq!(self.command(gr1, command, 0, data), OK, "command {command:#x}");
        self.get(DATA, data.len())
    }

    pub(crate) fn put(&self, addr: u64, data: &[u8]) {
        access::write(&self.mem, addr, data).unwrap();
    }

    pub(crate) fn get(&self, addr: u64, len: usize) -> Vec<u8> {
        let mut buf = vec![0; len];
        access::read(&self.mem, addr, &mut buf).unwrap();
        buf
    }
}

pub(crate) fn ccw1(command: u8, flags: u8, count: u16, addr: u32) -> [u8; 8] {
    let mut ccw = [command, flags, 0, 0, 0, 0, 0, 0];
    ccw[2..4].copy_from_slice(&count.to_be_bytes());
    ccw[4..].copy_from_slice(&addr.to_be_bytes());
    ccw
}
