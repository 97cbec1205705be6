//! The channel-program interpreter: format-0 and format-1 CCWs, command and data chaining, transfer in channel,
//! indirect data addresses of both formats, skip, suspend (SA22-7832, chapter 15 "Basic I/O Functions").
//!
//! Devices do not see CCWs: they get a command code and a [`Transfer`]. Modified indirect data addresses and transport
//! mode do not exist here.

use vm_memory::GuestMemory;

use super::device::{CcwDevice, CommandError, SenseId, Signals};
use super::layout::{Orb, orb};
use crate::access::{self, AccessError};

/// CCWs that one start may execute. A program that loops forever ends with a program check instead of holding a CPU.
pub const CCW_LIMIT: u32 = 4096;

/// CCWs in one data chain.
const DATA_CHAIN_LIMIT: usize = 256;

mod flag {
    pub(super) const CHAIN_DATA: u8 = 0x80;
    pub(super) const CHAIN_COMMAND: u8 = 0x40;
    pub(super) const SUPPRESS_LENGTH: u8 = 0x20;
    pub(super) const SKIP: u8 = 0x10;
    pub(super) const PCI: u8 = 0x08;
    pub(super) const INDIRECT: u8 = 0x04;
    pub(super) const SUSPEND: u8 = 0x02;
    pub(super) const MODIFIED: u8 = 0x01;
}

mod command {
    pub(super) const NO_OPERATION: u8 = 0x03;
    pub(super) const BASIC_SENSE: u8 = 0x04;
    pub(super) const SENSE_ID: u8 = 0xe4;
    pub(super) const TRANSFER: u8 = 0x08;
}

/// How a run of a channel program stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) kind: EndKind,
    /// Address of the last CCW used plus 8.
    pub(super) next: u32,
    pub(super) residual: u16,
    pub(super) pci: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndKind {
    Normal,
    Suspended { at: u32 },
    Length,
    CommandReject,
    ProgramCheck,
    ProtectionCheck,
}

impl From<CommandError> for EndKind {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Reject => Self::CommandReject,
            CommandError::IncorrectLength => Self::Length,
            CommandError::ProgramCheck => Self::ProgramCheck,
            CommandError::ProtectionCheck => Self::ProtectionCheck,
        }
    }
}

impl From<AccessError> for EndKind {
    fn from(error: AccessError) -> Self {
        CommandError::from(error).into()
    }
}

/// The data of one command: the areas that its CCW, chained CCWs and indirect addresses designate.
pub struct Transfer<'a, M: GuestMemory> {
    mem: &'a M,
    areas: Vec<Area>,
    next_area: usize,
    offset: u32,
    count: u32,
    position: u32,
    moved: u32,
    suppress_length: bool,
    ignore_length: bool,
}

#[derive(Clone, Copy, Debug)]
struct Area {
    addr: u64,
    len: u32,
    skip: bool,
}

impl<'a, M: GuestMemory> Transfer<'a, M> {
    /// The guest memory that data move to and from.
    pub fn memory(&self) -> &'a M {
        self.mem
    }

    /// Bytes that the channel program offers.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether the program suppresses incorrect-length indications.
    pub fn suppresses_length(&self) -> bool {
        self.suppress_length
    }

    /// Says that the rest of the count is meaningless for this command, which then shows no incorrect length.
    pub fn ignore_length(&mut self) {
        self.ignore_length = true;
    }

    /// Checks a command whose block has exactly `size` bytes (virtio 1.2, 4.3.1.2).
    ///
    /// # Errors
    /// Another count without suppression, or too few bytes with it.
    pub fn expect(&mut self, size: u32) -> Result<(), CommandError> {
        if self.suppress_length {
            if self.count < size { Err(CommandError::ProgramCheck) } else { Ok(()) }
        } else if self.count == size {
            Ok(())
        } else {
            Err(CommandError::IncorrectLength)
        }
    }

    /// Goes back to the first byte, for blocks that are read and then answered in place.
    pub fn rewind(&mut self) {
        (self.next_area, self.offset, self.position) = (0, 0, 0);
    }

    /// Moves bytes from guest storage to the device.
    ///
    /// # Errors
    /// Fewer bytes are left than asked for, or storage cannot be read.
    pub fn read(&mut self, buf: &mut [u8]) -> Result<(), CommandError> {
        let mut done = 0;
        while done < buf.len() {
            let (area, addr, len) = self.next(buf.len() - done)?;
            let part = &mut buf[done..done + len];
            if area.skip {
                part.fill(0);
            } else {
                access::read(self.mem, addr, part)?;
            }
            done += len;
        }
        Ok(())
    }

    /// Moves bytes from the device to guest storage.
    ///
    /// # Errors
    /// Less room is left than asked for, or storage cannot be written.
    pub fn write(&mut self, buf: &[u8]) -> Result<(), CommandError> {
        let mut done = 0;
        while done < buf.len() {
            let (area, addr, len) = self.next(buf.len() - done)?;
            if !area.skip {
                access::write(self.mem, addr, &buf[done..done + len])?;
            }
            done += len;
        }
        Ok(())
    }

    fn next(&mut self, want: usize) -> Result<(Area, u64, usize), CommandError> {
        loop {
            let area = *self.areas.get(self.next_area).ok_or(CommandError::ProgramCheck)?;
            let left = area.len - self.offset;
            if left == 0 {
                self.next_area += 1;
                self.offset = 0;
                continue;
            }
            let addr = area.addr + u64::from(self.offset);
            let take = left.min(u32::try_from(want).unwrap_or(u32::MAX));
            self.offset += take;
            self.position += take;
            self.moved = self.moved.max(self.position);
            return Ok((area, addr, take as usize));
        }
    }

    fn residual(&self) -> u32 {
        self.count - self.moved
    }
}

