//! `GET …/sessions/peer-report/{peer_id}`: returns a peer and a report on its media quality.
//!
//! The report takes the client's point of view and uses the names and units of its WebRTC
//! statistics: media it publishes are "sent", media of others are "received", and times are in
//! seconds. It contains only what the server has measured itself; other fields are absent rather
//! than guessed.

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

/// The last session of a peer. Clients choose their ids, so several peers in the app may have the
/// same id.
static LAST_SESSION: Statement = Statement::new(
    "session_peers.last_stay",
    "SELECT p.session_id, p.meeting_id, p.preset_name, p.view_type, p.left_at FROM session_peers p
     WHERE p.app_id = $1 AND p.peer_id = $2
       AND EXISTS (SELECT 1 FROM meetings m WHERE m.app_id = $1 AND m.id = p.meeting_id)
     ORDER BY CASE WHEN p.left_at IS NULL THEN 0 ELSE 1 END, p.joined_at DESC, p.session_id DESC LIMIT 1",
);

pub(super) static STATEMENTS: [&Statement; 1] = [&LAST_SESSION];

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(
        Method::GET,
        "/sessions/peer-report/{peer_id}",
        "getPeerReport",
        handle,
    )
    .describe(
        "Get a peer report",
        "Retrieves a peer by its id, with a report on its media quality as measured by the server: one sample for each \
         current connection and track. `quality` contains bitrates and losses, `metadata.candidate_pairs` the network \
         paths. Fields that only the client could measure are absent, and the report is empty once the peer has left. \
         Clients choose their peer ids. If several peers have the same id, the connected one is returned, or else the \
         latest to join; `session_id` and `user_id` identify it.",
    )
}

/// The path parameters of the request.
#[derive(Debug, JsonSchema)]
struct PeerPath {
    /// The peer id.
    peer_id: PeerId,
}

impl FromPath for PeerPath {
    fn from_path(params: &PathParams<'_>) -> Result<Self, ApiError> {
        Ok(Self {
            peer_id: params.id("peer_id")?,
        })
    }
}

/// A part of a peer report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(rename = "PeerReportFilter")]
#[serde(rename_all = "snake_case")]
enum ReportFilter {
    /// Device information. Always empty: the server does not know it.
    DeviceInfo,
    /// The client's IP address.
    IpInformation,
    /// Results of network tests before the call. Always empty: the server does not know them.
    PrecallNetworkInformation,
    /// Events that the client recorded. Always empty: the server does not know them.
    Events,
    /// `quality` and `metadata.candidate_pairs`.
    QualityStats,
}

/// Options of the request.
#[derive(Debug, Deserialize, Validate, JsonSchema)]
struct Options {
    /// Returns only this part of the report. Defaults to the whole report.
    #[garde(skip)]
    #[serde(default)]
    filters: Option<ReportFilter>,
    /// Also returns the events of the peer. Defaults to `false`.
    #[garde(skip)]
    #[serde(default)]
    include_peer_events: bool,
}

impl Options {
    fn includes(&self, part: ReportFilter) -> bool {
        self.filters.is_none_or(|only| only == part)
    }
}

/// A peer with its report, nested the way clients expect it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "PeerReportResult")]
struct PeerReportResult {
    /// The peer with its report.
    participant: PeerReportParticipant,
}

/// A peer with its report.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "PeerReportParticipant")]
struct PeerReportParticipant {
    #[serde(flatten)]
    participant: SessionParticipant,
    /// Name of the participant's preset, the same as `preset_name`.
    role: String,
    /// Id of the peer's last session.
    session_id: SessionId,
    /// The report on the peer's media quality.
    peer_report: PeerReportBody,
}

/// A report on a peer's media quality.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[schemars(rename = "PeerReport")]
struct PeerReportBody {
    /// Information about the client and its connections.
    metadata: ReportMetadata,
    /// Quality of the peer's tracks. Absent if `filters` selects another part of the report.
    #[serde(skip_serializing_if = "Option::is_none")]
    quality: Option<MediaQuality>,
}

/// Information about a client and its connections.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[schemars(rename = "PeerReportMetadata")]
struct ReportMetadata {
    /// View type of the peer's preset.
    #[serde(skip_serializing_if = "Option::is_none")]
    room_view_type: Option<String>,
    /// The client's IP address.
    #[serde(skip_serializing_if = "Option::is_none")]
    ip_information: Option<IpInformation>,
    /// The selected candidate pairs of the peer's transports.
    #[serde(skip_serializing_if = "Option::is_none")]
    candidate_pairs: Option<CandidatePairs>,
}

/// The IP address of a client.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "IpInformation")]
struct IpInformation {
    /// The IPv4 address as seen by the server. Behind a NAT or an external relay, this is the
    /// address of the NAT or relay.
    #[schemars(extend("format" = "ipv4"))]
    ipv4: String,
}

/// The selected candidate pairs of a peer's transports. Each list has one item while that transport
/// is connected, and is empty otherwise.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[schemars(rename = "CandidatePairs")]
struct CandidatePairs {
    /// The transport on which the client publishes.
    producing_transport: Vec<CandidatePair>,
    /// The transport on which the client receives.
    consuming_transport: Vec<CandidatePair>,
}

/// The candidate pair between a client and the server. The client is the local side.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "CandidatePair")]
struct CandidatePair {
    /// IP address of the client, as seen by the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    local_candidate_address: Option<String>,
    /// Port of the client, as seen by the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    local_candidate_port: Option<u16>,
    /// `udp` or `tcp`. Absent if the client uses the server's built-in relay.
    #[serde(skip_serializing_if = "Option::is_none")]
    local_candidate_protocol: Option<&'static str>,
    /// `relay` if the client uses the server's built-in relay. Otherwise absent, because the server
    /// does not know the candidate type.
    #[serde(skip_serializing_if = "Option::is_none")]
    local_candidate_type: Option<&'static str>,
    /// Current round-trip time, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    current_round_trip_time: Option<f64>,
    /// Estimated available bandwidth from the server to the client, in bits per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    available_incoming_bitrate: Option<u64>,
}

