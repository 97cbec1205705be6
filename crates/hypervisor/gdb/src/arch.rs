//! z/Architecture as gdb knows it: which registers there are, in which order, and how their bytes travel.
//!
//! Names and features are those of the GDB manual, "S/390 and System z Features" and those that QEMU adds for control
//! registers and for what belongs to a virtual CPU. Values travel in the order of the target's bytes, big-endian. There
//! is no access to a CPU here.

use cloister_platform::arch::s390x::CpuState;
use std::num::NonZeroUsize;

/// The target description of a CPU without vectors, in the format of the GDB manual, appendix G.
const DESCRIPTION: &str = include_str!("s390x.xml");
/// The feature of vector registers.
const VECTORS: &str = include_str!("s390x-vx.xml");

/// The target description. Vector registers come last, so that no other register's number depends on them.
pub(crate) fn description(vectors: bool) -> String {
    let vectors = if vectors { VECTORS } else { "" };
    DESCRIPTION.trim().replace("</target>", &format!("{vectors}</target>"))
}

/// The architecture.
#[derive(Debug)]
pub enum S390x {}

impl gdbstub::arch::Arch for S390x {
    type Usize = u64;
    type Registers = Registers;
    type BreakpointKind = usize;
    type RegId = Register;

    fn target_description_xml() -> Option<&'static str> {
        Some(DESCRIPTION)
    }
}

/// A register, in gdb's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// First half of the PSW.
    PswMask,
    /// Second half of the PSW.
    PswAddress,
    /// A general register.
    General(usize),
    /// An access register.
    Access(usize),
    /// Floating-point control.
    FloatControl,
    /// A floating-point register.
    Float(usize),
    /// A control register.
    Control(usize),
    /// The clock comparator.
    ClockComparator,
    /// The CPU timer.
    CpuTimer,
    /// The breaking-event address.
    LastBreak,
    /// The prefix register.
    Prefix,
    /// Second half of a vector register whose first half is a floating-point register.
    VectorLow(usize),
    /// A vector register from 16 on.
    VectorHigh(usize),
}

impl Register {
    /// How many there are without vectors.
    pub const PLAIN: usize = 71;
    /// How many there are.
    pub const COUNT: usize = Self::PLAIN + 32;

    /// All of them, in the order of the description.
    pub fn all(vectors: bool) -> impl Iterator<Item = Self> {
        (0..if vectors { Self::COUNT } else { Self::PLAIN }).filter_map(Self::numbered)
    }

    /// Whether only a CPU with vectors has it.
    pub fn is_vector(self) -> bool {
        matches!(self, Self::VectorLow(_) | Self::VectorHigh(_))
    }

    /// The register with this number.
    pub fn numbered(number: usize) -> Option<Self> {
        Some(match number {
            0 => Self::PswMask,
            1 => Self::PswAddress,
            2..=17 => Self::General(number - 2),
            18..=33 => Self::Access(number - 18),
            34 => Self::FloatControl,
            35..=50 => Self::Float(number - 35),
            51..=66 => Self::Control(number - 51),
            67 => Self::ClockComparator,
            68 => Self::CpuTimer,
            69 => Self::LastBreak,
            70 => Self::Prefix,
            71..=86 => Self::VectorLow(number - 71),
            87..=102 => Self::VectorHigh(number - 71),
            _ => return None,
        })
    }

    /// Bytes.
    pub fn size(self) -> usize {
        match self {
            Self::Access(_) | Self::FloatControl => 4,
            Self::VectorHigh(_) => 16,
            _ => 8,
        }
    }

    /// Its value in a CPU.
    pub fn get(self, cpu: &CpuState) -> u128 {
        u128::from(match self {
            Self::VectorHigh(n) => return cpu.vrs[n % 32],
            Self::VectorLow(n) => cpu.vrs[n % 16] as u64,
            Self::PswMask => cpu.psw.mask,
            Self::PswAddress => cpu.psw.addr,
            Self::General(n) => cpu.gprs[n % 16],
            Self::Access(n) => cpu.ars[n % 16].into(),
            Self::FloatControl => cpu.fpc.into(),
            Self::Float(n) => cpu.fpr(n),
            Self::Control(n) => cpu.crs[n % 16],
            Self::ClockComparator => cpu.clock_comparator,
            Self::CpuTimer => cpu.cpu_timer,
            Self::LastBreak => cpu.breaking_event,
            Self::Prefix => cpu.prefix.into(),
        })
    }

