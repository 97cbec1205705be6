//! The add-secret request control block, version 1.
//!
//! The request is kept sealed here; opening it needs the host key and is not done by this crate.

use super::host_key::{KeySlot, KeyXy, parse_slots};
use crate::codec::{Error, get, need, push, put};

/// Mark of a request.
pub const MAGIC: &[u8; 6] = b"asrcbM";
/// Version of the layout.
pub const VERSION: u32 = 0x100;
/// Bytes before the key slots.
pub const FIXED_SIZE: usize = 0x4b8;
/// Most bytes of a request: all slots and the longest secret.
pub const MAX_SIZE: usize =
    FIXED_SIZE + 255 * KeySlot::SIZE + SECRET_HEADER + SecretType::MAX_SIZE + EXT_SECRET_SIZE + TAG_SIZE;
/// Flag bit 0: the guest's dump is disabled.
pub const FLAG_DISABLE_DUMP: u64 = 1 << 63;

const WHAT: &str = "add-secret request";
const TAG_SIZE: usize = 16;
const EXT_SECRET_SIZE: usize = 32;
const NULL_SECRET_HEADER: usize = 16;
const SECRET_HEADER: usize = 48;

/// Type of a secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SecretType(pub u16);

impl SecretType {
    /// Null: nothing is stored.
    pub const NULL: Self = Self(0x01);
    /// Association.
    pub const ASSOCIATION: Self = Self(0x02);
    /// Plaintext.
    pub const PLAINTEXT: Self = Self(0x03);
    /// AES-128 key.
    pub const AES_128: Self = Self(0x04);
    /// AES-192 key.
    pub const AES_192: Self = Self(0x05);
    /// AES-256 key.
    pub const AES_256: Self = Self(0x06);
    /// AES-128-XTS key, both halves.
    pub const AES_128_XTS: Self = Self(0x07);
    /// AES-256-XTS key, both halves.
    pub const AES_256_XTS: Self = Self(0x08);
    /// HMAC-SHA-256 key of one block.
    pub const HMAC_SHA_256: Self = Self(0x09);
    /// HMAC-SHA-512 key of one block.
    pub const HMAC_SHA_512: Self = Self(0x0a);
    /// ECDSA P-256 private key.
    pub const ECDSA_P256: Self = Self(0x11);
    /// ECDSA P-384 private key.
    pub const ECDSA_P384: Self = Self(0x12);
    /// ECDSA P-521 private key.
    pub const ECDSA_P521: Self = Self(0x13);
    /// Ed25519 private key.
    pub const ED25519: Self = Self(0x14);
    /// Ed448 private key.
    pub const ED448: Self = Self(0x15);
    /// New customer communication key.
    pub const CCK_UPDATE: Self = Self(0x16);

    /// All types that have a name.
    pub const ALL: &[Self] = &[
        Self::NULL,
        Self::ASSOCIATION,
        Self::PLAINTEXT,
        Self::AES_128,
        Self::AES_192,
        Self::AES_256,
        Self::AES_128_XTS,
        Self::AES_256_XTS,
        Self::HMAC_SHA_256,
        Self::HMAC_SHA_512,
        Self::ECDSA_P256,
        Self::ECDSA_P384,
        Self::ECDSA_P521,
        Self::ED25519,
        Self::ED448,
        Self::CCK_UPDATE,
    ];

    /// Most bytes of a secret: a retrieved one must fit two pages.
    pub const MAX_SIZE: usize = 2 * super::PAGE_SIZE;

    /// Bytes of a secret of this type; `None` for plaintext, which varies, and for unknown types.
    pub const fn size(self) -> Option<usize> {
        match self {
            Self::NULL => Some(0),
            Self::AES_128 => Some(16),
            Self::AES_192 => Some(24),
            Self::ASSOCIATION
            | Self::AES_256
            | Self::AES_128_XTS
            | Self::ECDSA_P256
            | Self::ED25519
            | Self::CCK_UPDATE => Some(32),
            Self::ECDSA_P384 => Some(48),
            Self::AES_256_XTS | Self::HMAC_SHA_256 | Self::ED448 => Some(64),
            Self::ECDSA_P521 => Some(80),
            Self::HMAC_SHA_512 => Some(128),
            _ => None,
        }
    }

