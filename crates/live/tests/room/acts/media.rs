//! What a client asks of the media plane.

use parlor_live::{Command, Input, MediaOrder, Person, Source};
use parlor_protocol::signal::event;
use parlor_protocol::signal::media::edge::{
    ConsumePeerRequest, ConsumePeersRequest, HostMediaControlForAllPeerRequest,
    HostMediaControlForPeerRequest, PeerJoinCompleteResponse, PeerJoinRequest,
    ProducerCloseRequest, ProducerToggleRequest,
};
use parlor_protocol::signal::media::{CreateTransportRequest, RenegotiateRequest};
use prost::Message;

use super::when;
use crate::plane::{offer, track};
use crate::simulation::{Order, Simulation};
use crate::truth::{MediaTruth, Place, Ready, TrackTruth};
use crate::world::Done;

const SOURCES: [Source; 4] = [
    Source::Microphone,
    Source::Camera,
    Source::Screen,
    Source::ScreenAudio,
];

impl Simulation {
    pub(super) fn media(&mut self, slot: usize, other: usize, b: u8, c: u8) {
        if !b.is_multiple_of(4) {
            self.prepare(slot);
            self.prepare(other);
        }
        // Most of what follows needs a track.
        let who = self.publisher(slot);
        match c % 24 {
            0 => self.media_join(slot, b.is_multiple_of(2)),
            1 => self.media_complete(slot),
            2 => self.media_leave(slot),
            3 => self.transport(slot, b.is_multiple_of(2)),
            4..10 => self.produce(slot, b),
            10..13 => self.toggle(who, other, b),
            13 => self.close_track(who, other, b),
            17 => self.host_control(slot, who, b),
            18 => self.host_control_all(slot, b),
            19 => self.api_mutes(who),
            20 => self.speak(other, b),
            _ => self.subscribe(slot, b),
        }
        // The media plane answers sooner or later.
        while !self.orders.is_empty() && b % 8 > 2 {
            self.plane_answers(b);
        }
    }

    /// Somebody who publishes, counted from this one on; or this one.
    fn publisher(&self, slot: usize) -> usize {
        let slots = self.truth.peers.len();
        let mut others = (0..slots).map(|n| (slot + n) % slots);
        let live = |other: &usize| {
            let peer = &self.truth.peers[*other];
            peer.socket.is_some() && peer.media.tracks.iter().any(|track| track.live)
        };
        others.find(live).unwrap_or(slot)
    }

    /// Whose track it is about: sometimes somebody else's.
    fn whose(&self, slot: usize, other: usize, b: u8) -> usize {
        let others = (other + 1) % self.truth.peers.len();
        if b.is_multiple_of(8) {
            self.publisher(others)
        } else {
            slot
        }
    }

    /// Everybody is in a call that has begun.
    pub(crate) fn begin(&mut self) {
        for slot in self.truth.slots().step_by(2) {
            self.come(slot);
            self.join(slot);
            if self.truth.has_stage(slot) {
                self.go_on_stage(slot);
            }
            self.prepare(slot);
            for b in [0, 4, 8] {
                self.produce(slot, b);
            }
            while !self.orders.is_empty() {
                self.plane_answers(0);
            }
        }
        for slot in self.truth.slots().step_by(2) {
            self.subscribe(slot, 0);
        }
        while !self.orders.is_empty() {
            self.plane_answers(0);
        }
    }

    /// What a client does before it publishes, as far as it has not yet.
    fn prepare(&mut self, slot: usize) {
        if !self.truth.inside(slot) || self.truth.peers[slot].socket.is_none() {
            return;
        }
        if self.truth.peers[slot].media.ready == Ready::Out {
            self.media_join(slot, false);
        }
        for publishes in [true, false] {
            let media = &self.truth.peers[slot].media;
            let there = if publishes {
                &media.publish
            } else {
                &media.receive
            };
            if there.is_none() {
                self.transport(slot, publishes);
                while !self.orders.is_empty() {
                    self.plane_answers(0);
                }
            }
        }
        if self.truth.peers[slot].media.ready != Ready::Complete
            || self.clients[slot].tracks.is_none()
        {
            self.media_complete(slot);
        }
    }

