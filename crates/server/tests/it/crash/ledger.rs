//! What was asked of the server and what it acknowledged: the truth a crash is judged by.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Whether a person must be seen after the restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// The write was acknowledged.
    Certain,
    /// The server died before it answered: both outcomes are right, but only whole ones.
    Open,
    /// The deletion was acknowledged.
    Gone,
}

/// What one person must look like.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) presence: Presence,
    /// The participant id, once an answer told it. It never changes.
    pub(crate) id: Option<String>,
    /// Every name that the person may have now.
    pub(crate) names: BTreeSet<String>,
}

/// An add that was sent with an idempotency key.
#[derive(Clone, Debug)]
pub(crate) struct Keyed {
    pub(crate) key: String,
    pub(crate) body: Value,
    /// The first answer, if it came.
    pub(crate) answer: Option<Value>,
}

/// Everything known about the participants of one meeting.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// By custom participant id.
    pub(crate) people: BTreeMap<String, Person>,
    /// The custom participant ids of each bulk.
    pub(crate) bulks: Vec<Vec<String>>,
    pub(crate) keyed: Vec<Keyed>,
    /// Writes that were answered with success.
    pub(crate) acknowledged: usize,
    /// Acknowledged writes that are not there, each in a sentence.
    pub(crate) lost: Vec<String>,
    /// Parts of writes that are there without the rest, each in a sentence.
    pub(crate) half_visible: Vec<String>,
    /// Answers that a healthy server does not give, each in a sentence.
    pub(crate) refused: Vec<String>,
}

impl Ledger {
    /// Notes that the person is about to be written with this name.
    pub(crate) fn sending(&mut self, custom_id: &str, name: &str) {
        self.people
            .entry(custom_id.to_owned())
            .or_insert_with(|| Person {
                presence: Presence::Open,
                id: None,
                names: BTreeSet::new(),
            })
            .names
            .insert(name.to_owned());
    }

    /// Notes an acknowledged write of a person, as the server answered it.
    pub(crate) fn written(&mut self, custom_id: &str, answered: &Value) {
        let person = self.person(custom_id);
        let id = answered["id"].as_str().unwrap_or_default().to_owned();
        person.presence = Presence::Certain;
        let known = person.id.get_or_insert_with(|| id.clone());
        if *known != id || answered["custom_participant_id"] != custom_id {
            let sentence = format!("{custom_id} is {known}, but was answered as {answered}");
            self.refused.push(sentence);
        }
    }

    /// Notes that only one name is right from now on: nobody else writes this person.
    pub(crate) fn settled(&mut self, custom_id: &str, name: &str) {
        self.person(custom_id).names = BTreeSet::from([name.to_owned()]);
    }

    /// The entry of a person that was sent before.
    pub(crate) fn person(&mut self, custom_id: &str) -> &mut Person {
        self.people
            .get_mut(custom_id)
            .expect("a write is noted before it is sent")
    }

    /// Everything that is wrong.
    pub(crate) fn findings(&self) -> impl Iterator<Item = &String> {
        let lost = self.lost.iter();
        lost.chain(&self.half_visible).chain(&self.refused)
    }
}
