//! `-netdev`, `-nic` and `-net`: the packaged QEMU is the judge of messages, and what is accepted means what it says.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};

use cloister_options::{
    Catalogue, CommandLine, DgramNet, FdName, Forward, Invocation, NetBackend, Outcome, SocketAddress,
    StreamNet, TapNet, Target, parse, parse_mac, parse_netdev_json, parse_netdev_text,
};
use proptest::prelude::*;

/// Both refuse with the same text.
const REFUSED: &[&[&str]] = &[
    &["-netdev", "user"],
    &["-netdev", "user,id=1x"],
    &["-netdev", "foo,id=a"],
    &["-netdev", "id=a"],
    &["-netdev", ""],
    &["-netdev", "user,id=a,bogus=1"],
    &["-netdev", "user,id=a,restrict=maybe"],
    &["-netdev", "user,id=a", "-netdev", "user,id=a"],
    &["-netdev", "{\"type\":\"user\"}"],
    &["-netdev", "{\"type\":\"user\",\"id\":\"a\",\"bogus\":1}"],
    &["-netdev", "user,id=a,hostfwd=tcp"],
    &["-netdev", "user,id=a,hostfwd=xxx::2222-:22"],
    &["-netdev", "user,id=a,hostfwd=tcp:xx:2-:3"],
    &["-netdev", "user,id=a,hostfwd=tcp:2-:1"],
    &["-netdev", "user,id=a,hostfwd=tcp::2222"],
    &["-netdev", "user,id=a,hostfwd=tcp::x-:3"],
    &["-netdev", "user,id=a,hostfwd=tcp::70000-:1"],
    &["-netdev", "user,id=a,hostfwd=tcp::1-3"],
    &["-netdev", "user,id=a,hostfwd=tcp::1-x:3"],
    &["-netdev", "user,id=a,hostfwd=tcp::1-:0"],
    &["-netdev", "user,id=a,net=xx"],
    &["-netdev", "user,id=a,host=1.2.3.4"],
    &["-netdev", "user,id=a,host=xx"],
    &["-netdev", "user,id=a,dhcpstart=1.2.3.4"],
    &["-netdev", "user,id=a,dhcpstart=xx"],
    &["-netdev", "user,id=a,dhcpstart=10.0.2.2"],
    &["-netdev", "user,id=a,dns=xx"],
    &["-netdev", "user,id=a,dns=10.0.2.2"],
    &["-netdev", "user,id=a,dns=10.0.2.15"],
    &["-netdev", "user,id=a,ipv4=off,ipv6=off"],
    &["-netdev", "stream,id=a"],
    &["-netdev", "stream,id=a,addr.type=unix"],
    &["-netdev", "stream,id=a,addr.type=inet,addr.host=localhost"],
    &["-netdev", "stream,id=a,addr.type=unix,addr.path=/x,server=maybe"],
    &["-netdev", "stream,id=a,addr.type=unix,addr.path=/x,bogus=1"],
    &["-netdev", "dgram,id=a"],
    &["-netdev", "dgram,id=a,local.type=inet,local.host=127.0.0.1,local.port=1"],
    &["-netdev", "dgram,id=a,local.type=fd,local.str=3,remote.type=inet,remote.host=127.0.0.1,remote.port=1"],
    &[
        "-netdev",
        "dgram,id=a,local.type=inet,local.host=127.0.0.1,local.port=1,remote.type=unix,remote.path=/x",
    ],
    &["-netdev", "socket,id=a"],
    &["-netdev", "socket,id=a,listen=:0,connect=x:1"],
    &["-netdev", "socket,id=a,listen=foo"],
    &["-netdev", "socket,id=a,listen=:0,localaddr=1.1.1.1:1"],
    &["-netdev", "socket,id=a,udp=127.0.0.1:1"],
    &["-netdev", "tap,id=a,ifname=x,fd=4"],
    &["-nic", "foo"],
    &["-nic", "user,bogus=1"],
    &["-nic", "user,netdev=x"],
    &["-nic", "user,id=1x"],
    &["-nic", "user,mac=zz"],
    &["-nic", "user,hostfwd=foo"],
    &["-net", ""],
    &["-net", "foo"],
    &["-net", "nic,bogus=1"],
    &["-net", "nic,netdev=nope"],
    &["-net", "nic,macaddr=zz"],
    &["-net", "user,bogus=1"],
    &["-device", "virtio-net-ccw,netdev=nope"],
    &["-device", "virtio-net-ccw,mac=xx"],
    &["-device", "virtio-net-ccw,bogus=1"],
    &["-netdev", "user,id=a", "-device", "virtio-net,netdev=a", "-device", "virtio-net,netdev=a"],
    &["-nic", "user,id=x", "-device", "virtio-net-ccw,netdev=x"],
];

