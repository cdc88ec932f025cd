//! The way of a packet from the one who publishes it to those who receive it.

use std::time::Instant;

use super::allocate::LAYERS;
use super::packet::Packet;
use super::reception::Novelty;
use super::subscribe::layer_number;
use super::track::{NONE, Track};
use super::{Engine, Entry, Hall, Route, Side};
use crate::sdp::Extension;
use crate::wire::rtcp::{self, Rtcp, SenderInfo};
use crate::wire::rtp::{self, Header};
use crate::{Event, Source};

impl Engine {
    /// A packet of media.
    pub(super) fn rtp(
        &mut self,
        now: Instant,
        place: usize,
        route: Route,
        datagram: &mut [u8],
    ) -> bool {
        let taken = self.take_rtp(now, place, route, datagram);
        if let Side::Publish(publisher) = &self.entries[place].side
            && let Some(report) = publisher.arrivals.next_report()
        {
            self.wake(now, place, report);
        }
        taken
    }

    fn take_rtp(&mut self, now: Instant, place: usize, route: Route, datagram: &mut [u8]) -> bool {
        let entry = &mut self.entries[place];
        let Side::Publish(publisher) = &mut entry.side else {
            return false;
        };
        let Some(opened) = entry
            .transport
            .opener()
            .and_then(|opener| opener.open_rtp(datagram))
        else {
            return false;
        };
        entry.transport.ice.used(now, route);
        let plain = &datagram[..opened.end];
        let header = &opened.header;
        publisher.arrived(now, header, plain);
        let Some(stream) = publisher.stream(now, &mut self.tracks, header, plain) else {
            return false;
        };
        let track = &mut self.tracks[stream.track];
        let mark = mark_of(track, header, plain);
        let Some(payload) = header.unpadded(plain) else {
            return false;
        };
        let mut payload = &plain[payload];
        let layer = &mut track.layers[stream.layer];
        let mut index = opened.index;
        if stream.repeats {
            // Padding has nothing in it.
            let Some((original, rest)) = payload.split_first_chunk() else {
                return true;
            };
            index = rtp::unwrap_sequence(layer.newest, u16::from_be_bytes(*original));
            payload = rest;
        } else if header.payload_type != track.uplink.payload_type {
            return false;
        }
        let novelty =
            layer
                .reception
                .packet(now, index, header.timestamp, payload.len(), stream.repeats);
        match novelty {
            Novelty::InOrder => layer.newest = index,
            Novelty::Late => {}
            Novelty::Duplicate | Novelty::TooOld => return true,
        }
        if !layer.pace.takes(now, payload.len()) {
            return false;
        }
        let is_new = novelty == Novelty::InOrder && !stream.repeats && !track.source.is_audio();
        let changes = is_new && track.heard(now, stream.layer);
        let numbers = (index, header.timestamp, header.marker, mark);
        let packet = Packet::new(track.codec(), numbers, payload);
        let heard = mark.filter(|_| track.source == Source::Microphone && !track.paused);
        if let (Some(mark), Some(hall)) = (heard, self.halls.get_mut(&track.member.meeting)) {
            hall.hear(now, track, mark);
        }
        if changes {
            self.serve_receivers(now, stream.track);
        }
        self.fan_out(now, stream.track, stream.layer, &packet);

        let layer = &self.tracks[stream.track].layers[stream.layer];
        let next = [layer.reception.next_nack(), layer.keyframe_next()];
        if let Some(next) = next.into_iter().flatten().min() {
            self.wake(now, place, next);
        }
        true
    }

