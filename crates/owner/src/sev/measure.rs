//! What the firmware will measure: the launch digest part by part, and the MAC over it.
//!
//! The order of the parts is QEMU's: firmware image, table of kernel hashes, the save area of each CPU under SEV-ES. The
//! digest covers the bytes alone, not where they are placed.

use std::io::Read;

use cloister_crypto::{Secret, Sha256, hmac_sha256, sha256};
use cloister_formats::sev::kernel_hashes::KernelHashes;
use cloister_formats::sev::measurement::{Measurement, MeasurementInput};
use cloister_formats::sev::ovmf::{self, Area, OvmfError, Table};
use cloister_formats::sev::policy::Policy;
use cloister_formats::sev::vmsa::{Vmsa, VmsaForm, cpu_signature};

use super::{SevError, input};

/// A firmware image: its digest as far as it goes, and the end, where its tables are.
#[derive(Clone)]
pub struct Firmware {
    file: String,
    size: u64,
    hash: Sha256,
    tail: Vec<u8>,
}

impl Firmware {
    /// Reads an image in constant memory.
    ///
    /// # Errors
    /// If the reader fails.
    pub fn read(file: &str, mut reader: impl Read) -> Result<Self, SevError> {
        let (mut hash, mut tail) = (Sha256::new(), Vec::new());
        let size = input::stream(file, &mut reader, |part| {
            hash.update(part);
            // Only what can still be among the last bytes is copied.
            let part = &part[part.len().saturating_sub(ovmf::TAIL)..];
            let surplus = (tail.len() + part.len()).saturating_sub(ovmf::TAIL);
            tail.drain(..surplus);
            tail.extend_from_slice(part);
        })?;
        Ok(Self { file: file.to_owned(), size, hash, tail })
    }

    /// The file.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Its bytes.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// SHA-256 of the image.
    pub fn digest(&self) -> [u8; 32] {
        self.hash.clone().finish()
    }

    /// Where CPUs other than the first start.
    ///
    /// # Errors
    /// If the image does not say.
    pub fn reset_address(&self) -> Result<u32, SevError> {
        ovmf::reset_address(&self.tail).map_err(|source| {
            self.fault(
                source,
                "use firmware built for SEV-ES, or give the save areas with --vmsa-cpu0 and --vmsa-cpu1",
            )
        })
    }

    /// Where QEMU puts the table of kernel hashes.
    ///
    /// # Errors
    /// If the image has no usable place for it, so that QEMU would refuse the launch.
    pub fn hashes_area(&self) -> Result<Area, SevError> {
        let hint = "use OVMF's AmdSev build, or leave the kernel out if the guest is started without kernel-hashes=on";
        match Table::find(&self.tail) {
            Err(source) => Err(self.fault(source, hint)),
            Ok(None) => Err(self.fault(OvmfError::NoHashesArea, hint)),
            Ok(Some(table)) => table.hashes_area().map_err(|source| self.fault(source, hint)),
        }
    }

    fn fault(&self, source: OvmfError, hint: &'static str) -> SevError {
        SevError::Firmware { file: self.file.clone(), source, hint }
    }
}

impl std::fmt::Debug for Firmware {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Firmware").field("file", &self.file).field("size", &self.size).finish_non_exhaustive()
    }
}

/// The virtual CPUs of a SEV-ES guest.
#[derive(Debug, Clone)]
pub struct Cpus {
    /// How many.
    pub count: u32,
    /// The save area of the first.
    pub boot: Vmsa,
    /// That of each other.
    pub application: Vmsa,
    /// Where they come from.
    pub source: String,
}

impl Cpus {
    /// CPUs with this signature, as a VMM sets them up for a firmware image. The reset address is needed for more than
    /// one CPU only.
    ///
    /// # Errors
    /// If the image has no reset address and there is more than one CPU.
    pub fn build(firmware: &Firmware, count: u32, form: VmsaForm, signature: u32) -> Result<Self, SevError> {
        let boot = Vmsa::boot(form, signature);
        let application = match firmware.reset_address() {
            Ok(address) => Vmsa::application(form, signature, address),
            Err(_) if count <= 1 => boot.clone(),
            Err(error) => return Err(error),
        };
        Ok(Self {
            count,
            boot,
            application,
            source: format!("{}, signature {signature:#x}", form_name(form)),
        })
    }
}

