//! Taking participants over into another meeting of the app: for breakout rooms.

use parlor_protocol::ids::{AppId, MeetingId, ParticipantId, PresetId};
use parlor_store::{Error, FromRow, Row, Statement, Unit, values};
use uuid::Uuid;

use super::Minter;
use crate::rest::meetings;
use crate::state::Parlor;
use crate::tallies::count_added;

/// People who are moved in one unit: enough to make moving many cheap, and few enough that others do
/// not wait for it.
pub(crate) const MOVED_AT_ONCE: usize = 50;
/// The least that a token of a move lives, in seconds: clients use it at once.
const MOVED_SECS: i64 = 120;

/// Locks the row, so that a concurrent delete happens before or after the move.
static LEAVE: Statement = Statement::new(
    "participants.leave",
    "UPDATE participants SET updated_at = updated_at WHERE app_id = $1 AND meeting_id = $2 AND id = $3",
);
/// Who is in the other meeting already gets the preset that is named. Never adds anybody.
static PROMOTE: Statement = Statement::new(
    "participants.promote",
    "UPDATE participants SET preset_id = $5, updated_at = $6
     WHERE app_id = $1 AND meeting_id = $2 AND custom_participant_id =
       (SELECT s.custom_participant_id FROM participants s WHERE s.app_id = $1 AND s.meeting_id = $3 AND s.id = $4)
       AND EXISTS (SELECT 1 FROM presets r WHERE r.app_id = $1 AND r.id = $5 AND r.retired_at IS NULL)",
);
/// Adds whoever is a participant of the one meeting and not of the other, but for the custom id that
/// is never added.
static BRING: Statement = Statement::new(
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
/// Who somebody of the one meeting is in the other.
static ARRIVED: Statement = Statement::new(
    "participants.arrived",
    "SELECT p.id, p.custom_participant_id, p.preset_id
     FROM participants s
     JOIN participants p ON p.app_id = s.app_id AND p.meeting_id = $2 AND p.custom_participant_id = s.custom_participant_id
     WHERE s.app_id = $1 AND s.meeting_id = $3 AND s.id = $4",
);

pub(super) static STATEMENTS: [&Statement; 4] = [&LEAVE, &PROMOTE, &BRING, &ARRIVED];

/// From where to where people are moved.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Route<'a> {
    /// The app.
    pub(crate) app: AppId,
    /// The meeting whose breakout rooms they are.
    pub(crate) parent: MeetingId,
    /// The meeting they come from.
    pub(crate) from: MeetingId,
    /// The meeting they go to.
    pub(crate) to: MeetingId,
    /// The custom id that nobody is added with: whoever was deleted from a meeting must not bring
    /// themselves back.
    pub(crate) never_add: Option<&'a str>,
}

/// Somebody on the way to another meeting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Passage {
    /// Who, in the meeting they come from.
    pub(crate) participant: ParticipantId,
    /// The preset they are to have there.
    pub(crate) preset: Option<PresetId>,
    /// When the token expires that they are here with, Unix seconds.
    pub(crate) token_expires: Option<i64>,
}

/// Who somebody has become.
#[derive(Debug, Clone)]
pub(crate) struct Brought {
    /// The app's own id of this person.
    pub(crate) custom_participant_id: String,
    /// What they join with.
    pub(crate) token: String,
}

/// Brings participants of one meeting to another, in one unit. Who is known there by the same custom id
/// stays what they are there, but for a preset that is named; anybody else is added with their name,
/// picture and preset. Answers with who each is there and what they join with; `None` when there is no
/// such participant or preset, or they may not be added. The token expires when the one does that they
/// are here with, and not before two minutes have passed.
///
/// # Errors
/// When the database fails.
pub(crate) async fn bring(
    parlor: &Parlor,
    way: Route<'_>,
    people: &[Passage],
) -> Result<Vec<Option<Brought>>, Error> {
    let now_ms = parlor.clock.now_ms();
    let Plan {
        unit,
        added,
        arrived,
    } = plan(parlor, way, people, now_ms);
    let added = move |rows: &[Vec<Row>]| {
        let rows = added.iter().filter_map(|step| rows.get(*step));
        i64::try_from(rows.map(Vec::len).sum::<usize>()).unwrap_or(i64::MAX)
    };
    let unit = count_added(unit, way.app, way.to.uuid(), added);
    let rows = match parlor.db.commit(unit).await {
        Ok(rows) => rows,
        // The meeting is gone, and everybody in it.
        Err(Error::WrongCount { .. }) => return Ok(vec![None; people.len()]),
        Err(error) => return Err(error),
    };
    let minter = Minter::new(parlor, way.app, way.to, now_ms);
    let mut brought = Vec::with_capacity(people.len());
    for (passage, step) in people.iter().zip(arrived) {
        let Some(row) = rows.get(step).and_then(|rows| rows.first()) else {
            brought.push(None);
            continue;
        };
        let Arrived { id, custom, preset } = Arrived::from_row(row.clone())?;
        // A preset that does not exist is nobody's.
        if passage.preset.is_some_and(|wanted| wanted != preset) {
            brought.push(None);
            continue;
        }
        let soonest = now_ms / 1000 + MOVED_SECS;
        let expires = passage.token_expires.unwrap_or(soonest).max(soonest);
        let (token, _) = minter.mint_until(id, preset, expires);
        brought.push(Some(Brought {
            custom_participant_id: custom,
            token,
        }));
    }
    Ok(brought)
}

/// A unit that moves people, and which of its steps say what came of it.
struct Plan {
    unit: Unit,
    added: Vec<usize>,
    arrived: Vec<usize>,
}

fn plan(parlor: &Parlor, way: Route<'_>, people: &[Passage], now_ms: i64) -> Plan {
    let (app, from, to) = (way.app.uuid(), way.from.uuid(), way.to.uuid());
    let never_add = way.never_add.unwrap_or_default();
    let mut unit = meetings::hold(Unit::default(), way.app, way.parent);
    let (mut added, mut arrived, mut steps) = (Vec::new(), Vec::new(), 1);
    for passage in people {
        let who = passage.participant.uuid();
        unit = unit.then(&LEAVE, values![app, from, who]);
        steps += 1;
        if let Some(preset) = passage.preset {
            unit = unit.then(&PROMOTE, values![app, to, from, who, preset.uuid(), now_ms]);
            steps += 1;
        }
        let (id, preset) = (
            parlor.clock.new_id(now_ms),
            passage.preset.map(PresetId::uuid),
        );
        unit = unit
            .then(
                &BRING,
                values![app, to, from, who, id, now_ms, preset, never_add],
            )
            .then(&ARRIVED, values![app, to, from, who]);
        added.push(steps);
        arrived.push(steps + 1);
        steps += 2;
    }
    Plan {
        unit,
        added,
        arrived,
    }
}

/// A row of [`ARRIVED`].
struct Arrived {
    id: ParticipantId,
    custom: String,
    preset: PresetId,
}

impl FromRow for Arrived {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        let (id, preset): (Uuid, Uuid) = (row.take(0)?, row.take(2)?);
        Ok(Self {
            id: ParticipantId::from_uuid(id),
            custom: row.take(1)?,
            preset: PresetId::from_uuid(preset),
        })
    }
}
