//! Service calls: golden answers, the order of checks, events in both directions.
//!
//! Golden bytes: answers of qemu-system-s390x 7.2 to Linux 6.12 with 512 MiB, 2 CPUs and an ASCII console, recorded as
//! data at the service-call instruction.

use std::sync::{Arc, Mutex};

use crate::common::Recorder;
use cloister_devices::interrupt::{HostInterrupt, InterruptSink, Outcome};
use cloister_devices::sclp::{ConsoleSink, Sclp, SclpConfig, ebcdic};
use proptest::prelude::*;

const READ_SCP_INFO: u32 = 0x0002_0001;
const READ_SCP_INFO_FORCED: u32 = 0x0012_0001;
const READ_CPU_INFO: u32 = 0x0001_0001;
const WRITE_MASK: u32 = 0x0078_0005;
const WRITE_DATA: u32 = 0x0076_0005;
const READ_DATA: u32 = 0x0077_0005;
const ADDR: u64 = 0x1_0000;

struct Rig {
    sclp: Sclp,
    irqs: Arc<Recorder>,
    output: Arc<Mutex<Vec<u8>>>,
}

fn rig(config: SclpConfig, line_mode: bool) -> Rig {
    let irqs = Arc::new(Recorder::default());
    let output = Arc::new(Mutex::new(Vec::new()));
    let writer = |out: &Arc<Mutex<Vec<u8>>>| -> Box<dyn ConsoleSink> {
        let out = Arc::clone(out);
        Box::new(move |bytes: &[u8]| out.lock().unwrap().extend_from_slice(bytes))
    };
    let console = writer(&output);
    let lines = line_mode.then(|| writer(&output));
    let sclp = Sclp::new(config, Some(console), lines, irqs.clone() as Arc<dyn InterruptSink>);
    Rig { sclp, irqs, output }
}

fn golden_config() -> SclpConfig {
    let mut config = SclpConfig::new(512 << 20, 2);
    config.facilities = 0x0c00_0000_4000_0000;
    config.conf_char[5] = 2;
    config.hmfai = 0x0800_0000;
    config.configuration_events = true;
    config
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16).unwrap() as u8).collect();
    digits.chunks(2).map(|d| d[0] << 4 | d[1]).collect()
}

fn block(length: u16) -> Vec<u8> {
    let mut block = vec![0; usize::from(length)];
    block[..2].copy_from_slice(&length.to_be_bytes());
    block
}

fn call(rig: &mut Rig, command: u32, sccb: &mut Vec<u8>) -> u16 {
    let done = rig.sclp.service_call(command, ADDR, sccb);
    assert_eq!(done.outcome, Outcome::Cc(0));
    u16::from_be_bytes([sccb[6], sccb[7]])
}

fn masks(rig: &mut Rig, receive: u32, send: u32) -> Vec<u8> {
    let mut sccb = block(44);
    sccb[11] = 8;
    sccb[12..16].copy_from_slice(&receive.to_be_bytes());
    sccb[20..24].copy_from_slice(&send.to_be_bytes());
    assert_eq!(call(rig, WRITE_MASK, &mut sccb), 0x0020);
    sccb
}

