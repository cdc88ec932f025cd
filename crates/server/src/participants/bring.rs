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

/// Somebody on the way to another meeting.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Passage<'a> {
    /// Who, in the meeting they come from.
    pub(crate) participant: ParticipantId,
    /// The preset they are to have there.
    pub(crate) preset: Option<PresetId>,
    /// The custom id that nobody is added with: whoever was deleted from a meeting must not bring
    /// themselves back.
    pub(crate) barred: Option<&'a str>,
}

/// Brings a participant of one meeting to another. Who is known there by the same custom id stays
/// what they are there, but for a preset that is named; anybody else is added with their name,
/// picture and preset. Answers with who they are there and what they join with; `None` when there is
/// no such participant or preset, or they may not be added.
///
/// # Errors
/// When the database fails.
pub(crate) async fn bring(
    parlor: &Parlor,
    app: AppId,
    (from, to): (MeetingId, MeetingId),
    passage: Passage<'_>,
) -> Result<Option<(Participant, String)>, ApiError> {
    let coming = Address::Id(passage.participant);
    let Some(who) = find(parlor, app, from, &coming).await? else {
        return Ok(None);
    };
    let now_ms = parlor.clock.now_ms();
    let minter = Minter::new(parlor, app, to, now_ms);
    let same = Address::CustomId(who.custom_participant_id.clone());
    let known = find(parlor, app, to, &same).await?;
    let as_known = |known| {
        let added = minter.add(known, parlor.limits.token_life_secs);
        (added.participant, added.token)
    };
    match (known, passage.preset) {
        (Some(known), None) => return Ok(Some(as_known(known))),
        (None, _) if passage.barred == Some(&who.custom_participant_id) => return Ok(None),
        _ => {}
    }
    let preset = passage.preset.unwrap_or(who.preset_id);
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
    let place = (app, to);
    let keep = passage.preset.is_none();
    let (unit, addition) =
        Addition::plan(Unit::default(), parlor, place, &new, now_ms, (keep, true))?;
    let counted = addition.clone();
    let unit = count_added(unit, app, to.uuid(), move |rows| {
        rows.first().is_some_and(|rows| counted.is_new(rows)).into()
    });
    let unit = unit.keyed(writer_key(to.uuid(), &new.custom_participant_id));
    let rows = match parlor.db.commit(unit).await {
        Ok(rows) => rows,
        // The meeting or the preset is gone, or somebody else has added them a moment ago.
        Err(Error::WrongCount { .. }) if keep => {
            return Ok(find(parlor, app, to, &same).await?.map(as_known));
        }
        Err(Error::WrongCount { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let added = addition.answer(&minter, rows.first().map_or(&[][..], Vec::as_slice))?;
    Ok(added.map(|added| (added.participant, added.token)))
}

struct Name(String);

impl parlor_store::FromRow for Name {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        Ok(Self(row.take(0)?))
    }
}
