//! What a client believes, from what it is sent: a model of the official one.

use std::collections::{BTreeMap, BTreeSet};

use parlor_protocol::signal::event;
use parlor_protocol::signal::media::edge::{
    PeerJoinBroadcastResponse, PeerJoinCompleteResponse, PeerLeaveBroadcastResponse,
    PeerProducerCloseBroadcastResponse, PeerProducerCreateBroadcastResponse,
    PeerProducerToggleBroadcastResponse, RoomParticipants, SelectedPeersDiffResponse,
};
use parlor_protocol::signal::socket::chat::{
    ChatMessage, DeleteChatMessageResponse, EditChatMessageResponse, GetChatMessagesResponse,
    PinChatMessageResponse, SendChatMessageToPeersResponse, SendChatMessageToRoomResponse,
};
use parlor_protocol::signal::socket::plugin::PluginStoreResponse;
use parlor_protocol::signal::socket::polls::{GetPollsResponse, Poll, UpdatePollResponse};
use parlor_protocol::signal::socket::room::{
    GetWaitingRoomRequests, Peer, PeerInfoResponse, PeerStatusUpdate, RoomPeersInfoResponse,
    StageType,
};

use crate::world::Received;

/// The store that every client of the simulation has.
pub(crate) const STORE: &str = "scores";

/// Parts are absent until the client has asked for them.
#[derive(Debug, Default)]
pub(crate) struct Client {
    pub(crate) roster: Option<BTreeMap<String, StageType>>,
    pub(crate) chat: Option<Vec<ChatMessage>>,
    pub(crate) polls: Option<BTreeMap<String, Poll>>,
    pub(crate) store: Option<BTreeMap<String, Vec<u8>>>,
    pub(crate) waiting: Option<BTreeSet<String>>,
    /// What each peer publishes, and whether it is paused.
    pub(crate) tracks: Option<BTreeMap<String, BTreeMap<String, bool>>>,
    /// Who has spoken, the latest first.
    pub(crate) speakers: Vec<String>,
    /// It was let in, and joins again.
    pub(crate) invited: bool,
    pub(crate) rejected: bool,
    /// It was thrown out, and closes its socket.
    pub(crate) out: bool,
}

fn stage(peer: &Peer) -> StageType {
    StageType::try_from(peer.stage_type.expect("a peer says where it stands")).expect("a stage")
}

fn good(peer: &Peer) {
    let flags = peer.flags.as_ref().expect("a peer has flags");
    assert!(
        !flags.hidden_participant,
        "a hidden peer is shown: {peer:?}"
    );
    assert_eq!(flags.recorder_type, "NONE");
    assert!(!peer.waitlisted, "somebody who waits is shown: {peer:?}");
}

/// A peer, and what it publishes.
fn published(peer: &RoomParticipants) -> (String, BTreeMap<String, bool>) {
    let states = peer.producer_states.iter();
    let states = states.map(|state| (state.producer_id.clone(), state.pause));
    (peer.peer_id.clone(), states.collect())
}

impl Client {
    pub(crate) fn receive(&mut self, me: &str, frame: &Received) {
        match frame.event {
            event::JOIN_ROOM => {
                let peer = frame.read::<PeerInfoResponse>().peer.expect("a peer");
                if peer.peer_id != me {
                    good(&peer);
                    if let Some(roster) = &mut self.roster {
                        roster.insert(peer.peer_id.clone(), stage(&peer));
                    }
                }
            }
            event::LEAVE_ROOM => {
                let peer = frame.read::<PeerInfoResponse>().peer.expect("a peer");
                assert_ne!(peer.peer_id, me, "it is told that it has left");
                self.speakers.retain(|speaker| *speaker != peer.peer_id);
                if let Some(roster) = &mut self.roster {
                    let known = roster.remove(&peer.peer_id);
                    assert!(
                        known.is_some(),
                        "somebody left whom it did not know: {peer:?}"
                    );
                }
            }
            event::GET_ROOM_PEERS_INFO => {
                let peers = frame.read::<RoomPeersInfoResponse>().peers;
                let others = peers.iter().filter(|peer| peer.peer_id != me);
                let others = others.inspect(|peer| good(peer));
                self.roster = Some(
                    others
                        .map(|peer| (peer.peer_id.clone(), stage(peer)))
                        .collect(),
                );
                assert_eq!(peers.len(), self.roster.as_ref().map_or(0, BTreeMap::len));
            }
            event::PEER_STAGE_STATUS_UPDATE => {
                let status: PeerStatusUpdate = frame.read();
                if let Some(roster) = self.roster.as_mut().filter(|_| status.peer_id != me) {
                    let known = roster.get_mut(&status.peer_id);
                    *known.expect("the stage of somebody whom it knows") = status.stage_type();
                }
            }
            event::GET_WAITING_ROOM_REQUESTS => {
                let list = frame.read::<GetWaitingRoomRequests>().requests;
                if self.waiting.is_some() || frame.id.is_some() {
                    self.waiting = Some(list.into_iter().map(|who| who.user_id).collect());
                }
            }
            event::WAITING_ROOM_REQUEST_ACCEPTED => self.invited = true,
            event::WAITING_ROOM_REQUEST_DENIED => self.rejected = true,
            event::KICK | event::KICK_ALL => {
                assert!(!self.out, "thrown out twice");
                self.out = true;
            }
            event::STORE_INSERT_KEYS | event::STORE_DELETE_KEYS | event::STORE_GET_KEYS => {
                self.receive_store(frame);
            }
            event::CREATE_POLL | event::VOTE_POLL | event::UPDATE_POLL => {
                let poll = frame.read::<UpdatePollResponse>().poll.expect("a poll");
                if let Some(polls) = &mut self.polls {
                    polls.insert(poll.poll_id.clone(), poll);
                }
            }
            event::GET_POLLS => {
                let polls = frame.read::<GetPollsResponse>().polls;
                let polls = polls.into_iter().map(|poll| (poll.poll_id.clone(), poll));
                self.polls = Some(polls.collect());
            }
            number if number >> 24 == 3 => self.receive_media(me, frame),
            _ => self.receive_chat(frame),
        }
    }

