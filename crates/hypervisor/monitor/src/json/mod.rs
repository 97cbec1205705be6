//! QMP's JSON: a stream of values in, ASCII out.
//!
//! The dialect is QEMU's: RFC 8259 with 'single quotes' and `\'` as well. It is not a general JSON library; what is
//! read becomes a [`serde_json::Value`].

mod lexer;
mod parse;
mod stream;
mod write;

pub use stream::{Limits, StreamError, StreamParser};
pub(crate) use write::{quoted, write_value};
