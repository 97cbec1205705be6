//! The primitives that AMD SEV needs, against published vectors, another library, and their promises.
#![expect(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use cloister_crypto::*;
use proptest::prelude::*;

fn unhex<const N: usize>(text: &str) -> [u8; N] {
    hex::decode(text).unwrap().try_into().unwrap()
}

#[test]
fn sp_800_38a_f_5_1_ctr_aes128() {
    let key = Secret::new(unhex("2b7e151628aed2a6abf7158809cf4f3c"));
    let iv = unhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff");
    let mut data: [u8; 64] = unhex(
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710",
    );
    let plain = data;
    aes128_ctr(&key, &iv, &mut data);
    assert_eq!(
        hex::encode(data),
        "874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff5ae4df3edbd5d35e5b4f09020db03eab1e031dda2fbe03d1792170a0f3009cee"
    );
    aes128_ctr(&key, &iv, &mut data);
    assert_eq!(data, plain);
}

/// The counter is one number of 128 bits: a carry goes through all of it, and its end is followed by zero.
#[test]
fn ctr_counts_in_all_128_bits() {
    let key = Secret::new([7; 16]);
    let block = |counter: [u8; 16]| {
        let mut out = counter;
        Aes128Block::new(&key).encrypt(&mut out);
        out
    };
    for (iv, next) in [
        (u128::MAX, 0),
        (u128::from(u64::MAX), 1 << 64),
        (u128::from(u32::MAX), 1 << 32),
        (u128::MAX << 64 | u128::from(u64::MAX >> 1), (u128::MAX << 64) + (1 << 63)),
    ] {
        let mut stream = [0; 32];
        aes128_ctr(&key, &iv.to_be_bytes(), &mut stream);
        assert_eq!(stream[..16], block(iv.to_be_bytes()));
        assert_eq!(stream[16..], block(u128::to_be_bytes(next)));
    }
}

const RFC6979_KEY: &str =
    "6b9d3dad2e1b8c1c05b19875b6659f4de23c3b667bf297ba9aa47740787137d896d5724e4c70a825f872c9ea60d2edf5";

#[test]
fn rfc_6979_a_2_6_p384() {
    let key = P384Secret::from_scalar(&unhex(RFC6979_KEY)).unwrap();
    let (x, y) = key.public().to_xy();
    assert_eq!(
        hex::encode(x),
        "ec3a4e415b4e19a4568618029f427fa5da9a8bc4ae92e02e06aae5286b300c64def8f0ea9055866064a254515480bc13"
    );
    assert_eq!(
        hex::encode(y),
        "8015d9b72d7d57244ea8ef9ac0c621896708a59367f9dfb9f54ca84b3f1c9db1288b231c3ae0d4fe7344fd2533264720"
    );
    let sha256 = P384Signature {
        r: unhex(
            "21b13d1e013c7fa1392d03c5f99af8b30c570c6f98d4ea8e354b63a21d3daa33bde1e888e63355d92fa2b3c36d8fb2cd",
        ),
        s: unhex(
            "f3aa443fb107745bf4bd77cb3891674632068a10ca67e3d45db2266fa7d1feebefdc63eccd1ac42ec0cb8668a4fa0ab0",
        ),
    };
    key.public().verify(EcdsaHash::Sha256, b"sample", &sha256).unwrap();
    assert_eq!(key.public().verify(EcdsaHash::Sha384, b"sample", &sha256), Err(Error::Signature));
    let sha384 = P384Signature {
        r: unhex(
            "94edbb92a5ecb8aad4736e56c691916b3f88140666ce9fa73d64c4ea95ad133c81a648152e44acf96e36dd1e80fabe46",
        ),
        s: unhex(
            "99ef4aeb15f178cea1fe40db2603138f130e740a19624526203b6351d0a3a94fa329c145786e679e7b82c71a38628ac8",
        ),
    };
    assert_eq!(key.sign(EcdsaHash::Sha384, b"sample"), sha384);
    key.public().verify(EcdsaHash::Sha384, b"sample", &sha384).unwrap();
}

