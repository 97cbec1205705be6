//! Random cases: one instruction with any legal fields, or a straight sequence, with the state it needs.
//!
//! A storage operand always lies in the window or faults, so a case never damages the supervisor or another case.

use crate::encode::{Fields, describe, encode};
use crate::forms::{Form, Format, Length};
use crate::harness::{
    ALIAS, ALIAS_INVALID, ALIAS_PROTECTED, CODE, SLOT, SLOT_ENTRY, STORAGE, State, WINDOW, WINDOW_LEN,
};
use crate::rng::Rng;
use crate::vector::{self, Field};

mod vector_fields;

/// One case: the state before and the code.
#[derive(Clone, Debug)]
pub struct Case {
    /// The number of the case under its seed.
    pub number: u64,
    /// The state before.
    pub state: State,
    /// Code by offset in the slot.
    pub code: Vec<(usize, Vec<u8>)>,
    /// The instructions in words.
    pub text: Vec<String>,
    /// The instructions' mnemonics; the first one of a single case is what the coverage counts.
    pub names: Vec<&'static str>,
    /// The operand class of the first instruction, for the coverage table.
    pub class: String,
}

/// PSW bit 5: translation on.
pub const PSW_DAT: u64 = 1 << 58;
/// PSW bit 15: problem state.
pub const PSW_PROBLEM: u64 = 1 << 48;
const PSW_EA: u64 = 1 << 32;
const PSW_BA: u64 = 1 << 31;

/// The largest number of instructions in a sequence.
pub const LONGEST: usize = 12;

/// Generates cases of one seed.
pub struct Generator<'a> {
    forms: &'a [Form],
    /// What the first instruction is drawn from: all forms or those asked for.
    first: Vec<usize>,
    /// What an EXECUTE target or a sequence is drawn from.
    plain: Vec<usize>,
    seed: u64,
    sequences: u64,
}

impl<'a> Generator<'a> {
    /// `only` restricts single cases to some mnemonics; `sequences` is the share of sequences in percent.
    pub fn new(forms: &'a [Form], seed: u64, only: &[String], sequences: u64) -> Self {
        let first: Vec<usize> = (0..forms.len())
            .filter(|n| only.is_empty() || only.iter().any(|o| o == forms[*n].name))
            .collect();
        let plain = (0..forms.len())
            .filter(|n| {
                let f = &forms[*n];
                f.kind.is_empty() && !f.has("priv") && !f.branches() && f.format != Format::E
            })
            .collect();
        Self { forms, first, plain, seed, sequences: if only.is_empty() { sequences } else { 0 } }
    }

    /// Whether there is anything to generate.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// Case `number`, placed in slot `slot`.
    pub fn case(&self, number: u64, slot: u64) -> Case {
        let mut rng = Rng::for_case(self.seed, number);
        let sequence = rng.chance(self.sequences);
        // Single cases go through the table in turn, so that every form gets its share.
        let first = self.first[(number % self.first.len() as u64) as usize];
        let mut b = Builder::new(rng, CODE + slot * SLOT);
        if sequence {
            b.sequence(self.forms, &self.plain);
        } else {
            b.single(&self.forms[first], self.forms, &self.plain);
        }
        b.finish(number)
    }
}

struct Builder {
    rng: Rng,
    state: State,
    slot: u64,
    pinned: [bool; 16],
    code: Vec<(usize, Vec<u8>)>,
    text: Vec<String>,
    names: Vec<&'static str>,
    class: String,
    /// Offset of the next instruction in the slot.
    at: usize,
    /// In a sequence base registers are fixed, because other instructions change the rest.
    fixed: Option<(u8, u64)>,
    /// Base of the storage operands.
    area: u64,
}

impl Builder {
    fn new(mut rng: Rng, slot: u64) -> Self {
        let dat = rng.chance(40);
        let mut mask = if dat { PSW_DAT } else { 0 };
        if rng.chance(50) {
            mask |= PSW_PROBLEM;
        }
        mask |= match rng.below(20) {
            0 => 0,
            1..=3 => PSW_BA,
            _ => PSW_EA | PSW_BA,
        };
        mask |= rng.below(4) << 44; // condition code
        if rng.chance(25) {
            mask |= (rng.below(16) & 0xc) << 40; // fixed-point and decimal overflow
        }
        let area =
            if dat { rng.pick(&[WINDOW, ALIAS, ALIAS, ALIAS_INVALID, ALIAS_PROTECTED]) } else { WINDOW };
        let window = {
            let style = rng.below(5);
            (0..WINDOW_LEN)
                .map(|_| match style {
                    0 => rng.pick(&[0u8, 0xff, 0x80, 1, 0x7f]),
                    1 => b' ' + rng.below(8) as u8,
                    2 => (rng.below(10) as u8) << 4 | rng.below(10) as u8,
                    _ => rng.bits() as u8,
                })
                .collect()
        };
        let gpr = std::array::from_fn(|_| rng.value());
        let vr = std::array::from_fn(|_| u128::from(rng.float()) << 64 | u128::from(rng.value()));
        let ar = std::array::from_fn(|_| rng.value() as u32);
        // Masks, flags and rounding mode; the reserved bits stay zero. No traps for overflow, underflow and inexact
        // results: QEMU 7.2 suppresses the result there and does not tell "incremented" from "truncated", while the
        // operation is to be completed (SA22-7832, chapter 9 "IEEE Exceptions").
        let fpc = if rng.chance(60) {
            0
        } else {
            let rounding = rng.pick(&[0u32, 1, 2, 3, 7]);
            (rng.bits() as u32 & 0xc0f8_ff00) | rounding
        };
        let address = slot + SLOT_ENTRY;
        Self {
            rng,
            state: State { mask, address, gpr, vr, ar, fpc, window },
            slot,
            pinned: [false; 16],
            code: Vec::new(),
            text: Vec::new(),
            names: Vec::new(),
            class: String::new(),
            at: SLOT_ENTRY as usize,
            fixed: None,
            area,
        }
    }

