//! A fake kernel behind the door: what it is asked of is what Linux, Documentation/virt/kvm/x86/
//! amd-memory-encryption.rst, says, and what it answers comes through or is refused. And the software platform beside
//! it: the same commands, answers of the same shape.

mod machine;

use super::*;
use crate::layout::{
    SevAttestationReport, SevGuestStatus as Status, SevLaunchMeasure, SevLaunchStart, SevSendStart,
    SevSendUpdateData, Sregs, Structure, UserDataGetId2, UserDataPdhCertExport, UserDataPekCsr,
    UserDataStatus,
};
use crate::{Call, CallLink, Device, FakeKernel, OpenFailure, Payload};
use cloister_arch::s390x::RunLimit;
use cloister_arch::x86_64::{Slot, VmType as Kind};
use cloister_crypto::SeededEntropy;
use cloister_formats::sev::vmsa::{Value, Vmsa, VmsaForm};
use cloister_host_kernel::HostKernel;
use cloister_platform::{Loopback, SevError, SevHost, VmError};
use cloister_platform_store::{Sev, SevPlatform};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::mem::offset_of;
use zerocopy::{FromZeros, IntoBytes};

const MIB: u64 = 1 << 20;
const EIO: i32 = -5;
const EFAULT: i32 = -14;
const EINVAL: i32 = -22;
const SIGNATURE: u32 = 0x00a0_0f11;
const AP: u32 = 0x0080_b004;
/// Of `struct kvm_sev_cmd` and of `struct sev_issue_cmd`: the pointer, and the firmware's status.
const GUEST: (usize, usize) = (8, 16);
const PLATFORM: (usize, usize) = (4, 12);

/// CPUID of a Milan with a name.
fn cpuid() -> Cpuid {
    let name = |part: &[u8; 16]| {
        let mut words = part.chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap()));
        [(); 4].map(|()| words.next().unwrap())
    };
    Cpuid::from([
        (0x8000_0000, [0x8000_0023, 0, 0, 0]),
        (0x8000_0002, name(b"AMD EPYC 7763 64")),
        (0x8000_0003, name(b"-Core Processor ")),
        (0x8000_0004, name(b"               \0")),
        (0x8000_001f, [0x1_780f, (5 << 6) | 51, 509, 100]),
    ])
}

/// RAM, 1 MiB of flash below 4 GiB and its alias.
fn config(vm_type: Kind) -> VmConfig {
    let slot = |guest_physical, size, offset, read_only| Slot { guest_physical, size, offset, read_only };
    VmConfig {
        vcpus: 2,
        memory_bytes: 4 * MIB,
        slots: vec![
            slot(0, 0xe0000, 0, false),
            slot(MIB, 2 * MIB, MIB, false),
            slot((1 << 32) - MIB, MIB, 3 * MIB, true),
            slot(0xe0000, 0x20000, 4 * MIB - 0x20000, true),
        ],
        vm_type,
        cpu_signature: SIGNATURE,
    }
}

/// Changes the structure of a command.
fn change<T: Structure>(payload: &mut Payload<'_>, at: usize, work: impl FnOnce(&mut T)) {
    let data = payload.block_mut(at).unwrap();
    let mut block: T = data.read().unwrap();
    work(&mut block);
    data.bytes_mut().copy_from_slice(block.as_bytes());
}

/// Fails as the kernel does for the firmware.
fn status(payload: &mut Payload<'_>, at: usize, status: u32) -> Result<i32, Errno> {
    payload.bytes_mut()[at..at + 4].copy_from_slice(&status.to_ne_bytes());
    Err(Errno::INPUT_OUTPUT)
}

