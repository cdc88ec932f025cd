//! A client of Parlor with media, which behaves like the official SDK (docs/spec/media.md 1 to 3).

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use parlor_protocol::signal::event;
use parlor_protocol::signal::media::{self, edge};
use serde_json::json;

use super::sdp::{self, Kind, Line, RTX, Session};
use super::{
    ConnectionHandle, LocalDescription, Probe, Published, SharedMedia, Transport, TransportId,
};
use crate::signal::{Identity, Peer};

/// Value with which the SDK requests layers of a simulcast producer.
const SIMULCAST_ORDER: &str = "asciibetical";

/// What a client does after it has joined.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Sources to publish.
    pub publishes: Vec<Published>,
    /// Whether to subscribe to all tracks of other peers.
    pub subscribes: bool,
    /// Whether to open a connection for each direction in any case, as the official SDK does.
    pub connects_both: bool,
}

/// Duration of each phase of joining.
#[derive(Clone, Copy, Debug, Default)]
pub struct Phases {
    /// Opening the socket and joining the room.
    pub signalling: Duration,
    /// Offers and answers of the connections.
    pub offers: Duration,
    /// ICE and DTLS.
    pub connecting: Duration,
    /// Offers and answers of the tracks.
    pub tracks: Duration,
}

/// A track published by another peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    /// ID of the publishing peer.
    pub peer: String,
    /// ID of the producer.
    pub producer: String,
    /// ID of the publisher's transport, if the server sent it.
    pub transport: Option<String>,
}

impl Track {
    fn of(peer: &str, producer: &media::ProducerState) -> Self {
        Self {
            peer: peer.to_owned(),
            producer: producer.producer_id.clone(),
            transport: producer.producing_transport_id.clone(),
        }
    }

    fn all_of(participant: &edge::RoomParticipants) -> impl Iterator<Item = Self> {
        let producers = participant.producer_states.iter();
        producers.map(|producer| Self::of(&participant.peer_id, producer))
    }

    fn wanted(&self) -> edge::ConsumePeerRequest {
        edge::ConsumePeerRequest {
            producing_peer_id: self.peer.clone(),
            producer_id: Some(self.producer.clone()),
            producing_transport_id: self.transport.clone(),
            simulcast: Some(simulcast("f")),
            ..edge::ConsumePeerRequest::default()
        }
    }
}

/// A client that has joined. Dropping it closes its sockets without notifying the server.
#[derive(Debug)]
pub struct MediaClient {
    /// Signalling.
    pub peer: Peer,
    sending: Option<Connected>,
    receiving: Option<Connected>,
    /// All m-lines offered so far by the publishing connection.
    lines: Vec<Line>,
    /// IDs of the client's producers.
    pub published: Vec<String>,
    /// IDs of the consumed producers, with their m-lines.
    pub received: Vec<(String, String)>,
    /// Error codes of the tracks that the server did not let the client consume.
    pub refused: Vec<String>,
    /// The server's last offer on the receiving connection.
    offered: Option<Session>,
}

/// A transport whose offer was answered.
struct Answered {
    name: String,
    transport: Transport,
    theirs: Session,
}

/// A connected transport, with what further offers on it need.
#[derive(Debug)]
struct Connected {
    connection: ConnectionHandle,
    name: String,
    own: LocalDescription,
    probe: Option<Probe>,
}

