//! The structures of the ioctls, each declared once: as a Rust type, and as a [`Layout`] for checks and tests.
//!
//! Linux, include/uapi/linux/kvm.h, arch/x86/include/uapi/asm/kvm.h and include/uapi/linux/psp-sev.h. Padding
//! is written out, because bytes that are not ours must not reach the kernel.

use std::mem::{offset_of, size_of};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// One structure, as the kernel's headers have it.
#[derive(Debug)]
pub struct Layout {
    /// Its C name, with `struct`.
    pub name: &'static str,
    /// Its size.
    pub size: usize,
    /// Its fields and their offsets. Padding has names that begin with `pad`; headers often leave it unnamed.
    pub fields: &'static [(&'static str, usize)],
    /// Where the kernel goes on from it.
    pub(crate) reach: &'static [Reach],
}

/// How the kernel gets from a structure to other memory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reach {
    /// A pointer at `pointer` to as many bytes as the `u32` at `length` says.
    Length32 { pointer: usize, length: usize },
    /// The same with a `u64`.
    Length64 { pointer: usize, length: usize },
    /// The `u32` here says how far the kernel may write into this very structure.
    Own32 { length: usize },
}

/// A structure that the kernel reads or writes.
pub(crate) trait Structure: FromBytes + IntoBytes + Immutable + KnownLayout {
    const AS_C: Layout;
}

/// All structures, for the comparison with the kernel's headers.
pub const LAYOUTS: &[&Layout] = &[
    &SevCmd::AS_C,
    &SevInit::AS_C,
    &SevLaunchStart::AS_C,
    &SevLaunchUpdateData::AS_C,
    &SevLaunchSecret::AS_C,
    &SevLaunchMeasure::AS_C,
    &SevGuestStatus::AS_C,
    &SevDbg::AS_C,
    &SevAttestationReport::AS_C,
    &SevSendStart::AS_C,
    &SevSendUpdateData::AS_C,
    &SevReceiveStart::AS_C,
    &SevReceiveUpdateData::AS_C,
    &EncRegion::AS_C,
    &IssueCmd::AS_C,
    &UserDataStatus::AS_C,
    &UserDataPekCsr::AS_C,
    &UserDataPekCertImport::AS_C,
    &UserDataPdhCertExport::AS_C,
    &UserDataGetId2::AS_C,
    &PvCmd::AS_C,
    &PvSecParm::AS_C,
    &PvUnp::AS_C,
    &PvDmp::AS_C,
    &PvInfo::AS_C,
    &PvInfoDump::AS_C,
    &PvInfoVm::AS_C,
    &EnableCap::AS_C,
    &UserMemoryRegion::AS_C,
    &Regs::AS_C,
    &SegmentRegister::AS_C,
    &TableRegister::AS_C,
    &Sregs::AS_C,
];

