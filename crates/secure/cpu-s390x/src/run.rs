//! The run loop of one CPU: finds the block for the PSW, executes it, and looks after everything that can come
//! between blocks.
//!
//! What an instruction does is in `insn` and `control`; how an interruption is taken is in `interrupt`.

mod debug;

use crate::access::slot_flag;
use crate::cpu::Cpu;
use crate::dat::{Access, TRAP_LEAVE};
use crate::decode;
use crate::interrupt::nullifies;
use crate::op::{Flow, Format, Op, Step, Trap};
use crate::profile::{Hot, text_of, unavailable};
use crate::system::{CoreExit, Local, RunLimit, Store, ns_from_tod};
use crate::translate::{Decoded, Ran, Tiering, Translations};
use cloister_arch::s390x::{Completion, Exit, Psw, program};
use cloister_cpu::{BlockLink, CodeCache, CodeKey, Decode, request};
use cloister_jit::Slot;
use cloister_memory::{Shootdown, Storage};
pub(crate) use debug::Debug;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Instructions between two looks at a real clock.
const POLL: u64 = 32768;
/// Instructions in a block.
const BLOCK: usize = 64;
/// Entries of the lookup by logical address.
const JUMPS: usize = 1 << 14;
/// Decoded blocks kept: kernel, C library and a few programs of a distribution have about a hundred thousand.
const BLOCKS: usize = 1 << 17;

/// A CPU and its decoded code. They are apart so that a block can be read while the CPU changes.
pub(crate) struct Vcpu {
    pub(crate) cpu: Cpu,
    storage: Arc<Storage>,
    blocks: CodeCache<Decoded>,
    translations: Translations,
    jumps: Box<[Jump]>,
    /// Where blocks are decoded, so that each costs one allocation of its own size.
    decoded: Vec<Op>,
    /// If blocks were ever counted.
    pub(crate) hot: Option<Box<Hot>>,
}

/// A block found before for a logical address.
#[derive(Clone, Copy)]
struct Jump {
    addr: u64,
    mode: u64,
    link: Option<BlockLink>,
}

const NO_JUMP: Jump = Jump { addr: 0, mode: 0, link: None };

/// How a run of operations ended.
enum End {
    /// The PSW is right; go on.
    Go,
    /// An instruction was not completed.
    Trap { here: u64, next: u64, len: u8 },
    /// Leave the core.
    Exit,
}

impl Vcpu {
    pub(crate) fn new(cpu: Cpu) -> Self {
        Self {
            storage: Arc::clone(&cpu.env.storage),
            cpu,
            blocks: CodeCache::new(BLOCKS),
            translations: Translations::default(),
            jumps: vec![NO_JUMP; JUMPS].into_boxed_slice(),
            decoded: Vec::with_capacity(BLOCK),
            hot: None,
        }
    }

    /// Forgets decoded code: the facility list has changed.
    pub(crate) fn forget_code(&mut self) {
        self.blocks.clear();
        self.translations.forget(&self.cpu);
        self.jumps.fill(NO_JUMP);
        self.cpu.flush_translations();
    }

    /// See [`System::run`](crate::System::run).
    pub(crate) fn run(&mut self, limit: RunLimit, completion: Option<Completion>) -> CoreExit {
        self.cpu.side.enter();
        let exit = self.run_entered(limit, completion);
        self.translations.rest();
        let cpu = &mut self.cpu;
        cpu.retire();
        let local = &cpu.env.locals[usize::from(cpu.address)];
        local.instructions.store(cpu.executed, Ordering::Relaxed);
        local.running.store(false, Ordering::Relaxed);
        cpu.side.leave();
        exit
    }

