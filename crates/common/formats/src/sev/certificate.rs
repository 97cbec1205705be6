//! SEV certificates: those of a platform (PDH, PEK, OCA, CEK) and of a guest owner.
//!
//! A certificate is kept as the 2084 bytes it came as, because parts without a meaning are signed too: the tail of
//! the key field need not be zero. Any 2084 bytes parse; what a firmware demands of them is asked for by name. The
//! signatures themselves are checked by whoever has the cryptography.

use std::fmt;

use super::layout::{get, newtype_field, put};
use crate::Error;

const WHAT: &str = "SEV certificate";

macro_rules! numbers {
    ($(#[$meta:meta])* $type:ident { $($(#[$item_meta:meta])* $name:ident = $value:literal, $text:literal;)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
        pub struct $type(pub u32);

        impl $type {
            $($(#[$item_meta])* pub const $name: Self = Self($value);)*

            /// The usual name; `None` for a number without one.
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some($text),)*
                    _ => None,
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, "{:#x}", self.0),
                }
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($type), "({})"), self)
            }
        }

        newtype_field!($type, u32);
    };
}

numbers! {
    /// Whose key it is, of a certificate or of a signer.
    Usage {
        /// AMD root key.
        ARK = 0x0000, "ARK";
        /// AMD SEV key.
        ASK = 0x0013, "ASK";
        /// No signature.
        INVALID = 0x1000, "INVALID";
        /// Owner's certificate authority.
        OCA = 0x1001, "OCA";
        /// Platform endorsement key.
        PEK = 0x1002, "PEK";
        /// Platform Diffie-Hellman key; also that of a guest owner.
        PDH = 0x1003, "PDH";
        /// Chip endorsement key.
        CEK = 0x1004, "CEK";
    }
}

numbers! {
    /// What a key is for, of a certificate or of a signature.
    Algo {
        /// No signature.
        NONE = 0x000, "none";
        /// RSA-PSS with SHA-256.
        RSA_SHA256 = 0x001, "RSA with SHA-256";
        /// ECDSA with SHA-256.
        ECDSA_SHA256 = 0x002, "ECDSA with SHA-256";
        /// ECDH with SHA-256.
        ECDH_SHA256 = 0x003, "ECDH with SHA-256";
        /// RSA-PSS with SHA-384.
        RSA_SHA384 = 0x101, "RSA with SHA-384";
        /// ECDSA with SHA-384.
        ECDSA_SHA384 = 0x102, "ECDSA with SHA-384";
        /// ECDH with SHA-384.
        ECDH_SHA384 = 0x103, "ECDH with SHA-384";
    }
}

numbers! {
    /// An elliptic curve.
    Curve {
        /// P-256.
        P256 = 1, "P-256";
        /// P-384.
        P384 = 2, "P-384";
    }
}

/// A certificate, byte for byte as it came.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate(Box<[u8; Self::SIZE]>);

/// The public key of a certificate.
#[derive(Clone, PartialEq, Eq)]
pub enum PublicKey {
    /// A point of a curve.
    Ecc(EccKey),
    /// An RSA key.
    Rsa {
        /// Bits of the modulus.
        bits: u32,
        /// Exponent, little-endian.
        exponent: Box<[u8; 512]>,
        /// Modulus, little-endian.
        modulus: Box<[u8; 512]>,
    },
}

/// A point, whose coordinates are not checked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct EccKey {
    /// The curve.
    pub curve: Curve,
    /// x, little-endian, padded with zeros.
    pub x: [u8; 72],
    /// y, little-endian, padded with zeros.
    pub y: [u8; 72],
}

/// A signature slot.
#[derive(Clone, PartialEq, Eq)]
pub struct Slot {
    /// Whose key signed.
    pub usage: Usage,
    /// How it signed.
    pub algo: Algo,
    /// ECDSA: r and s, 72 bytes each, little-endian. RSA: the number, little-endian.
    pub data: [u8; 512],
}

