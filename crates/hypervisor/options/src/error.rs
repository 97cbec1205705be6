//! What can be wrong with a command line, in QEMU's words where QEMU has words for it.
//!
//! Nothing here prints: the binary does, with the name under which it was called.

use std::fmt;

/// The option as the user typed it (`-object sev-guest`), which prefixes every message about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location(String);

impl Location {
    /// The location of an option with its argument, as typed.
    pub fn new(option: &str, argument: Option<&str>) -> Self {
        match argument {
            Some(argument) => Self(format!("{option} {argument}")),
            None => Self(option.to_owned()),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A refused command line: exit status 1, nothing was started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}", prefix(.location.as_ref()))]
pub struct OptionError {
    /// The option that is at fault, if one option alone is.
    pub location: Option<Location>,
    /// What is wrong.
    pub problem: Problem,
}

impl OptionError {
    /// The whole message for stderr: `PROG: LOCATION: text` and hint lines, without the final newline.
    pub fn report(&self, program: &str) -> String {
        let at = prefix(self.location.as_ref());
        let line = |problem: &Problem| format!("{program}: {at}{problem}");
        match &self.problem {
            Problem::Several(problems) => problems.iter().map(line).collect::<Vec<_>>().join("\n"),
            problem => line(problem),
        }
    }

    /// The message alone, without location and hint lines: what a monitor answers.
    pub fn headline(&self) -> String {
        let text = self.problem.to_string();
        text.lines().next().unwrap_or_default().to_owned()
    }
}

/// Something the user should hear about although the run goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The option that caused it.
    pub location: Option<Location>,
    /// The text, with hint lines after a newline.
    pub text: String,
    /// Whether the text begins with the word "warning"; otherwise it only says what was done.
    pub is_warning: bool,
}

impl Warning {
    /// The whole message for stderr: `PROG: LOCATION: warning: text`.
    pub fn report(&self, program: &str) -> String {
        let word = if self.is_warning { "warning: " } else { "" };
        format!("{program}: {}{word}{}", prefix(self.location.as_ref()), self.text)
    }
}

/// One way in which a command line can be wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what it means and what its fields are")]
pub enum Problem {
    #[error("invalid option")]
    InvalidOption,
    #[error("requires an argument")]
    RequiresArgument,
    #[error("no machines for target '{0}' in this version of Cloister; it has {1}")]
    UnknownTarget(String, String),
    #[error("{0} is not part of this version of Cloister{1}")]
    NotAvailable(String, String),

