//! KVM's part in a SEV guest (Linux, arch/x86/kvm/svm/sev.c, and
//! Documentation/virt/kvm/x86/amd-memory-encryption.rst): one handle, one ASID, commands for the firmware.
//!
//! It checks what KVM checks and no more. Whether a blob, a state or a policy is right is the firmware's answer.

use super::asid::Asids;
use super::driver::{Driver, bytes_or_length};
use super::mailbox::{Buffers, MAX_BLOB, Outcome, Trouble, VMSAS, parsed, refusal};
use cloister_arch::x86_64::{PAGE_SIZE, RESET_ADDRESS, VmConfig, VmType, runs};
use cloister_firmware_api::Guest;
use cloister_formats::sev::command::{
    Activate, Attestation, Command, DebugCopy, GuestStatus, Handle, LaunchMeasure, LaunchStart, LaunchUpdate,
    ReceiveStart, SendStart, Transfer,
};
use cloister_formats::sev::policy::Policy;
use cloister_formats::sev::vmsa::{Vmsa, VmsaForm};
use cloister_platform::{SevCommand, SevData, SevGuestStatus};
use rustix::io::Errno;

/// Highest version of the GHCB protocol that KVM knows.
const GHCB_VERSION_MAX: u16 = 2;
/// Bytes of a block of the memory encryption.
const BLOCK: u64 = 16;

/// One VM's SEV side, with what it is made of.
pub(crate) struct SevGuest {
    config: VmConfig,
    guest: Guest,
    /// Where each vCPU begins.
    reset_addresses: Vec<u32>,
    active: Option<Active>,
}

/// After INIT.
struct Active {
    es: bool,
    asid: u32,
    /// 0 before LAUNCH_START.
    handle: u32,
    /// The vCPUs' save areas, ciphertext after LAUNCH_UPDATE_VMSA.
    vmsas: Vec<Vec<u8>>,
}

impl SevGuest {
    pub(crate) fn new(config: VmConfig, guest: Guest) -> Self {
        let reset_addresses = vec![RESET_ADDRESS; usize::from(config.vcpus)];
        Self { config, guest, reset_addresses, active: None }
    }

    /// Where a vCPU begins; `None` for one that there is not.
    pub(crate) fn reset_address(&self, cpu: u16) -> Option<u32> {
        self.reset_addresses.get(usize::from(cpu)).copied()
    }

    /// Sets where a vCPU begins.
    pub(crate) fn set_reset_address(&mut self, cpu: u16, address: u32) -> Result<(), String> {
        let vcpus = self.config.vcpus;
        if self.active.as_ref().is_some_and(|active| !active.vmsas.is_empty()) {
            return Err("the vCPU's state is encrypted: it can no longer be changed".into());
        }
        let slot = self.reset_addresses.get_mut(usize::from(cpu));
        *slot.ok_or_else(|| format!("there is no vCPU {cpu}: the VM has {vcpus}"))? = address;
        Ok(())
    }

