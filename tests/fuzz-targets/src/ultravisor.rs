//! The Ultravisor, driven by what a hostile guest may call it with.
//!
//! Requests are sealed here after the fuzzer has made them, for nobody guesses a tag; then everything behind the
//! seal is reached. A request that is not sealed must be refused.

use cloister_crypto::{Aes256Gcm, P521Secret, Secret, SeededEntropy, Sha512, sha256, x963_kdf_sha256};
use cloister_formats::s390x::arcb;
use cloister_formats::s390x::asrcb;
use cloister_formats::s390x::host_key::{KeySlot, KeyXy, Phkh};
use cloister_formats::s390x::se_header::{Pcf, Scf, SeHeader, SecretArea};
use cloister_formats::s390x::secret_list::SecretList;
use cloister_formats::s390x::uvcb::{
    AddSecret, CpuSetState, CreateSecConf, CreateSecCpu, Handle, Init, ListSecrets, LockSecrets, RetrAttest,
    RetrSecret, SetSecConfParams, Unpack, UvCommand, UvHeader,
};
use cloister_memory::{NoShootdown, Storage};
use cloister_uv_s390x::{
    AccessFailure, CallerStorage, Cc, Identity, SecureStorage, StorageAccess, StorageResolver, Ultravisor,
    UvConfig,
};
use std::sync::OnceLock;

const TOKEN: u64 = 0x1000;
const PAGES: u64 = 4;
const REQUEST: u64 = 0x1000;
const OUTPUT: u64 = 0x8000;
const MEMORY: usize = 0xc000;

/// The input is calls one after the other: kind, length in two bytes, bytes. Kind's bits: 0 to 2 which call, 5 the
/// request is for this image, 6 its lengths are right, 7 it is sealed.
pub(crate) fn guest_calls(bytes: &[u8]) {
    drive(bytes);
}

/// The number of secrets that were added, and of attestations that were made.
fn drive(mut bytes: &[u8]) -> (u32, u32) {
    let mut attested = 0u32;
    let mut guest = Guest::new();
    let mut accepted = 0u32;
    for _ in 0..24 {
        let Some((&[kind, high, low], rest)) = bytes.split_first_chunk() else { break };
        let length = usize::from(u16::from_be_bytes([high, low])).min(rest.len()).min(0x6000);
        let (data, rest) = rest.split_at(length);
        bytes = rest;
        let sealed = kind & 0x80 != 0;
        let byte = |at: usize| data.get(at).copied().unwrap_or(0);
        let block = match kind & 7 {
            0 => {
                guest.put(&keys().attestation(data.to_vec(), kind));
                RetrAttest {
                    arcb_addr: REQUEST,
                    meas_addr: OUTPUT,
                    meas_len: 64,
                    add_addr: OUTPUT + 0x100,
                    add_len: 0x400,
                    ..RetrAttest::default()
                }
                .encode()
            }
            1 => {
                guest.put(&keys().secret(data.to_vec(), kind));
                AddSecret { addr: REQUEST }.encode()
            }
            2 => ListSecrets { start_index: u16::from(byte(0)), addr: OUTPUT }.encode(),
            3 => LockSecrets {}.encode(),
            4 => RetrSecret { index: u16::from(byte(0)), buf_size: 0x2000, buf_addr: OUTPUT }.encode(),
            _ => {
                // Any block. Sharing would need a host that answers.
                let mut block = data.to_vec();
                if block.get(2..4).is_some_and(|command| command == [0x10, 0] || command == [0x10, 1]) {
                    block[3] = 0x20;
                }
                block
            }
        };
        let answer = guest.call(block);
        if kind & 7 < 2 {
            assert!(sealed || answer != Cc::Done, "a request that nobody sealed was accepted");
            accepted += u32::from(kind & 7 == 1 && answer == Cc::Done);
            attested += u32::from(kind & 7 == 0 && answer == Cc::Done);
        }
    }
    assert_eq!(guest.call(ListSecrets { start_index: 0, addr: OUTPUT }.encode()), Cc::Done);
    let page = guest.memory.get(OUTPUT as usize..OUTPUT as usize + 4096).expect("the page is in memory");
    let list = SecretList::parse(page).expect("the list is one");
    assert!(u32::from(list.total) <= accepted && list.entries.len() == usize::from(list.total));
    (accepted, attested)
}

#[test]
fn seeds_reach_what_lies_behind_the_seal() {
    assert_eq!(drive(include_bytes!("../../../fuzz/corpus/guest_calls/secrets")), (16, 0));
    assert_eq!(drive(include_bytes!("../../../fuzz/corpus/guest_calls/attest")), (0, 2));
}

