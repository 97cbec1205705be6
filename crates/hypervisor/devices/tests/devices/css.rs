//! I/O instructions and channel programs.
//!
//! Golden numbers: behaviour of qemu-system-s390x 7.2 under Linux 6.12 and its boot loader, recorded as data at the
//! instructions; layouts from the Principles of Operation.

use cloister_devices::css::{DeviceNumber, SubchannelId};
use cloister_devices::entropy::SeededEntropy;
use cloister_devices::interrupt::{HostInterrupt, Outcome};
use cloister_devices::virtio::{Rng, VirtioCcw, VirtioCcwOptions};
use proptest::prelude::*;

use crate::common::{CCW, DATA, Ended, Guest, OK, REJECTED, ccw1};

const SCH: u64 = 0x0001_0000;
const SLI: u8 = 0x20;
const CC: u8 = 0x40;

fn guest() -> Guest {
    let mut guest = Guest::new();
    attach(&mut guest, None);
    guest.enable(SCH);
    guest
}

fn attach(guest: &mut Guest, number: Option<&str>) -> (SubchannelId, DeviceNumber) {
    let rng = Box::new(Rng::new(Box::new(SeededEntropy::new(1))));
    let device = Box::new(VirtioCcw::new(rng, VirtioCcwOptions::default()));
    guest.css.attach(number.map(|n| n.parse().unwrap()), device).unwrap()
}

const LENGTH_CHECK: Ended = Ended { dstat: 0x0c, cstat: 0x40, residual: 0, sense: 0 };
const PROGRAM_CHECK: u8 = 0x20;

#[test]
fn subchannels_in_device_order() {
    let mut guest = Guest::new();
    let (a, devno) = attach(&mut guest, None);
    assert_eq!((a.word(), devno.to_string()), (0x0001_0000, "fe.0.0000".into()));
    let (b, devno) = attach(&mut guest, Some("fe.0.1234"));
    assert_eq!((b.word(), devno.to_string()), (0x0001_0001, "fe.0.1234".into()));
    let (c, devno) = attach(&mut guest, None);
    assert_eq!((c.word(), devno.devno), (0x0001_0002, 1));
    let (d, _) = attach(&mut guest, Some("fe.2.0000"));
    assert_eq!(d.word(), 0x0005_0000);
    let rng = Box::new(Rng::new(Box::new(SeededEntropy::new(1))));
    let device = Box::new(VirtioCcw::new(rng, VirtioCcwOptions::default()));
    let clash = guest.css.attach(Some("fe.0.1234".parse().unwrap()), device).unwrap_err();
    assert!(clash.to_string().contains("fe.0.1234"));
    for bad in ["0.0.1234", "fe.4.0000", "fe.0", "fe.0.12345", "fe.0.0000.0", ""] {
        assert!(bad.parse::<DeviceNumber>().is_err(), "{bad}");
    }
    // The guest enumerates until condition code 3; further sets appear only when enabled.
    assert_eq!(guest.css.stsch(0x0001_0002).0, Outcome::Cc(0));
    assert_eq!(guest.css.stsch(0x0001_0003).0, Outcome::Cc(3));
    assert_eq!(guest.css.stsch(0x0005_0000).0, Outcome::Cc(3));
    let mut chsc = vec![0; 4096];
    chsc[..8].copy_from_slice(&[0x04, 0, 0, 0x31, 0, 0, 0, 2]);
    assert_eq!(guest.css.chsc(&mut chsc), Outcome::Cc(0));
    assert_eq!(chsc[0x400..0x404], [0, 8, 0, 1]);
    assert_eq!(guest.css.stsch(0x0005_0000).0, Outcome::Cc(0));
    guest.css.reset();
    assert_eq!(guest.css.stsch(0x0005_0000).0, Outcome::Cc(3));
}

