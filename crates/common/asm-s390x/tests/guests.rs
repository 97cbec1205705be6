//! The boot stages and guests, executed by the packaged QEMU (TCG, in the clear) as an oracle. Each test prints a notice
//! and passes when `qemu-system-s390x` is missing. Protected runs are tested where an Ultravisor is.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cloister_asm_s390x::stages::{
    KERNEL_ENTRY, PSW_MASK_64_BIT, STAGE_A_ADDRESS, STAGE_A_ARGUMENTS_SIZE, STAGE_A_ENTRY, STAGE_A_LIMIT,
    STAGE_B_ARGUMENTS_SIZE, STAGE_B_HOME, STAGE_B_LIMIT,
};
use cloister_asm_s390x::{Object, assemble_file};
use cloister_formats::s390x::se_image::{Extent, StageAArgs, StageBArgs};

const MARKER: &[u8] = b"CLOISTER-GUEST-SECRET-s390x-0001";

#[test]
fn hello_prints_and_powers_off() {
    let Some(output) = run(&guest("hello").bytes, "hello", &[]) else { return };
    assert_eq!(output, "Hello from s390x\r\n");
}

#[test]
fn demo_uses_virtio_rng_and_keeps_its_marker() {
    let demo = guest("demo");
    assert!(
        !demo.bytes.windows(MARKER.len()).any(|bytes| bytes == MARKER),
        "the marker must not be in the image"
    );
    let Some(output) = run(&demo.bytes, "demo", &["-device", "virtio-rng-ccw"]) else { return };
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(lines[0], "Cloister demo guest for s390x", "{output}");
    assert_eq!(lines[1], "protected: no (facility 158, Ultravisor call, is not installed)");
    assert_eq!(lines[2], "marker written to private page 0x40000");
    assert!(lines[3].starts_with("virtio-rng on subchannel 0.0."), "{output}");
    let random = lines[4].strip_prefix("random bytes: ").expect("random bytes");
    assert_eq!((random.len(), random.bytes().all(|byte| byte.is_ascii_hexdigit())), (32, true), "{random}");
    assert_eq!(lines[5..], ["marker intact", "powering off"]);
}

#[test]
fn demo_negotiates_access_platform() {
    let options = ["-global", "virtio-device.iommu_platform=on", "-device", "virtio-rng-ccw"];
    let Some(output) = run(&guest("demo").bytes, "demo-iommu", &options) else { return };
    assert!(output.contains("random bytes: "), "{output}");
}

#[test]
fn demo_finds_its_device_among_others() {
    let options =
        ["-device", "virtio-balloon-ccw", "-device", "virtio-serial-ccw", "-device", "virtio-rng-ccw"];
    let Some(output) = run(&guest("demo").bytes, "demo-others", &options) else { return };
    assert!(output.contains("random bytes: "), "{output}");
}

/// The protected path of the demo with an Ultravisor that grants everything, since QEMU has none.
#[test]
fn demo_as_protected_guest_with_a_pretended_ultravisor() {
    let folder = copy_of_sources(&[
        ("ultravisor.inc", "        jz      no_protection\n", String::new()),
        ("ultravisor.inc", "uvc     %r0, %r2", "mvhhi 4(%r2), 1 ; mvi 0x11(%r2), 0xc0 ; cr %r0, %r0".into()),
    ]);
    let demo = assemble_file(folder.path().join("demo.s")).unwrap_or_else(|error| panic!("{error}"));
    let options = ["-global", "virtio-device.iommu_platform=on", "-device", "virtio-rng-ccw"];
    let Some(output) = run(&demo.bytes, "demo-pretended", &options) else { return };
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(lines[1], "protected: yes, the Ultravisor answers as to a protected guest", "{output}");
    assert_eq!(lines[3], "one page shared with the host");
    assert!(lines[5].starts_with("random bytes: "), "{output}");
    assert_eq!(lines[6..], ["page is private again", "marker intact", "powering off"]);

    let Some(output) = run(&demo.bytes, "demo-pretended", &["-device", "virtio-rng-ccw"]) else { return };
    assert!(output.contains("features do not fit"), "ACCESS_PLATFORM is required: {output}");
}

