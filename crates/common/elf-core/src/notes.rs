//! The notes of a CPU.

/// Registers of a CPU, as far as a core has notes for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// PSW mask and address.
    pub psw: [u64; 2],
    /// General registers.
    pub gprs: [u64; 16],
    /// Access registers.
    pub ars: [u32; 16],
    /// Control registers.
    pub crs: [u64; 16],
    /// Floating-point registers.
    pub fprs: [u64; 16],
    /// Floating-point-control register.
    pub fpc: u32,
    /// Prefix register.
    pub prefix: u32,
    /// CPU timer.
    pub cpu_timer: u64,
    /// Clock comparator.
    pub clock_comparator: u64,
    /// TOD programmable register.
    pub todpr: u32,
    /// Vector registers, if the CPU has any.
    pub vectors: Option<Box<Vectors>>,
    /// Guarded storage, if the CPU has it.
    pub guarded_storage: Option<GuardedStorage>,
}

/// What vector registers have beyond the floating-point registers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vectors {
    /// Second halves of registers 0 to 15.
    pub low_halves: [u64; 16],
    /// Registers 16 to 31.
    pub high: [[u8; 16]; 16],
}

/// The guarded-storage control block: a reserved word, designation register, section mask, parameter list address.
pub type GuardedStorage = [u64; 4];

/// A CPU in a core.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuNotes {
    /// The CPU's number among the notes, from 1; debuggers show it as a process's.
    pub id: u32,
    /// Its registers.
    pub registers: Registers,
    /// Its state for the owner of a protected guest.
    pub protected: Option<Vec<u8>>,
}

impl CpuNotes {
    /// All notes of the CPU, in the order of QEMU's.
    pub fn encode(&self) -> Vec<u8> {
        let registers = &self.registers;
        let mut out = Vec::new();
        note(&mut out, CORE, NT_PRSTATUS, &self.status());
        let mut floating = words([registers.fpc, 0]);
        floating.extend(doublewords(registers.fprs));
        note(&mut out, CORE, NT_FPREGSET, &floating);
        note(&mut out, LINUX, NT_S390_PREFIX, &registers.prefix.to_be_bytes());
        note(&mut out, LINUX, NT_S390_CTRS, &doublewords(registers.crs));
        note(&mut out, LINUX, NT_S390_TIMER, &registers.cpu_timer.to_be_bytes());
        note(&mut out, LINUX, NT_S390_TODCMP, &registers.clock_comparator.to_be_bytes());
        note(&mut out, LINUX, NT_S390_TODPREG, &registers.todpr.to_be_bytes());
        if let Some(vectors) = &registers.vectors {
            note(&mut out, LINUX, NT_S390_VXRS_LOW, &doublewords(vectors.low_halves));
            note(&mut out, LINUX, NT_S390_VXRS_HIGH, vectors.high.as_flattened());
        }
        if let Some(control) = registers.guarded_storage {
            note(&mut out, LINUX, NT_S390_GS_CB, &doublewords(control));
        }
        if let Some(protected) = &self.protected {
            note(&mut out, LINUX, NT_S390_PV_CPU_DATA, protected);
        }
        out
    }

    /// `struct elf_prstatus` of a process with this number; of everything else only the registers count.
    fn status(&self) -> Vec<u8> {
        let mut out = vec![0; PRSTATUS_ID];
        out.extend(self.id.to_be_bytes());
        out.resize(PRSTATUS_REGISTERS, 0);
        out.extend(doublewords(self.registers.psw));
        out.extend(doublewords(self.registers.gprs));
        out.extend(words(self.registers.ars));
        out.resize(PRSTATUS_SIZE, 0);
        out
    }
}

pub(crate) const CORE: &[u8] = b"CORE\0";
pub(crate) const LINUX: &[u8] = b"LINUX\0";
pub(crate) const NT_PRSTATUS: u32 = 1;
const NT_FPREGSET: u32 = 2;
const NT_S390_TIMER: u32 = 0x301;
const NT_S390_TODCMP: u32 = 0x302;
const NT_S390_TODPREG: u32 = 0x303;
const NT_S390_CTRS: u32 = 0x304;
const NT_S390_PREFIX: u32 = 0x305;
const NT_S390_VXRS_LOW: u32 = 0x309;
const NT_S390_VXRS_HIGH: u32 = 0x30a;
const NT_S390_GS_CB: u32 = 0x30b;
pub(crate) const NT_S390_PV_CPU_DATA: u32 = 0x30e;

const PRSTATUS_ID: usize = 32;
const PRSTATUS_REGISTERS: usize = 112;
const PRSTATUS_SIZE: usize = 336;

fn note(out: &mut Vec<u8>, owner: &[u8], kind: u32, data: &[u8]) {
    for word in [owner.len(), data.len()] {
        out.extend(u32::try_from(word).unwrap_or(u32::MAX).to_be_bytes());
    }
    out.extend(kind.to_be_bytes());
    for part in [owner, data] {
        out.extend(part);
        out.resize(out.len().next_multiple_of(4), 0);
    }
}

fn doublewords<const N: usize>(values: [u64; N]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_be_bytes()).collect()
}

fn words<const N: usize>(values: [u32; N]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_be_bytes()).collect()
}
