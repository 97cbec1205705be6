//! Putting a machine in front of a platform: doors, host kernel, silicon.

use crate::{accel, inject};
use cloister_control::{ControlError, SevControl, SevPlatformInfo};
use cloister_crypto::{Entropy, SeededEntropy, SystemEntropy};
use cloister_host_kernel::HostKernel;
use cloister_machines::q35::{self, Q35};
use cloister_machines::s390_ccw::S390Ccw;
use cloister_machines::{MachineError, NoneMachine, Outlets, Run};
use cloister_options::{CommandLine, Target};
use cloister_platform::{Door, Loopback, SevHost};
use cloister_platform_store::{CreateOptions, Environment, Platform, PlatformError, SevPlatform, locate};
use cloister_silicon_s390x::{Silicon, Tiering};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

/// What a machine runs on. It is read before there are threads, so that its keys can be put out of reach of them all.
pub(crate) enum Hardware {
    /// A machine without CPUs needs none.
    None,
    /// A modelled IBM Z machine.
    Z(Box<Platform>),
    /// A modelled AMD machine.
    Amd(SevPlatform),
    /// What is behind KVM.
    Kvm(Arc<dyn Door>),
}

impl Hardware {
    /// The platform of `-platform`, of the environment or of the usual folders; else one that lives as long as this run.
    pub(crate) fn open(line: &CommandLine) -> anyhow::Result<Self> {
        if line.machine.name == "none" {
            return Ok(Self::None);
        }
        match accel::kvm(line)? {
            Some(door) => Ok(Self::Kvm(door)),
            None => Ok(Self::modelled(line)?),
        }
    }

    fn modelled(line: &CommandLine) -> Result<Self, PlatformError> {
        let (option, environment) = (line.platform.as_deref(), Environment::of_this_process());
        match line.target {
            Target::X86_64 => amd_platform(line).map(Self::Amd),
            Target::S390x | Target::Ppc64 => match locate(option, &environment)? {
                Some(located) => Platform::open(&located.folder).map(Box::new).map(Self::Z),
                None => Platform::ephemeral_s390x(
                    &CreateOptions::default(),
                    &mut SystemEntropy,
                    SystemTime::now(),
                )
                .map(Box::new)
                .map(Self::Z),
            },
        }
    }

    /// Its folder, if it has one.
    pub(crate) fn folder(&self) -> Option<&Path> {
        match self {
            Self::None | Self::Kvm(_) => None,
            Self::Z(platform) => platform.folder(),
            Self::Amd(platform) => platform.folder(),
        }
    }
}

/// Whatever machine the command line names.
pub(crate) fn any_machine(
    line: &CommandLine,
    hardware: Hardware,
    outlets: Outlets,
) -> anyhow::Result<Arc<dyn Run>> {
    match hardware {
        Hardware::None => {
            let machine = NoneMachine::new(line, "none: no guest can run on this machine".into(), true);
            Ok(match line.target {
                Target::X86_64 => Arc::new(machine.with_sev(Box::new(AmdPlatform(line.clone())))),
                Target::S390x | Target::Ppc64 => Arc::new(machine),
            })
        }
        Hardware::Kvm(door) => Ok(Arc::new(Q35::with_outlets(line, looped(line, door), outlets)?)),
        Hardware::Z(platform) => Ok(machine(line, *platform, outlets)?),
        Hardware::Amd(platform) => Ok(Arc::new(Q35::with_outlets(line, amd_door(line, platform), outlets)?)),
    }
}

/// The machine of a command line on a platform. With `-accel soft,door=loopback` every message that crosses
/// a door is turned into bytes and back.
pub(crate) fn machine(
    line: &CommandLine,
    platform: Platform,
    outlets: Outlets,
) -> Result<Arc<S390Ccw>, MachineError> {
    let accel = line.accel.first().map(|accel| &accel.properties);
    let jit = accel.and_then(|given| given.bool("jit")) != Some(false);
    let room = accel.and_then(|given| given.number("tb-size")).filter(|size| *size > 0);
    let room = room.map(|mebibytes| usize::try_from(mebibytes << 20).unwrap_or(usize::MAX));
    let tiering = if jit { Tiering::Hot } else { Tiering::Off };
    let silicon = Silicon::new(platform).with_translation(tiering, room);
    if let Some(seed) = line.seed {
        // Not the stream that devices have.
        silicon.set_guest_entropy(Box::new(SeededEntropy::new(&[&seed.to_be_bytes()[..], b"cpu"].concat())));
    }
    let upper = upper_door(line, Arc::new(silicon));
    Ok(Arc::new(S390Ccw::with_outlets(line, upper, outlets)?))
}

fn looped(line: &CommandLine, upper: Arc<dyn Door>) -> Arc<dyn Door> {
    if is_looped(line) { Arc::new(Loopback::new(upper)) } else { upper }
}

fn is_looped(line: &CommandLine) -> bool {
    line.accel.first().is_some_and(|accel| accel.properties.text("door") == Some("loopback"))
}

/// The host kernel in front of some silicon.
fn upper_door(line: &CommandLine, silicon: Arc<dyn cloister_firmware_api::Door>) -> Arc<dyn Door> {
    let lower: Arc<dyn cloister_firmware_api::Door> =
        if is_looped(line) { Arc::new(cloister_firmware_api::Loopback::new(silicon)) } else { silicon };
    looped(line, Arc::new(HostKernel::new(lower)))
}

/// A modelled AMD machine: the one that the user means, else a new one. With `-seed` its random numbers repeat.
fn amd_platform(line: &CommandLine) -> Result<SevPlatform, PlatformError> {
    let environment = Environment::of_this_process();
    SevPlatform::resolve(line.platform.as_deref(), &environment, &mut *entropy(line))
}

fn amd_door(line: &CommandLine, platform: SevPlatform) -> Arc<dyn Door> {
    let silicon = cloister_silicon_x86::Silicon::with_entropy(platform, entropy(line));
    for fault in inject::sev_faults(line).unwrap_or_default() {
        silicon.inject(fault.command.0, fault.nth, fault.status.0);
    }
    upper_door(line, Arc::new(silicon))
}

fn entropy(line: &CommandLine) -> Box<dyn Entropy + Send> {
    match line.seed {
        Some(seed) => Box::new(SeededEntropy::new(&seed.to_be_bytes())),
        None => Box::new(SystemEntropy),
    }
}

/// The platform that a machine of this command line would have. It is taken into use for a question only, so that it is
/// free for changes.
struct AmdPlatform(CommandLine);

impl SevControl for AmdPlatform {
    fn capabilities(&self) -> Result<SevPlatformInfo, ControlError> {
        if let Some(door) = accel::kvm(&self.0).map_err(|why| ControlError::new(why.to_string()))? {
            return q35::SevPlatform(SevHost::new(door)).capabilities();
        }
        let platform = amd_platform(&self.0).map_err(|why| ControlError::new(why.to_string()))?;
        q35::SevPlatform(SevHost::new(amd_door(&self.0, platform))).capabilities()
    }
}
