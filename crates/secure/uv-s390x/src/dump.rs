//! Dumps of a configuration, for the owner of its image.
//!
//! Only an image that allows dumps (plaintext control flag 34) is dumped, and only while none of its CPUs runs. The
//! host gets everything in encrypted form: the customer communication key of the image is needed to open it. Pages
//! are dumped as they are exported at any time, see [`export`](crate::export); so there is no second form of a page
//! that a host could mix with the first, and no tweak is used twice.
//!
//! The end of a dump carries, in bytes that the format reserves, a digest over all components and all exported pages:
//! XTS alone would let a host change pages unseen. That is the model's own; real firmware is not known to do it.

use cloister_crypto::{Aes256Gcm, Entropy, Secret, Sha512, hkdf_sha512};
use cloister_formats::s390x::dump::{
    COMPONENTS_PER_MIB, Completion, CompletionArea, Component, CpuArea, CpuDump, KEY_INFO, VERSION,
};
use cloister_formats::s390x::se_header::Pcf;
use cloister_formats::s390x::uvcb::{DumpComplete, DumpConfStorState, DumpCpu, UvCommand};
use zeroize::Zeroizing;

use crate::configuration::{Configuration, NOT_MAPPED};
use crate::pages::PageKind;
use crate::refusal::Stop;
use crate::storage::StorageResolver;
use crate::table::{Action, ConfigurationState};
use crate::ultravisor::{Ultravisor, storage_of};

/// Bytes that a CPU takes in a dump; the structure is padded with zeros.
pub(crate) const CPU_LEN: u64 = 0x1000;
/// Bytes that the end of a dump takes.
pub(crate) const COMPLETION_LEN: u64 = 0x1000;

/// A dump that was begun.
pub(crate) struct Dump {
    seed: [u8; 64],
    key: Secret<32>,
    /// The state to go back to.
    resume: ConfigurationState,
}

impl Ultravisor {
    pub(crate) fn dump_init(&self, handle: u64) -> Result<(), Stop> {
        let configuration = self.configuration(handle)?;
        let mut inner = configuration.lock();
        let next = configuration.admit(Action::Call(UvCommand::DUMP_INIT))?;
        let image = inner.image.as_ref().ok_or(Stop::rc(3))?;
        if !image.pcf().has(Pcf::ALLOW_DUMP) {
            let detail = "Make the image with --enable-dump and a customer communication key (--cck)";
            return Err(Stop::because(NOT_ALLOWED, 0, detail));
        }
        if inner.dump_disabled {
            return Err(Stop::because(NOT_ALLOWED, 0, "An add-secret request of the owner forbids dumps"));
        }
        let mut seed = [0; 64];
        self.with_entropy(|entropy| entropy.fill(&mut seed));
        let key = hkdf_sha512(image.cck().expose(), &seed, KEY_INFO);
        inner.dump = Some(Dump { seed, key, resume: configuration.state() });
        configuration.enter(&inner, next);
        Ok(())
    }

    /// The components of 1 MiB.
    pub(crate) fn dump_storage(&self, block: &[u8], storages: &dyn StorageResolver) -> Result<Vec<u8>, Stop> {
        let request = DumpConfStorState::parse(block).map_err(|_| Stop::rc(5))?;
        let configuration = self.configuration(request.guest_handle)?;
        configuration.admit(Action::Call(UvCommand::DUMP_CONF_STOR_STATE))?;
        let first = configuration.page_at(request.gaddr, NOT_MAPPED)?;
        if !first.is_multiple_of(PAGES_PER_MIB) {
            let detail = format!("Address {:#x} is no multiple of 1 MiB", request.gaddr);
            return Err(Stop::because(NOT_MAPPED, 0, detail));
        }
        let storage = storage_of(&configuration, storages)?;
        let mut out = Vec::with_capacity(COMPONENTS_PER_MIB);
        for page in first..first + PAGES_PER_MIB {
            let component = match page < configuration.pages.len() {
                true => configuration.take(page, storage)?.dumped().0,
                false => Component::special(0),
            };
            out.extend(component.encode());
        }
        Ok(out)
    }

