//! Formats of s390x and of IBM Secure Execution for Linux. Everything is big-endian.
//!
//! The layouts are those that Linux (arch/s390), QEMU and s390-tools read and write; z/Architecture
//! terms are as in the Principles of Operation, SA22-7832.

pub mod arcb;
pub mod asrcb;
pub mod attestation;
pub mod boot_map;
pub mod dump;
pub mod exchange;
pub mod firmware;
pub mod host_key;
pub mod ipl_block;
pub mod se_header;
pub mod se_image;
pub mod secret_list;
pub mod uv_rc;
pub mod uvcb;

/// Size of a page, the unit of protection.
pub const PAGE_SIZE: usize = 4096;
