//! Whole runs of the binary.

pub mod inprocess;
