//! `cloister sev`: as a person or a script calls it, and against the programs of others.
//!
//! Those programs are fetched by `scripts/fetch-sev-peers`. Without them the tests that need them are skipped with
//! words; with CI set they fail.
#![expect(
    clippy::unwrap_used,
    clippy::unreadable_literal,
    reason = "a test fails by panicking; GUIDs are written as text"
)]

#[path = "sev_tools/commands.rs"]
mod commands;
#[path = "common/mod.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod common;
#[path = "sev_tools/firmware.rs"]
mod firmware;
#[path = "sev_tools/peers.rs"]
mod peers;
#[path = "../../owner/tests/sev/synthetic.rs"]
mod synthetic;

use cloister_formats::sev::amd_root::Generation;
use cloister_formats::sev::chain::Chain;
use std::path::Path;
use std::sync::LazyLock;
use synthetic::Platform;

static PLATFORM: LazyLock<Platform> =
    LazyLock::new(|| synthetic::platform(Generation::Rsa2048, b"SYNTHETIC", "tools"));

/// Runs `cloister sev` in a folder.
fn sev(folder: &Path, args: &[&str]) -> common::Run {
    common::cloister(folder, std::iter::once("sev").chain(args.iter().copied()))
}

/// A folder with the inputs of a launch: firmware, kernel, ramdisk, keys, chain, root.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    write("ovmf.fd", &synthetic::firmware(0x20_0000, "ovmf"));
    write("kernel", &[b'K'; 100_000]);
    write("initrd", &[b'I'; 50_000]);
    write("tik", &[0x21; 16]);
    write("tek", &[0x12; 16]);
    write("secret", b"correct horse battery staple\n");
    write_platform(folder.path(), &PLATFORM);
    folder
}

fn write_platform(folder: &Path, platform: &Platform) {
    std::fs::write(folder.join("chain"), platform.chain.encode_platform()).unwrap();
    std::fs::write(folder.join("ca"), platform.chain.encode_amd()).unwrap();
    let full = [platform.chain.encode_platform(), platform.chain.encode_amd()].concat();
    std::fs::write(folder.join("full"), full).unwrap();
}

/// The certificates of a maker alone.
fn roots(chain: &Chain) -> Chain {
    Chain { ask: chain.ask.clone(), ark: chain.ark.clone(), ..Chain::default() }
}

const CMDLINE: &str = "console=ttyS0 root=/dev/vda";
/// base64 of 40 41 .. 4f.
const NONCE: &str = "QEFCQ0RFRkdISUpLTE1OTw==";
const VERSION: [&str; 6] = ["--api-major", "1", "--api-minor", "55", "--build-id", "25"];
const KERNEL: [&str; 6] = ["--kernel", "kernel", "--initrd", "initrd", "--cmdline", CMDLINE];
