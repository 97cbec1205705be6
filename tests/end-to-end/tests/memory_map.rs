//! Who owns each page, seen from the host's side of both doors while a real guest is at rest, with and without
//! messages as bytes: the states are the Ultravisor's, the host finds ciphertext or nothing, and looking changes
//! nothing.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use cloister_arch::s390x::VmConfig;
use cloister_end_to_end::inprocess::{Model, guest_program};
use cloister_host_kernel::HostKernel;
use cloister_machines::s390_ccw::S390Ccw;
use cloister_machines::{End, Outlets, Run as _};
use cloister_memory_map::{MemoryMap, write_picture};
use cloister_options::{Invocation, Outcome};
use cloister_platform::{Door, Loopback, PageState, Request, Response, Vm};
use cloister_platform_store::Platform;
use cloister_silicon_s390x::{PageKind, Silicon};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use vm_memory::{Bytes, GuestAddress};

/// What the witness fills, and what it shares.
const PAGE: u64 = 0x100;
const SHARED: u64 = 0x50;

#[test]
fn a_protected_guest_is_seen_as_it_is_and_looking_converts_nothing() {
    protected(false);
}

#[test]
fn the_same_is_seen_over_both_loopback_doors() {
    protected(true);
}

fn protected(loopback: bool) {
    let model = Model::new("memory map");
    let image = model.witness("s");
    let folder = tempfile::tempdir().unwrap();
    let picture = std::env::var_os("CLOISTER_MEMORY_MAP").map_or(folder.path().join("map.png"), Into::into);
    let lines = run(model.platform(), &image, true, loopback, move |line, seen| match line {
        "ready" => {
            let before = seen.observe_twice();
            assert_eq!(before.counts.exported + before.counts.shared + before.counts.lost, 0);
            assert!(before.counts.private > 16 && before.counts.untouched > 16, "{}", before.text(9));
            assert!(before.counts.conversions.unpacked > 0 && before.counts.conversions.cleared >= 8);
            assert_eq!(before.host_view_of(PageState::Private).unwrap().entropy, 0.0, "scrubbed");
            // A device reads half of the witness's pages: the host kernel has them exported.
            for page in PAGE..PAGE + 4 {
                let memory = seen.machine().memory().clone();
                memory.read_slice(&mut [0; 4096], GuestAddress(page * 4096)).unwrap();
            }
            let after = seen.observe_twice();
            assert_eq!(after.counts.exported, 4);
            assert_eq!(after.counts.private, before.counts.private - 4);
            assert_eq!(after.counts.conversions.exported, before.counts.conversions.exported + 4);
            let found = after.host_view_of(PageState::Exported).unwrap();
            assert!(found.sampled == 4 && found.entropy > 7.9, "{found:?}");
            for page in 0..8 {
                let bits = after.entropy[(PAGE + page) as usize];
                assert!(if page < 4 { bits > 7.9 } else { bits == 0.0 }, "page {page}: {bits}");
            }
        }
        "one page shared with the host" => {
            let map = seen.observe_twice();
            assert_eq!((map.counts.shared, seen.silicon.page_kind(SHARED)), (1, Some(PageKind::Shared)));
            let found = map.host_view_of(PageState::Shared).unwrap();
            assert!(found.entropy > 0.5 && found.entropy < 6.0, "the marker as it is: {found:?}");
            assert_eq!(map.counts.conversions.shared, 1);
            assert_eq!(map.counts.conversions.unshared, 0);
            write_picture(&picture, &map).unwrap();
            assert!(map.svg().contains(">MODEL<"));
        }
        "page is private again" => {
            let map = seen.observe_twice();
            assert_eq!((map.counts.shared, map.counts.conversions.unshared), (0, 1));
        }
        _ => {}
    });
    for line in ["ready", "one page shared with the host", "page is private again"] {
        assert!(lines.iter().any(|said| said == line), "{lines:?}");
    }
    assert_eq!(lines.iter().filter(|line| line.ends_with(" intact")).count(), 8, "{lines:?}");
}

/// Half of what a guest in the clear has been given it never touches, and looking does not touch it either.
#[test]
fn a_clear_guest_hides_nothing() {
    let model = Model::new("memory map");
    let kernel = model.write("witness.bin", &guest_program("witness"));
    let lines = run(model.platform(), &kernel, false, false, |line, seen| {
        if line == "ready" {
            let map = seen.observe_twice();
            assert_eq!((map.counts.private, map.counts.exported, map.counts.lost), (0, 0, 0));
            assert!(map.counts.shared > 8 && map.counts.untouched > 1024, "{}", map.text(99));
            assert_eq!(map.counts.conversions, Default::default());
            let found = map.host_view_of(PageState::Shared).unwrap();
            assert!(found.entropy > 0.5, "{found:?}");
            assert_eq!(map.host_view_of(PageState::Untouched).unwrap().entropy, 0.0);
        }
    });
    assert!(lines.iter().any(|line| line == "ready"), "{lines:?}");
}

/// A machine and an observer's handle on its VM.
struct Seen {
    silicon: Arc<Silicon>,
    vm: Vm,
    machine: OnceLock<std::sync::Weak<S390Ccw>>,
}

