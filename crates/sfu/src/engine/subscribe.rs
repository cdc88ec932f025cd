//! The subscriber's side of a transport.

mod nack_throttle;
mod retransmit;

use std::time::{Duration, Instant};

use parlor_protocol::ProducerId;
use slab::Slab;

use self::nack_throttle::NackThrottle;
use super::allocate::Budget;
use super::bandwidth::{Bandwidth, ClusterId};
use super::packet::Packet;
use super::rtp_munger::{RtpMunger, Segment};
use super::track::{NO_LAYER, Track};
use super::transport::{OutboxPool, Transport, ntp_middle, round_trip};
use crate::Source;
use crate::sdp::{Extension, Kind, Receiving};
use crate::wire::rtcp::{self, ReportBlock, SenderInfo};
use crate::wire::rtp::{self, Outgoing};
use crate::wire::vp8;

/// Size of the UDP and IPv4 headers of a datagram, in bytes.
const DATAGRAM_OVERHEAD: usize = 28;

/// Interval between periodic layer allocations.
const ALLOCATION_INTERVAL: Duration = Duration::from_secs(1);

/// How long after the first video packet the initial estimate is trusted, if no feedback arrives.
const TRUST_ESTIMATE_AFTER: Duration = Duration::from_secs(3);

/// The state of a receiving transport.
pub(super) struct Subscriber {
    pub(super) sdp: Receiving,
    pub(super) consumers: Slab<Consumer>,
    pub(super) bandwidth: Bandwidth,
    /// Round-trip time, from the client's receiver reports.
    pub(super) round_trip: Option<Duration>,
    /// Number of bytes that may be retransmitted, and when it was last updated.
    retransmit_credit: f64,
    retransmit_credit_at: Instant,
    /// When the first video packet was sent.
    first_video_at: Option<Instant>,
    /// When the next periodic layer allocation is due.
    pub(super) next_allocation: Instant,
    /// Negotiated ids of the RTP header extensions.
    extension_ids: ExtensionIds,
    next_ssrc: Option<u32>,
}

#[derive(Debug, Clone, Copy, Default)]
struct ExtensionIds {
    level: Option<u8>,
    orientation: Option<u8>,
    transport_cc: Option<u8>,
}

/// A track that a client receives.
pub(super) struct Consumer {
    pub(super) producer: ProducerId,
    /// Slab key of the track.
    pub(super) track: usize,
    pub(super) source: Source,
    pub(super) mid: String,
    /// Id of the media stream that it is synchronised with; also its CNAME.
    stream: String,
    /// Whether the client has answered the offer with its media section.
    pub(super) negotiated: bool,
    /// The preferred layer: 0 is the best.
    pub(super) preferred: usize,
    /// The allocated layer.
    pub(super) target: Option<usize>,
    pub(super) ssrc: u32,
    payload_type: u8,
    rtx: Option<RtxStream>,
    nack_throttle: NackThrottle,
    pub(super) munger: RtpMunger,
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) lost: u64,
    pub(super) jitter: u32,
    /// The middle 32 bits of the NTP time of the last sender report, and when it was sent; `None`
    /// if it was sent more than once.
    last_report: Option<(u32, Option<Instant>)>,
}

/// The stream of retransmissions (RFC 4588).
struct RtxStream {
    ssrc: u32,
    payload_type: u8,
    next: u64,
}

/// The SSRCs and the first sequence number of a consumer.
pub(super) struct Numbering {
    pub(super) ssrc: u32,
    pub(super) rtx_ssrc: Option<u32>,
    pub(super) first: u16,
}

impl Subscriber {
    pub(super) fn new(now: Instant, sdp: Receiving) -> Self {
        let extension_ids = ExtensionIds {
            level: sdp.extension(Kind::Audio, Extension::AudioLevel),
            orientation: sdp.extension(Kind::Video, Extension::Orientation),
            transport_cc: sdp.extension(Kind::Video, Extension::TransportCc),
        };
        Self {
            sdp,
            consumers: Slab::new(),
            bandwidth: Bandwidth::new(now, super::BANDWIDTH_SETTINGS),
            round_trip: None,
            retransmit_credit: 0.0,
            retransmit_credit_at: now,
            first_video_at: None,
            next_allocation: now + ALLOCATION_INTERVAL,
            extension_ids,
            next_ssrc: None,
        }
    }

    /// Returns an SSRC that was never used on this transport, since two streams with one SSRC would
    /// share a key stream (RFC 7714, 8.1). The first one is `random`.
    pub(super) fn new_ssrc(&mut self, random: u32) -> u32 {
        let ssrc = self.next_ssrc.unwrap_or(random);
        self.next_ssrc = Some(ssrc.wrapping_add(1));
        ssrc
    }

