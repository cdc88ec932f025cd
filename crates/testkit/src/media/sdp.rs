//! Minimal offers and answers, and a parser for the parts of the remote SDP that clients need.
//!
//! Payload types are fixed, so that none need to be mapped. They are those of browsers with the
//! official SDK (docs/spec/media.md 1.4).

use std::fmt::Write as _;
use std::net::SocketAddr;

use anyhow::{Context, Result, bail};

use super::{Extensions, LocalDescription, Remote};

/// Payload type of Opus.
pub const OPUS: u8 = 111;
/// Payload type of VP8.
pub const VP8: u8 = 96;
/// Payload type of VP8 retransmissions.
pub const RTX: u8 = 97;

/// The rids of the simulcast layers, highest first.
pub const LAYERS: [&str; 3] = ["f", "h", "q"];

const AUDIO_LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
const TRANSPORT_CC: &str =
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
const RID: &str = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";

/// Kind of an m-line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Opus.
    Audio,
    /// VP8.
    Video,
}

impl Kind {
    /// The name in SDP and in the signalling.
    pub fn name(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Video => "video",
        }
    }

    /// The MIME type of the codec.
    pub fn mime_type(self) -> &'static str {
        match self {
            Self::Audio => "audio/opus",
            Self::Video => "video/VP8",
        }
    }

    /// The payload type of the codec.
    pub fn payload_type(self) -> u8 {
        match self {
            Self::Audio => OPUS,
            Self::Video => VP8,
        }
    }
}

/// An m-line of a local offer.
#[derive(Clone, Debug)]
pub struct Line {
    /// The mid.
    pub mid: String,
    /// Kind of media.
    pub kind: Kind,
    /// SSRC of the stream sent on it; `None` with simulcast.
    pub ssrc: Option<u32>,
    /// Whether three simulcast layers are sent.
    pub is_simulcast: bool,
    /// Whether sending on it has ended.
    pub is_over: bool,
}

impl Line {
    /// Returns an m-line without a stream, like the two that the SDK offers first
    /// (docs/spec/media.md 1.4).
    pub fn warm_up(mid: &str, kind: Kind) -> Self {
        Self {
            mid: mid.to_owned(),
            kind,
            ssrc: None,
            is_simulcast: false,
            is_over: false,
        }
    }
}

/// Writes an offer to send on these m-lines.
pub fn offer(own: &LocalDescription, lines: &[Line]) -> String {
    let mids: Vec<&str> = lines.iter().map(|line| line.mid.as_str()).collect();
    let mut sdp = session(&mids);
    for line in lines {
        m_line(&mut sdp, own, line.kind, &line.mid, "actpass");
        let extensions: &[(u8, &str)] = match line.kind {
            Kind::Audio => &[(1, AUDIO_LEVEL), (3, TRANSPORT_CC), (4, MID)],
            Kind::Video => &[(3, TRANSPORT_CC), (4, MID), (10, RID)],
        };
        for (id, uri) in extensions {
            add(&mut sdp, &format!("a=extmap:{id} {uri}"));
        }
        let direction = if line.is_over { "inactive" } else { "sendonly" };
        add(&mut sdp, &format!("a={direction}"));
        codecs(&mut sdp, line.kind);
        if line.is_over {
            continue;
        }
        if let Some(ssrc) = line.ssrc {
            add(&mut sdp, &format!("a=msid:stream-{ssrc} track-{ssrc}"));
            add(&mut sdp, &format!("a=ssrc:{ssrc} cname:load"));
        }
        if line.is_simulcast {
            for rid in LAYERS {
                add(&mut sdp, &format!("a=rid:{rid} send"));
            }
            add(&mut sdp, &format!("a=simulcast:send {}", LAYERS.join(";")));
        }
    }
    sdp
}

/// Writes an answer that accepts everything offered.
pub fn answer(own: &LocalDescription, offer: &Session) -> String {
    receive(own, offer, "active")
}

/// Writes an offer to keep receiving on the offered m-lines, except those that are now stopped
/// (docs/spec/media.md 1.6).
pub fn offer_to_receive(own: &LocalDescription, offered: &Session) -> String {
    receive(own, offered, "actpass")
}

