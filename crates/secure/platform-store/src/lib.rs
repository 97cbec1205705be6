//! The platform folder: what a modelled machine keeps while its guests come and go.
//!
//! A platform is a folder with the switches of the machine (`platform.toml`), its identity (host
//! keys, host-key documents, certificate chain, revocation lists) and a lock that is held while a
//! machine uses it. [`Platform::open`] takes it into use, [`create_s390x`] makes a new one,
//! [`show`] describes one for a person, [`locate`] finds it.
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
mod platform;
mod s390x;

pub use config::{PlatformConfig, Target, Ultravisor};
pub use error::PlatformError;
pub use locate::{Environment, Located, Source, locate};
pub use platform::Platform;
pub use s390x::{
    CertificateSummary, CreateOptions, HostKey, MODEL_NOTICE, S390xMaterial, Summary, create_s390x, show,
};
