//! A guest behind a door that answers from tables: 2 MiB of memory, one CPU, page 3 private.

use cloister_control::fake::{FakeMachine, operator};
use cloister_control::{ConfidentialInfo, Operator};
use cloister_options::{Catalogue, Target};
use cloister_platform::arch::s390x::{CpuRequest, CpuResponse, CpuState, TimeMode, Translation, VmConfig};
use cloister_platform::{
    Capabilities, Door, MemoryMap, PageCounts, PageRun, PageState, Request, Response, Vm, access,
};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};

/// Bytes of guest memory.
pub(crate) const SIZE: u64 = 2 << 20;

/// Logical page 0x10 leads to this one.
pub(crate) const ELSEWHERE: u64 = 0x5000;

pub(crate) struct Guest {
    memory: File,
    access: File,
    protected: bool,
    /// Requests, for the promise that nothing is converted.
    pub(crate) asked: Mutex<Vec<Request>>,
}

impl Guest {
    pub(crate) fn write(&self, address: u64, bytes: &[u8]) {
        self.memory.write_all_at(bytes, address).unwrap();
    }
}

impl Door for Guest {
    fn call(&self, request: Request) -> Response {
        self.asked.lock().unwrap().push(request.clone());
        match request {
            Request::Capabilities => Response::Capabilities(Box::new(Capabilities {
                platform: "software MODEL (/example)".into(),
                model: true,
                ..Capabilities::default()
            })),
            Request::CreateVm(_) => Response::Created(MemoryMap {
                memory_fd: self.memory.as_raw_fd(),
                access_fd: self.access.as_raw_fd(),
                size: SIZE,
                slots: Vec::new(),
            }),
            Request::Cpu(CpuRequest::State { .. } | CpuRequest::Translate { .. }) if self.protected => {
                Response::Refused("the CPU is protected".into())
            }
            Request::Cpu(CpuRequest::State { cpu }) => {
                Response::Cpu(CpuResponse::State(Box::new(state(cpu))))
            }
            Request::Cpu(CpuRequest::Translate { address, .. }) => {
                let absolute = match address >> 12 {
                    0x10 => Some(ELSEWHERE | address & 0xfff),
                    0x12.. => None,
                    _ => Some(address),
                };
                let found = absolute.map(|absolute| Translation { absolute, writable: true });
                Response::Cpu(CpuResponse::Translated(found))
            }
            Request::PageCounts => {
                Response::PageCounts(PageCounts { shared: 511, private: 1, ..PageCounts::default() })
            }
            Request::PageStates { .. } => {
                let run = |first, pages, state| PageRun { first, pages, state };
                let runs = vec![
                    run(0, 3, PageState::Shared),
                    run(3, 1, PageState::Private),
                    run(4, SIZE / 4096 - 4, PageState::Shared),
                ];
                Response::PageStates { runs, next: None }
            }
            other => Response::Refused(format!("this door has no {other:?}")),
        }
    }
}

pub(crate) fn state(cpu: u16) -> CpuState {
    let mut state =
        CpuState { version: CpuState::VERSION, address: cpu, prefix: 0x2000, ..CpuState::default() };
    state.psw.mask = 0x0000_2001_8000_0000;
    state.psw.addr = 0x100;
    state.gprs[1] = 0x10;
    state
}

/// A machine with this guest. Memory at 0x100 holds "Hello, host", page 5 holds 0x55.
pub(crate) fn machine(protected: bool) -> (Arc<FakeMachine>, Arc<Guest>, Operator) {
    let file = |size| {
        let file = memfd_create("guest", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, size).unwrap();
        File::from(file)
    };
    let guest =
        Arc::new(Guest { memory: file(SIZE), access: file(SIZE / 4096), protected, asked: Mutex::default() });
    guest.memory.write_all_at(b"Hello, host", 0x100).unwrap();
    guest.memory.write_all_at(&[0x55; 4096], ELSEWHERE).unwrap();
    guest.access.write_all_at(&[access::ASK], 3).unwrap();
    let config = VmConfig {
        memory_bytes: SIZE,
        max_cpus: 1,
        facilities: [0; 4],
        cpu_id: 0,
        time: TimeMode::Real,
        tod_start: None,
        name: String::new(),
        uuid: [0; 16],
    };
    let door: Arc<dyn Door> = Arc::<Guest>::clone(&guest);
    let machine = Arc::new(FakeMachine::s390x().with_vm(Vm::create(door, config).unwrap()));
    machine.state().confidential = Some(ConfidentialInfo {
        qom_type: "s390-pv-guest".into(),
        id: Some("pv0".into()),
        secure: Some(protected),
    });
    let operator = operator(&machine, Catalogue::new(Target::S390x), &["-nodefaults"]).unwrap();
    guest.asked.lock().unwrap().clear();
    (machine, guest, operator)
}

/// A machine without a guest.
pub(crate) fn without_guest() -> (Arc<FakeMachine>, Operator) {
    let machine = Arc::new(FakeMachine::s390x());
    let operator = operator(&machine, Catalogue::new(Target::S390x), &["-nodefaults"]).unwrap();
    (machine, operator)
}
