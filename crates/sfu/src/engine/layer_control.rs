//! Layer selection for each subscriber, repeated whenever something relevant changes.

use std::time::Instant;

use super::allocate::{self, LAYERS, Priority, Wanted};
use super::subscribe::{Subscriber, layer_number};
use super::track::{NO_LAYER, Track};
use super::{Engine, MeetingState, Side};

/// Input and output of one allocation, reused to avoid allocating memory.
#[derive(Default)]
pub(super) struct Allocation {
    consumers: Vec<usize>,
    wanted: Vec<Wanted>,
    chosen: Vec<Option<usize>>,
    /// Total bit rate of the subscriber's audio, in bits per second. Audio takes precedence over
    /// all video.
    audio_bps: u64,
}

impl Engine {
    /// Repeats the allocation for all subscribers of a track.
    pub(super) fn allocate_for_subscribers(&mut self, now: Instant, track: usize) {
        let mut receivers = std::mem::take(&mut self.receivers);
        let subscriptions = &self.tracks[track].subscriptions;
        receivers.extend(
            subscriptions
                .iter()
                .map(|subscription| subscription.transport),
        );
        for key in receivers.drain(..) {
            self.allocate_layers(now, key);
        }
        self.receivers = receivers;
    }

    /// Allocates the layers of a subscriber within its bandwidth estimate, and sends probe padding
    /// if it is due.
    pub(super) fn allocate_layers(&mut self, now: Instant, key: usize) {
        let mut allocation = std::mem::take(&mut self.allocation);
        let entry = &mut self.entries[key];
        let Side::Receive(subscriber) = &mut entry.side else {
            return;
        };
        let state = self.meetings.get(&entry.member.meeting);
        allocation.collect(now, subscriber, &self.tracks, state);
        let budget = subscriber.budget(now, allocation.audio_bps);
        allocate::allocate(&budget, &allocation.wanted, &mut allocation.chosen);
        let wanted_bps = subscriber
            .padding_consumer()
            .map(|_| allocation.audio_bps + allocation.preferred_bps());
        subscriber
            .bandwidth
            .set_wanted_bps(wanted_bps.unwrap_or_default());
        subscriber.schedule_allocation(now);
        if let Some(probe) = subscriber.bandwidth.poll_probe(now) {
            let (transport, pool) = (&mut entry.transport, &mut self.pool);
            subscriber.send_padding(now, transport, pool, probe.bytes, probe.cluster);
        }
        for (consumer, chosen) in allocation.consumers.iter().zip(&allocation.chosen) {
            self.set_target(now, key, *consumer, *chosen);
        }
        self.allocation = allocation;
        if let Side::Receive(subscriber) = &self.entries[key].side
            && let Some(next) = subscriber.next_timeout()
        {
            self.wake(now, key, next);
        }
    }

    /// Sets the target layer of a consumer.
    fn set_target(&mut self, now: Instant, key: usize, number: usize, chosen: Option<usize>) {
        let Side::Receive(subscriber) = &mut self.entries[key].side else {
            return;
        };
        let consumer = &mut subscriber.consumers[number];
        if consumer.target == chosen {
            return;
        }
        consumer.target = chosen;
        let track = &mut self.tracks[consumer.track];
        let (publisher, paused) = (track.transport, track.paused);
        let Some(subscription) = track.subscription(key, number) else {
            return;
        };
        subscription.target = layer_number(chosen);
        let Some(chosen) = chosen else {
            subscription.current = NO_LAYER;
            return;
        };
        if subscription.current != subscription.target && !paused {
            track.layers[chosen].request_keyframe();
            self.schedule_keyframe_requests(now, publisher);
        }
    }
}

impl Allocation {
    fn collect(
        &mut self,
        now: Instant,
        subscriber: &Subscriber,
        tracks: &slab::Slab<Track>,
        state: Option<&MeetingState>,
    ) {
        self.consumers.clear();
        self.wanted.clear();
        self.audio_bps = 0;
        let speaker = state.and_then(|state| state.speakers.ranking().first());
        let pinned = state.and_then(|state| state.pinned);
        for (number, consumer) in &subscriber.consumers {
            let track = &tracks[consumer.track];
            if track.source.is_audio() && !track.paused {
                self.audio_bps += track.layers[0].reception.bitrate(now);
            }
            if !consumer.negotiated || track.source.is_audio() {
                continue;
            }
            let mut layers = track.costs(now);
            if layers == [0; LAYERS] {
                // Nothing has arrived yet, or nothing arrives at the moment: waiting for it costs
                // nothing.
                for (bps, _) in layers.iter_mut().zip(&track.layers) {
                    *bps = 1;
                }
            }
            let peer = track.member.peer;
            self.consumers.push(number);
            self.wanted.push(Wanted {
                priority: if track.source.is_screen() {
                    Priority::Screen
                } else if pinned == Some(peer) {
                    Priority::Pinned
                } else if speaker == Some(&peer) {
                    Priority::Speaker
                } else {
                    Priority::Other
                },
                preferred: consumer.preferred,
                layers,
                current: consumer.target,
            });
        }
    }

    /// Returns the bit rate of all video at the preferred layers, in bits per second.
    fn preferred_bps(&self) -> u64 {
        let wanted = self.wanted.iter();
        wanted
            .filter_map(|wanted| wanted.layers.get(wanted.ceiling()?).copied())
            .sum()
    }
}
