use parlor_protocol::ids::MeetingId;

use super::*;
use crate::metrics::Level;

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
        unsent.level().now(),
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
    let side = outbox.reply_sender();
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
        assert_eq!(unsent.level().now(), 1000);
        drop(inbox.ready());
        inbox.written();
    }
    assert_eq!(unsent.level().now(), 0);
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
    assert!(unsent.level().now() <= 100_000);
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
        assert!(account.level().now() <= 10_000);
    }
    assert!(gone > 0);
    let side = outbox.reply_sender();
    assert_eq!(side.put(Outgoing::Close(Closing::Final(""))), Put::Taken);
}
