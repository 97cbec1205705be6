//! The service-call logical processor: READ SCP INFO, READ CPU INFO and the event facility with the ASCII (VT220)
//! console, optional line-mode output and the signal-quiesce event. A service call comes in as a command word, the
//! address of its control block (SCCB) and the bytes of the block, and the answer is written into the same bytes.
//!
//! This model neither reads nor writes guest memory, and it offers no storage, CPU or PCI reconfiguration.

pub mod ebcdic;
mod events;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::interrupt::{HostInterrupt, InterruptSink, Outcome};
pub use events::{ConsoleSink, EventState};
use events::{EventConfig, Events};

/// SCLP commands, without the bits that the comparison ignores.
mod command {
    pub(super) const MASK: u32 = 0xffff_00ff;
    pub(super) const READ_SCP_INFO: u32 = 0x0002_0001;
    pub(super) const READ_SCP_INFO_FORCED: u32 = 0x0012_0001;
    pub(super) const READ_CPU_INFO: u32 = 0x0001_0001;
    pub(super) const WRITE_EVENT_MASK: u32 = 0x0078_0005;
    pub(super) const WRITE_EVENT_DATA: u32 = 0x0076_0005;
    pub(super) const READ_EVENT_DATA: u32 = 0x0077_0005;
}

/// Response codes, the halfword at offset 6 of an SCCB. Unknown values cannot arise: the model produces them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response(pub u16);

impl Response {
    /// Information was read.
    pub const READ: Self = Self(0x0010);
    /// Normal completion.
    pub const DONE: Self = Self(0x0020);
    /// The SCCB crosses a 4 KiB boundary.
    pub const BOUNDARY: Self = Self(0x0100);
    /// The command does not exist.
    pub const INVALID_COMMAND: Self = Self(0x01f0);
    /// The SCCB is too short for the answer.
    pub const TOO_SHORT: Self = Self(0x0300);
    /// The console behind the event cannot take it.
    pub const EQUIPMENT_CHECK: Self = Self(0x0340);
    /// The function code or event type is not supported.
    pub const INVALID_FUNCTION: Self = Self(0x40f0);
    /// No event is pending.
    pub const NO_EVENTS: Self = Self(0x60f0);
    /// The selection mask names events that were not enabled.
    pub const INVALID_SELECTION: Self = Self(0x70f0);
    /// Event buffers and SCCB disagree about lengths.
    pub const INCONSISTENT_LENGTHS: Self = Self(0x72f0);
    /// An event buffer is malformed.
    pub const SYNTAX: Self = Self(0x73f0);
    /// The mask length is not possible.
    pub const INVALID_MASK_LENGTH: Self = Self(0x74f0);
}

/// One CPU of the answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuEntry {
    /// CPU address.
    pub address: u8,
    /// Feature bytes of the entry.
    pub features: [u8; 6],
}

/// What the SCLP reports about the machine. The machine fills in what it has and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SclpConfig {
    /// Size of guest storage in bytes.
    pub ram_size: u64,
    /// The configured CPUs.
    pub cpus: Vec<CpuEntry>,
    /// The highest CPU address that the machine could have.
    pub highest_cpu: u16,
    /// Extended-length SCCB (facility 140): CPU entries start at 144, and blocks of the read commands may cross pages.
    pub extended_length: bool,
    /// The load parameter in EBCDIC.
    pub loadparm: [u8; 8],
    /// Facility bits at offset 48.
    pub facilities: u64,
    /// Instruction-blocking-control value at offset 76.
    pub ibc: u32,
    /// Configuration characteristics at offset 80.
    pub conf_char: [u8; 16],
    /// The exponent of the highest addressable storage at offset 99.
    pub hamaxpow: u8,
    /// Extended configuration characteristics at offset 116.
    pub conf_char_ext: [u8; 4],
    /// Hypervisor-managed facility bits at offset 124.
    pub hmfai: u32,
    /// Bytes from offset 134 (a facility byte that exists only with extended-length SCCB).
    pub fac134: u8,
    /// Announce configuration-management events (type 4), of which this model never sends one.
    pub configuration_events: bool,
}

impl SclpConfig {
    /// A machine with this storage and these CPU addresses, without any optional facility.
    pub fn new(ram_size: u64, cpus: u8) -> Self {
        Self {
            ram_size,
            cpus: (0..cpus).map(|address| CpuEntry { address, features: [0; 6] }).collect(),
            highest_cpu: u16::from(cpus.saturating_sub(1)),
            extended_length: false,
            loadparm: [0x40; 8],
            facilities: Self::CPU_INFO,
            ibc: 0,
            conf_char: [0; 16],
            hamaxpow: 47,
            conf_char_ext: [0; 4],
            hmfai: 0,
            fac134: 0,
            configuration_events: false,
        }
    }

