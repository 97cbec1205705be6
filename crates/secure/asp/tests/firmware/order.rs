//! Which test of a command comes first, against `tests/data/check-order.txt`.
//!
//! For each command everything is made right, then one thing or two are made wrong. Later things are made wrong first,
//! so that an earlier one may overwrite a field and end guests or the platform itself.

use cloister_asp::{Config, Identity};
use cloister_crypto::Secret;

use crate::platform::{owner_blobs, sign};
use crate::rig::*;
use crate::valid::valid;

struct Line {
    id: u16,
    faults: Vec<(String, u32)>,
}

fn lines() -> Vec<Line> {
    include_str!("../data/check-order.txt")
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| {
            let mut words = line.split_whitespace();
            let id = u16::from_str_radix(words.next().unwrap(), 16).unwrap();
            let faults = words
                .skip(1)
                .map(|word| {
                    let (name, status) = word.split_once('=').unwrap();
                    (name.to_owned(), u32::from_str_radix(status, 16).unwrap())
                })
                .collect();
            Line { id, faults }
        })
        .collect()
}

/// The state in which a command finds its guest.
fn state_for(id: u16) -> &'static str {
    match id {
        0x31..=0x33 => "lu",
        0x34..=0x36 => "ls",
        0x41..=0x44 => "su",
        0x51..=0x53 => "rx",
        _ => "ru",
    }
}

struct Case<'a> {
    rig: Rig,
    buf: Buf,
    id: u16,
    handle: u32,
    wrong: &'a [&'a str],
}

