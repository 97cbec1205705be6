//! The modelled x86-64 machine behind the lower door: memory and the AMD secure processor together.
//!
//! It does what the hardware's wiring does: commands in the mailbox reach the firmware, the firmware reaches the guest's
//! storage and the host memory that came with the command, and what its flash holds reaches the platform folder. It has
//! no rules of its own beyond that; they are in the crates it joins. No core runs x86-64 guests in this version.
#![forbid(unsafe_code)]

mod bus;
mod pages;

use bus::{Encrypted, SystemBus};
use cloister_arch::x86_64::VmConfig;
use cloister_asp::{Asp, Status};
use cloister_crypto::{Entropy, SystemEntropy};
use cloister_firmware_api::{
    Door, Guest, HostBuffer, MAX_HOST_BYTES, MAX_RUNS, Machine, Request, Response, Sev,
};
use cloister_formats::sev::command::Command;
use cloister_memory::Storage;
use cloister_platform_store::{PlatformError, SevPlatform};
use pages::Pages;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Host physical address of the guest's storage. What is below is the host's own memory.
pub const GUEST_ORIGIN: u64 = 1 << 40;

/// Why no vCPU enters its guest.
const NO_CORE: &str = "no CPU back end can run x86-64 guests in this version";
/// Commands that make other keys: machines of the same platform that run already would go on with the old ones.
const NEW_KEYS: [Command; 4] =
    [Command::PEK_GEN, Command::PDH_GEN, Command::PEK_CERT_IMPORT, Command::PLATFORM_RESET];
/// What such a command is told while others use the platform: what a processor answers that has guests. The firmware
/// allows PDH_GEN then, because all guests are its own; here the others' firmware could not be told of the new PDH.
const BUSY: Status = Status::INVALID_PLATFORM_STATE;
/// Most vCPUs of a guest.
const MAX_CPUS: u16 = 288;
/// Most bytes of a command buffer: a page.
const MAX_BUFFER: usize = 4096;

/// A modelled machine with one guest.
pub struct Silicon {
    machine: Machine,
    asp: Option<Mutex<Asp>>,
    guest: OnceLock<GuestSide>,
    /// The folder's lock is held as long as the machine runs; others may run the same machine.
    platform: SevPlatform,
}

struct GuestSide {
    storage: Arc<Storage>,
    encrypted: Encrypted,
}

impl Silicon {
    /// The machine that a platform folder describes.
    pub fn new(platform: SevPlatform) -> Self {
        Self::with_entropy(platform, Box::new(SystemEntropy))
    }

    /// As [`new`](Self::new), with the firmware's randomness from elsewhere: the same seed, platform and commands give
    /// the same bytes.
    pub fn with_entropy(platform: SevPlatform, entropy: Box<dyn Entropy + Send>) -> Self {
        let switches = platform.config().sev;
        let asp = switches.present.then(|| {
            let mut asp = Asp::new(platform.identity().clone(), entropy, platform.asp_config());
            match platform.flash() {
                Ok(content) => asp.set_flash(content),
                Err(why) => {
                    tracing::error!(target: "sev", %why, "the secure processor starts without its flash")
                }
            }
            Mutex::new(asp)
        });
        let place = match platform.folder() {
            Some(folder) => folder.display().to_string(),
            None => "made for this run".into(),
        };
        let machine = Machine {
            description: format!("MODEL of an AMD machine in software, platform {place}"),
            max_cpus: MAX_CPUS,
            sev: switches.present.then_some(Sev {
                es: switches.es,
                cbitpos: switches.cbitpos,
                reduced_phys_bits: switches.reduced_phys_bits,
                max_asid: switches.asids,
                min_sev_asid: switches.min_sev_asid,
            }),
            ..Machine::default()
        };
        Self { machine, asp, guest: OnceLock::new(), platform }
    }

    /// The guest's storage, for tests that look at it from inside the secure world.
    pub fn storage(&self) -> Option<Arc<Storage>> {
        self.guest.get().map(|guest| Arc::clone(&guest.storage))
    }

    /// Makes the `nth` execution of a firmware command from now on, counted from 1, fail with a status and do nothing
    /// else. Without a secure processor nothing happens.
    pub fn inject(&self, command: u16, nth: u32, status: u32) {
        if let Some(asp) = &self.asp {
            lock(asp).inject(command, nth, Status(status));
        }
    }

