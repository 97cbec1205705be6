//! `dump-guest-memory` of a whole machine, in the clear and protected, and what the owner of the image makes of it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use cloister_control::{ControlError, DumpProgress, DumpSink, DumpStatus, Event, Machine, RunState};
use cloister_crypto::{Secret, SeededEntropy};
use cloister_dump::{Command, Target, command};
use cloister_elf_core::Core;
use cloister_end_to_end::inprocess::{Boot, Model, find, guest_program};
use cloister_owner::OwnerError;
use cloister_owner::dump::{DumpError, Options, Report, decrypt};
use cloister_owner::image::{BootStages, Input, Keys, Settings, build};
use cloister_silicon_s390x::{PageKind, Silicon};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// What the witness writes into its private pages, and their addresses.
const MARKER: &[u8] = b"CLOISTER-WITNESS-PRIVATE-MARK-0";
const PAGE: usize = 0x1000;
const WITNESS: usize = 0x10_0000;
const SIZE: usize = 8 << 20;
const CCK: [u8; 32] = [0x6b; 32];

/// An image of the witness, with or without leave to dump it.
fn image(model: &Model, dump: bool) -> PathBuf {
    let key = model.platform().s390x().host.secret.public();
    let kernel = guest_program("witness");
    let input = Input { kernel: &kernel, ramdisk: None, cmdline: Some(b"s") };
    let keys = Keys { cck: Some(Secret::new(CCK)), ..Keys::default() };
    let settings = Settings { dump, ..Settings::default() };
    let mut entropy = SeededEntropy::new(b"dump");
    let image = build(&input, &[key], &settings, &keys, &BootStages::BUILT_IN, &mut entropy).unwrap().0;
    model.write("witness.img", &image)
}

/// What the test knows of the guest while it is dumped, from inside the secure world.
struct Truth {
    memory: Vec<u8>,
    kinds: Vec<Option<PageKind>>,
}

impl Truth {
    fn of(silicon: &Silicon) -> Self {
        let storage = silicon.storage().unwrap();
        let ram = storage.ram();
        let (mut memory, mut kinds) = (Vec::new(), Vec::new());
        for page in 0..(SIZE / PAGE) as u64 {
            let kind = silicon.page_kind(page);
            let half = match kind {
                Some(PageKind::Secure) => storage.size() as usize,
                _ => 0,
            };
            let mut bytes = [0; PAGE];
            ram.copy_out(storage.host_offset(page).unwrap() + half, &mut bytes);
            if kind == Some(PageKind::NonSecure) {
                // What the host left there the guest never sees: its first touch clears the page.
                bytes.fill(0);
            }
            memory.extend(bytes);
            kinds.push(kind);
        }
        Self { memory, kinds }
    }
}

/// A sink for a look at the machine before the first byte.
struct Looking<'a> {
    look: Option<Box<dyn FnOnce() + Send + 'a>>,
}

