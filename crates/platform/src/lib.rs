//! The upper door: KVM's semantics as plain messages.