/// A kernel and a firmware that say yes to everything.
fn willing() -> FakeKernel {
    let quiet = [
        "KVM_SET_USER_MEMORY_REGION",
        "KVM_MEMORY_ENCRYPT_REG_REGION",
        "KVM_SET_SREGS",
        "KVM_SET_REGS",
        "KVM_SEV_INIT",
        "KVM_SEV_ES_INIT",
        "KVM_SEV_INIT2",
        "KVM_SEV_LAUNCH_UPDATE_DATA",
        "KVM_SEV_LAUNCH_UPDATE_VMSA",
        "KVM_SEV_LAUNCH_SECRET",
        "KVM_SEV_LAUNCH_FINISH",
        "KVM_SEV_DBG_DECRYPT",
        "KVM_SEV_DBG_ENCRYPT",
        "KVM_SEV_SEND_FINISH",
        "KVM_SEV_SEND_CANCEL",
        "KVM_SEV_RECEIVE_UPDATE_DATA",
        "KVM_SEV_RECEIVE_FINISH",
        "SEV_PEK_GEN",
        "SEV_PDH_GEN",
        "SEV_PEK_CERT_IMPORT",
        "SEV_FACTORY_RESET",
    ];
    let fake = FakeKernel::with_kvm()
        .device(Device::Sev, Ok(()))
        .capability(Capability::VM_TYPES, 0b1101)
        .capability(Capability::READONLY_MEM, 1)
        .capability(Capability::MAX_VCPUS, 1024);
    let fake = quiet.into_iter().fold(fake, |fake, name| fake.returns(name, 0));
    fake.answers("KVM_GET_SREGS", |payload| {
        // What the kernel's own reset leaves, and what is not to be touched.
        let sregs = Sregs { cr0: 0x6000_0010, apic_base: 0xfee0_0900, ..Sregs::new_zeroed() };
        payload.bytes_mut().copy_from_slice(sregs.as_bytes());
        Ok(0)
    })
    .answers("KVM_SEV_LAUNCH_START", |payload| {
        change(payload, GUEST.0, |block: &mut SevLaunchStart| block.handle = 7);
        Ok(0)
    })
    .answers("KVM_SEV_RECEIVE_START", |payload| {
        payload.block_mut(GUEST.0).unwrap().bytes_mut()[0] = 8;
        Ok(0)
    })
    .answers("KVM_SEV_LAUNCH_MEASURE", |payload| {
        let mut short = false;
        change(payload, GUEST.0, |block: &mut SevLaunchMeasure| {
            short = block.len < 48;
            block.len = if short && block.len != 0 { block.len } else { 48 };
        });
        if short { status(payload, GUEST.1, 4) } else { Ok(0) }
    })
    .answers("KVM_SEV_GET_ATTESTATION_REPORT", |payload| {
        let mut short = false;
        change(payload, GUEST.0, |block: &mut SevAttestationReport| {
            short = block.len < 0xd0;
            block.len = 0xd0;
        });
        if short { status(payload, GUEST.1, 4) } else { Ok(0) }
    })
    .answers("KVM_SEV_GUEST_STATUS", |payload| {
        change(payload, GUEST.0, |block: &mut Status| {
            (block.handle, block.policy, block.state) = (7, 5, 2);
        });
        Ok(0)
    })
    .answers("KVM_SEV_SEND_START", |payload| {
        let mut short = false;
        change(payload, GUEST.0, |block: &mut SevSendStart| {
            short = block.session_len < 128;
            block.session_len = 128;
        });
        if short { status(payload, GUEST.1, 4) } else { Ok(0) }
    })
    .answers("KVM_SEV_SEND_UPDATE_DATA", |payload| {
        let mut short = false;
        change(payload, GUEST.0, |block: &mut SevSendUpdateData| {
            short = block.hdr_len == 0 || block.trans_len == 0;
            (block.hdr_len, block.trans_len) = (52, block.guest_len);
        });
        if short { status(payload, GUEST.1, 4) } else { Ok(0) }
    })
    .answers("SEV_PLATFORM_STATUS", |payload| {
        change(payload, PLATFORM.0, |block: &mut UserDataStatus| {
            *block = UserDataStatus {
                api_major: 1,
                api_minor: 55,
                state: 1,
                flags: 0x100,
                build: 25,
                guest_count: 0,
            };
        });
        Ok(0)
    })
    .answers("SEV_PDH_CERT_EXPORT", |payload| {
        let mut short = false;
        change(payload, PLATFORM.0, |block: &mut UserDataPdhCertExport| {
            short = block.pdh_cert_len < 2084 || block.cert_chain_len < 6252;
            (block.pdh_cert_len, block.cert_chain_len) = (2084, 6252);
        });
        if short { status(payload, PLATFORM.1, 4) } else { Ok(0) }
    })
    .answers("SEV_GET_ID2", |payload| {
        let mut short = false;
        change(payload, PLATFORM.0, |block: &mut UserDataGetId2| {
            short = block.length < 64;
            block.length = 64;
        });
        if short { status(payload, PLATFORM.1, 4) } else { Ok(0) }
    })
    .answers("SEV_PEK_CSR", |payload| {
        let mut short = false;
        change(payload, PLATFORM.0, |block: &mut UserDataPekCsr| {
            short = block.length < 2084;
            block.length = 2084;
        });
        if short { status(payload, PLATFORM.1, 4) } else { Ok(0) }
    })
}

fn door(fake: FakeKernel) -> Arc<KvmDoor<FakeKernel>> {
    Arc::new(KvmDoor::open(fake, cpuid()).unwrap())
}

type TheVm = cloister_platform::Vm;

fn vm(door: &Arc<KvmDoor<FakeKernel>>, kind: Kind) -> TheVm {
    TheVm::create_x86(Arc::clone(door) as Arc<dyn Door>, config(kind)).unwrap()
}

fn calls(door: &KvmDoor<FakeKernel>) -> Vec<Call> {
    let silent = ["KVM_GET_API_VERSION", "KVM_CHECK_EXTENSION"];
    door.kernel().calls().into_iter().filter(|call| !silent.contains(&call.name)).collect()
}

fn names(door: &KvmDoor<FakeKernel>) -> Vec<&'static str> {
    calls(door).iter().map(|call| call.name).collect()
}

fn guest_of(call: &Call) -> Vec<(u64, usize)> {
    fn all(links: &[(usize, CallLink)], out: &mut Vec<(u64, usize)>) {
        for (_, link) in links {
            match link {
                CallLink::Block(_, inner) => all(inner, out),
                CallLink::Guest { address, length } => out.push((*address, *length)),
                CallLink::Handle(_) => {}
            }
        }
    }
    let mut out = Vec::new();
    all(&call.links, &mut out);
    out
}

