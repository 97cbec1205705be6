//! ASIDs, and the end of guests.

use cloister_formats::sev::command::{Activate, ActivateEx, GuestStatus, Handle};
use cloister_formats::sev::policy::Policy;
use cloister_formats::sev::status::Status;

use super::fields;
use crate::asp::{Asp, Outcome, Up};
use crate::bus::{Bus, demand};
use crate::guest::{Asid, find};
use crate::table::{self, GuestOp, Op, Slot};

impl Asp {
    pub(crate) fn df_flush(&mut self) -> Outcome {
        self.may(Op::DfFlush)?;
        let flushed = self.asids.flush();
        if let Some(up) = &mut self.up
            && let Some(tmr) = &up.tmr
            && flushed.is_ok()
        {
            up.pool.begin(tmr.start, tmr.end - tmr.start);
        }
        flushed
    }

    pub(crate) fn activate(&mut self, buffer: &[u8]) -> Outcome {
        let Activate { handle, asid } = fields(Activate::parse(buffer))?;
        self.may(Op::Activate)?;
        self.check_activation(handle, asid)?;
        self.bind_asid(handle, asid, None)
    }

    pub(crate) fn activate_ex(&mut self, buffer: &[u8], bus: &Bus<'_>) -> Outcome {
        let activate = fields(ActivateEx::parse(buffer))?;
        self.may(Op::ActivateEx)?;
        demand(activate.length == ActivateEx::SIZE as u32, Status::INVALID_LENGTH)?;
        self.check_activation(activate.handle, activate.asid)?;
        let count = activate.numids as usize;
        demand(count > 0 && count <= self.asids.cores(), Status::INVALID_PARAM)?;
        let ids: Vec<u32> = bus
            .read(activate.ids_paddr, count * 4)?
            .as_chunks::<4>()
            .0
            .iter()
            .map(|id| u32::from_le_bytes(*id))
            .collect();
        demand(ids.iter().all(|&id| (id as usize) < self.asids.cores()), Status::INVALID_PARAM)?;
        self.bind_asid(activate.handle, activate.asid, Some(&ids))
    }

    fn check_activation(&mut self, handle: u32, asid: u32) -> Outcome {
        let guest = find(&mut Up::of(&mut self.up)?.guests, handle)?;
        demand(asid != 0 && asid <= self.asids.last(), Status::INVALID_ASID)?;
        demand(!self.asids.is_owned(asid), Status::ASID_OWNED)?;
        demand(guest.asid.is_none(), Status::ACTIVE)?;
        guest.next(GuestOp::Activate)?;
        demand(!self.asids.is_dirty(asid), Status::DFFLUSH_REQUIRED)?;
        demand(self.asids.is_clean(asid), Status::ASID_OWNED)?;
        demand(guest.is_es() == (asid < self.config.min_sev_asid), Status::INVALID_ASID)
    }

    fn bind_asid(&mut self, handle: u32, asid: u32, cores: Option<&[u32]>) -> Outcome {
        let guest = find(&mut Up::of(&mut self.up)?.guests, handle)?;
        self.asids.allocate(asid, cores);
        let pending = match guest.state {
            Slot::Lupdate | Slot::Lsecret | Slot::Rupdate => true,
            Slot::Invalid | Slot::Running | Slot::Supdate | Slot::Sent => false,
        };
        guest.asid = Some(Asid { number: asid, pending });
        Ok(())
    }

    pub(crate) fn deactivate(&mut self, buffer: &[u8]) -> Outcome {
        let Handle { handle } = fields(Handle::parse(buffer))?;
        self.may(Op::Deactivate)?;
        let guest = find(&mut Up::of(&mut self.up)?.guests, handle)?;
        let asid = guest.asid()?;
        guest.state = guest.next(GuestOp::Deactivate)?;
        guest.asid = None;
        self.asids.release(asid.number);
        Ok(())
    }

    pub(crate) fn decommission(&mut self, buffer: &[u8]) -> Outcome {
        let Handle { handle } = fields(Handle::parse(buffer))?;
        self.may(Op::Decommission)?;
        let up = Up::of(&mut self.up)?;
        let guest = find(&mut up.guests, handle)?;
        demand(guest.asid.is_none(), Status::ACTIVE)?;
        guest.next(GuestOp::Decommission)?;
        up.guests.remove(&handle);
        up.pool.release(handle);
        Ok(())
    }

    pub(crate) fn guest_status(&mut self, buffer: &mut [u8]) -> Outcome {
        let mut status = fields(GuestStatus::parse(buffer))?;
        self.may(Op::GuestStatus)?;
        let (policy, asid, state) = match Up::of(&mut self.up)?.guests.get(&status.handle) {
            None => (Policy(0), 0, Slot::Invalid),
            Some(guest) => (guest.policy, guest.asid.map_or(0, |asid| asid.number), guest.state),
        };
        (status.policy, status.asid) = (policy, asid);
        status.state = table::guest(state, GuestOp::GuestStatus)?.wire();
        fields(status.write_to(buffer))
    }
}
