//! The CPU topology: what the user left out is computed as QEMU does (its documentation of `-smp`).
//!
//! Only the arithmetic; how a machine numbers its CPUs is the machine's.

use serde_json::{Map, Value};

use crate::catalogue::MachineType;
use crate::command_line::Smp;
use crate::error::Problem;
use crate::schema::{Key, Kind};

/// The keys of `-smp`.
pub(crate) const KEYS: &[Key] = &[
    Key::new("cpus", Kind::Unsigned(32), "CPUs at the start").default("1"),
    Key::new("maxcpus", Kind::Unsigned(32), "CPUs with those added later"),
    Key::new("sockets", Kind::Unsigned(32), "sockets of the machine"),
    Key::new("dies", Kind::Unsigned(32), "dies of a socket, only 1 here"),
    Key::new("clusters", Kind::Unsigned(32), "clusters of a die, only 1 here"),
    Key::new("cores", Kind::Unsigned(32), "cores of a socket"),
    Key::new("threads", Kind::Unsigned(32), "threads of a core"),
];

/// Resolve the tree of `-smp` and `-machine smp.*` for a machine.
pub(crate) fn resolve(tree: &Map<String, Value>, machine: &MachineType) -> Result<Smp, Problem> {
    let given = |name: &'static str| number(tree, name, machine);
    for name in tree.keys() {
        if !KEYS.iter().any(|key| key.name == name) {
            return Err(Problem::Unexpected(format!("smp.{name}")));
        }
    }
    let cpus = given("cpus")?;
    let maxcpus = given("maxcpus")?;
    let mut sockets = given("sockets")?;
    let mut cores = given("cores")?;
    let mut threads = given("threads")?;
    for level in ["dies", "clusters"] {
        if given(level)?.is_some_and(|count| count > 1) {
            return Err(Problem::SmpLevel(level));
        }
    }

    let limits = machine.capabilities;
    if cpus.is_some() || maxcpus.is_some() {
        let all = maxcpus.or(cpus).unwrap_or(1);
        let share = |a: u64, b: u64| all / a.saturating_mul(b).max(1);
        if limits.prefer_sockets {
            if sockets.is_none() {
                let (c, t) = (cores.unwrap_or(1), threads.unwrap_or(1));
                (cores, threads) = (Some(c), Some(t));
                sockets = Some(share(c, t));
            } else if cores.is_none() {
                let t = threads.unwrap_or(1);
                threads = Some(t);
                cores = Some(share(sockets.unwrap_or(1), t));
            }
        } else if cores.is_none() {
            let (s, t) = (sockets.unwrap_or(1), threads.unwrap_or(1));
            (sockets, threads) = (Some(s), Some(t));
            cores = Some(share(s, t));
        } else if sockets.is_none() {
            let t = threads.unwrap_or(1);
            threads = Some(t);
            sockets = Some(share(cores.unwrap_or(1), t));
        }
        if threads.is_none() {
            threads = Some(share(sockets.unwrap_or(1), cores.unwrap_or(1)));
        }
    }
    let (sockets, cores, threads) = (sockets.unwrap_or(1), cores.unwrap_or(1), threads.unwrap_or(1));
    let product = sockets.saturating_mul(cores).saturating_mul(threads);
    let maxcpus = maxcpus.or(cpus).unwrap_or(product);
    let cpus = cpus.unwrap_or(maxcpus);
    let hierarchy = format!("sockets ({sockets}) * cores ({cores}) * threads ({threads})");
    if product != maxcpus {
        return Err(Problem::SmpTopology(format!(
            "product of the hierarchy must match maxcpus: {hierarchy} != maxcpus ({maxcpus})"
        )));
    }
    if maxcpus < cpus {
        return Err(Problem::SmpTopology(format!(
            "maxcpus must be equal to or greater than smp: {hierarchy} == maxcpus ({maxcpus}) < smp_cpus ({cpus})"
        )));
    }
    if maxcpus > u64::from(limits.max_cpus) {
        return Err(count(maxcpus.try_into().unwrap_or(i64::MAX), machine));
    }
    if limits.has_cpus && !limits.has_threads && threads > 1 {
        return Err(Problem::SmpThreads);
    }
    // All of them are at most max_cpus now.
    let small = |number: u64| u32::try_from(number).unwrap_or(limits.max_cpus);
    Ok(Smp {
        cpus: small(cpus),
        max_cpus: small(maxcpus),
        sockets: small(sockets),
        cores: small(cores),
        threads: small(threads),
    })
}

fn number(
    tree: &Map<String, Value>,
    name: &'static str,
    machine: &MachineType,
) -> Result<Option<u64>, Problem> {
    let expects = || Problem::Expects { name: format!("smp.{name}"), what: "integer" };
    let Some(value) = tree.get(name) else {
        return Ok(None);
    };
    let number: i64 = value.as_str().and_then(|text| text.parse().ok()).ok_or_else(expects)?;
    match number {
        0 => Err(Problem::SmpZero),
        1.. => Ok(Some(number.unsigned_abs())),
        _ => Err(count(number, machine)),
    }
}

fn count(cpus: i64, machine: &MachineType) -> Problem {
    Problem::SmpCount { cpus, machine: machine.name.clone(), max: machine.capabilities.max_cpus }
}
