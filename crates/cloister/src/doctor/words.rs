//! The survey for a person.

use super::survey::{HugePages, ModelPlatform, Survey, Tpm};
use cloister_kvm::probe::{KvmKind, KvmProbe, PefProbe, PvProbe, SevModule, SevProbe};

pub(super) fn words(survey: &Survey) -> String {
    let mut page = Page::default();
    page.title("This host");
    let kernel = survey.kernel.as_ref().map_or_else(String::new, |kernel| format!(", Linux {kernel}"));
    page.row("Architecture", &format!("{}{kernel}", survey.host.arch));
    kvm(&mut page, &survey.host.kvm);
    if let Some(probe) = &survey.host.sev {
        sev(&mut page, probe);
    }
    if let Some(probe) = &survey.host.pv {
        pv(&mut page, probe);
    }
    if let Some(probe) = &survey.host.pef {
        pef(&mut page, probe);
    }
    page.row("TPM", &tpm(&survey.tpm));
    page.row("Huge pages", &huge_pages(&survey.huge_pages));
    let userfaultfd = &survey.userfaultfd;
    page.row("userfaultfd", &format!("{}: {}", yes(userfaultfd.usable, "usable"), userfaultfd.reason));
    let lock = survey
        .memory_lock
        .bytes
        .map_or_else(|| "no limit".to_owned(), |bytes| format!("{} KiB", bytes / 1024));
    page.row("Memory lock limit", &lock);
    page.gap();
    page.title("Model platform (a model protects nobody from the administrator of this host)");
    platform(&mut page, &survey.model_platform);
    page.gap();
    page.title("What you can run here, and what is missing");
    for verdict in &survey.mechanisms {
        page.paragraph(verdict.name, &verdict.sentence);
    }
    page.text
}

fn kvm(page: &mut Page, kvm: &KvmProbe) {
    match &kvm.problem {
        Some(problem) => page.row("KVM", problem),
        None => page.row(
            "KVM",
            match kvm.kind {
                KvmKind::Hardware => "usable, by the processor's virtualization",
                KvmKind::Nested => "usable, by the processor's virtualization as another hypervisor lends it",
                KvmKind::Interpreting => {
                    "usable, but it interprets: guests' kernel code does not run by the processor's virtualization"
                }
                KvmKind::Absent | KvmKind::Unknown => "usable; what runs guests' kernel code cannot be told",
            },
        ),
    }
    if !kvm.evidence.is_empty() {
        page.more(&format!("because {}", kvm.evidence.join("; ")));
    }
    if !kvm.usable {
        return;
    }
    match &kvm.vm.problem {
        Some(problem) => page.more(&format!("no VM can be made: {problem}")),
        None => page.more("a VM can be made"),
    }
    // The capabilities of each mechanism, and no others: the JSON has them all.
    let capabilities = [
        (
            "SEV",
            &["KVM_CAP_VM_TYPES", "KVM_CAP_VM_COPY_ENC_CONTEXT_FROM", "KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM"][..],
        ),
        (
            "IBM Z",
            &[
                "KVM_CAP_S390_PROTECTED",
                "KVM_CAP_S390_PROTECTED_DUMP",
                "KVM_CAP_S390_PROTECTED_ASYNC_DISABLE",
            ],
        ),
        ("POWER", &["KVM_CAP_PPC_SECURE_GUEST"]),
    ];
    for (name, names) in capabilities {
        let answers: Vec<_> = names
            .iter()
            .map(|name| format!("{name} {}", kvm.capabilities.get(*name).copied().unwrap_or(0)))
            .collect();
        page.more(&format!("for {name}: {}", answers.join(", ")));
    }
}

fn sev(page: &mut Page, sev: &SevProbe) {
    let cpu = &sev.cpu;
    if cpu.sev {
        let also: Vec<_> = [(true, "SEV"), (cpu.sev_es, "SEV-ES"), (cpu.sev_snp, "SEV-SNP")]
            .into_iter()
            .filter_map(|(has, name)| has.then_some(name))
            .collect();
        page.row(
            "SEV",
            &format!(
                "the processor has {} (C-bit {}, {} address bits fewer, {} guests at a time, ASIDs below {} only with \
                 SEV-ES)",
                also.join(", "),
                cpu.c_bit,
                cpu.reduced_phys_bits,
                cpu.max_guests,
                cpu.min_non_es_asid
            ),
        );
    } else {
        // What /dev/sev says, or why it says nothing, matters to no other processor.
        return page.row("SEV", "the processor does not have it (CPUID leaf 0x8000001F)");
    }
    let SevModule { sev: plain, sev_es, sev_snp } = sev.module;
    let on = |value: Option<bool>| match value {
        Some(true) => "on",
        Some(false) => "off",
        None => "not there",
    };
    page.more(&format!("in kvm_amd: sev {}, sev_es {}, sev_snp {}", on(plain), on(sev_es), on(sev_snp)));
    match (&sev.platform, &sev.problem) {
        (Some(platform), _) => page.more(&format!(
            "/dev/sev: API {}.{} build {}, state {}, {} guests",
            platform.api_major,
            platform.api_minor,
            platform.build,
            platform.state.name(),
            platform.guests
        )),
        (None, Some(problem)) => page.more(problem),
        (None, None) => {}
    }
}

