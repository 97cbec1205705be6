//! The commands, one module for each family.

pub(crate) mod block;
pub(crate) mod catalogue;
pub(crate) mod cpu_model;
pub(crate) mod devices;
pub(crate) mod fds;
pub(crate) mod human;
pub(crate) mod machine;
pub(crate) mod memory;
pub(crate) mod migration;
pub(crate) mod objects;
pub(crate) mod qom;
pub(crate) mod run;
pub(crate) mod session;
pub(crate) mod sev;
