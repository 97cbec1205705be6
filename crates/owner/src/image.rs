//! Boot images for IBM Secure Execution: made, inspected, tested.
//!
//! [`create`] does the work of `genprotimg` and `pvimg create` with files, [`build`] the same in
//! memory; [`inspect`] prints what an image or a bare header says, [`test()`] answers whether a
//! machine can open it. The layout is that of s390-tools; the loaders are this project's own.
//!
//! Nothing here decides whether a machine accepts an image: that is the Ultravisor's part.

mod create;
mod header;
pub(crate) mod inspect;
mod layout;
mod payload;

use std::fmt;
use std::path::PathBuf;

use cloister_crypto::Secret;
use cloister_formats::s390x::se_header::{Pcf, Scf};

use crate::host_key::Warning;

pub use crate::host_key::Verification;
pub use create::{Input, build, create};
pub use header::open_header;
pub use inspect::{DigestCheck, HostKeyPresence, Inspection, Opened, inspect, inspect_bytes, test};

/// The loaders that go into an image, without their arguments.
#[derive(Clone, Copy, Debug)]
pub struct BootStages<'a> {
    /// Stage A: runs in the clear and asks for protection.
    pub plain_loader: &'a [u8],
    /// Stage B: runs protected and starts the kernel.
    pub protected_loader: &'a [u8],
}

impl BootStages<'static> {
    /// The project's own loaders, assembled from `guests/s390x/stage-a.s` and `stage-b.s`.
    pub const BUILT_IN: Self = Self {
        plain_loader: include_bytes!(concat!(env!("OUT_DIR"), "/stage-a.bin")),
        protected_loader: include_bytes!(concat!(env!("OUT_DIR"), "/stage-b.bin")),
    };
}

/// The options of `pv image create`.
#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// `-i`, `--kernel`: the kernel, raw (`vmlinuz`), not ELF.
    pub kernel: PathBuf,
    /// `-r`, `--ramdisk`: the initial ramdisk.
    pub ramdisk: Option<PathBuf>,
    /// `-p`, `--parmfile`: a file with the kernel's command line.
    pub parmfile: Option<PathBuf>,
    /// `-o`, `--output`: the image.
    pub output: PathBuf,
    /// `--overwrite`: replace an existing output.
    pub overwrite: bool,
    /// `-k`, `--host-key-document`: the machines that may run the image, at least one.
    pub host_key_documents: Vec<PathBuf>,
    /// `-C`, `--crl`, `--root-ca`, `--offline`; or `--no-verify`.
    pub verification: Verification,
    /// `--cck`: a file with the customer communication key, 32 bytes. Drawn if absent, and then
    /// nobody knows it.
    pub cck: Option<PathBuf>,
    /// `--hdr-key`: a file with the header's key, 32 bytes. Drawn if absent, and then nobody but the
    /// machines can open the header.
    pub header_key: Option<PathBuf>,
    /// `--image-key`: a file with the components' key, 64 bytes. Drawn if absent.
    pub image_key: Option<PathBuf>,
    /// What is in the image's control flags, and the rest that needs no files.
    pub settings: Settings,
}

/// The part of the options that is the same for files and memory.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `--enable-dump`: the hypervisor may make encrypted dumps. Needs a CCK (or `cck_update`).
    pub dump: bool,
    /// `--enable-image-encryption` (the default) or `--disable-image-encryption`: without it the
    /// components are only protected against change.
    pub image_encryption: bool,
    /// `--enable-cck-extension-secret`: add-secret requests must prove knowledge of the CCK. Needs
    /// a CCK.
    pub cck_extension_secret: bool,
    /// `--enable-cck-update`: an add-secret request may change the CCK.
    pub cck_update: bool,
    /// `--enable-backup-keys`: the host keys may be the machines' backup keys.
    pub backup_keys: bool,
    /// `--enable-pckmo` (the default): DEA, AES and elliptic-curve keys of the PCKMO instruction.
    pub pckmo: bool,
    /// `--enable-pckmo-hmac`: HMAC keys of PCKMO.
    pub pckmo_hmac: bool,
    /// `--x-pcf`: the plaintext control flags as they are, instead of those that follow from the
    /// options.
    pub x_pcf: Option<u64>,
    /// `--x-scf`: the secret control flags as they are.
    pub x_scf: Option<u64>,
    /// `--x-psw`: another start address than the protected loader's.
    pub x_psw: Option<u64>,
    /// False with `--no-component-check`: the kernel may look like none, the command line may be
    /// longer than the kernel allows.
    pub component_check: bool,
    /// A deliberate defect for negative tests.
    pub damage: Option<Damage>,
    /// 1: all work on one thread. Otherwise a second thread computes the digest while the first one
    /// reads, encrypts and writes.
    pub threads: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            dump: false,
            image_encryption: true,
            cck_extension_secret: false,
            cck_update: false,
            backup_keys: false,
            pckmo: true,
            pckmo_hmac: false,
            x_pcf: None,
            x_scf: None,
            x_psw: None,
            component_check: true,
            damage: None,
            threads: 2,
        }
    }
}

