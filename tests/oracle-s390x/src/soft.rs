//! The same image under the core of this project.
//!
//! A case on which the core panics, loops or leaves for the hypervisor is reported and the rest of the batch goes on
//! behind it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use anyhow::{Context, Result};
use cloister_arch::s390x::{Exit, Psw, RunState, TimeMode, VmConfig, facility};
use cloister_cpu_s390x::{CoreExit, FACILITIES, RunLimit, System};
use cloister_memory::Storage;

use crate::generate::Case;
use crate::harness::{DONE, ORDER, ORDER_NEXT, Outcome, START, START_MASK, STORAGE, image, outcomes, ranges};

/// More than any batch needs; a batch that uses it up loops.
const BUDGET_PER_CASE: u64 = 4_000;

/// So many stops mean that the core cannot run the image at all.
const MOST_STOPS: usize = 100;

/// Facilities that the core implements in part and does not report yet: vectors, packed decimal, enhancements 1 and 2.
const UNREPORTED: [u16; 4] = [129, 134, 135, 148];

/// What the core made of a batch.
pub struct Run {
    /// Outcomes by slot.
    pub outcomes: Vec<Outcome>,
    /// Slots on which the core did not go on, with the reason.
    pub stopped: BTreeMap<u32, String>,
}

/// Runs the cases in this order.
pub fn run(cases: &[Case], order: &[u32], float: bool) -> Result<Run> {
    let mut out = Run { outcomes: Vec::new(), stopped: BTreeMap::new() };
    let mut left = order;
    while !left.is_empty() {
        let storage = load(cases, left, float)?;
        let reason = catch_unwind(AssertUnwindSafe(|| execute(&storage, left.len() as u64))).unwrap_or_else(
            |panic| {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
                Ok(Some(format!("panic: {}", text.unwrap_or("without a message"))))
            },
        )?;
        let ram = storage.ram();
        let [(start, len), _] = ranges(cases.len());
        let mut bytes = vec![0; len as usize];
        ram.copy_out(start as usize, &mut bytes);
        let done = outcomes(&bytes);
        let started = ram.read_u64_be(ORDER_NEXT as usize).saturating_sub(ORDER) as usize / 4;
        let ended = if reason.is_some() { started.saturating_sub(1) } else { left.len() };
        if out.outcomes.is_empty() {
            out.outcomes = done;
        } else {
            for slot in &left[..ended.min(left.len())] {
                out.outcomes[*slot as usize] = done[*slot as usize].clone();
            }
        }
        match (reason, left.get(ended)) {
            (None, _) => break,
            (Some(reason), Some(slot)) if out.stopped.len() < MOST_STOPS => {
                out.stopped.insert(*slot, reason);
                left = &left[ended + 1..];
            }
            (Some(reason), _) => {
                anyhow::bail!(
                    "the core stops outside any case or in more than {MOST_STOPS} of a batch: {reason}"
                );
            }
        }
    }
    Ok(out)
}

/// Whether the core has the floating-point registers that the supervisor saves.
pub fn has_float() -> bool {
    let forms = crate::forms::forms();
    let case = crate::generate::Generator::new(&forms, 0, &["lr".to_owned()], 0).case(0, 0);
    run(&[case], &[0], true).is_ok_and(|run| run.stopped.is_empty())
}

fn load(cases: &[Case], order: &[u32], float: bool) -> Result<Arc<Storage>> {
    let storage = Storage::new(STORAGE).context("reserving storage")?;
    let ram = storage.ram();
    for (address, bytes) in image(cases, order, float) {
        ram.copy_in(address as usize, &bytes);
    }
    Ok(Arc::new(storage))
}

/// Runs to the supervisor's last wait. A text says why it did not get there.
fn execute(storage: &Arc<Storage>, cases: u64) -> Result<Option<String>> {
    let mut facilities = [0; 4];
    for bit in FACILITIES.iter().chain(&UNREPORTED) {
        facility::set(&mut facilities, *bit, true);
    }
    let config = VmConfig {
        memory_bytes: STORAGE,
        max_cpus: 1,
        facilities,
        cpu_id: 0x0000_0000_2964_0000,
        time: TimeMode::Virtual { shift: 0 },
        tod_start: Some(0),
        name: "oracle".into(),
        uuid: [0; 16],
    };
    let system = System::new(config, Arc::clone(storage)).context("creating the core")?;
    let mut state = system.state(0)?;
    state.psw = Psw { mask: START_MASK, addr: START };
    state.run_state = RunState::Operating;
    system.set_state(0, &state)?;
    system.set_run_state(0, RunState::Operating)?;
    let limit = RunLimit { instructions: Some(10_000 + cases * BUDGET_PER_CASE), block: false };
    Ok(match system.run(0, limit, None)? {
        CoreExit::Guest(Exit::DisabledWait(psw)) if psw.addr == DONE => None,
        other => {
            let psw = system.state(0)?.psw;
            Some(format!("{other:?} at psw {:016x} {:016x}", psw.mask, psw.addr))
        }
    })
}
