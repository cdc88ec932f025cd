//! `POST …/participants/bulk`: adds many participants at once, all or none. An extension.

use std::collections::HashSet;

use garde::Validate;
use http::Method;
use parlor_store::{Row, Unit};
use schemars::JsonSchema;
use serde::Deserialize;

use super::add::{IF_EXISTS, NewParticipant, PlannedInsert, add_error, rejects_existing};
use super::{ParticipantWithToken, TokenIssuer, writer_key};
use crate::http::{ApiError, Call, CommitError, Data, Empty, Endpoint, Problem};
use crate::rest::meetings::MeetingPath;
use crate::tallies::count_added;

/// Maximum number of participants in one request.
const PARTICIPANTS_MAX: usize = 1000;

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(Method::POST, "/meetings/{meeting_id}/participants/bulk", "addParticipants", handle)
        .created()
        .may_conflict()
        .reads(&IF_EXISTS)
        .describe(
            "Add many participants",
            "Adds up to 1,000 participants atomically: either all are added or none. `data` lists them in the order of the \
             request; `errors[].source.pointer` locates an invalid item. Not available in RealtimeKit.",
        )
}

/// The participants to add.
#[derive(Debug, Deserialize, Validate, JsonSchema)]
#[schemars(rename = "NewParticipants")]
struct NewParticipants {
    /// 1 to 1,000 participants with distinct `custom_participant_id`s.
    #[garde(length(min = 1, max = PARTICIPANTS_MAX), dive)]
    participants: Vec<NewParticipant>,
}

impl NewParticipants {
    fn check_unique(&self) -> Result<(), ApiError> {
        let mut seen = HashSet::new();
        for (index, new) in self.participants.iter().enumerate() {
            if !seen.insert(&new.custom_participant_id) {
                let message = format!(
                    "BAD_REQUEST: \"participants[{index}].custom_participant_id\" is listed more than once"
                );
                let pointer = format!("/participants/{index}/custom_participant_id");
                return Err(ApiError::invalid(vec![Problem::at(pointer, message)]));
            }
        }
        Ok(())
    }
}

async fn handle(
    call: Call<MeetingPath, Empty, NewParticipants>,
) -> Result<Data<Vec<ParticipantWithToken>>, ApiError> {
    call.body.check_unique()?;
    let scope = (call.app, call.path.meeting_id);
    let reject = rejects_existing(&call.state, &call.headers)?;
    let new = &call.body.participants;
    // All requests lock rows in the same order, so that two of them never deadlock.
    let mut order: Vec<usize> = (0..new.len()).collect();
    order.sort_by_key(|index| writer_key(scope.1.uuid(), &new[*index].custom_participant_id));
    let mut unit = Unit::default().keyed(writer_key(
        scope.1.uuid(),
        &new[order[0]].custom_participant_id,
    ));
    let mut inserts = Vec::with_capacity(new.len());
    for index in &order {
        let planned = PlannedInsert::plan(
            unit,
            &call.state,
            scope,
            &new[*index],
            call.now_ms,
            (reject, true),
        );
        let (next, insert) =
            planned.map_err(|error| error.under(&format!("/participants/{index}")))?;
        inserts.push((*index, insert));
        unit = next;
    }
    let counted: Vec<PlannedInsert> = inserts.iter().map(|(_, insert)| insert.clone()).collect();
    let unit = count_added(unit, scope.0, scope.1.uuid(), move |rows| {
        let new = counted
            .iter()
            .zip(rows)
            .filter(|(insert, rows)| insert.is_new(rows));
        i64::try_from(new.count()).unwrap_or(i64::MAX)
    });
    let issuer = TokenIssuer::new(&call.state, scope.0, scope.1, call.now_ms);
    match call
        .commit(unit, move |rows| collect(&inserts, &issuer, rows).map(Data))
        .await
    {
        Err(CommitError::WrongCount(step)) => {
            let index = order.get(step).copied().unwrap_or_default();
            let error = add_error(&call.state, scope.0, scope.1, &new[index], reject).await;
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

fn collect(
    inserts: &[(usize, PlannedInsert)],
    issuer: &TokenIssuer,
    rows: &[Vec<Row>],
) -> Result<Vec<ParticipantWithToken>, ApiError> {
    let mut added = Vec::with_capacity(inserts.len());
    for ((index, insert), rows) in inserts.iter().zip(rows) {
        let one = insert.to_participant(issuer, rows)?;
        added.push((
            *index,
            one.ok_or_else(|| ApiError::internal("an added participant has no row"))?,
        ));
    }
    added.sort_by_key(|(index, _)| *index);
    Ok(added.into_iter().map(|(_, one)| one).collect())
}
