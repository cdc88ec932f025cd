//! The database records of live rooms: writing them, and loading a room from them.
//!
//! Every record has a key and is written whole, so writing it twice is idempotent. All records of a
//! meeting go through one database writer, in the order in which the room emitted them.

mod chat_bytes;
mod chat_dump;
mod persisted_state;
#[cfg(test)]
mod tests;

pub(crate) use chat_bytes::count_old_messages;
pub(crate) use chat_dump::{CHAT_PIECE_BYTES, chat_csv, has_chat};
pub(crate) use persisted_state::load_state;

use std::collections::HashSet;
use std::sync::Arc;

use parlor_live::{ChatMessage, Command, EntryKind, Meeting, PeerRecord, Record, SessionRecord};
use parlor_protocol::MeetingSettings;
use parlor_protocol::ids::{AppId, MeetingId, ParticipantId, PeerId, SessionId};
use parlor_protocol::preset::ViewType;
use parlor_store::{Error, FromRow, Row, Statement, Unit, values};
use uuid::Uuid;

use crate::clock::first_id_at;
use crate::rooms::LiveSessions;
use crate::tallies::count_added;
use crate::usage::{self, StoredKind, sum_of};

static KEEP_SESSION: Statement = Statement::new(
    "live_records.keep_session",
    "INSERT INTO sessions (app_id, id, meeting_id, title, started_at, ended_at, live, peak, total, consumed_ms, writes, updated_at)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 1, $11)
     ON CONFLICT (app_id, id) DO UPDATE SET title = excluded.title, ended_at = excluded.ended_at, live = excluded.live,
       peak = excluded.peak, total = excluded.total, consumed_ms = excluded.consumed_ms, writes = sessions.writes + 1,
       updated_at = excluded.updated_at
     RETURNING writes",
);
static KEEP_PEER: Statement = Statement::new(
    "live_records.keep_peer",
    "INSERT INTO session_peers (app_id, session_id, peer_id, meeting_id, participant_id, preset_id, created_at, joined_at,
       entered_at, left_at, consumed_ms, updated_at, view_type, preset_name, custom_participant_id, name, picture)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
     ON CONFLICT (app_id, session_id, peer_id) DO UPDATE SET participant_id = excluded.participant_id,
       preset_id = excluded.preset_id, created_at = excluded.created_at, joined_at = excluded.joined_at,
       entered_at = excluded.entered_at, left_at = excluded.left_at, consumed_ms = excluded.consumed_ms,
       updated_at = excluded.updated_at, view_type = excluded.view_type, preset_name = excluded.preset_name,
       custom_participant_id = excluded.custom_participant_id, name = excluded.name, picture = excluded.picture",
);
static KEEP_CHAT: Statement = Statement::new(
    "live_records.keep_chat",
    "INSERT INTO chat_messages (app_id, meeting_id, id, session_id, peer_id, participant_id, kind, pinned, edited, created_at,
       updated_at, targets, name, payload, bytes, grown)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $15)
     ON CONFLICT (app_id, meeting_id, id) DO UPDATE SET kind = excluded.kind, pinned = excluded.pinned,
       edited = excluded.edited, updated_at = excluded.updated_at, targets = excluded.targets, name = excluded.name,
       payload = excluded.payload, bytes = excluded.bytes, grown = excluded.bytes - chat_messages.bytes
     RETURNING grown",
);
static DELETE_CHAT: Statement = Statement::new(
    "live_records.delete_chat",
    "DELETE FROM chat_messages WHERE app_id = $1 AND meeting_id = $2 AND id = $3 RETURNING bytes",
);
static KEEP_ENTRY: Statement = Statement::new(
    "live_records.keep_entry",
    "INSERT INTO session_entries (app_id, session_id, kind, key, value) VALUES ($1, $2, $3, $4, $5)
     ON CONFLICT (app_id, session_id, kind, key) DO UPDATE SET value = excluded.value",
);
static DELETE_ENTRY: Statement = Statement::new(
    "live_records.delete_entry",
    "DELETE FROM session_entries WHERE app_id = $1 AND session_id = $2 AND kind = $3 AND key = $4",
);
static DELETE_ENTRIES: Statement = Statement::new(
    "live_records.delete_entries",
    "DELETE FROM session_entries WHERE app_id = $1 AND session_id = $2",
);
/// No client may join a breakout room of an inactive meeting.
static MEETING: Statement = Statement::new(
    "live_records.meeting",
    "SELECT m.title, m.status = 'ACTIVE' AND COALESCE(u.status, 'ACTIVE') = 'ACTIVE', m.settings, c.parent_id,
       EXISTS (SELECT 1 FROM connected_meetings r
         WHERE r.app_id = m.app_id AND r.parent_id = m.id AND r.removed_at IS NULL), m.version
     FROM meetings m
     LEFT JOIN connected_meetings c ON c.app_id = m.app_id AND c.meeting_id = m.id AND c.removed_at IS NULL
     LEFT JOIN meetings u ON u.app_id = c.app_id AND u.id = c.parent_id
     WHERE m.app_id = $1 AND m.id = $2",
);
static OPEN_SESSIONS: Statement = Statement::new(
    "live_records.open_sessions",
    "SELECT app_id, meeting_id FROM sessions WHERE ended_at IS NULL ORDER BY app_id, meeting_id",
);
static HEARTBEAT: Statement = Statement::new(
    "live_records.beat",
    "INSERT INTO servers (id, alive_at) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET alive_at = excluded.alive_at",
);
static DELETE_SERVERS: Statement = Statement::new(
    "live_records.forget_servers",
    "DELETE FROM servers WHERE alive_at < $1",
);
/// Considers only the processes that had started by the given time.
static LAST_ALIVE: Statement = Statement::new(
    "live_records.last_alive",
    "SELECT CAST(COALESCE(MAX(alive_at), 0) AS BIGINT) FROM servers WHERE id < $1",
);

