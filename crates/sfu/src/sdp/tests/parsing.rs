//! Tests of the parser.

use proptest::prelude::*;

use super::{CAMERA, FIREFOX, MICROPHONE, PUBLISH, RECEIVE, check, here, read};
use crate::sdp::{
    Codec, Description, Direction, Downlink, Extension, Kind, MAX_BYTES, Opus, Publishing,
    Receiving, SdpError, Setup,
};

#[test]
fn an_offer_of_chromium_is_parsed() {
    let offer = read(&format!(
        "{}{MICROPHONE}{CAMERA}",
        PUBLISH.replace("BUNDLE 0 1", "BUNDLE 0 1 2 3")
    ));
    assert_eq!(offer.ice_ufrag, "zjzm");
    assert_eq!(offer.ice_pwd.len(), 24);
    assert_eq!((offer.fingerprint[0], offer.fingerprint[31]), (0x47, 0xE6));
    assert_eq!((offer.setup, offer.ice_lite), (Setup::ActPass, false));
    let mids = offer.media.iter().map(|line| line.mid.as_str());
    assert_eq!(mids.collect::<Vec<_>>(), ["0", "1", "2", "3"]);

    let video = offer.line("1").unwrap();
    assert_eq!(video.kind, Kind::Video);
    assert_eq!(video.direction, Direction::SendOnly);
    assert!(!video.rejected);
    assert_eq!(video.rids, ["f", "h", "q"]);
    let payload_types = video.formats.iter().map(|format| format.payload_type);
    assert_eq!(payload_types.collect::<Vec<_>>(), [96, 97, 102, 103]);
    assert_eq!(video.formats[0].codec, Some(Codec::Vp8));
    assert_eq!(
        (video.formats[0].rtx, video.formats[2].rtx),
        (Some(97), Some(103))
    );
    assert_eq!(video.formats[2].codec, Some(Codec::H264));
    assert_eq!(video.formats[2].parameter("packetization-mode"), Some("1"));
    assert_eq!(video.formats[1].codec, None);
    assert_eq!(video.extensions.id(Extension::Rid), Some(10));
    assert_eq!(video.extensions.extension(11), Some(Extension::RepairedRid));
    assert_eq!(video.extensions.extension(14), None);

    let microphone = offer.line("2").unwrap();
    assert_eq!(microphone.ssrcs, [1_130_573_529]);
    assert_eq!(microphone.formats[0].feedback, ["transport-cc", "nack"]);
    let (stream, track) = microphone.msid.as_ref().unwrap();
    assert!(stream.starts_with("1813e489") && track.starts_with("73b9f04e"));
}

#[test]
fn retransmission_ssrcs_are_separated_from_primary_ones() {
    let offer = read(RECEIVE);
    let video = offer.line("1").unwrap();
    assert_eq!(video.ssrcs, [3_088_084_422]);
    assert_eq!(video.rtx_ssrcs, [(3_088_084_422, 1_287_217_480)]);
}

#[test]
fn an_offer_of_firefox_is_parsed() {
    let offer = read(FIREFOX);
    let audio = offer.line("0").unwrap();
    assert_eq!(
        (audio.formats[0].payload_type, audio.formats[0].codec),
        (109, Some(Codec::Opus))
    );
    assert_eq!(offer.fingerprint[0], 0x0B);
    let video = offer.line("1").unwrap();
    assert!(!video.rejected, "bundle-only is not rejected");
    assert_eq!(video.rids, ["f", "h", "q"]);
    assert_eq!(video.formats[0].rtx, Some(124));
    assert_eq!(video.extensions.id(Extension::RepairedRid), Some(9));
    assert_eq!(video.receivable.id(Extension::RepairedRid), None);
}

#[test]
fn extension_ids_that_need_a_two_byte_header_are_ignored() {
    for id in ["0", "15", "255", "4096", "x", "3/inactive"] {
        let offer = PUBLISH.replace("extmap:3 ", &format!("extmap:{id} "));
        let extensions = read(&offer).media[0].extensions;
        assert_eq!(extensions.id(Extension::TransportCc), None, "{id}");
        assert_eq!(extensions.id(Extension::Mid), Some(4));
    }
    let offer = PUBLISH.replace("extmap:3 ", "extmap:14/sendrecv ");
    let extensions = read(&offer).media[0].extensions;
    assert_eq!(extensions.id(Extension::TransportCc), Some(14));
    let twice = PUBLISH.replace("extmap:3 ", "extmap:1 ");
    let extensions = read(&twice).media[0].extensions;
    assert_eq!(extensions.extension(1), Some(Extension::AudioLevel));
    assert_eq!(extensions.id(Extension::TransportCc), None);
}

