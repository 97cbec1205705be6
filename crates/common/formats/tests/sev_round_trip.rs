//! Decoding inverts encoding for every format of SEV, and parsers accept any input without panicking.

use cloister_formats::sev::amd_root::{AmdCertificate, Generation};
use cloister_formats::sev::attestation::Report;
use cloister_formats::sev::certificate::*;
use cloister_formats::sev::chain::{Chain, ChainError};
use cloister_formats::sev::command::*;
use cloister_formats::sev::guid::Guid;
use cloister_formats::sev::kernel_hashes::{KernelHashes, cmdline_bytes};
use cloister_formats::sev::measurement::Measurement;
use cloister_formats::sev::ovmf::{self, Area, MetadataSection, OvmfError, Table};
use cloister_formats::sev::packet::PacketHeader;
use cloister_formats::sev::policy::{Policy, PolicyFault};
use cloister_formats::sev::secret_table::SecretTable;
use cloister_formats::sev::session::Session;
use cloister_formats::sev::status::Status;
use cloister_formats::sev::vmsa::{Value, Vmsa, VmsaForm};
use proptest::collection::vec;
use proptest::prelude::*;
use zeroize::Zeroizing;

/// Every structure of fixed size: what is written parses to the same value, too short input is refused, and
/// `write_to` keeps what is reserved.
macro_rules! fixed {
    ($($test:ident: $type:ty = $size:literal;)*) => {$(
        proptest! {
            #[test]
            fn $test(bytes in vec(any::<u8>(), $size..$size + 20)) {
                prop_assert_eq!(<$type>::SIZE, $size);
                let read = <$type>::parse(&bytes).unwrap();
                prop_assert_eq!(<$type>::parse(&read.encode()).unwrap(), read);
                let mut kept = bytes.clone();
                read.write_to(&mut kept).unwrap();
                prop_assert_eq!(&kept, &bytes);
                let mut zeros = vec![0; bytes.len()];
                read.write_to(&mut zeros).unwrap();
                prop_assert_eq!(&zeros[..$size], &read.encode()[..]);
                prop_assert!(<$type>::parse(&bytes[..$size - 1]).is_err());
                prop_assert!(read.write_to(&mut kept[..$size - 1]).is_err());
            }
        }
    )*};
}

fixed! {
    init: Init = 20;
    init_ex: InitEx = 0x24;
    platform_status: PlatformStatus = 12;
    pek_csr: PekCsr = 12;
    pek_cert_import: PekCertImport = 28;
    pdh_cert_export: PdhCertExport = 28;
    download_firmware: DownloadFirmware = 12;
    get_id: GetId = 12;
    handle: Handle = 4;
    activate: Activate = 8;
    activate_ex: ActivateEx = 0x18;
    guest_status: GuestStatus = 13;
    copy: CopyMemory = 24;
    launch_start: LaunchStart = 36;
    launch_update: LaunchUpdate = 20;
    launch_measure: LaunchMeasure = 20;
    transfer: Transfer = 52;
    attestation: Attestation = 36;
    send_start: SendStart = 68;
    receive_start: ReceiveStart = 36;
    dbg: DebugCopy = 28;
    swap_out: SwapOut = 40;
    swap_in: SwapIn = 32;
    mdata: Mdata = 0x40;
    session: Session = 128;
    packet_header: PacketHeader = 52;
    measurement: Measurement = 48;
    report: Report = 0xd0;
}

