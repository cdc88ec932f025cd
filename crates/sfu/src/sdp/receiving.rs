//! Negotiation of receive transports: we offer tracks, and the client offers to close them.

use super::codec::{Codec, Kind};
use super::description::{Description, Direction, MediaLine, Setup};
use super::extension::{Extension, Extensions};
use super::line::{Line, NegotiatedFormat, SentTrack, describe};
use super::{Local, MAX_MEDIA, Remote, SdpError, WRONG_KIND, WRONG_POSITION, is_token};

/// The negotiation state of a receive transport.
///
/// To send a track, call [`Receiving::add`], [`Receiving::offer`] and [`Receiving::apply_answer`],
/// in this order. An unanswered offer is harmless: it is not rolled back, and the next offer
/// contains the same lines at the same positions. This is correct whether or not the client has
/// applied the offer. A client applies an offer completely or not at all, and the lines of an
/// offer that it has not applied either follow its own lines, or reuse lines that are free for it.
///
/// A closed media line is reused for the next track, under a new mid (RFC 8829 section 5.2.2), so
/// the number of lines stays close to the number of tracks.
pub struct Receiving {
    remote: Remote,
    slots: Vec<Slot>,
    /// The formats that the client can decode, from its first offer.
    formats: Vec<NegotiatedFormat>,
    extensions: Vec<(Kind, Extensions)>,
    max_lines: usize,
    /// The number of mids allocated so far.
    mids: u64,
    version: u64,
    /// Whether our last offer is unanswered.
    awaiting_answer: bool,
}

/// A media line and its state.
struct Slot {
    line: Line,
    state: State,
    /// Whether a description of the client has contained the line. Otherwise the offer with this
    /// line may have been lost.
    known: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The client created the line. Nothing is ever sent on it.
    ClientOwned,
    /// A track is sent on the line.
    Sending,
    /// The track has ended. `offered` is whether our last offer already rejected the line.
    Stopping { offered: bool },
    /// The client's last description rejected the line, so it can be reused. Our own rejection is
    /// not enough for Chromium: if it applies the next offer twice, it compares that with its own.
    Free,
}

/// A track to send to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Downlink {
    /// The codec. The client must be able to decode it.
    pub codec: Codec,
    /// The stream id, which is also the CNAME. The client synchronizes tracks with the same id
    /// (docs/spec/media.md 1.6). A token of at most 64 characters.
    pub stream: String,
    /// The track id. A token of at most 64 characters.
    pub track: String,
    /// The SSRC of the track.
    pub ssrc: u32,
    /// The SSRC of retransmissions. It is not signaled if the client has no RTX for the codec.
    pub rtx: Option<u32>,
}

/// The outcome of a client's offer to close media lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// The SDP answer.
    pub answer: String,
    /// The mids on which sending has ended: the lines that the client stopped or named, and
    /// those whose offer it never applied.
    pub removed: Vec<String>,
}

impl Receiving {
    /// Applies the first offer of a transport and returns the answer. There will be at most
    /// `max_lines` media lines, and at most [`MAX_MEDIA`].
    pub fn accept(
        offer: &Description,
        local: &Local<'_>,
        max_lines: usize,
    ) -> Result<(Self, String), SdpError> {
        let max_lines = max_lines.min(MAX_MEDIA);
        if offer.media.len() > max_lines {
            return Err(SdpError::Full { limit: max_lines });
        }
        let slots = offer.media.iter().map(Slot::client_owned);
        let slots = slots.collect::<Vec<_>>();
        if slots.iter().all(|slot| slot.line.rejected) {
            return Err(SdpError::Refused("the offer has no supported codec"));
        }
        let mut extensions = Vec::new();
        for kind in [Kind::Audio, Kind::Video] {
            let lines = offer.media.iter().filter(|line| line.kind == kind);
            let mut all = Extensions::default();
            for (extension, id) in lines.flat_map(|line| line.receivable.iter()) {
                all.insert(extension, id);
            }
            extensions.push((kind, all.sent(kind)));
        }
        let mut receiving = Self {
            remote: Remote::from_offer(offer)?,
            slots,
            formats: Vec::new(),
            extensions,
            max_lines,
            mids: 0,
            version: 0,
            awaiting_answer: false,
        };
        receiving.formats = Codec::ALL
            .into_iter()
            .filter_map(|codec| receiving.negotiate(offer, codec))
            .collect();
        let answer = receiving.describe(Setup::Passive, local);
        Ok((receiving, answer))
    }

    /// Negotiates a codec. Uses the client's payload type, or that of the first variant.
    fn negotiate(&self, offer: &Description, codec: Codec) -> Option<NegotiatedFormat> {
        let formats = offer.media.iter().flat_map(|line| &line.formats);
        let mut formats = formats.filter(|format| format.codec == Some(codec));
        let mut format = NegotiatedFormat::new(formats.next()?);
        // Browsers do not offer NACK for audio, but the SDK enables it (docs/spec/media.md 1.6).
        if codec.kind() == Kind::Audio && !format.feedback.contains(&"nack") {
            format.feedback.push("nack");
        }
        if self
            .extension(codec.kind(), Extension::TransportCc)
            .is_none()
        {
            format
                .feedback
                .retain(|feedback| *feedback != "transport-cc");
        }
        Some(format)
    }