#[test]
fn both_refuse_with_the_same_text() {
    if Command::new("qemu-system-s390x").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "qemu-system-s390x is needed");
        eprintln!("SKIPPED: no qemu-system-s390x");
        return;
    }
    let mut wrong = Vec::new();
    for args in REFUSED {
        let mut all = vec!["-machine", "s390-ccw-virtio", "-nodefaults"];
        all.extend(*args);
        let mut output = Command::new("qemu-system-s390x");
        output.args(&all).args(["-display", "none", "-S"]);
        let output = output.stdin(Stdio::null()).output().unwrap();
        let qemu = String::from_utf8(output.stderr).unwrap().replace("qemu-system-s390x: ", "PROG: ");
        let ours = read(&all).err().unwrap_or_else(|| "accepted".into());
        // QEMU warns of idle backends only once it runs.
        if qemu.trim_end() != ours {
            wrong.push(format!("{args:?}\n  qemu: {qemu}  ours: {ours}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn read(args: &[&str]) -> Result<CommandLine, String> {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let invocation = Invocation { program: "PROG".to_owned(), target: Some("s390x".to_owned()) };
    match parse(&invocation, &catalogue(), &args) {
        Ok(Outcome::Run(line)) => Ok(*line),
        Ok(Outcome::Print(text)) => Err(text),
        Err(error) => Err(error.report("PROG")),
    }
}

fn run(args: &[&str]) -> CommandLine {
    read(args).unwrap()
}

fn catalogue() -> Catalogue {
    Catalogue::new(Target::S390x)
}

fn netdev(text: &str) -> NetBackend {
    parse_netdev_text(text).unwrap().backend
}

#[test]
fn help_lists_types_and_models() {
    assert!(read(&["-netdev", "help"]).unwrap_err().starts_with("Available netdev backend types:\nsocket\n"));
    assert_eq!(read(&["-nic", "user,model=help"]).unwrap_err(), "Supported NIC models:\nvirtio\n");
    assert!(read(&["-device", "virtio-net-ccw,help"]).unwrap_err().contains("  mac=<str>"));
}

#[test]
fn a_user_network_is_that_of_qemu_unless_it_is_changed() {
    let NetBackend::User(user) = netdev("user,id=a") else { panic!() };
    assert_eq!(user.network, (Ipv4Addr::new(10, 0, 2, 0), 24));
    assert_eq!((user.host, user.guest), (Ipv4Addr::new(10, 0, 2, 2), Ipv4Addr::new(10, 0, 2, 15)));
    assert!(user.ipv4 && user.ipv6 && user.forwards.is_empty());
    let NetBackend::User(user) = netdev("user,id=a,ipv4=on,net=192.168.3.7/255.255.255.0") else { panic!() };
    assert_eq!(user.network, (Ipv4Addr::new(192, 168, 3, 0), 24));
    assert!(!user.ipv6);
    let text = "user,id=a,hostfwd=tcp:127.0.0.1:80-:8080,hostfwd=udp::53-10.0.2.15:5353,hostfwd=::1-:2";
    let NetBackend::User(user) = netdev(text) else { panic!() };
    let at = |udp, host, host_port, guest_port| Forward { udp, host, host_port, guest_port };
    let local = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    assert_eq!(user.forwards, [at(false, local, 80, 8080), at(true, None, 53, 5353), at(false, None, 1, 2)]);
}

#[test]
fn what_the_helper_cannot_do_is_refused_in_words() {
    for words in [
        "user,id=a,restrict=on",
        "user,id=a,tftp=/x",
        "user,id=a,smb=/x",
        "user,id=a,guestfwd=tcp:10.0.2.9:1-tcp:1.1.1.1:1",
        "user,id=a,hostfwd=tcp::1-10.0.2.99:2",
        "user,id=a,ipv6-prefix=fd00::",
        "hubport,id=a,hubid=0",
        "vde,id=a",
        "bridge,id=a",
        "tap,id=a",
        "tap,id=a,ifname=x,script=no",
        "tap,id=a,ifname=x,script=no,downscript=no,vnet_hdr=on",
        "tap,id=a,fd=3,vhost=on",
        "socket,id=a,mcast=230.0.0.1:1",
        "stream,id=a,addr.type=vsock,addr.cid=1,addr.port=1",
    ] {
        let error = parse_netdev_text(words).unwrap_err().headline();
        assert!(error.contains("is not part of this version of Cloister; "), "{words}: {error}");
    }
}

#[test]
fn other_backends_carry_their_addresses() {
    let inet = |host: &str, port| SocketAddress::Inet { host: host.into(), port };
    let stream =
        |address, server, socket| NetBackend::Stream(StreamNet { address, server, reconnect: None, socket });
    assert_eq!(netdev("socket,id=a,listen=:1234"), stream(inet("", 1234), true, true));
    assert_eq!(netdev("socket,id=a,connect=h:1"), stream(inet("h", 1), false, true));
    assert_eq!(netdev("socket,id=a,fd=7"), stream(SocketAddress::Fd(FdName::Number(7)), false, true));
    assert_eq!(
        netdev("socket,id=a,udp=h:1,localaddr=:2"),
        NetBackend::Dgram(DgramNet { local: inet("", 2), remote: Some(inet("h", 1)), socket: true })
    );
    let unix = SocketAddress::Unix { path: "/s".into(), abstract_: false, tight: true };
    assert_eq!(netdev("stream,id=a,server=on,addr.type=unix,addr.path=/s"), stream(unix, true, false));
    assert_eq!(netdev("tap,id=a,fd=9"), NetBackend::Tap(TapNet::Fd(FdName::Number(9))));
    assert_eq!(
        netdev("tap,id=a,ifname=tap0,script=no,downscript=no"),
        NetBackend::Tap(TapNet::Name("tap0".into()))
    );
    let json = r#"{"type":"stream","id":"a","server":true,"reconnect":0,"addr":{"type":"fd","str":"mine"}}"#;
    let found = parse_netdev_json(&serde_json::from_str(json).unwrap()).unwrap().backend;
    assert_eq!(found, stream(SocketAddress::Fd(FdName::Name("mine".into())), true, false));
}

#[test]
fn short_forms_make_a_device_and_its_backend() {
    let line = run(&["-nic", "user,model=virtio,mac=52:54:00:00:00:07,hostfwd=tcp::1-:2"]);
    assert_eq!(line.netdevs.len(), 1);
    let device = &line.devices[0];
    assert_eq!(device.driver, "virtio-net-ccw");
    assert_eq!(device.properties.text("netdev"), Some(line.netdevs[0].id.as_str()));
    assert_eq!(device.properties.text("mac"), Some("52:54:00:00:00:07"));
    let line = run(&["-net", "nic,model=virtio", "-net", "user"]);
    assert_eq!((line.devices.len(), line.netdevs.len()), (1, 1));
    assert_eq!(line.devices[0].properties.text("netdev"), Some(line.netdevs[0].id.as_str()));
    assert!(line.warnings.is_empty());
    for none in [&["-nic", "none"][..], &["-net", "none"], &[]] {
        let line = run(none);
        assert!(line.devices.is_empty() && line.netdevs.is_empty());
    }
    let line = run(&["-net", "user"]);
    assert!(line.netdevs.is_empty());
    assert_eq!(line.warnings[0].report("PROG"), "PROG: -net user: warning: hub 0 with no nics");
    assert!(read(&["-net", "nic", "-net", "user", "-net", "user"]).unwrap_err().contains("no hubs"));
    let line = run(&["-netdev", "user,id=a"]);
    assert_eq!(line.warnings[0].report("PROG"), "PROG: warning: netdev a has no peer");
}

proptest! {
    #[test]
    fn no_text_panics(text in ".*", grammar in "(user|stream|tap|socket|dgram),id=a(,(hostfwd|net|addr.type|addr.path|fd|listen|local.type)=[a-z0-9:.\\-/]{0,12}){0,4}") {
        let _ = parse_netdev_text(&text);
        let _ = parse_netdev_text(&grammar);
        let _ = read(&["-nic", &grammar]);
        let _ = read(&["-net", &text]);
    }

    #[test]
    fn addresses_survive(mac in any::<[u8; 6]>()) {
        let text = mac.map(|byte| format!("{byte:02x}")).join(":");
        prop_assert_eq!(parse_mac(&text), Some(mac));
        prop_assert_eq!(parse_mac(&text.replace(':', "-")), Some(mac));
        prop_assert_eq!(parse_mac(&text[1..].replace(':', "")), None);
    }
}
