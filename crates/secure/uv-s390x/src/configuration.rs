//! A protected guest as the Ultravisor knows it: state, CPUs, image and pages.
//!
//! Calls that change the state take the lock of the configuration; calls about single pages take only the
//! page's own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use cloister_arch::s390x::Psw;
use cloister_crypto::{Entropy, Secret};

use crate::dump::Dump;
use crate::export::ExportKey;
use crate::image::Image;
use crate::pages::{Conversion, Counters, PageGuard, PageKind, PageTable};
use crate::refusal::Stop;
use crate::secrets::SecretStore;
use crate::storage::{SecureStorage, StorageError};
use crate::table::{Action, ConfigurationState, Verdict, configuration_verdict};

/// State of a CPU as "set CPU state" names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum CpuRunState {
    /// Operating.
    Operating = 1,
    /// Stopped; every CPU begins so and is so after a reset.
    Stopped = 2,
    /// Check-stop, left only by a reset.
    CheckStop = 3,
    /// Operating, after the PSW of the SE header was loaded.
    Load = 5,
}

impl CpuRunState {
    const fn is_stopped(self) -> bool {
        matches!(self, Self::Stopped | Self::CheckStop)
    }
}

/// Kind of a CPU reset (z/Architecture Principles of Operation, SA22-7832, chapter 4 "Resets").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CpuResetKind {
    /// CPU reset.
    Normal,
    /// Initial CPU reset.
    Initial,
    /// Clear reset.
    Clear,
}

pub(crate) struct Cpu {
    state: CpuRunState,
    /// A reset was prepared and this CPU has not had its own yet.
    needs_reset: bool,
    start: Option<Psw>,
}

#[derive(Default)]
pub(crate) struct Inner {
    pub(crate) image: Option<Image>,
    pub(crate) cpus: BTreeMap<u16, Cpu>,
    /// A dump that was begun and not completed.
    pub(crate) dump: Option<Dump>,
    /// The owner has forbidden dumps of this configuration, by an add-secret request.
    pub(crate) dump_disabled: bool,
    pub(crate) secrets: SecretStore,
}

pub(crate) struct Configuration {
    /// Token of the guest's storage.
    pub(crate) token: u64,
    /// Host absolute address of the guest's address 0.
    pub(crate) origin: u64,
    pub(crate) pages: PageTable,
    /// The identity that attestations tell.
    pub(crate) uid: [u8; 16],
    /// What wraps the keys that the guest retrieves.
    pub(crate) wrapping_key: Secret<32>,
    export: ExportKey,
    /// Changed under the lock of `inner` only.
    state: AtomicU8,
    gone: AtomicBool,
    inner: Mutex<Inner>,
}

