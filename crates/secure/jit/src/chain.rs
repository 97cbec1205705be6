//! From code to code without the core's dispatcher: a table by address, and the stub that looks into it.

use crate::emit::{BETWEEN, Place, signature};
use crate::translate::Code;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self, AbiParam, InstBuilder, MemFlagsData as MemFlags, types::I64};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use std::mem::offset_of;

const ENTRIES: usize = 16384;

/// Code for an address.
#[derive(Clone, Copy)]
#[repr(C)]
struct Chain {
    address: u64,
    mode: u64,
    code: usize,
    entry: u64,
}

/// No block is at an odd address.
const NONE: Chain = Chain { address: 1, mode: 0, code: 0, entry: 0 };

/// What a CPU knows of code, by address.
pub(crate) struct Table(Box<[Chain]>);

impl Table {
    pub(crate) fn new() -> Self {
        Self(vec![NONE; ENTRIES].into_boxed_slice())
    }

    #[inline]
    pub(crate) fn set(&mut self, address: u64, mode: u64, code: Code) {
        self.0[(address >> 1) as usize % ENTRIES] =
            Chain { address, mode, code: code.address, entry: u64::from(code.entry) };
    }

    pub(crate) fn clear(&mut self) {
        self.0.fill(NONE);
    }

    pub(crate) fn pointer(&self) -> *const std::ffi::c_void {
        self.0.as_ptr().cast()
    }
}

/// From the host's calling convention to that of code: two parameters more, the code itself and the core.
pub(crate) fn enter(func: &mut ir::Function, context: &mut FunctionBuilderContext, place: &Place) {
    func.signature = signature(CallConv::SystemV);
    func.signature.params.extend([AbiParam::new(I64); 2]);
    let mut b = FunctionBuilder::new(func, context);
    let block = b.create_block();
    b.append_block_params_for_function_params(block);
    b.switch_to_block(block);
    let params = b.block_params(block).to_vec();
    let callee = b.import_signature(signature(CallConv::Tail));
    // The register belongs to the caller.
    let kept = b.ins().get_pinned_reg(I64);
    b.ins().set_pinned_reg(params[4]);
    let call = b.ins().call_indirect(callee, params[3], &params[..3]);
    let result = b.inst_results(call)[0];
    b.ins().set_pinned_reg(kept);
    b.ins().return_(&[result]);
    b.seal_all_blocks();
    b.finalize(place.config);
}

/// Goes on at the program counter with the code for it, or back if there is none. Code itself sees whether something
/// wants to be looked at, and whether it is still valid.
pub(crate) fn find(func: &mut ir::Function, context: &mut FunctionBuilderContext, place: &Place) {
    func.signature = signature(CallConv::Tail);
    let mut b = FunctionBuilder::new(func, context);
    let flags = MemFlags::trusted();
    let [start, second, go, back] = std::array::from_fn(|_| b.create_block());
    b.set_cold_block(back);
    b.append_block_params_for_function_params(start);
    b.switch_to_block(start);
    let params = b.block_params(start).to_vec();
    let (core, table) = (b.ins().get_pinned_reg(I64), params[1]);
    let address = b.ins().load(I64, flags, core, place.counter);
    let index = b.ins().ushr_imm_u(address, 1);
    let index = b.ins().band_imm_u(index, ENTRIES as i64 - 1);
    let scaled = b.ins().ishl_imm_u(index, i64::from(size_of::<Chain>().trailing_zeros()));
    let entry = b.ins().iadd(table, scaled);
    let found = b.ins().load(I64, flags, entry, offset_of!(Chain, address) as i32);
    let same = b.ins().icmp(IntCC::Equal, found, address);
    b.ins().brif(same, second, &[], back, &[]);

    b.switch_to_block(second);
    let mode = place.mode(&mut b, core);
    let found = b.ins().load(I64, flags, entry, offset_of!(Chain, mode) as i32);
    let same = b.ins().icmp(IntCC::Equal, found, mode);
    b.ins().brif(same, go, &[], back, &[]);

    b.switch_to_block(go);
    let code = b.ins().load(I64, flags, entry, offset_of!(Chain, code) as i32);
    let number = b.ins().load(I64, flags, entry, offset_of!(Chain, entry) as i32);
    let callee = b.import_signature(signature(CallConv::Tail));
    b.ins().return_call_indirect(callee, code, &[params[0], table, number]);

    b.switch_to_block(back);
    let answer = b.ins().iconst(I64, BETWEEN as i64);
    b.ins().return_(&[answer]);
    b.seal_all_blocks();
    b.finalize(place.config);
}

const _: () = assert!(size_of::<Chain>().is_power_of_two());
