//! The host kernel's SEV side against a machine that writes down what it is asked: the sequence of firmware commands is
//! Linux's, and errors are KVM's (Linux, Documentation/virt/kvm/x86/amd-memory-encryption.rst).
#![expect(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use cloister_arch::s390x::RunLimit;
use cloister_arch::x86_64::{RESET_ADDRESS, Slot, VmConfig, VmType};
use cloister_firmware_api::{self as lower, Guest, HostBuffer, Machine, Sev};
use cloister_formats::sev::command::{
    Activate, Command, DebugCopy, GuestStatus, Init, LaunchMeasure, LaunchStart, LaunchUpdate, PdhCertExport,
    PlatformStatus, SendStart, Transfer,
};
use cloister_formats::sev::status::Status;
use cloister_formats::sev::vmsa::{Vmsa, VmsaForm};
use cloister_host_kernel::HostKernel;
use cloister_platform::{
    Door, Loopback, Request, Response, SevCommand, SevData, SevError, SevHost, SevPlatformCommand, SevResult,
    Vm,
};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

const MIB: u64 = 1 << 20;
/// Where the silicon puts the guest's storage.
const ORIGIN: u64 = 7 << 32;
const SIGNATURE: u32 = 0x00a0_0f11;
const EIO: i32 = -5;
const EFAULT: i32 = -14;
const EBUSY: i32 = -16;
const EINVAL: i32 = -22;
const ENOTTY: i32 = -25;

type Asked = (Command, Vec<u8>, Vec<HostBuffer>);

/// A machine whose firmware says yes to everything, or what it was told to say.
struct Silicon {
    sev: Option<Sev>,
    memory: OwnedFd,
    access: OwnedFd,
    asked: Mutex<Vec<Asked>>,
    refuse: Mutex<VecDeque<(Command, Status)>>,
    state: Mutex<u8>,
}

impl Silicon {
    fn new(es: bool) -> Arc<Self> {
        Self::with(Some(Sev { es, cbitpos: 51, reduced_phys_bits: 1, max_asid: 9, min_sev_asid: 3 }))
    }

    fn with(sev: Option<Sev>) -> Arc<Self> {
        let file = |bytes| {
            let fd = memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
            ftruncate(&fd, bytes).unwrap();
            fd
        };
        let (memory, access) = (file(8 * MIB), file(4096));
        let (asked, refuse, state) = (Mutex::default(), Mutex::default(), Mutex::default());
        Arc::new(Self { sev, memory, access, asked, refuse, state })
    }

    /// What was asked since the last time.
    fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    fn commands(&self) -> Vec<String> {
        self.asked().iter().map(|(command, ..)| command.to_string()).collect()
    }

    fn refuse(&self, command: Command, status: Status) {
        self.refuse.lock().unwrap().push_back((command, status));
    }

    fn execute(&self, command: Command, buffer: &mut [u8], host: &mut [HostBuffer]) -> Status {
        let mut refuse = self.refuse.lock().unwrap();
        if refuse.front().is_some_and(|(refused, _)| *refused == command) {
            let status = refuse.pop_front().unwrap().1;
            if command == Command::LAUNCH_MEASURE {
                let asked = LaunchMeasure::parse(buffer).unwrap();
                LaunchMeasure { len: 48, ..asked }.write_to(buffer).unwrap();
            }
            return status;
        }
        let mut state = self.state.lock().unwrap();
        match command {
            Command::INIT => *state = 1,
            Command::SHUTDOWN => *state = 0,
            Command::LAUNCH_START => {
                *state = 2;
                let asked = LaunchStart::parse(buffer).unwrap();
                LaunchStart { handle: 77, ..asked }.write_to(buffer).unwrap();
            }
            Command::PLATFORM_STATUS => {
                let status = PlatformStatus {
                    api_major: 1,
                    api_minor: 55,
                    build: 25,
                    config: 1,
                    ..Default::default()
                };
                status.write_to(buffer).unwrap();
                buffer[2] = *state;
            }
            Command::GUEST_STATUS => {
                let asked = GuestStatus::parse(buffer).unwrap();
                assert_eq!(asked.handle, 77);
                buffer[12] = 2;
            }
            _ => {}
        }
        for buffer in host {
            buffer.bytes.iter_mut().for_each(|byte| *byte ^= 0xff);
        }
        Status::SUCCESS
    }
}

