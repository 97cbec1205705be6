//! Packets of the remote protocol: cut from a stream of bytes, and written (GDB manual, appendix E "Remote Protocol",
//! sections "Overview" and "Packet Acknowledgment").
//!
//! It stands before crate `gdbstub`, so that only whole packets with the right checksum and of bounded length reach it.
//! It knows no command.

/// Most bytes between `$` and `#`, as announced in `PacketSize`.
pub(crate) const PACKET: usize = 0x4000;

/// What came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// A packet: what is between `$` and `#`, escapes left as they are.
    Packet(Vec<u8>),
    /// Ctrl-C.
    Interrupt,
    /// The last packet did not arrive.
    Again,
    /// A packet with a wrong checksum.
    Damaged,
    /// A packet with more than [`PACKET`] bytes; they are gone.
    TooLong,
}

/// Cuts packets from a stream. Holds at most one packet.
#[derive(Debug, Default)]
pub(crate) struct Cutter {
    state: State,
    body: Vec<u8>,
    long: bool,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Between,
    Body,
    Checksum(Option<u8>),
}

impl Cutter {
    /// Takes a byte.
    pub(crate) fn push(&mut self, byte: u8) -> Option<Incoming> {
        match (self.state, byte) {
            (State::Between, 0x03) => return Some(Incoming::Interrupt),
            (State::Between, b'-') => return Some(Incoming::Again),
            // A `$` is never data: a packet that was cut short is given up.
            (_, b'$') => {
                *self = Self { state: State::Body, ..Self::default() };
            }
            (State::Between, _) => {}
            (State::Body, b'#') => self.state = State::Checksum(None),
            (State::Body, _) if self.body.len() == PACKET => self.long = true,
            (State::Body, _) => self.body.push(byte),
            (State::Checksum(None), _) => self.state = State::Checksum(Some(byte)),
            (State::Checksum(Some(first)), _) => return Some(self.finish(first, byte)),
        }
        None
    }

    fn finish(&mut self, first: u8, second: u8) -> Incoming {
        let Self { body, long, .. } = std::mem::take(self);
        if long {
            return Incoming::TooLong;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16);
        match (digit(first), digit(second)) {
            (Some(high), Some(low)) if high << 4 | low == u32::from(checksum(&body)) => {
                Incoming::Packet(body)
            }
            _ => Incoming::Damaged,
        }
    }
}

/// A packet with this body, which must need no escapes.
pub(crate) fn packet(body: &[u8]) -> Vec<u8> {
    let mut packet = Vec::with_capacity(body.len() + 4);
    packet.push(b'$');
    packet.extend_from_slice(body);
    packet.extend_from_slice(format!("#{:02x}", checksum(body)).as_bytes());
    packet
}

/// A packet that prints text on the debugger's console.
pub(crate) fn console(text: &str) -> Vec<u8> {
    let mut body = vec![b'O'];
    body.extend(text.bytes().flat_map(|byte| format!("{byte:02x}").into_bytes()));
    packet(&body)
}

/// An error with a text.
pub(crate) fn error(text: &str) -> Vec<u8> {
    let plain = |c: char| if c.is_ascii_graphic() && !"#$}*".contains(c) { c } else { ' ' };
    // gdb 13 prints what is behind the second full stop where it looks for a text, and all of it elsewhere.
    packet(format!("E.cloister.{}", text.replace('.', ",").chars().map(plain).collect::<String>()).as_bytes())
}

fn checksum(body: &[u8]) -> u8 {
    body.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(bytes: &[u8]) -> Vec<Incoming> {
        let mut cutter = Cutter::default();
        bytes.iter().filter_map(|byte| cutter.push(*byte)).collect()
    }

    #[test]
    fn remote_protocol_overview_packets_acks_and_interrupts() {
        let come = cut(b"+$g#67+\x03-$m0,4#fd$g#68noise$vCont?#49$half$g#67");
        let packet = |body: &[u8]| Incoming::Packet(body.to_vec());
        let expected = [
            packet(b"g"),
            Incoming::Interrupt,
            Incoming::Again,
            packet(b"m0,4"),
            Incoming::Damaged,
            packet(b"vCont?"),
            packet(b"g"),
        ];
        assert_eq!(come, expected);
    }

    #[test]
    fn a_packet_that_is_too_long_is_dropped_and_the_next_is_read() {
        let mut bytes = packet(&vec![b'a'; PACKET + 1]);
        bytes.extend(packet(&vec![b'b'; PACKET]));
        assert_eq!(cut(&bytes), [Incoming::TooLong, Incoming::Packet(vec![b'b'; PACKET])]);
    }

    #[test]
    fn texts_cannot_break_the_frame() {
        assert_eq!(cut(&error("no #$}* \n. end")).len(), 1);
        assert_eq!(cut(&console("\u{3}#$")), [Incoming::Packet(b"O032324".to_vec())]);
    }

    proptest! {
        #[test]
        fn any_bytes_leave_the_cutter_able_to_read(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = noise;
            bytes.extend(b"#00");
            bytes.extend(packet(b"g"));
            prop_assert_eq!(cut(&bytes).pop(), Some(Incoming::Packet(b"g".to_vec())));
        }
    }
}
