//! Memory for host code, and the way into it.

use crate::chain::{Chain, Table};
use crate::core::{Core, Fields, Stepped, Stored};
use crate::emit::{Emitter, Place, Region};
use crate::error::Error;
use cloister_memory::{Ram, Storage};
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::isa::{CallConv, OwnedTargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use cranelift_codegen::{Context, ir};
use cranelift_frontend::FunctionBuilderContext;
use memmap2::{Mmap, MmapMut, MmapOptions};
use std::fs::File;
use std::sync::Arc;

/// Bytes for code of one CPU.
const ROOM: usize = 32 << 20;

/// An address of host code, valid until [`Jit::clear`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub(crate) usize);

/// How host code was left.
#[derive(Clone, Copy, Debug)]
pub enum Left<'a, O> {
    /// Between two blocks: there is something to look at, or no code for what follows.
    Between,
    /// An instruction asks to leave the core; it is completed.
    Exit,
    /// An instruction was not completed.
    Trap(&'a O),
}

/// Host code of one CPU.
pub struct Jit<C: Core> {
    pub(crate) isa: OwnedTargetIsa,
    pub(crate) place: Place,
    memory: Memory,
    table: Box<Table>,
    /// Operations that code refers to.
    ops: Vec<Arc<[C::Op]>>,
    enter: usize,
    chain: usize,
    requests: fn(&C) -> &std::sync::atomic::AtomicU32,
    context: Context,
    builder: FunctionBuilderContext,
    storage: Arc<Storage>,
    _ram: Ram,
    regions: u64,
}

impl<C: Core> Jit<C> {
    /// Room for code that runs on `core` and on CPUs of the same type with the same storage.
    ///
    /// # Errors
    /// The host is not supported or gives no memory for code.
    pub fn new(core: &C, fields: &Fields<C>, storage: &Arc<Storage>) -> Result<Self, Error> {
        if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
            return Err(Error::Host("the memory model of x86 is relied on"));
        }
        let fail = |why: &dyn std::fmt::Display| Error::Generator(why.to_string());
        let mut flags = settings::builder();
        for (name, value) in [
            ("opt_level", "speed"),
            ("preserve_frame_pointers", "true"),
            ("enable_probestack", "false"),
            ("unwind_info", "false"),
            ("enable_verifier", if cfg!(debug_assertions) { "true" } else { "false" }),
        ] {
            flags.set(name, value).map_err(|why| fail(&why))?;
        }
        let isa = cranelift_native::builder()
            .map_err(Error::Host)?
            .finish(settings::Flags::new(flags))
            .map_err(|why| fail(&why))?;
        let ram = storage.ram();
        let mut jit = Self {
            place: Place::new(core, fields, &ram, isa.frontend_config())?,
            isa,
            memory: Memory::new(ROOM)?,
            table: Table::new(),
            ops: Vec::new(),
            enter: 0,
            chain: 0,
            requests: fields.requests,
            context: Context::new(),
            builder: FunctionBuilderContext::new(),
            storage: Arc::clone(storage),
            _ram: ram,
            regions: 0,
        };
        jit.stubs()?;
        Ok(jit)
    }

    /// Translates a region. `describe` describes its blocks.
    ///
    /// # Errors
    /// There is no room, or the generator failed.
    pub fn translate(
        &mut self,
        region: &Region<C::Op>,
        describe: impl FnMut(&mut Emitter<'_, C::Op>, usize, &C::Op) -> bool,
    ) -> Result<Code, Error> {
        self.context.clear();
        self.context.func.signature = signature(CallConv::Tail);
        let helpers = Helpers::of::<C>();
        Emitter::run(
            &mut self.context.func,
            &mut self.builder,
            &self.place,
            &helpers,
            self.chain,
            region,
            describe,
        );
        let code = self.finish()?;
        self.ops.extend(region.blocks.iter().map(|block| Arc::clone(&block.ops)));
        self.regions += 1;
        Ok(Code(code))
    }

    /// Makes code known to other code: what jumps to `address` in `mode` goes there, as long as `page` keeps `stamp`.
    pub fn publish(&mut self, address: u64, mode: u64, code: Code, page: u64, stamp: cloister_memory::CodeStamp) {
        if let Some(record) = self.storage.record(page) {
            self.table.set(address, Chain::new(address, mode, code, record.code_stamp_cell(), stamp));
        }
    }

    /// Runs code, and whatever code it leads to.
    pub fn enter(&self, core: &mut C, code: Code) -> Left<'_, C::Op> {
        let requests: *const std::sync::atomic::AtomicU32 = (self.requests)(core);
        let table: *const Table = &raw const *self.table;
        // SAFETY: `enter` is the address of the stub that `stubs` made with this signature; it lies in `memory`,
        // which lives as long as `self`.
        let stub: extern "C" fn(*mut C, *const std::sync::atomic::AtomicU32, *const Table, usize) -> usize =
            unsafe { std::mem::transmute(self.enter) };
        match stub(core, requests, table, code.0) {
            BETWEEN => Left::Between,
            EXIT => Left::Exit,
            // SAFETY: code answers with nothing else but the address of an operation of its region, which `ops` keeps.
            op => Left::Trap(unsafe { &*(op as *const C::Op) }),
        }
    }

    /// Forgets all code.
    ///
    /// # Errors
    /// The stubs cannot be made again.
    pub fn clear(&mut self) -> Result<(), Error> {
        self.table.clear();
        self.ops.clear();
        self.memory.used = 0;
        self.stubs()
    }

    /// Bytes of code.
    pub fn bytes(&self) -> usize {
        self.memory.used
    }

    /// Regions translated since the start.
    pub fn regions(&self) -> u64 {
        self.regions
    }

    fn stubs(&mut self) -> Result<(), Error> {
        self.context.clear();
        self.context.func.signature = crate::chain::enter_signature();
        crate::chain::build_enter(&mut self.context.func, &mut self.builder, &self.place);
        self.enter = self.finish()?;
        self.context.clear();
        self.context.func.signature = signature(CallConv::Tail);
        crate::chain::build(&mut self.context.func, &mut self.builder, &self.place);
        self.chain = self.finish()?;
        Ok(())
    }

    fn finish(&mut self) -> Result<usize, Error> {
        let compiled = self
            .context
            .compile(&*self.isa, &mut ControlPlane::default())
            .map_err(|why| Error::Generator(format!("{:?}", why.inner)))?;
        if !compiled.buffer.relocs().is_empty() {
            return Err(Error::Generator("code that is not position-independent".into()));
        }
        self.memory.add(compiled.code_buffer())
    }
}

