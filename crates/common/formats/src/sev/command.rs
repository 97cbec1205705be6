//! Commands of the secure processor and their buffers.
//!
//! A buffer parses from any bytes that are long enough; what a firmware demands of the fields, and in which order it
//! looks, is the firmware's concern.

use std::fmt;

use super::layout::layout;
use super::policy::Policy;
use super::status::Status;

/// Number of a command.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Command(pub u16);

/// When the command buffer is written back to the host.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CopyBack {
    /// There is no buffer, or it is not looked at.
    Never,
    /// The buffer holds output alone: it is zeroed first and written whatever it held.
    OutputOnly,
    /// On SUCCESS.
    OnSuccess,
    /// On SUCCESS, and on INVALID_LENGTH so that the required length is seen.
    OnSuccessOrInvalidLength,
}

macro_rules! commands {
    ($($name:ident = $id:literal, $size:expr, $copy:ident, $text:literal;)*) => {
        impl Command {
            $(#[doc = $text]
            pub const $name: Self = Self($id);)*

            /// All commands of SEV and SEV-ES, in ascending order.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The name, such as `LAUNCH_START`, also of the commands of SEV-SNP; `None` for a number without one.
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some(stringify!($name)),)*
                    other => snp_name(other.0),
                }
            }

            /// Bytes of the command buffer; 0 if the command has none or is not one of SEV.
            pub const fn buffer_size(self) -> usize {
                match self {
                    $(Self::$name => $size,)*
                    _ => 0,
                }
            }

            /// When the buffer is written back.
            pub const fn copy_back(self) -> CopyBack {
                match self {
                    $(Self::$name => CopyBack::$copy,)*
                    _ => CopyBack::Never,
                }
            }
        }
    };
}

commands! {
    INIT = 0x01, Init::SIZE, OnSuccess, "Initialises the platform.";
    SHUTDOWN = 0x02, 0, Never, "Shuts the platform down; all guests are destroyed.";
    PLATFORM_RESET = 0x03, 0, Never, "Deletes the stored identity.";
    PLATFORM_STATUS = 0x04, PlatformStatus::SIZE, OutputOnly, "Reports version and state.";
    PEK_GEN = 0x05, 0, Never, "Makes a new OCA, PEK and PDH.";
    PEK_CSR = 0x06, PekCsr::SIZE, OnSuccessOrInvalidLength, "Gives the PEK for an owner to sign.";
    PEK_CERT_IMPORT = 0x07, PekCertImport::SIZE, OnSuccess, "Takes the PEK that an owner signed.";
    PDH_CERT_EXPORT = 0x08, PdhCertExport::SIZE, OnSuccessOrInvalidLength, "Gives the certificates.";
    PDH_GEN = 0x09, 0, Never, "Makes a new PDH.";
    DF_FLUSH = 0x0a, 0, Never, "Flushes the data fabric, so that ASIDs can be used again.";
    DOWNLOAD_FIRMWARE = 0x0b, DownloadFirmware::SIZE, OnSuccess, "Replaces the firmware.";
    GET_ID = 0x0c, GetId::SIZE, OnSuccessOrInvalidLength, "Gives the identity of the chip.";
    INIT_EX = 0x0d, InitEx::SIZE, OnSuccess, "Initialises the platform with storage of the host.";
    NOP = 0x0e, 0, Never, "Does nothing.";
    RING_BUFFER = 0x0f, 0, Never, "Enters the ring buffer mode; not modelled.";
    DECOMMISSION = 0x20, Handle::SIZE, OnSuccess, "Destroys a guest.";
    ACTIVATE = 0x21, Activate::SIZE, OnSuccess, "Gives a guest an ASID.";
    DEACTIVATE = 0x22, Handle::SIZE, OnSuccess, "Takes the ASID from a guest.";
    GUEST_STATUS = 0x23, GuestStatus::SIZE, OnSuccess, "Reports policy, ASID and state of a guest.";
    COPY = 0x24, CopyMemory::SIZE, OnSuccess, "Moves a page of a guest.";
    ACTIVATE_EX = 0x25, ActivateEx::SIZE, OnSuccess, "Gives a guest an ASID on some core complexes.";
    LAUNCH_START = 0x30, LaunchStart::SIZE, OnSuccess, "Makes a guest from an owner's session.";
    LAUNCH_UPDATE_DATA = 0x31, LaunchUpdate::SIZE, OnSuccess, "Encrypts and measures memory.";
    LAUNCH_UPDATE_VMSA = 0x32, LaunchUpdate::SIZE, OnSuccess, "Encrypts and measures the state of a CPU.";
    LAUNCH_MEASURE = 0x33, LaunchMeasure::SIZE, OnSuccessOrInvalidLength, "Finishes the measurement.";
    LAUNCH_SECRET = 0x34, Transfer::SIZE, OnSuccess, "Puts an owner's secret into memory.";
    LAUNCH_FINISH = 0x35, Handle::SIZE, OnSuccess, "Ends the launch.";
    ATTESTATION = 0x36, Attestation::SIZE, OnSuccessOrInvalidLength, "Gives a signed report.";
    SEND_START = 0x40, SendStart::SIZE, OnSuccessOrInvalidLength, "Begins to send a guest.";
    SEND_UPDATE_DATA = 0x41, Transfer::SIZE, OnSuccessOrInvalidLength, "Wraps memory for the receiver.";
    SEND_UPDATE_VMSA = 0x42, Transfer::SIZE, OnSuccessOrInvalidLength, "Wraps a CPU for the receiver.";
    SEND_FINISH = 0x43, Handle::SIZE, OnSuccess, "Ends sending.";
    SEND_CANCEL = 0x44, Handle::SIZE, OnSuccess, "Gives up sending.";
    RECEIVE_START = 0x50, ReceiveStart::SIZE, OnSuccess, "Begins to receive a guest.";
    RECEIVE_UPDATE_DATA = 0x51, Transfer::SIZE, OnSuccess, "Takes memory from the sender.";
    RECEIVE_UPDATE_VMSA = 0x52, Transfer::SIZE, OnSuccess, "Takes a CPU from the sender.";
    RECEIVE_FINISH = 0x53, Handle::SIZE, OnSuccess, "Ends receiving.";
    DBG_DECRYPT = 0x60, DebugCopy::SIZE, OnSuccess, "Decrypts memory of a guest for the host.";
    DBG_ENCRYPT = 0x61, DebugCopy::SIZE, OnSuccess, "Encrypts memory of the host for a guest.";
    SWAP_OUT = 0x70, SwapOut::SIZE, OnSuccessOrInvalidLength, "Seals a page for storage.";
    SWAP_IN = 0x71, SwapIn::SIZE, OnSuccess, "Opens a page from storage.";
}

