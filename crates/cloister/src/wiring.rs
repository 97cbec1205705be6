//! Putting a machine in front of a platform: doors, host kernel, silicon.

use cloister_host_kernel::HostKernel;
use cloister_machines::s390_ccw::S390Ccw;
use cloister_machines::{MachineError, NoneMachine, Outlets, Run};
use cloister_options::CommandLine;
use cloister_platform::{Door, Loopback};
use cloister_platform_store::Platform;
use cloister_silicon_s390x::Silicon;
use std::sync::Arc;

/// Whatever machine the command line names.
pub(crate) fn any_machine(
    line: &CommandLine,
    platform: impl FnOnce() -> anyhow::Result<Platform>,
    outlets: Outlets,
) -> anyhow::Result<Arc<dyn Run>> {
    if line.machine.name == "none" {
        return Ok(Arc::new(NoneMachine::new(line, "none: no guest can run on this machine".into(), true)));
    }
    Ok(machine(line, platform()?, outlets)?)
}

/// The machine of a command line on a platform. With `-accel soft,door=loopback` every message that crosses
/// a door is turned into bytes and back.
pub(crate) fn machine(
    line: &CommandLine,
    platform: Platform,
    outlets: Outlets,
) -> Result<Arc<S390Ccw>, MachineError> {
    let silicon = Arc::new(Silicon::new(platform));
    let loopback = line.accel.first().is_some_and(|accel| accel.properties.text("door") == Some("loopback"));
    let lower: Arc<dyn cloister_firmware_api::Door> =
        if loopback { Arc::new(cloister_firmware_api::Loopback::new(silicon)) } else { silicon };
    let upper: Arc<dyn Door> = Arc::new(HostKernel::new(lower));
    let upper: Arc<dyn Door> = if loopback { Arc::new(Loopback::new(upper)) } else { upper };
    Ok(Arc::new(S390Ccw::with_outlets(line, upper, outlets)?))
}
