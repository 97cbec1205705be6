//! The channel subsystem: subchannels, the I/O instructions, channel programs, path management (z/Architecture
//! Principles of Operation, SA22-7832, chapters 13 to 17). One channel-subsystem image, `fe`, which guests see as
//! image 0, with up to four subchannel sets.
//!
//! Instructions come in with their register values and fetched operand blocks; channel programs read guest storage
//! through the host view. Pending interruptions are queued by the CPU side: TEST PENDING INTERRUPTION is not here.
//! Programs run to their end inside START SUBCHANNEL, so that halt and cancel find nothing to stop but suspensions.

mod chsc;
mod device;
pub mod layout;
mod program;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use vm_memory::GuestMemory;
use zerocopy::{FromBytes, IntoBytes};

use crate::Error;
use crate::interrupt::{HostInterrupt, InterruptSink, Outcome};
pub use device::{CcwDevice, CommandError, DeviceState, SenseId, Signals};
use layout::{Irb, Orb, Pmcw, Schib, Scsw, orb, pmcw, scsw};
pub use program::{CCW_LIMIT, Transfer};
use program::{End, EndKind};

/// The channel-subsystem image of virtual devices.
pub const VIRTUAL_CSSID: u8 = 0xfe;

/// The type of the one channel path, 0x00, that all virtual devices share.
const VIRTUAL_CHPID_TYPE: u8 = 0x32;
const MAX_SSID: u8 = 3;
const CRW_LIMIT: usize = 64;
/// `-EINVAL`, the answer to a doorbell that reaches nothing.
const EINVAL: i64 = 22;

/// Which subchannel: set and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SubchannelId {
    /// Subchannel set, 0-3.
    pub ssid: u8,
    /// Subchannel number.
    pub nr: u16,
}

impl SubchannelId {
    /// The subsystem-identification word of general register 1 and of lowcore 0xb8.
    pub fn word(self) -> u32 {
        u32::from(self.half()) << 16 | u32::from(self.nr)
    }

    /// Parses general register 1.
    ///
    /// # Errors
    /// Operand exception: bit 15 is not one, or another image is named without being enabled.
    pub fn parse(gr1: u64) -> Result<Self, Outcome> {
        let word = (gr1 & 0xffff_ffff) as u32;
        let names_image = word & 0x0008_0000 != 0;
        if word & 0x0001_0000 == 0 || names_image || word & 0xfff0_0000 != 0 {
            return Err(Outcome::OPERAND);
        }
        Ok(Self { ssid: (word >> 17 & 3) as u8, nr: (word & 0xffff) as u16 })
    }

    fn half(self) -> u16 {
        1 | u16::from(self.ssid) << 1
    }
}

/// Device number of a device: subchannel set and number, written `fe.0.0001`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DeviceNumber {
    /// Subchannel set.
    pub ssid: u8,
    /// Device number.
    pub devno: u16,
}

impl std::str::FromStr for DeviceNumber {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let fail = || Error::DeviceNumber(text.to_owned());
        let mut parts = text.split('.');
        let (Some(css), Some(ssid), Some(devno), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(fail());
        };
        let css = u8::from_str_radix(css, 16).map_err(|_| fail())?;
        let ssid = u8::from_str_radix(ssid, 16).map_err(|_| fail())?;
        let devno = u16::from_str_radix(devno, 16).map_err(|_| fail())?;
        if css != VIRTUAL_CSSID || ssid > MAX_SSID { Err(fail()) } else { Ok(Self { ssid, devno }) }
    }
}

impl std::fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{VIRTUAL_CSSID:x}.{:x}.{:04x}", self.ssid, self.devno)
    }
}

/// The channel subsystem with its devices.
pub struct ChannelSubsystem<M: GuestMemory> {
    sink: Arc<dyn InterruptSink>,
    subchannels: BTreeMap<SubchannelId, Subchannel<M>>,
    multiple_sets: bool,
    reports: VecDeque<u32>,
}

struct Subchannel<M: GuestMemory> {
    id: SubchannelId,
    device: Box<dyn CcwDevice<M>>,
    regs: Registers,
}

/// The architected state of a subchannel.
#[derive(Clone, Copy, Default)]
struct Registers {
    pmcw: Pmcw,
    scsw: Scsw,
    orb: Orb,
    sense: [u8; 32],
    mba: [u8; 8],
    /// Where RESUME SUBCHANNEL continues.
    suspended_at: u32,
}

