//! The guest image: a small supervisor that loads a case's state, runs its code and stores the state it leaves.
//!
//! The supervisor runs in real mode with 64-bit addressing. A case starts by LPSWE and ends in an SVC (its slot is
//! filled with them) or in a program interruption, so condition code, address and mode come from the old PSW and no
//! register has to be given up. It is not a general test kernel: it has no other interruptions.
//!
//! | Absolute address | Content |
//! |---|---|
//! | 0x0000 | lowcore with the new PSWs |
//! | 0x1200 | scratch of the supervisor |
//! | 0x2000 | supervisor |
//! | 0x3000 | segment table; page tables from 0x4000 |
//! | 0x3ff00 | storage window of a case, 512 bytes across a page boundary |
//! | 0x100000 | code slots of 128 bytes |
//! | 0x300000 | order of execution, one word per case |
//! | 0x1000000, 0x2000000 | input and output records of 2048 bytes |
//!
//! With translation on, segments 0 and 1 are mapped one to one, and segment 2 shows the window's pages again:
//! side by side, followed by an invalid page, and followed by a protected page.

use crate::generate::Case;

/// Bytes of a code slot.
pub const SLOT: u64 = 128;
/// Offset of the first instruction in its slot; what lies before is a landing pad for backward branches.
pub const SLOT_ENTRY: u64 = 32;
/// Where the code slots are.
pub const CODE: u64 = 0x10_0000;
/// Most cases in one image.
pub const BATCH: u64 = 8192;
/// The storage window.
pub const WINDOW: u64 = 0x3_ff00;
/// Its length.
pub const WINDOW_LEN: usize = 512;
/// The window at a virtual address of its own.
pub const ALIAS: u64 = 0x20_0f00;
/// The first half of the window, followed by an invalid page.
pub const ALIAS_INVALID: u64 = 0x20_4f00;
/// The window with its second half protected.
pub const ALIAS_PROTECTED: u64 = 0x20_6f00;
/// Main storage of the machine.
pub const STORAGE: u64 = 64 << 20;
/// Control register 0: AFP registers and vectors on.
pub const CR0: u64 = 0x0006_0000;

/// The order of execution: slot numbers, one word each.
pub const ORDER: u64 = 0x30_0000;
const INPUT: u64 = 0x100_0000;
const OUTPUT: u64 = 0x200_0000;
const RECORD: u64 = 2048;
const ENTRY: u64 = 0x2000;
const SEGMENTS: u64 = 0x3000;
const PAGES: u64 = 0x4000;

/// Holds the address of the next entry of the order.
pub const ORDER_NEXT: u64 = 0x1200;
const ORDER_END: u64 = 0x1208;
const CURRENT: u64 = 0x1210;
const CASE_PSW: u64 = 0x0ff0;
const SAVE: u64 = 0x1300;
const CONTROL: u64 = 0x1400;

const AM64: u64 = 0x0000_0001_8000_0000;
/// The address that the supervisor's last, disabled-wait PSW shows.
pub const DONE: u64 = 0xc105;

/// Where an output record has what.
const REC_GPR: usize = 0x10;
const REC_AR: usize = 0x90;
const REC_FPC: usize = 0xd0;
const REC_KIND: usize = 0xd4;
const REC_CODE: usize = 0xd8;
const REC_DXC: usize = 0xdc;
const REC_WINDOW: usize = 0xe0;
const REC_TEID: usize = 0x2e0;
const REC_VR: usize = 0x300;

/// The state before or after a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// PSW mask.
    pub mask: u64,
    /// PSW instruction address.
    pub address: u64,
    /// General registers.
    pub gpr: [u64; 16],
    /// Vector registers; bits 0-63 of the first 16 are the floating-point registers.
    pub vr: [u128; 32],
    /// Access registers.
    pub ar: [u32; 16],
    /// Floating-point-control register.
    pub fpc: u32,
    /// The storage window.
    pub window: Vec<u8>,
}

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It reached an SVC of its slot.
    Normal,
    /// Program interruption.
    Program {
        /// Interruption code.
        code: u16,
        /// Instruction-length code in bytes.
        ilc: u8,
        /// Data-exception code, meaningful for a data exception.
        dxc: u8,
        /// Translation-exception identification, meaningful for a translation exception.
        teid: u64,
    },
    /// The record was never written: the run ended early.
    Missing,
}

