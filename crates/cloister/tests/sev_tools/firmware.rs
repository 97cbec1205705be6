//! The owner's tools against the firmware model: each side's bytes are accepted by the other.

use super::sev;
use cloister_asp::{Asp, Config, FlatMemory, Identity, RootKeys, SystemMemory};
use cloister_crypto::{Secret, SeededEntropy};
use cloister_formats::sev::amd_root::Generation;
use cloister_formats::sev::command::{
    Activate, Attestation, Handle, Init, LaunchMeasure, LaunchStart, LaunchUpdate, PdhCertExport, Transfer,
};
use cloister_formats::sev::policy::Policy;
use cloister_owner::sev::input;
use std::fs;

const PDH: u64 = 0x1000;
const CHAIN: u64 = 0x2000;
const SESSION: u64 = 0x4000;
const OUT: u64 = 0x5000;
const HEADER: u64 = 0x6000;
const PAYLOAD: u64 = 0x7000;
const TMR: u64 = 0x10_0000;
const FIRMWARE: u64 = 0x20_0000;
const SECRET: u64 = 0x30_0000;

/// The processor, its memory, and the maker's certificates.
struct Rig {
    asp: Asp,
    memory: FlatMemory,
}

impl Rig {
    #[track_caller]
    fn run(&mut self, command: u16, buffer: &mut [u8]) {
        let status = self.asp.execute(command, buffer, &self.memory);
        assert!(status.is_success(), "command {command:#x}: {status}");
    }

    fn read(&self, at: u64, size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size];
        self.memory.read(at, &mut bytes).unwrap();
        bytes
    }
}

#[test]
fn a_launch_from_session_to_secret_and_report() {
    let mut entropy = SeededEntropy::new(b"tools against firmware");
    let maker = RootKeys::generate(&mut entropy, Generation::Rsa2048);
    let mut identity = Identity::of_chip(Secret::generate(&mut entropy));
    identity.certify(&maker, &mut entropy);
    let root = identity.root(Generation::Rsa2048).unwrap();
    let (ca, cek) = ([root.ask.encode(), root.ark.encode()].concat(), root.cek.encode());
    let asp = Asp::new(identity, Box::new(SeededEntropy::new(b"processor")), Config::default());
    let mut rig = Rig { asp, memory: FlatMemory::new(0x40_0000) };
    rig.run(0x01, &mut Init { flags: 1, tmr_paddr: TMR, tmr_len: 0x10_0000, ..Init::default() }.encode());
    let export = PdhCertExport { pdh_paddr: PDH, pdh_len: 2084, chain_paddr: CHAIN, chain_len: 6252 };
    rig.run(0x08, &mut export.encode());

    let folder = super::folder();
    let folder = folder.path();
    fs::write(folder.join("exported"), [rig.read(PDH, 2084), rig.read(CHAIN, 6252)].concat()).unwrap();
    fs::write(folder.join("ca"), ca).unwrap();
    fs::write(folder.join("cek"), cek).unwrap();
    let trust = ["--ca", "ca", "--cek", "cek"];
    let verified = sev(folder, &[&["certs", "verify", "exported"], &trust[..]].concat());
    assert!(
        verified.succeeds().contains("OK") && verified.err.contains("MODEL, NOT AMD"),
        "{}",
        verified.err
    );
    sev(folder, &[&["session", "exported", "5"], &trust[..]].concat()).succeeds();

    let decoded =
        |name: &str| input::from_base64(name, &fs::read_to_string(folder.join(name)).unwrap()).unwrap();
    rig.memory.write(PDH, &decoded("vm_godh.b64")).unwrap();
    rig.memory.write(SESSION, &decoded("vm_session.b64")).unwrap();
    let start = LaunchStart {
        policy: Policy(5),
        dh_paddr: PDH,
        dh_len: 2084,
        session_paddr: SESSION,
        session_len: 128,
        ..LaunchStart::default()
    };
    let mut buffer = start.encode();
    rig.run(0x30, &mut buffer);
    let handle = LaunchStart::parse(&buffer).unwrap().handle;
    rig.asp.wbinvd_on_all_cores();
    rig.run(0x0a, &mut []);
    rig.run(0x21, &mut Activate { handle, asid: 1 }.encode());
    let image = fs::read(folder.join("ovmf.fd")).unwrap()[0x1f_0000..].to_vec();
    fs::write(folder.join("small.fd"), &image).unwrap();
    rig.memory.write(FIRMWARE, &image).unwrap();
    rig.run(0x31, &mut LaunchUpdate { handle, paddr: FIRMWARE, len: image.len() as u32 }.encode());
    for cpu in ["0", "1"] {
        let build = ["vmsa", "build", "--force", "area", "--cpu", cpu, "--vcpu-type", "EPYC-Milan"];
        sev(folder, &[&build[..], &["--firmware", "small.fd"]].concat()).succeeds();
        let at = FIRMWARE + 0x8_0000 + 0x1000 * cpu.parse::<u64>().unwrap();
        rig.memory.write(at, &fs::read(folder.join("area")).unwrap()).unwrap();
        rig.run(0x32, &mut LaunchUpdate { handle, paddr: at, len: 4096 }.encode());
    }
    rig.run(0x33, &mut LaunchMeasure { handle, paddr: OUT, len: 48 }.encode());
    let measurement = input::to_base64(&rig.read(OUT, 48));

    let keys = ["--tik", "vm_tik.bin", "--tek", "vm_tek.bin"];
    let cpus = ["--policy", "5", "--vcpus", "2", "--cpu", "EPYC-Milan"];
    let verify = |cpus: &[&str]| {
        let fixed = ["verify", "--measurement", &measurement, "--firmware", "small.fd"];
        sev(folder, &[&fixed[..], &super::VERSION, &keys, cpus].concat())
    };
    assert!(verify(&cpus).succeeds().starts_with("OK"));
    let mismatch = verify(&["--policy", "5", "--vcpus", "1", "--cpu", "EPYC-Milan"]);
    assert!(mismatch.status == Some(1) && mismatch.out.contains("number of vCPUs: 2"), "{}", mismatch.out);

    let secret = [
        "secret",
        "build",
        "--launch-measure-blob",
        &measurement,
        "--secret",
        "disk-password:secret",
        "h",
        "p",
    ];
    sev(folder, &[&secret[..], &keys].concat()).succeeds();
    let (header, payload) = (fs::read(folder.join("h")).unwrap(), fs::read(folder.join("p")).unwrap());
    rig.memory.write(HEADER, &header).unwrap();
    rig.memory.write(PAYLOAD, &payload).unwrap();
    let size = payload.len() as u32;
    let transfer = Transfer {
        handle,
        hdr_paddr: HEADER,
        hdr_len: 52,
        guest_paddr: SECRET,
        guest_len: size,
        trans_paddr: PAYLOAD,
        trans_len: size,
    };
    rig.run(0x34, &mut transfer.encode());
    rig.run(0x35, &mut Handle { handle }.encode());

    rig.run(0x36, &mut Attestation { handle, paddr: OUT, mnonce: [0x40; 16], len: 0xd0 }.encode());
    fs::write(folder.join("report"), rig.read(OUT, 0xd0)).unwrap();
    let mnonce = input::to_base64(&[0x40; 16]);
    let verify = ["attestation", "verify", "exported", "report", "--mnonce", &mnonce, "--policy", "5"];
    sev(folder, &[&verify[..], &trust].concat()).succeeds();
}