/// The offsets of section "command buffers", one field each that would move if a neighbour were wrong.
#[test]
fn fields_are_at_their_offsets() {
    let bytes: Vec<u8> = (0..0xd0).collect();
    let word = |at: u32| u32::from_le_bytes([at as u8, at as u8 + 1, at as u8 + 2, at as u8 + 3]);
    let long = |at: u32| u64::from(word(at + 4)) << 32 | u64::from(word(at));
    assert_eq!(Init::parse(&bytes).unwrap().tmr_len, word(16));
    let init_ex = InitEx::parse(&bytes).unwrap();
    assert_eq!((init_ex.tmr_len, init_ex.nv_paddr, init_ex.nv_len), (word(0x10), long(0x18), word(0x20)));
    let status = PlatformStatus::parse(&bytes).unwrap();
    assert_eq!((status.state.0, status.flags, status.config, status.build), (2, 3, 0x0504, 7));
    let owned = PlatformStatus { flags: 1, config: PlatformStatus::CONFIG_ES, ..PlatformStatus::default() };
    assert_eq!(owned.linux_flags(), 0x101);
    assert_eq!(u32::from_le_bytes(owned.encode()[3..7].try_into().unwrap()), owned.linux_flags());
    let import = PekCertImport::parse(&bytes).unwrap();
    assert_eq!((import.pek_len, import.oca_paddr, import.oca_len), (word(8), long(16), word(24)));
    let start = LaunchStart::parse(&bytes).unwrap();
    assert_eq!((start.policy.0, start.dh_paddr, start.dh_len), (word(4), long(8), word(16)));
    assert_eq!((start.session_paddr, start.session_len), (long(24), word(32)));
    let transfer = Transfer::parse(&bytes).unwrap();
    assert_eq!((transfer.hdr_paddr, transfer.hdr_len), (long(8), word(16)));
    assert_eq!((transfer.guest_paddr, transfer.guest_len), (long(24), word(32)));
    assert_eq!((transfer.trans_paddr, transfer.trans_len), (long(40), word(48)));
    let attestation = Attestation::parse(&bytes).unwrap();
    assert_eq!((attestation.mnonce[0], attestation.len), (16, word(32)));
    let send = SendStart::parse(&bytes).unwrap();
    assert_eq!((send.plat_certs_paddr, send.plat_certs_len), (long(24), word(32)));
    assert_eq!((send.amd_certs_paddr, send.amd_certs_len), (long(40), word(48)));
    assert_eq!((send.session_paddr, send.session_len), (long(56), word(64)));
    let mdata = Mdata::parse(&bytes).unwrap();
    assert_eq!((mdata.iv, mdata.tag[0], mdata.bits.0), (long(8), 0x10, word(0x3c)));
    let report = Report::parse(&bytes).unwrap();
    assert_eq!((report.sig_usage.0, report.sig_algo.0), (word(0x34), word(0x38)));
    assert_eq!((report.r[0], report.s[0]), (0x40, 0x88));
    assert_eq!(report.signed_bytes(), bytes[..0x34]);
    let session = Session::parse(&bytes).unwrap();
    assert_eq!((session.wrap_iv[0], session.wrap_mac[0], session.policy_mac[0]), (48, 64, 96));
}

#[test]
fn buffers_are_written_back_as_the_firmware_does() {
    use Status as S;
    let visible: Vec<Command> = Command::ALL
        .iter()
        .copied()
        .filter(|command| command.writes_back(S::INVALID_LENGTH) && *command != Command::PLATFORM_STATUS)
        .collect();
    assert_eq!(
        visible,
        [
            Command::PEK_CSR,
            Command::PDH_CERT_EXPORT,
            Command::GET_ID,
            Command::LAUNCH_MEASURE,
            Command::ATTESTATION,
            Command::SEND_START,
            Command::SEND_UPDATE_DATA,
            Command::SEND_UPDATE_VMSA,
            Command::SWAP_OUT
        ]
    );
    for &command in Command::ALL {
        assert_eq!(command.writes_back(S::SUCCESS), command.buffer_size() != 0, "{command}");
        assert!(!command.writes_back(S::POLICY_FAILURE) || command == Command::PLATFORM_STATUS, "{command}");
        assert_eq!(Command::from_name(&command.to_string().to_lowercase()), Some(command));
    }
    assert_eq!(Command(0xa0).name(), Some("SNP_LAUNCH_START"));
    assert_eq!(Command(0x10).to_string(), "command 0x10");
}