#[test]
fn probe_in_the_clear() {
    let Some(output) = run(&guest("probe").bytes, "probe", &["-device", "virtio-rng-ccw"]) else { return };
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(lines[1], "Ultravisor call that does not exist: program check 0x1", "{output}");
    assert_eq!(lines[5], "share an address beyond memory: program check 0x1");
    assert_eq!(
        lines[6..8],
        ["DIAGNOSE 308 subcode 8: program check 0x6", "DIAGNOSE 308 subcode 10: program check 0x6"]
    );
    assert!(lines[8].starts_with("STSI 15.1.2: cc 0x"), "{output}");
    assert_eq!(lines.last(), Some(&"device write to a private page: THE PAGE WAS WRITTEN"));
}

#[test]
fn demo_without_device_says_so() {
    let Some(output) = run(&guest("demo").bytes, "demo-bare", &[]) else { return };
    assert!(output.contains("no virtio-rng device found\r\nmarker intact\r\npowering off\r\n"), "{output}");
}

#[test]
fn stages_keep_the_contract_with_the_image_tool() {
    let stage_a = guest("stage-a");
    assert_eq!(stage_a.origin, STAGE_A_ADDRESS);
    assert!(stage_a.end() <= STAGE_A_LIMIT, "ends at {:#x}", stage_a.end());
    assert_eq!(stage_a.symbol("entry"), Some(STAGE_A_ENTRY));
    let arguments = stage_a.bytes.len() - STAGE_A_ARGUMENTS_SIZE;
    assert_eq!(stage_a.offset_of("arguments"), Some(arguments));
    assert_eq!(stage_a.bytes[arguments..], [0; STAGE_A_ARGUMENTS_SIZE]);
    assert_ne!(&stage_a.bytes[8..14], b"S390EP");
    assert!(stage_a.bytes[0x400..0x1000].iter().all(|&byte| byte == 0), "loaders write to 0x10400-0x10fff");

    let stage_b = guest("stage-b");
    let arguments = stage_b.bytes.len() - STAGE_B_ARGUMENTS_SIZE;
    assert_eq!(stage_b.offset_of("arguments"), Some(arguments));
    assert_eq!(stage_b.bytes[arguments..], [0; STAGE_B_ARGUMENTS_SIZE]);
    assert_eq!(stage_b.symbol("HOME"), Some(STAGE_B_HOME));
    let body = stage_b.bytes.len() - stage_b.offset_of("body").expect("a body");
    assert!(STAGE_B_HOME + body as u64 <= STAGE_B_LIMIT, "the body has {body:#x} bytes");
}

#[test]
fn stage_a_without_unpack_facility_says_so() {
    let Some(output) = run(&se_like(&guest("stage-a")), "stage-a", &[]) else { return };
    assert_eq!(output, "Secure unpack facility is not available\r\n");
}

#[test]
fn stage_a_from_the_trampoline() {
    let mut image = se_like(&guest("stage-a"));
    image[..8].copy_from_slice(&[0, 8, 0, 0, 0x80, 1, 0, 0]);
    let Some(output) = run(&image, "stage-a-trampoline", &[]) else { return };
    assert_eq!(output, "Secure unpack facility is not available\r\n");
}

/// No emulator without an Ultravisor executes the two DIAGNOSEs, so this replaces them by results.
#[test]
fn stage_a_explains_failures() {
    for (set, enter, expected) in [
        (0x402_u64, 0_u64, "Protected boot setup has failed: 0x402\r\n"),
        (1, 0x0a02, "Protected boot failed: 0xa02\r\n"),
        (
            1,
            0x0002_0005_0108_0a02,
            "Protected boot failed: 0xa02, KVM_PV_SET_SEC_PARMS - RC: 0x108, RRC: 0x5\r\n\
             Host key hash does not match: the image was not encrypted for this host.\r\n",
        ),
        (
            1,
            0x0004_001b_0102_0a02,
            "Protected boot failed: 0xa02, KVM_PV_VERIFY - RC: 0x102, RRC: 0x1b\r\n\
             Page digest list (PLD) mismatch: the image was changed or damaged.\r\n",
        ),
        (1, 0x0003_0000_0007_0a02, "Protected boot failed: 0xa02, KVM_PV_UNPACK - RC: 0x7, RRC: 0x0\r\n"),
    ] {
        let name = format!("stage-a-{set:x}-{enter:x}");
        let folder = copy_of_sources(&[
            ("stage-a.s", "jz      no_unpack", String::new()),
            ("stage-a.s", "diag    %r2, %r4, DIAG_IPL\n", format!("llilf %r3, {set}\n")),
            (
                "stage-a.s",
                "diag    %r2, %r4, DIAG_IPL ",
                format!("llilf %r3, {} ; iihf %r3, {} ", enter & 0xffff_ffff, enter >> 32),
            ),
        ]);
        let path = folder.path().join("stage-a.s");
        let stage = assemble_file(&path).unwrap_or_else(|error| panic!("{error}"));
        let Some(output) = run(&se_like(&stage), &name, &[]) else { return };
        assert_eq!(output, expected);
    }
}