/// Saved state of the channel subsystem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CssState {
    /// Version of this structure.
    pub version: u16,
    /// Multiple subchannel sets are enabled.
    pub multiple_sets: bool,
    /// Pending channel reports.
    pub reports: Vec<u32>,
    /// The subchannels.
    pub subchannels: Vec<SubchannelState>,
}

/// Saved state of a subchannel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubchannelState {
    /// Which one.
    pub id: SubchannelId,
    /// Path-management-control word as in storage.
    pub pmcw: [u8; 28],
    /// Subchannel-status word as in storage.
    pub scsw: [u8; 12],
    /// The operation-request block of the last start.
    pub orb: [u8; 12],
    /// Sense data.
    pub sense: [u8; 32],
    /// Measurement-block address.
    pub mba: [u8; 8],
    /// Where a suspended program continues.
    pub suspended_at: u32,
    /// The device.
    pub device: DeviceState,
}

impl<M: GuestMemory> ChannelSubsystem<M> {
    /// A channel subsystem without devices.
    pub fn new(sink: Arc<dyn InterruptSink>) -> Self {
        Self { sink, subchannels: BTreeMap::new(), multiple_sets: false, reports: VecDeque::new() }
    }

    /// Attaches a device to the first free subchannel, under the wanted device number or the first free one of set 0.
    ///
    /// # Errors
    /// The device number is taken, or nothing is free.
    pub fn attach(
        &mut self,
        wanted: Option<DeviceNumber>,
        device: Box<dyn CcwDevice<M>>,
    ) -> Result<(SubchannelId, DeviceNumber), Error> {
        let ssid = wanted.map_or(0, |w| w.ssid & MAX_SSID);
        let used: BTreeSet<u16> = self
            .subchannels
            .values()
            .filter(|s| s.id.ssid == ssid)
            .map(|s| s.regs.pmcw.devno.get())
            .collect();
        let nr = (0..=u16::MAX)
            .find(|&nr| !self.subchannels.contains_key(&SubchannelId { ssid, nr }))
            .ok_or(Error::NoFreeSubchannel(ssid))?;
        let devno = match wanted {
            Some(w) if used.contains(&w.devno) => {
                return Err(Error::DeviceNumberInUse { ssid, devno: w.devno });
            }
            Some(w) => w.devno,
            None => (0..=u16::MAX).find(|d| !used.contains(d)).ok_or(Error::NoFreeSubchannel(ssid))?,
        };
        let id = SubchannelId { ssid, nr };
        let mut regs = Registers::default();
        regs.pmcw.devno = devno.into();
        regs.reset();
        self.subchannels.insert(id, Subchannel { id, device, regs });
        Ok((id, DeviceNumber { ssid, devno }))
    }

    /// Attaches a device to the running machine: the guest is told with a channel report.
    ///
    /// # Errors
    /// As [`attach`](Self::attach).
    pub fn plug(
        &mut self,
        wanted: Option<DeviceNumber>,
        device: Box<dyn CcwDevice<M>>,
    ) -> Result<(SubchannelId, DeviceNumber), Error> {
        let attached = self.attach(wanted, device)?;
        self.report_subchannel(attached.0);
        Ok(attached)
    }

    /// Takes a device away from the running machine: the guest is told with a channel report. Returns false if there
    /// is none.
    pub fn unplug(&mut self, id: SubchannelId) -> bool {
        if self.subchannels.remove(&id).is_none() {
            return false;
        }
        self.sink.withdraw_io(id.half(), id.nr);
        self.report_subchannel(id);
        true
    }

    /// The subchannel of a device number.
    pub fn find(&self, number: DeviceNumber) -> Option<SubchannelId> {
        self.subchannels
            .values()
            .find(|s| s.id.ssid == number.ssid && s.regs.pmcw.devno.get() == number.devno)
            .map(|s| s.id)
    }

    /// All subchannels with their device numbers, in order.
    pub fn devices(&self) -> impl Iterator<Item = (SubchannelId, DeviceNumber)> {
        self.subchannels
            .values()
            .map(|s| (s.id, DeviceNumber { ssid: s.id.ssid, devno: s.regs.pmcw.devno.get() }))
    }

