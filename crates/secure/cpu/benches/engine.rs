//! Times of what happens most: an access through the translation buffer, a check, a block found, a
//! conversion. Prints nanoseconds; `cargo bench -p cloister-cpu`.

use std::hint::black_box;
use std::time::Instant;

use cloister_cpu::{CodeCache, CodeKey, Flush, Rendezvous, Tlb, TlbFill, request};
use cloister_memory::{Fill, NoShootdown, PAGE_SIZE, Storage, View};

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
    let mut tlb = Tlb::<256, 8>::new();
    let fill = |page: u64| TlbFill {
        offset: page as usize * PAGE_SIZE,
        page,
        read: true,
        write: true,
        exec: true,
        write_slow: true,
        flags: 0,
    };
    (0..256).for_each(|page| tlb.fill(2, page << 12, fill(page)));
    let (million, mask) = (10_000_000, 0xf_fff8);
    let mut sum = 0u64;
    time("read 8 bytes, aligned", million, |n| {
        if let Some(at) = tlb.read(2, (n * 8) & mask, 8) {
            sum = sum.wrapping_add(ram.read_u64_be(at));
        }
    });
    time("read 8 bytes, any alignment", million, |n| {
        if let Some(at) = tlb.read(2, ((n * 9) & mask) + (n & 7), 8) {
            sum = sum.wrapping_add(ram.read_u64_be(at));
        }
    });
    time("write 8 bytes, aligned", million, |n| {
        if let Some(at) = tlb.write(2, (n * 8) & mask, 8) {
            ram.write_u64_be(at, n);
        }
    });
    time("copy 64 bytes forward", million, |n| {
        if let Some(at) = tlb.write(2, (n * 64) & 0xf_ff00, 128) {
            ram.copy_forward(at, at + 64, 64);
        }
    });
    time("copy 16 bytes forward", million, |n| {
        if let Some(at) = tlb.write(2, (n * 64) & 0xf_ff00, 128) {
            ram.copy_forward(at, at + 64, 16);
        }
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
    time("fill the translation buffer", 1_000_000, |n| {
        let page = n % 1024;
        if let Fill::Page(filled) = storage.lookup_for_fill(page, 0, View::Authoritative) {
            tlb.fill(0, page << 12, TlbFill { offset: filled.offset, ..fill(page) });
        }
    });
    time("flush everything", 1_000_000, |_| tlb.flush_all());
    (0..256).for_each(|page| (0..8).for_each(|context| tlb.fill(context, page << 12, fill(page))));
    time("flush a page of storage from a full buffer", 1_000_000, |n| {
        let page = n % 256;
        tlb.flush_page(page);
        tlb.fill(2, page << 12, fill(page));
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
            cpu.acknowledge(|flush| match flush {
                Flush::Page(page) => tlb.flush_page(page),
                Flush::All => tlb.flush_all(),
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
