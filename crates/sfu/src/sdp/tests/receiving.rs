//! Tests of the negotiation of receive transports.

use super::client::Client;
use super::sequences::{Negotiation, stream};
use super::{FIREFOX, RECEIVE, bundle, check, here, media, read};
use crate::sdp::{Codec, Direction, Downlink, Extension, Kind, Receiving, SdpError};

#[test]
fn offers_use_the_payload_types_and_extension_ids_of_the_client() {
    let (mut receiving, answer) = Receiving::accept(&read(RECEIVE), &here(), 64).unwrap();
    check(&answer);
    assert!(media(&answer, "0").iter().any(|line| line == "a=recvonly"));
    assert_eq!(receiving.formats(Codec::Opus), Some((111, None)));
    assert_eq!(receiving.formats(Codec::Vp8), Some((96, Some(97))));
    assert_eq!(receiving.formats(Codec::Av1), None);
    assert_eq!(
        receiving.extension(Kind::Audio, Extension::AudioLevel),
        Some(1)
    );
    assert_eq!(
        receiving.extension(Kind::Video, Extension::AudioLevel),
        None
    );
    assert_eq!(
        receiving.extension(Kind::Video, Extension::TransportCc),
        Some(3)
    );
    assert_eq!(receiving.extension(Kind::Video, Extension::Rid), None);

    let streams = vec![stream(Codec::Opus, 10), stream(Codec::Vp8, 20)];
    let mids = receiving.add(streams).unwrap();
    let offer = receiving.offer(&here());
    check(&offer);
    assert_eq!(bundle(&offer), ["0", "1", &mids[0], &mids[1]]);
    assert!(offer.contains("o=- 9223372036854775807 2 "), "{offer}");
    let audio = media(&offer, &mids[0]);
    for line in [
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "a=sendonly",
        "a=setup:actpass",
        "a=msid:stream track10",
        "a=rtcp-fb:111 transport-cc",
        "a=rtcp-fb:111 nack",
        "a=fmtp:111 minptime=10;useinbandfec=1",
        "a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level",
        "a=ssrc:10 cname:stream",
    ] {
        assert!(audio.iter().any(|known| known == line), "{line}\n{offer}");
    }
    assert!(
        !offer.contains("a=ssrc:11 "),
        "Opus is not retransmitted on an SSRC of its own"
    );
    let video = media(&offer, &mids[1]);
    for line in [
        "m=video 9 UDP/TLS/RTP/SAVPF 96 97",
        "a=fmtp:97 apt=96",
        "a=rtcp-fb:96 nack pli",
        "a=extmap:13 urn:3gpp:video-orientation",
        "a=ssrc-group:FID 20 21",
        "a=ssrc:20 cname:stream",
        "a=ssrc:21 cname:stream",
    ] {
        assert!(video.iter().any(|known| known == line), "{line}\n{offer}");
    }
    assert!(!video.iter().any(|line| line.contains("rid")), "{offer}");
}

#[test]
fn firefox_is_offered_opus_with_payload_type_109() {
    let (receiving, _) = Receiving::accept(&read(FIREFOX), &here(), 64).unwrap();
    assert_eq!(receiving.formats(Codec::Opus), Some((109, None)));
    assert_eq!(receiving.formats(Codec::H264), Some((126, Some(127))));
    assert_eq!(
        receiving.extension(Kind::Video, Extension::TransportCc),
        Some(7)
    );
}

#[test]
fn a_failed_addition_leaves_the_state_unchanged() {
    let (mut receiving, _) = Receiving::accept(&read(RECEIVE), &here(), 4).unwrap();
    let before = receiving.offer(&here());
    let too_many = (0..3).map(|n| stream(Codec::Vp8, n)).collect();
    assert_eq!(receiving.add(too_many), Err(SdpError::Full { limit: 4 }));
    let unknown = vec![stream(Codec::Vp8, 1), stream(Codec::Av1, 2)];
    assert!(receiving.add(unknown).is_err());
    for bad in ["", "two words", "line\r\na=ice-lite", &"x".repeat(65)] {
        let bad = Downlink {
            stream: bad.to_owned(),
            ..stream(Codec::Opus, 1)
        };
        assert!(receiving.add(vec![bad]).is_err());
    }
    let after = receiving.offer(&here());
    assert_eq!(before.replace(" 2 IN", " 3 IN"), after);
    let refused = Receiving::accept(&read(RECEIVE), &here(), 1).err();
    assert_eq!(refused, Some(SdpError::Full { limit: 1 }));
}

