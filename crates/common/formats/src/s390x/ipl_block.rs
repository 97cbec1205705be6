//! The IPL parameter block that DIAGNOSE 308 sets and stores.
//!
//! Parsing gives a block that obeys the rules of its type. Where the block lies and who may read it is
//! not decided here.

use super::PAGE_SIZE;
use super::se_image::TweakPref;
use crate::codec::{Error, get, need, put};

/// A block lies in one page and cannot be longer.
pub const MAX_SIZE: usize = PAGE_SIZE;
/// An SE header may have two pages.
pub const MAX_PV_HEADER_SIZE: u64 = 2 * PAGE_SIZE as u64;

const WHAT: &str = "IPL parameter block";
const HEADER_VERSION: u8 = 1;
const PV_VERSION: u8 = 1;
/// Bytes before block 0, which its length does not count.
const COMMON_SIZE: usize = 8;
const FCP_MIN: usize = 384;
const CCW_SIZE: usize = 200;
const PV_FIXED: usize = 0x88;
const PV_MIN: usize = 148;
const COMPONENT_SIZE: usize = 24;
/// Flag of block 0: the load parameter is valid.
const LOADPARM_VALID: u8 = 0x80;

/// A valid block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IplBlock {
    /// Flags of the header: 0x80 IPLPS, 0x40 secure IPL.
    pub header_flags: u8,
    /// The load parameter in EBCDIC, if marked valid.
    pub loadparm: Option<[u8; 8]>,
    /// What to load from.
    pub kind: IplKind,
}

/// What a block loads from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IplKind {
    /// A channel-attached device (type 0x02).
    Ccw {
        /// Subchannel set.
        ssid: u8,
        /// Device number.
        devno: u16,
    },
    /// A SCSI disk behind a virtio adapter (type 0xff, defined by QEMU).
    QemuScsi {
        /// Logical unit.
        lun: u32,
        /// Target.
        target: u16,
        /// Channel.
        channel: u16,
        /// Subchannel set of the adapter.
        ssid: u8,
        /// Device number of the adapter.
        devno: u16,
    },
    /// A protected guest (type 0x05).
    Pv(PvBlock),
    /// A type that this project does not load from, kept as it is: FCP, ECKD, NVMe.
    Other(Vec<u8>),
}

/// The description of a protected guest. See [`PvBlock::check`] for its rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PvBlock {
    /// Absolute address of the SE header.
    pub header_addr: u64,
    /// Bytes of the SE header.
    pub header_size: u64,
    /// The encrypted components.
    pub components: Vec<PvComponent>,
}

/// An encrypted component in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PvComponent {
    /// Tweak of its first page is {prefix, 0}.
    pub tweak_pref: TweakPref,
    /// Absolute address, page aligned.
    pub addr: u64,
    /// Bytes; the last page counts as a whole.
    pub size: u64,
}

/// Type byte of block 0.
pub mod kind {
    /// SCSI over Fibre Channel.
    pub const FCP: u8 = 0x00;
    /// Channel-attached device.
    pub const CCW: u8 = 0x02;
    /// ECKD list-directed.
    pub const ECKD: u8 = 0x03;
    /// NVMe.
    pub const NVME: u8 = 0x04;
    /// Protected guest.
    pub const PV: u8 = 0x05;
    /// QEMU's own SCSI.
    pub const QEMU_SCSI: u8 = 0xff;
}

impl IplBlock {
    /// A protected-guest block without flags.
    pub const fn pv(block: PvBlock) -> Self {
        Self { header_flags: 0, loadparm: None, kind: IplKind::Pv(block) }
    }

    /// Reads a block from the start of `bytes`, usually a page.
    ///
    /// # Errors
    /// If a length, a type or a rule of the type does not fit.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        need(WHAT, bytes, 0x18)?;
        let total = get::<u32>(bytes, 0) as usize;
        let field = |field, found: u64, rule| Error::Field { what: WHAT, field, found, rule };
        if total > MAX_SIZE {
            return Err(field("total length", total as u64, "a block has at most 4096 bytes"));
        }
        let version: u8 = get(bytes, 7);
        if version != HEADER_VERSION {
            return Err(Error::Version {
                what: WHAT,
                found: version.into(),
                supported: HEADER_VERSION.into(),
            });
        }
        let pbt: u8 = get(bytes, 0x0c);
        let minimum = match pbt {
            kind::FCP => FCP_MIN,
            kind::PV => PV_MIN,
            _ => CCW_SIZE,
        };
        if total < minimum {
            return Err(field("total length", total as u64, "its type needs more"));
        }
        need(WHAT, bytes, total)?;
        let bytes = &bytes[..total];
        let block0 = get::<u32>(bytes, 8) as usize;
        if block0 > total - COMMON_SIZE {
            return Err(field("length of block 0", block0 as u64, "it must fit into the total length"));
        }
        let kind = match pbt {
            kind::CCW => IplKind::Ccw { ssid: get(bytes, 0x6d), devno: get(bytes, 0x6e) },
            kind::QEMU_SCSI => IplKind::QemuScsi {
                lun: get(bytes, 0x18),
                target: get(bytes, 0x1c),
                channel: get(bytes, 0x1e),
                ssid: get(bytes, 0x6d),
                devno: get(bytes, 0x6e),
            },
            kind::PV => IplKind::Pv(PvBlock::parse(bytes)?),
            kind::FCP | kind::ECKD | kind::NVME => {
                return Ok(Self { header_flags: 0, loadparm: None, kind: IplKind::Other(bytes.to_vec()) });
            }
            _ => return Err(field("type", pbt.into(), "it is none of 00, 02, 03, 04, 05, ff")),
        };
        let loadparm = (get::<u8>(bytes, 0x0d) & LOADPARM_VALID != 0).then(|| get(bytes, 0x10));
        Ok(Self { header_flags: get(bytes, 4), loadparm, kind })
    }

    /// The bytes of the block.
    pub fn encode(&self) -> Vec<u8> {
        let (pbt, size) = match &self.kind {
            IplKind::Ccw { .. } => (kind::CCW, CCW_SIZE),
            IplKind::QemuScsi { .. } => (kind::QEMU_SCSI, CCW_SIZE),
            IplKind::Pv(block) => (kind::PV, PV_FIXED + block.components.len() * COMPONENT_SIZE),
            IplKind::Other(bytes) => return bytes.clone(),
        };
        let mut out = vec![0; size];
        put(&mut out, 0, &(size as u32));
        put(&mut out, 4, &self.header_flags);
        put(&mut out, 7, &HEADER_VERSION);
        put(&mut out, 8, &((size - COMMON_SIZE) as u32));
        put(&mut out, 0x0c, &pbt);
        if let Some(loadparm) = &self.loadparm {
            put(&mut out, 0x0d, &LOADPARM_VALID);
            put(&mut out, 0x10, loadparm);
        }
        match &self.kind {
            IplKind::Ccw { ssid, devno } => {
                put(&mut out, 0x6d, ssid);
                put(&mut out, 0x6e, devno);
            }
            IplKind::QemuScsi { lun, target, channel, ssid, devno } => {
                put(&mut out, 0x18, lun);
                put(&mut out, 0x1c, target);
                put(&mut out, 0x1e, channel);
                put(&mut out, 0x6d, ssid);
                put(&mut out, 0x6e, devno);
            }
            IplKind::Pv(block) => block.encode_into(&mut out),
            IplKind::Other(_) => {}
        }
        out
    }
}

