//! What the clients of the simulation do, and what has to come of it.

use std::collections::BTreeSet;

use bytes::Bytes;
use parlor_live::{Answer, Command, Input, NewPoll, Person};
use parlor_protocol::preset::{MediaPermission, WaitingRoomType};
use parlor_protocol::signal::event;
use parlor_protocol::signal::media::edge::{
    GlobalPeerPinningRequest, KickAllPeersRequest, PeerDisplayNameEditRequest,
    PeerJoinCompleteResponse,
};
use parlor_protocol::signal::media::{CreateTransportRequest, SessionDescription};
use parlor_protocol::signal::socket::chat::{
    DeleteChatMessageRequest, EditChatMessageRequest, GetPaginatedChatMessageRoomRequest,
    GetPaginatedChatMessageRoomResponse, PinChatMessageRequest, SendChatMessageToPeersRequest,
    SendChatMessageToPeersResponse, SendChatMessageToRoomRequest, SendChatMessageToRoomResponse,
};
use parlor_protocol::signal::socket::livestreaming::{GrantStageAccessRequest, LeaveStageRequest};
use parlor_protocol::signal::socket::plugin::{
    PluginStoreGetKeysRequest, PluginStoreInsertKeysRequest, PluginStoreResponse, StoreKeys,
};
use parlor_protocol::signal::socket::polls::{NewPollRequest, UpdatePollResponse, VotePollRequest};
use parlor_protocol::signal::socket::preset::{
    PresetUpdates, UpdatePeerPreset, UpdatePeersPresetRequest,
};
use parlor_protocol::signal::socket::room::{
    AcceptWaitingRoomRequests, BroadcastMessage, JoinRoomRequest, PeerInfoResponse,
    PeerStatusUpdate, RemoveParticipantsRequest, StageType,
};

use crate::client::STORE;
use crate::people::{RIGHTS, user};
use crate::simulation::{Act, Simulation};
use crate::truth::{MessageTruth, OPTIONS, Place, PollTruth};
use crate::world::Done;

const PLUGINS: &str = "__rtk_plugins__";

/// Whether something is done, and answered on this event, or refused.
fn when(may: bool, event: u32) -> Result<Option<u32>, ()> {
    if may { Ok(Some(event)) } else { Err(()) }
}

impl Simulation {
    /// One thing happens, and then what clients do by themselves.
    pub(crate) fn act(&mut self, (what, a, b, c): Act) {
        let slots = self.truth.peers.len();
        let (slot, other) = (usize::from(a) % slots, usize::from(b) % slots);
        // Most acts need somebody inside.
        if what >= 54 && self.truth.peers[slot].socket.is_none() && c % 4 > 0 {
            self.come(slot);
            self.join(slot);
            self.follow();
        }
        match what {
            0..24 => self.come(slot),
            24..54 => self.join(slot),
            54..62 => self.go(slot, c % 2 == 0),
            62..72 => self.say(slot, c),
            72..82 => self.whisper(slot, other, usize::from(c) % slots),
            82..90 => self.edit(slot, b),
            90..96 => self.delete(slot, b),
            96..102 => self.pin_message(slot, b, c % 2 == 0),
            102..106 => self.page(slot, b, c),
            106..113 => self.new_poll(slot, c % 2 == 0),
            113..122 => self.vote(slot, b, c),
            122..134 => self.write_store(slot, b, c),
            134..140 => self.broadcast(slot, other, c),
            140..150 => self.decide(slot, other, c % 3 > 0),
            150..156 => self.ask_for_stage(slot, c % 3 == 0),
            156..166 => self.decide_stage(slot, other, c % 3 > 0),
            166..176 => self.go_on_stage(slot),
            176..182 => self.leave_stage(slot, other, c % 2 == 0),
            182..188 => self.kick(slot, other),
            188 => self.kick_all(slot),
            189..203 => self.change_permissions(slot, other, c),
            203..214 => self.media(slot, c),
            214..218 => self.pin(slot, other),
            218..221 => self.rename(slot, c),
            221..229 => self.api(other, b, c),
            229..242 => self.pass(i64::from(b) * i64::from(c)),
            242..246 => self.wake(),
            246..249 => self.nonsense(slot, c),
            249..253 => self.usurp(slot, other),
            253.. => self.crash(c),
        }
        self.follow();
    }

    /// What clients do of themselves.
    fn follow(&mut self) {
        for slot in self.truth.slots() {
            if std::mem::take(&mut self.clients[slot].invited) {
                assert_eq!(self.truth.peers[slot].place, Place::Invited);
                self.join(slot);
            }
            if std::mem::take(&mut self.clients[slot].rejected) {
                assert_eq!(self.truth.peers[slot].place, Place::Rejected);
            }
            if self.clients[slot].out {
                self.clients[slot].forget();
                // Some close their socket, for some the room has to do it.
                let left = self.sockets.iter().find(|(socket, whose)| {
                    **whose == slot && self.world.open.contains(socket) && socket.0 % 2 == 0
                });
                if let Some((socket, _)) = left.map(|(socket, whose)| (*socket, *whose)) {
                    let done = self.world.close(socket, true);
                    self.sockets.remove(&socket);
                    self.settle(done);
                }
            }
            if self.truth.inside(slot) && self.clients[slot].roster.is_some() {
                let (polls, waiting) = {
                    let may = self.truth.may(slot);
                    (may.polls.can_view, may.accept_waiting_requests)
                };
                let client = &mut self.clients[slot];
                client.polls = client.polls.take().filter(|_| polls);
                client.waiting = client.waiting.take().filter(|_| waiting);
                let (no_polls, no_list) = (client.polls.is_none(), client.waiting.is_none());
                if polls && no_polls {
                    self.fetch(slot, event::GET_POLLS);
                }
                if waiting && no_list {
                    self.fetch(slot, event::GET_WAITING_ROOM_REQUESTS);
                }
            }
        }
    }

