//! A hostile host kernel against a protected guest: whatever it does, the guest finds its own data or does not
//! go on, and the host gets the documented answer.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use cloister_arch::s390x::{CpuRequest, CpuResponse, CpuState, LocalInterrupt, ResetKind, RunState};
use cloister_end_to_end::inprocess::{
    Answer, Audit, Boot, HANGS, Host, Model, Run, World, command_of, granted, guest_program,
};
use cloister_firmware_api::{Request, Response};
use cloister_formats::s390x::uvcb::{ConvToSec, Unpack, UvCommand};
use cloister_machines::{End, MachineError};
use cloister_owner::image::{Damage, Settings};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The witness's first page of data, and how many it has.
const PAGE: u64 = 0x100;
const PAGES: usize = 8;
/// The page that the witness shares.
const SHARED: u64 = 0x50;

/// Boots the witness and acts when it is ready: its pages are written, its CPU is outside the core.
fn attack(cmdline: &str, act: impl Fn(&World) + Send + Sync + 'static) -> Run {
    let model = Model::new("hostile");
    let image = model.witness(cmdline);
    let boot = Boot::protected(model.platform(), &image).on_line(move |line, world| {
        if line == "ready" {
            act(world);
        }
    });
    boot.run().unwrap()
}

fn with_hook(hook: impl Fn(&Host, Request) -> Response + Send + Sync + 'static) -> Run {
    let model = Model::new("hostile");
    let image = model.witness("c");
    Boot::protected(model.platform(), &image).lower(hook).run().unwrap()
}

#[track_caller]
fn unharmed(run: &Run) {
    assert!(run.inside().is_some(), "{run:?}");
    assert_eq!((run.pages("intact"), run.pages("WRONG")), (PAGES, 0), "{run:?}");
    assert_eq!(run.end, End::PowerOff, "{run:?}");
}

/// The guest was stopped before it could see anything wrong.
#[track_caller]
fn stuck(run: &Run, words: &str) {
    assert_eq!(run.pages("WRONG"), 0, "{run:?}");
    match &run.end {
        End::Stuck { reason, .. } => assert!(reason.contains(words), "{reason}"),
        other => panic!("{other:?}: {}", run.console),
    }
    assert!(!run.says("powering off"), "{run:?}");
}

#[track_caller]
fn refused(run: &Run, code: &str) {
    assert_eq!(run.inside(), None, "{run:?}");
    assert_eq!(run.entered, 0, "{run:?}");
    assert!(run.told(code), "{run:?}");
    let explained =
        run.messages.iter().any(|message| message.contains(code) && message.len() > code.len() + 20);
    assert!(explained, "the refusal is not explained: {run:?}");
}

#[track_caller]
fn codes(answer: &Answer, rc: u16, rrc: u16) {
    assert_eq!((answer.ok(), answer.rc, answer.rrc), (false, rc, rrc), "{answer:?}");
}

#[test]
fn left_alone_the_witness_finds_its_pages() {
    unharmed(&attack("c", |_| {}));
}

#[test]
fn a_host_write_to_a_private_page_is_lost() {
    unharmed(&attack("c", |world| {
        for page in 0..PAGES as u64 {
            world.host.write((PAGE + page) * 4096, &[0x5a; 4096]);
        }
    }));
}

#[test]
fn a_host_write_to_the_code_that_runs_is_lost() {
    unharmed(&attack("c", |world| {
        world.host.write(0, &[0; 0x14000]);
        // An operation exception if it were executed.
        world.host.forward(Request::Invalidate { address: 0, len: 0x14000 });
    }));
}

#[test]
fn an_honest_export_and_import_changes_nothing() {
    unharmed(&attack("c", |world| {
        for page in PAGE..PAGE + PAGES as u64 {
            assert!(world.host.export(page).ok());
            // It may also bring the page back itself.
            if page % 2 == 0 {
                assert!(world.host.import(page).ok());
            }
        }
    }));
}

#[test]
fn an_older_export_is_refused_and_the_guest_stops() {
    let run = attack("c", |world| {
        assert!(world.host.export(PAGE).ok());
        let older = world.host.page(PAGE);
        assert!(world.host.import(PAGE).ok());
        assert!(world.host.export(PAGE).ok());
        assert!(world.host.page(PAGE) != older, "two exports of a page must differ");
        world.host.write(PAGE * 4096, older.as_slice());
    });
    stuck(&run, "rc 104");
    assert_eq!(run.pages("intact"), 0);
}