    fn media_join(&mut self, slot: usize, prejoined: bool) {
        // Who believes in a transport that is gone has to make another first, for a while.
        let prejoined = prejoined && self.truth.peers[slot].media.publish.is_some();
        let request = PeerJoinRequest {
            prejoined,
            ..PeerJoinRequest::default()
        };
        let event = event::MEDIA_JOIN;
        let Some((_, done)) = self.ask(slot, event, &request, Ok(Some(event))) else {
            return;
        };
        let goes_on = prejoined && self.truth.complete(slot);
        let media = &mut self.truth.peers[slot].media;
        media.tracks.clear();
        if !goes_on {
            media.ready = Ready::Preparing;
            self.clients[slot].tracks = None;
        }
        self.settle(&done);
    }

    fn media_complete(&mut self, slot: usize) {
        let event = event::MEDIA_JOIN_COMPLETE;
        let may = self.truth.inside(slot);
        let Some((reply, done)) = self.ask(slot, event, &(), when(may, event)) else {
            return;
        };
        let state: PeerJoinCompleteResponse = reply.expect("a reply").read();
        assert!(state.room_state.is_some());
        self.truth.peers[slot].media.ready = Ready::Complete;
        self.settle(&done);
    }

    fn media_leave(&mut self, slot: usize) {
        let event = event::MEDIA_LEAVE;
        let Some((_, done)) = self.ask(slot, event, &(), Ok(Some(event))) else {
            return;
        };
        self.truth.peers[slot].media = MediaTruth::default();
        self.clients[slot].tracks = None;
        for order in self.orders.iter_mut().filter(|order| order.slot == slot) {
            order.void = true;
        }
        self.settle(&done);
    }

    /// Asks for something that the media plane answers.
    fn order(
        &mut self,
        slot: usize,
        event: u32,
        request: &impl Message,
        may: bool,
    ) -> Option<Done> {
        let before = self.world.plane.waiting.len();
        let should = if may { Ok(None) } else { Err(()) };
        let (_, done) = self.ask(slot, event, request, should)?;
        assert_eq!(self.world.plane.waiting.len(), before + 1, "{event}");
        self.orders.push(Order {
            slot,
            socket: self.truth.peers[slot].socket.expect("it asked"),
            event,
            void: false,
        });
        Some(done)
    }

    fn transport(&mut self, slot: usize, publishes: bool) {
        if self.truth.peers[slot].place == Place::Rejected || !self.truth.may_join(slot) {
            return;
        }
        let request = CreateTransportRequest {
            consuming: !publishes,
            description: Some(offer()),
            ..CreateTransportRequest::default()
        };
        let done = self.order(slot, event::CREATE_TRANSPORT, &request, true);
        if let Some(done) = done {
            self.settle(&done);
        }
    }

    fn produce(&mut self, slot: usize, b: u8) {
        let source = SOURCES[usize::from(b / 4) % 4];
        let transport = self.truth.peers[slot].media.publish.clone();
        let may = self.truth.complete(slot)
            && self.truth.may_produce(slot, source)
            && transport.is_some();
        let mut request = track(source);
        request.paused = b >= 128;
        request.producing_transport_id.clone_from(&transport);
        let Some(done) = self.order(slot, event::PRODUCE, &request, may) else {
            return;
        };
        let Some(MediaOrder::Produce { producer, .. }) = self.world.plane.waiting.last() else {
            panic!("a track is ordered")
        };
        let tracks = &mut self.truth.peers[slot].media.tracks;
        tracks.retain(|track| track.live || track.source != source);
        tracks.push(TrackTruth {
            id: producer.to_string(),
            source,
            paused: request.paused,
            live: false,
            transport: transport.expect("it may"),
        });
        self.settle(&done);
    }

    /// One of the tracks of a peer that others know of.
    fn a_track(&self, slot: usize, b: u8) -> Option<(String, Source)> {
        let tracks = self.truth.peers[slot].media.tracks.iter();
        let live: Vec<_> = tracks.filter(|track| track.live).collect();
        let at = usize::from(b / 4).checked_rem(live.len())?;
        Some((live[at].id.clone(), live[at].source))
    }

