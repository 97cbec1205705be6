//! Whole hosts, made up: trees of files, answers to CPUID, a scripted kernel; and what the doctor says of them.
//!
//! The hosts follow what the kernel's documentation and headers say such hosts show; none was recorded.
//! `UPDATE_GOLDEN=1 cargo test -p cloister doctor` writes the answers anew, to be read before they are kept.

use super::survey::{Place, Survey, chosen, effective_capabilities, pool_size, survey};
use super::words::words;
use cloister_kvm::{Capability, Device, Errno, FakeKernel, Host, OpenFailure};
use cloister_platform_store::Environment;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// A host that stands in a folder.
struct Made {
    root: tempfile::TempDir,
    place: Place,
}

/// What is not given is absent.
fn made(arch: &str, files: &[(&str, &str)], cpuid: &[(u32, [u32; 4])], kernel: FakeKernel) -> Made {
    let root = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let place = Place {
        host: Host {
            root: root.path().to_owned(),
            arch: arch.to_owned(),
            cpuid: cpuid.iter().copied().collect::<BTreeMap<_, _>>(),
            kernel: Arc::new(kernel),
        },
        environment: Environment {
            cloister_platform: None,
            xdg_data_home: None,
            home: Some(root.path().join("home/user").into()),
            system: root.path().join("var/lib/cloister/platform"),
        },
        platform: None,
        memory_lock: Some(8 << 20),
    };
    Made { root, place }
}

/// Compares what the doctor says with the files under golden/.
fn golden(name: &str, made: &Made) -> Survey {
    let mut found = survey(&made.place);
    strip(&mut found, made.root.path().to_str().unwrap());
    let json = serde_json::to_string_pretty(&found).unwrap() + "\n";
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/doctor/golden");
    for (ending, text) in [("txt", words(&found)), ("json", json)] {
        let file = folder.join(format!("{name}.{ending}"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&file, &text).unwrap();
        }
        let kept = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(text == kept, "{}\n{text}", file.display());
    }
    found
}

/// Takes the folder that a made host stands in out of the answer: words are wrapped by their length.
fn strip(found: &mut Survey, root: &str) {
    let platform = &mut found.model_platform;
    platform.folder = platform.folder.take().map(|folder| folder.to_str().unwrap().replace(root, "").into());
    let places = platform.looked_for.iter_mut();
    for text in places.chain(found.mechanisms.iter_mut().map(|verdict| &mut verdict.sentence)) {
        *text = text.replace(root, "");
    }
}

fn status(payload: &mut cloister_kvm::Payload<'_>) -> Result<i32, Errno> {
    // API 1.55 build 25, INIT, SEV-ES on, no guests.
    let answer = [1, 55, 1, 0, 1, 0, 0, 25, 0, 0, 0, 0];
    payload.block_mut(4).ok_or(Errno::INVALID)?.bytes_mut().copy_from_slice(&answer);
    Ok(0)
}

const EPYC_CPUID: &[(u32, [u32; 4])] = &[
    (1, [0xa0_0f11, 0, 0x7ef8_320b, 0x178b_fbff]),
    (0x8000_0000, [0x8000_0023, 0, 0, 0]),
    (0x8000_001f, [0x0101_fd3f, 0x4173, 509, 100]),
];

