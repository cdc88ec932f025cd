//! Descriptions of a client, with a NUL between them, and what both of its transports make of them
//! one after another.
#![no_main]

use parlor_sfu::sdp::{
    Closed, Codec, Description, Downlink, Local, MAX_RIDS, Opus, Publishing, Receiving, SdpError,
};

const OPUS: Opus = Opus {
    dtx: true,
    bitrate: 32_000,
};
const HERE: Local<'static> = Local {
    ufrag: "parl",
    pwd: "parlorparlorparlorparlor",
    fingerprint: &[0xAB; 32],
    candidates: &[],
    session: 1,
};
/// Media lines that the client may receive on.
const LINES: usize = 16;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let (mut publishing, mut receiving) = (None, None);
    for description in text.split('\0').filter_map(read) {
        publish(&mut publishing, &description);
        receive(&mut receiving, &description);
    }
});

/// What is read has limits, and what is not is told in one line.
fn read(text: &str) -> Option<Description> {
    let description = match Description::parse(text) {
        Ok(description) => description,
        Err(error) => return harmless(&error),
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

fn harmless<T>(error: &SdpError) -> Option<T> {
    let told = error.to_string();
    assert!(told.len() < 120 && !told.chars().any(char::is_control));
    None
}

/// What we write can be read, unless nothing in it is live.
fn written(text: &str) -> Option<Description> {
    let read = Description::parse(text);
    let live = !text.contains("\r\na=group:BUNDLE\r\n");
    assert_eq!(read.is_ok(), live, "{:?} in {text}", read.err());
    read.ok()
}

fn answered(offer: &Description, answer: &str) {
    let Some(answer) = written(answer) else {
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
        *publishing = Publishing::accept(offer, &HERE)
            .map_err(|error| harmless::<()>(&error))
            .map(|(publishing, answer)| {
                answered(offer, &answer);
                publishing
            })
            .ok();
        return;
    };
    match publishing.answer(offer, &HERE, OPUS) {
        Ok((answer, uplinks)) => {
            answered(offer, &answer);
            assert!(uplinks.iter().all(|uplink| uplink.rids.len() <= MAX_RIDS));
            let sent = offer.media.iter().filter(|line| line.is_sent());
            assert!(
                sent.map(|line| &line.mid)
                    .eq(uplinks.iter().map(|up| &up.mid))
            );
        }
        Err(error) => {
            harmless::<()>(&error);
        }
    }
}

fn receive(receiving: &mut Option<Receiving>, said: &Description) {
    let Some(receiving) = receiving else {
        if let Ok((accepted, answer)) = Receiving::accept(said, &HERE, LINES) {
            answered(said, &answer);
            *receiving = Some(accepted);
            offer(receiving.as_mut().expect("it was just put there"));
        }
        return;
    };
    // It is the answer to the offer before, or else an offer to close.
    if receiving.answered(said).is_err() {
        let named = said.media.last().map(|line| line.mid.clone());
        match receiving.close(said, named.as_slice(), &HERE) {
            Ok(Closed { answer, .. }) => answered(said, &answer),
            Err(error) => {
                harmless::<()>(&error);
            }
        }
    }
    offer(receiving);
}

/// Offers a stream of each codec as far as there is room, and withdraws the last of them.
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
                harmless::<()>(&error);
            }
        }
    }
    let offer = written(&receiving.offer(&HERE));
    let media = offer.map(|offer| offer.media).unwrap_or_default();
    assert!(media.len() <= LINES);
    for mid in &mids {
        let there = media.iter().filter(|line| line.mid == *mid);
        assert_eq!(there.filter(|line| line.is_sent()).count(), 1, "{mid}");
    }
    if let Some(mid) = mids.get(2) {
        receiving.withdraw(mid);
    }
}
