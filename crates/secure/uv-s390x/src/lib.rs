//! A model of the IBM Z Ultravisor: the firmware that owns protected guests' memory and CPUs.
//!
//! It takes the real control blocks of the Ultravisor call, checks them in a fixed order, answers with
//! return codes and words for people, and keeps for each configuration the table of its pages, its CPUs'
//! states and the digests of its image. Which call fits which state stands as data in [`MACHINE_TABLE`] and
//! [`CONFIGURATION_TABLE`]. Layouts and codes are those that Linux, QEMU and s390-tools use.
//!
//! It executes no guest instruction and holds no guest memory: bytes are converted by a [`SecureStorage`],
//! and register changes are told to the core as an [`Effect`]. Attestation, secrets and dumps are not
//! implemented and are reported as not installed.
//!
//! # Filling a translation
//!
//! A core asks [`GuestPages::resolve`] what a page is, fills its translation from storage, and asks again
//! *after* it is entered as a holder of the page. Only if both answers agree may it use the translation: a
//! conversion takes the page away here first, and flushes its holders afterwards.
#![forbid(unsafe_code)]

mod configuration;
mod export;
mod guest_call;
mod host_call;
mod identity;
mod image;
mod pages;
mod refusal;
mod storage;
mod table;
mod ultravisor;

pub use configuration::{CpuResetKind, CpuRunState};
pub use guest_call::{GuestCallOutcome, GuestEffect};
pub use host_call::{Effect, HostCallOutcome};
pub use identity::Identity;
pub use pages::{GuestPages, PageCounts, PageKind, Resolved};
pub use refusal::Refusal;
pub use storage::{PageBytes, SecureStorage, StorageAccess, StorageError, StorageResolver};
pub use table::{Action, CONFIGURATION_TABLE, ConfigurationState, MACHINE_TABLE, MachineState, Verdict};
pub use ultravisor::{Cc, Ultravisor, UvConfig};