    fn fetch(&mut self, slot: usize, event: u32) {
        if let Some((_, done)) = self.ask(slot, event, &(), Ok(Some(event))) {
            self.settle(done);
        }
    }

    /// A socket opens, or another one in its place.
    fn come(&mut self, slot: usize) {
        let peer = &self.truth.peers[slot];
        if self.truth.people[peer.person].removed {
            return;
        }
        let who = peer.who.clone();
        let (socket, done) = self.world.connect(&who);
        self.sockets.insert(socket, slot);
        self.clients[slot].forget();
        let now_ms = self.world.now_ms;
        let peer = &mut self.truth.peers[slot];
        if let Some(old) = peer.socket.replace(socket) {
            assert_eq!(done.closed.len(), 1);
            assert_eq!((done.closed[0].0, done.closed[0].1.code()), (old, 1000));
        }
        (peer.lost_ms, peer.due_ms) = (None, None);
        let unseen = std::mem::take(&mut peer.unseen);
        match peer.place {
            Place::Gone => peer.place = Place::Lobby,
            Place::Inside => peer.due_ms = Some(now_ms + self.world.limits.grace_ms),
            Place::Invited => {
                assert_eq!(done.events(socket), [event::WAITING_ROOM_REQUEST_ACCEPTED]);
            }
            Place::Lobby | Place::Waiting | Place::Rejected => {}
        }
        if unseen {
            self.truth.somebody_decides(slot);
        }
        self.settle(done);
    }

    fn join(&mut self, slot: usize) {
        let place = self.truth.peers[slot].place;
        // Whether one who was turned away may ask again is open.
        if self.truth.peers[slot].socket.is_none() || place == Place::Rejected {
            return;
        }
        self.clients[slot].invited = false;
        let may = self.truth.may_join(slot);
        let waits = place != Place::Inside && self.truth.must_wait(slot);
        let join = JoinRoomRequest::default();
        let Some((reply, done)) =
            self.ask(slot, event::JOIN_ROOM, &join, when(may, event::JOIN_ROOM))
        else {
            return;
        };
        if place == Place::Inside {
            self.truth.peers[slot].due_ms = None;
        } else if waits {
            self.truth.peers[slot].place = Place::Waiting;
        } else {
            self.truth.enter(slot, self.world.now_ms);
        }
        let me = reply
            .expect("a reply")
            .read::<PeerInfoResponse>()
            .peer
            .expect("a peer");
        assert_eq!(me.peer_id, self.truth.peer_id(slot));
        assert_eq!(me.waitlisted, waits);
        if !waits {
            assert_eq!(me.stage_type(), self.truth.peers[slot].stage);
        }
        self.settle(done);
        self.look_around(slot);
    }

    /// What a client asks for after its join.
    fn look_around(&mut self, slot: usize) {
        self.fetch(slot, event::GET_MESSAGES);
        for store_name in [STORE, PLUGINS] {
            let all = PluginStoreGetKeysRequest {
                plugin_id: "meeting".to_owned(),
                store_name: store_name.to_owned(),
                get_keys: Vec::new(),
            };
            let Some((reply, done)) = self.ask(
                slot,
                event::STORE_GET_KEYS,
                &all,
                Ok(Some(event::STORE_GET_KEYS)),
            ) else {
                return;
            };
            let items = reply
                .expect("a reply")
                .read::<PluginStoreResponse>()
                .store_items
                .len();
            let there = self
                .truth
                .stores
                .keys()
                .filter(|(store, _)| store == store_name)
                .count();
            let hidden = !self.truth.inside(slot) && store_name != PLUGINS;
            assert_eq!(
                items,
                if hidden { 0 } else { there },
                "{store_name} as read by {slot}"
            );
            self.settle(done);
        }
        self.fetch(slot, event::GET_ROOM_INFO);
        self.fetch(slot, event::GET_ROOM_PEERS_INFO);
        if !self.truth.inside(slot) {
            let client = &self.clients[slot];
            let told = client
                .roster
                .as_ref()
                .is_some_and(|roster| !roster.is_empty())
                || client.chat.as_ref().is_some_and(|chat| !chat.is_empty());
            assert!(!told, "somebody outside is told of the inside");
            self.clients[slot].forget();
        }
    }

    fn go(&mut self, slot: usize, goodbye: bool) {
        let Some(socket) = self.truth.peers[slot].socket else {
            return;
        };
        let done = self.world.close(socket, goodbye);
        self.sockets.remove(&socket);
        self.clients[slot].forget();
        let (now_ms, grace_ms) = (self.world.now_ms, self.world.limits.grace_ms);
        let peer = &mut self.truth.peers[slot];
        peer.socket = None;
        let kept = matches!(peer.place, Place::Inside | Place::Waiting | Place::Invited);
        if kept && !goodbye {
            (peer.lost_ms, peer.due_ms) = (Some(now_ms), Some(now_ms + grace_ms));
        } else {
            self.truth.leave(slot, Place::Gone, now_ms);
        }
        self.settle(done);
    }

