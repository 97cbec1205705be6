//! Hot code: which blocks are translated together, and how the back end reaches this core.

use crate::cpu::Cpu;
use crate::decode;
use crate::lower::lower;
use crate::op::{Flow, Op, Trap};
use cloister_cpu::{CodeCache, CodeKey};
use cloister_jit::{
    At, Block, Code, Core, Fields, Left, ROOM, Region, Runner, Statistics, Stepped, Stored, Term, Translator,
};
use cloister_memory::{CodeStamp, Storage};
use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

/// Executions after which a block is hot.
const HOT: u32 = 256;
/// After so many executions, and so many more, it is asked whether there is code for a block: another CPU may have it.
const LOOK: u32 = 64;
/// Executions after which it is translated with a hot one.
const WARM: u32 = 128;
/// Blocks and operations of one region.
const REGION_BLOCKS: usize = 16;
const REGION_OPS: u64 = 200;
/// EA and BA in the mode of a block.
const MODE_64: u64 = 3 << 12;

/// A decoded block and what has become of it.
pub(crate) struct Decoded {
    pub(crate) ops: Arc<[Op]>,
    heat: Cell<u32>,
    code: Cell<Option<Code>>,
}

impl Decoded {
    pub(crate) fn new(ops: &[Op]) -> Self {
        Self { ops: ops.into(), heat: Cell::new(0), code: Cell::new(None) }
    }

    /// Counts an execution. True: it is time to ask for code, or to ask again.
    #[inline(always)]
    pub(crate) fn warms(&self, at_once: bool) -> bool {
        let heat = self.heat.get().wrapping_add(1);
        self.heat.set(heat);
        heat.is_multiple_of(LOOK) || at_once && heat == 1
    }

    #[inline(always)]
    pub(crate) fn code(&self) -> Option<Code> {
        self.code.get()
    }
}

/// When code is translated for the host; what it does is the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tiering {
    /// Never.
    Off,
    /// When it is hot, beside the CPUs.
    #[default]
    Hot,
    /// Before it is first executed, each block alone: for tests.
    AtOnce,
}

/// The translations of a machine, made when the first block is hot; none if the host cannot.
#[derive(Default)]
pub(crate) struct Shared {
    tiering: OnceLock<Tiering>,
    room: OnceLock<usize>,
    translator: OnceLock<Option<Arc<Translator<Cpu>>>>,
}

impl Shared {
    /// Decides, once.
    pub(crate) fn set_tiering(&self, tiering: Tiering) {
        let _ = self.tiering.set(tiering);
    }

    pub(crate) fn set_room(&self, bytes: usize) {
        let _ = self.room.set(bytes.next_multiple_of(0x1_0000));
    }

    pub(crate) fn tiering(&self) -> Tiering {
        *self.tiering.get_or_init(Tiering::default)
    }

    pub(crate) fn statistics(&self) -> Option<Statistics> {
        self.translator.get().and_then(Option::as_ref).map(|translator| translator.statistics())
    }

    fn get(&self, cpu: &Cpu) -> Option<&Arc<Translator<Cpu>>> {
        let made = self.translator.get_or_init(|| {
            if self.tiering() == Tiering::Off {
                return None;
            }
            Translator::new(cpu, fields(), &cpu.env.storage, lower, *self.room.get_or_init(|| ROOM))
                .inspect_err(|why| tracing::info!("hot code is not translated: {why}"))
                .ok()
        });
        made.as_ref()
    }
}

/// A CPU's way to the translations.
#[derive(Default)]
pub(crate) struct Translations {
    runner: Option<Runner<Cpu>>,
    /// [`Tiering::AtOnce`].
    pub(crate) at_once: bool,
}

impl Translations {
    /// Decoded code is forgotten: the facilities have changed.
    pub(crate) fn forget(&mut self, cpu: &Cpu) {
        if let Some(runner) = &mut self.runner {
            runner.forget();
        }
        if let Some(Some(translator)) = cpu.env.translations.translator.get() {
            translator.clear();
        }
    }