impl lower::Door for Silicon {
    fn call(&self, request: lower::Request) -> lower::Response {
        match request {
            lower::Request::Machine => {
                lower::Response::Machine(Machine { sev: self.sev, max_cpus: 8, ..Machine::default() })
            }
            lower::Request::CreateX86Guest(config) => lower::Response::Guest(Guest {
                origin: ORIGIN,
                size: config.memory_bytes,
                memory_fd: self.memory.as_raw_fd(),
                access_fd: self.access.as_raw_fd(),
            }),
            lower::Request::Asp { command, mut buffer, mut host_pages } => {
                let command = Command(command);
                self.asked.lock().unwrap().push((command, buffer.clone(), host_pages.clone()));
                let status = self.execute(command, &mut buffer, &mut host_pages).0;
                lower::Response::Asp { status, buffer, host_pages }
            }
            lower::Request::Wbinvd => {
                // Written down under a name that is no command's.
                self.asked.lock().unwrap().push((WBINVD, Vec::new(), Vec::new()));
                lower::Response::Done
            }
            other => lower::Response::Refused(format!("{other:?}")),
        }
    }
}

const WBINVD: Command = Command(0xfff);

/// 2 MiB of RAM, 1 MiB of flash below 4 GiB with an alias of 128 KiB, and RAM above 4 GiB.
fn config(vm_type: VmType) -> VmConfig {
    let slot = |guest_physical, size, offset, read_only| Slot { guest_physical, size, offset, read_only };
    VmConfig {
        vcpus: 2,
        memory_bytes: 4 * MIB,
        slots: vec![
            slot(0, 0xe0000, 0, false),
            slot(MIB, MIB, MIB, false),
            slot(1 << 32, MIB, 2 * MIB, false),
            slot((1 << 32) - MIB, MIB, 3 * MIB, true),
            slot(0xe0000, 0x20000, 4 * MIB - 0x20000, true),
        ],
        vm_type,
        cpu_signature: SIGNATURE,
    }
}

/// A VM behind both loopbacks.
fn vm(silicon: &Arc<Silicon>, vm_type: VmType) -> Vm {
    let lower = Arc::new(lower::Loopback::new(Arc::clone(silicon) as _));
    let upper = Arc::new(Loopback::new(Arc::new(HostKernel::new(lower))));
    Vm::create_x86(upper, config(vm_type)).unwrap()
}

fn refused(result: Result<SevResult, cloister_platform::VmError>) -> (i32, u32) {
    let result = result.unwrap();
    (result.ret, result.fw_error)
}