/// The result of one case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// The state it left.
    pub state: State,
}

/// The pieces of an image: (absolute address, bytes).
pub type Pieces = Vec<(u64, Vec<u8>)>;

/// Where the supervisor starts: PSW address.
pub const START: u64 = ENTRY;
/// The mask it starts with.
pub const START_MASK: u64 = AM64;

/// Builds the image. Slot n holds `cases[n]`; `order` says which run, and in which order. Without
/// `float` the supervisor leaves the floating-point and vector registers alone, for a core that lacks them.
pub fn image(cases: &[Case], order: &[u32], float: bool) -> Pieces {
    let mut lowcore = vec![0; 0x2000];
    let supervisor = Supervisor::assemble(float);
    put_psw(&mut lowcore, 0x1a0, 0x0002_0000_0000_0000 | AM64, 0xbad); // restart
    put_psw(&mut lowcore, 0x1b0, 0x0002_0000_0000_0000 | AM64, 0xbad1); // external
    put_psw(&mut lowcore, 0x1c0, AM64, supervisor.svc);
    put_psw(&mut lowcore, 0x1d0, AM64, supervisor.program);
    put_psw(&mut lowcore, 0x1e0, 0x0002_0000_0000_0000 | AM64, 0xbad2); // machine check
    put_psw(&mut lowcore, 0x1f0, 0x0002_0000_0000_0000 | AM64, 0xbad3); // I/O
    put(&mut lowcore, ORDER_NEXT, ORDER);
    put(&mut lowcore, ORDER_END, ORDER + 4 * order.len() as u64);
    // Control registers: 0, 1 (primary address space), 7 and 13 the same space.
    let asce = SEGMENTS; // designation type: segment table, length 0: 512 entries
    for (register, value) in [(0, CR0), (1, asce), (7, asce), (13, asce)] {
        put(&mut lowcore, CONTROL + 8 * register, value);
    }
    put_psw(&mut lowcore, CONTROL + 0x80, 0x0002_0000_0000_0000 | AM64, DONE);

    let mut code = Vec::new();
    let mut input = Vec::new();
    for case in cases {
        let mut slot = [0x0a, 0x00].repeat(SLOT as usize / 2);
        for (at, bytes) in &case.code {
            slot[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        code.extend_from_slice(&slot);
        input.extend_from_slice(&record(&case.state));
    }
    let order = order.iter().flat_map(|n| n.to_be_bytes()).collect();
    vec![
        (0, lowcore),
        (ENTRY, supervisor.bytes),
        (SEGMENTS, segments()),
        (PAGES, pages()),
        (CODE, code),
        (ORDER, order),
        (INPUT, input),
    ]
}

/// What to read back after the run of a batch of this size: the output records, and everything that no case may change.
pub fn ranges(cases: usize) -> [(u64, u64); 2] {
    [(OUTPUT, RECORD * cases as u64), (ENTRY, CODE + SLOT * cases as u64 - ENTRY)]
}

/// The first address that a case damaged: the window apart, the second of the ranges must be as it was loaded.
pub fn damage(pieces: &Pieces, after: &[u8]) -> Option<u64> {
    let window = WINDOW..WINDOW + WINDOW_LEN as u64;
    pieces.iter().filter(|(at, _)| (ENTRY..ORDER).contains(at)).find_map(|(at, bytes)| {
        let now = &after[(at - ENTRY) as usize..];
        (0..bytes.len()).find(|i| bytes[*i] != now[*i]).map(|i| at + i as u64).filter(|a| !window.contains(a))
    })
}

/// Reads the output records.
pub fn outcomes(bytes: &[u8]) -> Vec<Outcome> {
    bytes.chunks_exact(RECORD as usize).map(outcome).collect()
}

/// The image as an ELF file that `-kernel` takes.
pub fn elf(pieces: &Pieces) -> Vec<u8> {
    let count = pieces.len() as u16;
    let mut out = Vec::new();
    out.extend_from_slice(&[0x7f, b'E', b'L', b'F', 2, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    out.extend_from_slice(&2u16.to_be_bytes()); // executable
    out.extend_from_slice(&22u16.to_be_bytes()); // EM_S390
    out.extend_from_slice(&1u32.to_be_bytes());
    out.extend_from_slice(&START.to_be_bytes());
    out.extend_from_slice(&64u64.to_be_bytes()); // program headers
    out.extend_from_slice(&0u64.to_be_bytes());
    out.extend_from_slice(&0u32.to_be_bytes());
    for half in [64u16, 56, count, 0, 0, 0] {
        out.extend_from_slice(&half.to_be_bytes());
    }
    let mut offset = 64 + 56 * u64::from(count);
    for (address, bytes) in pieces {
        let len = bytes.len() as u64;
        out.extend_from_slice(&1u32.to_be_bytes()); // PT_LOAD
        out.extend_from_slice(&7u32.to_be_bytes());
        for word in [offset, *address, *address, len, len, 1] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        offset += len;
    }
    for (_, bytes) in pieces {
        out.extend_from_slice(bytes);
    }
    out
}

fn put(to: &mut [u8], at: u64, value: u64) {
    to[at as usize..at as usize + 8].copy_from_slice(&value.to_be_bytes());
}

fn put_psw(to: &mut [u8], at: u64, mask: u64, address: u64) {
    put(to, at, mask);
    put(to, at + 8, address);
}

fn record(state: &State) -> Vec<u8> {
    let mut out = vec![0; RECORD as usize];
    put_psw(&mut out, 0, state.mask, state.address);
    for n in 0..16 {
        put(&mut out, (REC_GPR + 8 * n) as u64, state.gpr[n]);
        out[REC_AR + 4 * n..REC_AR + 4 * n + 4].copy_from_slice(&state.ar[n].to_be_bytes());
    }
    for (n, value) in state.vr.iter().enumerate() {
        out[REC_VR + 16 * n..REC_VR + 16 * n + 16].copy_from_slice(&value.to_be_bytes());
    }
    out[REC_FPC..REC_FPC + 4].copy_from_slice(&state.fpc.to_be_bytes());
    out[REC_WINDOW..REC_WINDOW + WINDOW_LEN].copy_from_slice(&state.window);
    out
}

fn outcome(rec: &[u8]) -> Outcome {
    let word = |at: usize| u32::from_be_bytes([rec[at], rec[at + 1], rec[at + 2], rec[at + 3]]);
    let long = |at: usize| (u64::from(word(at)) << 32) | u64::from(word(at + 4));
    let end = match word(REC_KIND) {
        1 => End::Normal,
        2 => End::Program {
            code: word(REC_CODE) as u16,
            ilc: rec[REC_CODE + 1],
            dxc: rec[REC_DXC + 3],
            teid: long(REC_TEID),
        },
        _ => End::Missing,
    };
    Outcome {
        end,
        state: State {
            mask: long(0),
            address: long(8),
            gpr: std::array::from_fn(|n| long(REC_GPR + 8 * n)),
            vr: std::array::from_fn(|n| {
                u128::from(long(REC_VR + 16 * n)) << 64 | u128::from(long(REC_VR + 16 * n + 8))
            }),
            ar: std::array::from_fn(|n| word(REC_AR + 4 * n)),
            fpc: word(REC_FPC),
            window: rec[REC_WINDOW..REC_WINDOW + WINDOW_LEN].to_vec(),
        },
    }
}

const INVALID_SEGMENT: u64 = 0x20;
const INVALID_PAGE: u64 = 0x400;
const PROTECTED_PAGE: u64 = 0x200;

/// Segments 0 to 2 are valid (SA22-7832, chapter 3 "Segment-Table Entries").
fn segments() -> Vec<u8> {
    let mut out = vec![0; 0x1000];
    for n in 0..512 {
        put(&mut out, 8 * n, if n < 3 { PAGES + 0x800 * n } else { INVALID_SEGMENT });
    }
    out
}

/// Three page tables of 256 entries.
fn pages() -> Vec<u8> {
    let mut out = vec![0; 3 * 0x800];
    for n in 0..512 {
        put(&mut out, 8 * n, n << 12);
    }
    let first = WINDOW & !0xfff;
    let second = first + 0x1000;
    for n in 0..256 {
        let entry = match n {
            0 | 4 | 6 => first,
            1 => second,
            7 => second | PROTECTED_PAGE,
            _ => INVALID_PAGE,
        };
        put(&mut out, 0x1000 + 8 * n, entry);
    }
    out
}

struct Supervisor {
    bytes: Vec<u8>,
    svc: u64,
    program: u64,
}

impl Supervisor {
    fn assemble(float: bool) -> Self {
        let mut a = Assembler { bytes: Vec::new() };
        // LCTLG 0,15,CONTROL
        a.rsy(0xeb, 0, 15, 0, CONTROL, 0x2f);
        let next = a.here();
        a.rxy(11, 0, ORDER_NEXT, 0x04); // LG
        a.rxy(11, 0, ORDER_END, 0x21); // CLG
        let to_done = a.hole(); // BRC 8,done
        a.rxy(10, 11, 0, 0x16); // LLGF 10,0(11)
        a.raw(&[0xa7, 0xbb, 0x00, 0x04]); // AGHI 11,4
        a.rxy(11, 0, ORDER_NEXT, 0x24); // STG
        a.rsy(0xeb, 10, 10, 0, 11, 0x0d); // SLLG 10,10,11
        a.llilf(13, INPUT);
        a.llilf(12, OUTPUT);
        a.raw(&[0xb9, 0x08, 0x00, 0xda]); // AGR 13,10
        a.raw(&[0xb9, 0x08, 0x00, 0xca]); // AGR 12,10
        a.rxy(12, 0, CURRENT, 0x24); // STG
        a.llilf(9, WINDOW);
        a.mvc(9, 0, 256, 13, REC_WINDOW);
        a.mvc(9, 256, 256, 13, REC_WINDOW + 256);
        a.llilf(9, CASE_PSW);
        a.mvc(9, 0, 16, 13, 0);
        if float {
            a.raw(&[0xb2, 0x9d, 0xd0 | (REC_FPC >> 8) as u8, REC_FPC as u8]); // LFPC
            a.vectors(0x36, 13); // VLM
        }
        a.raw(&[0x9a, 0x0f, 0xd0 | (REC_AR >> 8) as u8, REC_AR as u8]); // LAM 0,15
        a.rsy(0xeb, 0, 15, 13, REC_GPR as u64, 0x04); // LMG
        // Every register belongs to the case by now: the PSW lies where a displacement alone reaches it.
        a.raw(&[0xb2, 0xb2, (CASE_PSW >> 8) as u8, CASE_PSW as u8]);
        let svc = a.here();
        a.rsy(0xeb, 0, 15, 0, SAVE, 0x24); // STMG
        a.raw(&[0xa7, 0x19, 0x00, 0x01]); // LGHI 1,1
        let to_common = a.hole();
        let program = a.here();
        a.rsy(0xeb, 0, 15, 0, SAVE, 0x24);
        a.raw(&[0xa7, 0x19, 0x00, 0x02]);
        a.patch(to_common, 15);
        a.rxy(12, 0, CURRENT, 0x04); // LG
        a.llilf(9, SAVE);
        a.mvc(12, REC_GPR, 128, 9, 0);
        if float {
            a.vectors(0x3e, 12); // VSTM
            a.raw(&[0xb2, 0x9c, 0xc0 | (REC_FPC >> 8) as u8, REC_FPC as u8]); // STFPC
        }
        a.raw(&[0x9b, 0x0f, 0xc0 | (REC_AR >> 8) as u8, REC_AR as u8]); // STAM
        a.llilf(9, WINDOW);
        a.mvc(12, REC_WINDOW, 256, 9, 0);
        a.mvc(12, REC_WINDOW + 256, 256, 9, 256);
        a.rx(0x50, 1, 12, REC_KIND); // ST
        a.raw(&[0xa7, 0x1e, 0x00, 0x01]); // CHI 1,1
        let to_program = a.hole();
        a.mvc(12, 0, 16, 0, 0x140); // SVC old PSW
        a.mvc(12, REC_CODE, 4, 0, 0x88);
        a.back(next);
        a.patch(to_program, 6);
        a.mvc(12, 0, 16, 0, 0x150); // program old PSW
        a.mvc(12, REC_CODE, 4, 0, 0x8c);
        a.mvc(12, REC_DXC, 4, 0, 0x90);
        a.mvc(12, REC_TEID, 8, 0, 0xa8);
        a.back(next);
        a.patch(to_done, 8);
        a.llilf(1, CONTROL + 0x80);
        a.raw(&[0xb2, 0xb2, 0x10, 0x00]); // LPSWE 0(1)
        assert!(ENTRY + a.bytes.len() as u64 <= SEGMENTS, "the supervisor outgrew its place");
        Self { bytes: a.bytes, svc, program }
    }
}

struct Assembler {
    bytes: Vec<u8>,
}

impl Assembler {
    fn here(&self) -> u64 {
        ENTRY + self.bytes.len() as u64
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn rx(&mut self, op: u8, r1: u8, base: u8, d: usize) {
        self.raw(&[op, r1 << 4, (base << 4) | (d >> 8) as u8, d as u8]);
    }

    fn rxy(&mut self, r1: u8, base: u8, d: u64, sub: u8) {
        self.rsy(0xe3, r1, 0, base, d, sub);
    }

    fn rsy(&mut self, op: u8, r1: u8, r3: u8, base: u8, d: u64, sub: u8) {
        self.raw(&[op, (r1 << 4) | r3, (base << 4) | ((d >> 8) & 15) as u8, d as u8, (d >> 12) as u8, sub]);
    }

    /// All vector registers from or to the record at the base, in two halves (the second with the fifth bits in RXB).
    fn vectors(&mut self, sub: u8, base: u8) {
        for (d, rxb) in [(REC_VR, 0), (REC_VR + 256, 0x0c)] {
            self.raw(&[0xe7, 0x0f, base << 4 | (d >> 8) as u8, d as u8, rxb, sub]);
        }
    }

    fn llilf(&mut self, r1: u8, value: u64) {
        let v = (value as u32).to_be_bytes();
        self.raw(&[0xc0, (r1 << 4) | 15, v[0], v[1], v[2], v[3]]);
    }

    fn mvc(&mut self, b1: u8, d1: usize, len: usize, b2: u8, d2: usize) {
        self.raw(&[
            0xd2,
            (len - 1) as u8,
            (b1 << 4) | (d1 >> 8) as u8,
            d1 as u8,
            (b2 << 4) | (d2 >> 8) as u8,
            d2 as u8,
        ]);
    }

    fn hole(&mut self) -> usize {
        self.raw(&[0; 4]);
        self.bytes.len() - 4
    }

    /// Makes the hole a BRC to here.
    fn patch(&mut self, hole: usize, mask: u8) {
        let offset = ((self.bytes.len() - hole) / 2) as u16;
        let o = offset.to_be_bytes();
        self.bytes[hole..hole + 4].copy_from_slice(&[0xa7, (mask << 4) | 4, o[0], o[1]]);
    }

    fn back(&mut self, to: u64) {
        let offset = (to.wrapping_sub(self.here()) as i64 / 2) as i16;
        let o = offset.to_be_bytes();
        self.raw(&[0xa7, 0xf4, o[0], o[1]]);
    }
}
