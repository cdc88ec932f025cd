//! Parlor, spoken to as the official SDK speaks (contract: media 1 to 3).

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use parlor_protocol::signal::event;
use parlor_protocol::signal::media::{self, edge};
use parlor_testkit::media::sdp::{Kind, Line, RTX, Session, answer, offer};
use parlor_testkit::media::{Says, Transport, TransportId};
use parlor_testkit::server::ACCOUNT_ID;
use parlor_testkit::signal::{Identity, Peer, address_of, new_peer_id};
use parlor_testkit::{Client as Rest, Parlor};
use serde_json::{Value, json};

use crate::options::Options;
use crate::process::Process;
use crate::server::{Client, Phases, Plan, Signalling, Wires, kind_of};

/// People of one request.
const BULK: usize = 500;

/// What a consumer asks for of a producer with layers.
const SIMULCAST_WORD: &str = "asciibetical";

/// A server of our own.
pub(crate) struct Stage {
    parlor: Parlor,
    client: Rest,
    app: String,
    address: SocketAddr,
}

impl Stage {
    pub(crate) async fn set(options: &Options) -> Result<Self> {
        let binary = match &options.binary {
            Some(binary) => binary.clone(),
            None => env::current_exe()?.with_file_name("parlor"),
        };
        ensure!(
            fs::exists(&binary)?,
            "{} is not there: build it, or name one by --server-binary",
            binary.display()
        );
        let mut builder = Parlor::builder(binary);
        for argument in &options.arguments {
            builder = builder.argument(argument);
        }
        let parlor = builder.start().await?;
        let app = format!(
            "/client/v4/accounts/{ACCOUNT_ID}/realtime/kit/{}",
            parlor.first_app().await?
        );
        Ok(Self {
            client: parlor.client(),
            app,
            address: address_of(parlor.url())?,
            parlor,
        })
    }

    pub(crate) fn process(&self) -> Process {
        Process(self.parlor.pid())
    }

    pub(crate) async fn room(&self, people: usize) -> Result<Room> {
        let path = format!("{}/meetings", self.app);
        let made = self
            .client
            .post(&path, &json!({ "title": "Load" }))
            .await?
            .expect(201)?;
        let meeting = text(&made, "id")?;
        let mut waiting = Vec::with_capacity(people);
        let path = format!("{}/meetings/{meeting}/participants/bulk", self.app);
        while waiting.len() < people {
            let numbers = waiting.len()..people.min(waiting.len() + BULK);
            let bodies: Vec<Value> = numbers
                .map(|number| {
                    json!({
                        "custom_participant_id": format!("p{number}"),
                        "name": format!("Person {number}"),
                        "preset_name": "group_call_host",
                    })
                })
                .collect();
            let body = json!({ "participants": bodies });
            let added = self.client.post(&path, &body).await?.expect(201)?;
            let added = added.as_array().context("a list of people")?;
            ensure!(!added.is_empty(), "nobody was added");
            for person in added {
                waiting.push(Identity {
                    server: self.address,
                    meeting: meeting.clone(),
                    peer: new_peer_id(),
                    participant: text(person, "id")?,
                    custom_id: text(person, "custom_participant_id")?,
                    name: text(person, "name")?,
                    token: text(person, "token")?,
                    asks_who_waits: false,
                });
            }
        }
        Ok(Room {
            waiting: Mutex::new(waiting),
        })
    }
}

fn text(value: &Value, name: &str) -> Result<String> {
    let text = value[name].as_str();
    Ok(text
        .with_context(|| format!("no {name} in {value}"))?
        .to_owned())
}

/// A meeting.
pub(crate) struct Room {
    /// Who has not come yet.
    waiting: Mutex<Vec<Identity>>,
}

/// A transport that is answered.
struct Answered {
    name: String,
    transport: Transport,
    theirs: Session,
}

impl Room {
    pub(crate) async fn enter(&self, wires: &Wires, plan: &Plan) -> Result<Client> {
        let who = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.pop().context("more people than were expected")?
        };
        let mut phases = Phases::default();
        let mut clock = Instant::now();
        let mut lap = |phase: &mut Duration| {
            *phase += clock.elapsed();
            clock = Instant::now();
        };
        let peer = Peer::enter(&who).await?;
        lap(&mut phases.signalling);

        let sends = plan.connects_both || !plan.publishes.is_empty();
        let receives = plan.connects_both || plan.subscribes;
        let sending = open(&peer, wires, sends, false).await?;
        let receiving = open(&peer, wires, receives, true).await?;
        lap(&mut phases.offers);
        let sending = connect(wires, sending).await?;
        let receiving = connect(wires, receiving).await?;
        lap(&mut phases.connecting);

        let inside: edge::PeerJoinCompleteResponse = peer
            .ask(
                event::MEDIA_JOIN_COMPLETE,
                &edge::PeerJoinCompleteRequest::default(),
            )
            .await?;
        lap(&mut phases.signalling);
        if let Some(on) = &sending {
            produce(&peer, wires, plan, on).await?;
        }
        if let Some(on) = receiving.filter(|_| plan.subscribes) {
            consume(&peer, wires, &inside, &on).await?;
        }
        lap(&mut phases.tracks);
        peer.forget();
        Ok(Client {
            phases,
            _signalling: Signalling::Parlor(Box::new(peer)),
        })
    }
}

