//! Transfers participants to another meeting of the app, for breakout rooms.

use parlor_protocol::ids::{AppId, MeetingId, ParticipantId, PresetId};
use parlor_store::{Error, FromRow, Row, Statement, Unit, values};
use uuid::Uuid;

use super::TokenIssuer;
use crate::rest::meetings;
use crate::state::ServerState;
use crate::tallies::count_added;

/// Number of participants transferred in one unit: enough to amortize the commit, and few enough
/// not to block other writers.
pub(crate) const TRANSFER_BATCH: usize = 50;
/// Minimum lifetime of a token issued by a transfer, in seconds. Clients use it immediately.
const TOKEN_LIFE_MIN_SECS: i64 = 120;

/// Locks the row, so that a concurrent deletion happens before or after the transfer.
static LOCK_SOURCE: Statement = Statement::new(
    "participants.leave",
    "UPDATE participants SET updated_at = updated_at WHERE app_id = $1 AND meeting_id = $2 AND id = $3",
);
/// Sets the requested preset on a participant that the target meeting already has. Never adds one.
static SET_PRESET: Statement = Statement::new(
    "participants.promote",
    "UPDATE participants SET preset_id = $5, updated_at = $6
     WHERE app_id = $1 AND meeting_id = $2 AND custom_participant_id =
       (SELECT s.custom_participant_id FROM participants s WHERE s.app_id = $1 AND s.meeting_id = $3 AND s.id = $4)
       AND EXISTS (SELECT 1 FROM presets r WHERE r.app_id = $1 AND r.id = $5 AND r.retired_at IS NULL)",
);
/// Adds the participant to the target meeting if it is not there yet, except for the custom id that
/// is never added.
static COPY: Statement = Statement::new(
    "participants.bring",
    "INSERT INTO participants
       (app_id, meeting_id, id, preset_id, created_at, updated_at, custom_participant_id, name, search_name, picture)
     SELECT s.app_id, m.id, $5, r.id, $6, $6, s.custom_participant_id, s.name, s.search_name, s.picture
     FROM participants s
     JOIN meetings m ON m.app_id = s.app_id AND m.id = $2
     JOIN presets r ON r.app_id = s.app_id AND r.id = COALESCE($7, s.preset_id) AND r.retired_at IS NULL
     WHERE s.app_id = $1 AND s.meeting_id = $3 AND s.id = $4 AND s.custom_participant_id <> $8
     ON CONFLICT (app_id, meeting_id, custom_participant_id) DO NOTHING
     RETURNING id",
);
/// Reads the participant's record in the target meeting.
static TRANSFERRED: Statement = Statement::new(
    "participants.arrived",
    "SELECT p.id, p.custom_participant_id, p.preset_id
     FROM participants s
     JOIN participants p ON p.app_id = s.app_id AND p.meeting_id = $2 AND p.custom_participant_id = s.custom_participant_id
     WHERE s.app_id = $1 AND s.meeting_id = $3 AND s.id = $4",
);

pub(super) static STATEMENTS: [&Statement; 4] = [&LOCK_SOURCE, &SET_PRESET, &COPY, &TRANSFERRED];

/// The source and the target of a transfer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Route<'a> {
    /// The app.
    pub(crate) app: AppId,
    /// The parent meeting of the breakout rooms.
    pub(crate) parent: MeetingId,
    /// The source meeting.
    pub(crate) from: MeetingId,
    /// The target meeting.
    pub(crate) to: MeetingId,
    /// The custom id of the participant who requested the transfer. It is never added to the target
    /// meeting, so that a deleted participant cannot add itself again.
    pub(crate) never_add: Option<&'a str>,
}

/// A participant to transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ParticipantTransfer {
    /// The participant in the source meeting.
    pub(crate) participant: ParticipantId,
    /// The preset in the target meeting; `None` keeps the current one.
    pub(crate) preset: Option<PresetId>,
    /// When the participant's current token expires, in Unix seconds.
    pub(crate) token_expires: Option<i64>,
}

/// A participant after a transfer.
#[derive(Debug, Clone)]
pub(crate) struct TransferredParticipant {
    /// The participant's custom id.
    pub(crate) custom_participant_id: String,
    /// The join token for the target meeting.
    pub(crate) token: String,
}

