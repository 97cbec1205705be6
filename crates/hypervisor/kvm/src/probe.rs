//! What a host offers to confidential guests, as plain data.
//!
//! It looks and asks; it changes nothing. It makes one VM without CPU and memory, because some answers are a
//! VM's. Nothing that is absent is an error: it is an answer, with the reason in words.

use crate::error::Error;
use crate::kernel::Kernel;
use crate::sev_device::{PlatformStatus, SevDevice};
use crate::vm::{Capability, Kvm, Vm, VmType};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a probe looks. Everything is a value, so that tests give another host.
#[derive(Clone, Debug)]
pub struct Host {
    /// The folder that /proc, /sys and /dev are in.
    pub root: PathBuf,
    /// Name of the architecture, as in `std::env::consts::ARCH`.
    pub arch: String,
    /// The processor's answers to CPUID.
    pub cpuid: Cpuid,
    /// The kernel.
    pub kernel: Arc<dyn Kernel>,
}

/// Answers to CPUID by leaf (subleaf 0): EAX, EBX, ECX, EDX. Empty on other architectures than x86-64.
pub type Cpuid = BTreeMap<u32, [u32; 4]>;

/// What a host offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HostProbe {
    /// The architecture.
    pub arch: String,
    /// `/dev/kvm`.
    pub kvm: KvmProbe,
    /// AMD SEV and its successors; on x86-64.
    pub sev: Option<SevProbe>,
    /// IBM Z protected virtualization; on s390x.
    pub pv: Option<PvProbe>,
    /// POWER's protected execution facility; on powerpc64.
    pub pef: Option<PefProbe>,
}

/// `/dev/kvm` and what it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KvmProbe {
    /// Whether it opens and speaks version 12.
    pub usable: bool,
    /// Why not.
    pub problem: Option<String>,
    /// What runs the guest's kernel.
    pub kind: KvmKind,
    /// What that is concluded from.
    pub evidence: Vec<String>,
    /// Whether a VM can be made, or why not.
    pub vm: VmProbe,
    /// Capabilities by their name in the kernel's headers: what the VM answers, else what the system does.
    pub capabilities: BTreeMap<String, u32>,
}

/// Whether a VM can be made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VmProbe {
    /// Whether.
    pub can_be_made: bool,
    /// Why not.
    pub problem: Option<String>,
    /// Whether `KVM_MEMORY_ENCRYPT_OP` knows such a VM.
    pub can_be_encrypted: bool,
}

/// What runs a guest's kernel code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KvmKind {
    /// The processor's virtualization.
    Hardware,
    /// The same, on loan from another hypervisor.
    Nested,
    /// Software: the guest's kernel runs without privilege, what it may not do is interpreted.
    Interpreting,
    /// There is no KVM.
    Absent,
    /// The evidence does not say.
    Unknown,
}

/// AMD SEV and its successors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SevProbe {
    /// What CPUID says.
    pub cpu: SevCpu,
    /// What the module kvm_amd has turned on; `None` where it does not say.
    pub module: SevModule,
    /// What the firmware behind `/dev/sev` says.
    pub platform: Option<PlatformStatus>,
    /// Why it says nothing.
    pub problem: Option<String>,
}

/// CPUID leaf 0x8000001F: AMD64 Architecture Programmer's Manual, volume 3, appendix E.4.17.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SevCpu {
    /// Secure memory encryption.
    pub sme: bool,
    /// SEV.
    pub sev: bool,
    /// SEV-ES.
    pub sev_es: bool,
    /// SEV-SNP.
    pub sev_snp: bool,
    /// Which bit of a page-table entry means encrypted.
    pub c_bit: u8,
    /// By how many bits physical addresses are shorter.
    pub reduced_phys_bits: u8,
    /// Encrypted guests that can run at a time.
    pub max_guests: u32,
    /// First ASID of a guest without ES.
    pub min_non_es_asid: u32,
}

