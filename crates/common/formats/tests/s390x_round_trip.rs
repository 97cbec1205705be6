//! Decoding inverts encoding for every format, and parsers accept any input without panicking.
#![expect(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use cloister_formats::s390x::arcb::{Arcb, ArcbFlags};
use cloister_formats::s390x::asrcb::{Asrcb, SecretHeader, SecretType};
use cloister_formats::s390x::attestation::{AdditionalData, FIRMWARE_STATE_SIZE};
use cloister_formats::s390x::host_key::{KeySlot, KeyXy, Phkh};
use cloister_formats::s390x::ipl_block::{IplBlock, IplKind, PvBlock, PvComponent, result};
use cloister_formats::s390x::se_header::{HeaderFault, Pcf, SeHeader, SecretArea};
use cloister_formats::s390x::se_image::*;
use cloister_formats::s390x::uv_rc::{Rc, Rrc, explain};
use cloister_formats::s390x::uvcb::*;
use proptest::collection::vec;
use proptest::prelude::*;

fn wide<const N: usize>() -> impl Strategy<Value = [u8; N]> {
    any::<u64>().prop_map(|seed| std::array::from_fn(|i| (seed.wrapping_mul(i as u64 + 1) >> 13) as u8))
}

prop_compose! {
    fn slot()(phkh: [u8; 32], wrapped_key: [u8; 32], tag: [u8; 16]) -> KeySlot {
        KeySlot { phkh: Phkh(phkh), wrapped_key, tag }
    }
}

prop_compose! {
    fn header()(
        iv: [u8; 12], reserved: u32, encrypted_pages: u64, pcf: u64, key in wide::<160>(),
        digests in wide::<192>(), slots in vec(slot(), 1..5), area in vec(any::<u8>(), 0x80..0x100),
        tag: [u8; 16],
    ) -> SeHeader {
        let digest = |i: usize| digests[64 * i..64 * (i + 1)].try_into().unwrap();
        SeHeader {
            iv, reserved, encrypted_pages, pcf: Pcf(pcf), customer_key: KeyXy(key),
            pld: digest(0), ald: digest(1), tld: digest(2), slots, encrypted_area: area, tag,
        }
    }
}

prop_compose! {
    fn pv_block()(
        header_addr: u64, header_size in 0u64..=8192,
        parts in vec((1u64..1 << 40, 0u64..1 << 40, 0u64..1 << 40), 1..PvBlock::MAX_COMPONENTS + 1),
    ) -> PvBlock {
        let mut pref = 0;
        let components = parts.into_iter().map(|(step, page, size)| {
            pref += step;
            PvComponent { tweak_pref: TweakPref(pref), addr: page << 12, size }
        }).collect();
        PvBlock { header_addr, header_size, components }
    }
}

fn ipl_kind() -> impl Strategy<Value = IplKind> {
    prop_oneof![
        any::<(u8, u16)>().prop_map(|(ssid, devno)| IplKind::Ccw { ssid, devno }),
        any::<(u32, u16, u16, u8, u16)>().prop_map(|(lun, target, channel, ssid, devno)| {
            IplKind::QemuScsi { lun, target, channel, ssid, devno }
        }),
        pv_block().prop_map(IplKind::Pv),
    ]
}

