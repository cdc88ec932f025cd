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
    a_viewer_asks_and_comes_on_the_stage,
    a_viewer_who_is_refused_stays_off,
    a_request_is_taken_back,
    a_viewer_cannot_just_come_on_the_stage,
    a_presenter_sends_somebody_off_the_stage,
    a_presenter_comes_and_goes,
    a_viewer_who_joins_again_is_where_it_was,
];

const NOTHING: GetConnectedRoomsDumpRequest = GetConnectedRoomsDumpRequest {};

/// The next change of somebody's place that arrives.
async fn change(peer: &Peer) -> (String, StageType) {
    let push: PeerStatusUpdate = peer.push(event::PEER_STAGE_STATUS_UPDATE).await.unwrap();
    (push.user_id.clone(), push.stage_type())
}

/// Goes on the stage, as `stage.join()` does.
async fn step_up(peer: &Peer) -> StageType {
    let reply = peer
        .ask_on(event::JOIN_STAGE, event::PEER_STAGE_STATUS_UPDATE, &NOTHING)
        .await
        .unwrap();
    let reply: PeerStatusUpdate = reply.message().unwrap();
    assert_eq!((&*reply.peer_id, &*reply.user_id), (peer.id(), peer.user()));
    reply.stage_type()
}

/// Where everybody stands.
async fn places(peer: &Peer) -> Vec<(String, StageType)> {
    let reply: RoomPeersInfoResponse = peer.ask_bare(event::GET_ROOM_PEERS_INFO).await.unwrap();
    let mut places: Vec<_> = reply
        .peers
        .iter()
        .map(|peer| (peer.user_id.clone(), peer.stage_type()))
        .collect();
    places.sort_by(|left, right| left.0.cmp(&right.0));
    places
}

fn users(peers: &[&Peer]) -> Vec<String> {
    peers.iter().map(|peer| peer.user().to_owned()).collect()
}

async fn a_viewer_asks_and_comes_on_the_stage(server: &Server) {
    let meeting = server.meeting().await;
    let (host, bob, carol) = (
        meeting.enter("webinar_presenter").await,
        meeting.enter("webinar_viewer").await,
        meeting.enter("webinar_viewer").await,
    );
    bob.tell(event::REQUEST_STAGE_ACCESS, &NOTHING)
        .await
        .unwrap();
    let asked = (bob.user().to_owned(), StageType::RequestedStage);
    assert_eq!(change(&host).await, asked);
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
        carol.untaken(&[event::GET_STAGE_REQUESTS]).is_empty(),
        "only for those who may accept"
    );
    host.forget();
    let grant = GrantStageAccessRequest {
        user_ids: users(&[&bob]),
    };
    host.tell(event::GRANT_STAGE_ACCESS, &grant).await.unwrap();
    bob.push_frame(event::GRANT_STAGE_ACCESS).await.unwrap();
    assert_eq!(
        change(&host).await,
        (bob.user().to_owned(), StageType::ApprovedStage)
    );
    assert_eq!(step_up(&bob).await, StageType::OnStage);
    assert_eq!(
        change(&host).await,
        (bob.user().to_owned(), StageType::OnStage)
    );
    settle(&[&bob]).await;
    let own = bob.untaken(&[event::PEER_STAGE_STATUS_UPDATE]);
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

async fn a_viewer_who_is_refused_stays_off(server: &Server) {
    let meeting = server.meeting().await;
    let (host, bob, carol) = (
        meeting.enter("webinar_presenter").await,
        meeting.enter("webinar_viewer").await,
        meeting.enter("webinar_viewer").await,
    );
    bob.tell(event::REQUEST_STAGE_ACCESS, &NOTHING)
        .await
        .unwrap();
    change(&host).await;
    change(&carol).await;
    let deny = DenyStageAccessRequest {
        user_ids: users(&[&bob]),
    };
    host.tell(event::DENY_STAGE_ACCESS, &deny).await.unwrap();
    bob.push_frame(event::DENY_STAGE_ACCESS).await.unwrap();
    assert_eq!(
        change(&carol).await,
        (bob.user().to_owned(), StageType::OffStage)
    );
    settle(&[&bob]).await;
    // A push 38 OFF about itself would make the client leave a stage it is not on.
    let frames = bob.received();
    let told: Vec<u32> = frames
        .iter()
        .filter(|frame| {
            [event::DENY_STAGE_ACCESS, event::PEER_STAGE_STATUS_UPDATE].contains(&frame.event)
        })
        .map(|frame| frame.event)
        .collect();
    assert_eq!(told.first(), Some(&event::DENY_STAGE_ACCESS), "{told:?}");
    bob.refused(event::JOIN_STAGE, &NOTHING).await.unwrap();
}

