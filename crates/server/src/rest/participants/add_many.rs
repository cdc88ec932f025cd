//! `POST …/participants/bulk`: add many people at once, all of them or none. An extension.

use std::collections::HashSet;

use garde::Validate;
use http::Method;
use parlor_store::{Row, Unit};
use schemars::JsonSchema;
use serde::Deserialize;

use super::add::{Addition, IF_EXISTS, NewParticipant, rejects, why_not};
use super::{Added, Minter, writer_key};
use crate::http::{ApiError, Call, Data, Endpoint, Nothing, Problem, Uncommitted};
use crate::rest::meetings::OneMeeting;
use crate::tallies::count_added;

/// People in one request.
const PARTICIPANTS_MAX: usize = 1000;

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(Method::POST, "/meetings/{meeting_id}/participants/bulk", "addParticipants", answer)
        .created()
        .may_conflict()
        .reads(&IF_EXISTS)
        .describe(
            "Add many participants",
            "Adds up to 1,000 people in one commit, all or none. `data` has them in the same order; the pointer of an \
             error names the item. Not in RealtimeKit.",
        )
}

/// The people to add.
#[derive(Debug, Deserialize, Validate, JsonSchema)]
struct NewParticipants {
    /// 1 to 1,000 people, each custom id once.
    #[garde(length(min = 1, max = PARTICIPANTS_MAX), dive)]
    participants: Vec<NewParticipant>,
}

impl NewParticipants {
    fn each_once(&self) -> Result<(), ApiError> {
        let mut seen = HashSet::new();
        for (index, new) in self.participants.iter().enumerate() {
            if !seen.insert(&new.custom_participant_id) {
                let message = format!(
                    "BAD_REQUEST: \"participants[{index}].custom_participant_id\" stands there more than once"
                );
                let pointer = format!("/participants/{index}/custom_participant_id");
                return Err(ApiError::invalid(vec![Problem::at(pointer, message)]));
            }
        }
        Ok(())
    }
}

async fn answer(
    call: Call<OneMeeting, Nothing, NewParticipants>,
) -> Result<Data<Vec<Added>>, ApiError> {
    call.body.each_once()?;
    let place = (call.app, call.path.meeting_id);
    let reject = rejects(&call.parlor, &call.headers)?;
    let people = &call.body.participants;
    // Rows are locked in one order everywhere, so that two requests never wait for each other.
    let mut order: Vec<usize> = (0..people.len()).collect();
    order.sort_by_key(|index| writer_key(place.1.uuid(), &people[*index].custom_participant_id));
    let mut unit = Unit::default().keyed(writer_key(
        place.1.uuid(),
        &people[order[0]].custom_participant_id,
    ));
    let mut additions = Vec::with_capacity(people.len());
    for index in &order {
        let planned = Addition::plan(
            unit,
            &call.parlor,
            place,
            &people[*index],
            call.now_ms,
            (reject, true),
        );
        let (next, addition) =
            planned.map_err(|error| error.under(&format!("/participants/{index}")))?;
        additions.push((*index, addition));
        unit = next;
    }
    let counted: Vec<Addition> = additions
        .iter()
        .map(|(_, addition)| addition.clone())
        .collect();
    let unit = count_added(unit, place.0, place.1.uuid(), move |rows| {
        let new = counted
            .iter()
            .zip(rows)
            .filter(|(addition, rows)| addition.is_new(rows));
        i64::try_from(new.count()).unwrap_or(i64::MAX)
    });
    let minter = Minter::new(&call.parlor, place.0, place.1, call.now_ms);
    match call
        .commit(unit, move |rows| {
            gather(&additions, &minter, rows).map(Data)
        })
        .await
    {
        Err(Uncommitted::WrongCount(step)) => {
            let index = order.get(step).copied().unwrap_or_default();
            let error = why_not(&call.parlor, place.0, place.1, &people[index], reject).await;
            let of_item = error
                .problems()
                .iter()
                .any(|problem| problem.pointer.is_some());
            Err(if of_item {
                error.under(&format!("/participants/{index}"))
            } else {
                error
            })
        }
        other => Ok(other?),
    }
}

fn gather(
    additions: &[(usize, Addition)],
    minter: &Minter,
    rows: &[Vec<Row>],
) -> Result<Vec<Added>, ApiError> {
    let mut added = Vec::with_capacity(additions.len());
    for ((index, addition), rows) in additions.iter().zip(rows) {
        let one = addition.answer(minter, rows)?;
        added.push((
            *index,
            one.ok_or_else(|| ApiError::internal("an added participant has no row"))?,
        ));
    }
    added.sort_by_key(|(index, _)| *index);
    Ok(added.into_iter().map(|(_, one)| one).collect())
}
