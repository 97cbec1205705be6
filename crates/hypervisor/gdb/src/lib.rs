//! The gdb stub: the debugger's door to a guest.
#![forbid(unsafe_code)]
