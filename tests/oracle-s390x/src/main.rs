//! Runs random cases under QEMU and under the core and reports every difference.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;
use cloister_oracle_s390x::campaign::{self, Campaign};
use cloister_oracle_s390x::compare::explain;
use cloister_oracle_s390x::generate::Generator;

/// The z/Architecture core against packaged QEMU.
#[derive(Parser)]
struct Arguments {
    /// Seed: the same seed and case number always mean the same case
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number of cases
    #[arg(long, default_value_t = 20_000)]
    cases: u64,
    /// Number of the first case
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Only these mnemonics (repeat or separate by commas)
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Share of cases that are sequences, in percent
    #[arg(long, default_value_t = 20)]
    sequences: u64,
    /// Cases in one image
    #[arg(long, default_value_t = 2048)]
    batch: u64,
    /// Compare QEMU with itself in reversed order instead of the core
    #[arg(long)]
    self_check: bool,
    /// Leave floating point out
    #[arg(long)]
    no_float: bool,
    /// Mnemonics whose differences are known: counted apart
    #[arg(long, value_delimiter = ',')]
    known: Vec<String>,
    /// Print the coverage table
    #[arg(long)]
    coverage: bool,
    /// Print the cases and run none
    #[arg(long)]
    list: bool,
    /// Print at most this many differences of one mnemonic
    #[arg(long, default_value_t = 3)]
    show: usize,
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("oracle-s390x: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let a = Arguments::parse();
    let Some(version) = cloister_oracle_s390x::qemu::version() else {
        bail!("{} is not installed (package qemu-system-misc)", cloister_oracle_s390x::qemu::program());
    };
    if a.list {
        let forms = cloister_oracle_s390x::forms::forms();
        let generator = Generator::new(&forms, a.seed, &a.only, a.sequences);
        for number in a.first..a.first + a.cases {
            println!("{}", explain(&generator.case(number, number % a.batch), a.seed));
        }
        return Ok(true);
    }
    let float = !a.no_float && (a.self_check || cloister_oracle_s390x::soft::has_float());
    if !float && !a.no_float {
        println!("the core has no floating-point registers yet: left out");
    }
    let report = campaign::run(&Campaign {
        seed: a.seed,
        cases: a.cases,
        first: a.first,
        only: a.only,
        sequences: a.sequences,
        batch: a.batch,
        self_check: a.self_check,
        float,
        known: a.known,
        show: a.show,
    })?;
    for text in &report.differences {
        println!("{text}");
    }
    for text in &report.skipped {
        println!("left out because QEMU itself failed:\n{text}");
    }
    if a.coverage {
        println!("{}", report.coverage.table());
    }
    for (name, count) in &report.known {
        println!("known to differ: {name}, {count} cases");
    }
    let absent = report.coverage.unimplemented();
    if !absent.is_empty() {
        println!("not implemented by the core: {}", absent.join(" "));
    }
    let silent = report.coverage.without_oracle();
    if !silent.is_empty() {
        println!("not implemented by QEMU: {}", silent.join(" "));
    }
    println!(
        "{version}: {} cases, {} different, {} not implemented, {} instructions executed; QEMU {:.1} s, core {:.1} s",
        report.cases,
        report.different,
        report.unimplemented,
        report.coverage.executed(),
        report.oracle_time.as_secs_f64(),
        report.core_time.as_secs_f64()
    );
    Ok(report.different == 0)
}