    fn run_entered(&mut self, limit: RunLimit, completion: Option<Completion>) -> CoreExit {
        let end = limit.instructions.map(|n| self.cpu.executed.saturating_add(n));
        self.translations.at_once = self.cpu.env.translations.tiering() == Tiering::AtOnce;
        self.cpu.serve_flushes();
        self.cpu.prepare_debug();
        if let Err(exit) = self.cpu.complete(completion).and_then(|()| self.cpu.stop_behind_completed()) {
            return exit;
        }
        if limit.instructions == Some(0) {
            // Only to complete an exit: not even an interruption is taken.
            return CoreExit::Guest(Exit::Budget);
        }
        let debugged = self.cpu.debug.is_some();
        let counted = self.cpu.env.profiler.is_on() && self.cpu.env.protected().is_none();
        loop {
            let executed = match self.between_blocks(limit, end) {
                Err(exit) => return exit,
                Ok(0) => Ok(()),
                Ok(chunk) if debugged => self.execute_debugged(chunk),
                Ok(chunk) if counted => self.execute::<true>(chunk),
                Ok(chunk) => self.execute::<false>(chunk),
            };
            if let Err(exit) = executed {
                return exit;
            }
        }
    }

    /// Everything that is not executing: requests, orders, interruptions, waiting. Yields how many
    /// instructions may be executed before the next look.
    fn between_blocks(&mut self, limit: RunLimit, end: Option<u64>) -> Result<u64, CoreExit> {
        let cpu = &mut self.cpu;
        if std::mem::take(&mut cpu.renumbered) {
            cpu.update_view();
            self.jumps.fill(NO_JUMP);
            self.translations.renumber();
        }
        cpu.recheck = false;
        if cpu.side.check() != 0 {
            cpu.serve_flushes();
            let taken = cpu.side.take(request::KICK | request::INTERRUPT | request::STOP);
            if taken & request::KICK != 0 {
                return Err(CoreExit::Guest(Exit::Kicked));
            }
        }
        if cpu.serve_orders()? {
            return Err(CoreExit::Guest(Exit::Stopped));
        }
        let env = Arc::clone(&cpu.env);
        let local = &env.locals[usize::from(cpu.address)];
        if matches!(local.state.load(Ordering::SeqCst), Local::STOPPED | Local::CHECK_STOP) {
            local.running.store(false, Ordering::Relaxed);
            if !limit.block {
                return Err(CoreExit::Guest(Exit::Stopped));
            }
            self.translations.rest();
            cpu.side.wait(None);
            return Ok(0);
        }
        if env.protected().is_some() {
            // Both prefix pages must be there before an interruption may need them.
            for page in [0, 0x1000] {
                if cpu.absolute_offset(cpu.prefix + page, false).is_err()
                    && let Some(exit) = cpu.core_exit.take()
                {
                    return Err(exit);
                }
            }
        }
        let goes_on = cpu.goes_on_from_breakpoint();
        if !goes_on && cpu.take_interruption()? {
            cpu.stop_behind()?;
            return Ok(0);
        }
        if cpu.psw.mask & Psw::WAIT != 0 {
            return self.wait(limit);
        }
        if std::mem::take(&mut cpu.gives_way) && !limit.block {
            return Err(CoreExit::Guest(Exit::Budget));
        }
        local.running.store(true, Ordering::Relaxed);
        cpu.retire();
        let poll = match cpu.timer_deadline() {
            _ if end.is_some_and(|end| end == cpu.executed) => return Err(CoreExit::Guest(Exit::Budget)),
            None => POLL,
            Some(tod) => env.clock.instructions_until(ns_from_tod(tod)).clamp(1, POLL),
        };
        let poll = if goes_on { 1 } else { poll };
        Ok(end.map_or(poll, |end| poll.min(end - cpu.executed)))
    }

    fn wait(&mut self, limit: RunLimit) -> Result<u64, CoreExit> {
        let cpu = &mut self.cpu;
        let psw = cpu.full_psw();
        cpu.env.locals[usize::from(cpu.address)].running.store(false, Ordering::Relaxed);
        if psw.is_disabled_wait() {
            return Err(CoreExit::Guest(Exit::DisabledWait(cpu.visible_psw(psw))));
        }
        let wake_after_ns =
            cpu.timer_deadline().map(|tod| ns_from_tod(tod).saturating_sub(cpu.env.clock.now()));
        if !limit.block {
            return Err(CoreExit::Guest(Exit::Idle { wake_after_ns }));
        }
        cpu.retire();
        self.translations.rest();
        cpu.side.wait(wake_after_ns.map(Duration::from_nanos));
        Ok(0)
    }

