//! Launches through both doors with their loopbacks: machine, host kernel, silicon, firmware.
#![expect(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use cloister_arch::x86_64::{Slot, VmConfig, VmType};
use cloister_crypto::{Entropy, SeededEntropy};
use cloister_firmware_api as lower;
use cloister_formats::sev::status::Status;
use cloister_host_kernel::HostKernel;
use cloister_platform::{
    Door, Loopback, PageState, SevCommand, SevData, SevError, SevHost, SevPlatformCommand, SevResult, Vm,
};
use cloister_platform_store::{Sev, SevCreateOptions, SevPlatform, create_sev};
use cloister_silicon_x86::Silicon;
use std::path::Path;
use std::sync::Arc;
use vm_memory::{Bytes, GuestAddress};

const MIB: u64 = 1 << 20;
const EIO: i32 = -5;

/// RAM below 4 GiB, RAM above, 1 MiB of flash and its alias of 128 KiB.
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
        cpu_signature: 0x00a0_0f11,
    }
}

fn doors(silicon: Arc<Silicon>) -> Arc<dyn Door> {
    let lower = Arc::new(lower::Loopback::new(silicon));
    Arc::new(Loopback::new(Arc::new(HostKernel::new(lower))))
}

fn ephemeral(seed: &[u8], sev: Sev) -> Arc<Silicon> {
    let platform = SevPlatform::ephemeral(sev, &mut SeededEntropy::new(seed));
    Arc::new(Silicon::with_entropy(platform, Box::new(SeededEntropy::new(seed))))
}

fn vm(silicon: &Arc<Silicon>, vm_type: VmType) -> Vm {
    Vm::create_x86(doors(Arc::clone(silicon)), config(vm_type)).unwrap()
}

fn peek(vm: &Vm, address: u64) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    vm.memory().peek(address, &mut bytes).unwrap();
    bytes
}

/// Gives 40 41 .. 4f whenever 16 bytes are drawn, so that the measurement's nonce is known.
struct KnownNonce(SeededEntropy);

impl Entropy for KnownNonce {
    fn fill(&mut self, out: &mut [u8]) {
        match out.len() {
            16 => out.iter_mut().zip(0x40..).for_each(|(byte, number)| *byte = number),
            _ => self.0.fill(out),
        }
    }
}

/// Secure Encrypted Virtualization API (55766), LAUNCH_START and LAUNCH_MEASURE: without a certificate TIK is zero.
#[test]
fn a_launch_without_an_owner_gives_the_published_measurement() {
    let platform = SevPlatform::ephemeral(Sev::default(), &mut SeededEntropy::new(b"vector"));
    let entropy = Box::new(KnownNonce(SeededEntropy::new(b"vector")));
    let silicon = Arc::new(Silicon::with_entropy(platform, entropy));
    let vm = vm(&silicon, VmType::Default);
    vm.sev_init(false).unwrap();
    vm.sev_launch_start(1, 0, vec![], vec![]).unwrap();
    vm.sev_launch_update_data(0, 4096).unwrap();
    let measurement = vm.sev_launch_measure().unwrap();
    assert_eq!(
        hex::encode(&measurement),
        "c502cb4575a4c042fb72be53d3e7080c55ab93cf791b9bb361e1736c8d2589ad404142434445464748494a4b4c4d4e4f"
    );
}

#[test]
fn the_host_sees_ciphertext_at_every_address_and_its_alias() {
    let silicon = ephemeral(b"ciphertext", Sev::default());
    let vm = vm(&silicon, VmType::Default);
    let page = [0x5a; 4096];
    let flash = (1 << 32) - 8192;
    vm.memory().load(flash, &page).unwrap();
    vm.memory().load(flash + 4096, &page).unwrap();
    vm.memory().load(0x3000, &page).unwrap();
    vm.sev_init(true).unwrap();
    vm.sev_launch_start(5, 0, vec![], vec![]).unwrap();
    vm.sev_launch_update_data(flash, 8192).unwrap();
    vm.sev_launch_update_data(0x3000, 4096).unwrap();
    vm.sev_launch_update_vmsa().unwrap();
    let (first, second, ram) = (peek(&vm, flash), peek(&vm, flash + 4096), peek(&vm, 0x3000));
    let mut blocks: Vec<&[u8]> = [&first, &second, &ram].iter().flat_map(|page| page.chunks(16)).collect();
    blocks.sort_unstable();
    blocks.dedup();
    assert_eq!(blocks.len(), 3 * 256, "equal plaintext at two addresses differs");
    assert!(!blocks.contains(&&page[..16]));
    // Through the alias and through the devices' view it is the same.
    assert_eq!(peek(&vm, MIB - 8192), first);
    let mut read = vec![0; 4096];
    vm.memory().read_slice(&mut read, GuestAddress(flash + 4096)).unwrap();
    assert_eq!(read, second);
    // A host that writes garbles one block, as on hardware; the policy lets it look.
    vm.sev_launch_measure().unwrap();
    let status = vm.sev_guest_status().unwrap();
    assert_eq!((status.state, status.policy), (2, 5));
    match vm.sev_dbg_decrypt(0x3000, 16) {
        Err(SevError::Refused { ret: EIO, fw_error }) => assert_eq!(fw_error, Status::POLICY_FAILURE.0),
        other => panic!("{other:?}"),
    }
    let states: Vec<_> = vm
        .page_states(0..u64::MAX)
        .unwrap()
        .into_iter()
        .map(|run| (run.first, run.pages, run.state))
        .collect();
    let (untouched, exported) = (PageState::Untouched, PageState::Exported);
    assert_eq!(states, [(0, 3, untouched), (3, 1, exported), (4, 1018, untouched), (1022, 2, exported)]);
    let counts = vm.page_counts().unwrap();
    assert_eq!((counts.exported, counts.untouched, counts.private), (3, 1021, 0));
}