    /// Whether a secret of this type may have so many bytes.
    pub const fn fits(self, size: usize) -> bool {
        match (self, self.size()) {
            (_, Some(expected)) => size == expected,
            (Self::PLAINTEXT, None) => size > 0 && size <= Self::MAX_SIZE && size.is_multiple_of(16),
            _ => false,
        }
    }

    /// Whether the secret store keeps and lists it.
    pub const fn is_listable(self) -> bool {
        !matches!(self, Self::NULL | Self::CCK_UPDATE) && self.is_known()
    }

    /// Whether it is a key that a guest gets as a protected key, never in the clear.
    pub const fn is_protected_key(self) -> bool {
        self.is_listable() && !matches!(self, Self::ASSOCIATION | Self::PLAINTEXT)
    }

    /// Whether it can be retrieved.
    pub const fn is_retrievable(self) -> bool {
        self.is_listable() && !matches!(self, Self::ASSOCIATION)
    }

    /// Whether it has a name.
    pub const fn is_known(self) -> bool {
        matches!(self, Self::PLAINTEXT) || self.size().is_some()
    }

    /// What the type is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NULL => "null (meta)",
            Self::ASSOCIATION => "association",
            Self::PLAINTEXT => "plaintext",
            Self::AES_128 => "AES-128 key",
            Self::AES_192 => "AES-192 key",
            Self::AES_256 => "AES-256 key",
            Self::AES_128_XTS => "AES-128-XTS key",
            Self::AES_256_XTS => "AES-256-XTS key",
            Self::HMAC_SHA_256 => "HMAC-SHA-256 key",
            Self::HMAC_SHA_512 => "HMAC-SHA-512 key",
            Self::ECDSA_P256 => "ECDSA P-256 key",
            Self::ECDSA_P384 => "ECDSA P-384 key",
            Self::ECDSA_P521 => "ECDSA P-521 key",
            Self::ED25519 => "Ed25519 key",
            Self::ED448 => "Ed448 key",
            Self::CCK_UPDATE => "CCK update",
            _ => "unknown type",
        }
    }

    /// Bytes of the secret header, which is shorter for the null secret.
    pub const fn header_size(self) -> usize {
        if self.0 == Self::NULL.0 { NULL_SECRET_HEADER } else { SECRET_HEADER }
    }
}

/// The authenticated header that describes the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecretHeader {
    /// The type.
    pub kind: SecretType,
    /// Bytes of the secret.
    pub len: u32,
    /// SHA-256 of the name; not written for the null secret.
    pub id: [u8; 32],
}

impl SecretHeader {
    /// Reads a header from the start of `bytes`.
    ///
    /// # Errors
    /// If it is too short for its type.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        need("secret header", bytes, NULL_SECRET_HEADER)?;
        let kind = SecretType(get(bytes, 2));
        need("secret header", bytes, kind.header_size())?;
        let id = if kind == SecretType::NULL { [0; 32] } else { get(bytes, 0x10) };
        Ok(Self { kind, len: get(bytes, 4), id })
    }

    /// The bytes of the header.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; self.kind.header_size()];
        put(&mut out, 2, &self.kind.0);
        put(&mut out, 4, &self.len);
        if self.kind != SecretType::NULL {
            put(&mut out, 0x10, &self.id);
        }
        out
    }
}

/// A request whose sizes agree with each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asrcb {
    /// Kind of user data: 0 none, 1 unsigned, 2 to 4 signed.
    pub user_data_kind: u16,
    /// Initial value of the sealing.
    pub iv: [u8; 12],
    /// Flags.
    pub flags: u64,
    /// Page list digest of the image.
    pub pld: [u8; 64],
    /// Address list digest of the image.
    pub ald: [u8; 64],
    /// Tweak list digest of the image.
    pub tld: [u8; 64],
    /// Tag of the image's SE header.
    pub se_tag: [u8; 16],
    /// The one configuration that may use the request; zero for any.
    pub config_uid: [u8; 16],
    /// User data.
    pub user_data: [u8; 512],
    /// The requester's public key.
    pub customer_key: KeyXy,
    /// Key slots, at most 255.
    pub slots: Vec<KeySlot>,
    /// What the secret is.
    pub secret: SecretHeader,
    /// Sealed: the secret, then the extension secret (32 bytes).
    pub encrypted_area: Vec<u8>,
    /// Tag over [`Self::aad`] and the sealed area.
    pub tag: [u8; 16],
}

