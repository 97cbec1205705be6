//! KVM itself: the system, a VM, a CPU, as far as confidential guests need them.
//!
//! Linux, Documentation/virt/kvm/api.rst.

use crate::error::{Error, OpenError, ioctl_hint};
use crate::kernel::{Device, Handle, Kernel};
use crate::layout::{EnableCap, EncRegion, Regs, SegmentRegister, Sregs, TableRegister, UserMemoryRegion};
use crate::memory::GuestMapping;
use crate::payload::{GuestRange, Payload, Pointee};
use crate::request::{self, Request};
use cloister_arch::x86_64::Slot;
use std::sync::{Arc, Mutex, PoisonError};
use zerocopy::FromZeros;

/// A capability of KVM by its number; a newtype, because there will be more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Capability(pub u32);

macro_rules! capabilities {
    ($(#[$meta:meta])* $list:ident: $($name:ident = $c:literal, $number:literal;)*) => {
        impl Capability {
            $(#[$meta])*
            pub const $list: &[(Self, &'static str)] = &[$((Self::$name, $c)),*];
            $(#[doc = concat!("`", $c, "`.")] pub const $name: Self = Self($number);)*
        }
    };
}

capabilities! {
    /// Those that tell what a host offers, with their names in the kernel's headers.
    ALL:
    ENABLE_CAP_VM = "KVM_CAP_ENABLE_CAP_VM", 98;
    CHECK_EXTENSION_VM = "KVM_CAP_CHECK_EXTENSION_VM", 105;
    S390_MEM_OP = "KVM_CAP_S390_MEM_OP", 108;
    S390_VCPU_RESETS = "KVM_CAP_S390_VCPU_RESETS", 179;
    S390_PROTECTED = "KVM_CAP_S390_PROTECTED", 180;
    PPC_SECURE_GUEST = "KVM_CAP_PPC_SECURE_GUEST", 181;
    VM_COPY_ENC_CONTEXT_FROM = "KVM_CAP_VM_COPY_ENC_CONTEXT_FROM", 197;
    VM_MOVE_ENC_CONTEXT_FROM = "KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM", 206;
    SYS_ATTRIBUTES = "KVM_CAP_SYS_ATTRIBUTES", 209;
    S390_PROTECTED_DUMP = "KVM_CAP_S390_PROTECTED_DUMP", 217;
    S390_PROTECTED_ASYNC_DISABLE = "KVM_CAP_S390_PROTECTED_ASYNC_DISABLE", 224;
    MEMORY_ATTRIBUTES = "KVM_CAP_MEMORY_ATTRIBUTES", 233;
    GUEST_MEMFD = "KVM_CAP_GUEST_MEMFD", 234;
    VM_TYPES = "KVM_CAP_VM_TYPES", 235;
}

capabilities! {
    /// Those that a VM is made by.
    MAKING:
    NR_VCPUS = "KVM_CAP_NR_VCPUS", 9;
    MAX_VCPUS = "KVM_CAP_MAX_VCPUS", 66;
    READONLY_MEM = "KVM_CAP_READONLY_MEM", 81;
}

impl Capability {
    /// Its name in the kernel's headers.
    pub fn name(self) -> &'static str {
        let mut known = Self::ALL.iter().chain(Self::MAKING);
        known.find(|(known, _)| *known == self).map_or("a capability", |(_, name)| name)
    }
}

/// The kind of a VM, argument of `KVM_CREATE_VM`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmType(pub u32);

impl VmType {
    /// The one that every architecture has.
    pub const DEFAULT: Self = Self(0);
    /// `KVM_X86_SEV_VM`.
    pub const SEV: Self = Self(2);
    /// `KVM_X86_SEV_ES_VM`.
    pub const SEV_ES: Self = Self(3);
    /// `KVM_X86_SNP_VM`.
    pub const SNP: Self = Self(4);
}

/// `/dev/kvm`, open and of the right version.
#[derive(Clone, Debug)]
pub struct Kvm {
    pub(crate) kernel: Arc<dyn Kernel>,
    handle: Handle,
}

impl Kvm {
    /// Opens it.
    pub fn open(kernel: Arc<dyn Kernel>) -> Result<Self, Error> {
        let device = Device::Kvm;
        let handle = kernel.open(device).map_err(|failure| OpenError { device, failure })?;
        let kvm = Self { kernel, handle };
        match call(&*kvm.kernel, &kvm.handle, &request::GET_API_VERSION, &mut Payload::default())? {
            API_VERSION => Ok(kvm),
            found => Err(Error::ApiVersion { found }),
        }
    }

    /// What the kernel says of a capability: 0 is no, what else there is depends on the capability.
    pub fn check(&self, capability: Capability) -> Result<u32, Error> {
        check(&*self.kernel, &self.handle, capability)
    }

    /// Makes a VM.
    pub fn create_vm(&self, kind: VmType) -> Result<Vm, Error> {
        let handle = create(&*self.kernel, &self.handle, &request::CREATE_VM, kind.0)?;
        Ok(Vm { kernel: Arc::clone(&self.kernel), handle, memory: Arc::default() })
    }
}

/// A VM.
#[derive(Clone, Debug)]
pub struct Vm {
    pub(crate) kernel: Arc<dyn Kernel>,
    pub(crate) handle: Handle,
    /// What the kernel was told to take for guest memory. Last, so that it is unmapped after the VM is closed.
    memory: Arc<Mutex<Vec<Arc<GuestMapping>>>>,
}

impl Vm {
    /// What the kernel says of a capability for this VM (with `KVM_CAP_CHECK_EXTENSION_VM`).
    pub fn check(&self, capability: Capability) -> Result<u32, Error> {
        check(&*self.kernel, &self.handle, capability)
    }

    /// Enables a capability for this VM.
    pub fn enable(&self, capability: Capability, arguments: [u64; 4]) -> Result<(), Error> {
        let block = EnableCap { cap: capability.0, args: arguments, ..EnableCap::new_zeroed() };
        call(&*self.kernel, &self.handle, &request::ENABLE_CAP, &mut Payload::of(&block)).map(drop)
    }

    /// Makes a CPU.
    pub fn create_vcpu(&self, number: u32) -> Result<Vcpu, Error> {
        let handle = create(&*self.kernel, &self.handle, &request::CREATE_VCPU, number)?;
        Ok(Vcpu { kernel: Arc::clone(&self.kernel), handle, _vm: self.clone() })
    }

    /// Shows the guest a part of a mapping (`KVM_SET_USER_MEMORY_REGION`). The mapping stays as long as the VM.
    pub fn set_memory(&self, number: u32, slot: &Slot, mapping: &Arc<GuestMapping>) -> Result<(), Error> {
        let request = &request::SET_USER_MEMORY_REGION;
        let memory = mapping.slice(slot.offset, slot.size).ok_or(Error::NoMemory {
            command: request.name(),
            at: slot.offset,
            length: slot.size,
        })?;
        // Also if it fails: what the kernel has kept then is not known.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(mapping));
        let block = UserMemoryRegion {
            slot: number,
            flags: if slot.read_only { READ_ONLY } else { 0 },
            guest_phys_addr: slot.guest_physical,
            memory_size: slot.size,
            userspace_addr: 0,
        };
        let at = std::mem::offset_of!(UserMemoryRegion, userspace_addr);
        let mut payload = Payload::of(&block).pointing(at, Pointee::Guest(GuestRange::of(&memory)));
        call(&*self.kernel, &self.handle, request, &mut payload).map(drop)
    }

    /// Whether memory of this VM can be encrypted: `KVM_MEMORY_ENCRYPT_OP` with a null argument.
    pub fn can_be_encrypted(&self) -> bool {
        call(&*self.kernel, &self.handle, &request::ENCRYPT_OP_QUERY, &mut Payload::default()).is_ok()
    }

    /// Tells the kernel that memory may hold encrypted pages: it pins them.
    pub fn register_region(&self, memory: GuestRange<'_>) -> Result<(), Error> {
        self.region(&request::REG_REGION, memory)
    }

    /// The reverse of [`Self::register_region`], with the same range.
    pub fn unregister_region(&self, memory: GuestRange<'_>) -> Result<(), Error> {
        self.region(&request::UNREG_REGION, memory)
    }

    /// Lets the guest of this VM ask the Ultravisor to become secure. To be called before its CPUs run.
    pub fn enable_secure_guest(&self) -> Result<(), Error> {
        let capability = Capability::PPC_SECURE_GUEST;
        if self.check(capability)? == 0 {
            return Err(Error::NotOffered {
                name: capability.name(),
                number: capability.0,
                next: "secure VMs need a POWER9 or later in firmware mode with an Ultravisor (PowerNV, \
                       svm_enable=on) and the module kvm_hv",
            });
        }
        self.enable(capability, [1, 0, 0, 0])
    }

    /// Makes a secure VM an ordinary one again: the first step of a reset. A kernel without secure VMs does
    /// not know the call, which is the same as having nothing to do.
    pub fn svm_off(&self) -> Result<(), Error> {
        match call(&*self.kernel, &self.handle, &request::PPC_SVM_OFF, &mut Payload::default()) {
            Ok(_) | Err(Error::Ioctl { errno: crate::Errno::NOT_A_TTY, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn region(&self, request: &'static Request, memory: GuestRange<'_>) -> Result<(), Error> {
        let block = EncRegion { addr: 0, size: memory.length() as u64 };
        let mut payload =
            Payload::of(&block).pointing(std::mem::offset_of!(EncRegion, addr), Pointee::Guest(memory));
        call(&*self.kernel, &self.handle, request, &mut payload).map(drop)
    }
}

/// A CPU of a VM.
#[derive(Clone, Debug)]
pub struct Vcpu {
    pub(crate) kernel: Arc<dyn Kernel>,
    pub(crate) handle: Handle,
    /// Keeps the VM's memory mapped.
    _vm: Vm,
}

impl Vcpu {
    /// The registers of an x86-64 CPU after a reset that starts at `address`, with CPUID's `signature` in RDX:
    /// AMD64 Architecture Programmer's Manual, volume 2, 14.1.3 "Processor Initialization State". Control registers
    /// and the APIC's address are left as the kernel's reset made them. Under SEV-ES this is what is measured.
    pub fn set_reset_state(&self, address: u32, signature: u32) -> Result<(), Error> {
        let mut payload = Payload::of(&Sregs::new_zeroed());
        call(&*self.kernel, &self.handle, &request::GET_SREGS, &mut payload)?;
        let (command, what) = (request::GET_SREGS.name(), "a structure of another size");
        let mut sregs: Sregs = payload.read().ok_or(Error::Answer { command, what })?;
        let data = SegmentRegister {
            limit: 0xffff,
            present: 1,
            s: 1,
            pad_type: DATA_WRITTEN,
            ..SegmentRegister::new_zeroed()
        };
        (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
        let base = u64::from(address & 0xffff_0000);
        sregs.cs = SegmentRegister { base, selector: 0xf000, pad_type: CODE_READ, ..data };
        sregs.tr = SegmentRegister { s: 0, pad_type: BUSY_TASK, ..data };
        sregs.ldt = SegmentRegister { s: 0, pad_type: LOCAL_TABLE, ..data };
        let table = TableRegister { limit: 0xffff, ..TableRegister::new_zeroed() };
        (sregs.gdt, sregs.idt) = (table, table);
        call(&*self.kernel, &self.handle, &request::SET_SREGS, &mut Payload::of(&sregs))?;
        let regs =
            Regs { rdx: signature.into(), rip: u64::from(address & 0xffff), rflags: 2, ..Regs::new_zeroed() };
        call(&*self.kernel, &self.handle, &request::SET_REGS, &mut Payload::of(&regs)).map(drop)
    }
}

fn check(kernel: &dyn Kernel, handle: &Handle, capability: Capability) -> Result<u32, Error> {
    let answer =
        call(kernel, handle, &request::CHECK_EXTENSION, &mut Payload::of_value(capability.0.into()))?;
    u32::try_from(answer)
        .map_err(|_| Error::Answer { command: request::CHECK_EXTENSION.name(), what: "a negative number" })
}

fn call(
    kernel: &dyn Kernel,
    handle: &Handle,
    request: &'static Request,
    payload: &mut Payload<'_>,
) -> Result<i32, Error> {
    let answer = kernel.call(handle, request, payload);
    tracing::trace!(name = request.name(), ?answer, "kvm_ioctl");
    answer.map_err(|errno| failed(request, errno))
}

fn create(
    kernel: &dyn Kernel,
    handle: &Handle,
    request: &'static Request,
    number: u32,
) -> Result<Handle, Error> {
    let answer = kernel.create(handle, request, &mut Payload::of_value(number.into()));
    tracing::trace!(name = request.name(), made = answer.is_ok(), "kvm_ioctl");
    answer.map_err(|errno| failed(request, errno))
}

fn failed(request: &Request, errno: crate::Errno) -> Error {
    Error::Ioctl { name: request.name(), errno, hint: ioctl_hint(request.name(), errno) }
}

const API_VERSION: i32 = 12;

/// `KVM_MEM_READONLY`.
const READ_ONLY: u32 = 1 << 1;

// Types of segments: AMD64 Architecture Programmer's Manual, volume 2, 4.8.1 to 4.8.3.
const DATA_WRITTEN: u8 = 3;
const CODE_READ: u8 = 0xb;
const BUSY_TASK: u8 = 0xb;
const LOCAL_TABLE: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Errno, FakeKernel};

    fn vm(fake: FakeKernel) -> (Arc<FakeKernel>, Vm) {
        let fake = Arc::new(fake);
        let kvm = Kvm::open(Arc::clone(&fake) as Arc<dyn Kernel>).unwrap();
        (fake, kvm.create_vm(VmType::DEFAULT).unwrap())
    }

    #[test]
    fn kvm_api_4_1_any_version_but_12_is_refused() {
        let fake = FakeKernel::with_kvm().returns("KVM_GET_API_VERSION", 11);
        let error = Kvm::open(Arc::new(fake)).unwrap_err();
        assert_eq!(error, Error::ApiVersion { found: 11 });
        assert!(error.to_string().contains("version 11"));
    }

    #[test]
    fn kvm_cap_ppc_secure_guest_is_checked_then_enabled_with_one() {
        let (fake, vm) = vm(FakeKernel::with_kvm().capability(Capability::PPC_SECURE_GUEST, 1));
        vm.enable_secure_guest().unwrap();
        let calls = fake.calls();
        let last = calls.last().unwrap();
        assert_eq!(last.name, "KVM_ENABLE_CAP");
        assert_eq!(last.bytes[..4], 181u32.to_ne_bytes());
        assert_eq!(last.bytes[8..16], 1u64.to_ne_bytes());
        let (_, vm) = self::vm(FakeKernel::with_kvm());
        let text = vm.enable_secure_guest().unwrap_err().to_string();
        assert!(text.contains("KVM_CAP_PPC_SECURE_GUEST (capability 181)") && text.contains("Ultravisor"));
    }

    #[test]
    fn kvm_ppc_svm_off_is_no_error_on_a_kernel_without_secure_vms() {
        let (_, vm) = vm(FakeKernel::with_kvm());
        vm.svm_off().unwrap();
        for errno in [Errno::INVALID, Errno::BUSY, Errno::NO_MEMORY] {
            let (_, vm) = self::vm(FakeKernel::with_kvm().fails("KVM_PPC_SVM_OFF", errno));
            let error = vm.svm_off().unwrap_err();
            assert!(matches!(error, Error::Ioctl { errno: found, .. } if found == errno), "{error}");
        }
    }

    #[test]
    fn a_busy_processor_is_told_with_the_way_out() {
        let fake = FakeKernel::with_kvm().fails("KVM_CREATE_VM", Errno::BUSY);
        let error = Kvm::open(Arc::new(fake)).unwrap().create_vm(VmType::DEFAULT).unwrap_err();
        assert!(error.to_string().starts_with("KVM_CREATE_VM failed: EBUSY: another hypervisor"), "{error}");
    }

    #[test]
    fn a_region_is_registered_by_the_place_of_the_memory() {
        let mut memory = vec![0u8; 8192];
        let slice = vm_memory::VolatileSlice::from(&mut memory[..]);
        let range = GuestRange::of(&slice);
        let (fake, vm) = vm(FakeKernel::with_kvm().returns("KVM_MEMORY_ENCRYPT_REG_REGION", 0));
        vm.register_region(range).unwrap();
        let calls = fake.calls();
        let call = calls.last().unwrap();
        assert_eq!(call.bytes[8..], 8192u64.to_ne_bytes());
        assert_eq!(call.links, [(0, crate::CallLink::Guest { address: range.address(), length: 8192 })]);
    }
}
