//! The one table of commands: dispatch, `help`, the list of `info` and completion all read it.
//!
//! Names, parameters and help texts are QEMU's where it has the command.

use crate::arguments::Completes::{self, Nothing};
use crate::arguments::Kind::{File, Filename, Flag, Format, Number, NumberBeforeFile, Rest, Word};
use crate::arguments::{Arguments, Kind, Parameter, split_word};
use crate::{Answer, Monitor, Refusal, addition, control, dump, info, memory, network, registers};
use std::fmt::Write;

/// A command.
pub(crate) struct Command {
    /// Its names: the first is the main one.
    names: &'static str,
    pub(crate) parameters: &'static [Parameter],
    /// The parameters, in words.
    usage: &'static str,
    help: &'static str,
    handler: fn(&mut Monitor, &Arguments) -> Answer,
}

impl Command {
    /// All its names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.names.split('|')
    }
}

const fn must(kind: Kind) -> Parameter {
    Parameter { kind, optional: false }
}

const fn may(kind: Kind) -> Parameter {
    Parameter { kind, optional: true }
}

macro_rules! commands {
    ($($names:literal [$($parameter:expr),*] $usage:literal, $help:literal => $handler:path;)*) => {
        &[$(Command {
            names: $names,
            parameters: &[$($parameter),*],
            usage: $usage,
            help: $help,
            handler: $handler,
        },)*]
    };
}

/// All commands, by name.
pub(crate) const COMMANDS: &[Command] = commands! {
    "balloon" [must(Number)] "target", "request VM to change its memory allocation (in MB)" => control::balloon;
    "cont|c" [] "", "resume emulation" => control::cont;
    "cpu" [must(Number)] "index", "set the default CPU" => control::cpu;
    "device_add" [may(Rest(Completes::DeviceType))]
        "driver[,prop=value][,...]", "add device, like -device on the command line" => addition::device_add;
    "device_del" [must(Word(Completes::DeviceId))] "device", "remove device" => addition::device_del;
    "dump-guest-memory" [may(Flag('p')), may(Flag('d')), may(Flag('w')), may(Flag('z')), may(Flag('l')), may(Flag('s')),
        must(Filename), may(Number), may(Number)]
        "[-p] [-d] [-z|-l|-s|-w] filename [begin length]",
        "dump guest memory into file 'filename'.\n\t\t\t-p: do paging to get guest's memory mapping.\n\t\t\t-d: return immediately (do not wait for completion).\n\t\t\t-z, -l, -s, -w: formats that are not available here.\n\t\t\tbegin: the starting physical address.\n\t\t\tlength: the memory size, in bytes."
        => dump::dump;
    "gdbserver" [may(Word(Nothing))] "[device]",
        "start gdbserver on given device (default 'tcp::1234'), stop with 'none'" => control::gdbserver;
    "help|?" [may(Rest(Completes::Command))] "[cmd]", "show the help" => help;
    "info" [may(Rest(Completes::Info))] "[subcommand]",
        "show various information about the system state" => list_info;
    "memsave" [must(Number), must(NumberBeforeFile), must(File)] "addr size file",
        "save to disk virtual memory dump starting at 'addr' of size 'size'" => memory::memsave;
    "migrate" [may(Flag('d')), may(Flag('b')), may(Flag('i')), may(Flag('r')), must(Word(Completes::Migration))]
        "[-d] [-b] [-i] [-r] uri", "migrate to URI" => control::migrate;
    "netdev_add" [must(Rest(Nothing))] "[user|tap|socket|stream|dgram],id=str[,prop=value][,...]",
        "add host network device" => network::netdev_add;
    "netdev_del" [must(Word(Nothing))] "id", "remove host network device" => network::netdev_del;
    "nmi" [] "", "inject an NMI" => control::nmi;
    "object_add" [must(Rest(Completes::ObjectType))] "[qom-type=]type,id=str[,prop=value][,...]",
        "create QOM object" => addition::object_add;
    "object_del" [must(Word(Completes::ObjectId))] "id", "destroy QOM object" => addition::object_del;
    "pmemsave" [must(Number), must(NumberBeforeFile), must(File)] "addr size file",
        "save to disk physical memory dump starting at 'addr' of size 'size'" => memory::pmemsave;
    "print|p" [must(Format), must(Number)] "/fmt expr",
        "print expression value (use $reg for CPU register access)" => memory::print;
    "quit|q" [] "", "quit the emulator" => control::quit;
    "set_link" [must(Rest(Nothing))] "name on|off", "change the link status of a network adapter"
        => network::set_link;
    "stop|s" [] "", "stop emulation" => control::stop;
    "system_powerdown" [] "", "send system power down event" => control::powerdown;
    "system_reset" [] "", "reset the system" => control::reset;
    "watchdog_action" [must(Word(Nothing))] "[reset|shutdown|poweroff|pause|debug|none|inject-nmi]",
        "change watchdog action" => control::watchdog_action;
    "x" [must(Format), must(Number)] "/fmt addr", "virtual memory dump starting at 'addr'" => memory::x;
    "xp" [must(Format), must(Number)] "/fmt addr", "physical memory dump starting at 'addr'" => memory::xp;
};

