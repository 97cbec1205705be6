//! The argument of an ioctl as a tree of owned buffers: no address is in it until the system call is made.

use crate::error::Errno;
use crate::kernel::Handle;
use crate::layout::{Layout, Reach, Structure};
use crate::request::{Request, Shape};
use std::marker::PhantomData;
use vm_memory::VolatileSlice;
use vm_memory::bitmap::BitmapSlice;

/// The argument of an ioctl, or a buffer that it points to.
#[derive(Debug, Default)]
pub struct Payload<'a> {
    pub(crate) value: u64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) links: Vec<Link<'a>>,
}

/// What a field of a structure stands for.
#[derive(Debug)]
pub enum Pointee<'a> {
    /// A buffer of this process, which the kernel reads or writes.
    Block(Payload<'a>),
    /// Memory of the guest.
    Guest(GuestRange<'a>),
    /// The file descriptor of another device.
    Handle(Handle),
}

#[derive(Debug)]
pub(crate) struct Link<'a> {
    pub(crate) at: usize,
    pub(crate) to: Pointee<'a>,
}

/// Memory of the guest in this process: the kernel encrypts, decrypts or pins it where it is.
#[derive(Clone, Copy, Debug)]
pub struct GuestRange<'a> {
    address: u64,
    length: usize,
    mapped: PhantomData<&'a ()>,
}

impl<'a> GuestRange<'a> {
    /// A range that stays mapped, and that others may change, as long as the slice says.
    pub fn of<B: BitmapSlice>(slice: &VolatileSlice<'a, B>) -> Self {
        let address = slice.ptr_guard_mut().as_ptr() as u64;
        Self { address, length: slice.len(), mapped: PhantomData }
    }

    /// Where it is in this process.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Its length.
    pub fn length(&self) -> usize {
        self.length
    }
}

impl<'a> Payload<'a> {
    /// The structure or buffer itself.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same, for a kernel that answers.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// The argument, if it is a number.
    pub fn value(&self) -> u64 {
        self.value
    }

    /// What the field at an offset stands for.
    pub fn pointee(&self, at: usize) -> Option<&Pointee<'a>> {
        self.links.iter().find(|link| link.at == at).map(|link| &link.to)
    }

    /// The buffer that the field at an offset points to.
    pub fn block_mut(&mut self, at: usize) -> Option<&mut Payload<'a>> {
        self.links.iter_mut().find(|link| link.at == at).and_then(|link| match &mut link.to {
            Pointee::Block(block) => Some(block),
            Pointee::Guest(_) | Pointee::Handle(_) => None,
        })
    }

    pub(crate) fn of_value(value: u64) -> Self {
        Self { value, ..Self::default() }
    }

    pub(crate) fn of<T: Structure>(structure: &T) -> Self {
        Self { bytes: structure.as_bytes().to_vec(), ..Self::default() }
    }

    pub(crate) fn of_bytes(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), ..Self::default() }
    }

    pub(crate) fn of_length(length: usize) -> Self {
        Self { bytes: vec![0; length], ..Self::default() }
    }

    pub(crate) fn pointing(mut self, at: usize, to: Pointee<'a>) -> Self {
        self.links.push(Link { at, to });
        self
    }

    /// The same as `pointing`, but an empty buffer is a null pointer.
    pub(crate) fn pointing_to_bytes(self, at: usize, bytes: &[u8]) -> Self {
        if bytes.is_empty() { self } else { self.pointing(at, Pointee::Block(Self::of_bytes(bytes))) }
    }

    /// What the kernel left in the structure.
    pub(crate) fn read<T: Structure>(&self) -> Option<T> {
        T::read_from_bytes(&self.bytes).ok()
    }

    /// What the kernel left in a buffer.
    pub(crate) fn take_bytes(&mut self, at: usize) -> Vec<u8> {
        self.block_mut(at).map(|block| std::mem::take(&mut block.bytes)).unwrap_or_default()
    }
}

