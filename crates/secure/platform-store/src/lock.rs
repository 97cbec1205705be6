//! Who uses a platform folder, and who changes it.
//!
//! Whoever runs or asks the machine holds `lock` shared; whoever changes its identity or switches holds it alone. The
//! way to `lock` leads through `change.lock`, which a change holds from its beginning to its end. So somebody who has
//! `lock` shared can try to get it alone and fall back without anybody coming in between, which flock(2) does not
//! promise by itself. The system drops both when a process ends, however it ends.

use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::PlatformError;

/// A lock on a platform folder.
#[derive(Debug)]
pub(crate) struct Lock {
    folder: PathBuf,
    users: File,
    changes: File,
    /// Whether it is held alone as long as this value lives.
    alone: bool,
    /// Locks belong to open files: threads that share one must take turns.
    turn: Mutex<()>,
}

impl Lock {
    /// For whoever runs or asks the machine.
    pub(crate) fn shared(folder: &Path) -> Result<Self, PlatformError> {
        let lock = Self::files(folder, false)?;
        if !until_deadline(|| lock.taken(File::try_lock_shared, &lock.changes))? {
            return Err(lock.changing());
        }
        let taken = lock.taken(File::try_lock_shared, &lock.users)?;
        lock.let_in()?;
        if taken { Ok(lock) } else { Err(lock.changing()) }
    }

    /// For whoever changes the machine.
    pub(crate) fn alone(folder: &Path) -> Result<Self, PlatformError> {
        let lock = Self::files(folder, true)?;
        lock.take_alone(|| false)?;
        Ok(lock)
    }

    /// As [`alone`](Self::alone), or `None` if somebody else makes it needless in the meantime.
    pub(crate) fn alone_unless(
        folder: &Path,
        needless: impl Fn() -> bool,
    ) -> Result<Option<Self>, PlatformError> {
        let lock = Self::files(folder, true)?;
        let taken = lock.take_alone(&needless)?;
        Ok(Some(lock).filter(|_| taken && !needless()))
    }

    /// As [`alone`](Self::alone), if the folder has ever been in use; nothing is made in it otherwise.
    pub(crate) fn alone_if_ever_used(folder: &Path) -> Result<Option<Self>, PlatformError> {
        if folder.join(USERS).exists() { Self::alone(folder).map(Some) } else { Ok(None) }
    }

    /// Has the folder alone until the answer is dropped, if nobody else has it now. Opens no file: a sandbox may forbid
    /// that.
    pub(crate) fn change(&self) -> Result<Turn<'_>, PlatformError> {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if self.alone {
            return Ok(Turn { lock: self, _turn: turn });
        }
        if !self.taken(File::try_lock, &self.changes)? {
            return Err(self.changing());
        }
        if self.taken(File::try_lock, &self.users)? {
            return Ok(Turn { lock: self, _turn: turn });
        }
        let error = self.in_use();
        self.share_again();
        Err(error)
    }

    /// From alone to shared.
    pub(crate) fn share(mut self) -> Self {
        self.alone = false;
        self.share_again();
        self
    }

    /// Waits for both locks, and says whether it has them: not if it became needless.
    fn take_alone(&self, needless: impl Fn() -> bool) -> Result<bool, PlatformError> {
        let errors: [fn(&Self) -> PlatformError; 2] = [Self::changing, Self::in_use];
        for (file, error) in [&self.changes, &self.users].into_iter().zip(errors) {
            let mut taken = false;
            let over = until_deadline(|| {
                taken = self.taken(File::try_lock, file)?;
                Ok(taken || needless())
            })?;
            match (taken, over) {
                (true, _) => {}
                (false, true) => return Ok(false),
                (false, false) => return Err(error(self)),
            }
        }
        Ok(true)
    }

    fn files(folder: &Path, alone: bool) -> Result<Self, PlatformError> {
        let open = |name: &str| {
            let path = folder.join(name);
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false);
            options.open(&path).map_err(PlatformError::io("lock", &path))
        };
        let (users, changes) = (open(USERS)?, open(CHANGES)?);
        Ok(Self { folder: folder.into(), users, changes, alone, turn: Mutex::new(()) })
    }

    /// Whether a file could be locked in this way at once.
    fn taken(&self, how: fn(&File) -> Result<(), TryLockError>, file: &File) -> Result<bool, PlatformError> {
        match how(file) {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(PlatformError::io("lock", &self.folder)(error)),
        }
    }

    /// Whoever has `change.lock` gets `lock` shared: nobody has it alone, nor can take it so.
    fn share_again(&self) {
        let shared = self.taken(File::try_lock_shared, &self.users).and_then(|taken| {
            self.let_in()?;
            Ok(taken)
        });
        if !matches!(shared, Ok(true)) {
            tracing::error!(folder = %self.folder.display(), "the platform's lock is lost");
        }
    }

    fn let_in(&self) -> Result<(), PlatformError> {
        self.changes.unlock().map_err(PlatformError::io("unlock", &self.folder))
    }

    fn in_use(&self) -> PlatformError {
        PlatformError::InUse { folder: self.folder.clone(), holder: holders(&self.users) }
    }

    fn changing(&self) -> PlatformError {
        PlatformError::Changing { folder: self.folder.clone(), holder: holders(&self.changes) }
    }
}

/// A time in which nobody else has the folder.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    lock: &'a Lock,
    _turn: MutexGuard<'a, ()>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.lock.alone {
            self.lock.share_again();
        }
    }
}

/// Tries until it works or the patience is over: a change takes moments, and so does a question.
fn until_deadline(mut attempt: impl FnMut() -> Result<bool, PlatformError>) -> Result<bool, PlatformError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if attempt()? {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        std::thread::sleep(PAUSE);
    }
}

/// Other holders of locks on a file, in words (proc(5), /proc/locks).
fn holders(file: &File) -> String {
    let Ok(metadata) = file.metadata() else { return SOMEBODY.into() };
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let (dev, inode) = (metadata.dev(), metadata.ino());
    // As glibc's gnu_dev_major and gnu_dev_minor take a number apart.
    let major = (dev >> 8) & 0xfff | (dev >> 32) & !0xfff;
    let minor = dev & 0xff | (dev >> 12) & !0xff;
    let of_file = format!("{major:02x}:{minor:02x}:{inode}");
    let mut pids: Vec<u32> = locks
        .lines()
        .filter_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            // Those that wait have an arrow in the second place.
            let ours = fields.get(1) == Some(&"FLOCK") && fields.get(5) == Some(&of_file.as_str());
            ours.then(|| fields.get(4)?.parse().ok()).flatten()
        })
        .filter(|pid| *pid != 0)
        .collect();
    pids.sort_unstable();
    pids.dedup();
    // An attempt of our own leaves one of our locks in the list, and we are not in our own way.
    let own = std::process::id();
    if pids.iter().any(|pid| *pid != own) {
        pids.retain(|pid| *pid != own);
    }
    match pids.as_slice() {
        [] => SOMEBODY.into(),
        [one] => format!("process {one}"),
        many => format!("processes {}", many.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")),
    }
}

/// Held shared by users, and alone by a change.
const USERS: &str = "lock";
/// Held alone by a change, and shared for a moment by a user who comes.
const CHANGES: &str = "change.lock";
/// How long somebody waits for another.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(10);
const SOMEBODY: &str = "another process";
