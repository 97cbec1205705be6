//! The operator's desk: character devices, and who speaks through them: the guest's console, monitors, gdb.
//!
//! It opens what the command line names before there is a machine, and connects it once there is one.

use crate::out;
use anyhow::Context;
use cloister_chardev::{Chardev, FdStore, StreamEvent, StreamInput, StreamPort};
use cloister_control::{ChardevInfo, ControlError, Machine, Operator, Process};
use cloister_machines::{ConnectError, Outlets, PortConnector, PortInput, PortPeer, Run};
use cloister_options::{Catalogue, CharBackend, Chardev as Spec, CommandLine, MonitorMode};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

/// Everything through which people and programs reach the machine.
pub(crate) struct Desk {
    program: String,
    fds: Arc<FdStore>,
    chardevs: Mutex<Vec<Arc<Chardev>>>,
    console: Option<Arc<Chardev>>,
    line_console: Option<Arc<Chardev>>,
    monitors: Vec<(Arc<Chardev>, MonitorMode, bool)>,
    qmp: Mutex<Vec<cloister_monitor::Handle>>,
    gdb: Mutex<Option<cloister_gdb::Handle>>,
    machine: OnceLock<Weak<dyn Run>>,
    operator: OnceLock<Operator>,
}

impl Desk {
    /// Opens every character device of the command line.
    pub(crate) fn open(line: &CommandLine) -> anyhow::Result<Arc<Self>> {
        let fds = Arc::new(FdStore::new());
        for set in &line.fd_sets {
            fds.add_inherited(set.fd, i64::from(set.set), set.opaque.clone()).context("-add-fd")?;
        }
        let mut desk = Self {
            program: line.program.clone(),
            fds,
            chardevs: Mutex::default(),
            console: None,
            line_console: None,
            monitors: Vec::new(),
            qmp: Mutex::default(),
            gdb: Mutex::default(),
            machine: OnceLock::new(),
            operator: OnceLock::new(),
        };
        for chardev in &line.chardevs {
            let opened =
                Chardev::open(chardev, &desk.fds).with_context(|| format!("-chardev {}", chardev.id))?;
            desk.lock().push(opened);
        }
        desk.console = desk.find_or_open(&line.named_console(), "serial0").context("-serial")?;
        desk.line_console =
            desk.find_or_open(&line.line_console(), "sclplmconsole").context("-device sclplmconsole")?;
        for (number, monitor) in line.all_monitors().iter().enumerate() {
            let shared = matches!(monitor.backend, CharBackend::Stdio { with_monitor: true });
            let opened = match &desk.console {
                // `-nographic` and `mon:stdio`: the console's terminal has a monitor behind it.
                Some(console) if shared && monitor.backend == line.console() => Some(Arc::clone(console)),
                _ => {
                    let option = if monitor.mode == MonitorMode::Control { "-qmp" } else { "-monitor" };
                    let label = format!("compat_monitor{number}");
                    desk.find_or_open(&monitor.backend, &label).context(option)?
                }
            };
            desk.monitors.extend(opened.map(|opened| (opened, monitor.mode, monitor.pretty)));
        }
        Ok(Arc::new(desk))
    }

    /// Descriptors that were passed.
    pub(crate) fn fds(&self) -> Arc<FdStore> {
        Arc::clone(&self.fds)
    }

    /// Where the guest's consoles go, and whom it tells of room for input.
    pub(crate) fn outlets(self: &Arc<Self>) -> anyhow::Result<Outlets> {
        let mut outlets = Outlets::default();
        if let Some(console) = &self.console {
            self.quits(console);
            let port = Arc::new(console.attach_stream(Typed(Arc::downgrade(self)))?);
            let room = Arc::clone(&port);
            outlets.console = Some(Box::new(move |bytes: &[u8]| port.write(bytes)));
            outlets.console_room = Some(Box::new(move || room.resume()));
        }
        if let Some(console) = &self.line_console {
            self.quits(console);
            let port = console.attach_stream(Unheard)?;
            outlets.line_console = Some(Box::new(move |bytes: &[u8]| port.write(bytes)));
        }
        outlets.ports = Some(Arc::new(Sockets(Arc::downgrade(self))));
        Ok(outlets)
    }

