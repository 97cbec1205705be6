//! How character devices behave towards their users and their peers.

#[path = "../common/mod.rs"]
mod common;
mod sessions;
mod streams;
