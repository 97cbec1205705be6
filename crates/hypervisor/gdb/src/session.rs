//! A debugger's session: bytes in, bytes out, and what the machine does in between.
//!
//! Around crate `gdbstub` it adds what that leaves to its users: packets of bounded length with a right checksum,
//! errors with a text, QEMU's own packets, and going on after a packet that makes no sense. It reads and writes no
//! socket; [`serve`](crate::serve_clients) does.

use crate::Monitor;
use crate::guest::{Guest, Stop};
use crate::packet::{Cutter, Incoming, PACKET, console, error, packet};
use cloister_control::Machine;
use cloister_options::Target;
use gdbstub::common::Signal;
use gdbstub::conn::Connection;
use gdbstub::stub::state_machine::GdbStubStateMachine as Stub;
use gdbstub::stub::{DisconnectReason, GdbStub, MultiThreadStopReason};
use std::sync::Arc;

/// Bytes for the frame of a packet.
const FRAME: usize = 4;
/// Most bytes that one `m` packet reads: what fits into one packet of hexadecimal digits.
const READ: usize = PACKET / 2 - 16;
/// Most bytes of one answer.
const ANSWER: usize = 1 << 20;
/// A client that asks for the last packet again and again waits until it has read this much.
const BACKLOG: usize = 64 << 10;

/// A debugger's session with a machine. Dropping it takes the debugger's breakpoints away.
pub struct Session {
    stub: Option<Stub<'static, Guest, Wire>>,
    guest: Guest,
    cutter: Cutter,
    /// Packets are acknowledged until the debugger does without.
    acks: bool,
    attached: bool,
    out: Vec<u8>,
    last: Vec<u8>,
    /// What a new stub must be told to be in the state of the old one.
    features: Vec<u8>,
    general: Vec<u8>,
    ended: bool,
}

impl Session {
    /// A session that has not begun: nothing happens to the machine before the first packet. `None` if the
    /// machine has nothing to debug.
    pub fn new(machine: Arc<dyn Machine>, monitor: Monitor) -> Option<Self> {
        if machine.vm().is_none() || machine.facts().target != Target::S390x {
            return None;
        }
        let mut session = Self {
            stub: None,
            guest: Guest::new(machine, monitor),
            cutter: Cutter::default(),
            acks: true,
            attached: false,
            out: Vec::new(),
            last: Vec::new(),
            features: Vec::new(),
            general: Vec::new(),
            ended: false,
        };
        session.restore(false);
        Some(session)
    }

