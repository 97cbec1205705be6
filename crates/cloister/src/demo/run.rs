//! One run of the demo's guest: its console, the host's look at it, its end.

use super::owner::Owner;
use super::view::{Look, stands_nowhere};
use super::{Files, Stage, WATCH};
use crate::{signals, wiring};
use anyhow::{Context, bail};
use cloister_control::{Cause, Machine};
use cloister_machines::s390_ccw::S390Ccw;
use cloister_machines::{End, Outlets, Run as _};
use cloister_options::{Invocation, Outcome};
use cloister_platform_store::Platform;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};
use vm_memory::{Bytes, GuestAddress};

/// What is booted, and how.
pub(super) struct Boot {
    platform: PathBuf,
    kernel: PathBuf,
    protected: bool,
}

impl Boot {
    pub(super) fn clear(files: &Files) -> Self {
        Self { platform: files.platform.clone(), kernel: files.kernel.clone(), protected: false }
    }

    pub(super) fn protected(files: &Files, image: &Path) -> Self {
        Self { platform: files.platform.clone(), kernel: image.to_owned(), protected: true }
    }

    fn arguments(&self) -> Vec<String> {
        let mut line = match self.protected {
            true => vec!["-machine", MACHINE_PV, "-object", "s390-pv-guest,id=pv0"],
            false => vec!["-machine", "s390-ccw-virtio", "-append", WATCH],
        };
        line.extend(["-m", MEMORY, "-display", "none", "-serial", "null", "-device", "virtio-rng-ccw"]);
        let mut line: Vec<String> = line.into_iter().map(str::to_owned).collect();
        line.extend(["-kernel".into(), self.kernel.display().to_string()]);
        line
    }

    /// The command that a person would type.
    pub(super) fn by_hand(&self) -> String {
        format!(
            "cloister -machine {MACHINE_PV} -object s390-pv-guest,id=pv0 -platform {} -m {MEMORY} -nographic \
             -device virtio-rng-ccw -kernel {}",
            self.platform.display(),
            self.kernel.display()
        )
    }
}

/// What a run was.
pub(super) struct Run {
    /// The platform, in its own words.
    pub(super) platform: String,
    /// Lines of the guest's console.
    pub(super) console: Vec<String>,
    /// What the machine said.
    pub(super) messages: Vec<String>,
    /// What the host found when the guest waited for it.
    pub(super) look: Option<Look>,
    /// The owner's part, if it took part.
    pub(super) owner: Option<Owner>,
    /// How it ended.
    pub(super) end: String,
    power_off: bool,
}

impl Run {
    pub(super) fn says(&self, text: &str) -> bool {
        self.console.iter().any(|line| line.contains(text))
    }

    pub(super) fn powered_off(&self) -> bool {
        self.power_off
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "console": self.console,
            "messages": self.messages,
            "host_view": self.look.as_ref().map(Look::to_json),
            "owner": self.owner.as_ref().map(Owner::to_json),
            "end": self.end,
        })
    }
}

/// Boots, and tells the stage what happens as it does. With an owner, who attests the guest and gives it a secret.
pub(super) fn run(boot: &Boot, owner: Option<Owner>, stage: &Stage) -> anyhow::Result<Run> {
    let (sender, events) = channel();
    let machine = machine(boot, &sender)?;
    let mut run = Run {
        platform: machine.platform().to_owned(),
        console: Vec::new(),
        messages: machine.warnings().to_vec(),
        look: None,
        owner,
        end: String::new(),
        power_off: false,
    };
    let watch = signals::watch(&(Arc::clone(&machine) as _)).context("cannot watch signals")?;
    let running = Arc::clone(&machine);
    let work = move || {
        let ended = running.run();
        // The receiver waits for nothing else.
        let _ = sender.send(Event::End(ended.map(|report| report.end).map_err(|why| why.to_string())));
    };
    let thread =
        std::thread::Builder::new().name("demo guest".into()).spawn(work).context("cannot start a thread")?;
    let end = attend(&machine, &events, &mut run, stage);
    if end.is_err() {
        machine.quit(Cause::HostUi);
    }
    if thread.join().is_err() {
        bail!("the machine failed: this is a defect of the program, please report it");
    }
    drop(watch);
    let end = end?;
    run.power_off = end == End::PowerOff;
    run.end = words(&end);
    if let End::Signal(signal) = end {
        bail!("terminated by signal {signal}");
    }
    Ok(run)
}

/// What comes from the machine's threads.
enum Event {
    Console(Vec<u8>),
    Message(String),
    End(Result<End, String>),
}

fn machine(boot: &Boot, events: &Sender<Event>) -> anyhow::Result<Arc<S390Ccw>> {
    let arguments = boot.arguments();
    let invocation = Invocation { program: "cloister".into(), target: Some("s390x".into()) };
    let catalogue = cloister_cgs::catalogue(invocation.resolve_target(&arguments)?);
    let Outcome::Run(line) = cloister_options::parse(&invocation, &catalogue, &arguments)? else {
        bail!("the demo's command line asks for help: this is a defect of the program");
    };
    let (console, messages) = (events.clone(), events.clone());
    let outlets = Outlets {
        // A demo that is over listens no more.
        console: Some(Box::new(move |bytes: &[u8]| drop(console.send(Event::Console(bytes.to_vec()))))),
        messages: Some(Box::new(move |text| drop(messages.send(Event::Message(text.to_owned()))))),
        ..Outlets::default()
    };
    Ok(wiring::machine(&line, Platform::open(&boot.platform)?, outlets)?)
}

