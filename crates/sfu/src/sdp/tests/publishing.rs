//! Tests of the negotiation of publish transports.

use proptest::prelude::*;

use super::client::Client;
use super::{
    CAMERA, FIREFOX, MICROPHONE, PUBLISH, bundle, candidate, check, here, local, media, read,
};
use crate::sdp::{Codec, Direction, Extension, Kind, Opus, Publishing, SdpError};

const OPUS: Opus = Opus {
    dtx: true,
    bitrate: 24_000,
};

/// Chromium's offer with additional media lines.
fn with<const N: usize>(lines: [&str; N]) -> String {
    let mids = (0..N + 2).map(|mid| mid.to_string()).collect::<Vec<_>>();
    let bundle = format!("BUNDLE {}", mids.join(" "));
    format!(
        "{}{}",
        PUBLISH.replace("BUNDLE 0 1", &bundle),
        lines.concat()
    )
}

/// Chromium's offer with a microphone whose Opus parameters the SDK has extended.
fn munged(parameters: &str) -> String {
    with([MICROPHONE]).replacen(
        "minptime=10;useinbandfec=1",
        &format!("minptime=10;useinbandfec=1;{parameters}"),
        1,
    )
}

#[test]
fn the_answer_to_the_first_offer_of_chromium() {
    let candidates = [
        candidate("192.0.2.1:443", true),
        candidate("192.0.2.1:3478", false),
        candidate("[2001:db8::1]:3478", false),
        candidate("192.0.2.1:3478", false),
        candidate("[::ffff:192.0.2.1]:3479", false),
    ];
    let (_, answer) = Publishing::accept(&read(PUBLISH), &local(&candidates)).unwrap();
    let ours = check(&answer);
    assert_eq!(bundle(&answer), ["0", "1"]);
    assert!(answer.starts_with("v=0\r\no=- 9223372036854775807 1 IN IP4 0.0.0.0\r\n"));
    assert!(answer.contains("\r\na=ice-lite\r\nm="), "at session level");
    assert_eq!(ours.fingerprint, [0xAB; 32]);
    let audio = media(&answer, "0");
    for line in [
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "a=recvonly",
        "a=setup:passive",
        "a=rtcp-mux",
        "a=rtcp-rsize",
        "a=rtpmap:111 opus/48000/2",
        "a=rtcp-fb:111 transport-cc",
        "a=fmtp:111 minptime=10;useinbandfec=1",
        "a=ice-ufrag:parl",
        "a=ice-pwd:parlorparlorparlorparlor",
        "a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level",
        "a=candidate:1 1 udp 2130706431 2001:db8::1 3478 typ host",
        "a=candidate:2 1 udp 2130706175 192.0.2.1 3478 typ host",
        "a=candidate:2 1 udp 2130705919 192.0.2.1 3479 typ host",
        "a=candidate:3 1 tcp 1520434431 192.0.2.1 443 typ host tcptype passive",
        "a=end-of-candidates",
    ] {
        assert!(audio.iter().any(|known| known == line), "{line}\n{answer}");
    }
    assert_eq!(answer.matches("a=candidate").count(), 4, "{answer}");
    assert!(!answer.contains("abs-send-time") && !answer.contains(" red/"));
    let video = media(&answer, "1");
    for line in [
        "m=video 9 UDP/TLS/RTP/SAVPF 96 97",
        "a=rtcp-fb:96 transport-cc",
        "a=rtcp-fb:96 ccm fir",
        "a=rtcp-fb:96 nack",
        "a=rtcp-fb:96 nack pli",
        "a=rtpmap:97 rtx/90000",
        "a=fmtp:97 apt=96",
        "a=rid:f recv",
        "a=rid:h recv",
        "a=rid:q recv",
        "a=simulcast:recv f;h;q",
        "a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
        "a=extmap:11 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
        "a=extmap:13 urn:3gpp:video-orientation",
    ] {
        assert!(video.iter().any(|known| known == line), "{line}\n{answer}");
    }
    assert!(!answer.contains("goog-remb"));
}