impl<'a> Case<'a> {
    fn new(id: u16, wrong: &'a [&'a str]) -> Self {
        let has = |name| wrong.contains(&name);
        let config = Config { memory_encryption: !has("hardware"), ..Config::default() };
        let mut rig = Rig::new("order");
        if has("hardware") {
            rig = Rig::with("order", Identity::of_chip(Secret::new([0x5a; 32])), config);
        }
        let (mut handle, mut policy, mut asid) = (0, 0, 150);
        match id {
            0x01 | 0x0d | 0x03 | 0x0b => {}
            0x05 | 0x06 | 0x07 | 0x08 | 0x0c => rig.init(true),
            0x30 | 0x50 => {
                rig.init(false);
                rig.null_guest(NODBG);
                policy |= if has("api") { 0x00ff_0000 } else { 0 };
                policy |= if has("reserved") { 0x40 } else { 0 };
                policy |= if has("es") { ES } else { 0 };
            }
            _ => {
                rig.init(true);
                rig.flush();
                if matches!(id, 0x32 | 0x42 | 0x52) && !has("not-es") {
                    (policy, asid) = (ES, 5);
                }
                policy |= if has("nodbg") { NODBG } else { 0 };
                policy |= if has("nosend") { NOSEND } else { 0 };
                let state = if id == 0x21 && has("state") { "se" } else { state_for(id) };
                handle = rig.guest_in(state, policy, asid);
                // A guest that was sent and has its ASID still.
                let active_and_sent = has("active") && has("state");
                if matches!(id, 0x20 | 0x21) && !active_and_sent {
                    rig.run(0x22, Buf::new(4).u32(0, handle));
                }
            }
        }
        let buf = valid(&mut rig, id, handle, asid, policy);
        let mut case = Self { rig, buf, id, handle, wrong };
        wrong.iter().rev().for_each(|fault| case.spoil(fault));
        case
    }

    fn status(mut self) -> u32 {
        self.rig.cmd(self.id, &mut self.buf)
    }

    fn flip(&mut self, at: u64) {
        let byte = self.rig.read(at, 1)[0];
        self.rig.write(at, &[byte ^ 1]);
    }

    /// Makes one thing wrong.
    fn spoil(&mut self, fault: &str) {
        let Self { rig, buf, id, handle, wrong } = self;
        match (*id, fault) {
            (0x01 | 0x0d | 0x03 | 0x0b, "platform") => {
                rig.asp.set_flash(None);
                if !wrong.contains(&"hardware") {
                    rig.init(false);
                }
            }
            (_, "platform") => {
                rig.run(0x02, Buf::new(0));
            }
            // Made wrong from the beginning.
            (_, "hardware" | "api" | "reserved" | "es" | "not-es" | "nodbg" | "nosend")
                if !matches!(*id, 0x01 | 0x0d) || fault == "hardware" => {}

            (0x01, "reserved") => buf.0[7] = 1,
            (0x0d, "reserved") => buf.0[0x14] = 1,
            (0x0d, "length") => buf.set32(0, 0x20),
            (0x0d, "nv-align") => buf.set64(0x18, NV + 0x10),
            (0x0d, "nv-len") => buf.set32(0x20, 0x7000),
            (0x01, "stored") => rig.asp.set_flash(Some(vec![3; 0x8000])),
            (0x0d, "stored") => rig.write(NV, &[3; 0x8000]),
            (0x0d, "tmr-overlap") => {
                buf.set64(8, NV & !0xf_ffff);
                buf.set64(0x18, NV);
            }
            (0x01 | 0x0d, "tmr-align") => buf.set64(8, TMR + 0x1000),
            (0x01, "tmr-len") => buf.set32(16, 0x8_0000),
            (0x0d, "tmr-len") => buf.set32(0x10, 0x8_0000),

            (0x06 | 0x0c, "length") => buf.set32(8, 1),
            (0x07, "length") => buf.set32(24, 2083),
            (0x08, "length") => buf.set32(24, 6251),
            (0x0b, "align") => buf.set64(0, PAGE + 16),
            (0x07, "owned") => {
                let (pek, oca) = (rig.read(CERT, 2084), rig.read(CHAIN, 2084));
                let good = valid(rig, 0x07, 0, 0, 0);
                rig.run(0x07, good);
                rig.write(CERT, &pek);
                rig.write(CHAIN, &oca);
            }
            (0x07, "oca") => self.flip(CHAIN + 0x30),
            (0x07, "pek") => self.flip(CERT + 0x420),
            (0x07, "body") => {
                let (mut pek, _) = owner_blobs(rig);
                pek[4] ^= 1;
                sign(&mut pek, 0, 0x1001, &crate::platform::owner_key());
                rig.write(CERT, &pek);
            }
            (0x07, "slots") => {
                let mut pek = rig.read(CERT, 2084);
                sign(&mut pek, 1, 0x1004, &crate::platform::owner_key());
                rig.write(CERT, &pek);
            }

            (0x25, "handle") => buf.set32(4, 999),
            (_, "handle") => buf.set32(0, 999),
            (0x21, "active") if wrong.contains(&"state") => buf.set32(4, 151),
            (0x20 | 0x21, "active") => rig.activate(*handle, 151),
            (0x21, "asid-zero") => buf.set32(4, 0),
            (0x21, "range") => buf.set32(4, 5),
            (0x21, "dirty") => {
                let asid = buf.get(4);
                let other = rig.null_guest(if asid < 100 { ES } else { 0 });
                rig.activate(other, asid);
                rig.asp.ran(asid, 0);
                rig.run(0x22, Buf::new(4).u32(0, other));
            }
            (0x21, "owned") => {
                let other = rig.null_guest(ES);
                rig.activate(other, 6);
                buf.set32(4, 6);
            }
            (0x21, "state") => {}
            // Another guest, which is in a state that no command here is for.
            (0x31..=0x33, "state") => {
                let other = rig.null_guest(0);
                rig.run(0x33, Buf::new(20).u32(0, other).u64(8, OUT).u32(16, 48));
                buf.set32(0, other);
            }
            (_, "state") => {
                let other = rig.null_guest(0);
                buf.set32(0, other);
            }
            (_, "asid") => {
                rig.run(0x22, Buf::new(4).u32(0, *handle));
            }

            (0x24, "length") => buf.set32(4, 0x800),
            (0x24, "align") => buf.set64(16, PAGE + 0x800),
            (0x31 | 0x32, "length") => buf.set32(16, 0x18),
            (0x31 | 0x32, "align") => buf.set64(8, PAGE + 8),
            (0x32, "pool") => while rig.cmd(0x32, &mut update(*handle, VMSA, 4096)) == OK {},
            (0x33, "length") => buf.set32(16, 47),
            (0x36, "length") => buf.set32(32, 0xcf),
            (0x34 | 0x41 | 0x42 | 0x51 | 0x52, "align") => buf.set64(24, PAGE + 8),
            (0x34, "length") => buf.set32(48, 32),
            (0x41 | 0x42, "length") => buf.set32(48, 16),
            (0x51 | 0x52, "length") => buf.set32(32, 16),
            (0x41 | 0x42, "hdr-len") => buf.set32(16, 51),
            (0x34 | 0x51 | 0x52, "mac") => self.flip(PAYLOAD),
            (0x34 | 0x51 | 0x52, "compressed") => {
                // Under a MAC that fits.
                let plain = vec![7; buf.get(32) as usize];
                let (mut header, payload) = Owner::fixed().packet(1, &plain, &[]);
                header[0] = 1;
                let context = if *id == 0x34 { 1 } else { 2 };
                let bound = if *id == 0x34 { rig.mac.clone() } else { Vec::new() };
                let len = (plain.len() as u32).to_le_bytes();
                let mac = cloister_crypto::hmac_sha256(
                    &Owner::fixed().tik,
                    &[&[context], &header[..20], &len, &len, &payload, &bound],
                );
                header[20..].copy_from_slice(&mac);
                rig.write(HEADER, &header);
                rig.write(PAYLOAD, &payload);
            }
            (0x42, "vmsa") => buf.set64(24, PAGE),

            (0x30 | 0x50, "session-len") => buf.set32(32, 127),
            (0x30 | 0x50, "cert-len") => buf.set32(16, 2083),
            (0x40, "session-len") => buf.set32(64, 129),
            (0x40, "cert-len") => buf.set32(16, 2083),
            (0x30 | 0x50 | 0x40, "cert") => self.flip(CERT + 8),
            (0x30 | 0x50, "wrap-mac") => self.flip(SESSION + 64),
            (0x30 | 0x50, "policy-mac") => self.flip(SESSION + 96),
            (0x30 | 0x50, "share") => buf.set32(0, 2000),
            (0x30 | 0x50, "share-policy") => buf.set32(0, 1),
            (0x30 | 0x50, "slots") => while rig.cmd(0x30, &mut Buf::new(36)) == OK {},

            (0x60 | 0x61, "align") => buf.set64(16, PAGE + 8),
            (0x60 | 0x61, "length") => buf.set32(24, 24),
            (0x70 | 0x71, "range") => buf.set64(16, MEMORY as u64),
            (0x70 | 0x71, "align") => buf.set64(16, SWAPPED + 0x800),
            (0x70 | 0x71, "mdata-align") => buf.set64(24, MDATA + 32),
            (0x70 | 0x71, "overlap") => buf.set64(24, buf.get(8).into()),
            (0x70, "large-vmsa") => buf.set32(4, 5),
            (0x70, "type") => buf.set32(4, 4),
            (0x71, "bits") => buf.set32(4, 4),
            (0x71, "tag") => self.flip(MDATA + 0x10),
            other => panic!("nothing known about {other:?}"),
        }
    }
}