    fn finish(self, number: u64) -> Case {
        Case {
            number,
            state: self.state,
            code: self.code,
            text: self.text,
            names: self.names,
            class: self.class,
        }
    }

    fn single(&mut self, form: &Form, forms: &[Form], plain: &[usize]) {
        if form.has("priv") {
            self.state.mask |= PSW_PROBLEM;
        }
        self.class = class(form);
        if matches!(form.format, Format::Vector(_)) {
            self.state.vr = if form.has("float") {
                // Here QEMU suppresses on traps as the architecture does; of underflow see the masks.
                if self.rng.chance(25) {
                    self.state.fpc |= self.rng.bits() as u32 & 0xf800_0000;
                }
                vector::floats(&mut self.rng)
            } else {
                vector::registers(&mut self.rng, form.has("str"))
            };
        }
        let mut fields = Fields::default();
        let len = form_length(form);
        let after = self.at + len;
        match form.kind {
            "ex" => {
                self.execute(form, forms, plain);
                return;
            }
            "" => self.plain_fields(form, &mut fields),
            kind => self.special(kind, form, &mut fields),
        }
        if form.has("jmp") {
            // Anywhere in the slot on a halfword: the pad before the code or the SVCs after it. Never itself.
            let mut target = self.rng.below(SLOT / 2) as i64;
            if (self.at as i64 / 2..after as i64 / 2).contains(&target) {
                target = SLOT as i64 / 2 - 1;
            }
            fields.imm = target - self.at as i64 / 2;
        }
        self.place(form, &fields);
        // An interruptible instruction ends with condition code 3 when a CPU-determined amount of work is done:
        // what counts is the state once it has finished.
        if matches!(
            form.kind,
            "mvcle" | "cksm" | "mvst" | "clst" | "srst" | "srstu" | "mvclu" | "trxx" | "tre" | "digest"
        ) {
            let back = (-(len as i64) / 2) as i16;
            let o = back.to_be_bytes();
            self.code.push((self.at, vec![0xa7, 0x14, o[0], o[1]]));
            self.at += 4;
        }
    }

    fn place(&mut self, form: &Form, fields: &Fields) {
        let bytes = encode(form, fields);
        self.text.push(format!("{} [{}]", describe(form, fields), hex(&bytes)));
        self.names.push(form.name);
        let len = bytes.len();
        self.code.push((self.at, bytes));
        self.at += len;
    }

    /// Registers, immediates, storage operands and branch targets by format.
    fn plain_fields(&mut self, form: &Form, f: &mut Fields) {
        f.r1 = self.register(form, "e1");
        f.r2 = self.register(form, "e2");
        f.r3 = self.register(form, "e3");
        f.m3 = self.rng.below(16) as u8;
        f.imm = self.immediate();
        f.imm2 = self.immediate();
        if form.has("one") {
            f.r2 = 0;
        }
        if form.format == Format::RieF {
            // Reserved bits stay zero (SA22-7832, "ROTATE THEN AND SELECTED BITS"). RISBG keeps its zero flag, but the
            // test-results flag of the others goes: QEMU 7.2 aborts on some of those ("tcg fatal error").
            f.imm &= if form.name.starts_with("ris") { 0x3fbf } else { 0x3f3f };
            f.imm2 &= 63;
        }
        if matches!(form.format, Format::RrfM | Format::RrfB) {
            // Rounding methods that exist, most of the time, and suppression of the inexact exception.
            let method = if self.rng.chance(4) { f.m3 } else { self.rng.pick(&[0, 1, 3, 4, 5, 6, 7]) };
            let suppress = self.rng.pick(&[0, 4]);
            (f.m3, f.m4) = if form.format == Format::RrfM { (method, suppress) } else { (0, method) };
        }
        if let Format::Vector(layout) = form.format {
            self.vector_fields(form, layout, f);
        }
        // A 128-bit operand names a register of a valid pair.
        if form.has("x1") {
            f.r1 &= 13;
        }
        if form.has("x2") {
            f.r2 &= 13;
        }
        if let Some((base, _)) = self.fixed {
            // The base registers of a sequence must keep their values.
            for r in [&mut f.r1, &mut f.r3] {
                if *r >= base {
                    *r -= 4;
                }
            }
            if matches!(form.memory, Some(Length::PerRegister(_))) && f.r3 < f.r1 {
                (f.r1, f.r3) = (f.r3, f.r1);
            }
        }
        if form.has("div32") && self.rng.chance(80) && self.fixed.is_none() {
            let small = self.rng.value() & 0xffff >> self.rng.below(16);
            let signed = if self.rng.chance(30) { !small } else { small };
            self.set_low(f.r1 & 14, signed);
        }
        if form.has("div64") && self.rng.chance(80) && self.fixed.is_none() {
            self.state.gpr[usize::from(f.r1 & 14)] = self.rng.bits() >> (32 + self.rng.below(32));
        }
        self.storage(form, f);
        if form.has("jmpr") {
            self.branch_register(form, f);
        }
        if form.has("jmpx") {
            self.branch_address(form, f);
        }
        if form.has("shift") {
            // Used as an address or a shift count only: any value goes.
            f.x2 = self.any_register();
            f.b2 = self.any_register();
            f.d2 = self.displacement(form);
        }
        if form.has("cond") && form.memory.is_none() && form.format != Format::Rrf {
            f.r1 = self.rng.below(16) as u8;
        }
    }

