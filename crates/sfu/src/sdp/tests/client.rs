//! A client that keeps to RFC 8829, and complains when we do not.

use std::fmt::Write;

use super::check;
use crate::sdp::{Description, Direction, Kind};

/// A media line as the client knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) kind: Kind,
    pub(super) mid: String,
    /// Whether the client's own last description had it with a port.
    pub(super) live: bool,
    /// Seen from the client.
    pub(super) direction: Direction,
}

/// What the client has agreed to.
#[derive(Default)]
pub(super) struct Client {
    pub(super) lines: Vec<Known>,
    version: u32,
}

impl Client {
    /// One that has made the two lines that the SDK begins with.
    pub(super) fn new() -> Self {
        let mut client = Self::default();
        client.produce(Kind::Audio);
        client.produce(Kind::Video);
        client
    }

    /// A further line to send on.
    pub(super) fn produce(&mut self, kind: Kind) {
        self.lines.push(Known {
            kind,
            mid: self.lines.len().to_string(),
            live: true,
            direction: Direction::SendOnly,
        });
    }

    /// The lines after an offer of ours, if the client takes it; all that RFC 8829 asks is checked.
    pub(super) fn offered(&self, text: &str) -> Vec<Known> {
        let offer = check(text);
        assert!(offer.media.len() >= self.lines.len(), "lines vanished");
        for (line, known) in offer.media.iter().zip(&self.lines) {
            if known.live {
                assert_eq!((&line.mid, line.kind), (&known.mid, known.kind));
            } else if line.mid == known.mid {
                assert!(line.rejected, "{} came back to life", line.mid);
            }
        }
        let lines = offer.media.into_iter().map(|line| Known {
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

    /// Checks our answer to an offer of these lines, and takes both.
    pub(super) fn answered(&mut self, lines: Vec<Known>, text: &str) -> Description {
        let answer = check(text);
        assert_eq!(answer.media.len(), lines.len());
        for (line, known) in answer.media.iter().zip(&lines) {
            assert_eq!((&line.mid, line.kind), (&known.mid, known.kind));
            assert!(known.live || line.rejected, "{} is not live", line.mid);
            let takes = known.direction.sends() || !line.direction.receives();
            let sends = known.direction.receives() || !line.direction.sends();
            assert!(takes && sends, "{} goes the wrong way", line.mid);
        }
        self.lines = lines;
        answer
    }

    /// What the client says about these lines.
    pub(super) fn describe(&mut self, setup: &str, lines: &[Known]) -> String {
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
