//! Commands from the rest of the server.

use std::sync::atomic::Ordering;
use std::time::Instant;

use parlor_protocol::{MeetingId, PeerId, ProducerId};
use tracing::debug;

use super::ice::Ice;
use super::publish::Publisher;
use super::subscribe::{Numbering, Subscriber, layer_number};
use super::track::{NO_LAYER, Subscription, Track};
use super::transport::Transport;
use super::{Engine, Entry, FIRST_CHECK_TIMEOUT, Side};
use crate::events::Listener;
use crate::sdp::{Description, Downlink, Local, Opus, Publishing, Receiving, Uplink};
use crate::{ConsumeRequest, Consumed, Direction, Error, Member, Opened, Owner, Produce, Source};

/// The default Opus parameters, for presets that set none: DTX, and the maximum bit rate of a
/// microphone in bits per second (docs/spec/media.md 1.5).
const OPUS: Opus = Opus {
    dtx: true,
    bitrate: 32_000,
};

/// Number of media sections that a client may have in addition to those of the tracks that it
/// receives: those of its first offers (docs/spec/media.md 1.4).
const SPARE_LINES: usize = 64;

/// The `ice-char` alphabet of ICE username fragments and passwords (RFC 8839, 5.4).
const CHARACTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn bad_offer(error: &crate::sdp::SdpError) -> Error {
    Error::BadOffer(error.to_string())
}

