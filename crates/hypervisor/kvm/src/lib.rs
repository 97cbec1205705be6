//! The upper door on a real kernel: KVM's capabilities for confidential guests.
//!
//! The ioctl layer for three mechanisms: AMD SEV and SEV-ES (`KVM_MEMORY_ENCRYPT_OP` and `/dev/sev`), IBM Z
//! protected virtualization (`KVM_S390_PV_COMMAND`), POWER's protected execution facility
//! (`KVM_CAP_PPC_SECURE_GUEST`, `KVM_PPC_SVM_OFF`); [`probe()`], which asks a host what it offers; and [`KvmDoor`],
//! the upper door for x86-64 guests under SEV. All of it speaks to a [`Kernel`]: [`RealKernel`] makes the system
//! calls, [`FakeKernel`] answers from a script.
//!
//! It runs no guest: `KVM_RUN` and exits are not here, nor an interrupt controller. It judges no blob of the owner
//! either; the firmware does. None of it has run on hardware with these mechanisms: the numbers and structures are
//! compared with the kernel's headers, the behaviour follows the kernel's documentation.
//!
//! # Why this crate contains unsafe code
//!
//! An ioctl is a system call whose third argument the kernel follows as a pointer, and the structures of these
//! ioctls point further. No safe wrapper knows these structures. The two unsafe blocks are in `real.rs`. What
//! goes to them is a [`Payload`]: a tree of owned buffers without an address in it, checked against the layout
//! of its [`Request`]; addresses are filled in last.
#![deny(unsafe_op_in_unsafe_fn)]

mod door;
mod error;
mod fake;
mod kernel;
mod layout;
mod memory;
mod payload;
pub mod probe;
mod pv;
mod real;
mod request;
mod sev;
mod sev_device;
mod vm;

pub use door::KvmDoor;
pub use error::{Errno, Error, FirmwareStatus, OpenError, OpenFailure};
pub use fake::{Call, CallLink, FakeKernel};
pub use kernel::{Device, Handle, Kernel};
pub use layout::{LAYOUTS, Layout};
pub use memory::GuestMapping;
pub use payload::{GuestRange, Payload, Pointee};
pub use probe::{Host, HostProbe, probe};
pub use pv::{Dump, InfoDump, InfoVm, ProtectedVm};
pub use real::RealKernel;
pub use request::{Encoding, Ioctl, REQUESTS, Request};
pub use sev::{
    AttestationReport, GuestStatus, Init2, LaunchStart, Packet, ReceiveStart, SendStart, SevState, SevVm,
};
pub use sev_device::{CertificateExport, PlatformState, PlatformStatus, SevDevice};
pub use vm::{Capability, Kvm, Vcpu, Vm, VmType};
