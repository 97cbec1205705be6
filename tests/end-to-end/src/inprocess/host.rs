//! The host's end of the lower door: a recorder that a test turns into a hostile host kernel.

use super::lock;
use cloister_firmware_api::{Door, Guest, Request, Response};
use cloister_formats::s390x::uv_rc::{Rc, Rrc, explain};
use cloister_formats::s390x::uvcb::{
    ConvFromSec, ConvToSec, CpuSetState, DestrSecStor, Handle, PinPageShared, SetSecConfParams, Unpack,
    UnpinPageShared, UvCommand, UvHeader,
};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Stands between the host kernel and silicon.
pub type LowerHook = Box<dyn Fn(&Host, Request) -> Response + Send + Sync>;

/// A host kernel's view of silicon, with the guest's memory as the host has it.
pub struct Host {
    silicon: Arc<dyn Door>,
    hook: Option<LowerHook>,
    known: Mutex<Known>,
    started: AtomicU64,
}

#[derive(Default)]
struct Known {
    guest: Option<Guest>,
    memory: Option<Arc<File>>,
    configuration: Option<u64>,
    cpus: Vec<u64>,
}

/// The answer to an Ultravisor call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Condition code.
    pub cc: u8,
    /// Return code.
    pub rc: u16,
    /// Return reason code.
    pub rrc: u16,
    /// In words.
    pub words: String,
}

impl Answer {
    /// Whether the call did its work.
    pub fn ok(&self) -> bool {
        self.cc == 0
    }
}

impl Host {
    pub(super) fn new(silicon: Arc<dyn Door>, hook: Option<LowerHook>) -> Self {
        Self { silicon, hook, known: Mutex::default(), started: AtomicU64::new(0) }
    }

    /// Passes a request on as it is, and notes handles on the way.
    pub fn forward(&self, request: Request) -> Response {
        let load = matches!(&request, Request::Uvc { block, .. }
            if UvHeader::parse(block).is_ok_and(|header| header.command == UvCommand::CPU_SET_STATE)
                && CpuSetState::parse(block).is_ok_and(|call| call.state == LOAD));
        let response = self.silicon.call(request);
        match &response {
            Response::Guest(guest) => {
                let path = format!("/proc/self/fd/{}", guest.memory_fd);
                let memory = OpenOptions::new().read(true).write(true).open(path);
                let mut known = lock(&self.known);
                known.guest = Some(*guest);
                known.memory = Some(Arc::new(memory.expect("the host may map its half")));
            }
            Response::Uvc { cc: 0, block, .. } => {
                self.started.fetch_add(u64::from(load), Ordering::Relaxed);
                let handle = Handle::parse(block).map_or(0, |block| block.handle);
                let mut known = lock(&self.known);
                match UvHeader::parse(block).map(|header| header.command) {
                    Ok(UvCommand::CREATE_SEC_CONF) => known.configuration = Some(handle),
                    Ok(UvCommand::CREATE_SEC_CPU) => known.cpus.push(handle),
                    Ok(UvCommand::DESTROY_SEC_CONF) => known.configuration = None,
                    Ok(UvCommand::DESTROY_SEC_CPU) => known.cpus.retain(|cpu| *cpu != handle),
                    _ => {}
                }
            }
            _ => {}
        }
        response
    }

    /// How often a CPU was told to load the PSW of a protected image, and it was granted.
    pub fn started(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }

    /// Reads the host's half, asking nobody.
    pub fn read(&self, address: u64, to: &mut [u8]) {
        self.memory().read_exact_at(to, address).expect("the host may read its half");
    }

    /// A page of the host's half.
    pub fn page(&self, page: u64) -> Box<[u8; 4096]> {
        let mut bytes = Box::new([0; 4096]);
        self.read(page * 4096, bytes.as_mut_slice());
        bytes
    }

    /// Writes the host's half, asking nobody.
    pub fn write(&self, address: u64, bytes: &[u8]) {
        self.memory().write_all_at(bytes, address).expect("the host may write its half");
    }

    /// Bytes of guest storage.
    pub fn size(&self) -> u64 {
        self.guest().size
    }

