//! Operators at work on a running machine: stop, go on, reset, hot-plug, the end; with a thread per CPU and with all
//! CPUs in turn.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use cloister_control::{Cause, Event, Machine, RunState};
use cloister_end_to_end::inprocess::{Boot, Model, guest_program};
use cloister_machines::s390_ccw::S390Ccw;
use cloister_machines::{End, Run as _};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What the operator did and heard.
#[derive(Default)]
struct Log {
    events: Vec<Event>,
    failed: Option<String>,
}

/// Boots the guest that answers what is typed, and lets an operator act in a thread of its own once it is ready.
fn operate(arguments: &[&str], act: impl Fn(&S390Ccw) + Send + Sync + 'static) -> (End, Vec<Event>, String) {
    let model = Model::new("operate");
    let program = model.write("echo.bin", &guest_program("echo"));
    let log = Arc::new(Mutex::new(Log::default()));
    let act = Arc::new(act);
    let once = Mutex::new(true);
    let hook_log = Arc::clone(&log);
    let run = Boot::clear(model.platform(), &program)
        .arguments(arguments)
        .turns(u64::MAX)
        .on_line(move |line, world| {
            if !line.contains("ready") || !std::mem::take(&mut *once.lock().unwrap()) {
                return;
            }
            let machine = world.machine();
            let (act, log, heard) = (Arc::clone(&act), Arc::clone(&hook_log), Arc::clone(&hook_log));
            let subscription = machine
                .events()
                .subscribe(move |event| heard.lock().unwrap().events.push(event.event.clone()));
            thread::spawn(move || {
                let acting = Arc::clone(&machine);
                let result = thread::spawn(move || act(acting.as_ref())).join();
                if let Err(why) = result {
                    let why = why.downcast_ref::<String>().cloned().unwrap_or_else(|| "failed".into());
                    log.lock().unwrap().failed = Some(why);
                }
                machine.quit(Cause::HostQmpQuit);
                drop(subscription);
            });
        })
        .run()
        .unwrap();
    let log = log.lock().unwrap();
    assert_eq!(log.failed, None, "the operator failed; the console:\n{}", run.console);
    (run.end, log.events.clone(), run.console)
}

const WAYS: [&[&str]; 3] =
    [&[], &["-accel", "soft,thread=multi"], &["-accel", "soft,thread=multi", "-smp", "4"]];

fn instructions(machine: &S390Ccw) -> u64 {
    machine.vm().unwrap().instructions().unwrap().iter().sum()
}

#[test]
fn a_stopped_machine_executes_nothing_and_its_time_stands_still() {
    for way in WAYS {
        let (end, events, _) = operate(way, |machine| {
            let vm = machine.vm().unwrap();
            for _ in 0..20 {
                machine.stop().unwrap();
                assert_eq!(machine.run_state(), RunState::Paused);
                let before = (instructions(machine), vm.tod().unwrap());
                let state = vm.state(0).unwrap();
                thread::sleep(Duration::from_millis(2));
                assert_eq!((instructions(machine), vm.tod().unwrap()), before);
                assert_eq!(vm.state(0).unwrap(), state);
                machine.cont().unwrap();
                assert_eq!(machine.run_state(), RunState::Running);
            }
        });
        assert_eq!(end, End::Quit);
        let expected: Vec<Event> = std::iter::repeat_n([Event::Stop, Event::Resume], 20)
            .flatten()
            .chain([Event::Shutdown(Cause::HostQmpQuit)])
            .collect();
        assert_eq!(events, expected, "{way:?}");
    }
}

#[test]
fn stopping_twice_and_going_on_twice_is_told_once() {
    let (_, events, _) = operate(WAYS[1], |machine| {
        machine.stop().unwrap();
        machine.stop().unwrap();
        machine.cont().unwrap();
        machine.cont().unwrap();
    });
    assert_eq!(events, [Event::Stop, Event::Resume, Event::Shutdown(Cause::HostQmpQuit)]);
}

#[test]
fn operators_at_the_same_time_do_not_get_into_each_others_way() {
    for way in WAYS {
        operate(way, |machine| {
            thread::scope(|scope| {
                for operator in 0..4 {
                    scope.spawn(move || {
                        for _ in 0..10 {
                            match operator {
                                0 => machine.stop().unwrap(),
                                1 => machine.cont().unwrap(),
                                2 => machine.reset(Cause::HostQmpSystemReset).unwrap(),
                                _ => drop(machine.cpus()),
                            }
                        }
                    });
                }
            });
            machine.cont().unwrap();
        });
    }
}

#[test]
fn a_reset_starts_the_guest_again() {
    for way in WAYS {
        let (_, events, console) = operate(way, |machine| {
            machine.reset(Cause::HostQmpSystemReset).unwrap();
            thread::sleep(Duration::from_millis(300));
        });
        assert_eq!(events[0], Event::Reset(Cause::HostQmpSystemReset));
        assert_eq!(console.matches("ready").count(), 2, "{way:?}: {console}");
    }
}

#[test]
fn a_reset_of_a_stopped_machine_leaves_it_stopped_before_its_first_instruction() {
    operate(WAYS[1], |machine| {
        machine.stop().unwrap();
        machine.reset(Cause::HostQmpSystemReset).unwrap();
        assert_eq!(machine.run_state(), RunState::Prelaunch);
        assert_eq!(machine.vm().unwrap().state(0).unwrap().psw.addr, 0x10000);
    });
}

#[test]
fn no_shutdown_keeps_the_process_and_only_a_reset_helps() {
    for way in WAYS {
        let arguments: Vec<&str> = way.iter().copied().chain(["-no-shutdown"]).collect();
        let (end, events, console) = operate(&arguments, |machine| {
            machine.console_input(b"q");
            while machine.run_state() != RunState::Shutdown {
                thread::sleep(Duration::from_millis(1));
            }
            assert!(machine.cont().unwrap_err().text.contains("Resetting the Virtual Machine is required"));
            machine.reset(Cause::HostQmpSystemReset).unwrap();
            machine.cont().unwrap();
            thread::sleep(Duration::from_millis(300));
        });
        assert_eq!(end, End::Quit);
        assert_eq!(
            events,
            [
                Event::Shutdown(Cause::GuestShutdown),
                Event::Stop,
                Event::Reset(Cause::HostQmpSystemReset),
                Event::Resume,
                Event::Shutdown(Cause::HostQmpQuit)
            ]
        );
        assert_eq!(console.matches("ready").count(), 2);
    }
}

#[test]
fn the_threads_of_cpus_are_alive_while_the_machine_is_stopped() {
    operate(WAYS[2], |machine| {
        machine.stop().unwrap();
        let cpus = machine.cpus();
        assert_eq!(cpus.len(), 4);
        for cpu in cpus {
            assert!(std::path::Path::new(&format!("/proc/self/task/{}", cpu.thread_id)).exists());
        }
    });
}
