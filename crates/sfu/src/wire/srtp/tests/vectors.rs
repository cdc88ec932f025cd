//! Published test vectors: RFC 3711 appendix B, RFC 6188 section 7, RFC 7714 sections 16 and 17,
//! and the self-test of libsrtp, which includes the derivation from the master key.

use super::super::cipher::derive;
use super::*;

/// Decodes hexadecimal digits. Ignores whitespace.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text
        .split_whitespace()
        .flat_map(str::chars)
        .map(|digit| digit.to_digit(16).unwrap())
        .collect();
    let pairs = digits.chunks_exact(2);
    assert!(pairs.remainder().is_empty());
    pairs
        .map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap())
        .collect()
}

fn derived(key: &str, salt: &str, label: u8, length: usize) -> Vec<u8> {
    let mut out = vec![0; length];
    derive(&hex(key), &hex(salt), label, &mut out).unwrap();
    out
}

#[test]
fn keys_of_128_bits_are_derived_as_in_rfc_3711() {
    let (key, salt) = (
        "E1F97A0D3E018BE0D64FA32C06DE4139",
        "0EC675AD498AFEEBB6960B3AABE6",
    );
    assert_eq!(
        derived(key, salt, 0, 16),
        hex("C61E7A93744F39EE10734AFE3FF7A087")
    );
    assert_eq!(
        derived(key, salt, 2, 14),
        hex("30CBBC08863D8C85D49DB34A9AE1")
    );
    assert_eq!(
        derived(key, salt, 1, 20),
        hex("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4")
    );
}

#[test]
fn keys_of_256_bits_are_derived_as_in_rfc_6188() {
    let (key, salt) = (
        "f0f04914b513f2763a1b1fa130f10e2998f6f6e43e4309d1e622a0e332b9f1b6",
        "3b04803de51ee7c96423ab5b78d2",
    );
    assert_eq!(
        derived(key, salt, 0, 32),
        hex("5ba1064e30ec51613cad926c5a28ef731ec7fb397f70a960653caf06554cd8c4")
    );
    assert_eq!(
        derived(key, salt, 2, 14),
        hex("fa31791685ca444a9e07c6c64e93")
    );
    assert_eq!(
        derived(key, salt, 1, 20),
        hex("fd9c32d39ed5fbb5a9dc96b30818454d1313dc05")
    );
}

/// Creates SRTP contexts from a session key and salt, as in the vectors of RFC 7714.
fn gcm(profile: Profile, key: &[u8]) -> (Sealer, Opener) {
    let salt = *b"Quid pro quo";
    let keys = || SessionKeys {
        profile,
        rtp: Cipher::gcm(key, salt).unwrap(),
        rtcp: Cipher::gcm(key, salt).unwrap(),
    };
    (Sealer::new(keys()), Opener::new(keys()))
}

fn keys() -> [(Profile, Vec<u8>); 2] {
    [
        (Profile::Aead128Gcm, (0..16).collect()),
        (Profile::Aead256Gcm, (0..32).collect()),
    ]
}

#[test]
fn gcm_seals_and_opens_rtp_as_in_rfc_7714() {
    let header = "8040f17b 8041f8d3 5501a0b2";
    let plain = [
        hex(header).as_slice(),
        b"Gallia est omnis divisa in partes tres",
    ]
    .concat();
    let expected = [
        "f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f 42a5f47a 51c7d19b 36de3adf 8833
         899d7f27 beb16a91 52cf765e e4390cce",
        "32b1de78 a822fe12 ef9f78fa 332e33aa b1801238 9a58e2f3 b50b2a02 76ffae0f 1ba63799 b87b
         7aa3db36 dfffd6b0 f9bb7878 d7a76c13",
    ];
    for ((profile, key), expected) in keys().into_iter().zip(expected) {
        let (sealer, mut opener) = gcm(profile, &key);
        let mut packet = plain.clone();
        sealer.seal_rtp(&mut packet, 0, 12, 0xF17B);
        assert_eq!(packet, [hex(header), hex(expected)].concat());
        let found = opener.open_rtp(&mut packet).unwrap();
        assert_eq!(
            (found.index, &packet[..found.end]),
            (0xF17B, plain.as_slice())
        );
    }
}