macro_rules! structures {
    ($($(#[$meta:meta])* $name:ident = $c:literal { $($field:ident : $type:ty),* $(,)? } $([$($reach:expr),* $(,)?])?)*) => {
        $(
            #[doc = concat!("`", $c, "`.")]
            $(#[$meta])*
            #[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
            pub(crate) struct $name { $(pub(crate) $field: $type),* }

            impl Structure for $name {
                const AS_C: Layout = Layout {
                    name: $c,
                    size: size_of::<$name>(),
                    fields: &[$((stringify!($field), offset_of!($name, $field))),*],
                    reach: &[$($($reach),*)?],
                };
            }
        )*
    };
}

macro_rules! reach32 {
    ($name:ident, $pointer:ident, $length:ident) => {
        Reach::Length32 { pointer: offset_of!($name, $pointer), length: offset_of!($name, $length) }
    };
}

macro_rules! reach64 {
    ($name:ident, $pointer:ident, $length:ident) => {
        Reach::Length64 { pointer: offset_of!($name, $pointer), length: offset_of!($name, $length) }
    };
}

structures! {
    #[repr(C)]
    SevCmd = "struct kvm_sev_cmd" { id: u32, pad0: u32, data: u64, error: u32, sev_fd: u32 }

    #[repr(C)]
    SevInit = "struct kvm_sev_init" {
        vmsa_features: u64, flags: u32, ghcb_version: u16, pad1: u16, pad2: [u32; 8],
    }

    #[repr(C)]
    SevLaunchStart = "struct kvm_sev_launch_start" {
        handle: u32, policy: u32, dh_uaddr: u64, dh_len: u32, pad0: u32, session_uaddr: u64, session_len: u32,
        pad1: u32,
    } [reach32!(SevLaunchStart, dh_uaddr, dh_len), reach32!(SevLaunchStart, session_uaddr, session_len)]

    #[repr(C)]
    SevLaunchUpdateData = "struct kvm_sev_launch_update_data" { uaddr: u64, len: u32, pad0: u32 }
    [reach32!(SevLaunchUpdateData, uaddr, len)]

    #[repr(C)]
    SevLaunchSecret = "struct kvm_sev_launch_secret" {
        hdr_uaddr: u64, hdr_len: u32, pad0: u32, guest_uaddr: u64, guest_len: u32, pad1: u32, trans_uaddr: u64,
        trans_len: u32, pad2: u32,
    } [
        reach32!(SevLaunchSecret, hdr_uaddr, hdr_len),
        reach32!(SevLaunchSecret, guest_uaddr, guest_len),
        reach32!(SevLaunchSecret, trans_uaddr, trans_len),
    ]

    #[repr(C)]
    SevLaunchMeasure = "struct kvm_sev_launch_measure" { uaddr: u64, len: u32, pad0: u32 }
    [reach32!(SevLaunchMeasure, uaddr, len)]

    #[repr(C)]
    SevGuestStatus = "struct kvm_sev_guest_status" { handle: u32, policy: u32, state: u32 }

    #[repr(C)]
    SevDbg = "struct kvm_sev_dbg" { src_uaddr: u64, dst_uaddr: u64, len: u32, pad0: u32 }
    [reach32!(SevDbg, src_uaddr, len), reach32!(SevDbg, dst_uaddr, len)]

    #[repr(C)]
    SevAttestationReport = "struct kvm_sev_attestation_report" {
        mnonce: [u8; 16], uaddr: u64, len: u32, pad0: u32,
    } [reach32!(SevAttestationReport, uaddr, len)]

    #[repr(C)]
    SevSendStart = "struct kvm_sev_send_start" {
        policy: u32, pad0: u32, pdh_cert_uaddr: u64, pdh_cert_len: u32, pad1: u32, plat_certs_uaddr: u64,
        plat_certs_len: u32, pad2: u32, amd_certs_uaddr: u64, amd_certs_len: u32, pad3: u32, session_uaddr: u64,
        session_len: u32, pad4: u32,
    } [
        reach32!(SevSendStart, pdh_cert_uaddr, pdh_cert_len),
        reach32!(SevSendStart, plat_certs_uaddr, plat_certs_len),
        reach32!(SevSendStart, amd_certs_uaddr, amd_certs_len),
        reach32!(SevSendStart, session_uaddr, session_len),
    ]

    #[repr(C)]
    SevSendUpdateData = "struct kvm_sev_send_update_data" {
        hdr_uaddr: u64, hdr_len: u32, pad0: u32, guest_uaddr: u64, guest_len: u32, pad1: u32, trans_uaddr: u64,
        trans_len: u32, pad2: u32,
    } [
        reach32!(SevSendUpdateData, hdr_uaddr, hdr_len),
        reach32!(SevSendUpdateData, guest_uaddr, guest_len),
        reach32!(SevSendUpdateData, trans_uaddr, trans_len),
    ]

    #[repr(C)]
    SevReceiveStart = "struct kvm_sev_receive_start" {
        handle: u32, policy: u32, pdh_uaddr: u64, pdh_len: u32, pad0: u32, session_uaddr: u64, session_len: u32,
        pad1: u32,
    } [reach32!(SevReceiveStart, pdh_uaddr, pdh_len), reach32!(SevReceiveStart, session_uaddr, session_len)]

    #[repr(C)]
    SevReceiveUpdateData = "struct kvm_sev_receive_update_data" {
        hdr_uaddr: u64, hdr_len: u32, pad0: u32, guest_uaddr: u64, guest_len: u32, pad1: u32, trans_uaddr: u64,
        trans_len: u32, pad2: u32,
    } [
        reach32!(SevReceiveUpdateData, hdr_uaddr, hdr_len),
        reach32!(SevReceiveUpdateData, guest_uaddr, guest_len),
        reach32!(SevReceiveUpdateData, trans_uaddr, trans_len),
    ]

    #[repr(C)]
    EncRegion = "struct kvm_enc_region" { addr: u64, size: u64 } [reach64!(EncRegion, addr, size)]

    #[repr(C, packed)]
    IssueCmd = "struct sev_issue_cmd" { cmd: u32, data: u64, error: u32 }

    #[repr(C, packed)]
    UserDataStatus = "struct sev_user_data_status" {
        api_major: u8, api_minor: u8, state: u8, flags: u32, build: u8, guest_count: u32,
    }

    #[repr(C, packed)]
    UserDataPekCsr = "struct sev_user_data_pek_csr" { address: u64, length: u32 }
    [reach32!(UserDataPekCsr, address, length)]

    #[repr(C, packed)]
    UserDataPekCertImport = "struct sev_user_data_pek_cert_import" {
        pek_cert_address: u64, pek_cert_len: u32, oca_cert_address: u64, oca_cert_len: u32,
    } [
        reach32!(UserDataPekCertImport, pek_cert_address, pek_cert_len),
        reach32!(UserDataPekCertImport, oca_cert_address, oca_cert_len),
    ]

    #[repr(C, packed)]
    UserDataPdhCertExport = "struct sev_user_data_pdh_cert_export" {
        pdh_cert_address: u64, pdh_cert_len: u32, cert_chain_address: u64, cert_chain_len: u32,
    } [
        reach32!(UserDataPdhCertExport, pdh_cert_address, pdh_cert_len),
        reach32!(UserDataPdhCertExport, cert_chain_address, cert_chain_len),
    ]

    #[repr(C, packed)]
    UserDataGetId2 = "struct sev_user_data_get_id2" { address: u64, length: u32 }
    [reach32!(UserDataGetId2, address, length)]

    #[repr(C)]
    PvCmd = "struct kvm_pv_cmd" { cmd: u32, rc: u16, rrc: u16, data: u64, flags: u32, reserved: [u32; 3] }

    #[repr(C)]
    PvSecParm = "struct kvm_s390_pv_sec_parm" { origin: u64, length: u64 } [reach64!(PvSecParm, origin, length)]

    #[repr(C)]
    PvUnp = "struct kvm_s390_pv_unp" { addr: u64, size: u64, tweak: u64 }

    #[repr(C)]
    PvDmp = "struct kvm_s390_pv_dmp" {
        subcmd: u64, buff_addr: u64, buff_len: u64, gaddr: u64, reserved: [u64; 4],
    } [reach64!(PvDmp, buff_addr, buff_len)]

    // The header's four fields, then the union, here as the longer of its two members.
    #[repr(C)]
    PvInfo = "struct kvm_s390_pv_info" { header: [u32; 4], vm: PvInfoVm }
    [Reach::Own32 { length: offset_of!(PvInfo, header) + 4 }]

    #[repr(C)]
    PvInfoDump = "struct kvm_s390_pv_info_dump" {
        dump_cpu_buffer_len: u64, dump_config_mem_buffer_per_1m: u64, dump_config_finalize_len: u64,
    }

    #[repr(C)]
    PvInfoVm = "struct kvm_s390_pv_info_vm" {
        inst_calls_list: [u64; 4], max_cpus: u64, max_guests: u64, max_guest_addr: u64, feature_indication: u64,
    }

    #[repr(C)]
    EnableCap = "struct kvm_enable_cap" { cap: u32, flags: u32, args: [u64; 4], pad: [u8; 64] }

    #[repr(C)]
    UserMemoryRegion = "struct kvm_userspace_memory_region" {
        slot: u32, flags: u32, guest_phys_addr: u64, memory_size: u64, userspace_addr: u64,
    } [reach64!(UserMemoryRegion, userspace_addr, memory_size)]

    // The registers are those of x86.
    #[repr(C)]
    Regs = "struct kvm_regs" {
        rax: u64, rbx: u64, rcx: u64, rdx: u64, rsi: u64, rdi: u64, rsp: u64, rbp: u64, r8: u64, r9: u64,
        r10: u64, r11: u64, r12: u64, r13: u64, r14: u64, r15: u64, rip: u64, rflags: u64,
    }

    // `pad_type` is `type`, which is a word of Rust's.
    #[repr(C)]
    SegmentRegister = "struct kvm_segment" {
        base: u64, limit: u32, selector: u16, pad_type: u8, present: u8, dpl: u8, db: u8, s: u8, l: u8, g: u8,
        avl: u8, unusable: u8, padding: u8,
    }

    #[repr(C)]
    TableRegister = "struct kvm_dtable" { base: u64, limit: u16, padding: [u16; 3] }

    #[repr(C)]
    Sregs = "struct kvm_sregs" {
        cs: SegmentRegister, ds: SegmentRegister, es: SegmentRegister, fs: SegmentRegister,
        gs: SegmentRegister, ss: SegmentRegister, tr: SegmentRegister, ldt: SegmentRegister,
        gdt: TableRegister, idt: TableRegister, cr0: u64, cr2: u64, cr3: u64, cr4: u64, cr8: u64, efer: u64,
        apic_base: u64, interrupt_bitmap: [u64; 4],
    }
}
