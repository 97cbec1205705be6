//! The image of a configuration: from the SE header to verified pages.

use cloister_arch::s390x::Psw;
use cloister_crypto::{Aes256Gcm, Aes256Xts, P521Public, P521Secret, Secret, Sha512, ct_eq, x963_kdf_sha256};
use cloister_formats::s390x::host_key::{KeySlot, Phkh};
use cloister_formats::s390x::se_header::{HeaderFault, MAX_SIZE, Pcf, Scf, SeHeader, SecretArea};
use cloister_formats::s390x::se_image::page_tweak;
use zeroize::Zeroizing;

use crate::configuration::NOT_MAPPED;
use crate::identity::Identity;
use crate::pages::{Conversion, PageGuard, PageKind};
use crate::refusal::Stop;
use crate::storage::SecureStorage;

/// The secret control flags that are known. They concern add-secret requests only.
const SUPPORTED_SCF: u64 = Scf::CCK_EXTENSION_SECRET.0 | Scf::CCK_UPDATE.0;

pub(crate) struct Image {
    header: SeHeader,
    psw: Psw,
    cck: Secret<32>,
    scf: Scf,
    /// The hash of the machine's key that opened the header.
    phkh: Phkh,
    /// `None` if the components are not encrypted.
    cipher: Option<Aes256Xts>,
    pld: Sha512,
    ald: Sha512,
    tld: Sha512,
    unpacked: u64,
}

impl Image {
    /// Opens an SE header. The order of the checks is that of this function; published sources name the
    /// codes, not their order.
    pub(crate) fn open(
        data: &[u8],
        length: u32,
        identity: &Identity,
        supported_pcf: u64,
    ) -> Result<Self, Stop> {
        let size = length as usize;
        if size == 0 || size > MAX_SIZE {
            let detail = format!("The call names {size:#x} bytes of header; 1 to {MAX_SIZE:#x} are possible");
            return Err(Stop::because(0x10a, 0x31, detail));
        }
        let bytes = data.get(..size).ok_or(Stop::rc(0x103))?;
        let header = SeHeader::parse(bytes).map_err(header_fault)?;
        if header.encrypted_area.len() != cloister_formats::s390x::se_header::SECRET_AREA_SIZE {
            return Err(header_fault(HeaderFault::AreaSize(header.encrypted_area.len() as u64)));
        }
        let unknown = header.pcf.0 & !supported_pcf;
        if unknown != 0 {
            let detail =
                format!("Flags {unknown:#x} are not supported here; supported are {supported_pcf:#x}");
            return Err(Stop::because(0x106, 0x30, detail));
        }
        let (host_key, slot) = find_slot(&header, identity)?;
        let customer = P521Public::from_padded_xy(&header.customer_key.0)
            .map_err(|error| Stop::because(0x108, 0x0b, error.to_string()))?;
        let kek = x963_kdf_sha256(host_key.ecdh_x(&customer).expose());
        let mut header_key = Secret::new(slot.wrapped_key);
        Aes256Gcm::new(&kek)
            .open(&[0; 12], &[], header_key.expose_mut(), &slot.tag)
            .map_err(|_| Stop::because(0x10b, 1, ALTERED))?;
        let mut area = Zeroizing::new(header.encrypted_area.clone());
        Aes256Gcm::new(&header_key)
            .open(&header.iv, &header.aad(), &mut area, &header.tag)
            .map_err(|_| Stop::because(0x10b, 2, ALTERED))?;
        let secret =
            SecretArea::parse(&area).map_err(|error| Stop::because(0x10a, 0x39, error.to_string()))?;
        let unknown = secret.scf & !SUPPORTED_SCF;
        if unknown != 0 {
            return Err(Stop::because(0x109, 0, format!("Flags {unknown:#x} are not supported here")));
        }
        if secret.optional_items != 0 {
            let detail =
                format!("The image has {} optional items; none are supported", secret.optional_items);
            return Err(Stop::because(0x10a, 0x39, detail));
        }
        let cipher = (!header.pcf.has(Pcf::NO_COMPONENT_ENCRYPTION))
            .then(|| Aes256Xts::new(&Secret::new(secret.xts_key)));
        Ok(Self {
            cck: Secret::new(secret.cck),
            scf: Scf(secret.scf),
            phkh: slot.phkh,
            psw: Psw { mask: secret.psw_mask, addr: secret.psw_addr },
            header,
            cipher,
            pld: Sha512::new(),
            ald: Sha512::new(),
            tld: Sha512::new(),
            unpacked: 0,
        })
    }

