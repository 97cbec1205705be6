//! `cloister demo`: a small guest in protected mode, looked at from both sides.
//!
//! It makes a model machine, runs the guest in the clear and as an encrypted image, looks at the page that
//! holds the guest's secret as a curious host would, and shows that an altered image is refused. It needs
//! no network, no privilege and no file but this program.
//!
//! It proves nothing about a real machine: the platform is a model, and the text says so.

mod owner;
mod run;
mod sev;
mod view;

use crate::out;
use anyhow::Context;
use clap::{Args, ValueEnum};
use cloister_crypto::SystemEntropy;
use cloister_owner::host_key::VerifyOptions;
use cloister_owner::image::{BootStages, CreateOptions, Report, Settings, Verification, create, inspect};
use cloister_platform_store::{create_s390x, show};
use owner::Owner;
use run::{Boot, Run};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Instant, SystemTime};
use view::Look;

/// Options of the demo.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// The kind of protection
    #[arg(value_enum, default_value_t = Mechanism::Pv)]
    mechanism: Mechanism,
    /// Keep the model machine and the images in this folder (new or empty)
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Draw who owns each page of the protected guest into this file (.svg or .png)
    #[arg(long, value_name = "FILE")]
    memory_map: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mechanism {
    /// IBM Secure Execution: a small guest boots and is looked at from both sides
    Pv,
    /// AMD SEV: a launch from both sides, without execution yet
    Sev,
}

impl Demo {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self.mechanism {
            Mechanism::Pv => {}
            Mechanism::Sev if self.memory_map.is_some() => {
                anyhow::bail!("--memory-map draws a guest of `cloister demo pv`; leave it out with sev")
            }
            Mechanism::Sev => return sev::run(self.keep.as_deref(), self.json),
        }
        let start = Instant::now();
        let stage = Stage { quiet: self.json };
        // The temporary folder goes with this value.
        let (_temporary, folder) = match &self.keep {
            Some(folder) => (None, new_folder(folder)?),
            None => {
                let temporary = tempfile::Builder::new().prefix("cloister-demo-").tempdir();
                let temporary = temporary.context("cannot make a temporary folder; name one with --keep")?;
                let folder = temporary.path().to_owned();
                (Some(temporary), folder)
            }
        };
        stage.title("A guest under IBM Secure Execution, seen from inside and from the host");
        stage.say("platform: MODEL of an IBM Z machine in software; it protects nobody from this machine's");
        stage.say("administrator");
        let files = prepare(&folder, &stage)?;

        stage.title("2. The guest in the clear, for comparison");
        let clear = run::run(&Boot::clear(&files), None, &stage)?;

        stage.title("3. The same guest as a Secure Execution guest");
        let owner = Owner::new(&files.image, &document(&files), &verification(&files))?;
        let protected = run::run(&Boot::protected(&files, &files.image), Some(owner), &stage)?;
        if let (Some(path), Some(map)) = (&self.memory_map, protected.look.as_ref().and_then(Look::map)) {
            cloister_memory_map::write_picture(path, map)?;
            stage.say(&format!("host  | {} shows who owns each page", path.display()));
        }

        stage.title("4. The image with one bit flipped");
        let flipped_at = flip(&files)?;
        stage.say(&format!("bit 0 of byte {flipped_at:#x}, in the encrypted kernel"));
        let altered = run::run(&Boot::protected(&files, &files.altered), None, &stage)?;