#[derive(Clone, Copy, Debug)]
struct Ccw {
    command: u8,
    flags: u8,
    count: u16,
    addr: u32,
}

/// Runs the channel program of `orb` from `address` until it ends or suspends. `resumed` ignores the suspend flag of
/// the first CCW.
pub(super) fn run<M: GuestMemory>(
    mem: &M,
    orb: &Orb,
    address: u32,
    resumed: bool,
    device: &mut dyn CcwDevice<M>,
    sense: &mut [u8; 32],
    signals: &mut Signals,
) -> End {
    let mut run = Run { mem, orb, next: address, budget: CCW_LIMIT, pci: false, residual: 0 };
    let kind = run.execute(device, sense, signals, resumed).unwrap_or_else(|kind| kind);
    End { kind, next: run.next, residual: run.residual, pci: run.pci }
}

struct Run<'a, M: GuestMemory> {
    mem: &'a M,
    orb: &'a Orb,
    next: u32,
    budget: u32,
    pci: bool,
    residual: u16,
}

impl<'a, M: GuestMemory> Run<'a, M> {
    fn execute(
        &mut self,
        device: &mut dyn CcwDevice<M>,
        sense: &mut [u8; 32],
        signals: &mut Signals,
        mut resumed: bool,
    ) -> Result<EndKind, EndKind> {
        let mut first = true;
        loop {
            let ccw = self.fetch_after_transfers(first)?;
            self.residual = ccw.count;
            if ccw.flags & flag::SUSPEND != 0 && !std::mem::take(&mut resumed) {
                if self.orb.ctrl0.get() & orb::SUSPEND == 0 {
                    return Err(EndKind::ProgramCheck);
                }
                return Ok(EndKind::Suspended { at: self.next.wrapping_sub(8) });
            }
            resumed = false;
            first = false;
            // A command code with four low zero bits is invalid.
            if ccw.command & 0x0f == 0 {
                return Err(EndKind::ProgramCheck);
            }
            let (last, mut transfer) = self.transfer(ccw)?;
            let done = match ccw.command {
                command::NO_OPERATION => {
                    transfer.ignore_length();
                    Ok(())
                }
                command::BASIC_SENSE => {
                    let data = std::mem::take(sense);
                    write_up_to(&mut transfer, &data)
                }
                command::SENSE_ID => write_up_to(&mut transfer, &sense_id_bytes(&device.identity())),
                other => device.execute(other, &mut transfer, signals),
            };
            self.residual = u16::try_from(transfer.residual()).unwrap_or(u16::MAX);
            let wrong_length =
                transfer.residual() != 0 && !transfer.ignore_length && !transfer.suppress_length;
            if let Err(error) = done {
                if error == CommandError::Reject {
                    *sense = [0; 32];
                    sense[0] = 0x80;
                }
                return Err(error.into());
            }
            if wrong_length {
                return Err(EndKind::Length);
            }
            if last.flags & flag::CHAIN_COMMAND == 0 {
                return Ok(EndKind::Normal);
            }
        }
    }

    /// Fetches the next CCW that is no transfer in channel.
    fn fetch_after_transfers(&mut self, first: bool) -> Result<Ccw, EndKind> {
        let ccw = self.fetch()?;
        if !self.is_transfer(ccw) {
            return self.check(ccw);
        }
        // The first CCW of a program may not be a transfer, nor may a transfer lead to another.
        if first || (self.format1() && (ccw.command != command::TRANSFER || ccw.flags != 0 || ccw.count != 0))
        {
            return Err(EndKind::ProgramCheck);
        }
        self.next = ccw.addr;
        let ccw = self.fetch()?;
        if self.is_transfer(ccw) { Err(EndKind::ProgramCheck) } else { self.check(ccw) }
    }

