//! Tracks over the wire: published, received, muted and ended, as the official client asks for it
//! (docs/spec/media.md 1 to 4). No packet flows: that is tested where packets are.

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
    a_track_goes_from_its_publisher_to_those_who_ask_for_it,
    a_host_and_the_app_mute_somebody,
    what_cannot_be_used_is_said_in_words_that_clients_know,
    whoever_is_kicked_is_heard_no_more,
];

/// A line of an offer: its name, its kind, and which way something is sent on it.
type Line<'l> = (&'l str, &'l str, &'l str);

/// An offer or answer with these lines, as browsers write them.
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

/// The two lines that every transport begins with.
const FIRST: [Line<'static>; 2] = [("0", "audio", "sendonly"), ("1", "video", "sendonly")];

fn offer(more: &[Line<'_>]) -> SessionDescription {
    sdp(&[&FIRST, more].concat(), "actpass")
}

/// A peer with both transports; the ids of them.
async fn connect(peer: &Peer) -> [String; 2] {
    let request = PeerJoinRequest::default();
    peer.ask::<()>(event::MEDIA_JOIN, &request).await.unwrap();
    let mut names = Vec::new();
    for consuming in [false, true] {
        let request = CreateTransportRequest {
            consuming,
            description: Some(offer(&[])),
            ..CreateTransportRequest::default()
        };
        let made: CreateTransportResponse =
            peer.ask(event::CREATE_TRANSPORT, &request).await.unwrap();
        assert!(made.description.unwrap().sdp.contains("a=ice-pwd:"));
        names.push(made.transport_id);
    }
    let _: PeerJoinCompleteResponse = peer
        .ask(event::MEDIA_JOIN_COMPLETE, &PeerJoinCompleteRequest {})
        .await
        .unwrap();
    names.try_into().unwrap()
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
    let made: ProducerCreateResponse = peer
        .ask(event::PRODUCE, &microphone(transport))
        .await
        .unwrap();
    assert!(made.description.unwrap().sdp.contains("a=mid:2"));
    made.producer_id
}

fn wants(transport: &str, producer: &str) -> ConsumePeersRequest {
    ConsumePeersRequest {
        requests: vec![ConsumePeerRequest {
            producer_id: Some(producer.to_owned()),
            ..ConsumePeerRequest::default()
        }],
        consuming_transport_id: Some(transport.to_owned()),
    }
}

/// What a refusal says, as clients read it.
async fn error(peer: &Peer, event: u32, request: &impl prost::Message) -> serde_json::Value {
    let id = peer.tell(event, request).await.unwrap();
    peer.refusal_of(&id, event).await.unwrap();
    let frames = peer.received().into_iter();
    let mut replies = frames.filter(|frame| frame.id.as_deref() == Some(&*id));
    let reply: ErrorResponse = replies.next().unwrap().message().unwrap();
    serde_json::from_str(&reply.error_message).unwrap()
}

async fn a_track_goes_from_its_publisher_to_those_who_ask_for_it(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let [out, _] = connect(&ada).await;
    let [_, inward] = connect(&bob).await;
    let id = publish(&ada, &out).await;
    let told: PeerProducerCreateBroadcastResponse =
        bob.push(event::PRODUCER_CREATED).await.unwrap();
    assert_eq!(told.participant_id, ada.id());
    assert_eq!(told.producer_state.unwrap().producer_id, id);
    let told: ConsumePeerResponse = bob.ask(event::CONSUME, &wants(&inward, &id)).await.unwrap();
    let map = told.consumer_ids_map.unwrap().map;
    let line = &map[&id].producer_track.as_ref().unwrap().stream_id;
    let offered = told.description.unwrap();
    assert!(offered.sdp.contains(&format!("a=mid:{line}\r\n")));
    let accepts = [(line.as_str(), "audio", "recvonly")];
    let answer = RenegotiateRequest {
        transport_id: inward.clone(),
        description: Some(sdp(&[&FIRST[..], &accepts].concat(), "active")),
    };
    let _: RenegotiateResponse = bob.ask(event::RENEGOTIATE, &answer).await.unwrap();
    for pause in [true, false] {
        let request = ProducerToggleRequest {
            producer_id: id.clone(),
            pause,
        };
        let _: ProducerToggleResponse = ada.ask(event::TOGGLE_PRODUCER, &request).await.unwrap();
        let told: PeerProducerToggleBroadcastResponse =
            bob.push(event::PRODUCER_TOGGLED).await.unwrap();
        assert_eq!(told.producer_state.unwrap().pause, pause);
    }
    let no_more = ConsumerCloseRequest {
        consumer_ids: vec![line.clone()],
        description: Some(offer(&[(line.as_str(), "audio", "inactive")])),
        consuming_transport_id: Some(inward),
    };
    let _: ConsumerClosingResponse = bob.ask(event::CLOSE_CONSUMER, &no_more).await.unwrap();
    let request = ProducerCloseRequest {
        producer_id: id.clone(),
        description: Some(offer(&[("2", "audio", "inactive")])),
        producing_transport_id: None,
    };
    // It is closed once, and answered each time.
    for _ in 0..2 {
        let closed: ProducerClosingResponse =
            ada.ask(event::CLOSE_PRODUCER, &request).await.unwrap();
        assert_eq!(closed.description.unwrap().r#type, "answer");
    }
    let told: PeerProducerCloseBroadcastResponse = bob.push(event::PRODUCER_CLOSED).await.unwrap();
    assert_eq!(told.producer_state.unwrap().producer_id, id);
}

async fn a_host_and_the_app_mute_somebody(server: &Server) {
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
            let told: PeerProducerToggleBroadcastResponse =
                peer.push(event::PRODUCER_TOGGLED).await.unwrap();
            assert!(told.producer_state.unwrap().pause);
            let by = told.initiator_participant_id;
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

async fn what_cannot_be_used_is_said_in_words_that_clients_know(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let [out, inward] = connect(&ada).await;
    let mut bad = microphone(&out);
    "nonsense".clone_into(&mut bad.description.as_mut().unwrap().sdp);
    let said = error(&ada, event::PRODUCE, &bad).await;
    assert_eq!(said["errorCode"], "invalid_session_description");
    let bob = meeting.participant().await;
    let [theirs, _] = connect(&bob).await;
    let id = publish(&bob, &theirs).await;
    let said = error(&ada, event::CONSUME, &wants("gone", &id)).await;
    let known = json!({ "errorCode": "internal_error", "errorDescription": "Backend error" });
    assert_eq!(said, known);
    // And everything is as it was.
    publish(&ada, &out).await;
    let _: ConsumePeerResponse = ada.ask(event::CONSUME, &wants(&inward, &id)).await.unwrap();
}

async fn whoever_is_kicked_is_heard_no_more(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let [_, inward] = connect(&ada).await;
    let [out, _] = connect(&bob).await;
    let id = publish(&bob, &out).await;
    let request = wants(&inward, &id);
    let _: ConsumePeerResponse = ada.ask(event::CONSUME, &request).await.unwrap();
    let body = json!({ "participant_ids": [bob.user()] });
    let path = meeting.path("/active-session/kick");
    meeting.post(&path, &body).await.expect(200).unwrap();
    let gone: PeerLeaveBroadcastResponse = ada.push(event::MEDIA_PEER_LEFT).await.unwrap();
    assert_eq!(gone.participant_id, bob.id());
    let told: ConsumePeerResponse = ada.ask(event::CONSUME, &request).await.unwrap();
    let state = &told.consumer_ids_map.unwrap().map[&id];
    assert_eq!(state.error_code.as_deref(), Some("not_found_track_error"));
}