impl std::io::Write for Looking<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if let Some(look) = self.look.take() {
            look();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl DumpSink for Looking<'_> {
    fn finish(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Runs a guest and lets `act` dump it when it has printed `line`; the guest waits meanwhile, and then goes on.
fn run(
    boot: Boot<'_>,
    line: &'static str,
    act: impl Fn(&Arc<dyn Machine>, &Silicon) + Send + Sync + 'static,
) -> (cloister_end_to_end::inprocess::Run, Vec<Event>) {
    let act = Arc::new(act);
    let events: Arc<Mutex<Vec<Event>>> = Arc::default();
    let acting: Arc<Mutex<Option<JoinHandle<()>>>> = Arc::default();
    let (heard, started) = (Arc::clone(&events), Arc::clone(&acting));
    let run = boot
        .on_line(move |said, world| {
            if said != line {
                return;
            }
            let (machine, act, heard, inner) =
                (world.machine(), Arc::clone(&act), Arc::clone(&heard), Arc::clone(&world.silicon));
            let waiting = Arc::clone(&machine);
            *started.lock().unwrap() = Some(thread::spawn(move || {
                let subscription =
                    machine.events().subscribe(move |event| heard.lock().unwrap().push(event.event.clone()));
                let machine: Arc<dyn Machine> = machine;
                act(&machine, &inner);
                drop(subscription);
            }));
            // The CPU is in this call: it executes nothing until the stop that the dump begins with is under way.
            while waiting.run_state() == RunState::Running {
                thread::yield_now();
            }
        })
        .run()
        .unwrap();
    acting.lock().unwrap().take().unwrap().join().unwrap();
    let events = events.lock().unwrap().clone();
    (run, events)
}

fn dump_to(machine: &Arc<dyn Machine>, file: &Path) -> Result<(), ControlError> {
    command(machine, &Command::default(), || Ok(Target::File(file.into())))
}

fn memory(file: &[u8]) -> &[u8] {
    let core = Core::read(file).unwrap();
    assert_eq!(
        core.loads.iter().map(|load| (load.address, load.size)).collect::<Vec<_>>(),
        [(0, SIZE as u64)]
    );
    &file[core.loads[0].offset as usize..][..SIZE]
}

/// `struct elf_prstatus`: general register `number` of the first CPU.
fn gpr(file: &[u8], number: usize) -> u64 {
    let core = Core::read(file).unwrap();
    let status = &core.notes.iter().find(|note| note.owner == b"CORE" && note.kind == 1).unwrap().data;
    u64::from_be_bytes(status[128 + 8 * number..][..8].try_into().unwrap())
}

fn completed(total: u64) -> Event {
    let result = DumpProgress { status: DumpStatus::Completed, completed: total, total };
    Event::DumpCompleted { result, error: None }
}

#[test]
fn a_clear_guest_is_dumped_as_it_is_and_goes_on() {
    let model = Model::new("dump");
    let kernel = model.write("witness.bin", &guest_program("witness"));
    let file = model.file("core");
    let (core, truth) = (file.clone(), Arc::new(Mutex::new(Vec::new())));
    let seen = Arc::clone(&truth);
    let (run, events) = run(Boot::clear(model.platform(), &kernel).arguments(&["-smp", "2"]), "ready", {
        move |machine, silicon| {
            dump_to(machine, &core).unwrap();
            let _ = silicon;
            seen.lock().unwrap().push(machine.dump_progress());
        }
    });
    assert_eq!(events[..3], [Event::Stop, completed(SIZE as u64), Event::Resume]);
    assert_eq!(truth.lock().unwrap()[0].status, DumpStatus::Completed);
    let bytes = std::fs::read(&file).unwrap();
    let dumped = memory(&bytes);
    assert!(find(&dumped[WITNESS..][..PAGE], MARKER).is_some());
    assert_eq!(dumped[0x10000..0x10008], guest_program("witness")[0x10000..0x10008]);
    assert_eq!((gpr(&bytes, 11), Core::read(&bytes[..]).unwrap().cpus()), (0x9000, 2));
    assert_eq!(run.pages("intact"), 8, "{}", run.console);
}

#[test]
fn the_owner_of_a_protected_guest_gets_its_memory_and_nobody_else() {
    let model = Model::new("dump");
    let image = image(&model, true);
    let (cck, file, plain) = (model.write("cck", &CCK), model.file("dump"), model.file("core"));
    let wrong = model.write("wrong", &[0x6c; 32]);
    let dumped: Arc<Mutex<Option<Truth>>> = Arc::default();
    let (into, to) = (Arc::clone(&dumped), file.clone());
    let line = "one page shared with the host";
    let (run, events) = run(Boot::protected(model.platform(), &image), line, move |machine, silicon| {
        // The machine rests between a dump that is thrown away and the one that counts: what is true for one is
        // for the other, since pages come and go but the guest does not run.
        machine.stop().unwrap();
        *into.lock().unwrap() = Some(Truth::of(silicon));
        dump_to(machine, &to).unwrap();
        machine.cont().unwrap();
    });
    assert!(events.contains(&completed(SIZE as u64)), "{events:?}");
    assert_eq!(run.pages("intact"), 8, "the guest goes on with its memory:\n{}", run.console);

    // The host finds only what the guest shares.
    let truth = dumped.lock().unwrap().take().unwrap();
    let bytes = std::fs::read(&file).unwrap();
    let raw = memory(&bytes);
    for (page, part) in raw.chunks(PAGE).enumerate() {
        let is_shared = matches!(truth.kinds[page], Some(PageKind::Shared | PageKind::PinnedShared));
        assert_eq!(find(part, MARKER).is_some(), is_shared, "page {page:#x}");
    }
    assert_eq!(truth.kinds.iter().filter(|kind| **kind == Some(PageKind::Shared)).count(), 1);
    assert_eq!(gpr(&bytes, 11), 0);

    let options = |cck: &Path, output: &Path| Options {
        dump: file.clone(),
        cck: cck.into(),
        output: output.into(),
        overwrite: false,
        unauthenticated_memory: false,
    };
    let nothing = model.file("nothing");
    let refused = decrypt(&options(&wrong, &nothing)).unwrap_err();
    assert!(matches!(refused, OwnerError::Dump(DumpError::Key)), "{refused}");
    assert!(!nothing.exists());

    let report = decrypt(&options(&cck, &plain)).unwrap();
    let Report { cpus, private, shared, zero, missing, authenticated, .. } = report;
    assert_eq!((cpus, shared, missing, authenticated), (1, 1, 0, true));
    assert!(private > 16 && zero > 16 && private + shared + zero == (SIZE / PAGE) as u64);
    let core = std::fs::read(&plain).unwrap();
    for (page, (part, expected)) in memory(&core).chunks(PAGE).zip(truth.memory.chunks(PAGE)).enumerate() {
        assert!(part == expected, "page {page:#x} ({:?})", truth.kinds[page]);
    }
    assert_eq!((gpr(&core, 11), gpr(&core, 13)), (0x9000, 1));
}

#[test]
fn an_image_that_allows_no_dump_gives_ciphertext_and_plain_words() {
    let model = Model::new("dump");
    let image = image(&model, false);
    let file = model.file("dump");
    let to = file.clone();
    let (run, _) = run(Boot::protected(model.platform(), &image), "ready", move |machine, _| {
        dump_to(machine, &to).unwrap();
    });
    assert!(run.told("KVM DUMP command 0 failed"), "{:?}", run.messages);
    assert!(run.told("--enable-dump") && run.told("nobody can decrypt"), "{:?}", run.messages);
    let bytes = std::fs::read(&file).unwrap();
    assert!(find(memory(&bytes), MARKER).is_none());
    assert!(Core::read(&bytes[..]).unwrap().sections.iter().all(|section| !section.name.starts_with("pv_")));
    assert_eq!(run.pages("intact"), 8, "{}", run.console);
}

#[test]
fn while_a_dump_is_written_nobody_moves_the_machine_and_a_failed_one_lets_it_go_on() {
    let model = Model::new("dump");
    let image = image(&model, true);
    let folder = model.file("full");
    std::fs::create_dir(&folder).unwrap();
    let (run, events) = run(Boot::protected(model.platform(), &image), "ready", move |machine, _| {
        let busy = "There is a dump in process, please wait.";
        machine.dump_begin(Default::default()).unwrap();
        let look = || {
            assert_eq!(machine.run_state(), RunState::SaveVm);
            assert_eq!(machine.dump_progress().status, DumpStatus::Active);
            for moved in [machine.stop(), machine.cont(), dump_to(machine, Path::new("/dev/null"))] {
                assert_eq!(moved.unwrap_err().text, busy);
            }
            // Nor does the host's kernel run it.
            let vm = machine.vm().unwrap();
            assert!(
                vm.run(0, cloister_arch::s390x::RunLimit { instructions: Some(1), block: false }, None)
                    .is_err()
            );
        };
        machine.dump_write(&mut Looking { look: Some(Box::new(look)) }).unwrap();
        // A device without room for a byte.
        let refused = dump_to(machine, Path::new("/dev/full")).unwrap_err();
        assert!(refused.text.contains("No space left on device"), "{refused}");
        assert_eq!(machine.dump_progress().status, DumpStatus::Failed);
        let refused = dump_to(machine, &folder).unwrap_err();
        assert!(refused.text.ends_with("Is a directory"), "{refused}");
    });
    assert!(events.iter().any(|event| matches!(event, Event::DumpCompleted { error: Some(_), .. })));
    assert_eq!(run.pages("intact"), 8, "{}", run.console);
}