    fn say(&mut self, slot: usize, c: u8) {
        let chat = &self.truth.may(slot).chat.public;
        let image = c.is_multiple_of(4);
        let may = chat.can_send && if image { chat.files } else { chat.text };
        let payload = if image {
            format!("https://files.test/{c}.png")
        } else {
            format!("text {c}")
        };
        let say = SendChatMessageToRoomRequest {
            payload_type: i32::from(image),
            payload: payload.clone(),
        };
        let event = event::SEND_MESSAGE_TO_ROOM;
        let should = when(may && self.truth.inside(slot), event);
        let Some((reply, done)) = self.ask(slot, event, &say, should) else {
            return;
        };
        let said = reply
            .expect("a reply")
            .read::<SendChatMessageToRoomResponse>()
            .message;
        let said = said.expect("a message");
        self.said(slot, BTreeSet::new(), said, payload, done);
    }

    fn said(
        &mut self,
        slot: usize,
        to: BTreeSet<usize>,
        said: parlor_protocol::signal::socket::chat::ChatMessage,
        payload: String,
        done: Done,
    ) {
        assert_eq!(said.peer_id, self.truth.peer_id(slot));
        self.truth.messages.push(MessageTruth {
            at_ms: said.created_at_ms(),
            id: said.chat_id,
            author: self.truth.peers[slot].person,
            to,
            payload,
            pinned: false,
            edited: false,
        });
        self.settle(done);
    }

    fn whisper(&mut self, slot: usize, one: usize, two: usize) {
        let truth = &self.truth;
        // Whether one may write to peers that one does not see is open.
        let open = [one, two].into_iter().any(|to| {
            truth.peers[to].unseen
                || (truth.inside(slot) && truth.inside(to) && !truth.sees(slot, to) && to != slot)
        });
        if open {
            return;
        }
        let me = truth.peers[slot].person;
        let receiving = [one, two].into_iter().filter(|to| {
            truth.inside(*to)
                && truth.may(*to).chat.private.can_receive
                && truth.peers[*to].person != me
        });
        let mut to: BTreeSet<usize> = receiving.map(|to| truth.peers[to].person).collect();
        let chat = &truth.may(slot).chat.private;
        let may = truth.inside(slot) && chat.can_send && chat.text && !to.is_empty();
        to.insert(me);
        let say = SendChatMessageToPeersRequest {
            peer_ids: [one, two, slot].map(|to| truth.peer_id(to)).to_vec(),
            payload_type: 0,
            payload: "between us".to_owned(),
        };
        let event = event::SEND_MESSAGE_TO_PEERS;
        let Some((reply, done)) = self.ask(slot, event, &say, when(may, event)) else {
            return;
        };
        let said = reply
            .expect("a reply")
            .read::<SendChatMessageToPeersResponse>()
            .message;
        self.said(slot, to, said.expect("a message"), say.payload, done);
    }

    /// A message, whether the peer may read it, and whether it may send such messages.
    fn message(&self, slot: usize, which: u8) -> Option<(usize, bool, bool)> {
        let at = usize::from(which).checked_rem(self.truth.messages.len())?;
        let message = &self.truth.messages[at];
        let chat = &self.truth.may(slot).chat;
        let may = if message.to.is_empty() {
            chat.public.can_send
        } else {
            chat.private.can_send
        };
        let reads = self.truth.inside(slot) && self.truth.reads(slot, message);
        Some((at, reads, may))
    }

    fn edit(&mut self, slot: usize, which: u8) {
        let Some((at, reads, may)) = self.message(slot, which) else {
            return;
        };
        let message = &self.truth.messages[at];
        let chat = &self.truth.may(slot).chat;
        let text = if message.to.is_empty() {
            chat.public.text
        } else {
            chat.private.text
        };
        let may = may && text && reads && message.author == self.truth.peers[slot].person;
        let edit = EditChatMessageRequest {
            chat_id: message.id.clone(),
            payload_type: Some(0),
            payload: Some(format!("{} {which}", message.payload)),
            ..EditChatMessageRequest::default()
        };
        let should = when(may, event::EDIT_MESSAGE);
        let Some((_, done)) = self.ask(slot, event::EDIT_MESSAGE, &edit, should) else {
            return;
        };
        let message = &mut self.truth.messages[at];
        (message.payload, message.edited) = (edit.payload.unwrap_or_default(), true);
        self.settle(done);
    }

    fn delete(&mut self, slot: usize, which: u8) {
        let Some((at, reads, _)) = self.message(slot, which) else {
            return;
        };
        let mine = self.truth.messages[at].author == self.truth.peers[slot].person;
        let delete = DeleteChatMessageRequest {
            chat_id: self.truth.messages[at].id.clone(),
            channel_id: None,
        };
        let should = when(mine && reads, event::DELETE_MESSAGE);
        let Some((_, done)) = self.ask(slot, event::DELETE_MESSAGE, &delete, should) else {
            return;
        };
        self.truth.messages.remove(at);
        self.settle(done);
    }

    fn pin_message(&mut self, slot: usize, which: u8, pinned: bool) {
        let Some((at, reads, may)) = self.message(slot, which) else {
            return;
        };
        let pin = PinChatMessageRequest {
            chat_id: self.truth.messages[at].id.clone(),
            pinned,
            channel_id: None,
        };
        let should = when(may && reads, event::PIN_MESSAGE);
        let Some((_, done)) = self.ask(slot, event::PIN_MESSAGE, &pin, should) else {
            return;
        };
        self.truth.messages[at].pinned = pinned;
        self.settle(done);
    }

