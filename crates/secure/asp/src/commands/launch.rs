//! Launching a guest, and reporting what was launched.

use cloister_crypto::{EcdsaHash, Secret, Sha256};
use cloister_formats::sev::attestation::Report;
use cloister_formats::sev::certificate::{Algo, Certificate, Usage};
use cloister_formats::sev::command::{
    Attestation, Handle, LaunchMeasure, LaunchStart, LaunchUpdate, Transfer,
};
use cloister_formats::sev::measurement::{Measurement, MeasurementInput};
use cloister_formats::sev::packet::{MAX_PAYLOAD, PacketContext, PacketHeader};
use cloister_formats::sev::policy::Policy;
use cloister_formats::sev::session::Session;
use cloister_formats::sev::status::Status;
use zeroize::Zeroizing;

use super::fields;
use crate::asp::{Asp, Outcome, Up};
use crate::bus::{Bus, aligned, demand};
use crate::certs::check_peer;
use crate::channel::Channel;
use crate::engine::MemoryCipher;
use crate::guest::{Guest, find, free_handle, swap_key};
use crate::table::{self, GuestOp, Op, Slot};

/// What a new guest is made from.
pub(super) struct NewGuest {
    pub(super) op: GuestOp,
    pub(super) share: u32,
    pub(super) policy: Policy,
    pub(super) channel: Channel,
}

/// The owner's, or the sender's, side of a channel as a command names it.
pub(super) struct Peer {
    pub(super) policy: Policy,
    pub(super) certificate: (u64, u32),
    pub(super) session: (u64, u32),
}

impl Asp {
    pub(crate) fn launch_start(&mut self, buffer: &mut [u8], bus: &Bus<'_>) -> Outcome {
        let mut start = fields(LaunchStart::parse(buffer))?;
        self.may(Op::LaunchStart)?;
        let policy = start.policy;
        let channel = if start.dh_paddr == 0 {
            // Without an owner there is nobody whose policy could be checked.
            Channel::null()
        } else {
            let certificate = (start.dh_paddr, start.dh_len);
            self.open_channel(
                &Peer { policy, certificate, session: (start.session_paddr, start.session_len) },
                bus,
            )?
        };
        start.handle =
            self.create(NewGuest { op: GuestOp::LaunchStart, share: start.handle, policy, channel })?;
        fields(start.write_to(buffer))
    }

    /// The channel to the owner or sender, and the policy that it demands.
    pub(super) fn open_channel(&mut self, peer: &Peer, bus: &Bus<'_>) -> Result<Channel, Status> {
        demand(peer.session.1 == Session::SIZE as u32, Status::INVALID_LENGTH)?;
        demand(peer.certificate.1 == Certificate::SIZE as u32, Status::INVALID_LENGTH)?;
        let key = check_peer(&bus.certificate(peer.certificate.0)?)?;
        let session = fields(Session::parse(&bus.read(peer.session.0, Session::SIZE)?))?;
        let pdh = &Up::of(&mut self.up)?.keys.pdh.secret;
        let channel = Channel::open(pdh, &key, &session, peer.policy)?;
        let (major, minor) = self.api();
        peer.policy.check(major, minor).map_err(|_| Status::POLICY_FAILURE)?;
        Ok(channel)
    }

    /// Makes a guest and gives its handle.
    pub(super) fn create(&mut self, new: NewGuest) -> Result<u32, Status> {
        let up = Up::of(&mut self.up)?;
        let shared = match new.share {
            0 => None,
            handle => {
                let with = find(&mut up.guests, handle)?;
                demand(with.policy == new.policy && !with.policy.has(Policy::NOKS), Status::POLICY_FAILURE)?;
                Some(with.seed.clone())
            }
        };
        let handle = free_handle(&up.guests)?;
        demand(up.es || !new.policy.has(Policy::ES), Status::UNSUPPORTED)?;
        let state = table::guest(Slot::Invalid, new.op)?;
        let swap_key = swap_key(&mut *self.entropy);
        let seed = shared.unwrap_or_else(|| Secret::generate(&mut *self.entropy));
        let guest = Guest {
            state,
            policy: new.policy,
            asid: None,
            cipher: MemoryCipher::new(&seed, &up.tweaks),
            seed,
            swap_key,
            swapped: 0,
            running_digest: Sha256::new(),
            digest: [0; 32],
            channel: Some(new.channel),
        };
        up.guests.insert(handle, guest);
        Ok(handle)
    }

    pub(crate) fn launch_update_data(&mut self, buffer: &[u8], bus: &Bus<'_>) -> Outcome {
        let LaunchUpdate { handle, paddr, len } = fields(LaunchUpdate::parse(buffer))?;
        self.may(Op::LaunchUpdateData)?;
        let guest = find(&mut Up::of(&mut self.up)?.guests, handle)?;
        guest.state = guest.next(GuestOp::LaunchUpdate)?;
        guest.asid()?;
        aligned(paddr, 16)?;
        demand(len != 0 && len.is_multiple_of(16), Status::INVALID_LENGTH)?;
        let range = bus.range(paddr, len.into())?;
        let Guest { running_digest, cipher, .. } = guest;
        bus.transform(range, &mut |paddr, bytes| {
            running_digest.update(bytes);
            cipher.encrypt(paddr, bytes);
        })
    }

