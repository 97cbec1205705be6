//! A whole machine in this process, put together as the program does it, with the test on both sides.
//!
//! A test may stand in for a hostile host kernel (it sees and answers every message of the lower door, and
//! writes the host's half of guest memory as it likes), look at every conversion of a page, and act while the
//! guest prints a line and is therefore at rest. Everything between is the product, unchanged.

mod audit;
mod host;
mod model;
pub mod proxy;

pub use audit::{Audit, Finding, find};
pub use host::{Answer, Host, LowerHook, command_of, granted};
pub use model::{Model, guest_program, repository};
pub use proxy::Proxy;

use cloister_machines::s390_ccw::S390Ccw;
use cloister_machines::{End, MachineError, Outlets, Run as _};
use cloister_memory::ConversionObserver;
use cloister_options::{Invocation, Outcome};
use cloister_platform::{Door, Request, Response};
use cloister_platform_store::Platform;
use cloister_silicon_s390x::Silicon;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

/// Acts when the guest has printed a line, while its CPU is outside the core.
pub type LineHook = Box<dyn Fn(&str, &World) + Send + Sync>;

/// What to boot, and what the test does to it.
pub struct Boot<'a> {
    platform: Platform,
    kernel: &'a Path,
    object: bool,
    arguments: Vec<String>,
    lower: Option<LowerHook>,
    lines: Option<LineHook>,
    audit: Option<Arc<Audit>>,
    turns: u64,
}

/// Both sides of a machine, for a test that acts while the guest waits.
pub struct World {
    /// The modelled silicon: the secure world.
    pub silicon: Arc<Silicon>,
    /// The host's end of the lower door.
    pub host: Arc<Host>,
    machine: OnceLock<Weak<S390Ccw>>,
    audit: Option<Arc<Audit>>,
}

/// What a run was.
#[derive(Debug)]
pub struct Run {
    /// Everything that the guest printed.
    pub console: String,
    /// Everything that the machine said.
    pub messages: Vec<String>,
    /// How it ended.
    pub end: End,
    /// Instructions executed.
    pub instructions: u64,
    /// Whether a configuration was ever entered: a CPU was started in protected mode.
    pub entered: u64,
}

impl<'a> Boot<'a> {
    /// A machine that is meant to run the protected image in the file `kernel`.
    pub fn protected(platform: Platform, kernel: &'a Path) -> Self {
        Self { object: true, ..Self::clear(platform, kernel) }
    }

    /// A machine without confidential guest support.
    pub fn clear(platform: Platform, kernel: &'a Path) -> Self {
        Self {
            platform,
            kernel,
            object: false,
            arguments: Vec::new(),
            lower: None,
            lines: None,
            audit: None,
            turns: TURNS,
        }
    }

    /// Further arguments of the command line.
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    /// Stands between the host kernel and silicon.
    pub fn lower(
        mut self,
        hook: impl Fn(&Host, cloister_firmware_api::Request) -> cloister_firmware_api::Response
        + Send
        + Sync
        + 'static,
    ) -> Self {
        self.lower = Some(Box::new(hook));
        self
    }

    /// Acts on the guest's lines.
    pub fn on_line(mut self, hook: impl Fn(&str, &World) + Send + Sync + 'static) -> Self {
        self.lines = Some(Box::new(hook));
        self
    }

    /// Watches the host's memory throughout.
    pub fn audit(mut self, audit: &Arc<Audit>) -> Self {
        self.audit = Some(Arc::clone(audit));
        self
    }

    /// How often a CPU may be entered before the run counts as hanging.
    pub fn turns(mut self, turns: u64) -> Self {
        self.turns = turns;
        self
    }

