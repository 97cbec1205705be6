//! The modelled x86-64 machine behind the lower door: memory and the AMD secure processor together.
//!
//! It does what the hardware's wiring does: commands in the mailbox reach the firmware, and the firmware reaches guest
//! memory. It has no rules of its own beyond that; they are in the crates it joins. No core runs x86-64 guests in this
//! version.
#![forbid(unsafe_code)]