/// Stage A turns the tool's distances into the addresses that DIAGNOSE 0x308 subcode 8 gets: this shows, instead of
/// the DIAGNOSE, what it would have been given.
#[test]
fn stage_a_completes_the_parameter_block() {
    const HEADER: u64 = 0x14000;
    const HEADER_SIZE: u64 = 0x280;
    const IPIB: u64 = 0x20000;
    for (shown, expected) in [
        ("lgr %r3, %r2", IPIB),
        ("lg %r3, IPIB_HEADER_ADDRESS(%r2)", HEADER),
        ("lg %r3, IPIB_HEADER_LENGTH(%r2)", HEADER_SIZE),
    ] {
        let folder = copy_of_sources(&[
            ("stage-a.s", "jz      no_unpack", String::new()),
            ("stage-a.s", "diag    %r2, %r4, DIAG_IPL\n", format!("{shown}\n")),
        ]);
        let mut stage =
            assemble_file(folder.path().join("stage-a.s")).unwrap_or_else(|error| panic!("{error}"));
        let at = stage.bytes.len() - STAGE_A_ARGUMENTS_SIZE;
        let address = STAGE_A_ADDRESS + at as u64;
        let arguments = StageAArgs {
            header_offset: HEADER - address,
            header_size: HEADER_SIZE,
            ipib_offset: IPIB - address,
        };
        stage.bytes[at..].copy_from_slice(&arguments.encode());
        let mut image = se_like(&stage);
        image.resize(IPIB as usize + 0x1000, 0);
        let Some(output) = run(&image, "stage-a-block", &[]) else { return };
        assert_eq!(output, format!("Protected boot setup has failed: {expected:#x}\r\n"));
    }
}

/// Stage B needs no Ultravisor to do its work: components in the clear above it, entered as if protected.
#[test]
fn stage_b_starts_the_kernel() {
    let demo = guest("demo").bytes;
    let Some(output) = run(&packed(&demo, b"hold\0", 5), "stage-b", &["-device", "virtio-rng-ccw"]) else {
        return;
    };
    assert!(output.starts_with("Cloister demo guest"), "{output}");
    assert!(output.contains("holding for ten seconds\r\nmarker intact\r\npowering off\r\n"), "{output}");
}

#[test]
fn stage_b_passes_the_ramdisk_on() {
    // A demo that prints the kernel's ramdisk parameters in place of its marker's address.
    for offset in ["0x408", "0x410"] {
        let folder = copy_of_sources(&[(
            "demo.s",
            "llilf   %r2, PRIVATE\n        brasl   %r14, console_hex",
            format!("larl %r1, start\nlg %r2, {offset}(%r1)\nbrasl %r14, console_hex"),
        )]);
        let demo = assemble_file(folder.path().join("demo.s")).unwrap_or_else(|error| panic!("{error}"));
        let address = (0x15000 + demo.bytes.len()).next_multiple_of(0x1000);
        let expected = if offset == "0x408" { address } else { b"files".len() };
        let Some(output) = run(&packed_with(&demo.bytes, b"\0", 1, b"files"), "ramdisk", &[]) else { return };
        assert!(output.contains(&format!("private page {expected:#x}\r\n")), "{output}");
    }
}

#[test]
fn stage_b_refuses_bad_components() {
    let demo = guest("demo").bytes;
    for (name, image, expected) in [
        ("kernel", packed(&demo[..0xffff], b"\0", 1), "Invalid kernel\r\n"),
        ("long", packed(&demo, &[0; 0x1001], 0x1001), "Command line is too large\r\n"),
        ("open", packed(&demo, b"abc\0", 3), "Command line needs to be null-terminated\r\n"),
    ] {
        let Some(output) = run(&image, &format!("stage-b-{name}"), &[]) else { return };
        assert_eq!(output, expected);
    }
}

