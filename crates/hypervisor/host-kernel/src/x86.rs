//! x86-64 VMs over the lower door. No CPU of theirs runs: silicon has no core for them in this version.

use crate::sev::{Asids, Driver, SevGuest, Trouble, result};
use crate::unexpected;
use cloister_arch::x86_64::{CpuRequest, CpuResponse, VmConfig, VmType};
use cloister_firmware_api::{self as lower};
use cloister_platform::{
    MemoryMap, Response, SevCapabilities, SevCommand, SevData, SevPlatformCommand, SevResult,
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Why no x86-64 vCPU enters its guest.
pub(crate) const NO_CORE: &str = "no CPU back end can run x86-64 guests in this version";

pub(crate) struct X86 {
    lower: Arc<dyn lower::Door>,
    driver: Driver,
    vm: Mutex<Option<Vm>>,
}

struct Vm {
    sev: SevGuest,
    asids: Asids,
}

impl X86 {
    pub(crate) fn new(lower: Arc<dyn lower::Door>) -> Self {
        Self { driver: Driver::new(Arc::clone(&lower)), lower, vm: Mutex::new(None) }
    }

    pub(crate) fn is_created(&self) -> bool {
        self.lock().is_some()
    }

    /// What the platform can do with SEV. Of a platform whose firmware does not answer nothing is said.
    pub(crate) fn capabilities(&self, machine: &lower::Machine) -> Option<SevCapabilities> {
        let sev = machine.sev?;
        match self.driver.capabilities(sev) {
            Ok(capabilities) => Some(capabilities),
            Err(why) => {
                tracing::warn!(target: "sev", ?why, "the secure processor does not tell its version");
                None
            }
        }
    }

    pub(crate) fn create(&self, config: VmConfig) -> Response {
        let mut vm = self.lock();
        if vm.is_some() {
            return Response::Refused("this door has its VM already: open another door".into());
        }
        if let Err(why) = config.check() {
            return Response::Refused(why);
        }
        let cpuid = match self.driver.cpuid() {
            Ok(cpuid) => cpuid,
            Err(why) => return Response::Refused(words(why)),
        };
        let missing = match (config.vm_type, cpuid) {
            (VmType::Sev, None) => Some("SEV"),
            (VmType::SevEs, sev) if !sev.is_some_and(|sev| sev.es) => Some("SEV-ES"),
            _ => None,
        };
        if let Some(missing) = missing {
            return Response::Refused(format!(
                "VM type {} needs {missing}, which this platform does not have",
                config.vm_type.number()
            ));
        }
        match self.lower.call(lower::Request::CreateX86Guest(Box::new(config.clone()))) {
            lower::Response::Guest(guest) => {
                let slots = config.slots.clone();
                *vm = Some(Vm { sev: SevGuest::new(config, guest), asids: Asids::new(cpuid) });
                Response::Created(MemoryMap {
                    memory_fd: guest.memory_fd,
                    access_fd: guest.access_fd,
                    size: guest.size,
                    slots,
                })
            }
            other => unexpected(&other),
        }
    }

    pub(crate) fn cpu(&self, request: &CpuRequest) -> Response {
        let mut vm = self.lock();
        let Some(vm) = &mut *vm else { return no_vm() };
        Response::X86Cpu(match *request {
            CpuRequest::SetResetAddress { cpu, address } => match vm.sev.set_reset_address(cpu, address) {
                Ok(()) => CpuResponse::Done,
                Err(why) => CpuResponse::Refused(why),
            },
            CpuRequest::ResetAddress { cpu } => match vm.sev.reset_address(cpu) {
                Some(address) => CpuResponse::ResetAddress(address),
                None => CpuResponse::Refused(format!("there is no vCPU {cpu}")),
            },
        })
    }

    pub(crate) fn sev(&self, command: SevCommand) -> Response {
        let mut vm = self.lock();
        let Some(Vm { sev, asids }) = &mut *vm else { return no_vm() };
        let name = command.name();
        answer(name, sev.command(&self.driver, asids, command))
    }

    pub(crate) fn sev_platform(&self, command: SevPlatformCommand) -> Response {
        answer("SEV_ISSUE_CMD", self.driver.command(command))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vm>> {
        self.vm.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for X86 {
    fn drop(&mut self) {
        if let Some(Vm { sev, asids }) = self.vm.get_mut().unwrap_or_else(PoisonError::into_inner) {
            sev.end(&self.driver, asids);
        }
        self.driver.shut_down();
    }
}

fn answer(name: &str, outcome: Result<SevData, Trouble>) -> Response {
    match result(outcome) {
        Ok(result) => {
            let SevResult { ret, fw_error, .. } = result;
            tracing::debug!(target: "sev", command = name, ret, fw_error, "SEV command");
            Response::Sev(result)
        }
        Err(why) => Response::Refused(why),
    }
}

fn no_vm() -> Response {
    Response::Refused("no x86-64 VM was created behind this door".into())
}

fn words(trouble: Trouble) -> String {
    match trouble {
        Trouble::Refused(result) => format!("ret={} fw_error={}", result.ret, result.fw_error),
        Trouble::Door(why) => why,
    }
}
