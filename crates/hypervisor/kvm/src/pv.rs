//! IBM Z protected virtualization: `KVM_S390_PV_COMMAND` on a VM, `KVM_S390_PV_CPU_COMMAND` on a CPU.
//!
//! Linux, Documentation/virt/kvm/api.rst, 4.125 and 4.134; Documentation/virt/kvm/s390/s390-pv.rst. The
//! Ultravisor's codes come back as they are.

use crate::error::{Errno, Error, pv_hint};
use crate::kernel::{Handle, Kernel};
use crate::layout::{PvCmd, PvDmp, PvInfo, PvInfoDump, PvInfoVm, PvSecParm, PvUnp, Structure};
use crate::payload::{Payload, Pointee};
use crate::request::{self, Frame, Request};
use crate::vm::{Vcpu, Vm};
use std::mem::{offset_of, size_of};
use zerocopy::FromZeros;

/// A VM whose memory the Ultravisor protects, or is to protect.
#[derive(Clone, Debug)]
pub struct ProtectedVm {
    vm: Vm,
}

/// Answer of `KVM_PV_INFO` for VMs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct InfoVm {
    /// Ultravisor calls that are installed.
    pub installed_calls: [u64; 4],
    /// CPUs that a protected VM may have.
    pub max_cpus: u64,
    /// Protected VMs that the host may have.
    pub max_guests: u64,
    /// Highest address of a protected VM.
    pub max_guest_address: u64,
    /// Features of the Ultravisor.
    pub features: u64,
}

/// Answer of `KVM_PV_INFO` for dumps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct InfoDump {
    /// Bytes for a CPU.
    pub cpu: u64,
    /// Bytes for a megabyte of guest memory.
    pub memory_per_megabyte: u64,
    /// Bytes for the end.
    pub finalize: u64,
}

/// Steps of a dump that answer with data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dump {
    /// The state of storage from a guest address on. How far the kernel got is told beside.
    Storage {
        /// Where to begin.
        guest_address: u64,
    },
    /// The end, with the key for the rest.
    Complete,
}

impl Vm {
    /// The commands for protected virtualization.
    pub fn protected(&self) -> ProtectedVm {
        ProtectedVm { vm: self.clone() }
    }
}

impl ProtectedVm {
    /// Registers the VM and its CPUs with the Ultravisor.
    pub fn enable(&self) -> Result<(), Error> {
        self.without(&request::PV_ENABLE)
    }

    /// Takes the VM and its CPUs out of the Ultravisor's care.
    pub fn disable(&self) -> Result<(), Error> {
        self.without(&request::PV_DISABLE)
    }

    /// Passes the image's header.
    pub fn set_sec_parms(&self, header: &[u8]) -> Result<(), Error> {
        let block = PvSecParm { length: header.len() as u64, ..PvSecParm::new_zeroed() };
        let data = Payload::of(&block).pointing_to_bytes(offset_of!(PvSecParm, origin), header);
        self.with(&request::PV_SET_SEC_PARMS, data).map(drop)
    }

    /// Decrypts a part of the image in guest memory. Address and size are the guest's.
    pub fn unpack(&self, address: u64, size: u64, tweak: u64) -> Result<(), Error> {
        self.with(&request::PV_UNPACK, Payload::of(&PvUnp { addr: address, size, tweak })).map(drop)
    }

    /// Compares the image in memory with its header.
    pub fn verify(&self) -> Result<(), Error> {
        self.without(&request::PV_VERIFY)
    }

    /// Prepares the Ultravisor for a reset of the VM.
    pub fn prep_reset(&self) -> Result<(), Error> {
        self.without(&request::PV_PREP_RESET)
    }

    /// Makes shared pages private again.
    pub fn unshare_all(&self) -> Result<(), Error> {
        self.without(&request::PV_UNSHARE_ALL)
    }

    /// What the Ultravisor offers to VMs.
    pub fn info_vm(&self) -> Result<InfoVm, Error> {
        let vm: PvInfoVm = self.info(INFO_VM)?;
        Ok(InfoVm {
            installed_calls: vm.inst_calls_list,
            max_cpus: vm.max_cpus,
            max_guests: vm.max_guests,
            max_guest_address: vm.max_guest_addr,
            features: vm.feature_indication,
        })
    }