        // For the user's own runs: nobody is there for whom the guest would have to wait.
        let by_hand = folder.join("guest.img");
        if self.keep.is_some() {
            pack(&files, &by_hand, None)?;
        }
        let verdicts = verdicts(&clear, &protected, &altered);
        let good = verdicts.iter().all(|verdict| verdict.holds);
        let seconds = start.elapsed().as_secs_f64();
        if self.json {
            let report = json!({
                "ok": good,
                "model": true,
                "platform": protected.platform,
                "seconds": seconds,
                "clear": clear.to_json(),
                "protected": protected.to_json(),
                "altered": altered.to_json(),
                "verdicts": verdicts.iter().map(|verdict| {
                    json!({"holds": verdict.holds, "what": verdict.text()})
                }).collect::<Vec<_>>(),
                "folder": self.keep.as_ref().map(|folder| folder.display().to_string()),
            });
            out::line(&format!("{report:#}"));
        } else {
            out::line(&format!("\nSummary ({seconds:.1} s)"));
            for verdict in &verdicts {
                let mark = if verdict.holds { "ok" } else { "FAILED" };
                out::line(&format!("  {mark:<6} {}", verdict.text()));
            }
            out::line(
                "  note   the platform is a MODEL in software: it shows what Secure Execution does and",
            );
            out::line("         protects nobody from the administrator of this machine");
            if let Some(folder) = &self.keep {
                out::line(&format!("\nEverything is in {}. The protected guest again:", folder.display()));
                out::line(&format!("  {}", Boot::protected(&files, &by_hand).by_hand()));
            }
        }
        Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// What the demo keeps in its folder.
struct Files {
    platform: PathBuf,
    kernel: PathBuf,
    image: PathBuf,
    altered: PathBuf,
}

/// Where the demo's words go.
struct Stage {
    /// Nothing but the JSON at the end.
    quiet: bool,
}

impl Stage {
    fn title(&self, text: &str) {
        if !self.quiet {
            out::line(&format!("\n{text}"));
        }
    }

    fn say(&self, text: &str) {
        if !self.quiet {
            out::line(&format!("   {text}"));
        }
    }

    fn guest(&self, line: &str) {
        self.say(&format!("guest | {line}"));
    }

    fn host(&self, look: &Look) {
        for line in look.to_string().lines() {
            self.say(&format!("host  | {line}"));
        }
    }

    fn owner(&self, line: &str) {
        self.say(&format!("owner | {line}"));
    }

