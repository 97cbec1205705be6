//! `cloister sev conformance`: a fixed sequence of firmware commands, recorded and compared.
//!
//! A transcript says of each command what was asked, in which states, and what the firmware answered: sizes, digests
//! of public inputs, statuses. So a model and a machine, or two versions of either, can be compared by anyone. It holds
//! no key, no plaintext of a guest and no certificate. The sequence is described in docs/sev-conformance.md.

mod kernel;
mod mailbox;
mod sequence;
mod subject;

use super::files::{name, read};
use super::{hex, notice};
use crate::out;
use anyhow::{Context, bail};
use clap::Args;
use cloister_crypto::{SystemEntropy, sha256};
use cloister_kvm::RealKernel;
use cloister_owner::sev::save::{Output, save};
use cloister_platform_store::{Sev, SevPlatform};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use subject::{Action, Answer, States, Subject};

/// Record what a platform's firmware answers to a fixed sequence of commands, or compare it with a record
#[derive(Debug, Args)]
pub(crate) struct Conformance {
    /// Write the transcript: one JSON object on each line
    #[arg(long, value_name = "FILE", required_unless_present = "replay", conflicts_with = "replay")]
    record: Option<PathBuf>,
    /// Compare with this transcript, and name the first difference (status 1)
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// A model platform; without it one that is made for this run
    #[arg(short, long, value_name = "DIR", conflicts_with = "kvm")]
    platform: Option<PathBuf>,
    /// This host's firmware, through /dev/kvm and /dev/sev; what the kernel does not offer is left out
    #[arg(long)]
    kvm: bool,
    /// Also the commands that change the platform's keys and owner for good: PEK_GEN, PDH_GEN, PEK_CERT_IMPORT,
    /// PLATFORM_RESET. Always done with a platform that is made for this run
    #[arg(long)]
    change_keys: bool,
    /// Replace the file
    #[arg(long, requires = "record")]
    force: bool,
}

impl Conformance {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let change_keys = self.change_keys || (self.platform.is_none() && !self.kvm);
        let mut subject: Box<dyn Subject> = if self.kvm {
            Box::new(kernel::Host::new(Arc::new(RealKernel::new()))?)
        } else {
            let platform = match &self.platform {
                // Its commands go through states that guests of others must not see.
                Some(folder) => SevPlatform::open_to_change(folder)?,
                None => SevPlatform::ephemeral(Sev::default(), &mut SystemEntropy),
            };
            Box::new(mailbox::Model::new(platform)?)
        };
        let transcript = transcript(subject.as_mut(), change_keys)?;
        let counted = |lines: &[Line]| {
            let left_out = lines.iter().filter(|line| line.left_out.is_some()).count();
            format!("{} commands, {left_out} of them left out", lines.len())
        };
        if let Some(file) = &self.record {
            save(
                &[Output { file: file.clone(), bytes: transcript.to_text()?.as_bytes(), private: false }],
                self.force,
            )?;
            out::line(&format!(
                "{}: {} on {}",
                name(file),
                counted(&transcript.lines),
                transcript.head.subject
            ));
            return Ok(ExitCode::SUCCESS);
        }
        let file = self.replay.as_ref().context("neither --record nor --replay")?;
        let recorded = Transcript::parse(&String::from_utf8_lossy(&read(file, LIMIT)?))
            .with_context(|| format!("{} is no transcript of this sequence", name(file)))?;
        if recorded.head.version_text() != transcript.head.version_text() {
            notice(&format!(
                "{} was recorded on {}, this is {}",
                name(file),
                recorded.head.version_text(),
                transcript.head.version_text()
            ));
        }
        match recorded.difference(&transcript) {
            Ok(compared) => {
                out::line(&format!(
                    "OK: {compared} commands answered as in {} ({})",
                    name(file),
                    recorded.head.subject
                ));
                Ok(ExitCode::SUCCESS)
            }
            Err(difference) => {
                out::line(&format!("DIFFERENT: {difference}"));
                Ok(ExitCode::FAILURE)
            }
        }
    }
}