#[test]
fn read_scp_info_golden() {
    let golden = hex("10008000008000100200010000000000 00020080000000004040404040404040
        00000000000000000000000000000000 0c000000400000000000000000000000
        00000000000000000000000000000000 00000000000200000000000000000000
        0000002f000000000000000000000000 00000000000000000001000008000000
        00000000000000000000000000000000 01000000000000000000000000000000");
    let mut rig = rig(golden_config(), false);
    let mut sccb = vec![0; 4096];
    sccb[..8].copy_from_slice(&hex("1000800000800000"));
    assert_eq!(call(&mut rig, READ_SCP_INFO_FORCED, &mut sccb), 0x0010);
    assert_eq!(sccb[..0xa0], golden);
    assert!(sccb[0xa0..].iter().all(|&b| b == 0));
    assert_eq!(rig.irqs.take(), [HostInterrupt::ServiceSignal(ADDR as u32)]);
}

#[test]
fn read_cpu_info_entries() {
    let mut rig = rig(SclpConfig::new(512 << 20, 3), false);
    let mut sccb = block(4096);
    assert_eq!(call(&mut rig, READ_CPU_INFO, &mut sccb), 0x0010);
    assert_eq!(sccb[8..16], [0, 3, 0, 24, 0, 0, 0, 72]);
    assert_eq!([sccb[24], sccb[40], sccb[56]], [0, 1, 2]);
}

#[test]
fn increments_fit_the_halfword() {
    for (ram, rnmax, rnsize) in [(64_u64 << 20, 64_u16, 1_u8), (65535 << 20, 65535, 1), (64 << 30, 32768, 2)]
    {
        let mut rig = rig(SclpConfig::new(ram, 1), false);
        let mut sccb = block(4096);
        call(&mut rig, READ_SCP_INFO, &mut sccb);
        assert_eq!((u16::from_be_bytes([sccb[8], sccb[9]]), sccb[10]), (rnmax, rnsize));
    }
}

#[test]
fn write_event_mask_golden() {
    let mut rig = rig(golden_config(), false);
    let mut sccb = block(44);
    sccb[10..28].copy_from_slice(&hex("0008 8000000000000000 4000004000000000"));
    sccb.truncate(44);
    assert_eq!(call(&mut rig, WRITE_MASK, &mut sccb), 0x0020);
    assert_eq!(
        sccb[8..44],
        hex("0000 0008 8000000000000000 4000004000000000 0000004000000000 1000004800000000")
    );
}

#[test]
fn write_event_mask_of_the_loader() {
    let mut rig = rig(golden_config(), false);
    let mut sccb = hex("001c0000000000000000 0004 00000000 00000040 00000000 00000000");
    assert_eq!(call(&mut rig, WRITE_MASK, &mut sccb), 0x0020);
    assert_eq!(sccb[20..28], hex("00000040 10000048"));
    let mut sccb = hex("001c0000000000000000 0000 00000000 00000040 00000000 00000000");
    assert_eq!(call(&mut rig, WRITE_MASK, &mut sccb), 0x74f0);
    let mut sccb = hex("001b0000000000000000 0004 00000000 00000040 00000000 000000");
    assert_eq!(call(&mut rig, WRITE_MASK, &mut sccb), 0x72f0);
}

#[test]
fn console_output_golden() {
    let mut rig = rig(golden_config(), false);
    let request = "0000000000000000 0026 1a 00 0000
        4b41534c522064697361626c65643a2043505520686173206e6f2050524e470a";
    let mut sccb = hex(request);
    sccb[1] = 0x2e;
    let answer = hex("002e 00 000000 0020 0026 1a 80 0000
        4b41534c522064697361626c65643a2043505520686173206e6f2050524e470a");
    assert_eq!(call(&mut rig, WRITE_DATA, &mut sccb), 0x0020);
    assert_eq!(sccb, answer);
    assert_eq!(*rig.output.lock().unwrap(), b"KASLR disabled: CPU has no PRNG\n");
}

#[test]
fn broken_event_buffers() {
    let mut rig = rig(golden_config(), false);
    for (event, response) in [
        ("0005 1a 00 0000", 0x73f0),
        ("0007 1a 00 0000", 0x72f0),
        ("0006 1a", 0x72f0),
        ("0006 02 00 0000", 0x40f0),
        ("0006 1a 00 0000 0006 1a 00 0000", 0x0020),
    ] {
        let mut sccb = hex(&format!("0000000000000000 {event}"));
        sccb[1] = sccb.len() as u8;
        assert_eq!(call(&mut rig, WRITE_DATA, &mut sccb), response, "{event}");
    }
}

#[test]
fn line_mode_output() {
    let mut rig = rig(golden_config(), true);
    let text = ebcdic::from_text("Hello");
    let mut mdb = hex("0000 0001 d4c4c240 00000001");
    mdb.extend(hex("0008 0001 00000000"));
    mdb.extend([0, 10 + text.len() as u8, 0, 4, 0x10, 0, 0, 0, 0, 0]);
    mdb.extend(&text);
    let length = mdb.len() as u8;
    mdb[1] = length;
    let mut sccb = vec![0, 14 + length, 0, 0, 0, 0, 0, 0, 0, 6 + length, 2, 0, 0, 0];
    sccb.extend(mdb);
    assert_eq!(call(&mut rig, WRITE_DATA, &mut sccb), 0x0020);
    assert_eq!(*rig.output.lock().unwrap(), b"\nHello");
}

#[test]
fn console_input_waits_for_a_listener() {
    let mut rig = rig(golden_config(), false);
    assert_eq!(rig.sclp.console_input(b"ls\n"), 3);
    assert_eq!(rig.irqs.take(), [], "nobody listens yet");
    masks(&mut rig, 0x0000_0040, 0);
    assert_eq!(
        rig.irqs.take(),
        [HostInterrupt::ServiceSignal(ADDR as u32 | 1)],
        "event pending with the answer"
    );
    let mut sccb = block(4096);
    assert_eq!(call(&mut rig, READ_DATA, &mut sccb), 0x0020);
    assert_eq!(sccb[8..18], hex("000a 1a 00 0000 00 6c730a"));
    let mut sccb = block(4096);
    assert_eq!(call(&mut rig, READ_DATA, &mut sccb), 0x60f0);
    rig.irqs.take();
    assert_eq!(rig.sclp.console_input(b"x"), 1);
    assert_eq!(rig.irqs.take(), [HostInterrupt::ServiceSignal(1)]);
}

#[test]
fn selective_read_and_short_blocks() {
    let mut rig = rig(golden_config(), false);
    masks(&mut rig, 0x0000_0048, 0);
    assert!(rig.sclp.quiesce());
    rig.sclp.console_input(b"abcdef");
    let mut sccb = block(24);
    sccb[2] = 1;
    sccb[11] = 0x08;
    assert_eq!(call(&mut rig, READ_DATA, &mut sccb), 0x0020);
    assert_eq!(sccb[8..17], hex("0009 1d 00 0000 000000"));
    let mut sccb = block(24);
    sccb[2] = 1;
    sccb[8] = 0x80;
    assert_eq!(call(&mut rig, READ_DATA, &mut sccb), 0x70f0);
    let mut sccb = block(18);
    sccb[5] = 0x80;
    assert_eq!(call(&mut rig, READ_DATA, &mut sccb), 0x0020);
    assert_eq!(sccb[8..18], hex("000a 1a 00 0000 00 616263"), "as many bytes as fit");
    let mut sccb = block(40);
    sccb[5] = 0x80;
    assert_eq!(call(&mut rig, READ_DATA, &mut sccb), 0x0020);
    assert_eq!(sccb[..2], [0, 18], "the variable-length answer says its length");
    assert_eq!(sccb[5], 0, "and clears the request for it");
    let mut sccb = block(40);
    sccb[2] = 9;
    assert_eq!(call(&mut rig, READ_DATA, &mut sccb), 0x40f0);
}

#[test]
fn the_order_of_checks() {
    let mut rig = rig(SclpConfig::new(512 << 20, 2), false);
    let check = |addr| rig.sclp.check_address(addr, Some(0x8000));
    assert_eq!(check(512 << 20), Err(Outcome::Program(5)));
    assert_eq!(check(0x1ff8), Err(Outcome::Program(6)));
    assert_eq!(check(0x9000), Err(Outcome::Program(6)), "prefix area");
    assert_eq!(check(0x10004), Err(Outcome::Program(6)), "alignment");
    assert_eq!(check(0x10000), Ok(()));
    let outcome = rig.sclp.service_call(0x0099_0001, ADDR, &mut block(8)).outcome;
    assert_eq!(outcome, Outcome::Cc(0));
    for short in [vec![], vec![0, 8], vec![0, 7, 0, 0, 0, 0, 0, 0]] {
        let outcome = rig.sclp.service_call(READ_SCP_INFO, ADDR, &mut short.clone()).outcome;
        assert_eq!(outcome, Outcome::Program(6));
    }
    assert_eq!(call(&mut rig, 0x0099_0001, &mut block(8)), 0x01f0);
    assert_eq!(call(&mut rig, READ_SCP_INFO | 0x5500, &mut block(4096)), 0x0010, "ignored bits");
    assert_eq!(call(&mut rig, READ_SCP_INFO, &mut block(159)), 0x0300);
    let mut sccb = block(4096);
    rig.sclp.service_call(READ_SCP_INFO, ADDR + 8, &mut sccb);
    assert_eq!(sccb[6..8], [0x01, 0x00], "crosses a page");
}

#[test]
fn the_cpu_limit_of_one_page() {
    let mut config = SclpConfig::new(1 << 30, 248);
    assert_eq!(config.max_cpus_in_one_page(), 248);
    assert_eq!(call(&mut rig(config.clone(), false), READ_SCP_INFO, &mut block(4096)), 0x0010);
    config.extended_length = true;
    assert_eq!(config.max_cpus_in_one_page(), 247);
    let mut rig = rig(config, false);
    let mut sccb = block(4096);
    sccb[5] = 0x80;
    assert_eq!(call(&mut rig, READ_SCP_INFO, &mut sccb), 0x0300);
    assert_eq!(u16::from_be_bytes([sccb[0], sccb[1]]), 144 + 16 * 248, "the needed length");
    let mut sccb = block(8192);
    assert_eq!(call(&mut rig, READ_SCP_INFO, &mut sccb), 0x0010);
    assert_eq!(sccb[144 + 16 * 247], 247);
}

#[test]
fn reset_forgets_masks_and_input() {
    let mut rig = rig(golden_config(), false);
    masks(&mut rig, 0x0000_0048, 0);
    rig.sclp.console_input(b"x");
    rig.sclp.reset();
    assert!(!rig.sclp.quiesce());
    assert_eq!(call(&mut rig, READ_DATA, &mut block(4096)), 0x60f0);
}

fn any_call() -> impl Strategy<Value = (u32, u64, Vec<u8>)> {
    let command = prop_oneof![
        Just(READ_SCP_INFO),
        Just(READ_CPU_INFO),
        Just(WRITE_MASK),
        Just(WRITE_DATA),
        Just(READ_DATA),
        any::<u32>()
    ];
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        prop::collection::vec(prop_oneof![Just(0_u8), 0_u8..64, any::<u8>()], 8..200).prop_map(|mut b| {
            let length = b.len() as u16;
            b[..2].copy_from_slice(&length.to_be_bytes());
            b
        })
    ];
    (command, any::<u64>(), bytes)
}

proptest! {
    #[test]
    fn random_calls_end_and_states_round_trip(
        calls in prop::collection::vec(any_call(), 1..20),
        input in prop::collection::vec(any::<u8>(), 0..64),
        extended in any::<bool>(),
    ) {
        let mut config = golden_config();
        config.extended_length = extended;
        let mut one = rig(config.clone(), true);
        one.sclp.console_input(&input);
        for (command, addr, bytes) in calls {
            let mut sccb = bytes;
            let _ = one.sclp.service_call(command, addr, &mut sccb);
            one.sclp.quiesce();
        }
        let saved = one.sclp.save();
        let bytes = postcard::to_allocvec(&saved).unwrap();
        let mut two = rig(config, true);
        two.sclp.restore(postcard::from_bytes(&bytes).unwrap()).unwrap();
        prop_assert_eq!(two.sclp.save(), saved);
        let (mut a, mut b) = (block(4096), block(4096));
        one.sclp.service_call(READ_DATA, ADDR, &mut a);
        two.sclp.service_call(READ_DATA, ADDR, &mut b);
        prop_assert_eq!(a, b);
    }
}
