//! What fits on the path to a client, looked at again whenever something has changed.

use std::time::Instant;

use super::allocate::{self, LAYERS, Priority, Wanted};
use super::subscribe::{Subscriber, layer_number};
use super::track::{NONE, Track};
use super::{Engine, Hall, Side};

/// What one look at a client's videos needs, kept for its memory.
#[derive(Default)]
pub(super) struct Wishes {
    consumers: Vec<usize>,
    wanted: Vec<Wanted>,
    chosen: Vec<Option<usize>>,
    /// What voices take, which come before all pictures, in bits per second.
    audio: u64,
}

impl Engine {
    /// Looks what fits for everybody who receives a track.
    pub(super) fn serve_receivers(&mut self, now: Instant, track: usize) {
        let mut receivers = std::mem::take(&mut self.receivers);
        let subscriptions = &self.tracks[track].subscriptions;
        receivers.extend(subscriptions.iter().map(|own| own.transport));
        for place in receivers.drain(..) {
            self.serve(now, place);
        }
        self.receivers = receivers;
    }

    /// Looks what fits on the path to a client, and probes whether more would.
    pub(super) fn serve(&mut self, now: Instant, place: usize) {
        let mut wishes = std::mem::take(&mut self.wanted);
        let entry = &mut self.entries[place];
        let Side::Receive(subscriber) = &mut entry.side else {
            return;
        };
        let hall = self.halls.get(&entry.member.meeting);
        wishes.gather(now, subscriber, &self.tracks, hall);
        let budget = subscriber.budget(now, wishes.audio);
        allocate::allocate(&budget, &wishes.wanted, &mut wishes.chosen);
        let wants = subscriber.pads().map(|_| wishes.audio + wishes.best());
        subscriber.bandwidth.wants(wants.unwrap_or_default());
        subscriber.looked(now);
        if let Some(probe) = subscriber.bandwidth.poll_probe(now) {
            let (transport, yard) = (&mut entry.transport, &mut self.yard);
            subscriber.pad(now, transport, yard, probe.bytes, probe.cluster);
        }
        for (consumer, chosen) in wishes.consumers.iter().zip(&wishes.chosen) {
            self.aim(now, place, *consumer, *chosen);
        }
        self.wanted = wishes;
        if let Side::Receive(subscriber) = &self.entries[place].side
            && let Some(next) = subscriber.next_timeout()
        {
            self.wake(now, place, next);
        }
    }

    /// Sets the layer that a consumer is to have.
    fn aim(&mut self, now: Instant, place: usize, number: usize, chosen: Option<usize>) {
        let Side::Receive(subscriber) = &mut self.entries[place].side else {
            return;
        };
        let consumer = &mut subscriber.consumers[number];
        if consumer.target == chosen {
            return;
        }
        consumer.target = chosen;
        let track = &mut self.tracks[consumer.track];
        let (publisher, paused) = (track.transport, track.paused);
        let Some(own) = track.subscription(place, number) else {
            return;
        };
        own.target = layer_number(chosen);
        let Some(chosen) = chosen else {
            own.current = NONE;
            return;
        };
        if own.current != own.target && !paused {
            track.layers[chosen].want_keyframe();
            self.ask(now, publisher);
        }
    }
}

impl Wishes {
    fn gather(
        &mut self,
        now: Instant,
        subscriber: &Subscriber,
        tracks: &slab::Slab<Track>,
        hall: Option<&Hall>,
    ) {
        self.consumers.clear();
        self.wanted.clear();
        self.audio = 0;
        let speaker = hall.and_then(|hall| hall.speaking.ranking().first());
        let pinned = hall.and_then(|hall| hall.pinned);
        for (number, consumer) in &subscriber.consumers {
            let track = &tracks[consumer.track];
            if track.source.is_audio() && !track.paused {
                self.audio += track.layers[0].reception.bitrate(now);
            }
            if !consumer.agreed || track.source.is_audio() {
                continue;
            }
            let mut layers = track.costs(now);
            if layers == [0; LAYERS] {
                // Nothing has come yet, or nothing comes for now: it costs nothing to wait for it.
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

    /// What everything that is wanted would take.
    fn best(&self) -> u64 {
        let wanted = self.wanted.iter();
        wanted
            .filter_map(|wanted| wanted.layers.get(wanted.ceiling()?).copied())
            .sum()
    }
}
