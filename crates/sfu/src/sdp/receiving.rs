//! Our side of the connection on which a client receives: we offer, and the client offers to close.

use super::codec::{Codec, Kind};
use super::description::{Description, Direction, MediaLine, Setup};
use super::extension::{Extension, Extensions};
use super::line::{Agreed, Line, Sends, describe};
use super::{Client, Local, MAX_MEDIA, SdpError, is_token};

/// All that was ever said about what a client receives on one transport.
///
/// What goes to the client is [`Receiving::add`]ed, [`Receiving::offer`]ed and
/// [`Receiving::answered`], in this order. An offer that never is answered does no harm: nothing of
/// it is taken back, and the next one says all of it again, in the same places. That is right
/// whether the client saw it or not, since a client takes an offer whole or not at all, and
/// whatever it did not take is in the places after those it knows, or in places it knows as free.
///
/// A media line that was closed is free, and the next stream has its place under a new mid
/// (RFC 8829 section 5.2.2), so that there never are many more of them than streams.
pub struct Receiving {
    client: Client,
    slots: Vec<Slot>,
    /// What the client can decode, as it offered it at first.
    formats: Vec<Agreed>,
    extensions: Vec<(Kind, Extensions)>,
    max_lines: usize,
    minted: u64,
    version: u64,
    /// Whether an offer of ours waits for its answer.
    waiting: bool,
}

/// The place of a media line.
struct Slot {
    line: Line,
    state: State,
    /// Whether the client has shown that it knows the line. One that it does not know yet may have
    /// been in an offer that was lost.
    known: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The client made it, and nothing ever is sent on it.
    Theirs,
    /// We send on it.
    Sending,
    /// We do not send on it any more. The client has been offered so, or has not yet.
    Stopping { offered: bool },
    /// The client said last that it is rejected, so it can be used again. That we said so is not
    /// enough for Chromium: should it take the next offer twice, it compares it with its own.
    Free,
}

/// What is to be sent to a client on a media line of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Downlink {
    /// The codec, one that the client can decode.
    pub codec: Codec,
    /// What the client calls the stream. It plays what has the same one in step (docs/spec/media.md
    /// 1.6). It is the CNAME too. A token of at most 64 characters.
    pub stream: String,
    /// What the client calls the track. A token of at most 64 characters.
    pub track: String,
    /// The SSRC that is sent with.
    pub ssrc: u32,
    /// The SSRC that is retransmitted with. It is not told to a client without RTX for the codec.
    pub rtx: Option<u32>,
}

/// What an offer of the client to close leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// The answer.
    pub answer: String,
    /// Everything that was sent until now and is no more: the lines that the client stopped, those
    /// it named, and those it never saw the offer of.
    pub gone: Vec<String>,
}

impl Receiving {
    /// Takes the first offer of a transport; with the answer. Never are there more media lines than
    /// `max_lines` (and [`MAX_MEDIA`]).
    pub fn accept(
        offer: &Description,
        local: &Local<'_>,
        max_lines: usize,
    ) -> Result<(Self, String), SdpError> {
        let max_lines = max_lines.min(MAX_MEDIA);
        if offer.media.len() > max_lines {
            return Err(SdpError::Full { limit: max_lines });
        }
        let slots = offer.media.iter().map(Slot::theirs).collect::<Vec<_>>();
        if slots.iter().all(|slot| slot.line.rejected) {
            return Err(SdpError::Refused("it offers no codec that is known here"));
        }
        let mut extensions = Vec::new();
        for kind in [Kind::Audio, Kind::Video] {
            let lines = offer.media.iter().filter(|line| line.kind == kind);
            let mut all = Extensions::default();
            for (extension, id) in lines.flat_map(|line| line.received.iter()) {
                all.insert(extension, id);
            }
            extensions.push((kind, all.sent(kind)));
        }
        let mut receiving = Self {
            client: Client::of(offer)?,
            slots,
            formats: Vec::new(),
            extensions,
            max_lines,
            minted: 0,
            version: 0,
            waiting: false,
        };
        receiving.formats = Codec::ALL
            .into_iter()
            .filter_map(|codec| receiving.learn(offer, codec))
            .collect();
        let answer = receiving.describe(Setup::Passive, local);
        Ok((receiving, answer))
    }

