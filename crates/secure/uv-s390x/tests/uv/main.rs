//! The Ultravisor under test: images, pages, states. One program, so that the machine around the Ultravisor
//! is built once.
#![expect(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

mod attestation;
mod common;
mod dump;
mod image;
mod owner;
mod pages;
mod secrets;
mod states;
