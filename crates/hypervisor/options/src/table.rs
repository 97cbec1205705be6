//! The one description of every option: its name, its argument, its keys and its help, and the function that
//! takes it in. The parser and `-help` read this table and nothing else.
//!
//! What the functions do stands in [`crate::parser`].

use crate::chardev::parse as chardev;
use crate::error::Problem;
use crate::parser::{Builder, Given, characters, network, process, take};
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
    Network,
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
            Self::Network => "Network",
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
    Key::new(
        "if",
        Kind::Text,
        "virtio makes a disk for it, none leaves that to a -device, pflash is the firmware of a PC",
    )
    .default("virtio"),
    Key::new("format", Kind::Text, "raw or qcow2 ('format=help' for a list)"),
    Key::new("driver", Kind::Text, "the same as format"),
    Key::new("media", Kind::Text, "disk or cdrom").default("disk"),
    Key::new("readonly", Kind::Bool, "never write to the image").default("off"),
    Key::new("read-only", Kind::Bool, "the same as readonly"),
    Key::new("snapshot", Kind::Bool, "throw away what was written at the end").default("off"),
    Key::new("cache", Kind::Text, "none, writeback, writethrough, directsync or unsafe").default("writeback"),
    Key::new("index", Kind::Unsigned(32), "place among the disks"),
    Key::new("unit", Kind::Unsigned(32), "the same; of flash, 0 is the firmware and 1 its variables"),
    Key::new("bus", Kind::Unsigned(32), "accepted").default("0"),
    Key::new("aio", Kind::Choice(&["threads", "native", "io_uring"]), "how the host does the work; accepted"),
    Key::new("discard", Kind::Choice(&["ignore", "off", "unmap", "on"]), "pass on what the guest discards"),
    Key::new("detect-zeroes", Kind::Choice(&["off", "on", "unmap"]), "write zeros as holes").default("off"),
    Key::new("node-name", Kind::Text, "name of its node"),
    Key::new("werror", Kind::Text, "on an error while writing: report, ignore, stop or enospc")
        .default("enospc"),
    Key::new("rerror", Kind::Text, "on an error while reading: report, ignore or stop").default("report"),
];

const WATCHDOG: &[&str] = &["reset", "shutdown", "poweroff", "pause", "debug", "none", "inject-nmi"];