#[test]
fn statuses_have_their_names_and_qemus_words() {
    for &status in Status::ALL {
        assert_eq!(Status::from_name(status.name().unwrap()), Some(status));
    }
    assert_eq!(Status::ALL.len(), 39);
    assert_eq!(Status(0x1e).name(), None);
    assert_eq!(Status::from_name("invalid-guest"), Some(Status::INVALID_GUEST));
    assert_eq!(Status::SUCCESS.qemu_text(), "");
    assert_eq!(Status::INVALID_GUEST.qemu_text(), "Guest handle is invalid");
    assert_eq!(Status(0x18).qemu_text(), "Part-specific integrity check failure");
    assert_eq!(Status(0x19).qemu_text(), "unknown error");
    assert_eq!((Status::NO_FW_CALL.as_i32(), Status::NO_FW_CALL.qemu_text()), (-1, "unknown error"));
}

proptest! {
    #[test]
    fn policy_needs_the_version_first_then_zero_reserved_bits(raw: u32, major: u8, minor: u8) {
        let policy = Policy(raw);
        let accepted = (major, minor) >= (policy.api_major(), policy.api_minor());
        prop_assert_eq!(policy.accepts_api(major, minor), accepted);
        match policy.check(major, minor) {
            Ok(()) => prop_assert!(accepted && policy.reserved() == 0),
            Err(PolicyFault::Api { .. }) => prop_assert!(!accepted),
            Err(PolicyFault::Reserved(bits)) => prop_assert!(accepted && bits == raw & 0xffc0 && bits != 0),
        }
    }

    #[test]
    fn guids_are_read_as_they_are_printed(bytes: [u8; 16], text in ".{0,40}") {
        let guid = Guid(bytes);
        prop_assert_eq!(guid.to_string().parse(), Ok(guid));
        prop_assert_eq!(guid.to_string().to_uppercase().parse(), Ok(guid));
        let _ = text.parse::<Guid>();
    }

    #[test]
    fn certificates_keep_every_byte(bytes in vec(any::<u8>(), Certificate::SIZE)) {
        let certificate = Certificate::parse(&bytes).unwrap();
        prop_assert_eq!(&certificate.encode(), &bytes);
        prop_assert_eq!(certificate.signed_bytes(), &bytes[..0x414]);
        let mut copy = certificate.clone();
        for index in 0..2 {
            copy.set_slot(index, &certificate.slot(index));
        }
        prop_assert_eq!(&copy, &certificate);
        let _ = (certificate.public_key(), certificate.check_owner(), format!("{certificate:?}"));
        prop_assert!(Certificate::parse(&bytes[1..]).is_err());
    }

    #[test]
    fn secret_tables_round_trip(entries in vec((any::<[u8; 16]>(), vec(any::<u8>(), 0..50)), 0..5)) {
        let mut table = SecretTable::new();
        for (guid, secret) in entries {
            table.push(Guid(guid), Zeroizing::new(secret));
        }
        let bytes = table.encode().unwrap();
        prop_assert_eq!(bytes.len() % 16, 0);
        prop_assert_eq!(SecretTable::parse(&bytes).unwrap(), table);
    }

    #[test]
    fn kernel_hashes_round_trip_and_refuse_another_frame(
        cmdline: [u8; 32], initrd: [u8; 32], kernel: [u8; 32], at in 0usize..176,
    ) {
        let table = KernelHashes { cmdline, initrd, kernel };
        let mut bytes = table.encode();
        prop_assert_eq!(KernelHashes::parse(&bytes).unwrap(), table);
        bytes[at] ^= 1;
        let in_hash = [36..68, 86..118, 136..168].iter().any(|hash| hash.contains(&at));
        prop_assert_eq!(KernelHashes::parse(&bytes).is_ok(), in_hash);
    }

    #[test]
    fn vmsas_keep_every_byte_and_set_registers(bytes in vec(any::<u8>(), 4096), value: u64, pick: usize) {
        let mut vmsa = Vmsa::parse(&bytes).unwrap();
        prop_assert_eq!(&vmsa.encode(), &bytes);
        let names: Vec<_> = vmsa.registers().map(|(_, name, _)| name).collect();
        let name = names[pick % names.len()];
        let before = vmsa.clone();
        if vmsa.set_number(name, value) {
            let Some(Value::Number(read)) = vmsa.register(name) else { panic!("{name} is no number") };
            let widths = [8, 16, 32, 64];
            prop_assert!(widths.iter().any(|bits| read == value & (u64::MAX >> (64 - bits))), "{}", name);
            if let Some((_, differs)) = vmsa.difference(&before) {
                prop_assert_eq!(differs, Some(name));
            }
        } else {
            prop_assert_eq!(&vmsa, &before);
        }
        let _ = format!("{vmsa:?}");
    }

    #[test]
    fn parsers_accept_any_input(bytes in vec(any::<u8>(), 0..5000), version in any::<bool>()) {
        let mut bytes = bytes;
        if version && bytes.len() >= 4 {
            bytes[..4].copy_from_slice(&[1, 0, 0, 0]);
        }
        let _ = Certificate::parse(&bytes);
        let _ = Chain::parse(&bytes);
        let _ = SecretTable::parse(&bytes);
        let _ = KernelHashes::parse(&bytes);
        let _ = Vmsa::parse(&bytes);
        let _ = ovmf::reset_address(&bytes);
        if let Ok((certificate, rest)) = AmdCertificate::parse_prefix(&bytes) {
            prop_assert_eq!([certificate.as_bytes(), rest].concat(), bytes);
        }
    }

    #[test]
    fn ovmf_tables_with_any_body_are_walked(body in vec(any::<u8>(), 0..300), total: u16, reset: bool) {
        let footer = if reset { ovmf::RESET_BLOCK } else { ovmf::FOOTER };
        let image = image(&body, total, footer);
        if let Ok(Some(table)) = Table::find(&image) {
            for (guid, _) in table.entries() {
                let _ = (table.entry(guid), table.area(guid));
            }
            let _ = (table.hashes_area(), table.secret_area(), table.metadata(&image));
        }
        let _ = ovmf::reset_address(&image);
    }
}

