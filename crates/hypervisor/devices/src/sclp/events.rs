//! The event facility of the SCLP: masks, console output and input, signal quiesce.
//!
//! No terminal is handled here; bytes go to and come from whoever owns the console.

use serde::{Deserialize, Serialize};

use super::{Response, count16, ebcdic, get16, put16};

/// Takes console output.
pub trait ConsoleSink: Send {
    /// Writes all bytes; an error is the sink's to report.
    fn write(&mut self, bytes: &[u8]);
}

impl<F: FnMut(&[u8]) + Send> ConsoleSink for F {
    fn write(&mut self, bytes: &[u8]) {
        self(bytes);
    }
}

/// State of the event facility.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventState {
    /// Event types that the control program wants to receive, type 1 in the leftmost bit.
    pub cp_receive: u64,
    /// Event types that the control program sends.
    pub cp_send: u64,
    /// Bytes in a mask of the last WRITE EVENT MASK.
    pub mask_length: u16,
    /// Console input that the guest has not read.
    pub input: Vec<u8>,
    /// A signal-quiesce event is pending.
    pub quiesce: bool,
}

#[derive(Clone, Copy)]
pub(super) struct EventConfig {
    pub(super) configuration_events: bool,
}

pub(super) struct Events {
    config: EventConfig,
    console: Option<Box<dyn ConsoleSink>>,
    line_mode: Option<Box<dyn ConsoleSink>>,
    state: EventState,
}

const HEADER: usize = 8;
const EVENT_HEADER: usize = 6;
/// Input kept for a guest that does not read; a terminal's paste buffer fits.
const INPUT_LIMIT: usize = 4096;
/// The longest mask that a WRITE EVENT MASK may have.
const MASK_LIMIT: usize = 1021;

mod kind {
    pub(super) const OPERATOR_COMMAND: u8 = 0x01;
    pub(super) const MESSAGE: u8 = 0x02;
    pub(super) const CONFIGURATION: u8 = 0x04;
    pub(super) const PRIORITY_MESSAGE: u8 = 0x09;
    pub(super) const ASCII: u8 = 0x1a;
    pub(super) const QUIESCE: u8 = 0x1d;
}

impl Events {
    pub(super) fn new(
        config: EventConfig,
        console: Option<Box<dyn ConsoleSink>>,
        line_mode: Option<Box<dyn ConsoleSink>>,
    ) -> Self {
        Self { config, console, line_mode, state: EventState::default() }
    }

    pub(super) fn state(&self) -> &EventState {
        &self.state
    }

    pub(super) fn set_state(&mut self, mut state: EventState) {
        state.input.truncate(INPUT_LIMIT);
        self.state = state;
    }

    pub(super) fn reset(&mut self) {
        self.state = EventState::default();
    }

    /// Whether an event is pending that the guest wants to know about.
    pub(super) fn pending(&self) -> bool {
        self.pending_types() & self.state.cp_receive != 0
    }

    pub(super) fn push_input(&mut self, bytes: &[u8]) -> usize {
        if self.console.is_none() {
            return bytes.len();
        }
        let taken = bytes.len().min(INPUT_LIMIT.saturating_sub(self.state.input.len()));
        self.state.input.extend_from_slice(&bytes[..taken]);
        taken
    }

    pub(super) fn push_quiesce(&mut self) -> bool {
        let heard = self.state.cp_receive & bit(kind::QUIESCE) != 0;
        self.state.quiesce |= heard;
        heard
    }

    pub(super) fn write_mask(&mut self, sccb: &mut [u8]) -> Response {
        if sccb.len() < 12 {
            return Response::TOO_SHORT;
        }
        let length = usize::from(get16(sccb, 10));
        if length == 0 || length > MASK_LIMIT {
            return Response::INVALID_MASK_LENGTH;
        }
        if sccb.len() < 12 + 4 * length {
            return Response::INCONSISTENT_LENGTHS;
        }
        self.state.cp_receive = read_mask(&sccb[12..12 + length]);
        self.state.cp_send = read_mask(&sccb[12 + length..12 + 2 * length]);
        self.state.mask_length = count16(length);
        write_mask(&mut sccb[12 + 2 * length..12 + 3 * length], self.receivable());
        write_mask(&mut sccb[12 + 3 * length..12 + 4 * length], self.sendable());
        Response::DONE
    }

    pub(super) fn write_data(&mut self, sccb: &mut [u8]) -> Response {
        if sccb[2] != 0 {
            return Response::INVALID_FUNCTION;
        }
        if let Err(response) = check_event_lengths(&sccb[HEADER..]) {
            return response;
        }
        let mut at = HEADER;
        while at < sccb.len() {
            let end = at + usize::from(get16(sccb, at));
            let event = &mut sccb[at..end];
            let response = self.write_event(event[2], &event[EVENT_HEADER..]);
            if response != Response::DONE {
                return response;
            }
            event[3] |= 0x80;
            at = end;
        }
        Response::DONE
    }

