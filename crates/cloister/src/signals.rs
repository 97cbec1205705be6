//! SIGINT, SIGTERM and SIGHUP end the run as an operator would.

use cloister_control::Cause;
use cloister_machines::{End, Run};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use std::io;
use std::sync::Arc;

/// While it lives, signals end the run.
pub(crate) struct Watch(Handle);

/// Ends the run of `machine` when a signal comes.
pub(crate) fn watch(machine: &Arc<dyn Run>) -> io::Result<Watch> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let handle = signals.handle();
    let machine = Arc::downgrade(machine);
    let work = move || {
        for signal in signals.forever() {
            if let Some(machine) = machine.upgrade() {
                machine.end(End::Signal(signal), Cause::HostSignal);
            }
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(work)?;
    Ok(Watch(handle))
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.close();
    }
}
