//! What the rest of the server asks of the engine.

use std::sync::atomic::Ordering;
use std::time::Instant;

use parlor_protocol::{MeetingId, PeerId, ProducerId};
use tracing::debug;

use super::ice::Ice;
use super::publish::Publisher;
use super::subscribe::{Numbering, Subscriber, layer_number};
use super::track::{NONE, Subscription, Track};
use super::transport::Transport;
use super::{Engine, Entry, FIRST_CHECK, Side};
use crate::events::Listener;
use crate::sdp::{Description, Downlink, Local, Opus, Publishing, Receiving, Uplink};
use crate::{Consumed, Direction, Error, Member, Opened, Owner, Produce, Source, Want};

/// What a microphone may send if its preset says nothing, in bits per second; and silence costs
/// next to nothing (docs/spec/media.md 1.5).
const OPUS: Opus = Opus {
    dtx: true,
    bitrate: 32_000,
};

/// Lines that a client may have besides those of the tracks that it receives: those of its first
/// offers (docs/spec/media.md 1.4).
const SPARE_LINES: usize = 64;

/// The characters of ICE user names and passwords that need no thought (RFC 8839, 5.4).
const CHARACTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn bad(error: &crate::sdp::SdpError) -> Error {
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

    /// Answers an offer with a new transport in place of the member's older one of that direction.
    ///
    /// # Errors
    /// [`Error::BadOffer`], [`Error::Full`] or [`Error::Share`]; the older one stays.
    pub(crate) fn open(
        &mut self,
        owner: Owner,
        now: Instant,
        member: Member,
        direction: Direction,
        offer: &Description,
    ) -> Result<Opened, Error> {
        let older = self.by_member.get(&(member, direction)).copied();
        self.find_room(now, (owner, member), older)?;
        let ufrag = format!(
            "{}{}",
            char::from(self.settings.shard),
            self.ice_text::<15>()
        );
        let password = super::ice::password(&self.settings.passwords, &ufrag);
        let ice = Ice::new(ufrag, password);
        let local = local(&self.settings.candidates, self.security.fingerprint(), &ice);
        let (side, answer) = match direction {
            Direction::Publish => {
                let (sdp, answer) = Publishing::accept(offer, &local).map_err(|e| bad(&e))?;
                let publisher = Publisher::new(sdp, offer);
                (Side::Publish(Box::new(publisher)), answer)
            }
            Direction::Receive => {
                let lines = self.settings.max_consumers + SPARE_LINES;
                let (sdp, answer) = Receiving::accept(offer, &local, lines).map_err(|e| bad(&e))?;
                (Side::Receive(Box::new(Subscriber::new(now, sdp))), answer)
            }
        };
        if let Some(older) = older {
            self.dismissed.add(now, self.entries[older].transport.id());
            self.free(older, "replaced");
        }

        let place = self.entries.vacant_key();
        let transport_id = ice.ufrag().to_owned();
        debug!(?member, ?direction, transport_id, "a transport is open");
        let transport = Transport::new(now, place, &self.security, ice, offer.fingerprint);
        self.by_member.insert((member, direction), place);
        self.by_ufrag.insert(transport_id.clone(), place);
        let dies = now + self.settings.connect_timeout.min(FIRST_CHECK);
        self.entries.insert(Entry {
            member,
            owner,
            opened: now,
            direction,
            transport,
            side,
            wakes: dies,
            dies: Some(dies),
        });
        self.settings.open.fetch_add(1, Ordering::Relaxed);
        self.hold(owner, member.meeting);
        self.timers.insert((dies, place));
        self.halls.entry(member.meeting).or_default().transports += 1;
        Ok(Opened {
            transport_id,
            answer,
        })
    }

    /// The member's transport of a direction; if it has the id that the client thinks it has.
    fn place(&self, member: Member, direction: Direction, id: &str) -> Result<usize, Error> {
        let place = self.by_member.get(&(member, direction)).copied();
        place
            .filter(|place| self.entries[*place].transport.id() == id)
            .ok_or(Error::NoTransport)
    }

    /// Answers an offer with a new track in it.
    pub(crate) fn produce(
        &mut self,
        now: Instant,
        member: Member,
        produce: &Produce,
        offer: &Description,
    ) -> Result<String, Error> {
        let place = self.place(member, Direction::Publish, &produce.transport)?;
        let Side::Publish(publisher) = &self.entries[place].side else {
            return Err(Error::NoTransport);
        };
        // Before it is answered: what is refused must leave the transport as the client thinks that
        // it is.
        let none = || Error::BadOffer("no line of it sends this track".to_owned());
        offer
            .line(&produce.mid)
            .filter(|line| line.is_sent())
            .filter(|line| (line.kind == crate::sdp::Kind::Audio) == produce.source.is_audio())
            .ok_or_else(none)?;
        let older = self.by_producer.get(&(member.meeting, produce.producer));
        let mut tracks = publisher.tracks.iter();
        let taken = tracks.any(|track| self.tracks[*track].uplink.mid == produce.mid);
        if taken || older.is_some() {
            return Err(Error::BadOffer("the line has a track already".to_owned()));
        }
        let (answer, uplinks) = self.reoffered(place, offer)?;
        let mut uplinks = uplinks.into_iter();
        let uplink = uplinks
            .find(|uplink| uplink.mid == produce.mid)
            .ok_or_else(none)?;
        let Side::Publish(publisher) = &mut self.entries[place].side else {
            return Err(Error::NoTransport);
        };
        let mut track = Track::new(produce.producer, member, place, produce.source, uplink);
        track.paused = produce.paused;
        let track_place = self.tracks.vacant_key();
        publisher.add(now, track_place, &mut track);
        self.tracks.insert(track);
        self.by_producer
            .insert((member.meeting, produce.producer), track_place);
        self.look_after(now, place);
        Ok(answer)
    }

    /// Answers an offer that ends something, or says the same again.
    pub(crate) fn reoffer(&mut self, member: Member, offer: &Description) -> Result<String, Error> {
        let place = self.by_member.get(&(member, Direction::Publish)).copied();
        let (answer, _) = self.reoffered(place.ok_or(Error::NoTransport)?, offer)?;
        Ok(answer)
    }

    fn reoffered(
        &mut self,
        place: usize,
        offer: &Description,
    ) -> Result<(String, Vec<Uplink>), Error> {
        let entry = &mut self.entries[place];
        let local = local(
            &self.settings.candidates,
            self.security.fingerprint(),
            &entry.transport.ice,
        );
        let Side::Publish(publisher) = &mut entry.side else {
            return Err(Error::NoTransport);
        };
        publisher
            .sdp
            .answer(offer, &local, OPUS)
            .map_err(|e| bad(&e))
    }

    /// Ends a track of a member.
    pub(crate) fn drop_producer(&mut self, member: Member, producer: ProducerId) {
        if let Some(track) = self.own(member, producer) {
            self.end_track(track);
        }
    }

    fn own(&self, member: Member, producer: ProducerId) -> Option<usize> {
        let place = *self.by_producer.get(&(member.meeting, producer))?;
        (self.tracks[place].member == member).then_some(place)
    }

    /// Ends a track: nobody receives it any more.
    pub(super) fn end_track(&mut self, place: usize) {
        let subscriptions = std::mem::take(&mut self.tracks[place].subscriptions);
        for subscription in subscriptions {
            self.end_consumers(subscription.transport, |consumer| consumer.track == place);
        }
        let track = self.tracks.remove(place);
        self.by_producer
            .remove(&(track.member.meeting, track.producer));
        if let Side::Publish(publisher) = &mut self.entries[track.transport].side {
            publisher.remove(place);
        }
        if track.source == Source::Microphone
            && let Some(hall) = self.halls.get_mut(&track.member.meeting)
        {
            hall.speaking.remove(track.member.peer);
        }
    }

    /// Forwards nothing of a track for now, or goes on.
    pub(crate) fn pause(
        &mut self,
        now: Instant,
        member: Member,
        producer: ProducerId,
        paused: bool,
    ) {
        let Some(place) = self.own(member, producer) else {
            return;
        };
        let track = &mut self.tracks[place];
        if std::mem::replace(&mut track.paused, paused) == paused {
            return;
        }
        // What comes after the pause is a new beginning: its numbers have gone on meanwhile.
        for subscription in &mut track.subscriptions {
            subscription.current = NONE;
        }
        if paused {
            if track.source == Source::Microphone
                && let Some(hall) = self.halls.get_mut(&member.meeting)
            {
                hall.speaking.remove(member.peer);
            }
        } else {
            self.ask_for_missing(now, place);
        }
    }

    /// Takes tracks into an offer.
    pub(crate) fn consume(
        &mut self,
        member: Member,
        transport: &str,
        wanted: &[Want],
    ) -> Result<Consumed, Error> {
        let place = self.place(member, Direction::Receive, transport)?;
        let mut mids = Vec::with_capacity(wanted.len());
        for want in wanted {
            mids.push(self.consume_one(member, place, want));
        }
        let (subscriber, local) = self.receiving(place)?;
        let offer = mids
            .iter()
            .any(Option::is_some)
            .then(|| subscriber.sdp.offer(&local));
        Ok(Consumed { mids, offer })
    }

    /// What a client receives on a transport, and what our side of that says about itself.
    fn receiving(&mut self, place: usize) -> Result<(&mut Subscriber, Local<'_>), Error> {
        let entry = &mut self.entries[place];
        let Side::Receive(subscriber) = &mut entry.side else {
            return Err(Error::NoTransport);
        };
        let local = local(
            &self.settings.candidates,
            self.security.fingerprint(),
            &entry.transport.ice,
        );
        Ok((subscriber, local))
    }

    fn consume_one(&mut self, member: Member, place: usize, want: &Want) -> Option<String> {
        let key = (member.meeting, want.producer);
        let track_place = *self.by_producer.get(&key)?;
        let track = &self.tracks[track_place];
        if track.member.peer != want.publisher {
            return None;
        }
        // A client that asks again has lost what it had.
        let again = |consumer: &super::subscribe::Consumer| consumer.producer == want.producer;
        self.end_consumers(place, again);
        let track = &self.tracks[track_place];
        let random = u32::from_be_bytes(self.random());
        let first = u16::from_be_bytes(self.random());
        let entry = &mut self.entries[place];
        let Side::Receive(subscriber) = &mut entry.side else {
            return None;
        };
        if subscriber.consumers.len() >= self.settings.max_consumers {
            return None;
        }
        let numbering = Numbering {
            ssrc: subscriber.new_ssrc(random),
            repeats: (!track.source.is_audio()).then(|| subscriber.new_ssrc(random)),
            first,
        };
        // What belongs together is played in step.
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
            rtx: numbering.repeats,
        };
        let mid = subscriber.sdp.add(vec![downlink]).ok()?.pop()?;
        let rid = want.preferred_rid.as_ref();
        let preferred = rid.and_then(|rid| track.layer_of(Some(rid.as_bytes())));
        let preferred = preferred.unwrap_or_default();
        let consumer = subscriber.add(
            (track_place, track),
            (mid.clone(), stream),
            preferred,
            &numbering,
        )?;
        self.tracks[track_place].subscriptions.push(Subscription {
            transport: place,
            consumer,
            current: NONE,
            target: NONE,
        });
        self.consumers += 1;
        Some(mid)
    }

    /// The client has agreed to the last offer: packets flow.
    pub(crate) fn answered(
        &mut self,
        now: Instant,
        member: Member,
        transport: &str,
        answer: &Description,
    ) -> Result<(), Error> {
        let place = self.place(member, Direction::Receive, transport)?;
        let Side::Receive(subscriber) = &mut self.entries[place].side else {
            return Err(Error::NoTransport);
        };
        let unwanted = subscriber.sdp.answered(answer).map_err(|e| bad(&e))?;
        self.end_consumers(place, |consumer| unwanted.contains(&consumer.mid));
        let Side::Receive(subscriber) = &mut self.entries[place].side else {
            return Err(Error::NoTransport);
        };
        for (number, consumer) in &mut subscriber.consumers {
            if std::mem::replace(&mut consumer.agreed, true) {
                continue;
            }
            if consumer.source.is_audio() {
                consumer.target = Some(0);
                let own = self.tracks[consumer.track].subscription(place, number);
                if let Some(own) = own {
                    own.target = layer_number(consumer.target);
                }
            }
        }
        self.serve(now, place);
        self.look_after(now, place);
        Ok(())
    }

    /// Ends what the client receives on these lines.
    pub(crate) fn close_consumers(
        &mut self,
        member: Member,
        transport: &str,
        mids: &[String],
        offer: &Description,
    ) -> Result<String, Error> {
        let place = self.place(member, Direction::Receive, transport)?;
        let (subscriber, local) = self.receiving(place)?;
        let closed = subscriber
            .sdp
            .close(offer, mids, &local)
            .map_err(|e| bad(&e))?;
        self.end_consumers(place, |consumer| closed.gone.contains(&consumer.mid));
        Ok(closed.answer)
    }

    /// Ends those of a transport's consumers that are meant; their lines carry nothing any more.
    pub(super) fn end_consumers(
        &mut self,
        place: usize,
        meant: impl Fn(&super::subscribe::Consumer) -> bool,
    ) {
        let Side::Receive(subscriber) = &mut self.entries[place].side else {
            return;
        };
        let before = subscriber.consumers.len();
        let (tracks, sdp) = (&mut self.tracks, &mut subscriber.sdp);
        subscriber.consumers.retain(|number, consumer| {
            if !meant(consumer) {
                return true;
            }
            sdp.withdraw(&consumer.mid);
            if let Some(track) = tracks.get_mut(consumer.track) {
                track.unsubscribe(place, number);
            }
            false
        });
        self.consumers -= before - subscriber.consumers.len();
    }

    /// Which layers a client would like.
    pub(crate) fn prefer(&mut self, now: Instant, member: Member, wishes: &[(String, String)]) {
        let Some(place) = self.by_member.get(&(member, Direction::Receive)).copied() else {
            return;
        };
        let Side::Receive(subscriber) = &mut self.entries[place].side else {
            return;
        };
        for (mid, rid) in wishes {
            let Some(number) = subscriber.by_mid(mid) else {
                continue;
            };
            let consumer = &mut subscriber.consumers[number];
            // A rid that is not sent means the layer of that quality all the same.
            if let Some(layer) = self.tracks[consumer.track].nearest_layer(rid) {
                consumer.preferred = layer;
            }
        }
        self.serve(now, place);
    }

    /// A client may not receive these any more.
    pub(crate) fn revoke(&mut self, member: Member, producers: &[ProducerId]) {
        if let Some(place) = self.by_member.get(&(member, Direction::Receive)).copied() {
            self.end_consumers(place, |consumer| producers.contains(&consumer.producer));
        }
    }

    /// Whose picture comes first in a meeting.
    pub(crate) fn pin(&mut self, meeting: MeetingId, peer: Option<PeerId>) {
        if let Some(hall) = self.halls.get_mut(&meeting) {
            hall.pinned = peer;
        }
    }

    /// Frees what a member has. A client that is `away` is to be told when it checks.
    pub(crate) fn close(&mut self, now: Instant, member: Member, away: bool) {
        for direction in [Direction::Publish, Direction::Receive] {
            if let Some(place) = self.by_member.get(&(member, direction)).copied() {
                if !away {
                    self.dismissed.add(now, self.entries[place].transport.id());
                }
                self.free(place, "closed");
            }
        }
    }

    /// Tells what happens in a meeting.
    pub(crate) fn listen(&mut self, meeting: MeetingId, listener: Listener) {
        // Whoever stops listening says nothing, so that meetings that nobody came to are looked for
        // whenever there are twice as many as were of use the last time.
        if self.halls.len() >= self.sweep_halls_at {
            self.halls.retain(|_, hall| hall.is_of_use());
            self.sweep_halls_at = self.halls.len() * 2 + 64;
        }
        let hall = self.halls.entry(meeting).or_default();
        hall.listeners.retain(|listener| !listener.is_closed());
        hall.listeners.push(listener);
    }
}

fn local<'a>(
    candidates: &'a [crate::sdp::Candidate],
    fingerprint: &'a [u8; 32],
    ice: &'a Ice,
) -> Local<'a> {
    // Any number that stays the same will do; the user name is different for each transport.
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
