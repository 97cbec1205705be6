//! Ports of virtio-serial devices: consoles and channels, plugged into their controllers and connected with character
//! devices.

use super::device::{Handle, Host};
use super::plug::Attached;
use crate::MachineError;
use crate::objects::property;
use crate::outlets::{ConnectError, PortInput};
use cloister_control::{DeviceInfo, Event, Events, Property};
use cloister_devices::virtio::console::{PortOptions, PortPeer};
use cloister_options::DeviceSpec;
use serde_json::json;
use std::sync::Arc;

/// `nr=` when it is not given.
const ANY_NUMBER: u64 = u32::MAX as u64;

/// A port and what monitors want to know of it.
#[derive(Clone, Debug)]
pub(super) struct Port {
    pub(super) spec: DeviceSpec,
    pub(super) number: u32,
    pub(super) info: DeviceInfo,
}

/// Adds a port to its controller, one of `attached`.
pub(super) fn add(spec: &DeviceSpec, attached: &mut [Attached], host: &Host) -> Result<(), MachineError> {
    let fail = |problem: String| MachineError::Device { location: spec.location.to_string(), problem };
    let controllers: Vec<DeviceSpec> = attached.iter().map(|device| device.spec.clone()).collect();
    let (index, bus) = spec.controller(&controllers).map_err(|problem| fail(problem.to_string()))?;
    let Some(Attached { handle: Handle::Ports(ports), ports: siblings, .. }) = attached.get_mut(index) else {
        return Err(fail(format!("Bus '{bus}' not found")));
    };
    let console = spec.driver == "virtconsole";
    let given = &spec.properties;
    let wanted = given.number("nr").filter(|number| *number != ANY_NUMBER);
    let options = PortOptions {
        number: wanted.map(|number| u32::try_from(number).unwrap_or(u32::MAX)),
        console,
        name: given.text("name").map(str::to_owned),
    };
    let number = ports.add(options).map_err(|why| fail(why.to_string()))?;
    let heard = match (given.text("chardev"), &host.ports) {
        (Some(id), Some(connector)) => {
            let input = PortInput { ports: ports.clone(), number };
            let connected = connector.connect(id, input, console).map_err(|why| {
                ports.remove(number);
                let property = format!("Property '{}.chardev'", spec.driver);
                fail(match why {
                    ConnectError::NotFound => format!("{property} can't find value '{id}'"),
                    ConnectError::InUse => {
                        format!("{property} can't take value '{id}': Device '{id}' is in use")
                    }
                })
            })?;
            Some(connected)
        }
        _ => None,
    };
    let is_heard = heard.is_some();
    let peer = Told { heard, id: spec.id.clone(), events: host.events.clone() };
    ports.connect(number, Arc::new(peer), is_heard);
    let qom_path = match &spec.id {
        Some(id) => format!("/machine/peripheral/{id}"),
        None => format!("/machine/peripheral-anon/{bus}-port{number}"),
    };
    let mut properties: Vec<Property> =
        given.iter().map(property).filter(|known| known.name != "nr").collect();
    properties.push(Property { name: "nr".into(), kind: "uint32".into(), value: json!(number) });
    let info = DeviceInfo {
        id: spec.id.clone(),
        driver: spec.driver.clone(),
        qom_path,
        address: None,
        bus: Some(bus),
        properties,
        buses: Vec::new(),
    };
    siblings.push(Port { spec: spec.clone(), number, info });
    Ok(())
}

/// Takes the port away that has this name.
pub(super) fn remove(named: impl Fn(&DeviceInfo) -> bool, attached: &mut [Attached]) -> Option<DeviceInfo> {
    attached.iter_mut().find_map(|device| {
        let at = device.ports.iter().position(|port| named(&port.info))?;
        let port = device.ports.remove(at);
        if let Handle::Ports(ports) = &device.handle {
            ports.remove(port.number);
        }
        Some(port.info)
    })
}

/// Tells monitors what the guest does with a port, and passes everything on.
struct Told {
    heard: Option<Arc<dyn PortPeer>>,
    id: Option<String>,
    events: Events,
}

impl PortPeer for Told {
    fn write(&self, bytes: &[u8]) -> usize {
        self.heard.as_ref().map_or(bytes.len(), |heard| heard.write(bytes))
    }

    fn resume(&self) {
        if let Some(heard) = &self.heard {
            heard.resume();
        }
    }

    fn guest_open(&self, open: bool) {
        if let Some(heard) = &self.heard {
            heard.guest_open(open);
        }
        if let Some(id) = &self.id {
            self.events.emit(Event::PortChange { id: id.clone(), open });
        }
    }
}
