//! The options that say what is launched, shared by `measure` and `verify`.

use super::files::{KeyFiles, LIMIT, name, open, read};
use clap::{Args, ValueEnum};
use cloister_crypto::sha256;
use cloister_formats::sev::kernel_hashes::{KernelHashes, cmdline_bytes};
use cloister_formats::sev::policy::Policy;
use cloister_formats::sev::vmsa::{Vmsa, VmsaForm, cpu_signature};
use cloister_owner::sev::input;
use cloister_owner::sev::measure::{Api, Cpus, Firmware, Launch, signature_of};
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(super) struct LaunchArgs {
    /// Firmware image, as given to -bios or pflash
    #[arg(
        short,
        long,
        visible_alias = "ovmf",
        value_name = "FILE",
        required_unless_present = "launch_digest"
    )]
    pub(super) firmware: Option<PathBuf>,
    /// The launch digest instead of its parts, in hexadecimal or base64
    #[arg(long, value_name = "DIGEST", conflicts_with_all = ["firmware", "kernel"], value_parser = digest)]
    pub(super) launch_digest: Option<[u8; 32]>,
    /// Kernel of a guest with kernel-hashes=on
    #[arg(short, long, value_name = "FILE")]
    pub(super) kernel: Option<PathBuf>,
    /// Its ramdisk
    #[arg(short = 'r', long, value_name = "FILE", requires = "kernel")]
    pub(super) initrd: Option<PathBuf>,
    /// Its command line, byte for byte as QEMU's -append
    #[arg(short = 'e', long, visible_alias = "append", value_name = "TEXT", requires = "kernel")]
    pub(super) cmdline: Option<String>,
    /// The guest's policy, in decimal or as 0x...
    #[arg(short, long, value_name = "POLICY", default_value = "1", value_parser = input::policy)]
    pub(super) policy: Policy,
    /// Virtual CPUs (SEV-ES only)
    #[arg(short = 'n', long, visible_alias = "num-cpus", value_name = "NUMBER",
        value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(super) vcpus: Option<u32>,
    /// CPU model by QEMU's name, such as EPYC-Milan (SEV-ES only)
    #[arg(long, visible_alias = "vcpu-type", value_name = "MODEL",
        conflicts_with_all = ["cpu_family", "cpu_model", "cpu_stepping"])]
    pub(super) cpu: Option<String>,
    /// CPU family, instead of --cpu
    #[arg(long, value_name = "NUMBER", requires_all = ["cpu_model", "cpu_stepping"], value_parser = number)]
    pub(super) cpu_family: Option<u32>,
    /// CPU model number
    #[arg(long, value_name = "NUMBER", requires_all = ["cpu_family", "cpu_stepping"], value_parser = number)]
    pub(super) cpu_model: Option<u32>,
    /// CPU stepping
    #[arg(long, value_name = "NUMBER", requires_all = ["cpu_family", "cpu_model"], value_parser = number)]
    pub(super) cpu_stepping: Option<u32>,
    /// How the VMM sets CPUs up: legacy (QEMU's default, legacy-vm-type=on or auto) or init2 (off)
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Form::Legacy)]
    pub(super) vmsa: Form,
    /// Save area of the first CPU, instead of a built one
    #[arg(short = '0', long, value_name = "FILE", conflicts_with_all = ["cpu", "cpu_family"])]
    pub(super) vmsa_cpu0: Option<PathBuf>,
    /// Save area of each other CPU
    #[arg(short = '1', long, value_name = "FILE", requires = "vmsa_cpu0")]
    pub(super) vmsa_cpu1: Option<PathBuf>,
    /// Major version of the firmware's interface: api-major of query-sev
    #[arg(long, value_name = "NUMBER")]
    pub(super) api_major: Option<u8>,
    /// Minor version: api-minor
    #[arg(long, value_name = "NUMBER")]
    pub(super) api_minor: Option<u8>,
    /// Build of the firmware: build-id
    #[arg(long, value_name = "NUMBER")]
    pub(super) build_id: Option<u8>,
    #[command(flatten)]
    pub(super) keys: KeyFiles,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Form {
    Legacy,
    Init2,
}

impl From<Form> for VmsaForm {
    fn from(form: Form) -> Self {
        match form {
            Form::Legacy => Self::Legacy,
            Form::Init2 => Self::Init2,
        }
    }
}

/// What was launched, as far as files say it.
pub(super) struct Inputs {
    pub(super) launch: Launch,
    pub(super) kernel: Option<KernelInput>,
}

/// A kernel with its hashes and names.
pub(super) struct KernelInput {
    pub(super) file: String,
    pub(super) initrd: Option<String>,
    pub(super) cmdline: String,
    pub(super) hashes: KernelHashes,
}

