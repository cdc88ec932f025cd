//! Messages of the app, relayed unchanged (docs/spec/signalling.md 6.9).

use std::collections::BTreeSet;

use parlor_protocol::ids::PeerId;
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::room::{BroadcastMessage, BroadcastType};

use crate::breakout::check_item_count;
use crate::frame::parse_ids;
use crate::output::Refusal;
use crate::peer::can_see;
use crate::room::{Outcome, RequestContext, Room, Step};

/// Type of the message that changes everyone's view.
const SPOTLIGHT: &str = "spotlight";

impl Room {
    /// `broadcastMessage`: relays to all other peers. The reply is the sender's own copy.
    pub(crate) fn broadcast(&mut self, step: &mut Step<'_>, ctx: &RequestContext<'_>) -> Outcome {
        let mut message = self.broadcast_of(ctx)?;
        // The ids have no meaning here and would only enlarge the push.
        message.ids.clear();
        let me = self.peers[ctx.slot].id();
        let others = self
            .peers
            .sockets(|peer| peer.has_joined() && peer.id() != me);
        ctx.reply_and_push(step, others, &message);
        Ok(())
    }

    /// `broadcastToEntity`: relays to some peers of this room, or to other rooms.
    pub(crate) fn broadcast_to_some(
        &mut self,
        step: &mut Step<'_>,
        ctx: &RequestContext<'_>,
    ) -> Outcome {
        let mut message = self.broadcast_of(ctx)?;
        if message.broadcast_type() == BroadcastType::Rooms {
            let peer = &self.peers[ctx.slot];
            if !peer
                .permissions
                .connected_meetings
                .can_alter_connected_meetings
            {
                return Err(Refusal::forbidden("can_alter_connected_meetings"));
            }
            // Each room receives the message once.
            let mut rooms = BTreeSet::new();
            message.ids.retain(|id| rooms.insert(id.clone()));
            check_item_count(ctx, message.ids.len(), "meetings")?;
            self.delegate(step, ctx, &message);
            return Ok(());
        }
        let named = parse_ids::<PeerId>(&message.ids);
        let me = &self.peers[ctx.slot];
        let to = self.peers.sockets(|peer| {
            named.contains(&peer.id()) && (peer.id() == me.id() || can_see(me, peer))
        });
        step.push(to, event::BROADCAST_TO_ENTITY, &message);
        Ok(())
    }

    fn broadcast_of(&self, ctx: &RequestContext<'_>) -> Result<BroadcastMessage, Refusal> {
        let peer = self.joined_peer(ctx.slot)?;
        let message: BroadcastMessage = ctx.message()?;
        if message.r#type == SPOTLIGHT && !peer.permissions.can_spotlight {
            return Err(Refusal::forbidden("can_spotlight"));
        }
        if ctx.request.payload.len() > self.limits.broadcast_bytes {
            return Err(Refusal::new(413, "this message is too large"));
        }
        Ok(message)
    }
}
