//! Machine types with their properties.
//!
//! The versions come from [`crate::version`], the one place that knows the emulated QEMU.

use crate::catalogue::{MachineCapabilities, MachineType};
use crate::invocation::Target;
use crate::schema::{Key, Kind};
use crate::version::{I440FX_MACHINE_VERSIONS, Q35_MACHINE_VERSIONS, S390X_MACHINE_VERSIONS};

/// Properties of every machine.
macro_rules! common_keys {
    ($($more:expr),* $(,)?) => {
        &[
            $($more,)*
            Key::new("append", Kind::Text, "Linux kernel command line"),
            Key::new(
                "confidential-guest-support",
                Kind::Link("confidential-guest-support"),
                "The object that describes how this guest is protected from its host",
            ),
            Key::new("dump-guest-core", Kind::Bool, "Include guest memory in a core dump of this program").default("on"),
            Key::new("firmware", Kind::Text, "Firmware image"),
            Key::new("graphics", Kind::Bool, "Graphics, of which this machine has none").default("on"),
            Key::new("initrd", Kind::Text, "Linux initial ramdisk file"),
            Key::new("kernel", Kind::Text, "Linux kernel image file"),
            Key::new("mem-merge", Kind::Bool, "Merge equal pages of guests; forced off for a confidential guest").default("on"),
            Key::new("memory-backend", Kind::Link("memory-backend"), "The object that provides the guest's memory"),
            Key::new("memory-encryption", Kind::Text, "Old name of confidential-guest-support"),
            Key::new("suppress-vmdesc", Kind::Bool, "Leave the description out of a migration stream").default("off"),
            Key::new("usb", Kind::Bool, "USB, of which this machine has none").default("off"),
        ]
    };
}

const NONE_KEYS: &[Key] = common_keys!();

const S390X_KEYS: &[Key] = common_keys!(
    Key::new("aes-key-wrap", Kind::Bool, "Give the guest AES wrapping keys").default("on"),
    Key::new("dea-key-wrap", Kind::Bool, "Give the guest DEA wrapping keys").default("on"),
    Key::new(
        "loadparm",
        Kind::Text,
        "Up to 8 characters of [A-Za-z0-9. ], in capitals for the boot loader and the guest",
    ),
);

/// Properties of every PC.
macro_rules! pc_keys {
    ($($more:expr),* $(,)?) => {
        common_keys!(
            $($more,)*
            Key::new("acpi", Kind::OnOffAuto, "ACPI; accepted").default("auto"),
            Key::new("default-bus-bypass-iommu", Kind::Bool, "Accepted").default("off"),
            Key::new("fd-bootchk", Kind::Bool, "Accepted").default("on"),
            Key::new("hpet", Kind::Bool, "High-precision timer; accepted").default("on"),
            Key::new("i8042", Kind::Bool, "Keyboard controller; accepted").default("on"),
            Key::new("kernel-irqchip", Kind::Choice(&["on", "off", "split"]), "Interrupt controllers of the platform; accepted"),
            Key::new("max-fw-size", Kind::Size, "Most bytes of firmware in flash").default("8388608"),
            Key::new("max-ram-below-4g", Kind::Size, "Most bytes of memory below 4 GiB").default("0"),
            Key::new("pcspk-audiodev", Kind::Text, "Accepted"),
            Key::new("pflash0", Kind::Text, "Node of a -blockdev with the firmware"),
            Key::new("pflash1", Kind::Text, "Node of a -blockdev with the firmware's variables"),
            Key::new("pic", Kind::OnOffAuto, "Accepted").default("auto"),
            Key::new("pit", Kind::OnOffAuto, "Accepted").default("auto"),
            Key::new("sata", Kind::Bool, "Accepted").default("on"),
            Key::new("smbus", Kind::Bool, "Accepted").default("on"),
            Key::new("smm", Kind::OnOffAuto, "System management mode; off for a confidential guest").default("auto"),
            Key::new("vmport", Kind::OnOffAuto, "Accepted").default("auto"),
        )
    };
}

const PC_KEYS: &[Key] = pc_keys!();

/// Every machine type of a target, as help lists them.
pub(crate) fn machines(target: Target) -> Vec<MachineType> {
    let mut out = vec![MachineType {
        name: "none".to_owned(),
        alias: None,
        is_default: false,
        target: None,
        description: "empty machine".to_owned(),
        keys: NONE_KEYS,
        capabilities: MachineCapabilities {
            max_cpus: 1,
            prefer_sockets: false,
            has_cpus: false,
            has_threads: false,
        },
    }];
    if target == Target::S390x {
        for (index, version) in S390X_MACHINE_VERSIONS.iter().enumerate() {
            out.push(MachineType {
                name: format!("s390-ccw-virtio-{version}"),
                alias: (index == 0).then_some("s390-ccw-virtio"),
                is_default: index == 0,
                target: Some(Target::S390x),
                description: format!("Virtual s390x machine (version {version})"),
                keys: S390X_KEYS,
                capabilities: MachineCapabilities {
                    max_cpus: 248,
                    // Up to 6.1 CPUs that the user did not place became sockets, since then cores.
                    prefer_sockets: before_6_2(version),
                    has_cpus: true,
                    has_threads: false,
                },
            });
        }
    }
    if target == Target::X86_64 {
        out.extend(pcs("pc-i440fx", "pc", "Standard PC (i440FX + PIIX, 1996)", I440FX_MACHINE_VERSIONS));
        out.extend(pcs("pc-q35", "q35", "Standard PC (Q35 + ICH9, 2009)", Q35_MACHINE_VERSIONS));
    }
    out
}

fn pcs(
    family: &str,
    alias: &'static str,
    description: &str,
    versions: &[&str],
) -> impl Iterator<Item = MachineType> {
    versions.iter().enumerate().map(move |(index, version)| MachineType {
        name: format!("{family}-{version}"),
        alias: (index == 0).then_some(alias),
        is_default: index == 0 && alias == "pc",
        target: Some(Target::X86_64),
        description: description.to_owned(),
        keys: PC_KEYS,
        capabilities: MachineCapabilities {
            max_cpus: match alias {
                "pc" => 255,
                _ if matches!(*version, "8.2" | "8.1") => 1024,
                _ => 288,
            },
            prefer_sockets: before_6_2(version),
            has_cpus: true,
            has_threads: true,
        },
    })
}

fn before_6_2(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    version < (6, 2)
}