    /// Takes what the debugger sent.
    pub fn receive(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.ended {
                return;
            }
            match self.cutter.push(*byte) {
                None => {}
                Some(Incoming::Packet(body)) => self.take(body),
                Some(Incoming::Interrupt) => self.interrupt(),
                Some(Incoming::Again) if self.acks && self.out.len() < BACKLOG => {
                    self.out.extend_from_slice(&self.last);
                }
                Some(Incoming::Again) => {}
                Some(Incoming::Damaged) if self.acks => self.out.push(b'-'),
                Some(Incoming::Damaged) => {}
                Some(Incoming::TooLong) => {
                    self.acknowledge();
                    self.send(error(&format!("the packet is longer than {PACKET} bytes")));
                }
            }
        }
    }

    /// Looks what the machine does; to be called after its events, and from time to time.
    pub fn poll(&mut self) {
        if self.ended || !self.is_running() {
            return;
        }
        self.guest.watch_policy();
        self.print_notices();
        if let Some(stop) = self.guest.stop_reason() {
            self.report(stop);
        }
    }

    /// The machine ends, and with it the session.
    pub fn machine_ends(&mut self, code: u8) {
        if !self.ended && self.is_running() {
            self.report(MultiThreadStopReason::Exited(code));
        }
        self.ended = true;
    }

    /// What is to be sent.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Whether it is over: what is left to send is the last.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether the debugger waits for the machine to stop.
    fn is_running(&self) -> bool {
        matches!(self.stub, Some(Stub::Running(_)))
    }

    fn take(&mut self, body: Vec<u8>) {
        self.acknowledge();
        if !self.attached {
            self.attached = true;
            self.guest.halt();
        }
        if let Some(answer) = self.own_answer(&body) {
            self.send(packet(&answer));
            if body == b"QStartNoAckMode" {
                self.acks = false;
            }
            return;
        }
        let body = within_bounds(body);
        let running = self.is_running();
        if !self.feed(&packet(&body)) {
            self.answers(&body);
            self.restore(running);
            self.send(error("the packet makes no sense"));
            return;
        }
        if body.starts_with(b"Hg") {
            self.general.clone_from(&body);
        } else if body.starts_with(b"qSupported") {
            self.features.clone_from(&body);
        }
        self.answers(&body);
        self.settle();
    }

    /// Packets that `gdbstub` does not know or that belong to the connection.
    fn own_answer(&mut self, body: &[u8]) -> Option<Vec<u8>> {
        Some(match body {
            b"QStartNoAckMode" => b"OK".to_vec(),
            b"qqemu.Supported" => b"sstepbits;sstep;PhyMemMode".to_vec(),
            // Interruptions are not held back during a step.
            b"qqemu.sstepbits" => b"ENABLE=1".to_vec(),
            b"qqemu.sstep" => b"0x1".to_vec(),
            b"Qqemu.sstep=1" | b"Qqemu.sstep=0x1" => b"OK".to_vec(),
            b"qqemu.PhyMemMode" => vec![if self.guest.physical { b'1' } else { b'0' }],
            b"Qqemu.PhyMemMode:0" | b"Qqemu.PhyMemMode:1" => {
                self.guest.physical = body.ends_with(b"1");
                b"OK".to_vec()
            }
            // A killed machine tells nobody of its end; gdb waits for this answer all the same.
            _ if body.starts_with(b"vKill") => {
                self.guest.kill();
                self.ended = true;
                b"OK".to_vec()
            }
            _ => return None,
        })
    }

    fn interrupt(&mut self) {
        if !self.attached {
            return;
        }
        let running = self.is_running();
        self.guest.halt();
        if running {
            let stop = self.guest.stop_reason().unwrap_or_else(|| self.guest.signal(Signal::SIGINT));
            self.report(stop);
        }
    }

    /// Gives the stub what came; false if it cannot go on.
    fn feed(&mut self, bytes: &[u8]) -> bool {
        for byte in bytes {
            let next = match self.stub.take() {
                Some(Stub::Idle(stub)) => stub.incoming_data(&mut self.guest, *byte).ok(),
                Some(Stub::Running(stub)) => stub.incoming_data(&mut self.guest, *byte).ok(),
                other => other,
            };
            let Some(next) = next else { return false };
            self.stub = Some(next);
        }
        true
    }

    /// Sends what the stub answered to a packet.
    fn answers(&mut self, to: &[u8]) {
        let refusal = self.guest.refusal.take();
        for mut answer in self.wire_packets() {
            if to.starts_with(b"qSupported") {
                answer = announce_size(answer);
            }
            let failed = answer.len() == FRAME + 3 && answer.starts_with(b"$E");
            // gdb takes a text for an answer to `m`, but not for a refusal.
            if let (true, false, Some(text)) = (failed, to.starts_with(b"m"), &refusal) {
                answer = error(text);
            }
            self.send(answer);
        }
    }

    fn wire_packets(&mut self) -> Vec<Vec<u8>> {
        match &mut self.stub {
            Some(Stub::Idle(stub)) => std::mem::take(&mut stub.borrow_conn().packets),
            Some(Stub::Running(stub)) => std::mem::take(&mut stub.borrow_conn().packets),
            Some(Stub::CtrlCInterrupt(stub)) => std::mem::take(&mut stub.borrow_conn().packets),
            Some(Stub::Disconnected(stub)) => std::mem::take(&mut stub.borrow_conn().packets),
            None => Vec::new(),
        }
    }

    /// Does what follows from the stub's new state.
    fn settle(&mut self) {
        if let Some(Stub::Disconnected(stub)) = &self.stub {
            let reason = stub.get_reason();
            self.ended = true;
            match reason {
                DisconnectReason::Kill => self.guest.kill(),
                DisconnectReason::Disconnect => self.guest.leave(true),
                DisconnectReason::TargetExited(_) | DisconnectReason::TargetTerminated(_) => {}
            }
        }
        if let (true, Some(stop)) = (self.is_running(), self.guest.at_once.take()) {
            self.report(stop);
        }
        self.guest.at_once = None;
        // A step may be done already.
        self.poll();
    }

    /// Tells the debugger, which waits for it, of a stop.
    fn report(&mut self, stop: Stop) {
        self.print_notices();
        self.stub = match self.stub.take() {
            Some(Stub::Running(stub)) => stub.report_stop(&mut self.guest, stop).ok(),
            other => other,
        };
        self.answers(b"");
        if let Some(tid) = thread_of(stop) {
            self.general = format!("Hgp1.{tid:x}").into_bytes();
        }
        if self.stub.is_none() {
            self.restore(false);
        }
        if let Some(Stub::Disconnected(_)) = self.stub {
            self.ended = true;
        }
    }

    /// Text may go to the console only while the debugger waits for a stop (GDB manual, "Stop Reply Packets").
    fn print_notices(&mut self) {
        while let Some(notice) = self.guest.notices.pop_front() {
            self.send(console(&notice));
        }
    }

    /// A new stub, brought to where the old one was.
    fn restore(&mut self, running: bool) {
        let made = GdbStub::builder(Wire::default()).packet_buffer_size(PACKET + 2 * FRAME).build().ok();
        self.stub = made.and_then(|stub| stub.run_state_machine(&mut self.guest).ok());
        self.guest.rehearsal = true;
        let packets = [&b"QStartNoAckMode"[..], &self.features.clone(), &self.general.clone()];
        for body in packets.into_iter().filter(|body| !body.is_empty()) {
            self.feed(&packet(body));
        }
        if running {
            self.feed(&packet(b"vCont;c"));
        }
        self.guest.rehearsal = false;
        self.wire_packets();
        self.ended |= self.stub.is_none();
    }

    fn acknowledge(&mut self) {
        if self.acks {
            self.out.push(b'+');
        }
    }

    fn send(&mut self, packet: Vec<u8>) {
        self.out.extend_from_slice(&packet);
        self.last = packet;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.attached {
            self.guest.leave(false);
        }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("attached", &self.attached).finish_non_exhaustive()
    }
}

