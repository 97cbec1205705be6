//! What can go wrong for the guest owner.

use std::path::PathBuf;

/// Why an owner's tool refused or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OwnerError {
    /// A host-key document or what vouches for it is not acceptable.
    #[error(transparent)]
    HostKey(#[from] HostKeyError),
    /// An image cannot be made or read.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A file operation failed.
    #[error("cannot {action} {}: {source}{}", .file.display(), hint(.source))]
    Io {
        /// The verb.
        action: &'static str,
        /// The file.
        file: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A file is larger than anything of its kind can be.
    #[error("{} is larger than {limit} bytes, which no {what} is; check the file name", .file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// What it should be.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
}

/// Why a host-key document is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostKeyError {
    /// Not an X.509 object.
    #[error("{file} is not an X.509 {what} in PEM or DER form: {reason}")]
    NotX509 {
        /// The file.
        file: String,
        /// What was expected.
        what: &'static str,
        /// The decoder's reason.
        reason: String,
    },
    /// A host-key document file holds several certificates.
    #[error(
        "{file} holds {count} certificates; a host-key document is exactly one (give the others with -C)"
    )]
    NotOneCertificate {
        /// The file.
        file: String,
        /// How many it holds.
        count: usize,
    },
    /// The certificate's key is not a host key.
    #[error(
        "the public key of {file} is not on the curve P-521, so it is no host-key document; request the document of the machine from IBM, or give `host.crt` of a model platform"
    )]
    WrongKey {
        /// The file.
        file: String,
    },
    /// No signing certificate among the `-C` files.
    #[error(
        "none of the -C certificates is one that signs host-key documents (C=US, ST=New York, L=Poughkeepsie or Armonk, O and CN International Business Machines Corporation, OU ending in Key Signing Service); subjects given: {subjects}"
    )]
    NoSigningCertificate {
        /// What was given.
        subjects: String,
    },
    /// Several signing certificates among the `-C` files.
    #[error("several of the -C certificates sign host-key documents ({files}); give exactly one")]
    SeveralSigningCertificates {
        /// The files.
        files: String,
    },
    /// A certificate of the chain is missing.
    #[error("the issuer of {file} ({issuer}) is not among {looked_in}")]
    NoIssuer {
        /// The certificate whose issuer is missing.
        file: String,
        /// The issuer's subject.
        issuer: String,
        /// Where it was searched and what to do.
        looked_in: &'static str,
    },
    /// The chain is longer than the scheme allows.
    #[error(
        "the chain of the signing certificate has more than two intermediate certificates; give only those between it and the root with -C"
    )]
    ChainTooLong,
    /// Not yet valid.
    #[error("the {what} {file} is not valid before {from}; check this machine's clock")]
    NotYetValid {
        /// The file.
        file: String,
        /// What it is.
        what: &'static str,
        /// Start of the validity.
        from: String,
    },
    /// No longer valid.
    #[error("the {what} {file} expired on {to}; fetch the current one")]
    Expired {
        /// The file.
        file: String,
        /// What it is.
        what: &'static str,
        /// End of the validity.
        to: String,
    },
    /// The signature is not the issuer's.
    #[error(
        "the signature of the {what} {file} was not made with the key of {issuer}; the file is altered or belongs to another issuer: do not use it"
    )]
    BadSignature {
        /// The file.
        file: String,
        /// What it is.
        what: &'static str,
        /// The issuer's file.
        issuer: String,
    },
    /// A signature algorithm that this program does not check.
    #[error(
        "{file} is signed with {algorithm}, or its issuer's key is of another kind; RSA (PKCS #1 v1.5) and ECDSA on P-384 and P-521 with SHA-256, SHA-384 or SHA-512 are checked"
    )]
    UnsupportedSignature {
        /// The file.
        file: String,
        /// The algorithm.
        algorithm: String,
    },
    /// The authority key identifier names another issuer.
    #[error(
        "the authority key identifier of {file} does not name the key of {issuer}; give the certificate that issued it"
    )]
    AuthorityMismatch {
        /// The file.
        file: String,
        /// The issuer's file.
        issuer: String,
    },
    /// A certificate may not do what the chain needs.
    #[error("the certificate {file} cannot stand in the chain: {reason}")]
    NotAllowed {
        /// The file.
        file: String,
        /// What forbids it.
        reason: &'static str,
    },
    /// A key of too little strength.
    #[error(
        "the public key of {file} has {bits} bits of security (0: a kind that is not checked); at least 112 are needed"
    )]
    WeakKey {
        /// The file.
        file: String,
        /// Its strength.
        bits: u32,
    },
    /// A critical extension that this program does not know.
    #[error("{file} has a critical extension {oid} that this program does not know, so it must be refused")]
    UnknownCritical {
        /// The file.
        file: String,
        /// The extension.
        oid: String,
    },
    /// No revocation list of an issuer.
    #[error(
        "no revocation list of {issuer} was given, which is needed for {file}; fetch it (the certificate's CRL distribution point names the address) and give it with --crl; lists given: {given}"
    )]
    NoCrl {
        /// The issuer whose list is missing.
        issuer: String,
        /// The certificate that it would speak about.
        file: String,
        /// The lists that were given.
        given: String,
    },
    /// Revoked.
    #[error(
        "{file} (serial number {serial}) is revoked by {crl}; its key must not be used: get the machine's current host-key document"
    )]
    Revoked {
        /// The file.
        file: String,
        /// Its serial number.
        serial: String,
        /// The list.
        crl: String,
    },
    /// No bundle of trusted roots.
    #[error(
        "this system has no bundle of trusted root certificates in a known place; name the root with --root-ca"
    )]
    NoSystemStore,
}

/// Why an image cannot be made or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// Placeholder.
    #[error("{0}")]
    Other(String),
}

fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            "; nothing half-written remains: make room and try again"
        }
        std::io::ErrorKind::PermissionDenied => "; check the owner and mode of the file and its folder",
        _ => "",
    }
}