    fn machine(&self, message: &str) {
        self.say(&format!("vmm   | {message}"));
    }
}

/// One sentence of the summary.
struct Verdict {
    holds: bool,
    good: String,
    bad: String,
}

impl Verdict {
    fn text(&self) -> &str {
        if self.holds { &self.good } else { &self.bad }
    }
}

fn verdicts(clear: &Run, protected: &Run, altered: &Run) -> [Verdict; 5] {
    let seen = |run: &Run| run.look.as_ref().is_some_and(Look::finds_secret);
    let noise = protected.look.as_ref().is_some_and(Look::is_noise);
    let refusal = altered.messages.iter().find_map(|message| refusal(message));
    [
        Verdict {
            holds: seen(clear) && clear.powered_off(),
            good: "in the clear, the host finds the guest's secret in its memory".into(),
            bad: format!("in the clear, the host should have found the secret ({})", clear.end),
        },
        Verdict {
            holds: noise && !seen(protected),
            good: "protected, it finds zeros and ciphertext, and the secret nowhere in 32 MiB".into(),
            bad: "protected, the host's view should have been noise".into(),
        },
        Verdict {
            holds: protected.says("protected: yes")
                && protected.says("random bytes: ")
                && protected.says("marker intact")
                && protected.powered_off(),
            good: "the guest runs protected, uses virtio through a shared page, finds its secret intact"
                .into(),
            bad: format!("the protected guest did not do its work ({})", protected.end),
        },
        Verdict {
            holds: protected.owner.as_ref().is_some_and(Owner::satisfied),
            good: "its owner attests it and gives it a secret that the host carries and never sees".into(),
            bad: "the owner could not attest the guest or give it a secret".into(),
        },
        Verdict {
            holds: refusal.is_some() && !altered.says("protected: yes"),
            good: format!("one flipped bit: the launch is refused ({})", refusal.unwrap_or_default()),
            bad: format!("the altered image should have been refused ({})", altered.end),
        },
    ]
}

/// Code and meaning from the machine's message about a refused Ultravisor call:
/// `Verify Image failed: rc 102 rrc 1b: what it means; what to do`.
fn refusal(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once(" failed: rc ")?;
    let start = message.len() - rest.len() - "rc ".len();
    let (words, _) = message[start..].split_once(';')?;
    Some(words)
}

/// Makes the model machine, the guest and the image.
fn prepare(folder: &Path, stage: &Stage) -> anyhow::Result<Files> {
    let files = Files {
        platform: folder.join("platform"),
        kernel: folder.join("guest.bin"),
        image: folder.join("guest-watched.img"),
        altered: folder.join("guest-altered.img"),
    };
    stage.title("1. A model machine and an encrypted image for it");
    let keys = Default::default();
    create_s390x(&files.platform, &keys, &mut SystemEntropy, SystemTime::now())?;
    let subject = show(&files.platform)?.certificates.first().map(|host| host.subject.clone());
    let unit = subject.as_deref().and_then(unit).unwrap_or("a model machine");
    stage.say(&format!("host-key document of: {unit}"));

    write(&files.kernel, GUEST)?;
    let parmfile = folder.join("guest.parm");
    write(&parmfile, WATCH.as_bytes())?;
    let report = pack(&files, &files.image, Some(parmfile))?;
    stage.say("verified offline: chain up to the model's root, validity, revocation lists");
    stage.say(&format!("image: {} bytes, {} encrypted pages", report.size, report.pages));
    Ok(files)
}

/// Makes an image of the guest for the model machine.
fn pack(files: &Files, output: &Path, parmfile: Option<PathBuf>) -> anyhow::Result<Report> {
    let options = CreateOptions {
        kernel: files.kernel.clone(),
        ramdisk: None,
        parmfile,
        output: output.to_owned(),
        overwrite: false,
        host_key_documents: vec![document(files)],
        verification: verification(files),
        cck: None,
        header_key: None,
        image_key: None,
        settings: Settings::default(),
    };
    Ok(create(&options, &BootStages::BUILT_IN, &mut SystemEntropy, &mut |_| {})?)
}

/// The model machine's host-key document.
fn document(files: &Files) -> PathBuf {
    files.platform.join("host.crt")
}

/// How its owner verifies it.
fn verification(files: &Files) -> Verification {
    let of_platform = |name: &str| files.platform.join(name);
    Verification::Offline(VerifyOptions {
        certificates: vec![of_platform("signing.crt")],
        crls: vec![of_platform("root-ca.crl"), of_platform("signing.crl")],
        root_ca: Some(of_platform("root-ca.crt")),
        time: SystemTime::now(),
    })
}

/// Copies the image with one bit changed in the middle of its first component; the byte's offset.
fn flip(files: &Files) -> anyhow::Result<u64> {
    let inspection = inspect(&files.image, None)?;
    let kernel = inspection.components.first().context("the image has no component")?;
    let at = kernel.addr + kernel.size / 2;
    let mut bytes =
        std::fs::read(&files.image).with_context(|| format!("cannot read {}", files.image.display()))?;
    let byte = usize::try_from(at).ok().and_then(|at| bytes.get_mut(at)).context("the image is too short")?;
    *byte ^= 1;
    write(&files.altered, &bytes)?;
    Ok(at)
}

/// A folder that the demo may fill: absent or empty.
fn new_folder(folder: &Path) -> anyhow::Result<PathBuf> {
    let fail = || format!("cannot use {} for the demo's files", folder.display());
    std::fs::create_dir_all(folder).with_context(fail)?;
    if std::fs::read_dir(folder).with_context(fail)?.next().is_some() {
        anyhow::bail!("{} is not empty; name a new folder with --keep", folder.display());
    }
    Ok(folder.to_owned())
}

fn write(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    std::fs::write(file, bytes).with_context(|| format!("cannot write {}", file.display()))
}

/// The organisational unit of a subject.
fn unit(subject: &str) -> Option<&str> {
    subject.split(',').find_map(|part| part.strip_prefix("OU="))
}

/// The guest, from `guests/s390x/demo.s`.
const GUEST: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/demo.bin"));
/// Makes the guest wait until the host has looked.
const WATCH: &str = "watch";
