//! Search over titles without reading every title: the index of what follows each word's start.
//!
//! "Weekly Design Review" is stored as `weekly design review`, `design review` and `review`, so
//! whatever a search starts with is a prefix of one of them.

use parlor_protocol::ids::{AppId, MeetingId};
use parlor_store::{Statement, Unit, values};

static INSERT: Statement = Statement::new(
    "meeting_words.insert",
    "INSERT INTO meeting_words (app_id, word, meeting_id) VALUES ($1, $2, $3)
     ON CONFLICT (app_id, word, meeting_id) DO NOTHING",
);
static DELETE: Statement = Statement::new(
    "meeting_words.delete",
    "DELETE FROM meeting_words WHERE app_id = $1 AND meeting_id = $2",
);

pub(super) static STATEMENTS: [&Statement; 2] = [&INSERT, &DELETE];

/// Words of a title that can be searched for.
const WORDS_MAX: usize = 16;
/// Characters of the title from a word on that can be searched for.
const FOLDED_MAX: usize = 64;

/// A search text or a title in the form in which both are compared.
pub(crate) fn fold(text: &str) -> String {
    let folded = text
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .to_lowercase();
    folded.chars().take(FOLDED_MAX).collect()
}

fn tails(title: &str) -> Vec<String> {
    let words: Vec<&str> = title.split_whitespace().collect();
    let mut tails: Vec<String> = (0..words.len().min(WORDS_MAX))
        .map(|start| fold(&words[start..].join(" ")))
        .collect();
    tails.sort();
    tails.dedup();
    tails
}

/// Adds a title to the index.
pub(super) fn add(unit: Unit, app: AppId, meeting: MeetingId, title: Option<&str>) -> Unit {
    tails(title.unwrap_or_default())
        .into_iter()
        .fold(unit, |unit, tail| {
            unit.then(&INSERT, values![app.uuid(), tail, meeting.uuid()])
        })
}

/// Puts another title in the place of the old one.
pub(super) fn replace(unit: Unit, app: AppId, meeting: MeetingId, title: Option<&str>) -> Unit {
    add(remove(unit, app, meeting), app, meeting, title)
}

/// Takes a title out of the index.
pub(super) fn remove(unit: Unit, app: AppId, meeting: MeetingId) -> Unit {
    unit.then(&DELETE, values![app.uuid(), meeting.uuid()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_starts_a_tail() {
        assert_eq!(
            tails("Weekly  Design\tReview"),
            ["design review", "review", "weekly design review"]
        );
        assert_eq!(tails("a a a"), ["a", "a a", "a a a"]);
        assert!(tails("").is_empty());
    }

    #[test]
    fn folding_ignores_case_and_spacing() {
        assert_eq!(fold("  ÄRGER  im Büro "), "ärger im büro");
        assert_eq!(fold(&"x".repeat(100)).len(), FOLDED_MAX);
    }
}