    /// How much room a dump needs.
    pub fn info_dump(&self) -> Result<InfoDump, Error> {
        let dump: PvInfoDump = self.info(INFO_DUMP)?;
        Ok(InfoDump {
            cpu: dump.dump_cpu_buffer_len,
            memory_per_megabyte: dump.dump_config_mem_buffer_per_1m,
            finalize: dump.dump_config_finalize_len,
        })
    }

    /// Begins a dump.
    pub fn dump_init(&self) -> Result<(), Error> {
        self.with(&request::PV_DUMP, Payload::of(&PvDmp { subcmd: DUMP_INIT, ..PvDmp::new_zeroed() }))
            .map(drop)
    }

    /// A step of a dump: the bytes that the Ultravisor wrote, of at most `room`, and the guest address to go
    /// on from.
    pub fn dump(&self, step: Dump, room: usize) -> Result<(Vec<u8>, u64), Error> {
        let (subcmd, gaddr) = match step {
            Dump::Storage { guest_address } => (DUMP_STORAGE, guest_address),
            Dump::Complete => (DUMP_COMPLETE, 0),
        };
        dump(&*self.vm.kernel, &self.vm.handle, &request::PV_DUMP, subcmd, gaddr, room)
    }

    /// Sets the memory of the VM aside, so that it can be started again before it has been cleared.
    pub fn async_cleanup_prepare(&self) -> Result<(), Error> {
        self.without(&request::PV_ASYNC_CLEANUP_PREPARE)
    }

    /// Clears what was set aside. Takes long; meant for a thread of its own.
    pub fn async_cleanup_perform(&self) -> Result<(), Error> {
        self.without(&request::PV_ASYNC_CLEANUP_PERFORM)
    }

    fn info<T: Structure>(&self, id: u32) -> Result<T, Error> {
        let request = &request::PV_INFO;
        let header = size_of::<PvInfo>() - size_of::<PvInfoVm>();
        let room = (header + size_of::<T>()) as u32;
        let block = PvInfo { header: [id, room, 0, 0], ..PvInfo::new_zeroed() };
        let data = self.with(request, Payload::of(&block))?;
        let written: PvInfo = answer(request, data.read())?;
        if (written.header[2] as usize) < header + size_of::<T>() {
            return Err(Error::Answer { command: request.name(), what: "less than the structure asked for" });
        }
        answer(
            request,
            data.bytes().get(header..).and_then(|rest| T::read_from_prefix(rest).ok()).map(|(t, _)| t),
        )
    }

    fn without(&self, request: &'static Request) -> Result<(), Error> {
        command(&*self.vm.kernel, &self.vm.handle, request, None).map(drop)
    }

    fn with<'a>(&self, request: &'static Request, data: Payload<'a>) -> Result<Payload<'a>, Error> {
        command(&*self.vm.kernel, &self.vm.handle, request, Some(data))
    }
}

impl Vcpu {
    /// The state of this CPU for a dump, encrypted for the image's owner.
    pub fn pv_dump(&self, room: usize) -> Result<Vec<u8>, Error> {
        dump(&*self.kernel, &self.handle, &request::PV_CPU_DUMP, DUMP_CPU, 0, room).map(|(bytes, _)| bytes)
    }
}

fn dump(
    kernel: &dyn Kernel,
    on: &Handle,
    request: &'static Request,
    subcmd: u64,
    gaddr: u64,
    room: usize,
) -> Result<(Vec<u8>, u64), Error> {
    let at = offset_of!(PvDmp, buff_addr);
    let block = PvDmp { subcmd, buff_len: room as u64, gaddr, ..PvDmp::new_zeroed() };
    let data = Payload::of(&block).pointing(at, Pointee::Block(Payload::of_length(room)));
    let mut data = command(kernel, on, request, Some(data))?;
    let written: PvDmp = answer(request, data.read())?;
    let mut bytes = data.take_bytes(at);
    // The kernel takes what it has written off the room that is left.
    let left = usize::try_from(written.buff_len).ok().filter(|left| *left <= bytes.len());
    match (left, subcmd) {
        (Some(left), DUMP_STORAGE) => bytes.truncate(bytes.len() - left),
        (Some(_), _) => {}
        (None, _) => {
            return Err(Error::Answer { command: request.name(), what: "more room than it was given" });
        }
    }
    Ok((bytes, written.gaddr))
}