async fn a_request_is_taken_back(server: &Server) {
    let meeting = server.meeting().await;
    let (host, bob) = (
        meeting.enter("webinar_presenter").await,
        meeting.enter("webinar_viewer").await,
    );
    bob.tell(event::REQUEST_STAGE_ACCESS, &NOTHING)
        .await
        .unwrap();
    change(&host).await;
    bob.tell(event::CANCEL_STAGE_REQUEST, &NOTHING)
        .await
        .unwrap();
    assert_eq!(
        change(&host).await,
        (bob.user().to_owned(), StageType::OffStage)
    );
    settle(&[&host]).await;
    let lists = host.untaken(&[event::GET_STAGE_REQUESTS]);
    let last: GetStageRequestsResponse = lists.last().unwrap().message().unwrap();
    assert!(last.stage_requests.is_empty());
    // Nothing is left to grant.
    bob.refused(event::JOIN_STAGE, &NOTHING).await.unwrap();
}

async fn a_viewer_cannot_just_come_on_the_stage(server: &Server) {
    let meeting = server.meeting().await;
    let host = meeting.enter("webinar_presenter").await;
    for preset in ["webinar_viewer", "livestream_viewer"] {
        let bob = meeting.enter(preset).await;
        let refused = bob.refused(event::JOIN_STAGE, &NOTHING).await.unwrap();
        assert_eq!(refused.code, 403, "{refused}");
        // Nor grant itself what it lacks.
        let grant = GrantStageAccessRequest {
            user_ids: users(&[&bob]),
        };
        bob.refused(event::GRANT_STAGE_ACCESS, &grant)
            .await
            .unwrap();
        bob.refused(event::JOIN_STAGE, &NOTHING).await.unwrap();
    }
    settle(&[&host]).await;
    assert!(host.untaken(&[event::PEER_STAGE_STATUS_UPDATE]).is_empty());
}

async fn a_presenter_sends_somebody_off_the_stage(server: &Server) {
    let meeting = server.meeting().await;
    let (host, bob) = (
        meeting.enter("webinar_presenter").await,
        meeting.enter("webinar_viewer").await,
    );
    // An invitation without a request.
    let grant = GrantStageAccessRequest {
        user_ids: users(&[&bob]),
    };
    host.tell(event::GRANT_STAGE_ACCESS, &grant).await.unwrap();
    bob.push_frame(event::GRANT_STAGE_ACCESS).await.unwrap();
    step_up(&bob).await;
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
        change(&bob).await,
        (bob.user().to_owned(), StageType::OffStage)
    );
    // The victim's client answers by leaving the stage itself.
    let own = bob
        .ask_on(event::LEAVE_STAGE, event::PEER_STAGE_STATUS_UPDATE, &off)
        .await
        .unwrap();
    assert_eq!(
        own.message::<PeerStatusUpdate>().unwrap().stage_type(),
        StageType::OffStage
    );
    settle(&[&host]).await;
    for frame in host.untaken(&[event::PEER_STAGE_STATUS_UPDATE]) {
        let update: PeerStatusUpdate = frame.message().unwrap();
        assert_ne!(
            update.user_id,
            host.user(),
            "a 38 that names the host takes it off the stage"
        );
    }
    bob.refused(event::JOIN_STAGE, &NOTHING).await.unwrap();
}

async fn a_presenter_comes_and_goes(server: &Server) {
    let meeting = server.meeting().await;
    let (host, bob) = (
        meeting.enter("webinar_presenter").await,
        meeting.enter("webinar_viewer").await,
    );
    let own = LeaveStageRequest {
        user_ids: users(&[&host]),
    };
    for _ in 0..2 {
        assert_eq!(step_up(&host).await, StageType::OnStage);
        assert_eq!(
            change(&bob).await,
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
        assert_eq!(change(&bob).await.0, host.user());
    }
}

async fn a_viewer_who_joins_again_is_where_it_was(server: &Server) {
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
    step_up(&bob).await;
    // A livestream's client joins the room a second time when it comes on the stage.
    assert_eq!(
        bob.rejoin().await.unwrap().me.stage_type(),
        StageType::OnStage
    );
    let person = bob.cut().await;
    let bob = Peer::open(&person).await.unwrap();
    assert_eq!(
        bob.rejoin().await.unwrap().me.stage_type(),
        StageType::OnStage
    );
    let places = places(&host).await;
    let place = places.iter().find(|(user, _)| user == bob.user());
    assert!(
        place.is_none_or(|(_, stage)| *stage == StageType::OnStage),
        "{places:?}"
    );
}
