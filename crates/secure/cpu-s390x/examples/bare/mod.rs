//! What the measuring examples have in common: one CPU on a bare core with a program at 0x2000.
#![allow(dead_code, reason = "each example uses a part of it")]

use cloister_arch::s390x::{CpuState, Psw, RunState, TimeMode, VmConfig, facility};
use cloister_cpu_s390x::{FACILITIES, RunLimit, System};
use cloister_memory::Storage;
use std::sync::Arc;
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A CPU that is about to execute `program`, in `bytes` of storage; `set` changes its state before.
pub(crate) fn machine(
    name: &str,
    bytes: u64,
    program: &[u8],
    set: impl FnOnce(&mut CpuState),
) -> Result<System> {
    let storage = Arc::new(Storage::new(bytes)?);
    storage.ram().copy_in(0x2000, program);
    let mut facilities = [0; 4];
    FACILITIES.iter().for_each(|&bit| facility::set(&mut facilities, bit, true));
    let config = VmConfig {
        memory_bytes: storage.size(),
        max_cpus: 1,
        facilities,
        cpu_id: 0,
        time: TimeMode::Real,
        tod_start: None,
        name: name.into(),
        uuid: [0; 16],
    };
    let system = System::new(config, storage)?;
    let mut state = system.state(0)?;
    state.psw = Psw { mask: Psw::EA | Psw::BA, addr: 0x2000 };
    state.run_state = RunState::Operating;
    set(&mut state);
    system.set_state(0, &state)?;
    Ok(system)
}

/// Copies of an instruction, with a branch back to the first.
pub(crate) fn repeated(code: &[u8], copies: u64) -> Vec<u8> {
    let mut program = code.repeat(copies as usize);
    let back = (-(program.len() as i64) / 2) as i16;
    program.extend_from_slice(&[0xa7, 0xf4]);
    program.extend_from_slice(&back.to_be_bytes());
    program
}

/// Seconds of the fastest run of so many instructions.
pub(crate) fn fastest(system: &System, instructions: u64, time: Duration) -> Result<f64> {
    let limit = RunLimit { instructions: Some(instructions), block: false };
    let (mut best, start) = (f64::MAX, Instant::now());
    while start.elapsed() < time {
        let begin = Instant::now();
        system.run(0, limit, None)?;
        best = best.min(begin.elapsed().as_secs_f64());
    }
    Ok(best)
}
