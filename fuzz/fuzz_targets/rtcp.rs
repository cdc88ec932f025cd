//! Compound RTCP packets, including a round trip of transport-wide feedback.
#![no_main]

use parlor_sfu::wire::rtcp::{self, Rtcp};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut statuses = 0;
    for packet in rtcp::parse(bytes) {
        match packet {
            Rtcp::SenderReport { blocks, .. } | Rtcp::ReceiverReport { blocks, .. } => {
                assert!(blocks.count() < 32);
            }
            Rtcp::Nack { lost, .. } => assert!(lost.count() * 4 <= bytes.len() * 17),
            Rtcp::Fir { entries, .. } => assert!(entries.count() * 8 <= bytes.len()),
            Rtcp::Remb { ssrcs, .. } | Rtcp::Bye { ssrcs } => {
                assert!(ssrcs.count() * 4 <= bytes.len());
            }
            Rtcp::TransportCc(feedback) => {
                statuses += feedback.arrivals().count();
                check_round_trip(&feedback);
            }
            Rtcp::Pli { .. } | Rtcp::Sdes | Rtcp::Other => {}
        }
    }
    assert!(statuses <= 16_384, "one datagram causes too much work");
});

/// Serializes the parsed feedback and checks that it parses to the same arrivals.
fn check_round_trip(feedback: &rtcp::Feedback<'_>) {
    let read: Vec<_> = feedback.arrivals().collect();
    let times: Vec<_> = read
        .iter()
        .map(|(_, ticks)| {
            ticks.map(|ticks| (ticks + i64::from(feedback.reference_time) * 256) * 250)
        })
        .collect();
    let mut out = Vec::new();
    let written = rtcp::write_transport_cc(&mut out, 1, 2, 3, feedback.base, &times);
    let Some(packet) = rtcp::parse(&out).next() else {
        assert!(times.iter().all(Option::is_none));
        return;
    };
    let Rtcp::TransportCc(reparsed) = packet else {
        panic!("expected transport-wide feedback");
    };
    assert!(written > 0 && out.len() <= 1200);
    // Each feedback counts from its own 24-bit reference time.
    let clock =
        |reference: u32, ticks: i64| (i64::from(reference) * 256 + ticks).rem_euclid(1 << 32);
    let actual = reparsed.arrivals().map(|(sequence, ticks)| {
        (
            sequence,
            ticks.map(|ticks| clock(reparsed.reference_time, ticks)),
        )
    });
    let expected = read.iter().map(|(sequence, ticks)| {
        (
            *sequence,
            ticks.map(|ticks| clock(feedback.reference_time, ticks)),
        )
    });
    assert!(actual.eq(expected.take(written)));
}
