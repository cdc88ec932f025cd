//! Negotiation of publish transports: the client offers, we answer.

use super::codec::{Codec, Kind};
use super::description::{Description, Direction, Setup};
use super::extension::Extensions;
use super::line::{Line, describe};
use super::{Local, Remote, SdpError, WRONG_KIND, WRONG_POSITION};

/// The minimum and maximum bit rate of Opus, in bits per second, RFC 7587 section 6.1.
const BITRATES: (u32, u32) = (6_000, 510_000);

/// The parameters that we request for a client's Opus encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opus {
    /// Whether to use discontinuous transmission (DTX) during silence.
    pub dtx: bool,
    /// Maximum bit rate, in bits per second, unless the client specifies that of its preset.
    pub bitrate: u32,
}

/// The negotiation state of a publish transport.
pub struct Publishing {
    remote: Remote,
    lines: Vec<Line>,
    /// The maximum Opus bit rate of the client's preset, in bits per second, and whether stereo is
    /// allowed. The client includes them only in some offers, so the last values are kept.
    preset: Option<(u32, bool)>,
    version: u64,
}

/// A media line on which the client sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uplink {
    /// The `a=mid`.
    pub mid: String,
    /// The media type.
    pub kind: Kind,
    /// The negotiated codec.
    pub codec: Codec,
    /// The payload type of the codec.
    pub payload_type: u8,
    /// The payload type of retransmissions, RFC 4588. Without it, a browser retransmits packets
    /// unchanged (docs/spec/media.md 1.5).
    pub rtx: Option<u8>,
    /// The RTP clock rate, in Hz.
    pub clock_rate: u32,
    /// The header extensions.
    pub extensions: Extensions,
    /// The simulcast layers, in the order of the offer, without duplicates. At most
    /// [`MAX_RIDS`](super::MAX_RIDS). Empty without simulcast.
    pub rids: Vec<String>,
    /// The SSRCs that the client signals. With rids, it signals none.
    pub ssrcs: Vec<u32>,
    /// Pairs of a primary SSRC and its retransmission SSRC.
    pub rtx_ssrcs: Vec<(u32, u32)>,
    /// The client's ids of the stream and the track.
    pub msid: Option<(String, String)>,
}

impl Publishing {
    /// Applies the first offer of a transport and returns the answer. The offer usually has two
    /// media lines that are never used, and two more for each earlier attempt of the client
    /// (docs/spec/media.md 1.4).
    pub fn accept(offer: &Description, local: &Local<'_>) -> Result<(Self, String), SdpError> {
        let mut publishing = Self {
            remote: Remote::from_offer(offer)?,
            lines: Vec::new(),
            preset: None,
            version: 0,
        };
        publishing.apply(offer)?;
        let answer = publishing.describe(local);
        Ok((publishing, answer))
    }

    /// Applies a further offer. Returns the answer and all media lines on which the client sends
    /// from now on. An error leaves the state unchanged.
    pub fn answer(
        &mut self,
        offer: &Description,
        local: &Local<'_>,
        opus: Opus,
    ) -> Result<(String, Vec<Uplink>), SdpError> {
        self.remote.check_offer(offer)?;
        self.apply(offer)?;
        let parameters = self.parameters(opus);
        for line in &mut self.lines {
            if line.format.codec == Some(Codec::Opus) {
                line.format.fmtp.clone_from(&parameters);
            }
        }
        Ok((self.describe(local), self.uplinks(offer)))
    }

    /// Answers each line of an offer. The offer must contain all earlier lines in the same order.
    fn apply(&mut self, offer: &Description) -> Result<(), SdpError> {
        if offer.media.len() < self.lines.len() {
            return Err(SdpError::Refused("an earlier media line is missing"));
        }
        for (known, offered) in self.lines.iter().zip(&offer.media) {
            // A rejected line may be reused under a new mid (RFC 8829 section 5.2.2).
            if !known.rejected && known.mid != offered.mid {
                return Err(SdpError::media(&known.mid, WRONG_POSITION));
            }
            if known.mid == offered.mid && known.kind != offered.kind {
                return Err(SdpError::media(&known.mid, WRONG_KIND));
            }
        }
        let lines = offer.media.iter().map(Line::answer).collect::<Vec<_>>();
        if lines.iter().all(|line| line.rejected) {
            return Err(SdpError::Refused("the offer has no supported codec"));
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

    /// Returns the Opus parameters. They are the same on all lines, since a payload type has the
    /// same meaning throughout a bundle (RFC 9143 section 9.1). The SDK signals its preset on the
    /// first line, whichever line it is meant for (docs/spec/media.md 1.5).
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

    /// Returns the header extensions of the transport. An id has the same meaning throughout a
    /// bundle (RFC 9143 section 10), so a packet's mid can be read before its media line is known.
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
            let codec = line.format.codec?;
            Some(Uplink {
                mid: line.mid.clone(),
                kind: line.kind,
                codec,
                payload_type: line.format.payload_type,
                rtx: line.format.rtx,
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
