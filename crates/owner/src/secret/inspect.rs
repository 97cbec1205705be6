//! What a request says without any key: its kind, whom it is for, and who signed it.

use std::fmt;
use std::path::Path;

use cloister_formats::s390x::asrcb::{Asrcb, FLAG_DISABLE_DUMP};
use cloister_formats::s390x::se_header::SeHeader;

use super::SecretError;
use super::user_data::{NONE, UNSIGNED, clear_signature, kind_name, split};
use crate::attest::yaml::hex;
use crate::host_key::UserCertificate;
use crate::{OwnerError, files};

/// A request that is well formed, with a signature that was verified if a certificate was given.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// Where it comes from.
    pub name: String,
    /// The request.
    pub request: Asrcb,
    /// Its user data.
    pub user_data: SecretUserData,
}

/// User data of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretUserData {
    /// Who signed it, in words; `None` if nobody.
    pub signed_with: Option<&'static str>,
    /// Whether the signature was verified.
    pub verified: bool,
    /// What is for the user, with the zeros behind it; `None` if there is none.
    pub data: Option<Vec<u8>>,
}

/// Inspects a request file; with the file of a certificate, verifies the user's signature.
pub fn inspect_file(file: &Path, certificate: Option<&Path>) -> Result<Inspection, OwnerError> {
    let bytes = files::read_limited(file, 0x10_0000, "add-secret request")?;
    let certificate = certificate.map(UserCertificate::load).transpose()?;
    inspect(&file.display().to_string(), &bytes, certificate.as_ref())
}

/// Inspects a request in memory.
pub fn inspect(
    name: &str,
    bytes: &[u8],
    certificate: Option<&UserCertificate>,
) -> Result<Inspection, OwnerError> {
    let request = Asrcb::parse(bytes).map_err(|error| SecretError::format(name, error))?;
    let kind = request.user_data_kind;
    let (data, signature) = split(kind, &request.user_data).ok_or_else(|| {
        SecretError::format(
            name,
            format_args!("its user data are of kind {kind}, or its signature is too long"),
        )
    })?;
    let signed = kind > UNSIGNED;
    if let Some(certificate) = certificate {
        if !signed {
            let reason = "its user data are not signed, so there is nothing to verify with --user-cert";
            return Err(SecretError::format(name, reason).into());
        }
        let mut unsigned = request.clone();
        clear_signature(kind, &mut unsigned.user_data);
        let message = [unsigned.aad(), unsigned.encrypted_area].concat();
        let certificate_name = certificate.name().to_owned();
        match certificate.verify_user_signature(kind, &message, signature) {
            Some(true) => {}
            Some(false) => {
                return Err(
                    SecretError::Signature { name: name.into(), certificate: certificate_name }.into()
                );
            }
            None => {
                let kind = kind_name(kind);
                return Err(SecretError::SignatureKind {
                    name: name.into(),
                    kind,
                    certificate: certificate_name,
                }
                .into());
            }
        }
    }
    let user_data = SecretUserData {
        signed_with: signed.then(|| kind_name(kind)),
        verified: certificate.is_some(),
        data: (kind != NONE).then(|| data.to_vec()),
    };
    Ok(Inspection { name: name.into(), request, user_data })
}

impl Inspection {
    /// Whether the request is for the image with this header: the machine accepts it for no other.
    pub fn is_for(&self, header: &SeHeader) -> bool {
        let request = &self.request;
        (request.pld, request.ald, request.tld, request.se_tag)
            == (header.pld, header.ald, header.tld, header.tag)
    }

    /// The configuration that it is bound to.
    pub fn config_uid(&self) -> Option<[u8; 16]> {
        Some(self.request.config_uid).filter(|uid| *uid != [0; 16])
    }

    /// Whether it forbids dumps.
    pub fn disables_dump(&self) -> bool {
        self.request.flags & FLAG_DISABLE_DUMP != 0
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let request = &self.request;
        writeln!(f, "{}: add-secret request version 0x100 of {} bytes", self.name, request.encode().len())?;
        writeln!(
            f,
            "  secret              {} ({:#x}), {} bytes",
            request.secret.kind.name(),
            request.secret.kind.0,
            request.secret.len
        )?;
        if request.secret.id != [0; 32] {
            write!(f, "  identifier          {}", hex(&request.secret.id))?;
            match name_in(&request.secret.id) {
                Some(name) => writeln!(f, " ({name:?})")?,
                None => writeln!(f)?,
            }
        }
        for slot in &request.slots {
            writeln!(f, "  host key hash       {}", slot.phkh)?;
        }
        writeln!(f, "  for the image       tag {}", hex(&request.se_tag))?;
        writeln!(f, "    page list digest    {}", hex(&request.pld))?;
        writeln!(f, "    address list digest {}", hex(&request.ald))?;
        writeln!(f, "    tweak list digest   {}", hex(&request.tld))?;
        match self.config_uid() {
            Some(uid) => writeln!(f, "  for the guest       {} only", hex(&uid))?,
            None => writeln!(f, "  for the guest       any that runs this image")?,
        }
        writeln!(
            f,
            "  flags               {:#018x}{}",
            request.flags,
            if self.disables_dump() { " (dump disabled)" } else { "" }
        )?;
        match (&self.user_data.data, self.user_data.signed_with) {
            (None, _) => writeln!(f, "  user data           none")?,
            (Some(_), None) => writeln!(f, "  user data           not signed")?,
            (Some(_), Some(key)) if self.user_data.verified => {
                writeln!(f, "  user data           signed with {key}; the signature is good")?;
            }
            (Some(_), Some(key)) => {
                writeln!(f, "  user data           signed with {key}; not verified (--user-cert)")?;
            }
        }
        write!(f, "  tag                 {}", hex(&request.tag))
    }
}

/// The name, if the identifier is one as it is.
fn name_in(id: &[u8; 32]) -> Option<&str> {
    let end = id.iter().rposition(|&byte| byte != 0)? + 1;
    let text = std::str::from_utf8(&id[..end]).ok()?;
    text.chars().all(|c| !c.is_control()).then_some(text)
}
