//! The other end of a transport, for tests: what a browser does, done by str0m.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use str0m::change::{SdpAnswer, SdpPendingOffer};
use str0m::media::{Direction, MediaKind};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Input, Output, Rtc, RtcConfig, crypto};

/// A client that has made an offer, without candidates as the SDK does.
pub(crate) struct Client {
    rtc: Rtc,
    offer: String,
    pending: Option<SdpPendingOffer>,
    address: SocketAddr,
}

impl Client {
    /// Offers audio and video from this address.
    pub(crate) fn new(now: Instant, address: SocketAddr) -> Self {
        let mut rtc = RtcConfig::new()
            .set_crypto_provider(Arc::new(crypto::from_feature_flags()))
            .build(now);
        let mut changes = rtc.sdp_api();
        changes.add_media(MediaKind::Audio, Direction::SendOnly, None, None, None);
        changes.add_media(MediaKind::Video, Direction::SendOnly, None, None, None);
        let (offer, pending) = changes.apply().unwrap();
        rtc.add_local_candidate(Candidate::host(address, "udp").unwrap());
        Self {
            rtc,
            offer: offer.to_sdp_string(),
            pending: Some(pending),
            address,
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

    pub(crate) fn is_connected(&self) -> bool {
        self.rtc.is_connected()
    }

    /// Says goodbye.
    pub(crate) fn close(&mut self) {
        self.rtc.close().unwrap();
    }

    /// Takes a datagram from the server.
    pub(crate) fn receive(&mut self, now: Instant, source: SocketAddr, datagram: &[u8]) {
        let receive = Receive::new(Protocol::Udp, source, self.address, datagram).unwrap();
        self.rtc.handle_input(Input::Receive(now, receive)).unwrap();
    }

    pub(crate) fn timeout(&mut self, now: Instant) {
        self.rtc.handle_input(Input::Timeout(now)).unwrap();
    }

    /// What it sends, and where to; and when it wants to be woken.
    pub(crate) fn poll(&mut self) -> (Vec<(SocketAddr, Vec<u8>)>, Instant) {
        let mut sent = Vec::new();
        loop {
            match self.rtc.poll_output().unwrap() {
                Output::Timeout(wakes) => return (sent, wakes),
                Output::Transmit(t) => sent.push((t.destination, t.contents.to_vec())),
                Output::Event(_) => {}
            }
        }
    }
}