impl Command {
    /// The command with a name, in any case and with `-` for `_`.
    pub fn from_name(name: &str) -> Option<Self> {
        let name = name.to_ascii_uppercase().replace('-', "_");
        Self::ALL.iter().copied().find(|command| command.name() == Some(&name))
    }

    /// Whether the command buffer is written back with this status.
    pub const fn writes_back(self, status: Status) -> bool {
        match self.copy_back() {
            CopyBack::Never => false,
            CopyBack::OutputOnly => true,
            CopyBack::OnSuccess => status.is_success(),
            CopyBack::OnSuccessOrInvalidLength => status.is_success() || status.0 == Status::INVALID_LENGTH.0,
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "command {:#04x}", self.0),
        }
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The commands of SEV-SNP, which are named only so that a refusal can say what was asked for.
const fn snp_name(id: u16) -> Option<&'static str> {
    Some(match id {
        0x81 => "SNP_INIT",
        0x82 => "SNP_SHUTDOWN",
        0x83 => "SNP_PLATFORM_STATUS",
        0x84 => "SNP_DF_FLUSH",
        0x85 => "SNP_INIT_EX",
        0x86 => "SNP_SHUTDOWN_EX",
        0x90 => "SNP_DECOMMISSION",
        0x91 => "SNP_ACTIVATE",
        0x92 => "SNP_GUEST_STATUS",
        0x93 => "SNP_GCTX_CREATE",
        0x94 => "SNP_GUEST_REQUEST",
        0x95 => "SNP_ACTIVATE_EX",
        0xa0 => "SNP_LAUNCH_START",
        0xa1 => "SNP_LAUNCH_UPDATE",
        0xa2 => "SNP_LAUNCH_FINISH",
        0xb0 => "SNP_DBG_DECRYPT",
        0xb1 => "SNP_DBG_ENCRYPT",
        0xc0 => "SNP_SWAP_OUT",
        0xc1 => "SNP_SWAP_IN",
        0xc2 => "SNP_PAGE_MOVE",
        0xc3 => "SNP_MD_INIT",
        0xc6 => "SNP_PAGE_SET_STATE",
        0xc7 => "SNP_PAGE_RECLAIM",
        0xc8 => "SNP_PAGE_UNSMASH",
        0xc9 => "SNP_CONFIG",
        0xca => "SNP_DOWNLOAD_FIRMWARE_EX",
        0xcb => "SNP_COMMIT",
        0xcd => "SNP_VLEK_LOAD",
        0xce => "SNP_FEATURE_INFO",
        _ => return None,
    })
}

