//! For each command a buffer that would succeed, with what it needs in memory.

use crate::platform::owner_blobs;
use crate::rig::*;

/// Prepares memory for a command about a guest, and gives its buffer.
pub(crate) fn valid(rig: &mut Rig, id: u16, handle: u32, asid: u32, policy: u32) -> Buf {
    let only_handle = Buf::new(4).u32(0, handle);
    match id {
        0x01 => init(true),
        0x0d => Buf::new(0x24)
            .u32(0, 0x24)
            .u16(4, 1)
            .u64(8, TMR)
            .u32(0x10, 0x10_0000)
            .u64(0x18, NV)
            .u32(0x20, 0x8000),
        0x02 | 0x03 | 0x05 | 0x09 | 0x0a | 0x0e => Buf::new(0),
        0x04 => Buf::new(12),
        0x06 => Buf::new(12).u64(0, OUT).u32(8, 2084),
        0x07 => {
            if rig.state() == 1 {
                let (pek, oca) = owner_blobs(rig);
                rig.write(CERT, &pek);
                rig.write(CHAIN, &oca);
            }
            Buf::new(28).u64(0, CERT).u32(8, 2084).u64(16, CHAIN).u32(24, 2084)
        }
        0x08 => Buf::new(28).u64(0, OUT).u32(8, 2084).u64(16, CHAIN).u32(24, 6252),
        0x0b => Buf::new(12).u64(0, PAGE).u32(8, 4096),
        0x0c => Buf::new(12).u64(0, OUT).u32(8, 64),
        0x20 | 0x22 | 0x35 | 0x43 | 0x44 | 0x53 => only_handle,
        0x21 => Buf::new(8).u32(0, handle).u32(4, asid),
        0x25 => {
            rig.write(IDS, &[0; 4]);
            Buf::new(0x18).u32(0, 0x18).u32(4, handle).u32(8, asid).u32(12, 1).u64(16, IDS)
        }
        0x23 => Buf::new(13).u32(0, handle),
        0x24 => Buf::new(24).u32(0, handle).u32(4, 4096).u64(8, PAGE).u64(16, PAGE + 0x1000),
        0x30 | 0x50 => {
            if rig.state() != 0 {
                let session = Owner::fixed().session(&rig.pdh(), policy);
                rig.write(CERT, &Owner::fixed().certificate());
                rig.write(SESSION, &session);
            }
            start(policy)
        }
        0x31 => update(handle, PAGE, 4096),
        0x32 => update(handle, VMSA, 4096),
        0x33 => Buf::new(20).u32(0, handle).u64(8, OUT).u32(16, 48),
        0x34 | 0x51 | 0x52 => {
            let (plain, context) = match id {
                0x34 => (vec![7; 64], 1),
                0x51 => (vec![7; 64], 2),
                _ => (vec![7; 4096], 2),
            };
            let bound = if id == 0x34 { rig.mac.clone() } else { Vec::new() };
            let (header, payload) = Owner::fixed().packet(context, &plain, &bound);
            rig.write(HEADER, &header);
            rig.write(PAYLOAD, &payload);
            packet(handle, PAGE, plain.len() as u32)
        }
        0x36 => Buf::new(36).u32(0, handle).u64(8, OUT).u32(32, 0xd0),
        0x40 => {
            if rig.state() != 0 {
                let pdh = rig.pdh();
                rig.write(CERT, &pdh);
            }
            send_start(handle)
        }
        0x41 => packet(handle, PAGE, 64),
        0x42 => packet(handle, VMSA, 4096),
        0x60 | 0x61 => Buf::new(28).u32(0, handle).u64(8, PAGE).u64(16, PAGE + 0x1000).u32(24, 64),
        0x70 => Buf::new(40).u32(0, handle).u64(8, PAGE).u64(16, SWAPPED).u64(24, MDATA).u64(32, 0x1234),
        0x71 => {
            let mut out = valid(rig, 0x70, handle, asid, policy);
            rig.cmd(0x70, &mut out);
            Buf::new(32).u32(0, handle).u64(8, SWAPPED).u64(16, PAGE + 0x1000).u64(24, MDATA)
        }
        other => panic!("no command {other:#x}"),
    }
}