    fn page(&mut self, slot: usize, which: u8, c: u8) {
        let at = usize::from(which).checked_rem(self.truth.messages.len());
        let at_ms = at.map_or(0, |at| self.truth.messages[at].at_ms);
        let (size, reversed) = (usize::from(c % 5) + 1, c > 127);
        let ask = GetPaginatedChatMessageRoomRequest {
            time_stamp: at_ms,
            size: i32::try_from(size).expect("small"),
            reversed,
            ..GetPaginatedChatMessageRoomRequest::default()
        };
        let event = event::GET_PAGINATED_MESSAGES;
        let Some((reply, done)) = self.ask(slot, event, &ask, Ok(Some(event))) else {
            return;
        };
        let page: GetPaginatedChatMessageRoomResponse = reply.expect("a reply").read();
        let page: Vec<_> = page
            .messages
            .into_iter()
            .map(|message| message.chat_id)
            .collect();
        let (inside, truth) = (self.truth.inside(slot), &self.truth);
        let readable = truth
            .messages
            .iter()
            .filter(|message| inside && truth.reads(slot, message));
        let side = readable.filter(|message| {
            if reversed {
                message.at_ms <= at_ms
            } else {
                message.at_ms >= at_ms
            }
        });
        let mut side: Vec<_> = side.map(|message| message.id.clone()).collect();
        if reversed {
            side.reverse();
        }
        side.truncate(size);
        assert_eq!(page, side);
        self.settle(done);
    }

    fn new_poll(&mut self, slot: usize, anonymous: bool) {
        let poll = NewPollRequest {
            question: "Which?".to_owned(),
            options: (0..OPTIONS).map(|option| format!("{option}")).collect(),
            anonymous,
            ..NewPollRequest::default()
        };
        let may = self.truth.inside(slot) && self.truth.may(slot).polls.can_create;
        let should = when(may, event::CREATE_POLL);
        let Some((reply, done)) = self.ask(slot, event::CREATE_POLL, &poll, should) else {
            return;
        };
        let poll = reply
            .expect("a reply")
            .read::<UpdatePollResponse>()
            .poll
            .expect("a poll");
        let creator = Some(self.truth.peers[slot].person);
        self.truth.polls.push(PollTruth {
            id: poll.poll_id,
            creator,
            anonymous,
            votes: Vec::new(),
        });
        self.settle(done);
    }

    fn vote(&mut self, slot: usize, which: u8, c: u8) {
        let Some(at) = usize::from(which).checked_rem(self.truth.polls.len()) else {
            return;
        };
        let (may, person) = (&self.truth.may(slot).polls, self.truth.peers[slot].person);
        // Whether one may vote on what one may not see is open.
        if may.can_vote && !may.can_view {
            return;
        }
        let poll = &self.truth.polls[at];
        let voted = poll.votes.iter().any(|(who, _)| *who == person);
        let option = usize::from(c) % (OPTIONS + 1);
        let may = self.truth.inside(slot) && may.can_vote && !voted && option < OPTIONS;
        let vote = VotePollRequest {
            poll_id: poll.id.clone(),
            index: option as u64,
        };
        let should = when(may, event::VOTE_POLL);
        let Some((_, done)) = self.ask(slot, event::VOTE_POLL, &vote, should) else {
            return;
        };
        self.truth.polls[at].votes.push((person, option));
        self.settle(done);
    }

    fn write_store(&mut self, slot: usize, b: u8, c: u8) {
        let (deletes, off) = (c.is_multiple_of(4), c % 4 == 1);
        let plugin = b.is_multiple_of(3);
        let (store, key) = (
            if plugin { PLUGINS } else { STORE },
            format!("key {}", b % 5),
        );
        let value = if off {
            "null".to_owned()
        } else {
            format!("{{\"n\":{c}}}")
        };
        let payload = (!deletes).then(|| Bytes::from(value.clone()));
        let may = &self.truth.may(slot).plugins;
        let right = if deletes || off {
            may.can_close
        } else {
            may.can_start
        };
        let may = self.truth.inside(slot) && (!plugin || right);
        // Both requests have the same fields.
        let request = PluginStoreInsertKeysRequest {
            plugin_id: "meeting".to_owned(),
            store_name: store.to_owned(),
            insert_keys: vec![StoreKeys {
                store_key: key.clone(),
                payload,
            }],
        };
        let event = if deletes {
            event::STORE_DELETE_KEYS
        } else {
            event::STORE_INSERT_KEYS
        };
        let Some((_, done)) = self.ask(slot, event, &request, when(may, event)) else {
            return;
        };
        let place = (store.to_owned(), key);
        if deletes {
            self.truth.stores.remove(&place);
        } else {
            self.truth.stores.insert(place, value.into_bytes());
        }
        self.settle(done);
    }

