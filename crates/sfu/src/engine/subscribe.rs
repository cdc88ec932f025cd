//! The side of a transport that sends a client what it receives of others.

mod repeat;
mod repeated;

use std::time::{Duration, Instant};

use parlor_protocol::ProducerId;
use slab::Slab;

use self::repeated::Repeated;
use super::allocate::Budget;
use super::bandwidth::{Bandwidth, Cluster};
use super::packet::Packet;
use super::rewrite::{Rewrite, Segment};
use super::track::{NONE, Track};
use super::transport::{Transport, Yard, middle, round_trip};
use crate::Source;
use crate::sdp::{Extension, Kind, Receiving};
use crate::wire::rtcp::{self, ReportBlock, SenderInfo};
use crate::wire::rtp::{self, Outgoing};
use crate::wire::vp8;

/// What a datagram weighs besides the bytes in it: UDP and IPv4 headers.
const DATAGRAM_OVERHEAD: usize = 28;

/// Between two looks at what fits.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long pictures are sent before the path counts as known, if nothing comes back that tells of
/// it.
const KNOWN_AFTER: Duration = Duration::from_secs(3);

/// What a client receives.
pub(super) struct Subscriber {
    pub(super) sdp: Receiving,
    pub(super) consumers: Slab<Consumer>,
    pub(super) bandwidth: Bandwidth,
    /// From the client's reports.
    pub(super) round_trip: Option<Duration>,
    /// Bytes that may be sent again, and when they were counted last.
    repeat_credit: f64,
    repeated: Instant,
    /// Since when pictures are sent.
    seen_since: Option<Instant>,
    /// When to look again at what fits.
    pub(super) look: Instant,
    /// The ids of what is sent with packets, as the client numbers them.
    marks: Marks,
    next_ssrc: Option<u32>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Marks {
    level: Option<u8>,
    orientation: Option<u8>,
    transport_cc: Option<u8>,
}

/// One track that a client receives.
pub(super) struct Consumer {
    pub(super) producer: ProducerId,
    /// The place of the track.
    pub(super) track: usize,
    pub(super) source: Source,
    pub(super) mid: String,
    /// What it is played in step with, which is its CNAME too.
    stream: String,
    /// The client has agreed to the line.
    pub(super) agreed: bool,
    /// The layer wanted: 0 is the best.
    pub(super) preferred: usize,
    /// The layer that it is to have.
    pub(super) target: Option<usize>,
    pub(super) ssrc: u32,
    payload_type: u8,
    repeats: Option<Repeats>,
    repeated: Repeated,
    pub(super) rewrite: Rewrite,
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) lost: u64,
    pub(super) jitter: u32,
    /// The last report: what the client repeats of it, and when it left, if it left once.
    reported: Option<(u32, Option<Instant>)>,
}

/// The stream on which packets are sent again (RFC 4588).
struct Repeats {
    ssrc: u32,
    payload_type: u8,
    next: u64,
}

/// What a consumer is called on the wire.
pub(super) struct Numbering {
    pub(super) ssrc: u32,
    pub(super) repeats: Option<u32>,
    pub(super) first: u16,
}

impl Subscriber {
    pub(super) fn new(now: Instant, sdp: Receiving) -> Self {
        let marks = Marks {
            level: sdp.extension(Kind::Audio, Extension::AudioLevel),
            orientation: sdp.extension(Kind::Video, Extension::Orientation),
            transport_cc: sdp.extension(Kind::Video, Extension::TransportCc),
        };
        Self {
            sdp,
            consumers: Slab::new(),
            bandwidth: Bandwidth::new(now, super::BANDWIDTH),
            round_trip: None,
            repeat_credit: 0.0,
            repeated: now,
            seen_since: None,
            look: now + LOOK_EVERY,
            marks,
            next_ssrc: None,
        }
    }

    /// An SSRC that was never used on this transport: one SSRC with two streams would be one key
    /// stream with two (RFC 7714, 8.1). The first is the random one.
    pub(super) fn new_ssrc(&mut self, random: u32) -> u32 {
        let ssrc = self.next_ssrc.unwrap_or(random);
        self.next_ssrc = Some(ssrc.wrapping_add(1));
        ssrc
    }

