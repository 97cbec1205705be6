//! Attestation and add-secret requests, compared with the `s390_pv` crate of s390-tools: what it makes we parse and
//! open, what we make it opens, and the same keys give the same bytes.
//!
//! There is nothing here but tests: `s390_pv` needs OpenSSL and curl, and no crate of the product depends on it.
#![forbid(unsafe_code)]