    fn receive_media(&mut self, me: &str, frame: &Received) {
        match frame.event {
            event::MEDIA_JOIN_COMPLETE => {
                let snapshot: PeerJoinCompleteResponse = frame.read();
                let peers = snapshot.participants.iter();
                self.tracks = Some(peers.map(published).collect());
                let heard = snapshot.selected_peers.expect("a list");
                self.speakers = heard.audio_peers;
                return;
            }
            event::SELECTED_PEERS_DIFF => {
                self.receive_speakers(&frame.read());
                return;
            }
            _ => {}
        }
        let Some(tracks) = &mut self.tracks else {
            return;
        };
        match frame.event {
            event::MEDIA_PEER_JOINED => {
                let peer = frame.read::<PeerJoinBroadcastResponse>().participant;
                let (id, states) = published(&peer.expect("a peer"));
                let known = tracks.insert(id, states).unwrap_or_default();
                assert!(known.is_empty(), "it is told twice of {known:?}");
            }
            event::MEDIA_PEER_LEFT => {
                let gone: PeerLeaveBroadcastResponse = frame.read();
                tracks.remove(&gone.participant_id);
            }
            event::PRODUCER_CREATED => {
                let told: PeerProducerCreateBroadcastResponse = frame.read();
                let state = told.producer_state.expect("a state");
                assert_ne!(told.participant_id, me);
                let theirs = tracks.entry(told.participant_id).or_default();
                let known = theirs.insert(state.producer_id, state.pause);
                assert!(known.is_none(), "it is told twice of a track");
            }
            event::PRODUCER_TOGGLED => {
                let told: PeerProducerToggleBroadcastResponse = frame.read();
                let state = told.producer_state.expect("a state");
                if told.participant_id == me {
                    assert!(state.pause, "somebody else turns it on");
                    return;
                }
                let theirs = tracks.get_mut(&told.participant_id);
                let track = theirs.and_then(|theirs| theirs.get_mut(&state.producer_id));
                *track.expect("a track that it knows") = state.pause;
            }
            event::PRODUCER_CLOSED => {
                let told: PeerProducerCloseBroadcastResponse = frame.read();
                let state = told.producer_state.expect("a state");
                let theirs = tracks.get_mut(&told.participant_id);
                let ended = theirs.and_then(|theirs| theirs.remove(&state.producer_id));
                assert!(ended.is_some(), "a track ends that it does not know");
            }
            _ => {}
        }
    }

    /// As the official client reads it.
    fn receive_speakers(&mut self, change: &SelectedPeersDiffResponse) {
        for entry in &change.entries {
            // Those who are pinned are on a list of their own.
            if matches!(entry.priority, -1 | 246_267_631) {
                continue;
            }
            self.speakers.retain(|peer| *peer != entry.peer_id);
            if entry.priority != 229_490_415 {
                let at = usize::try_from(entry.priority - 1).expect("a place");
                let at = at.min(self.speakers.len());
                self.speakers.insert(at, entry.peer_id.clone());
            }
        }
    }

    fn receive_store(&mut self, frame: &Received) {
        let change: PluginStoreResponse = frame.read();
        if change.store_name != STORE {
            return;
        }
        if frame.event == event::STORE_GET_KEYS {
            self.store = Some(BTreeMap::new());
        }
        let Some(store) = &mut self.store else { return };
        for item in change.store_items {
            if frame.event == event::STORE_DELETE_KEYS {
                store.remove(&item.store_key);
            } else {
                store.insert(item.store_key, item.payload.to_vec());
            }
        }
    }

    fn receive_chat(&mut self, frame: &Received) {
        let changed = match frame.event {
            event::GET_MESSAGES => {
                self.chat = Some(frame.read::<GetChatMessagesResponse>().messages);
                return;
            }
            event::SEND_MESSAGE_TO_ROOM => frame.read::<SendChatMessageToRoomResponse>().message,
            event::SEND_MESSAGE_TO_PEERS => frame.read::<SendChatMessageToPeersResponse>().message,
            event::EDIT_MESSAGE => frame.read::<EditChatMessageResponse>().message,
            event::PIN_MESSAGE => frame.read::<PinChatMessageResponse>().message,
            event::DELETE_MESSAGE => {
                let id = frame.read::<DeleteChatMessageResponse>().chat_id;
                if let Some(chat) = &mut self.chat {
                    let there = chat.iter().position(|message| message.chat_id == id);
                    chat.remove(there.expect("a message that it has is deleted"));
                }
                return;
            }
            _ => return,
        };
        let message = changed.expect("the message is there");
        let Some(chat) = &mut self.chat else { return };
        let old = chat.iter_mut().find(|old| old.chat_id == message.chat_id);
        let new = matches!(
            frame.event,
            event::SEND_MESSAGE_TO_ROOM | event::SEND_MESSAGE_TO_PEERS
        );
        match old {
            Some(_) if new => panic!("the message came twice: {message:?}"),
            Some(old) => *old = message,
            None if new => chat.push(message),
            None => panic!("a message changes that it does not have: {message:?}"),
        }
    }

    /// The socket is new: nothing is believed until it is asked for again.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }
}