    /// Unpacks a page in place: digests over what the host gave, then decryption.
    pub(crate) fn unpack(
        &mut self,
        page: &mut PageGuard<'_>,
        tweak: [u64; 2],
        storage: &dyn SecureStorage,
    ) -> Result<(), Stop> {
        let number = page.page;
        if page.kind() != PageKind::NonSecure {
            let detail = format!("Page {number:#x} was unpacked already ({:?})", page.kind());
            return Err(Stop::because(3, 0, detail));
        }
        let tweak = page_tweak(tweak);
        storage
            .import(number, &mut |raw, plain| {
                self.pld.update(raw);
                *plain = *raw;
                if let Some(cipher) = &self.cipher {
                    cipher.decrypt_page(&tweak, plain);
                }
                true
            })
            .map_err(|error| Stop::because(NOT_MAPPED, 0, error.to_string()))?;
        page.set(PageKind::Secure);
        page.count(Conversion::Unpacked);
        self.ald.update(&(number * 4096).to_be_bytes());
        self.tld.update(&tweak);
        self.unpacked += 1;
        Ok(())
    }

    /// Compares what was unpacked with the header. A wrong number of pages makes all digests differ, so
    /// the number is compared first.
    pub(crate) fn verify(&self) -> Result<(), Stop> {
        let expected = self.header.encrypted_pages;
        if self.unpacked != expected {
            let detail = format!("The header says {expected} pages, {} were unpacked", self.unpacked);
            return Err(Stop::because(0x102, 0x1d, detail));
        }
        let check = |digest: &Sha512, expected: &[u8; 64], rrc, what| {
            if ct_eq(&digest.clone().finish(), expected) {
                Ok(())
            } else {
                Err(Stop::because(0x102, rrc, format!("{what}. Copy the image again or rebuild it")))
            }
        };
        check(&self.ald, &self.header.ald, 0x1a, "A component does not lie where its creator put it")?;
        check(&self.pld, &self.header.pld, 0x1b, "The bytes of a component were altered")?;
        check(&self.tld, &self.header.tld, 0x1c, "A tweak in the IPL parameter block was altered")
    }

    /// The key of the components is needed no more.
    pub(crate) fn seal(&mut self) {
        self.cipher = None;
    }

    pub(crate) const fn pcf(&self) -> Pcf {
        self.header.pcf
    }

    /// The customer communication key.
    pub(crate) const fn cck(&self) -> &Secret<32> {
        &self.cck
    }

    /// The owner gives the image a new customer communication key.
    pub(crate) fn set_cck(&mut self, cck: Secret<32>) {
        self.cck = cck;
    }

    pub(crate) const fn header(&self) -> &SeHeader {
        &self.header
    }

    pub(crate) const fn scf(&self) -> Scf {
        self.scf
    }

    pub(crate) const fn phkh(&self) -> Phkh {
        self.phkh
    }

    pub(crate) const fn psw(&self) -> Psw {
        self.psw
    }
}

const ALTERED: &str = "Its authentication tag does not fit. Copy the image again or rebuild it";

fn header_fault(fault: HeaderFault) -> Stop {
    let (rc, rrc) = match fault {
        HeaderFault::Format(_) | HeaderFault::Version(_) => (0x104, 0x01),
        HeaderFault::Size { .. } => (0x10a, 0x31),
        HeaderFault::NoSlot => (0x10a, 0x40),
        HeaderFault::AreaSize(_) => (0x10a, 0x39),
    };
    Stop::because(rc, rrc, fault.to_string())
}

/// The key that opens the image, and its slot: the host key's, else the backup key's if the image allows.
fn find_slot<'a>(
    header: &'a SeHeader,
    identity: &'a Identity,
) -> Result<(&'a P521Secret, &'a KeySlot), Stop> {
    let slot_of = |hash: Phkh| header.slots.iter().find(|slot| ct_eq(&slot.phkh.0, &hash.0));
    let (key, hash) = identity.host_key();
    if let Some(slot) = slot_of(hash) {
        return Ok((key, slot));
    }
    let backup_allowed = header.pcf.has(Pcf::BACKUP_KEYS);
    if backup_allowed
        && let Some((key, hash)) = identity.backup_key()
        && let Some(slot) = slot_of(hash)
    {
        return Ok((key, slot));
    }
    let wanted: Vec<_> = header.slots.iter().map(|slot| slot.phkh.to_string()).collect();
    let mut detail = format!("The image is for host keys {}; this machine has {hash}", wanted.join(", "));
    if let Some((_, backup)) = identity.backup_key() {
        detail.push_str(&format!(" and backup key {backup}"));
        if !backup_allowed {
            detail.push_str(", which the image does not allow");
        }
    }
    detail.push_str(
        ". Rebuild the image with this machine's host-key document, or run it on the machine it was built for",
    );
    Err(Stop::because(0x108, if backup_allowed { 0x34 } else { 0x05 }, detail))
}
