//! A model of the official client: its state, derived from the frames it receives.

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

/// The store that the simulated clients use.
pub(crate) const STORE: &str = "scores";

/// A client's state. A part is `None` until the client has requested it.
#[derive(Debug, Default)]
pub(crate) struct Client {
    pub(crate) roster: Option<BTreeMap<String, StageType>>,
    pub(crate) chat: Option<Vec<ChatMessage>>,
    pub(crate) polls: Option<BTreeMap<String, Poll>>,
    pub(crate) store: Option<BTreeMap<String, Vec<u8>>>,
    pub(crate) waiting: Option<BTreeSet<String>>,
    /// The producers of each peer, and whether they are paused.
    pub(crate) tracks: Option<BTreeMap<String, BTreeMap<String, bool>>>,
    /// Speakers, most recent first.
    pub(crate) speakers: Vec<String>,
    /// The client was admitted and will join again.
    pub(crate) invited: bool,
    pub(crate) rejected: bool,
    /// The client was kicked and will close its connection.
    pub(crate) kicked: bool,
}

fn stage(peer: &Peer) -> StageType {
    StageType::try_from(peer.stage_type.expect("a peer has a stage type"))
        .expect("the stage type is valid")
}

fn check_shown(peer: &Peer) {
    let flags = peer.flags.as_ref().expect("a peer has flags");
    assert!(
        !flags.hidden_participant,
        "a hidden peer is shown: {peer:?}"
    );
    assert_eq!(flags.recorder_type, "NONE");
    assert!(!peer.waitlisted, "a waiting peer is shown: {peer:?}");
}

/// A peer's id and its producers.
fn published(peer: &RoomParticipants) -> (String, BTreeMap<String, bool>) {
    let states = peer.producer_states.iter();
    let states = states.map(|state| (state.producer_id.clone(), state.pause));
    (peer.peer_id.clone(), states.collect())
}

impl Client {
    pub(crate) fn receive(&mut self, me: &str, frame: &Received) {
        match frame.event {
            event::JOIN_ROOM => {
                let peer = frame.decode::<PeerInfoResponse>().peer.expect("a peer");
                if peer.peer_id != me {
                    check_shown(&peer);
                    if let Some(roster) = &mut self.roster {
                        roster.insert(peer.peer_id.clone(), stage(&peer));
                    }
                }
            }
            event::LEAVE_ROOM => {
                let peer = frame.decode::<PeerInfoResponse>().peer.expect("a peer");
                assert_ne!(peer.peer_id, me, "the client is told that it left itself");
                self.speakers.retain(|speaker| *speaker != peer.peer_id);
                if let Some(roster) = &mut self.roster {
                    let known = roster.remove(&peer.peer_id);
                    assert!(known.is_some(), "an unknown peer left: {peer:?}");
                }
            }
            event::GET_ROOM_PEERS_INFO => {
                let peers = frame.decode::<RoomPeersInfoResponse>().peers;
                let others = peers.iter().filter(|peer| peer.peer_id != me);
                let others = others.inspect(|peer| check_shown(peer));
                self.roster = Some(
                    others
                        .map(|peer| (peer.peer_id.clone(), stage(peer)))
                        .collect(),
                );
                assert_eq!(peers.len(), self.roster.as_ref().map_or(0, BTreeMap::len));
            }
            event::PEER_STAGE_STATUS_UPDATE => {
                let status: PeerStatusUpdate = frame.decode();
                if let Some(roster) = self.roster.as_mut().filter(|_| status.peer_id != me) {
                    let known = roster.get_mut(&status.peer_id);
                    *known.expect("the stage update is of a known peer") = status.stage_type();
                }
            }
            event::GET_WAITING_ROOM_REQUESTS => {
                let list = frame.decode::<GetWaitingRoomRequests>().requests;
                if self.waiting.is_some() || frame.id.is_some() {
                    self.waiting = Some(list.into_iter().map(|entry| entry.user_id).collect());
                }
            }
            event::WAITING_ROOM_REQUEST_ACCEPTED => self.invited = true,
            event::WAITING_ROOM_REQUEST_DENIED => self.rejected = true,
            event::KICK | event::KICK_ALL => {
                assert!(!self.kicked, "the client was kicked twice");
                self.kicked = true;
            }
            event::STORE_INSERT_KEYS | event::STORE_DELETE_KEYS | event::STORE_GET_KEYS => {
                self.receive_store(frame);
            }
            event::CREATE_POLL | event::VOTE_POLL | event::UPDATE_POLL => {
                let poll = frame.decode::<UpdatePollResponse>().poll.expect("a poll");
                if let Some(polls) = &mut self.polls {
                    polls.insert(poll.poll_id.clone(), poll);
                }
            }
            event::GET_POLLS => {
                let polls = frame.decode::<GetPollsResponse>().polls;
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
                let snapshot: PeerJoinCompleteResponse = frame.decode();
                let peers = snapshot.participants.iter();
                self.tracks = Some(peers.map(published).collect());
                let heard = snapshot.selected_peers.expect("a list");
                self.speakers = heard.audio_peers;
                return;
            }
            event::SELECTED_PEERS_DIFF => {
                self.receive_speakers(&frame.decode());
                return;
            }
            _ => {}
        }
        let Some(tracks) = &mut self.tracks else {
            return;
        };
        match frame.event {
            event::MEDIA_PEER_JOINED => {
                let peer = frame.decode::<PeerJoinBroadcastResponse>().participant;
                let (id, states) = published(&peer.expect("a peer"));
                let known = tracks.insert(id, states).unwrap_or_default();
                assert!(known.is_empty(), "the client already knows {known:?}");
            }
            event::MEDIA_PEER_LEFT => {
                let left: PeerLeaveBroadcastResponse = frame.decode();
                tracks.remove(&left.participant_id);
            }
            event::PRODUCER_CREATED => {
                let push: PeerProducerCreateBroadcastResponse = frame.decode();
                let state = push.producer_state.expect("a state");
                assert_ne!(push.participant_id, me);
                let theirs = tracks.entry(push.participant_id).or_default();
                let known = theirs.insert(state.producer_id, state.pause);
                assert!(known.is_none(), "the client already knows the producer");
            }
            event::PRODUCER_TOGGLED => {
                let push: PeerProducerToggleBroadcastResponse = frame.decode();
                let state = push.producer_state.expect("a state");
                if push.participant_id == me {
                    assert!(state.pause, "another peer resumed the producer");
                    return;
                }
                let theirs = tracks.get_mut(&push.participant_id);
                let track = theirs.and_then(|theirs| theirs.get_mut(&state.producer_id));
                *track.expect("the client knows the producer") = state.pause;
            }
            event::PRODUCER_CLOSED => {
                let push: PeerProducerCloseBroadcastResponse = frame.decode();
                let state = push.producer_state.expect("a state");
                let theirs = tracks.get_mut(&push.participant_id);
                let ended = theirs.and_then(|theirs| theirs.remove(&state.producer_id));
                assert!(ended.is_some(), "an unknown producer was closed");
            }
            _ => {}
        }
    }

