//! Control blocks of the Ultravisor call (UVC, opcode B9A4), one type per command.
//!
//! A block type reads its fields from the bytes and writes them back over them; bytes that are no
//! field stay as they are. Which caller may use which command in which state is not decided here.

use std::fmt;

use super::uv_rc::{Rc, Rrc};
use crate::codec::{Error, Field, get, need, put};

/// Command code of a call.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UvCommand(pub u16);

/// The common first eight bytes of every block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UvHeader {
    /// Bytes of the whole block.
    pub len: u16,
    /// The command.
    pub command: UvCommand,
    /// Return code; written by the Ultravisor.
    pub rc: Rc,
    /// Return reason code; written by the Ultravisor.
    pub rrc: Rrc,
}

impl UvHeader {
    /// Bytes of the header.
    pub const SIZE: usize = 8;

    /// Reads the header.
    ///
    /// # Errors
    /// If there are fewer than eight bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        need("Ultravisor control block", bytes, Self::SIZE)?;
        let [len, command, rc, rrc] = get(bytes, 0);
        Ok(Self { len, command: UvCommand(command), rc: Rc(rc), rrc: Rrc(rrc) })
    }

    /// Writes the header; a buffer that is too short is left alone.
    pub fn store(&self, bytes: &mut [u8]) {
        if bytes.len() >= Self::SIZE {
            put(bytes, 0, &[self.len, self.command.0, self.rc.0, self.rrc.0]);
        }
    }

    /// Writes rc and rrc into a block; a buffer that is too short is left alone.
    pub fn store_result(bytes: &mut [u8], rc: Rc, rrc: Rrc) {
        if bytes.len() >= Self::SIZE {
            put(bytes, 4, &[rc.0, rrc.0]);
        }
    }
}

macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident = $code:literal, bit $bit:literal, len $len:literal, $text:literal;)*) => {
        impl UvCommand {
            $($(#[$doc])* pub const $name: Self = Self($code);)*

            /// All commands that have a name.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Position in the list of installed calls.
            pub const fn call_bit(self) -> Option<u16> {
                match self { $(Self::$name => Some($bit),)* _ => None }
            }

            /// Bytes of the control block (the least, for [`Self::QUI`]).
            pub const fn block_len(self) -> Option<u16> {
                match self { $(Self::$name => Some($len),)* _ => None }
            }

            /// The name of the call.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* _ => "unknown Ultravisor call" }
            }
        }
    };
}

