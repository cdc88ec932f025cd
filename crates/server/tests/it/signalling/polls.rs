//! Polls (docs/spec/signalling.md 6.7).

use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::polls::{
    GetPollsResponse, NewPollRequest, Poll, UpdatePollResponse, VotePollRequest,
};
use parlor_testkit::signal::Peer;
use serde_json::json;

use crate::on_both_databases;
use crate::signalling::meeting::settle;
use crate::signalling::server::Server;

on_both_databases![
    a_poll_reaches_everybody_once,
    a_vote_counts_once,
    an_anonymous_poll_names_nobody,
    an_invalid_poll_is_refused,
    a_late_joiner_sees_the_polls,
    a_participant_without_permission_sees_no_polls,
];

fn poll_request(question: &str, options: &[&str]) -> NewPollRequest {
    NewPollRequest {
        question: question.to_owned(),
        options: options.iter().map(|&option| option.to_owned()).collect(),
        ..NewPollRequest::default()
    }
}

/// Waits for the next push of a poll, new or changed.
async fn next_poll(peer: &Peer, number: u32) -> Poll {
    let push: UpdatePollResponse = peer.push(number).await.unwrap();
    push.poll.unwrap()
}

async fn vote(peer: &Peer, poll: &Poll, index: u64) -> String {
    let request = VotePollRequest {
        poll_id: poll.poll_id.clone(),
        index,
    };
    peer.tell(event::VOTE_POLL, &request).await.unwrap()
}

/// All events that push a poll.
const POLLS: [u32; 3] = [event::CREATE_POLL, event::VOTE_POLL, event::UPDATE_POLL];

async fn a_poll_reaches_everybody_once(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    // The token decides who the author is.
    let request = NewPollRequest {
        created_by: Some("The boss".to_owned()),
        created_by_user_id: Some(bob.user().to_owned()),
        hide_votes: true,
        ..poll_request("Tea?", &["yes", "no"])
    };
    ada.tell(event::CREATE_POLL, &request).await.unwrap();
    let (mine, theirs) = (
        next_poll(&ada, event::CREATE_POLL).await,
        next_poll(&bob, event::CREATE_POLL).await,
    );
    assert_eq!(mine, theirs);
    assert_eq!(
        (&*mine.created_by_user_id, &mine.created_by),
        (ada.user(), &ada.identity().name)
    );
    assert_eq!(
        (&*mine.question, mine.hide_votes, mine.anonymous),
        ("Tea?", true, false)
    );
    let counts: Vec<_> = mine
        .options
        .iter()
        .map(|option| (&*option.text, option.count))
        .collect();
    assert_eq!(
        counts,
        [("yes", Some(0)), ("no", Some(0))],
        "zero must be present, or the UI shows no count"
    );
    settle(&[&ada, &bob]).await;
    assert!(ada.take_pushes(&POLLS).is_empty() && bob.take_pushes(&POLLS).is_empty());
}

async fn a_vote_counts_once(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    ada.tell(event::CREATE_POLL, &poll_request("Tea?", &["yes", "no"]))
        .await
        .unwrap();
    let poll = next_poll(&ada, event::CREATE_POLL).await;
    vote(&bob, &poll, 1).await;
    let (mine, theirs) = (
        next_poll(&bob, event::VOTE_POLL).await,
        next_poll(&ada, event::VOTE_POLL).await,
    );
    assert_eq!(mine, theirs);
    assert_eq!(mine.votes, [bob.user()]);
    assert_eq!(mine.options[1].count, Some(1));
    assert_eq!(mine.options[1].votes[0].user_id, bob.user());
    assert_eq!(mine.options[1].votes[0].name, bob.identity().name);
    // A second vote is refused, also for another option or from another tab, and so is a vote for
    // an unknown option.
    let tab = Peer::enter(&bob.identity().in_another_tab()).await.unwrap();
    for (peer, index) in [(&bob, 1), (&bob, 0), (&tab, 0), (&ada, 2), (&ada, u64::MAX)] {
        let id = vote(peer, &poll, index).await;
        peer.error_reply(&id, event::VOTE_POLL).await.unwrap();
    }
    for poll_id in ["", "nothing"] {
        let request = VotePollRequest {
            poll_id: poll_id.to_owned(),
            index: 0,
        };
        ada.refused(event::VOTE_POLL, &request).await.unwrap();
    }
    settle(&[&ada]).await;
    assert!(ada.take_pushes(&POLLS).is_empty());
    let polls: GetPollsResponse = ada.ask_bare(event::GET_POLLS).await.unwrap();
    assert_eq!(polls.polls, [mine]);
}

