//! Messages of the app, passed on as they are (docs/spec/signalling.md 6.9).

use std::collections::BTreeSet;

use parlor_protocol::ids::PeerId;
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::room::{BroadcastMessage, BroadcastType};

use crate::breakout::at_most;
use crate::frame::named;
use crate::output::Refusal;
use crate::peer::sees;
use crate::room::{Outcome, RequestContext, Room, Turn};

/// The type of the message that moves everybody's view.
const SPOTLIGHT: &str = "spotlight";

impl Room {
    /// `broadcastMessage`: to everybody; the sender's reply is its own copy.
    pub(crate) fn broadcast(&mut self, turn: &mut Turn<'_>, asked: &RequestContext<'_>) -> Outcome {
        let mut message = self.broadcast_of(asked)?;
        // They say nothing here, and everybody would be sent them.
        message.ids.clear();
        let me = self.peers[asked.seat].id();
        let others = self
            .peers
            .sockets(|peer| peer.is_inside() && peer.id() != me);
        asked.tell(turn, others, &message);
        Ok(())
    }

    /// `broadcastToEntity`: to some peers of this room, or to other rooms.
    pub(crate) fn broadcast_to_some(
        &mut self,
        turn: &mut Turn<'_>,
        asked: &RequestContext<'_>,
    ) -> Outcome {
        let mut message = self.broadcast_of(asked)?;
        if message.broadcast_type() == BroadcastType::Rooms {
            let peer = &self.peers[asked.seat];
            if !peer
                .permissions
                .connected_meetings
                .can_alter_connected_meetings
            {
                return Err(Refusal::forbidden("can_alter_connected_meetings"));
            }
            // Each room hears it once, and no room of the others.
            let mut rooms = BTreeSet::new();
            message.ids.retain(|id| rooms.insert(id.clone()));
            at_most(asked, message.ids.len(), "meetings")?;
            self.delegate(turn, asked, &message);
            return Ok(());
        }
        let named = named::<PeerId>(&message.ids);
        let me = &self.peers[asked.seat];
        let to = self
            .peers
            .sockets(|peer| named.contains(&peer.id()) && (peer.id() == me.id() || sees(me, peer)));
        turn.push(to, event::BROADCAST_TO_ENTITY, &message);
        Ok(())
    }

    fn broadcast_of(&self, asked: &RequestContext<'_>) -> Result<BroadcastMessage, Refusal> {
        let peer = self.inside(asked.seat)?;
        let message: BroadcastMessage = asked.message()?;
        if message.r#type == SPOTLIGHT && !peer.permissions.can_spotlight {
            return Err(Refusal::forbidden("can_spotlight"));
        }
        if asked.request.payload.len() > self.limits.broadcast_bytes {
            return Err(Refusal::new(413, "this message is too large"));
        }
        Ok(message)
    }
}
