//! Media sources for tests, whose packets identify themselves.

use std::time::{Duration, Instant};

use crate::client::{OutgoingPacket, ReceivedPacket};
use crate::wire::vp8::Descriptor;

/// Size of a VP8 payload descriptor with all fields that browsers send.
const DESCRIPTOR: usize = 6;

/// One stream of a client.
#[derive(Debug, Clone)]
pub(super) struct Feed {
    /// Identifies its packets at the subscriber.
    pub(super) id: u8,
    pub(super) is_audio: bool,
    pub(super) mid: String,
    pub(super) rid: Option<String>,
    pub(super) every: Duration,
    /// Number of packets in each frame.
    pub(super) packets: u8,
    pub(super) bytes: usize,
    /// Audio level, in dBov.
    pub(super) level: i8,
    /// Whether it sends nothing.
    pub(super) muted: bool,
    /// Whether the next frame is a key frame.
    pub(super) key: bool,
    pub(super) next: Instant,
    /// Extended sequence number of the next packet.
    pub(super) index: u64,
    pub(super) frame: u32,
    timestamp: u32,
    clock_rate: u32,
    started_at: Instant,
}

impl Feed {
    pub(super) fn audio(now: Instant, id: u8, mid: &str) -> Self {
        Self {
            id,
            is_audio: true,
            mid: mid.to_owned(),
            rid: None,
            every: Duration::from_millis(20),
            packets: 1,
            bytes: 80,
            level: -30,
            muted: false,
            key: false,
            next: now,
            // Close to the maximum, so that it wraps soon.
            index: 65_500,
            frame: 0,
            timestamp: 4_294_900_000,
            clock_rate: 48_000,
            started_at: now,
        }
    }

    pub(super) fn video(now: Instant, id: u8, mid: &str, rid: Option<&str>) -> Self {
        // The bit rates of the layers: 800, 320 and 80 kbit/s.
        let (packets, bytes) = match rid {
            Some("f") | None => (4, 1000),
            Some("h") => (2, 800),
            _ => (1, 400),
        };
        Self {
            is_audio: false,
            rid: rid.map(str::to_owned),
            every: Duration::from_millis(40),
            packets,
            bytes,
            key: true,
            // The first number is less than 2^15 (RFC 3711, 3.3.1).
            index: 250 * u64::from(id),
            timestamp: 1_000_000 * u32::from(id),
            clock_rate: 90_000,
            ..Self::audio(now, id, mid)
        }
    }

    /// Returns the packets of the next frame.
    pub(super) fn frame(&mut self, now: Instant) -> Vec<OutgoingPacket> {
        let micros = (now - self.started_at).as_micros() * u128::from(self.clock_rate) / 1_000_000;
        let timestamp = self.timestamp.wrapping_add(u32::try_from(micros).unwrap());
        let key = std::mem::take(&mut self.key);
        let count = self.packets;
        let packets = (0..count).map(|number| {
            let tag = Tag {
                feed: self.id,
                frame: self.frame,
                number,
                count,
                key,
            };
            let mut payload = tag.write(self.is_audio);
            payload.resize(self.bytes.max(payload.len()), 0x55);
            self.index += 1;
            OutgoingPacket {
                index: self.index - 1,
                timestamp,
                marker: !self.is_audio && number + 1 == count,
                level: self.is_audio.then_some(self.level),
                payload,
            }
        });
        let packets = packets.collect();
        self.frame += 1;
        self.next = now + self.every;
        packets
    }
}

/// The content of a packet, which identifies it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tag {
    pub(super) feed: u8,
    pub(super) frame: u32,
    pub(super) number: u8,
    pub(super) count: u8,
    pub(super) key: bool,
}

impl Tag {
    fn write(self, is_audio: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        if !is_audio {
            let begins = if self.number == 0 { 0x90 } else { 0x80 };
            let [.., picture_high, picture_low] = self.frame.to_be_bytes();
            let tl0 = picture_low;
            bytes.extend([begins, 0xE0, picture_high | 0x80, picture_low, tl0, 0]);
            assert_eq!(bytes.len(), DESCRIPTOR);
        }
        bytes.push(u8::from(!self.key));
        bytes.push(self.feed);
        bytes.extend(self.frame.to_be_bytes());
        bytes.extend([self.number, self.count]);
        bytes
    }