    /// Executes blocks, at most `left` instructions, until something has to be looked at. `COUNT`: and counts them.
    fn execute<const COUNT: bool>(&mut self, mut left: u64) -> Result<(), CoreExit> {
        'blocks: while left > 0 && self.cpu.side.check() == 0 && !self.cpu.recheck {
            let cpu = &mut self.cpu;
            let addr = cpu.psw.addr;
            let mode = mode(cpu);
            let jump = &self.jumps[(addr >> 1) as usize % JUMPS];
            let block = if jump.addr == addr && jump.mode == mode {
                jump.link.and_then(|link| self.blocks.follow(&self.storage, link))
            } else {
                None
            };
            let (end, done) = match block {
                Some(block) => loop {
                    if !COUNT
                        && left >= block.ops.len() as u64
                        && let Some(code) = self.translations.ready(block)
                    {
                        let before = cpu.executed;
                        let ran = self.translations.run(cpu, code, addr, mode, left);
                        let done = std::mem::replace(&mut cpu.executed, before) - before;
                        match ran {
                            // Nothing is looked at there that would not be looked at here; or the interpreter has
                            // to help over the block.
                            Ran::Between if done > 0 || cpu.recheck || cpu.side.check() != 0 => {
                                break (End::Go, done);
                            }
                            Ran::Between => {}
                            Ran::Exit => break (End::Exit, done),
                            Ran::Trap { here, next, len } => break (End::Trap { here, next, len }, done),
                        }
                    } else if !COUNT && block.warms(self.translations.at_once) {
                        self.heat(addr, mode);
                        continue 'blocks;
                    }
                    let ops = &block.ops;
                    let (end, done) = run_ops(cpu, &ops[..ops.len().min(left as usize)]);
                    if COUNT {
                        let hot = self.hot.get_or_insert_default();
                        hot.count(addr, mode & PROBLEM != 0, ops, done);
                    }
                    // A loop of one block needs no search, as long as nothing wants to be looked at.
                    let again = matches!(end, End::Go)
                        && cpu.psw.addr == addr
                        && left > done
                        && !cpu.recheck
                        && !cpu.code_written
                        && cpu.side.check() == 0
                        && self::mode(cpu) == mode;
                    if !again {
                        break (end, done);
                    }
                    cpu.executed += done;
                    left -= done;
                },
                None => match self.find(addr, mode) {
                    Ok(Found::Cached) => continue,
                    Ok(Found::Once(op)) => run_ops(&mut self.cpu, std::slice::from_ref(&op)),
                    Err(Trap) => {
                        // An instruction that cannot be fetched counts as two bytes long.
                        let next = addr.wrapping_add(2) & self.cpu.addr_mask;
                        (End::Trap { here: addr, next, len: 2 }, 0)
                    }
                },
            };
            let cpu = &mut self.cpu;
            cpu.executed += done;
            left -= done;
            match end {
                End::Go => {}
                End::Exit => {
                    let exit = cpu.exit.take().map(CoreExit::Guest).or_else(|| cpu.core_exit.take());
                    return Err(exit.unwrap_or(CoreExit::Guest(Exit::Kicked)));
                }
                End::Trap { here, next, len } => {
                    if done > 0 {
                        cpu.program_streak = 0;
                    }
                    cpu.trapped(here, next, len)?;
                    continue;
                }
            }
            cpu.program_streak = 0;
        }
        Ok(())
    }

    /// Looks after the block at `addr`, which is hot.
    #[cold]
    #[inline(never)]
    fn heat(&mut self, addr: u64, mode: u64) {
        let Ok(slot) = self.cpu.code_slot(addr) else { return };
        let key = CodeKey::new(u64::from(slot.page), addr & 0xfff, (mode >> 12) as u32);
        self.translations.heat(&self.cpu, &self.storage, &self.blocks, key, addr, mode);
    }

    /// Finds or decodes the block at `addr`.
    #[cold]
    #[inline(never)]
    fn find(&mut self, addr: u64, mode: u64) -> Result<Found, Trap> {
        let cpu = &mut self.cpu;
        if addr & 1 != 0 {
            return Err(cpu.program(program::SPECIFICATION));
        }
        let slot = cpu.code_slot(addr)?;
        let at = addr & 0xfff;
        // Everything in `mode` above the context.
        let key = CodeKey::new(u64::from(slot.page), at, (mode >> 12) as u32);
        let remember = Jump { addr, mode, link: None };
        if let Some((_, link)) = self.blocks.get(&self.storage, key) {
            self.jumps[(addr >> 1) as usize % JUMPS] = Jump { link: Some(link), ..remember };
            return Ok(Found::Cached);
        }
        let first = fetch(cpu, addr)?;
        if at as usize + decode::length(first[0]) > 0x1000 || self.blocks.decode(key) == Decode::Once {
            return Ok(Found::Once(decode_one(cpu, first, 0)));
        }
        // The extent first, so that only lines with code are marked; what is decoded counts if the same bytes are
        // there once writes to them are noticed.
        let page = slot.page;
        let since = cpu.env.profiler.begin();
        let mut text = [0; TEXT];
        let available = copy_text(cpu, slot, addr, &mut text);
        decode_block(cpu, &text[..available], &mut self.decoded);
        let extent = self.decoded.last().map_or(0, |op| usize::from(op.offset) + usize::from(op.len));
        let stamp = self.storage.mark_code(u64::from(page), at as usize, extent, &cpu.side);
        cpu.serve_flushes();
        let again = cpu.code_slot(addr)?;
        if again.page != page {
            return Ok(Found::Cached);
        }
        let mut now = [0; TEXT];
        let available = copy_text(cpu, again, addr, &mut now);
        if now[..extent] != text[..extent] {
            decode_block(cpu, &now[..available], &mut self.decoded);
            while self.decoded.last().is_some_and(|op| usize::from(op.offset) + usize::from(op.len) > extent)
            {
                self.decoded.pop();
            }
        }
        if self.decoded.is_empty() {
            return Ok(Found::Cached);
        }
        let (count, size) = (self.decoded.len() as u64, size_of_val(self.decoded.as_slice()) as u64);
        self.cpu.local().profile.decoded.add(count, extent as u64, size, since);
        let decoded = Decoded::new(&self.decoded);
        self.translations.adopt(&self.cpu, &decoded, key, stamp);
        let link = self.blocks.insert(key, stamp, None, decoded);
        self.jumps[(addr >> 1) as usize % JUMPS] =
            Jump { link: Some(link), mode: self::mode(&self.cpu), ..remember };
        Ok(Found::Cached)
    }
}

