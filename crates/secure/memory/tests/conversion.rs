//! Conversions against a model, page by page: representations, contents of both halves, pins, access map.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cloister_memory::{
    ConversionObserver, Error, Fill, HOST_ACCESS_ASK, HOST_REPORT_WRITES, NoShootdown, PAGE_SIZE, PageBytes,
    PageCipher, PageExport, Representation, Shootdown, Storage, View,
};
use proptest::prelude::*;

const PAGES: u64 = 4;

#[derive(Clone, Debug)]
enum Op {
    GuestWrite(u64, u8),
    HostWrite(u64, u8),
    Decrypt(u64),
    DecryptRefused(u64),
    Encrypt(u64),
    EncryptRefused(u64),
    Share(u64),
    Unshare(u64),
    Clear(u64),
    Destroy(u64),
    MoveOut(u64),
    Pin(u64),
    Unpin(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let page = 0..PAGES;
    prop_oneof![
        (page.clone(), any::<u8>()).prop_map(|(page, value)| Op::GuestWrite(page, value)),
        (page.clone(), any::<u8>()).prop_map(|(page, value)| Op::HostWrite(page, value)),
        page.clone().prop_map(Op::Decrypt),
        page.clone().prop_map(Op::DecryptRefused),
        page.clone().prop_map(Op::Encrypt),
        page.clone().prop_map(Op::EncryptRefused),
        page.clone().prop_map(Op::Share),
        page.clone().prop_map(Op::Unshare),
        page.clone().prop_map(Op::Clear),
        page.clone().prop_map(Op::Destroy),
        page.clone().prop_map(Op::MoveOut),
        page.clone().prop_map(Op::Pin),
        page.prop_map(Op::Unpin),
    ]
}

#[derive(Clone, Copy, Debug)]
struct Model {
    is: Representation,
    host: u8,
    secure: u8,
    pins: u16,
}

const KEY: u8 = 0x5a;

fn turn(from: &PageBytes, to: &mut PageBytes) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = from ^ KEY);
}

impl Model {
    /// What the operation yields, and the page after it.
    fn apply(self, op: &Op) -> Result<Self, &'static str> {
        use Representation::{Absent, Plain, Raw};
        let hides = |next| match self.is {
            Raw if self.pins > 0 => Err("pins"),
            Raw | Absent => Ok(next),
            _ => Err("representation"),
        };
        let shows = |next| if self.is == Plain { Ok(next) } else { Err("representation") };
        let hidden = |secure| Self { is: Plain, host: 0, secure, pins: self.pins };
        let shown = |host| Self { is: Raw, host, secure: 0, pins: self.pins };
        match *op {
            Op::GuestWrite(_, value) => match self.is {
                Raw => Ok(Self { host: value, ..self }),
                Plain => Ok(Self { secure: value, ..self }),
                _ => Err("no page"),
            },
            Op::HostWrite(_, value) => Ok(Self { host: value, ..self }),
            Op::Decrypt(_) => hides(hidden(self.host ^ KEY)),
            Op::DecryptRefused(_) => hides(self).and(Err("refused")),
            Op::Encrypt(_) => shows(shown(self.secure ^ KEY)),
            Op::EncryptRefused(_) => shows(self).and(Err("refused")),
            Op::Share(_) => shows(shown(self.secure)),
            Op::Unshare(_) if self.is == Absent => Err("representation"),
            Op::Unshare(_) => hides(hidden(self.host)),
            Op::Clear(_) => hides(hidden(0)),
            Op::Destroy(_) => Ok(shown(0)),
            Op::MoveOut(_) => shows(Self { is: Absent, secure: 0, ..self }),
            Op::Pin(_) if self.is == Raw => Ok(Self { pins: self.pins + 1, ..self }),
            Op::Unpin(_) if self.pins > 0 => Ok(Self { pins: self.pins - 1, ..self }),
            Op::Pin(_) | Op::Unpin(_) => Err("pins"),
        }
    }
}