fn command<'a>(
    kernel: &dyn Kernel,
    on: &Handle,
    request: &'static Request,
    data: Option<Payload<'a>>,
) -> Result<Payload<'a>, Error> {
    let block = PvCmd { cmd: request.command().unwrap_or(u32::MAX), ..PvCmd::new_zeroed() };
    let mut payload = Payload::of(&block);
    if let Some(data) = data {
        payload = payload.pointing(Frame::Pv.data(), Pointee::Block(data));
    }
    let result = loop {
        match kernel.call(on, request, &mut payload) {
            // A signal may come while the Ultravisor works; the kernel wants the command again.
            Err(Errno::INTERRUPTED) => {}
            result => break result,
        }
    };
    let (rc, rrc) = payload.read::<PvCmd>().map_or((0, 0), |block| (block.rc, block.rrc));
    tracing::debug!(command = request.name(), ?result, rc, rrc, "kvm_s390_pv");
    match result {
        Ok(_) => Ok(payload.block_mut(Frame::Pv.data()).map(std::mem::take).unwrap_or_default()),
        Err(errno) => {
            let command = request.name();
            Err(Error::Pv { command, errno, rc, rrc, hint: pv_hint(command, errno, rc) })
        }
    }
}

fn answer<T>(request: &Request, read: Option<T>) -> Result<T, Error> {
    read.ok_or(Error::Answer { command: request.name(), what: "a structure of another size" })
}

