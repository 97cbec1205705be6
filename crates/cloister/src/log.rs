//! Logs, trace events and profiles: `-D`, `-d`, `-trace`.
//!
//! A trace event is a `tracing` event whose target is its name; names are the field's where it has one. The table here
//! is what `-trace help` lists and what patterns are matched with.

use crate::out;
use anyhow::Context;
use cloister_control::{Machine, profile};
use cloister_machines::Report;
use cloister_options::{CommandLine, LogOptions};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::Directive;

/// Every trace event with what it says.
const EVENTS: &[(&str, &str)] = &[
    ("css_adapter_interrupt", "an adapter interruption was made pending: subclass"),
    ("css_crw", "a channel report was made pending: word"),
    ("css_io_interrupt", "an I/O interruption was made pending: subchannel, parameter, word"),
    ("handle_qmp_command", "a QMP command arrived: its name"),
    ("kvm_sev_attestation_report", "the secure processor made a report: nonce, length"),
    ("kvm_sev_change_state", "a SEV guest's launch goes on: before, after"),
    ("kvm_sev_init", "a guest becomes one of SEV: es"),
    ("kvm_sev_launch_finish", "a SEV guest is let go"),
    ("kvm_sev_launch_measurement", "a launch was measured: MAC and nonce"),
    ("kvm_sev_launch_secret", "a secret goes into a SEV guest: gpa, len"),
    ("kvm_sev_launch_start", "a launch begins: policy, whether there are session and certificate"),
    ("kvm_sev_launch_update_data", "memory is measured and encrypted: addr, len"),
    ("monitor_protocol_event_emit", "a QMP event is told: its name"),
    ("qemu_system_powerdown_request", "the guest is asked to power itself off"),
    ("qemu_system_shutdown_request", "the run ends: reason"),
    ("runstate_set", "what the machine does changed: before, after"),
    ("s390_pv", "refused Ultravisor calls and imports"),
    ("s390_pv_command", "a command of KVM_S390_PV_COMMAND: name, rc, rrc"),
    ("virtio_ccw_interpret_ccw", "a virtio command of a channel program: code, count"),
];

/// Whether the user asks which events there are.
pub(crate) fn asks_for_help(line: &CommandLine) -> bool {
    line.log.trace.iter().any(|pattern| matches!(pattern.as_str(), "help" | "?"))
}

/// The list of events.
pub(crate) fn help() -> String {
    EVENTS.iter().map(|(name, doc)| format!("{name:<32} {doc}\n")).collect()
}

/// Items of `-d` that are trace events of the core.
const LIVE: [&str; 2] = ["int", "cpu_reset"];
/// What `-d profile` stands for.
const PROFILE: [&str; 6] = ["stats", "unimp", "exits", "hot", "jit", "pages"];
/// Hot blocks that are printed.
const HOT: usize = 20;

/// What `-d` asks for, and where it goes.
pub(crate) struct Log {
    items: Vec<String>,
    file: Option<Arc<File>>,
}

impl Log {
    fn has(&self, item: &str) -> bool {
        let asked = |asked: &String| asked == item || asked == "profile" && PROFILE.contains(&item);
        self.items.iter().any(asked)
    }

    /// Before the run: counts what costs time only if it was asked for.
    pub(crate) fn prepare(&self, machine: &dyn Machine) {
        if let Some(vm) = machine.vm().filter(|_| self.has("hot")) {
            // A platform without a core of ours has no blocks to count.
            let _ = vm.set_profiling(true);
        }
    }

