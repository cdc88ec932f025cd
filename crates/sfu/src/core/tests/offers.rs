//! What is offered, and what is answered.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::world::{OFFER, World, home, member, open};
use crate::core::transport::{Offer, Template, without_candidates};
use crate::{Direction, Error};

#[test]
fn a_bad_offer_is_refused_and_the_older_transport_stays() {
    let mut world = World::new();
    let (guest, _) = world.join(member(1), Direction::Publish);
    let (_, audio) = OFFER.split_once("m=audio").unwrap();
    let (audio, _) = audio.split_once("a=extmap").unwrap();
    let (_, data) = audio.split_once("\r\n").unwrap();
    let data = format!(
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n{}a=sctp-port:5000\r\n",
        data.replace("a=mid:0", "a=mid:2")
    );
    let with_data = format!("{}{data}", OFFER.replace("BUNDLE 0 1", "BUNDLE 0 1 2"));
    let bad = [
        String::new(),
        "hello".to_owned(),
        OFFER.replace("a=fingerprint", "a=finger"),
        OFFER.replace("a=ice-pwd", "a=ice-secret"),
        OFFER.replace("a=mid:1", "a=mid:0"),
        OFFER.replace("BUNDLE 0 1", "BUNDLE 0"),
        OFFER.replace("a=setup:actpass", "a=setup:passive"),
        OFFER.replace("t=0 0\r\n", "t=0 0\r\na=ice-lite\r\n"),
        with_data,
        format!(
            "{OFFER}{}",
            "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n".repeat(80)
        ),
        OFFER.replace("\r\n", "\0"),
        format!("{OFFER}{}", "a=x\r\n".repeat(5000)),
        format!("{OFFER}a=x:{}\r\n", "x".repeat(128 * 1024)),
    ];
    for (index, offer) in bad.iter().enumerate() {
        let opened = open(
            &mut world.engine,
            world.now,
            member(1),
            Direction::Publish,
            offer,
        );
        let Err(Error::BadOffer(reason)) = opened else {
            panic!("bad offer {index} gave {opened:?}");
        };
        assert!(!reason.is_empty() && reason.chars().count() <= 200);
        assert!(!reason.contains("0x") && !reason.contains('\n'), "{reason}");
    }
    world.run(Duration::from_secs(3));
    assert!(world.connected(guest));
    assert_eq!(world.engine.open_transports(), 1);
}

#[test]
fn the_answer_is_what_a_browser_needs() {
    let mut world = World::new();
    let publish = |world: &mut World, offer: &str| {
        open(
            &mut world.engine,
            world.now,
            member(1),
            Direction::Publish,
            offer,
        )
        .unwrap()
    };
    let opened = publish(&mut world, OFFER);
    let lines = opened.answer.lines().collect::<Vec<_>>();
    for line in [
        "a=group:BUNDLE 0 1".to_owned(),
        "a=ice-lite".to_owned(),
        "a=setup:passive".to_owned(),
        "a=mid:0".to_owned(),
        "a=mid:1".to_owned(),
        "a=recvonly".to_owned(),
        "a=rtcp-mux".to_owned(),
        "a=rtpmap:111 opus/48000/2".to_owned(),
        "a=rtpmap:96 VP8/90000".to_owned(),
        "a=rid:f recv".to_owned(),
        "a=simulcast:recv f;h;q".to_owned(),
        format!("a=ice-ufrag:{}", opened.transport_id),
    ] {
        assert!(lines.contains(&line.as_str()), "{line}\n{}", opened.answer);
    }
    let candidates = lines.iter().filter(|line| line.starts_with("a=candidate:"));
    let candidates = candidates.collect::<Vec<_>>();
    assert_eq!(candidates.len(), 1, "{}", opened.answer);
    assert!(candidates[0].contains(" udp ") && candidates[0].contains(" 192.0.2.1 3478 typ host"));
    let shown = format!("{opened:?}");
    assert!(!shown.contains("ice-pwd") && shown.contains(&opened.transport_id));

    let fingerprint = |answer: &str| {
        let at = answer.find("a=fingerprint:").unwrap();
        answer[at..].lines().next().unwrap().to_owned()
    };
    let second = publish(&mut world, OFFER);
    assert_ne!(opened.answer, second.answer);
    assert_eq!(fingerprint(&opened.answer), fingerprint(&second.answer));
}

