//! Character devices: sockets, terminals, files, pseudo-terminals, and passed file descriptors.
#![forbid(unsafe_code)]
