//! Breakout rooms (docs/spec/signalling.md 6.11). The room only checks permissions. The server,
//! which knows the other rooms, creates meetings and moves participants.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use parlor_protocol::signal::socket::room::{
    ConnectedMeetingDump, CreateConnectedRoomsRequest, DisableConnectedRoomsRequest,
    GetConnectedRoomsDumpResponse, MovePeersBetweenRoomsRequest,
};
use prost::Message;

use crate::input::Request;
use crate::output::{DelegatedRequest, Output, Refusal};
use crate::peer::Slot;
use crate::room::{Outcome, RequestContext, Room, Step};

impl Room {
    /// `getConnectedRoomsDump`. Clients send it on every join, and most meetings have no breakout
    /// rooms.
    pub(crate) fn breakout_rooms(
        &mut self,
        step: &mut Step<'_>,
        ctx: &RequestContext<'_>,
    ) -> Outcome {
        self.joined_peer(ctx.slot)?;
        if !self.meeting.in_breakout_family() {
            ctx.reply(step, &self.no_rooms());
            return Ok(());
        }
        let rate = self.limits.breakout_reads;
        let allowances = self.peers.allowances(ctx.slot);
        let refusal = "too many reads of breakout rooms: slow down";
        allowances
            .breakout_reads
            .spend(rate, step.monotonic, refusal)?;
        self.delegate(step, ctx, &());
        Ok(())
    }

    /// `createConnectedRooms`.
    pub(crate) fn create_breakout_rooms(
        &mut self,
        step: &mut Step<'_>,
        ctx: &RequestContext<'_>,
    ) -> Outcome {
        self.check_can_alter_rooms(ctx.slot)?;
        let request: CreateConnectedRoomsRequest = ctx.message()?;
        check_item_count(ctx, request.payloads.len(), "breakout rooms")?;
        self.delegate(step, ctx, &request);
        Ok(())
    }

    /// `deleteConnectedRooms`. Duplicates are dropped.
    pub(crate) fn delete_breakout_rooms(
        &mut self,
        step: &mut Step<'_>,
        ctx: &RequestContext<'_>,
    ) -> Outcome {
        self.check_can_alter_rooms(ctx.slot)?;
        let mut request: DisableConnectedRoomsRequest = ctx.message()?;
        let mut named = BTreeSet::new();
        request
            .payloads
            .retain(|room| named.insert(room.id.clone()));
        check_item_count(ctx, request.payloads.len(), "breakout rooms")?;
        self.delegate(step, ctx, &request);
        Ok(())
    }

    /// `movePeers`. Duplicates are dropped: clients list a participant with two peers twice.
    pub(crate) fn move_peers(&mut self, step: &mut Step<'_>, ctx: &RequestContext<'_>) -> Outcome {
        self.joined_peer(ctx.slot)?;
        let mut request: MovePeersBetweenRoomsRequest = ctx.message()?;
        self.check_can_move(ctx.slot, &request)?;
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
            let message = "a participant is listed twice with different presets";
            return Err(Refusal::new(400, message));
        }
        check_item_count(ctx, request.participants.len(), "participants")?;
        let rate = self.limits.moved_participants;
        let allowances = self.peers.allowances(ctx.slot);
        let refusal = "too many moved participants: slow down";
        let count = request.participants.len();
        allowances
            .moved
            .spend_many(count, rate, step.monotonic, refusal)?;
        self.delegate(step, ctx, &request);
        Ok(())
    }

    fn check_can_alter_rooms(&self, slot: Slot) -> Outcome {
        let may = &self.joined_peer(slot)?.permissions.connected_meetings;
        if may.can_alter_connected_meetings {
            Ok(())
        } else {
            Err(Refusal::forbidden("can_alter_connected_meetings"))
        }
    }

    /// Checks whether the peer may move these participants, or itself.
    fn check_can_move(&self, slot: Slot, request: &MovePeersBetweenRoomsRequest) -> Outcome {
        let peer = &self.peers[slot];
        let may = &peer.permissions.connected_meetings;
        if request.source_meeting_id == request.destination_meeting_id {
            return Err(Refusal::new(
                400,
                "source and destination are the same meeting",
            ));
        }
        // A preset set by a move is kept when the participant returns, and the requester may have
        // other permissions in each meeting.
        let named = |preset: &Option<String>| preset.as_ref().is_some_and(|id| !id.is_empty());
        let presets = request.participants.iter().any(|it| named(&it.preset_id));
        if presets && !peer.permissions.can_change_participant_permissions {
            return Err(Refusal::forbidden("can_change_participant_permissions"));
        }
        if may.can_alter_connected_meetings {
            return Ok(());
        }
        let me = peer.participant_id().to_string();
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

    /// The reply for a meeting without breakout rooms: the meeting is its own parent. Its
    /// participants are in the roster.
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

    /// Delegates a request to the server, with the checked message as its payload.
    pub(crate) fn delegate(
        &self,
        step: &mut Step<'_>,
        ctx: &RequestContext<'_>,
        checked: &impl Message,
    ) {
        let peer = &self.peers[ctx.slot];
        let delegated = DelegatedRequest {
            peer: peer.id(),
            participant: peer.participant_id(),
            connection: ctx.connection,
            request: Request {
                payload: checked.encode_to_vec().into(),
                ..ctx.request.clone()
            },
        };
        step.emit(Output::Delegate(Box::new(delegated)));
    }
}

/// Rejects requests with more items than the event's rule allows.
pub(crate) fn check_item_count(ctx: &RequestContext<'_>, count: usize, of: &str) -> Outcome {
    let max = ctx.rule.effect.max();
    if count <= max {
        Ok(())
    } else {
        Err(Refusal::new(
            400,
            format!("a request has at most {max} {of}"),
        ))
    }
}
