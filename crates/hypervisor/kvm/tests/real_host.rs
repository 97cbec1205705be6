//! The error paths of a host without devices or rights, on the kernel that runs this test.

#![expect(clippy::unwrap_used, reason = "a failure of a helper is a failure of the test")]

use cloister_kvm::{Device, Errno, Error, Kernel, Kvm, OpenFailure, RealKernel, SevDevice};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

fn kernel(root: &Path) -> Arc<dyn Kernel> {
    fs::create_dir_all(root.join("dev")).unwrap();
    Arc::new(RealKernel::with_root(root))
}

fn failure(error: &Error) -> OpenFailure {
    match error {
        Error::Open(error) => error.failure,
        other => panic!("{other}"),
    }
}

#[test]
fn an_absent_device_is_told_with_the_module_to_load() {
    let root = tempfile::tempdir().unwrap();
    let error = Kvm::open(kernel(root.path())).unwrap_err();
    assert_eq!(failure(&error), OpenFailure::Errno(Errno::NO_ENTRY));
    assert!(error.to_string().contains("modprobe kvm_intel"), "{error}");
    let error = SevDevice::open(kernel(root.path())).unwrap_err();
    assert_eq!(failure(&error), OpenFailure::Errno(Errno::NO_ENTRY));
    assert!(error.to_string().contains("modprobe ccp"), "{error}");
}

#[test]
fn a_file_a_folder_or_another_device_is_not_taken_for_kvm() {
    let root = tempfile::tempdir().unwrap();
    let kernel = kernel(root.path());
    let path = root.path().join("dev/kvm");
    let refused = || {
        let error = Kvm::open(Arc::clone(&kernel)).unwrap_err();
        assert_eq!(failure(&error), OpenFailure::NotADevice, "{error}");
        assert!(error.to_string().contains("mknod /dev/kvm c 10 232"), "{error}");
    };
    fs::write(&path, "").unwrap();
    refused();
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    refused();
    fs::remove_dir(&path).unwrap();
    symlink("/dev/null", &path).unwrap();
    refused();
}

#[test]
fn a_device_that_is_not_the_secure_processor_does_not_know_the_command() {
    let root = tempfile::tempdir().unwrap();
    let kernel = kernel(root.path());
    symlink("/dev/null", root.path().join("dev/sev")).unwrap();
    let error = SevDevice::open(kernel).unwrap().platform_status().unwrap_err();
    assert!(matches!(error, Error::Sev { errno: Errno::NOT_A_TTY, .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.starts_with("SEV_PLATFORM_STATUS failed: ENOTTY, the firmware was not asked: there is no"),
        "{text}"
    );
}

#[test]
fn a_user_without_rights_is_told_of_the_group() {
    let root = tempfile::tempdir().unwrap();
    let kernel = kernel(root.path());
    let path = root.path().join("dev/kvm");
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // Root may open anything; a thread of it can stop being root without the others.
    let error = std::thread::spawn(move || {
        if rustix::process::geteuid().is_root() {
            let nobody = rustix::process::Uid::from_raw(65534);
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        }
        Kvm::open(kernel).unwrap_err()
    });
    let error = error.join().unwrap();
    assert_eq!(failure(&error), OpenFailure::Errno(Errno::ACCESS));
    assert!(error.to_string().contains("usermod -aG kvm"), "{error}");
}

#[test]
fn no_link_and_no_fifo_makes_opening_wait() {
    let root = tempfile::tempdir().unwrap();
    let kernel = kernel(root.path());
    let path = root.path().join("dev/kvm");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    assert_eq!(kernel.open(Device::Kvm).unwrap_err(), OpenFailure::NotADevice);
}

#[test]
fn a_kvm_without_sev_refuses_in_words() {
    let kernel: Arc<dyn Kernel> = Arc::new(RealKernel::new());
    let Ok(kvm) = Kvm::open(Arc::clone(&kernel)) else {
        println!("not checked: this host has no usable /dev/kvm");
        return;
    };
    let vm = match kvm.create_vm(cloister_kvm::VmType::DEFAULT) {
        Ok(vm) => vm,
        Err(error) => {
            println!("not checked: no VM can be made here: {error}");
            return;
        }
    };
    if vm.can_be_encrypted() {
        println!("not checked: this host has SEV");
        return;
    }
    // Any character device stands for /dev/sev: KVM looks at the VM first.
    let root = tempfile::tempdir().unwrap();
    let stand_in = self::kernel(root.path());
    symlink("/dev/null", root.path().join("dev/sev")).unwrap();
    let error = vm.sev(&SevDevice::open(stand_in).unwrap()).init().unwrap_err();
    assert!(matches!(error, Error::Sev { command: "KVM_SEV_INIT", .. }), "{error}");
    println!("{error}");
    let error = vm.protected().enable();
    println!("{error:?}");
    if cfg!(not(target_arch = "s390x")) {
        assert!(matches!(error, Err(Error::Pv { command: "KVM_PV_ENABLE", rc: 0, .. })));
        assert!(vm.enable_secure_guest().is_err());
        vm.svm_off().unwrap();
    }
}

/// The same calls as for a guest under SEV, on a VM without it.
#[cfg(target_arch = "x86_64")]
#[test]
fn memory_slots_and_registers_are_taken_by_the_kernel_at_hand() {
    use cloister_arch::x86_64::{RESET_ADDRESS, Slot};
    use cloister_kvm::{Capability, GuestMapping, VmType};
    let Ok(kvm) = Kvm::open(Arc::new(RealKernel::new())) else {
        println!("not checked: /dev/kvm does not open here");
        return;
    };
    let vm = match kvm.create_vm(VmType::DEFAULT) {
        Ok(vm) => vm,
        Err(error) => return println!("not checked: {error}"),
    };
    let memory = Arc::new(GuestMapping::new(1 << 20).unwrap());
    let read_only = kvm.check(Capability::READONLY_MEM).unwrap() != 0;
    let slot = |guest_physical, size, offset, read_only| Slot { guest_physical, size, offset, read_only };
    vm.set_memory(0, &slot(0, 0xe0000, 0, false), &memory).unwrap();
    vm.set_memory(1, &slot(0xffff_0000, 0x10000, 0xf0000, read_only), &memory).unwrap();
    let vcpu = vm.create_vcpu(0).unwrap();
    vcpu.set_reset_state(RESET_ADDRESS, 0x00a0_0f11).unwrap();
    vcpu.set_reset_state(0x0080_b004, 0x00a0_0f11).unwrap();
    // What the kernel refuses is told, and what there is not does not reach it.
    let again = vm.set_memory(2, &slot(0x1000, 0x1000, 0, false), &memory).unwrap_err();
    assert!(again.to_string().starts_with("KVM_SET_USER_MEMORY_REGION failed: EEXIST"), "{again}");
    let beyond = vm.set_memory(2, &slot(1 << 32, 0x1000, 1 << 20, false), &memory).unwrap_err();
    assert!(matches!(beyond, Error::NoMemory { .. }), "{beyond}");
}