/// Transfers participants to another meeting in one unit. A participant whose custom id exists in
/// the target meeting keeps its record there, except that a requested preset is applied; any other
/// is added with its name, picture and preset. Returns each participant with a join token, or
/// `None` when the participant or preset does not exist, or when it may not be added. The token
/// expires together with the participant's current token, but not within the next two minutes.
///
/// # Errors
/// When the database fails.
pub(crate) async fn transfer(
    state: &ServerState,
    route: Route<'_>,
    transfers: &[ParticipantTransfer],
) -> Result<Vec<Option<TransferredParticipant>>, Error> {
    let now_ms = state.clock.now_ms();
    let Plan {
        unit,
        added,
        results,
    } = plan(state, route, transfers, now_ms);
    let added = move |rows: &[Vec<Row>]| {
        let rows = added.iter().filter_map(|step| rows.get(*step));
        i64::try_from(rows.map(Vec::len).sum::<usize>()).unwrap_or(i64::MAX)
    };
    let unit = count_added(unit, route.app, route.to.uuid(), added);
    let rows = match state.db.commit(unit).await {
        Ok(rows) => rows,
        // The parent meeting was deleted, with all its participants.
        Err(Error::WrongCount { .. }) => return Ok(vec![None; transfers.len()]),
        Err(error) => return Err(error),
    };
    let issuer = TokenIssuer::new(state, route.app, route.to, now_ms);
    let mut transferred = Vec::with_capacity(transfers.len());
    for (transfer, step) in transfers.iter().zip(results) {
        let Some(row) = rows.get(step).and_then(|rows| rows.first()) else {
            transferred.push(None);
            continue;
        };
        let TransferredRow { id, custom, preset } = TransferredRow::from_row(row.clone())?;
        // The requested preset does not exist.
        if transfer.preset.is_some_and(|wanted| wanted != preset) {
            transferred.push(None);
            continue;
        }
        let soonest = now_ms / 1000 + TOKEN_LIFE_MIN_SECS;
        let expires = transfer.token_expires.unwrap_or(soonest).max(soonest);
        let (token, _) = issuer.issue_until(id, preset, expires);
        transferred.push(Some(TransferredParticipant {
            custom_participant_id: custom,
            token,
        }));
    }
    Ok(transferred)
}

/// A unit that transfers participants, and the indexes of the steps that report the results.
struct Plan {
    unit: Unit,
    added: Vec<usize>,
    results: Vec<usize>,
}

fn plan(
    state: &ServerState,
    route: Route<'_>,
    transfers: &[ParticipantTransfer],
    now_ms: i64,
) -> Plan {
    let (app, from, to) = (route.app.uuid(), route.from.uuid(), route.to.uuid());
    let never_add = route.never_add.unwrap_or_default();
    let mut unit = meetings::lock(Unit::default(), route.app, route.parent);
    let (mut added, mut results, mut steps) = (Vec::new(), Vec::new(), 1);
    for transfer in transfers {
        let participant = transfer.participant.uuid();
        unit = unit.then(&LOCK_SOURCE, values![app, from, participant]);
        steps += 1;
        if let Some(preset) = transfer.preset {
            unit = unit.then(
                &SET_PRESET,
                values![app, to, from, participant, preset.uuid(), now_ms],
            );
            steps += 1;
        }
        let (id, preset) = (
            state.clock.new_id(now_ms),
            transfer.preset.map(PresetId::uuid),
        );
        unit = unit
            .then(
                &COPY,
                values![app, to, from, participant, id, now_ms, preset, never_add],
            )
            .then(&TRANSFERRED, values![app, to, from, participant]);
        added.push(steps);
        results.push(steps + 1);
        steps += 2;
    }
    Plan {
        unit,
        added,
        results,
    }
}

/// A row of [`TRANSFERRED`].
struct TransferredRow {
    id: ParticipantId,
    custom: String,
    preset: PresetId,
}

impl FromRow for TransferredRow {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        let (id, preset): (Uuid, Uuid) = (row.take(0)?, row.take(2)?);
        Ok(Self {
            id: ParticipantId::from_uuid(id),
            custom: row.take(1)?,
            preset: PresetId::from_uuid(preset),
        })
    }
}
