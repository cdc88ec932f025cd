//! The expected media state: who publishes what, and who may.

use parlor_live::Source;
use parlor_protocol::ids::PeerId;
use parlor_protocol::preset::MediaPermission;
use parlor_protocol::signal::socket::room::StageType;

use super::Model;

/// A peer's progress in joining the media plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Ready {
    #[default]
    Out,
    Preparing,
    Complete,
}

#[derive(Debug, Clone)]
pub(crate) struct TrackModel {
    pub(crate) id: String,
    pub(crate) source: Source,
    pub(crate) paused: bool,
    /// Whether the media plane has confirmed it.
    pub(crate) live: bool,
    pub(crate) transport: String,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct MediaModel {
    pub(crate) ready: Ready,
    pub(crate) publish: Option<String>,
    pub(crate) receive: Option<String>,
    pub(crate) tracks: Vec<TrackModel>,
}

impl Model {
    pub(crate) fn has_media(&self, slot: usize) -> bool {
        self.is_inside(slot) && self.peers[slot].media.ready == Ready::Complete
    }

    pub(crate) fn may_produce(&self, slot: usize, source: Source) -> bool {
        let media = &self.permissions(slot).media;
        let kind = match source {
            Source::Microphone => media.audio,
            Source::Camera => media.video,
            Source::Screen | Source::ScreenAudio => media.screenshare,
        };
        let allowed = kind.can_produce;
        self.is_inside(slot)
            && if self.has_stage(slot) {
                self.peers[slot].stage == StageType::OnStage
                    && allowed != MediaPermission::NotAllowed
            } else {
                allowed == MediaPermission::Allowed
            }
    }

    /// Pauses microphones and cameras whose peers may no longer publish them, and closes the screen
    /// shares of such peers.
    pub(crate) fn enforce_permissions(&mut self) {
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
            self.mute(slot, &forbidden);
        }
    }

    /// Pauses the tracks of these sources, except that tracks of a screen share are closed.
    pub(crate) fn mute(&mut self, slot: usize, sources: &[Source]) {
        let tracks = &mut self.peers[slot].media.tracks;
        tracks.retain(|track| !(sources.contains(&track.source) && track.source.is_screen()));
        for track in tracks {
            track.paused |= sources.contains(&track.source);
        }
    }

    /// The slot of a peer.
    pub(crate) fn slot_of(&self, peer: PeerId) -> usize {
        let mut slots = self.slots();
        let found = slots.find(|slot| self.peers[*slot].profile.peer == peer);
        found.expect("the peer is part of the simulation")
    }
}
