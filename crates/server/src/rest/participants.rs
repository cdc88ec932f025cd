//! Participants, who may join a meeting. Operations 9–15 (docs/spec/rest.md 1.3), and adding many
//! at once.
//!
//! A participant is addressed by its id, or as `custom:<custom_participant_id>`.

mod add;
mod add_many;
mod delete;
mod get;
mod list;
mod refresh_token;
mod replace;
mod transfer;
mod update;

use std::str::FromStr;
use std::sync::Arc;

use parlor_protocol::PresetBody;
use parlor_protocol::ids::{AppId, MeetingId, ParticipantId, PresetId};
use parlor_store::{Error, FromRow, Row, Statement, values};
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::clock::rfc3339;
use crate::http::{ApiError, Endpoint, FromPath, PathParams, Problem};
use crate::identity::join_token::{self, Claims, TokenError};
use crate::rest::{meetings, presets};
use crate::state::ServerState;
pub(crate) use transfer::{ParticipantTransfer, Route, TRANSFER_BATCH, transfer};

/// The operations on participants.
pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        list::endpoint(),
        add::endpoint(),
        add_many::endpoint(),
        get::endpoint(),
        update::endpoint(),
        replace::endpoint(),
        delete::endpoint(),
        refresh_token::endpoint(),
    ]
}

static BY_ID: Statement = Statement::new(
    "participants.by_id",
    "SELECT p.id, p.custom_participant_id, p.preset_id, r.name, p.name, p.picture, p.created_at, p.updated_at
     FROM participants p JOIN presets r ON r.app_id = p.app_id AND r.id = p.preset_id
     WHERE p.app_id = $1 AND p.meeting_id = $2 AND p.id = $3
       AND EXISTS (SELECT 1 FROM meetings m WHERE m.app_id = $1 AND m.id = $2)",
);
static BY_CUSTOM_ID: Statement = Statement::new(
    "participants.by_custom_id",
    "SELECT p.id, p.custom_participant_id, p.preset_id, r.name, p.name, p.picture, p.created_at, p.updated_at
     FROM participants p JOIN presets r ON r.app_id = p.app_id AND r.id = p.preset_id
     WHERE p.app_id = $1 AND p.meeting_id = $2 AND p.custom_participant_id = $3
       AND EXISTS (SELECT 1 FROM meetings m WHERE m.app_id = $1 AND m.id = $2)",
);
static JOINING: Statement = Statement::new(
    "participants.joining",
    "SELECT p.id, p.custom_participant_id, p.preset_id, r.name, p.name, p.picture, p.created_at, p.updated_at,
            r.version, r.body, m.title, m.status = 'ACTIVE' AND NOT EXISTS
       (SELECT 1 FROM connected_meetings c JOIN meetings u ON u.app_id = c.app_id AND u.id = c.parent_id
        WHERE c.app_id = $1 AND c.meeting_id = $2 AND c.removed_at IS NULL AND u.status <> 'ACTIVE')
     FROM participants p
     JOIN presets r ON r.app_id = p.app_id AND r.id = p.preset_id
     JOIN meetings m ON m.app_id = p.app_id AND m.id = p.meeting_id
     WHERE p.app_id = $1 AND p.meeting_id = $2 AND p.id = $3
       AND EXISTS (SELECT 1 FROM apps a WHERE a.id = $1)",
);

pub(crate) fn statements() -> Vec<&'static Statement> {
    let mut all = vec![&BY_ID, &BY_CUSTOM_ID, &JOINING, &update::WRITE];
    all.extend(delete::STATEMENTS);
    all.extend(add::STATEMENTS);
    all.extend(transfer::STATEMENTS);
    all.extend(list::STATEMENTS);
    all
}

/// Maximum length of a name, in characters.
pub const NAME_MAX: usize = 256;
/// Maximum length of a custom id, in characters.
pub const CUSTOM_ID_MAX: usize = 256;
/// Maximum length of a picture URL, in characters.
pub const PICTURE_MAX: usize = 2048;
/// The prefix of a custom id in a path.
const CUSTOM_ID_PREFIX: &str = "custom:";

