//! What waits to be sent to one socket: a queue that is bounded in frames and in bytes.
//!
//! What waits for all sockets together is bounded as well, for each meeting and for the server. A frame
//! that goes to many counts once, for as long as the last of them has it. When the bound is passed,
//! the sockets with the most unsent bytes are let go first, until a quarter of it is free again.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use bytes::Bytes;
use parlor_live::{Closing, ConnectionId, Pace};
use parlor_protocol::ids::MeetingId;

use crate::metrics::Level;

/// Frames that may wait for a client that reads slowly.
const FRAMES: usize = 1024;
/// Bytes that may wait beside one frame, which may be longer.
const BYTES: usize = 16 * 1024 * 1024;
/// Places that a queue keeps when it is empty.
const PLACES: usize = 16;

/// What is sent to a socket.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// A binary frame, and whether more may be waited for to be sent with it.
    Frame(Frame, Pace),
    /// Close, after what was sent before.
    Close(Closing),
}

/// A frame that counts among the unsent ones until it is dropped everywhere.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    bytes: Bytes,
    #[expect(dead_code, reason = "it is held, and let go with the frame")]
    counted: Arc<Counted>,
}

impl Frame {
    /// What is sent.
    pub(crate) fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }
}

/// Unsent bytes of a frame.
#[derive(Debug)]
struct Counted {
    bytes: usize,
    meeting: Level,
    unsent: Arc<Unsent>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.meeting.take(self.bytes);
        self.unsent.bytes.take(self.bytes);
    }
}

/// What waits for the sockets of the server, and how much it may be.
#[derive(Debug)]
pub(crate) struct Unsent {
    bytes: Level,
    most: usize,
    most_of_meeting: usize,
    queues: Mutex<HashMap<ConnectionId, (MeetingId, Arc<Queue>)>>,
}

/// What waits for the sockets of one meeting.
#[derive(Debug, Clone)]
pub(crate) struct MeetingUnsent {
    id: MeetingId,
    bytes: Level,
    unsent: Arc<Unsent>,
}

impl Unsent {
    /// Bounds on the unsent bytes of the server and of each meeting; 0 is no bound.
    pub(crate) fn new(most: usize, most_of_meeting: usize, bytes: Level) -> Arc<Self> {
        let bound = |most: usize| if most == 0 { usize::MAX } else { most };
        Arc::new(Self {
            bytes,
            most: bound(most),
            most_of_meeting: bound(most_of_meeting),
            queues: Mutex::default(),
        })
    }

    /// What waits in a meeting: nothing yet.
    pub(crate) fn meeting(self: &Arc<Self>, id: MeetingId) -> MeetingUnsent {
        MeetingUnsent {
            id,
            bytes: Level::default(),
            unsent: Arc::clone(self),
        }
    }

    /// The queue in front of a socket.
    pub(crate) fn outbox(
        self: &Arc<Self>,
        meeting: MeetingId,
        connection: ConnectionId,
    ) -> (Outbox, Inbox) {
        let queue = Arc::<Queue>::default();
        self.queues()
            .insert(connection, (meeting, Arc::clone(&queue)));
        let inbox = Inbox {
            queue: Arc::clone(&queue),
            connection,
            unsent: Arc::clone(self),
        };
        (Outbox(queue), inbox)
    }