    /// START SUBCHANNEL with its operation-request block (at least 12 bytes).
    pub fn ssch(&mut self, mem: &M, gr1: u64, block: &[u8]) -> Outcome {
        let id = match SubchannelId::parse(gr1) {
            Ok(id) => id,
            Err(exception) => return exception,
        };
        let Ok((request, _)) = Orb::read_from_prefix(block) else {
            return Outcome::OPERAND;
        };
        if request.ctrl0.get() & orb::TRANSPORT != 0
            || request.ctrl1 & orb::CTRL1_RESERVED != 0
            || request.cpa.get() & 0x8000_0000 != 0
        {
            return Outcome::OPERAND;
        }
        let sink = Arc::clone(&self.sink);
        let Some(sch) = self.operational(id) else { return Outcome::Cc(3) };
        let ctrl = sch.regs.scsw.ctrl.get();
        if ctrl & scsw::PENDING != 0 {
            return Outcome::Cc(1);
        }
        if ctrl & scsw::FCTL != 0 {
            return Outcome::Cc(2);
        }
        let p = &mut sch.regs.pmcw;
        let paths = request.lpm & p.lpm & p.pim & p.pam & p.pom;
        if paths == 0 {
            return Outcome::Cc(3);
        }
        p.lpum = 0x80 >> paths.leading_zeros();
        p.intparm = request.intparm;
        sch.regs.orb = request;
        sch.regs.scsw = Scsw {
            flags: (request.ctrl0.get() & scsw::FROM_ORB).into(),
            ctrl: scsw::START.into(),
            ..Scsw::default()
        };
        sch.run(mem, request.cpa.get(), false, &*sink);
        Outcome::Cc(0)
    }

    /// RESUME SUBCHANNEL.
    pub fn rsch(&mut self, mem: &M, gr1: u64) -> Outcome {
        let sink = Arc::clone(&self.sink);
        let id = match SubchannelId::parse(gr1) {
            Ok(id) => id,
            Err(exception) => return exception,
        };
        let Some(sch) = self.operational(id) else { return Outcome::Cc(3) };
        let ctrl = sch.regs.scsw.ctrl.get();
        if ctrl & scsw::PENDING != 0 {
            return Outcome::Cc(1);
        }
        if ctrl & scsw::FCTL != scsw::START || ctrl & scsw::SUSPENDED == 0 {
            return Outcome::Cc(2);
        }
        sch.regs.scsw.ctrl = scsw::START.into();
        sch.run(mem, sch.regs.suspended_at, true, &*sink);
        Outcome::Cc(0)
    }

    /// MODIFY SUBCHANNEL with a subchannel-information block (52 bytes).
    pub fn msch(&mut self, gr1: u64, block: &[u8]) -> Outcome {
        let id = match SubchannelId::parse(gr1) {
            Ok(id) => id,
            Err(exception) => return exception,
        };
        let Ok((schib, _)) = Schib::read_from_prefix(block) else {
            return Outcome::OPERAND;
        };
        let new = schib.pmcw;
        let flags = new.flags.get();
        let chars = new.chars.get();
        if flags & pmcw::RESERVED != 0
            || flags & pmcw::LIMIT == pmcw::LIMIT
            || chars & (pmcw::CHARS_RESERVED | pmcw::CHARS_XMWM) != 0
        {
            return Outcome::OPERAND;
        }
        let Some(sch) = self.visible(id) else { return Outcome::Cc(3) };
        if sch.regs.pmcw.flags.get() & pmcw::VALID == 0 {
            return Outcome::Cc(0);
        }
        let ctrl = sch.regs.scsw.ctrl.get();
        if ctrl & scsw::PENDING != 0 {
            return Outcome::Cc(1);
        }
        if ctrl & scsw::FCTL != 0 {
            return Outcome::Cc(2);
        }
        const CHANGEABLE: u16 = pmcw::ISC | pmcw::ENABLED | pmcw::LIMIT | pmcw::MEASURE | pmcw::MULTIPATH;
        const CHARS: u32 = pmcw::CHARS_MBFC | pmcw::CHARS_CSENSE;
        let old = &mut sch.regs.pmcw;
        let was_enabled = old.flags.get() & pmcw::ENABLED != 0;
        old.intparm = new.intparm;
        old.flags = (old.flags.get() & !CHANGEABLE | flags & CHANGEABLE).into();
        old.lpm = new.lpm;
        old.mbi = new.mbi;
        old.pom = new.pom;
        old.chars = (old.chars.get() & !CHARS | chars & CHARS).into();
        sch.regs.mba = schib.mba;
        if was_enabled && flags & pmcw::ENABLED == 0 {
            sch.device.disabled();
        }
        Outcome::Cc(0)
    }

