//! AMD SEV in the host: the secure processor's driver, and KVM's part in a guest.

mod asid;
mod driver;
mod guest;
mod mailbox;

pub(crate) use asid::Asids;
pub(crate) use driver::{Driver, result};
pub(crate) use guest::SevGuest;
pub(crate) use mailbox::Trouble;
