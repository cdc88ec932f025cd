//! What people may do, read and changed while the call runs (docs/spec/signalling.md 6.10).

use std::collections::{BTreeMap, BTreeSet};

use parlor_protocol::ids::ParticipantId;
use parlor_protocol::preset::{
    MediaKindPermission, MediaPermission, Permissions, RecorderType, WaitingRoomType,
};
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::preset as wire;
use parlor_protocol::signal::socket::preset::{
    PeerPreset, PresetUpdates, ReadPeersPresetRequest, ReadPeersPresetResponse, UpdatePeerPreset,
    UpdatePeersPresetRequest, UpdatePeersPresetResponse,
};
use parlor_protocol::signal::socket::room as wire_room;
use parlor_protocol::signal::socket::room::StageType;
use prost::Message;
use serde::Serialize;

use crate::breakout::at_most;
use crate::frame::named;
use crate::output::{EntryKind, Refusal};
use crate::peer::{Peer, Seat};
use crate::room::{Act, Outcome, RequestContext, Room, Turn};
use crate::roster::first_stage;

/// The permissions with what was changed about them. Fields that a patch does not set stay.
pub(crate) fn patched(permissions: &Permissions, patch: &PresetUpdates) -> Permissions {
    let mut now = permissions.clone();
    let set = |field: &mut bool, value: Option<bool>| *field = value.unwrap_or(*field);
    if let Some(polls) = &patch.polls {
        set(&mut now.polls.can_create, polls.can_create);
        set(&mut now.polls.can_vote, polls.can_vote);
        set(&mut now.polls.can_view, polls.can_view);
    }
    if let Some(plugins) = &patch.plugins {
        set(&mut now.plugins.can_close, plugins.can_close);
        set(&mut now.plugins.can_start, plugins.can_start);
    }
    if let Some(chat) = &patch.chat {
        if let Some(public) = &chat.public {
            set(&mut now.chat.public.can_send, public.can_send);
            set(&mut now.chat.public.text, public.text);
            set(&mut now.chat.public.files, public.files);
        }
        if let Some(private) = &chat.private {
            set(&mut now.chat.private.can_send, private.can_send);
            set(&mut now.chat.private.can_receive, private.can_receive);
            set(&mut now.chat.private.text, private.text);
            set(&mut now.chat.private.files, private.files);
        }
    }
    if let Some(rooms) = &patch.connected_meetings {
        let field = &mut now.connected_meetings;
        set(
            &mut field.can_alter_connected_meetings,
            rooms.can_alter_connected_meetings,
        );
        set(
            &mut field.can_switch_to_parent_meeting,
            rooms.can_switch_to_parent_meeting,
        );
        set(
            &mut field.can_switch_connected_meetings,
            rooms.can_switch_connected_meetings,
        );
    }
    if let Some(media) = &patch.media {
        set_media(&mut now.media.audio, media.audio.as_ref());
        set_media(&mut now.media.video, media.video.as_ref());
        set_media(&mut now.media.screenshare, media.screenshare.as_ref());
    }
    set(
        &mut now.accept_waiting_requests,
        patch.accept_waiting_requests,
    );
    set(
        &mut now.can_accept_production_requests,
        patch.can_accept_production_requests,
    );
    set(&mut now.can_edit_display_name, patch.can_edit_display_name);
    set(&mut now.can_record, patch.can_record);
    set(&mut now.can_livestream, patch.can_livestream);
    set(&mut now.can_spotlight, patch.can_spotlight);
    set(
        &mut now.disable_participant_audio,
        patch.disable_participant_audio,
    );
    set(
        &mut now.disable_participant_screensharing,
        patch.disable_participant_screensharing,
    );
    set(
        &mut now.disable_participant_video,
        patch.disable_participant_video,
    );
    set(&mut now.kick_participant, patch.kick_participant);
    set(&mut now.pin_participant, patch.pin_participant);
    set(&mut now.transcription_enabled, patch.transcription_enabled);
    set(&mut now.is_recorder, patch.is_recorder);
    set(&mut now.hidden_participant, patch.hidden_participant);
    set(&mut now.show_participant_list, patch.show_participant_list);
    set(
        &mut now.can_change_participant_permissions,
        patch.can_change_participant_permissions,
    );
    if let Some(kind) = patch.waiting_room_type {
        now.waiting_room_type = match wire::WaitingRoomType::try_from(kind) {
            Ok(wire::WaitingRoomType::Skip) => WaitingRoomType::Skip,
            Ok(wire::WaitingRoomType::OnPrivilegedUserEntry) => {
                WaitingRoomType::OnPrivilegedUserEntry
            }
            Ok(wire::WaitingRoomType::SkipOnAccept) => WaitingRoomType::SkipOnAccept,
            Ok(wire::WaitingRoomType::None) | Err(_) => now.waiting_room_type,
        };
    }
    if let Some(kind) = patch.recorder_type {
        now.recorder_type = match wire_room::RecorderType::try_from(kind) {
            Ok(wire_room::RecorderType::Recorder) => RecorderType::Recorder,
            Ok(wire_room::RecorderType::Livestreamer) => RecorderType::Livestreamer,
            Ok(wire_room::RecorderType::None) => RecorderType::None,
            Err(_) => now.recorder_type,
        };
    }
    now
}

