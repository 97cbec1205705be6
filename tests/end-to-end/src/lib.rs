//! Whole runs of the binary.
