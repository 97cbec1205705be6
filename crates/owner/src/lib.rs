//! The guest owner's tools as a library.
