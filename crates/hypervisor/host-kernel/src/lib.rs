//! KVM's role over the lower door: it owns handles, donates storage, imports and exports pages, and turns
//! what silicon leaves to the host into exits for the machine.
//!
//! It is untrusted. Nothing here can see private pages or protected registers, because the lower door does
//! not give them; a hostile version of this crate is the attack harness of the tests. It holds no policy of
//! the machine: what a reset means is decided above the upper door.
#![forbid(unsafe_code)]

mod donation;
mod protected;
mod sev;
mod x86;

use cloister_arch::s390x::{Completion, Exit, Instruction, RunLimit, VmConfig};
use cloister_arch::x86_64;
use cloister_firmware_api::{self as lower, Guest, Left};
use cloister_platform::{
    Capabilities, Door, MemoryMap, PvCommand, PvResult, Request, Response, arch::s390x as z,
};
use protected::Protected;
use rustix::fd::OwnedFd;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use x86::X86;

/// DIAGNOSE code of the virtio-ccw notification.
const DIAG_NOTIFY: u16 = 0x500;

/// KVM over a modelled machine.
pub struct HostKernel {
    lower: Arc<dyn lower::Door>,
    guest: Mutex<Option<Created>>,
    protected: Protected,
    x86: X86,
    doorbells: RwLock<HashMap<(u32, u16), OwnedFd>>,
}

#[derive(Clone)]
struct Created {
    config: VmConfig,
    guest: Guest,
}

impl HostKernel {
    /// A host kernel on the machine behind `lower`.
    pub fn new(lower: Arc<dyn lower::Door>) -> Self {
        let protected = Protected::new(Arc::clone(&lower));
        let x86 = X86::new(Arc::clone(&lower));
        Self { lower, guest: Mutex::new(None), protected, x86, doorbells: RwLock::new(HashMap::new()) }
    }

    fn capabilities(&self) -> Response {
        match self.lower.call(lower::Request::Machine) {
            lower::Response::Machine(machine) => {
                let sev = self.x86.capabilities(&machine);
                let mut facilities = machine.facilities;
                let usable = machine.ultravisor && machine.prot_virt;
                z::facility::set(&mut facilities, z::facility::ULTRAVISOR_CALL, usable);
                z::facility::set(&mut facilities, z::facility::SECURE_UNPACK, usable);
                Response::Capabilities(Box::new(Capabilities {
                    platform: machine.description,
                    model: true,
                    ultravisor: machine.ultravisor,
                    prot_virt: machine.prot_virt,
                    facilities,
                    max_cpus: machine.max_cpus,
                    sev,
                }))
            }
            other => unexpected(&other),
        }
    }

    fn create(&self, config: VmConfig) -> Response {
        let mut slot = self.guest.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.is_some() || self.x86.is_created() {
            return Response::Refused("this door has its VM already: open another door".into());
        }
        match self.lower.call(lower::Request::CreateGuest(Box::new(config.clone()))) {
            lower::Response::Guest(guest) => {
                *slot = Some(Created { config, guest });
                Response::Created(MemoryMap {
                    memory_fd: guest.memory_fd,
                    access_fd: guest.access_fd,
                    size: guest.size,
                    slots: Vec::new(),
                })
            }
            other => unexpected(&other),
        }
    }

    fn create_x86(&self, config: x86_64::VmConfig) -> Response {
        if self.created().is_some() {
            return Response::Refused("this door has its VM already: open another door".into());
        }
        self.x86.create(config)
    }

