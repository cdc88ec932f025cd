//! What clients publish in tests: packets that say what they are.

use std::time::{Duration, Instant};

use crate::client::{Heard, Say};
use crate::wire::vp8::Descriptor;

/// The bytes of a payload descriptor with everything that browsers put in.
const DESCRIPTOR: usize = 6;

/// One stream of a client.
#[derive(Debug, Clone)]
pub(super) struct Feed {
    /// What its packets are known by at the other end.
    pub(super) id: u8,
    pub(super) is_audio: bool,
    pub(super) mid: String,
    pub(super) rid: Option<String>,
    pub(super) every: Duration,
    /// Packets in each picture.
    pub(super) packets: u8,
    pub(super) bytes: usize,
    /// How loud it is, in dBov.
    pub(super) level: i8,
    /// It sends nothing.
    pub(super) muted: bool,
    /// The next picture is a key frame.
    pub(super) key: bool,
    pub(super) next: Instant,
    /// The number of the next packet.
    pub(super) index: u64,
    pub(super) frame: u32,
    timestamp: u32,
    clock_rate: u32,
    begun: Instant,
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
            // So that it wraps soon.
            index: 65_500,
            frame: 0,
            timestamp: 4_294_900_000,
            clock_rate: 48_000,
            begun: now,
        }
    }

    pub(super) fn video(now: Instant, id: u8, mid: &str, rid: Option<&str>) -> Self {
        // What a camera costs here: 800, 320 and 80 kbit/s.
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
            // The first number is one of those that have not wrapped (RFC 3711, 3.3.1).
            index: 250 * u64::from(id),
            timestamp: 1_000_000 * u32::from(id),
            clock_rate: 90_000,
            ..Self::audio(now, id, mid)
        }
    }

    /// The packets of the next frame.
    pub(super) fn frame(&mut self, now: Instant) -> Vec<Say> {
        let micros = (now - self.begun).as_micros() * u128::from(self.clock_rate) / 1_000_000;
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
            Say {
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

/// What a packet says about itself.
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
        // Feeds of audio begin with a byte that no descriptor here begins with.
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

/// The packets of a line in their order, each with what it says; numbers that are there twice are
/// an error, and so are contents that came changed.
pub(super) fn in_order(heard: &[Heard], mid: &str) -> Vec<(Tag, Heard)> {
    let mut all = heard
        .iter()
        .filter(|heard| heard.mid == mid)
        .map(|heard| (Tag::read(&heard.payload), heard.clone()))
        .collect::<Vec<_>>();
    all.sort_by_key(|(_, heard)| heard.index);
    for pair in all.windows(2) {
        assert!(
            pair[0].1.index < pair[1].1.index,
            "{:?} came twice",
            pair[0]
        );
        assert_eq!(pair[0].1.ssrc, pair[1].1.ssrc);
    }
    all
}

/// The stream is one that a decoder can play from its first packet on: no number is missing, every
/// picture is whole, pictures count up, and time goes on as fast as it should.
pub(super) fn assert_plays(packets: &[(Tag, Heard)], clock_rate: u32) {
    let (first, _) = packets.first().expect("nothing came");
    let is_audio = clock_rate == 48_000;
    assert!(
        is_audio || first.key && first.number == 0,
        "begins with {first:?}"
    );
    for pair in packets.windows(2) {
        let [(before, earlier), (tag, heard)] = pair else {
            unreachable!()
        };
        assert_eq!(
            heard.index,
            earlier.index + 1,
            "between {before:?} and {tag:?}"
        );
        // What is lost of the last picture of a layer is not missed: the next needs nothing of it.
        let cut = tag.key && tag.number == 0 && tag.feed != before.feed;
        let same_picture = before.number + 1 < before.count && !cut;
        if same_picture {
            let next = (before.feed, before.frame, before.number + 1);
            assert_eq!((tag.feed, tag.frame, tag.number), next);
            assert_eq!(heard.timestamp, earlier.timestamp);
            assert!(!earlier.marker);
        } else {
            assert_eq!(tag.number, 0, "after {before:?} came {tag:?}");
            assert!(is_audio || earlier.marker || cut);
            let ticks = heard
                .timestamp
                .wrapping_sub(earlier.timestamp)
                .cast_signed();
            assert!(ticks > 0, "time went back between {before:?} and {tag:?}");
        }
        if !is_audio {
            let (earlier, picture) = (described(earlier), described(heard));
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
            "changed the layer in {tag:?}"
        );
    }
    // Over the whole, as much time in it as passed outside, but for what a change of layers rounds.
    let ((_, first), (_, last)) = (&packets[0], &packets[packets.len() - 1]);
    let told = f64::from(last.timestamp.wrapping_sub(first.timestamp)) / f64::from(clock_rate);
    let passed = (last.at - first.at).as_secs_f64();
    assert!(
        (told - passed).abs() < 0.5,
        "{told} s of media in {passed} s"
    );
}

fn described(heard: &Heard) -> Descriptor {
    Descriptor::parse(&heard.payload).unwrap()
}
