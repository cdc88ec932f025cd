//! The path of a packet from its publisher to its subscribers.

use std::time::Instant;

use super::allocate::LAYERS;
use super::packet::Packet;
use super::reception::Novelty;
use super::subscribe::layer_number;
use super::track::{NO_LAYER, Track};
use super::{Engine, Entry, MeetingState, Route, Side};
use crate::sdp::Extension;
use crate::wire::rtcp::{self, Rtcp, SenderInfo};
use crate::wire::rtp::{self, Header};
use crate::{Event, Source};

impl Engine {
    /// Processes an RTP packet.
    pub(super) fn rtp(
        &mut self,
        now: Instant,
        key: usize,
        route: Route,
        datagram: &mut [u8],
    ) -> bool {
        let taken = self.receive_rtp(now, key, route, datagram);
        if let Side::Publish(publisher) = &self.entries[key].side
            && let Some(report) = publisher.arrivals.next_report()
        {
            self.wake(now, key, report);
        }
        taken
    }

    fn receive_rtp(&mut self, now: Instant, key: usize, route: Route, datagram: &mut [u8]) -> bool {
        let entry = &mut self.entries[key];
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
        entry.transport.ice.record_packet(now, route);
        let plain = &datagram[..opened.end];
        let header = &opened.header;
        publisher.record_arrival(now, header, plain);
        let Some(stream) = publisher.stream(now, &mut self.tracks, header, plain) else {
            return false;
        };
        let track = &mut self.tracks[stream.track];
        let extension = forwarded_extension(track, header, plain);
        let Some(payload) = header.unpadded(plain) else {
            return false;
        };
        let mut payload = &plain[payload];
        let layer = &mut track.layers[stream.layer];
        let mut index = opened.index;
        if stream.is_rtx {
            // A padding-only packet has no original sequence number.
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
                .packet(now, index, header.timestamp, payload.len(), stream.is_rtx);
        match novelty {
            Novelty::InOrder => layer.newest = index,
            Novelty::Late => {}
            Novelty::Duplicate | Novelty::TooOld => return true,
        }
        if !layer.limiter.allows(now, payload.len()) {
            return false;
        }
        let is_new = novelty == Novelty::InOrder && !stream.is_rtx && !track.source.is_audio();
        let layers_changed = is_new && track.packet_received(now, stream.layer);
        let numbers = (index, header.timestamp, header.marker, extension);
        let packet = Packet::new(track.codec(), numbers, payload);
        let audio_level = extension.filter(|_| track.source == Source::Microphone && !track.paused);
        if let (Some(audio_level), Some(state)) =
            (audio_level, self.meetings.get_mut(&track.member.meeting))
        {
            state.record_audio_level(now, track, audio_level);
        }
        if layers_changed {
            self.allocate_for_subscribers(now, stream.track);
        }
        self.fan_out(now, stream.track, stream.layer, &packet);

        let layer = &self.tracks[stream.track].layers[stream.layer];
        let next = [layer.reception.next_nack(), layer.next_keyframe_request()];
        if let Some(next) = next.into_iter().flatten().min() {
            self.wake(now, key, next);
        }
        true
    }

    /// Forwards a packet to all subscribers of its layer.
    fn fan_out(&mut self, now: Instant, key: usize, layer_index: usize, packet: &Packet<'_>) {
        let track = &mut self.tracks[key];
        let number = layer_number(Some(layer_index));
        let clock_rate = track.uplink.clock_rate;
        let (codec, is_audio) = (track.codec(), track.source.is_audio());
        let layer = &mut track.layers[layer_index];
        if packet.is_keyframe_start && !is_audio {
            layer.keyframe_received(packet.index);
            layer.reception.key_frame(packet.index);
        }
        if !packet.payload.is_empty() {
            let numbers = (
                packet.index,
                packet.timestamp,
                packet.marker,
                packet.extension,
            );
            layer.history.store(now, numbers, packet.payload);
        }
        if track.paused {
            return;
        }
        let (layers, subscriptions) = (&track.layers, &mut track.subscriptions);
        for subscription in subscriptions {
            // A subscriber that receives nothing yet gets a lower layer until its target has a key
            // frame.
            let wanted = subscription.target == number
                || (subscription.current == NO_LAYER && subscription.target < number);
            let switches = packet.is_keyframe_start && wanted && subscription.current != number;
            if !switches && subscription.current != number {
                continue;
            }
            let Some(Entry {
                transport,
                side: Side::Receive(subscriber),
                wakes_at,
                ..
            }) = self.entries.get_mut(subscription.transport)
            else {
                continue;
            };
            let destination = (subscription.consumer, number);
            if switches {
                if !is_audio && subscriber.has_no_video_yet() {
                    // The first video packet allows the path to be probed.
                    let timer = (wakes_at, subscription.transport);
                    Self::wake_by(&mut self.timers, timer, now, now);
                }
                if let Some(consumer) = subscriber.consumers.get_mut(subscription.consumer) {
                    let previous = consumer.munger.current().map(|segment| segment.layer);
                    let reference = if previous == Some(number) {
                        // The publisher's clock advanced while the subscriber received nothing.
                        Some(packet.timestamp)
                    } else {
                        previous.and_then(|previous| {
                            let ntp = layers[layer_index].ntp_at(packet.timestamp, clock_rate)?;
                            layers
                                .get(usize::from(previous))?
                                .timestamp_at(ntp, clock_rate)
                        })
                    };
                    consumer
                        .munger
                        .switch(now, number, packet.source_fields(), reference);
                }
                subscription.current = number;
                // Without a sender report, audio and video would be out of sync until the next one.
                if let Some((report, _)) = &layers[layer_index].report {
                    let report = (report, false);
                    subscriber.report(now, transport, &mut self.pool, destination, report);
                }
            }
            if packet.payload.is_empty() {
                if let Some(consumer) = subscriber.consumers.get_mut(subscription.consumer) {
                    consumer.munger.skip(number, packet.index);
                }
            } else {
                subscriber.forward(now, transport, &mut self.pool, destination, packet);
            }
            if switches {
                // If the first packet of the key frame arrived late, also forward the packets that
                // arrived before it.
                let layer = &layers[layer_index];
                let after = packet.index + 1..=layer.newest;
                for stored in after.filter_map(|index| layer.history.get(index)) {
                    let packet = Packet::stored(codec, stored);
                    subscriber.forward(now, transport, &mut self.pool, destination, &packet);
                }
            }
        }
    }

    /// Processes a compound RTCP packet.
    pub(super) fn rtcp(
        &mut self,
        now: Instant,
        key: usize,
        route: Route,
        datagram: &mut [u8],
    ) -> bool {
        let entry = &mut self.entries[key];
        let Some(plain) = entry
            .transport
            .opener()
            .and_then(|opener| opener.open_rtcp(datagram))
        else {
            return false;
        };
        entry.transport.ice.record_packet(now, route);
        match &entry.side {
            Side::Publish(_) => self.publisher_rtcp(now, key, plain),
            Side::Receive(_) => self.subscriber_rtcp(now, key, plain),
        }
        true
    }

    fn publisher_rtcp(&mut self, now: Instant, key: usize, plain: &[u8]) {
        for packet in rtcp::parse(plain) {
            let Rtcp::SenderReport { sender, .. } = packet else {
                continue;
            };
            let Side::Publish(publisher) = &self.entries[key].side else {
                return;
            };
            let Some(stream) = publisher.media_stream(sender.ssrc) else {
                continue;
            };
            let track = &mut self.tracks[stream.track];
            let layer = &mut track.layers[stream.layer];
            layer.reception.sender_report(now, sender.ntp);
            layer.report = Some((sender, now));
            if layer.limiter.allows_report(now) && !track.paused {
                self.forward_report(now, stream.track, stream.layer, &sender);
            }
        }
    }

    fn forward_report(&mut self, now: Instant, key: usize, layer: usize, report: &SenderInfo) {
        let number = layer_number(Some(layer));
        for subscription in &self.tracks[key].subscriptions {
            if subscription.current != number {
                continue;
            }
            if let Some(Entry {
                transport,
                side: Side::Receive(subscriber),
                ..
            }) = self.entries.get_mut(subscription.transport)
            {
                let destination = (subscription.consumer, number);
                subscriber.report(now, transport, &mut self.pool, destination, (report, true));
            }
        }
    }

    fn subscriber_rtcp(&mut self, now: Instant, key: usize, plain: &[u8]) {
        let mut keyframes = Vec::new();
        let entry = &mut self.entries[key];
        let Side::Receive(subscriber) = &mut entry.side else {
            return;
        };
        let estimate = subscriber.bandwidth.estimate();
        let was_known = subscriber.bandwidth.is_known();
        for packet in rtcp::parse(plain) {
            match packet {
                Rtcp::ReceiverReport { blocks, .. } | Rtcp::SenderReport { blocks, .. } => {
                    for block in blocks {
                        let round_trip = subscriber.on_report_block(now, &block);
                        subscriber.round_trip = round_trip.or(subscriber.round_trip);
                    }
                }
                Rtcp::Nack { media, lost, .. } => {
                    let Some((consumer, indexes)) = subscriber.resolve_nack(media, lost) else {
                        continue;
                    };
                    for index in indexes {
                        let consumer_state = &subscriber.consumers[consumer];
                        let Some((source, segment)) = consumer_state.munger.source(index) else {
                            continue;
                        };
                        let track = consumer_state.track;
                        let Some(layer) = Some(&self.tracks[track])
                            .filter(|track| !track.paused)
                            .and_then(|track| track.layers.get(usize::from(segment.layer)))
                        else {
                            continue;
                        };
                        let Some(stored) = layer.history.get(source) else {
                            // After an outage, browsers take seconds to request a key frame by
                            // themselves.
                            let current = consumer_state.munger.current();
                            let is_current = current.is_some_and(|now| now.layer == segment.layer);
                            if is_current && layer.needs_keyframe(source) {
                                keyframes.push((consumer, track));
                            }
                            continue;
                        };
                        if subscriber.is_retransmission_in_flight(now, consumer, index) {
                            continue;
                        }
                        if !subscriber.may_retransmit(now, stored.payload.len()) {
                            break;
                        }
                        let (transport, pool) = (&mut entry.transport, &mut self.pool);
                        let which = (consumer, index);
                        subscriber.retransmit(now, transport, pool, which, (stored, &segment));
                    }
                }
                Rtcp::Pli { media, .. } => keyframes.extend(subscriber.track_of(media)),
                Rtcp::Fir { entries, .. } => {
                    keyframes.extend(entries.filter_map(|(media, _)| subscriber.track_of(media)));
                }
                Rtcp::TransportCc(feedback) => {
                    // The reference time is in units of 64 ms, the arrival times in units of 250
                    // µs.
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
        // The periodic allocation picks up changes of less than a tenth.
        let changed = after.abs_diff(estimate) * 10 > estimate
            || subscriber.bandwidth.is_known() != was_known;
        for (consumer, track) in keyframes {
            self.request_keyframe(now, track, key, consumer);
        }
        if changed {
            self.allocate_layers(now, key);
        }
        if let Side::Receive(subscriber) = &self.entries[key].side
            && let Some(next) = subscriber.next_timeout()
        {
            self.wake(now, key, next);
        }
    }

    /// Requests a key frame for a subscriber that cannot decode.
    fn request_keyframe(&mut self, now: Instant, track: usize, transport: usize, consumer: usize) {
        let Some(track) = self.tracks.get_mut(track) else {
            return;
        };
        // Audio has no key frames.
        if track.source.is_audio() {
            return;
        }
        let subscription = track.subscription(transport, consumer);
        let Some(current) = subscription.map(|subscription| subscription.current) else {
            return;
        };
        let publisher = track.transport;
        if let Some(layer) = track.layers.get_mut(usize::from(current)) {
            layer.request_keyframe();
            self.schedule_keyframe_requests(now, publisher);
        }
    }

    /// Requests key frames of all layers that a subscriber waits to switch to.
    pub(super) fn request_missing_keyframes(&mut self, now: Instant, track: usize) {
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
            layer.request_keyframe();
        }
        self.schedule_keyframe_requests(now, publisher);
    }

    /// Reschedules the publisher's timer for the pending key frame requests.
    pub(super) fn schedule_keyframe_requests(&mut self, now: Instant, publisher: usize) {
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

impl MeetingState {
    /// Records the audio level of a microphone packet (RFC 6464).
    fn record_audio_level(&mut self, now: Instant, track: &Track, audio_level: u8) {
        let (level, voice) = rtp::audio_level(&[audio_level]);
        self.speakers
            .level(now, track.member.peer, level, Some(voice));
        if let Some(ranking) = self.speakers.poll(now) {
            let ranking = ranking.to_vec();
            self.notify(&Event::Speaking(ranking));
        }
    }
}

/// Returns the value of the header extension that is forwarded: the audio level, or the video
/// orientation.
fn forwarded_extension(track: &Track, header: &Header, packet: &[u8]) -> Option<u8> {
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