    fn created(&self) -> Option<Created> {
        self.guest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn run(&self, cpu: u16, limit: RunLimit, mut completion: Option<Completion>) -> Response {
        loop {
            let request = lower::Request::Enter { cpu, limit, completion: completion.take() };
            let left = match self.lower.call(request) {
                lower::Response::Left(left) => left,
                other => return unexpected(&other),
            };
            match left {
                Left::Exit(Exit::Instruction(instruction)) => {
                    if let Instruction::Diag { code: DIAG_NOTIFY, args, .. } = instruction.instruction
                        && self.ring(args)
                    {
                        completion = Some(Completion::result(args[3]));
                        continue;
                    }
                    return Response::Exit(Exit::Instruction(instruction));
                }
                Left::Exit(exit) => return Response::Exit(exit),
                Left::Import { page } => {
                    if let Err(why) = self.protected.import(page) {
                        tracing::error!(target: "s390_pv", page, %why, "import refused");
                        return Response::Exit(Exit::Stuck {
                            reason: format!("guest page {page:#x} cannot be brought back: {why}"),
                        });
                    }
                }
                Left::Notify { ipa: 0xb9a4, parameter } => {
                    if let Err(why) = self.protected.unpin(parameter) {
                        return Response::Exit(Exit::Stuck { reason: why });
                    }
                }
                // SPX, SERVC and SIGP notifications need nothing from this kernel.
                Left::Notify { .. } => {}
            }
        }
    }

    /// Signals the doorbell of a virtio-ccw notification, if there is one. `args` are GR1-GR4.
    fn ring(&self, args: [u64; 4]) -> bool {
        let [function, subsystem_id, queue, _] = args;
        if function != 3 {
            return false;
        }
        let doorbells = self.doorbells.read().unwrap_or_else(PoisonError::into_inner);
        let Some(fd) = doorbells.get(&(subsystem_id as u32, queue as u16)) else { return false };
        // A full eventfd counter still wakes its reader.
        let _ = rustix::io::write(fd, &1u64.to_ne_bytes());
        true
    }

    fn register(&self, subsystem_id: u32, queue: u16, fd: i32) -> Response {
        use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
        // A kernel takes its own reference to the descriptor; this is the same without trusting a number.
        let own = pidfd_open(getpid(), PidfdFlags::empty())
            .and_then(|pid| pidfd_getfd(pid, fd, PidfdGetfdFlags::empty()));
        match own {
            Ok(fd) => {
                self.doorbells
                    .write()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert((subsystem_id, queue), fd);
                Response::Done
            }
            Err(why) => Response::Refused(format!("file descriptor {fd} is no doorbell: {why}")),
        }
    }

    fn pv(&self, command: PvCommand) -> Response {
        let Some(created) = self.created() else {
            return Response::Refused("no VM was created behind this door".into());
        };
        let result: PvResult = self.protected.command(command, &created.guest, created.config.max_cpus);
        Response::Pv(result)
    }

    fn host_access(&self, page: u64, count: u64) -> Response {
        if self.x86.is_created() {
            // Under SEV the host may touch every page: it finds ciphertext.
            return Response::Done;
        }
        let Some(created) = self.created() else {
            return Response::Refused("no VM was created behind this door".into());
        };
        for page in page..page.saturating_add(count) {
            if let Err(why) = self.protected.make_accessible(&created.guest, page) {
                return Response::Refused(why);
            }
        }
        Response::Done
    }
}

impl Door for HostKernel {
    fn call(&self, request: Request) -> Response {
        match request {
            Request::Capabilities => self.capabilities(),
            Request::CreateVm(config) => self.create(*config),
            Request::CreateX86Vm(config) => self.create_x86(*config),
            Request::X86Cpu(request) => self.x86.cpu(&request),
            Request::Run { .. } if self.x86.is_created() => Response::Refused(x86::NO_CORE.into()),
            Request::Run { cpu, limit, completion } => self.run(cpu, limit, completion),
            Request::Cpu(request) => match self.lower.call(lower::Request::Cpu(request)) {
                lower::Response::Cpu(answer) => Response::Cpu(answer),
                other => unexpected(&other),
            },
            Request::HostAccess { page, count, .. } => self.host_access(page, count),
            Request::HostWrote { address, len } => {
                self.lower.call(lower::Request::Invalidate { address, len });
                Response::Done
            }
            Request::RegisterDoorbell { subsystem_id, queue, fd } => self.register(subsystem_id, queue, fd),
            Request::RemoveDoorbell { subsystem_id, queue } => {
                self.doorbells.write().unwrap_or_else(PoisonError::into_inner).remove(&(subsystem_id, queue));
                Response::Done
            }
            Request::Pv(command) => self.pv(command),
            Request::Sev(command) => self.x86.sev(command),
            Request::SevPlatform(command) => self.x86.sev_platform(command),
            Request::SetPrivate { .. } => Response::Refused(
                "this mechanism does not convert pages on the hypervisor's request: its guests share pages \
                 themselves"
                    .into(),
            ),
            Request::PageCounts => match self.lower.call(lower::Request::PageCounts) {
                lower::Response::PageCounts(counts) => Response::PageCounts(counts),
                other => unexpected(&other),
            },
            Request::PageStates { first, count } => {
                match self.lower.call(lower::Request::PageStates { first, count }) {
                    lower::Response::PageStates { runs, next } => Response::PageStates { runs, next },
                    other => unexpected(&other),
                }
            }
        }
    }
}

fn unexpected(answer: &lower::Response) -> Response {
    Response::Refused(match answer {
        lower::Response::Refused(why) => why.clone(),
        other => format!("the modelled machine answered {other:?}: this is a defect of the model"),
    })
}