fn receive(own: &LocalDescription, offer: &Session, setup: &str) -> String {
    let lines = offer.media.iter().filter(|media| !media.is_stopped);
    let mids: Vec<&str> = lines.map(|media| media.mid.as_str()).collect();
    let mut sdp = session(&mids);
    for media in &offer.media {
        if media.is_stopped {
            add(
                &mut sdp,
                &format!("m={} 0 UDP/TLS/RTP/SAVPF 0", media.kind.name()),
            );
            add(&mut sdp, "c=IN IP4 0.0.0.0");
            add(&mut sdp, &format!("a=mid:{}", media.mid));
            add(&mut sdp, "a=inactive");
            continue;
        }
        m_line(&mut sdp, own, media.kind, &media.mid, setup);
        for (id, uri) in &media.extensions {
            if [TRANSPORT_CC, MID].contains(&uri.as_str()) {
                add(&mut sdp, &format!("a=extmap:{id} {uri}"));
            }
        }
        let direction = if media.is_sending {
            "recvonly"
        } else {
            "sendonly"
        };
        add(&mut sdp, &format!("a={direction}"));
        codecs(&mut sdp, media.kind);
    }
    sdp
}

fn session(mids: &[&str]) -> String {
    let mut sdp = String::with_capacity(4096);
    for line in ["v=0", "o=- 1 2 IN IP4 127.0.0.1", "s=-", "t=0 0"] {
        add(&mut sdp, line);
    }
    add(&mut sdp, &format!("a=group:BUNDLE {}", mids.join(" ")));
    add(&mut sdp, "a=extmap-allow-mixed");
    add(&mut sdp, "a=msid-semantic: WMS");
    sdp
}

fn m_line(sdp: &mut String, own: &LocalDescription, kind: Kind, mid: &str, setup: &str) {
    let types = match kind {
        Kind::Audio => OPUS.to_string(),
        Kind::Video => format!("{VP8} {RTX}"),
    };
    for line in [
        format!("m={} 9 UDP/TLS/RTP/SAVPF {types}", kind.name()),
        "c=IN IP4 0.0.0.0".to_owned(),
        "a=rtcp:9 IN IP4 0.0.0.0".to_owned(),
        format!("a=ice-ufrag:{}", own.ufrag),
        format!("a=ice-pwd:{}", own.password),
        format!("a=fingerprint:sha-256 {}", own.fingerprint),
        format!("a=setup:{setup}"),
        format!("a=mid:{mid}"),
        "a=rtcp-mux".to_owned(),
        "a=rtcp-rsize".to_owned(),
        // Required by Janus. Other servers learn the client's address from its checks.
        format!(
            "a=candidate:1 1 udp 2113937151 {} {} typ host",
            own.address.ip(),
            own.address.port()
        ),
    ] {
        add(sdp, &line);
    }
}

fn codecs(sdp: &mut String, kind: Kind) {
    let lines: &[&str] = match kind {
        Kind::Audio => &[
            "a=rtpmap:111 opus/48000/2",
            "a=rtcp-fb:111 transport-cc",
            "a=fmtp:111 minptime=10;useinbandfec=1",
        ],
        Kind::Video => &[
            "a=rtpmap:96 VP8/90000",
            "a=rtcp-fb:96 goog-remb",
            "a=rtcp-fb:96 transport-cc",
            "a=rtcp-fb:96 ccm fir",
            "a=rtcp-fb:96 nack",
            "a=rtcp-fb:96 nack pli",
            "a=rtpmap:97 rtx/90000",
            "a=fmtp:97 apt=96",
        ],
    };
    for line in lines {
        add(sdp, line);
    }
}

fn add(sdp: &mut String, line: &str) {
    // Writing to a string cannot fail.
    let _ = write!(sdp, "{line}\r\n");
}

/// The remote SDP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Connection parameters; offers after the first may omit the candidates.
    pub remote: Option<Remote>,
    /// M-lines, in order.
    pub media: Vec<Media>,
}

/// An m-line of the remote SDP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    /// The mid.
    pub mid: String,
    /// Kind of media.
    pub kind: Kind,
    /// Whether the remote side sends on it.
    pub is_sending: bool,
    /// Whether it is disabled, with port 0.
    pub is_stopped: bool,
    /// IDs and URIs of the header extensions.
    pub extensions: Vec<(u8, String)>,
}

impl Session {
    /// Parses an SDP.
    ///
    /// # Errors
    /// When an m-line is malformed.
    pub fn read(sdp: &str) -> Result<Self> {
        let (mut ufrag, mut password, mut address) = (None, None, None);
        let mut is_dtls_client = false;
        let mut media: Vec<Media> = Vec::new();
        for line in sdp.lines() {
            let line = line.trim_end();
            if let Some(rest) = line.strip_prefix("m=") {
                media.push(Media::read(rest)?);
            } else if let Some(rest) = line.strip_prefix("a=ice-ufrag:") {
                ufrag = ufrag.or(Some(rest));
            } else if let Some(rest) = line.strip_prefix("a=ice-pwd:") {
                password = password.or(Some(rest));
            } else if line == "a=setup:active" {
                is_dtls_client = true;
            } else if let Some(rest) = line.strip_prefix("a=candidate:") {
                address = address.or_else(|| udp_candidate(rest));
            } else if let Some(last) = media.last_mut() {
                last.attribute(line);
            }
        }
        let remote = match (ufrag, password, address) {
            (Some(ufrag), Some(password), Some(address)) => Some(Remote {
                ufrag: ufrag.to_owned(),
                password: password.to_owned(),
                address,
                is_dtls_client,
            }),
            _ => None,
        };
        Ok(Self { remote, media })
    }

