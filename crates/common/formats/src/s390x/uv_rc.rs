//! Return codes of Ultravisor calls and what they mean in words.
//!
//! The meanings are collected from what Linux, QEMU and s390-tools check and print. Unknown codes are
//! kept, never rejected.

use std::fmt;

use super::uvcb::UvCommand;

/// Return code of a call.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Rc(pub u16);

/// Return reason code of a call.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Rrc(pub u16);

impl Rc {
    /// Executed.
    pub const EXECUTED: Self = Self(0x0001);
    /// The command is not known, or not for this caller.
    pub const INVALID_COMMAND: Self = Self(0x0002);
    /// The command does not fit the state.
    pub const INVALID_STATE: Self = Self(0x0003);
    /// The control block has the wrong length.
    pub const INVALID_LENGTH: Self = Self(0x0005);
    /// There is nothing to resume.
    pub const NO_RESUME: Self = Self(0x0007);
    /// No such configuration.
    pub const INVALID_GUEST_HANDLE: Self = Self(0x0020);
    /// No such CPU.
    pub const INVALID_CPU_HANDLE: Self = Self(0x0021);
    /// Query: executed, but there is more than fits the block.
    pub const MORE_DATA: Self = Self(0x0100);
    /// Flag: the object must be destroyed.
    pub const NEEDS_DESTROY: u16 = 0x8000;

    /// Whether the object of the failed call must be destroyed.
    pub const fn needs_destroy(self) -> bool {
        self.0 & Self::NEEDS_DESTROY != 0
    }
}

