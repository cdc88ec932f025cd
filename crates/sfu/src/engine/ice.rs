//! ICE-lite: answers the connectivity checks of clients (RFC 8445, 2.5 and 6.3).
//!
//! The server has a public address, so it sends no checks itself. It takes a client's address from
//! the client's checks, and considers the client alive as long as they continue.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use is::stun::{StunMessage, StunMessageBuilder};

use super::Route;

/// How long consent lasts after the last check (RFC 7675, 5.1).
const CONSENT_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a route stays held after its last authenticated packet. A held route is replaced
/// only if the client nominates another one, and is never taken over by another client's check.
/// Browsers check the selected route every 2.5 seconds.
pub(crate) const ROUTE_HOLD: Duration = Duration::from_secs(5);

/// Maximum number of routes of one transport. A change of network uses up a few; after the last,
/// the client has to open a new transport. The limit bounds the memory for a client that sends from
/// every port.
const MAX_ROUTES: usize = 64;

/// Maximum size of a response, in bytes.
const MAX_RESPONSE_BYTES: usize = 128;

/// Computes the MESSAGE-INTEGRITY of a STUN message (RFC 8489, 14.5).
pub(crate) fn sign(key: &[u8], message: &[&[u8]]) -> [u8; 20] {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key);
    let mut context = hmac::Context::with_key(&key);
    for part in message {
        context.update(part);
    }
    let mut signature = [0; 20];
    signature.copy_from_slice(context.sign().as_ref());
    signature
}

/// Derives the ICE password of a username fragment: 32 `ice-char`s (RFC 8839, 5.4).
pub(super) fn password(key: &hmac::Key, ufrag: &str) -> String {
    let tag = hmac::sign(key, ufrag.as_bytes());
    STANDARD.encode(&tag.as_ref()[..24])
}

/// Builds the error response to a check of a transport that no longer exists, because it was freed
/// or belonged to an earlier process. Without the error, a client keeps using the transport for
/// seconds and makes offers on it (docs/spec/media.md 5.4).
pub(super) fn error_response(message: &StunMessage<'_>, password: &str) -> Option<Vec<u8>> {
    // Firefox gives up a candidate pair only after a 403 (RFC 7675, 5.1); libwebrtc after any error
    // but 401, 420, 487 and 500.
    let error_response = StunMessageBuilder::new()
        .binding()
        .failure()
        .error_code(403, "gone")
        .build(message.trans_id());
    encode(&error_response, password.as_bytes())
}

/// The username fragments of closed transports whose clients have been notified. An error response
/// would only make such a client try to restore a transport that it is about to close.
#[derive(Default)]
pub(super) struct ClosedTransports {
    since: HashMap<String, Instant>,
    sweep_at: usize,
}

impl ClosedTransports {
    pub(super) fn add(&mut self, now: Instant, ufrag: &str) {
        if self.since.len() >= self.sweep_at {
            self.since.retain(|_, since| is_fresh(now, *since));
            self.sweep_at = self.since.len() * 2 + 64;
        }
        self.since.insert(ufrag.to_owned(), now);
    }

    pub(super) fn contains(&self, ufrag: &str) -> bool {
        self.since.contains_key(ufrag)
    }
}

/// Verifies a check's signature with the password of its username fragment, whichever shard or
/// process issued that, and returns the password.
pub(super) fn verify_check(
    key: &hmac::Key,
    message: &StunMessage<'_>,
    ufrag: &str,
) -> Option<String> {
    let password = password(key, ufrag);
    let is_signed = message.is_binding_request() && message.verify(password.as_bytes(), sign);
    is_signed.then_some(password)
}

fn encode(response: &StunMessage<'_>, password: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = vec![0; MAX_RESPONSE_BYTES];
    let length = (*response)
        .to_bytes(Some(password), &mut bytes, sign)
        .ok()?;
    bytes.truncate(length);
    Some(bytes)
}

/// The ICE agent of one transport.
pub(super) struct Ice {
    ufrag: String,
    password: String,
    /// Every route with a valid check, and the time of the last one.
    routes: Vec<(Route, Instant)>,
    /// The route that packets are sent on.
    selected: Option<Selected>,
    /// The time of the last valid check.
    last_check: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Selected {
    route: Route,
    /// The candidate priority that the client signals (RFC 8445, 5.1.2).
    priority: u32,
    /// The time of the last authenticated packet.
    last_used: Instant,
}

impl Selected {
    fn is_held(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last_used) < ROUTE_HOLD
    }
}

/// Whether a check is recent enough to count as consent.
fn is_fresh(now: Instant, checked: Instant) -> bool {
    now.saturating_duration_since(checked) < CONSENT_TIMEOUT
}

impl Ice {
    pub(super) fn new(ufrag: String, password: String) -> Self {
        Self {
            ufrag,
            password,
            routes: Vec::new(),
            selected: None,
            last_check: None,
        }
    }

    /// Returns the local username fragment.
    pub(super) fn ufrag(&self) -> &str {
        &self.ufrag
    }

    /// Returns the local password.
    pub(super) fn password(&self) -> &str {
        &self.password
    }

    /// Returns the route that packets are sent on.
    pub(super) fn selected(&self) -> Option<Route> {
        self.selected.map(|selected| selected.route)
    }

