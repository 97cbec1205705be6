//! virtio-net at a backend of the machine's network, and what operators ask of the network.

use super::{Handle, Made, Request};
use crate::MachineError;
use cloister_control::{ControlError, Event, Events, NetdevInfo, Networks, NicInfo};
use cloister_devices::Waker;
use cloister_devices::virtio::net::{Net, NetOptions, NetPort};
use cloister_network::{NetEvent, Network, NetworkError, Port};
use cloister_options::parse_mac;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::s390_ccw::{S390Ccw, plug};

/// The first address of a device without `mac=`, as QEMU counts them.
const FIRST_MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];

/// The last bytes of the addresses that devices without `mac=` have.
pub(in crate::s390_ccw) type Macs = Arc<Mutex<BTreeSet<u8>>>;

/// What monitors want to know of a network device.
#[derive(Clone, Debug)]
pub(in crate::s390_ccw) struct Nic {
    mac: [u8; 6],
    netdev: Option<String>,
    switch: Switch,
}

/// The cable of a device whose backend may be gone.
#[derive(Clone, Debug)]
struct Switch {
    up: Arc<std::sync::atomic::AtomicBool>,
    waker: Waker,
}

pub(super) fn make(request: &Request<'_>) -> Result<Made, MachineError> {
    let properties = &request.spec.properties;
    let waker = Waker::new();
    let netdev = properties.text("netdev").map(str::to_owned);
    let backend = match &netdev {
        None => None,
        Some(id) => {
            let call = waker.clone();
            let attached = request.host.network.attach(id, move || call.wake());
            Some(attached.map_err(|why| {
                request.fail(match why {
                    NetworkError::NotFound(id) => {
                        format!("Property 'virtio-net-device.netdev' can't find value '{id}'")
                    }
                    other => other.to_string(),
                })
            })?)
        }
    };
    let (mac, number) = match properties.text("mac").and_then(parse_mac) {
        Some(mac) if mac[0] & 1 == 1 => {
            return Err(request.fail("mac= is the address of a group; a device has one of its own".into()));
        }
        Some(mac) => (mac, None),
        None => {
            let number = Number::take(&request.host.macs)
                .ok_or_else(|| request.fail("no address is left for a network device; give mac=".into()))?;
            let mut mac = FIRST_MAC;
            mac[5] = number.byte;
            (mac, Some(number))
        }
    };
    let switch = Switch { up: Arc::new(true.into()), waker: waker.clone() };
    let size = properties.number("rx_queue_size").unwrap_or(256);
    let rx_queue_size = u16::try_from(size)
        .ok()
        .filter(|size| (256..=1024).contains(size) && size.is_power_of_two())
        .ok_or_else(|| {
            request
                .fail(format!("Invalid rx_queue_size (= {size}), must be a power of 2 between 256 and 1024."))
        })?;
    if let Some(size) = properties.number("tx_queue_size").filter(|size| *size != 256) {
        return Err(request.fail(format!("Invalid tx_queue_size (= {size}), it is 256")));
    }
    let on = |name| properties.bool(name).unwrap_or(true);
    let options = NetOptions {
        mtu: properties.number("host_mtu").and_then(|mtu| u16::try_from(mtu).ok()).unwrap_or(0),
        rx_queue_size,
        mergeable: on("mrg_rxbuf"),
        status: on("status"),
        control: on("ctrl_vq"),
        ..NetOptions::new(mac)
    };
    let cable = Cable { backend, switch: switch.clone(), _number: number };
    let made = request.behind_ccw(Box::new(Net::new(Box::new(cable), options)));
    Ok(Made { waker: Some(waker), handle: Handle::Net(Nic { mac, netdev, switch }), ..made })
}

/// A device's end of its backend, or of nothing.
struct Cable {
    backend: Option<Port>,
    switch: Switch,
    /// The address is free again when the device is gone.
    _number: Option<Number>,
}

impl NetPort for Cable {
    fn send(&mut self, packet: &[u8]) -> bool {
        match &self.backend {
            Some(port) if self.switch.is_up() => port.send(packet),
            _ => true,
        }
    }

    fn receive(&mut self) -> Option<Vec<u8>> {
        let port = self.backend.as_ref()?;
        loop {
            let packet = port.receive()?;
            if self.switch.is_up() {
                return Some(packet);
            }
        }
    }

    fn set_active(&mut self, active: bool) {
        if let Some(port) = &self.backend {
            port.set_active(active);
        }
    }

    fn call_again(&mut self) {
        self.switch.waker.wake();
    }

    fn is_up(&self) -> bool {
        self.switch.is_up() && self.backend.as_ref().is_none_or(Port::is_up)
    }
}

impl Switch {
    fn is_up(&self) -> bool {
        self.up.load(std::sync::atomic::Ordering::Acquire)
    }

    fn set(&self, up: bool) {
        self.up.store(up, std::sync::atomic::Ordering::Release);
        self.waker.wake();
    }
}

struct Number {
    byte: u8,
    macs: Macs,
}

impl Number {
    fn take(macs: &Macs) -> Option<Self> {
        let mut taken = macs.lock().unwrap_or_else(PoisonError::into_inner);
        let byte = (FIRST_MAC[5]..=0xff).chain(0..FIRST_MAC[5]).find(|byte| !taken.contains(byte))?;
        taken.insert(byte);
        Some(Self { byte, macs: Arc::clone(macs) })
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        self.macs.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.byte);
    }
}

/// Tells events of the network as those of the machine.
pub(in crate::s390_ccw) fn tell(network: &Network, events: &Events) {
    let events = events.clone();
    network.listen(move |event| {
        events.emit(match event {
            NetEvent::Connected { id, address } => Event::NetdevStreamConnected { id, address },
            NetEvent::Disconnected { id } => Event::NetdevStreamDisconnected { id },
        });
    });
}

impl S390Ccw {
    pub(in crate::s390_ccw) fn network_facts(&self) -> Networks {
        let nic = |device: &plug::Attached| match &device.handle {
            Handle::Net(nic) => Some(NicInfo {
                name: name(device),
                model: device.info.driver.clone(),
                mac: nic.mac,
                netdev: nic.netdev.clone(),
            }),
            _ => None,
        };
        let netdev = |info: cloister_network::NetdevInfo| NetdevInfo {
            id: info.id,
            kind: info.kind.to_owned(),
            words: info.words,
        };
        let netdevs = self.host.network.infos().into_iter().map(netdev).collect::<Vec<_>>();
        let mut nics: Vec<NicInfo> = self.attached().iter().filter_map(nic).collect();
        for nic in &mut nics {
            nic.netdev.take_if(|id| !netdevs.iter().any(|netdev| netdev.id == *id));
        }
        Networks { nics, netdevs }
    }

    pub(in crate::s390_ccw) fn link(&self, wanted: &str, up: bool) -> Result<(), ControlError> {
        for device in &*self.attached() {
            if let Handle::Net(nic) = &device.handle
                && name(device) == wanted
            {
                nic.switch.set(up);
                return Ok(());
            }
        }
        self.host.network.set_link(wanted, up).map_err(refusal)
    }
}

/// The device's id, else one made of its type and its place among the machine's devices.
fn name(device: &plug::Attached) -> String {
    device.info.id.clone().unwrap_or_else(|| format!("{}.{}", device.info.driver, device.subchannel.nr))
}

pub(in crate::s390_ccw) fn refusal(why: NetworkError) -> ControlError {
    match why {
        NetworkError::NotFound(id) => ControlError::device_not_found(&id),
        other => ControlError::new(other.to_string()),
    }
}