impl Engine {
    fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        (self.settings.random)(&mut bytes);
        bytes
    }

    fn ice_text<const N: usize>(&self) -> String {
        let bytes = self.random::<N>();
        let of = |byte: u8| char::from(CHARACTERS[usize::from(byte) % CHARACTERS.len()]);
        bytes.into_iter().map(of).collect()
    }

    /// Answers an offer with a new transport, which replaces the member's older one of the same
    /// direction.
    ///
    /// # Errors
    /// [`Error::BadOffer`], [`Error::Full`] or [`Error::Share`]; the older transport is kept.
    pub(crate) fn open(
        &mut self,
        owner: Owner,
        now: Instant,
        member: Member,
        direction: Direction,
        offer: &Description,
    ) -> Result<Opened, Error> {
        let older = self.by_member.get(&(member, direction)).copied();
        self.make_room(now, (owner, member), older)?;
        let ufrag = format!(
            "{}{}",
            char::from(self.settings.shard),
            self.ice_text::<15>()
        );
        let password = super::ice::password(&self.settings.passwords, &ufrag);
        let ice = Ice::new(ufrag, password);
        let local = local(
            &self.settings.candidates,
            self.dtls_context.fingerprint(),
            &ice,
        );
        let (side, answer) = match direction {
            Direction::Publish => {
                let (sdp, answer) = Publishing::accept(offer, &local).map_err(|e| bad_offer(&e))?;
                let publisher = Publisher::new(sdp, offer);
                (Side::Publish(Box::new(publisher)), answer)
            }
            Direction::Receive => {
                let lines = self.settings.max_consumers + SPARE_LINES;
                let (sdp, answer) =
                    Receiving::accept(offer, &local, lines).map_err(|e| bad_offer(&e))?;
                (Side::Receive(Box::new(Subscriber::new(now, sdp))), answer)
            }
        };
        if let Some(older) = older {
            self.closed_transports
                .add(now, self.entries[older].transport.id());
            self.free(older, "replaced");
        }

        let key = self.entries.vacant_key();
        let transport_id = ice.ufrag().to_owned();
        debug!(?member, ?direction, transport_id, "transport opened");
        let transport = Transport::new(now, key, &self.dtls_context, ice, offer.fingerprint);
        self.by_member.insert((member, direction), key);
        self.by_ufrag.insert(transport_id.clone(), key);
        let expires_at = now + self.settings.connect_timeout.min(FIRST_CHECK_TIMEOUT);
        self.entries.insert(Entry {
            member,
            owner,
            opened_at: now,
            direction,
            transport,
            side,
            wakes_at: expires_at,
            expires_at: Some(expires_at),
        });
        self.settings.open.fetch_add(1, Ordering::Relaxed);
        self.acquire_share(owner, member.meeting);
        self.timers.insert((expires_at, key));
        self.meetings.entry(member.meeting).or_default().transports += 1;
        Ok(Opened {
            transport_id,
            answer,
        })
    }

    /// Returns the member's transport of a direction, if it has the given id.
    fn transport_key(
        &self,
        member: Member,
        direction: Direction,
        id: &str,
    ) -> Result<usize, Error> {
        let key = self.by_member.get(&(member, direction)).copied();
        key.filter(|key| self.entries[*key].transport.id() == id)
            .ok_or(Error::NoTransport)
    }

    /// Answers an offer that adds a track.
    pub(crate) fn produce(
        &mut self,
        now: Instant,
        member: Member,
        produce: &Produce,
        offer: &Description,
    ) -> Result<String, Error> {
        let key = self.transport_key(member, Direction::Publish, &produce.transport)?;
        let Side::Publish(publisher) = &self.entries[key].side else {
            return Err(Error::NoTransport);
        };
        // Validated before the offer is applied: a rejected offer must not change the transport.
        let no_section = || Error::BadOffer("no media section sends this track".to_owned());
        offer
            .line(&produce.mid)
            .filter(|line| line.is_sent())
            .filter(|line| (line.kind == crate::sdp::Kind::Audio) == produce.source.is_audio())
            .ok_or_else(no_section)?;
        let older = self.by_producer.get(&(member.meeting, produce.producer));
        let mut tracks = publisher.tracks.iter();
        let taken = tracks.any(|track| self.tracks[*track].uplink.mid == produce.mid);
        if taken || older.is_some() {
            return Err(Error::BadOffer(
                "the media section already has a track".to_owned(),
            ));
        }
        let (answer, uplinks) = self.renegotiate(key, offer)?;
        let mut uplinks = uplinks.into_iter();
        let uplink = uplinks
            .find(|uplink| uplink.mid == produce.mid)
            .ok_or_else(no_section)?;
        let Side::Publish(publisher) = &mut self.entries[key].side else {
            return Err(Error::NoTransport);
        };
        let mut track = Track::new(produce.producer, member, key, produce.source, uplink);
        track.paused = produce.paused;
        let track_key = self.tracks.vacant_key();
        publisher.add(now, track_key, &mut track);
        self.tracks.insert(track);
        self.by_producer
            .insert((member.meeting, produce.producer), track_key);
        self.update_transport(now, key);
        Ok(answer)
    }

    /// Answers an offer that adds no track.
    pub(crate) fn reoffer(&mut self, member: Member, offer: &Description) -> Result<String, Error> {
        let key = self.by_member.get(&(member, Direction::Publish)).copied();
        let (answer, _) = self.renegotiate(key.ok_or(Error::NoTransport)?, offer)?;
        Ok(answer)
    }

    fn renegotiate(
        &mut self,
        key: usize,
        offer: &Description,
    ) -> Result<(String, Vec<Uplink>), Error> {
        let entry = &mut self.entries[key];
        let local = local(
            &self.settings.candidates,
            self.dtls_context.fingerprint(),
            &entry.transport.ice,
        );
        let Side::Publish(publisher) = &mut entry.side else {
            return Err(Error::NoTransport);
        };
        publisher
            .sdp
            .answer(offer, &local, OPUS)
            .map_err(|e| bad_offer(&e))
    }

    /// Closes a track of a member.
    pub(crate) fn drop_producer(&mut self, member: Member, producer: ProducerId) {
        if let Some(track) = self.owned_track(member, producer) {
            self.end_track(track);
        }
    }

    fn owned_track(&self, member: Member, producer: ProducerId) -> Option<usize> {
        let key = *self.by_producer.get(&(member.meeting, producer))?;
        (self.tracks[key].member == member).then_some(key)
    }

    /// Closes a track and all its consumers.
    pub(super) fn end_track(&mut self, key: usize) {
        let subscriptions = std::mem::take(&mut self.tracks[key].subscriptions);
        for subscription in subscriptions {
            self.end_consumers(subscription.transport, |consumer| consumer.track == key);
        }
        let track = self.tracks.remove(key);
        self.by_producer
            .remove(&(track.member.meeting, track.producer));
        if let Side::Publish(publisher) = &mut self.entries[track.transport].side {
            publisher.remove(key);
        }
        if track.source == Source::Microphone
            && let Some(state) = self.meetings.get_mut(&track.member.meeting)
        {
            state.speakers.remove(track.member.peer);
        }
    }

    /// Pauses or resumes forwarding of a track.
    pub(crate) fn pause(
        &mut self,
        now: Instant,
        member: Member,
        producer: ProducerId,
        paused: bool,
    ) {
        let Some(key) = self.owned_track(member, producer) else {
            return;
        };
        let track = &mut self.tracks[key];
        if std::mem::replace(&mut track.paused, paused) == paused {
            return;
        }
        // The numbers of the publisher advance during a pause, so each subscriber has to switch to
        // the stream again.
        for subscription in &mut track.subscriptions {
            subscription.current = NO_LAYER;
        }
        if paused {
            if track.source == Source::Microphone
                && let Some(state) = self.meetings.get_mut(&member.meeting)
            {
                state.speakers.remove(member.peer);
            }
        } else {
            self.request_missing_keyframes(now, key);
        }
    }

    /// Subscribes a client to tracks, and returns the offer for them.
    pub(crate) fn consume(
        &mut self,
        member: Member,
        transport: &str,
        wanted: &[ConsumeRequest],
    ) -> Result<Consumed, Error> {
        let key = self.transport_key(member, Direction::Receive, transport)?;
        let mut mids = Vec::with_capacity(wanted.len());
        for want in wanted {
            mids.push(self.consume_one(member, key, want));
        }
        let (subscriber, local) = self.subscriber(key)?;
        let offer = mids
            .iter()
            .any(Option::is_some)
            .then(|| subscriber.sdp.offer(&local));
        Ok(Consumed { mids, offer })
    }

    /// Returns the subscriber of a transport and the local parameters for its offers.
    fn subscriber(&mut self, key: usize) -> Result<(&mut Subscriber, Local<'_>), Error> {
        let entry = &mut self.entries[key];
        let Side::Receive(subscriber) = &mut entry.side else {
            return Err(Error::NoTransport);
        };
        let local = local(
            &self.settings.candidates,
            self.dtls_context.fingerprint(),
            &entry.transport.ice,
        );
        Ok((subscriber, local))
    }

    fn consume_one(&mut self, member: Member, key: usize, want: &ConsumeRequest) -> Option<String> {
        let producer = (member.meeting, want.producer);
        let track_key = *self.by_producer.get(&producer)?;
        let track = &self.tracks[track_key];
        if track.member.peer != want.publisher {
            return None;
        }
        // A client that requests a track again has lost its consumer.
        let is_same = |consumer: &super::subscribe::Consumer| consumer.producer == want.producer;
        self.end_consumers(key, is_same);
        let track = &self.tracks[track_key];
        let random = u32::from_be_bytes(self.random());
        let first = u16::from_be_bytes(self.random());
        let entry = &mut self.entries[key];
        let Side::Receive(subscriber) = &mut entry.side else {
            return None;
        };
        if subscriber.consumers.len() >= self.settings.max_consumers {
            return None;
        }
        let numbering = Numbering {
            ssrc: subscriber.new_ssrc(random),
            rtx_ssrc: (!track.source.is_audio()).then(|| subscriber.new_ssrc(random)),
            first,
        };
        // Tracks in the same stream are played in sync.
        let suffix = if track.source.is_screen() {
            "-screen"
        } else {
            ""
        };
        let stream = format!("{}{suffix}", track.member.peer);
        let downlink = Downlink {
            codec: track.codec(),
            stream: stream.clone(),
            track: track.producer.to_string(),
            ssrc: numbering.ssrc,
            rtx: numbering.rtx_ssrc,
        };
        let mid = subscriber.sdp.add(vec![downlink]).ok()?.pop()?;
        let rid = want.preferred_rid.as_ref();
        let preferred = rid.and_then(|rid| track.layer_of(Some(rid.as_bytes())));
        let preferred = preferred.unwrap_or_default();
        let consumer = subscriber.add(
            (track_key, track),
            (mid.clone(), stream),
            preferred,
            &numbering,
        )?;
        self.tracks[track_key].subscriptions.push(Subscription {
            transport: key,
            consumer,
            current: NO_LAYER,
            target: NO_LAYER,
        });
        self.consumers += 1;
        Some(mid)
    }

    /// Applies the client's answer to the last offer, after which packets are forwarded.
    pub(crate) fn apply_answer(
        &mut self,
        now: Instant,
        member: Member,
        transport: &str,
        answer: &Description,
    ) -> Result<(), Error> {
        let key = self.transport_key(member, Direction::Receive, transport)?;
        let Side::Receive(subscriber) = &mut self.entries[key].side else {
            return Err(Error::NoTransport);
        };
        let unwanted = subscriber
            .sdp
            .apply_answer(answer)
            .map_err(|e| bad_offer(&e))?;
        self.end_consumers(key, |consumer| unwanted.contains(&consumer.mid));
        let Side::Receive(subscriber) = &mut self.entries[key].side else {
            return Err(Error::NoTransport);
        };
        for (number, consumer) in &mut subscriber.consumers {
            if std::mem::replace(&mut consumer.negotiated, true) {
                continue;
            }
            if consumer.source.is_audio() {
                consumer.target = Some(0);
                let subscription = self.tracks[consumer.track].subscription(key, number);
                if let Some(subscription) = subscription {
                    subscription.target = layer_number(consumer.target);
                }
            }
        }
        self.allocate_layers(now, key);
        self.update_transport(now, key);
        Ok(())
    }

    /// Closes the consumers of these media sections.
    pub(crate) fn close_consumers(
        &mut self,
        member: Member,
        transport: &str,
        mids: &[String],
        offer: &Description,
    ) -> Result<String, Error> {
        let key = self.transport_key(member, Direction::Receive, transport)?;
        let (subscriber, local) = self.subscriber(key)?;
        let closed = subscriber
            .sdp
            .close(offer, mids, &local)
            .map_err(|e| bad_offer(&e))?;
        self.end_consumers(key, |consumer| closed.removed.contains(&consumer.mid));
        Ok(closed.answer)
    }

    /// Closes the consumers of a transport that match `matches_consumer`, and deactivates
    /// their media sections.
    pub(super) fn end_consumers(
        &mut self,
        key: usize,
        matches_consumer: impl Fn(&super::subscribe::Consumer) -> bool,
    ) {
        let Side::Receive(subscriber) = &mut self.entries[key].side else {
            return;
        };
        let before = subscriber.consumers.len();
        let (tracks, sdp) = (&mut self.tracks, &mut subscriber.sdp);
        subscriber.consumers.retain(|number, consumer| {
            if !matches_consumer(consumer) {
                return true;
            }
            sdp.withdraw(&consumer.mid);
            if let Some(track) = tracks.get_mut(consumer.track) {
                track.unsubscribe(key, number);
            }
            false
        });
        self.consumers -= before - subscriber.consumers.len();
    }

    /// Sets the preferred layers of a client.
    pub(crate) fn prefer(
        &mut self,
        now: Instant,
        member: Member,
        preferences: &[(String, String)],
    ) {
        let Some(key) = self.by_member.get(&(member, Direction::Receive)).copied() else {
            return;
        };
        let Side::Receive(subscriber) = &mut self.entries[key].side else {
            return;
        };
        for (mid, rid) in preferences {
            let Some(number) = subscriber.by_mid(mid) else {
                continue;
            };
            let consumer = &mut subscriber.consumers[number];
            // An unknown rid selects the nearest layer in quality.
            if let Some(layer) = self.tracks[consumer.track].nearest_layer(rid) {
                consumer.preferred = layer;
            }
        }
        self.allocate_layers(now, key);
    }

    /// Closes a member's consumers of these producers.
    pub(crate) fn revoke(&mut self, member: Member, producers: &[ProducerId]) {
        if let Some(key) = self.by_member.get(&(member, Direction::Receive)).copied() {
            self.end_consumers(key, |consumer| producers.contains(&consumer.producer));
        }
    }

    /// Sets the pinned peer of a meeting, whose video is prioritised.
    pub(crate) fn pin(&mut self, meeting: MeetingId, peer: Option<PeerId>) {
        if let Some(state) = self.meetings.get_mut(&meeting) {
            state.pinned = peer;
        }
    }

    /// Frees a member's transports. With `client_offline`, later checks are answered with an error,
    /// so that the client detects that the transports are closed.
    pub(crate) fn close(&mut self, now: Instant, member: Member, client_offline: bool) {
        for direction in [Direction::Publish, Direction::Receive] {
            if let Some(key) = self.by_member.get(&(member, direction)).copied() {
                if !client_offline {
                    self.closed_transports
                        .add(now, self.entries[key].transport.id());
                }
                self.free(key, "closed");
            }
        }
    }

    /// Registers a listener for the events of a meeting.
    pub(crate) fn listen(&mut self, meeting: MeetingId, listener: Listener) {
        // Listeners close without notifying the engine. Unused meetings are swept when there are
        // twice as many meetings as after the last sweep.
        if self.meetings.len() >= self.sweep_meetings_at {
            self.meetings.retain(|_, state| state.is_in_use());
            self.sweep_meetings_at = self.meetings.len() * 2 + 64;
        }
        let state = self.meetings.entry(meeting).or_default();
        state.listeners.retain(|listener| !listener.is_closed());
        state.listeners.push(listener);
    }
}

fn local<'a>(
    candidates: &'a [crate::sdp::Candidate],
    fingerprint: &'a [u8; 32],
    ice: &'a Ice,
) -> Local<'a> {
    // The session id only needs to be stable; the username fragment is unique to the transport.
    let mut session = [0; 8];
    for (to, from) in session.iter_mut().zip(ice.ufrag().bytes().rev()) {
        *to = from;
    }
    Local {
        ufrag: ice.ufrag(),
        pwd: ice.password(),
        fingerprint,
        candidates,
        session: u64::from_be_bytes(session) >> 1,
    }
}
