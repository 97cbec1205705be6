//! The rules of the two worlds, checked over cargo metadata.
