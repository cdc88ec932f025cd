use std::collections::BTreeMap;

use futures_util::FutureExt;
use parlor_live::{Command, OrderId, Refusal};
use proptest::prelude::*;
use uuid::Uuid;

use super::queues::*;
use super::*;

const FRAME_BYTES: usize = 1 << 20;

fn participant(number: u64) -> ParticipantId {
    ParticipantId::from_uuid(Uuid::from_u128(u128::from(number)))
}

/// Stands in for the message that a socket was opened; its number is that of the socket.
fn opened(connection: u64) -> RoomMessage {
    RoomMessage::Media {
        order: OrderId(connection),
        outcome: Err(Refusal::new(503, "")),
    }
}

fn command() -> RoomMessage {
    RoomMessage::Command {
        command: Command::ListPeers,
        answer: None,
    }
}

fn open(mailbox: &Mailbox, connection: u64, of: u64) -> SocketSender {
    let sender = mailbox.open(
        ConnectionId(connection),
        participant(of),
        opened(connection),
    );
    sender.map_err(|(why, _)| why).unwrap()
}

fn may_read(sender: &SocketSender) -> bool {
    sender.ready().now_or_never() == Some(Ok(()))
}

/// The socket that sent a message.
fn socket_of(message: &RoomMessage) -> u64 {
    match message {
        RoomMessage::Media { order, .. } => order.0,
        RoomMessage::Frame { connection, .. } | RoomMessage::Closed { connection, .. } => {
            connection.0
        }
        other => panic!("{other:?}"),
    }
}

/// An operation on a mailbox.
#[derive(Debug, Clone)]
enum Operation {
    Open { of: u64 },
    Frame { socket: usize, bytes: usize },
    Close { socket: usize },
    Command,
    Receive,
}

fn operation() -> impl Strategy<Value = Operation> {
    let bytes = prop_oneof![0..100_usize, 0..200_000_usize];
    prop_oneof![
        2 => (0..5_u64).prop_map(|of| Operation::Open { of }),
        8 => (any::<usize>(), bytes).prop_map(|(socket, bytes)| Operation::Frame { socket, bytes }),
        1 => any::<usize>().prop_map(|socket| Operation::Close { socket }),
        1 => Just(Operation::Command),
        6 => Just(Operation::Receive),
    ]
}

/// The messages that each socket has sent and the room has not received, oldest first, as numbers:
/// `opened` is 0 and `closed` is the largest.
type Sent = BTreeMap<u64, VecDeque<u32>>;

fn number_of(message: &RoomMessage) -> u32 {
    match message {
        RoomMessage::Media { .. } => 0,
        RoomMessage::Frame { bytes, .. } => u32::from_be_bytes(bytes[..4].try_into().unwrap()),
        _ => u32::MAX,
    }
}

fn is_next(sent: &mut Sent, message: &RoomMessage) -> Result<(), TestCaseError> {
    let queue = sent.get_mut(&socket_of(message)).unwrap();
    prop_assert_eq!(queue.pop_front(), Some(number_of(message)));
    Ok(())
}