/// State of a platform.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct PlatformState(pub u8);

impl PlatformState {
    /// Not initialised.
    pub const UNINIT: Self = Self(0);
    /// Initialised, without a guest.
    pub const INIT: Self = Self(1);
    /// With guests.
    pub const WORKING: Self = Self(2);

    /// The name; `None` for an unknown number.
    pub const fn name(self) -> Option<&'static str> {
        match self.0 {
            0 => Some("UNINIT"),
            1 => Some("INIT"),
            2 => Some("WORKING"),
            _ => None,
        }
    }
}

/// State of a guest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct GuestState(pub u8);

impl GuestState {
    /// There is no guest.
    pub const INVALID: Self = Self(0);
    /// Being launched: memory is added.
    pub const LUPDATE: Self = Self(1);
    /// Measured: secrets are taken.
    pub const LSECRET: Self = Self(2);
    /// Running.
    pub const RUNNING: Self = Self(3);
    /// Being sent.
    pub const SUPDATE: Self = Self(4);
    /// Being received.
    pub const RUPDATE: Self = Self(5);
    /// Sent away.
    pub const SENT: Self = Self(6);

    /// The name; `None` for an unknown number.
    pub const fn name(self) -> Option<&'static str> {
        match self.0 {
            0 => Some("INVALID"),
            1 => Some("LUPDATE"),
            2 => Some("LSECRET"),
            3 => Some("RUNNING"),
            4 => Some("SUPDATE"),
            5 => Some("RUPDATE"),
            6 => Some("SENT"),
            _ => None,
        }
    }
}

super::layout::newtype_field!(PlatformState, u8);
super::layout::newtype_field!(GuestState, u8);

