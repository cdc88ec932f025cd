//! Invariants of media, checked after each action.

use std::collections::BTreeMap;

use super::Simulation;

/// Maximum delay until others learn of a speaker.
const SPEAKERS_MS: i64 = 500;

impl Simulation {
    /// The media plane forwards exactly what is permitted.
    pub(super) fn check_plane(&self) {
        let (model, media_plane) = (&self.model, &self.world.media_plane);
        let mut known = BTreeMap::new();
        for slot in model.slots() {
            for track in model.peers[slot].media.tracks.iter().filter(|it| it.live) {
                known.insert(track.id.clone(), (slot, track.paused));
                let allowed = model.may_produce(slot, track.source);
                assert!(allowed || track.paused, "{slot} may not publish {track:?}");
            }
        }
        let existing = media_plane.producers.iter();
        let existing: BTreeMap<_, _> = existing
            .map(|(id, it)| (id.to_string(), (model.slot_of(it.peer), it.paused)))
            .collect();
        assert_eq!(existing, known, "the producers of the media plane");
        for (viewer, producer) in media_plane.consumers.keys() {
            let (viewer, id) = (model.slot_of(*viewer), producer.to_string());
            let (publisher, _) = known[&id];
            assert!(
                model.can_see(viewer, publisher),
                "{viewer} receives {publisher}"
            );
        }
    }

    pub(super) fn check_tracks(&self, viewer: usize) {
        let (client, model) = (&self.clients[viewer], &self.model);
        let Some(tracks) = client.tracks.as_ref().filter(|_| model.has_media(viewer)) else {
            return;
        };
        let mut known = tracks.clone();
        known.retain(|_, tracks| !tracks.is_empty());
        let mut existing = BTreeMap::new();
        for other in model.slots() {
            if model.has_media(other) && model.can_see(viewer, other) {
                let theirs = model.peers[other].media.tracks.iter();
                let theirs = theirs.filter(|track| track.live);
                let theirs: BTreeMap<_, _> = theirs
                    .map(|track| (track.id.clone(), track.paused))
                    .collect();
                existing.insert(model.peer_id(other), theirs);
            }
        }
        existing.retain(|_, tracks| !tracks.is_empty());
        assert_eq!(known, existing, "the tracks known to {viewer}");
        // A speaker that became visible since then is listed when it speaks again.
        if model.speakers_ms + SPEAKERS_MS <= self.world.monotonic_ms {
            let seen = model.speakers.iter();
            let seen = seen.filter(|slot| model.can_see(viewer, **slot));
            let mut seen = seen.map(|slot| model.peer_id(*slot));
            let listed = |speaker: &String| seen.any(|seen| seen == *speaker);
            assert!(
                client.speakers.iter().all(listed),
                "the speakers of {viewer}: {:?}",
                client.speakers
            );
        }
    }
}
