//! The Ultravisor itself: identity, configurations, and what it says about itself.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use cloister_arch::s390x::Psw;
use cloister_crypto::Entropy;
use cloister_formats::s390x::asrcb::SecretType;
use cloister_formats::s390x::dump::COMPONENTS_PER_MIB;
use cloister_formats::s390x::uvcb::{Qui, UvCommand};

use crate::configuration::{Configuration, CpuRunState};
use crate::dump::{COMPLETION_LEN, CPU_LEN};
use crate::identity::Identity;
use crate::pages::{Counters, GuestPages};
use crate::refusal::Stop;
use crate::storage::{SecureStorage, StorageResolver};
use crate::table::{ConfigurationState, GUEST_CALLS, HOST_CALLS, MachineState};
use crate::{attestation, secrets};
use cloister_arch::pages::Conversions;

/// Condition code of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Cc {
    /// Done.
    Done = 0,
    /// Refused; the block has rc and rrc.
    Refused = 1,
    /// Busy; the caller issues the call again.
    Busy = 2,
    /// Done in part; the caller issues the call again.
    Partial = 3,
}

/// Limits and features of the modelled firmware.
#[derive(Clone, Debug)]
pub struct UvConfig {
    /// Highest CPU number of a guest.
    pub max_cpu_id: u16,
    /// Number of configurations.
    pub max_configurations: u32,
    /// End of the addresses that guests and donations may have.
    pub max_address: u64,
    /// Plaintext control flags that images may set.
    pub supported_pcf: u64,
    /// Bytes that "Initialize Ultravisor" must donate.
    pub base_storage: u64,
}

impl Default for UvConfig {
    /// The limits that a machine of the z15 class reports.
    fn default() -> Self {
        Self {
            max_cpu_id: 256,
            max_configurations: 8_388_607,
            max_address: 0x8000_0000_0000,
            supported_pcf: 0x3000_00e2,
            base_storage: 1 << 20,
        }
    }
}

/// The model of an Ultravisor. All calls take `&self`; calls about different pages run side by side.
pub struct Ultravisor {
    pub(crate) identity: Identity,
    pub(crate) config: UvConfig,
    entropy: Mutex<Box<dyn Entropy + Send>>,
    initialised: AtomicBool,
    next_handle: AtomicU64,
    pub(crate) counters: Arc<Counters>,
    objects: RwLock<Objects>,
}

/// Everything that has a handle.
#[derive(Default)]
pub(crate) struct Objects {
    pub(crate) configurations: BTreeMap<u64, Arc<Configuration>>,
    pub(crate) cpus: BTreeMap<u64, (Arc<Configuration>, u16)>,
}

impl Ultravisor {
    /// An Ultravisor that has not been initialised.
    pub fn new(identity: Identity, entropy: Box<dyn Entropy + Send>, config: UvConfig) -> Self {
        Self {
            identity,
            config,
            entropy: Mutex::new(entropy),
            initialised: AtomicBool::new(false),
            next_handle: AtomicU64::new(0x1_0000),
            counters: Arc::default(),
            objects: RwLock::default(),
        }
    }

    /// The keys' hashes.
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether a host has initialised it.
    pub fn machine_state(&self) -> MachineState {
        if self.initialised.load(Ordering::SeqCst) {
            MachineState::Initialised
        } else {
            MachineState::Uninitialised
        }
    }

    /// The state of a configuration.
    pub fn configuration_state(&self, handle: u64) -> Option<ConfigurationState> {
        Some(self.configuration(handle).ok()?.state())
    }

    /// What was done to pages so far, in all configurations.
    pub fn conversions(&self) -> Conversions {
        self.counters.read()
    }

    /// The pages of a configuration, for the cores that run it.
    pub fn guest_pages(&self, handle: u64) -> Option<GuestPages> {
        self.configuration(handle).ok().map(GuestPages)
    }

    /// The PSW with which a CPU starts (all registers are zero), if it was set to load one.
    pub fn cpu_start_state(&self, cpu: u64) -> Option<Psw> {
        let (configuration, number) = self.cpu(cpu).ok()?;
        let inner = configuration.lock();
        Configuration::start_psw(&inner, number)
    }

