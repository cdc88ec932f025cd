//! What has to be true of media after each thing that happens.

use std::collections::BTreeMap;

use super::Simulation;

/// How long others may not know that somebody speaks.
const SPEAKERS_MS: i64 = 500;

impl Simulation {
    /// What the media plane does is what may be done.
    pub(super) fn check_plane(&self) {
        let (truth, plane) = (&self.truth, &self.world.plane);
        let mut known = BTreeMap::new();
        for slot in truth.slots() {
            for track in truth.peers[slot].media.tracks.iter().filter(|it| it.live) {
                known.insert(track.id.clone(), (slot, track.paused));
                let may = truth.may_produce(slot, track.source);
                assert!(may || track.paused, "{slot} may not publish {track:?}");
            }
        }
        let there = plane.producers.iter();
        let there: BTreeMap<_, _> = there
            .map(|(id, it)| (id.to_string(), (truth.slot_of(it.peer), it.paused)))
            .collect();
        assert_eq!(there, known, "what goes through the media plane");
        for (viewer, producer) in plane.consumers.keys() {
            let (viewer, id) = (truth.slot_of(*viewer), producer.to_string());
            let (publisher, _) = known[&id];
            assert!(
                truth.sees(viewer, publisher),
                "{viewer} receives {publisher}"
            );
        }
    }

    pub(super) fn check_tracks(&self, viewer: usize) {
        let (client, truth) = (&self.clients[viewer], &self.truth);
        let Some(tracks) = client.tracks.as_ref().filter(|_| truth.complete(viewer)) else {
            return;
        };
        let mut known = tracks.clone();
        known.retain(|_, tracks| !tracks.is_empty());
        let mut there = BTreeMap::new();
        for other in truth.slots() {
            if truth.complete(other) && truth.sees(viewer, other) {
                let theirs = truth.peers[other].media.tracks.iter();
                let theirs = theirs.filter(|track| track.live);
                let theirs: BTreeMap<_, _> = theirs
                    .map(|track| (track.id.clone(), track.paused))
                    .collect();
                there.insert(truth.peer_id(other), theirs);
            }
        }
        there.retain(|_, tracks| !tracks.is_empty());
        assert_eq!(known, there, "the tracks that {viewer} knows");
        // Whoever has come into sight since is on the list when somebody speaks again.
        if truth.speakers_ms + SPEAKERS_MS <= self.world.monotonic_ms {
            let seen = truth.speakers.iter();
            let seen = seen.filter(|slot| truth.sees(viewer, **slot));
            let mut seen = seen.map(|slot| truth.peer_id(*slot));
            let listed = |speaker: &String| seen.any(|seen| seen == *speaker);
            assert!(
                client.speakers.iter().all(listed),
                "the speakers of {viewer}: {:?}",
                client.speakers
            );
        }
    }
}
