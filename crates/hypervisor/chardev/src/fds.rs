//! Descriptors that came from outside: inherited by number, passed over a monitor and named (`getfd`), or gathered in
//! sets (`add-fd`, `-add-fd`) that file names reach as `/dev/fdset/N`.
//!
//! A set hands out duplicates and keeps no account of them: removing a descriptor does not close what is open already.

use crate::error::ChardevError;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One descriptor of a set, as `query-fdsets` and `add-fd` show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FdInfo {
    /// Its number in this process.
    pub fd: i32,
    /// What its owner wrote about it.
    pub opaque: Option<String>,
}

/// One set, as `query-fdsets` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FdSetInfo {
    /// Its number.
    pub fdset_id: i64,
    /// Its descriptors, the newest first.
    pub fds: Vec<FdInfo>,
}

/// The descriptor sets and named descriptors of this process.
#[derive(Debug, Default)]
pub struct FdStore {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    sets: BTreeMap<i64, Vec<Member>>,
    named: BTreeMap<String, OwnedFd>,
}

#[derive(Debug)]
struct Member {
    fd: OwnedFd,
    opaque: Option<String>,
}

impl FdStore {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// `add-fd`: puts a descriptor into a set, or into a new one with the lowest free number.
    ///
    /// # Errors
    /// The number of the set is negative.
    pub fn add(
        &self,
        fd: OwnedFd,
        set: Option<i64>,
        opaque: Option<String>,
    ) -> Result<(i64, i32), ChardevError> {
        if set.is_some_and(|set| set < 0) {
            return Err(ChardevError::NegativeSet);
        }
        let mut inner = self.lock();
        let set = set.unwrap_or_else(|| (0..).find(|id| !inner.sets.contains_key(id)).unwrap_or_default());
        let number = fd.as_raw_fd();
        inner.sets.entry(set).or_default().insert(0, Member { fd, opaque });
        Ok((set, number))
    }

    /// `-add-fd`: the same for an inherited descriptor.
    ///
    /// # Errors
    /// The number is negative, a standard stream, not open, or belongs to this program.
    pub fn add_inherited(
        &self,
        fd: i32,
        set: i64,
        opaque: Option<String>,
    ) -> Result<(i64, i32), ChardevError> {
        match fd {
            ..0 => return Err(ChardevError::NegativeFd),
            0..=2 => return Err(ChardevError::StandardFd),
            _ if set < 0 => return Err(ChardevError::NegativeSet),
            _ => {}
        }
        let fd = inherited(fd).map_err(|source| match source.raw_os_error() {
            Some(code) if code == Errno::BADF.raw_os_error() => ChardevError::InvalidFd,
            _ => ChardevError::Inherit { number: fd, source },
        })?;
        self.add(fd, Some(set), opaque)
    }

    /// `remove-fd`: takes one descriptor, or all, out of a set; an empty set is gone.
    ///
    /// # Errors
    /// There is no such set or descriptor.
    pub fn remove(&self, set: i64, fd: Option<i32>) -> Result<(), ChardevError> {
        let missing = || {
            let fd = fd.map(|fd| format!(", fd:{fd}")).unwrap_or_default();
            ChardevError::NoSuchFd(format!("fdset-id:{set}{fd}"))
        };
        let mut inner = self.lock();
        let members = inner.sets.get_mut(&set).ok_or_else(missing)?;
        match fd {
            None => members.clear(),
            Some(fd) => {
                let at = members.iter().position(|m| m.fd.as_raw_fd() == fd).ok_or_else(missing)?;
                members.remove(at);
            }
        }
        if members.is_empty() {
            inner.sets.remove(&set);
        }
        Ok(())
    }

    /// `query-fdsets`.
    #[must_use]
    pub fn query(&self) -> Vec<FdSetInfo> {
        let info = |m: &Member| FdInfo { fd: m.fd.as_raw_fd(), opaque: m.opaque.clone() };
        self.lock()
            .sets
            .iter()
            .map(|(&fdset_id, members)| FdSetInfo { fdset_id, fds: members.iter().map(info).collect() })
            .collect()
    }

    /// `getfd`: gives a passed descriptor a name; an older one of that name is closed.
    ///
    /// # Errors
    /// The name starts with a digit or is empty.
    pub fn name(&self, name: &str, fd: OwnedFd) -> Result<(), ChardevError> {
        if name.starts_with(|c: char| c.is_ascii_digit()) || name.is_empty() {
            return Err(ChardevError::FdName);
        }
        self.lock().named.insert(name.to_owned(), fd);
        Ok(())
    }

