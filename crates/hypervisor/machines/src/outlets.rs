//! Where a running machine's words go when somebody other than the user's terminal listens.

use cloister_devices::sclp::ConsoleSink;
pub use cloister_devices::virtio::console::{PortPeer, Ports};
use cloister_network::Network;
use std::io::Write;
use std::sync::Arc;

/// Takes one message of the machine, without a line end.
pub type MessageSink = Box<dyn Fn(&str) + Send + Sync>;

/// The guest's end of a port, for whoever brings input.
#[derive(Clone, Debug)]
pub struct PortInput {
    /// The ports of the device.
    pub ports: Ports,
    /// The port.
    pub number: u32,
}

/// Why a port has no character device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// There is none of that name.
    NotFound,
    /// It has another user.
    InUse,
}

/// Connects ports of virtio-serial devices with character devices.
pub trait PortConnector: Send + Sync {
    /// Connects a port with a character device and gives what takes its output. Dropping that ends it.
    ///
    /// # Errors
    /// The character device cannot be had.
    fn connect(
        &self,
        chardev: &str,
        port: PortInput,
        console: bool,
    ) -> Result<Arc<dyn PortPeer>, ConnectError>;
}

/// Takers of what a machine says.
#[derive(Default)]
pub struct Outlets {
    /// The guest's console output; without one the guest has no console.
    pub console: Option<Box<dyn ConsoleSink>>,
    /// Takes the lines of the console that only takes lines.
    pub line_console: Option<Box<dyn ConsoleSink>>,
    /// Called when the guest has made room for console input that [`Run::console_input`](crate::Run::console_input)
    /// did not take.
    pub console_room: Option<Box<dyn Fn() + Send + Sync>>,
    /// Connects ports of virtio-serial devices; without it they have no character devices.
    pub ports: Option<Arc<dyn PortConnector>>,
    /// Where network devices lead; without it there are no backends.
    pub network: Option<Arc<Network>>,
    /// Warnings and refusals during the run, in place of standard error.
    pub messages: Option<MessageSink>,
}

impl std::fmt::Debug for Outlets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (console, messages) = (self.console.is_some(), self.messages.is_some());
        f.debug_struct("Outlets")
            .field("console", &console)
            .field("messages", &messages)
            .finish_non_exhaustive()
    }
}

/// Messages to the user's standard error; a closed or full one must not end the guest.
pub(crate) fn to_stderr(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
