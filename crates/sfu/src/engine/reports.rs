//! Statistics of a client's media.

use std::time::Instant;

use super::reception::Reception;
use super::track::Track;
use super::{Engine, Route, Side};
use crate::relay::Via;
use crate::{Direction, Member, PeerReport, TrackReport, TransportReport};

impl Engine {
    /// Returns the statistics of a member's transports.
    pub(crate) fn report(&self, now: Instant, member: Member) -> Option<PeerReport> {
        let of = |direction: Direction| {
            let key = self.by_member.get(&(member, direction)).copied();
            key.map(|key| self.transport_report(now, key))
        };
        let report = PeerReport {
            publish: of(Direction::Publish),
            receive: of(Direction::Receive),
        };
        (report.publish.is_some() || report.receive.is_some()).then_some(report)
    }

    fn transport_report(&self, now: Instant, key: usize) -> TransportReport {
        let entry = &self.entries[key];
        let route = entry.transport.ice.selected();
        let mut report = TransportReport {
            connected: entry.expires_at.is_none(),
            protocol: match route {
                Some(Route::Udp(..)) => "udp",
                Some(Route::Link(_, Via::Tcp)) => "tcp",
                Some(Route::Link(_, Via::Relay)) => "relay",
                None => "",
            },
            remote: match route {
                Some(Route::Udp(_, address)) => Some(address),
                _ => None,
            },
            ..TransportReport::default()
        };
        match &entry.side {
            Side::Publish(publisher) => {
                let tracks = publisher.tracks.iter().map(|key| &self.tracks[*key]);
                report.tracks = tracks.map(|track| track.report(now)).collect();
            }
            Side::Receive(subscriber) => {
                let round_trip = subscriber.round_trip.or(subscriber.bandwidth.round_trip());
                report.round_trip_ms = round_trip.map(|time| time.as_secs_f64() * 1000.0);
                report.available_bps = Some(subscriber.bandwidth.estimate());
                report.arrived_bps = subscriber.bandwidth.acknowledged();
                report.loss = Some(f64::from(subscriber.bandwidth.loss()));
                for (number, consumer) in &subscriber.consumers {
                    let track = &self.tracks[consumer.track];
                    let mut all = track.subscriptions.iter();
                    let subscription = all.find(|subscription| {
                        subscription.transport == key && subscription.consumer == number
                    });
                    let current = subscription.and_then(|subscription| {
                        track.layers.get(usize::from(subscription.current))
                    });
                    report.tracks.push(TrackReport {
                        producer: consumer.producer,
                        source: consumer.source,
                        mid: consumer.mid.clone(),
                        layer: current.and_then(|layer| layer.rid.clone()),
                        bps: current.map_or(0, |layer| layer.reception.bitrate(now)),
                        packets: consumer.packets,
                        bytes: consumer.bytes,
                        lost: consumer.lost,
                        repaired: 0,
                        jitter_ms: f64::from(consumer.jitter) * 1000.0
                            / f64::from(track.uplink.clock_rate),
                    });
                }
            }
        }
        report
    }
}

impl Track {
    fn report(&self, now: Instant) -> TrackReport {
        let receptions = || self.layers.iter().map(|layer| &layer.reception);
        let best = self
            .layers
            .iter()
            .find(|layer| layer.reception.bitrate(now) > 0);
        TrackReport {
            producer: self.producer,
            source: self.source,
            mid: self.uplink.mid.clone(),
            layer: best.and_then(|layer| layer.rid.clone()),
            bps: receptions().map(|reception| reception.bitrate(now)).sum(),
            packets: receptions().map(Reception::packets).sum(),
            bytes: receptions().map(Reception::bytes).sum(),
            lost: receptions().map(Reception::lost).sum(),
            repaired: receptions().map(Reception::repaired).sum(),
            jitter_ms: best.map_or(0.0, |layer| layer.reception.jitter_ms()),
        }
    }
}