pub(crate) fn statements() -> Vec<&'static Statement> {
    let mut all = vec![
        &KEEP_SESSION,
        &KEEP_PEER,
        &KEEP_CHAT,
        &DELETE_CHAT,
        &KEEP_ENTRY,
        &DELETE_ENTRY,
        &DELETE_ENTRIES,
        &MEETING,
        &OPEN_SESSIONS,
        &HEARTBEAT,
        &DELETE_SERVERS,
        &LAST_ALIVE,
    ];
    all.extend(persisted_state::STATEMENTS);
    all.extend(chat_dump::STATEMENTS);
    all.extend(chat_bytes::STATEMENTS);
    all
}

/// How long the row of a stopped process is kept.
const SERVERS_KEPT_MS: i64 = 30 * 24 * 60 * 60 * 1000;
/// Uptime after which a process deletes the rows of others. By then it has read these rows, even if
/// its clock was wrong when it started.
const SERVERS_READ_MS: i64 = 60 * 60 * 1000;

/// The scope of the tally that counts the sessions of an app or a meeting. The plain ids of the app
/// and the meeting are the scopes of the tallies of meetings and participants.
pub(crate) fn sessions_scope(id: Uuid) -> Uuid {
    const SESSIONS: u128 = 0x5e55_1025_f0a4_4d0b_8b5d_3c1b_7e0f_91d6;
    Uuid::from_u128(id.as_u128() ^ SESSIONS)
}

/// The identity of a record. Of several records with the same key, only the last is written.
#[derive(PartialEq, Eq, Hash)]
enum Key<'r> {
    Session(SessionId),
    Peer(SessionId, PeerId),
    Chat(Uuid),
    Entry(SessionId, EntryKind, &'r str),
}

impl<'r> Key<'r> {
    fn of(record: &'r Record) -> Self {
        match record {
            Record::Session(session) => Self::Session(session.id),
            Record::Peer(peer) => Self::Peer(peer.session, peer.peer),
            Record::Chat(message) => Self::Chat(message.id),
            Record::ChatDeleted(id) => Self::Chat(*id),
            Record::Entry {
                session, kind, key, ..
            } => Self::Entry(*session, *kind, key),
        }
    }
}

