//! Publishing, consuming, muting and closing tracks with the requests of the official client
//! (docs/spec/media.md 1 to 4). No packets are sent; the tests of the media plane do that.

use std::fmt::Write;

use parlor_protocol::signal::event;
use parlor_protocol::signal::media::edge::{
    ConsumePeerRequest, ConsumePeerResponse, ConsumePeersRequest, ConsumerCloseRequest,
    ConsumerClosingResponse, ErrorResponse, HostMediaControlForPeerRequest,
    HostMediaControlForPeerResponse, PeerJoinCompleteRequest, PeerJoinCompleteResponse,
    PeerJoinRequest, PeerLeaveBroadcastResponse, PeerProducerCloseBroadcastResponse,
    PeerProducerCreateBroadcastResponse, PeerProducerToggleBroadcastResponse, ProducerCloseRequest,
    ProducerClosingResponse, ProducerCreateRequest, ProducerCreateResponse, ProducerToggleRequest,
    ProducerToggleResponse,
};
use parlor_protocol::signal::media::{
    CreateTransportRequest, CreateTransportResponse, RenegotiateRequest, RenegotiateResponse,
    SessionDescription,
};
use parlor_testkit::signal::Peer;
use serde_json::json;

use crate::on_both_databases;
use crate::signalling::server::Server;

on_both_databases![
    a_track_is_published_and_consumed,
    a_host_and_the_app_mute_a_peer,
    errors_have_codes_that_clients_know,
    the_tracks_of_a_kicked_publisher_end,
];

/// A media line of an offer: its mid, kind and direction.
type Line<'l> = (&'l str, &'l str, &'l str);