    /// Returns the payload types of a codec and of its retransmissions, if the client can decode
    /// it.
    pub fn formats(&self, codec: Codec) -> Option<(u8, Option<u8>)> {
        let format = self.format(codec)?;
        Some((format.payload_type, format.rtx))
    }

    fn format(&self, codec: Codec) -> Option<&NegotiatedFormat> {
        let mut formats = self.formats.iter();
        formats.find(|format| format.codec == Some(codec))
    }

    /// Returns the id of a header extension on tracks of this kind.
    pub fn extension(&self, kind: Kind, extension: Extension) -> Option<u8> {
        self.extensions(kind).id(extension)
    }

    fn extensions(&self, kind: Kind) -> Extensions {
        let mut known = self.extensions.iter().filter(|(known, _)| *known == kind);
        known.next().map(|(_, ids)| *ids).unwrap_or_default()
    }

    /// Adds tracks to the next [`Receiving::offer`]. Returns their mids in the same order. An error
    /// leaves the state unchanged.
    pub fn add(&mut self, streams: Vec<Downlink>) -> Result<Vec<String>, SdpError> {
        let free = self.slots.iter().filter(|slot| slot.state == State::Free);
        let room = free.count() + self.max_lines.saturating_sub(self.slots.len());
        if streams.len() > room {
            return Err(SdpError::Full {
                limit: self.max_lines,
            });
        }
        for stream in &streams {
            if self.format(stream.codec).is_none() {
                return Err(SdpError::Refused("the client does not support the codec"));
            }
            if !is_token(&stream.stream, 64) || !is_token(&stream.track, 64) {
                return Err(SdpError::Refused("stream and track ids must be tokens"));
            }
        }
        let mids = streams.into_iter().filter_map(|stream| self.insert(stream));
        Ok(mids.collect())
    }

    fn insert(&mut self, stream: Downlink) -> Option<String> {
        let format = self.format(stream.codec)?.clone();
        let kind = stream.codec.kind();
        let mid = self.allocate_mid();
        let line = Line {
            kind,
            mid: mid.clone(),
            profile: "UDP/TLS/RTP/SAVPF",
            rejected: false,
            direction: Direction::SendOnly,
            extensions: self.extensions(kind),
            both_ways: self.extensions(kind),
            rids: Vec::new(),
            reduced_rtcp: true,
            sent: Some(SentTrack {
                stream: stream.stream,
                track: stream.track,
                ssrc: stream.ssrc,
                rtx: format.rtx.and(stream.rtx),
            }),
            format,
        };
        let slot = Slot {
            line,
            state: State::Sending,
            known: false,
        };
        let free = |wanted: Option<Kind>| {
            self.slots.iter().position(|slot| {
                slot.state == State::Free && wanted.is_none_or(|kind| slot.line.kind == kind)
            })
        };
        // Prefer a free line of the same kind, so that it changes as little as possible.
        let index = free(Some(kind)).or_else(|| free(None));
        match index.and_then(|index| self.slots.get_mut(index)) {
            Some(free) => *free = slot,
            None => self.slots.push(slot),
        }
        Some(mid)
    }

    /// Returns an unused mid. Clients use plain numbers, so ours have a prefix.
    fn allocate_mid(&mut self) -> String {
        loop {
            self.mids += 1;
            let mid = format!("s{}", self.mids);
            if self.slots.iter().all(|slot| slot.line.mid != mid) {
                return mid;
            }
        }
    }

    /// Stops sending on a line on the server's initiative. The next offer rejects the line (RFC
    /// 8829 section 5.2.2); once it is answered, the line can be reused. The line does not become
    /// `inactive`, since the SDK never closes lines that it has dropped by itself
    /// (docs/spec/media.md 3.6), and the line would be lost. The client may still close the line,
    /// before the offer or after it, when its description no longer contains the line.
    pub fn withdraw(&mut self, mid: &str) {
        for slot in &mut self.slots {
            if slot.state == State::Sending && slot.line.mid == mid {
                slot.stop();
            }
        }
    }

    /// Returns an offer with all media lines.
    pub fn offer(&mut self, local: &Local<'_>) -> String {
        for slot in &mut self.slots {
            match &mut slot.state {
                State::Stopping { offered } => {
                    *offered = true;
                    slot.line.reject();
                }
                State::Sending => slot.line.direction = Direction::SendOnly,
                State::ClientOwned | State::Free => {}
            }
        }
        self.awaiting_answer = true;
        self.describe(Setup::ActPass, local)
    }

