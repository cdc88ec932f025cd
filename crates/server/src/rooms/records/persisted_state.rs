//! The state of a meeting that its room is loaded from.

use parlor_live::{
    ChatMessage, EntryKind, Meeting, PayloadType, PeerRecord, PersistedState, SessionRecord,
};
use parlor_protocol::ids::{AppId, ParticipantId, PeerId, PresetId, SessionId};
use parlor_store::{Error, FromRow, Row, Statement, values};

use super::{last_alive, parse_view, targets};
use crate::rooms::LiveSessions;
use crate::rooms::chat_quota;

static SESSION: Statement = Statement::new(
    "live_records.past_session",
    "SELECT id, title, started_at, ended_at, live, peak, total, consumed_ms, updated_at FROM sessions
     WHERE app_id = $1 AND meeting_id = $2 AND ended_at IS NULL",
);
/// The sessions of a meeting are ordered by id.
static EARLIER: Statement = Statement::new(
    "live_records.past_earlier_session",
    "SELECT COALESCE(ended_at, started_at) FROM sessions WHERE app_id = $1 AND meeting_id = $2 ORDER BY id DESC LIMIT 1",
);
static PEERS: Statement = Statement::new(
    "live_records.past_peers",
    "SELECT session_id, peer_id, participant_id, custom_participant_id, name, picture, preset_id, preset_name, view_type,
       created_at, joined_at, entered_at, left_at, consumed_ms
     FROM session_peers WHERE app_id = $1 AND session_id = $2 ORDER BY joined_at, peer_id",
);
static ENTRIES: Statement = Statement::new(
    "live_records.past_entries",
    "SELECT kind, key, value FROM session_entries WHERE app_id = $1 AND session_id = $2 ORDER BY kind, key",
);
static CHAT_OF_MEETING: Statement = Statement::new(
    "live_records.past_chat_of_meeting",
    "SELECT id, session_id, peer_id, participant_id, name, kind, payload, pinned, edited, targets, created_at
     FROM chat_messages WHERE app_id = $1 AND meeting_id = $2 ORDER BY id DESC LIMIT $3",
);
static CHAT_OF_SESSION: Statement = Statement::new(
    "live_records.past_chat_of_session",
    "SELECT id, session_id, peer_id, participant_id, name, kind, payload, pinned, edited, targets, created_at
     FROM chat_messages WHERE app_id = $1 AND session_id = $2 ORDER BY id DESC LIMIT $3",
);

/// The number of newest messages that fit into a number of bytes.
static FITTING_OF_MEETING: Statement = Statement::new(
    "live_records.fitting_chat_of_meeting",
    "SELECT COUNT(*) FROM (SELECT SUM(m.bytes) OVER (ORDER BY m.id DESC) AS upto FROM
       (SELECT id, OCTET_LENGTH(payload) AS bytes FROM chat_messages
        WHERE app_id = $1 AND meeting_id = $2 ORDER BY id DESC LIMIT $3) m) n
     WHERE n.upto <= $4",
);
static FITTING_OF_SESSION: Statement = Statement::new(
    "live_records.fitting_chat_of_session",
    "SELECT COUNT(*) FROM (SELECT SUM(m.bytes) OVER (ORDER BY m.id DESC) AS upto FROM
       (SELECT id, OCTET_LENGTH(payload) AS bytes FROM chat_messages
        WHERE app_id = $1 AND session_id = $2 ORDER BY id DESC LIMIT $3) m) n
     WHERE n.upto <= $4",
);

pub(super) static STATEMENTS: [&Statement; 8] = [
    &FITTING_OF_MEETING,
    &FITTING_OF_SESSION,
    &SESSION,
    &EARLIER,
    &PEERS,
    &ENTRIES,
    &CHAT_OF_MEETING,
    &CHAT_OF_SESSION,
];

struct SessionRow {
    session: SessionRecord,
    updated_ms: i64,
}

impl FromRow for SessionRow {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        Ok(Self {
            session: SessionRecord {
                id: SessionId::from_uuid(row.take(0)?),
                title: row.take(1)?,
                started_ms: row.take(2)?,
                ended_ms: row.take(3)?,
                live: row.take(4)?,
                peak: row.take(5)?,
                total: row.take(6)?,
                consumed_ms: row.take(7)?,
            },
            updated_ms: row.take(8)?,
        })
    }
}

struct PeerRow(PeerRecord);

impl FromRow for PeerRow {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        let view: String = row.take(8)?;
        Ok(Self(PeerRecord {
            session: SessionId::from_uuid(row.take(0)?),
            peer: PeerId::from_uuid(row.take(1)?),
            participant: ParticipantId::from_uuid(row.take(2)?),
            custom_id: row.take(3)?,
            name: row.take(4)?,
            picture: row.take(5)?,
            preset: PresetId::from_uuid(row.take(6)?),
            preset_name: row.take(7)?,
            view: parse_view(&view)?,
            created_ms: row.take(9)?,
            joined_ms: row.take(10)?,
            entered_ms: row.take(11)?,
            left_ms: row.take(12)?,
            consumed_ms: row.take(13)?,
        }))
    }
}