    /// Lets `Ctrl-a x` end the machine.
    fn quits(self: &Arc<Self>, console: &Chardev) {
        let quit = Arc::downgrade(self);
        console.on_quit(move || {
            if let Some(machine) = quit.upgrade().and_then(|desk| desk.machine()) {
                machine.quit(cloister_control::Cause::HostUi);
            }
        });
    }

    /// Lets monitors and gdb at the machine. Says where to find what has no name of its own, and waits for those
    /// who are to be waited for.
    pub(crate) fn serve(
        self: &Arc<Self>,
        machine: &Arc<dyn Run>,
        line: CommandLine,
        catalogue: Catalogue,
    ) -> anyhow::Result<()> {
        // Nobody else sets it.
        let _ = self.machine.set(Arc::downgrade(machine));
        let operator = Operator {
            machine: Arc::clone(machine) as Arc<dyn Machine>,
            process: Arc::clone(self) as Arc<dyn Process>,
            line: Arc::new(line),
            catalogue: Arc::new(catalogue),
        };
        let operator = self.operator.get_or_init(|| operator);
        for chardev in self.lock().iter() {
            self.announce(chardev);
        }
        let qmp = cloister_monitor::Monitor::new(operator.clone(), Arc::clone(&self.fds));
        for (chardev, mode, pretty) in &self.monitors {
            let (operator, chardev) = (operator.clone(), Arc::clone(chardev));
            match mode {
                MonitorMode::Control => {
                    let options = cloister_monitor::Options { pretty: *pretty };
                    self.qmp().push(qmp.serve(&chardev, options)?);
                }
                MonitorMode::Readline => {
                    let serve = move || {
                        if let Err(why) = cloister_human_monitor::serve(&operator, &chardev) {
                            tracing::error!(%why, "the monitor ended");
                        }
                    };
                    let builder = std::thread::Builder::new().name("monitor".into());
                    builder.spawn(serve).context("cannot start a monitor's thread")?;
                }
            }
        }
        if let Some(gdb) = &operator.line.gdb {
            self.serve_gdb(gdb).context("-gdb")?;
        }
        let waiting: Vec<_> = self.lock().clone();
        for chardev in waiting {
            if let Some(text) = chardev.waiting_line() {
                out::tell(&format!("{}: {text}", self.program));
                chardev.wait_for_peer();
            }
        }
        Ok(())
    }

    /// The machine has ended: what was said is delivered, then everybody is let go.
    pub(crate) fn close(&self, status: u8) {
        if let Some(gdb) = self.gdb().take() {
            gdb.end(status);
        }
        for monitor in self.qmp().drain(..) {
            monitor.finish(PATIENCE);
        }
        for chardev in self.lock().drain(..) {
            chardev.close();
        }
    }

    fn find_or_open(&self, backend: &CharBackend, label: &str) -> anyhow::Result<Option<Arc<Chardev>>> {
        Ok(match backend {
            CharBackend::None => None,
            CharBackend::Chardev(id) => {
                let found = self.lock().iter().find(|chardev| chardev.id() == id).cloned();
                Some(found.with_context(|| format!("chardev '{id}' not found; define it with -chardev"))?)
            }
            other => {
                let spec = Spec {
                    id: label.into(),
                    backend: other.clone(),
                    // With a monitor behind the terminal, its keys are the guest's.
                    signal: !matches!(other, CharBackend::Stdio { with_monitor: true }),
                    mux: false,
                    log_file: None,
                    log_append: false,
                };
                let opened = Chardev::open(&spec, &self.fds)?;
                self.lock().push(Arc::clone(&opened));
                Some(opened)
            }
        })
    }

    fn announce(&self, chardev: &Chardev) {
        if let Some(text) = chardev.announcement() {
            out::tell(text);
        }
    }

    fn serve_gdb(&self, backend: &CharBackend) -> anyhow::Result<()> {
        let Some(operator) = self.operator.get() else { return Ok(()) };
        let Some(chardev) = self.find_or_open(backend, "gdb")? else { return Ok(()) };
        self.announce(&chardev);
        let for_monitor = operator.clone();
        let monitor = Arc::new(move |line: &str| cloister_human_monitor::command(&for_monitor, line, None));
        *self.gdb() = Some(cloister_gdb::serve(Arc::clone(&operator.machine), &chardev, monitor)?);
        Ok(())
    }