#[test]
fn a_closed_line_is_reused_under_a_new_mid() {
    let mut transport = Negotiation::new();
    let mids = transport.add(&[Codec::Opus, Codec::Vp8]);
    assert_eq!(transport.renegotiate(), [""; 0]);
    assert_eq!(transport.close(&mids[1..]), [mids[1].clone()]);
    let (offer, _) = transport.offered();
    assert_eq!(
        media(&offer, &mids[1])[0],
        "m=video 0 UDP/TLS/RTP/SAVPF 96 97"
    );
    assert!(
        media(&offer, &mids[1])
            .iter()
            .any(|line| line == "a=inactive")
    );
    assert!(!offer.contains("a=ssrc:4 "));

    let more = transport.add(&[Codec::Vp8, Codec::Opus]);
    transport.renegotiate();
    let line_mids = transport.client.lines.iter().map(|line| line.mid.as_str());
    let line_mids = line_mids.collect::<Vec<_>>();
    assert_eq!(line_mids, ["0", "1", &mids[0], &more[0], &more[1]]);
    assert!(!mids.contains(&more[0]));
}

#[test]
fn free_lines_of_the_same_kind_are_reused_first() {
    let mut transport = Negotiation::new();
    let mids = transport.add(&[Codec::Vp8, Codec::Opus]);
    transport.renegotiate();
    transport.close(&mids);
    let more = transport.add(&[Codec::Opus, Codec::Opus]);
    transport.renegotiate();
    let line_mids = transport.client.lines.iter().map(|line| line.mid.as_str());
    assert_eq!(
        line_mids.collect::<Vec<_>>(),
        ["0", "1", &more[1], &more[0]]
    );
    assert_eq!(transport.client.lines[2].kind, Kind::Audio);
}

#[test]
fn a_lost_offer_is_repeated_unless_the_client_closes_a_line() {
    let mut transport = Negotiation::new();
    let first = transport.add(&[Codec::Opus]);
    transport.offered();
    let second = transport.add(&[Codec::Vp8]);
    transport.renegotiate();
    assert!(transport.knows(&first[0]) && transport.knows(&second[0]));

    let lost = transport.add(&[Codec::Vp8]);
    transport.offered();
    let mut removed = transport.close(&first);
    removed.sort();
    assert_eq!(removed, [first[0].clone(), lost[0].clone()]);
    let next = transport.add(&[Codec::Opus]);
    transport.renegotiate();
    let line_mids = transport.client.lines.iter().map(|line| line.mid.as_str());
    assert_eq!(
        line_mids.collect::<Vec<_>>(),
        ["0", "1", &next[0], &second[0]]
    );
}

#[test]
fn a_withdrawn_line_is_rejected_and_then_reused() {
    let mut transport = Negotiation::new();
    let mids = transport.add(&[Codec::Opus, Codec::Vp8]);
    transport.renegotiate();
    transport.receiving.withdraw(&mids[0]);
    transport.receiving.withdraw("0");
    transport.receiving.withdraw("unknown");
    let next = transport.add(&[Codec::Opus]);
    transport.renegotiate();
    assert!(!transport.client.lines[2].live && transport.client.lines[0].live);
    assert_eq!(transport.client.lines[4].mid, next[0]);
    // The SDK may close the line only now.
    assert_eq!(transport.close(&mids), [mids[1].clone()]);
    let last = transport.add(&[Codec::Opus]);
    transport.renegotiate();
    assert_eq!(transport.client.lines[2].mid, last[0]);
    assert_eq!(transport.close(&mids), [""; 0]);
}

#[test]
fn a_line_withdrawn_during_an_answer_is_not_reused_before_it_was_rejected() {
    let mut transport = Negotiation::new();
    let mids = transport.add(&[Codec::Opus]);
    let (_, lines) = transport.offered();
    transport.receiving.withdraw(&mids[0]);
    transport.client.lines = lines.clone();
    let answer = transport.client.describe("active", &lines);
    transport.receiving.apply_answer(&read(&answer)).unwrap();
    transport.add(&[Codec::Opus]);
    transport.renegotiate();
    assert_eq!(
        (
            &transport.client.lines[2].mid,
            transport.client.lines[2].live
        ),
        (&mids[0], false)
    );
    assert_eq!(transport.client.lines.len(), 4);
}

#[test]
fn a_line_with_an_unsupported_codec_is_not_reused_before_the_client_rejects_it() {
    let mut client = Client::new();
    client.produce(Kind::Video);
    let lines = client.lines.clone();
    let (head, unsupported) = client
        .describe("actpass", &lines)
        .rsplit_once("m=video")
        .map(|(head, last)| (head.to_owned(), last.replace("VP8", "VP7")))
        .unwrap();
    let first = format!("{head}m=video{unsupported}");
    let (receiving, answer) = Receiving::accept(&read(&first), &here(), 64).unwrap();
    client.answered(lines, &answer);
    let mut transport = Negotiation {
        client,
        receiving,
        ssrc: 0,
    };
    transport.add(&[Codec::Vp8]);
    transport.renegotiate();
    assert_eq!(transport.client.lines.len(), 4);
    transport.add(&[Codec::Vp8]);
    transport.renegotiate();
    assert_eq!(transport.client.lines.len(), 4);
}

