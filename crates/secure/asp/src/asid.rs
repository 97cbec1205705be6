//! ASIDs: which are taken, and which may still have lines of an earlier guest in a cache.

use cloister_formats::sev::status::Status;

/// What one core complex knows of one ASID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Clean,
    Allocated,
    Running,
    Dirty,
}

/// All ASIDs on all core complexes, and which cores have executed WBINVD.
#[derive(Debug)]
pub(crate) struct Asids {
    /// By ASID, then by core complex. ASID 0 is the host's.
    uses: Vec<Vec<Use>>,
    /// By core complex, then by core in it.
    wbinvd: Vec<Vec<bool>>,
}

impl Asids {
    pub(crate) fn new(last: u32, complexes: u32, cores: u32) -> Self {
        Self {
            uses: vec![vec![Use::Dirty; complexes as usize]; last as usize + 1],
            wbinvd: vec![vec![false; cores as usize]; complexes as usize],
        }
    }

    /// INIT: nothing is known to be clean.
    pub(crate) fn forget(&mut self) {
        self.uses.iter_mut().flatten().for_each(|used| *used = Use::Dirty);
        self.wbinvd.iter_mut().flatten().for_each(|done| *done = false);
    }

    /// The last ASID.
    pub(crate) const fn last(&self) -> u32 {
        self.uses.len() as u32 - 1
    }

    /// The number of cores.
    pub(crate) fn cores(&self) -> usize {
        self.wbinvd.iter().map(Vec::len).sum()
    }

    /// A core executed WBINVD.
    pub(crate) fn wbinvd(&mut self, core: usize) {
        if let Some(done) = self.wbinvd.iter_mut().flatten().nth(core) {
            *done = true;
        }
    }

    pub(crate) fn is_owned(&self, asid: u32) -> bool {
        self.row(asid).iter().any(|used| matches!(used, Use::Allocated | Use::Running))
    }

    pub(crate) fn is_dirty(&self, asid: u32) -> bool {
        self.row(asid).contains(&Use::Dirty)
    }

    pub(crate) fn is_clean(&self, asid: u32) -> bool {
        self.row(asid).iter().all(|used| *used == Use::Clean)
    }

    /// Takes an ASID on the complexes of `cores`, or on all.
    pub(crate) fn allocate(&mut self, asid: u32, cores: Option<&[u32]>) {
        let complexes: Vec<usize> = match cores {
            None => (0..self.wbinvd.len()).collect(),
            Some(cores) => cores.iter().filter_map(|&core| self.complex_of(core as usize)).collect(),
        };
        if let Some(row) = self.uses.get_mut(asid as usize) {
            complexes.into_iter().for_each(|complex| row[complex] = Use::Allocated);
        }
    }

    /// A core ran the guest with this ASID.
    pub(crate) fn ran(&mut self, asid: u32, core: usize) {
        let Some(complex) = self.complex_of(core) else { return };
        if let Some(used @ Use::Allocated) = self.uses.get_mut(asid as usize).map(|row| &mut row[complex]) {
            *used = Use::Running;
        }
    }

    /// Gives an ASID back. Where the guest has run, caches have to be written back before it is clean.
    pub(crate) fn release(&mut self, asid: u32) {
        let Some(row) = self.uses.get_mut(asid as usize) else { return };
        for (used, wbinvd) in row.iter_mut().zip(&mut self.wbinvd) {
            match used {
                Use::Allocated => *used = Use::Clean,
                Use::Running => {
                    *used = Use::Dirty;
                    wbinvd.fill(false);
                }
                Use::Clean | Use::Dirty => {}
            }
        }
    }

    /// DF_FLUSH: cleans what can be cleaned, and says whether that was everything.
    pub(crate) fn flush(&mut self) -> Result<(), Status> {
        for (complex, cores) in self.wbinvd.iter().enumerate() {
            if cores.iter().all(|&done| done) {
                for row in &mut self.uses {
                    if row[complex] == Use::Dirty {
                        row[complex] = Use::Clean;
                    }
                }
            }
        }
        if self.wbinvd.iter().flatten().all(|&done| done) { Ok(()) } else { Err(Status::WBINVD_REQUIRED) }
    }

    fn row(&self, asid: u32) -> &[Use] {
        self.uses.get(asid as usize).map_or(&[], Vec::as_slice)
    }

    fn complex_of(&self, core: usize) -> Option<usize> {
        let mut first = 0;
        self.wbinvd.iter().position(|cores| {
            first += cores.len();
            core < first
        })
    }
}
