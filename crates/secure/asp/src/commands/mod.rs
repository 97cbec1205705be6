//! The commands, by what they are for. In each, the tests stand in the order in which the firmware makes them.

mod activation;
mod launch;
mod memory;
mod platform;
mod transport;

use cloister_formats::sev::status::Status;

use crate::Error;

/// Reads a command buffer. Its size was checked before, so the refusal is never seen.
fn fields<T>(parsed: Result<T, Error>) -> Result<T, Status> {
    parsed.map_err(|_| Status::INVALID_LENGTH)
}
