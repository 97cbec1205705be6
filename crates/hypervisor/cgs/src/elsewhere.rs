//! Mechanisms whose targets this version does not have. Their names and properties are known, so that a command
//! line for one of them is refused in the words that users and managers expect.
//!
//! Nothing here protects a guest.

use cloister_options::{Key, Kind, ObjectRole, ObjectType, Target};

use crate::registry::Mechanism;

const X86_64: Option<&[Target]> = Some(&[Target::X86_64]);

const fn foreign(object: &'static ObjectType) -> Mechanism {
    Mechanism { object, make: None, make_implicit: None }
}

pub(crate) const PEF_GUEST: Mechanism = foreign(&ObjectType {
    name: "pef-guest",
    targets: Some(&[Target::Ppc64]),
    role: ObjectRole::ConfidentialGuest,
    keys: &[],
    doc: "POWER Protected Execution Facility",
});

pub(crate) const SEV_SNP_GUEST: Mechanism = foreign(&ObjectType {
    name: "sev-snp-guest",
    targets: X86_64,
    role: ObjectRole::ConfidentialGuest,
    keys: &[
        Key::new("author-key-enabled", Kind::Bool, "id-auth carries an author key").default("off"),
        Key::new("cbitpos", Kind::Unsigned(32), "Position of the C-bit").default("0"),
        Key::new("guest-visible-workarounds", Kind::Text, "16 bytes in base64"),
        Key::new("host-data", Kind::Text, "32 bytes in base64"),
        Key::new("id-auth", Kind::Text, "4096 bytes in base64"),
        Key::new("id-block", Kind::Text, "96 bytes in base64"),
        Key::new("kernel-hashes", Kind::Bool, "Measure kernel, ramdisk and command line").default("off"),
        Key::new("policy", Kind::Unsigned(64), "The owner's policy").default("0x30000"),
        Key::new("reduced-phys-bits", Kind::Unsigned(32), "Address bits that are lost").required(),
        Key::new("sev-device", Kind::Text, "Device of the secure processor").default("/dev/sev"),
        Key::new("vcek-disabled", Kind::Bool, "Do not sign with the chip's key").default("off"),
    ],
    doc: "AMD Secure Nested Paging",
});

pub(crate) const TDX_GUEST: Mechanism = foreign(&ObjectType {
    name: "tdx-guest",
    targets: X86_64,
    role: ObjectRole::ConfidentialGuest,
    keys: &[
        Key::new("attributes", Kind::Unsigned(64), "Attributes of the guest"),
        Key::new("mrconfigid", Kind::Text, "48 bytes in base64"),
        Key::new("mrowner", Kind::Text, "48 bytes in base64"),
        Key::new("mrownerconfig", Kind::Text, "48 bytes in base64"),
        Key::new("sept-ve-disable", Kind::Bool, "No #VE for pages that are not there").default("off"),
    ],
    doc: "Intel Trust Domain Extensions",
});
