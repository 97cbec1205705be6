//! Reading and writing big-endian fields at fixed offsets.

/// Why bytes are not a valid instance of a format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The data end before the format does.
    #[error("{what} is too short: it needs {need} bytes, there are {have}")]
    TooShort {
        /// The format.
        what: &'static str,
        /// Bytes needed.
        need: usize,
        /// Bytes present.
        have: usize,
    },
    /// The data do not start as the format does.
    #[error("this is no {what}: it does not begin with {expected}")]
    Magic {
        /// The format.
        what: &'static str,
        /// The expected magic, as text.
        expected: &'static str,
    },
    /// A version that is not known.
    #[error("{what} has version {found:#x}; only {supported:#x} is known")]
    Version {
        /// The format.
        what: &'static str,
        /// The version found.
        found: u32,
        /// The version known.
        supported: u32,
    },
    /// A field breaks a rule of its format.
    #[error("{what}: field {field} is {found:#x}, but {rule}")]
    Field {
        /// The format.
        what: &'static str,
        /// The field.
        field: &'static str,
        /// Its value.
        found: u64,
        /// The rule, as the end of a sentence.
        rule: &'static str,
    },
}

/// A value of fixed size in big-endian form.
pub(crate) trait Field: Sized {
    const SIZE: usize;
    /// Reads from exactly `SIZE` bytes.
    fn get(bytes: &[u8]) -> Self;
    /// Writes to exactly `SIZE` bytes.
    fn put(&self, bytes: &mut [u8]);
}

macro_rules! integer_fields {
    ($($type:ty),*) => {$(
        impl Field for $type {
            const SIZE: usize = size_of::<$type>();

            fn get(bytes: &[u8]) -> Self {
                bytes.iter().fold(0, |value, &byte| (value << (8 % <$type>::BITS)) | <$type>::from(byte))
            }

            fn put(&self, bytes: &mut [u8]) {
                bytes.copy_from_slice(&self.to_be_bytes());
            }
        }
    )*};
}

integer_fields!(u8, u16, u32, u64);

impl<F: Field + Copy + Default, const N: usize> Field for [F; N] {
    const SIZE: usize = F::SIZE * N;

    fn get(bytes: &[u8]) -> Self {
        let mut out = [F::default(); N];
        for (slot, part) in out.iter_mut().zip(bytes.chunks_exact(F::SIZE)) {
            *slot = F::get(part);
        }
        out
    }

    fn put(&self, bytes: &mut [u8]) {
        for (value, part) in self.iter().zip(bytes.chunks_exact_mut(F::SIZE)) {
            value.put(part);
        }
    }
}

/// Checks that `bytes` has at least `need` bytes.
pub(crate) fn need(what: &'static str, bytes: &[u8], need: usize) -> Result<(), Error> {
    if bytes.len() < need { Err(Error::TooShort { what, need, have: bytes.len() }) } else { Ok(()) }
}

/// Reads the field at `offset`; the caller has checked the size with [`need`].
pub(crate) fn get<F: Field>(bytes: &[u8], offset: usize) -> F {
    F::get(&bytes[offset..offset + F::SIZE])
}

/// Writes the field at `offset` of a buffer that the encoder made large enough.
pub(crate) fn put<F: Field>(bytes: &mut [u8], offset: usize, value: &F) {
    value.put(&mut bytes[offset..offset + F::SIZE]);
}

/// Appends a field.
pub(crate) fn push<F: Field>(bytes: &mut Vec<u8>, value: &F) {
    let at = bytes.len();
    bytes.resize(at + F::SIZE, 0);
    put(bytes, at, value);
}
