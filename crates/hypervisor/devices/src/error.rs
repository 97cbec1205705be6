use std::path::PathBuf;

/// What can go wrong when devices are built, configured or restored. Errors of a guest are not here: the guest gets
/// them as condition codes, status bits and program interruptions.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An image file cannot be opened.
    #[error("cannot open the disk image {}: {source}; check the path and its permissions", path.display())]
    OpenImage {
        /// The image.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// An image file is in use.
    #[error(
        "the disk image {} is in use by another process; stop that process, or open the image with snapshot=on or readonly=on everywhere",
        path.display()
    )]
    ImageLocked {
        /// The image.
        path: PathBuf,
    },
    /// The image format is not supported.
    #[error("the disk image {} has the format {format}, which is not supported; convert it with: qemu-img convert -O raw", path.display())]
    ImageFormat {
        /// The image.
        path: PathBuf,
        /// The name of the format.
        format: String,
    },
    /// A temporary overlay cannot be made.
    #[error("cannot create a temporary file for snapshot=on: {0}; set TMPDIR to a folder with space")]
    Overlay(std::io::Error),
    /// The serial number is too long.
    #[error("the serial number '{0}' is longer than 20 bytes; shorten serial=")]
    SerialTooLong(String),
    /// The device number is taken.
    #[error(
        "device number fe.{ssid:x}.{devno:04x} is used by two devices; give each its own devno= or leave it out"
    )]
    DeviceNumberInUse {
        /// Subchannel set.
        ssid: u8,
        /// Device number.
        devno: u16,
    },
    /// The channel subsystem image is full.
    #[error("subchannel set {0} has no free subchannel or device number left")]
    NoFreeSubchannel(u8),
    /// A `devno=` value cannot be used.
    #[error("device number '{0}' is not of the form fe.n.dddd with n from 0 to 3")]
    DeviceNumber(String),
    /// A saved state does not belong to this machine.
    #[error(
        "cannot restore the state of {device}: {reason}; start the machine with the same devices and the same version"
    )]
    State {
        /// What was being restored.
        device: &'static str,
        /// Why it does not fit.
        reason: String,
    },
    /// The terminal refused raw mode.
    #[error("cannot switch the terminal to raw mode: {0}")]
    Terminal(std::io::Error),
    /// No randomness from the operating system.
    #[error("the operating system gives no random bytes: {0}")]
    Entropy(String),
}
