//! Bytes of responses that peers have not taken yet: what one connection, one address and all of them
//! may have of the server's memory.
//!
//! A connection has one response at a time, since nothing more is read from a peer that does not
//! take what it is sent (`stream`). What is charged is the memory that a response takes: the body
//! that was made for it, or a window of a body that comes in pieces. A body that is in memory
//! anyway, as the API description is, costs nothing.

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
use crate::metrics::{Metrics, Refused};
use crate::shares::{Share, Shares};

/// A body that is not larger is not charged: every connection may have it beside its buffers.
const SMALL: usize = 4 * 1024;
/// What is charged for a body that comes in pieces when nothing is said of them: as much of it as the
/// connection's buffer takes, and a piece of 8 KiB.
const WINDOW: usize = super::HEAD_BYTES + 8 * 1024;

/// An extension of responses whose bodies come in pieces: how many bytes a piece has at most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PieceBytes(pub(crate) usize);

impl PieceBytes {
    /// What of such a body is in memory at a time: the connection takes the next piece when there is
    /// less than a buffer left of the one before, all of which is in memory until it is written.
    fn window(self) -> usize {
        2 * self.0.max(super::HEAD_BYTES)
    }
}

/// What is unsent, and how much of it there may be.
pub(super) struct Ledger {
    limits: UnsentLimits,
    all: AtomicUsize,
    addresses: Arc<Shares<IpAddr>>,
    metrics: Arc<Metrics>,
}

/// Memory that a response has, until the last of it is written.
struct Charge {
    ledger: Arc<Ledger>,
    connection: Arc<Connection>,
    bytes: usize,
    _address: Option<Share<IpAddr>>,
}

impl Ledger {
    pub(super) fn new(limits: UnsentLimits, metrics: Arc<Metrics>) -> Self {
        Self {
            limits,
            all: AtomicUsize::default(),
            addresses: Shares::new(limits.address),
            metrics,
        }
    }

    /// Charges so many bytes, in any case or within the limits.
    fn charge(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        address: IpAddr,
        bytes: usize,
        in_any_case: bool,
    ) -> Result<Charge, Refused> {
        let exceeds =
            |limit, has: usize| !in_any_case && limit > 0 && has.saturating_add(bytes) > limit;
        let has = connection.unsent.load(Ordering::Relaxed);
        if exceeds(self.limits.connection, has) {
            return Err(Refused::UnsentByConnection);
        }
        let share = self.addresses.take(&address, bytes);
        if share.is_none() && !in_any_case {
            return Err(Refused::UnsentByAddress);
        }
        let has = self.all.fetch_add(bytes, Ordering::Relaxed);
        connection.unsent.fetch_add(bytes, Ordering::Relaxed);
        self.metrics.unsent(true, bytes);
        let charge = Charge {
            ledger: Arc::clone(self),
            connection: Arc::clone(connection),
            bytes,
            _address: share,
        };
        if exceeds(self.limits.server, has) {
            return Err(Refused::UnsentByServer);
        }
        Ok(charge)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.connection
            .unsent
            .fetch_sub(self.bytes, Ordering::Relaxed);
        self.ledger.all.fetch_sub(self.bytes, Ordering::Relaxed);
        self.ledger.metrics.unsent(false, self.bytes);
    }
}

/// What the response to a request is charged to.
pub(super) struct Account {
    pub(super) connections: Arc<Connections>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) connection: Arc<Connection>,
    /// The network whose share it takes from.
    pub(super) network: IpAddr,
    /// The request may have changed something by the time there is a response, so the response is
    /// not refused.
    pub(super) is_write: bool,
    /// A request in the share of its address, for as long as the response lasts.
    pub(super) share: Option<Share<IpAddr>>,
}

impl Account {
    /// The response as it goes out: charged, or a refusal in its place.
    pub(super) async fn answered(self, response: Response) -> http::Response<Charged> {
        let (head, mut body) = response.into_parts();
        let exact = body.size_hint().exact();
        let pieces = head.extensions.get::<PieceBytes>();
        let window = pieces.map_or(WINDOW, |pieces| pieces.window());
        let mut first = None;
        let bytes = match exact {
            Some(bytes) if bytes <= SMALL as u64 => 0,
            // It is all there, so it comes at once.
            Some(_) => {
                let frame = body.frame().now_or_never().flatten();
                first = frame.and_then(|frame| frame.ok()?.into_data().ok());
                match &first {
                    // In memory for others too.
                    Some(bytes) if !bytes.is_unique() => 0,
                    Some(bytes) => bytes.len(),
                    None => window,
                }
            }
            None => window,
        };
        match self.charge(bytes).await {
            Ok(charge) => {
                let body = self.charged(body, first, charge);
                http::Response::from_parts(head, body)
            }
            Err(refused) => {
                // What was made goes before anything else is.
                drop((body, first));
                self.refused(refused)
            }
        }
    }

    /// What is said in place of a response.
    pub(super) fn refused(self, refused: Refused) -> http::Response<Charged> {
        self.connections.metrics.refused_for(refused);
        let error = match refused {
            Refused::UnsentByConnection => {
                ApiError::unavailable("the response is larger than a connection may hold")
            }
            _ => ApiError::unavailable("too much waits to be sent, or too many are connected"),
        };
        let (head, body) = error.into_response().into_parts();
        http::Response::from_parts(head, self.charged(body, None, None))
    }

    async fn charge(&self, bytes: usize) -> Result<Option<Arc<Charge>>, Refused> {
        if bytes == 0 {
            return Ok(None);
        }
        let charge = |in_any_case| {
            let ledger = &self.ledger;
            ledger.charge(&self.connection, self.network, bytes, in_any_case)
        };
        let refused = match charge(false) {
            Ok(charge) => return Ok(Some(Arc::new(charge))),
            Err(refused) => refused,
        };
        let of = match refused {
            Refused::UnsentByAddress => Some(Some(self.network)),
            Refused::UnsentByServer => Some(None),
            _ => None,
        };
        let mut charged = None;
        if let Some(of) = of {
            let charge = || charge(false).ok();
            charged = self.connections.memory(of, bytes, charge).await;
        }
        if charged.is_none() && self.is_write {
            charged = charge(true).ok();
        }
        charged.map(|charge| Some(Arc::new(charge))).ok_or(refused)
    }

    fn charged(self, rest: Body, first: Option<Bytes>, charge: Option<Arc<Charge>>) -> Charged {
        Charged {
            first,
            rest,
            charge,
            account: self,
        }
    }
}

/// A body whose memory is charged.
pub(super) struct Charged {
    first: Option<Bytes>,
    rest: Body,
    charge: Option<Arc<Charge>>,
    account: Account,
}

impl Charged {
    /// The response to an upgrade: what was held for the request is held by the connection from here
    /// on.
    pub(super) fn upgrade(&mut self) {
        self.account.connection.upgraded(self.account.share.take());
    }
}

impl Drop for Charged {
    fn drop(&mut self) {
        self.account.connection.answered();
    }
}

impl hyper::body::Body for Charged {
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

/// A piece of a body, which is paid for until it is written.
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
