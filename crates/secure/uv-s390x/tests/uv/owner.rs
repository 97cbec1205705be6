//! The owner's side: requests for attestation and for adding secrets, made and sealed, and calls with them.

use crate::common::*;
use cloister_crypto::{Aes256Gcm, P521Public, P521Secret, Secret, SeededEntropy, sha256, x963_kdf_sha256};
use cloister_formats::s390x::arcb::{Arcb, ArcbFlags};
use cloister_formats::s390x::asrcb::{Asrcb, SecretHeader, SecretType};
use cloister_formats::s390x::host_key::{KeySlot, KeyXy, Phkh};
use cloister_formats::s390x::se_header::SeHeader;
use cloister_formats::s390x::uvcb::*;
use cloister_uv_s390x::*;

/// Where the calls below put requests and take answers.
pub(crate) const REQUEST: u64 = 0x1000;
pub(crate) const MEASUREMENT: u64 = 0xa000;
pub(crate) const ADDITIONAL: u64 = 0xb000;
pub(crate) const LIST: u64 = 0xc000;
pub(crate) const BUFFER: u64 = 0xe000;

pub(crate) const MEASUREMENT_KEY: [u8; 64] = [0x33; 64];
pub(crate) const NONCE: [u8; 16] = [0x44; 16];
const REQUEST_KEY: [u8; 32] = [0x55; 32];

fn customer() -> P521Secret {
    P521Secret::generate(&mut SeededEntropy::new(b"customer of requests"))
}

fn slot(host: &P521Public) -> KeySlot {
    let kek = x963_kdf_sha256(customer().ecdh_x(host).expose());
    let mut wrapped_key = REQUEST_KEY;
    let tag = Aes256Gcm::new(&kek).seal(&[0; 12], &[], &mut wrapped_key).unwrap();
    KeySlot { phkh: Phkh(sha256(&host.to_padded_xy())), wrapped_key, tag }
}

/// A request for attestation, sealed after `change`.
pub(crate) fn arcb(flags: ArcbFlags, change: impl FnOnce(&mut Arcb)) -> Vec<u8> {
    let mut area = MEASUREMENT_KEY.to_vec();
    if flags.has(ArcbFlags::NONCE) {
        area.extend(NONCE);
    }
    let mut request = Arcb {
        iv: [6; 12],
        flags,
        algorithm: 1,
        customer_key: KeyXy(customer().public().to_padded_xy()),
        slots: vec![slot(&host_key("host_key").public())],
        encrypted_area: area,
        tag: [0; 16],
    };
    change(&mut request);
    let mut area = request.encrypted_area.clone();
    request.tag =
        Aes256Gcm::new(&Secret::new(REQUEST_KEY)).seal(&request.iv, &request.aad(), &mut area).unwrap();
    request.encrypted_area = area;
    request.encode()
}

/// Key slots for another machine, by the name of its key in the vectors.
pub(crate) fn slots_for(name: &str) -> Vec<KeySlot> {
    vec![slot(&host_key(name).public())]
}

/// A secret to add, and what an owner may vary about its request.
pub(crate) struct NewSecret {
    pub(crate) kind: SecretType,
    pub(crate) id: [u8; 32],
    pub(crate) bytes: Vec<u8>,
    pub(crate) extension: [u8; 32],
}

impl NewSecret {
    /// A secret of the right length whose name and bytes follow from `name`.
    pub(crate) fn new(kind: SecretType, name: &str) -> Self {
        let size = kind.size().unwrap_or(16);
        let id = if kind.is_listable() { sha256(name.as_bytes()) } else { [0; 32] };
        let bytes = sha256(&id).into_iter().cycle().take(size).collect();
        Self { kind, id, bytes, extension: [0; 32] }
    }

    /// The request for the golden image.
    pub(crate) fn request(&self) -> Vec<u8> {
        self.request_with(|_| {})
    }

