//! Packets: the launch secret and the transport of pages between platforms.
//!
//! The payload is AES-128-CTR(TEK, iv; plaintext). The MAC is HMAC-SHA256(TIK, prefix ‖ payload), where
//! [`PacketHeader::mac_prefix`] gives the prefix; for a launch secret the 32 bytes of the launch's MAC follow.

use super::layout::{layout, put};

/// The most bytes in the payload of one packet.
pub const MAX_PAYLOAD: usize = 0x5000;

layout! {
    /// The header of a packet, 52 bytes.
    PacketHeader, 52, "SEV packet header" {
        /// Flags; [`PacketHeader::COMPRESSED`].
        flags: u32 = 0,
        /// Counter of the payload's encryption.
        iv: [u8; 16] = 4,
        /// MAC over header, lengths and payload.
        mac: [u8; 32] = 20,
    }
}

/// What a packet is for, the first byte under its MAC.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PacketContext(pub u8);

impl PacketContext {
    /// LAUNCH_SECRET.
    pub const SECRET: Self = Self(0x01);
    /// SEND_UPDATE_* and RECEIVE_UPDATE_*, both of data and of VMSAs.
    pub const TRANSPORT: Self = Self(0x02);
}

impl PacketHeader {
    /// Flag: the payload is compressed.
    pub const COMPRESSED: u32 = 1;

    /// What stands before the payload under the MAC; the header's own MAC does not enter.
    pub fn mac_prefix(&self, context: PacketContext, guest_len: u32, trans_len: u32) -> [u8; 29] {
        let mut out = [0; 29];
        out[0] = context.0;
        put(&mut out, 1, &self.flags);
        put(&mut out, 5, &self.iv);
        put(&mut out, 21, &guest_len);
        put(&mut out, 25, &trans_len);
        out
    }
}
