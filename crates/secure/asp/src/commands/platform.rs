//! Commands that concern the platform and its keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use cloister_formats::sev::certificate::{Certificate, Usage};
use cloister_formats::sev::command::{
    DownloadFirmware, GetId, Init, InitEx, PdhCertExport, PekCertImport, PekCsr, PlatformStatus,
};
use cloister_formats::sev::status::Status;

use super::fields;
use crate::asp::{Area, Asp, Outcome, Up};
use crate::bus::{Bus, aligned, demand, overlap};
use crate::certs::{Key, verify};
use crate::engine::Tweaks;
use crate::guest::Pool;
use crate::store::{Keys, STORE_SIZE, Stored};
use crate::table::{Op, Platform};

const CERTIFICATE: u32 = Certificate::SIZE as u32;
/// PEK, OCA and CEK.
const CHAIN: u32 = 3 * CERTIFICATE;
/// Bytes of the trusted memory region, and what its address is a multiple of.
const TMR_SIZE: u32 = 1 << 20;
/// Bytes of an identity for each socket.
const ID_SIZE: u32 = 64;

/// INIT and INIT_EX in one form.
struct Start {
    flags: u16,
    reserved_is_zero: bool,
    tmr_paddr: u64,
    tmr_len: u32,
    /// INIT_EX: length, address and length of the area.
    ex: Option<(u32, u64, u32)>,
}

impl Asp {
    pub(crate) fn init(&mut self, buffer: &[u8], bus: &Bus<'_>) -> Outcome {
        let Init { flags, reserved, tmr_paddr, tmr_len } = fields(Init::parse(buffer))?;
        let start = Start { flags, reserved_is_zero: reserved == [0; 6], tmr_paddr, tmr_len, ex: None };
        self.may(Op::Init)?;
        self.start(&start, bus)
    }

    pub(crate) fn init_ex(&mut self, buffer: &[u8], bus: &Bus<'_>) -> Outcome {
        let init = fields(InitEx::parse(buffer))?;
        let start = Start {
            flags: init.flags,
            reserved_is_zero: init.reserved == 0 && init.reserved2 == 0,
            tmr_paddr: init.tmr_paddr,
            tmr_len: init.tmr_len,
            ex: Some((init.length, init.nv_paddr, init.nv_len)),
        };
        self.may(Op::InitEx)?;
        self.start(&start, bus)
    }

    fn start(&mut self, start: &Start, bus: &Bus<'_>) -> Outcome {
        demand(self.config.memory_encryption, Status::HWERROR_PLATFORM)?;
        let known_flags = if self.config.es { Init::ES } else { 0 };
        demand(start.reserved_is_zero && start.flags & !known_flags == 0, Status::INVALID_CONFIG)?;
        let mut area = Area::Flash;
        if let Some((length, nv_paddr, nv_len)) = start.ex {
            demand(length == InitEx::SIZE as u32, Status::INVALID_LENGTH)?;
            aligned(nv_paddr, 4096)?;
            if nv_paddr != 0 {
                demand(nv_len == STORE_SIZE as u32, Status::INVALID_LENGTH)?;
                area = Area::Host(nv_paddr);
            }
        }
        let keys = self.load_keys(area, bus)?;
        self.asids.forget();
        let es = start.flags & Init::ES != 0;
        let mut tmr = None;
        if es {
            // The two are compared before the region is looked at.
            let region = start.tmr_paddr..start.tmr_paddr.saturating_add(start.tmr_len.into());
            if let Area::Host(nv_paddr) = area {
                let nv = nv_paddr..nv_paddr.saturating_add(STORE_SIZE as u64);
                demand(!overlap(&region, &nv), Status::INVALID_ADDRESS)?;
            }
            aligned(start.tmr_paddr, TMR_SIZE.into())?;
            demand(start.tmr_len == TMR_SIZE, Status::INVALID_LENGTH)?;
            tmr = Some(bus.range(start.tmr_paddr, TMR_SIZE.into())?);
        }
        let tweaks = Arc::new(Tweaks::draw(&mut *self.entropy));
        self.up = Some(Up { es, keys, area, tmr, pool: Pool::default(), tweaks, guests: BTreeMap::new() });
        Ok(())
    }

