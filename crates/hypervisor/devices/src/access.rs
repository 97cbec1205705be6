//! Access to the host view of guest memory with the two answers that an I/O architecture knows: the address does not
//! exist, or it exists and may not be used.
//!
//! There is no address translation here, and no byte is kept after the call.

use std::sync::atomic::{AtomicU8, Ordering};

use vm_memory::bitmap::Bitmap;
use vm_memory::{Bytes, GuestAddress, GuestMemory, GuestMemoryError, Permissions, VolatileMemory};

/// Why an access was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// No storage at this address.
    #[error("there is no guest storage at this address")]
    Addressing,
    /// The storage exists but may not be reached, for example a private page.
    #[error("the guest storage at this address is not accessible to devices")]
    Protection,
}

impl From<GuestMemoryError> for AccessError {
    fn from(error: GuestMemoryError) -> Self {
        match error {
            GuestMemoryError::InvalidGuestAddress(_)
            | GuestMemoryError::InvalidBackendAddress
            | GuestMemoryError::GuestAddressOverflow
            | GuestMemoryError::PartialBuffer { .. } => Self::Addressing,
            _ => Self::Protection,
        }
    }
}

/// Reads all of `buf` from guest memory.
///
/// # Errors
/// The first part that cannot be read decides.
pub fn read<M: GuestMemory + ?Sized>(mem: &M, addr: u64, buf: &mut [u8]) -> Result<(), AccessError> {
    read_slices(mem, addr, buf).map_err(|error| refine(mem, addr, buf.len(), error))
}

/// Writes all of `buf` to guest memory.
///
/// # Errors
/// The first part that cannot be written decides; earlier parts may have been written.
pub fn write<M: GuestMemory + ?Sized>(mem: &M, addr: u64, buf: &[u8]) -> Result<(), AccessError> {
    write_slices(mem, addr, buf).map_err(|error| refine(mem, addr, buf.len(), error))
}

/// Sets bits of one byte atomically and returns its former value, as indicators need it (virtio 1.2, 4.3.3.1).
///
/// # Errors
/// The byte cannot be reached.
pub fn fetch_or<M: GuestMemory + ?Sized>(mem: &M, addr: u64, bits: u8) -> Result<u8, AccessError> {
    or_slice(mem, addr, bits).map_err(|error| refine(mem, addr, 1, error))
}

/// A view may refuse existing storage with the error for storage that does not exist; the range tells them apart.
fn refine<M: GuestMemory + ?Sized>(mem: &M, addr: u64, len: usize, error: AccessError) -> AccessError {
    if check_end(addr, len).is_ok() && mem.check_range(GuestAddress(addr), len, Permissions::No) {
        return AccessError::Protection;
    }
    error
}

fn read_slices<M: GuestMemory + ?Sized>(mem: &M, addr: u64, buf: &mut [u8]) -> Result<(), AccessError> {
    check_end(addr, buf.len())?;
    let mut done = 0;
    for slice in mem.get_slices(GuestAddress(addr), buf.len(), Permissions::Read)? {
        let slice = slice?;
        let part = buf.get_mut(done..done + slice.len()).ok_or(AccessError::Addressing)?;
        slice.read_slice(part, 0).map_err(|_| AccessError::Protection)?;
        done += slice.len();
    }
    if done == buf.len() { Ok(()) } else { Err(AccessError::Addressing) }
}

fn write_slices<M: GuestMemory + ?Sized>(mem: &M, addr: u64, buf: &[u8]) -> Result<(), AccessError> {
    check_end(addr, buf.len())?;
    let mut done = 0;
    for slice in mem.get_slices(GuestAddress(addr), buf.len(), Permissions::Write)? {
        let slice = slice?;
        let part = buf.get(done..done + slice.len()).ok_or(AccessError::Addressing)?;
        slice.write_slice(part, 0).map_err(|_| AccessError::Protection)?;
        done += slice.len();
    }
    if done == buf.len() { Ok(()) } else { Err(AccessError::Addressing) }
}

fn or_slice<M: GuestMemory + ?Sized>(mem: &M, addr: u64, bits: u8) -> Result<u8, AccessError> {
    let slice = mem
        .get_slices(GuestAddress(addr), 1, Permissions::ReadWrite)?
        .next()
        .ok_or(AccessError::Addressing)??;
    let byte = slice.get_atomic_ref::<AtomicU8>(0).map_err(|_| AccessError::Protection)?;
    let old = byte.fetch_or(bits, Ordering::SeqCst);
    slice.bitmap().mark_dirty(0, 1);
    Ok(old)
}

fn check_end(addr: u64, len: usize) -> Result<(), AccessError> {
    addr.checked_add(len as u64).map(drop).ok_or(AccessError::Addressing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::GuestMemoryMmap;

    #[test]
    fn bytes_and_indicators() {
        let mem = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 0x2000)]).unwrap();
        write(&mem, 0x10, &[1, 2, 3]).unwrap();
        let mut buf = [0; 3];
        read(&mem, 0x10, &mut buf).unwrap();
        assert_eq!(buf, [1, 2, 3]);
        assert_eq!(fetch_or(&mem, 0x10, 0x80), Ok(1));
        assert_eq!(fetch_or(&mem, 0x10, 0x01), Ok(0x81));
        assert_eq!(write(&mem, 0x1ffe, &[0; 3]), Err(AccessError::Addressing));
        assert_eq!(read(&mem, u64::MAX, &mut buf), Err(AccessError::Addressing));
        assert_eq!(fetch_or(&mem, 0x2000, 1), Err(AccessError::Addressing));
    }
}
