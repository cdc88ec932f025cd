//! One client, and all of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

use bytes::Bytes;
use parlor_protocol::ids::{ParticipantId, PeerId, SessionId};
use parlor_protocol::preset::{MediaPermission, Permissions, RecorderType, ViewType};
use parlor_protocol::signal::socket::room::{self, PeerFlags, StageType};
use prost::Message;

use crate::input::{ConnectionId, Newcomer};
use crate::limits::Allowance;
use crate::output::{PeerRecord, Present};
use crate::room::{Moment, Monotonic, Steps};

/// The order in which peers came. Never reused within a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Seat(u64);

/// Where a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Connected, and not joined.
    Lobby,
    /// Asked to join, and has to wait.
    Waiting,
    /// Was let in while it waited, and is about to join.
    Invited,
    /// Was turned away.
    Rejected,
    /// Joined.
    Inside,
}

/// How far a peer has come with its media.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum MediaState {
    /// It has none.
    Out,
    /// It makes its transports.
    Preparing,
    /// Its transports are connected: others may subscribe to it.
    Complete,
}

/// What is left of each rate.
#[derive(Debug, Clone, Default)]
pub(crate) struct Allowances {
    pub(crate) openings: Allowance,
    pub(crate) new_peers: Allowance,
    pub(crate) frames: Allowance,
    pub(crate) changes: Allowance,
    pub(crate) reads: Allowance,
    pub(crate) media: Allowance,
    pub(crate) chat: Allowance,
    pub(crate) chat_files: Allowance,
    pub(crate) chat_reads: Allowance,
    /// Bytes that their messages have added to the records.
    pub(crate) chat_bytes: u64,
    pub(crate) broadcasts: Allowance,
    pub(crate) store_reads: Allowance,
    pub(crate) store_writes: Allowance,
    pub(crate) store_deletes: Allowance,
    pub(crate) polls: Allowance,
    pub(crate) permission_updates: Allowance,
    pub(crate) breakout_reads: Allowance,
    pub(crate) breakout_changes: Allowance,
    pub(crate) moves: Allowance,
    pub(crate) moved: Allowance,
    pub(crate) kicks: Allowance,
}

/// One client.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) who: Newcomer,
    /// What it may do now: the preset with what was changed since.
    pub(crate) permissions: Permissions,
    /// The name that others see.
    pub(crate) name: String,
    pub(crate) connection: Option<ConnectionId>,
    /// Since when it has no socket.
    pub(crate) lost: Option<Monotonic>,
    /// Since when its socket is new and it has not joined again: its client may not know that it is
    /// inside.
    pub(crate) reopened: Option<Monotonic>,
    /// When its line broke for the first time since it joined: its stay ends then, unless it joins
    /// again.
    pub(crate) absent: Option<Moment>,
    /// When it was turned away.
    pub(crate) rejected: Monotonic,
    /// It was thrown out, and leaves as soon as it is its turn.
    pub(crate) removed: bool,
    pub(crate) place: Place,
    pub(crate) stage: StageType,
    pub(crate) media: MediaState,
    pub(crate) created_ms: i64,
    /// Its stay in this session, once it has joined.
    pub(crate) stay: Option<Stay>,
    card: Card,
}

/// [`Peer::info`] as it was last asked for, encoded.
#[derive(Debug, Default)]
struct Card(OnceLock<Bytes>);

impl Clone for Card {
    /// A copy of a peer is made to be changed.
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// The time of a peer in a session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stay {
    pub(crate) joined_ms: i64,
    pub(crate) entered_ms: i64,
    pub(crate) left_ms: Option<i64>,
    /// How long its stays were that have ended, whatever the clock showed.
    pub(crate) consumed_ms: i64,
    /// When the present stay began.
    pub(crate) since: Monotonic,
}

impl Stay {
    /// As it was recorded; the present stay began at `since`.
    pub(crate) fn of(record: &PeerRecord, since: Monotonic) -> Self {
        Self {
            joined_ms: record.joined_ms,
            entered_ms: record.entered_ms,
            left_ms: record.left_ms,
            consumed_ms: record.consumed_ms,
            since,
        }
    }
}

