//! The stage (docs/spec/signalling.md 6.8).

use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::livestreaming::{
    DenyStageAccessRequest, GetStageRequestsResponse, GrantStageAccessRequest, LeaveStageRequest,
};
use parlor_protocol::signal::socket::room::{
    GetConnectedRoomsDumpRequest, GetRoomStageStateResponse, PeerStatusUpdate,
    RoomPeersInfoResponse, StageType,
};
use parlor_testkit::signal::Peer;

use crate::on_both_databases;
use crate::signalling::meeting::settle;
use crate::signalling::server::Server;

on_both_databases![
    a_viewer_requests_and_joins_the_stage,
    a_denied_viewer_stays_off_the_stage,
    a_stage_request_is_cancelled,
    a_viewer_cannot_join_the_stage_without_approval,
    a_presenter_removes_a_viewer_from_the_stage,
    a_presenter_joins_and_leaves_the_stage,
    a_viewer_who_rejoins_keeps_its_stage_status,
];

const EMPTY: GetConnectedRoomsDumpRequest = GetConnectedRoomsDumpRequest {};

/// Waits for the next change of a stage status.
async fn next_status(peer: &Peer) -> (String, StageType) {
    let push: PeerStatusUpdate = peer.push(event::PEER_STAGE_STATUS_UPDATE).await.unwrap();
    (push.user_id.clone(), push.stage_type())
}

/// Joins the stage, as `stage.join()` does.
async fn join_stage(peer: &Peer) -> StageType {
    let reply = peer
        .ask_on(event::JOIN_STAGE, event::PEER_STAGE_STATUS_UPDATE, &EMPTY)
        .await
        .unwrap();
    let reply: PeerStatusUpdate = reply.message().unwrap();
    assert_eq!((&*reply.peer_id, &*reply.user_id), (peer.id(), peer.user()));
    reply.stage_type()
}

/// Returns the stage status of every user, sorted by user id.
async fn statuses(peer: &Peer) -> Vec<(String, StageType)> {
    let reply: RoomPeersInfoResponse = peer.ask_bare(event::GET_ROOM_PEERS_INFO).await.unwrap();
    let mut statuses: Vec<_> = reply
        .peers
        .iter()
        .map(|peer| (peer.user_id.clone(), peer.stage_type()))
        .collect();
    statuses.sort_by(|left, right| left.0.cmp(&right.0));
    statuses
}

fn users(peers: &[&Peer]) -> Vec<String> {
    peers.iter().map(|peer| peer.user().to_owned()).collect()
}

async fn a_viewer_requests_and_joins_the_stage(server: &Server) {
    let meeting = server.meeting().await;
    let (host, bob, carol) = (
        meeting.enter("webinar_presenter").await,
        meeting.enter("webinar_viewer").await,
        meeting.enter("webinar_viewer").await,
    );
    bob.tell(event::REQUEST_STAGE_ACCESS, &EMPTY).await.unwrap();
    let requested = (bob.user().to_owned(), StageType::RequestedStage);
    assert_eq!(next_status(&host).await, requested);
    let list: GetStageRequestsResponse = host.push(event::GET_STAGE_REQUESTS).await.unwrap();
    assert_eq!(list.stage_requests.len(), 1);
    assert_eq!(
        (
            &*list.stage_requests[0].peer_id,
            &*list.stage_requests[0].user_id
        ),
        (bob.id(), bob.user())
    );
    settle(&[&carol]).await;
    assert!(
        carol.take_pushes(&[event::GET_STAGE_REQUESTS]).is_empty(),
        "only peers that may accept requests get the list"
    );
    host.forget();
    let grant = GrantStageAccessRequest {
        user_ids: users(&[&bob]),
    };
    host.tell(event::GRANT_STAGE_ACCESS, &grant).await.unwrap();
    bob.push_frame(event::GRANT_STAGE_ACCESS).await.unwrap();
    assert_eq!(
        next_status(&host).await,
        (bob.user().to_owned(), StageType::ApprovedStage)
    );
    assert_eq!(join_stage(&bob).await, StageType::OnStage);
    assert_eq!(
        next_status(&host).await,
        (bob.user().to_owned(), StageType::OnStage)
    );
    settle(&[&bob]).await;
    let own = bob.take_pushes(&[event::PEER_STAGE_STATUS_UPDATE]);
    let own = own
        .iter()
        .map(|frame| frame.message::<PeerStatusUpdate>().unwrap());
    assert!(
        own.clone().all(|update| update.user_id != bob.user()),
        "{:?}",
        own.collect::<Vec<_>>()
    );
    let state: GetRoomStageStateResponse =
        host.ask_bare(event::GET_ROOM_STAGE_STATE).await.unwrap();
    assert_eq!(state.on_stage_peers.len(), 1, "{state:?}");
}

