//! Cryptographic primitives by their standard names, over RustCrypto.