#[test]
fn stsch_stores_the_schib() {
    let mut guest = Guest::new();
    attach(&mut guest, Some("fe.0.abcd"));
    let schib = guest.css.stsch(SCH).1.unwrap();
    assert_eq!(schib[4..8], [0x00, 0x01, 0xab, 0xcd]);
    assert_eq!(schib[8..16], [0x80, 0, 0, 0x80, 0, 0, 0xff, 0x80]);
    for bad in [0, 0x0002_0000, 0x0101_0000, 0x0009_0000] {
        assert_eq!(guest.css.stsch(bad), (Outcome::OPERAND, None));
    }
}

#[test]
fn msch_checks_and_keeps_the_rest() {
    let mut guest = guest();
    let good = guest.css.stsch(SCH).1.unwrap();
    assert_eq!(good[4..6], [0x18, 0x81]);
    for (at, bits) in [(4, 0x04), (5, 0x60), (24, 0x80), (27, 0x02)] {
        let mut bad = good;
        bad[at] |= bits;
        assert_eq!(guest.css.msch(SCH, &bad), Outcome::OPERAND, "byte {at}");
    }
    let mut other = good;
    other[6] = 0x77;
    other[11] = 0;
    assert_eq!(guest.css.msch(SCH, &other), Outcome::Cc(0));
    assert_eq!(guest.css.stsch(SCH).1.unwrap(), good, "number and paths belong to the machine");
    assert_eq!(guest.css.msch(SCH, &good[..20]), Outcome::OPERAND);
    assert_eq!(guest.css.msch(0x0001_0009, &good), Outcome::Cc(3));
}

#[test]
fn sense_id_and_the_interruption() {
    let mut guest = guest();
    guest.put(CCW, &ccw1(0xe4, SLI, 7, DATA as u32));
    assert_eq!(guest.css.ssch(&guest.mem, SCH, &Guest::orb(true)), Outcome::Cc(0));
    assert_eq!(
        guest.irqs.take(),
        [HostInterrupt::Io { subchannel_id: 1, nr: 0, parameter: 0xcafe_f00d, word: 3 << 27 }]
    );
    assert_eq!(guest.css.ssch(&guest.mem, SCH, &Guest::orb(true)), Outcome::Cc(1), "status pending");
    let irb = guest.css.tsch(SCH).1.unwrap();
    // Start function; primary, secondary, pending; CCW address plus 8.
    assert_eq!(irb[..12], [0x00, 0x80, 0x40, 0x07, 0, 0, 0x10, 0x08, 0x0c, 0, 0, 0]);
    assert_eq!(guest.get(DATA, 7), [0xff, 0x38, 0x32, 4, 0, 0, 0]);
    let (outcome, idle) = guest.css.tsch(SCH);
    let idle = idle.unwrap();
    assert_eq!((outcome, idle[2..4].to_vec()), (Outcome::Cc(1), vec![0, 0]));
    assert_eq!(idle[8..10], [0x0c, 0], "QEMU's boot loader reads the last status once more");
    assert_eq!(guest.command(SCH, 0xe4, SLI, &[0; 20]), Ended { residual: 13, ..OK });
    assert_eq!(guest.command(SCH, 0xe4, 0, &[0; 20]), Ended { residual: 13, ..LENGTH_CHECK });
    assert_eq!(guest.command(SCH, 0xe4, 0, &[0; 4]), LENGTH_CHECK);
}

#[test]
fn ssch_operands() {
    let mut guest = guest();
    guest.put(CCW, &ccw1(0x03, 0, 1, 0));
    for (at, bits) in [(5, 0x04), (7, 0x01), (7, 0x40), (8, 0x80)] {
        let mut orb = Guest::orb(true);
        orb[at] |= bits;
        assert_eq!(guest.css.ssch(&guest.mem, SCH, &orb), Outcome::OPERAND, "byte {at}");
    }
    let mut orb = Guest::orb(true);
    orb[6] = 0x7f;
    assert_eq!(guest.css.ssch(&guest.mem, SCH, &orb), Outcome::Cc(3), "no such path");
    assert_eq!(guest.css.ssch(&guest.mem, SCH, &orb[..8]), Outcome::OPERAND);
    assert_eq!(guest.css.ssch(&guest.mem, 0, &Guest::orb(true)), Outcome::OPERAND);
    assert_eq!(guest.css.ssch(&guest.mem, SCH + 1, &Guest::orb(true)), Outcome::Cc(3));
    guest.css.reset();
    assert_eq!(guest.css.ssch(&guest.mem, SCH, &Guest::orb(true)), Outcome::Cc(3), "not enabled");
}

