//! The protected channel between a guest's owner, or another platform, and the firmware.

use cloister_crypto::{
    Entropy, P384Public, P384Secret, Secret, aes128_ctr, ct_eq, hmac_sha256, kbkdf_hmac_sha256_le,
};
use cloister_formats::sev::packet::{PacketContext, PacketHeader};
use cloister_formats::sev::policy::Policy;
use cloister_formats::sev::session::{KEK_LABEL, KIK_LABEL, MASTER_SECRET_LABEL, Session};
use cloister_formats::sev::status::Status;
use zeroize::Zeroizing;

/// The transport keys of a guest.
pub(crate) struct Channel {
    tek: Secret<16>,
    tik: Secret<16>,
    /// The MAC of LAUNCH_MEASURE, which every launch secret is bound to.
    pub(crate) launch_mac: [u8; 32],
}

impl Channel {
    /// The keys of a launch without an owner.
    pub(crate) fn null() -> Self {
        Self { tek: Secret::default(), tik: Secret::default(), launch_mac: [0; 32] }
    }

    /// Unwraps a session that was made for `own`, and checks that it was made for `policy`.
    pub(crate) fn open(
        own: &P384Secret,
        peer: &P384Public,
        session: &Session,
        policy: Policy,
    ) -> Result<Self, Status> {
        let (kek, kik) = wrapping_keys(own, peer, &session.nonce);
        if !ct_eq(&hmac_sha256(kik.expose(), &[&session.wrap_tk]), &session.wrap_mac) {
            return Err(Status::BAD_MEASUREMENT);
        }
        let mut keys = Zeroizing::new(session.wrap_tk);
        aes128_ctr(&kek, &session.wrap_iv, &mut keys[..]);
        let channel = Self::of_keys(&keys);
        if !ct_eq(&channel.policy_mac(policy), &session.policy_mac) {
            return Err(Status::BAD_MEASUREMENT);
        }
        Ok(channel)
    }

    /// Draws new keys and wraps them for `peer`.
    pub(crate) fn offer(
        own: &P384Secret,
        peer: &P384Public,
        policy: Policy,
        entropy: &mut dyn Entropy,
    ) -> (Self, Session) {
        let mut session = Session::default();
        entropy.fill(&mut session.nonce);
        entropy.fill(&mut session.wrap_iv);
        let mut keys = Zeroizing::new([0; 32]);
        entropy.fill(&mut keys[..]);
        let channel = Self::of_keys(&keys);
        let (kek, kik) = wrapping_keys(own, peer, &session.nonce);
        aes128_ctr(&kek, &session.wrap_iv, &mut keys[..]);
        session.wrap_tk = *keys;
        session.wrap_mac = hmac_sha256(kik.expose(), &[&session.wrap_tk]);
        session.policy_mac = channel.policy_mac(policy);
        (channel, session)
    }

    /// TEK, then TIK.
    fn of_keys(keys: &[u8; 32]) -> Self {
        let mut channel = Self::null();
        channel.tek.expose_mut().copy_from_slice(&keys[..16]);
        channel.tik.expose_mut().copy_from_slice(&keys[16..]);
        channel
    }

    /// HMAC-SHA256 with the integrity key.
    pub(crate) fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        hmac_sha256(self.tik.expose(), parts)
    }

    fn policy_mac(&self, policy: Policy) -> [u8; 32] {
        self.mac(&[&policy.to_le_bytes()])
    }

    /// Checks the MAC of a packet whose guest and transport lengths are equal.
    pub(crate) fn check(
        &self,
        context: PacketContext,
        header: &PacketHeader,
        payload: &[u8],
    ) -> Result<(), Status> {
        if ct_eq(&self.packet_mac(context, header, payload), &header.mac) {
            Ok(())
        } else {
            Err(Status::BAD_MEASUREMENT)
        }
    }

    /// Encrypts or decrypts the payload of a packet.
    pub(crate) fn crypt(&self, iv: &[u8; 16], payload: &mut [u8]) {
        aes128_ctr(&self.tek, iv, payload);
    }

    /// Encrypts a payload in place and makes its header.
    pub(crate) fn wrap(&self, payload: &mut [u8], entropy: &mut dyn Entropy) -> PacketHeader {
        let mut header = PacketHeader::default();
        entropy.fill(&mut header.iv);
        self.crypt(&header.iv, payload);
        header.mac = self.packet_mac(PacketContext::TRANSPORT, &header, payload);
        header
    }

    fn packet_mac(&self, context: PacketContext, header: &PacketHeader, payload: &[u8]) -> [u8; 32] {
        let len = payload.len() as u32;
        let prefix = header.mac_prefix(context, len, len);
        let bound: &[u8] = if context == PacketContext::SECRET { &self.launch_mac } else { &[] };
        self.mac(&[&prefix, payload, bound])
    }
}

/// KEK and KIK of a session.
fn wrapping_keys(own: &P384Secret, peer: &P384Public, nonce: &[u8; 16]) -> (Secret<16>, Secret<16>) {
    let z = own.ecdh_x(peer);
    let master = kbkdf_hmac_sha256_le::<16>(z.expose(), MASTER_SECRET_LABEL, nonce);
    let derive = |label| kbkdf_hmac_sha256_le::<16>(master.expose(), label, &[]);
    (derive(KEK_LABEL), derive(KIK_LABEL))
}
