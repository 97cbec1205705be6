//! The block layer of a machine: nodes by their names, who uses them, and the images that they open.
//!
//! Nodes are added in the order in which they refer to each other. An image is open as long as its node is there, and
//! locked as long as somebody uses it (`cloister_devices::virtio::lock`). What a guest asks of a disk is not here.

use crate::MachineError;
use cloister_control::{BlockCount, BlockInfo, BlockNodeInfo, BlockStats, ControlError};
use cloister_devices::Waker;
use cloister_devices::virtio::blk::{BlockStatus, IoStatus, Operation, SharedDisk};
use cloister_devices::virtio::disk::{
    Behind, DiskBackend, Manner, Mannered, NullDisk, Overlay, RawDisk, open_file, open_qcow2, probe,
};
use cloister_devices::virtio::lock::{self, Use};
use cloister_options::{Backing, BlockNode, Blockdev, DetectZeroes, NodeDriver};
use rustix::fs::{AtFlags, StatxFlags};
use serde_json::json;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The nodes. Clones are the same ones.
#[derive(Clone, Default)]
pub(crate) struct Blocks(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    nodes: Vec<Node>,
    users: Vec<User>,
    next: u64,
}

struct Node {
    spec: BlockNode,
    image: Image,
    /// While somebody uses it as the root of a disk.
    disk: Option<SharedDisk>,
}

/// What a node has open.
enum Image {
    /// A file or a device of the host.
    File {
        file: File,
        path: PathBuf,
        writes: bool,
    },
    /// A format, once it is known.
    Format(&'static str),
    Nothing,
}

/// A device on a node.
struct User {
    number: u64,
    /// The device's place in the object tree.
    name: String,
    root: String,
    /// Every node that it uses.
    chain: Vec<String>,
    writes: bool,
    share: bool,
    waker: Option<Waker>,
}

/// How a device wants to use a node.
pub(crate) struct Wanted<'a> {
    /// The device's place in the object tree.
    pub(crate) user: &'a str,
    /// Others may write meanwhile.
    pub(crate) share: bool,
    /// It never writes, whatever the node allows.
    pub(crate) read_only: bool,
    /// To be woken if the size changes.
    pub(crate) waker: Option<Waker>,
}

/// The use of a node by a device; dropped, it is free again. The device's own hold on the disk must be gone before.
pub(crate) struct Hold {
    blocks: Blocks,
    number: u64,
    root: String,
}

/// A disk as monitors ask about it.
#[derive(Clone)]
pub(crate) struct Disk {
    hold: Arc<Hold>,
    status: Arc<BlockStatus>,
    device: String,
    qdev: String,
    removable: bool,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disk")
            .field("device", &self.device)
            .field("root", &self.hold.root)
            .finish_non_exhaustive()
    }
}

impl Blocks {
    /// Opens the nodes of a command line.
    pub(crate) fn open(nodes: &[BlockNode]) -> Result<Self, MachineError> {
        let blocks = Self::default();
        for spec in nodes {
            let fail = |problem| MachineError::Device { location: spec.location.to_string(), problem };
            blocks.lock().add(spec.clone()).map_err(fail)?;
        }
        Ok(blocks)
    }

    /// What the nodes were made of.
    pub(crate) fn specs(&self) -> Vec<BlockNode> {
        self.lock().nodes.iter().map(|node| node.spec.clone()).collect()
    }

    /// `blockdev-add`; `drives` are ids that no node may have.
    pub(crate) fn add(&self, blockdev: Blockdev, drives: &[&str]) -> Result<(), ControlError> {
        let mut state = self.lock();
        let specs: Vec<_> = state.nodes.iter().map(|node| node.spec.clone()).collect();
        let new = blockdev.add_to(&specs, drives).map_err(|why| ControlError::new(why.to_string()))?;
        let before = state.nodes.len();
        for spec in new {
            if let Err(problem) = state.add(spec) {
                state.nodes.truncate(before);
                return Err(ControlError::new(problem));
            }
        }
        Ok(())
    }