const P384_ORDER: &str =
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973";

#[test]
fn p384_keys_outside_their_range_are_refused() {
    let order: [u8; 48] = unhex(P384_ORDER);
    let mut last = order;
    last[47] -= 1;
    assert!(P384Secret::from_scalar(&last).is_ok());
    for scalar in [[0; 48], order, [0xff; 48]] {
        assert_eq!(P384Secret::from_scalar(&scalar).err(), Some(Error::InvalidP384SecretKey));
    }
    assert_eq!(P384Public::from_xy(&[0; 48], &[0; 48]), Err(Error::InvalidP384PublicKey));
    let (x, mut y) = P384Secret::from_scalar(&last).unwrap().public().to_xy();
    y[47] ^= 1;
    assert_eq!(P384Public::from_xy(&x, &y), Err(Error::InvalidP384PublicKey));
}

/// FIPS 186-5, A.2.1: d = (c mod (n - 1)) + 1 at the ends of the range and for all ones.
#[test]
fn p384_keys_from_extra_random_bits() {
    let order: [u8; 48] = unhex(P384_ORDER);
    let from = |big_endian: &[u8]| {
        let mut bits = Secret::<56>::default();
        bits.expose_mut().iter_mut().zip(big_endian.iter().rev()).for_each(|(bit, &byte)| *bit = byte);
        hex::encode(P384Secret::from_extra_random_bits(&bits).to_scalar().expose())
    };
    let one = format!("{:096x}", 1);
    let mut last = order;
    last[47] -= 1;
    let mut second = order;
    second[47] -= 2;
    assert_eq!(from(&[0; 48]), one);
    assert_eq!(from(&second), hex::encode(last));
    assert_eq!(from(&last), one);
    assert_eq!(from(&order), format!("{:096x}", 2));
    // (2^448 - 1) mod (n - 1) + 1, computed with Python.
    assert_eq!(
        from(&[0xff; 56]),
        "00000000000000000000000000000000389cb27e0bc8d220a7e5f24db74f58851313e695333ad68e0000000000000000"
    );
}

#[test]
fn p384_agreement_is_symmetric_and_signatures_are_not_transferable() {
    let mut entropy = SeededEntropy::new(b"p384");
    let (a, b) = (P384Secret::generate(&mut entropy), P384Secret::generate(&mut entropy));
    assert_eq!(a.ecdh_x(&b.public()), b.ecdh_x(&a.public()));
    let signature = a.sign(EcdsaHash::Sha256, b"message");
    assert_eq!(signature, a.sign(EcdsaHash::Sha256, b"message"));
    a.public().verify(EcdsaHash::Sha256, b"message", &signature).unwrap();
    for (key, message) in [(&b, &b"message"[..]), (&a, b"massage")] {
        assert_eq!(key.public().verify(EcdsaHash::Sha256, message, &signature), Err(Error::Signature));
    }
    let zero = P384Signature { r: [0; 48], ..signature };
    assert_eq!(a.public().verify(EcdsaHash::Sha256, b"message", &zero), Err(Error::Signature));
}

proptest! {
    #[test]
    fn little_endian_fields_round_trip(r: [u8; 32], s: [u8; 32], at in 48usize..72) {
        let wide = |half: [u8; 32]| -> [u8; 48] { std::array::from_fn(|i| half[i % 32] ^ i as u8) };
        let signature = P384Signature { r: wide(r), s: wide(s) };
        let (r, s) = signature.to_le_fields();
        prop_assert_eq!(P384Signature::from_le_fields(&r, &s), Ok(signature));
        prop_assert_eq!((r[0], r[47], r[71]), (signature.r[47], signature.r[0], 0));
        let mut padded = s;
        padded[at] = 1;
        prop_assert_eq!(P384Signature::from_le_fields(&r, &padded), Err(Error::Signature));
        prop_assert_eq!(P384Signature::from_le_fields(&padded, &s), Err(Error::Signature));
    }
}