/// The name of people who have none.
const NAMELESS: &str = "Participant";

impl Peer {
    pub(crate) fn new(who: Newcomer, permissions: Permissions, now_ms: i64) -> Self {
        let name = who.name.clone().filter(|name| !name.is_empty());
        Self {
            permissions,
            name: name.unwrap_or_else(|| NAMELESS.to_owned()),
            connection: None,
            lost: None,
            reopened: None,
            absent: None,
            rejected: Monotonic::default(),
            card: Card::default(),
            removed: false,
            place: Place::Lobby,
            stage: StageType::OffStage,
            media: MediaState::Out,
            created_ms: now_ms,
            stay: None,
            who,
        }
    }

    pub(crate) fn id(&self) -> PeerId {
        self.who.peer
    }

    pub(crate) fn user(&self) -> ParticipantId {
        self.who.participant
    }

    pub(crate) fn is_inside(&self) -> bool {
        self.place == Place::Inside
    }

    /// The call has a stage for this peer (docs/spec/signalling.md 3.3).
    pub(crate) fn has_stage(&self) -> bool {
        let staged = matches!(self.who.view, ViewType::Webinar | ViewType::Livestream);
        staged || self.permissions.stage_enabled
    }

    /// Whether it may go on the stage (docs/spec/signalling.md 3.3).
    pub(crate) fn stage_access(&self) -> MediaPermission {
        let media = &self.permissions.media;
        let produce = [&media.audio, &media.video, &media.screenshare].map(|kind| kind.can_produce);
        self.permissions.stage_access.unwrap_or_else(|| {
            [MediaPermission::Allowed, MediaPermission::CanRequest]
                .into_iter()
                .find(|best| produce.contains(best))
                .unwrap_or(MediaPermission::NotAllowed)
        })
    }

    /// It decides who comes on the stage.
    pub(crate) fn accepts_stage(&self) -> bool {
        self.permissions.accept_stage_requests || self.permissions.can_accept_production_requests
    }

    /// It watches a livestream and is not told of those who watch with it.
    pub(crate) fn is_audience(&self) -> bool {
        self.who.view == ViewType::Livestream
            && self.stage != StageType::OnStage
            && self.stage_access() != MediaPermission::Allowed
            && !self.accepts_stage()
    }

    /// What others are told of it.
    pub(crate) fn info(&self) -> room::Peer {
        let recorder = match self.permissions.recorder_type {
            RecorderType::None => "NONE",
            RecorderType::Recorder => "RECORDER",
            RecorderType::Livestreamer => "LIVESTREAMER",
        };
        room::Peer {
            peer_id: self.id().to_string(),
            user_id: self.user().to_string(),
            display_name: self.name.clone(),
            stage_type: Some(self.stage.into()),
            custom_participant_id: Some(self.who.custom_id.clone()),
            preset_id: Some(self.who.preset.to_string()),
            display_picture_url: self.who.picture.clone(),
            waitlisted: matches!(self.place, Place::Waiting | Place::Rejected),
            flags: Some(PeerFlags {
                preset_name: self.who.preset_name.clone(),
                recorder_type: recorder.to_owned(),
                hidden_participant: self.permissions.hidden_participant,
            }),
        }
    }

    /// [`Peer::info`], encoded: once for all who ask for the roster until something changes.
    pub(crate) fn card(&self) -> Bytes {
        let encode = || self.info().encode_to_vec().into();
        self.card.0.get_or_init(encode).clone()
    }

    pub(crate) fn present(&self) -> Present {
        Present {
            peer: self.id(),
            participant: self.user(),
            custom_id: self.who.custom_id.clone(),
            name: Some(self.name.clone()),
            picture: self.who.picture.clone(),
            preset: self.who.preset,
            shown: !self.permissions.hidden_participant && !self.is_audience(),
            token_expires: self.connection.map(|_| self.who.token_expires),
        }
    }

