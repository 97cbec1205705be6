//! The QMP monitor: one table of commands, a server, the schema.
#![forbid(unsafe_code)]