#[test]
fn the_opus_parameters_of_a_preset_are_kept_when_later_offers_omit_them() {
    let (mut publishing, _) = Publishing::accept(&read(PUBLISH), &here()).unwrap();
    let offer = munged("stereo=1;sprop-stereo=1;maxaveragebitrate=64000");
    let (answer, uplinks) = publishing.answer(&read(&offer), &here(), OPUS).unwrap();
    let requested =
        "a=fmtp:111 minptime=10;useinbandfec=1;usedtx=1;stereo=1;maxaveragebitrate=64000";
    let microphone = media(&answer, "2");
    assert!(microphone.iter().any(|line| line == requested), "{answer}");
    assert!(microphone.iter().any(|line| line == "a=rtcp-fb:111 nack"));
    assert!(
        !media(&answer, "0")
            .iter()
            .any(|line| line.ends_with(" nack"))
    );

    let microphone = uplinks.iter().find(|uplink| uplink.mid == "2").unwrap();
    assert_eq!(
        (microphone.codec, microphone.kind),
        (Codec::Opus, Kind::Audio)
    );
    assert_eq!((microphone.payload_type, microphone.rtx), (111, None));
    assert_eq!(microphone.clock_rate, 48_000);
    assert_eq!(microphone.ssrcs, [1_130_573_529]);
    assert_eq!(microphone.extensions.id(Extension::AudioLevel), Some(1));
    assert_eq!(publishing.extensions().id(Extension::Mid), Some(4));
    assert_eq!(publishing.extensions().id(Extension::Rid), Some(10));

    let offer = with([MICROPHONE, CAMERA]);
    let (answer, uplinks) = publishing.answer(&read(&offer), &here(), OPUS).unwrap();
    assert!(
        media(&answer, "2").iter().any(|line| line == requested),
        "{answer}"
    );
    assert!(answer.contains("o=- 9223372036854775807 3 "), "{answer}");
    let camera = uplinks.iter().find(|uplink| uplink.mid == "3").unwrap();
    assert_eq!(
        (camera.codec, camera.payload_type, camera.rtx),
        (Codec::Vp8, 96, None)
    );
    assert_eq!(camera.rids, ["f", "h", "q"]);
    assert!(camera.ssrcs.is_empty());
    let camera = media(&answer, "3");
    assert_eq!(
        camera[0], "m=video 9 UDP/TLS/RTP/SAVPF 96",
        "RTX only if it was offered"
    );
    assert!(camera.iter().any(|line| line == "a=simulcast:recv f;h;q"));
}

#[test]
fn a_missing_or_invalid_bitrate_is_replaced() {
    let fmtp = |offer: &str, opus: Opus| {
        let (mut publishing, _) = Publishing::accept(&read(PUBLISH), &here()).unwrap();
        let (answer, _) = publishing.answer(&read(offer), &here(), opus).unwrap();
        let mut lines = media(&answer, "2").into_iter();
        lines.find(|line| line.starts_with("a=fmtp:111")).unwrap()
    };
    let quiet = Opus { dtx: false, ..OPUS };
    let plain = "a=fmtp:111 minptime=10;useinbandfec=1";
    assert_eq!(
        fmtp(&with([MICROPHONE]), quiet),
        format!("{plain};maxaveragebitrate=24000")
    );
    assert_eq!(
        fmtp(&munged("maxaveragebitrate=1"), quiet),
        format!("{plain};maxaveragebitrate=6000")
    );
    assert_eq!(
        fmtp(&munged("maxaveragebitrate=9999999"), quiet),
        format!("{plain};maxaveragebitrate=510000")
    );
    assert_eq!(
        fmtp(&munged("maxaveragebitrate=much"), quiet),
        format!("{plain};maxaveragebitrate=24000")
    );
}

