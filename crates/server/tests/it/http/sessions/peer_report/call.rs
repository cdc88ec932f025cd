//! A call of two, with packets: one publishes, the other receives.

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
use parlor_testkit::media::{Identity, Rig, Says, Source, Stream, Transport, TransportId};
use parlor_testkit::signal::{self, Peer};
use serde_json::{Value, json};

use crate::http::participants::person;
use crate::http::place::Place;
use crate::http::server::Server;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Ada publishes a microphone and a camera, Bob receives both.
pub(super) struct Call {
    pub(super) app: Place,
    pub(super) ada: Peer,
    pub(super) bob: Peer,
    /// The ids of Ada's microphone and camera.
    pub(super) producers: [String; 2],
    /// The ports that Ada's and Bob's media come from.
    pub(super) from: [u16; 2],
    _rig: Rig,
}

/// A transport that is up, and what further offers on it need.
struct Connected {
    id: TransportId,
    name: String,
    own: Says,
}

fn description(target: Target, kind: &str, sdp: String) -> SessionDescription {
    SessionDescription {
        target: target.into(),
        r#type: kind.to_owned(),
        sdp,
    }
}

/// The lines that every transport begins with.
fn first_lines() -> Vec<Line> {
    vec![
        Line::warm_up("0", Kind::Audio),
        Line::warm_up("1", Kind::Video),
    ]
}

async fn enter(server: &Server, meeting: &Place, name: &str) -> Peer {
    let added = meeting.post("/participants", &person(name)).await.data(201);
    let text = |field: &str| added[field].as_str().unwrap_or_default().to_owned();
    let identity = signal::Identity {
        server: server.public().address().parse().unwrap(),
        meeting: meeting.id().to_owned(),
        peer: signal::new_peer_id(),
        participant: text("id"),
        custom_id: name.to_owned(),
        name: name.to_owned(),
        token: text("token"),
        asks_who_waits: false,
    };
    Peer::enter(&identity).await.unwrap()
}

async fn connect(peer: &Peer, rig: &Rig, identity: &Arc<Identity>, target: Target) -> Connected {
    let mut transport = Transport::open(identity).unwrap();
    let own = transport.says();
    let offer = sdp::offer(&own, &first_lines());
    let request = CreateTransportRequest {
        consuming: target == Target::Subscriber,
        description: Some(description(target, "offer", offer)),
        ..CreateTransportRequest::default()
    };
    let made: CreateTransportResponse = peer.ask(event::CREATE_TRANSPORT, &request).await.unwrap();
    let theirs = Session::read(&made.description.unwrap().sdp).unwrap();
    let remote = theirs.remote().unwrap();
    transport.connect(remote, Instant::now()).unwrap();
    let (id, connected) = rig.add(transport).await.unwrap();
    let connected = tokio::time::timeout(PATIENCE, connected).await;
    connected.expect("it connects").unwrap();
    let _: PeerJoinCompleteResponse = peer
        .ask(event::MEDIA_JOIN_COMPLETE, &PeerJoinCompleteRequest {})
        .await
        .unwrap();
    Connected {
        id,
        name: made.transport_id,
        own,
    }
}

/// Publishes on a line of its own at the end, and begins to send.
async fn publish(
    peer: &Peer,
    rig: &Rig,
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
    let offer = sdp::offer(&on.own, lines);
    let request = ProducerCreateRequest {
        kind: kind.name().to_owned(),
        description: Some(description(Target::Publisher, "offer", offer)),
        app_data: Some(json!({ "e2ee": false, "mid": mid }).to_string()),
        mime_type: Some(kind.mime_type().to_owned()),
        producing_transport_id: Some(on.name.clone()),
        ..ProducerCreateRequest::default()
    };
    let made: ProducerCreateResponse = peer.ask(event::PRODUCE, &request).await.unwrap();
    let theirs = Session::read(&made.description.unwrap().sdp).unwrap();
    let line = theirs.line(&mid).unwrap();
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
        rig.publish(on.id, stream, Duration::ZERO);
    }
    made.producer_id
}

async fn consume(peer: &Peer, rig: &Rig, on: &Connected, producers: &[String]) {
    let wants = |producer: &String| ConsumePeerRequest {
        producer_id: Some(producer.clone()),
        ..ConsumePeerRequest::default()
    };
    let request = ConsumePeersRequest {
        requests: producers.iter().map(wants).collect(),
        consuming_transport_id: Some(on.name.clone()),
    };
    let made: ConsumePeerResponse = peer.ask(event::CONSUME, &request).await.unwrap();
    let theirs = Session::read(&made.description.unwrap().sdp).unwrap();
    let mut sending = theirs.media.iter().filter(|line| line.is_sending);
    let transport_cc = sending.find_map(|line| line.agreed(None).transport_cc);
    rig.expect(on.id, transport_cc, Some(RTX));
    let answer = sdp::answer(&on.own, &theirs);
    let request = RenegotiateRequest {
        transport_id: on.name.clone(),
        description: Some(description(Target::Subscriber, "answer", answer)),
    };
    peer.ask_on(event::RENEGOTIATE, event::RENEGOTIATE, &request)
        .await
        .unwrap();
}

impl Call {
    pub(super) async fn begin(server: &Server) -> Self {
        let app = server.app().await;
        let meeting = app.meeting().await;
        let (rig, identity) = (Rig::start(1).unwrap(), Identity::new().unwrap());
        let ada = enter(server, &meeting, "ada").await;
        let bob = enter(server, &meeting, "bob").await;
        let out = connect(&ada, &rig, &identity, Target::Publisher).await;
        let inward = connect(&bob, &rig, &identity, Target::Subscriber).await;
        let mut lines = first_lines();
        let producers = [
            publish(&ada, &rig, &out, &mut lines, Kind::Audio).await,
            publish(&ada, &rig, &out, &mut lines, Kind::Video).await,
        ];
        consume(&bob, &rig, &inward, &producers).await;
        Self {
            app,
            ada,
            bob,
            producers,
            from: [&out, &inward].map(|on| on.own.address.port()),
            _rig: rig,
        }
    }

    /// The report of a peer, once it is as it should be.
    pub(super) async fn until(&self, peer: &Peer, is_so: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let got = self.app.get(&super::path(peer.id())).await.data(200);
            let report = got["participant"]["peer_report"].clone();
            if is_so(&report) {
                return report;
            }
            assert!(start.elapsed() < PATIENCE, "it stays {report:#}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
