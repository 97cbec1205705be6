//! Guest memory through a table of slots: what the guest sees twice is one part of the store, flash is the machine's to
//! write and nobody else's.
#![expect(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use cloister_platform::arch::x86_64::{Slot, VmConfig};
use cloister_platform::{Door, MemoryMap, Request, Response, Vm, VmError};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};
use vm_memory::{Bytes, GuestAddress};

const MIB: u64 = 1 << 20;
/// Of the store: RAM, then flash.
const FLASH: u64 = 3 * MIB;
const SIZE: u64 = 4 * MIB;

struct Platform {
    memory: File,
    access: File,
    slots: Vec<Slot>,
    asked: Mutex<Vec<Request>>,
}

impl Door for Platform {
    fn call(&self, request: Request) -> Response {
        self.asked.lock().unwrap().push(request.clone());
        match request {
            Request::CreateX86Vm(_) => Response::Created(MemoryMap {
                memory_fd: self.memory.as_raw_fd(),
                access_fd: self.access.as_raw_fd(),
                size: SIZE,
                slots: self.slots.clone(),
            }),
            Request::HostAccess { page: 9, .. } => Response::Refused("not that one".into()),
            _ => Response::Done,
        }
    }
}

fn slot(guest_physical: u64, size: u64, offset: u64, read_only: bool) -> Slot {
    Slot { guest_physical, size, offset, read_only }
}

/// RAM below and above 4 GiB, flash and its alias; given out of order.
fn slots() -> Vec<Slot> {
    vec![
        slot((1 << 32) - MIB, MIB, FLASH, true),
        slot(1 << 32, MIB, 2 * MIB, false),
        slot(0, 0xe0000, 0, false),
        slot(0xe0000, 0x20000, SIZE - 0x20000, true),
        slot(MIB, MIB, MIB, false),
    ]
}

fn create(slots: Vec<Slot>) -> (Result<Vm, VmError>, Arc<Platform>) {
    let file = |size| {
        let fd = memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&fd, size).unwrap();
        File::from(fd)
    };
    let door = Arc::new(Platform { memory: file(SIZE), access: file(4096), slots, asked: Mutex::default() });
    (Vm::create_x86(Arc::clone(&door) as _, VmConfig::default()), door)
}

fn vm() -> (Vm, Arc<Platform>) {
    let (vm, door) = create(slots());
    door.asked.lock().unwrap().clear();
    (vm.unwrap(), door)
}

fn at(address: u64) -> GuestAddress {
    GuestAddress(address)
}

#[test]
fn each_address_leads_to_its_place_in_the_store() {
    let (vm, door) = vm();
    let memory = vm.memory();
    for (address, offset) in [(0x1000, 0x1000), (MIB, MIB), ((1 << 32) + 8, 2 * MIB + 8)] {
        memory.write_obj(0x1122_3344_5566_7788u64 ^ offset, at(address)).unwrap();
        let mut bytes = [0; 8];
        door.memory.read_exact_at(&mut bytes, offset).unwrap();
        assert_eq!(u64::from_ne_bytes(bytes), 0x1122_3344_5566_7788 ^ offset);
        assert_eq!(memory.backing(address), Some(offset));
    }
    // Across two slots that are neighbours for the guest and not in the store.
    let end = (1 << 32) - 8;
    memory.load(end, &[7; 16]).unwrap();
    let (mut seen, mut peeked) = ([0; 16], [0; 16]);
    memory.read_slice(&mut seen, at(end)).unwrap();
    memory.peek(end, &mut peeked).unwrap();
    assert_eq!((seen, peeked), ([7; 16], [7; 16]));
    // Between the slots there is nothing.
    assert!(memory.read_obj::<u8>(at(2 * MIB)).is_err());
    assert!(memory.peek(2 * MIB - 1, &mut [0; 2]).is_err());
    assert!(memory.load(2 * MIB - 1, &[0; 2]).is_err());
    assert_eq!(memory.backing(2 * MIB), None);
    assert_eq!(memory.backing_size(), SIZE);
}

#[test]
fn flash_is_seen_twice_and_written_by_the_machine_alone() {
    let (vm, _) = vm();
    let memory = vm.memory();
    memory.load((1 << 32) - 16, b"reset vector is.").unwrap();
    let mut alias = [0; 16];
    memory.read_slice(&mut alias, at(MIB - 16)).unwrap();
    assert_eq!(&alias, b"reset vector is.");
    for address in [(1 << 32) - 16, MIB - 16] {
        assert!(memory.write_slice(&[0; 16], at(address)).is_err(), "{address:#x}");
        // Also what begins in RAM.
        assert!(memory.write_slice(&[0; 32], at(0xe0000 - 16)).is_err());
    }
    memory.read_slice(&mut alias, at(MIB - 16)).unwrap();
    assert_eq!(&alias, b"reset vector is.");
}

#[test]
fn the_access_map_goes_by_the_pages_of_the_store() {
    let (vm, door) = vm();
    let memory = vm.memory();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let observer = Arc::clone(&seen);
    assert!(
        memory.observe_writes(Box::new(move |address, len| observer.lock().unwrap().push((address, len))))
    );
    // The second page above 4 GiB must be asked for, and has code.
    let page = 2 * MIB / 4096 + 1;
    door.access.write_all_at(&[3], page).unwrap();
    door.access.write_all_at(&[1], 9).unwrap();
    assert!(!memory.is_accessible(page) && memory.is_accessible(page + 1));
    memory.write_slice(&[1; 8], at((1 << 32) + 4092)).unwrap();
    let asked = std::mem::take(&mut *door.asked.lock().unwrap());
    let write = Request::HostWrote { address: 2 * MIB + 4096, len: 4 };
    assert_eq!(asked, [Request::HostAccess { page, count: 1, write: true }, write]);
    assert_eq!(*seen.lock().unwrap(), [((1 << 32) + 4092, 8)]);
    // A page that is not given.
    assert!(memory.read_obj::<u8>(at(9 * 4096)).is_err());
    assert!(memory.load(9 * 4096, &[1]).is_err());
}

#[test]
fn a_table_that_cannot_be_is_not_mapped() {
    let (vm, _) = create(vec![slot(0, SIZE + 4096, 0, false)]);
    assert!(vm.unwrap_err().to_string().contains("ends after"));
    let (vm, _) = create(vec![slot(0, MIB, 0, false), slot(MIB, MIB, 0, true)]);
    assert!(vm.unwrap_err().to_string().contains("can be written"));
    // Without a table all of it lies at address 0.
    let (vm, _) = create(vec![]);
    let vm = vm.unwrap();
    vm.memory().write_obj(5u8, at(SIZE - 1)).unwrap();
    assert_eq!(vm.memory().slots(), [slot(0, SIZE, 0, false)]);
}