    /// Facilities: READ CPU INFO exists. The next bit would announce CPU reconfiguration, which does not exist here.
    pub const CPU_INFO: u64 = 0x0800_0000_0000_0000;

    /// Where the CPU entries of READ SCP INFO start.
    pub fn cpu_offset(&self) -> usize {
        if self.extended_length { 144 } else { 128 }
    }

    /// The most CPUs whose entries fit into an answer of one page, the limit of a protected guest.
    pub fn max_cpus_in_one_page(&self) -> usize {
        (4096 - self.cpu_offset()) / 16
    }
}

/// The service-call logical processor.
pub struct Sclp {
    config: SclpConfig,
    events: Events,
    sink: Arc<dyn InterruptSink>,
}

/// Saved state of the SCLP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SclpState {
    /// Version of this structure.
    pub version: u16,
    /// The event facility.
    pub events: EventState,
}

/// What a service call did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SclpOutcome {
    /// Condition code, or the program interruption that took the place of the call.
    pub outcome: Outcome,
    /// The parameter of the service signal that was raised.
    pub service_signal: Option<u32>,
}

impl Sclp {
    /// An SCLP for this machine. `console` takes the ASCII console's output, `line_mode` that of the line-mode
    /// console; either may be missing, and then the SCLP does not offer it.
    pub fn new(
        config: SclpConfig,
        console: Option<Box<dyn ConsoleSink>>,
        line_mode: Option<Box<dyn ConsoleSink>>,
        sink: Arc<dyn InterruptSink>,
    ) -> Self {
        let events = Events::new(
            EventConfig { configuration_events: config.configuration_events },
            console,
            line_mode,
        );
        Self { config, events, sink }
    }

    /// The checks of a service call's operand that come before execution, in their order. A protected guest's are made
    /// by the Ultravisor. `prefix` is the prefix register of the issuing CPU, if the CPU side has not looked at it.
    ///
    /// # Errors
    /// The program interruption.
    pub fn check_address(&self, sccb: u64, prefix: Option<u64>) -> Result<(), Outcome> {
        if sccb >= self.config.ram_size {
            return Err(Outcome::ADDRESSING);
        }
        let in_prefix = prefix.is_some_and(|p| sccb & !0x1fff == p & !0x1fff);
        if sccb < 0x2000 || in_prefix || sccb & !0x7fff_fff8 != 0 {
            return Err(Outcome::SPECIFICATION);
        }
        Ok(())
    }

    /// Executes one service call. `sccb` holds the block as the CPU side fetched it, with at least its 8-byte header,
    /// and afterwards the answer; the length field of the block governs, bytes that were not fetched count as zeros
    /// and the block grows up to that length.
    pub fn service_call(&mut self, command: u32, sccb_addr: u64, sccb: &mut Vec<u8>) -> SclpOutcome {
        let length = match sccb.first_chunk::<2>() {
            Some(bytes) if sccb.len() >= 8 => usize::from(u16::from_be_bytes(*bytes)),
            _ => 0,
        };
        if length < 8 {
            return SclpOutcome { outcome: Outcome::SPECIFICATION, service_signal: None };
        }
        sccb.resize(length, 0);
        let response = self.execute(command & command::MASK, sccb_addr, sccb);
        put16(sccb, 6, response.0);
        SclpOutcome { outcome: Outcome::Cc(0), service_signal: self.signal(low_word(sccb_addr) & !3) }
    }

    /// Input for the ASCII console, for example from a terminal. Returns how many bytes were taken; the rest must be
    /// offered again later.
    pub fn console_input(&mut self, bytes: &[u8]) -> usize {
        let taken = self.events.push_input(bytes);
        if taken > 0 {
            self.signal(0);
        }
        taken
    }

    /// Asks the guest to shut down (power button). Returns false if the guest does not listen for it.
    pub fn quiesce(&mut self) -> bool {
        let heard = self.events.push_quiesce();
        if heard {
            self.signal(0);
        }
        heard
    }

    /// Subsystem reset: no event masks, no pending events.
    pub fn reset(&mut self) {
        self.events.reset();
    }

    /// The state to save.
    pub fn save(&self) -> SclpState {
        SclpState { version: 1, events: self.events.state().clone() }
    }

    /// Continues from a saved state.
    ///
    /// # Errors
    /// The version of the state is unknown.
    pub fn restore(&mut self, state: SclpState) -> Result<(), crate::Error> {
        if state.version != 1 {
            return Err(crate::Error::State {
                device: "the SCLP",
                reason: format!("state version {} is unknown", state.version),
            });
        }
        self.events.set_state(state.events);
        Ok(())
    }

