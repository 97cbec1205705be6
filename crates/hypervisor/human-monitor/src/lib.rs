//! The monitor for people.
#![forbid(unsafe_code)]