#[test]
fn command_reject_has_sense() {
    let mut guest = guest();
    let rejected = Ended { dstat: 0x0e, cstat: 0, residual: 1, sense: REJECTED };
    assert_eq!(guest.command(SCH, 0x99, 0, &[0]), rejected);
    assert_eq!(guest.command(SCH, 0x04, 0, &[0xaa; 32]), OK);
    assert_eq!(guest.get(DATA, 2), [0, 0], "the interruption response had them");
    // Without concurrent sense the data wait for BASIC SENSE.
    let mut schib = guest.css.stsch(SCH).1.unwrap();
    schib[27] = 0;
    assert_eq!(guest.css.msch(SCH, &schib), Outcome::Cc(0));
    assert_eq!(guest.command(SCH, 0x99, 0, &[0]), Ended { sense: 0, ..rejected });
    assert_eq!(guest.command(SCH, 0x04, 0, &[0xaa; 32]), OK);
    assert_eq!(guest.get(DATA, 2), [0x80, 0]);
    assert_eq!(guest.command(SCH, 0x04, 0, &[0xaa; 32]), OK);
    assert_eq!(guest.get(DATA, 2), [0, 0], "sense is read once");
}

#[test]
fn chaining_transfer_in_channel_and_data_chaining() {
    let mut guest = guest();
    guest.put(CCW, &ccw1(0x03, CC | SLI, 1, 0));
    guest.put(CCW + 8, &ccw1(0x08, 0, 0, 0x1100));
    // SENSE ID into three places, the middle one skipped.
    guest.put(0x1100, &ccw1(0xe4, 0x80, 2, DATA as u32));
    guest.put(0x1108, &ccw1(0, 0x90, 1, 0));
    guest.put(0x1110, &ccw1(0x08, 0, 0, 0x1200));
    guest.put(0x1200, &ccw1(0, 0, 4, DATA as u32 + 0x10));
    assert_eq!(guest.run(SCH), OK);
    assert_eq!(guest.get(DATA, 3), [0xff, 0x38, 0]);
    assert_eq!(guest.get(DATA + 0x10, 4), [4, 0, 0, 0]);
}

