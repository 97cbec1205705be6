//! What operators may ask of a running machine: one trait, plain data, events.
#![forbid(unsafe_code)]
