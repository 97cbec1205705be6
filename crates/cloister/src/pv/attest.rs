//! `cloister pv attest`: requests made, performed in a guest, verified, checked.

use super::hex;
use super::keys::{HostKeys, warn};
use crate::out;
use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use cloister_crypto::SystemEntropy;
use cloister_formats::s390x::arcb::ArcbFlags;
use cloister_formats::s390x::exchange::ExchangeRequest;
use cloister_owner::OwnerError;
use cloister_owner::attest::{
    AttestError, CreateOptions, HostKeyCheck, VerifyOptions, check_file, create, verify_files,
};
use cloister_uvdevice::UvDevice;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(crate) enum Attest {
    /// Make a request that only the machines of the given host-key documents can open
    Create(Create),
    /// Inside the guest: have it measured (/dev/uv)
    Perform(Perform),
    /// Verify an answer: is the guest this image? (status 2: it is not)
    Verify(Verify),
    /// Check a verified answer against a policy (status 2: it is not met)
    Check(Check),
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    #[command(flatten)]
    keys: HostKeys,
    /// The request (exchange file of pvattest)
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Where the request's protection key goes; keep it, and delete it after verification
    #[arg(short, long, value_name = "FILE")]
    arpk: PathBuf,
    /// What else the answer shall say (several times, or separated by commas)
    #[arg(long, value_name = "ITEMS", value_enum, value_delimiter = ',')]
    add_data: Vec<AddData>,
    /// Replace existing outputs
    #[arg(long)]
    overwrite: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AddData {
    /// Hash of the host key that opened the image
    PhkhImg,
    /// Hash of the host key that opened the request
    PhkhAtt,
    /// Hash of the secrets that were added, and whether more can be
    SecretStoreHash,
    /// State of the machine's firmware
    FirmwareState,
}

#[derive(Debug, Args)]
pub(crate) struct Perform {
    /// The request
    #[arg(value_name = "IN", required_unless_present = "in_option")]
    input: Option<PathBuf>,
    /// The answer
    #[arg(value_name = "OUT", required_unless_present = "out_option")]
    output: Option<PathBuf>,
    /// The request, as an option
    #[arg(id = "in_option", short = 'i', long = "input", value_name = "FILE", conflicts_with = "input")]
    in_option: Option<PathBuf>,
    /// The answer, as an option
    #[arg(id = "out_option", short = 'o', long = "output", value_name = "FILE", conflicts_with = "output")]
    out_option: Option<PathBuf>,
    /// At most 256 bytes that are measured with the guest
    #[arg(short, long, value_name = "FILE")]
    user_data: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The guest's answer
    #[arg(short, long, value_name = "FILE")]
    input: PathBuf,
    /// The image that the guest should be, or its bare SE header
    #[arg(long, value_name = "FILE")]
    hdr: PathBuf,
    /// The request's protection key
    #[arg(short, long, value_name = "FILE")]
    arpk: PathBuf,
    /// Also write the result to this file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The format of the result
    #[arg(long, value_enum, default_value = "yaml")]
    format: Format,
    /// Write the user data that were measured to this file
    #[arg(short, long, value_name = "FILE")]
    user_data: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Yaml,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The guest's answer; verify it first
    #[arg(value_name = "IN", required_unless_present = "in_option")]
    input: Option<PathBuf>,
    /// Where the result goes besides standard output
    #[arg(value_name = "OUT")]
    output: Option<PathBuf>,
    /// The guest's answer, as an option
    #[arg(id = "in_option", short = 'i', long = "input", value_name = "FILE", conflicts_with = "input")]
    in_option: Option<PathBuf>,
    /// Where the result goes, as an option
    #[arg(id = "out_option", short = 'o', long = "output", value_name = "FILE", conflicts_with = "output")]
    out_option: Option<PathBuf>,
    /// The format of the result
    #[arg(long, value_enum, default_value = "yaml")]
    format: Format,
    /// Host-key document of an acceptable machine (several times); the hashes in the answer must be of one of them
    #[arg(short = 'k', long = "host-key-document", visible_alias = "hkd", value_name = "FILE")]
    host_key_documents: Vec<PathBuf>,
    /// Hashes that must not be missing in the answer
    #[arg(long, value_name = "CHECKS", value_enum, value_delimiter = ',', requires = "host_key_documents")]
    host_key_check: Vec<KeyCheck>,
    /// The user data must be the content of this file
    #[arg(short, long, value_name = "FILE")]
    user_data: Option<PathBuf>,
    /// Request of a secret that was added (several times, in the order of adding)
    #[arg(long = "secret", value_name = "FILE", requires = "secret_store_locked")]
    secrets: Vec<PathBuf>,
    /// Whether the secret store must be locked
    #[arg(long, value_name = "BOOL")]
    secret_store_locked: Option<bool>,
    /// Ask IBM whether the firmware is supported: not possible here, as nothing here goes to the network
    #[arg(long)]
    firmware: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum KeyCheck {
    /// The host key that opened the request
    AttKeyHash,
    /// The host key that opened the image
    BootKeyHash,
}

impl Attest {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Create(command) => command.run(),
            Self::Perform(command) => command.run(),
            Self::Verify(command) => command.run(),
            Self::Check(command) => command.run(),
        }
    }
}

