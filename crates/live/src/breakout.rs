//! Breakout rooms (docs/spec/signalling.md 6.11). The room only decides who may; meetings are made
//! and people moved by the server, which knows the other rooms.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use parlor_protocol::signal::socket::room::{
    ConnectedMeetingDump, CreateConnectedRoomsRequest, DisableConnectedRoomsRequest,
    GetConnectedRoomsDumpResponse, MovePeersBetweenRoomsRequest,
};
use prost::Message;

use crate::input::Request;
use crate::output::{Delegated, Output, Refusal};
use crate::peer::Seat;
use crate::room::{Outcome, RequestContext, Room, Turn};

impl Room {
    /// `getConnectedRoomsDump`. Every join asks for it, and most meetings have no breakout rooms.
    pub(crate) fn breakout_rooms(
        &mut self,
        turn: &mut Turn<'_>,
        asked: &RequestContext<'_>,
    ) -> Outcome {
        self.inside(asked.seat)?;
        if !self.meeting.is_connected() {
            asked.reply(turn, &self.no_rooms());
            return Ok(());
        }
        let rate = self.limits.breakout_reads;
        let left = self.peers.left(asked.seat);
        let refusal = "breakout rooms are asked for too often: slow down";
        left.breakout_reads.spend(rate, turn.monotonic, refusal)?;
        self.delegate(turn, asked, &());
        Ok(())
    }

    /// `createConnectedRooms`.
    pub(crate) fn make_breakout_rooms(
        &mut self,
        turn: &mut Turn<'_>,
        asked: &RequestContext<'_>,
    ) -> Outcome {
        self.may_alter(asked.seat)?;
        let request: CreateConnectedRoomsRequest = asked.message()?;
        at_most(asked, request.payloads.len(), "breakout rooms")?;
        self.delegate(turn, asked, &request);
        Ok(())
    }

    /// `deleteConnectedRooms`: each once.
    pub(crate) fn remove_breakout_rooms(
        &mut self,
        turn: &mut Turn<'_>,
        asked: &RequestContext<'_>,
    ) -> Outcome {
        self.may_alter(asked.seat)?;
        let mut request: DisableConnectedRoomsRequest = asked.message()?;
        let mut named = BTreeSet::new();
        request
            .payloads
            .retain(|room| named.insert(room.id.clone()));
        at_most(asked, request.payloads.len(), "breakout rooms")?;
        self.delegate(turn, asked, &request);
        Ok(())
    }

    /// `movePeers`: each person once. Clients name somebody twice who is there with two clients.
    pub(crate) fn move_peers(
        &mut self,
        turn: &mut Turn<'_>,
        asked: &RequestContext<'_>,
    ) -> Outcome {
        self.inside(asked.seat)?;
        let mut request: MovePeersBetweenRoomsRequest = asked.message()?;
        self.may_move(asked.seat, &request)?;
        let mut named = BTreeMap::new();
        let mut clash = false;
        request.participants.retain(|moved| {
            let preset = moved.preset_id.clone().filter(|id| !id.is_empty());
            match named.entry(moved.id.clone()) {
                Entry::Vacant(new) => {
                    new.insert(preset);
                    true
                }
                Entry::Occupied(known) => {
                    clash |= *known.get() != preset;
                    false
                }
            }
        });
        if clash {
            let message = "somebody is named twice, with different presets";
            return Err(Refusal::new(400, message));
        }
        at_most(asked, request.participants.len(), "people")?;
        let rate = self.limits.moved;
        let left = self.peers.left(asked.seat);
        let refusal = "too many people are moved: slow down";
        let count = request.participants.len();
        left.moved
            .spend_many(count, rate, turn.monotonic, refusal)?;
        self.delegate(turn, asked, &request);
        Ok(())
    }

    fn may_alter(&self, seat: Seat) -> Outcome {
        let may = &self.inside(seat)?.permissions.connected_meetings;
        if may.can_alter_connected_meetings {
            Ok(())
        } else {
            Err(Refusal::forbidden("can_alter_connected_meetings"))
        }
    }

    /// Whether the peer may move these people, or itself.
    fn may_move(&self, seat: Seat, request: &MovePeersBetweenRoomsRequest) -> Outcome {
        let peer = &self.peers[seat];
        let may = &peer.permissions.connected_meetings;
        if request.source_meeting_id == request.destination_meeting_id {
            return Err(Refusal::new(400, "they would be moved to where they are"));
        }
        // What people may do in a meeting stays theirs when they come back to it, and who asks is
        // somebody else in each.
        let named = |preset: &Option<String>| preset.as_ref().is_some_and(|id| !id.is_empty());
        let presets = request.participants.iter().any(|it| named(&it.preset_id));
        if presets && !peer.permissions.can_change_participant_permissions {
            return Err(Refusal::forbidden("can_change_participant_permissions"));
        }
        if may.can_alter_connected_meetings {
            return Ok(());
        }
        let me = peer.user().to_string();
        let mut moved = request.participants.iter();
        let only_me = moved.all(|moved| moved.id.as_ref() == Some(&me));
        let from_here = request.source_meeting_id() == self.meeting.id.to_string();
        if presets || !only_me || !from_here {
            return Err(Refusal::forbidden("can_alter_connected_meetings"));
        }
        let parent = self.meeting.parent.map(|parent| parent.to_string());
        let to_parent = request.destination_meeting_id == parent && parent.is_some();
        let (allowed, permission) = if to_parent {
            let may = may.can_switch_to_parent_meeting;
            (may, "can_switch_to_parent_meeting")
        } else {
            let may = may.can_switch_connected_meetings;
            (may, "can_switch_connected_meetings")
        };
        if allowed {
            Ok(())
        } else {
            Err(Refusal::forbidden(permission))
        }
    }

    /// What is told of breakout rooms when there are none: the meeting is its own parent. Who is in it
    /// the roster says.
    fn no_rooms(&self) -> GetConnectedRoomsDumpResponse {
        GetConnectedRoomsDumpResponse {
            parent_meeting: Some(ConnectedMeetingDump {
                id: Some(self.meeting.id.to_string()),
                title: Some(self.meeting.title.clone()),
                participants: Vec::new(),
            }),
            meetings: Vec::new(),
        }
    }

    /// Passes a request on to the server, with nothing in it but what was checked.
    pub(crate) fn delegate(
        &self,
        turn: &mut Turn<'_>,
        asked: &RequestContext<'_>,
        checked: &impl Message,
    ) {
        let peer = &self.peers[asked.seat];
        let delegated = Delegated {
            peer: peer.id(),
            participant: peer.user(),
            connection: asked.connection,
            request: Request {
                payload: checked.encode_to_vec().into(),
                ..asked.request.clone()
            },
        };
        turn.emit(Output::Delegate(Box::new(delegated)));
    }
}

/// The bound on what one request makes the server do.
pub(crate) fn at_most(asked: &RequestContext<'_>, count: usize, of: &str) -> Outcome {
    let most = asked.rule.work.most();
    if count <= most {
        Ok(())
    } else {
        Err(Refusal::new(
            400,
            format!("a request names at most {most} {of}"),
        ))
    }
}
