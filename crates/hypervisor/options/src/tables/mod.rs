//! The tables of what exists: machines, CPU models, objects, devices.

pub(crate) mod cpus;
pub(crate) mod devices;
pub(crate) mod machines;
pub(crate) mod objects;