    /// Runs the machine to its end.
    pub fn run(self) -> Result<Run, MachineError> {
        let observer = self.audit.as_ref().map(|audit| Arc::clone(audit) as Arc<dyn ConversionObserver>);
        let silicon = Arc::new(Silicon::with_observer(self.platform, observer));
        let host = Arc::new(Host::new(Arc::clone(&silicon) as _, self.lower));
        let world = Arc::new(World {
            silicon: Arc::clone(&silicon),
            host: Arc::clone(&host),
            machine: OnceLock::new(),
            audit: self.audit.clone(),
        });
        if let Some(audit) = &self.audit {
            audit.attach(&silicon);
        }
        let upper = cloister_host_kernel::HostKernel::new(Arc::clone(&host) as _);
        let upper = Arc::new(Patience { inner: upper, turns: AtomicU64::new(self.turns) });

        let mut arguments: Vec<String> = vec!["-machine".into()];
        if self.object {
            let object = "s390-pv-guest,id=pv0";
            let machine = "s390-ccw-virtio,confidential-guest-support=pv0";
            arguments.extend([machine, "-object", object].map(str::to_owned));
        } else {
            arguments.push("s390-ccw-virtio".into());
        }
        arguments.extend(["-display", "none", "-serial", "null"].map(str::to_owned));
        arguments.extend(["-kernel".into(), self.kernel.display().to_string()]);
        if !self.arguments.iter().any(|argument| argument == "-m") {
            arguments.extend(["-m", "8"].map(str::to_owned));
        }
        if !self.arguments.iter().any(|argument| argument == "-accel") {
            arguments.extend(["-accel", "soft,thread=single"].map(str::to_owned));
        }
        arguments.extend(self.arguments);
        let invocation = Invocation { program: "cloister".into(), target: Some("s390x".into()) };
        let target = invocation.resolve_target(&arguments).expect("the test names its target");
        let catalogue = cloister_cgs::catalogue(target);
        let line = match cloister_options::parse(&invocation, &catalogue, &arguments) {
            Ok(Outcome::Run(line)) => line,
            Ok(Outcome::Print(text)) => panic!("the test's command line asks for help: {text}"),
            Err(error) => panic!("the test's command line is wrong: {}", error.report("cloister")),
        };

        let console = Arc::new(Mutex::new(Vec::new()));
        let messages = Arc::new(Mutex::new(Vec::new()));
        let outlets = Outlets {
            console: Some(Box::new({
                let (console, world, lines) = (Arc::clone(&console), Arc::clone(&world), self.lines);
                let pending = Mutex::new(Vec::new());
                move |bytes: &[u8]| {
                    lock(&console).extend_from_slice(bytes);
                    let mut pending = lock(&pending);
                    pending.extend_from_slice(bytes);
                    while let Some(end) = pending.iter().position(|&byte| byte == b'\n') {
                        let line: Vec<u8> = pending.drain(..=end).collect();
                        if let Some(act) = &lines {
                            act(String::from_utf8_lossy(&line).trim_end(), &world);
                        }
                    }
                }
            })),
            messages: Some(Box::new({
                let messages = Arc::clone(&messages);
                move |text: &str| lock(&messages).push(text.to_owned())
            })),
            ..Outlets::default()
        };
        let machine = Arc::new(S390Ccw::with_outlets(&line, upper, outlets)?);
        let _ = world.machine.set(Arc::downgrade(&machine));
        lock(&messages).extend(machine.warnings().iter().cloned());
        if let Some(audit) = &self.audit {
            let watch = Arc::clone(audit);
            machine.memory().observe_writes(Box::new(move |address, len| watch.wrote(address, len)));
        }
        let report = Arc::clone(&machine).run()?;
        if let Some(audit) = &self.audit {
            audit.scan(&host, "the end of the run");
        }
        let console = String::from_utf8_lossy(&lock(&console)).into_owned();
        let messages = lock(&messages).clone();
        Ok(Run {
            console,
            messages,
            end: report.end,
            instructions: report.instructions,
            entered: host.started(),
        })
    }
}

impl World {
    /// The machine.
    pub fn machine(&self) -> Arc<S390Ccw> {
        self.machine.get().and_then(Weak::upgrade).expect("the guest prints while the machine runs")
    }

    /// Looks through the whole of the host's mapping.
    pub fn scan(&self, when: &'static str) {
        if let Some(audit) = &self.audit {
            audit.scan(&self.host, when);
        }
    }
}

impl Run {
    /// Whether the guest printed this line.
    pub fn says(&self, line: &str) -> bool {
        self.console.lines().any(|one| one.trim_end() == line)
    }

    /// Whether the machine said something with these words.
    pub fn told(&self, words: &str) -> bool {
        self.messages.iter().any(|message| message.contains(words))
    }

    /// What the guest printed after it found that it is protected: nothing before can be believed.
    pub fn inside(&self) -> Option<&str> {
        self.console.find(PROTECTED).map(|at| &self.console[at..])
    }

    /// The numbers of the witness's pages with this verdict.
    pub fn pages(&self, verdict: &str) -> usize {
        let of_page = |line: &&str| line.starts_with("page ") && line.trim_end().ends_with(verdict);
        self.console.lines().filter(of_page).count()
    }
}

/// What our guests print first in protected mode.
pub const PROTECTED: &str = "protected: yes";

/// The upper door with an end to patience: a guest that hangs is reported as stuck.
struct Patience<D> {
    inner: D,
    turns: AtomicU64,
}

impl<D: Door> Door for Patience<D> {
    fn call(&self, request: Request) -> Response {
        let enters = matches!(request, Request::Run { .. });
        if enters
            && self
                .turns
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_err()
        {
            let reason = HANGS.into();
            return Response::Exit(cloister_arch::s390x::Exit::Stuck { reason });
        }
        let response = self.inner.call(request);
        if matches!(response, Response::Exit(cloister_arch::s390x::Exit::Idle { .. })) {
            // A wait takes the time of many turns.
            let _ = self
                .turns
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.saturating_sub(IDLE)));
        }
        response
    }
}

/// The end of a run that would not end.
pub const HANGS: &str = "the guest hangs (limit of the test)";
/// Turns of a small guest: it takes fewer than a hundred.
const TURNS: u64 = 1000;
/// Turns that a wait counts for.
const IDLE: u64 = 9;

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
