//! The same requests to the packaged QEMU and to us: error texts must be equal, results must have QEMU's members.
//!
//! Skipped without qemu-system-s390x, but not in continuous integration.

use crate::common::{Qmp, messages, monitor};
use cloister_control::fake::FakeMachine;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

struct Qemu {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Qemu {
    fn start() -> Option<Self> {
        let child = Command::new("qemu-system-s390x")
            .args(["-machine", "none", "-nodefaults", "-display", "none", "-S", "-qmp", "stdio"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "qemu-system-s390x is needed: {error}");
                eprintln!("skipped: no qemu-system-s390x ({error})");
                return None;
            }
        };
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut qemu = Self { child, input, output };
        qemu.read();
        Some(qemu)
    }

    fn read(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    /// The answer, events left out.
    fn ask(&mut self, request: &[u8]) -> Value {
        self.input.write_all(request).unwrap();
        self.input.write_all(b"\n").unwrap();
        self.input.flush().unwrap();
        loop {
            let answer = self.read();
            if answer.get("event").is_none() {
                return answer;
            }
        }
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Up to the negotiation, in order.
const FIRST: &[&str] = &[
    r#"{"execute":"query-version","id":1}"#,
    r#"{"execute":"nope","id":1}"#,
    r#"[]"#,
    r#"{"execute":"qmp_capabilities","arguments":{"enable":["nope"]}}"#,
    r#"{"execute":"qmp_capabilities","arguments":{"enable":"oob"}}"#,
    r#"{"execute":"qmp_capabilities","arguments":{"enable":["oob"]}}"#,
    // Before a refused `migrate`, which QEMU remembers as a failed one.
    r#"{"execute":"query-migrate"}"#,
];

/// Requests that both refuse, in the same words.
const REFUSED: &[&str] = &[
    r#"{"execute":"qmp_capabilities"}"#,
    r#"{"execute":"nope","id":[1,null,{"a":1.5}]}"#,
    r#"{"execute":5}"#,
    r#"{"arguments":{}}"#,
    r#"{}"#,
    r#"5 "#,
    r#""x""#,
    r#"null "#,
    r#"{"execute":"query-status","arguments":[]}"#,
    r#"{"execute":"query-status","arguments":null}"#,
    r#"{"execute":"query-status","arguments":{"x":5}}"#,
    r#"{"execute":"query-status","x":1}"#,
    r#"{"execute":"query-status","control":{"run-oob":true}}"#,
    r#"{"execute":"query-status","exec-oob":"query-status"}"#,
    r#"{"exec-oob":"query-status","id":7}"#,
    r#"{"exec-oob":"nope"}"#,
    r#"{"exec-oob":5}"#,
    r#"{"execute":"query-status"]"#,
    r#"{"execute":"query-status","id":"\x"}"#,
    r#"{"execute":"query-status","id":"\ud800"}"#,
    r#"{"execute":"query-status","execute":"query-status"}"#,
    r#"{"execute":"query-status",}"#,
    r#"{"execute" "query-status"}"#,
    r#"{5:6}"#,
    r#"{"a":nul}"#,
    r#"[1 2]"#,
    r#"{"":1}"#,
    r#"{"execute":"qom-list","arguments":{"path":"/nope"}}"#,
    r#"{"execute":"qom-list"}"#,
    r#"{"execute":"qom-get","arguments":{"path":"/machine","property":"nope"}}"#,
    r#"{"execute":"qom-get","arguments":{"path":"/nope","property":"nope"}}"#,
    r#"{"execute":"qom-set","arguments":{"path":"/machine","property":"nope","value":1}}"#,
    r#"{"execute":"qom-set","arguments":{"path":"/machine","property":"type","value":"x"}}"#,
    r#"{"execute":"qom-set","arguments":{"path":"/machine","property":"type"}}"#,
    r#"{"execute":"qom-list-properties","arguments":{"typename":"nope"}}"#,
    r#"{"execute":"device-list-properties","arguments":{"typename":"nope"}}"#,
    r#"{"execute":"device-list-properties","arguments":{"typename":"device"}}"#,
    r#"{"execute":"device-list-properties","arguments":{"typename":"rng-random"}}"#,
    r#"{"execute":"device_add","arguments":{"driver":"nope","id":"x"}}"#,
    r#"{"execute":"device_add","arguments":{"id":"x"}}"#,
    r#"{"execute":"device_del","arguments":{"id":"x"}}"#,
    r#"{"execute":"object-add","arguments":{"id":"x"}}"#,
    r#"{"execute":"object-add","arguments":{"qom-type":"nope","id":"x"}}"#,
    r#"{"execute":"object-add","arguments":{"qom-type":"rng-random"}}"#,
    r#"{"execute":"object-add","arguments":{"qom-type":"rng-random","id":"x","nope":1}}"#,
    r#"{"execute":"object-add","arguments":{"qom-type":"memory-backend-ram","id":"m","size":"1M"}}"#,
    r#"{"execute":"object-add","arguments":{"qom-type":"memory-backend-ram","id":"m2"}}"#,
    r#"{"execute":"object-del","arguments":{"id":"m"}}"#,
    r#"{"execute":"object-del"}"#,
    r#"{"execute":"object-del","arguments":{"id":5}}"#,
    r#"{"execute":"object-del","arguments":{"id":"a","x":5}}"#,
    r#"{"execute":"migrate"}"#,
    r#"{"execute":"migrate","arguments":{"uri":"nope"}}"#,
    r#"{"execute":"migrate-set-capabilities","arguments":{"capabilities":[{"capability":"nope","state":true}]}}"#,
    r#"{"execute":"migrate-set-capabilities","arguments":{"capabilities":[{"capability":"events"}]}}"#,
    r#"{"execute":"migrate-set-capabilities","arguments":{"capabilities":[{"state":true}]}}"#,
    r#"{"execute":"migrate-set-capabilities","arguments":{"capabilities":[5]}}"#,
    r#"{"execute":"migrate-set-capabilities","arguments":{"capabilities":5}}"#,
    r#"{"execute":"migrate-set-capabilities","arguments":{"capabilities":[{"capability":"events","state":true,"x":1}]}}"#,
    r#"{"execute":"dump-guest-memory","arguments":{"paging":false}}"#,
    r#"{"execute":"dump-guest-memory","arguments":{"protocol":"file:/dev/null"}}"#,
    r#"{"execute":"dump-guest-memory","arguments":{"paging":1,"protocol":"file:/dev/null"}}"#,
    r#"{"execute":"dump-guest-memory","arguments":{"paging":false,"protocol":"/dev/null"}}"#,
    r#"{"execute":"dump-guest-memory","arguments":{"paging":false,"protocol":"fd:nope"}}"#,
    r#"{"execute":"dump-guest-memory","arguments":{"paging":false,"protocol":"fd:"}}"#,
    r#"{"execute":"dump-guest-memory","arguments":{"paging":false,"protocol":"file:"}}"#,
    r#"{"execute":"dump-guest-memory","arguments":{"paging":false,"protocol":"file:/nonexist/x"}}"#,
    r#"{"execute":"dump-guest-memory","arguments":{"paging":false,"protocol":"file:/"}}"#,
    r#"{"execute":"dump-guest-memory","arguments":{"paging":false,"protocol":"file:/dev/null","begin":4096}}"#,
    r#"{"execute":"dump-guest-memory","arguments":{"paging":false,"protocol":"file:/dev/null","length":4096}}"#,
    r#"{"execute":"dump-guest-memory","arguments":{"paging":false,"protocol":"file:/dev/null","begin":0,"length":0}}"#,
    r#"{"execute":"dump-guest-memory","arguments":{"paging":false,"protocol":"file:/dev/null","format":"nope"}}"#,
    r#"{"execute":"dump-guest-memory","arguments":{"paging":false,"protocol":"file:/dev/null","format":"kdump-lzo"}}"#,
    r#"{"execute":"dump-guest-memory","arguments":{"paging":false,"protocol":"file:/dev/null","format":"win-dmp"}}"#,
    r#"{"execute":"dump-guest-memory","arguments":{"paging":true,"protocol":"file:/dev/null","format":"kdump-zlib"}}"#,
    r#"{"execute":"dump-guest-memory","arguments":{"paging":false,"protocol":"file:/dev/null","format":"kdump-zlib","begin":0,"length":1}}"#,
    r#"{"execute":"memsave","arguments":{"val":0,"size":10,"filename":"/nonexist/x"}}"#,
    r#"{"execute":"memsave","arguments":{"val":0,"size":10}}"#,
    r#"{"execute":"memsave","arguments":{"val":-1,"size":"10","filename":"/nonexist/x"}}"#,
    r#"{"execute":"memsave","arguments":{"val":1.5,"size":10,"filename":"/nonexist/x"}}"#,
    r#"{"execute":"getfd","arguments":{"fdname":"x"}}"#,
    r#"{"execute":"closefd","arguments":{"fdname":"x"}}"#,
    r#"{"execute":"add-fd"}"#,
    r#"{"execute":"remove-fd","arguments":{"fdset-id":1}}"#,
    r#"{"execute":"remove-fd","arguments":{"fdset-id":1,"fd":4}}"#,
    r#"{"execute":"human-monitor-command","arguments":{"command-line":"info status","cpu-index":9}}"#,
    r#"{"execute":"query-cpu-model-expansion","arguments":{"type":"full","model":{"name":"nope"}}}"#,
    r#"{"execute":"query-cpu-model-expansion","arguments":{"type":"nope","model":{"name":"nope"}}}"#,
    r#"{"execute":"query-cpu-model-expansion","arguments":{"type":"full","model":{}}}"#,
    r#"{"execute":"query-cpu-model-expansion","arguments":{"type":"full"}}"#,
    r#"{"execute":"query-cpu-model-expansion","arguments":{"type":"static","model":{"name":"z14-base","props":{"nope":true}}}}"#,
    r#"{"execute":"query-cpu-model-expansion","arguments":{"type":"static","model":{"name":"z14-base","props":{"vx":5}}}}"#,
    r#"{"execute":"query-cpu-model-expansion","arguments":{"type":"static","model":{"name":"z14-base","props":[]}}}"#,
    r#"{"execute":"query-command-line-options","arguments":{"option":"nope"}}"#,
    r#"{"execute":"query-hotpluggable-cpus"}"#,
    r#"{"execute":"system_wakeup"}"#,
    r#"{"execute":"yank","arguments":{"instances":[{"type":"migration"}]}}"#,
    r#"{"execute":"query-sev"}"#,
    r#"{"execute":"query-sgx-capabilities"}"#,
    r#"{"execute":"query-gic-capabilities"}"#,
];

/// Requests that both answer; each member of QEMU's answer is in ours with the same type, or the answers are equal.
const ANSWERED: &[(&str, bool)] = &[
    (r#"{"execute":"query-status","id":{"b":1,"a":[2]}}"#, true),
    (r#"{'execute':'query-status','id':'it\'s'}"#, true),
    (r#"{"execute":"query-version"}"#, false),
    (r#"{"execute":"query-target"}"#, true),
    (r#"{"execute":"query-kvm"}"#, true),
    (r#"{"execute":"query-current-machine"}"#, true),
    (r#"{"execute":"query-cpus-fast"}"#, true),
    (r#"{"execute":"query-block"}"#, true),
    (r#"{"execute":"query-named-block-nodes"}"#, true),
    (r#"{"execute":"query-uuid"}"#, true),
    (r#"{"execute":"query-name"}"#, true),
    (r#"{"execute":"query-chardev"}"#, false),
    (r#"{"execute":"query-tpm"}"#, true),
    (r#"{"execute":"query-tpm-models"}"#, false),
    (r#"{"execute":"query-iothreads"}"#, true),
    (r#"{"execute":"query-memory-devices"}"#, true),
    (r#"{"execute":"query-memory-size-summary"}"#, true),
    (r#"{"execute":"query-migrate-capabilities"}"#, false),
    (r#"{"execute":"migrate_cancel"}"#, true),
    (r#"{"execute":"query-fdsets"}"#, true),
    (r#"{"execute":"query-yank"}"#, true),
    (r#"{"exec-oob":"query-yank"}"#, true),
    (r#"{"execute":"query-machines"}"#, false),
    (r#"{"execute":"query-cpu-definitions"}"#, false),
    (r#"{"execute":"query-commands"}"#, false),
    (r#"{"execute":"qom-list-types","arguments":{"implements":"nope"}}"#, true),
    (r#"{"execute":"qom-list","arguments":{"path":"/objects"}}"#, true),
    (r#"{"execute":"qom-get","arguments":{"path":"/machine","property":"type"}}"#, true),
    (r#"{"execute":"query-command-line-options","arguments":{"option":"msg"}}"#, false),
    (
        r#"{"execute":"query-cpu-model-expansion","arguments":{"type":"static","model":{"name":"z14-base"}}}"#,
        true,
    ),
    (r#"{"execute":"query-cpu-model-expansion","arguments":{"type":"static","model":{"name":"z14"}}}"#, true),
    (r#"{"execute":"query-cpu-model-expansion","arguments":{"type":"full","model":{"name":"z14"}}}"#, true),
    (
        r#"{"execute":"query-cpu-model-expansion","arguments":{"type":"full","model":{"name":"gen16a-base"}}}"#,
        true,
    ),
    (
        r#"{"execute":"query-cpu-model-expansion","arguments":{"type":"static","model":{"name":"z14","props":{"vx":false}}}}"#,
        true,
    ),
    (
        r#"{"execute":"object-add","arguments":{"qom-type":"rng-random","id":"r","filename":"/dev/null"}}"#,
        true,
    ),
    (r#"{"execute":"object-del","arguments":{"id":"r"}}"#, true),
    (
        r#"{"execute":"migrate-set-capabilities","arguments":{"capabilities":[{"capability":"events","state":true}]}}"#,
        true,
    ),
    (r#"{"execute":"cont"}"#, true),
    (r#"{"execute":"stop"}"#, true),
    (r#"{"execute":"system_reset"}"#, true),
    (r#"{"execute":"system_powerdown"}"#, true),
    (r#"{"execute":"quit"}"#, true),
];

#[test]
fn refusals_are_worded_as_qemus_and_answers_shaped_as_qemus() {
    let Some(mut qemu) = Qemu::start() else { return };
    let (monitor, _) = monitor(FakeMachine::none());
    let mut ours = Qmp::new(&monitor);
    let mut wrong = Vec::new();
    for request in FIRST.iter().chain(REFUSED) {
        let theirs = qemu.ask(request.as_bytes());
        let mine = messages(&ours.client.ask(request.as_bytes())).pop();
        if mine.as_ref() != Some(&theirs) {
            wrong.push(format!("{request}\n  QEMU {theirs}\n  we   {mine:?}"));
        }
    }
    for (request, equal) in ANSWERED {
        let theirs = qemu.ask(request.as_bytes());
        let mine = messages(&ours.client.ask(request.as_bytes())).pop().unwrap();
        assert!(theirs.get("return").is_some(), "{request} {theirs}");
        let fits = if *equal { mine == theirs } else { shaped(&mine, &theirs) };
        if !fits {
            wrong.push(format!("{request}\n  QEMU {theirs:.400}\n  we   {mine:.400}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether every member of the first item of each list, and of each object, of theirs is in ours with the same type.
fn shaped(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            theirs.iter().all(|(name, value)| ours.get(name).is_some_and(|ours| shaped(ours, value)))
        }
        (Value::Array(ours), Value::Array(theirs)) => match theirs.first() {
            Some(first) => ours.is_empty() || ours.iter().any(|ours| shaped(ours, first)),
            None => true,
        },
        (ours, theirs) => std::mem::discriminant(ours) == std::mem::discriminant(theirs),
    }
}

/// Whose descriptions may differ from those of QEMU 7.2, and why.
const DIFFERENT: &[(&str, &str)] = &[
    ("query-accelerators", "newer than 7.2"),
    ("query-confidential-guest", "ours"),
    ("query-confidential-memory", "ours"),
    ("query-pci", "always refused"),
    ("query-tpm", "always empty"),
    ("query-qmp-schema", "a union in QEMU, which the tests of the schema check"),
    ("object-add", "other object types and keys"),
];

/// A typed client that was made from QEMU's schema can read our answers and send its requests.
#[test]
fn the_schema_of_shared_commands_and_events_fits_qemus() {
    let Some(mut qemu) = Qemu::start() else { return };
    let (monitor, _) = monitor(FakeMachine::none());
    let mut ours = Qmp::negotiated(&monitor);
    qemu.ask(FIRST[FIRST.len() - 2].as_bytes());
    let request = json!({"execute":"query-qmp-schema"});
    let theirs = Schema::new(&qemu.ask(request.to_string().as_bytes())["return"]);
    let ours = Schema::new(&ours.ask(&request)[0]["return"]);
    let mut wrong = Vec::new();
    for (name, our) in
        ours.0.iter().filter(|(_, entry)| entry["meta-type"] == "command" || entry["meta-type"] == "event")
    {
        if DIFFERENT.iter().any(|(known, _)| known == name) {
            continue;
        }
        let Some(their) = theirs.0.get(name) else {
            wrong.push(format!("{name}: QEMU has none"));
            continue;
        };
        if our.get("allow-oob") != their.get("allow-oob") {
            wrong.push(format!("{name}: allow-oob"));
        }
        let event = our["meta-type"] == "event";
        let mut compare = Compare { ours: &ours, theirs: &theirs, wrong: &mut wrong, sent: event, depth: 0 };
        compare.types(&our["arg-type"], &their["arg-type"], name);
        if !event {
            let mut compare =
                Compare { ours: &ours, theirs: &theirs, wrong: &mut wrong, sent: true, depth: 0 };
            compare.types(&our["ret-type"], &their["ret-type"], &format!("{name} returns"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

struct Schema(BTreeMap<String, Value>);

impl Schema {
    fn new(entries: &Value) -> Self {
        let entries = entries.as_array().unwrap().iter();
        Self(entries.map(|entry| (entry["name"].as_str().unwrap().to_owned(), entry.clone())).collect())
    }
}

struct Compare<'a> {
    ours: &'a Schema,
    theirs: &'a Schema,
    wrong: &'a mut Vec<String>,
    /// We send it; otherwise the client does.
    sent: bool,
    depth: usize,
}

impl Compare<'_> {
    fn types(&mut self, ours: &Value, theirs: &Value, path: &str) {
        if self.depth > 12 {
            return;
        }
        let our = self.ours.0[ours.as_str().unwrap()].clone();
        let their = self.theirs.0[theirs.as_str().unwrap()].clone();
        let same_kind =
            our["meta-type"] == their["meta-type"] && our.get("json-type") == their.get("json-type");
        if their["json-type"] == "value" {
            return;
        }
        if !same_kind {
            return self
                .wrong
                .push(format!("{path}: {} instead of {}", our["meta-type"], their["meta-type"]));
        }
        self.depth += 1;
        match our["meta-type"].as_str().unwrap() {
            "array" => self.types(&our["element-type"], &their["element-type"], path),
            "enum" => {
                let values = |entry: &Value| -> BTreeSet<String> {
                    entry["values"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .map(|value| value.as_str().unwrap().to_owned())
                        .collect()
                };
                let more: Vec<_> = values(&our).difference(&values(&their)).cloned().collect();
                if !more.is_empty() {
                    self.wrong.push(format!("{path}: more values {more:?}"));
                }
            }
            "object" => self.objects(&our, &their, path),
            _ => {}
        }
        self.depth -= 1;
    }

    fn objects(&mut self, our: &Value, their: &Value, path: &str) {
        let members = |entry: &Value| -> BTreeMap<String, Value> {
            let all = entry["members"].as_array().unwrap().iter();
            all.map(|member| (member["name"].as_str().unwrap().to_owned(), member.clone())).collect()
        };
        let (our_members, their_members) = (members(our), members(their));
        let must = |member: &Value| member.get("default").is_none();
        for (name, member) in &our_members {
            // QEMU's own since 8.0, and Kata's client insists on it.
            if path == "query-machines returns" && name == "acpi" {
                continue;
            }
            match their_members.get(name) {
                None => self.wrong.push(format!("{path}.{name}: QEMU has none")),
                Some(theirs) => {
                    if !self.sent && must(member) && !must(theirs)
                        || self.sent && !must(member) && must(theirs)
                    {
                        self.wrong.push(format!("{path}.{name}: optional differs"));
                    }
                    self.types(&member["type"], &theirs["type"], &format!("{path}.{name}"));
                }
            }
        }
        for (name, _) in
            their_members.iter().filter(|(name, theirs)| must(theirs) && !our_members.contains_key(*name))
        {
            self.wrong.push(format!("{path}.{name}: missing"));
        }
        if our.get("tag") != their.get("tag") && our.get("tag").is_some() {
            self.wrong.push(format!("{path}: tag"));
        }
        let variant = |entry: &Value, case: &Value| {
            let variants = entry.get("variants").and_then(Value::as_array);
            variants
                .into_iter()
                .flatten()
                .find(|variant| variant["case"] == *case)
                .map(|variant| variant["type"].clone())
        };
        for one in our.get("variants").and_then(Value::as_array).into_iter().flatten() {
            if let Some(theirs) = variant(their, &one["case"]) {
                self.types(&one["type"], &theirs, &format!("{path}/{}", one["case"]));
            }
        }
    }
}
