//! Sending a guest to another platform, and receiving one.

use cloister_crypto::{P384Public, sha256};
use cloister_formats::sev::amd_root::{AmdCertificate, Generation};
use cloister_formats::sev::certificate::{Certificate, Usage};
use cloister_formats::sev::command::{Handle, ReceiveStart, SendStart, Transfer};
use cloister_formats::sev::packet::{MAX_PAYLOAD, PacketContext, PacketHeader};
use cloister_formats::sev::policy::Policy;
use cloister_formats::sev::session::Session;
use cloister_formats::sev::status::Status;
use zeroize::Zeroizing;

use super::fields;
use super::launch::{NewGuest, Peer};
use crate::asp::{Asp, Outcome, Up};
use crate::bus::{Bus, aligned, demand};
use crate::certs::{check_peer, verify, verify_amd, verify_by_ask};
use crate::channel::Channel;
use crate::guest::find;
use crate::table::{GuestOp, Op};

const CERTIFICATE: u32 = Certificate::SIZE as u32;
const HEADER: u32 = PacketHeader::SIZE as u32;

impl Asp {
    pub(crate) fn send_start(&mut self, buffer: &mut [u8], bus: &Bus<'_>) -> Outcome {
        let mut start = fields(SendStart::parse(buffer))?;
        self.may(Op::SendStart)?;
        let guest = find(&mut Up::of(&mut self.up)?.guests, start.handle)?;
        let (policy, next) = (guest.policy, guest.next(GuestOp::SendStart));
        if start.session_len != Session::SIZE as u32 {
            start.session_len = Session::SIZE as u32;
            fields(start.write_to(buffer))?;
            return Err(Status::INVALID_LENGTH);
        }
        let next = next?;
        demand(!policy.has(Policy::NOSEND), Status::POLICY_FAILURE)?;
        let receiver = self.check_receiver(&start, policy, bus)?;
        bus.range(start.session_paddr, Session::SIZE as u64)?;
        let Up { keys, guests, .. } = Up::of(&mut self.up)?;
        let (channel, session) = Channel::offer(&keys.pdh.secret, &receiver, policy, &mut *self.entropy);
        bus.write(start.session_paddr, &session.encode())?;
        let guest = find(guests, start.handle)?;
        guest.channel = Some(channel);
        guest.state = next;
        start.policy = policy;
        fields(start.write_to(buffer))
    }

    /// Checks that the receiver is one that the policy allows; yields its key.
    fn check_receiver(
        &mut self,
        start: &SendStart,
        policy: Policy,
        bus: &Bus<'_>,
    ) -> Result<P384Public, Status> {
        let (sev, domain) = (policy.has(Policy::SEV), policy.has(Policy::DOMAIN));
        demand(start.pdh_len == CERTIFICATE, Status::INVALID_LENGTH)?;
        if sev || domain {
            demand(start.plat_certs_len == 3 * CERTIFICATE, Status::INVALID_LENGTH)?;
        }
        let of_root = |generation: Generation| 2 * generation.certificate_size() as u32;
        if sev {
            let sizes = [Generation::Rsa2048, Generation::Rsa4096].map(of_root);
            demand(sizes.contains(&start.amd_certs_len), Status::INVALID_LENGTH)?;
        }
        let pdh = bus.certificate(start.pdh_paddr)?;
        if sev || domain {
            let at = |index: u64| {
                start
                    .plat_certs_paddr
                    .checked_add(index * u64::from(CERTIFICATE))
                    .ok_or(Status::INVALID_ADDRESS)
            };
            let [pek, oca, cek] =
                [bus.certificate(at(0)?)?, bus.certificate(at(1)?)?, bus.certificate(at(2)?)?];
            if sev {
                let roots = bus.read(start.amd_certs_paddr, start.amd_certs_len as usize)?;
                let ask = self.check_roots(&roots)?;
                verify_by_ask(&cek, &ask)?;
                verify(&pek, &cek)?;
                verify(&pdh, &pek)?;
                let (major, minor) = pek.api();
                demand(policy.accepts_api(major, minor), Status::POLICY_FAILURE)?;
            }
            if domain {
                verify(&oca, &oca)?;
                verify(&pek, &oca)?;
                verify(&pdh, &pek)?;
                let own = &Up::of(&mut self.up)?.keys.oca.certificate;
                demand(oca == *own, Status::POLICY_FAILURE)?;
            }
        }
        check_peer(&pdh)
    }

    /// ASK, then ARK: the ARK is one of those that are trusted, and signed both. Yields the ASK.
    fn check_roots(&self, roots: &[u8]) -> Result<AmdCertificate, Status> {
        let (ask, ark) = roots.split_at(roots.len() / 2);
        let parse = |bytes| AmdCertificate::parse(bytes).map_err(|_| Status::INVALID_CERTIFICATE);
        let (ark, ask) = (parse(ark)?, parse(ask)?);
        let digest = sha256(ark.as_bytes());
        let trusted = if self.config.trusted_roots.is_empty() {
            self.identity.roots().iter().any(|root| sha256(root.ark.as_bytes()) == digest)
        } else {
            self.config.trusted_roots.contains(&digest)
        };
        demand(trusted && ark.usage() == Usage::ARK, Status::INVALID_CERTIFICATE)?;
        verify_amd(&ark, &ark)?;
        demand(
            ask.usage() == Usage::ASK && ask.certifying_id() == ark.key_id(),
            Status::INVALID_CERTIFICATE,
        )?;
        verify_amd(&ask, &ark)?;
        Ok(ask)
    }

