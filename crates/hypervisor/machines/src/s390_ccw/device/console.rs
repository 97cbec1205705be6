//! virtio-serial. Its ports are devices of their own: see [`port`](super::super::port).

use super::{Handle, Made, Request};
use crate::MachineError;
use cloister_devices::virtio::console::{Console, MOST_PORTS, Ports};

/// Most ports that QEMU's device could have.
const QEMU_PORTS: u64 = 511;

pub(super) fn make(request: &Request<'_>) -> Result<Made, MachineError> {
    let properties = &request.spec.properties;
    let most = properties.number("max_ports").unwrap_or(u64::from(MOST_PORTS));
    let ports = u32::try_from(most).ok().and_then(Ports::new).ok_or_else(|| {
        request.fail(match most {
            0 => "Maximum number of serial ports not specified".into(),
            more if more > QEMU_PORTS => format!("maximum ports supported: {QEMU_PORTS}"),
            _ => format!(
                "this version of Cloister has at most {MOST_PORTS} ports; give max_ports={MOST_PORTS} or less"
            ),
        })
    })?;
    let waker = Some(ports.waker().clone());
    let device = Console::new(ports.clone(), properties.bool("emergency-write").unwrap_or(true));
    Ok(Made { waker, handle: Handle::Ports(ports), ..request.behind_ccw(Box::new(device)) })
}