    /// A consumer of a track.
    pub(super) fn add(
        &mut self,
        (place, track): (usize, &Track),
        (mid, stream): (String, String),
        preferred: usize,
        numbering: &Numbering,
    ) -> Option<usize> {
        let (payload_type, repeated_as) = self.sdp.formats(track.codec())?;
        let repeats = numbering.repeats.zip(repeated_as);
        Some(self.consumers.insert(Consumer {
            producer: track.producer,
            track: place,
            source: track.source,
            mid,
            stream,
            agreed: false,
            preferred,
            target: None,
            ssrc: numbering.ssrc,
            payload_type,
            repeats: repeats.map(|(ssrc, payload_type)| Repeats {
                ssrc,
                payload_type,
                next: u64::from(numbering.first & 0x7FFF),
            }),
            repeated: Repeated::default(),
            rewrite: Rewrite::new(track.uplink.clock_rate, numbering.first),
            packets: 0,
            bytes: 0,
            lost: 0,
            jitter: 0,
            reported: None,
        }))
    }

    /// The consumer that sends on this line.
    pub(super) fn by_mid(&self, mid: &str) -> Option<usize> {
        let mut consumers = self.consumers.iter();
        consumers.find_map(|(place, consumer)| (consumer.mid == mid).then_some(place))
    }

    fn by_ssrc(&self, ssrc: u32) -> Option<usize> {
        let owns = |consumer: &Consumer| {
            let repeats = consumer.repeats.as_ref().map(|repeats| repeats.ssrc);
            consumer.ssrc == ssrc || repeats == Some(ssrc)
        };
        let mut consumers = self.consumers.iter();
        consumers.find_map(|(place, consumer)| owns(consumer).then_some(place))
    }

    /// Sends a packet on.
    pub(super) fn forward(
        &mut self,
        now: Instant,
        transport: &mut Transport,
        yard: &mut Yard,
        (consumer, layer): (usize, u8),
        packet: &Packet<'_>,
    ) {
        let Some(consumer) = self.consumers.get_mut(consumer) else {
            return;
        };
        let numbers = packet.numbers();
        let Some((index, segment)) = consumer.rewrite.forward(now, layer, numbers) else {
            return;
        };
        consumer.packets += 1;
        consumer.bytes += packet.payload.len() as u64;
        let outgoing = Outgoing {
            marker: packet.marker,
            payload_type: consumer.payload_type,
            #[expect(clippy::cast_possible_truncation, reason = "16 bits are on the wire")]
            sequence: index as u16,
            timestamp: segment.timestamp(packet.timestamp),
            ssrc: consumer.ssrc,
        };
        let is_audio = consumer.source.is_audio();
        if !is_audio {
            self.seen_since.get_or_insert(now);
        }
        let sent = Sent {
            outgoing,
            index,
            mark: packet.mark,
            is_audio,
            probe: None,
        };
        let (picture, payload) = (packet.picture.as_ref(), packet.payload);
        self.send(now, transport, yard, &sent, |bytes| {
            let start = bytes.len();
            bytes.extend_from_slice(payload);
            patch(picture, &segment, &mut bytes[start..]);
        });
    }

    /// A packet with its header, written by `write` from the payload on.
    fn send(
        &mut self,
        now: Instant,
        transport: &mut Transport,
        yard: &mut Yard,
        sent: &Sent,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let Some((outbox, sealer)) = transport.begin(yard) else {
            return;
        };
        let overhead = sealer.overhead() + DATAGRAM_OVERHEAD;
        let (bytes, start) = outbox.begin();
        let mark = [sent.mark.unwrap_or_default()];
        let mut extensions: [(u8, &[u8]); 2] = [(0, &[]); 2];
        let marked = if sent.is_audio {
            self.marks.level
        } else {
            self.marks.orientation
        };
        if let Some(id) = marked.filter(|_| sent.mark.is_some()) {
            extensions[0] = (id, &mark);
        }
        // Audio is not counted: a packet that is sent again must be the same to the last bit, since
        // its key stream is (RFC 7714, 8.4).
        if let Some(id) = self.marks.transport_cc.filter(|_| !sent.is_audio) {
            extensions[1] = (id, &[0, 0]);
        }
        let header = rtp::write_header(bytes, &sent.outgoing, &extensions);
        write(bytes);
        if let Some(id) = self.marks.transport_cc.filter(|_| !sent.is_audio) {
            let size = bytes.len() - start + overhead;
            let number = self.bandwidth.sent(now, size, sent.probe).to_be_bytes();
            // It stands after the mark, if there is one: two bytes each, and one of its own id.
            let at = start + 16 + if extensions[0].0 == 0 { 0 } else { 2 };
            debug_assert_eq!(bytes[at], id << 4 | 1);
            bytes[at + 1..at + 3].copy_from_slice(&number);
        }
        sealer.seal_rtp(bytes, start, header, sent.index);
        outbox.end();
    }