#[test]
fn a_launch_gives_the_firmware_what_linux_gives_it() {
    let silicon = Silicon::new(true);
    let vm = vm(&silicon, VmType::Default);
    vm.sev_init(true).unwrap();
    assert_eq!(silicon.commands(), ["INIT", "command 0xfff", "DF_FLUSH"]);
    assert_eq!(vm.sev_launch_start(5, 0, vec![1; 2084], vec![2; 128]).unwrap(), 77);
    let asked = silicon.asked();
    let start = LaunchStart::parse(&asked[0].1).unwrap();
    assert_eq!((start.policy.0, start.dh_len, start.session_len, start.handle), (5, 2084, 128, 0));
    let of = |paddr| asked[0].2.iter().find(|buffer| buffer.paddr == paddr).unwrap().bytes.clone();
    assert_eq!((of(start.dh_paddr), of(start.session_paddr)), (vec![1; 2084], vec![2; 128]));
    // The first ASID of those with SEV-ES.
    assert_eq!(
        (asked[1].0, Activate::parse(&asked[1].1).unwrap()),
        (Command::ACTIVATE, Activate { handle: 77, asid: 1 })
    );

    // Flash, where it is one piece; then across the end of flash into RAM above, which are two pieces of the store.
    vm.sev_launch_update_data((1 << 32) - MIB, MIB).unwrap();
    vm.sev_launch_update_data((1 << 32) - 4096, 8192).unwrap();
    let asked = silicon.asked();
    let updates: Vec<_> = asked
        .iter()
        .map(|(command, buffer, _)| {
            assert_eq!(*command, Command::LAUNCH_UPDATE_DATA);
            let LaunchUpdate { handle, paddr, len } = LaunchUpdate::parse(buffer).unwrap();
            (handle, paddr - ORIGIN, len)
        })
        .collect();
    assert_eq!(updates, [(77, 3 * MIB, MIB as u32), (77, 4 * MIB - 4096, 4096), (77, 2 * MIB, 4096)]);

    vm.set_reset_address(1, 0x0080_b004).unwrap();
    vm.sev_launch_update_vmsa().unwrap();
    let asked = silicon.asked();
    let expected = [
        Vmsa::boot(VmsaForm::Legacy, SIGNATURE),
        Vmsa::application(VmsaForm::Legacy, SIGNATURE, 0x0080_b004),
    ];
    assert_eq!(asked.len(), 2);
    for ((command, buffer, host), vmsa) in asked.iter().zip(&expected) {
        let update = LaunchUpdate::parse(buffer).unwrap();
        assert_eq!((*command, update.handle, update.len), (Command::LAUNCH_UPDATE_VMSA, 77, 4096));
        assert_eq!((host[0].paddr, &host[0].bytes[..]), (update.paddr, &vmsa.as_bytes()[..]));
    }
    // Once encrypted, the state is nobody's to change.
    assert!(vm.set_reset_address(1, 0).unwrap_err().to_string().contains("encrypted"));

    assert_eq!(vm.sev_launch_measure().unwrap(), vec![0xff; 48]);
    vm.sev_launch_secret(vec![3; 52], 0x1000, vec![4; 32]).unwrap();
    let asked = silicon.asked();
    let secret = Transfer::parse(&asked[1].1).unwrap();
    assert_eq!(
        (secret.guest_paddr, secret.guest_len, secret.trans_len, secret.hdr_len),
        (ORIGIN + 0x1000, 32, 32, 52)
    );
    assert_eq!(vm.sev_guest_status().unwrap().state, 2);
    vm.sev_launch_finish().unwrap();
    assert_eq!(vm.sev_attestation_report([9; 16]).unwrap().len(), 0xd0);
    assert_eq!(silicon.commands(), ["GUEST_STATUS", "LAUNCH_FINISH", "ATTESTATION"]);

    // No CPU runs in this version.
    let limit = RunLimit { instructions: None, block: false };
    assert!(vm.run(0, limit, None).unwrap_err().to_string().contains("no CPU back end"));
    drop(vm);
    let end = ["DEACTIVATE", "command 0xfff", "DF_FLUSH", "DECOMMISSION", "SHUTDOWN"];
    assert_eq!(silicon.commands(), end);
}

