use std::collections::BTreeMap;

use futures_util::FutureExt;
use parlor_live::{Command, OrderId, Refusal};
use proptest::prelude::*;
use uuid::Uuid;

use super::queues::*;
use super::*;

const FRAME_BYTES: usize = 1 << 20;

fn person(number: u64) -> ParticipantId {
    ParticipantId::from_uuid(Uuid::from_u128(u128::from(number)))
}

/// Stands for the letter that a socket was opened: its number is that of the socket.
fn opened(connection: u64) -> Letter {
    Letter::Media {
        order: OrderId(connection),
        outcome: Err(Refusal::new(503, "")),
    }
}

fn command() -> Letter {
    Letter::Command {
        command: Command::Who,
        answer: None,
    }
}

fn open(mailbox: &Mailbox, connection: u64, of: u64) -> SocketSender {
    let line = mailbox.open(ConnectionId(connection), person(of), opened(connection));
    line.map_err(|(why, _)| why).unwrap()
}

fn may_read(line: &SocketSender) -> bool {
    line.ready().now_or_never() == Some(Ok(()))
}

/// Whose letter it is.
fn socket_of(letter: &Letter) -> u64 {
    match letter {
        Letter::Media { order, .. } => order.0,
        Letter::Frame { connection, .. } | Letter::Closed { connection, .. } => connection.0,
        other => panic!("{other:?}"),
    }
}

/// What happens to a mailbox.
#[derive(Debug, Clone)]
enum Act {
    Open { of: u64 },
    Frame { socket: usize, bytes: usize },
    Close { socket: usize },
    Command,
    Take,
}

fn act() -> impl Strategy<Value = Act> {
    let bytes = prop_oneof![0..100_usize, 0..200_000_usize];
    prop_oneof![
        2 => (0..5_u64).prop_map(|of| Act::Open { of }),
        8 => (any::<usize>(), bytes).prop_map(|(socket, bytes)| Act::Frame { socket, bytes }),
        1 => any::<usize>().prop_map(|socket| Act::Close { socket }),
        1 => Just(Act::Command),
        6 => Just(Act::Take),
    ]
}

/// What a socket has sent and the room has not received, oldest first: numbers, `opened` is 0 and
/// `closed` is the largest.
type Sent = BTreeMap<u64, VecDeque<u32>>;

fn number_of(letter: &Letter) -> u32 {
    match letter {
        Letter::Media { .. } => 0,
        Letter::Frame { bytes, .. } => u32::from_be_bytes(bytes[..4].try_into().unwrap()),
        _ => u32::MAX,
    }
}

fn is_next(sent: &mut Sent, letter: &Letter) -> Result<(), TestCaseError> {
    let queue = sent.get_mut(&socket_of(letter)).unwrap();
    prop_assert_eq!(queue.pop_front(), Some(number_of(letter)));
    Ok(())
}

