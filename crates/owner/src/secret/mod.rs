//! Add-secret requests: secrets that only one image, on machines of the owner's choice, can have.
//!
//! The owner [`create()`]s a request that carries a secret, sealed for the named host keys and bound to an image and,
//! if wanted, to one running configuration. The guest hands it to its Ultravisor. [`inspect()`] says what a request is
//! without any key. Names and formats are those of `pvsecret` (s390-tools).
//!
//! Nothing here adds a secret to a guest, and none of it can read one back.

mod create;
mod ec_key;
mod error;
mod inspect;
mod kinds;
mod user_data;

pub use create::{
    CreateOptions, Created, ExtensionSecret, Input, Material, Request, create, extension_from_cck, request,
    request_with,
};
pub use error::SecretError;
pub use inspect::{Inspection, SecretUserData, inspect, inspect_file};
pub use kinds::{GuestSecret, KeyType, RetrievableKey, SecretName};
pub use user_data::{SigningKey, UserData};

/// The configuration's identity from 32 hexadecimal digits, with or without `0x`.
pub fn config_uid_from_hex(text: &str) -> Option<[u8; 16]> {
    crate::attest::yaml::config_uid_from_hex(text)
}

/// Entry for fuzzing: no request and no key file makes the readers panic.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    if let Ok(inspection) = inspect("input", bytes, None) {
        let _ = inspection.to_string();
    }
    for kind in [KeyType::Plain, KeyType::Aes, KeyType::AesXts, KeyType::HmacSha, KeyType::Ec] {
        let _ = RetrievableKey::new(kind, "input", bytes);
    }
    let _ = SigningKey::parse("input", bytes);
}
