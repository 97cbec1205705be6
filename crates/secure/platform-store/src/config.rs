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
    /// The Ultravisor's switches. An absent section means a machine that has one, in use.
    #[serde(default)]
    pub ultravisor: Ultravisor,
}

/// The architecture of a modelled machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Target {
    /// IBM Z.
    S390x,
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

const KIND: &str = "cloister-platform";
const VERSION: u32 = 1;

impl PlatformConfig {
    /// The configuration of a new machine of that architecture, everything switched on.
    pub fn new(target: Target) -> Self {
        Self { kind: KIND.into(), version: VERSION, target, ultravisor: Ultravisor::default() }
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
        toml::from_str(text).map_err(fail)
    }

    /// The text of a `platform.toml` with these switches.
    pub fn to_toml(&self) -> String {
        // Written by hand so that every switch carries its explanation.
        format!(
            "# A modelled machine. It is a MODEL: it protects nobody from the machine's administrator.\n\
             kind = \"{}\"\nversion = {}\ntarget = \"{}\"\n\n\
             [ultravisor]\n\
             # false: the machine has no Ultravisor\n\
             present = {}\n\
             # false: the host kernel was started without prot_virt=1\n\
             prot_virt = {}\n",
            self.kind, self.version, self.target, self.ultravisor.present, self.ultravisor.prot_virt,
        )
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::S390x => f.write_str("s390x"),
        }
    }
}

#[derive(Deserialize)]
struct Head {
    kind: String,
    version: u32,
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

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,300}") {
            let _ = parse(&text);
        }
    }
}
