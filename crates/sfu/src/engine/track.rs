//! A published track, with its layers and its subscriptions.

use std::time::{Duration, Instant};

use super::allocate::LAYERS;
use super::history::History;
use super::rate_limit::{self, RateLimiter};
use super::reception::Reception;
use crate::sdp::{Codec, Uplink};
use crate::wire::rtcp::SenderInfo;
use crate::{Member, Source};
use parlor_protocol::ProducerId;

/// No layer.
pub(super) const NO_LAYER: u8 = u8::MAX;

/// Minimum interval between two key frame requests for one layer. Each costs the publisher a large
/// frame.
const KEYFRAME_INTERVAL: Duration = Duration::from_millis(300);

/// Time without packets after which a layer counts as not sent, if other layers of its track are
/// sent.
const SILENT_AFTER: Duration = Duration::from_millis(500);

/// Time without packets after which a layer counts as restarted.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// How long a layer must be sent before its bit rate is measured reliably.
const MEASURED_AFTER: Duration = Duration::from_millis(500);

/// Typical bit rates of a camera's layers in bits per second, lowest layer first
/// (docs/spec/media.md 2.2).
const TYPICAL_BPS: [u64; LAYERS] = [150_000, 500_000, 1_500_000];

/// Maximum number of packets in the history of a video layer: a power of two.
const VIDEO_HISTORY: usize = 1024;
/// Maximum number of packets in the history of an audio track: more than a second, and a power of
/// two.
const AUDIO_HISTORY: usize = 64;

/// A published track.
pub(super) struct Track {
    pub(super) producer: ProducerId,
    pub(super) member: Member,
    /// Slab key of the publisher's transport.
    pub(super) transport: usize,
    pub(super) source: Source,
    pub(super) paused: bool,
    pub(super) uplink: Uplink,
    /// The layers, best first.
    pub(super) layers: Vec<Layer>,
    pub(super) subscriptions: Vec<Subscription>,
}

/// A consumer that receives a track.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subscription {
    /// Slab key of the subscriber's transport.
    pub(super) transport: usize,
    /// Slab key of the consumer in that subscriber.
    pub(super) consumer: usize,
    /// The layer that is forwarded, or [`NO_LAYER`].
    pub(super) current: u8,
    /// The layer to switch to at its next key frame, or [`NO_LAYER`].
    pub(super) target: u8,
}

/// One simulcast layer of a track, or its only stream.
pub(super) struct Layer {
    pub(super) rid: Option<String>,
    pub(super) ssrc: Option<u32>,
    pub(super) reception: Reception,
    pub(super) history: History,
    pub(super) limiter: RateLimiter,
    /// The last sender report, and when it arrived.
    pub(super) report: Option<(SenderInfo, Instant)>,
    /// Extended sequence number of the newest packet.
    pub(super) newest: u64,
    keyframe_wanted: bool,
    keyframe_requested_at: Option<Instant>,
    /// Extended sequence number of the first packet of the last key frame.
    key_frame: u64,
    /// When the last packet arrived, and when the layer last started.
    last_packet: Option<Instant>,
    started: Option<Instant>,
    /// Whether the layer is not sent at the moment, while others of its track are.
    silent: bool,
    /// When the SSRC became known.
    ssrc_known_at: Option<Instant>,
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
        // The alphabetical order of rids is the order of quality (docs/spec/media.md 2.2).
        rids.sort();
        let layer = |rid: Option<String>| Layer {
            rid,
            ssrc: None,
            reception: Reception::new(uplink.clock_rate),
            history: History::new(if source.is_audio() {
                AUDIO_HISTORY
            } else {
                VIDEO_HISTORY
            }),
            limiter: RateLimiter::new(if source.is_audio() {
                rate_limit::AUDIO
            } else {
                rate_limit::VIDEO
            }),
            report: None,
            newest: 0,
            keyframe_wanted: false,
            keyframe_requested_at: None,
            key_frame: 0,
            last_packet: None,
            started: None,
            silent: false,
            ssrc_known_at: None,
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

    /// Returns the layer of a rid, or the only layer if the track is not simulcast.
    pub(super) fn layer_of(&self, rid: Option<&[u8]>) -> Option<usize> {
        if let [only] = &self.layers[..]
            && only.rid.is_none()
        {
            return Some(0);
        }
        let rid = rid?;
        let named = |layer: &Layer| {
            layer
                .rid
                .as_ref()
                .is_some_and(|layer_rid| layer_rid.as_bytes() == rid)
        };
        self.layers.iter().position(named)
    }

    /// Returns the layer of a rid, or else the nearest better one.
    pub(super) fn nearest_layer(&self, rid: &str) -> Option<usize> {
        self.layer_of(Some(rid.as_bytes())).or_else(|| {
            let known = |layer: &Layer| layer.rid.as_deref() < Some(rid);
            self.layers.iter().rposition(known)
        })
    }

    /// Records a new packet of a layer. Returns whether the set of active layers has changed: this
    /// layer has started, or another one has stopped.
    pub(super) fn packet_received(&mut self, now: Instant, index: usize) -> bool {
        let layers = self.layers.iter_mut().enumerate();
        layers.fold(false, |changed, (other, layer)| {
            let differs = if other == index {
                layer.mark_active(now)
            } else {
                layer.mark_silent(now)
            };
            changed | differs
        })
    }

    /// Returns the bit rate of each layer in bits per second, or 0 for a layer that is not sent.
    pub(super) fn costs(&self, now: Instant) -> [u64; LAYERS] {
        let mut costs = [0; LAYERS];
        let is_simulcast = self.layers.len() > 1;
        let typical = TYPICAL_BPS.iter().take(self.layers.len()).rev();
        for ((bps, layer), typical) in costs.iter_mut().zip(&self.layers).zip(typical) {
            *bps = layer.cost(now, if is_simulcast { *typical } else { 0 });
        }
        costs
    }

    /// Returns the subscription of a consumer.
    pub(super) fn subscription(
        &mut self,
        transport: usize,
        consumer: usize,
    ) -> Option<&mut Subscription> {
        let mut all = self.subscriptions.iter_mut();
        all.find(|subscription| {
            subscription.transport == transport && subscription.consumer == consumer
        })
    }

    /// Removes the subscription of a consumer.
    pub(super) fn unsubscribe(&mut self, transport: usize, consumer: usize) {
        let is_subscription = |subscription: &Subscription| {
            subscription.transport == transport && subscription.consumer == consumer
        };
        if let Some(index) = self.subscriptions.iter().position(is_subscription) {
            self.subscriptions.swap_remove(index);
        }
    }

    /// Returns the codec of the track.
    pub(super) fn codec(&self) -> Codec {
        self.uplink.codec
    }
}

impl Layer {
    /// Sets the SSRC of the layer.
    pub(super) fn set_ssrc(&mut self, now: Instant, ssrc: u32) {
        self.ssrc = Some(ssrc);
        self.ssrc_known_at = Some(now);
    }

