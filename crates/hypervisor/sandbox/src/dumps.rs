//! Core dumps and debuggers of a process that holds keys.
//!
//! Whole-process switches, not marks on the keys' pages: keys pass through stacks and registers as well.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// No core file, no pipe to a collector of cores, and no debugger of the same user (core(5), ptrace(2)).
pub(crate) fn forbid() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    // A collector behind a pipe is not bound by the limit, hence both.
    let limit = setrlimit(Resource::Core, none);
    let dumpable = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    if let Err(why) = limit.and(dumpable) {
        tracing::debug!(%why, "core dumps cannot be forbidden");
    }
}