    /// Applies a change like the official client.
    fn receive_speakers(&mut self, change: &SelectedPeersDiffResponse) {
        for entry in &change.entries {
            // Pinned peers are in a separate list.
            if matches!(entry.priority, -1 | 246_267_631) {
                continue;
            }
            self.speakers.retain(|peer| *peer != entry.peer_id);
            if entry.priority != 229_490_415 {
                let at = usize::try_from(entry.priority - 1).expect("a position");
                let at = at.min(self.speakers.len());
                self.speakers.insert(at, entry.peer_id.clone());
            }
        }
    }

    fn receive_store(&mut self, frame: &Received) {
        let change: PluginStoreResponse = frame.decode();
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
                self.chat = Some(frame.decode::<GetChatMessagesResponse>().messages);
                return;
            }
            event::SEND_MESSAGE_TO_ROOM => frame.decode::<SendChatMessageToRoomResponse>().message,
            event::SEND_MESSAGE_TO_PEERS => {
                frame.decode::<SendChatMessageToPeersResponse>().message
            }
            event::EDIT_MESSAGE => frame.decode::<EditChatMessageResponse>().message,
            event::PIN_MESSAGE => frame.decode::<PinChatMessageResponse>().message,
            event::DELETE_MESSAGE => {
                let id = frame.decode::<DeleteChatMessageResponse>().chat_id;
                if let Some(chat) = &mut self.chat {
                    let existing = chat.iter().position(|message| message.chat_id == id);
                    chat.remove(existing.expect("the client knows the deleted message"));
                }
                return;
            }
            _ => return,
        };
        let message = changed.expect("a message");
        let Some(chat) = &mut self.chat else { return };
        let old = chat.iter_mut().find(|old| old.chat_id == message.chat_id);
        let new = matches!(
            frame.event,
            event::SEND_MESSAGE_TO_ROOM | event::SEND_MESSAGE_TO_PEERS
        );
        match old {
            Some(_) if new => panic!("the message was sent twice: {message:?}"),
            Some(old) => *old = message,
            None if new => chat.push(message),
            None => panic!("an unknown message was changed: {message:?}"),
        }
    }

    /// Forgets everything when a new connection is opened.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }
}