    /// How we would send this codec: with the payload type that the client offers it as, the first
    /// if there are variants of it.
    fn learn(&self, offer: &Description, codec: Codec) -> Option<Agreed> {
        let formats = offer.media.iter().flat_map(|line| &line.formats);
        let mut formats = formats.filter(|format| format.codec == Some(codec));
        let mut agreed = Agreed::to(formats.next()?);
        // Browsers do not offer it, and the SDK makes them do it (docs/spec/media.md 1.6).
        if codec.kind() == Kind::Audio && !agreed.feedback.contains(&"nack") {
            agreed.feedback.push("nack");
        }
        if self
            .extension(codec.kind(), Extension::TransportCc)
            .is_none()
        {
            agreed
                .feedback
                .retain(|feedback| *feedback != "transport-cc");
        }
        Some(agreed)
    }

    /// The payload types of a codec and of its retransmissions, if the client can decode it.
    pub fn formats(&self, codec: Codec) -> Option<(u8, Option<u8>)> {
        let agreed = self.agreed(codec)?;
        Some((agreed.payload_type, agreed.rtx))
    }

    fn agreed(&self, codec: Codec) -> Option<&Agreed> {
        let mut formats = self.formats.iter();
        formats.find(|agreed| agreed.codec == Some(codec))
    }

    /// The id of a header extension on what is sent of this kind.
    pub fn extension(&self, kind: Kind, extension: Extension) -> Option<u8> {
        self.extensions(kind).id(extension)
    }

    fn extensions(&self, kind: Kind) -> Extensions {
        let mut known = self.extensions.iter().filter(|(known, _)| *known == kind);
        known.next().map(|(_, ids)| *ids).unwrap_or_default()
    }

    /// Makes room for these streams, and gives their mids in the same order. They are in the next
    /// [`Receiving::offer`]. After an error, everything is as it was.
    pub fn add(&mut self, streams: Vec<Downlink>) -> Result<Vec<String>, SdpError> {
        let free = self.slots.iter().filter(|slot| slot.state == State::Free);
        let room = free.count() + self.max_lines.saturating_sub(self.slots.len());
        if streams.len() > room {
            return Err(SdpError::Full {
                limit: self.max_lines,
            });
        }
        for stream in &streams {
            if self.agreed(stream.codec).is_none() {
                return Err(SdpError::Refused("it offered no such codec"));
            }
            if !is_token(&stream.stream, 64) || !is_token(&stream.track, 64) {
                return Err(SdpError::Refused("streams and tracks must be tokens"));
            }
        }
        let placed = streams.into_iter().filter_map(|stream| self.place(stream));
        Ok(placed.collect())
    }

    fn place(&mut self, stream: Downlink) -> Option<String> {
        let agreed = self.agreed(stream.codec)?.clone();
        let kind = stream.codec.kind();
        let mid = self.mint();
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
            sends: Some(Sends {
                stream: stream.stream,
                track: stream.track,
                ssrc: stream.ssrc,
                rtx: agreed.rtx.and(stream.rtx),
            }),
            agreed,
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
        // One of the same kind if there is one: the less a line changes, the better.
        let place = free(Some(kind)).or_else(|| free(None));
        match place.and_then(|index| self.slots.get_mut(index)) {
            Some(place) => *place = slot,
            None => self.slots.push(slot),
        }
        Some(mid)
    }

    /// A mid that was never used. Clients number theirs, so these do not look like numbers.
    fn mint(&mut self) -> String {
        loop {
            self.minted += 1;
            let mid = format!("s{}", self.minted);
            if self.slots.iter().all(|slot| slot.line.mid != mid) {
                return mid;
            }
        }
    }

    /// Stops sending on a line, without the client having asked. The next offer rejects it, as
    /// RFC 8829 section 5.2.2 has it, and once that is answered its place is free. Not `inactive`:
    /// the SDK never closes what it has dropped by itself (docs/spec/media.md 3.6), so that the place
    /// would be lost. The client may close it before as if nothing were, and after too, when its
    /// offer no longer has the line.
    pub fn withdraw(&mut self, mid: &str) {
        for slot in &mut self.slots {
            if slot.state == State::Sending && slot.line.mid == mid {
                slot.stop();
            }
        }
    }

    /// Describes all of it to the client, who is to answer.
    pub fn offer(&mut self, local: &Local<'_>) -> String {
        for slot in &mut self.slots {
            match &mut slot.state {
                State::Stopping { offered } => {
                    *offered = true;
                    slot.line.reject();
                }
                State::Sending => slot.line.direction = Direction::SendOnly,
                State::Theirs | State::Free => {}
            }
        }
        self.waiting = true;
        self.describe(Setup::ActPass, local)
    }