impl MediaClient {
    /// Joins the meeting, publishes and subscribes.
    ///
    /// # Errors
    /// When a request is rejected or times out.
    pub async fn enter(
        identity: &Identity,
        shared: &SharedMedia,
        plan: &Plan,
    ) -> Result<(Self, Phases)> {
        let mut phases = Phases::default();
        let mut clock = Instant::now();
        let mut lap = |phase: &mut Duration| {
            *phase += clock.elapsed();
            clock = Instant::now();
        };
        let peer = Peer::enter(identity).await?;
        lap(&mut phases.signalling);

        let sends = plan.connects_both || !plan.publishes.is_empty();
        let receives = plan.connects_both || plan.subscribes;
        let sending = open(&peer, shared, sends, false).await?;
        let receiving = open(&peer, shared, receives, true).await?;
        lap(&mut phases.offers);
        let mut client = Self {
            peer,
            sending: connect(shared, sending).await?,
            receiving: connect(shared, receiving).await?,
            lines: first_lines(false),
            published: Vec::new(),
            received: Vec::new(),
            refused: Vec::new(),
            offered: None,
        };
        lap(&mut phases.connecting);

        let others = client.complete().await?;
        lap(&mut phases.signalling);
        for published in &plan.publishes {
            client.produce(shared, published).await?;
        }
        if plan.subscribes {
            client.consume(shared, &others).await?;
        }
        lap(&mut phases.tracks);
        Ok((client, phases))
    }

    /// Reports that the transports are connected, and returns the tracks of other peers.
    async fn complete(&self) -> Result<Vec<Track>> {
        let request = edge::PeerJoinCompleteRequest::default();
        let inside: edge::PeerJoinCompleteResponse =
            self.peer.ask(event::MEDIA_JOIN_COMPLETE, &request).await?;
        let tracks = inside.participants.iter().flat_map(Track::all_of);
        Ok(tracks.collect())
    }

    /// Publishes a source on a new m-line, and starts to send.
    ///
    /// # Errors
    /// When the request is rejected.
    pub async fn produce(&mut self, shared: &SharedMedia, published: &Published) -> Result<()> {
        let on = self.sending.as_ref().context("no publishing transport")?;
        let (kind, mid) = (published.kind(), self.lines.len().to_string());
        self.lines.push(shared.line(&mid, published));
        let offer = sdp::offer(&on.own, &self.lines);
        let request = edge::ProducerCreateRequest {
            kind: kind.name().to_owned(),
            description: Some(description(media::Target::Publisher, "offer", offer)),
            msid: format!("stream-{mid} track-{mid}"),
            app_data: Some(json!({ "e2ee": false, "mid": mid }).to_string()),
            mime_type: Some(kind.mime_type().to_owned()),
            producing_transport_id: Some(on.name.clone()),
            ..edge::ProducerCreateRequest::default()
        };
        let reply: edge::ProducerCreateResponse = self.peer.ask(event::PRODUCE, &request).await?;
        let theirs = reply.description.context("a producer without an answer")?;
        let theirs = Session::read(&theirs.sdp)?;
        if let Some(line) = self.lines.last() {
            shared.publish(&on.connection, line, theirs.line(&mid)?, published);
        }
        self.published.push(reply.producer_id);
        Ok(())
    }

    /// Subscribes to these tracks with one request. Rejected tracks are added to `refused`.
    ///
    /// # Errors
    /// When the whole request is rejected.
    pub async fn consume(&mut self, shared: &SharedMedia, tracks: &[Track]) -> Result<()> {
        if tracks.is_empty() {
            return Ok(());
        }
        let on = self.receiving.as_ref().context("no receiving transport")?;
        let request = edge::ConsumePeersRequest {
            requests: tracks.iter().map(Track::wanted).collect(),
            consuming_transport_id: Some(on.name.clone()),
        };
        let reply: edge::ConsumePeerResponse = self.peer.ask(event::CONSUME, &request).await?;
        let states = reply.consumer_ids_map.context("no map of consumers")?.map;
        for (producer, state) in states {
            match (state.error_code, state.producer_track) {
                (None, Some(track)) => self.received.push((producer, track.stream_id)),
                (code, _) => self.refused.push(code.unwrap_or_default()),
            }
        }
        let Some(theirs) = reply.description else {
            return Ok(());
        };
        let theirs = Session::read(&theirs.sdp)?;
        let transport_cc = theirs.media.iter().find_map(|line| {
            let agreed = line.agreed(None);
            agreed.transport_cc.filter(|_| line.is_sending)
        });
        shared
            .thread
            .expect(on.connection.id, transport_cc, Some(RTX));
        let answer = sdp::answer(&on.own, &theirs);
        let request = media::RenegotiateRequest {
            transport_id: on.name.clone(),
            description: Some(description(media::Target::Subscriber, "answer", answer)),
        };
        self.offered = Some(theirs);
        self.peer
            .ask_on(event::RENEGOTIATE, event::RENEGOTIATE, &request)
            .await?;
        Ok(())
    }

