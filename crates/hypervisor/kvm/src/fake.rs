//! A kernel that answers from a script and remembers what it was asked: for the tests of this crate and others.
//!
//! It holds every call to the same rules as the real one (the payload fits the request), and knows nothing of
//! SEV or of an Ultravisor: what it is not told it does not offer (`ENOTTY`).

use crate::error::{Errno, OpenFailure};
use crate::kernel::{Device, Handle, Kernel, Open};
use crate::payload::{Payload, Pointee, check};
use crate::request::Request;
use crate::vm::Capability;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A scripted kernel.
pub struct FakeKernel {
    devices: BTreeMap<Device, Result<(), OpenFailure>>,
    capabilities: BTreeMap<u64, i32>,
    state: Mutex<State>,
}

/// A call that a [`FakeKernel`] was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Name of the command or ioctl.
    pub name: &'static str,
    /// The file it was made on.
    pub on: u32,
    /// The argument if it is a number.
    pub value: u64,
    /// The argument if it is a structure, as it was before the answer.
    pub bytes: Vec<u8>,
    /// What fields of the structure stand for, by offset.
    pub links: Vec<(usize, CallLink)>,
}

/// What a field stood for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallLink {
    /// A buffer, with what its fields stand for.
    Block(Vec<u8>, Vec<(usize, CallLink)>),
    /// Guest memory.
    Guest {
        /// In this process.
        address: u64,
        /// In bytes.
        length: usize,
    },
    /// An open file.
    Handle(u32),
}

type Answer = Box<dyn FnMut(&mut Payload<'_>) -> Result<i32, Errno> + Send>;

#[derive(Default)]
struct State {
    answers: BTreeMap<&'static str, Answer>,
    calls: Vec<Call>,
    files: u32,
}

impl FakeKernel {
    /// Without any device.
    pub fn new() -> Self {
        Self { devices: BTreeMap::new(), capabilities: BTreeMap::new(), state: Mutex::new(State::default()) }
    }

    /// With a `/dev/kvm` that makes VMs and CPUs, and has no capability.
    pub fn with_kvm() -> Self {
        Self::new()
            .device(Device::Kvm, Ok(()))
            .returns("KVM_GET_API_VERSION", 12)
            .returns("KVM_ENABLE_CAP", 0)
    }

    /// Whether a device opens.
    #[must_use]
    pub fn device(mut self, device: Device, opens: Result<(), OpenFailure>) -> Self {
        self.devices.insert(device, opens);
        self
    }

    /// What a capability's check answers.
    #[must_use]
    pub fn capability(mut self, capability: Capability, answer: i32) -> Self {
        self.capabilities.insert(capability.0.into(), answer);
        self
    }

    /// A command or ioctl that answers by a function, which may change the payload.
    #[must_use]
    pub fn answers(
        self,
        name: &'static str,
        answer: impl FnMut(&mut Payload<'_>) -> Result<i32, Errno> + Send + 'static,
    ) -> Self {
        self.state().answers.insert(name, Box::new(answer));
        self
    }

    /// A command or ioctl that succeeds with a number.
    #[must_use]
    pub fn returns(self, name: &'static str, answer: i32) -> Self {
        self.answers(name, move |_| Ok(answer))
    }

    /// A command or ioctl that fails.
    #[must_use]
    pub fn fails(self, name: &'static str, errno: Errno) -> Self {
        self.answers(name, move |_| Err(errno))
    }

    /// What was asked, from the first call on.
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, on: &Handle, request: &Request, payload: &mut Payload<'_>) -> Result<Option<i32>, Errno> {
        check(request, payload)?;
        let call = Call {
            name: request.name(),
            on: number(on)?,
            value: payload.value(),
            bytes: payload.bytes().to_vec(),
            links: links(payload),
        };
        let value = call.value;
        let mut state = self.state();
        state.calls.push(call);
        if let Some(answer) = state.answers.get_mut(request.name()) {
            return answer(payload).map(Some);
        }
        match request.name() {
            "KVM_CHECK_EXTENSION" => Ok(Some(self.capabilities.get(&value).copied().unwrap_or(0))),
            _ => Ok(None),
        }
    }

    fn file(&self) -> Handle {
        let mut state = self.state();
        state.files += 1;
        Handle(Open::Fake(state.files))
    }
}

impl Default for FakeKernel {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for FakeKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeKernel").field("devices", &self.devices).finish_non_exhaustive()
    }
}

impl Kernel for FakeKernel {
    fn open(&self, device: Device) -> Result<Handle, OpenFailure> {
        self.devices.get(&device).copied().unwrap_or(Err(OpenFailure::Errno(Errno::NO_ENTRY)))?;
        Ok(self.file())
    }

    fn call(&self, on: &Handle, request: &'static Request, payload: &mut Payload<'_>) -> Result<i32, Errno> {
        self.ask(on, request, payload)?.ok_or(Errno::NOT_A_TTY)
    }

    fn create(
        &self,
        on: &Handle,
        request: &'static Request,
        payload: &mut Payload<'_>,
    ) -> Result<Handle, Errno> {
        self.ask(on, request, payload)?;
        Ok(self.file())
    }
}

fn number(handle: &Handle) -> Result<u32, Errno> {
    match handle.0 {
        Open::Fake(number) => Ok(number),
        Open::Real(_) => Err(Errno::BAD_FILE),
    }
}

fn links(payload: &Payload<'_>) -> Vec<(usize, CallLink)> {
    let link = |to: &Pointee<'_>| match to {
        Pointee::Block(block) => CallLink::Block(block.bytes().to_vec(), links(block)),
        Pointee::Guest(range) => CallLink::Guest { address: range.address(), length: range.length() },
        Pointee::Handle(handle) => CallLink::Handle(number(handle).unwrap_or(u32::MAX)),
    };
    payload.links.iter().map(|entry| (entry.at, link(&entry.to))).collect()
}
