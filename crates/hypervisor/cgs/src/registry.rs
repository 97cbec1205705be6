//! Which mechanisms there are, for which targets. A new one is a module and a line here.
//!
//! Types of other targets are listed too, so that they are refused as QEMU refuses them.

use cloister_options::{Catalogue, CommandLine, ObjectSpec, ObjectType, Target};

use crate::error::CgsError;
use crate::guest::{ConfidentialGuest, MachineFacts};
use crate::{elsewhere, s390_pv, sev};

/// A mechanism as the registry knows it.
#[derive(Clone, Copy, Debug)]
pub struct Mechanism {
    /// Its object type.
    pub object: &'static ObjectType,
    /// Make it for a guest whose user asked for it; without one, no target of this version has it.
    pub(crate) make: Option<Make>,
    /// Make it for a guest that can protect itself unasked on such a machine.
    pub(crate) make_implicit: Option<MakeImplicit>,
}

pub(crate) type Make = fn(&ObjectSpec) -> Box<dyn ConfidentialGuest>;
pub(crate) type MakeImplicit = fn(&MachineFacts) -> Option<Box<dyn ConfidentialGuest>>;

const REGISTRY: &[Mechanism] = &[
    s390_pv::MECHANISM,
    elsewhere::PEF_GUEST,
    sev::MECHANISM,
    elsewhere::SEV_SNP_GUEST,
    elsewhere::TDX_GUEST,
];

/// The mechanisms of a target.
pub fn mechanisms(target: Target) -> impl Iterator<Item = &'static Mechanism> {
    REGISTRY.iter().filter(move |mechanism| mechanism.object.is_for(target))
}

/// Whether an object type is a mechanism, of whatever target.
pub fn is_mechanism(qom_type: &str) -> bool {
    REGISTRY.iter().any(|mechanism| mechanism.object.name == qom_type)
}

/// Everything that a command line for this target can name, mechanisms included.
pub fn catalogue(target: Target) -> Catalogue {
    let mut catalogue = Catalogue::new(target);
    catalogue.add_objects(REGISTRY.iter().map(|mechanism| mechanism.object.clone()));
    if target == Target::X86_64 {
        catalogue.add_accelerator("kvm");
    }
    catalogue
}

/// The mechanism that `confidential-guest-support=` (or `memory-encryption=`) names.
pub fn resolve(line: &CommandLine) -> Result<Option<Box<dyn ConfidentialGuest>>, CgsError> {
    let Some(reference) = &line.machine.confidential_guest else {
        return Ok(None);
    };
    let object = line.object(&reference.id).ok_or_else(|| {
        let id = reference.id.clone();
        match reference.legacy {
            true => CgsError::LegacyObjectNotFound(id),
            false => CgsError::ObjectNotFound(id),
        }
    })?;
    let mechanism = REGISTRY
        .iter()
        .find(|mechanism| mechanism.object.name == object.qom_type)
        .ok_or(CgsError::WrongObject)?;
    match mechanism.make {
        Some(make) if mechanism.object.is_for(line.target) => Ok(Some(make(object))),
        _ => Err(CgsError::OtherTarget(object.qom_type.clone())),
    }
}

/// As [`resolve`]; without a reference, the mechanism that a guest on this machine can use unasked.
pub fn resolve_or_implicit(
    line: &CommandLine,
    machine: &MachineFacts,
) -> Result<Option<Box<dyn ConfidentialGuest>>, CgsError> {
    if let Some(guest) = resolve(line)? {
        return Ok(Some(guest));
    }
    Ok(mechanisms(line.target).filter_map(|mechanism| mechanism.make_implicit).find_map(|make| make(machine)))
}