    pub(super) fn read_data(&mut self, sccb: &mut [u8]) -> Response {
        let selected = match sccb[2] {
            0 => self.state.cp_receive,
            1 => {
                let length = usize::from(self.state.mask_length);
                if sccb.len() < HEADER + length {
                    return Response::TOO_SHORT;
                }
                let mask = read_mask(&sccb[HEADER..HEADER + length]);
                if self.state.cp_receive == 0 || mask & !self.state.cp_receive != 0 {
                    return Response::INVALID_SELECTION;
                }
                mask
            }
            _ => return Response::INVALID_FUNCTION,
        };
        let room = sccb.len();
        let mut at = HEADER;
        if selected & bit(kind::QUIESCE) != 0 && self.state.quiesce && room - at >= EVENT_HEADER + 3 {
            // Timeout 0 of unit 0: at once.
            at = put_event(sccb, at, kind::QUIESCE, &[0; 3]);
            self.state.quiesce = false;
        }
        if selected & bit(kind::ASCII) != 0 && !self.state.input.is_empty() && room - at > EVENT_HEADER + 1 {
            let count = self.state.input.len().min(room - at - EVENT_HEADER - 1);
            // A leading zero byte says that ASCII text follows.
            let data: Vec<u8> = std::iter::once(0).chain(self.state.input.drain(..count)).collect();
            at = put_event(sccb, at, kind::ASCII, &data);
        }
        if at == HEADER {
            return if self.pending_types() & selected == 0 {
                Response::NO_EVENTS
            } else {
                Response::TOO_SHORT
            };
        }
        if sccb[5] & 0x80 != 0 {
            sccb[5] &= 0x7f;
            put16(sccb, 0, count16(at));
        }
        Response::DONE
    }

    fn write_event(&mut self, event: u8, data: &[u8]) -> Response {
        match (event, &mut self.console, &mut self.line_mode) {
            (kind::ASCII, Some(console), _) => {
                console.write(data);
                Response::DONE
            }
            (kind::MESSAGE | kind::PRIORITY_MESSAGE, _, Some(line_mode)) => match message_text(data) {
                Some(text) => {
                    line_mode.write(text.as_bytes());
                    Response::DONE
                }
                None => Response::SYNTAX,
            },
            _ => Response::INVALID_FUNCTION,
        }
    }

    fn pending_types(&self) -> u64 {
        let mut types = 0;
        if !self.state.input.is_empty() {
            types |= bit(kind::ASCII);
        }
        if self.state.quiesce {
            types |= bit(kind::QUIESCE);
        }
        types
    }

    /// What the SCLP accepts from the guest.
    fn receivable(&self) -> u64 {
        let ascii = if self.console.is_some() { bit(kind::ASCII) } else { 0 };
        let lines = match self.line_mode {
            Some(_) => bit(kind::MESSAGE) | bit(kind::PRIORITY_MESSAGE),
            None => 0,
        };
        ascii | lines
    }

    /// What the SCLP may send to the guest.
    fn sendable(&self) -> u64 {
        let ascii = if self.console.is_some() { bit(kind::ASCII) } else { 0 };
        let configuration = if self.config.configuration_events { bit(kind::CONFIGURATION) } else { 0 };
        // Linux takes line mode for a console only if commands could come from there, though none do.
        let lines = match self.line_mode {
            Some(_) => bit(kind::OPERATOR_COMMAND) | bit(kind::PRIORITY_MESSAGE),
            None => 0,
        };
        ascii | lines | configuration | bit(kind::QUIESCE)
    }
}

fn bit(kind: u8) -> u64 {
    1 << (64 - u32::from(kind))
}

fn read_mask(bytes: &[u8]) -> u64 {
    let mut mask = [0; 8];
    let count = bytes.len().min(8);
    mask[..count].copy_from_slice(&bytes[..count]);
    u64::from_be_bytes(mask)
}

fn write_mask(bytes: &mut [u8], mask: u64) {
    bytes.fill(0);
    let count = bytes.len().min(8);
    bytes[..count].copy_from_slice(&mask.to_be_bytes()[..count]);
}

fn check_event_lengths(mut events: &[u8]) -> Result<(), Response> {
    while !events.is_empty() {
        if events.len() < EVENT_HEADER {
            return Err(Response::INCONSISTENT_LENGTHS);
        }
        let length = usize::from(get16(events, 0));
        if length < EVENT_HEADER {
            return Err(Response::SYNTAX);
        }
        events = events.get(length..).ok_or(Response::INCONSISTENT_LENGTHS)?;
    }
    Ok(())
}

fn put_event(sccb: &mut [u8], at: usize, kind: u8, data: &[u8]) -> usize {
    let end = at + EVENT_HEADER + data.len();
    sccb[at..end].fill(0);
    put16(sccb, at, count16(EVENT_HEADER + data.len()));
    sccb[at + 2] = kind;
    sccb[at + EVENT_HEADER..end].copy_from_slice(data);
    end
}

/// The text of a message event: a message data block ("MDB ") whose message text objects (type 4) carry EBCDIC after
/// 10 bytes of header. Each object is a line.
fn message_text(data: &[u8]) -> Option<String> {
    let header = data.get(..12)?;
    let length = usize::from(get16(header, 0));
    if get16(header, 2) != 1 || header[4..8] != [0xd4, 0xc4, 0xc2, 0x40] || length < 12 {
        return None;
    }
    let mut objects = data.get(12..length)?;
    let mut text = String::new();
    while !objects.is_empty() {
        if objects.len() < 4 {
            return None;
        }
        let length = usize::from(get16(objects, 0));
        if length < 4 {
            return None;
        }
        let object = objects.get(..length)?;
        if get16(object, 2) == 4 {
            // A line ends when the next begins, as with QEMU.
            text.push('\n');
            text.push_str(&ebcdic::to_text(object.get(10..)?));
        }
        objects = &objects[length..];
    }
    Some(text)
}