fn name<T, E>(result: Result<T, Error<E>>) -> Result<(), &'static str> {
    match result {
        Ok(_) => Ok(()),
        Err(Error::Pins { .. }) => Err("pins"),
        Err(Error::Representation { .. }) => Err("representation"),
        Err(Error::Refused { .. }) => Err("refused"),
        Err(_) => Err("other"),
    }
}

fn perform(storage: &Storage, host: &File, op: &Op) -> (u64, Result<(), &'static str>) {
    let none = &NoShootdown;
    match *op {
        Op::GuestWrite(page, value) => (
            page,
            match storage.lookup_for_fill(page, 0, View::Authoritative) {
                Fill::Page(filled) => {
                    storage.ram().fill(filled.offset, value, PAGE_SIZE);
                    Ok(())
                }
                _ => Err("no page"),
            },
        ),
        Op::HostWrite(page, value) => {
            host.write_all_at(&[value; PAGE_SIZE], page * PAGE_SIZE as u64)
                .expect("the host can write its half");
            (page, Ok(()))
        }
        Op::Decrypt(page) => (
            page,
            name(storage.make_plain_with(page, none, |raw, plain| {
                turn(raw, plain);
                Ok::<_, ()>(())
            })),
        ),
        Op::DecryptRefused(page) => (
            page,
            name(storage.make_plain_with(page, none, |raw, plain| {
                turn(raw, plain);
                Err(())
            })),
        ),
        Op::Encrypt(page) => (
            page,
            name(storage.make_raw_with(page, none, |plain, raw| {
                turn(plain, raw);
                Ok::<_, ()>(())
            })),
        ),
        Op::EncryptRefused(page) => (
            page,
            name(storage.make_raw_with(page, none, |plain, raw| {
                turn(plain, raw);
                Err::<(), _>(())
            })),
        ),
        Op::Share(page) => (page, name(storage.share(page, none))),
        Op::Unshare(page) => (page, name(storage.unshare(page, none))),
        Op::Clear(page) => (page, name(storage.clear_plain(page, none))),
        Op::Destroy(page) => (page, name(storage.destroy(page, none))),
        Op::MoveOut(page) => (page, name(storage.make_absent_with(page, none, |_| Ok::<_, ()>(())))),
        Op::Pin(page) => (page, name(storage.pin(page, none))),
        Op::Unpin(page) => (page, name(storage.unpin(page, none))),
    }
}

