//! After the last option: the machine's properties, limits and every reference from one option to another.
//!
//! Whether the object behind `confidential-guest-support=` can protect a guest is not decided here: the crate of
//! the mechanisms does that.

use std::path::PathBuf;

use serde_json::Value;

use super::{Builder, Outcome, cpu_words};
use crate::catalogue::{MachineType, ObjectRole};
use crate::chardev::CharBackend;
use crate::command_line::{
    AccelSpec, Boot, CommandLine, ConfidentialGuestRef, DriveInterface, MachineOptions, MemoryOptions,
};
use crate::error::{Location, OptionError, Problem, Warning};
use crate::flat::FlatOptions;
use crate::items::{self, Present};
use crate::process::{RebootAction, ShutdownAction};
use crate::schema::{Key, Properties, Schema, Words};
use crate::smp;
use crate::table;

impl Builder<'_> {
    pub(super) fn finish(mut self) -> Result<Outcome, OptionError> {
        let catalogue = self.catalogue;
        let anywhere = Problem::anywhere;
        let machine = match self.machine.remove("type") {
            // Help needs no machine, and every target has this one.
            None if self.help.is_some() => catalogue.default_machine().or(catalogue.machine("none")),
            None => match catalogue.default_machine() {
                None => return Err(anywhere(Problem::NoDefaultMachine)),
                default => default,
            },
            Some(Value::String(name)) => catalogue.machine(&name),
            Some(_) => None,
        }
        .ok_or_else(|| anywhere(Problem::UnsupportedMachine))?;
        if let Some(topic) = &self.help {
            return self.print(topic, machine).map(Outcome::Print);
        }

        let accel = self.accelerators().map_err(anywhere)?;
        let machine_options = self.machine_options(machine).map_err(anywhere)?;
        let smp = smp::resolve(&self.smp, machine).map_err(anywhere)?;
        let mut memory = self.memory_options(machine).map_err(anywhere)?;
        let boot = self.boot_options().map_err(anywhere)?;
        self.check_objects()?;
        if let Some(id) = &machine_options.memory_backend {
            self.use_backend(id, &mut memory).map_err(anywhere)?;
        }
        self.check_boot_image(machine).map_err(anywhere)?;
        let cpu = match &self.cpu {
            None => None,
            Some(text) => Some(self.cpu_model(text).map_err(anywhere)?),
        };
        self.check_characters(machine.capabilities.has_cpus)?;
        self.make_nodes()?;
        self.check_drives()?;
        self.make_network()?;
        self.check_devices(machine.capabilities.has_cpus)?;

        let path = |text: Option<String>| text.map(PathBuf::from);
        let line = self.line;
        memory.path = path(line.memory_path);
        memory.preallocate = line.memory_preallocate;
        Ok(Outcome::Run(Box::new(CommandLine {
            program: self.program.to_owned(),
            target: catalogue.target(),
            machine: machine_options,
            accel,
            cpu,
            memory,
            smp,
            kernel: path(line.kernel),
            initrd: path(line.initrd),
            append: line.append,
            bios: path(line.bios),
            firmware_folders: line.firmware_folders.into_iter().map(PathBuf::from).collect(),
            objects: self.objects,
            netdevs: self.network.netdevs,
            devices: self.devices.into_iter().map(|(device, _)| device).collect(),
            drives: self.drives,
            block_nodes: self.nodes,
            serials: self.serials.into_iter().map(|(serial, _)| serial).collect(),
            chardevs: self.chardevs.into_iter().map(|(chardev, _)| chardev).collect(),
            monitors: self.monitors.into_iter().map(|(monitor, _)| monitor).collect(),
            display: line.display,
            no_defaults: line.no_defaults,
            no_user_config: line.no_user_config,
            no_reboot: line.actions.reboot == RebootAction::Shutdown,
            no_shutdown: line.actions.shutdown == ShutdownAction::Pause,
            actions: line.actions,
            daemonize: line.daemonize,
            pid_file: path(line.pid_file),
            fd_sets: line.fd_sets,
            gdb: self.gdb.map(|(backend, _)| backend).filter(|backend| *backend != CharBackend::None),
            sandbox: line.sandbox,
            memory_map: line.memory_map,
            stopped: line.stopped,
            only_migratable: line.only_migratable,
            name: line.name,
            process_name: line.process_name,
            debug_threads: line.debug_threads,
            uuid: line.uuid,
            rtc: self.rtc,
            boot,
            icount: self.icount,
            seed: line.seed,
            injections: line.injections,
            platform: path(line.platform),
            message_timestamps: line.message_timestamps,
            message_guest_name: line.message_guest_name,
            log: line.log,
            warnings: self.warnings,
        })))
    }

    /// `-accel` in order, or the list of `-machine accel=a:b`. What this build lacks is skipped if something else
    /// is left.
    fn accelerators(&mut self) -> Result<Vec<AccelSpec>, Problem> {
        let from_machine = match self.machine.remove("accel") {
            Some(Value::String(list)) => list,
            Some(_) => return Err(Problem::InvalidParameter("accel".to_owned())),
            None => String::new(),
        };
        let given = std::mem::take(&mut self.accel);
        let wanted: Vec<(AccelSpec, Option<Location>)> = match from_machine.is_empty() {
            true => given.into_iter().map(|(spec, location)| (spec, Some(location))).collect(),
            false if !given.is_empty() => return Err(Problem::AccelTwice),
            false => from_machine.split(':').map(|name| (AccelSpec::named(name), None)).collect(),
        };
        let (known, unknown): (Vec<_>, Vec<_>) = wanted
            .into_iter()
            .enumerate()
            .partition(|(_, (spec, _))| self.catalogue.accelerators().contains(&spec.name.as_str()));
        let refusal = |name: &str| Problem::InvalidAccelerator(name.to_owned());
        let Some((first, (chosen, _))) = known.first() else {
            let problems: Vec<_> = unknown
                .into_iter()
                .map(|(_, (spec, location))| match location {
                    None => refusal(&spec.name),
                    Some(location) => Problem::At(location, Box::new(refusal(&spec.name))),
                })
                .collect();
            return if problems.is_empty() { Ok(Vec::new()) } else { Err(Problem::Several(problems)) };
        };
        let notice = |location, text| Warning { location, text, is_warning: false };
        let skipped = unknown.into_iter().take_while(|(index, _)| index < first);
        let mut notices: Vec<_> =
            skipped.map(|(_, (spec, location))| notice(location, refusal(&spec.name).to_string())).collect();
        if !notices.is_empty() {
            notices.push(notice(None, format!("falling back to {}", chosen.name)));
        }
        self.warnings.append(&mut notices);
        Ok(known.into_iter().map(|(_, (spec, _))| spec).collect())
    }

    fn machine_options(&mut self, machine: &MachineType) -> Result<MachineOptions, Problem> {
        let class = machine.class();
        let mut given = FlatOptions::default();
        for (key, value) in std::mem::take(&mut self.machine) {
            // Older names spell a dash as an underscore.
            let name = key.replace('_', "-");
            match value {
                Value::Object(tree) if name == "smp" => self.smp.extend(tree),
                Value::String(text) => given.entries.push((name, text)),
                Value::Object(_) | Value::Array(_) => {
                    return Err(Problem::WrongType { name, expected: "string" });
                }
                Value::Null | Value::Bool(_) | Value::Number(_) => {
                    return Err(Problem::PropertyNotFound { class, name });
                }
            }
        }
        let properties =
            Schema { class: &class, keys: machine.keys, words: Words::Device }.read_flat(&given, &[])?;

        let text = |name| properties.text(name).map(str::to_owned);
        let bool = |name| {
            let default = machine.keys.iter().find(|key| key.name == name);
            properties.bool(name).unwrap_or(default.is_some_and(|key| key.default == Some("on")))
        };
        for (slot, name) in [
            (&mut self.line.kernel, "kernel"),
            (&mut self.line.initrd, "initrd"),
            (&mut self.line.append, "append"),
            (&mut self.line.bios, "firmware"),
        ] {
            if let Some(value) = text(name) {
                slot.get_or_insert(value);
            }
        }
        let (new, old) = (text("confidential-guest-support"), text("memory-encryption"));
        let confidential_guest = match (new, old) {
            // Two names for one property: the old one's messages come first, as in QEMU.
            (Some(new), Some(old)) if new != old => {
                return Err(Problem::Expects {
                    name: "memory-encryption".to_owned(),
                    what: "the same object as 'confidential-guest-support', whose old name it is; give one of them",
                });
            }
            (_, Some(id)) => Some(ConfidentialGuestRef { id, legacy: true }),
            (Some(id), None) => Some(ConfidentialGuestRef { id, legacy: false }),
            (None, None) => None,
        };
        Ok(MachineOptions {
            name: machine.name.clone(),
            confidential_guest,
            loadparm: text("loadparm").as_deref().map(loadparm).transpose()?,
            memory_backend: text("memory-backend"),
            aes_key_wrap: bool("aes-key-wrap"),
            dea_key_wrap: bool("dea-key-wrap"),
            mem_merge: bool("mem-merge"),
            dump_guest_core: bool("dump-guest-core"),
            properties,
        })
    }

    fn memory_options(&self, machine: &MachineType) -> Result<MemoryOptions, Problem> {
        const MIB: u64 = 1 << 20;
        // As in QEMU, no size and a size of zero both mean the machine's own.
        let size = self.memory.number("size").filter(|size| *size != 0);
        let max_size = self.memory.number("maxmem");
        let slots = self.memory.number("slots").unwrap_or(0);
        if machine.capabilities.has_cpus && size.is_some_and(|size| !size.is_multiple_of(MIB)) {
            return Err(Problem::RamGranularity);
        }
        match (size, max_size) {
            (Some(size), Some(max)) if max < size => {
                return Err(Problem::MaxmemBelowSize { max, size });
            }
            (_, None) if slots > 0 => return Err(Problem::SlotsWithoutMaxmem),
            _ => {}
        }
        Ok(MemoryOptions { size, max_size, slots, path: None, preallocate: false })
    }

    fn boot_options(&self) -> Result<Boot, Problem> {
        let keys: &[Key] = table::find("boot").map_or(&[], |spec| spec.keys);
        let schema = Schema { class: "boot", keys, words: Words::Option };
        let mut properties = Properties::default();
        for (name, value) in &self.boot {
            let (Some(key), Some(text)) = (keys.iter().find(|key| key.name == name), value.as_str()) else {
                return Err(Problem::Unexpected(format!("boot.{name}")));
            };
            let value = schema.value(key, text).map_err(|problem| match problem {
                Problem::Expects { name, what } => Problem::Expects { name: format!("boot.{name}"), what },
                other => other,
            })?;
            properties.set(name, value);
        }
        let drives = |name| -> Result<Option<String>, Problem> {
            let Some(letters) = properties.text(name) else {
                return Ok(None);
            };
            match letters.chars().find(|letter| !('a'..='p').contains(letter)) {
                Some(letter) => Err(Problem::BootDevice(letter)),
                None => Ok(Some(letters.to_owned())),
            }
        };
        Ok(Boot {
            order: drives("order")?,
            once: drives("once")?,
            menu: properties.bool("menu"),
            splash_time: properties.number("splash-time"),
            strict: properties.bool("strict").unwrap_or(false),
        })
    }

    fn check_objects(&self) -> Result<(), OptionError> {
        for (index, object) in self.objects.iter().enumerate() {
            let known = self.catalogue.object(&object.qom_type);
            if !known.is_some_and(|known| known.is_for(self.catalogue.target())) {
                return Err(Problem::InvalidObjectType(object.qom_type.clone()).anywhere());
            }
            if self.objects[..index].iter().any(|other| other.id == object.id) {
                return Err(
                    Problem::DuplicateId { id: object.id.clone(), what: "object" }.at(&object.location)
                );
            }
            items::check_object(self.catalogue, object).map_err(|problem| problem.at(&object.location))?;
        }
        Ok(())
    }

    fn use_backend(&self, id: &str, memory: &mut MemoryOptions) -> Result<(), Problem> {
        let backend = self
            .objects
            .iter()
            .find(|object| object.id == id && self.has_role(&object.qom_type, ObjectRole::MemoryBackend))
            .ok_or_else(|| Problem::MemoryBackendNotFound(id.to_owned()))?;
        if self.line.memory_path.is_some() {
            return Err(Problem::MemoryPathAndBackend);
        }
        let size = backend.properties.number("size");
        if memory.size.is_some() && memory.size != size {
            return Err(Problem::MemoryBackendSize);
        }
        memory.size = size;
        match size.is_some_and(|size| size.is_multiple_of(1 << 20)) {
            true => Ok(()),
            false => Err(Problem::RamGranularity),
        }
    }

    fn check_boot_image(&self, machine: &MachineType) -> Result<(), Problem> {
        if self.line.kernel.is_none() {
            if self.line.initrd.is_some() {
                return Err(Problem::NeedsKernel("-initrd"));
            }
            if self.line.append.is_some() {
                return Err(Problem::NeedsKernel("-append"));
            }
        } else if !machine.capabilities.has_cpus {
            return Err(Problem::KernelWithoutMachine);
        }
        Ok(())
    }

    fn cpu_model(&self, text: &str) -> Result<crate::command_line::CpuSpec, Problem> {
        let model = text.split(',').next().unwrap_or_default();
        if !model.is_empty() && !self.catalogue.cpus().iter().any(|cpu| cpu.name == model) {
            return Err(Problem::UnknownCpu(model.to_owned()));
        }
        cpu_words(self.catalogue.target(), text)
    }

    fn check_drives(&mut self) -> Result<(), OptionError> {
        for index in 0..self.drives.len() {
            let (before, drive) = (&self.drives[..index], &self.drives[index]);
            if let Some(id) = &drive.id
                && before.iter().any(|other| other.id.as_ref() == Some(id))
            {
                return Err(Problem::DuplicateId { id: id.clone(), what: "drive" }.at(&drive.location));
            }
            if let Some(id) = &drive.id
                && self.nodes.iter().any(|node| node.name == *id)
            {
                return Err(Problem::DriveNamedAsNode(id.clone()).at(&drive.location));
            }
            let interface = drive.interface;
            if interface == DriveInterface::None {
                continue;
            }
            let taken = |wanted: u32| {
                before.iter().any(|other| other.interface == interface && other.index == Some(wanted))
            };
            match drive.index {
                Some(wanted) if taken(wanted) => {
                    return Err(Problem::DriveIndexTaken(wanted).at(&drive.location));
                }
                Some(_) => {}
                None => {
                    let free = (0..=u32::MAX).find(|wanted| !taken(*wanted));
                    self.drives[index].index = free;
                }
            }
        }
        for drive in &mut self.drives {
            drive.snapshot |= self.snapshot;
            let new = drive.nodes(&self.nodes).map_err(|problem| problem.at(&drive.location))?;
            drive.node = new.last().map(|root| root.name.clone());
            self.nodes.extend(new);
        }
        Ok(())
    }

    /// The nodes of `-blockdev`, which come before those of drives.
    fn make_nodes(&mut self) -> Result<(), OptionError> {
        for (blockdev, location) in std::mem::take(&mut self.blockdevs) {
            let new = blockdev.add_to(&self.nodes, &[]).map_err(|problem| problem.at(&location))?;
            self.nodes.extend(new);
        }
        Ok(())
    }

    fn check_devices(&self, has_cpus: bool) -> Result<(), OptionError> {
        let devices: Vec<_> = self.devices.iter().map(|(device, _)| device.clone()).collect();
        for (index, (device, bus)) in self.devices.iter().enumerate() {
            items::check_bus(device, bus.as_deref()).map_err(|problem| problem.at(&device.location))?;
            let before = &devices[..index];
            if let Some(id) = &device.id
                && before.iter().any(|other| other.id.as_ref() == Some(id))
            {
                return Err(Problem::DuplicateId { id: id.clone(), what: "device" }.at(&device.location));
            }
            let netdevs: Vec<_> = self.network.netdevs.iter().map(|netdev| netdev.id.as_str()).collect();
            let present = Present {
                objects: &self.objects,
                devices: before,
                drives: &self.drives,
                nodes: &self.nodes,
                netdevs: &netdevs,
            };
            items::check_references(self.catalogue, device, &present)?;
            if device.is_console() {
                self.check_console(device, before, has_cpus)
                    .map_err(|problem| problem.at(&device.location))?;
            }
            if device.is_port() {
                self.check_console_chardev(device, before).map_err(|problem| problem.at(&device.location))?;
            }
        }
        Ok(())
    }

    fn has_role(&self, qom_type: &str, role: ObjectRole) -> bool {
        items::has_role(self.catalogue, qom_type, role)
    }
}

/// A load parameter in capitals.
fn loadparm(text: &str) -> Result<String, Problem> {
    if let Some(bad) = text.chars().find(|c| !c.is_ascii_alphanumeric() && *c != '.' && *c != ' ') {
        return Err(Problem::Loadparm(bad));
    }
    match text.len() {
        0..=8 => Ok(text.to_ascii_uppercase()),
        _ => Err(Problem::LoadparmLength(text.to_owned())),
    }
}
