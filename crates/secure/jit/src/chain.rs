//! From code to code without the core's dispatcher: a table by address, and the stub that looks into it.

use crate::code::{BETWEEN, Code, signature};
use crate::emit::Place;
use cloister_memory::CodeStamp;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self, AbiParam, InstBuilder, MemFlagsData as MemFlags, types::I64};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use std::mem::offset_of;
use std::sync::atomic::AtomicU32;

const ENTRIES: usize = 8192;

/// Code for an address.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Chain {
    address: u64,
    mode: u64,
    code: usize,
    /// Where the stamp of the page is, and what it has to be.
    stamp: *const AtomicU32,
    expected: u32,
}

// SAFETY: the pointer is only followed by generated code while the storage lives.
unsafe impl Send for Chain {}

impl Chain {
    pub(crate) fn new(address: u64, mode: u64, code: Code, stamp: &AtomicU32, expected: CodeStamp) -> Self {
        Self { address, mode, code: code.0, stamp, expected }
    }

    /// No block is at an odd address.
    const NONE: Self =
        Self { address: 1, mode: 0, code: 0, stamp: std::ptr::null(), expected: 0 };
}

#[repr(C)]
pub(crate) struct Table([Chain; ENTRIES]);

impl Table {
    pub(crate) fn new() -> Box<Self> {
        Box::new(Self([Chain::NONE; ENTRIES]))
    }

    pub(crate) fn set(&mut self, address: u64, chain: Chain) {
        self.0[(address >> 1) as usize % ENTRIES] = chain;
    }

    pub(crate) fn clear(&mut self) {
        self.0.fill(Chain::NONE);
    }
}

/// Core, requests, table, code.
pub(crate) fn enter_signature() -> ir::Signature {
    let mut signature = signature(CallConv::SystemV);
    signature.params.push(AbiParam::new(I64));
    signature
}

/// From the host's calling convention to that of code.
pub(crate) fn build_enter(func: &mut ir::Function, context: &mut FunctionBuilderContext, place: &Place) {
    let mut b = FunctionBuilder::new(func, context);
    let block = b.create_block();
    b.append_block_params_for_function_params(block);
    b.switch_to_block(block);
    let params = b.block_params(block).to_vec();
    let callee = b.import_signature(signature(CallConv::Tail));
    let call = b.ins().call_indirect(callee, params[3], &params[..3]);
    let result = b.inst_results(call)[0];
    b.ins().return_(&[result]);
    b.seal_all_blocks();
    b.finalize(place.config);
}

/// Goes on at the program counter: with the code for it if nothing wants to be looked at, else back.
pub(crate) fn build(func: &mut ir::Function, context: &mut FunctionBuilderContext, place: &Place) {
    let mut b = FunctionBuilder::new(func, context);
    let flags = MemFlags::trusted();
    let start = b.create_block();
    b.append_block_params_for_function_params(start);
    b.switch_to_block(start);
    let params = b.block_params(start).to_vec();
    let [core, requests, table] = [params[0], params[1], params[2]];
    let back = b.create_block();
    let look = b.create_block();
    b.set_cold_block(back);

    let attention = place.attention(&mut b, core, requests);
    b.ins().brif(attention, back, &[], look, &[]);

    b.switch_to_block(look);
    let address = b.ins().load(I64, flags, core, place.counter);
    let index = b.ins().ushr_imm_u(address, 1);
    let index = b.ins().band_imm_u(index, ENTRIES as i64 - 1);
    let scaled = b.ins().imul_imm_s(index, size_of::<Chain>() as i64);
    let entry = b.ins().iadd(table, scaled);
    let found = b.ins().load(I64, flags, entry, offset_of!(Chain, address) as i32);
    let same = b.ins().icmp(IntCC::Equal, found, address);
    let second = b.create_block();
    b.ins().brif(same, second, &[], back, &[]);

    b.switch_to_block(second);
    let mode = place.mode(&mut b, core);
    let found = b.ins().load(I64, flags, entry, offset_of!(Chain, mode) as i32);
    let same = b.ins().icmp(IntCC::Equal, found, mode);
    let third = b.create_block();
    b.ins().brif(same, third, &[], back, &[]);

    b.switch_to_block(third);
    let stamp = b.ins().load(I64, flags, entry, offset_of!(Chain, stamp) as i32);
    let stamp = b.ins().load(ir::types::I32, flags, stamp, 0);
    let expected = b.ins().load(ir::types::I32, flags, entry, offset_of!(Chain, expected) as i32);
    let same = b.ins().icmp(IntCC::Equal, stamp, expected);
    let go = b.create_block();
    b.ins().brif(same, go, &[], back, &[]);

    b.switch_to_block(go);
    let code = b.ins().load(I64, flags, entry, offset_of!(Chain, code) as i32);
    let callee = b.import_signature(signature(CallConv::Tail));
    b.ins().return_call_indirect(callee, code, &params);

    b.switch_to_block(back);
    let answer = b.ins().iconst(I64, BETWEEN as i64);
    b.ins().return_(&[answer]);
    b.seal_all_blocks();
    b.finalize(place.config);
}
