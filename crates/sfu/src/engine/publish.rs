//! The publisher's side of a transport.

use std::time::{Duration, Instant};

use super::arrivals::Arrivals;
use super::track::Track;
use super::transport::{OutboxPool, Transport};
use crate::sdp::{Description, Extension, Publishing, Uplink};
use crate::wire::rtcp::{self, ReportBlock};
use crate::wire::rtp::{self, Header};
use slab::Slab;

/// The sender SSRC of our RTCP feedback. We send no media, but the packets require one.
const SENDER_SSRC: u32 = 1;

/// Interval between receiver reports.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// The round-trip time assumed for NACK retries: nothing is sent to a publisher that would measure
/// the real one.
const ASSUMED_ROUND_TRIP: Duration = Duration::from_millis(80);

/// Maximum number of SSRCs that one client may send: more than any client uses, with room for
/// restarted streams.
const MAX_STREAMS: usize = 64;

/// The state of a publishing transport.
pub(super) struct Publisher {
    pub(super) sdp: Publishing,
    /// Slab keys of its tracks.
    pub(super) tracks: Vec<usize>,
    streams: Vec<Stream>,
    /// Id of the transport-wide sequence number extension, which all media sections of a bundle
    /// share (RFC 8843, 10).
    transport_cc: Option<u8>,
    pub(super) arrivals: Arrivals,
    feedback_count: u8,
    last_report: Option<Instant>,
    /// Scratch buffer for NACKs.
    lost: Vec<u16>,
}

