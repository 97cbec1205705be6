//! From a host's dump to a core in the clear.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;

use cloister_crypto::{Aes256Gcm, Aes256Xts, Secret, Sha512, ct_eq, hkdf_sha512, sha256};
use cloister_elf_core::{Core, CoreWriter, CpuNotes, Layout, Registers, Section, Vectors};
use cloister_formats::s390x::PAGE_SIZE;
use cloister_formats::s390x::dump::{
    COMPONENT_SIZE, COMPONENTS_PER_MIB, Completion, CompletionArea, Component, CpuArea, CpuDump, KEY_INFO,
    SECTION_COMPLETION, SECTION_COMPONENTS, VERSION,
};
use zeroize::Zeroizing;

use super::{DumpError, Options, Report};
use crate::OwnerError;
use crate::files::{AtomicFile, io, read_key, refuse_existing};

/// Decrypts a dump. The output appears complete or not at all.
///
/// # Errors
/// If the key does not fit, or if any part of the dump was altered.
pub fn decrypt(options: &Options) -> Result<Report, OwnerError> {
    let (input, output) = (&options.dump, &options.output);
    refuse_existing(output, options.overwrite)?;
    let mut report = Report::default();
    let cck = read_key::<32>(Some(&options.cck), &mut report.warnings)?.unwrap_or_default();
    let file = File::open(input).map_err(io("open", input))?;
    let tables = object::read::ReadCache::new(file.try_clone().map_err(io("open", input))?);
    let core = Core::read(&tables).map_err(|source| DumpError::Core { file: input.clone(), source })?;
    let read = |section: &'static str| {
        let found = core.section(section);
        found.ok_or_else(|| DumpError::NotProtected { file: input.clone(), section })
    };
    let (components, end) = (read(SECTION_COMPONENTS)?, read(SECTION_COMPLETION)?);

    let mut bytes = [0; Completion::SIZE];
    if end.size < bytes.len() as u64 {
        return Err(DumpError::Damaged(format!("{SECTION_COMPLETION} has {} bytes", end.size)).into());
    }
    file.read_exact_at(&mut bytes, end.offset).map_err(io("read", input))?;
    let (key, secret) = open_end(&cck, &bytes)?;
    let cpus = open_cpus(&key, &core)?;
    report.cpus = cpus.len();
    check_loads(&core, components)?;
    report.authenticated = !options.unauthenticated_memory;
    if report.authenticated {
        if secret.digest().is_none() {
            let why = "a real machine's dump has no digest of it";
            return Err(DumpError::Unauthenticated(why).into());
        }
        if !is_whole(&core, components) {
            return Err(DumpError::Unauthenticated("the dump has only a part of it").into());
        }
    }

    let loads = core.loads.iter().map(|load| (load.address, load.size)).collect();
    let layout = Layout { cpus, loads, sections: Vec::new() };
    let mut written = AtomicFile::create(output, 0o600)?;
    written.stream(output, |out| {
        let mut out = CoreWriter::new(&layout, out).map_err(io("write", output))?;
        let mut pages = Pages::new(&secret);
        let mut memory = Zeroizing::new(vec![0; CHUNK]);
        let mut states = vec![0; CHUNK / PAGE_SIZE * COMPONENT_SIZE];
        for load in &core.loads {
            for done in (0..load.size).step_by(CHUNK) {
                let len = usize::try_from(load.size - done).unwrap_or(CHUNK).min(CHUNK);
                let page = (load.address + done) / PAGE_SIZE as u64;
                let memory = &mut memory[..len];
                let states = &mut states[..len / PAGE_SIZE * COMPONENT_SIZE];
                file.read_exact_at(memory, load.offset + done).map_err(io("read", input))?;
                file.read_exact_at(states, components.offset + page * COMPONENT_SIZE as u64)
                    .map_err(io("read", input))?;
                pages.decrypt(page, memory, states, &mut report);
                out.write(memory).map_err(io("write", output))?;
            }
        }
        if report.authenticated && !pages.fit() {
            return Err(DumpError::Memory.into());
        }
        out.finish().map_err(io("write", output))?.flush().map_err(io("write", output))
    })?;
    written.finish(output, options.overwrite)?;
    Ok(report)
}

/// For fuzzing: reads the parts of a dump in memory, as far as that goes without its key.
pub fn fuzz(bytes: &[u8]) {
    let Ok(core) = Core::read(bytes) else { return };
    let zero = Secret::default();
    let _ = open_cpus(&zero, &core);
    for section in &core.sections {
        let part = usize::try_from(section.offset).ok().and_then(|offset| bytes.get(offset..));
        let _ = open_end(&zero, part.unwrap_or_default());
        if check_loads(&core, section).is_ok() {
            let _ = is_whole(&core, section);
        }
    }
}

fn open_end(cck: &Secret<32>, bytes: &[u8]) -> Result<(Secret<32>, CompletionArea), DumpError> {
    let damaged = |why: cloister_formats::Error| DumpError::Damaged(why.to_string());
    let end = Completion::parse(bytes).map_err(damaged)?;
    check_version("end of the dump", end.version, end.length, Completion::SIZE)?;
    let key = hkdf_sha512(cck.expose(), &end.seed, KEY_INFO);
    let mut area = Zeroizing::new(end.area);
    let aad = bytes.get(..Completion::AAD_SIZE).unwrap_or_default();
    Aes256Gcm::new(&key).open(&end.iv, aad, area.as_mut(), &end.tag).map_err(|_| DumpError::Key)?;
    Ok((key, CompletionArea::parse(&area)))
}