    fn broadcast(&mut self, slot: usize, other: usize, c: u8) {
        let spotlight = c.is_multiple_of(4);
        let message = BroadcastMessage {
            r#type: if spotlight { "spotlight" } else { "hands" }.to_owned(),
            payload: Bytes::from_static(b"{}"),
            timestamp: 5,
            ids: vec![self.truth.peer_id(other), self.truth.peer_id(slot)],
            broadcast_type: None,
        };
        let may = self.truth.inside(slot) && (!spotlight || self.truth.may(slot).can_spotlight);
        let all = c.is_multiple_of(2);
        let event = if all {
            event::BROADCAST_MESSAGE
        } else {
            event::BROADCAST_TO_ENTITY
        };
        let should = if may {
            Ok(all.then_some(event))
        } else {
            Err(())
        };
        let Some((_, done)) = self.ask(slot, event, &message, should) else {
            return;
        };
        let got = done.frames.iter().map(|frame| (frame.to, frame.event));
        let mut got: Vec<_> = got.collect();
        got.sort_unstable();
        let to = self.truth.insiders();
        let to = to
            .into_iter()
            .filter(|to| all || [slot, other].contains(to));
        let sockets = to.filter_map(|to| self.truth.peers[to].socket);
        let mut should: Vec<_> = sockets.map(|socket| (socket, event)).collect();
        should.sort_unstable();
        assert_eq!(got, should, "each gets one copy");
        self.settle(done);
    }

    fn decide(&mut self, slot: usize, other: usize, let_in: bool) {
        let person = self.truth.peers[other].person;
        let event = if let_in {
            event::ACCEPT_WAITING_ROOM_REQUESTS
        } else {
            event::DENY_WAITING_ROOM_REQUESTS
        };
        let request = AcceptWaitingRoomRequests {
            user_ids: vec![self.truth.user(person)],
        };
        let should = if self.truth.decides(slot) {
            Ok(None)
        } else {
            Err(())
        };
        let Some((_, done)) = self.ask(slot, event, &request, should) else {
            return;
        };
        for waiting in self.truth.slots_of(person) {
            match (self.truth.peers[waiting].place, let_in) {
                (Place::Waiting | Place::Rejected, true) => self.truth.admit(waiting),
                (Place::Waiting, false) => {
                    let peer = &mut self.truth.peers[waiting];
                    peer.place = Place::Rejected;
                    peer.rejected_ms = self.world.now_ms;
                }
                _ => {}
            }
        }
        self.settle(done);
    }

    fn ask_for_stage(&mut self, slot: usize, cancel: bool) {
        let inside = self.truth.inside(slot) && self.truth.has_stage(slot);
        let (access, stage) = (self.truth.access(slot), self.truth.peers[slot].stage);
        let (event, may, now) = if cancel {
            let asked = matches!(stage, StageType::RequestedStage | StageType::ApprovedStage);
            let now = if asked { StageType::OffStage } else { stage };
            (event::CANCEL_STAGE_REQUEST, true, now)
        } else {
            let up = matches!(stage, StageType::OnStage | StageType::ApprovedStage);
            let now = match access {
                _ if up => stage,
                MediaPermission::Allowed => StageType::ApprovedStage,
                _ => StageType::RequestedStage,
            };
            (
                event::REQUEST_STAGE_ACCESS,
                access != MediaPermission::NotAllowed,
                now,
            )
        };
        let should = if inside && may { Ok(None) } else { Err(()) };
        let Some((_, done)) = self.ask(slot, event, &(), should) else {
            return;
        };
        self.truth.peers[slot].stage = now;
        self.settle(done);
    }

    fn staged(&self, person: usize) -> Option<Vec<usize>> {
        let slots = self.truth.slots_of(person);
        if slots.iter().any(|slot| self.truth.peers[*slot].unseen) {
            return None;
        }
        Some(
            slots
                .into_iter()
                .filter(|slot| self.truth.inside(*slot) && self.truth.has_stage(*slot))
                .collect(),
        )
    }

    fn decide_stage(&mut self, slot: usize, other: usize, grant: bool) {
        let person = self.truth.peers[other].person;
        let Some(those) = self.staged(person) else {
            return;
        };
        let event = if grant {
            event::GRANT_STAGE_ACCESS
        } else {
            event::DENY_STAGE_ACCESS
        };
        let request = GrantStageAccessRequest {
            user_ids: vec![self.truth.user(person)],
        };
        let should = if self.truth.accepts_stage(slot) {
            Ok(None)
        } else {
            Err(())
        };
        let Some((_, done)) = self.ask(slot, event, &request, should) else {
            return;
        };
        for other in those {
            let peer = &mut self.truth.peers[other];
            let told = peer.socket.map_or(0, |socket| done.of(socket, event).len());
            let waits = matches!(
                peer.stage,
                StageType::RequestedStage | StageType::ApprovedStage
            );
            let moves = if grant {
                matches!(peer.stage, StageType::RequestedStage | StageType::OffStage)
            } else {
                waits
            };
            assert_eq!(told, usize::from(moves && peer.socket.is_some()));
            if moves {
                peer.stage = if grant {
                    StageType::ApprovedStage
                } else {
                    StageType::OffStage
                };
            }
        }
        self.settle(done);
    }

    fn go_on_stage(&mut self, slot: usize) {
        let peer = &self.truth.peers[slot];
        let up = matches!(peer.stage, StageType::OnStage | StageType::ApprovedStage);
        let may = up || self.truth.access(slot) == MediaPermission::Allowed;
        let may = may && self.truth.inside(slot) && self.truth.has_stage(slot);
        let should = when(may, event::PEER_STAGE_STATUS_UPDATE);
        let Some((reply, done)) = self.ask(slot, event::JOIN_STAGE, &(), should) else {
            return;
        };
        assert_eq!(
            reply
                .expect("a reply")
                .read::<PeerStatusUpdate>()
                .stage_type(),
            StageType::OnStage
        );
        self.truth.peers[slot].stage = StageType::OnStage;
        // A viewer of a livestream joins again now, and learns who else is there.
        self.clients[slot].roster = None;
        self.settle(done);
        self.join(slot);
    }

