//! Memory for host code.

use crate::error::Error;
use crate::translate::lock;
use memmap2::{Mmap, MmapMut, MmapOptions};
use std::fs::File;
use std::sync::{Arc, Mutex};

/// Code and the operations that it refers to. It lives as long as a CPU may run it.
pub(crate) struct Arena<O> {
    run: Mmap,
    filling: Mutex<Filling<O>>,
}

/// One file, mapped twice: code is written through one mapping and run through the other, so that no mapping is both
/// writable and executable.
struct Filling<O> {
    write: MmapMut,
    used: usize,
    ops: Vec<Arc<[O]>>,
}

impl<O> Arena<O> {
    pub(crate) fn new(len: usize) -> Result<Self, Error> {
        let fd = rustix::fs::memfd_create("cloister-code", rustix::fs::MemfdFlags::CLOEXEC)
            .map_err(|why| Error::Map(why.into()))?;
        let file = File::from(fd);
        file.set_len(len as u64).map_err(Error::Map)?;
        // SAFETY: nobody else has the file, so that it is neither shortened nor changed but through `write`.
        let write = unsafe { MmapOptions::new().len(len).map_mut(&file) }.map_err(Error::Map)?;
        // SAFETY: as above; what was handed out of it is not written again.
        let run = unsafe { MmapOptions::new().len(len).map_exec(&file) }.map_err(Error::Map)?;
        Ok(Self { run, filling: Mutex::new(Filling { write, used: 0, ops: Vec::new() }) })
    }

    /// Adds code, and keeps what it refers to; its address.
    pub(crate) fn add(&self, code: &[u8], ops: impl IntoIterator<Item = Arc<[O]>>) -> Result<usize, Error> {
        let mut filling = lock(&self.filling);
        let start = filling.used.next_multiple_of(32);
        let place = filling.write.get_mut(start..start + code.len()).ok_or(Error::Full)?;
        place.copy_from_slice(code);
        filling.used = start + code.len();
        filling.ops.extend(ops);
        // x86 keeps instruction fetches coherent with stores, also through another mapping; a CPU learns of the
        // address through a lock.
        Ok(self.run.as_ptr() as usize + start)
    }

    /// Bytes of code.
    pub(crate) fn used(&self) -> usize {
        lock(&self.filling).used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_mapping_for_code_is_both_writable_and_executable() {
        let arena = Arena::<u8>::new(1 << 16).unwrap();
        let address = arena.add(&[0xc3], []).unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let ours: Vec<&str> = maps.lines().filter(|line| line.contains("cloister-code")).collect();
        assert!(ours.len() >= 2, "{maps}");
        for line in &ours {
            let rights = line.split_whitespace().nth(1).unwrap();
            assert!(!(rights.contains('w') && rights.contains('x')), "{line}");
        }
        let start = format!("{:x}", arena.run.as_ptr() as usize);
        assert!(ours.iter().any(|line| line.starts_with(&start) && line.contains(" r-x")), "{maps}");
        assert_eq!(address, arena.run.as_ptr() as usize);
        assert!(matches!(arena.add(&[0; 1 << 16], []), Err(Error::Full)));
    }
}