    /// Takes the client's answer to the last offer. Gives the mids of what the client does not
    /// want; nothing needs to be sent on them. After an error, everything is as it was.
    pub fn answered(&mut self, answer: &Description) -> Result<Vec<String>, SdpError> {
        self.client.answers(answer)?;
        if !self.waiting {
            return Err(SdpError::Refused("no offer waits for an answer"));
        }
        if answer.media.len() != self.slots.len() {
            return Err(SdpError::Refused(
                "it has not as many media lines as the offer",
            ));
        }
        for (slot, line) in self.slots.iter().zip(&answer.media) {
            if slot.line.mid != line.mid || slot.line.kind != line.kind {
                return Err(SdpError::media(&slot.line.mid, "it is not in its place"));
            }
        }
        self.waiting = false;
        let mut unwanted = Vec::new();
        for (slot, line) in self.slots.iter_mut().zip(&answer.media) {
            slot.known = true;
            let takes = line.direction.receives() && slot.is_understood(line);
            match slot.state {
                State::Sending if line.rejected || !takes => {
                    unwanted.push(slot.line.mid.clone());
                    if line.rejected {
                        slot.free();
                    } else {
                        slot.stop();
                    }
                }
                State::Stopping { offered } if offered || line.rejected => slot.free(),
                State::Theirs if line.rejected => slot.free(),
                _ => {}
            }
        }
        Ok(unwanted)
    }

    /// Takes a client's offer to close. The lines that it stops are free from then on; a line that
    /// it only names in `mids` is rejected in the answer. A mid that is not known is passed over:
    /// it was withdrawn. After an error, everything is as it was.
    pub fn close(
        &mut self,
        offer: &Description,
        mids: &[String],
        local: &Local<'_>,
    ) -> Result<Closed, SdpError> {
        self.client.offers(offer)?;
        if offer.media.len() > self.max_lines {
            return Err(SdpError::Full {
                limit: self.max_lines,
            });
        }
        self.fits(offer)?;
        let sending = self.sending();
        let mut slots = std::mem::take(&mut self.slots).into_iter();
        for line in &offer.media {
            let slot = slots.next().filter(|slot| slot.line.mid == line.mid);
            self.slots.push(match slot {
                Some(slot) => slot.offered(line, mids.contains(&line.mid)),
                None => Slot::theirs(line),
            });
        }
        self.waiting = false;
        let left = self.sending();
        let gone = sending.into_iter().filter(|mid| !left.contains(mid));
        Ok(Closed {
            gone: gone.collect(),
            answer: self.describe(Setup::Passive, local),
        })
    }

    /// Whether an offer has every line that the client knows in its place.
    fn fits(&self, offer: &Description) -> Result<(), SdpError> {
        for (index, slot) in self.slots.iter().enumerate() {
            let offered = offer.media.get(index);
            let same = offered.is_some_and(|line| line.mid == slot.line.mid);
            if same && offered.is_some_and(|line| line.kind != slot.line.kind) {
                return Err(SdpError::media(&slot.line.mid, "it was of another kind"));
            }
            // A free place may be used by the client too, but does not vanish.
            let may_change = slot.state == State::Free && offered.is_some();
            if slot.known && !same && !may_change {
                return Err(SdpError::media(&slot.line.mid, "it is not in its place"));
            }
        }
        Ok(())
    }

    /// The mids of what is sent.
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
    /// The place of a line that the client made.
    fn theirs(offered: &MediaLine) -> Self {
        let line = Line::answer(offered);
        let state = match (offered.rejected, line.rejected) {
            (true, _) => State::Free,
            (false, true) => State::Stopping { offered: false },
            (false, false) => State::Theirs,
        };
        Self {
            line,
            state,
            known: true,
        }
    }

    /// The same place after the client's offer.
    fn offered(mut self, offered: &MediaLine, named: bool) -> Self {
        self.known = true;
        match self.state {
            _ if offered.rejected => self.free(),
            State::Theirs => return Self::theirs(offered),
            State::Sending if !named && self.is_understood(offered) => {
                let takes = offered.direction.receives();
                self.line.direction = if takes {
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

    /// Whether the client lists what we send with.
    fn is_understood(&self, said: &MediaLine) -> bool {
        let payload_type = self.line.agreed.payload_type;
        let mut formats = said.formats.iter();
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
