//! The vocabulary in which a core describes what its operations do.
//!
//! Registers are written through: after each operation the core's own state is what it would be in the interpreter,
//! but for the condition code, which is computed when something can see it. So every way out of the code is exact.

mod condition;
mod storage;

use crate::core::{Core, Fields};
use crate::error::Error;
use crate::run::Helpers;
use crate::translate::Describe;
use cloister_memory::{CodeStamp, Ram};
pub use condition::Condition;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I8, I32, I64};
use cranelift_codegen::ir::{
    self, AbiParam, BlockArg, InstBuilder, JumpTableData, MemFlagsData as MemFlags, Type, Value,
};
use cranelift_codegen::isa::{CallConv, TargetFrontendConfig};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use std::sync::Arc;

/// What an operation says of its place.
pub trait Operation {
    /// Bytes from the start of its block.
    fn offset(&self) -> u64;
    /// Bytes.
    fn length(&self) -> u64;
}

/// Blocks that are translated together. All lie in one page, and each can be entered.
pub struct Region<O> {
    /// The page of storage.
    pub page: u64,
    /// The stamp of the page under which they were decoded.
    pub stamp: CodeStamp,
    /// The blocks.
    pub blocks: Vec<Block<O>>,
}

impl<O> Region<O> {
    /// How many operations there are.
    pub fn operations(&self) -> u64 {
        self.blocks.iter().map(|block| block.ops.len() as u64).sum()
    }
}

/// A decoded block.
pub struct Block<O> {
    /// What it is known by.
    pub key: u64,
    /// Its place in the page.
    pub offset: i64,
    /// Its operations.
    pub ops: Arc<[O]>,
}

/// Where things are, as numbers for code.
pub(crate) struct Place {
    pub(crate) counter: i32,
    registers: i32,
    condition: i32,
    breaking_event: i32,
    executed: i32,
    until: i32,
    recheck: i32,
    context: i32,
    buffer: i32,
    mode: Vec<(i32, u8, u64, u8)>,
    /// Where, and which bit.
    overflow_traps: (i32, u64),
    storage: i64,
    pub(crate) config: TargetFrontendConfig,
}

impl Place {
    pub(crate) fn new<C: Core>(
        core: &C,
        fields: &Fields<C>,
        ram: &Ram,
        config: TargetFrontendConfig,
    ) -> Result<Self, Error> {
        let at = |address: usize, size: usize| inside(core, address, size);
        macro_rules! place {
            ($get:expr) => {{
                let field = ($get)(core);
                at(std::ptr::from_ref(field).addr(), size_of_val(field))?
            }};
        }
        let mut mode = Vec::new();
        for term in &fields.mode {
            mode.push((place!(term.field), term.right, term.mask, term.left));
        }
        Ok(Self {
            counter: place!(fields.counter),
            registers: place!(fields.registers),
            condition: place!(fields.condition),
            breaking_event: place!(fields.breaking_event),
            executed: place!(fields.executed),
            until: place!(fields.until),
            recheck: place!(fields.recheck),
            context: place!(fields.context),
            buffer: place!((|core| &(fields.buffer)(core).slots)),
            mode,
            overflow_traps: (place!((fields.overflow_traps.0)), fields.overflow_traps.1),
            config,
            storage: ram.start().addr().get() as i64,
        })
    }

    /// The mode of a block that begins now.
    pub(crate) fn mode(&self, b: &mut FunctionBuilder<'_>, core: Value) -> Value {
        let mut mode = None;
        for &(field, right, mask, left) in &self.mode {
            let value = b.ins().load(I64, MemFlags::trusted(), core, field);
            let value = if right == 0 { value } else { b.ins().ushr_imm_u(value, i64::from(right)) };
            let value = if mask == u64::MAX { value } else { b.ins().band_imm_s(value, mask as i64) };
            let value = if left == 0 { value } else { b.ins().ishl_imm_u(value, i64::from(left)) };
            mode = Some(mode.map_or(value, |mode| b.ins().bor(mode, value)));
        }
        mode.unwrap_or_else(|| b.ins().iconst(I64, 0))
    }
}

/// The offset of a field, which must lie inside `core` itself: what is behind a pointer may move.
fn inside<C>(core: &C, address: usize, size: usize) -> Result<i32, Error> {
    let start = std::ptr::from_ref(core).addr();
    let offset = address.checked_sub(start).filter(|offset| offset + size <= size_of::<C>());
    offset
        .and_then(|offset| i32::try_from(offset).ok())
        .ok_or_else(|| Error::Generator("a field of the core does not lie in the core".into()))
}

/// How code is left; anything else is the address of the operation that trapped.
pub(crate) const BETWEEN: usize = 0;
pub(crate) const EXIT: usize = 1;
/// Among the answers of helpers: go on at the program counter.
pub(crate) const GO: usize = 2;