fn file(fd: std::os::fd::BorrowedFd<'_>) -> File {
    File::from(fd.try_clone_to_owned().expect("descriptors are left"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn every_sequence_of_operations_agrees_with_the_model(ops in prop::collection::vec(op(), 1..60)) {
        let storage = Storage::new(PAGES * PAGE_SIZE as u64).unwrap();
        let (host, access) = (file(storage.host_fd()), file(storage.access_map_fd()));
        let fresh = Model { is: Representation::Raw, host: 0, secure: 0, pins: 0 };
        let mut model = [fresh; PAGES as usize];
        for op in &ops {
            let (page, result) = perform(&storage, &host, op);
            let slot = &mut model[page as usize];
            match slot.apply(op) {
                Ok(next) => { prop_assert_eq!(result, Ok(()), "{:?}", op); *slot = next; }
                Err(error) => prop_assert_eq!(result, Err(error), "{:?}", op),
            }
            for (page, want) in (0..).zip(&model) {
                let state = storage.record(page).unwrap().state();
                prop_assert_eq!((state.representation(), state.pins()), (want.is, want.pins));
                prop_assert!(!state.is_converting());
                let at = page as usize * PAGE_SIZE;
                let mut bytes = [0; PAGE_SIZE];
                host.read_exact_at(&mut bytes, at as u64).unwrap();
                prop_assert!(bytes.iter().all(|&byte| byte == want.host), "host half of {page}");
                storage.ram().copy_out(at + storage.size() as usize, &mut bytes);
                prop_assert!(bytes.iter().all(|&byte| byte == want.secure), "secure half of {page}");
                let mut asks = [0];
                access.read_exact_at(&mut asks, page).unwrap();
                let hidden = matches!(want.is, Representation::Plain | Representation::Absent);
                prop_assert_eq!(asks[0] & HOST_ACCESS_ASK != 0, hidden);
            }
        }
        let counts = storage.counts();
        prop_assert_eq!(counts.raw + counts.plain + counts.both + counts.absent, PAGES);
        let mut next = 0;
        for (range, is) in storage.ranges() {
            prop_assert_eq!(range.start, next);
            prop_assert!(range.clone().all(|page| storage.representation(page) == Some(is)));
            next = range.end;
        }
        prop_assert_eq!(next, PAGES);
    }
}

#[test]
fn the_holders_and_nobody_else_are_flushed_before_the_content_is_read() {
    struct Late<'a>(&'a Storage, AtomicU64);
    impl Shootdown for Late<'_> {
        fn flush_page(&self, cpus: u64, page: u64) {
            assert!(self.0.record(page).unwrap().state().is_converting());
            assert_eq!(self.0.lookup_for_fill(page, 9, View::Authoritative), Fill::Busy);
            self.1.fetch_or(cpus, Ordering::SeqCst);
            // A write committed before the acknowledgement must not be lost.
            self.0.ram().write_u64_be(page as usize * PAGE_SIZE + 8, 0x1122_3344_5566_7788);
        }
    }
    let storage = Storage::new(0x4000).unwrap();
    let late = Late(&storage, AtomicU64::new(0));
    for cpu in [3, 70] {
        assert!(matches!(storage.lookup_for_fill(2, cpu, View::Raw), Fill::Page(_)));
    }
    storage.lookup_for_fill(1, 5, View::Raw);
    storage.unshare(2, &late).unwrap();
    assert_eq!(late.1.load(Ordering::SeqCst), 1 << 3 | 1 << 63);
    let Fill::Page(filled) = storage.lookup_for_fill(2, 3, View::Plain) else { panic!("not plain") };
    assert_eq!(storage.ram().read_u64_be(filled.offset + 8), 0x1122_3344_5566_7788);
    assert_eq!(storage.lookup_for_fill(2, 3, View::Raw), Fill::WrongRepresentation(Representation::Plain));
    assert_eq!(storage.lookup_for_fill(4, 3, View::Raw), Fill::OutOfRange);
    assert_eq!(storage.record(2).unwrap().holders(), 1 << 3, "9 asked in vain, 70 did not ask again");
}

#[test]
fn a_transformation_that_panics_changes_nothing_and_leaves_the_page_usable() {
    let storage = Storage::new(0x1000).unwrap();
    storage.ram().write_u8(0, 7);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        storage.make_plain_with(0, &NoShootdown, |_, _| -> Result<(), ()> { panic!("in the mechanism") })
    }));
    assert!(result.is_err());
    assert_eq!(storage.representation(0), Some(Representation::Raw));
    assert_eq!(storage.ram().read_u8(0), 7);
    storage.unshare(0, &NoShootdown).unwrap();
}

#[test]
fn the_observer_sees_what_the_host_will_find() {
    struct Seen(std::sync::Mutex<Vec<(u64, Representation, Representation, u8)>>);
    impl ConversionObserver for Seen {
        fn converted(&self, page: u64, from: Representation, to: Representation, host_copy: &PageBytes) {
            self.0.lock().unwrap().push((page, from, to, host_copy[4095]));
        }
    }
    let storage = Storage::new(0x3000).unwrap();
    let seen = Arc::new(Seen(std::sync::Mutex::default()));
    assert!(storage.observe(seen.clone()));
    assert!(!storage.observe(seen.clone()));
    storage.ram().fill(0x1000, 0xee, PAGE_SIZE);
    storage.unshare(1, &NoShootdown).unwrap();
    storage
        .make_raw_with(1, &NoShootdown, |plain, raw| {
            turn(plain, raw);
            Ok::<_, ()>(())
        })
        .unwrap();
    use Representation::{Plain, Raw};
    assert_eq!(*seen.0.lock().unwrap(), [(1, Raw, Plain, 0), (1, Plain, Raw, 0xee ^ KEY)]);
}