/// Builds a unit that writes all these records of a meeting, in order. If a session has ended, its
/// entries are deleted in the same unit.
///
/// Committing it fails with [`Error::Conflict`] if the meeting already has another live session.
pub fn unit(app: AppId, meeting: MeetingId, now_ms: i64, records: &[Record]) -> Unit {
    let ended: HashSet<SessionId> = records
        .iter()
        .filter_map(|record| match record {
            Record::Session(session) => session.ended_ms.map(|_| session.id),
            _ => None,
        })
        .collect();
    // Keys are long, and one frame may set a thousand of them, so each is hashed only once, in
    // reverse order.
    let mut seen = HashSet::with_capacity(records.len());
    let last: Vec<bool> = records
        .iter()
        .rev()
        .map(|record| seen.insert(Key::of(record)))
        .collect();
    let mut builder = UnitBuilder {
        app,
        meeting,
        now_ms,
        unit: Unit::default().keyed(writer_key(meeting)),
        steps: 0,
        messages: Vec::new(),
    };
    for (record, is_last) in records.iter().zip(last.into_iter().rev()) {
        if is_last {
            builder = builder.add(record, &ended);
        }
    }
    builder.build()
}

/// The writer key of a meeting's units. Units with the same key are committed in order.
fn writer_key(meeting: MeetingId) -> u64 {
    meeting.uuid().as_u64_pair().1
}

/// Waits until every unit of the meeting's records that this process has submitted to the store is
/// either committed or certain to fail, including those whose callers have timed out.
///
/// # Errors
/// When the store does not respond in time.
pub(crate) async fn settle(live: &LiveSessions, meeting: MeetingId) -> Result<(), Error> {
    // An empty unit, which runs after the others on the same writer.
    let last = Unit::default().keyed(writer_key(meeting));
    live.db.commit(last).await.map(drop)
}

/// A unit under construction.
struct UnitBuilder {
    app: AppId,
    meeting: MeetingId,
    now_ms: i64,
    unit: Unit,
    steps: usize,
    /// The steps that return a change of the chat's bytes, and whether that change is a deletion.
    messages: Vec<(usize, bool)>,
}

impl UnitBuilder {
    fn then(mut self, statement: &'static Statement, row: Vec<parlor_store::Value>) -> Self {
        self.unit = self.unit.then(statement, row);
        self.steps += 1;
        self
    }

    /// Returns the unit, including the change of the chat's byte count.
    fn build(self) -> Unit {
        if self.messages.is_empty() {
            return self.unit;
        }
        let messages: Arc<[(usize, bool)]> = self.messages.into();
        let grown = move |rows: &[Vec<Row>]| {
            let change = |(step, shrunk): &(usize, bool)| {
                let bytes = sum_of(rows, *step);
                if *shrunk { -bytes } else { bytes }
            };
            messages.iter().map(change).sum()
        };
        let of = (self.app.uuid(), self.meeting.uuid());
        usage::count(self.unit, StoredKind::Chat, of, grown)
    }

    fn add(mut self, record: &Record, ended: &HashSet<SessionId>) -> Self {
        let app = self.app.uuid();
        match record {
            Record::Session(session) => self.session(session),
            Record::Peer(peer) => self.peer(peer),
            Record::Chat(message) => self.chat(message),
            Record::ChatDeleted(id) => {
                let meeting = self.meeting.uuid();
                self.messages.push((self.steps, true));
                self.then(&DELETE_CHAT, values![app, meeting, *id])
            }
            Record::Entry { session, .. } if ended.contains(session) => self,
            Record::Entry {
                session,
                kind,
                key,
                value,
            } => {
                let mut row = values![app, session.uuid(), kind.as_str(), key.as_str()];
                match value {
                    None => self.then(&DELETE_ENTRY, row),
                    Some(value) => {
                        row.push((&**value).into());
                        self.then(&KEEP_ENTRY, row)
                    }
                }
            }
        }
    }