#[test]
fn firefox_is_answered_with_its_own_payload_types() {
    let (mut publishing, _) = Publishing::accept(&read(FIREFOX), &here()).unwrap();
    let (answer, uplinks) = publishing.answer(&read(FIREFOX), &here(), OPUS).unwrap();
    check(&answer);
    assert_eq!(media(&answer, "0")[0], "m=audio 9 UDP/TLS/RTP/SAVPF 109");
    assert!(
        answer.contains("a=fmtp:109 minptime=10;useinbandfec=1;usedtx=1;maxaveragebitrate=24000")
    );
    assert_eq!(
        media(&answer, "1")[0],
        "m=video 9 UDP/TLS/RTP/SAVPF 120 124"
    );
    // The limits of Firefox's decoder are not echoed.
    assert!(!answer.contains("a=fmtp:120"), "{answer}");
    // The client offered this extension as sendonly.
    assert!(answer.contains("a=extmap:9/recvonly urn:ietf:params:rtp-hdrext:sdes:repaired"));
    assert!(!answer.contains("csrc-audio-level"));
    assert_eq!(uplinks[1].extensions.id(Extension::RepairedRid), Some(9));
    assert_eq!(uplinks[1].rtx, Some(124));
}

#[test]
fn only_the_parameters_of_the_codec_variant_are_echoed() {
    let fmtp = |codec: &str, parameters: &str| {
        let offer = PUBLISH.replace("96 97 102 103", "102 103");
        let offer = offer.replace("102 H264", &format!("102 {codec}")).replace(
            "a=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f",
            &format!("a=fmtp:102 {parameters}"),
        );
        let (_, answer) = Publishing::accept(&read(&offer), &here()).unwrap();
        let mut lines = media(&answer, "1").into_iter();
        lines.find(|line| line.starts_with("a=fmtp:102"))
    };
    let h264 = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f";
    let more = format!("max-fs=1;{h264};sprop-parameter-sets=Z0IACpZTBYmI,aMljiA==");
    assert_eq!(fmtp("H264", &more), Some(format!("a=fmtp:102 {h264}")));
    assert_eq!(
        fmtp("VP9", "x=1; Profile-Id=2 ;profile-ids=3").as_deref(),
        Some("a=fmtp:102 Profile-Id=2")
    );
    let av1 = "level-idx=5;profile=0;tier=0";
    assert_eq!(fmtp("AV1", av1), Some(format!("a=fmtp:102 {av1}")));
    assert_eq!(fmtp("VP8", "max-fs=12288;max-fr=60"), None);
}

#[test]
fn at_most_three_layers_are_accepted() {
    let offer = PUBLISH
        .replace("a=rid:q send", "a=rid:q send\r\na=rid:x send")
        .replace("send f;h;q", "send f;h;q;x");
    let (_, answer) = Publishing::accept(&read(&offer), &here()).unwrap();
    assert!(answer.contains("a=simulcast:recv f;h;q\r\n") && !answer.contains("rid:x"));
}

#[test]
fn stopped_inactive_and_unsupported_lines_are_no_uplinks() {
    let (mut publishing, _) = Publishing::accept(&read(PUBLISH), &here()).unwrap();
    let inactive = MICROPHONE.replace("a=sendonly", "a=inactive");
    let offer = with([&inactive, CAMERA]);
    let (answer, uplinks) = publishing.answer(&read(&offer), &here(), OPUS).unwrap();
    assert!(media(&answer, "2").iter().any(|line| line == "a=inactive"));
    assert_eq!(uplinks.len(), 3);

    let stopped = CAMERA.replace("m=video 9", "m=video 0");
    let unsupported = CAMERA.replace("VP8", "H261").replace("a=mid:3", "a=mid:4");
    let offer = with([MICROPHONE, &stopped, &unsupported]);
    let (answer, uplinks) = publishing.answer(&read(&offer), &here(), OPUS).unwrap();
    assert_eq!(bundle(&answer), ["0", "1", "2"]);
    assert_eq!(media(&answer, "3")[0], "m=video 0 UDP/TLS/RTP/SAVPF 96");
    assert_eq!(media(&answer, "4")[0], "m=video 0 UDP/TLS/RTP/SAVPF 96");
    assert_eq!(uplinks.len(), 3);

    // A stopped line can be reused.
    let other = MICROPHONE.replace("a=mid:2", "a=mid:7");
    let offer = with([MICROPHONE, &other, &unsupported]).replace("0 1 2 3 4", "0 1 2 7 4");
    let (_, uplinks) = publishing.answer(&read(&offer), &here(), OPUS).unwrap();
    assert_eq!(uplinks.last().unwrap().mid, "7");
}

