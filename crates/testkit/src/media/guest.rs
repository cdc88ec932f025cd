//! A client of Parlor with its media, which speaks as the official SDK does (docs/spec/media.md 1 to 3).

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use parlor_protocol::signal::event;
use parlor_protocol::signal::media::{self, edge};
use serde_json::json;

use super::sdp::{self, Kind, Line, RTX, Session};
use super::{Probe, Published, Says, Seated, Transport, TransportId, Wires};
use crate::signal::{Identity, Peer};

/// What a consumer asks for of a producer with layers.
const SIMULCAST_WORD: &str = "asciibetical";

/// What a client does once it is in.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Sends these.
    pub publishes: Vec<Published>,
    /// Receives everything that others send.
    pub subscribes: bool,
    /// Has a connection of each direction in any case, as the official SDK does.
    pub connects_both: bool,
}

/// How long each phase of coming took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Phases {
    /// The socket, and joining the room.
    pub signalling: Duration,
    /// Offers and answers of the first connections.
    pub offers: Duration,
    /// ICE and DTLS of those.
    pub connecting: Duration,
    /// Offers and answers of what is sent and received.
    pub tracks: Duration,
}

/// What somebody else publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    /// Whose it is.
    pub peer: String,
    /// What it is called.
    pub producer: String,
    /// The transport that it comes on, as the server says.
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

    fn all_of(person: &edge::RoomParticipants) -> impl Iterator<Item = Self> {
        let producers = person.producer_states.iter();
        producers.map(|producer| Self::of(&person.peer_id, producer))
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

/// A client that is in. Its sockets are closed with it, without a word to the server.
#[derive(Debug)]
pub struct Guest {
    /// Its signalling.
    pub peer: Peer,
    sending: Option<Connected>,
    receiving: Option<Connected>,
    /// What it has ever offered to send.
    lines: Vec<Line>,
    /// The names of what it publishes.
    pub published: Vec<String>,
    /// The names of what it receives, and the lines.
    pub received: Vec<(String, String)>,
    /// Why the server did not let it receive some tracks.
    pub refused: Vec<String>,
    /// How the server has described what it sends.
    offered: Option<Session>,
}

/// A transport that is answered.
struct Answered {
    name: String,
    transport: Transport,
    theirs: Session,
}

/// A transport that is up, and what further offers on it need.
#[derive(Debug)]
struct Connected {
    seated: Seated,
    name: String,
    own: Says,
    probe: Option<Probe>,
}

impl Guest {
    /// Comes in and does what is planned.
    ///
    /// # Errors
    /// When any of it is refused or takes too long.
    pub async fn enter(who: &Identity, wires: &Wires, plan: &Plan) -> Result<(Self, Phases)> {
        let mut phases = Phases::default();
        let mut clock = Instant::now();
        let mut lap = |phase: &mut Duration| {
            *phase += clock.elapsed();
            clock = Instant::now();
        };
        let peer = Peer::enter(who).await?;
        lap(&mut phases.signalling);

        let sends = plan.connects_both || !plan.publishes.is_empty();
        let receives = plan.connects_both || plan.subscribes;
        let sending = open(&peer, wires, sends, false).await?;
        let receiving = open(&peer, wires, receives, true).await?;
        lap(&mut phases.offers);
        let mut guest = Self {
            peer,
            sending: connect(wires, sending).await?,
            receiving: connect(wires, receiving).await?,
            lines: first_lines(false),
            published: Vec::new(),
            received: Vec::new(),
            refused: Vec::new(),
            offered: None,
        };
        lap(&mut phases.connecting);

        let others = guest.complete().await?;
        lap(&mut phases.signalling);
        for published in &plan.publishes {
            guest.produce(wires, published).await?;
        }
        if plan.subscribes {
            guest.consume(wires, &others).await?;
        }
        lap(&mut phases.tracks);
        Ok((guest, phases))
    }

    /// Says that its transports are connected; what others publish.
    async fn complete(&self) -> Result<Vec<Track>> {
        let request = edge::PeerJoinCompleteRequest::default();
        let inside: edge::PeerJoinCompleteResponse =
            self.peer.ask(event::MEDIA_JOIN_COMPLETE, &request).await?;
        let tracks = inside.participants.iter().flat_map(Track::all_of);
        Ok(tracks.collect())
    }

    /// Publishes on an m-line of its own at the end, and begins to send.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn produce(&mut self, wires: &Wires, published: &Published) -> Result<()> {
        let on = self.sending.as_ref().context("nothing to send on")?;
        let (kind, mid) = (published.kind(), self.lines.len().to_string());
        self.lines.push(wires.line(&mid, published));
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
        let theirs = reply.description.context("a producer without answer")?;
        let theirs = Session::read(&theirs.sdp)?;
        if let Some(line) = self.lines.last() {
            wires.publish(&on.seated, line, theirs.line(&mid)?, published);
        }
        self.published.push(reply.producer_id);
        Ok(())
    }

    /// Receives these from now on, in one request. What the server does not let it have is noted.
    ///
    /// # Errors
    /// When the whole request is refused.
    pub async fn consume(&mut self, wires: &Wires, tracks: &[Track]) -> Result<()> {
        if tracks.is_empty() {
            return Ok(());
        }
        let on = self.receiving.as_ref().context("nothing to receive on")?;
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
        wires.rig.expect(on.seated.id, transport_cc, Some(RTX));
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

    /// What others have published, and what they have ended, since the last call.
    ///
    /// # Errors
    /// When the server sent something else.
    pub fn news(&self) -> Result<(Vec<Track>, Vec<String>)> {
        let (mut came, mut gone) = (Vec::new(), Vec::new());
        let told = [
            event::MEDIA_PEER_JOINED,
            event::PRODUCER_CREATED,
            event::PRODUCER_CLOSED,
        ];
        for frame in self.peer.untaken(&told) {
            match frame.event {
                event::MEDIA_PEER_JOINED => {
                    let push: edge::PeerJoinBroadcastResponse = frame.message()?;
                    came.extend(push.participant.iter().flat_map(Track::all_of));
                }
                event::PRODUCER_CREATED => {
                    let push: edge::PeerProducerCreateBroadcastResponse = frame.message()?;
                    let state = push.producer_state.iter();
                    came.extend(state.map(|state| Track::of(&push.participant_id, state)));
                }
                _ => {
                    let push: edge::PeerProducerCloseBroadcastResponse = frame.message()?;
                    gone.extend(push.producer_state.map(|state| state.producer_id));
                }
            }
        }
        came.retain(|track| {
            let is_known = self.received.iter().any(|(id, _)| *id == track.producer);
            !is_known && !gone.contains(&track.producer) && track.peer != self.peer.id()
        });
        Ok((came, gone))
    }

    /// Receives these no more, as the SDK does when a track has ended.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn close_consumers(&mut self, producers: &[String]) -> Result<()> {
        let ended = self
            .received
            .extract_if(.., |(id, _)| producers.contains(id));
        let mids: Vec<String> = ended.map(|(_, mid)| mid).collect();
        if mids.is_empty() {
            return Ok(());
        }
        let on = self.receiving.as_ref().context("nothing to receive on")?;
        let offered = self.offered.as_mut().context("nothing was offered")?;
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

    /// Asks for another layer of everything that it receives.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn prefer(&self, rid: &str) -> Result<()> {
        let on = self.receiving.as_ref().context("nothing to receive on")?;
        let wishes = self.received.iter();
        let wishes = wishes.map(|(id, mid)| edge::UpdateConsumerSimulcastConfigRequest {
            producer_id: id.clone(),
            simulcast: Some(simulcast(rid)),
            mid: mid.clone(),
            ..edge::UpdateConsumerSimulcastConfigRequest::default()
        });
        let request = edge::UpdateConsumersSimulcastConfigRequest {
            requests: wishes.collect(),
            consuming_transport_id: Some(on.name.clone()),
        };
        self.peer
            .ask_on(event::UPDATE_SIMULCAST, event::UPDATE_SIMULCAST, &request)
            .await?;
        Ok(())
    }

    /// Mutes one of its tracks, or not any more.
    ///
    /// # Errors
    /// When the socket is closed.
    pub async fn toggle(&self, producer: &str, pause: bool) -> Result<()> {
        let request = edge::ProducerToggleRequest {
            producer_id: producer.to_owned(),
            pause,
        };
        self.peer.tell(event::TOGGLE_PRODUCER, &request).await?;
        Ok(())
    }

    /// Loses its socket and comes back on another, with the same transports. It publishes nothing
    /// until it does so anew (docs/spec/media.md 5.1).
    ///
    /// # Errors
    /// When it is not taken back.
    pub async fn come_back(&mut self, wires: &Wires) -> Result<()> {
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
            wires.rig.hush(on.seated.id);
        }
        for line in &mut self.lines {
            line.is_over = true;
        }
        self.published.clear();
        self.complete().await?;
        Ok(())
    }

    /// The rig's name for what it receives on.
    pub fn receiving(&self) -> Option<TransportId> {
        self.receiving.as_ref().map(|on| on.seated.id)
    }

    /// Closes the sockets of its media without a word to the server; what the server had for them.
    pub fn drop_media(&mut self) -> Vec<Probe> {
        let probes = self.probes();
        (self.sending, self.receiving) = (None, None);
        probes
    }

    /// What asks the server whether it has this client's transports.
    pub fn probes(&self) -> Vec<Probe> {
        let both = [&self.sending, &self.receiving].into_iter().flatten();
        both.filter_map(|on| on.probe.clone()).collect()
    }
}

