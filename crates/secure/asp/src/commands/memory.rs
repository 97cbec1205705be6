//! Debugging, moving and swapping the memory of a guest.

use cloister_crypto::{Aes256Gcm, GCM_IV_SIZE};
use cloister_formats::sev::command::{CopyMemory, DebugCopy, Mdata, PageBits, SwapIn, SwapOut};
use cloister_formats::sev::policy::Policy;
use cloister_formats::sev::status::Status;
use zeroize::Zeroizing;

use super::fields;
use crate::asp::{Asp, Outcome, Up};
use crate::bus::{Bus, aligned, demand, overlap};
use crate::engine::MemoryCipher;
use crate::guest::{Guest, find};
use crate::table::{GuestOp, Op};

/// Bytes that are moved at a time.
const CHUNK: u64 = 4096;

impl Asp {
    pub(crate) fn dbg_decrypt(&mut self, buffer: &[u8], bus: &Bus<'_>) -> Outcome {
        self.debug(buffer, bus, Op::DbgDecrypt, |cipher, src, _, bytes| cipher.decrypt(src, bytes))
    }

    pub(crate) fn dbg_encrypt(&mut self, buffer: &[u8], bus: &Bus<'_>) -> Outcome {
        self.debug(buffer, bus, Op::DbgEncrypt, |cipher, _, dst, bytes| cipher.encrypt(dst, bytes))
    }

    fn debug(
        &mut self,
        buffer: &[u8],
        bus: &Bus<'_>,
        op: Op,
        change: impl Fn(&MemoryCipher, u64, u64, &mut [u8]),
    ) -> Outcome {
        let debug = fields(DebugCopy::parse(buffer))?;
        self.may(op)?;
        aligned(debug.src_paddr, 16)?;
        aligned(debug.dst_paddr, 16)?;
        demand(debug.len.is_multiple_of(16), Status::INVALID_LENGTH)?;
        let guest = find(&mut Up::of(&mut self.up)?.guests, debug.handle)?;
        guest.next(GuestOp::Debug)?;
        demand(!guest.policy.has(Policy::NODBG), Status::POLICY_FAILURE)?;
        guest.asid()?;
        move_bytes(bus, (debug.src_paddr, debug.dst_paddr), debug.len.into(), |src, dst, bytes| {
            change(&guest.cipher, src, dst, bytes);
        })
    }

    pub(crate) fn copy(&mut self, buffer: &[u8], bus: &Bus<'_>) -> Outcome {
        let copy = fields(CopyMemory::parse(buffer))?;
        self.may(Op::Copy)?;
        let guest = find(&mut Up::of(&mut self.up)?.guests, copy.handle)?;
        guest.next(GuestOp::Copy)?;
        guest.asid()?;
        demand(copy.len != 0 && copy.len.is_multiple_of(4096), Status::INVALID_LENGTH)?;
        aligned(copy.src_paddr, 4096)?;
        aligned(copy.dst_paddr, 4096)?;
        let (src, dst) = (bus.range(copy.src_paddr, CHUNK)?, bus.range(copy.dst_paddr, CHUNK)?);
        if src == dst {
            return Ok(());
        }
        move_bytes(bus, (copy.src_paddr, copy.dst_paddr), copy.len.into(), |src, dst, bytes| {
            guest.cipher.decrypt(src, bytes);
            guest.cipher.encrypt(dst, bytes);
        })
    }

    pub(crate) fn swap_out(&mut self, buffer: &[u8], bus: &Bus<'_>) -> Outcome {
        let swap = fields(SwapOut::parse(buffer))?;
        self.may(Op::SwapOut)?;
        let pages = Pages::new(bus, swap.bits, [swap.src_paddr, swap.dst_paddr, swap.mdata_paddr])?;
        demand(!overlap(&pages.src, &pages.dst), Status::INVALID_PARAM)?;
        let vmsa = swap.bits.page_type() == PageBits::VMSA;
        demand(vmsa || swap.bits.page_type() == PageBits::DATA, Status::INVALID_PARAM)?;
        demand(!vmsa || pages.size == 4096, Status::INVALID_PARAM)?;
        let Up { guests, pool, .. } = Up::of(&mut self.up)?;
        let guest = active(guests, swap.handle)?;
        demand(guest.swapped < u64::MAX - 1, Status::AEAD_OFLOW)?;
        let mut page = Zeroizing::new(bus.read(pages.src.start, pages.size)?);
        guest.cipher.decrypt(pages.src.start, &mut page);
        let is_vmsa = <&[u8; 4096]>::try_from(&page[..]).is_ok_and(|page| pool.knows(swap.handle, page));
        demand(is_vmsa == vmsa, Status::INVALID_PARAM)?;
        guest.swapped += 1;
        let mut mdata = Mdata {
            software_data: swap.software_data,
            iv: guest.swapped,
            bits: swap.bits.size_and_type(),
            ..Mdata::default()
        };
        let cipher = Aes256Gcm::new(&guest.swap_key);
        let sealed = cipher.seal(&gcm_iv(mdata.iv), &mdata.encode(), &mut page);
        mdata.tag = sealed.map_err(|_| Status::INVALID_LENGTH)?;
        bus.write(pages.dst.start, &page)?;
        bus.write(pages.mdata, &mdata.encode())
    }

