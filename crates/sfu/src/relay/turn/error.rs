//! Error responses (RFC 8489 14.8, RFC 8656 19).

/// An error response to a request.
pub(super) struct ErrorResponse {
    pub(super) code: u16,
    pub(super) reason: &'static str,
    /// Whether the response contains the realm and a nonce, which the client needs to retry.
    pub(super) challenge: bool,
}

impl ErrorResponse {
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

/// The client has no allocation, or already has one.
pub(super) const ALLOCATION_MISMATCH: ErrorResponse =
    ErrorResponse::new(437, "Allocation Mismatch");
/// The family of the peer address is not that of the allocation.
pub(super) const PEER_FAMILY_MISMATCH: ErrorResponse =
    ErrorResponse::new(443, "Peer Address Family Mismatch");
