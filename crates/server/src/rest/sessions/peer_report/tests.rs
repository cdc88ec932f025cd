//! Tests of the conversion from the media plane's report to the API.

use parlor_sfu::PeerReport;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;

fn track(source: Source, number: u128) -> TrackReport {
    TrackReport {
        producer: ProducerId::from_uuid(Uuid::from_u128(number)),
        source,
        mid: number.to_string(),
        layer: None,
        bps: 32_000,
        packets: 100,
        bytes: 8000,
        lost: 10,
        repaired: 4,
        jitter_ms: 0.0,
    }
}

fn transport(protocol: &'static str, tracks: Vec<TrackReport>) -> TransportReport {
    TransportReport {
        connected: true,
        protocol,
        tracks,
        ..TransportReport::default()
    }
}

fn shown(media: &PeerReport, filters: Option<ReportFilter>) -> Value {
    let wanted = Options {
        filters,
        include_peer_events: false,
    };
    serde_json::to_value(report(media, "GROUP_CALL".to_owned(), &wanted, 0)).unwrap()
}

fn receiving(transport: TransportReport) -> PeerReport {
    PeerReport {
        publish: None,
        receive: Some(transport),
    }
}

#[test]
fn each_source_has_a_list_in_either_direction() {
    let lists = [
        (Source::Microphone, "audio"),
        (Source::Camera, "video"),
        (Source::Screen, "screenshare_video"),
        (Source::ScreenAudio, "screenshare_audio"),
    ];
    let tracks = |first| {
        let numbered = lists.iter().zip(first..);
        numbered.map(|((source, _), number)| track(*source, number))
    };
    let media = PeerReport {
        publish: Some(transport("udp", tracks(1).collect())),
        receive: Some(transport("udp", tracks(11).collect())),
    };
    let quality = shown(&media, None)["quality"].take();
    assert_eq!(quality.as_object().unwrap().len(), 8, "{quality}");
    for ((_, list), number) in lists.iter().zip(1..) {
        for (direction, mid) in [("producer", number), ("consumer", number + 10)] {
            let samples = quality[format!("{list}_{direction}")].as_array().unwrap();
            assert_eq!(samples.len(), 1);
            assert_eq!(samples[0]["mid"], mid.to_string(), "{list} {direction}");
        }
    }
}

#[test]
fn a_sample_uses_the_clients_point_of_view() {
    let mut camera = track(Source::Camera, 1);
    camera.layer = Some("h".to_owned());
    camera.jitter_ms = 2.5;
    let mut publish = transport("udp", vec![camera.clone()]);
    publish.round_trip_ms = Some(40.0);
    let media = PeerReport {
        publish: Some(publish),
        receive: Some(transport("udp", vec![track(Source::Camera, 2)])),
    };
    let quality = shown(&media, Some(ReportFilter::QualityStats))["quality"].take();
    let time = "1970-01-01T00:00:00.000Z";
    let sent = json!({
        "producer_id": camera.producer.to_string(), "mid": "1", "timestamp": time, "packets_lost": 10,
        // Four of the hundred packets are retransmissions of the ten lost ones.
        "packets_sent": 106, "bytes_sent": 8000, "jitter": 0.0025, "rtt": 0.04, "bitrate": 32_000, "layer": "h",
    });
    let received = json!({
        "producer_id": ProducerId::from_uuid(Uuid::from_u128(2)).to_string(), "mid": "2", "timestamp": time,
        "packets_lost": 10, "packets_received": 90, "bytes_received": 8000, "bitrate": 32_000,
    });
    assert_eq!(quality["video_producer"], json!([sent]));
    assert_eq!(quality["video_consumer"], json!([received]));
}

#[test]
fn counts_that_contradict_each_other_do_not_wrap() {
    let mut odd = track(Source::Microphone, 1);
    (odd.packets, odd.lost, odd.repaired) = (5, u64::MAX, 9);
    let media = PeerReport {
        publish: Some(transport("udp", vec![odd.clone()])),
        receive: Some(transport("udp", vec![odd])),
    };
    let quality = shown(&media, None)["quality"].take();
    assert_eq!(quality["audio_producer"][0]["packets_sent"], u64::MAX);
    assert_eq!(quality["audio_consumer"][0]["packets_received"], 0);
}

#[test]
fn a_candidate_pair_contains_only_known_fields() {
    let pair = |transport: TransportReport| {
        shown(&receiving(transport), None)["metadata"]["candidate_pairs"]["consuming_transport"]
            .take()
    };
    let mut udp = transport("udp", vec![]);
    udp.remote = Some("[::ffff:192.0.2.7]:4000".parse().unwrap());
    udp.round_trip_ms = Some(30.0);
    udp.available_bps = Some(2_500_000);
    let wanted = json!([{
        "local_candidate_address": "192.0.2.7", "local_candidate_port": 4000, "local_candidate_protocol": "udp",
        "current_round_trip_time": 0.03, "available_incoming_bitrate": 2_500_000,
    }]);
    assert_eq!(pair(udp.clone()), wanted);
    let tcp = json!([{ "local_candidate_protocol": "tcp" }]);
    assert_eq!(pair(transport("tcp", vec![])), tcp);
    let relay = json!([{ "local_candidate_type": "relay" }]);
    assert_eq!(pair(transport("relay", vec![])), relay);
    udp.connected = false;
    assert_eq!(pair(udp), json!([]));
}

#[test]
fn only_an_ipv4_address_is_reported() {
    let ip = |remote: &str| {
        let mut udp = transport("udp", vec![]);
        udp.remote = Some(remote.parse().unwrap());
        shown(&receiving(udp), Some(ReportFilter::IpInformation))
    };
    let wanted = json!({ "metadata": { "ip_information": { "ipv4": "192.0.2.7" } } });
    assert_eq!(ip("192.0.2.7:1"), wanted);
    assert_eq!(ip("[::ffff:192.0.2.7]:1"), wanted);
    assert_eq!(ip("[2001:db8::7]:1"), json!({ "metadata": {} }));
}

#[test]
fn a_peer_without_media_has_an_empty_report() {
    let none = PeerReport::default();
    let wanted = json!({ "metadata": { "room_view_type": "GROUP_CALL" }, "quality": {} });
    assert_eq!(shown(&none, None), wanted);
    let part = shown(&none, Some(ReportFilter::Events));
    assert_eq!(part, json!({ "metadata": {} }));
}
