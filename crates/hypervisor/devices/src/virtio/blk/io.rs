//! The work of a disk apart from its guest: jobs with their data, done at once or by a thread of the disk.
//!
//! Guest memory is not seen here. Jobs are done one after another in the order in which they came, so a flush comes after
//! every write before it.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::SharedDisk;
use crate::wake::Waker;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Work {
    Read { offset: u64 },
    Write { offset: u64, through: bool },
    Flush,
    Discard { ranges: Vec<(u64, u64)> },
    Zeroes { ranges: Vec<(u64, u64, bool)> },
}

/// A piece of work with its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) token: u64,
    pub(super) work: Work,
    pub(super) data: Vec<u8>,
}

/// A job that was tried.
pub(super) struct Done {
    pub(super) job: Job,
    pub(super) result: io::Result<()>,
}

/// Does a job on this thread.
pub(super) fn perform(disk: &SharedDisk, mut job: Job) -> Done {
    let mut disk = disk.lock().unwrap_or_else(PoisonError::into_inner);
    let result = match &job.work {
        Work::Read { offset } => disk.read_at(*offset, &mut job.data),
        Work::Write { offset, through } => {
            let written = disk.write_at(*offset, &job.data);
            if *through { written.and_then(|()| disk.flush()) } else { written }
        }
        Work::Flush => disk.flush(),
        Work::Discard { ranges } => {
            ranges.iter().try_for_each(|(offset, length)| disk.discard(*offset, *length))
        }
        Work::Zeroes { ranges } => {
            ranges.iter().try_for_each(|(offset, length, unmap)| disk.write_zeroes(*offset, *length, *unmap))
        }
    };
    Done { job, result }
}

/// A thread that does jobs. Dropping it waits until all are done.
pub(super) struct Worker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    disk: SharedDisk,
    waker: Waker,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    done: Vec<Done>,
    busy: bool,
    end: bool,
}

impl Worker {
    /// A thread for this disk; the waker tells of jobs that are done.
    pub(super) fn start(disk: SharedDisk, waker: Waker) -> io::Result<Self> {
        let (state, changed) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { disk, waker, state, changed });
        let own = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("disk".into()).spawn(move || own.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    pub(super) fn submit(&self, job: Job) {
        self.shared.lock().jobs.push_back(job);
        self.shared.changed.notify_all();
    }

    pub(super) fn take_done(&self) -> Vec<Done> {
        std::mem::take(&mut self.shared.lock().done)
    }

    /// Waits until everything that was submitted is done.
    pub(super) fn drain(&self) {
        let mut state = self.shared.lock();
        while state.busy || !state.jobs.is_empty() {
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.shared.lock().end = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of a disk has failed");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                state.busy = true;
                drop(state);
                let done = perform(&self.disk, job);
                state = self.lock();
                state.done.push(done);
                state.busy = false;
                self.changed.notify_all();
                drop(state);
                self.waker.wake();
                state = self.lock();
            } else if state.end {
                return;
            } else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}
