//! ICE-lite: answers the connectivity checks of clients (RFC 8445, 2.5 and 6.3).
//!
//! The server has an address that everybody reaches, so it asks nothing itself: it learns where a
//! client is from the client's own checks, and that it is still there from their going on.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use is::stun::{StunMessage, StunMessageBuilder};

use super::Route;

/// A client that has not asked for so long is gone (RFC 7675, 5.1).
const CONSENT: Duration = Duration::from_secs(30);

/// A way on which something valid came within so long is in use: neither does the client itself move
/// by a check unless it says so, nor does anybody else's check take the way. Browsers check the one
/// that they use every 2.5 seconds.
pub(crate) const HELD: Duration = Duration::from_secs(5);

/// How many ways a client may come on over the life of one transport. Changing networks takes a
/// few each time; after the last, the client makes a new transport. The limit bounds what a client
/// that sends from every port makes us remember.
const ROUTES: usize = 64;

/// The largest answer to a check, in bytes.
const ANSWER_BYTES: usize = 128;

/// The signature of STUN messages (RFC 8489, 14.5).
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

/// The password that goes with a user name: 32 characters of ICE (RFC 8839, 5.4).
pub(super) fn password(key: &hmac::Key, ufrag: &str) -> String {
    let tag = hmac::sign(key, ufrag.as_bytes());
    STANDARD.encode(&tag.as_ref()[..24])
}

/// What tells a client that the transport which it checks is no more, be it freed or lost with an
/// earlier process: a client that is not told believes in it for seconds, and in the meantime
/// offers on it (docs/spec/media.md 5.4).
pub(super) fn refusal(message: &StunMessage<'_>, password: &str) -> Option<Vec<u8>> {
    // Firefox gives a way up after a 403 only (RFC 7675, 5.1); libwebrtc after any error but 401, 420,
    // 487 and 500.
    let refusal = StunMessageBuilder::new()
        .binding()
        .failure()
        .error_code(403, "gone")
        .build(message.trans_id());
    write(&refusal, password.as_bytes())
}

/// The transports, by their user names, whose clients know that they are no more and are about to let
/// go of them. A refusal would only make them try to mend what they are leaving.
#[derive(Default)]
pub(super) struct Dismissed {
    since: HashMap<String, Instant>,
    sweep_at: usize,
}

impl Dismissed {
    pub(super) fn add(&mut self, now: Instant, ufrag: &str) {
        if self.since.len() >= self.sweep_at {
            self.since.retain(|_, since| is_fresh(now, *since));
            self.sweep_at = self.since.len() * 2 + 64;
        }
        self.since.insert(ufrag.to_owned(), now);
    }

    pub(super) fn has(&self, ufrag: &str) -> bool {
        self.since.contains_key(ufrag)
    }
}

/// Whether a check is signed with the password that goes with its user name, whichever thread or
/// process made that; with that password.
pub(super) fn signed(key: &hmac::Key, message: &StunMessage<'_>, ufrag: &str) -> Option<String> {
    let password = password(key, ufrag);
    let is_signed = message.is_binding_request() && message.verify(password.as_bytes(), sign);
    is_signed.then_some(password)
}

fn write(answer: &StunMessage<'_>, password: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = vec![0; ANSWER_BYTES];
    let length = (*answer).to_bytes(Some(password), &mut bytes, sign).ok()?;
    bytes.truncate(length);
    Some(bytes)
}

/// The ICE side of one transport.
pub(super) struct Ice {
    ufrag: String,
    password: String,
    /// Every way that a valid check came on, and when the last one did.
    routes: Vec<(Route, Instant)>,
    /// The one that packets are sent on.
    selected: Option<Selected>,
    /// The last valid check.
    heard: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Selected {
    route: Route,
    /// What the client thinks of it (RFC 8445, 5.1.2).
    priority: u32,
    /// The last time that something valid came on it.
    used: Instant,
}

impl Selected {
    fn is_held(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.used) < HELD
    }
}

/// Whether a check of then says that the client is still there.
fn is_fresh(now: Instant, checked: Instant) -> bool {
    now.saturating_duration_since(checked) < CONSENT
}