    /// Returns the tracks that other peers have published, and the IDs of the producers they have
    /// closed, since the last call.
    ///
    /// # Errors
    /// When a push cannot be decoded.
    pub fn take_track_changes(&self) -> Result<(Vec<Track>, Vec<String>)> {
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        let events = [
            event::MEDIA_PEER_JOINED,
            event::PRODUCER_CREATED,
            event::PRODUCER_CLOSED,
        ];
        for frame in self.peer.take_pushes(&events) {
            match frame.event {
                event::MEDIA_PEER_JOINED => {
                    let push: edge::PeerJoinBroadcastResponse = frame.message()?;
                    added.extend(push.participant.iter().flat_map(Track::all_of));
                }
                event::PRODUCER_CREATED => {
                    let push: edge::PeerProducerCreateBroadcastResponse = frame.message()?;
                    let state = push.producer_state.iter();
                    added.extend(state.map(|state| Track::of(&push.participant_id, state)));
                }
                _ => {
                    let push: edge::PeerProducerCloseBroadcastResponse = frame.message()?;
                    removed.extend(push.producer_state.map(|state| state.producer_id));
                }
            }
        }
        added.retain(|track| {
            let is_known = self.received.iter().any(|(id, _)| *id == track.producer);
            !is_known && !removed.contains(&track.producer) && track.peer != self.peer.id()
        });
        Ok((added, removed))
    }

    /// Unsubscribes from these producers, as the SDK does when a track has ended.
    ///
    /// # Errors
    /// When the request is rejected.
    pub async fn close_consumers(&mut self, producers: &[String]) -> Result<()> {
        let ended = self
            .received
            .extract_if(.., |(id, _)| producers.contains(id));
        let mids: Vec<String> = ended.map(|(_, mid)| mid).collect();
        if mids.is_empty() {
            return Ok(());
        }
        let on = self.receiving.as_ref().context("no receiving transport")?;
        let offered = self.offered.as_mut().context("no offer from the server")?;
        for line in &mut offered.media {
            line.is_stopped |= mids.contains(&line.mid);
        }
        let offer = sdp::offer_to_receive(&on.own, offered);
        let request = edge::ConsumerCloseRequest {
            consumer_ids: mids,
            description: Some(description(media::Target::Subscriber, "offer", offer)),
            consuming_transport_id: Some(on.name.clone()),
        };
        let _: edge::ConsumerClosingResponse =
            self.peer.ask(event::CLOSE_CONSUMER, &request).await?;
        Ok(())
    }

    /// Requests another layer of all consumed tracks.
    ///
    /// # Errors
    /// When the request is rejected.
    pub async fn prefer_layer(&self, rid: &str) -> Result<()> {
        let on = self.receiving.as_ref().context("no receiving transport")?;
        let requests = self.received.iter();
        let requests = requests.map(|(id, mid)| edge::UpdateConsumerSimulcastConfigRequest {
            producer_id: id.clone(),
            simulcast: Some(simulcast(rid)),
            mid: mid.clone(),
            ..edge::UpdateConsumerSimulcastConfigRequest::default()
        });
        let request = edge::UpdateConsumersSimulcastConfigRequest {
            requests: requests.collect(),
            consuming_transport_id: Some(on.name.clone()),
        };
        self.peer
            .ask_on(event::UPDATE_SIMULCAST, event::UPDATE_SIMULCAST, &request)
            .await?;
        Ok(())
    }

    /// Pauses or resumes one of the client's producers.
    ///
    /// # Errors
    /// When the socket is closed.
    pub async fn set_paused(&self, producer: &str, pause: bool) -> Result<()> {
        let request = edge::ProducerToggleRequest {
            producer_id: producer.to_owned(),
            pause,
        };
        self.peer.tell(event::TOGGLE_PRODUCER, &request).await?;
        Ok(())
    }

