//! Breakout rooms (contract: signalling, 6.11). The room only decides who may; meetings are made
//! and people moved by the server, which knows the other rooms.

use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::room::{
    ConnectedMeetingDump, GetConnectedRoomsDumpResponse, MovePeersBetweenRoomsRequest,
};

use crate::output::{Delegated, Output, Refusal};
use crate::room::{Asked, Outcome, Room, Turn};

impl Room {
    pub(crate) fn breakout(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>) -> Outcome {
        let peer = self.inside(asked.seat)?;
        let may = &peer.permissions.connected_meetings;
        match asked.request.event {
            // Every join asks for it, and most meetings have no breakout rooms.
            event::GET_CONNECTED_ROOMS_DUMP if !self.meeting.is_connected() => {
                asked.reply(turn, &self.no_rooms());
                return Ok(());
            }
            event::GET_CONNECTED_ROOMS_DUMP => {
                let rate = self.limits.breakout_reads;
                let left = self.peers.left(asked.seat);
                let refusal = "breakout rooms are asked for too often: slow down";
                left.breakout_reads.spend(rate, turn.now_ms, refusal)?;
            }
            event::MOVE_PEERS => self.may_move(asked)?,
            _ if !may.can_alter_connected_meetings => {
                return Err(Refusal::forbidden("can_alter_connected_meetings"));
            }
            _ => {}
        }
        let delegated = self.delegated(asked);
        turn.emit(Output::Delegate(Box::new(delegated)));
        Ok(())
    }

    /// Whether the peer may move these people, or itself.
    fn may_move(&self, asked: &Asked<'_>) -> Outcome {
        let request: MovePeersBetweenRoomsRequest = asked.request.message()?;
        let peer = &self.peers[asked.seat];
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

    /// Passes a request on to the server.
    pub(crate) fn delegated(&self, asked: &Asked<'_>) -> Delegated {
        let peer = &self.peers[asked.seat];
        Delegated {
            peer: peer.id(),
            participant: peer.user(),
            connection: asked.connection,
            request: asked.request.clone(),
        }
    }
}