/// An image of two pages that ends in `body`, a length, a GUID and 32 bytes of code.
fn image(body: &[u8], total: u16, footer: Guid) -> Vec<u8> {
    let end = [body, &total.to_le_bytes(), &footer.0, &[0x90; 32]].concat();
    [vec![0; 8192 - end.len()], end].concat()
}

fn entry(data: &[u8], guid: Guid) -> Vec<u8> {
    [data, &(data.len() as u16 + 18).to_le_bytes(), &guid.0].concat()
}

fn area(base: u32, size: u32) -> [u8; 8] {
    (u64::from(size) << 32 | u64::from(base)).to_le_bytes()
}

fn image_with(entries: &[Vec<u8>]) -> Vec<u8> {
    let body = entries.concat();
    image(&body, body.len() as u16 + 18, ovmf::FOOTER)
}

#[test]
fn ovmf_tables_give_what_amdsev_images_hold() {
    let image = image_with(&[
        entry(&area(0x81_0c00, 0x400), ovmf::HASHES_AREA),
        entry(&area(0x81_0000, 0xc00), ovmf::SECRET_AREA),
        entry(&0x80_b004u32.to_le_bytes(), ovmf::RESET_BLOCK),
    ]);
    let table = Table::find(&image).unwrap().unwrap();
    assert_eq!(table.entries().count(), 3);
    assert_eq!(table.secret_area(), Some(Area { base: 0x81_0000, size: 0xc00 }));
    assert_eq!(table.hashes_area(), Ok(Area { base: 0x81_0c00, size: 0x400 }));
    assert_eq!(ovmf::reset_address(&image), Ok(0x80_b004));
    assert_eq!(ovmf::reset_address(&image[image.len() - 4096..]), Ok(0x80_b004));
}

