//! What the process gives up once it runs: system calls, files, core dumps.
#![forbid(unsafe_code)]