    /// `blockdev-del`.
    pub(crate) fn delete(&self, name: &str) -> Result<(), ControlError> {
        let mut state = self.lock();
        let refuse = |text: String| Err(ControlError::new(text));
        let Some(at) = state.position(name) else {
            return refuse(format!("Failed to find node with node-name='{name}'"));
        };
        if state.users.iter().any(|user| user.root == name) {
            return refuse(format!("Node {name} is in use"));
        }
        if !state.nodes[at].spec.explicit {
            return refuse(format!("Node {name} is not owned by the monitor"));
        }
        if state.nodes.iter().any(|node| below(&node.spec).any(|child| child == name)) {
            return refuse(format!("Block device {name} is in use"));
        }
        state.remove(name);
        Ok(())
    }

    /// `block_resize`; the users are woken.
    pub(crate) fn resize(&self, root: &str, size: u64) -> Result<(), ControlError> {
        let mut state = self.lock();
        let refuse = |text: String| ControlError::new(text);
        let Some(at) = state.position(root) else {
            return Err(refuse(format!("Cannot find device='' nor node-name='{root}'")));
        };
        let used = state.nodes[at].disk.clone();
        let result = match &used {
            Some(disk) => lock_disk(disk).resize(size),
            None if state.read_only(root).unwrap_or(true) => {
                return Err(refuse("Block node is read-only".into()));
            }
            None => state.build(root, true).and_then(|mut disk| disk.resize(size)),
        };
        result.map_err(|why| refuse(words(&why)))?;
        for user in state.users.iter_mut().filter(|user| user.root == root) {
            if let Some(waker) = &user.waker {
                waker.wake();
            }
        }
        Ok(())
    }

    /// Every node, the oldest first.
    pub(crate) fn nodes(&self) -> Vec<BlockNodeInfo> {
        let state = self.lock();
        state.nodes.iter().map(|node| state.describe(node)).collect()
    }

    /// Uses a node as the root of a disk. The refusal is in QEMU's words.
    pub(crate) fn attach(&self, root: &str, wanted: Wanted<'_>) -> Result<(SharedDisk, Hold), String> {
        let mut state = self.lock();
        let at = state.position(root).ok_or_else(|| format!("Cannot find node '{root}'"))?;
        let writes = !state.read_only(root)? && !wanted.read_only;
        let chain = state.chain(root);
        let number = state.next;
        let user = User {
            number,
            name: wanted.user.to_owned(),
            root: root.to_owned(),
            chain,
            writes,
            share: wanted.share,
            waker: wanted.waker,
        };
        if let Some(conflict) = state.users.iter().find_map(|other| conflict(other, &user)) {
            return Err(conflict);
        }
        state.take_locks(&user)?;
        let disk = match state.nodes[at].disk.clone() {
            Some(disk) => disk,
            None => match state.build(root, writes) {
                Ok(disk) => Arc::new(Mutex::new(disk)),
                Err(why) => {
                    state.free_locks(&user);
                    return Err(words(&why));
                }
            },
        };
        state.nodes[at].disk = Some(Arc::clone(&disk));
        state.users.push(user);
        state.next += 1;
        Ok((disk, Hold { blocks: self.clone(), number, root: root.to_owned() }))
    }

    /// How many devices have used nodes so far.
    pub(crate) fn uses(&self) -> u64 {
        self.lock().next
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.blocks.lock();
        let Some(at) = state.users.iter().position(|user| user.number == self.number) else { return };
        let user = state.users.remove(at);
        if !state.users.iter().any(|other| other.root == user.root)
            && let Some(at) = state.position(&user.root)
        {
            state.nodes[at].disk = None;
        }
        state.free_locks(&user);
    }
}

impl Disk {
    /// `device` is the id of the drive, or empty.
    pub(crate) fn new(hold: Hold, status: Arc<BlockStatus>, device: String, removable: bool) -> Self {
        Self { hold: Arc::new(hold), status, device, qdev: String::new(), removable }
    }

    /// The same at a place in the object tree.
    #[must_use]
    pub(crate) fn at(self, qdev: String) -> Self {
        Self { qdev, ..self }
    }

    /// The id of the drive, or empty.
    pub(crate) fn device(&self) -> &str {
        &self.device
    }

    /// The name of its node.
    pub(crate) fn node(&self) -> &str {
        &self.hold.root
    }