#[test]
fn the_files_cannot_be_resized_and_the_access_map_cannot_be_written_by_others() {
    let storage = Storage::new(0x3000).unwrap();
    assert!(file(storage.host_fd()).set_len(0x1000).is_err());
    assert!(file(storage.host_fd()).set_len(0x10000).is_err());
    assert!(file(storage.access_map_fd()).set_len(0).is_err());
    assert!(file(storage.access_map_fd()).write_all_at(&[0], 0).is_err());
}

#[test]
fn sizes_that_are_not_whole_pages_are_refused() {
    for size in [0, 1, 4095, 4097, 1 << 44, u64::MAX] {
        assert!(matches!(Storage::new(size), Err(Error::Size { .. })), "{size:#x}");
    }
    let storage = Storage::new(0x2000).unwrap();
    assert!(matches!(storage.share(2, &NoShootdown), Err(Error::OutOfRange { page: 2, pages: 2 })));
    assert!(matches!(storage.pin(u64::MAX, &NoShootdown), Err(Error::OutOfRange { .. })));
}

struct Xor;

impl PageCipher for Xor {
    fn encrypt(&self, offset: u64, data: &mut [u8]) {
        for (at, byte) in (offset..).zip(data) {
            *byte ^= (at / 16) as u8 | 1;
        }
    }
    fn decrypt(&self, offset: u64, data: &mut [u8]) {
        self.encrypt(offset, data);
    }
}

/// SEV API 0.24, 6.6 LAUNCH_UPDATE_DATA: whole 16-byte blocks, anywhere.
#[test]
fn encryption_in_place_works_on_ranges_of_16_bytes_with_a_tweak_from_the_store() {
    let storage = Storage::new(0x4000).unwrap();
    storage.transform_raw(0xff0..0x2010, &NoShootdown, &Xor).unwrap();
    let ram = storage.ram();
    for at in 0..0x4000 {
        let want = if (0xff0..0x2010).contains(&at) { (at / 16) as u8 | 1 } else { 0 };
        assert_eq!(ram.read_u8(at), want, "{at:#x}");
    }
    for wrong in [0x8..0x10, 0x0..0x18] {
        assert!(matches!(storage.transform_raw(wrong, &NoShootdown, &Xor), Err(Error::Alignment { .. })));
    }
    assert!(matches!(
        storage.transform_raw(0x3ff0..0x4010, &NoShootdown, &Xor),
        Err(Error::OutOfRange { .. })
    ));
    storage.transform_raw(0x10..0x10, &NoShootdown, &Xor).unwrap();
    storage.unshare(1, &NoShootdown).unwrap();
    assert!(matches!(
        storage.transform_raw(0x1000..0x1010, &NoShootdown, &Xor),
        Err(Error::Representation { .. })
    ));
}

struct Sum;

impl PageExport for Sum {
    type Metadata = u64;
    type Error = &'static str;
    fn export(&self, _: u64, plain: &PageBytes, out: &mut PageBytes) -> Result<u64, Self::Error> {
        turn(plain, out);
        Ok(out.iter().map(|&byte| u64::from(byte)).sum())
    }
    fn import(&self, _: u64, sum: &u64, bytes: &PageBytes, plain: &mut PageBytes) -> Result<(), Self::Error> {
        turn(bytes, plain);
        let found: u64 = bytes.iter().map(|&byte| u64::from(byte)).sum();
        if found == *sum { Ok(()) } else { Err("tampered") }
    }
}

