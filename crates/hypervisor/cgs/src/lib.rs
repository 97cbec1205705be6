//! Confidential guest support: one trait for everything that a mechanism does to a machine, one module per
//! mechanism, and one registry that says which target has which mechanism and generates the help of `-object`.
//!
//! No mechanism is carried out here. The firmware below the platform's door protects the guest; this crate decides
//! whether the machine is fit for it, what else must change, and what the user is told.
#![forbid(unsafe_code)]

mod base64;
mod elsewhere;
mod error;
mod guest;
mod launch;
mod registry;
pub mod s390_pv;
pub mod sev;
mod sev_error;

pub use base64::{decode_base64, encode_base64};
pub use error::CgsError;
pub use guest::{
    BootImage, ConfidentialGuest, DeviceFacts, Effects, HostFacts, MachineFacts, PlatformStep, ResetKind,
    Transition, VirtioDefault,
};
pub use launch::{FirmwareImage, HostLaunch, KernelImage, LaunchHost, LaunchInfo, LaunchPort, LaunchState};
pub use registry::{Mechanism, catalogue, is_mechanism, mechanisms, resolve, resolve_or_implicit};
pub use sev_error::SevFault;
