//! The save area of a virtual CPU under SEV-ES (VMSA): what is measured, register by register.
//!
//! Offsets and names are those of the "AMD64 Architecture Programmer's Manual", volume 2, appendix B, table "VMSA
//! layout, state save area for SEV-ES".

use std::fmt;

use super::PAGE_SIZE;
use super::layout::{get, put};
use crate::Error;
use crate::codec::need;

const WHAT: &str = "VMSA";

/// A save area, 4096 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Vmsa(Box<[u8; PAGE_SIZE]>);

/// Which initial state a VMM measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VmsaForm {
    /// KVM_SEV_ES_INIT and the VM type of old: no state of the floating-point unit.
    Legacy,
    /// KVM_SEV_INIT2: the state of the floating-point unit is there.
    Init2,
}

/// A segment register or descriptor table register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Selector.
    pub selector: u16,
    /// Attributes.
    pub attributes: u16,
    /// Limit.
    pub limit: u32,
    /// Base address.
    pub base: u64,
}

/// Content of a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// A number.
    Number(u64),
    /// A segment.
    Segment(Segment),
}

/// Family, model and stepping as CPUID function 1 gives them in EAX, which a CPU has in EDX after reset.
pub const fn cpu_signature(family: u32, model: u32, stepping: u32) -> u32 {
    let (base, extended) = if family > 0xf { (0xf, family - 0xf) } else { (family, 0) };
    ((extended & 0xff) << 20)
        | (((model >> 4) & 0xf) << 16)
        | (base << 8)
        | ((model & 0xf) << 4)
        | (stepping & 0xf)
}

impl Vmsa {
    /// Offset of the field that LAUNCH_UPDATE_VMSA clears.
    pub const CLEARED: usize = 0x380;
    /// Offset of the field where LAUNCH_UPDATE_VMSA puts the address of the CRC.
    pub const CRC_ADDRESS: usize = 0x388;
    /// Bytes that the CRC covers.
    pub const CRC_SIZE: usize = 0xfc0;

    /// The state of the first CPU after reset.
    pub fn boot(form: VmsaForm, signature: u32) -> Self {
        Self::reset(form, signature, 0xffff_0000, 0xfff0)
    }

    /// The state of any other CPU, which starts at the reset address of the firmware's table.
    pub fn application(form: VmsaForm, signature: u32, reset_address: u32) -> Self {
        Self::reset(form, signature, reset_address & 0xffff_0000, reset_address & 0xffff)
    }

