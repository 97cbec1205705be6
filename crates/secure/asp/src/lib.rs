//! A model of the AMD Secure Processor: the SEV and SEV-ES firmware interface, command by command, as a pure state
//! machine over command buffers and system physical memory.
//!
//! It does not emulate the processor's own CPU, its boot or its mailbox registers, it runs no guest code, and it opens
//! no file: what has to survive is given to the caller as a sealed area.
//!
//! # Where the published firmware says nothing
//!
//! * A command buffer shorter than its structure gives INVALID_LENGTH, before everything; an address without memory, in
//!   the trusted memory region, or beyond 2^64 gives INVALID_ADDRESS, where the memory would be touched. The C-bit in an
//!   address is dropped.
//! * There is no SEV-SNP: its commands are INVALID_COMMAND. RING_BUFFER is UNSUPPORTED, and so is DOWNLOAD_FIRMWARE after
//!   its tests of state and alignment. SEV-ES asked of a processor without it is INVALID_CONFIG.
//! * The trusted memory region has exactly 1 MiB; 256 bytes of it are a block for one VMSA. Its content is not in system
//!   memory. DF_FLUSH begins its use when it succeeds.
//! * GET_ID gives opaque bytes that begin with `CLOISTER-MODEL-C`, not a point of a curve. A buffer with room for one of
//!   two sockets gets the first.
//! * The area that persists is one record of 32 KiB. An area of zeros counts as erased, like one of 0xff.
//! * The CEK's certificate names API 0.0, because no firmware made it. Keys are on P-384 only: an owner's key on another
//!   curve is INVALID_CERTIFICATE.
//! * ACTIVATE_EX tests its length first, and its list of cores last: none, too many or unknown ones are INVALID_PARAM. An
//!   ASID that a finished guest gets is usable at once.
//! * An "active" ASID is one that is not pending for SWAP_*, and any for SEND_UPDATE_* and RECEIVE_UPDATE_*. A guest with
//!   any ASID cannot be decommissioned.
//! * SEND_UPDATE_* puts the guest's length into the MAC as both lengths, because the receiver demands that they are equal.
//!   A VMSA of another length than 4096 is INVALID_PARAM.
//! * SEND_START with policy SEV trusts the ARKs whose SHA-256 the configuration lists, or those of the own identity;
//!   another ARK is INVALID_CERTIFICATE.
//! * The counter of a swapped page stands little-endian at the start of the GCM IV; a tag that does not fit is
//!   BAD_MEASUREMENT; source and destination that overlap are INVALID_PARAM, unless the page is swapped in in place, where
//!   they must be equal. That a data page is no VMSA is seen for pages of 4 KiB.
#![forbid(unsafe_code)]

mod asid;
mod asp;
mod bus;
mod certs;
mod channel;
mod commands;
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
