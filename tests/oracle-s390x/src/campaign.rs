//! Batches of cases through both machines.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use cloister_cpu_s390x::Tiering;

use crate::compare::{Coverage, Verdict, compare, explain};
use crate::forms::forms;
use crate::generate::{Case, Generator};
use crate::harness::{BATCH, End, Pieces, damage, image, outcomes, ranges};
use crate::{qemu, soft};

/// What to run.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// The seed.
    pub seed: u64,
    /// Number of cases.
    pub cases: u64,
    /// Number of the first case.
    pub first: u64,
    /// Only these mnemonics; empty means all.
    pub only: Vec<String>,
    /// Share of sequences in percent.
    pub sequences: u64,
    /// Cases in one image.
    pub batch: u64,
    /// QEMU against itself in reversed order.
    pub self_check: bool,
    /// With floating-point registers and instructions.
    pub float: bool,
    /// Mnemonics whose differences are known and counted apart.
    pub known: Vec<String>,
    /// Differences to show for each mnemonic.
    pub show: usize,
}

/// What came out.
#[derive(Default)]
pub struct Report {
    /// Cases compared.
    pub cases: u64,
    /// Cases that differ.
    pub different: u64,
    /// Cases whose instruction the core lacks.
    pub unimplemented: u64,
    /// Known differences by mnemonic: single instructions, and sequences or EXECUTE targets that have one of them.
    pub known: BTreeMap<String, u64>,
    /// Cases whose instruction QEMU lacks.
    pub no_oracle: u64,
    /// The differences in words, a few for each mnemonic.
    pub differences: Vec<String>,
    /// Cases that end QEMU itself.
    pub skipped: Vec<String>,
    /// Coverage by instruction and class.
    pub coverage: Coverage,
    /// Time in QEMU, its start included.
    pub oracle_time: Duration,
    /// Time in the core.
    pub core_time: Duration,
}

/// Runs the campaign.
pub fn run(c: &Campaign) -> Result<Report> {
    let mut forms = forms();
    if !c.float {
        forms.retain(|f| !f.floating());
    }
    let generator = Generator::new(&forms, c.seed, &c.only, c.sequences);
    if generator.is_empty() {
        bail!("no instruction of that name: see data/forms.txt");
    }
    let batch = c.batch.clamp(1, BATCH);
    let limit = Duration::from_secs(8);
    let mut report = Report::default();
    let mut shown: BTreeMap<&str, usize> = BTreeMap::new();
    let end = c.first + c.cases;
    let mut number = c.first;
    while number < end {
        // A case keeps its slot whatever else runs: its code's address is part of the case.
        let base = number - number % batch;
        let stop = end.min(base + batch);
        let cases: Vec<_> = (base..stop).map(|n| generator.case(n, n - base)).collect();
        let mut order: Vec<u32> = (number..stop).map(|n| (n - base) as u32).collect();
        let started = Instant::now();
        let mut pieces = image(&cases, &order, c.float);
        let oracle = match attempt(&cases, &pieces, limit) {
            Ok(records) => records,
            // A fault of QEMU itself, or a case that harms others: find the cases and go on without them.
            Err(_) => {
                let fatal = fatal(&cases, &order, c.float, limit)?;
                for slot in &fatal {
                    report.skipped.push(explain(&cases[*slot as usize], c.seed));
                }
                order.retain(|slot| !fatal.contains(slot));
                pieces = image(&cases, &order, c.float);
                attempt(&cases, &pieces, limit)?
            }
        };
        let expected = outcomes(&oracle);
        report.oracle_time += started.elapsed();
        let started = Instant::now();
        // Both back ends of the core; or QEMU a second time.
        let mut runs = Vec::new();
        if c.self_check {
            let reversed: Vec<u32> = order.iter().rev().copied().collect();
            let records = attempt(&cases, &image(&cases, &reversed, c.float), limit)?;
            runs.push(("", soft::Run { outcomes: outcomes(&records), ..soft::Run::default() }));
        } else {
            runs.push(("", soft::run(&cases, &order, c.float, Tiering::Off)?));
            runs.push(("translated: ", soft::run(&cases, &order, c.float, Tiering::AtOnce)?));
        }
        report.core_time += started.elapsed();
        if let Some(slot) = order.iter().find(|n| expected[**n as usize].end == End::Missing) {
            bail!(
                "QEMU left the image before case {}: {}",
                base + u64::from(*slot),
                explain(&cases[*slot as usize], c.seed)
            );
        }
        for slot in order.iter().map(|n| *n as usize) {
            let case = &cases[slot];
            let verdict = runs.iter().map(|(label, run)| {
                let verdict = match run.stopped.get(&(slot as u32)) {
                    Some(reason) => Verdict::Different(vec![format!("the core did not go on: {reason}")]),
                    None => compare(case, &expected[slot], &run.outcomes[slot]),
                };
                match verdict {
                    Verdict::Different(lines) => {
                        Verdict::Different(lines.iter().map(|line| format!("{label}{line}")).collect())
                    }
                    other => other,
                }
            });
            let verdict = verdict.reduce(|one, other| if matches!(one, Verdict::Same) { other } else { one });
            let Some(verdict) = verdict else { continue };
            report.cases += 1;
            report.coverage.count(case, &expected[slot], &verdict);
            match &verdict {
                Verdict::Same => {}
                Verdict::NoOracle => report.no_oracle += 1,
                Verdict::Unimplemented => report.unimplemented += 1,
                Verdict::Different(lines) => {
                    if let Some(name) = c.known.iter().find(|k| case.names.contains(&k.as_str())) {
                        *report.known.entry(name.clone()).or_default() += 1;
                        continue;
                    }
                    report.different += 1;
                    let key = if case.class == "sequence" { "sequence" } else { case.names[0] };
                    let count = shown.entry(key).or_default();
                    *count += 1;
                    if *count <= c.show {
                        report.differences.push(format!(
                            "{}  {}\n",
                            explain(case, c.seed),
                            lines.join("\n  ")
                        ));
                    }
                }
            }
        }
        number = stop;
    }
    Ok(report)
}

/// The output records of one run under QEMU.
fn attempt(cases: &[Case], pieces: &Pieces, limit: Duration) -> Result<Vec<u8>> {
    let mut read = qemu::run(pieces, &ranges(cases.len()), limit)?;
    if let Some(address) = damage(pieces, &read[1]) {
        bail!("a case changed storage at {address:#x}, which belongs to the image");
    }
    Ok(read.swap_remove(0))
}

/// The cases on which QEMU itself fails, by halving.
fn fatal(cases: &[Case], order: &[u32], float: bool, limit: Duration) -> Result<Vec<u32>> {
    let Err(error) = attempt(cases, &image(cases, order, float), limit) else {
        return Ok(Vec::new());
    };
    if let [only] = order {
        eprintln!("oracle-s390x: case {} left out: {error:#}", cases[*only as usize].number);
        return Ok(vec![*only]);
    }
    let (low, high) = order.split_at(order.len() / 2);
    let mut out = fatal(cases, low, float, limit)?;
    out.extend(fatal(cases, high, float, limit)?);
    // A failure that needs both halves, or that does not repeat, is not a case's fault.
    if out.is_empty() { Err(error) } else { Ok(out) }
}
