//! Profiles: which instructions the guest does not have, where it spends its time, what translation costs.
//!
//! Nothing of a protected guest is noted but numbers: what its operator sees here was executed in the clear.

use crate::cpu::Cpu;
use crate::decode;
use crate::op::{Op, Step};
use crate::run::NO_ENTRY;
use crate::system::{System, lock};
use cloister_arch::profile::{HotBlock, Profile, Translated, UnknownInstruction};
use cloister_arch::s390x::program;
use cloister_cpu::{Counter, Translation};
use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::TryLockError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Different unknown instructions that are kept.
const UNKNOWN: usize = 1000;
/// Blocks that are counted for each CPU.
const BLOCKS: usize = 1 << 18;
/// Hot blocks that are told.
const HOT: usize = 100;
/// Instructions of a block whose names are told.
const NAMES: usize = 12;

/// What all CPUs share.
#[derive(Default)]
pub(crate) struct Profiler {
    /// Count blocks and measure time.
    on: AtomicBool,
    /// By operation code.
    unknown: Mutex<BTreeMap<[u8; 6], UnknownInstruction>>,
}

impl Profiler {
    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// When something begins whose time is to be measured.
    pub(crate) fn begin(&self) -> Option<Instant> {
        self.is_on().then(Instant::now)
    }
}

/// How often blocks were executed on one CPU, by address and whether in problem state.
#[derive(Default)]
pub(crate) struct Hot(HashMap<(u64, bool), Heat>);

struct Heat {
    executions: u64,
    instructions: u64,
    length: u32,
    entries: Box<[u16]>,
}

impl Hot {
    pub(crate) fn count(&mut self, addr: u64, problem: bool, ops: &[Op], done: u64) {
        let full = self.0.len() >= BLOCKS;
        let heat = match self.0.get_mut(&(addr, problem)) {
            Some(heat) => heat,
            None if full => return,
            None => self.0.entry((addr, problem)).or_insert(Heat {
                executions: 0,
                instructions: 0,
                length: ops.last().map_or(0, |op| u32::from(op.offset) + u32::from(op.len)),
                entries: ops.iter().map(|op| op.entry).collect(),
            }),
        };
        heat.executions += 1;
        heat.instructions += done;
    }
}

/// Handler of an instruction that the guest does not have; its bytes are in the immediate.
pub(crate) fn unavailable(cpu: &mut Cpu, op: &Op) -> Step {
    note_unknown(cpu, op);
    Err(cpu.program(program::OPERATION))
}

