//! What should be true of media: who publishes what, and who may.

use parlor_live::Source;
use parlor_protocol::ids::PeerId;
use parlor_protocol::preset::MediaPermission;
use parlor_protocol::signal::socket::room::StageType;

use super::Truth;

/// How far a peer has come with its media.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Ready {
    #[default]
    Out,
    Preparing,
    Complete,
}

#[derive(Debug, Clone)]
pub(crate) struct TrackTruth {
    pub(crate) id: String,
    pub(crate) source: Source,
    pub(crate) paused: bool,
    /// The media plane has answered.
    pub(crate) live: bool,
    pub(crate) transport: String,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct MediaTruth {
    pub(crate) ready: Ready,
    pub(crate) publish: Option<String>,
    pub(crate) receive: Option<String>,
    pub(crate) tracks: Vec<TrackTruth>,
}

impl Truth {
    pub(crate) fn complete(&self, slot: usize) -> bool {
        self.inside(slot) && self.peers[slot].media.ready == Ready::Complete
    }

    pub(crate) fn may_produce(&self, slot: usize, source: Source) -> bool {
        let media = &self.may(slot).media;
        let kind = match source {
            Source::Microphone => media.audio,
            Source::Camera => media.video,
            Source::Screen | Source::ScreenAudio => media.screenshare,
        };
        let may = kind.can_produce;
        self.inside(slot)
            && if self.has_stage(slot) {
                self.peers[slot].stage == StageType::OnStage && may != MediaPermission::NotAllowed
            } else {
                may == MediaPermission::Allowed
            }
    }

    /// What may not be published any more is silent, and screens end.
    pub(crate) fn hold(&mut self) {
        for slot in self.slots() {
            let forbidden = [
                Source::Microphone,
                Source::Camera,
                Source::Screen,
                Source::ScreenAudio,
            ]
            .into_iter()
            .filter(|source| !self.may_produce(slot, *source))
            .collect::<Vec<_>>();
            self.silence(slot, &forbidden);
        }
    }

    /// Somebody stops these.
    pub(crate) fn silence(&mut self, slot: usize, sources: &[Source]) {
        let tracks = &mut self.peers[slot].media.tracks;
        tracks.retain(|track| !(sources.contains(&track.source) && track.source.is_screen()));
        for track in tracks {
            track.paused |= sources.contains(&track.source);
        }
    }

    /// Who a peer is.
    pub(crate) fn slot_of(&self, peer: PeerId) -> usize {
        let mut slots = self.slots();
        let found = slots.find(|slot| self.peers[*slot].who.peer == peer);
        found.expect("somebody of the simulation")
    }
}
