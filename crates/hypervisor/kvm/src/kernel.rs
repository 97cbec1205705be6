//! What this crate asks of an operating system: open a device, make an ioctl.

use crate::error::{Errno, OpenFailure};
use crate::payload::Payload;
use crate::request::Request;
use std::fmt::Debug;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

/// A kernel with KVM, or one that plays it.
pub trait Kernel: Debug + Send + Sync {
    /// Opens a device for reading and writing.
    fn open(&self, device: Device) -> Result<Handle, OpenFailure>;

    /// Makes an ioctl that answers with a number and in the payload.
    fn call(&self, on: &Handle, request: &'static Request, payload: &mut Payload<'_>) -> Result<i32, Errno>;

    /// Makes an ioctl that answers with a new file: a VM or a CPU.
    fn create(
        &self,
        on: &Handle,
        request: &'static Request,
        payload: &mut Payload<'_>,
    ) -> Result<Handle, Errno>;
}

/// A device that this crate opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Device {
    /// `/dev/kvm`.
    Kvm,
    /// `/dev/sev`.
    Sev,
}

impl Device {
    /// Its path.
    pub fn path(self) -> &'static Path {
        Path::new(match self {
            Self::Kvm => "/dev/kvm",
            Self::Sev => "/dev/sev",
        })
    }
}

/// An open device, VM or CPU.
#[derive(Clone, Debug)]
pub struct Handle(pub(crate) Open);

#[derive(Clone, Debug)]
pub(crate) enum Open {
    Real(Arc<OwnedFd>),
    Fake(u32),
}
