//! A model of the AMD Secure Processor: the SEV and SEV-ES firmware interface, command by command, as a pure state
//! machine over command buffers and system physical memory.
//!
//! It does not emulate the processor's own CPU, its boot or its mailbox registers, it runs no guest code, and it opens
//! no file: what has to survive is given to the caller as a sealed area.
#![forbid(unsafe_code)]

mod asid;
mod asp;
mod bus;
mod certs;
mod channel;
mod commands;
mod crc;
mod engine;
mod guest;
mod identity;
mod memory;
mod store;
mod table;

pub use asp::{Asp, Config, Version};
pub use cloister_formats::sev::status::Status;
pub use engine::MemoryCipher;
pub use identity::{Identity, IdentityError, MODEL_ARK_ID, MODEL_ASK_ID, MODEL_CHIP_ID, Root, RootKeys};
pub use memory::{FlatMemory, NoMemory, SystemMemory};
pub use store::STORE_SIZE;

use cloister_formats::Error;
