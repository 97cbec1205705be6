//! A thread of the machine's own, for what comes neither from a CPU nor from an operator: devices that want to be
//! called, timers, stops that follow an I/O error.
//!
//! Jobs are done one after another, in the order in which they came.

use super::S390Ccw;
use cloister_devices::Waker;
use cloister_devices::css::SubchannelId;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

/// Where jobs are left. Clones leave them at the same place; after the end of the run nobody looks.
#[derive(Clone)]
pub(super) struct Jobs(Sender<Job>);

/// Where jobs are kept until the thread takes them.
pub(super) struct Worker {
    jobs: Jobs,
    queue: Mutex<Option<Receiver<Job>>>,
}

enum Job {
    /// A device wants to be called.
    Device(SubchannelId, Waker),
    /// Anything else. It may stop the machine.
    Other(Box<dyn FnOnce(&S390Ccw) + Send>),
    End,
}

impl Jobs {
    /// Listens to the waker of the device behind a subchannel.
    pub(super) fn listen(&self, subchannel: SubchannelId, waker: &Waker) {
        let (jobs, own) = (self.clone(), waker.clone());
        waker.connect(move || jobs.leave(Job::Device(subchannel, own.clone())));
    }

    /// Has something done on the machine's own thread, whether the machine runs or is stopped. There it may stop the
    /// machine, which a device or a CPU cannot do in the middle of its own work.
    pub(super) fn later(&self, work: impl FnOnce(&S390Ccw) + Send + 'static) {
        self.leave(Job::Other(Box::new(work)));
    }

    fn leave(&self, job: Job) {
        // Nobody listens after the end of the run.
        let _ = self.0.send(job);
    }
}

impl Worker {
    pub(super) fn new() -> Self {
        let (sender, receiver) = channel();
        Self { jobs: Jobs(sender), queue: Mutex::new(Some(receiver)) }
    }

    pub(super) fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    /// Does jobs on a thread while `run` runs the machine.
    pub(super) fn beside<T>(&self, machine: &Arc<S390Ccw>, run: impl FnOnce() -> T) -> std::io::Result<T> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        std::thread::scope(|scope| {
            if let Some(queue) = queue {
                std::thread::Builder::new().name("devices".into()).spawn_scoped(scope, move || {
                    work(machine, &queue);
                })?;
            }
            let _end = Finish(&self.jobs);
            Ok(run())
        })
    }
}

/// Ends the thread, however the run ends.
struct Finish<'a>(&'a Jobs);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.leave(Job::End);
    }
}

fn work(machine: &S390Ccw, queue: &Receiver<Job>) {
    while let Ok(job) = queue.recv() {
        match job {
            Job::Device(subchannel, waker) => {
                machine.conductor.while_running(|| {
                    waker.clear();
                    machine.css().host_event(machine.vm.memory(), subchannel);
                });
            }
            Job::Other(work) => work(machine),
            Job::End => break,
        }
    }
}
