//! Where memory and flash lie in a PC's address space (QEMU, hw/i386: the documented "memory split" of the machines).

use cloister_devices::flash::{Flash, TOP};
use cloister_platform::arch::x86_64::Slot;

const MIB: u64 = 1 << 20;

/// The two PCs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// `pc`: i440FX.
    I440fx,
    /// `q35`.
    Q35,
}

impl Family {
    /// By the full name of the machine.
    pub(super) fn of(machine: &str) -> Self {
        if machine.starts_with("pc-q35-") { Self::Q35 } else { Self::I440fx }
    }

    /// Bytes of memory below 4 GiB: so many that the rest begins at a round place, less if that leaves room for all.
    pub(super) fn below_4g(self, memory: u64, limit: u64) -> u64 {
        let (whole, split) = match self {
            Self::Q35 => (0xb000_0000, 0x8000_0000),
            Self::I440fx => (0xe000_0000, 0xc000_0000),
        };
        let low = if memory >= whole { split } else { whole };
        let low = if limit == 0 { low } else { low.min(limit) };
        memory.min(low)
    }
}

/// What the guest sees of a backing store: its memory first, then each flash. The first flash's end is seen below 1 MiB
/// too, in place of memory.
pub(super) fn slots(memory: u64, low: u64, flashes: &[Flash]) -> (Vec<Slot>, u64) {
    let alias = flashes.first().map_or(0, Flash::low_alias);
    let ram = |guest_physical, size, offset| Slot { guest_physical, size, offset, read_only: false };
    let mut slots = vec![ram(0, MIB - alias, 0)];
    if low > MIB {
        slots.push(ram(MIB, low - MIB, MIB));
    }
    if memory > low {
        slots.push(ram(TOP, memory - low, low));
    }
    let mut offset = memory;
    for (unit, flash) in flashes.iter().enumerate() {
        let size = flash.bytes.len() as u64;
        slots.push(Slot { guest_physical: flash.guest_physical, size, offset, read_only: true });
        offset += size;
        if unit == 0 && alias > 0 {
            slots.push(Slot {
                guest_physical: MIB - alias,
                size: alias,
                offset: offset - alias,
                read_only: true,
            });
        }
    }
    (slots, offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloister_platform::arch::x86_64::check_slots;
    use proptest::prelude::*;

    #[test]
    fn memory_is_split_as_in_qemu() {
        const GIB: u64 = 1 << 30;
        for (family, memory, low) in [
            (Family::Q35, 256 * MIB, 256 * MIB),
            (Family::Q35, 0xb000_0000 - MIB, 0xb000_0000 - MIB),
            (Family::Q35, 0xb000_0000, 0x8000_0000),
            (Family::Q35, 4 * GIB, 2 * GIB),
            (Family::I440fx, 3 * GIB, 3 * GIB),
            (Family::I440fx, 0xe000_0000, 3 * GIB),
            (Family::I440fx, 8 * GIB, 3 * GIB),
        ] {
            assert_eq!(family.below_4g(memory, 0), low, "{family:?} {memory:#x}");
        }
        assert_eq!(Family::Q35.below_4g(4 * GIB, GIB), GIB);
        assert_eq!(Family::of("pc-q35-8.2"), Family::Q35);
        assert_eq!(Family::of("pc-i440fx-8.2"), Family::I440fx);
    }

    proptest! {
        #[test]
        fn every_layout_is_one_that_a_platform_takes(memory in 1u64..8192, sizes in prop::collection::vec(1usize..64, 0..3)) {
            let memory = memory * MIB;
            let units = sizes.iter().map(|size| (String::new(), vec![0; size * 4096])).collect();
            let flashes = Flash::units(units, 8 << 20).unwrap();
            let low = Family::Q35.below_4g(memory, 0);
            let (slots, size) = slots(memory, low, &flashes);
            prop_assert_eq!(check_slots(&slots, size), Ok(()));
        }
    }
}
