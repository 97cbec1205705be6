//! Threads that act as CPUs compute on pages while others convert them: through the real
//! rendezvous and storage. No committed write may be lost, and no plaintext may ever be seen in the
//! host half.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cloister_cpu::{Flush, Rendezvous, request};
use cloister_memory::{
    ConversionObserver, Error, Fill, PAGE_SIZE, PageBytes, Representation, Shootdown, Storage, View,
};

const CPUS: u32 = 3;
const PAGES: u64 = 4;
/// In the upper half of every counter, so that each page has plaintext to look for.
const MARKER: u64 = 0xfeed_face << 32;
const KEY: u8 = 0xa5;

fn turn(from: &PageBytes, to: &mut PageBytes) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = from ^ KEY);
}

fn has_marker(page: &[u8]) -> bool {
    page.chunks_exact(8).any(|word| word[..4] == 0xfeed_face_u32.to_be_bytes())
}

struct NoMarker;

impl ConversionObserver for NoMarker {
    fn converted(&self, page: u64, _: Representation, to: Representation, host_copy: &PageBytes) {
        assert!(!has_marker(host_copy), "plaintext of page {page} in the host half, now {to:?}");
    }
}

/// To plain, or to ciphertext; whoever comes too late finds it done.
fn convert(storage: &Storage, page: u64, plain: bool, shootdown: &dyn Shootdown) {
    let result = if plain {
        storage.make_plain_with(page, shootdown, |raw, plain| {
            turn(raw, plain);
            Ok::<_, ()>(())
        })
    } else {
        storage.make_raw_with(page, shootdown, |plain, raw| {
            turn(plain, raw);
            Ok::<_, ()>(())
        })
    };
    assert!(matches!(result, Ok(()) | Err(Error::Representation { .. })), "{result:?}");
}

#[test]
fn no_committed_write_is_lost_and_the_host_sees_no_plaintext() {
    let storage = Storage::new(PAGES * PAGE_SIZE as u64).unwrap();
    assert!(storage.observe(Arc::new(NoMarker)));
    let rendezvous = Rendezvous::new(CPUS);
    let host = File::from(storage.host_fd().try_clone_to_owned().unwrap());
    for page in 0..PAGES {
        let mut plain = [0; PAGE_SIZE];
        plain.chunks_exact_mut(8).for_each(|word| word.copy_from_slice(&MARKER.to_be_bytes()));
        storage
            .make_plain_with(page, &*rendezvous, |_, secure| {
                *secure = plain;
                Ok::<_, ()>(())
            })
            .unwrap();
    }
    let (rounds, live) = (300_000u64, AtomicU64::new(u64::from(CPUS)));
    let stop = AtomicBool::new(false);
    let exports = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for number in 0..CPUS {
            let cpu = rendezvous.cpu(number).unwrap();
            let (storage, live) = (&storage, &live);
            scope.spawn(move || {
                // Where each page lies, as far as known.
                let mut tlb = [None; PAGES as usize];
                let ram = storage.ram();
                cpu.enter();
                let mut done = 0;
                while done < rounds {
                    if cpu.check() & request::FLUSH != 0 {
                        cpu.acknowledge(|flush| match flush {
                            Flush::Page(page) => tlb[page as usize] = None,
                            Flush::All => tlb = [None; PAGES as usize],
                        });
                    }
                    let page = done % PAGES;
                    // Each CPU counts in a word of its own and all of them in one.
                    let Some(shared) = tlb[page as usize] else {
                        match storage.lookup_for_fill(page, number, View::Plain) {
                            Fill::Page(filled) => tlb[page as usize] = Some(filled.offset),
                            Fill::Busy => cpu.pause(),
                            Fill::WrongRepresentation(_) => convert(storage, page, true, &cpu),
                            Fill::OutOfRange => panic!("page {page}"),
                        }
                        continue;
                    };
                    let own: usize = shared + (number as usize + 1) * 8;
                    // Widens the gap in which a converter that does not wait would strike.
                    if done % 64 == 0 {
                        std::thread::yield_now();
                    }
                    ram.write_u64_be(own, ram.read_u64_be(own) + 1);
                    ram.fetch_update_u64_be(shared, |value| value + 1);
                    done += 1;
                    if done % 97 == u64::from(number) {
                        convert(storage, (page + 1) % PAGES, false, &cpu);
                    }
                }
                cpu.leave();
                live.fetch_sub(1, Ordering::SeqCst);
            });
        }
        let (storage, rendezvous, live, stop, exports) = (&storage, &rendezvous, &live, &stop, &exports);
        // The host kernel, which exports what it wants to look at.
        scope.spawn(move || {
            let mut page = 0;
            while live.load(Ordering::SeqCst) > 0 {
                convert(storage, page, false, &**rendezvous);
                exports.fetch_add(1, Ordering::SeqCst);
                page = (page + 1) % PAGES;
                std::thread::yield_now();
            }
            stop.store(true, Ordering::SeqCst);
        });
        // The hypervisor world, which looks at its half all the time.
        scope.spawn(move || {
            let mut bytes = [0; PAGE_SIZE];
            while !stop.load(Ordering::SeqCst) {
                for page in 0..PAGES {
                    host.read_exact_at(&mut bytes, page * PAGE_SIZE as u64).unwrap();
                    assert!(!has_marker(&bytes), "plaintext of page {page} in the host half");
                }
                std::thread::yield_now();
            }
        });
    });
    assert!(exports.load(Ordering::SeqCst) > 0);
    let ram = storage.ram();
    for page in 0..PAGES {
        convert(&storage, page, true, &*rendezvous);
        let Fill::Page(filled) = storage.lookup_for_fill(page, 0, View::Plain) else { panic!("page {page}") };
        let expected = rounds / PAGES;
        for number in 0..CPUS as usize {
            assert_eq!(ram.read_u64_be(filled.offset + 8 * (number + 1)), MARKER + expected, "page {page}");
        }
        assert_eq!(ram.read_u64_be(filled.offset), MARKER + expected * u64::from(CPUS), "page {page}");
        assert_eq!(ram.read_u64_be(filled.offset + 4088), MARKER);
    }
}