    fn toggle(&mut self, slot: usize, other: usize, b: u8) {
        let whose = self.whose(slot, other, b);
        let Some((id, source)) = self.a_track(whose, b) else {
            return;
        };
        let pause = b >= 128;
        let may = whose == slot && (pause || self.truth.may_produce(slot, source));
        let request = ProducerToggleRequest {
            producer_id: id.clone(),
            pause,
        };
        let event = event::TOGGLE_PRODUCER;
        let Some((_, done)) = self.ask(slot, event, &request, when(may, event)) else {
            return;
        };
        let mut tracks = self.truth.peers[slot].media.tracks.iter_mut();
        let track = tracks.find(|track| track.id == id);
        track.expect("it is the peer's").paused = pause;
        self.settle(&done);
    }

    fn close_track(&mut self, slot: usize, other: usize, b: u8) {
        let whose = self.whose(slot, other, b);
        let Some((id, _)) = self.a_track(whose, b) else {
            return;
        };
        let request = ProducerCloseRequest {
            producer_id: id.clone(),
            description: Some(offer()),
            producing_transport_id: None,
        };
        let may = whose == slot && self.truth.inside(slot);
        let Some(done) = self.order(slot, event::CLOSE_PRODUCER, &request, may) else {
            return;
        };
        let tracks = &mut self.truth.peers[slot].media.tracks;
        tracks.retain(|track| track.id != id);
        self.settle(&done);
    }

    /// Asks for all that there is, whether it may be received or not.
    fn subscribe(&mut self, slot: usize, b: u8) {
        let all: Vec<String> = (self.truth.peers.iter())
            .flat_map(|peer| &peer.media.tracks)
            .map(|track| track.id.clone())
            .collect();
        let one = |id: &String| ConsumePeerRequest {
            producer_id: Some(id.clone()),
            ..ConsumePeerRequest::default()
        };
        let request = ConsumePeersRequest {
            requests: all.iter().map(one).collect(),
            consuming_transport_id: self.truth.peers[slot].media.receive.clone(),
        };
        let receives = self.truth.peers[slot].media.receive.is_some();
        let may = self.truth.complete(slot) && receives;
        let any = self.truth.slots().any(|other| self.shows(slot, other));
        if may && !any {
            // There is nothing to ask the media plane for.
            let event = event::CONSUME;
            if let Some((_, done)) = self.ask(slot, event, &request, Ok(Some(event))) {
                self.settle(&done);
            }
            return;
        }
        if let Some(done) = self.order(slot, event::CONSUME, &request, may) {
            self.settle(&done);
        }
        if b.is_multiple_of(4) && may {
            let transport = self.truth.peers[slot].media.receive.clone();
            let answer = RenegotiateRequest {
                transport_id: transport.expect("it may"),
                description: Some(offer()),
            };
            if let Some(done) = self.order(slot, event::RENEGOTIATE, &answer, true) {
                self.settle(&done);
            }
        }
    }

    /// Whether a peer can subscribe to anything of another.
    fn shows(&self, viewer: usize, other: usize) -> bool {
        let tracks = &self.truth.peers[other].media.tracks;
        let any = tracks.iter().any(|track| track.live);
        any && self.truth.complete(other) && self.truth.sees(viewer, other)
    }

    /// The media plane answers one of those that wait.
    pub(super) fn plane_answers(&mut self, b: u8) {
        let Some(n) = usize::from(b).checked_rem(self.orders.len()) else {
            return;
        };
        let asked = self.orders.remove(n);
        let order = self.world.plane.waiting[n].clone();
        let done = self.world.answer(n);
        let replied = done.of(asked.socket, asked.event).len();
        let refused = done.of(asked.socket, event::MEDIA_ERROR).len();
        let hears = self.truth.peers[asked.slot].socket == Some(asked.socket);
        assert_eq!(replied + refused, usize::from(hears), "{order:?}: {done:?}");
        let slot = asked.slot;
        match &order {
            MediaOrder::Open { publishes, .. } if !asked.void => {
                // The media plane has given it a name.
                let who = self.truth.peers[slot].who.peer;
                let name = self.world.plane.transports.get(&(who, *publishes)).cloned();
                let media = &mut self.truth.peers[slot].media;
                if *publishes {
                    media
                        .tracks
                        .retain(|track| Some(&track.transport) == name.as_ref());
                    media.publish = name;
                } else {
                    media.receive = name;
                }
            }
            MediaOrder::Produce { producer, .. } => {
                let id = producer.to_string();
                let tracks = &mut self.truth.peers[slot].media.tracks;
                let found = tracks.iter_mut().find(|track| track.id == id);
                assert_eq!(found.is_some() && hears, replied == 1);
                if let Some(track) = found {
                    track.live = true;
                    let source = track.source;
                    tracks.retain(|older| older.source != source || older.id == id);
                }
            }
            _ => {}
        }
        self.settle(&done);
    }

