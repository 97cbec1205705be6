//! Character devices: where the monitor, gdb and the guest's console meet a person or a program. One type,
//! [`Chardev`], stands in front of sockets, pseudo-terminals, files, pipes and the terminal; one thread per device
//! moves the bytes, so that neither the guest nor a monitor ever waits for a peer.
//!
//! Nothing here knows a protocol: QMP, the human monitor and gdb's packets are their own crates. It parses no
//! options either; `cloister-options` does.
//!
//! # How it is used
//!
//! ```text
//! let fds   = Arc::new(FdStore::new());                 // descriptor sets and named descriptors, shared
//! let dev   = Chardev::open(&spec, &fds)?;              // Arc<Chardev>; never waits for a peer
//! if let Some(line) = dev.announcement() { … }          // "char device redirected to /dev/pts/3 (label a)"
//! dev.wait_for_peer();                                  // for wait=on, after printing dev.waiting_line()
//!
//! // A monitor or gdb, in its own thread:
//! let port = dev.attach_session()?;                     // claims the device
//! while let Some(session) = port.accept() {             // blocks; None after close() or when no more can come
//!     let n = session.recv(&mut buffer);                // blocks; 0 is the end
//!     session.send(b"…")?;                              // never blocks; SendError::Slow or Disconnected
//!     let fd = session.take_fd();                       // SCM_RIGHTS, in order
//!     let events = session.sender();                    // Clone + Send, for other threads
//! }                                                     // dropping the session hangs up after what is queued
//!
//! // The guest's console:
//! let port = dev.attach_stream(|event| …)?;             // StreamEvent::{Bytes, Break, Opened, Closed}
//! port.write(b"…");                                     // never blocks
//! dev.close();                                          // flushes briefly; everybody waiting wakes up
//! ```
//!
//! # Shared devices
//!
//! With `mux=on` or `mon:stdio` several ports stand on one device. All of them write; input goes to the one with the
//! focus, at first the console. `Ctrl-a c` goes round; a monitor's `accept` returns when it gets the focus for the first
//! time, which is when to greet. `Ctrl-a x` calls what [`Chardev::on_quit`] was given, on the device's thread.
//! A session that is dropped leaves the peer to the others.
//!
//! # Descriptors from outside
//!
//! An inherited number is duplicated, never closed. `recv` stops before bytes that carry descriptors, so that after
//! each `recv` the descriptors that came with the bytes are there to take. Take them as the command is run.
//!
//! # Promises against hostile peers
//!
//! * A session queues at most [`SESSION_LIMIT`] bytes (and the one message that crosses it) for a peer that does not
//!   read; then [`Sender::send`] says [`SendError::Slow`] and queues nothing.
//! * What a stream offers ([`StreamPort::offer`]) waits up to [`OFFER_LIMIT`] bytes and is never dropped for a peer that is there.
//! * A stream keeps the newest [`STREAM_LIMIT`] bytes for such a peer and drops the **oldest**: the end of a console's
//!   output is what tells why a guest died. Without a peer the output is dropped, as in QEMU.
//! * Unread input is bounded by [`INPUT_LIMIT`]; the peer then waits. At most [`FD_LIMIT`] passed descriptors wait to
//!   be taken; any more are closed.
//! * A session's end waits two seconds for its peer to read the rest, the end of the program half a second.
//! * Regular files are written at once, by whoever writes: nothing is dropped there.
//! * One client at a time; further ones wait in the kernel's backlog.
#![forbid(unsafe_code)]

mod backend;
mod device;
mod error;
mod fds;
pub mod process;
mod pump;
mod socket;
mod state;
mod terminal;

pub use device::{Chardev, ChardevInfo, Received, SendError, Sender, Session, SessionPort, StreamPort};
pub use error::ChardevError;
pub use fds::{FdInfo, FdSetInfo, FdStore, inherited};
pub use state::{StreamEvent, StreamInput};
pub use terminal::{Escape, HELP, Key, RawTerminal, TERMINATED};

use std::time::Duration;

/// Bytes that wait for the peer of a session before [`Sender::send`] refuses.
pub const SESSION_LIMIT: usize = 8 << 20;
/// Bytes of a stream that wait for its peer.
pub const STREAM_LIMIT: usize = 1 << 20;
/// Bytes of a stream that wait for its peer before `StreamPort::offer` takes no more.
pub const OFFER_LIMIT: usize = 64 << 10;
/// Bytes of a peer that wait for the user.
pub const INPUT_LIMIT: usize = 64 << 10;
/// Descriptors that wait to be taken, or come with one message.
pub const FD_LIMIT: usize = 16;

/// How long a peer may take to read the rest after its session has ended.
const HANG_UP_GRACE: Duration = Duration::from_secs(2);
/// How long the end of the program waits for a peer to read.
const CLOSE_GRACE: Duration = Duration::from_millis(500);
