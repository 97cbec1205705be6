//! Calls of a host.

use std::sync::Arc;

use cloister_arch::s390x::Psw;
use cloister_formats::s390x::uv_rc::{Rc, Rrc};
use cloister_formats::s390x::uvcb::{
    ConvFromSec, ConvToSec, CpuSetState, CreateSecConf, CreateSecCpu, Handle, Init, QueryKeys,
    SetSecConfParams, Unpack, UvCommand, UvHeader,
};

use crate::configuration::{Configuration, CpuResetKind, CpuRunState, NOT_MAPPED};
use crate::guest_call::{answer_query, sized_block};
use crate::image::Image;
use crate::refusal::{Refusal, Stop};
use crate::storage::StorageResolver;
use crate::table::{Action, HOST_CALLS, MachineState, Verdict, machine_verdict};
use crate::ultravisor::{Cc, Ultravisor, storage_of};

/// What a host's call led to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostCallOutcome {
    /// Condition code.
    pub cc: Cc,
    /// What the silicon has to do.
    pub effect: Effect,
    /// What the call stores where an address field of the block points: a piece of a dump, else empty.
    pub data: Vec<u8>,
    /// Why the call was refused.
    pub refusal: Option<Refusal>,
}

/// What a host's call makes the silicon do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Nothing.
    None,
    /// A configuration exists.
    ConfigurationCreated {
        /// Its handle.
        configuration: u64,
        /// The token of its storage.
        storage: u64,
    },
    /// A configuration is gone.
    ConfigurationDestroyed {
        /// Its handle.
        configuration: u64,
        /// The token of its storage.
        storage: u64,
    },
    /// A CPU exists, stopped and with cleared registers.
    CpuCreated {
        /// Its handle.
        cpu: u64,
        /// Its configuration.
        configuration: u64,
        /// Its number.
        number: u16,
    },
    /// A CPU is gone; its registers must not survive.
    CpuDestroyed {
        /// Its handle.
        cpu: u64,
    },
    /// A CPU is reset.
    CpuReset {
        /// Its handle.
        cpu: u64,
        /// How.
        kind: CpuResetKind,
    },
    /// A CPU changes its state.
    CpuState {
        /// Its handle.
        cpu: u64,
        /// To what.
        state: CpuRunState,
        /// The PSW to load first, with all general registers zero.
        psw: Option<Psw>,
    },
}

impl Ultravisor {
    /// A call of the host. `block` holds the control block; outputs, rc and rrc are written into it.
    ///
    /// `data` stands for the buffer that an address field of the block points at: the SE header of "Set
    /// Secure Configuration Parameters". A guest's storage is named by its token in the ASCE field of
    /// "Create Secure Configuration" and begins at the host absolute address in the MSO field.
    pub fn host_call(
        &self,
        block: &mut [u8],
        data: &[u8],
        storages: &dyn StorageResolver,
    ) -> HostCallOutcome {
        let Ok(header) = UvHeader::parse(block) else {
            return HostCallOutcome {
                cc: Cc::Refused,
                effect: Effect::None,
                data: Vec::new(),
                refusal: None,
            };
        };
        let mut output = Vec::new();
        match self.host_dispatch(header, block, data, &mut output, storages) {
            Ok((rc, effect)) => {
                UvHeader::store_result(block, rc, Rrc(0));
                let cc = if rc == Rc::EXECUTED { Cc::Done } else { Cc::Refused };
                HostCallOutcome { cc, effect, data: output, refusal: None }
            }
            Err(Stop::Again) => {
                HostCallOutcome { cc: Cc::Busy, effect: Effect::None, data: Vec::new(), refusal: None }
            }
            Err(Stop::Codes(rc, rrc, detail)) => {
                let (rc, rrc) = (Rc(rc), Rrc(rrc));
                UvHeader::store_result(block, rc, rrc);
                let refusal = Refusal { command: header.command, rc, rrc, detail };
                tracing::debug!(%refusal, "Ultravisor call of the host");
                let refusal = Some(refusal);
                HostCallOutcome { cc: Cc::Refused, effect: Effect::None, data: Vec::new(), refusal }
            }
        }
    }

