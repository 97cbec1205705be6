//! The secret store of a configuration: secrets that its owner adds while it runs.
//!
//! Requests are bound to the image (digests and header tag), if wanted to the one configuration, and to an
//! extension secret. What a guest does with a secret is its own affair; no secret leaves the store but to the
//! guest itself, and keys leave it wrapped. The store lives as long as the configuration, resets included.

use cloister_crypto::{Secret, Sha512, hkdf_sha512};
use cloister_formats::s390x::asrcb::{self, Asrcb, SecretHeader, SecretType};
use cloister_formats::s390x::se_header::Scf;
use cloister_formats::s390x::secret_list::{MAX_ENTRIES, SecretEntry, SecretList};
use cloister_formats::s390x::uvcb::{AddSecret, ListSecrets, RetrSecret, UvCommand};
use zeroize::Zeroizing;

use crate::caller::CallerStorage;
use crate::configuration::{Configuration, Inner};
use crate::image::Image;
use crate::refusal::Stop;
use crate::request::Sealed;
use crate::table::Action;
use crate::ultravisor::Ultravisor;

/// Association secrets that a store has room for.
pub(crate) const MAX_ASSOCIATION: u16 = 24;
/// Retrievable secrets that a store has room for.
pub(crate) const MAX_RETRIEVABLE: u16 = 96;
/// Flags of add-secret requests that are known.
pub(crate) const SUPPORTED_FLAGS: u64 = asrcb::FLAG_DISABLE_DUMP;
/// The verification pattern behind every wrapped key: it says that no machine has the wrapping key.
pub const MODEL_WRAPPING_PATTERN: &[u8; 32] = b"CLOISTER-MODEL WRAPPING KEY 0001";

/// Requests that a store remembers, so that none is used twice. Real firmware's limit is not published.
const MAX_REQUESTS: usize = 1024;
const EXTENSION_INFO: &[u8] = b"IBM Z Ultravisor Add-Secret";
const EXTENSION_SIZE: usize = 32;

#[derive(Default)]
pub(crate) struct SecretStore {
    secrets: Vec<Stored>,
    /// Tags of the accepted requests, in their order.
    tags: Vec<[u8; 16]>,
    extension: Option<Secret<EXTENSION_SIZE>>,
    locked: bool,
}

struct Stored {
    header: SecretHeader,
    bytes: Zeroizing<Vec<u8>>,
}

impl SecretStore {
    /// SHA-512 over the tags of the accepted requests and whether the store is locked.
    pub(crate) fn hash(&self) -> [u8; 64] {
        let mut hash = Sha512::new();
        self.tags.iter().for_each(|tag| hash.update(tag));
        hash.update(&[u8::from(self.locked)]);
        hash.finish()
    }

    fn list(&self, start: u16) -> SecretList {
        let listed = self.secrets.iter().zip(0u16..).skip(usize::from(start)).take(MAX_ENTRIES);
        let entries: Vec<_> = listed.map(|(secret, index)| secret.entry(index)).collect();
        let end = usize::from(start) + entries.len();
        let next = if end < self.secrets.len() { end as u16 } else { 0 };
        SecretList { total: self.secrets.len() as u16, next, entries }
    }

    fn check_unlocked(&self) -> Result<(), Stop> {
        if self.locked { Err(Stop::rc(0x102)) } else { Ok(()) }
    }

    /// Everything that a request must fulfil beyond its own shape; see the crate's text for the codes.
    fn check(
        &self,
        request: &Asrcb,
        extension: &Secret<32>,
        image: &Image,
        uid: &[u8; 16],
    ) -> Result<(), Stop> {
        self.check_unlocked()?;
        let header = image.header();
        let tags = [
            (request.pld == header.pld, "page list digest"),
            (request.ald == header.ald, "address list digest"),
            (request.tld == header.tld, "tweak list digest"),
            (request.se_tag == header.tag, "tag of the SE header"),
        ];
        if let Some((_, name)) = tags.iter().find(|(equal, _)| !equal) {
            let detail =
                format!("Its {name} is not that of this guest's image; make it with this image's header");
            return Err(Stop::because(UNABLE, 1, detail));
        }
        if request.config_uid != [0; 16] && request.config_uid != *uid {
            let detail =
                "Its configuration identity is not this guest's; take it from an attestation of this run";
            return Err(Stop::because(UNABLE, 2, detail));
        }
        if image.scf().has(Scf::CCK_EXTENSION_SECRET) {
            if *extension != derived_extension(image) {
                let detail = "The image asks for one that is derived from the customer communication key";
                return Err(Stop::because(UNABLE, 3, detail));
            }
        } else if self.extension.as_ref().is_some_and(|fixed| fixed != extension) {
            let detail = "The first request fixed another one";
            return Err(Stop::because(UNABLE, 3, detail));
        }
        if self.tags.contains(&request.tag) {
            return Err(Stop::because(UNABLE, 4, "A request adds its secret once; make a new one"));
        }
        let SecretHeader { kind, id, .. } = request.secret;
        if kind.is_listable() && self.secrets.iter().any(|stored| stored.header.id == id) {
            return Err(Stop::because(UNABLE, 5, "Use another name"));
        }
        if kind == SecretType::CCK_UPDATE && !image.scf().has(Scf::CCK_UPDATE) {
            return Err(Stop::because(UNABLE, 6, "Its secret control flags must have bit 2"));
        }
        self.check_room(kind)
    }

