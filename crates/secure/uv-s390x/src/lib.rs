//! A model of the IBM Z Ultravisor: the firmware that owns protected guests' memory and CPUs.
//!
//! It takes the real control blocks of the Ultravisor call, checks them in a fixed order, answers with
//! return codes and words for people, and keeps for each configuration the table of its pages, its CPUs'
//! states and the digests of its image. Which call fits which state stands as data in [`MACHINE_TABLE`] and
//! [`CONFIGURATION_TABLE`]. Layouts and codes are those that Linux, QEMU and s390-tools use.
//!
//! It executes no guest instruction and holds no guest memory: bytes are converted by a [`SecureStorage`],
//! and register changes are told to the core as an [`Effect`]. What a guest's control block points at it reaches
//! through [`CallerStorage`].
//!
//! # Filling a translation
//!
//! A core asks [`GuestPages::resolve`] what a page is, fills its translation from storage, and asks again
//! *after* it is entered as a holder of the page. Only if both answers agree may it use the translation: a
//! conversion takes the page away here first, and flushes its holders afterwards.
//!
//! # Choices of the model
//!
//! The published sources leave open what real firmware does in these cases:
//!
//! * The order of checks is: command, initialisation, length, handle, state, then the call's own fields.
//! * An SE header that does not authenticate is 10b/1 (key slot) or 10b/2 (header); a wrong magic is 104/1.
//! * Verify compares the number of pages first, then addresses, pages, tweaks.
//! * An import of bytes that are not the last export is 104, and the page is lost for good: a guest never
//!   finds zeros where it had data. The same holds for a page that the host destroyed.
//! * A pin of a page that is not shared is 107; an unknown CPU state is 101.
//! * A dump may begin once the image is verified. Until its end no CPU is started or reset; pages may come and go.
//!   An image without plaintext control flag 34 is 101, a CPU that executes is 102.
//! * An attestation request that does not open is 10c, an add-secret request 108, with the reason in rrc: 1 no
//!   slot for this machine, 2 the requester's key is no point of the curve, 3 the slot does not authenticate, 4 the
//!   request does not. A wrong magic counts as a wrong version. The host key is tried first, then the backup key.
//! * The buffers of an attestation may be longer than needed. They are looked at (104, 105) after their lengths.
//! * The firmware state in an attestation is [`MODEL_FIRMWARE_STATE`].
//! * An add-secret request that opens and adds nothing is 10c, with the reason in rrc: 1 another image, 2 another
//!   configuration, 3 wrong extension secret, 4 used before, 5 name taken, 6 no new CCK allowed. A store has room
//!   for 24 association and 96 retrievable secrets and remembers 1024 requests; beyond that it is full (10b).
//! * The first accepted request fixes the extension secret, also if that is all zeros.
//! * A null secret and a new CCK count in the store's hash and are not listed. A list is 102 if its page is not
//!   accessible.
//! * Keys are retrieved in the form of protected keys, as long as real ones, but wrapped by a key of the model: they
//!   end in [`MODEL_WRAPPING_PATTERN`], and no instruction of the modelled machine takes them. Lists tell the
//!   length that retrieving gives.
//! * A prepared reset clears the store, its lock and its extension secret. A ban on dumps and a new CCK stay, since
//!   the guest's pages do.
//! * A CPU whose call meets another's in the same configuration is told to issue it again (cc 2).
//! * Content survives the end of sharing, and the page is private from then on.
//! * A prepared reset requires that nothing is shared, and every CPU must be reset before it starts again.
//! * The ASCE field of a new configuration is the token of its storage, the MSO field its host absolute
//!   address. Donated storage is checked for its place and not used.
#![forbid(unsafe_code)]

mod attestation;
mod caller;
mod configuration;
mod dump;
mod export;
mod guest_call;
mod host_call;
mod identity;
mod image;
mod pages;
mod refusal;
mod request;
mod secrets;
mod storage;
mod table;
mod ultravisor;

pub use attestation::MODEL_FIRMWARE_STATE;
pub use caller::{AccessFailure, CallerStorage, NoCallerStorage};
pub use configuration::{CpuResetKind, CpuRunState};
pub use guest_call::{GuestCallOutcome, GuestEffect};
pub use host_call::{Effect, HostCallOutcome};
pub use identity::Identity;
pub use pages::{GuestPages, PageCounts, PageKind, Resolved};
pub use refusal::Refusal;
pub use secrets::MODEL_WRAPPING_PATTERN;
pub use storage::{PageBytes, SecureStorage, StorageAccess, StorageError, StorageResolver};
pub use table::{Action, CONFIGURATION_TABLE, ConfigurationState, MACHINE_TABLE, MachineState, Verdict};
pub use ultravisor::{Cc, Ultravisor, UvConfig};
