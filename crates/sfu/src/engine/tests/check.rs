//! What is true of an engine at any time.

use std::sync::atomic::Ordering;

use crate::engine::subscribe::Subscriber;
use crate::engine::track::NONE;
use crate::engine::{Engine, Side};
use crate::{Direction, Member};

/// Every map agrees with every other.
pub(super) fn check(engine: &Engine) {
    assert_eq!(engine.by_member.len(), engine.entries.len());
    assert_eq!(engine.by_ufrag.len(), engine.entries.len());
    assert_eq!(engine.timers.len(), engine.entries.len());
    assert_eq!(engine.by_producer.len(), engine.tracks.len());
    assert!(engine.entries.len() <= engine.settings.max_transports);
    let open = engine.settings.open.load(Ordering::Relaxed);
    assert_eq!(open, engine.entries.len());
    let connected = engine.entries.iter().filter(|(_, e)| e.dies.is_none());
    assert_eq!(engine.connected, connected.count());

    let mut consumers = 0;
    for (place, entry) in &engine.entries {
        let key = (entry.member, entry.direction);
        assert_eq!(engine.by_member.get(&key), Some(&place));
        assert_eq!(engine.by_ufrag.get(entry.transport.id()), Some(&place));
        assert!(engine.timers.contains(&(entry.wakes, place)));
        match &entry.side {
            Side::Publish(publisher) => {
                assert_eq!(entry.direction, Direction::Publish);
                let mut tracks = publisher.tracks.clone();
                tracks.sort_unstable();
                tracks.dedup();
                assert_eq!(tracks.len(), publisher.tracks.len());
                for track in tracks {
                    assert_eq!(engine.tracks[track].transport, place);
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
                    let own = all.filter(|own| own.transport == place && own.consumer == number);
                    let own = own.collect::<Vec<_>>();
                    assert_eq!(own.len(), 1);
                    if !consumer.agreed {
                        assert_eq!((own[0].current, own[0].target), (NONE, NONE));
                        assert_eq!(consumer.packets, 0);
                    }
                }
            }
        }
    }
    assert_eq!(engine.consumers, consumers);

    for (place, track) in &engine.tracks {
        let key = (track.member.meeting, track.producer);
        assert_eq!(engine.by_producer.get(&key), Some(&place));
        let entry = &engine.entries[track.transport];
        assert_eq!(entry.member, track.member);
        let Side::Publish(publisher) = &entry.side else {
            panic!("a track comes on a transport to receive on")
        };
        assert!(publisher.tracks.contains(&place));
        for own in &track.subscriptions {
            let entry = &engine.entries[own.transport];
            assert_eq!(entry.member.meeting, track.member.meeting);
            let Side::Receive(subscriber) = &entry.side else {
                panic!("a track goes to a transport to publish on")
            };
            assert_eq!(subscriber.consumers[own.consumer].track, place);
            for layer in [own.current, own.target] {
                assert!(layer == NONE || usize::from(layer) < track.layers.len());
            }
        }
    }

    for (route, place) in &engine.by_route {
        assert!(
            engine.entries[*place]
                .transport
                .ice
                .routes()
                .any(|own| own == *route)
        );
    }
    for (meeting, hall) in &engine.halls {
        let entries = engine.entries.iter();
        let here = entries.filter(|(_, entry)| entry.member.meeting == *meeting);
        assert_eq!(here.count(), hall.transports);
        assert!(hall.transports > 0 || !hall.listeners.is_empty());
    }
}

/// Nothing is left of what there was.
pub(super) fn assert_empty(engine: &Engine) {
    check(engine);
    assert_eq!(engine.open_transports(), 0);
    assert_eq!(engine.connected_transports(), 0);
    assert_eq!(engine.producers(), 0);
    assert_eq!(engine.consumers(), 0);
    assert!(engine.by_route.is_empty());
    assert!(engine.halls.is_empty());
    assert!(engine.held.is_empty());
    assert_eq!(engine.next_timeout(), None);
}

impl Engine {
    /// What a member receives.
    pub(super) fn subscriber_of(&mut self, member: Member) -> &mut Subscriber {
        let place = self.by_member[&(member, Direction::Receive)];
        let Side::Receive(subscriber) = &mut self.entries[place].side else {
            panic!("it is a transport to publish on")
        };
        subscriber
    }
}