/// Parameters of the module kvm_amd.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SevModule {
    /// `sev`.
    pub sev: Option<bool>,
    /// `sev_es`.
    pub sev_es: Option<bool>,
    /// `sev_snp`.
    pub sev_snp: Option<bool>,
}

/// IBM Z protected virtualization.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PvProbe {
    /// Facility 158: the Ultravisor can be called.
    pub facility_158: bool,
    /// Facility 161: images can be unpacked. Only in a guest's view before it is protected.
    pub facility_161: bool,
    /// `prot_virt` on the kernel's command line.
    pub prot_virt_parameter: Option<String>,
    /// `/sys/firmware/uv/prot_virt_host`.
    pub prot_virt_host: Option<bool>,
    /// `/sys/firmware/uv/prot_virt_guest`: this is a protected guest itself.
    pub prot_virt_guest: Option<bool>,
}

/// POWER's protected execution facility.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PefProbe {
    /// The processor.
    pub cpu: Option<String>,
    /// The platform: PowerNV, pSeries.
    pub platform: Option<String>,
    /// Whether the device tree has an Ultravisor.
    pub ultravisor: bool,
    /// `/sys/devices/system/cpu/svm`: this is a secure VM itself.
    pub secure_vm: Option<bool>,
}

impl Host {
    /// The host that this process runs on.
    pub fn here() -> Self {
        Self {
            root: "/".into(),
            arch: std::env::consts::ARCH.to_owned(),
            cpuid: cpuid_here(),
            kernel: Arc::new(crate::RealKernel::new()),
        }
    }

    /// A file's text, if it can be read; at most 1 MiB of it, with what is not UTF-8 replaced.
    pub fn read(&self, path: &str) -> Option<String> {
        use std::io::Read;
        let mut bytes = Vec::new();
        let file = std::fs::File::open(self.path(path)).ok()?;
        file.take(1 << 20).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Whether there is a file or folder.
    pub fn has(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// A path of the host, below the root.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(Path::new(path).strip_prefix("/").unwrap_or(Path::new(path)))
    }

    fn flag(&self, path: &str) -> Option<bool> {
        parse_flag(&self.read(path)?)
    }
}

/// Probes a host.
pub fn probe(host: &Host) -> HostProbe {
    let cpuinfo = Cpuinfo::parse(&host.read("/proc/cpuinfo").unwrap_or_default());
    let arch = host.arch.as_str();
    HostProbe {
        arch: arch.to_owned(),
        kvm: kvm(host, &cpuinfo),
        sev: (arch == "x86_64").then(|| sev(host)),
        pv: (arch == "s390x").then(|| pv(host, &cpuinfo)),
        pef: arch.starts_with("powerpc64").then(|| pef(host, &cpuinfo)),
    }
}

/// The lines of /proc/cpuinfo that matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpuinfo {
    /// The first value of each key.
    pub fields: BTreeMap<String, String>,
}

impl Cpuinfo {
    /// Parses `key : value` lines; other lines are passed over.
    pub fn parse(text: &str) -> Self {
        let mut fields = BTreeMap::new();
        for (key, value) in text.lines().filter_map(|line| line.split_once(':')) {
            fields.entry(key.trim().to_owned()).or_insert_with(|| value.trim().to_owned());
        }
        Self { fields }
    }

    /// The words of a list, such as `flags`.
    pub fn words(&self, key: &str) -> BTreeSet<&str> {
        self.fields.get(key).map(|value| value.split_whitespace().collect()).unwrap_or_default()
    }

    fn field(&self, key: &str) -> Option<String> {
        self.fields.get(key).filter(|value| !value.is_empty()).cloned()
    }
}

/// The value of a parameter on the kernel's command line, the last if there are several. Quotes may hold blanks.
pub fn kernel_parameter(cmdline: &str, name: &str) -> Option<String> {
    let mut quoted = false;
    let words = cmdline.split(|c: char| {
        quoted ^= c == '"';
        c.is_whitespace() && !quoted
    });
    let value = |word: &str| {
        let rest = word.trim_start_matches('"').strip_prefix(name)?.strip_prefix('=')?;
        Some(rest.trim_matches('"').to_owned())
    };
    words.take_while(|word| *word != "--").filter_map(value).last()
}