    /// Adds a consumer of a track and returns its slab key, or `None` if the client does not
    /// support the codec.
    pub(super) fn add(
        &mut self,
        (key, track): (usize, &Track),
        (mid, stream): (String, String),
        preferred: usize,
        numbering: &Numbering,
    ) -> Option<usize> {
        let (payload_type, rtx_payload_type) = self.sdp.formats(track.codec())?;
        let rtx = numbering.rtx_ssrc.zip(rtx_payload_type);
        Some(self.consumers.insert(Consumer {
            producer: track.producer,
            track: key,
            source: track.source,
            mid,
            stream,
            negotiated: false,
            preferred,
            target: None,
            ssrc: numbering.ssrc,
            payload_type,
            rtx: rtx.map(|(ssrc, payload_type)| RtxStream {
                ssrc,
                payload_type,
                next: u64::from(numbering.first & 0x7FFF),
            }),
            nack_throttle: NackThrottle::default(),
            munger: RtpMunger::new(track.uplink.clock_rate, numbering.first),
            packets: 0,
            bytes: 0,
            lost: 0,
            jitter: 0,
            last_report: None,
        }))
    }

    /// Returns the consumer of a media section.
    pub(super) fn by_mid(&self, mid: &str) -> Option<usize> {
        let mut consumers = self.consumers.iter();
        consumers.find_map(|(key, consumer)| (consumer.mid == mid).then_some(key))
    }

    fn by_ssrc(&self, ssrc: u32) -> Option<usize> {
        let owns = |consumer: &Consumer| {
            let rtx = consumer.rtx.as_ref().map(|rtx| rtx.ssrc);
            consumer.ssrc == ssrc || rtx == Some(ssrc)
        };
        let mut consumers = self.consumers.iter();
        consumers.find_map(|(key, consumer)| owns(consumer).then_some(key))
    }

