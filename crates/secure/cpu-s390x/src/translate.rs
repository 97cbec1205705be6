//! Hot code: which blocks are translated together, and how the back end reaches this core.

use crate::access::Slot;
use crate::cpu::Cpu;
use crate::decode;
use crate::lower::lower;
use crate::op::{Flow, Op, Trap};
use cloister_cpu::{CodeCache, CodeKey};
use cloister_jit::{Block, Code, Core, Fields, Jit, Left, Region, SlotFields, Stepped, Stored, Term};
use cloister_memory::{CodeStamp, Storage};
use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;

/// Executions after which a block is translated.
const HOT: u32 = 400;
/// Blocks and operations of one region.
const REGION_BLOCKS: usize = 24;
const REGION_OPS: usize = 256;
/// EA and BA in the mode of a block.
const MODE_64: u64 = 3 << 12;

/// A decoded block and what has become of it.
pub(crate) struct Decoded {
    pub(crate) ops: Arc<[Op]>,
    heat: Cell<u32>,
    code: Cell<Option<Translated>>,
}

#[derive(Clone, Copy)]
pub(crate) struct Translated {
    code: Code,
    page: u64,
    stamp: CodeStamp,
}

impl Decoded {
    pub(crate) fn new(ops: &[Op]) -> Self {
        Self { ops: ops.into(), heat: Cell::new(0), code: Cell::new(None) }
    }

    /// Counts executions. True: it has just become hot.
    #[inline(always)]
    pub(crate) fn warms(&self, executions: u32) -> bool {
        let heat = self.heat.get();
        self.heat.set(heat.saturating_add(executions));
        heat < HOT && self.heat.get() >= HOT
    }

    pub(crate) fn code(&self) -> Option<Translated> {
        self.code.get()
    }
}

/// The translations of one CPU.
pub(crate) struct Translations {
    jit: Option<Jit<Cpu>>,
    /// The host cannot, or must not.
    off: bool,
}

impl Translations {
    pub(crate) fn new() -> Self {
        Self { jit: None, off: std::env::var_os("CLOISTER_JIT").is_some_and(|v| v == "off") }
    }

    pub(crate) fn clear(&mut self) {
        if let Some(jit) = &mut self.jit
            && jit.clear().is_err()
        {
            self.off = true;
        }
    }

    /// Translates the block at `addr` with what it leads to in its page. False: there is no room.
    #[cold]
    pub(crate) fn translate(
        &mut self,
        cpu: &Cpu,
        storage: &Arc<Storage>,
        blocks: &CodeCache<Decoded>,
        key: CodeKey,
        addr: u64,
        mode: u64,
    ) -> bool {
        if self.off || mode & MODE_64 != MODE_64 {
            return true;
        }
        if self.jit.is_none() {
            match Jit::new(cpu, &fields(), storage) {
                Ok(jit) => self.jit = Some(jit),
                Err(why) => {
                    tracing::info!("hot code is not translated: {why}");
                    self.off = true;
                }
            }
        }
        let Some(jit) = &mut self.jit else { return true };
        let stamp = storage.code_stamp(key.page());
        let region = collect(storage, blocks, key, addr, mode);
        if region.blocks.is_empty() {
            return true;
        }
        match jit.translate(&region, |e, _, op| lower(e, op)) {
            Ok(code) => {
                if let Some((block, _)) = blocks.get(storage, key) {
                    block.code.set(Some(Translated { code, page: key.page(), stamp }));
                }
                true
            }
            Err(cloister_jit::Error::Full(_)) => false,
            Err(why) => {
                tracing::debug!("a block at {addr:#x} is not translated: {why}");
                true
            }
        }
    }

    /// Runs translated code from the program counter on.
    #[inline]
    pub(crate) fn run(&mut self, cpu: &mut Cpu, at: Translated, addr: u64, mode: u64, left: u64) -> Ran {
        let Some(jit) = &mut self.jit else { return Ran::Between };
        jit.publish(addr, mode, at.code, at.page, at.stamp);
        cpu.until = cpu.executed + left;
        match jit.enter(cpu, at.code) {
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

/// The block and those of the same page that it leads to, as far as they are decoded.
fn collect(
    storage: &Arc<Storage>,
    blocks: &CodeCache<Decoded>,
    key: CodeKey,
    addr: u64,
    mode: u64,
) -> Region<Op> {
    let page = key.page();
    let mut region = Region { blocks: Vec::new() };
    let mut waiting = VecDeque::from([addr]);
    let mut seen = vec![addr];
    let mut ops = 0;
    while let Some(at) = waiting.pop_front() {
        let key = CodeKey::new(page, at & 0xfff, (mode >> 12) as u32);
        let Some((block, _)) = blocks.get(storage, key) else { continue };
        if region.blocks.len() >= REGION_BLOCKS || ops + block.ops.len() > REGION_OPS {
            break;
        }
        ops += block.ops.len();
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
        region
            .blocks
            .push(Block { offset: at.wrapping_sub(addr) as i64, ops: Arc::clone(&block.ops) });
    }
    region
}

fn fields() -> Fields<Cpu> {
    Fields {
        registers: |cpu| &cpu.gprs,
        condition: |cpu| &cpu.cc,
        counter: |cpu| &cpu.psw.addr,
        block: |cpu| &cpu.block_addr,
        breaking_event: |cpu| &cpu.breaking_event,
        executed: |cpu| &cpu.executed,
        until: |cpu| &cpu.until,
        recheck: |cpu| &cpu.recheck,
        code_written: |cpu| &cpu.code_written,
        context: |cpu| &cpu.context,
        // As `run::mode` computes it.
        mode: vec![
            Term { field: |cpu| &cpu.code_context, right: 0, mask: u64::MAX, left: 0 },
            Term { field: |cpu| &cpu.psw.mask, right: 31, mask: 3, left: 12 },
            Term { field: |cpu| &cpu.psw.mask, right: 48, mask: 1, left: 14 },
        ],
        buffer: |cpu| &cpu.tlb,
        requests: |cpu| cpu.side.requests(),
        slot: SlotFields { read: |slot| &slot.read, write: |slot| &slot.write, addend: |slot| &slot.addend },
    }
}

impl Core for Cpu {
    type Op = Op;
    type Slot = Slot;

    fn step(&mut self, op: &Op) -> Stepped {
        match (op.exec)(self, op) {
            Ok(Flow::Next) => Stepped::Next,
            Ok(Flow::Jump) => Stepped::Jumped,
            Ok(Flow::End) => Stepped::End,
            Ok(Flow::Exit) => Stepped::Exit,
            Err(Trap) => Stepped::Trap,
        }
    }

    fn fetch(&mut self, address: u64, len: u8) -> Option<u64> {
        match len {
            1 => self.read_u8(address).map(u64::from),
            2 => self.read_u16(address).map(u64::from),
            4 => self.read_u32(address).map(u64::from),
            _ => self.read_u64(address),
        }
        .ok()
    }

    fn store(&mut self, address: u64, len: u8, value: u64) -> Stored {
        let stored = match len {
            1 => self.write_u8(address, value as u8),
            2 => self.write_u16(address, value as u16),
            4 => self.write_u32(address, value as u32),
            _ => self.write_u64(address, value),
        };
        match stored {
            Ok(()) if self.code_written => Stored::Code,
            Ok(()) => Stored::Done,
            Err(Trap) => Stored::Trap,
        }
    }
}