impl Ice {
    pub(super) fn new(ufrag: String, password: String) -> Self {
        Self {
            ufrag,
            password,
            routes: Vec::new(),
            selected: None,
            heard: None,
        }
    }

    /// The user name that checks to this transport begin with.
    pub(super) fn ufrag(&self) -> &str {
        &self.ufrag
    }

    /// The password that they are signed with.
    pub(super) fn password(&self) -> &str {
        &self.password
    }

    /// Where packets are sent.
    pub(super) fn selected(&self) -> Option<Route> {
        self.selected.map(|selected| selected.route)
    }

    /// Every way that a valid check came on.
    pub(super) fn routes(&self) -> impl Iterator<Item = Route> {
        self.routes.iter().map(|(route, _)| *route)
    }

    /// Whether this is the way that packets are sent on, and something valid came on it lately.
    pub(super) fn holds(&self, now: Instant, route: Route) -> bool {
        self.selected
            .is_some_and(|selected| selected.route == route && selected.is_held(now))
    }

    /// Whether the client has shown itself lately.
    pub(super) fn is_alive(&self, now: Instant) -> bool {
        self.heard.is_some_and(|heard| is_fresh(now, heard))
    }

    /// What to send back, the same way, to a check that is signed with this transport's password.
    /// Nothing for any other.
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
        } else if self.routes.len() < ROUTES {
            self.routes.push((route, now));
        } else {
            return None;
        }
        self.heard = Some(now);
        self.choose(now, route, message);

        let answer = StunMessage::binding_reply(message.trans_id(), source);
        write(&answer, self.password.as_bytes())
    }

    /// A client may nominate several ways at once and go on to check all of them; what it likes
    /// better wins, and what is quiet loses.
    fn choose(&mut self, now: Instant, route: Route, message: &StunMessage<'_>) {
        let priority = message.prio().unwrap_or_default();
        match &mut self.selected {
            Some(selected) if selected.route == route => selected.used = now,
            Some(selected) => {
                let is_better = message.use_candidate() && priority > selected.priority;
                if is_better || !selected.is_held(now) {
                    *selected = Selected {
                        route,
                        priority,
                        used: now,
                    };
                }
            }
            // Before the client has chosen, what comes first will do: DTLS can begin.
            None => {
                self.selected = Some(Selected {
                    route,
                    priority: if message.use_candidate() { priority } else { 0 },
                    used: now,
                });
            }
        }
    }

    /// A packet with the client's own signature came this way: it is the way that the client uses,
    /// if it agrees to be sent something there (RFC 7675, 5.1).
    pub(super) fn used(&mut self, now: Instant, route: Route) {
        match &mut self.selected {
            Some(selected) if selected.route == route => selected.used = now,
            Some(selected) => {
                let way = self.routes.iter().find(|(known, _)| *known == route);
                if way.is_some_and(|(_, checked)| is_fresh(now, *checked)) {
                    selected.route = route;
                    selected.used = now;
                }
            }
            None => {}
        }
    }

    /// A way is gone for good, such as a closed TCP connection.
    pub(super) fn lost(&mut self, route: Route) {
        self.routes.retain(|(other, _)| *other != route);
        if self.selected() == Some(route) {
            // Until the client chooses, that on which it was last seen.
            let last = self.routes.iter().max_by_key(|(_, checked)| *checked);
            self.selected = last.map(|(route, checked)| Selected {
                route: *route,
                priority: 0,
                used: *checked,
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
    fn only_who_knows_the_password_is_told_that_a_transport_is_no_more() {
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
        let found = signed(&key, &own, "aXYZ").unwrap();
        assert_eq!(found, own_password);
        let answer = refusal(&own, &found).unwrap();
        assert!(
            answer.len() <= with(&own_password).len(),
            "an answer is no amplifier"
        );
        let answer = StunMessage::parse(&answer).unwrap();
        assert!(answer.is_failed_binding_response());
        assert_eq!(answer.error_code().map(|(code, _)| code), Some(403));
        assert_eq!(answer.trans_id(), request.trans_id());
        assert!(answer.verify(own_password.as_bytes(), sign));

        let guessed = with("guessed");
        assert_eq!(
            signed(&key, &StunMessage::parse(&guessed).unwrap(), "aXYZ"),
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
