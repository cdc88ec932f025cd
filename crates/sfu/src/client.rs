//! A WebRTC client for tests. It plays the browser's side of a transport with str0m, which shares
//! no code with the engine except DTLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::media::{Direction, MediaKind, Mid, Rid, Simulcast, SimulcastLayer};
use str0m::net::{Protocol, Receive};
use str0m::rtp::rtcp::Rtcp;
use str0m::rtp::{ExtensionValues, RawPacket, RtpWrite, Ssrc};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig, crypto};

/// The simulcast layers that the SDK sends for a camera.
pub(crate) const RIDS: [&str; 3] = ["f", "h", "q"];

/// A media packet that arrived, possibly as a retransmission.
#[derive(Debug, Clone)]
pub(crate) struct ReceivedPacket {
    pub(crate) at: Instant,
    pub(crate) mid: String,
    pub(crate) ssrc: u32,
    /// The extended sequence number.
    pub(crate) index: u64,
    pub(crate) timestamp: u32,
    pub(crate) marker: bool,
    pub(crate) level: Option<i8>,
    pub(crate) payload: Arc<[u8]>,
}

/// A packet to send.
#[derive(Debug, Clone)]
pub(crate) struct OutgoingPacket {
    pub(crate) index: u64,
    pub(crate) timestamp: u32,
    pub(crate) marker: bool,
    pub(crate) level: Option<i8>,
    pub(crate) payload: Vec<u8>,
}

/// Numbers of RTCP packets received.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RtcpCounts {
    pub(crate) nacks: usize,
    pub(crate) plis: usize,
    pub(crate) sender_reports: usize,
    pub(crate) receiver_reports: usize,
    pub(crate) feedbacks: usize,
}

/// A client that has made an offer. Like the SDK's, the offer contains no candidates.
pub(crate) struct Client {
    rtc: Rtc,
    offer: String,
    pending: Option<SdpPendingOffer>,
    address: SocketAddr,
    sent: Vec<(SocketAddr, Vec<u8>)>,
    wakes: Instant,
    pub(crate) received: Vec<ReceivedPacket>,
    /// The mid and rid of each key frame request.
    pub(crate) keyframes: Vec<(String, Option<String>)>,
    pub(crate) rtcp: RtcpCounts,
}

impl Client {
    /// Creates the client of a publish transport, which offers audio and video.
    pub(crate) fn new(now: Instant, address: SocketAddr) -> Self {
        Self::offering(now, address, Some(simulcast(&RIDS)))
    }

    /// Creates the client of a receive transport.
    pub(crate) fn receiving(now: Instant, address: SocketAddr) -> Self {
        Self::offering(now, address, None)
    }

    fn offering(now: Instant, address: SocketAddr, layers: Option<Simulcast>) -> Self {
        let mut rtc = RtcConfig::new()
            .set_crypto_provider(Arc::new(crypto::from_feature_flags()))
            .clear_codecs()
            .enable_opus(true, false)
            .enable_vp8(true)
            .set_rtp_mode(true)
            .enable_raw_packets(true)
            .build(now);
        let mut changes = rtc.sdp_api();
        changes.add_media(MediaKind::Audio, Direction::SendOnly, None, None, None);
        changes.add_media(MediaKind::Video, Direction::SendOnly, None, None, layers);
        let (offer, pending) = changes.apply().unwrap();
        rtc.add_local_candidate(Candidate::host(address, "udp").unwrap());
        Self {
            rtc,
            offer: offer.to_sdp_string(),
            pending: Some(pending),
            address,
            sent: Vec::new(),
            wakes: now,
            received: Vec::new(),
            keyframes: Vec::new(),
            rtcp: RtcpCounts::default(),
        }
    }

    pub(crate) fn offer(&self) -> &str {
        &self.offer
    }

    pub(crate) fn accept(&mut self, answer: &str) {
        let answer = SdpAnswer::from_sdp_string(answer).unwrap();
        let pending = self.pending.take().unwrap();
        self.rtc.sdp_api().accept_answer(pending, answer).unwrap();
    }

    /// Offers another track to send. Returns its mid and the offer.
    pub(crate) fn offer_track(&mut self, is_audio: bool, rids: &[&str]) -> (String, String) {
        let kind = if is_audio {
            MediaKind::Audio
        } else {
            MediaKind::Video
        };
        let layers = (!rids.is_empty()).then(|| simulcast(rids));
        let mut changes = self.rtc.sdp_api();
        let mid = changes.add_media(kind, Direction::SendOnly, None, None, layers);
        let (offer, pending) = changes.apply().unwrap();
        self.pending = Some(pending);
        (mid.to_string(), offer.to_sdp_string())
    }

    /// Offers to stop sending on a media line. As in the SDK, the line remains, inactive.
    pub(crate) fn offer_silence(&mut self, mid: &str) -> String {
        let mut changes = self.rtc.sdp_api();
        changes.set_direction(Mid::from(mid), Direction::Inactive);
        let (offer, pending) = changes.apply().unwrap();
        self.pending = Some(pending);
        offer.to_sdp_string()
    }

    /// Offers to stop media lines.
    pub(crate) fn offer_to_close(&mut self, mids: &[String]) -> String {
        self.try_offer_to_close(mids).unwrap()
    }