    /// Numbers of views begin again: what leads from code to code does not hold any more.
    pub(crate) fn renumber(&mut self) {
        if let Some(runner) = &mut self.runner {
            runner.forget();
        }
    }

    /// The CPU waits.
    pub(crate) fn rest(&mut self) {
        if let Some(runner) = &mut self.runner {
            runner.rest();
        }
    }

    /// A block was decoded: another CPU, or this one before, may have had it translated.
    pub(crate) fn adopt(&mut self, cpu: &Cpu, decoded: &Decoded, key: CodeKey, stamp: CodeStamp) {
        let Some(Some(translator)) = cpu.env.translations.translator.get() else { return };
        if let Some(code) = translator.find(key.bits(), stamp) {
            self.runner.get_or_insert_with(|| Runner::new(translator));
            decoded.code.set(Some(code));
        }
    }

    /// Gives the hot block at `addr` its code, or asks for it.
    #[cold]
    pub(crate) fn heat(
        &mut self,
        cpu: &Cpu,
        storage: &Storage,
        blocks: &CodeCache<Decoded>,
        key: CodeKey,
        addr: u64,
        mode: u64,
    ) {
        if mode & MODE_64 != MODE_64 {
            return;
        }
        let hot = self.at_once || blocks.get(storage, key).is_some_and(|(block, _)| block.heat.get() >= HOT);
        if !hot && cpu.env.translations.translator.get().is_none() {
            return;
        }
        let Some(translator) = cpu.env.translations.get(cpu) else { return };
        self.runner.get_or_insert_with(|| Runner::new(translator));
        let stamp = storage.code_stamp(key.page());
        match translator.find(key.bits(), stamp) {
            Some(code) => {
                if let Some((block, _)) = blocks.get(storage, key) {
                    block.code.set(Some(code));
                }
            }
            None if !hot => {}
            None if translator.hastens(key.bits()) => {}
            None => {
                let mut region = Region { page: key.page(), stamp, blocks: Vec::new() };
                collect(&mut region, translator, storage, blocks, addr, mode);
                translator.ask(region);
                if self.at_once {
                    translator.finish();
                    let code = translator.find(key.bits(), stamp);
                    if let Some((block, _)) = blocks.get(storage, key) {
                        block.code.set(code);
                    }
                }
            }
        }
    }

    /// The code of a block that may be run now.
    #[inline(always)]
    pub(crate) fn ready(&mut self, block: &Decoded) -> Option<Code> {
        let code = block.code()?;
        if self.runner.as_mut().is_some_and(|runner| runner.knows(code)) {
            return Some(code);
        }
        block.code.set(None);
        None
    }

    /// Runs code from the program counter on, for at most `left` instructions.
    #[inline]
    pub(crate) fn run(&mut self, cpu: &mut Cpu, code: Code, addr: u64, mode: u64, left: u64) -> Ran {
        let Some(runner) = &mut self.runner else { return Ran::Between };
        cpu.until = cpu.executed + left;
        match runner.run(cpu, code, addr, mode) {
            Left::Between => Ran::Between,
            Left::Exit => Ran::Exit,
            Left::Trap(op) => Ran::Trap { here: cpu.here(op), next: cpu.next(op), len: op.len },
        }
    }
}

/// How translated code was left.
pub(crate) enum Ran {
    Between,
    Exit,
    Trap { here: u64, next: u64, len: u8 },
}