/// Shortens a read of memory to what one packet can answer; gdb then asks for the rest.
fn within_bounds(body: Vec<u8>) -> Vec<u8> {
    let Some(range) = body.strip_prefix(b"m") else { return body };
    let mut parts = std::str::from_utf8(range).unwrap_or_default().split(',');
    let (Some(address), Some(len)) = (parts.next(), parts.next()) else { return body };
    match usize::from_str_radix(len, 16) {
        Ok(len) if len <= READ => body,
        _ => format!("m{address},{READ:x}").into_bytes(),
    }
}

/// The stub counts the frame of a packet, the protocol does not.
fn announce_size(answer: Vec<u8>) -> Vec<u8> {
    let end = answer.len().saturating_sub(FRAME - 1);
    let body = String::from_utf8_lossy(answer.get(1..end).unwrap_or_default());
    match body.split_once(';') {
        Some((size, rest)) if size.starts_with("PacketSize=") => {
            packet(format!("PacketSize={PACKET:x};{rest}").as_bytes())
        }
        _ => answer,
    }
}

fn thread_of(stop: Stop) -> Option<usize> {
    match stop {
        MultiThreadStopReason::SignalWithThread { tid, .. }
        | MultiThreadStopReason::SwBreak(tid)
        | MultiThreadStopReason::HwBreak(tid)
        | MultiThreadStopReason::Watch { tid, .. } => Some(tid.get()),
        _ => None,
    }
}

/// Takes the stub's answers apart again.
#[derive(Debug, Default)]
struct Wire {
    packet: Vec<u8>,
    packets: Vec<Vec<u8>>,
    bytes: usize,
}

#[derive(Debug)]
struct TooMuch;

impl Connection for Wire {
    type Error = TooMuch;

    fn write(&mut self, byte: u8) -> Result<(), TooMuch> {
        if self.packets.is_empty() && self.packet.is_empty() {
            self.bytes = 0;
        }
        self.bytes += 1;
        if self.bytes > ANSWER {
            return Err(TooMuch);
        }
        self.packet.push(byte);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), TooMuch> {
        // An acknowledgement of the first packet, before the stub does without, stands in front.
        let start = self.packet.iter().position(|byte| *byte == b'$').unwrap_or(0);
        self.packets.push(self.packet.split_off(start));
        self.packet.clear();
        Ok(())
    }
}
