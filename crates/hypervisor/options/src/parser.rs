//! From arguments to a [`CommandLine`]: one pass over the names, one over the arguments, and then everything that
//! needs several options at once, because an option may refer to one that comes later.
//!
//! What each option is called and takes stands in [`crate::table`].

use serde_json::{Map, Value};

use crate::blockdev::{BlockNode, Blockdev};
use crate::catalogue::{Catalogue, MachineType};
use crate::chardev::{CharBackend, Chardev};
use crate::command_line::{
    AccelSpec, CommandLine, CpuSpec, DeviceSpec, Drive, Icount, Monitor, ObjectSpec, Rtc, RtcBase, RtcClock,
};
use crate::error::{Location, OptionError, Problem, Warning};
use crate::flat::{FlatOptions, parse_flat};
use crate::help::{self, Topic};
use crate::invocation::{Invocation, Target};
use crate::schema::{Properties, Schema, Words};
use crate::table::{self, Argument, OptionSpec};
use crate::version::version_text;

pub(crate) mod characters;
mod finish;
pub(crate) mod network;
pub(crate) mod process;
pub(crate) mod take;

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Run this machine.
    Run(Box<CommandLine>),
    /// Print this to stdout and exit with status 0.
    Print(String),
}

/// Parse the arguments of a virtual machine's command line.
pub fn parse(
    invocation: &Invocation,
    catalogue: &Catalogue,
    args: &[String],
) -> Result<Outcome, OptionError> {
    let given = recognise(args)?;
    let mut builder = Builder::new(invocation, catalogue);
    for given in &given {
        (given.spec.apply)(&mut builder, given).map_err(|problem| problem.at(&given.location))?;
        if let Some(text) = builder.print_now.take() {
            return Ok(Outcome::Print(text));
        }
    }
    builder.finish()
}

/// One option as it was given.
pub(crate) struct Given<'a> {
    pub(crate) spec: &'static OptionSpec,
    pub(crate) location: Location,
    /// The name as typed, without dashes.
    pub(crate) name: &'a str,
    /// The argument; empty for a flag.
    pub(crate) value: &'a str,
}

impl Given<'_> {
    fn flat(&self, warn: bool) -> Result<FlatOptions, Problem> {
        parse_flat(self.value, self.spec.implied, warn)
    }

    /// The keys that the table lists for this option, checked.
    fn keys(&self, flat: &FlatOptions, beside: &[&str]) -> Result<Properties, Problem> {
        Schema { class: self.spec.name, keys: self.spec.keys, words: Words::Option }.read_flat(flat, beside)
    }
}

/// Look every option up before any of them is taken in, as QEMU does.
fn recognise(args: &[String]) -> Result<Vec<Given<'_>>, OptionError> {
    let mut out = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let Some(name) = arg.strip_prefix('-') else {
            // A word of its own is the image of the first disk.
            if let Some(spec) = table::find("hda") {
                out.push(Given { spec, location: Location::new(arg, None), name: "hda", value: arg });
            }
            continue;
        };
        let name = name.strip_prefix('-').unwrap_or(name);
        let bare = Location::new(arg, None);
        let spec = table::find(name).ok_or_else(|| Problem::InvalidOption.at(&bare))?;
        let (location, value) = match spec.argument {
            Argument::Flag => (bare, ""),
            Argument::Value(_) => {
                let value = args.next().ok_or_else(|| Problem::RequiresArgument.at(&bare))?;
                (Location::new(arg, Some(value)), value.as_str())
            }
        };
        out.push(Given { spec, location, name, value });
    }
    Ok(out)
}

/// What was taken in so far.
pub(crate) struct Builder<'a> {
    catalogue: &'a Catalogue,
    program: &'a str,
    /// Text that ends the parsing at once.
    print_now: Option<String>,
    /// Help that is printed after all options were read.
    help: Option<Topic>,
    machine: Map<String, Value>,
    smp: Map<String, Value>,
    boot: Map<String, Value>,
    memory: Properties,
    accel: Vec<(AccelSpec, Location)>,
    cpu: Option<String>,
    objects: Vec<ObjectSpec>,
    devices: Vec<(DeviceSpec, Option<String>)>,
    drives: Vec<Drive>,
    blockdevs: Vec<(Blockdev, Location)>,
    nodes: Vec<BlockNode>,
    snapshot: bool,
    network: network::Wanted,
    serials: Vec<(CharBackend, Location)>,
    chardevs: Vec<(Chardev, Location)>,
    monitors: Vec<(Monitor, Location)>,
    /// Ids of `-mon`.
    monitor_ids: Vec<String>,
    gdb: Option<(CharBackend, Location)>,
    /// Who has the terminal.
    stdio: Option<Location>,
    rtc: Rtc,
    icount: Option<Icount>,
    line: Simple,
    warnings: Vec<Warning>,
}

