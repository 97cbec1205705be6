//! Architecture vocabulary that both doors speak: plain data, no behaviour.
//!
//! Everything here crosses a door, so everything here serialises. It is not a place for guest memory,
//! keys or logic: a type that needs a method with side effects belongs to one of the two worlds.
#![forbid(unsafe_code)]

pub mod pages;
pub mod profile;
pub mod s390x;
pub mod x86_64;
