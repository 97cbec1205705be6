//! Between the Ultravisor and the cores: what a protected guest's CPU may translate, what its calls do,
//! what a host's call does to its CPUs.

use crate::LOADED;
use cloister_arch::s390x::{CpuState, Psw, ResetKind, RunState};
use cloister_cpu_s390x::{OperandFault, PageView, SecureGuest, System, UvcAnswer, UvcOperands};
use cloister_formats::s390x::dump::CpuArea;
use cloister_memory::{Shootdown, Storage};
use cloister_uv_s390x::{
    AccessFailure, CallerStorage, Cc, CpuResetKind, CpuRunState, Effect, GuestEffect, GuestPages, PageKind,
    Resolved, SecureStorage, StorageAccess, StorageResolver, Ultravisor,
};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// The protection of one guest.
pub(crate) struct Protection {
    uv: Arc<Ultravisor>,
    storage: Arc<Storage>,
    origin: u64,
    active: AtomicBool,
    configuration: RwLock<Option<Configuration>>,
    /// A CPU was started in protected mode.
    started: AtomicBool,
}

#[derive(Clone)]
struct Configuration {
    pages: GuestPages,
    /// Handles by CPU number.
    cpus: Vec<u64>,
    number_of: Vec<(u64, u16)>,
}

/// Resolves the one guest's storage, whatever designation bits the host put beside its origin.
pub(crate) struct OneStorage<'a> {
    origin: u64,
    access: StorageAccess<'a>,
    /// For dumps.
    system: Option<&'a System>,
}

impl<'a> OneStorage<'a> {
    /// The same, and the Ultravisor may read the CPUs' registers.
    pub(crate) fn with_registers(self, system: &'a System) -> Self {
        Self { system: Some(system), ..self }
    }
}

impl StorageResolver for OneStorage<'_> {
    fn storage(&self, token: u64) -> Option<&dyn SecureStorage> {
        (token & !0xfff == self.origin).then_some(&self.access as &dyn SecureStorage)
    }

    fn registers(&self, cpu: u16) -> Option<CpuArea> {
        let state = self.system?.state_at_rest(cpu)?;
        Some(CpuArea {
            gprs: state.gprs,
            psw: [state.psw.mask, state.psw.addr],
            prefix: state.prefix,
            fpc: state.fpc,
            todpr: state.todpr,
            cpu_timer: state.cpu_timer,
            clock_comparator: state.clock_comparator,
            ars: state.ars,
            crs: state.crs,
            vectors_low: std::array::from_fn(|n| state.vrs[n].to_be_bytes()),
            vectors_high: std::array::from_fn(|n| state.vrs[16 + n].to_be_bytes()),
            guarded_storage: state.guarded_storage,
            flags: 0,
        })
    }
}

impl Protection {
    pub(crate) fn new(uv: Arc<Ultravisor>, system: &Arc<System>, origin: u64) -> Self {
        Self {
            uv,
            storage: Arc::clone(system.storage()),
            origin,
            active: AtomicBool::new(false),
            configuration: RwLock::new(None),
            started: AtomicBool::new(false),
        }
    }

    pub(crate) fn is_active(&self) -> bool {
        self.active.load(Ordering::Acquire)
    }

    pub(crate) fn pages(&self) -> Option<GuestPages> {
        let configuration = self.configuration.read().unwrap_or_else(PoisonError::into_inner);
        configuration.as_ref().map(|configuration| configuration.pages.clone())
    }

    pub(crate) fn is_dumping(&self) -> bool {
        // Asked on every entry of a clear guest too, which has no configuration.
        self.is_active() && self.pages().is_some_and(|pages| pages.is_dumping())
    }

    pub(crate) fn page_kind(&self, page: u64) -> Option<PageKind> {
        let configuration = self.configuration.read().unwrap_or_else(PoisonError::into_inner);
        configuration.as_ref()?.pages.kind(page)
    }

    pub(crate) fn storage<'a>(&self, storage: &'a Storage, shootdown: &'a dyn Shootdown) -> OneStorage<'a> {
        OneStorage { origin: self.origin, access: StorageAccess { storage, shootdown }, system: None }
    }

    /// Does to the CPUs what a host's call asked for.
    pub(crate) fn apply(self: &Arc<Self>, system: &Arc<System>, effect: Effect) {
        match effect {
            Effect::None => {}
            Effect::ConfigurationCreated { configuration, .. } => {
                let pages = self.uv.guest_pages(configuration);
                self.started.store(false, Ordering::Release);
                *self.write() =
                    pages.map(|pages| Configuration { pages, cpus: Vec::new(), number_of: Vec::new() });
                self.switch(system, true);
            }
            Effect::ConfigurationDestroyed { .. } => {
                *self.write() = None;
                self.switch(system, false);
            }
            Effect::CpuCreated { cpu, number, .. } => {
                if let Some(configuration) = &mut *self.write() {
                    let slot = usize::from(number);
                    if configuration.cpus.len() <= slot {
                        configuration.cpus.resize(slot + 1, 0);
                    }
                    configuration.cpus[slot] = cpu;
                    configuration.number_of.push((cpu, number));
                }
            }
            Effect::CpuDestroyed { cpu } => {
                // The clear guest's registers are only kept if protected execution never began.
                // A configuration that never started has not touched the registers: the guest goes on in
                // the clear with them after a refused entry.
                if self.started.load(Ordering::Acquire)
                    && let Some(number) = self.number(cpu)
                {
                    let _ = system.reset(number, ResetKind::Clear);
                }
            }
            Effect::CpuReset { cpu, kind } => {
                let kind = match kind {
                    CpuResetKind::Normal => ResetKind::Normal,
                    CpuResetKind::Initial => ResetKind::Initial,
                    CpuResetKind::Clear => ResetKind::Clear,
                };
                if let Some(number) = self.number(cpu) {
                    let _ = system.reset(number, kind);
                }
            }
            Effect::CpuState { cpu, state, psw } => {
                if let Some(number) = self.number(cpu) {
                    self.started.fetch_or(psw.is_some(), Ordering::AcqRel);
                    Self::set_cpu_state(
                        system,
                        number,
                        state,
                        psw.map(|psw| Psw { mask: psw.mask, addr: psw.addr }),
                    );
                }
            }
        }
    }

