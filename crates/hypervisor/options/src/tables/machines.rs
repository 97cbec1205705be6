//! Machine types with their properties.
//!
//! The versions come from [`crate::version`], the one place that knows the emulated QEMU.

use crate::catalogue::{MachineCapabilities, MachineType};
use crate::invocation::Target;
use crate::schema::{Key, Kind};
use crate::version::S390X_MACHINE_VERSIONS;

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

/// Every machine type of a target, as help lists them.
pub(crate) fn machines(target: Target) -> Vec<MachineType> {
    let mut out = vec![MachineType {
        name: "none".to_owned(),
        alias: None,
        is_default: false,
        target: None,
        description: "empty machine".to_owned(),
        keys: NONE_KEYS,
        capabilities: MachineCapabilities { max_cpus: 1, prefer_sockets: false, has_cpus: false },
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
                },
            });
        }
    }
    out
}

fn before_6_2(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    version < (6, 2)
}
