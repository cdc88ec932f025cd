//! Taking a participant over into another meeting of the app: for breakout rooms.

use parlor_protocol::ids::{AppId, MeetingId, ParticipantId, PresetId};
use parlor_store::{Error, Row, Statement, Unit, values};

use super::add::{Addition, NewParticipant};
use super::{Address, Minter, Participant, find, writer_key};
use crate::api::paging::count_added;
use crate::api::{ApiError, Patch};
use crate::parlor::Parlor;

static PRESET_NAME: Statement = Statement::new(
    "participants.preset_name",
    "SELECT name FROM presets WHERE app_id = $1 AND id = $2 AND retired_at IS NULL",
);

pub(super) static STATEMENTS: [&Statement; 1] = [&PRESET_NAME];

/// Adds a participant of one meeting to another, with the same custom id, name and picture, and
/// with their own preset or the one that is named. Answers with who they are there and what they
/// join with; `None` when there is no such participant or preset.
///
/// # Errors
/// When the database fails or the other meeting is gone.
pub(crate) async fn bring(
    parlor: &Parlor,
    app: AppId,
    (from, to): (MeetingId, MeetingId),
    participant: ParticipantId,
    preset: Option<PresetId>,
) -> Result<Option<(Participant, String)>, ApiError> {
    let Some(who) = find(parlor, app, from, &Address::Id(participant)).await? else {
        return Ok(None);
    };
    let preset = preset.unwrap_or(who.preset_id);
    let named = values![app.uuid(), preset.uuid()];
    let Some(preset_name) = parlor.db.read::<Name>(&PRESET_NAME, named).await?.pop() else {
        return Ok(None);
    };
    let set = |value: Option<String>| value.map_or(Patch::Absent, Patch::Set);
    let new = NewParticipant::new(
        who.custom_participant_id,
        preset_name.0,
        set(who.name),
        set(who.picture),
    );
    let now_ms = parlor.clock.now_ms();
    let place = (app, to);
    let (unit, addition) =
        Addition::plan(Unit::default(), parlor, place, &new, now_ms, (false, true))?;
    let counted = addition.clone();
    let unit = count_added(unit, app, to.uuid(), move |rows| {
        rows.first().is_some_and(|rows| counted.is_new(rows)).into()
    });
    let unit = unit.keyed(writer_key(to.uuid(), &new.custom_participant_id));
    let rows = match parlor.db.commit(unit).await {
        Ok(rows) => rows,
        Err(Error::WrongCount { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let minter = Minter::new(parlor, app, to, now_ms);
    let added = addition.answer(&minter, rows.first().map_or(&[][..], Vec::as_slice))?;
    Ok(added.map(|added| (added.participant, added.token)))
}

struct Name(String);

impl parlor_store::FromRow for Name {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        Ok(Self(row.take(0)?))
    }
}
