//! The `cloister` command.
#![forbid(unsafe_code)]
fn main() {}
