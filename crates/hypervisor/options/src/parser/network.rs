//! Taking in networks: `-netdev`, `-nic` and `-net`. What stands in one argument is read by [`crate::netdev`]; here is
//! which device goes with which backend.

use serde_json::{Map, Value, json};

use super::{Builder, Given};
use crate::command_line::DeviceSpec;
use crate::error::{Location, OptionError, Problem, Warning};
use crate::flat::FlatOptions;
use crate::help::Topic;
use crate::netdev::{Netdev, parse};
use crate::schema::{Properties, PropertyValue};
use crate::value::{parse_identifier, parse_mac};

type Taken = Result<(), Problem>;

/// What was asked for so far.
#[derive(Default)]
pub(crate) struct Wanted {
    pub(super) netdevs: Vec<Netdev>,
    /// Devices of `-nic` and `-net nic` with the backend that they name.
    nics: Vec<Nic>,
    /// Backends of `-net`, which meet the devices of `-net nic` in hub 0.
    hub: Vec<Netdev>,
}

struct Nic {
    /// Its backend's id; none for those in the hub.
    netdev: Option<String>,
    id: Option<String>,
    mac: Option<String>,
    location: Location,
}

pub(crate) fn netdev(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    match parse::netdev(given.value, &given.location)? {
        None => b.ask(Topic::Netdevs),
        Some(netdev) => b.network.netdevs.push(netdev),
    }
    Ok(())
}

pub(crate) fn nic(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    let Some((mut members, kind)) = members(b, given)? else { return Ok(()) };
    if kind == "none" {
        return Ok(());
    }
    let name = members.remove("id").and_then(|id| id.as_str().map(str::to_owned));
    let mac = take_text(&mut members, "mac").or(take_text(&mut members, "macaddr"));
    check(b, take_text(&mut members, "model"), mac.as_deref())?;
    let backend = parse::flat_backend(&members)?;
    let id = name.unwrap_or_else(|| format!("#nic{}", b.network.nics.len()));
    b.network.netdevs.push(Netdev { id: id.clone(), backend, location: given.location.clone() });
    b.network.nics.push(Nic { netdev: Some(id), id: None, mac, location: given.location.clone() });
    Ok(())
}

pub(crate) fn net(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    let Some((mut members, kind)) = members(b, given)? else { return Ok(()) };
    match kind.as_str() {
        "none" => {}
        "nic" => {
            let (netdev, mac) = (take_text(&mut members, "netdev"), take_text(&mut members, "macaddr"));
            let id = take_text(&mut members, "id");
            check(b, take_text(&mut members, "model"), mac.as_deref())?;
            // Only PCI has these.
            for accepted in ["addr", "vectors"] {
                members.remove(accepted);
            }
            if let Some(name) = members.keys().find(|name| *name != "type") {
                return Err(Problem::InvalidParameter(name.clone()));
            }
            b.network.nics.push(Nic { netdev, id, mac, location: given.location.clone() });
        }
        _ => {
            let id = take_text(&mut members, "id").unwrap_or_else(|| format!("#net{}", b.network.hub.len()));
            let backend = parse::flat_backend(&members)?;
            b.network.hub.push(Netdev { id, backend, location: given.location.clone() });
        }
    }
    Ok(())
}

/// The keys and the type; `None`: help was asked for.
fn members(b: &mut Builder<'_>, given: &Given<'_>) -> Result<Option<(Map<String, Value>, String)>, Problem> {
    let flat: FlatOptions = crate::flat::parse_flat(given.value, Some("type"), true)?;
    if flat.help {
        b.ask(Topic::Netdevs);
        return Ok(None);
    }
    if flat.get("model") == Some("help") {
        b.ask(Topic::NicModels);
        return Ok(None);
    }
    if flat.id.as_deref().is_some_and(|id| parse_identifier(id).is_none()) {
        return Err(Problem::NotAnIdentifier("id".to_owned()));
    }
    let mut members = parse::tree(&flat);
    let kind = match members.get("type").and_then(Value::as_str) {
        Some(kind) => kind.to_owned(),
        // As in QEMU, a device without a word has the user's network.
        None if given.spec.name == "nic" && flat.entries.is_empty() => "user".to_owned(),
        None => return Err(Problem::Missing("type".to_owned())),
    };
    members.insert("type".to_owned(), json!(kind));
    Ok(Some((members, kind)))
}