    pub(crate) fn dump_cpu(&self, block: &[u8], storages: &dyn StorageResolver) -> Result<Vec<u8>, Stop> {
        let handle = DumpCpu::parse(block).map_err(|_| Stop::rc(5))?.cpu_handle;
        let (configuration, number) = self.cpu(handle)?;
        let inner = configuration.lock();
        configuration.admit(Action::Call(UvCommand::DUMP_CPU))?;
        let dump = inner.dump.as_ref().ok_or(Stop::rc(3))?;
        let registers = storages.registers(number).ok_or_else(|| {
            Stop::because(RUNNING, 0, format!("CPU {number} is executing; stop it before the dump"))
        })?;
        let mut out = CpuDump {
            version: VERSION,
            length: CpuDump::SIZE as u32,
            iv: self.with_entropy(initial_value),
            reserved: [0; 12],
            area: [0; CpuArea::SIZE],
            tag: [0; 16],
        };
        let aad = aad::<{ CpuDump::AAD_SIZE }>(&out.encode());
        let mut area = Zeroizing::new(registers.encode());
        out.tag = seal(&dump.key, &out.iv, &aad, area.as_mut())?;
        out.area = *area;
        Ok(padded(out.encode(), CPU_LEN))
    }

    pub(crate) fn dump_complete(
        &self,
        block: &[u8],
        storages: &dyn StorageResolver,
    ) -> Result<Vec<u8>, Stop> {
        let handle = DumpComplete::parse(block).map_err(|_| Stop::rc(5))?.guest_handle;
        let configuration = self.configuration(handle)?;
        let mut inner = configuration.lock();
        configuration.admit(Action::Call(UvCommand::DUMP_COMPLETE))?;
        let storage = storage_of(&configuration, storages)?;
        let mut digest = Sha512::new();
        for page in 0..configuration.pages.len() {
            let (component, ciphertext) = configuration.take(page, storage)?.dumped();
            digest.update(&component.encode());
            digest.update(ciphertext.as_ref().map_or(&[][..], |digest| digest));
        }
        let dump = inner.dump.take().ok_or(Stop::rc(3))?;
        let mut out = Completion {
            version: VERSION,
            length: Completion::SIZE as u32,
            reserved: 0,
            seed: dump.seed,
            iv: self.with_entropy(initial_value),
            reserved_end: 0,
            area: [0; CompletionArea::SIZE],
            tag: [0; 16],
        };
        let aad = aad::<{ Completion::AAD_SIZE }>(&out.encode());
        let mut area = Zeroizing::new(configuration.dump_keys(&digest.finish()).encode());
        out.tag = seal(&dump.key, &out.iv, &aad, area.as_mut())?;
        out.area = *area;
        configuration.enter(&inner, dump.resume);
        Ok(padded(out.encode(), COMPLETION_LEN))
    }
}

impl Configuration {
    fn dump_keys(&self, digest: &[u8; 64]) -> CompletionArea {
        let (keys, nonce) = self.export_keys();
        let mut area = CompletionArea { nonce: *nonce, key1: [0; 32], key2: [0; 32], reserved: [0; 96] };
        let (key1, key2) = keys.expose().split_at(area.key1.len());
        area.key1.copy_from_slice(key1);
        area.key2.copy_from_slice(key2);
        area.set_digest(digest);
        area
    }
}

impl crate::pages::PageGuard<'_> {
    /// The page's component, and the digest of its ciphertext if the host has it.
    fn dumped(&self) -> (Component, Option<[u8; 32]>) {
        let component = match self.kind() {
            // The guest's first touch would clear it, whatever the host put there.
            PageKind::NonSecure => Component::special(Component::ZERO),
            PageKind::Shared | PageKind::PinnedShared => {
                Component::special(Component::SHARED | Component::MAPPED)
            }
            PageKind::Exported => match self.recall() {
                Some(record) => return (record.component(), Some(*record.digest())),
                None => Component::special(0),
            },
            // The host did not export it, so the dump cannot have it.
            PageKind::Secure => Component::special(Component::MAPPED),
            PageKind::Lost => Component::special(0),
        };
        (component, None)
    }
}

const PAGES_PER_MIB: u64 = 256;
/// rc of a dump that the image does not allow. Real firmware's code is not published.
const NOT_ALLOWED: u16 = 0x101;
/// rc of a CPU that is executing. Real firmware's code is not published.
const RUNNING: u16 = 0x102;

fn initial_value(entropy: &mut dyn Entropy) -> [u8; 12] {
    let mut iv = [0; 12];
    entropy.fill(&mut iv);
    iv
}

fn aad<const N: usize>(bytes: &[u8]) -> [u8; N] {
    std::array::from_fn(|at| bytes[at])
}

fn seal(key: &Secret<32>, iv: &[u8; 12], aad: &[u8], area: &mut [u8]) -> Result<[u8; 16], Stop> {
    Aes256Gcm::new(key).seal(iv, aad, area).map_err(|error| Stop::because(3, 0, error.to_string()))
}

fn padded(mut bytes: Vec<u8>, len: u64) -> Vec<u8> {
    bytes.resize(usize::try_from(len).unwrap_or(bytes.len()), 0);
    bytes
}
