//! Status codes of the secure processor, with the names that Linux gives them and the words that QEMU prints.
//!
//! Unknown codes are kept, never rejected.

use std::fmt;

/// Status of a command.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Status(pub u32);

macro_rules! statuses {
    ($($name:ident = $code:literal, $text:literal;)*) => {
        impl Status {
            $(#[doc = concat!("`", stringify!($name), "`: ", $text, ".")]
            pub const $name: Self = Self($code);)*

            /// All codes of the firmware, in ascending order.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The name without a prefix, such as `INVALID_GUEST`; `None` for a code without one.
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some(stringify!($name)),)*
                    Self::NO_FW_CALL => Some("NO_FW_CALL"),
                    _ => None,
                }
            }

            /// What the code says, as a clause without a full stop.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                    Self::NO_FW_CALL => "the host kernel failed before it called the firmware",
                    _ => "a status this program does not know",
                }
            }
        }
    };
}

statuses! {
    SUCCESS = 0x00, "the command succeeded";
    INVALID_PLATFORM_STATE = 0x01, "the platform is not in a state for the command";
    INVALID_GUEST_STATE = 0x02, "the guest is not in a state for the command";
    INVALID_CONFIG = 0x03, "the platform configuration is invalid";
    INVALID_LENGTH = 0x04, "a buffer is too small or has a wrong length";
    ALREADY_OWNED = 0x05, "the platform has an external owner already";
    INVALID_CERTIFICATE = 0x06, "a certificate is invalid";
    POLICY_FAILURE = 0x07, "the policy of the guest forbids it";
    INACTIVE = 0x08, "the guest is not active";
    INVALID_ADDRESS = 0x09, "an address is invalid";
    BAD_SIGNATURE = 0x0a, "a signature does not fit";
    BAD_MEASUREMENT = 0x0b, "a measurement or MAC does not fit";
    ASID_OWNED = 0x0c, "the ASID is in use already";
    INVALID_ASID = 0x0d, "the ASID is invalid";
    WBINVD_REQUIRED = 0x0e, "WBINVD is required";
    DFFLUSH_REQUIRED = 0x0f, "DF_FLUSH is required";
    INVALID_GUEST = 0x10, "the guest handle is invalid";
    INVALID_COMMAND = 0x11, "the command is not known";
    ACTIVE = 0x12, "the guest is active";
    HWERROR_PLATFORM = 0x13, "a hardware error, the platform is not harmed";
    HWERROR_UNSAFE = 0x14, "a hardware error, the platform is unsafe";
    UNSUPPORTED = 0x15, "the feature is not supported";
    INVALID_PARAM = 0x16, "a parameter is invalid";
    RESOURCE_LIMIT = 0x17, "the firmware has run out of a resource";
    SECURE_DATA_INVALID = 0x18, "the integrity check of the stored data failed";
    INVALID_PAGE_SIZE = 0x19, "the page size is invalid";
    INVALID_PAGE_STATE = 0x1a, "the page is not in a state for the command";
    INVALID_MDATA_ENTRY = 0x1b, "the metadata entry is invalid";
    INVALID_PAGE_OWNER = 0x1c, "the page belongs to another guest";
    AEAD_OFLOW = 0x1d, "the counter of the page encryption has run out";
    EXIT_RING_BUFFER = 0x1f, "the ring buffer mode was left";
    RMP_INIT_REQUIRED = 0x20, "the reverse map table is not initialised";
    BAD_SVN = 0x21, "the security version is too old";
    BAD_VERSION = 0x22, "the version is too old";
    SHUTDOWN_REQUIRED = 0x23, "the platform must be shut down first";
    UPDATE_FAILED = 0x24, "the firmware update failed";
    RESTORE_REQUIRED = 0x25, "the committed firmware must be restored";
    RMP_INITIALIZATION_FAILED = 0x26, "the initialisation of the reverse map table failed";
    INVALID_KEY = 0x27, "the key is invalid";
}

impl Status {
    /// Linux's -1: the firmware was not called.
    pub const NO_FW_CALL: Self = Self(u32::MAX);

    /// The code with a name, in any case and with `-` for `_`.
    pub fn from_name(name: &str) -> Option<Self> {
        let name = name.to_ascii_uppercase().replace('-', "_");
        Self::ALL.iter().chain([&Self::NO_FW_CALL]).copied().find(|status| status.name() == Some(&name))
    }

    /// Whether the command succeeded.
    pub const fn is_success(self) -> bool {
        self.0 == 0
    }

    /// The words of QEMU for `fw_error`; empty for success.
    pub const fn qemu_text(self) -> &'static str {
        match self.0 {
            0x00 => "",
            0x01 => "Platform state is invalid",
            0x02 => "Guest state is invalid",
            0x03 => "Platform configuration is invalid",
            0x04 => "Buffer too small",
            0x05 => "Platform is already owned",
            0x06 => "Certificate is invalid",
            0x07 => "Policy is not allowed",
            0x08 => "Guest is not active",
            0x09 => "Invalid address",
            0x0a => "Bad signature",
            0x0b => "Bad measurement",
            0x0c => "ASID is already owned",
            0x0d => "Invalid ASID",
            0x0e => "WBINVD is required",
            0x0f => "DF_FLUSH is required",
            0x10 => "Guest handle is invalid",
            0x11 => "Invalid command",
            0x12 => "Guest is active",
            0x13 => "Hardware error",
            0x14 => "Hardware unsafe",
            0x15 => "Feature not supported",
            0x16 => "Invalid parameter",
            0x17 => "Required firmware resource depleted",
            0x18 => "Part-specific integrity check failure",
            _ => "unknown error",
        }
    }

    /// The number as C code prints `fw_error` with `%d`.
    pub const fn as_i32(self) -> i32 {
        self.0.cast_signed()
    }
}

impl fmt::Display for Status {
    /// `0x10 INVALID_GUEST: the guest handle is invalid`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{:#04x} {name}: {}", self.0, self.meaning()),
            None => write!(f, "{:#04x}: {}", self.0, self.meaning()),
        }
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "Status({:#x})", self.0),
        }
    }
}
