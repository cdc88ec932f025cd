//! ICE with one candidate pair: the socket's address and the server's only candidate (RFC 8445).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use is::stun::{StunMessage, TransId};

use crate::signal::new_peer_id;

/// Interval at which an unanswered check is retransmitted.
const RETRY: Duration = Duration::from_millis(50);

/// Interval of consent checks once connected (RFC 7675 5.1).
const CONSENT: Duration = Duration::from_secs(5);

/// Size of the message buffer, in bytes. All messages are smaller.
const MESSAGE_BYTES: usize = 256;

/// The ICE credentials in one side's SDP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) ufrag: String,
    pub(super) password: String,
}

impl Credentials {
    pub(super) fn random() -> Self {
        let random = new_peer_id().replace('-', "");
        let (ufrag, password) = random.split_at(8);
        Self {
            ufrag: ufrag.to_owned(),
            password: password.to_owned(),
        }
    }
}

/// The controlling ICE agent.
#[derive(Debug)]
pub(super) struct Agent {
    local: Credentials,
    remote: Credentials,
    username: String,
    pending: Option<TransId>,
    next_check: Instant,
    pub(super) is_connected: bool,
}

impl Agent {
    pub(super) fn new(local: Credentials, remote: Credentials, now: Instant) -> Self {
        Self {
            username: format!("{}:{}", remote.ufrag, local.ufrag),
            local,
            remote,
            pending: None,
            next_check: now,
            is_connected: false,
        }
    }

    pub(super) fn next_timeout(&self) -> Instant {
        self.next_check
    }

    /// Returns the check to send, if one is due.
    pub(super) fn timeout(&mut self, now: Instant) -> Option<Vec<u8>> {
        if now < self.next_check {
            return None;
        }
        self.next_check = now + if self.is_connected { CONSENT } else { RETRY };
        let id = *self.pending.insert(TransId::new());
        let priority = 0x7eff_ffff;
        let check = StunMessage::binding_request(&self.username, id, true, 1, priority, true);
        write(&check, &self.remote.password)
    }

    /// Handles a message from the server. Returns the response, if the message is a check.
    pub(super) fn receive(&mut self, datagram: &[u8], from: SocketAddr) -> Option<Vec<u8>> {
        let message = StunMessage::parse(datagram).ok()?;
        if message.is_binding_request() {
            let reply = StunMessage::binding_reply(message.trans_id(), from);
            return write(&reply, &self.local.password);
        }
        // A late response to an earlier check proves the same as one to the latest.
        if message.is_successful_binding_response() && self.pending.is_some() {
            self.is_connected = true;
        }
        None
    }

    /// Schedules the next check as a consent check.
    pub(super) fn schedule_consent(&mut self, now: Instant) {
        self.next_check = now + CONSENT;
    }
}

fn write(message: &StunMessage<'_>, password: &str) -> Option<Vec<u8>> {
    let mut bytes = vec![0; MESSAGE_BYTES];
    let length = (*message)
        .to_bytes(Some(password.as_bytes()), &mut bytes, sha1)
        .ok()?;
    bytes.truncate(length);
    Some(bytes)
}

fn sha1(key: &[u8], parts: &[&[u8]]) -> [u8; 20] {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key);
    let mut context = hmac::Context::with_key(&key);
    for part in parts {
        context.update(part);
    }
    let mut digest = [0; 20];
    digest.copy_from_slice(context.sign().as_ref());
    digest
}
