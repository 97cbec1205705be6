//! What a conversion of a page costs: the calls of a guest and of a host through the Ultravisor, over real
//! storage, beside a copy of 4 KiB in the same run. SPECIFICATION.md promises 3 µs for a page that becomes
//! shared or private.
//!
//! No CPU holds a translation here, so the cost of a flush on other CPUs is not in the numbers.

use std::hint::black_box;
use std::time::{Duration, Instant};

use cloister_crypto::{Aes256Xts, P521Secret, Secret, SeededEntropy};
use cloister_formats::s390x::ipl_block::{IplBlock, IplKind, PvBlock};
use cloister_formats::s390x::uvcb::*;
use cloister_memory::{NoShootdown, Storage};
use cloister_uv_s390x::*;
use serde_json::Value;

/// The first page above the image.
const FIRST: u64 = 32;
/// Pages that are converted; both halves together are beyond the caches.
const COUNT: u64 = 8192;
const ROUNDS: usize = 9;
const TARGET: Duration = Duration::from_micros(3);

fn main() {
    let copy = Cost::of(&copy_pages());
    println!("{COUNT} pages, each number the median of {ROUNDS} rounds (lowest in brackets)");
    println!("{:34} {}", "copy of 4 KiB", copy.text());

    let (mut first_touch, mut first_write, mut first_share) = (vec![], vec![], vec![]);
    let mut guest = Guest::start();
    for _ in 0..ROUNDS {
        guest = Guest::start();
        first_touch.push(guest.host(|guest, page| to_secure(guest.handle, page)));
        first_write.push(first_touch[first_touch.len() - 1] + guest.write_something());
        first_share.push(guest.calls(|page| SetSharedAccess { paddr: page * 4096 }.encode()));
        guest.calls(|page| RemoveSharedAccess { paddr: page * 4096 }.encode());
    }
    let (mut share, mut unshare, mut export, mut import) = (vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        share.push(guest.calls(|page| SetSharedAccess { paddr: page * 4096 }.encode()));
        unshare.push(guest.calls(|page| RemoveSharedAccess { paddr: page * 4096 }.encode()));
    }
    for _ in 0..ROUNDS {
        export.push(guest.host(|_, page| ConvFromSec { paddr: ORIGIN + page * 4096 }.encode()));
        import.push(guest.host(|guest, page| to_secure(guest.handle, page)));
    }
    let report = |name: &str, cost: Cost, target: bool| {
        let ratio = cost.median.as_secs_f64() / copy.median.as_secs_f64();
        let verdict = match (target, cost.median <= TARGET) {
            (false, _) => "",
            (true, true) => "  target 3000 ns: reached",
            (true, false) => "  target 3000 ns: MISSED",
        };
        println!("{name:34} {}  {ratio:6.1} copies{verdict}", cost.text());
    };
    report("share", Cost::of(&share), true);
    report("unshare", Cost::of(&unshare), true);
    report("share, host half never touched", Cost::of(&first_share), false);
    report("first touch by the guest", Cost::of(&first_touch), false);
    report("first touch, and filling the page", Cost::of(&first_write), false);
    report("export (encrypted, with a tag)", Cost::of(&export), false);
    report("import (checked, decrypted)", Cost::of(&import), false);
}

fn to_secure(guest_handle: u64, page: u64) -> Vec<u8> {
    ConvToSec { guest_handle, gaddr: page * 4096 }.encode()
}

/// Time of one operation.
struct Cost {
    median: Duration,
    lowest: Duration,
}

impl Cost {
    fn of(rounds: &[Duration]) -> Self {
        let mut rounds = rounds.to_vec();
        rounds.sort();
        Self { median: rounds[rounds.len() / 2], lowest: rounds[0] }
    }

    fn text(&self) -> String {
        format!("{:6} ns ({:6})", self.median.as_nanos(), self.lowest.as_nanos())
    }
}

/// As many bytes from one buffer to another as a round of conversions moves.
fn copy_pages() -> Vec<Duration> {
    let from = vec![[0x5au8; 4096]; COUNT as usize];
    let mut to = vec![[1u8; 4096]; COUNT as usize];
    let mut round = || {
        let start = Instant::now();
        for (to, from) in to.iter_mut().zip(&from) {
            black_box(&mut *to).copy_from_slice(black_box(from));
        }
        start.elapsed() / COUNT as u32
    };
    (0..ROUNDS).map(|_| round()).collect()
}

const TOKEN: u64 = 0x77;
const ORIGIN: u64 = 0x1_0000_0000;

/// A configuration that runs, with its storage.
struct Guest {
    uv: Ultravisor,
    storage: Storage,
    handle: u64,
    cpu: u64,
}

struct OneStorage<'a>(StorageAccess<'a>);

impl StorageResolver for OneStorage<'_> {
    fn storage(&self, token: u64) -> Option<&dyn SecureStorage> {
        (token == TOKEN).then_some(&self.0)
    }
}