    /// The state of a CPU.
    pub fn cpu_run_state(&self, cpu: u64) -> Option<CpuRunState> {
        let (configuration, number) = self.cpu(cpu).ok()?;
        let inner = configuration.lock();
        Configuration::run_state(&inner, number)
    }

    /// A reset of the host machine (DIAGNOSE 308 with subcode 1 on the host): every configuration ends,
    /// private pages are cleared, and the Ultravisor must be initialised again.
    pub fn host_reset(&self, storages: &dyn StorageResolver) {
        let objects = std::mem::take(&mut *self.objects_mut());
        for configuration in objects.configurations.into_values() {
            if let Some(storage) = storages.storage(configuration.token) {
                configuration.release(storage);
            }
        }
        self.initialised.store(false, Ordering::SeqCst);
    }
}

impl Ultravisor {
    pub(crate) fn objects(&self) -> RwLockReadGuard<'_, Objects> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn objects_mut(&self) -> RwLockWriteGuard<'_, Objects> {
        self.objects.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_initialised(&self) {
        self.initialised.store(true, Ordering::SeqCst);
    }

    pub(crate) fn new_handle(&self) -> u64 {
        self.next_handle.fetch_add(1, Ordering::SeqCst)
    }

    pub(crate) fn with_entropy<T>(&self, draw: impl FnOnce(&mut dyn Entropy) -> T) -> T {
        draw(self.entropy.lock().unwrap_or_else(PoisonError::into_inner).as_mut())
    }

    pub(crate) fn configuration(&self, handle: u64) -> Result<Arc<Configuration>, Stop> {
        self.objects().configurations.get(&handle).cloned().ok_or(Stop::rc(0x20))
    }

    pub(crate) fn cpu(&self, handle: u64) -> Result<(Arc<Configuration>, u16), Stop> {
        self.objects().cpus.get(&handle).cloned().ok_or(Stop::rc(0x21))
    }

    /// The answer to a query. A guest is told of guest calls only.
    pub(crate) fn query(&self, for_guest: bool) -> Qui {
        let calls = if for_guest { GUEST_CALLS } else { HOST_CALLS };
        let mut installed_calls = [0u64; 4];
        for bit in calls.iter().filter_map(|call: &UvCommand| call.call_bit()) {
            installed_calls[usize::from(bit / 64)] |= 1 << (63 - bit % 64);
        }
        Qui {
            installed_calls,
            uv_base_stor_len: self.config.base_storage,
            conf_base_phys_stor_len: 0x1000,
            conf_base_virt_stor_len: 0x1000,
            conf_virt_var_stor_len: 0x1000,
            // Linux takes this length for a CPU in a dump as well.
            cpu_stor_len: CPU_LEN,
            max_num_sec_conf: self.config.max_configurations,
            max_guest_stor_addr: self.config.max_address,
            max_guest_cpu_id: self.config.max_cpu_id,
            // Bit 0: shared pages change their owner without an export before.
            features: 1 << 63,
            supp_se_hdr_ver: 1 << 63,
            supp_se_hdr_pcf: self.config.supported_pcf,
            conf_dump_storage_state_len: COMPONENTS_PER_MIB as u64,
            conf_dump_finalize_len: COMPLETION_LEN,
            supp_att_req_hdr_ver: 1 << 63,
            supp_att_pflags: attestation::SUPPORTED_FLAGS.0,
            supp_add_secret_req_ver: 1 << 63,
            supp_add_secret_pcf: secrets::SUPPORTED_FLAGS,
            supp_secret_types: SecretType::ALL.iter().fold(0, |bits, kind| bits | 1 << (63 - kind.0)),
            max_assoc_secrets: secrets::MAX_ASSOCIATION,
            max_retr_secrets: secrets::MAX_RETRIEVABLE,
        }
    }
}

/// The storage of a configuration, or the answer that its pages are not mapped.
pub(crate) fn storage_of<'a>(
    configuration: &Configuration,
    storages: &'a dyn StorageResolver,
) -> Result<&'a dyn SecureStorage, Stop> {
    storages
        .storage(configuration.token)
        .ok_or_else(|| Stop::because(crate::configuration::NOT_MAPPED, 0, "The guest's storage is gone"))
}
