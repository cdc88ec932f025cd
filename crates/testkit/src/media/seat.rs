//! One client's connection on the rig, and what it is used for.

use std::time::Instant;

use anyhow::{Context, Result};
use parlor_sfu::wire::rtcp::{self, Rtcp};
use parlor_sfu::wire::srtp::Profile;
use tokio::sync::oneshot;

use super::Totals;
use super::reception::Reception;
use super::stream::{Stream, keys_asked_for, now_ns, stamp_of};
use super::transport::{Incoming, Transport};

/// A transport and what it is used for.
pub(super) struct Seat {
    pub(super) transport: Transport,
    pub(super) reception: Reception,
    pub(super) streams: Vec<Stream>,
    transport_sequence: u16,
    pub(super) own_ssrc: u32,
    connected: Option<oneshot::Sender<Result<Profile>>>,
}

impl Seat {
    pub(super) fn new(
        transport: Transport,
        connected: oneshot::Sender<Result<Profile>>,
        now: Instant,
    ) -> Self {
        Self {
            transport,
            reception: Reception::new(now),
            streams: Vec::new(),
            transport_sequence: 0,
            own_ssrc: 1,
            connected: Some(connected),
        }
    }

    pub(super) fn is_connected(&mut self, result: Result<Profile>) {
        if let Some(told) = self.connected.take() {
            let _ = told.send(result);
        }
    }

    /// Sends the packet that is due; when the next is.
    pub(super) fn send(
        &mut self,
        place: usize,
        packet: &mut Vec<u8>,
        totals: &mut Totals,
    ) -> Option<Instant> {
        let stream = self.streams.get_mut(place)?;
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
                self.is_connected(profile.context("connected without keys"));
            }
            Ok(Incoming::Rtp) => {
                let before = self.reception.take(datagram, at_ns);
                if before.is_some_and(|before| before % sample == 0)
                    && let Some(latency) = self.latency(datagram, at_ns)
                {
                    totals.latencies_ns.push(latency);
                }
            }
            Ok(Incoming::Rtcp) => self.listen(datagram, totals),
            Err(error) => self.is_connected(Err(error)),
        }
    }

    fn latency(&mut self, datagram: &mut [u8], at_ns: u64) -> Option<u32> {
        let opened = self.transport.opener()?.open_rtp(datagram)?;
        let payload = datagram.get(opened.header.payload..opened.end)?;
        let at_ns = if at_ns == 0 { now_ns() } else { at_ns };
        u32::try_from(at_ns.saturating_sub(stamp_of(payload)?)).ok()
    }

    /// Takes what the server says about streams that are sent here.
    fn listen(&mut self, datagram: &mut [u8], totals: &mut Totals) {
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
        for ssrc in keys_asked_for(compound) {
            totals.key_requests += 1;
            for stream in self.streams.iter_mut().filter(|stream| stream.ssrc == ssrc) {
                stream.request_key();
            }
        }
    }

    /// Does what is due at this time.
    pub(super) fn timeout(&mut self, now: Instant) {
        if self.transport.next_timeout().is_some_and(|due| due <= now)
            && let Err(error) = self.transport.timeout(now)
        {
            self.is_connected(Err(error));
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