/// All subcommands of `info`, by name.
pub(crate) const INFO: &[Command] = commands! {
    "balloon" [] "", "show balloon information" => info::balloon;
    "block" [may(Flag('n')), may(Flag('v')), may(Word(Completes::Block))] "[-n] [-v] [device]",
        "show info of one block device or all block devices (-n: show named nodes; -v: show details)"
        => info::block;
    "blockstats" [] "", "show block device statistics" => info::blockstats;
    "chardev" [] "", "show the character devices" => info::chardev;
    "confidential" [] "", "show how the guest is protected and who owns its pages" => info::confidential;
    "cpus" [] "", "show infos for each CPU" => info::cpus;
    "dump" [] "", "Display the latest dump status" => dump::info;
    "jit" [] "", "show dynamic compiler info" => info::jit;
    "kvm" [] "", "show KVM information" => info::kvm;
    "mem" [] "", "show the guest's memory and the states of its pages" => info::mem;
    "migrate" [] "", "show migration status" => info::migrate;
    "mtree" [] "", "show memory tree" => info::mtree;
    "name" [] "", "show the current VM name" => info::name;
    "network" [] "", "show the network state" => network::info;
    "qom-tree" [may(Word(Nothing))] "[path]", "show QOM composition tree" => info::qom_tree;
    "qtree" [] "", "show device tree" => info::qtree;
    "registers" [may(Flag('a')), may(Number)] "[-a|vcpu]",
        "show the cpu registers (-a: show register info for all cpus; vcpu: specific vCPU to query; show the current CPU's registers if no argument is specified)"
        => registers::info;
    "sev" [] "", "show SEV information" => info::sev;
    "status" [] "", "show the current VM status (running|paused)" => info::status;
    "uuid" [] "", "show the current VM UUID" => info::uuid;
    "version" [] "", "show the version of QEMU" => info::version;
};

/// Runs a line.
pub(crate) fn dispatch(monitor: &mut Monitor, line: &str) -> Answer {
    let line = line.trim_ascii();
    // A control byte in an answer could move a terminal's cursor, so it is refused before anything repeats it.
    if line.contains(|c: char| c.is_control() && c != '\t') {
        return Err(Refusal::words("control characters are not part of any command"));
    }
    let (name, rest) = split_name(line);
    if name.is_empty() && rest.is_empty() {
        return Ok(String::new());
    }
    let (sub, after) = split_word(rest.trim_ascii_start());
    if name == "info" && !sub.is_empty() {
        let known = find(INFO, sub).ok_or_else(|| unknown(&format!("info {sub}")))?;
        return run(monitor, known, known.names, &format!("info {sub}"), after);
    }
    let known = find(COMMANDS, name).ok_or_else(|| unknown(split_word(line).0))?;
    run(monitor, known, known.names, name, rest)
}

fn run(monitor: &mut Monitor, known: &Command, names: &str, typed: &str, text: &str) -> Answer {
    let arguments = {
        let registers = |name: &str| registers::value(monitor, name);
        Arguments::read(names, known.parameters, text, monitor.format, &registers)
    };
    let usage = |text| Refusal::Usage { text, command: typed.to_owned() };
    (known.handler)(monitor, &arguments.map_err(usage)?)
}

/// The command with this name or alias.
pub(crate) fn find(table: &'static [Command], name: &str) -> Option<&'static Command> {
    table.iter().find(|command| command.names().any(|known| known == name))
}

/// A name ends at a blank or before `/FMT`.
fn split_name(line: &str) -> (&str, &str) {
    line.split_at(line.find(|c: char| c.is_ascii_whitespace() || c == '/').unwrap_or(line.len()))
}

fn unknown(what: &str) -> Refusal {
    Refusal::words(format!("unknown command: '{what}'"))
}

fn help(_: &mut Monitor, arguments: &Arguments) -> Answer {
    let (name, sub) = split_word(arguments.text());
    let sub = sub.trim_ascii();
    match (name, sub) {
        ("", _) => Ok(list(COMMANDS, "")),
        ("info", "") => Ok(list(INFO, "info ")),
        ("info", sub) => {
            let known = find(INFO, sub).ok_or_else(|| unknown(&format!("info {sub}")))?;
            Ok(list(std::slice::from_ref(known), "info "))
        }
        (name, _) => {
            let known = find(COMMANDS, name).ok_or_else(|| unknown(name))?;
            Ok(list(std::slice::from_ref(known), ""))
        }
    }
}

fn list_info(_: &mut Monitor, _: &Arguments) -> Answer {
    Ok(list(INFO, "info "))
}

fn list(table: &[Command], prefix: &str) -> String {
    let mut out = String::new();
    for Command { names, usage, help, .. } in table {
        writeln!(out, "{prefix}{names} {usage} -- {help}").expect("a String takes everything");
    }
    out
}
