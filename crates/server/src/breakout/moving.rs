//! Moving people between a meeting and its breakout rooms.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use parlor_live::{Answer, Command, Delegated, Person, Refusal};
use parlor_protocol::ids::{MeetingId, ParticipantId};
use parlor_protocol::signal::socket::room::{
    MovePeerPayload, MovePeersBetweenRoomsRequest, MovePeersBetweenRoomsResponse, MovedPeer,
    ServiceError,
};

use super::{Done, Failure, Family, reply};
use crate::rest::participants::{self, MOVED_AT_ONCE, Passage, Route};

/// People who are moved in one go.
const MOVED_MAX: usize = 1000;

/// What came of somebody who was to be moved: their custom id, or why they were not.
type Moved = Result<String, (&'static str, &'static str)>;

/// Who is to be moved, each once, and for each item of the request which of them it names.
#[derive(Debug, Default)]
struct Listed {
    people: Vec<Passage>,
    items: Vec<Option<usize>>,
}

impl Listed {
    fn of(asked: &[MovePeerPayload]) -> Result<Self, Refusal> {
        let mut listed = Self::default();
        let mut known: HashMap<ParticipantId, usize> = HashMap::new();
        for moved in asked {
            let preset = moved.preset_id.as_deref().filter(|id| !id.is_empty());
            let preset = preset.map(str::parse).transpose();
            let preset = preset.map_err(|_| Refusal::new(400, "preset_id must be a UUID"))?;
            // No record has an id that cannot be read.
            let Some(participant) = moved.id.as_deref().and_then(|id| id.parse().ok()) else {
                listed.items.push(None);
                continue;
            };
            let passage = Passage {
                participant,
                preset,
                token_expires: None,
            };
            let at = match known.entry(participant) {
                Entry::Occupied(at) => *at.get(),
                Entry::Vacant(new) => {
                    listed.people.push(passage);
                    *new.insert(listed.people.len() - 1)
                }
            };
            if listed.people[at] != passage {
                let message = "somebody is listed with two presets";
                return Err(Refusal::new(400, message));
            }
            listed.items.push(Some(at));
        }
        Ok(listed)
    }
}

impl Family<'_> {
    /// Moves people: each becomes a participant of the destination, and their clients are sent
    /// there with a token for it.
    pub(super) async fn transfer(&self, task: &Delegated) -> Result<Done, Failure> {
        let asked: MovePeersBetweenRoomsRequest = task.request.message()?;
        let find = |id: Option<&String>| {
            let room = self
                .all()
                .find(|room| Some(room.id.to_string()).as_ref() == id);
            room.ok_or_else(|| Refusal::new(404, "there is no such breakout room"))
        };
        let from = find(asked.source_meeting_id.as_ref())?.id;
        let to = find(asked.destination_meeting_id.as_ref())?;
        // A client leaves its room before it joins the other, which would refuse it.
        if !(self.parent.active && to.active) {
            return Err(Refusal::new(403, "this meeting is inactive").into());
        }
        let to = to.id;
        if asked.participants.len() > MOVED_MAX {
            let message = format!("at most {MOVED_MAX} people are moved at once");
            return Err(Refusal::new(400, message).into());
        }
        let mut listed = Listed::of(&asked.participants)?;
        // Who asks is another participant in each room, and the same person.
        let me = if to == self.parent.id {
            let me = participants::by_id(self.parlor, self.app, self.here, task.participant);
            let deleted = || Refusal::new(403, "this participant was deleted");
            Some(me.await?.ok_or_else(deleted)?)
        } else {
            None
        };
        let way = Route {
            app: self.app,
            parent: self.parent.id,
            from,
            to,
            never_add: me.as_ref().map(|me| &*me.custom_participant_id),
        };
        self.read_tokens(from, &mut listed.people).await?;
        let (mut moved, mut then) = (Vec::new(), Vec::new());
        for people in listed.people.chunks(MOVED_AT_ONCE) {
            let tokens = self.bring(way, people, &mut moved).await;
            let transfer = Command::Transfer {
                meeting: to,
                people: tokens,
            };
            then.push((from, transfer));
        }
        let payloads = listed
            .items
            .iter()
            .map(|at| payload(to, at.map(|at| &moved[at])));
        let response = MovePeersBetweenRoomsResponse {
            payloads: payloads.collect(),
        };
        Ok(Done {
            reply: Some(reply(&task.request, &response)),
            then,
        })
    }

    /// Notes until when the tokens are good that these people are here with: of each the one that is
    /// good for longest, of those who have a socket.
    async fn read_tokens(&self, from: MeetingId, people: &mut [Passage]) -> Result<(), Failure> {
        let named = people.iter().map(|one| Person::Id(one.participant));
        let asked = Command::Present(named.collect());
        // Where no room runs nobody is, and nobody is sent anywhere.
        let Answer::Who(_, present) = self.parlor.live.ask(self.app, from, asked).await? else {
            return Ok(());
        };
        let mut latest: HashMap<ParticipantId, Option<i64>> = HashMap::new();
        for peer in present {
            let known = latest.entry(peer.participant).or_default();
            *known = (*known).max(peer.token_expires);
        }
        for one in people {
            one.token_expires = latest.remove(&one.participant).flatten();
        }
        Ok(())
    }

    /// Moves some people in the records and notes what came of each; answers with what their clients
    /// join with. Others were moved before, so a failure is that of these people only.
    async fn bring(
        &self,
        way: Route<'_>,
        people: &[Passage],
        moved: &mut Vec<Moved>,
    ) -> Vec<(ParticipantId, String)> {
        let brought = match participants::bring(self.parlor, way, people).await {
            Ok(brought) => brought,
            Err(error) => {
                tracing::warn!(?error, meeting = %way.to, "people could not be moved to a breakout room");
                let failed: Moved = Err(("500", "this could not be done"));
                moved.extend(people.iter().map(|_| failed.clone()));
                return Vec::new();
            }
        };
        let mut tokens = Vec::with_capacity(people.len());
        for (passage, there) in people.iter().zip(brought) {
            moved.push(match there {
                Some(there) => {
                    tokens.push((passage.participant, there.token));
                    Ok(there.custom_participant_id)
                }
                None => Err(("404", "there is no such participant or preset")),
            });
        }
        tokens
    }
}

/// What the asker is told of somebody who was to be moved.
fn payload(meeting: MeetingId, moved: Option<&Moved>) -> MovedPeer {
    let nobody = || Err(("404", "there is no such participant or preset"));
    let (custom_participant_id, error) = match moved.cloned().unwrap_or_else(nobody) {
        Ok(custom_id) => (Some(custom_id), None),
        // Clients look for the word "error" to tell failure from success.
        Err((code, message)) => {
            let error = ServiceError {
                message: Some(format!("error: {message}")),
                code: Some(code.to_owned()),
            };
            (None, Some(error))
        }
    };
    MovedPeer {
        meeting_id: Some(meeting.to_string()),
        custom_participant_id,
        error,
    }
}