#[test]
fn ovmf_errors_have_qemus_texts() {
    let text = |error: OvmfError| error.to_string();
    // Sizes that do not hold the footer, or go below the image.
    assert_eq!(
        Table::find(&image(&[], 17, ovmf::FOOTER)).map_err(text).unwrap_err(),
        "OVMF table has invalid size -1"
    );
    let space = 8192 - 0x32;
    assert!(Table::find(&image(&[], space + 18, ovmf::FOOTER)).is_ok());
    assert_eq!(
        Table::find(&image(&[], space + 19, ovmf::FOOTER)).map_err(text).unwrap_err(),
        format!("OVMF table has invalid size {}", space + 1)
    );
    assert_eq!(Table::find(&image(&[], 18, ovmf::FOOTER)).unwrap().unwrap().entries().count(), 0);
    // No footer, and images that are too small, have no table.
    assert_eq!(Table::find(&vec![0; 8192]), Ok(None));
    let small = image(&[], 18, ovmf::FOOTER);
    assert_eq!(Table::find(&small[8192 - 4095..]), Ok(None));

    let hashes = |entries: &[Vec<u8>]| {
        let image = image_with(entries);
        Table::find(&image).unwrap().unwrap().hashes_area().map_err(text)
    };
    assert_eq!(hashes(&[]).unwrap_err(), "SEV: kernel specified but guest firmware has no hashes table GUID");
    assert_eq!(
        hashes(&[entry(&area(0, 0), ovmf::HASHES_AREA)]).unwrap_err(),
        "SEV: guest firmware hashes table area is invalid (base=0x0 size=0x0)"
    );
    assert_eq!(
        hashes(&[entry(&area(0x1000, 175), ovmf::HASHES_AREA)]).unwrap_err(),
        "SEV: guest firmware hashes table area is invalid (base=0x1000 size=0xaf)"
    );
    assert!(hashes(&[entry(&area(0x1000, 176), ovmf::HASHES_AREA)]).is_ok());

    let reset = |image: &[u8]| ovmf::reset_address(image).map_err(text);
    assert_eq!(
        reset(&image_with(&[])).unwrap_err(),
        "SEV information block/Firmware GUID Table block not found in pflash rom"
    );
    let zero = image_with(&[entry(&[0; 4], ovmf::RESET_BLOCK)]);
    assert_eq!(reset(&zero).unwrap_err(), "SEV-ES reset address is zero");
}

#[test]
fn ovmf_images_without_a_table_may_have_the_older_reset_block() {
    let old = image(&0x80_b004u32.to_le_bytes(), 22, ovmf::RESET_BLOCK);
    assert_eq!(Table::find(&old), Ok(None));
    assert_eq!(ovmf::reset_address(&old), Ok(0x80_b004));
    let short = image(&[], 18, ovmf::RESET_BLOCK);
    assert_eq!(ovmf::reset_address(&short), Err(OvmfError::NoResetBlock));
}

#[test]
fn ovmf_walk_ends_at_a_length_that_does_not_fit() {
    let good = entry(&[1, 2, 3, 4], ovmf::RESET_BLOCK);
    for bad_length in [17u16, 200] {
        let mut bad = entry(&[], ovmf::SECRET_AREA);
        bad[..2].copy_from_slice(&bad_length.to_le_bytes());
        let image = image_with(&[good.clone(), bad, good.clone()]);
        let table = Table::find(&image).unwrap().unwrap();
        assert_eq!(table.entries().map(|(guid, _)| guid).collect::<Vec<_>>(), [ovmf::RESET_BLOCK]);
    }
}

#[test]
fn ovmf_metadata_is_found_by_its_offset() {
    let mut metadata = b"ASEV".to_vec();
    for word in [28u32, 1, 1, 0x80_d000, 0x1000, 2] {
        metadata.extend(word.to_le_bytes());
    }
    let mut image = image_with(&[entry(&0x1000u32.to_le_bytes(), ovmf::METADATA)]);
    image[8192 - 0x1000..][..metadata.len()].copy_from_slice(&metadata);
    let table = Table::find(&image).unwrap().unwrap();
    let section = MetadataSection { base: 0x80_d000, size: 0x1000, kind: 2 };
    assert_eq!(table.metadata(&image), Some(vec![section]));
    let mut too_many = image.clone();
    too_many[8192 - 0x1000 + 12..][..4].fill(0xff);
    assert_eq!(Table::find(&too_many).unwrap().unwrap().metadata(&too_many), None);
}

fn platform_certificate(usage: Usage) -> Certificate {
    let algo = if usage == Usage::PDH { Algo::ECDH_SHA256 } else { Algo::ECDSA_SHA256 };
    Certificate::new((1, 55), usage, algo, &EccKey::p384(&[usage.0 as u8; 48], &[3; 48]))
}

