//! Reading and updating permissions during the call (docs/spec/signalling.md 6.10).

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

use crate::breakout::check_item_count;
use crate::frame::parse_ids;
use crate::output::{EntryKind, Refusal};
use crate::peer::{Peer, Slot};
use crate::room::{Outcome, RequestContext, Room, Step, Task};
use crate::roster::first_stage;

/// Applies a patch to permissions. Fields that the patch does not set stay unchanged.
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
    let Some(value) = patch.and_then(|patch| patch.can_produce) else {
        return;
    };
    field.can_produce = match wire::StreamPermissionType::try_from(value) {
        Ok(wire::StreamPermissionType::Allowed) => MediaPermission::Allowed,
        Ok(wire::StreamPermissionType::NotAllowed) => MediaPermission::NotAllowed,
        Ok(wire::StreamPermissionType::CanRequest) => MediaPermission::CanRequest,
        Ok(wire::StreamPermissionType::None) | Err(_) => field.can_produce,
    };
}

/// Removes fields whose value means "unset". Merging them would revert earlier changes.
fn without_unset(mut patch: PresetUpdates) -> PresetUpdates {
    patch.waiting_room_type = patch.waiting_room_type.filter(|kind| *kind != 0);
    if let Some(media) = &mut patch.media {
        let kinds = [&mut media.audio, &mut media.video, &mut media.screenshare];
        for kind in kinds.into_iter().flatten() {
            kind.can_produce = kind.can_produce.filter(|value| *value != 0);
        }
    }
    patch
}

/// Maximum number of participants in one read. Clients ask for one. Each of their peers adds some
/// kilobytes.
const MAX_READS: usize = 64;

/// A peer's preset as clients read it, in JSON.
#[derive(Serialize)]
struct Preset<'p> {
    name: &'p str,
    permissions: &'p Permissions,
}

impl Room {
    /// `getUserPresets`: a peer's own permissions, or those of anyone for peers that may change
    /// them.
    pub(crate) fn read_permissions(
        &mut self,
        step: &mut Step<'_>,
        ctx: &RequestContext<'_>,
    ) -> Outcome {
        let me = &self.peers[ctx.slot];
        let forbidden = || Refusal::forbidden("can_change_participant_permissions");
        if !me.has_joined() {
            return Err(forbidden());
        }
        let request: ReadPeersPresetRequest = ctx.message()?;
        let users = parse_ids::<ParticipantId>(&request.user_ids);
        let may = me.permissions.can_change_participant_permissions;
        if !may && users.iter().any(|user| *user != me.participant_id()) {
            return Err(forbidden());
        }
        if users.len() > MAX_READS {
            let message = format!("a request reads at most {MAX_READS} participants");
            return Err(Refusal::new(413, message));
        }
        let slots = users.iter().flat_map(|user| self.peers.slots_of(*user));
        let slots: BTreeSet<Slot> = slots.copied().collect();
        self.cost_units.add(8 * slots.len());
        let peer_presets = slots.iter().map(|slot| {
            let peer = &self.peers[*slot];
            let preset = Preset {
                name: &peer.profile.preset_name,
                permissions: &peer.permissions,
            };
            let preset = serde_json::to_vec(&preset).expect("a preset has only string keys");
            PeerPreset {
                user_id: peer.participant_id().to_string(),
                peer_id: peer.id().to_string(),
                preset: preset.into(),
            }
        });
        let response = ReadPeersPresetResponse {
            peer_presets: peer_presets.collect(),
        };
        ctx.reply(step, &response);
        Ok(())
    }

