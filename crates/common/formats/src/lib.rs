//! Every byte layout that crosses between parties, one module per format.
//!
//! Each format parses into a type whose values are valid and encodes back to the same bytes. Parsers
//! are total: any input gives a value or an [`Error`] that says what is wrong, never a panic.
//!
//! There is no state, no cryptography and no policy here: whether a digest fits or a version is
//! supported by some machine is decided by the firmware models and the owner's tools.
#![forbid(unsafe_code)]

mod codec;
pub mod s390x;
pub mod sev;

pub use codec::Error;
