//! `GET …/sessions/peer-report/{peer_id}`: who a client was, and how its media are doing.
//!
//! The report is written from the client's side, in the words and units of its WebRTC statistics:
//! what it publishes is "sent", what others publish is "received", times are in seconds. The server
//! says what it has seen itself, which is not all that a client would know; a field is left out
//! rather than guessed.

#[cfg(test)]
mod tests;

use garde::Validate;
use http::Method;
use parlor_protocol::ids::{MeetingId, PeerId, ProducerId, SessionId};
use parlor_sfu::{Member, Source, TrackReport, TransportReport};
use parlor_store::{Error, FromRow, Row, Statement, values};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::peer::{self, SessionParticipant};
use crate::clock::rfc3339;
use crate::http::{ApiError, Call, Data, Endpoint, FromPath, PathParams};

/// Where a peer was last. Its client chose the id, so there may be others of that id in the app.
static LAST_STAY: Statement = Statement::new(
    "session_peers.last_stay",
    "SELECT p.session_id, p.meeting_id, p.preset_name, p.view_type, p.left_at FROM session_peers p
     WHERE p.app_id = $1 AND p.peer_id = $2
       AND EXISTS (SELECT 1 FROM meetings m WHERE m.app_id = $1 AND m.id = p.meeting_id)
     ORDER BY CASE WHEN p.left_at IS NULL THEN 0 ELSE 1 END, p.joined_at DESC, p.session_id DESC LIMIT 1",
);

pub(super) static STATEMENTS: [&Statement; 1] = [&LAST_STAY];

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(
        Method::GET,
        "/sessions/peer-report/{peer_id}",
        "getPeerReport",
        answer,
    )
    .describe(
        "Get a peer's report",
        "One peer by its id, and how its media are doing, as far as the server sees: the connections and tracks it has \
         at the moment, each as one sample. Rates and losses are in `quality`, the ways that media take in \
         `metadata.candidate_pairs`. Fields that only the client could fill are left out; so is all of it once the peer \
         has left. Clients choose their ids: of several peers with one id, the one inside is reported, or else the \
         last that came; `session_id` and `user_id` say which it is.",
    )
}

/// The path of a peer.
#[derive(Debug, JsonSchema)]
struct OnePeer {
    /// The peer's id.
    peer_id: PeerId,
}

impl FromPath for OnePeer {
    fn from_path(params: &PathParams<'_>) -> Result<Self, ApiError> {
        Ok(Self {
            peer_id: params.id("peer_id")?,
        })
    }
}

/// A part of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum ReportPart {
    /// Of the device, nothing is known to the server.
    DeviceInfo,
    /// The address that media come from.
    IpInformation,
    /// Of tests before the call, nothing is known to the server.
    PrecallNetworkInformation,
    /// Of what the client noted, nothing is known to the server.
    Events,
    /// `quality` and the candidate pairs.
    QualityStats,
}

/// What to report.
#[derive(Debug, Deserialize, Validate, JsonSchema)]
struct ReportWanted {
    /// Only this part of the report; all of it when absent.
    #[garde(skip)]
    #[serde(default)]
    filters: Option<ReportPart>,
    /// Tell what happened to the peer.
    #[garde(skip)]
    #[serde(default)]
    include_peer_events: bool,
}

impl ReportWanted {
    fn has(&self, part: ReportPart) -> bool {
        self.filters.is_none_or(|only| only == part)
    }
}

/// A peer and its report.
#[derive(Debug, Serialize, JsonSchema)]
struct Reported {
    /// Who it is.
    participant: ReportedParticipant,
}

/// A peer with its report.
#[derive(Debug, Serialize, JsonSchema)]
struct ReportedParticipant {
    #[serde(flatten)]
    participant: SessionParticipant,
    /// The preset's name once more.
    role: String,
    /// The session that the peer was in.
    session_id: SessionId,
    /// How its media are doing.
    peer_report: Report,
}

/// How a peer's media are doing.
#[derive(Debug, Default, Serialize, JsonSchema)]
struct Report {
    /// About the client and its ways to the server.
    metadata: Metadata,
    /// Its tracks, unless another part of the report was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    quality: Option<Quality>,
}

/// About a client and its ways to the server.
#[derive(Debug, Default, Serialize, JsonSchema)]
struct Metadata {
    /// The kind of call that the peer saw.
    #[serde(skip_serializing_if = "Option::is_none")]
    room_view_type: Option<String>,
    /// Where its media come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    ip_information: Option<IpInformation>,
    /// The ways that media take.
    #[serde(skip_serializing_if = "Option::is_none")]
    candidate_pairs: Option<CandidatePairs>,
}

/// Where a client's media come from.
#[derive(Debug, Serialize, JsonSchema)]
struct IpInformation {
    /// The IPv4 address, as the server sees it: that of a NAT or of a foreign relay, if there is
    /// one between.
    #[schemars(extend("format" = "ipv4"))]
    ipv4: String,
}

