//! The platform folder: what a modelled machine keeps while its guests come and go.
//!
//! A platform is a folder with the switches of the machine (`platform.toml`), its identity (host
//! keys, host-key documents, certificate chain, revocation lists) and a lock: machines that run share it, a change of
//! the identity has it alone. [`Platform::open`] takes one of an IBM Z machine into use and [`SevPlatform::open`] one of an
//! AMD machine, [`create_s390x`] and [`create_sev`] make new ones, [`show`] and [`show_sev`] describe one for a
//! person, [`locate`] finds it.
//!
//! It is *not* a vendor's identity: every certificate made here says MODEL in its subject and
//! `CLOISTER-MODEL` in its key identifier, and the certificate authority's keys are thrown away
//! once the chain stands. It does not verify certificates either; that is the owner's work.
#![forbid(unsafe_code)]

mod certificates;
mod config;
mod error;
mod files;
mod locate;
mod lock;
mod platform;
mod s390x;
mod sev;

pub use config::{PlatformConfig, Sev, Target, Ultravisor};
pub use error::PlatformError;
pub use locate::{Environment, Located, Source, locate};
pub use platform::Platform;
pub use s390x::{
    CertificateSummary, CreateOptions, HostKey, MODEL_NOTICE, S390xMaterial, Summary, create_s390x, show,
};
pub use sev::{
    SevCertificateFile, SevChange, SevCreateOptions, SevPlatform, SevSummary, create_sev, show_sev,
};
