//! Floating-point arithmetic on elements (SA22-7832, chapter 24).

use crate::op::Entry;

pub(crate) const TABLE: &[Entry] = &[];
