//! The `ioctl`s themselves.

use std::fs::File;
use std::io;

use cloister_formats::s390x::exchange::ExchangeResponse;
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

/// Calls whose argument is one buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    AddSecret,
    ListSecrets,
    LockSecrets,
    RetrieveSecret,
}

/// What the Ultravisor answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Codes {
    pub(crate) rc: u16,
    pub(crate) rrc: u16,
}

/// Who passes calls on.
pub(crate) trait Kernel {
    fn call(&self, call: Call, argument: &mut [u8]) -> io::Result<Codes>;
    /// Fills in measurement, additional data and the configuration's identity.
    fn attest(&self, response: &mut ExchangeResponse) -> io::Result<Codes>;
}

/// `struct uvio_ioctl_cb`.
#[repr(C)]
pub(crate) struct ControlBlock {
    flags: u32,
    rc: u16,
    rrc: u16,
    argument: u64,
    size: u32,
    reserved: [u8; 0x40 - 0x14],
}

/// `struct uvio_attest`.
#[repr(C)]
pub(crate) struct AttestArgument {
    arcb: u64,
    measurement: u64,
    additional: u64,
    user_data: [u8; 0x100],
    config_uid: [u8; 0x10],
    arcb_size: u32,
    measurement_size: u32,
    additional_size: u32,
    user_data_size: u16,
    reserved: u16,
}

/// The lengths that the driver reads and writes; the first field that is off would corrupt memory.
const _: () = assert!(size_of::<ControlBlock>() == 0x40 && size_of::<AttestArgument>() == 0x138);
const _: () = assert!(std::mem::offset_of!(ControlBlock, argument) == 8);
const _: () = assert!(std::mem::offset_of!(AttestArgument, config_uid) == 0x118);
const _: () = assert!(std::mem::offset_of!(AttestArgument, user_data_size) == 0x134);

pub(crate) const ATTEST: Opcode = opcode::read_write::<ControlBlock>(b'u', 1);
const ADD_SECRET: Opcode = opcode::read_write::<ControlBlock>(b'u', 2);
const LIST_SECRETS: Opcode = opcode::read_write::<ControlBlock>(b'u', 3);
const LOCK_SECRETS: Opcode = opcode::read_write::<ControlBlock>(b'u', 4);
const RETRIEVE_SECRET: Opcode = opcode::read_write::<ControlBlock>(b'u', 5);

impl Kernel for File {
    fn call(&self, call: Call, argument: &mut [u8]) -> io::Result<Codes> {
        let address = if argument.is_empty() { 0 } else { argument.as_mut_ptr() as u64 };
        let mut block = ControlBlock::new(address, argument.len());
        // SAFETY: the block is the driver's, and `argument` is borrowed exclusively until the call has returned. The
        // driver reads and writes at most `size` bytes there (drivers/s390/char/uvdevice.c: each call copies
        // `argument_len` bytes or fewer). Another device under this name fails with ENOTTY, as its numbers differ.
        let done = unsafe {
            match call {
                Call::AddSecret => ioctl(self, Updater::<ADD_SECRET, _>::new(&mut block)),
                Call::ListSecrets => ioctl(self, Updater::<LIST_SECRETS, _>::new(&mut block)),
                Call::LockSecrets => ioctl(self, Updater::<LOCK_SECRETS, _>::new(&mut block)),
                Call::RetrieveSecret => ioctl(self, Updater::<RETRIEVE_SECRET, _>::new(&mut block)),
            }
        };
        done?;
        Ok(block.codes())
    }

    fn attest(&self, response: &mut ExchangeResponse) -> io::Result<Codes> {
        let mut argument = AttestArgument {
            arcb: response.arcb.as_ptr() as u64,
            measurement: response.measurement.as_mut_ptr() as u64,
            additional: match response.additional.is_empty() {
                true => 0,
                false => response.additional.as_mut_ptr() as u64,
            },
            user_data: [0; 0x100],
            config_uid: [0; 0x10],
            // The caller keeps all sizes below the interface's limits.
            arcb_size: response.arcb.len() as u32,
            measurement_size: response.measurement.len() as u32,
            additional_size: response.additional.len() as u32,
            user_data_size: response.user_data.len() as u16,
            reserved: 0,
        };
        argument.user_data[..response.user_data.len()].copy_from_slice(&response.user_data);
        let mut block = ControlBlock::new(&raw mut argument as u64, size_of::<AttestArgument>());
        // SAFETY: the driver reads `arcb_size` bytes at `arcb`, writes at most `measurement_size` and
        // `additional_size` bytes at the two others, and updates the argument. All four live in this function or are
        // borrowed exclusively by it, and no other reference to them is used until the call has returned.
        unsafe { ioctl(self, Updater::<ATTEST, _>::new(&mut block)) }?;
        response.config_uid = argument.config_uid;
        // The Ultravisor may have written less than there was room for.
        response.additional.truncate(argument.additional_size as usize);
        Ok(block.codes())
    }
}

impl ControlBlock {
    fn new(argument: u64, size: usize) -> Self {
        // Sizes are below the interface's limits.
        Self { flags: 0, rc: 0, rrc: 0, argument, size: size as u32, reserved: [0; 0x40 - 0x14] }
    }

    fn codes(&self) -> Codes {
        Codes { rc: self.rc, rrc: self.rrc }
    }
}