/// A participant of a meeting.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Participant")]
pub struct Participant {
    /// Unique identifier of the participant. It does not change when a participant with the same
    /// `custom_participant_id` is added again.
    pub id: ParticipantId,
    /// Your own identifier for the participant, unique in the meeting.
    pub custom_participant_id: String,
    /// Name of the participant's preset.
    pub preset_name: String,
    /// Id of the participant's preset.
    pub preset_id: PresetId,
    /// Display name, shown to other participants.
    pub name: Option<String>,
    /// URL of the participant's profile picture.
    pub picture: Option<String>,
    /// When the participant was created. RFC 3339 in UTC, with milliseconds.
    #[schemars(extend("format" = "date-time"))]
    pub created_at: String,
    /// When the participant was last updated. RFC 3339 in UTC, with milliseconds.
    #[schemars(extend("format" = "date-time"))]
    pub updated_at: String,
}

impl FromRow for Participant {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        let (created_ms, updated_ms): (i64, i64) = (row.take(6)?, row.take(7)?);
        Ok(Self {
            id: ParticipantId::from_uuid(row.take(0)?),
            custom_participant_id: row.take(1)?,
            preset_id: PresetId::from_uuid(row.take(2)?),
            preset_name: row.take(3)?,
            name: row.take(4)?,
            picture: row.take(5)?,
            created_at: rfc3339(created_ms),
            updated_at: rfc3339(updated_ms),
        })
    }
}

/// A participant with a new join token.
#[derive(Clone, Serialize, JsonSchema)]
#[schemars(rename = "ParticipantWithToken")]
pub struct ParticipantWithToken {
    /// The join token, with which the participant's client joins the meeting. Keep it secret.
    pub token: String,
    /// When the token expires. RFC 3339 in UTC, with milliseconds.
    #[schemars(extend("format" = "date-time"))]
    pub expires_at: String,
    #[serde(flatten)]
    participant: Participant,
}

/// Issues join tokens for participants of one meeting.
#[derive(Clone)]
struct TokenIssuer {
    key: std::sync::Arc<crate::identity::signing_keys::SigningKey>,
    app: AppId,
    meeting: MeetingId,
    now_ms: i64,
}

impl TokenIssuer {
    fn new(state: &ServerState, app: AppId, meeting: MeetingId, now_ms: i64) -> Self {
        Self {
            key: state.keys.current(),
            app,
            meeting,
            now_ms,
        }
    }

    /// Issues a token with this lifetime in seconds. Returns the token and its expiry time.
    fn issue(
        &self,
        participant: ParticipantId,
        preset: PresetId,
        life_secs: u64,
    ) -> (String, String) {
        let life_secs = i64::try_from(life_secs).expect("lifetimes are bounded by the limits");
        self.issue_until(participant, preset, self.now_ms / 1000 + life_secs)
    }

    /// Issues a token that expires at a time in Unix seconds. Returns the token and its expiry
    /// time.
    fn issue_until(
        &self,
        participant: ParticipantId,
        preset: PresetId,
        exp: i64,
    ) -> (String, String) {
        let claims = Claims {
            org_id: self.app,
            meeting_id: self.meeting,
            participant_id: participant,
            preset_id: preset,
            iat: self.now_ms / 1000,
            exp,
        };
        (join_token::sign(&self.key, &claims), rfc3339(exp * 1000))
    }

    fn with_token(&self, participant: Participant, life_secs: u64) -> ParticipantWithToken {
        let (token, expires_at) = self.issue(participant.id, participant.preset_id, life_secs);
        ParticipantWithToken {
            token,
            expires_at,
            participant,
        }
    }
}

/// The lifetime of a token in seconds: the requested one, or the server's default.
///
/// # Errors
/// 400 when the requested lifetime is out of range.
fn life_secs(state: &ServerState, asked: Option<u64>) -> Result<u64, ApiError> {
    let limits = &state.limits;
    let Some(asked) = asked else {
        return Ok(limits.token_life_secs);
    };
    if (1..=limits.token_life_max_secs).contains(&asked) {
        return Ok(asked);
    }
    let message = format!(
        "BAD_REQUEST: \"expires_in\" must be between 1 and {}",
        limits.token_life_max_secs
    );
    Err(ApiError::invalid(vec![Problem::at("/expires_in", message)]))
}

/// A reference to a participant in a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum ParticipantKey {
    Id(ParticipantId),
    CustomId(String),
}