async fn a_denied_viewer_stays_off_the_stage(server: &Server) {
    let meeting = server.meeting().await;
    let (host, bob, carol) = (
        meeting.enter("webinar_presenter").await,
        meeting.enter("webinar_viewer").await,
        meeting.enter("webinar_viewer").await,
    );
    bob.tell(event::REQUEST_STAGE_ACCESS, &EMPTY).await.unwrap();
    next_status(&host).await;
    next_status(&carol).await;
    let deny = DenyStageAccessRequest {
        user_ids: users(&[&bob]),
    };
    host.tell(event::DENY_STAGE_ACCESS, &deny).await.unwrap();
    bob.push_frame(event::DENY_STAGE_ACCESS).await.unwrap();
    assert_eq!(
        next_status(&carol).await,
        (bob.user().to_owned(), StageType::OffStage)
    );
    settle(&[&bob]).await;
    // A push of event 38 with OFF about itself would make the client leave a stage it is not on.
    let frames = bob.received();
    let pushed: Vec<u32> = frames
        .iter()
        .filter(|frame| {
            [event::DENY_STAGE_ACCESS, event::PEER_STAGE_STATUS_UPDATE].contains(&frame.event)
        })
        .map(|frame| frame.event)
        .collect();
    assert_eq!(
        pushed.first(),
        Some(&event::DENY_STAGE_ACCESS),
        "{pushed:?}"
    );
    bob.refused(event::JOIN_STAGE, &EMPTY).await.unwrap();
}

async fn a_stage_request_is_cancelled(server: &Server) {
    let meeting = server.meeting().await;
    let (host, bob) = (
        meeting.enter("webinar_presenter").await,
        meeting.enter("webinar_viewer").await,
    );
    bob.tell(event::REQUEST_STAGE_ACCESS, &EMPTY).await.unwrap();
    next_status(&host).await;
    bob.tell(event::CANCEL_STAGE_REQUEST, &EMPTY).await.unwrap();
    assert_eq!(
        next_status(&host).await,
        (bob.user().to_owned(), StageType::OffStage)
    );
    settle(&[&host]).await;
    let lists = host.take_pushes(&[event::GET_STAGE_REQUESTS]);
    let last: GetStageRequestsResponse = lists.last().unwrap().message().unwrap();
    assert!(last.stage_requests.is_empty());
    // The cancelled request cannot be used to join.
    bob.refused(event::JOIN_STAGE, &EMPTY).await.unwrap();
}

async fn a_viewer_cannot_join_the_stage_without_approval(server: &Server) {
    let meeting = server.meeting().await;
    let host = meeting.enter("webinar_presenter").await;
    for preset in ["webinar_viewer", "livestream_viewer"] {
        let bob = meeting.enter(preset).await;
        let refused = bob.refused(event::JOIN_STAGE, &EMPTY).await.unwrap();
        assert_eq!(refused.code, 403, "{refused}");
        // A viewer cannot grant itself access either.
        let grant = GrantStageAccessRequest {
            user_ids: users(&[&bob]),
        };
        bob.refused(event::GRANT_STAGE_ACCESS, &grant)
            .await
            .unwrap();
        bob.refused(event::JOIN_STAGE, &EMPTY).await.unwrap();
    }
    settle(&[&host]).await;
    assert!(
        host.take_pushes(&[event::PEER_STAGE_STATUS_UPDATE])
            .is_empty()
    );
}

