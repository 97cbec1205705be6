//! Attestation of protected guests: requests made, answers verified and checked against a policy.
//!
//! The owner [`create()`]s a request that only machines with the named host keys can open. The guest hands it to its
//! Ultravisor (`perform`, in the guest), which measures itself with a key from the request. The owner recomputes the
//! measurement from the image that it believes to run ([`verify()`]) and decides whether what else the answer says is
//! good enough ([`check()`]). Names and formats are those of `pvattest` (s390-tools).
//!
//! Nothing here talks to a guest or to a machine.

mod check;
mod create;
mod error;
mod verify;
pub(crate) mod yaml;

pub use check::{CheckItem, CheckReport, HostKeyCheck, Policy, SecretStorePolicy, check, check_file};
pub use create::{CreateOptions, Created, Material, create, request, request_with};
pub use error::{AttestError, Compared};
pub use verify::{Verified, VerifyOptions, read_header, verify, verify_files};
pub use yaml::config_uid_in;

/// Entry for fuzzing: no answer makes the verifier panic.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    use cloister_formats::s390x::exchange::ExchangeResponse;
    let _ = config_uid_in(bytes);
    let Ok(response) = ExchangeResponse::parse(bytes) else { return };
    let header = cloister_formats::s390x::se_header::SeHeader {
        iv: [0; 12],
        reserved: 0,
        encrypted_pages: 0,
        pcf: cloister_formats::s390x::se_header::Pcf(0),
        customer_key: cloister_formats::s390x::host_key::KeyXy([0; 160]),
        pld: [0; 64],
        ald: [0; 64],
        tld: [0; 64],
        slots: Vec::new(),
        encrypted_area: vec![0; 0x80],
        tag: [0; 16],
    };
    let key = cloister_crypto::Secret::new([0; 32]);
    if let Err(error) = verify(&response, &header, &key) {
        let _ = error.to_string();
    }
    if let Ok(report) = check(&response, &Policy::default()) {
        let _ = report.yaml();
    }
}
