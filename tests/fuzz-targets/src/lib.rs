//! One function for each parser that untrusted bytes reach, so that the fuzzer and the test suite run the same
//! code: `fuzz/` hands its inputs to these, and the test of this crate runs each over the seeds and over random
//! bytes.
//!
//! A function returns if all is well and panics if not. What the parsers accept must encode and parse again to
//! the same value. This crate does not judge what is accepted; the tests beside each parser do.
#![forbid(unsafe_code)]

mod devices;
mod formats;
mod gdb;
mod human_monitor;
mod monitor;
mod sev;
mod ultravisor;

use cloister_options::{
    Catalogue, Invocation, Location, Target, classify, parse, parse_blockdev_text, parse_flat, parse_keyval,
    print_flat, print_keyval,
};
use std::path::Path;

/// What takes an input.
pub type Run = fn(&[u8]);

/// All functions by the name of their target in `fuzz/fuzz_targets`.
pub const TARGETS: [(&str, Run); 33] = [
    ("keyval", keyval),
    ("blockdev", blockdev),
    ("flat", flat),
    ("command_line", command_line),
    ("platform_toml", platform_toml),
    ("assembler", assembler),
    ("door_messages", door_messages),
    ("se_header", formats::se_header),
    ("se_image", formats::se_image),
    ("ipl_block", formats::ipl_block),
    ("boot_map", formats::boot_map),
    ("uvcb", formats::uvcb),
    ("owner_requests", formats::owner_requests),
    ("dump", formats::dump),
    ("guest_calls", ultravisor::guest_calls),
    ("sev_certificate", sev::certificate),
    ("sev_blobs", sev::blobs),
    ("sev_command", sev::command),
    ("sev_firmware", sev::firmware),
    ("image_inspect", cloister_owner::image::fuzz_inspect),
    ("host_key", cloister_owner::host_key::fuzz),
    ("attestation_answer", cloister_owner::attest::fuzz),
    ("secret_files", cloister_owner::secret::fuzz),
    ("channel_program", devices::channel_program),
    ("sclp", devices::sclp),
    ("virtqueue", devices::virtqueue),
    ("virtio_net", devices::virtio_net),
    ("virtio_ports", devices::virtio_ports),
    ("netdev", netdev),
    ("qmp", monitor::qmp),
    ("qmp_stream", monitor::qmp_stream),
    ("human_monitor", human_monitor::human_monitor),
    ("gdb", gdb::gdb),
];

/// Runs the target with this name.
///
/// # Panics
/// If there is none, or if the parser behind it has a defect.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|(target, _)| *target == name);
    target.expect("the name of a target").1(bytes);
}

/// `key=value,...` with dotted keys.
fn keyval(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(read) = parse_keyval(&text, Some("type")) {
        let again = parse_keyval(&print_keyval(&read.tree), None);
        assert!(again.is_ok_and(|again| again.tree == read.tree), "{text:?}");
    }
}

/// Nodes of the block layer, as `-blockdev` takes them.
fn blockdev(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let location = Location::new("-blockdev", Some(text.as_ref()));
    let Ok(read) = parse_blockdev_text(&text, &location) else { return };
    if let Ok(nodes) = read.clone().add_to(&[], &["drive0"]) {
        // Whoever is named stands before, and no name stands for two.
        for (index, node) in nodes.iter().enumerate() {
            let before = &nodes[..index];
            let known = |name: &str| before.iter().any(|other| other.name == name);
            assert!(!known(&node.name), "{text:?}");
            assert!(node.driver.file().into_iter().chain(node.driver.backing()).all(known), "{text:?}");
        }
        assert!(read.add_to(&nodes, &[]).is_err(), "{text:?}");
    }
}

/// Network backends, as `-netdev` and the human monitor take them.
fn netdev(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(read) = cloister_options::parse_netdev_text(&text) {
        assert!(!read.id.is_empty(), "{text:?}");
    }
}

/// `key=value,...` of the older options.
fn flat(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(read) = parse_flat(&text, Some("driver"), false) {
        let _ = print_flat(&read);
    }
}

/// A whole command line; arguments end at a NUL, the first is the program's name.
fn command_line(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut words = text.split('\0').map(str::to_owned);
    let program = words.next().unwrap_or_default();
    let args: Vec<String> = words.collect();
    let _ = classify(&program, args.clone());
    let invocation = Invocation { program: "cloister".to_owned(), target: None };
    let _ = invocation.resolve_target(&args);
    if let Err(error) = parse(&invocation, &Catalogue::new(Target::S390x), &args) {
        assert!(error.report("cloister").starts_with("cloister: "));
    }
}

/// The switches of a platform folder.
fn platform_toml(bytes: &[u8]) {
    use cloister_platform_store::PlatformConfig;
    let file = Path::new("platform.toml");
    if let Ok(config) = PlatformConfig::parse(&String::from_utf8_lossy(bytes), file) {
        let again = PlatformConfig::parse(&config.to_toml(), file);
        assert!(again.is_ok_and(|again| again.to_toml() == config.to_toml()));
    }
}

/// A source file of a guest.
fn assembler(bytes: &[u8]) {
    let _ = cloister_asm_s390x::assemble(&String::from_utf8_lossy(bytes), "input.s");
}

/// Messages of both doors, as another process would send them.
fn door_messages(bytes: &[u8]) {
    macro_rules! message {
        ($($message:ty),*) => {$(
            if let Ok(message) = postcard::from_bytes::<$message>(bytes) {
                let written = postcard::to_stdvec(&message).expect("what was read can be written");
                assert_eq!(postcard::from_bytes::<$message>(&written).as_ref(), Ok(&message));
            }
        )*};
    }
    message!(cloister_platform::Request, cloister_platform::Response);
    message!(cloister_firmware_api::Request, cloister_firmware_api::Response);
    message!(cloister_arch::s390x::CpuState);
}