pub(crate) const BETWEEN: usize = 0;
pub(crate) const EXIT: usize = 1;

/// Core, requests, table: what all code gets.
pub(crate) fn signature(convention: CallConv) -> ir::Signature {
    let mut signature = ir::Signature::new(convention);
    signature.params.extend([ir::AbiParam::new(ir::types::I64); 3]);
    signature.returns.push(ir::AbiParam::new(ir::types::I64));
    signature
}

/// Addresses of the functions that code calls.
pub(crate) struct Helpers {
    pub(crate) step: usize,
    pub(crate) fetch: usize,
    pub(crate) store: usize,
}

impl Helpers {
    fn of<C: Core>() -> Self {
        Self {
            step: step::<C> as *const () as usize,
            fetch: fetch::<C> as *const () as usize,
            store: store::<C> as *const () as usize,
        }
    }
}

/// SAFETY (for callers): `core` is the core that the code was entered with, and nobody else uses it; `op` is an
/// operation of the running region. Both are so in code that [`Emitter`] makes.
unsafe extern "C" fn step<C: Core>(core: *mut C, op: *const C::Op) -> u64 {
    // SAFETY: as above.
    let (core, op) = unsafe { (&mut *core, &*op) };
    core.step(op) as u64
}

/// The value goes to `to`; the answer is 0 if there is one.
///
/// SAFETY (for callers): as for [`step`]; `to` is a slot in the frame of the calling code.
unsafe extern "C" fn fetch<C: Core>(core: *mut C, address: u64, len: u64, to: *mut u64) -> u64 {
    // SAFETY: as above.
    let core = unsafe { &mut *core };
    match core.fetch(address, len as u8) {
        Some(value) => {
            // SAFETY: as above.
            unsafe { to.write(value) };
            0
        }
        None => 1,
    }
}

/// SAFETY (for callers): as for [`step`].
unsafe extern "C" fn store<C: Core>(core: *mut C, address: u64, len: u64, value: u64) -> u64 {
    // SAFETY: as above.
    let core = unsafe { &mut *core };
    core.store(address, len as u8, value) as u64
}

const _: () = assert!(Stepped::Next as u64 == 0 && Stored::Done as u64 == 0);

/// One file, mapped twice: code is written through one mapping and run through the other, so that no mapping is both
/// writable and executable.
struct Memory {
    write: MmapMut,
    run: Mmap,
    used: usize,
}

impl Memory {
    fn new(len: usize) -> Result<Self, Error> {
        let fd = rustix::fs::memfd_create("cloister-code", rustix::fs::MemfdFlags::CLOEXEC)
            .map_err(|why| Error::Map(why.into()))?;
        let file = File::from(fd);
        file.set_len(len as u64).map_err(Error::Map)?;
        // SAFETY: nobody else has the file, so that it is neither shortened nor changed but through `write`.
        let write = unsafe { MmapOptions::new().len(len).map_mut(&file) }.map_err(Error::Map)?;
        // SAFETY: as above.
        let run = unsafe { MmapOptions::new().len(len).map_exec(&file) }.map_err(Error::Map)?;
        Ok(Self { write, run, used: 0 })
    }

    /// Adds code; its address.
    fn add(&mut self, code: &[u8]) -> Result<usize, Error> {
        let start = self.used.next_multiple_of(32);
        let place = self.write.get_mut(start..start + code.len()).ok_or(Error::Full(ROOM))?;
        place.copy_from_slice(code);
        self.used = start + code.len();
        // x86 keeps instruction fetches coherent with stores, also through another mapping, once a jump came between.
        Ok(self.run.as_ptr() as usize + start)
    }
}
