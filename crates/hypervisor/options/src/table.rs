//! The one description of every option: its name, its argument, its keys and its help, and the function that
//! takes it in. The parser and `-help` read this table and nothing else.
//!
//! What the functions do stands in [`crate::parser`].

use crate::error::Problem;
use crate::parser::{Builder, Given, take};
use crate::schema::{Key, Kind};
use crate::smp;

/// Whether an option takes an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    /// None.
    Flag,
    /// One, spelled like this in help.
    Value(&'static str),
}

/// The heading in help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Section {
    Standard,
    Disks,
    Display,
    Characters,
    Boot,
    Debug,
    Objects,
    /// QEMU has it, this version does not: known so that the refusal can say so.
    Later,
}

impl Section {
    /// The heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Standard => "Standard options",
            Self::Disks => "Disks",
            Self::Display => "Display",
            Self::Characters => "Character devices and monitors",
            Self::Boot => "Boot image and kernel",
            Self::Debug => "Debugging and reproducible runs",
            Self::Objects => "Objects",
            Self::Later => "Options of QEMU that this version does not have",
        }
    }
}

type Apply = fn(&mut Builder<'_>, &Given<'_>) -> Result<(), Problem>;

/// One option.
#[derive(Clone, Copy, Debug)]
pub struct OptionSpec {
    /// The name without dashes.
    pub name: &'static str,
    /// Other names.
    pub aliases: &'static [&'static str],
    /// Its argument.
    pub argument: Argument,
    /// Where help lists it.
    pub section: Section,
    /// What it does.
    pub help: &'static str,
    /// The keys of its argument, if it has some of its own.
    pub keys: &'static [Key],
    pub(crate) implied: Option<&'static str>,
    pub(crate) apply: Apply,
}

/// Every option.
pub fn options() -> impl Iterator<Item = &'static OptionSpec> {
    OPTIONS.iter()
}

/// The option with this name.
pub(crate) fn find(name: &str) -> Option<&'static OptionSpec> {
    OPTIONS.iter().find(|spec| spec.name == name || spec.aliases.contains(&name))
}

const fn flag(name: &'static str, section: Section, help: &'static str, apply: Apply) -> OptionSpec {
    OptionSpec {
        name,
        aliases: &[],
        argument: Argument::Flag,
        section,
        help,
        keys: &[],
        implied: None,
        apply,
    }
}

const fn value(
    name: &'static str,
    syntax: &'static str,
    section: Section,
    help: &'static str,
    apply: Apply,
) -> OptionSpec {
    OptionSpec { argument: Argument::Value(syntax), ..flag(name, section, help, apply) }
}

