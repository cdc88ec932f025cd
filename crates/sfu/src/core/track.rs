//! What one client publishes on one line, and who receives it.

use std::time::{Duration, Instant};

use super::history::History;
use super::key_frame;
use super::reception::Reception;
use crate::sdp::{Codec, Uplink};
use crate::wire::rtcp::SenderInfo;
use crate::{Member, Source};
use parlor_protocol::ProducerId;

/// No layer.
pub(super) const NONE: u8 = u8::MAX;

/// Between two requests for a key frame of one layer. Each costs the publisher a large picture.
const KEYFRAME_PAUSE: Duration = Duration::from_millis(300);

/// Packets of a video layer that are kept, at most: a power of two.
const VIDEO_PACKETS: usize = 1024;
/// The same of audio: more than a second.
const AUDIO_PACKETS: usize = 64;

/// A published track.
pub(super) struct Track {
    pub(super) producer: ProducerId,
    pub(super) member: Member,
    /// The transport that it comes on.
    pub(super) transport: usize,
    pub(super) source: Source,
    pub(super) paused: bool,
    pub(super) uplink: Uplink,
    /// The best first.
    pub(super) layers: Vec<Layer>,
    pub(super) subscriptions: Vec<Subscription>,
}

/// Somebody receives a track.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subscription {
    /// The transport that it goes to.
    pub(super) transport: usize,
    /// Which of the consumers there.
    pub(super) consumer: usize,
    /// The layer that it is sent, or [`NONE`].
    pub(super) current: u8,
    /// The layer that it is to be sent from its next key frame on, or [`NONE`].
    pub(super) target: u8,
}

/// One stream of a track.
pub(super) struct Layer {
    pub(super) rid: Option<String>,
    pub(super) ssrc: Option<u32>,
    pub(super) reception: Reception,
    pub(super) history: History,
    /// The last sender report, and when it came.
    pub(super) report: Option<(SenderInfo, Instant)>,
    /// The newest packet.
    pub(super) newest: u64,
    keyframe_wanted: bool,
    keyframe_asked: Option<Instant>,
    /// When its SSRC was learned.
    since: Option<Instant>,
}

impl Track {
    pub(super) fn new(
        producer: ProducerId,
        member: Member,
        transport: usize,
        source: Source,
        uplink: Uplink,
    ) -> Self {
        let mut rids = uplink.rids.clone();
        // Alphabetical order is the order of quality (contract: media 3).
        rids.sort();
        let layer = |rid: Option<String>| Layer {
            rid,
            ssrc: None,
            reception: Reception::new(uplink.clock_rate),
            history: History::new(if source.is_audio() {
                AUDIO_PACKETS
            } else {
                VIDEO_PACKETS
            }),
            report: None,
            newest: 0,
            keyframe_wanted: false,
            keyframe_asked: None,
            since: None,
        };
        let layers = if rids.is_empty() {
            vec![layer(None)]
        } else {
            rids.into_iter().map(|rid| layer(Some(rid))).collect()
        };
        Self {
            producer,
            member,
            transport,
            source,
            paused: false,
            uplink,
            layers,
            subscriptions: Vec::new(),
        }
    }

    /// The layer of a rid; the best if there is only one.
    pub(super) fn layer_of(&self, rid: Option<&[u8]>) -> Option<usize> {
        if let [only] = &self.layers[..]
            && only.rid.is_none()
        {
            return Some(0);
        }
        let rid = rid?;
        let named = |layer: &Layer| layer.rid.as_ref().is_some_and(|own| own.as_bytes() == rid);
        self.layers.iter().position(named)
    }

    /// Whether decoding can begin with this payload.
    pub(super) fn begins(&self, payload: &[u8]) -> bool {
        key_frame::begins(self.uplink.codec, payload)
    }

    /// What is known of one who receives it.
    pub(super) fn subscription(
        &mut self,
        transport: usize,
        consumer: usize,
    ) -> Option<&mut Subscription> {
        let mut all = self.subscriptions.iter_mut();
        all.find(|own| own.transport == transport && own.consumer == consumer)
    }

    /// Somebody receives it no more.
    pub(super) fn unsubscribe(&mut self, transport: usize, consumer: usize) {
        let own = |own: &Subscription| own.transport == transport && own.consumer == consumer;
        if let Some(index) = self.subscriptions.iter().position(own) {
            self.subscriptions.swap_remove(index);
        }
    }

    /// The codec of its packets.
    pub(super) fn codec(&self) -> Codec {
        self.uplink.codec
    }
}

impl Layer {
    /// This is its SSRC.
    pub(super) fn found(&mut self, now: Instant, ssrc: u32) {
        self.ssrc = Some(ssrc);
        self.since = Some(now);
    }

    /// Somebody needs a key frame. True if the publisher is to be asked now.
    pub(super) fn want_keyframe(&mut self, now: Instant) -> bool {
        self.keyframe_wanted = true;
        self.keyframe_due(now)
    }

    /// Whether the publisher is to be asked for a key frame now; if so, it counts as asked.
    pub(super) fn keyframe_due(&mut self, now: Instant) -> bool {
        let due = self.ssrc.is_some() && self.keyframe_next().is_some_and(|at| at <= now);
        if due {
            self.keyframe_asked = Some(now);
        }
        due
    }

    /// When the publisher is to be asked.
    pub(super) fn keyframe_next(&self) -> Option<Instant> {
        if !self.keyframe_wanted || self.ssrc.is_none() {
            return None;
        }
        match self.keyframe_asked {
            Some(asked) => Some(asked + KEYFRAME_PAUSE),
            // Whoever publishes it has sent something, or there would be no SSRC to ask.
            None => self.since,
        }
    }

    /// A key frame begins.
    pub(super) fn keyframe_came(&mut self) {
        self.keyframe_wanted = false;
    }

    /// The timestamp of this layer at a moment, from its last sender report.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "the precision of microseconds is enough; timestamps wrap"
    )]
    pub(super) fn timestamp_at(&self, ntp: u64, clock_rate: u32) -> Option<u32> {
        let (report, _) = self.report?;
        let passed = ntp.wrapping_sub(report.ntp).cast_signed();
        // More than a minute is another clock.
        let seconds = passed as f64 / 4_294_967_296.0;
        (seconds.abs() < 60.0).then(|| {
            let ticks = (seconds * f64::from(clock_rate)).round() as i64;
            report.rtp.wrapping_add(ticks as u32)
        })
    }

    /// The publisher's time of a timestamp of this layer, from its last sender report.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "less than half a turn of the timestamp fits"
    )]
    pub(super) fn ntp_at(&self, timestamp: u32, clock_rate: u32) -> Option<u64> {
        let (report, _) = self.report?;
        let ticks = timestamp.wrapping_sub(report.rtp).cast_signed();
        let seconds = f64::from(ticks) / f64::from(clock_rate.max(1));
        let passed = (seconds * 4_294_967_296.0).round() as i64;
        Some(report.ntp.wrapping_add_signed(passed))
    }
}
