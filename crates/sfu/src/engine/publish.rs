//! The side of a transport that receives what its client publishes.

use std::time::{Duration, Instant};

use super::arrivals::Arrivals;
use super::track::Track;
use super::transport::{Transport, Yard};
use crate::sdp::{Description, Extension, Publishing, Uplink};
use crate::wire::rtcp::{self, ReportBlock};
use crate::wire::rtp::{self, Header};
use slab::Slab;

/// How we are called in feedback: the receiver of a stream needs no SSRC of its own, but the
/// packets have a place for one.
const OURSELVES: u32 = 1;

/// Between two receiver reports.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// The round trip that is assumed when packets are asked for again: a publisher is sent nothing
/// that would show the real one.
const ROUND_TRIP: Duration = Duration::from_millis(80);

/// Streams one client may send: more than any client does, with room for those that come and go.
const STREAMS: usize = 64;

/// What a client publishes.
pub(super) struct Publisher {
    pub(super) sdp: Publishing,
    /// Its tracks, by their place in the engine.
    pub(super) tracks: Vec<usize>,
    streams: Vec<Stream>,
    /// The extension with the transport-wide number: one id for all lines of a bundle (RFC 8843, 10).
    transport_cc: Option<u8>,
    pub(super) arrivals: Arrivals,
    feedback_count: u8,
    reported: Option<Instant>,
    /// Kept for its memory.
    lost: Vec<u16>,
}

/// What an SSRC stands for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stream {
    ssrc: u32,
    pub(super) track: usize,
    pub(super) layer: usize,
    /// It repeats packets of the layer (RFC 4588).
    pub(super) repeats: bool,
}

impl Publisher {
    pub(super) fn new(sdp: Publishing, offer: &Description) -> Self {
        let mut lines = offer.media.iter();
        Self {
            sdp,
            tracks: Vec::new(),
            streams: Vec::new(),
            transport_cc: lines.find_map(|line| line.extensions.id(Extension::TransportCc)),
            arrivals: Arrivals::new(),
            feedback_count: 0,
            reported: None,
            lost: Vec::new(),
        }
    }

    /// A track begins: what the offer says of its streams is known from now on.
    pub(super) fn add(&mut self, now: Instant, place: usize, track: &mut Track) {
        self.tracks.push(place);
        if !track.uplink.rids.is_empty() {
            return;
        }
        let Some(&ssrc) = track.uplink.ssrcs.first() else {
            return;
        };
        self.learn(ssrc, place, 0, false);
        track.layers[0].found(now, ssrc);
        let repeats = track
            .uplink
            .rtx_ssrcs
            .iter()
            .find(|(media, _)| *media == ssrc);
        if let Some((_, repeats)) = repeats {
            self.learn(*repeats, place, 0, true);
        }
    }

    /// A track ends.
    pub(super) fn remove(&mut self, place: usize) {
        self.tracks.retain(|track| *track != place);
        self.streams.retain(|stream| stream.track != place);
    }

    fn learn(&mut self, ssrc: u32, track: usize, layer: usize, repeats: bool) {
        if self.streams.len() < STREAMS && !self.streams.iter().any(|known| known.ssrc == ssrc) {
            self.streams.push(Stream {
                ssrc,
                track,
                layer,
                repeats,
            });
        }
    }

    /// Counts a packet for the feedback that the client's estimate of its path is made from. All of
    /// them count, padding on lines without a track too: one that is not reported counts as lost.
    pub(super) fn arrived(&mut self, now: Instant, header: &Header, packet: &[u8]) {
        let Some(id) = self.transport_cc else { return };
        let number = header
            .extensions(packet)
            .find(|(own, _)| *own == id)
            .and_then(|(_, value)| rtp::transport_sequence(value));
        if let Some(number) = number {
            self.arrivals.packet(now, number);
        }
    }

    /// What a packet belongs to. One whose SSRC is new says in its extensions what it is (RFC 8843,
    /// 9.2; RFC 8852, 3).
    pub(super) fn stream(
        &mut self,
        now: Instant,
        tracks: &mut Slab<Track>,
        header: &Header,
        packet: &[u8],
    ) -> Option<Stream> {
        let known = self.streams.iter().find(|known| known.ssrc == header.ssrc);
        if let Some(known) = known {
            return Some(*known);
        }
        let value = |uplink: &Uplink, wanted: Extension| {
            let id = uplink.extensions.id(wanted)?;
            header
                .extensions(packet)
                .find_map(|(own, value)| (own == id).then_some(value))
        };
        let place = *self.tracks.iter().find(|place| {
            let uplink = &tracks[**place].uplink;
            value(uplink, Extension::Mid).is_some_and(|mid| mid == uplink.mid.as_bytes())
        })?;
        let track = &mut tracks[place];
        let repeated = value(&track.uplink, Extension::RepairedRid);
        let layer = track.layer_of(repeated.or_else(|| value(&track.uplink, Extension::Rid)))?;
        let repeats = repeated.is_some() || Some(header.payload_type) == track.uplink.rtx;
        // A stream is only what the track was agreed to be sent as: requests to repeat name its SSRC.
        if !repeats && header.payload_type != track.uplink.payload_type {
            return None;
        }
        self.learn(header.ssrc, place, layer, repeats);
        if !repeats {
            track.layers[layer].found(now, header.ssrc);
        }
        self.streams
            .iter()
            .find(|known| known.ssrc == header.ssrc)
            .copied()
    }

