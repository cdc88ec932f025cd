//! Breakout rooms (contract: signalling, 6.11). The room only decides who may; meetings are made
//! and people moved by the server, which knows the other rooms.

use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::room::MovePeersBetweenRoomsRequest;

use crate::output::{Delegated, Output, Refusal};
use crate::room::{Asked, Outcome, Room, Turn};

impl Room {
    pub(crate) fn breakout(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>) -> Outcome {
        let peer = &self.peers[asked.seat];
        if !peer.is_inside() {
            return Err(Refusal::new(403, "join the meeting first"));
        }
        let may = &peer.permissions.connected_meetings;
        match asked.request.event {
            event::GET_CONNECTED_ROOMS_DUMP => {}
            event::MOVE_PEERS if !may.can_alter_connected_meetings => {
                let request: MovePeersBetweenRoomsRequest = asked.request.message()?;
                let me = peer.user().to_string();
                let only_me = request.participants.iter().all(|moved| {
                    moved.id.as_deref() == Some(me.as_str()) && moved.preset_id.is_none()
                });
                let from_here = request.source_meeting_id() == self.meeting.id.to_string();
                let parent = self.meeting.parent.map(|parent| parent.to_string());
                let to_parent = request.destination_meeting_id == parent && parent.is_some();
                let permission = if to_parent {
                    (
                        may.can_switch_to_parent_meeting,
                        "can_switch_to_parent_meeting",
                    )
                } else {
                    (
                        may.can_switch_connected_meetings,
                        "can_switch_connected_meetings",
                    )
                };
                if !only_me || !from_here {
                    return Err(Refusal::forbidden("can_alter_connected_meetings"));
                }
                if !permission.0 {
                    return Err(Refusal::forbidden(permission.1));
                }
            }
            _ if !may.can_alter_connected_meetings => {
                return Err(Refusal::forbidden("can_alter_connected_meetings"));
            }
            _ => {}
        }
        let delegated = self.delegated(asked);
        turn.emit(Output::Delegate(Box::new(delegated)));
        Ok(())
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
