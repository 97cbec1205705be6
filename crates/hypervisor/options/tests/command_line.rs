//! Whole command lines: those that managers write, arbitrary ones, and help.

use cloister_options::{
    Catalogue, CharBackend, Command, CommandLine, DriveFormat, DriveInterface, Icount, IcountShift,
    Invocation, OnOffAuto, OptionError, Outcome, Target, classify, options, parse,
};
use proptest::prelude::*;

fn read(args: &[&str]) -> Result<Outcome, OptionError> {
    let args = args.iter().map(|arg| (*arg).to_owned()).collect();
    let Command::Vm(invocation, args) = classify("/usr/bin/qemu-system-s390x", args) else {
        panic!("a system name runs a machine");
    };
    parse(&invocation, &Catalogue::new(Target::S390x), &args)
}

fn run(args: &[&str]) -> CommandLine {
    match read(args) {
        Ok(Outcome::Run(line)) => *line,
        other => panic!("{args:?}: {other:?}"),
    }
}

fn refused(args: &[&str]) -> String {
    read(args).expect_err("it is refused").report("PROG")
}

fn printed(args: &[&str]) -> String {
    match read(args) {
        Ok(Outcome::Print(text)) => text,
        other => panic!("{args:?}: {other:?}"),
    }
}

/// The shape of libvirt 9.0.0's command line, which names an object before it defines it.
#[test]
fn a_reference_may_precede_its_object() {
    let line = run(&[
        "-name",
        "guest=pv,debug-threads=on",
        "-S",
        "-object",
        "secret,id=masterKey0,format=raw,file=/run/master-key.aes",
        "-machine",
        "s390-ccw-virtio,usb=off,dump-guest-core=off,memory-backend=s390.ram,confidential-guest-support=lsec0",
        "-accel",
        "tcg",
        "-cpu",
        "z14,unpack=on,-vx,+msa",
        "-m",
        "256",
        "-object",
        "memory-backend-ram,id=s390.ram,size=268435456",
        "-overcommit",
        "mem-lock=off",
        "-smp",
        "2,sockets=2,cores=1,threads=1",
        "-uuid",
        "4be30d9d-1f1f-49f0-aa27-f38fc66f594c",
        "-display",
        "none",
        "-no-user-config",
        "-nodefaults",
        "-rtc",
        "base=utc",
        "-no-shutdown",
        "-boot",
        "strict=on",
        "-kernel",
        "/run/vmlinuz",
        "-append",
        "console=ttyS0",
        "-drive",
        "file=/x,,y.img,if=none,id=d0,format=qcow2,readonly",
        "-device",
        "virtio-blk-ccw,devno=fe.0.0001,drive=d0,id=virtio-disk0,iommu_platform=on",
        "-msg",
        "timestamp=on",
    ]);
    assert_eq!(line.machine.name, "s390-ccw-virtio-8.2");
    assert_eq!(line.machine.confidential_guest.unwrap().id, "lsec0");
    assert_eq!(line.memory.size, Some(256 << 20));
    assert_eq!((line.smp.cpus, line.smp.sockets), (2, 2));
    let cpu = line.cpu.unwrap();
    assert_eq!(
        (cpu.feature("unpack"), cpu.feature("vx"), cpu.feature("gs")),
        (Some(true), Some(false), None)
    );
    assert!(line.stopped && line.no_defaults && line.boot.strict && line.message_timestamps);
    assert_eq!(line.drives[0].file.as_deref(), Some("/x,y.img".as_ref()));
    assert_eq!(line.drives[0].format, Some(DriveFormat::Qcow2));
    assert!(line.drives[0].read_only);
    assert_eq!(line.devices[0].properties.bool("iommu_platform"), Some(true));
    assert_eq!(line.devices[0].properties.device_number("devno").unwrap().to_string(), "fe.0.0001");
    assert_eq!(line.warnings.len(), 1);
    assert!(
        line.warnings[0].report("PROG").contains("warning: short-form boolean option 'readonly' deprecated")
    );
}

#[test]
fn repeated_machine_options_add_up_and_the_old_name_is_known() {
    let line = run(&[
        "-M",
        "usb=off",
        "-machine",
        "s390-ccw-virtio-7.2,memory-encryption=a",
        "-M",
        "loadparm=prompt",
    ]);
    assert_eq!(line.machine.name, "s390-ccw-virtio-7.2");
    assert_eq!(line.machine.loadparm.as_deref(), Some("PROMPT"));
    assert!(line.machine.confidential_guest.unwrap().legacy);
    assert!(
        refused(&["-M", "memory-encryption=a,confidential-guest-support=b"]).contains("give one of them")
    );
}