/// An image as far as stage A sees one: short PSW, stage A with zero arguments.
fn se_like(stage_a: &Object) -> Vec<u8> {
    let mut image = vec![0; 0x10000];
    image[..8].copy_from_slice(&[0, 8, 0, 1, 0x80, 1, 0x10, 0]);
    image.extend_from_slice(&stage_a.bytes);
    // The arguments' distances are 0: leave room for what stage A writes relative to them.
    image.resize(0x15000, 0);
    image
}

/// Kernel, command line and stage B laid out as in an SE image, unencrypted, with the PSW at 0 on stage B.
fn packed(kernel: &[u8], command_line: &[u8], command_line_size: u64) -> Vec<u8> {
    packed_with(kernel, command_line, command_line_size, b"")
}

fn packed_with(kernel: &[u8], command_line: &[u8], command_line_size: u64, ramdisk: &[u8]) -> Vec<u8> {
    let mut stage_b = guest("stage-b").bytes;
    let mut image = vec![0; 0x15000];
    let mut append = |bytes: &[u8]| {
        let address = image.len();
        image.extend_from_slice(bytes);
        image.resize(image.len().next_multiple_of(0x1000), 0);
        address as u64
    };
    let kernel_at = append(kernel);
    let ramdisk_at = append(ramdisk);
    let command_line_at = append(command_line);
    let arguments = StageBArgs {
        kernel: Extent { src: kernel_at, size: kernel.len() as u64 },
        cmdline: Extent { src: command_line_at, size: command_line_size },
        initrd: Extent { src: ramdisk_at, size: ramdisk.len() as u64 },
        psw_mask: PSW_MASK_64_BIT,
        psw_addr: KERNEL_ENTRY,
    };
    let at = stage_b.len() - STAGE_B_ARGUMENTS_SIZE;
    stage_b[at..].copy_from_slice(&arguments.encode());
    let stage_b_at = append(&stage_b);
    image[..4].copy_from_slice(&[0, 8, 0, 0]);
    image[4..8].copy_from_slice(&(0x8000_0000 | stage_b_at as u32).to_be_bytes());
    image
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../guests/s390x").join(name)
}

/// The sources with some texts replaced (file, text, replacement).
fn copy_of_sources(changes: &[(&str, &str, String)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("temporary folder");
    for entry in std::fs::read_dir(source("")).expect("guests/s390x") {
        let path = entry.expect("readable folder").path();
        if path.is_dir() {
            continue;
        }
        let name = path.file_name().expect("a file name");
        let mut text = std::fs::read_to_string(&path).expect("a text file");
        for (_, from, to) in changes.iter().filter(|(file, ..)| name == *file) {
            assert!(text.contains(from), "{from}");
            text = text.replacen(from, to, 1);
        }
        std::fs::write(folder.path().join(name), text).expect("write the variant");
    }
    folder
}

fn guest(name: &str) -> Object {
    assemble_file(source(&format!("{name}.s"))).unwrap_or_else(|error| panic!("{error}"))
}

/// Console output of the image under QEMU until it powers off or stops; `None` with a notice without QEMU.
fn run(image: &[u8], name: &str, options: &[&str]) -> Option<String> {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (path, console) = (folder.path().join("image.bin"), folder.path().join("console.txt"));
    std::fs::write(&path, image).expect("write the image");
    let child = Command::new("qemu-system-s390x")
        .args(["-M", "s390-ccw-virtio", "-accel", "tcg", "-m", "64M", "-display", "none", "-monitor", "none"])
        .args(["-nodefaults", "-no-reboot", "-device", "sclpconsole,chardev=console"])
        .arg("-chardev")
        .arg(format!("file,id=console,path={}", console.display()))
        .arg("-kernel")
        .arg(&path)
        .args(options)
        .stdin(Stdio::null())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            println!("SKIPPED: qemu-system-s390x cannot be run ({error}); {name} was not executed");
            return None;
        }
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if child.try_wait().expect("the state of QEMU").is_some() {
            break;
        }
        if Instant::now() > deadline {
            child.kill().expect("stop QEMU");
            child.wait().expect("QEMU's end");
            panic!("{name} did not end; console: {:?}", std::fs::read_to_string(&console));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Some(std::fs::read_to_string(&console).expect("the console file"))
}
