//! The audit: no plaintext of a private page in the host's half of memory, at any moment that can matter.
//!
//! It looks at the host's copy of a page at every conversion, at the pages of every device write, and at the
//! whole half when it is told to. A marker may stand in a page that the guest shares: what a page is decides,
//! asked of the Ultravisor's table, and no address is known here. A conversion that shows a marker is judged
//! when the page has become what it becomes: at its next conversion, at the next look, or at the end.

use super::{Host, lock};
use cloister_memory::{ConversionObserver, PageBytes, Representation};
use cloister_silicon_s390x::{PageKind, Silicon};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};

/// Watches a machine for markers.
#[derive(Default)]
pub struct Audit {
    markers: Vec<Vec<u8>>,
    silicon: OnceLock<Weak<Silicon>>,
    state: Mutex<State>,
    conversions: AtomicU64,
    writes: AtomicU64,
    scans: AtomicU64,
}

#[derive(Default)]
struct State {
    /// Pages in which a marker came to the host's sight by a conversion, until it is known what they became.
    undecided: HashMap<u64, (Vec<usize>, &'static str)>,
    /// Pages that were seen with a marker, and its number, while the guest shared them.
    shared: HashSet<(u64, usize)>,
    findings: Vec<Finding>,
}

/// Plaintext where none may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The page.
    pub page: u64,
    /// What the page was then.
    pub kind: Option<PageKind>,
    /// Which look found it.
    pub when: &'static str,
}

impl Audit {
    /// An audit that looks for these byte strings.
    pub fn new(markers: &[&[u8]]) -> Arc<Self> {
        Arc::new(Self { markers: markers.iter().map(|marker| marker.to_vec()).collect(), ..Self::default() })
    }

    /// What was found.
    pub fn findings(&self) -> Vec<Finding> {
        self.decide_all();
        lock(&self.state).findings.clone()
    }

    /// Pages in which the marker with this number was seen while the guest shared them.
    pub fn seen_in_shared_pages(&self, marker: usize) -> usize {
        self.decide_all();
        lock(&self.state).shared.iter().filter(|(_, number)| *number == marker).count()
    }

    /// Conversions looked at.
    pub fn conversions(&self) -> u64 {
        self.conversions.load(Ordering::Relaxed)
    }

    /// Device writes looked at.
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    /// Looks through the whole of the host's half.
    pub fn scan(&self, host: &Host, when: &'static str) {
        self.decide_all();
        self.scans.fetch_add(1, Ordering::Relaxed);
        let mut chunk = vec![0; CHUNK];
        for start in (0..host.size()).step_by(CHUNK) {
            let len = CHUNK.min((host.size() - start) as usize);
            host.read(start, &mut chunk[..len]);
            if chunk[..len].iter().all(|&byte| byte == 0) {
                continue;
            }
            for (index, page) in chunk[..len].chunks(4096).enumerate() {
                self.judge(start / 4096 + index as u64, &self.markers_in(page), when);
            }
        }
    }

    /// How often the whole half was looked through.
    pub fn scans(&self) -> u64 {
        self.scans.load(Ordering::Relaxed)
    }

    pub(super) fn attach(&self, silicon: &Arc<Silicon>) {
        let _ = self.silicon.set(Arc::downgrade(silicon));
    }

    /// After a device's (or loader's) write.
    pub(super) fn wrote(&self, address: u64, len: usize) {
        self.writes.fetch_add(1, Ordering::Relaxed);
        let Some(silicon) = self.silicon() else { return };
        let Some(storage) = silicon.storage() else { return };
        let ram = storage.ram();
        let mut bytes = [0; 4096];
        for page in address / 4096..(address + len as u64).div_ceil(4096).min(storage.pages()) {
            let Some(offset) = storage.host_offset(page) else { continue };
            ram.copy_out(offset, &mut bytes);
            self.judge(page, &self.markers_in(&bytes), "a device write");
        }
    }

    fn markers_in(&self, bytes: &[u8]) -> Vec<usize> {
        let found = |(number, marker): (usize, &Vec<u8>)| find(bytes, marker).map(|_| number);
        self.markers.iter().enumerate().filter_map(found).collect()
    }

    fn silicon(&self) -> Option<Arc<Silicon>> {
        self.silicon.get()?.upgrade()
    }

    /// Markers in the host's copy of a page: what the page is decides.
    fn judge(&self, page: u64, markers: &[usize], when: &'static str) {
        if markers.is_empty() {
            return;
        }
        let kind = self.silicon().and_then(|silicon| silicon.page_kind(page));
        let mut state = lock(&self.state);
        match kind {
            Some(PageKind::Shared | PageKind::PinnedShared) => {
                state.shared.extend(markers.iter().map(|marker| (page, *marker)));
            }
            kind => state.findings.push(Finding { page, kind, when }),
        }
    }

    fn decide_all(&self) {
        let undecided = std::mem::take(&mut lock(&self.state).undecided);
        for (page, (markers, when)) in undecided {
            self.judge(page, &markers, when);
        }
    }
}

impl ConversionObserver for Audit {
    fn converted(&self, page: u64, from: Representation, to: Representation, host_copy: &PageBytes) {
        self.conversions.fetch_add(1, Ordering::Relaxed);
        // The Ultravisor's table still says what the page was.
        let earlier = lock(&self.state).undecided.remove(&page);
        if let Some((markers, when)) = earlier {
            self.judge(page, &markers, when);
        }
        match to {
            Representation::Plain | Representation::Absent => {
                if host_copy.iter().any(|&byte| byte != 0) {
                    let kind = self.silicon().and_then(|silicon| silicon.page_kind(page));
                    lock(&self.state).findings.push(Finding {
                        page,
                        kind,
                        when: "a page that was not scrubbed",
                    });
                }
            }
            Representation::Raw | Representation::Both => {
                let when = if from == Representation::Raw { "a conversion in place" } else { "a conversion" };
                let markers = self.markers_in(host_copy);
                if !markers.is_empty() {
                    lock(&self.state).undecided.insert(page, (markers, when));
                }
            }
        }
    }
}

/// Where `needle` begins.
pub fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    let (&first, rest) = needle.split_first()?;
    let mut from = 0;
    while let Some(at) = bytes.get(from..)?.iter().position(|&byte| byte == first) {
        let at = from + at;
        if bytes[at + 1..].starts_with(rest) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

const CHUNK: usize = 1 << 20;