    /// Lets sockets go, those with the most unsent bytes first, until `bytes` is three quarters of
    /// `most`. How many there were.
    fn relieve(&self, bytes: &Level, most: usize, of: Option<MeetingId>) -> usize {
        let mut queues: Vec<(usize, Arc<Queue>)> = self
            .queues()
            .values()
            .filter(|(meeting, _)| of.is_none_or(|of| of == *meeting))
            .map(|(_, queue)| (queue.state().bytes, Arc::clone(queue)))
            .filter(|(waiting, _)| *waiting > 0)
            .collect();
        queues.sort_by_key(|(waiting, _)| std::cmp::Reverse(*waiting));
        let mut gone = 0;
        for (_, queue) in queues {
            if bytes.now() <= most / 4 * 3 {
                break;
            }
            gone += usize::from(queue.abandon());
        }
        gone
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<ConnectionId, (MeetingId, Arc<Queue>)>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MeetingUnsent {
    /// A frame of this meeting that is to be sent. When too much waits now, the slowest sockets are
    /// let go, and counted in the answer.
    pub(crate) fn frame(&self, bytes: Bytes) -> (Frame, usize) {
        let size = bytes.len();
        let all = self.unsent.bytes.add(size);
        let here = self.bytes.add(size);
        let counted = Arc::new(Counted {
            bytes: size,
            meeting: self.bytes.clone(),
            unsent: Arc::clone(&self.unsent),
        });
        let mut gone = 0;
        if here > self.unsent.most_of_meeting {
            let most = self.unsent.most_of_meeting;
            gone += self.unsent.relieve(&self.bytes, most, Some(self.id));
        }
        if all > self.unsent.most {
            let most = self.unsent.most;
            gone += self.unsent.relieve(&self.unsent.bytes, most, None);
        }
        (Frame { bytes, counted }, gone)
    }
}

/// What has become of something that was put into a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Put {
    /// It will be sent.
    Taken,
    /// The queue is full: its socket does not read, and is closed.
    Overflowed,
    /// The socket is gone.
    Gone,
}

#[derive(Debug, Default)]
struct Queue(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Outgoing>,
    /// The frame that the socket writes, and the one before, of which something may be left: the
    /// socket takes the next one when all before the last is written.
    writing: [Option<Frame>; 2],
    /// Bytes of all these.
    bytes: usize,
    /// The room has let go of the socket: what waits is sent, and no more comes.
    ended: bool,
    /// The socket does not read, or is gone: nothing is sent any more.
    abandoned: bool,
    /// The socket, when it waits for something to send.
    idle: Option<Waker>,
    /// The socket, when it waits for the client to read.
    stuck: Option<Waker>,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, outgoing: Outgoing) -> Put {
        let mut state = self.state();
        if state.abandoned || state.ended {
            return Put::Gone;
        }
        let bytes = outgoing.bytes();
        // However long a frame is, it may wait alone.
        let fits = state.bytes == 0 || state.bytes.saturating_add(bytes) <= BYTES;
        if !fits || state.waiting.len() >= FRAMES {
            drop(state);
            self.abandon();
            return Put::Overflowed;
        }
        state.bytes += bytes;
        state.waiting.push_back(outgoing);
        if let Some(idle) = state.idle.take() {
            idle.wake();
        }
        Put::Taken
    }

    /// Sends nothing of it any more. `false` when that was so already.
    fn abandon(&self) -> bool {
        let mut state = self.state();
        let first = !std::mem::replace(&mut state.abandoned, true);
        let writing = std::mem::take(&mut state.writing);
        let left = (std::mem::take(&mut state.waiting), writing);
        state.bytes = 0;
        for socket in [state.idle.take(), state.stuck.take()]
            .into_iter()
            .flatten()
        {
            socket.wake();
        }
        drop(state);
        drop(left);
        first
    }
}

impl Outgoing {
    fn bytes(&self) -> usize {
        match self {
            Self::Frame(frame, _) => frame.bytes.len(),
            Self::Close(_) => 0,
        }
    }
}

/// The room's end of the queue. When it is dropped, the socket is closed.
#[derive(Debug)]
pub(crate) struct Outbox(Arc<Queue>);

impl Outbox {
    /// Puts something into the queue.
    pub(crate) fn put(&self, outgoing: Outgoing) -> Put {
        self.0.put(outgoing)
    }

    /// Another way into the queue, which does not keep the socket open.
    pub(crate) fn side(&self) -> Side {
        Side(Arc::clone(&self.0))
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.ended = true;
        if let Some(idle) = state.idle.take() {
            idle.wake();
        }
    }
}

/// A way into the queue of a socket for as long as the room has its end of it.
#[derive(Debug)]
pub(crate) struct Side(Arc<Queue>);

impl Side {
    /// Puts something into the queue.
    pub(crate) fn put(&self, outgoing: Outgoing) -> Put {
        self.0.put(outgoing)
    }
}

