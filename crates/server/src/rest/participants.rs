//! Participants: people who may join a meeting. Operations 9–15 (docs/spec/rest.md 1.3), and
//! adding many at once.
//!
//! A participant is addressed by its id, or as `custom:<custom_participant_id>`.

mod add;
mod add_many;
mod bring;
mod delete;
mod get;
mod list;
mod refresh_token;
mod replace;
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
use crate::identity::join_token::{self, Claims, Refused};
use crate::rest::{meetings, presets};
use crate::state::Parlor;
pub(crate) use bring::{MOVED_AT_ONCE, Passage, Route, bring};

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
    all.extend(bring::STATEMENTS);
    all.extend(list::STATEMENTS);
    all
}

/// The longest name, in characters.
pub const NAME_MAX: usize = 256;
/// The longest custom id, in characters.
pub const CUSTOM_ID_MAX: usize = 256;
/// The longest picture URL, in characters.
pub const PICTURE_MAX: usize = 2048;
/// What a path says before a custom id.
const CUSTOM: &str = "custom:";

/// A participant.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Participant {
    /// Its id. It stays the same when the same person is added again.
    pub id: ParticipantId,
    /// The caller's own id of this person.
    pub custom_participant_id: String,
    /// The preset's name.
    pub preset_name: String,
    /// The preset's id.
    pub preset_id: PresetId,
    /// Shown to others.
    pub name: Option<String>,
    /// URL of a picture.
    pub picture: Option<String>,
    /// RFC 3339, UTC, milliseconds.
    #[schemars(extend("format" = "date-time"))]
    pub created_at: String,
    /// RFC 3339, UTC, milliseconds.
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

/// A participant with a fresh token.
#[derive(Clone, Serialize, JsonSchema)]
pub struct Added {
    /// What the participant joins with. A secret.
    pub token: String,
    /// When the token stops working. RFC 3339, UTC, milliseconds.
    #[schemars(extend("format" = "date-time"))]
    pub expires_at: String,
    #[serde(flatten)]
    participant: Participant,
}

/// Signs tokens for participants of one meeting.
#[derive(Clone)]
struct Minter {
    key: std::sync::Arc<crate::identity::signing_keys::SigningKey>,
    app: AppId,
    meeting: MeetingId,
    now_ms: i64,
}

impl Minter {
    fn new(parlor: &Parlor, app: AppId, meeting: MeetingId, now_ms: i64) -> Self {
        Self {
            key: parlor.keys.current(),
            app,
            meeting,
            now_ms,
        }
    }

    /// A token that lives for some seconds, and when it expires.
    fn mint(
        &self,
        participant: ParticipantId,
        preset: PresetId,
        life_secs: u64,
    ) -> (String, String) {
        let life_secs = i64::try_from(life_secs).expect("lives are bounded by the limits");
        self.mint_until(participant, preset, self.now_ms / 1000 + life_secs)
    }

    /// A token that is good until a time in Unix seconds, and that time.
    fn mint_until(
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

    fn add(&self, participant: Participant, life_secs: u64) -> Added {
        let (token, expires_at) = self.mint(participant.id, participant.preset_id, life_secs);
        Added {
            token,
            expires_at,
            participant,
        }
    }
}

/// The life of a token: what was asked for, within the server's bounds.
fn life_secs(parlor: &Parlor, asked: Option<u64>) -> Result<u64, ApiError> {
    let limits = &parlor.limits;
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

/// How a path names a participant.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    Id(ParticipantId),
    CustomId(String),
}

impl FromStr for Address {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text.strip_prefix(CUSTOM) {
            // No record has an id like these, and PostgreSQL refuses to be asked for U+0000.
            Some(custom_id) if custom_id.is_empty() || custom_id.contains('\0') => Err(()),
            Some(custom_id) => Ok(Self::CustomId(custom_id.to_owned())),
            None => text.parse().map(Self::Id).map_err(|_| ()),
        }
    }
}

/// The path of one participant.
#[derive(Debug, JsonSchema)]
struct OneParticipant {
    /// The meeting's id.
    meeting_id: MeetingId,
    /// The participant's id, or `custom:` and the custom id.
    #[schemars(
        with = "String",
        regex(pattern = "^(custom:.+|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})$")
    )]
    participant_id: Address,
}

impl FromPath for OneParticipant {
    fn from_path(params: &PathParams<'_>) -> Result<Self, ApiError> {
        Ok(Self {
            meeting_id: params.id("meeting_id")?,
            participant_id: params.id("participant_id")?,
        })
    }
}

impl OneParticipant {
    /// Reads the participant.
    async fn find(&self, parlor: &Parlor, app: AppId) -> Result<Participant, ApiError> {
        let found = find(parlor, app, self.meeting_id, &self.participant_id).await?;
        match found {
            Some(participant) => Ok(participant),
            None => Err(self.why_missing(parlor, app).await),
        }
    }