#[test]
fn a_line_that_the_client_pauses_is_offered_again() {
    let mut transport = Negotiation::new();
    let mids = transport.add(&[Codec::Opus]);
    transport.renegotiate();
    let mut lines = transport.client.lines.clone();
    lines[2].direction = Direction::Inactive;
    let offer = transport.client.describe("actpass", &lines);
    let closed = transport
        .receiving
        .close(&read(&offer), &[], &here())
        .unwrap();
    let paused = check(&closed.answer);
    assert_eq!(
        paused.line(&mids[0]).unwrap().direction,
        Direction::Inactive
    );
    assert_eq!(closed.removed, [""; 0]);
    transport.client.answered(lines, &closed.answer);
    assert_eq!(transport.renegotiate(), [""; 0]);
    assert_eq!(transport.client.lines[2].direction, Direction::RecvOnly);
}

#[test]
fn a_line_that_is_listed_but_not_stopped_is_rejected() {
    let mut transport = Negotiation::new();
    let mids = transport.add(&[Codec::Opus]);
    transport.renegotiate();
    let lines = transport.client.lines.clone();
    let offer = transport.client.describe("actpass", &lines);
    let closed = transport
        .receiving
        .close(&read(&offer), &mids, &here())
        .unwrap();
    assert_eq!(closed.removed, mids);
    assert!(check(&closed.answer).line(&mids[0]).unwrap().rejected);
    // The line is not reused before the client has rejected it too.
    let next = transport.add(&[Codec::Opus]);
    transport.renegotiate();
    assert_eq!(transport.client.lines[3].mid, next[0]);
    transport.add(&[Codec::Opus]);
    transport.renegotiate();
    assert_eq!(transport.client.lines.len(), 4);
}

#[test]
fn declined_lines_are_reported_and_stopped() {
    let mut transport = Negotiation::new();
    let mids = transport.add(&[Codec::Opus, Codec::Vp8, Codec::Vp8, Codec::Opus]);
    let (_, mut lines) = transport.offered();
    lines[2].live = false;
    lines[3].direction = Direction::Inactive;
    let answer = transport.client.describe("active", &lines);
    // Line 4 lacks the payload type that is sent.
    let (head, last) = answer
        .rsplit_once("m=video 9 UDP/TLS/RTP/SAVPF 96 97")
        .unwrap();
    let answer = format!("{head}m=video 9 UDP/TLS/RTP/SAVPF 98{last}");
    let declined = transport.receiving.apply_answer(&read(&answer)).unwrap();
    assert_eq!(declined, mids[..3]);
    transport.client.lines = lines;
    let offer = transport.receiving.offer(&here());
    for mid in &mids[..3] {
        assert!(check(&offer).line(mid).unwrap().rejected, "{offer}");
    }
    assert!(!check(&offer).line(&mids[3]).unwrap().rejected);
}

#[test]
fn an_answer_must_match_the_offer() {
    let mut transport = Negotiation::new();
    let lines = transport.client.lines.clone();
    let early = transport.client.describe("active", &lines);
    assert!(transport.receiving.apply_answer(&read(&early)).is_err());
    transport.add(&[Codec::Opus]);
    let (_, lines) = transport.offered();
    let good = transport.client.describe("active", &lines);
    for bad in [
        early,
        good.replace("setup:active", "setup:passive"),
        good.replace("a=mid:1\r\n", "a=mid:9\r\n")
            .replace("BUNDLE 0 1", "BUNDLE 0 9"),
        good.replace("ice-ufrag:clie", "ice-ufrag:cliq"),
        good.replace("sha-256 5A", "sha-256 5B"),
    ] {
        let refused = transport.receiving.apply_answer(&read(&bad));
        assert!(refused.is_err(), "{bad}");
    }
    transport.receiving.apply_answer(&read(&good)).unwrap();
    assert!(
        transport.receiving.apply_answer(&read(&good)).is_err(),
        "only once"
    );
}

#[test]
fn an_offer_to_close_must_contain_all_known_lines() {
    let mut transport = Negotiation::new();
    let mids = transport.add(&[Codec::Opus]);
    transport.renegotiate();
    let lines = transport.client.lines.clone();
    let good = transport.client.describe("actpass", &lines);
    let mut swapped = lines.clone();
    swapped.swap(0, 1);
    let mut renamed = lines.clone();
    renamed[2].mid = "new".to_owned();
    let mut other = lines.clone();
    other[2].kind = Kind::Video;
    for bad in [&lines[..2], &swapped, &renamed, &other] {
        let bad = transport.client.describe("actpass", bad);
        assert!(
            transport
                .receiving
                .close(&read(&bad), &mids, &here())
                .is_err(),
            "{bad}"
        );
    }
    let closed = transport
        .receiving
        .close(&read(&good), &[], &here())
        .unwrap();
    assert_eq!(closed.removed, [""; 0]);
    assert_eq!(
        check(&closed.answer).line(&mids[0]).unwrap().direction,
        Direction::SendOnly
    );
}