/// A launch as a machine does it: firmware, vCPUs, measurement in two steps, a secret, the end.
fn launch(vm: &TheVm, es: bool, newer: bool) {
    let host = vm.sev_host();
    host.status().unwrap();
    if newer {
        vm.sev_init2(0, 0).unwrap()
    } else {
        vm.sev_init(es).unwrap()
    }
    assert!(vm.sev_launch_start(if es { 5 } else { 1 }, 0, vec![], vec![]).unwrap() > 0);
    vm.memory().load((1 << 32) - MIB, &[0x5a; 4096]).unwrap();
    if es {
        vm.set_reset_address(1, AP).unwrap();
    }
    vm.sev_launch_update_data((1 << 32) - MIB, MIB).unwrap();
    if es {
        vm.sev_launch_update_vmsa().unwrap();
    }
    let length = vm.sev(SevCommand::LaunchMeasure { len: 0 }).unwrap();
    assert_eq!(length, SevResult { ret: EIO, fw_error: 4, data: SevData::Length(48) });
    assert_eq!(vm.sev_launch_measure().unwrap().len(), 48);
}

const BEFORE: [&str; 6] = [
    "KVM_CREATE_VM",
    "KVM_SET_USER_MEMORY_REGION",
    "KVM_SET_USER_MEMORY_REGION",
    "KVM_SET_USER_MEMORY_REGION",
    "KVM_SET_USER_MEMORY_REGION",
    "SEV_PLATFORM_STATUS",
];
const CPU: [&str; 4] = ["KVM_CREATE_VCPU", "KVM_GET_SREGS", "KVM_SET_SREGS", "KVM_SET_REGS"];