    fn storage(&mut self, form: &Form, f: &mut Fields) {
        match form.format {
            Format::SsA => {
                f.l1 = self.length_code();
                let n = u64::from(f.l1) + 1;
                (f.b1, f.d1) = self.operand(n, 1, 12);
                (f.b2, f.d2) = self.operand(n, 1, 12);
                // Overlap: the second operand close to the first one, as in propagating MVC.
                if self.fixed.is_none() && self.rng.chance(30) {
                    f.b2 = f.b1;
                    f.d2 = (f.d1 + self.rng.below(5) as i32 - 2).clamp(0, 4095);
                }
            }
            Format::SsB => {
                f.l1 = self.rng.below(16) as u8;
                f.l2 = self.rng.below(16) as u8;
                (f.b1, f.d1) = self.operand(u64::from(f.l1) + 1, 1, 12);
                (f.b2, f.d2) = self.operand(u64::from(f.l2) + 1, 1, 12);
                if form.has("packed") {
                    self.pack(f.b1, f.d1, usize::from(f.l1) + 1);
                    self.pack(f.b2, f.d2, usize::from(f.l2) + 1);
                }
            }
            Format::Sse | Format::Ssf => {
                let Some(Length::Bytes(n)) = form.memory else {
                    return self.fault_free(f);
                };
                (f.b1, f.d1) = self.operand(n, form.align, 12);
                (f.b2, f.d2) = self.operand(n, form.align, 12);
            }
            Format::Rsl => {
                f.l1 = self.rng.below(16) as u8;
                (f.b1, f.d1) = self.operand(u64::from(f.l1) + 1, 1, 12);
                self.pack(f.b1, f.d1, usize::from(f.l1) + 1);
            }
            Format::Ril if form.has("rel") => {
                let Some(Length::Bytes(n)) = form.memory else { return };
                let align = if self.rng.chance(4) { 2 } else { form.align.max(2) };
                let offset = self.window_offset(n, align);
                let target = self.area + offset;
                f.imm = (target as i64 - (self.slot as i64 + self.at as i64)) / 2;
            }
            _ => {
                let Some(length) = form.memory else { return };
                let n = match length {
                    Length::Bytes(n) => n,
                    Length::PerRegister(each) => each * u64::from((f.r3.wrapping_sub(f.r1) & 15) + 1),
                    Length::PerVector(each) => each * u64::from(f.v[3].saturating_sub(f.v[1]) + 1),
                    Length::Mask => u64::from((f.r3 & 15).count_ones()).max(1),
                };
                let bits = match form.format {
                    Format::Rxy | Format::Rsy | Format::Siy => 20,
                    _ => 12,
                };
                let indexed = match form.format {
                    Format::Vector(layout) => layout.fields.iter().any(|(field, ..)| *field == Field::X2),
                    format => matches!(format, Format::Rx | Format::Rxy | Format::Rxe | Format::Rxf),
                };
                let (mut b, mut d) = self.operand(n, form.align, bits);
                if indexed && self.fixed.is_none() && self.rng.chance(50) {
                    (b, f.x2, d) = self.index(b, d);
                }
                if form.has("packed") {
                    self.pack_indexed(b, f.x2, d, n as usize);
                }
                (f.b1, f.d1, f.b2, f.d2) = (b, d, b, d);
            }
        }
    }

    fn fault_free(&mut self, f: &mut Fields) {
        (f.b1, f.d1) = self.operand(8, 1, 12);
        (f.b2, f.d2) = self.operand(8, 1, 12);
    }

    /// A base register and displacement for `n` bytes of storage.
    fn operand(&mut self, n: u64, align: u64, bits: u32) -> (u8, i32) {
        if let Some((base, start)) = self.fixed {
            let offset = self.window_offset(n, align);
            return (base, (offset + self.area - start) as i32);
        }
        let align = if self.rng.chance(4) { 1 } else { align };
        // Beyond main storage, or in a segment that is not there; 24-bit addresses cannot reach that far.
        let far = self.rng.below(40) == 0 && self.address_mask() >= 0x7fff_ffff;
        let target = if far {
            STORAGE + self.rng.below(1 << 20) * 8
        } else {
            self.area + self.window_offset(n, align)
        };
        self.operand_at(target, bits)
    }

    /// A base register and displacement for this address.
    fn operand_at(&mut self, target: u64, bits: u32) -> (u8, i32) {
        let d = self.displacement_bits(bits);
        for _ in 0..8 {
            let b = 1 + self.rng.below(15) as u8;
            if !self.pinned[usize::from(b)] {
                let value = target.wrapping_sub(d as u64);
                self.state.gpr[usize::from(b)] = self.garnish(value);
                self.pinned[usize::from(b)] = true;
                return (b, d);
            }
            let have = self.state.gpr[usize::from(b)];
            let need = target.wrapping_sub(have) as i64;
            let fits =
                if bits == 12 { (0..4096).contains(&need) } else { (-(1 << 19)..1 << 19).contains(&need) };
            if fits && self.truncate(have) == have {
                return (b, need as i32);
            }
        }
        // Every try hit a pinned register: reuse one that is free for certain.
        let b = (1..16).rev().find(|r| !self.pinned[usize::from(*r)]).unwrap_or(15);
        self.state.gpr[usize::from(b)] = target.wrapping_sub(d as u64);
        self.pinned[usize::from(b)] = true;
        (b, d)
    }