#[test]
fn init2_measures_the_floating_point_state_too_and_uses_the_high_asids_without_es() {
    let silicon = Silicon::new(true);
    let es = vm(&silicon, VmType::SevEs);
    es.sev_init2(0, 2).unwrap();
    es.sev_launch_start(5, 0, vec![], vec![]).unwrap();
    silicon.asked();
    es.sev_launch_update_vmsa().unwrap();
    assert_eq!(silicon.asked()[1].2[0].bytes, Vmsa::boot(VmsaForm::Init2, SIGNATURE).encode());
    drop(es);
    silicon.asked();

    let sev = vm(&silicon, VmType::Sev);
    sev.sev_init2(0, 0).unwrap();
    silicon.asked();
    sev.sev_launch_start(1, 4, vec![], vec![]).unwrap();
    let asked = silicon.asked();
    let start = LaunchStart::parse(&asked[0].1).unwrap();
    assert_eq!(
        (start.handle, start.dh_paddr, start.dh_len, start.session_paddr, start.session_len),
        (4, 0, 0, 0, 0)
    );
    assert_eq!(Activate::parse(&asked[1].1).unwrap().asid, 3);
    // No VMSA without SEV-ES.
    assert_eq!(refused(sev.sev(SevCommand::LaunchUpdateVmsa)), (ENOTTY, 0));
}

#[test]
fn a_guest_that_cannot_be_activated_is_decommissioned() {
    let silicon = Silicon::new(true);
    let vm = vm(&silicon, VmType::Default);
    vm.sev_init(false).unwrap();
    silicon.asked();
    silicon.refuse(Command::ACTIVATE, Status::DFFLUSH_REQUIRED);
    let command = SevCommand::LaunchStart { policy: 1, handle: 0, dh_cert: vec![], session: vec![] };
    assert_eq!(refused(vm.sev(command)), (EIO, Status::DFFLUSH_REQUIRED.0));
    assert_eq!(silicon.commands(), ["LAUNCH_START", "ACTIVATE", "DECOMMISSION"]);
    drop(vm);
    // The firmware knows no guest of ours.
    assert_eq!(silicon.commands(), ["SHUTDOWN"]);
}

#[test]
fn init_is_tried_again_after_data_that_the_firmware_could_not_read() {
    let silicon = Silicon::new(true);
    silicon.refuse(Command::INIT, Status::SECURE_DATA_INVALID);
    let vm = vm(&silicon, VmType::Default);
    vm.sev_init(true).unwrap();
    let asked = silicon.asked();
    let init = Init::parse(&asked[0].1).unwrap();
    assert_eq!((init.flags, init.tmr_len, init.tmr_paddr % MIB), (Init::ES, 1 << 20, 0));
    assert_eq!(asked[0].1, asked[1].1);
    assert_eq!(asked.len(), 4);

    let silicon = Silicon::new(true);
    silicon.refuse(Command::INIT, Status::HWERROR_PLATFORM);
    let vm = self::vm(&silicon, VmType::Default);
    assert_eq!(refused(vm.sev(SevCommand::Init { es: true })), (EIO, Status::HWERROR_PLATFORM.0));
    // The next one may work.
    vm.sev_init(true).unwrap();
}

