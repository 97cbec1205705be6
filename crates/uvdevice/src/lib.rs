//! A protected guest's `/dev/uv`: what Linux passes on to the Ultravisor for its user space.
//!
//! The calls and layouts are those of Linux, arch/s390/include/uapi/asm/uvdevice.h: one `ioctl` for each, with a
//! control block of 0x40 bytes that points at the argument. They work in a Secure Execution guest only; everywhere
//! else [`UvDevice::open`] says what is missing.
//!
//! This decides nothing and interprets nothing: requests come from the owner's tools and answers go back to them.
//!
//! UNSAFETY: an `ioctl` with pointers in its argument. All of it is in `kernel.rs`.

mod kernel;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use cloister_formats::s390x::PAGE_SIZE;
use cloister_formats::s390x::attestation::USER_DATA_MAX;
use cloister_formats::s390x::exchange::{ExchangeRequest, ExchangeResponse, MAX_ANSWER, MAX_REQUEST};
use cloister_formats::s390x::secret_list::{SecretEntry, SecretList};
use cloister_formats::s390x::uv_rc::{Rc, Rrc, explain};
use cloister_formats::s390x::uvcb::UvCommand;
use zeroize::Zeroizing;

use kernel::{Call, Codes, Kernel};

/// Where the device is.
pub const DEVICE: &str = "/dev/uv";

/// Why a call could not be made, or was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UvDeviceError {
    /// There is no such device.
    #[error(
        "{} is not there: this must run inside a Secure Execution guest on s390x, with Linux's module uvdevice loaded \
         (`modprobe uvdevice`); on another machine use the owner's part of this command, or give your guest the \
         program that `cloister pv guest-tool` writes", .0.display()
    )]
    NotThere(PathBuf),
    /// It cannot be opened.
    #[error("{} cannot be opened: {source}; the user needs the right to read and write it", .device.display())]
    Open {
        /// The device.
        device: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// Linux did not pass the call on.
    #[error("{what}: Linux did not pass the call on: {source}{hint}")]
    Ioctl {
        /// The call.
        what: &'static str,
        /// The system's reason.
        #[source]
        source: io::Error,
        /// What to do.
        hint: &'static str,
    },
    /// The Ultravisor refused.
    #[error("{what}: the Ultravisor refused: {} (rc {:#06x}, rrc {:#06x})", words(.command, .rc, .rrc), .rc.0, .rrc.0)]
    Refused {
        /// The call.
        what: &'static str,
        /// The call's number.
        command: UvCommand,
        /// Return code.
        rc: Rc,
        /// Return reason code.
        rrc: Rrc,
    },
    /// More than the interface takes.
    #[error("the {what} has {size} bytes; Linux passes on at most {limit}")]
    TooLarge {
        /// What.
        what: &'static str,
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// The Ultravisor's list is malformed.
    #[error("the Ultravisor's list of secrets is malformed: {0}")]
    List(#[from] cloister_formats::Error),
}

/// The open device.
#[derive(Debug)]
pub struct UvDevice<K = File>(K);

impl UvDevice {
    /// Opens the device of this guest.
    ///
    /// # Errors
    /// If there is none, or it may not be used.
    pub fn open() -> Result<Self, UvDeviceError> {
        Self::open_at(Path::new(DEVICE))
    }

    /// Opens the device under another name.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_at(device: &Path) -> Result<Self, UvDeviceError> {
        File::options().read(true).write(true).open(device).map(Self).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => UvDeviceError::NotThere(device.into()),
            _ => UvDeviceError::Open { device: device.into(), source },
        })
    }
}

#[expect(private_bounds, reason = "only this crate knows kernels, the real one and that of its tests")]
impl<K: Kernel> UvDevice<K> {
    /// Has this guest measured, with `user_data`.
    ///
    /// # Errors
    /// If the request does not fit the interface, or the Ultravisor refuses it.
    pub fn attest(
        &self,
        request: &ExchangeRequest,
        user_data: &[u8],
    ) -> Result<ExchangeResponse, UvDeviceError> {
        limit("request", request.arcb.len(), MAX_REQUEST)?;
        limit("user data", user_data.len(), USER_DATA_MAX)?;
        limit("measurement", request.measurement_size as usize, MAX_ANSWER)?;
        limit("additional data", request.additional_size as usize, MAX_ANSWER)?;
        let mut response = ExchangeResponse {
            arcb: request.arcb.clone(),
            measurement: vec![0; request.measurement_size as usize],
            additional: vec![0; request.additional_size as usize],
            user_data: user_data.to_vec(),
            config_uid: [0; 16],
        };
        let codes = self.0.attest(&mut response).map_err(|source| ioctl("attest", source))?;
        check("attest", UvCommand::RETR_ATTEST, codes)?;
        Ok(response)
    }