/// Items of `-d`: our own, and those of QEMU that managers and people write.
pub(crate) const LOG_ITEMS: &[(&str, &str)] = &[
    ("stats", "instructions and their rate, at the end"),
    ("exits", "why CPUs left the core, how often, and the time that took, at the end"),
    ("hot", "the blocks in which most instructions were executed, at the end; slow"),
    ("jit", "what was decoded and compiled, and translation buffers, at the end"),
    ("pages", "conversions of pages, at the end"),
    ("profile", "stats, exits, hot, jit, pages and unimp"),
    ("unimp", "instructions that the guest does not have, counted, at the end"),
    ("int", "interruptions of the guest"),
    ("cpu_reset", "resets of CPUs"),
    ("mmu", "address translation; accepted"),
    ("in_asm", "instructions as they are decoded; accepted"),
    ("exec", "blocks of instructions as they are run; accepted"),
    ("cpu", "registers before a block of instructions; accepted"),
    ("guest_errors", "what a guest should not have done; accepted"),
    ("trace:PATTERN", "trace events by name, as -trace"),
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
            Key::new("jit", Kind::Bool, "translate what is run often for the host").default("on"),
            Key::new("tb-size", Kind::Unsigned(32), "size of the memory for translated code in MiB, 32 if not given"),
            Key::new("one-insn-per-tb", Kind::Bool, "decode one instruction at a time; accepted").default("off"),
            Key::new("split-wx", Kind::Bool, "accepted: no memory is ever both writable and executable").default("off"),
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
            Key::new("process", Kind::Text, "name of the process"),
            Key::new("debug-threads", Kind::Bool, "name the threads").default("off"),
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
    value("action", "[reboot=reset|shutdown][,shutdown=poweroff|pause][,panic=pause|shutdown|exit-failure|none][,watchdog=...]", Section::Standard, "what to do when the guest does one of these", process::action).keys(
        None,
        &[
            Key::new("reboot", Kind::Choice(&["reset", "shutdown"]), "the guest reboots").default("reset"),
            Key::new("shutdown", Kind::Choice(&["poweroff", "pause"]), "the guest powers off").default("poweroff"),
            Key::new("panic", Kind::Choice(&["pause", "shutdown", "exit-failure", "none"]), "the guest gives up").default("shutdown"),
            Key::new("watchdog", Kind::Choice(WATCHDOG), "its watchdog expires").default("reset"),
        ],
    ),
    flag("no-reboot", Section::Standard, "end instead of rebooting: -action reboot=shutdown", process::no_reboot),
    flag("no-shutdown", Section::Standard, "stop instead of ending when the guest powers off: -action shutdown=pause", process::no_shutdown),
    value("watchdog-action", "action", Section::Standard, "the same as -action watchdog=", process::watchdog_action),
    flag("daemonize", Section::Standard, "go on in the background once everything is set up", process::daemonize),
    value("pidfile", "FILE", Section::Standard, "write the number of the process to this file", process::pid_file),
    value("add-fd", "fd=N,set=N[,opaque=text]", Section::Standard, "put an inherited descriptor into a set: /dev/fdset/N then names it", process::add_fd).keys(
        None,
        &[
            Key::new("fd", Kind::Unsigned(64), "the descriptor, of which a duplicate is put into the set"),
            Key::new("set", Kind::Unsigned(64), "number of the set"),
            Key::new("opaque", Kind::Text, "text that query-fdsets shows"),
        ],
    ),
    value("sandbox", "on|off[,obsolete=allow|deny][,elevateprivileges=allow|deny|children][,spawn=allow|deny][,resourcecontrol=allow|deny]", Section::Standard, "forbid the process what it does not need", process::sandbox).keys(
        Some("enable"),
        &[
            Key::new("enable", Kind::Bool, "whether to").default("off"),
            Key::new("obsolete", Kind::Text, "allow or deny system calls that nothing needs any more").default("deny"),
            Key::new("elevateprivileges", Kind::Text, "allow or deny more privileges, or allow them to children").default("allow"),
            Key::new("spawn", Kind::Text, "allow or deny new processes").default("allow"),
            Key::new("resourcecontrol", Kind::Text, "allow or deny changes of priority and affinity").default("allow"),
        ],
    ),
    value("audiodev", "[driver=]none,id=ID", Section::Standard, "accepted, without effect: nothing makes a sound", process::audiodev),
    flag("enable-kvm", Section::Standard, "the same as -machine accel=kvm", take::enable_kvm),
    flag("S", Section::Standard, "wait for the monitor before the first instruction", take::stopped),
    flag("only-migratable", Section::Standard, "refuse everything that cannot be migrated", take::only_migratable),
    value("device", "driver[,prop[=value][,...]]", Section::Standard, "add a device ('-device help' for a list, '-device DRIVER,help' for its properties)", take::device),
    value("object", "TYPE,id=ID[,prop[=value][,...]]", Section::Objects, "make an object ('-object help' for a list, '-object TYPE,help' for its properties)", take::object),
    value("blockdev", "[driver=]driver,node-name=N[,discard=ignore|unmap][,cache.direct=on|off][,cache.no-flush=on|off]\n[,read-only=on|off][,auto-read-only=on|off][,force-share=on|off][,detect-zeroes=on|off|unmap][,...]", Section::Disks, "a node of the block layer for a -device to name: file, host_device, null-co, raw or qcow2; also as JSON", take::blockdev),
    value("drive", "[file=file][,if=type][,id=name][,format=f][,...]", Section::Disks, "add a disk", take::drive).keys(None, DRIVE_KEYS),
    value("hda", "FILE", Section::Disks, "the first disk", take::disk_image).alias(&["hdb", "hdc", "hdd"]),
    value("pflash", "FILE", Section::Disks, "the firmware of a PC, in flash", take::pflash),
    flag("snapshot", Section::Disks, "throw away at the end what was written to any disk", take::snapshot),
    value("netdev", "user,id=ID[,net=addr/bits][,host=addr][,dhcpstart=addr][,dns=addr][,dnssearch=domain][,ipv4=on|off][,ipv6=on|off]\n       [,hostfwd=[tcp|udp]:[hostaddr]:hostport-[guestaddr]:guestport]\n-netdev stream,id=ID[,server=on|off],addr.type=unix|inet|fd[,addr.path=path][,addr.host=host,addr.port=port][,addr.str=fd][,reconnect=seconds]\n-netdev dgram,id=ID,local.type=unix|inet|fd[,...][,remote.type=unix|inet][,...]\n-netdev socket,id=ID[,fd=N][,listen=[host]:port][,connect=host:port][,udp=host:port,localaddr=host:port]\n-netdev tap,id=ID[,fd=N][,ifname=name,script=no,downscript=no]", Section::Network, "where a guest's network leads ('-netdev help' for a list): user is the host's network, by the program passt;\nthe others carry packets to another program", network::netdev),
    value("nic", "[user|stream|dgram|socket|tap|none][,id=ID][,model=virtio][,mac=addr][,...]", Section::Network, "a network device with its -netdev; none makes no network device, which is also the default", network::nic),
    value("net", "nic[,macaddr=addr][,model=virtio][,netdev=ID] or user|socket|tap[,...] or none", Section::Network, "the older form: a network device, and where its network leads", network::net),
    flag("nographic", Section::Display, "no graphics; the console and the monitor are this terminal", take::nographic),
    value("display", "none", Section::Display, "there is no other display yet", take::display),
    value("vga", "none", Section::Display, "there is no graphics card", take::vga),
    value("serial", "dev", Section::Characters, "connect the console: stdio, mon:stdio, unix:PATH[,...], tcp:HOST:PORT[,...], pty, file:FILE, pipe:PATH,\nnull, none or chardev:ID", characters::serial),
    value("chardev", "backend,id=ID[,key[=value]][,...]", Section::Characters, "a place for characters ('-chardev help' for a list)", characters::chardev).keys(Some("backend"), chardev::KEYS),
    value("parallel", "none", Section::Characters, "no machine has that port", characters::parallel),
    value("mon", "[chardev=]ID[,mode=readline|control][,pretty=on|off]", Section::Characters, "a monitor on a chardev", characters::mon).keys(
        Some("chardev"),
        &[
            Key::new("chardev", Kind::Text, "id of the chardev"),
            Key::new("mode", Kind::Choice(&["readline", "control"]), "for people or QMP").default("readline"),
            Key::new("pretty", Kind::Bool, "indent QMP").default("off"),
        ],
    ),
    value("monitor", "dev", Section::Characters, "a monitor for people: stdio, unix:PATH[,server=on[,wait=off]], tcp:HOST:PORT[,...], pty, file:FILE,\npipe:PATH, null, none or chardev:ID; without server=on a socket connects", characters::monitor),
    value("qmp", "dev", Section::Characters, "a QMP monitor, in the same places; unix:fd=N is an inherited socket", characters::qmp),
    value("qmp-pretty", "dev", Section::Characters, "the same, indented", characters::qmp_pretty),
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
    value("inject", "mechanism.operation=status[@n]", Section::Debug, "make the nth such operation of the model platform's firmware fail, by default the first\n('-inject help' for operations and statuses); may be repeated: sev.launch_secret=HWERROR_PLATFORM@1", take::inject),
    value("gdb", "dev", Section::Debug, "wait for gdb: tcp::PORT, unix:PATH,server=on,wait=off, stdio, pty, chardev:ID or none", characters::gdb),
    flag("s", Section::Debug, "the same as -gdb tcp::1234", characters::gdb_default),
    value("memory-map", "FILE.svg|FILE.png", Section::Debug, "at the end, draw who owns each page of the guest's memory", process::memory_map),
    value("d", "item1,...", Section::Debug, "log these items ('-d help' for a list)", process::log_items),
    value("D", "FILE", Section::Debug, "log to this file", process::log_file),
    value("trace", "[[enable=]pattern][,events=file][,file=file]", Section::Debug, "trace events", process::trace).alias(&["T"]).keys(
        Some("enable"),
        &[
            Key::new("enable", Kind::Text, "pattern of event names, such as kvm_sev_*"),
            Key::new("events", Kind::Text, "file with a pattern on each line"),
            Key::new("file", Kind::Text, "where to write the events"),
        ],
    ),
    later("cdrom"),
    later("sd"),
    later("global"),
    later("set"),
    later("readconfig"),
    later("incoming"),
    later("loadvm"),
    later("fw_cfg"),
    later("audio"),
    later("vnc"),
    later("spice"),
    later("run-with"),
    later("runas"),
    later("numa"),
    later("smbios"),
    later("acpitable"),
    later("usbdevice"),
    later("virtfs"),
    later("fsdev"),
    later("tpmdev"),
    later("k"),
    later("dtb"),
    later("plugin"),
    later("semihosting-config"),
    later("debugcon"),
    later("compat"),
    later_flag("preconfig"),
    later_flag("usb"),
    later_flag("full-screen"),
    later_flag("semihosting"),
];
