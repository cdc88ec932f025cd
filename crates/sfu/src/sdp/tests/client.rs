//! A client that conforms to RFC 8829 and checks that we conform too.

use std::fmt::Write;

use super::check;
use crate::sdp::{Description, Direction, Kind};

/// The client's state of a media line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LineState {
    pub(super) kind: Kind,
    pub(super) mid: String,
    /// Whether the line had a non-zero port in the client's last description.
    pub(super) live: bool,
    /// The direction of media, as seen by the client.
    pub(super) direction: Direction,
}

/// A client with its negotiated media lines.
#[derive(Default)]
pub(super) struct Client {
    pub(super) lines: Vec<LineState>,
    version: u32,
}

impl Client {
    /// Creates a client with the two initial lines of the SDK.
    pub(super) fn new() -> Self {
        let mut client = Self::default();
        client.produce(Kind::Audio);
        client.produce(Kind::Video);
        client
    }

    /// Adds a line to send on.
    pub(super) fn produce(&mut self, kind: Kind) {
        self.lines.push(LineState {
            kind,
            mid: self.lines.len().to_string(),
            live: true,
            direction: Direction::SendOnly,
        });
    }

    /// Checks our offer against RFC 8829. Returns the lines if the client applies it.
    pub(super) fn offered(&self, text: &str) -> Vec<LineState> {
        let offer = check(text);
        assert!(offer.media.len() >= self.lines.len(), "lines are missing");
        for (line, known) in offer.media.iter().zip(&self.lines) {
            if known.live {
                assert_eq!((&line.mid, line.kind), (&known.mid, known.kind));
            } else if line.mid == known.mid {
                assert!(line.rejected, "{} was reused under the same mid", line.mid);
            }
        }
        let lines = offer.media.into_iter().map(|line| LineState {
            direction: match line.direction {
                Direction::SendOnly => Direction::RecvOnly,
                Direction::RecvOnly => Direction::SendOnly,
                other => other,
            },
            kind: line.kind,
            live: !line.rejected,
            mid: line.mid,
        });
        lines.collect()
    }

    /// Checks our answer to an offer of these lines, and applies both.
    pub(super) fn answered(&mut self, lines: Vec<LineState>, text: &str) -> Description {
        let answer = check(text);
        assert_eq!(answer.media.len(), lines.len());
        for (line, known) in answer.media.iter().zip(&lines) {
            assert_eq!((&line.mid, line.kind), (&known.mid, known.kind));
            assert!(known.live || line.rejected, "{} is not live", line.mid);
            let receives = known.direction.sends() || !line.direction.receives();
            let sends = known.direction.receives() || !line.direction.sends();
            assert!(receives && sends, "{} has the wrong direction", line.mid);
        }
        self.lines = lines;
        answer
    }

    /// Writes the client's description of these lines.
    pub(super) fn describe(&mut self, setup: &str, lines: &[LineState]) -> String {
        self.version += 1;
        let live = lines.iter().filter(|line| line.live);
        let mids = live.map(|line| line.mid.clone()).collect::<Vec<_>>();
        let fingerprint = ["5A"; 32].join(":");
        let mut text = format!(
            "v=0\r\no=- 5 {} IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\n\
             a=ice-ufrag:clie\r\na=ice-pwd:clientclientclientclient\r\n\
             a=fingerprint:sha-256 {fingerprint}\r\na=setup:{setup}\r\n",
            self.version,
            mids.join(" ")
        );
        for line in lines {
            let port = if line.live { 9 } else { 0 };
            let formats = match line.kind {
                Kind::Audio => {
                    "111\r\na=rtpmap:111 opus/48000/2\r\n\
                     a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n"
                }
                Kind::Video => {
                    "96 97\r\na=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack pli\r\n\
                     a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n"
                }
            };
            let (kind, direction) = (line.kind.name(), line.direction.name());
            write!(
                text,
                "m={kind} {port} UDP/TLS/RTP/SAVPF {formats}a=mid:{}\r\na={direction}\r\n\
                 a=rtcp-mux\r\n",
                line.mid
            )
            .unwrap();
        }
        text
    }
}
