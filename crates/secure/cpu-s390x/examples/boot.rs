//! Boots a Linux kernel on the bare core, with just enough of a machine to see it on the console: SCLP events and
//! no devices. For the core's own development; the machine proper is elsewhere.
//!
//! `boot KERNEL [INITRD] [--append TEXT] [--memory MiB] [--cpus N] [--virtual] [--budget N]`; the environment variable
//! WITHOUT takes away facility bits.

use cloister_arch::s390x::{
    Completion, Exit, FloatingInterrupt, Instruction, InstructionExit, Psw, RunState, TimeMode, VmConfig,
    facility, program,
};
use cloister_cpu_s390x::{CoreExit, FACILITIES, RunLimit, System};
use cloister_memory::Storage;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

struct Options {
    kernel: String,
    initrd: Option<String>,
    append: String,
    memory: u64,
    cpus: u16,
    time: TimeMode,
    budget: Option<u64>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let options = options()?;
    let storage = Arc::new(Storage::new(options.memory << 20)?);
    load(&storage, &options)?;
    let mut facilities = [0; 4];
    FACILITIES.iter().for_each(|&bit| facility::set(&mut facilities, bit, true));
    for bit in std::env::var("WITHOUT").unwrap_or_default().split(',').filter_map(|bit| bit.parse().ok()) {
        facility::set(&mut facilities, bit, false);
    }
    let config = VmConfig {
        memory_bytes: options.memory << 20,
        max_cpus: options.cpus,
        facilities,
        cpu_id: 0x0000_0000_8561_8000,
        time: options.time,
        tod_start: matches!(options.time, TimeMode::Virtual { .. }).then_some(0xdf00_0000_0000_0000),
        name: "boot".into(),
        uuid: [0; 16],
    };
    let system = Arc::new(System::new(config, storage)?);
    let mut state = system.state(0)?;
    state.psw = Psw { mask: Psw::EA | Psw::BA, addr: 0x10000 };
    state.run_state = RunState::Operating;
    system.set_state(0, &state)?;
    let start = Instant::now();
    if matches!(options.time, TimeMode::Virtual { .. }) {
        in_turn(&system, options.budget)?;
    } else {
        on_threads(&system, options.budget);
    }
    let seconds = start.elapsed().as_secs_f64();
    let instructions: u64 = (0..system.cpus()).map(|cpu| system.instructions(cpu)).sum();
    println!(
        "\n{instructions} instructions in {seconds:.2} s: {:.0} MIPS",
        instructions as f64 / seconds / 1e6
    );
    Ok(())
}

/// One thread per CPU, until one of them ends the run.
fn on_threads(system: &Arc<System>, budget: Option<u64>) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for cpu in 0..system.cpus() {
            let done = &done;
            scope.spawn(move || {
                let mut completion = None;
                while !done.load(Ordering::SeqCst) {
                    let limit = RunLimit { instructions: budget, block: true };
                    let exit = match system.run(cpu, limit, completion.take()) {
                        Ok(exit) => exit,
                        Err(error) => {
                            println!("{error}");
                            break;
                        }
                    };
                    match handle(system, cpu, exit) {
                        Next::Go(answer) => completion = answer,
                        Next::End => break,
                    }
                }
                done.store(true, Ordering::SeqCst);
                (0..system.cpus()).for_each(|other| system.kick(other));
            });
        }
    });
}

/// All CPUs on this thread, a fixed quantum each.
fn in_turn(system: &System, budget: Option<u64>) -> Result<(), Box<dyn std::error::Error>> {
    let mut completions = vec![None; usize::from(system.cpus())];
    loop {
        let mut wake: Option<u64> = None;
        let mut idle = true;
        for cpu in 0..system.cpus() {
            let limit = RunLimit { instructions: Some(10_000), block: false };
            loop {
                match system.run(cpu, limit, completions[usize::from(cpu)].take())? {
                    CoreExit::Guest(Exit::Budget) => idle = false,
                    CoreExit::Guest(Exit::Idle { wake_after_ns }) => {
                        wake = [wake, wake_after_ns].into_iter().flatten().min();
                    }
                    CoreExit::Guest(Exit::Stopped)
                        if (0..system.cpus())
                            .any(|n| system.run_state(n).ok() == Some(RunState::Operating)) => {}
                    exit => match handle(system, cpu, exit) {
                        Next::Go(answer) => {
                            completions[usize::from(cpu)] = answer;
                            continue;
                        }
                        Next::End => return Ok(()),
                    },
                }
                break;
            }
        }
        if budget.is_some_and(|budget| system.instructions(0) > budget) {
            println!("{:?}", system.state(0)?);
            return Ok(());
        }
        if idle {
            match wake {
                Some(ns) => system.advance(ns),
                None => return Ok(()),
            }
        }
    }
}

enum Next {
    Go(Option<Completion>),
    End,
}

fn handle(system: &System, cpu: u16, exit: CoreExit) -> Next {
    match exit {
        CoreExit::Guest(Exit::Instruction(exit)) => match instruction(system, &exit) {
            Some(completion) => Next::Go(Some(completion)),
            None => Next::End,
        },
        CoreExit::Guest(Exit::Kicked | Exit::Idle { .. }) => Next::Go(None),
        CoreExit::Guest(Exit::Stopped) => {
            if (0..system.cpus()).any(|cpu| system.run_state(cpu).ok() != Some(RunState::Stopped)) {
                return Next::Go(None);
            }
            println!("all CPUs are stopped");
            Next::End
        }
        other => {
            println!("CPU {cpu}: {other:x?}\n{:x?}", system.state(cpu));
            Next::End
        }
    }
}

