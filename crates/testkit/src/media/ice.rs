//! ICE with one pair: the socket's own address and the one candidate of the server (RFC 8445).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use is::stun::{StunMessage, TransId};

use crate::signal::new_peer_id;

/// How often an unanswered check is sent again.
const RETRY: Duration = Duration::from_millis(50);

/// How often consent is asked for once connected (RFC 7675 5.1).
const CONSENT: Duration = Duration::from_secs(5);

/// Longer than any check or reply made here.
const MESSAGE_BYTES: usize = 256;

/// What one side writes into its SDP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) ufrag: String,
    pub(super) password: String,
}

impl Credentials {
    pub(super) fn draw() -> Self {
        let random = new_peer_id().replace('-', "");
        let (ufrag, password) = random.split_at(8);
        Self {
            ufrag: ufrag.to_owned(),
            password: password.to_owned(),
        }
    }
}

/// The controlling side.
#[derive(Debug)]
pub(super) struct Agent {
    local: Credentials,
    remote: Credentials,
    username: String,
    asked: Option<TransId>,
    next_check: Instant,
    pub(super) is_connected: bool,
}

impl Agent {
    pub(super) fn new(local: Credentials, remote: Credentials, now: Instant) -> Self {
        Self {
            username: format!("{}:{}", remote.ufrag, local.ufrag),
            local,
            remote,
            asked: None,
            next_check: now,
            is_connected: false,
        }
    }

    pub(super) fn next_timeout(&self) -> Instant {
        self.next_check
    }

    /// The check that is due, if one is.
    pub(super) fn timeout(&mut self, now: Instant) -> Option<Vec<u8>> {
        if now < self.next_check {
            return None;
        }
        self.next_check = now + if self.is_connected { CONSENT } else { RETRY };
        let id = *self.asked.insert(TransId::new());
        let priority = 0x7eff_ffff;
        let check = StunMessage::binding_request(&self.username, id, true, 1, priority, true);
        write(&check, &self.remote.password)
    }

    /// Takes a message of the server; the reply to it, if it is a check.
    pub(super) fn receive(&mut self, datagram: &[u8], from: SocketAddr) -> Option<Vec<u8>> {
        let message = StunMessage::parse(datagram).ok()?;
        if message.is_binding_request() {
            let reply = StunMessage::binding_reply(message.trans_id(), from);
            return write(&reply, &self.local.password);
        }
        // A late reply to an earlier check says the same as one to the last.
        if message.is_successful_binding_response() && self.asked.is_some() {
            self.is_connected = true;
        }
        None
    }

    /// Puts the next check off, so that it asks for consent only.
    pub(super) fn rest(&mut self, now: Instant) {
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