    pub(super) fn read(payload: &[u8]) -> Self {
        // Audio payloads begin with a byte that no descriptor here begins with.
        let is_audio = payload[0] < 0x80;
        let rest = if is_audio {
            payload
        } else {
            &payload[DESCRIPTOR..]
        };
        let [key, feed, a, b, c, d, number, count, ..] = *rest else {
            panic!("a packet without a tag: {payload:?}");
        };
        Self {
            feed,
            frame: u32::from_be_bytes([a, b, c, d]),
            number,
            count,
            key: key == 0,
        }
    }
}

/// Returns the packets of a media section in order, with their tags. Asserts that no sequence
/// number is used twice.
pub(super) fn in_order(received: &[ReceivedPacket], mid: &str) -> Vec<(Tag, ReceivedPacket)> {
    let mut all = received
        .iter()
        .filter(|received| received.mid == mid)
        .map(|received| (Tag::read(&received.payload), received.clone()))
        .collect::<Vec<_>>();
    all.sort_by_key(|(_, received)| received.index);
    for pair in all.windows(2) {
        assert!(
            pair[0].1.index < pair[1].1.index,
            "{:?} arrived twice",
            pair[0]
        );
        assert_eq!(pair[0].1.ssrc, pair[1].1.ssrc);
    }
    all
}

/// Asserts that a decoder can play the stream from its first packet on: no sequence number is
/// missing, every frame is complete, picture ids are consecutive, and timestamps advance at the
/// right rate.
pub(super) fn assert_plays(packets: &[(Tag, ReceivedPacket)], clock_rate: u32) {
    let (first, _) = packets.first().expect("no packets received");
    let is_audio = clock_rate == 48_000;
    assert!(
        is_audio || first.key && first.number == 0,
        "starts with {first:?}"
    );
    for pair in packets.windows(2) {
        let [(before, earlier), (tag, received)] = pair else {
            unreachable!()
        };
        assert_eq!(
            received.index,
            earlier.index + 1,
            "between {before:?} and {tag:?}"
        );
        // The rest of an old layer's last frame may be lost: the next key frame does not depend on
        // it.
        let cut = tag.key && tag.number == 0 && tag.feed != before.feed;
        let same_picture = before.number + 1 < before.count && !cut;
        if same_picture {
            let next = (before.feed, before.frame, before.number + 1);
            assert_eq!((tag.feed, tag.frame, tag.number), next);
            assert_eq!(received.timestamp, earlier.timestamp);
            assert!(!earlier.marker);
        } else {
            assert_eq!(tag.number, 0, "{tag:?} follows {before:?}");
            assert!(is_audio || earlier.marker || cut);
            let ticks = received
                .timestamp
                .wrapping_sub(earlier.timestamp)
                .cast_signed();
            assert!(
                ticks > 0,
                "timestamp went back between {before:?} and {tag:?}"
            );
        }
        if !is_audio {
            let (earlier, picture) = (descriptor(earlier), descriptor(received));
            let step = u16::from(!same_picture);
            let counted = picture
                .picture_id
                .unwrap()
                .wrapping_sub(earlier.picture_id.unwrap());
            assert_eq!(counted & 0x7FFF, step, "between {before:?} and {tag:?}");
            let counted = picture
                .tl0_pic_idx
                .unwrap()
                .wrapping_sub(earlier.tl0_pic_idx.unwrap());
            assert_eq!(u16::from(counted), step);
        }
        assert!(
            tag.feed == before.feed || tag.key,
            "layer changed without a key frame in {tag:?}"
        );
    }
    // Overall, the timestamps advance as fast as real time, except for rounding at layer changes.
    let ((_, first), (_, last)) = (&packets[0], &packets[packets.len() - 1]);
    let media_time =
        f64::from(last.timestamp.wrapping_sub(first.timestamp)) / f64::from(clock_rate);
    let passed = (last.at - first.at).as_secs_f64();
    assert!(
        (media_time - passed).abs() < 0.5,
        "{media_time} s of media in {passed} s"
    );
}

fn descriptor(received: &ReceivedPacket) -> Descriptor {
    Descriptor::parse(&received.payload).unwrap()
}