    /// The keys of the area; those that are missing are made and saved.
    fn load_keys(&mut self, area: Area, bus: &Bus<'_>) -> Result<Keys, Status> {
        let bytes = match area {
            Area::Flash => self.flash.clone().unwrap_or_default(),
            Area::Host(paddr) => bus.read(paddr, STORE_SIZE)?,
        };
        let stored = match Stored::open(&bytes, &self.identity) {
            Ok(stored) => stored,
            Err(status) => {
                if let Area::Host(paddr) = area {
                    bus.write(paddr, &[0xff; STORE_SIZE])?;
                }
                return Err(status);
            }
        };
        let api = self.api();
        let (keys, made) = stored.complete(&self.identity, api, &mut *self.entropy);
        if made {
            self.save_keys(&keys, area, bus)?;
        }
        Ok(keys)
    }

    fn save_keys(&mut self, keys: &Keys, area: Area, bus: &Bus<'_>) -> Outcome {
        let bytes = keys.seal(&self.identity, &mut *self.entropy);
        match area {
            Area::Flash => {
                self.flash = Some(bytes);
                self.flash_changed = true;
                Ok(())
            }
            Area::Host(paddr) => bus.write(paddr, &bytes),
        }
    }

    /// Saves other keys and takes them into use; if they cannot be saved, the old ones stay.
    fn replace_keys(&mut self, keys: Keys, bus: &Bus<'_>) -> Outcome {
        let area = Up::of(&mut self.up)?.area;
        self.save_keys(&keys, area, bus)?;
        Up::of(&mut self.up)?.keys = keys;
        Ok(())
    }

    pub(crate) fn shutdown(&mut self) -> Outcome {
        self.may(Op::Shutdown)?;
        if let Some(up) = self.up.take() {
            for guest in up.guests.values() {
                if let Some(asid) = guest.asid {
                    self.asids.release(asid.number);
                }
            }
        }
        Ok(())
    }

    pub(crate) fn platform_reset(&mut self) -> Outcome {
        self.may(Op::PlatformReset)?;
        self.flash = None;
        self.flash_changed = true;
        Ok(())
    }

    pub(crate) fn platform_status(&self, buffer: &mut [u8]) -> Outcome {
        self.may(Op::PlatformStatus)?;
        buffer.fill(0);
        let version = self.config.version;
        let mut status = PlatformStatus {
            api_major: version.major,
            api_minor: version.minor,
            state: self.platform().wire(),
            build: version.build,
            ..PlatformStatus::default()
        };
        if let (Platform::Init | Platform::Working, Some(up)) = (self.platform(), &self.up) {
            status.flags = if up.keys.is_external() { PlatformStatus::EXTERNAL_OWNER } else { 0 };
            status.config = if up.es { PlatformStatus::CONFIG_ES } else { 0 };
            status.guest_count = up.guests.len() as u32;
        }
        fields(status.write_to(buffer))
    }

    pub(crate) fn pek_gen(&mut self, bus: &Bus<'_>) -> Outcome {
        self.may(Op::PekGen)?;
        let api = self.api();
        let keys = Keys::generate(&self.identity, api, &mut *self.entropy);
        self.replace_keys(keys, bus)
    }

    pub(crate) fn pdh_gen(&mut self, bus: &Bus<'_>) -> Outcome {
        self.may(Op::PdhGen)?;
        let mut keys = Up::of(&mut self.up)?.keys.clone();
        let api = self.api();
        keys.renew_pdh(api, &mut *self.entropy);
        self.replace_keys(keys, bus)
    }