    /// Returns every route with a valid check.
    pub(super) fn routes(&self) -> impl Iterator<Item = Route> {
        self.routes.iter().map(|(route, _)| *route)
    }

    /// Whether the route is the selected one and has been used recently.
    pub(super) fn holds(&self, now: Instant, route: Route) -> bool {
        self.selected
            .is_some_and(|selected| selected.route == route && selected.is_held(now))
    }

    /// Whether the client's consent is fresh.
    pub(super) fn is_alive(&self, now: Instant) -> bool {
        self.last_check
            .is_some_and(|last_check| is_fresh(now, last_check))
    }

    /// Handles a connectivity check and returns the response. Returns `None` if the check is not
    /// signed with this transport's password.
    pub(super) fn check(
        &mut self,
        now: Instant,
        route: Route,
        source: SocketAddr,
        message: &StunMessage<'_>,
    ) -> Option<Vec<u8>> {
        if !message.is_binding_request() || !message.verify(self.password.as_bytes(), sign) {
            return None;
        }
        let mut routes = self.routes.iter_mut();
        if let Some((_, checked)) = routes.find(|(known, _)| *known == route) {
            *checked = now;
        } else if self.routes.len() < MAX_ROUTES {
            self.routes.push((route, now));
        } else {
            return None;
        }
        self.last_check = Some(now);
        self.select(now, route, message);

        let response = StunMessage::binding_reply(message.trans_id(), source);
        encode(&response, self.password.as_bytes())
    }

    /// Selects a route. A client may nominate several and keep checking all of them: the one with
    /// the highest priority wins, and an idle one loses.
    fn select(&mut self, now: Instant, route: Route, message: &StunMessage<'_>) {
        let priority = message.prio().unwrap_or_default();
        match &mut self.selected {
            Some(selected) if selected.route == route => selected.last_used = now,
            Some(selected) => {
                let is_better = message.use_candidate() && priority > selected.priority;
                if is_better || !selected.is_held(now) {
                    *selected = Selected {
                        route,
                        priority,
                        last_used: now,
                    };
                }
            }
            // Before the client nominates a route, the first one is used, so that DTLS can start.
            None => {
                self.selected = Some(Selected {
                    route,
                    priority: if message.use_candidate() { priority } else { 0 },
                    last_used: now,
                });
            }
        }
    }

    /// Records an authenticated packet on a route. The route becomes the selected one if the client
    /// has recently consented to receive on it (RFC 7675, 5.1).
    pub(super) fn record_packet(&mut self, now: Instant, route: Route) {
        match &mut self.selected {
            Some(selected) if selected.route == route => selected.last_used = now,
            Some(selected) => {
                let known_route = self.routes.iter().find(|(known, _)| *known == route);
                if known_route.is_some_and(|(_, checked)| is_fresh(now, *checked)) {
                    selected.route = route;
                    selected.last_used = now;
                }
            }
            None => {}
        }
    }

    /// Removes a route that has ended, such as a closed TCP connection.
    pub(super) fn remove_route(&mut self, route: Route) {
        self.routes.retain(|(other, _)| *other != route);
        if self.selected() == Some(route) {
            // Until the client nominates one, use the most recently checked route.
            let last = self.routes.iter().max_by_key(|(_, checked)| *checked);
            self.selected = last.map(|(route, checked)| Selected {
                route: *route,
                priority: 0,
                last_used: *checked,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use is::stun::TransId;

    use super::*;
    use crate::secret::Secret;

    #[test]
    fn only_signed_checks_are_answered_with_an_error() {
        let secret = Secret::from([7; 32]);
        let key = secret.key("ice passwords");
        let own_password = password(&key, "aXYZ");
        let request = StunMessage::binding_request("aXYZ:them", TransId::new(), true, 1, 1, false);
        let with = |password: &str| {
            let mut bytes = vec![0; 200];
            let length = request.to_bytes(Some(password.as_bytes()), &mut bytes, sign);
            bytes.truncate(length.unwrap());
            bytes
        };
        let own = with(&own_password);
        let own = StunMessage::parse(&own).unwrap();
        let found = verify_check(&key, &own, "aXYZ").unwrap();
        assert_eq!(found, own_password);
        let response = error_response(&own, &found).unwrap();
        assert!(
            response.len() <= with(&own_password).len(),
            "the response must not amplify"
        );
        let response = StunMessage::parse(&response).unwrap();
        assert!(response.is_failed_binding_response());
        assert_eq!(response.error_code().map(|(code, _)| code), Some(403));
        assert_eq!(response.trans_id(), request.trans_id());
        assert!(response.verify(own_password.as_bytes(), sign));

        let guessed = with("guessed");
        assert_eq!(
            verify_check(&key, &StunMessage::parse(&guessed).unwrap(), "aXYZ"),
            None
        );
    }

    #[test]
    fn passwords_follow_from_the_secret_and_the_user_name() {
        let of =
            |secret: u8, ufrag| password(&Secret::from([secret; 32]).key("ice passwords"), ufrag);
        assert_eq!(of(1, "a"), of(1, "a"));
        assert_ne!(of(1, "a"), of(1, "b"));
        assert_ne!(of(1, "a"), of(2, "a"));
        assert_eq!(of(1, "a").len(), 32);
    }
}
