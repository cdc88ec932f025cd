//! A call with media between two peers: one publishes, the other subscribes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parlor_protocol::signal::event;
use parlor_protocol::signal::media::edge::{
    ConsumePeerRequest, ConsumePeerResponse, ConsumePeersRequest, PeerJoinCompleteRequest,
    PeerJoinCompleteResponse, ProducerCreateRequest, ProducerCreateResponse,
};
use parlor_protocol::signal::media::{
    CreateTransportRequest, CreateTransportResponse, RenegotiateRequest, SessionDescription, Target,
};
use parlor_testkit::media::sdp::{self, Kind, LAYERS, Line, RTX, Session};
use parlor_testkit::media::{
    Identity, LocalDescription, MediaThread, Source, Stream, Transport, TransportId,
};
use parlor_testkit::signal::{self, Peer};
use serde_json::{Value, json};

use crate::http::participants::new_participant;
use crate::http::resource::Resource;
use crate::http::server::Server;

/// Timeout of each step, long enough for a busy machine.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A call in which Ada publishes a microphone and a camera, and Bob subscribes to both.
pub(super) struct Call {
    pub(super) app: Resource,
    pub(super) ada: Peer,
    pub(super) bob: Peer,
    /// Producer ids of Ada's microphone and camera.
    pub(super) producers: [String; 2],
    /// Local UDP ports of Ada's and Bob's media.
    pub(super) ports: [u16; 2],
    _thread: MediaThread,
}

/// A connected transport.
struct Connected {
    id: TransportId,
    /// Id of the transport in signalling.
    name: String,
    local: LocalDescription,
}

fn description(target: Target, kind: &str, sdp: String) -> SessionDescription {
    SessionDescription {
        target: target.into(),
        r#type: kind.to_owned(),
        sdp,
    }
}

/// Returns the media lines that every transport starts with.
fn first_lines() -> Vec<Line> {
    vec![
        Line::warm_up("0", Kind::Audio),
        Line::warm_up("1", Kind::Video),
    ]
}

async fn enter(server: &Server, meeting: &Resource, name: &str) -> Peer {
    let added = meeting
        .post("/participants", &new_participant(name))
        .await
        .data(201);
    let text = |field: &str| added[field].as_str().unwrap_or_default().to_owned();
    let identity = signal::Identity {
        server: server.public().address().parse().unwrap(),
        meeting: meeting.id().to_owned(),
        peer: signal::new_peer_id(),
        participant: text("id"),
        custom_id: name.to_owned(),
        name: name.to_owned(),
        token: text("token"),
        requests_waiting_room: false,
    };
    Peer::enter(&identity).await.unwrap()
}

async fn connect(
    peer: &Peer,
    thread: &MediaThread,
    identity: &Arc<Identity>,
    target: Target,
) -> Connected {
    let mut transport = Transport::open(identity).unwrap();
    let local = transport.local_description();
    let offer = sdp::offer(&local, &first_lines());
    let request = CreateTransportRequest {
        consuming: target == Target::Subscriber,
        description: Some(description(target, "offer", offer)),
        ..CreateTransportRequest::default()
    };
    let created: CreateTransportResponse =
        peer.ask(event::CREATE_TRANSPORT, &request).await.unwrap();
    let remote_session = Session::read(&created.description.unwrap().sdp).unwrap();
    let remote = remote_session.remote().unwrap();
    transport.connect(remote, Instant::now()).unwrap();
    let (id, connected) = thread.add(transport).await.unwrap();
    let connected = tokio::time::timeout(TIMEOUT, connected).await;
    connected.expect("the transport connects").unwrap();
    let _: PeerJoinCompleteResponse = peer
        .ask(event::MEDIA_JOIN_COMPLETE, &PeerJoinCompleteRequest {})
        .await
        .unwrap();
    Connected {
        id,
        name: created.transport_id,
        local,
    }
}

