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
    what_is_no_poll_is_refused,
    a_late_joiner_sees_the_polls,
    whoever_may_not_see_polls_sees_none,
];

fn new(question: &str, options: &[&str]) -> NewPollRequest {
    NewPollRequest {
        question: question.to_owned(),
        options: options.iter().map(|&option| option.to_owned()).collect(),
        ..NewPollRequest::default()
    }
}

/// The next poll that arrives, made or changed.
async fn next(peer: &Peer, number: u32) -> Poll {
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

/// Every push by which a poll may be told.
const POLLS: [u32; 3] = [event::CREATE_POLL, event::VOTE_POLL, event::UPDATE_POLL];

async fn a_poll_reaches_everybody_once(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    // Who asks is decided by the token.
    let request = NewPollRequest {
        created_by: Some("The boss".to_owned()),
        created_by_user_id: Some(bob.user().to_owned()),
        hide_votes: true,
        ..new("Tea?", &["yes", "no"])
    };
    ada.tell(event::CREATE_POLL, &request).await.unwrap();
    let (mine, theirs) = (
        next(&ada, event::CREATE_POLL).await,
        next(&bob, event::CREATE_POLL).await,
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
        "zero is said, or the UI has none"
    );
    settle(&[&ada, &bob]).await;
    assert!(ada.untaken(&POLLS).is_empty() && bob.untaken(&POLLS).is_empty());
}

async fn a_vote_counts_once(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    ada.tell(event::CREATE_POLL, &new("Tea?", &["yes", "no"]))
        .await
        .unwrap();
    let poll = next(&ada, event::CREATE_POLL).await;
    vote(&bob, &poll, 1).await;
    let (mine, theirs) = (
        next(&bob, event::VOTE_POLL).await,
        next(&ada, event::VOTE_POLL).await,
    );
    assert_eq!(mine, theirs);
    assert_eq!(mine.votes, [bob.user()]);
    assert_eq!(mine.options[1].count, Some(1));
    assert_eq!(mine.options[1].votes[0].user_id, bob.user());
    assert_eq!(mine.options[1].votes[0].name, bob.identity().name);
    // Neither again, nor for another answer, nor from another tab, nor for what is not there.
    let tab = Peer::enter(&bob.identity().in_another_tab()).await.unwrap();
    for (peer, index) in [(&bob, 1), (&bob, 0), (&tab, 0), (&ada, 2), (&ada, u64::MAX)] {
        let id = vote(peer, &poll, index).await;
        peer.refusal_of(&id, event::VOTE_POLL).await.unwrap();
    }
    for poll_id in ["", "nothing"] {
        let request = VotePollRequest {
            poll_id: poll_id.to_owned(),
            index: 0,
        };
        ada.refused(event::VOTE_POLL, &request).await.unwrap();
    }
    settle(&[&ada]).await;
    assert!(ada.untaken(&POLLS).is_empty());
    let polls: GetPollsResponse = ada.ask_bare(event::GET_POLLS).await.unwrap();
    assert_eq!(polls.polls, [mine]);
}

async fn an_anonymous_poll_names_nobody(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let request = NewPollRequest {
        anonymous: true,
        ..new("Tea?", &["yes", "no"])
    };
    ada.tell(event::CREATE_POLL, &request).await.unwrap();
    let poll = next(&bob, event::CREATE_POLL).await;
    vote(&bob, &poll, 0).await;
    // The UI would show them to whoever asked: nobody has them. It shows how many have voted.
    let names = |poll: &Poll| {
        poll.options
            .iter()
            .map(|option| option.votes.len())
            .sum::<usize>()
    };
    let seen = next(&ada, event::VOTE_POLL).await;
    assert_eq!(
        (seen.options[0].count, names(&seen), seen.votes.clone()),
        (Some(1), 0, vec![String::new()])
    );
    let carol = Peer::open(&meeting.person("group_call_host").await)
        .await
        .unwrap();
    let polls = carol.join().await.unwrap().polls;
    assert_eq!((polls[0].options[0].count, names(&polls[0])), (Some(1), 0));
    assert_eq!(polls[0].votes, [""]);
    let seen = next(&bob, event::VOTE_POLL).await;
    assert_eq!((seen.options[0].count, names(&seen)), (Some(1), 0));
    // Nor who voted at all, but whether oneself has.
    assert_eq!(seen.votes, [bob.user()]);
}

async fn what_is_no_poll_is_refused(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let many: Vec<&str> = vec!["x"; 51];
    let long = "x".repeat(2001);
    for request in [
        new("", &["a", "b"]),
        new("?", &[]),
        new("?", &many),
        new(&long, &["a", "b"]),
        new("?", &[&long, "b"]),
    ] {
        let refused = ada.refused(event::CREATE_POLL, &request).await.unwrap();
        assert!([400, 413].contains(&refused.code), "{refused}");
    }
    settle(&[&bob]).await;
    assert!(bob.untaken(&POLLS).is_empty());
}

async fn a_late_joiner_sees_the_polls(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let mut made = Vec::new();
    for question in ["one?", "two?"] {
        ada.tell(event::CREATE_POLL, &new(question, &["a", "b"]))
            .await
            .unwrap();
        made.push(next(&ada, event::CREATE_POLL).await);
    }
    let bob = Peer::open(&meeting.person("group_call_participant").await)
        .await
        .unwrap();
    assert_eq!(bob.join().await.unwrap().polls, made);
}

async fn whoever_may_not_see_polls_sees_none(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let blind = meeting
        .person_who(json!({ "polls": { "can_view": false } }))
        .await;
    // The SDK does not ask for polls then.
    let blind = Peer::open(&blind).await.unwrap();
    blind
        .ask::<parlor_protocol::signal::socket::room::PeerInfoResponse>(
            event::JOIN_ROOM,
            &blind.identity().join_request(),
        )
        .await
        .unwrap();
    ada.tell(event::CREATE_POLL, &new("Tea?", &["yes", "no"]))
        .await
        .unwrap();
    next(&ada, event::CREATE_POLL).await;
    settle(&[&blind]).await;
    assert!(blind.untaken(&POLLS).is_empty());
    let asked = blind.ask_bare::<GetPollsResponse>(event::GET_POLLS).await;
    assert!(asked.is_err() || asked.unwrap().polls.is_empty());
}