    /// As it is now.
    pub(crate) fn info(&self) -> BlockInfo {
        let state = self.hold.blocks.lock();
        let count = |operation| {
            let count = self.status.count(operation);
            BlockCount {
                operations: count.operations,
                bytes: count.bytes,
                nanoseconds: count.nanoseconds,
                failed: count.failed,
                invalid: count.invalid,
            }
        };
        let mut info = BlockInfo {
            device: self.device.clone(),
            node_name: self.hold.root.clone(),
            qdev: Some(self.qdev.clone()),
            removable: self.removable,
            write_cache: self.status.write_cache(),
            io_status: match self.status.io_status() {
                IoStatus::Ok => "ok",
                IoStatus::Failed => "failed",
                IoStatus::NoSpace => "nospace",
            },
            stats: BlockStats {
                read: count(Operation::Read),
                write: count(Operation::Write),
                flush: count(Operation::Flush),
                discard: count(Operation::Discard),
                highest_write: self.status.highest_write(),
            },
            ..BlockInfo::default()
        };
        if let Some(at) = state.position(&self.hold.root) {
            let node = state.describe(&state.nodes[at]);
            info.file = Some(node.filename.into());
            info.format = node.driver;
            info.virtual_size = node.virtual_size;
            info.actual_size = node.actual_size;
            info.read_only = node.read_only;
            info.direct = node.direct;
            info.no_flush = node.no_flush;
            info.detect_zeroes = node.detect_zeroes;
            info.snapshot = matches!(state.nodes[at].spec.driver, NodeDriver::Overlay { .. });
        }
        info
    }
}