    /// Sends a packet to everybody who receives its layer.
    fn fan_out(&mut self, now: Instant, place: usize, layer_place: usize, packet: &Packet<'_>) {
        let track = &mut self.tracks[place];
        let number = layer_number(Some(layer_place));
        let clock_rate = track.uplink.clock_rate;
        let (codec, is_audio) = (track.codec(), track.source.is_audio());
        let layer = &mut track.layers[layer_place];
        if packet.begins && !is_audio {
            layer.keyframe_came(packet.index);
            layer.reception.key_frame(packet.index);
        }
        if !packet.payload.is_empty() {
            let numbers = (packet.index, packet.timestamp, packet.marker, packet.mark);
            layer.history.store(now, numbers, packet.payload);
        }
        if track.paused {
            return;
        }
        let (layers, subscriptions) = (&track.layers, &mut track.subscriptions);
        for subscription in subscriptions {
            // Whoever has nothing yet takes a worse one, until its own layer has a key frame.
            let wanted = subscription.target == number
                || (subscription.current == NONE && subscription.target < number);
            let switches = packet.begins && wanted && subscription.current != number;
            if !switches && subscription.current != number {
                continue;
            }
            let Some(Entry {
                transport,
                side: Side::Receive(subscriber),
                wakes,
                ..
            }) = self.entries.get_mut(subscription.transport)
            else {
                continue;
            };
            let whom = (subscription.consumer, number);
            if switches {
                if !is_audio && subscriber.has_seen_nothing() {
                    // From now on it can be found out what the path bears.
                    let timer = (wakes, subscription.transport);
                    Self::hasten(&mut self.timers, timer, now, now);
                }
                if let Some(consumer) = subscriber.consumers.get_mut(subscription.consumer) {
                    let before = consumer.rewrite.current().map(|segment| segment.layer);
                    let same_moment = if before == Some(number) {
                        // Its clock went on while nothing of it was sent.
                        Some(packet.timestamp)
                    } else {
                        before.and_then(|before| {
                            let ntp = layers[layer_place].ntp_at(packet.timestamp, clock_rate)?;
                            layers
                                .get(usize::from(before))?
                                .timestamp_at(ntp, clock_rate)
                        })
                    };
                    consumer
                        .rewrite
                        .switch(now, number, packet.numbers(), same_moment);
                }
                subscription.current = number;
                // Without it, voice and picture would only be in step from the next one on.
                if let Some((report, _)) = &layers[layer_place].report {
                    let report = (report, false);
                    subscriber.report(now, transport, &mut self.yard, whom, report);
                }
            }
            if packet.payload.is_empty() {
                if let Some(consumer) = subscriber.consumers.get_mut(subscription.consumer) {
                    consumer.rewrite.skip(number, packet.index);
                }
            } else {
                subscriber.forward(now, transport, &mut self.yard, whom, packet);
            }
            if switches {
                // A first packet that came late: those after it were not sent yet.
                let layer = &layers[layer_place];
                let after = packet.index + 1..=layer.newest;
                for stored in after.filter_map(|index| layer.history.get(index)) {
                    let packet = Packet::stored(codec, stored);
                    subscriber.forward(now, transport, &mut self.yard, whom, &packet);
                }
            }
        }
    }

    /// Reports and requests.
    pub(super) fn rtcp(
        &mut self,
        now: Instant,
        place: usize,
        route: Route,
        datagram: &mut [u8],
    ) -> bool {
        let entry = &mut self.entries[place];
        let Some(plain) = entry
            .transport
            .opener()
            .and_then(|opener| opener.open_rtcp(datagram))
        else {
            return false;
        };
        entry.transport.ice.used(now, route);
        match &entry.side {
            Side::Publish(_) => self.rtcp_of_publisher(now, place, plain),
            Side::Receive(_) => self.rtcp_of_subscriber(now, place, plain),
        }
        true
    }

    fn rtcp_of_publisher(&mut self, now: Instant, place: usize, plain: &[u8]) {
        for packet in rtcp::parse(plain) {
            let Rtcp::SenderReport { sender, .. } = packet else {
                continue;
            };
            let Side::Publish(publisher) = &self.entries[place].side else {
                return;
            };
            let Some(stream) = publisher.original(sender.ssrc) else {
                continue;
            };
            let track = &mut self.tracks[stream.track];
            let layer = &mut track.layers[stream.layer];
            layer.reception.sender_report(now, sender.ntp);
            layer.report = Some((sender, now));
            if layer.pace.may_report(now) && !track.paused {
                self.pass_report(now, stream.track, stream.layer, &sender);
            }
        }
    }

    fn pass_report(&mut self, now: Instant, place: usize, layer: usize, report: &SenderInfo) {
        let number = layer_number(Some(layer));
        for subscription in &self.tracks[place].subscriptions {
            if subscription.current != number {
                continue;
            }
            if let Some(Entry {
                transport,
                side: Side::Receive(subscriber),
                ..
            }) = self.entries.get_mut(subscription.transport)
            {
                let whom = (subscription.consumer, number);
                subscriber.report(now, transport, &mut self.yard, whom, (report, true));
            }
        }
    }