    /// Splits the base value over a base and an index register.
    fn index(&mut self, b: u8, d: i32) -> (u8, u8, i32) {
        let x = 1 + self.rng.below(15) as u8;
        if self.pinned[usize::from(x)] {
            return (b, 0, d);
        }
        let part = if self.rng.chance(50) { self.rng.below(4096) } else { self.rng.bits() };
        self.state.gpr[usize::from(x)] = part;
        self.pinned[usize::from(x)] = true;
        let base = &mut self.state.gpr[usize::from(b)];
        *base = base.wrapping_sub(part);
        (b, x, d)
    }

    fn window_offset(&mut self, n: u64, align: u64) -> u64 {
        let room = (WINDOW_LEN as u64).saturating_sub(n);
        let offset = match self.rng.below(4) {
            // Across the page boundary in the middle of the window.
            0 if n > 1 && n < 256 => 256 - 1 - self.rng.below(n - 1),
            1 => self.rng.pick(&[0, room, 256u64.saturating_sub(n).min(room), 256.min(room)]),
            _ => self.rng.below(room + 1),
        };
        offset / align * align
    }

    /// In 24- and 31-bit mode the upper address bits of a register are ignored: put noise there.
    fn garnish(&mut self, value: u64) -> u64 {
        let noise = if self.rng.chance(50) { self.rng.bits() } else { 0 };
        let keep = self.address_mask();
        (value & keep) | (noise & !keep)
    }

    fn truncate(&self, value: u64) -> u64 {
        value & self.address_mask()
    }

    fn address_mask(&self) -> u64 {
        match (self.state.mask & PSW_EA != 0, self.state.mask & PSW_BA != 0) {
            (true, _) => u64::MAX,
            (false, true) => 0x7fff_ffff,
            (false, false) => 0xff_ffff,
        }
    }

    fn displacement(&mut self, form: &Form) -> i32 {
        self.displacement_bits(match form.format {
            Format::Rxy | Format::Rsy | Format::Siy => 20,
            _ => 12,
        })
    }

    fn displacement_bits(&mut self, bits: u32) -> i32 {
        match (bits, self.rng.below(4)) {
            (_, 0) => 0,
            (12, 1) => 0xfff,
            (20, 1) => self.rng.pick(&[0x7_ffff, -0x8_0000, -1, 0xfff, 0x1000]),
            (20, _) => self.rng.below(1 << 20) as i32 - (1 << 19),
            _ => self.rng.below(4096) as i32,
        }
    }

    fn register(&mut self, form: &Form, even: &str) -> u8 {
        let r = self.rng.below(16) as u8;
        if form.has(even) && (self.fixed.is_some() || self.rng.chance(94)) { r & 14 } else { r }
    }

    fn any_register(&mut self) -> u8 {
        self.rng.below(16) as u8
    }

    fn immediate(&mut self) -> i64 {
        if self.rng.chance(40) {
            self.rng.pick(&[0, 1, -1, 0x7f, 0x80, 0x7fff, 0x8000, 0x7fff_ffff, 0x8000_0000, 0xff, 0x100])
        } else {
            self.rng.bits() as i64
        }
    }

    fn length_code(&mut self) -> u8 {
        match self.rng.below(4) {
            0 => self.rng.pick(&[0, 1, 7, 8, 15, 255]),
            1 => self.rng.bits() as u8,
            _ => self.rng.below(24) as u8,
        }
    }

    fn set_low(&mut self, r: u8, value: u64) {
        let g = &mut self.state.gpr[usize::from(r)];
        *g = (*g & 0xffff_ffff_0000_0000) | (value & 0xffff_ffff);
    }

    /// A branch target in this slot.
    fn target(&mut self) -> u64 {
        let halfword = self.rng.below(SLOT / 2);
        let own = self.at as u64 / 2;
        let halfword = if (own..own + 3).contains(&halfword) { 0 } else { halfword };
        self.slot + 2 * halfword
    }

    fn branch_register(&mut self, form: &Form, f: &mut Fields) {
        let target = self.target();
        if f.r2 == 0 || (f.r1 == f.r2 && form.has("cond")) {
            return self.jump_from(f.r2, target);
        }
        self.jump_from(f.r2, target);
        // BASSM and BSM take the addressing mode from the address.
        if matches!(form.name, "bsm" | "bassm") {
            let g = &mut self.state.gpr[usize::from(f.r2)];
            *g = match self.rng.below(3) {
                0 => target | 1,
                1 => target | 0x8000_0000,
                _ => target,
            };
        }
        if form.name == "bctr" || form.name == "bctgr" {
            self.count(f.r1, f.r2);
        }
    }

    fn jump_from(&mut self, r: u8, target: u64) {
        // Register 0 means no branch for a register operand: leave it alone. No noise above the address: QEMU 7.2
        // branches to all 64 bits of it in the 24- and 31-bit modes.
        if r != 0 {
            self.state.gpr[usize::from(r)] = target;
        }
    }

