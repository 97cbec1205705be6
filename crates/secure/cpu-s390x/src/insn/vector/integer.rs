//! Integer arithmetic, comparison and shifts (SA22-7832, chapter 22).

use crate::op::Entry;

pub(crate) const TABLE: &[Entry] = &[];