#[test]
fn two_exports_in_each_others_place_are_refused_and_the_guest_stops() {
    let run = attack("c", |world| {
        let [a, b] = [PAGE + 1, PAGE + 2].map(|page| {
            assert!(world.host.export(page).ok());
            world.host.page(page)
        });
        world.host.write((PAGE + 1) * 4096, b.as_slice());
        world.host.write((PAGE + 2) * 4096, a.as_slice());
        codes(&world.host.import(PAGE + 2), 0x104, 0);
    });
    stuck(&run, "rc 104");
    assert_eq!(run.pages("intact"), 1);
}

#[test]
fn an_altered_export_is_refused_at_every_place() {
    for at in [0, 1, 15, 16, 2047, 4094, 4095] {
        let run = attack("c", move |world| {
            assert!(world.host.export(PAGE + 7).ok());
            let mut page = world.host.page(PAGE + 7);
            page[at] ^= 1 << (at % 8);
            world.host.write((PAGE + 7) * 4096, page.as_slice());
        });
        stuck(&run, "rc 104");
        assert_eq!(run.pages("intact"), 7);
    }
}

#[test]
fn other_bytes_than_the_export_are_refused() {
    for byte in [0, 0xff] {
        let run = attack("c", move |world| {
            assert!(world.host.export(PAGE).ok());
            world.host.write(PAGE * 4096, &[byte; 4096]);
        });
        stuck(&run, "rc 104");
    }
}

#[test]
fn a_destroyed_page_never_reads_as_zero() {
    let run = attack("c", |world| {
        assert!(world.host.destroy(PAGE + 3).ok());
        assert!(world.host.page(PAGE + 3).iter().all(|&byte| byte == 0));
        codes(&world.host.import(PAGE + 3), 0x104, 0);
    });
    stuck(&run, "rc 104");
    assert_eq!(run.pages("intact"), 3);
}

/// It never gives the page that the guest asks for: the guest waits, and nothing else happens.
#[test]
fn a_host_that_imports_another_page_only_stops_the_guest() {
    let armed = AtomicBool::new(false);
    let model = Model::new("hostile");
    let image = model.witness("c");
    let run = Boot::protected(model.platform(), &image)
        .lower(move |host, request| match request {
            Request::Uvc { block, data } => {
                let block = match ConvToSec::parse(&block) {
                    Ok(call)
                        if ConvToSec::COMMAND.0.to_be_bytes() == block[2..4] && call.gaddr == PAGE * 4096 =>
                    {
                        armed.store(true, Ordering::Relaxed);
                        ConvToSec { gaddr: (PAGE + 0x40) * 4096, ..call }.encode()
                    }
                    _ => block,
                };
                host.forward(Request::Uvc { block, data })
            }
            // Its core asks for the same page for ever; the test has less patience.
            Request::Enter { .. } if armed.load(Ordering::Relaxed) => {
                let exit = cloister_arch::s390x::Exit::Stuck { reason: HANGS.into() };
                Response::Left(cloister_firmware_api::Left::Exit(exit))
            }
            request => host.forward(request),
        })
        .run()
        .unwrap();
    stuck(&run, HANGS);
}

#[test]
fn what_only_fits_an_earlier_state_is_refused_while_the_guest_runs() {
    unharmed(&attack("c", |world| {
        let host = &world.host;
        codes(&host.unpack(0x180_000, [0, 0]), 3, 0);
        codes(&host.on_configuration(UvCommand::VERIFY), 3, 0);
        codes(&host.set_header(&[0; 0x280]), 3, 0);
        codes(&host.on_configuration(UvCommand::PREPARE_RESET), 3, 0);
        codes(&host.on_configuration(UvCommand::UNSHARE_ALL), 3, 0);
        for reset in [UvCommand::CPU_RESET, UvCommand::CPU_INITIAL_RESET, UvCommand::CPU_CLEAR_RESET] {
            codes(&host.on_cpu(reset, 0), 3, 0);
        }
        codes(&host.set_cpu_state(0, 5), 3, 0);
        codes(&host.set_cpu_state(0, 0), 0x101, 0);
        codes(&host.set_cpu_state(0, 9), 0x101, 0);
        assert!(!host.on_configuration(UvCommand::DESTROY_SEC_CONF).ok(), "it has a CPU");
        assert!(!host.on_cpu(UvCommand::CPU_RESET, 17).ok(), "there is no such CPU");
    }));
}

