//! A panic on one thread is the end of the media of its meetings for a moment, and of nothing else.

use is::stun::{StunMessage, TransId};

use super::*;
use crate::Event;
use crate::engine::ice;
use crate::shard::Command;

impl Media {
    /// Makes the thread of a meeting panic.
    fn panic(&self, meeting: u128) {
        self.tell(member(meeting, 0).meeting, Command::Panic);
    }
}

/// What a client is answered that checks a transport, by the answer to its offer.
fn checked(socket: &UdpSocket, home: std::net::SocketAddr, opened: &Opened) -> Option<u16> {
    let password = opened.answer.split("a=ice-pwd:").nth(1).unwrap();
    let password = password.lines().next().unwrap().as_bytes();
    let name = format!("{}:them", opened.transport_id);
    let id = TransId::new();
    let check = StunMessage::binding_request(&name, id, true, 1, 1, false);
    let mut bytes = vec![0; 300];
    let length = check.to_bytes(Some(password), &mut bytes, ice::sign);
    socket.send_to(&bytes[..length.unwrap()], home).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = [0; 2048];
    loop {
        let length = socket.recv(&mut buffer).unwrap();
        if let Ok(answer) = StunMessage::parse(&buffer[..length])
            && answer.trans_id() == id
        {
            assert!(answer.verify(password, ice::sign));
            return answer.error_code().map(|(code, _)| code);
        }
    }
}

#[test]
fn a_panic_frees_the_transports_of_its_thread_and_other_threads_go_on() {
    let (media, thread) = Media::start(&config()).unwrap();
    let home = media.local_addrs()[0];
    let (ada, ben, cem) = (member(2, 1), member(2, 2), member(3, 3));
    let mut told = media.listen(ada.meeting);
    let (mut publish, first) = Guest::open(&media, ada, Direction::Publish);
    publish.connect(&media, 1);
    let (_receive, second) = Guest::open(&media, ben, Direction::Receive);
    let (mut other, third) = Guest::open(&media, cem, Direction::Publish);
    other.connect(&media, 2);
    assert_eq!(checked(&publish.socket, home, &first), None);

    media.panic(2);
    let mut freed = [wait(told.recv()).unwrap(), wait(told.recv()).unwrap()];
    freed.sort_by_key(|event| format!("{event:?}"));
    let mut expected = [
        (ada, Direction::Publish, first.clone()),
        (ben, Direction::Receive, second),
    ]
    .map(|(member, direction, opened)| Event::Freed {
        peer: member.peer,
        direction,
        transport_id: opened.transport_id,
    });
    expected.sort_by_key(|event| format!("{event:?}"));
    assert_eq!(freed, expected);
    until("restarted", &media, |stats| stats.panics == 1);
    until("emptied", &media, |stats| stats.open_transports == 1);
    assert_eq!(media.stats().connected_transports, 1);

    // A client that believes in its transport is told, and makes a new one; others notice nothing.
    assert_eq!(checked(&publish.socket, home, &first), Some(403));
    assert_eq!(checked(&other.socket, home, &third), None);
    let (mut anew, _) = Guest::open(&media, ada, Direction::Publish);
    anew.connect(&media, 2);
    media.close(ada, false);
    until("closed", &media, |stats| stats.open_transports == 1);
    media.stop();
    thread.join().unwrap();
}

#[test]
fn what_is_asked_while_a_thread_restarts_is_done_afterwards() {
    let (media, thread) = Media::start(&config()).unwrap();
    let offer = Guest::new(Direction::Publish).client.offer().to_owned();
    for round in 1..=4 {
        media.panic(2);
        assert!(
            wait(open(
                &media,
                member(2, 1),
                Direction::Publish,
                offer.clone()
            ))
            .is_ok()
        );
        assert_eq!(media.stats().panics, round);
        // The limit of all threads counts those that were there before no more.
        assert_eq!(media.stats().open_transports, 1);
    }
    for peer in 2..=10 {
        assert!(
            wait(open(
                &media,
                member(3, peer),
                Direction::Publish,
                offer.clone()
            ))
            .is_ok()
        );
    }
    media.stop();
    thread.join().unwrap();
}
