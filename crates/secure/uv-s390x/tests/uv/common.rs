//! A machine around the Ultravisor: fake storage, and the golden image.

use std::sync::{Mutex, MutexGuard};

use cloister_crypto::{Aes256Xts, Entropy, P521Secret, Secret, SeededEntropy};
use cloister_formats::s390x::dump::CpuArea;
use cloister_formats::s390x::ipl_block::{IplBlock, IplKind, PvBlock};
use cloister_formats::s390x::uv_rc::{Rc, Rrc};
use cloister_formats::s390x::uvcb::*;
use cloister_uv_s390x::*;
use serde_json::Value;

pub(crate) const TOKEN: u64 = 0x77;
pub(crate) const ORIGIN: u64 = 0x1_0000_0000;
pub(crate) const PAGES: usize = 32;

pub(crate) struct FakePage {
    pub(crate) private: bool,
    pub(crate) raw: Box<PageBytes>,
    pub(crate) plain: Box<PageBytes>,
    pub(crate) pins: u32,
}

pub(crate) struct FakeStorage(Vec<Mutex<FakePage>>);

impl FakeStorage {
    pub(crate) fn new(pages: usize) -> Self {
        let page = |_| FakePage { private: false, raw: [0; 4096].into(), plain: [0; 4096].into(), pins: 0 };
        Self((0..pages).map(|i| Mutex::new(page(i))).collect())
    }

    pub(crate) fn page(&self, page: u64) -> MutexGuard<'_, FakePage> {
        self.0[page as usize].lock().unwrap()
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len() as u64
    }

    fn to_private(
        &self,
        page: u64,
        make: impl FnOnce(&PageBytes, &mut PageBytes) -> bool,
    ) -> Result<(), StorageError> {
        let page = self.0.get(page as usize).ok_or(StorageError::OutOfRange)?;
        let page = &mut *page.lock().unwrap();
        if page.private {
            return Err(StorageError::Representation);
        }
        if page.pins > 0 {
            return Err(StorageError::Pins);
        }
        let mut plain = [0; 4096];
        if !make(&page.raw, &mut plain) {
            return Err(StorageError::Refused);
        }
        *page.plain = plain;
        page.raw.fill(0);
        page.private = true;
        Ok(())
    }
}

impl SecureStorage for FakeStorage {
    fn pages(&self) -> u64 {
        self.count()
    }

    fn clear_plain(&self, page: u64) -> Result<(), StorageError> {
        self.to_private(page, |_, _| true)
    }

    fn import(
        &self,
        page: u64,
        transform: &mut dyn FnMut(&PageBytes, &mut PageBytes) -> bool,
    ) -> Result<(), StorageError> {
        self.to_private(page, transform)
    }

    fn export(
        &self,
        page: u64,
        transform: &mut dyn FnMut(&PageBytes, &mut PageBytes) -> bool,
    ) -> Result<(), StorageError> {
        let page = &mut *self.0.get(page as usize).ok_or(StorageError::OutOfRange)?.lock().unwrap();
        if !page.private {
            return Err(StorageError::Representation);
        }
        let mut raw = [0; 4096];
        if !transform(&page.plain, &mut raw) {
            return Err(StorageError::Refused);
        }
        *page.raw = raw;
        page.plain.fill(0);
        page.private = false;
        Ok(())
    }

    fn share(&self, page: u64) -> Result<(), StorageError> {
        self.export(page, &mut |plain, raw| {
            *raw = *plain;
            true
        })
    }

    fn unshare(&self, page: u64) -> Result<(), StorageError> {
        self.to_private(page, |raw, plain| {
            *plain = *raw;
            true
        })
    }

    fn destroy(&self, page: u64) -> Result<(), StorageError> {
        let page = &mut *self.0.get(page as usize).ok_or(StorageError::OutOfRange)?.lock().unwrap();
        page.private = false;
        page.raw.fill(0);
        page.plain.fill(0);
        Ok(())
    }

    fn pin(&self, page: u64) -> Result<(), StorageError> {
        let mut page = self.page(page);
        if page.private {
            return Err(StorageError::Pins);
        }
        page.pins += 1;
        Ok(())
    }

    fn unpin(&self, page: u64) -> Result<(), StorageError> {
        let mut page = self.page(page);
        page.pins = page.pins.checked_sub(1).ok_or(StorageError::Pins)?;
        Ok(())
    }

    fn pause(&self) {
        std::thread::yield_now();
    }
}

