//! Block nodes: what `-blockdev` and `blockdev-add` describe, and what every `-drive` turns into (QEMU QAPI Reference,
//! `BlockdevOptions`). Nested nodes become nodes of their own, children first.
//!
//! Only the words: images are opened by the machine, which also knows who uses a node.

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::command_line::{Drive, DriveFormat};
use crate::error::{Location, OptionError, Problem};
use crate::keyval::parse_keyval;
use crate::value::{parse_bool, parse_identifier};

/// A node of the block layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockNode {
    /// Its name: given, or `#block` with a number.
    pub name: String,
    /// Whether the user named it at the root of an option: only such a node can be deleted on its own.
    pub explicit: bool,
    /// What it does.
    pub driver: NodeDriver,
    /// `read-only=`.
    pub read_only: bool,
    /// `auto-read-only=`: fall back to read-only where writing is not allowed.
    pub auto_read_only: bool,
    /// `discard=unmap`: pass on what the guest discards.
    pub discard: bool,
    /// `detect-zeroes=`.
    pub detect_zeroes: DetectZeroes,
    /// `cache.direct=`.
    pub direct: bool,
    /// `cache.no-flush=`: never flush to the host's disk.
    pub no_flush: bool,
    /// `force-share=`: read an image that others write.
    pub force_share: bool,
    /// Where it was given.
    pub location: Location,
}

/// What a node does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeDriver {
    /// A regular file.
    File {
        /// Its name.
        filename: PathBuf,
        /// `locking=`; `None`: if the file system can.
        locking: Option<bool>,
    },
    /// A device of the host.
    HostDevice {
        /// Its name.
        filename: PathBuf,
        /// `locking=`; `None`: if the file system can.
        locking: Option<bool>,
    },
    /// Nothing: what is written is forgotten.
    Null {
        /// Bytes.
        size: u64,
        /// Whether reads give zeros; else they give whatever was in the buffer, here zeros too.
        read_zeroes: bool,
        /// `null-aio` instead of `null-co`.
        aio: bool,
    },
    /// The bytes of another node, or a window of them.
    Raw {
        /// The node below.
        file: String,
        /// Where the window begins.
        offset: u64,
        /// Its length; `None`: to the end.
        size: Option<u64>,
    },
    /// QEMU's copy-on-write format.
    Qcow2 {
        /// The node below.
        file: String,
        /// What lies behind it.
        backing: Backing,
    },
    /// The format that the first bytes of the node below tell: `-drive` without `format=`.
    Probe {
        /// The node below.
        file: String,
    },
    /// Keeps what is written apart and forgets it at the end: `snapshot=on`.
    Overlay {
        /// The node below.
        file: String,
    },
}

/// What lies behind a copy-on-write image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backing {
    /// What the image says.
    Default,
    /// Nothing, whatever the image says.
    Nothing,
    /// This node.
    Node(String),
}

/// `detect-zeroes=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum DetectZeroes {
    #[default]
    Off,
    On,
    Unmap,
}

impl DetectZeroes {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::On => "on",
            Self::Unmap => "unmap",
        }
    }
}

impl NodeDriver {
    /// The name of the driver. [`Probe`](Self::Probe) has none until the image was seen.
    pub fn name(&self) -> &'static str {
        match self {
            Self::File { .. } => "file",
            Self::HostDevice { .. } => "host_device",
            Self::Null { aio: false, .. } => "null-co",
            Self::Null { aio: true, .. } => "null-aio",
            Self::Raw { .. } | Self::Probe { .. } => "raw",
            Self::Qcow2 { .. } => "qcow2",
            Self::Overlay { .. } => "snapshot",
        }
    }

    /// The node that holds its data.
    pub fn file(&self) -> Option<&str> {
        match self {
            Self::Raw { file, .. }
            | Self::Qcow2 { file, .. }
            | Self::Probe { file }
            | Self::Overlay { file } => Some(file),
            Self::File { .. } | Self::HostDevice { .. } | Self::Null { .. } => None,
        }
    }

    /// The node behind it.
    pub fn backing(&self) -> Option<&str> {
        match self {
            Self::Qcow2 { backing: Backing::Node(name), .. } => Some(name),
            _ => None,
        }
    }
}

/// A tree of nodes as one option describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blockdev {
    root: Parsed,
}

/// Read the argument of `-blockdev`.
pub fn parse_blockdev_text(text: &str, location: &Location) -> Result<Blockdev, Problem> {
    if let Some(members) = crate::parser::take::json_members(text)? {
        return read(&members, false, location);
    }
    let parsed = parse_keyval(text, Some("driver"))?;
    if parsed.help {
        return Err(Problem::NoHelp);
    }
    read(&parsed.tree, true, location)
}