    /// The 404 for this path: the meeting's or the participant's.
    async fn why_missing(&self, parlor: &Parlor, app: AppId) -> ApiError {
        match meetings::must_exist(parlor, app, self.meeting_id).await {
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
    parlor: &Parlor,
    app: AppId,
    meeting: MeetingId,
    id: ParticipantId,
) -> Result<Option<Participant>, Error> {
    find(parlor, app, meeting, &Address::Id(id)).await
}

/// Reads a participant of a meeting by the app's own id.
///
/// # Errors
/// When the database fails.
pub(crate) async fn by_custom_id(
    parlor: &Parlor,
    app: AppId,
    meeting: MeetingId,
    custom_id: &str,
) -> Result<Option<Participant>, Error> {
    let who = Address::CustomId(custom_id.to_owned());
    find(parlor, app, meeting, &who).await
}

async fn find(
    parlor: &Parlor,
    app: AppId,
    meeting: MeetingId,
    who: &Address,
) -> Result<Option<Participant>, Error> {
    let (app, meeting) = (app.uuid(), meeting.uuid());
    let found = match who {
        Address::Id(id) => {
            parlor
                .db
                .read(&BY_ID, values![app, meeting, id.uuid()])
                .await?
        }
        Address::CustomId(id) => {
            parlor
                .db
                .read(&BY_CUSTOM_ID, values![app, meeting, id.as_str()])
                .await?
        }
    };
    Ok(found.into_iter().next())
}

/// The 404 of a preset name: the known text, then names that it may have been meant to be.
async fn unknown_preset(parlor: &Parlor, app: AppId, name: &str) -> ApiError {
    let presets = match presets::names(parlor, app).await {
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

/// The names that are nearest to one that was meant to be one of them.
fn nearest<'n>(known: impl Iterator<Item = &'n str>, name: &str) -> Vec<&'n str> {
    let plain = |name: &str| name.to_lowercase().replace(['-', ' '], "_");
    let meant = plain(name);
    let (mut near, mut best) = (Vec::new(), 1 + meant.len() / 6);
    // Long names are not compared: it would take long, and they are copied rather than typed.
    for known in known
        .filter(|known| known.len().max(meant.len()) <= 64)
        .take(1000)
    {
        let distance = strsim::damerau_levenshtein(&plain(known), &meant);
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

/// The id of the preset that has a name.
async fn preset_named(parlor: &Parlor, app: AppId, name: &str) -> Result<PresetId, ApiError> {
    match presets::named(parlor, app, name).await? {
        Some(preset) => Ok(preset.id),
        None => Err(unknown_preset(parlor, app, name).await),
    }
}

/// Somebody whose join token was checked, with everything that joining asks for.
#[derive(Debug, Clone)]
pub struct Joining {
    /// What the token says.
    pub claims: Claims,
    /// Who it is.
    pub participant: Participant,
    /// What they may do, as it stands now.
    pub preset: Arc<PresetBody>,
    /// Grows with each change of the preset.
    pub preset_version: i64,
    /// What people call the meeting.
    pub meeting_title: Option<String>,
    /// Whether new people may join it: it is active, and so is its parent if it is a breakout room.
    pub meeting_active: bool,
}

/// A row of [`JOINING`].
struct Found {
    participant: Participant,
    preset_version: i64,
    preset_json: String,
    meeting_title: Option<String>,
    meeting_active: bool,
}

impl FromRow for Found {
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

/// Who a join token admits, if it still admits anybody: the key, the time and the participant are
/// checked, so a deleted participant's tokens are refused at once. Whether the meeting takes new
/// people is for the caller to decide.
///
/// # Errors
/// Why nobody is admitted, or that the database failed.
pub async fn joining(parlor: &Parlor, token: &str) -> Result<Result<Joining, Refused>, Error> {
    let (key, monotonic_ms) = (join_token::key_id(token), parlor.clock.monotonic_ms());
    parlor.keys.find(&parlor.db, key, monotonic_ms).await?;
    // By the wall clock: the token says a date.
    let claims = match join_token::verify(&parlor.keys, token, parlor.clock.now_ms()) {
        Ok(claims) => claims,
        Err(refused) => return Ok(Err(refused)),
    };
    let ids = values![
        claims.org_id.uuid(),
        claims.meeting_id.uuid(),
        claims.participant_id.uuid()
    ];
    let Some(found) = parlor.db.read::<Found>(&JOINING, ids).await?.pop() else {
        return Ok(Err(Refused::Revoked));
    };
    let preset = parlor.presets.parsed(
        found.participant.preset_id,
        found.preset_version,
        &found.preset_json,
    )?;
    Ok(Ok(Joining {
        claims,
        participant: found.participant,
        preset,
        preset_version: found.preset_version,
        meeting_title: found.meeting_title,
        meeting_active: found.meeting_active,
    }))
}

/// The form in which a name is searched for.
fn search_name(name: &str) -> Option<String> {
    let folded = meetings::fold(name);
    (!folded.is_empty()).then_some(folded)
}

/// A number that spreads people over database writers and is the same for the same person.
fn writer_key(meeting: Uuid, custom_id: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    (meeting, custom_id).hash(&mut hasher);
    hasher.finish()
}

/// Mints tokens one after the other on one core for some time; how many a second.
pub(crate) fn mint_for(time: std::time::Duration) -> f64 {
    let started = std::time::Instant::now();
    let minter = Minter {
        key: std::sync::Arc::new(crate::identity::signing_keys::SigningKey::ephemeral()),
        app: AppId::from_uuid(Uuid::nil()),
        meeting: MeetingId::from_uuid(Uuid::nil()),
        now_ms: 0,
    };
    let mut tokens = 0_u32;
    while started.elapsed() < time {
        let id = Uuid::from_u128(tokens.into());
        let token = minter.mint(ParticipantId::from_uuid(id), PresetId::from_uuid(id), 60);
        std::hint::black_box(token);
        tokens += 1;
    }
    f64::from(tokens) / started.elapsed().as_secs_f64()
}
