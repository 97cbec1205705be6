//! A small z/Architecture assembler, so that Cloister's own boot stages and guests are built from readable source
//! on every host without a cross tool chain. The syntax is a subset of GNU as for s390 (`%r1`, `8(%r2,%r3)`,
//! `.balign`, `larl %r1,label`), and the result is one flat image. Build scripts call [`assemble_file`]:
//!
//! ```no_run
//! let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../guests/s390x/stage-a.s");
//! let stage_a = cloister_asm_s390x::assemble_file(path)?;
//! for source in &stage_a.sources {
//!     println!("cargo:rerun-if-changed={}", source.display());
//! }
//! std::fs::write("stage-a.bin", &stage_a.bytes)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! It is not a general assembler: there are no sections, no relocations, no object files and no linker, and every
//! symbol is an address in the one image. Vector and decimal instructions are not known.
//!
//! Differences from GNU as: registers need their `%` name, gaps are filled with zeros (GNU as fills code with 0x07),
//! a symbol in `.skip`, `.org` or `.balign` must be defined before, and macro arguments keep their quotes.
//!
//! # Source language
//!
//! * Comments: `#` to the end of the line and `/* ... */`. Statements end at a line end or at `;`.
//! * Labels: `name:`, and numeric ones `1:` referred to as `1b` and `1f`. Names that begin with `.L` are not exported.
//! * Registers: `%r0`-`%r15` general, `%f` floating point, `%c` control, `%a` access. The class is checked, and so is
//!   the even number of a register pair.
//! * Expressions: GNU as precedence, from the tightest: unary `- + ~`; `* / << >>`; `| & ^`; `+ -`. `.` is the
//!   current address, `'x'` a character.
//! * Data: `.byte .short .long .quad` (aliases `.2byte .hword .4byte .int .8byte`), `.ascii .asciz .string`,
//!   `.ebcdic` (code page 037), `.skip`/`.space`/`.zero`.
//! * Layout: `.origin EXPR` (address of the first byte, before any other output), `.org ADDRESS[,FILL]` (forward
//!   only; an address, so that with an origin of 0 it means what GNU as does), `.balign N[,FILL]`.
//! * Symbols: `.equ NAME, EXPR` and `.set NAME, EXPR`; `.globl` and `.text` are accepted and do nothing.
//! * `.include "file"`, relative to the including file; `.macro NAME [ARG, ...]` to `.endm`, with `\ARG` replaced and
//!   `\@` a number that differs for each use.

#![forbid(unsafe_code)]

mod assembly;
mod expr;
mod operand;
mod source;
pub mod stages;
mod table;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// An assembled image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// The bytes from [`Object::origin`] on.
    pub bytes: Vec<u8>,
    /// Address of the first byte.
    pub origin: u64,
    /// Labels and `.equ` symbols (addresses, not offsets), without numeric and `.L` labels.
    pub symbols: BTreeMap<String, u64>,
    /// Every file that was read, for `cargo:rerun-if-changed`. Empty after [`assemble`].
    pub sources: Vec<PathBuf>,
}

impl Object {
    /// Value of a symbol.
    pub fn symbol(&self, name: &str) -> Option<u64> {
        self.symbols.get(name).copied()
    }

    /// Offset in [`Object::bytes`] of the address that a symbol names; `None` if there is no such symbol or it lies
    /// outside the image (the end counts as inside).
    pub fn offset_of(&self, name: &str) -> Option<usize> {
        let offset = usize::try_from(self.symbol(name)?.checked_sub(self.origin)?).ok()?;
        (offset <= self.bytes.len()).then_some(offset)
    }

    /// Address behind the last byte.
    pub fn end(&self) -> u64 {
        self.origin + self.bytes.len() as u64
    }
}

/// Why a source was not assembled.
#[derive(Debug, thiserror::Error)]
pub enum AsmError {
    /// A statement is wrong.
    #[error("{file}:{line}: {message}")]
    Statement {
        /// The file as it was named.
        file: String,
        /// Line number from 1.
        line: usize,
        /// What is wrong and what was expected.
        message: String,
    },
    /// The source file itself cannot be read.
    #[error("cannot read the assembler source {}; check the path", path.display())]
    Read {
        /// The path as given.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
}

/// Assembles `source`; `file` is its name for messages. `.include` is refused, because there is no file to be
/// relative to: use [`assemble_file`].
pub fn assemble(source: &str, file: &str) -> Result<Object, AsmError> {
    assembly::run(source::read_text(source, file)?, Vec::new())
}

/// Reads and assembles a file and what it includes.
pub fn assemble_file(path: impl AsRef<Path>) -> Result<Object, AsmError> {
    let (statements, sources) = source::read_file(path.as_ref())?;
    assembly::run(statements, sources)
}

/// Every mnemonic that the assembler knows, with the name of its instruction format, in alphabetical order.
pub fn mnemonics() -> impl Iterator<Item = (&'static str, &'static str)> {
    table::all().map(|(name, insn)| (name, insn.format))
}
