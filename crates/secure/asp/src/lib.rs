//! A model of the AMD Secure Processor: the SEV and SEV-ES firmware interface, command by command, as a pure state
//! machine over command buffers and system physical memory.
//!
//! It does not emulate the processor's own CPU, its boot or its mailbox registers, it runs no guest code, and it opens
//! no file: what has to survive is given to the caller as a sealed area.
#![forbid(unsafe_code)]
