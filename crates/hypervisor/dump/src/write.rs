//! From a guest at rest to an ELF core.

use cloister_arch::pages::PageState;
use cloister_arch::s390x::{CpuState, facility};
use cloister_control::{DumpRange, DumpSink};
use cloister_elf_core::{CoreWriter, CpuNotes, Layout, Registers, Vectors};
use cloister_formats::s390x::dump::{SECTION_COMPLETION, SECTION_COMPONENTS};
use cloister_platform::{PvCommand, PvDumpInfo, PvResult, Vm, VmError};
use std::io;
use std::ops::Range;
use vm_memory::{Bytes, GuestAddress};

/// Why a dump is not complete.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// Nothing lies in the range.
    #[error("dump: no guest memory to dump")]
    Empty,
    /// The file cannot be written.
    #[error("dump: failed to {what}: {reason}")]
    Write {
        /// What.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// Guest memory cannot be read.
    #[error("dump: guest memory at {address:#x} cannot be read: {reason}")]
    Read {
        /// Guest absolute address.
        address: u64,
        /// Why.
        reason: String,
    },
    /// The platform refused a part.
    #[error("dump: {0}")]
    Platform(#[from] VmError),
    /// The Ultravisor refused a part.
    #[error("dump: {words}")]
    Protected {
        /// In words.
        words: String,
    },
}

/// The part of the guest's storage that a range names.
///
/// # Errors
/// If it is empty.
pub fn part(vm: &Vm, range: DumpRange) -> Result<Range<u64>, DumpError> {
    let size = vm.memory().size();
    let end = range.length.map_or(size, |length| range.begin.saturating_add(length).min(size));
    if range.begin < end { Ok(range.begin..end) } else { Err(DumpError::Empty) }
}

/// Writes a dump of a guest that is at rest and stays so. `progress` hears how many bytes of its memory are written.
/// `refused` hears of a refusal after which a protected guest's dump has only what every host can see: memory that
/// nobody can decrypt.
///
/// # Errors
/// If a part cannot be had or written.
pub fn write(
    vm: &Vm,
    protected: bool,
    part: &Range<u64>,
    sink: &mut dyn DumpSink,
    progress: &dyn Fn(u64),
    refused: &dyn Fn(&PvCommand, &PvResult),
) -> Result<(), DumpError> {
    let mut owner = None;
    if protected {
        let result = vm.pv(PvCommand::DumpInfo)?;
        let info = result.dump.unwrap_or_default();
        let begun = vm.pv(PvCommand::DumpInit)?;
        match begun.ok {
            true => owner = Some(Owner { vm, info, open: true }),
            false => refused(&PvCommand::DumpInit, &begun),
        }
    }
    let mut sections = Vec::new();
    let mibs = part.start / MIB..part.end.div_ceil(MIB);
    if let Some(Owner { info, .. }) = &owner {
        // From address 0 on, so that a reader finds the component of a page by its number.
        sections.push((SECTION_COMPONENTS, mibs.end * info.storage_per_mib));
        sections.push((SECTION_COMPLETION, info.finalize));
    }
    let mut cpus = Vec::new();
    for cpu in 0..vm.cpus() {
        let registers = match protected {
            true => Registers::default(),
            false => registers(&vm.state(cpu)?, |bit| vm.has_facility(bit)),
        };
        let data = owner.as_ref().map(|owner| owner.cpu(cpu)).transpose()?;
        cpus.push(CpuNotes { id: u32::from(cpu) + 1, registers, protected: data });
    }
    let layout = Layout { cpus, loads: vec![(part.start, part.end - part.start)], sections };
    let mut core =
        CoreWriter::new(&layout, &mut *sink).map_err(|error| failed("write elf header", &error))?;
    memory(vm, part, &mut |bytes, done| {
        core.write(bytes).map_err(|error| failed("save memory", &error))?;
        progress(done);
        Ok(())
    })?;
    if let Some(mut owner) = owner {
        let save = |error: io::Error| failed("write section data", &error);
        for address in (0..mibs.end * MIB).step_by((MIB * STEP) as usize) {
            let count = STEP.min(mibs.end - address / MIB);
            core.write(&owner.components(address, count)?).map_err(save)?;
        }
        core.write(&owner.complete()?).map_err(save)?;
    }
    core.finish().map_err(|error| failed("write section headers", &error))?;
    sink.finish().map_err(|error| failed("complete the file", &error))
}

const MIB: u64 = 1 << 20;
/// MiB whose components are asked for at once.
const STEP: u64 = 64;
const PAGE: u64 = 4096;

/// A protected guest's dump, for its owner. Whatever happens, the guest can go on afterwards.
struct Owner<'a> {
    vm: &'a Vm,
    info: PvDumpInfo,
    open: bool,
}