/// What a guest's control blocks point at: storage from address 0 on.
pub(crate) struct CallerMemory {
    pub(crate) bytes: Vec<u8>,
    /// A page that is not there at the next access.
    pub(crate) absent: Option<usize>,
    /// The control block cannot be stored at the next settling.
    pub(crate) unsettled: bool,
}

impl CallerMemory {
    fn range(&mut self, address: u64, len: usize) -> Result<std::ops::Range<usize>, AccessFailure> {
        let start = usize::try_from(address).map_err(|_| AccessFailure::Invalid)?;
        let end = start.checked_add(len).filter(|&end| end <= self.bytes.len());
        let range = start..end.ok_or(AccessFailure::Invalid)?;
        if self.absent.is_some_and(|page| range.start / 4096 <= page && page < range.end.div_ceil(4096)) {
            self.absent = None;
            return Err(AccessFailure::Again);
        }
        Ok(range)
    }
}

impl CallerStorage for CallerMemory {
    fn read(&mut self, address: u64, to: &mut [u8]) -> Result<(), AccessFailure> {
        let range = self.range(address, to.len())?;
        to.copy_from_slice(&self.bytes[range]);
        Ok(())
    }

    fn probe_write(&mut self, address: u64, len: usize) -> Result<(), AccessFailure> {
        self.range(address, len).map(drop)
    }

    fn write(&mut self, address: u64, from: &[u8]) -> Result<(), AccessFailure> {
        let range = self.range(address, from.len())?;
        self.bytes[range].copy_from_slice(from);
        Ok(())
    }

    fn settle(&mut self) -> Result<(), AccessFailure> {
        if std::mem::take(&mut self.unsettled) { Err(AccessFailure::Again) } else { Ok(()) }
    }
}

pub(crate) struct Answer {
    pub(crate) cc: Cc,
    pub(crate) rc: Rc,
    pub(crate) rrc: Rrc,
    pub(crate) effect: Effect,
    pub(crate) text: String,
    pub(crate) block: Vec<u8>,
    pub(crate) data: Vec<u8>,
}

impl Answer {
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!((self.cc, self.rc), (Cc::Done, Rc::EXECUTED), "{}", self.text);
        self
    }

    #[track_caller]
    pub(crate) fn refused(self, rc: u16, rrc: u16) -> Self {
        assert_eq!((self.cc, self.rc, self.rrc), (Cc::Refused, Rc(rc), Rrc(rrc)), "{}", self.text);
        assert!(!self.text.is_empty());
        self
    }
}

pub(crate) struct Machine {
    pub(crate) uv: Ultravisor,
    pub(crate) storage: FakeStorage,
    pub(crate) memory: Mutex<CallerMemory>,
}

impl StorageResolver for Machine {
    fn storage(&self, token: u64) -> Option<&dyn SecureStorage> {
        (token == TOKEN).then_some(&self.storage)
    }

    fn registers(&self, cpu: u16) -> Option<CpuArea> {
        (cpu < 8).then(|| registers(u64::from(cpu)))
    }
}

impl Machine {
    pub(crate) fn with_identity(identity: Identity) -> Self {
        Self::with_entropy(identity, Box::new(SeededEntropy::new(b"uv test")))
    }

    pub(crate) fn with_entropy(identity: Identity, entropy: Box<dyn Entropy + Send>) -> Self {
        let uv = Ultravisor::new(identity, entropy, UvConfig::default());
        let memory = CallerMemory { bytes: vec![0; 0x20000], absent: None, unsettled: false };
        Self { uv, storage: FakeStorage::new(PAGES), memory: Mutex::new(memory) }
    }

    pub(crate) fn new() -> Self {
        Self::with_identity(Identity::new(host_key("host_key"), None))
    }

    /// Initialised, with a configuration.
    pub(crate) fn created() -> (Self, u64) {
        let machine = Self::new();
        machine.init();
        let guest = machine.create();
        (machine, guest)
    }

    pub(crate) fn init(&self) {
        self.host(Init { stor_origin: 2 << 30, stor_len: 1 << 20 }.encode()).ok();
    }

    pub(crate) fn create(&self) -> u64 {
        let answer = self.host(Self::create_block()).ok();
        CreateSecConf::parse(&answer.block).unwrap().guest_handle
    }

