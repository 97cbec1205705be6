//! What `info` shows, in QEMU's layouts.

use crate::arguments::Arguments;
use crate::{Answer, Monitor, Refusal, tree};
use cloister_control::{BlockInfo, BlockNodeInfo, RunState, profile};
use cloister_memory_map::MemoryMap;
use cloister_options::EMULATED_QEMU_VERSION;
use std::fmt::Write;

/// Most ranges that `info confidential` lists.
const RANGES: usize = 64;

pub(crate) fn version(_: &mut Monitor, _: &Arguments) -> Answer {
    Ok(format!("{EMULATED_QEMU_VERSION} (Cloister {})\n", env!("CARGO_PKG_VERSION")))
}

pub(crate) fn status(monitor: &mut Monitor, _: &Arguments) -> Answer {
    Ok(match monitor.operator.machine.run_state() {
        RunState::Running => "VM status: running\n".to_owned(),
        RunState::Paused => "VM status: paused\n".to_owned(),
        state => format!("VM status: paused ({})\n", state.name()),
    })
}

pub(crate) fn name(monitor: &mut Monitor, _: &Arguments) -> Answer {
    let name = monitor.operator.machine.facts().name.as_ref();
    Ok(name.map(|name| format!("{name}\n")).unwrap_or_default())
}

pub(crate) fn uuid(monitor: &mut Monitor, _: &Arguments) -> Answer {
    let mut out = String::new();
    for (index, byte) in monitor.operator.machine.facts().uuid.iter().enumerate() {
        let dash = if matches!(index, 4 | 6 | 8 | 10) { "-" } else { "" };
        write!(out, "{dash}{byte:02x}").expect("a String takes everything");
    }
    Ok(out + "\n")
}

pub(crate) fn jit(monitor: &mut Monitor, _: &Arguments) -> Answer {
    Ok(profile::jit(monitor.operator.machine.as_ref())?)
}

pub(crate) fn kvm(monitor: &mut Monitor, _: &Arguments) -> Answer {
    let facts = monitor.operator.machine.facts();
    let enabled = !facts.model && facts.platform.contains("KVM");
    Ok(format!("kvm support: {}\n", if enabled { "enabled" } else { "disabled" }))
}

pub(crate) fn cpus(monitor: &mut Monitor, _: &Arguments) -> Answer {
    let cpus = monitor.operator.machine.cpus();
    let line = |cpu: &cloister_control::CpuInfo| {
        let mark = if cpu.index == monitor.cpu { '*' } else { ' ' };
        format!("{mark} CPU #{}: thread_id={}\n", cpu.index, cpu.thread_id)
    };
    Ok(cpus.iter().map(line).collect())
}

pub(crate) fn chardev(monitor: &mut Monitor, _: &Arguments) -> Answer {
    let mut chardevs = monitor.operator.process.chardevs();
    chardevs.sort_by(|a, b| a.label.cmp(&b.label));
    Ok(chardevs.iter().map(|chardev| format!("{}: filename={}\n", chardev.label, chardev.filename)).collect())
}

pub(crate) fn balloon(monitor: &mut Monitor, _: &Arguments) -> Answer {
    let actual = monitor.operator.machine.balloon()?;
    Ok(format!("balloon: actual={}\n", actual >> 20))
}

pub(crate) fn block(monitor: &mut Monitor, arguments: &Arguments) -> Answer {
    let wanted = arguments.text();
    let verbose = arguments.has('v');
    let shown: Vec<String> = if arguments.has('n') {
        let nodes = monitor.operator.machine.block_nodes();
        let of = |node: &BlockNodeInfo| {
            let head = Image {
                file: &node.filename,
                format: &node.driver,
                virtual_size: node.virtual_size,
                actual_size: node.actual_size,
                read_only: node.read_only,
            };
            let cache = cache_mode(true, node.direct, node.no_flush);
            let zeroes = detect_zeroes(node.detect_zeroes);
            format!("{}: {}{cache}{zeroes}{}", node.name, head.line(), head.details(verbose))
        };
        nodes.iter().rev().filter(|node| wanted.is_empty() || node.name == wanted).map(of).collect()
    } else {
        let named =
            |block: &&BlockInfo| wanted.is_empty() || block.device == wanted || block.node_name == wanted;
        monitor
            .operator
            .machine
            .blocks()
            .iter()
            .filter(named)
            .map(|block| block_text(block, verbose))
            .collect()
    };
    match shown.is_empty() && !wanted.is_empty() {
        true => Err(Refusal::error(format!("Device '{wanted}' not found"))),
        false => Ok(shown.join("\n")),
    }
}

