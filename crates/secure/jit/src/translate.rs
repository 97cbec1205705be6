//! Translating regions, beside the CPUs.

use crate::arena::Arena;
use crate::core::{Core, Fields};
use crate::emit::{Emitter, Place, Region};
use crate::error::Error;
use crate::run::Helpers;
use crate::{Block, Operation, chain};
use cloister_memory::{CodeStamp, Ram, Storage};
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_codegen::settings::{self, Configurable};
use cranelift_codegen::{Context, ir};
use cranelift_frontend::FunctionBuilderContext;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Bytes for code of one generation, if nothing else is said. There are two while CPUs go over to the next.
pub const ROOM: usize = 32 << 20;
/// Regions waiting to be translated.
const WAITING: usize = 512;

/// Describes an operation. False: the core has to execute it.
pub type Describe<O> = fn(&mut Emitter<'_, O>, &O) -> bool;

/// Code for a block, as long as its generation lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    pub(crate) address: usize,
    pub(crate) entry: u32,
    pub(crate) generation: u32,
}

/// What was translated since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Statistics {
    /// Regions.
    pub regions: u64,
    /// Blocks in them.
    pub blocks: u64,
    /// Bytes of guest code in these.
    pub guest_bytes: u64,
    /// Bytes of the longest block.
    pub longest: u64,
    /// Operations in these.
    pub operations: u64,
    /// Time that the translator's thread worked.
    pub time: Duration,
    /// Bytes of code now.
    pub bytes: usize,
    /// How many bytes there may be at a time.
    pub most: usize,
    /// How often all code was forgotten to make room.
    pub flushes: u32,
}

/// The translations of a machine, for all of its CPUs.
pub struct Translator<C: Core> {
    pub(crate) fields: Fields<C>,
    /// Where the storage begins that code reaches.
    pub(crate) place: usize,
    /// Number of the current generation.
    pub(crate) number: AtomicU32,
    storage: Arc<Storage>,
    state: Mutex<State<C::Op>>,
    work: Arc<Work<C::Op>>,
    /// A region is done.
    done: Condvar,
}

/// Regions that wait to be translated.
struct Work<O> {
    jobs: Mutex<Jobs<O>>,
    more: Condvar,
}

struct Jobs<O> {
    waiting: Vec<Job<O>>,
    /// Nobody will ask any more.
    over: bool,
}

/// Code that is forgotten together.
pub(crate) struct Generation<O> {
    pub(crate) number: u32,
    pub(crate) enter: usize,
    find: usize,
    arena: Arena<O>,
}

struct State<O> {
    generation: Arc<Generation<O>>,
    /// The one before, to see whether a CPU still has it.
    last: Weak<Generation<O>>,
    known: HashMap<u64, (CodeStamp, Code)>,
    /// Keys of blocks that are to be translated.
    waiting: HashSet<u64>,
    /// Counts how often everything was forgotten; what was asked for before does not count any more.
    epoch: u32,
    statistics: Statistics,
}

struct Job<O> {
    region: Region<O>,
    epoch: u32,
    /// How often somebody wanted it.
    weight: u32,
}

/// What the thread has.
struct Generator<C: Core> {
    isa: OwnedTargetIsa,
    place: Place,
    helpers: Helpers,
    describe: Describe<C::Op>,
    room: usize,
    context: Context,
    builder: FunctionBuilderContext,
    /// Code refers to it.
    _ram: Ram,
}

impl<C: Core> Translator<C> {
    /// Translates for CPUs like `core`, with `storage`; `room` bytes of code, and as many while it is renewed.
    ///
    /// # Errors
    /// The host is not supported, or gives no memory for code or no thread.
    pub fn new(
        core: &C,
        fields: Fields<C>,
        storage: &Arc<Storage>,
        describe: Describe<C::Op>,
        room: usize,
    ) -> Result<Arc<Self>, Error> {
        let mut generator = Generator::new(core, &fields, storage, describe, room)?;
        let generation = Arc::new(generator.generation(1)?);
        let work = Arc::new(Work {
            jobs: Mutex::new(Jobs { waiting: Vec::new(), over: false }),
            more: Condvar::new(),
        });
        let translator = Arc::new(Self {
            place: storage.ram().start().addr().get(),
            fields,
            number: AtomicU32::new(1),
            storage: Arc::clone(storage),
            state: Mutex::new(State {
                generation,
                last: Weak::new(),
                known: HashMap::new(),
                waiting: HashSet::new(),
                epoch: 0,
                statistics: Statistics { most: 2 * room, ..Statistics::default() },
            }),
            work: Arc::clone(&work),
            done: Condvar::new(),
        });
        let weak = Arc::downgrade(&translator);
        std::thread::Builder::new()
            .name("translator".into())
            .spawn(move || generator.work(&work, &weak))
            .map_err(Error::Thread)?;
        Ok(translator)
    }