/// Goes through the sequence.
fn transcript(subject: &mut dyn Subject, change_keys: bool) -> anyhow::Result<Transcript> {
    let head = subject.head()?;
    let states = subject.states()?;
    let mut recorder = Recorder { subject, change_keys, states, lines: Vec::new() };
    sequence::run(&mut recorder)?;
    Ok(Transcript { head, lines: recorder.lines })
}

/// What was asked and answered.
struct Transcript {
    head: Head,
    lines: Vec<Line>,
}

/// First line of a transcript.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    transcript: String,
    version: u32,
    subject: String,
    api_major: u8,
    api_minor: u8,
    build_id: u8,
    sev_es: bool,
}

impl Head {
    fn new(subject: String, (api_major, api_minor, build_id): (u8, u8, u8), sev_es: bool) -> Self {
        Self {
            transcript: TRANSCRIPT.into(),
            version: VERSION,
            subject,
            api_major,
            api_minor,
            build_id,
            sev_es,
        }
    }

    fn version_text(&self) -> String {
        format!("API {}.{} build {}", self.api_major, self.api_minor, self.build_id)
    }
}

/// One command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    step: usize,
    command: String,
    case: String,
    before: StateNames,
    after: StateNames,
    inputs: Vec<Input>,
    /// Name of the firmware's status.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    code: Option<u32>,
    outputs: Vec<Size>,
    /// Why it was not asked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    left_out: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct StateNames {
    platform: String,
    guest: String,
}

