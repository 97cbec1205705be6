//! Times of what happens most: an access, a check, a block found, a conversion. Prints nanoseconds; `cargo bench -p cloister-cpu`.

use std::hint::black_box;
use std::time::Instant;

use cloister_cpu::{CodeCache, CodeKey, Rendezvous, request};
use cloister_memory::{Fill, NoShootdown, Storage, View};

fn time(what: &str, times: u64, mut work: impl FnMut(u64)) {
    (0..times / 10).for_each(&mut work);
    let best = (0..3)
        .map(|_| {
            let begin = Instant::now();
            (0..times).for_each(&mut work);
            begin.elapsed()
        })
        .min()
        .unwrap_or_default();
    println!("{what:<60} {:9.2} ns", best.as_nanos() as f64 / times as f64);
}

fn main() {
    let storage = Storage::new(512 << 20).expect("storage");
    let ram = storage.ram();
    let (million, mask) = (10_000_000, 0xf_fff8);
    let mut sum = 0u64;
    time("read 8 bytes, aligned", million, |n| {
        sum = sum.wrapping_add(ram.read_u64_be((n as usize * 8) & mask));
    });
    time("read 8 bytes, any alignment", million, |n| {
        sum = sum.wrapping_add(ram.read_u64_be(((n as usize * 9) & mask) + (n as usize & 7)));
    });
    time("write 8 bytes, aligned", million, |n| {
        ram.write_u64_be((n as usize * 8) & mask, n);
    });
    time("copy 64 bytes forward", million, |n| {
        let at = (n as usize * 64) & 0xf_ff00;
        ram.copy_forward(at, at + 64, 64);
    });
    time("copy 16 bytes forward", million, |n| {
        let at = (n as usize * 64) & 0xf_ff00;
        ram.copy_forward(at, at + 64, 16);
    });
    black_box(sum);

    let rendezvous = Rendezvous::new(1);
    let cpu = rendezvous.cpu(0).expect("there is a CPU 0");
    cpu.enter();
    time("check for requests", million, |_| {
        black_box(cpu.check());
    });
    let mut cache = CodeCache::new(16384);
    let keys: Vec<_> = (0..4096).map(|n| CodeKey::new(n / 16, n % 16 * 256, 3)).collect();
    for &key in &keys {
        let stamp = storage.mark_code(key.page(), 0, 64, &NoShootdown);
        cache.insert(key, stamp, None, [1u8; 32]);
    }
    time("find a block", million, |n| {
        black_box(cache.get(&storage, keys[n as usize % 4096]).is_some());
    });
    time("find where a page lies", 1_000_000, |n| {
        if let Fill::Page(filled) = storage.lookup_for_fill(n % 1024, 0, View::Authoritative) {
            black_box(filled.offset);
        }
    });

    // A guest with bounce buffers shares so many pages while it boots.
    let pages = 16_384;
    let begin = Instant::now();
    (2 * pages..3 * pages).for_each(|page| storage.clear_plain(page, &NoShootdown).expect("raw"));
    println!("{:<60} {:9.2} ns", "first clearing of an untouched page", per(begin, pages));
    let begin = Instant::now();
    (0..pages).for_each(|page| storage.unshare(page, &NoShootdown).expect("raw"));
    println!("{:<60} {:9.2} ns", "first conversion of an untouched page", per(begin, pages));
    let begin = Instant::now();
    (0..pages).for_each(|page| storage.share(page, &NoShootdown).expect("plain"));
    println!("{:<60} {:9.2} ns", "next conversion, no holder", per(begin, pages));
    for page in 0..pages {
        storage.lookup_for_fill(page, 0, View::Authoritative);
    }
    let begin = Instant::now();
    for page in 0..pages {
        storage.unshare(page, &cpu).expect("raw");
        if cpu.check() & request::FLUSH != 0 {
            cpu.acknowledge(|flush| {
                black_box(flush);
            });
        }
    }
    println!("{:<60} {:9.2} ns", "next conversion, held by the CPU that converts", per(begin, pages));
    cpu.leave();
    let begin = Instant::now();
    (0..pages).for_each(|page| storage.destroy(page, &NoShootdown).expect("any page can be destroyed"));
    println!("{:<60} {:9.2} ns", "destruction", per(begin, pages));
}

fn per(begin: Instant, times: u64) -> f64 {
    begin.elapsed().as_nanos() as f64 / times as f64
}