    fn mark_active(&mut self, now: Instant) -> bool {
        let since = |last_packet| now.saturating_duration_since(last_packet);
        let starts = self.silent
            || self
                .last_packet
                .is_none_or(|last_packet| since(last_packet) > RESTART_AFTER);
        self.last_packet = Some(now);
        if starts {
            self.silent = false;
            self.started = Some(now);
        }
        starts
    }

    fn mark_silent(&mut self, now: Instant) -> bool {
        let since = |last_packet| now.saturating_duration_since(last_packet);
        let stops = !self.silent
            && self
                .last_packet
                .is_some_and(|last_packet| since(last_packet) >= SILENT_AFTER);
        self.silent |= stops;
        stops
    }

    /// Returns the measured bit rate, but at least the typical one while the layer is too new to be
    /// measured.
    fn cost(&self, now: Instant, typical: u64) -> u64 {
        if self.silent {
            return 0;
        }
        let is_new = self
            .started
            .is_some_and(|started| now.saturating_duration_since(started) < MEASURED_AFTER);
        let measured = self.reception.bitrate(now);
        measured.max(if is_new { typical } else { 0 })
    }

    /// Requests a key frame, which is sent to the publisher when it is due.
    pub(super) fn request_keyframe(&mut self) {
        self.keyframe_wanted = true;
    }

    /// Whether a key frame must be requested from the publisher now. If so, it counts as requested.
    pub(super) fn keyframe_due(&mut self, now: Instant) -> bool {
        let due = self.ssrc.is_some() && self.next_keyframe_request().is_some_and(|at| at <= now);
        if due {
            self.keyframe_requested_at = Some(now);
        }
        due
    }

    /// Returns when a key frame must be requested from the publisher.
    pub(super) fn next_keyframe_request(&self) -> Option<Instant> {
        if !self.keyframe_wanted || self.ssrc.is_none() {
            return None;
        }
        match self.keyframe_requested_at {
            Some(asked) => Some(asked + KEYFRAME_INTERVAL),
            // The publisher is sending, or its SSRC would not be known.
            None => self.ssrc_known_at,
        }
    }

    /// Cancels the pending key frame request.
    pub(super) fn cancel_keyframe_request(&mut self) {
        self.keyframe_wanted = false;
    }

    /// Records the first packet of a key frame.
    pub(super) fn keyframe_received(&mut self, index: u64) {
        self.keyframe_wanted = false;
        self.key_frame = self.key_frame.max(index);
    }

    /// Whether a receiver that lacks this packet needs a key frame: the packet is no longer in the
    /// history, and no key frame followed it.
    pub(super) fn needs_keyframe(&self, index: u64) -> bool {
        index >= self.key_frame && self.history.is_evicted(index)
    }

    /// Returns the RTP timestamp of this layer at an NTP time, based on its last sender report.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "microsecond precision is enough; timestamps wrap"
    )]
    pub(super) fn timestamp_at(&self, ntp: u64, clock_rate: u32) -> Option<u32> {
        let (report, _) = self.report?;
        let passed = ntp.wrapping_sub(report.ntp).cast_signed();
        // A difference of more than a minute means that the clock was changed.
        let seconds = passed as f64 / 4_294_967_296.0;
        (seconds.abs() < 60.0).then(|| {
            let ticks = (seconds * f64::from(clock_rate)).round() as i64;
            report.rtp.wrapping_add(ticks as u32)
        })
    }

    /// Returns the publisher's NTP time of an RTP timestamp of this layer, based on its last sender
    /// report.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "half of the timestamp range fits"
    )]
    pub(super) fn ntp_at(&self, timestamp: u32, clock_rate: u32) -> Option<u64> {
        let (report, _) = self.report?;
        let ticks = timestamp.wrapping_sub(report.rtp).cast_signed();
        let seconds = f64::from(ticks) / f64::from(clock_rate.max(1));
        let passed = (seconds * 4_294_967_296.0).round() as i64;
        Some(report.ntp.wrapping_add_signed(passed))
    }
}