    /// STORE SUBCHANNEL: the block to store with condition code 0.
    pub fn stsch(&mut self, gr1: u64) -> (Outcome, Option<[u8; 52]>) {
        let id = match SubchannelId::parse(gr1) {
            Ok(id) => id,
            Err(exception) => return (exception, None),
        };
        match self.visible(id) {
            Some(sch) => {
                let schib =
                    Schib { pmcw: sch.regs.pmcw, scsw: sch.regs.scsw, mba: sch.regs.mba, mda: [0; 4] };
                (Outcome::Cc(0), schib.as_bytes().first_chunk().copied())
            }
            None => (Outcome::Cc(3), None),
        }
    }

    /// TEST SUBCHANNEL: the block to store with condition code 0 or 1. The status is cleared.
    pub fn tsch(&mut self, gr1: u64) -> (Outcome, Option<[u8; 64]>) {
        let id = match SubchannelId::parse(gr1) {
            Ok(id) => id,
            Err(exception) => return (exception, None),
        };
        let sink = Arc::clone(&self.sink);
        let Some(sch) = self.operational(id) else { return (Outcome::Cc(3), None) };
        let irb = sch.regs.irb();
        let cc = if sch.regs.clear_status() {
            sink.withdraw_io(id.half(), id.nr);
            0
        } else {
            1
        };
        (Outcome::Cc(cc), irb.as_bytes().first_chunk().copied())
    }

    /// CLEAR SUBCHANNEL.
    pub fn csch(&mut self, gr1: u64) -> Outcome {
        let id = match SubchannelId::parse(gr1) {
            Ok(id) => id,
            Err(exception) => return exception,
        };
        let sink = Arc::clone(&self.sink);
        let Some(sch) = self.operational(id) else { return Outcome::Cc(3) };
        sink.withdraw_io(id.half(), id.nr);
        sch.regs.pmcw.pom = 0xff;
        sch.regs.pmcw.pnom = 0;
        sch.regs.sense = [0; 32];
        sch.regs.scsw = Scsw { ctrl: (scsw::CLEAR | scsw::PENDING).into(), ..Scsw::default() };
        sch.interrupt(&*sink);
        Outcome::Cc(0)
    }

    /// HALT SUBCHANNEL.
    pub fn hsch(&mut self, gr1: u64) -> Outcome {
        let id = match SubchannelId::parse(gr1) {
            Ok(id) => id,
            Err(exception) => return exception,
        };
        let sink = Arc::clone(&self.sink);
        let Some(sch) = self.operational(id) else { return Outcome::Cc(3) };
        let ctrl = sch.regs.scsw.ctrl.get();
        let alone = ctrl & scsw::STCTL == scsw::PENDING;
        if alone || ctrl & scsw::PENDING != 0 && ctrl & (scsw::ALERT | scsw::PRIMARY | scsw::SECONDARY) != 0 {
            return Outcome::Cc(1);
        }
        if ctrl & (scsw::HALT | scsw::CLEAR) != 0 {
            return Outcome::Cc(2);
        }
        let mut status = scsw::HALT | scsw::PENDING | ctrl & scsw::START;
        if ctrl & scsw::START != 0 {
            status |= scsw::PRIMARY | scsw::SECONDARY;
        }
        sch.regs.scsw.ctrl = status.into();
        sch.interrupt(&*sink);
        Outcome::Cc(0)
    }

    /// CANCEL SUBCHANNEL.
    pub fn xsch(&mut self, gr1: u64) -> Outcome {
        let id = match SubchannelId::parse(gr1) {
            Ok(id) => id,
            Err(exception) => return exception,
        };
        let Some(sch) = self.operational(id) else { return Outcome::Cc(3) };
        let ctrl = sch.regs.scsw.ctrl.get();
        if ctrl & scsw::PENDING != 0 {
            return Outcome::Cc(1);
        }
        if ctrl & scsw::SUSPENDED == 0 {
            return Outcome::Cc(2);
        }
        sch.regs.scsw = Scsw::default();
        Outcome::Cc(0)
    }

    /// STORE CHANNEL REPORT WORD: the word to store.
    pub fn stcrw(&mut self) -> (Outcome, [u8; 4]) {
        match self.reports.pop_front() {
            Some(report) => (Outcome::Cc(0), report.to_be_bytes()),
            None => (Outcome::Cc(1), [0; 4]),
        }
    }

