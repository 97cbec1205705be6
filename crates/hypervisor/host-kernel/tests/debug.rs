//! Guest debugging through both doors: the host kernel passes on what the machine asks, as it is.
#![expect(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use cloister_arch::s390x::{
    CpuRequest, CpuResponse, DebugExit, DebugReason, Exit, GuestDebug, LocalInterrupt, RunLimit, TimeMode,
    Translation, VmConfig, WatchKind, Watchpoint,
};
use cloister_firmware_api::{self as lower, Guest, Left, Machine};
use cloister_host_kernel::HostKernel;
use cloister_platform::{Loopback, Vm, VmError};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use std::sync::{Arc, Mutex};

const SIZE: u64 = 1 << 20;
const STOP: DebugExit =
    DebugExit { reason: DebugReason::Watchpoint { address: 9, kind: WatchKind::Read }, psw_address: 0x2004 };
const REFUSAL: &str = "the guest runs protected: its registers are not visible to the host";

/// A machine that writes down what it is asked.
struct Silicon {
    memory: OwnedFd,
    access: OwnedFd,
    seen: Mutex<Vec<CpuRequest>>,
}

impl Silicon {
    fn new() -> Arc<Self> {
        let file = |bytes| {
            let fd = memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
            ftruncate(&fd, bytes).unwrap();
            fd
        };
        Arc::new(Self { memory: file(SIZE), access: file(4096), seen: Mutex::default() })
    }
}

impl lower::Door for Silicon {
    fn call(&self, request: lower::Request) -> lower::Response {
        match request {
            lower::Request::Machine => lower::Response::Machine(Machine::default()),
            lower::Request::CreateGuest(_) => lower::Response::Guest(Guest {
                origin: 0,
                size: SIZE,
                memory_fd: self.memory.as_raw_fd(),
                access_fd: self.access.as_raw_fd(),
            }),
            lower::Request::Enter { .. } => lower::Response::Left(Left::Exit(Exit::Debug(STOP))),
            lower::Request::Cpu(request) => {
                let answer = match request {
                    CpuRequest::Translate { cpu: 0, address: 0 } => CpuResponse::Translated(None),
                    CpuRequest::Translate { cpu: 0, address } => {
                        CpuResponse::Translated(Some(Translation { absolute: !address, writable: true }))
                    }
                    CpuRequest::Translate { .. } => CpuResponse::Refused(REFUSAL.into()),
                    _ => CpuResponse::Done,
                };
                self.seen.lock().unwrap().push(request);
                lower::Response::Cpu(answer)
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn debugging_passes_both_doors_and_their_loopbacks_as_it_is() {
    let silicon = Silicon::new();
    let kernel = HostKernel::new(Arc::new(lower::Loopback::new(Arc::clone(&silicon) as _)));
    let config = VmConfig {
        memory_bytes: SIZE,
        max_cpus: 2,
        facilities: [0; 4],
        cpu_id: 0,
        time: TimeMode::Real,
        tod_start: None,
        name: String::new(),
        uuid: [0; 16],
    };
    let vm = Vm::create(Arc::new(Loopback::new(Arc::new(kernel))), config).unwrap();

    let watchpoints = vec![Watchpoint { address: u64::MAX, len: 1, kind: WatchKind::Access }];
    let debug = GuestDebug { single_step: true, breakpoints: vec![1 << 63, 2], watchpoints };
    vm.set_guest_debug(1, debug.clone()).unwrap();
    assert_eq!(vm.run(1, RunLimit::default(), None).unwrap(), Exit::Debug(STOP));
    assert_eq!(vm.translate(0, 5).unwrap(), Some(Translation { absolute: !5, writable: true }));
    assert_eq!(vm.translate(0, 0).unwrap(), None);
    assert!(matches!(vm.translate(1, 5), Err(VmError::Refused(why)) if why == REFUSAL));
    vm.inject_local(1, LocalInterrupt::Restart).unwrap();
    vm.set_time_running(false).unwrap();
    vm.set_time_running(true).unwrap();
    assert_eq!(
        *silicon.seen.lock().unwrap(),
        [
            CpuRequest::SetGuestDebug { cpu: 1, debug },
            CpuRequest::Translate { cpu: 0, address: 5 },
            CpuRequest::Translate { cpu: 0, address: 0 },
            CpuRequest::Translate { cpu: 1, address: 5 },
            CpuRequest::InjectLocal { cpu: 1, interrupt: LocalInterrupt::Restart },
            CpuRequest::StopTime,
            CpuRequest::ResumeTime,
        ]
    );
}