async fn a_presenter_removes_a_viewer_from_the_stage(server: &Server) {
    let meeting = server.meeting().await;
    let (host, bob) = (
        meeting.enter("webinar_presenter").await,
        meeting.enter("webinar_viewer").await,
    );
    // Access is granted without a request.
    let grant = GrantStageAccessRequest {
        user_ids: users(&[&bob]),
    };
    host.tell(event::GRANT_STAGE_ACCESS, &grant).await.unwrap();
    bob.push_frame(event::GRANT_STAGE_ACCESS).await.unwrap();
    join_stage(&bob).await;
    settle(&[&host, &bob]).await;
    host.forget();
    bob.forget();
    let off = LeaveStageRequest {
        user_ids: users(&[&bob]),
    };
    let reply = host
        .ask_on(event::LEAVE_STAGE, event::LEAVE_STAGE, &off)
        .await
        .unwrap();
    assert!(reply.payload.is_some());
    assert_eq!(
        next_status(&bob).await,
        (bob.user().to_owned(), StageType::OffStage)
    );
    // The removed client responds by leaving the stage itself.
    let own = bob
        .ask_on(event::LEAVE_STAGE, event::PEER_STAGE_STATUS_UPDATE, &off)
        .await
        .unwrap();
    assert_eq!(
        own.message::<PeerStatusUpdate>().unwrap().stage_type(),
        StageType::OffStage
    );
    settle(&[&host]).await;
    for frame in host.take_pushes(&[event::PEER_STAGE_STATUS_UPDATE]) {
        let update: PeerStatusUpdate = frame.message().unwrap();
        assert_ne!(
            update.user_id,
            host.user(),
            "event 38 about the host would take it off the stage"
        );
    }
    bob.refused(event::JOIN_STAGE, &EMPTY).await.unwrap();
}

async fn a_presenter_joins_and_leaves_the_stage(server: &Server) {
    let meeting = server.meeting().await;
    let (host, bob) = (
        meeting.enter("webinar_presenter").await,
        meeting.enter("webinar_viewer").await,
    );
    let own = LeaveStageRequest {
        user_ids: users(&[&host]),
    };
    for _ in 0..2 {
        assert_eq!(join_stage(&host).await, StageType::OnStage);
        assert_eq!(
            next_status(&bob).await,
            (host.user().to_owned(), StageType::OnStage)
        );
        let reply = host
            .ask_on(event::LEAVE_STAGE, event::PEER_STAGE_STATUS_UPDATE, &own)
            .await
            .unwrap();
        assert_eq!(
            reply.message::<PeerStatusUpdate>().unwrap().stage_type(),
            StageType::OffStage
        );
        assert_eq!(next_status(&bob).await.0, host.user());
    }
}

async fn a_viewer_who_rejoins_keeps_its_stage_status(server: &Server) {
    let meeting = server.meeting().await;
    let (host, bob) = (
        meeting.enter("livestream_host").await,
        meeting.enter("webinar_viewer").await,
    );
    let grant = GrantStageAccessRequest {
        user_ids: users(&[&bob]),
    };
    host.tell(event::GRANT_STAGE_ACCESS, &grant).await.unwrap();
    bob.push_frame(event::GRANT_STAGE_ACCESS).await.unwrap();
    join_stage(&bob).await;
    // The client of a livestream joins the room a second time when it joins the stage.
    assert_eq!(
        bob.rejoin().await.unwrap().me.stage_type(),
        StageType::OnStage
    );
    let identity = bob.cut().await;
    let bob = Peer::open(&identity).await.unwrap();
    assert_eq!(
        bob.rejoin().await.unwrap().me.stage_type(),
        StageType::OnStage
    );
    let statuses = statuses(&host).await;
    let status = statuses.iter().find(|(user, _)| user == bob.user());
    assert!(
        status.is_none_or(|(_, stage)| *stage == StageType::OnStage),
        "{statuses:?}"
    );
}
