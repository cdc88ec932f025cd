//! Who is told who speaks (docs/spec/media.md 4).

use parlor_live::{ConnectionId, Input, Limits};
use parlor_protocol::ids::PeerId;
use parlor_protocol::preset::ViewType;
use parlor_protocol::signal::event;
use parlor_protocol::signal::media::edge::{GlobalPeerPinningRequest, SelectedPeersDiffResponse};

use crate::people::{all, guest, peer, somebody};
use crate::world::{Done, World, join};

fn speak(world: &mut World, people: &[u8]) -> Done {
    let peers = people.iter().map(|n| peer(*n, 0)).collect();
    world.take(Input::Speaking(peers))
}

/// What a socket is told: who, and where.
fn told(done: &Done, socket: ConnectionId) -> Vec<(PeerId, i32)> {
    let changes = done.of(socket, event::SELECTED_PEERS_DIFF);
    assert!(changes.len() < 2, "{done:?}");
    let entries = changes.iter().flat_map(|change| {
        let change: SelectedPeersDiffResponse = change.read();
        change.entries
    });
    let entries = entries.map(|entry| (entry.peer_id.parse().expect("an id"), entry.priority));
    entries.collect()
}

#[test]
fn whoever_speaks_comes_first_for_all_others_and_only_changes_are_told() {
    let mut world = World::new(Limits::default());
    let sockets = [0, 1, 2].map(|n| world.present(&guest(n)));
    let [one, two, three] = sockets;
    let done = speak(&mut world, &[0]);
    let first = [(peer(0, 0), 1)];
    assert_eq!(told(&done, two), first);
    assert_eq!(told(&done, three), first);
    // Nobody shows themselves.
    assert!(told(&done, one).is_empty());
    world.pass(500);
    let done = speak(&mut world, &[1, 0]);
    assert_eq!(told(&done, three), [(peer(1, 0), 1)]);
    assert_eq!(told(&done, one), [(peer(1, 0), 1)]);
    assert!(told(&done, two).is_empty());
    world.pass(500);
    assert!(speak(&mut world, &[1, 0]).frames.is_empty());
    // Whoever spoke before is not forgotten.
    let done = speak(&mut world, &[2]);
    assert_eq!(told(&done, one), [(peer(2, 0), 1)]);
    let late = join(&mut world, &guest(3));
    let list = world.connect_media(late).selected_peers.expect("a list");
    let expected = [2, 1, 0].map(|n| peer(n, 0).to_string());
    assert_eq!(list.audio_peers, expected);
    world.pass(500);
    let done = speak(&mut world, &[0]);
    assert_eq!(told(&done, late), [(peer(0, 0), 1)]);
}

#[test]
fn many_changes_at_once_are_told_together() {
    let mut world = World::new(Limits::default());
    let watches = world.present(&guest(9));
    for n in 0..4 {
        world.present(&guest(n));
    }
    let (mut changes, mut list) = (0, Vec::new());
    let mut take = |done: &Done| {
        let entries = told(done, watches);
        changes += usize::from(!entries.is_empty());
        for (peer, place) in entries {
            list.retain(|other| *other != peer);
            let at = usize::try_from(place - 1).expect("a place");
            list.insert(at, peer);
        }
    };
    for n in 0..100 {
        take(&speak(&mut world, &[n % 4]));
        take(&world.pass(10));
    }
    take(&world.pass(500));
    assert!((2..=4).contains(&changes), "{changes} in a second");
    assert_eq!(list, [3, 2, 1, 0].map(|n| peer(n, 0)));
    assert!(world.pass(5_000).frames.is_empty());
}

#[test]
fn nobody_learns_that_somebody_speaks_whom_they_do_not_see() {
    let mut world = World::new(Limits::default());
    let watches = world.present(&guest(0));
    let (no_media, mut hidden) = (join(&mut world, &guest(1)), guest(2));
    hidden.permissions.hidden_participant = true;
    world.present(&hidden);
    let star = world.present(&somebody(3, ViewType::Webinar, all()));
    let viewer = world.present(&crate::people::viewer(4, ViewType::Livestream));
    let done = speak(&mut world, &[2, 3, 9]);
    assert_eq!(told(&done, watches), [(peer(3, 0), 1)]);
    assert!(told(&done, no_media).is_empty() && told(&done, viewer).is_empty());
    world.ask(star, event::JOIN_STAGE, &());
    world.pass(500);
    world.present(&guest(5));
    let done = speak(&mut world, &[5]);
    assert_eq!(told(&done, viewer), [(peer(5, 0), 1), (peer(3, 0), 2)]);
}

#[test]
fn whoever_has_left_is_off_the_list() {
    let mut world = World::new(Limits::default());
    let watches = world.present(&guest(0));
    let sockets = [1, 2].map(|n| world.present(&guest(n)));
    speak(&mut world, &[1, 2]);
    world.close(sockets[0], true);
    // Clients take it off by themselves.
    assert!(told(&world.pass(500), watches).is_empty());
    world.present(&guest(1));
    world.present(&guest(3));
    let done = speak(&mut world, &[3]);
    assert_eq!(told(&done, watches), [(peer(3, 0), 1)]);
    world.pass(500);
    let done = speak(&mut world, &[1]);
    assert_eq!(told(&done, watches), [(peer(1, 0), 1)]);
}

#[test]
fn whoever_is_pinned_comes_before_all_who_speak_until_it_is_not() {
    let mut world = World::new(Limits::default());
    let [boss, watches] = [crate::people::host(0), guest(1)].map(|who| world.present(&who));
    for n in [2, 3] {
        world.present(&guest(n));
    }
    let pin = |world: &mut World, n: Option<u8>| {
        let named = n.map(|n| peer(n, 0).to_string());
        let request = GlobalPeerPinningRequest {
            participant_id: named.unwrap_or_default(),
        };
        let done = world.ask(boss, event::PIN_PEER, &request).done;
        assert_eq!(done.of(watches, event::PEER_PINNED).len(), 1);
        done
    };
    let (on, off) = (-1, 246_267_631);
    assert_eq!(told(&pin(&mut world, Some(2)), watches), [(peer(2, 0), on)]);
    assert!(told(&pin(&mut world, Some(2)), watches).is_empty());
    // An entry of whoever is pinned would unpin it.
    let done = speak(&mut world, &[2]);
    assert_eq!(told(&done, watches), [(peer(2, 0), 1), (peer(2, 0), on)]);
    let done = pin(&mut world, Some(3));
    assert_eq!(told(&done, watches), [(peer(2, 0), off), (peer(3, 0), on)]);
    let late = join(&mut world, &guest(4));
    let list = world.connect_media(late).selected_peers.expect("a list");
    assert_eq!(list.compulsory_peers, [peer(3, 0).to_string()]);
    // Nobody comes before their own list.
    let done = pin(&mut world, Some(1));
    assert_eq!(told(&done, watches), [(peer(3, 0), off)]);
    assert_eq!(told(&done, late), [(peer(3, 0), off), (peer(1, 0), on)]);
    // Whoever was away when it ended is told when it is back.
    world.close(late, false);
    pin(&mut world, None);
    let late = join(&mut world, &guest(4));
    let done = world.ask(late, event::MEDIA_JOIN_COMPLETE, &()).done;
    assert_eq!(told(&done, late), [(peer(1, 0), off)]);
}