    /// Takes exactly one page.
    ///
    /// # Errors
    /// If there are more or fewer bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        need(WHAT, bytes, PAGE_SIZE)?;
        <[u8; PAGE_SIZE]>::try_from(bytes).map(|bytes| Self(Box::new(bytes))).map_err(|_| Error::Field {
            what: WHAT,
            field: "length",
            found: bytes.len() as u64,
            rule: "a save area has 4096 bytes",
        })
    }

    /// The page.
    pub const fn as_bytes(&self) -> &[u8; PAGE_SIZE] {
        &self.0
    }

    /// The bytes for a file.
    pub fn encode(&self) -> Vec<u8> {
        self.0.to_vec()
    }

    /// A register by its name in [`Self::registers`].
    pub fn register(&self, name: &str) -> Option<Value> {
        REGISTERS.iter().find(|register| register.name == name).map(|register| self.value(register))
    }

    /// All registers in the order of their offsets: offset, name, content.
    pub fn registers(&self) -> impl Iterator<Item = (usize, &'static str, Value)> {
        REGISTERS.iter().map(|register| (register.offset, register.name, self.value(register)))
    }

    /// Sets a register that holds a number; higher bits than it has are left out. `false` if there is no such one.
    pub fn set_number(&mut self, name: &str, value: u64) -> bool {
        let found = REGISTERS.iter().find(|register| register.name == name && register.kind != Kind::Segment);
        if let Some(register) = found {
            let size = register.kind as usize;
            self.0[register.offset..register.offset + size].copy_from_slice(&value.to_le_bytes()[..size]);
        }
        found.is_some()
    }

    /// The first offset whose byte differs from `other`, with the register it belongs to.
    pub fn difference(&self, other: &Self) -> Option<(usize, Option<&'static str>)> {
        let at = self.0.iter().zip(other.0.iter()).position(|(a, b)| a != b)?;
        let covers =
            |register: &&Register| (register.offset..register.offset + register.kind as usize).contains(&at);
        Some((at, REGISTERS.iter().find(covers).map(|register| register.name)))
    }

    /// The CRC that the firmware keeps apart, with the three streams that it is made of.
    pub fn crc(&self) -> (u64, [u32; 3]) {
        crc_with_streams(&self.0)
    }

    /// The field with the address of the CRC, and the cleared field before it, as LAUNCH_UPDATE_VMSA leaves them.
    pub fn set_crc_address(&mut self, address: u64) {
        put(&mut self.0[..], Self::CLEARED, &0u64);
        put(&mut self.0[..], Self::CRC_ADDRESS, &address);
    }

    /// The field with the address of the CRC.
    pub fn crc_address(&self) -> u64 {
        get(&self.0[..], Self::CRC_ADDRESS)
    }

    /// CPU reset as KVM leaves it for the measurement.
    fn reset(form: VmsaForm, signature: u32, cs_base: u32, rip: u32) -> Self {
        let mut bytes = Box::new([0; PAGE_SIZE]);
        let segments = [
            (0x00, 0, 0x93, 0),
            (0x10, 0xf000, 0x9b, u32::MAX),
            (0x20, 0, 0x93, 0),
            (0x30, 0, 0x93, 0),
            (0x40, 0, 0x93, 0),
            (0x50, 0, 0x93, 0),
            (0x60, 0, 0, 0),
            (0x70, 0, 0x82, 0),
            (0x80, 0, 0, 0),
            (0x90, 0, 0x8b, 0),
        ];
        for (offset, selector, attributes, base_mask) in segments {
            put::<u16>(&mut bytes[..], offset, &selector);
            put::<u16>(&mut bytes[..], offset + 2, &attributes);
            put::<u32>(&mut bytes[..], offset + 4, &0xffff);
            put::<u64>(&mut bytes[..], offset + 8, &u64::from(cs_base & base_mask));
        }
        let mut vmsa = Self(bytes);
        let numbers = [
            // EFER.SVME, which KVM sets.
            ("efer", 0x1000),
            ("cr4", 0x40),
            ("cr0", 0x10),
            ("dr7", 0x400),
            ("dr6", 0xffff_0ff0),
            ("rflags", 2),
            ("rip", rip.into()),
            ("g_pat", 0x0007_0406_0007_0406),
            ("rdx", signature.into()),
            ("xcr0", 1),
        ];
        let floating_point = [("mxcsr", 0x1f80), ("x87_fcw", 0x37f)];
        let more = if form == VmsaForm::Init2 { &floating_point[..] } else { &[] };
        for &(name, value) in numbers.iter().chain(more) {
            vmsa.set_number(name, value);
        }
        vmsa
    }

    fn value(&self, register: &Register) -> Value {
        let at = register.offset;
        let bytes = &self.0[..];
        match register.kind {
            Kind::Byte => Value::Number(bytes[at].into()),
            Kind::Short => Value::Number(get::<u16>(bytes, at).into()),
            Kind::Word => Value::Number(get::<u32>(bytes, at).into()),
            Kind::Long => Value::Number(get(bytes, at)),
            Kind::Segment => Value::Segment(Segment {
                selector: get(bytes, at),
                attributes: get(bytes, at + 2),
                limit: get(bytes, at + 4),
                base: get(bytes, at + 8),
            }),
        }
    }
}

impl fmt::Debug for Vmsa {
    /// The registers that are not zero.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let zero = Segment { selector: 0, attributes: 0, limit: 0, base: 0 };
        let used = self
            .registers()
            .filter(|(_, _, value)| *value != Value::Number(0) && *value != Value::Segment(zero));
        f.debug_map().entries(used.map(|(_, name, value)| (name, value))).finish()
    }
}

/// The CRC that the firmware keeps of a save area, over three interleaved streams of CRC-32C.
pub fn checksum(page: &[u8; PAGE_SIZE]) -> u64 {
    crc_with_streams(page).0
}