    fn count(&mut self, r1: u8, other: u8) {
        if r1 != other && self.rng.chance(40) {
            self.state.gpr[usize::from(r1)] = self.rng.pick(&[1, 2, 0, 0x1_0000_0001, u64::MAX]);
        }
    }

    fn branch_address(&mut self, form: &Form, f: &mut Fields) {
        let target = self.target();
        f.x2 = 0;
        f.d2 = self.displacement(form);
        f.b2 = 1 + self.rng.below(15) as u8;
        self.state.gpr[usize::from(f.b2)] = target.wrapping_sub(f.d2 as u64);
        if self.rng.chance(40) && matches!(form.format, Format::Rx | Format::Rxy) {
            self.pinned[usize::from(f.b2)] = true;
            (f.b2, f.x2, f.d2) = self.index(f.b2, f.d2);
        }
        if matches!(form.name, "bct" | "bctg") && f.r1 != f.x2 {
            self.count(f.r1, f.b2);
        }
        let _ = self.area;
    }

    /// Packed decimal digits with a sign at base + displacement, most of the time.
    fn pack(&mut self, b: u8, d: i32, n: usize) {
        self.pack_indexed(b, 0, d, n);
    }

    fn pack_indexed(&mut self, b: u8, x: u8, d: i32, n: usize) {
        if self.rng.chance(10) {
            return;
        }
        let reg = |r: u8| if r == 0 { 0 } else { self.state.gpr[usize::from(r)] };
        let address = self.truncate(reg(b).wrapping_add(reg(x)).wrapping_add(d as u64));
        let zeros = self.rng.below(n as u64 * 2) as usize;
        for i in 0..n {
            let digit = |rng: &mut Rng, place: usize| if place < zeros { 0 } else { rng.below(10) as u8 };
            let high = digit(&mut self.rng, 2 * i);
            let low = if i + 1 == n { 10 + self.rng.below(6) as u8 } else { digit(&mut self.rng, 2 * i + 1) };
            if let Some(offset) = self.offset_of(address.wrapping_add(i as u64)) {
                self.state.window[offset] = (high << 4) | low;
            }
        }
    }

    fn offset_of(&self, address: u64) -> Option<usize> {
        let offset = address.wrapping_sub(self.area);
        (offset < WINDOW_LEN as u64).then_some(offset as usize)
    }

    fn poke(&mut self, address: u64, bytes: &[u8]) {
        for (i, byte) in bytes.iter().enumerate() {
            if let Some(offset) = self.offset_of(address.wrapping_add(i as u64)) {
                self.state.window[offset] = *byte;
            }
        }
    }

    fn pair(&mut self, not: &[u8]) -> u8 {
        loop {
            let r = 2 * self.rng.below(8) as u8;
            if !not.contains(&r) {
                return r;
            }
        }
    }

    /// An address in the window and a length in an even-odd pair.
    fn stream(&mut self, r: u8, n: u64, upper: u64) -> u64 {
        let address = self.area + self.window_offset(n, 1);
        self.stream_at(r, address, n, upper);
        address
    }

    fn stream_at(&mut self, r: u8, address: u64, n: u64, upper: u64) {
        self.state.gpr[usize::from(r)] = self.garnish(address);
        self.state.gpr[usize::from(r) + 1] = upper | n;
    }

    fn short_length(&mut self) -> u64 {
        match self.rng.below(4) {
            0 => 0,
            1 => self.rng.below(8),
            _ => self.rng.below(200),
        }
    }

