//! The QMP server against a fake machine: the protocol's rules, libvirt's recorded traffic, QEMU's own answers.

mod common;
mod differential;
mod hostile;
mod libvirt;
mod memory;
mod rules;
