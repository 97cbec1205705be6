//! The upper door on a real kernel: KVM's capabilities for confidential guests.
#![forbid(unsafe_code)]