/// The block and those of the same page that it leads to, as far as they are warm and nobody has code for them.
fn collect(
    region: &mut Region<Op>,
    translator: &Translator<Cpu>,
    storage: &Storage,
    blocks: &CodeCache<Decoded>,
    addr: u64,
    mode: u64,
) {
    let mut waiting = VecDeque::from([addr]);
    let mut seen = vec![addr];
    while let Some(at) = waiting.pop_front() {
        let key = CodeKey::new(region.page, at & 0xfff, (mode >> 12) as u32);
        let Some((block, _)) = blocks.get(storage, key) else { continue };
        if at != addr && (block.heat.get() < WARM || translator.covers(key.bits(), region.stamp)) {
            continue;
        }
        if region.blocks.len() >= REGION_BLOCKS || region.operations() + block.ops.len() as u64 > REGION_OPS {
            break;
        }
        let Some(last) = block.ops.last() else { continue };
        let last_at = at + u64::from(last.offset);
        let behind = last_at + u64::from(last.len);
        let taken = decode::relative_branch(last).map(|distance| last_at.wrapping_add_signed(distance));
        for next in taken.into_iter().chain([behind]) {
            if next >> 12 == addr >> 12 && !seen.contains(&next) {
                seen.push(next);
                waiting.push_back(next);
            }
        }
        region.blocks.push(Block {
            key: key.bits(),
            offset: (at & 0xfff) as i64,
            ops: Arc::clone(&block.ops),
        });
    }
}

fn fields() -> Fields<Cpu> {
    Fields {
        registers: |cpu| &cpu.gprs,
        condition: |cpu| &cpu.cc,
        counter: |cpu| &cpu.psw.addr,
        breaking_event: |cpu| &cpu.breaking_event,
        executed: |cpu| &cpu.executed,
        until: |cpu| &cpu.until,
        recheck: |cpu| &cpu.recheck,
        context: |cpu| &cpu.context,
        // As `run::mode` computes it.
        mode: vec![
            Term { field: |cpu| &cpu.code_context, right: 0, mask: u64::MAX, left: 0 },
            Term { field: |cpu| &cpu.psw.mask, right: 31, mask: 3, left: 12 },
            Term { field: |cpu| &cpu.psw.mask, right: 48, mask: 1, left: 14 },
        ],
        overflow_traps: (|cpu| &cpu.psw.mask, 8 << 40),
        buffer: |cpu| &cpu.tlb,
        requests: |cpu| cpu.side.requests(),
    }
}

impl Core for Cpu {
    type Op = Op;

    fn step(&mut self, at: At<'_, Op>) -> Stepped {
        let op = at.op;
        self.block_addr = at.block;
        self.code_written = false;
        let flow = (op.exec)(self, op);
        match flow {
            Ok(Flow::Next) => return Stepped::Next,
            Ok(Flow::Jump) => self.breaking_event = at.block.wrapping_add(u64::from(op.offset)),
            Ok(Flow::End | Flow::Exit) => self.psw.addr = self.next(op),
            Err(Trap) => {
                self.executed = at.executed;
                return Stepped::Trap;
            }
        }
        self.executed = at.executed + 1;
        if flow == Ok(Flow::Exit) { Stepped::Exit } else { Stepped::Leave }
    }

    fn fetch(&mut self, at: At<'_, Op>, address: u64, len: u8) -> Option<u64> {
        let value = match len {
            1 => self.read_u8(address).map(u64::from),
            2 => self.read_u16(address).map(u64::from),
            4 => self.read_u32(address).map(u64::from),
            _ => self.read_u64(address),
        };
        if value.is_err() {
            (self.block_addr, self.executed) = (at.block, at.executed);
        }
        value.ok()
    }

    fn store(&mut self, at: At<'_, Op>, address: u64, len: u8, value: u64) -> Stored {
        self.code_written = false;
        let stored = match len {
            1 => self.write_u8(address, value as u8),
            2 => self.write_u16(address, value as u16),
            4 => self.write_u32(address, value as u32),
            _ => self.write_u64(address, value),
        };
        if stored.is_ok() && !self.code_written {
            return Stored::Done;
        }
        (self.block_addr, self.executed) = (at.block, at.executed);
        if stored.is_err() {
            return Stored::Trap;
        }
        self.psw.addr = self.next(at.op);
        self.executed += 1;
        Stored::Code
    }
}