/// All that is measured.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The firmware image.
    pub firmware: Firmware,
    /// The kernel's hashes, with `kernel-hashes=on` and a kernel.
    pub hashes: Option<KernelHashes>,
    /// The CPUs, under SEV-ES.
    pub cpus: Option<Cpus>,
}

/// A part of what is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What it is.
    pub label: String,
    /// Its bytes.
    pub size: u64,
    /// SHA-256 of the part alone.
    pub sha256: [u8; 32],
    /// The launch digest after it.
    pub digest: [u8; 32],
}

impl Launch {
    /// The launch digest.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = self.firmware.hash.clone();
        if let Some(hashes) = &self.hashes {
            hash.update(&hashes.encode());
        }
        if let Some(cpus) = &self.cpus {
            (0..cpus.count).for_each(|index| hash.update(save_area(cpus, index).as_bytes()));
        }
        hash.finish()
    }

    /// The parts in order.
    pub fn parts(&self) -> Vec<Part> {
        let mut hash = self.firmware.hash.clone();
        let digest = self.firmware.digest();
        let label = format!("firmware {}", self.firmware.file);
        let mut parts = vec![Part { label, size: self.firmware.size, sha256: digest, digest }];
        let mut add = |label, bytes: &[u8]| {
            hash.update(bytes);
            let digest = hash.clone().finish();
            parts.push(Part { label, size: bytes.len() as u64, sha256: sha256(bytes), digest });
        };
        if let Some(hashes) = &self.hashes {
            add("table of kernel hashes".to_owned(), &hashes.encode());
        }
        if let Some(cpus) = &self.cpus {
            for index in 0..cpus.count {
                add(format!("save area of CPU {index} ({})", cpus.source), save_area(cpus, index).as_bytes());
            }
        }
        parts
    }
}

/// Version and build of the firmware that launches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Api {
    /// Major version of its interface: `api-major` of `query-sev`.
    pub major: u8,
    /// Minor version: `api-minor`.
    pub minor: u8,
    /// Build: `build-id`.
    pub build: u8,
}

/// The measurement that the firmware will give.
pub fn measurement(
    tik: &Secret<16>,
    api: Api,
    policy: Policy,
    digest: [u8; 32],
    mnonce: [u8; 16],
) -> Measurement {
    let Api { major, minor, build } = api;
    let input = MeasurementInput { api_major: major, api_minor: minor, build, policy, digest, mnonce };
    Measurement { mac: hmac_sha256(tik.expose(), &[&input.encode()]), mnonce }
}

/// CPU models with their family, model and stepping, as QEMU defines them.
pub const CPU_MODELS: &[(&str, [u32; 3])] = &[
    ("EPYC", [23, 1, 2]),
    ("EPYC-Rome", [23, 49, 0]),
    ("EPYC-Milan", [25, 1, 1]),
    ("EPYC-Genoa", [25, 17, 0]),
    ("EPYC-Turin", [26, 0, 0]),
];

/// The signature of a CPU model by QEMU's name, with or without a version.
///
/// # Errors
/// If the name is not known.
pub fn signature_of(model: &str) -> Result<u32, SevError> {
    let version = |name: &str| {
        name.strip_prefix("-v")
            .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
    };
    let found = CPU_MODELS.iter().find(|(name, _)| {
        model.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest == "-IBPB" || version(rest))
    });
    match found {
        Some((_, [family, model, stepping])) => Ok(cpu_signature(*family, *model, *stepping)),
        None => {
            let known: Vec<_> = CPU_MODELS.iter().map(|(name, _)| *name).collect();
            Err(SevError::CpuModel { model: model.to_owned(), known: known.join(", ") })
        }
    }
}

/// The name of a form of the save area, as options take it.
pub const fn form_name(form: VmsaForm) -> &'static str {
    match form {
        VmsaForm::Legacy => "legacy",
        VmsaForm::Init2 => "init2",
    }
}

/// The save area of a CPU.
pub(super) const fn save_area(cpus: &Cpus, index: u32) -> &Vmsa {
    if index == 0 { &cpus.boot } else { &cpus.application }
}

impl Firmware {
    /// The digest so far, to go on with.
    pub(super) fn state(&self) -> Sha256 {
        self.hash.clone()
    }
}
