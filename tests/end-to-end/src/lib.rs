//! Whole runs of the binary.
#![forbid(unsafe_code)]

pub mod inprocess;
