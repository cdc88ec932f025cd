//! Notifications about active speakers (docs/spec/media.md 4).

use parlor_live::{ConnectionId, Input, Limits};
use parlor_protocol::ids::PeerId;
use parlor_protocol::preset::ViewType;
use parlor_protocol::signal::event;
use parlor_protocol::signal::media::edge::{GlobalPeerPinningRequest, SelectedPeersDiffResponse};

use crate::participants::{all, participant, participant_with, peer};
use crate::world::{Effects, World, join};

fn speak(world: &mut World, participants: &[u8]) -> Effects {
    let peers = participants.iter().map(|n| peer(*n, 0)).collect();
    world.handle(Input::ActiveSpeakers(peers))
}

/// The speakers that a connection is notified of, with their positions.
fn speaker_entries(effects: &Effects, socket: ConnectionId) -> Vec<(PeerId, i32)> {
    let changes = effects.frames_to(socket, event::SELECTED_PEERS_DIFF);
    assert!(changes.len() < 2, "{effects:?}");
    let entries = changes.iter().flat_map(|change| {
        let change: SelectedPeersDiffResponse = change.decode();
        change.entries
    });
    let entries = entries.map(|entry| (entry.peer_id.parse().expect("an id"), entry.priority));
    entries.collect()
}

#[test]
fn a_speaker_comes_first_for_all_others_and_only_changes_are_sent() {
    let mut world = World::new(Limits::default());
    let sockets = [0, 1, 2].map(|n| world.join_with_media(&participant(n)));
    let [one, two, three] = sockets;
    let effects = speak(&mut world, &[0]);
    let first = [(peer(0, 0), 1)];
    assert_eq!(speaker_entries(&effects, two), first);
    assert_eq!(speaker_entries(&effects, three), first);
    // A speaker is not in its own list.
    assert!(speaker_entries(&effects, one).is_empty());
    world.advance(500);
    let effects = speak(&mut world, &[1, 0]);
    assert_eq!(speaker_entries(&effects, three), [(peer(1, 0), 1)]);
    assert_eq!(speaker_entries(&effects, one), [(peer(1, 0), 1)]);
    assert!(speaker_entries(&effects, two).is_empty());
    world.advance(500);
    assert!(speak(&mut world, &[1, 0]).frames.is_empty());
    // Earlier speakers stay in the list.
    let effects = speak(&mut world, &[2]);
    assert_eq!(speaker_entries(&effects, one), [(peer(2, 0), 1)]);
    let late = join(&mut world, &participant(3));
    let list = world.connect_media(late).selected_peers.expect("a list");
    let expected = [2, 1, 0].map(|n| peer(n, 0).to_string());
    assert_eq!(list.audio_peers, expected);
    world.advance(500);
    let effects = speak(&mut world, &[0]);
    assert_eq!(speaker_entries(&effects, late), [(peer(0, 0), 1)]);
}

#[test]
fn concurrent_speaker_changes_are_batched() {
    let mut world = World::new(Limits::default());
    let watcher = world.join_with_media(&participant(9));
    for n in 0..4 {
        world.join_with_media(&participant(n));
    }
    let (mut changes, mut list) = (0, Vec::new());
    let mut apply = |effects: &Effects| {
        let entries = speaker_entries(effects, watcher);
        changes += usize::from(!entries.is_empty());
        for (peer, position) in entries {
            list.retain(|other| *other != peer);
            let at = usize::try_from(position - 1).expect("a position");
            list.insert(at, peer);
        }
    };
    for n in 0..100 {
        apply(&speak(&mut world, &[n % 4]));
        apply(&world.advance(10));
    }
    apply(&world.advance(500));
    assert!((2..=4).contains(&changes), "{changes} in a second");
    assert_eq!(list, [3, 2, 1, 0].map(|n| peer(n, 0)));
    assert!(world.advance(5_000).frames.is_empty());
}

