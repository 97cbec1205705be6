//! Unit tests: known encodings, the source language, messages, and a comparison with GNU as.

mod gnu;
mod language;