fn pv(page: &mut Page, pv: &PvProbe) {
    page.row("Ultravisor", &format!("facility 158 {}", yes(pv.facility_158, "there")));
    let parameter =
        pv.prot_virt_parameter.as_deref().map_or("not given".to_owned(), |value| format!("={value}"));
    page.more(&format!("prot_virt on the kernel's command line: {parameter}"));
    let switch = |value| match value {
        Some(true) => "1",
        Some(false) => "0",
        None => "absent",
    };
    page.more(&format!(
        "/sys/firmware/uv: prot_virt_host {}, prot_virt_guest {}",
        switch(pv.prot_virt_host),
        switch(pv.prot_virt_guest)
    ));
}

fn pef(page: &mut Page, pef: &PefProbe) {
    let unknown = || "not told".to_owned();
    page.row("Ultravisor", &format!("{} in the device tree (ibm,ultravisor)", yes(pef.ultravisor, "there")));
    page.more(&format!(
        "processor {}, platform {}",
        pef.cpu.clone().unwrap_or_else(unknown),
        pef.platform.clone().unwrap_or_else(unknown)
    ));
    if pef.secure_vm == Some(true) {
        page.more("this is a secure VM itself");
    }
}

fn tpm(tpm: &[Tpm]) -> String {
    let device = |tpm: &Tpm| {
        let version = tpm.version.as_ref().map_or_else(String::new, |version| format!(" (TPM {version})"));
        let usable = if tpm.usable { "" } else { ", not for this user" };
        format!("{}{version}{usable}", tpm.path)
    };
    if tpm.is_empty() {
        "neither /dev/tpm0 nor /dev/tpmrm0".to_owned()
    } else {
        tpm.iter().map(device).collect::<Vec<_>>().join("; ")
    }
}

fn huge_pages(pages: &HugePages) -> String {
    let transparent = pages.transparent.as_deref().unwrap_or("not in this kernel");
    let pools =
        pages.pools.iter().map(|pool| format!("{} KiB: {} of {} free", pool.kib, pool.free, pool.total));
    std::iter::once(format!("transparent: {transparent}")).chain(pools).collect::<Vec<_>>().join("; ")
}

fn platform(page: &mut Page, platform: &ModelPlatform) {
    match (&platform.folder, platform.named_by, &platform.problem) {
        (Some(folder), Some(by), _) => page.row("Found", &format!("{} ({by})", folder.display())),
        (_, _, Some(problem)) => page.row("Found", &format!("none: {problem}")),
        (_, _, None) => page.row("Found", "none; each run makes a machine that ends with it"),
    }
    page.row("Looked for", platform.looked_for.first().map_or("", String::as_str));
    for place in platform.looked_for.iter().skip(1) {
        page.more(place);
    }
}

fn yes(is: bool, word: &str) -> String {
    if is { word.to_owned() } else { format!("not {word}") }
}

/// Rows of a label and text that is wrapped beside it.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn title(&mut self, title: &str) {
        self.text.push_str(title);
        self.text.push('\n');
    }

    fn row(&mut self, label: &str, text: &str) {
        let label = format!("  {label}");
        self.wrap(&format!("{label:<COLUMN$}"), COLUMN + 2, text);
    }

    fn more(&mut self, text: &str) {
        // What belongs to a row stands a little further in when it is wrapped.
        self.wrap(&" ".repeat(COLUMN), COLUMN + 2, text);
    }

    fn paragraph(&mut self, label: &str, text: &str) {
        self.title(&format!("  {label}"));
        self.wrap("    ", 4, text);
    }

    fn gap(&mut self) {
        self.text.push('\n');
    }

    fn wrap(&mut self, first: &str, indent: usize, text: &str) {
        let mut line = first.to_owned();
        let mut empty = true;
        for word in text.split_whitespace() {
            if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
                self.title(&line);
                line = " ".repeat(indent);
                empty = true;
            }
            if !empty {
                line.push(' ');
            }
            line.push_str(word);
            empty = false;
        }
        self.title(&line);
    }
}

const COLUMN: usize = 21;
const WIDTH: usize = 100;