/// What the firmware finds wrong with the signature slots of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SlotFault {
    /// One of usage and algorithm says "empty", the other does not; the firmware answers BAD_SIGNATURE.
    #[error(
        "signature slot {0} is half empty: an empty slot has usage 0x1000 and algorithm 0, a used one has neither"
    )]
    HalfEmpty(usize),
    /// No slot names the signer; the firmware answers INVALID_CERTIFICATE.
    #[error("no signature slot names the signer {usage} with {algo}")]
    NoneMatches {
        /// Usage of the signer.
        usage: Usage,
        /// Algorithm of the signer.
        algo: Algo,
    },
}

impl Certificate {
    /// Bytes of a certificate.
    pub const SIZE: usize = 0x824;
    /// Bytes before the first signature: what is signed.
    pub const SIGNED: usize = 0x414;
    /// The only version.
    pub const VERSION: u32 = 1;
    const KEY: usize = 0x10;
    const SLOTS: [usize; 2] = [0x414, 0x61c];

    /// Takes exactly [`Self::SIZE`] bytes.
    ///
    /// # Errors
    /// If there are more or fewer.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let wrong = || Error::Field {
            what: WHAT,
            field: "length",
            found: bytes.len() as u64,
            rule: "a SEV certificate has 2084 bytes; give the decoded file, not base64",
        };
        <[u8; Self::SIZE]>::try_from(bytes).map(|bytes| Self(Box::new(bytes))).map_err(|_| wrong())
    }

    /// A certificate of version 1 with both signature slots empty.
    pub fn new(api: (u8, u8), usage: Usage, algo: Algo, key: &EccKey) -> Self {
        let mut bytes = Box::new([0; Self::SIZE]);
        put(&mut bytes[..], 0, &Self::VERSION);
        (bytes[4], bytes[5]) = api;
        put(&mut bytes[..], 8, &usage);
        put(&mut bytes[..], 0xc, &algo);
        put(&mut bytes[..], Self::KEY, &key.curve);
        put(&mut bytes[..], Self::KEY + 4, &key.x);
        put(&mut bytes[..], Self::KEY + 76, &key.y);
        let mut certificate = Self(bytes);
        certificate.clear_slots();
        certificate
    }

    /// All bytes.
    pub const fn as_bytes(&self) -> &[u8; Self::SIZE] {
        &self.0
    }

    /// The bytes for a file or a buffer.
    pub fn encode(&self) -> Vec<u8> {
        self.0.to_vec()
    }

    /// The bytes that signatures cover.
    pub fn signed_bytes(&self) -> &[u8] {
        &self.0[..Self::SIGNED]
    }

    /// Version of the layout.
    pub fn version(&self) -> u32 {
        get(&self.0[..], 0)
    }

    /// Major and minor version of the API of the firmware that made it.
    pub const fn api(&self) -> (u8, u8) {
        (self.0[4], self.0[5])
    }

    /// Whose key it is.
    pub fn usage(&self) -> Usage {
        get(&self.0[..], 8)
    }

    /// What the key is for.
    pub fn algo(&self) -> Algo {
        get(&self.0[..], 0xc)
    }

    /// The public key, as the algorithm says how to read it.
    ///
    /// # Errors
    /// For an unknown algorithm.
    pub fn public_key(&self) -> Result<PublicKey, Error> {
        let bytes = &self.0[Self::KEY..Self::SIGNED];
        match self.algo() {
            Algo::RSA_SHA256 | Algo::RSA_SHA384 => Ok(PublicKey::Rsa {
                bits: get(bytes, 0),
                exponent: Box::new(get(bytes, 4)),
                modulus: Box::new(get(bytes, 516)),
            }),
            Algo::ECDSA_SHA256 | Algo::ECDH_SHA256 | Algo::ECDSA_SHA384 | Algo::ECDH_SHA384 => {
                Ok(PublicKey::Ecc(EccKey { curve: get(bytes, 0), x: get(bytes, 4), y: get(bytes, 76) }))
            }
            Algo(other) => Err(Error::Field {
                what: WHAT,
                field: "algorithm",
                found: other.into(),
                rule: "a key needs one of RSA, ECDSA or ECDH with SHA-256 or SHA-384",
            }),
        }
    }

    /// The key as a point on P-384: big-endian x and y, not yet checked to be on the curve.
    ///
    /// # Errors
    /// If the key is of another kind, or a coordinate has more than 384 bits.
    pub fn p384_key(&self) -> Result<([u8; 48], [u8; 48]), Error> {
        match self.public_key()? {
            PublicKey::Ecc(key) => key.to_p384(),
            PublicKey::Rsa { .. } => Err(Error::Field {
                what: WHAT,
                field: "algorithm",
                found: self.algo().0.into(),
                rule: "an elliptic curve key is needed here",
            }),
        }
    }

    /// The sanity check on a guest owner's certificate: version 1, usage PDH, ECDH with SHA-256, a key that can be
    /// one. The firmware does not look at its signatures.
    ///
    /// # Errors
    /// The first test that fails.
    pub fn check_owner(&self) -> Result<([u8; 48], [u8; 48]), Error> {
        self.check_version()?;
        let rule = |field, found: u32, rule| Error::Field { what: WHAT, field, found: found.into(), rule };
        if self.usage() != Usage::PDH {
            return Err(rule("usage", self.usage().0, "a guest owner's certificate has usage 0x1003 (PDH)"));
        }
        if self.algo() != Algo::ECDH_SHA256 {
            return Err(rule(
                "algorithm",
                self.algo().0,
                "a guest owner's certificate has algorithm 3 (ECDH)",
            ));
        }
        self.p384_key()
    }

    /// Demands the only known version.
    ///
    /// # Errors
    /// For any other.
    pub fn check_version(&self) -> Result<(), Error> {
        match self.version() {
            Self::VERSION => Ok(()),
            found => Err(Error::Version { what: WHAT, found, supported: Self::VERSION }),
        }
    }

    /// A signature slot, 0 or 1.
    ///
    /// # Panics
    /// For any other number.
    pub fn slot(&self, index: usize) -> Slot {
        let at = Self::SLOTS[index];
        Slot { usage: get(&self.0[..], at), algo: get(&self.0[..], at + 4), data: get(&self.0[..], at + 8) }
    }

    /// Writes a signature slot, 0 or 1.
    ///
    /// # Panics
    /// For any other number.
    pub fn set_slot(&mut self, index: usize, slot: &Slot) {
        let at = Self::SLOTS[index];
        put(&mut self.0[..], at, &slot.usage);
        put(&mut self.0[..], at + 4, &slot.algo);
        put(&mut self.0[..], at + 8, &slot.data);
    }

    /// Empties both slots, as for a signing request.
    pub fn clear_slots(&mut self) {
        (0..2).for_each(|index| self.set_slot(index, &Slot::EMPTY));
    }

    /// The first empty slot.
    pub fn free_slot(&self) -> Option<usize> {
        (0..2).find(|&index| self.slot(index).is_empty())
    }

    /// The slots that name a signer, in order. All of them are verified; the last one decides.
    ///
    /// # Errors
    /// If a slot is half empty, or no slot names the signer.
    pub fn slots_of(&self, usage: Usage, algo: Algo) -> Result<Vec<Slot>, SlotFault> {
        let slots = [self.slot(0), self.slot(1)];
        if let Some(index) = slots.iter().position(|slot| !slot.is_well_formed()) {
            return Err(SlotFault::HalfEmpty(index));
        }
        let matching: Vec<Slot> =
            slots.into_iter().filter(|slot| (slot.usage, slot.algo) == (usage, algo)).collect();
        if matching.is_empty() { Err(SlotFault::NoneMatches { usage, algo }) } else { Ok(matching) }
    }

    /// The usages of the keys that may sign a certificate with this usage: the rule that the firmware applies after
    /// the signature.
    pub const fn signers(usage: Usage) -> &'static [Usage] {
        match usage {
            Usage::PDH => &[Usage::PEK],
            Usage::PEK => &[Usage::OCA, Usage::CEK],
            Usage::OCA => &[Usage::OCA],
            Usage::CEK => &[Usage::ASK],
            _ => &[],
        }
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("version", &self.version())
            .field("api", &self.api())
            .field("usage", &self.usage())
            .field("algo", &self.algo())
            .field("key", &self.public_key())
            .field("signatures", &[self.slot(0), self.slot(1)])
            .finish()
    }
}

