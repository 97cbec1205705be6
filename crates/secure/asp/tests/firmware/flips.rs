//! Every bit that a signature or a MAC covers, flipped; and the bits that the firmware does not look at.

use crate::platform::owner_blobs;
use crate::rig::*;
use crate::valid::valid;

fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut out = bytes.to_vec();
    out[bit / 8] ^= 1 << (bit % 8);
    out
}

#[test]
fn every_bit_of_a_session_and_its_policy() {
    let mut rig = Rig::ready("session", false);
    rig.start(0x30, 0, &Owner::fixed());
    let session = rig.read(SESSION, 128);
    for id in [0x30, 0x50] {
        for bit in 0..128 * 8 {
            rig.write(SESSION, &flipped(&session, bit));
            assert_eq!(rig.cmd(id, &mut start(0)), MEASUREMENT, "bit {bit} with {id:#x}");
        }
        rig.write(SESSION, &session);
        for bit in 0..32 {
            assert_eq!(
                rig.cmd(id, &mut start(1 << bit)),
                MEASUREMENT,
                "bit {bit} of the policy with {id:#x}"
            );
        }
    }
}

#[test]
fn every_bit_of_a_launch_secret() {
    let mut rig = Rig::ready("secret", false);
    let handle = rig.guest_in("ls", 0, 100);
    let buf = valid(&mut rig, 0x34, handle, 100, 0);
    let (header, payload) = (rig.read(HEADER, 52), rig.read(PAYLOAD, 64));
    for bit in 0..52 * 8 {
        rig.write(HEADER, &flipped(&header, bit));
        assert_eq!(rig.cmd(0x34, &mut buf.clone()), MEASUREMENT, "bit {bit} of the header");
    }
    rig.write(HEADER, &header);
    for bit in 0..64 * 8 {
        rig.write(PAYLOAD, &flipped(&payload, bit));
        assert_eq!(rig.cmd(0x34, &mut buf.clone()), MEASUREMENT, "bit {bit} of the payload");
    }
    rig.write(PAYLOAD, &payload);
    assert_eq!(rig.cmd(0x34, &mut buf.clone().u32(32, 48).u32(48, 48)), MEASUREMENT, "a shorter one");
    assert_eq!(rig.read(PAGE, 64), [0; 64], "nothing was written");
    rig.run(0x34, buf);
}

#[test]
fn every_bit_of_a_transport_packet() {
    let mut rig = Rig::ready("packet", false);
    let handle = rig.guest_in("rx", 0, 100);
    let buf = valid(&mut rig, 0x51, handle, 100, 0);
    let (header, payload) = (rig.read(HEADER, 52), rig.read(PAYLOAD, 64));
    for bit in 0..52 * 8 {
        rig.write(HEADER, &flipped(&header, bit));
        // That a packet is compressed is seen before its MAC is.
        let expected = if bit == 0 { UNSUPPORTED } else { MEASUREMENT };
        assert_eq!(rig.cmd(0x51, &mut buf.clone()), expected, "bit {bit} of the header");
    }
    rig.write(HEADER, &header);
    for bit in 0..64 * 8 {
        rig.write(PAYLOAD, &flipped(&payload, bit));
        assert_eq!(rig.cmd(0x51, &mut buf.clone()), MEASUREMENT, "bit {bit} of the payload");
    }
    assert_eq!(rig.read(PAGE, 64), [0; 64], "nothing was written");
    rig.write(PAYLOAD, &payload);
    rig.run(0x51, buf);
}

/// What becomes of PEK_CERT_IMPORT when a bit of the OCA or of the PEK is flipped.
fn import_status(oca: bool, bit: usize) -> u32 {
    let (byte, bit) = (bit / 8, bit % 8);
    match byte {
        // The signer names itself by usage and algorithm, and the OCA is its own signer.
        0x8..0x10 if oca => CERTIFICATE,
        0..0x414 => SIGNATURE,
        // A slot that becomes half empty, or that names another signer.
        0x414..0x418 => {
            if byte == 0x414 && bit == 0 {
                SIGNATURE
            } else {
                CERTIFICATE
            }
        }
        0x418..0x41c => {
            if byte == 0x418 && bit == 1 {
                SIGNATURE
            } else {
                CERTIFICATE
            }
        }
        // r and s, 72 bytes each.
        0x41c..0x4ac => SIGNATURE,
        // Behind the signature: not looked at.
        0x4ac..0x61c => OK,
        // The other slot is empty; its data are not looked at.
        0x61c..0x624 => SIGNATURE,
        _ => OK,
    }
}

