//! An RTP packet: its header, its extensions, its padding, and all of it written again.
#![no_main]

use parlor_sfu::wire::{self, Kind, rtp};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let kind = wire::kind(bytes);
    let Some(header) = rtp::Header::parse(bytes) else {
        return;
    };
    assert!(matches!(kind, Kind::Rtp | Kind::Rtcp));
    assert!(header.payload <= bytes.len());
    if let Some(payload) = header.unpadded(bytes) {
        assert!(bytes.get(payload).is_some());
    }
    for (_, value) in header.extensions(bytes) {
        let _ = (rtp::audio_level(value), rtp::transport_sequence(value));
    }

    // Whatever the one-byte form can hold comes back from it.
    let mut elements: Vec<(u8, &[u8])> = header
        .extensions(bytes)
        .filter(|(id, value)| (1..=14).contains(id) && (1..=16).contains(&value.len()))
        .collect();
    elements.truncate(14);
    let outgoing = rtp::Outgoing {
        marker: header.marker,
        payload_type: header.payload_type,
        sequence: header.sequence,
        timestamp: header.timestamp,
        ssrc: header.ssrc,
    };
    let mut written = Vec::new();
    let length = rtp::write_header(&mut written, &outgoing, &elements);
    let again = rtp::Header::parse(&written).expect("what is written can be read");
    assert_eq!((again.payload, again.sequence), (length, header.sequence));
    assert!(again.extensions(&written).eq(elements));
});