impl Owner<'_> {
    fn cpu(&self, cpu: u16) -> Result<Vec<u8>, DumpError> {
        self.ask(PvCommand::DumpCpu { cpu }, self.info.cpu)
    }

    fn components(&self, address: u64, count: u64) -> Result<Vec<u8>, DumpError> {
        self.ask(PvCommand::DumpConfigStorState { address, count }, count * self.info.storage_per_mib)
    }

    fn complete(&mut self) -> Result<Vec<u8>, DumpError> {
        self.open = false;
        self.ask(PvCommand::DumpComplete, self.info.finalize)
    }

    fn ask(&self, command: PvCommand, len: u64) -> Result<Vec<u8>, DumpError> {
        let words = |reason: &str| {
            let number = command.dump_number().unwrap_or_default();
            DumpError::Protected { words: format!("KVM DUMP command {number} failed: {reason}") }
        };
        let result = self.vm.pv(command.clone())?;
        match result.data.len() as u64 == len {
            _ if !result.ok => Err(words(&result.reason)),
            true => Ok(result.data),
            false => Err(words(&format!("{} bytes came, {len} were announced", result.data.len()))),
        }
    }
}

impl Drop for Owner<'_> {
    fn drop(&mut self) {
        if self.open {
            // No CPU of the guest could run again otherwise.
            let _ = self.vm.pv(PvCommand::DumpComplete);
        }
    }
}

/// What a CPU with these facilities has.
fn registers(state: &CpuState, has: impl Fn(u16) -> bool) -> Registers {
    Registers {
        psw: [state.psw.mask, state.psw.addr],
        gprs: state.gprs,
        ars: state.ars,
        crs: state.crs,
        fprs: state.fprs(),
        fpc: state.fpc,
        prefix: state.prefix,
        cpu_timer: state.cpu_timer,
        clock_comparator: state.clock_comparator,
        todpr: state.todpr,
        vectors: has(facility::VECTOR).then(|| {
            Box::new(Vectors {
                low_halves: std::array::from_fn(|n| state.vrs[n] as u64),
                high: std::array::from_fn(|n| state.vrs[16 + n].to_be_bytes()),
            })
        }),
        guarded_storage: has(facility::GUARDED_STORAGE).then(|| {
            let [designation, mask, list] = state.guarded_storage;
            [0, designation, mask, list]
        }),
    }
}

/// Takes a piece of memory and its place.
type Give<'a> = &'a mut dyn FnMut(&[u8], u64) -> Result<(), DumpError>;

/// Reads memory as a device does: what the guest shares as it is, what is private as the Ultravisor exports it. Pages
/// that were never touched are zeros, and reading them would only make them.
fn memory(vm: &Vm, part: &Range<u64>, give: Give<'_>) -> Result<(), DumpError> {
    let mut buffer = vec![0; MIB as usize];
    let mut at = part.start;
    for run in vm.page_states(part.start / PAGE..part.end.div_ceil(PAGE))? {
        let end = ((run.first + run.pages) * PAGE).min(part.end);
        if run.state == PageState::Untouched {
            buffer.fill(0);
        }
        while at < end {
            let len = (end - at).min(MIB);
            let piece = buffer.get_mut(..len as usize).unwrap_or_default();
            if run.state != PageState::Untouched {
                let error = |error: vm_memory::GuestMemoryError| DumpError::Read {
                    address: at,
                    reason: error.to_string(),
                };
                vm.memory().read_slice(piece, GuestAddress(at)).map_err(error)?;
            }
            at += len;
            give(piece, at - part.start)?;
        }
    }
    if at < part.end {
        return Err(DumpError::Read { address: at, reason: "the platform knows no page there".into() });
    }
    Ok(())
}

fn failed(what: &'static str, error: &io::Error) -> DumpError {
    let text = error.to_string();
    DumpError::Write { what, reason: text.split(" (os error").next().unwrap_or_default().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_has_the_registers_of_its_facilities() {
        let mut state = CpuState { guarded_storage: [1, 2, 3], ..CpuState::default() };
        (state.vrs[15], state.vrs[31]) = (0x11 << 64 | 0x22, 0x33 << 64 | 0x44);
        let plain = registers(&state, |_| false);
        assert_eq!((plain.fprs[15], plain.vectors, plain.guarded_storage), (0x11, None, None));
        let guarded = registers(&state, |bit| bit == facility::GUARDED_STORAGE);
        assert_eq!((guarded.vectors, guarded.guarded_storage), (None, Some([0, 1, 2, 3])));
        let vectors = registers(&state, |bit| bit == facility::VECTOR).vectors.unwrap();
        assert_eq!((vectors.low_halves[15], vectors.low_halves[14]), (0x22, 0));
        assert_eq!(u128::from_be_bytes(vectors.high[15]), 0x33 << 64 | 0x44);
    }
}