    /// `updateUserPreset`.
    pub(crate) fn update_permissions(
        &mut self,
        step: &mut Step<'_>,
        ctx: &RequestContext<'_>,
    ) -> Outcome {
        let me = &self.peers[ctx.slot];
        if !me.has_joined() || !me.permissions.can_change_participant_permissions {
            return Err(Refusal::forbidden("can_change_participant_permissions"));
        }
        let request: UpdatePeersPresetRequest = ctx.message()?;
        check_item_count(ctx, request.update_peers_presets.len(), "changes")?;
        let (mut participants, mut patches) = (Vec::new(), BTreeMap::new());
        for update in &request.update_peers_presets {
            let participant = update.user_ids.parse::<ParticipantId>();
            let participant =
                participant.map_err(|_| Refusal::new(404, "there is no such user here"))?;
            // Identical updates of one participant are applied and pushed once.
            let patch = update.patch.unwrap_or_default();
            if patches.insert(participant, patch) != Some(patch) {
                participants.push((participant, patch));
            }
        }
        for (participant, _) in &participants {
            if self.peers.slots_of(*participant).is_empty() {
                return Err(Refusal::new(404, "there is no such user here"));
            }
        }
        self.check_task_quota(ctx.slot, participants.len())?;
        // The first update was charged before the handler.
        let (more, rate) = (
            participants.len().saturating_sub(1),
            self.limits.permission_updates,
        );
        let refusal = "too many permission updates: slow down";
        let allowances = self.peers.allowances(ctx.slot);
        allowances
            .permission_updates
            .spend_many(more, rate, step.monotonic, refusal)?;
        let tasks = participants
            .into_iter()
            .map(|(participant, patch)| Task::PatchPermissions {
                participant,
                patch: Box::new(patch),
                by: Some(ctx.slot),
            });
        let reply = Task::Reply {
            connection: ctx.connection,
            event: ctx.request.event,
            id: ctx.request.id.clone(),
            response: Box::new(UpdatePeersPresetResponse {
                update_peers_presets: request.update_peers_presets,
            }),
        };
        self.run_tasks(step, Some(ctx.slot), tasks.chain([reply]));
        Ok(())
    }

    /// Changes a participant's permissions for the rest of the session and for all of their peers.
    /// The requesting peer receives the change in its reply.
    pub(crate) fn patch_participant(
        &mut self,
        step: &mut Step<'_>,
        participant: ParticipantId,
        patch: &PresetUpdates,
        by: Option<Slot>,
    ) {
        let state = self.participants.entry(participant).or_default();
        // In protobuf, decoding a message over another merges nested messages and overwrites scalar
        // fields.
        let encoded = without_unset(*patch).encode_to_vec();
        if state.patch.merge(encoded.as_slice()).is_err() {
            return;
        }
        let whole = state.patch;
        let kept = Some(whole.encode_to_vec().into());
        self.persist_entry(step, EntryKind::Permissions, participant.to_string(), kept);
        let update = UpdatePeersPresetResponse {
            update_peers_presets: vec![UpdatePeerPreset {
                user_ids: participant.to_string(),
                patch: Some(*patch),
            }],
        };
        for slot in self.peers.slots_of(participant).to_vec() {
            let now = patched(&self.peers[slot].profile.permissions, &whole);
            self.set_permissions(step, slot, now);
            if by != Some(slot) {
                let to = Vec::from_iter(self.peers[slot].connection);
                step.push(to, event::UPDATE_USER_PRESET, &update);
            }
        }
    }

    /// Sets a peer's permissions.
    fn set_permissions(&mut self, step: &mut Step<'_>, slot: Slot, now: Permissions) {
        self.update_peer(step, slot, |peer| peer.permissions = now);
    }

    /// Changes a peer's profile or permissions, and handles the consequences: stage status, stage
    /// requests and admission.
    pub(crate) fn update_peer(
        &mut self,
        step: &mut Step<'_>,
        slot: Slot,
        change: impl FnOnce(&mut Peer),
    ) {
        let before = self.peers[slot].permissions.accept_waiting_requests;
        let requested = |peer: &Peer| peer.stage == StageType::RequestedStage;
        let had_requested = requested(&self.peers[slot]);
        self.apply_change(step, slot, |peer| {
            let staged = peer.has_stage();
            change(peer);
            if peer.has_stage() != staged && peer.has_joined() {
                peer.stage = first_stage(peer);
            }
        });
        if had_requested && !requested(&self.peers[slot]) {
            self.push_stage_requests(step);
        }
        let peer = &self.peers[slot];
        if peer.permissions.accept_waiting_requests && !before && peer.has_joined() {
            self.privileged_entered(step);
        }
        self.admit_if_allowed(step, slot);
    }
}