    fn leave_stage(&mut self, slot: usize, other: usize, own: bool) {
        let mine = self.truth.peers[slot].person;
        let person = if own {
            mine
        } else {
            self.truth.peers[other].person
        };
        if !own && person == mine {
            return;
        }
        let Some(those) = self.staged(person) else {
            return;
        };
        let request = LeaveStageRequest {
            user_ids: vec![self.truth.user(person)],
        };
        let may = if own {
            self.truth.inside(slot) && self.truth.has_stage(slot)
        } else {
            self.truth.accepts_stage(slot)
        };
        let reply = if own {
            event::PEER_STAGE_STATUS_UPDATE
        } else {
            event::LEAVE_STAGE
        };
        let Some((_, done)) = self.ask(slot, event::LEAVE_STAGE, &request, when(may, reply)) else {
            return;
        };
        for down in if own { vec![slot] } else { those } {
            self.truth.peers[down].stage = StageType::OffStage;
        }
        self.settle(done);
    }

    /// They are told, and are gone.
    fn thrown_out(&mut self, those: &[usize], event: u32, done: &Done) {
        for slot in those {
            if let Some(socket) = self.truth.peers[*slot].socket {
                assert_eq!(
                    done.of(socket, event).len(),
                    1,
                    "{slot} is told once: {done:?}"
                );
                assert_eq!(
                    done.events(socket).last(),
                    Some(&event),
                    "and nothing after that"
                );
            }
            self.truth.leave(*slot, Place::Gone, self.world.now_ms);
        }
    }

    fn at(&self, places: &[Place]) -> Vec<usize> {
        let here = self.truth.slots();
        here.filter(|slot| places.contains(&self.truth.peers[*slot].place))
            .collect()
    }

    fn kick(&mut self, slot: usize, other: usize) {
        let may = self.truth.inside(slot) && self.truth.may(slot).kick_participant;
        let kick = RemoveParticipantsRequest {
            peer_ids: vec![self.truth.peer_id(other)],
        };
        for _ in 0..2 {
            // Who kicks itself has no socket the second time.
            let should = if may { Ok(None) } else { Err(()) };
            if self.truth.peers[slot].socket.is_none() {
                return;
            }
            let Some((_, done)) = self.ask(slot, event::KICK, &kick, should) else {
                return;
            };
            let victim = self.truth.peers[other].place;
            if !matches!(victim, Place::Gone | Place::Lobby) {
                self.thrown_out(&[other], event::KICK, &done);
                // Whoever was let in once has to be let in again.
                let person = self.truth.peers[other].person;
                self.truth.people[person].admitted = false;
            }
            self.settle(done);
        }
    }

    fn kick_all(&mut self, slot: usize) {
        let may = self.truth.inside(slot) && self.truth.may(slot).kick_participant;
        let should = if may { Ok(None) } else { Err(()) };
        let request = KickAllPeersRequest::default();
        let Some((_, done)) = self.ask(slot, event::KICK_ALL, &request, should) else {
            return;
        };
        let those = self.at(&[
            Place::Inside,
            Place::Waiting,
            Place::Invited,
            Place::Rejected,
        ]);
        self.thrown_out(&those, event::KICK_ALL, &done);
        self.settle(done);
        assert!(!self.truth.live, "the session has ended");
    }

    fn change_permissions(&mut self, slot: usize, other: usize, c: u8) {
        let person = self.truth.peers[other].person;
        let right = RIGHTS[usize::from(c >> 1) % RIGHTS.len()];
        let on = c.is_multiple_of(2);
        let Some(set) = right.patch else { return };
        let slots = self.truth.slots_of(person);
        let unseen = slots.iter().any(|slot| self.truth.peers[*slot].unseen);
        let here = slots
            .iter()
            .any(|slot| self.truth.peers[*slot].place != Place::Gone);
        let waits =
            self.truth.people[person].preset.waiting_room_type == WaitingRoomType::SkipOnAccept;
        if unseen || !here || (waits && right.name == "accept_waiting_requests") {
            return;
        }
        let mut patch = PresetUpdates::default();
        set(&mut patch, on);
        let request = UpdatePeersPresetRequest {
            update_peers_presets: vec![UpdatePeerPreset {
                user_ids: self.truth.user(person),
                patch: Some(patch),
            }],
        };
        let may =
            self.truth.inside(slot) && self.truth.may(slot).can_change_participant_permissions;
        let event = event::UPDATE_USER_PRESET;
        let Some((_, done)) = self.ask(slot, event, &request, when(may, event)) else {
            return;
        };
        for changed in &slots {
            let socket = self.truth.peers[*changed].socket;
            assert_eq!(
                socket.map_or(0, |socket| done.of(socket, event).len()),
                usize::from(socket.is_some())
            );
        }
        let decided = self.truth.people[person].may.accept_waiting_requests;
        (right.set)(&mut self.truth.people[person].may, on);
        if !decided {
            slots
                .into_iter()
                .for_each(|slot| self.truth.somebody_decides(slot));
        }
        self.settle(done);
    }