    fn machine(&self) -> Option<Arc<dyn Run>> {
        self.machine.get().and_then(Weak::upgrade)
    }

    fn qmp(&self) -> MutexGuard<'_, Vec<cloister_monitor::Handle>> {
        self.qmp.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gdb(&self) -> MutexGuard<'_, Option<cloister_gdb::Handle>> {
        self.gdb.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Chardev>>> {
        self.chardevs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Process for Desk {
    fn chardevs(&self) -> Vec<ChardevInfo> {
        let describe = |info: cloister_chardev::ChardevInfo| ChardevInfo {
            label: info.label,
            filename: info.filename,
            frontend_open: info.frontend_open,
        };
        self.lock().iter().flat_map(|chardev| chardev.info()).map(describe).collect()
    }

    fn gdbserver(&self, device: &str) -> Result<String, ControlError> {
        let refuse =
            |why: String| ControlError::new(format!("Could not open gdbserver on device '{device}': {why}"));
        if let Some(before) = self.gdb().take() {
            before.end(0);
            let ended: Vec<_> = self.lock().extract_if(.., |chardev| chardev.id() == "gdb").collect();
            ended.iter().for_each(|chardev| chardev.close());
        }
        if device == "none" {
            return Ok("Disabled gdbserver".into());
        }
        let device = if device.is_empty() { "tcp::1234" } else { device };
        let backend = cloister_options::parse_chardev_short(device).map_err(|why| refuse(why.to_string()))?;
        self.serve_gdb(&backend).map_err(|why| refuse(crate::command::words(&why)))?;
        Ok(format!("Waiting for gdb connection on device '{device}'"))
    }
}

/// How long a client may take to hear the last words.
const PATIENCE: Duration = Duration::from_secs(2);

/// The console for lines takes no input.
struct Unheard;

impl StreamInput for Unheard {
    fn bytes(&mut self, bytes: &[u8]) -> usize {
        bytes.len()
    }
}

/// Finds character devices for the ports of virtio-serial devices.
struct Sockets(Weak<Desk>);

impl PortConnector for Sockets {
    fn connect(
        &self,
        chardev: &str,
        port: PortInput,
        console: bool,
    ) -> Result<Arc<dyn PortPeer>, ConnectError> {
        let desk = self.0.upgrade().ok_or(ConnectError::NotFound)?;
        let found = desk.lock().iter().find(|known| known.id() == chardev).cloned();
        let found = found.ok_or(ConnectError::NotFound)?;
        if console {
            desk.quits(&found);
        }
        let stream = found.attach_stream(Plugged(port)).map_err(|_| ConnectError::InUse)?;
        stream.set_open(console);
        Ok(Arc::new(Socket { stream, console }))
    }
}

/// What the peer of a port's character device does.
struct Plugged(PortInput);

impl StreamInput for Plugged {
    fn bytes(&mut self, bytes: &[u8]) -> usize {
        self.0.ports.input(self.0.number, bytes)
    }

    fn event(&mut self, event: StreamEvent) {
        match event {
            StreamEvent::Opened => self.0.ports.host_open(self.0.number, true),
            StreamEvent::Closed => self.0.ports.host_open(self.0.number, false),
            StreamEvent::Writable => self.0.ports.writable(),
            StreamEvent::Break => {}
        }
    }
}

/// What the guest does with a port.
struct Socket {
    stream: StreamPort,
    console: bool,
}

impl PortPeer for Socket {
    fn write(&self, bytes: &[u8]) -> usize {
        // Linux writes to a console with a spinning lock held, so that one must never wait.
        match self.console {
            true => {
                self.stream.write(bytes);
                bytes.len()
            }
            false => self.stream.offer(bytes),
        }
    }

    fn resume(&self) {
        self.stream.resume();
    }

    fn guest_open(&self, open: bool) {
        if !self.console {
            self.stream.set_open(open);
        }
    }
}

/// What is typed goes to the guest.
struct Typed(Weak<Desk>);

impl StreamInput for Typed {
    fn bytes(&mut self, bytes: &[u8]) -> usize {
        // Before there is a machine nobody is there to type to.
        match self.0.upgrade().and_then(|desk| desk.machine()) {
            Some(machine) => machine.console_input(bytes),
            None => bytes.len(),
        }
    }
}