/// A boolean of sysfs: `Y`, `N`, or a number.
pub fn parse_flag(text: &str) -> Option<bool> {
    match text.trim() {
        "Y" | "y" => Some(true),
        "N" | "n" => Some(false),
        number => number.parse::<i64>().ok().map(|number| number != 0),
    }
}

/// What CPUID says of SEV.
pub fn sev_cpu(cpuid: &Cpuid) -> SevCpu {
    let highest = cpuid.get(&0x8000_0000).map_or(0, |leaf| leaf[0]);
    let Some([eax, ebx, ecx, edx]) = cpuid.get(&SEV_LEAF).filter(|_| highest >= SEV_LEAF).copied() else {
        return SevCpu::default();
    };
    SevCpu {
        sme: eax & 1 != 0,
        sev: eax & 1 << 1 != 0,
        sev_es: eax & 1 << 3 != 0,
        sev_snp: eax & 1 << 4 != 0,
        c_bit: (ebx & 0x3f) as u8,
        reduced_phys_bits: (ebx >> 6 & 0x3f) as u8,
        max_guests: ecx,
        min_non_es_asid: edx,
    }
}

/// The hypervisor that CPUID names: `Some` if there is one, with its signature if it has one.
pub fn hypervisor(cpuid: &Cpuid) -> Option<String> {
    let present = cpuid.get(&1).is_some_and(|leaf| leaf[2] >> 31 != 0);
    present.then(|| {
        let bytes: Vec<u8> = cpuid
            .get(&HYPERVISOR_LEAF)
            .map(|leaf| leaf[1..].iter().flat_map(|word| word.to_le_bytes()).collect())
            .unwrap_or_default();
        bytes.into_iter().filter(u8::is_ascii_graphic).map(char::from).collect()
    })
}

/// The processor's name in CPUID, if it has one.
pub fn processor(cpuid: &Cpuid) -> Option<String> {
    let leaves: Option<Vec<_>> = NAME_LEAVES.map(|leaf| cpuid.get(&leaf)).collect();
    let bytes: Vec<u8> = leaves?.into_iter().flatten().flat_map(|word| word.to_le_bytes()).collect();
    let text: String = bytes.into_iter().filter(|byte| matches!(byte, b' '..=b'~')).map(char::from).collect();
    let words: Vec<_> = text.split_whitespace().collect();
    (!words.is_empty()).then(|| words.join(" "))
}

fn kvm(host: &Host, cpuinfo: &Cpuinfo) -> KvmProbe {
    let opened = Kvm::open(Arc::clone(&host.kernel));
    let absent = matches!(
        &opened,
        Err(Error::Open(error)) if matches!(
            error.failure,
            crate::OpenFailure::NotADevice
                | crate::OpenFailure::Errno(
                    crate::Errno::NO_ENTRY | crate::Errno::NO_DEVICE | crate::Errno::NO_DEVICE_OR_ADDRESS
                )
        )
    );
    let (kind, evidence) = if absent { (KvmKind::Absent, Vec::new()) } else { kind(host, cpuinfo) };
    let kvm = match opened {
        Ok(kvm) => kvm,
        Err(error) => {
            return KvmProbe {
                usable: false,
                problem: Some(error.to_string()),
                kind,
                evidence,
                vm: VmProbe::default(),
                capabilities: BTreeMap::new(),
            };
        }
    };
    let (vm, probe) = match kvm.create_vm(VmType::DEFAULT) {
        Ok(vm) => {
            let can_be_encrypted = host.arch == "x86_64" && vm.can_be_encrypted();
            (Some(vm), VmProbe { can_be_made: true, problem: None, can_be_encrypted })
        }
        Err(error) => (None, VmProbe { problem: Some(error.to_string()), ..VmProbe::default() }),
    };
    KvmProbe {
        usable: true,
        problem: None,
        kind,
        evidence,
        vm: probe,
        capabilities: capabilities(&kvm, vm.as_ref()),
    }
}

