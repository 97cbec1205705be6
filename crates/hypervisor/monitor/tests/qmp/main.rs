//! The QMP server against a fake machine: the protocol's rules, libvirt's recorded traffic, QEMU's own answers.

#[cfg(test)]
mod common;
#[cfg(test)]
mod differential;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod libvirt;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod rules;
mod sev;
