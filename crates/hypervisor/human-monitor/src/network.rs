//! Network backends, cables, and `info network`, in QEMU's layout.

use crate::arguments::Arguments;
use crate::{Answer, Monitor, Refusal};
use cloister_control::{NetdevInfo, NicInfo};
use cloister_options::parse_netdev_text;

pub(crate) fn netdev_add(monitor: &mut Monitor, arguments: &Arguments) -> Answer {
    let netdev = parse_netdev_text(arguments.text()).map_err(|error| Refusal::error(error.headline()))?;
    monitor.operator.machine.netdev_add(netdev)?;
    Ok(String::new())
}

pub(crate) fn netdev_del(monitor: &mut Monitor, arguments: &Arguments) -> Answer {
    monitor.operator.machine.netdev_del(arguments.text())?;
    Ok(String::new())
}

pub(crate) fn set_link(monitor: &mut Monitor, arguments: &Arguments) -> Answer {
    let (name, state) = arguments.text().rsplit_once(' ').unwrap_or((arguments.text(), ""));
    let up = match state {
        "on" => true,
        "off" => false,
        _ => return Err(Refusal::error("Parameter 'up' expects 'on' or 'off'")),
    };
    monitor.operator.machine.set_link(name.trim(), up)?;
    Ok(String::new())
}

pub(crate) fn info(monitor: &mut Monitor, _: &Arguments) -> Answer {
    let networks = monitor.operator.machine.networks();
    let netdev =
        |netdev: &NetdevInfo| format!("{}: index=0,type={},{}\n", netdev.id, netdev.kind, netdev.words);
    let with_peer = |nic: &NicInfo| {
        let mac = nic.mac.map(|byte| format!("{byte:02x}")).join(":");
        let own = format!("{}: index=0,type=nic,model={},macaddr={mac}\n", nic.name, nic.model);
        let peer = networks.netdevs.iter().find(|netdev| Some(&netdev.id) == nic.netdev.as_ref());
        own + &peer.map(|peer| format!(" \\ {}", netdev(peer))).unwrap_or_default()
    };
    let mut out: String = networks.nics.iter().map(with_peer).collect();
    let idle = networks
        .netdevs
        .iter()
        .filter(|netdev| !networks.nics.iter().any(|nic| nic.netdev.as_ref() == Some(&netdev.id)));
    out.extend(idle.map(netdev));
    Ok(out)
}
