//! The primitives against published test vectors, against each other, and their promises.
#![expect(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use aes::cipher::KeyInit;
use cloister_crypto::*;
use proptest::prelude::*;

fn unhex<const N: usize>(text: &str) -> [u8; N] {
    hex::decode(text).unwrap().try_into().unwrap()
}

#[test]
fn fips_180_4_digests_of_abc() {
    assert_eq!(
        hex::encode(sha256(b"abc")),
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    assert_eq!(
        hex::encode(sha384(b"abc")),
        "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7"
    );
    assert!(hex::encode(sha512(b"abc")).starts_with("ddaf35a193617abacc417349ae204131"));
}

#[test]
fn rfc_4231_hmac_case_2() {
    assert_eq!(
        hex::encode(hmac_sha256(b"Jefe", &[b"what do ya want ", b"for nothing?"])),
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    );
    assert!(
        hex::encode(hmac_sha512(b"Jefe", &[b"what do ya want for nothing?"]))
            .starts_with("164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554")
    );
}

#[test]
fn fips_197_appendix_b_aes_128_block() {
    let cipher = Aes128Block::new(&Secret::new(unhex("2b7e151628aed2a6abf7158809cf4f3c")));
    let mut block = unhex::<16>("3243f6a8885a308d313198a2e0370734");
    cipher.encrypt(&mut block);
    assert_eq!(hex::encode(block), "3925841d02dc09fbdc118597196a0b32");
    cipher.decrypt(&mut block);
    assert_eq!(hex::encode(block), "3243f6a8885a308d313198a2e0370734");
}

#[test]
fn gcm_specification_test_case_14_and_its_tampering() {
    let gcm = Aes256Gcm::new(&Secret::new([0; 32]));
    let mut data = [0u8; 16];
    let tag = gcm.seal(&[0; 12], &[], &mut data).unwrap();
    assert_eq!(hex::encode(data), "cea7403d4d606b6e074ec5d3baf39d18");
    assert_eq!(hex::encode(tag), "d0d1c8a799996bf0265b98b5d48ab919");
    for bit in 0..128 {
        let mut bad_tag = tag;
        bad_tag[bit / 8] ^= 1 << (bit % 8);
        let mut copy = data;
        assert_eq!(gcm.open(&[0; 12], &[], &mut copy, &bad_tag), Err(Error::Authentication));
        assert_eq!(copy, data, "no plaintext is released when the tag is wrong");
    }
    gcm.open(&[0; 12], &[], &mut data, &tag).unwrap();
    assert_eq!(data, [0; 16]);
}

#[test]
fn secrets_are_not_printed() {
    let key = P521Secret::generate(&mut SeededEntropy::new(b"x"));
    assert_eq!(format!("{key:?}"), "P521Secret(..)");
    assert_eq!(format!("{:?}", Secret::new([7u8; 4])), "Secret(..)");
    assert_eq!(format!("{:?}", Aes256Xts::new(&Secret::new([1; 64]))), "Aes256Xts(..)");
}

#[test]
fn invalid_p521_keys_are_refused() {
    assert_eq!(P521Secret::from_scalar(&[0; 66]).unwrap_err(), Error::InvalidSecretKey);
    assert_eq!(P521Secret::from_scalar(&[0xff; 66]).unwrap_err(), Error::InvalidSecretKey);
    assert_eq!(P521Public::from_padded_xy(&[0; 160]), Err(Error::InvalidPublicKey));
    let mut xy = P521Secret::generate(&mut SeededEntropy::new(b"x")).public().to_padded_xy();
    xy[0] = 1;
    assert_eq!(P521Public::from_padded_xy(&xy), Err(Error::InvalidPublicKey));
}

#[test]
fn system_entropy_differs_and_seeded_repeats() {
    let draw = |source: &mut dyn Entropy| Secret::<32>::generate(source);
    assert_ne!(draw(&mut SystemEntropy), draw(&mut SystemEntropy));
    assert_eq!(draw(&mut SeededEntropy::new(b"a")), draw(&mut SeededEntropy::new(b"a")));
    assert_ne!(draw(&mut SeededEntropy::new(b"a")), draw(&mut SeededEntropy::new(b"b")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn xts_equals_the_block_at_a_time_implementation(seed: [u8; 8], iv: [u8; 16]) {
        let mut entropy = SeededEntropy::new(&seed);
        let key = Secret::<64>::generate(&mut entropy);
        let mut page = [0u8; 4096];
        entropy.fill(&mut page);
        let plain = page;
        let xts = Aes256Xts::new(&key);
        xts.encrypt_page(&iv, &mut page);

        let half = |range: std::ops::Range<usize>| {
            aes::Aes256::new_from_slice(&key.expose()[range]).unwrap()
        };
        let mut reference = plain;
        xts_mode::Xts128::new(half(0..32), half(32..64))
            .encrypt_sector(&mut reference, iv.into());
        prop_assert!(page == reference);

        xts.decrypt_page(&iv, &mut page);
        prop_assert!(page == plain);
    }

    #[test]
    fn gcm_opens_what_it_sealed(key: [u8; 32], iv: [u8; 12], aad: Vec<u8>, plain: Vec<u8>, flip: u16) {
        let gcm = Aes256Gcm::new(&Secret::new(key));
        let mut data = plain.clone();
        let tag = gcm.seal(&iv, &aad, &mut data).unwrap();
        if !data.is_empty() {
            let mut bad = data.clone();
            let at = usize::from(flip) % (bad.len() * 8);
            bad[at / 8] ^= 1 << (at % 8);
            prop_assert_eq!(gcm.open(&iv, &aad, &mut bad, &tag), Err(Error::Authentication));
        }
        gcm.open(&iv, &aad, &mut data, &tag).unwrap();
        prop_assert_eq!(data, plain);
    }

    #[test]
    fn p521_agreement_is_symmetric_and_keys_round_trip(a: [u8; 8], b: [u8; 8]) {
        let ours = P521Secret::generate(&mut SeededEntropy::new(&a));
        let theirs = P521Secret::generate(&mut SeededEntropy::new(&b));
        prop_assert_eq!(ours.ecdh_x(&theirs.public()), theirs.ecdh_x(&ours.public()));
        let public = ours.public();
        prop_assert_eq!(P521Public::from_padded_xy(&public.to_padded_xy()).unwrap(), public);
        prop_assert_eq!(P521Public::from_sec1(&public.to_sec1()).unwrap(), public);
        let again = P521Secret::from_scalar(ours.to_scalar().expose()).unwrap();
        prop_assert_eq!(again.public(), public);
    }

    #[test]
    fn seeded_entropy_does_not_depend_on_how_it_is_cut(cuts in prop::collection::vec(0usize..70, 0..8)) {
        let total: usize = cuts.iter().sum();
        let mut whole = vec![0; total];
        SeededEntropy::new(b"s").fill(&mut whole);
        let mut source = SeededEntropy::new(b"s");
        let mut parts = Vec::new();
        for cut in cuts {
            let mut part = vec![0; cut];
            source.fill(&mut part);
            parts.extend(part);
        }
        prop_assert_eq!(whole, parts);
    }
}

/// mlock(2), proc(5): the pages of a key are locked for as long as the key lives.
#[cfg(target_os = "linux")]
#[test]
fn keys_lie_in_locked_memory() {
    let mut entropy = SeededEntropy::new(b"locked");
    let secret = Secret::<32>::generate(&mut entropy);
    let key = P521Secret::generate(&mut entropy);
    let addresses = [secret.expose().as_ptr() as usize, std::ptr::from_ref(key.as_key()) as usize];
    for address in addresses {
        assert!(locked_kib(address) >= 4, "the page at {address:#x} is not locked");
    }
    let copy = secret.clone();
    drop(secret);
    assert_eq!(locked_kib(copy.expose().as_ptr() as usize), 4, "dropping one key unlocks no other");
}

/// `Locked:` of the mapping with `address` in it.
#[cfg(target_os = "linux")]
fn locked_kib(address: usize) -> usize {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut inside = false;
    for line in maps.lines() {
        let first = line.split_ascii_whitespace().next().unwrap();
        if let Some((start, end)) = first.split_once('-') {
            let number = |text| usize::from_str_radix(text, 16).unwrap();
            inside = (number(start)..number(end)).contains(&address);
        } else if inside && first == "Locked:" {
            return line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap();
        }
    }
    panic!("no mapping has {address:#x}");
}