#[test]
fn an_exported_page_comes_back_unless_the_host_changed_it() {
    let storage = Storage::new(0x1000).unwrap();
    let host = file(storage.host_fd());
    storage.ram().copy_in(0, b"secret");
    storage.unshare(0, &NoShootdown).unwrap();
    let metadata = storage.export(0, &NoShootdown, &Sum).unwrap();
    let mut seen = [0; 6];
    host.read_exact_at(&mut seen, 0).unwrap();
    assert_ne!(&seen, b"secret");
    host.write_all_at(&[seen[0] ^ 1], 0).unwrap();
    assert!(matches!(
        storage.import(0, &NoShootdown, &Sum, &metadata),
        Err(Error::Refused { page: 0, source: "tampered" })
    ));
    host.write_all_at(&seen, 0).unwrap();
    storage.import(0, &NoShootdown, &Sum, &metadata).unwrap();
    let Fill::Page(filled) = storage.lookup_for_fill(0, 0, View::Plain) else { panic!("not plain") };
    storage.ram().copy_out(filled.offset, &mut seen);
    assert_eq!(&seen, b"secret");
}

#[test]
fn code_marks_flush_holders_once_and_the_host_is_told_to_report() {
    struct Count(AtomicU64);
    impl Shootdown for Count {
        fn flush_page(&self, _: u64, _: u64) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let storage = Storage::new(0x2000).unwrap();
    let access = file(storage.access_map_fd());
    let reports = || {
        let mut byte = [0];
        access.read_exact_at(&mut byte, 1).unwrap();
        byte[0] & HOST_REPORT_WRITES != 0
    };
    let count = Count(AtomicU64::new(0));
    let Fill::Page(before) = storage.lookup_for_fill(1, 0, View::Authoritative) else { panic!("raw") };
    assert!(!before.code && !reports());
    let stamp = storage.mark_code(1, 4000, 1000, &count);
    assert_eq!(storage.mark_code(1, 0, 4, &count), stamp);
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    assert_eq!(storage.record(1).unwrap().code_lines(), 0b11 << 62 | 1);
    let Fill::Page(after) = storage.lookup_for_fill(1, 0, View::Authoritative) else { panic!("raw") };
    assert!(after.code && reports());
    assert!(!storage.code_write(1, 64, 3904));
    assert_eq!(storage.code_stamp(1), stamp);
    storage.host_wrote(0xfff, 2);
    assert_ne!(storage.code_stamp(1), stamp);
    assert!(!reports());
    let stamp = storage.mark_code(1, 0, 4, &count);
    storage.unshare(1, &NoShootdown).unwrap();
    assert_ne!(storage.code_stamp(1), stamp, "a conversion makes blocks stale");
}

#[test]
fn storage_keys_and_the_dirty_mark_are_kept_per_page() {
    let storage = Storage::new(0x2000).unwrap();
    let record = storage.record(1).unwrap();
    assert_eq!(record.set_key(0x30), 0);
    assert_eq!(record.or_key(0x06), 0x30);
    assert_eq!(record.or_key(0x04), 0x36);
    assert_eq!(record.and_key(!0x04), 0x36);
    assert_eq!((record.key(), storage.record(0).unwrap().key()), (0x32, 0));
    assert!(!record.take_dirty());
    record.set_dirty();
    assert!(record.is_dirty() && record.take_dirty() && !record.is_dirty());
}

/// Pages cost memory when they are first touched, not when storage is made.
#[test]
fn untouched_pages_are_not_resident() {
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
        let line = status.lines().find(|line| line.starts_with("Rss:")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before = resident();
    let storage = Storage::new(8 << 30).unwrap();
    storage.ram().write_u8(5 << 30, 1);
    storage.unshare((5 << 30) / PAGE_SIZE as u64, &NoShootdown).unwrap();
    let grown = resident().saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB");
    drop(storage);
}