    pub(crate) fn pek_csr(&mut self, buffer: &mut [u8], bus: &Bus<'_>) -> Outcome {
        let mut csr = fields(PekCsr::parse(buffer))?;
        self.may(Op::PekCsr)?;
        let enough = csr.len >= CERTIFICATE;
        csr.len = CERTIFICATE;
        fields(csr.write_to(buffer))?;
        demand(enough, Status::INVALID_LENGTH)?;
        let mut pek = Up::of(&mut self.up)?.keys.pek.certificate.clone();
        pek.clear_slots();
        bus.write(csr.paddr, pek.as_bytes())
    }

    pub(crate) fn pek_cert_import(&mut self, buffer: &[u8], bus: &Bus<'_>) -> Outcome {
        let import = fields(PekCertImport::parse(buffer))?;
        self.may(Op::PekCertImport)?;
        let mut keys = Up::of(&mut self.up)?.keys.clone();
        demand(!keys.is_external(), Status::ALREADY_OWNED)?;
        demand(import.pek_len == CERTIFICATE && import.oca_len == CERTIFICATE, Status::INVALID_LENGTH)?;
        let mut pek = bus.certificate(import.pek_paddr)?;
        let oca = bus.certificate(import.oca_paddr)?;
        verify(&oca, &oca)?;
        verify(&pek, &oca)?;
        let current = &keys.pek.certificate;
        demand(pek.signed_bytes() == current.signed_bytes(), Status::INVALID_CERTIFICATE)?;
        let by_cek = (0..2).map(|index| current.slot(index)).find(|slot| slot.usage == Usage::CEK);
        let (free, by_cek) = pek.free_slot().zip(by_cek).ok_or(Status::INVALID_CERTIFICATE)?;
        pek.set_slot(free, &by_cek);
        keys.oca = Key { secret: None, certificate: oca };
        keys.pek.certificate = pek;
        let api = self.api();
        keys.renew_pdh(api, &mut *self.entropy);
        self.replace_keys(keys, bus)
    }

    pub(crate) fn pdh_cert_export(&mut self, buffer: &mut [u8], bus: &Bus<'_>) -> Outcome {
        let mut export = fields(PdhCertExport::parse(buffer))?;
        self.may(Op::PdhCertExport)?;
        let enough = export.pdh_len >= CERTIFICATE && export.chain_len >= CHAIN;
        (export.pdh_len, export.chain_len) = (CERTIFICATE, CHAIN);
        fields(export.write_to(buffer))?;
        demand(enough, Status::INVALID_LENGTH)?;
        let cek = self.identity.cek();
        let Keys { oca, pek, pdh } = &Up::of(&mut self.up)?.keys;
        let chain = [&pek.certificate, &oca.certificate, &cek].map(|certificate| *certificate.as_bytes());
        bus.range(export.chain_paddr, CHAIN.into())?;
        bus.write(export.pdh_paddr, pdh.certificate.as_bytes())?;
        bus.write(export.chain_paddr, chain.as_flattened())
    }

    pub(crate) fn get_id(&self, buffer: &mut [u8], bus: &Bus<'_>) -> Outcome {
        let mut get = fields(GetId::parse(buffer))?;
        self.may(Op::GetId)?;
        // A buffer with room for one of two sockets gets the first.
        let fitting = (get.len / ID_SIZE).min(self.config.sockets.max(1).into());
        get.len = fitting.max(1) * ID_SIZE;
        fields(get.write_to(buffer))?;
        demand(fitting > 0, Status::INVALID_LENGTH)?;
        let ids: Vec<u8> = (0..fitting as u8).flat_map(|socket| self.identity.chip_id(socket)).collect();
        bus.write(get.paddr, &ids)
    }

    /// The model has no firmware to replace: what passes the tests before the image is unsupported.
    pub(crate) fn download_firmware(&self, buffer: &[u8]) -> Outcome {
        let download = fields(DownloadFirmware::parse(buffer))?;
        self.may(Op::DownloadFirmware)?;
        aligned(download.paddr, 32)?;
        Err(Status::UNSUPPORTED)
    }
}