fn set_media(field: &mut MediaKindPermission, patch: Option<&wire::StreamPermission>) {
    let Some(asked) = patch.and_then(|patch| patch.can_produce) else {
        return;
    };
    field.can_produce = match wire::StreamPermissionType::try_from(asked) {
        Ok(wire::StreamPermissionType::Allowed) => MediaPermission::Allowed,
        Ok(wire::StreamPermissionType::NotAllowed) => MediaPermission::NotAllowed,
        Ok(wire::StreamPermissionType::CanRequest) => MediaPermission::CanRequest,
        Ok(wire::StreamPermissionType::None) | Err(_) => field.can_produce,
    };
}

/// A patch without the fields that say nothing: merged, they would take back what was said before.
fn said(mut patch: PresetUpdates) -> PresetUpdates {
    patch.waiting_room_type = patch.waiting_room_type.filter(|kind| *kind != 0);
    if let Some(media) = &mut patch.media {
        let kinds = [&mut media.audio, &mut media.video, &mut media.screenshare];
        for kind in kinds.into_iter().flatten() {
            kind.can_produce = kind.can_produce.filter(|asked| *asked != 0);
        }
    }
    patch
}

/// People whose permissions may be read with one request. Clients ask for one. Each of their peers
/// is some kilobytes.
const READ_AT_ONCE: usize = 64;

/// What a client reads of a peer's preset, as JSON.
#[derive(Serialize)]
struct Preset<'p> {
    name: &'p str,
    permissions: &'p Permissions,
}

impl Room {
    /// `getUserPresets`: the own permissions, or anybody's for those who may change them.
    pub(crate) fn read_permissions(
        &mut self,
        turn: &mut Turn<'_>,
        asked: &RequestContext<'_>,
    ) -> Outcome {
        let me = &self.peers[asked.seat];
        let forbidden = || Refusal::forbidden("can_change_participant_permissions");
        if !me.is_inside() {
            return Err(forbidden());
        }
        let request: ReadPeersPresetRequest = asked.message()?;
        let users = named::<ParticipantId>(&request.user_ids);
        let may = me.permissions.can_change_participant_permissions;
        if !may && users.iter().any(|user| *user != me.user()) {
            return Err(forbidden());
        }
        if users.len() > READ_AT_ONCE {
            let message = format!("the permissions of {READ_AT_ONCE} people are read at once");
            return Err(Refusal::new(413, message));
        }
        let seats = users.iter().flat_map(|user| self.peers.seats_of(*user));
        let seats: BTreeSet<Seat> = seats.copied().collect();
        self.steps.add(8 * seats.len());
        let peer_presets = seats.iter().map(|seat| {
            let peer = &self.peers[*seat];
            let preset = Preset {
                name: &peer.who.preset_name,
                permissions: &peer.permissions,
            };
            let preset = serde_json::to_vec(&preset).expect("a preset has no keys but texts");
            PeerPreset {
                user_id: peer.user().to_string(),
                peer_id: peer.id().to_string(),
                preset: preset.into(),
            }
        });
        let response = ReadPeersPresetResponse {
            peer_presets: peer_presets.collect(),
        };
        asked.reply(turn, &response);
        Ok(())
    }

