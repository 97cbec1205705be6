//! Calls of a guest.

use cloister_formats::s390x::uv_rc::{Rc, Rrc};
use cloister_formats::s390x::uvcb::{Qui, SetSharedAccess, UvCommand, UvHeader};

use crate::caller::CallerStorage;
use crate::configuration::Configuration;
use crate::refusal::{Refusal, Stop};
use crate::storage::StorageResolver;
use crate::table::{Action, GUEST_CALLS};
use crate::ultravisor::{Cc, Ultravisor, storage_of};

/// What a guest's call led to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GuestCallOutcome {
    /// Condition code for the guest.
    pub cc: Cc,
    /// What else has to happen.
    pub effect: GuestEffect,
    /// Why the call was refused, for the log.
    pub refusal: Option<Refusal>,
}

/// What else a guest's call leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GuestEffect {
    /// Nothing.
    None,
    /// The page at this guest address is shared now.
    Shared(u64),
    /// The page at this guest address is private now.
    Unshared(u64),
    /// Nothing has happened yet: the host holds the page at this guest address. It is told (interception
    /// 6c) and must unpin it; the guest then executes the instruction again.
    Notify(u64),
    /// The content of a page is lost; the guest cannot go on.
    Fatal,
}

impl Ultravisor {
    /// A call of the guest on `cpu`. `block` holds the control block; outputs, rc and rrc are written into it.
    /// `caller` reaches what the block points at.
    pub fn guest_call(
        &self,
        cpu: u64,
        block: &mut [u8],
        storages: &dyn StorageResolver,
        caller: &mut dyn CallerStorage,
    ) -> GuestCallOutcome {
        let Ok(header) = UvHeader::parse(block) else {
            return GuestCallOutcome { cc: Cc::Refused, effect: GuestEffect::None, refusal: None };
        };
        let command = header.command;
        let done = |block: &mut [u8], rc: Rc, effect| {
            UvHeader::store_result(block, rc, Rrc(0));
            let cc = if rc == Rc::EXECUTED { Cc::Done } else { Cc::Refused };
            GuestCallOutcome { cc, effect, refusal: None }
        };
        match self.guest_dispatch(cpu, header, block, storages, caller) {
            Ok((_, GuestEffect::Notify(address))) => {
                GuestCallOutcome { cc: Cc::Busy, effect: GuestEffect::Notify(address), refusal: None }
            }
            Ok((rc, effect)) => done(block, rc, effect),
            Err(Stop::Again) => GuestCallOutcome { cc: Cc::Busy, effect: GuestEffect::None, refusal: None },
            Err(Stop::Codes(rc, rrc, detail)) => {
                let (rc, rrc) = (Rc(rc), Rrc(rrc));
                UvHeader::store_result(block, rc, rrc);
                // Other calls use the same number for something else.
                let is_lost = rc == LOST
                    && matches!(command, UvCommand::SET_SHARED_ACCESS | UvCommand::REMOVE_SHARED_ACCESS);
                let effect = if is_lost { GuestEffect::Fatal } else { GuestEffect::None };
                let refusal = Some(Refusal { command, rc, rrc, detail });
                GuestCallOutcome { cc: Cc::Refused, effect, refusal }
            }
        }
    }

    fn guest_dispatch(
        &self,
        cpu: u64,
        header: UvHeader,
        block: &mut [u8],
        storages: &dyn StorageResolver,
        caller: &mut dyn CallerStorage,
    ) -> Result<(Rc, GuestEffect), Stop> {
        use UvCommand as C;
        let command = header.command;
        if !GUEST_CALLS.contains(&command) {
            return Err(Stop::rc(2));
        }
        let block = sized_block(header, block)?;
        match command {
            C::QUI => return Ok((answer_query(&self.query(true), block), GuestEffect::None)),
            C::QUERY_KEYS => {
                self.query_keys(block)?;
                return Ok((Rc::EXECUTED, GuestEffect::None));
            }
            _ => {}
        }
        let (configuration, _) = self.cpu(cpu)?;
        configuration.admit(Action::Call(command))?;
        match command {
            C::RETR_ATTEST => self.retrieve_attestation(&configuration, block, caller)?,
            C::ADD_SECRET => self.add_secret(&configuration, block, caller)?,
            C::LIST_SECRETS => self.list_secrets(&configuration, block, caller)?,
            C::LOCK_SECRETS => self.lock_secrets(&configuration, caller)?,
            C::RETR_SECRET => self.retrieve_secret(&configuration, block, caller)?,
            _ => return Ok((Rc::EXECUTED, self.change_sharing(&configuration, command, block, storages)?)),
        }
        Ok((Rc::EXECUTED, GuestEffect::None))
    }

    fn change_sharing(
        &self,
        configuration: &Configuration,
        command: UvCommand,
        block: &[u8],
        storages: &dyn StorageResolver,
    ) -> Result<GuestEffect, Stop> {
        let address = SetSharedAccess::parse(block).map_err(|_| Stop::rc(5))?.paddr;
        let page = configuration.page_at(address, 0x101)?;
        let storage = storage_of(configuration, storages)?;
        if command == UvCommand::SET_SHARED_ACCESS {
            configuration.share(page, storage)?;
            Ok(GuestEffect::Shared(address))
        } else if configuration.unshare(page, storage)? {
            Ok(GuestEffect::Unshared(address))
        } else {
            Ok(GuestEffect::Notify(address))
        }
    }
}

/// rc of a page whose content is lost.
const LOST: Rc = Rc(0x104);

/// The part of `block` that the header claims, if the claim fits the command.
pub(crate) fn sized_block(header: UvHeader, block: &mut [u8]) -> Result<&mut [u8], Stop> {
    let expected = header.command.block_len().unwrap_or(0);
    let fits = if header.command == UvCommand::QUI {
        usize::from(header.len) >= Qui::MIN_LEN
    } else {
        header.len == expected
    };
    match block.get_mut(..usize::from(header.len)) {
        Some(part) if fits => Ok(part),
        _ => Err(Stop::because(5, 0, format!("It is {:#x} bytes, expected {expected:#x}", header.len))),
    }
}

/// Writes as much of the answer as the caller has room for.
pub(crate) fn answer_query(answer: &Qui, block: &mut [u8]) -> Rc {
    answer.store_prefix(block);
    if block.len() < Qui::LEN { Rc::MORE_DATA } else { Rc::EXECUTED }
}