enum Found {
    /// There is a block now; look again.
    Cached,
    /// Execute this and decode again next time.
    Once(Op),
}

/// What besides the address decides about a block: view of the fetches, addressing mode, problem state.
#[inline(always)]
fn mode(cpu: &Cpu) -> u64 {
    cpu.code_context | (cpu.psw.mask >> 31 & 3) << 12 | (cpu.psw.mask >> 48 & 1) << 14
}

/// Problem state in [`mode`].
const PROBLEM: u64 = 1 << 14;

/// Executes operations until one does not simply go on. Yields how many were completed.
#[inline(always)]
fn run_ops(cpu: &mut Cpu, ops: &[Op]) -> (End, u64) {
    cpu.block_addr = cpu.psw.addr;
    cpu.code_written = false;
    for (done, op) in (1..).zip(ops) {
        match (op.exec)(cpu, op) {
            Ok(Flow::Next) => {}
            Ok(Flow::Jump) => {
                cpu.breaking_event = cpu.block_addr.wrapping_add(u64::from(op.offset));
                return (End::Go, done);
            }
            Ok(Flow::End) => {
                cpu.psw.addr = cpu.next(op);
                return (End::Go, done);
            }
            Ok(Flow::Exit) => {
                cpu.psw.addr = cpu.next(op);
                return (End::Exit, done);
            }
            Err(Trap) => {
                return (End::Trap { here: cpu.here(op), next: cpu.next(op), len: op.len }, done - 1);
            }
        }
    }
    if let Some(op) = ops.last() {
        cpu.psw.addr = cpu.next(op);
    }
    (End::Go, ops.len() as u64)
}

/// Bytes that a block may take.
const TEXT: usize = BLOCK * 6;