fn capabilities(kvm: &Kvm, vm: Option<&Vm>) -> BTreeMap<String, u32> {
    // A kernel without this answers for VMs as for the system.
    let vm = vm.filter(|_| kvm.check(Capability::CHECK_EXTENSION_VM).is_ok_and(|answer| answer != 0));
    let ask = |capability| match vm {
        Some(vm) => vm.check(capability),
        None => kvm.check(capability),
    };
    let answers = Capability::ALL
        .iter()
        .filter_map(|(capability, name)| Some(((*name).to_owned(), ask(*capability).ok()?)));
    answers.collect()
}

/// What runs a guest's kernel, and what shows it.
fn kind(host: &Host, cpuinfo: &Cpuinfo) -> (KvmKind, Vec<String>) {
    let mut evidence = Vec::new();
    let kind = match host.arch.as_str() {
        "x86_64" => x86_kind(host, cpuinfo, &mut evidence),
        "s390x" => s390_kind(host, cpuinfo, &mut evidence),
        arch if arch.starts_with("powerpc64") => power_kind(host, cpuinfo, &mut evidence),
        arch => {
            evidence.push(format!("nothing is known here about KVM on {arch}"));
            KvmKind::Unknown
        }
    };
    (kind, evidence)
}

fn x86_kind(host: &Host, cpuinfo: &Cpuinfo, evidence: &mut Vec<String>) -> KvmKind {
    let flags = cpuinfo.words("flags");
    let virtualization = ["vmx", "svm"].into_iter().find(|flag| flags.contains(flag));
    match virtualization {
        Some(flag) => evidence.push(format!("/proc/cpuinfo has the flag {flag}")),
        None => evidence.push("/proc/cpuinfo has neither vmx nor svm".to_owned()),
    }
    let modules = ["kvm_intel", "kvm_amd", "kvm_pvm"];
    let module = modules.into_iter().find(|module| host.has(&format!("/sys/module/{module}")));
    match module {
        Some(module) => evidence.push(format!("the module {module} is loaded")),
        None => evidence.push("none of the modules kvm_intel, kvm_amd, kvm_pvm is in /sys/module".to_owned()),
    }
    let hypervisor = hypervisor(&host.cpuid);
    match &hypervisor {
        Some(name) if name.is_empty() => evidence.push("CPUID says that a hypervisor is present".to_owned()),
        Some(name) => evidence.push(format!("CPUID names the hypervisor {name}")),
        None => evidence.push("CPUID says that no hypervisor is present".to_owned()),
    }
    match (virtualization, module, hypervisor) {
        // PVM runs the guest's kernel in ring 3; whatever else there is, it is what answers.
        (_, Some("kvm_pvm"), _) => KvmKind::Interpreting,
        (Some(_), _, None) => KvmKind::Hardware,
        (Some(_), _, Some(_)) => KvmKind::Nested,
        // KVM answers, and the processor offers it nothing: it must be software.
        (None, None, _) => KvmKind::Interpreting,
        (None, Some(_), _) => KvmKind::Unknown,
    }
}

fn s390_kind(host: &Host, cpuinfo: &Cpuinfo, evidence: &mut Vec<String>) -> KvmKind {
    let sie = cpuinfo.words("features").contains("sie");
    evidence.push(format!("/proc/cpuinfo {} the feature sie", if sie { "has" } else { "has not" }));
    let sysinfo = host.read("/proc/sysinfo").unwrap_or_default();
    // STSI 3.2.2: the control program above this level.
    let program = Cpuinfo::parse(&sysinfo).field("VM00 Control Program");
    match &program {
        Some(program) => evidence.push(format!("/proc/sysinfo names the control program {program}")),
        None => {
            evidence.push("/proc/sysinfo names no control program: this is a logical partition".to_owned())
        }
    }
    match (sie, program) {
        (true, None) => KvmKind::Hardware,
        (true, Some(_)) => KvmKind::Nested,
        (false, _) => KvmKind::Unknown,
    }
}