struct EntryRow(EntryKind, String, Vec<u8>);

impl FromRow for EntryRow {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        let kind: String = row.take(0)?;
        let kind = EntryKind::from_word(&kind)
            .ok_or_else(|| Error::Broken(format!("session_entries: unknown kind {kind}")))?;
        Ok(Self(kind, row.take(1)?, row.take(2)?))
    }
}

/// A message row.
pub(super) struct ChatRow(pub(super) ChatMessage);

impl FromRow for ChatRow {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        let kind: i64 = row.take(5)?;
        let known = i32::try_from(kind).ok().and_then(PayloadType::from_number);
        let stored: Vec<u8> = row.take(9)?;
        Ok(Self(ChatMessage {
            id: row.take(0)?,
            session: SessionId::from_uuid(row.take(1)?),
            peer: PeerId::from_uuid(row.take(2)?),
            participant: ParticipantId::from_uuid(row.take(3)?),
            name: row.take(4)?,
            kind: known
                .ok_or_else(|| Error::Broken(format!("chat_messages: unknown kind {kind}")))?,
            payload: row.take(6)?,
            pinned: row.take(7)?,
            edited: row.take(8)?,
            targets: targets(&stored),
            at_ms: row.take(10)?,
        }))
    }
}

/// Loads the state of a room: the session that has not ended, with its peers, entries and messages.
/// If the meeting persists its chat, loads the messages of every session, even without an open one.
/// Returns at most the `chat_held` newest messages, oldest first.
///
/// # Errors
/// When the database fails.
pub(crate) async fn load_state(
    live: &LiveSessions,
    app: AppId,
    meeting: &Meeting,
    chat_held: usize,
) -> Result<PersistedState, Error> {
    let (db, key) = (&live.db, values![app.uuid(), meeting.id.uuid()]);
    let (chat_bytes, chat_full) = chat_quota::of_room(live, app.uuid(), meeting.id.uuid()).await?;
    let held = (chat_held, chat_bytes);
    let of_meeting = [&CHAT_OF_MEETING, &FITTING_OF_MEETING];
    let of_session_only = [&CHAT_OF_SESSION, &FITTING_OF_SESSION];
    let Some(SessionRow {
        session,
        updated_ms,
    }) = db.read::<SessionRow>(&SESSION, key.clone()).await?.pop()
    else {
        let earlier = db.read::<Row>(&EARLIER, key.clone()).await?.pop();
        let chat = if meeting.persist_chat {
            chat(live, of_meeting, key, held).await?
        } else {
            Vec::new()
        };
        return Ok(PersistedState {
            chat,
            earlier_ms: earlier.map_or(Ok(0), |mut row| row.take(0))?,
            chat_bytes,
            chat_full,
            ..PersistedState::default()
        });
    };
    let of_session = values![app.uuid(), session.id.uuid()];
    let peers = db.scan::<PeerRow>(&PEERS, of_session.clone()).await?;
    let entries = db.scan::<EntryRow>(&ENTRIES, of_session.clone()).await?;
    let chat = if meeting.persist_chat {
        chat(live, of_meeting, key, held).await?
    } else {
        chat(live, of_session_only, of_session, held).await?
    };
    Ok(PersistedState {
        chat_bytes,
        chat_full,
        session: Some(session),
        peers: peers.into_iter().map(|PeerRow(peer)| peer).collect(),
        entries: entries
            .into_iter()
            .map(|EntryRow(kind, key, value)| (kind, key, value))
            .collect(),
        chat,
        last_alive_ms: last_alive(live, updated_ms).await?,
        earlier_ms: 0,
    })
}

/// Loads the newest messages, oldest first, within the bounds on the number and bytes of messages
/// that a room holds.
async fn chat(
    live: &LiveSessions,
    [newest, fitting]: [&'static Statement; 2],
    mut key: Vec<parlor_store::Value>,
    (held, stored_bytes): (usize, u64),
) -> Result<Vec<ChatMessage>, Error> {
    let mut held = i64::try_from(held).unwrap_or(i64::MAX);
    let held_bytes = live.limits.room.chat_held_bytes;
    let held_bytes = i64::try_from(held_bytes).unwrap_or(i64::MAX);
    if stored_bytes > held_bytes.unsigned_abs() {
        let mut key = key.clone();
        key.extend(values![held, held_bytes]);
        let fitting = live.db.scan::<Row>(fitting, key).await?;
        held = fitting.first().and_then(|row| row.get(0)).unwrap_or(held);
    }
    key.push(held.into());
    let rows = live.db.scan::<ChatRow>(newest, key).await?;
    Ok(rows
        .into_iter()
        .rev()
        .map(|ChatRow(message)| message)
        .collect())
}