#[test]
fn what_kvm_refuses_itself_never_reaches_the_firmware() {
    let silicon = Silicon::new(true);
    let vm = vm(&silicon, VmType::Default);
    // Before INIT.
    for command in
        [SevCommand::LaunchUpdateVmsa, SevCommand::LaunchFinish, SevCommand::LaunchMeasure { len: 0 }]
    {
        assert_eq!(refused(vm.sev(command)), (ENOTTY, 0));
    }
    let receive = SevCommand::ReceiveUpdateData { header: vec![1], guest_physical: 0, payload: vec![1] };
    assert_eq!(refused(vm.sev(receive.clone())), (EINVAL, 0));
    // Of another type of VM.
    let init2 = |vmsa_features, flags, ghcb_version| SevCommand::Init2 { vmsa_features, flags, ghcb_version };
    assert_eq!(refused(vm.sev(init2(0, 0, 0))), (EINVAL, 0));
    assert!(silicon.commands().is_empty());

    vm.sev_init(false).unwrap();
    silicon.asked();
    let (long, header) = (vec![0; 0x4001], vec![0; 52]);
    let update = |guest_physical, len| SevCommand::LaunchUpdateData { guest_physical, len };
    let secret = |header: &Vec<u8>, guest_physical, payload: Vec<u8>| SevCommand::LaunchSecret {
        header: header.clone(),
        guest_physical,
        payload,
    };
    let start = |dh_cert, session| SevCommand::LaunchStart { policy: 1, handle: 0, dh_cert, session };
    let cases = [
        (SevCommand::Init { es: false }, EINVAL),
        (start(long.clone(), vec![]), EINVAL),
        (start(vec![1], long.clone()), EINVAL),
        (update(0, 0), EINVAL),
        (update(u64::MAX, 16), EINVAL),
        (update(0, 1 << 32), EINVAL),
        (update(2 * MIB, 16), EFAULT),
        (update(2 * MIB - 16, 32), EFAULT),
        (SevCommand::LaunchMeasure { len: 0x4001 }, EINVAL),
        (SevCommand::AttestationReport { mnonce: [0; 16], len: 0x4001 }, EINVAL),
        (secret(&header, 0, vec![]), EINVAL),
        (secret(&vec![], 0, vec![0; 16]), EINVAL),
        (secret(&header, 0, long.clone()), EINVAL),
        (secret(&header, 2 * MIB, vec![0; 16]), EFAULT),
        // Not contiguous in host memory.
        (secret(&header, 0xe0000 - 16, vec![0; 32]), EINVAL),
        (SevCommand::DbgDecrypt { guest_physical: 0, len: 0 }, EINVAL),
        (SevCommand::DbgEncrypt { guest_physical: 2 * MIB, bytes: vec![0] }, EFAULT),
        (SevCommand::SendStart { pdh: vec![1], platform: vec![], amd: vec![1], session_len: 128 }, EINVAL),
        (
            SevCommand::SendUpdateData { guest_physical: 4090, len: 16, header_len: 52, payload_len: 16 },
            EINVAL,
        ),
        (SevCommand::ReceiveStart { policy: 1, handle: 0, pdh: vec![], session: vec![1] }, EINVAL),
        (SevCommand::ReceiveUpdateData { header: vec![], guest_physical: 0, payload: vec![1] }, EINVAL),
    ];
    for (command, errno) in cases {
        assert_eq!(refused(vm.sev(command.clone())), (errno, 0), "{command:?}");
    }
    assert!(silicon.commands().is_empty());
    drop(vm);

    let vm = self::vm(&silicon, VmType::SevEs);
    for wrong in [init2(1, 0, 0), init2(0, 1, 0), init2(0, 0, 3)] {
        assert_eq!(refused(vm.sev(wrong)), (EINVAL, 0));
    }
    assert_eq!(refused(vm.sev(SevCommand::Init { es: true })), (EINVAL, 0));
}

#[test]
fn a_host_without_sev_or_without_es_says_so() {
    let silicon = Silicon::with(None);
    let vm = vm(&silicon, VmType::Default);
    assert_eq!(refused(vm.sev(SevCommand::Init { es: false })), (ENOTTY, 0));
    assert_eq!(vm.platform().unwrap().sev, None);
    assert_eq!(refused(vm.sev_host().command(SevPlatformCommand::Status)), (-19, 0));
    assert!(silicon.commands().is_empty());
    let create = |silicon: &Arc<Silicon>, vm_type| {
        let door: Arc<dyn Door> = Arc::new(HostKernel::new(Arc::clone(silicon) as _));
        Vm::create_x86(door, config(vm_type)).map(drop).map_err(|error| error.to_string())
    };
    assert!(create(&silicon, VmType::Sev).unwrap_err().contains("needs SEV, "));
    let silicon = Silicon::new(false);
    assert!(create(&silicon, VmType::SevEs).unwrap_err().contains("needs SEV-ES"));
    create(&silicon, VmType::Sev).unwrap();
    let vm = self::vm(&silicon, VmType::Default);
    assert_eq!(refused(vm.sev(SevCommand::Init { es: true })), (ENOTTY, 0));
    vm.sev_init(false).unwrap();
    // Without SEV-ES there is no trusted memory region.
    assert_eq!(
        Init::parse(&silicon.asked().iter().find(|asked| asked.0 == Command::INIT).unwrap().1).unwrap().flags,
        0
    );
}