fn power_kind(host: &Host, cpuinfo: &Cpuinfo, evidence: &mut Vec<String>) -> KvmKind {
    let platform = cpuinfo.field("platform");
    if let Some(platform) = &platform {
        evidence.push(format!("/proc/cpuinfo names the platform {platform}"));
    }
    let module = ["kvm_hv", "kvm_pr"].into_iter().find(|module| host.has(&format!("/sys/module/{module}")));
    match module {
        Some(module) => evidence.push(format!("the module {module} is loaded")),
        None => evidence.push("neither kvm_hv nor kvm_pr is in /sys/module".to_owned()),
    }
    match (module, platform.as_deref()) {
        (Some("kvm_hv"), Some("PowerNV")) => KvmKind::Hardware,
        (Some("kvm_hv"), Some(_)) => KvmKind::Nested,
        // It runs the guest's kernel in problem state.
        (Some("kvm_pr"), _) => KvmKind::Interpreting,
        _ => KvmKind::Unknown,
    }
}

fn sev(host: &Host) -> SevProbe {
    let parameter = |name: &str| host.flag(&format!("/sys/module/kvm_amd/parameters/{name}"));
    let status = SevDevice::open(Arc::clone(&host.kernel)).and_then(|device| device.platform_status());
    let (platform, problem) = match status {
        Ok(status) => (Some(status), None),
        Err(error) => (None, Some(error.to_string())),
    };
    SevProbe {
        cpu: sev_cpu(&host.cpuid),
        module: SevModule {
            sev: parameter("sev"),
            sev_es: parameter("sev_es"),
            sev_snp: parameter("sev_snp"),
        },
        platform,
        problem,
    }
}

fn pv(host: &Host, cpuinfo: &Cpuinfo) -> PvProbe {
    let facilities = cpuinfo.words("facilities");
    PvProbe {
        facility_158: facilities.contains("158"),
        facility_161: facilities.contains("161"),
        prot_virt_parameter: kernel_parameter(&host.read("/proc/cmdline").unwrap_or_default(), "prot_virt"),
        prot_virt_host: host.flag("/sys/firmware/uv/prot_virt_host"),
        prot_virt_guest: host.flag("/sys/firmware/uv/prot_virt_guest"),
    }
}

fn pef(host: &Host, cpuinfo: &Cpuinfo) -> PefProbe {
    PefProbe {
        cpu: cpuinfo.field("cpu"),
        platform: cpuinfo.field("platform"),
        ultravisor: host.has("/proc/device-tree/ibm,ultravisor"),
        secure_vm: host.flag("/sys/devices/system/cpu/svm"),
    }
}

#[cfg(target_arch = "x86_64")]
fn cpuid_here() -> Cpuid {
    use std::arch::x86_64::__cpuid;
    let leaf = |number| {
        let answer = __cpuid(number);
        (number, [answer.eax, answer.ebx, answer.ecx, answer.edx])
    };
    let mut leaves = BTreeMap::from([leaf(1), leaf(0x8000_0000)]);
    // A leaf that does not exist answers with another one's data.
    leaves.extend(leaves[&0x8000_0000][0].ge(&SEV_LEAF).then(|| leaf(SEV_LEAF)));
    let named = leaves[&0x8000_0000][0] >= *NAME_LEAVES.end();
    leaves.extend(NAME_LEAVES.filter(|_| named).map(leaf));
    leaves.extend((leaves[&1][2] >> 31 != 0).then(|| leaf(HYPERVISOR_LEAF)));
    leaves
}

#[cfg(not(target_arch = "x86_64"))]
fn cpuid_here() -> Cpuid {
    Cpuid::new()
}