fn expected(init: &'static str, es: bool) -> Vec<&'static str> {
    let mut all = BEFORE.to_vec();
    all.extend([init, "KVM_MEMORY_ENCRYPT_REG_REGION"]);
    all.extend([CPU, CPU].concat());
    all.push("KVM_SEV_LAUNCH_START");
    if es {
        // The second vCPU begins where the firmware says.
        all.extend(&CPU[1..]);
    }
    all.push("KVM_SEV_LAUNCH_UPDATE_DATA");
    if es {
        all.push("KVM_SEV_LAUNCH_UPDATE_VMSA");
    }
    all.extend([
        "KVM_SEV_LAUNCH_MEASURE",
        "KVM_SEV_LAUNCH_MEASURE",
        "KVM_SEV_LAUNCH_SECRET",
        "KVM_SEV_LAUNCH_FINISH",
    ]);
    all
}

#[test]
fn kvm_sev_a_launch_is_the_documented_sequence_of_ioctls() {
    let launches = [
        (Kind::Default, false, "KVM_SEV_INIT"),
        (Kind::Default, true, "KVM_SEV_ES_INIT"),
        (Kind::Sev, false, "KVM_SEV_INIT2"),
        (Kind::SevEs, true, "KVM_SEV_INIT2"),
    ];
    for (kind, es, init) in launches {
        let door = door(willing());
        let vm = vm(&door, kind);
        launch(&vm, es, kind != Kind::Default);
        vm.sev_launch_secret(vec![1; 52], 0x1000, vec![2; 64]).unwrap();
        vm.sev_launch_finish().unwrap();
        assert_eq!(names(&door), expected(init, es), "{kind:?}");
        let calls = calls(&door);
        assert_eq!(calls[0].value, u64::from(kind.number()), "the VM's type");
        let numbers: Vec<_> =
            calls.iter().filter(|call| call.name == "KVM_CREATE_VCPU").map(|call| call.value).collect();
        assert_eq!(numbers, [0, 1]);
        // All SEV commands are made on the VM, the vCPUs' on theirs: /dev/kvm is file 1, /dev/sev 2, the VM 3.
        assert!(calls.iter().filter(|call| call.name.starts_with("KVM_SEV_")).all(|call| call.on == 3));
    }
}

#[test]
fn kvm_api_4_35_slots_show_the_backing_store_and_flash_read_only() {
    let door = door(willing());
    let vm = vm(&door, Kind::Default);
    vm.sev_init(false).unwrap();
    vm.sev_launch_update_data((1 << 32) - MIB, 8192).unwrap();
    // From flash's alias back into RAM: two runs of the store, so two commands.
    vm.sev_launch_update_data(0xdf000, 8192).unwrap();
    let calls = calls(&door);
    let slots: Vec<_> = calls.iter().filter(|call| call.name == "KVM_SET_USER_MEMORY_REGION").collect();
    let base = guest_of(slots[0])[0].0;
    for (number, (call, slot)) in (0u32..).zip(slots.iter().zip(config(Kind::Default).slots)) {
        let flags = if slot.read_only { 2u32 } else { 0 };
        assert_eq!(call.bytes[..4], number.to_ne_bytes());
        assert_eq!(call.bytes[4..8], flags.to_ne_bytes());
        assert_eq!(call.bytes[8..16], slot.guest_physical.to_ne_bytes());
        assert_eq!(call.bytes[16..24], slot.size.to_ne_bytes());
        assert_eq!(guest_of(call), [(base + slot.offset, slot.size as usize)]);
    }
    let registered = calls.iter().find(|call| call.name == "KVM_MEMORY_ENCRYPT_REG_REGION").unwrap();
    assert_eq!(guest_of(registered), [(base, 4 * MIB as usize)], "all of the store, once");
    let updates: Vec<_> = calls.iter().filter(|call| call.name == "KVM_SEV_LAUNCH_UPDATE_DATA").collect();
    let places: Vec<_> = updates.iter().flat_map(|call| guest_of(call)).collect();
    let expected = [(base + 3 * MIB, 8192), (base + 0xdf000, 4096), (base + 4 * MIB - 0x20000, 4096)];
    assert_eq!(places, expected);
    // What the machine writes is in the memory that the kernel encrypts.
    vm.memory().load(0x2000, b"kernel").unwrap();
    let guard = door.lock();
    let mut bytes = [0; 6];
    guard.as_ref().unwrap().memory.slice(0x2000, 6).unwrap().copy_to(&mut bytes[..]);
    assert_eq!(&bytes, b"kernel");
}

#[test]
fn amd_apm_2_14_1_3_the_vcpus_begin_as_the_measured_save_area_says() {
    let door = door(willing());
    let vm = vm(&door, Kind::Default);
    launch(&vm, true, false);
    let calls = calls(&door);
    let of = |name| calls.iter().filter(move |call| call.name == name).map(|call| &call.bytes);
    let registers = of("KVM_SET_REGS").zip(of("KVM_SET_SREGS"));
    let boot = Vmsa::boot(VmsaForm::Legacy, SIGNATURE);
    let application = Vmsa::application(VmsaForm::Legacy, SIGNATURE, AP);
    for ((regs, sregs), vmsa) in registers.zip([&boot, &boot, &application]) {
        let word = |bytes: &[u8], at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
        let number = |name| match vmsa.register(name) {
            Some(Value::Number(number)) => number,
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(word(regs, 3 * 8), number("rdx"));
        assert_eq!(word(regs, 16 * 8), number("rip"));
        assert_eq!(word(regs, 17 * 8), number("rflags"));
        for (at, name) in ["cs", "ds", "es", "fs", "gs", "ss", "tr", "ldtr"].into_iter().enumerate() {
            let bytes = &sregs[at * 24..at * 24 + 24];
            let Some(Value::Segment(segment)) = vmsa.register(name) else { panic!("{name}") };
            let attributes = u16::from(bytes[14])
                | u16::from(bytes[18]) << 4
                | u16::from(bytes[16]) << 5
                | u16::from(bytes[15]) << 7;
            assert_eq!(attributes, segment.attributes, "{name}");
            assert_eq!(word(bytes, 0), segment.base, "{name}");
            assert_eq!(bytes[8..12], segment.limit.to_ne_bytes(), "{name}");
            assert_eq!(bytes[12..14], segment.selector.to_ne_bytes(), "{name}");
        }
        // As the kernel's reset left them.
        assert_eq!(word(sregs, offset_of!(Sregs, cr0)), 0x6000_0010);
        assert_eq!(word(sregs, offset_of!(Sregs, apic_base)), 0xfee0_0900);
    }
    let refused = vm.set_reset_address(1, 0x1000).unwrap_err().to_string();
    assert!(refused.contains("encrypted"), "{refused}");
    assert!(vm.set_reset_address(2, 0x1000).is_err());
}

#[test]
fn capabilities_are_cpuid_s_and_the_firmware_s() {
    let door = door(willing());
    let capabilities = TheVm::capabilities(&*door).unwrap();
    assert_eq!(capabilities.platform, "KVM on AMD EPYC 7763 64-Core Processor");
    assert!(!capabilities.model && !capabilities.ultravisor);
    assert_eq!(capabilities.max_cpus, 1024);
    let expected = SevCapabilities {
        cbitpos: 51,
        reduced_phys_bits: 5,
        es: true,
        max_asid: 509,
        min_sev_asid: 100,
        api_major: 1,
        api_minor: 55,
        build: 25,
    };
    assert_eq!(capabilities.sev, Some(expected));
    // Without either there is no SEV.
    let silent = KvmDoor::open(willing().fails("SEV_PLATFORM_STATUS", Errno::NOT_A_TTY), cpuid()).unwrap();
    assert_eq!(TheVm::capabilities(&silent).unwrap().sev, None);
    let other = KvmDoor::open(willing(), Cpuid::new()).unwrap();
    assert_eq!(TheVm::capabilities(&other).unwrap().sev, None);
}

#[test]
fn a_missing_device_is_told_with_the_way_out() {
    let error = KvmDoor::open(FakeKernel::new(), cpuid()).unwrap_err().to_string();
    assert!(error.starts_with("cannot open /dev/kvm: it does not exist"), "{error}");
    let error = KvmDoor::open(FakeKernel::with_kvm(), cpuid()).unwrap_err().to_string();
    assert!(
        error.starts_with("cannot open /dev/sev: it does not exist") && error.contains("modprobe"),
        "{error}"
    );
    let denied = FakeKernel::with_kvm().device(Device::Sev, Err(OpenFailure::Errno(Errno::ACCESS)));
    let error = KvmDoor::open(denied, cpuid()).unwrap_err().to_string();
    assert!(error.contains("udev"), "{error}");
}

#[test]
fn a_vm_that_this_kernel_cannot_make_is_refused_before_it_is_made() {
    let refused = |fake: FakeKernel, change: &dyn Fn(&mut VmConfig), words: &str| {
        let door = door(fake);
        let mut config = config(Kind::SevEs);
        change(&mut config);
        let error = TheVm::create_x86(Arc::clone(&door) as Arc<dyn Door>, config).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        assert!(!names(&door).contains(&"KVM_SET_USER_MEMORY_REGION"), "{words}");
    };
    let old = || willing().capability(Capability::VM_TYPES, 1);
    refused(old(), &|_| {}, "vm-type SEV-ES not supported by KVM");
    refused(old(), &|config| config.vm_type = Kind::Sev, "vm-type SEV not supported by KVM");
    let no_rom = willing().capability(Capability::READONLY_MEM, 0);
    refused(no_rom, &|_| {}, "pflash with kvm requires KVM readonly memory support");
    refused(willing().capability(Capability::MAX_VCPUS, 1), &|_| {}, "takes 1 (-smp)");
    refused(willing(), &|config| config.memory_bytes = !4095, "(-m)");
    refused(willing(), &|config| config.slots[0].offset = 8 * MIB, "slot 0");
    refused(willing().fails("KVM_CREATE_VM", Errno::BUSY), &|_| {}, "another hypervisor");
    // A slot that the kernel does not take ends it, too.
    let door = door(willing().fails("KVM_SET_USER_MEMORY_REGION", Errno::NO_SPACE));
    let error = TheVm::create_x86(door, config(Kind::Default)).unwrap_err().to_string();
    assert!(error.starts_with("KVM_SET_USER_MEMORY_REGION failed: ENOSPC"), "{error}");
}

#[test]
fn what_can_only_follow_init_fails_in_words() {
    for (name, errno) in [
        ("KVM_MEMORY_ENCRYPT_REG_REGION", Errno::NO_MEMORY),
        ("KVM_CREATE_VCPU", Errno::EXISTS),
        ("KVM_SET_SREGS", Errno::INVALID),
        ("KVM_GET_SREGS", Errno::FAULT),
    ] {
        let door = door(willing().fails(name, errno));
        match vm(&door, Kind::Default).sev_init(true) {
            Err(SevError::Door(VmError::Refused(words))) => assert!(words.starts_with(name), "{words}"),
            other => panic!("{name}: {other:?}"),
        }
    }
    // A kernel that refuses INIT is asked nothing more, and no CPU is made.
    let door = door(willing().fails("KVM_SEV_INIT", Errno::BUSY));
    let refused = vm(&door, Kind::Default).sev_init(false);
    assert!(matches!(refused, Err(SevError::Refused { ret: -16, fw_error: 0 })), "{refused:?}");
    assert_eq!(names(&door).last(), Some(&"KVM_SEV_INIT"));
}

#[test]
fn every_refusal_has_the_kernel_s_number_and_the_firmware_s_status() {
    let page = || vec![0; 4096];
    let guest: Vec<(SevCommand, &str)> = vec![
        (SevCommand::Init { es: false }, "KVM_SEV_INIT"),
        (SevCommand::Init { es: true }, "KVM_SEV_ES_INIT"),
        (SevCommand::Init2 { vmsa_features: 1, flags: 2, ghcb_version: 3 }, "KVM_SEV_INIT2"),
        (
            SevCommand::LaunchStart { policy: 1, handle: 0, dh_cert: page(), session: page() },
            "KVM_SEV_LAUNCH_START",
        ),
        (SevCommand::LaunchUpdateData { guest_physical: 0, len: 4096 }, "KVM_SEV_LAUNCH_UPDATE_DATA"),
        (SevCommand::LaunchUpdateVmsa, "KVM_SEV_LAUNCH_UPDATE_VMSA"),
        (SevCommand::LaunchMeasure { len: 48 }, "KVM_SEV_LAUNCH_MEASURE"),
        (
            SevCommand::LaunchSecret { header: vec![0; 52], guest_physical: 0, payload: page() },
            "KVM_SEV_LAUNCH_SECRET",
        ),
        (SevCommand::LaunchFinish, "KVM_SEV_LAUNCH_FINISH"),
        (SevCommand::GuestStatus, "KVM_SEV_GUEST_STATUS"),
        (SevCommand::AttestationReport { mnonce: [1; 16], len: 0xd0 }, "KVM_SEV_GET_ATTESTATION_REPORT"),
        (SevCommand::DbgDecrypt { guest_physical: 3, len: 5 }, "KVM_SEV_DBG_DECRYPT"),
        (SevCommand::DbgEncrypt { guest_physical: 3, bytes: vec![1; 5] }, "KVM_SEV_DBG_ENCRYPT"),
        (
            SevCommand::SendStart { pdh: page(), platform: page(), amd: page(), session_len: 128 },
            "KVM_SEV_SEND_START",
        ),
        (
            SevCommand::SendUpdateData { guest_physical: 0, len: 4096, header_len: 52, payload_len: 4096 },
            "KVM_SEV_SEND_UPDATE_DATA",
        ),
        (SevCommand::SendFinish, "KVM_SEV_SEND_FINISH"),
        (SevCommand::SendCancel, "KVM_SEV_SEND_CANCEL"),
        (
            SevCommand::ReceiveStart { policy: 1, handle: 0, pdh: page(), session: page() },
            "KVM_SEV_RECEIVE_START",
        ),
        (
            SevCommand::ReceiveUpdateData { header: vec![0; 52], guest_physical: 0, payload: page() },
            "KVM_SEV_RECEIVE_UPDATE_DATA",
        ),
        (SevCommand::ReceiveFinish, "KVM_SEV_RECEIVE_FINISH"),
    ];
    let platform: Vec<(SevPlatformCommand, &str)> = vec![
        (SevPlatformCommand::Status, "SEV_PLATFORM_STATUS"),
        (SevPlatformCommand::PdhCertExport { pdh_len: 2084, chain_len: 6252 }, "SEV_PDH_CERT_EXPORT"),
        (SevPlatformCommand::GetId { len: 64 }, "SEV_GET_ID2"),
        (SevPlatformCommand::PekCsr { len: 2084 }, "SEV_PEK_CSR"),
        (SevPlatformCommand::PekGen, "SEV_PEK_GEN"),
        (SevPlatformCommand::PdhGen, "SEV_PDH_GEN"),
        (SevPlatformCommand::PekCertImport { pek: page(), oca: page() }, "SEV_PEK_CERT_IMPORT"),
        (SevPlatformCommand::FactoryReset, "SEV_FACTORY_RESET"),
    ];
    // The name of the platform's commands is not in the message; of the guest's it is the same as here.
    assert!(guest.iter().all(|(command, name)| command.name() == *name));
    let guest = guest.into_iter().map(|(command, name)| (Request::Sev(command), name, GUEST.1));
    let platform =
        platform.into_iter().map(|(command, name)| (Request::SevPlatform(command), name, PLATFORM.1));
    for (request, name, at) in guest.chain(platform) {
        for (fw_error, seen) in [(7, 7), (0x13, 0x13), (0xff77, 0xff77), (u32::MAX, 0), (0, 0)] {
            let door = door(willing().answers(name, move |payload| status(payload, at, fw_error)));
            let _vm = vm(&door, Kind::Default);
            let expected = SevResult { ret: EIO, fw_error: seen, data: SevData::None };
            assert_eq!(door.call(request.clone()), Response::Sev(expected), "{name}");
            assert_eq!(names(&door).last(), Some(&name), "one ioctl, and no more after a refusal");
        }
        let door = door(willing().fails(name, Errno::INVALID));
        let _vm = vm(&door, Kind::Default);
        let expected = SevResult { ret: EINVAL, ..SevResult::default() };
        assert_eq!(door.call(request), Response::Sev(expected), "{name}");
    }
}

#[test]
fn memory_that_there_is_not_is_no_business_of_the_kernel_s() {
    let door = door(willing());
    let vm = vm(&door, Kind::Default);
    vm.sev_init(false).unwrap();
    let before = names(&door).len();
    let refused = |result: Result<(), SevError>| match result {
        Err(SevError::Refused { ret, fw_error: 0 }) => ret,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(vm.sev_launch_update_data(0, 0)), EINVAL);
    assert_eq!(refused(vm.sev_launch_update_data(3 * MIB - 4096, 8192)), EFAULT);
    assert_eq!(refused(vm.sev_launch_update_data(u64::MAX, 16)), EINVAL);
    assert_eq!(refused(vm.sev_launch_update_data(0, 1 << 32)), EINVAL);
    // A secret across two parts of the store.
    assert_eq!(refused(vm.sev_launch_secret(vec![0; 52], 0xdfff0, vec![0; 32])), EINVAL);
    assert_eq!(refused(vm.sev_dbg_encrypt(1 << 40, vec![0; 32])), EFAULT);
    assert_eq!(names(&door).len(), before);
}

/// The kernel's answer contradicts itself, or the firmware's.
#[test]
fn an_answer_that_cannot_be_is_refused_in_words() {
    let refused = |fake: FakeKernel, request: Request| {
        let door = door(fake);
        let _vm = vm(&door, Kind::Default);
        match door.call(request) {
            Response::Refused(words) => words,
            other => panic!("{other:?}"),
        }
    };
    let start = SevCommand::LaunchStart { policy: 1, handle: 0, dh_cert: Vec::new(), session: Vec::new() };
    let words = refused(willing().returns("KVM_SEV_LAUNCH_START", 0), Request::Sev(start.clone()));
    assert!(words.contains("the handle of no guest"), "{words}");
    let words = refused(willing().returns("KVM_SEV_LAUNCH_START", 1), Request::Sev(start.clone()));
    assert!(words.contains("no meaning"), "{words}");
    for errno in [Errno(0), Errno(-5), Errno(i32::MIN)] {
        let words = refused(willing().fails("KVM_SEV_LAUNCH_START", errno), Request::Sev(start.clone()));
        assert!(words.starts_with("KVM_SEV_LAUNCH_START failed"), "{words}");
    }
    let measure = |len| Request::Sev(SevCommand::LaunchMeasure { len });
    for (answered, asked, said) in [
        (49, 48, "more bytes"),
        (u32::MAX, 48, "more bytes"),
        (0, 48, "nothing"),
        (0x4001, 0, "16 KiB"),
        (0, 0, "nothing"),
    ] {
        let fake = willing().answers("KVM_SEV_LAUNCH_MEASURE", move |payload| {
            change(payload, GUEST.0, |block: &mut SevLaunchMeasure| block.len = answered);
            Ok(0)
        });
        let words = refused(fake, measure(asked));
        assert!(words.contains(said) && words.contains("fault of the kernel"), "{words}");
    }
    let fake = willing().answers("SEV_PDH_CERT_EXPORT", |payload| {
        change(payload, PLATFORM.0, |block: &mut UserDataPdhCertExport| block.cert_chain_len = 6253);
        Ok(0)
    });
    let export = SevPlatformCommand::PdhCertExport { pdh_len: 2084, chain_len: 6252 };
    assert!(refused(fake, Request::SevPlatform(export)).contains("more bytes"));
    // More room than the kernel takes does not reach it.
    let door = door(willing());
    let _vm = vm(&door, Kind::Default);
    let before = names(&door).len();
    let expected = Response::Sev(SevResult { ret: EINVAL, ..SevResult::default() });
    assert_eq!(door.call(measure(u32::MAX)), expected);
    assert_eq!(names(&door).len(), before);
}

#[test]
fn what_is_not_for_x86_guests_is_refused_in_words() {
    let door = door(willing());
    let refused = |request| match door.call(request) {
        Response::Refused(words) => words,
        other => panic!("{other:?}"),
    };
    assert!(refused(Request::Sev(SevCommand::LaunchFinish)).contains("no x86-64 VM"));
    let bell = Request::RegisterDoorbell { subsystem_id: 1, queue: 0, fd: 2 };
    assert!(refused(bell).contains("-accel soft"));
    assert!(refused(Request::Pv(cloister_platform::PvCommand::Enable)).contains("-accel soft"));
    let vm = vm(&door, Kind::Default);
    assert!(refused(Request::CreateX86Vm(Box::new(config(Kind::Default)))).contains("another door"));
    let run = Request::Run { cpu: 0, limit: RunLimit::default(), completion: None };
    assert!(refused(run).contains("no CPU back end can run x86-64 guests"));
    assert!(refused(Request::SetPrivate { address: 0, len: 4096, private: true }).contains("themselves"));
    // The host may touch everything and knows what it has had encrypted.
    assert!((0..vm.memory().backing_size() / 4096).all(|page| vm.memory().is_accessible(page)));
    assert_eq!(door.call(Request::HostAccess { page: 0, count: 1, write: true }), Response::Done);
    vm.sev_init(false).unwrap();
    vm.sev_launch_update_data(0x3000, 0x2000).unwrap();
    vm.sev_launch_update_data(0x5010, 16).unwrap();
    let states = vm.page_states(0..1024).unwrap();
    let expected = [(0, 3, PageState::Shared), (3, 3, PageState::Exported), (6, 1018, PageState::Shared)];
    let states: Vec<_> = states.iter().map(|run| (run.first, run.pages, run.state)).collect();
    assert_eq!(states, expected);
    assert_eq!(vm.page_counts().unwrap().exported, 3);
}

proptest! {
    #[test]
    fn pages_that_were_encrypted_are_counted_once(runs in proptest::collection::vec((0u64..64, 1u64..9), 0..20)) {
        let mut pages = Pages::default();
        let mut model = [false; 80];
        for (first, count) in runs {
            pages.add((first * 4096 + 1, count * 4096 - 1));
            model[first as usize..(first + count) as usize].fill(true);
        }
        prop_assert_eq!(pages.count(), model.iter().filter(|page| **page).count() as u64);
        for (page, encrypted) in (0u64..).zip(model) {
            let (found, until) = pages.at(page);
            prop_assert_eq!(found, encrypted);
            prop_assert!(until > page);
            let end = (until as usize).min(model.len());
            prop_assert!(model[page as usize..end].iter().all(|state| *state == encrypted));
        }
    }

    #[test]
    fn no_answer_of_the_kernel_to_any_command_makes_a_panic(
        bytes: [u8; 128], answer: i32, errno: i32, fails: bool, len in 0u32..0x5000
    ) {
        let names = [
            "KVM_SEV_LAUNCH_MEASURE", "KVM_SEV_GET_ATTESTATION_REPORT", "KVM_SEV_SEND_START",
            "KVM_SEV_SEND_UPDATE_DATA", "KVM_SEV_GUEST_STATUS", "KVM_SEV_LAUNCH_START", "SEV_PDH_CERT_EXPORT",
            "SEV_GET_ID2", "SEV_PEK_CSR", "SEV_PLATFORM_STATUS",
        ];
        let fake = names.into_iter().fold(willing(), |fake, name| {
            fake.answers(name, move |payload| {
                let at = if name.starts_with("KVM") { GUEST } else { PLATFORM };
                payload.bytes_mut()[at.1..at.1 + 4].copy_from_slice(&bytes[..4]);
                for (to, from) in payload.block_mut(at.0).unwrap().bytes_mut().iter_mut().zip(bytes) {
                    *to = from;
                }
                if fails { Err(Errno(errno)) } else { Ok(answer) }
            })
        });
        let door = door(fake);
        let _vm = vm(&door, Kind::Default);
        let no = Vec::new;
        let send = SevCommand::SendUpdateData { guest_physical: 0, len: 16, header_len: len, payload_len: len };
        for command in [
            SevCommand::LaunchMeasure { len },
            SevCommand::AttestationReport { mnonce: [0; 16], len },
            SevCommand::SendStart { pdh: no(), platform: no(), amd: no(), session_len: len },
            send,
            SevCommand::GuestStatus,
            SevCommand::LaunchStart { policy: 0, handle: len, dh_cert: no(), session: no() },
        ] {
            let answer = door.call(Request::Sev(command));
            // A refusal never looks like success.
            prop_assert!(!fails || !matches!(answer, Response::Sev(SevResult { ret: 0.., .. })), "{:?}", answer);
        }
        for command in [
            SevPlatformCommand::Status,
            SevPlatformCommand::PdhCertExport { pdh_len: len, chain_len: len },
            SevPlatformCommand::GetId { len },
            SevPlatformCommand::PekCsr { len },
        ] {
            door.call(Request::SevPlatform(command));
        }
        let _ = TheVm::capabilities(&*door);
    }
}

/// What an answer is made of, without what firmware draws at random.
fn shape(result: &SevResult) -> String {
    let data = match &result.data {
        SevData::None => "nothing".into(),
        SevData::Handle(handle) => format!("a handle, {}", *handle != 0),
        SevData::Bytes(bytes) => format!("{} bytes", bytes.len()),
        SevData::Length(length) => format!("length {length}"),
        SevData::Pair(first, second) => format!("{} and {} bytes", first.len(), second.len()),
        SevData::Lengths(first, second) => format!("lengths {first} and {second}"),
        SevData::Guest(guest) => format!("policy {}, state {}", guest.policy, guest.state),
        SevData::Platform(platform) => {
            format!("{}.{}, flags {:#x}", platform.api_major, platform.api_minor, platform.flags)
        }
    };
    format!("{} {} {data}", result.ret, result.fw_error)
}

/// The same requests through any door.
fn suite(door: Arc<dyn Door>, kind: Kind) -> BTreeMap<String, String> {
    let mut shapes = BTreeMap::new();
    let host = SevHost::new(Arc::clone(&door));
    let mut put = |name: String, shape: String| assert!(shapes.insert(name, shape).is_none());
    for command in [
        SevPlatformCommand::Status,
        SevPlatformCommand::PdhCertExport { pdh_len: 0, chain_len: 0 },
        SevPlatformCommand::PdhCertExport { pdh_len: 2084, chain_len: 6252 },
        SevPlatformCommand::GetId { len: 0 },
        SevPlatformCommand::GetId { len: 64 },
        SevPlatformCommand::PekCsr { len: 0 },
        SevPlatformCommand::PekCsr { len: 2084 },
    ] {
        put(format!("{command:?}"), shape(&host.command(command).unwrap()));
    }
    let vm = TheVm::create_x86(door, config(kind)).unwrap();
    let init = match kind {
        Kind::Default => SevCommand::Init { es: true },
        Kind::Sev | Kind::SevEs => SevCommand::Init2 { vmsa_features: 0, flags: 0, ghcb_version: 0 },
    };
    for command in [
        init,
        SevCommand::LaunchStart { policy: 5, handle: 0, dh_cert: vec![], session: vec![] },
        SevCommand::LaunchUpdateData { guest_physical: 0x1000, len: 4096 },
        SevCommand::LaunchUpdateData { guest_physical: 0xdf000, len: 8192 },
        SevCommand::LaunchUpdateData { guest_physical: 1 << 40, len: 4096 },
        SevCommand::LaunchUpdateData { guest_physical: 0, len: 0 },
        SevCommand::LaunchUpdateVmsa,
        SevCommand::LaunchMeasure { len: 0 },
        SevCommand::LaunchMeasure { len: 0x4001 },
        SevCommand::LaunchMeasure { len: 48 },
        SevCommand::GuestStatus,
        SevCommand::AttestationReport { mnonce: [3; 16], len: 0 },
        SevCommand::AttestationReport { mnonce: [3; 16], len: 0xd0 },
        SevCommand::LaunchSecret { header: vec![0; 52], guest_physical: 0xdfff0, payload: vec![0; 32] },
        SevCommand::LaunchFinish,
    ] {
        put(format!("{command:?}"), shape(&vm.sev(command).unwrap()));
    }
    let run = vm.run(0, RunLimit::default(), None).unwrap_err().to_string();
    put("run".into(), run);
    let late = vm.set_reset_address(1, AP).unwrap_err().to_string();
    put("late".into(), late);
    let states = vm.page_states(0..1).unwrap();
    put("encrypted".into(), format!("{:?}", vm.page_states(1..2).unwrap()));
    put("states".into(), format!("{}", states.len()));
    shapes
}

#[test]
fn kvm_and_the_software_platform_answer_a_launch_in_the_same_shape() {
    for kind in [Kind::Default, Kind::SevEs] {
        let platform = SevPlatform::ephemeral(Sev::default(), &mut SeededEntropy::new(b"shape"));
        let silicon = cloister_silicon_x86::Silicon::new(platform);
        let soft = suite(Arc::new(HostKernel::new(Arc::new(silicon))), kind);
        let hard = suite(door(willing()), kind);
        assert_eq!(soft, hard);
        // The same with every message turned into bytes.
        assert_eq!(suite(Arc::new(Loopback::new(door(willing()))), kind), hard);
    }
}