/// Requests, table, number of the block: what all code gets. The core is in the pinned register.
pub(crate) fn signature(convention: CallConv) -> ir::Signature {
    let mut signature = ir::Signature::new(convention);
    signature.params.extend([AbiParam::new(I64); 3]);
    signature.returns.push(AbiParam::new(I64));
    signature
}

/// Where a branch leads.
#[derive(Clone, Copy)]
pub enum Target {
    /// So many bytes from the operation.
    Relative(i64),
    /// An address.
    Address(Value),
}

/// Describes operations, one after another.
pub struct Emitter<'a, O> {
    /// The builder, for what this vocabulary lacks. Blocks must be left as they were found.
    pub b: FunctionBuilder<'a>,
    place: &'a Place,
    helpers: &'a Helpers,
    region: &'a Region<O>,
    labels: Vec<ir::Block>,
    /// Ways out that all blocks share.
    out: Out,
    /// The core, as far as it is known in the running block of code: it has a register of its own, and keeping it in
    /// another from block to block would only cost.
    core: Option<Value>,
    requests: Value,
    /// Where the stamp of the page is.
    stamp: usize,
    /// Address of the page.
    start: Value,
    /// Registers that are known, whole and their low halves.
    registers: [Option<Value>; 16],
    words: [Option<Value>; 16],
    condition: Condition,
    /// Index of the block and of the operation in it.
    block: usize,
    op: usize,
    /// Nothing more can be added to the block.
    ended: bool,
}

struct Out {
    /// Goes on at the program counter.
    go: ir::Block,
    /// Back to the core, at an address.
    between: ir::Block,
    /// As a helper has answered.
    answer: ir::Block,
}

impl<'a, O: Operation> Emitter<'a, O> {
    #[expect(clippy::too_many_arguments, reason = "all of it is what code is made from")]
    pub(crate) fn run(
        func: &'a mut ir::Function,
        context: &'a mut FunctionBuilderContext,
        place: &'a Place,
        helpers: &'a Helpers,
        find: usize,
        stamp: usize,
        region: &'a Region<O>,
        describe: Describe<O>,
    ) {
        func.signature = signature(CallConv::Tail);
        let mut b = FunctionBuilder::new(func, context);
        let flags = MemFlags::trusted();
        let entry = b.create_block();
        b.append_block_params_for_function_params(entry);
        b.switch_to_block(entry);
        let params = b.block_params(entry).to_vec();
        let core = b.ins().get_pinned_reg(I64);
        let counter = b.ins().load(I64, flags, core, place.counter);
        let start = b.ins().band_imm_s(counter, !0xfff);
        let labels: Vec<ir::Block> = region.blocks.iter().map(|_| b.create_block()).collect();
        if let [only] = labels[..] {
            b.ins().jump(only, &[]);
        } else {
            let number = b.ins().ireduce(I32, params[2]);
            let calls: Vec<_> = labels.iter().map(|label| b.func.dfg.block_call(*label, &[])).collect();
            let table = b.create_jump_table(JumpTableData::new(calls[0], &calls));
            b.ins().br_table(number, table);
        }
        let out = Out { go: b.create_block(), between: b.create_block(), answer: b.create_block() };
        let mut emitter = Emitter {
            b,
            place,
            helpers,
            region,
            labels,
            out,
            core: None,
            requests: params[0],
            stamp,
            start,
            registers: [None; 16],
            words: [None; 16],
            condition: Condition::Stored,
            block: 0,
            op: 0,
            ended: false,
        };
        for (index, block) in region.blocks.iter().enumerate() {
            emitter.begin(index);
            for (position, op) in block.ops.iter().enumerate() {
                if emitter.ended {
                    break;
                }
                emitter.op = position;
                if !describe(&mut emitter, op) {
                    emitter.step();
                }
            }
            if !emitter.ended {
                emitter.op = block.ops.len() - 1;
                emitter.store_condition();
                emitter.retire();
                let last = emitter.current();
                let end = block.offset.wrapping_add_unsigned(last.offset() + last.length());
                emitter.leave_for(end);
            }
        }
        emitter.ways_out(find, params[1]);
        emitter.b.seal_all_blocks();
        emitter.b.finalize(place.config);
    }

    fn ways_out(&mut self, find: usize, table: Value) {
        let Out { go, between, answer } = self.out;
        let address = self.b.append_block_param(between, I64);
        self.switch(between);
        self.put(address, self.place.counter);
        let b = &mut self.b;
        b.set_cold_block(between);
        b.set_cold_block(answer);
        let code = b.ins().iconst(I64, BETWEEN as i64);
        b.ins().return_(&[code]);

        let code = b.append_block_param(answer, I64);
        b.switch_to_block(answer);
        let goes = b.ins().icmp_imm_u(IntCC::Equal, code, GO as i64);
        let back = b.create_block();
        b.ins().brif(goes, go, &[], back, &[]);
        b.switch_to_block(back);
        b.ins().return_(&[code]);

        b.switch_to_block(go);
        let callee = b.import_signature(signature(CallConv::Tail));
        let find = b.ins().iconst(I64, find as i64);
        b.ins().return_call_indirect(callee, find, &[self.requests, table, table]);
    }

