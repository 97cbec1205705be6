//! Reading the files of the command line, each error with the file's name.

use anyhow::Context;
use cloister_formats::sev::amd_root::AmdCertificate;
use cloister_formats::sev::certificate::Certificate;
use cloister_formats::sev::chain::Chain;
use cloister_formats::sev::measurement::Measurement;
use cloister_owner::sev::certs::{Root, Trust, Verification, verify};
use cloister_owner::sev::{Keys, input};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Name of a file in messages.
pub(super) fn name(file: &Path) -> String {
    file.display().to_string()
}

/// Opens a file to be streamed.
pub(super) fn open(file: &Path) -> anyhow::Result<File> {
    File::open(file).with_context(|| format!("cannot open {}", name(file)))
}

/// Reads a file of at most `limit` bytes.
pub(super) fn read(file: &Path, limit: u64) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let opened = open(file)?;
    // Room for everything at once, so that growing leaves no copy of a key behind.
    let size = opened.metadata().map_or(0, |data| data.len()).min(limit);
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1));
    opened.take(limit + 1).read_to_end(&mut bytes).with_context(|| format!("cannot read {}", name(file)))?;
    anyhow::ensure!(
        bytes.len() as u64 <= limit,
        "{} is larger than {limit} bytes, so it is not what is needed here; check the file name",
        name(file)
    );
    Ok(bytes)
}

/// Certificates in any form.
pub(super) fn certificates(file: &Path) -> anyhow::Result<Chain> {
    Ok(input::certificates(&name(file), &read(file, LIMIT)?)?)
}

/// A value of an option that is base64 or the name of a file with it, binary or base64, as sevctl takes it.
pub(super) fn blob<const N: usize>(option: &str, text: &str) -> anyhow::Result<[u8; N]> {
    let bytes = if Path::new(text).is_file() {
        input::binary_or_base64(text, &read(text.as_ref(), LIMIT)?, N)?
    } else {
        input::exactly::<N>(option, text)?.to_vec()
    };
    bytes.try_into().map_err(|_| anyhow::anyhow!("{option} needs {N} bytes"))
}

/// As [`blob`], for a measurement.
pub(super) fn measurement(option: &str, text: &str) -> anyhow::Result<Measurement> {
    let bytes: [u8; Measurement::SIZE] = blob(option, text)?;
    Measurement::parse(&bytes).map_err(|error| anyhow::anyhow!("{option}: {error}"))
}

/// The keys of an owner.
#[derive(Debug, clap::Args)]
pub(super) struct KeyFiles {
    /// Transport integrity key: the file NAME_tik.bin of a session
    #[arg(long, value_name = "FILE")]
    pub(super) tik: Option<PathBuf>,
    /// Transport encryption key: NAME_tek.bin
    #[arg(long, value_name = "FILE")]
    pub(super) tek: Option<PathBuf>,
    /// Both keys in one file, TEK first, as sev-tool writes tmp_tk.bin
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tik", "tek"])]
    pub(super) tk: Option<PathBuf>,
}

impl KeyFiles {
    /// What was given: TIK, TEK.
    pub(super) fn read(
        &self,
    ) -> anyhow::Result<(Option<cloister_crypto::Secret<16>>, Option<cloister_crypto::Secret<16>>)> {
        if let Some(file) = &self.tk {
            let Keys { tik, tek } = input::both_keys(&name(file), &read(file, LIMIT)?)?;
            return Ok((Some(tik), Some(tek)));
        }
        let key = |file: &Option<PathBuf>| -> anyhow::Result<_> {
            file.as_ref().map(|file| Ok(input::key(&name(file), &read(file, LIMIT)?)?)).transpose()
        };
        Ok((key(&self.tik)?, key(&self.tek)?))
    }
}

/// What vouches for a chain.
#[derive(Debug, clap::Args)]
pub(super) struct TrustFiles {
    /// The root to trust: a file with AMD's ASK and ARK for the processor, or those of a model
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The chip's certificate as signed by AMD; platforms export it unsigned
    #[arg(long, value_name = "FILE")]
    cek: Option<PathBuf>,
    /// The owner's certificate that must have signed the PEK
    #[arg(long, value_name = "FILE")]
    oca: Option<PathBuf>,
    /// Accept the root that a MODEL platform brings along
    #[arg(long)]
    allow_model_root: bool,
}

impl TrustFiles {
    /// Checks a chain, with the further certificates put into it.
    pub(super) fn verify(&self, file: &Path, chain: &mut Chain) -> anyhow::Result<Verification> {
        let cek = self.one(self.cek.as_ref(), "CEK", |given| given.cek)?;
        if let (Some(new), Some(old)) = (&cek, &chain.cek)
            && new.signed_bytes() != old.signed_bytes()
        {
            anyhow::bail!(
                "the CEK of --cek is that of another chip than the CEK in {}: fetch the one for this platform's id",
                name(file)
            );
        }
        chain.cek = cek.or(chain.cek.take());
        chain.oca = self.one(self.oca.as_ref(), "OCA", |given| given.oca)?.or(chain.oca.take());
        let ca = self.ca.as_ref().map(|file| certificates(file).map(|ca| (name(file), ca))).transpose()?;
        if let Some((file, Chain { ark: None, .. })) = &ca {
            anyhow::bail!("{file} holds no ARK, so there is no root in it; give ASK and ARK in one file");
        }
        let trust = Trust {
            ca: ca.as_ref().map(|(file, ca)| (file.as_str(), ca)),
            allow_model_root: self.allow_model_root,
        };
        let verification = verify(chain, trust);
        if verification.model && verification.refusal().is_none() {
            super::notice(
                "warning: MODEL, NOT AMD: this chain ends at the root of a modelled machine; whoever has that machine's \
                 folder can read the guest",
            );
        }
        Ok(verification)
    }

    /// As [`Self::verify`] for work that is also done without a root: a contradiction stops it, a gap is told.
    pub(super) fn verify_as_far_as_possible(&self, file: &Path, chain: &mut Chain) -> anyhow::Result<()> {
        let only_pdh = chain.pek.is_none() && chain.cek.is_none() && self.ca.is_none();
        let verification = self.verify(file, chain)?;
        let wrong = match verification.root {
            // Who names a root wants all of it checked.
            Root::Given(_) | Root::AllowedModel => verification.refusal(),
            Root::Unknown | Root::None => verification.contradiction(),
        };
        if let Some(reason) = wrong {
            anyhow::bail!("{} is not to be trusted: {reason}", name(file));
        }
        if only_pdh {
            super::notice(&format!(
                "warning: {} is a PDH without its chain, so nothing says whose platform it is; give the chain and the \
                 root with --ca",
                name(file)
            ));
        } else if let Some(reason) = verification.refusal() {
            super::notice(&format!("warning: {} is not verified up to a root: {reason}", name(file)));
        }
        Ok(())
    }

    fn one(
        &self,
        file: Option<&PathBuf>,
        what: &str,
        pick: impl Fn(Chain) -> Option<Certificate>,
    ) -> anyhow::Result<Option<Certificate>> {
        let Some(file) = file else { return Ok(None) };
        let found = pick(certificates(file)?);
        anyhow::ensure!(found.is_some(), "{} holds no {what}", name(file));
        Ok(found)
    }
}

/// What an AMD certificate is called.
pub(super) fn amd_name(certificate: &AmdCertificate) -> &'static str {
    certificate.usage().name().unwrap_or("AMD certificate")
}

/// Larger than any certificate, key or blob.
pub(super) const LIMIT: u64 = 1 << 20;
