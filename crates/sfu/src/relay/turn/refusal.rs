//! Answers that say no (RFC 8489 14.8, RFC 8656 19).

/// An error in answer to a request.
pub(super) struct Refusal {
    pub(super) code: u16,
    pub(super) reason: &'static str,
    /// Whether it comes with what the client needs to sign the next try.
    pub(super) challenge: bool,
}

impl Refusal {
    pub(super) const fn new(code: u16, reason: &'static str) -> Self {
        Self {
            code,
            reason,
            challenge: false,
        }
    }

    pub(super) const fn challenge(code: u16, reason: &'static str) -> Self {
        Self {
            code,
            reason,
            challenge: true,
        }
    }

    pub(super) const fn malformed() -> Self {
        Self::new(400, "Bad Request")
    }
}

/// There is no allocation, or there is one already.
pub(super) const MISMATCH: Refusal = Refusal::new(437, "Allocation Mismatch");
/// The address is not of the family that was allocated.
pub(super) const FAMILY: Refusal = Refusal::new(443, "Peer Address Family Mismatch");