    /// Adds the secret of a request.
    ///
    /// # Errors
    /// If the request is too large, or the Ultravisor refuses it.
    pub fn add_secret(&self, request: &[u8]) -> Result<(), UvDeviceError> {
        limit("request", request.len(), MAX_REQUEST)?;
        let mut argument = request.to_vec();
        self.call("add", UvCommand::ADD_SECRET, Call::AddSecret, &mut argument)
    }

    /// The page in which the Ultravisor lists the stored secrets.
    ///
    /// # Errors
    /// If the Ultravisor refuses.
    pub fn list_page(&self) -> Result<Vec<u8>, UvDeviceError> {
        let mut page = vec![0; PAGE_SIZE];
        self.call("list", UvCommand::LIST_SECRETS, Call::ListSecrets, &mut page)?;
        Ok(page)
    }

    /// The stored secrets.
    ///
    /// # Errors
    /// If the Ultravisor refuses, or its list is malformed.
    pub fn list(&self) -> Result<SecretList, UvDeviceError> {
        Ok(SecretList::parse(&self.list_page()?)?)
    }

    /// Locks the store: no secret can be added until the guest starts again.
    ///
    /// # Errors
    /// If the Ultravisor refuses.
    pub fn lock(&self) -> Result<(), UvDeviceError> {
        self.call("lock", UvCommand::LOCK_SECRETS, Call::LockSecrets, &mut [])
    }

    /// Fetches a secret: plain text as it was given, or a key in protected form.
    ///
    /// # Errors
    /// If Linux is too old, or the Ultravisor refuses.
    pub fn retrieve(&self, entry: &SecretEntry) -> Result<Zeroizing<Vec<u8>>, UvDeviceError> {
        let size = entry.len as usize;
        limit("secret", size, MAX_SECRET)?;
        // The index goes where the secret comes back.
        let mut buffer = Zeroizing::new(vec![0; size.max(2)]);
        buffer[..2].copy_from_slice(&entry.index.to_ne_bytes());
        self.call("retrieve", UvCommand::RETR_SECRET, Call::RetrieveSecret, &mut buffer)?;
        Ok(buffer)
    }

    fn call(
        &self,
        what: &'static str,
        command: UvCommand,
        call: Call,
        argument: &mut [u8],
    ) -> Result<(), UvDeviceError> {
        let codes = self.0.call(call, argument).map_err(|source| ioctl(what, source))?;
        check(what, command, codes)
    }
}

fn check(what: &'static str, command: UvCommand, codes: Codes) -> Result<(), UvDeviceError> {
    let (rc, rrc) = (Rc(codes.rc), Rrc(codes.rrc));
    match rc {
        Rc::EXECUTED => Ok(()),
        // More secrets than fit into the page: it is valid as far as it goes.
        Rc::MORE_DATA if command == UvCommand::LIST_SECRETS => Ok(()),
        _ => Err(UvDeviceError::Refused { what, command, rc, rrc }),
    }
}

fn ioctl(what: &'static str, source: io::Error) -> UvDeviceError {
    let hint = match source.kind() {
        io::ErrorKind::Unsupported => "",
        _ if source.raw_os_error() == Some(ENOTTY) => "; this kernel or this machine does not have the call",
        _ if source.raw_os_error() == Some(EINVAL) => "; the request is malformed or has a wrong size",
        _ => "",
    };
    UvDeviceError::Ioctl { what, source, hint }
}

fn limit(what: &'static str, size: usize, limit: usize) -> Result<(), UvDeviceError> {
    if size > limit { Err(UvDeviceError::TooLarge { what, size, limit }) } else { Ok(()) }
}

fn words(command: &UvCommand, rc: &Rc, rrc: &Rrc) -> &'static str {
    explain(*command, *rc, *rrc).unwrap_or("for a reason that is not documented")
}

/// `UVIO_RETR_SECRET_MAX_LEN`.
const MAX_SECRET: usize = 0x2000;
const ENOTTY: i32 = 25;
const EINVAL: i32 = 22;

#[cfg(test)]
mod tests;
