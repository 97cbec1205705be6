//! CHANNEL SUBSYSTEM CALL: what Linux asks for at start-up; every other command answers "not available".
//!
//! No real hardware stands behind the descriptions: one channel path of the virtual type.

use super::VIRTUAL_CHPID_TYPE;
use crate::interrupt::Outcome;

mod command {
    pub(super) const PATH_DESCRIPTION: u16 = 0x0002;
    pub(super) const EVENT_INFORMATION: u16 = 0x000e;
    pub(super) const CHARACTERISTICS: u16 = 0x0010;
    pub(super) const SET_DOMAIN: u16 = 0x0031;
}

mod response {
    pub(super) const DONE: u16 = 0x0001;
    pub(super) const INVALID_REQUEST: u16 = 0x0003;
    pub(super) const NOT_AVAILABLE: u16 = 0x0004;
    pub(super) const NO_EVENT: u16 = 0x0005;
    pub(super) const INVALID_FORMAT: u16 = 0x0007;
    pub(super) const INVALID_IMAGE: u16 = 0x0008;
    pub(super) const NOT_POSSIBLE: u16 = 0x0101;
}

/// General characteristics of the virtual channel subsystem, by word number.
const GENERAL: [(usize, u32); 3] = [(0, 0x0300_0000), (1, 0x0007_9000), (3, 0x0008_0000)];
/// CHSC characteristics, by word number.
const CALLS: [(usize, u32); 2] = [(0, 0x4000_0000), (3, 0x0004_0000)];
const GENERAL_WORDS: usize = 510;
const CALL_WORDS: usize = 508;

/// Executes one call on its 4 KiB block.
pub(super) fn call(block: &mut Vec<u8>, multiple_sets: &mut bool) -> Outcome {
    block.resize(4096, 0);
    let length = half(block, 0);
    if !(16..=4088).contains(&length) || !length.is_multiple_of(8) {
        return Outcome::OPERAND;
    }
    let length = usize::from(length);
    let request = block[..length].to_vec();
    let answer = match half(&request, 2) {
        command::PATH_DESCRIPTION => path_description(&request),
        command::EVENT_INFORMATION if length == 16 => Answer::code(response::NO_EVENT),
        command::CHARACTERISTICS if length == 16 => characteristics(),
        command::SET_DOMAIN => set_domain(&request, multiple_sets),
        command::EVENT_INFORMATION | command::CHARACTERISTICS => Answer::code(response::INVALID_REQUEST),
        _ => Answer::code(response::NOT_AVAILABLE),
    };
    answer.store(&mut block[length..]);
    Outcome::Cc(0)
}

struct Answer {
    code: u16,
    parameter: u32,
    data: Vec<u8>,
}

impl Answer {
    fn code(code: u16) -> Self {
        Self { code, parameter: 0, data: Vec::new() }
    }

    /// Stores header and data; what does not fit into the block is cut off, as the length field says.
    fn store(self, room: &mut [u8]) {
        let length = (8 + self.data.len()).min(room.len());
        room[..2].copy_from_slice(&(length as u16).to_be_bytes());
        room[2..4].copy_from_slice(&self.code.to_be_bytes());
        room[4..8].copy_from_slice(&self.parameter.to_be_bytes());
        room[8..length].copy_from_slice(&self.data[..length - 8]);
    }
}

fn path_description(request: &[u8]) -> Answer {
    if request.len() != 16 {
        return Answer::code(response::INVALID_REQUEST);
    }
    let (first_word, second_word) = (word(request, 4), word(request, 8));
    let (names_image, image) = (first_word & 0x2000_0000 != 0, first_word >> 16 & 0xff);
    if image != 0 && !(names_image && image == u32::from(super::VIRTUAL_CSSID)) {
        return Answer::code(response::INVALID_IMAGE);
    }
    let (first, last) = (first_word & 0xff, second_word & 0xff);
    let size = match first_word >> 8 & 0xf {
        0 => 8,
        1 => 32,
        _ => return Answer::code(response::INVALID_FORMAT),
    };
    if first_word & 0xc000_f000 != 0 || last < first {
        return Answer::code(response::INVALID_REQUEST);
    }
    let mut data = Vec::new();
    if first == 0 {
        // Valid, type, and path 0x00.
        data.resize(size, 0);
        data[..4].copy_from_slice(&[0x80, 0, VIRTUAL_CHPID_TYPE, 0]);
    }
    Answer { code: response::DONE, parameter: first_word >> 8 & 0xf, data }
}

fn characteristics() -> Answer {
    let mut data = vec![0; 4 * (GENERAL_WORDS + CALL_WORDS)];
    let words = GENERAL.iter().copied().chain(CALLS.iter().map(|&(n, v)| (GENERAL_WORDS + n, v)));
    for (n, value) in words {
        data[4 * n..4 * n + 4].copy_from_slice(&value.to_be_bytes());
    }
    Answer { code: response::DONE, parameter: 0, data }
}

fn set_domain(request: &[u8], multiple_sets: &mut bool) -> Answer {
    if request.len() != 0x400 {
        return Answer::code(response::INVALID_REQUEST);
    }
    if request[4] & 0x0f != 0 {
        return Answer::code(response::INVALID_FORMAT);
    }
    match half(request, 6) {
        // Multiple images: there is only one.
        0x0000 => Answer::code(response::NOT_POSSIBLE),
        0x0002 => {
            *multiple_sets = true;
            Answer::code(response::DONE)
        }
        _ => Answer::code(response::INVALID_REQUEST),
    }
}

fn half(block: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([block[at], block[at + 1]])
}

fn word(block: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}