    /// The record of its stay.
    pub(crate) fn record(&self, session: SessionId) -> Option<PeerRecord> {
        let stay = self.stay?;
        Some(PeerRecord {
            session,
            peer: self.id(),
            participant: self.user(),
            custom_id: self.who.custom_id.clone(),
            name: Some(self.name.clone()),
            picture: self.who.picture.clone(),
            preset: self.who.preset,
            preset_name: self.who.preset_name.clone(),
            view: self.who.view,
            created_ms: self.created_ms,
            joined_ms: stay.joined_ms,
            entered_ms: stay.entered_ms,
            left_ms: stay.left_ms,
            consumed_ms: stay.consumed_ms,
        })
    }

    /// The peer of a record, without a socket. What it may do is known when it comes back.
    pub(crate) fn restored(record: &PeerRecord, stage: Option<StageType>, lost: Moment) -> Self {
        // Nobody is told of those who may never come back, or were hidden; not when their permissions
        // are changed meanwhile either.
        let permissions = Permissions {
            hidden_participant: true,
            // Where it stands is kept of those who have a stage.
            stage_enabled: stage.is_some(),
            ..Permissions::default()
        };
        let who = Newcomer {
            peer: record.peer,
            participant: record.participant,
            custom_id: record.custom_id.clone(),
            name: record.name.clone(),
            picture: record.picture.clone(),
            preset: record.preset,
            preset_name: record.preset_name.clone(),
            view: record.view,
            permissions: permissions.clone(),
            // It counts again when the peer has a socket.
            token_expires: 0,
        };
        let mut peer = Self::new(who, permissions, record.created_ms);
        peer.place = Place::Inside;
        peer.stage = stage.unwrap_or(StageType::OnStage);
        (peer.lost, peer.absent) = (Some(lost.monotonic), Some(lost));
        // Only the records know how long it was here before.
        let stayed_ms = lost.now_ms.saturating_sub(record.entered_ms);
        peer.stay = Some(Stay::of(record, lost.monotonic.before(stayed_ms)));
        peer
    }
}

/// Whether `viewer` is told of `subject`.
pub(crate) fn sees(viewer: &Peer, subject: &Peer) -> bool {
    viewer.is_inside()
        && subject.is_inside()
        && viewer.id() != subject.id()
        && !subject.permissions.hidden_participant
        && (!viewer.is_audience() || subject.stage == StageType::OnStage)
}

/// Everybody, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    by_seat: BTreeMap<Seat, Peer>,
    by_id: HashMap<PeerId, Seat>,
    by_person: HashMap<ParticipantId, Vec<Seat>>,
    by_connection: HashMap<ConnectionId, Seat>,
    /// Kept when a person has gone: whoever comes back has what is left.
    left: HashMap<ParticipantId, Allowances>,
    next: u64,
    inside: usize,
    /// How many peers were looked at.
    pub(crate) steps: Steps,
}

impl Peers {
    pub(crate) fn len(&self) -> usize {
        self.by_seat.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_seat.is_empty()
    }

    /// How many have joined.
    pub(crate) fn inside(&self) -> usize {
        self.inside
    }

    pub(crate) fn add(&mut self, peer: Peer) -> Seat {
        let seat = Seat(self.next);
        self.next += 1;
        self.inside += usize::from(peer.is_inside());
        self.by_id.insert(peer.id(), seat);
        self.by_person.entry(peer.user()).or_default().push(seat);
        self.by_seat.insert(seat, peer);
        seat
    }

    pub(crate) fn remove(&mut self, seat: Seat) -> Option<Peer> {
        let peer = self.by_seat.remove(&seat)?;
        self.by_id.remove(&peer.id());
        if let Some(seats) = self.by_person.get_mut(&peer.user()) {
            seats.retain(|other| *other != seat);
            if seats.is_empty() {
                self.by_person.remove(&peer.user());
            }
        }
        self.inside -= usize::from(peer.is_inside());
        if let Some(connection) = peer.connection {
            self.by_connection.remove(&connection);
        }
        Some(peer)
    }

    /// Ties a socket to a peer; answers with the socket it had.
    pub(crate) fn connect(&mut self, seat: Seat, connection: ConnectionId) -> Option<ConnectionId> {
        let old = self.disconnect(seat);
        if let Some(peer) = self.by_seat.get_mut(&seat) {
            peer.connection = Some(connection);
            peer.lost = None;
            self.by_connection.insert(connection, seat);
        }
        old
    }

