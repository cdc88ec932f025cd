use parlor_protocol::ids::MeetingId;

use super::*;
use crate::metrics::ByteGauge;

const MEETING: MeetingId = MeetingId::from_uuid(uuid::Uuid::from_u128(1));

fn send(unsent: &Arc<Unsent>, outbox: &Outbox, bytes: usize) -> SendStatus {
    let (frame, _) = unsent.meeting(MEETING).frame(vec![0; bytes].into());
    outbox.send(Outgoing::Frame(frame, Pace::Now))
}

fn sockets(unsent: &Arc<Unsent>, count: u64) -> Vec<(Outbox, Inbox)> {
    let socket = |id| unsent.outbox(MEETING, ConnectionId(id));
    (0..count).map(socket).collect()
}

#[test]
fn an_outbox_is_bounded_in_bytes() {
    let unsent = Unsent::new(0, 0, ByteGauge::default());
    let (outbox, inbox) = unsent.outbox(MEETING, ConnectionId(1));
    assert_eq!(send(&unsent, &outbox, MAX_BYTES / 2), SendStatus::Queued);
    assert_eq!(send(&unsent, &outbox, MAX_BYTES / 2), SendStatus::Queued);
    assert!(inbox.ready().is_ok());
    inbox.written();
    assert_eq!(send(&unsent, &outbox, 1), SendStatus::Queued);
    assert_eq!(
        send(&unsent, &outbox, MAX_BYTES / 2),
        SendStatus::Overflowed
    );
    assert_eq!(send(&unsent, &outbox, 1), SendStatus::Closed);
    assert_eq!(unsent.level().now(), 0, "an abandoned socket keeps nothing");
    assert!(inbox.ready().is_err());
}

#[test]
fn a_long_frame_may_wait_alone() {
    let unsent = Unsent::new(0, 0, ByteGauge::default());
    let (outbox, _inbox) = unsent.outbox(MEETING, ConnectionId(1));
    assert_eq!(send(&unsent, &outbox, MAX_BYTES + 1), SendStatus::Queued);
    assert_eq!(send(&unsent, &outbox, 1), SendStatus::Overflowed);
}

#[test]
fn an_outbox_is_bounded_in_frames() {
    let unsent = Unsent::new(0, 0, ByteGauge::default());
    let (outbox, _inbox) = unsent.outbox(MEETING, ConnectionId(1));
    assert!((0..MAX_FRAMES).all(|_| send(&unsent, &outbox, 1) == SendStatus::Queued));
    assert_eq!(send(&unsent, &outbox, 1), SendStatus::Overflowed);
}

#[test]
fn queued_frames_are_still_sent_after_the_room_drops_its_end() {
    let unsent = Unsent::new(0, 0, ByteGauge::default());
    let (outbox, inbox) = unsent.outbox(MEETING, ConnectionId(1));
    let side = outbox.reply_sender();
    assert_eq!(send(&unsent, &outbox, 1), SendStatus::Queued);
    drop(outbox);
    assert_eq!(
        side.send(Outgoing::Close(CloseReason::Final(""))),
        SendStatus::Closed
    );
    assert!(matches!(inbox.ready(), Ok(Some(Outgoing::Frame(..)))));
    assert!(inbox.ready().is_err());
}

#[test]
fn a_frame_with_many_recipients_counts_once_until_the_last_is_sent() {
    let unsent = Unsent::new(0, 0, ByteGauge::default());
    let sockets = sockets(&unsent, 100);
    let (frame, _) = unsent.meeting(MEETING).frame(vec![0; 1000].into());
    for (outbox, _) in &sockets {
        let status = outbox.send(Outgoing::Frame(frame.clone(), Pace::Now));
        assert_eq!(status, SendStatus::Queued);
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
fn the_slowest_sockets_are_abandoned_first() {
    let unsent = Unsent::new(100_000, 0, ByteGauge::default());
    let sockets = sockets(&unsent, 10);
    // A slow socket in another meeting than the one that exceeds the bound.
    let other = MeetingId::from_uuid(uuid::Uuid::from_u128(2));
    let (slow, slow_inbox) = unsent.outbox(other, ConnectionId(99));
    for _ in 0..5 {
        assert_eq!(send(&unsent, &slow, 10_000), SendStatus::Queued);
    }
    for (outbox, _) in &sockets {
        assert_eq!(send(&unsent, outbox, 5_001), SendStatus::Queued);
    }
    assert!(unsent.level().now() <= 100_000);
    assert_eq!(send(&unsent, &slow, 1), SendStatus::Closed);
    assert!(slow_inbox.ready().is_err());
    let open = |(outbox, _): &&(Outbox, Inbox)| send(&unsent, outbox, 1) == SendStatus::Queued;
    assert_eq!(sockets.iter().filter(open).count(), 10);
}

#[test]
fn a_meeting_has_a_bound_of_its_own() {
    let unsent = Unsent::new(0, 10_000, ByteGauge::default());
    let sockets = sockets(&unsent, 20);
    let other = MeetingId::from_uuid(uuid::Uuid::from_u128(2));
    let (outbox, _inbox) = unsent.outbox(other, ConnectionId(99));
    let (frame, abandoned) = unsent.meeting(other).frame(vec![0; 9_000].into());
    assert_eq!(abandoned, 0);
    assert_eq!(
        outbox.send(Outgoing::Frame(frame, Pace::Now)),
        SendStatus::Queued
    );
    let meeting = unsent.meeting(MEETING);
    let mut abandoned = 0;
    for (outbox, _) in sockets.iter().cycle().take(100) {
        let (frame, count) = meeting.frame(vec![0; 1000].into());
        abandoned += count;
        outbox.send(Outgoing::Frame(frame, Pace::Now));
        assert!(meeting.level().now() <= 10_000);
    }
    assert!(abandoned > 0);
    let side = outbox.reply_sender();
    assert_eq!(
        side.send(Outgoing::Close(CloseReason::Final(""))),
        SendStatus::Queued
    );
}