    /// The order of checks: command, initialisation, length, handle, state, then the call's own.
    fn host_dispatch(
        &self,
        header: UvHeader,
        block: &mut [u8],
        data: &[u8],
        output: &mut Vec<u8>,
        storages: &dyn StorageResolver,
    ) -> Result<(Rc, Effect), Stop> {
        use UvCommand as C;
        let command = header.command;
        if !HOST_CALLS.contains(&command) {
            return Err(Stop::rc(2));
        }
        let machine = self.machine_state();
        if machine == MachineState::Uninitialised && !matches!(command, C::QUI | C::INIT) {
            return Err(Stop::because(3, 0, "The Ultravisor is not initialised"));
        }
        let block = sized_block(header, block)?;
        let is_machine_call = matches!(command, C::QUI | C::QUERY_KEYS | C::INIT | C::CREATE_SEC_CONF);
        if is_machine_call && let Verdict::Refuse(rc) = machine_verdict(machine, command) {
            return Err(Stop::rc(rc));
        }
        let effect = match command {
            C::QUI => return Ok((answer_query(&self.query(false), block), Effect::None)),
            C::QUERY_KEYS => {
                self.query_keys(block)?;
                Effect::None
            }
            C::INIT => self.initialise(block)?,
            C::CREATE_SEC_CONF => self.create_configuration(block, storages)?,
            C::DESTROY_SEC_CONF | C::DESTROY_SEC_CONF_FAST => {
                self.destroy_configuration(command, handle(block)?, storages)?
            }
            C::CREATE_SEC_CPU => self.create_cpu(block)?,
            C::DESTROY_SEC_CPU => self.destroy_cpu(handle(block)?)?,
            C::SET_SEC_CONF_PARAMS => self.set_parameters(block, data)?,
            C::UNPACK => self.unpack(block, storages)?,
            C::VERIFY => self.verify(handle(block)?)?,
            C::CPU_RESET => self.reset_cpu(command, handle(block)?, CpuResetKind::Normal)?,
            C::CPU_INITIAL_RESET => self.reset_cpu(command, handle(block)?, CpuResetKind::Initial)?,
            C::CPU_CLEAR_RESET => self.reset_cpu(command, handle(block)?, CpuResetKind::Clear)?,
            C::CPU_SET_STATE => self.set_cpu_state(block)?,
            C::PREPARE_RESET => self.prepare_reset(handle(block)?)?,
            C::UNSHARE_ALL => self.unshare_all(handle(block)?, storages)?,
            C::CONV_TO_SEC | C::UNPIN_PAGE_SHARED => self.page_call(command, block, storages)?,
            C::CONV_FROM_SEC | C::DESTR_SEC_STOR | C::PIN_PAGE_SHARED => {
                self.host_page_call(command, block, storages)?
            }
            C::DUMP_INIT => {
                self.dump_init(handle(block)?)?;
                Effect::None
            }
            C::DUMP_CONF_STOR_STATE => {
                *output = self.dump_storage(block, storages)?;
                Effect::None
            }
            C::DUMP_CPU => {
                *output = self.dump_cpu(block, storages)?;
                Effect::None
            }
            C::DUMP_COMPLETE => {
                *output = self.dump_complete(block, storages)?;
                Effect::None
            }
            _ => return Err(Stop::rc(2)),
        };
        Ok((Rc::EXECUTED, effect))
    }

    pub(crate) fn query_keys(&self, block: &mut [u8]) -> Result<(), Stop> {
        let mut answer = QueryKeys::default();
        answer.key_hash[0] = self.identity.host_key_hash().0;
        if let Some(backup) = self.identity.backup_key_hash() {
            answer.key_hash[1] = backup.0;
        }
        answer.store(block).map_err(|_| Stop::rc(5))
    }

