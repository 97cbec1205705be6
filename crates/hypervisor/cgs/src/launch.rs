//! Mechanisms whose guest the host builds and the firmware measures before the first instruction (SEV; later SNP and
//! TDX): what the machine calls while it is made, and what operators may ask afterwards.
//!
//! The mechanism decides and words; commands cross the machine's door through [`LaunchPort`].

use std::fmt;
use std::io;

use cloister_platform::arch::x86_64::VmType;
use cloister_platform::{SevCapabilities, SevCommand, SevPlatformCommand, SevResult, VmError};

use crate::error::CgsError;

/// What a mechanism reaches of the platform, through the machine that owns the door.
pub trait LaunchPort {
    /// A command for the guest.
    fn guest(&self, command: SevCommand) -> Result<SevResult, VmError>;

    /// A command for the platform.
    fn platform(&self, command: SevPlatformCommand) -> Result<SevResult, VmError>;

    /// Writes guest memory.
    fn write(&self, guest_physical: u64, bytes: &[u8]) -> io::Result<()>;

    /// Whether all of these bytes are memory of one piece; the refusal is in QEMU's words.
    fn locate(&self, guest_physical: u64, len: u64) -> Result<(), String>;
}

/// What a launch must know of platform and machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaunchHost {
    /// AMD SEV, if the platform has it.
    pub sev: Option<SevCapabilities>,
    /// The user wants no interrupt controllers of the platform (`kernel-irqchip=off`).
    pub no_irqchip: bool,
}

/// The firmware image that the guest starts in.
#[derive(Clone, Copy, Debug)]
pub struct FirmwareImage<'a> {
    /// Where it ends up; its end is at 4 GiB.
    pub guest_physical: u64,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// What fw_cfg gives the guest of a kernel: never patched for a measured guest.
#[derive(Clone, Copy, Debug)]
pub struct KernelImage<'a> {
    /// `FW_CFG_SETUP_DATA`.
    pub setup: &'a [u8],
    /// `FW_CFG_KERNEL_DATA`.
    pub kernel: &'a [u8],
    /// `FW_CFG_INITRD_DATA`.
    pub initrd: &'a [u8],
    /// The command line without its NUL.
    pub cmdline: &'a [u8],
}

/// What operators may know of a measured launch (QMP, `query-sev`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaunchInfo {
    /// Version of the firmware's interface.
    pub api_major: u8,
    /// Its second part.
    pub api_minor: u8,
    /// Build of the firmware.
    pub build: u8,
    /// Where the launch stands.
    pub state: LaunchState,
    /// The guest's policy.
    pub policy: u32,
    /// The firmware's handle of the guest.
    pub handle: u32,
}

/// Where a launch stands, by QEMU's names and numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LaunchState {
    /// The firmware does not know the guest.
    #[default]
    Uninit,
    /// Memory is measured.
    LaunchUpdate,
    /// The measurement is there; secrets may come.
    LaunchSecret,
    /// The guest has been let go.
    Running,
}

impl LaunchState {
    /// Its name in QMP (`SevState`).
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uninit => "uninit",
            Self::LaunchUpdate => "launch-update",
            Self::LaunchSecret => "launch-secret",
            Self::Running => "running",
        }
    }
}

/// A mechanism whose guest the host launches. In the order of a run: [`vm_type`](Self::vm_type),
/// [`begin`](Self::begin), [`on_firmware`](Self::on_firmware), [`on_kernel`](Self::on_kernel),
/// [`on_machine_ready`](Self::on_machine_ready), [`finish`](Self::finish).
pub trait HostLaunch: fmt::Debug + Send {
    /// The kind of VM to create.
    fn vm_type(&self) -> VmType;

    /// Once the VM exists: the firmware gets to know the guest.
    fn begin(&mut self, host: &LaunchHost, port: &dyn LaunchPort) -> Result<(), CgsError>;

    /// The firmware is in memory: it is measured. Answers what the user should hear.
    fn on_firmware(
        &mut self,
        image: &FirmwareImage<'_>,
        port: &dyn LaunchPort,
    ) -> Result<Vec<String>, CgsError>;

    /// Where CPUs other than the first start, if not where every CPU does.
    fn reset_address(&self) -> Option<u32>;

    /// A kernel is given with `-kernel`.
    fn on_kernel(&mut self, kernel: &KernelImage<'_>, port: &dyn LaunchPort) -> Result<(), CgsError>;

    /// The machine is complete: CPU states are measured, and the measurement is taken. Answers what the user should
    /// hear; a launch without a measurement is not over.
    fn on_machine_ready(&mut self, port: &dyn LaunchPort) -> Result<Vec<String>, CgsError>;

    /// Before the first instruction. A refusal ends the run.
    fn finish(&mut self, port: &dyn LaunchPort) -> Result<(), CgsError>;

    /// Whether CPUs can be reset; if not, a reset ends the run.
    fn resettable(&self) -> bool;

    /// Where the launch stands.
    fn info(&self) -> LaunchInfo;

    /// The measurement.
    fn measurement(&self) -> Result<Vec<u8>, CgsError>;

    /// Puts the owner's secret into guest memory; packet header and secret are base64.
    fn inject_secret(
        &mut self,
        header: &str,
        secret: &str,
        guest_physical: Option<u64>,
        port: &dyn LaunchPort,
    ) -> Result<(), CgsError>;

    /// The firmware's report for a nonce in base64.
    fn attestation_report(&self, mnonce: &str, port: &dyn LaunchPort) -> Result<Vec<u8>, CgsError>;
}
