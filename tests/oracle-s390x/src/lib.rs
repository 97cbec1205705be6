//! The z/Architecture core against packaged QEMU.
