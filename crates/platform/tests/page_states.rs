//! The states of pages, told in pieces, by a platform that may not tell the truth.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use cloister_arch::s390x::{TimeMode, VmConfig};
use cloister_platform::{Door, Loopback, MemoryMap, PageRun, PageState, Request, Response, Vm, VmError};
use proptest::prelude::*;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use std::sync::Arc;

const PAGES: u64 = 64;

/// Answers each request for states with what the function says.
struct Teller<F> {
    memory: OwnedFd,
    access: OwnedFd,
    tell: F,
}

impl<F: Fn(u64, u64) -> Response + Send + Sync> Door for Teller<F> {
    fn call(&self, request: Request) -> Response {
        match request {
            Request::CreateVm(_) => Response::Created(MemoryMap {
                memory_fd: self.memory.as_raw_fd(),
                access_fd: self.access.as_raw_fd(),
                size: PAGES * 4096,
                slots: Vec::new(),
            }),
            Request::PageStates { first, count } => (self.tell)(first, count),
            _ => Response::Refused("this door only tells states".into()),
        }
    }
}

fn vm(tell: impl Fn(u64, u64) -> Response + Send + Sync + 'static) -> Vm {
    let file = |len| {
        let file = memfd_create("states", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, len).unwrap();
        file
    };
    let teller = Teller { memory: file(PAGES * 4096), access: file(4096), tell };
    let config = VmConfig {
        memory_bytes: PAGES * 4096,
        max_cpus: 1,
        facilities: [0; 4],
        cpu_id: 0,
        time: TimeMode::Real,
        tod_start: None,
        name: String::new(),
        uuid: [0; 16],
    };
    Vm::create(Arc::new(Loopback::new(Arc::new(teller))), config).unwrap()
}

fn state(number: u8) -> PageState {
    PageState::ALL[usize::from(number) % PageState::ALL.len()]
}

proptest! {
    #[test]
    fn pieces_are_put_together(
        states in prop::collection::vec(0u8..2, PAGES as usize),
        most in 1usize..9,
        start in 0..PAGES,
        len in 0..PAGES * 2,
    ) {
        let told = states.clone();
        let vm = vm(move |first, count| {
            let mut runs: Vec<PageRun> = Vec::new();
            for page in first..(first + count).min(PAGES) {
                if runs.len() == most {
                    return Response::PageStates { runs, next: Some(page) };
                }
                // Not merged: that is the caller's part.
                runs.push(PageRun { first: page, pages: 1, state: state(told[page as usize]) });
            }
            Response::PageStates { runs, next: None }
        });
        let mut at = start;
        let runs = vm.page_states(start..start + len).unwrap();
        for (index, run) in runs.iter().enumerate() {
            prop_assert_eq!(run.first, at);
            prop_assert!(index == 0 || runs[index - 1].state != run.state);
            for page in run.first..run.first + run.pages {
                prop_assert_eq!(run.state, state(states[page as usize]));
            }
            at += run.pages;
        }
        prop_assert_eq!(at, (start + len).min(PAGES));
    }

    /// It ends, and what it yields covers the range.
    #[test]
    fn a_platform_that_tells_nonsense_is_found_out(
        runs in prop::collection::vec((0..PAGES + 2, 0..PAGES + 2, any::<u8>()), 0..4),
        next in prop::option::of(0..PAGES + 2),
    ) {
        let vm = vm(move |_, _| Response::PageStates {
            runs: runs.iter().map(|&(first, pages, of)| PageRun { first, pages, state: state(of) }).collect(),
            next,
        });
        match vm.page_states(0..PAGES) {
            Ok(runs) => prop_assert_eq!(runs.iter().map(|run| run.pages).sum::<u64>(), PAGES),
            Err(error) => prop_assert!(matches!(error, VmError::Protocol { .. }), "{}", error),
        }
    }
}

#[test]
fn a_run_beyond_all_numbers_is_found_out() {
    for (first, pages) in [(0, u64::MAX), (u64::MAX, u64::MAX), (u64::MAX, 1), (0, PAGES + 1)] {
        let run = PageRun { first, pages, state: PageState::Private };
        let vm = vm(move |_, _| Response::PageStates { runs: vec![run], next: None });
        assert!(matches!(vm.page_states(0..u64::MAX), Err(VmError::Protocol { .. })));
    }
}