    /// The configuration, for a load parameter or CPUs that change between resets.
    pub fn config_mut(&mut self) -> &mut SclpConfig {
        &mut self.config
    }

    /// Raises the service signal for a finished block and pending events, unless there is neither.
    fn signal(&self, block: u32) -> Option<u32> {
        let parameter = block | u32::from(self.events.pending());
        (parameter != 0).then(|| {
            self.sink.raise(HostInterrupt::ServiceSignal(parameter));
            parameter
        })
    }

    fn execute(&mut self, command: u32, addr: u64, sccb: &mut [u8]) -> Response {
        let may_cross = match command {
            command::READ_SCP_INFO | command::READ_SCP_INFO_FORCED | command::READ_CPU_INFO => {
                self.config.extended_length
            }
            command::WRITE_EVENT_MASK | command::WRITE_EVENT_DATA | command::READ_EVENT_DATA => false,
            _ => return Response::INVALID_COMMAND,
        };
        if !may_cross && (addr & 0xfff) as usize + sccb.len() > 4096 {
            return Response::BOUNDARY;
        }
        match command {
            command::READ_SCP_INFO | command::READ_SCP_INFO_FORCED => self.read_scp_info(sccb),
            command::READ_CPU_INFO => self.read_cpu_info(sccb),
            command::WRITE_EVENT_MASK => self.events.write_mask(sccb),
            command::WRITE_EVENT_DATA => self.events.write_data(sccb),
            _ => self.events.read_data(sccb),
        }
    }

    fn read_scp_info(&self, sccb: &mut [u8]) -> Response {
        let config = &self.config;
        let offset = config.cpu_offset();
        if let Err(short) = self.make_room(sccb, offset) {
            return short;
        }
        sccb[8..].fill(0);
        // The increment is a power of two of MiB, as small as the halfword at offset 8 allows.
        let mut shift = 20_u32;
        while config.ram_size >> shift > 0xffff {
            shift += 1;
        }
        let increments = config.ram_size >> shift;
        let size = 1_u64 << (shift - 20);
        put16(sccb, 8, u16::try_from(increments).unwrap_or(u16::MAX));
        if let Ok(small) = u8::try_from(size) {
            sccb[10] = small;
        } else {
            put32(sccb, 100, u32::try_from(size).unwrap_or(u32::MAX));
        }
        put16(sccb, 16, count16(config.cpus.len()));
        put16(sccb, 18, count16(offset));
        sccb[24..32].copy_from_slice(&config.loadparm);
        sccb[48..56].copy_from_slice(&config.facilities.to_be_bytes());
        put32(sccb, 76, config.ibc);
        sccb[80..96].copy_from_slice(&config.conf_char);
        sccb[99] = config.hamaxpow;
        sccb[116..120].copy_from_slice(&config.conf_char_ext);
        put16(sccb, 120, config.highest_cpu);
        put32(sccb, 124, config.hmfai);
        if config.extended_length {
            sccb[134] = config.fac134;
        }
        self.put_cpus(sccb, offset);
        Response::READ
    }

    fn read_cpu_info(&self, sccb: &mut [u8]) -> Response {
        const OFFSET: usize = 24;
        if let Err(short) = self.make_room(sccb, OFFSET) {
            return short;
        }
        sccb[8..].fill(0);
        let count = self.config.cpus.len();
        put16(sccb, 8, count16(count));
        put16(sccb, 10, count16(OFFSET));
        put16(sccb, 14, count16(OFFSET + 16 * count));
        self.put_cpus(sccb, OFFSET);
        Response::READ
    }

    /// Checks that the CPU entries fit. A block that asks for a variable-length response learns the needed length
    /// when extended-length SCCBs exist.
    fn make_room(&self, sccb: &mut [u8], offset: usize) -> Result<(), Response> {
        let needed = offset + 16 * self.config.cpus.len();
        if sccb.len() >= needed {
            return Ok(());
        }
        if self.config.extended_length && sccb[5] & 0x80 != 0 {
            put16(sccb, 0, count16(needed));
        }
        Err(Response::TOO_SHORT)
    }

    fn put_cpus(&self, sccb: &mut [u8], offset: usize) {
        for (entry, cpu) in sccb[offset..].chunks_exact_mut(16).zip(&self.config.cpus) {
            entry[0] = cpu.address;
            entry[2..8].copy_from_slice(&cpu.features);
        }
    }
}

fn low_word(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}

fn count16(value: usize) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

fn put16(block: &mut [u8], at: usize, value: u16) {
    block[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

fn put32(block: &mut [u8], at: usize, value: u32) {
    block[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

fn get16(block: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([block[at], block[at + 1]])
}
