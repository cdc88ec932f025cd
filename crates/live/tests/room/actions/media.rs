//! Requests for media.

use parlor_live::{Command, Input, MediaOrder, ParticipantRef, Source};
use parlor_protocol::signal::event;
use parlor_protocol::signal::media::edge::{
    ConsumePeerRequest, ConsumePeersRequest, HostMediaControlForAllPeerRequest,
    HostMediaControlForPeerRequest, PeerJoinCompleteResponse, PeerJoinRequest,
    ProducerCloseRequest, ProducerToggleRequest,
};
use parlor_protocol::signal::media::{CreateTransportRequest, RenegotiateRequest};
use prost::Message;

use super::reply_if;
use crate::media_plane::{offer, track};
use crate::model::{MediaModel, PeerState, Ready, TrackModel};
use crate::simulation::{Order, Simulation};
use crate::world::Effects;

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
        // Most of the actions below need a producer.
        let publisher = self.publisher(slot);
        match c % 24 {
            0 => self.media_join(slot, b.is_multiple_of(2)),
            1 => self.media_complete(slot),
            2 => self.media_leave(slot),
            3 => self.transport(slot, b.is_multiple_of(2)),
            4..10 => self.produce(slot, b),
            10..13 => self.toggle(publisher, other, b),
            13 => self.close_track(publisher, other, b),
            17 => self.host_control(slot, publisher, b),
            18 => self.host_control_all(slot, b),
            19 => self.api_mute(publisher),
            20 => self.speak(other, b),
            _ => self.subscribe(slot, b),
        }
        // The media plane eventually replies.
        while !self.orders.is_empty() && b % 8 > 2 {
            self.answer_media_order(b);
        }
    }

    /// The first publisher from this slot on, or the slot itself.
    fn publisher(&self, slot: usize) -> usize {
        let slots = self.model.peers.len();
        let mut others = (0..slots).map(|n| (slot + n) % slots);
        let live = |other: &usize| {
            let peer = &self.model.peers[*other];
            peer.socket.is_some() && peer.media.tracks.iter().any(|track| track.live)
        };
        others.find(live).unwrap_or(slot)
    }

    /// The owner of the track to act on: sometimes another peer.
    fn track_owner(&self, slot: usize, other: usize, b: u8) -> usize {
        let others = (other + 1) % self.model.peers.len();
        if b.is_multiple_of(8) {
            self.publisher(others)
        } else {
            slot
        }
    }

    /// Starts the call with all peers joined.
    pub(crate) fn begin(&mut self) {
        for slot in self.model.slots().step_by(2) {
            self.connect(slot);
            self.join(slot);
            if self.model.has_stage(slot) {
                self.join_stage(slot);
            }
            self.prepare(slot);
            for b in [0, 4, 8] {
                self.produce(slot, b);
            }
            while !self.orders.is_empty() {
                self.answer_media_order(0);
            }
        }
        for slot in self.model.slots().step_by(2) {
            self.subscribe(slot, 0);
        }
        while !self.orders.is_empty() {
            self.answer_media_order(0);
        }
    }

    /// Performs the remaining steps before a client can publish.
    fn prepare(&mut self, slot: usize) {
        if !self.model.is_inside(slot) || self.model.peers[slot].socket.is_none() {
            return;
        }
        if self.model.peers[slot].media.ready == Ready::Out {
            self.media_join(slot, false);
        }
        for publishes in [true, false] {
            let media = &self.model.peers[slot].media;
            let existing = if publishes {
                &media.publish
            } else {
                &media.receive
            };
            if existing.is_none() {
                self.transport(slot, publishes);
                while !self.orders.is_empty() {
                    self.answer_media_order(0);
                }
            }
        }
        if self.model.peers[slot].media.ready != Ready::Complete
            || self.clients[slot].tracks.is_none()
        {
            self.media_complete(slot);
        }
    }

    fn media_join(&mut self, slot: usize, prejoined: bool) {
        // A client that uses a freed transport must first create another one, for a while.
        let prejoined = prejoined && self.model.peers[slot].media.publish.is_some();
        let request = PeerJoinRequest {
            prejoined,
            ..PeerJoinRequest::default()
        };
        let event = event::MEDIA_JOIN;
        let Some((_, effects)) = self.request(slot, event, &request, Ok(Some(event))) else {
            return;
        };
        let resumes = prejoined && self.model.has_media(slot);
        let media = &mut self.model.peers[slot].media;
        media.tracks.clear();
        if !resumes {
            media.ready = Ready::Preparing;
            self.clients[slot].tracks = None;
        }
        self.settle(&effects);
    }

    fn media_complete(&mut self, slot: usize) {
        let event = event::MEDIA_JOIN_COMPLETE;
        let allowed = self.model.is_inside(slot);
        let Some((reply, effects)) = self.request(slot, event, &(), reply_if(allowed, event))
        else {
            return;
        };
        let state: PeerJoinCompleteResponse = reply.expect("a reply").decode();
        assert!(state.room_state.is_some());
        self.model.peers[slot].media.ready = Ready::Complete;
        self.settle(&effects);
    }

    fn media_leave(&mut self, slot: usize) {
        let event = event::MEDIA_LEAVE;
        let Some((_, effects)) = self.request(slot, event, &(), Ok(Some(event))) else {
            return;
        };
        self.model.peers[slot].media = MediaModel::default();
        self.clients[slot].tracks = None;
        for order in self.orders.iter_mut().filter(|order| order.slot == slot) {
            order.void = true;
        }
        self.settle(&effects);
    }

    /// Sends a request that the media plane replies to.
    fn order(
        &mut self,
        slot: usize,
        event: u32,
        request: &impl Message,
        allowed: bool,
    ) -> Option<Effects> {
        let before = self.world.media_plane.waiting.len();
        let should = if allowed { Ok(None) } else { Err(()) };
        let (_, effects) = self.request(slot, event, request, should)?;
        assert_eq!(self.world.media_plane.waiting.len(), before + 1, "{event}");
        self.orders.push(Order {
            slot,
            socket: self.model.peers[slot]
                .socket
                .expect("the peer sent the request"),
            event,
            void: false,
        });
        Some(effects)
    }

    fn transport(&mut self, slot: usize, publishes: bool) {
        if self.model.peers[slot].state == PeerState::Rejected || !self.model.may_join(slot) {
            return;
        }
        let request = CreateTransportRequest {
            consuming: !publishes,
            description: Some(offer()),
            ..CreateTransportRequest::default()
        };
        let effects = self.order(slot, event::CREATE_TRANSPORT, &request, true);
        if let Some(effects) = effects {
            self.settle(&effects);
        }
    }

    fn produce(&mut self, slot: usize, b: u8) {
        let source = SOURCES[usize::from(b / 4) % 4];
        let transport = self.model.peers[slot].media.publish.clone();
        let allowed = self.model.has_media(slot)
            && self.model.may_produce(slot, source)
            && transport.is_some();
        let mut request = track(source);
        request.paused = b >= 128;
        request.producing_transport_id.clone_from(&transport);
        let Some(effects) = self.order(slot, event::PRODUCE, &request, allowed) else {
            return;
        };
        let Some(MediaOrder::Produce { producer, .. }) = self.world.media_plane.waiting.last()
        else {
            panic!("the room orders a producer")
        };
        let tracks = &mut self.model.peers[slot].media.tracks;
        tracks.retain(|track| track.live || track.source != source);
        tracks.push(TrackModel {
            id: producer.to_string(),
            source,
            paused: request.paused,
            live: false,
            transport: transport.expect("the peer has a transport"),
        });
        self.settle(&effects);
    }

    /// One of the peer's tracks that others know.
    fn live_track(&self, slot: usize, b: u8) -> Option<(String, Source)> {
        let tracks = self.model.peers[slot].media.tracks.iter();
        let live: Vec<_> = tracks.filter(|track| track.live).collect();
        let at = usize::from(b / 4).checked_rem(live.len())?;
        Some((live[at].id.clone(), live[at].source))
    }

    fn toggle(&mut self, slot: usize, other: usize, b: u8) {
        let owner = self.track_owner(slot, other, b);
        let Some((id, source)) = self.live_track(owner, b) else {
            return;
        };
        let pause = b >= 128;
        let allowed = owner == slot && (pause || self.model.may_produce(slot, source));
        let request = ProducerToggleRequest {
            producer_id: id.clone(),
            pause,
        };
        let event = event::TOGGLE_PRODUCER;
        let Some((_, effects)) = self.request(slot, event, &request, reply_if(allowed, event))
        else {
            return;
        };
        let mut tracks = self.model.peers[slot].media.tracks.iter_mut();
        let track = tracks.find(|track| track.id == id);
        track.expect("the track belongs to the peer").paused = pause;
        self.settle(&effects);
    }

    fn close_track(&mut self, slot: usize, other: usize, b: u8) {
        let owner = self.track_owner(slot, other, b);
        let Some((id, _)) = self.live_track(owner, b) else {
            return;
        };
        let request = ProducerCloseRequest {
            producer_id: id.clone(),
            description: Some(offer()),
            producing_transport_id: None,
        };
        let allowed = owner == slot && self.model.is_inside(slot);
        let Some(effects) = self.order(slot, event::CLOSE_PRODUCER, &request, allowed) else {
            return;
        };
        let tracks = &mut self.model.peers[slot].media.tracks;
        tracks.retain(|track| track.id != id);
        self.settle(&effects);
    }

    /// Subscribes to all producers, whether permitted or not.
    fn subscribe(&mut self, slot: usize, b: u8) {
        let all: Vec<String> = (self.model.peers.iter())
            .flat_map(|peer| &peer.media.tracks)
            .map(|track| track.id.clone())
            .collect();
        let one = |id: &String| ConsumePeerRequest {
            producer_id: Some(id.clone()),
            ..ConsumePeerRequest::default()
        };
        let request = ConsumePeersRequest {
            requests: all.iter().map(one).collect(),
            consuming_transport_id: self.model.peers[slot].media.receive.clone(),
        };
        let receives = self.model.peers[slot].media.receive.is_some();
        let allowed = self.model.has_media(slot) && receives;
        let any = self
            .model
            .slots()
            .any(|other| self.offers_tracks(slot, other));
        if allowed && !any {
            // There is nothing to order from the media plane.
            let event = event::CONSUME;
            if let Some((_, effects)) = self.request(slot, event, &request, Ok(Some(event))) {
                self.settle(&effects);
            }
            return;
        }
        if let Some(effects) = self.order(slot, event::CONSUME, &request, allowed) {
            self.settle(&effects);
        }
        if b.is_multiple_of(4) && allowed {
            let transport = self.model.peers[slot].media.receive.clone();
            let answer = RenegotiateRequest {
                transport_id: transport.expect("the peer has a transport"),
                description: Some(offer()),
            };
            if let Some(effects) = self.order(slot, event::RENEGOTIATE, &answer, true) {
                self.settle(&effects);
            }
        }
    }

    /// Whether a peer can subscribe to any producer of another.
    fn offers_tracks(&self, viewer: usize, other: usize) -> bool {
        let tracks = &self.model.peers[other].media.tracks;
        let any = tracks.iter().any(|track| track.live);
        any && self.model.has_media(other) && self.model.can_see(viewer, other)
    }

    /// The media plane replies to one of the pending orders.
    pub(super) fn answer_media_order(&mut self, b: u8) {
        let Some(n) = usize::from(b).checked_rem(self.orders.len()) else {
            return;
        };
        let request = self.orders.remove(n);
        let order = self.world.media_plane.waiting[n].clone();
        let effects = self.world.answer_order(n);
        let replied = effects.frames_to(request.socket, request.event).len();
        let rejected = effects.frames_to(request.socket, event::MEDIA_ERROR).len();
        let is_connected = self.model.peers[request.slot].socket == Some(request.socket);
        assert_eq!(
            replied + rejected,
            usize::from(is_connected),
            "{order:?}: {effects:?}"
        );
        let slot = request.slot;
        match &order {
            MediaOrder::Open { publishes, .. } if !request.void => {
                // The media plane has assigned an id.
                let peer = self.model.peers[slot].profile.peer;
                let name = self
                    .world
                    .media_plane
                    .transports
                    .get(&(peer, *publishes))
                    .cloned();
                let media = &mut self.model.peers[slot].media;
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
                let tracks = &mut self.model.peers[slot].media.tracks;
                let found = tracks.iter_mut().find(|track| track.id == id);
                assert_eq!(found.is_some() && is_connected, replied == 1);
                if let Some(track) = found {
                    track.live = true;
                    let source = track.source;
                    tracks.retain(|older| older.source != source || older.id == id);
                }
            }
            _ => {}
        }
        self.settle(&effects);
    }

    fn host_control(&mut self, slot: usize, other: usize, b: u8) {
        let (audio, video, screen) = (b & 4 > 0, b & 8 > 0, b & 16 > 0);
        // The specification leaves open whether a peer may mute another that it cannot see.
        if slot != other && self.model.is_inside(other) && !self.model.can_see(slot, other) {
            return;
        }
        let request = HostMediaControlForPeerRequest {
            participant_id: self.model.peer_id(other),
            audio,
            video,
            scree_share: screen,
        };
        let unseen = self.model.peers[other].unseen;
        let allowed = self.can_mute(slot, audio, video, screen);
        if unseen && allowed {
            return;
        }
        let allowed = allowed && self.model.is_inside(other);
        let event = event::HOST_CONTROL_PEER;
        let Some((_, effects)) = self.request(slot, event, &request, reply_if(allowed, event))
        else {
            return;
        };
        self.model.mute(other, &sources(audio, video, screen));
        self.settle(&effects);
    }

    fn host_control_all(&mut self, slot: usize, b: u8) {
        let (audio, video, screen) = (b & 4 > 0, b & 8 > 0, b & 16 > 0);
        let request = HostMediaControlForAllPeerRequest {
            audio,
            video,
            screen_share: screen,
        };
        let event = event::HOST_CONTROL_ALL;
        let allowed = self.can_mute(slot, audio, video, screen);
        let Some((_, effects)) = self.request(slot, event, &request, reply_if(allowed, event))
        else {
            return;
        };
        for other in self.model.slots().filter(|other| *other != slot) {
            self.model.mute(other, &sources(audio, video, screen));
        }
        self.settle(&effects);
    }

    fn can_mute(&self, slot: usize, audio: bool, video: bool, screen: bool) -> bool {
        let permissions = self.model.permissions(slot);
        self.model.is_inside(slot)
            && (audio || video || screen)
            && (!audio || permissions.disable_participant_audio)
            && (!video || permissions.disable_participant_video)
            && (!screen || permissions.disable_participant_screensharing)
    }

    fn api_mute(&mut self, other: usize) {
        let participant = self.model.peers[other].participant;
        let reference = ParticipantRef::Id(self.model.peers[other].profile.participant);
        let (_, effects) = self.world.command(Command::Mute(vec![reference]));
        for slot in self.model.slots_of(participant) {
            // Waiting peers may or may not make the request fail, and have nothing to mute.
            self.model.mute(slot, &[Source::Microphone]);
        }
        self.settle(&effects);
    }

    /// The media plane reports active speakers.
    fn speak(&mut self, other: usize, b: u8) {
        let slots = self.model.peers.len();
        let heard = [other, (other + usize::from(b)) % slots];
        let peers = heard.map(|slot| self.model.peers[slot].profile.peer);
        let inside = heard.into_iter().filter(|slot| self.model.is_inside(*slot));
        let mut now: Vec<usize> = inside.collect();
        now.extend(&self.model.speakers);
        let mut seen = std::collections::BTreeSet::new();
        now.retain(|slot| seen.insert(*slot));
        if now != self.model.speakers {
            self.model.speakers = now;
            self.model.speakers_ms = self.world.monotonic_ms;
        }
        let effects = self.world.handle(Input::ActiveSpeakers(peers.to_vec()));
        self.settle(&effects);
    }
}

fn sources(audio: bool, video: bool, screen: bool) -> Vec<Source> {
    let which = [audio, video, screen, screen];
    let picked = SOURCES.into_iter().zip(which).filter(|(_, on)| *on);
    picked.map(|(source, _)| source).collect()
}