impl Settings {
    /// The plaintext control flags that follow from the options.
    pub fn pcf(&self) -> Pcf {
        let flags = [
            (self.dump, Pcf::ALLOW_DUMP),
            (!self.image_encryption, Pcf::NO_COMPONENT_ENCRYPTION),
            (self.pckmo, Pcf::DEFAULT),
            (self.pckmo_hmac, Pcf::PCKMO_HMAC),
            (self.backup_keys, Pcf::BACKUP_KEYS),
        ];
        let chosen = flags.iter().filter(|(on, _)| *on).fold(0, |all, (_, flag)| all | flag.0);
        Pcf(self.x_pcf.unwrap_or(chosen))
    }

    /// The secret control flags that follow from the options.
    pub fn scf(&self) -> Scf {
        let flags =
            [(self.cck_extension_secret, Scf::CCK_EXTENSION_SECRET), (self.cck_update, Scf::CCK_UPDATE)];
        let chosen = flags.iter().filter(|(on, _)| *on).fold(0, |all, (_, flag)| all | flag.0);
        Scf(self.x_scf.unwrap_or(chosen))
    }
}

/// A deliberate defect of an image. Each leads to the one refusal that its description names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// One bit of the encrypted page with this number (modulo their number) is flipped: page list
    /// digest mismatch.
    FlippedPage(u64),
    /// The address list digest in the header is another one.
    WrongAld,
    /// The tweak list digest in the header is another one.
    WrongTld,
    /// The header counts one page too many.
    WrongPageCount,
    /// The key slots are for keys that no machine has: host key hash mismatch.
    ForeignKey,
    /// One bit of the finished header is flipped (bit number modulo its size).
    FlippedHeaderBit(u64),
}

/// Keys that the owner brings along; each that is absent is drawn.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// Customer communication key.
    pub cck: Option<Secret<32>>,
    /// Key of the header's sealed area.
    pub header_key: Option<Secret<32>>,
    /// Key of the components' AES-256-XTS.
    pub image_key: Option<Secret<64>>,
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Report {
    /// What the user must be told.
    pub warnings: Vec<Warning>,
    /// Bytes of the image.
    pub size: u64,
    /// Encrypted pages.
    pub pages: u64,
    /// The hash of each host key that can open it.
    pub host_keys: Vec<[u8; 32]>,
    /// Plaintext control flags.
    pub pcf: Pcf,
    /// Secret control flags.
    pub scf: Scf,
    /// The tag of the header, which identifies the image in attestation and add-secret requests.
    pub header_tag: [u8; 16],
}

/// How far the work is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of components done.
    pub done: u64,
    /// Bytes of components in all.
    pub total: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} bytes, {} encrypted pages", self.size, self.pages)?;
        for phkh in &self.host_keys {
            writeln!(f, "for the host key {}", inspect::hex(phkh))?;
        }
        write!(f, "header tag {}", inspect::hex(&self.header_tag))
    }
}

/// Entry for fuzzing: no input makes the reader of images panic.
#[doc(hidden)]
pub fn fuzz_inspect(bytes: &[u8]) {
    if let Ok(inspection) = inspect_bytes("input", bytes, Some(&Secret::new([0; 32]))) {
        let _ = inspection.to_string();
    }
}
