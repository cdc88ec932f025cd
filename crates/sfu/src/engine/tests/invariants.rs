//! Invariants of the engine.

use std::sync::atomic::Ordering;

use crate::engine::subscribe::Subscriber;
use crate::engine::track::NO_LAYER;
use crate::engine::{Engine, Side};
use crate::{Direction, Member};

/// Asserts that all maps agree with each other.
pub(super) fn check_invariants(engine: &Engine) {
    assert_eq!(engine.by_member.len(), engine.entries.len());
    assert_eq!(engine.by_ufrag.len(), engine.entries.len());
    assert_eq!(engine.timers.len(), engine.entries.len());
    assert_eq!(engine.by_producer.len(), engine.tracks.len());
    assert!(engine.entries.len() <= engine.settings.max_transports);
    let open = engine.settings.open.load(Ordering::Relaxed);
    assert_eq!(open, engine.entries.len());
    let connected = engine
        .entries
        .iter()
        .filter(|(_, e)| e.expires_at.is_none());
    assert_eq!(engine.connected, connected.count());

    let mut consumers = 0;
    for (key, entry) in &engine.entries {
        let id = (entry.member, entry.direction);
        assert_eq!(engine.by_member.get(&id), Some(&key));
        assert_eq!(engine.by_ufrag.get(entry.transport.id()), Some(&key));
        assert!(engine.timers.contains(&(entry.wakes_at, key)));
        match &entry.side {
            Side::Publish(publisher) => {
                assert_eq!(entry.direction, Direction::Publish);
                let mut tracks = publisher.tracks.clone();
                tracks.sort_unstable();
                tracks.dedup();
                assert_eq!(tracks.len(), publisher.tracks.len());
                for track in tracks {
                    assert_eq!(engine.tracks[track].transport, key);
                }
            }
            Side::Receive(subscriber) => {
                assert_eq!(entry.direction, Direction::Receive);
                assert!(subscriber.consumers.len() <= engine.settings.max_consumers);
                consumers += subscriber.consumers.len();
                for (number, consumer) in &subscriber.consumers {
                    let track = &engine.tracks[consumer.track];
                    assert_eq!(track.producer, consumer.producer);
                    let all = track.subscriptions.iter();
                    let subscription = all.filter(|subscription| {
                        subscription.transport == key && subscription.consumer == number
                    });
                    let subscription = subscription.collect::<Vec<_>>();
                    assert_eq!(subscription.len(), 1);
                    if !consumer.negotiated {
                        assert_eq!(
                            (subscription[0].current, subscription[0].target),
                            (NO_LAYER, NO_LAYER)
                        );
                        assert_eq!(consumer.packets, 0);
                    }
                }
            }
        }
    }
    assert_eq!(engine.consumers, consumers);

    for (key, track) in &engine.tracks {
        let id = (track.member.meeting, track.producer);
        assert_eq!(engine.by_producer.get(&id), Some(&key));
        let entry = &engine.entries[track.transport];
        assert_eq!(entry.member, track.member);
        let Side::Publish(publisher) = &entry.side else {
            panic!("a track belongs to a receive transport")
        };
        assert!(publisher.tracks.contains(&key));
        for subscription in &track.subscriptions {
            let entry = &engine.entries[subscription.transport];
            assert_eq!(entry.member.meeting, track.member.meeting);
            let Side::Receive(subscriber) = &entry.side else {
                panic!("a subscription belongs to a publish transport")
            };
            assert_eq!(subscriber.consumers[subscription.consumer].track, key);
            for layer in [subscription.current, subscription.target] {
                assert!(layer == NO_LAYER || usize::from(layer) < track.layers.len());
            }
        }
    }

    for (route, key) in &engine.by_route {
        assert!(
            engine.entries[*key]
                .transport
                .ice
                .routes()
                .any(|candidate| candidate == *route)
        );
    }
    for (meeting, state) in &engine.meetings {
        let entries = engine.entries.iter();
        let in_meeting = entries.filter(|(_, entry)| entry.member.meeting == *meeting);
        assert_eq!(in_meeting.count(), state.transports);
        assert!(state.transports > 0 || !state.listeners.is_empty());
    }
}

/// Asserts that the engine has no transports, tracks or meetings.
pub(super) fn assert_empty(engine: &Engine) {
    check_invariants(engine);
    assert_eq!(engine.open_transports(), 0);
    assert_eq!(engine.connected_transports(), 0);
    assert_eq!(engine.producers(), 0);
    assert_eq!(engine.consumers(), 0);
    assert!(engine.by_route.is_empty());
    assert!(engine.meetings.is_empty());
    assert!(engine.held.is_empty());
    assert_eq!(engine.next_timeout(), None);
}

impl Engine {
    /// Returns the subscriber of a member.
    pub(super) fn subscriber_of(&mut self, member: Member) -> &mut Subscriber {
        let key = self.by_member[&(member, Direction::Receive)];
        let Side::Receive(subscriber) = &mut self.entries[key].side else {
            panic!("the transport is a publish transport")
        };
        subscriber
    }
}