#[test]
fn the_json_form_equals_the_other_one() {
    let flat = run(&["-object", "memory-backend-ram,id=a,size=1M,share=on"]);
    let json = run(&["-object", r#"{"qom-type":"memory-backend-ram","id":"a","size":1048576,"share":true}"#]);
    assert_eq!(flat.objects[0].properties, json.objects[0].properties);
}

#[test]
fn log_items_are_listed_on_request_and_when_one_is_unknown() {
    let help = printed(&["-d", "help"]);
    for item in ["stats", "exits", "hot", "jit", "pages", "profile", "unimp", "int", "cpu_reset"] {
        assert!(help.lines().any(|line| line.starts_with(&format!("{item} "))), "{item}\n{help}");
        assert_eq!(run(&["-d", item]).log.items, [item]);
    }
    let line = run(&["-d", "hot,jit,trace:css_*", "-D", "log"]);
    assert_eq!(line.log.items, ["hot", "jit"]);
    assert_eq!(line.log.trace, ["css_*"]);
    // QEMU prints its list, too, and ends with a failure.
    let words = refused(&["-d", "int,nope"]);
    assert!(words.starts_with("PROG: -d int,nope: log item 'nope' is not known\n"), "{words}");
    assert!(words.ends_with(help.trim_end()), "{words}");
}

#[test]
fn a_disk_image_and_nographic() {
    let line = run(&["disk.img", "-nographic"]);
    assert_eq!(line.drives[0].interface, DriveInterface::Virtio);
    assert_eq!(line.console(), CharBackend::Stdio { with_monitor: true });
    assert_eq!(run(&["-nographic", "-nodefaults"]).console(), CharBackend::None);
    for (args, shared) in [
        (&["-nographic"][..], Some(true)),
        (&["-nographic", "-serial", "none"], Some(false)),
        (&["-nographic", "-machine", "none"], Some(false)),
        (&["-nographic", "-monitor", "none"], None),
        (&["-nographic", "-nodefaults"], None),
        (&["-serial", "mon:stdio"], Some(true)),
        (&["-serial", "stdio"], None),
    ] {
        let monitors = run(args).all_monitors();
        let backend = shared.map(|with_monitor| CharBackend::Stdio { with_monitor });
        assert_eq!(monitors.first().map(|monitor| &monitor.backend), backend.as_ref(), "{args:?}");
    }
    assert_eq!(
        run(&["-chardev", "file,id=c,path=/x", "-serial", "chardev:c"]).console(),
        CharBackend::File { path: "/x".into(), append: false }
    );
    assert!(
        refused(&["-serial", "stdio", "-monitor", "stdio"])
            .ends_with("cannot use stdio by multiple character devices")
    );
}

#[test]
fn reproducible_runs() {
    let line = run(&["-icount", "shift=3,sleep=off", "-seed", "42", "-platform", "/p"]);
    assert_eq!(line.icount, Some(Icount { shift: IcountShift::Fixed(3), sleep: false, align: false }));
    assert_eq!(line.seed, Some(42));
    assert_eq!(line.platform.as_deref(), Some("/p".as_ref()));
}

#[test]
fn old_machines_prefer_sockets() {
    assert_eq!(run(&["-smp", "4"]).smp.cores, 4);
    assert_eq!(run(&["-M", "s390-ccw-virtio-6.1", "-smp", "4"]).smp.sockets, 4);
}

#[test]
fn what_comes_later_is_refused_in_words() {
    assert_eq!(
        refused(&["-virtfs", "local"]),
        "PROG: -virtfs local: -virtfs is not part of this version of Cloister"
    );
    assert!(refused(&["-monitor", "telnet::1,server=on"]).contains("use tcp:HOST:PORT"));
    assert!(refused(&["-display", "gtk"]).contains("use -display none"));
}

#[test]
fn help_names_every_option_and_every_key() {
    let text = printed(&["-help"]);
    for spec in options() {
        assert!(text.contains(&format!("-{}", spec.name)), "-{}", spec.name);
        for key in spec.keys {
            assert!(text.contains(&format!("{}: ", key.name)), "{} of -{}", key.name, spec.name);
        }
    }
    assert!(printed(&["-version"]).starts_with("QEMU emulator version 8.2"));
}

#[test]
fn help_names_every_property_of_every_type() {
    let catalogue = Catalogue::new(Target::S390x);
    let objects = printed(&["-object", "help"]);
    for object in catalogue.objects() {
        assert!(objects.contains(object.name));
        let text = printed(&["-object", &format!("{},help", object.name)]);
        assert!(text.starts_with(&format!("{} options:\n", object.name)));
        assert!(object.keys.iter().all(|key| text.contains(key.name)) && text.contains("  id=<str>"));
    }
    let devices = printed(&["-device", "help"]);
    for device in catalogue.devices() {
        assert!(devices.contains(device.name));
        let text = printed(&["-device", &format!("{},help", device.name)]);
        assert!(device.keys.iter().all(|key| text.contains(key.name)));
    }
    let (machines, cpus) = (printed(&["-machine", "help"]), printed(&["-cpu", "help"]));
    for machine in catalogue.machines() {
        assert!(machines.contains(&machine.name));
        let text = printed(&["-machine", &format!("{},help", machine.name)]);
        assert!(machine.keys.iter().all(|key| text.contains(key.name)));
    }
    assert!(catalogue.cpus().iter().all(|cpu| cpus.contains(&cpu.name)));
    assert!(cpus.contains("unpack"));
}

#[test]
fn a_console_may_be_a_device() {
    let file = CharBackend::File { path: "/x".into(), append: false };
    for device in
        ["sclpconsole,chardev=c,id=console0", r#"{"driver":"sclpconsole","chardev":"c","id":"console0"}"#]
    {
        let line = run(&["-chardev", "file,id=c,path=/x", "-nodefaults", "-nographic", "-device", device]);
        assert_eq!((line.console(), line.named_console()), (file.clone(), CharBackend::Chardev("c".into())));
        assert_eq!(line.line_console(), CharBackend::None);
    }
    let line = run(&["-serial", "none", "-device", "sclpconsole"]);
    assert_eq!(line.console(), CharBackend::Null);
    let lines = ["-chardev", "file,id=c,path=/x", "-device", "sclplmconsole,chardev=c", "-serial", "null"];
    let line = run(&lines);
    assert_eq!((line.console(), line.line_console()), (CharBackend::Null, CharBackend::Chardev("c".into())));
}

#[test]
fn on_off_auto_has_three_values() {
    let line = run(&["-drive", "file=x,if=none,id=a", "-device", "virtio-blk,drive=a,write-cache=off"]);
    assert_eq!(line.devices[0].properties.on_off_auto("write-cache"), Some(OnOffAuto::Off));
    assert_eq!(line.devices[0].driver, "virtio-blk-ccw");
}

fn argument() -> impl Strategy<Value = String> {
    let names: Vec<String> = options().map(|spec| format!("-{}", spec.name)).collect();
    let keys: Vec<&str> = options().flat_map(|spec| spec.keys).map(|key| key.name).collect();
    let word = prop_oneof![
        ".{0,6}",
        "[0-9]{1,20}[kMGE]?",
        Just("on".to_owned()),
        Just("help".to_owned()),
        Just("s390-ccw-virtio".to_owned()),
        Just("virtio-blk-ccw".to_owned()),
        Just("memory-backend-ram".to_owned()),
        Just("max".to_owned()),
        Just("stdio".to_owned()),
    ];
    let pair = (prop::sample::select(keys), word.clone()).prop_map(|(key, word)| format!("{key}={word}"));
    prop_oneof![
        3 => prop::sample::select(names),
        2 => prop::collection::vec(prop_oneof![word, pair], 0..4).prop_map(|parts| parts.join(",")),
        1 => ".*",
        1 => r#"\{"[a-z-]{1,8}":("[a-z]{0,4}"|[0-9]{1,4}|\[\]|\{\})\}"#,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_command_line_panics(args in prop::collection::vec(argument(), 0..8), name in "[a-z0-9/_-]{0,24}") {
        let invocation = Invocation { program: "p".to_owned(), target: None };
        let _ = invocation.resolve_target(&args);
        for target in Target::AVAILABLE {
            match parse(&invocation, &Catalogue::new(*target), &args) {
                Err(error) => prop_assert!(error.report("p").starts_with("p: ")),
                Ok(Outcome::Run(line)) => {
                    let _ = (line.console(), line.all_monitors());
                }
                Ok(Outcome::Print(_)) => {}
            }
        }
        let _ = classify(&name, args);
    }
}
