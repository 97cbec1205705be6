//! Files out of reach: programs, and the platform's private keys (landlock(7)).
//!
//! Landlock knows only what is allowed. To hide a file, reading is allowed for everything that lies beside the path to
//! it, entry by entry. So a file that comes to lie there later, directly in a folder above the keys, can be written but
//! not read by this process; nothing here opens new files to read during a run. Links to a key elsewhere are not seen.

use crate::words;
use landlock::{
    AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, RestrictSelfAttr, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus,
};
use rustix::fs::{Mode, OFlags, open};
use std::ffi::OsStr;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Entries beside the path to the keys that are worth their time at start-up, a few microseconds each.
const MOST_ENTRIES: usize = 4096;

/// What files are out of reach of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guarded {
    /// No program can be run.
    pub programs: bool,
    /// No private key of the platform can be read.
    pub keys: bool,
    /// Why there is less than was asked for.
    pub missing: Option<String>,
}

impl Guarded {
    pub(crate) fn off() -> Self {
        Self::nothing("switched off")
    }

    fn nothing(why: impl Into<String>) -> Self {
        Self { programs: false, keys: false, missing: Some(why.into()) }
    }
}

impl fmt::Display for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.programs, self.keys) {
            (true, true) => "programs and the platform's private keys are out of reach",
            (true, false) => "programs are out of reach",
            (false, _) => "no file is out of reach",
        })?;
        self.missing.iter().try_for_each(|why| write!(f, "; {why}"))
    }
}

/// Whether the kernel can put files out of reach.
///
/// # Errors
/// Why it cannot.
pub fn landlock() -> Result<(), String> {
    // The first version refuses every file that changes its folder.
    let second =
        Ruleset::default().set_compatibility(CompatLevel::HardRequirement).handle_access(AccessFs::Refer);
    second.and_then(Ruleset::create).map(drop).map_err(|_| {
        "this kernel has no Landlock, was started without it (lsm=) or is older than Linux 5.19".to_owned()
    })
}

/// Puts programs, and the private keys in `platform`, out of reach of this thread and those that it starts.
pub(crate) fn guard(platform: Option<&Path>) -> Guarded {
    if let Err(why) = landlock() {
        return Guarded::nothing(why);
    }
    let mut missing = None;
    let readable = platform.and_then(|folder| readable(folder).map_err(|why| missing = Some(why)).ok());
    match restrict(readable.as_deref()) {
        Ok(RulesetStatus::NotEnforced) => Guarded::nothing("the kernel did not take Landlock's rules"),
        Ok(_) => Guarded { programs: true, keys: readable.is_some(), missing },
        Err(why) => Guarded::nothing(words(&why)),
    }
}

fn restrict(readable: Option<&[OwnedFd]>) -> Result<RulesetStatus, landlock::RulesetError> {
    // Once anything is handled, moving between folders must be allowed by name.
    let mut handled = AccessFs::Execute | AccessFs::Refer;
    if readable.is_some() {
        handled |= AccessFs::ReadFile;
    }
    let mut rules = Ruleset::default().handle_access(handled)?.create()?;
    if let Ok(root) = PathFd::new("/") {
        rules = rules.add_rule(PathBeneath::new(root, AccessFs::Refer))?;
    }
    for entry in readable.into_iter().flatten() {
        rules = rules.add_rule(PathBeneath::new(entry, AccessFs::ReadFile))?;
    }
    // Where the kernel can (the eighth version), threads that run already are restricted as well.
    Ok(rules.all_threads(true)?.restrict_self()?.ruleset)
}

/// Everything beside the path to the private keys in `folder`.
fn readable(folder: &Path) -> Result<Vec<OwnedFd>, String> {
    let fail = |what: &Path, why: &dyn fmt::Display| {
        format!(
            "the platform's private keys are guarded by their permissions only: {}: {why}",
            what.display()
        )
    };
    let folder = folder.canonicalize().map_err(|why| fail(folder, &why))?;
    let mut readable = Vec::new();
    let mut way: Option<&OsStr> = None;
    for above in folder.ancestors() {
        let entries = above.read_dir().map_err(|why| fail(above, &why))?;
        for entry in entries.filter_map(Result::ok) {
            let name = entry.file_name();
            let hidden = match way {
                Some(way) => name == way,
                None => Path::new(&name).extension() == Some(OsStr::new("key")),
            };
            if hidden {
                continue;
            }
            // What cannot be opened now could not be read later either; a link's target has its own place.
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            if let Ok(entry) = open(entry.path(), flags, Mode::empty()) {
                readable.push(entry);
            }
            if readable.len() > MOST_ENTRIES {
                return Err(fail(above, &format_args!("more than {MOST_ENTRIES} entries lie beside them")));
            }
        }
        way = above.file_name();
    }
    Ok(readable)
}