    pub(crate) fn command(
        &mut self,
        driver: &Driver,
        asids: &mut Asids,
        command: SevCommand,
    ) -> Outcome<SevData> {
        // SEV is off as a whole on a host without it.
        let cpuid = driver.cpuid()?.ok_or(Errno::NOTTY)?;
        match command {
            SevCommand::Init { es } => {
                if es && !cpuid.es {
                    return Err(Errno::NOTTY.into());
                }
                if self.config.vm_type != VmType::Default {
                    return Err(Errno::INVAL.into());
                }
                return self.init(driver, asids, es);
            }
            SevCommand::Init2 { vmsa_features, flags, ghcb_version } => {
                let es = match self.config.vm_type {
                    VmType::Default => return Err(Errno::INVAL.into()),
                    VmType::Sev => false,
                    VmType::SevEs => true,
                };
                // No feature of the VMSA is offered to SEV and SEV-ES guests here.
                let wrong_version = ghcb_version > if es { GHCB_VERSION_MAX } else { 0 };
                if flags != 0 || vmsa_features != 0 || wrong_version {
                    return Err(Errno::INVAL.into());
                }
                return self.init(driver, asids, es);
            }
            _ => {}
        }
        let Some(active) = &mut self.active else {
            // The one command for which KVM says it differently.
            let receive = matches!(command, SevCommand::ReceiveUpdateData { .. });
            return Err(if receive { Errno::INVAL } else { Errno::NOTTY }.into());
        };
        let (config, guest) = (&self.config, &self.guest);
        let memory = Memory { config, guest };
        let handle = active.handle;
        let mailbox = driver.mailbox();
        let plain = |command| {
            mailbox.plain(command, &Handle { handle }.encode())?;
            Ok(SevData::None)
        };
        match command {
            // Above.
            SevCommand::Init { .. } | SevCommand::Init2 { .. } => Err(Errno::INVAL.into()),
            SevCommand::LaunchStart { policy, handle, dh_cert, session } => {
                active.launch_start(driver, policy, handle, dh_cert, session)
            }
            SevCommand::LaunchUpdateData { guest_physical, len } => {
                for (paddr, len) in memory.runs(guest_physical, len)? {
                    let buffer = LaunchUpdate { handle, paddr, len }.encode();
                    mailbox.plain(Command::LAUNCH_UPDATE_DATA, &buffer)?;
                }
                Ok(SevData::None)
            }
            SevCommand::LaunchUpdateVmsa => active.launch_update_vmsa(driver, config, &self.reset_addresses),
            SevCommand::LaunchMeasure { len } => {
                let mut host = Buffers::default();
                let (paddr, len) = room(&mut host, len)?;
                let buffer = LaunchMeasure { handle, paddr, len }.encode();
                let mut answer = mailbox.ask(Command::LAUNCH_MEASURE, &buffer, host)?;
                let needed = parsed(LaunchMeasure::parse(&answer.buffer))?.len;
                bytes_or_length(&mut answer, paddr, needed)
            }
            SevCommand::LaunchSecret { header, guest_physical, payload } => {
                let (guest_paddr, guest_len) = memory.one_run(guest_physical, payload.len() as u64)?;
                let mut host = Buffers::default();
                let (trans_paddr, trans_len) = host.blob(payload)?;
                let (hdr_paddr, hdr_len) = host.blob(header)?;
                let buffer =
                    Transfer { handle, hdr_paddr, hdr_len, guest_paddr, guest_len, trans_paddr, trans_len };
                mailbox.command(Command::LAUNCH_SECRET, &buffer.encode(), host)?;
                Ok(SevData::None)
            }
            SevCommand::LaunchFinish => plain(Command::LAUNCH_FINISH),
            SevCommand::GuestStatus => {
                let buffer = GuestStatus { handle, ..GuestStatus::default() }.encode();
                let answer = mailbox.command(Command::GUEST_STATUS, &buffer, Buffers::default())?;
                let status = parsed(GuestStatus::parse(&answer.buffer))?;
                let (policy, state) = (status.policy.0, status.state.0.into());
                Ok(SevData::Guest(SevGuestStatus { handle, policy, state }))
            }
            SevCommand::AttestationReport { mnonce, len } => {
                let mut host = Buffers::default();
                let (paddr, len) = room(&mut host, len)?;
                let buffer = Attestation { handle, paddr, mnonce, len }.encode();
                let mut answer = mailbox.ask(Command::ATTESTATION, &buffer, host)?;
                let needed = parsed(Attestation::parse(&answer.buffer))?.len;
                bytes_or_length(&mut answer, paddr, needed)
            }
            SevCommand::DbgDecrypt { guest_physical, len } => {
                let mut out = Vec::new();
                for (paddr, len) in memory.pages(guest_physical, len.into())? {
                    out.extend_from_slice(&decrypt(driver, handle, paddr, len)?);
                }
                Ok(SevData::Bytes(out))
            }
            SevCommand::DbgEncrypt { guest_physical, bytes } => {
                let mut rest = bytes.as_slice();
                for (paddr, len) in memory.pages(guest_physical, bytes.len() as u64)? {
                    let (part, tail) = rest.split_at((len as usize).min(rest.len()));
                    encrypt(driver, handle, paddr, part)?;
                    rest = tail;
                }
                Ok(SevData::None)
            }
            SevCommand::SendStart { pdh, platform, amd, session_len } => {
                send_start(driver, handle, [pdh, platform, amd], session_len)
            }
            SevCommand::SendUpdateData { guest_physical, len, header_len, payload_len } => {
                let mut host = Buffers::default();
                if header_len == 0 || payload_len == 0 {
                    let buffer = Transfer { handle, ..Transfer::default() }.encode();
                    let answer = mailbox.ask(Command::SEND_UPDATE_DATA, &buffer, host)?;
                    let needed = parsed(Transfer::parse(&answer.buffer))?;
                    let data = SevData::Lengths(needed.hdr_len, needed.trans_len);
                    return match answer.status.is_success() {
                        true => Ok(data),
                        false => Err(Trouble::Refused(refusal(Errno::IO, answer.status.0, data))),
                    };
                }
                if header_len > MAX_BLOB || payload_len > MAX_BLOB {
                    return Err(Errno::INVAL.into());
                }
                let (guest_paddr, guest_len) = memory.in_one_page(guest_physical, len.into())?;
                let (hdr_paddr, hdr_len) = host.room(header_len);
                let (trans_paddr, trans_len) = host.room(payload_len);
                let buffer =
                    Transfer { handle, hdr_paddr, hdr_len, guest_paddr, guest_len, trans_paddr, trans_len };
                let mut answer = mailbox.command(Command::SEND_UPDATE_DATA, &buffer.encode(), host)?;
                let done = parsed(Transfer::parse(&answer.buffer))?;
                let header = answer.take(hdr_paddr, done.hdr_len);
                // The firmware leaves trans_len as it was: what it wrote is as long as the guest's part.
                Ok(SevData::Pair(header, answer.take(trans_paddr, guest_len)))
            }
            SevCommand::SendFinish => plain(Command::SEND_FINISH),
            SevCommand::SendCancel => plain(Command::SEND_CANCEL),
            SevCommand::ReceiveStart { policy, handle, pdh, session } => {
                let mut host = Buffers::default();
                let (pdh_paddr, pdh_len) = host.blob(pdh)?;
                let (session_paddr, session_len) = host.blob(session)?;
                let policy = Policy(policy);
                let buffer = ReceiveStart { handle, policy, pdh_paddr, pdh_len, session_paddr, session_len };
                let answer = mailbox.command(Command::RECEIVE_START, &buffer.encode(), host)?;
                active.bind(driver, parsed(ReceiveStart::parse(&answer.buffer))?.handle)
            }
            SevCommand::ReceiveUpdateData { header, guest_physical, payload } => {
                let (guest_paddr, guest_len) = memory.in_one_page(guest_physical, payload.len() as u64)?;
                let mut host = Buffers::default();
                let (hdr_paddr, hdr_len) = host.blob(header)?;
                let (trans_paddr, trans_len) = host.blob(payload)?;
                let buffer =
                    Transfer { handle, hdr_paddr, hdr_len, guest_paddr, guest_len, trans_paddr, trans_len };
                mailbox.command(Command::RECEIVE_UPDATE_DATA, &buffer.encode(), host)?;
                Ok(SevData::None)
            }
            SevCommand::ReceiveFinish => plain(Command::RECEIVE_FINISH),
        }
    }

