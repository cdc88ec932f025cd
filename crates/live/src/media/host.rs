//! Silencing others, by those inside and by the REST API (docs/spec/media.md 4.8; docs/spec/rest.md 2.6).

use std::sync::Arc;

use parlor_protocol::signal::media::edge::{
    HostMediaControlForAllPeerRequest, HostMediaControlForAllPeerResponse,
    HostMediaControlForPeerRequest, HostMediaControlForPeerResponse,
};

use super::produce::Silencer;
use super::success;
use crate::output::{Refusal, Source};
use crate::peer::{Seat, sees};
use crate::room::{Act, Outcome, RequestContext, Room, Turn};

impl Room {
    /// `hostControlPeer`.
    pub(crate) fn host_control(
        &mut self,
        turn: &mut Turn<'_>,
        asked: &RequestContext<'_>,
    ) -> Outcome {
        let request: HostMediaControlForPeerRequest = asked.message()?;
        let sources = self.may_silence(asked, request.audio, request.video, request.scree_share)?;
        let me = &self.peers[asked.seat];
        let seat = self.peers.seat_named(&request.participant_id);
        let seat = seat.filter(|seat| *seat == asked.seat || sees(me, &self.peers[*seat]));
        let seat = seat.ok_or_else(|| Refusal::new(404, "there is no such peer here"))?;
        let by = Silencer::Peer(me.id());
        asked.reply(turn, &HostMediaControlForPeerResponse { status: success() });
        self.silence_peer(turn, seat, &sources, by);
        Ok(())
    }

    /// `hostControlAllPeers`: everybody but the peer that asks.
    pub(crate) fn host_control_all(
        &mut self,
        turn: &mut Turn<'_>,
        asked: &RequestContext<'_>,
    ) -> Outcome {
        let request: HostMediaControlForAllPeerRequest = asked.message()?;
        let sources =
            self.may_silence(asked, request.audio, request.video, request.screen_share)?;
        let sources: Arc<[Source]> = sources.into();
        let me = self.peers[asked.seat].id();
        let others = self.peers.seats(|peer| peer.is_inside() && peer.id() != me);
        self.may_add(asked.seat, others.len())?;
        asked.reply(
            turn,
            &HostMediaControlForAllPeerResponse { status: success() },
        );
        let acts = others.into_iter().map(|seat| Act::Silence {
            seat,
            sources: sources.clone(),
            by: Silencer::Peer(me),
        });
        self.carry_out(turn, Some(asked.seat), acts);
        Ok(())
    }

    /// Turns off what a peer publishes, if it is still here.
    pub(crate) fn silence_peer(
        &mut self,
        turn: &mut Turn<'_>,
        seat: Seat,
        sources: &[Source],
        by: Silencer,
    ) {
        let these = self
            .tracks
            .producers(seat, |producer| sources.contains(&producer.source));
        for id in these {
            self.silence(turn, id, by);
        }
    }

    /// What is to be silenced, if the peer may.
    fn may_silence(
        &self,
        asked: &RequestContext<'_>,
        audio: bool,
        video: bool,
        screen: bool,
    ) -> Result<Vec<Source>, Refusal> {
        let peer = &self.peers[asked.seat];
        let may = &peer.permissions;
        let asked_for = [
            (audio, Source::Microphone),
            (video, Source::Camera),
            (screen, Source::Screen),
            (screen, Source::ScreenAudio),
        ];
        let asked_for = asked_for.into_iter().filter(|(asked, _)| *asked);
        let sources = asked_for.map(|(_, source)| source).collect();
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
        .find(|(asked, may, _)| *asked && !may);
        match missing {
            _ if !peer.is_inside() => Err(Refusal::new(403, "join the meeting first")),
            Some((_, _, permission)) => Err(Refusal::forbidden(permission)),
            None if !(audio || video || screen) => {
                Err(Refusal::new(400, "say what is to be turned off"))
            }
            None => Ok(sources),
        }
    }
}