    /// Offers to stop media lines. Returns `None` if all of them are already stopped.
    pub(crate) fn try_offer_to_close(&mut self, mids: &[String]) -> Option<String> {
        let mut changes = self.rtc.sdp_api();
        for mid in mids {
            changes.stop_media(Mid::from(mid.as_str()));
        }
        let (offer, pending) = changes.apply()?;
        self.pending = Some(pending);
        Some(offer.to_sdp_string())
    }

    /// Answers the server's offer.
    pub(crate) fn answer(&mut self, offer: &str) -> String {
        let offer = SdpOffer::from_sdp_string(offer).unwrap();
        let answer = self.rtc.sdp_api().accept_offer(offer).unwrap();
        answer.to_sdp_string()
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.rtc.is_connected()
    }

    /// Closes the connection with a DTLS alert.
    pub(crate) fn close(&mut self) {
        self.rtc.close().unwrap();
        self.drain();
    }

    /// Enables NACKs for an audio stream too, as the SDK does (docs/spec/media.md 1.6).
    pub(crate) fn enable_nacks(&mut self, ssrc: u32) {
        let mut direct = self.rtc.direct_api();
        direct
            .stream_rx(&Ssrc::from(ssrc))
            .unwrap()
            .suppress_nack(false);
    }

    /// Requests a key frame.
    pub(crate) fn request_key_frame(&mut self, ssrc: u32) {
        let mut direct = self.rtc.direct_api();
        let stream = direct.stream_rx(&Ssrc::from(ssrc)).unwrap();
        stream.request_keyframe(str0m::media::KeyframeRequestKind::Pli);
        self.drain();
    }

    /// Sends a media packet.
    pub(crate) fn send(
        &mut self,
        now: Instant,
        mid: &str,
        rid: Option<&str>,
        packet: &OutgoingPacket,
    ) {
        let is_audio = packet.level.is_some();
        let payload_type = if is_audio { 111 } else { 96 };
        let mut direct = self.rtc.direct_api();
        let rid = rid.map(Rid::from);
        let Some(stream) = direct.stream_tx_by_mid(Mid::from(mid), rid) else {
            return;
        };
        let extensions = ExtensionValues {
            audio_level: packet.level,
            voice_activity: packet.level.map(|level| level > -60),
            ..ExtensionValues::default()
        };
        let write = RtpWrite::new(
            payload_type.into(),
            packet.index.into(),
            packet.timestamp,
            now,
            packet.payload.clone(),
        );
        let write = write.marker(packet.marker).ext_vals(extensions);
        stream.write_rtp(write.nackable(!is_audio));
    }

    /// Processes a datagram from the server.
    pub(crate) fn receive(&mut self, now: Instant, source: SocketAddr, datagram: &[u8]) {
        let Ok(receive) = Receive::new(Protocol::Udp, source, self.address, datagram) else {
            return;
        };
        self.rtc.handle_input(Input::Receive(now, receive)).unwrap();
        self.drain();
    }

    pub(crate) fn timeout(&mut self, now: Instant) {
        self.rtc.handle_input(Input::Timeout(now)).unwrap();
        self.drain();
    }

    /// Returns the datagrams to send with their destinations, and the time of the next timeout.
    pub(crate) fn poll(&mut self) -> (Vec<(SocketAddr, Vec<u8>)>, Instant) {
        self.drain();
        (std::mem::take(&mut self.sent), self.wakes)
    }

    fn drain(&mut self) {
        loop {
            match self.rtc.poll_output().unwrap() {
                Output::Timeout(wakes) => {
                    self.wakes = wakes;
                    return;
                }
                Output::Transmit(t) => self.sent.push((t.destination, t.contents.to_vec())),
                Output::Event(event) => self.record(event),
            }
        }
    }

    fn record(&mut self, event: Event) {
        match event {
            Event::RtpPacket(packet) => {
                let mut direct = self.rtc.direct_api();
                let stream = direct.stream_rx(&packet.header.ssrc);
                self.received.push(ReceivedPacket {
                    at: packet.timestamp,
                    mid: stream
                        .map(|stream| stream.mid().to_string())
                        .unwrap_or_default(),
                    ssrc: *packet.header.ssrc,
                    index: *packet.seq_no,
                    timestamp: packet.header.timestamp,
                    marker: packet.header.marker,
                    level: packet.header.ext_vals.audio_level,
                    payload: packet.payload,
                });
            }
            Event::KeyframeRequest(request) => {
                let rid = request.rid.map(|rid| rid.to_string());
                self.keyframes.push((request.mid.to_string(), rid));
            }
            Event::RawPacket(packet) => {
                if let RawPacket::RtcpRx(rtcp) = *packet {
                    match rtcp {
                        Rtcp::Nack(_) => self.rtcp.nacks += 1,
                        Rtcp::Pli(_) => self.rtcp.plis += 1,
                        Rtcp::SenderReport(_) => self.rtcp.sender_reports += 1,
                        Rtcp::ReceiverReport(_) => self.rtcp.receiver_reports += 1,
                        Rtcp::Twcc(_) => self.rtcp.feedbacks += 1,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
}

fn simulcast(rids: &[&str]) -> Simulcast {
    Simulcast {
        send: rids.iter().map(|rid| SimulcastLayer::new(rid)).collect(),
        recv: Vec::new(),
    }
}
