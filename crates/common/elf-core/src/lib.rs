//! ELF cores of s390x guests: notes with each CPU's registers, memory, and sections with what a protected guest's
//! owner needs besides.
//!
//! A core is written front to back, so that memory of any size passes through without being kept; reading looks at
//! headers and notes only. Structures of ELF are those of the `object` crate; the notes are Linux's
//! (`arch/s390/include/uapi/asm/ptrace.h`, `include/uapi/linux/elf.h`). It knows nothing of encryption.
#![forbid(unsafe_code)]

mod notes;
mod read;
mod write;

pub use notes::{CpuNotes, GuardedStorage, Registers, Vectors};
pub use read::{Core, CoreError, Load, Note, Section};
pub use write::{CoreWriter, Layout};