impl Create {
    fn run(self) -> anyhow::Result<ExitCode> {
        let (host_key_documents, verification) = self.keys.take();
        let flags = self.add_data.iter().map(|item| item.flag().0).fold(0, |all, flag| all | flag);
        let options = CreateOptions {
            host_key_documents,
            verification,
            output: self.output,
            arpk: self.arpk,
            additional: ArcbFlags(flags),
            overwrite: self.overwrite,
        };
        let output = options.output.display().to_string();
        let created =
            create(&options, &mut SystemEntropy).with_context(|| format!("no request {output} was made"))?;
        warn(&created.warnings);
        for phkh in &created.host_keys {
            out::line(&format!("{output}: for the host key {phkh}"));
        }
        out::line(&format!(
            "{}: its protection key; keep it for `pv attest verify`, then delete it",
            options.arpk.display()
        ));
        Ok(ExitCode::SUCCESS)
    }
}

impl Perform {
    fn run(self) -> anyhow::Result<ExitCode> {
        let (Some(input), Some(output)) = (self.input.or(self.in_option), self.output.or(self.out_option))
        else {
            bail!("name the request and where the answer goes");
        };
        let file = read(&input)?;
        let request = ExchangeRequest::parse(&file).with_context(|| input.display().to_string())?;
        let user_data = match &self.user_data {
            None => Vec::new(),
            Some(file) => {
                let data = read(file)?;
                if data.len() > 256 {
                    return Err(OwnerError::from(AttestError::UserData {
                        file: file.clone(),
                        size: data.len(),
                    })
                    .into());
                }
                data
            }
        };
        let response = UvDevice::open()?.attest(&request, &user_data)?;
        write(&output, &response.encode())?;
        out::line(&format!(
            "{}: the answer of configuration {}",
            output.display(),
            hex(&response.config_uid)
        ));
        Ok(ExitCode::SUCCESS)
    }
}

impl Verify {
    fn run(self) -> anyhow::Result<ExitCode> {
        let Format::Yaml = self.format;
        let mut warnings = Vec::new();
        let options = VerifyOptions { input: self.input, header: self.hdr, arpk: self.arpk };
        let verified = match verify_files(&options, &mut warnings) {
            Err(OwnerError::Attest(error @ AttestError::Mismatch(_))) => {
                warn(&warnings);
                out::tell(&format!("cloister pv: {}: NOT VERIFIED: {error}", options.input.display()));
                return Ok(ExitCode::from(NOT_VERIFIED));
            }
            other => other?,
        };
        warn(&warnings);
        let yaml = verified.yaml();
        if let Some(file) = &self.output {
            write(file, yaml.as_bytes())?;
        }
        if let Some(file) = &self.user_data {
            match verified.user_data.is_empty() {
                true => out::tell("cloister pv: warning: the answer has no user data, so none were written"),
                false => write(file, &verified.user_data)?,
            }
        }
        out::tell(&format!("cloister pv: {}: verified: the guest is this image", options.input.display()));
        out::line(yaml.trim_end());
        Ok(ExitCode::SUCCESS)
    }
}

impl Check {
    fn run(self) -> anyhow::Result<ExitCode> {
        let Format::Yaml = self.format;
        if self.firmware {
            bail!(
                "--firmware asks a service of IBM; nothing here goes to the network: use pvattest for that"
            );
        }
        let Some(input) = self.input.or(self.in_option) else { bail!("name the answer") };
        let required = HostKeyCheck {
            attestation: self.host_key_check.contains(&KeyCheck::AttKeyHash),
            boot: self.host_key_check.contains(&KeyCheck::BootKeyHash),
        };
        let mut warnings = Vec::new();
        let report = check_file(
            &input,
            &self.host_key_documents,
            required,
            self.user_data.as_deref(),
            self.secret_store_locked.map(|locked| (&self.secrets[..], locked)),
            &mut warnings,
        )?;
        warn(&warnings);
        let yaml = report.yaml();
        if let Some(file) = self.output.or(self.out_option) {
            write(&file, yaml.as_bytes())?;
        }
        out::line(yaml.trim_end());
        if report.successful() {
            return Ok(ExitCode::SUCCESS);
        }
        out::tell(&format!(
            "cloister pv: {}: the policy is NOT met: {}",
            input.display(),
            report.issues.join(" ")
        ));
        Ok(ExitCode::from(NOT_VERIFIED))
    }
}

impl AddData {
    fn flag(self) -> ArcbFlags {
        match self {
            Self::PhkhImg => ArcbFlags::IMAGE_PHKH,
            Self::PhkhAtt => ArcbFlags::ATTESTATION_PHKH,
            Self::SecretStoreHash => ArcbFlags::SECRET_STORE_HASH,
            Self::FirmwareState => ArcbFlags::FIRMWARE_STATE,
        }
    }
}

pub(super) fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

pub(super) fn write(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    std::fs::write(file, bytes).with_context(|| format!("cannot write {}", file.display()))
}

/// As `pvattest`: something else than a failure of the program.
const NOT_VERIFIED: u8 = 2;