    /// Forwards a packet.
    pub(super) fn forward(
        &mut self,
        now: Instant,
        transport: &mut Transport,
        pool: &mut OutboxPool,
        (consumer, layer): (usize, u8),
        packet: &Packet<'_>,
    ) {
        let Some(consumer) = self.consumers.get_mut(consumer) else {
            return;
        };
        let numbers = packet.source_fields();
        let Some((index, segment)) = consumer.munger.forward(now, layer, numbers) else {
            return;
        };
        consumer.packets += 1;
        consumer.bytes += packet.payload.len() as u64;
        let outgoing = Outgoing {
            marker: packet.marker,
            payload_type: consumer.payload_type,
            #[expect(
                clippy::cast_possible_truncation,
                reason = "the wire format has 16 bits"
            )]
            sequence: index as u16,
            timestamp: segment.timestamp(packet.timestamp),
            ssrc: consumer.ssrc,
        };
        let is_audio = consumer.source.is_audio();
        if !is_audio {
            self.first_video_at.get_or_insert(now);
        }
        let sent = OutgoingPacket {
            outgoing,
            index,
            extension: packet.extension,
            is_audio,
            probe: None,
        };
        let (descriptor, payload) = (packet.vp8.as_ref(), packet.payload);
        self.send(now, transport, pool, &sent, |bytes| {
            let start = bytes.len();
            bytes.extend_from_slice(payload);
            patch_vp8(descriptor, &segment, &mut bytes[start..]);
        });
    }

    /// Sends a packet, whose payload is written by `write`.
    fn send(
        &mut self,
        now: Instant,
        transport: &mut Transport,
        pool: &mut OutboxPool,
        sent: &OutgoingPacket,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let Some((outbox, sealer)) = transport.begin(pool) else {
            return;
        };
        let overhead = sealer.overhead() + DATAGRAM_OVERHEAD;
        let (bytes, start) = outbox.begin();
        let extension = [sent.extension.unwrap_or_default()];
        let mut extensions: [(u8, &[u8]); 2] = [(0, &[]); 2];
        let extension_id = if sent.is_audio {
            self.extension_ids.level
        } else {
            self.extension_ids.orientation
        };
        if let Some(id) = extension_id.filter(|_| sent.extension.is_some()) {
            extensions[0] = (id, &extension);
        }
        // Audio packets carry no transport-wide number: they are retransmitted on the same SSRC, so
        // they must be identical, since their key stream is (RFC 7714, 8.4).
        if let Some(id) = self.extension_ids.transport_cc.filter(|_| !sent.is_audio) {
            extensions[1] = (id, &[0, 0]);
        }
        let header = rtp::write_header(bytes, &sent.outgoing, &extensions);
        write(bytes);
        if let Some(id) = self.extension_ids.transport_cc.filter(|_| !sent.is_audio) {
            let size = bytes.len() - start + overhead;
            let number = self.bandwidth.sent(now, size, sent.probe).to_be_bytes();
            // It follows the other extension, if there is one, which takes two bytes.
            let at = start + 16 + if extensions[0].0 == 0 { 0 } else { 2 };
            debug_assert_eq!(bytes[at], id << 4 | 1);
            bytes[at + 1..at + 3].copy_from_slice(&number);
        }
        sealer.seal_rtp(bytes, start, header, sent.index);
        outbox.end();
    }

    /// Forwards a sender report of the publisher, with the SSRC, timestamp and counts of this
    /// consumer. A report that is not new may have been forwarded before.
    pub(super) fn report(
        &mut self,
        now: Instant,
        transport: &mut Transport,
        pool: &mut OutboxPool,
        (key, layer): (usize, u8),
        (report, is_new): (&SenderInfo, bool),
    ) {
        let Some(consumer) = self.consumers.get_mut(key) else {
            return;
        };
        let Some(segment) = consumer.munger.current().filter(|s| s.layer == layer) else {
            return;
        };
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the counts wrap on the wire"
        )]
        let info = SenderInfo {
            ssrc: consumer.ssrc,
            ntp: report.ntp,
            rtp: segment.timestamp(report.rtp),
            packets: consumer.packets as u32,
            octets: consumer.bytes as u32,
        };
        // If a report is sent twice, it is ambiguous which of the two a report block refers to.
        consumer.last_report = Some((ntp_middle(report.ntp), is_new.then_some(now)));
        let cname = &consumer.stream;
        transport.send_rtcp(pool, |out| {
            rtcp::write_sender_report(out, &info, &[]);
            rtcp::write_sdes_cname(out, info.ssrc, cname);
        });
    }

    /// Processes a report block, and returns the round-trip time if it yields one.
    pub(super) fn on_report_block(
        &mut self,
        now: Instant,
        block: &ReportBlock,
    ) -> Option<Duration> {
        let key = self.by_ssrc(block.ssrc)?;
        let consumer = &mut self.consumers[key];
        if consumer.ssrc != block.ssrc {
            return None;
        }
        consumer.lost = u64::try_from(block.lost).unwrap_or_default();
        consumer.jitter = block.jitter;
        let (lsr, sent) = consumer.last_report?;
        (lsr == block.lsr && lsr != 0).then(|| round_trip(now, sent?, block))?
    }

    /// Returns the consumer of an SSRC and its track.
    pub(super) fn track_of(&self, ssrc: u32) -> Option<(usize, usize)> {
        let key = self.by_ssrc(ssrc)?;
        Some((key, self.consumers[key].track))
    }

    /// Returns when the layers must be allocated again, or `None` if there is no video.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let has_video = self
            .consumers
            .iter()
            .any(|(_, consumer)| !consumer.source.is_audio());
        if !has_video {
            return None;
        }
        [Some(self.next_allocation), self.bandwidth.next_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Returns the budget for video, given the bit rate of audio in bits per second.
    pub(super) fn budget(&self, now: Instant, audio_bps: u64) -> Budget {
        let is_trusted = self
            .first_video_at
            .is_some_and(|since| now.saturating_duration_since(since) > TRUST_ESTIMATE_AFTER);
        Budget {
            bps: self.bandwidth.estimate().saturating_sub(audio_bps),
            is_known: is_trusted || self.bandwidth.is_known(),
        }
    }

    /// Whether no video packet has been sent yet.
    pub(super) fn has_no_video_yet(&self) -> bool {
        self.first_video_at.is_none()
    }

    /// Schedules the next periodic allocation.
    pub(super) fn schedule_allocation(&mut self, now: Instant) {
        self.next_allocation = now + ALLOCATION_INTERVAL;
    }
}

/// The header and metadata of an outgoing packet.
struct OutgoingPacket {
    outgoing: Outgoing,
    index: u64,
    extension: Option<u8>,
    is_audio: bool,
    probe: Option<ClusterId>,
}

/// Rewrites the VP8 picture id and TL0PICIDX, so that they are consecutive across layer switches.
fn patch_vp8(descriptor: Option<&vp8::Descriptor>, segment: &Segment, payload: &mut [u8]) {
    let Some(descriptor) = descriptor.filter(|_| !segment.keeps_vp8_fields()) else {
        return;
    };
    let number = segment.picture_id(descriptor.picture_id.unwrap_or_default());
    let tl0 = segment.tl0(descriptor.tl0_pic_idx.unwrap_or_default());
    descriptor.patch(payload, number, tl0);
}

/// Converts a layer to the form that [`Subscription`](super::track::Subscription) uses.
pub(super) fn layer_number(layer: Option<usize>) -> u8 {
    layer
        .and_then(|layer| u8::try_from(layer).ok())
        .unwrap_or(NO_LAYER)
}
