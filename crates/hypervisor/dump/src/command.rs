//! `dump-guest-memory`, for every monitor.

use crate::target::{self, Target};
use cloister_control::{ControlError, DumpRange, DumpStatus, Machine};
use std::sync::Arc;

/// What was asked for.
#[derive(Debug, Default)]
pub struct Command {
    /// Follow the guest's address translation; on s390x the file is the same.
    pub paging: bool,
    /// Answer at once and go on alone.
    pub detach: bool,
    /// First guest absolute address.
    pub begin: Option<i64>,
    /// Bytes.
    pub length: Option<i64>,
    /// The file's format; `elf` if absent.
    pub format: Option<String>,
}

/// Formats that there are here, by QMP's names.
pub const FORMATS: &[&str] = &["elf"];

/// Dumps the guest; `open` says where to, once the rest has been checked. Texts are QEMU's.
///
/// # Errors
/// If an argument does not fit, or if the dump cannot be begun or, unless detached, written.
pub fn command(
    machine: &Arc<dyn Machine>,
    asked: &Command,
    open: impl FnOnce() -> Result<Target, ControlError>,
) -> Result<(), ControlError> {
    if machine.dump_progress().status == DumpStatus::Active {
        return Err(ControlError::new("There is a dump in process, please wait."));
    }
    let format = asked.format.as_deref().unwrap_or("elf");
    let is_filtered = asked.paging || asked.begin.is_some() || asked.length.is_some();
    if format != "elf" && is_filtered {
        return Err(ControlError::new("kdump-compressed format doesn't support paging or filter"));
    }
    if asked.begin.is_some() && asked.length.is_none() {
        return Err(ControlError::new("Parameter 'length' is missing"));
    }
    if asked.begin.is_none() && asked.length.is_some() {
        return Err(ControlError::new("Parameter 'begin' is missing"));
    }
    if format == "win-dmp" {
        return Err(ControlError::new("Windows dump is only available for x86-64"));
    }
    if !FORMATS.contains(&format) {
        return Err(ControlError::new(format!("{format} is not available now")));
    }
    let target = open()?;
    let invalid = |name| ControlError::new(format!("Invalid parameter '{name}'"));
    let mut range = DumpRange::default();
    if let (Some(begin), Some(length)) = (asked.begin, asked.length) {
        let length = u64::try_from(length).ok().filter(|length| *length > 0);
        range.length = Some(length.ok_or_else(|| invalid("length"))?);
        range.begin = u64::try_from(begin).map_err(|_| invalid("begin"))?;
    }
    let mut sink = target::open(target)?;
    machine.dump_begin(range)?;
    if !asked.detach {
        return machine.dump_write(&mut *sink);
    }
    let alone = Arc::clone(machine);
    let thread = std::thread::Builder::new().name("dump".into());
    let (to, from) = std::sync::mpsc::channel::<Box<dyn cloister_control::DumpSink>>();
    let work = move || {
        if let Ok(mut sink) = from.recv() {
            // Told as an event.
            let _ = alone.dump_write(&mut *sink);
        }
    };
    if thread.spawn(work).is_ok() {
        let _ = to.send(sink);
        return Ok(());
    }
    // Without a thread it takes its time here.
    machine.dump_write(&mut *sink)
}