fn take_text(members: &mut Map<String, Value>, name: &str) -> Option<String> {
    members.remove(name).and_then(|value| value.as_str().map(str::to_owned))
}

fn check(b: &Builder<'_>, model: Option<String>, mac: Option<&str>) -> Taken {
    if let Some(model) = model
        && !matches!(model.as_str(), "virtio" | "virtio-net" | "virtio-net-ccw")
    {
        return Err(Problem::NetModel(model));
    }
    if b.catalogue.device("virtio-net-ccw").is_none() {
        return Err(Problem::NotAvailable(
            "a network device of this machine".to_owned(),
            "; only s390x machines have one".to_owned(),
        ));
    }
    match mac {
        Some(mac) if parse_mac(mac).is_none() => Err(Problem::NetEthernet),
        _ => Ok(()),
    }
}

impl Builder<'_> {
    /// Devices for `-nic` and `-net`, and their backends. They come before those of `-device`, as in QEMU.
    pub(super) fn make_network(&mut self) -> Result<(), OptionError> {
        let mut hub = std::mem::take(&mut self.network.hub).into_iter();
        let mut nics = std::mem::take(&mut self.network.nics);
        let mut backend = hub.next();
        if let Some(second) = hub.next() {
            return Err(Problem::NetHub("backend").at(&second.location));
        }
        let mut in_hub = nics.iter_mut().filter(|nic| nic.netdev.is_none());
        match (in_hub.next(), &backend) {
            (None, Some(lonely)) => {
                self.warnings.push(Warning {
                    location: Some(lonely.location.clone()),
                    text: "hub 0 with no nics".to_owned(),
                    is_warning: true,
                });
                backend = None;
            }
            (Some(nic), Some(backend)) => nic.netdev = Some(backend.id.clone()),
            (Some(nic), None) => self.warnings.push(Warning {
                location: Some(nic.location.clone()),
                text: "hub 0 is not connected to host network".to_owned(),
                is_warning: true,
            }),
            (None, None) => {}
        }
        if let Some(second) = in_hub.next() {
            return Err(Problem::NetHub("device").at(&second.location));
        }
        self.network.netdevs.extend(backend);
        let netdevs = &self.network.netdevs;
        for (index, netdev) in netdevs.iter().enumerate() {
            if netdevs[..index].iter().any(|other| other.id == netdev.id) {
                let id = netdev.id.clone();
                return Err(Problem::DuplicateId { id, what: "netdev" }.at(&netdev.location));
            }
        }
        let known = |id: &str| netdevs.iter().any(|netdev| netdev.id == id);
        let mut made = Vec::new();
        for nic in nics {
            let mut properties = Properties::default();
            if let Some(id) = nic.netdev {
                if !known(&id) {
                    return Err(Problem::NetdevNotFound(id).at(&nic.location));
                }
                properties.set("netdev", PropertyValue::Text(id));
            }
            if let Some(mac) = nic.mac {
                properties.set("mac", PropertyValue::Text(mac));
            }
            let device = DeviceSpec {
                bus: None,
                driver: "virtio-net-ccw".to_owned(),
                id: nic.id,
                properties,
                pass_through: false,
                location: nic.location,
            };
            made.push((device, None));
        }
        made.append(&mut self.devices);
        self.devices = made;
        let used =
            |id: &str| self.devices.iter().any(|(device, _)| device.properties.text("netdev") == Some(id));
        let idle = netdevs.iter().filter(|netdev| !used(&netdev.id)).map(|netdev| Warning {
            location: None,
            text: format!("netdev {} has no peer", netdev.id),
            is_warning: true,
        });
        self.warnings.extend(idle);
        Ok(())
    }
}