    fn asp(&self) -> Result<MutexGuard<'_, Asp>, String> {
        let asp = self.asp.as_ref().ok_or("this platform has no SEV: there is no secure processor to ask")?;
        Ok(lock(asp))
    }

    fn create(&self, config: &VmConfig) -> Result<Response, String> {
        let taken = || "the modelled machine has its guest already".to_string();
        if self.guest.get().is_some() {
            return Err(taken());
        }
        config.check()?;
        if config.vcpus > MAX_CPUS {
            return Err(format!("{} vCPUs: the modelled machine has {MAX_CPUS} at most", config.vcpus));
        }
        let storage = Arc::new(Storage::new(config.memory_bytes).map_err(|e| e.to_string())?);
        let guest = Guest {
            origin: GUEST_ORIGIN,
            size: storage.size(),
            memory_fd: storage.host_fd().as_raw_fd(),
            access_fd: storage.access_map_fd().as_raw_fd(),
        };
        let encrypted = Encrypted::new(storage.pages());
        self.guest.set(GuestSide { storage, encrypted }).map_err(|_| taken())?;
        Ok(Response::Guest(guest))
    }

    fn execute(
        &self,
        command: u16,
        mut buffer: Vec<u8>,
        host_pages: Vec<HostBuffer>,
    ) -> Result<Response, String> {
        let mut asp = self.asp()?;
        if buffer.len() > MAX_BUFFER {
            return Err(format!(
                "a command buffer of {} bytes: the mailbox takes {MAX_BUFFER}",
                buffer.len()
            ));
        }
        if host_pages.iter().map(|page| page.bytes.len()).sum::<usize>() > MAX_HOST_BYTES {
            return Err(format!("more than {MAX_HOST_BYTES} bytes of host memory with one command"));
        }
        let guest = self.guest.get().map(|guest| (guest.storage.as_ref(), &guest.encrypted));
        let bus = SystemBus::new(guest, host_pages, bus::tmr_of(command, &buffer))?;
        let change = match NEW_KEYS.contains(&Command(command)).then(|| self.platform.change()).transpose() {
            Ok(change) => change,
            Err(why) => {
                tracing::warn!(target: "sev", %why, "the secure processor's keys stay");
                let status = match why {
                    PlatformError::InUse { .. } | PlatformError::Changing { .. } => BUSY,
                    _ => Status::HWERROR_PLATFORM,
                };
                return Ok(Response::Asp { status: status.0, buffer, host_pages: bus.into_host_pages() });
            }
        };
        let mut status = asp.execute(command, &mut buffer, &bus);
        if let Some(content) = asp.take_flash() {
            let kept = match &change {
                Some(change) => change.keep_flash(content),
                // A start that found no keys, or damaged ones. Normally it has nothing to write.
                None => self.platform.keep_flash(content),
            };
            if let Err(why) = kept {
                tracing::error!(target: "sev", %why, "the secure processor's flash cannot be written");
                // Whoever asked for new keys must not believe that they last. A start goes on with keys for this run.
                if change.is_some() && status.is_success() {
                    status = Status::HWERROR_PLATFORM;
                }
            }
        }
        Ok(Response::Asp { status: status.0, buffer, host_pages: bus.into_host_pages() })
    }

    fn with_guest(&self, work: impl FnOnce(&GuestSide) -> Response) -> Result<Response, String> {
        Ok(work(self.guest.get().ok_or("the modelled machine has no guest yet")?))
    }
}

impl Door for Silicon {
    fn call(&self, request: Request) -> Response {
        let answer = match request {
            Request::Machine => Ok(Response::Machine(self.machine.clone())),
            Request::CreateX86Guest(config) => self.create(&config),
            Request::Asp { command, buffer, host_pages } => self.execute(command, buffer, host_pages),
            Request::Wbinvd => {
                if let Some(asp) = &self.asp {
                    lock(asp).wbinvd_on_all_cores();
                }
                Ok(Response::Done)
            }
            Request::Invalidate { address, len } => self.with_guest(|guest| {
                guest.storage.host_wrote(address, len);
                Response::Done
            }),
            Request::PageCounts => self.with_guest(|guest| Response::PageCounts(Pages::new(guest).counts())),
            Request::PageStates { first, count } => self.with_guest(|guest| {
                let (runs, next) = Pages::new(guest).runs(first, count, MAX_RUNS);
                Response::PageStates { runs, next }
            }),
            Request::Enter { .. } | Request::Cpu(_) => Err(NO_CORE.into()),
            Request::CreateGuest(_) | Request::Uvc { .. } => {
                Err("this is a model of an AMD machine: it has no z/Architecture guests".into())
            }
        };
        answer.unwrap_or_else(Response::Refused)
    }
}

fn lock(asp: &Mutex<Asp>) -> MutexGuard<'_, Asp> {
    asp.lock().unwrap_or_else(PoisonError::into_inner)
}