async fn an_anonymous_poll_names_nobody(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let request = NewPollRequest {
        anonymous: true,
        ..poll_request("Tea?", &["yes", "no"])
    };
    ada.tell(event::CREATE_POLL, &request).await.unwrap();
    let poll = next_poll(&bob, event::CREATE_POLL).await;
    vote(&bob, &poll, 0).await;
    // The UI would show the names to the author, so no client gets them. The counts are sent.
    let names = |poll: &Poll| {
        poll.options
            .iter()
            .map(|option| option.votes.len())
            .sum::<usize>()
    };
    let seen = next_poll(&ada, event::VOTE_POLL).await;
    assert_eq!(
        (seen.options[0].count, names(&seen), seen.votes.clone()),
        (Some(1), 0, vec![String::new()])
    );
    let carol = Peer::open(&meeting.add_with_preset("group_call_host").await)
        .await
        .unwrap();
    let polls = carol.join().await.unwrap().polls;
    assert_eq!((polls[0].options[0].count, names(&polls[0])), (Some(1), 0));
    assert_eq!(polls[0].votes, [""]);
    let seen = next_poll(&bob, event::VOTE_POLL).await;
    assert_eq!((seen.options[0].count, names(&seen)), (Some(1), 0));
    // The list of voters contains only the receiver, if they have voted.
    assert_eq!(seen.votes, [bob.user()]);
}

async fn an_invalid_poll_is_refused(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let many: Vec<&str> = vec!["x"; 51];
    let long = "x".repeat(2001);
    for request in [
        poll_request("", &["a", "b"]),
        poll_request("?", &[]),
        poll_request("?", &many),
        poll_request(&long, &["a", "b"]),
        poll_request("?", &[&long, "b"]),
    ] {
        let refused = ada.refused(event::CREATE_POLL, &request).await.unwrap();
        assert!([400, 413].contains(&refused.code), "{refused}");
    }
    settle(&[&bob]).await;
    assert!(bob.take_pushes(&POLLS).is_empty());
}

async fn a_late_joiner_sees_the_polls(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let mut created = Vec::new();
    for question in ["one?", "two?"] {
        ada.tell(event::CREATE_POLL, &poll_request(question, &["a", "b"]))
            .await
            .unwrap();
        created.push(next_poll(&ada, event::CREATE_POLL).await);
    }
    let bob = Peer::open(&meeting.add_with_preset("group_call_participant").await)
        .await
        .unwrap();
    assert_eq!(bob.join().await.unwrap().polls, created);
}

async fn a_participant_without_permission_sees_no_polls(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let identity = meeting
        .add_with_permissions(json!({ "polls": { "can_view": false } }))
        .await;
    // In this case the SDK does not request the polls.
    let peer = Peer::open(&identity).await.unwrap();
    peer.ask::<parlor_protocol::signal::socket::room::PeerInfoResponse>(
        event::JOIN_ROOM,
        &peer.identity().join_request(),
    )
    .await
    .unwrap();
    ada.tell(event::CREATE_POLL, &poll_request("Tea?", &["yes", "no"]))
        .await
        .unwrap();
    next_poll(&ada, event::CREATE_POLL).await;
    settle(&[&peer]).await;
    assert!(peer.take_pushes(&POLLS).is_empty());
    let reply = peer.ask_bare::<GetPollsResponse>(event::GET_POLLS).await;
    assert!(reply.is_err() || reply.unwrap().polls.is_empty());
}