    fn check_room(&self, kind: SecretType) -> Result<(), Stop> {
        let is_association = |kind| kind == SecretType::ASSOCIATION;
        let alike = |stored: &&Stored| is_association(stored.header.kind) == is_association(kind);
        let max = usize::from(if is_association(kind) { MAX_ASSOCIATION } else { MAX_RETRIEVABLE });
        if kind.is_listable() && self.secrets.iter().filter(alike).count() >= max {
            return Err(Stop::because(0x10b, 0, format!("There are {max} of this sort already")));
        }
        if self.tags.len() >= MAX_REQUESTS {
            return Err(Stop::because(0x10b, 0, format!("There were {MAX_REQUESTS} requests already")));
        }
        Ok(())
    }
}

impl Stored {
    fn entry(&self, index: u16) -> SecretEntry {
        SecretEntry { index, kind: self.header.kind, len: self.retrieved_size() as u32, id: self.header.id }
    }

    /// Bytes that retrieving gives.
    fn retrieved_size(&self) -> usize {
        let pattern = if self.header.kind.is_protected_key() { MODEL_WRAPPING_PATTERN.len() } else { 0 };
        self.bytes.len() + pattern
    }

    /// What retrieving gives: plaintext as it is; a key in the form of a protected key, that is encrypted and
    /// followed by the pattern of the key that wraps it.
    fn retrieved(&self, wrapping_key: &Secret<32>) -> Zeroizing<Vec<u8>> {
        let mut out = self.bytes.clone();
        if self.header.kind.is_protected_key() {
            // The names are different, so each key has a stream of its own.
            let info = b"CLOISTER-MODEL protected key";
            let stream: Secret<128> = hkdf_sha512(wrapping_key.expose(), &self.header.id, info);
            out.iter_mut().zip(stream.expose()).for_each(|(byte, pad)| *byte ^= pad);
            out.extend_from_slice(MODEL_WRAPPING_PATTERN);
        }
        out
    }
}

impl Ultravisor {
    pub(crate) fn add_secret(
        &self,
        configuration: &Configuration,
        block: &[u8],
        caller: &mut dyn CallerStorage,
    ) -> Result<(), Stop> {
        let address = AddSecret::parse(block).map_err(|_| Stop::rc(5))?.addr;
        configuration.try_lock()?.secrets.check_unlocked()?;
        let raw = fetch_request(address, caller)?;
        let request = Asrcb::parse(&raw).map_err(|error| Stop::because(0x105, 0, error.to_string()))?;
        check_request(&request)?;
        let sealed = Sealed {
            customer_key: &request.customer_key,
            slots: &request.slots,
            iv: &request.iv,
            raw: &raw,
            aad_size: request.aad_size(),
        };
        let area = sealed.open(&self.identity, 0x108)?.area;
        let (secret, extension) = area.split_last_chunk::<EXTENSION_SIZE>().ok_or(Stop::rc(0x105))?;
        let extension = Secret::<EXTENSION_SIZE>::from_slice(extension).ok_or(Stop::rc(0x105))?;
        caller.settle().map_err(|f| f.stop(0x103, address))?;

        let mut inner = configuration.try_lock()?;
        configuration.admit(Action::Call(UvCommand::ADD_SECRET))?;
        let Inner { image, secrets, dump_disabled, .. } = &mut *inner;
        let image = image.as_mut().ok_or(Stop::rc(3))?;
        secrets.check(&request, &extension, image, &configuration.uid)?;
        secrets.extension.get_or_insert(extension);
        secrets.tags.push(request.tag);
        if request.flags & asrcb::FLAG_DISABLE_DUMP != 0 {
            *dump_disabled = true;
        }
        if let (SecretType::CCK_UPDATE, Some(cck)) = (request.secret.kind, Secret::from_slice(secret)) {
            image.set_cck(cck);
        }
        if request.secret.kind.is_listable() {
            let bytes = Zeroizing::new(secret.to_vec());
            secrets.secrets.push(Stored { header: request.secret, bytes });
        }
        Ok(())
    }