impl LaunchArgs {
    /// Reads everything; `None` if only the digest is given.
    pub(super) fn read(&self) -> anyhow::Result<Option<Inputs>> {
        let Some(file) = &self.firmware else {
            if self.vcpus.is_some()
                || self.cpu.is_some()
                || self.vmsa_cpu0.is_some()
                || self.cpu_family.is_some()
            {
                super::notice("the CPUs are part of the launch digest already; their options are not used");
            }
            return Ok(None);
        };
        // The files are hashed at the same time: hashing is all the work there is.
        let (firmware, kernel) = std::thread::scope(|scope| {
            let read = || -> anyhow::Result<_> { Ok(Firmware::read(&name(file), open(file)?)?) };
            let firmware = scope.spawn(read);
            let kernel = self.kernel.as_deref().map(|kernel| self.kernel(kernel)).transpose();
            (joined(firmware.join()), kernel)
        });
        let (firmware, kernel) = (firmware?, kernel?);
        if firmware.size() == 0 || firmware.size() % 4096 != 0 {
            super::notice(&format!(
                "warning: {} has {} bytes, which is not a multiple of 4096: QEMU takes no such firmware",
                firmware.file(),
                firmware.size()
            ));
        }
        if kernel.is_some() {
            firmware.hashes_area()?;
        }
        let cpus = self.cpus(&firmware)?;
        let hashes = kernel.as_ref().map(|kernel| kernel.hashes);
        Ok(Some(Inputs { launch: Launch { firmware, hashes, cpus }, kernel }))
    }

    /// Version and build of the firmware.
    pub(super) fn api(&self) -> anyhow::Result<Api> {
        match (self.api_major, self.api_minor, self.build_id) {
            (Some(major), Some(minor), Some(build)) => Ok(Api { major, minor, build }),
            _ => anyhow::bail!(
                "a measurement covers the firmware's version: give --api-major, --api-minor and --build-id as query-sev \
                 prints them"
            ),
        }
    }

    /// The CPU's signature, if it is given.
    pub(super) fn signature(&self) -> anyhow::Result<Option<u32>> {
        match (&self.cpu, self.cpu_family, self.cpu_model, self.cpu_stepping) {
            (Some(model), ..) => Ok(Some(signature_of(model)?)),
            (None, Some(family), Some(model), Some(stepping)) => {
                Ok(Some(cpu_signature(family, model, stepping)))
            }
            _ => Ok(None),
        }
    }

    /// Save areas that are given as files.
    pub(super) fn save_areas(&self) -> anyhow::Result<Option<(Vmsa, Vmsa)>> {
        let Some(boot) = &self.vmsa_cpu0 else { return Ok(None) };
        let boot_area = save_area(boot)?;
        match &self.vmsa_cpu1 {
            Some(file) => Ok(Some((boot_area, save_area(file)?))),
            None if self.vcpus.unwrap_or(1) == 1 => Ok(Some((boot_area.clone(), boot_area))),
            None => anyhow::bail!("more than one CPU needs --vmsa-cpu1 too"),
        }
    }

    fn kernel(&self, file: &Path) -> anyhow::Result<KernelInput> {
        let cmdline = self.cmdline.clone().unwrap_or_default();
        if cmdline.bytes().any(|byte| byte == 0) {
            anyhow::bail!("--cmdline contains a NUL; QEMU adds the one at the end by itself");
        }
        let hash = |file: &Path| -> anyhow::Result<[u8; 32]> { Ok(input::hash(&name(file), open(file)?)?.1) };
        let (kernel, initrd) = std::thread::scope(|scope| {
            let kernel = scope.spawn(|| hash(file));
            let initrd = self.initrd.as_deref().map_or_else(|| Ok(sha256(&[])), hash);
            (joined(kernel.join()), initrd)
        });
        let (kernel, initrd) = (kernel?, initrd?);
        let hashes = KernelHashes { cmdline: sha256(&cmdline_bytes(cmdline.as_bytes())), initrd, kernel };
        Ok(KernelInput { file: name(file), initrd: self.initrd.as_deref().map(name), cmdline, hashes })
    }

    fn cpus(&self, firmware: &Firmware) -> anyhow::Result<Option<Cpus>> {
        let signature = self.signature()?;
        let areas = self.save_areas()?;
        if !self.policy.has(Policy::ES) {
            if self.vcpus.is_some() || signature.is_some() || areas.is_some() {
                super::notice(
                    "the policy has no ES bit (0x4), so no CPU is measured and the options about CPUs are not used",
                );
            }
            return Ok(None);
        }
        let count = self.vcpus.unwrap_or(1);
        if let Some((boot, application)) = areas {
            return Ok(Some(Cpus { count, boot, application, source: "from a file".to_owned() }));
        }
        let Some(signature) = signature else {
            anyhow::bail!(
                "the policy has the ES bit (0x4), so the CPUs are measured: give --cpu MODEL, or --cpu-family, --cpu-model \
                 and --cpu-stepping, or the save areas with --vmsa-cpu0 and --vmsa-cpu1"
            );
        };
        Ok(Some(Cpus::build(firmware, count, self.vmsa.into(), signature)?))
    }
}

/// What a thread came to; a panic goes on here.
fn joined<T>(ended: std::thread::Result<T>) -> T {
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A save area from a file.
pub(super) fn save_area(file: &Path) -> anyhow::Result<Vmsa> {
    let bytes = read(file, LIMIT)?;
    Vmsa::parse(&bytes).map_err(|error| anyhow::anyhow!("{}: {error}", name(file)))
}

fn digest(text: &str) -> Result<[u8; 32], String> {
    input::digest("a launch digest", text).map_err(|error| error.to_string())
}

pub(super) fn number(text: &str) -> Result<u32, String> {
    input::number("this", text).map_err(|error| error.to_string())
}