    /// Begins a block: back to the core if anything wants to be looked at, if the block would not end in time, or if
    /// its page has changed.
    fn begin(&mut self, index: usize) {
        let place = self.place;
        let block = &self.region.blocks[index];
        self.switch(self.labels[index]);
        self.block = index;
        self.forget();
        self.condition = Condition::Stored;
        self.ended = false;
        let flags = MemFlags::trusted();
        let executed = self.get(I64, place.executed);
        let until = self.get(I64, place.until);
        let after = self.b.ins().iadd_imm_u(executed, block.ops.len() as i64);
        let late = self.b.ins().icmp(IntCC::UnsignedGreaterThan, after, until);
        let recheck = self.get(I8, place.recheck);
        let late = self.b.ins().bor(late, recheck);
        let late = self.b.ins().uextend(I32, late);
        let requests = self.b.ins().load(I32, flags, self.requests, 0);
        let stamp = self.number(self.stamp as u64);
        let stamp = self.b.ins().load(I32, flags, stamp, 0);
        let changed = self.b.ins().bxor_imm_u(stamp, i64::from(self.region.stamp));
        let look = self.b.ins().bor(requests, changed);
        let look = self.b.ins().bor(look, late);
        let (stay, leave) = (self.b.create_block(), self.cold());
        self.b.ins().brif(look, leave, &[], stay, &[]);
        self.switch(leave);
        let address = self.address_of(block.offset);
        self.b.ins().jump(self.out.between, &[BlockArg::Value(address)]);
        self.switch(stay);
    }

    /// The count of instructions after so many of the block. What is in the core is exact at its beginning.
    fn executed(&mut self, done: i64) -> Value {
        let executed = self.get(I64, self.place.executed);
        self.b.ins().iadd_imm_u(executed, done)
    }

    fn switch(&mut self, block: ir::Block) {
        self.b.switch_to_block(block);
        self.core = None;
    }

    fn core(&mut self) -> Value {
        let b = &mut self.b;
        *self.core.get_or_insert_with(|| b.ins().get_pinned_reg(I64))
    }

    /// A field of the core.
    fn get(&mut self, kind: Type, at: i32) -> Value {
        let core = self.core();
        self.b.ins().load(kind, MemFlags::trusted(), core, at)
    }

    fn put(&mut self, value: Value, at: i32) {
        let core = self.core();
        self.b.ins().store(MemFlags::trusted(), value, core, at);
    }

