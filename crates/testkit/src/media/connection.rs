//! One transport on the media thread, with its streams and receive statistics.

use std::time::Instant;

use anyhow::{Context, Result};
use parlor_sfu::wire::rtcp::{self, Rtcp};
use parlor_sfu::wire::srtp::Profile;
use tokio::sync::oneshot;

use super::Totals;
use super::reception::ReceiveStats;
use super::stream::{Stream, key_frame_requests, now_ns, stamp_of};
use super::transport::{Incoming, Transport};

/// A transport with the streams sent on it and its receive statistics.
pub(super) struct Connection {
    pub(super) transport: Transport,
    pub(super) reception: ReceiveStats,
    pub(super) streams: Vec<Stream>,
    transport_sequence: u16,
    pub(super) own_ssrc: u32,
    connected: Option<oneshot::Sender<Result<Profile>>>,
}

impl Connection {
    pub(super) fn new(
        transport: Transport,
        connected: oneshot::Sender<Result<Profile>>,
        now: Instant,
    ) -> Self {
        Self {
            transport,
            reception: ReceiveStats::new(now),
            streams: Vec::new(),
            transport_sequence: 0,
            own_ssrc: 1,
            connected: Some(connected),
        }
    }

    /// Reports the outcome of the handshake, once.
    pub(super) fn report_connected(&mut self, result: Result<Profile>) {
        if let Some(sender) = self.connected.take() {
            let _ = sender.send(result);
        }
    }

    /// Sends the packet that is due, and returns when the next one is.
    pub(super) fn send(
        &mut self,
        index: usize,
        packet: &mut Vec<u8>,
        totals: &mut Totals,
    ) -> Option<Instant> {
        let stream = self.streams.get_mut(index)?;
        stream.due()?;
        let written = stream.write(packet, self.transport_sequence);
        let sealer = self.transport.sealer()?;
        sealer.seal_rtp(packet, 0, written.header_bytes, written.index);
        self.transport_sequence = self.transport_sequence.wrapping_add(1);
        if self.transport.send(packet) {
            totals.sent += 1;
        } else {
            totals.unsent += 1;
        }
        stream.due()
    }

    pub(super) fn receive(
        &mut self,
        datagram: &mut [u8],
        at_ns: u64,
        now: Instant,
        sample: u64,
        totals: &mut Totals,
    ) {
        match self.transport.receive(datagram, now) {
            Ok(Incoming::Handled) => {}
            Ok(Incoming::Connected) => {
                let profile = self.transport.profile();
                self.report_connected(profile.context("connected without keys"));
            }
            Ok(Incoming::Rtp) => {
                let before = self.reception.take(datagram, at_ns);
                if before.is_some_and(|before| before % sample == 0)
                    && let Some(latency) = self.latency(datagram, at_ns)
                {
                    totals.latencies_ns.push(latency);
                }
            }
            Ok(Incoming::Rtcp) => self.receive_rtcp(datagram, totals),
            Err(error) => self.report_connected(Err(error)),
        }
    }

    fn latency(&mut self, datagram: &mut [u8], at_ns: u64) -> Option<u32> {
        let opened = self.transport.opener()?.open_rtp(datagram)?;
        let payload = datagram.get(opened.header.payload..opened.end)?;
        let at_ns = if at_ns == 0 { now_ns() } else { at_ns };
        u32::try_from(at_ns.saturating_sub(stamp_of(payload)?)).ok()
    }

    /// Handles RTCP feedback about the streams sent on this transport.
    fn receive_rtcp(&mut self, datagram: &mut [u8], totals: &mut Totals) {
        if self.streams.is_empty() {
            return;
        }
        let Some(compound) = self
            .transport
            .opener()
            .and_then(|opener| opener.open_rtcp(datagram))
        else {
            return;
        };
        for message in rtcp::parse(compound) {
            if let Rtcp::Nack { lost, .. } = message {
                totals.retransmission_requests += lost.count() as u64;
            }
        }
        for ssrc in key_frame_requests(compound) {
            totals.key_requests += 1;
            for stream in self.streams.iter_mut().filter(|stream| stream.ssrc == ssrc) {
                stream.request_key();
            }
        }
    }

    /// Handles the timers that are due.
    pub(super) fn timeout(&mut self, now: Instant) {
        if self.transport.next_timeout().is_some_and(|due| due <= now)
            && let Err(error) = self.transport.timeout(now)
        {
            self.report_connected(Err(error));
        }
        self.report(now);
    }

    fn report(&mut self, now: Instant) {
        let (transport, own) = (&mut self.transport, self.own_ssrc);
        if transport.profile().is_none() {
            return;
        }
        self.reception.reports(now, own, |packet| {
            if let Some(sealer) = transport.sealer() {
                sealer.seal_rtcp(packet, 0);
                transport.send(packet);
            }
        });
    }
}
