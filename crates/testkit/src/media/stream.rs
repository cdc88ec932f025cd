//! What one source sends, and when.

use std::time::{Duration, Instant, SystemTime};

use parlor_sfu::wire::rtcp::{self, Rtcp};
use parlor_sfu::wire::rtp::{self, Outgoing};

/// What a stamp starts with, so that nothing else is taken for one.
const MAGIC: [u8; 8] = *b"parlor-t";

/// The magic and a time.
const STAMP_BYTES: usize = 16;

/// Between two packets of a frame. A frame is one burst: of those that Chromium 156 sent at 2.5
/// Mbit/s, eleven packets each, half had less than this from one to the next.
const GAP: Duration = Duration::from_micros(50);

/// How often a silent microphone with DTX sends.
const SILENT_EVERY: Duration = Duration::from_millis(400);

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Source {
    /// VP8 frames of equal packets.
    Video {
        /// Frames a second.
        fps: u32,
        /// Packets of one frame.
        packets: u32,
        /// Bytes of one packet's payload.
        bytes: usize,
        /// What a keyframe says it measures.
        size: (u16, u16),
    },
    /// Opus, a packet every 20 ms.
    Voice {
        /// Bytes of one packet's payload.
        bytes: usize,
    },
    /// Opus with DTX and nobody who speaks.
    Silence,
}

impl Source {
    /// Video of about so many kilobits a second, in packets of 1,100 bytes.
    pub fn video(kbps: u32) -> Self {
        let (fps, bytes) = (30, 1100_u32);
        let packets = (kbps * 125 + fps * bytes / 2) / (fps * bytes);
        Self::Video {
            fps,
            packets: packets.max(1),
            bytes: bytes as usize,
            size: (1280, 720),
        }
    }

    /// Packets a second.
    pub fn rate(self) -> f64 {
        match self {
            Self::Video { fps, packets, .. } => f64::from(fps * packets),
            Self::Voice { .. } => 50.0,
            Self::Silence => 1.0 / SILENT_EVERY.as_secs_f64(),
        }
    }
}

/// The header extensions that were agreed on: their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// The id and the m-line's name.
    pub mid: Option<(u8, String)>,
    /// The id and the layer's name.
    pub rid: Option<(u8, String)>,
    /// Transport-wide sequence numbers.
    pub transport_cc: Option<u8>,
    /// The level of a microphone (RFC 6464).
    pub audio_level: Option<u8>,
}

/// One source on one transport.
#[derive(Debug)]
pub struct Stream {
    source: Source,
    payload_type: u8,
    /// Names it on the wire.
    pub ssrc: u32,
    extensions: Extensions,
    /// Of the next packet, extended (RFC 3711 3.3.1).
    index: u64,
    frame: u32,
    packet: u32,
    frame_at: Option<Instant>,
    wants_key: bool,
}

/// The packet that [`Stream::write`] made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    pub(super) header_bytes: usize,
    pub(super) index: u64,
}

impl Stream {
    /// A stream that has sent nothing yet.
    pub fn new(source: Source, payload_type: u8, ssrc: u32, extensions: Extensions) -> Self {
        Self {
            source,
            payload_type,
            ssrc,
            extensions,
            index: 1,
            frame: 0,
            packet: 0,
            frame_at: None,
            wants_key: true,
        }
    }

    /// Starts at this time.
    pub(super) fn start(&mut self, at: Instant) {
        self.frame_at = Some(at);
    }

    /// Sends nothing more.
    pub(super) fn end(&mut self) {
        self.frame_at = None;
    }

    /// The next frame is a keyframe.
    pub(super) fn request_key(&mut self) {
        self.wants_key = true;
    }

    /// When the next packet is due; `None` before the start.
    pub(super) fn due(&self) -> Option<Instant> {
        Some(self.frame_at? + GAP * self.packet)
    }

    fn interval(&self) -> Duration {
        match self.source {
            Source::Video { fps, .. } => Duration::from_secs(1) / fps,
            Source::Voice { .. } => Duration::from_millis(20),
            Source::Silence => SILENT_EVERY,
        }
    }

    /// Writes the packet that is due, not encrypted, and goes on to the next.
    pub(super) fn write(&mut self, packet: &mut Vec<u8>, transport_sequence: u16) -> Written {
        packet.clear();
        let is_last = self.is_last();
        let header = Outgoing {
            marker: match self.source {
                Source::Video { .. } => is_last,
                Source::Voice { .. } | Source::Silence => self.frame == 0,
            },
            payload_type: self.payload_type,
            sequence: low_16(self.index),
            timestamp: self.timestamp(),
            ssrc: self.ssrc,
        };
        self.write_header(packet, &header, transport_sequence);
        let header_bytes = packet.len();
        match self.source {
            Source::Video { bytes, size, .. } => {
                self.write_video(packet, size);
                stamp(packet, header_bytes + bytes);
            }
            Source::Voice { bytes } => {
                packet.push(0x78);
                stamp(packet, header_bytes + bytes);
            }
            Source::Silence => packet.extend([0x78, 0xff, 0xfe]),
        }
        let written = Written {
            header_bytes,
            index: self.index,
        };
        self.advance(is_last);
        written
    }

    fn is_last(&self) -> bool {
        match self.source {
            Source::Video { packets, .. } => self.packet + 1 >= packets,
            _ => true,
        }
    }

