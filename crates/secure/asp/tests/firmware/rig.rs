//! A processor with memory, driven by raw command buffers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock};

use cloister_asp::{Asp, Config, FlatMemory, Identity, SystemMemory};
use cloister_crypto::{Entropy, P384Public, P384Secret, Secret, SeededEntropy, aes128_ctr, hmac_sha256};
use cloister_crypto::{kbkdf_hmac_sha256_le, sha384};
use serde_json::Value;

pub(crate) const OK: u32 = 0;
pub(crate) const PLATFORM_STATE: u32 = 0x01;
pub(crate) const GUEST_STATE: u32 = 0x02;
pub(crate) const CONFIG: u32 = 0x03;
pub(crate) const LENGTH: u32 = 0x04;
pub(crate) const OWNED: u32 = 0x05;
pub(crate) const CERTIFICATE: u32 = 0x06;
pub(crate) const POLICY: u32 = 0x07;
pub(crate) const INACTIVE: u32 = 0x08;
pub(crate) const ADDRESS: u32 = 0x09;
pub(crate) const SIGNATURE: u32 = 0x0a;
pub(crate) const MEASUREMENT: u32 = 0x0b;
pub(crate) const ASID_OWNED: u32 = 0x0c;
pub(crate) const INVALID_ASID: u32 = 0x0d;
pub(crate) const WBINVD: u32 = 0x0e;
pub(crate) const DFFLUSH: u32 = 0x0f;
pub(crate) const GUEST: u32 = 0x10;
pub(crate) const COMMAND: u32 = 0x11;
pub(crate) const ACTIVE: u32 = 0x12;
pub(crate) const HWERROR: u32 = 0x13;
pub(crate) const UNSUPPORTED: u32 = 0x15;
pub(crate) const PARAM: u32 = 0x16;
pub(crate) const RESOURCE: u32 = 0x17;
pub(crate) const SECURE_DATA: u32 = 0x18;

/// Where things lie in memory.
pub(crate) const CERT: u64 = 0x10_0000;
pub(crate) const SESSION: u64 = 0x10_1000;
pub(crate) const HEADER: u64 = 0x10_2000;
pub(crate) const PAYLOAD: u64 = 0x10_3000;
pub(crate) const OUT: u64 = 0x10_9000;
pub(crate) const CHAIN: u64 = 0x10_a000;
pub(crate) const ROOTS: u64 = 0x10_c000;
pub(crate) const MDATA: u64 = 0x10_e000;
pub(crate) const IDS: u64 = 0x10_f000;
pub(crate) const VMSA: u64 = 0x11_0000;
pub(crate) const PAGE: u64 = 0x20_0000;
pub(crate) const SWAPPED: u64 = 0x40_0000;
pub(crate) const TMR: u64 = 0x80_0000;
pub(crate) const NV: u64 = 0xa0_0000;
pub(crate) const MEMORY: usize = 0xb0_0000;

pub(crate) const NODBG: u32 = 1;
pub(crate) const NOKS: u32 = 2;
pub(crate) const ES: u32 = 4;
pub(crate) const NOSEND: u32 = 8;
pub(crate) const DOMAIN: u32 = 16;
pub(crate) const SEV: u32 = 32;

/// A command buffer.
#[derive(Clone)]
pub(crate) struct Buf(pub(crate) Vec<u8>);

impl Buf {
    pub(crate) fn new(size: usize) -> Self {
        Self(vec![0; size])
    }

    pub(crate) fn u16(mut self, at: usize, value: u16) -> Self {
        self.0[at..at + 2].copy_from_slice(&value.to_le_bytes());
        self
    }

    pub(crate) fn u32(mut self, at: usize, value: u32) -> Self {
        self.0[at..at + 4].copy_from_slice(&value.to_le_bytes());
        self
    }

    pub(crate) fn u64(mut self, at: usize, value: u64) -> Self {
        self.0[at..at + 8].copy_from_slice(&value.to_le_bytes());
        self
    }