    /// The request, sealed after `change`.
    pub(crate) fn request_with(&self, change: impl FnOnce(&mut Asrcb)) -> Vec<u8> {
        let image = SeHeader::parse(&Image::golden().header).unwrap();
        let mut request = Asrcb {
            user_data_kind: 0,
            iv: self.id[..12].try_into().unwrap(),
            flags: 0,
            pld: image.pld,
            ald: image.ald,
            tld: image.tld,
            se_tag: image.tag,
            config_uid: [0; 16],
            user_data: [0; 512],
            customer_key: KeyXy(customer().public().to_padded_xy()),
            slots: vec![slot(&host_key("host_key").public())],
            secret: SecretHeader { kind: self.kind, len: self.bytes.len() as u32, id: self.id },
            encrypted_area: [&self.bytes[..], &self.extension].concat(),
            tag: [0; 16],
        };
        change(&mut request);
        let mut area = request.encrypted_area.clone();
        let cipher = Aes256Gcm::new(&Secret::new(REQUEST_KEY));
        request.tag = cipher.seal(&request.iv, &request.aad(), &mut area).unwrap();
        request.encrypted_area = area;
        request.encode()
    }
}

/// What came of a call.
pub(crate) struct Reply {
    pub(crate) cc: Cc,
    pub(crate) rc: u16,
    pub(crate) rrc: u16,
    pub(crate) text: String,
    pub(crate) block: Vec<u8>,
}

impl Reply {
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!((self.cc, self.rc), (Cc::Done, 1), "{}", self.text);
        self
    }

    #[track_caller]
    pub(crate) fn refused(self, rc: u16, rrc: u16) -> Self {
        assert_eq!((self.cc, self.rc, self.rrc), (Cc::Refused, rc, rrc), "{}", self.text);
        assert!(self.text.contains(": "), "it is said in words: {}", self.text);
        self
    }
}

impl Machine {
    pub(crate) fn put(&self, address: u64, bytes: &[u8]) {
        self.memory.lock().unwrap().write(address, bytes).unwrap();
    }

    pub(crate) fn take<const N: usize>(&self, address: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.memory.lock().unwrap().read(address, &mut bytes).unwrap();
        bytes
    }

    pub(crate) fn call(&self, cpu: u64, block: Vec<u8>) -> Reply {
        let (outcome, rc, block) = self.guest(cpu, block);
        let rrc = UvHeader::parse(&block).unwrap().rrc.0;
        let text = outcome.refusal.map(|refusal| refusal.to_string()).unwrap_or_default();
        Reply { cc: outcome.cc, rc: rc.0, rrc, text, block }
    }

    pub(crate) fn attest(&self, cpu: u64, request: &[u8], user_data: &[u8]) -> Reply {
        self.put(REQUEST, request);
        self.call(cpu, attest_call(user_data).encode())
    }

    pub(crate) fn add(&self, cpu: u64, request: &[u8]) -> Reply {
        self.put(REQUEST, request);
        self.call(cpu, AddSecret { addr: REQUEST }.encode())
    }

    pub(crate) fn lock_store(&self, cpu: u64) -> Reply {
        self.call(cpu, LockSecrets {}.encode())
    }

    pub(crate) fn retrieve(&self, cpu: u64, index: u16, buf_size: u32) -> Reply {
        self.call(cpu, RetrSecret { index, buf_size, buf_addr: BUFFER }.encode())
    }
}

pub(crate) fn attest_call(user_data: &[u8]) -> RetrAttest {
    let mut call = RetrAttest {
        arcb_addr: REQUEST,
        user_data_len: user_data.len() as u16,
        meas_len: 64,
        meas_addr: MEASUREMENT,
        add_len: 0x1000,
        add_addr: ADDITIONAL,
        ..RetrAttest::default()
    };
    call.user_data[..user_data.len()].copy_from_slice(user_data);
    call
}

/// A call of the guest with arguments that nothing is wrong with.
pub(crate) fn good_call(machine: &Machine, command: UvCommand) -> Vec<u8> {
    match command {
        UvCommand::RETR_ATTEST => {
            machine.put(REQUEST, &arcb(ArcbFlags::NONCE, |_| {}));
            attest_call(b"user").encode()
        }
        UvCommand::ADD_SECRET => {
            machine.put(REQUEST, &NewSecret::new(SecretType::ASSOCIATION, "good").request());
            AddSecret { addr: REQUEST }.encode()
        }
        UvCommand::LIST_SECRETS => ListSecrets { start_index: 0, addr: LIST }.encode(),
        UvCommand::LOCK_SECRETS => LockSecrets {}.encode(),
        _ => RetrSecret { index: 0, buf_size: 0x1000, buf_addr: BUFFER }.encode(),
    }
}