    /// Takes the guest from the firmware: its key, its ASID, its handle.
    pub(crate) fn end(&mut self, driver: &Driver, asids: &mut Asids) {
        let Some(active) = self.active.take() else { return };
        if active.handle != 0 {
            let buffer = Handle { handle: active.handle }.encode();
            let mailbox = driver.mailbox();
            // Nobody is left to be told; what fails here fails again at the next flush.
            let _ = mailbox.plain(Command::DEACTIVATE, &buffer);
            let _ = mailbox.flush();
            let _ = mailbox.plain(Command::DECOMMISSION, &buffer);
        }
        asids.free(active.asid);
    }

    fn init(&mut self, driver: &Driver, asids: &mut Asids, es: bool) -> Outcome<SevData> {
        if self.active.is_some() {
            return Err(Errno::INVAL.into());
        }
        let asid = asids.take(es).ok_or(Errno::BUSY)?;
        if let Err(trouble) = driver.init() {
            asids.free(asid);
            return Err(trouble);
        }
        self.active = Some(Active { es, asid, handle: 0, vmsas: Vec::new() });
        Ok(SevData::None)
    }
}

impl Active {
    fn launch_start(
        &mut self,
        driver: &Driver,
        policy: u32,
        handle: u32,
        dh_cert: Vec<u8>,
        session: Vec<u8>,
    ) -> Outcome<SevData> {
        let mut host = Buffers::default();
        let (mut dh_paddr, mut dh_len, mut session_paddr, mut session_len) = (0, 0, 0, 0);
        if !dh_cert.is_empty() {
            (dh_paddr, dh_len) = host.blob(dh_cert)?;
        }
        if !session.is_empty() {
            (session_paddr, session_len) = host.blob(session)?;
        }
        let policy = Policy(policy);
        let buffer = LaunchStart { handle, policy, dh_paddr, dh_len, session_paddr, session_len };
        let answer = driver.mailbox().command(Command::LAUNCH_START, &buffer.encode(), host)?;
        self.bind(driver, parsed(LaunchStart::parse(&answer.buffer))?.handle)
    }

