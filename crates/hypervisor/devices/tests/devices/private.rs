//! A host view that refuses the guest's private pages, as that of a protected machine does: devices get an access
//! error for every kind of access, and nothing of a private page moves.

use std::collections::BTreeSet;
use std::iter::FusedIterator;
use std::sync::{Arc, Mutex};

use cloister_devices::InterruptSink;
use cloister_devices::access::{self, AccessError};
use cloister_devices::css::ChannelSubsystem;
use cloister_devices::entropy::SeededEntropy;
use cloister_devices::interrupt::Outcome;
use cloister_devices::virtio::{Rng, VirtioCcw, VirtioCcwOptions};
use vm_memory::bitmap::BS;
use vm_memory::guest_memory::GuestMemorySliceIterator;
use vm_memory::{
    Bytes, GuestAddress, GuestMemory, GuestMemoryBackend, GuestMemoryError, Permissions, VolatileSlice,
};

use crate::common::{CCW, DATA, Guest, Memory, RAM, Recorder, ccw1, memory};

const SCH: u64 = 0x0001_0000;

#[derive(Clone)]
struct View {
    inner: Memory,
    private: Arc<Mutex<BTreeSet<u64>>>,
    /// Refuse the whole range at once, with the error for storage that does not exist.
    at_once: bool,
}

struct Slices<'a> {
    view: &'a View,
    at: u64,
    left: usize,
}

impl<'a> Iterator for Slices<'a> {
    type Item = Result<VolatileSlice<'a, ()>, GuestMemoryError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let len = self.left.min(4096 - (self.at % 4096) as usize);
        let slice = if self.view.private.lock().unwrap().contains(&(self.at / 4096)) {
            Err(GuestMemoryError::IOError(std::io::ErrorKind::PermissionDenied.into()))
        } else {
            self.view.inner.get_slice(GuestAddress(self.at), len)
        };
        self.at += len as u64;
        self.left = if slice.is_ok() { self.left - len } else { 0 };
        Some(slice)
    }
}

impl FusedIterator for Slices<'_> {}
impl<'a> GuestMemorySliceIterator<'a, ()> for Slices<'a> {}

impl GuestMemory for View {
    type PhysicalMemory = Memory;
    type Bitmap = ();

    fn check_range(&self, addr: GuestAddress, count: usize, access: Permissions) -> bool {
        if self.at_once {
            return GuestMemoryBackend::check_range(&self.inner, addr, count);
        }
        self.get_slices(addr, count, access).is_ok_and(|mut s| s.all(|s| s.is_ok()))
    }

    fn get_slices<'a>(
        &'a self,
        addr: GuestAddress,
        count: usize,
        _access: Permissions,
    ) -> Result<impl GuestMemorySliceIterator<'a, BS<'a, ()>>, GuestMemoryError> {
        let mut slices = Slices { view: self, at: addr.0, left: count };
        if self.at_once && slices.by_ref().any(|s| s.is_err()) {
            return Err(GuestMemoryError::InvalidGuestAddress(addr));
        }
        Ok(Slices { view: self, at: addr.0, left: count })
    }
}

struct Rig {
    view: View,
    css: ChannelSubsystem<View>,
}

impl Rig {
    fn new(at_once: bool) -> Self {
        let view = View { inner: memory(), private: Arc::default(), at_once };
        let options = VirtioCcwOptions { iommu_platform: true, ..VirtioCcwOptions::default() };
        let rng = Box::new(Rng::new(Box::new(SeededEntropy::new(1))));
        let mut css = ChannelSubsystem::new(Arc::new(Recorder::default()) as Arc<dyn InterruptSink>);
        css.attach(None, Box::new(VirtioCcw::new(rng, options))).unwrap();
        let mut schib = css.stsch(SCH).1.unwrap();
        schib[5] |= 0x80;
        assert_eq!(css.msch(SCH, &schib), Outcome::Cc(0));
        Self { view, css }
    }

    fn hide(&self, addr: u64) {
        self.view.private.lock().unwrap().insert(addr / 4096);
    }

    fn show(&self, addr: u64) {
        self.view.private.lock().unwrap().remove(&(addr / 4096));
    }

    /// Runs a command and returns the subchannel status.
    fn command(&mut self, command: u8, data: &[u8]) -> u8 {
        self.view.inner.write_slice(data, GuestAddress(DATA)).unwrap();
        self.view
            .inner
            .write_slice(&ccw1(command, 0, data.len() as u16, DATA as u32), GuestAddress(CCW))
            .unwrap();
        assert_eq!(self.css.ssch(&self.view, SCH, &Guest::orb(true)), Outcome::Cc(0));
        self.css.tsch(SCH).1.unwrap()[9]
    }
}

