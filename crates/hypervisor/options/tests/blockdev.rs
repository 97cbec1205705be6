//! `-blockdev` in both forms, and the nodes that `-drive` turns into.

use cloister_options::{
    Backing, BlockNode, Catalogue, CommandLine, DetectZeroes, Invocation, NodeDriver, Outcome, Target, parse,
    parse_blockdev_json, parse_blockdev_text, print_keyval,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn read(target: Target, args: &[&str]) -> Result<CommandLine, String> {
    let invocation = Invocation { program: "cloister".into(), target: Some(target.name().into()) };
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    match parse(&invocation, &Catalogue::new(target), &args) {
        Ok(Outcome::Run(line)) => Ok(*line),
        Ok(Outcome::Print(text)) => Err(text),
        Err(error) => Err(error.report("cloister")),
    }
}

fn node<'a>(line: &'a CommandLine, name: &str) -> &'a BlockNode {
    line.block_nodes.iter().find(|node| node.name == name).unwrap()
}

#[test]
fn libvirt_gives_a_disk_of_s390x() {
    let line = read(
        Target::S390x,
        &[
            "-blockdev",
            r#"{"driver":"file","filename":"/d.qcow2","node-name":"libvirt-1-storage","auto-read-only":true,"discard":"unmap","cache":{"direct":true,"no-flush":false}}"#,
            "-blockdev",
            r#"{"node-name":"libvirt-1-format","read-only":false,"discard":"unmap","detect-zeroes":"unmap","cache":{"direct":true,"no-flush":false},"driver":"qcow2","file":"libvirt-1-storage","backing":null}"#,
            "-device",
            r#"{"driver":"virtio-blk-ccw","devno":"fe.0.0000","drive":"libvirt-1-format","id":"virtio-disk0","bootindex":1,"write-cache":"on","werror":"stop","rerror":"stop","num-queues":4,"logical_block_size":512,"physical_block_size":4096,"discard_granularity":4096,"iommu_platform":true}"#,
        ],
    )
    .unwrap();
    let storage = node(&line, "libvirt-1-storage");
    assert!(storage.explicit && storage.auto_read_only && storage.discard && storage.direct);
    assert!(
        matches!(&storage.driver, NodeDriver::File { filename, .. } if filename.to_str() == Some("/d.qcow2"))
    );
    let format = node(&line, "libvirt-1-format");
    assert_eq!(
        format.driver,
        NodeDriver::Qcow2 { file: "libvirt-1-storage".into(), backing: Backing::Nothing }
    );
    assert_eq!(format.detect_zeroes, DetectZeroes::Unmap);
    assert!(!format.read_only && !format.auto_read_only);
    assert_eq!(line.devices[0].properties.text("drive"), Some("libvirt-1-format"));
}

#[test]
fn libvirt_gives_the_flash_of_a_pc() {
    let line = read(
        Target::X86_64,
        &[
            "-blockdev",
            r#"{"driver":"file","filename":"/c.fd","node-name":"libvirt-pflash0-storage","auto-read-only":true,"discard":"unmap"}"#,
            "-blockdev",
            r#"{"node-name":"libvirt-pflash0-format","read-only":true,"driver":"raw","file":"libvirt-pflash0-storage"}"#,
            "-machine",
            "q35,pflash0=libvirt-pflash0-format",
        ],
    )
    .unwrap();
    assert!(node(&line, "libvirt-pflash0-format").read_only);
    assert_eq!(line.machine.properties.text("pflash0"), Some("libvirt-pflash0-format"));
}

#[test]
fn nested_nodes_are_nodes_of_their_own_and_take_after_their_parent() {
    let line = read(
        Target::S390x,
        &[
            "-blockdev",
            "qcow2,node-name=a,read-only=on,cache.no-flush=on,file.driver=raw,file.file.driver=file,\
             file.file.filename=/x,,y,file.file.node-name=below,backing.driver=null-co,backing.size=4096",
        ],
    )
    .unwrap();
    let names: Vec<_> = line.block_nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["below", "#block101", "#block102", "a"]);
    assert!(line.block_nodes.iter().all(|node| node.read_only && node.no_flush));
    assert!(line.block_nodes.iter().all(|node| node.explicit == (node.name == "a")));
    let NodeDriver::Qcow2 { file, backing } = &node(&line, "a").driver else { panic!("qcow2") };
    assert_eq!((file.as_str(), backing), ("#block101", &Backing::Node("#block102".into())));
    assert_eq!(node(&line, "#block101").driver.file(), Some("below"));
}