pub(crate) fn blockstats(monitor: &mut Monitor, _: &Arguments) -> Answer {
    let line = |block: &BlockInfo| {
        let s = &block.stats;
        format!(
            "{}: rd_bytes={} wr_bytes={} rd_operations={} wr_operations={} flush_operations={} \
             wr_total_time_ns={} rd_total_time_ns={} flush_total_time_ns={} rd_merged=0 wr_merged=0 \
             idle_time_ns=0\n",
            block.device,
            s.read.bytes,
            s.write.bytes,
            s.read.operations,
            s.write.operations,
            s.flush.operations,
            s.write.nanoseconds,
            s.read.nanoseconds,
            s.flush.nanoseconds,
        )
    };
    Ok(monitor.operator.machine.blocks().iter().map(line).collect())
}

fn block_text(block: &BlockInfo, verbose: bool) -> String {
    let mut out = match block.device.as_str() {
        "" => block.node_name.clone(),
        device => format!("{device} ({})", block.node_name),
    };
    let Some(file) = &block.file else { return out + ": [not inserted]\n" };
    let head = Image {
        file: &file.to_string_lossy(),
        format: &block.format,
        virtual_size: block.virtual_size,
        actual_size: block.actual_size,
        read_only: block.read_only,
    };
    out += &format!(": {}", head.line());
    if let Some(qdev) = &block.qdev {
        out += &format!("    Attached to:      {qdev}\n");
    }
    if block.removable {
        out += "    Removable device: not locked, tray closed\n";
    }
    if !matches!(block.io_status, "" | "ok") {
        out += &format!("    I/O status:       {}\n", block.io_status);
    }
    out += &cache_mode(block.write_cache, block.direct, block.no_flush);
    out += &detect_zeroes(block.detect_zeroes);
    if block.snapshot {
        out += "    Writes:           kept apart and thrown away at the end (snapshot)\n";
    }
    out + &head.details(verbose)
}

/// What `info block` shows of an image.
struct Image<'a> {
    file: &'a str,
    format: &'a str,
    virtual_size: u64,
    actual_size: u64,
    read_only: bool,
}

impl Image<'_> {
    fn line(&self) -> String {
        format!("{} ({}{})\n", self.file, self.format, if self.read_only { ", read-only" } else { "" })
    }

    fn details(&self, verbose: bool) -> String {
        if !verbose {
            return String::new();
        }
        format!(
            "\nImages:\nimage: {}\nfile format: {}\nvirtual size: {} ({} bytes)\ndisk size: {}\n",
            self.file,
            self.format,
            human_size(self.virtual_size),
            self.virtual_size,
            human_size(self.actual_size)
        )
    }
}

fn cache_mode(write_cache: bool, direct: bool, no_flush: bool) -> String {
    format!(
        "    Cache mode:       {}{}{}\n",
        if write_cache { "writeback" } else { "writethrough" },
        if direct { ", direct" } else { "" },
        if no_flush { ", ignore flushes" } else { "" }
    )
}

fn detect_zeroes(mode: &str) -> String {
    match mode {
        "" | "off" => String::new(),
        mode => format!("    Detect zeroes:    {mode}\n"),
    }
}

pub(crate) fn confidential(monitor: &mut Monitor, _: &Arguments) -> Answer {
    let machine = &monitor.operator.machine;
    let facts = machine.facts();
    let mut out = String::new();
    match machine.confidential() {
        None => out += "mechanism: none, the host sees everything\n",
        Some(info) => {
            out += &format!("mechanism: {}\n", info.qom_type);
            out += &match &info.id {
                Some(id) => format!("object: {id}\n"),
                None => "object: none, the guest asked for protection by itself\n".to_owned(),
            };
            out += match info.secure {
                Some(true) => "secure now: yes\n",
                Some(false) => "secure now: no\n",
                None => "secure now: this platform cannot tell\n",
            };
        }
    }
    if facts.model {
        out +=
            "MODEL: this platform is a software model; it protects nobody from this host's administrator\n";
    }
    match machine.vm() {
        None => out += &format!("platform: {}\n", facts.platform),
        Some(vm) => {
            let map = MemoryMap::observe(vm).map_err(|error| Refusal::error(error.to_string()))?;
            out += &map.text(RANGES);
        }
    }
    Ok(out)
}