impl State {
    fn position(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.spec.name == name)
    }

    fn get(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.spec.name == name)
    }

    /// Opens a node. Those below it are there.
    fn add(&mut self, spec: BlockNode) -> Result<(), String> {
        let image = match &spec.driver {
            NodeDriver::File { filename, .. } => file(filename, &spec, false)?,
            NodeDriver::HostDevice { filename, .. } => file(filename, &spec, true)?,
            NodeDriver::Null { .. } => Image::Nothing,
            NodeDriver::Overlay { file } => Image::Format(self.format(file)),
            NodeDriver::Raw { file, offset, size } => {
                self.window(file, *offset, *size)?;
                Image::Format("raw")
            }
            NodeDriver::Qcow2 { file, .. } => match self.first_bytes(file) {
                Some("qcow2") => Image::Format("qcow2"),
                _ => return Err("Image is not in qcow2 format".into()),
            },
            NodeDriver::Probe { file } => match self.first_bytes(file) {
                None | Some("raw") => Image::Format("raw"),
                Some("qcow2") => Image::Format("qcow2"),
                Some(other) => {
                    return Err(format!(
                        "the image has the format {other}, which is not supported; convert it with: \
                         qemu-img convert -O raw"
                    ));
                }
            },
        };
        self.nodes.push(Node { spec, image, disk: None });
        Ok(())
    }

    /// Takes a node away, and those below it that nobody named.
    fn remove(&mut self, name: &str) {
        let Some(at) = self.position(name) else { return };
        let node = self.nodes.remove(at);
        for child in below(&node.spec) {
            let unnamed = self.get(child).is_some_and(|node| !node.spec.explicit);
            if unnamed && !self.nodes.iter().any(|node| below(&node.spec).any(|other| other == child)) {
                self.remove(child);
            }
        }
    }

    fn format(&self, name: &str) -> &'static str {
        match self.get(name).map(|node| &node.image) {
            Some(Image::Format(format)) => format,
            _ => "raw",
        }
    }

    /// Checks that a window is within the node below.
    fn window(&self, below: &str, offset: u64, size: Option<u64>) -> Result<(), String> {
        if size.is_some_and(|size| !size.is_multiple_of(512)) {
            return Err("Specified size is not multiple of 512".into());
        }
        let whole = self.build(below, false).map_err(|why| words(&why))?.size();
        if offset > whole {
            return Err(format!(
                "Offset ({offset}) cannot be greater than size of the containing file ({whole})"
            ));
        }
        match size {
            Some(size) if size > whole - offset => Err(format!(
                "The sum of offset ({offset}) and size ({size}) has to be smaller or equal to the actual size of \
                 the containing file ({whole})"
            )),
            _ => Ok(()),
        }
    }

    /// What the first bytes below a node tell.
    fn first_bytes(&self, name: &str) -> Option<&'static str> {
        let node = self.get(name)?;
        match (&node.image, &node.spec.driver) {
            (Image::File { file, .. }, _) => probe(&mut file.try_clone().ok()?).ok(),
            (_, NodeDriver::Raw { file, offset: 0, size: None }) => self.first_bytes(file),
            _ => None,
        }
    }

    /// Every node that a disk on this one uses.
    fn chain(&self, root: &str) -> Vec<String> {
        let mut out = vec![root.to_owned()];
        let mut next = 0;
        while let Some(node) = out.get(next).and_then(|name| self.get(name)) {
            for child in below(&node.spec) {
                if !out.iter().any(|name| name == child) {
                    out.push(child.to_owned());
                }
            }
            next += 1;
        }
        out
    }

    /// Whether a disk on this node cannot be written.
    fn read_only(&self, name: &str) -> Result<bool, String> {
        let Some(node) = self.get(name) else { return Ok(true) };
        if let Image::File { writes, .. } = node.image {
            return Ok(!writes);
        }
        if node.spec.read_only || matches!(node.spec.driver, NodeDriver::Overlay { .. }) {
            return Ok(node.spec.read_only);
        }
        match node.spec.driver.file() {
            Some(below) if self.read_only(below)? => match node.spec.auto_read_only {
                true => Ok(true),
                false => Err("Block node is read-only".into()),
            },
            _ => Ok(false),
        }
    }

    /// Makes the disk of a node.
    fn build(&self, name: &str, writes: bool) -> io::Result<Box<dyn DiskBackend>> {
        let gone = || io::Error::new(io::ErrorKind::NotFound, format!("node '{name}' is gone"));
        let node = self.get(name).ok_or_else(gone)?;
        let spec = &node.spec;
        let disk: Box<dyn DiskBackend> = match (&spec.driver, &node.image) {
            (_, Image::File { file, writes: can, .. }) => {
                Box::new(RawDisk::new(file.try_clone()?, !(writes && *can))?)
            }
            (NodeDriver::Null { size, .. }, _) => Box::new(NullDisk::new(*size, !writes)),
            (NodeDriver::Overlay { file }, _) => Box::new(Overlay::new(self.build(file, false)?)?),
            (NodeDriver::Raw { file, offset, size }, _) => match (*offset, *size) {
                (0, None) => self.build(file, writes)?,
                (offset, size) => self.build_window(file, offset, size, writes)?,
            },
            (NodeDriver::Probe { file }, Image::Format("qcow2")) => {
                // Only whom the user calls a qcow2 image may draw in other files.
                self.build_qcow2(file, writes, Behind::Nothing)?
            }
            (NodeDriver::Probe { file }, _) => self.build(file, writes)?,
            (NodeDriver::Qcow2 { file, backing }, _) => match backing {
                Backing::Default => self.build_qcow2(file, writes, Behind::Anything)?,
                Backing::Nothing => self.build_qcow2(file, writes, Behind::Ignored)?,
                Backing::Node(name) => {
                    let behind = self.build(name, false)?;
                    let format = self.get(name).map_or("raw", |node| match node.image {
                        Image::Format(format) => format,
                        _ => "raw",
                    });
                    drop(behind);
                    let path = self.path(name).ok_or_else(|| unsupported("a backing node without a file"))?;
                    self.build_qcow2(file, writes, Behind::File(path, format == "qcow2"))?
                }
            },
            (NodeDriver::File { .. } | NodeDriver::HostDevice { .. }, _) => return Err(gone()),
        };
        let chain = self.chain(name);
        let mut nodes = chain.iter().filter_map(|name| self.get(name));
        let manner = Manner {
            read_only: !writes,
            discard: spec.discard,
            detect_zeroes: spec.detect_zeroes != DetectZeroes::Off,
            unmap_zeroes: spec.detect_zeroes == DetectZeroes::Unmap,
            no_flush: nodes.any(|node| node.spec.no_flush),
        };
        Ok(Box::new(Mannered::new(disk, manner)))
    }

    fn build_window(
        &self,
        file: &str,
        offset: u64,
        size: Option<u64>,
        writes: bool,
    ) -> io::Result<Box<dyn DiskBackend>> {
        let opened = self.file(file).ok_or_else(|| unsupported("a window of a node that is no file"))?;
        let raw = RawDisk::new(opened.try_clone()?, !writes)?;
        let window =
            raw.window(offset, size).ok_or_else(|| unsupported("a window beyond the end of its file"))?;
        Ok(Box::new(window))
    }

    fn build_qcow2(&self, file: &str, writes: bool, behind: Behind) -> io::Result<Box<dyn DiskBackend>> {
        let missing = || unsupported("a qcow2 image in a node that is no file");
        let path = self.path(file).ok_or_else(missing)?;
        let opened = self.file(file).ok_or_else(missing)?;
        open_qcow2(&path, opened.try_clone()?, writes, behind)
    }

    /// The file whose bytes are exactly those of a node.
    fn file(&self, name: &str) -> Option<&File> {
        let node = self.get(name)?;
        match (&node.image, &node.spec.driver) {
            (Image::File { file, .. }, _) => Some(file),
            (_, NodeDriver::Raw { file, offset: 0, size: None }) => self.file(file),
            _ => None,
        }
    }

    /// The name of the file in which a node keeps its data.
    fn path(&self, name: &str) -> Option<PathBuf> {
        let node = self.get(name)?;
        match &node.image {
            Image::File { path, .. } => Some(path.clone()),
            _ => self.path(node.spec.driver.file()?),
        }
    }

    /// Locks every file of a disk.
    fn take_locks(&self, user: &User) -> Result<(), String> {
        for name in &user.chain {
            let Some(node) = self.get(name) else { continue };
            let Image::File { file, path, .. } = &node.image else { continue };
            if !locks(&node.spec) {
                continue;
            }
            if let Err(conflict) = lock::lock(file, self.use_of(name, user)) {
                self.free_locks(user);
                return Err(format!("{conflict}\nIs another process using the image [{}]?", path.display()));
            }
        }
        Ok(())
    }

    /// What a user does with one file of its disk.
    fn use_of(&self, file: &str, user: &User) -> Use {
        let parents = user.chain.iter().filter_map(|name| self.get(name));
        for node in parents {
            let drawn = node.spec.driver.file() == Some(file);
            match (&node.spec.driver, &node.image) {
                (NodeDriver::Overlay { .. }, _) => return Use::format(false),
                (_, Image::Format("qcow2")) if drawn => return Use::format(user.writes),
                (driver, _) if driver.backing() == Some(file) => return Use::format(false),
                _ => {}
            }
        }
        Use::raw(user.writes, user.share)
    }

    /// Unlocks the files that only this user had.
    fn free_locks(&self, user: &User) {
        for name in &user.chain {
            let used = |other: &User| other.number != user.number && other.chain.contains(name);
            if !self.users.iter().any(used)
                && let Some(Image::File { file, .. }) = self.get(name).map(|node| &node.image)
            {
                lock::unlock(file);
            }
        }
    }

    fn describe(&self, node: &Node) -> BlockNodeInfo {
        let spec = &node.spec;
        let size = || {
            let built = self.build(&spec.name, false).ok();
            built.map_or((0, 0), |disk| (disk.size(), disk.allocated()))
        };
        let (virtual_size, actual_size) = match &node.disk {
            Some(disk) => {
                let disk = lock_disk(disk);
                (disk.size(), disk.allocated())
            }
            None => size(),
        };
        let file = self.path(&spec.name).map(|path| (allocated(&path), path));
        BlockNodeInfo {
            name: spec.name.clone(),
            driver: match node.image {
                Image::Format(format) => format.to_owned(),
                _ => spec.driver.name().to_owned(),
            },
            filename: self.filename(node),
            file: spec.driver.file().map(str::to_owned),
            virtual_size,
            actual_size: file.map_or(actual_size, |(bytes, _)| bytes),
            read_only: self.read_only(&spec.name).unwrap_or(false),
            direct: spec.direct,
            no_flush: spec.no_flush,
            detect_zeroes: spec.detect_zeroes.name(),
        }
    }

    /// As QEMU shows a node: a file's name, or a description where a name would not say all.
    fn filename(&self, node: &Node) -> String {
        let described = |name: &str| self.get(name).map(|node| self.options(node)).unwrap_or_default();
        match (&node.spec.driver, &node.image) {
            (_, Image::File { path, .. }) => path.display().to_string(),
            (NodeDriver::Null { .. }, _) => format!("json:{}", spaced(&self.options(node))),
            (NodeDriver::Raw { file, offset, size }, _) if *offset != 0 || size.is_some() => {
                let mut options = json!({ "driver": "raw", "offset": offset, "file": described(file) });
                if let Some(size) = size {
                    options["size"] = json!(size);
                }
                format!("json:{}", spaced(&options))
            }
            (driver, _) => driver
                .file()
                .and_then(|below| self.get(below))
                .map_or_else(String::new, |below| self.filename(below)),
        }
    }

    fn options(&self, node: &Node) -> serde_json::Value {
        match &node.spec.driver {
            NodeDriver::Null { size, .. } => json!({ "driver": node.spec.driver.name(), "size": size }),
            driver => json!({ "driver": driver.name(), "filename": self.filename(node) }),
        }
    }
}