    fn host_control(&mut self, slot: usize, other: usize, b: u8) {
        let (audio, video, screen) = (b & 4 > 0, b & 8 > 0, b & 16 > 0);
        // Whether one may silence whom one does not see is open.
        if slot != other && self.truth.inside(other) && !self.truth.sees(slot, other) {
            return;
        }
        let request = HostMediaControlForPeerRequest {
            participant_id: self.truth.peer_id(other),
            audio,
            video,
            scree_share: screen,
        };
        let unseen = self.truth.peers[other].unseen;
        let may = self.may_silence(slot, audio, video, screen);
        if unseen && may {
            return;
        }
        let may = may && self.truth.inside(other);
        let event = event::HOST_CONTROL_PEER;
        let Some((_, done)) = self.ask(slot, event, &request, when(may, event)) else {
            return;
        };
        self.truth.silence(other, &sources(audio, video, screen));
        self.settle(&done);
    }

    fn host_control_all(&mut self, slot: usize, b: u8) {
        let (audio, video, screen) = (b & 4 > 0, b & 8 > 0, b & 16 > 0);
        let request = HostMediaControlForAllPeerRequest {
            audio,
            video,
            screen_share: screen,
        };
        let event = event::HOST_CONTROL_ALL;
        let may = self.may_silence(slot, audio, video, screen);
        let Some((_, done)) = self.ask(slot, event, &request, when(may, event)) else {
            return;
        };
        for other in self.truth.slots().filter(|other| *other != slot) {
            self.truth.silence(other, &sources(audio, video, screen));
        }
        self.settle(&done);
    }

    fn may_silence(&self, slot: usize, audio: bool, video: bool, screen: bool) -> bool {
        let may = self.truth.may(slot);
        self.truth.inside(slot)
            && (audio || video || screen)
            && (!audio || may.disable_participant_audio)
            && (!video || may.disable_participant_video)
            && (!screen || may.disable_participant_screensharing)
    }

    fn api_mutes(&mut self, other: usize) {
        let person = self.truth.peers[other].person;
        let who = Person::Id(self.truth.peers[other].who.participant);
        let (_, done) = self.world.command(Command::Mute(vec![who]));
        for slot in self.truth.slots_of(person) {
            // Those who only wait make the request fail or not, and have nothing to mute.
            self.truth.silence(slot, &[Source::Microphone]);
        }
        self.settle(&done);
    }

    /// Some are heard.
    fn speak(&mut self, other: usize, b: u8) {
        let slots = self.truth.peers.len();
        let heard = [other, (other + usize::from(b)) % slots];
        let peers = heard.map(|slot| self.truth.peers[slot].who.peer);
        let inside = heard.into_iter().filter(|slot| self.truth.inside(*slot));
        let mut now: Vec<usize> = inside.collect();
        now.extend(&self.truth.speakers);
        let mut seen = std::collections::BTreeSet::new();
        now.retain(|slot| seen.insert(*slot));
        if now != self.truth.speakers {
            self.truth.speakers = now;
            self.truth.speakers_ms = self.world.monotonic_ms;
        }
        let done = self.world.take(Input::Speaking(peers.to_vec()));
        self.settle(&done);
    }
}

fn sources(audio: bool, video: bool, screen: bool) -> Vec<Source> {
    let which = [audio, video, screen, screen];
    let picked = SOURCES.into_iter().zip(which).filter(|(_, on)| *on);
    picked.map(|(source, _)| source).collect()
}