fn import_with(bits: impl Fn(usize) -> bool) {
    let mut rig = Rig::new("import");
    rig.init(false);
    let (pek, oca) = owner_blobs(&mut rig);
    let import = Buf::new(28).u64(0, CERT).u32(8, 2084).u64(16, CHAIN).u32(24, 2084);
    for bit in (0..2084 * 8).filter(|&bit| bits(bit)) {
        for of_oca in [true, false] {
            let expected = import_status(of_oca, bit);
            rig.write(CHAIN, &if of_oca { flipped(&oca, bit) } else { oca.clone() });
            rig.write(CERT, &if of_oca { pek.clone() } else { flipped(&pek, bit) });
            let what = format!(
                "bit {} of byte {:#x} of the {}",
                bit % 8,
                bit / 8,
                if of_oca { "OCA" } else { "PEK" }
            );
            assert_eq!(rig.cmd(0x07, &mut import.clone()), expected, "{what}");
            if expected == OK {
                rig = Rig::new("import");
                rig.init(false);
            }
        }
    }
    rig.write(CHAIN, &oca);
    rig.write(CERT, &pek);
    rig.run(0x07, import);
}

#[test]
fn a_bit_of_every_byte_of_the_owner_s_certificates() {
    // Every bit where fields decide, and one of each other byte.
    import_with(|bit| match bit / 8 {
        0..0x10 | 0x414..0x41c | 0x61c..0x624 => true,
        byte @ (0x10..0x414 | 0x41c..0x4ac) => bit % 8 == byte % 8,
        byte => byte % 64 == 0 && bit % 8 == 3,
    });
}

#[test]
#[ignore = "takes a minute; the test before takes one bit of each byte"]
fn every_signed_bit_of_the_owner_s_certificates() {
    import_with(|bit| matches!(bit / 8, 0..0x4ac | 0x61c..0x624));
}

/// What becomes of LAUNCH_START when a byte of the owner's certificate changes.
fn owner_status(byte: usize) -> u32 {
    match byte {
        0..4 | 8..0x10 => CERTIFICATE,
        // Curve, x, y with their padding.
        0x10..0xa4 => CERTIFICATE,
        _ => OK,
    }
}

/// The bits that the firmware does not check: the owner's API version and reserved bytes, the tail of the key field,
/// and both signature slots of that certificate; reserved bytes of command buffers.
#[test]
fn bits_that_the_firmware_does_not_check() {
    let mut rig = Rig::ready("unchecked", false);
    rig.start(0x30, 0, &Owner::fixed());
    let certificate = rig.read(CERT, 2084);
    for byte in (0..0xa8).chain((0xa8..2084).step_by(37)) {
        rig.write(CERT, &flipped(&certificate, byte * 8 + byte % 8));
        assert_eq!(
            rig.cmd(0x30, &mut start(0)),
            owner_status(byte),
            "byte {byte:#x} of the owner's certificate"
        );
    }
    rig.write(CERT, &certificate);
    rig.run(0x30, start(0).u32(20, u32::MAX));
    let handle = rig.null_guest(0);
    rig.activate(handle, 100);
    rig.run(0x31, update(handle, PAGE, 16).u32(4, u32::MAX));
    let mut measure = Buf::new(20).u32(0, handle).u32(4, u32::MAX).u64(8, OUT).u32(16, 48);
    assert_eq!(rig.cmd(0x33, &mut measure), OK);
    assert_eq!(measure.get(4), u32::MAX, "what is reserved comes back as it was");
}

/// INIT is the command whose reserved bits count.
#[test]
fn every_reserved_bit_of_init() {
    let mut rig = Rig::new("reserved");
    for bit in 1..64 {
        assert_eq!(rig.cmd(0x01, &mut Buf(flipped(&init(true).0, bit))), CONFIG, "bit {bit}");
    }
    let good = valid(&mut rig, 0x0d, 0, 0, 0);
    for bit in (33..64).chain(0x14 * 8..0x18 * 8) {
        assert_eq!(rig.cmd(0x0d, &mut Buf(flipped(&good.0, bit))), CONFIG, "bit {bit} of INIT_EX");
    }
}