/// Copies what a block at `addr` may take, inside its page. Yields how many bytes.
fn copy_text(cpu: &Cpu, slot: Slot, addr: u64, text: &mut [u8; TEXT]) -> usize {
    let start = (addr & 0xfff) as usize;
    let page = (addr & !0xfff).wrapping_add(slot.addend) as usize;
    let available = (0x1000 - start).min(TEXT);
    cpu.ram.copy_out(page + start, &mut text[..available]);
    available
}

/// Decodes to the end of the block, or of the bytes.
fn decode_block(cpu: &Cpu, bytes: &[u8], ops: &mut Vec<Op>) {
    ops.clear();
    let mut at = 0;
    while ops.len() < BLOCK && at < bytes.len() {
        let len = decode::length(bytes[at]);
        if at + len > bytes.len() {
            break;
        }
        let mut text = [0; 6];
        text[..len].copy_from_slice(&bytes[at..at + len]);
        let op = decode_one(cpu, text, at as u16);
        let ends = ends_block(&op);
        ops.push(op);
        at += len;
        if ends {
            break;
        }
    }
}

/// Decodes one instruction for the current state and facilities.
fn decode_one(cpu: &Cpu, bytes: [u8; 6], offset: u16) -> Op {
    let Some(index) = decode::find(bytes) else {
        let op = decode::blank(unavailable, NO_ENTRY, decode::length(bytes[0]) as u8, offset);
        return Op { imm: text_of(bytes), ..op };
    };
    let entry = decode::entry(index);
    let mut op = decode::operands(bytes, index, offset);
    if entry.facility != 0 && !cpu.env.has_facility(entry.facility) {
        (op.exec, op.imm) = (unavailable, text_of(bytes));
    } else if entry.privileged && cpu.psw.mask & Psw::PROBLEM != 0 {
        op.exec = privileged;
    }
    op
}

/// Entry number of an operation code that does not exist.
pub(crate) const NO_ENTRY: u16 = u16::MAX;

fn ends_block(op: &Op) -> bool {
    op.entry == NO_ENTRY || decode::entry(op.entry).ends_block
}

/// Formats whose immediate is an offset from the instruction, in bytes.
fn is_relative(format: Format) -> bool {
    use Format::{RIEb, RIEc, RIEe, RILb, RILc, RIb, RIc, RSI};
    matches!(format, RIb | RIc | RILb | RILc | RIEb | RIEc | RIEe | RSI)
}

fn privileged(cpu: &mut Cpu, _: &Op) -> Step {
    Err(cpu.program(program::PRIVILEGED))
}

/// Fetches one instruction, also across a page; bytes behind it are zero.
fn fetch(cpu: &mut Cpu, addr: u64) -> Result<[u8; 6], Trap> {
    let mut bytes = [0; 6];
    let mut done = 0;
    while done < bytes.len() {
        let at = cpu.wrap(addr, done);
        // Halfword by halfword: the next page may not exist, and need not.
        let slot = cpu.code_slot(at)?;
        cpu.ram.copy_out(at.wrapping_add(slot.addend) as usize, &mut bytes[done..done + 2]);
        done += 2;
        if done >= decode::length(bytes[0]) {
            break;
        }
    }
    Ok(bytes)
}

impl Cpu {
    /// What others see of this CPU.
    pub(crate) fn local(&self) -> &Local {
        &self.env.locals[usize::from(self.address)]
    }

    /// TLB entry for fetching the instruction at `addr`.
    fn code_slot(&mut self, addr: u64) -> Result<Slot, Trap> {
        let slot = *self.tlb.slot(addr);
        if slot.read == (addr & !0xfff | self.code_context) && slot.flags & slot_flag::NO_EXECUTE == 0 {
            return Ok(slot);
        }
        let (view, space) = (self.view, self.instruction_space());
        let key = (self.psw.mask >> 52 & 15) as u8;
        self.enter_view(space, key);
        let slot = self.fill_for(addr, Access::Execute);
        self.enter(view);
        slot
    }