/// Options that go to the result as they are.
#[derive(Default)]
struct Simple {
    memory_path: Option<String>,
    memory_preallocate: bool,
    kernel: Option<String>,
    initrd: Option<String>,
    append: Option<String>,
    bios: Option<String>,
    firmware_folders: Vec<String>,
    display: crate::command_line::Display,
    no_defaults: bool,
    no_user_config: bool,
    actions: crate::process::Actions,
    daemonize: bool,
    pid_file: Option<String>,
    fd_sets: Vec<crate::process::AddFd>,
    sandbox: Option<crate::process::Sandbox>,
    memory_map: Option<crate::process::MemoryMap>,
    process_name: Option<String>,
    debug_threads: bool,
    stopped: bool,
    only_migratable: bool,
    name: Option<String>,
    uuid: Option<[u8; 16]>,
    seed: Option<u64>,
    injections: Vec<crate::inject::Injection>,
    platform: Option<String>,
    message_timestamps: bool,
    message_guest_name: bool,
    log: crate::command_line::LogOptions,
}

impl<'a> Builder<'a> {
    fn new(invocation: &'a Invocation, catalogue: &'a Catalogue) -> Self {
        Self {
            catalogue,
            program: &invocation.program,
            print_now: None,
            help: None,
            machine: Map::new(),
            smp: Map::new(),
            boot: Map::new(),
            memory: Properties::default(),
            accel: Vec::new(),
            cpu: None,
            objects: Vec::new(),
            devices: Vec::new(),
            drives: Vec::new(),
            blockdevs: Vec::new(),
            nodes: Vec::new(),
            snapshot: false,
            network: network::Wanted::default(),
            serials: Vec::new(),
            chardevs: Vec::new(),
            monitors: Vec::new(),
            monitor_ids: Vec::new(),
            gdb: None,
            stdio: None,
            rtc: Rtc { base: RtcBase::Utc, clock: RtcClock::Host },
            icount: None,
            line: Simple::default(),
            warnings: Vec::new(),
        }
    }

    /// The first request for help counts.
    fn ask(&mut self, topic: Topic) {
        self.help.get_or_insert(topic);
    }

    fn warn(&mut self, given: &Given<'_>, texts: Vec<String>) {
        self.warnings.extend(texts.into_iter().map(|text| Warning {
            location: Some(given.location.clone()),
            text,
            is_warning: true,
        }));
    }

    fn print(&self, topic: &Topic, machine: &MachineType) -> Result<String, OptionError> {
        let catalogue = self.catalogue;
        Ok(match topic {
            Topic::Machines => help::machines(catalogue),
            Topic::MachineProperties => help::machine_properties(machine),
            Topic::Cpus => help::cpus(catalogue),
            Topic::Objects => help::objects(catalogue),
            Topic::Object(name) => {
                let object = catalogue
                    .objects()
                    .find(|object| object.name == name)
                    .ok_or_else(|| Problem::InvalidObjectType(name.clone()).anywhere())?;
                help::object_properties(object)
            }
            Topic::Devices => help::devices(catalogue),
            Topic::Device(name) => {
                let device =
                    catalogue.device(name).ok_or_else(|| Problem::NotFound(name.clone()).anywhere())?;
                help::device_properties(device)
            }
            Topic::Accelerators => help::accelerators(catalogue),
            Topic::DriveFormats => "Supported formats: qcow2 raw\n".to_owned(),
            Topic::Chardevs => help::chardevs(),
            Topic::Netdevs => help::netdevs(),
            Topic::NicModels => "Supported NIC models:\nvirtio\n".to_owned(),
            Topic::Option(name) => table::find(name).map(help::option_keys).unwrap_or_else(version_text),
        })
    }
}

/// Split `model[,feature...]` without looking at what the words mean.
fn cpu_words(target: Target, text: &str) -> Result<CpuSpec, Problem> {
    let mut words = text.split(',');
    let model = words.next().filter(|model| !model.is_empty()).ok_or(Problem::EmptyCpu)?.to_owned();
    let mut features = Vec::new();
    for word in words.filter(|word| !word.is_empty()) {
        let refuse = |feature: &str, value: &str, problem| Problem::CpuFeature {
            model: model.clone(),
            feature: feature.to_owned(),
            value: value.to_owned(),
            problem: Box::new(problem),
        };
        let (name, value) = match (word.split_once('='), word.split_at_checked(1)) {
            (Some(pair), _) => pair,
            (None, Some(("+", name))) => (name, "on"),
            (None, Some(("-", name))) => (name, "off"),
            (None, _) => return Err(Problem::CpuFeatureForm(word.to_owned())),
        };
        if !crate::tables::feature_names(target).any(|known| known == name) {
            return Err(refuse(
                name,
                value,
                Problem::PropertyNotFound { class: format!("{model}-{target}-cpu"), name: name.to_owned() },
            ));
        }
        let on = crate::value::parse_bool(value).ok_or_else(|| {
            refuse(name, value, Problem::Expects { name: name.to_owned(), what: "'on' or 'off'" })
        })?;
        features.push((name.to_owned(), on));
    }
    Ok(CpuSpec { model, features })
}