fn crc_with_streams(page: &[u8; PAGE_SIZE]) -> (u64, [u32; 3]) {
    let mut streams = [u32::MAX; 3];
    for (index, chunk) in page[..Vmsa::CRC_SIZE].chunks_exact(8).enumerate() {
        let stream = &mut streams[index % 3];
        *stream = crc32c(*stream, chunk);
    }
    let streams = streams.map(|stream| !stream);
    let low = streams.iter().fold(u32::MAX, |crc, stream| crc32c(crc, &stream.to_le_bytes()));
    let high = streams[0] ^ streams[1] ^ streams[2];
    (u64::from(high) << 32 | u64::from(!low), streams)
}

/// CRC-32C without the final complement, from the state `crc`.
pub fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(crc, |crc, &byte| (crc >> 8) ^ CRC32C[usize::from(crc as u8 ^ byte)])
}

/// The polynomial 0x1EDC6F41, reflected.
const CRC32C: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// A register's form; the discriminant is its size.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Byte = 1,
    Short = 2,
    Word = 4,
    Long = 8,
    Segment = 16,
}

struct Register {
    name: &'static str,
    offset: usize,
    kind: Kind,
}

macro_rules! registers {
    ($($kind:ident { $($name:literal = $offset:literal),* $(,)? })*) => {
        &[$($(Register { name: $name, offset: $offset, kind: Kind::$kind },)*)*]
    };
}

const REGISTERS: &[Register] = registers! {
    Segment {
        "es" = 0x00, "cs" = 0x10, "ss" = 0x20, "ds" = 0x30, "fs" = 0x40, "gs" = 0x50, "gdtr" = 0x60, "ldtr" = 0x70,
        "idtr" = 0x80, "tr" = 0x90,
    }
    Long { "pl0_ssp" = 0xa0, "pl1_ssp" = 0xa8, "pl2_ssp" = 0xb0, "pl3_ssp" = 0xb8, "u_cet" = 0xc0 }
    Byte { "vmpl" = 0xca, "cpl" = 0xcb }
    Long {
        "efer" = 0xd0, "xss" = 0x140, "cr4" = 0x148, "cr3" = 0x150, "cr0" = 0x158, "dr7" = 0x160, "dr6" = 0x168,
        "rflags" = 0x170, "rip" = 0x178, "dr0" = 0x180, "dr1" = 0x188, "dr2" = 0x190, "dr3" = 0x198,
        "dr0_addr_mask" = 0x1a0, "dr1_addr_mask" = 0x1a8, "dr2_addr_mask" = 0x1b0, "dr3_addr_mask" = 0x1b8,
        "rsp" = 0x1d8, "s_cet" = 0x1e0, "ssp" = 0x1e8, "isst_addr" = 0x1f0, "rax" = 0x1f8, "star" = 0x200,
        "lstar" = 0x208, "cstar" = 0x210, "sfmask" = 0x218, "kernel_gs_base" = 0x220, "sysenter_cs" = 0x228,
        "sysenter_esp" = 0x230, "sysenter_eip" = 0x238, "cr2" = 0x240, "g_pat" = 0x268, "dbgctl" = 0x270,
        "br_from" = 0x278, "br_to" = 0x280, "last_excp_from" = 0x288, "last_excp_to" = 0x290,
    }
    Word { "pkru" = 0x2e8, "tsc_aux" = 0x2ec }
    Long {
        "rcx" = 0x308, "rdx" = 0x310, "rbx" = 0x318, "rbp" = 0x328, "rsi" = 0x330, "rdi" = 0x338, "r8" = 0x340,
        "r9" = 0x348, "r10" = 0x350, "r11" = 0x358, "r12" = 0x360, "r13" = 0x368, "r14" = 0x370, "r15" = 0x378,
        "guest_exit_info_1" = 0x390, "guest_exit_info_2" = 0x398, "guest_exit_int_info" = 0x3a0,
        "guest_nrip" = 0x3a8, "sev_features" = 0x3b0, "vintr_ctrl" = 0x3b8, "guest_exit_code" = 0x3c0,
        "virtual_tom" = 0x3c8, "tlb_id" = 0x3d0, "pcpu_id" = 0x3d8, "event_inj" = 0x3e0, "xcr0" = 0x3e8,
        "x87_dp" = 0x400,
    }
    Word { "mxcsr" = 0x408 }
    Short {
        "x87_ftw" = 0x40c, "x87_fsw" = 0x40e, "x87_fcw" = 0x410, "x87_fop" = 0x412, "x87_ds" = 0x414,
        "x87_cs" = 0x416,
    }
    Long { "x87_rip" = 0x418 }
};