/// The nodes directly below one.
fn below(spec: &BlockNode) -> impl Iterator<Item = &str> {
    spec.driver.file().into_iter().chain(spec.driver.backing())
}

fn locks(spec: &BlockNode) -> bool {
    let locking = match &spec.driver {
        NodeDriver::File { locking, .. } | NodeDriver::HostDevice { locking, .. } => *locking,
        _ => None,
    };
    locking.unwrap_or(true) && !spec.force_share
}

/// Opens the file of a protocol node.
fn file(path: &Path, spec: &BlockNode, device: bool) -> Result<Image, String> {
    let fail = |why: &io::Error| format!("Could not open '{}': {}", path.display(), words(why));
    let opened = match open_file(path, !spec.read_only) {
        Err(why)
            if spec.auto_read_only
                && matches!(
                    why.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                ) =>
        {
            open_file(path, false).map(|file| (file, false))
        }
        other => other.map(|file| (file, !spec.read_only)),
    };
    let (file, writes) = opened.map_err(|why| fail(&why))?;
    let metadata = file.metadata().map_err(|why| fail(&why))?;
    let shown = path.display();
    match device {
        true if metadata.is_file() => {
            Err(format!("'host_device' driver requires '{shown}' to be either a character or block device"))
        }
        false if !metadata.is_file() => Err(format!("'file' driver requires '{shown}' to be a regular file")),
        _ => Ok(Image::File { file, path: path.to_owned(), writes }),
    }
}