    fn rtcp_of_subscriber(&mut self, now: Instant, place: usize, plain: &[u8]) {
        let mut keyframes = Vec::new();
        let entry = &mut self.entries[place];
        let Side::Receive(subscriber) = &mut entry.side else {
            return;
        };
        let estimate = subscriber.bandwidth.estimate();
        let was_known = subscriber.bandwidth.is_known();
        for packet in rtcp::parse(plain) {
            match packet {
                Rtcp::ReceiverReport { blocks, .. } | Rtcp::SenderReport { blocks, .. } => {
                    for block in blocks {
                        let round_trip = subscriber.block(now, &block);
                        subscriber.round_trip = round_trip.or(subscriber.round_trip);
                    }
                }
                Rtcp::Nack { media, lost, .. } => {
                    let Some((consumer, indexes)) = subscriber.missing(media, lost) else {
                        continue;
                    };
                    for index in indexes {
                        let held = &subscriber.consumers[consumer];
                        let Some((source, segment)) = held.rewrite.source(index) else {
                            continue;
                        };
                        let track = held.track;
                        let Some(layer) = Some(&self.tracks[track])
                            .filter(|track| !track.paused)
                            .and_then(|track| track.layers.get(usize::from(segment.layer)))
                        else {
                            continue;
                        };
                        let Some(stored) = layer.history.get(source) else {
                            // After an outage a browser waits seconds before it asks by itself.
                            let current = held.rewrite.current();
                            let is_current = current.is_some_and(|now| now.layer == segment.layer);
                            if is_current && layer.leaves_broken(source) {
                                keyframes.push((consumer, track));
                            }
                            continue;
                        };
                        if subscriber.is_repeated(now, consumer, index) {
                            continue;
                        }
                        if !subscriber.may_repeat(now, stored.payload.len()) {
                            break;
                        }
                        let (transport, yard) = (&mut entry.transport, &mut self.yard);
                        let which = (consumer, index);
                        subscriber.repeat(now, transport, yard, which, (stored, &segment));
                    }
                }
                Rtcp::Pli { media, .. } => keyframes.extend(subscriber.track_of(media)),
                Rtcp::Fir { entries, .. } => {
                    keyframes.extend(entries.filter_map(|(media, _)| subscriber.track_of(media)));
                }
                Rtcp::TransportCc(feedback) => {
                    // The reference counts 64 ms, and the rest 250 microseconds.
                    let reference = i64::from(feedback.reference_time) * 64_000;
                    let arrivals = feedback.arrivals().map(|(number, ticks)| {
                        (number, ticks.map(|ticks| reference + ticks * 250))
                    });
                    subscriber.bandwidth.feedback(now, arrivals);
                }
                _ => {}
            }
        }
        let after = subscriber.bandwidth.estimate();
        // Less than a tenth up or down changes nothing that the next look would not see.
        let changed = after.abs_diff(estimate) * 10 > estimate
            || subscriber.bandwidth.is_known() != was_known;
        for (consumer, track) in keyframes {
            self.want_keyframe(now, track, place, consumer);
        }
        if changed {
            self.serve(now, place);
        }
        if let Side::Receive(subscriber) = &self.entries[place].side
            && let Some(next) = subscriber.next_timeout()
        {
            self.wake(now, place, next);
        }
    }

    /// A receiver cannot go on decoding.
    fn want_keyframe(&mut self, now: Instant, track: usize, transport: usize, consumer: usize) {
        let Some(track) = self.tracks.get_mut(track) else {
            return;
        };
        // A sound begins with any packet.
        if track.source.is_audio() {
            return;
        }
        let own = track.subscription(transport, consumer);
        let Some(current) = own.map(|own| own.current) else {
            return;
        };
        let publisher = track.transport;
        if let Some(layer) = track.layers.get_mut(usize::from(current)) {
            layer.want_keyframe();
            self.ask(now, publisher);
        }
    }

    /// Asks for key frames of all the layers that somebody waits for.
    pub(super) fn ask_for_missing(&mut self, now: Instant, track: usize) {
        let track = &mut self.tracks[track];
        if track.source.is_audio() {
            return;
        }
        let publisher = track.transport;
        let mut waited_for = [false; LAYERS];
        for subscription in &track.subscriptions {
            if subscription.current != subscription.target
                && let Some(waited) = waited_for.get_mut(usize::from(subscription.target))
            {
                *waited = true;
            }
        }
        let layers = track.layers.iter_mut().zip(waited_for);
        for (layer, _) in layers.filter(|(_, waited)| *waited) {
            layer.want_keyframe();
        }
        self.ask(now, publisher);
    }

    /// Has a publisher asked for the key frames that are wanted, when they are due.
    pub(super) fn ask(&mut self, now: Instant, publisher: usize) {
        let Some(entry) = self.entries.get_mut(publisher) else {
            return;
        };
        if let Side::Publish(side) = &entry.side
            && let Some(next) = side.next_timeout(&self.tracks)
        {
            self.wake(now, publisher, next);
        }
    }
}

impl Hall {
    /// A microphone's packet with its level (RFC 6464).
    fn hear(&mut self, now: Instant, track: &Track, mark: u8) {
        let (level, voice) = rtp::audio_level(&[mark]);
        self.speaking
            .level(now, track.member.peer, level, Some(voice));
        if let Some(ranking) = self.speaking.poll(now) {
            let ranking = ranking.to_vec();
            self.tell(&Event::Speaking(ranking));
        }
    }
}

/// The audio level of a packet, or the orientation of its picture.
fn mark_of(track: &Track, header: &Header, packet: &[u8]) -> Option<u8> {
    let wanted = if track.source.is_audio() {
        Extension::AudioLevel
    } else {
        Extension::Orientation
    };
    let wanted = track.uplink.extensions.id(wanted)?;
    let mut extensions = header.extensions(packet);
    let (_, value) = extensions.find(|(id, _)| *id == wanted)?;
    value.first().copied()
}
