//! Files that are written completely or not at all.

use crate::table::Reply;
use cloister_control::ControlError;
use serde_json::json;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Most bytes asked for at once: a page, because the next page of a logical address may be anywhere.
const PIECE: u64 = 4096;

/// Writes what is at `base` to a file, `size` bytes; `fill` gives them by address, never across a page. They go to a new
/// file beside it that takes its name when it is complete; after a refusal the old file, if any, is as it was. The
/// range does not wrap around.
pub(crate) fn write_file(
    name: &str,
    base: u64,
    size: u64,
    fill: impl FnMut(u64, &mut [u8]) -> Result<(), ControlError>,
) -> Reply {
    let failed = |what: &str, error: &io::Error| {
        ControlError::new(format!("Could not {what} '{name}': {}", words(error)))
    };
    let path = target(name).map_err(|error| failed("open", &error))?;
    let (temporary, file) = create(&path).map_err(|error| failed("open", &error))?;
    let written = fill_file(file, base..base + size, fill, |error| failed("write", error))
        .and_then(|()| fs::rename(&temporary, &path).map_err(|error| failed("write", &error)));
    if let Err(error) = written {
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    Ok(json!({}))
}

/// Where the name leads. Only regular files can be replaced.
fn target(name: &str) -> io::Result<PathBuf> {
    match fs::metadata(name) {
        Ok(meta) if meta.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(meta) if !meta.is_file() => Err(io::Error::other("it is not a regular file; name a new one")),
        // Through symbolic links, so that it is the file that is replaced and not the link.
        Ok(_) => fs::canonicalize(name),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(PathBuf::from(name)),
        Err(error) => Err(error),
    }
}

fn create(path: &Path) -> io::Result<(PathBuf, File)> {
    let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
    for attempt in 0..16u32 {
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}-{attempt}", std::process::id()));
        let temporary = path.with_file_name(hidden);
        match OpenOptions::new().write(true).create_new(true).open(&temporary) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(file) => return Ok((temporary, file)),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn fill_file(
    mut file: File,
    range: Range<u64>,
    mut fill: impl FnMut(u64, &mut [u8]) -> Result<(), ControlError>,
    failed: impl Fn(&io::Error) -> ControlError,
) -> Result<(), ControlError> {
    let mut buffer = vec![0; PIECE as usize];
    let mut at = range.start;
    while at < range.end {
        let len = (range.end - at).min(PIECE - at % PIECE);
        let len = usize::try_from(len).unwrap_or(buffer.len());
        let piece = buffer.get_mut(..len).unwrap_or_default();
        fill(at, piece)?;
        file.write_all(piece).map_err(|error| failed(&error))?;
        at += len as u64;
    }
    Ok(())
}

/// The kernel's words without Rust's addition of the number.
fn words(error: &io::Error) -> String {
    let text = match error.kind() {
        io::ErrorKind::IsADirectory => "Is a directory".to_owned(),
        _ => error.to_string(),
    };
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_file_leaves_nothing_and_an_old_one_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        let name = path.to_str().unwrap();
        let refuse = |at, _: &mut [u8]| match at {
            0 => Ok(()),
            _ => Err(ControlError::new("gone")),
        };
        assert!(write_file(name, 0, 8192, refuse).is_err());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        fs::write(&path, "old").unwrap();
        assert!(write_file(name, 0, 8192, refuse).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert!(
            write_file(name, 100, 5000, |at, piece| {
                piece.fill(u8::from(at == 100));
                Ok(())
            })
            .is_ok()
        );
        let bytes = fs::read(&path).unwrap();
        assert_eq!((bytes.len(), bytes[3995], bytes[3996]), (5000, 1, 0));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_written_is_named_as_qemu_names_it() {
        let fill = |_, _: &mut [u8]| Ok(());
        let refusal = |name: &str| write_file(name, 0, 1, fill).unwrap_err().text;
        assert_eq!(refusal("/"), "Could not open '/': Is a directory");
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("none/file").display().to_string();
        assert_eq!(refusal(&missing), format!("Could not open '{missing}': No such file or directory"));
        assert!(refusal("/dev/null").contains("not a regular file"));
    }
}