#[test]
fn alternative_and_paused_layers_are_parsed() {
    let offer = PUBLISH.replace("send f;h;q", "send ~q;f,h;z");
    assert_eq!(read(&offer).line("1").unwrap().rids, ["q", "f"]);
    let offer = PUBLISH.replace("send f;h;q", "recv a;b send h;f");
    assert_eq!(read(&offer).line("1").unwrap().rids, ["h", "f"]);
}

#[test]
fn unsupported_descriptions_are_rejected() {
    let bad = [
        String::new(),
        "hello".to_owned(),
        PUBLISH.replace("v=0\r\n", ""),
        PUBLISH.replace("\r\n", "\0"),
        PUBLISH.replace("s=-", "s=-\u{7}"),
        PUBLISH.replace("s=-", "S=-"),
        PUBLISH.replace("a=fingerprint", "a=finger"),
        PUBLISH.replace("sha-256", "sha-1"),
        PUBLISH.replace("47:0C", "470C"),
        PUBLISH.replace("47:0C", "47:0C:00"),
        PUBLISH.replace("a=ice-pwd", "a=ice-secret"),
        PUBLISH.replace("a=ice-ufrag:zjzm", "a=ice-ufrag:z m"),
        PUBLISH.replace("a=ice-ufrag", "a=ice-user"),
        PUBLISH.replace("a=setup:actpass", "a=setup:holdconn"),
        PUBLISH.replace("a=rtcp-mux", "a=rtcp-max"),
        PUBLISH.replace("a=mid:1", "a=mid:0"),
        PUBLISH.replace("a=mid:1", "a=mid:a b"),
        PUBLISH.replace("a=mid:1", "a=mid:12345678901234567"),
        PUBLISH.replace("a=mid:1\r\n", ""),
        PUBLISH.replace("BUNDLE 0 1", "BUNDLE 0"),
        PUBLISH.replace("a=group", "a=groups"),
        PUBLISH.replace("t=0 0\r\n", "t=0 0\r\na=group:BUNDLE 1\r\n"),
        PUBLISH.replace("m=audio 9", "m=audio nine"),
        PUBLISH.replace("m=audio", "m=text"),
        PUBLISH.replace("UDP/TLS/RTP/SAVPF", "RTP/AVP"),
        PUBLISH.replace("SAVPF 111 63 0", "SAVPF"),
        PUBLISH.replace("SAVPF 111", "SAVPF 128"),
        PUBLISH
            .replace("m=audio 9", "m=audio 0")
            .replace("m=video 9", "m=video 0"),
        format!("{PUBLISH}m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:2\r\n"),
        format!(
            "{PUBLISH}{}",
            "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n".repeat(511)
        ),
        format!("{PUBLISH}{}", "a=x\r\n".repeat(17_000)),
        format!("{PUBLISH}a=x:{}\r\n", "x".repeat(MAX_BYTES)),
        format!(
            "{PUBLISH}{}",
            (0..40)
                .map(|n| format!("a=ssrc:{n} cname:x\r\n"))
                .collect::<String>()
        ),
    ];
    for (index, text) in bad.iter().enumerate() {
        let error = Description::parse(text).expect_err(&format!("bad {index} is accepted"));
        let message = error.to_string();
        assert!(!message.is_empty() && message.len() < 100, "{message}");
        assert!(!message.chars().any(char::is_control), "{message}");
    }
}

/// An offer whose first media line lists all payload types and has additional attributes.
fn crammed(more: &str) -> String {
    let formats = (0..128).filter(|format| *format != 111);
    let formats = formats.map(|format| format!(" {format}"));
    let formats = format!("SAVPF 111{}", formats.collect::<String>());
    let offer = PUBLISH.replacen("SAVPF 111 63 0", &formats, 1);
    let text = offer.replacen("a=mid:0\r\n", &format!("a=mid:0\r\n{more}"), 1);
    assert!(text.len() <= MAX_BYTES, "{}", text.len());
    text
}