const EPYC: &[(&str, &str)] = &[
    (
        "proc/cpuinfo",
        "processor\t: 0\nmodel name\t: AMD EPYC 7763 64-Core Processor\nflags\t\t: fpu svm sme sev sev_es sev_snp\n",
    ),
    ("proc/sys/kernel/osrelease", "6.12.9-amd64\n"),
    ("proc/sys/vm/unprivileged_userfaultfd", "0\n"),
    ("sys/module/kvm_amd/parameters/sev", "Y\n"),
    ("sys/module/kvm_amd/parameters/sev_es", "Y\n"),
    ("sys/module/kvm_amd/parameters/sev_snp", "N\n"),
    ("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "512\n"),
    ("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "500\n"),
    ("sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", "4\n"),
    ("sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages", "0\n"),
    ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
    ("sys/class/tpm/tpm0/tpm_version_major", "2\n"),
    ("dev/tpm0", ""),
    ("dev/tpmrm0", ""),
    ("dev/userfaultfd", ""),
];

fn epyc() -> Made {
    let kernel = FakeKernel::with_kvm()
        .device(Device::Sev, Ok(()))
        .returns("KVM_MEMORY_ENCRYPT_OP", 0)
        .answers("SEV_PLATFORM_STATUS", status)
        .capability(Capability::CHECK_EXTENSION_VM, 1)
        .capability(Capability::VM_TYPES, 0x1d)
        .capability(Capability::VM_COPY_ENC_CONTEXT_FROM, 1)
        .capability(Capability::VM_MOVE_ENC_CONTEXT_FROM, 1);
    made("x86_64", EPYC, EPYC_CPUID, kernel)
}

fn z15(cmdline: &str, prot_virt_host: &str, protected: i32) -> Made {
    let files = [
        (
            "proc/cpuinfo",
            "vendor_id       : IBM/S390\nfeatures\t: esan3 zarch stfle msa ldisp eimm dfp edat etf3eh highgprs te vx sie\n\
             facilities      : 0 1 2 3 4 6 7 8 9 10 146 148 150 151 152 153 155 156 158 168\n",
        ),
        ("proc/cmdline", cmdline),
        ("proc/sysinfo", "Manufacturer:         IBM\nType:                 8561\nLPAR Number:          3\n"),
        ("proc/sys/kernel/osrelease", "6.1.0-28-s390x\n"),
        ("proc/sys/vm/unprivileged_userfaultfd", "0\n"),
        ("sys/firmware/uv/prot_virt_host", prot_virt_host),
        ("sys/firmware/uv/prot_virt_guest", "0\n"),
        ("sys/kernel/mm/hugepages/hugepages-1024kB/nr_hugepages", "0\n"),
        ("sys/kernel/mm/hugepages/hugepages-1024kB/free_hugepages", "0\n"),
        ("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n"),
        ("var/lib/cloister/platform/platform.toml", ""),
    ];
    let kernel = FakeKernel::with_kvm()
        .capability(Capability::CHECK_EXTENSION_VM, 1)
        .capability(Capability::S390_PROTECTED, protected)
        .capability(Capability::S390_PROTECTED_DUMP, protected)
        .capability(Capability::S390_VCPU_RESETS, 1)
        .capability(Capability::S390_MEM_OP, 65536);
    made("s390x", &files, &[], kernel)
}

fn power9(ultravisor: bool) -> Made {
    let mut files = vec![
        (
            "proc/cpuinfo",
            "processor\t: 0\ncpu\t\t: POWER9, altivec supported\n\nplatform\t: PowerNV\nmodel\t\t: 9006-22P\n",
        ),
        ("proc/sys/kernel/osrelease", "6.1.0-28-powerpc64le\n"),
        ("proc/sys/vm/unprivileged_userfaultfd", "1\n"),
        ("sys/module/kvm_hv/refcnt", "0\n"),
        ("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "0\n"),
        ("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "0\n"),
        ("dev/tpm0", ""),
        ("dev/tpmrm0", ""),
    ];
    files.extend(ultravisor.then_some(("proc/device-tree/ibm,ultravisor/compatible", "ibm,ultravisor\0")));
    let kernel = FakeKernel::with_kvm()
        .capability(Capability::CHECK_EXTENSION_VM, 1)
        .capability(Capability::PPC_SECURE_GUEST, i32::from(ultravisor));
    made("powerpc64", &files, &[], kernel)
}

fn laptop() -> Made {
    let files = [
        (
            "proc/cpuinfo",
            "processor\t: 0\nmodel name\t: 11th Gen Intel(R) Core(TM) i7-1165G7 @ 2.80GHz\nflags\t\t: fpu vmx sse2\n",
        ),
        ("proc/sys/kernel/osrelease", "6.12.41-amd64\n"),
        ("proc/sys/vm/unprivileged_userfaultfd", "0\n"),
        ("sys/module/kvm_intel/parameters/nested", "Y\n"),
        ("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n"),
        ("home/user/.local/share/cloister/platform/platform.toml", ""),
    ];
    let cpuid = [(1, [0x806c1, 0, 0x7ffa_fbff, 0]), (0x8000_0000, [0x8000_0008, 0, 0, 0])];
    let kernel = FakeKernel::new().device(Device::Kvm, Err(OpenFailure::Errno(Errno::ACCESS)));
    made("x86_64", &files, &cpuid, kernel)
}

/// A virtual machine whose KVM is a software one, as PVM is.
fn interpreting() -> Made {
    let files = [
        ("proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu sse2 hypervisor\n"),
        ("proc/sys/kernel/osrelease", "6.12.0\n"),
        ("sys/module/kvm_pvm/parameters/x", "0\n"),
        ("proc/sys/vm/unprivileged_userfaultfd", "0\n"),
        ("proc/self/status", "Name:\tcloister\nCapEff:\t000001ffffffffff\n"),
    ];
    let cpuid = [
        (1, [0x806f8, 0, 1 << 31, 0]),
        (0x4000_0000, [0x4000_0001, 0x4b4d_564b, 0x564b_4d56, 0x4d]),
        (0x8000_0000, [0x8000_0021, 0, 0, 0]),
    ];
    made("x86_64", &files, &cpuid, FakeKernel::with_kvm())
}

#[test]
fn an_epyc_host_is_ready_in_hardware_and_runs_ibm_z_in_software() {
    let found = golden("epyc", &epyc());
    let [sev, pef, pv] = &found.mechanisms[..] else { panic!("{found:?}") };
    assert!(sev.hardware_ready && sev.runs_on.is_none() && sev.missing.is_empty());
    assert!(!pef.hardware_ready && pef.runs_on.is_none());
    assert!(!pv.hardware_ready && pv.runs_on == Some("software"));
}

#[test]
fn a_z15_host_without_prot_virt_is_told_the_parameter() {
    let found = golden("z15", &z15("root=/dev/dasda1 quiet\n", "0\n", 0));
    let pv = &found.mechanisms[2];
    assert_eq!(pv.missing, ["prot_virt=1 on the kernel's command line", "KVM_CAP_S390_PROTECTED in KVM"]);
}

#[test]
fn a_z15_host_with_prot_virt_is_ready_in_hardware() {
    let found = golden("z15-prot-virt", &z15("root=/dev/dasda1 prot_virt=1\n", "1\n", 1));
    assert!(found.mechanisms[2].hardware_ready);
}

#[test]
fn a_z15_host_whose_ultravisor_failed_is_sent_to_the_log() {
    let found = survey(&z15("prot_virt=1\n", "0\n", 0).place);
    assert!(found.mechanisms[2].missing[0].contains("dmesg"));
}

#[test]
fn a_power9_host_is_ready_with_an_ultravisor_only() {
    assert!(golden("power9", &power9(true)).mechanisms[1].hardware_ready);
    assert!(!golden("power9-without-ultravisor", &power9(false)).mechanisms[1].hardware_ready);
}

#[test]
fn a_laptop_user_without_the_group_is_told_of_it() {
    let found = golden("laptop", &laptop());
    assert!(!found.host.kvm.usable);
    assert_eq!(found.model_platform.named_by, Some("user"));
}

#[test]
fn a_kvm_without_the_processors_help_is_called_interpreting() {
    golden("interpreting", &interpreting());
}

#[test]
fn a_container_without_dev_and_proc_gets_an_answer_for_everything() {
    golden("container", &made("x86_64", &[], &[], FakeKernel::new()));
}

#[test]
fn a_platform_that_is_named_and_is_none_is_a_problem_not_a_failure() {
    let mut made = made("x86_64", &[], &[], FakeKernel::new());
    made.place.platform = Some(made.root.path().join("nowhere"));
    let found = survey(&made.place);
    assert!(found.model_platform.problem.is_some());
    assert_eq!(found.mechanisms[2].runs_on, None);
    assert!(words(&found).contains("none: "));
}

#[test]
fn this_host_gets_an_answer() {
    let mut made = made(std::env::consts::ARCH, &[], &[], FakeKernel::new());
    made.place.host = Host::here();
    let found = survey(&made.place);
    assert_eq!(found.mechanisms.len(), 3);
    assert!(words(&found).contains("What you can run here"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_content_of_the_files_gets_an_answer(contents in proptest::collection::vec(any::<Vec<u8>>(), EPYC.len())) {
        let mut made = epyc();
        for ((path, _), content) in EPYC.iter().zip(contents) {
            std::fs::write(made.root.path().join(path), content).unwrap();
        }
        for arch in ["x86_64", "s390x", "powerpc64", "riscv64"] {
            made.place.host.arch = arch.to_owned();
            let found = survey(&made.place);
            prop_assert!(!words(&found).is_empty());
            prop_assert!(serde_json::to_string(&found).is_ok());
        }
    }

    #[test]
    fn the_size_of_a_pool_is_in_its_name(kib: u64, name in ".{0,20}") {
        prop_assert_eq!(pool_size(&format!("hugepages-{kib}kB")), Some(kib));
        let _ = (pool_size(&name), chosen(&name));
    }

    #[test]
    fn linux_proc_status_capabilities_are_read_in_base_16(set: u64, text in ".{0,60}") {
        let status = format!("Name:\tx\nCapPrm:\t{:016x}\nCapEff:\t{set:016x}\n", !set);
        prop_assert_eq!(effective_capabilities(&status), Some(set));
        let _ = effective_capabilities(&text);
    }
}