    fn special(&mut self, kind: &str, form: &Form, f: &mut Fields) {
        // Full 64-bit lengths matter in 64-bit mode; otherwise the upper half is noise.
        let noise = if self.state.mask & PSW_EA == 0 { self.rng.bits() << 32 } else { 0 };
        match kind {
            "cs" | "csg" | "cds" | "cdsg" => {
                self.plain_fields(form, f);
                let n = if kind == "cs" {
                    4
                } else if kind == "cdsg" {
                    16
                } else {
                    8
                };
                let base = self.state.gpr[usize::from(f.b2)];
                let address = self.truncate(base.wrapping_add(f.d2 as u64));
                // Equal half of the time.
                if self.rng.chance(50) {
                    let r = usize::from(f.r1);
                    let (even, odd) = (self.state.gpr[r], self.state.gpr[r | 1]);
                    let bytes: Vec<u8> = match kind {
                        "cs" => (even as u32).to_be_bytes().to_vec(),
                        "csg" => even.to_be_bytes().to_vec(),
                        "cds" => [(even as u32).to_be_bytes(), (odd as u32).to_be_bytes()].concat(),
                        _ => [even.to_be_bytes(), odd.to_be_bytes()].concat(),
                    };
                    if n == bytes.len() {
                        self.poke(address, &bytes);
                    }
                }
            }
            "mvcl" => {
                let (a, b) = (self.pair(&[]), self.pair(&[]));
                let b = if a == b { (b + 2) & 14 } else { b };
                (f.r1, f.r2) = (a, b);
                let (n, m) = (self.short_length(), self.short_length());
                let m = if self.rng.chance(50) { n } else { m };
                let high = self.rng.bits() & 0xffff_ffff_0000_0000;
                let pad = self.rng.pick(&[0u64, 0x40, 0xff, 0x20]) << 24;
                let first = self.stream(a, n, high);
                let second = self.stream(b, m, high | pad);
                self.make_equal(first, second, n.min(m));
                self.odd_sometimes(f);
            }
            "mvcle" => {
                let (a, b) = (self.pair(&[]), self.pair(&[]));
                let b = if a == b { (b + 2) & 14 } else { b };
                (f.r1, f.r3) = (a, b);
                let (n, m) = (self.short_length(), self.short_length());
                // Apart: destructive overlap has an unpredictable result (SA22-7832, "MOVE LONG EXTENDED").
                let (first, second) = self.apart();
                self.stream_at(a, first, n, noise);
                self.stream_at(b, second, m, noise);
                self.make_equal(first, second, n.min(m));
                f.b2 = self.any_register();
                f.d2 = self.displacement(form);
                if self.rng.chance(3) {
                    f.r1 |= 1;
                }
            }
            "mvclu" => {
                let (a, b) = (self.pair(&[]), self.pair(&[]));
                let b = if a == b { (b + 2) & 14 } else { b };
                (f.r1, f.r3) = (a, b);
                let (n, m) = (self.short_length() & !1, self.short_length() & !1);
                // Apart: destructive overlap has an unpredictable result (SA22-7832, "MOVE LONG EXTENDED").
                let (first, second) = self.apart();
                self.stream_at(a, first, n, noise);
                self.stream_at(b, second, m, noise);
                self.make_equal(first, second, n.min(m));
                f.b2 = self.any_register();
                f.d2 = self.displacement(form);
            }
            "cksm" => {
                f.r2 = self.pair(&[]);
                f.r1 = loop {
                    let r = self.any_register();
                    if r & 14 != f.r2 {
                        break r;
                    }
                };
                // No noise above a 31-bit length: QEMU 7.2 takes all 64 bits in every addressing mode.
                let n = self.short_length();
                self.stream(f.r2, n, 0);
            }
            "digest" => {
                // SHA-512, the only function that QEMU 7.2 knows; the parameter block at the window's beginning.
                f.r1 = self.any_register();
                f.r2 = self.register(form, "e2");
                let n = if self.rng.chance(60) { 128 * self.rng.below(3) } else { self.rng.below(300) };
                let block = self.area + self.rng.below(16);
                let message = self.area + 96 + self.rng.below(WINDOW_LEN as u64 - 96 - n);
                self.state.gpr[0] = self.rng.bits() & !0xff | 3 | if self.rng.chance(4) { 0x80 } else { 0 };
                self.state.gpr[1] = self.garnish(block);
                if !matches!(f.r2, 0 | 1 | 15) {
                    self.stream_at(f.r2, message, n, noise);
                }
            }
            "mvst" | "clst" | "srst" | "srstu" => self.string(kind, f),
            "tr" | "trtr" => {
                // A function table of 256 bytes: the window has room for one.
                f.l1 = self.length_code() & 0x7f;
                let n = u64::from(f.l1) + 1;
                (f.b2, f.d2) = self.table(256);
                (f.b1, f.d1) = self.operand(n, 1, 12);
                if kind == "trtr" {
                    // The first operand goes from its address to the left.
                    f.d1 = (f.d1 as u64 + n - 1).min(4095) as i32;
                }
                if form.name != "tr" && self.rng.chance(60) {
                    for byte in &mut self.state.window {
                        *byte = if self.rng.chance(95) { 0 } else { *byte };
                    }
                }
            }
            "ed" => {
                f.l1 = self.rng.below(24) as u8;
                (f.b1, f.d1) = self.operand(u64::from(f.l1) + 1, 1, 12);
                (f.b2, f.d2) = self.operand(16, 1, 12);
                let base = self.state.gpr[usize::from(f.b1)];
                let address = self.truncate(base.wrapping_add(f.d1 as u64));
                self.pack(f.b2, f.d2, 16);
                let pattern: Vec<u8> = (0..=f.l1)
                    .map(|_| self.rng.pick(&[0x20u8, 0x20, 0x21, 0x22, 0x40, 0x6b, 0x4b, 0x5c]))
                    .collect();
                self.poke(address, &pattern);
            }
            "pka" | "pku" => {
                f.l1 = self.rng.below(34) as u8;
                if kind == "pku" && self.rng.chance(90) {
                    f.l1 |= 1;
                }
                (f.b1, f.d1) = self.operand(16, 1, 12);
                (f.b2, f.d2) = self.operand(u64::from(f.l1) + 1, 1, 12);
            }
            "unpka" | "unpku" => {
                f.l1 = self.rng.below(if kind == "unpka" { 33 } else { 66 }) as u8;
                if kind == "unpku" && self.rng.chance(90) {
                    f.l1 |= 1;
                }
                (f.b1, f.d1) = self.operand(u64::from(f.l1) + 1, 1, 12);
                (f.b2, f.d2) = self.operand(16, 1, 12);
                self.pack(f.b2, f.d2, 16);
            }
            "mvcin" => {
                // Apart: overlapping operands have an unpredictable result (SA22-7832, "MOVE INVERSE").
                f.l1 = self.length_code().min(199);
                let n = u64::from(f.l1) + 1;
                let (first, second) = self.apart();
                (f.b1, f.d1) = self.operand_at(first, 12);
                (f.b2, f.d2) = self.operand_at(second + n - 1, 12);
            }
            "trxx" => {
                // r1 pair: destination and length in bytes of the source; r2: source; register 1: the table.
                f.r1 = self.pair(&[0]);
                f.r2 = loop {
                    let r = self.any_register();
                    if r & 14 != f.r1 && r > 1 {
                        break r;
                    }
                };
                // Never an empty operand: QEMU 7.2 counts down from zero there and runs over the image. Table, source
                // and destination lie apart, because overlap has an unpredictable result.
                let n = 2 + (self.rng.below(24) & !1);
                let destination = self.area + 256 + self.rng.below(16);
                self.stream_at(f.r1, destination, n, noise);
                let source = self.area + 384 + self.rng.below(16);
                self.state.gpr[usize::from(f.r2)] = source;
                self.state.gpr[1] = self.area & !7;
                if form.name == "trot" {
                    // QEMU 7.2 compares with bits 56-63 of register 0 only; the test character is in bits 48-63.
                    self.state.gpr[0] &= !0xff00;
                }
                // A table for two-byte results or arguments is larger than the window: small arguments only.
                let most = match form.name {
                    "troo" => 255,
                    "trot" => 63,
                    _ => 0,
                };
                let arguments: Vec<u8> = (0..2 * n).map(|_| self.rng.below(most + 1) as u8).collect();
                self.poke(source, &arguments);
            }
            "tre" => {
                f.r1 = self.pair(&[]);
                f.r2 = loop {
                    let r = self.any_register();
                    if r & 14 != f.r1 && r != 0 {
                        break r;
                    }
                };
                // Apart from the table, and no noise above the address: QEMU 7.2 does not cut it to the mode's width.
                let n = self.short_length();
                let first = self.area + 256 + self.rng.below(56);
                self.stream_at(f.r1, first, n, noise);
                self.state.gpr[usize::from(f.r1)] = first;
                self.state.gpr[usize::from(f.r2)] = self.area;
                if f.r1 != 0 {
                    self.state.gpr[0] = self.rng.below(256);
                }
            }
            "fpcmem" => {
                self.plain_fields(form, f);
                let base = self.state.gpr[usize::from(f.b2)];
                let address = self.truncate(base.wrapping_add(f.d2 as u64));
                let value = self.fpc_value();
                self.poke(address, &value.to_be_bytes());
            }
            "fpcreg" => {
                self.plain_fields(form, f);
                let value = self.fpc_value();
                self.set_low(f.r1, u64::from(value));
            }
            "bic" => {
                self.plain_fields(form, f);
                let reg = |r: u8| if r == 0 { 0 } else { self.state.gpr[usize::from(r)] };
                let address = self.truncate(reg(f.b2).wrapping_add(reg(f.x2)).wrapping_add(f.d2 as u64));
                let target = self.target();
                self.poke(address, &target.to_be_bytes());
                // Where the operand is not the window it must be a fault, not a wild branch: take it always.
                if (0..8).any(|i| self.offset_of(address.wrapping_add(i)).is_none()) {
                    f.r1 = 15;
                }
            }
            "vll" | "vstrs" | "vge" => self.vector_special(kind, form, f),
            _ => self.plain_fields(form, f),
        }
    }