#[test]
fn unknown_and_duplicate_feedback_is_not_stored() {
    let unknown = (0..16_000).map(|n| format!("a=rtcp-fb:* x{n:04}\r\n"));
    let known = "a=rtcp-fb:* nack\r\na=rtcp-fb:111 nack\r\na=rtcp-fb:* ccm fir\r\n".repeat(5_000);
    for more in [unknown.collect::<String>(), known.clone()] {
        let offer = read(&crammed(&more));
        let audio = offer.line("0").unwrap();
        assert_eq!(audio.formats.len(), 128);
        for format in &audio.formats {
            let expected: &[&str] = match (format.payload_type, more == known) {
                (111, true) => &["nack", "transport-cc"],
                (111, false) => &["transport-cc"],
                _ => &[],
            };
            assert_eq!(format.feedback, expected, "{}", format.payload_type);
        }
    }
    // In Firefox's offer, a=rtcp-fb precedes a=rtpmap.
    let video = read(FIREFOX).line("1").unwrap().clone();
    let expected = ["nack", "nack pli", "ccm fir", "transport-cc"];
    assert_eq!(video.formats[0].feedback, expected);
}

#[test]
fn wildcard_feedback_applies_to_each_format_that_supports_it() {
    let offer = PUBLISH.replace(
        "a=rtcp-fb:96 goog-remb",
        "a=rtcp-fb:* nack\r\na=rtcp-fb:* nack pli",
    );
    let offer = offer.replace("a=rtcp-fb:102 ", "a=x-fb:102 ");
    let offer = read(&offer);
    let video = offer.line("1").unwrap();
    assert_eq!(video.formats[2].feedback, ["nack", "nack pli"]);
    assert!(
        video.formats[1].feedback.is_empty(),
        "RTX has no feedback types"
    );
}

#[test]
fn redundant_text_is_not_stored() {
    let mids = "x ".repeat(100_000);
    let lines = (0..500).map(|n| {
        let line = MICROPHONE.lines().next().unwrap();
        format!("{line}\r\na=mid:m{n}\r\na=rtcp-mux\r\n")
    });
    let group = (0..500).map(|n| format!(" m{n}")).collect::<String>();
    let many = PUBLISH.replace("BUNDLE 0 1", &format!("BUNDLE {mids}0 1{group}"));
    let offer = read(&format!("{many}{}", lines.collect::<String>()));
    assert_eq!((offer.media.len(), offer.ice_ufrag.as_str()), (502, "zjzm"));

    let duplicates = PUBLISH.replacen(
        "SAVPF 111 63 0",
        &format!("SAVPF {}", "111 127 ".repeat(60_000)),
        1,
    );
    assert_eq!(read(&duplicates).media[0].formats.len(), 2);

    let maps = "a=rtpmap:127 a/1\r\na=fmtp:127 a;b\r\n".repeat(7_500);
    let offer = read(&crammed(&maps));
    let last = offer.media[0].formats.last().unwrap();
    assert_eq!((last.name.as_str(), last.fmtp.len()), ("a", 2));

    let alternatives = format!("send f{};h;q", ",h".repeat(200_000));
    let offer = read(&PUBLISH.replace("send f;h;q", &alternatives));
    assert_eq!(offer.line("1").unwrap().rids, ["f", "h", "q"]);
}

#[test]
fn a_line_has_at_most_sixteen_rids() {
    let offer = |count: usize, listed: &str| {
        let rids = (0..count - 3).map(|n| format!("a=rid:r{n} send\r\n"));
        let rids = rids.collect::<String>();
        let offer = PUBLISH.replace("a=rid:q send\r\n", &format!("a=rid:q send\r\n{rids}"));
        offer.replace("a=simulcast:send f;h;q", listed)
    };
    let all = read(&offer(16, "a=x"));
    assert_eq!(all.line("1").unwrap().rids.len(), 16);
    let many = format!("a=simulcast:send {}", "f;".repeat(200_000));
    for text in [offer(17, "a=x"), offer(16_000, "a=x"), offer(3, &many)] {
        let number = text
            .lines()
            .position(|line| line == "a=rid:r13 send" || line == many);
        let error = Description::parse(&text).expect_err("it is accepted");
        let expected = SdpError::Line {
            number: number.unwrap() + 1,
            problem: "the media line has more than 16 rids",
        };
        assert_eq!(error, expected);
    }
}

#[test]
fn the_parameters_of_a_format_are_limited() {
    let offer = |parameters: &str| PUBLISH.replace("apt=96", &format!("apt=96;{parameters}"));
    let video = |text: &str| read(text).line("1").unwrap().formats.clone();
    assert_eq!(video(&offer(&"x;".repeat(15)))[1].fmtp.len(), 16);
    assert_eq!(video(&offer(&"x".repeat(249)))[1].fmtp[1].len(), 249);
    for (parameters, problem) in [
        ("x;".repeat(16), "a=fmtp has more than 16 parameters"),
        ("x".repeat(250), "a=fmtp has more than 256 bytes"),
    ] {
        let text = offer(&parameters);
        let number = text
            .lines()
            .position(|line| line.starts_with("a=fmtp:97"))
            .unwrap()
            + 1;
        let error = Description::parse(&text).expect_err("it is accepted");
        assert_eq!(error, SdpError::Line { number, problem });
    }
}

