use super::*;
use crate::{Call, CallLink, Device, Errno, FakeKernel, FirmwareStatus, Kernel, Kvm, VmType};
use proptest::prelude::*;
use std::sync::Arc;
use vm_memory::VolatileSlice;
use zerocopy::{FromBytes, IntoBytes};

const DATA: usize = 8;
const ERROR: std::ops::Range<usize> = 16..20;

fn sev(fake: FakeKernel) -> (Arc<FakeKernel>, SevVm) {
    let fake = Arc::new(fake.device(Device::Sev, Ok(())));
    let kernel = Arc::clone(&fake) as Arc<dyn Kernel>;
    let vm = Kvm::open(Arc::clone(&kernel)).unwrap().create_vm(VmType::DEFAULT).unwrap();
    let device = SevDevice::open(kernel).unwrap();
    (fake, vm.sev(&device))
}

fn refuses(status: u32) -> impl FnMut(&mut Payload<'_>) -> Result<i32, Errno> + Send {
    move |payload| {
        payload.bytes_mut()[ERROR].copy_from_slice(&status.to_ne_bytes());
        Err(Errno::INPUT_OUTPUT)
    }
}

fn data(call: &Call) -> (&[u8], &[(usize, CallLink)]) {
    match call.links.iter().find(|(at, _)| *at == DATA) {
        Some((_, CallLink::Block(bytes, links))) => (bytes, links),
        other => panic!("{other:?}"),
    }
}

#[test]
fn kvm_sev_every_command_carries_its_number_and_the_device() {
    let names = [
        "KVM_SEV_INIT",
        "KVM_SEV_ES_INIT",
        "KVM_SEV_LAUNCH_UPDATE_DATA",
        "KVM_SEV_LAUNCH_UPDATE_VMSA",
        "KVM_SEV_LAUNCH_SECRET",
        "KVM_SEV_LAUNCH_FINISH",
        "KVM_SEV_SEND_UPDATE_VMSA",
        "KVM_SEV_SEND_FINISH",
        "KVM_SEV_RECEIVE_START",
        "KVM_SEV_RECEIVE_UPDATE_DATA",
        "KVM_SEV_RECEIVE_UPDATE_VMSA",
        "KVM_SEV_RECEIVE_FINISH",
        "KVM_SEV_GUEST_STATUS",
        "KVM_SEV_DBG_DECRYPT",
        "KVM_SEV_DBG_ENCRYPT",
        "KVM_SEV_CERT_EXPORT",
        "KVM_SEV_SEND_CANCEL",
        "KVM_SEV_INIT2",
        "KVM_SEV_LAUNCH_START",
    ];
    let fake = names.into_iter().fold(FakeKernel::with_kvm(), |fake, name| fake.returns(name, 0));
    let (fake, vm) = sev(fake);
    let mut memory = vec![0u8; 4096];
    let slice = VolatileSlice::from(&mut memory[..]);
    let range = GuestRange::of(&slice);
    let packet = Packet { header: vec![1; 52], data: vec![2; 4096] };
    vm.init().unwrap();
    vm.es_init().unwrap();
    vm.init2(Init2 { ghcb_version: 2, ..Init2::default() }).unwrap();
    vm.launch_start(LaunchStart { policy: 1, ..LaunchStart::default() }).unwrap();
    vm.launch_update_data(range).unwrap();
    vm.launch_update_vmsa().unwrap();
    vm.launch_secret(&packet, range).unwrap();
    vm.launch_finish().unwrap();
    vm.send_update_vmsa().unwrap();
    vm.send_finish().unwrap();
    vm.send_cancel().unwrap();
    vm.receive_start(ReceiveStart { pdh: &[1; 2084], session: &[2; 128], ..ReceiveStart::default() })
        .unwrap();
    vm.receive_update_data(&packet, range).unwrap();
    vm.receive_update_vmsa().unwrap();
    vm.receive_finish().unwrap();
    assert_eq!(vm.guest_status().unwrap().state.name(), "UNINIT");
    assert_eq!(vm.dbg_decrypt(range).unwrap().len(), 4096);
    vm.dbg_encrypt(&[5; 16], range).unwrap();
    vm.cert_export().unwrap();
    let calls: Vec<_> = fake.calls().into_iter().filter(|call| call.name.starts_with("KVM_SEV_")).collect();
    let numbers: Vec<_> = calls.iter().map(|call| call.bytes[0]).collect();
    assert_eq!(numbers, [0, 1, 22, 2, 3, 4, 5, 7, 10, 11, 21, 12, 13, 14, 15, 16, 17, 18, 19]);
    for call in &calls {
        // The VM is the fake's second file, /dev/sev its third.
        assert_eq!(call.on, 2, "{}", call.name);
        assert!(call.links.contains(&(20, CallLink::Handle(3))), "{}", call.name);
    }
    let secret = calls.iter().find(|call| call.name == "KVM_SEV_LAUNCH_SECRET").unwrap();
    let (bytes, links) = data(secret);
    let block = SevLaunchSecret::read_from_bytes(bytes).unwrap();
    assert_eq!((block.hdr_len, block.guest_len, block.trans_len), (52, 4096, 4096));
    assert_eq!(links[1], (16, CallLink::Guest { address: range.address(), length: 4096 }));
}