    /// Acknowledges requested flushes.
    pub(crate) fn serve_flushes(&mut self) {
        if self.side.check() & request::FLUSH == 0 {
            return;
        }
        let side = self.side.clone();
        side.acknowledge(|flush| match flush {
            cloister_cpu::Flush::Page(page) => self.forget_page(page as u32),
            cloister_cpu::Flush::All => self.flush_translations(),
        });
    }

    /// Lets a running conversion finish.
    pub(crate) fn wait_for_conversion(&mut self) {
        self.serve_flushes();
        self.side.pause();
    }

    /// Makes all CPUs forget all translations, and waits until they have.
    pub(crate) fn flush_everywhere(&mut self) {
        self.flush_translations();
        if self.env.locals.len() > 1 {
            self.side.flush(u64::MAX, cloister_cpu::Flush::All);
        }
    }

    fn forget_page(&mut self, page: u32) {
        self.tlb.forget(page);
    }

    /// After a store of `len` bytes at `offset` of storage into a page with code.
    #[cold]
    #[inline(never)]
    pub(crate) fn wrote_code(&mut self, page: u32, offset: usize, len: usize) {
        if self.env.storage.code_write(u64::from(page), offset & 0xfff, len) {
            self.code_written = true;
        }
        if self.env.storage.record(u64::from(page)).is_some_and(|record| record.code_lines() == 0) {
            // Stores are fast again until the next decoding, which flushes this entry.
            self.tlb.change(page, |flags| flags & !slot_flag::CODE, slot_flag::plain);
        }
    }

    /// Takes the program interruption of an instruction that was not completed.
    #[cold]
    #[inline(never)]
    fn trapped(&mut self, here: u64, next: u64, len: u8) -> Result<(), CoreExit> {
        if self.trap == TRAP_LEAVE {
            self.psw.addr = here;
            return Err(self.core_exit.take().unwrap_or(CoreExit::Guest(Exit::Kicked)));
        }
        self.psw.addr = if nullifies(self.trap) { here } else { next };
        self.take_program(len)
    }

    /// Executes the instruction at `target` as if it stood at `op` (EXECUTE): bits 8-15 are ORed with
    /// `modifier`.
    pub(crate) fn execute(&mut self, op: &Op, target: u64, modifier: u8) -> Step {
        if target & 1 != 0 {
            return Err(self.program(program::SPECIFICATION));
        }
        let mut bytes = fetch(self, target)?;
        bytes[1] |= modifier;
        // The target is what the OR has made of it.
        if bytes[0] == 0x44 || (bytes[0] == 0xc6 && bytes[1] & 15 == 0) {
            return Err(self.program(program::EXECUTE));
        }
        let mut inner = decode_one(self, bytes, op.offset);
        if inner.entry != NO_ENTRY && is_relative(decode::entry(inner.entry).format) {
            // Relative operands count from the target.
            inner.imm = inner.imm.wrapping_add(target.wrapping_sub(self.here(op)) as i64);
        }
        inner.len = op.len;
        (inner.exec)(self, &inner)
    }

    /// Completes the exit the hypervisor has worked on.
    fn complete(&mut self, completion: Option<Completion>) -> Result<(), CoreExit> {
        let (Some(completion), Some(pending)) = (completion, self.pending.take()) else { return Ok(()) };
        if let Some(code) = completion.program {
            self.trap = code;
            self.trap_detail = 0;
            self.teid = 0;
            return self.take_program(pending.ilc);
        }
        if let Some(buffer) = &completion.buffer {
            let buffer = &buffer[..buffer.len().min(pending.len)];
            // The handler has checked the access; another CPU may have taken the page away since, and then
            // the result is lost as it would be with a store that came a moment earlier.
            let stored = match pending.store {
                Store::Nothing => Ok(()),
                Store::Logical(addr) => self.write_bytes(addr, buffer),
                Store::Absolute(addr) => self.write_absolute(addr, buffer),
            };
            if stored.is_err() {
                self.core_exit = None;
                tracing::debug!(cpu = self.address, "the operand block of an exit is no longer accessible");
            }
        }
        if let (Some(value), Some(register)) = (completion.result, pending.result) {
            self.set_g(register, value);
        }
        if let Some(cc) = completion.cc {
            self.cc = cc & 3;
        }
        Ok(())
    }
}