    fn fetch(&mut self) -> Result<Ccw, EndKind> {
        self.budget = self.budget.checked_sub(1).ok_or(EndKind::ProgramCheck)?;
        let limit = if self.format1() { 0x7fff_ffff } else { 0x00ff_ffff };
        let addr = self.next;
        self.next = addr.wrapping_add(8);
        if addr & 7 != 0 || addr > limit {
            return Err(EndKind::ProgramCheck);
        }
        let mut b = [0; 8];
        access::read(self.mem, u64::from(addr), &mut b)?;
        Ok(if self.format1() {
            Ccw {
                command: b[0],
                flags: b[1],
                count: u16::from_be_bytes([b[2], b[3]]),
                addr: u32::from_be_bytes([b[4], b[5], b[6], b[7]]),
            }
        } else {
            Ccw {
                command: b[0],
                flags: b[4],
                count: u16::from_be_bytes([b[6], b[7]]),
                addr: u32::from_be_bytes([0, b[1], b[2], b[3]]),
            }
        })
    }

    fn check(&self, ccw: Ccw) -> Result<Ccw, EndKind> {
        let empty_data = ccw.count == 0 && (!self.format1() || ccw.flags & flag::CHAIN_DATA != 0);
        if ccw.addr > 0x7fff_ffff || ccw.flags & flag::MODIFIED != 0 || empty_data {
            return Err(EndKind::ProgramCheck);
        }
        Ok(ccw)
    }

    /// Collects the data areas of a command, through its data chain. Returns the last CCW of the chain, whose
    /// flags decide about command chaining.
    fn transfer(&mut self, first: Ccw) -> Result<(Ccw, Transfer<'a, M>), EndKind> {
        let mut areas = Vec::new();
        let mut ccw = first;
        let mut count = 0_u32;
        for _ in 0..DATA_CHAIN_LIMIT {
            self.pci |= ccw.flags & flag::PCI != 0;
            self.areas(ccw, &mut areas)?;
            count += u32::from(ccw.count);
            if ccw.flags & flag::CHAIN_DATA == 0 {
                let transfer = Transfer {
                    mem: self.mem,
                    areas,
                    next_area: 0,
                    offset: 0,
                    count,
                    position: 0,
                    moved: 0,
                    suppress_length: ccw.flags & flag::SUPPRESS_LENGTH != 0,
                    ignore_length: false,
                };
                return Ok((ccw, transfer));
            }
            ccw = self.fetch_after_transfers(false)?;
            // A CCW fetched by data chaining must have a count and may not suspend.
            if ccw.count == 0 || ccw.flags & flag::SUSPEND != 0 {
                return Err(EndKind::ProgramCheck);
            }
        }
        Err(EndKind::ProgramCheck)
    }

    fn areas(&self, ccw: Ccw, areas: &mut Vec<Area>) -> Result<(), EndKind> {
        let skip = ccw.flags & flag::SKIP != 0;
        if ccw.flags & flag::INDIRECT == 0 {
            areas.push(Area { addr: u64::from(ccw.addr), len: u32::from(ccw.count), skip });
            return Ok(());
        }
        let ctrl = self.orb.ctrl0.get();
        let wide = ctrl & orb::IDAW2 != 0;
        let block: u64 = if wide && ctrl & orb::IDAW2_2K == 0 { 4096 } else { 2048 };
        let size = if wide { 8 } else { 4 };
        if !u64::from(ccw.addr).is_multiple_of(size) {
            return Err(EndKind::ProgramCheck);
        }
        let mut left = u64::from(ccw.count);
        let mut list = u64::from(ccw.addr);
        let mut first = true;
        while left > 0 {
            let mut word = [0; 8];
            access::read(self.mem, list, &mut word[8 - size as usize..])?;
            let addr = u64::from_be_bytes(word);
            let misaligned = !first && addr % block != 0;
            if misaligned || (!wide && addr > 0x7fff_ffff) {
                return Err(EndKind::ProgramCheck);
            }
            let len = left.min(block - addr % block);
            areas.push(Area { addr, len: len as u32, skip });
            left -= len;
            list += size;
            first = false;
        }
        Ok(())
    }

    fn is_transfer(&self, ccw: Ccw) -> bool {
        ccw.command & 0x0f == command::TRANSFER
    }

    fn format1(&self) -> bool {
        self.orb.ctrl0.get() & orb::FORMAT1 != 0
    }
}

fn write_up_to<M: GuestMemory>(transfer: &mut Transfer<'_, M>, data: &[u8]) -> Result<(), CommandError> {
    let count = data.len().min(transfer.count() as usize);
    transfer.write(&data[..count])?;
    // Fewer bytes than the device has are an incorrect length as well.
    if count < data.len() && !transfer.suppresses_length() {
        Err(CommandError::IncorrectLength)
    } else {
        Ok(())
    }
}

fn sense_id_bytes(id: &SenseId) -> [u8; 7] {
    let [cu_hi, cu_lo] = id.control_unit.to_be_bytes();
    let [dev_hi, dev_lo] = id.device.to_be_bytes();
    [0xff, cu_hi, cu_lo, id.control_unit_model, dev_hi, dev_lo, id.device_model]
}