#[test]
fn helpers_tell_private_from_absent() {
    [false, true].into_iter().for_each(helpers_tell_private_from_absent_in);
}

fn helpers_tell_private_from_absent_in(at_once: bool) {
    let rig = Rig::new(at_once);
    rig.hide(0x5000);
    let mut buf = [0; 16];
    assert_eq!(access::read(&rig.view, 0x4ff8, &mut buf), Err(AccessError::Protection));
    assert_eq!(access::write(&rig.view, 0x5000, &buf), Err(AccessError::Protection));
    assert_eq!(access::fetch_or(&rig.view, 0x5001, 1), Err(AccessError::Protection));
    assert_eq!(access::read(&rig.view, RAM as u64, &mut buf), Err(AccessError::Addressing));
}

#[test]
fn private_programs_and_data_are_protection_checks() {
    [false, true].into_iter().for_each(private_programs_and_data_are_protection_checks_in);
}

fn private_programs_and_data_are_protection_checks_in(at_once: bool) {
    let mut rig = Rig::new(at_once);
    rig.hide(CCW);
    assert_eq!(rig.command(0x83, &[0, 1, 0, 0]), 0x10, "the channel program");
    rig.show(CCW);
    rig.hide(DATA);
    assert_eq!(rig.command(0x83, &[0, 1, 0, 0]), 0x10, "its data");
    assert_eq!(rig.command(0xe4, &[0x77; 7]), 0x10);
    assert_eq!(rig.view.inner.read_obj::<u8>(GuestAddress(DATA)).unwrap(), 0x77, "nothing was written");
    rig.show(DATA);
    assert_eq!(rig.command(0x83, &[0, 1, 0, 0]), 0);
}

#[test]
fn private_rings_buffers_and_indicators_are_left_alone() {
    [false, true].into_iter().for_each(private_rings_buffers_and_indicators_are_left_alone_in);
}

fn private_rings_buffers_and_indicators_are_left_alone_in(at_once: bool) {
    const RING: u64 = 0x1_0000;
    const BUFFER: u64 = 0x2_0000;
    let mut rig = Rig::new(at_once);
    assert_eq!(rig.command(0x83, &[0, 2, 0, 0]), 0);
    assert_eq!(rig.command(0x31, &[3]), 0);
    assert_eq!(rig.command(0x11, &[3, 0, 0, 0, 1]), 0);
    assert_eq!(rig.command(0x31, &[0x0b]), 0);
    let mut queue = RING.to_be_bytes().to_vec();
    queue.extend([0, 0, 0, 0, 0, 0, 0, 8]);
    queue.extend((RING + 0x1000).to_be_bytes());
    queue.extend((RING + 0x2000).to_be_bytes());
    assert_eq!(rig.command(0x13, &queue), 0);
    let mut indicators = 0x3_0000_u64.to_be_bytes().to_vec();
    indicators.extend(0x3_1000_u64.to_be_bytes());
    indicators.extend([0; 9]);
    assert_eq!(rig.command(0x73, &indicators), 0);
    assert_eq!(rig.command(0x31, &[0x0f]), 0);
    let inner = rig.view.inner.clone();
    let offer = |index: u16| {
        let mut d = BUFFER.to_le_bytes().to_vec();
        d.extend([64, 0, 0, 0, 2, 0, 0, 0]);
        inner.write_slice(&d, GuestAddress(RING)).unwrap();
        inner.write_slice(&index.to_le_bytes(), GuestAddress(RING + 0x1002)).unwrap();
    };
    let used = || inner.read_obj::<u16>(GuestAddress(RING + 0x2002)).unwrap();
    // A private buffer and a private summary: the chain comes back empty, no byte moves.
    rig.hide(BUFFER);
    rig.hide(0x3_0000);
    offer(1);
    assert_eq!(rig.css.notify(&rig.view, SCH, 0, 0), Ok(0));
    assert_eq!(used(), 1);
    assert_eq!(inner.read_obj::<u32>(GuestAddress(RING + 0x2008)).unwrap(), 0, "used length");
    assert_eq!(inner.read_obj::<u64>(GuestAddress(BUFFER)).unwrap(), 0);
    assert_eq!(inner.read_obj::<u8>(GuestAddress(0x3_0000)).unwrap(), 0);
    // A private ring: the device needs a reset.
    rig.show(BUFFER);
    rig.hide(RING + 0x1000);
    offer(2);
    assert_eq!(rig.css.notify(&rig.view, SCH, 0, 0), Ok(0));
    assert_eq!(used(), 1);
    assert_eq!(rig.command(0x72, &[0]), 0);
    assert_eq!(inner.read_obj::<u8>(GuestAddress(DATA)).unwrap(), 0x4f);
}