    pub(crate) fn list_secrets(
        &self,
        configuration: &Configuration,
        block: &[u8],
        caller: &mut dyn CallerStorage,
    ) -> Result<(), Stop> {
        let ListSecrets { start_index, addr } = ListSecrets::parse(block).map_err(|_| Stop::rc(5))?;
        let page = configuration.try_lock()?.secrets.list(start_index).encode();
        caller.write(addr, &page).map_err(|f| f.stop(0x102, addr))
    }

    pub(crate) fn lock_secrets(
        &self,
        configuration: &Configuration,
        caller: &mut dyn CallerStorage,
    ) -> Result<(), Stop> {
        caller.settle().map_err(|f| f.stop(3, 0))?;
        let mut inner = configuration.try_lock()?;
        inner.secrets.check_unlocked()?;
        inner.secrets.locked = true;
        Ok(())
    }

    pub(crate) fn retrieve_secret(
        &self,
        configuration: &Configuration,
        block: &[u8],
        caller: &mut dyn CallerStorage,
    ) -> Result<(), Stop> {
        let call = RetrSecret::parse(block).map_err(|_| Stop::rc(5))?;
        let inner = configuration.try_lock()?;
        let secrets = &inner.secrets.secrets;
        if secrets.is_empty() {
            return Err(Stop::rc(0x10f));
        }
        let Some(secret) = secrets.get(usize::from(call.index)) else {
            return Err(Stop::because(0x110, 0, format!("There are {}", secrets.len())));
        };
        let kind = secret.header.kind;
        if !kind.is_retrievable() {
            return Err(Stop::because(0x111, 0, format!("It is of type {}", kind.name())));
        }
        if (call.buf_size as usize) < secret.retrieved_size() {
            let detail =
                format!("It has {:#x} bytes, {:#x} are needed", call.buf_size, secret.retrieved_size());
            return Err(Stop::because(0x109, 0, detail));
        }
        let bytes = secret.retrieved(&configuration.wrapping_key);
        drop(inner);
        caller.write(call.buf_addr, &bytes).map_err(|f| f.stop(0x102, call.buf_addr))
    }
}

/// rc of a request that opens and may not add its secret.
const UNABLE: u16 = 0x10c;

fn fetch_request(address: u64, caller: &mut dyn CallerStorage) -> Result<Vec<u8>, Stop> {
    let mut head = [0; 16];
    caller.read(address, &mut head).map_err(|f| f.stop(0x103, address))?;
    let (magic, version, total) =
        Asrcb::peek(&head).map_err(|error| Stop::because(0x105, 0, error.to_string()))?;
    if !magic || version != asrcb::VERSION {
        let detail = format!("It has version {version:#x}; {:#x} is supported", asrcb::VERSION);
        return Err(Stop::because(0x104, 0, detail));
    }
    let total = total as usize;
    if !(asrcb::FIXED_SIZE..=asrcb::MAX_SIZE).contains(&total) {
        return Err(Stop::because(0x105, 0, format!("It says {total:#x}; {:#x} is most", asrcb::MAX_SIZE)));
    }
    let mut raw = vec![0; total];
    caller.read(address, &mut raw).map_err(|f| f.stop(0x103, address))?;
    Ok(raw)
}

/// The shape of a request, in the order of the codes. Its lengths agree with each other.
fn check_request(request: &Asrcb) -> Result<(), Stop> {
    if request.slots.is_empty() {
        return Err(Stop::rc(0x106));
    }
    let unsupported = request.flags & !SUPPORTED_FLAGS;
    if unsupported != 0 {
        return Err(Stop::because(0x107, 0, format!("Flags {unsupported:#x} are not supported")));
    }
    let SecretHeader { kind, len, .. } = request.secret;
    if !kind.is_known() {
        return Err(Stop::because(0x109, 0, format!("Type {:#x} is not known", kind.0)));
    }
    if !kind.fits(len as usize) {
        return Err(Stop::because(0x10a, 0, format!("{len} bytes are no secret of type {}", kind.name())));
    }
    Ok(())
}

/// The extension secret that an image with the flag asks for.
fn derived_extension(image: &Image) -> Secret<EXTENSION_SIZE> {
    hkdf_sha512(image.cck().expose(), &image.header().tag, EXTENSION_INFO)
}