impl EccKey {
    /// A point on P-384 from its big-endian coordinates.
    pub fn p384(x: &[u8; 48], y: &[u8; 48]) -> Self {
        let little = |value: &[u8; 48]| {
            let mut out = [0; 72];
            out.iter_mut().zip(value.iter().rev()).for_each(|(out, &byte)| *out = byte);
            out
        };
        Self { curve: Curve::P384, x: little(x), y: little(y) }
    }

    /// The big-endian coordinates of a point on P-384, not checked to be on the curve.
    ///
    /// # Errors
    /// For another curve, and for coordinates of more than 384 bits.
    pub fn to_p384(&self) -> Result<([u8; 48], [u8; 48]), Error> {
        let fault = |field, found, rule| Error::Field { what: WHAT, field, found, rule };
        if self.curve != Curve::P384 {
            return Err(fault("curve", self.curve.0.into(), "the key must be on P-384 (2)"));
        }
        let big = |field, value: &[u8; 72]| {
            let mut out: [u8; 48] = get(value, 0);
            out.reverse();
            match value[48..].iter().rposition(|&byte| byte != 0) {
                Some(at) => {
                    Err(fault(field, value[48 + at].into(), "a coordinate on P-384 has at most 48 bytes"))
                }
                None => Ok(out),
            }
        };
        Ok((big("x", &self.x)?, big("y", &self.y)?))
    }
}