#[test]
fn gcm_seals_and_opens_rtcp_as_in_rfc_7714() {
    let header = "81c8000d 4d617273";
    let body = "4e545031 4e545032 52545020 0000042a 0000e930 4c756e61
        deadbeef deadbeef deadbeef deadbeef deadbeef";
    let plain = [hex(header), hex(body)].concat();
    let expected = [
        "63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d c676a5f1 730d6fda 4ce09b46 86303ded
         0bb9275b c84aa458 96cf4d2f c5abf872 45d9eade 800005d4",
        "d50ae4d1 f5ce5d30 4ba297e4 7d470c28 2c3ece5d bffe0a50 a2eaa5c1 110555be 8415f658 c61de047
         6f1b6fad 1d1eb30c 4446839f 57ff6f6c b26ac3be 800005d4",
    ];
    for ((profile, key), expected) in keys().into_iter().zip(expected) {
        let (mut sealer, mut opener) = gcm(profile, &key);
        sealer.rtcp_index = 0x5D4;
        let mut packet = plain.clone();
        sealer.seal_rtcp(&mut packet, 0);
        assert_eq!(packet, [hex(header), hex(expected)].concat());
        assert_eq!(opener.open_rtcp(&mut packet), Some(plain.as_slice()));
    }
}

#[test]
fn rtcp_that_is_authentic_but_not_encrypted_is_refused() {
    // RFC 7714 section 17.3.
    let mut packet = hex(
        "81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61
         deadbeef deadbeef deadbeef deadbeef deadbeef
         841dd968 3dd78ec9 2ae58790 125f62b3 000005d4",
    );
    let [(profile, key), _] = keys();
    let (_, mut opener) = gcm(profile, &key);
    assert_eq!(opener.open_rtcp(&mut packet), None);
}

/// The packets of libsrtp's self-test: RTP with sequence number 0x1234, and a sender report.
fn check_libsrtp(profile: Profile, key: &str, salt: &str, media: &str, control: &str) {
    // The client's key and salt. Those of the server are not used.
    let material = [hex(key), hex(key), hex(salt), hex(salt)].concat();
    let (mut sealer, _) = pair(profile, &material, false).unwrap();
    let (_, mut opener) = pair(profile, &material, true).unwrap();

    let plain = hex("800f1234 decafbad cafebabe abababab abababab abababab abababab");
    let mut packet = plain.clone();
    sealer.seal_rtp(&mut packet, 0, 12, 0x1234);
    assert_eq!(packet, hex(media));
    let found = opener.open_rtp(&mut packet).unwrap();
    assert_eq!(packet[..found.end], plain);

    let plain = hex("81c8000b cafebabe abababab abababab abababab abababab");
    let mut packet = plain.clone();
    sealer.seal_rtcp(&mut packet, 0);
    assert_eq!(packet, hex(control));
    assert_eq!(opener.open_rtcp(&mut packet), Some(plain.as_slice()));
}

#[test]
fn the_common_profile_agrees_with_libsrtp() {
    check_libsrtp(
        Profile::AesCm128Sha1_80,
        "e1f97a0d 3e018be0 d64fa32c 06de4139",
        "0ec675ad 498afeeb b6960b3a abe6",
        "800f1234 decafbad cafebabe 4e55dc4c e79978d8 8ca4d215 949d2402 b78d6acc 99ea179b 8dbb",
        "81c8000b cafebabe 7128035b e487b9bd bef89041 f977a5a8 80000001 993e08cd 54d6c123 0798",
    );
}

#[test]
fn gcm_agrees_with_libsrtp_including_key_derivation() {
    check_libsrtp(
        Profile::Aead128Gcm,
        "00010203 04050607 08090a0b 0c0d0e0f",
        "a0a1a2a3 a4a5a6a7 a8a9aaab",
        "800f1234 decafbad cafebabe c5002ede 04cfdd2e b91159e0 880aa06e d2976826 f796b201 df3131a1
         27e8a392",
        "81c8000b cafebabe c98b8b5d f0392a55 852b6c21 ac8e7025 c52c6fbe a2b3b446 ea31123b a88ce61e
         80000001",
    );
}