    /// The stream of an SSRC, if it carries packets of its own.
    pub(super) fn original(&self, ssrc: u32) -> Option<Stream> {
        let of = |stream: &&Stream| stream.ssrc == ssrc && !stream.repeats;
        self.streams.iter().find(of).copied()
    }

    /// When there is something to say to the client.
    pub(super) fn next_timeout(&self, tracks: &Slab<Track>) -> Option<Instant> {
        let layers = self.tracks.iter().flat_map(|place| &tracks[*place].layers);
        // One whose SSRC is not known cannot be asked for anything.
        let layers = layers.filter(|layer| layer.ssrc.is_some());
        let asks = layers.flat_map(|layer| [layer.reception.next_nack(), layer.keyframe_next()]);
        let reports = self
            .reported
            .filter(|_| !self.tracks.is_empty())
            .map(|reported| reported + REPORT_EVERY);
        asks.chain([reports, self.arrivals.next_report()])
            .flatten()
            .min()
    }

    /// Asks for what is missing, and reports what has come.
    pub(super) fn tell(
        &mut self,
        now: Instant,
        tracks: &mut Slab<Track>,
        transport: &mut Transport,
        yard: &mut Yard,
    ) {
        for place in &self.tracks {
            let track = &mut tracks[*place];
            let is_audio = track.source.is_audio();
            let subscriptions = &track.subscriptions;
            for (number, layer) in (0_u8..).zip(&mut track.layers) {
                let Some(ssrc) = layer.ssrc else { continue };
                self.lost.clear();
                layer.reception.nacks(now, ROUND_TRIP, &mut self.lost);
                if !self.lost.is_empty() {
                    let lost = &self.lost;
                    transport.send_rtcp(yard, |out| {
                        rtcp::write_nack(out, OURSELVES, ssrc, lost);
                    });
                }
                if layer.reception.take_given_up() && !is_audio {
                    layer.want_keyframe();
                }
                if layer.keyframe_next().is_some_and(|at| at <= now) {
                    // A key frame costs all who watch the publisher, on whichever layer.
                    let watched = subscriptions
                        .iter()
                        .any(|own| own.current == number || own.target == number);
                    if track.paused || !watched {
                        layer.keyframe_unwanted();
                    }
                }
                if layer.keyframe_due(now) {
                    Self::ask_keyframe(ssrc, transport, yard);
                }
            }
        }
        if self.arrivals.next_report().is_some_and(|at| at <= now) {
            self.feed_back(tracks, transport, yard);
        }
        let reported = *self.reported.get_or_insert(now);
        if now.saturating_duration_since(reported) >= REPORT_EVERY {
            self.reported = Some(now);
            self.report(now, tracks, transport, yard);
        }
    }

    /// Asks for a key frame of a stream.
    fn ask_keyframe(ssrc: u32, transport: &mut Transport, yard: &mut Yard) {
        transport.send_rtcp(yard, |out| rtcp::write_pli(out, OURSELVES, ssrc));
    }

    fn feed_back(&mut self, tracks: &Slab<Track>, transport: &mut Transport, yard: &mut Yard) {
        // Any stream will do: the feedback is about the whole transport.
        let mut layers = self.tracks.iter().flat_map(|place| &tracks[*place].layers);
        let media = layers.find_map(|layer| layer.ssrc).unwrap_or_default();
        while let Some((base, arrivals)) = self.arrivals.pending() {
            let count = self.feedback_count;
            let mut told = 0;
            transport.send_rtcp(yard, |out| {
                told = rtcp::write_transport_cc(out, OURSELVES, media, count, base, arrivals);
            });
            self.feedback_count = count.wrapping_add(1);
            if told == 0 {
                // Nothing that can be written: those are not reported.
                told = arrivals.len();
            }
            self.arrivals.consumed(told);
        }
    }

    fn report(
        &mut self,
        now: Instant,
        tracks: &mut Slab<Track>,
        transport: &mut Transport,
        yard: &mut Yard,
    ) {
        let mut blocks: Vec<ReportBlock> = Vec::new();
        for place in &self.tracks {
            for layer in &mut tracks[*place].layers {
                let Some(ssrc) = layer.ssrc else { continue };
                blocks.extend(layer.reception.report(now).map(|fields| ReportBlock {
                    ssrc,
                    fraction_lost: fields.fraction_lost,
                    lost: fields.lost,
                    highest: fields.highest,
                    jitter: fields.jitter,
                    lsr: fields.lsr,
                    dlsr: fields.dlsr,
                }));
            }
        }
        // A report has room for 31.
        for blocks in blocks.chunks(31) {
            transport.send_rtcp(yard, |out| {
                rtcp::write_receiver_report(out, OURSELVES, blocks);
            });
        }
    }
}
