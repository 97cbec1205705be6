//! x86-64 words: a virtual machine's shape, its memory slots, what a vCPU starts with.
//!
//! Names follow KVM's interface (Linux, Documentation/virt/kvm/api.rst) and the AMD64 Architecture
//! Programmer's Manual (APM). There is no CPU state and no exit here yet: no core runs x86-64 guests in
//! this version.

use serde::{Deserialize, Serialize};

/// Bytes in a page.
pub const PAGE_SIZE: u64 = 4096;

/// Where a vCPU begins after a reset: CS base 0xffff0000, RIP 0xfff0 (APM volume 2, 14.1.5 "Fetching the
/// First Instruction").
pub const RESET_ADDRESS: u32 = 0xffff_fff0;

/// What a machine is created with.
///
/// Guest memory is one backing store of `memory_bytes`, seen through a table of slots. Several slots may
/// show the same part of the store: firmware below 4 GiB has an alias below 1 MiB.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmConfig {
    /// Number of vCPUs, at least one.
    pub vcpus: u16,
    /// Bytes of backing store, a multiple of the page size.
    pub memory_bytes: u64,
    /// What the guest sees of it.
    pub slots: Vec<Slot>,
    /// The kind of VM.
    pub vm_type: VmType,
    /// CPUID leaf 1, EAX: what RDX holds after a reset.
    pub cpu_signature: u32,
}

impl VmConfig {
    /// Checks the shape: pages, bounds, no two slots at one guest address, and a part of the store that is
    /// seen twice is seen read-only. The error says which slot.
    pub fn check(&self) -> Result<(), String> {
        if self.vcpus == 0 {
            return Err("a machine needs at least one vCPU".into());
        }
        if self.memory_bytes == 0 || !self.memory_bytes.is_multiple_of(PAGE_SIZE) {
            return Err(format!(
                "{:#x} bytes of guest memory: give a positive multiple of {PAGE_SIZE}",
                self.memory_bytes
            ));
        }
        check_slots(&self.slots, self.memory_bytes)
    }
}

/// A part of guest-physical address space that shows a part of the backing store
/// (`KVM_SET_USER_MEMORY_REGION`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// First guest-physical address.
    pub guest_physical: u64,
    /// Bytes.
    pub size: u64,
    /// First byte in the backing store.
    pub offset: u64,
    /// The guest and its devices cannot write here (`KVM_MEM_READONLY`): flash and its alias.
    pub read_only: bool,
}

impl Slot {
    /// Where a guest-physical address lies in the backing store.
    pub fn backing(&self, guest_physical: u64) -> Option<u64> {
        let inside = guest_physical.checked_sub(self.guest_physical).filter(|&at| at < self.size)?;
        Some(self.offset + inside)
    }

    /// Where a byte of the backing store is seen through this slot.
    pub fn guest(&self, offset: u64) -> Option<u64> {
        let inside = offset.checked_sub(self.offset).filter(|&at| at < self.size)?;
        Some(self.guest_physical + inside)
    }
}

/// The runs of backing store behind `len` bytes at a guest-physical address, as (offset, length), neighbours
/// merged; `None` if a byte of them is behind no slot.
pub fn runs(slots: &[Slot], guest_physical: u64, len: u64) -> Option<Vec<(u64, u64)>> {
    let end = guest_physical.checked_add(len)?;
    let mut at = guest_physical;
    let mut runs: Vec<(u64, u64)> = Vec::new();
    while at < end {
        let (slot, offset) = slots.iter().find_map(|slot| Some((slot, slot.backing(at)?)))?;
        let part = (slot.size - (at - slot.guest_physical)).min(end - at);
        match runs.last_mut() {
            Some((start, bytes)) if *start + *bytes == offset => *bytes += part,
            _ => runs.push((offset, part)),
        }
        at += part;
    }
    Some(runs)
}

/// Checks a table of slots over `backing` bytes; see [`VmConfig::check`].
pub fn check_slots(slots: &[Slot], backing: u64) -> Result<(), String> {
    for (number, slot) in slots.iter().enumerate() {
        let wrong = |why: &str| {
            Err(format!(
                "memory slot {number} ({:#x}+{:#x} over backing {:#x}): {why}",
                slot.guest_physical, slot.size, slot.offset
            ))
        };
        let numbers = [slot.guest_physical, slot.size, slot.offset];
        if slot.size == 0 || !numbers.iter().all(|number| number.is_multiple_of(PAGE_SIZE)) {
            return wrong("it is not made of whole pages");
        }
        if slot.guest_physical.checked_add(slot.size).is_none() {
            return wrong("it wraps around the address space");
        }
        if slot.offset.checked_add(slot.size).is_none_or(|end| end > backing) {
            return wrong("it ends after the backing store");
        }
        let meets = |a: u64, b: u64, size: u64| a < b + size && b < a + slot.size;
        for (other, before) in slots[..number].iter().enumerate() {
            if meets(slot.guest_physical, before.guest_physical, before.size) {
                return wrong(&format!("it overlaps slot {other}"));
            }
            let both = slot.read_only && before.read_only;
            if meets(slot.offset, before.offset, before.size) && !both {
                return wrong(&format!("it shows what slot {other} shows, and one of them can be written"));
            }
        }
    }
    Ok(())
}