    /// Applies the client's answer to the last offer. Returns the mids that the client declined, on
    /// which nothing must be sent. An error leaves the state unchanged.
    pub fn apply_answer(&mut self, answer: &Description) -> Result<Vec<String>, SdpError> {
        self.remote.check_answer(answer)?;
        if !self.awaiting_answer {
            return Err(SdpError::Refused("there is no offer to answer"));
        }
        if answer.media.len() != self.slots.len() {
            return Err(SdpError::Refused(
                "the number of media lines differs from the offer",
            ));
        }
        for (slot, line) in self.slots.iter().zip(&answer.media) {
            if slot.line.mid != line.mid || slot.line.kind != line.kind {
                return Err(SdpError::media(&slot.line.mid, WRONG_POSITION));
            }
        }
        self.awaiting_answer = false;
        let mut declined = Vec::new();
        for (slot, line) in self.slots.iter_mut().zip(&answer.media) {
            slot.known = true;
            let accepts = line.direction.receives() && slot.is_format_in(line);
            match slot.state {
                State::Sending if line.rejected || !accepts => {
                    declined.push(slot.line.mid.clone());
                    if line.rejected {
                        slot.free();
                    } else {
                        slot.stop();
                    }
                }
                State::Stopping { offered } if offered || line.rejected => slot.free(),
                State::ClientOwned if line.rejected => slot.free(),
                _ => {}
            }
        }
        Ok(declined)
    }

    /// Applies a client's offer to close media lines. The lines that the offer stops can be reused
    /// immediately; lines that are only listed in `mids` are rejected in the answer. Unknown mids
    /// are ignored, since they may have been withdrawn. An error leaves the state unchanged.
    pub fn close(
        &mut self,
        offer: &Description,
        mids: &[String],
        local: &Local<'_>,
    ) -> Result<Closed, SdpError> {
        self.remote.check_offer(offer)?;
        if offer.media.len() > self.max_lines {
            return Err(SdpError::Full {
                limit: self.max_lines,
            });
        }
        self.check_lines(offer)?;
        let before = self.sending();
        let mut slots = std::mem::take(&mut self.slots).into_iter();
        for line in &offer.media {
            let slot = slots.next().filter(|slot| slot.line.mid == line.mid);
            self.slots.push(match slot {
                Some(slot) => slot.apply_offer(line, mids.contains(&line.mid)),
                None => Slot::client_owned(line),
            });
        }
        self.awaiting_answer = false;
        let after = self.sending();
        let removed = before.into_iter().filter(|mid| !after.contains(mid));
        Ok(Closed {
            removed: removed.collect(),
            answer: self.describe(Setup::Passive, local),
        })
    }

    /// Checks that an offer contains every line that the client knows, at its position.
    fn check_lines(&self, offer: &Description) -> Result<(), SdpError> {
        for (index, slot) in self.slots.iter().enumerate() {
            let offered = offer.media.get(index);
            let same = offered.is_some_and(|line| line.mid == slot.line.mid);
            if same && offered.is_some_and(|line| line.kind != slot.line.kind) {
                return Err(SdpError::media(&slot.line.mid, WRONG_KIND));
            }
            // The client may reuse a free line too, but cannot remove it.
            let may_change = slot.state == State::Free && offered.is_some();
            if slot.known && !same && !may_change {
                return Err(SdpError::media(&slot.line.mid, WRONG_POSITION));
            }
        }
        Ok(())
    }

    /// Returns the mids of the lines on which a track is sent.
    fn sending(&self) -> Vec<String> {
        let sending = self
            .slots
            .iter()
            .filter(|slot| slot.state == State::Sending);
        sending.map(|slot| slot.line.mid.clone()).collect()
    }

    fn describe(&mut self, setup: Setup, local: &Local<'_>) -> String {
        self.version += 1;
        let lines = self.slots.iter().map(|slot| &slot.line);
        describe(lines, setup, self.version, local)
    }
}

impl Slot {
    /// Creates the slot of a line that the client created.
    fn client_owned(offered: &MediaLine) -> Self {
        let line = Line::answer(offered);
        let state = match (offered.rejected, line.rejected) {
            (true, _) => State::Free,
            (false, true) => State::Stopping { offered: false },
            (false, false) => State::ClientOwned,
        };
        Self {
            line,
            state,
            known: true,
        }
    }

    /// Applies the client's offer. `to_close` is whether the client has listed the line as closed.
    fn apply_offer(mut self, offered: &MediaLine, to_close: bool) -> Self {
        self.known = true;
        match self.state {
            _ if offered.rejected => self.free(),
            State::ClientOwned => return Self::client_owned(offered),
            State::Sending if !to_close && self.is_format_in(offered) => {
                let receives = offered.direction.receives();
                self.line.direction = if receives {
                    Direction::SendOnly
                } else {
                    Direction::Inactive
                };
            }
            State::Sending | State::Stopping { .. } | State::Free => {
                self.line.reject();
                self.stop();
            }
        }
        self
    }

    /// Returns whether the client's media line lists the payload type that we send.
    fn is_format_in(&self, line: &MediaLine) -> bool {
        let payload_type = self.line.format.payload_type;
        let mut formats = line.formats.iter();
        formats.any(|format| format.payload_type == payload_type)
    }

    fn stop(&mut self) {
        self.state = State::Stopping { offered: false };
    }

    fn free(&mut self) {
        self.state = State::Free;
        self.line.reject();
    }
}