    fn session(self, session: &SessionRecord) -> Self {
        let (app, meeting, step) = (self.app, self.meeting.uuid(), self.steps);
        let row = values![
            app.uuid(),
            session.id.uuid(),
            meeting,
            session.title.as_str(),
            session.started_ms,
            session.ended_ms,
            session.live,
            session.peak,
            session.total,
            session.consumed_ms,
            self.now_ms
        ];
        let mut builder = self.then(&KEEP_SESSION, row);
        for scope in [app.uuid(), meeting] {
            // The first write of a row is the one that inserts it.
            let added = move |rows: &[Vec<Row>]| {
                let written = rows.get(step).and_then(|rows| rows.first());
                i64::from(written.and_then(|row| row.get::<i64>(0)) == Some(1))
            };
            builder.unit = count_added(builder.unit, app, sessions_scope(scope), added);
        }
        if session.ended_ms.is_some() {
            builder = builder.then(&DELETE_ENTRIES, values![app.uuid(), session.id.uuid()]);
        }
        builder
    }

    fn peer(self, peer: &PeerRecord) -> Self {
        let row = values![
            self.app.uuid(),
            peer.session.uuid(),
            peer.peer.uuid(),
            self.meeting.uuid(),
            peer.participant.uuid(),
            peer.preset.uuid(),
            peer.created_ms,
            peer.joined_ms,
            peer.entered_ms,
            peer.left_ms,
            peer.consumed_ms,
            self.now_ms,
            view_name(peer.view),
            peer.preset_name.as_str(),
            peer.custom_id.as_str(),
            peer.name.as_deref(),
            peer.picture.as_deref()
        ];
        self.then(&KEEP_PEER, row)
    }

    fn chat(mut self, message: &ChatMessage) -> Self {
        let targets: Vec<u8> = message
            .targets
            .iter()
            .flat_map(|target| target.uuid().into_bytes())
            .collect();
        let row = values![
            self.app.uuid(),
            self.meeting.uuid(),
            message.id,
            message.session.uuid(),
            message.peer.uuid(),
            message.participant.uuid(),
            message.kind.number(),
            message.pinned,
            message.edited,
            message.at_ms,
            self.now_ms,
            targets,
            message.name.as_str(),
            message.payload.as_str(),
            i64::try_from(message.stored_bytes()).unwrap_or(i64::MAX)
        ];
        self.messages.push((self.steps, false));
        self.then(&KEEP_CHAT, row)
    }
}

/// Decodes the stored recipients of a message.
fn targets(stored: &[u8]) -> Vec<ParticipantId> {
    stored
        .chunks_exact(16)
        .filter_map(|bytes| Uuid::from_slice(bytes).ok())
        .map(ParticipantId::from_uuid)
        .collect()
}

/// The name of a view type, in the database and in the API.
pub(crate) fn view_name(view: ViewType) -> &'static str {
    match view {
        ViewType::GroupCall => "GROUP_CALL",
        ViewType::Webinar => "WEBINAR",
        ViewType::AudioRoom => "AUDIO_ROOM",
        ViewType::Livestream => "LIVESTREAM",
    }
}

/// Parses the name of a view type from the database.
fn parse_view(word: &str) -> Result<ViewType, Error> {
    [
        ViewType::GroupCall,
        ViewType::Webinar,
        ViewType::AudioRoom,
        ViewType::Livestream,
    ]
    .into_iter()
    .find(|view| view_name(*view) == word)
    .ok_or_else(|| Error::Broken(format!("session_peers: unknown view type {word}")))
}

struct MeetingRow {
    title: Option<String>,
    active: bool,
    settings: MeetingSettings,
    parent: Option<Uuid>,
    has_rooms: bool,
    version: i64,
}

impl FromRow for MeetingRow {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        let settings: String = row.take(2)?;
        let settings = serde_json::from_str(&settings)
            .map_err(|error| Error::Broken(format!("meetings: {error}")))?;
        Ok(Self {
            title: row.take(0)?,
            active: row.take(1)?,
            settings,
            parent: row.take(3)?,
            has_rooms: row.take(4)?,
            version: row.take(5)?,
        })
    }
}