fn simulcast(rid: &str) -> media::Simulcast {
    media::Simulcast {
        preferred_rid: Some(rid.to_owned()),
        priority_ordering: Some(SIMULCAST_WORD.to_owned()),
        rid_not_available: Some(SIMULCAST_WORD.to_owned()),
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
    wires: &Wires,
    is_wanted: bool,
    is_consuming: bool,
) -> Result<Option<Answered>> {
    if !is_wanted {
        return Ok(None);
    }
    let transport = wires.transport()?;
    let offer = sdp::offer(&transport.says(), &first_lines(is_consuming));
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
    let theirs = reply.description.context("a transport without answer")?;
    let theirs = Session::read(&theirs.sdp)?;
    if let Some(probe) = transport.probe(theirs.remote()?) {
        wires.remember(probe);
    }
    Ok(Some(Answered {
        name: reply.transport_id,
        transport,
        theirs,
    }))
}

async fn connect(wires: &Wires, answered: Option<Answered>) -> Result<Option<Connected>> {
    let Some(answered) = answered else {
        return Ok(None);
    };
    let own = answered.transport.says();
    let probe = answered.transport.probe(answered.theirs.remote()?);
    let seated = wires.connect(answered.transport, &answered.theirs).await?;
    Ok(Some(Connected {
        seated,
        name: answered.name,
        own,
        probe,
    }))
}