/// As QEMU prints it.
pub(crate) fn sev(monitor: &mut Monitor, _: &Arguments) -> Answer {
    let Some(info) = monitor.operator.machine.sev().info() else {
        return Ok("SEV is not enabled\n".to_owned());
    };
    // A set bit of the policy forbids.
    let allowed = |bit: u32| if info.policy & bit == 0 { "on" } else { "off" };
    Ok(format!(
        "SEV type: sev\nstate: {}\nbuild: {}\napi version: {}.{}\nhandle: {}\ndebug: {}\nkey-sharing: {}\n",
        info.state,
        info.build_id,
        info.api_major,
        info.api_minor,
        info.handle,
        allowed(1 << 0),
        allowed(1 << 1)
    ))
}

pub(crate) fn mem(monitor: &mut Monitor, _: &Arguments) -> Answer {
    let machine = &monitor.operator.machine;
    let facts = machine.facts();
    let mut out = format!("{}: {} ({} bytes)\n", facts.memory_id, human_size(facts.memory), facts.memory);
    if let Some(vm) = machine.vm() {
        let counts = vm.page_counts()?;
        out += &format!(
            "pages of 4 KiB: {} private, {} exported, {} shared, {} lost, {} untouched\n",
            counts.private, counts.exported, counts.shared, counts.lost, counts.untouched
        );
    }
    Ok(out)
}

pub(crate) fn migrate(monitor: &mut Monitor, _: &Arguments) -> Answer {
    let blockers = monitor.operator.machine.migration_blockers();
    if blockers.is_empty() {
        return Ok("Migration status: none; this version of Cloister cannot migrate\n".to_owned());
    }
    let mut out = "Migration status: none\nOutgoing migration blocked:\n".to_owned();
    for blocker in blockers {
        out += &format!("  {blocker}\n");
    }
    Ok(out)
}

pub(crate) fn mtree(monitor: &mut Monitor, _: &Arguments) -> Answer {
    let facts = monitor.operator.machine.facts();
    let mut out =
        "address-space: memory\n  0000000000000000-ffffffffffffffff (prio 0, i/o): system\n".to_owned();
    if let Some(last) = facts.memory.checked_sub(1) {
        out += &format!("    0000000000000000-{last:016x} (prio 0, ram): {}\n", facts.memory_id);
    }
    Ok(out + "\n")
}

pub(crate) fn qtree(monitor: &mut Monitor, _: &Arguments) -> Answer {
    Ok(tree::devices(&monitor.operator.machine.devices()))
}

pub(crate) fn qom_tree(monitor: &mut Monitor, arguments: &Arguments) -> Answer {
    let path = match arguments.text() {
        "" => "/machine",
        path => path,
    };
    tree::objects(&*monitor.operator.machine, path)
        .ok_or_else(|| Refusal::words(format!("Path '{path}' could not be resolved.")))
}

/// As QEMU prints sizes: three digits.
fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut unit = 0;
    while unit < 6 && bytes >> (10 * unit) >= 1000 {
        unit += 1;
    }
    let whole = bytes >> (10 * unit);
    let scale = 1u128 << (10 * unit);
    // Rounded to as many places as three digits leave.
    let places = [2u32, 2, 1, 0, 0].get(whole.to_string().len()).copied().unwrap_or(0);
    let factor = 10u128.pow(places);
    let rounded = (u128::from(bytes) * factor + scale / 2) / scale;
    let (whole, fraction) = (rounded / factor, rounded % factor);
    let fraction = format!("{fraction:0places$}", places = places as usize);
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{whole}{point}{fraction} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::human_size;

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (512, "512 B"),
            (1 << 20, "1 MiB"),
            (1 << 30, "1 GiB"),
            (1536 << 20, "1.5 GiB"),
            (200_704, "196 KiB"),
        ] {
            assert_eq!(human_size(bytes), text);
        }
        for shift in 0..64 {
            human_size(u64::MAX >> shift);
        }
    }
}
