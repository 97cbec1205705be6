//! Private P-384 keys in the files of OpenSSL.

use p384::pkcs8::DecodePrivateKey;
use zeroize::Zeroizing;

use crate::{Error, P384Secret, Secret};

impl P384Secret {
    /// The key as `ECPrivateKey` (RFC 5915, section 3) in DER, with curve and public key: what OpenSSL writes for a
    /// private key in its traditional form.
    ///
    /// # Errors
    /// [`Error::InvalidP384SecretKey`] if the library refuses, which it does not for a valid key.
    pub fn to_sec1_der(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let scalar = self.to_scalar();
        let key = p384::SecretKey::from_slice(scalar.expose()).map_err(|_| Error::InvalidP384SecretKey)?;
        key.to_sec1_der().map_err(|_| Error::InvalidP384SecretKey)
    }

    /// Reads `ECPrivateKey` (RFC 5915) or `PrivateKeyInfo` (RFC 5208), each in DER or PEM.
    ///
    /// # Errors
    /// [`Error::InvalidP384SecretKey`] if it is neither, or of another curve.
    pub fn from_key_file(bytes: &[u8]) -> Result<Self, Error> {
        let key = match std::str::from_utf8(bytes).ok().filter(|text| text.contains("-----BEGIN")) {
            Some(text) => {
                // openssl puts the curve's parameters before the key.
                let text = text.find("-----BEGIN EC PRIVATE KEY").map_or(text, |at| &text[at..]);
                p384::SecretKey::from_sec1_pem(text)
                    .ok()
                    .or_else(|| p384::SecretKey::from_pkcs8_pem(text).ok())
            }
            None => p384::SecretKey::from_sec1_der(bytes)
                .ok()
                .or_else(|| p384::SecretKey::from_pkcs8_der(bytes).ok()),
        };
        let key = key.ok_or(Error::InvalidP384SecretKey)?;
        let scalar: Secret<48> = Secret::new(key.to_bytes().into());
        Self::from_scalar(scalar.expose())
    }
}

#[cfg(test)]
mod tests {
    use p384::pkcs8::{EncodePrivateKey, LineEnding};
    use proptest::prelude::*;

    use super::*;
    use crate::SeededEntropy;

    proptest! {
        #[test]
        fn every_form_of_a_key_file_is_read_back(seed: [u8; 8]) {
            let key = P384Secret::generate(&mut SeededEntropy::new(&seed));
            let scalar = *key.to_scalar().expose();
            let library = p384::SecretKey::from_slice(&scalar).unwrap();
            let pem = library.to_sec1_pem(LineEnding::LF).unwrap();
            let with_parameters =
                format!("-----BEGIN EC PARAMETERS-----\nBgUrgQQAIg==\n-----END EC PARAMETERS-----\n{}", *pem);
            for file in [
                key.to_sec1_der().unwrap().to_vec(),
                library.to_pkcs8_der().unwrap().as_bytes().to_vec(),
                pem.as_bytes().to_vec(),
                with_parameters.into_bytes(),
                library.to_pkcs8_pem(LineEnding::LF).unwrap().as_bytes().to_vec(),
            ] {
                prop_assert_eq!(*P384Secret::from_key_file(&file).unwrap().to_scalar().expose(), scalar);
            }
        }

        #[test]
        fn no_file_makes_the_reader_panic(bytes: Vec<u8>) {
            prop_assert!(P384Secret::from_key_file(&bytes).is_err());
        }
    }
}
