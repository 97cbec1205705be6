//! String instructions (SA22-7832, chapter 23).

use crate::op::Entry;

pub(crate) const TABLE: &[Entry] = &[];