impl PvBlock {
    /// The most components that fit into a block.
    pub const MAX_COMPONENTS: usize = (MAX_SIZE - PV_FIXED) / COMPONENT_SIZE;

    /// The rules: a header of at most two pages, at least one component, page-aligned addresses,
    /// strictly rising tweak prefixes, and no component beyond the address space.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), Error> {
        let field = |field, found, rule| Err(Error::Field { what: WHAT, field, found, rule });
        if self.header_size > MAX_PV_HEADER_SIZE {
            return field("SE header length", self.header_size, "a header has at most 8192 bytes");
        }
        let count = self.components.len();
        if count == 0 || count > Self::MAX_COMPONENTS {
            return field("number of components", count as u64, "it must be between 1 and what fits a page");
        }
        for component in &self.components {
            if !component.addr.is_multiple_of(PAGE_SIZE as u64) {
                return field("component address", component.addr, "it must be page aligned");
            }
            if component.addr.checked_add(component.size).is_none() {
                return field("component size", component.size, "it ends beyond the address space");
            }
        }
        match self.components.windows(2).find(|pair| pair[0].tweak_pref >= pair[1].tweak_pref) {
            Some(pair) => field("tweak prefix", pair[1].tweak_pref.0, "prefixes must rise strictly"),
            None => Ok(()),
        }
    }

    fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let version: u8 = get(bytes, 0x6f);
        if version != PV_VERSION {
            return Err(Error::Version {
                what: "IPL parameter block of a protected guest",
                found: version.into(),
                supported: PV_VERSION.into(),
            });
        }
        let count = get::<u32>(bytes, 0x74) as usize;
        need(WHAT, bytes, count.saturating_mul(COMPONENT_SIZE).saturating_add(PV_FIXED))?;
        let components = bytes[PV_FIXED..]
            .chunks_exact(COMPONENT_SIZE)
            .take(count)
            .map(|part| {
                let [pref, addr, size] = get(part, 0);
                PvComponent { tweak_pref: TweakPref(pref), addr, size }
            })
            .collect();
        let block = Self { header_addr: get(bytes, 0x78), header_size: get(bytes, 0x80), components };
        block.check()?;
        Ok(block)
    }

    fn encode_into(&self, out: &mut [u8]) {
        put(out, 0x6f, &PV_VERSION);
        put(out, 0x74, &(self.components.len() as u32));
        put(out, 0x78, &self.header_addr);
        put(out, 0x80, &self.header_size);
        for (component, part) in self.components.iter().zip(out[PV_FIXED..].chunks_exact_mut(COMPONENT_SIZE))
        {
            put(part, 0, &[component.tweak_pref.0, component.addr, component.size]);
        }
    }
}

/// Results of DIAGNOSE 308 in the register R1+1.
pub mod result {
    /// Done.
    pub const OK: u64 = 0x0001;
    /// Store: there is no block.
    pub const NO_BLOCK: u64 = 0x0102;
    /// Set: the block is not valid.
    pub const INVALID_BLOCK: u64 = 0x0402;
    /// Enter: there is no block for a protected guest.
    pub const NO_PV_BLOCK: u64 = 0x0902;
    /// Enter: refused.
    pub const INVALID_FOR_PV: u64 = 0x0a02;

    /// The packed result of a refused entry: bits 0-15 the command of the KVM interface (2 set
    /// parameters, 3 unpack, 4 verify), 16-31 rrc, 32-47 rc, 48-63 0x0a02.
    pub fn enter_refused(command: u16, rc: u16, rrc: u16) -> u64 {
        u64::from(command) << 48 | u64::from(rrc) << 32 | u64::from(rc) << 16 | INVALID_FOR_PV
    }
}