/// Stopping, resetting and starting a CPU is the host's right. What it gets is a guest that starts nowhere.
#[test]
fn a_cpu_that_the_host_resets_never_computes_on_wrong_data() {
    for reset in [UvCommand::CPU_RESET, UvCommand::CPU_INITIAL_RESET, UvCommand::CPU_CLEAR_RESET] {
        let run = attack("c", move |world| {
            assert!(world.host.set_cpu_state(0, 2).ok());
            assert!(world.host.on_cpu(reset, 0).ok());
            codes(&world.host.set_cpu_state(0, 5), 3, 0);
            let started = world.host.set_cpu_state(0, 1);
            assert!(started.ok() || started.rc == 3, "{started:?}");
        });
        assert_eq!(run.pages("WRONG"), 0, "{run:?}");
    }
}

#[test]
fn registers_of_a_protected_cpu_cannot_be_read_set_or_reset() {
    unharmed(&attack("c", |world| {
        let ask = |request| match world.host.forward(Request::Cpu(request)) {
            Response::Cpu(CpuResponse::Refused(why)) => assert!(why.contains("protected"), "{why}"),
            other => panic!("{other:?}"),
        };
        ask(CpuRequest::State { cpu: 0 });
        let state = CpuState { version: CpuState::VERSION, ..CpuState::default() };
        ask(CpuRequest::SetState { cpu: 0, state: Box::new(state) });
        ask(CpuRequest::SetRunState { cpu: 0, state: RunState::Stopped });
        for kind in [ResetKind::Normal, ResetKind::Initial, ResetKind::Clear] {
            ask(CpuRequest::Reset { cpu: 0, kind });
        }
        for interrupt in [LocalInterrupt::ExternalCall(0), LocalInterrupt::EmergencySignal(0)] {
            ask(CpuRequest::InjectLocal { cpu: 0, interrupt });
        }
    }));
}

#[test]
fn a_private_page_cannot_be_pinned_and_unpinning_changes_nothing() {
    unharmed(&attack("c", |world| {
        for page in PAGE..PAGE + PAGES as u64 {
            codes(&world.host.pin(page), 0x107, 0);
            assert!(world.host.unpin(page).ok());
        }
        codes(&world.host.pin(world.host.size() / 4096), 0x10a, 0);
        codes(&world.host.export(world.host.size() / 4096), 0x10a, 0);
    }));
}

#[test]
fn a_pinned_page_becomes_private_only_after_the_host_let_go() {
    let honest = |keeps: bool| {
        let model = Model::new("hostile");
        let image = model.witness("s");
        Boot::protected(model.platform(), &image)
            .on_line(|line, world| {
                if line == "one page shared with the host" {
                    assert!(world.host.pin(SHARED).ok());
                }
            })
            .lower(move |host, request| match (command_of(&request), request) {
                (Some(UvCommand::UNPIN_PAGE_SHARED), Request::Uvc { block, .. }) if keeps => {
                    // The kernel would try for ever.
                    drop(granted(block));
                    Response::Refused("the host keeps it".into())
                }
                (_, request) => host.forward(request),
            })
            .run()
            .unwrap()
    };
    let run = honest(false);
    unharmed(&run);
    assert!(run.says("page is private again"), "{run:?}");
    let run = honest(true);
    stuck(&run, "the host keeps it");
    assert!(!run.says("page is private again"), "{run:?}");
}

/// Changes the Ultravisor calls with which the host kernel unpacks; `change` gets the number of the call.
fn unpacking(change: impl Fn(usize, Unpack) -> Vec<Unpack> + Send + Sync + 'static) -> Run {
    let count = AtomicUsize::new(0);
    with_hook(move |host, request| match (command_of(&request), request) {
        (Some(UvCommand::UNPACK), Request::Uvc { block, data }) => {
            let call = Unpack::parse(&block).unwrap();
            let mut last = granted(block);
            for call in change(count.fetch_add(1, Ordering::Relaxed), call) {
                last = host.forward(Request::Uvc { block: call.encode(), data: data.clone() });
            }
            last
        }
        (_, request) => host.forward(request),
    })
}

#[test]
fn components_at_other_addresses_are_refused() {
    let run =
        unpacking(|number, call| vec![if number == 3 { Unpack { gaddr: 0x200_000, ..call } } else { call }]);
    refused(&run, "rc 102 rrc 1a");
}

#[test]
fn components_in_another_order_are_refused() {
    let held = Mutex::new(None);
    let run = unpacking(move |number, call| match number {
        2 => {
            *held.lock().unwrap() = Some(call);
            Vec::new()
        }
        3 => vec![call, held.lock().unwrap().take().unwrap()],
        _ => vec![call],
    });
    refused(&run, "rc 102 rrc 1a");
}