/// Whether the kernel stays inside the payload's buffers when it follows the request. A payload of this crate
/// does; one that a wrapper around the kernel has changed may not.
pub(crate) fn check(request: &Request, payload: &Payload<'_>) -> Result<(), Errno> {
    let sound = match request.shape {
        Shape::Nothing => payload.value == 0 && payload.bytes.is_empty() && payload.links.is_empty(),
        Shape::Value => payload.bytes.is_empty() && payload.links.is_empty(),
        Shape::Block(layout) => block(layout, payload),
        Shape::Command { frame, id, data } => {
            let at = frame.data();
            let inner = match (payload.pointee(at), data) {
                (Some(Pointee::Block(inner)), Some(layout)) => block(layout, inner),
                (None, None) => u64_at(&payload.bytes, at) == Some(0),
                _ => false,
            };
            let handle = match frame.handle() {
                Some(at) => matches!(payload.pointee(at), Some(Pointee::Handle(_))),
                None => true,
            };
            let links = usize::from(data.is_some()) + usize::from(frame.handle().is_some());
            payload.bytes.len() == frame.layout().size
                && u32_at(&payload.bytes, 0) == Some(id)
                && inner
                && handle
                && payload.links.len() == links
        }
    };
    if sound { Ok(()) } else { Err(Errno::INVALID) }
}

fn block(layout: &Layout, payload: &Payload<'_>) -> bool {
    if payload.bytes.len() != layout.size {
        return false;
    }
    let mut links = 0;
    let reached = layout.reach.iter().all(|reach| {
        let (pointer, length) = match *reach {
            Reach::Length32 { pointer, length } => (pointer, u32_at(&payload.bytes, length).map(u64::from)),
            Reach::Length64 { pointer, length } => (pointer, u64_at(&payload.bytes, length)),
            Reach::Own32 { length } => {
                return u32_at(&payload.bytes, length).is_some_and(|length| length as usize <= layout.size);
            }
        };
        let there = match payload.pointee(pointer) {
            None => return u64_at(&payload.bytes, pointer) == Some(0),
            Some(Pointee::Block(block)) if block.links.is_empty() => block.bytes.len(),
            Some(Pointee::Guest(range)) => range.length(),
            Some(Pointee::Block(_) | Pointee::Handle(_)) => return false,
        };
        links += 1;
        length.is_some_and(|length| length <= there as u64)
    });
    reached && payload.links.len() == links
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_ne_bytes(*chunk))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|chunk| u64::from_ne_bytes(*chunk))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{PvInfo, PvSecParm};
    use crate::request;
    use proptest::prelude::*;

    fn sec_parm(length: u64, buffer: usize) -> Payload<'static> {
        let frame = crate::layout::PvCmd { cmd: 2, rc: 0, rrc: 0, data: 0, flags: 0, reserved: [0; 3] };
        let inner = Payload::of(&PvSecParm { origin: 0, length })
            .pointing(0, Pointee::Block(Payload::of_length(buffer)));
        Payload::of(&frame).pointing(8, Pointee::Block(inner))
    }

    proptest! {
        #[test]
        fn no_length_goes_beyond_its_buffer(length: u64, buffer in 0usize..64) {
            let sound = check(&request::PV_SET_SEC_PARMS, &sec_parm(length, buffer)).is_ok();
            prop_assert_eq!(sound, length <= buffer as u64);
        }

        #[test]
        fn no_number_passes_as_a_pointer(address in 1u64..) {
            let mut payload = sec_parm(0, 0);
            payload.links.clear();
            payload.bytes[8..16].copy_from_slice(&address.to_ne_bytes());
            prop_assert!(check(&request::PV_SET_SEC_PARMS, &payload).is_err());
            prop_assert!(check(&request::PV_VERIFY, &payload).is_err());
        }

        #[test]
        fn information_stays_inside_its_structure(length: u32) {
            let vm = zerocopy::FromZeros::new_zeroed();
            let inner = Payload::of(&PvInfo { header: [0, length, 0, 0], vm });
            prop_assert_eq!(block(&PvInfo::AS_C, &inner), length as usize <= size_of::<PvInfo>());
        }
    }

    #[test]
    fn a_payload_of_another_request_is_refused() {
        assert!(check(&request::PV_SET_SEC_PARMS, &sec_parm(8, 8)).is_ok());
        assert!(check(&request::PV_UNPACK, &sec_parm(8, 8)).is_err());
        assert!(check(&request::CREATE_VM, &sec_parm(8, 8)).is_err());
        assert!(check(&request::GET_API_VERSION, &Payload::of_value(1)).is_err());
        assert!(check(&request::REG_REGION, &Payload::default()).is_err());
    }
}