macro_rules! blocks_round_trip {
    ($bytes:expr; $($name:ident),*) => {$(
        let parsed = $name::parse(&$bytes).unwrap();
        let mut copy = $bytes.clone();
        parsed.store(&mut copy).unwrap();
        prop_assert_eq!(&copy, &$bytes, "store writes back what parse read");
        let encoded = parsed.encode();
        prop_assert_eq!(encoded.len(), $name::LEN);
        prop_assert_eq!($name::parse(&encoded).unwrap(), parsed);
        let header = UvHeader::parse(&encoded).unwrap();
        prop_assert_eq!(header.command, $name::COMMAND);
        prop_assert!($name::parse(&encoded[..$name::LEN - 1]).is_err());
        if $name::COMMAND != UvCommand::QUI {
            prop_assert_eq!($name::COMMAND.block_len().map(usize::from), Some($name::LEN));
        }
    )*};
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn se_header(header in header()) {
        let raw = header.encode();
        prop_assert_eq!(raw.len(), header.size());
        prop_assert_eq!(SeHeader::parse(&raw), Ok(header));
        let short = SeHeader::parse(&raw[..raw.len() - 1]);
        let refused = matches!(short, Err(HeaderFault::Size { .. }));
        prop_assert!(refused);
    }

    #[test]
    fn secret_area(raw in vec(any::<u8>(), 0x80..0x120)) {
        prop_assert_eq!(SecretArea::parse(&raw).unwrap().encode(), raw);
    }

    #[test]
    fn ipl_block(header_flags: u8, loadparm: Option<[u8; 8]>, kind in ipl_kind()) {
        let block = IplBlock { header_flags, loadparm, kind };
        let mut page = block.encode();
        prop_assert_eq!(IplBlock::parse(&page), Ok(block.clone()));
        page.resize(4096, 0xaa);
        prop_assert_eq!(IplBlock::parse(&page), Ok(block));
    }

    #[test]
    fn ipl_block_of_a_type_that_is_not_loaded_from(kind in prop::sample::select(vec![0u8, 3, 4]), body in vec(any::<u8>(), 400..4096)) {
        let mut raw = body;
        let total = raw.len() as u32;
        raw[..4].copy_from_slice(&total.to_be_bytes());
        raw[7] = 1;
        raw[8..12].copy_from_slice(&(total - 8).to_be_bytes());
        raw[12] = kind;
        let block = IplBlock::parse(&raw).unwrap();
        prop_assert_eq!(block.encode(), raw.clone());
        prop_assert_eq!(IplBlock::parse(&block.encode()), Ok(block));
        prop_assert!(IplBlock::parse(&raw[..raw.len() - 1]).is_err());
    }

    #[test]
    fn arcb(iv: [u8; 12], nonce: bool, key in wide::<160>(), slots in vec(slot(), 0..4), area in wide::<80>(), tag: [u8; 16]) {
        let flags = if nonce { ArcbFlags::NONCE } else { ArcbFlags::IMAGE_PHKH };
        let encrypted_area = area[..if nonce { 80 } else { 64 }].to_vec();
        let request = Arcb { iv, flags, algorithm: 1, customer_key: KeyXy(key), slots, encrypted_area, tag };
        prop_assert_eq!(Arcb::parse(&request.encode()), Ok(request));
    }

    #[test]
    fn asrcb(iv: [u8; 12], flags: u64, kind in 1u16..0x17, len in 0u32..70, id: [u8; 32], big in wide::<512>(), slots in vec(slot(), 0..4)) {
        let kind = SecretType(kind);
        let id = if kind == SecretType::NULL { [0; 32] } else { id };
        let part = |n: usize| big[n..n + 64].try_into().unwrap();
        let request = Asrcb {
            user_data_kind: 1, iv, flags, pld: part(0), ald: part(1), tld: part(2),
            se_tag: [3; 16], config_uid: [4; 16], user_data: big,
            customer_key: KeyXy(big[..160].try_into().unwrap()), slots,
            secret: SecretHeader { kind, len, id }, encrypted_area: vec![7; len as usize + 32], tag: [9; 16],
        };
        prop_assert_eq!(Asrcb::parse(&request.encode()), Ok(request));
    }

    #[test]
    fn additional_data_of_an_attestation(
        image: Option<[u8; 32]>, attestation: Option<[u8; 32]>, hash in prop::option::of(wide::<64>()),
        state in prop::option::of(wide::<FIRMWARE_STATE_SIZE>()),
    ) {
        let items = AdditionalData {
            image_phkh: image.map(Phkh), attestation_phkh: attestation.map(Phkh),
            secret_store_hash: hash, firmware_state: state,
        };
        let mut raw = items.encode();
        prop_assert_eq!(AdditionalData::parse(items.flags(), &raw), Ok(items.clone()));
        raw.push(0);
        prop_assert!(AdditionalData::parse(items.flags(), &raw).is_err());
    }

    #[test]
    fn image_records(a: u64, b: u64, random: [u8; 6], words: [u64; 8], entry in 0u32..0x8000_0000) {
        let metadata = Metadata { header_offset: a, ipib_offset: b };
        prop_assert_eq!(Metadata::parse(&metadata.encode()), Ok(metadata));
        let args = StageAArgs { header_offset: a, header_size: b, ipib_offset: words[0] };
        prop_assert_eq!(StageAArgs::parse(&args.encode()), Ok(args));
        let extent = |i: usize| Extent { src: words[i], size: words[i + 1] };
        let args = StageBArgs {
            kernel: extent(0), cmdline: extent(2), initrd: extent(4), psw_mask: words[6], psw_addr: words[7],
        };
        prop_assert_eq!(StageBArgs::parse(&args.encode()), Ok(args));
        let pref = TweakPref::new(ComponentKind::RAMDISK, random);
        prop_assert_eq!(pref.kind(), ComponentKind::RAMDISK);
        prop_assert_eq!(&pref.page_tweak(a)[8..], &a.to_be_bytes()[..]);
        prop_assert_eq!(parse_short_psw(&short_psw(entry)), Ok(entry));
    }

    #[test]
    fn control_blocks(raw in vec(any::<u8>(), 0x200..0x201)) {
        blocks_round_trip!(raw; QueryKeys, Init, CreateSecConf, CreateSecCpu, ConvToSec, ConvFromSec,
            DestrSecStor, SetSecConfParams, Unpack, CpuSetState, PinPageShared, UnpinPageShared,
            DumpConfStorState, DumpCpu, DumpComplete, SetSharedAccess, RemoveSharedAccess, RetrAttest,
            AddSecret, ListSecrets, LockSecrets, RetrSecret, Qui);
        let header = UvHeader::parse(&raw).unwrap();
        let mut copy = raw.clone();
        header.store(&mut copy);
        prop_assert_eq!(copy, raw);
    }

    #[test]
    fn parsers_are_total(mut raw in vec(any::<u8>(), 0..0x600), kind: u8) {
        let parse_all = |raw: &[u8]| {
            let _ = (SeHeader::parse(raw), SecretArea::parse(raw), IplBlock::parse(raw), Arcb::parse(raw));
            let _ = (Asrcb::parse(raw), Metadata::parse(raw), StageAArgs::parse(raw), StageBArgs::parse(raw));
            let _ = (KeySlot::parse(raw), SecretHeader::parse(raw), parse_short_psw(raw), find_header(raw));
            let _ = (UvHeader::parse(raw), Qui::parse(raw), Handle::parse(raw));
        };
        parse_all(&raw);
        // Again behind each mark, so that the checks after it are reached.
        for magic in [&b"IBMSecEx"[..], b"asrcbM\0\0", b"SeImgLnx", &[0; 8]] {
            if raw.len() > 0x10 {
                raw[..8].copy_from_slice(magic);
                raw[8..12].copy_from_slice(&[0, 0, 1, 0]);
                raw[12..16].copy_from_slice(&(kind as u32 * 8).to_be_bytes());
                parse_all(&raw);
                raw[0..4].copy_from_slice(&[0, 0, 1, kind]);
                raw[7] = 1;
                raw[12] = kind;
                parse_all(&raw);
            }
        }
    }
}

