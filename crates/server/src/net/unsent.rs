//! Memory limits for unsent responses: per connection, per address and for the server.
//!
//! A connection has one response at a time, because nothing more is read from a peer that does not
//! read (`stream`). A response is charged for the memory it occupies: its whole body, or a window
//! of a streamed body. A body that is in memory anyway, such as the API description, is free.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::{Buf, Bytes};
use futures_util::FutureExt;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Frame, SizeHint};

use super::connections::{Connection, Connections};
use crate::http::ApiError;
use crate::limits::UnsentLimits;
use crate::metrics::{Metrics, RefusalReason};
use crate::shares::{Share, Shares};

/// Size up to which a body is not charged, in bytes.
const FREE_BODY_BYTES: usize = 4 * 1024;
/// The charge for a streamed body without [`PieceBytes`]: the connection's buffer and a piece of 8
/// KiB.
const DEFAULT_WINDOW: usize = super::HEAD_BYTES + 8 * 1024;

/// An extension of responses with streamed bodies: the maximum size of a piece, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PieceBytes(pub(crate) usize);

impl PieceBytes {
    /// Returns the maximum number of bytes of the body in memory. The connection takes the next
    /// piece when less than a buffer of the previous piece is left. The previous piece stays in
    /// memory until all of it is written.
    fn window(self) -> usize {
        2 * self.0.max(super::HEAD_BYTES)
    }
}

/// The unsent bytes of the server, and their limits.
pub(super) struct UnsentBudget {
    limits: UnsentLimits,
    all: AtomicUsize,
    addresses: Arc<Shares<IpAddr>>,
    metrics: Arc<Metrics>,
}

/// Memory of a response, released when its last byte is written.
struct Charge {
    budget: Arc<UnsentBudget>,
    connection: Arc<Connection>,
    bytes: usize,
    _address: Option<Share<IpAddr>>,
}

impl UnsentBudget {
    pub(super) fn new(limits: UnsentLimits, metrics: Arc<Metrics>) -> Self {
        Self {
            limits,
            all: AtomicUsize::default(),
            addresses: Shares::new(limits.address),
            metrics,
        }
    }

    /// Charges a number of bytes, within the limits or, if `forced`, regardless of them.
    fn charge(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        address: IpAddr,
        bytes: usize,
        forced: bool,
    ) -> Result<Charge, RefusalReason> {
        let exceeds = |limit, has: usize| !forced && limit > 0 && has.saturating_add(bytes) > limit;
        let has = connection.unsent.load(Ordering::Relaxed);
        if exceeds(self.limits.connection, has) {
            return Err(RefusalReason::UnsentByConnection);
        }
        let share = self.addresses.acquire(&address, bytes);
        if share.is_none() && !forced {
            return Err(RefusalReason::UnsentByAddress);
        }
        let has = self.all.fetch_add(bytes, Ordering::Relaxed);
        connection.unsent.fetch_add(bytes, Ordering::Relaxed);
        self.metrics.unsent(true, bytes);
        let charge = Charge {
            budget: Arc::clone(self),
            connection: Arc::clone(connection),
            bytes,
            _address: share,
        };
        if exceeds(self.limits.server, has) {
            return Err(RefusalReason::UnsentByServer);
        }
        Ok(charge)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.connection
            .unsent
            .fetch_sub(self.bytes, Ordering::Relaxed);
        self.budget.all.fetch_sub(self.bytes, Ordering::Relaxed);
        self.budget.metrics.unsent(false, self.bytes);
    }
}

/// The parties that are charged for the response to a request.
pub(super) struct ChargeContext {
    pub(super) connections: Arc<Connections>,
    pub(super) budget: Arc<UnsentBudget>,
    pub(super) connection: Arc<Connection>,
    /// The network in whose share it is.
    pub(super) network: IpAddr,
    /// Whether the request may have changed something, so that its response must not be rejected.
    pub(super) is_write: bool,
    /// The request's slot in the share of its address, for as long as the response lasts.
    pub(super) share: Option<Share<IpAddr>>,
}

