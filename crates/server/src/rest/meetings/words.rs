//! A search index over titles: the suffixes of each title that start at a word.
//!
//! "Weekly Design Review" is stored as `weekly design review`, `design review` and `review`, so a
//! search is a prefix scan of the index.

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

/// Maximum number of indexed words in a title.
const WORDS_MAX: usize = 16;
/// Maximum length of an indexed suffix, in characters.
const FOLDED_MAX: usize = 64;

/// Normalizes case and whitespace of a search text or a title for comparison.
pub(crate) fn fold(text: &str) -> String {
    let folded = text
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .to_lowercase();
    folded.chars().take(FOLDED_MAX).collect()
}

fn suffixes(title: &str) -> Vec<String> {
    let words: Vec<&str> = title.split_whitespace().collect();
    let mut suffixes: Vec<String> = (0..words.len().min(WORDS_MAX))
        .map(|start| fold(&words[start..].join(" ")))
        .collect();
    suffixes.sort();
    suffixes.dedup();
    suffixes
}

/// Adds a title to the index.
pub(super) fn add(unit: Unit, app: AppId, meeting: MeetingId, title: Option<&str>) -> Unit {
    suffixes(title.unwrap_or_default())
        .into_iter()
        .fold(unit, |unit, suffix| {
            unit.then(&INSERT, values![app.uuid(), suffix, meeting.uuid()])
        })
}

/// Replaces the indexed title of a meeting.
pub(super) fn replace(unit: Unit, app: AppId, meeting: MeetingId, title: Option<&str>) -> Unit {
    add(remove(unit, app, meeting), app, meeting, title)
}

/// Removes a meeting's title from the index.
pub(super) fn remove(unit: Unit, app: AppId, meeting: MeetingId) -> Unit {
    unit.then(&DELETE, values![app.uuid(), meeting.uuid()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_starts_a_suffix() {
        assert_eq!(
            suffixes("Weekly  Design\tReview"),
            ["design review", "review", "weekly design review"]
        );
        assert_eq!(suffixes("a a a"), ["a", "a a", "a a a"]);
        assert!(suffixes("").is_empty());
    }

    #[test]
    fn folding_ignores_case_and_spacing() {
        assert_eq!(fold("  ÄRGER  im Büro "), "ärger im büro");
        assert_eq!(fold(&"x".repeat(100)).len(), FOLDED_MAX);
    }
}