    /// SET CHANNEL MONITOR: accepted, nothing is measured.
    pub fn schm(&mut self, gr1: u64, gr2: u64) -> Outcome {
        if gr1 & 0x0fff_fffc != 0 || gr1 & 2 != 0 && gr2 & 0x1f != 0 {
            Outcome::OPERAND
        } else {
            Outcome::Done
        }
    }

    /// RESET CHANNEL PATH.
    pub fn rchp(&mut self, gr1: u64) -> Outcome {
        if gr1 & 0xff00_ff00 != 0 || gr1 & 0x00ff_0000 != 0 {
            return Outcome::OPERAND;
        }
        if gr1 & 0xff != 0 {
            return Outcome::Cc(3);
        }
        // Solicited, reporting source: channel path, initialised.
        self.report(0x4402_0000);
        Outcome::Cc(0)
    }

    /// SET ADDRESS LIMIT: checked, no limit is applied.
    pub fn sal(&mut self, gr1: u64) -> Outcome {
        if gr1 & 0x8000_ffff != 0 { Outcome::OPERAND } else { Outcome::Done }
    }

    /// CHANNEL SUBSYSTEM CALL: the request block in, the whole 4 KiB block with the response out.
    pub fn chsc(&mut self, block: &mut Vec<u8>) -> Outcome {
        chsc::call(block, &mut self.multiple_sets)
    }

    /// DIAGNOSE 0x500 subcode 3, the doorbell of virtio-ccw (virtio 1.2, 4.3.3.2): the cookie for the next call.
    ///
    /// # Errors
    /// The negative error number for general register 2.
    pub fn notify(&mut self, mem: &M, subchannel: u64, queue: u64, cookie: u64) -> Result<i64, i64> {
        let id = SubchannelId::parse(subchannel).map_err(|_| -EINVAL)?;
        let queue = u16::try_from(queue).map_err(|_| -EINVAL)?;
        // Subchannels are found quickly enough without a cookie.
        let _ = cookie;
        if self.process_queue(mem, id, queue) { Ok(0) } else { Err(-EINVAL) }
    }

    /// Works off one queue of a device and delivers its interruptions. Doorbells do this at once; a machine with I/O
    /// threads may call it from there. Returns false if the device or queue does not exist.
    pub fn process_queue(&mut self, mem: &M, id: SubchannelId, queue: u16) -> bool {
        let sink = Arc::clone(&self.sink);
        let Some(sch) = self.visible(id) else { return false };
        let mut signals = Signals::default();
        let found = sch.device.notify(mem, queue, &mut signals);
        sch.deliver(signals, &*sink);
        found
    }

    /// Calls a device that has something to do on its own account, and delivers its interruptions. Nothing happens if it
    /// is gone.
    pub fn host_event(&mut self, mem: &M, id: SubchannelId) {
        let sink = Arc::clone(&self.sink);
        if let Some(sch) = self.subchannels.get_mut(&id) {
            let mut signals = Signals::default();
            sch.device.host_event(mem, &mut signals);
            sch.deliver(signals, &*sink);
        }
    }

    /// Subsystem reset: every subchannel and device as after power-on.
    pub fn reset(&mut self) {
        self.multiple_sets = false;
        self.reports.clear();
        for sch in self.subchannels.values_mut() {
            self.sink.withdraw_io(sch.id.half(), sch.id.nr);
            sch.regs.reset();
            sch.device.reset();
        }
    }

    /// The state to save.
    pub fn save(&self) -> CssState {
        CssState {
            version: 1,
            multiple_sets: self.multiple_sets,
            reports: self.reports.iter().copied().collect(),
            subchannels: self.subchannels.values().map(Subchannel::save).collect(),
        }
    }

    /// Continues from a saved state of a machine with the same devices.
    ///
    /// # Errors
    /// Version or devices differ.
    pub fn restore(&mut self, state: CssState) -> Result<(), Error> {
        let fail = |reason: String| Error::State { device: "the channel subsystem", reason };
        if state.version != 1 {
            return Err(fail(format!("state version {} is unknown", state.version)));
        }
        if state.subchannels.len() != self.subchannels.len() {
            return Err(fail(format!(
                "{} subchannels were saved, the machine has {}",
                state.subchannels.len(),
                self.subchannels.len()
            )));
        }
        for saved in state.subchannels {
            let sch = self
                .subchannels
                .get_mut(&saved.id)
                .ok_or_else(|| fail(format!("subchannel {:#010x} does not exist", saved.id.word())))?;
            sch.restore(saved)?;
        }
        self.multiple_sets = state.multiple_sets;
        self.reports = state.reports.into();
        Ok(())
    }

