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
    /// An attestation request or its answer.
    #[error(transparent)]
    Attest(#[from] crate::attest::AttestError),
    /// An add-secret request.
    #[error(transparent)]
    Secret(#[from] crate::secret::SecretError),
    /// Something about AMD SEV.
    #[error(transparent)]
    Sev(#[from] crate::sev::SevError),
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
        "the public key of {file} is not on the curve P-521, so it is no host-key document; request the \
         document of the machine from IBM, or give `host.crt` of a model platform"
    )]
    WrongKey {
        /// The file.
        file: String,
    },
    /// No signing certificate among the `-C` files.
    #[error(
        "none of the -C certificates is one that signs host-key documents (C=US, ST=New York, \
         L=Poughkeepsie or Armonk, O and CN International Business Machines Corporation, OU ending in Key \
         Signing Service); subjects given: {subjects}"
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
        "the chain of the signing certificate has more than two intermediate certificates; give only those \
         between it and the root with -C"
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
        "the signature of the {what} {file} was not made with the key of {issuer}; the file is altered or \
         belongs to another issuer: do not use it"
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
        "{file} is signed with {algorithm}, or its issuer's key is of another kind; RSA (PKCS #1 v1.5) and \
         ECDSA on P-384 and P-521 with SHA-256, SHA-384 or SHA-512 are checked"
    )]
    UnsupportedSignature {
        /// The file.
        file: String,
        /// The algorithm.
        algorithm: String,
    },
    /// The authority key identifier names another issuer.
    #[error(
        "the authority key identifier of {file} does not name the key of {issuer}; give the certificate \
         that issued it"
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
        "the public key of {file} has {bits} bits of security (0: a kind that is not checked); at least \
         112 are needed"
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
        "no revocation list of {issuer} was given, which is needed for {file}; fetch it (the certificate's \
         CRL distribution point names the address) and give it with --crl; lists given: {given}"
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
        "{file} (serial number {serial}) is revoked by {crl}; its key must not be used: get the machine's \
         current host-key document"
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
        "this system has no bundle of trusted root certificates in a known place; name the root with \
         --root-ca"
    )]
    NoSystemStore,
}

/// Why an image cannot be made or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The options contradict each other.
    #[error("{0}")]
    Options(&'static str),
    /// No host-key document.
    #[error("no host-key document is given, so no machine could run the image; name at least one with -k")]
    NoHostKey,
    /// More host keys than a header can name.
    #[error("{count} host-key documents are given; an image can name at most {limit}")]
    TooManyHostKeys {
        /// How many were given.
        count: usize,
        /// How many fit.
        limit: usize,
    },
    /// The output exists.
    #[error("{} exists; remove it, or say --overwrite", .file.display())]
    OutputExists {
        /// The file.
        file: PathBuf,
    },
    /// The kernel is an ELF file.
    #[error(
        "{file} is an ELF file; an image needs the raw kernel (arch/s390/boot/bzImage, or the \
         distribution's /boot/vmlinuz or image file)"
    )]
    KernelIsElf {
        /// The file.
        file: String,
    },
    /// The kernel is an image already.
    #[error("{file} is a Secure Execution image already; give the kernel that is in it")]
    KernelIsImage {
        /// The file.
        file: String,
    },
    /// The kernel is no s390x Linux kernel.
    #[error(
        "{file} is no raw s390x Linux kernel: \"S390EP\" does not stand at offset 0x10008 \
         (--no-component-check skips this check)"
    )]
    NotAKernel {
        /// The file.
        file: String,
    },
    /// The command line is too long for the kernel.
    #[error("the kernel command line {file} has {size} bytes; this kernel takes at most {limit}: shorten it")]
    CmdlineTooLong {
        /// The file.
        file: String,
        /// Its size.
        size: u64,
        /// The kernel's limit.
        limit: u64,
    },
    /// The command line contains a zero byte.
    #[error(
        "the kernel command line {file} contains a zero byte, where the kernel would stop reading; remove it"
    )]
    CmdlineZero {
        /// The file.
        file: String,
    },
    /// A key file of the wrong size.
    #[error(
        "{} must hold a key of exactly {need} bytes, raw; make one with `head -c {need} /dev/urandom`",
        .file.display()
    )]
    KeySize {
        /// The file.
        file: PathBuf,
        /// The size of the key.
        need: usize,
    },
    /// A loader does not fit.
    #[error(
        "the {what} has {size:#x} bytes with its arguments; it needs some and at most {limit:#x}: this \
         program was built with loaders that do not fit"
    )]
    Stage {
        /// Which loader.
        what: &'static str,
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// A component is larger than any storage.
    #[error("the {what} of {size} bytes makes the image larger than any machine's storage")]
    TooLarge {
        /// The component.
        what: &'static str,
        /// Its size.
        size: u64,
    },
    /// An input changed while it was read.
    #[error(
        "{what} changed its size while the image was made; nothing was written: try again when nobody \
         writes to it"
    )]
    Changed {
        /// The file.
        what: String,
    },
    /// The input is neither an image nor a header.
    #[error("{name} is neither a Secure Execution image nor an SE header: {reason}")]
    NotAnImage {
        /// The file.
        name: String,
        /// What was looked for.
        reason: String,
    },
    /// The sealed area does not open.
    #[error("the header does not open: the key is not the one of this image, or the header was altered")]
    HeaderAuthentication,
    /// A part of an image is malformed.
    #[error("the image is malformed: {0}")]
    Format(String),
    /// Something that should not happen.
    #[error("internal error: {0}; please report it")]
    Internal(&'static str),
}

impl ImageError {
    pub(crate) fn format(error: impl std::fmt::Display) -> Self {
        Self::Format(error.to_string())
    }

    pub(crate) fn crypto(_: cloister_crypto::Error) -> Self {
        Self::Internal("a seal of a few bytes failed")
    }
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
