//! Reading and writing little-endian fields at fixed offsets.

/// A value of fixed size in little-endian form.
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
                bytes.iter().rev().fold(0, |value, &byte| (value << (8 % <$type>::BITS)) | <$type>::from(byte))
            }

            fn put(&self, bytes: &mut [u8]) {
                bytes.copy_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}

integer_fields!(u8, u16, u32, u64);

impl<const N: usize> Field for [u8; N] {
    const SIZE: usize = N;

    fn get(bytes: &[u8]) -> Self {
        let mut out = [0; N];
        out.copy_from_slice(bytes);
        out
    }

    fn put(&self, bytes: &mut [u8]) {
        bytes.copy_from_slice(self);
    }
}

/// Reads the field at `offset`; the caller has checked the size.
pub(crate) fn get<F: Field>(bytes: &[u8], offset: usize) -> F {
    F::get(&bytes[offset..offset + F::SIZE])
}

/// Writes the field at `offset` of a buffer that is large enough.
pub(crate) fn put<F: Field>(bytes: &mut [u8], offset: usize, value: &F) {
    value.put(&mut bytes[offset..offset + F::SIZE]);
}

/// A newtype over an integer is a field like the integer.
macro_rules! newtype_field {
    ($type:ident, $inner:ty) => {
        impl crate::sev::layout::Field for $type {
            const SIZE: usize = <$inner as crate::sev::layout::Field>::SIZE;

            fn get(bytes: &[u8]) -> Self {
                Self(<$inner as crate::sev::layout::Field>::get(bytes))
            }

            fn put(&self, bytes: &mut [u8]) {
                crate::sev::layout::Field::put(&self.0, bytes);
            }
        }
    };
}

/// A structure of fixed size with fields at fixed offsets. Bytes between the fields are reserved: [`parse`] ignores
/// them, `encode` gives zeros there, `write_to` leaves them as they are.
macro_rules! layout {
    ($(
        $(#[$meta:meta])*
        $name:ident, $size:literal, $what:literal { $($(#[$field_meta:meta])* $field:ident: $type:ty = $offset:literal,)* }
    )*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
        }

        impl $name {
            /// Bytes of the structure.
            pub const SIZE: usize = $size;

            /// Reads the structure from the start of `bytes`.
            ///
            /// # Errors
            /// If there are fewer than [`Self::SIZE`] bytes.
            pub fn parse(bytes: &[u8]) -> Result<Self, crate::Error> {
                crate::codec::need($what, bytes, Self::SIZE)?;
                Ok(Self { $($field: crate::sev::layout::get(bytes, $offset),)* })
            }

            /// The bytes, with zeros where nothing is defined.
            pub fn encode(&self) -> [u8; $size] {
                let mut out = [0; $size];
                $(crate::sev::layout::put(&mut out, $offset, &self.$field);)*
                out
            }

            /// Writes the fields to the start of `bytes` and leaves what is reserved as it is.
            ///
            /// # Errors
            /// If there are fewer than [`Self::SIZE`] bytes.
            pub fn write_to(&self, bytes: &mut [u8]) -> Result<(), crate::Error> {
                crate::codec::need($what, bytes, Self::SIZE)?;
                $(crate::sev::layout::put(bytes, $offset, &self.$field);)*
                Ok(())
            }
        }

        impl Default for $name {
            /// All fields zero.
            fn default() -> Self {
                let zeros = [0; $size];
                Self { $($field: crate::sev::layout::get(&zeros, $offset),)* }
            }
        }

        const _: () = {
            // Fields ascend, do not overlap, and fit.
            let mut end = 0;
            $(
                assert!(end <= $offset);
                end = $offset + <$type as crate::sev::layout::Field>::SIZE;
            )*
            assert!(end <= $size);
        };
    )*};
}

pub(crate) use {layout, newtype_field};