proptest! {
    #[test]
    fn nothing_is_lost_or_overtaken_in_a_socket(acts in prop::collection::vec(act(), 0..300)) {
        let queued_bytes = Level::default();
        let (mailbox, mut letters) = mailbox(&queued_bytes);
        let (mut lines, mut sent, mut commands, mut next) = (Vec::new(), Sent::new(), 0, 1_u32);
        for act in acts {
            match act {
                Act::Open { of } => {
                    let connection = sent.len() as u64;
                    lines.push((connection, open(&mailbox, connection, of)));
                    sent.insert(connection, VecDeque::from([0]));
                }
                Act::Frame { socket, bytes } if !lines.is_empty() => {
                    let at = socket % lines.len();
                    let (connection, line) = &lines[at];
                    if may_read(line) {
                        let mut frame = next.to_be_bytes().to_vec();
                        frame.resize(4 + bytes, 0);
                        line.frame(frame.into()).unwrap();
                        sent.get_mut(connection).unwrap().push_back(next);
                        next += 1;
                    }
                }
                Act::Close { socket } if !lines.is_empty() => {
                    let (connection, line) = lines.swap_remove(socket % lines.len());
                    line.close(true);
                    sent.get_mut(&connection).unwrap().push_back(u32::MAX);
                }
                Act::Command => {
                    mailbox.send(command()).unwrap();
                    commands += 1;
                }
                Act::Take => match letters.try_recv() {
                    Some(Letter::Command { .. }) => commands -= 1,
                    Some(letter) => {
                        // The server's own letters come first.
                        prop_assert_eq!(commands, 0);
                        is_next(&mut sent, &letter)?;
                    }
                    None => prop_assert!(sent.values().all(VecDeque::is_empty)),
                },
                _ => {}
            }
            let sockets = sent.len() * (SOCKET_BYTES + FRAME_BYTES + 2 * OVERHEAD);
            prop_assert!(queued_bytes.now() <= sockets);
        }
        for (connection, line) in lines.drain(..) {
            drop(line);
            sent.get_mut(&connection).unwrap().push_back(u32::MAX);
        }
        while let Some(letter) = letters.try_recv() {
            if !matches!(letter, Letter::Command { .. }) {
                is_next(&mut sent, &letter)?;
            }
        }
        prop_assert!(sent.values().all(VecDeque::is_empty));
        prop_assert_eq!(queued_bytes.now(), 0);
        let state = letters.0.state();
        prop_assert!(state.people.is_empty() && state.sockets.is_empty() && state.turns.is_empty());
    }

    #[test]
    fn somebody_new_waits_for_one_letter_of_each_busy_person(
        busy in prop::collection::vec((1..20_u64, 1..FRAME_BYTES), 1..12),
        taken in 0..50_usize,
    ) {
        let (mailbox, mut letters) = mailbox(&Level::default());
        let mut lines = Vec::new();
        for (of, (sockets, bytes)) in busy.iter().enumerate() {
            let frame = Bytes::from(vec![0; *bytes]);
            for number in 0..*sockets {
                let connection = (of as u64) * 100 + number;
                let line = open(&mailbox, connection, of as u64);
                for _ in 0..20 {
                    line.frame(frame.clone()).unwrap();
                }
                lines.push(line);
            }
        }
        for _ in 0..taken {
            letters.try_recv();
        }
        let line = open(&mailbox, 9_999, 99);
        let mut before = 0;
        while socket_of(&letters.try_recv().unwrap()) != 9_999 {
            before += 1;
        }
        prop_assert!(before <= busy.len(), "after {} of {} people", before, busy.len());
        // It is the same with each letter that follows.
        line.frame(vec![0; 100].into()).unwrap();
        let mut before = 0;
        while socket_of(&letters.try_recv().unwrap()) != 9_999 {
            before += 1;
        }
        prop_assert!(before <= busy.len(), "after {} of {} people", before, busy.len());
    }
}

#[test]
fn whoever_sends_large_frames_misses_the_rounds_that_they_are_worth() {
    let (mailbox, mut letters) = mailbox(&Level::default());
    let (large, small) = (open(&mailbox, 1, 1), open(&mailbox, 2, 2));
    letters.try_recv();
    letters.try_recv();
    for _ in 0..4 {
        large
            .frame(vec![0; 16 * QUANTUM - OVERHEAD].into())
            .unwrap();
    }
    for _ in 0..40 {
        small.frame(vec![0; 100].into()).unwrap();
    }
    let of_large: Vec<usize> = (0..44)
        .filter(|_| socket_of(&letters.try_recv().unwrap()) == 1)
        .collect();
    assert_eq!(
        of_large,
        [0, 17, 34, 43],
        "one for 16 small ones, and the rest after these"
    );
}

#[test]
fn nobody_is_forgotten_before_the_rounds_are_missed() {
    let (mailbox, mut letters) = mailbox(&Level::default());
    let (large, small) = (open(&mailbox, 1, 1), open(&mailbox, 2, 2));
    letters.try_recv();
    letters.try_recv();
    let frame = Bytes::from(vec![0; 16 * QUANTUM - OVERHEAD]);
    large.frame(frame).unwrap();
    drop(large);
    for _ in 0..40 {
        small.frame(vec![0; 100].into()).unwrap();
    }
    // The frame, and that the socket was closed: whoever opens another one before is the same person.
    let of_large: Vec<usize> = (0..42)
        .filter(|_| socket_of(&letters.try_recv().unwrap()) == 1)
        .collect();
    assert_eq!(of_large, [0, 17]);
    assert!(!letters.0.state().people.contains_key(&person(1)));
}

