//! Which crate may reach which.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Where a crate stands, by its folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    /// `crates/common/*`: vocabulary, formats, primitives.
    Common,
    /// `crates/platform`.
    UpperDoor,
    /// `crates/firmware-api`.
    LowerDoor,
    /// `crates/secure/*`.
    Secure,
    /// `crates/hypervisor/*` but the host kernel.
    Hypervisor,
    /// `crates/hypervisor/host-kernel`: the only user of the lower door in its world.
    HostKernel,
    /// `crates/owner`, and `crates/uvdevice`.
    Owner,
    /// `crates/cloister`: wiring.
    Binary,
    /// `tests/*`.
    Test,
}

/// All rooms.
pub const ROOMS: [Room; 9] = [
    Room::Common,
    Room::UpperDoor,
    Room::LowerDoor,
    Room::Secure,
    Room::Hypervisor,
    Room::HostKernel,
    Room::Owner,
    Room::Binary,
    Room::Test,
];

impl Room {
    /// The room of a folder relative to the repository.
    pub fn of(folder: &str) -> Option<Self> {
        Some(match folder {
            "crates/platform" => Self::UpperDoor,
            "crates/firmware-api" => Self::LowerDoor,
            "crates/hypervisor/host-kernel" => Self::HostKernel,
            // The guest's device serves the owner's tools where they run in the guest.
            "crates/owner" | "crates/uvdevice" => Self::Owner,
            "crates/cloister" => Self::Binary,
            other if other.starts_with("crates/common/") => Self::Common,
            other if other.starts_with("crates/secure/") => Self::Secure,
            other if other.starts_with("crates/hypervisor/") => Self::Hypervisor,
            other if other.starts_with("tests/") => Self::Test,
            _ => return None,
        })
    }

    /// Rooms whose crates a crate of this room may reach, directly or through others.
    pub fn may_reach(self) -> &'static [Self] {
        use Room::{Common, HostKernel, Hypervisor, LowerDoor, Secure, UpperDoor};
        match self {
            Self::Common => &[Common],
            Self::UpperDoor | Self::LowerDoor | Self::Owner => &[Common],
            Self::Secure => &[Common, Secure, LowerDoor],
            Self::Hypervisor => &[Common, Hypervisor, UpperDoor],
            Self::HostKernel => &[Common, Hypervisor, HostKernel, UpperDoor, LowerDoor],
            Self::Binary => &[Common, UpperDoor, LowerDoor, Secure, Hypervisor, HostKernel, Self::Owner],
            Self::Test => &ROOMS,
        }
    }
}

/// What breaks the rules.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// A crate reaches one that it must not reach.
    Reaches {
        /// The path from the first to the last, by name.
        path: Vec<String>,
        /// Rooms of both ends.
        rooms: (Room, Room),
    },
    /// A crate stands in a folder that is no room.
    NoRoom {
        /// Crate.
        name: String,
        /// Folder.
        folder: String,
    },
    /// A dependency by path leads out of the workspace.
    Outside {
        /// Crate.
        name: String,
        /// Dependency.
        dependency: String,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reaches { path, rooms: (from, to) } => {
                write!(f, "{}: a crate of {from:?} must not reach a crate of {to:?}", path.join(" -> "))
            }
            Self::NoRoom { name, folder } => write!(f, "{name}: {folder} is no room of the design"),
            Self::Outside { name, dependency } => {
                write!(f, "{name}: {dependency} is a path outside the workspace")
            }
        }
    }
}

/// Crates of the workspace and what they depend on, development dependencies left out.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    folders: BTreeMap<String, String>,
    edges: BTreeMap<String, BTreeSet<String>>,
    outside: Vec<Violation>,
}

impl Graph {
    /// Reads the output of `cargo metadata --format-version 1 --no-deps`.
    pub fn from_metadata(metadata: &Value) -> Result<Self, String> {
        let root = metadata["workspace_root"].as_str().ok_or("no workspace_root")?;
        let packages = metadata["packages"].as_array().ok_or("no packages")?;
        let mut graph = Self::default();
        for package in packages {
            let name = package["name"].as_str().ok_or("a package without name")?;
            let manifest = package["manifest_path"].as_str().ok_or("a package without manifest_path")?;
            let folder = manifest
                .strip_prefix(root)
                .and_then(|path| path.strip_prefix('/'))
                .and_then(|path| path.strip_suffix("/Cargo.toml"))
                .ok_or_else(|| format!("{name}: {manifest} is not under {root}"))?;
            graph.folders.insert(name.to_owned(), folder.to_owned());
        }
        for package in packages {
            let name = package["name"].as_str().ok_or("a package without name")?;
            for dependency in package["dependencies"].as_array().ok_or("a package without dependencies")? {
                // A dependency under another name (`rename`) still has its package name here.
                let to = dependency["name"].as_str().ok_or("a dependency without name")?;
                if dependency["kind"].as_str() == Some("dev") {
                    continue;
                }
                if graph.folders.contains_key(to) {
                    graph.add(name, to);
                } else if dependency["path"].is_string() {
                    graph
                        .outside
                        .push(Violation::Outside { name: name.to_owned(), dependency: to.to_owned() });
                }
            }
        }
        Ok(graph)
    }

    /// Adds a dependency.
    pub fn add(&mut self, from: &str, to: &str) {
        self.edges.entry(from.to_owned()).or_default().insert(to.to_owned());
    }

    /// Names of all crates with their folders.
    pub fn crates(&self) -> impl Iterator<Item = (&str, &str)> {
        self.folders.iter().map(|(name, folder)| (name.as_str(), folder.as_str()))
    }

    /// Everything that breaks the rules.
    pub fn violations(&self) -> Vec<Violation> {
        let mut found = self.outside.clone();
        for (name, folder) in self.crates() {
            let Some(room) = Room::of(folder) else {
                found.push(Violation::NoRoom { name: name.to_owned(), folder: folder.to_owned() });
                continue;
            };
            for path in self.reached(name) {
                let to =
                    path.last().and_then(|last| self.folders.get(last)).and_then(|folder| Room::of(folder));
                if let Some(to) = to
                    && !room.may_reach().contains(&to)
                {
                    found.push(Violation::Reaches { path, rooms: (room, to) });
                }
            }
        }
        found.sort();
        found
    }

    /// A shortest path to every crate that `name` reaches.
    fn reached(&self, name: &str) -> Vec<Vec<String>> {
        let mut paths = vec![vec![name.to_owned()]];
        let mut seen = BTreeSet::from([name.to_owned()]);
        let mut next = 0;
        while let Some(path) = paths.get(next).cloned() {
            next += 1;
            let edges = path.last().and_then(|last| self.edges.get(last));
            for to in edges.into_iter().flatten() {
                if seen.insert(to.clone()) {
                    paths.push(path.iter().cloned().chain([to.clone()]).collect());
                }
            }
        }
        paths.remove(0);
        paths
    }
}
