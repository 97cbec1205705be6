//! Makes the devices of the channel subsystem, one module for each kind. Attaching them is [`plug`](super::plug)'s part.

mod balloon;
mod blk;
mod console;
mod net;
mod rng;

pub(super) use balloon::kept;
pub(super) use net::{Macs, refusal as network_refusal, tell as tell_network};

use super::worker::Jobs;
use crate::MachineError;
use crate::blocks::{Blocks, Disk};
use crate::outlets::PortConnector;
use cloister_control::Events;
use cloister_devices::Waker;
use cloister_devices::virtio::VirtioDevice;
use cloister_devices::virtio::balloon::BalloonControl;
use cloister_devices::virtio::ccw::{VirtioCcw, VirtioCcwOptions};
use cloister_devices::virtio::console::Ports;
use cloister_network::Network;
use cloister_options::{DeviceSpec, Drive, OnOffAuto, Properties};
use cloister_platform::HostMemory;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What every device made for one machine shares.
#[derive(Clone, Copy, Debug)]
pub(super) struct Defaults {
    pub(super) iommu_platform: bool,
    pub(super) seed: Option<u64>,
}

/// What devices know of the machine around them.
#[derive(Clone)]
pub(super) struct Host {
    pub(super) memory: HostMemory,
    pub(super) events: Events,
    /// Whether the guest is protected now.
    pub(super) protected: Arc<AtomicBool>,
    pub(super) ports: Option<Arc<dyn PortConnector>>,
    pub(super) network: Arc<Network>,
    pub(super) macs: Macs,
    pub(super) blocks: Blocks,
    /// Where devices leave what only the machine can do.
    pub(super) jobs: Jobs,
    /// The run can be repeated: nothing may depend on the speed of a thread.
    pub(super) repeatable: bool,
}

/// By what others than the guest reach a device.
#[derive(Clone, Debug, Default)]
pub(super) enum Handle {
    #[default]
    None,
    Balloon(BalloonControl),
    Net(net::Nic),
    Ports(Ports),
}

/// A device that is asked for.
pub(super) struct Request<'a> {
    pub(super) spec: &'a DeviceSpec,
    /// The drive of a disk that only `-drive if=virtio` names.
    pub(super) implicit: Option<&'a Drive>,
    pub(super) drives: &'a [Drive],
    pub(super) defaults: Defaults,
    pub(super) host: &'a Host,
}

/// A device that was made.
pub(super) struct Made {
    pub(super) device: VirtioCcw<HostMemory>,
    pub(super) block: Option<Disk>,
    /// By which the device asks to be called.
    pub(super) waker: Option<Waker>,
    pub(super) handle: Handle,
}

impl Request<'_> {
    fn fail(&self, problem: String) -> MachineError {
        MachineError::Device { location: self.spec.location.to_string(), problem }
    }

    /// Puts a device without waker and image behind the transport, with the options of the command line.
    fn behind_ccw(&self, device: Box<dyn VirtioDevice<HostMemory>>) -> Made {
        let options = VirtioCcwOptions {
            iommu_platform: iommu_platform(&self.spec.properties, self.defaults.iommu_platform),
            ..VirtioCcwOptions::default()
        };
        Made { device: VirtioCcw::new(device, options), block: None, waker: None, handle: Handle::None }
    }
}

/// Makes a device.
pub(super) fn make(request: &Request<'_>) -> Result<Made, MachineError> {
    match request.spec.driver.as_str() {
        "virtio-balloon-ccw" => balloon::make(request),
        "virtio-blk-ccw" => blk::make(request),
        "virtio-net-ccw" => net::make(request),
        "virtio-rng-ccw" => Ok(rng::make(request)),
        "virtio-serial-ccw" => console::make(request),
        other => Err(request.fail(format!("'{other}' is not a device of this version of Cloister"))),
    }
}

pub(super) fn iommu_platform(properties: &Properties, default: bool) -> bool {
    match properties.on_off_auto("iommu_platform") {
        Some(OnOffAuto::On) => true,
        Some(OnOffAuto::Off) => false,
        Some(OnOffAuto::Auto) | None => properties.bool("iommu_platform").unwrap_or(default),
    }
}
