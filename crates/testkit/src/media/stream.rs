//! The packets of one source, and when to send them.

use std::time::{Duration, Instant, SystemTime};

use parlor_sfu::wire::rtcp::{self, Rtcp};
use parlor_sfu::wire::rtp::{self, Outgoing};

/// Start of a timestamp in a payload, so that other data is not mistaken for one.
const MAGIC: [u8; 8] = *b"parlor-t";

/// Size of a timestamp in a payload: the magic and the time, in bytes.
const STAMP_BYTES: usize = 16;

/// Interval between two packets of a frame. A frame is sent as one burst: with Chromium 156 at 2.5
/// Mbit/s and eleven packets per frame, half of the intervals were shorter than this.
const PACKET_INTERVAL: Duration = Duration::from_micros(50);

/// Packet interval of a silent microphone with DTX.
const DTX_INTERVAL: Duration = Duration::from_millis(400);

/// A media source.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Source {
    /// VP8 frames with packets of equal size.
    Video {
        /// Frames per second.
        fps: u32,
        /// Packets per frame.
        packets: u32,
        /// Payload size of one packet, in bytes.
        bytes: usize,
        /// Width and height in the header of a key frame, in pixels.
        size: (u16, u16),
    },
    /// Opus with one packet every 20 ms.
    Voice {
        /// Payload size of one packet, in bytes.
        bytes: usize,
    },
    /// Silent Opus with DTX.
    Silence,
}

impl Source {
    /// Returns video with about this bit rate in kbit/s, in packets of 1,100 bytes.
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

    /// Packets per second.
    pub fn rate(self) -> f64 {
        match self {
            Self::Video { fps, packets, .. } => f64::from(fps * packets),
            Self::Voice { .. } => 50.0,
            Self::Silence => 1.0 / DTX_INTERVAL.as_secs_f64(),
        }
    }
}

/// The negotiated header extensions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// ID of the extension, and the mid.
    pub mid: Option<(u8, String)>,
    /// ID of the extension, and the rid.
    pub rid: Option<(u8, String)>,
    /// ID of the extension for transport-wide sequence numbers.
    pub transport_cc: Option<u8>,
    /// ID of the audio level extension (RFC 6464).
    pub audio_level: Option<u8>,
}

/// The RTP stream of one source on one transport.
#[derive(Debug)]
pub struct Stream {
    source: Source,
    payload_type: u8,
    /// SSRC of the stream.
    pub ssrc: u32,
    extensions: Extensions,
    /// Extended sequence number of the next packet (RFC 3711 3.3.1).
    index: u64,
    frame: u32,
    packet: u32,
    frame_at: Option<Instant>,
    wants_key: bool,
}

/// The packet that [`Stream::write`] wrote.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    pub(super) header_bytes: usize,
    pub(super) index: u64,
}

impl Stream {
    /// Creates a stream that has not started.
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

    /// Starts the stream at this time.
    pub(super) fn start(&mut self, at: Instant) {
        self.frame_at = Some(at);
    }

    /// Stops the stream.
    pub(super) fn end(&mut self) {
        self.frame_at = None;
    }

    /// Makes the next frame a key frame.
    pub(super) fn request_key(&mut self) {
        self.wants_key = true;
    }

    /// Returns when the next packet is due; `None` when the stream has not started or has ended.
    pub(super) fn due(&self) -> Option<Instant> {
        Some(self.frame_at? + PACKET_INTERVAL * self.packet)
    }

    fn interval(&self) -> Duration {
        match self.source {
            Source::Video { fps, .. } => Duration::from_secs(1) / fps,
            Source::Voice { .. } => Duration::from_millis(20),
            Source::Silence => DTX_INTERVAL,
        }
    }

    /// Writes the packet that is due, unencrypted, and advances to the next one.
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
            // The first bit is the voice activity flag; the rest is the level in -dBov.
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

    /// Writes the payload descriptor of RFC 7741 with a 15-bit picture ID, and the start of a
    /// frame.
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

/// Fills the packet up to this length, ending with a timestamp of the send time.
fn stamp(packet: &mut Vec<u8>, length: usize) {
    let body = length.saturating_sub(STAMP_BYTES).max(packet.len());
    packet.resize(body, 0xab);
    packet.extend(MAGIC);
    packet.extend(now_ns().to_be_bytes());
}

/// Returns when a payload was sent, in nanoseconds since 1970; `None` when it has no timestamp.
pub fn stamp_of(payload: &[u8]) -> Option<u64> {
    let (rest, time) = payload.split_last_chunk::<8>()?;
    let (_, magic) = rest.split_last_chunk::<8>()?;
    (*magic == MAGIC).then(|| u64::from_be_bytes(*time))
}

/// Returns the SSRCs of the streams for which a compound RTCP packet requests a key frame.
pub(super) fn key_frame_requests(compound: &[u8]) -> impl Iterator<Item = u32> {
    rtcp::parse(compound).filter_map(|message| match message {
        Rtcp::Pli { media, .. } => Some(media),
        Rtcp::Fir { mut entries, .. } => entries.next().map(|(ssrc, _)| ssrc),
        _ => None,
    })
}

/// Returns the time of timestamps in payloads. It is the same clock as the kernel's receive
/// timestamps.
#[expect(
    clippy::disallowed_methods,
    reason = "the server is measured from outside"
)]
pub fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        since.as_secs() * 1_000_000_000 + u64::from(since.subsec_nanos())
    })
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the wire format has 16 bits"
)]
fn low_16(number: u64) -> u16 {
    number as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_timestamp_is_read_as_one() {
        let mut packet = vec![1, 2, 3];
        let before = now_ns();
        stamp(&mut packet, 100);
        assert_eq!(packet.len(), 100);
        let read = stamp_of(&packet).expect("the packet has a timestamp");
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
        assert_eq!(keys, 1, "only the first frame of the video is a key frame");
    }
}