impl OptionSpec {
    const fn alias(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    const fn keys(mut self, implied: Option<&'static str>, keys: &'static [Key]) -> Self {
        self.implied = implied;
        self.keys = keys;
        self
    }
}

const fn later(name: &'static str) -> OptionSpec {
    value(name, "...", Section::Later, "", take::not_available)
}

const fn later_flag(name: &'static str) -> OptionSpec {
    flag(name, Section::Later, "", take::not_available)
}

const DRIVE_KEYS: &[Key] = &[
    Key::new("file", Kind::Text, "image of the disk"),
    Key::new("if", Kind::Text, "virtio makes a disk for it, none leaves that to a -device").default("virtio"),
    Key::new("format", Kind::Text, "raw or qcow2 ('format=help' for a list)"),
    Key::new("driver", Kind::Text, "the same as format"),
    Key::new("media", Kind::Text, "disk or cdrom").default("disk"),
    Key::new("readonly", Kind::Bool, "never write to the image").default("off"),
    Key::new("read-only", Kind::Bool, "the same as readonly"),
    Key::new("snapshot", Kind::Bool, "throw away what was written at the end").default("off"),
    Key::new("cache", Kind::Text, "none, writeback, writethrough, directsync or unsafe").default("writeback"),
    Key::new("index", Kind::Unsigned(32), "place among the disks"),
    Key::new("aio", Kind::Choice(&["threads", "native", "io_uring"]), "how the host does the work; accepted"),
    Key::new(
        "discard",
        Kind::Choice(&["ignore", "off", "unmap", "on"]),
        "pass on what the guest discards; accepted",
    ),
    Key::new("detect-zeroes", Kind::Choice(&["off", "on", "unmap"]), "look for zeroes; accepted"),
    Key::new(
        "werror",
        Kind::Choice(&["ignore", "enospc", "stop", "report"]),
        "on an error while writing; only report",
    ),
    Key::new("rerror", Kind::Choice(&["ignore", "stop", "report"]), "on an error while reading; only report"),
];

const OPTIONS: &[OptionSpec] = &[
    flag("help", Section::Standard, "show this help", take::help).alias(&["h"]),
    flag("version", Section::Standard, "show the version", take::version),
    value("machine", "[type=]name[,prop[=value][,...]]", Section::Standard, "select the machine ('-machine help' for a list, '-machine NAME,help' for its properties);\nmay be repeated, properties add up", take::machine).alias(&["M"]),
    value("cpu", "model[,feature=on|off][,+feature][,-feature]", Section::Standard, "select the CPU model ('-cpu help' for a list); 'unpack=on' lets a guest enter protected mode", take::cpu),
    value("accel", "[accel=]name[,prop[=value][,...]]", Section::Standard, "select what executes the guest ('-accel help' for a list); may be repeated, the first that works", take::accel).keys(
        Some("accel"),
        &[
            Key::new("accel", Kind::Text, "the name"),
            Key::new("thread", Kind::Text, "single or multi: one host thread for all CPUs or one for each"),
            Key::new("door", Kind::Text, "direct, or loopback: every message between hypervisor and secure world goes through bytes").default("direct"),
            Key::new("tb-size", Kind::Unsigned(32), "size of the cache of decoded instructions in MiB; accepted"),
            Key::new("one-insn-per-tb", Kind::Bool, "decode one instruction at a time; accepted").default("off"),
            Key::new("split-wx", Kind::Bool, "accepted").default("off"),
        ],
    ),
    value("smp", "[[cpus=]n][,maxcpus=n][,sockets=n][,cores=n][,threads=n]", Section::Standard, "number and topology of CPUs", take::smp).keys(Some("cpus"), smp::KEYS),
    value("m", "[size=]megs[,slots=n,maxmem=size]", Section::Standard, "size of the guest's memory", take::memory).keys(
        Some("size"),
        &[
            Key::new("size", Kind::Mebibytes, "at the start, in MiB without a suffix"),
            Key::new("slots", Kind::Unsigned(64), "places for memory added later").default("0"),
            Key::new("maxmem", Kind::Size, "with memory added later"),
        ],
    ),
    value("mem-path", "FILE", Section::Standard, "file or folder that backs the guest's memory", take::mem_path),
    flag("mem-prealloc", Section::Standard, "take all of the memory before the start", take::mem_prealloc),
    value("platform", "DIR", Section::Standard, "folder of the model platform: identity, keys and switches of the machine below\n(then $CLOISTER_PLATFORM, the system's folder, the user's folder)", take::platform),
    value("name", "[guest=]string", Section::Standard, "name of the guest", take::name).keys(
        Some("guest"),
        &[
            Key::new("guest", Kind::Text, "the name"),
            Key::new("process", Kind::Text, "name of the process; accepted"),
            Key::new("debug-threads", Kind::Bool, "name the threads; accepted").default("off"),
        ],
    ),
    value("uuid", "uuid", Section::Standard, "UUID of the machine", take::uuid),
    value("rtc", "[base=utc|localtime|datetime][,clock=host|rt|vm]", Section::Standard, "the clock at the start and what drives it", take::rtc).keys(
        None,
        &[
            Key::new("base", Kind::Text, "utc, localtime, or for example 2006-06-17T16:01:21").default("utc"),
            Key::new("clock", Kind::Text, "host, rt or vm").default("host"),
            Key::new("driftfix", Kind::Text, "none or slew; accepted").default("none"),
        ],
    ),
    value("boot", "[order=drives][,once=drives][,menu=on|off][,splash-time=ms][,strict=on|off]", Section::Standard, "what to boot from", take::boot).keys(
        Some("order"),
        &[
            Key::new("order", Kind::Text, "drives by letter"),
            Key::new("once", Kind::Text, "drives by letter, for the first boot"),
            Key::new("menu", Kind::Bool, "show a menu").default("off"),
            Key::new("splash", Kind::Text, "picture; accepted"),
            Key::new("splash-time", Kind::Unsigned(32), "milliseconds until the menu goes on by itself"),
            Key::new("reboot-timeout", Kind::Unsigned(32), "milliseconds until a failed boot starts again; accepted"),
            Key::new("strict", Kind::Bool, "boot only from devices with a boot index").default("off"),
        ],
    ),
    value("msg", "[timestamp=on|off][,guest-name=on|off]", Section::Standard, "form of messages", take::msg).keys(
        None,
        &[
            Key::new("timestamp", Kind::Bool, "begin with the time").default("off"),
            Key::new("guest-name", Kind::Bool, "begin with the guest's name").default("off"),
        ],
    ),
    value("overcommit", "[mem-lock=on|off][,cpu-pm=on|off]", Section::Standard, "accepted, without effect", take::overcommit).keys(
        None,
        &[
            Key::new("mem-lock", Kind::Bool, "keep memory from being swapped").default("off"),
            Key::new("cpu-pm", Kind::Bool, "let the guest manage the power of CPUs").default("off"),
        ],
    ),
    flag("nodefaults", Section::Standard, "make no default devices", take::nodefaults),
    flag("no-user-config", Section::Standard, "read no configuration of the user; there is none", take::no_user_config),
    flag("no-reboot", Section::Standard, "end instead of rebooting", take::no_reboot),
    flag("no-shutdown", Section::Standard, "stop instead of ending when the guest powers off", take::no_shutdown),
    flag("S", Section::Standard, "wait for the monitor before the first instruction", take::stopped),
    flag("only-migratable", Section::Standard, "refuse everything that cannot be migrated", take::only_migratable),
    value("device", "driver[,prop[=value][,...]]", Section::Standard, "add a device ('-device help' for a list, '-device DRIVER,help' for its properties)", take::device),
    value("object", "TYPE,id=ID[,prop[=value][,...]]", Section::Objects, "make an object ('-object help' for a list, '-object TYPE,help' for its properties)", take::object),
    value("drive", "[file=file][,if=type][,id=name][,format=f][,...]", Section::Disks, "add a disk", take::drive).keys(None, DRIVE_KEYS),
    value("hda", "FILE", Section::Disks, "the first disk", take::disk_image).alias(&["hdb", "hdc", "hdd"]),
    flag("snapshot", Section::Disks, "throw away at the end what was written to any disk", take::snapshot),
    flag("nographic", Section::Display, "no graphics; the console and the monitor are this terminal", take::nographic),
    value("display", "none", Section::Display, "there is no other display yet", take::display),
    value("vga", "none", Section::Display, "there is no graphics card", take::vga),
    value("serial", "dev", Section::Characters, "connect the console: stdio, mon:stdio, null, none, file:FILE or chardev:ID", take::serial),
    value("chardev", "stdio|null|file,id=ID[,path=FILE][,mux=on|off]", Section::Characters, "a place for characters", take::chardev).keys(
        Some("backend"),
        &[
            Key::new("backend", Kind::Text, "stdio, null or file"),
            Key::new("path", Kind::Text, "the file"),
            Key::new("mux", Kind::Bool, "let several users share it").default("off"),
            Key::new("signal", Kind::Bool, "Ctrl-C ends the program").default("on"),
            Key::new("logfile", Kind::Text, "accepted"),
            Key::new("logappend", Kind::Bool, "accepted"),
        ],
    ),
    value("mon", "[chardev=]ID[,mode=readline|control]", Section::Characters, "a monitor on a chardev", take::mon).keys(
        Some("chardev"),
        &[
            Key::new("chardev", Kind::Text, "id of the chardev"),
            Key::new("mode", Kind::Choice(&["readline", "control"]), "for people or QMP").default("readline"),
            Key::new("pretty", Kind::Bool, "indent QMP").default("off"),
        ],
    ),
    value("monitor", "dev", Section::Characters, "a monitor for people: stdio, null, none or chardev:ID", take::monitor),
    value("qmp", "dev", Section::Characters, "a QMP monitor: stdio, null, none or chardev:ID", take::qmp),
    value("kernel", "FILE", Section::Boot, "kernel, or an encrypted image of one", take::kernel),
    value("initrd", "FILE", Section::Boot, "initial ramdisk; an encrypted image has its own and ignores this one", take::initrd),
    value("append", "cmdline", Section::Boot, "kernel command line; an encrypted image has its own and ignores this one", take::append),
    value("bios", "FILE", Section::Boot, "boot loader", take::bios),
    value("L", "DIR", Section::Boot, "folder of boot loaders", take::firmware_folder),
    value("icount", "[shift=N|auto][,sleep=on|off][,align=on|off]", Section::Debug, "time by counted instructions: one takes 2^N ns; with sleep=off runs are reproducible", take::icount).keys(
        Some("shift"),
        &[
            Key::new("shift", Kind::Text, "0 to 10, or auto"),
            Key::new("align", Kind::Bool, "hold the guest's time back to the host's").default("off"),
            Key::new("sleep", Kind::Bool, "let real time pass while the guest waits").default("on"),
            Key::new("rr", Kind::Text, "record or replay; not in this version"),
            Key::new("rrfile", Kind::Text, "not in this version"),
            Key::new("rrsnapshot", Kind::Text, "not in this version"),
        ],
    ),
    value("seed", "number", Section::Debug, "start all random numbers from this one", take::seed),
    value("d", "item1,...", Section::Debug, "log these items", take::log_items),
    value("D", "FILE", Section::Debug, "log to this file", take::log_file),
    value("trace", "[[enable=]pattern][,events=file][,file=file]", Section::Debug, "trace events", take::trace).alias(&["T"]),
    later("netdev"),
    later("nic"),
    later("net"),
    later("blockdev"),
    later("cdrom"),
    later("sd"),
    later("pflash"),
    later("global"),
    later("set"),
    later("readconfig"),
    later("add-fd"),
    later("incoming"),
    later("loadvm"),
    later("fw_cfg"),
    later("audiodev"),
    later("audio"),
    later("vnc"),
    later("spice"),
    later("sandbox"),
    later("pidfile"),
    later("run-with"),
    later("runas"),
    later("numa"),
    later("smbios"),
    later("acpitable"),
    later("gdb"),
    later("usbdevice"),
    later("virtfs"),
    later("fsdev"),
    later("tpmdev"),
    later("k"),
    later("parallel"),
    later("dtb"),
    later("action"),
    later("watchdog-action"),
    later("plugin"),
    later("semihosting-config"),
    later("debugcon"),
    later("qmp-pretty"),
    later("compat"),
    later_flag("daemonize"),
    later_flag("enable-kvm"),
    later_flag("preconfig"),
    later_flag("s"),
    later_flag("usb"),
    later_flag("full-screen"),
    later_flag("semihosting"),
];
