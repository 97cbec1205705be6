//! The tables of what exists: machines, CPU models, objects, devices.

pub(crate) mod cpus;
pub(crate) mod cpus_x86;
pub(crate) mod devices;
pub(crate) mod machines;
pub(crate) mod objects;

use crate::invocation::Target;

/// Every feature that `-cpu MODEL,NAME=on|off` may name.
pub(crate) fn feature_names(target: Target) -> Box<dyn Iterator<Item = &'static str>> {
    match target {
        Target::S390x => Box::new(cpus::feature_names()),
        Target::X86_64 => Box::new(cpus_x86::x86_feature_names()),
        Target::Ppc64 => Box::new(std::iter::empty()),
    }
}