    /// Channel reports that a subchannel came or went: "installed parameters initialized", and with multiple sets a
    /// chained word with the set (SA22-7832, chapter 17, "Channel-Report Word").
    fn report_subchannel(&mut self, id: SubchannelId) {
        const CHAINED: u32 = 1 << 29;
        const SUBCHANNEL: u32 = 3 << 24;
        const PARAMETERS_INITIALIZED: u32 = 4 << 16;
        let word = SUBCHANNEL | PARAMETERS_INITIALIZED;
        if self.multiple_sets {
            self.report(word | CHAINED | u32::from(id.nr));
            self.report(word | u32::from(id.ssid) << 4);
        } else if id.ssid == 0 {
            self.report(word | u32::from(id.nr));
        }
    }

    fn report(&mut self, word: u32) {
        tracing::trace!(target: "css_crw", word = format_args!("{word:#010x}"));
        if self.reports.len() < CRW_LIMIT {
            self.reports.push_back(word);
        }
        self.sink.raise(HostInterrupt::ChannelReport);
    }

    fn visible(&mut self, id: SubchannelId) -> Option<&mut Subchannel<M>> {
        if id.ssid > 0 && !self.multiple_sets {
            return None;
        }
        self.subchannels.get_mut(&id)
    }

    fn operational(&mut self, id: SubchannelId) -> Option<&mut Subchannel<M>> {
        const NEEDED: u16 = pmcw::VALID | pmcw::ENABLED;
        self.visible(id).filter(|s| s.regs.pmcw.flags.get() & NEEDED == NEEDED)
    }
}

impl<M: GuestMemory> Subchannel<M> {
    fn run(&mut self, mem: &M, address: u32, resumed: bool, sink: &dyn InterruptSink) {
        let mut signals = Signals::default();
        let regs = &mut self.regs;
        let end =
            program::run(mem, &regs.orb, address, resumed, &mut *self.device, &mut regs.sense, &mut signals);
        if let EndKind::Suspended { at } = end.kind {
            regs.suspended_at = at;
        }
        if end.kind != EndKind::Normal {
            tracing::debug!(
                subchannel = format_args!("{:#010x}", self.id.word()),
                ccw = format_args!("{:#x}", end.next.wrapping_sub(8)),
                "a channel program ended with {:?}",
                end.kind
            );
        }
        if regs.finish(end) {
            self.interrupt(sink);
        }
        self.deliver(signals, sink);
    }

    /// Raises the I/O interruption of the current status.
    fn interrupt(&self, sink: &dyn InterruptSink) {
        let isc = u32::from(self.regs.pmcw.flags.get() & pmcw::ISC) >> 11;
        sink.raise(HostInterrupt::Io {
            subchannel_id: self.id.half(),
            nr: self.id.nr,
            parameter: self.regs.pmcw.intparm.get(),
            word: isc << 27,
        });
    }

    fn deliver(&mut self, signals: Signals, sink: &dyn InterruptSink) {
        for isc in (0..8).filter(|isc| signals.adapter & 1 << isc != 0) {
            sink.raise(HostInterrupt::Adapter { isc });
        }
        let ctrl = self.regs.scsw.ctrl.get();
        let enabled = self.regs.pmcw.flags.get() & pmcw::ENABLED != 0;
        if signals.alert && enabled && ctrl & scsw::PENDING == 0 {
            self.regs.scsw.ctrl = (ctrl & !scsw::STCTL | scsw::ALERT | scsw::PENDING).into();
            (self.regs.scsw.dstat, self.regs.scsw.cstat) = (0, 0);
            self.interrupt(sink);
        }
    }

    fn save(&self) -> SubchannelState {
        let regs = &self.regs;
        SubchannelState {
            id: self.id,
            pmcw: zerocopy::transmute!(regs.pmcw),
            scsw: zerocopy::transmute!(regs.scsw),
            orb: zerocopy::transmute!(regs.orb),
            sense: regs.sense,
            mba: regs.mba,
            suspended_at: regs.suspended_at,
            device: self.device.save(),
        }
    }

