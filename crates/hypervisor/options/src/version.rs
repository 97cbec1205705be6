//! The one place for the QEMU version whose interfaces Cloister reproduces.
//!
//! The names of the versioned machines follow from it too; nothing else in the project spells a QEMU version.

/// The QEMU release whose command line, machine names and monitor Cloister reproduces.
pub const EMULATED_QEMU_VERSION: &str = "8.2.0";

/// Versions of the s390x machine, newest first; the first one is the default and has the unversioned alias.
pub(crate) const S390X_MACHINE_VERSIONS: &[&str] = &[
    "8.2", "8.1", "8.0", "7.2", "7.1", "7.0", "6.2", "6.1", "6.0", "5.2", "5.1", "5.0", "4.2", "4.1", "4.0",
    "3.1", "3.0", "2.12", "2.11", "2.10", "2.9", "2.8", "2.7", "2.6", "2.5", "2.4",
];

/// Versions of the machine `q35`, newest first.
pub(crate) const Q35_MACHINE_VERSIONS: &[&str] = &[
    "8.2", "8.1", "8.0", "7.2", "7.1", "7.0", "6.2", "6.1", "6.0", "5.2", "5.1", "5.0", "4.2", "4.1",
    "4.0.1", "4.0", "3.1", "3.0", "2.12", "2.11", "2.10", "2.9", "2.8", "2.7", "2.6", "2.5", "2.4",
];

/// Versions of the machine `pc`, newest first; the first one is the default of its target.
pub(crate) const I440FX_MACHINE_VERSIONS: &[&str] = &[
    "8.2", "8.1", "8.0", "7.2", "7.1", "7.0", "6.2", "6.1", "6.0", "5.2", "5.1", "5.0", "4.2", "4.1", "4.0",
    "3.1", "3.0", "2.12", "2.11", "2.10", "2.9", "2.8", "2.7", "2.6", "2.5", "2.4", "2.3", "2.2", "2.1",
    "2.0",
];

/// The text of `-version`. Managers look for `version (\d[\.\d+]+)` in its first line.
pub fn version_text() -> String {
    format!(
        "QEMU emulator version {EMULATED_QEMU_VERSION} (emulated by Cloister {})\n",
        env!("CARGO_PKG_VERSION")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_number_after_version_is_the_emulated_one() {
        let text = version_text();
        let rest = text.split_once("version ").map(|(_, rest)| rest).unwrap_or_default();
        assert!(rest.starts_with(EMULATED_QEMU_VERSION));
        assert!(text.contains("Cloister"));
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn the_newest_machine_belongs_to_the_emulated_version() {
        for versions in [S390X_MACHINE_VERSIONS, Q35_MACHINE_VERSIONS, I440FX_MACHINE_VERSIONS] {
            assert!(EMULATED_QEMU_VERSION.starts_with(versions[0]));
        }
    }
}