/// The socket's end of the queue.
#[derive(Debug)]
pub(crate) struct Inbox {
    queue: Arc<Queue>,
    connection: ConnectionId,
    unsent: Arc<Unsent>,
}

impl Inbox {
    /// The next of the queue; `None` when the room has let go of the socket, or has abandoned it. A
    /// frame counts as unsent until [`Inbox::written`], or until the next but one is taken.
    pub(crate) async fn next(&self) -> Option<Outgoing> {
        poll_fn(|context| {
            let mut state = self.queue.state();
            match state.take() {
                Some(outgoing) => Poll::Ready(Some(outgoing)),
                None if state.ended || state.abandoned => Poll::Ready(None),
                None => {
                    state.idle = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// What waits already: `Err` when nothing does and nothing will.
    pub(crate) fn ready(&self) -> Result<Option<Outgoing>, ()> {
        let mut state = self.queue.state();
        match state.take() {
            None if state.ended || state.abandoned => Err(()),
            next => Ok(next),
        }
    }

    /// Everything that was taken is on its way.
    pub(crate) fn written(&self) {
        self.queue.state().written();
    }

    /// Waits until the queue is abandoned.
    pub(crate) async fn abandoned(&self) {
        poll_fn(|context| {
            let mut state = self.queue.state();
            if state.abandoned {
                return Poll::Ready(());
            }
            state.stuck = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.queue.abandon();
        self.unsent.queues().remove(&self.connection);
    }
}

impl State {
    fn take(&mut self) -> Option<Outgoing> {
        let next = self.waiting.pop_front()?;
        if let Outgoing::Frame(frame, _) = &next {
            let [last, before] = &mut self.writing;
            let done = std::mem::replace(before, last.replace(frame.clone()));
            self.bytes -= done.map_or(0, |frame| frame.bytes.len());
        }
        if self.waiting.is_empty() && self.waiting.capacity() > 4 * PLACES {
            self.waiting.shrink_to(PLACES);
        }
        Some(next)
    }

    fn written(&mut self) {
        for frame in std::mem::take(&mut self.writing).into_iter().flatten() {
            self.bytes -= frame.bytes.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use parlor_protocol::ids::MeetingId;

    use super::*;

    const MEETING: MeetingId = MeetingId::from_uuid(uuid::Uuid::from_u128(1));

    fn put(unsent: &Arc<Unsent>, outbox: &Outbox, bytes: usize) -> Put {
        let (frame, _) = unsent.meeting(MEETING).frame(vec![0; bytes].into());
        outbox.put(Outgoing::Frame(frame, Pace::Now))
    }

    fn sockets(unsent: &Arc<Unsent>, count: u64) -> Vec<(Outbox, Inbox)> {
        let socket = |id| unsent.outbox(MEETING, ConnectionId(id));
        (0..count).map(socket).collect()
    }

    #[test]
    fn what_waits_is_bounded_in_bytes() {
        let unsent = Unsent::new(0, 0, Level::default());
        let (outbox, inbox) = unsent.outbox(MEETING, ConnectionId(1));
        assert_eq!(put(&unsent, &outbox, BYTES / 2), Put::Taken);
        assert_eq!(put(&unsent, &outbox, BYTES / 2), Put::Taken);
        assert!(inbox.ready().is_ok());
        inbox.written();
        assert_eq!(put(&unsent, &outbox, 1), Put::Taken);
        assert_eq!(put(&unsent, &outbox, BYTES / 2), Put::Overflowed);
        assert_eq!(put(&unsent, &outbox, 1), Put::Gone);
        assert_eq!(
            unsent.bytes.now(),
            0,
            "nothing is kept for whoever is let go"
        );
        assert!(inbox.ready().is_err());
    }

    #[test]
    fn a_long_frame_may_wait_alone() {
        let unsent = Unsent::new(0, 0, Level::default());
        let (outbox, _inbox) = unsent.outbox(MEETING, ConnectionId(1));
        assert_eq!(put(&unsent, &outbox, BYTES + 1), Put::Taken);
        assert_eq!(put(&unsent, &outbox, 1), Put::Overflowed);
    }

    #[test]
    fn what_waits_is_bounded_in_frames() {
        let unsent = Unsent::new(0, 0, Level::default());
        let (outbox, _inbox) = unsent.outbox(MEETING, ConnectionId(1));
        assert!((0..FRAMES).all(|_| put(&unsent, &outbox, 1) == Put::Taken));
        assert_eq!(put(&unsent, &outbox, 1), Put::Overflowed);
    }

    #[test]
    fn what_waited_is_still_sent_when_the_room_lets_go() {
        let unsent = Unsent::new(0, 0, Level::default());
        let (outbox, inbox) = unsent.outbox(MEETING, ConnectionId(1));
        let side = outbox.side();
        assert_eq!(put(&unsent, &outbox, 1), Put::Taken);
        drop(outbox);
        assert_eq!(side.put(Outgoing::Close(Closing::Final(""))), Put::Gone);
        assert!(matches!(inbox.ready(), Ok(Some(Outgoing::Frame(..)))));
        assert!(inbox.ready().is_err());
    }

    #[test]
    fn a_frame_for_many_counts_once_until_the_last_of_them_has_it() {
        let unsent = Unsent::new(0, 0, Level::default());
        let sockets = sockets(&unsent, 100);
        let (frame, _) = unsent.meeting(MEETING).frame(vec![0; 1000].into());
        for (outbox, _) in &sockets {
            let put = outbox.put(Outgoing::Frame(frame.clone(), Pace::Now));
            assert_eq!(put, Put::Taken);
        }
        drop(frame);
        for (_, inbox) in &sockets {
            assert_eq!(unsent.bytes.now(), 1000);
            drop(inbox.ready());
            inbox.written();
        }
        assert_eq!(unsent.bytes.now(), 0);
    }

    #[test]
    fn those_who_read_least_are_let_go_first() {
        let unsent = Unsent::new(100_000, 0, Level::default());
        let sockets = sockets(&unsent, 10);
        // One of them has not read for long, and is in another meeting than whoever goes too far.
        let other = MeetingId::from_uuid(uuid::Uuid::from_u128(2));
        let (slow, slow_inbox) = unsent.outbox(other, ConnectionId(99));
        for _ in 0..5 {
            assert_eq!(put(&unsent, &slow, 10_000), Put::Taken);
        }
        for (outbox, _) in &sockets {
            assert_eq!(put(&unsent, outbox, 5_001), Put::Taken);
        }
        assert!(unsent.bytes.now() <= 100_000);
        assert_eq!(put(&unsent, &slow, 1), Put::Gone);
        assert!(slow_inbox.ready().is_err());
        let open = |(outbox, _): &&(Outbox, Inbox)| put(&unsent, outbox, 1) == Put::Taken;
        assert_eq!(sockets.iter().filter(open).count(), 10);
    }

    #[test]
    fn a_meeting_has_a_bound_of_its_own() {
        let unsent = Unsent::new(0, 10_000, Level::default());
        let sockets = sockets(&unsent, 20);
        let other = MeetingId::from_uuid(uuid::Uuid::from_u128(2));
        let (outbox, _inbox) = unsent.outbox(other, ConnectionId(99));
        let (frame, gone) = unsent.meeting(other).frame(vec![0; 9_000].into());
        assert_eq!(gone, 0);
        assert_eq!(outbox.put(Outgoing::Frame(frame, Pace::Now)), Put::Taken);
        let account = unsent.meeting(MEETING);
        let mut gone = 0;
        for (outbox, _) in sockets.iter().cycle().take(100) {
            let (frame, let_go) = account.frame(vec![0; 1000].into());
            gone += let_go;
            outbox.put(Outgoing::Frame(frame, Pace::Now));
            assert!(account.bytes.now() <= 10_000);
        }
        assert!(gone > 0);
        let side = outbox.side();
        assert_eq!(side.put(Outgoing::Close(Closing::Final(""))), Put::Taken);
    }
}