commands! {
    /// Query Ultravisor information.
    QUI = 0x0001, bit 0, len 0xa8, "Query Ultravisor Information";
    /// Query the hashes of the machine's keys.
    QUERY_KEYS = 0x0002, bit 34, len 0x200, "Query Ultravisor Keys";
    /// Initialise the Ultravisor.
    INIT = 0x000f, bit 1, len 0x48, "Initialize Ultravisor";
    /// Create a configuration.
    CREATE_SEC_CONF = 0x0100, bit 2, len 0x80, "Create Secure Configuration";
    /// Destroy a configuration.
    DESTROY_SEC_CONF = 0x0101, bit 3, len 0x40, "Destroy Secure Configuration";
    /// Destroy a configuration with its pages.
    DESTROY_SEC_CONF_FAST = 0x0102, bit 23, len 0x48, "Destroy Secure Configuration Fast";
    /// Create a CPU.
    CREATE_SEC_CPU = 0x0120, bit 4, len 0x60, "Create Secure CPU";
    /// Destroy a CPU.
    DESTROY_SEC_CPU = 0x0121, bit 5, len 0x40, "Destroy Secure CPU";
    /// Make a page secure (import).
    CONV_TO_SEC = 0x0200, bit 6, len 0x28, "Convert to Secure Storage";
    /// Make a page accessible as ciphertext (export).
    CONV_FROM_SEC = 0x0201, bit 7, len 0x20, "Convert from Secure Storage";
    /// Clear and release a page.
    DESTR_SEC_STOR = 0x0202, bit 12, len 0x20, "Destroy Secure Storage";
    /// Hand over the SE header.
    SET_SEC_CONF_PARAMS = 0x0300, bit 11, len 0x50, "Set Secure Configuration Parameters";
    /// Unpack a page of the image.
    UNPACK = 0x0301, bit 13, len 0x50, "Unpack Image";
    /// Verify the image.
    VERIFY = 0x0302, bit 14, len 0x40, "Verify Image";
    /// CPU reset.
    CPU_RESET = 0x0310, bit 15, len 0x40, "CPU Reset";
    /// Initial CPU reset.
    CPU_INITIAL_RESET = 0x0311, bit 16, len 0x40, "CPU Initial Reset";
    /// Prepare the reset of a configuration.
    PREPARE_RESET = 0x0320, bit 18, len 0x40, "Prepare for Reset";
    /// Clear CPU reset.
    CPU_CLEAR_RESET = 0x0321, bit 19, len 0x40, "CPU Clear Reset";
    /// Set the state of a CPU.
    CPU_SET_STATE = 0x0330, bit 17, len 0x50, "Set CPU State";
    /// Withdraw all sharing.
    UNSHARE_ALL = 0x0340, bit 20, len 0x40, "Unshare All Pages";
    /// Pin a shared page.
    PIN_PAGE_SHARED = 0x0341, bit 21, len 0x20, "Pin Shared Page";
    /// Unpin a shared page.
    UNPIN_PAGE_SHARED = 0x0342, bit 22, len 0x28, "Unpin Shared Page";
    /// Begin a dump.
    DUMP_INIT = 0x0400, bit 24, len 0x40, "Dump Initialize";
    /// Dump the storage state.
    DUMP_CONF_STOR_STATE = 0x0401, bit 25, len 0x50, "Dump Configuration Storage State";
    /// Dump a CPU.
    DUMP_CPU = 0x0402, bit 26, len 0x50, "Dump CPU";
    /// End a dump.
    DUMP_COMPLETE = 0x0403, bit 27, len 0x50, "Dump Complete";
    /// The guest shares a page.
    SET_SHARED_ACCESS = 0x1000, bit 8, len 0x30, "Set Shared Access";
    /// The guest withdraws the sharing of a page.
    REMOVE_SHARED_ACCESS = 0x1001, bit 9, len 0x30, "Remove Shared Access";
    /// The guest asks for an attestation measurement.
    RETR_ATTEST = 0x1020, bit 28, len 0x188, "Retrieve Attestation Measurement";
    /// The guest adds a secret.
    ADD_SECRET = 0x1031, bit 29, len 0x48, "Add Secret";
    /// The guest lists its secrets.
    LIST_SECRETS = 0x1033, bit 30, len 0x48, "List Secrets";
    /// The guest locks its secret store.
    LOCK_SECRETS = 0x1034, bit 31, len 0x40, "Lock Secret Store";
    /// The guest retrieves a secret.
    RETR_SECRET = 0x1035, bit 33, len 0x48, "Retrieve Secret";
}