impl Configuration {
    pub(crate) fn new(
        token: u64,
        origin: u64,
        pages: usize,
        counters: Arc<Counters>,
        entropy: &mut dyn Entropy,
    ) -> Self {
        Self {
            token,
            origin,
            pages: PageTable::new(pages, counters),
            export: ExportKey::generate(entropy),
            uid: {
                let mut uid = [0; 16];
                entropy.fill(&mut uid);
                uid
            },
            wrapping_key: Secret::generate(entropy),
            state: AtomicU8::new(ConfigurationState::Created as u8),
            gone: AtomicBool::new(false),
            inner: Mutex::default(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same for a CPU's own call. A CPU that waited here would acknowledge no flush, so it is told to
    /// issue the call again.
    pub(crate) fn try_lock(&self) -> Result<MutexGuard<'_, Inner>, Stop> {
        match self.inner.try_lock() {
            Ok(inner) => Ok(inner),
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => Err(Stop::Again),
        }
    }

    pub(crate) fn state(&self) -> ConfigurationState {
        ConfigurationState::ALL[usize::from(self.state.load(Ordering::SeqCst)).min(5)]
    }

    /// Asks the table; yields the state after success.
    pub(crate) fn admit(&self, action: Action) -> Result<ConfigurationState, Stop> {
        let state = self.state();
        match configuration_verdict(state, action) {
            Verdict::Stay | Verdict::End => Ok(state),
            Verdict::To(next) => Ok(next),
            Verdict::Refuse(rc) => {
                Err(Stop::because(rc, 0, format!("The configuration is in state {state:?}")))
            }
        }
    }

    /// Publishes the state that [`Self::admit`] yielded; the caller holds the lock.
    pub(crate) fn enter(&self, _held: &Inner, next: ConfigurationState) {
        self.state.store(next as u8, Ordering::SeqCst);
    }

    /// The guest page at a guest absolute address.
    pub(crate) fn page_at(&self, address: u64, rc: u16) -> Result<u64, Stop> {
        let page = address / 4096;
        if !address.is_multiple_of(4096) || page >= self.pages.len() {
            let detail = format!("Address {address:#x} is no page of the guest's {:#x}", self.pages.len());
            return Err(Stop::because(rc, 0, detail));
        }
        Ok(page)
    }

    /// The keys of exports and the common part of their tweaks.
    pub(crate) fn export_keys(&self) -> (&Secret<64>, &[u8; 16]) {
        (self.export.keys(), self.export.nonce())
    }

    /// Takes a page, unless the configuration has been destroyed meanwhile.
    pub(crate) fn take(&self, page: u64, storage: &dyn SecureStorage) -> Result<PageGuard<'_>, Stop> {
        let guard = self.pages.lock(page, storage).ok_or(Stop::rc(NOT_MAPPED))?;
        if self.gone.load(Ordering::SeqCst) { Err(Stop::rc(0x20)) } else { Ok(guard) }
    }
}

/// Pages.
impl Configuration {
    /// Makes a page private: what was exported comes back, any other page is cleared.
    pub(crate) fn import(&self, page: u64, storage: &dyn SecureStorage) -> Result<(), Stop> {
        self.import_held(&mut self.take(page, storage)?, storage)
    }

    fn import_held(&self, page: &mut PageGuard<'_>, storage: &dyn SecureStorage) -> Result<(), Stop> {
        match page.kind() {
            PageKind::Secure | PageKind::Shared | PageKind::PinnedShared => Ok(()),
            PageKind::NonSecure => {
                storage.clear_plain(page.page).map_err(refused)?;
                page.set(PageKind::Secure);
                page.count(Conversion::Cleared);
                Ok(())
            }
            PageKind::Exported => {
                let Some(record) = page.recall() else {
                    page.set(PageKind::Lost);
                    return Err(lost(page.page));
                };
                let number = page.page;
                match storage
                    .import(number, &mut |raw, plain| self.export.import(number, &record, raw, plain))
                {
                    Ok(()) => {
                        page.forget();
                        page.set(PageKind::Secure);
                        page.count(Conversion::Imported);
                        Ok(())
                    }
                    Err(StorageError::Refused) => {
                        page.forget();
                        page.set(PageKind::Lost);
                        Err(lost(number))
                    }
                    Err(error) => Err(refused(error)),
                }
            }
            PageKind::Lost => Err(lost(page.page)),
        }
    }

    /// Gives the host the ciphertext of a private page; a page that the host can reach stays as it is.
    pub(crate) fn export(&self, page: u64, storage: &dyn SecureStorage) -> Result<(), Stop> {
        let mut page = self.take(page, storage)?;
        if page.kind() != PageKind::Secure {
            return Ok(());
        }
        let number = page.page;
        let mut made = None;
        let seal = &mut |plain: &_, raw: &mut _| {
            made = Some(self.export.export(number, plain, raw));
            true
        };
        storage.export(number, seal).map_err(refused)?;
        if let Some(record) = made {
            page.remember(record);
            page.set(PageKind::Exported);
            page.count(Conversion::Exported);
        }
        Ok(())
    }

    /// Clears a page and gives it to the host. What the guest had there is lost, and it will notice.
    pub(crate) fn destroy(&self, page: u64, storage: &dyn SecureStorage) -> Result<(), Stop> {
        let mut page = self.take(page, storage)?;
        let kind = page.kind();
        if kind == PageKind::PinnedShared {
            storage.unpin(page.page).map_err(refused)?;
            page.set(PageKind::Shared);
        }
        storage.destroy(page.page).map_err(refused)?;
        page.count(Conversion::Destroyed);
        if kind != PageKind::NonSecure {
            page.forget();
            page.set(PageKind::Lost);
        }
        Ok(())
    }