    /// Returns the connection parameters.
    ///
    /// # Errors
    /// When the SDP has none.
    pub fn remote(&self) -> Result<&Remote> {
        self.remote
            .as_ref()
            .context("an SDP without ICE credentials or a UDP candidate")
    }

    /// Returns an m-line by its mid.
    ///
    /// # Errors
    /// When there is no such m-line.
    pub fn line(&self, mid: &str) -> Result<&Media> {
        let found = self.media.iter().find(|media| media.mid == mid);
        found.with_context(|| format!("no m-line {mid}"))
    }
}

impl Media {
    fn read(rest: &str) -> Result<Self> {
        let mut words = rest.split(' ');
        let kind = match words.next() {
            Some("audio") => Kind::Audio,
            Some("video") => Kind::Video,
            other => bail!("an m-line of {other:?}"),
        };
        Ok(Self {
            mid: String::new(),
            kind,
            is_sending: true,
            is_stopped: words.next() == Some("0"),
            extensions: Vec::new(),
        })
    }

    fn attribute(&mut self, line: &str) {
        if let Some(mid) = line.strip_prefix("a=mid:") {
            mid.clone_into(&mut self.mid);
        } else if ["a=recvonly", "a=inactive"].contains(&line) {
            self.is_sending = false;
        } else if let Some(map) = line.strip_prefix("a=extmap:")
            && let Some((id, uri)) = map.split_once(' ')
            // The ID may be followed by a direction.
            && let Some(Ok(id)) = id.split('/').next().map(str::parse)
        {
            self.extensions.push((id, uri.to_owned()));
        }
    }

    fn extension(&self, uri: &str) -> Option<u8> {
        let mut fitting = self.extensions.iter();
        fitting.find(|(_, found)| found == uri).map(|(id, _)| *id)
    }

    /// Returns the header extensions to use for sending, after this answer to a local offer.
    pub fn agreed(&self, rid: Option<&str>) -> Extensions {
        Extensions {
            mid: self.extension(MID).map(|id| (id, self.mid.clone())),
            rid: rid.and_then(|rid| Some((self.extension(RID)?, rid.to_owned()))),
            transport_cc: self.extension(TRANSPORT_CC),
            audio_level: self.extension(AUDIO_LEVEL),
        }
    }
}

/// Parses the address of a UDP candidate: `foundation component protocol priority address port
/// typ …`.
fn udp_candidate(candidate: &str) -> Option<SocketAddr> {
    let words: Vec<&str> = candidate.split(' ').collect();
    let [_, _, protocol, _, ip, port, ..] = words.as_slice() else {
        return None;
    };
    if !protocol.eq_ignore_ascii_case("udp") {
        return None;
    }
    Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{Identity, Transport};

    #[test]
    fn a_written_offer_is_parsed_again() {
        let identity = Identity::new().expect("a certificate");
        let own = Transport::open(&identity)
            .expect("a socket")
            .local_description();
        let lines = [
            Line::warm_up("0", Kind::Audio),
            Line {
                ssrc: Some(7),
                is_simulcast: true,
                ..Line::warm_up("1", Kind::Video)
            },
        ];
        let session = Session::read(&offer(&own, &lines)).expect("the SDP is valid");
        assert_eq!(session.remote().expect("all of it").address, own.address);
        let video = session.line("1").expect("the SDP has a video section");
        assert_eq!((video.kind, video.is_sending), (Kind::Video, true));
        let agreed = video.agreed(Some("h"));
        assert_eq!(agreed.rid, Some((10, "h".to_owned())));
        assert_eq!(agreed.transport_cc, Some(3));
        let answered = Session::read(&answer(&own, &session)).expect("the SDP is valid");
        assert!(answered.media.iter().all(|media| !media.is_sending));
        let mut ended = session.clone();
        ended.media[1].is_stopped = true;
        let closing = offer_to_receive(&own, &ended);
        assert!(closing.contains("a=group:BUNDLE 0\r\n") && closing.contains("m=video 0 "));
        assert!(session.line("2").is_err());
    }
}