proptest! {
    #[test]
    fn nothing_is_lost_or_overtaken_in_a_socket(
        operations in prop::collection::vec(operation(), 0..300),
    ) {
        let queued_bytes = ByteGauge::default();
        let (mailbox, mut receiver) = mailbox(&queued_bytes);
        let (mut senders, mut sent, mut commands, mut next) = (Vec::new(), Sent::new(), 0, 1_u32);
        for operation in operations {
            match operation {
                Operation::Open { of } => {
                    let connection = sent.len() as u64;
                    senders.push((connection, open(&mailbox, connection, of)));
                    sent.insert(connection, VecDeque::from([0]));
                }
                Operation::Frame { socket, bytes } if !senders.is_empty() => {
                    let at = socket % senders.len();
                    let (connection, sender) = &senders[at];
                    if may_read(sender) {
                        let mut frame = next.to_be_bytes().to_vec();
                        frame.resize(4 + bytes, 0);
                        sender.frame(frame.into()).unwrap();
                        sent.get_mut(connection).unwrap().push_back(next);
                        next += 1;
                    }
                }
                Operation::Close { socket } if !senders.is_empty() => {
                    let (connection, sender) = senders.swap_remove(socket % senders.len());
                    sender.close(true);
                    sent.get_mut(&connection).unwrap().push_back(u32::MAX);
                }
                Operation::Command => {
                    mailbox.send(command()).unwrap();
                    commands += 1;
                }
                Operation::Receive => match receiver.try_recv() {
                    Some(RoomMessage::Command { .. }) => commands -= 1,
                    Some(message) => {
                        // Server messages come first.
                        prop_assert_eq!(commands, 0);
                        is_next(&mut sent, &message)?;
                    }
                    None => prop_assert!(sent.values().all(VecDeque::is_empty)),
                },
                _ => {}
            }
            let sockets = sent.len() * (SOCKET_BYTES + FRAME_BYTES + 2 * OVERHEAD);
            prop_assert!(queued_bytes.now() <= sockets);
        }
        for (connection, sender) in senders.drain(..) {
            drop(sender);
            sent.get_mut(&connection).unwrap().push_back(u32::MAX);
        }
        while let Some(message) = receiver.try_recv() {
            if !matches!(message, RoomMessage::Command { .. }) {
                is_next(&mut sent, &message)?;
            }
        }
        prop_assert!(sent.values().all(VecDeque::is_empty));
        prop_assert_eq!(queued_bytes.now(), 0);
        let state = receiver.0.state();
        prop_assert!(state.participants.is_empty() && state.sockets.is_empty() && state.ready.is_empty());
    }

    #[test]
    fn a_new_participant_waits_for_one_message_of_each_busy_one(
        busy in prop::collection::vec((1..20_u64, 1..FRAME_BYTES), 1..12),
        taken in 0..50_usize,
    ) {
        let (mailbox, mut receiver) = mailbox(&ByteGauge::default());
        let mut senders = Vec::new();
        for (of, (sockets, bytes)) in busy.iter().enumerate() {
            let frame = Bytes::from(vec![0; *bytes]);
            for number in 0..*sockets {
                let connection = (of as u64) * 100 + number;
                let sender = open(&mailbox, connection, of as u64);
                for _ in 0..20 {
                    sender.frame(frame.clone()).unwrap();
                }
                senders.push(sender);
            }
        }
        for _ in 0..taken {
            receiver.try_recv();
        }
        let sender = open(&mailbox, 9_999, 99);
        let mut before = 0;
        while socket_of(&receiver.try_recv().unwrap()) != 9_999 {
            before += 1;
        }
        prop_assert!(before <= busy.len(), "after {} of {} participants", before, busy.len());
        // The same holds for each message that follows.
        sender.frame(vec![0; 100].into()).unwrap();
        let mut before = 0;
        while socket_of(&receiver.try_recv().unwrap()) != 9_999 {
            before += 1;
        }
        prop_assert!(before <= busy.len(), "after {} of {} participants", before, busy.len());
    }
}

#[test]
fn a_sender_of_large_frames_skips_rounds_in_proportion() {
    let (mailbox, mut receiver) = mailbox(&ByteGauge::default());
    let (large, small) = (open(&mailbox, 1, 1), open(&mailbox, 2, 2));
    receiver.try_recv();
    receiver.try_recv();
    for _ in 0..4 {
        large
            .frame(vec![0; 16 * QUANTUM - OVERHEAD].into())
            .unwrap();
    }
    for _ in 0..40 {
        small.frame(vec![0; 100].into()).unwrap();
    }
    let of_large: Vec<usize> = (0..44)
        .filter(|_| socket_of(&receiver.try_recv().unwrap()) == 1)
        .collect();
    assert_eq!(
        of_large,
        [0, 17, 34, 43],
        "one for every 16 small ones, and the rest at the end"
    );
}

#[test]
fn a_participant_is_kept_until_its_deficit_is_served() {
    let (mailbox, mut receiver) = mailbox(&ByteGauge::default());
    let (large, small) = (open(&mailbox, 1, 1), open(&mailbox, 2, 2));
    receiver.try_recv();
    receiver.try_recv();
    let frame = Bytes::from(vec![0; 16 * QUANTUM - OVERHEAD]);
    large.frame(frame).unwrap();
    drop(large);
    for _ in 0..40 {
        small.frame(vec![0; 100].into()).unwrap();
    }
    // The frame and the close: a socket opened before that belongs to the same participant's state.
    let of_large: Vec<usize> = (0..42)
        .filter(|_| socket_of(&receiver.try_recv().unwrap()) == 1)
        .collect();
    assert_eq!(of_large, [0, 17]);
    assert!(
        !receiver
            .0
            .state()
            .participants
            .contains_key(&participant(1))
    );
}