    pub(crate) fn send_update(&mut self, buffer: &mut [u8], bus: &Bus<'_>, op: Op) -> Outcome {
        let mut send = fields(Transfer::parse(buffer))?;
        self.may(op)?;
        let enough = send.hdr_len >= HEADER;
        if !enough {
            send.hdr_len = HEADER;
            fields(send.write_to(buffer))?;
            return Err(Status::INVALID_LENGTH);
        }
        let Up { guests, pool, .. } = Up::of(&mut self.up)?;
        let guest = find(guests, send.handle)?;
        guest.next(GuestOp::SendUpdate)?;
        let vmsa = op == Op::SendUpdateVmsa;
        if vmsa {
            guest.has_vmsas()?;
        }
        guest.asid()?;
        let len = send.guest_len;
        let lengths = len != 0
            && len as usize <= MAX_PAYLOAD
            && len.is_multiple_of(16)
            && send.trans_len != 0
            && send.trans_len >= len;
        demand(lengths, Status::INVALID_LENGTH)?;
        aligned(send.guest_paddr, 16)?;
        let range = bus.range(send.guest_paddr, len.into())?;
        bus.range(send.hdr_paddr, HEADER.into())?;
        bus.range(send.trans_paddr, len.into())?;
        let mut bytes = Zeroizing::new(bus.read(range.start, len as usize)?);
        guest.cipher.decrypt(range.start, &mut bytes);
        if vmsa {
            let page = <&[u8; 4096]>::try_from(&bytes[..]).map_err(|_| Status::INVALID_PARAM)?;
            demand(pool.knows(send.handle, page), Status::INVALID_PARAM)?;
        }
        let channel = guest.channel.as_ref().ok_or(Status::INVALID_GUEST_STATE)?;
        let header = channel.wrap(&mut bytes, &mut *self.entropy);
        bus.write(send.hdr_paddr, &header.encode())?;
        bus.write(send.trans_paddr, &bytes)?;
        send.hdr_len = HEADER;
        fields(send.write_to(buffer))
    }

    pub(crate) fn send_finish(&mut self, buffer: &[u8]) -> Outcome {
        self.end_sending(buffer, Op::SendFinish, GuestOp::SendFinish)
    }

    pub(crate) fn send_cancel(&mut self, buffer: &[u8]) -> Outcome {
        self.end_sending(buffer, Op::SendCancel, GuestOp::SendCancel)
    }

    fn end_sending(&mut self, buffer: &[u8], op: Op, guest_op: GuestOp) -> Outcome {
        let Handle { handle } = fields(Handle::parse(buffer))?;
        self.may(op)?;
        let guest = find(&mut Up::of(&mut self.up)?.guests, handle)?;
        guest.state = guest.next(guest_op)?;
        guest.channel = None;
        Ok(())
    }

    pub(crate) fn receive_start(&mut self, buffer: &mut [u8], bus: &Bus<'_>) -> Outcome {
        let mut start = fields(ReceiveStart::parse(buffer))?;
        self.may(Op::ReceiveStart)?;
        let policy = start.policy;
        let peer = Peer {
            policy,
            certificate: (start.pdh_paddr, start.pdh_len),
            session: (start.session_paddr, start.session_len),
        };
        let channel = self.open_channel(&peer, bus)?;
        let new = NewGuest { op: GuestOp::ReceiveStart, share: start.handle, policy, channel };
        start.handle = self.create(new)?;
        fields(start.write_to(buffer))
    }

    pub(crate) fn receive_update(&mut self, buffer: &[u8], bus: &Bus<'_>, op: Op) -> Outcome {
        let receive = fields(Transfer::parse(buffer))?;
        self.may(op)?;
        let Up { guests, pool, .. } = Up::of(&mut self.up)?;
        let guest = find(guests, receive.handle)?;
        guest.next(GuestOp::ReceiveUpdate)?;
        let vmsa = op == Op::ReceiveUpdateVmsa;
        if vmsa {
            guest.has_vmsas()?;
        }
        guest.asid()?;
        let len = receive.trans_len;
        let lengths = len != 0
            && len as usize <= MAX_PAYLOAD
            && receive.guest_len == len
            && len.is_multiple_of(16)
            && receive.hdr_len >= HEADER;
        demand(lengths, Status::INVALID_LENGTH)?;
        aligned(receive.guest_paddr, 16)?;
        let header = fields(PacketHeader::parse(&bus.read(receive.hdr_paddr, PacketHeader::SIZE)?))?;
        let mut bytes = Zeroizing::new(bus.read(receive.trans_paddr, len as usize)?);
        demand(header.flags & PacketHeader::COMPRESSED == 0, Status::UNSUPPORTED)?;
        let channel = guest.channel.as_ref().ok_or(Status::INVALID_GUEST_STATE)?;
        channel.check(PacketContext::TRANSPORT, &header, &bytes)?;
        let range = bus.range(receive.guest_paddr, len.into())?;
        channel.crypt(&header.iv, &mut bytes);
        if vmsa {
            let page = <&mut [u8; 4096]>::try_from(&mut bytes[..]).map_err(|_| Status::INVALID_PARAM)?;
            let block = pool.room()?;
            pool.bind(block, receive.handle, page);
        }
        guest.cipher.encrypt(range.start, &mut bytes);
        bus.write(range.start, &bytes)
    }

    pub(crate) fn receive_finish(&mut self, buffer: &[u8]) -> Outcome {
        let Handle { handle } = fields(Handle::parse(buffer))?;
        self.may(Op::ReceiveFinish)?;
        let guest = find(&mut Up::of(&mut self.up)?.guests, handle)?;
        guest.state = guest.next(GuestOp::ReceiveFinish)?;
        guest.complete();
        Ok(())
    }
}
