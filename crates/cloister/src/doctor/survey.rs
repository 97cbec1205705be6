//! What a host has, as plain data. The fields are the JSON's; `doctor.rs` lists them.

use super::verdict::{Verdict, verdicts};
use cloister_kvm::probe::parse_flag;
use cloister_kvm::{Host, HostProbe, probe};
use cloister_platform_store::{Environment, Source, locate};
use rustix::fs::{Access, AtFlags, CWD, accessat};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Where to look. Everything is a value, so that tests give another host.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) host: Host,
    pub(super) environment: Environment,
    /// The folder that the user names.
    pub(super) platform: Option<PathBuf>,
    /// Bytes that this process may lock; `None` is no limit.
    pub(super) memory_lock: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Survey {
    pub(super) format: &'static str,
    pub(super) kernel: Option<String>,
    #[serde(flatten)]
    pub(super) host: HostProbe,
    pub(super) tpm: Vec<Tpm>,
    pub(super) huge_pages: HugePages,
    pub(super) userfaultfd: Userfaultfd,
    pub(super) memory_lock: MemoryLock,
    pub(super) model_platform: ModelPlatform,
    pub(super) mechanisms: Vec<Verdict>,
}

#[derive(Debug, Serialize)]
pub(super) struct Tpm {
    pub(super) path: &'static str,
    pub(super) usable: bool,
    pub(super) version: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct HugePages {
    pub(super) transparent: Option<String>,
    pub(super) pools: Vec<Pool>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Pool {
    pub(super) kib: u64,
    pub(super) total: u64,
    pub(super) free: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Userfaultfd {
    pub(super) usable: bool,
    pub(super) reason: &'static str,
}

#[derive(Debug, Serialize)]
pub(super) struct MemoryLock {
    pub(super) unlimited: bool,
    pub(super) bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct ModelPlatform {
    pub(super) folder: Option<PathBuf>,
    pub(super) named_by: Option<&'static str>,
    pub(super) problem: Option<String>,
    pub(super) looked_for: Vec<String>,
}

pub(super) fn survey(place: &Place) -> Survey {
    let host = &place.host;
    let probe = probe(host);
    let tpm = tpm(host);
    let model_platform = model_platform(place);
    Survey {
        format: "cloister-doctor-1",
        kernel: host.read("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned()),
        mechanisms: verdicts(&probe, &tpm, &model_platform),
        host: probe,
        tpm,
        huge_pages: huge_pages(host),
        userfaultfd: userfaultfd(host),
        memory_lock: MemoryLock { unlimited: place.memory_lock.is_none(), bytes: place.memory_lock },
        model_platform,
    }
}

fn tpm(host: &Host) -> Vec<Tpm> {
    // The second one is the kernel's resource manager, which several programs can share.
    let devices = [("/dev/tpm0", "tpm0"), ("/dev/tpmrm0", "tpm0")];
    let present = devices.into_iter().filter(|(path, _)| host.has(path));
    let tpm = |(path, name)| Tpm {
        path,
        usable: usable(host, path),
        version: host
            .read(&format!("/sys/class/tpm/{name}/tpm_version_major"))
            .map(|text| text.trim().to_owned()),
    };
    present.map(tpm).collect()
}

/// Whether this user may read and write a device. It is not opened: a TPM would be taken from others.
fn usable(host: &Host, path: &str) -> bool {
    accessat(CWD, host.path(path), Access::READ_OK | Access::WRITE_OK, AtFlags::EACCESS).is_ok()
}

fn huge_pages(host: &Host) -> HugePages {
    let pools = "/sys/kernel/mm/hugepages";
    let number = |name: &str, file: &str| -> Option<u64> {
        host.read(&format!("{pools}/{name}/{file}"))?.trim().parse().ok()
    };
    let pool = |name: &str| {
        Some(Pool {
            kib: pool_size(name)?,
            total: number(name, "nr_hugepages")?,
            free: number(name, "free_hugepages")?,
        })
    };
    let names = std::fs::read_dir(host.path(pools)).into_iter().flatten().filter_map(Result::ok);
    let mut pools: Vec<_> = names.filter_map(|entry| pool(entry.file_name().to_str()?)).collect();
    pools.sort_by_key(|pool| pool.kib);
    let transparent = host.read("/sys/kernel/mm/transparent_hugepage/enabled");
    HugePages { transparent: transparent.and_then(|text| chosen(&text)), pools }
}

/// Kibibytes out of `hugepages-2048kB`.
pub(super) fn pool_size(name: &str) -> Option<u64> {
    name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()
}

/// The word in brackets of `always [madvise] never`.
pub(super) fn chosen(text: &str) -> Option<String> {
    let (word, _) = text.split_once('[')?.1.split_once(']')?;
    Some(word.trim().to_owned()).filter(|word| !word.is_empty())
}

fn userfaultfd(host: &Host) -> Userfaultfd {
    let anybody = host.read("/proc/sys/vm/unprivileged_userfaultfd").and_then(|text| parse_flag(&text));
    let device = host.has("/dev/userfaultfd");
    let status = host.read("/proc/self/status").unwrap_or_default();
    let may_trace = effective_capabilities(&status).is_some_and(|set| set >> CAP_SYS_PTRACE & 1 != 0);
    let (usable, reason) = match anybody {
        // Without the sysctl there is no userfaultfd before Linux 5.2, and none that was left out of the kernel.
        None => (false, "this kernel has no /proc/sys/vm/unprivileged_userfaultfd"),
        Some(true) => (true, "vm.unprivileged_userfaultfd is 1: anybody may use it"),
        Some(false) if may_trace => (true, "this process has the capability CAP_SYS_PTRACE"),
        Some(false) if device && usable(host, "/dev/userfaultfd") => {
            (true, "this user may open /dev/userfaultfd")
        }
        Some(false) if device => (
            false,
            "vm.unprivileged_userfaultfd is 0 and this user may not open /dev/userfaultfd; change either",
        ),
        Some(false) => (
            false,
            "vm.unprivileged_userfaultfd is 0 and there is no /dev/userfaultfd; sysctl vm.unprivileged_userfaultfd=1",
        ),
    };
    Userfaultfd { usable, reason }
}

/// The set in `CapEff` of /proc/self/status.
pub(super) fn effective_capabilities(status: &str) -> Option<u64> {
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(set.trim(), 16).ok()
}

/// Linux, include/uapi/linux/capability.h.
const CAP_SYS_PTRACE: u32 = 19;

fn model_platform(place: &Place) -> ModelPlatform {
    let environment = &place.environment;
    let mut looked_for = Vec::new();
    let mut look = |name: &str, folder: Option<&Path>| {
        looked_for.push(match folder {
            Some(folder) => format!("{name}: {}", folder.display()),
            None => format!("{name}: not given"),
        });
    };
    look("--platform", place.platform.as_deref());
    look("$CLOISTER_PLATFORM", environment.cloister_platform.as_ref().map(Path::new));
    look("system", Some(&environment.system));
    look("user", environment.user_folder().as_deref());
    match locate(place.platform.as_deref(), environment) {
        Ok(Some(located)) => ModelPlatform {
            folder: Some(located.folder),
            named_by: Some(match located.source {
                Source::Option => "option",
                Source::Variable => "variable",
                Source::System => "system",
                Source::User => "user",
            }),
            problem: None,
            looked_for,
        },
        Ok(None) => ModelPlatform { folder: None, named_by: None, problem: None, looked_for },
        Err(error) => {
            ModelPlatform { folder: None, named_by: None, problem: Some(error.to_string()), looked_for }
        }
    }
}