macro_rules! block {
    (
        $(#[$doc:meta])*
        $name:ident, $command:ident, $len:literal {
            $($(#[$fdoc:meta])* $field:ident: $type:ty = $offset:literal,)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name { $($(#[$fdoc])* pub $field: $type,)* }

        impl $name {
            /// The command of the block.
            pub const COMMAND: UvCommand = UvCommand::$command;
            /// Bytes of the block.
            pub const LEN: usize = $len;

            /// Reads the fields.
            ///
            /// # Errors
            /// If the buffer is shorter than the block.
            pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
                need(Self::COMMAND.name(), bytes, Self::LEN)?;
                Ok(Self { $($field: get::<$type>(bytes, $offset),)* })
            }

            /// Writes the fields over a block, and nothing else.
            ///
            /// # Errors
            /// If the buffer is shorter than the block.
            pub fn store(&self, bytes: &mut [u8]) -> Result<(), Error> {
                need(Self::COMMAND.name(), bytes, Self::LEN)?;
                $(put::<$type>(bytes, $offset, &self.$field);)*
                Ok(())
            }

            /// A whole block with header, ready for a call.
            pub fn encode(&self) -> Vec<u8> {
                let mut out = vec![0; Self::LEN];
                put(&mut out, 0, &[Self::LEN as u16, Self::COMMAND.0]);
                $(put::<$type>(&mut out, $offset, &self.$field);)*
                out
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: get::<$type>(&[0u8; $len], $offset),)* }
            }
        }

        const _: () = {
            $(assert!($offset + <$type as Field>::SIZE <= $len, "a field lies outside its block");)*
        };
    };
}

/// A block that has only a handle at 0x18: the named command can be any of [`Handle::COMMANDS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Handle {
    /// The configuration or CPU.
    pub handle: u64,
}

impl Handle {
    /// The commands that use this block.
    pub const COMMANDS: &[UvCommand] = &[
        UvCommand::DESTROY_SEC_CONF,
        UvCommand::DESTROY_SEC_CONF_FAST,
        UvCommand::DESTROY_SEC_CPU,
        UvCommand::VERIFY,
        UvCommand::CPU_RESET,
        UvCommand::CPU_INITIAL_RESET,
        UvCommand::CPU_CLEAR_RESET,
        UvCommand::PREPARE_RESET,
        UvCommand::UNSHARE_ALL,
        UvCommand::DUMP_INIT,
    ];

    /// Reads the handle.
    ///
    /// # Errors
    /// If the buffer is shorter than the field's end.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        need("Ultravisor control block with a handle", bytes, 0x20)?;
        Ok(Self { handle: get(bytes, 0x18) })
    }

    /// A whole block for `command`, or `None` if the command has another block.
    pub fn encode(self, command: UvCommand) -> Option<Vec<u8>> {
        let len = Self::COMMANDS.contains(&command).then_some(command.block_len()?)?;
        let mut out = vec![0; usize::from(len)];
        put(&mut out, 0, &[len, command.0]);
        put(&mut out, 0x18, &self.handle);
        Some(out)
    }
}