impl FromStr for ParticipantKey {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text.strip_prefix(CUSTOM_ID_PREFIX) {
            // No record has such an id, and PostgreSQL rejects U+0000 in parameters.
            Some(custom_id) if custom_id.is_empty() || custom_id.contains('\0') => Err(()),
            Some(custom_id) => Ok(Self::CustomId(custom_id.to_owned())),
            None => text.parse().map(Self::Id).map_err(|_| ()),
        }
    }
}

/// The path parameters of a participant.
#[derive(Debug, JsonSchema)]
struct ParticipantPath {
    /// The meeting id.
    meeting_id: MeetingId,
    /// The participant id, or `custom:` followed by the `custom_participant_id`.
    #[schemars(
        with = "String",
        regex(pattern = "^(custom:.+|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})$")
    )]
    participant_id: ParticipantKey,
}

impl FromPath for ParticipantPath {
    fn from_path(params: &PathParams<'_>) -> Result<Self, ApiError> {
        Ok(Self {
            meeting_id: params.id("meeting_id")?,
            participant_id: params.id("participant_id")?,
        })
    }
}

impl ParticipantPath {
    /// Reads the participant.
    async fn find(&self, state: &ServerState, app: AppId) -> Result<Participant, ApiError> {
        let found = find(state, app, self.meeting_id, &self.participant_id).await?;
        match found {
            Some(participant) => Ok(participant),
            None => Err(self.not_found_error(state, app).await),
        }
    }

    /// The 404 for this path: of the meeting or of the participant.
    async fn not_found_error(&self, state: &ServerState, app: AppId) -> ApiError {
        match meetings::must_exist(state, app, self.meeting_id).await {
            Ok(()) => ApiError::missing("participant"),
            Err(error) => error,
        }
    }
}

/// Reads a participant of a meeting by its id.
///
/// # Errors
/// When the database fails.
pub(crate) async fn by_id(
    state: &ServerState,
    app: AppId,
    meeting: MeetingId,
    id: ParticipantId,
) -> Result<Option<Participant>, Error> {
    find(state, app, meeting, &ParticipantKey::Id(id)).await
}

/// Reads a participant of a meeting by its custom id.
///
/// # Errors
/// When the database fails.
pub(crate) async fn by_custom_id(
    state: &ServerState,
    app: AppId,
    meeting: MeetingId,
    custom_id: &str,
) -> Result<Option<Participant>, Error> {
    let key = ParticipantKey::CustomId(custom_id.to_owned());
    find(state, app, meeting, &key).await
}

async fn find(
    state: &ServerState,
    app: AppId,
    meeting: MeetingId,
    key: &ParticipantKey,
) -> Result<Option<Participant>, Error> {
    let (app, meeting) = (app.uuid(), meeting.uuid());
    let found = match key {
        ParticipantKey::Id(id) => {
            state
                .db
                .read(&BY_ID, values![app, meeting, id.uuid()])
                .await?
        }
        ParticipantKey::CustomId(id) => {
            state
                .db
                .read(&BY_CUSTOM_ID, values![app, meeting, id.as_str()])
                .await?
        }
    };
    Ok(found.into_iter().next())
}

/// The 404 for an unknown preset name: RealtimeKit's message, with suggestions of similar names.
async fn unknown_preset(state: &ServerState, app: AppId, name: &str) -> ApiError {
    let presets = match presets::names(state, app).await {
        Ok(presets) => presets,
        Err(error) => return error.into(),
    };
    let mut message = format!("No preset found with name {name}");
    let near = nearest(presets.iter().map(|preset| preset.name.as_str()), name);
    if !near.is_empty() {
        let near: Vec<String> = near.iter().map(|known| format!("\"{known}\"")).collect();
        message = format!("{message}; did you mean {}?", near.join(" or "));
    }
    ApiError::not_found(Problem::at("/preset_name", message))
}

/// The known names that are most similar to a misspelt one.
fn nearest<'n>(known: impl Iterator<Item = &'n str>, name: &str) -> Vec<&'n str> {
    let plain = |name: &str| name.to_lowercase().replace(['-', ' '], "_");
    let normalized = plain(name);
    let (mut near, mut best) = (Vec::new(), 1 + normalized.len() / 6);
    // Long names are not compared: it would be slow, and they are copied rather than typed.
    for known in known
        .filter(|known| known.len().max(normalized.len()) <= 64)
        .take(1000)
    {
        let distance = strsim::damerau_levenshtein(&plain(known), &normalized);
        if distance < best {
            near.clear();
        }
        if distance <= best {
            near.push(known);
            best = distance;
        }
    }
    near
}

