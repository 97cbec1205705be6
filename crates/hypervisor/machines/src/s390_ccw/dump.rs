//! Dumps of the machine: it stands still while one is written, and goes on afterwards.

use super::S390Ccw;
use cloister_cgs::s390_pv::failure_text;
use cloister_control::{
    ControlError, DumpProgress, DumpRange, DumpSink, DumpStatus, Event, RunState as MachineState,
};
use cloister_platform::{PvCommand, PvResult};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The dump that there is, or the last one.
#[derive(Debug, Default)]
pub(super) struct Dump {
    state: Mutex<State>,
    written: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    status: DumpStatus,
    part: Range<u64>,
    /// The machine ran when the dump began.
    resume: bool,
}

impl Dump {
    pub(super) fn progress(&self) -> DumpProgress {
        let state = self.lock();
        DumpProgress {
            status: state.status,
            completed: self.written.load(Ordering::Relaxed),
            total: state.part.end - state.part.start,
        }
    }

    /// What would move the guest has to wait for the end of a dump.
    pub(super) fn check_idle(&self) -> Result<(), ControlError> {
        match self.lock().status {
            DumpStatus::Active => Err(ControlError::new("There is a dump in process, please wait.")),
            DumpStatus::None | DumpStatus::Completed | DumpStatus::Failed => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl S390Ccw {
    pub(super) fn begin_dump(&self, range: DumpRange) -> Result<(), ControlError> {
        let part = cloister_dump::part(&self.vm, range).map_err(|why| ControlError::new(why.to_string()))?;
        {
            let mut state = self.dump.lock();
            if state.status == DumpStatus::Active {
                return Err(ControlError::new("There is a dump in process, please wait."));
            }
            *state = State { status: DumpStatus::Active, part, resume: false };
            self.dump.written.store(0, Ordering::Relaxed);
        }
        // From here on nobody else moves the machine.
        let resume = self.conductor.run_state().is_running();
        if resume {
            self.conductor.stop(&self.vm, MachineState::SaveVm);
        }
        self.dump.lock().resume = resume;
        Ok(())
    }

    pub(super) fn write_dump(&self, sink: &mut dyn DumpSink) -> Result<(), ControlError> {
        let (part, resume) = {
            let state = self.dump.lock();
            if state.status != DumpStatus::Active {
                return Err(ControlError::new("no dump was begun"));
            }
            (state.part.clone(), state.resume)
        };
        let progress = |written| self.dump.written.store(written, Ordering::Relaxed);
        let refused = |command: &PvCommand, result: &PvResult| {
            self.say(&failure_text(command, result.rc, result.rrc, super::ipl::EIO));
            self.say(&result.reason);
            self.say("warning: the dump has the guest's memory as the host sees it: nobody can decrypt what is private");
        };
        let written = cloister_dump::write(&self.vm, self.is_protected(), &part, sink, &progress, &refused)
            .map_err(|why| ControlError::new(why.to_string()));
        let status = if written.is_ok() { DumpStatus::Completed } else { DumpStatus::Failed };
        self.dump.lock().status = status;
        let error = written.as_ref().err().map(|error| error.text.clone());
        self.events.emit(Event::DumpCompleted { result: self.dump.progress(), error });
        if resume && self.conductor.run_state() == MachineState::SaveVm {
            self.conductor.cont(&self.vm, None);
        }
        written
    }
}