    pub(crate) fn launch_update_vmsa(&mut self, buffer: &[u8], bus: &Bus<'_>) -> Outcome {
        let LaunchUpdate { handle, paddr, len } = fields(LaunchUpdate::parse(buffer))?;
        demand(len == 4096, Status::INVALID_LENGTH)?;
        self.may(Op::LaunchUpdateVmsa)?;
        let Up { guests, pool, .. } = Up::of(&mut self.up)?;
        let guest = find(guests, handle)?;
        guest.state = guest.next(GuestOp::LaunchUpdate)?;
        guest.has_vmsas()?;
        guest.asid()?;
        aligned(paddr, 16)?;
        let block = pool.room()?;
        let range = bus.range(paddr, len.into())?;
        let mut page = Zeroizing::new([0; 4096]);
        bus.read_into(range.start, &mut page[..])?;
        guest.running_digest.update(&page[..]);
        pool.bind(block, handle, &mut page);
        guest.cipher.encrypt(range.start, &mut page[..]);
        bus.write(range.start, &page[..])
    }

    pub(crate) fn launch_measure(&mut self, buffer: &mut [u8], bus: &Bus<'_>) -> Outcome {
        let mut measure = fields(LaunchMeasure::parse(buffer))?;
        self.may(Op::LaunchMeasure)?;
        let version = self.config.version;
        let guest = find(&mut Up::of(&mut self.up)?.guests, measure.handle)?;
        let next = guest.next(GuestOp::LaunchMeasure)?;
        let enough = measure.len >= Measurement::SIZE as u32;
        measure.len = Measurement::SIZE as u32;
        fields(measure.write_to(buffer))?;
        demand(enough, Status::INVALID_LENGTH)?;
        bus.range(measure.paddr, Measurement::SIZE as u64)?;
        let channel = guest.channel.as_mut().ok_or(Status::INVALID_GUEST_STATE)?;
        let mut input = MeasurementInput {
            api_major: version.major,
            api_minor: version.minor,
            build: version.build,
            policy: guest.policy,
            digest: guest.running_digest.clone().finish(),
            mnonce: [0; 16],
        };
        self.entropy.fill(&mut input.mnonce);
        let mac = channel.mac(&[&input.encode()]);
        bus.write(measure.paddr, &Measurement { mac, mnonce: input.mnonce }.encode())?;
        channel.launch_mac = mac;
        guest.digest = input.digest;
        guest.state = next;
        Ok(())
    }

    pub(crate) fn launch_secret(&mut self, buffer: &[u8], bus: &Bus<'_>) -> Outcome {
        let secret = fields(Transfer::parse(buffer))?;
        self.may(Op::LaunchSecret)?;
        let guest = find(&mut Up::of(&mut self.up)?.guests, secret.handle)?;
        aligned(secret.guest_paddr, 16)?;
        let len = secret.guest_len;
        let lengths = secret.hdr_len == PacketHeader::SIZE as u32
            && len != 0
            && len.is_multiple_of(16)
            && len as usize <= MAX_PAYLOAD
            && len == secret.trans_len;
        demand(lengths, Status::INVALID_LENGTH)?;
        guest.next(GuestOp::LaunchSecret)?;
        guest.asid()?;
        let header = fields(PacketHeader::parse(&bus.read(secret.hdr_paddr, PacketHeader::SIZE)?))?;
        let mut payload = Zeroizing::new(bus.read(secret.trans_paddr, len as usize)?);
        let channel = guest.channel.as_ref().ok_or(Status::INVALID_GUEST_STATE)?;
        channel.check(PacketContext::SECRET, &header, &payload)?;
        demand(header.flags & PacketHeader::COMPRESSED == 0, Status::UNSUPPORTED)?;
        let range = bus.range(secret.guest_paddr, len.into())?;
        channel.crypt(&header.iv, &mut payload);
        guest.cipher.encrypt(range.start, &mut payload);
        bus.write(range.start, &payload)
    }

    pub(crate) fn launch_finish(&mut self, buffer: &[u8]) -> Outcome {
        let Handle { handle } = fields(Handle::parse(buffer))?;
        self.may(Op::LaunchFinish)?;
        let guest = find(&mut Up::of(&mut self.up)?.guests, handle)?;
        guest.state = guest.next(GuestOp::LaunchFinish)?;
        guest.complete();
        Ok(())
    }

    pub(crate) fn attestation(&mut self, buffer: &mut [u8], bus: &Bus<'_>) -> Outcome {
        let mut attestation = fields(Attestation::parse(buffer))?;
        self.may(Op::Attestation)?;
        let up = Up::of(&mut self.up)?;
        let guest = find(&mut up.guests, attestation.handle)?;
        guest.next(GuestOp::Attestation)?;
        let enough = attestation.len >= Report::SIZE as u32;
        attestation.len = Report::SIZE as u32;
        fields(attestation.write_to(buffer))?;
        demand(enough, Status::INVALID_LENGTH)?;
        let mut report = Report {
            mnonce: attestation.mnonce,
            launch_digest: guest.digest,
            policy: guest.policy,
            sig_usage: Usage::PEK,
            sig_algo: Algo::ECDSA_SHA256,
            ..Report::default()
        };
        let signature = up.keys.pek.secret.sign(EcdsaHash::Sha256, &report.signed_bytes());
        (report.r, report.s) = signature.to_le_fields();
        bus.write(attestation.paddr, &report.encode())
    }
}