#[test]
fn a_debugger_may_read_and_write_if_the_policy_says_so() {
    let silicon = ephemeral(b"debug", Sev::default());
    let vm = vm(&silicon, VmType::Sev);
    vm.memory().load(0x1000, b"the quick brown fox jumps over the lazy dog!....").unwrap();
    vm.sev_init2(0, 0).unwrap();
    vm.sev_launch_start(0, 0, vec![], vec![]).unwrap();
    vm.sev_launch_update_data(0x1000, 48).unwrap();
    assert_eq!(vm.sev_dbg_decrypt(0x1004, 11).unwrap(), b"quick brown");
    vm.sev_dbg_encrypt(0x1004, b"quiet green".to_vec()).unwrap();
    assert_eq!(vm.sev_dbg_decrypt(0x1000, 43).unwrap(), b"the quiet green fox jumps over the lazy dog");
    // Ciphertext that the host moves is garbage at its new place.
    let mut block = [0; 16];
    vm.memory().read_slice(&mut block, GuestAddress(0x1000)).unwrap();
    vm.memory().write_slice(&block, GuestAddress(0x1010)).unwrap();
    assert_ne!(vm.sev_dbg_decrypt(0x1010, 16).unwrap(), b"the quiet green ");
    assert_eq!(vm.sev_dbg_decrypt(0x1000, 16).unwrap(), b"the quiet green ");
}

#[test]
fn a_platform_keeps_its_keys_over_restarts_until_it_is_reset() {
    let base = tempfile::tempdir().unwrap();
    let folder = base.path().join("epyc");
    let options = SevCreateOptions { small_roots: true, ..SevCreateOptions::default() };
    create_sev(&folder, &options, &mut SeededEntropy::new(b"folder")).unwrap();
    let host =
        |folder: &Path| SevHost::new(doors(Arc::new(Silicon::new(SevPlatform::open(folder).unwrap()))));
    let first = host(&folder);
    let (pdh, chain) = first.pdh_cert_export().unwrap();
    let id = first.id().unwrap();
    drop(first);
    let second = host(&folder);
    assert_eq!(second.pdh_cert_export().unwrap(), (pdh.clone(), chain.clone()));
    assert_eq!(second.id().unwrap(), id);
    second.pdh_gen().unwrap();
    let (new_pdh, same_chain) = second.pdh_cert_export().unwrap();
    assert!(new_pdh != pdh && same_chain == chain);
    drop(second);
    assert_eq!(host(&folder).pdh_cert_export().unwrap().0, new_pdh);
    let third = host(&folder);
    third.factory_reset().unwrap();
    let (_, reset_chain) = third.pdh_cert_export().unwrap();
    // PEK and OCA are new, the CEK is the chip's.
    assert_ne!(reset_chain[..2084], chain[..2084]);
    assert_eq!(reset_chain[2 * 2084..], chain[2 * 2084..]);
    assert_eq!(third.id().unwrap(), id);
    drop(third);

    // A flash that was tampered with is refused until its keeper resets the platform.
    let flash = folder.join("sev-flash.bin");
    let mut bytes = std::fs::read(&flash).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&flash, &bytes).unwrap();
    let fourth = host(&folder);
    assert_eq!(fourth.status().unwrap().state, 0);
    match fourth.pdh_cert_export() {
        Err(SevError::Refused { ret: EIO, fw_error }) => assert_eq!(fw_error, Status::SECURE_DATA_INVALID.0),
        other => panic!("{other:?}"),
    }
    fourth.factory_reset().unwrap();
    assert_ne!(fourth.pdh_cert_export().unwrap().1[..2084], reset_chain[..2084]);
}