    /// Two addresses in the window with 200 bytes each that do not overlap.
    fn apart(&mut self) -> (u64, u64) {
        let low = self.area + self.rng.below(56);
        let high = self.area + 256 + self.rng.below(56);
        if self.rng.chance(50) { (low, high) } else { (high, low) }
    }

    fn fpc_value(&mut self) -> u32 {
        let rounding = self.rng.pick(&[0u32, 1, 2, 3, 7]);
        let valid = (self.rng.bits() as u32 & 0xf8f8_ff00) | rounding;
        if self.rng.chance(85) { valid } else { self.rng.bits() as u32 }
    }

    fn odd_sometimes(&mut self, f: &mut Fields) {
        if self.rng.chance(3) {
            f.r1 |= 1;
        }
        if self.rng.chance(3) {
            f.r2 |= 1;
        }
    }

    fn make_equal(&mut self, first: u64, second: u64, n: u64) {
        if self.rng.chance(50) {
            let n = self.rng.below(n + 1);
            for i in 0..n {
                if let Some(from) = self.offset_of(first + i) {
                    let byte = self.state.window[from];
                    self.poke(second + i, &[byte]);
                }
            }
        }
    }

    /// A string instruction: register 0 has the ending character, and the window has it too.
    fn string(&mut self, kind: &str, f: &mut Fields) {
        let (a, b) = loop {
            let (a, b) = (1 + self.rng.below(15) as u8, 1 + self.rng.below(15) as u8);
            if a != b {
                break (a, b);
            }
        };
        (f.r1, f.r2) = (a, b);
        let wide = kind == "srstu";
        let end = if wide { self.rng.below(0x10000) } else { self.rng.below(256) };
        self.state.gpr[0] = if self.rng.chance(95) { end } else { end | 0x10_0000 };
        // Apart from each other: a string that MVST copies over its own ending character has no end.
        let (first, second) = self.apart();
        // SRST searches from r2 up to r1.
        let high = if kind.starts_with("srst") { second + self.rng.below(100) } else { first };
        self.state.gpr[usize::from(a)] = self.garnish(high);
        self.state.gpr[usize::from(b)] = self.garnish(second);
        let mark = end.to_be_bytes();
        let mark = if wide { &mark[6..] } else { &mark[7..] };
        for start in [first, second] {
            let at = start + self.rng.below(60);
            self.poke(at, mark);
        }
        // CLST and MVST need an end of the string inside the window.
        let last = self.area + WINDOW_LEN as u64 - mark.len() as u64;
        self.poke(last, mark);
        self.make_equal(second, first, 40);
        self.poke(last, mark);
    }