#[test]
fn the_sockets_of_a_participant_take_turns() {
    let (mailbox, mut receiver) = mailbox(&ByteGauge::default());
    let senders: Vec<SocketSender> = (0..3).map(|number| open(&mailbox, number, 1)).collect();
    for sender in &senders {
        receiver.try_recv();
        sender.frame(vec![0].into()).unwrap();
        sender.frame(vec![0].into()).unwrap();
    }
    let order: Vec<u64> = (0..6)
        .map(|_| socket_of(&receiver.try_recv().unwrap()))
        .collect();
    assert_eq!(order, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn a_full_socket_is_not_read_until_there_is_space() {
    let (mailbox, mut receiver) = mailbox(&ByteGauge::default());
    let sender = open(&mailbox, 1, 1);
    receiver.try_recv();
    assert_eq!(sender.frame(vec![0; SOCKET_BYTES].into()), Ok(false));
    assert!(!may_read(&sender));
    receiver.try_recv();
    assert!(may_read(&sender));
    for _ in 0..SOCKET_MESSAGES {
        sender.frame(Bytes::new()).unwrap();
    }
    assert!(!may_read(&sender));
}

#[test]
fn the_sockets_of_a_participant_share_a_bound_that_affects_no_other() {
    let (mailbox, mut receiver) = mailbox(&ByteGauge::default());
    let senders: Vec<SocketSender> = (0..20).map(|number| open(&mailbox, number, 1)).collect();
    let mut sent = 0;
    for sender in senders.iter().cycle().take(10_000) {
        if may_read(sender) {
            sender.frame(vec![0; 1000].into()).unwrap();
            sent += 1;
        }
    }
    assert!(sent * 1000 <= PARTICIPANT_BYTES + 1000, "{sent} frames");
    let other = open(&mailbox, 99, 2);
    assert!(may_read(&other));
    while receiver.try_recv().is_some() {}
    assert!(senders.iter().all(may_read));
}

#[test]
fn in_an_overloaded_room_or_server_everybody_may_send_one_frame() {
    let queued_bytes = ByteGauge::default();
    let (first, mut receiver) = mailbox(&queued_bytes);
    let senders: Vec<SocketSender> = (0..100)
        .map(|number| open(&first, number, number))
        .collect();
    while receiver.try_recv().is_some() {}
    for sender in &senders {
        assert!(may_read(sender));
        sender.frame(vec![0; 200_000].into()).unwrap();
    }
    assert!(queued_bytes.now() > ROOM_BYTES && !senders.iter().any(may_read));
    let late = open(&first, 999, 999);
    assert!(may_read(&late));
    late.frame(vec![0; 10].into()).unwrap();
    assert!(!may_read(&late));
    // The other room is not over its own limit, but the server is.
    let (second, _letters) = mailbox(&queued_bytes);
    let sender = open(&second, 1, 1);
    sender.frame(vec![0; 10].into()).unwrap();
    assert!(may_read(&sender));
    queued_bytes.add(SERVER_BYTES);
    assert!(!may_read(&sender));
}

#[test]
fn sockets_with_an_unprocessed_close_are_bounded() {
    let (mailbox, mut receiver) = mailbox(&ByteGauge::default());
    for number in 0..PARTICIPANT_SOCKETS as u64 {
        drop(open(&mailbox, number, 1));
    }
    let more = mailbox.open(ConnectionId(1000), participant(1), opened(1000));
    assert_eq!(more.unwrap_err().0, OpenError::TooMany);
    drop(open(&mailbox, 1001, 2));
    while receiver.try_recv().is_some() {}
    drop(open(&mailbox, 1000, 1));
}

#[tokio::test]
async fn a_room_that_ends_tells_its_sockets_and_keeps_nothing() {
    let queued_bytes = ByteGauge::default();
    let (mailbox, mut receiver) = mailbox(&queued_bytes);
    let sender = open(&mailbox, 1, 1);
    assert_eq!(sender.frame(vec![0; SOCKET_BYTES].into()), Ok(false));
    let ready = tokio::spawn(async move { (sender.ready().await, sender) });
    tokio::task::yield_now().await;
    receiver.close();
    let (ready, sender) = ready.await.unwrap();
    assert_eq!(ready, Err(MailboxClosed));
    assert!(mailbox.is_closed() && mailbox.send(command()).is_err());
    let again = mailbox.open(ConnectionId(2), participant(1), opened(2));
    assert_eq!(again.unwrap_err().0, OpenError::Closed);
    assert!(
        receiver.try_recv().is_some(),
        "queued messages can still be received"
    );
    drop(receiver);
    drop(sender);
    assert_eq!(queued_bytes.now(), 0);
}

#[tokio::test]
async fn a_mailbox_is_alone_when_it_is_empty_and_no_sender_is_left() {
    let (registry, mut receiver) = mailbox(&ByteGauge::default());
    assert!(receiver.is_alone());
    let sender = open(&registry.clone(), 1, 1);
    assert!(!receiver.is_alone());
    drop(sender);
    assert!(
        !receiver.is_alone(),
        "the messages of the socket are queued"
    );
    assert!(receiver.recv().await.is_some() && receiver.recv().await.is_some());
    assert!(receiver.is_alone());
    registry.send(command()).unwrap();
    assert!(!receiver.is_alone());
    assert!(receiver.recv().await.is_some());
    // Dropping the last sender wakes the room.
    let received = tokio::spawn(async move { receiver.recv().await.is_none() });
    tokio::task::yield_now().await;
    drop(registry);
    assert!(received.await.unwrap());
}
