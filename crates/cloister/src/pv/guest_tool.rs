//! `cloister pv guest-tool`: a program for guests that have no tools of their own.
//!
//! The code is `guests/s390x/uvdevice.s`; here it gets the header that makes it an executable file of Linux
//! (Executable and Linkable Format, "Program Loading"; machine 22 is EM_S390).

use crate::out;
use clap::Args;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Args)]
#[command(after_help = GUEST_HELP)]
pub(crate) struct GuestTool {
    /// Where to write it
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Replace the output
    #[arg(long)]
    overwrite: bool,
}

impl GuestTool {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let mut options = std::fs::OpenOptions::new();
        options.write(true).mode(0o755);
        if self.overwrite {
            options.create(true).truncate(true)
        } else {
            options.create_new(true)
        };
        let name = self.output.display();
        let mut file = options.open(&self.output).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                anyhow::anyhow!("{name} exists; remove it, or say --overwrite")
            }
            _ => anyhow::anyhow!("cannot write {name}: {error}"),
        })?;
        file.write_all(&executable()).map_err(|error| anyhow::anyhow!("cannot write {name}: {error}"))?;
        out::line(&format!(
            "{name}: for s390x Linux guests; copy it into the guest, load the module uvdevice there, and run \
             `uvdevice attest REQUEST ANSWER`, `add REQUEST`, `list FILE`, `lock` or `retrieve INDEX FILE`"
        ));
        Ok(ExitCode::SUCCESS)
    }
}

/// The file: header, two program headers, code. The second segment is the program's zeroed memory; it begins with
/// the file's first bytes, because a segment without any is treated differently by kernels of different age.
fn executable() -> Vec<u8> {
    let size = HEADERS + CODE.len() as u64;
    let mut file = Vec::with_capacity(size as usize);
    file.extend_from_slice(b"\x7fELF\x02\x02\x01\0\0\0\0\0\0\0\0\0");
    for half in [2u16, 22] {
        file.extend_from_slice(&half.to_be_bytes());
    }
    file.extend_from_slice(&1u32.to_be_bytes());
    for word in [number(env!("GUEST_TOOL_START")), ELF_HEADER, 0] {
        file.extend_from_slice(&word.to_be_bytes());
    }
    file.extend_from_slice(&0u32.to_be_bytes());
    for half in [ELF_HEADER as u16, PROGRAM_HEADER as u16, 2, 0, 0, 0] {
        file.extend_from_slice(&half.to_be_bytes());
    }
    let code = number(env!("GUEST_TOOL_CODE")) - HEADERS;
    let (data, data_size) = (number(env!("GUEST_TOOL_DATA")), number(env!("GUEST_TOOL_DATA_SIZE")));
    for (flags, address, in_file, in_memory) in
        [(READ | EXECUTE, code, size, size), (READ | WRITE, data, ELF_HEADER, data_size)]
    {
        for word in [LOAD, flags] {
            file.extend_from_slice(&word.to_be_bytes());
        }
        for word in [0, address, address, in_file, in_memory, 0x1000] {
            file.extend_from_slice(&word.to_be_bytes());
        }
    }
    file.extend_from_slice(CODE);
    file
}

/// A number that the build script wrote.
fn number(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}

const CODE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/uvdevice.bin"));
const ELF_HEADER: u64 = 64;
const PROGRAM_HEADER: u64 = 56;
const HEADERS: u64 = ELF_HEADER + 2 * PROGRAM_HEADER;
const LOAD: u32 = 1;
const EXECUTE: u32 = 1;
const WRITE: u32 = 2;
const READ: u32 = 4;
const GUEST_HELP: &str = "In the guest:
  uvdevice attest REQUEST ANSWER [USERDATA]   REQUEST of `pv attest create`; ANSWER for `pv attest verify`
  uvdevice add REQUEST                        REQUEST of `pv secret create`
  uvdevice list FILE                          the Ultravisor's page; `pv secret list -i FILE` reads it
  uvdevice lock
  uvdevice retrieve INDEX FILE
It needs Linux's module uvdevice; s390-tools' pvattest and pvsecret do the same and more.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elf_the_file_is_as_long_as_it_says_and_starts_in_its_code() {
        let file = executable();
        let word = |at: usize| u64::from_be_bytes(file[at..at + 8].try_into().unwrap());
        assert_eq!(file[..6], *b"\x7fELF\x02\x02");
        assert_eq!(word(64 + 32), file.len() as u64);
        let (entry, base) = (word(24), word(64 + 16));
        assert_eq!(base % 0x1000, 0);
        assert_eq!(file[(entry - base) as usize..][..2], CODE[..2]);
        assert_eq!((file.len() - CODE.len()) as u64, number(env!("GUEST_TOOL_CODE")) - base);
    }
}
