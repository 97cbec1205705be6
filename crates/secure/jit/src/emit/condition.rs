//! Condition codes, computed when something can see them.

use super::{Emitter, Operation};
use cranelift_codegen::ir::condcodes::{CondCode, IntCC};
use cranelift_codegen::ir::types::{I8, I32};
use cranelift_codegen::ir::{InstBuilder, Value};

/// How the condition code comes about.
#[derive(Clone, Copy)]
pub enum Condition {
    /// It is in the core.
    Stored,
    /// It is known.
    Known(u8),
    /// 0 if equal, 1 if `a` is less, 2 if it is greater.
    Order {
        /// First comparand.
        a: Value,
        /// Second comparand, of the same width.
        b: Value,
        /// As signed numbers.
        signed: bool,
    },
    /// 0 for zero, else 1.
    NotZero(Value),
    /// Bit 1 says whether there was a carry (a Boolean), bit 0 whether the result is not zero.
    Carry {
        /// The result.
        result: Value,
        /// The carry; for a subtraction: no borrow.
        carry: Value,
    },
    /// 3 for an overflow (a Boolean), else as the signed result compares with zero.
    Overflow {
        /// The result.
        result: Value,
        /// The overflow.
        overflow: Value,
    },
    /// Computed, 8 bits.
    Value(Value),
}

impl<O: Operation> Emitter<'_, O> {
    /// Sets the condition code.
    pub fn set_condition(&mut self, condition: Condition) {
        self.condition = condition;
    }

    /// The condition code, 8 bits.
    pub fn condition(&mut self) -> Value {
        self.compute(self.condition)
    }

    fn compute(&mut self, condition: Condition) -> Value {
        match condition {
            Condition::Stored => self.get(I8, self.place.condition),
            Condition::Known(code) => self.b.ins().iconst(I8, i64::from(code)),
            Condition::Order { a, b, signed } => {
                let (less, greater) = orders(signed);
                let less = self.b.ins().icmp(less, a, b);
                let greater = self.b.ins().icmp(greater, a, b);
                let greater = self.b.ins().ishl_imm_u(greater, 1);
                self.b.ins().bor(less, greater)
            }
            Condition::NotZero(value) => self.b.ins().icmp_imm_u(IntCC::NotEqual, value, 0),
            Condition::Carry { result, carry } => {
                let high = self.b.ins().ishl_imm_u(carry, 1);
                let low = self.b.ins().icmp_imm_u(IntCC::NotEqual, result, 0);
                self.b.ins().bor(high, low)
            }
            Condition::Overflow { result, overflow } => {
                let order = self.sign_of(result);
                let order = self.compute(order);
                let three = self.b.ins().iconst(I8, 3);
                self.b.ins().select(overflow, three, order)
            }
            Condition::Value(value) => value,
        }
    }

    /// Whether the condition code is one that the mask selects (8 selects 0, 4 selects 1, 2 selects 2, 1 selects 3);
    /// nothing if it always or never is, with the answer.
    pub fn selected(&mut self, mask: u8) -> Result<Value, bool> {
        self.selected_of(self.condition, mask)
    }

    /// As [`selected`](Self::selected), of another condition.
    pub fn selected_of(&mut self, condition: Condition, mask: u8) -> Result<Value, bool> {
        let mask = mask & 15;
        if let Condition::Overflow { result, overflow } = condition {
            return self.selected_of_overflow(result, overflow, mask);
        }
        let relevant = match condition {
            Condition::Order { .. } => 14,
            Condition::NotZero(_) => 12,
            Condition::Known(code) => return Err(mask & 8 >> (code & 3) != 0),
            _ => 15,
        };
        if mask & relevant == relevant || mask & relevant == 0 {
            return Err(mask & relevant != 0);
        }
        Ok(match (condition, mask & relevant) {
            (Condition::Order { a, b, signed }, mask) => {
                let (less, greater) = orders(signed);
                let code = match mask {
                    8 => IntCC::Equal,
                    4 => less,
                    2 => greater,
                    12 => greater.complement(),
                    10 => less.complement(),
                    _ => IntCC::NotEqual,
                };
                self.b.ins().icmp(code, a, b)
            }
            (Condition::NotZero(value), mask) => {
                let code = if mask == 8 { IntCC::Equal } else { IntCC::NotEqual };
                self.b.ins().icmp_imm_u(code, value, 0)
            }
            (Condition::Carry { carry, .. }, 3) => carry,
            (Condition::Carry { carry, .. }, 12) => self.b.ins().icmp_imm_u(IntCC::Equal, carry, 0),
            (Condition::Carry { result, .. }, 10) => self.b.ins().icmp_imm_u(IntCC::Equal, result, 0),
            (Condition::Carry { result, .. }, 5) => self.b.ins().icmp_imm_u(IntCC::NotEqual, result, 0),
            (_, mask) => {
                let code = self.compute(condition);
                let code = self.b.ins().uextend(I32, code);
                let eight = self.b.ins().iconst(I32, 8);
                let bit = self.b.ins().ushr(eight, code);
                self.b.ins().band_imm_u(bit, i64::from(mask))
            }
        })
    }

    fn selected_of_overflow(&mut self, result: Value, overflow: Value, mask: u8) -> Result<Value, bool> {
        if mask == 0 || mask == 15 {
            return Err(mask != 0);
        }
        let order = self.sign_of(result);
        Ok(match (self.selected_of(order, mask & 14), mask & 1) {
            (Ok(usual), 0) => self.b.ins().band_not(usual, overflow),
            (Ok(usual), _) => self.b.ins().bor(usual, overflow),
            (Err(true), _) => self.b.ins().bxor_imm_u(overflow, 1),
            (Err(false), _) => overflow,
        })
    }

    fn sign_of(&mut self, a: Value) -> Condition {
        let kind = self.b.func.dfg.value_type(a);
        let b = self.b.ins().iconst(kind, 0);
        Condition::Order { a, b, signed: true }
    }

    /// Stores a condition code, for [`span`](Self::span).
    pub fn store_condition_code(&mut self, code: u8) {
        let code = self.b.ins().iconst(I8, i64::from(code));
        self.put(code, self.place.condition);
    }

    /// The carry that the condition code tells of: 0 or 1, 8 bits.
    pub fn carry(&mut self) -> Value {
        match self.condition {
            Condition::Carry { carry, .. } => carry,
            other => {
                let code = self.compute(other);
                self.b.ins().ushr_imm_u(code, 1)
            }
        }
    }

    pub(super) fn store_condition(&mut self) {
        if !matches!(self.condition, Condition::Stored) {
            let value = self.compute(self.condition);
            self.put(value, self.place.condition);
        }
    }
}

fn orders(signed: bool) -> (IntCC, IntCC) {
    if signed {
        (IntCC::SignedLessThan, IntCC::SignedGreaterThan)
    } else {
        (IntCC::UnsignedLessThan, IntCC::UnsignedGreaterThan)
    }
}
