//! `platform.toml`: the switches of a modelled machine.
//!
//! An unknown key is an error that names it: a switch that is silently ignored would leave the
//! user with another machine than the one written down.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::PlatformError;

/// The contents of `platform.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlatformConfig {
    kind: String,
    version: u32,
    /// The architecture of the modelled machine.
    pub target: Target,
    /// The Ultravisor's switches (s390x). An absent section means a machine that has one, in use.
    #[serde(default)]
    pub ultravisor: Ultravisor,
    /// The secure processor's switches (x86_64). An absent section means a machine that has one.
    #[serde(default)]
    pub sev: Sev,
}

/// The architecture of a modelled machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Target {
    /// IBM Z.
    S390x,
    /// AMD, with a secure processor.
    #[serde(rename = "x86_64")]
    X86_64,
}

/// The `[ultravisor]` section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ultravisor {
    /// Whether the machine has an Ultravisor at all (facility 158 of the host).
    pub present: bool,
    /// Whether the host kernel was started with `prot_virt=1`.
    pub prot_virt: bool,
}

impl Default for Ultravisor {
    fn default() -> Self {
        Self { present: true, prot_virt: true }
    }
}

/// The `[sev]` section: what the secure processor and CPUID leaf 8000001F say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sev {
    /// Whether the machine has SEV at all.
    pub present: bool,
    /// Whether it has SEV-ES.
    pub es: bool,
    /// Major version of the firmware's interface.
    pub api_major: u8,
    /// Minor version.
    pub api_minor: u8,
    /// Build of the firmware.
    pub build: u8,
    /// Highest ASID, at most 1006.
    pub asids: u32,
    /// Lowest ASID of a guest without SEV-ES.
    pub min_sev_asid: u32,
    /// Position of the C-bit.
    pub cbitpos: u8,
    /// By how many bits physical addresses shrink.
    pub reduced_phys_bits: u8,
}

impl Default for Sev {
    fn default() -> Self {
        Self {
            present: true,
            es: true,
            api_major: 1,
            api_minor: 55,
            build: 25,
            asids: 509,
            min_sev_asid: 100,
            cbitpos: 51,
            reduced_phys_bits: 1,
        }
    }
}

impl Sev {
    /// What is wrong with the numbers, if anything is.
    fn fault(&self) -> Option<&'static str> {
        if !(1..=1006).contains(&self.asids) {
            return Some("sev.asids must be 1 to 1006");
        }
        if !(1..=self.asids + 1).contains(&self.min_sev_asid) {
            return Some("sev.min_sev_asid must be 1 to sev.asids + 1");
        }
        if !(47..=63).contains(&self.cbitpos) {
            return Some("sev.cbitpos must be 47 to 63");
        }
        if !(1..=63).contains(&self.reduced_phys_bits) {
            return Some("sev.reduced_phys_bits must be 1 to 63");
        }
        None
    }
}

const KIND: &str = "cloister-platform";
const VERSION: u32 = 1;

impl PlatformConfig {
    /// The configuration of a new machine of that architecture, everything switched on.
    pub fn new(target: Target) -> Self {
        Self {
            kind: KIND.into(),
            version: VERSION,
            target,
            ultravisor: Ultravisor::default(),
            sev: Sev::default(),
        }
    }

    /// Reads the text of a `platform.toml`; `file` is only for the messages.
    pub fn parse(text: &str, file: &Path) -> Result<Self, PlatformError> {
        let fail = |error: toml::de::Error| PlatformError::Config {
            file: file.into(),
            reason: error.to_string().trim_end().to_owned(),
        };
        // Kind and version first: a later version may have keys that this one does not know, and
        // "unknown key" would be the wrong complaint.
        let head: Head = toml::from_str(text).map_err(fail)?;
        if head.kind != KIND || head.version != VERSION {
            return Err(PlatformError::Version { file: file.into(), kind: head.kind, version: head.version });
        }
        let config: Self = toml::from_str(text).map_err(fail)?;
        let fail = |reason: String| Err(PlatformError::Config { file: file.into(), reason });
        let stray = match config.target {
            Target::S390x => head.sev.map(|_| ("sev", Target::X86_64)),
            Target::X86_64 => head.ultravisor.map(|_| ("ultravisor", Target::S390x)),
        };
        if let Some((section, of)) = stray {
            return fail(format!("section `{section}` is for target {of}; this is target {}", config.target));
        }
        match config.sev.fault() {
            Some(fault) => fail(fault.into()),
            None => Ok(config),
        }
    }

