//! For each mechanism the one sentence: what you can run here, and what is missing.
//!
//! Two questions are kept apart. What *this version* can run does not depend on the host: protected guests of
//! IBM Z on the software platform. What the *host's* hardware is ready for, this version does not use yet.

use super::survey::{ModelPlatform, Tpm};
use cloister_kvm::probe::{KvmKind, KvmProbe, PefProbe, PvProbe, SevProbe};
use cloister_kvm::{Capability, HostProbe};
use serde::Serialize;

#[derive(Debug, Serialize)]
pub(super) struct Verdict {
    /// For scripts: `sev`, `pef`, `pv`.
    pub(super) mechanism: &'static str,
    pub(super) name: &'static str,
    /// What this version runs such guests on here.
    pub(super) runs_on: Option<&'static str>,
    /// Whether the host could run them in hardware, with software that uses it.
    pub(super) hardware_ready: bool,
    /// What it lacks for that.
    pub(super) missing: Vec<String>,
    pub(super) sentence: String,
}

pub(super) fn verdicts(probe: &HostProbe, tpm: &[Tpm], platform: &ModelPlatform) -> Vec<Verdict> {
    vec![sev(probe), pef(probe, tpm), pv(probe, platform)]
}

fn sev(probe: &HostProbe) -> Verdict {
    let missing = match &probe.sev {
        None => vec![format!("an AMD EPYC processor (this is {})", probe.arch)],
        Some(sev) => sev_missing(sev, &probe.kvm),
    };
    let ready = probe.sev.as_ref().map_or_else(String::new, |sev| {
        let es = sev.cpu.sev_es && sev.module.sev_es == Some(true);
        let snp = sev.cpu.sev_snp && sev.module.sev_snp == Some(true);
        let kinds = match (es, snp) {
            (true, true) => "SEV, SEV-ES and SEV-SNP",
            (true, false) => "SEV and SEV-ES",
            (false, _) => "SEV",
        };
        format!("{kinds} (at most {} such guests at a time)", sev.cpu.max_guests)
    });
    not_yet("sev", "AMD SEV", "SEV", missing, &ready)
}

fn sev_missing(sev: &SevProbe, kvm: &KvmProbe) -> Vec<String> {
    if !sev.cpu.sev {
        return vec!["a processor with SEV (CPUID leaf 0x8000001F does not have it)".to_owned()];
    }
    let mut missing: Vec<_> = kvm_missing(kvm).into_iter().collect();
    match sev.module.sev {
        Some(true) => {}
        Some(false) => missing.push("SEV in KVM (load kvm_amd with sev=1)".to_owned()),
        None => missing.push("the module kvm_amd with its parameter sev".to_owned()),
    }
    missing.extend(sev.platform.is_none().then(|| "an answer of /dev/sev (see SEV above)".to_owned()));
    missing
}

fn pef(probe: &HostProbe, tpm: &[Tpm]) -> Verdict {
    let missing = match &probe.pef {
        None => vec![format!("a POWER9 or later with an Ultravisor (this is {})", probe.arch)],
        Some(pef) => pef_missing(pef, &probe.kvm, tpm),
    };
    not_yet("pef", "POWER PEF", "PEF", missing, "secure VMs")
}

fn pef_missing(pef: &PefProbe, kvm: &KvmProbe, tpm: &[Tpm]) -> Vec<String> {
    let mut missing = Vec::new();
    if pef.platform.as_deref() != Some("PowerNV") {
        missing
            .push("the machine itself: this is a partition or a guest, secure VMs need PowerNV".to_owned());
    }
    if !pef.ultravisor {
        missing.push("an Ultravisor (the device tree has no ibm,ultravisor; svm_enable=on)".to_owned());
    }
    missing.extend(kvm_missing(kvm));
    missing.extend(capability_missing(kvm, Capability::PPC_SECURE_GUEST));
    if !tpm.iter().any(|tpm| tpm.usable) {
        missing.push("a TPM that this user may use (/dev/tpmrm0)".to_owned());
    }
    missing
}

fn pv(probe: &HostProbe, platform: &ModelPlatform) -> Verdict {
    let missing = match &probe.pv {
        None => vec![format!("an IBM z15 or later (this is {})", probe.arch)],
        Some(pv) => pv_missing(pv, &probe.kvm),
    };
    let model = match (&platform.folder, &platform.problem) {
        (Some(folder), _) => format!("with the model machine in {}", folder.display()),
        (None, Some(_)) => "once the model platform above is mended".to_owned(),
        (None, None) => "with a model machine made for each run".to_owned(),
    };
    let hardware = if missing.is_empty() {
        "this host could also run them in hardware, which this version does not use yet".to_owned()
    } else {
        format!("for hardware, which this version does not use yet, this host lacks {}", missing.join("; "))
    };
    let sentence =
        format!("You can run protected guests here on the software platform, {model}; {hardware}.");
    let hardware_ready = missing.is_empty();
    Verdict {
        mechanism: "pv",
        name: "IBM Z protected virtualization",
        runs_on: platform.problem.is_none().then_some("software"),
        hardware_ready,
        missing,
        sentence,
    }
}

fn pv_missing(pv: &PvProbe, kvm: &KvmProbe) -> Vec<String> {
    let mut missing = Vec::new();
    if !pv.facility_158 {
        missing.push("facility 158 (an IBM z15 or later, as a logical partition)".to_owned());
    } else if pv.prot_virt_host != Some(true) {
        missing.push(
            match pv.prot_virt_parameter.as_deref().and_then(cloister_kvm::probe::parse_flag) {
                Some(true) => "an initialised Ultravisor (prot_virt=1 was given, but see dmesg)",
                _ => "prot_virt=1 on the kernel's command line",
            }
            .to_owned(),
        );
    }
    missing.extend(kvm_missing(kvm));
    missing.extend(capability_missing(kvm, Capability::S390_PROTECTED));
    missing
}

fn kvm_missing(kvm: &KvmProbe) -> Option<String> {
    if !kvm.usable {
        Some("a usable /dev/kvm (see KVM above)".to_owned())
    } else if !kvm.vm.can_be_made {
        Some("a KVM that makes VMs (see KVM above)".to_owned())
    } else if kvm.kind == KvmKind::Interpreting {
        Some("a KVM that uses the processor's virtualization".to_owned())
    } else {
        None
    }
}

fn capability_missing(kvm: &KvmProbe, capability: Capability) -> Option<String> {
    let name = capability.name();
    (kvm.usable && kvm.capabilities.get(name).copied().unwrap_or(0) == 0).then(|| format!("{name} in KVM"))
}

/// A mechanism that this version has no guests for.
fn not_yet(
    mechanism: &'static str,
    name: &'static str,
    short: &str,
    missing: Vec<String>,
    ready: &str,
) -> Verdict {
    let hardware = if missing.is_empty() {
        format!("this host's hardware is ready for {ready}")
    } else {
        format!("this host's hardware could not run them either, for lack of {}", missing.join("; "))
    };
    Verdict {
        mechanism,
        name,
        runs_on: None,
        hardware_ready: missing.is_empty(),
        sentence: format!(
            "You can run none here: {short} guests are not part of this version yet; {hardware}."
        ),
        missing,
    }
}