/// A guest that runs an image of one page.
struct Guest {
    uv: Ultravisor,
    storage: Storage,
    cpu: u64,
    memory: Vec<u8>,
}

struct Resolver<'a>(StorageAccess<'a>);

impl StorageResolver for Resolver<'_> {
    fn storage(&self, token: u64) -> Option<&dyn SecureStorage> {
        (token == TOKEN).then_some(&self.0)
    }
}

struct Memory<'a>(&'a mut Vec<u8>);

impl Memory<'_> {
    fn part(&mut self, address: u64, len: usize) -> Result<&mut [u8], AccessFailure> {
        let start = usize::try_from(address).map_err(|_| AccessFailure::Invalid)?;
        let end = start.checked_add(len).ok_or(AccessFailure::Invalid)?;
        self.0.get_mut(start..end).ok_or(AccessFailure::Invalid)
    }
}

impl CallerStorage for Memory<'_> {
    fn read(&mut self, address: u64, to: &mut [u8]) -> Result<(), AccessFailure> {
        to.copy_from_slice(self.part(address, to.len())?);
        Ok(())
    }

    fn probe_write(&mut self, address: u64, len: usize) -> Result<(), AccessFailure> {
        self.part(address, len).map(drop)
    }

    fn write(&mut self, address: u64, from: &[u8]) -> Result<(), AccessFailure> {
        self.part(address, from.len())?.copy_from_slice(from);
        Ok(())
    }

    fn settle(&mut self) -> Result<(), AccessFailure> {
        Ok(())
    }
}

impl Guest {
    fn new() -> Self {
        let keys = keys();
        let identity = Identity::new(keys.host.clone(), None);
        let entropy = Box::new(SeededEntropy::new(b"fuzz"));
        let uv = Ultravisor::new(identity, entropy, UvConfig::default());
        let storage = Storage::new(PAGES * 4096).expect("a small storage");
        let mut guest = Self { uv, storage, cpu: 0, memory: vec![0; MEMORY] };
        guest.host(Init { stor_origin: 2 << 30, stor_len: 1 << 20 }.encode(), &[]);
        let create = CreateSecConf {
            base_origin: 0x10000,
            mso: 1 << 40,
            guest_len: PAGES * 4096,
            sca: 0x30000,
            asce: TOKEN,
            ..CreateSecConf::default()
        };
        let handle = Handle::parse(&guest.host(create.encode(), &[])).map_or(0, |block| block.handle);
        let create = CreateSecCpu {
            guest_handle: handle,
            stor_origin: 0x40000,
            state_origin: 0x50000,
            ..CreateSecCpu::default()
        };
        guest.cpu = Handle::parse(&guest.host(create.encode(), &[])).map_or(0, |block| block.handle);
        let hdr_len = keys.header.len() as u32;
        let parameters = SetSecConfParams { guest_handle: handle, hdr_origin: 0, hdr_len };
        guest.host(parameters.encode(), &keys.header);
        guest.host(Unpack { guest_handle: handle, gaddr: 0, tweak: [0, 0] }.encode(), &[]);
        guest.host(Handle { handle }.encode(UvCommand::VERIFY).expect("it has a handle"), &[]);
        guest.host(CpuSetState { cpu_handle: guest.cpu, state: 5 }.encode(), &[]);
        guest
    }

    fn host(&self, mut block: Vec<u8>, data: &[u8]) -> Vec<u8> {
        let access = Resolver(StorageAccess { storage: &self.storage, shootdown: &NoShootdown });
        let outcome = self.uv.host_call(&mut block, data, &access);
        assert_eq!(outcome.cc, Cc::Done, "{:?}", outcome.refusal);
        block
    }

    fn put(&mut self, request: &[u8]) {
        let start = REQUEST as usize;
        // Nothing of an earlier request stays.
        self.memory[start..OUTPUT as usize].fill(0);
        self.memory[start..start + request.len()].copy_from_slice(request);
    }

    fn call(&mut self, mut block: Vec<u8>) -> Cc {
        let access = Resolver(StorageAccess { storage: &self.storage, shootdown: &NoShootdown });
        let outcome = self.uv.guest_call(self.cpu, &mut block, &access, &mut Memory(&mut self.memory));
        if let (Cc::Refused, Some(refusal)) = (outcome.cc, &outcome.refusal) {
            assert_eq!(UvHeader::parse(&block).map(|header| header.rc), Ok(refusal.rc));
        }
        outcome.cc
    }
}

/// The machine's key, the image for it, and what an owner seals with.
struct Keys {
    host: P521Secret,
    header: Vec<u8>,
    customer: KeyXy,
    slot: [u8; KeySlot::SIZE],
}

const REQUEST_KEY: [u8; 32] = [5; 32];

fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| {
        let entropy = &mut SeededEntropy::new(b"fuzz keys");
        let (host, customer) = (P521Secret::generate(entropy), P521Secret::generate(entropy));
        let phkh = Phkh(sha256(&host.public().to_padded_xy()));
        let kek = x963_kdf_sha256(customer.ecdh_x(&host.public()).expose());
        let mut wrapped_key = REQUEST_KEY;
        let tag = Aes256Gcm::new(&kek).seal(&[0; 12], &[], &mut wrapped_key).expect("a short seal");
        let slot = KeySlot { phkh, wrapped_key, tag };
        let customer = KeyXy(customer.public().to_padded_xy());
        let digest = |bytes: &[u8]| {
            let mut hash = Sha512::new();
            hash.update(bytes);
            hash.finish()
        };
        let secrets = SecretArea {
            reserved: 0,
            cck: [1; 32],
            xts_key: [2; 64],
            psw_mask: 0x1_8000_0000,
            psw_addr: 0,
            scf: Scf::CCK_UPDATE.0,
            optional_items: 0,
            items: Vec::new(),
        };
        let mut header = SeHeader {
            iv: [3; 12],
            reserved: 0,
            encrypted_pages: 1,
            pcf: Pcf::NO_COMPONENT_ENCRYPTION,
            customer_key: customer,
            pld: digest(&[0; 4096]),
            ald: digest(&[0; 8]),
            tld: digest(&[0; 16]),
            slots: vec![slot],
            encrypted_area: secrets.encode(),
            tag: [0; 16],
        };
        let mut area = header.encrypted_area.clone();
        let cipher = Aes256Gcm::new(&Secret::new(REQUEST_KEY));
        header.tag = cipher.seal(&header.iv, &header.aad(), &mut area).expect("a short seal");
        header.encrypted_area = area;
        Keys { host, header: header.encode(), customer, slot: slot.encode() }
    })
}

impl Keys {
    fn attestation(&self, mut raw: Vec<u8>, kind: u8) -> Vec<u8> {
        let fixed = arcb::FIXED_SIZE;
        if raw.len() < fixed + KeySlot::SIZE + 16 {
            return raw;
        }
        let area = raw.len() - fixed - KeySlot::SIZE - 16;
        if kind & 0x40 != 0 {
            raw[..12].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
            self.lengths(&mut raw, area);
        }
        raw[0x40..0xe0].copy_from_slice(&self.customer.0);
        self.seal(raw, fixed, fixed + KeySlot::SIZE, kind)
    }

    fn secret(&self, mut raw: Vec<u8>, kind: u8) -> Vec<u8> {
        let fixed = asrcb::FIXED_SIZE;
        let at = fixed + KeySlot::SIZE;
        if raw.len() < at + 16 + 32 + 16 {
            return raw;
        }
        let aad = at + if raw[at + 2..at + 4] == [0, 1] { 16 } else { 48 };
        let area = raw.len() - aad - 16;
        if kind & 0x40 != 0 {
            raw[..12].copy_from_slice(b"asrcbM\0\0\0\0\x01\0");
            self.lengths(&mut raw, area);
            let len = (area as u32).saturating_sub(32);
            raw[at + 4..at + 8].copy_from_slice(&len.to_be_bytes());
        }
        if kind & 0x20 != 0 {
            raw[0x30..0x38].fill(0);
            raw[0x38..0xf8].copy_from_slice(&self.header[0xe0..0x1a0]);
            raw[0xf8..0x108].copy_from_slice(&self.header[self.header.len() - 16..]);
            raw[0x108..0x118].fill(0);
        }
        raw[0x418..0x4b8].copy_from_slice(&self.customer.0);
        self.seal(raw, fixed, aad, kind)
    }

    fn lengths(&self, raw: &mut [u8], area: usize) {
        let total = raw.len() as u32;
        raw[0x0c..0x10].copy_from_slice(&total.to_be_bytes());
        raw[0x27] = 1;
        raw[0x2c..0x30].copy_from_slice(&(area as u32).to_be_bytes());
    }

    fn seal(&self, mut raw: Vec<u8>, slot: usize, aad: usize, kind: u8) -> Vec<u8> {
        raw[slot..slot + KeySlot::SIZE].copy_from_slice(&self.slot);
        if kind & 0x80 != 0 {
            let end = raw.len() - 16;
            let (head, area) = raw.split_at_mut(aad);
            let iv: [u8; 12] = head[0x10..0x1c].try_into().expect("twelve bytes");
            let cipher = Aes256Gcm::new(&Secret::new(REQUEST_KEY));
            let tag = cipher.seal(&iv, head, &mut area[..end - aad]).expect("a short seal");
            raw[end..].copy_from_slice(&tag);
        }
        raw
    }
}