/// Returns an offer or answer with these lines, as browsers write it.
fn sdp(lines: &[Line<'_>], setup: &str) -> SessionDescription {
    let mids: Vec<&str> = lines.iter().map(|(mid, ..)| *mid).collect();
    let mut text = format!(
        "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\n",
        mids.join(" ")
    );
    let fingerprint = ["7A"; 32].join(":");
    for (number, (mid, kind, direction)) in lines.iter().enumerate() {
        let (payload, codec) = match *kind {
            "audio" => (111, "opus/48000/2"),
            _ => (96, "VP8/90000"),
        };
        write!(
            text,
            "m={kind} 9 UDP/TLS/RTP/SAVPF {payload}\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\n\
             a=ice-pwd:aaaabbbbccccddddeeeeffff\r\na=fingerprint:sha-256 {fingerprint}\r\n\
             a=setup:{setup}\r\na=mid:{mid}\r\na=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
             a={direction}\r\na=rtcp-mux\r\na=rtpmap:{payload} {codec}\r\n\
             a=ssrc:{number}001 cname:parlor\r\n"
        )
        .unwrap();
    }
    SessionDescription {
        target: 0,
        r#type: if setup == "active" { "answer" } else { "offer" }.to_owned(),
        sdp: text,
    }
}

/// The two lines at the start of every transport.
const FIRST: [Line<'static>; 2] = [("0", "audio", "sendonly"), ("1", "video", "sendonly")];

fn offer(more: &[Line<'_>]) -> SessionDescription {
    sdp(&[&FIRST, more].concat(), "actpass")
}

/// Creates both transports of a peer, completes its media join, and returns the ids: publishing,
/// subscribing.
async fn connect(peer: &Peer) -> [String; 2] {
    let request = PeerJoinRequest::default();
    peer.ask::<()>(event::MEDIA_JOIN, &request).await.unwrap();
    let mut ids = Vec::new();
    for consuming in [false, true] {
        let request = CreateTransportRequest {
            consuming,
            description: Some(offer(&[])),
            ..CreateTransportRequest::default()
        };
        let created: CreateTransportResponse =
            peer.ask(event::CREATE_TRANSPORT, &request).await.unwrap();
        assert!(created.description.unwrap().sdp.contains("a=ice-pwd:"));
        ids.push(created.transport_id);
    }
    let _: PeerJoinCompleteResponse = peer
        .ask(event::MEDIA_JOIN_COMPLETE, &PeerJoinCompleteRequest {})
        .await
        .unwrap();
    ids.try_into().unwrap()
}

fn microphone(transport: &str) -> ProducerCreateRequest {
    ProducerCreateRequest {
        kind: "audio".to_owned(),
        description: Some(offer(&[("2", "audio", "sendonly")])),
        app_data: Some(json!({ "e2ee": false, "mid": "2" }).to_string()),
        mime_type: Some("audio/opus".to_owned()),
        producing_transport_id: Some(transport.to_owned()),
        ..ProducerCreateRequest::default()
    }
}

async fn publish(peer: &Peer, transport: &str) -> String {
    let created: ProducerCreateResponse = peer
        .ask(event::PRODUCE, &microphone(transport))
        .await
        .unwrap();
    assert!(created.description.unwrap().sdp.contains("a=mid:2"));
    created.producer_id
}

fn consume_request(transport: &str, producer: &str) -> ConsumePeersRequest {
    ConsumePeersRequest {
        requests: vec![ConsumePeerRequest {
            producer_id: Some(producer.to_owned()),
            ..ConsumePeerRequest::default()
        }],
        consuming_transport_id: Some(transport.to_owned()),
    }
}

/// Sends a request that is refused and returns the error as clients parse it.
async fn error_body(peer: &Peer, event: u32, request: &impl prost::Message) -> serde_json::Value {
    let id = peer.tell(event, request).await.unwrap();
    peer.error_reply(&id, event).await.unwrap();
    let frames = peer.received().into_iter();
    let mut replies = frames.filter(|frame| frame.id.as_deref() == Some(&*id));
    let reply: ErrorResponse = replies.next().unwrap().message().unwrap();
    serde_json::from_str(&reply.error_message).unwrap()
}

async fn a_track_is_published_and_consumed(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let [out, _] = connect(&ada).await;
    let [_, consuming] = connect(&bob).await;
    let id = publish(&ada, &out).await;
    let push: PeerProducerCreateBroadcastResponse =
        bob.push(event::PRODUCER_CREATED).await.unwrap();
    assert_eq!(push.participant_id, ada.id());
    assert_eq!(push.producer_state.unwrap().producer_id, id);
    let reply: ConsumePeerResponse = bob
        .ask(event::CONSUME, &consume_request(&consuming, &id))
        .await
        .unwrap();
    let map = reply.consumer_ids_map.unwrap().map;
    let line = &map[&id].producer_track.as_ref().unwrap().stream_id;
    let offered = reply.description.unwrap();
    assert!(offered.sdp.contains(&format!("a=mid:{line}\r\n")));
    let accepted = [(line.as_str(), "audio", "recvonly")];
    let answer = RenegotiateRequest {
        transport_id: consuming.clone(),
        description: Some(sdp(&[&FIRST[..], &accepted].concat(), "active")),
    };
    let _: RenegotiateResponse = bob.ask(event::RENEGOTIATE, &answer).await.unwrap();
    for pause in [true, false] {
        let request = ProducerToggleRequest {
            producer_id: id.clone(),
            pause,
        };
        let _: ProducerToggleResponse = ada.ask(event::TOGGLE_PRODUCER, &request).await.unwrap();
        let push: PeerProducerToggleBroadcastResponse =
            bob.push(event::PRODUCER_TOGGLED).await.unwrap();
        assert_eq!(push.producer_state.unwrap().pause, pause);
    }
    let close = ConsumerCloseRequest {
        consumer_ids: vec![line.clone()],
        description: Some(offer(&[(line.as_str(), "audio", "inactive")])),
        consuming_transport_id: Some(consuming),
    };
    let _: ConsumerClosingResponse = bob.ask(event::CLOSE_CONSUMER, &close).await.unwrap();
    let request = ProducerCloseRequest {
        producer_id: id.clone(),
        description: Some(offer(&[("2", "audio", "inactive")])),
        producing_transport_id: None,
    };
    // Closing a closed producer succeeds again.
    for _ in 0..2 {
        let closed: ProducerClosingResponse =
            ada.ask(event::CLOSE_PRODUCER, &request).await.unwrap();
        assert_eq!(closed.description.unwrap().r#type, "answer");
    }
    let push: PeerProducerCloseBroadcastResponse = bob.push(event::PRODUCER_CLOSED).await.unwrap();
    assert_eq!(push.producer_state.unwrap().producer_id, id);
}

async fn a_host_and_the_app_mute_a_peer(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    connect(&ada).await;
    let [out, _] = connect(&bob).await;
    let id = publish(&bob, &out).await;
    let request = HostMediaControlForPeerRequest {
        participant_id: bob.id().to_owned(),
        audio: true,
        ..HostMediaControlForPeerRequest::default()
    };
    let unmute = ProducerToggleRequest {
        producer_id: id,
        pause: false,
    };
    let _: HostMediaControlForPeerResponse =
        ada.ask(event::HOST_CONTROL_PEER, &request).await.unwrap();
    for (by_host, may_unmute) in [(true, true), (false, true), (false, false)] {
        if !by_host {
            let all = json!({ "allow_unmute": may_unmute });
            let path = meeting.path("/active-session/mute-all");
            meeting.post(&path, &all).await.expect(200).unwrap();
        }
        for peer in [&ada, &bob] {
            let push: PeerProducerToggleBroadcastResponse =
                peer.push(event::PRODUCER_TOGGLED).await.unwrap();
            assert!(push.producer_state.unwrap().pause);
            let by = push.initiator_participant_id;
            assert_eq!(by.as_deref(), by_host.then_some(ada.id()));
        }
        if may_unmute {
            let _: ProducerToggleResponse = bob.ask(event::TOGGLE_PRODUCER, &unmute).await.unwrap();
            ada.push_frame(event::PRODUCER_TOGGLED).await.unwrap();
        } else {
            bob.refused(event::TOGGLE_PRODUCER, &unmute).await.unwrap();
        }
    }
}

async fn errors_have_codes_that_clients_know(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let [out, consuming] = connect(&ada).await;
    let mut bad = microphone(&out);
    "nonsense".clone_into(&mut bad.description.as_mut().unwrap().sdp);
    let error = error_body(&ada, event::PRODUCE, &bad).await;
    assert_eq!(error["errorCode"], "invalid_session_description");
    let bob = meeting.participant().await;
    let [theirs, _] = connect(&bob).await;
    let id = publish(&bob, &theirs).await;
    let error = error_body(&ada, event::CONSUME, &consume_request("unknown", &id)).await;
    let expected = json!({ "errorCode": "internal_error", "errorDescription": "Backend error" });
    assert_eq!(error, expected);
    // The failed requests have changed nothing.
    publish(&ada, &out).await;
    let _: ConsumePeerResponse = ada
        .ask(event::CONSUME, &consume_request(&consuming, &id))
        .await
        .unwrap();
}

async fn the_tracks_of_a_kicked_publisher_end(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let [_, consuming] = connect(&ada).await;
    let [out, _] = connect(&bob).await;
    let id = publish(&bob, &out).await;
    let request = consume_request(&consuming, &id);
    let _: ConsumePeerResponse = ada.ask(event::CONSUME, &request).await.unwrap();
    let body = json!({ "participant_ids": [bob.user()] });
    let path = meeting.path("/active-session/kick");
    meeting.post(&path, &body).await.expect(200).unwrap();
    let push: PeerLeaveBroadcastResponse = ada.push(event::MEDIA_PEER_LEFT).await.unwrap();
    assert_eq!(push.participant_id, bob.id());
    let reply: ConsumePeerResponse = ada.ask(event::CONSUME, &request).await.unwrap();
    let state = &reply.consumer_ids_map.unwrap().map[&id];
    assert_eq!(state.error_code.as_deref(), Some("not_found_track_error"));
}