fn root(generation: Generation, usage: Usage) -> AmdCertificate {
    let mut certificate = AmdCertificate::new(generation, usage, [7; 16], [8; 16], &[1, 0, 1], &[0xc5; 600]);
    certificate.set_signature(&[0x5c; 300]);
    certificate
}

#[test]
fn amd_certificates_keep_every_byte() {
    for generation in [Generation::Rsa2048, Generation::Rsa4096] {
        let certificate = root(generation, Usage::ASK);
        let size = generation.number_size();
        assert_eq!(certificate.encode().len(), generation.certificate_size());
        assert_eq!(Generation::of_size(certificate.encode().len()), Some(generation));
        assert_eq!(AmdCertificate::parse(&certificate.encode()).unwrap(), certificate);
        assert_eq!(certificate.generation(), generation);
        assert!(!certificate.is_model());
        let model = AmdCertificate::new(generation, Usage::ARK, *b"CLOISTER-MODEL-A", [0; 16], &[], &[]);
        assert!(model.is_model());
        assert_eq!((certificate.key_id(), certificate.certifying_id()), ([7; 16], [8; 16]));
        assert_eq!((&certificate.exponent()[..4], certificate.exponent().len()), (&[1, 0, 1, 0][..], size));
        assert_eq!(certificate.modulus(), vec![0xc5; size]);
        assert_eq!(certificate.signed_bytes().len(), 0x40 + 2 * size);
        assert_eq!(certificate.signature().len(), size);
        let mut long = certificate.encode();
        long.push(0);
        assert!(AmdCertificate::parse(&long).is_err());
        assert!(AmdCertificate::parse(&long[..100]).is_err());
    }
}

#[test]
fn chains_are_read_in_every_form() {
    let [pdh, pek, oca, cek] = [Usage::PDH, Usage::PEK, Usage::OCA, Usage::CEK].map(platform_certificate);
    let (ask, ark) = (root(Generation::Rsa4096, Usage::ASK), root(Generation::Rsa4096, Usage::ARK));
    let alone = Chain::parse(&pdh.encode()).unwrap();
    assert_eq!(alone, Chain { pdh: Some(pdh.clone()), ..Chain::default() });
    let exported = Chain::parse(&[pek.encode(), oca.encode(), cek.encode()].concat()).unwrap();
    assert_eq!((&exported.pdh, exported.pek.as_ref()), (&None, Some(&pek)));
    let amd = Chain::parse(&[ask.encode(), ark.encode()].concat()).unwrap();
    assert_eq!((amd.ask.as_ref(), amd.ark.as_ref()), (Some(&ask), Some(&ark)));
    let file = [pdh.encode(), pek.encode(), oca.encode(), cek.encode()].concat();
    assert_eq!(file.len(), 8336);
    let sevctl = Chain::parse(&file).unwrap();
    assert_eq!(sevctl.encode_platform(), file);
    let full = [file, ask.encode(), ark.encode()].concat();
    let chain = Chain::parse(&full).unwrap();
    assert_eq!([chain.encode_platform(), chain.encode_amd()].concat(), full);

    let files: Vec<(&str, Vec<u8>)> = vec![
        ("pdh.cert", pdh.encode()),
        ("pek.cert", pek.encode()),
        ("oca.cert", oca.encode()),
        ("cek.cert", cek.encode()),
        ("ask.cert", ask.encode()),
        ("ark.cert", ark.encode()),
        ("readme.txt", b"not a certificate".to_vec()),
    ];
    let members = || files.iter().map(|(name, bytes)| (*name, bytes.as_slice()));
    assert_eq!(Chain::from_members(members()).unwrap(), chain);
    let broken = Chain::from_members([("pdh.cert", &b"short"[..])]).unwrap_err();
    assert!(broken.to_string().starts_with("member pdh.cert: certificate at offset 0x0"), "{broken}");

    assert_eq!(Chain::parse(&[]), Err(ChainError::Empty));
    let twice = [pek.encode(), pek.encode()].concat();
    assert_eq!(Chain::parse(&twice), Err(ChainError::Twice { offset: 2084, usage: Usage::PEK }));
    assert!(matches!(Chain::parse(&twice[..2083]), Err(ChainError::Certificate { offset: 0, .. })));
}