#[test]
fn lengths_can_be_asked_for() {
    let silicon = Silicon::new(true);
    let vm = vm(&silicon, VmType::Default);
    vm.sev_init(false).unwrap();
    silicon.refuse(Command::LAUNCH_MEASURE, Status::INVALID_LENGTH);
    let result = vm.sev(SevCommand::LaunchMeasure { len: 0 }).unwrap();
    assert_eq!(result, SevResult { ret: EIO, fw_error: 4, data: SevData::Length(48) });
    match vm.sev(SevCommand::LaunchMeasure { len: 0 }).unwrap().ok() {
        Ok(SevData::Bytes(bytes)) => assert!(bytes.is_empty()),
        other => panic!("{other:?}"),
    }
    let error = SevError::Refused { ret: -25, fw_error: 0 };
    assert_eq!(error.to_string(), "ret=-25 fw_error=0");
}

#[test]
fn debugging_goes_through_whole_blocks_page_by_page() {
    let silicon = Silicon::new(true);
    let vm = vm(&silicon, VmType::Default);
    vm.sev_init(false).unwrap();
    vm.sev_launch_start(0, 0, vec![], vec![]).unwrap();
    silicon.asked();
    assert_eq!(vm.sev_dbg_decrypt(0xff8, 20).unwrap(), [0xff; 20]);
    let copies = |asked: Vec<Asked>| -> Vec<_> {
        asked
            .into_iter()
            .map(|(command, buffer, _)| {
                let DebugCopy { src_paddr, dst_paddr, len, .. } = DebugCopy::parse(&buffer).unwrap();
                let guest = if command == Command::DBG_DECRYPT { src_paddr } else { dst_paddr };
                (command, guest - ORIGIN, len)
            })
            .collect()
    };
    let decrypt = Command::DBG_DECRYPT;
    assert_eq!(copies(silicon.asked()), [(decrypt, 0xff0, 16), (decrypt, 0x1000, 16)]);
    // A whole block is written, a part of one is read first.
    vm.sev_dbg_encrypt(0x20, vec![1; 16]).unwrap();
    vm.sev_dbg_encrypt(0x34, vec![2; 4]).unwrap();
    let asked = silicon.asked();
    let last = asked.last().unwrap().2[0].bytes.clone();
    assert_eq!(last, [&[0xff; 4][..], &[2; 4], &[0xff; 8]].concat());
    let encrypt = Command::DBG_ENCRYPT;
    assert_eq!(copies(asked), [(encrypt, 0x20, 16), (decrypt, 0x30, 16), (encrypt, 0x30, 16)]);
}

#[test]
fn sending_keeps_what_the_firmware_needs_in_host_memory() {
    let silicon = Silicon::new(true);
    let vm = vm(&silicon, VmType::Default);
    vm.sev_init(false).unwrap();
    vm.sev_launch_start(0, 0, vec![], vec![]).unwrap();
    silicon.asked();
    let start = SevCommand::SendStart {
        pdh: vec![1; 2084],
        platform: vec![2; 6252],
        amd: vec![3; 832],
        session_len: 128,
    };
    assert_eq!(vm.sev(start).unwrap().ok().unwrap(), SevData::Bytes(vec![0xff; 128]));
    let update =
        SevCommand::SendUpdateData { guest_physical: 0x2000, len: 4096, header_len: 52, payload_len: 4096 };
    assert_eq!(vm.sev(update).unwrap().ok().unwrap(), SevData::Pair(vec![0xff; 52], vec![0xff; 4096]));
    let asked = silicon.asked();
    let start = SendStart::parse(&asked[0].1).unwrap();
    assert_eq!(
        (start.pdh_len, start.plat_certs_len, start.amd_certs_len, start.session_len),
        (2084, 6252, 832, 128)
    );
    assert_eq!(Transfer::parse(&asked[1].1).unwrap().guest_paddr, ORIGIN + 0x2000);
}

