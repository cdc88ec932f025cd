//! What one client publishes on one line, and who receives it.

use std::time::{Duration, Instant};

use super::allocate::LAYERS;
use super::history::History;
use super::pace::{self, Pace};
use super::reception::Reception;
use crate::sdp::{Codec, Uplink};
use crate::wire::rtcp::SenderInfo;
use crate::{Member, Source};
use parlor_protocol::ProducerId;

/// No layer.
pub(super) const NONE: u8 = u8::MAX;

/// Between two requests for a key frame of one layer. Each costs the publisher a large picture.
const KEYFRAME_PAUSE: Duration = Duration::from_millis(300);

/// A layer of which nothing comes for so long, while others of its track do, is not sent any more.
const SILENCE: Duration = Duration::from_millis(500);

/// A layer of which nothing came for so long begins anew.
const GONE: Duration = Duration::from_secs(1);

/// How long it takes until it can be measured what a layer takes.
const UNMEASURED: Duration = Duration::from_millis(500);

/// What the layers of a camera take, about, in bits per second: the worst first (docs/spec/media.md 2.2).
const USUAL: [u64; LAYERS] = [150_000, 500_000, 1_500_000];

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
    pub(super) pace: Pace,
    /// The last sender report, and when it came.
    pub(super) report: Option<(SenderInfo, Instant)>,
    /// The newest packet.
    pub(super) newest: u64,
    keyframe_wanted: bool,
    keyframe_asked: Option<Instant>,
    /// The packet that the last key frame began with.
    key_frame: u64,
    /// When the last packet came, and since when they have come.
    heard: Option<Instant>,
    began: Option<Instant>,
    /// Others of its track are sent, and this is not any more.
    silent: bool,
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
        // Alphabetical order is the order of quality (docs/spec/media.md 2.2).
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
            pace: Pace::new(if source.is_audio() {
                pace::AUDIO
            } else {
                pace::VIDEO
            }),
            report: None,
            newest: 0,
            keyframe_wanted: false,
            keyframe_asked: None,
            key_frame: 0,
            heard: None,
            began: None,
            silent: false,
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

    /// The layer of a rid, or the worst one before it in quality that there is.
    pub(super) fn nearest_layer(&self, rid: &str) -> Option<usize> {
        self.layer_of(Some(rid.as_bytes())).or_else(|| {
            let known = |layer: &Layer| layer.rid.as_deref() < Some(rid);
            self.layers.iter().rposition(known)
        })
    }

    /// A packet of a layer came that is newer than all before. Whether other layers are sent now than
    /// before it: this one begins, or another has fallen silent.
    pub(super) fn heard(&mut self, now: Instant, place: usize) -> bool {
        let layers = self.layers.iter_mut().enumerate();
        layers.fold(false, |changed, (other, layer)| {
            let differs = if other == place {
                layer.begins(now)
            } else {
                layer.ends(now)
            };
            changed | differs
        })
    }

    /// What each layer takes, in bits per second. 0 is one that is not sent.
    pub(super) fn costs(&self, now: Instant) -> [u64; LAYERS] {
        let mut costs = [0; LAYERS];
        let several = self.layers.len() > 1;
        let usual = USUAL.iter().take(self.layers.len()).rev();
        for ((bps, layer), usual) in costs.iter_mut().zip(&self.layers).zip(usual) {
            *bps = layer.cost(now, if several { *usual } else { 0 });
        }
        costs
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

    fn begins(&mut self, now: Instant) -> bool {
        let since = |heard| now.saturating_duration_since(heard);
        let begins = self.silent || self.heard.is_none_or(|heard| since(heard) > GONE);
        self.heard = Some(now);
        if begins {
            self.silent = false;
            self.began = Some(now);
        }
        begins
    }

    fn ends(&mut self, now: Instant) -> bool {
        let since = |heard| now.saturating_duration_since(heard);
        let ends = !self.silent && self.heard.is_some_and(|heard| since(heard) >= SILENCE);
        self.silent |= ends;
        ends
    }

    /// As measured, and before that can be at least what is usual.
    fn cost(&self, now: Instant, usual: u64) -> u64 {
        if self.silent {
            return 0;
        }
        let is_new = self
            .began
            .is_some_and(|began| now.saturating_duration_since(began) < UNMEASURED);
        let measured = self.reception.bitrate(now);
        measured.max(if is_new { usual } else { 0 })
    }

    /// Somebody needs a key frame, which the publisher is asked for when it is due.
    pub(super) fn want_keyframe(&mut self) {
        self.keyframe_wanted = true;
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

    /// Nobody waits for a key frame any more.
    pub(super) fn keyframe_unwanted(&mut self) {
        self.keyframe_wanted = false;
    }

    /// A key frame begins with this packet.
    pub(super) fn keyframe_came(&mut self, index: u64) {
        self.keyframe_wanted = false;
        self.key_frame = self.key_frame.max(index);
    }

    /// Whether a receiver that lacks this packet cannot get it any more, and has nothing newer to
    /// begin anew with.
    pub(super) fn leaves_broken(&self, index: u64) -> bool {
        index >= self.key_frame && self.history.is_gone(index)
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
