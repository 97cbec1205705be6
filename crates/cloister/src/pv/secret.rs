//! `cloister pv secret`: requests made and inspected; secrets added, listed, locked and retrieved in a guest.

use super::attest::{read, write};
use super::hex;
use super::keys::{HostKeys, warn};
use crate::out;
use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use cloister_crypto::{SystemEntropy, sha256};
use cloister_formats::s390x::asrcb::SecretType;
use cloister_formats::s390x::secret_list::{SecretEntry, SecretList};
use cloister_owner::attest::read_header;
use cloister_owner::secret::{CreateOptions, Input, KeyType, config_uid_from_hex, create, inspect_file};
use cloister_uvdevice::UvDevice;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use zeroize::Zeroizing;

#[derive(Debug, Subcommand)]
pub(crate) enum Secret {
    /// Make an add-secret request for one image on the machines of the given host-key documents
    Create(Box<Create>),
    /// Show what a request is, and verify the user's signature
    #[command(visible_alias = "verify")]
    Inspect(Inspect),
    /// Inside the guest: add the secret of a request (/dev/uv)
    Add(Add),
    /// Inside the guest: list the stored secrets; or show a list that `uvdevice list` wrote
    List(List),
    /// Inside the guest: lock the store until the next start
    Lock,
    /// Inside the guest: fetch a secret
    #[command(visible_alias = "retr")]
    Retrieve(Retrieve),
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    #[command(flatten)]
    keys: HostKeys,
    /// The image that may have the secret, or its bare SE header
    #[arg(long, value_name = "FILE")]
    hdr: PathBuf,
    /// The request
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// File with 32 bytes that all requests for one guest must share
    #[arg(long, value_name = "FILE", conflicts_with = "cck")]
    extension_secret: Option<PathBuf>,
    /// File with the image's customer communication key, from which those bytes are derived
    #[arg(long, value_name = "FILE")]
    cck: Option<PathBuf>,
    /// Only for the configuration that this file names: 16 bytes, or the result of `attest verify -o`
    #[arg(long, value_name = "FILE", conflicts_with = "cuid_hex")]
    cuid: Option<PathBuf>,
    /// The same in hexadecimal
    #[arg(long, value_name = "HEX", value_parser = uid)]
    cuid_hex: Option<[u8; 16]>,
    /// Flags of the request
    #[arg(long, value_name = "FLAGS", value_enum, value_delimiter = ',')]
    flags: Vec<Flag>,
    /// At most 512 bytes for the guest's user (256, with RSA-3072 128, if they are signed)
    #[arg(long, value_name = "FILE")]
    user_data: Option<PathBuf>,
    /// Private key that signs the request: EC on P-521, RSA of 2048 or 3072 bits
    #[arg(long, value_name = "FILE")]
    user_sign_key: Option<PathBuf>,
    /// Use the name as the identifier, instead of its hash
    #[arg(long)]
    use_name: bool,
    /// Also inside a Secure Execution guest
    #[arg(short, long)]
    force: bool,
    /// Replace existing outputs
    #[arg(long)]
    overwrite: bool,
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Flag {
    /// The host can no longer dump the guest
    DisableDump,
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// No secret: only flags, or the extension secret of all later requests
    Meta,
    /// Binds a crypto device to the guest
    Association {
        /// Its name
        name: String,
        /// File with the secret, 32 bytes; drawn if absent
        #[arg(long, value_name = "FILE")]
        input_secret: Option<PathBuf>,
        /// Keep the secret in the clear in this file
        #[arg(long, value_name = "FILE")]
        output_secret: Option<PathBuf>,
        /// Print name and identifier instead of writing NAME.yaml
        #[arg(long)]
        stdout: bool,
    },
    /// The guest can fetch it: plain text as it is, a key in protected form
    #[command(visible_alias = "retr")]
    Retrievable {
        /// Its name
        name: String,
        /// File with the secret
        #[arg(long, value_name = "FILE")]
        secret: PathBuf,
        /// What the secret is
        #[arg(long = "type", value_name = "TYPE", value_enum)]
        kind: Type,
        /// Print name and identifier instead of writing NAME.yaml
        #[arg(long)]
        stdout: bool,
    },
    /// A new customer communication key
    #[command(visible_alias = "cck")]
    UpdateCck {
        /// File with the key, 32 bytes
        #[arg(long, value_name = "FILE")]
        secret: PathBuf,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Type {
    /// Any file of at most 8190 bytes
    Plain,
    /// AES key of 16, 24 or 32 bytes
    Aes,
    /// AES-XTS key of 32 or 64 bytes
    AesXts,
    /// HMAC-SHA key of one block: 64 or 128 bytes
    HmacSha,
    /// Private key, PEM or DER: P-256, P-384, P-521, Ed25519, Ed448
    Ec,
}

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The request
    #[arg(value_name = "FILE", required_unless_present = "in_option")]
    file: Option<PathBuf>,
    /// The request, as an option
    #[arg(id = "in_option", short = 'i', long = "input", value_name = "FILE", conflicts_with = "file")]
    in_option: Option<PathBuf>,
    /// Certificate of the user who signed; no chain is verified
    #[arg(long, value_name = "FILE")]
    user_cert: Option<PathBuf>,
    /// Also say whether the request is for this image or bare SE header (status 1: it is not)
    #[arg(long, value_name = "FILE")]
    hdr: Option<PathBuf>,
    /// Write the user data to this file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// The request
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Where the list goes
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Where the list goes, as an option
    #[arg(short, long, value_name = "FILE", conflicts_with = "file")]
    output: Option<PathBuf>,
    /// Read the Ultravisor's page from this file instead of asking /dev/uv
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// The format of the list
    #[arg(long, value_enum, default_value = "human")]
    format: ListFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ListFormat {
    /// For people
    Human,
    /// YAML
    Yaml,
    /// The Ultravisor's page
    Bin,
}

#[derive(Debug, Args)]
pub(crate) struct Retrieve {
    /// Which secret; see --inform
    #[arg(value_name = "ID")]
    id: String,
    /// Where it goes
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Where it goes, as an option
    #[arg(short, long, value_name = "FILE", conflicts_with = "file")]
    output: Option<PathBuf>,
    /// What ID is
    #[arg(long, value_enum, default_value = "yaml")]
    inform: Inform,
    /// The form of the secret
    #[arg(long, value_enum, default_value = "pem")]
    outform: Outform,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Inform {
    /// The file NAME.yaml of `create`
    Yaml,
    /// The identifier, 64 hexadecimal digits
    Hex,
    /// The name
    Name,
    /// The index
    Idx,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Outform {
    /// Base64 between lines that name the type
    Pem,
    /// The bytes
    Bin,
}

impl Secret {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Create(command) => command.run(),
            Self::Inspect(command) => command.run(),
            Self::Add(Add { file }) => {
                UvDevice::open()?.add_secret(&read(&file)?)?;
                out::line(&format!("{}: added", file.display()));
                Ok(ExitCode::SUCCESS)
            }
            Self::List(command) => command.run(),
            Self::Lock => {
                UvDevice::open()?.lock()?;
                out::line("locked: no secret can be added until this guest starts again");
                Ok(ExitCode::SUCCESS)
            }
            Self::Retrieve(command) => command.run(),
        }
    }
}

impl Create {
    fn run(self) -> anyhow::Result<ExitCode> {
        let (host_key_documents, verification) = self.keys.take();
        let print = match &self.kind {
            Kind::Association { stdout, .. } | Kind::Retrievable { stdout, .. } => *stdout,
            Kind::Meta | Kind::UpdateCck { .. } => true,
        };
        let options = CreateOptions {
            host_key_documents,
            verification,
            header: self.hdr,
            output: self.output,
            extension_secret: self.extension_secret,
            cck: self.cck,
            config_uid: self.cuid,
            config_uid_hex: self.cuid_hex,
            disable_dump: self.flags.contains(&Flag::DisableDump),
            user_data: self.user_data,
            user_sign_key: self.user_sign_key,
            use_name: self.use_name,
            force: self.force,
            overwrite: self.overwrite,
            input: self.kind.input(),
        };
        let output = options.output.display().to_string();
        let created =
            create(&options, &mut SystemEntropy).with_context(|| format!("no request {output} was made"))?;
        warn(&created.warnings);
        if let Some(listing) = created.listing.filter(|_| print) {
            out::line(listing.trim_end());
        }
        for phkh in &created.host_keys {
            out::tell(&format!("{output}: for the host key {phkh}"));
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Kind {
    fn input(self) -> Input {
        match self {
            Self::Meta => Input::Meta,
            Self::Association { name, input_secret, output_secret, stdout } => Input::Association {
                listing: (!stdout).then(|| listing(&name)),
                name,
                input: input_secret,
                output: output_secret,
            },
            Self::Retrievable { name, secret, kind, stdout } => Input::Retrievable {
                listing: (!stdout).then(|| listing(&name)),
                name,
                secret,
                kind: kind.into(),
            },
            Self::UpdateCck { secret } => Input::UpdateCck { secret },
        }
    }
}

impl From<Type> for KeyType {
    fn from(kind: Type) -> Self {
        match kind {
            Type::Plain => Self::Plain,
            Type::Aes => Self::Aes,
            Type::AesXts => Self::AesXts,
            Type::HmacSha => Self::HmacSha,
            Type::Ec => Self::Ec,
        }
    }
}

impl Inspect {
    fn run(self) -> anyhow::Result<ExitCode> {
        let Some(file) = self.file.or(self.in_option) else { bail!("name the request") };
        let inspection = inspect_file(&file, self.user_cert.as_deref())?;
        out::line(&inspection.to_string());
        if let Some(output) = &self.output {
            match &inspection.user_data.data {
                Some(data) => write(output, data)?,
                None => out::tell("cloister pv: warning: the request has no user data, so none were written"),
            }
        }
        if let Some(header) = &self.hdr {
            if !inspection.is_for(&read_header(header)?) {
                bail!("{} is for another image than {}", file.display(), header.display());
            }
            out::line(&format!("  made for            {}", header.display()));
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl List {
    fn run(self) -> anyhow::Result<ExitCode> {
        let page = match &self.input {
            Some(file) => read(file)?,
            None => UvDevice::open()?.list_page()?,
        };
        let list = SecretList::parse(&page)?;
        let text = match self.format {
            ListFormat::Human => human(&list).into_bytes(),
            ListFormat::Yaml => yaml(&list).into_bytes(),
            ListFormat::Bin => page,
        };
        match self.file.or(self.output).filter(|file| file != Path::new("-")) {
            Some(file) => write(&file, &text)?,
            None => std::io::stdout().write_all(&text).context("cannot write to standard output")?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Retrieve {
    fn run(self) -> anyhow::Result<ExitCode> {
        let device = UvDevice::open()?;
        let list = device.list()?;
        let found = match self.inform {
            Inform::Idx => {
                let index: u16 = self.id.parse().context("--inform idx needs a number")?;
                list.entries.iter().find(|entry| entry.index == index)
            }
            Inform::Hex => {
                by_id(&list, &digits(&self.id).context("--inform hex needs 64 hexadecimal digits")?)
            }
            Inform::Yaml => {
                let text = String::from_utf8_lossy(&read(Path::new(&self.id))?).into_owned();
                let line = text.lines().find_map(|line| line.strip_prefix("id:"));
                let id = line.and_then(|value| digits(value.trim().trim_matches(|c| c == '\'' || c == '"')));
                by_id(&list, &id.with_context(|| format!("{} has no entry `id`", self.id))?)
            }
            Inform::Name => {
                let mut plain = [0; 32];
                let name = self.id.as_bytes();
                let fits = name.len() <= plain.len();
                if fits {
                    plain[..name.len()].copy_from_slice(name);
                }
                by_id(&list, &plain).filter(|_| fits).or_else(|| by_id(&list, &sha256(name)))
            }
        };
        let entry = found.with_context(|| format!("no secret {} is stored in this guest", self.id))?;
        let bytes = device.retrieve(entry)?;
        let (label, bytes) = contents(entry, bytes);
        let text = match self.outform {
            Outform::Bin => bytes,
            Outform::Pem => Zeroizing::new(pem(label, entry, &bytes).into_bytes()),
        };
        match self.file.or(self.output).filter(|file| file != Path::new("-")) {
            Some(file) => {
                let mut options = std::fs::OpenOptions::new();
                let opened = options.write(true).create(true).truncate(true).mode(0o600).open(&file);
                let written = opened.and_then(|mut opened| opened.write_all(&text));
                written.with_context(|| format!("cannot write {}", file.display()))?;
            }
            None => std::io::stdout().write_all(&text).context("cannot write to standard output")?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn by_id<'a>(list: &'a SecretList, id: &[u8; 32]) -> Option<&'a SecretEntry> {
    list.entries.iter().find(|entry| entry.id == *id)
}

/// Plain text stands behind its length.
fn contents(entry: &SecretEntry, bytes: Zeroizing<Vec<u8>>) -> (&'static str, Zeroizing<Vec<u8>>) {
    if entry.kind != SecretType::PLAINTEXT {
        return ("IBM PROTECTED KEY", bytes);
    }
    let size = bytes.first_chunk().map_or(0, |size| usize::from(u16::from_be_bytes(*size)));
    let text = bytes.get(2..2 + size).map(|text| Zeroizing::new(text.to_vec()));
    ("PLAINTEXT SECRET", text.unwrap_or(bytes))
}

fn pem(label: &str, entry: &SecretEntry, bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = format!("-----BEGIN {label}-----\n");
    if entry.kind != SecretType::PLAINTEXT {
        // A string never refuses.
        let _ = write!(text, "kind: {}\n\n", entry.kind.name());
    }
    for line in base64(bytes).as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    let _ = writeln!(text, "-----END {label}-----");
    text
}

/// RFC 4648, 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word =
            group.iter().fold(0u32, |word, &byte| word << 8 | u32::from(byte)) << (8 * (3 - group.len()));
        for at in 0..4 {
            match at <= group.len() {
                true => text.push(char::from(ALPHABET[(word >> (18 - 6 * at)) as usize & 63])),
                false => text.push('='),
            }
        }
    }
    text
}

fn human(list: &SecretList) -> String {
    let mut text = format!("Total number of secrets: {}\n", list.total);
    for entry in &list.entries {
        text.push_str(&format!(
            "{} {} ({} bytes):\n  {}\n",
            entry.index,
            entry.kind.name(),
            entry.len,
            hex(&entry.id)
        ));
    }
    if list.next != 0 {
        text.push_str(&format!("There are more, from index {} on.\n", list.next));
    }
    text
}

fn yaml(list: &SecretList) -> String {
    let mut text = format!(
        "total_num_secrets: {}\nsecrets:{}\n",
        list.total,
        if list.entries.is_empty() { " []" } else { "" }
    );
    for entry in &list.entries {
        text.push_str(&format!(
            "- index: {}\n  type: {:#06x}\n  name: '{}'\n  len: {}\n  id: '0x{}'\n",
            entry.index,
            entry.kind.0,
            entry.kind.name(),
            entry.len,
            hex(&entry.id)
        ));
    }
    text
}

fn digits(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let mut id = [0; 32];
    if digits.len() != 64 || !digits.is_ascii() {
        return None;
    }
    for (byte, at) in id.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&digits[at..at + 2], 16).ok()?;
    }
    Some(id)
}

/// `NAME.yaml` in the current folder, as `pvsecret` names it; a slash would leave the folder.
fn listing(name: &str) -> PathBuf {
    let plain: String = name.chars().map(|c| if c.is_whitespace() || c == '/' { '_' } else { c }).collect();
    format!("{plain}.yaml").into()
}

fn uid(text: &str) -> Result<[u8; 16], String> {
    config_uid_from_hex(text).ok_or_else(|| "32 hexadecimal digits are needed".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_4648_10_base64() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn a_retrieved_plain_text_is_the_text_alone() {
        let entry = SecretEntry { index: 0, kind: SecretType::PLAINTEXT, len: 16, id: [0; 32] };
        let stored = Zeroizing::new(b"\0\x0bhello world\0\0\0".to_vec());
        let (label, text) = contents(&entry, stored);
        assert_eq!((label, &text[..]), ("PLAINTEXT SECRET", &b"hello world"[..]));
        assert_eq!(
            pem(label, &entry, &text),
            "-----BEGIN PLAINTEXT SECRET-----\naGVsbG8gd29ybGQ=\n-----END PLAINTEXT SECRET-----\n"
        );
        let odd = Zeroizing::new(b"\xff\xff".to_vec());
        assert_eq!(contents(&entry, odd.clone()).1, odd);
    }

    #[test]
    fn names_of_listings_stay_in_the_folder() {
        assert_eq!(listing("my key"), PathBuf::from("my_key.yaml"));
        assert_eq!(listing("../x"), PathBuf::from(".._x.yaml"));
    }
}
