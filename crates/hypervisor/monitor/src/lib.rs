//! The QMP monitor: one table of commands, the sessions of its clients, and the schema and documentation that the
//! table gives.
//!
//! It knows no machine: everything is asked of a [`cloister_control::Operator`]. It knows no socket either; the bytes
//! come from `cloister-chardev`.
#![forbid(unsafe_code)]

mod call;
mod client;
mod commands;
mod docs;
mod events;
mod json;
mod monitor;
mod qom;
mod qom_types;
mod save;
mod schema;
mod server;
mod session;
mod table;
mod types;

pub use call::Call;
pub use client::Client;
pub use docs::document;
pub use json::{Limits, StreamError, StreamParser};
pub use monitor::Monitor;
pub use server::{ENOUGH, Handle, Options, QUEUE};
pub use table::{Arguments, Command, EVENTS, EventSpec, Handler, Reply, Requires, commands};
pub use types::{Alternate, Enum, Member, Struct, Type, Union, member, optional};
