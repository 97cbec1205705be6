//! The calls against a kernel of the tests: what it is given, and how its answers are read.
#![expect(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use std::cell::RefCell;

use cloister_formats::s390x::asrcb::SecretType;

use super::*;

/// Answers every call with the same codes, and keeps what it was given.
struct Fake {
    codes: Codes,
    seen: RefCell<Vec<(Call, Vec<u8>)>>,
}

impl Fake {
    fn answering(rc: u16, rrc: u16) -> UvDevice<Self> {
        UvDevice(Self { codes: Codes { rc, rrc }, seen: RefCell::default() })
    }
}

impl Kernel for Fake {
    fn call(&self, call: Call, argument: &mut [u8]) -> io::Result<Codes> {
        self.seen.borrow_mut().push((call, argument.to_vec()));
        argument.fill(0xee);
        if call == Call::ListSecrets {
            let entry = SecretEntry { index: 3, kind: SecretType::PLAINTEXT, len: 32, id: [1; 32] };
            argument.copy_from_slice(&SecretList { total: 1, next: 0, entries: vec![entry] }.encode());
        }
        Ok(self.codes)
    }

    fn attest(&self, response: &mut ExchangeResponse) -> io::Result<Codes> {
        response.measurement.fill(0xaa);
        response.config_uid = [5; 16];
        Ok(self.codes)
    }
}

#[test]
fn uvdevice_h_numbers_are_those_of_linux() {
    // _IOWR('u', nr, 0x40 bytes) of s390: direction in the two highest bits, then the size.
    assert_eq!(kernel::ATTEST as u64 & 0xffff_ffff, 0xc040_7501);
}

#[test]
fn attest_carries_the_request_and_brings_the_answer() {
    let request = ExchangeRequest::new(vec![1, 2, 3], 32);
    let response = Fake::answering(1, 0).attest(&request, b"user").unwrap();
    assert_eq!((response.measurement, response.additional.len()), (vec![0xaa; 64], 32));
    assert_eq!((response.config_uid, &response.user_data[..]), ([5; 16], &b"user"[..]));
    let refused = Fake::answering(0x108, 0).attest(&request, b"").unwrap_err().to_string();
    assert!(refused.contains("(rc 0x0108, rrc 0x0000)"), "{refused}");
    let long = Fake::answering(1, 0).attest(&request, &[0; 257]).unwrap_err().to_string();
    assert!(long.contains("at most 256"), "{long}");
}

#[test]
fn secrets_are_added_listed_locked_and_retrieved() {
    let device = Fake::answering(1, 0);
    device.add_secret(b"request").unwrap();
    device.lock().unwrap();
    let list = device.list().unwrap();
    assert_eq!(list.entries[0].index, 3);
    let secret = device.retrieve(&list.entries[0]).unwrap();
    assert_eq!(secret[..], [0xee; 32]);
    let seen = device.0.seen.borrow();
    assert_eq!(seen[0], (Call::AddSecret, b"request".to_vec()));
    assert_eq!(seen[1], (Call::LockSecrets, Vec::new()));
    assert_eq!((seen[3].0, &seen[3].1[..2]), (Call::RetrieveSecret, &3u16.to_ne_bytes()[..]));
}

#[test]
fn refusals_carry_their_codes_and_a_full_page_is_none() {
    assert!(matches!(
        Fake::answering(0x102, 7).lock(),
        Err(UvDeviceError::Refused { rc: Rc(0x102), rrc: Rrc(7), .. })
    ));
    assert_eq!(Fake::answering(0x100, 0).list().unwrap().entries.len(), 1);
    assert!(Fake::answering(0x100, 0).lock().is_err());
}

#[test]
fn a_machine_without_the_device_says_where_it_must_run() {
    let text = UvDevice::open_at(Path::new("/nonexistent/uv")).unwrap_err().to_string();
    assert!(text.contains("inside a Secure Execution guest") && text.contains("guest-tool"), "{text}");
    // A device that is another one does not know the calls.
    let other = UvDevice::open_at(Path::new("/dev/null")).unwrap();
    let text = other.lock().unwrap_err().to_string();
    assert!(text.contains("does not have the call"), "{text}");
    let request = ExchangeRequest::new(vec![1, 2, 3], 0);
    assert!(matches!(other.attest(&request, b""), Err(UvDeviceError::Ioctl { .. })));
}