    fn media(&mut self, slot: usize, c: u8) {
        let inside = self.truth.inside(slot);
        match c % 4 {
            0 => self.fetch(slot, event::MEDIA_JOIN),
            1 => {
                let event = event::MEDIA_JOIN_COMPLETE;
                let Some((reply, done)) = self.ask(slot, event, &(), when(inside, event)) else {
                    return;
                };
                let state: PeerJoinCompleteResponse = reply.expect("a reply").read();
                assert!(state.room_state.is_some());
                let seen = |peer: &String| {
                    self.truth.slots().any(|other| {
                        self.truth.sees(slot, other) && self.truth.peer_id(other) == *peer
                    })
                };
                assert!(state.participants.iter().all(|other| seen(&other.peer_id)));
                self.settle(done);
            }
            2 => self.fetch(slot, event::MEDIA_LEAVE),
            _ => self.transport(slot),
        }
    }

    fn transport(&mut self, slot: usize) {
        let offer = SessionDescription {
            sdp: "v=0".to_owned(),
            ..SessionDescription::default()
        };
        let request = CreateTransportRequest {
            description: Some(offer),
            ..CreateTransportRequest::default()
        };
        if self.truth.peers[slot].place == Place::Rejected || !self.truth.may_join(slot) {
            return;
        }
        let Some((_, mut done)) = self.ask(slot, event::CREATE_TRANSPORT, &request, Ok(None))
        else {
            return;
        };
        let order = done.media.pop().expect("an order to the media plane");
        self.settle(done);
        let parlor_live::MediaOrder::Open {
            connection,
            request,
            publishes,
            ..
        } = order
        else {
            panic!("{order:?}")
        };
        assert!(publishes);
        let id = request.id.clone();
        let outcome = Ok(("t".to_owned(), "v=0".to_owned()));
        let done = self.world.take(Input::Transport {
            connection,
            request,
            outcome,
        });
        let replies = done.of(connection, event::CREATE_TRANSPORT);
        assert_eq!(replies.len(), 1);
        assert_eq!(replies[0].id, id);
        self.settle(done);
    }

    fn pin(&mut self, slot: usize, other: usize) {
        // Whether one may pin whom one does not see is open.
        if slot != other && !self.truth.sees(slot, other) && self.truth.inside(other) {
            return;
        }
        let hidden = self.truth.may(other).hidden_participant || self.truth.peers[other].unseen;
        let may = self.truth.inside(slot)
            && self.truth.may(slot).pin_participant
            && self.truth.inside(other);
        if hidden && may {
            return;
        }
        let pin = GlobalPeerPinningRequest {
            participant_id: self.truth.peer_id(other),
        };
        let should = when(may, event::PIN_PEER);
        let Some((_, done)) = self.ask(slot, event::PIN_PEER, &pin, should) else {
            return;
        };
        for inside in self.truth.insiders() {
            if let Some(socket) = self.truth.peers[inside].socket {
                assert_eq!(done.of(socket, event::PEER_PINNED).len(), 1);
            }
        }
        self.settle(done);
    }

    fn rename(&mut self, slot: usize, c: u8) {
        let rename = PeerDisplayNameEditRequest {
            participant_id: self.truth.peer_id(0),
            display_name: format!("Name {c}"),
        };
        let may = self.truth.inside(slot) && self.truth.may(slot).can_edit_display_name;
        let event = event::CHANGE_DISPLAY_NAME;
        let Some((_, done)) = self.ask(slot, event, &rename, when(may, event)) else {
            return;
        };
        self.settle(done);
    }

    /// What the REST API asks for.
    fn api(&mut self, other: usize, b: u8, c: u8) {
        let person = self.truth.peers[other].person;
        let who = user(u8::try_from(person).expect("few people"));
        let (live, inside) = (self.truth.live, self.truth.insiders().len());
        let done = match c % 16 {
            0..3 => {
                let of = self.truth.slots_of(person);
                let those = self.at(&[
                    Place::Inside,
                    Place::Waiting,
                    Place::Invited,
                    Place::Rejected,
                ]);
                let those: Vec<_> = those.into_iter().filter(|slot| of.contains(slot)).collect();
                let (answer, done) = self.world.command(Command::Kick(vec![Person::Id(who)]));
                match answer {
                    Answer::NoSession => assert!(!live),
                    Answer::Nobody(name) => {
                        assert!(live && those.is_empty() && name == who.to_string());
                    }
                    Answer::People(people) => {
                        assert!(live && people == [who] && !those.is_empty());
                        self.thrown_out(&those, event::KICK, &done);
                    }
                    other => panic!("{other:?}"),
                }
                done
            }
            3 if b > 200 => {
                let those = self.at(&[
                    Place::Inside,
                    Place::Waiting,
                    Place::Invited,
                    Place::Rejected,
                ]);
                let (answer, done) = self.world.command(Command::KickAll);
                assert_eq!(
                    answer,
                    if live {
                        Answer::Count(inside)
                    } else {
                        Answer::NoSession
                    }
                );
                self.thrown_out(&those, event::KICK_ALL, &done);
                done
            }
            4..8 => {
                let new = NewPoll {
                    question: "Which?".to_owned(),
                    options: (0..OPTIONS).map(|option| format!("{option}")).collect(),
                    anonymous: b.is_multiple_of(2),
                    hide_votes: false,
                };
                let (answer, done) = self.world.command(Command::Poll(new));
                match answer {
                    Answer::Poll(poll) => self.truth.polls.push(PollTruth {
                        id: poll.poll_id,
                        creator: None,
                        anonymous: b.is_multiple_of(2),
                        votes: Vec::new(),
                    }),
                    other => assert_eq!(other, Answer::NoSession),
                }
                done
            }
            8 => {
                self.world
                    .command(Command::MuteAll {
                        allow_unmute: false,
                    })
                    .1
            }
            9 => {
                let (drop, of) = (b.is_multiple_of(2), self.truth.slots_of(person));
                let (_, done) = self.world.command(Command::Removed {
                    participant: who,
                    drop,
                });
                self.truth.people[person].removed = true;
                let gone = |slot: &usize| self.truth.peers[*slot].place == Place::Gone;
                let those = of
                    .into_iter()
                    .filter(|slot| !gone(slot) && (drop || !self.truth.inside(*slot)));
                let those: Vec<_> = those.collect();
                self.thrown_out(&those, event::KICK, &done);
                done
            }
            10 => {
                self.truth.active = b > 64;
                self.world.meeting.active = b > 64;
                self.world
                    .command(Command::Changed(self.world.meeting.clone()))
                    .1
            }
            11 => {
                let meeting = self.world.meeting.id;
                let token = "token".to_owned();
                let (answer, done) = self.world.command(Command::Transfer {
                    participant: who,
                    meeting,
                    token,
                });
                let here = self.truth.slots_of(person).into_iter();
                let here = here.filter(|slot| {
                    self.truth.inside(*slot) && self.truth.peers[*slot].socket.is_some()
                });
                assert_eq!(answer, Answer::Count(here.count()));
                done
            }
            _ => {
                let payload = Bytes::new();
                self.world
                    .command(Command::Push {
                        event: event::TRANSCRIPT,
                        payload,
                    })
                    .1
            }
        };
        self.settle(done);
    }