    pub(crate) fn pin(&self, page: u64, storage: &dyn SecureStorage) -> Result<(), Stop> {
        let mut page = self.take(page, storage)?;
        match page.kind() {
            PageKind::PinnedShared => Ok(()),
            PageKind::Shared => {
                storage.pin(page.page).map_err(refused)?;
                page.set(PageKind::PinnedShared);
                Ok(())
            }
            PageKind::NonSecure | PageKind::Secure | PageKind::Exported | PageKind::Lost => {
                Err(Stop::because(0x107, 0, format!("Page {:#x} is not shared", page.page)))
            }
        }
    }

    pub(crate) fn unpin(&self, page: u64, storage: &dyn SecureStorage) -> Result<(), Stop> {
        let mut page = self.take(page, storage)?;
        if page.kind() == PageKind::PinnedShared {
            storage.unpin(page.page).map_err(refused)?;
            page.set(PageKind::Shared);
        }
        Ok(())
    }

    /// The guest shares a page.
    pub(crate) fn share(&self, page: u64, storage: &dyn SecureStorage) -> Result<(), Stop> {
        let mut page = self.take(page, storage)?;
        match page.kind() {
            PageKind::Shared | PageKind::PinnedShared => return Ok(()),
            PageKind::Secure => storage.share(page.page).map_err(refused)?,
            // A page that the guest never touched reads as zero, so zeros are what it shares.
            PageKind::NonSecure => storage.destroy(page.page).map_err(refused)?,
            PageKind::Exported | PageKind::Lost => {
                self.import_held(&mut page, storage)?;
                storage.share(page.page).map_err(refused)?;
            }
        }
        page.set(PageKind::Shared);
        page.count(Conversion::Shared);
        Ok(())
    }

    /// A page is shared no more; its content stays. False: the host must unpin it first.
    pub(crate) fn unshare(&self, page: u64, storage: &dyn SecureStorage) -> Result<bool, Stop> {
        let mut page = self.take(page, storage)?;
        match page.kind() {
            PageKind::NonSecure | PageKind::Secure | PageKind::Exported => Ok(true),
            PageKind::Lost => Err(lost(page.page)),
            PageKind::PinnedShared => Ok(false),
            PageKind::Shared => match storage.unshare(page.page) {
                Ok(()) => {
                    page.set(PageKind::Secure);
                    page.count(Conversion::Unshared);
                    Ok(true)
                }
                Err(StorageError::Pins) => Ok(false),
                Err(error) => Err(refused(error)),
            },
        }
    }

    /// Withdraws all sharing. The CPUs are stopped.
    pub(crate) fn unshare_all(&self, inner: &Inner, storage: &dyn SecureStorage) -> Result<(), Stop> {
        self.require_stopped(inner)?;
        for page in 0..self.pages.len() {
            if self.pages.shared() == 0 {
                break;
            }
            self.unpin(page, storage)?;
            let is_lost = self.take(page, storage)?.kind() == PageKind::Lost;
            if !is_lost && !self.unshare(page, storage)? {
                return Err(Stop::Again);
            }
        }
        Ok(())
    }

    /// Ends the configuration: private pages are cleared and everything is the host's again.
    pub(crate) fn release(&self, storage: &dyn SecureStorage) {
        self.gone.store(true, Ordering::SeqCst);
        for page in 0..self.pages.len() {
            let Some(mut page) = self.pages.lock(page, storage) else { continue };
            match page.kind() {
                PageKind::NonSecure | PageKind::Shared | PageKind::Lost => {}
                PageKind::PinnedShared => {
                    let _ = storage.unpin(page.page);
                }
                PageKind::Exported => page.forget(),
                PageKind::Secure => {
                    // If storage refuses, the page stays private and out of the host's reach.
                    if storage.destroy(page.page).is_err() {
                        continue;
                    }
                    page.count(Conversion::Destroyed);
                }
            }
            page.set(PageKind::NonSecure);
        }
    }
}

/// CPUs.
impl Configuration {
    pub(crate) fn add_cpu(&self, inner: &mut Inner, number: u16) -> Result<(), Stop> {
        if inner.cpus.contains_key(&number) {
            return Err(Stop::because(0x104, 0, format!("CPU {number} exists")));
        }
        let cpu = Cpu { state: CpuRunState::Stopped, needs_reset: false, start: None };
        inner.cpus.insert(number, cpu);
        Ok(())
    }