    #[error("Parameter '{0}' is missing")]
    Missing(String),
    #[error("Invalid parameter '{0}'")]
    InvalidParameter(String),
    #[error("Parameter '{0}' is unexpected")]
    Unexpected(String),
    #[error("Parameter '{name}' expects {what}")]
    Expects { name: String, what: &'static str },
    #[error(
        "Parameter '{0}' expects an identifier\nIdentifiers consist of letters, digits, '-', '.', '_', starting with a letter."
    )]
    NotAnIdentifier(String),
    #[error(
        "Parameter '{0}' expects a non-negative number below 2^64\nOptional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\nand exabytes, respectively."
    )]
    NotASize(String),
    #[error("Value '{value}' is out of range for parameter '{name}'")]
    OutOfRange { name: String, value: String },
    #[error("Parameter '{name}' does not accept value '{value}'")]
    DoesNotAccept { name: String, value: String },
    #[error("Invalid parameter type for '{name}', expected: {expected}")]
    WrongType { name: String, expected: &'static str },
    #[error("Expected '=' after parameter '{0}'")]
    ExpectedEquals(String),
    #[error("Parameter '{0}' missing")]
    MissingElement(String),
    #[error("Parameters '{0}.*' used inconsistently")]
    Inconsistent(String),
    #[error("Parameter '{0}' is nested too deeply")]
    TooDeep(String),
    /// Several messages, each on a line with program and location of its own.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Several(Vec<Problem>),
    #[error("{0}: {1}")]
    At(Location, Box<Problem>),
    #[error("JSON parse error, {0}")]
    Json(String),
    #[error("Expecting at most one JSON value")]
    TrailingJson,
    #[error("Duplicate ID '{id}' for {what}")]
    DuplicateId { id: String, what: &'static str },

    #[error("Duplicate device ID '{0}'")]
    DuplicateDevice(String),

    #[error("unsupported machine type\nUse -machine help to list supported machines")]
    UnsupportedMachine,
    #[error("Property '{class}.{name}' not found")]
    PropertyNotFound { class: String, name: String },
    #[error("LOADPARM: invalid character '{}' (ASCII 0x{:02x})", .0.escape_default(), u32::from(*.0))]
    Loadparm(char),
    #[error("LOADPARM: '{0}' is longer than 8 characters")]
    LoadparmLength(String),
    #[error("No machine specified, and there is no default\nUse -machine help to list supported machines")]
    NoDefaultMachine,
    #[error("invalid accelerator {0}")]
    InvalidAccelerator(String),
    #[error("The -accel and \"-machine accel=\" options are incompatible")]
    AccelTwice,
    #[error("Invalid 'thread' setting {0}")]
    AccelThread(String),
    #[error("Memory backend '{0}' not found")]
    MemoryBackendNotFound(String),
    #[error("Machine memory size does not match the size of the memory backend")]
    MemoryBackendSize,
    #[error("'-mem-path' can't be used together with '-machine memory-backend'")]
    MemoryPathAndBackend,

    #[error("-cpu option cannot be empty")]
    EmptyCpu,
    #[error("unable to find CPU model '{0}'")]
    UnknownCpu(String),
    #[error("Expected key=value format, found {0}.")]
    CpuFeatureForm(String),
    #[error("can't apply global {model}-s390x-cpu.{feature}={value}: {problem}")]
    CpuFeature { model: String, feature: String, value: String, problem: Box<Problem> },

    #[error("ram size must be multiples of 1 MiB")]
    RamGranularity,
    #[error(
        "invalid value of maxmem: maximum memory size ({max:#x}) must be at least the initial memory size ({size:#x})"
    )]
    MaxmemBelowSize { max: u64, size: u64 },
    #[error("slots specified but no max-size")]
    SlotsWithoutMaxmem,
    #[error("Invalid CPU topology: CPU topology parameters must be greater than zero")]
    SmpZero,
    #[error("Invalid CPU topology: {0}")]
    SmpTopology(String),
    #[error("{0} not supported by this machine's CPU topology")]
    SmpLevel(&'static str),
    #[error("Invalid SMP CPUs {cpus}. The max CPUs supported by machine '{machine}' is {max}")]
    SmpCount { cpus: i64, machine: String, max: u32 },
    #[error("S390 does not support more than 1 threads.")]
    SmpThreads,

    #[error("{0} only allowed with -kernel option")]
    NeedsKernel(&'static str),
    #[error(
        "The -kernel parameter is not supported by machine 'none', which has no CPU to run it; choose a machine with -machine"
    )]
    KernelWithoutMachine,
    #[error("invalid object type: {0}")]
    InvalidObjectType(String),
    #[error("property '{name}' of {class} doesn't take value '{value}'")]
    ObjectValue { class: String, name: String, value: String },
    #[error("Either 'file' or 'data' must be provided")]
    SecretSource,
    #[error("Device '{0}' not found")]
    NotFound(String),
    #[error("'{0}' is not a valid device model name")]
    NotADevice(String),
    #[error("Property '{class}.{name}' can't find value '{value}'")]
    CannotFindValue { class: String, name: String, value: String },
    #[error("Property '{class}.{name}' doesn't take value '{value}'")]
    DeviceValue { class: String, name: String, value: String },
    #[error("Invalid cssid or ssid: cssid {cssid:x}, ssid {ssid:x}")]
    ChannelPath { cssid: u8, ssid: u8 },
    #[error("Device {0} already exists")]
    DeviceNumberTaken(String),
    #[error("Bus '{0}' not found")]
    BusNotFound(String),
    #[error("Device '{driver}' can't go on {bus} bus")]
    WrongBus { driver: String, bus: &'static str },
    #[error("No '{bus}' bus found for device '{driver}'")]
    NoBus { driver: String, bus: &'static str },
    #[error("Property '{class}.{name}' can't take value '{value}': Device '{value}' is in use")]
    ValueInUse { class: String, name: String, value: String },
    #[error("Multiple {0} operator consoles are not supported")]
    TwoConsoles(&'static str),
    #[error("SCLP event initialization failed.")]
    SclpEvent,
    #[error("drive property not set")]
    DriveNotSet,
    #[error("Drive '{0}' is already in use by another block device")]
    DriveInUse(String),
    #[error(
        "Drive '{0}' is already in use because it has been automatically connected to another device (did you need 'if=none' in the drive options?)"
    )]
    DriveConnected(String),

    #[error("Must specify either driver or file")]
    DriveWithoutFile,
    #[error("Device needs media, but drive is empty")]
    DriveEmpty,
    #[error("unsupported bus type '{0}'")]
    DriveBus(String),
    #[error("machine type does not support if={bus},bus=0,unit={unit}")]
    DriveBusHere { bus: String, unit: u32 },
    #[error("drive with bus=0, unit={0} (index={0}) exists")]
    DriveIndexTaken(u32),
    #[error("index cannot be used with bus and unit")]
    DriveIndexAndUnit,
    #[error("Cannot specify both 'driver' and 'format'")]
    DriveDriverAndFormat,
    #[error("Unknown driver '{0}'")]
    UnknownDriver(String),
    #[error("Block format '{format}' does not support the option '{name}'")]
    BlockOption { format: String, name: String },
    #[error("invalid cache option")]
    CacheMode,
    #[error("'{0}' invalid media")]
    Media(String),
    #[error("'{0}' invalid write error action")]
    WriteErrorAction(String),
    #[error("'{0}' invalid read error action")]
    ReadErrorAction(String),

    #[error("'node-name' must be specified for the root node")]
    RootNodeWithoutName,
    #[error("Invalid node-name: '{0}'")]
    NodeName(String),
    #[error("Node name too long")]
    NodeNameLength,
    #[error("node-name={0} is conflicting with a device id")]
    NodeNameOfDrive(String),
    #[error("Device name '{0}' conflicts with an existing node name")]
    DriveNamedAsNode(String),
    #[error("Duplicate nodes with node-name='{0}'")]
    DuplicateNode(String),
    #[error("Cannot find device='{0}' nor node-name='{0}'")]
    NodeNotFound(String),
    #[error("setting detect-zeroes to unmap is not allowed without setting discard operation to unmap")]
    DetectZeroesUnmap,
    #[error("aio=native was specified, but it requires cache.direct=on, which was not specified.")]
    AioNative,
    #[error("latency-ns is invalid")]
    NullLatency,
    #[error("size is invalid")]
    NullSize,
    #[error("Help is not available for this option")]
    NoHelp,
    #[error("num-queues property must be larger than 0")]
    QueuesMissing,
    #[error("invalid queue-size property ({0}), must be a power of 2 (max 1024)")]
    QueueSize(u64),
    #[error("Property .{name} doesn't take value '{value}', it's not a power of 2")]
    NotAPower { name: &'static str, value: u64 },
    #[error("Property .{name} doesn't take value {value} (minimum: 512, maximum: 2097152)")]
    BlockSize { name: &'static str, value: u64 },
    #[error("logical_block_size > physical_block_size not supported")]
    BlockSizes,
    #[error("The bootindex {0} has already been used")]
    BootIndexTaken(i32),

    #[error("'{0}' is not a valid char driver")]
    CharDriver(String),
    #[error("'{0}' is not a valid char driver name")]
    CharDriverName(String),
    #[error("chardev: no id specified")]
    CharWithoutId,
    #[error("chardev \"{0}\" not found")]
    ChardevNotFound(String),
    #[error("cannot use stdio by multiple character devices")]
    StdioTwice,
    #[error("cannot use stdio with -daemonize")]
    StdioDaemon,
    #[error("-nographic cannot be used with -daemonize")]
    NographicDaemon,
    #[error("could not connect serial device to character backend '{0}'")]
    SerialBackend(String),
    #[error("parse error: {0}")]
    MonitorBackend(String),
    #[error("chardev: \"{0}\" missing backend")]
    CharWithoutBackend(String),
    #[error("chardev: file: no filename given")]
    CharFileName,
    #[error("chardev: pipe: no device path given")]
    CharPipePath,
    #[error("chardev: socket: no port given")]
    CharSocketPort,
    #[error("chardev: socket: no address given; one of 'path', 'host' and 'fd' is required")]
    CharSocketAddress,
    #[error("None or one of 'path', 'fd' or 'host' option required.")]
    CharSocketAddresses,
    #[error("UNIX socket path '{0}' is too long\nPath must be less than 108 bytes")]
    CharSocketPath(String),
    #[error("Unable to parse FD number {0}")]
    CharSocketFd(String),
    #[error("'{0}' is not a TCP port; give a number from 0 to 65535")]
    CharPort(String),
    #[error("'delay' and 'nodelay' are mutually exclusive")]
    CharDelay,
    #[error("'wait' option is incompatible with socket in client connect mode")]
    CharWaitAsClient,
    #[error("'reconnect' option is incompatible with socket in server listen mode")]
    CharReconnectAsServer,
    #[error("Failed to add chardev '{id}': {problem}")]
    CharAddFailed { id: String, problem: Box<Problem> },
    #[error("Device '{0}' is in use")]
    CharInUse(String),
    #[error("chardev '{0}' has mux=on, but QMP does not share; give it a chardev of its own")]
    CharMuxForQmp(String),
    #[error("'pretty' is not compatible with HMP monitors")]
    PrettyForPeople,
    #[error("gdbstub: meaningless to attach gdb to a machine without any CPU.")]
    GdbWithoutCpu,
    #[error(
        "gdbstub: '{0}' is no place to wait for gdb; use tcp::PORT, unix:PATH,server=on,wait=off or chardev:ID"
    )]
    GdbBackend(String),

    #[error("IPv4 and IPv6 disabled")]
    NetNoProtocol,
    #[error("Failed to parse {0}")]
    NetParse(&'static str),
    #[error("{0} doesn't belong to network")]
    NetOutside(&'static str),
    #[error("{0} must be different from {1}")]
    NetSame(&'static str, &'static str),
    #[error("Invalid host forwarding rule '{rule}' ({reason})")]
    NetForward { rule: String, reason: &'static str },
    #[error("dgram requires local= parameter")]
    NetDgramLocal,
    #[error("don't set remote with local.fd")]
    NetDgramFdRemote,
    #[error("type=inet or type=unix requires remote parameter")]
    NetDgramRemote,
    #[error("remote and local types must be the same")]
    NetDgramTypes,
    #[error("exactly one of listen=, connect=, mcast= or udp= is required")]
    NetSocketWay,
    #[error("localaddr= is only valid with mcast= or udp=")]
    NetSocketLocal,
    #[error("localaddr= is mandatory with udp=")]
    NetUdpLocal,
    #[error("host address '{0}' doesn't contain ':' separating host from port")]
    NetHostPort(String),
    #[error(
        "ifname=, script=, downscript=, vnet_hdr=, helper=, queues=, fds=, and vhostfds= are invalid with fd="
    )]
    NetTapFd,
    #[error("invalid syntax for ethernet address")]
    NetEthernet,
    #[error("Unsupported NIC model: {0}")]
    NetModel(String),
    #[error("netdev '{0}' not found")]
    NetdevNotFound(String),
    #[error("Property '{class}.{name}' can't take value '{value}', it's in use")]
    NetdevInUse { class: String, name: String, value: String },
    #[error(
        "hub 0 would have more than one {0}, and there are no hubs; give each device a -netdev of its own"
    )]
    NetHub(&'static str),

    #[error("fd option is required and must be non-negative")]
    FdRequired,
    #[error("set option is required and must be non-negative")]
    FdSetRequired,
    #[error("fd cannot be a standard I/O stream")]
    FdStandard,
    #[error("invalid argument for {0}")]
    SandboxArgument(&'static str),
    #[error("the picture '{0}' would be in a format that is not known; end its name in .svg or .png")]
    PictureFormat(String),
    #[error("log item '{0}' is not known\n{list}", list = crate::help::log_items().trim_end())]
    LogItem(String),

    #[error("failed to parse UUID string: wrong format")]
    Uuid,
    #[error("invalid datetime format\nvalid formats: '2006-06-17T16:01:21' or '2006-06-17'")]
    DateTime,
    #[error("invalid option value '{0}'")]
    InvalidValue(String),
    #[error("Invalid boot device '{0}'")]
    BootDevice(char),
    #[error("icount: Invalid shift value")]
    IcountShift,
    #[error("Please specify shift option when using align")]
    IcountAlign,
    #[error("align=on and sleep=off are incompatible")]
    IcountAlignSleep,
    #[error("Invalid seed number: {0}")]
    Seed(String),
    #[error(
        "Invalid injection: {0}\nIt is MECHANISM.OPERATION=STATUS[@N], for example sev.launch_secret=HWERROR_PLATFORM@1;\n'-inject help' lists operations and statuses."
    )]
    Inject(String),
}

impl Problem {
    /// This problem at an option.
    pub fn at(self, location: &Location) -> OptionError {
        OptionError { location: Some(location.clone()), problem: self }
    }

    /// This problem of the command line as a whole.
    pub fn anywhere(self) -> OptionError {
        OptionError { location: None, problem: self }
    }
}

fn prefix(location: Option<&Location>) -> String {
    location.map(|location| format!("{location}: ")).unwrap_or_default()
}
