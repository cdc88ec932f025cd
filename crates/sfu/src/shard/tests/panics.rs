//! A panic on one thread interrupts the media of its meetings briefly, and affects nothing else.

use is::stun::{StunMessage, TransId};

use super::*;
use crate::Event;
use crate::engine::ice;
use crate::shard::Command;

impl Media {
    /// Causes the thread of a meeting to panic.
    fn panic(&self, meeting: u128) {
        self.send(member(meeting, 0).meeting, Command::Panic);
    }
}

/// Sends a connectivity check for a transport. Returns the error code of the response, if any.
fn check(socket: &UdpSocket, server: std::net::SocketAddr, opened: &Opened) -> Option<u16> {
    let password = opened.answer.split("a=ice-pwd:").nth(1).unwrap();
    let password = password.lines().next().unwrap().as_bytes();
    let name = format!("{}:them", opened.transport_id);
    let id = TransId::new();
    let request = StunMessage::binding_request(&name, id, true, 1, 1, false);
    let mut bytes = vec![0; 300];
    let length = request.to_bytes(Some(password), &mut bytes, ice::sign);
    socket.send_to(&bytes[..length.unwrap()], server).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
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
    let server = media.local_addrs()[0];
    let (ada, ben, cem) = (member(2, 1), member(2, 2), member(3, 3));
    let mut events = media.listen(ada.meeting);
    let (mut publish, first) = UdpClient::open(&media, ada, Direction::Publish);
    publish.connect(&media, 1);
    let (_receive, second) = UdpClient::open(&media, ben, Direction::Receive);
    let (mut other, third) = UdpClient::open(&media, cem, Direction::Publish);
    other.connect(&media, 2);
    assert_eq!(check(&publish.socket, server, &first), None);

    media.panic(2);
    let mut freed = [wait(events.recv()).unwrap(), wait(events.recv()).unwrap()];
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

    // The check of a freed transport is rejected, and its client opens a new one. Other transports
    // are unaffected.
    assert_eq!(check(&publish.socket, server, &first), Some(403));
    assert_eq!(check(&other.socket, server, &third), None);
    let (mut reopened, _) = UdpClient::open(&media, ada, Direction::Publish);
    reopened.connect(&media, 2);
    media.close(ada, false);
    until("closed", &media, |stats| stats.open_transports == 1);
    media.stop();
    thread.join().unwrap();
}

#[test]
fn what_is_asked_while_a_thread_restarts_is_done_afterwards() {
    let (media, thread) = Media::start(&config()).unwrap();
    let offer = UdpClient::new(Direction::Publish).client.offer().to_owned();
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
        // The shared limit no longer counts the transports from before the panic.
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
