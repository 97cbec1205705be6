//! The running kernel. The only unsafe code of the crate.

use crate::error::{Errno, OpenFailure};
use crate::kernel::{Device, Handle, Kernel, Open};
use crate::payload::{Payload, Pointee, check};
use crate::request::{Encoding, Request, Shape};
use rustix::fs::{FileType, Mode, OFlags};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The kernel that this process runs on.
#[derive(Clone, Debug)]
pub struct RealKernel {
    root: PathBuf,
}

impl RealKernel {
    /// With the devices where they are.
    pub fn new() -> Self {
        Self::with_root(Path::new("/"))
    }

    /// With the devices looked for below a folder, for tests and for containers' views.
    pub fn with_root(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }
}

impl Default for RealKernel {
    fn default() -> Self {
        Self::new()
    }
}

impl Kernel for RealKernel {
    fn open(&self, device: Device) -> Result<Handle, OpenFailure> {
        let path = self.root.join(device.path().strip_prefix("/").unwrap_or(device.path()));
        // A regular file or a FIFO in the place of a device must neither be taken for it nor block.
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let failed = |errno: rustix::io::Errno| match Errno(errno.raw_os_error()) {
            Errno::IS_A_DIRECTORY => OpenFailure::NotADevice,
            errno => OpenFailure::Errno(errno),
        };
        let fd = rustix::fs::open(&path, flags, Mode::empty()).map_err(failed)?;
        let stat = rustix::fs::fstat(&fd).map_err(failed)?;
        let character = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
        // KVM has this number everywhere (Linux, Documentation/admin-guide/devices.txt); /dev/sev has not.
        let kvm = rustix::fs::makedev(10, 232);
        if !character || (device == Device::Kvm && stat.st_rdev != kvm) {
            return Err(OpenFailure::NotADevice);
        }
        Ok(Handle(Open::Real(Arc::new(fd))))
    }

    fn call(&self, on: &Handle, request: &'static Request, payload: &mut Payload<'_>) -> Result<i32, Errno> {
        ioctl(on, request, payload)
    }

    fn create(
        &self,
        on: &Handle,
        request: &'static Request,
        payload: &mut Payload<'_>,
    ) -> Result<Handle, Errno> {
        // Any other request answers with a number that is no descriptor of ours to close.
        if !std::ptr::eq(request, &crate::request::CREATE_VM)
            && !std::ptr::eq(request, &crate::request::CREATE_VCPU)
        {
            return Err(Errno::INVALID);
        }
        let fd = ioctl(on, request, payload)?;
        // SAFETY: KVM_CREATE_VM and KVM_CREATE_VCPU on success return a descriptor that was made for this
        // call, so nobody else owns it. `on` is KVM's: `open` has looked at the device's number, /dev/sev knows
        // neither ioctl, and a `Handle` comes only from `open` and from here.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Handle(Open::Real(Arc::new(fd))))
    }
}

fn ioctl(on: &Handle, request: &Request, payload: &mut Payload<'_>) -> Result<i32, Errno> {
    let fd = raw(on)?;
    check(request, payload)?;
    fill_in(payload)?;
    let argument = match request.shape {
        Shape::Nothing => 0,
        Shape::Value => payload.value,
        Shape::Block(_) | Shape::Command { .. } => payload.bytes.as_mut_ptr() as u64,
    };
    let argument = usize::try_from(argument).map_err(|_| Errno::INVALID)?;
    let number = request.ioctl.number(Encoding::HERE);
    // SAFETY: `fd` is open, because `on` is borrowed. What the kernel does with the argument is given by the
    // request, which only this crate makes: it is unused, a number, or the address of the request's structure.
    // `check` has shown that the structure has the size that the kernel copies, that every pointer in it is
    // null or was just filled in with the address of a buffer in the tree (alive and not moved, because
    // `payload` is borrowed mutably until the end of this function) or of guest memory (mapped as long as the
    // slice it was made from), and that no length goes beyond its buffer. The kernel may write to all of them:
    // the buffers are owned by the tree, and guest memory is volatile to Rust. One request makes the kernel keep
    // an address, KVM_SET_USER_MEMORY_REGION: only `Vm::set_memory` makes it, and the VM and its CPUs own the mapping
    // from then on. No request of this crate lets a guest run.
    let result = unsafe { libc::ioctl(fd, number as _, argument) };
    let answer = if result < 0 { Err(Errno::last()) } else { Ok(result) };
    wipe(payload);
    answer
}

/// Addresses and descriptors, where the structures stand for them.
fn fill_in(payload: &mut Payload<'_>) -> Result<(), Errno> {
    let Payload { bytes, links, .. } = payload;
    for link in links {
        match &mut link.to {
            Pointee::Block(block) => {
                fill_in(block)?;
                put(bytes, link.at, &(block.bytes.as_mut_ptr() as u64).to_ne_bytes())?;
            }
            Pointee::Guest(range) => put(bytes, link.at, &range.address().to_ne_bytes())?,
            Pointee::Handle(handle) => put(bytes, link.at, &raw(handle)?.to_ne_bytes())?,
        }
    }
    Ok(())
}

/// Takes them out again, so that no address outlives its call.
fn wipe(payload: &mut Payload<'_>) {
    let Payload { bytes, links, .. } = payload;
    for link in links {
        let length = match &mut link.to {
            Pointee::Block(block) => {
                wipe(block);
                8
            }
            Pointee::Guest(_) => 8,
            Pointee::Handle(_) => 4,
        };
        if let Some(field) = bytes.get_mut(link.at..link.at + length) {
            field.fill(0);
        }
    }
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) -> Result<(), Errno> {
    bytes.get_mut(at..at + value.len()).ok_or(Errno::INVALID)?.copy_from_slice(value);
    Ok(())
}

fn raw(handle: &Handle) -> Result<RawFd, Errno> {
    match &handle.0 {
        Open::Real(fd) => Ok(fd.as_raw_fd()),
        Open::Fake(_) => Err(Errno::BAD_FILE),
    }
}