/// The id of the preset with this name.
async fn preset_by_name(state: &ServerState, app: AppId, name: &str) -> Result<PresetId, ApiError> {
    match presets::by_name(state, app, name).await? {
        Some(preset) => Ok(preset.id),
        None => Err(unknown_preset(state, app, name).await),
    }
}

/// A verified join token, with the records that joining needs.
#[derive(Debug, Clone)]
pub struct JoinContext {
    /// The token's claims.
    pub claims: Claims,
    /// The participant.
    pub participant: Participant,
    /// The current contents of the participant's preset.
    pub preset: Arc<PresetBody>,
    /// The version of the preset, which increases with each change.
    pub preset_version: i64,
    /// The title of the meeting.
    pub meeting_title: Option<String>,
    /// Whether the meeting can be joined: it is active, and so is its parent if it is a breakout
    /// room.
    pub meeting_active: bool,
}

/// A row of [`JOINING`].
struct JoinRow {
    participant: Participant,
    preset_version: i64,
    preset_json: String,
    meeting_title: Option<String>,
    meeting_active: bool,
}

impl FromRow for JoinRow {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        Ok(Self {
            preset_version: row.take(8)?,
            preset_json: row.take(9)?,
            meeting_title: row.take(10)?,
            meeting_active: row.take(11)?,
            participant: Participant::from_row(row)?,
        })
    }
}

/// Verifies a join token: its signature, its expiry, and that its participant still exists, so the
/// tokens of a deleted participant are rejected immediately. The caller decides whether the meeting
/// can be joined.
///
/// # Errors
/// The outer error when the database fails, the inner one when the token is rejected.
pub async fn verify_join_token(
    state: &ServerState,
    token: &str,
) -> Result<Result<JoinContext, TokenError>, Error> {
    let (key, monotonic_ms) = (join_token::key_id(token), state.clock.monotonic_ms());
    state
        .keys
        .refresh_if_unknown(&state.db, key, monotonic_ms)
        .await?;
    // Compared with the wall clock, because the token contains a date.
    let claims = match join_token::verify(&state.keys, token, state.clock.now_ms()) {
        Ok(claims) => claims,
        Err(error) => return Ok(Err(error)),
    };
    let ids = values![
        claims.org_id.uuid(),
        claims.meeting_id.uuid(),
        claims.participant_id.uuid()
    ];
    let Some(found) = state.db.read::<JoinRow>(&JOINING, ids).await?.pop() else {
        return Ok(Err(TokenError::Revoked));
    };
    let preset = state.presets.parsed(
        found.participant.preset_id,
        found.preset_version,
        &found.preset_json,
    )?;
    Ok(Ok(JoinContext {
        claims,
        participant: found.participant,
        preset,
        preset_version: found.preset_version,
        meeting_title: found.meeting_title,
        meeting_active: found.meeting_active,
    }))
}

/// The normalized form of a name for searching.
fn search_name(name: &str) -> Option<String> {
    let folded = meetings::fold(name);
    (!folded.is_empty()).then_some(folded)
}

/// A key that distributes participants over the database writers. It is always the same for the
/// same participant.
fn writer_key(meeting: Uuid, custom_id: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    (meeting, custom_id).hash(&mut hasher);
    hasher.finish()
}

/// Measures how many tokens one core signs per second.
pub(crate) fn measure_token_signing(time: std::time::Duration) -> f64 {
    let started = std::time::Instant::now();
    let issuer = TokenIssuer {
        key: std::sync::Arc::new(crate::identity::signing_keys::SigningKey::ephemeral()),
        app: AppId::from_uuid(Uuid::nil()),
        meeting: MeetingId::from_uuid(Uuid::nil()),
        now_ms: 0,
    };
    let mut tokens = 0_u32;
    while started.elapsed() < time {
        let id = Uuid::from_u128(tokens.into());
        let token = issuer.issue(ParticipantId::from_uuid(id), PresetId::from_uuid(id), 60);
        std::hint::black_box(token);
        tokens += 1;
    }
    f64::from(tokens) / started.elapsed().as_secs_f64()
}
