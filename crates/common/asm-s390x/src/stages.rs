//! The contract between the boot stages in `guests/s390x` and the tool that builds Secure Execution images:
//! addresses and sizes. `guests/s390x/README.md` says the same in words; the argument blocks are formats of the image
//! (`cloister_formats::s390x::se_image`).
//!
//! It does not build images; the stages' bytes come from [`crate::assemble_file`].

/// Address, and offset in the image file, of stage A's first byte.
pub const STAGE_A_ADDRESS: u64 = 0x10000;
/// Stage A's entry, named by the short PSW at offset 0 of the image.
pub const STAGE_A_ENTRY: u64 = 0x11000;
/// Stage A ends at or below this address.
pub const STAGE_A_LIMIT: u64 = 0x13000;
/// Size of the argument block at the end of stage A.
pub const STAGE_A_ARGUMENTS_SIZE: usize = 24;
/// Where stage B runs after it moved itself.
pub const STAGE_B_HOME: u64 = 0xa000;
/// Stage B's body ends at or below this address when it runs.
pub const STAGE_B_LIMIT: u64 = 0xf000;
/// Size of the argument block at the end of stage B.
pub const STAGE_B_ARGUMENTS_SIZE: usize = 64;
/// PSW mask of 64-bit mode with DAT and all interruptions off: the mask of both PSWs that the tool writes
/// (z/Architecture Principles of Operation, SA22-7832, chapter 4 "Program-Status Word").
pub const PSW_MASK_64_BIT: u64 = 0x0000_0001_8000_0000;
/// Where stage B starts the kernel.
pub const KERNEL_ENTRY: u64 = 0x10000;