#[test]
fn format_0() {
    let mut guest = guest();
    guest.put(CCW, &[0xe4, 0, 0x20, 0, SLI, 0, 0, 7]);
    assert_eq!(guest.css.ssch(&guest.mem, SCH, &Guest::orb(false)), Outcome::Cc(0));
    assert_eq!(guest.collect(SCH), OK);
    assert_eq!(guest.get(DATA, 3), [0xff, 0x38, 0x32]);
    guest.put(CCW, &[0x03, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(guest.css.ssch(&guest.mem, SCH, &Guest::orb(false)), Outcome::Cc(0));
    assert_eq!(guest.collect(SCH).cstat, PROGRAM_CHECK, "a count of zero");
}

#[test]
fn indirect_data() {
    let mut guest = guest();
    guest.put(CCW, &ccw1(0xe4, 0x04, 7, 0x3000));
    guest.put(0x3000, &0x47fd_u32.to_be_bytes());
    guest.put(0x3004, &0x5000_u32.to_be_bytes());
    assert_eq!(guest.run(SCH), OK);
    assert_eq!((guest.get(0x47fd, 3), guest.get(0x5000, 2)), (vec![0xff, 0x38, 0x32], vec![4, 0]));
    guest.put(0x3004, &0x5001_u32.to_be_bytes());
    assert_eq!(guest.run(SCH).cstat, PROGRAM_CHECK, "later words are aligned");
    // Format 2, 4 KiB.
    guest.put(0x3000, &0x6ffe_u64.to_be_bytes());
    guest.put(0x3008, &0x9000_u64.to_be_bytes());
    let mut orb = Guest::orb(true);
    orb[5] |= 0x02;
    assert_eq!(guest.css.ssch(&guest.mem, SCH, &orb), Outcome::Cc(0));
    assert_eq!(guest.collect(SCH), OK);
    assert_eq!((guest.get(0x6ffe, 2), guest.get(0x9000, 2)), (vec![0xff, 0x38], vec![0x32, 4]));
}

#[test]
fn program_checks() {
    let mut guest = guest();
    for (what, ccw) in [
        ("command code 0", ccw1(0x10, 0, 1, 0x2000)),
        ("first CCW transfers", ccw1(0x08, 0, 0, 0x1100)),
        ("address beyond 31 bits", ccw1(0xe4, SLI, 7, 0x8000_0000)),
        ("no storage", ccw1(0xe4, SLI, 7, 0x0800_0000)),
        ("modified indirect address", ccw1(0xe4, SLI | 1, 7, 0x2000)),
        ("suspend without permission", ccw1(0xe4, SLI | 2, 7, 0x2000)),
        ("data chain into nothing", ccw1(0xe4, 0x80, 7, 0x2000)),
    ] {
        guest.put(CCW, &ccw);
        guest.put(CCW + 8, &[0; 8]);
        assert_eq!(guest.run(SCH).cstat, PROGRAM_CHECK, "{what}");
    }
    guest.put(CCW, &ccw1(0x03, CC | SLI, 1, 0));
    guest.put(CCW + 8, &ccw1(0x08, 0, 0, CCW as u32 + 8));
    assert_eq!(guest.run(SCH).cstat, PROGRAM_CHECK, "transfer to transfer");
    let mut orb = Guest::orb(true);
    orb[11] = 4;
    assert_eq!(guest.css.ssch(&guest.mem, SCH, &orb), Outcome::Cc(0));
    assert_eq!(guest.collect(SCH).cstat, PROGRAM_CHECK, "alignment");
}

#[test]
fn an_endless_program_ends() {
    let mut guest = guest();
    guest.put(CCW, &ccw1(0x03, CC | SLI, 1, 0));
    guest.put(CCW + 8, &ccw1(0x08, 0, 0, CCW as u32));
    assert_eq!(guest.run(SCH).cstat, PROGRAM_CHECK);
    guest.put(CCW, &ccw1(0xe4, 0x80, 1, DATA as u32));
    guest.put(CCW + 8, &ccw1(0x08, 0, 0, CCW as u32));
    assert_eq!(guest.run(SCH).cstat, PROGRAM_CHECK, "endless data chain");
}

#[test]
fn suspend_resume_cancel() {
    let mut guest = guest();
    guest.put(CCW, &ccw1(0x03, CC | SLI, 1, 0));
    guest.put(CCW + 8, &ccw1(0xe4, 0x02, 7, DATA as u32));
    let mut orb = Guest::orb(true);
    orb[4] |= 0x08;
    assert_eq!(guest.css.rsch(&guest.mem, SCH), Outcome::Cc(2));
    assert_eq!(guest.css.ssch(&guest.mem, SCH, &orb), Outcome::Cc(0));
    assert_eq!(guest.css.rsch(&guest.mem, SCH), Outcome::Cc(1), "the suspension is status");
    let irb = guest.css.tsch(SCH).1.unwrap();
    assert_eq!(irb[2..4], [0x40, 0x29], "suspended, intermediate");
    assert_eq!(guest.css.ssch(&guest.mem, SCH, &orb), Outcome::Cc(2));
    assert_eq!(guest.css.rsch(&guest.mem, SCH), Outcome::Cc(0));
    assert_eq!(guest.collect(SCH), OK);
    assert_eq!(guest.get(DATA, 1), [0xff]);
    // Once more without the interruption, then cancelled.
    orb[5] |= 0x08;
    guest.irqs.take();
    assert_eq!(guest.css.ssch(&guest.mem, SCH, &orb), Outcome::Cc(0));
    assert_eq!(guest.irqs.take(), []);
    assert_eq!(guest.css.xsch(SCH), Outcome::Cc(0));
    assert_eq!(guest.css.xsch(SCH), Outcome::Cc(2));
}

#[test]
fn clear_and_halt() {
    let mut guest = guest();
    assert_eq!(guest.css.hsch(SCH), Outcome::Cc(0));
    assert_eq!(guest.css.hsch(SCH), Outcome::Cc(1));
    assert_eq!(guest.css.tsch(SCH).1.unwrap()[2..4], [0x20, 0x01]);
    assert_eq!(guest.css.csch(SCH), Outcome::Cc(0));
    assert_eq!(guest.css.tsch(SCH).1.unwrap()[2..4], [0x10, 0x01]);
    assert_eq!(guest.irqs.take().len(), 2);
    assert_eq!(guest.css.csch(SCH + 7), Outcome::Cc(3));
    assert_eq!(guest.css.stsch(SCH).1.unwrap()[30..32], [0, 0]);
}

#[test]
fn paths_reports_and_monitor() {
    let mut guest = guest();
    assert_eq!(guest.css.stcrw(), (Outcome::Cc(1), [0; 4]));
    assert_eq!(guest.css.rchp(0x0001_0000), Outcome::OPERAND);
    assert_eq!(guest.css.rchp(1), Outcome::Cc(3));
    assert_eq!(guest.css.rchp(0), Outcome::Cc(0));
    assert_eq!(guest.irqs.take(), [HostInterrupt::ChannelReport]);
    assert_eq!(guest.css.stcrw(), (Outcome::Cc(0), [0x44, 0x02, 0, 0]));
    assert_eq!(guest.css.schm(4, 0), Outcome::OPERAND);
    assert_eq!(guest.css.schm(2, 0x20), Outcome::Done);
    assert_eq!(guest.css.sal(1), Outcome::OPERAND);
    assert_eq!(guest.css.sal(0), Outcome::Done);
}

#[test]
fn devices_may_move_between_threads() {
    fn sendable<T: Send>() {}
    sendable::<cloister_devices::css::ChannelSubsystem<crate::common::Memory>>();
    sendable::<cloister_devices::sclp::Sclp>();
}

fn chsc(guest: &mut Guest, request: &[u8]) -> Vec<u8> {
    let mut block = vec![0; 4096];
    block[..request.len()].copy_from_slice(request);
    assert_eq!(guest.css.chsc(&mut block), Outcome::Cc(0));
    let at = usize::from(u16::from_be_bytes([request[0], request[1]]));
    let length = usize::from(u16::from_be_bytes([block[at], block[at + 1]]));
    block[at..at + length].to_vec()
}

#[test]
fn chsc_golden() {
    let mut guest = guest();
    let characteristics = chsc(&mut guest, &[0, 0x10, 0, 0x10]);
    assert_eq!(characteristics.len(), 4080);
    let word = |n: usize| u32::from_be_bytes(characteristics[8 + 4 * n..12 + 4 * n].try_into().unwrap());
    let set: Vec<_> = (0..1018).map(|n| (n, word(n))).filter(|&(_, w)| w != 0).collect();
    let expected =
        [(0, 0x0300_0000), (1, 0x0007_9000), (3, 0x0008_0000), (510, 0x4000_0000), (513, 0x0004_0000)];
    assert_eq!(set, expected);
    let path = chsc(&mut guest, &[0, 0x10, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(path, [0, 16, 0, 1, 0, 0, 0, 0, 0x80, 0, 0x32, 0, 0, 0, 0, 0]);
    let path = chsc(&mut guest, &[0, 0x10, 0, 2, 0, 0, 1, 0, 0, 0, 0, 0xff]);
    assert_eq!((path.len(), &path[2..8]), (40, &[0, 1, 0, 0, 0, 1][..]));
    for (at, code) in [(5, 8), (6, 3), (11, 3)] {
        let mut bad = [0, 0x10, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1];
        bad[at] = if at == 11 { 0 } else { 0x10 };
        assert_eq!(chsc(&mut guest, &bad)[3], code, "byte {at}");
    }
    assert_eq!(chsc(&mut guest, &[0, 0x10, 0, 0x0e]), [0, 8, 0, 5, 0, 0, 0, 0]);
    for absent in [0x04, 0x33, 0x34, 0x4c, 0x77] {
        assert_eq!(chsc(&mut guest, &[0, 0x10, 0, absent]), [0, 8, 0, 4, 0, 0, 0, 0]);
    }
    assert_eq!(chsc(&mut guest, &[0, 0x18, 0, 0x10])[3], 3);
    assert_eq!(chsc(&mut guest, &[4, 0, 0, 0x31, 1])[3], 7);
    for bad in [[0, 8], [0, 0x11], [0x0f, 0xf9], [0x10, 0]] {
        let mut block = vec![0; 4096];
        block[..2].copy_from_slice(&bad);
        assert_eq!(guest.css.chsc(&mut block), Outcome::OPERAND);
    }
}

fn any_ccw() -> impl Strategy<Value = [u8; 8]> {
    let command = prop_oneof![
        Just(0x03_u8),
        Just(0x08),
        Just(0xe4),
        Just(0x04),
        Just(0x83),
        Just(0x33),
        Just(0x31),
        Just(0x12),
        Just(0x11),
        Just(0x22),
        Just(0x32),
        Just(0x13),
        Just(0x43),
        Just(0x53),
        Just(0x73),
        Just(0x72),
        any::<u8>()
    ];
    let addr = prop_oneof![(0_u32..16).prop_map(|n| CCW as u32 + 8 * n), 0x2000_u32..0x3000, any::<u32>()];
    let count = prop_oneof![0_u16..40, any::<u16>()];
    (command, any::<u8>(), count, addr).prop_map(|(c, f, n, a)| ccw1(c, f & 0xfe, n, a))
}

proptest! {
    #[test]
    fn random_programs_end_and_states_round_trip(
        programs in prop::collection::vec(prop::collection::vec(any_ccw(), 1..12), 1..8),
        data in prop::collection::vec(prop_oneof![Just(0_u8), any::<u8>()], 256),
        controls in any::<u8>(),
        kick in any::<u16>(),
    ) {
        let mut guest = guest();
        guest.put(DATA, &data);
        for program in programs {
            for (n, ccw) in program.iter().enumerate() {
                guest.put(CCW + 8 * n as u64, ccw);
            }
            let mut orb = Guest::orb(controls & 1 != 0);
            orb[4] |= controls & 8;
            orb[5] |= controls & 3;
            let _ = guest.css.ssch(&guest.mem, SCH, &orb);
            let _ = guest.css.rsch(&guest.mem, SCH);
            let _ = guest.css.notify(&guest.mem, SCH, u64::from(kick & 1), 0);
            let _ = guest.css.tsch(SCH);
        }
        let saved = guest.css.save();
        let bytes = postcard::to_allocvec(&saved).unwrap();
        let mut other = Guest::new();
        attach(&mut other, None);
        other.css.restore(postcard::from_bytes(&bytes).unwrap()).unwrap();
        prop_assert_eq!(other.css.save(), saved);
        prop_assert_eq!(other.css.stsch(SCH), guest.css.stsch(SCH));
        guest.css.reset();
        prop_assert_eq!(guest.css.stsch(SCH).1.unwrap()[4..6].to_vec(), vec![0, 1]);
    }

    #[test]
    fn random_calls_and_blocks(
        request in prop::collection::vec(any::<u8>(), 0..64),
        command in 0_u16..0x60,
        gr1 in any::<u64>(),
    ) {
        let mut guest = guest();
        let mut block = request.clone();
        let _ = guest.css.chsc(&mut block);
        let mut block = vec![0, 0x10];
        block.extend(command.to_be_bytes());
        block.extend(&request);
        block.truncate(4096);
        let _ = guest.css.chsc(&mut block);
        let _ = guest.css.msch(SCH, &request);
        let _ = guest.css.ssch(&guest.mem, gr1, &request);
        let _ = guest.css.stsch(gr1);
        let _ = guest.css.schm(gr1, gr1);
        let _ = guest.css.rchp(gr1);
        let _ = guest.css.notify(&guest.mem, gr1, gr1, gr1);
    }
}