    fn restore(&mut self, state: SubchannelState) -> Result<(), Error> {
        self.device.restore(state.device)?;
        self.regs = Registers {
            pmcw: zerocopy::transmute!(state.pmcw),
            scsw: zerocopy::transmute!(state.scsw),
            orb: zerocopy::transmute!(state.orb),
            sense: state.sense,
            mba: state.mba,
            suspended_at: state.suspended_at,
        };
        Ok(())
    }
}

impl Registers {
    fn reset(&mut self) {
        let devno = self.pmcw.devno;
        *self = Self::default();
        self.pmcw = Pmcw {
            flags: pmcw::VALID.into(),
            devno,
            lpm: 0x80,
            pim: 0x80,
            pom: 0xff,
            pam: 0x80,
            ..Pmcw::default()
        };
    }

    /// Turns the end of a channel program into status. Returns whether an interruption is due.
    fn finish(&mut self, end: End) -> bool {
        let s = &mut self.scsw;
        let fctl = s.ctrl.get() & scsw::FCTL;
        let ended = scsw::PRIMARY | scsw::SECONDARY | scsw::PENDING;
        let (stctl, dstat, cstat) = match end.kind {
            EndKind::Suspended { at } => {
                s.cpa = at.wrapping_add(8).into();
                let quiet = self.orb.ctrl0.get() & orb::SUPPRESS != 0;
                let stctl = if quiet { 0 } else { scsw::INTERMEDIATE | scsw::PENDING };
                s.ctrl = (fctl | scsw::SUSPENDED | stctl).into();
                return !quiet;
            }
            EndKind::Normal => (ended, scsw::DSTAT_END, 0),
            EndKind::Length => (ended | scsw::ALERT, scsw::DSTAT_END, scsw::CSTAT_LENGTH),
            EndKind::CommandReject => (ended | scsw::ALERT, scsw::DSTAT_END | scsw::DSTAT_UNIT_CHECK, 0),
            EndKind::ProgramCheck => (ended | scsw::ALERT, 0, scsw::CSTAT_PROGRAM),
            EndKind::ProtectionCheck => (ended | scsw::ALERT, 0, scsw::CSTAT_PROTECTION),
        };
        s.ctrl = (fctl | stctl).into();
        s.cpa = end.next.into();
        s.dstat = dstat;
        s.cstat = cstat | if end.pci { scsw::CSTAT_PCI } else { 0 };
        s.count = end.residual.into();
        true
    }

    fn irb(&self) -> Irb {
        let mut irb = Irb { scsw: self.scsw, ..Irb::default() };
        let concurrent = self.pmcw.chars.get() & pmcw::CHARS_CSENSE != 0;
        let pending = self.scsw.ctrl.get() & scsw::PENDING != 0;
        irb.esw[0] = (u32::from(self.pmcw.lpum) << 16).into();
        if pending && concurrent && self.scsw.dstat & scsw::DSTAT_UNIT_CHECK != 0 {
            irb.scsw.flags = (self.scsw.flags.get() | scsw::ESW_FORMAT | scsw::EXTENDED).into();
            // Extended-report word: concurrent sense with 32 bytes.
            irb.esw[1] = 0x0120_0000.into();
            irb.ecw = self.sense;
        }
        irb
    }

    /// What TEST SUBCHANNEL clears (SA22-7832, chapter 14). Returns whether status was pending.
    fn clear_status(&mut self) -> bool {
        let ctrl = self.scsw.ctrl.get();
        if ctrl & scsw::PENDING == 0 {
            return false;
        }
        let intermediate = ctrl & scsw::STCTL == scsw::INTERMEDIATE | scsw::PENDING;
        let mut left = ctrl & !scsw::STCTL;
        if !intermediate {
            left &= !(scsw::FCTL
                | scsw::RESUME_PENDING
                | scsw::START_PENDING
                | scsw::HALT_PENDING
                | scsw::CLEAR_PENDING
                | scsw::SUSPENDED);
            self.scsw.flags = (self.scsw.flags.get() & !scsw::PNO).into();
        }
        self.scsw.ctrl = left.into();
        if self.pmcw.chars.get() & pmcw::CHARS_CSENSE != 0 {
            self.sense = [0; 32];
        }
        // Device and subchannel status stay until the next function: whoever polls reads them again with condition
        // code 1.
        true
    }
}
