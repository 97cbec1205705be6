//! Device numbers of the channel subsystem as users write them: `fe.0.1234`.
//!
//! Not the subchannel numbers that a guest sees: the channel subsystem assigns those.

use std::fmt;
use std::str::FromStr;

/// A device number with its channel subsystem image and subchannel set (z/Architecture Principles of Operation,
/// SA22-7832, chapter 13, "I/O Addressing").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceNumber {
    cssid: u8,
    ssid: u8,
    number: u16,
}

impl DeviceNumber {
    /// A device number; subchannel sets are 0 to 3.
    pub fn new(cssid: u8, ssid: u8, number: u16) -> Option<Self> {
        (ssid <= 3).then_some(Self { cssid, ssid, number })
    }

    /// The channel subsystem image; 0xfe holds QEMU's virtual devices.
    pub fn cssid(self) -> u8 {
        self.cssid
    }

    /// The subchannel set.
    pub fn ssid(self) -> u8 {
        self.ssid
    }

    /// The device number within its subchannel set.
    pub fn number(self) -> u16 {
        self.number
    }

    /// Read `cssid.ssid.number`, all hexadecimal, the number with four digits; the ranges are not checked.
    pub(crate) fn split(text: &str) -> Option<(u8, u8, u16)> {
        let mut parts = text.split('.');
        let (cssid, ssid, number) = (parts.next()?, parts.next()?, parts.next()?);
        let hex = |part: &str, lengths: std::ops::RangeInclusive<usize>| {
            lengths.contains(&part.len()) && part.bytes().all(|b| b.is_ascii_hexdigit())
        };
        if parts.next().is_some() || !hex(cssid, 1..=2) || !hex(ssid, 1..=1) || !hex(number, 4..=4) {
            return None;
        }
        Some((
            u8::from_str_radix(cssid, 16).ok()?,
            u8::from_str_radix(ssid, 16).ok()?,
            u16::from_str_radix(number, 16).ok()?,
        ))
    }
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}.{:x}.{:04x}", self.cssid, self.ssid, self.number)
    }
}

impl FromStr for DeviceNumber {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (cssid, ssid, number) = Self::split(text).ok_or(())?;
        Self::new(cssid, ssid, number).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn device_numbers_have_four_digits() {
        assert!("fe.0.0012".parse::<DeviceNumber>().is_ok());
        for bad in ["fe.0.12", "fe.0.12345", "fe.4.0001", "foo", "fe.0", "fe.0.0001.1", ""] {
            assert!(bad.parse::<DeviceNumber>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_printed_device_number_is_read_back(cssid: u8, ssid in 0..4u8, number: u16) {
            let number = DeviceNumber::new(cssid, ssid, number).unwrap();
            prop_assert_eq!(number.to_string().parse(), Ok(number));
        }
    }
}