#[test]
fn offers_that_change_a_transport_are_rejected() {
    let (mut publishing, _) = Publishing::accept(&read(PUBLISH), &here()).unwrap();
    let good = with([MICROPHONE]);
    publishing.answer(&read(&good), &here(), OPUS).unwrap();
    let of_another_kind = MICROPHONE
        .replace(
            "m=audio 9 UDP/TLS/RTP/SAVPF 111",
            "m=video 9 UDP/TLS/RTP/SAVPF 96",
        )
        .replace("111 opus/48000/2", "96 VP8/90000");
    let bad = [
        PUBLISH.to_owned(),
        good.replace("a=mid:2", "a=mid:3").replace("0 1 2", "0 1 3"),
        with([&of_another_kind]),
        good.replace("a=ice-ufrag:zjzm", "a=ice-ufrag:zjzn"),
        good.replace("a=ice-pwd:v", "a=ice-pwd:w"),
        good.replace("sha-256 47", "sha-256 48"),
        good.replace("a=setup:actpass", "a=setup:passive"),
        good.replace("t=0 0\r\n", "t=0 0\r\na=ice-lite\r\n"),
    ];
    for (index, offer) in bad.iter().enumerate() {
        let refused = publishing.answer(&read(offer), &here(), OPUS);
        let Err(error) = refused else {
            panic!("bad offer {index} is answered");
        };
        assert!(error.to_string().len() < 100, "{error}");
    }
    let (answer, _) = publishing.answer(&read(&good), &here(), OPUS).unwrap();
    assert!(answer.contains("o=- 9223372036854775807 3 "), "{answer}");
}

#[test]
fn an_offer_without_a_supported_codec_is_rejected() {
    let offer = PUBLISH
        .replace("opus", "opal")
        .replace("VP8", "VP7")
        .replace("H264", "H261");
    let refused = Publishing::accept(&read(&offer), &here()).map(|(_, answer)| answer);
    assert!(matches!(refused, Err(SdpError::Refused(_))), "{refused:?}");
}

proptest! {
    #[test]
    fn every_offer_is_answered_line_by_line(
        actions in proptest::collection::vec((0..4_u8, any::<prop::sample::Index>(), any::<bool>()), 1..20),
    ) {
        let mut client = Client::new();
        let lines = client.lines.clone();
        let first = client.describe("actpass", &lines);
        let (mut publishing, answer) = Publishing::accept(&read(&first), &here()).unwrap();
        client.answered(lines, &answer);
        for (action, which, lost) in actions {
            match action {
                0 => client.produce(Kind::Audio),
                1 => client.produce(Kind::Video),
                2 => {
                    let index = which.index(client.lines.len());
                    client.lines[index].direction = Direction::Inactive;
                }
                _ => {
                    let index = which.index(client.lines.len());
                    client.lines[index].direction = Direction::Inactive;
                    client.lines[index].live = index < 2;
                }
            }
            let lines = client.lines.clone();
            let offer = client.describe("actpass", &lines);
            let (answer, uplinks) = publishing.answer(&read(&offer), &here(), OPUS).unwrap();
            if !lost {
                client.answered(lines.clone(), &answer);
            }
            let sending = lines.iter().filter(|line| line.live && line.direction.sends());
            let sending = sending.map(|line| &line.mid).collect::<Vec<_>>();
            prop_assert_eq!(uplinks.iter().map(|uplink| &uplink.mid).collect::<Vec<_>>(), sending);
        }
    }
}
