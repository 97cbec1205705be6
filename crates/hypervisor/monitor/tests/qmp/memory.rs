//! Guest memory through QMP: the host's view, converted by nobody, in files that are whole or absent.

use crate::common::{Qmp, monitor};
use cloister_control::ConfidentialInfo;
use cloister_control::fake::FakeMachine;
use cloister_platform::arch::s390x::{CpuRequest, CpuResponse, TimeMode, Translation, VmConfig};
use cloister_platform::{Door, MemoryMap, PageCounts, PageRun, PageState, Request, Response, Vm, access};
use serde_json::{Value, json};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};

const SIZE: u64 = 1 << 20;

/// Page 3 is private; logical page 0x10 leads to page 5, nothing leads beyond.
struct Guest {
    memory: File,
    access: File,
    protected: bool,
    asked: Mutex<Vec<Request>>,
}

impl Door for Guest {
    fn call(&self, request: Request) -> Response {
        self.asked.lock().unwrap().push(request.clone());
        match request {
            Request::Capabilities => Response::Capabilities(Box::default()),
            Request::CreateVm(_) => Response::Created(MemoryMap {
                memory_fd: self.memory.as_raw_fd(),
                access_fd: self.access.as_raw_fd(),
                size: SIZE,
                slots: Vec::new(),
            }),
            Request::Cpu(CpuRequest::Translate { .. }) if self.protected => {
                Response::Refused("the CPU is protected".into())
            }
            Request::Cpu(CpuRequest::Translate { address, .. }) => {
                let absolute = match address >> 12 {
                    0x10 => Some(0x5000 | address & 0xfff),
                    0x11.. => None,
                    _ => Some(address),
                };
                let found = absolute.map(|absolute| Translation { absolute, writable: true });
                Response::Cpu(CpuResponse::Translated(found))
            }
            Request::PageCounts => Response::PageCounts(PageCounts::default()),
            Request::PageStates { .. } => {
                let run = |first, pages, state| PageRun { first, pages, state };
                let rest = run(4, SIZE / 4096 - 4, PageState::Untouched);
                let runs = vec![run(0, 3, PageState::Shared), run(3, 1, PageState::Private), rest];
                Response::PageStates { runs, next: None }
            }
            other => Response::Refused(format!("this door has no {other:?}")),
        }
    }
}

fn guest(protected: bool) -> (Qmp, Arc<Guest>) {
    let file = |size: u64| {
        let file = tempfile::tempfile().unwrap();
        file.set_len(size).unwrap();
        file
    };
    let guest =
        Arc::new(Guest { memory: file(SIZE), access: file(SIZE / 4096), protected, asked: Mutex::default() });
    guest.memory.write_all_at(b"Hello, host", 0x0ffa).unwrap();
    guest.memory.write_all_at(&[0x55; 4096], 0x5000).unwrap();
    guest.access.write_all_at(&[access::ASK], 3).unwrap();
    let config = VmConfig {
        memory_bytes: SIZE,
        max_cpus: 2,
        facilities: [0; 4],
        cpu_id: 0,
        time: TimeMode::Real,
        tod_start: None,
        name: String::new(),
        uuid: [0; 16],
    };
    let door: Arc<dyn Door> = Arc::<Guest>::clone(&guest);
    let (monitor, machine) = monitor(FakeMachine::s390x().with_vm(Vm::create(door, config).unwrap()));
    machine.state().confidential = Some(ConfidentialInfo {
        qom_type: "s390-pv-guest".into(),
        id: Some("pv0".into()),
        secure: Some(protected),
    });
    (Qmp::negotiated(&monitor), guest)
}

/// Nothing that converts a page or touches a CPU.
fn looked_only(guest: &Guest) -> bool {
    let asked = guest.asked.lock().unwrap();
    !asked
        .iter()
        .any(|request| matches!(request, Request::HostAccess { .. } | Request::Pv(_) | Request::Run { .. }))
}

#[test]
fn memory_is_saved_as_the_host_sees_it() {
    let (mut qmp, guest) = guest(false);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("image");
    let save = |command: &str, val: u64, size: u64| {
        (command.to_owned(), json!({"val":val,"size":size,"filename":file}))
    };
    for ((command, arguments), expected) in [
        (save("pmemsave", 0x0ffa, 11), b"Hello, host".to_vec()),
        (save("memsave", 0x0ffa, 11), b"Hello, host".to_vec()),
        // Across logical pages that do not follow each other.
        (save("memsave", 0xfffe, 4), vec![0, 0, 0x55, 0x55]),
        // A private page: what the host holds, and no question asked.
        (save("pmemsave", 0x3000, 2), vec![0, 0]),
        (save("pmemsave", SIZE, 0), vec![]),
    ] {
        assert_eq!(qmp.run(&command, arguments), Ok(json!({})));
        assert_eq!(std::fs::read(&file).unwrap(), expected);
    }
    assert!(looked_only(&guest));
}

#[test]
fn what_cannot_be_saved_leaves_no_file() {
    let (mut qmp, _) = guest(false);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("image");
    for (command, val, size, reason) in [
        ("pmemsave", json!(SIZE - 1), json!(2), "guest memory ends at 0x100000"),
        ("pmemsave", json!(0), json!(-1), "Parameter 'size' expects a size, not -1"),
        ("pmemsave", json!(-1), json!(2), "Invalid addr 0xffffffffffffffff/size 2 specified"),
        ("memsave", json!(0x10fff), json!(2), "Invalid addr 0x0000000000010fff/size 2 specified"),
        ("memsave", json!(0), json!(i64::MAX), "at most the guest's 1048576 bytes"),
    ] {
        let text = qmp.refused(command, json!({"val":val,"size":size,"filename":file}));
        assert!(text.contains(reason), "{text}");
    }
    let text = qmp.refused("memsave", json!({"val":0,"size":1,"filename":file,"cpu-index":7}));
    assert_eq!(text, "Parameter 'cpu-index' expects a CPU number");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
}

#[test]
fn a_protected_cpu_translates_nothing_for_the_host() {
    let (mut qmp, guest) = guest(true);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("image");
    let text = qmp.refused("memsave", json!({"val":0,"size":1,"filename":file}));
    assert!(text.contains("protected"), "{text}");
    assert!(!file.exists() && looked_only(&guest));
}

#[test]
fn who_owns_each_page_is_told() {
    let (mut qmp, guest) = guest(true);
    let told = qmp.run("query-confidential-memory", Value::Null).unwrap();
    assert_eq!((&told["private"], &told["shared"], &told["size"]), (&json!(1), &json!(3), &json!(SIZE)));
    assert_eq!(told["ranges"][1], json!({"start":0x3000,"length":0x1000,"state":"private"}));
    let command = cloister_monitor::commands(cloister_options::Target::S390x)
        .find(|command| command.name == "query-confidential-memory")
        .unwrap();
    let catalogue = cloister_cgs::catalogue(cloister_options::Target::S390x);
    assert_eq!(command.returns.unwrap().check(&catalogue, "", &told), Ok(()));
    let bounded = qmp.run("query-confidential-memory", json!({"max-ranges":1})).unwrap();
    assert_eq!((bounded["ranges"].as_array().unwrap().len(), &bounded["more-ranges"]), (1, &json!(2)));
    let how = qmp.run("query-confidential-guest", Value::Null).unwrap();
    assert_eq!(
        (&how["mechanism"], &how["id"], &how["secure"]),
        (&json!("s390-pv-guest"), &json!("pv0"), &json!(true))
    );
    assert!(looked_only(&guest));
}