    pub(crate) fn swap_in(&mut self, buffer: &[u8], bus: &Bus<'_>) -> Outcome {
        let swap = fields(SwapIn::parse(buffer))?;
        self.may(Op::SwapIn)?;
        let pages = Pages::new(bus, swap.bits, [swap.src_paddr, swap.dst_paddr, swap.mdata_paddr])?;
        let in_place = swap.bits.0 & PageBits::IN_PLACE != 0;
        let fits = if in_place { pages.src == pages.dst } else { !overlap(&pages.src, &pages.dst) };
        demand(fits, Status::INVALID_PARAM)?;
        let mdata = bus.read(pages.mdata, Mdata::SIZE)?;
        let mdata = fields(Mdata::parse(&mdata))?;
        demand(mdata.bits == swap.bits.size_and_type(), Status::INVALID_PARAM)?;
        let guest = active(&mut Up::of(&mut self.up)?.guests, swap.handle)?;
        let mut page = Zeroizing::new(bus.read(pages.src.start, pages.size)?);
        let covered = Mdata { tag: [0; 16], ..mdata }.encode();
        Aes256Gcm::new(&guest.swap_key)
            .open(&gcm_iv(mdata.iv), &covered, &mut page, &mdata.tag)
            .map_err(|_| Status::BAD_MEASUREMENT)?;
        guest.cipher.encrypt(pages.dst.start, &mut page);
        bus.write(pages.dst.start, &page)
    }
}

/// The addresses of a swap, which have passed the tests that both directions share.
struct Pages {
    size: usize,
    src: std::ops::Range<u64>,
    dst: std::ops::Range<u64>,
    mdata: u64,
}

impl Pages {
    fn new(bus: &Bus<'_>, bits: PageBits, [src, dst, mdata]: [u64; 3]) -> Result<Self, Status> {
        let size = bits.page_size();
        let (src, dst) = (bus.range(src, size as u64)?, bus.range(dst, size as u64)?);
        let entry = bus.range(mdata, Mdata::SIZE as u64)?;
        aligned(src.start, size as u64)?;
        aligned(dst.start, size as u64)?;
        aligned(entry.start, Mdata::SIZE as u64)?;
        demand(!overlap(&entry, &src) && !overlap(&entry, &dst), Status::INVALID_PARAM)?;
        Ok(Self { size, src, dst, mdata: entry.start })
    }
}

/// The guest of a swap: one that cores may run.
fn active(guests: &mut crate::guest::Guests, handle: u32) -> Result<&mut Guest, Status> {
    let guest = find(guests, handle)?;
    guest.next(GuestOp::Swap)?;
    demand(!guest.asid()?.pending, Status::INACTIVE)?;
    Ok(guest)
}

/// The counter is little-endian at the start of the initial value.
fn gcm_iv(counter: u64) -> [u8; GCM_IV_SIZE] {
    let mut iv = [0; GCM_IV_SIZE];
    iv[..8].copy_from_slice(&counter.to_le_bytes());
    iv
}

/// Moves bytes upwards, in chunks, through `change(source address, destination address, bytes)`.
fn move_bytes(
    bus: &Bus<'_>,
    (src, dst): (u64, u64),
    len: u64,
    change: impl Fn(u64, u64, &mut [u8]),
) -> Outcome {
    let (src, dst) = (bus.range(src, len)?, bus.range(dst, len)?);
    let mut chunk = Zeroizing::new([0; CHUNK as usize]);
    let mut at = 0;
    while at < len {
        let part = &mut chunk[..(len - at).min(CHUNK) as usize];
        let (from, to) = (src.start + at, dst.start + at);
        bus.read_into(from, part)?;
        change(from, to, part);
        bus.write(to, part)?;
        at += part.len() as u64;
    }
    Ok(())
}
