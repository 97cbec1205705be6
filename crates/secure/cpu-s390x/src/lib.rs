//! A z/Architecture core.
