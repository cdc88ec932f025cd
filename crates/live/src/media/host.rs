//! Muting other peers, by hosts and by the REST API (docs/spec/media.md 4.8; docs/spec/rest.md
//! 2.6).

use parlor_protocol::Source;
use std::sync::Arc;

use parlor_protocol::signal::media::edge::{
    HostMediaControlForAllPeerRequest, HostMediaControlForAllPeerResponse,
    HostMediaControlForPeerRequest, HostMediaControlForPeerResponse,
};

use super::produce::MutedBy;
use super::success;
use crate::output::Refusal;
use crate::peer::{Slot, can_see};
use crate::room::{Outcome, RequestContext, Room, Step, Task};

impl Room {
    /// `hostControlPeer`.
    pub(crate) fn host_control(
        &mut self,
        step: &mut Step<'_>,
        ctx: &RequestContext<'_>,
    ) -> Outcome {
        let request: HostMediaControlForPeerRequest = ctx.message()?;
        let sources =
            self.sources_to_mute(ctx, request.audio, request.video, request.scree_share)?;
        let me = &self.peers[ctx.slot];
        let slot = self.peers.slot_by_id_text(&request.participant_id);
        let slot = slot.filter(|slot| *slot == ctx.slot || can_see(me, &self.peers[*slot]));
        let slot = slot.ok_or_else(|| Refusal::new(404, "there is no such peer here"))?;
        let by = MutedBy::Peer(me.id());
        ctx.reply(step, &HostMediaControlForPeerResponse { status: success() });
        self.mute_tracks(step, slot, &sources, by);
        Ok(())
    }

    /// `hostControlAllPeers`: all peers except the requester.
    pub(crate) fn host_control_all(
        &mut self,
        step: &mut Step<'_>,
        ctx: &RequestContext<'_>,
    ) -> Outcome {
        let request: HostMediaControlForAllPeerRequest = ctx.message()?;
        let sources =
            self.sources_to_mute(ctx, request.audio, request.video, request.screen_share)?;
        let sources: Arc<[Source]> = sources.into();
        let me = self.peers[ctx.slot].id();
        let others = self
            .peers
            .slots(|peer| peer.has_joined() && peer.id() != me);
        self.check_task_quota(ctx.slot, others.len())?;
        ctx.reply(
            step,
            &HostMediaControlForAllPeerResponse { status: success() },
        );
        let tasks = others.into_iter().map(|slot| Task::MuteTracks {
            slot,
            sources: sources.clone(),
            by: MutedBy::Peer(me),
        });
        self.run_tasks(step, Some(ctx.slot), tasks);
        Ok(())
    }

    /// Mutes the tracks of a peer, if it is still present.
    pub(crate) fn mute_tracks(
        &mut self,
        step: &mut Step<'_>,
        slot: Slot,
        sources: &[Source],
        by: MutedBy,
    ) {
        let producers = self
            .tracks
            .producers(slot, |producer| sources.contains(&producer.source));
        for id in producers {
            self.mute_track(step, id, by);
        }
    }

    /// The sources that the request mutes, if the peer may.
    fn sources_to_mute(
        &self,
        ctx: &RequestContext<'_>,
        audio: bool,
        video: bool,
        screen: bool,
    ) -> Result<Vec<Source>, Refusal> {
        let peer = &self.peers[ctx.slot];
        let may = &peer.permissions;
        let requested = [
            (audio, Source::Microphone),
            (video, Source::Camera),
            (screen, Source::Screen),
            (screen, Source::ScreenAudio),
        ];
        let requested = requested.into_iter().filter(|(requested, _)| *requested);
        let sources = requested.map(|(_, source)| source).collect();
        let missing = [
            (
                audio,
                may.disable_participant_audio,
                "disable_participant_audio",
            ),
            (
                video,
                may.disable_participant_video,
                "disable_participant_video",
            ),
            (
                screen,
                may.disable_participant_screensharing,
                "disable_participant_screensharing",
            ),
        ]
        .into_iter()
        .find(|(requested, may, _)| *requested && !may);
        match missing {
            _ if !peer.has_joined() => Err(Refusal::new(403, "join the meeting first")),
            Some((_, _, permission)) => Err(Refusal::forbidden(permission)),
            None if !(audio || video || screen) => Err(Refusal::new(
                400,
                "select at least one of audio, video and screen share",
            )),
            None => Ok(sources),
        }
    }
}
