//! A sequence of NUL-separated session descriptions from a client, applied to both of its
//! transports.
#![no_main]

use parlor_sfu::sdp::{
    Closed, Codec, Description, Downlink, Local, MAX_RIDS, Opus, Publishing, Receiving, SdpError,
};

const OPUS: Opus = Opus {
    dtx: true,
    bitrate: 32_000,
};
const LOCAL: Local<'static> = Local {
    ufrag: "parl",
    pwd: "parlorparlorparlorparlor",
    fingerprint: &[0xAB; 32],
    candidates: &[],
    session: 1,
};
/// Maximum number of media lines on the receiving transport.
const LINES: usize = 16;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let (mut publishing, mut receiving) = (None, None);
    for description in text.split('\0').filter_map(parse) {
        publish(&mut publishing, &description);
        receive(&mut receiving, &description);
    }
});

/// Parses a description and checks its limits; errors must be a single short line.
fn parse(text: &str) -> Option<Description> {
    let description = match Description::parse(text) {
        Ok(description) => description,
        Err(error) => return check_error(&error),
    };
    for line in &description.media {
        assert!(line.rids.len() <= 16 && line.ssrcs.len() <= 32 && line.formats.len() <= 128);
        for format in &line.formats {
            let known = format.codec.map_or(0, |codec| codec.feedback().len());
            assert!(format.feedback.len() <= known);
            assert!(format.fmtp.len() <= 16 && format.fmtp.concat().len() <= 256);
        }
    }
    Some(description)
}

fn check_error<T>(error: &SdpError) -> Option<T> {
    let message = error.to_string();
    assert!(message.len() < 120 && !message.chars().any(char::is_control));
    None
}

/// Parses a description written by the server. This fails only if it has no live media line.
fn reparse(text: &str) -> Option<Description> {
    let parsed = Description::parse(text);
    let live = !text.contains("\r\na=group:BUNDLE\r\n");
    assert_eq!(parsed.is_ok(), live, "{:?} in {text}", parsed.err());
    parsed.ok()
}

fn check_answer(offer: &Description, answer: &str) {
    let Some(answer) = reparse(answer) else {
        return;
    };
    let mids = |description: &Description| {
        let mids = description.media.iter().map(|line| line.mid.clone());
        mids.collect::<Vec<_>>()
    };
    assert_eq!(mids(&answer), mids(offer));
    for (ours, theirs) in answer.media.iter().zip(&offer.media) {
        assert_eq!(ours.kind, theirs.kind);
        assert!(ours.rejected || !theirs.rejected, "{} is stopped", ours.mid);
    }
}

fn publish(publishing: &mut Option<Publishing>, offer: &Description) {
    let Some(publishing) = publishing else {
        *publishing = Publishing::accept(offer, &LOCAL)
            .map_err(|error| check_error::<()>(&error))
            .map(|(publishing, answer)| {
                check_answer(offer, &answer);
                publishing
            })
            .ok();
        return;
    };
    match publishing.answer(offer, &LOCAL, OPUS) {
        Ok((answer, uplinks)) => {
            check_answer(offer, &answer);
            assert!(uplinks.iter().all(|uplink| uplink.rids.len() <= MAX_RIDS));
            let sent = offer.media.iter().filter(|line| line.is_sent());
            assert!(
                sent.map(|line| &line.mid)
                    .eq(uplinks.iter().map(|up| &up.mid))
            );
        }
        Err(error) => {
            check_error::<()>(&error);
        }
    }
}

fn receive(receiving: &mut Option<Receiving>, description: &Description) {
    let Some(receiving) = receiving else {
        if let Ok((accepted, answer)) = Receiving::accept(description, &LOCAL, LINES) {
            check_answer(description, &answer);
            *receiving = Some(accepted);
            offer(receiving.as_mut().expect("the transport was just stored"));
        }
        return;
    };
    // The description is an answer to the previous offer, or else an offer that closes lines.
    if receiving.apply_answer(description).is_err() {
        let last_mid = description.media.last().map(|line| line.mid.clone());
        match receiving.close(description, last_mid.as_slice(), &LOCAL) {
            Ok(Closed { answer, .. }) => check_answer(description, &answer),
            Err(error) => {
                check_error::<()>(&error);
            }
        }
    }
    offer(receiving);
}

/// Offers a stream of each codec up to the limit, and withdraws the last one.
fn offer(receiving: &mut Receiving) {
    let mut mids = Vec::new();
    for (codec, ssrc) in Codec::ALL.into_iter().zip(1..) {
        let stream = Downlink {
            codec,
            stream: "stream".to_owned(),
            track: "track".to_owned(),
            ssrc,
            rtx: Some(ssrc + 100),
        };
        match receiving.add(vec![stream]) {
            Ok(added) => mids.extend(added),
            Err(error) => {
                check_error::<()>(&error);
            }
        }
    }
    let offer = reparse(&receiving.offer(&LOCAL));
    let media = offer.map(|offer| offer.media).unwrap_or_default();
    assert!(media.len() <= LINES);
    for mid in &mids {
        let matching = media.iter().filter(|line| line.mid == *mid);
        assert_eq!(matching.filter(|line| line.is_sent()).count(), 1, "{mid}");
    }
    if let Some(mid) = mids.get(2) {
        receiving.withdraw(mid);
    }
}