/// The track and layer of an SSRC.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stream {
    ssrc: u32,
    pub(super) track: usize,
    pub(super) layer: usize,
    /// Whether it carries retransmissions of the layer (RFC 4588).
    pub(super) is_rtx: bool,
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
            last_report: None,
            lost: Vec::new(),
        }
    }

    /// Adds a track and registers the SSRCs that its offer announces.
    pub(super) fn add(&mut self, now: Instant, key: usize, track: &mut Track) {
        self.tracks.push(key);
        if !track.uplink.rids.is_empty() {
            return;
        }
        let Some(&ssrc) = track.uplink.ssrcs.first() else {
            return;
        };
        self.add_stream(ssrc, key, 0, false);
        track.layers[0].set_ssrc(now, ssrc);
        let rtx = track
            .uplink
            .rtx_ssrcs
            .iter()
            .find(|(media, _)| *media == ssrc);
        if let Some((_, rtx)) = rtx {
            self.add_stream(*rtx, key, 0, true);
        }
    }

    /// Removes a track.
    pub(super) fn remove(&mut self, key: usize) {
        self.tracks.retain(|track| *track != key);
        self.streams.retain(|stream| stream.track != key);
    }

    fn add_stream(&mut self, ssrc: u32, track: usize, layer: usize, is_rtx: bool) {
        if self.streams.len() < MAX_STREAMS && !self.streams.iter().any(|known| known.ssrc == ssrc)
        {
            self.streams.push(Stream {
                ssrc,
                track,
                layer,
                is_rtx,
            });
        }
    }

    /// Records the arrival of a packet for transport-wide feedback. Every packet is recorded,
    /// including padding on media sections without a track: a packet that is not reported counts as
    /// lost.
    pub(super) fn record_arrival(&mut self, now: Instant, header: &Header, packet: &[u8]) {
        let Some(id) = self.transport_cc else { return };
        let number = header
            .extensions(packet)
            .find(|(extension, _)| *extension == id)
            .and_then(|(_, value)| rtp::transport_sequence(value));
        if let Some(number) = number {
            self.arrivals.packet(now, number);
        }
    }

    /// Returns the stream of a packet. A new SSRC is identified by the packet's header extensions
    /// (RFC 8843, 9.2; RFC 8852, 3).
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
                .find_map(|(extension, value)| (extension == id).then_some(value))
        };
        let key = *self.tracks.iter().find(|key| {
            let uplink = &tracks[**key].uplink;
            value(uplink, Extension::Mid).is_some_and(|mid| mid == uplink.mid.as_bytes())
        })?;
        let track = &mut tracks[key];
        let repaired_rid = value(&track.uplink, Extension::RepairedRid);
        let layer =
            track.layer_of(repaired_rid.or_else(|| value(&track.uplink, Extension::Rid)))?;
        let is_rtx = repaired_rid.is_some() || Some(header.payload_type) == track.uplink.rtx;
        // Only the negotiated payload type registers an SSRC, since NACKs refer to it.
        if !is_rtx && header.payload_type != track.uplink.payload_type {
            return None;
        }
        self.add_stream(header.ssrc, key, layer, is_rtx);
        if !is_rtx {
            track.layers[layer].set_ssrc(now, header.ssrc);
        }
        self.streams
            .iter()
            .find(|known| known.ssrc == header.ssrc)
            .copied()
    }

    /// Returns the stream of an SSRC, unless it carries retransmissions.
    pub(super) fn media_stream(&self, ssrc: u32) -> Option<Stream> {
        let of = |stream: &&Stream| stream.ssrc == ssrc && !stream.is_rtx;
        self.streams.iter().find(of).copied()
    }

    /// Returns when [`Publisher::send_feedback`] must be called.
    pub(super) fn next_timeout(&self, tracks: &Slab<Track>) -> Option<Instant> {
        let layers = self.tracks.iter().flat_map(|key| &tracks[*key].layers);
        // Without an SSRC, nothing can be requested for a layer.
        let layers = layers.filter(|layer| layer.ssrc.is_some());
        let requests =
            layers.flat_map(|layer| [layer.reception.next_nack(), layer.next_keyframe_request()]);
        let reports = self
            .last_report
            .filter(|_| !self.tracks.is_empty())
            .map(|last_report| last_report + REPORT_INTERVAL);
        requests
            .chain([reports, self.arrivals.next_report()])
            .flatten()
            .min()
    }

    /// Sends the NACKs, key frame requests, transport-wide feedback and receiver reports that are
    /// due.
    pub(super) fn send_feedback(
        &mut self,
        now: Instant,
        tracks: &mut Slab<Track>,
        transport: &mut Transport,
        pool: &mut OutboxPool,
    ) {
        for key in &self.tracks {
            let track = &mut tracks[*key];
            let is_audio = track.source.is_audio();
            let subscriptions = &track.subscriptions;
            for (number, layer) in (0_u8..).zip(&mut track.layers) {
                let Some(ssrc) = layer.ssrc else { continue };
                self.lost.clear();
                layer
                    .reception
                    .nacks(now, ASSUMED_ROUND_TRIP, &mut self.lost);
                if !self.lost.is_empty() {
                    let lost = &self.lost;
                    transport.send_rtcp(pool, |out| {
                        rtcp::write_nack(out, SENDER_SSRC, ssrc, lost);
                    });
                }
                if layer.reception.take_given_up() && !is_audio {
                    layer.request_keyframe();
                }
                if layer.next_keyframe_request().is_some_and(|at| at <= now) {
                    // A key frame on any layer costs bandwidth for every subscriber of the track.
                    let watched = subscriptions.iter().any(|subscription| {
                        subscription.current == number || subscription.target == number
                    });
                    if track.paused || !watched {
                        layer.cancel_keyframe_request();
                    }
                }
                if layer.keyframe_due(now) {
                    Self::send_pli(ssrc, transport, pool);
                }
            }
        }
        if self.arrivals.next_report().is_some_and(|at| at <= now) {
            self.send_transport_cc(tracks, transport, pool);
        }
        let last_report = *self.last_report.get_or_insert(now);
        if now.saturating_duration_since(last_report) >= REPORT_INTERVAL {
            self.last_report = Some(now);
            self.send_receiver_reports(now, tracks, transport, pool);
        }
    }

    /// Requests a key frame of a stream (PLI).
    fn send_pli(ssrc: u32, transport: &mut Transport, pool: &mut OutboxPool) {
        transport.send_rtcp(pool, |out| rtcp::write_pli(out, SENDER_SSRC, ssrc));
    }

    fn send_transport_cc(
        &mut self,
        tracks: &Slab<Track>,
        transport: &mut Transport,
        pool: &mut OutboxPool,
    ) {
        // Any SSRC of the transport will do, since the feedback covers the whole transport.
        let mut layers = self.tracks.iter().flat_map(|key| &tracks[*key].layers);
        let media = layers.find_map(|layer| layer.ssrc).unwrap_or_default();
        while let Some((base, arrivals)) = self.arrivals.pending() {
            let count = self.feedback_count;
            let mut written = 0;
            transport.send_rtcp(pool, |out| {
                written = rtcp::write_transport_cc(out, SENDER_SSRC, media, count, base, arrivals);
            });
            self.feedback_count = count.wrapping_add(1);
            if written == 0 {
                // These arrivals cannot be encoded; skip them.
                written = arrivals.len();
            }
            self.arrivals.consumed(written);
        }
    }

    fn send_receiver_reports(
        &mut self,
        now: Instant,
        tracks: &mut Slab<Track>,
        transport: &mut Transport,
        pool: &mut OutboxPool,
    ) {
        let mut blocks: Vec<ReportBlock> = Vec::new();
        for key in &self.tracks {
            for layer in &mut tracks[*key].layers {
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
        // A receiver report holds at most 31 blocks.
        for blocks in blocks.chunks(31) {
            transport.send_rtcp(pool, |out| {
                rtcp::write_receiver_report(out, SENDER_SSRC, blocks);
            });
        }
    }
}