    /// Takes a named descriptor away, to use it.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn take(&self, name: &str) -> Result<OwnedFd, ChardevError> {
        self.lock().named.remove(name).ok_or_else(|| ChardevError::UnknownFd(name.to_owned()))
    }

    /// `closefd`.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn close(&self, name: &str) -> Result<(), ChardevError> {
        let closed = self.lock().named.remove(name);
        closed.map(drop).ok_or_else(|| ChardevError::NoSuchFd(name.to_owned()))
    }

    /// Opens a file by name; `/dev/fdset/N` is a duplicate of the member of set N with that access mode.
    ///
    /// # Errors
    /// As open(2); for a set: `ENOENT` if there is no such set, `EACCES` if no member has the access mode.
    pub fn open(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let Some(set) = fdset_of(path) else {
            let mode = rustix::fs::Mode::from_raw_mode(0o666);
            return Ok(rustix::fs::open(path, flags | OFlags::CLOEXEC, mode)?);
        };
        let inner = self.lock();
        let members = inner.sets.get(&set).ok_or(Errno::NOENT)?;
        for member in members {
            if rustix::fs::fcntl_getfl(&member.fd)? & OFlags::RWMODE == flags & OFlags::RWMODE {
                return Ok(rustix::io::fcntl_dupfd_cloexec(&member.fd, 3)?);
            }
        }
        Err(Errno::ACCESS.into())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A duplicate of an inherited descriptor. The number itself stays open: only the program that owns a number may close
/// it, and nothing in this process does.
///
/// # Errors
/// `EBADF`: it is not open, or this program opened it itself; `EPERM`: the host's sandbox forbids pidfd_getfd(2).
pub fn inherited(number: i32) -> io::Result<OwnedFd> {
    if number < 0 || closes_on_exec(number) {
        return Err(Errno::BADF.into());
    }
    let own = pidfd_open(getpid(), PidfdFlags::empty())?;
    Ok(pidfd_getfd(own, number, PidfdGetfdFlags::empty())?)
}

/// Whether this program opened the descriptor itself: all of ours close on exec, an inherited one does not (proc(5),
/// "/proc/pid/fdinfo").
fn closes_on_exec(number: i32) -> bool {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    flags
        .and_then(|text| u32::from_str_radix(text.trim(), 8).ok())
        .is_some_and(|flags| flags & OFlags::CLOEXEC.bits() != 0)
}

fn fdset_of(path: &Path) -> Option<i64> {
    let number = path.to_str()?.strip_prefix("/dev/fdset/")?;
    number.bytes().all(|b| b.is_ascii_digit()).then(|| number.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn a_set_gives_the_member_with_the_access_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, b"old").unwrap();
        let store = FdStore::new();
        let reader: OwnedFd = std::fs::File::open(&path).unwrap().into();
        let (set, _) = store.add(reader, None, Some("mine".into())).unwrap();
        assert_eq!(set, 0);
        let name = Path::new("/dev/fdset/0");
        let refused = store.open(name, OFlags::WRONLY).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(Errno::ACCESS.raw_os_error()));
        let writer: OwnedFd = std::fs::OpenOptions::new().append(true).open(&path).unwrap().into();
        store.add(writer, Some(0), None).unwrap();
        let mut file = std::fs::File::from(store.open(name, OFlags::WRONLY).unwrap());
        file.write_all(b"new").unwrap();
        let mut text = String::new();
        std::fs::File::from(store.open(name, OFlags::RDONLY).unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "oldnew");
        assert_eq!(store.query()[0].fds.len(), 2);
        let missing = store.open(Path::new("/dev/fdset/7"), OFlags::RDONLY).unwrap_err();
        assert_eq!(missing.raw_os_error(), Some(Errno::NOENT.raw_os_error()));
    }

    #[test]
    fn sets_are_removed_and_refused_in_the_fields_words() {
        let store = FdStore::new();
        let text = |r: Result<_, ChardevError>| r.map(|_: ()| ()).unwrap_err().to_string();
        assert_eq!(text(store.remove(9, None)), "File descriptor named 'fdset-id:9' not found");
        let (set, fd) = store.add(tempfile::tempfile().unwrap().into(), Some(2), None).unwrap();
        assert_eq!(
            text(store.remove(set, Some(99999))),
            "File descriptor named 'fdset-id:2, fd:99999' not found"
        );
        store.remove(set, Some(fd)).unwrap();
        assert!(store.query().is_empty());
        let unit = |r: Result<(i64, i32), ChardevError>| r.unwrap_err().to_string();
        assert_eq!(unit(store.add_inherited(1, 0, None)), "fd cannot be a standard I/O stream");
        assert_eq!(unit(store.add_inherited(99_999, 0, None)), "fd is not valid or already in use");
        let own = tempfile::tempfile().unwrap();
        assert_eq!(unit(store.add_inherited(own.as_raw_fd(), 0, None)), "fd is not valid or already in use");
        assert_eq!(unit(store.add_inherited(3, -1, None)).split(' ').next(), Some("set"));
    }

    #[test]
    fn names_replace_each_other_and_are_taken_once() {
        let store = FdStore::new();
        store.name("a", tempfile::tempfile().unwrap().into()).unwrap();
        store.name("a", tempfile::tempfile().unwrap().into()).unwrap();
        store.take("a").unwrap();
        assert_eq!(store.close("a").unwrap_err().to_string(), "File descriptor named 'a' not found");
        assert_eq!(store.take("a").unwrap_err().to_string(), "File descriptor named 'a' has not been found");
        assert!(store.name("1a", tempfile::tempfile().unwrap().into()).is_err());
    }

    #[test]
    fn only_decimal_names_are_sets() {
        assert_eq!(fdset_of(Path::new("/dev/fdset/12")), Some(12));
        for other in
            ["/dev/fdset/", "/dev/fdset/-1", "/dev/fdset/1x", "/dev/fdset/99999999999999999999", "fdset/1"]
        {
            assert_eq!(fdset_of(Path::new(other)), None, "{other}");
        }
    }
}
