//! Object types that belong to no confidential-guest mechanism.
//!
//! The mechanisms add theirs through [`Catalogue::add_objects`](crate::Catalogue::add_objects).

use crate::catalogue::{ObjectRole, ObjectType};
use crate::schema::{Key, Kind};

const POLICIES: &[&str] = &["default", "preferred", "bind", "interleave"];

/// Properties of every memory backend.
macro_rules! memory_keys {
    ($($more:expr),* $(,)?) => {
        &[
            Key::new("size", Kind::Size, "Size of the memory, for example 500M").required(),
            $($more,)*
            Key::new("dump", Kind::Bool, "Include the memory in a core dump of this program").default("on"),
            Key::new("host-nodes", Kind::Unsigned(16), "NUMA node of the host to take the memory from"),
            Key::new("merge", Kind::Bool, "Merge equal pages of guests").default("on"),
            Key::new("policy", Kind::Choice(POLICIES), "NUMA policy of the host").default("default"),
            Key::new("prealloc", Kind::Bool, "Take all of the memory before the start").default("off"),
            Key::new("prealloc-threads", Kind::Unsigned(32), "Threads that take the memory").default("1"),
            Key::new("reserve", Kind::Bool, "Reserve swap space or huge pages").default("on"),
            Key::new("share", Kind::Bool, "Let other processes see what is written").default("off"),
            Key::new("x-use-canonical-path-for-ramblock-id", Kind::Bool, "Old form of the memory's name in a migration stream"),
        ]
    };
}

const RAM: &[Key] = memory_keys!();

const FILE: &[Key] = memory_keys!(
    Key::new("mem-path", Kind::Text, "File or folder that backs the memory").required(),
    Key::new("align", Kind::Size, "Alignment of the mapping"),
    Key::new("discard-data", Kind::Bool, "Throw the file's content away at the end").default("off"),
    Key::new("pmem", Kind::Bool, "The file is persistent memory").default("off"),
    Key::new("readonly", Kind::Bool, "Never write to the file").default("off"),
);

const MEMFD: &[Key] = memory_keys!(
    Key::new("hugetlb", Kind::Bool, "Back the memory with the host's huge pages").default("off"),
    Key::new("hugetlbsize", Kind::Size, "Size of these huge pages"),
    Key::new("seal", Kind::Bool, "Nobody may change the size").default("on"),
);

const RNG_RANDOM: &[Key] =
    &[Key::new("filename", Kind::Text, "Where random bytes come from").default("/dev/urandom")];

const SECRET: &[Key] = &[
    Key::new("data", Kind::Text, "The secret itself; other users of the host can see it"),
    Key::new("file", Kind::Text, "File that holds the secret"),
    Key::new("format", Kind::Choice(&["raw", "base64"]), "How data or file spell it").default("raw"),
    Key::new("iv", Kind::Text, "Initialisation vector in base64, if it is encrypted"),
    Key::new("keyid", Kind::Text, "The secret object with the key, if it is encrypted"),
];

const IOTHREAD: &[Key] = &[
    Key::new("aio-max-batch", Kind::Unsigned(32), "Requests handed to the host at once").default("0"),
    Key::new("poll-max-ns", Kind::Unsigned(32), "Longest busy wait in nanoseconds").default("32768"),
];

/// Every object type of this table.
pub(crate) fn objects() -> Vec<ObjectType> {
    let object = |name, role, keys, doc| ObjectType { name, targets: None, role, keys, doc };
    vec![
        object(
            "iothread",
            ObjectRole::Other,
            IOTHREAD,
            "A thread for device work; accepted, devices use one thread",
        ),
        object("memory-backend-file", ObjectRole::MemoryBackend, FILE, "Guest memory in a file"),
        object("memory-backend-memfd", ObjectRole::MemoryBackend, MEMFD, "Guest memory in an unnamed file"),
        object("memory-backend-ram", ObjectRole::MemoryBackend, RAM, "Guest memory in this process"),
        object("rng-builtin", ObjectRole::Rng, &[], "Random bytes from the host"),
        object("rng-random", ObjectRole::Rng, RNG_RANDOM, "Random bytes from a file"),
        object("secret", ObjectRole::Secret, SECRET, "A password or a key"),
    ]
}
