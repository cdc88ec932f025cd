//! SRTP and SRTCP: packets without a valid authentication tag are rejected, and a protected packet
//! is accepted exactly once.
#![no_main]

use parlor_sfu::wire::{rtp::Header, srtp};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((first, bytes)) = bytes.split_first() else {
        return;
    };
    let profile = match first % 3 {
        0 => srtp::Profile::Aead128Gcm,
        1 => srtp::Profile::Aead256Gcm,
        _ => srtp::Profile::AesCm128Sha1_80,
    };
    let material = vec![7; profile.keying_material_len()];
    let (mut sealer, mut opener) =
        srtp::pair(profile, &material, true).expect("the key length matches the profile");

    // All bytes of the keying material are equal, so both directions have the same keys, and the
    // opener accepts what the sealer protects.
    assert_eq!(opener.open_rtp(&mut bytes.to_vec()), None);
    assert_eq!(opener.open_rtcp(&mut bytes.to_vec()), None);

    if let Some(header) = Header::parse(bytes) {
        let mut packet = bytes.to_vec();
        sealer.seal_rtp(&mut packet, 0, header.payload, u64::from(header.sequence));
        let sealed = packet.clone();
        let opened = opener
            .open_rtp(&mut packet)
            .expect("the packet was just protected");
        assert_eq!(packet.get(..opened.end), Some(bytes));
        assert_eq!(opened.index, u64::from(header.sequence));
        assert_eq!(opener.open_rtp(&mut sealed.clone()), None);
    }
    let mut compound = bytes.to_vec();
    sealer.seal_rtcp(&mut compound, 0);
    if bytes.len() < 8 {
        assert!(compound.is_empty());
    } else if bytes.first().is_some_and(|first| first >> 6 == 2) {
        let mut replayed = compound.clone();
        assert_eq!(opener.open_rtcp(&mut compound), Some(bytes));
        assert_eq!(opener.open_rtcp(&mut replayed), None);
    }
});
