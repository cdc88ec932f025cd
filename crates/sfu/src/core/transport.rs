//! One connection of one client, driven through str0m.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use str0m::change::SdpOffer;
use str0m::config::DtlsCert;
use str0m::ice::StunMessage;
use str0m::net::{DatagramSend, Protocol, Receive};
use str0m::{Candidate, IceCreds, Input, Output, Rtc, RtcConfig, crypto};
use tracing::{debug, error};

/// The largest offer that is read, in bytes. A browser's first offer has 5,000 to 7,000.
const BYTES: usize = 128 * 1024;

/// How many lines an offer may have: some 200 of a browser's first offer, as often as it may try
/// again. Their number, more than their length, decides how long reading takes.
const LINES: usize = 4096;

/// How many media lines a first offer may have. The SDK sends two, and two more each time it
/// tries again, up to 15 times (contract: media 1.4).
const MEDIA_LINES: usize = 64;

/// How long a reason for refusing an offer may be, in characters. It may quote the offer.
const REASON_CHARS: usize = 200;

/// What all transports have in common.
pub(super) struct Template {
    config: RtcConfig,
    candidates: Vec<Candidate>,
}

impl Template {
    /// Transports that tell clients to come to these addresses. They share one certificate, made
    /// here: making one takes longer than all the rest of an answer.
    pub(super) fn new(advertised: Vec<SocketAddr>) -> Self {
        let provider = crypto::from_feature_flags();
        let cert: DtlsCert = provider
            .dtls_provider
            .generate_certificate()
            .expect("the provider that is built in makes certificates");
        let config = RtcConfig::new()
            .set_crypto_provider(Arc::new(provider))
            .set_dtls_cert(cert)
            .set_ice_lite(true)
            .set_rtp_mode(true)
            .clear_codecs()
            .enable_opus(true, false)
            .enable_vp8(true);
        let candidates = advertised
            .into_iter()
            .filter_map(|address| Candidate::host(address, "udp").ok())
            .collect();
        Self { config, candidates }
    }

    /// A transport for an offer, and the answer to it; or what is wrong with the offer.
    pub(super) fn accept(&self, now: Instant, offer: Offer) -> Result<(Transport, String), String> {
        without_panic(|| self.try_accept(now, offer))
    }

    pub(super) fn try_accept(
        &self,
        now: Instant,
        offer: Offer,
    ) -> Result<(Transport, String), String> {
        let creds = IceCreds::new();
        let ufrag = creds.ufrag.clone();
        let mut rtc = self
            .config
            .clone()
            .set_local_ice_credentials(creds)
            .build(now);
        for candidate in &self.candidates {
            rtc.add_local_candidate(candidate.clone());
        }
        let answer = rtc
            .sdp_api()
            .accept_offer(offer.0)
            .map_err(|error| reason(&error))?
            .to_sdp_string();
        if answer.contains("a=setup:active") {
            return Err("its a=setup must be actpass or active".to_owned());
        }
        Ok((Transport { ufrag, rtc }, answer))
    }
}

/// An offer that was read. Reading is most of the work of answering, so it is done on the thread
/// of whoever wants the answer.
pub(crate) struct Offer(SdpOffer);

impl Offer {
    /// Reads an offer, or says what is wrong with it.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        without_panic(|| Self::try_read(text))
    }

    pub(super) fn try_read(text: &str) -> Result<Self, String> {
        if text.len() > BYTES {
            return Err(format!("it has more than {BYTES} bytes"));
        }
        let starting = |with: &str| text.lines().filter(|line| line.starts_with(with)).count();
        if starting("") > LINES || starting("m=") > MEDIA_LINES {
            return Err(format!(
                "it has more than {LINES} lines, or {MEDIA_LINES} of media"
            ));
        }
        if starting("m=application") > 0 {
            return Err("there are no data channels here".to_owned());
        }
        SdpOffer::from_sdp_string(&without_candidates(text))
            .map(Self)
            .map_err(|error| reason(&error))
    }
}

/// ICE-lite sends no checks, so where the client could be reached makes work and no difference.
/// Only a client that tries again knows it when it makes its offer.
pub(super) fn without_candidates(offer: &str) -> String {
    offer
        .split_inclusive('\n')
        .filter(|line| !line.starts_with("a=candidate:"))
        .collect()
}

fn without_panic<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        error!("answering an offer panicked");
        Err("it makes the server stumble".to_owned())
    })
}