    fn current(&self) -> &'a O {
        &self.region.blocks[self.block].ops[self.op]
    }

    fn cold(&mut self) -> ir::Block {
        let block = self.b.create_block();
        self.b.set_cold_block(block);
        block
    }

    fn address_of(&mut self, offset: i64) -> Value {
        self.b.ins().iadd_imm_s(self.start, offset)
    }

    /// A number.
    pub fn number(&mut self, value: u64) -> Value {
        self.b.ins().iconst(I64, value as i64)
    }

    /// A register.
    pub fn register(&mut self, number: u8) -> Value {
        let number = usize::from(number & 15);
        if let Some(value) = self.registers[number] {
            return value;
        }
        let at = self.place.registers + number as i32 * 8;
        let value = self.get(I64, at);
        self.registers[number] = Some(value);
        value
    }

    /// Sets a register.
    pub fn set_register(&mut self, number: u8, value: Value) {
        let number = usize::from(number & 15);
        let at = self.place.registers + number as i32 * 8;
        self.put(value, at);
        self.registers[number] = Some(value);
        self.words[number] = None;
    }

    /// The low half of a register.
    pub fn word(&mut self, number: u8) -> Value {
        let number = usize::from(number & 15);
        if let Some(value) = self.words[number] {
            return value;
        }
        let value = match self.registers[number] {
            Some(value) => self.b.ins().ireduce(I32, value),
            // Registers are in the host's byte order, which is little-endian.
            None => self.get(I32, self.place.registers + number as i32 * 8),
        };
        self.words[number] = Some(value);
        value
    }

    /// Sets the low half (32 bits) of a register; the high half stays.
    pub fn set_word(&mut self, number: u8, value: Value) {
        let number = usize::from(number & 15);
        let at = self.place.registers + number as i32 * 8;
        self.put(value, at);
        self.registers[number] = None;
        self.words[number] = Some(value);
    }

    /// Registers may have changed.
    fn forget(&mut self) {
        self.registers = [None; 16];
        self.words = [None; 16];
    }

    /// The address of the operation.
    pub fn here(&mut self) -> Value {
        let offset = self.region.blocks[self.block].offset.wrapping_add_unsigned(self.current().offset());
        self.address_of(offset)
    }

    /// The address behind the operation.
    pub fn behind(&mut self) -> Value {
        let op = self.current();
        let offset = self.region.blocks[self.block].offset.wrapping_add_unsigned(op.offset() + op.length());
        self.address_of(offset)
    }

    /// Calls a helper, which gets the place of the operation, and `args`.
    fn ask<const RESULTS: usize>(&mut self, function: usize, args: &[Value]) -> Vec<Value> {
        let mut signature = ir::Signature::new(CallConv::SystemV);
        signature.params.extend(std::iter::repeat_n(AbiParam::new(I64), args.len() + 4));
        signature.returns.extend([AbiParam::new(I64); RESULTS]);
        let signature = self.b.import_signature(signature);
        let op = self.number(std::ptr::from_ref(self.current()).addr() as u64);
        let block = self.address_of(self.region.blocks[self.block].offset);
        let executed = self.executed(self.op as i64);
        let callee = self.number(function as u64);
        let all = [&[self.core(), op, block, executed], args].concat();
        let call = self.b.ins().call_indirect(signature, callee, &all);
        self.b.inst_results(call).to_vec()
    }

    fn count(&mut self, done: i64) {
        let executed = self.executed(done);
        self.put(executed, self.place.executed);
    }

    fn retire(&mut self) {
        self.count(self.region.blocks[self.block].ops.len() as i64);
    }

    /// Lets the interpreter execute the operation.
    pub fn step(&mut self) {
        self.store_condition();
        let join = self.b.create_block();
        self.step_to(join);
        self.switch(join);
        self.forget();
        self.condition = Condition::Stored;
    }

    /// The condition code is stored.
    fn step_to(&mut self, join: ir::Block) {
        let answer = self.ask::<1>(self.helpers.step, &[])[0];
        self.b.ins().brif(answer, self.out.answer, &[BlockArg::Value(answer)], join, &[]);
    }

    /// Goes on at an address in the region's page, counted from its start; everything is stored but the counter.
    fn leave_for(&mut self, offset: i64) {
        match self.region.blocks.iter().position(|block| block.offset == offset) {
            Some(index) => self.b.ins().jump(self.labels[index], &[]),
            None => {
                let address = self.address_of(offset);
                self.put(address, self.place.counter);
                self.b.ins().jump(self.out.go, &[])
            }
        };
        self.ended = true;
    }

    /// Ends the block with a branch, taken if `taken` (a Boolean) or always.
    pub fn branch(&mut self, taken: Option<Value>, target: Target) {
        self.store_condition();
        self.retire();
        let op = self.current();
        let block = self.region.blocks[self.block].offset;
        let here = block.wrapping_add_unsigned(op.offset());
        let behind = here.wrapping_add_unsigned(op.length());
        if let Some(taken) = taken {
            let (yes, no) = (self.b.create_block(), self.b.create_block());
            self.b.ins().brif(taken, yes, &[], no, &[]);
            self.switch(no);
            self.leave_for(behind);
            self.switch(yes);
        }
        let from = self.here();
        self.put(from, self.place.breaking_event);
        match target {
            Target::Relative(distance) => self.leave_for(here.wrapping_add(distance)),
            Target::Address(address) => {
                self.put(address, self.place.counter);
                self.b.ins().jump(self.out.go, &[]);
            }
        }
        self.ended = true;
    }

    /// Leaves the operation to the interpreter if `overflow` holds and is to trap.
    pub fn overflow(&mut self, overflow: Value) {
        let (over, usual) = (self.cold(), self.b.create_block());
        self.b.ins().brif(overflow, over, &[], usual, &[]);
        self.switch(over);
        let (at, mask) = self.place.overflow_traps;
        let traps = self.get(I64, at);
        let traps = self.b.ins().band_imm_s(traps, mask as i64);
        self.leave_if(traps, usual);
        self.switch(usual);
    }

    /// Leaves the operation to the interpreter if `when` holds, by leaving the code before it.
    pub fn rarely(&mut self, when: Value) {
        let usual = self.b.create_block();
        self.leave_if(when, usual);
        self.switch(usual);
    }

    fn leave_if(&mut self, when: Value, usual: ir::Block) {
        let rare = self.cold();
        self.b.ins().brif(when, rare, &[], usual, &[]);
        self.switch(rare);
        self.store_condition();
        self.count(self.op as i64);
        let here = self.here();
        self.b.ins().jump(self.out.between, &[BlockArg::Value(here)]);
    }
}
