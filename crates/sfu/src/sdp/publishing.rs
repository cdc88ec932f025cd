//! Our side of the connection on which a client publishes: it offers, we answer.

use super::codec::{Codec, Kind};
use super::description::{Description, Direction, Setup};
use super::extension::Extensions;
use super::line::{Line, describe};
use super::{Client, Local, SdpError};

/// What Opus makes of this, in bits per second, RFC 7587 section 6.1.
const BITRATES: (u32, u32) = (6_000, 510_000);

/// What we ask of a client's Opus encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opus {
    /// Whether it is to send next to nothing while there is nothing to hear.
    pub dtx: bool,
    /// How much it may send, in bits per second, if the client does not say what its preset
    /// allows.
    pub bitrate: u32,
}

/// Everything the client has offered to send on one transport.
pub struct Publishing {
    client: Client,
    lines: Vec<Line>,
    /// What the client said last about how much its preset lets its Opus send, in bits per second,
    /// and whether in stereo. It is in the one offer and not in the next.
    preset: Option<(u32, bool)>,
    version: u64,
}

/// A media line that the client sends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uplink {
    /// Its id.
    pub mid: String,
    /// What is sent.
    pub kind: Kind,
    /// The codec.
    pub codec: Codec,
    /// The payload type of the codec.
    pub payload_type: u8,
    /// The payload type of retransmissions, RFC 4588. A browser retransmits without it too, as if
    /// the packet were new (docs/spec/media.md 1.5).
    pub rtx: Option<u8>,
    /// How fast the timestamps go, in Hz.
    pub clock_rate: u32,
    /// The header extensions.
    pub extensions: Extensions,
    /// The simulcast layers, in the order offered: at most [`MAX_RIDS`](super::MAX_RIDS), all
    /// different. None if there is no simulcast.
    pub rids: Vec<String>,
    /// The SSRCs, as far as the client says: with rids it does not.
    pub ssrcs: Vec<u32>,
    /// Which SSRC is retransmitted on which.
    pub rtx_ssrcs: Vec<(u32, u32)>,
    /// The stream and the track that the client calls it.
    pub msid: Option<(String, String)>,
}

impl Publishing {
    /// Takes the first offer of a transport; with the answer. Usually it has two media lines on
    /// which nothing is ever sent, and two more for each time that the client tried before
    /// (docs/spec/media.md 1.4).
    pub fn accept(offer: &Description, local: &Local<'_>) -> Result<(Self, String), SdpError> {
        let mut publishing = Self {
            client: Client::of(offer)?,
            lines: Vec::new(),
            preset: None,
            version: 0,
        };
        publishing.take(offer)?;
        let answer = publishing.describe(local);
        Ok((publishing, answer))
    }

    /// Takes a further offer; with the answer, and all that the client sends from now on. After an
    /// error, everything is as it was.
    pub fn answer(
        &mut self,
        offer: &Description,
        local: &Local<'_>,
        opus: Opus,
    ) -> Result<(String, Vec<Uplink>), SdpError> {
        self.client.offers(offer)?;
        self.take(offer)?;
        let parameters = self.parameters(opus);
        for line in &mut self.lines {
            if line.agreed.codec == Some(Codec::Opus) {
                line.agreed.fmtp.clone_from(&parameters);
            }
        }
        Ok((self.describe(local), self.uplinks(offer)))
    }

    /// Answers each line. What was there before is there still, in its place.
    fn take(&mut self, offer: &Description) -> Result<(), SdpError> {
        if offer.media.len() < self.lines.len() {
            return Err(SdpError::Refused("a media line of before is not in it"));
        }
        for (known, offered) in self.lines.iter().zip(&offer.media) {
            // A rejected line gives its place to another (RFC 8829 section 5.2.2).
            if !known.rejected && known.mid != offered.mid {
                return Err(SdpError::media(&known.mid, "it is not in its place"));
            }
            if known.mid == offered.mid && known.kind != offered.kind {
                return Err(SdpError::media(&known.mid, "it was of another kind"));
            }
        }
        let lines = offer.media.iter().map(Line::answer).collect::<Vec<_>>();
        if lines.iter().all(|line| line.rejected) {
            return Err(SdpError::Refused("it offers no codec that is known here"));
        }
        let opus = offer.media.iter().flat_map(|line| &line.formats);
        let opus = opus.filter(|format| format.codec == Some(Codec::Opus));
        let mut preset = opus.filter_map(|format| {
            let bitrate = format.parameter("maxaveragebitrate")?.parse().ok()?;
            Some((bitrate, format.parameter("stereo") == Some("1")))
        });
        self.preset = preset.next().or(self.preset);
        self.lines = lines;
        Ok(())
    }

    /// What we ask of Opus. It is the same on all lines, since one payload type has one meaning in
    /// a bundle (RFC 9143 section 9.1); the SDK says what it wants on the first, whichever it is
    /// about (docs/spec/media.md 1.5).
    fn parameters(&self, opus: Opus) -> Vec<String> {
        let (bitrate, stereo) = self.preset.unwrap_or((opus.bitrate, false));
        let bitrate = bitrate.clamp(BITRATES.0, BITRATES.1);
        let mut parameters = Codec::Opus.fmtp().to_vec();
        if opus.dtx {
            parameters.push("usedtx=1");
        }
        if stereo {
            parameters.push("stereo=1");
        }
        let parameters = parameters.into_iter().map(str::to_owned);
        parameters
            .chain([format!("maxaveragebitrate={bitrate}")])
            .collect()
    }

    /// The header extensions of the transport. In a bundle an id means the same on every line
    /// (RFC 9143 section 10), so that a packet's `mid` can be read before its line is known.
    pub fn extensions(&self) -> Extensions {
        let mut all = Extensions::default();
        for (extension, id) in self.lines.iter().flat_map(|line| line.extensions.iter()) {
            all.insert(extension, id);
        }
        all
    }

    fn uplinks(&self, offer: &Description) -> Vec<Uplink> {
        let pairs = self.lines.iter().zip(&offer.media);
        let sending = pairs.filter(|(line, _)| line.direction == Direction::RecvOnly);
        let uplinks = sending.filter_map(|(line, offered)| {
            let codec = line.agreed.codec?;
            Some(Uplink {
                mid: line.mid.clone(),
                kind: line.kind,
                codec,
                payload_type: line.agreed.payload_type,
                rtx: line.agreed.rtx,
                clock_rate: codec.clock_rate(),
                extensions: line.extensions,
                rids: line.rids.clone(),
                ssrcs: offered.ssrcs.clone(),
                rtx_ssrcs: offered.rtx_ssrcs.clone(),
                msid: offered.msid.clone(),
            })
        });
        uplinks.collect()
    }

    fn describe(&mut self, local: &Local<'_>) -> String {
        self.version += 1;
        describe(self.lines.iter(), Setup::Passive, self.version, local)
    }
}