const SEV_LEAF: u32 = 0x8000_001f;
const HYPERVISOR_LEAF: u32 = 0x4000_0000;
const NAME_LEAVES: std::ops::RangeInclusive<u32> = 0x8000_0002..=0x8000_0004;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_cpuinfo_is_read_without_a_panic(text in ".{0,400}", lines in "([a-z0-9 \t:]{0,20}\n){0,20}") {
            for text in [text, lines] {
                let cpuinfo = Cpuinfo::parse(&text);
                for key in cpuinfo.fields.keys() {
                    prop_assert!(cpuinfo.words(key).iter().all(|word| !word.contains(char::is_whitespace)));
                }
            }
        }

        #[test]
        fn a_flag_among_others_is_found_and_a_longer_word_is_not(
            before in "[a-z]{0,8}( [a-z]{1,8}){0,5}",
            after in "( [a-z]{1,8}){0,5}",
        ) {
            let has = |flag: &str| {
                Cpuinfo::parse(&format!("x : y\nflags\t\t: {before} {flag}{after}\n")).words("flags").contains("sv_m")
            };
            prop_assert!(has("sv_m"));
            prop_assert!(!has("sv_m_lock"));
        }

        #[test]
        fn a_kernel_parameter_is_found_wherever_it_stands(
            before in "([a-z]{1,6}(=[a-z0-9,.]{0,6})? ){0,4}",
            value in "[a-z0-9]{0,6}",
            after in "( [a-z]{1,6}(=\"[a-z ]{0,6}\")?){0,4}\n?",
        ) {
            let cmdline = format!("{before}prot_virt={value}{after}");
            prop_assert_eq!(kernel_parameter(&cmdline, "prot_virt"), Some(value));
        }

        #[test]
        fn any_command_line_and_flag_is_read_without_a_panic(text in ".{0,200}") {
            let _ = kernel_parameter(&text, "prot_virt");
            let _ = parse_flag(&text);
        }

        #[test]
        fn any_cpuid_is_read_without_a_panic(leaves: BTreeMap<u32, [u32; 4]>, leaf: [u32; 4]) {
            let mut leaves = leaves;
            leaves.extend([(0x8000_0000, [u32::MAX; 4]), (SEV_LEAF, leaf), (1, [0, 0, 1 << 31, 0])]);
            prop_assert_eq!(sev_cpu(&leaves).sev, leaf[0] >> 1 & 1 == 1);
            prop_assert!(hypervisor(&leaves).is_some());
        }
    }

    #[test]
    fn linux_kernel_parameters_the_last_counts_and_init_has_its_own() {
        assert_eq!(kernel_parameter("prot_virt=0 x prot_virt=1", "prot_virt").as_deref(), Some("1"));
        assert_eq!(kernel_parameter("x=\"a prot_virt=1\" y -- prot_virt=1", "prot_virt"), None);
        assert_eq!(kernel_parameter("noprot_virt=1 prot_virtual=1", "prot_virt"), None);
    }

    #[test]
    fn amd_apm_3_e_4_17_the_leaf_counts_only_below_the_highest() {
        let milan = [0x1_780f, (5 << 6) | 51, 509, 100];
        let mut cpuid = Cpuid::from([(SEV_LEAF, milan)]);
        assert_eq!(sev_cpu(&cpuid), SevCpu::default());
        cpuid.insert(0x8000_0000, [0x8000_0023, 0, 0, 0]);
        let cpu = sev_cpu(&cpuid);
        assert!(cpu.sme && cpu.sev && cpu.sev_es && !cpu.sev_snp);
        assert_eq!(
            (cpu.c_bit, cpu.reduced_phys_bits, cpu.max_guests, cpu.min_non_es_asid),
            (51, 5, 509, 100)
        );
    }

    #[test]
    fn this_host_is_probed_without_an_error() {
        let probe = probe(&Host::here());
        assert_eq!(probe.arch, std::env::consts::ARCH);
        assert!(probe.kvm.usable != probe.kvm.problem.is_some());
    }
}