    /// Reconnects on a new socket and keeps the transports. The producers are closed; the caller
    /// publishes again (docs/spec/media.md 5.1).
    ///
    /// # Errors
    /// When the server does not accept the reconnect.
    pub async fn reconnect(&mut self, shared: &SharedMedia) -> Result<()> {
        self.peer.reopen().await?;
        self.peer.rejoin().await?;
        let request = edge::PeerJoinRequest {
            prejoined: true,
            ..edge::PeerJoinRequest::default()
        };
        self.peer
            .ask::<edge::PeerJoinResponse>(event::MEDIA_JOIN, &request)
            .await?;
        if let Some(on) = &self.sending {
            shared.thread.stop_streams(on.connection.id);
        }
        for line in &mut self.lines {
            line.is_over = true;
        }
        self.published.clear();
        self.complete().await?;
        Ok(())
    }

    /// The ID of the receiving transport.
    pub fn receiving(&self) -> Option<TransportId> {
        self.receiving.as_ref().map(|on| on.connection.id)
    }

    /// Closes the media sockets without notifying the server, and returns probes for their
    /// transports.
    pub fn drop_media(&mut self) -> Vec<Probe> {
        let probes = self.probes();
        (self.sending, self.receiving) = (None, None);
        probes
    }

    /// Returns probes for this client's transports.
    pub fn probes(&self) -> Vec<Probe> {
        let both = [&self.sending, &self.receiving].into_iter().flatten();
        both.filter_map(|on| on.probe.clone()).collect()
    }
}

fn simulcast(rid: &str) -> media::Simulcast {
    media::Simulcast {
        preferred_rid: Some(rid.to_owned()),
        priority_ordering: Some(SIMULCAST_ORDER.to_owned()),
        rid_not_available: Some(SIMULCAST_ORDER.to_owned()),
    }
}

fn description(target: media::Target, kind: &str, sdp: String) -> media::SessionDescription {
    media::SessionDescription {
        target: target.into(),
        r#type: kind.to_owned(),
        sdp,
    }
}

fn first_lines(is_consuming: bool) -> Vec<Line> {
    let mut video = Line::warm_up("1", Kind::Video);
    video.is_simulcast = !is_consuming;
    vec![Line::warm_up("0", Kind::Audio), video]
}

async fn open(
    peer: &Peer,
    shared: &SharedMedia,
    is_wanted: bool,
    is_consuming: bool,
) -> Result<Option<Answered>> {
    if !is_wanted {
        return Ok(None);
    }
    let transport = shared.transport()?;
    let offer = sdp::offer(&transport.local_description(), &first_lines(is_consuming));
    let target = if is_consuming {
        media::Target::Subscriber
    } else {
        media::Target::Publisher
    };
    let request = media::CreateTransportRequest {
        consuming: is_consuming,
        description: Some(description(target, "offer", offer)),
        ..media::CreateTransportRequest::default()
    };
    let reply: media::CreateTransportResponse = peer.ask(event::CREATE_TRANSPORT, &request).await?;
    let theirs = reply.description.context("a transport without an answer")?;
    let theirs = Session::read(&theirs.sdp)?;
    if let Some(probe) = transport.probe(theirs.remote()?) {
        shared.remember(probe);
    }
    Ok(Some(Answered {
        name: reply.transport_id,
        transport,
        theirs,
    }))
}

async fn connect(shared: &SharedMedia, answered: Option<Answered>) -> Result<Option<Connected>> {
    let Some(answered) = answered else {
        return Ok(None);
    };
    let own = answered.transport.local_description();
    let probe = answered.transport.probe(answered.theirs.remote()?);
    let connection = shared.connect(answered.transport, &answered.theirs).await?;
    Ok(Some(Connected {
        connection,
        name: answered.name,
        own,
        probe,
    }))
}