impl Seen {
    fn machine(&self) -> Arc<S390Ccw> {
        self.machine.get().unwrap().upgrade().unwrap()
    }

    /// The guest is at rest: two looks see the same, and the first has changed nothing.
    fn observe_twice(&self) -> MemoryMap {
        let counts = self.vm.page_counts().unwrap();
        let map = MemoryMap::observe(&self.vm).unwrap();
        assert_eq!(map.counts, counts, "the runs add up to what is counted");
        assert_eq!(map, MemoryMap::observe(&self.vm).unwrap());
        assert_eq!(self.vm.page_counts().unwrap(), counts, "looking converts nothing");
        for run in &map.runs {
            for page in run.first..run.first + run.pages {
                let expected = match self.silicon.page_kind(page) {
                    Some(PageKind::NonSecure) => PageState::Untouched,
                    Some(PageKind::Secure) => PageState::Private,
                    Some(PageKind::Exported) => PageState::Exported,
                    Some(PageKind::Shared | PageKind::PinnedShared) => PageState::Shared,
                    Some(PageKind::Lost) => PageState::Lost,
                    None => continue,
                };
                assert_eq!(run.state, expected, "page {page:#x}");
            }
        }
        map
    }
}

/// Gives a second handle on the VM that the machine creates.
struct Tap {
    inner: Arc<dyn Door>,
    created: OnceLock<(VmConfig, Response)>,
}

impl Door for Tap {
    fn call(&self, request: Request) -> Response {
        match (&request, self.created.get()) {
            (Request::CreateVm(_), Some((_, response))) => response.clone(),
            (Request::CreateVm(config), None) => {
                let config = (**config).clone();
                let response = self.inner.call(request);
                if matches!(response, Response::Created(_)) {
                    self.created.set((config, response.clone())).unwrap();
                }
                response
            }
            _ => self.inner.call(request),
        }
    }
}

/// Runs a guest of 8 MiB to its end; `act` sees each line that it prints, while it waits.
fn run(
    platform: Platform,
    kernel: &Path,
    protected: bool,
    loopback: bool,
    act: impl Fn(&str, &Seen) + Send + Sync + 'static,
) -> Vec<String> {
    let silicon = Arc::new(Silicon::new(platform));
    let lower: Arc<dyn cloister_firmware_api::Door> = if loopback {
        Arc::new(cloister_firmware_api::Loopback::new(Arc::clone(&silicon) as _))
    } else {
        Arc::clone(&silicon) as _
    };
    let upper: Arc<dyn Door> = Arc::new(HostKernel::new(lower));
    let upper: Arc<dyn Door> = if loopback { Arc::new(Loopback::new(upper)) } else { upper };
    let tap = Arc::new(Tap { inner: upper, created: OnceLock::new() });

    let mut arguments = vec!["-display", "none", "-serial", "null", "-m", "8"];
    arguments.extend(["-accel", "soft,thread=single", "-machine"]);
    if protected {
        arguments.push("s390-ccw-virtio,confidential-guest-support=pv0");
        arguments.extend(["-object", "s390-pv-guest,id=pv0"]);
    } else {
        arguments.push("s390-ccw-virtio");
    }
    let mut arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
    arguments.extend(["-kernel".into(), kernel.display().to_string()]);
    let invocation = Invocation { program: "cloister".into(), target: Some("s390x".into()) };
    let catalogue = cloister_cgs::catalogue(invocation.resolve_target(&arguments).unwrap());
    let line = match cloister_options::parse(&invocation, &catalogue, &arguments) {
        Ok(Outcome::Run(line)) => line,
        _ => panic!("the test's command line is wrong"),
    };

    let lines = Arc::new(Mutex::new(Vec::new()));
    let seen: Arc<OnceLock<Seen>> = Arc::default();
    let outlets = Outlets {
        console: Some(Box::new({
            let (lines, seen, pending) = (Arc::clone(&lines), Arc::clone(&seen), Mutex::new(Vec::new()));
            move |bytes: &[u8]| {
                let mut pending = pending.lock().unwrap();
                pending.extend_from_slice(bytes);
                while let Some(end) = pending.iter().position(|&byte| byte == b'\n') {
                    let line: Vec<u8> = pending.drain(..=end).collect();
                    let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                    if let Some(seen) = seen.get() {
                        act(&line, seen);
                    }
                    lines.lock().unwrap().push(line);
                }
            }
        })),
        messages: Some(Box::new(|text: &str| println!("{text}"))),
        ..Outlets::default()
    };
    let machine = Arc::new(S390Ccw::with_outlets(&line, Arc::clone(&tap) as _, outlets).unwrap());
    let config = tap.created.get().unwrap().0.clone();
    let vm = Vm::create(tap, config).unwrap();
    let own = Seen { silicon, vm, machine: OnceLock::new() };
    own.machine.set(Arc::downgrade(&machine)).unwrap();
    assert!(seen.set(own).is_ok());
    let report = Arc::clone(&machine).run().unwrap();
    assert_eq!(report.end, End::PowerOff);
    let lines = lines.lock().unwrap().clone();
    println!("{}", lines.join("\n"));
    lines
}