#[test]
fn the_offer_of_a_client_that_tried_again_has_more_lines() {
    let mut world = World::new();
    let (_, video) = OFFER.split_once("m=audio").unwrap();
    let media = format!("m=audio{video}");
    let again = media
        .replace("a=mid:0", "a=mid:2")
        .replace("a=mid:1", "a=mid:3");
    let offer = format!("{}{again}", OFFER.replace("BUNDLE 0 1", "BUNDLE 0 1 2 3"));
    let opened = open(
        &mut world.engine,
        world.now,
        member(1),
        Direction::Publish,
        &offer,
    )
    .unwrap();
    assert!(opened.answer.contains("a=group:BUNDLE 0 1 2 3"));
    assert_eq!(opened.answer.matches("\nm=").count(), 4);
}

#[test]
fn candidates_in_an_offer_are_passed_over() {
    let candidates = "a=candidate:1 1 udp 2122260223 10.0.0.1 5000 typ host\r\na=candidate:?\r\n";
    let offer = OFFER.replace("a=mid:", &format!("{candidates}a=mid:"));
    assert_ne!(offer, OFFER);
    assert_eq!(without_candidates(&offer), OFFER);
    let mut world = World::new();
    let publish = Direction::Publish;
    let opened = open(&mut world.engine, world.now, member(1), publish, &offer);
    assert!(opened.is_ok(), "{opened:?}");
}

/// Pieces of the offer that matter, and some that do not belong.
fn piece() -> impl Strategy<Value = String> {
    let lines = OFFER.lines().map(str::to_owned).collect::<Vec<_>>();
    prop_oneof![
        6 => prop::sample::select(lines),
        1 => "[a-z]=[ -~]{0,40}",
        1 => "a=(rid|simulcast|extmap|fmtp|rtcp-fb|ssrc|ssrc-group|candidate|group|mid|msid|fingerprint|setup)[: ][ -~]{0,40}",
        1 => "a=extmap:[0-9]{1,4} urn:ietf:params:rtp-hdrext:sdes:mid",
        1 => "a=rtpmap:[0-9]{1,4} (VP8|opus|rtx|red)/[0-9]{0,10}",
        1 => "a=fmtp:[0-9]{1,4} apt=[0-9]{1,4}",
        1 => "m=(audio|video|text) [0-9]{1,6} UDP/TLS/RTP/SAVPF( [0-9]{1,4}){0,5}",
        1 => "a=mid:[0-9a-zA-Z]{0,40}",
    ]
}

/// An offer with lines replaced, left out and put in.
fn mutated() -> impl Strategy<Value = String> {
    let change = (any::<prop::sample::Index>(), 0..3_u8, piece());
    prop::collection::vec(change, 1..8).prop_map(|changes| {
        let mut lines = OFFER.lines().map(str::to_owned).collect::<Vec<_>>();
        for (index, how, piece) in changes {
            let at = index.index(lines.len());
            match how {
                0 => lines[at] = piece,
                1 => lines.insert(at, piece),
                _ if lines.len() > 1 => drop(lines.remove(at)),
                _ => {}
            }
        }
        lines
            .iter()
            .fold(String::new(), |text, line| text + line + "\r\n")
    })
}

/// An offer with characters replaced.
fn garbled() -> impl Strategy<Value = String> {
    let change = (any::<prop::sample::Index>(), any::<char>());
    prop::collection::vec(change, 1..20).prop_map(|changes| {
        let mut text = OFFER.chars().collect::<Vec<_>>();
        for (index, char) in changes {
            let at = index.index(text.len());
            text[at] = char;
        }
        text.into_iter().collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Without the net that catches panics, so that one shows.
    #[test]
    fn no_offer_panics(offer in prop_oneof![4 => mutated(), 2 => garbled(), 1 => ".*"]) {
        let template = Template::new(vec![home()]);
        let now = Instant::now();
        let accepted = Offer::try_read(&offer).and_then(|offer| template.try_accept(now, offer));
        if let Ok((mut transport, _)) = accepted {
            transport.drive(now, None, |_, _, _| {});
        }
    }
}