    fn initialise(&self, block: &[u8]) -> Result<Effect, Stop> {
        let Init { stor_origin, stor_len } = Init::parse(block).map_err(|_| Stop::rc(5))?;
        let need = self.config.base_storage;
        if stor_len < need {
            return Err(Stop::because(0x103, 0, format!("{stor_len:#x} bytes donated, {need:#x} needed")));
        }
        if !stor_origin.is_multiple_of(1 << 20) {
            return Err(Stop::because(0x104, 0, "It must be a multiple of 1 MiB"));
        }
        if stor_origin.checked_add(stor_len).is_none_or(|end| end > self.config.max_address) {
            return Err(Stop::because(0x105, 0, "It ends beyond the machine's storage"));
        }
        if stor_origin < 2 << 30 {
            return Err(Stop::rc(0x108));
        }
        self.set_initialised();
        Ok(Effect::None)
    }

    fn create_configuration(&self, block: &mut [u8], storages: &dyn StorageResolver) -> Result<Effect, Stop> {
        let mut request = CreateSecConf::parse(block).map_err(|_| Stop::rc(5))?;
        let max = self.config.max_address;
        let (origin, len, token) = (request.mso, request.guest_len, request.asce);
        if origin > max || !origin.is_multiple_of(4096) {
            return Err(Stop::rc(0x101));
        }
        if len == 0 || !len.is_multiple_of(4096) || origin.checked_add(len).is_none_or(|end| end > max) {
            return Err(Stop::because(0x102, 0, format!("The guest's storage has {len:#x} bytes")));
        }
        let mut objects = self.objects_mut();
        let overlaps = |other: &Arc<Configuration>| {
            let end = other.origin + other.pages.len() * 4096;
            other.token == token || (origin < end && other.origin < origin + len)
        };
        if objects.configurations.values().any(overlaps) {
            return Err(Stop::rc(0x104));
        }
        let pages = storages.storage(token).map(|storage| storage.pages()).unwrap_or(0);
        if pages < len / 4096 {
            let detail =
                format!("Storage {token:#x} has {pages:#x} pages, the guest wants {:#x}", len / 4096);
            return Err(Stop::because(0x105, 0, detail));
        }
        if objects.configurations.len() >= self.config.max_configurations as usize {
            return Err(Stop::rc(0x106));
        }
        check_donation(request.base_origin, max, 0x108, 0x109)?;
        if request.sca == 0 {
            return Err(Stop::rc(0x10c));
        }
        if request.sca >= max {
            return Err(Stop::rc(0x10d));
        }
        let count = usize::try_from(len / 4096).map_err(|_| Stop::rc(0x102))?;
        let configuration = self.new_handle();
        let counters = Arc::clone(&self.counters);
        let made = self.with_entropy(|entropy| Configuration::new(token, origin, count, counters, entropy));
        objects.configurations.insert(configuration, Arc::new(made));
        request.guest_handle = configuration;
        request.store(block).map_err(|_| Stop::rc(5))?;
        Ok(Effect::ConfigurationCreated { configuration, storage: token })
    }

    fn destroy_configuration(
        &self,
        command: UvCommand,
        handle: u64,
        storages: &dyn StorageResolver,
    ) -> Result<Effect, Stop> {
        let configuration = self.configuration(handle)?;
        {
            // Both locks, so that no CPU is created in between.
            let mut objects = self.objects_mut();
            let inner = configuration.lock();
            configuration.admit(Action::Call(command))?;
            if !inner.cpus.is_empty() {
                let detail = format!("{} CPUs exist; destroy them first", inner.cpus.len());
                return Err(Stop::because(3, 0, detail));
            }
            if objects.configurations.remove(&handle).is_none() {
                return Err(Stop::rc(0x20));
            }
        }
        // Storage that is gone holds nothing that would have to be cleared.
        if let Some(storage) = storages.storage(configuration.token) {
            configuration.release(storage);
        }
        Ok(Effect::ConfigurationDestroyed { configuration: handle, storage: configuration.token })
    }

