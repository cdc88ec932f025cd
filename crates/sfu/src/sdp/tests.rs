//! Tests with descriptions of browsers.

mod client;
mod parsing;
mod publishing;
mod receiving;
mod sequences;

use super::{Candidate, Description, Local};

/// Chromium's first offer of a publish transport, without most of its codecs.
const PUBLISH: &str = include_str!("tests/chromium_publish.sdp");
/// The media line that Chromium adds for a microphone, as modified by the SDK.
const MICROPHONE: &str = include_str!("tests/chromium_microphone.sdp");
/// The media line that Chromium adds for a camera. Written by hand, modeled on the two above.
const CAMERA: &str = include_str!("tests/chromium_camera.sdp");
/// Chromium's first offer of a receive transport.
const RECEIVE: &str = include_str!("tests/chromium_receive.sdp");
/// A first offer of a publish transport as Firefox may send it. Written by hand, not recorded.
const FIREFOX: &str = include_str!("tests/firefox_publish.sdp");

fn read(text: &str) -> Description {
    Description::parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn candidate(address: &str, tcp: bool) -> Candidate {
    Candidate {
        address: address.parse().unwrap(),
        tcp,
    }
}

fn local(candidates: &[Candidate]) -> Local<'_> {
    Local {
        ufrag: "parl",
        pwd: "parlorparlorparlorparlor",
        fingerprint: &[0xAB; 32],
        candidates,
        session: u64::MAX,
    }
}

/// Our transport parameters, without candidates.
fn here() -> Local<'static> {
    local(&[])
}

/// Returns the lines of the media section with this mid.
fn media(text: &str, mid: &str) -> Vec<String> {
    let mut sections = text.split("m=").skip(1);
    let section = sections.find(|section| section.contains(&format!("a=mid:{mid}\r\n")));
    let section = section.unwrap_or_else(|| panic!("no mid {mid} in {text}"));
    format!("m={section}").lines().map(str::to_owned).collect()
}

/// Returns the mids of the bundle.
fn bundle(text: &str) -> Vec<&str> {
    let mut groups = text
        .lines()
        .filter_map(|l| l.strip_prefix("a=group:BUNDLE"));
    let mids = groups.next().expect("there is a bundle");
    assert_eq!(groups.next(), None);
    mids.split_whitespace().collect()
}

/// Checks the invariants of our descriptions.
fn check(text: &str) -> Description {
    assert!(text.ends_with("\r\n"));
    for line in text.split_terminator("\r\n") {
        assert_eq!(line.as_bytes().get(1), Some(&b'='), "{line:?}");
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
    let ours = read(text);
    assert!(ours.ice_lite);
    let live = ours.media.iter().filter(|line| !line.rejected);
    let live = live.map(|line| line.mid.as_str()).collect::<Vec<_>>();
    assert_eq!(bundle(text), live, "{text}");
    ours
}
