//! How character devices behave towards their users and their peers.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

#[path = "../common/mod.rs"]
mod common;
mod sessions;
mod streams;
