//! What a debugger may see: the one place where that is decided.
//!
//! It decides by what the machine says of the guest's protection. It enforces nothing: the platform refuses on its
//! own what nobody outside may see, whatever is decided here.

use cloister_control::Machine;

/// What a debugger may do to a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DebugPolicy {
    /// Everything.
    Open,
    /// Look at memory as the host sees it, stop and continue; no registers, no steps, no breakpoints.
    HostView {
        /// Why, for the debugger's user.
        why: String,
    },
}

impl DebugPolicy {
    /// What a debugger may do to this guest now. A guest of which nobody knows whether it is protected counts as
    /// protected. Mechanisms whose owner can allow debugging (SEV's policy bits) will be asked here.
    pub fn of(machine: &dyn Machine) -> Self {
        match machine.confidential() {
            None => Self::Open,
            Some(info) if info.secure == Some(false) => Self::Open,
            Some(info) => Self::HostView {
                why: format!(
                    "the guest runs protected ({}): its registers are not visible, breakpoints, watchpoints and \
                     steps are refused, and memory is the host's view by absolute address",
                    info.qom_type
                ),
            },
        }
    }

    /// Why something is refused; `None` if nothing is.
    pub fn refusal(&self) -> Option<&str> {
        match self {
            Self::Open => None,
            Self::HostView { why } => Some(why),
        }
    }
}