    /// Gives it a value; false if it cannot have it.
    pub fn set(self, cpu: &mut CpuState, value: u128) -> bool {
        if let Self::VectorHigh(n) = self {
            cpu.vrs[n % 32] = value;
            return true;
        }
        let Ok(value) = u64::try_from(value) else { return false };
        let word = u32::try_from(value);
        match (self, word) {
            (Self::PswMask, _) => cpu.psw.mask = value,
            (Self::PswAddress, _) => cpu.psw.addr = value,
            (Self::General(n), _) => cpu.gprs[n % 16] = value,
            (Self::Access(n), Ok(word)) => cpu.ars[n % 16] = word,
            (Self::FloatControl, Ok(word)) => cpu.fpc = word,
            (Self::Float(n), _) => cpu.set_fpr(n, value),
            (Self::VectorLow(n), _) => cpu.vrs[n % 16] = u128::from(cpu.fpr(n)) << 64 | u128::from(value),
            (Self::Control(n), _) => cpu.crs[n % 16] = value,
            (Self::ClockComparator, _) => cpu.clock_comparator = value,
            (Self::CpuTimer, _) => cpu.cpu_timer = value,
            (Self::LastBreak, _) => cpu.breaking_event = value,
            // Bits 0-32 and 51-63 of a prefix are zeros (SA22-7832, chapter 3, "Prefixing").
            (Self::Prefix, Ok(word)) if word & !0x7fff_e000 == 0 => cpu.prefix = word,
            (Self::Access(_) | Self::FloatControl | Self::Prefix | Self::VectorHigh(_), _) => return false,
        }
        true
    }

    /// Each byte of it if nobody may see the CPU; `None`: unavailable.
    pub fn if_hidden(self) -> Option<u8> {
        (self == Self::PswAddress).then_some(0)
    }

    /// A value as bytes.
    pub fn encode(self, value: u128) -> Vec<u8> {
        value.to_be_bytes().into_iter().skip(16 - self.size()).collect()
    }

    /// Bytes as a value; `None` if there are too many or too few.
    pub fn decode(self, bytes: &[u8]) -> Option<u128> {
        (bytes.len() == self.size())
            .then(|| bytes.iter().fold(0, |value, byte| value << 8 | u128::from(*byte)))
    }
}

impl gdbstub::arch::RegId for Register {
    fn from_raw_id(id: usize) -> Option<(Self, Option<NonZeroUsize>)> {
        Self::numbered(id).map(|register| (register, NonZeroUsize::new(register.size())))
    }
}

/// All registers of a CPU, or none of them: then gdb shows `<unavailable>`, and 0 for the instruction address, without
/// which gdb 13 does not attach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    values: Option<Vec<u128>>,
    vectors: bool,
}

impl Registers {
    /// Those of a CPU.
    pub fn of(cpu: &CpuState, vectors: bool) -> Self {
        Self { values: Some(Register::all(vectors).map(|register| register.get(cpu)).collect()), vectors }
    }

    /// None of them.
    pub fn hidden(vectors: bool) -> Self {
        Self { values: None, vectors }
    }

    /// Gives them to a CPU. False if one cannot have its value; `cpu` is then of no use.
    pub fn apply(&self, cpu: &mut CpuState) -> bool {
        let values = self.values.iter().flatten();
        Register::all(self.vectors).zip(values).all(|(register, value)| register.set(cpu, *value))
    }
}

impl gdbstub::arch::Registers for Registers {
    type ProgramCounter = u64;

    fn pc(&self) -> u64 {
        self.values.as_ref().and_then(|values| values.get(1)).map_or(0, |value| *value as u64)
    }

    fn gdb_serialize(&self, mut write_byte: impl FnMut(Option<u8>)) {
        for (number, register) in Register::all(self.vectors).enumerate() {
            match self.values.as_ref().and_then(|values| values.get(number)) {
                Some(value) => register.encode(*value).into_iter().for_each(|byte| write_byte(Some(byte))),
                None => (0..register.size()).for_each(|_| write_byte(register.if_hidden())),
            }
        }
    }

