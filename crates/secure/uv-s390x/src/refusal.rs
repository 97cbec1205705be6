//! A refused call in words.

use std::fmt;

use cloister_formats::s390x::uv_rc::{Rc, Rrc, explain};
use cloister_formats::s390x::uvcb::UvCommand;

/// Why a call was refused: the codes that the caller finds in its block, and words for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Refusal {
    /// The call.
    pub command: UvCommand,
    /// Return code.
    pub rc: Rc,
    /// Return reason code.
    pub rrc: Rrc,
    /// What was found and what to do about it; may be empty.
    pub detail: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} refused (rc {:#x}, rrc {:#x})", self.command.name(), self.rc.0, self.rrc.0)?;
        if let Some(text) = explain(self.command, self.rc, self.rrc) {
            write!(f, ": {text}")?;
        }
        if !self.detail.is_empty() {
            write!(f, ". {}", self.detail)?;
        }
        Ok(())
    }
}

/// How a call ends without success. The command is filled in where the answer is stored.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Refused with rc, rrc and a detail.
    Codes(u16, u16, String),
    /// Busy: the caller issues the call again.
    Again,
}

impl Stop {
    /// A refusal that its codes explain well enough.
    pub(crate) const fn rc(rc: u16) -> Self {
        Self::Codes(rc, 0, String::new())
    }

    /// A refusal with a detail.
    pub(crate) fn because(rc: u16, rrc: u16, detail: impl Into<String>) -> Self {
        Self::Codes(rc, rrc, detail.into())
    }
}