    fn set_cpu_state(system: &System, number: u16, state: CpuRunState, psw: Option<Psw>) {
        if let Some(psw) = psw {
            let fresh = system.reset(number, ResetKind::Clear).and_then(|()| system.state(number));
            if let Ok(fresh) = fresh {
                let start = CpuState { psw, run_state: LOADED, ..fresh };
                let _ = system.set_state(number, &start);
            }
        }
        let state = match state {
            CpuRunState::Operating | CpuRunState::Load => LOADED,
            CpuRunState::Stopped => RunState::Stopped,
            CpuRunState::CheckStop => RunState::CheckStop,
        };
        let _ = system.set_run_state(number, state);
    }

    /// The core reads [`SecureGuest::active`] when it is told that it changed.
    fn switch(self: &Arc<Self>, system: &Arc<System>, active: bool) {
        self.active.store(active, Ordering::Release);
        system.set_protected(Some(Arc::clone(self) as Arc<dyn SecureGuest>));
    }

    fn number(&self, handle: u64) -> Option<u16> {
        let configuration = self.configuration.read().unwrap_or_else(PoisonError::into_inner);
        configuration.as_ref()?.number_of.iter().find(|(cpu, _)| *cpu == handle).map(|&(_, number)| number)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Option<Configuration>> {
        self.configuration.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SecureGuest for Protection {
    fn active(&self) -> bool {
        self.is_active()
    }

    fn resolve(&self, _cpu: u16, page: u64, write: bool) -> PageView {
        let configuration = self.configuration.read().unwrap_or_else(PoisonError::into_inner);
        let Some(configuration) = &*configuration else { return PageView::Shared };
        match configuration.pages.resolve(page, write) {
            Resolved::Private => PageView::Private,
            Resolved::Shared => PageView::Shared,
            // The import of a lost page is refused, with the reason.
            Resolved::NeedsImport | Resolved::Fatal => PageView::NeedsImport,
            Resolved::OutOfRange => PageView::None,
            Resolved::Busy => PageView::Busy,
        }
    }

    fn uvc(
        &self,
        cpu: u16,
        block: &mut [u8],
        operands: &mut dyn UvcOperands,
        flush: &dyn Shootdown,
    ) -> UvcAnswer {
        let handle = {
            let configuration = self.configuration.read().unwrap_or_else(PoisonError::into_inner);
            configuration.as_ref().and_then(|c| c.cpus.get(usize::from(cpu)).copied()).unwrap_or(0)
        };
        let outcome =
            self.uv.guest_call(handle, block, &self.storage(&self.storage, flush), &mut Caller(operands));
        if let Some(refusal) = &outcome.refusal {
            tracing::debug!(target: "s390_pv", cpu, %refusal, "Ultravisor call of the guest");
        }
        let notify = match outcome.effect {
            GuestEffect::Notify(address) => Some(address),
            GuestEffect::None | GuestEffect::Shared(_) | GuestEffect::Unshared(_) | GuestEffect::Fatal => {
                None
            }
        };
        let cc = match outcome.cc {
            Cc::Done => 0,
            Cc::Refused => 1,
            Cc::Busy => 2,
            Cc::Partial => 3,
        };
        UvcAnswer { cc, notify, import: None }
    }
}

/// The core's access to the calling program's storage, as the Ultravisor asks for it.
struct Caller<'a>(&'a mut dyn UvcOperands);

const fn failure(fault: OperandFault) -> AccessFailure {
    match fault {
        OperandFault::Invalid => AccessFailure::Invalid,
        OperandFault::Leaves => AccessFailure::Again,
    }
}

impl CallerStorage for Caller<'_> {
    fn read(&mut self, address: u64, to: &mut [u8]) -> Result<(), AccessFailure> {
        self.0.read(address, to).map_err(failure)
    }

    fn probe_write(&mut self, address: u64, len: usize) -> Result<(), AccessFailure> {
        self.0.probe_write(address, len).map_err(failure)
    }

    fn write(&mut self, address: u64, from: &[u8]) -> Result<(), AccessFailure> {
        self.0.write(address, from).map_err(failure)
    }

    fn settle(&mut self) -> Result<(), AccessFailure> {
        self.0.settle().map_err(failure)
    }
}