const INFO_VM: u32 = 0;
const INFO_DUMP: u32 = 1;
const DUMP_INIT: u64 = 0;
const DUMP_STORAGE: u64 = 1;
const DUMP_COMPLETE: u64 = 2;
const DUMP_CPU: u64 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FakeKernel, Kvm, VmType};
    use std::sync::Arc;
    use zerocopy::{FromBytes, IntoBytes};

    const DATA: usize = 8;

    fn vm(fake: FakeKernel) -> (Arc<FakeKernel>, Vm) {
        let fake = Arc::new(fake);
        let kvm = Kvm::open(Arc::clone(&fake) as Arc<dyn Kernel>).unwrap();
        (fake, kvm.create_vm(VmType::DEFAULT).unwrap())
    }

    #[test]
    fn kvm_api_4_125_every_command_carries_its_number() {
        let names = [
            "KVM_PV_ENABLE",
            "KVM_PV_DISABLE",
            "KVM_PV_SET_SEC_PARMS",
            "KVM_PV_UNPACK",
            "KVM_PV_VERIFY",
            "KVM_PV_PREP_RESET",
            "KVM_PV_UNSHARE_ALL",
            "KVM_PV_DUMP",
            "KVM_PV_ASYNC_CLEANUP_PREPARE",
            "KVM_PV_ASYNC_CLEANUP_PERFORM",
        ];
        let fake = names.into_iter().fold(FakeKernel::with_kvm(), |fake, name| fake.returns(name, 0));
        let (fake, vm) = vm(fake);
        let pv = vm.protected();
        pv.enable().unwrap();
        pv.disable().unwrap();
        pv.set_sec_parms(&[9; 640]).unwrap();
        pv.unpack(0x10000, 0x1000, 7).unwrap();
        pv.verify().unwrap();
        pv.prep_reset().unwrap();
        pv.unshare_all().unwrap();
        pv.dump_init().unwrap();
        pv.async_cleanup_prepare().unwrap();
        pv.async_cleanup_perform().unwrap();
        let calls = fake.calls();
        let numbers: Vec<_> =
            calls.iter().filter(|call| !call.bytes.is_empty()).map(|call| call.bytes[0]).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 8, 9, 10]);
        let header = calls.iter().find(|call| call.name == "KVM_PV_SET_SEC_PARMS").unwrap();
        let crate::CallLink::Block(bytes, links) = &header.links[0].1 else { panic!("no block") };
        assert_eq!(bytes[8..], 640u64.to_ne_bytes());
        assert_eq!(links[0].1, crate::CallLink::Block(vec![9; 640], Vec::new()));
    }

    #[test]
    fn s390_pv_return_codes_reach_the_caller_in_words() {
        let fake = FakeKernel::with_kvm().answers("KVM_PV_SET_SEC_PARMS", |payload| {
            payload.bytes_mut()[4..6].copy_from_slice(&0x108u16.to_ne_bytes());
            payload.bytes_mut()[6..8].copy_from_slice(&3u16.to_ne_bytes());
            Err(Errno::INVALID)
        });
        let (_, vm) = vm(fake);
        let error = vm.protected().set_sec_parms(&[0; 640]).unwrap_err();
        assert!(matches!(error, Error::Pv { rc: 0x108, rrc: 3, .. }));
        let text = error.to_string();
        assert!(text.starts_with(
            "KVM_PV_SET_SEC_PARMS failed: EINVAL, Ultravisor rc 0x0108 rrc 0x0003: the image's"
        ));
    }

    #[test]
    fn kvm_api_4_125_an_interrupted_command_is_made_again() {
        let mut signals = 3;
        let fake = FakeKernel::with_kvm().answers("KVM_PV_ENABLE", move |_| {
            signals -= 1;
            if signals > 0 { Err(Errno::INTERRUPTED) } else { Ok(0) }
        });
        let (fake, vm) = vm(fake);
        vm.protected().enable().unwrap();
        assert_eq!(fake.calls().iter().filter(|call| call.name == "KVM_PV_ENABLE").count(), 3);
    }

    #[test]
    fn kvm_pv_info_is_read_only_as_far_as_the_kernel_wrote() {
        let info = |written: u32| {
            FakeKernel::with_kvm().answers("KVM_PV_INFO", move |payload| {
                let data = payload.block_mut(DATA).unwrap();
                let mut block = PvInfo::read_from_bytes(data.bytes()).unwrap();
                block.header[2] = written;
                block.vm.max_cpus = 248;
                block.vm.inst_calls_list[0] = 1;
                data.bytes_mut().copy_from_slice(block.as_bytes());
                Ok(0)
            })
        };
        let (fake, vm) = vm(info(80));
        assert_eq!(vm.protected().info_vm().unwrap().max_cpus, 248);
        assert_eq!(vm.protected().info_dump().unwrap().cpu, 1);
        let calls = fake.calls();
        let crate::CallLink::Block(asked, _) = &calls.last().unwrap().links[0].1 else { panic!("no block") };
        assert_eq!(asked[..8], [1u32.to_ne_bytes(), 40u32.to_ne_bytes()].concat());
        let (_, vm) = self::vm(info(79));
        assert!(matches!(vm.protected().info_vm(), Err(Error::Answer { .. })));
    }

    #[test]
    fn kvm_pv_dump_of_storage_says_how_far_it_came() {
        let fake = FakeKernel::with_kvm().answers("KVM_PV_DUMP", |payload| {
            let data = payload.block_mut(DATA).unwrap();
            let mut block = PvDmp::read_from_bytes(data.bytes()).unwrap();
            if block.subcmd == DUMP_STORAGE {
                block.buff_len -= 64;
                block.gaddr += 0x10_0000;
            }
            data.bytes_mut().copy_from_slice(block.as_bytes());
            Ok(0)
        });
        let (_, vm) = vm(fake);
        let (bytes, next) = vm.protected().dump(Dump::Storage { guest_address: 0 }, 256).unwrap();
        assert_eq!((bytes.len(), next), (64, 0x10_0000));
        assert_eq!(vm.protected().dump(Dump::Complete, 100).unwrap().0.len(), 100);
        assert_eq!(vm.create_vcpu(0).unwrap().pv_dump(32).unwrap().len(), 32);
    }
}