/// Adds a media line, publishes on it and starts sending. Returns the producer id.
async fn publish(
    peer: &Peer,
    thread: &MediaThread,
    on: &Connected,
    lines: &mut Vec<Line>,
    kind: Kind,
) -> String {
    let mid = lines.len().to_string();
    let is_simulcast = kind == Kind::Video;
    lines.push(Line {
        ssrc: (!is_simulcast).then_some(1000),
        is_simulcast,
        ..Line::warm_up(&mid, kind)
    });
    let offer = sdp::offer(&on.local, lines);
    let request = ProducerCreateRequest {
        kind: kind.name().to_owned(),
        description: Some(description(Target::Publisher, "offer", offer)),
        app_data: Some(json!({ "e2ee": false, "mid": mid }).to_string()),
        mime_type: Some(kind.mime_type().to_owned()),
        producing_transport_id: Some(on.name.clone()),
        ..ProducerCreateRequest::default()
    };
    let created: ProducerCreateResponse = peer.ask(event::PRODUCE, &request).await.unwrap();
    let remote_session = Session::read(&created.description.unwrap().sdp).unwrap();
    let line = remote_session.line(&mid).unwrap();
    let streams: Vec<(Source, Option<&str>)> = match kind {
        Kind::Audio => vec![(Source::Voice { bytes: 80 }, None)],
        Kind::Video => LAYERS
            .iter()
            .map(|rid| (Source::video(200), Some(*rid)))
            .collect(),
    };
    for ((source, rid), ssrc) in streams
        .into_iter()
        .zip(1000_u32 * (1 + u32::from(is_simulcast))..)
    {
        let stream = Stream::new(source, kind.payload_type(), ssrc, line.agreed(rid));
        thread.publish(on.id, stream, Duration::ZERO);
    }
    created.producer_id
}

async fn consume(peer: &Peer, thread: &MediaThread, on: &Connected, producers: &[String]) {
    let consume_request = |producer: &String| ConsumePeerRequest {
        producer_id: Some(producer.clone()),
        ..ConsumePeerRequest::default()
    };
    let request = ConsumePeersRequest {
        requests: producers.iter().map(consume_request).collect(),
        consuming_transport_id: Some(on.name.clone()),
    };
    let created: ConsumePeerResponse = peer.ask(event::CONSUME, &request).await.unwrap();
    let remote_session = Session::read(&created.description.unwrap().sdp).unwrap();
    let mut sending = remote_session.media.iter().filter(|line| line.is_sending);
    let transport_cc = sending.find_map(|line| line.agreed(None).transport_cc);
    thread.expect(on.id, transport_cc, Some(RTX));
    let answer = sdp::answer(&on.local, &remote_session);
    let request = RenegotiateRequest {
        transport_id: on.name.clone(),
        description: Some(description(Target::Subscriber, "answer", answer)),
    };
    peer.ask_on(event::RENEGOTIATE, event::RENEGOTIATE, &request)
        .await
        .unwrap();
}

impl Call {
    pub(super) async fn start(server: &Server) -> Self {
        let app = server.app().await;
        let meeting = app.meeting().await;
        let (thread, identity) = (MediaThread::start(1).unwrap(), Identity::new().unwrap());
        let ada = enter(server, &meeting, "ada").await;
        let bob = enter(server, &meeting, "bob").await;
        let publishing = connect(&ada, &thread, &identity, Target::Publisher).await;
        let subscribing = connect(&bob, &thread, &identity, Target::Subscriber).await;
        let mut lines = first_lines();
        let producers = [
            publish(&ada, &thread, &publishing, &mut lines, Kind::Audio).await,
            publish(&ada, &thread, &publishing, &mut lines, Kind::Video).await,
        ];
        consume(&bob, &thread, &subscribing, &producers).await;
        Self {
            app,
            ada,
            bob,
            producers,
            ports: [&publishing, &subscribing].map(|on| on.local.address.port()),
            _thread: thread,
        }
    }

    /// Waits until the report of a peer satisfies a condition, and returns it.
    pub(super) async fn wait_for_report(
        &self,
        peer: &Peer,
        is_complete: impl Fn(&Value) -> bool,
    ) -> Value {
        let start = Instant::now();
        loop {
            let response = self.app.get(&super::path(peer.id())).await.data(200);
            let report = response["participant"]["peer_report"].clone();
            if is_complete(&report) {
                return report;
            }
            assert!(start.elapsed() < TIMEOUT, "timed out with {report:#}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