    /// The code of a block that was decoded under a stamp.
    pub fn find(&self, key: u64, stamp: CodeStamp) -> Option<Code> {
        let state = lock(&self.state);
        state.known.get(&key).filter(|(of, _)| *of == stamp).map(|(_, code)| *code)
    }

    /// Whether a block waits to be translated; somebody wants it, which is counted.
    pub fn hastens(&self, key: u64) -> bool {
        if !lock(&self.state).waiting.contains(&key) {
            return false;
        }
        let mut jobs = lock(&self.work.jobs);
        let of_key = |job: &&mut Job<C::Op>| job.region.blocks.iter().any(|block| block.key == key);
        if let Some(job) = jobs.waiting.iter_mut().find(of_key) {
            job.weight += 1;
        }
        true
    }

    /// Whether a block has code or will have.
    pub fn covers(&self, key: u64, stamp: CodeStamp) -> bool {
        let state = lock(&self.state);
        state.waiting.contains(&key) || state.known.get(&key).is_some_and(|(of, _)| *of == stamp)
    }

    /// Asks for code. Nothing comes of it if there is too much to do.
    pub fn ask(&self, region: Region<C::Op>) {
        if region.blocks.is_empty() {
            return;
        }
        let keys: Vec<u64> = region.blocks.iter().map(|block| block.key).collect();
        let mut state = lock(&self.state);
        state.waiting.extend(&keys);
        let job = Job { region, epoch: state.epoch, weight: 0 };
        let mut jobs = lock(&self.work.jobs);
        if jobs.waiting.len() < WAITING {
            jobs.waiting.push(job);
            self.work.more.notify_one();
        } else {
            keys.iter().for_each(|key| _ = state.waiting.remove(key));
        }
    }

    /// Forgets all code. CPUs do so when they next look for some.
    pub fn clear(&self) {
        let mut state = lock(&self.state);
        state.known.clear();
        state.epoch += 1;
    }