impl Guest {
    /// Starts the image of the test vectors, whose pages lie below [`FIRST`].
    fn start() -> Self {
        let vectors: Value = serde_json::from_str(include_str!("../tests/data/se-vectors.json"))
            .expect("the vectors are JSON");
        let bytes =
            |value: &Value| hex::decode(value.as_str().unwrap_or_default()).expect("the vectors hold digits");
        let scalar = bytes(&vectors["host_key"]["private_scalar_hex"]);
        let scalar = scalar.try_into().expect("a scalar of P-521 has 66 bytes");
        let key = P521Secret::from_scalar(&scalar).expect("the vector holds a key");
        let header = bytes(&vectors["se_header"]["header_hex"]);
        let block = IplBlock::parse(&bytes(&vectors["image"]["ipib_hex"])).expect("the vector is a block");
        let IplKind::Pv(block) = block.kind else { panic!("the vector is a block of type 5") };

        let entropy = Box::new(SeededEntropy::new(b"bench"));
        let uv = Ultravisor::new(Identity::new(key, None), entropy, UvConfig::default());
        let guest_len = (FIRST + COUNT) * 4096;
        let storage = Storage::new(guest_len).expect("there is room for the guest");
        let mut guest = Self { uv, storage, handle: 0, cpu: 0 };
        guest.call(Init { stor_origin: 2 << 30, stor_len: 1 << 20 }.encode(), &[]);
        let create = CreateSecConf {
            base_origin: 0x10000,
            mso: ORIGIN,
            guest_len,
            sca: 0x30000,
            asce: TOKEN,
            ..Default::default()
        };
        let created = guest.call(create.encode(), &[]);
        guest.handle = CreateSecConf::parse(&created).expect("the block is what it was").guest_handle;
        let guest_handle = guest.handle;
        let cpu =
            CreateSecCpu { guest_handle, stor_origin: 0x40000, state_origin: 0x50000, ..Default::default() };
        let created = guest.call(cpu.encode(), &[]);
        guest.cpu = CreateSecCpu::parse(&created).expect("the block is what it was").cpu_handle;
        let hdr_len = header.len() as u32;
        guest.call(SetSecConfParams { guest_handle, hdr_origin: 0, hdr_len }.encode(), &header);
        let xts = bytes(&vectors["page_xts"]["key_hex"]);
        guest.load(&block, &xts);
        guest
            .call(Handle { handle: guest_handle }.encode(UvCommand::VERIFY).expect("it takes a handle"), &[]);
        guest.call(CpuSetState { cpu_handle: guest.cpu, state: 5 }.encode(), &[]);
        guest
    }

    /// Encrypts and unpacks the image's four payloads.
    fn load(&self, block: &PvBlock, key: &[u8]) {
        let payloads = [
            (0..4196u32).map(|i| ((7 * i + 3) & 0xff) as u8).collect(),
            b"own tiny ramdisk payload\n".repeat(3),
            b"console=ttysclp0 panic=-1\0".to_vec(),
            vec![0x0d, 0xd0, 0xa7, 0xf4, 0x00, 0x00, 0x07, 0xfe],
        ];
        let xts = Aes256Xts::new(&Secret::from_slice(key).expect("the key has 64 bytes"));
        for (mut payload, component) in payloads.into_iter().zip(&block.components) {
            payload.resize(component.size as usize, 0);
            for (index, page) in payload.as_chunks_mut::<4096>().0.iter_mut().enumerate() {
                let offset = index as u64 * 4096;
                let gaddr = component.addr + offset;
                xts.encrypt_page(&component.tweak_pref.page_tweak(offset), page);
                self.storage.ram().copy_in(gaddr as usize, page);
                let tweak = [component.tweak_pref.0, offset];
                self.call(Unpack { guest_handle: self.handle, gaddr, tweak }.encode(), &[]);
            }
        }
    }

    fn call(&self, mut block: Vec<u8>, data: &[u8]) -> Vec<u8> {
        let outcome = self.uv.host_call(&mut block, data, &self.access());
        assert_eq!(outcome.cc, Cc::Done, "{:?}", outcome.refusal);
        block
    }

    fn access(&self) -> OneStorage<'_> {
        OneStorage(StorageAccess { storage: &self.storage, shootdown: &NoShootdown })
    }

    /// A call of the host for each page: time for one.
    fn host(&self, block: impl Fn(&Self, u64) -> Vec<u8>) -> Duration {
        time(|page| block(self, page), |block| self.uv.host_call(block, &[], &self.access()).cc)
    }

    /// A call of the guest for each page: time for one.
    fn calls(&self, block: impl Fn(u64) -> Vec<u8>) -> Duration {
        time(block, |block| self.uv.guest_call(self.cpu, block, &self.access(), &mut NoCallerStorage).cc)
    }

    /// Puts content into every private page: time for one.
    fn write_something(&self) -> Duration {
        let secure_half = self.storage.size() as usize;
        let start = Instant::now();
        for page in FIRST..FIRST + COUNT {
            self.storage.ram().fill(secure_half + page as usize * 4096, page as u8 | 1, 4096);
        }
        start.elapsed() / COUNT as u32
    }
}

fn time(block: impl Fn(u64) -> Vec<u8>, mut call: impl FnMut(&mut [u8]) -> Cc) -> Duration {
    let mut blocks: Vec<_> = (FIRST..FIRST + COUNT).map(block).collect();
    let start = Instant::now();
    for block in &mut blocks {
        assert_eq!(call(block), Cc::Done);
    }
    start.elapsed() / COUNT as u32
}
