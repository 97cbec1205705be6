//! Launches by the host, between the mechanism and the door, and for operators.

use super::{Q35, Shared};
use cloister_cgs::{CgsError, HostLaunch, LaunchPort, SevFault};
use cloister_control::{ControlError, SevControl, SevInfo, SevPlatformInfo};
use cloister_platform::{SevCommand, SevHost, SevPlatformCommand, SevResult, Vm, VmError};
use std::io;

/// The guest's door, as a mechanism uses it.
pub(super) struct Port<'a> {
    vm: &'a Vm,
    host: SevHost,
}

impl<'a> Port<'a> {
    pub(super) fn new(vm: &'a Vm) -> Self {
        Self { vm, host: vm.sev_host() }
    }
}

impl LaunchPort for Port<'_> {
    fn guest(&self, command: SevCommand) -> Result<SevResult, VmError> {
        self.vm.sev(command)
    }

    fn platform(&self, command: SevPlatformCommand) -> Result<SevResult, VmError> {
        self.host.command(command)
    }

    fn write(&self, guest_physical: u64, bytes: &[u8]) -> io::Result<()> {
        self.vm.memory().load(guest_physical, bytes)
    }

    fn locate(&self, guest_physical: u64, len: u64) -> Result<(), String> {
        let slots = self.vm.memory().slots();
        let inside = |slot: &&cloister_platform::arch::x86_64::Slot| slot.backing(guest_physical).is_some();
        let Some(slot) = slots.iter().find(inside) else {
            return Err(format!("No memory is mapped at address 0x{guest_physical:x}"));
        };
        match slot.size - (guest_physical - slot.guest_physical) >= len {
            true => Ok(()),
            false => Err(format!("Size of memory region at 0x{guest_physical:x} exceeded.")),
        }
    }
}

/// A platform without a guest: what `-machine none` can say of SEV.
#[derive(Debug)]
pub struct SevPlatform(pub SevHost);

impl SevControl for SevPlatform {
    fn capabilities(&self) -> Result<SevPlatformInfo, ControlError> {
        let sev = self.0.capabilities()?;
        let info =
            cloister_cgs::sev::platform_info(sev, &|command| self.0.command(command)).map_err(words)?;
        Ok(SevPlatformInfo {
            pdh: info.pdh,
            cert_chain: info.cert_chain,
            cpu0_id: info.cpu0_id,
            cbitpos: info.cbitpos,
            reduced_phys_bits: info.reduced_phys_bits,
        })
    }
}

impl SevControl for Q35 {
    fn info(&self) -> Option<SevInfo> {
        let info = self.launch(|launch, _| launch.info())?;
        Some(SevInfo {
            api_major: info.api_major,
            api_minor: info.api_minor,
            build_id: info.build,
            state: info.state.name(),
            policy: info.policy,
            handle: info.handle,
        })
    }

    fn capabilities(&self) -> Result<SevPlatformInfo, ControlError> {
        SevPlatform(self.vm.sev_host()).capabilities()
    }

    fn launch_measure(&self) -> Result<Vec<u8>, ControlError> {
        let measured = self.launch(|launch, _| launch.measurement());
        measured.unwrap_or(Err(SevFault::NoMeasurement.into())).map_err(words)
    }

    fn inject_launch_secret(
        &self,
        header: &str,
        secret: &str,
        guest_physical: Option<u64>,
    ) -> Result<(), ControlError> {
        self.launch(|launch, port| launch.inject_secret(header, secret, guest_physical, port))
            .ok_or_else(|| ControlError::new("SEV not enabled for guest"))?
            .map_err(words)
    }

    fn attestation_report(&self, mnonce: &str) -> Result<Vec<u8>, ControlError> {
        self.launch(|launch, port| launch.attestation_report(mnonce, port))
            .ok_or_else(|| ControlError::new("SEV is not enabled"))?
            .map_err(words)
    }
}

impl Q35 {
    /// Something about the launch, if the guest has one.
    pub(super) fn launch<T>(
        &self,
        work: impl FnOnce(&mut dyn HostLaunch, &dyn LaunchPort) -> T,
    ) -> Option<T> {
        let mut shared = self.lock();
        let Shared { cgs, .. } = &mut *shared;
        let launch = cgs.as_mut()?.host_launch()?;
        Some(work(launch, &Port::new(&self.vm)))
    }
}

fn words(why: CgsError) -> ControlError {
    ControlError::new(why.to_string())
}
