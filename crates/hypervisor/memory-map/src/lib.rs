//! Pictures of who owns each page.
#![forbid(unsafe_code)]