layout! {
    /// Buffer of INIT.
    Init, 20, "buffer of INIT" {
        /// [`Init::ES`]; the other bits must be zero.
        flags: u16 = 0,
        /// Must be zero.
        reserved: [u8; 6] = 2,
        /// Address of the trusted memory region.
        tmr_paddr: u64 = 8,
        /// Bytes of the region.
        tmr_len: u32 = 16,
    }

    /// Buffer of INIT_EX.
    InitEx, 0x24, "buffer of INIT_EX" {
        /// Bytes of the buffer: 0x24.
        length: u32 = 0,
        /// [`Init::ES`]; the other bits must be zero.
        flags: u16 = 4,
        /// Must be zero.
        reserved: u16 = 6,
        /// Address of the trusted memory region.
        tmr_paddr: u64 = 8,
        /// Bytes of the region.
        tmr_len: u32 = 0x10,
        /// Must be zero.
        reserved2: u32 = 0x14,
        /// Address of the area that persists; 0 for the flash of the board.
        nv_paddr: u64 = 0x18,
        /// Bytes of the area.
        nv_len: u32 = 0x20,
    }

    /// Buffer of PLATFORM_STATUS, output.
    PlatformStatus, 12, "buffer of PLATFORM_STATUS" {
        /// Major version of the API.
        api_major: u8 = 0,
        /// Minor version of the API.
        api_minor: u8 = 1,
        /// State.
        state: PlatformState = 2,
        /// [`PlatformStatus::EXTERNAL_OWNER`].
        flags: u8 = 3,
        /// [`PlatformStatus::CONFIG_ES`].
        config: u16 = 4,
        /// Build of the firmware.
        build: u8 = 7,
        /// Number of guests.
        guest_count: u32 = 8,
    }

    /// Buffer of PEK_CSR.
    PekCsr, 12, "buffer of PEK_CSR" {
        /// Where the certificate goes.
        paddr: u64 = 0,
        /// Bytes there; out: bytes needed.
        len: u32 = 8,
    }

    /// Buffer of PEK_CERT_IMPORT.
    PekCertImport, 28, "buffer of PEK_CERT_IMPORT" {
        /// The signed PEK.
        pek_paddr: u64 = 0,
        /// Its bytes.
        pek_len: u32 = 8,
        /// The owner's OCA.
        oca_paddr: u64 = 16,
        /// Its bytes.
        oca_len: u32 = 24,
    }

    /// Buffer of PDH_CERT_EXPORT.
    PdhCertExport, 28, "buffer of PDH_CERT_EXPORT" {
        /// Where the PDH goes.
        pdh_paddr: u64 = 0,
        /// Bytes there; out: bytes needed.
        pdh_len: u32 = 8,
        /// Where PEK, OCA and CEK go.
        chain_paddr: u64 = 16,
        /// Bytes there; out: bytes needed.
        chain_len: u32 = 24,
    }

    /// Buffer of DOWNLOAD_FIRMWARE.
    DownloadFirmware, 12, "buffer of DOWNLOAD_FIRMWARE" {
        /// The firmware.
        paddr: u64 = 0,
        /// Its bytes.
        len: u32 = 8,
    }

    /// Buffer of GET_ID.
    GetId, 12, "buffer of GET_ID" {
        /// Where the identity goes.
        paddr: u64 = 0,
        /// Bytes there; out: bytes needed.
        len: u32 = 8,
    }

    /// Buffer of DECOMMISSION, DEACTIVATE, LAUNCH_FINISH, SEND_FINISH, SEND_CANCEL and RECEIVE_FINISH.
    Handle, 4, "buffer with a guest handle" {
        /// The guest.
        handle: u32 = 0,
    }

    /// Buffer of ACTIVATE.
    Activate, 8, "buffer of ACTIVATE" {
        /// The guest.
        handle: u32 = 0,
        /// The ASID.
        asid: u32 = 4,
    }

    /// Buffer of ACTIVATE_EX.
    ActivateEx, 0x18, "buffer of ACTIVATE_EX" {
        /// Bytes of the buffer: 0x18.
        length: u32 = 0,
        /// The guest.
        handle: u32 = 4,
        /// The ASID.
        asid: u32 = 8,
        /// Number of APIC ids.
        numids: u32 = 12,
        /// The APIC ids.
        ids_paddr: u64 = 16,
    }

    /// Buffer of GUEST_STATUS.
    GuestStatus, 13, "buffer of GUEST_STATUS" {
        /// The guest.
        handle: u32 = 0,
        /// Its policy, output.
        policy: Policy = 4,
        /// Its ASID, output.
        asid: u32 = 8,
        /// Its state, output.
        state: GuestState = 12,
    }

    /// Buffer of COPY.
    CopyMemory, 24, "buffer of COPY" {
        /// The guest.
        handle: u32 = 0,
        /// Bytes to copy.
        len: u32 = 4,
        /// Where from.
        src_paddr: u64 = 8,
        /// Where to.
        dst_paddr: u64 = 16,
    }

    /// Buffer of LAUNCH_START.
    LaunchStart, 36, "buffer of LAUNCH_START" {
        /// In: guest to share the key with, or 0. Out: the new guest.
        handle: u32 = 0,
        /// Policy.
        policy: Policy = 4,
        /// The owner's certificate, or 0 for a launch without an owner.
        dh_paddr: u64 = 8,
        /// Its bytes.
        dh_len: u32 = 16,
        /// The session.
        session_paddr: u64 = 24,
        /// Its bytes.
        session_len: u32 = 32,
    }

    /// Buffer of LAUNCH_UPDATE_DATA and LAUNCH_UPDATE_VMSA.
    LaunchUpdate, 20, "buffer of LAUNCH_UPDATE" {
        /// The guest.
        handle: u32 = 0,
        /// What to encrypt.
        paddr: u64 = 8,
        /// Bytes of it.
        len: u32 = 16,
    }

    /// Buffer of LAUNCH_MEASURE.
    LaunchMeasure, 20, "buffer of LAUNCH_MEASURE" {
        /// The guest.
        handle: u32 = 0,
        /// Where the measurement goes.
        paddr: u64 = 8,
        /// Bytes there; out: bytes needed.
        len: u32 = 16,
    }

    /// Buffer of LAUNCH_SECRET, SEND_UPDATE_* and RECEIVE_UPDATE_*.
    Transfer, 52, "buffer of a packet command" {
        /// The guest.
        handle: u32 = 0,
        /// The packet's header.
        hdr_paddr: u64 = 8,
        /// Bytes there.
        hdr_len: u32 = 16,
        /// The guest's memory.
        guest_paddr: u64 = 24,
        /// Bytes of it.
        guest_len: u32 = 32,
        /// The packet's payload.
        trans_paddr: u64 = 40,
        /// Bytes there.
        trans_len: u32 = 48,
    }

    /// Buffer of ATTESTATION.
    Attestation, 36, "buffer of ATTESTATION" {
        /// The guest.
        handle: u32 = 0,
        /// Where the report goes.
        paddr: u64 = 8,
        /// The requester's random number.
        mnonce: [u8; 16] = 16,
        /// Bytes there; out: bytes needed.
        len: u32 = 32,
    }

    /// Buffer of SEND_START.
    SendStart, 68, "buffer of SEND_START" {
        /// The guest.
        handle: u32 = 0,
        /// Its policy, output.
        policy: Policy = 4,
        /// The receiver's PDH.
        pdh_paddr: u64 = 8,
        /// Its bytes.
        pdh_len: u32 = 16,
        /// The receiver's PEK, OCA and CEK.
        plat_certs_paddr: u64 = 24,
        /// Their bytes.
        plat_certs_len: u32 = 32,
        /// ASK and ARK.
        amd_certs_paddr: u64 = 40,
        /// Their bytes.
        amd_certs_len: u32 = 48,
        /// Where the session goes.
        session_paddr: u64 = 56,
        /// Bytes there; out: bytes needed.
        session_len: u32 = 64,
    }

    /// Buffer of RECEIVE_START.
    ReceiveStart, 36, "buffer of RECEIVE_START" {
        /// In: guest to share the key with, or 0. Out: the new guest.
        handle: u32 = 0,
        /// Policy.
        policy: Policy = 4,
        /// The sender's PDH.
        pdh_paddr: u64 = 8,
        /// Its bytes.
        pdh_len: u32 = 16,
        /// The session.
        session_paddr: u64 = 24,
        /// Its bytes.
        session_len: u32 = 32,
    }

    /// Buffer of DBG_DECRYPT and DBG_ENCRYPT.
    DebugCopy, 28, "buffer of DBG" {
        /// The guest.
        handle: u32 = 0,
        /// Where from.
        src_paddr: u64 = 8,
        /// Where to.
        dst_paddr: u64 = 16,
        /// Bytes.
        len: u32 = 24,
    }

    /// Buffer of SWAP_OUT.
    SwapOut, 40, "buffer of SWAP_OUT" {
        /// The guest.
        handle: u32 = 0,
        /// Size and type of the page.
        bits: PageBits = 4,
        /// The page.
        src_paddr: u64 = 8,
        /// Where the sealed page goes.
        dst_paddr: u64 = 16,
        /// Where its [`Mdata`] goes.
        mdata_paddr: u64 = 24,
        /// A number of the host's, kept in the metadata.
        software_data: u64 = 32,
    }

    /// Buffer of SWAP_IN.
    SwapIn, 32, "buffer of SWAP_IN" {
        /// The guest.
        handle: u32 = 0,
        /// Size and type of the page, and [`PageBits::IN_PLACE`].
        bits: PageBits = 4,
        /// The sealed page.
        src_paddr: u64 = 8,
        /// Where the page goes.
        dst_paddr: u64 = 16,
        /// Its [`Mdata`].
        mdata_paddr: u64 = 24,
    }

    /// Metadata of a page that was swapped out, 0x40 bytes.
    Mdata, 0x40, "metadata of a swapped page" {
        /// A number of the host's.
        software_data: u64 = 0,
        /// Counter of the encryption.
        iv: u64 = 8,
        /// Tag over the metadata with this field zero, and the page.
        tag: [u8; 16] = 0x10,
        /// Reserved, under the tag.
        reserved: [u8; 28] = 0x20,
        /// Size and type of the page.
        bits: PageBits = 0x3c,
    }
}