#[test]
fn sev_api_launch_start_without_owner_has_null_pointers_and_gives_the_handle() {
    let fake = FakeKernel::with_kvm().answers("KVM_SEV_LAUNCH_START", |payload| {
        payload.block_mut(DATA).unwrap().bytes_mut()[..4].copy_from_slice(&77u32.to_ne_bytes());
        Ok(0)
    });
    let (fake, vm) = sev(fake);
    assert_eq!(vm.launch_start(LaunchStart { policy: 5, ..LaunchStart::default() }).unwrap(), 77);
    let calls = fake.calls();
    let (bytes, links) = data(calls.last().unwrap());
    assert!(links.is_empty() && bytes[8..].iter().all(|byte| *byte == 0));
}

#[test]
fn sev_api_launch_measure_asks_for_the_length_first() {
    let fake = FakeKernel::with_kvm().answers("KVM_SEV_LAUNCH_MEASURE", |payload| {
        let data = payload.block_mut(DATA).unwrap();
        let mut block = SevLaunchMeasure::read_from_bytes(data.bytes()).unwrap();
        let short = block.len < 48;
        block.len = 48;
        data.bytes_mut().copy_from_slice(block.as_bytes());
        if short {
            return refuses(4)(payload);
        }
        data.block_mut(0).unwrap().bytes_mut().fill(3);
        Ok(0)
    });
    let (_, vm) = sev(fake);
    assert_eq!(vm.launch_measure().unwrap(), vec![3; 48]);
}

#[test]
fn sev_api_send_update_data_asks_for_both_lengths() {
    let fake = FakeKernel::with_kvm().answers("KVM_SEV_SEND_UPDATE_DATA", |payload| {
        let data = payload.block_mut(DATA).unwrap();
        let mut block = SevSendUpdateData::read_from_bytes(data.bytes()).unwrap();
        let short = block.hdr_len == 0 || block.trans_len == 0;
        (block.hdr_len, block.trans_len) = (52, block.guest_len);
        data.bytes_mut().copy_from_slice(block.as_bytes());
        if short { refuses(4)(payload) } else { Ok(0) }
    });
    let (_, vm) = sev(fake);
    let mut memory = vec![0u8; 256];
    let packet = vm.send_update_data(GuestRange::of(&VolatileSlice::from(&mut memory[..]))).unwrap();
    assert_eq!((packet.header.len(), packet.data.len()), (52, 256));
}

#[test]
fn sev_api_send_start_and_attestation_ask_for_the_length_first() {
    let fake = FakeKernel::with_kvm()
        .answers("KVM_SEV_SEND_START", |payload| {
            let data = payload.block_mut(DATA).unwrap();
            let mut block = SevSendStart::read_from_bytes(data.bytes()).unwrap();
            let short = block.session_len == 0;
            block.session_len = 128;
            data.bytes_mut().copy_from_slice(block.as_bytes());
            if short { refuses(4)(payload) } else { Ok(0) }
        })
        .answers("KVM_SEV_GET_ATTESTATION_REPORT", |payload| {
            let data = payload.block_mut(DATA).unwrap();
            let mut block = SevAttestationReport::read_from_bytes(data.bytes()).unwrap();
            assert_eq!(block.mnonce, [8; 16]);
            let short = block.len == 0;
            block.len = 0xd0;
            data.bytes_mut().copy_from_slice(block.as_bytes());
            if short { refuses(4)(payload) } else { Ok(0) }
        });
    let (_, vm) = sev(fake);
    let start = SendStart { policy: 0, pdh: &[1; 2084], platform: &[2; 6252], amd: &[3; 1600] };
    assert_eq!(vm.send_start(start).unwrap().len(), 128);
    assert_eq!(vm.attestation_report([8; 16]).unwrap().0.len(), 0xd0);
}

#[test]
fn dbg_encrypt_does_not_write_beyond_its_range() {
    let (fake, vm) = sev(FakeKernel::with_kvm().returns("KVM_SEV_DBG_ENCRYPT", 0));
    let mut memory = [0u8; 16];
    let slice = VolatileSlice::from(&mut memory[..]);
    assert!(matches!(vm.dbg_encrypt(&[0; 17], GuestRange::of(&slice)), Err(Error::TooLong { .. })));
    assert!(!fake.calls().iter().any(|call| call.name == "KVM_SEV_DBG_ENCRYPT"));
}

proptest! {
    #[test]
    fn every_status_reaches_the_user_with_the_command_and_words(status: u32) {
        let (_, vm) = sev(FakeKernel::with_kvm().answers("KVM_SEV_LAUNCH_FINISH", refuses(status)));
        let error = vm.launch_finish().unwrap_err();
        let expected = FirmwareStatus(status);
        let carried = matches!(error, Error::Sev { status, .. } if status == expected);
        prop_assert!(carried);
        let text = error.to_string();
        prop_assert!(text.starts_with("KVM_SEV_LAUNCH_FINISH failed: EIO, "));
        prop_assert!(text.split(": ").nth(2).is_some_and(|words| words.len() > 10), "{}", text);
    }

    #[test]
    fn no_answer_of_the_kernel_makes_a_panic(answers in proptest::collection::vec(any::<[u8; 16]>(), 2)) {
        let mut answers = answers.into_iter();
        let fake = FakeKernel::with_kvm().answers("KVM_SEV_LAUNCH_MEASURE", move |payload| {
            let data = payload.block_mut(DATA).unwrap();
            data.bytes_mut().copy_from_slice(&answers.next().unwrap());
            Ok(0)
        });
        let (_, vm) = sev(fake);
        let _ = vm.launch_measure();
    }
}