#[test]
fn a_wrong_tweak_is_refused() {
    let run = unpacking(|number, call| {
        let [prefix, offset] = call.tweak;
        vec![if number == 3 { Unpack { tweak: [prefix ^ 1, offset], ..call } } else { call }]
    });
    refused(&run, "rc 102 rrc 1c");
}

#[test]
fn one_page_too_many_or_too_few_is_refused() {
    let run = unpacking(|number, call| {
        let further = Unpack { gaddr: 0x200_000, ..call.clone() };
        if number == 3 { vec![call, further] } else { vec![call] }
    });
    refused(&run, "rc 102 rrc 1d");
    let run = unpacking(|number, call| if number == 3 { Vec::new() } else { vec![call] });
    refused(&run, "rc 102 rrc 1d");
}

#[test]
fn without_verify_no_cpu_starts() {
    let run = with_hook(|host, request| match (command_of(&request), request) {
        (Some(UvCommand::VERIFY), Request::Uvc { block, .. }) => granted(block),
        (_, request) => host.forward(request),
    });
    refused(&run, "rc 3");
}

/// The host says that the image was refused or granted; only the Ultravisor's own state counts.
#[test]
fn a_host_that_claims_to_have_started_a_cpu_has_not() {
    let run = with_hook(|host, request| match (command_of(&request), request) {
        (Some(UvCommand::VERIFY | UvCommand::CPU_SET_STATE), Request::Uvc { block, .. }) => granted(block),
        (_, request) => host.forward(request),
    });
    assert_eq!((run.inside(), run.entered), (None, 0), "{run:?}");
}

#[test]
fn an_altered_header_is_refused() {
    for (at, code) in
        [(0, "rc 104 rrc 1"), (0x27, "rc 102 rrc 1d"), (0x1c0, "rc 10b"), (0x270, "rc 10b rrc 2")]
    {
        let run = with_hook(move |host, request| match (command_of(&request), request) {
            (Some(UvCommand::SET_SEC_CONF_PARAMS), Request::Uvc { block, mut data }) => {
                data[at] ^= 1;
                host.forward(Request::Uvc { block, data })
            }
            (_, request) => host.forward(request),
        });
        assert_eq!((run.inside(), run.entered), (None, 0), "{at:#x}: {run:?}");
        assert!(run.told("rc 10") && !run.messages.is_empty(), "{at:#x} {code}: {run:?}");
    }
}

/// The Ultravisor has its own copy of the header, and takes no second one.
#[test]
fn a_header_that_changes_after_it_was_set_changes_nothing() {
    let refusals = AtomicUsize::new(0);
    unharmed(&with_hook(move |host, request| match (command_of(&request), request) {
        (Some(UvCommand::SET_SEC_CONF_PARAMS), Request::Uvc { block, data }) => {
            let answer = host.forward(Request::Uvc { block, data: data.clone() });
            host.write(0x14000, &[0xff; 0x1000]);
            if refusals.fetch_add(1, Ordering::Relaxed) == 0 {
                codes(&host.set_header(&data), 3, 0);
            }
            answer
        }
        (_, request) => host.forward(request),
    }));
}

/// Another thread of the host changes the page while the Ultravisor unpacks it: what is checked is what runs.
#[test]
fn a_page_that_changes_while_it_is_unpacked_is_refused_or_as_it_was() {
    let mut outcomes = [0, 0];
    for round in 0..24u64 {
        let count = AtomicUsize::new(0);
        let run = with_hook(move |host, request| match (command_of(&request), request) {
            (Some(UvCommand::UNPACK), Request::Uvc { block, data }) => {
                let address = Unpack::parse(&block).unwrap().gaddr + 64 * round;
                let number = count.fetch_add(1, Ordering::Relaxed);
                if number % 3 != 1 {
                    return host.forward(Request::Uvc { block, data });
                }
                let mut good = [0];
                host.read(address, &mut good);
                let done = AtomicBool::new(false);
                std::thread::scope(|scope| {
                    scope.spawn(|| {
                        while !done.load(Ordering::Relaxed) {
                            host.write(address, &[!good[0]]);
                            host.write(address, &good);
                        }
                    });
                    let answer = host.forward(Request::Uvc { block, data });
                    done.store(true, Ordering::Relaxed);
                    answer
                })
            }
            (_, request) => host.forward(request),
        });
        if run.entered == 0 {
            refused(&run, "rc 102 rrc 1b");
            outcomes[0] += 1;
        } else {
            unharmed(&run);
            outcomes[1] += 1;
        }
    }
    println!("{} refused, {} ran as they were", outcomes[0], outcomes[1]);
}

