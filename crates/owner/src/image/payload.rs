//! The components: encrypted page by page, digested, written.
//!
//! One thread reads, encrypts and writes; the page list digest, one SHA-512 stream over everything,
//! is the slowest part and runs beside it on a second thread.

use std::io::{Read, Write};
use std::sync::mpsc;

use cloister_crypto::{Aes256Xts, Sha512};
use cloister_formats::s390x::PAGE_SIZE;

use super::Progress;
use super::layout::Placed;
use crate::{ImageError, OwnerError};

/// The three digests of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Digests {
    /// Over the pages as they are unpacked.
    pub(super) pld: [u8; 64],
    /// Over their addresses.
    pub(super) ald: [u8; 64],
    /// Over their tweaks.
    pub(super) tld: [u8; 64],
}

/// Where a component's bytes come from: `size` of its place, then the end.
pub(super) struct Source<'a> {
    pub(super) name: String,
    pub(super) reader: Box<dyn Read + 'a>,
}

/// How the payload is processed.
pub(super) struct Process<'a> {
    /// The components' cipher, or `None` to leave them as they are.
    pub(super) cipher: Option<&'a Aes256Xts>,
    pub(super) threads: usize,
    /// A page of which one bit is flipped after its digest is taken.
    pub(super) flip: Option<u64>,
}

impl Process<'_> {
    /// Writes all components and returns their digests. `write` failures are the caller's to name.
    pub(super) fn run(
        &self,
        components: Vec<(Placed, Source<'_>)>,
        output: &mut dyn Write,
        write_error: &dyn Fn(std::io::Error) -> OwnerError,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Digests, OwnerError> {
        if self.threads <= 1 {
            let mut pld = Sha512::new();
            let mut buffer = vec![0u8; CHUNK];
            let (ald, tld) = self.pages(
                components,
                output,
                write_error,
                progress,
                &mut |chunk| {
                    pld.update(chunk);
                    Some(std::mem::take(chunk))
                },
                &mut buffer,
            )?;
            return Ok(Digests { pld: pld.finish(), ald, tld });
        }
        std::thread::scope(|scope| {
            let (to_hash, hashing) = mpsc::sync_channel::<Vec<u8>>(BUFFERS);
            let (give_back, free) = mpsc::sync_channel::<Vec<u8>>(BUFFERS);
            for _ in 1..BUFFERS {
                // The channel has room for all buffers, and its other end is in this function.
                let _ = give_back.send(vec![0u8; CHUNK]);
            }
            let hasher = scope.spawn(move || {
                let mut pld = Sha512::new();
                for chunk in hashing {
                    pld.update(&chunk);
                    // After the last chunk nobody waits for the buffer.
                    let _ = give_back.send(chunk);
                }
                pld.finish()
            });
            let mut buffer = vec![0u8; CHUNK];
            let result = self.pages(
                components,
                output,
                write_error,
                progress,
                &mut |chunk| {
                    to_hash.send(std::mem::take(chunk)).ok()?;
                    free.recv().ok()
                },
                &mut buffer,
            );
            drop(to_hash);
            let pld = hasher.join().map_err(|_| ImageError::Internal("the digest thread ended early"))?;
            let (ald, tld) = result?;
            Ok(Digests { pld, ald, tld })
        })
    }

    /// Reads, encrypts and writes; `digest` takes each finished chunk and returns the next buffer.
    fn pages(
        &self,
        components: Vec<(Placed, Source<'_>)>,
        output: &mut dyn Write,
        write_error: &dyn Fn(std::io::Error) -> OwnerError,
        progress: &mut dyn FnMut(Progress),
        digest: &mut dyn FnMut(&mut Vec<u8>) -> Option<Vec<u8>>,
        buffer: &mut Vec<u8>,
    ) -> Result<([u8; 64], [u8; 64]), OwnerError> {
        let (mut ald, mut tld) = (Sha512::new(), Sha512::new());
        let total = components.iter().map(|(placed, _)| placed.padded()).sum();
        let mut done = 0u64;
        let mut next_page = 0u64;
        for (placed, mut source) in components {
            let mut left = placed.size;
            let mut offset = 0u64;
            while offset < placed.padded() {
                // Page counts of a chunk fit in usize, so the casts lose nothing.
                let length = (placed.padded() - offset).min(CHUNK as u64) as usize;
                buffer.resize(length, 0);
                let filled = left.min(length as u64) as usize;
                source.fill(&mut buffer[..filled])?;
                buffer[filled..].fill(0);
                left -= filled as u64;
                for page in buffer.as_chunks_mut::<PAGE_SIZE>().0 {
                    let tweak = placed.pref.page_tweak(offset);
                    if let Some(cipher) = self.cipher {
                        cipher.encrypt_page(&tweak, page);
                    }
                    ald.update(&(placed.addr + offset).to_be_bytes());
                    tld.update(&tweak);
                    offset += PAGE_SIZE as u64;
                }
                let pages = (length / PAGE_SIZE) as u64;
                match self.flip.filter(|page| (next_page..next_page + pages).contains(page)) {
                    None => output.write_all(buffer).map_err(write_error)?,
                    Some(page) => {
                        let mut damaged = buffer.clone();
                        damaged[(page - next_page) as usize * PAGE_SIZE + FLIPPED_BYTE] ^= 1;
                        output.write_all(&damaged).map_err(write_error)?;
                    }
                }
                next_page += pages;
                *buffer = digest(buffer).ok_or(ImageError::Internal("the digest thread ended early"))?;
                done += length as u64;
                progress(Progress { done, total });
            }
            source.expect_end()?;
        }
        Ok((ald.finish(), tld.finish()))
    }
}

impl Source<'_> {
    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), OwnerError> {
        self.reader.read_exact(buffer).map_err(|source| match source.kind() {
            std::io::ErrorKind::UnexpectedEof => ImageError::Changed { what: self.name.clone() }.into(),
            _ => OwnerError::Io { action: "read", file: self.name.clone().into(), source },
        })
    }

    fn expect_end(&mut self) -> Result<(), OwnerError> {
        match self.reader.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(ImageError::Changed { what: self.name.clone() }.into()),
            Err(source) => Err(OwnerError::Io { action: "read", file: self.name.clone().into(), source }),
        }
    }
}

/// Small enough to stay in the second-level cache between the cipher and the digest.
const CHUNK: usize = 64 * PAGE_SIZE;
const BUFFERS: usize = 4;
const FLIPPED_BYTE: usize = 100;