/// Listens until the machine ends; when the guest waits for it, looks at its memory.
fn attend(machine: &S390Ccw, events: &Receiver<Event>, run: &mut Run, stage: &Stage) -> anyhow::Result<End> {
    let deadline = Instant::now() + PATIENCE;
    let mut pending = Vec::new();
    let mut secret_at = None;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let bytes = match events.recv_timeout(left) {
            Ok(Event::Console(bytes)) => bytes,
            Ok(Event::Message(text)) => {
                for message in text.lines() {
                    stage.machine(message);
                    run.messages.push(message.to_owned());
                }
                continue;
            }
            Ok(Event::End(end)) => return end.map_err(anyhow::Error::msg),
            Err(RecvTimeoutError::Timeout) => bail!("the guest did not end within {PATIENCE:?}"),
            Err(RecvTimeoutError::Disconnected) => bail!("the machine's thread ended without a word"),
        };
        pending.extend(bytes);
        while let Some(end) = pending.iter().position(|&byte| byte == b'\n') {
            let text: Vec<u8> = pending.drain(..=end).collect();
            let text = String::from_utf8_lossy(&text).trim_end().to_owned();
            stage.guest(&text);
            if let Some((_, address)) = text.split_once("marker written to private page 0x") {
                secret_at = u64::from_str_radix(address, 16).ok();
            }
            let waits = text.contains("waiting until the host has looked");
            run.console.push(text);
            if let (true, Some(address)) = (waits, secret_at) {
                let look = Look::at(machine, address)?;
                stage.host(&look);
                run.look = Some(look);
                answer(machine, run, stage, Moment::Looked)?;
            } else if run.console.last().is_some_and(|line| line.starts_with("attestation: ")) {
                answer(machine, run, stage, Moment::Attested)?;
            } else if run.console.last().is_some_and(|line| line == "secret store closed") {
                answer(machine, run, stage, Moment::Given)?;
            }
        }
    }
}

/// What the guest has just done.
#[derive(Clone, Copy)]
enum Moment {
    Looked,
    Attested,
    Given,
}

/// The host carries messages between the guest and its owner through the shared page, and reads them all.
fn answer(machine: &S390Ccw, run: &mut Run, stage: &Stage, moment: Moment) -> anyhow::Result<()> {
    let memory = machine.memory();
    let shared = number(env!("DEMO_SHARED"));
    let unreachable = "the host cannot reach the page that the guest shares";
    let mut next = number(env!("DEMO_HOST_GO_ON"));
    if let Some(owner) = &mut run.owner {
        let request = match moment {
            Moment::Looked => {
                next = number(env!("DEMO_HOST_ATTEST"));
                Some(owner.attest(stage)?)
            }
            Moment::Attested => {
                let mut page = vec![0; 4096];
                memory.read_slice(&mut page, GuestAddress(shared)).context(unreachable)?;
                let block = &page[number(env!("DEMO_ANSWERED_BLOCK")) as usize..];
                let answer = &page[number(env!("DEMO_ANSWERED")) as usize..];
                // A guest that the owner does not know gets nothing.
                let request = owner.check(block, answer, stage)?;
                if request.is_some() {
                    next = number(env!("DEMO_HOST_SECRET"));
                }
                request
            }
            Moment::Given => {
                let hidden = stands_nowhere(memory, owner.secret())?;
                owner.given(&run.console, hidden, stage);
                None
            }
        };
        if let Some(request) = request {
            memory.write_slice(&request, GuestAddress(shared)).context(unreachable)?;
        }
    }
    let at = shared + number(env!("DEMO_HOST_LOOKED"));
    memory.write_slice(&[next as u8], GuestAddress(at)).context(unreachable)
}

fn words(end: &End) -> String {
    match end {
        End::PowerOff => "powered off".into(),
        End::NoReboot => "asked for a reset".into(),
        End::Quit => "ended by the user".into(),
        End::Signal(signal) => format!("ended by signal {signal}"),
        End::Crashed { addr, .. } => format!("stopped itself with code {addr:#x}"),
        End::Stuck { reason, .. } => format!("could not go on: {reason}"),
        End::Failed(why) => format!("failed: {why}"),
    }
}

/// A number of the guest's source, which the build script passes on.
fn number(text: &str) -> u64 {
    text.parse().unwrap_or_default()
}

const MACHINE_PV: &str = "s390-ccw-virtio,confidential-guest-support=pv0";
/// MiB of the guest.
const MEMORY: &str = "32";
/// The guest itself gives up after ten seconds.
const PATIENCE: Duration = Duration::from_secs(30);