    /// Waits until nothing waits to be translated.
    pub fn finish(&self) {
        let mut state = lock(&self.state);
        while !state.waiting.is_empty() {
            state = self.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What was translated.
    pub fn statistics(&self) -> Statistics {
        let state = lock(&self.state);
        let last = state.last.upgrade().map_or(0, |generation| generation.arena.used());
        Statistics { bytes: state.generation.arena.used() + last, ..state.statistics }
    }

    pub(crate) fn generation(&self) -> Arc<Generation<C::Op>> {
        Arc::clone(&lock(&self.state).generation)
    }

    /// Takes what the thread has made of a region.
    fn take(&self, Job { region, epoch, .. }: &Job<C::Op>, code: Result<Code, Error>, time: Duration) {
        let mut state = lock(&self.state);
        for block in &region.blocks {
            state.waiting.remove(&block.key);
        }
        match code {
            Ok(_) if state.epoch != *epoch => {}
            Ok(code) => {
                for (entry, block) in (0..).zip(&region.blocks) {
                    state.known.insert(block.key, (region.stamp, Code { entry, ..code }));
                }
                state.statistics.regions += 1;
                state.statistics.operations += region.operations();
                for last in region.blocks.iter().filter_map(|block| block.ops.last()) {
                    let length = last.offset() + last.length();
                    state.statistics.blocks += 1;
                    state.statistics.guest_bytes += length;
                    state.statistics.longest = state.statistics.longest.max(length);
                }
            }
            Err(why) => tracing::debug!("a region of page {:#x} is not translated: {why}", region.page),
        }
        state.statistics.time += time;
        self.done.notify_all();
    }
}

impl<C: Core> Drop for Translator<C> {
    fn drop(&mut self) {
        lock(&self.work.jobs).over = true;
        self.work.more.notify_one();
    }
}

impl<O> Work<O> {
    /// What was wanted most often, and of that the newest; nothing at the end.
    fn next(&self) -> Option<Job<O>> {
        let mut jobs = lock(&self.jobs);
        loop {
            if jobs.over {
                return None;
            }
            if let Some((most, _)) = jobs.waiting.iter().enumerate().max_by_key(|(_, job)| job.weight) {
                return Some(jobs.waiting.swap_remove(most));
            }
            jobs = self.more.wait(jobs).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<C: Core> Generator<C> {
    fn new(
        core: &C,
        fields: &Fields<C>,
        storage: &Arc<Storage>,
        describe: Describe<C::Op>,
        room: usize,
    ) -> Result<Self, Error> {
        if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
            return Err(Error::Host("the memory model of x86 is relied on"));
        }
        let fail = |why: &dyn std::fmt::Display| Error::Generator(why.to_string());
        let mut flags = settings::builder();
        for (name, value) in [
            // What the optimiser would find is little: blocks are short. It takes a third of the time.
            ("opt_level", "none"),
            ("enable_pinned_reg", "true"),
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
        Ok(Self {
            place: Place::new(core, fields, &ram, isa.frontend_config())?,
            isa,
            helpers: Helpers::of::<C>(),
            describe,
            room,
            context: Context::new(),
            builder: FunctionBuilderContext::new(),
            _ram: ram,
        })
    }

    /// A generation with nothing but the stubs.
    fn generation(&mut self, number: u32) -> Result<Generation<C::Op>, Error> {
        let arena = Arena::new(self.room)?;
        let enter = self.stub(&arena, chain::enter)?;
        let find = self.stub(&arena, chain::find)?;
        Ok(Generation { number, enter, find, arena })
    }

    fn stub(
        &mut self,
        arena: &Arena<C::Op>,
        build: fn(&mut ir::Function, &mut FunctionBuilderContext, &Place),
    ) -> Result<usize, Error> {
        self.context.clear();
        build(&mut self.context.func, &mut self.builder, &self.place);
        arena.add(self.compile()?, [])
    }

    fn compile(&mut self) -> Result<&[u8], Error> {
        let compiled = self
            .context
            .compile(&*self.isa, &mut ControlPlane::default())
            .map_err(|why| Error::Generator(format!("{:?}", why.inner)))?;
        if !compiled.buffer.relocs().is_empty() {
            return Err(Error::Generator("code that is not position-independent".into()));
        }
        Ok(compiled.code_buffer())
    }

    /// Translates until nobody asks any more.
    fn work(&mut self, work: &Work<C::Op>, translator: &Weak<Translator<C>>) {
        while let Some(job) = work.next() {
            let Some(translator) = translator.upgrade() else { return };
            let started = Instant::now();
            let code = self.translate(&translator, &job.region);
            translator.take(&job, code, started.elapsed());
        }
    }

    fn translate(&mut self, translator: &Translator<C>, region: &Region<C::Op>) -> Result<Code, Error> {
        let Some(record) = translator.storage.record(region.page) else {
            return Err(Error::Generator("a page that is not there".into()));
        };
        if record.code_stamp() != region.stamp {
            return Err(Error::Generator("it has changed".into()));
        }
        let stamp = std::ptr::from_ref(record.code_stamp_cell()).addr();
        loop {
            let generation = translator.generation();
            self.context.clear();
            Emitter::run(
                &mut self.context.func,
                &mut self.builder,
                &self.place,
                &self.helpers,
                generation.find,
                stamp,
                region,
                self.describe,
            );
            let ops = region.blocks.iter().map(|block: &Block<C::Op>| Arc::clone(&block.ops));
            match generation.arena.add(self.compile()?, ops) {
                Ok(address) => return Ok(Code { address, entry: 0, generation: generation.number }),
                Err(Error::Full) => self.renew(translator, generation)?,
                Err(why) => return Err(why),
            }
        }
    }

    /// Begins the next generation, if no CPU has the one before the last any more.
    fn renew(&mut self, translator: &Translator<C>, old: Arc<Generation<C::Op>>) -> Result<(), Error> {
        if lock(&translator.state).last.strong_count() > 0 {
            return Err(Error::Full);
        }
        let next = Arc::new(self.generation(old.number.wrapping_add(1))?);
        let mut state = lock(&translator.state);
        state.last = Arc::downgrade(&old);
        state.known.clear();
        state.statistics.flushes += 1;
        translator.number.store(next.number, Ordering::Relaxed);
        state.generation = next;
        Ok(())
    }
}

/// What panics while it has a lock leaves nothing half done here.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