#[test]
fn machines_of_one_platform_have_the_same_pdh_and_change_it_only_alone() {
    let base = tempfile::tempdir().unwrap();
    let folder = base.path().join("epyc");
    let options = SevCreateOptions { small_roots: true, ..SevCreateOptions::default() };
    create_sev(&folder, &options, &mut SeededEntropy::new(b"shared")).unwrap();
    let host = || SevHost::new(doors(Arc::new(Silicon::new(SevPlatform::open(&folder).unwrap()))));
    let (first, second) = (host(), host());
    let flash = || {
        let file = std::fs::metadata(folder.join("sev-flash.bin")).unwrap();
        (file.modified().unwrap(), std::os::unix::fs::MetadataExt::ino(&file))
    };
    let written = flash();
    let pdh = first.pdh_cert_export().unwrap();
    assert_eq!(second.pdh_cert_export().unwrap(), pdh);
    assert_eq!(flash(), written, "a start that finds its keys writes nothing");
    for refused in [first.pek_gen(), second.pdh_gen()] {
        match refused {
            Err(SevError::Refused { ret: EIO, fw_error }) => {
                assert_eq!(fw_error, Status::INVALID_PLATFORM_STATE.0)
            }
            other => panic!("{other:?}"),
        }
    }
    match first.factory_reset() {
        Err(SevError::Refused { ret: -16, fw_error: 0 }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!((first.pdh_cert_export().unwrap(), flash()), (pdh.clone(), written));
    drop(second);
    first.pdh_gen().unwrap();
    assert_ne!(host().pdh_cert_export().unwrap().0, pdh.0);
}

#[test]
fn new_keys_that_cannot_be_kept_are_an_error() {
    let base = tempfile::tempdir().unwrap();
    let folder = base.path().join("epyc");
    let options = SevCreateOptions { small_roots: true, ..SevCreateOptions::default() };
    create_sev(&folder, &options, &mut SeededEntropy::new(b"full")).unwrap();
    let host = SevHost::new(doors(Arc::new(Silicon::new(SevPlatform::open(&folder).unwrap()))));
    host.status().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    match host.pdh_gen() {
        Err(SevError::Refused { ret: EIO, fw_error }) => assert_eq!(fw_error, Status::HWERROR_PLATFORM.0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn faults_are_injected_where_the_user_says() {
    let silicon = ephemeral(b"faults", Sev::default());
    silicon.inject(0x30, 2, Status::RESOURCE_LIMIT.0);
    let vm = vm(&silicon, VmType::Default);
    vm.sev_init(false).unwrap();
    vm.sev_launch_start(1, 0, vec![], vec![]).unwrap();
    let again = SevCommand::LaunchStart { policy: 1, handle: 0, dh_cert: vec![], session: vec![] };
    let refusal = |fw_error: Status| SevResult { ret: EIO, fw_error: fw_error.0, data: SevData::None };
    assert_eq!(vm.sev(again.clone()).unwrap(), refusal(Status::RESOURCE_LIMIT));
    // A second guest finds the VM's ASID taken and is given up.
    assert_eq!(vm.sev(again).unwrap(), refusal(Status::ASID_OWNED));
    assert_eq!(vm.sev_host().status().unwrap().guest_count, 1);
}

#[test]
fn platforms_with_less_say_so() {
    let without = ephemeral(b"none", Sev { present: false, ..Sev::default() });
    let vm = vm(&without, VmType::Default);
    assert_eq!(vm.platform().unwrap().sev, None);
    assert_eq!(vm.sev(SevCommand::Init { es: false }).unwrap().ret, -25);
    assert_eq!(vm.sev_host().command(SevPlatformCommand::Status).unwrap().ret, -19);
    // The guest's memory is there all the same.
    vm.memory().write_obj(7u32, GuestAddress(0x1000)).unwrap();

    let sev =
        Sev { es: false, api_major: 0, api_minor: 17, build: 6, min_sev_asid: 1, asids: 3, ..Sev::default() };
    let naples = ephemeral(b"naples", sev);
    let vm = self::vm(&naples, VmType::Default);
    let capabilities = vm.sev_host().capabilities().unwrap().unwrap();
    assert_eq!(
        (capabilities.api_major, capabilities.api_minor, capabilities.build, capabilities.es),
        (0, 17, 6, false)
    );
    assert_eq!(vm.sev(SevCommand::Init { es: true }).unwrap().ret, -25);
    vm.sev_init(false).unwrap();
    vm.sev_launch_start(1, 0, vec![], vec![]).unwrap();
    vm.sev_launch_update_data(0, 64).unwrap();
    assert_eq!(vm.sev_host().status().unwrap().flags & 0x100, 0);
}

/// A whole launch with SEV-ES, and everything it takes from the firmware given back at the end.
#[test]
fn when_a_vm_is_gone_the_firmware_knows_no_guest() {
    let silicon = ephemeral(b"end", Sev::default());
    let vm = vm(&silicon, VmType::SevEs);
    vm.sev_init2(0, 0).unwrap();
    vm.sev_launch_start(5, 0, vec![], vec![]).unwrap();
    vm.sev_launch_update_data((1 << 32) - MIB, MIB).unwrap();
    vm.sev_launch_update_vmsa().unwrap();
    vm.sev_launch_measure().unwrap();
    assert_eq!(vm.sev_attestation_report([7; 16]).unwrap()[..16], [7; 16]);
    vm.sev_launch_finish().unwrap();
    assert_eq!(vm.sev_guest_status().unwrap().state, 3);
    drop(vm);
    let answer = lower::Door::call(
        silicon.as_ref(),
        lower::Request::Asp { command: 4, buffer: vec![0; 12], host_pages: vec![] },
    );
    let lower::Response::Asp { status: 0, buffer, .. } = answer else { panic!("{answer:?}") };
    assert_eq!((buffer[2], buffer[8]), (0, 0), "shut down, no guests");
}

/// A guest goes from one platform to another, page by page, and arrives with its content.
#[test]
fn a_guest_is_sent_and_received() {
    let (from, to) = (ephemeral(b"from", Sev::default()), ephemeral(b"to", Sev::default()));
    let (source, target) = (vm(&from, VmType::Default), vm(&to, VmType::Default));
    let page: Vec<u8> = (0..4096u32).map(|number| (number / 7) as u8).collect();
    source.memory().load(0x5000, &page).unwrap();
    source.sev_init(false).unwrap();
    source.sev_launch_start(0, 0, vec![], vec![]).unwrap();
    source.sev_launch_update_data(0x5000, 4096).unwrap();
    source.sev_launch_measure().unwrap();
    source.sev_launch_finish().unwrap();

    let (receiver_pdh, receiver_chain) = target.sev_host().pdh_cert_export().unwrap();
    let (sender_pdh, _) = source.sev_host().pdh_cert_export().unwrap();
    let start = |session_len| SevCommand::SendStart {
        pdh: receiver_pdh.clone(),
        platform: receiver_chain.clone(),
        // This policy asks for no root; KVM wants the bytes all the same.
        amd: vec![0; 832 * 2],
        session_len,
    };
    let asked = source.sev(start(0)).unwrap();
    assert_eq!(
        (asked.ret, asked.fw_error, asked.data),
        (EIO, Status::INVALID_LENGTH.0, SevData::Length(128))
    );
    let SevData::Bytes(session) = source.sev(start(128)).unwrap().ok().unwrap() else { panic!("no session") };
    let update = |header_len, payload_len| SevCommand::SendUpdateData {
        guest_physical: 0x5000,
        len: 4096,
        header_len,
        payload_len,
    };
    let asked = source.sev(update(0, 0)).unwrap();
    assert_eq!((asked.ret, asked.fw_error), (EIO, Status::INVALID_LENGTH.0));
    assert!(matches!(asked.data, SevData::Lengths(52, _)));
    let SevData::Pair(header, payload) = source.sev(update(52, 4096)).unwrap().ok().unwrap() else {
        panic!("no packet")
    };
    assert_ne!(payload, page);
    source.sev(SevCommand::SendFinish).unwrap().ok().unwrap();

    target.sev_init(false).unwrap();
    let start = SevCommand::ReceiveStart { policy: 0, handle: 0, pdh: sender_pdh, session };
    assert!(matches!(target.sev(start).unwrap().ok().unwrap(), SevData::Handle(_)));
    // A host that changes the packet on its way is found out.
    let mut changed = payload.clone();
    changed[100] ^= 1;
    let receive =
        |payload| SevCommand::ReceiveUpdateData { header: header.clone(), guest_physical: 0x7000, payload };
    let refusal = target.sev(receive(changed)).unwrap();
    assert_eq!((refusal.ret, refusal.fw_error), (EIO, Status::BAD_MEASUREMENT.0));
    target.sev(receive(payload)).unwrap().ok().unwrap();
    target.sev(SevCommand::ReceiveFinish).unwrap().ok().unwrap();
    assert_eq!(target.sev_guest_status().unwrap().state, 3);
    assert_eq!(target.sev_dbg_decrypt(0x7000, 4096).unwrap(), page);
    assert_ne!(peek(&target, 0x7000), page);
}