/// A device that is pointed at a private page makes the host export it: it reads ciphertext. What it writes there
/// destroys the export, so that the guest stops when it touches the page; it never finds the device's bytes. A channel
/// program in a private page is ciphertext to the device: what the guest wrote there is not carried out.
#[test]
fn a_device_gets_nothing_from_a_private_page_and_its_bytes_never_reach_the_guest() {
    let model = Model::new("hostile");
    let image = model.witness("d");
    let audit = Audit::new(&[b"CLOISTER-WITNESS-PRIVATE-MARK-0"]);
    let boot = Boot::protected(model.platform(), &image).arguments(&["-device", "virtio-rng-ccw"]);
    let run = boot.audit(&audit).run().unwrap();
    // The channel subsystem was given ciphertext as a program. Nearly always that is a program check; some of the
    // 2^64 random first CCWs ask for an intermediate status beside it, or are a command that the device rejects.
    assert!(run.console.contains("program in a private page: status 0x"), "it ended somehow: {run:?}");
    assert_eq!(run.pages("intact"), 3, "{run:?}");
    stuck(&run, "rc 104");
    assert_eq!(audit.findings(), []);

    let probe = model.image(&guest_program("probe"), None, "", &Settings::default());
    let probe = model.write("probe.img", &probe);
    let boot = Boot::protected(model.platform(), &probe).arguments(&["-device", "virtio-rng-ccw"]);
    let run = boot.run().unwrap();
    assert!(!run.console.contains("THE PAGE WAS WRITTEN"), "{run:?}");
    assert!(run.console.contains("untouched") || matches!(run.end, End::Stuck { .. }), "{run:?}");
}

#[test]
fn an_image_for_another_host_is_refused_with_a_hint() {
    let model = Model::new("hostile");
    let other = Model::new("another");
    let image = other.witness("c");
    let run = Boot::protected(model.platform(), &image).run().unwrap();
    refused(&run, "rc 108 rrc 5");
    assert!(run.told("Please check whether the image is correctly encrypted for this host"), "{run:?}");
    assert!(run.console.contains("Protected boot failed: 0x"), "{run:?}");
}

#[test]
fn deliberate_defects_have_their_codes() {
    let model = Model::new("hostile");
    let cases = [
        (Damage::FlippedPage(0), "rc 102 rrc 1b"),
        (Damage::FlippedPage(17), "rc 102 rrc 1b"),
        (Damage::WrongAld, "rc 102 rrc 1a"),
        (Damage::WrongTld, "rc 102 rrc 1c"),
        (Damage::WrongPageCount, "rc 102 rrc 1d"),
        (Damage::ForeignKey, "rc 108 rrc 5"),
        (Damage::FlippedHeaderBit(0), "rc 104 rrc 1"),
    ];
    let kernel = guest_program("witness");
    for (damage, code) in cases {
        let settings = Settings { damage: Some(damage), ..Settings::default() };
        let image = model.write("damaged.img", &model.image(&kernel, None, "c", &settings));
        let run = Boot::protected(model.platform(), &image).run().unwrap();
        refused(&run, code);
    }
}

fn start(present: bool, prot_virt: bool, protected: bool) -> Result<Run, MachineError> {
    let model = Model::new("hostile");
    let image = model.witness("c");
    let platform = model.platform_with(present, prot_virt);
    let image: &Path = &image;
    let boot = if protected { Boot::protected(platform, image) } else { Boot::clear(platform, image) };
    boot.run()
}

#[test]
fn without_an_ultravisor_the_object_is_refused_in_words() {
    let words = start(false, true, true).unwrap_err().to_string();
    assert!(words.contains("Ultravisor") || words.contains("protected virtualization"), "{words}");
    let words = start(true, false, true).unwrap_err().to_string();
    assert!(words.contains("prot_virt=0"), "{words}");
}

/// The loader says itself that it cannot, and the guest ends with its code.
#[test]
fn without_an_ultravisor_an_image_stays_outside() {
    for (present, prot_virt) in [(false, true), (true, false), (false, false)] {
        let run = start(present, prot_virt, false).unwrap();
        assert!(run.says("Secure unpack facility is not available"), "{run:?}");
        assert!(matches!(run.end, End::Crashed { addr: 0x4607, .. }), "{run:?}");
        assert_eq!(run.entered, 0);
    }
}
