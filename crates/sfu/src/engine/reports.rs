//! What is known of a client's media, for those who look after it.

use std::time::Instant;

use super::reception::Reception;
use super::track::Track;
use super::{Engine, Route, Side};
use crate::relay::Via;
use crate::{Direction, Member, PeerReport, TrackReport, TransportReport};

impl Engine {
    /// What is known of a client's media.
    pub(crate) fn report(&self, now: Instant, member: Member) -> Option<PeerReport> {
        let of = |direction: Direction| {
            let place = self.by_member.get(&(member, direction)).copied();
            place.map(|place| self.transport_report(now, place))
        };
        let report = PeerReport {
            publish: of(Direction::Publish),
            receive: of(Direction::Receive),
        };
        (report.publish.is_some() || report.receive.is_some()).then_some(report)
    }

    fn transport_report(&self, now: Instant, place: usize) -> TransportReport {
        let entry = &self.entries[place];
        let route = entry.transport.ice.selected();
        let mut report = TransportReport {
            connected: entry.dies.is_none(),
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
                let tracks = publisher.tracks.iter().map(|place| &self.tracks[*place]);
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
                    let own = all.find(|own| own.transport == place && own.consumer == number);
                    let current = own.and_then(|own| track.layers.get(usize::from(own.current)));
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