    /// A 256-byte table in the window.
    fn table(&mut self, n: u64) -> (u8, i32) {
        let target = self.area + self.rng.below(WINDOW_LEN as u64 - n + 1);
        let d = self.displacement_bits(12);
        let b = 1 + self.rng.below(15) as u8;
        self.state.gpr[usize::from(b)] = target.wrapping_sub(d as u64) & self.address_mask();
        self.pinned[usize::from(b)] = true;
        (b, d)
    }

    /// EXECUTE and EXECUTE RELATIVE LONG: the target stands later in the slot, past the SVC that ends the case.
    fn execute(&mut self, form: &Form, forms: &[Form], plain: &[usize]) {
        let target = &forms[self.rng.pick(plain)];
        let entry = self.at;
        let place = 96usize;
        // Relative operands of the target count from the target's own address.
        self.at = place;
        let mut tf = Fields::default();
        self.plain_fields(target, &mut tf);
        self.at = entry;
        let mut bytes = encode(target, &tf);
        let text = describe(target, &tf);
        let mut f = Fields::default();
        // Register 0 as r1 means no change. Otherwise clear some bits in the target and let the register put them back.
        let r1 = (0..16).rev().find(|r| !self.pinned[*r]).unwrap_or(0) as u8;
        let used = [tf.r1, tf.r2, tf.r3, tf.r1 | 1, tf.r1 & 14].contains(&r1);
        if r1 != 0 && !used && self.rng.chance(80) {
            f.r1 = r1;
            let cut = self.rng.bits() as u8;
            let full = bytes[1];
            // The second byte holds part of the opcode in some formats: those bits may be ORed just the same.
            bytes[1] = full & cut;
            let low = u64::from(full & (!cut | self.rng.bits() as u8));
            let noise = self.rng.bits() & !0xff;
            self.state.gpr[usize::from(r1)] = noise | low;
            self.pinned[usize::from(r1)] = true;
        }
        let address = self.slot + place as u64;
        if form.format == Format::Ril {
            f.imm = (place as i64 - entry as i64) / 2;
        } else {
            f.b2 = (1..16)
                .rev()
                .find(|r| !self.pinned[*r] && *r as u8 != tf.r1 && *r as u8 | 1 != tf.r1 | 1)
                .unwrap_or(0) as u8;
            f.d2 = self.rng.below(4096) as i32;
            let value = address.wrapping_sub(f.d2 as u64);
            if f.b2 != 0 {
                self.state.gpr[usize::from(f.b2)] = self.garnish(value);
            }
        }
        self.class = format!("{:?} of {}", form.format, class(target));
        self.place(form, &f);
        self.text.push(format!("target {text} [{}]", hex(&bytes)));
        self.names.push(target.name);
        self.code.push((place, bytes));
    }

    /// Straight-line code with forward branches; storage operands use two registers that nothing writes.
    fn sequence(&mut self, forms: &[Form], plain: &[usize]) {
        const BASE: u8 = 12;
        // Page faults are for the single cases: most sequences should run to their end.
        if self.area == ALIAS_INVALID && self.rng.chance(70) {
            self.area = ALIAS;
        }
        self.class = "sequence".into();
        if self.rng.chance(50) {
            let strings = self.rng.chance(30);
            self.state.vr = vector::registers(&mut self.rng, strings);
        }
        let start = self.area;
        self.state.gpr[usize::from(BASE)] = start;
        self.fixed = Some((BASE, start));
        let count = 2 + self.rng.below(LONGEST as u64 - 1) as usize;
        for _ in 0..count {
            let form = loop {
                let form = &forms[self.rng.pick(plain)];
                // Register 15 and its like may be written: only 12 to 15 are kept, which r2 outputs could hit.
                let odd = matches!(
                    form.name,
                    "spm" | "epsw" | "pfd" | "pfdrl" | "niai" | "lm" | "lmg" | "lmh" | "lmy"
                ) || matches!(form.format, Format::Ssf | Format::SsB | Format::Sse | Format::Rsl);
                if !odd {
                    break form;
                }
            };
            if self.at + 6 > SLOT as usize - 8 {
                break;
            }
            let mut fields = Fields::default();
            self.plain_fields(form, &mut fields);
            self.place(form, &fields);
        }
    }
}

/// The operand class: the format's name.
fn class(form: &Form) -> String {
    match form.format {
        Format::Vector(layout) => format!("{layout:?}"),
        format => format!("{format:?}"),
    }
}

fn form_length(form: &Form) -> usize {
    encode(form, &Fields::default()).len()
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forms::forms;

    #[test]
    fn a_case_depends_on_seed_and_number_only() {
        let forms = forms();
        let g = Generator::new(&forms, 7, &[], 20);
        for n in 0..500 {
            let (a, b) = (g.case(n, n), g.case(n, n));
            assert_eq!(a.code, b.code);
            assert_eq!(a.state, b.state);
        }
    }

    #[test]
    fn every_form_is_generated_and_fits_its_slot() {
        let forms = forms();
        let g = Generator::new(&forms, 1, &[], 20);
        let mut seen = std::collections::BTreeSet::new();
        for n in 0..8 * forms.len() as u64 {
            let case = g.case(n, n);
            for (at, bytes) in &case.code {
                assert!(at + bytes.len() <= SLOT as usize, "{:?}", case.text);
            }
            seen.extend(case.names);
        }
        assert_eq!(seen.len(), forms.len());
    }
}