/// Lengths that are not a multiple of the digest; the label has no NUL and the number of bits enters.
#[test]
fn sp_800_108_counter_mode_is_the_formula() {
    let block = |i: u32, bits: u32| {
        hmac_sha256(b"key", &[&i.to_le_bytes(), b"label", &[0], b"context", &bits.to_le_bytes()])
    };
    let short: Secret<16> = kbkdf_hmac_sha256_le(b"key", b"label", b"context");
    assert_eq!(short.expose()[..], block(1, 128)[..16]);
    let long: Secret<56> = kbkdf_hmac_sha256_le(b"key", b"label", b"context");
    assert_eq!(long.expose()[..32], block(1, 448));
    assert_eq!(long.expose()[32..], block(2, 448)[..24]);
}

/// Keys and signatures by OpenSSL, see `data/README.md`.
#[test]
fn rsa_pss_agrees_with_openssl() {
    for (hash, bits, key, signature) in [
        (
            PssHash::Sha256,
            2048,
            &include_bytes!("data/rsa2048.pk8")[..],
            &include_bytes!("data/rsa2048.sig")[..],
        ),
        (
            PssHash::Sha384,
            4096,
            &include_bytes!("data/rsa4096.pk8")[..],
            &include_bytes!("data/rsa4096.sig")[..],
        ),
    ] {
        let key = RsaSecret::from_pkcs8_der(key).unwrap();
        let public = key.public();
        assert_eq!(public.bits(), bits);
        let mut theirs = signature.to_vec();
        theirs.reverse();
        public.verify_pss(hash, b"signed by openssl", &theirs).unwrap();

        let again = RsaPublic::from_le(&public.modulus_le(), &public.exponent_le()).unwrap();
        assert_eq!(again, public);
        assert_eq!(public.exponent_le()[..4], [1, 0, 1, 0]);
        assert_eq!(public.modulus_le().len(), bits / 8);
        let ours = key.sign_pss(&mut SeededEntropy::new(b"salt"), hash, b"message").unwrap();
        assert_eq!(ours.len(), bits / 8);
        public.verify_pss(hash, b"message", &ours).unwrap();
        assert_eq!(public.verify_pss(hash, b"massage", &ours), Err(Error::Signature));
        let other = if hash == PssHash::Sha256 { PssHash::Sha384 } else { PssHash::Sha256 };
        assert_eq!(public.verify_pss(other, b"message", &ours), Err(Error::Signature));
        for at in (0..ours.len()).step_by(29) {
            let mut bad = ours.clone();
            bad[at] ^= 0x10;
            assert_eq!(public.verify_pss(hash, b"message", &bad), Err(Error::Signature));
        }
        for size in [0, ours.len() - 1] {
            assert_eq!(public.verify_pss(hash, b"message", &ours[..size]), Err(Error::Signature));
        }
        let copy = RsaSecret::from_pkcs8_der(&key.to_pkcs8_der()).unwrap();
        assert_eq!(copy.public(), public);
    }
}

#[test]
fn numbers_that_are_no_rsa_key_are_refused() {
    for (modulus, exponent) in [
        (vec![0; 256], vec![1, 0, 1]),
        (vec![0xfe; 256], vec![1, 0, 1]),
        (vec![0xff; 513], vec![1, 0, 1]),
        (vec![0xff; 255], vec![1, 0, 1]),
        (vec![0xff; 256], vec![]),
        (vec![0xff; 256], vec![0xff; 256]),
        (vec![], vec![]),
    ] {
        assert_eq!(RsaPublic::from_le(&modulus, &exponent), Err(Error::InvalidRsaKey));
    }
    assert_eq!(RsaSecret::from_pkcs8_der(b"no key").err(), Some(Error::InvalidRsaKey));
}

#[test]
fn private_keys_are_not_printed() {
    let key = P384Secret::from_scalar(&unhex(RFC6979_KEY)).unwrap();
    assert_eq!(format!("{key:?}"), "P384Secret(..)");
    let key = RsaSecret::from_pkcs8_der(include_bytes!("data/rsa2048.pk8")).unwrap();
    assert_eq!(format!("{key:?}"), "RsaSecret(..)");
}