    /// The text of a `platform.toml` with these switches.
    pub fn to_toml(&self) -> String {
        // Written by hand so that every switch carries its explanation.
        let head = format!(
            "# A modelled machine. It is a MODEL: it protects nobody from the machine's administrator.\n\
             kind = \"{}\"\nversion = {}\ntarget = \"{}\"\n\n",
            self.kind, self.version, self.target,
        );
        head + &match self.target {
            Target::S390x => format!(
                "[ultravisor]\n\
                 # false: the machine has no Ultravisor\n\
                 present = {}\n\
                 # false: the host kernel was started without prot_virt=1\n\
                 prot_virt = {}\n",
                self.ultravisor.present, self.ultravisor.prot_virt,
            ),
            Target::X86_64 => {
                let Sev { present, es, api_major, api_minor, build, asids, min_sev_asid, cbitpos, .. } =
                    self.sev;
                format!(
                    "[sev]\n\
                     # false: the machine has no SEV\n\
                     present = {present}\n\
                     # false: it has no SEV-ES\n\
                     es = {es}\n\
                     # version of the firmware: it enters every measurement\n\
                     api_major = {api_major}\n\
                     api_minor = {api_minor}\n\
                     build = {build}\n\
                     # highest ASID, and the lowest of a guest without SEV-ES\n\
                     asids = {asids}\n\
                     min_sev_asid = {min_sev_asid}\n\
                     # position of the C-bit, and by how many bits physical addresses shrink\n\
                     cbitpos = {cbitpos}\n\
                     reduced_phys_bits = {}\n",
                    self.sev.reduced_phys_bits,
                )
            }
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::S390x => f.write_str("s390x"),
            Target::X86_64 => f.write_str("x86_64"),
        }
    }
}

#[derive(Deserialize)]
struct Head {
    kind: String,
    version: u32,
    #[serde(default)]
    ultravisor: Option<toml::Value>,
    #[serde(default)]
    sev: Option<toml::Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<PlatformConfig, PlatformError> {
        PlatformConfig::parse(text, Path::new("platform.toml"))
    }

    #[test]
    fn every_combination_of_switches_survives_writing_and_reading() {
        for present in [false, true] {
            for prot_virt in [false, true] {
                let mut config = PlatformConfig::new(Target::S390x);
                config.ultravisor = Ultravisor { present, prot_virt };
                assert_eq!(parse(&config.to_toml()).unwrap(), config);
            }
        }
    }

    #[test]
    fn an_unknown_key_is_named() {
        let text = format!("{}prot_virtt = true\n", PlatformConfig::new(Target::S390x).to_toml());
        let message = parse(&text).unwrap_err().to_string();
        assert!(message.contains("prot_virtt") && message.contains("platform.toml"), "{message}");
        let text = format!("{}[sev]\npresent = true\n", PlatformConfig::new(Target::S390x).to_toml());
        let message = parse(&text).unwrap_err().to_string();
        assert!(message.contains("`sev`"), "{message}");
    }

    #[test]
    fn another_version_is_refused_before_its_keys_are_read() {
        let message = parse("kind = \"cloister-platform\"\nversion = 2\nnew = 1\n").unwrap_err().to_string();
        assert!(message.contains("version 2"), "{message}");
        assert!(matches!(parse("kind = \"x\"\nversion = 1\n"), Err(PlatformError::Version { .. })));
    }

    #[test]
    fn a_missing_section_means_everything_on() {
        let config = parse("kind = \"cloister-platform\"\nversion = 1\ntarget = \"s390x\"\n").unwrap();
        assert_eq!(config, PlatformConfig::new(Target::S390x));
    }

    #[test]
    fn the_switches_of_a_sev_machine_survive_writing_and_reading() {
        let mut config = PlatformConfig::new(Target::X86_64);
        assert_eq!(parse(&config.to_toml()).unwrap(), config);
        config.sev = Sev {
            present: false,
            es: false,
            api_major: 0,
            api_minor: 24,
            build: 7,
            asids: 15,
            min_sev_asid: 5,
            cbitpos: 47,
            reduced_phys_bits: 5,
        };
        assert_eq!(parse(&config.to_toml()).unwrap(), config);
    }

    #[test]
    fn numbers_that_no_machine_has_are_named() {
        let text = PlatformConfig::new(Target::X86_64).to_toml();
        for (from, to, named) in [
            ("asids = 509", "asids = 0", "sev.asids"),
            ("asids = 509", "asids = 1007", "sev.asids"),
            ("min_sev_asid = 100", "min_sev_asid = 511", "sev.min_sev_asid"),
            ("cbitpos = 51", "cbitpos = 64", "sev.cbitpos"),
            ("reduced_phys_bits = 1", "reduced_phys_bits = 0", "sev.reduced_phys_bits"),
        ] {
            let message =
                parse(&text.replace(&format!("\n{from}"), &format!("\n{to}"))).unwrap_err().to_string();
            assert!(message.contains(named), "{message}");
        }
    }

    #[test]
    fn sections_of_the_other_target_are_refused() {
        let text = format!("{}[ultravisor]\n", PlatformConfig::new(Target::X86_64).to_toml());
        let message = parse(&text).unwrap_err().to_string();
        assert!(message.contains("`ultravisor`") && message.contains("x86_64"), "{message}");
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,300}") {
            let _ = parse(&text);
        }
    }
}