impl From<States> for StateNames {
    fn from((platform, guest): States) -> Self {
        let name = |name: Option<&str>, number: u8| name.map_or_else(|| number.to_string(), str::to_owned);
        Self { platform: name(platform.name(), platform.0), guest: name(guest.name(), guest.0) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Input {
    name: String,
    size: usize,
    sha256: String,
    /// The same on every platform, so that the digest can be compared.
    fixed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Size {
    name: String,
    size: usize,
}

impl Transcript {
    fn to_text(&self) -> anyhow::Result<String> {
        let mut text = serde_json::to_string(&self.head)? + "\n";
        for line in &self.lines {
            text += &serde_json::to_string(line)?;
            text.push('\n');
        }
        Ok(text)
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let mut lines = text.lines();
        let first = lines.next().context("it is empty")?;
        let head: Head = serde_json::from_str(first).context("line 1")?;
        if (head.transcript.as_str(), head.version) != (TRANSCRIPT, VERSION) {
            bail!(
                "it is a '{}' of version {}; this program has version {VERSION}",
                head.transcript,
                head.version
            );
        }
        let lines = lines
            .enumerate()
            .map(|(at, line)| serde_json::from_str(line).with_context(|| format!("line {}", at + 2)));
        Ok(Self { head, lines: lines.collect::<anyhow::Result<_>>()? })
    }

    /// How many commands were answered alike, or the first that was not. What one of the two left out is passed over.
    fn difference(&self, here: &Self) -> Result<usize, String> {
        let mut compared = 0;
        for (recorded, now) in self.lines.iter().zip(&here.lines) {
            let at = format!("step {} {} ({})", recorded.step, recorded.command, recorded.case);
            let differs = |what: &str, recorded: &dyn std::fmt::Debug, now: &dyn std::fmt::Debug| {
                Err(format!("{at}: {what}: recorded {recorded:?}, here {now:?}"))
            };
            if (&recorded.command, &recorded.case) != (&now.command, &now.case) {
                return differs("the command", &recorded.command, &format!("{} ({})", now.command, now.case));
            }
            if recorded.left_out.is_some() || now.left_out.is_some() {
                continue;
            }
            let inputs = |line: &Line| -> Vec<(String, usize, String)> {
                let digest = |input: &Input| if input.fixed { input.sha256.clone() } else { String::new() };
                line.inputs.iter().map(|input| (input.name.clone(), input.size, digest(input))).collect()
            };
            if inputs(recorded) != inputs(now) {
                return differs("the inputs", &recorded.inputs, &now.inputs);
            }
            if recorded.before != now.before {
                return differs("the states before", &recorded.before, &now.before);
            }
            if recorded.code != now.code {
                let status = |line: &Line| line.status.clone().unwrap_or_default();
                return differs("the status", &status(recorded), &status(now));
            }
            if recorded.after != now.after {
                return differs("the states after", &recorded.after, &now.after);
            }
            // A kernel does not pass on what the firmware wrote beside a refusal.
            let told = !recorded.outputs.is_empty() && !now.outputs.is_empty();
            if (recorded.code == Some(0) || told) && recorded.outputs != now.outputs {
                return differs("the outputs", &recorded.outputs, &now.outputs);
            }
            compared += 1;
        }
        if self.lines.len() != here.lines.len() {
            return Err(format!(
                "the number of commands: recorded {}, here {}; the transcript is not whole",
                self.lines.len(),
                here.lines.len()
            ));
        }
        Ok(compared)
    }
}

/// Asks, and writes down.
struct Recorder<'a> {
    subject: &'a mut dyn Subject,
    change_keys: bool,
    states: States,
    lines: Vec<Line>,
}

impl Recorder<'_> {
    /// A command; what it brought, by position, if it succeeded.
    fn step(&mut self, case: &str, action: &Action) -> anyhow::Result<Vec<Vec<u8>>> {
        let answer = self.subject.perform(action)?;
        self.note(case, action, answer)
    }

    /// A command that changes the platform's keys for good.
    fn key_step(&mut self, case: &str, action: &Action) -> anyhow::Result<Vec<Vec<u8>>> {
        if self.change_keys {
            return self.step(case, action);
        }
        self.note(case, action, Answer::LeftOut("it changes the platform's keys (--change-keys)".into()))
    }

    /// A command that only a platform with SEV-ES can be asked.
    fn es_step(&mut self, case: &str, action: &Action) -> anyhow::Result<Vec<Vec<u8>>> {
        if self.subject.es() {
            return self.step(case, action);
        }
        self.note(case, action, Answer::LeftOut("the platform has no SEV-ES".into()))
    }

    /// A command that only a platform without SEV-ES is asked.
    fn plain_step(&mut self, case: &str, action: &Action) -> anyhow::Result<Vec<Vec<u8>>> {
        if !self.subject.es() {
            return self.step(case, action);
        }
        self.note(case, action, Answer::LeftOut("the platform has SEV-ES".into()))
    }

    fn note(&mut self, case: &str, action: &Action, answer: Answer) -> anyhow::Result<Vec<Vec<u8>>> {
        let after = match answer {
            Answer::LeftOut(_) => self.states,
            Answer::Firmware(..) => self.subject.states()?,
        };
        let inputs = action.inputs().into_iter().map(|(name, bytes, fixed)| Input {
            name: name.into(),
            size: bytes.len(),
            sha256: hex(&sha256(bytes)),
            fixed,
        });
        let mut line = Line {
            step: self.lines.len() + 1,
            command: action.command().to_string(),
            case: case.into(),
            before: self.states.into(),
            after: after.into(),
            inputs: inputs.collect(),
            status: None,
            code: None,
            outputs: Vec::new(),
            left_out: None,
        };
        let mut brought = Vec::new();
        match answer {
            Answer::LeftOut(why) => line.left_out = Some(why),
            Answer::Firmware(status, outputs) => {
                line.status = Some(status.name().map_or_else(|| format!("{:#x}", status.0), str::to_owned));
                line.code = Some(status.0);
                for (name, bytes) in outputs {
                    line.outputs.push(Size { name: name.into(), size: bytes.len() });
                    brought.push(bytes);
                }
            }
        }
        self.states = after;
        self.lines.push(line);
        Ok(brought)
    }
}

const TRANSCRIPT: &str = "cloister sev conformance";
const VERSION: u32 = 1;
/// Larger than any transcript.
const LIMIT: u64 = 4 << 20;
