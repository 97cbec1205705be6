//! Operands of instructions: parsing, range checks and placing into the instruction (z/Architecture Principles of
//! Operation, SA22-7832, chapter 5 "Instruction Formats").

use crate::expr::{Cursor, EvalError, Symbols, Token};
use crate::table::{Field, Insn};

/// Encodes one instruction at the address that `symbols` calls here. The result is left-aligned in 48 bits.
pub(crate) fn encode(insn: &Insn, tokens: &[Token], symbols: &dyn Symbols) -> Result<u64, String> {
    let mut operands = Operands { cursor: Cursor::new(tokens), symbols, word: insn.template };
    let mut first = true;
    for (index, &field) in insn.fields.iter().enumerate() {
        let at_end = operands.cursor.peek().is_none();
        if at_end && matches!(field, Field::ROpt(_) | Field::MOpt(_) | Field::BdxOpt) {
            continue;
        }
        if at_end {
            return Err(format!("operand {} is missing: expected {}", index + 1, describe(field)));
        }
        if !first {
            operands.cursor.expect(',', "between operands")?;
        }
        first = false;
        operands.field(field).map_err(|error| format!("operand {}: {}", index + 1, error.message()))?;
    }
    operands.cursor.end()?;
    Ok(operands.word)
}

/// The operand in words, for messages.
fn describe(field: Field) -> &'static str {
    match field {
        Field::R(_) | Field::ROpt(_) => "a general register %r0-%r15",
        Field::Even(_) => "an even general register (of a pair)",
        Field::F(_) => "a floating-point register %f0-%f15",
        Field::C(_) => "a control register %c0-%c15",
        Field::A(_) => "an access register %a0-%a15",
        Field::M(_) | Field::MOpt(_) => "a mask 0-15",
        Field::Bd(_) => "displacement(base), displacement 0-4095",
        Field::Bdx | Field::BdxOpt => "displacement(index,base), displacement 0-4095",
        Field::BdLong => "displacement(base), displacement -524288 to 524287",
        Field::BdxLong => "displacement(index,base), displacement -524288 to 524287",
        Field::Bdl(..) => "displacement(length,base), displacement 0-4095",
        Field::Bdr => "displacement(register,base), displacement 0-4095",
        Field::U(..) => "an unsigned immediate",
        Field::S(..) => "a signed immediate",
        Field::Rel(..) => "a branch or data target",
    }
}

struct Operands<'t> {
    cursor: Cursor<'t>,
    symbols: &'t dyn Symbols,
    word: u64,
}