#[test]
fn a_persons_sockets_take_turns() {
    let (mailbox, mut letters) = mailbox(&Level::default());
    let lines: Vec<SocketSender> = (0..3).map(|number| open(&mailbox, number, 1)).collect();
    for line in &lines {
        letters.try_recv();
        line.frame(vec![0].into()).unwrap();
        line.frame(vec![0].into()).unwrap();
    }
    let order: Vec<u64> = (0..6)
        .map(|_| socket_of(&letters.try_recv().unwrap()))
        .collect();
    assert_eq!(order, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn a_full_socket_is_not_read_until_there_is_place() {
    let (mailbox, mut letters) = mailbox(&Level::default());
    let line = open(&mailbox, 1, 1);
    letters.try_recv();
    assert_eq!(line.frame(vec![0; SOCKET_BYTES].into()), Ok(false));
    assert!(!may_read(&line));
    letters.try_recv();
    assert!(may_read(&line));
    for _ in 0..SOCKET_LETTERS {
        line.frame(Bytes::new()).unwrap();
    }
    assert!(!may_read(&line));
}

#[test]
fn a_persons_sockets_have_one_bound_and_nobody_else_is_held_up_by_it() {
    let (mailbox, mut letters) = mailbox(&Level::default());
    let lines: Vec<SocketSender> = (0..20).map(|number| open(&mailbox, number, 1)).collect();
    let mut sent = 0;
    for line in lines.iter().cycle().take(10_000) {
        if may_read(line) {
            line.frame(vec![0; 1000].into()).unwrap();
            sent += 1;
        }
    }
    assert!(sent * 1000 <= PERSON_BYTES + 1000, "{sent} frames");
    let other = open(&mailbox, 99, 2);
    assert!(may_read(&other));
    while letters.try_recv().is_some() {}
    assert!(lines.iter().all(may_read));
}

#[test]
fn in_a_crowded_room_or_server_everybody_may_send_one_frame() {
    let queued_bytes = Level::default();
    let (first, mut letters) = mailbox(&queued_bytes);
    let lines: Vec<SocketSender> = (0..100)
        .map(|number| open(&first, number, number))
        .collect();
    while letters.try_recv().is_some() {}
    for line in &lines {
        assert!(may_read(line));
        line.frame(vec![0; 200_000].into()).unwrap();
    }
    assert!(queued_bytes.now() > ROOM_BYTES && !lines.iter().any(may_read));
    let late = open(&first, 999, 999);
    assert!(may_read(&late));
    late.frame(vec![0; 10].into()).unwrap();
    assert!(!may_read(&late));
    // Another room is not crowded by this one, but by the whole server.
    let (second, _letters) = mailbox(&queued_bytes);
    let line = open(&second, 1, 1);
    line.frame(vec![0; 10].into()).unwrap();
    assert!(may_read(&line));
    queued_bytes.add(SERVER_BYTES);
    assert!(!may_read(&line));
}

#[test]
fn sockets_that_were_not_heard_out_are_bounded() {
    let (mailbox, mut letters) = mailbox(&Level::default());
    for number in 0..PERSON_SOCKETS as u64 {
        drop(open(&mailbox, number, 1));
    }
    let more = mailbox.open(ConnectionId(1000), person(1), opened(1000));
    assert_eq!(more.unwrap_err().0, Unopened::TooMany);
    drop(open(&mailbox, 1001, 2));
    while letters.try_recv().is_some() {}
    drop(open(&mailbox, 1000, 1));
}

#[tokio::test]
async fn a_room_that_ends_tells_its_sockets_and_keeps_nothing() {
    let queued_bytes = Level::default();
    let (mailbox, mut letters) = mailbox(&queued_bytes);
    let line = open(&mailbox, 1, 1);
    assert_eq!(line.frame(vec![0; SOCKET_BYTES].into()), Ok(false));
    let ready = tokio::spawn(async move { (line.ready().await, line) });
    tokio::task::yield_now().await;
    letters.close();
    let (ready, line) = ready.await.unwrap();
    assert_eq!(ready, Err(Gone));
    assert!(mailbox.is_closed() && mailbox.send(command()).is_err());
    let again = mailbox.open(ConnectionId(2), person(1), opened(2));
    assert_eq!(again.unwrap_err().0, Unopened::Gone);
    assert!(
        letters.try_recv().is_some(),
        "what was there can be received"
    );
    drop(letters);
    drop(line);
    assert_eq!(queued_bytes.now(), 0);
}

#[tokio::test]
async fn a_room_is_alone_when_nothing_waits_and_nobody_can_send() {
    let (registry, mut letters) = mailbox(&Level::default());
    assert!(letters.is_alone());
    let line = open(&registry.clone(), 1, 1);
    assert!(!letters.is_alone());
    drop(line);
    assert!(!letters.is_alone(), "it has not heard of the socket");
    assert!(letters.recv().await.is_some() && letters.recv().await.is_some());
    assert!(letters.is_alone());
    registry.send(command()).unwrap();
    assert!(!letters.is_alone());
    assert!(letters.recv().await.is_some());
    // The last end that goes wakes the room.
    let received = tokio::spawn(async move { letters.recv().await.is_none() });
    tokio::task::yield_now().await;
    drop(registry);
    assert!(received.await.unwrap());
}