/// Loads the meeting that a room needs. Returns `None` if it does not exist.
///
/// # Errors
/// When the database fails.
pub(crate) async fn meeting(
    live: &LiveSessions,
    app: AppId,
    id: MeetingId,
) -> Result<Option<Meeting>, Error> {
    let found = live
        .db
        .read::<MeetingRow>(&MEETING, values![app.uuid(), id.uuid()])
        .await?
        .pop();
    Ok(found.map(|row| Meeting {
        id,
        title: row.title.unwrap_or_default(),
        active: row.active,
        persist_chat: row.settings.persist_chat,
        keep_alive_ms: i64::from(row.settings.session_keep_alive_time_in_secs) * 1000,
        parent: row.parent.map(MeetingId::from_uuid),
        has_rooms: row.has_rooms,
        version: row.version,
    }))
}

/// Sends the meeting's current settings to its room, if one runs. The change itself is already
/// committed, so a database error here is only logged.
pub(crate) async fn notify_changed(live: &LiveSessions, app: AppId, id: MeetingId) {
    // A room that starts later loads the change itself.
    if !live.is_running(app, id) {
        return;
    }
    match meeting(live, app, id).await {
        Ok(Some(meeting)) => live.send(app, id, Command::MeetingUpdated(meeting)),
        Ok(None) => {}
        Err(error) => {
            tracing::warn!(%error, meeting = %id, "a room could not be notified of a change");
        }
    }
}

struct OpenRow(AppId, MeetingId);

impl FromRow for OpenRow {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        let (app, meeting): (Uuid, Uuid) = (row.take(0)?, row.take(1)?);
        Ok(Self(AppId::from_uuid(app), MeetingId::from_uuid(meeting)))
    }
}

/// Returns the meetings with an open session, whose rooms must be started again at server start.
///
/// # Errors
/// When the database fails.
pub(crate) async fn open_sessions(live: &LiveSessions) -> Result<Vec<(AppId, MeetingId)>, Error> {
    let open = live.db.scan::<OpenRow>(&OPEN_SESSIONS, values![]).await?;
    Ok(open
        .into_iter()
        .map(|OpenRow(app, meeting)| (app, meeting))
        .collect())
}

/// Records that this process is alive, so that a later process knows when this one ended if it
/// crashes. Called every few seconds.
///
/// # Errors
/// When the database fails.
pub(crate) async fn heartbeat(live: &LiveSessions) -> Result<(), Error> {
    let clock = &live.clock;
    let mut unit = Unit::default().then(&HEARTBEAT, values![live.process, clock.now_ms()]);
    if clock.monotonic_ms() >= SERVERS_READ_MS {
        unit = unit.then(
            &DELETE_SERVERS,
            values![clock.settled_ms() - SERVERS_KEPT_MS],
        );
    }
    live.db.commit(unit).await.map(drop)
}

/// Performs the cheapest write that reaches the disk: a heartbeat.
///
/// # Errors
/// When the database fails.
pub(crate) async fn probe_write(live: &LiveSessions) -> Result<(), Error> {
    let row = values![live.process, live.clock.now_ms()];
    let unit = Unit::default().then(&HEARTBEAT, row);
    live.db.commit(unit).await.map(drop)
}

struct LastAlive(i64);

impl FromRow for LastAlive {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        row.take(0).map(Self)
    }
}

/// Returns when the process that wrote something at `wrote_ms` was last known to be alive, in Unix
/// milliseconds. Processes that started later do not count, so a new one may write its heartbeat
/// first.
///
/// # Errors
/// When the database fails.
pub(crate) async fn last_alive(live: &LiveSessions, wrote_ms: i64) -> Result<i64, Error> {
    let alive = live
        .db
        .read::<LastAlive>(&LAST_ALIVE, values![first_id_at(wrote_ms + 1)])
        .await?
        .pop();
    Ok(alive.map_or(wrote_ms, |LastAlive(alive_ms)| alive_ms.max(wrote_ms)))
}