    fn pass(&mut self, ms: i64) {
        let done = self.world.pass(ms * 2);
        self.settle(done);
        for slot in self.at(&[Place::Rejected]) {
            let until = self.truth.peers[slot].rejected_ms + self.world.limits.rejected_ms;
            assert!(
                until > self.world.now_ms,
                "the socket of somebody who was turned away stays open"
            );
        }
    }

    /// The room is woken when it wants to.
    fn wake(&mut self) {
        if let Some(at_ms) = self.world.room.wake_at() {
            self.pass_until(at_ms);
        }
    }

    fn pass_until(&mut self, at_ms: i64) {
        let ms = at_ms - self.world.now_ms;
        assert!(ms > 0);
        let done = self.world.pass(ms);
        self.settle(done);
    }

    fn nonsense(&mut self, slot: usize, c: u8) {
        let Some(socket) = self.truth.peers[slot].socket else {
            return;
        };
        let done = if c.is_multiple_of(2) {
            let bytes = Bytes::from(vec![0xFF; usize::from(c)]);
            self.world.take(Input::Frame {
                connection: socket,
                bytes,
            })
        } else {
            let event = [1, 4, 6, 8, 28, 35, 65_535, 131_072, 9 << 16][usize::from(c) % 9];
            let asked = self.world.ask(socket, event, &());
            assert_eq!(asked.code(), 501);
            asked.done
        };
        assert!(done.frames.iter().all(|frame| frame.to == socket) && done.kept.is_empty());
        self.settle(done);
    }

    /// Somebody comes with the peer id of somebody else who is here.
    fn usurp(&mut self, slot: usize, other: usize) {
        let (mine, theirs) = (&self.truth.peers[slot], &self.truth.peers[other]);
        if mine.person == theirs.person || matches!(theirs.place, Place::Gone) {
            return;
        }
        let mut who = mine.who.clone();
        who.peer = theirs.who.peer;
        let (socket, done) = self.world.connect(&who);
        assert_eq!(done.closed.len(), 1);
        assert_eq!((done.closed[0].0, done.closed[0].1.code()), (socket, 1000));
        assert!(done.frames.is_empty() && done.kept.is_empty());
    }

    /// The server goes down, at once or in good order, and another comes up.
    fn crash(&mut self, c: u8) {
        if c.is_multiple_of(2) {
            let (_, done) = self.world.command(Command::Suspend);
            assert!(done.kept.is_empty() && done.closed.iter().all(|(_, how)| how.code() == 1012));
            let here = self
                .truth
                .peers
                .iter()
                .filter(|peer| peer.socket.is_some())
                .count();
            assert_eq!(done.closed.len(), here);
        }
        let now_ms = self.world.now_ms;
        let alive_ms = now_ms - i64::from(c % 5) * 1000;
        self.world.crash(alive_ms);
        self.sockets.clear();
        for slot in self.truth.slots() {
            self.clients[slot].forget();
            let due_ms = now_ms + self.world.limits.grace_ms;
            let peer = &mut self.truth.peers[slot];
            peer.socket = None;
            if peer.place == Place::Inside {
                let entered_ms = peer.stays.last().expect("it entered").0;
                peer.lost_ms = Some(alive_ms.max(entered_ms));
                (peer.due_ms, peer.unseen) = (Some(due_ms), true);
            } else {
                self.truth.leave(slot, Place::Gone, now_ms);
            }
        }
        for person in &mut self.truth.people {
            person.removed = false;
        }
        if self.truth.live && self.truth.insiders().is_empty() {
            self.truth.emptied_ms = Some(now_ms);
        }
        let done = self.world.pass(0);
        self.settle(done);
    }
}