fn instruction(system: &System, exit: &InstructionExit) -> Option<Completion> {
    let block = &exit.buffer;
    Some(match exit.instruction {
        Instruction::Servc { command, sccb } => {
            let mut answer = block.clone();
            service(system, command, &mut answer);
            system.inject(FloatingInterrupt::ServiceSignal(sccb));
            Completion { cc: Some(0), buffer: Some(answer), ..Completion::default() }
        }
        Instruction::Chsc => {
            let mut answer = block.clone();
            let at = usize::from(u16::from_be_bytes([block[0], block[1]]));
            answer[at..at + 8].copy_from_slice(&[0, 8, 0, 4, 0, 0, 0, 0]);
            Completion { cc: Some(0), buffer: Some(answer), ..Completion::default() }
        }
        Instruction::Diag { code: 0x308, v3: 6, .. } => Completion::result(0x102),
        Instruction::Diag { code: 0x308, v3: 0..=4, .. } => {
            println!("the guest asks for a new IPL");
            return None;
        }
        Instruction::Diag { code: 0x500, .. } => Completion::result(-22_i64 as u64),
        Instruction::Diag { .. } => Completion::program(program::SPECIFICATION),
        Instruction::Stcrw => Completion { cc: Some(1), buffer: Some(vec![0; 4]), ..Completion::default() },
        _ => Completion::cc(3),
    })
}

/// A minimal SCLP: processor and storage information, event masks, the ASCII console.
fn service(system: &System, command: u32, sccb: &mut [u8]) {
    let cpus = system.cpus();
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = sccb.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    match command & 0xffff_00ff {
        0x0002_0001 | 0x0012_0001 => {
            put(6, &[0, 0x10]);
            put(8, &(system.config().memory_bytes.div_ceil(1 << 20) as u16).to_be_bytes());
            put(10, &[1]);
            put(16, &cpus.to_be_bytes());
            put(18, &[0, 0x80]);
            put(24, &[0x40; 8]);
            put(48, &0x0c00_0000_0000_0000_u64.to_be_bytes());
            put(80, &[0, 0, 0, 0, 0, 2]);
            put(99, &[0x2f]);
            put(120, &(cpus - 1).to_be_bytes());
            for cpu in 0..cpus {
                put(128 + 16 * usize::from(cpu), &[cpu as u8]);
            }
        }
        0x0001_0001 => {
            put(6, &[0, 0x10]);
            put(8, &cpus.to_be_bytes());
            put(10, &[0, 24, 0, 0]);
            put(14, &(24 + 16 * cpus).to_be_bytes());
            for cpu in 0..cpus {
                put(24 + 16 * usize::from(cpu), &[cpu as u8]);
            }
        }
        0x0078_0005 => {
            put(6, &[0, 0x20]);
            let len = usize::from(sccb[11]);
            let mut put = |at: usize, word: u32| {
                if let Some(place) = sccb.get_mut(at..at + 4) {
                    place.copy_from_slice(&word.to_be_bytes());
                }
            };
            put(12 + 2 * len, 0x40);
            put(12 + 3 * len, 0x40);
        }
        0x0076_0005 => {
            if sccb.len() > 14 && sccb[10] == 0x1a {
                let len = usize::from(u16::from_be_bytes([sccb[8], sccb[9]]));
                let mut out = std::io::stdout().lock();
                let _ = out.write_all(&sccb[14..(8 + len).min(sccb.len())]);
                let _ = out.flush();
            }
            sccb[11] |= 0x80;
            sccb[6..8].copy_from_slice(&[0, 0x20]);
        }
        0x0077_0005 => put(6, &[0x60, 0xf0]),
        _ => put(6, &[0x01, 0xf0]),
    }
}

fn load(storage: &Storage, options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    let ram = storage.ram();
    let kernel = std::fs::read(&options.kernel)?;
    ram.copy_in(0, &kernel);
    ram.copy_in(0x10480, options.append.as_bytes());
    ram.write_u8(0x10480 + options.append.len(), 0);
    if let Some(path) = &options.initrd {
        let initrd = std::fs::read(path)?;
        let mut at = 0x80_0000;
        while at < kernel.len() + (1 << 20) {
            at += 1 << 20;
        }
        ram.copy_in(at, &initrd);
        ram.write_u64_be(0x10408, at as u64);
        ram.write_u64_be(0x10410, initrd.len() as u64);
    }
    Ok(())
}

fn options() -> Result<Options, Box<dyn std::error::Error>> {
    let mut options = Options {
        kernel: String::new(),
        initrd: None,
        append: "console=ttysclp0 panic=-1".into(),
        memory: 512,
        cpus: 1,
        time: TimeMode::Real,
        budget: None,
    };
    let mut words = std::env::args().skip(1);
    let mut files = Vec::new();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--append" => options.append = value()?,
            "--memory" => options.memory = value()?.parse()?,
            "--cpus" => options.cpus = value()?.parse()?,
            "--budget" => options.budget = Some(value()?.parse()?),
            "--virtual" => options.time = TimeMode::Virtual { shift: 0 },
            _ => files.push(word),
        }
    }
    let mut files = files.into_iter();
    options.kernel = files.next().ok_or("usage: boot KERNEL [INITRD] [options]")?;
    options.initrd = files.next();
    Ok(options)
}
