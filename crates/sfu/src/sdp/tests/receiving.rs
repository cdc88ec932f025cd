//! What a client that receives is offered, and how it closes.

use super::client::Client;
use super::sequences::{World, stream};
use super::{FIREFOX, RECEIVE, bundle, check, here, media, read};
use crate::sdp::{Codec, Direction, Downlink, Extension, Kind, Receiving, SdpError};

#[test]
fn what_is_offered_is_in_the_clients_own_numbers() {
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
fn firefox_is_offered_opus_as_109() {
    let (receiving, _) = Receiving::accept(&read(FIREFOX), &here(), 64).unwrap();
    assert_eq!(receiving.formats(Codec::Opus), Some((109, None)));
    assert_eq!(receiving.formats(Codec::H264), Some((126, Some(127))));
    assert_eq!(
        receiving.extension(Kind::Video, Extension::TransportCc),
        Some(7)
    );
}

#[test]
fn what_cannot_be_added_changes_nothing() {
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
fn a_closed_line_gives_its_place_to_the_next_one_under_a_new_mid() {
    let mut world = World::new();
    let mids = world.add(&[Codec::Opus, Codec::Vp8]);
    assert_eq!(world.renegotiate(), [""; 0]);
    assert_eq!(world.close(&mids[1..]), [mids[1].clone()]);
    let (offer, _) = world.offered();
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

    let more = world.add(&[Codec::Vp8, Codec::Opus]);
    world.renegotiate();
    let places = world.client.lines.iter().map(|line| line.mid.as_str());
    let places = places.collect::<Vec<_>>();
    assert_eq!(places, ["0", "1", &mids[0], &more[0], &more[1]]);
    assert!(!mids.contains(&more[0]));
}

#[test]
fn a_place_of_the_same_kind_is_preferred_and_of_another_kind_is_used() {
    let mut world = World::new();
    let mids = world.add(&[Codec::Vp8, Codec::Opus]);
    world.renegotiate();
    world.close(&mids);
    let more = world.add(&[Codec::Opus, Codec::Opus]);
    world.renegotiate();
    let places = world.client.lines.iter().map(|line| line.mid.as_str());
    assert_eq!(places.collect::<Vec<_>>(), ["0", "1", &more[1], &more[0]]);
    assert_eq!(world.client.lines[2].kind, Kind::Audio);
}

#[test]
fn an_offer_that_was_never_seen_is_said_again_and_closing_forgets_it() {
    let mut world = World::new();
    let first = world.add(&[Codec::Opus]);
    world.offered();
    let second = world.add(&[Codec::Vp8]);
    world.renegotiate();
    assert!(world.knows(&first[0]) && world.knows(&second[0]));

    let lost = world.add(&[Codec::Vp8]);
    world.offered();
    let mut gone = world.close(&first);
    gone.sort();
    assert_eq!(gone, [first[0].clone(), lost[0].clone()]);
    let next = world.add(&[Codec::Opus]);
    world.renegotiate();
    let places = world.client.lines.iter().map(|line| line.mid.as_str());
    assert_eq!(places.collect::<Vec<_>>(), ["0", "1", &next[0], &second[0]]);
}

#[test]
fn what_the_server_stops_is_rejected_and_then_free() {
    let mut world = World::new();
    let mids = world.add(&[Codec::Opus, Codec::Vp8]);
    world.renegotiate();
    world.receiving.withdraw(&mids[0]);
    world.receiving.withdraw("0");
    world.receiving.withdraw("nobody");
    let next = world.add(&[Codec::Opus]);
    world.renegotiate();
    assert!(!world.client.lines[2].live && world.client.lines[0].live);
    assert_eq!(world.client.lines[4].mid, next[0]);
    // The SDK may close it only now.
    assert_eq!(world.close(&mids), [mids[1].clone()]);
    let last = world.add(&[Codec::Opus]);
    world.renegotiate();
    assert_eq!(world.client.lines[2].mid, last[0]);
    assert_eq!(world.close(&mids), [""; 0]);
}

#[test]
fn what_the_server_stops_while_the_client_answers_has_its_place_until_it_was_told() {
    let mut world = World::new();
    let mids = world.add(&[Codec::Opus]);
    let (_, lines) = world.offered();
    world.receiving.withdraw(&mids[0]);
    world.client.lines = lines.clone();
    let answer = world.client.describe("active", &lines);
    world.receiving.answered(&read(&answer)).unwrap();
    world.add(&[Codec::Opus]);
    world.renegotiate();
    assert_eq!(
        (&world.client.lines[2].mid, world.client.lines[2].live),
        (&mids[0], false)
    );
    assert_eq!(world.client.lines.len(), 4);
}

#[test]
fn a_line_that_was_not_understood_has_its_place_until_the_client_has_said_so_too() {
    let mut client = Client::new();
    client.produce(Kind::Video);
    let lines = client.lines.clone();
    let (head, strange) = client
        .describe("actpass", &lines)
        .rsplit_once("m=video")
        .map(|(head, last)| (head.to_owned(), last.replace("VP8", "VP7")))
        .unwrap();
    let first = format!("{head}m=video{strange}");
    let (receiving, answer) = Receiving::accept(&read(&first), &here(), 64).unwrap();
    client.answered(lines, &answer);
    let mut world = World {
        client,
        receiving,
        ssrc: 0,
    };
    world.add(&[Codec::Vp8]);
    world.renegotiate();
    assert_eq!(world.client.lines.len(), 4);
    world.add(&[Codec::Vp8]);
    world.renegotiate();
    assert_eq!(world.client.lines.len(), 4);
}

#[test]
fn a_line_that_the_client_pauses_is_offered_to_it_again() {
    let mut world = World::new();
    let mids = world.add(&[Codec::Opus]);
    world.renegotiate();
    let mut lines = world.client.lines.clone();
    lines[2].direction = Direction::Inactive;
    let offer = world.client.describe("actpass", &lines);
    let closed = world.receiving.close(&read(&offer), &[], &here()).unwrap();
    let paused = check(&closed.answer);
    assert_eq!(
        paused.line(&mids[0]).unwrap().direction,
        Direction::Inactive
    );
    assert_eq!(closed.gone, [""; 0]);
    world.client.answered(lines, &closed.answer);
    assert_eq!(world.renegotiate(), [""; 0]);
    assert_eq!(world.client.lines[2].direction, Direction::RecvOnly);
}

#[test]
fn a_line_that_is_named_and_not_stopped_is_rejected() {
    let mut world = World::new();
    let mids = world.add(&[Codec::Opus]);
    world.renegotiate();
    let lines = world.client.lines.clone();
    let offer = world.client.describe("actpass", &lines);
    let closed = world
        .receiving
        .close(&read(&offer), &mids, &here())
        .unwrap();
    assert_eq!(closed.gone, mids);
    assert!(check(&closed.answer).line(&mids[0]).unwrap().rejected);
    // Its place is not free before the client has said so too.
    let next = world.add(&[Codec::Opus]);
    world.renegotiate();
    assert_eq!(world.client.lines[3].mid, next[0]);
    world.add(&[Codec::Opus]);
    world.renegotiate();
    assert_eq!(world.client.lines.len(), 4);
}

#[test]
fn what_the_client_does_not_want_is_told_and_not_sent() {
    let mut world = World::new();
    let mids = world.add(&[Codec::Opus, Codec::Vp8, Codec::Vp8, Codec::Opus]);
    let (_, mut lines) = world.offered();
    lines[2].live = false;
    lines[3].direction = Direction::Inactive;
    let answer = world.client.describe("active", &lines);
    // Without the payload type that is sent, as for line 4, it cannot be understood.
    let (head, last) = answer
        .rsplit_once("m=video 9 UDP/TLS/RTP/SAVPF 96 97")
        .unwrap();
    let answer = format!("{head}m=video 9 UDP/TLS/RTP/SAVPF 98{last}");
    let unwanted = world.receiving.answered(&read(&answer)).unwrap();
    assert_eq!(unwanted, mids[..3]);
    world.client.lines = lines;
    let offer = world.receiving.offer(&here());
    for mid in &mids[..3] {
        assert!(check(&offer).line(mid).unwrap().rejected, "{offer}");
    }
    assert!(!check(&offer).line(&mids[3]).unwrap().rejected);
}

#[test]
fn an_answer_must_fit_its_offer() {
    let mut world = World::new();
    let lines = world.client.lines.clone();
    let early = world.client.describe("active", &lines);
    assert!(world.receiving.answered(&read(&early)).is_err());
    world.add(&[Codec::Opus]);
    let (_, lines) = world.offered();
    let good = world.client.describe("active", &lines);
    for bad in [
        early,
        good.replace("setup:active", "setup:passive"),
        good.replace("a=mid:1\r\n", "a=mid:9\r\n")
            .replace("BUNDLE 0 1", "BUNDLE 0 9"),
        good.replace("ice-ufrag:clie", "ice-ufrag:cliq"),
        good.replace("sha-256 5A", "sha-256 5B"),
    ] {
        let refused = world.receiving.answered(&read(&bad));
        assert!(refused.is_err(), "{bad}");
    }
    world.receiving.answered(&read(&good)).unwrap();
    assert!(world.receiving.answered(&read(&good)).is_err(), "only once");
}

#[test]
fn an_offer_to_close_must_have_what_the_client_knows() {
    let mut world = World::new();
    let mids = world.add(&[Codec::Opus]);
    world.renegotiate();
    let lines = world.client.lines.clone();
    let good = world.client.describe("actpass", &lines);
    let mut swapped = lines.clone();
    swapped.swap(0, 1);
    let mut renamed = lines.clone();
    renamed[2].mid = "new".to_owned();
    let mut other = lines.clone();
    other[2].kind = Kind::Video;
    for bad in [&lines[..2], &swapped, &renamed, &other] {
        let bad = world.client.describe("actpass", bad);
        assert!(
            world.receiving.close(&read(&bad), &mids, &here()).is_err(),
            "{bad}"
        );
    }
    let closed = world.receiving.close(&read(&good), &[], &here()).unwrap();
    assert_eq!(closed.gone, [""; 0]);
    assert_eq!(
        check(&closed.answer).line(&mids[0]).unwrap().direction,
        Direction::SendOnly
    );
}
