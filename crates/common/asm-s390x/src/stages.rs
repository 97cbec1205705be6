//! The contract between the boot stages in `guests/s390x` and the tool that builds Secure Execution images:
//! addresses, sizes and the layout of the argument blocks. `guests/s390x/README.md` says the same in words.
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

/// What the tool tells stage A. Distances count from the address of the argument block, which is
/// `STAGE_A_ADDRESS + length of stage A - STAGE_A_ARGUMENTS_SIZE`; header and parameter block lie above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageAArguments {
    /// Distance of the Secure Execution header.
    pub header_offset: u64,
    /// Its length.
    pub header_size: u64,
    /// Distance of the type-5 IPL parameter block (its address must be a multiple of 4096).
    pub ipib_offset: u64,
}

impl StageAArguments {
    /// The block as stage A reads it.
    pub fn to_bytes(&self) -> [u8; STAGE_A_ARGUMENTS_SIZE] {
        let mut bytes = [0; STAGE_A_ARGUMENTS_SIZE];
        put(&mut bytes, &[self.header_offset, self.header_size, self.ipib_offset]);
        bytes
    }
}

/// A component as stage B finds it: address and size before padding. Zero if there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Component {
    /// Address.
    pub address: u64,
    /// Size in bytes without padding.
    pub size: u64,
}

/// What the tool tells stage B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageBArguments {
    /// The whole kernel image, from its offset 0.
    pub kernel: Component,
    /// The command line with its NUL.
    pub command_line: Component,
    /// The ramdisk.
    pub ramdisk: Component,
    /// PSW of the kernel: mask and address, [`PSW_MASK_64_BIT`] and [`KERNEL_ENTRY`] for Linux.
    pub psw: (u64, u64),
}

impl StageBArguments {
    /// The block as stage B reads it.
    pub fn to_bytes(&self) -> [u8; STAGE_B_ARGUMENTS_SIZE] {
        let mut bytes = [0; STAGE_B_ARGUMENTS_SIZE];
        let Self { kernel, command_line, ramdisk, psw } = self;
        put(
            &mut bytes,
            &[
                kernel.address,
                kernel.size,
                command_line.address,
                command_line.size,
                ramdisk.address,
                ramdisk.size,
                psw.0,
                psw.1,
            ],
        );
        bytes
    }
}

fn put(bytes: &mut [u8], values: &[u64]) {
    for (field, value) in bytes.chunks_exact_mut(8).zip(values) {
        field.copy_from_slice(&value.to_be_bytes());
    }
}
