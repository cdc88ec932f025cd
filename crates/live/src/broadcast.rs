//! Messages of the app, passed on as they are (contract: signalling, 6.9).

use parlor_protocol::ids::PeerId;
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::room::{BroadcastMessage, BroadcastType};

use crate::frame::named;
use crate::output::{Output, Refusal};
use crate::peer::sees;
use crate::room::{Asked, Outcome, Room, Turn};

/// The type of the message that moves everybody's view.
const SPOTLIGHT: &str = "spotlight";

impl Room {
    /// `broadcastMessage`: to everybody; the sender's reply is its own copy.
    pub(crate) fn broadcast(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>) -> Outcome {
        let mut message = self.broadcast_of(turn, asked)?;
        // They say nothing here, and everybody would be sent them.
        message.ids.clear();
        let me = self.peers[asked.seat].id();
        let others = self
            .peers
            .sockets(|peer| peer.is_inside() && peer.id() != me);
        turn.push(others, event::BROADCAST_MESSAGE, &message);
        asked.reply(turn, &message);
        Ok(())
    }

    /// `broadcastToEntity`: to some peers of this room, or to other rooms.
    pub(crate) fn broadcast_to_some(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>) -> Outcome {
        let message = self.broadcast_of(turn, asked)?;
        if message.broadcast_type() == BroadcastType::Rooms {
            let peer = &self.peers[asked.seat];
            if !peer
                .permissions
                .connected_meetings
                .can_alter_connected_meetings
            {
                return Err(Refusal::forbidden("can_alter_connected_meetings"));
            }
            let delegated = self.delegated(asked);
            turn.emit(Output::Delegate(Box::new(delegated)));
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

    fn broadcast_of(
        &mut self,
        turn: &Turn<'_>,
        asked: &Asked<'_>,
    ) -> Result<BroadcastMessage, Refusal> {
        let rate = self.limits.broadcasts;
        let peer = self.inside(asked.seat)?;
        let message: BroadcastMessage = asked.request.message()?;
        if message.r#type == SPOTLIGHT && !peer.permissions.can_spotlight {
            return Err(Refusal::forbidden("can_spotlight"));
        }
        if asked.request.payload.len() > self.limits.broadcast_bytes {
            return Err(Refusal::new(413, "this message is too large"));
        }
        let left = self.peers.left(asked.seat);
        let refusal = "too many broadcasts: slow down";
        left.broadcasts.spend(rate, turn.now_ms, refusal)?;
        Ok(message)
    }
}