/// The kind of a VM (`KVM_CREATE_VM`, types of arch/x86/include/uapi/asm/kvm.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum VmType {
    /// `KVM_X86_DEFAULT_VM`: any guest, also a SEV guest by the older initialisation.
    #[default]
    Default,
    /// `KVM_X86_SEV_VM`.
    Sev,
    /// `KVM_X86_SEV_ES_VM`.
    SevEs,
}

impl VmType {
    /// Number in the kernel's interface.
    pub const fn number(self) -> u32 {
        match self {
            Self::Default => 0,
            Self::Sev => 2,
            Self::SevEs => 3,
        }
    }
}

/// What is asked of a vCPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CpuRequest {
    /// Set where it begins (CS base by `KVM_SET_SREGS`, RIP by `KVM_SET_REGS`): CS base is the address
    /// without its low 16 bits, RIP those.
    SetResetAddress {
        /// Number of the vCPU.
        cpu: u16,
        /// The address.
        address: u32,
    },
    /// Where it begins.
    ResetAddress {
        /// Number of the vCPU.
        cpu: u16,
    },
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CpuResponse {
    /// Done.
    Done,
    /// To [`CpuRequest::ResetAddress`].
    ResetAddress(u32),
    /// Refused, in words.
    Refused(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn slot(guest_physical: u64, size: u64, offset: u64, read_only: bool) -> Slot {
        Slot { guest_physical, size, offset, read_only }
    }

    /// RAM below 4 GiB, RAM above, 4 MiB of flash and its alias of 128 KiB.
    fn config() -> VmConfig {
        let flash = 64 * MIB;
        VmConfig {
            vcpus: 2,
            memory_bytes: flash + 4 * MIB,
            slots: vec![
                slot(0, 0xe0000, 0, false),
                slot(MIB, 47 * MIB, MIB, false),
                slot(1 << 32, 16 * MIB, 48 * MIB, false),
                slot((1 << 32) - 4 * MIB, 4 * MIB, flash, true),
                slot(0xe0000, 0x20000, flash + 4 * MIB - 0x20000, true),
            ],
            ..VmConfig::default()
        }
    }

    #[test]
    fn the_shape_of_a_pc_is_accepted() {
        assert_eq!(config().check(), Ok(()));
    }

    #[test]
    fn a_table_that_cannot_be_is_refused_with_its_slot() {
        let refuse = |change: &dyn Fn(&mut VmConfig), words: &str| {
            let mut config = config();
            change(&mut config);
            let why = config.check().unwrap_err();
            assert!(why.contains(words), "{why}");
        };
        refuse(&|c| c.vcpus = 0, "vCPU");
        refuse(&|c| c.memory_bytes += 1, "multiple");
        refuse(&|c| c.slots[4].size = 0, "slot 4");
        refuse(&|c| c.slots[1].guest_physical += 8, "whole pages");
        refuse(&|c| c.slots[3].size += 4096, "ends after");
        refuse(&|c| c.slots[3].guest_physical = 0u64.wrapping_sub(4096), "wraps");
        refuse(&|c| c.slots[4].guest_physical -= 4096, "overlaps slot 0");
        refuse(&|c| c.slots[4].read_only = false, "can be written");
        refuse(&|c| c.slots[2].offset -= 4096, "shows what slot 1 shows");
    }

    #[test]
    fn runs_merge_what_is_contiguous_in_the_store() {
        let config = config();
        assert_eq!(runs(&config.slots, 0x1000, 0x2000), Some(vec![(0x1000, 0x2000)]));
        // From RAM into the alias of the flash.
        let alias = 68 * MIB - 0x20000;
        assert_eq!(runs(&config.slots, 0xdf000, 0x2000), Some(vec![(0xdf000, 0x1000), (alias, 0x1000)]));
        // The end of flash meets RAM above 4 GiB: not neighbours in the store.
        let end = (1 << 32) - 0x1000;
        let expected = vec![(68 * MIB - 0x1000, 0x1000), (48 * MIB, 0x1000)];
        assert_eq!(runs(&config.slots, end, 0x2000), Some(expected));
        assert_eq!(runs(&config.slots, 48 * MIB - 16, 32), None);
        assert_eq!(runs(&config.slots, u64::MAX, 2), None);
        assert_eq!(runs(&config.slots, 48 * MIB, 0), Some(vec![]));
        let split = [slot(0, 0x1000, 0, false), slot(0x1000, 0x1000, 0x1000, false)];
        assert_eq!(runs(&split, 0, 0x2000), Some(vec![(0, 0x2000)]));
    }

    proptest::proptest! {
        #[test]
        fn a_configuration_survives_the_wire(vcpus: u16, signature: u32, slots in
            proptest::collection::vec((0..=u64::MAX, 0..=u64::MAX, 0..=u64::MAX, 0..2), 0..5)) {
            let slots = slots.into_iter().map(|(a, b, c, d)| slot(a, b, c, d == 1)).collect();
            let config = VmConfig { vcpus, slots, cpu_signature: signature, ..VmConfig::default() };
            let bytes = postcard::to_stdvec(&config).unwrap();
            proptest::prop_assert_eq!(postcard::from_bytes::<VmConfig>(&bytes).unwrap(), config.clone());
            // No table makes the check panic.
            let _ = config.check();
            let _ = runs(&config.slots, 0, 1 << 20);
        }
    }
}