    fn create_cpu(&self, block: &mut [u8]) -> Result<Effect, Stop> {
        let mut request = CreateSecCpu::parse(block).map_err(|_| Stop::rc(5))?;
        let mut objects = self.objects_mut();
        let configuration =
            objects.configurations.get(&request.guest_handle).cloned().ok_or(Stop::rc(0x20))?;
        configuration.admit(Action::Call(UvCommand::CREATE_SEC_CPU))?;
        if request.num > self.config.max_cpu_id {
            let detail =
                format!("CPU {} is above the highest number {}", request.num, self.config.max_cpu_id);
            return Err(Stop::because(0x103, 0, detail));
        }
        let mut inner = configuration.lock();
        if inner.cpus.contains_key(&request.num) {
            return Err(Stop::rc(0x104));
        }
        check_donation(request.stor_origin, self.config.max_address, 0x105, 0x106)?;
        if request.state_origin == 0 || request.state_origin >= self.config.max_address {
            return Err(Stop::rc(0x107));
        }
        let cpu = self.new_handle();
        configuration.add_cpu(&mut inner, request.num)?;
        objects.cpus.insert(cpu, (configuration.clone(), request.num));
        request.cpu_handle = cpu;
        request.store(block).map_err(|_| Stop::rc(5))?;
        Ok(Effect::CpuCreated { cpu, configuration: request.guest_handle, number: request.num })
    }

    fn destroy_cpu(&self, cpu: u64) -> Result<Effect, Stop> {
        let mut objects = self.objects_mut();
        let (configuration, number) = objects.cpus.get(&cpu).cloned().ok_or(Stop::rc(0x21))?;
        configuration.admit(Action::Call(UvCommand::DESTROY_SEC_CPU))?;
        configuration.lock().cpus.remove(&number);
        objects.cpus.remove(&cpu);
        Ok(Effect::CpuDestroyed { cpu })
    }

    fn set_parameters(&self, block: &[u8], data: &[u8]) -> Result<Effect, Stop> {
        let request = SetSecConfParams::parse(block).map_err(|_| Stop::rc(5))?;
        let configuration = self.configuration(request.guest_handle)?;
        let mut inner = configuration.lock();
        let next = configuration.admit(Action::Call(UvCommand::SET_SEC_CONF_PARAMS))?;
        let image = Image::open(data, request.hdr_len, &self.identity, self.config.supported_pcf)?;
        inner.image = Some(image);
        configuration.enter(&inner, next);
        Ok(Effect::None)
    }

    fn unpack(&self, block: &[u8], storages: &dyn StorageResolver) -> Result<Effect, Stop> {
        let request = Unpack::parse(block).map_err(|_| Stop::rc(5))?;
        let configuration = self.configuration(request.guest_handle)?;
        let mut inner = configuration.lock();
        let next = configuration.admit(Action::Call(UvCommand::UNPACK))?;
        let page = configuration.page_at(request.gaddr, NOT_MAPPED)?;
        let storage = storage_of(&configuration, storages)?;
        let image = inner.image.as_mut().ok_or(Stop::rc(3))?;
        image.unpack(&mut configuration.take(page, storage)?, request.tweak, storage)?;
        configuration.enter(&inner, next);
        Ok(Effect::None)
    }

    fn verify(&self, handle: u64) -> Result<Effect, Stop> {
        let configuration = self.configuration(handle)?;
        let mut inner = configuration.lock();
        let next = configuration.admit(Action::Call(UvCommand::VERIFY))?;
        let image = inner.image.as_mut().ok_or(Stop::rc(3))?;
        image.verify()?;
        image.seal();
        configuration.enter(&inner, next);
        Ok(Effect::None)
    }