    /// Issues an Ultravisor call.
    pub fn uvc(&self, mut block: Vec<u8>, data: &[u8]) -> Answer {
        loop {
            match self.forward(Request::Uvc { block: block.clone(), data: data.to_vec() }) {
                Response::Uvc { cc: 2 | 3, block: again, .. } => block = again,
                Response::Uvc { cc, block, data } => {
                    let header = UvHeader::parse(&block).expect("a block keeps its header");
                    let text = explain(header.command, header.rc, header.rrc).unwrap_or_default();
                    let detail =
                        if cc == 0 { String::new() } else { String::from_utf8_lossy(&data).into_owned() };
                    return Answer {
                        cc,
                        rc: header.rc.0,
                        rrc: header.rrc.0,
                        words: format!("{text}; {detail}"),
                    };
                }
                Response::Refused(words) => return Answer { cc: 1, rc: 0, rrc: 0, words },
                other => panic!("{other:?} to an Ultravisor call"),
            }
        }
    }

    /// A call that names the configuration only.
    pub fn on_configuration(&self, command: UvCommand) -> Answer {
        self.by_handle(command, self.configuration())
    }

    /// A call that names a CPU only.
    pub fn on_cpu(&self, command: UvCommand, cpu: usize) -> Answer {
        self.by_handle(command, self.cpu(cpu))
    }

    /// "Set CPU state".
    pub fn set_cpu_state(&self, cpu: usize, state: u8) -> Answer {
        self.uvc(CpuSetState { cpu_handle: self.cpu(cpu), state }.encode(), &[])
    }

    /// "Set secure configuration parameters".
    pub fn set_header(&self, header: &[u8]) -> Answer {
        let guest_handle = self.configuration();
        let block = SetSecConfParams { guest_handle, hdr_origin: 0, hdr_len: header.len() as u32 };
        self.uvc(block.encode(), header)
    }

    /// "Unpack image" of one page.
    pub fn unpack(&self, gaddr: u64, tweak: [u64; 2]) -> Answer {
        self.uvc(Unpack { guest_handle: self.configuration(), gaddr, tweak }.encode(), &[])
    }

    /// Exports a page.
    pub fn export(&self, page: u64) -> Answer {
        self.uvc(ConvFromSec { paddr: self.guest().origin + page * 4096 }.encode(), &[])
    }

    /// Imports a page.
    pub fn import(&self, page: u64) -> Answer {
        self.uvc(ConvToSec { guest_handle: self.configuration(), gaddr: page * 4096 }.encode(), &[])
    }

    /// Destroys a page.
    pub fn destroy(&self, page: u64) -> Answer {
        self.uvc(DestrSecStor { paddr: self.guest().origin + page * 4096 }.encode(), &[])
    }

    /// Pins a shared page.
    pub fn pin(&self, page: u64) -> Answer {
        self.uvc(PinPageShared { paddr: self.guest().origin + page * 4096 }.encode(), &[])
    }

    /// Unpins a page.
    pub fn unpin(&self, page: u64) -> Answer {
        self.uvc(UnpinPageShared { guest_handle: self.configuration(), gaddr: page * 4096 }.encode(), &[])
    }

    fn by_handle(&self, command: UvCommand, handle: u64) -> Answer {
        self.uvc(Handle { handle }.encode(command).expect("a command with a handle"), &[])
    }

    fn memory(&self) -> Arc<File> {
        lock(&self.known).memory.clone().expect("the guest's memory exists")
    }

    fn guest(&self) -> Guest {
        lock(&self.known).guest.expect("the guest exists")
    }

    fn configuration(&self) -> u64 {
        lock(&self.known).configuration.unwrap_or_default()
    }

    fn cpu(&self, cpu: usize) -> u64 {
        lock(&self.known).cpus.get(cpu).copied().unwrap_or_default()
    }
}

impl Door for Host {
    fn call(&self, request: Request) -> Response {
        match &self.hook {
            Some(hook) => hook(self, request),
            None => self.forward(request),
        }
    }
}

/// The command of a request that is an Ultravisor call.
pub fn command_of(request: &Request) -> Option<UvCommand> {
    let Request::Uvc { block, .. } = request else { return None };
    UvHeader::parse(block).ok().map(|header| header.command)
}

/// An answer that a lying host kernel makes up.
pub fn granted(mut block: Vec<u8>) -> Response {
    UvHeader::store_result(&mut block, Rc::EXECUTED, Rrc(0));
    Response::Uvc { cc: 0, block, data: Vec::new() }
}

/// CPU state "operating after loading the PSW".
const LOAD: u8 = 5;
