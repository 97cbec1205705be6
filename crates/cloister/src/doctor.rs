//! `cloister doctor`: what this host can do for confidential guests, in words or as JSON.
//!
//! It looks and changes nothing, and what is absent is an answer: it ends with status 0. It is not a test of
//! a guest; `cloister demo` is one.
//!
//! # The JSON
//!
//! One object. `format` is `cloister-doctor-1`; a field may be added under it, none is renamed or removed.
//!
//! | Field | Is |
//! |---|---|
//! | `arch`, `kernel` | name of the architecture; release of the kernel or null |
//! | `kvm.usable`, `.problem` | whether /dev/kvm opens; else why not |
//! | `kvm.kind`, `.evidence` | `hardware`, `nested`, `interpreting`, `absent`, `unknown`; what that is concluded from |
//! | `kvm.vm` | `can_be_made`, `problem`, `can_be_encrypted` |
//! | `kvm.capabilities` | answers by the name in the kernel's headers |
//! | `sev` | null but on x86_64: `cpu` (CPUID 0x8000001F), `module` (kvm_amd), `platform` (/dev/sev) or `problem` |
//! | `pv` | null but on s390x: `facility_158`, `facility_161`, `prot_virt_parameter`, `prot_virt_host`, `prot_virt_guest` |
//! | `pef` | null but on powerpc64: `cpu`, `platform`, `ultravisor`, `secure_vm` |
//! | `tpm` | of each device `path`, `usable`, `version` |
//! | `huge_pages` | `transparent`, `pools` with `kib`, `total`, `free` |
//! | `userfaultfd` | `usable`, `reason` |
//! | `memory_lock` | `unlimited`, `bytes` |
//! | `model_platform` | `folder` or null, `named_by`, `problem`, `looked_for` |
//! | `mechanisms` | of each `mechanism` (`sev`, `pef`, `pv`), `name`, `runs_on` (`software` or null), `hardware_ready`, `missing`, `sentence` |

mod survey;
mod verdict;
mod words;

#[cfg(test)]
mod tests;

use crate::out;
use clap::Args;
use cloister_kvm::Host;
use cloister_platform_store::Environment;
use std::path::PathBuf;
use std::process::ExitCode;
use survey::{Place, survey};

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Print JSON; its fields keep their names
    #[arg(long)]
    json: bool,
    /// The folder of the model machine that `-platform` would name
    #[arg(long, value_name = "DIR")]
    platform: Option<PathBuf>,
}

impl Doctor {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let memory_lock = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
        let place = Place {
            host: Host::here(),
            environment: Environment::of_this_process(),
            platform: self.platform,
            memory_lock,
        };
        let found = survey(&place);
        if self.json {
            out::line(&serde_json::to_string_pretty(&found)?);
        } else {
            out::line(words::words(&found).trim_end());
        }
        Ok(ExitCode::SUCCESS)
    }
}