impl Operands<'_> {
    fn field(&mut self, field: Field) -> Result<(), EvalError> {
        match field {
            Field::R(at) | Field::ROpt(at) => {
                let number = self.register('r', describe(field))?;
                self.put(at, 4, number.into());
            }
            Field::Even(at) => {
                let number = self.register('r', describe(field))?;
                if number % 2 != 0 {
                    return Err(format!("expected {}, found `%r{number}`", describe(field)).into());
                }
                self.put(at, 4, number.into());
            }
            Field::F(at) => self.class(at, 'f', field)?,
            Field::C(at) => self.class(at, 'c', field)?,
            Field::A(at) => self.class(at, 'a', field)?,
            Field::M(at) | Field::MOpt(at) => self.unsigned(at, 4, "mask")?,
            Field::U(at, width) => self.unsigned(at, width, "immediate")?,
            Field::S(at, width) => {
                let value = self.cursor.expression(self.symbols)?;
                let limit = 1_i128 << (width - 1);
                range(value, -limit, limit - 1, "immediate")?;
                self.put(at, width, value);
            }
            Field::Rel(at, width) => self.relative(at, width)?,
            Field::Bd(at) => {
                self.displacement(at)?;
                let base = self.base_only()?;
                self.put(at, 4, base.into());
            }
            Field::BdLong => {
                self.long_displacement()?;
                let base = self.base_only()?;
                self.put(16, 4, base.into());
            }
            Field::Bdx | Field::BdxOpt => {
                self.displacement(16)?;
                self.index_base()?;
            }
            Field::BdxLong => {
                self.long_displacement()?;
                self.index_base()?;
            }
            Field::Bdl(at, width, base_at) => {
                self.displacement(base_at)?;
                self.cursor.expect('(', "and a length")?;
                let length = self.cursor.expression(self.symbols)?;
                range(length, 1, 1 << width, "length")?;
                self.put(at, width, length - 1);
                let base = if self.cursor.eat(',') { self.register('r', "a base register")? } else { 0 };
                self.cursor.expect(')', "after the base register")?;
                self.put(base_at, 4, base.into());
            }
            Field::Bdr => {
                self.displacement(16)?;
                self.cursor.expect('(', "and the length register")?;
                let length = self.register('r', "the length register")?;
                self.cursor.expect(',', "and the base register")?;
                let base = self.register('r', "the base register")?;
                self.cursor.expect(')', "after the base register")?;
                self.put(8, 4, length.into());
                self.put(16, 4, base.into());
            }
        }
        Ok(())
    }

    fn class(&mut self, at: u8, class: char, field: Field) -> Result<(), EvalError> {
        let number = self.register(class, describe(field))?;
        self.put(at, 4, number.into());
        Ok(())
    }

    fn register(&mut self, class: char, expected: &str) -> Result<u8, String> {
        match self.cursor.peek() {
            Some(&Token::Register(found, number)) if found == class => {
                self.cursor.next();
                Ok(number)
            }
            _ => Err(format!("expected {expected}, found {}", self.cursor.found())),
        }
    }

    fn unsigned(&mut self, at: u8, width: u8, what: &str) -> Result<(), EvalError> {
        let value = self.cursor.expression(self.symbols)?;
        range(value, 0, (1 << width) - 1, what)?;
        self.put(at, width, value);
        Ok(())
    }

    fn relative(&mut self, at: u8, width: u8) -> Result<(), EvalError> {
        let target = self.cursor.expression(self.symbols)?;
        let distance = target - self.symbols.here();
        if distance % 2 != 0 {
            return Err(format!("the target {target:#x} is odd, but must be a halfword boundary").into());
        }
        let limit = 1_i128 << (width - 1);
        if !(-limit..limit).contains(&(distance / 2)) {
            let hint = if width == 16 { "; use the long form (jg.., brasl, larl)" } else { "" };
            return Err(
                format!("the target {target:#x} is {distance} bytes away, which does not fit{hint}").into()
            );
        }
        self.put(at, width, distance / 2);
        Ok(())
    }

    fn displacement(&mut self, base_at: u8) -> Result<(), EvalError> {
        let value = self.cursor.expression(self.symbols)?;
        range(value, 0, 4095, "displacement")?;
        self.put(base_at + 4, 12, value);
        Ok(())
    }

    fn long_displacement(&mut self) -> Result<(), EvalError> {
        let value = self.cursor.expression(self.symbols)?;
        range(value, -524_288, 524_287, "displacement")?;
        self.put(20, 12, value & 0xfff);
        self.put(32, 8, value >> 12);
        Ok(())
    }

    /// `(base)` or nothing.
    fn base_only(&mut self) -> Result<u8, String> {
        if !self.cursor.eat('(') {
            return Ok(0);
        }
        let base = self.register('r', "a base register")?;
        self.cursor.expect(')', "after the base register")?;
        Ok(base)
    }

    /// `(index,base)`, `(base)`, `(index,)`, `(,base)` or nothing.
    fn index_base(&mut self) -> Result<(), String> {
        if !self.cursor.eat('(') {
            return Ok(());
        }
        let (mut index, mut base) = (0, 0);
        if self.cursor.eat(',') {
            base = self.register('r', "a base register")?;
        } else {
            let first = self.register('r', "an index or base register")?;
            if !self.cursor.eat(',') {
                base = first;
            } else {
                index = first;
                if self.cursor.peek() != Some(&Token::Char(')')) {
                    base = self.register('r', "a base register")?;
                }
            }
        }
        self.cursor.expect(')', "after the base register")?;
        self.put(12, 4, index.into());
        self.put(16, 4, base.into());
        Ok(())
    }

    /// Places the low `width` bits of a checked value.
    fn put(&mut self, at: u8, width: u8, value: i128) {
        let mask = (1_u128 << width) - 1;
        // The cast keeps the two's complement bits; the mask leaves only the field.
        let bits = (value as u128 & mask) as u64;
        self.word |= bits << (48 - at - width);
    }
}

/// Checks a value against inclusive limits.
pub(crate) fn range(value: i128, low: i128, high: i128, what: &str) -> Result<(), String> {
    if (low..=high).contains(&value) {
        Ok(())
    } else {
        Err(format!("the {what} {value} is outside {low} to {high}"))
    }
}
