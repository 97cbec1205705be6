use std::path::PathBuf;

/// What can go wrong when devices are built, configured or restored. Errors of a guest are not here: the guest gets
/// them as condition codes, status bits and program interruptions.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An image file cannot be opened.
    #[error("Could not open '{}': {}", path.display(), plain(source))]
    OpenImage {
        /// The image.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// An image file is in use.
    #[error("{why}\nIs another process using the image [{}]?", path.display())]
    ImageLocked {
        /// The image.
        path: PathBuf,
        /// What cannot be had.
        why: crate::virtio::lock::Conflict,
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
    /// Too many queues, or none.
    #[error("a disk has 1 to {most} queues here, not {asked}; change num-queues=")]
    Queues {
        /// Asked for.
        asked: u16,
        /// Possible.
        most: u16,
    },
    /// No thread for a disk.
    #[error("cannot start the thread of a disk: {0}")]
    Thread(std::io::Error),
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

/// The words of the system without the number.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}