    /// After the run: tells what was counted.
    pub(crate) fn finish(&self, program: &str, machine: &dyn Machine, report: &Report) {
        let mut out = Vec::new();
        if self.has("stats") {
            let seconds = report.wall.as_secs_f64();
            out.push(format!(
                "{program}: {} instructions in {seconds:.3} s: {:.0} MIPS\n",
                report.instructions,
                report.instructions as f64 / seconds.max(1e-9) / 1e6
            ));
        }
        let counted = machine.vm().and_then(|vm| Some((vm.profile().ok()?, vm.page_counts().ok()?)));
        if let Some((counted, pages)) = counted {
            let texts = [
                ("unimp", profile::unknown_text(&counted.unknown)),
                ("exits", profile::exits_text(&machine.exits())),
                ("hot", profile::hot_text(&counted.hot, HOT, report.instructions)),
                ("jit", profile::jit_text(&counted)),
                ("pages", profile::pages_text(&pages)),
            ];
            out.extend(texts.into_iter().filter(|(item, _)| self.has(item)).map(|(_, text)| text));
        }
        for text in out {
            match &self.file {
                Some(file) => {
                    // A full disk is no reason to end with a failure.
                    let _ = file.as_ref().write_all(text.as_bytes());
                }
                None => out::tell(text.trim_end_matches('\n')),
            }
        }
    }
}

/// Begins to log as the command line says.
pub(crate) fn start(line: &CommandLine) -> anyhow::Result<Log> {
    let mut filter =
        EnvFilter::builder().with_default_directive(tracing::Level::WARN.into()).from_env_lossy();
    if std::env::var_os(EnvFilter::DEFAULT_ENV).is_none() {
        // Kernels probe for instructions by executing them.
        let directive: Directive = "cloister_cpu_s390x=error".parse().context("a log directive")?;
        filter = filter.add_directive(directive);
    }
    for item in LIVE.iter().filter(|live| line.log.items.iter().any(|item| item == *live)) {
        let directive: Directive = format!("{item}=trace").parse().context("a log item's name")?;
        filter = filter.add_directive(directive);
    }
    for pattern in patterns(&line.log)? {
        let mut known = false;
        for (name, _) in EVENTS.iter().filter(|(name, _)| matches_pattern(&pattern, name)) {
            let directive: Directive = format!("{name}=trace").parse().context("a trace event's name")?;
            filter = filter.add_directive(directive);
            known = true;
        }
        if !known {
            out::tell(&format!(
                "{}: warning: trace event '{pattern}' does not exist; -trace help lists them",
                line.program
            ));
        }
    }
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    let file = line.log.file.as_ref().map(|path| create("-D", path)).transpose()?;
    match (&line.log.trace_file, &file) {
        (Some(path), _) => builder.with_ansi(false).with_writer(create("-trace file=", path)?).init(),
        (None, Some(file)) => builder.with_ansi(false).with_writer(Arc::clone(file)).init(),
        (None, None) => {
            let color = std::io::IsTerminal::is_terminal(&std::io::stderr());
            builder.with_ansi(color).with_writer(|| Quiet).init();
        }
    }
    Ok(Log { items: line.log.items.clone(), file })
}

fn patterns(log: &LogOptions) -> anyhow::Result<Vec<String>> {
    let mut patterns = log.trace.clone();
    if let Some(path) = &log.trace_events {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("-trace events={}", path.display()))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        patterns.extend(lines.map(str::to_owned));
    }
    Ok(patterns)
}

/// `*` stands for any run of characters.
fn matches_pattern(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(name) = name.strip_prefix(start) else { return false };
    (0..=name.len()).filter(|&at| name.is_char_boundary(at)).any(|at| matches_pattern(rest, &name[at..]))
}

fn create(option: &str, path: &Path) -> anyhow::Result<Arc<File>> {
    Ok(Arc::new(File::create(path).with_context(|| format!("{option} {}", path.display()))?))
}

/// Standard error; if it is closed, there is nobody to tell.
struct Quiet;

impl Write for Quiet {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let _ = std::io::stderr().lock().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, name, expected) in [
            ("css_*", "css_crw", true),
            ("*_crw", "css_crw", true),
            ("c*s*w", "css_crw", true),
            ("css_crw", "css_crw", true),
            ("css", "css_crw", false),
            ("*", "", true),
            ("kvm_*", "css_crw", false),
        ] {
            assert_eq!(matches_pattern(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn the_list_of_events_is_sorted() {
        assert!(EVENTS.is_sorted());
    }
}
