//! A SEV guest from the owner's session to its secret, through the whole program: over QMP, and over libvirt.
//!
//! What is measured is computed a second time by the owner's library, which shares nothing with the firmware model but
//! byte layouts. Guests do not run: no core of this version executes x86-64 code.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod clients;
mod guest;
mod launch;
mod libvirt;
mod start;