/// What [`unavailable`] needs of the bytes, as an immediate.
pub(crate) fn text_of(bytes: [u8; 6]) -> i64 {
    let [a, b, c, d, e, f] = bytes;
    i64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

#[cold]
fn note_unknown(cpu: &Cpu, op: &Op) {
    if cpu.env.protected().is_some() {
        return;
    }
    let [_, _, text @ ..] = op.imm.to_be_bytes();
    let mut unknown = lock(&cpu.env.profiler.unknown);
    let key = key(text);
    if let Some(seen) = unknown.get_mut(&key) {
        seen.count += 1;
    } else if unknown.len() < UNKNOWN {
        let len = decode::length(text[0]);
        let mut first_text = text;
        first_text[len..].fill(0);
        let mnemonic = (op.entry != NO_ENTRY).then(|| decode::entry(op.entry).mnemonic.to_owned());
        let first = cpu.here(op);
        match &mnemonic {
            Some(name) => tracing::debug!("operation exception: the guest lacks the facility of {name}"),
            None => tracing::warn!("operation exception: the core has no instruction {text:02x?}"),
        }
        unknown.insert(key, UnknownInstruction { text: first_text, mnemonic, count: 1, first });
    }
}

/// The operation code alone.
fn key(text: [u8; 6]) -> [u8; 6] {
    match decode::length(text[0]) {
        2 => [text[0], if text[0] == 1 { text[1] } else { 0 }, 0, 0, 0, 0],
        4 if matches!(text[0], 0xa5 | 0xa7) => [text[0], text[1] & 15, 0, 0, 0, 0],
        4 if matches!(text[0], 0xb2 | 0xb3 | 0xb9) => [text[0], text[1], 0, 0, 0, 0],
        4 => [text[0], 0, 0, 0, 0, 0],
        _ => match text[0] {
            0xc0..=0xcf => [text[0], text[1] & 15, 0, 0, 0, 0],
            0xe5 => [text[0], text[1], 0, 0, 0, 0],
            0xe3 | 0xe6 | 0xe7 | 0xeb..=0xed => [text[0], 0, 0, 0, 0, text[5]],
            _ => [text[0], 0, 0, 0, 0, 0],
        },
    }
}

impl System {
    /// Counts blocks and measures translation, from the next entry of each CPU on; or does so no more. What was
    /// counted stays.
    pub fn set_profiling(&self, on: bool) {
        self.env.profiler.on.store(on, Ordering::Relaxed);
    }

    /// What was counted so far. Blocks of a CPU that is in the core are left out.
    pub fn profile(&self) -> Profile {
        let mut sum = Profile::default();
        for local in &self.env.locals {
            let counted = &local.profile;
            add(&mut sum.decoded, &counted.decoded);
            let numbers: [(&mut u64, &Counter); 2] =
                [(&mut sum.tlb_fills, &counted.tlb_fills), (&mut sum.tlb_flushes, &counted.tlb_flushes)];
            numbers.into_iter().for_each(|(sum, counter)| *sum += counter.get());
        }
        if let Some(translated) = self.translation_statistics() {
            sum.compiled = Translated {
                blocks: translated.blocks,
                instructions: translated.operations,
                guest_bytes: translated.guest_bytes,
                longest: translated.longest,
                host_bytes: translated.bytes as u64,
                nanoseconds: translated.time.as_nanos() as u64,
            };
            (sum.code_room, sum.code_flushes) = (translated.most as u64, u64::from(translated.flushes));
        }
        sum.unknown = lock(&self.env.profiler.unknown).values().cloned().collect();
        sum.unknown.sort_by_key(|unknown| std::cmp::Reverse(unknown.count));
        sum.hot = self.hot();
        sum
    }

    fn hot(&self) -> Vec<HotBlock> {
        let mut all: HashMap<(u64, bool), HotBlock> = HashMap::new();
        for vcpu in &self.vcpus {
            let vcpu = match vcpu.try_lock() {
                Ok(vcpu) => vcpu,
                Err(TryLockError::Poisoned(vcpu)) => vcpu.into_inner(),
                Err(TryLockError::WouldBlock) => continue,
            };
            for (&(address, problem), heat) in vcpu.hot.iter().flat_map(|hot| &hot.0) {
                let block = all.entry((address, problem)).or_insert_with(|| HotBlock {
                    address,
                    problem,
                    length: heat.length,
                    executions: 0,
                    instructions: 0,
                    mnemonics: names(&heat.entries),
                });
                block.executions += heat.executions;
                block.instructions += heat.instructions;
            }
        }
        let mut hot: Vec<HotBlock> = all.into_values().collect();
        hot.sort_by_key(|block| (std::cmp::Reverse(block.instructions), block.address, block.problem));
        hot.truncate(HOT);
        hot
    }
}

fn add(sum: &mut Translated, counted: &Translation) {
    sum.blocks += counted.blocks.get();
    sum.instructions += counted.instructions.get();
    sum.guest_bytes += counted.guest_bytes.get();
    sum.longest = sum.longest.max(counted.longest.get());
    sum.host_bytes += counted.host_bytes.get();
    sum.nanoseconds += counted.nanoseconds.get();
}

fn names(entries: &[u16]) -> String {
    let name = |&entry: &u16| if entry == NO_ENTRY { "?" } else { decode::entry(entry).mnemonic };
    let mut names: Vec<&str> = entries.iter().take(NAMES).map(name).collect();
    if entries.len() > NAMES {
        names.push("...");
    }
    names.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operands_are_no_part_of_an_operation_code() {
        for (text, other) in [
            ([0x1a, 0x12, 0, 0, 0, 0], [0x1a, 0x34, 0, 0, 0, 0]),
            ([0xa7, 0x18, 0, 7, 0, 0], [0xa7, 0x28, 0, 8, 0, 0]),
            ([0x5a, 0x10, 1, 2, 0, 0], [0x5a, 0x20, 3, 4, 0, 0]),
            ([0xb9, 0x04, 0, 0x12, 0, 0], [0xb9, 0x04, 0, 0x34, 0, 0]),
            ([0xc0, 0x10, 1, 2, 3, 4], [0xc0, 0x20, 5, 6, 7, 8]),
            ([0xe3, 0x10, 1, 2, 3, 4], [0xe3, 0x20, 5, 6, 7, 4]),
            ([0xd2, 0x10, 1, 2, 3, 4], [0xd2, 0x20, 5, 6, 7, 8]),
        ] {
            assert_eq!(key(text), key(other), "{text:02x?}");
        }
        assert_ne!(key([0xb9, 0x04, 0, 0, 0, 0]), key([0xb9, 0x05, 0, 0, 0, 0]));
        assert_ne!(key([0xe3, 0, 0, 0, 0, 4]), key([0xe3, 0, 0, 0, 0, 5]));
        assert_ne!(key([0xa7, 0x18, 0, 0, 0, 0]), key([0xa7, 0x19, 0, 0, 0, 0]));
    }

    #[test]
    fn bytes_survive_as_an_immediate() {
        let bytes = [0xe7, 1, 2, 3, 4, 0xff];
        assert_eq!(text_of(bytes).to_be_bytes()[2..], bytes);
    }
}