#[test]
fn speakers_are_not_announced_to_peers_who_cannot_see_them() {
    let mut world = World::new(Limits::default());
    let watcher = world.join_with_media(&participant(0));
    let (no_media, mut hidden) = (join(&mut world, &participant(1)), participant(2));
    hidden.permissions.hidden_participant = true;
    world.join_with_media(&hidden);
    let star = world.join_with_media(&participant_with(3, ViewType::Webinar, all()));
    let viewer = world.join_with_media(&crate::participants::viewer(4, ViewType::Livestream));
    let effects = speak(&mut world, &[2, 3, 9]);
    assert_eq!(speaker_entries(&effects, watcher), [(peer(3, 0), 1)]);
    assert!(
        speaker_entries(&effects, no_media).is_empty()
            && speaker_entries(&effects, viewer).is_empty()
    );
    world.request(star, event::JOIN_STAGE, &());
    world.advance(500);
    world.join_with_media(&participant(5));
    let effects = speak(&mut world, &[5]);
    assert_eq!(
        speaker_entries(&effects, viewer),
        [(peer(5, 0), 1), (peer(3, 0), 2)]
    );
}

#[test]
fn a_departed_speaker_is_removed_from_the_list() {
    let mut world = World::new(Limits::default());
    let watcher = world.join_with_media(&participant(0));
    let sockets = [1, 2].map(|n| world.join_with_media(&participant(n)));
    speak(&mut world, &[1, 2]);
    world.close(sockets[0], true);
    // Clients remove it themselves.
    assert!(speaker_entries(&world.advance(500), watcher).is_empty());
    world.join_with_media(&participant(1));
    world.join_with_media(&participant(3));
    let effects = speak(&mut world, &[3]);
    assert_eq!(speaker_entries(&effects, watcher), [(peer(3, 0), 1)]);
    world.advance(500);
    let effects = speak(&mut world, &[1]);
    assert_eq!(speaker_entries(&effects, watcher), [(peer(1, 0), 1)]);
}

#[test]
fn a_pinned_peer_comes_before_all_speakers_until_it_is_unpinned() {
    let mut world = World::new(Limits::default());
    let [boss, watcher] = [crate::participants::host(0), participant(1)]
        .map(|profile| world.join_with_media(&profile));
    for n in [2, 3] {
        world.join_with_media(&participant(n));
    }
    let pin = |world: &mut World, n: Option<u8>| {
        let peer_id = n.map(|n| peer(n, 0).to_string());
        let request = GlobalPeerPinningRequest {
            participant_id: peer_id.unwrap_or_default(),
        };
        let effects = world.request(boss, event::PIN_PEER, &request).effects;
        assert_eq!(effects.frames_to(watcher, event::PEER_PINNED).len(), 1);
        effects
    };
    let (on, off) = (-1, 246_267_631);
    assert_eq!(
        speaker_entries(&pin(&mut world, Some(2)), watcher),
        [(peer(2, 0), on)]
    );
    assert!(speaker_entries(&pin(&mut world, Some(2)), watcher).is_empty());
    // An entry for the pinned peer would unpin it.
    let effects = speak(&mut world, &[2]);
    assert_eq!(
        speaker_entries(&effects, watcher),
        [(peer(2, 0), 1), (peer(2, 0), on)]
    );
    let effects = pin(&mut world, Some(3));
    assert_eq!(
        speaker_entries(&effects, watcher),
        [(peer(2, 0), off), (peer(3, 0), on)]
    );
    let late = join(&mut world, &participant(4));
    let list = world.connect_media(late).selected_peers.expect("a list");
    assert_eq!(list.compulsory_peers, [peer(3, 0).to_string()]);
    // A pinned peer is not in its own list.
    let effects = pin(&mut world, Some(1));
    assert_eq!(speaker_entries(&effects, watcher), [(peer(3, 0), off)]);
    assert_eq!(
        speaker_entries(&effects, late),
        [(peer(3, 0), off), (peer(1, 0), on)]
    );
    // A peer that was disconnected when the pin ended is notified when it reconnects.
    world.close(late, false);
    pin(&mut world, None);
    let late = join(&mut world, &participant(4));
    let effects = world.request(late, event::MEDIA_JOIN_COMPLETE, &()).effects;
    assert_eq!(speaker_entries(&effects, late), [(peer(1, 0), off)]);
}