    fn advance(&mut self, is_last: bool) {
        self.index += 1;
        if is_last {
            let interval = self.interval();
            self.frame_at = self.frame_at.map(|at| at + interval);
            self.frame = self.frame.wrapping_add(1);
            self.packet = 0;
        } else {
            self.packet += 1;
        }
    }

    fn timestamp(&self) -> u32 {
        let step = match self.source {
            Source::Video { fps, .. } => 90_000 / fps,
            Source::Voice { .. } => 960,
            Source::Silence => 19_200,
        };
        self.frame.wrapping_mul(step)
    }

    fn write_header(&self, packet: &mut Vec<u8>, header: &Outgoing, transport_sequence: u16) {
        let sequence = transport_sequence.to_be_bytes();
        let level = [match self.source {
            // The first bit says that this is a voice; the rest is how far below the loudest.
            Source::Voice { .. } => 0x80 | 0x1e,
            _ => 127,
        }];
        let mut extensions: [(u8, &[u8]); 4] = [(0, &[]); 4];
        let agreed = &self.extensions;
        let named = [&agreed.mid, &agreed.rid]
            .into_iter()
            .flatten()
            .map(|(id, name)| (*id, name.as_bytes()));
        let transport_cc = agreed.transport_cc.map(|id| (id, &sequence[..]));
        let audio_level = agreed.audio_level.map(|id| (id, &level[..]));
        let mut count = 0;
        for (place, extension) in extensions
            .iter_mut()
            .zip(named.chain(transport_cc).chain(audio_level))
        {
            *place = extension;
            count += 1;
        }
        rtp::write_header(
            packet,
            header,
            extensions.get(..count).unwrap_or(&extensions),
        );
    }

    /// The descriptor of RFC 7741 with a picture id of 15 bits, and the start of a frame.
    fn write_video(&mut self, packet: &mut Vec<u8>, size: (u16, u16)) {
        let is_first = self.packet == 0;
        let [high, low] = low_16(u64::from(self.frame)).to_be_bytes();
        let [.., tl0] = self.frame.to_be_bytes();
        let start = if is_first { 0x90 } else { 0x80 };
        packet.extend([start, 0xe0, 0x80 | high, low, tl0, 0]);
        if !is_first {
            return;
        }
        if self.wants_key {
            self.wants_key = false;
            let ([w0, w1], [h0, h1]) = (size.0.to_le_bytes(), size.1.to_le_bytes());
            packet.extend([0x10, 0, 0, 0x9d, 0x01, 0x2a, w0, w1, h0, h1]);
        } else {
            packet.extend([0x11, 0, 0]);
        }
    }
}

/// Fills the payload up to this length of the packet; the time of sending stands at its end.
fn stamp(packet: &mut Vec<u8>, length: usize) {
    let body = length.saturating_sub(STAMP_BYTES).max(packet.len());
    packet.resize(body, 0xab);
    packet.extend(MAGIC);
    packet.extend(now_ns().to_be_bytes());
}

/// When a payload was sent, in nanoseconds since 1970; `None` when it has no stamp.
pub fn stamp_of(payload: &[u8]) -> Option<u64> {
    let (rest, time) = payload.split_last_chunk::<8>()?;
    let (_, magic) = rest.split_last_chunk::<8>()?;
    (*magic == MAGIC).then(|| u64::from_be_bytes(*time))
}

/// The streams that a compound packet of RTCP wants a keyframe of.
pub(super) fn keys_asked_for(compound: &[u8]) -> impl Iterator<Item = u32> {
    rtcp::parse(compound).filter_map(|message| match message {
        Rtcp::Pli { media, .. } => Some(media),
        Rtcp::Fir { mut entries, .. } => entries.next().map(|(ssrc, _)| ssrc),
        _ => None,
    })
}

/// The clock of stamps: the kernel's own of arriving datagrams has no other.
#[expect(
    clippy::disallowed_methods,
    reason = "measures a server from outside of it"
)]
pub fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        since.as_secs() * 1_000_000_000 + u64::from(since.subsec_nanos())
    })
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "what the wire has room for"
)]
fn low_16(number: u64) -> u16 {
    number as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_again_and_nothing_else_is() {
        let mut packet = vec![1, 2, 3];
        let before = now_ns();
        stamp(&mut packet, 100);
        assert_eq!(packet.len(), 100);
        let read = stamp_of(&packet).expect("a stamp");
        assert!((before..=now_ns()).contains(&read));
        packet.push(0);
        assert_eq!(stamp_of(&packet), None);
        assert_eq!(stamp_of(&[0; 3]), None);
    }

    #[test]
    fn a_stream_sends_at_the_rate_of_its_source() {
        let start = Instant::now();
        let (mut packet, mut keys) = (Vec::new(), 0);
        for source in [
            Source::video(2500),
            Source::Voice { bytes: 90 },
            Source::Silence,
        ] {
            let mut stream = Stream::new(source, 96, 1, Extensions::default());
            stream.start(start);
            let mut sent = 0.0;
            while stream
                .due()
                .is_some_and(|due| due < start + Duration::from_secs(10))
            {
                let written = stream.write(&mut packet, 0);
                assert_eq!(written.header_bytes, 12);
                keys += usize::from(packet.get(21..24) == Some(&[0x9d, 0x01, 0x2a]));
                sent += 1.0;
            }
            assert!(
                (sent - source.rate() * 10.0_f64).abs() <= 1.0,
                "{source:?}: {sent}"
            );
        }
        assert_eq!(keys, 1, "the first frame of the video");
    }
}