/// Pairs that cannot be: the later thing needs what the earlier one forbids.
fn excluded(id: u16, first: &str, second: &str) -> bool {
    match (id, first, second) {
        // A platform whose hardware is not fit cannot run.
        (0x01 | 0x0d, "platform", "hardware") => true,
        // A guest that is not ES, or has no ASID, cannot fill the pool.
        (0x32, "not-es" | "asid", "pool") => true,
        _ => false,
    }
}

/// The formats crate has the same order in words, with more tests than can be made wrong here.
#[test]
fn the_two_descriptions_of_the_order_agree() {
    let words = cloister_formats::sev::states::check_rows();
    for Line { id, faults } in lines() {
        if id == 0x0b {
            continue; // Its order is a convention of the model.
        }
        // One line of words may stand for several things with one status.
        let mut statuses: Vec<u32> = faults
            .iter()
            // What happens to a page with a wrong tag is not in the published order.
            .filter(|(name, _)| name != "tag")
            .map(|(_, status)| *status)
            .collect();
        statuses.dedup();
        let mut rest = words.iter().filter(|row| row.command.0 == id);
        for status in statuses {
            assert!(rest.any(|row| row.status.0 == status), "command {id:#04x}, status {status:#04x}");
        }
    }
}

#[test]
fn each_fault_alone_gives_its_status() {
    for Line { id, faults } in lines() {
        if id != 0x0b {
            assert_eq!(Case::new(id, &[]).status(), OK, "command {id:#04x} with everything right");
        }
        for (name, status) in &faults {
            assert_eq!(Case::new(id, &[name]).status(), *status, "command {id:#04x}, {name}");
        }
    }
}

#[test]
fn of_two_faults_the_first_in_order_decides() {
    let mut pairs = 0;
    for Line { id, faults } in lines() {
        for (index, (first, status)) in faults.iter().enumerate() {
            for (second, _) in &faults[index + 1..] {
                if excluded(id, first, second) {
                    continue;
                }
                let got = Case::new(id, &[first, second]).status();
                assert_eq!(got, *status, "command {id:#04x}: {first} comes before {second}");
                pairs += 1;
            }
        }
    }
    assert!(pairs > 400, "only {pairs} pairs");
}