fn description(is_consuming: bool, kind: &str, sdp: String) -> media::SessionDescription {
    let target = if is_consuming {
        media::Target::Subscriber
    } else {
        media::Target::Publisher
    };
    media::SessionDescription {
        target: target.into(),
        r#type: kind.to_owned(),
        sdp,
    }
}

fn warm_up(is_consuming: bool) -> Vec<Line> {
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
    let sdp = offer(&transport.says(), &warm_up(is_consuming));
    let request = media::CreateTransportRequest {
        consuming: is_consuming,
        description: Some(description(is_consuming, "offer", sdp)),
        ..media::CreateTransportRequest::default()
    };
    let reply: media::CreateTransportResponse = peer.ask(event::CREATE_TRANSPORT, &request).await?;
    let theirs = reply.description.context("a transport without answer")?;
    Ok(Some(Answered {
        name: reply.transport_id,
        transport,
        theirs: Session::read(&theirs.sdp)?,
    }))
}

/// A transport that is up, and what further offers on it need.
struct Connected {
    id: TransportId,
    name: String,
    own: Says,
}

async fn connect(wires: &Wires, answered: Option<Answered>) -> Result<Option<Connected>> {
    let Some(answered) = answered else {
        return Ok(None);
    };
    let own = answered.transport.says();
    let id = wires.connect(answered.transport, &answered.theirs).await?;
    Ok(Some(Connected {
        id,
        name: answered.name,
        own,
    }))
}

/// Offers one source after the other, each on an m-line of its own at the end.
async fn produce(peer: &Peer, wires: &Wires, plan: &Plan, on: &Connected) -> Result<()> {
    let mut lines = warm_up(false);
    for published in &plan.publishes {
        let (kind, mid) = (kind_of(published.0), lines.len().to_string());
        lines.push(wires.line(&mid, published.0, plan.is_simulcast));
        let request = edge::ProducerCreateRequest {
            kind: kind.name().to_owned(),
            description: Some(description(false, "offer", offer(&on.own, &lines))),
            msid: format!("stream-{mid} track-{mid}"),
            app_data: Some(json!({ "e2ee": false, "mid": mid }).to_string()),
            mime_type: Some(kind.mime_type().to_owned()),
            producing_transport_id: Some(on.name.clone()),
            ..edge::ProducerCreateRequest::default()
        };
        let reply: edge::ProducerCreateResponse = peer.ask(event::PRODUCE, &request).await?;
        let theirs = reply.description.context("a producer without answer")?;
        let theirs = Session::read(&theirs.sdp)?;
        if let Some(line) = lines.last() {
            wires.publish(on.id, line, theirs.line(&mid)?, *published);
        }
    }
    Ok(())
}

/// Consumes everything that there is, in one request.
async fn consume(
    peer: &Peer,
    wires: &Wires,
    inside: &edge::PeerJoinCompleteResponse,
    on: &Connected,
) -> Result<()> {
    let simulcast = media::Simulcast {
        preferred_rid: Some("f".to_owned()),
        priority_ordering: Some(SIMULCAST_WORD.to_owned()),
        rid_not_available: Some(SIMULCAST_WORD.to_owned()),
    };
    let requests: Vec<edge::ConsumePeerRequest> = inside
        .participants
        .iter()
        .flat_map(|person| {
            let simulcast = &simulcast;
            person
                .producer_states
                .iter()
                .map(move |producer| edge::ConsumePeerRequest {
                    producing_peer_id: person.peer_id.clone(),
                    producer_id: Some(producer.producer_id.clone()),
                    producing_transport_id: producer.producing_transport_id.clone(),
                    simulcast: Some(simulcast.clone()),
                    ..edge::ConsumePeerRequest::default()
                })
        })
        .collect();
    if requests.is_empty() {
        return Ok(());
    }
    let wanted = requests.len();
    let request = edge::ConsumePeersRequest {
        requests,
        consuming_transport_id: Some(on.name.clone()),
    };
    let reply: edge::ConsumePeerResponse = peer.ask(event::CONSUME, &request).await?;
    let states = reply.consumer_ids_map.context("no map of consumers")?.map;
    let refused = states.values().filter_map(|state| state.error_code.clone());
    let refused: Vec<String> = refused.collect();
    ensure!(refused.is_empty(), "{wanted} wanted, refused: {refused:?}");
    let theirs = reply.description.context("consumers without offer")?;
    let theirs = Session::read(&theirs.sdp)?;
    let transport_cc = theirs.media.iter().find_map(|line| {
        let agreed = line.agreed(None);
        agreed.transport_cc.filter(|_| line.is_sending)
    });
    wires.rig.expect(on.id, transport_cc, Some(RTX));
    let request = media::RenegotiateRequest {
        transport_id: on.name.clone(),
        description: Some(description(true, "answer", answer(&on.own, &theirs))),
    };
    peer.ask_on(event::RENEGOTIATE, event::RENEGOTIATE, &request)
        .await?;
    Ok(())
}