#[test]
fn an_error_contains_the_line_number() {
    let text = PUBLISH.replacen("a=mid:0", "a=mid:", 1);
    let number = text.lines().position(|line| line == "a=mid:").unwrap() + 1;
    let Err(SdpError::Line { number: found, .. }) = Description::parse(&text) else {
        panic!("it is accepted");
    };
    assert_eq!(found, number);
}

#[test]
fn the_debug_output_does_not_contain_the_password() {
    let offer = read(PUBLISH);
    assert!(!format!("{offer:?}").contains(&offer.ice_pwd));
}

#[test]
fn transport_attributes_on_the_tagged_line_suffice() {
    let (head, video) = PUBLISH.split_once("m=video").unwrap();
    let video = video.lines().filter(|line| {
        let transport = ["a=ice-", "a=fingerprint", "a=setup", "a=rtcp-mux"];
        !transport.iter().any(|start| line.starts_with(start))
    });
    let video = video.map(|line| format!("{line}\r\n")).collect::<String>();
    assert_eq!(read(&format!("{head}m=video{video}")).ice_ufrag, "zjzm");
}

/// Runs all operations that a client can trigger with this text.
fn exercise(text: &str) {
    let Ok(read) = Description::parse(text) else {
        return;
    };
    let opus = Opus {
        dtx: true,
        bitrate: 32_000,
    };
    if let Ok((mut publishing, answer)) = Publishing::accept(&read, &here()) {
        check(&answer);
        if let Ok((answer, uplinks)) = publishing.answer(&read, &here(), opus) {
            assert_eq!(check(&answer).media.len(), read.media.len());
            assert!(uplinks.iter().all(|uplink| uplink.rids.len() <= 3));
        }
    }
    if let Ok((mut receiving, answer)) = Receiving::accept(&read, &here(), 64) {
        check(&answer);
        let streams = Codec::ALL.into_iter().zip(1..);
        let streams = streams.map(|(codec, ssrc)| Downlink {
            codec,
            stream: "stream".to_owned(),
            track: "track".to_owned(),
            ssrc,
            rtx: None,
        });
        let known = streams.filter(|stream| receiving.formats(stream.codec).is_some());
        let mids = receiving.add(known.collect::<Vec<_>>()).unwrap();
        check(&receiving.offer(&here()));
        let _ = receiving.apply_answer(&read);
        if let Ok(closed) = receiving.close(&read, &mids, &here()) {
            check(&closed.answer);
        }
        check(&receiving.offer(&here()));
    }
}

/// A line of SDP, or something similar.
fn piece() -> impl Strategy<Value = String> {
    let lines = [PUBLISH, RECEIVE, CAMERA, FIREFOX].join("");
    let lines = lines.lines().map(str::to_owned).collect::<Vec<_>>();
    prop_oneof![
        3 => proptest::sample::select(lines),
        1 => "[a-z]=[ -~]{0,40}",
        1 => "a=(mid|rtpmap|fmtp|rtcp-fb|extmap|rid|simulcast|ssrc|ssrc-group|msid|setup|group)[:][ -~]{0,30}",
        1 => "\\PC{0,60}",
    ]
}

proptest! {
    #[test]
    fn the_parser_never_panics(text in "\\PC{0,400}", lines in proptest::collection::vec(piece(), 0..40)) {
        exercise(&text);
        exercise(&format!("v=0\r\n{}", lines.join("\r\n")));
    }

    #[test]
    fn modified_offers_lead_to_valid_answers(
        which in 0..4_usize,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), 0..4_u8, piece()), 0..6),
    ) {
        let real = [PUBLISH.to_owned(), RECEIVE.to_owned(), FIREFOX.to_owned(),
            format!("{}{MICROPHONE}{CAMERA}", PUBLISH.replace("BUNDLE 0 1", "BUNDLE 0 1 2 3"))];
        let mut lines = real[which].lines().map(str::to_owned).collect::<Vec<_>>();
        for (place, change, piece) in changes {
            let at = place.index(lines.len());
            match change {
                0 => lines[at] = piece,
                1 => lines.insert(at, piece),
                2 => {
                    let copy = lines[at].clone();
                    lines.insert(place.index(at + 1), copy);
                }
                _ => {
                    lines.remove(at);
                }
            }
        }
        exercise(&lines.join("\r\n"));
    }
}