/// What a pair of codes means for a command, as a clause without a full stop; `None` if it is not known.
pub const fn explain(command: UvCommand, rc: Rc, rrc: Rrc) -> Option<&'static str> {
    use UvCommand as C;
    let common = match rc.0 & !Rc::NEEDS_DESTROY {
        0x001 => Some("executed"),
        0x002 => Some("the command is not known or not allowed for this caller"),
        0x003 => Some("the command does not fit the present state"),
        0x005 => Some("the control block has the wrong length"),
        0x007 => Some("there is nothing to resume"),
        0x020 => Some("there is no such configuration"),
        0x021 => Some("there is no such CPU"),
        _ => None,
    };
    if common.is_some() {
        return common;
    }
    match (command, rc.0 & !Rc::NEEDS_DESTROY, rrc.0) {
        (C::QUI, 0x100, _) => Some("executed; a longer block would hold more"),
        (C::INIT, 0x101, _) => Some("initialised already"),
        (C::INIT, 0x102, _) => Some("other CPUs are running"),
        (C::INIT, 0x103, _) => Some("the length of the donated storage is wrong"),
        (C::INIT, 0x104, _) => Some("the origin of the donated storage is not valid"),
        (C::INIT, 0x105, _) => Some("the length of the donated storage is not valid"),
        (C::INIT, 0x108, _) => Some("the donated storage lies below 2 GiB"),
        (C::CREATE_SEC_CONF, 0x101, _) => Some("the guest's storage begins beyond the maximum"),
        (C::CREATE_SEC_CONF, 0x102, _) => Some("the guest's storage ends beyond the maximum"),
        (C::CREATE_SEC_CONF, 0x104, _) => Some("the guest's storage belongs to another configuration"),
        (C::CREATE_SEC_CONF, 0x105, _) => Some("the address-space control element is not valid"),
        (C::CREATE_SEC_CONF, 0x106, _) => Some("there are as many configurations as possible"),
        (C::CREATE_SEC_CONF, 0x108, _) => Some("the donated storage lies beyond the end of memory"),
        (C::CREATE_SEC_CONF, 0x109, _) => Some("the donated storage lies in the lowcore"),
        (C::CREATE_SEC_CONF, 0x10c, _) => Some("there is no system control area"),
        (C::CREATE_SEC_CONF, 0x10d, _) => Some("the system control area is not accessible"),
        (C::CREATE_SEC_CPU, 0x103, _) => Some("the CPU number is not valid"),
        (C::CREATE_SEC_CPU, 0x104, _) => Some("the CPU is defined already"),
        (C::CREATE_SEC_CPU, 0x105, _) => Some("the donated storage is not accessible"),
        (C::CREATE_SEC_CPU, 0x106, _) => Some("the donated storage lies in the lowcore"),
        (C::CREATE_SEC_CPU, 0x107, _) => Some("the state description is not accessible"),
        (C::SET_SEC_CONF_PARAMS, 0x103, _) => Some("the SE header is not accessible"),
        (C::SET_SEC_CONF_PARAMS, 0x104, 0x01) => Some("header version"),
        (C::SET_SEC_CONF_PARAMS, 0x106, 0x30) => Some("an unsupported plaintext control flag is set"),
        (C::SET_SEC_CONF_PARAMS, 0x108, 0x05) => Some("host key hash does not match"),
        (C::SET_SEC_CONF_PARAMS, 0x108, 0x0b) => Some("customer ECDH key not valid"),
        (C::SET_SEC_CONF_PARAMS, 0x108, 0x34) => Some("backup host key hash mismatch"),
        (C::SET_SEC_CONF_PARAMS, 0x109, 0x00) => Some("unsupported secret control flag"),
        (C::SET_SEC_CONF_PARAMS, 0x10a, 0x31) => Some("header size mismatch"),
        (C::SET_SEC_CONF_PARAMS, 0x10a, 0x39) => Some("size of the encrypted area invalid"),
        (C::SET_SEC_CONF_PARAMS, 0x10a, 0x40) => Some("no host keys in the image"),
        // The codes of authentication failures are not published; these two are this model's choice.
        (C::SET_SEC_CONF_PARAMS, 0x10b, 0x01) => Some("the key slot for this machine was altered"),
        (C::SET_SEC_CONF_PARAMS, 0x10b, 0x02) => Some("the SE header was altered"),
        (C::UNPACK | C::VERIFY, 0x102, 0x1a) => Some("Address digest list (ALD) mismatch"),
        (C::UNPACK | C::VERIFY, 0x102, 0x1b) => Some("Page digest list (PLD) mismatch"),
        (C::UNPACK | C::VERIFY, 0x102, 0x1c) => Some("Tweak digest list (TLD) mismatch"),
        (C::UNPACK | C::VERIFY, 0x102, 0x1d) => Some("Mismatch in number of encrypted pages"),
        // The codes of refused dumps are not published; these are this model's choice.
        (C::DUMP_INIT, 0x101, _) => Some("the image or its owner does not allow dumps"),
        (C::DUMP_CPU, 0x102, _) => Some("the CPU is executing"),
        (C::DUMP_CONF_STOR_STATE, 0x10a, _) => Some("the address is not valid"),
        (C::CPU_SET_STATE, 0x101, _) => Some("the state is not a CPU state"),
        (
            C::UNPACK
            | C::CONV_TO_SEC
            | C::CONV_FROM_SEC
            | C::DESTR_SEC_STOR
            | C::PIN_PAGE_SHARED
            | C::UNPIN_PAGE_SHARED,
            0x10a,
            _,
        ) => Some("the page is not mapped"),
        (C::PIN_PAGE_SHARED, 0x107, _) => Some("the page is not shared"),
        (C::CONV_TO_SEC | C::SET_SHARED_ACCESS | C::REMOVE_SHARED_ACCESS, 0x104, _) => {
            Some("the content of the page is lost: altered, swapped, replayed or destroyed by the host")
        }
        (C::SET_SHARED_ACCESS | C::REMOVE_SHARED_ACCESS, 0x101, _) => {
            Some("the address is not in the guest's storage")
        }
        (C::RETR_ATTEST, 0x101, _) => Some("the continuation token is not zero"),
        (C::RETR_ATTEST, 0x102, _) => Some("there are more than 256 bytes of user data"),
        (C::RETR_ATTEST, 0x103, _) => Some("the request is not accessible"),
        (C::RETR_ATTEST, 0x104, _) => Some("the measurement buffer is not accessible"),
        (C::RETR_ATTEST, 0x105, _) => Some("the buffer for additional data is not accessible"),
        (C::RETR_ATTEST, 0x106, _) => Some("the request has an unsupported version"),
        (C::RETR_ATTEST, 0x107, _) => Some("the request has the wrong length"),
        (C::RETR_ATTEST, 0x108, _) => Some("the request has no key slot"),
        (C::RETR_ATTEST, 0x109, _) => Some("the encrypted area of the request has the wrong size"),
        (C::RETR_ATTEST, 0x10a, _) => Some("the request has an unsupported flag"),
        (C::RETR_ATTEST, 0x10b, _) => Some("the request names an unsupported measurement algorithm"),
        // Reason codes of a request that cannot be opened are not published; these are this model's choice.
        (C::RETR_ATTEST, 0x10c, 1) | (C::ADD_SECRET, 0x108, 1) => Some("the request is not for this machine"),
        (C::RETR_ATTEST, 0x10c, 2) | (C::ADD_SECRET, 0x108, 2) => {
            Some("the public key in the request is not valid")
        }
        (C::RETR_ATTEST, 0x10c, 3) | (C::ADD_SECRET, 0x108, 3) => {
            Some("the request's key slot for this machine was altered")
        }
        (C::RETR_ATTEST, 0x10c, 4) | (C::ADD_SECRET, 0x108, 4) => Some("the request was altered"),
        (C::RETR_ATTEST, 0x10c, _) | (C::ADD_SECRET, 0x108, _) => Some("the request cannot be opened"),
        (C::RETR_ATTEST, 0x10d, _) => Some("the measurement buffer is too short"),
        (C::RETR_ATTEST, 0x10e, _) => Some("the buffer for additional data is too short"),
        (C::ADD_SECRET | C::LOCK_SECRETS, 0x101, _) => Some("the secret store may not be changed"),
        (C::ADD_SECRET, 0x102, _) => Some("the secret store is locked"),
        (C::ADD_SECRET, 0x103, _) => Some("the request is not accessible"),
        (C::ADD_SECRET, 0x104, _) => Some("the request has an unsupported version"),
        (C::ADD_SECRET, 0x105, _) => Some("the request has the wrong length"),
        (C::ADD_SECRET, 0x106, _) => Some("the request has no key slot"),
        (C::ADD_SECRET, 0x107, _) => Some("the request has an unsupported flag"),
        (C::ADD_SECRET, 0x109, _) => Some("the type of the secret is not supported"),
        (C::ADD_SECRET, 0x10a, _) => Some("the length of the secret does not fit its type"),
        (C::ADD_SECRET, 0x10b, _) => Some("the secret store is full"),
        // The reason codes of 10c are this model's choice.
        (C::ADD_SECRET, 0x10c, 1) => Some("the request is for another image"),
        (C::ADD_SECRET, 0x10c, 2) => Some("the request is for another configuration"),
        (C::ADD_SECRET, 0x10c, 3) => Some("the extension secret is not the right one"),
        (C::ADD_SECRET, 0x10c, 4) => Some("the request was used before"),
        (C::ADD_SECRET, 0x10c, 5) => Some("a secret with this name is there already"),
        (C::ADD_SECRET, 0x10c, 6) => Some("the image does not allow a new customer communication key"),
        (C::ADD_SECRET, 0x10c, _) => Some("the secret cannot be added"),
        (C::ADD_SECRET, 0x10d, _) => Some("a dump is in progress"),
        (C::LOCK_SECRETS, 0x102, _) => Some("the secret store is locked already"),
        (C::LIST_SECRETS, 0x102, _) => Some("the page for the list is not accessible"),
        (C::RETR_SECRET, 0x102, _) => Some("the buffer is not accessible"),
        (C::RETR_SECRET, 0x109, _) => Some("the buffer is too small"),
        (C::RETR_SECRET, 0x10f, _) => Some("the secret store is empty"),
        (C::RETR_SECRET, 0x110, _) => Some("there is no secret with this index"),
        (C::RETR_SECRET, 0x111, _) => Some("the secret cannot be retrieved"),
        _ => None,
    }
}

impl fmt::Debug for Rc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rc({:#x})", self.0)
    }
}

impl fmt::Debug for Rrc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rrc({:#x})", self.0)
    }
}