    /// Unties a peer from its socket.
    pub(crate) fn disconnect(&mut self, seat: Seat) -> Option<ConnectionId> {
        let connection = self.by_seat.get_mut(&seat)?.connection.take()?;
        self.by_connection.remove(&connection);
        Some(connection)
    }

    pub(crate) fn put(&mut self, seat: Seat, place: Place) {
        if let Some(peer) = self.by_seat.get_mut(&seat) {
            self.inside -= usize::from(peer.is_inside());
            peer.place = place;
            peer.card = Card::default();
            self.inside += usize::from(peer.is_inside());
        }
    }

    pub(crate) fn seat_of(&self, peer: PeerId) -> Option<Seat> {
        self.by_id.get(&peer).copied()
    }

    /// The seats of a person, in the order in which they came.
    pub(crate) fn seats_of(&self, person: ParticipantId) -> &[Seat] {
        self.by_person.get(&person).map_or(&[], Vec::as_slice)
    }

    /// What is left of a person's rates.
    pub(crate) fn left_of(&mut self, person: ParticipantId) -> &mut Allowances {
        self.left.entry(person).or_default()
    }

    /// What is left of the rates of the person on a seat.
    pub(crate) fn left(&mut self, seat: Seat) -> &mut Allowances {
        self.left_of(self[seat].user())
    }

    /// The seat of a peer by the text of its id.
    pub(crate) fn seat_named(&self, peer: &str) -> Option<Seat> {
        self.seat_of(peer.parse().ok()?)
    }

    pub(crate) fn seat_at(&self, connection: ConnectionId) -> Option<Seat> {
        self.by_connection.get(&connection).copied()
    }

    pub(crate) fn get(&self, seat: Seat) -> Option<&Peer> {
        self.by_seat.get(&seat)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Seat, &Peer)> {
        self.steps.add(self.by_seat.len());
        self.by_seat.iter().map(|(seat, peer)| (*seat, peer))
    }

    /// The seats of the peers that `which` picks, to change them one by one.
    pub(crate) fn seats(&self, which: impl Fn(&Peer) -> bool) -> Vec<Seat> {
        let picked = self.iter().filter(|(_, peer)| which(peer));
        picked.map(|(seat, _)| seat).collect()
    }

    /// The sockets of the peers that `which` picks.
    pub(crate) fn sockets(&self, which: impl Fn(&Peer) -> bool) -> Vec<ConnectionId> {
        // When everybody is thrown out nobody hears of the others.
        if self.by_connection.is_empty() {
            return Vec::new();
        }
        if self.by_connection.len() < self.by_seat.len() / 8 {
            self.steps.add(self.by_connection.len());
            let mut seats: Vec<Seat> = self.by_connection.values().copied().collect();
            seats.sort_unstable();
            let picked = seats.iter().map(|seat| &self[*seat]);
            let picked = picked.filter(|peer| which(peer));
            return picked.filter_map(|peer| peer.connection).collect();
        }
        self.steps.add(self.by_seat.len());
        let picked = self.by_seat.values().filter(|peer| which(peer));
        picked.filter_map(|peer| peer.connection).collect()
    }

    /// The sockets of those who are told of a peer.
    pub(crate) fn watching(&self, subject: Seat) -> Vec<ConnectionId> {
        let subject = self.get(subject);
        subject.map_or_else(Vec::new, |subject| {
            self.sockets(|viewer| sees(viewer, subject))
        })
    }
}

impl std::ops::Index<Seat> for Peers {
    type Output = Peer;

    /// The peer on a seat that was found in this input.
    fn index(&self, seat: Seat) -> &Peer {
        &self.by_seat[&seat]
    }
}

impl std::ops::IndexMut<Seat> for Peers {
    fn index_mut(&mut self, seat: Seat) -> &mut Peer {
        let peer = self.by_seat.get_mut(&seat);
        let peer = peer.expect("the seat was found in this input");
        // Whoever asks for it so is about to change it.
        peer.card = Card::default();
        peer
    }
}
