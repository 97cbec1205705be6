//! Where the parts of an image lie, and the small parts themselves.

use cloister_formats::s390x::ipl_block::{IplBlock, PvBlock, PvComponent};
use cloister_formats::s390x::se_image::{
    ComponentKind, Extent, HEADER_ADDR, METADATA_ADDR, Metadata, PSW_MASK_64BIT, STAGE_A_ADDR, STAGE_A_ENTRY,
    STAGE_A_LIMIT, StageAArgs, StageBArgs, TweakPref, short_psw,
};
use cloister_formats::s390x::{PAGE_SIZE, host_key::KeySlot, se_header};

use super::BootStages;
use crate::ImageError;

const PAGE: u64 = PAGE_SIZE as u64;
/// Where a kernel starts (its part below is for loaders).
const KERNEL_START: u64 = 0x10000;
/// The protected loader moves to 0xa000 and must leave 0xf000 and up for its stack.
const STAGE_B_LIMIT: u64 = 0xf000 - 0xa000;
/// Host keys that fit into a header of two pages.
pub(super) const MAX_SLOTS: usize =
    (se_header::MAX_SIZE - se_header::FIXED_SIZE - se_header::SECRET_AREA_SIZE - 16) / KeySlot::SIZE;

/// A component in the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) pref: TweakPref,
    pub(super) addr: u64,
    /// Bytes before padding.
    pub(super) size: u64,
}

impl Placed {
    pub(super) fn padded(&self) -> u64 {
        padded(self.size)
    }
}

/// The plan of an image, made before any byte of it.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) header_addr: u64,
    pub(super) header_size: u64,
    pub(super) ipib_addr: u64,
    pub(super) components: Vec<Placed>,
}

impl Layout {
    /// Places `components` (kind, random part of the tweak, size) in their order.
    pub(super) fn plan(
        stage_a_size: u64,
        slots: usize,
        components: &[(ComponentKind, [u8; 6], u64)],
    ) -> Result<Self, ImageError> {
        let header_addr = HEADER_ADDR.max(STAGE_A_ADDR + padded(stage_a_size));
        let header_size =
            (se_header::FIXED_SIZE + slots * KeySlot::SIZE + se_header::SECRET_AREA_SIZE + 16) as u64;
        let mut next = header_addr + padded(header_size);
        let mut placed = Vec::new();
        for &(kind, random, size) in components {
            placed.push(Placed { pref: TweakPref::new(kind, random), addr: next, size });
            next = size
                .checked_add(next + PAGE)
                .filter(|end| *end <= MAX_IMAGE)
                .map(|_| next + padded(size))
                .ok_or(ImageError::TooLarge { what: kind.name(), size })?;
        }
        Ok(Self { header_addr, header_size, ipib_addr: next, components: placed })
    }

    pub(super) fn component(&self, kind: ComponentKind) -> Option<&Placed> {
        self.components.iter().find(|placed| placed.pref.kind() == kind)
    }

    pub(super) fn pages(&self) -> u64 {
        self.components.iter().map(Placed::padded).sum::<u64>() / PAGE
    }

    pub(super) fn ipib(&self) -> Vec<u8> {
        let component = |placed: &Placed| PvComponent {
            tweak_pref: placed.pref,
            addr: placed.addr,
            size: placed.padded(),
        };
        IplBlock::pv(PvBlock {
            header_addr: self.header_addr,
            header_size: self.header_size,
            components: self.components.iter().map(component).collect(),
        })
        .encode()
    }

    /// Everything below the first component.
    pub(super) fn head(&self, stage_a: &[u8], header: &[u8]) -> Vec<u8> {
        let mut head = vec![0u8; (self.header_addr + padded(header.len() as u64)) as usize];
        let mut put =
            |at: u64, bytes: &[u8]| head[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
        put(0, &short_psw(STAGE_A_ENTRY as u32));
        let metadata = Metadata { header_offset: self.header_addr, ipib_offset: self.ipib_addr };
        put(METADATA_ADDR, &metadata.encode());
        put(STAGE_A_ADDR, stage_a);
        put(self.header_addr, header);
        head
    }

    /// The plain loader with its arguments, whose offsets count from themselves.
    pub(super) fn stage_a(&self, stages: &BootStages<'_>) -> Vec<u8> {
        let arguments = STAGE_A_ADDR + stages.plain_loader.len() as u64;
        let encoded = StageAArgs {
            header_offset: self.header_addr - arguments,
            header_size: self.header_size,
            ipib_offset: self.ipib_addr - arguments,
        };
        [stages.plain_loader, &encoded.encode()].concat()
    }

    /// The protected loader with its arguments.
    pub(super) fn stage_b(&self, stages: &BootStages<'_>) -> Vec<u8> {
        let extent = |kind| {
            self.component(kind)
                .map_or_else(Extent::default, |placed| Extent { src: placed.addr, size: placed.size })
        };
        let encoded = StageBArgs {
            kernel: extent(ComponentKind::KERNEL),
            cmdline: extent(ComponentKind::CMDLINE),
            initrd: extent(ComponentKind::RAMDISK),
            psw_mask: PSW_MASK_64BIT,
            psw_addr: KERNEL_START,
        };
        [stages.protected_loader, &encoded.encode()].concat()
    }
}

/// Sizes of the two loaders with their arguments, if they fit where they must run.
pub(super) fn stage_sizes(stages: &BootStages<'_>) -> Result<(u64, u64), ImageError> {
    let sized = |what, body: &[u8], arguments: usize, limit: u64| {
        let size = (body.len() + arguments) as u64;
        match !body.is_empty() && size <= limit {
            true => Ok(size),
            false => Err(ImageError::Stage { what, size, limit }),
        }
    };
    let a = sized("plain loader", stages.plain_loader, StageAArgs::SIZE, STAGE_A_LIMIT - STAGE_A_ADDR)?;
    let b = sized("protected loader", stages.protected_loader, StageBArgs::SIZE, STAGE_B_LIMIT)?;
    Ok((a, b))
}

/// A component fills whole pages, an empty one still one.
pub(super) fn padded(size: u64) -> u64 {
    size.max(1).next_multiple_of(PAGE)
}

/// No configuration has more storage; it keeps sums of sizes far from overflow.
const MAX_IMAGE: u64 = 1 << 46;