    fn gdb_deserialize(&mut self, mut bytes: &[u8]) -> Result<(), ()> {
        let plain: usize = Register::all(false).map(Register::size).sum();
        self.vectors = bytes.len() > plain;
        let mut values = Vec::with_capacity(Register::COUNT);
        for register in Register::all(self.vectors) {
            let (value, rest) = bytes.split_at_checked(register.size()).ok_or(())?;
            values.push(register.decode(value).ok_or(())?);
            bytes = rest;
        }
        self.values = Some(values);
        if bytes.is_empty() { Ok(()) } else { Err(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gdbstub::arch::Registers as _;
    use proptest::prelude::*;

    fn serialized(registers: &Registers) -> Vec<Option<u8>> {
        let mut bytes = Vec::new();
        registers.gdb_serialize(|byte| bytes.push(byte));
        bytes
    }

    #[test]
    fn gdb_manual_s390_features_the_description_lists_the_registers_in_order_and_size() {
        let description = description(true);
        assert!(DESCRIPTION.lines().all(|line| description.contains(line)));
        let registers: Vec<(String, usize)> = description
            .lines()
            .filter_map(|line| line.trim().strip_prefix("<reg name=\""))
            .map(|line| {
                let mut words = line.split('"');
                (words.next().unwrap().to_owned(), words.nth(1).unwrap().parse().unwrap())
            })
            .collect();
        assert_eq!(registers.len(), Register::COUNT);
        for (number, (name, bits)) in registers.iter().enumerate() {
            let register = Register::numbered(number).unwrap();
            assert_eq!(register.size() * 8, *bits, "{name}");
            let expected = match register {
                Register::PswMask => "pswm".to_owned(),
                Register::PswAddress => "pswa".to_owned(),
                Register::General(n) => format!("r{n}"),
                Register::Access(n) => format!("acr{n}"),
                Register::FloatControl => "fpc".to_owned(),
                Register::Float(n) => format!("f{n}"),
                Register::Control(n) => format!("cr{n}"),
                Register::ClockComparator => "ckc".to_owned(),
                Register::CpuTimer => "cputm".to_owned(),
                Register::LastBreak => "last_break".to_owned(),
                Register::Prefix => "prefix".to_owned(),
                Register::VectorLow(n) => format!("v{n}l"),
                Register::VectorHigh(n) => format!("v{n}"),
            };
            assert_eq!(*name, expected);
        }
        assert_eq!(Register::numbered(Register::COUNT), None);
    }

    #[test]
    fn registers_that_nobody_may_see_are_unavailable_not_zero() {
        let bytes = serialized(&Registers::default());
        assert_eq!(bytes.len(), Register::all(false).map(Register::size).sum::<usize>());
        assert_eq!(serialized(&Registers::hidden(true)).len(), bytes.len() + 16 * 8 + 16 * 16);
        let (psw_address, rest) = (&bytes[8..16], [&bytes[..8], &bytes[16..]].concat());
        assert!(rest.iter().all(Option::is_none) && psw_address.iter().all(|byte| *byte == Some(0)));
    }

    #[test]
    fn bytes_are_big_endian_and_a_wrong_length_is_refused() {
        let mut cpu = CpuState::default();
        cpu.psw.mask = 0x0102_0304_0506_0708;
        cpu.ars[0] = 0xa1a2_a3a4;
        let bytes: Vec<u8> = serialized(&Registers::of(&cpu, false)).into_iter().flatten().collect();
        assert_eq!(bytes[..8], [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(bytes[144..148], [0xa1, 0xa2, 0xa3, 0xa4]);
        let mut read = Registers::default();
        assert!(read.gdb_deserialize(&bytes[1..]).is_err());
        assert!(read.gdb_deserialize(&[&bytes[..], &[0]].concat()).is_err());
        assert!(!Register::Prefix.set(&mut cpu, 0x1000) && !Register::Access(3).set(&mut cpu, 1 << 32));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(values in proptest::collection::vec(any::<u128>(), Register::COUNT), vectors: bool) {
            let mut cpu = CpuState::default();
            for (register, value) in Register::all(vectors).zip(values) {
                let value = match register {
                    Register::Prefix => value & 0x7fff_e000,
                    _ => value >> (128 - 8 * register.size()),
                };
                prop_assert!(register.set(&mut cpu, value));
                prop_assert_eq!(register.get(&cpu), value);
                prop_assert_eq!(register.decode(&register.encode(value)), Some(value));
            }
            let registers = Registers::of(&cpu, vectors);
            let bytes: Vec<u8> = serialized(&registers).into_iter().flatten().collect();
            let mut read = Registers::default();
            prop_assert_eq!(read.gdb_deserialize(&bytes), Ok(()));
            prop_assert_eq!(&read, &registers);
            prop_assert_eq!(read.pc(), cpu.psw.addr);
            let mut other = CpuState::default();
            prop_assert!(read.apply(&mut other));
            prop_assert_eq!(other, cpu);
        }
    }
}
