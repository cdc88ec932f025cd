//! The chat of a session as CSV (RFC 4180; docs/spec/rest.md 6).

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::try_unfold;
use parlor_live::{ChatMessage, PayloadType};
use parlor_protocol::ids::{AppId, MeetingId, SessionId};
use parlor_store::{Error, FromRow, Row, Statement, values};
use uuid::Uuid;

use super::persisted_state::ChatRow;
use crate::clock::rfc3339;
use crate::rooms::LiveSessions;

static PUBLIC: Statement = Statement::new(
    "live_records.public_chat",
    "SELECT id, session_id, peer_id, participant_id, name, kind, payload, pinned, edited, targets, created_at, meeting_id
     FROM chat_messages WHERE app_id = $1 AND session_id = $2 AND id > $3 AND LENGTH(targets) = 0 ORDER BY id LIMIT $4",
);
/// The number of next messages that fit into a number of bytes.
static FITTING: Statement = Statement::new(
    "live_records.fitting_chat",
    "SELECT COUNT(*) FROM (SELECT SUM(m.bytes) OVER (ORDER BY m.id) AS upto FROM
       (SELECT id, OCTET_LENGTH(payload) AS bytes FROM chat_messages
        WHERE app_id = $1 AND session_id = $2 AND id > $3 AND LENGTH(targets) = 0 ORDER BY id LIMIT $4) m) n
     WHERE n.upto <= $5",
);
static ANY_PUBLIC: Statement = Statement::new(
    "live_records.any_public_chat",
    "SELECT id FROM chat_messages WHERE app_id = $1 AND session_id = $2 AND LENGTH(targets) = 0 LIMIT 1",
);

pub(super) static STATEMENTS: [&Statement; 3] = [&PUBLIC, &FITTING, &ANY_PUBLIC];

/// Maximum number of messages that are read at once.
const CHUNK: i64 = 500;
/// Maximum bytes of these messages, unless a single one is longer.
const CHUNK_BYTES: i64 = 1 << 20;
/// Approximate maximum size of a piece of CSV, in bytes: every character of the messages may be a
/// quote, and each row has ids and timestamps.
pub(crate) const CHAT_PIECE_BYTES: usize = (2 << 20) + 500 * 512;
const HEADER: &str = "id,participantId,sessionId,meetingId,displayName,pinned,isEdited,payloadType,payload,createdAt\r\n";

struct DumpRow(ChatMessage, MeetingId);

impl FromRow for DumpRow {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        let meeting: Uuid = row.take(11)?;
        let ChatRow(message) = ChatRow::from_row(row)?;
        Ok(Self(message, MeetingId::from_uuid(meeting)))
    }
}

impl DumpRow {
    fn write(&self, csv: &mut String) {
        let Self(message, meeting) = self;
        let kind = match message.kind {
            PayloadType::Text => "TEXT_MESSAGE",
            PayloadType::Image => "IMAGE_MESSAGE",
            PayloadType::File => "FILE_MESSAGE",
            PayloadType::Custom => "CUSTOM_MESSAGE",
        };
        let written = write!(
            csv,
            "{},{},{},{meeting},{},{},{},{kind},{},{}\r\n",
            message.id,
            message.participant,
            message.session,
            quoted(&message.name),
            message.pinned,
            message.edited,
            quoted(&message.payload),
            rfc3339(message.at_ms),
        );
        written.expect("writing to a string cannot fail");
    }
}

/// Quotes user input as a CSV cell. A value that a spreadsheet might evaluate as a formula is
/// prefixed with an apostrophe.
fn quoted(field: &str) -> String {
    let formula = field.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let defused = if formula { "'" } else { "" };
    format!("\"{defused}{}\"", field.replace('"', "\"\""))
}

/// Whether a session has public messages.
///
/// # Errors
/// When the database fails.
pub(crate) async fn has_chat(
    live: &LiveSessions,
    app: AppId,
    session: SessionId,
) -> Result<bool, Error> {
    let key = values![app.uuid(), session.uuid()];
    let found = live.db.scan::<Row>(&ANY_PUBLIC, key).await?;
    Ok(!found.is_empty())
}

/// Streams the public messages of a session as CSV with a header, oldest first, a few hundred at a
/// time. Private messages are excluded, because a reader of the dump need not be one of their
/// recipients.
pub(crate) fn chat_csv(
    live: Arc<LiveSessions>,
    app: AppId,
    session: SessionId,
) -> impl Stream<Item = Result<Bytes, Error>> + Send {
    let start = (Some(Uuid::nil()), HEADER.to_owned());
    try_unfold(start, move |(after, mut csv)| {
        let live = Arc::clone(&live);
        async move {
            let Some(after) = after else { return Ok(None) };
            let next =
                |rest: [i64; 2]| values![app.uuid(), session.uuid(), after, rest[0], rest[1]];
            let fitting = live.db.scan::<Row>(&FITTING, next([CHUNK, CHUNK_BYTES]));
            let fitting = fitting.await?.first().and_then(|row| row.get::<i64>(0));
            let fitting = fitting.unwrap_or_default().max(1);
            let key = values![app.uuid(), session.uuid(), after, fitting];
            let rows = live.db.scan::<DumpRow>(&PUBLIC, key).await?;
            let next = rows.last().map(|DumpRow(message, _)| message.id);
            for row in &rows {
                row.write(&mut csv);
            }
            Ok(Some((Bytes::from(csv), (next, String::new()))))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn quotes_are_doubled_and_lines_stay_inside() {
        assert_eq!(quoted("a \"b\",\r\nc"), "\"a \"\"b\"\",\r\nc\"");
    }

    #[test]
    fn no_cell_is_a_formula() {
        for formula in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"] {
            assert_eq!(quoted(formula), format!("\"'{formula}\""));
        }
        assert_eq!(quoted("a=1"), "\"a=1\"");
    }
}
