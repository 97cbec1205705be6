//! `cloister sev session`.

use super::files::{TrustFiles, certificates, name};
use crate::out;
use anyhow::Context;
use clap::Args;
use cloister_crypto::SystemEntropy;
use cloister_formats::sev::policy::Policy;
use cloister_owner::sev::save::{Output, save};
use cloister_owner::sev::session::{Random, start};
use cloister_owner::sev::{SevError, input};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, Args)]
pub(crate) struct Session {
    /// What the files' names begin with: NAME_godh.b64, NAME_session.b64, NAME_tik.bin, NAME_tek.bin
    #[arg(short, long, value_name = "NAME", default_value = "vm")]
    name: String,
    /// The platform's certificates: PDH alone or a chain, binary or base64, sevtool's zip, the answer of
    /// query-sev-capabilities, or the output of `virsh nodesevinfo`
    #[arg(value_name = "PDH-OR-CHAIN")]
    platform: PathBuf,
    /// The guest's policy, in decimal or as 0x...
    #[arg(value_name = "POLICY", value_parser = input::policy)]
    policy: Policy,
    #[command(flatten)]
    trust: TrustFiles,
    /// Replace files of the same name
    #[arg(short, long)]
    force: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Session {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let mut chain = certificates(&self.platform)?;
        self.trust.verify_as_far_as_possible(&self.platform, &mut chain)?;
        let file = name(&self.platform);
        let pdh = chain.pdh.as_ref().ok_or_else(|| SevError::Missing {
            file: file.clone(),
            what: "PDH",
            hint: "a session is made for the platform's PDH: export it with the chain, or give it first in one file",
        })?;
        let (major, minor) = pdh.api();
        if (major, minor) != (0, 0) && !self.policy.accepts_api(major, minor) {
            super::notice(&format!(
                "warning: the policy demands API {}.{}, and the platform's PDH was made by firmware with API \
                 {major}.{minor}: LAUNCH_START fails with POLICY_FAILURE unless the firmware is newer by now",
                self.policy.api_major(),
                self.policy.api_minor()
            ));
        }
        let launch = start(&file, pdh, self.policy, Random::draw(&mut SystemEntropy))?;
        let [godh, session] = [&launch.godh.encode()[..], &launch.session.encode()].map(input::to_base64);
        let output = |suffix: &str, bytes, private| Output { file: self.file(suffix), bytes, private };
        save(
            &[
                output("tik.bin", &launch.keys.tik.expose()[..], true),
                output("tek.bin", &launch.keys.tek.expose()[..], true),
                output("godh.b64", godh.as_bytes(), false),
                output("session.b64", session.as_bytes(), false),
            ],
            self.force,
        )
        .with_context(|| format!("no session is made for {file}"))?;
        if self.json {
            let file = |suffix| self.file(suffix).display().to_string();
            let made = json!({
                "policy": self.policy.0,
                "godh": file("godh.b64"),
                "session": file("session.b64"),
                "tik": file("tik.bin"),
                "tek": file("tek.bin"),
            });
            out::line(&format!("{made:#}"));
        }
        Ok(ExitCode::SUCCESS)
    }

    fn file(&self, suffix: &str) -> PathBuf {
        Path::new(&format!("{}_{suffix}", self.name)).to_owned()
    }
}