impl Asrcb {
    /// Reads whether bytes begin as a request does, its version and its length.
    ///
    /// # Errors
    /// If there are fewer than 16 bytes.
    pub fn peek(bytes: &[u8]) -> Result<(bool, u32, u32), Error> {
        need(WHAT, bytes, 16)?;
        Ok((bytes[..6] == MAGIC[..], get(bytes, 0x08), get(bytes, 0x0c)))
    }

    /// Reads a request that fills `bytes` exactly.
    ///
    /// # Errors
    /// If mark, version or sizes do not fit.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        need(WHAT, bytes, FIXED_SIZE)?;
        if bytes[..6] != MAGIC[..] {
            return Err(Error::Magic { what: WHAT, expected: "asrcbM" });
        }
        let version: u32 = get(bytes, 0x08);
        if version != VERSION {
            return Err(Error::Version { what: WHAT, found: version, supported: VERSION });
        }
        let field = |field, found: u64, rule| Error::Field { what: WHAT, field, found, rule };
        let count = usize::from(get::<u8>(bytes, 0x27));
        let slots = parse_slots(WHAT, &bytes[FIXED_SIZE..], count)?;
        let header_at = FIXED_SIZE + count * KeySlot::SIZE;
        let secret = SecretHeader::parse(&bytes[header_at..])?;
        let area_size = get::<u32>(bytes, 0x2c) as usize;
        if area_size != (secret.len as usize).saturating_add(EXT_SECRET_SIZE) {
            let rule = "it must be the length of the secret and 32";
            return Err(field("size of the encrypted area", area_size as u64, rule));
        }
        let area = header_at + secret.kind.header_size();
        let total = get::<u32>(bytes, 0x0c) as usize;
        if Some(total) != area_size.checked_add(area + TAG_SIZE) || total != bytes.len() {
            return Err(field("total length", total as u64, "the parts and the data have another length"));
        }
        Ok(Self {
            user_data_kind: get(bytes, 0x06),
            iv: get(bytes, 0x10),
            flags: get(bytes, 0x30),
            pld: get(bytes, 0x38),
            ald: get(bytes, 0x78),
            tld: get(bytes, 0xb8),
            se_tag: get(bytes, 0xf8),
            config_uid: get(bytes, 0x108),
            user_data: get(bytes, 0x218),
            customer_key: KeyXy(get(bytes, 0x418)),
            slots,
            secret,
            encrypted_area: bytes[area..area + area_size].to_vec(),
            tag: get(bytes, area + area_size),
        })
    }

    /// How many bytes stand before the sealed area. Whoever opens a request authenticates the bytes that came,
    /// reserved ones included, and not [`Self::aad`].
    pub const fn aad_size(&self) -> usize {
        FIXED_SIZE + self.slots.len() * KeySlot::SIZE + self.secret.kind.header_size()
    }

    /// The bytes that are authenticated and not encrypted, all before the sealed area, as a requester makes them.
    pub fn aad(&self) -> Vec<u8> {
        let mut out = vec![0; FIXED_SIZE];
        let header = self.secret.encode();
        let total = FIXED_SIZE
            + self.slots.len() * KeySlot::SIZE
            + header.len()
            + self.encrypted_area.len()
            + TAG_SIZE;
        out[..6].copy_from_slice(MAGIC);
        put(&mut out, 0x06, &self.user_data_kind);
        put(&mut out, 0x08, &VERSION);
        put(&mut out, 0x0c, &(total as u32));
        put(&mut out, 0x10, &self.iv);
        put(&mut out, 0x27, &(self.slots.len() as u8));
        put(&mut out, 0x2c, &(self.encrypted_area.len() as u32));
        put(&mut out, 0x30, &self.flags);
        put(&mut out, 0x38, &self.pld);
        put(&mut out, 0x78, &self.ald);
        put(&mut out, 0xb8, &self.tld);
        put(&mut out, 0xf8, &self.se_tag);
        put(&mut out, 0x108, &self.config_uid);
        put(&mut out, 0x218, &self.user_data);
        put(&mut out, 0x418, &self.customer_key.0);
        for slot in &self.slots {
            push(&mut out, &slot.encode());
        }
        out.extend_from_slice(&header);
        out
    }

    /// The bytes of the request.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.aad();
        out.extend_from_slice(&self.encrypted_area);
        out.extend_from_slice(&self.tag);
        out
    }
}