/// Read the arguments of `blockdev-add`. Nothing is compared with other nodes: [`Blockdev::add_to`] does that.
pub fn parse_blockdev_json(members: &Map<String, Value>) -> Result<Blockdev, OptionError> {
    let location = Location::new("blockdev-add", None);
    read(members, false, &location).map_err(Problem::anywhere)
}

impl Blockdev {
    /// Names the nodes, checks the names and references against those that there are, and returns the new nodes,
    /// children first. `drives` are ids that no node may have.
    pub fn add_to(self, nodes: &[BlockNode], drives: &[&str]) -> Result<Vec<BlockNode>, Problem> {
        if self.root.name.is_none() {
            return Err(Problem::RootNodeWithoutName);
        }
        let mut new = Vec::new();
        place(self.root, nodes, drives, true, &mut new)?;
        Ok(new)
    }
}

impl Drive {
    /// The nodes behind this drive, children first; the last one is its root. An empty drive has none.
    pub(crate) fn nodes(&self, before: &[BlockNode]) -> Result<Vec<BlockNode>, Problem> {
        let Some(filename) = self.file.clone() else { return Ok(Vec::new()) };
        let (direct, no_flush) = match self.cache.as_deref() {
            Some("none" | "off" | "directsync") => (true, false),
            Some("unsafe") => (false, true),
            _ => (false, false),
        };
        let read_only = self.read_only || self.snapshot;
        let parsed = |name, driver, read_only| Parsed {
            name,
            driver,
            read_only: Some(read_only),
            auto_read_only: false,
            discard: self.discard,
            detect_zeroes: DetectZeroes::Off,
            direct: Some(direct),
            no_flush: Some(no_flush),
            force_share: None,
            location: self.location.clone(),
        };
        // A disk of the host is one whatever the drive's driver says; only the machine can tell.
        let file = parsed(None, ParsedDriver::File { filename, locking: None, device: None }, read_only);
        let below = |node: Parsed| ParsedRef::Inline(Box::new(node));
        let name = |root: bool| self.node_name.clone().filter(|_| root);
        let mut root = match self.format {
            Some(DriveFormat::Raw) => parsed(
                name(!self.snapshot),
                ParsedDriver::Raw { file: below(file), offset: 0, size: None },
                read_only,
            ),
            Some(DriveFormat::Qcow2) => parsed(
                name(!self.snapshot),
                ParsedDriver::Qcow2 { file: below(file), backing: ParsedBacking::Default },
                read_only,
            ),
            None => parsed(name(!self.snapshot), ParsedDriver::Probe { file: below(file) }, read_only),
        };
        if self.snapshot {
            root = parsed(name(true), ParsedDriver::Overlay { file: below(root) }, self.read_only);
        }
        root.detect_zeroes = self.detect_zeroes;
        let mut new = Vec::new();
        place(root, before, &[], false, &mut new)?;
        Ok(new)
    }
}