#[test]
fn the_platform_is_served_without_a_vm() {
    let silicon = Silicon::new(true);
    let door: Arc<dyn Door> = Arc::new(Loopback::new(Arc::new(HostKernel::new(Arc::clone(&silicon) as _))));
    let host = SevHost::new(Arc::clone(&door));
    let capabilities = host.capabilities().unwrap().unwrap();
    assert_eq!((capabilities.cbitpos, capabilities.api_minor, capabilities.max_asid), (51, 55, 9));
    // The version is had without initialising anything.
    assert_eq!(silicon.commands(), ["PLATFORM_STATUS"]);
    let status = host.status().unwrap();
    assert_eq!((status.state, status.flags, status.build), (1, 0x100, 25));
    assert_eq!(silicon.commands(), ["INIT", "command 0xfff", "DF_FLUSH", "PLATFORM_STATUS"]);
    let (pdh, chain) = host.pdh_cert_export().unwrap();
    assert_eq!((pdh.len(), chain.len()), (2084, 6252));
    assert_eq!((host.id().unwrap().len(), host.pek_csr().unwrap().len()), (64, 2084));
    let query = SevPlatformCommand::PdhCertExport { pdh_len: 0, chain_len: 6252 };
    silicon.asked();
    silicon.refuse(Command::PDH_CERT_EXPORT, Status::INVALID_LENGTH);
    assert_eq!(
        host.command(query).unwrap(),
        SevResult { ret: EIO, fw_error: 4, data: SevData::Lengths(0, 0) }
    );
    let asked = PdhCertExport::parse(&silicon.asked()[0].1).unwrap();
    assert_eq!(asked, PdhCertExport::default());
    assert_eq!(refused(host.command(SevPlatformCommand::GetId { len: 0x4001 })), (EFAULT, 0));
    assert_eq!(
        refused(host.command(SevPlatformCommand::PekCertImport { pek: vec![], oca: vec![1] })),
        (EINVAL, 0)
    );
    host.pek_gen().unwrap();
    host.pdh_gen().unwrap();
    host.factory_reset().unwrap();
    let expected = ["PEK_GEN", "PDH_GEN", "PLATFORM_STATUS", "SHUTDOWN", "PLATFORM_RESET"];
    assert_eq!(silicon.commands(), expected);
    // The next command that needs it initialises the platform again; the state can be asked before.
    assert_eq!(host.status().unwrap().state, 0);
    host.pdh_gen().unwrap();
    assert_eq!(silicon.commands(), ["PLATFORM_STATUS", "INIT", "command 0xfff", "DF_FLUSH", "PDH_GEN"]);

    let vm = Vm::create_x86(Arc::clone(&door), config(VmType::Default)).unwrap();
    vm.sev_init(false).unwrap();
    vm.sev_launch_start(1, 0, vec![], vec![]).unwrap();
    assert_eq!(refused(host.command(SevPlatformCommand::FactoryReset)), (EBUSY, 0));
    assert!(matches!(
        door.call(Request::CreateX86Vm(Box::new(config(VmType::Default)))),
        Response::Refused(_)
    ));
}

#[test]
fn start_addresses_are_kept_for_vcpus_that_exist() {
    let silicon = Silicon::new(true);
    let vm = vm(&silicon, VmType::Default);
    vm.set_reset_address(1, RESET_ADDRESS).unwrap();
    assert!(vm.set_reset_address(2, 0).unwrap_err().to_string().contains("vCPU 2"));
}