block! {
    /// Key hashes of the machine.
    QueryKeys, QUERY_KEYS, 0x200 {
        /// SHA-256 of public keys: 0 the host key, 1 the backup host key, others zero.
        key_hash: [[u8; 32]; 15] = 0x20,
    }
}
block! {
    /// Storage donated to the Ultravisor.
    Init, INIT, 0x48 {
        /// Origin, 1 MiB aligned and not below 2 GiB.
        stor_origin: u64 = 0x18,
        /// Bytes.
        stor_len: u64 = 0x20,
    }
}
block! {
    /// A new configuration.
    CreateSecConf, CREATE_SEC_CONF, 0x80 {
        /// Handle of the configuration (output).
        guest_handle: u64 = 0x18,
        /// Donated base storage.
        base_origin: u64 = 0x20,
        /// Donated variable storage (virtual).
        virt_origin: u64 = 0x28,
        /// Flags: bit 15 adjunct processors, bit 14 their interruptions.
        flags: u16 = 0x36,
        /// Main storage origin.
        mso: u64 = 0x38,
        /// Bytes of the guest's storage.
        guest_len: u64 = 0x40,
        /// System control area.
        sca: u64 = 0x48,
        /// Address-space control element of the guest's storage.
        asce: u64 = 0x50,
    }
}
block! {
    /// A new CPU.
    CreateSecCpu, CREATE_SEC_CPU, 0x60 {
        /// Handle of the CPU (output).
        cpu_handle: u64 = 0x18,
        /// The configuration.
        guest_handle: u64 = 0x20,
        /// Donated storage.
        stor_origin: u64 = 0x28,
        /// CPU number.
        num: u16 = 0x36,
        /// State description.
        state_origin: u64 = 0x38,
    }
}
block! {
    /// A page to import.
    ConvToSec, CONV_TO_SEC, 0x28 {
        /// The configuration.
        guest_handle: u64 = 0x18,
        /// Guest absolute address.
        gaddr: u64 = 0x20,
    }
}
block! {
    /// A page to export.
    ConvFromSec, CONV_FROM_SEC, 0x20 {
        /// Host absolute address.
        paddr: u64 = 0x18,
    }
}
block! {
    /// A page to clear and release.
    DestrSecStor, DESTR_SEC_STOR, 0x20 {
        /// Host absolute address.
        paddr: u64 = 0x18,
    }
}
block! {
    /// The SE header of a configuration.
    SetSecConfParams, SET_SEC_CONF_PARAMS, 0x50 {
        /// The configuration.
        guest_handle: u64 = 0x18,
        /// Address of the header.
        hdr_origin: u64 = 0x20,
        /// Bytes of the header.
        hdr_len: u32 = 0x28,
    }
}
block! {
    /// A page of the image.
    Unpack, UNPACK, 0x50 {
        /// The configuration.
        guest_handle: u64 = 0x18,
        /// Guest absolute address of the page.
        gaddr: u64 = 0x20,
        /// {tweak prefix, offset in the component}.
        tweak: [u64; 2] = 0x28,
    }
}
block! {
    /// A new state of a CPU.
    CpuSetState, CPU_SET_STATE, 0x50 {
        /// The CPU.
        cpu_handle: u64 = 0x18,
        /// The state: 1 operating, 2 stopped, 3 check-stop, 5 operating after loading the PSW.
        state: u8 = 0x27,
    }
}
block! {
    /// A shared page to pin.
    PinPageShared, PIN_PAGE_SHARED, 0x20 {
        /// Host absolute address.
        paddr: u64 = 0x18,
    }
}
block! {
    /// A pinned page to release.
    UnpinPageShared, UNPIN_PAGE_SHARED, 0x28 {
        /// The configuration.
        guest_handle: u64 = 0x18,
        /// Guest absolute address.
        gaddr: u64 = 0x20,
    }
}
block! {
    /// Storage state of a megabyte for a dump.
    DumpConfStorState, DUMP_CONF_STOR_STATE, 0x50 {
        /// The configuration.
        guest_handle: u64 = 0x18,
        /// Where to.
        dump_area: u64 = 0x20,
        /// Guest absolute address.
        gaddr: u64 = 0x28,
    }
}
block! {
    /// A CPU for a dump.
    DumpCpu, DUMP_CPU, 0x50 {
        /// The CPU.
        cpu_handle: u64 = 0x18,
        /// Where to.
        dump_area: u64 = 0x20,
    }
}
block! {
    /// The end of a dump.
    DumpComplete, DUMP_COMPLETE, 0x50 {
        /// The configuration.
        guest_handle: u64 = 0x18,
        /// Where to.
        dump_area: u64 = 0x20,
    }
}
block! {
    /// A page to share.
    SetSharedAccess, SET_SHARED_ACCESS, 0x30 {
        /// Guest absolute address.
        paddr: u64 = 0x20,
    }
}
block! {
    /// A page to share no more.
    RemoveSharedAccess, REMOVE_SHARED_ACCESS, 0x30 {
        /// Guest absolute address.
        paddr: u64 = 0x20,
    }
}
block! {
    /// A request for attestation.
    RetrAttest, RETR_ATTEST, 0x188 {
        /// Address of the request.
        arcb_addr: u64 = 0x18,
        /// Continuation token, zero.
        continuation: u64 = 0x20,
        /// Bytes of user data.
        user_data_len: u16 = 0x2e,
        /// User data.
        user_data: [u8; 256] = 0x30,
        /// Bytes of the measurement buffer.
        meas_len: u32 = 0x13c,
        /// Address of the measurement buffer.
        meas_addr: u64 = 0x140,
        /// Identity of the configuration (output).
        config_uid: [u8; 16] = 0x148,
        /// Bytes of additional data.
        add_len: u32 = 0x15c,
        /// Address of the additional data.
        add_addr: u64 = 0x160,
    }
}
block! {
    /// A secret to add.
    AddSecret, ADD_SECRET, 0x48 {
        /// Address of the request; its length stands in its header.
        addr: u64 = 0x20,
    }
}
block! {
    /// A list of secrets.
    ListSecrets, LIST_SECRETS, 0x48 {
        /// First index to list.
        start_index: u16 = 0x1e,
        /// Address of a page for the list.
        addr: u64 = 0x20,
    }
}
block! {
    /// The lock of the secret store.
    LockSecrets, LOCK_SECRETS, 0x40 {}
}
block! {
    /// A secret to retrieve.
    RetrSecret, RETR_SECRET, 0x48 {
        /// Its index.
        index: u16 = 0x18,
        /// Bytes of the buffer.
        buf_size: u32 = 0x1c,
        /// Address of the buffer.
        buf_addr: u64 = 0x20,
    }
}
block! {
    /// What the Ultravisor can do. This is the block in its full size; a caller may offer less, see
    /// [`Qui::store_prefix`].
    Qui, QUI, 0x120 {
        /// Installed calls.
        installed_calls: [u64; 4] = 0x10,
        /// Bytes of base storage of the Ultravisor.
        uv_base_stor_len: u64 = 0x40,
        /// Bytes of physical base storage of a configuration.
        conf_base_phys_stor_len: u64 = 0x50,
        /// Bytes of virtual base storage of a configuration.
        conf_base_virt_stor_len: u64 = 0x58,
        /// Bytes of variable storage of a configuration per MiB.
        conf_virt_var_stor_len: u64 = 0x60,
        /// Bytes of storage of a CPU.
        cpu_stor_len: u64 = 0x68,
        /// Number of configurations.
        max_num_sec_conf: u32 = 0x7c,
        /// Highest guest storage address.
        max_guest_stor_addr: u64 = 0x80,
        /// Highest CPU number.
        max_guest_cpu_id: u16 = 0x9e,
        /// Feature indications.
        features: u64 = 0xa0,
        /// Versions of SE headers; bit 0 is version 1.
        supp_se_hdr_ver: u64 = 0xb0,
        /// Plaintext control flags of SE headers.
        supp_se_hdr_pcf: u64 = 0xb8,
        /// Bytes of dump storage state per MiB.
        conf_dump_storage_state_len: u64 = 0xc8,
        /// Bytes of the end of a dump.
        conf_dump_finalize_len: u64 = 0xd0,
        /// Versions of attestation requests.
        supp_att_req_hdr_ver: u64 = 0xe0,
        /// Flags of attestation requests.
        supp_att_pflags: u64 = 0xe8,
        /// Versions of add-secret requests.
        supp_add_secret_req_ver: u64 = 0xf8,
        /// Flags of add-secret requests.
        supp_add_secret_pcf: u64 = 0x100,
        /// Types of secrets; bit n is type n.
        supp_secret_types: u64 = 0x108,
        /// Number of association secrets.
        max_assoc_secrets: u16 = 0x110,
        /// Number of retrievable secrets.
        max_retr_secrets: u16 = 0x112,
    }
}

impl Qui {
    /// The least length of a block.
    pub const MIN_LEN: usize = 0xa8;

    /// Writes as much of the answer as fits, from the first field on; the header stays.
    pub fn store_prefix(&self, bytes: &mut [u8]) {
        let full = self.encode();
        let end = bytes.len().min(full.len());
        if end > 0x10 {
            bytes[0x10..end].copy_from_slice(&full[0x10..end]);
        }
    }
}

impl fmt::Debug for UvCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x} {}", self.0, self.name())
    }
}
