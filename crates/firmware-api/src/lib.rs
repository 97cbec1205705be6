//! The lower door: what silicon and firmware offer to the host kernel, as plain messages.
