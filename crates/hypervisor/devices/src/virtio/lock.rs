//! Locks on images, the same that QEMU takes, so that the two respect each other: bytes of the file stand for what a
//! user of the image does (from byte 100) and for what it cannot stand in others (from byte 200), and each holds read
//! locks of an open file description on its own (QEMU manual, "Disk image file locking"; fcntl(2), `F_OFD_SETLK`).
//!
//! Advice to others: a program that does not ask is not kept away. Where the file system has no such locks there are none.

use std::fs::File;
use std::io;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// What the user of an image does, and what it allows others meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// It writes.
    pub write: bool,
    /// It changes the image's length.
    pub resize: bool,
    /// Others may write.
    pub share_write: bool,
    /// Others may change the length.
    pub share_resize: bool,
}

impl Use {
    /// A disk on the image's own bytes.
    pub fn raw(write: bool, share_write: bool) -> Self {
        Self { write, resize: false, share_write, share_resize: true }
    }

    /// A format with tables of its own, or the layer below such a one.
    pub fn format(write: bool) -> Self {
        Self { write, resize: write, share_write: false, share_resize: false }
    }
}

/// Somebody else has the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// Somebody does not allow what is wanted.
    #[error("Failed to get \"{0}\" lock")]
    Wanted(&'static str),
    /// Somebody does what cannot be stood.
    #[error("Failed to get shared \"{0}\" lock")]
    Unshared(&'static str),
}

const CONSISTENT_READ: i64 = 0;
const WRITE: i64 = 1;
const RESIZE: i64 = 3;
const WANTED: i64 = 100;
const UNSHARED: i64 = 200;

/// Locks an image for as long as this open file, or a duplicate of it, is open.
///
/// # Errors
/// Somebody else has it. Nothing is locked then.
pub fn lock(file: &File, wanted: Use) -> Result<(), Conflict> {
    let mut wants = vec![(CONSISTENT_READ, "consistent read")];
    let mut unshared = Vec::new();
    if wanted.write {
        wants.push((WRITE, "write"));
    }
    if wanted.resize {
        wants.push((RESIZE, "resize"));
    }
    if !wanted.share_write {
        unshared.push((WRITE, "write"));
    }
    if !wanted.share_resize {
        unshared.push((RESIZE, "resize"));
    }
    // First say what is wanted, then look for others: of two who come at once, at least one sees the other.
    let bytes =
        wants.iter().map(|(bit, _)| WANTED + bit).chain(unshared.iter().map(|(bit, _)| UNSHARED + bit));
    for byte in bytes {
        if let Err(error) = set(file, byte, libc::F_RDLCK) {
            tracing::debug!("an image is not locked: {error}");
            unlock(file);
            return Ok(());
        }
    }
    let other = |byte| held_by_another(file, byte);
    let refused =
        wants.into_iter().find(|(bit, _)| other(UNSHARED + bit)).map(|(_, name)| Conflict::Wanted(name));
    let refused = refused.or_else(|| {
        unshared.into_iter().find(|(bit, _)| other(WANTED + bit)).map(|(_, name)| Conflict::Unshared(name))
    });
    match refused {
        None => Ok(()),
        Some(conflict) => {
            unlock(file);
            Err(conflict)
        }
    }
}

/// Gives the locks back.
pub fn unlock(file: &File) {
    let (start, length) = (WANTED, UNSHARED - WANTED + 64);
    let all = range(start, length, libc::F_UNLCK);
    if let Err(error) = fcntl(file, FcntlArg::F_OFD_SETLK(&all)) {
        tracing::debug!("an image is not unlocked: {error}");
    }
}

fn set(file: &File, byte: i64, kind: i32) -> io::Result<()> {
    fcntl(file, FcntlArg::F_OFD_SETLK(&range(byte, 1, kind))).map(drop).map_err(|error| match error {
        Errno::EAGAIN | Errno::EACCES => io::Error::from(io::ErrorKind::WouldBlock),
        other => other.into(),
    })
}

fn held_by_another(file: &File, byte: i64) -> bool {
    let mut found = range(byte, 1, libc::F_WRLCK);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut found)).is_ok() && i32::from(found.l_type) != libc::F_UNLCK
}

fn range(start: i64, length: i64, kind: i32) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start,
        l_len: length,
        // Open file description locks want it so.
        l_pid: 0,
    }
}
