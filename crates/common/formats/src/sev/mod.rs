//! Formats of AMD SEV and SEV-ES. Every integer is little-endian unless a field says otherwise.
//!
//! The layouts are those of the "Secure Encrypted Virtualization API" (AMD publication 55766) as the published
//! firmware of the secure processor, Linux, QEMU and sevctl read and write them.

mod layout;

pub mod amd_root;
pub mod attestation;
pub mod certificate;
pub mod chain;
pub mod command;
pub mod guid;
pub mod kernel_hashes;
pub mod measurement;
pub mod ovmf;
pub mod packet;
pub mod policy;
pub mod secret_table;
pub mod session;
pub mod states;
pub mod status;
pub mod vmsa;

/// Bytes of a page of guest memory.
pub const PAGE_SIZE: usize = 4096;