/// One sample for each current track of a peer. Empty lists are omitted.
#[derive(Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "MediaQuality")]
struct MediaQuality {
    /// The peer's microphone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    audio_producer: Vec<ProducerSample>,
    /// Microphones of other peers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    audio_consumer: Vec<ConsumerSample>,
    /// The peer's camera.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    video_producer: Vec<ProducerSample>,
    /// Cameras of other peers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    video_consumer: Vec<ConsumerSample>,
    /// The audio of the peer's shared screen.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    screenshare_audio_producer: Vec<ProducerSample>,
    /// The audio of other peers' shared screens.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    screenshare_audio_consumer: Vec<ConsumerSample>,
    /// The peer's shared screen.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    screenshare_video_producer: Vec<ProducerSample>,
    /// Shared screens of other peers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    screenshare_video_consumer: Vec<ConsumerSample>,
}

/// A sample of a track that the peer publishes. All simulcast layers of a camera are combined.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "ProducerSample")]
struct ProducerSample {
    #[serde(flatten)]
    sample: Sample,
    /// Number of packets that the client has sent, according to their sequence numbers.
    /// Retransmissions are not counted.
    packets_sent: u64,
    /// Payload bytes that the server has received, without headers.
    bytes_sent: u64,
    /// Round-trip time, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    rtt: Option<f64>,
}

/// A sample of a track that the peer receives.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "ConsumerSample")]
struct ConsumerSample {
    #[serde(flatten)]
    sample: Sample,
    /// Number of packets sent to the client, minus those that it reported lost.
    packets_received: u64,
    /// Payload bytes sent to the client, without headers.
    bytes_received: u64,
}

/// The common fields of a sample in either direction.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct Sample {
    /// Id of the producer.
    producer_id: ProducerId,
    /// `mid` of the track's media section in the SDP.
    mid: String,
    /// When the sample was taken. RFC 3339 in UTC, with milliseconds.
    #[schemars(extend("format" = "date-time"))]
    timestamp: String,
    /// Number of packets lost in transit, whether or not they were retransmitted.
    packets_lost: u64,
    /// Jitter, in seconds. Absent until it has been measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    jitter: Option<f64>,
    /// Current bitrate, in bits per second. Not available in RealtimeKit.
    bitrate: u64,
    /// RID of the simulcast layer that the client receives, or of the highest layer that it
    /// publishes. Absent without simulcast. Not available in RealtimeKit.
    #[serde(skip_serializing_if = "Option::is_none")]
    layer: Option<String>,
}

/// A peer's participation in its last session.
struct PeerSession {
    session: SessionId,
    meeting: MeetingId,
    preset_name: String,
    view: String,
    has_left: bool,
}

impl FromRow for PeerSession {
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

async fn handle(call: Call<PeerPath, Options>) -> Result<Data<PeerReportResult>, ApiError> {
    let (state, app, peer) = (&call.state, call.app, call.path.peer_id);
    let key = values![app.uuid(), peer.uuid()];
    let last = state
        .db
        .scan::<PeerSession>(&LAST_SESSION, key)
        .await?
        .pop();
    let last = last.ok_or_else(|| ApiError::missing("peer"))?;
    let found = peer::find(state, app, last.session, peer.uuid(), call.now_ms).await?;
    let found = found.ok_or_else(|| ApiError::missing("peer"))?;
    let media = match &state.edge.media {
        Some(media) if !last.has_left => {
            let member = Member {
                meeting: last.meeting,
                peer,
            };
            media.report(member).await.unwrap_or_default()
        }
        _ => parlor_sfu::PeerReport::default(),
    };
    let participant = PeerReportParticipant {
        participant: found.public(last.session, call.query.include_peer_events),
        role: last.preset_name,
        session_id: last.session,
        peer_report: report(&media, last.view, &call.query, call.now_ms),
    };
    Ok(Data(PeerReportResult { participant }))
}

fn report(
    media: &parlor_sfu::PeerReport,
    view: String,
    options: &Options,
    now_ms: i64,
) -> PeerReportBody {
    let has_quality = options.includes(ReportFilter::QualityStats);
    let pair = |transport: &Option<TransportReport>| {
        let connected = transport.as_ref().filter(|transport| transport.connected);
        connected.map(CandidatePair::of).into_iter().collect()
    };
    let has_transport = media.publish.is_some() || media.receive.is_some();
    PeerReportBody {
        metadata: ReportMetadata {
            room_view_type: options.filters.is_none().then_some(view),
            ip_information: options
                .includes(ReportFilter::IpInformation)
                .then(|| IpInformation::of(media))
                .flatten(),
            candidate_pairs: (has_quality && has_transport).then(|| CandidatePairs {
                producing_transport: pair(&media.publish),
                consuming_transport: pair(&media.receive),
            }),
        },
        quality: has_quality.then(|| MediaQuality::of(media, &rfc3339(now_ms))),
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

impl MediaQuality {
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
        // Packets that arrived as retransmissions are also counted as lost.
        let original = track.packets.saturating_sub(track.repaired);
        Self {
            sample: Sample::of(track, now),
            packets_sent: original.saturating_add(track.lost),
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
            // The media plane reports zero until it has measured the jitter.
            jitter: (track.jitter_ms > 0.0).then(|| seconds(track.jitter_ms)),
            bitrate: track.bps,
            layer: track.layer.clone(),
        }
    }
}

fn seconds(ms: f64) -> f64 {
    ms / 1000.0
}