impl ChargeContext {
    /// Returns the response with a charged body, or an error response if a limit is exceeded.
    pub(super) async fn into_response(self, response: Response) -> http::Response<ChargedBody> {
        let (head, mut body) = response.into_parts();
        let exact = body.size_hint().exact();
        let pieces = head.extensions.get::<PieceBytes>();
        let window = pieces.map_or(DEFAULT_WINDOW, |pieces| pieces.window());
        let mut first = None;
        let bytes = match exact {
            Some(bytes) if bytes <= FREE_BODY_BYTES as u64 => 0,
            // The whole body is available, so it is returned immediately.
            Some(_) => {
                let frame = body.frame().now_or_never().flatten();
                first = frame.and_then(|frame| frame.ok()?.into_data().ok());
                match &first {
                    // Shared with other responses.
                    Some(bytes) if !bytes.is_unique() => 0,
                    Some(bytes) => bytes.len(),
                    None => window,
                }
            }
            None => window,
        };
        match self.charge(bytes).await {
            Ok(charge) => {
                let body = self.charged_body(body, first, charge);
                http::Response::from_parts(head, body)
            }
            Err(refused) => {
                // The body is freed before anything else is built.
                drop((body, first));
                self.refuse(refused)
            }
        }
    }

    /// Builds the error response that replaces a response.
    pub(super) fn refuse(self, refused: RefusalReason) -> http::Response<ChargedBody> {
        self.connections.metrics.record_refusal(refused);
        let error = match refused {
            RefusalReason::UnsentByConnection => ApiError::unavailable(
                "the response exceeds the limit of unsent bytes per connection",
            ),
            _ => ApiError::unavailable("too many unsent bytes or connections"),
        };
        let (head, body) = error.into_response().into_parts();
        http::Response::from_parts(head, self.charged_body(body, None, None))
    }

    async fn charge(&self, bytes: usize) -> Result<Option<Arc<Charge>>, RefusalReason> {
        if bytes == 0 {
            return Ok(None);
        }
        let charge = |forced| {
            let budget = &self.budget;
            budget.charge(&self.connection, self.network, bytes, forced)
        };
        let refused = match charge(false) {
            Ok(charge) => return Ok(Some(Arc::new(charge))),
            Err(refused) => refused,
        };
        let of = match refused {
            RefusalReason::UnsentByAddress => Some(Some(self.network)),
            RefusalReason::UnsentByServer => Some(None),
            _ => None,
        };
        let mut charged = None;
        if let Some(of) = of {
            let charge = || charge(false).ok();
            charged = self.connections.acquire_memory(of, bytes, charge).await;
        }
        if charged.is_none() && self.is_write {
            charged = charge(true).ok();
        }
        charged.map(|charge| Some(Arc::new(charge))).ok_or(refused)
    }

    fn charged_body(
        self,
        rest: Body,
        first: Option<Bytes>,
        charge: Option<Arc<Charge>>,
    ) -> ChargedBody {
        ChargedBody {
            first,
            rest,
            charge,
            context: self,
        }
    }
}

/// A response body whose memory is charged.
pub(super) struct ChargedBody {
    first: Option<Bytes>,
    rest: Body,
    charge: Option<Arc<Charge>>,
    context: ChargeContext,
}

impl ChargedBody {
    /// Turns the response into an upgrade: the connection holds the request's share from here on.
    pub(super) fn upgrade(&mut self) {
        self.context
            .connection
            .set_upgraded(self.context.share.take());
    }
}

impl Drop for ChargedBody {
    fn drop(&mut self) {
        self.context.connection.set_answered();
    }
}

impl hyper::body::Body for ChargedBody {
    type Data = Chunk;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Chunk>, axum::Error>>> {
        let frame = match self.first.take() {
            Some(first) => Poll::Ready(Some(Ok(Frame::data(first)))),
            None => Pin::new(&mut self.rest).poll_frame(context),
        };
        let charge = self.charge.clone();
        let chunk = |bytes| Chunk {
            bytes,
            _charge: charge,
        };
        frame.map_ok(|frame| frame.map_data(chunk))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().map_or(0, Bytes::len);
        let first = u64::try_from(first).unwrap_or(u64::MAX);
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(first.saturating_add(rest.lower()));
        if let Some(upper) = rest.upper() {
            hint.set_upper(first.saturating_add(upper));
        }
        hint
    }
}

/// A piece of a body, charged until it is written.
pub(super) struct Chunk {
    bytes: Bytes,
    _charge: Option<Arc<Charge>>,
}

impl Buf for Chunk {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }
}
