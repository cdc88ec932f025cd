//! RTP packets: header, extensions, padding, and a round trip of the header.
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

    // Everything the one-byte extension format can represent must survive a round trip.
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
    let reparsed = rtp::Header::parse(&written).expect("a written header parses");
    assert_eq!(
        (reparsed.payload, reparsed.sequence),
        (length, header.sequence)
    );
    assert!(reparsed.extensions(&written).eq(elements));
});