    fn reset_cpu(&self, command: UvCommand, cpu: u64, kind: CpuResetKind) -> Result<Effect, Stop> {
        let (configuration, number) = self.cpu(cpu)?;
        let mut inner = configuration.lock();
        configuration.admit(Action::Call(command))?;
        configuration.reset_cpu(&mut inner, number)?;
        Ok(Effect::CpuReset { cpu, kind })
    }

    fn set_cpu_state(&self, block: &[u8]) -> Result<Effect, Stop> {
        let request = CpuSetState::parse(block).map_err(|_| Stop::rc(5))?;
        let (configuration, number) = self.cpu(request.cpu_handle)?;
        let mut inner = configuration.lock();
        let (state, psw) = configuration.set_cpu_state(&mut inner, number, request.state)?;
        Ok(Effect::CpuState { cpu: request.cpu_handle, state, psw })
    }

    fn prepare_reset(&self, handle: u64) -> Result<Effect, Stop> {
        let configuration = self.configuration(handle)?;
        let mut inner = configuration.lock();
        let next = configuration.admit(Action::Call(UvCommand::PREPARE_RESET))?;
        configuration.prepare_reset(&mut inner)?;
        configuration.enter(&inner, next);
        Ok(Effect::None)
    }

    fn unshare_all(&self, handle: u64, storages: &dyn StorageResolver) -> Result<Effect, Stop> {
        let configuration = self.configuration(handle)?;
        let inner = configuration.lock();
        configuration.admit(Action::Call(UvCommand::UNSHARE_ALL))?;
        configuration.unshare_all(&inner, storage_of(&configuration, storages)?)?;
        Ok(Effect::None)
    }

    /// Calls that name a page by configuration and guest absolute address.
    fn page_call(
        &self,
        command: UvCommand,
        block: &[u8],
        storages: &dyn StorageResolver,
    ) -> Result<Effect, Stop> {
        let request = ConvToSec::parse(block).map_err(|_| Stop::rc(5))?;
        let configuration = self.configuration(request.guest_handle)?;
        configuration.admit(Action::Call(command))?;
        let page = configuration.page_at(request.gaddr, NOT_MAPPED)?;
        let storage = storage_of(&configuration, storages)?;
        if command == UvCommand::CONV_TO_SEC {
            configuration.import(page, storage)?;
        } else {
            configuration.unpin(page, storage)?;
        }
        Ok(Effect::None)
    }

    /// Calls that name a page by host absolute address.
    fn host_page_call(
        &self,
        command: UvCommand,
        block: &[u8],
        storages: &dyn StorageResolver,
    ) -> Result<Effect, Stop> {
        let address = ConvFromSec::parse(block).map_err(|_| Stop::rc(5))?.paddr;
        let owner = self
            .objects()
            .configurations
            .values()
            .find(|one| (one.origin..one.origin + one.pages.len() * 4096).contains(&address))
            .cloned();
        let Some(configuration) = owner else {
            return Err(Stop::because(NOT_MAPPED, 0, format!("Address {address:#x} belongs to no guest")));
        };
        configuration.admit(Action::Call(command))?;
        let page = configuration.page_at(address - configuration.origin, NOT_MAPPED)?;
        let storage = storage_of(&configuration, storages)?;
        match command {
            UvCommand::CONV_FROM_SEC => configuration.export(page, storage)?,
            UvCommand::DESTR_SEC_STOR => configuration.destroy(page, storage)?,
            _ => configuration.pin(page, storage)?,
        }
        Ok(Effect::None)
    }
}

fn handle(block: &[u8]) -> Result<u64, Stop> {
    Ok(Handle::parse(block).map_err(|_| Stop::rc(5))?.handle)
}

/// Donated storage must lie behind the lowcore and inside the machine. The model needs no donation, so its
/// content is not touched.
fn check_donation(origin: u64, max: u64, beyond: u16, lowcore: u16) -> Result<(), Stop> {
    if origin >= max {
        Err(Stop::rc(beyond))
    } else if origin < 0x2000 {
        Err(Stop::rc(lowcore))
    } else {
        Ok(())
    }
}
