//! Broadcast messages of the application (docs/spec/signalling.md 6.9).

use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::room::{BroadcastMessage, BroadcastType};

use crate::on_both_databases;
use crate::signalling::meeting::settle;
use crate::signalling::server::Server;

on_both_databases![
    a_broadcast_reaches_everybody_once,
    a_broadcast_to_some_reaches_only_them,
    a_broadcast_does_not_reach_another_app,
    a_broadcast_that_is_too_large_is_refused,
];

fn message(ids: &[&str], kind: Option<BroadcastType>) -> BroadcastMessage {
    BroadcastMessage {
        r#type: "wave".to_owned(),
        payload: r#"{"hand":"left"}"#.into(),
        timestamp: 1_700_000_000_123,
        ids: ids.iter().map(|&id| id.to_owned()).collect(),
        broadcast_type: kind.map(Into::into),
    }
}

async fn a_broadcast_reaches_everybody_once(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let sent = message(&[], None);
    // The sender receives its copy as the reply.
    let mine: BroadcastMessage = ada.ask(event::BROADCAST_MESSAGE, &sent).await.unwrap();
    let theirs: BroadcastMessage = bob.push(event::BROADCAST_MESSAGE).await.unwrap();
    for received in [mine, theirs] {
        assert_eq!(
            (received.r#type, received.payload, received.timestamp),
            (sent.r#type.clone(), sent.payload.clone(), sent.timestamp)
        );
    }
    settle(&[&ada, &bob]).await;
    assert!(
        ada.take_pushes(&[event::BROADCAST_MESSAGE]).is_empty(),
        "the sender gets one copy"
    );
    assert!(bob.take_pushes(&[event::BROADCAST_MESSAGE]).is_empty());
}

async fn a_broadcast_to_some_reaches_only_them(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob, eve) = (
        meeting.host().await,
        meeting.participant().await,
        meeting.participant().await,
    );
    let sent = message(&[bob.id(), "nobody"], Some(BroadcastType::Peers));
    ada.tell(event::BROADCAST_TO_ENTITY, &sent).await.unwrap();
    let received: BroadcastMessage = bob.push(event::BROADCAST_TO_ENTITY).await.unwrap();
    assert_eq!(
        (received.r#type, received.payload),
        (sent.r#type, sent.payload)
    );
    settle(&[&ada, &bob, &eve]).await;
    assert!(
        eve.take_pushes(&[event::BROADCAST_TO_ENTITY, event::BROADCAST_MESSAGE])
            .is_empty()
    );
    // An empty list of recipients does not mean everybody.
    ada.tell(
        event::BROADCAST_TO_ENTITY,
        &message(&[], Some(BroadcastType::Peers)),
    )
    .await
    .unwrap();
    settle(&[&ada, &bob, &eve]).await;
    assert!(eve.take_pushes(&[event::BROADCAST_TO_ENTITY]).is_empty());
}

async fn a_broadcast_does_not_reach_another_app(server: &Server) {
    let (here, elsewhere) = (server.meeting().await, server.meeting().await);
    let (ada, stranger) = (here.host().await, elsewhere.host().await);
    // A meeting of another app cannot be addressed.
    let sent = message(&[&elsewhere.id, &here.id], Some(BroadcastType::Rooms));
    let reply = ada
        .ask_on(
            event::BROADCAST_TO_ENTITY,
            event::BROADCAST_TO_ENTITY,
            &sent,
        )
        .await;
    settle(&[&ada, &stranger]).await;
    assert!(
        stranger
            .take_pushes(&[event::BROADCAST_TO_ENTITY, event::BROADCAST_MESSAGE])
            .is_empty(),
        "{reply:?}"
    );
}

async fn a_broadcast_that_is_too_large_is_refused(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let large = BroadcastMessage {
        payload: vec![b' '; 70_000].into(),
        ..message(&[], None)
    };
    let refused = ada.refused(event::BROADCAST_MESSAGE, &large).await.unwrap();
    assert!([400, 413].contains(&refused.code), "{refused}");
    settle(&[&bob]).await;
    assert!(bob.take_pushes(&[event::BROADCAST_MESSAGE]).is_empty());
}