    pub(crate) fn create_block() -> Vec<u8> {
        let block = CreateSecConf {
            base_origin: 0x10000,
            virt_origin: 0x20000,
            mso: ORIGIN,
            guest_len: PAGES as u64 * 4096,
            sca: 0x30000,
            asce: TOKEN,
            ..CreateSecConf::default()
        };
        block.encode()
    }

    pub(crate) fn cpu(&self, guest: u64, num: u16) -> u64 {
        let block = CreateSecCpu {
            guest_handle: guest,
            stor_origin: 0x40000,
            num,
            state_origin: 0x50000,
            ..CreateSecCpu::default()
        };
        CreateSecCpu::parse(&self.host(block.encode()).ok().block).unwrap().cpu_handle
    }

    pub(crate) fn host(&self, block: Vec<u8>) -> Answer {
        self.host_with(block, Vec::new())
    }

    pub(crate) fn host_with(&self, mut block: Vec<u8>, data: Vec<u8>) -> Answer {
        let outcome = self.uv.host_call(&mut block, &data, self);
        let header = UvHeader::parse(&block).unwrap();
        let text = outcome.refusal.map(|refusal| refusal.to_string()).unwrap_or_default();
        Answer {
            cc: outcome.cc,
            rc: header.rc,
            rrc: header.rrc,
            effect: outcome.effect,
            text,
            block,
            data: outcome.data,
        }
    }

    pub(crate) fn named(&self, command: UvCommand, handle: u64) -> Answer {
        self.host(Handle { handle }.encode(command).unwrap())
    }

    pub(crate) fn guest(&self, cpu: u64, mut block: Vec<u8>) -> (GuestCallOutcome, Rc, Vec<u8>) {
        let outcome = self.uv.guest_call(cpu, &mut block, self, &mut *self.memory.lock().unwrap());
        (outcome, UvHeader::parse(&block).unwrap().rc, block)
    }

    pub(crate) fn set_header(&self, guest: u64, header: &[u8]) -> Answer {
        let block = SetSecConfParams { guest_handle: guest, hdr_origin: 0, hdr_len: header.len() as u32 };
        self.host_with(block.encode(), header.to_vec())
    }

    pub(crate) fn unpack(&self, guest: u64, gaddr: u64, tweak: [u64; 2]) -> Answer {
        self.host(Unpack { guest_handle: guest, gaddr, tweak }.encode())
    }

    pub(crate) fn import(&self, guest: u64, page: u64) -> Answer {
        self.host(ConvToSec { guest_handle: guest, gaddr: page * 4096 }.encode())
    }

    pub(crate) fn export(&self, page: u64) -> Answer {
        self.host(ConvFromSec { paddr: ORIGIN + page * 4096 }.encode())
    }

    pub(crate) fn destroy_page(&self, page: u64) -> Answer {
        self.host(DestrSecStor { paddr: ORIGIN + page * 4096 }.encode())
    }

    pub(crate) fn pin(&self, page: u64) -> Answer {
        self.host(PinPageShared { paddr: ORIGIN + page * 4096 }.encode())
    }

    pub(crate) fn unpin(&self, guest: u64, page: u64) -> Answer {
        self.host(UnpinPageShared { guest_handle: guest, gaddr: page * 4096 }.encode())
    }

    pub(crate) fn share(&self, cpu: u64, page: u64) -> (GuestCallOutcome, Rc) {
        let (outcome, rc, _) = self.guest(cpu, SetSharedAccess { paddr: page * 4096 }.encode());
        (outcome, rc)
    }

    pub(crate) fn unshare(&self, cpu: u64, page: u64) -> (GuestCallOutcome, Rc) {
        let (outcome, rc, _) = self.guest(cpu, RemoveSharedAccess { paddr: page * 4096 }.encode());
        (outcome, rc)
    }

    pub(crate) fn set_state(&self, cpu: u64, state: u8) -> Answer {
        self.host(CpuSetState { cpu_handle: cpu, state }.encode())
    }

    pub(crate) fn kind(&self, guest: u64, page: u64) -> PageKind {
        self.uv.guest_pages(guest).unwrap().kind(page).unwrap()
    }

    pub(crate) fn resolve(&self, guest: u64, page: u64) -> Resolved {
        self.uv.guest_pages(guest).unwrap().resolve(page, true)
    }

    /// The guest's CPU writes to a page, if it may.
    pub(crate) fn guest_write(&self, guest: u64, page: u64, byte: u8) -> bool {
        let mut bytes = self.storage.page(page);
        match self.resolve(guest, page) {
            Resolved::Private => {
                assert!(bytes.private);
                bytes.plain.fill(byte);
            }
            Resolved::Shared => {
                assert!(!bytes.private);
                bytes.raw.fill(byte);
            }
            Resolved::NeedsImport | Resolved::Busy | Resolved::Fatal | Resolved::OutOfRange => return false,
        }
        true
    }