/// An error in one line, in words for the client.
fn reason(error: &impl ToString) -> String {
    let text = error.to_string();
    // Positions are given as addresses in our memory, which are nobody's business.
    let told = text.lines().filter(|line| !line.contains("PointerOffset"));
    let told = told.collect::<Vec<_>>().join("; ");
    let told = if told.is_empty() {
        "it is not SDP"
    } else {
        &told
    };
    told.chars().take(REASON_CHARS).collect()
}

/// A datagram that makes sense by itself. Whom it is for is still to be found out.
pub(super) struct Arrival<'a> {
    input: Input<'a>,
    ufrag: Option<&'a str>,
}

impl<'a> Arrival<'a> {
    /// Reads a datagram that was sent from `source` to `home`.
    pub(super) fn read(
        now: Instant,
        source: SocketAddr,
        home: SocketAddr,
        datagram: &'a [u8],
    ) -> Option<Self> {
        let receive = Receive::new(Protocol::Udp, source, home, datagram).ok()?;
        // The two low values are what RFC 7983 leaves to STUN.
        let ufrag = if datagram.first().is_some_and(|first| *first < 2) {
            // Answers have no user name, but ICE-lite asks nothing.
            let message = StunMessage::parse(datagram).ok()?;
            Some(message.username()?.split_once(':')?.0)
        } else {
            None
        };
        Some(Self {
            input: Input::Receive(now, receive),
            ufrag,
        })
    }

    /// The ICE user name of the transport it is for, if it is STUN.
    pub(super) fn ufrag(&self) -> Option<&'a str> {
        self.ufrag
    }
}

/// How a transport is after it was driven.
pub(super) enum State {
    Connected,
    Unconnected,
    /// It will never do anything again, because of this.
    Over(&'static str),
}

/// What came of driving a transport.
pub(super) struct Driven {
    pub(super) state: State,
    /// When to drive it again.
    pub(super) wakes: Instant,
    /// False if it could do nothing with what arrived.
    pub(super) understood: bool,
}

/// One connection of one client.
pub(super) struct Transport {
    ufrag: String,
    rtc: Rtc,
}

impl Transport {
    /// The ICE user name that was made for this transport, which is its id too.
    pub(super) fn ufrag(&self) -> &str {
        &self.ufrag
    }

    /// Whether an arrival is signed with this transport's password, or is from where it sends to.
    pub(super) fn trusts(&self, arrival: &Arrival) -> bool {
        self.rtc.accepts(&arrival.input)
    }

    /// Hands in an arrival, or just the time. `send` gets the source, destination and contents of
    /// every datagram that comes of it.
    pub(super) fn drive(
        &mut self,
        now: Instant,
        arrival: Option<Arrival>,
        send: impl FnMut(SocketAddr, SocketAddr, DatagramSend),
    ) -> Driven {
        // One thread drives everybody: a panic over one client's bytes must stay that client's.
        // What is left in a bad state is freed.
        catch_unwind(AssertUnwindSafe(|| self.try_drive(now, arrival, send))).unwrap_or_else(|_| {
            error!(transport_id = self.ufrag, "a transport panicked");
            Driven {
                state: State::Over("panicked"),
                wakes: now,
                understood: false,
            }
        })
    }

    fn try_drive(
        &mut self,
        now: Instant,
        arrival: Option<Arrival>,
        mut send: impl FnMut(SocketAddr, SocketAddr, DatagramSend),
    ) -> Driven {
        let input = arrival.map_or(Input::Timeout(now), |arrival| arrival.input);
        // Not the end: anybody could send bad bytes in the client's name.
        let understood = match self.rtc.handle_input(input) {
            Ok(()) => true,
            Err(error) => {
                debug!(transport_id = self.ufrag, %error, "not understood");
                false
            }
        };
        let wakes = loop {
            match self.rtc.poll_output() {
                Ok(Output::Timeout(wakes)) => break wakes,
                Ok(Output::Transmit(transmit)) => {
                    send(transmit.source, transmit.destination, transmit.contents);
                }
                Ok(Output::Event(_)) => {}
                Err(error) => {
                    debug!(transport_id = self.ufrag, %error, "failed");
                    return Driven {
                        state: State::Over("failed"),
                        wakes: now,
                        understood,
                    };
                }
            }
        };
        let state = if !self.rtc.is_alive() {
            State::Over("closed by the client")
        } else if self.rtc.is_connected() {
            State::Connected
        } else {
            State::Unconnected
        };
        Driven {
            state,
            wakes,
            understood,
        }
    }
}
