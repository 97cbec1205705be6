//! What the user wants guest memory to be made of.
//!
//! The software platform always uses memory of its own; what is asked for matters where a mechanism forbids
//! it, and is reported where it has no effect.

use crate::MachineError;
use cloister_options::CommandLine;
use rustix::fs::statfs;
use std::path::Path;

/// `f_type` of hugetlbfs (Linux, include/uapi/linux/magic.h).
const HUGETLBFS_MAGIC: i64 = 0x9584_58f6;
/// Huge pages of a host that does not say.
const USUAL_HUGE_PAGE: u64 = 2 << 20;

/// Where guest memory was asked to come from.
pub(crate) struct Backing {
    /// Bytes, from `-m` or the backend.
    pub(crate) size: Option<u64>,
    /// Size of the host's huge pages, if they were asked for.
    pub(crate) huge_pages: Option<u64>,
    /// A file that was asked for and is not used.
    pub(crate) unused: Option<String>,
}

pub(crate) fn read(line: &CommandLine) -> Result<Backing, MachineError> {
    let mut backing = Backing { size: line.memory.size, huge_pages: None, unused: None };
    if let Some(path) = &line.memory.path {
        backing.file("-mem-path", path)?;
    }
    let Some(id) = &line.machine.memory_backend else { return Ok(backing) };
    let fail = |problem: String| MachineError::Device { location: "-machine".into(), problem };
    let object = line.object(id).ok_or_else(|| fail(format!("Device '{id}' not found")))?;
    let size = object.properties.number("size").unwrap_or(0);
    match backing.size {
        Some(asked) if asked != size => {
            return Err(fail(format!(
                "Machine memory size does not match the size of the memory backend: {asked} and {size} bytes"
            )));
        }
        _ => backing.size = Some(size),
    }
    if object.properties.bool("hugetlb") == Some(true) {
        backing.huge_pages = Some(object.properties.number("hugetlbsize").unwrap_or_else(host_huge_page));
    }
    if let Some(path) = object.properties.text("mem-path") {
        backing.file(&object.qom_type, Path::new(path))?;
    }
    Ok(backing)
}

impl Backing {
    fn file(&mut self, option: &str, path: &Path) -> Result<(), MachineError> {
        // The file itself is created on demand by those who use it; its folder decides.
        let existing = path.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
        let found = statfs(existing).map_err(|errno| MachineError::Device {
            location: option.to_owned(),
            problem: format!("can't look at {}: {errno}", path.display()),
        })?;
        if found.f_type as i64 == HUGETLBFS_MAGIC {
            self.huge_pages = Some(found.f_bsize as u64);
        } else {
            self.unused =
                Some(format!("{option}: guest memory is the platform's own; {} is not used", path.display()));
        }
        Ok(())
    }
}

fn host_huge_page() -> u64 {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = meminfo.lines().find_map(|line| line.strip_prefix("Hugepagesize:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix("kB")).and_then(|kib| kib.trim().parse().ok());
    kib.map_or(USUAL_HUGE_PAGE, |kib: u64| kib << 10)
}