    /// Puts the golden image into storage, as a loader does.
    pub(crate) fn load(&self, image: &Image) {
        for (address, bytes) in &image.pages {
            *self.storage.page(address / 4096).raw = **bytes;
        }
    }

    pub(crate) fn unpack_all(&self, guest: u64, block: &PvBlock) {
        for component in &block.components {
            for offset in (0..component.size).step_by(4096) {
                self.unpack(guest, component.addr + offset, [component.tweak_pref.0, offset]).ok();
            }
        }
    }

    /// A configuration with one CPU that runs the golden image.
    pub(crate) fn running() -> (Self, u64, u64) {
        Self::new().run(&Image::golden().header)
    }

    /// Runs the golden image under another header of the same components.
    pub(crate) fn run(self, header: &[u8]) -> (Self, u64, u64) {
        self.init();
        let (guest, cpu) = self.start(header);
        (self, guest, cpu)
    }

    /// One more configuration with one CPU that runs the golden image under a header.
    pub(crate) fn start(&self, header: &[u8]) -> (u64, u64) {
        let guest = self.create();
        let image = Image::golden();
        let cpu = self.cpu(guest, 0);
        self.load(&image);
        self.set_header(guest, header).ok();
        self.unpack_all(guest, &image.block);
        self.named(UvCommand::VERIFY, guest).ok();
        self.set_state(cpu, 5).ok();
        (guest, cpu)
    }
}

pub(crate) struct Image {
    pub(crate) header: Vec<u8>,
    pub(crate) ipib: Vec<u8>,
    pub(crate) block: PvBlock,
    /// Address and ciphertext of each page.
    pub(crate) pages: Vec<(u64, Box<PageBytes>)>,
    /// Plaintext of the same pages.
    pub(crate) plain: Vec<Box<PageBytes>>,
}

impl Image {
    pub(crate) fn golden() -> Self {
        let all = vectors();
        let ipib = bytes(&all["image"]["ipib_hex"]);
        let IplKind::Pv(block) = IplBlock::parse(&ipib).unwrap().kind else { panic!("type 5") };
        let kernel: Vec<u8> = (0..4196u32).map(|i| ((7 * i + 3) & 0xff) as u8).collect();
        let payloads = [
            kernel,
            b"own tiny ramdisk payload\n".repeat(3),
            b"console=ttysclp0 panic=-1\0".to_vec(),
            hex::decode("0dd0a7f4000007fe").unwrap(),
        ];
        let xts = Aes256Xts::new(&Secret::from_slice(&bytes(&all["page_xts"]["key_hex"])).unwrap());
        let (mut pages, mut plain) = (Vec::new(), Vec::new());
        for (mut payload, component) in payloads.into_iter().zip(&block.components) {
            payload.resize(component.size as usize, 0);
            for (index, part) in payload.chunks_exact(4096).enumerate() {
                let offset = index as u64 * 4096;
                let clear: Box<PageBytes> = Box::new(part.try_into().unwrap());
                let mut page = clear.clone();
                xts.encrypt_page(&component.tweak_pref.page_tweak(offset), &mut page);
                pages.push((component.addr + offset, page));
                plain.push(clear);
            }
        }
        Self { header: bytes(&all["se_header"]["header_hex"]), ipib, block, pages, plain }
    }
}

/// The registers of a CPU, all different.
pub(crate) fn registers(cpu: u64) -> CpuArea {
    CpuArea::parse(&std::array::from_fn(|at| (at as u64 * 7 + cpu) as u8))
}

pub(crate) fn vectors() -> Value {
    serde_json::from_str(include_str!("../data/se-vectors.json")).unwrap()
}

pub(crate) fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

pub(crate) fn host_key(name: &str) -> P521Secret {
    let scalar = bytes(&vectors()[name]["private_scalar_hex"]);
    P521Secret::from_scalar(&scalar.try_into().unwrap()).unwrap()
}

pub(crate) fn negative_header(name: &str) -> Vec<u8> {
    let all = vectors();
    let cases = all["negative"]["cases"].as_array().unwrap();
    bytes(&cases.iter().find(|case| case["name"].as_str().unwrap() == name).unwrap()["header_hex"])
}