impl fmt::Debug for EccKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x = {}", self.curve, LittleEndian(&self.x))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ecc(key) => key.fmt(f),
            Self::Rsa { bits, modulus, .. } => write!(f, "RSA {bits} n = {}", LittleEndian(&modulus[..])),
        }
    }
}

impl Slot {
    /// No signature.
    pub const EMPTY: Self = Self { usage: Usage::INVALID, algo: Algo::NONE, data: [0; 512] };

    /// An ECDSA signature: r and s, little-endian.
    pub fn ecdsa(usage: Usage, algo: Algo, r: &[u8; 72], s: &[u8; 72]) -> Self {
        let mut data = [0; 512];
        put(&mut data, 0, r);
        put(&mut data, 72, s);
        Self { usage, algo, data }
    }

    /// An RSA signature, little-endian; what goes beyond 512 bytes is left out.
    pub fn rsa(usage: Usage, algo: Algo, signature: &[u8]) -> Self {
        let mut data = [0; 512];
        data.iter_mut().zip(signature).for_each(|(out, &byte)| *out = byte);
        Self { usage, algo, data }
    }

    /// r and s of an ECDSA signature, little-endian.
    pub fn r_s(&self) -> ([u8; 72], [u8; 72]) {
        (get(&self.data, 0), get(&self.data, 72))
    }

    /// Whether the slot is marked as empty.
    pub fn is_empty(&self) -> bool {
        self.usage == Usage::INVALID && self.algo == Algo::NONE
    }

    /// Whether the firmware accepts the slot: it is empty, or neither field says so.
    pub fn is_well_formed(&self) -> bool {
        (self.usage == Usage::INVALID) == (self.algo == Algo::NONE)
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() { f.write_str("empty") } else { write!(f, "{} with {}", self.usage, self.algo) }
    }
}

/// Prints a little-endian number as people read it, shortened.
struct LittleEndian<'a>(&'a [u8]);

impl fmt::Display for LittleEndian<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .rev()
            .skip_while(|&&byte| byte == 0)
            .take(8)
            .try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("..")
    }
}