    /// Passes a sender report of the publisher on, in the numbers that this client knows. One that
    /// is not new may have been passed on before.
    pub(super) fn report(
        &mut self,
        now: Instant,
        transport: &mut Transport,
        yard: &mut Yard,
        (place, layer): (usize, u8),
        (report, is_new): (&SenderInfo, bool),
    ) {
        let Some(consumer) = self.consumers.get_mut(place) else {
            return;
        };
        let Some(segment) = consumer.rewrite.current().filter(|s| s.layer == layer) else {
            return;
        };
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the counts wrap on the wire"
        )]
        let told = SenderInfo {
            ssrc: consumer.ssrc,
            ntp: report.ntp,
            rtp: segment.timestamp(report.rtp),
            packets: consumer.packets as u32,
            octets: consumer.bytes as u32,
        };
        // Of one that went out before, nobody could tell which of the two is meant.
        consumer.reported = Some((middle(report.ntp), is_new.then_some(now)));
        let cname = &consumer.stream;
        transport.send_rtcp(yard, |out| {
            rtcp::write_sender_report(out, &told, &[]);
            rtcp::write_sdes_cname(out, told.ssrc, cname);
        });
    }

    /// What the client says of a stream.
    pub(super) fn block(&mut self, now: Instant, block: &ReportBlock) -> Option<Duration> {
        let place = self.by_ssrc(block.ssrc)?;
        let consumer = &mut self.consumers[place];
        if consumer.ssrc != block.ssrc {
            return None;
        }
        consumer.lost = u64::try_from(block.lost).unwrap_or_default();
        consumer.jitter = block.jitter;
        let (lsr, sent) = consumer.reported?;
        (lsr == block.lsr && lsr != 0).then(|| round_trip(now, sent?, block))?
    }

    /// The track of a consumer by SSRC, for one who needs a key frame of it.
    pub(super) fn track_of(&self, ssrc: u32) -> Option<(usize, usize)> {
        let place = self.by_ssrc(ssrc)?;
        Some((place, self.consumers[place].track))
    }

    /// When there is something to do.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let sees = self
            .consumers
            .iter()
            .any(|(_, consumer)| !consumer.source.is_audio());
        if !sees {
            return None;
        }
        [Some(self.look), self.bandwidth.next_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// What may be sent for pictures besides so many bits per second for voices.
    pub(super) fn budget(&self, now: Instant, voices: u64) -> Budget {
        let is_late = self
            .seen_since
            .is_some_and(|since| now.saturating_duration_since(since) > KNOWN_AFTER);
        Budget {
            bps: self.bandwidth.estimate().saturating_sub(voices),
            is_known: is_late || self.bandwidth.is_known(),
        }
    }

    /// Whether no picture was ever sent.
    pub(super) fn has_seen_nothing(&self) -> bool {
        self.seen_since.is_none()
    }

    /// It is looked at what fits now.
    pub(super) fn looked(&mut self, now: Instant) {
        self.look = now + LOOK_EVERY;
    }
}

/// What a packet is sent as.
struct Sent {
    outgoing: Outgoing,
    index: u64,
    mark: Option<u8>,
    is_audio: bool,
    probe: Option<Cluster>,
}

/// Pictures keep counting up where the layer changes.
fn patch(picture: Option<&vp8::Descriptor>, segment: &Segment, payload: &mut [u8]) {
    let Some(picture) = picture.filter(|_| !segment.keeps_pictures()) else {
        return;
    };
    let number = segment.picture(picture.picture_id.unwrap_or_default());
    let tl0 = segment.tl0(picture.tl0_pic_idx.unwrap_or_default());
    picture.patch(payload, number, tl0);
}

/// As it is told in subscriptions.
pub(super) fn layer_number(layer: Option<usize>) -> u8 {
    layer
        .and_then(|layer| u8::try_from(layer).ok())
        .unwrap_or(NONE)
}