fn open_cpus(key: &Secret<32>, core: &Core) -> Result<Vec<CpuNotes>, DumpError> {
    let cipher = Aes256Gcm::new(key);
    let mut cpus = Vec::new();
    for (number, data) in core.protected_cpus().enumerate() {
        let cpu = CpuDump::parse(data).map_err(|why| DumpError::Damaged(why.to_string()))?;
        check_version("CPU of the dump", cpu.version, cpu.length, CpuDump::SIZE)?;
        let mut area = Zeroizing::new(cpu.area);
        let aad = data.get(..CpuDump::AAD_SIZE).unwrap_or_default();
        cipher.open(&cpu.iv, aad, area.as_mut(), &cpu.tag).map_err(|_| DumpError::Cpu(number))?;
        let registers = registers(&CpuArea::parse(&area));
        cpus.push(CpuNotes { id: number as u32 + 1, registers, protected: None });
    }
    if cpus.len() != core.cpus() || cpus.is_empty() {
        let (have, want) = (cpus.len(), core.cpus());
        return Err(DumpError::Damaged(format!("{have} encrypted CPUs for {want} notes of CPUs")));
    }
    Ok(cpus)
}

fn registers(cpu: &CpuArea) -> Registers {
    let halves = cpu.vectors_low.map(|register| {
        let whole = u128::from_be_bytes(register);
        [(whole >> 64) as u64, whole as u64]
    });
    let [designation, mask, list] = cpu.guarded_storage;
    Registers {
        psw: cpu.psw,
        gprs: cpu.gprs,
        ars: cpu.ars,
        crs: cpu.crs,
        fprs: halves.map(|[first, _]| first),
        fpc: cpu.fpc,
        prefix: cpu.prefix,
        cpu_timer: cpu.cpu_timer,
        clock_comparator: cpu.clock_comparator,
        todpr: cpu.todpr,
        vectors: Some(Box::new(Vectors {
            low_halves: halves.map(|[_, second]| second),
            high: cpu.vectors_high,
        })),
        guarded_storage: Some([0, designation, mask, list]),
    }
}

fn check_version(what: &'static str, version: u32, length: u32, expected: usize) -> Result<(), DumpError> {
    match version == VERSION && length as usize == expected {
        true => Ok(()),
        false => Err(DumpError::Version { what, version, length, expected }),
    }
}

/// Every page of memory has a component.
fn check_loads(core: &Core, components: &Section) -> Result<(), DumpError> {
    let damaged = |text: String| Err(DumpError::Damaged(text));
    if !components.size.is_multiple_of(COMPONENTS_PER_MIB as u64) {
        return damaged(format!("{SECTION_COMPONENTS} has {} bytes", components.size));
    }
    let end = components.size / COMPONENT_SIZE as u64 * PAGE_SIZE as u64;
    for load in &core.loads {
        let page = PAGE_SIZE as u64;
        if load.address % page != 0 || load.size % page != 0 {
            return damaged(format!("memory at {:#x} is not of whole pages", load.address));
        }
        if load.address.checked_add(load.size).is_none_or(|last| last > end) {
            return damaged(format!("memory at {:#x} has no components", load.address));
        }
    }
    Ok(())
}

/// Memory is complete and in order, so that its digest can be computed.
fn is_whole(core: &Core, components: &Section) -> bool {
    let mut at = 0;
    let in_order = core.loads.iter().all(|load| {
        let fits = load.address == at;
        at = load.address.saturating_add(load.size);
        fits
    });
    in_order && at == components.size / COMPONENT_SIZE as u64 * PAGE_SIZE as u64
}

struct Pages<'a> {
    cipher: Aes256Xts,
    secret: &'a CompletionArea,
    digest: Sha512,
}

impl<'a> Pages<'a> {
    fn new(secret: &'a CompletionArea) -> Self {
        let mut key = Secret::<64>::default();
        let (first, second) = key.expose_mut().split_at_mut(secret.key1.len());
        first.copy_from_slice(&secret.key1);
        second.copy_from_slice(&secret.key2);
        Self { cipher: Aes256Xts::new(&key), secret, digest: Sha512::new() }
    }

    fn decrypt(&mut self, first: u64, memory: &mut [u8], states: &[u8], report: &mut Report) {
        let (pages, _) = memory.as_chunks_mut::<PAGE_SIZE>();
        let (states, _) = states.as_chunks::<COMPONENT_SIZE>();
        for ((number, page), state) in (first..).zip(pages).zip(states) {
            self.digest.update(state);
            match Component::parse(state) {
                Component::Tweak(component) => {
                    // As the Ultravisor did when it encrypted the page.
                    let parts = Zeroizing::new([&component[..], &number.to_be_bytes(), page].concat());
                    self.digest.update(&sha256(&parts));
                    self.cipher.decrypt_page(&Component::tweak(&component, &self.secret.nonce), page);
                    report.private += 1;
                }
                Component::Special { flags, .. } if flags & Component::ZERO != 0 => {
                    page.fill(0);
                    report.zero += 1;
                }
                Component::Special { flags, .. } if flags & Component::SHARED != 0 => report.shared += 1,
                Component::Special { .. } => {
                    page.fill(0);
                    report.missing += 1;
                }
            }
        }
    }

    fn fit(self) -> bool {
        self.secret.digest().is_some_and(|expected| ct_eq(&self.digest.finish(), &expected))
    }
}

const CHUNK: usize = 1 << 20;