    pub(crate) fn set32(&mut self, at: usize, value: u32) {
        self.0[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn set64(&mut self, at: usize, value: u64) {
        self.0[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn get(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.0[at..at + 4].try_into().unwrap())
    }
}

/// Seeded entropy whose next draws can be chosen: `None` leaves a draw to the seed.
#[derive(Clone)]
pub(crate) struct Script(Arc<Mutex<VecDeque<Option<Vec<u8>>>>>);

struct Scripted {
    script: Script,
    seeded: SeededEntropy,
}

impl Entropy for Scripted {
    fn fill(&mut self, out: &mut [u8]) {
        match self.script.0.lock().unwrap().pop_front().flatten() {
            Some(bytes) => out.copy_from_slice(&bytes),
            None => self.seeded.fill(out),
        }
    }
}

pub(crate) struct Rig {
    pub(crate) asp: Asp,
    pub(crate) memory: FlatMemory,
    pub(crate) script: Script,
    /// The MAC of the last LAUNCH_MEASURE.
    pub(crate) mac: Vec<u8>,
}

impl Rig {
    pub(crate) fn with(seed: &str, identity: Identity, config: Config) -> Self {
        let script = Script(Arc::default());
        let seeded = SeededEntropy::new(seed.as_bytes());
        let entropy = Box::new(Scripted { script: script.clone(), seeded });
        Self {
            asp: Asp::new(identity, entropy, config),
            memory: FlatMemory::new(MEMORY),
            script,
            mac: Vec::new(),
        }
    }

    /// A processor of a fixed chip whose keys are there already, so that INIT is quick.
    pub(crate) fn new(seed: &str) -> Self {
        static FLASH: OnceLock<Vec<u8>> = OnceLock::new();
        let identity = || Identity::of_chip(Secret::new([0x5a; 32]));
        let flash = FLASH.get_or_init(|| {
            let mut first = Self::with("flash", identity(), Config::default());
            first.init(false);
            first.asp.take_flash().unwrap().unwrap().to_vec()
        });
        let mut rig = Self::with(seed, identity(), Config::default());
        rig.asp.set_flash(Some(flash.clone()));
        rig
    }

    /// Initialised, and ready to give ASIDs.
    pub(crate) fn ready(seed: &str, es: bool) -> Self {
        let mut rig = Self::new(seed);
        rig.init(es);
        rig.flush();
        rig
    }

    pub(crate) fn next_draws<const N: usize>(&self, draws: [Option<&[u8]>; N]) {
        self.script.0.lock().unwrap().extend(draws.map(|draw| draw.map(<[u8]>::to_vec)));
    }

    pub(crate) fn cmd(&mut self, id: u16, buf: &mut Buf) -> u32 {
        self.asp.execute(id, &mut buf.0, &self.memory).0
    }

    #[track_caller]
    pub(crate) fn run(&mut self, id: u16, buf: Buf) -> Buf {
        let mut buf = buf;
        assert_eq!(self.cmd(id, &mut buf), OK, "command {id:#04x}");
        buf
    }

    pub(crate) fn init(&mut self, es: bool) {
        self.run(0x01, init(es));
    }

    pub(crate) fn flush(&mut self) {
        self.asp.wbinvd_on_all_cores();
        self.run(0x0a, Buf::new(0));
    }

    pub(crate) fn state(&self) -> u8 {
        self.asp.state().0
    }

    pub(crate) fn guest_state(&self, handle: u32) -> u8 {
        self.asp.guest_state(handle).0
    }

    pub(crate) fn read(&self, at: u64, len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        self.memory.read(at, &mut out).unwrap();
        out
    }

    pub(crate) fn write(&self, at: u64, bytes: &[u8]) {
        self.memory.write(at, bytes).unwrap();
    }

    pub(crate) fn pdh(&mut self) -> Vec<u8> {
        self.run(0x08, Buf::new(28).u64(0, OUT).u32(8, 2084).u64(16, CHAIN).u32(24, 6252));
        self.read(OUT, 2084)
    }

    /// PEK, OCA and CEK.
    pub(crate) fn chain(&mut self) -> Vec<u8> {
        self.pdh();
        self.read(CHAIN, 6252)
    }

    /// LAUNCH_START without an owner.
    pub(crate) fn null_guest(&mut self, policy: u32) -> u32 {
        self.run(0x30, Buf::new(36).u32(4, policy)).get(0)
    }

    /// LAUNCH_START or RECEIVE_START with an owner's keys; certificate and session stay in memory.
    pub(crate) fn start(&mut self, id: u16, policy: u32, owner: &Owner) -> u32 {
        let session = owner.session(&self.pdh(), policy);
        self.write(CERT, &owner.certificate());
        self.write(SESSION, &session);
        self.run(id, start(policy)).get(0)
    }

    pub(crate) fn activate(&mut self, handle: u32, asid: u32) {
        self.run(0x21, Buf::new(8).u32(0, handle).u32(4, asid));
    }

    pub(crate) fn measure(&mut self, handle: u32) -> [u8; 48] {
        self.run(0x33, Buf::new(20).u32(0, handle).u64(8, OUT).u32(16, 48));
        self.mac = self.read(OUT, 32);
        self.read(OUT, 48).try_into().unwrap()
    }

    /// A guest in a state, with an ASID where the way there can have one.
    pub(crate) fn guest_in(&mut self, state: &str, policy: u32, asid: u32) -> u32 {
        let handle = match state {
            "inv" => return 77,
            "rx" => self.start(0x50, policy, &Owner::fixed()),
            _ => self.start(0x30, policy, &Owner::fixed()),
        };
        self.activate(handle, asid);
        let steps: &[u16] = match state {
            "lu" | "rx" => &[],
            "ls" => &[0x33],
            "ru" => &[0x33, 0x35],
            "su" => &[0x33, 0x35, 0x40],
            "se" => &[0x33, 0x35, 0x40, 0x43],
            other => panic!("no state {other}"),
        };
        if state != "lu" && state != "rx" && policy & ES != 0 {
            self.write(VMSA, &[0; 4096]);
            self.run(0x32, Buf::new(20).u32(0, handle).u64(8, VMSA).u32(16, 4096));
        }
        for &step in steps {
            let buf = match step {
                0x33 => {
                    self.measure(handle);
                    continue;
                }
                0x40 => {
                    let pdh = self.pdh();
                    self.write(CERT, &pdh);
                    send_start(handle)
                }
                _ => Buf::new(4).u32(0, handle),
            };
            self.run(step, buf);
        }
        handle
    }

    /// What a core that runs the guest would read.
    pub(crate) fn inside(&self, asid: u32, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = self.read(at, len);
        self.asp.memory_cipher(asid).expect("a guest that may run").decrypt(at, &mut bytes);
        bytes
    }
}

pub(crate) fn init(es: bool) -> Buf {
    Buf::new(20).u16(0, es.into()).u64(8, TMR).u32(16, 0x10_0000)
}

/// LAUNCH_START or RECEIVE_START of what is at [`CERT`] and [`SESSION`].
pub(crate) fn start(policy: u32) -> Buf {
    Buf::new(36).u32(4, policy).u64(8, CERT).u32(16, 2084).u64(24, SESSION).u32(32, 128)
}

/// SEND_START to the PDH at [`CERT`]; the session goes to [`SESSION`].
pub(crate) fn send_start(handle: u32) -> Buf {
    Buf::new(68)
        .u32(0, handle)
        .u64(8, CERT)
        .u32(16, 2084)
        .u64(24, CHAIN)
        .u32(32, 6252)
        .u64(40, ROOTS)
        .u32(48, 1664)
        .u64(56, SESSION)
        .u32(64, 128)
}

/// A packet command over [`HEADER`], [`PAYLOAD`] and a place in the guest.
pub(crate) fn packet(handle: u32, guest: u64, len: u32) -> Buf {
    Buf::new(52)
        .u32(0, handle)
        .u64(8, HEADER)
        .u32(16, 52)
        .u64(24, guest)
        .u32(32, len)
        .u64(40, PAYLOAD)
        .u32(48, len)
}

pub(crate) fn update(handle: u32, at: u64, len: u32) -> Buf {
    Buf::new(20).u32(0, handle).u64(8, at).u32(16, len)
}

/// The owner of a guest, from the formulas alone.
#[derive(Clone)]
pub(crate) struct Owner {
    pub(crate) key: P384Secret,
    pub(crate) nonce: [u8; 16],
    pub(crate) tek: [u8; 16],
    pub(crate) tik: [u8; 16],
    pub(crate) wrap_iv: [u8; 16],
}

impl Owner {
    pub(crate) fn fixed() -> Self {
        static KEY: OnceLock<P384Secret> = OnceLock::new();
        let key = KEY.get_or_init(|| P384Secret::from_scalar(&sha384(b"the owner of a test")).unwrap());
        Self { key: key.clone(), nonce: [1; 16], tek: [2; 16], tik: [3; 16], wrap_iv: [4; 16] }
    }

    pub(crate) fn certificate(&self) -> Vec<u8> {
        let mut out = vec![0; 2084];
        out[0] = 1;
        out[8..12].copy_from_slice(&0x1003u32.to_le_bytes());
        out[12] = 3;
        out[16] = 2;
        let (mut x, mut y) = self.key.public().to_xy();
        x.reverse();
        y.reverse();
        out[20..68].copy_from_slice(&x);
        out[92..140].copy_from_slice(&y);
        for slot in [0x414, 0x61c] {
            out[slot..slot + 4].copy_from_slice(&0x1000u32.to_le_bytes());
        }
        out
    }

    pub(crate) fn session(&self, pdh: &[u8], policy: u32) -> Vec<u8> {
        let z = self.key.ecdh_x(&point(pdh));
        let master = kbkdf_hmac_sha256_le::<16>(z.expose(), b"sev-master-secret", &self.nonce);
        let kek = kbkdf_hmac_sha256_le::<16>(master.expose(), b"sev-kek", &[]);
        let kik = kbkdf_hmac_sha256_le::<16>(master.expose(), b"sev-kik", &[]);
        let mut wrapped = [self.tek, self.tik].concat();
        aes128_ctr(&kek, &self.wrap_iv, &mut wrapped);
        let wrap_mac = hmac_sha256(kik.expose(), &[&wrapped]);
        let policy_mac = hmac_sha256(&self.tik, &[&policy.to_le_bytes()]);
        [&self.nonce[..], &wrapped, &self.wrap_iv, &wrap_mac, &policy_mac].concat()
    }

    /// Header and payload; `bound` is the MAC of the measurement for a secret.
    pub(crate) fn packet(&self, context: u8, plain: &[u8], bound: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let iv = [9; 16];
        let mut payload = plain.to_vec();
        aes128_ctr(&Secret::new(self.tek), &iv, &mut payload);
        let len = (plain.len() as u32).to_le_bytes();
        let mac = hmac_sha256(&self.tik, &[&[context], &[0; 4], &iv, &len, &len, &payload, bound]);
        ([&[0; 4][..], &iv, &mac].concat(), payload)
    }
}

/// The public key of a certificate.
pub(crate) fn point(certificate: &[u8]) -> P384Public {
    let number = |at: usize| {
        let mut bytes: [u8; 48] = certificate[at..at + 48].try_into().unwrap();
        bytes.reverse();
        bytes
    };
    P384Public::from_xy(&number(20), &number(92)).unwrap()
}

pub(crate) fn vectors() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/sev-vectors.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

pub(crate) fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}