/// The ways that media take; each list has one item while that transport is connected.
#[derive(Debug, Default, Serialize, JsonSchema)]
struct CandidatePairs {
    /// Of what the client publishes.
    producing_transport: Vec<CandidatePair>,
    /// Of what it receives.
    consuming_transport: Vec<CandidatePair>,
}

/// The way between a client, which is "local", and the server.
#[derive(Debug, Serialize, JsonSchema)]
struct CandidatePair {
    /// The client's address, as the server sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    local_candidate_address: Option<String>,
    /// The port of that address.
    #[serde(skip_serializing_if = "Option::is_none")]
    local_candidate_port: Option<u16>,
    /// `udp` or `tcp`; left out on a relay of the server's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    local_candidate_protocol: Option<&'static str>,
    /// `relay` on a relay of the server's own; otherwise it is not known which type it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    local_candidate_type: Option<&'static str>,
    /// Round trip, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    current_round_trip_time: Option<f64>,
    /// Bits per second that the way to the client is thought to bear.
    #[serde(skip_serializing_if = "Option::is_none")]
    available_incoming_bitrate: Option<u64>,
}

/// One sample of each track that a client has now. Lists without any are left out.
#[derive(Debug, Default, PartialEq, Serialize, JsonSchema)]
struct Quality {
    /// Its microphone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    audio_producer: Vec<ProducerSample>,
    /// The microphones of others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    audio_consumer: Vec<ConsumerSample>,
    /// Its camera.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    video_producer: Vec<ProducerSample>,
    /// The cameras of others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    video_consumer: Vec<ConsumerSample>,
    /// The sound of its screen.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    screenshare_audio_producer: Vec<ProducerSample>,
    /// The sound of others' screens.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    screenshare_audio_consumer: Vec<ConsumerSample>,
    /// Its screen.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    screenshare_video_producer: Vec<ProducerSample>,
    /// The screens of others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    screenshare_video_consumer: Vec<ConsumerSample>,
}

/// A track that a client publishes; all layers of a camera together.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct ProducerSample {
    #[serde(flatten)]
    sample: Sample,
    /// Packets that the client has sent, going by their numbers. Those it sent again count once.
    packets_sent: u64,
    /// Bytes of those that have arrived here, without headers.
    bytes_sent: u64,
    /// Round trip, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    rtt: Option<f64>,
}

/// A track that a client receives.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct ConsumerSample {
    #[serde(flatten)]
    sample: Sample,
    /// Packets that were sent to the client, less those that it says were lost.
    packets_received: u64,
    /// Bytes that were sent to the client, without headers.
    bytes_received: u64,
}

/// What is known of a track in either direction.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct Sample {
    /// The track.
    producer_id: ProducerId,
    /// The `a=mid` of its line.
    mid: String,
    /// When this was so. RFC 3339, UTC, milliseconds.
    #[schemars(extend("format" = "date-time"))]
    timestamp: String,
    /// Packets that were lost on the way, whether or not they were sent again.
    packets_lost: u64,
    /// Jitter, seconds; left out until it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    jitter: Option<f64>,
    /// Bits per second now. Not in RealtimeKit.
    bitrate: u64,
    /// The layer that the client receives, or the best that it publishes, by its rid; left out
    /// where there is only one. Not in RealtimeKit.
    #[serde(skip_serializing_if = "Option::is_none")]
    layer: Option<String>,
}

/// A peer's last stay in a session.
struct Stay {
    session: SessionId,
    meeting: MeetingId,
    preset_name: String,
    view: String,
    has_left: bool,
}

impl FromRow for Stay {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        Ok(Self {
            session: SessionId::from_uuid(row.take(0)?),
            meeting: MeetingId::from_uuid(row.take(1)?),
            preset_name: row.take(2)?,
            view: row.take(3)?,
            has_left: row.take::<Option<i64>>(4)?.is_some(),
        })
    }
}

async fn answer(call: Call<OnePeer, ReportWanted>) -> Result<Data<Reported>, ApiError> {
    let (parlor, app, peer) = (&call.parlor, call.app, call.path.peer_id);
    let key = values![app.uuid(), peer.uuid()];
    let stay = parlor.db.scan::<Stay>(&LAST_STAY, key).await?.pop();
    let stay = stay.ok_or_else(|| ApiError::missing("peer"))?;
    let found = peer::find(parlor, app, stay.session, peer.uuid(), call.now_ms).await?;
    let found = found.ok_or_else(|| ApiError::missing("peer"))?;
    let media = match &parlor.edge.media {
        Some(media) if !stay.has_left => {
            let member = Member {
                meeting: stay.meeting,
                peer,
            };
            media.report(member).await.unwrap_or_default()
        }
        _ => parlor_sfu::PeerReport::default(),
    };
    let participant = ReportedParticipant {
        participant: found.public(stay.session, call.query.include_peer_events),
        role: stay.preset_name,
        session_id: stay.session,
        peer_report: report(&media, stay.view, &call.query, call.now_ms),
    };
    Ok(Data(Reported { participant }))
}