    /// Gives the new guest its ASID, or gives the guest up (`sev_bind_asid`).
    fn bind(&mut self, driver: &Driver, handle: u32) -> Outcome<SevData> {
        let activate = Activate { handle, asid: self.asid }.encode();
        if let Err(trouble) = driver.mailbox().plain(Command::ACTIVATE, &activate) {
            driver.mailbox().plain(Command::DECOMMISSION, &Handle { handle }.encode())?;
            return Err(trouble);
        }
        self.handle = handle;
        Ok(SevData::Handle(handle))
    }

    fn launch_update_vmsa(
        &mut self,
        driver: &Driver,
        config: &VmConfig,
        reset_addresses: &[u32],
    ) -> Outcome<SevData> {
        if !self.es {
            return Err(Errno::NOTTY.into());
        }
        let form = match config.vm_type {
            VmType::Default => VmsaForm::Legacy,
            // KVM synchronises the floating-point state for these.
            VmType::Sev | VmType::SevEs => VmsaForm::Init2,
        };
        for (&address, number) in reset_addresses.iter().zip(0u64..) {
            let vmsa = match address {
                RESET_ADDRESS => Vmsa::boot(form, config.cpu_signature),
                address => Vmsa::application(form, config.cpu_signature, address),
            };
            let paddr = VMSAS + number * PAGE_SIZE;
            let buffer = LaunchUpdate { handle: self.handle, paddr, len: PAGE_SIZE as u32 }.encode();
            let host = Buffers::at(paddr, vmsa.encode());
            let mut answer = driver.mailbox().command(Command::LAUNCH_UPDATE_VMSA, &buffer, host)?;
            // What there was of earlier calls is replaced: the firmware has measured both.
            self.vmsas.truncate(number as usize);
            self.vmsas.push(answer.take(paddr, PAGE_SIZE as u32));
        }
        Ok(SevData::None)
    }
}

/// Guest memory as pinned pages: where it is in the host's physical memory.
struct Memory<'a> {
    config: &'a VmConfig,
    guest: &'a Guest,
}

impl Memory<'_> {
    /// Physically contiguous runs of guest memory, as (address, length).
    fn runs(&self, guest_physical: u64, len: u64) -> Outcome<Vec<(u64, u32)>> {
        if len == 0 || len > u32::MAX.into() || guest_physical.checked_add(len).is_none() {
            return Err(Errno::INVAL.into());
        }
        let runs = runs(&self.config.slots, guest_physical, len).ok_or(Errno::FAULT)?;
        Ok(runs.into_iter().map(|(offset, len)| (self.guest.origin + offset, len as u32)).collect())
    }

    /// Guest memory that must be physically contiguous.
    fn one_run(&self, guest_physical: u64, len: u64) -> Outcome<(u64, u32)> {
        match self.runs(guest_physical, len)?[..] {
            [run] => Ok(run),
            _ => Err(Errno::INVAL.into()),
        }
    }

    /// Guest memory that must lie in one page.
    fn in_one_page(&self, guest_physical: u64, len: u64) -> Outcome<(u64, u32)> {
        if guest_physical % PAGE_SIZE + len > PAGE_SIZE {
            return Err(Errno::INVAL.into());
        }
        self.one_run(guest_physical, len)
    }

    /// Guest memory by page, as (address, length).
    fn pages(&self, guest_physical: u64, len: u64) -> Outcome<Vec<(u64, u32)>> {
        let mut pages = Vec::new();
        for (mut paddr, len) in self.runs(guest_physical, len)? {
            let end = paddr + u64::from(len);
            while paddr < end {
                let part = (PAGE_SIZE - paddr % PAGE_SIZE).min(end - paddr);
                pages.push((paddr, part as u32));
                paddr += part;
            }
        }
        Ok(pages)
    }
}

