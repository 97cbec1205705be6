//! What `info` shows, in QEMU's layouts.

use crate::arguments::Arguments;
use crate::{Answer, Monitor, Refusal, tree};
use cloister_control::{BlockInfo, RunState};
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
    let blocks = monitor.operator.machine.blocks();
    let shown: Vec<String> = blocks
        .iter()
        .filter(|block| wanted.is_empty() || block.device == wanted || block.node_name == wanted)
        .map(|block| block_text(block, arguments.has('n'), arguments.has('v')))
        .collect();
    match shown.is_empty() && !wanted.is_empty() {
        true => Err(Refusal::error(format!("Device '{wanted}' not found"))),
        false => Ok(shown.join("\n")),
    }
}

fn block_text(block: &BlockInfo, node: bool, verbose: bool) -> String {
    let mut out = if node { block.node_name.clone() } else { block.device.clone() };
    let Some(file) = &block.file else { return out + ": [not inserted]\n" };
    let file = file.display();
    if !node {
        out += &format!(" ({})", block.node_name);
    }
    out += &format!(": {file} ({}{})\n", block.format, if block.read_only { ", read-only" } else { "" });
    if let Some(qdev) = &block.qdev {
        out += &format!("    Attached to:      {qdev}\n");
    }
    if block.removable {
        out += "    Removable device: not locked, tray closed\n";
    }
    out += "    Cache mode:       writeback\n";
    if block.snapshot {
        out += "    Writes:           kept apart and thrown away at the end (snapshot)\n";
    }
    if verbose {
        out += &format!(
            "\nImages:\nimage: {file}\nfile format: {}\nvirtual size: {} ({} bytes)\ndisk size: {}\n",
            block.format,
            human_size(block.virtual_size),
            block.virtual_size,
            human_size(block.actual_size)
        );
    }
    out
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
