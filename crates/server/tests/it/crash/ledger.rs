//! The record of all requests and acknowledgements, from which the expected state after a crash
//! follows.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Whether a participant must exist after the restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// The write was acknowledged.
    Present,
    /// The server died before it responded: the write must be applied completely or not at all.
    Unknown,
    /// The deletion was acknowledged.
    Deleted,
}

/// The expected state of one participant.
#[derive(Clone, Debug)]
pub(crate) struct ExpectedParticipant {
    pub(crate) presence: Presence,
    /// The participant id, once it is known from a response. It never changes.
    pub(crate) id: Option<String>,
    /// All names that the participant may have now.
    pub(crate) names: BTreeSet<String>,
}

/// A request to add a participant that was sent with an idempotency key.
#[derive(Clone, Debug)]
pub(crate) struct KeyedRequest {
    pub(crate) key: String,
    pub(crate) body: Value,
    /// The first response, if one was received.
    pub(crate) response: Option<Value>,
}

/// Everything known about the participants of one meeting.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// The expected participants by custom participant id.
    pub(crate) expected: BTreeMap<String, ExpectedParticipant>,
    /// The custom participant ids of each bulk.
    pub(crate) bulks: Vec<Vec<String>>,
    pub(crate) keyed: Vec<KeyedRequest>,
    /// Number of acknowledged writes.
    pub(crate) acknowledged: usize,
    /// Findings about acknowledged writes that are lost.
    pub(crate) lost: Vec<String>,
    /// Findings about writes that are only partly visible.
    pub(crate) half_visible: Vec<String>,
    /// Findings about responses that a healthy server does not send.
    pub(crate) refused: Vec<String>,
}

impl Ledger {
    /// Records that a participant is about to be written with this name.
    pub(crate) fn expect_write(&mut self, custom_id: &str, name: &str) {
        self.expected
            .entry(custom_id.to_owned())
            .or_insert_with(|| ExpectedParticipant {
                presence: Presence::Unknown,
                id: None,
                names: BTreeSet::new(),
            })
            .names
            .insert(name.to_owned());
    }

    /// Records an acknowledged write of a participant with its response.
    pub(crate) fn acknowledge_write(&mut self, custom_id: &str, response: &Value) {
        let participant = self.entry(custom_id);
        let id = response["id"].as_str().unwrap_or_default().to_owned();
        participant.presence = Presence::Present;
        let known = participant.id.get_or_insert_with(|| id.clone());
        if *known != id || response["custom_participant_id"] != custom_id {
            let finding = format!("{custom_id} is {known}, but the response was {response}");
            self.refused.push(finding);
        }
    }

    /// Records that only this name is valid from now on, because no other write of the participant
    /// is in progress.
    pub(crate) fn expect_only_name(&mut self, custom_id: &str, name: &str) {
        self.entry(custom_id).names = BTreeSet::from([name.to_owned()]);
    }

    /// Returns the entry of a participant whose write was recorded.
    pub(crate) fn entry(&mut self, custom_id: &str) -> &mut ExpectedParticipant {
        self.expected
            .get_mut(custom_id)
            .expect("a write is recorded before it is sent")
    }

    /// Returns all findings.
    pub(crate) fn findings(&self) -> impl Iterator<Item = &String> {
        let lost = self.lost.iter();
        lost.chain(&self.half_visible).chain(&self.refused)
    }
}