fn report(
    media: &parlor_sfu::PeerReport,
    view: String,
    wanted: &ReportWanted,
    now_ms: i64,
) -> Report {
    let has_quality = wanted.has(ReportPart::QualityStats);
    let pair = |transport: &Option<TransportReport>| {
        let connected = transport.as_ref().filter(|transport| transport.connected);
        connected.map(CandidatePair::of).into_iter().collect()
    };
    let has_transport = media.publish.is_some() || media.receive.is_some();
    Report {
        metadata: Metadata {
            room_view_type: wanted.filters.is_none().then_some(view),
            ip_information: wanted
                .has(ReportPart::IpInformation)
                .then(|| IpInformation::of(media))
                .flatten(),
            candidate_pairs: (has_quality && has_transport).then(|| CandidatePairs {
                producing_transport: pair(&media.publish),
                consuming_transport: pair(&media.receive),
            }),
        },
        quality: has_quality.then(|| Quality::of(media, &rfc3339(now_ms))),
    }
}

impl IpInformation {
    fn of(media: &parlor_sfu::PeerReport) -> Option<Self> {
        let transports = [&media.publish, &media.receive];
        let mut remotes = transports
            .into_iter()
            .flatten()
            .filter_map(|one| one.remote);
        remotes.find_map(|remote| match remote.ip().to_canonical() {
            std::net::IpAddr::V4(ip) => Some(Self {
                ipv4: ip.to_string(),
            }),
            std::net::IpAddr::V6(_) => None,
        })
    }
}

impl CandidatePair {
    fn of(transport: &TransportReport) -> Self {
        let remote = transport.remote;
        let is = |protocol: &'static str| (transport.protocol == protocol).then_some(protocol);
        Self {
            local_candidate_address: remote.map(|remote| remote.ip().to_canonical().to_string()),
            local_candidate_port: remote.map(|remote| remote.port()),
            local_candidate_protocol: is("udp").or(is("tcp")),
            local_candidate_type: is("relay"),
            current_round_trip_time: transport.round_trip_ms.map(seconds),
            available_incoming_bitrate: transport.available_bps,
        }
    }
}

impl Quality {
    fn of(media: &parlor_sfu::PeerReport, now: &str) -> Self {
        let mut quality = Self::default();
        if let Some(transport) = &media.publish {
            for track in &transport.tracks {
                let list = match track.source {
                    Source::Microphone => &mut quality.audio_producer,
                    Source::Camera => &mut quality.video_producer,
                    Source::Screen => &mut quality.screenshare_video_producer,
                    Source::ScreenAudio => &mut quality.screenshare_audio_producer,
                };
                list.push(ProducerSample::of(track, transport.round_trip_ms, now));
            }
        }
        if let Some(transport) = &media.receive {
            for track in &transport.tracks {
                let list = match track.source {
                    Source::Microphone => &mut quality.audio_consumer,
                    Source::Camera => &mut quality.video_consumer,
                    Source::Screen => &mut quality.screenshare_video_consumer,
                    Source::ScreenAudio => &mut quality.screenshare_audio_consumer,
                };
                list.push(ConsumerSample::of(track, now));
            }
        }
        quality
    }
}

impl ProducerSample {
    fn of(track: &TrackReport, round_trip_ms: Option<f64>, now: &str) -> Self {
        // Of what arrived, the repaired ones are among the lost as well.
        let first_hand = track.packets.saturating_sub(track.repaired);
        Self {
            sample: Sample::of(track, now),
            packets_sent: first_hand.saturating_add(track.lost),
            bytes_sent: track.bytes,
            rtt: round_trip_ms.map(seconds),
        }
    }
}

impl ConsumerSample {
    fn of(track: &TrackReport, now: &str) -> Self {
        Self {
            sample: Sample::of(track, now),
            packets_received: track.packets.saturating_sub(track.lost),
            bytes_received: track.bytes,
        }
    }
}

impl Sample {
    fn of(track: &TrackReport, now: &str) -> Self {
        Self {
            producer_id: track.producer,
            mid: track.mid.clone(),
            timestamp: now.to_owned(),
            packets_lost: track.lost,
            // The media plane has no other way to say that it does not know yet.
            jitter: (track.jitter_ms > 0.0).then(|| seconds(track.jitter_ms)),
            bitrate: track.bps,
            layer: track.layer.clone(),
        }
    }
}

fn seconds(ms: f64) -> f64 {
    ms / 1000.0
}
