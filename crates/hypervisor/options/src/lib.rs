//! QEMU's command-line grammar; parser and help from one description.
