//! The guest policy.
//!
//! Reserved bits are kept, because the policy is an input of several MACs: what is checked is what was sent.

use std::fmt;

/// The policy of a guest, all 32 bits as they came.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Policy(pub u32);

/// Why a firmware refuses a policy; all of it is POLICY_FAILURE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PolicyFault {
    /// The firmware is too old.
    #[error(
        "the policy needs firmware API {wanted_major}.{wanted_minor} or newer, the platform has {major}.{minor}: ask for an older API in the policy or use a newer platform"
    )]
    Api {
        /// Major version that the policy needs.
        wanted_major: u8,
        /// Minor version that the policy needs.
        wanted_minor: u8,
        /// Major version of the firmware.
        major: u8,
        /// Minor version of the firmware.
        minor: u8,
    },
    /// Bits without a meaning are set.
    #[error("the policy sets reserved bits {0:#06x}: bits 15 to 6 must be zero")]
    Reserved(u32),
}

impl Policy {
    /// DBG_* is refused.
    pub const NODBG: u32 = 1 << 0;
    /// Sharing the key with another guest is refused.
    pub const NOKS: u32 = 1 << 1;
    /// SEV-ES is required.
    pub const ES: u32 = 1 << 2;
    /// SEND_START is refused.
    pub const NOSEND: u32 = 1 << 3;
    /// The guest may be sent only to a platform with the same owner.
    pub const DOMAIN: u32 = 1 << 4;
    /// The guest may be sent only to a genuine platform.
    pub const SEV: u32 = 1 << 5;
    /// Bits that must be zero.
    pub const RESERVED: u32 = 0xffc0;
    /// The flags by name, from bit 0.
    pub const FLAGS: [(&'static str, u32); 6] = [
        ("NODBG", Self::NODBG),
        ("NOKS", Self::NOKS),
        ("ES", Self::ES),
        ("NOSEND", Self::NOSEND),
        ("DOMAIN", Self::DOMAIN),
        ("SEV", Self::SEV),
    ];

    /// Whether all bits of `flag` are set.
    pub const fn has(self, flag: u32) -> bool {
        self.0 & flag == flag
    }

    /// The oldest major version of the API that the guest accepts.
    pub const fn api_major(self) -> u8 {
        (self.0 >> 16) as u8
    }

    /// The oldest minor version of that major version.
    pub const fn api_minor(self) -> u8 {
        (self.0 >> 24) as u8
    }

    /// The reserved bits that are set.
    pub const fn reserved(self) -> u32 {
        self.0 & Self::RESERVED
    }

    /// Whether an API version is not older than the policy demands.
    pub const fn accepts_api(self, major: u8, minor: u8) -> bool {
        major > self.api_major() || (major == self.api_major() && minor >= self.api_minor())
    }

    /// The tests of LAUNCH_START on the policy alone, in the firmware's order: API version, then reserved bits.
    ///
    /// # Errors
    /// The first test that fails.
    pub const fn check(self, major: u8, minor: u8) -> Result<(), PolicyFault> {
        if !self.accepts_api(major, minor) {
            return Err(PolicyFault::Api {
                wanted_major: self.api_major(),
                wanted_minor: self.api_minor(),
                major,
                minor,
            });
        }
        if self.reserved() != 0 {
            return Err(PolicyFault::Reserved(self.reserved()));
        }
        Ok(())
    }

    /// The four bytes, as they enter the MACs.
    pub const fn to_le_bytes(self) -> [u8; 4] {
        self.0.to_le_bytes()
    }
}

impl fmt::Display for Policy {
    /// `0x00000005 (NODBG, ES; API 0.0 or newer)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x} (", self.0)?;
        let mut any = false;
        for (name, _) in Self::FLAGS.iter().filter(|(_, flag)| self.has(*flag)) {
            write!(f, "{}{name}", if any { ", " } else { "" })?;
            any = true;
        }
        if !any {
            f.write_str("no flags")?;
        }
        if self.reserved() != 0 {
            write!(f, "; reserved bits {:#06x}", self.reserved())?;
        }
        write!(f, "; API {}.{} or newer)", self.api_major(), self.api_minor())
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Policy({:#x})", self.0)
    }
}

super::layout::newtype_field!(Policy, u32);