/// A node that has no name yet, with its children.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Parsed {
    name: Option<String>,
    driver: ParsedDriver,
    read_only: Option<bool>,
    auto_read_only: bool,
    discard: bool,
    detect_zeroes: DetectZeroes,
    direct: Option<bool>,
    no_flush: Option<bool>,
    force_share: Option<bool>,
    location: Location,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum ParsedRef {
    Name(String),
    Inline(Box<Parsed>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum ParsedBacking {
    Default,
    Nothing,
    Node(ParsedRef),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum ParsedDriver {
    /// Whether it must be a device; `None`: whatever it is.
    File {
        filename: PathBuf,
        locking: Option<bool>,
        device: Option<bool>,
    },
    Null {
        size: u64,
        read_zeroes: bool,
        aio: bool,
    },
    Raw {
        file: ParsedRef,
        offset: u64,
        size: Option<u64>,
    },
    Qcow2 {
        file: ParsedRef,
        backing: ParsedBacking,
    },
    Probe {
        file: ParsedRef,
    },
    Overlay {
        file: ParsedRef,
    },
}

/// Most nodes below one another; a hostile argument must not exhaust the stack.
const MAX_DEPTH: usize = 16;

/// Drivers of QEMU that there are not here.
const OTHERS: &[&str] = &[
    "blkdebug",
    "blklogwrites",
    "blkreplay",
    "blkverify",
    "bochs",
    "cloop",
    "compress",
    "copy-before-write",
    "copy-on-read",
    "dmg",
    "ftp",
    "ftps",
    "gluster",
    "host_cdrom",
    "http",
    "https",
    "iscsi",
    "luks",
    "nbd",
    "nfs",
    "nvme",
    "parallels",
    "preallocate",
    "qcow",
    "qed",
    "quorum",
    "rbd",
    "replication",
    "snapshot-access",
    "ssh",
    "throttle",
    "vdi",
    "vhdx",
    "vmdk",
    "vpc",
    "vvfat",
];

fn read(members: &Map<String, Value>, texts: bool, location: &Location) -> Result<Blockdev, Problem> {
    let root = node(members, texts, "", 0, location)?;
    Ok(Blockdev { root })
}

/// Members in the order of the schema, because the first wrong one is told.
fn node(
    members: &Map<String, Value>,
    texts: bool,
    path: &str,
    depth: usize,
    location: &Location,
) -> Result<Parsed, Problem> {
    if depth >= MAX_DEPTH {
        return Err(Problem::TooDeep(path.trim_end_matches('.').to_owned()));
    }
    let mut known = vec![
        "driver",
        "node-name",
        "discard",
        "cache",
        "read-only",
        "auto-read-only",
        "force-share",
        "detect-zeroes",
    ];
    let r = Reader { members, texts, path };
    let driver = r.text("driver")?.ok_or_else(|| r.missing("driver"))?;
    let name = r.text("node-name")?.map(str::to_owned);
    let discard = r.word("discard", &["ignore", "unmap"])? == Some("unmap");
    let (direct, no_flush) = match r.object("cache")? {
        None => (None, None),
        Some(cache) => {
            let path = format!("{path}cache.");
            let r = Reader { members: cache, texts, path: &path };
            let found = (r.bool("direct")?, r.bool("no-flush")?);
            r.no_others(&["direct", "no-flush"])?;
            found
        }
    };
    let read_only = r.bool("read-only")?;
    let auto_read_only = r.bool("auto-read-only")?.unwrap_or(false);
    let force_share = r.bool("force-share")?;
    let detect_zeroes = match r.word("detect-zeroes", &["off", "on", "unmap"])? {
        Some("on") => DetectZeroes::On,
        Some("unmap") => DetectZeroes::Unmap,
        _ => DetectZeroes::Off,
    };
    let below = |name: &'static str| -> Result<Option<ParsedRef>, Problem> {
        match members.get(name) {
            None => Ok(None),
            Some(Value::String(name)) => Ok(Some(ParsedRef::Name(name.clone()))),
            Some(Value::Object(inner)) => node(inner, texts, &format!("{path}{name}."), depth + 1, location)
                .map(|node| Some(ParsedRef::Inline(Box::new(node)))),
            Some(_) => Err(Problem::WrongType { name: format!("{path}{name}"), expected: "BlockdevRef" }),
        }
    };
    let driver = match driver {
        "file" | "host_device" => {
            known.extend(["filename", "pr-manager", "locking", "aio", "aio-max-batch", "drop-cache"]);
            known.push("x-check-cache-dropped");
            let filename = r.text("filename")?.ok_or_else(|| r.missing("filename"))?;
            if r.text("pr-manager")?.is_some() {
                return Err(Problem::NotAvailable("pr-manager".to_owned(), String::new()));
            }
            let locking = match r.word("locking", &["auto", "on", "off"])? {
                Some("on") => Some(true),
                Some("off") => Some(false),
                _ => None,
            };
            let aio = r.word("aio", &["threads", "native", "io_uring"])?;
            r.int("aio-max-batch")?;
            r.bool("drop-cache")?;
            r.bool("x-check-cache-dropped")?;
            if aio == Some("native") && direct != Some(true) {
                return Err(Problem::AioNative);
            }
            ParsedDriver::File {
                filename: PathBuf::from(filename),
                locking,
                device: Some(driver == "host_device"),
            }
        }
        "null-co" | "null-aio" => {
            known.extend(["size", "latency-ns", "read-zeroes"]);
            let size = r.int("size")?.unwrap_or(1 << 30);
            let latency = r.int("latency-ns")?.unwrap_or(0);
            if latency < 0 {
                return Err(Problem::NullLatency);
            }
            let size = u64::try_from(size).map_err(|_| Problem::NullSize)?;
            let read_zeroes = r.bool("read-zeroes")?.unwrap_or(false);
            ParsedDriver::Null { size, read_zeroes, aio: driver == "null-aio" }
        }
        "raw" => {
            known.extend(["file", "offset", "size"]);
            let file = below("file")?.ok_or_else(|| r.missing("file"))?;
            let number = |name| -> Result<Option<u64>, Problem> {
                let number = r.int(name)?;
                let refuse = |_| Problem::Expects { name: format!("{path}{name}"), what: "a size" };
                number.map(|number| u64::try_from(number).map_err(refuse)).transpose()
            };
            ParsedDriver::Raw { file, offset: number("offset")?.unwrap_or(0), size: number("size")? }
        }
        "qcow2" => {
            known.extend(["file", "backing", "lazy-refcounts", "pass-discard-request"]);
            known.extend(["pass-discard-snapshot", "pass-discard-other", "discard-no-unref"]);
            known.extend(["cache-size", "l2-cache-size", "l2-cache-entry-size", "refcount-cache-size"]);
            known.extend(["cache-clean-interval", "overlap-check"]);
            let file = below("file")?.ok_or_else(|| r.missing("file"))?;
            let backing = match members.get("backing") {
                None => ParsedBacking::Default,
                Some(Value::Null) => ParsedBacking::Nothing,
                Some(Value::String(name)) if name.is_empty() => ParsedBacking::Nothing,
                Some(_) => below("backing")?.map_or(ParsedBacking::Nothing, ParsedBacking::Node),
            };
            for name in ["lazy-refcounts", "pass-discard-request", "pass-discard-snapshot"] {
                r.bool(name)?;
            }
            for name in ["pass-discard-other", "discard-no-unref"] {
                r.bool(name)?;
            }
            for name in ["cache-size", "l2-cache-size", "l2-cache-entry-size", "refcount-cache-size"] {
                r.int(name)?;
            }
            r.int("cache-clean-interval")?;
            if let Some(name) = ["encrypt", "data-file"].into_iter().find(|name| members.contains_key(*name))
            {
                return Err(Problem::NotAvailable(format!("'{name}' of qcow2"), String::new()));
            }
            ParsedDriver::Qcow2 { file, backing }
        }
        other if OTHERS.contains(&other) => {
            let instead = "; it has file, host_device, null-co, null-aio, raw and qcow2".to_owned();
            return Err(Problem::NotAvailable(format!("block driver '{other}'"), instead));
        }
        other => {
            return Err(Problem::DoesNotAccept { name: "driver".to_owned(), value: other.to_owned() });
        }
    };
    r.no_others(&known)?;
    if detect_zeroes == DetectZeroes::Unmap && !discard {
        return Err(Problem::DetectZeroesUnmap);
    }
    Ok(Parsed {
        name,
        driver,
        read_only,
        auto_read_only,
        discard,
        detect_zeroes,
        direct,
        no_flush,
        force_share,
        location: location.clone(),
    })
}

/// Gives a node and those below it their names and puts them behind `new`, children first. Returns the name.
fn place(
    mut parsed: Parsed,
    nodes: &[BlockNode],
    drives: &[&str],
    explicit: bool,
    new: &mut Vec<BlockNode>,
) -> Result<String, Problem> {
    let location = parsed.location.clone();
    // What a child does not say itself it takes from its parent.
    let (read_only, force_share) = (parsed.read_only.unwrap_or(false), parsed.force_share.unwrap_or(false));
    let (direct, no_flush) = (parsed.direct.unwrap_or(false), parsed.no_flush.unwrap_or(false));
    let below = |child: ParsedRef, new: &mut Vec<BlockNode>, behind: bool| match child {
        ParsedRef::Name(name) => match nodes.iter().chain(new.iter()).any(|node| node.name == name) {
            true => Ok(name),
            false => Err(Problem::NodeNotFound(name)),
        },
        ParsedRef::Inline(mut child) => {
            child.read_only = child.read_only.or(Some(read_only || behind));
            child.force_share = child.force_share.or(Some(force_share));
            child.direct = child.direct.or(Some(direct));
            child.no_flush = child.no_flush.or(Some(no_flush));
            // Whether to discard is decided above; a node without an opinion passes it on.
            child.discard |= !behind;
            place(*child, nodes, drives, false, new)
        }
    };
    let driver = match parsed.driver {
        ParsedDriver::File { filename, locking, device } => match device {
            Some(true) => NodeDriver::HostDevice { filename, locking },
            Some(false) => NodeDriver::File { filename, locking },
            None if is_device(&filename) => NodeDriver::HostDevice { filename, locking },
            None => NodeDriver::File { filename, locking },
        },
        ParsedDriver::Null { size, read_zeroes, aio } => NodeDriver::Null { size, read_zeroes, aio },
        ParsedDriver::Raw { file, offset, size } => {
            NodeDriver::Raw { file: below(file, new, false)?, offset, size }
        }
        ParsedDriver::Probe { file } => NodeDriver::Probe { file: below(file, new, false)? },
        ParsedDriver::Overlay { file } => NodeDriver::Overlay { file: below(file, new, false)? },
        ParsedDriver::Qcow2 { file, backing } => {
            let file = below(file, new, false)?;
            let backing = match backing {
                ParsedBacking::Default => Backing::Default,
                ParsedBacking::Nothing => Backing::Nothing,
                ParsedBacking::Node(node) => Backing::Node(below(node, new, true)?),
            };
            NodeDriver::Qcow2 { file, backing }
        }
    };
    let taken = |name: &str| nodes.iter().chain(new.iter()).any(|node| node.name == name);
    let name = match parsed.name.take() {
        Some(name) => {
            if parse_identifier(&name).is_none() {
                return Err(Problem::NodeName(name));
            }
            if drives.contains(&name.as_str()) {
                return Err(Problem::NodeNameOfDrive(name));
            }
            if taken(&name) {
                return Err(Problem::DuplicateNode(name));
            }
            if name.len() > 31 {
                return Err(Problem::NodeNameLength);
            }
            name
        }
        None => {
            let numbers = (nodes.len() + new.len())..usize::MAX;
            let mut names = numbers.map(|number| format!("#block{:03}", 100 + number));
            names.find(|name| !taken(name)).unwrap_or_default()
        }
    };
    new.push(BlockNode {
        name: name.clone(),
        explicit,
        driver,
        read_only,
        auto_read_only: parsed.auto_read_only,
        discard: parsed.discard,
        detect_zeroes: parsed.detect_zeroes,
        direct,
        no_flush,
        force_share,
        location,
    });
    Ok(name)
}

/// As QEMU does for `-drive file=`, by looking at what is there.
fn is_device(filename: &std::path::Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::metadata(filename)
        .is_ok_and(|meta| meta.file_type().is_block_device() || meta.file_type().is_char_device())
}

/// The members of an object: texts of the command line, or values of their types.
struct Reader<'a> {
    members: &'a Map<String, Value>,
    texts: bool,
    path: &'a str,
}

impl<'a> Reader<'a> {
    fn missing(&self, name: &str) -> Problem {
        Problem::Missing(format!("{}{name}", self.path))
    }

    fn wrong(&self, name: &str, expected: &'static str) -> Problem {
        Problem::WrongType { name: format!("{}{name}", self.path), expected }
    }

    fn text(&self, name: &str) -> Result<Option<&'a str>, Problem> {
        match self.members.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(name, "string")),
        }
    }

    fn object(&self, name: &str) -> Result<Option<&'a Map<String, Value>>, Problem> {
        match self.members.get(name) {
            None => Ok(None),
            Some(Value::Object(members)) => Ok(Some(members)),
            Some(_) => Err(self.wrong(name, "object")),
        }
    }

    fn bool(&self, name: &str) -> Result<Option<bool>, Problem> {
        let expects = || Problem::Expects { name: format!("{}{name}", self.path), what: "'on' or 'off'" };
        match self.members.get(name) {
            None => Ok(None),
            Some(Value::Bool(on)) => Ok(Some(*on)),
            Some(Value::String(text)) if self.texts => parse_bool(text).map(Some).ok_or_else(expects),
            Some(_) if self.texts => Err(self.wrong(name, "string")),
            Some(_) => Err(self.wrong(name, "boolean")),
        }
    }

    fn int(&self, name: &str) -> Result<Option<i64>, Problem> {
        let expects = || Problem::Expects { name: format!("{}{name}", self.path), what: "integer" };
        match self.members.get(name) {
            None => Ok(None),
            Some(Value::String(text)) if self.texts => text.parse().map(Some).map_err(|_| expects()),
            Some(_) if self.texts => Err(self.wrong(name, "string")),
            Some(value) => value.as_i64().map(Some).ok_or_else(|| self.wrong(name, "integer")),
        }
    }

    fn word(&self, name: &str, words: &[&str]) -> Result<Option<&'a str>, Problem> {
        match self.text(name)? {
            Some(word) if !words.contains(&word) => {
                Err(Problem::DoesNotAccept { name: name.to_owned(), value: word.to_owned() })
            }
            word => Ok(word),
        }
    }

    fn no_others(&self, known: &[&str]) -> Result<(), Problem> {
        match self.members.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(Problem::Unexpected(format!("{}{name}", self.path))),
            None => Ok(()),
        }
    }
}
