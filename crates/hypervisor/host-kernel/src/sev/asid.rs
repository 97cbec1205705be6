//! ASIDs: the numbers by which cores find a guest's key. Guests with SEV-ES have the low ones.
//!
//! An ASID that is given back has been flushed by then and may be used at once.

use cloister_firmware_api::Sev;
use std::collections::BTreeSet;
use std::ops::Range;

#[derive(Default)]
pub(crate) struct Asids {
    min_sev: u32,
    max: u32,
    used: BTreeSet<u32>,
}

impl Asids {
    pub(crate) fn new(sev: Option<Sev>) -> Self {
        let sev = sev.unwrap_or_default();
        Self { min_sev: sev.min_sev_asid, max: sev.max_asid, used: BTreeSet::new() }
    }

    /// The lowest free one.
    pub(crate) fn take(&mut self, es: bool) -> Option<u32> {
        let asid = self.range(es).find(|asid| !self.used.contains(asid))?;
        self.used.insert(asid);
        Some(asid)
    }

    pub(crate) fn free(&mut self, asid: u32) {
        self.used.remove(&asid);
    }

    fn range(&self, es: bool) -> Range<u32> {
        match es {
            true => 1..self.min_sev.min(self.max.saturating_add(1)),
            false => self.min_sev.max(1)..self.max.saturating_add(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_with_es_have_the_low_numbers() {
        let mut asids = Asids::new(Some(Sev { max_asid: 5, min_sev_asid: 3, es: true, ..Sev::default() }));
        let mut take = |es| std::iter::from_fn(|| asids.take(es)).collect::<Vec<_>>();
        assert_eq!(take(true), [1, 2]);
        assert_eq!(take(false), [3, 4, 5]);
        asids.free(4);
        asids.free(1);
        assert_eq!((asids.take(false), asids.take(false)), (Some(4), None));
        assert_eq!((asids.take(true), asids.take(true)), (Some(1), None));
    }

    #[test]
    fn without_sev_there_are_none() {
        let mut asids = Asids::new(None);
        assert_eq!((asids.take(true), asids.take(false)), (None, None));
    }

    #[test]
    fn without_es_all_numbers_are_for_sev() {
        let mut asids = Asids::new(Some(Sev { max_asid: 2, min_sev_asid: 1, ..Sev::default() }));
        assert_eq!((asids.take(true), asids.take(false), asids.take(false)), (None, Some(1), Some(2)));
    }
}