#[test]
fn a_drive_is_made_of_nodes_too() {
    let line = read(
        Target::S390x,
        &[
            "-drive",
            "file=/x,format=raw,id=d,cache=none,discard=unmap,node-name=n",
            "-drive",
            "file=/y,snapshot=on",
        ],
    )
    .unwrap();
    assert_eq!(line.drives[0].node.as_deref(), Some("n"));
    let root = node(&line, "n");
    assert!(root.direct && root.discard && !root.explicit);
    assert!(matches!(root.driver, NodeDriver::Raw { .. }));
    let overlay = node(&line, line.drives[1].node.as_deref().unwrap());
    assert!(matches!(overlay.driver, NodeDriver::Overlay { .. }) && !overlay.read_only);
    let probe = node(&line, overlay.driver.file().unwrap());
    assert!(matches!(probe.driver, NodeDriver::Probe { .. }) && probe.read_only);
    assert!(node(&line, probe.driver.file().unwrap()).read_only);
    // A global option is about every drive, and never about a node of -blockdev.
    let line = read(
        Target::S390x,
        &["-snapshot", "/x", "-blockdev", "null-co,node-name=a", "-drive", "file=/y,if=none"],
    );
    let overlays = |node: &&BlockNode| matches!(node.driver, NodeDriver::Overlay { .. });
    assert_eq!(line.unwrap().block_nodes.iter().filter(overlays).count(), 2);
}

#[test]
fn what_qemu_has_and_this_version_has_not_is_refused_by_name() {
    for driver in ["nbd", "throttle", "vvfat", "luks", "copy-on-read"] {
        let error = read(Target::S390x, &["-blockdev", &format!("{driver},node-name=a")]).unwrap_err();
        assert!(error.contains(&format!("block driver '{driver}' is not part of this version")), "{error}");
    }
}

#[test]
fn a_hostile_nesting_ends_in_words() {
    let deep = (0..60).fold(json!({"driver": "null-co"}), |file, _| json!({"driver": "raw", "file": file}));
    let Value::Object(members) = deep else { panic!("an object") };
    let error = parse_blockdev_json(&members).unwrap_err().headline();
    assert!(error.contains("nested too deeply"), "{error}");
}

fn blockdev() -> impl Strategy<Value = Value> {
    let file =
        ("[a-z/]{1,8}", prop::option::of("[a-z]{1,6}"), any::<bool>()).prop_map(|(filename, name, ro)| {
            let mut file = json!({"driver": "file", "filename": filename, "read-only": ro});
            if let Some(name) = name {
                file["node-name"] = json!(name);
            }
            file
        });
    file.prop_recursive(4, 8, 1, |below| {
        (below, any::<bool>(), any::<bool>(), 0..9i64).prop_map(|(file, qcow2, discard, offset)| {
            let mut out = json!({"file": file, "discard": if discard { "unmap" } else { "ignore" },
                                 "cache": {"direct": discard, "no-flush": !discard}});
            match qcow2 {
                true => out["driver"] = json!("qcow2"),
                false => {
                    out["driver"] = json!("raw");
                    out["offset"] = json!(offset * 512);
                }
            }
            out
        })
    })
}

proptest! {
    #[test]
    fn both_forms_say_the_same(tree in blockdev()) {
        let Value::Object(members) = tree else { panic!("an object") };
        let location = cloister_options::Location::new("blockdev-add", None);
        let text = print_keyval(&members);
        let from_text = parse_blockdev_text(&text, &location).unwrap();
        prop_assert_eq!(&from_text, &parse_blockdev_json(&members).unwrap());
        let json = Value::Object(members).to_string();
        prop_assert_eq!(&from_text, &parse_blockdev_text(&json, &location).unwrap());
    }

    #[test]
    fn no_argument_panics(text in "[-a-z=.,0-9{}\":]{0,60}", tree in blockdev(), key in "[a-z.-]{1,12}", value in ".{0,8}") {
        let location = cloister_options::Location::new("-blockdev", None);
        for text in [text.clone(), format!("{{{text}")] {
            if let Ok(blockdev) = parse_blockdev_text(&text, &location) {
                let _ = blockdev.add_to(&[], &[]);
            }
        }
        let Value::Object(mut members) = tree else { panic!("an object") };
        members.insert(key, json!(value));
        if let Ok(blockdev) = parse_blockdev_json(&members) {
            let _ = blockdev.add_to(&[], &["a"]);
        }
    }
}
