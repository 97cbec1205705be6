//! The z/Architecture core against packaged QEMU: the same image with thousands of small random cases runs under both,
//! and every case's registers, condition code, interruption and storage window are compared.
//!
//! QEMU is a separate process and only a test oracle: nothing of it is linked or shipped. This is not a proof that a
//! kernel boots, and it does not cover instructions that change translation, time or other CPUs.
#![forbid(unsafe_code)]

pub mod campaign;
pub mod compare;
pub mod encode;
pub mod forms;
pub mod generate;
pub mod harness;
pub mod masks;
pub mod qemu;
pub mod rng;
pub mod soft;
pub mod vector;