#[test]
fn signature_slots_follow_the_firmwares_rules() {
    let mut pek = platform_certificate(Usage::PEK);
    assert_eq!(pek.free_slot(), Some(0));
    let none = SlotFault::NoneMatches { usage: Usage::OCA, algo: Algo::ECDSA_SHA256 };
    assert_eq!(pek.slots_of(Usage::OCA, Algo::ECDSA_SHA256), Err(none));
    pek.set_slot(0, &Slot::ecdsa(Usage::OCA, Algo::ECDSA_SHA256, &[1; 72], &[2; 72]));
    assert_eq!(pek.free_slot(), Some(1));
    assert_eq!(pek.slots_of(Usage::OCA, Algo::ECDSA_SHA256).unwrap()[0].r_s(), ([1; 72], [2; 72]));
    assert!(pek.slots_of(Usage::OCA, Algo::ECDSA_SHA384).is_err());
    // The same signer twice: both are given, the last decides.
    pek.set_slot(1, &Slot::ecdsa(Usage::OCA, Algo::ECDSA_SHA256, &[3; 72], &[4; 72]));
    assert_eq!(pek.slots_of(Usage::OCA, Algo::ECDSA_SHA256).unwrap().len(), 2);
    // A slot that is empty by one of its two fields only spoils the certificate.
    for half in [(Usage::INVALID, Algo::ECDSA_SHA256), (Usage::CEK, Algo::NONE), (Usage(0), Algo::NONE)] {
        pek.set_slot(1, &Slot { usage: half.0, algo: half.1, data: [0; 512] });
        assert_eq!(pek.slots_of(Usage::OCA, Algo::ECDSA_SHA256), Err(SlotFault::HalfEmpty(1)));
    }
    assert_eq!(Certificate::signers(Usage::PEK), [Usage::OCA, Usage::CEK]);
}

#[test]
fn owner_certificates_are_checked_for_sanity() {
    let good = platform_certificate(Usage::PDH);
    assert!(good.check_owner().is_ok());
    let altered = |at: usize, value: u8| {
        let mut bytes = good.encode();
        bytes[at] = value;
        Certificate::parse(&bytes).unwrap().check_owner()
    };
    // Version, usage, algorithm, curve, padding of x and of y.
    for (at, value) in [(0, 2), (8, 2), (0xc, 2), (0x10, 1), (0x14 + 48, 1), (0x5c + 71, 1)] {
        assert!(altered(at, value).is_err(), "{at:#x}");
    }
    // The API version, reserved bytes and the tail of the key field are not looked at.
    for at in [4, 6, 0xa4, 0x413] {
        assert!(altered(at, 9).is_ok(), "{at:#x}");
    }
}

#[test]
fn command_lines_are_hashed_with_their_nul() {
    assert_eq!(cmdline_bytes(b""), [0]);
    assert_eq!(cmdline_bytes(b" a "), b" a \0");
}

#[test]
fn secrets_are_not_printed() {
    let mut table = SecretTable::new();
    table.push(Guid::default(), Zeroizing::new(b"hidden".to_vec()));
    assert!(!format!("{table:?}").contains("104") && !format!("{table:?}").contains("hidden"));
}

#[test]
fn reset_state_differs_between_forms_in_two_registers_only() {
    let (legacy, init2) = (Vmsa::boot(VmsaForm::Legacy, 0), Vmsa::boot(VmsaForm::Init2, 0));
    let differing: Vec<_> = legacy
        .registers()
        .zip(init2.registers())
        .filter(|(a, b)| a != b)
        .map(|((offset, name, _), _)| (offset, name))
        .collect();
    assert_eq!(differing, [(0x408, "mxcsr"), (0x410, "x87_fcw")]);
    assert_eq!(legacy.difference(&init2), Some((0x408, Some("mxcsr"))));
}