#[test]
fn pv_block_rules_of_diag_308() {
    let component = |pref, addr| PvComponent { tweak_pref: TweakPref(pref), addr, size: 0x1000 };
    let good = PvBlock {
        header_addr: 0x14000,
        header_size: 0x280,
        components: vec![component(1, 0x15000), component(2, 0x16000)],
    };
    assert_eq!(good.check(), Ok(()));
    let bad = |change: fn(&mut PvBlock)| {
        let mut block = good.clone();
        change(&mut block);
        let parsed = IplBlock::parse(&IplBlock::pv(block).encode());
        assert!(parsed.is_err(), "{parsed:?}");
    };
    bad(|block| block.header_size = 8193);
    bad(|block| block.components.clear());
    bad(|block| block.components[0].addr += 8);
    bad(|block| block.components[1].tweak_pref = TweakPref(1));
    bad(|block| block.components[1].size = u64::MAX);
    assert_eq!(result::enter_refused(4, 0x102, 0x1a), 0x0004_001a_0102_0a02);
}

#[test]
fn return_codes_have_their_texts() {
    let text = |command, rc, rrc| explain(command, Rc(rc), Rrc(rrc));
    assert_eq!(text(UvCommand::VERIFY, 0x102, 0x1a), Some("Address digest list (ALD) mismatch"));
    assert_eq!(text(UvCommand::SET_SEC_CONF_PARAMS, 0x108, 5), Some("host key hash does not match"));
    assert_eq!(text(UvCommand::SET_SEC_CONF_PARAMS, 0x8108, 5), Some("host key hash does not match"));
    assert_eq!(text(UvCommand::VERIFY, 0x7ff, 0), None);
    assert!(UvCommand::ALL.iter().all(|&command| text(command, 3, 0).is_some()));
}

#[test]
fn call_bits_are_distinct_and_handles_have_blocks() {
    let mut bits: Vec<_> = UvCommand::ALL.iter().map(|command| command.call_bit().unwrap()).collect();
    bits.sort_unstable();
    bits.dedup();
    assert_eq!(bits.len(), UvCommand::ALL.len());
    for &command in Handle::COMMANDS {
        let block = Handle { handle: 7 }.encode(command).unwrap();
        assert_eq!(Handle::parse(&block).unwrap().handle, 7);
        assert_eq!(UvHeader::parse(&block).unwrap().command, command);
    }
    assert_eq!(Handle { handle: 7 }.encode(UvCommand::QUI), None);
}