/// Room for output in host memory; none makes the command a question for the length.
fn room(host: &mut Buffers, len: u32) -> Outcome<(u64, u32)> {
    match len {
        len if len > MAX_BLOB => Err(Errno::INVAL.into()),
        len => Ok(host.room(len)),
    }
}

/// The whole blocks around some bytes, as (address, length, bytes before).
fn blocks(paddr: u64, len: u32) -> (u64, u32, usize) {
    let before = paddr % BLOCK;
    (paddr - before, (before as u32 + len).next_multiple_of(BLOCK as u32), before as usize)
}

/// Decrypts bytes inside one page, through whole blocks.
fn decrypt(driver: &Driver, handle: u32, paddr: u64, len: u32) -> Outcome<Vec<u8>> {
    let (src_paddr, whole, before) = blocks(paddr, len);
    let mut host = Buffers::default();
    let (dst_paddr, _) = host.room(whole);
    let buffer = DebugCopy { handle, src_paddr, dst_paddr, len: whole }.encode();
    let mut answer = driver.mailbox().command(Command::DBG_DECRYPT, &buffer, host)?;
    let plain = answer.take(dst_paddr, whole);
    Ok(plain.into_iter().skip(before).take(len as usize).collect())
}

/// Encrypts bytes into one page; a block that is written in part is read first.
fn encrypt(driver: &Driver, handle: u32, paddr: u64, bytes: &[u8]) -> Outcome<()> {
    let (dst_paddr, whole, before) = blocks(paddr, bytes.len() as u32);
    let mut plain = match whole as usize == bytes.len() {
        true => vec![0; whole as usize],
        false => decrypt(driver, handle, dst_paddr, whole)?,
    };
    let part = plain.get_mut(before..before + bytes.len());
    part.ok_or_else(|| Trouble::Door("DBG_DECRYPT gave too few bytes".into()))?.copy_from_slice(bytes);
    let mut host = Buffers::default();
    let (src_paddr, _) = host.add(plain);
    let buffer = DebugCopy { handle, src_paddr, dst_paddr, len: whole }.encode();
    driver.mailbox().command(Command::DBG_ENCRYPT, &buffer, host)?;
    Ok(())
}

fn send_start(driver: &Driver, handle: u32, blobs: [Vec<u8>; 3], session_len: u32) -> Outcome<SevData> {
    let mailbox = driver.mailbox();
    let mut host = Buffers::default();
    if session_len == 0 {
        let buffer = SendStart { handle, ..SendStart::default() }.encode();
        let answer = mailbox.ask(Command::SEND_START, &buffer, host)?;
        let data = SevData::Length(parsed(SendStart::parse(&answer.buffer))?.session_len);
        return match answer.status.is_success() {
            true => Ok(data),
            false => Err(Trouble::Refused(refusal(Errno::IO, answer.status.0, data))),
        };
    }
    // All of them, even those that the policy makes no use of.
    let [pdh, platform, amd] = blobs;
    if session_len > MAX_BLOB {
        return Err(Errno::INVAL.into());
    }
    let (pdh_paddr, pdh_len) = host.blob(pdh)?;
    let (plat_certs_paddr, plat_certs_len) = host.blob(platform)?;
    let (amd_certs_paddr, amd_certs_len) = host.blob(amd)?;
    let (session_paddr, session_len) = host.room(session_len);
    let buffer = SendStart {
        handle,
        pdh_paddr,
        pdh_len,
        plat_certs_paddr,
        plat_certs_len,
        amd_certs_paddr,
        amd_certs_len,
        session_paddr,
        session_len,
        ..SendStart::default()
    };
    let mut answer = mailbox.command(Command::SEND_START, &buffer.encode(), host)?;
    let needed = parsed(SendStart::parse(&answer.buffer))?.session_len;
    Ok(SevData::Bytes(answer.take(session_paddr, needed)))
}
