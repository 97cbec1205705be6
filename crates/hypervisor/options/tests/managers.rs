//! Command lines that managers write: libvirt's as recorded, Kata's, Nomad's and qmp-shell-wrap's by their options.

use cloister_options::{
    Catalogue, CharBackend, CommandLine, DriveInterface, FdName, Invocation, MonitorMode, Outcome,
    RebootAction, ShutdownAction, SocketAddress, SocketSpec, Target, parse,
};

const PROBE: &str = include_str!("libvirt-probe/argv-probe.json");
const RUN_SEV: &str = include_str!("libvirt-probe/argv-run-sev.json");

fn recorded(text: &str) -> Vec<String> {
    let value: serde_json::Value = serde_json::from_str(text).expect("it is JSON");
    let argv = value["argv"].as_array().expect("it has arguments");
    argv.iter().filter_map(|arg| arg.as_str()).map(str::to_owned).collect()
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn read(target: Target, args: &[String]) -> Result<CommandLine, String> {
    let program = format!("qemu-system-{target}");
    let invocation = Invocation { program: program.clone(), target: Some(target.name().to_owned()) };
    assert_eq!(invocation.resolve_target(args), Ok(target));
    match parse(&invocation, &Catalogue::new(target), args) {
        Ok(Outcome::Run(line)) => Ok(*line),
        Ok(Outcome::Print(text)) => Err(format!("printed {text}")),
        Err(error) => Err(error.report(&program)),
    }
}

fn run(args: &[String]) -> CommandLine {
    read(Target::S390x, args).unwrap_or_else(|error| panic!("{args:?}: {error}"))
}

fn listening(address: SocketAddress) -> CharBackend {
    CharBackend::Socket(SocketSpec { address, server: true, wait: false, reconnect: None, no_delay: false })
}

fn unix(path: &str) -> SocketAddress {
    SocketAddress::Unix { path: path.into(), abstract_: false, tight: true }
}

#[test]
fn libvirt_probes_every_target() {
    for target in Target::AVAILABLE {
        let line = read(*target, &recorded(PROBE)).unwrap_or_else(|error| panic!("{target}: {error}"));
        assert_eq!(line.machine.name, "none");
        assert!(line.stopped && line.daemonize && line.no_defaults && line.no_user_config);
        assert_eq!(line.pid_file.as_deref(), Some("/run/example/lib/qemu/qmp-HQ0DZ3/qmp.pid".as_ref()));
        let monitor = &line.monitors[0];
        assert_eq!((monitor.mode, monitor.pretty), (MonitorMode::Control, false));
        assert_eq!(monitor.backend, listening(unix("/run/example/lib/qemu/qmp-HQ0DZ3/qmp.monitor")));
        assert_eq!(line.console(), CharBackend::None);
        // Without KVM, as QEMU says it.
        assert_eq!(line.accel[0].name, "tcg");
        let notices: Vec<_> = line.warnings.iter().map(|warning| warning.report("PROG")).collect();
        assert_eq!(notices, ["PROG: invalid accelerator kvm", "PROG: falling back to tcg"]);
    }
}

#[test]
fn without_its_machine_a_target_has_no_default() {
    let error = read(Target::Ppc64, &[]).unwrap_err();
    assert!(error.contains("No machine specified, and there is no default"), "{error}");
    assert!(read(Target::Ppc64, &words("-machine help")).unwrap_err().contains("none"));
    assert_eq!(read(Target::X86_64, &[]).unwrap().machine.name, "pc-i440fx-8.2");
}

fn pc(args: &str) -> Result<CommandLine, String> {
    read(Target::X86_64, &words(args))
}

#[test]
fn pcs_have_flash_threads_and_models() {
    let line = pc("-M q35,smm=off,acpi=off,vmport=off,hpet=off -smp 8,sockets=2,cores=2,threads=2 -cpu EPYC-v4,+svm \
                   -drive if=pflash,format=raw,unit=0,readonly=on,file=/c.fd -drive if=pflash,file=/v.fd,index=1")
    .unwrap();
    assert_eq!((line.machine.name.as_str(), line.smp.threads), ("pc-q35-8.2", 2));
    let flash: Vec<_> = line.drives.iter().map(|drive| (drive.interface, drive.index)).collect();
    assert_eq!(flash, [(DriveInterface::Pflash, Some(0)), (DriveInterface::Pflash, Some(1))]);
    assert!(line.drives[0].read_only && !line.drives[1].read_only);
    assert_eq!(pc("-pflash /c.fd -pflash /v.fd").unwrap().drives[1].index, Some(1));
    for (args, words) in [
        ("-drive if=pflash,unit=0,file=/a -drive if=pflash,unit=0,file=/b", "unit=0 (index=0) exists"),
        ("-drive if=pflash,unit=0,index=0,file=/a", "index cannot be used with bus and unit"),
        ("-cpu z14", "unable to find CPU model 'z14'"),
        ("-cpu EPYC,unpack=on", "Property 'EPYC-x86_64-cpu.unpack' not found"),
        ("-M q35 -blockdev driver=vvfat,node-name=a", "is not part of this version of Cloister"),
        ("-M s390-ccw-virtio", "unsupported machine type"),
    ] {
        let error = pc(args).unwrap_err();
        assert!(error.contains(words), "{args}: {error}");
    }
}

/// Whole, but for the object: mechanisms have a crate of their own, which tests it.
#[test]
fn libvirt_runs_a_domain() {
    let mut args = recorded(RUN_SEV);
    let sev = args.iter().position(|arg| arg.starts_with("sev-guest,")).unwrap();
    args.drain(sev - 1..=sev);
    let line = read(Target::X86_64, &args).unwrap();
    assert_eq!(line.machine.name, "pc-q35-8.2");
    assert_eq!(line.memory.size, Some(256 << 20));
    assert_eq!(line.machine.memory_backend.as_deref(), Some("pc.ram"));
    assert_eq!(line.append.as_deref(), Some("console=ttyS0"));
    assert_eq!(line.name.as_deref(), Some("sevguest"));
    assert!(line.debug_threads && line.stopped && line.no_shutdown && line.message_timestamps);
    assert_eq!(line.actions.shutdown, ShutdownAction::Pause);
    assert_eq!(line.machine.confidential_guest.unwrap().id, "lsec0");
    assert_eq!(line.chardevs[0].id, "charmonitor");
    assert_eq!(line.chardevs[0].backend, listening(SocketAddress::Fd(FdName::Number(6))));
    assert_eq!(line.monitors[0].backend, CharBackend::Chardev("charmonitor".into()));
    assert_eq!(line.monitors[0].mode, MonitorMode::Control);
    assert!(line.warnings.is_empty());
}

/// Kata's generator, without the options that this version refuses (the next test).
#[test]
fn kata_passes_a_listening_socket() {
    let line = run(&words(
        "-name sandbox-1,debug-threads=on -machine s390-ccw-virtio,accel=tcg,confidential-guest-support=pv0 \
         -cpu max -m 2048M,slots=10,maxmem=4096M -smp 1,cores=1,threads=1,sockets=4,maxcpus=4 \
         -kernel /k -append console=ttysclp0 -qmp unix:fd=3,server=on,wait=off -add-fd fd=5,set=1,opaque=x \
         -object rng-random,id=rng0,filename=/dev/urandom -device virtio-rng-ccw,rng=rng0,devno=fe.0.0001 \
         -chardev socket,id=charconsole0,path=/run/vc/console.sock,server=on,wait=off \
         -serial chardev:charconsole0 -rtc base=utc,driftfix=slew,clock=host -vga none -nographic -nodefaults \
         -no-user-config -no-reboot -sandbox on,obsolete=deny,spawn=deny -pidfile /run/vc/pid -daemonize",
    ));
    assert_eq!(line.monitors[0].backend, listening(SocketAddress::Fd(FdName::Number(3))));
    assert_eq!(line.console(), listening(unix("/run/vc/console.sock")));
    assert_eq!((line.fd_sets[0].fd, line.fd_sets[0].set), (5, 1));
    assert_eq!(line.actions.reboot, RebootAction::Shutdown);
    assert!(line.no_reboot && line.daemonize);
    let sandbox = line.sandbox.unwrap();
    assert!(sandbox.enabled && !sandbox.allow_spawn && sandbox.allow_resource_control);
}

#[test]
fn what_kata_needs_later_is_refused_in_words() {
    for args in ["-blockdev driver=nbd,node-name=a", "-netdev tap,id=n", "-incoming defer"] {
        let error = read(Target::S390x, &words(args)).unwrap_err();
        assert!(error.contains("is not part of this version of Cloister"), "{error}");
    }
}

#[test]
fn nomad_has_a_monitor_with_old_short_booleans() {
    let line = run(&words(
        "-machine type=s390-ccw-virtio,accel=tcg -name task -m 512M -drive file=/a.img -nographic \
         -monitor unix:/alloc/qemu-monitor.sock,server,nowait",
    ));
    assert_eq!(line.monitors[0].backend, listening(unix("/alloc/qemu-monitor.sock")));
    assert_eq!(line.monitors[0].mode, MonitorMode::Readline);
    assert_eq!(line.console(), CharBackend::Stdio { with_monitor: false });
    assert!(line.warnings.is_empty());
}

#[test]
fn qmp_shell_wrap_listens_itself() {
    let line = run(&words("-qmp unix:/tmp/qmp-shell-wrap-1.sock"));
    let CharBackend::Socket(socket) = &line.monitors[0].backend else { panic!("a socket") };
    assert_eq!((socket.server, socket.wait), (false, false));
}

#[test]
fn a_picture_is_svg_or_png() {
    assert!(run(&words("-memory-map map.svg")).memory_map.is_some());
    assert!(run(&words("--memory-map map.PNG")).memory_map.is_some());
    let error = read(Target::S390x, &words("-memory-map map.jpg")).unwrap_err();
    assert!(error.ends_with("end its name in .svg or .png"), "{error}");
}

#[test]
fn gdb_waits_on_tcp_without_holding_up_the_guest() {
    let line = run(&words("-s"));
    let backend = CharBackend::Socket(SocketSpec {
        address: SocketAddress::Inet { host: String::new(), port: 1234 },
        server: true,
        wait: false,
        reconnect: None,
        no_delay: true,
    });
    assert_eq!(line.gdb, Some(backend));
    assert_eq!(run(&words("-s -gdb none")).gdb, None);
    assert_eq!(run(&words("-s -gdb pty")).gdb, Some(CharBackend::Pty { path: None }));
}

#[test]
fn a_chardev_for_qmp_is_not_shared() {
    let error = read(Target::S390x, &words("-chardev null,id=a,mux=on -mon a,mode=control")).unwrap_err();
    assert!(error.contains("QMP does not share"), "{error}");
    let error = read(Target::S390x, &words("-chardev null,id=a -serial chardev:a -mon a")).unwrap_err();
    assert!(error.contains("Device 'a' is in use"), "{error}");
}
