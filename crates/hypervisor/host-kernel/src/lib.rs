//! KVM's role over the lower door.