/// Size and type of a page in a buffer of SWAP_OUT or SWAP_IN and in [`Mdata`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct PageBits(pub u32);

impl PageBits {
    /// The page has 2 MiB.
    pub const LARGE: u32 = 1;
    /// SWAP_IN: the page stays where it is.
    pub const IN_PLACE: u32 = 1 << 3;
    /// Type of ordinary memory.
    pub const DATA: u32 = 0;
    /// Type of a VMSA.
    pub const VMSA: u32 = 2;

    /// Bytes of the page.
    pub const fn page_size(self) -> usize {
        if self.0 & Self::LARGE == 0 { 4096 } else { 2 << 20 }
    }

    /// Type of the page: [`Self::DATA`] or [`Self::VMSA`].
    pub const fn page_type(self) -> u32 {
        (self.0 >> 1) & 3
    }

    /// The bits of size and type alone.
    pub const fn size_and_type(self) -> Self {
        Self(self.0 & 7)
    }
}

super::layout::newtype_field!(PageBits, u32);

impl Init {
    /// SEV-ES is wanted.
    pub const ES: u16 = 1;
}

impl PlatformStatus {
    /// Bit of `flags`: the platform has an external owner.
    pub const EXTERNAL_OWNER: u8 = 1;
    /// Bit of `config`: SEV-ES is initialised.
    pub const CONFIG_ES: u16 = 1;

    /// The two fields as Linux gives them to programs: bit 0x1 is the owner, bit 0x100 is SEV-ES.
    pub const fn linux_flags(&self) -> u32 {
        (self.config as u32) << 8 | self.flags as u32
    }
}