/// Whether two devices get in each other's way, in QEMU's words.
fn conflict(old: &User, new: &User) -> Option<String> {
    let shared = new.chain.iter().find(|name| old.chain.contains(name))?;
    let (required, unshared) = match () {
        () if old.writes && !new.share => (old, new),
        () if new.writes && !old.share => (new, old),
        () => return None,
    };
    let who = |user: &User| match user.chain.iter().position(|name| name == shared) {
        Some(at) if at > 0 => format!("node '{}' (uses node '{shared}' as 'file' child)", user.chain[at - 1]),
        _ => format!("block device '{}' (uses node '{shared}' as 'root' child)", user.name),
    };
    Some(format!(
        "Permission conflict on node '{shared}': permissions 'write' are both required by {} and unshared by {}.",
        who(required),
        who(unshared)
    ))
}

fn lock_disk(disk: &SharedDisk) -> MutexGuard<'_, Box<dyn DiskBackend>> {
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unsupported(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, format!("{what} is not part of this version of Cloister"))
}

/// The system's words without its number.
fn words(why: &io::Error) -> String {
    let text = why.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// Bytes that a file takes on the host's disk.
fn allocated(path: &Path) -> u64 {
    rustix::fs::statx(rustix::fs::CWD, path, AtFlags::empty(), StatxFlags::BLOCKS)
        .map_or(0, |found| found.stx_blocks * 512)
}

/// JSON with a space behind each comma and colon, as QEMU writes it.
fn spaced(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Object(members) => {
            let parts: Vec<_> =
                members.iter().map(|(name, value)| format!("{}: {}", json!(name), spaced(value))).collect();
            format!("{{{}}}", parts.join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloister_options::parse_blockdev_json;
    use serde_json::Value;
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    fn add(blocks: &Blocks, options: Value) -> Result<(), String> {
        let Value::Object(members) = options else { panic!("an object") };
        let blockdev = parse_blockdev_json(&members).map_err(|why| why.headline())?;
        blocks.add(blockdev, &["drive0"]).map_err(|why| why.text)
    }

    fn attach(blocks: &Blocks, root: &str, user: &str, share: bool) -> Result<(SharedDisk, Hold), String> {
        blocks.attach(root, Wanted { user, share, read_only: false, waker: None })
    }

    fn image(folder: &tempfile::TempDir, name: &str) -> PathBuf {
        let path = folder.path().join(name);
        File::create(&path).unwrap().write_all(&[5; 8192]).unwrap();
        path
    }

    /// Nodes as libvirt makes them.
    fn libvirt(path: &Path) -> Blocks {
        let blocks = Blocks::default();
        let storage = json!({"driver": "file", "filename": path, "node-name": "s", "auto-read-only": true,
                             "discard": "unmap"});
        add(&blocks, storage).unwrap();
        add(&blocks, json!({"node-name": "f", "read-only": false, "driver": "raw", "file": "s"})).unwrap();
        blocks
    }

    #[test]
    fn nodes_come_and_go_in_qemus_words() {
        let folder = tempfile::tempdir().unwrap();
        let path = image(&folder, "a.img");
        let blocks = libvirt(&path);
        let refused = |name: &str| blocks.delete(name).unwrap_err().text;
        assert_eq!(refused("zz"), "Failed to find node with node-name='zz'");
        assert_eq!(refused("s"), "Block device s is in use");
        let (disk, hold) = attach(&blocks, "f", "/machine/peripheral/d/virtio-backend", false).unwrap();
        assert_eq!(refused("f"), "Node f is in use");
        assert_eq!(
            add(&blocks, json!({"driver": "null-co", "node-name": "f"})).unwrap_err(),
            "Duplicate nodes with node-name='f'"
        );
        assert_eq!(
            add(&blocks, json!({"driver": "null-co", "node-name": "drive0"})).unwrap_err(),
            "node-name=drive0 is conflicting with a device id"
        );
        lock_disk(&disk).write_at(512, &[9; 512]).unwrap();
        drop(disk);
        drop(hold);
        let mut bytes = [0; 512];
        File::open(&path).unwrap().read_exact_at(&mut bytes, 512).unwrap();
        assert_eq!(bytes, [9; 512]);
        blocks.delete("f").unwrap();
        blocks.delete("s").unwrap();
        assert!(blocks.nodes().is_empty());
    }

    #[test]
    fn two_writers_are_refused_and_sharers_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let blocks = libvirt(&image(&folder, "a.img"));
        let first = attach(&blocks, "f", "/one", false).unwrap();
        assert_eq!(
            attach(&blocks, "f", "/two", false).err().unwrap(),
            "Permission conflict on node 'f': permissions 'write' are both required by block device '/one' (uses \
             node 'f' as 'root' child) and unshared by block device '/two' (uses node 'f' as 'root' child)."
        );
        assert_eq!(
            attach(&blocks, "s", "/two", false).err().unwrap(),
            "Permission conflict on node 's': permissions 'write' are both required by node 'f' (uses node 's' as \
             'file' child) and unshared by block device '/two' (uses node 's' as 'root' child)."
        );
        drop(first);
        let _one = attach(&blocks, "f", "/one", true).unwrap();
        let _two = attach(&blocks, "f", "/two", true).unwrap();
        let _three = attach(&blocks, "s", "/three", true).unwrap();
    }

    #[test]
    fn an_image_is_locked_while_a_device_uses_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = image(&folder, "a.img");
        let (one, other) = (libvirt(&path), libvirt(&path));
        let held = attach(&one, "f", "/one", false).unwrap();
        let words =
            format!("Failed to get \"write\" lock\nIs another process using the image [{}]?", path.display());
        assert_eq!(attach(&other, "f", "/two", false).err().unwrap(), words);
        let reader = Blocks::default();
        let node = json!({"driver": "file", "filename": path, "node-name": "r", "read-only": true});
        add(&reader, node).unwrap();
        let words = words.replace("\"write\"", "shared \"write\"");
        assert_eq!(attach(&reader, "r", "/three", false).err().unwrap(), words);
        let force = json!({"driver": "file", "filename": path, "node-name": "x", "read-only": true,
                           "force-share": true});
        add(&reader, force).unwrap();
        attach(&reader, "x", "/four", false).unwrap();
        drop(held);
        attach(&other, "f", "/two", false).unwrap();
    }

    #[test]
    fn what_cannot_be_opened_is_refused_in_qemus_words() {
        let folder = tempfile::tempdir().unwrap();
        let path = image(&folder, "a.img");
        let file = |filename: &str| json!({"driver": "file", "filename": filename, "node-name": "a"});
        let cases = [
            (file("/nonexistent/x"), "Could not open '/nonexistent/x': No such file or directory"),
            (file("/tmp"), "Could not open '/tmp': Is a directory"),
            (file("/dev/null"), "'file' driver requires '/dev/null' to be a regular file"),
            (
                json!({"driver": "qcow2", "node-name": "a", "file": {"driver": "file", "filename": path}}),
                "Image is not in qcow2 format",
            ),
            (
                json!({"driver": "raw", "node-name": "a", "size": 1000, "file": {"driver": "null-co"}}),
                "Specified size is not multiple of 512",
            ),
        ];
        for (options, words) in cases {
            let blocks = Blocks::default();
            assert_eq!(add(&blocks, options).unwrap_err(), words);
            assert!(blocks.nodes().is_empty(), "nothing is left of what was refused");
        }
    }

    #[test]
    fn a_node_above_what_cannot_be_written_needs_leave_to_be_read_only() {
        let folder = tempfile::tempdir().unwrap();
        let blocks = Blocks::default();
        let path = image(&folder, "a.img");
        add(&blocks, json!({"driver": "file", "filename": path, "node-name": "s", "read-only": true}))
            .unwrap();
        add(&blocks, json!({"driver": "raw", "node-name": "f", "file": "s"})).unwrap();
        assert_eq!(attach(&blocks, "f", "/one", false).err().unwrap(), "Block node is read-only");
        add(&blocks, json!({"driver": "raw", "node-name": "g", "file": "s", "auto-read-only": true}))
            .unwrap();
        let (disk, _hold) = attach(&blocks, "g", "/one", false).unwrap();
        assert!(lock_disk(&disk).read_only());
    }

    #[test]
    fn windows_discards_and_sizes() {
        let folder = tempfile::tempdir().unwrap();
        let path = image(&folder, "a.img");
        let blocks = Blocks::default();
        let below = json!({"driver": "file", "filename": path});
        add(&blocks, json!({"driver": "raw", "node-name": "w", "offset": 512, "size": 1024, "file": below}))
            .unwrap();
        {
            let (disk, _hold) = attach(&blocks, "w", "/one", false).unwrap();
            assert_eq!(lock_disk(&disk).size(), 1024);
            lock_disk(&disk).write_at(0, &[1; 512]).unwrap();
            lock_disk(&disk).discard(0, 512).unwrap();
            assert_eq!(blocks.resize("w", 2048).unwrap_err().text, "Cannot resize fixed-size raw disks");
        }
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!((bytes[511], bytes[512], bytes[1024]), (5, 1, 5), "discard=ignore keeps what is there");
        blocks.delete("w").unwrap();
        assert!(blocks.nodes().is_empty(), "unnamed nodes go with the one that was made of them");
        let blocks = libvirt(&path);
        blocks.resize("f", 16384).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 16384);
        assert_eq!(blocks.nodes()[1].virtual_size, 16384);
    }

    /// The packaged QEMU is the judge; without it the test prints a notice and passes.
    #[test]
    fn qemu_and_we_respect_each_others_locks() {
        let folder = tempfile::tempdir().unwrap();
        let path = image(&folder, "a.img");
        let qemu = |input: &str| {
            let child = std::process::Command::new("qemu-system-s390x")
                .args(["-nodefaults", "-display", "none", "-S", "-m", "64M", "-qmp", "stdio", "-drive"])
                .arg(format!("file={},format=raw", path.display()))
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::piped())
                .spawn();
            child.map(|mut child| {
                let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
                child
            })
        };
        let blocks = libvirt(&path);
        let held = attach(&blocks, "f", "/one", false).unwrap();
        let Ok(refused) = qemu("") else {
            eprintln!("notice: qemu-system-s390x is not installed, nothing compared");
            return;
        };
        let said = refused.wait_with_output().unwrap();
        let words =
            format!("Failed to get \"write\" lock\nIs another process using the image [{}]?", path.display());
        assert!(String::from_utf8_lossy(&said.stderr).contains(&words), "{said:?}");
        drop(held);
        let quit = "{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"quit\"}\n";
        let said = qemu(quit).unwrap().wait_with_output().unwrap();
        assert!(said.status.success(), "{said:?}");
    }
}