    pub(crate) fn set_cpu_state(
        &self,
        inner: &mut Inner,
        number: u16,
        code: u8,
    ) -> Result<(CpuRunState, Option<Psw>), Stop> {
        let (to, action) = match code {
            1 => (CpuRunState::Operating, Action::CpuStart),
            2 => (CpuRunState::Stopped, Action::CpuStop),
            3 => (CpuRunState::CheckStop, Action::CpuStop),
            5 => (CpuRunState::Load, Action::CpuLoad),
            _ => return Err(Stop::because(0x101, 0, format!("{code} is no CPU state; use 1, 2, 3 or 5"))),
        };
        let next = self.admit(action)?;
        let psw = inner.image.as_ref().map(Image::psw);
        let cpu = inner.cpus.get_mut(&number).ok_or(Stop::rc(0x21))?;
        if !to.is_stopped() {
            if cpu.state == CpuRunState::CheckStop {
                return Err(Stop::because(3, 0, format!("CPU {number} is in check-stop; reset it first")));
            }
            if cpu.needs_reset {
                let detail = format!("A reset was prepared; CPU {number} must be reset before it starts");
                return Err(Stop::because(3, 0, detail));
            }
        }
        cpu.start = if to == CpuRunState::Load { psw } else { None };
        cpu.state = to;
        let start = cpu.start;
        self.enter(inner, next);
        Ok((to, start))
    }

    pub(crate) fn reset_cpu(&self, inner: &mut Inner, number: u16) -> Result<(), Stop> {
        let cpu = inner.cpus.get_mut(&number).ok_or(Stop::rc(0x21))?;
        if !cpu.state.is_stopped() {
            return Err(Stop::because(3, 0, format!("CPU {number} is operating; stop it first")));
        }
        cpu.state = CpuRunState::Stopped;
        cpu.needs_reset = false;
        cpu.start = None;
        Ok(())
    }

    pub(crate) fn prepare_reset(&self, inner: &mut Inner) -> Result<(), Stop> {
        self.require_stopped(inner)?;
        let shared = self.pages.shared();
        if shared != 0 {
            // A guest that starts again regards every page as private.
            let detail = format!("{shared} pages are still shared; issue Unshare All Pages first");
            return Err(Stop::because(3, 0, detail));
        }
        inner.cpus.values_mut().for_each(|cpu| cpu.needs_reset = true);
        inner.secrets = SecretStore::default();
        Ok(())
    }

    /// The PSW with which a CPU starts, if it was set to load one.
    pub(crate) fn start_psw(inner: &Inner, number: u16) -> Option<Psw> {
        inner.cpus.get(&number)?.start
    }

    pub(crate) fn run_state(inner: &Inner, number: u16) -> Option<CpuRunState> {
        Some(inner.cpus.get(&number)?.state)
    }

    fn require_stopped(&self, inner: &Inner) -> Result<(), Stop> {
        match inner.cpus.iter().find(|(_, cpu)| !cpu.state.is_stopped()) {
            Some((number, _)) => {
                Err(Stop::because(3, 0, format!("CPU {number} is operating; all CPUs must be stopped")))
            }
            None => Ok(()),
        }
    }
}

/// rc of calls that name a page which is not in any guest's storage.
pub(crate) const NOT_MAPPED: u16 = 0x10a;
/// rc of a page whose content cannot be restored. Real firmware's code is not published.
const INTEGRITY: u16 = 0x104;

fn lost(page: u64) -> Stop {
    let detail =
        format!("Page {page:#x}: the host destroyed it or gave back other bytes; the guest cannot go on");
    Stop::because(INTEGRITY, 0, detail)
}

fn refused(error: StorageError) -> Stop {
    match error {
        StorageError::Pins => Stop::Again,
        StorageError::OutOfRange | StorageError::Representation | StorageError::Refused => {
            Stop::because(NOT_MAPPED, 0, error.to_string())
        }
    }
}