    /// `updateUserPreset`.
    pub(crate) fn update_permissions(
        &mut self,
        turn: &mut Turn<'_>,
        asked: &RequestContext<'_>,
    ) -> Outcome {
        let me = &self.peers[asked.seat];
        if !me.is_inside() || !me.permissions.can_change_participant_permissions {
            return Err(Refusal::forbidden("can_change_participant_permissions"));
        }
        let request: UpdatePeersPresetRequest = asked.message()?;
        at_most(asked, request.update_peers_presets.len(), "changes")?;
        let (mut people, mut patches) = (Vec::new(), BTreeMap::new());
        for update in &request.update_peers_presets {
            let person = update.user_ids.parse::<ParticipantId>();
            let person = person.map_err(|_| Refusal::new(404, "there is no such user here"))?;
            // Who is named twice in the same way is changed, and told, once.
            let patch = update.patch.unwrap_or_default();
            if patches.insert(person, patch) != Some(patch) {
                people.push((person, patch));
            }
        }
        for (person, _) in &people {
            if self.peers.seats_of(*person).is_empty() {
                return Err(Refusal::new(404, "there is no such user here"));
            }
        }
        self.may_add(asked.seat, people.len())?;
        // The first one was counted before.
        let (more, rate) = (
            people.len().saturating_sub(1),
            self.limits.permission_updates,
        );
        let refusal = "too many permission updates: slow down";
        let left = self.peers.left(asked.seat);
        left.permission_updates
            .spend_many(more, rate, turn.monotonic, refusal)?;
        let acts = people.into_iter().map(|(person, patch)| Act::Patch {
            person,
            patch: Box::new(patch),
            by: Some(asked.seat),
        });
        let answer = Act::Answer {
            connection: asked.connection,
            event: asked.request.event,
            id: asked.request.id.clone(),
            response: Box::new(UpdatePeersPresetResponse {
                update_peers_presets: request.update_peers_presets,
            }),
        };
        self.carry_out(turn, Some(asked.seat), acts.chain([answer]));
        Ok(())
    }

    /// Changes what a person may do, for the rest of the session and for every client of theirs.
    /// The peer that asked learns it from its reply.
    pub(crate) fn patch_person(
        &mut self,
        turn: &mut Turn<'_>,
        person: ParticipantId,
        patch: &PresetUpdates,
        by: Option<Seat>,
    ) {
        let standing = self.people.entry(person).or_default();
        // Later fields win, and messages are merged field by field: what protobuf means by decoding
        // one message over another.
        let encoded = said(*patch).encode_to_vec();
        if standing.patch.merge(encoded.as_slice()).is_err() {
            return;
        }
        let whole = standing.patch;
        let kept = Some(whole.encode_to_vec().into());
        self.keep_entry(turn, EntryKind::Permissions, person.to_string(), kept);
        let update = UpdatePeersPresetResponse {
            update_peers_presets: vec![UpdatePeerPreset {
                user_ids: person.to_string(),
                patch: Some(*patch),
            }],
        };
        for seat in self.peers.seats_of(person).to_vec() {
            let now = patched(&self.peers[seat].who.permissions, &whole);
            self.set_permissions(turn, seat, now);
            if by != Some(seat) {
                let to = Vec::from_iter(self.peers[seat].connection);
                turn.push(to, event::UPDATE_USER_PRESET, &update);
            }
        }
    }

    /// From now on the peer may do this.
    fn set_permissions(&mut self, turn: &mut Turn<'_>, seat: Seat, now: Permissions) {
        self.turn_into(turn, seat, |peer| peer.permissions = now);
    }

    /// From now on the peer is somebody who may do something else.
    pub(crate) fn turn_into(
        &mut self,
        turn: &mut Turn<'_>,
        seat: Seat,
        change: impl FnOnce(&mut Peer),
    ) {
        let before = self.peers[seat].permissions.accept_waiting_requests;
        let asks = |peer: &Peer| peer.stage == StageType::RequestedStage;
        let asked = asks(&self.peers[seat]);
        self.change(turn, seat, |peer| {
            let staged = peer.has_stage();
            change(peer);
            if peer.has_stage() != staged && peer.is_inside() {
                peer.stage = first_stage(peer);
            }
        });
        if asked && !asks(&self.peers[seat]) {
            self.tell_stage_requests(turn);
        }
        let peer = &self.peers[seat];
        if peer.permissions.accept_waiting_requests && !before && peer.is_inside() {
            self.privileged_entered(turn);
        }
        self.admit_if_free(turn, seat);
    }
}
