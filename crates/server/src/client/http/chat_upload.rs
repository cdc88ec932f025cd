//! POST /v2/meetings/chat-upload: two links for a file that somebody wants to send in the chat, one
//! to put it at and one for everybody to get it from.

use axum::extract::Request;
use axum::response::Response;
use garde::Validate;
use parlor_live::{Answer, Command};
use parlor_protocol::ids::MeetingId;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::{json, visitor};
use crate::files::links::{File, Right};
use crate::http::{ApiError, Problem, parse_body, read_body};
use crate::net::origin;
use crate::rest::participants::Joining;
use crate::state::Parlor;

/// How long there is to put the file, in seconds.
const PUT_SECS: i64 = 15 * 60;
/// The longest name of a file that is taken, in characters.
const ASKED_MAX: usize = 4096;
/// The longest name that is kept, in characters: as much as file systems take in any script.
const NAME_MAX: usize = 80;

#[derive(Debug, Deserialize, Validate, JsonSchema)]
struct Wanted {
    /// The meeting's id, in spite of its name.
    #[serde(rename = "roomUUID")]
    #[garde(skip)]
    room_uuid: MeetingId,
    #[garde(length(chars, max = ASKED_MAX))]
    filename: String,
    /// Seconds that the file can be got.
    #[serde(default)]
    #[garde(skip)]
    expiry: Option<u64>,
}

pub(super) async fn answer(parlor: &Parlor, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let joining = visitor(parlor, &parts.headers).await?;
    let wanted: Wanted = parse_body(&read_body(parlor, body).await?)?;
    if !joining.meeting_active && !is_inside(parlor, &joining).await {
        let message = "Access denied: this meeting is inactive, and this participant is not in it";
        return Err(ApiError::denied(message));
    }
    let chat = &joining.preset.permissions.chat;
    if !(chat.public.files || chat.private.files) {
        let message = "Access denied: this participant's preset does not allow files in the chat";
        return Err(ApiError::denied(message));
    }
    if wanted.room_uuid != joining.claims.meeting_id {
        let message = "Access denied: this token is for another meeting";
        return Err(ApiError::denied(message));
    }
    if wanted.expiry == Some(0) {
        let message = "BAD_REQUEST: \"expiry\" must be greater than or equal to 1";
        return Err(ApiError::invalid(vec![Problem::at("/expiry", message)]));
    }
    parlor.uploads.take(&joining.participant.id)?;
    let limits = &parlor.limits;
    let life_secs = wanted.expiry.unwrap_or(limits.file_life_secs);
    let life_secs = life_secs.min(limits.file_life_max_secs);
    let now_secs = parlor.clock.now_ms() / 1000;
    let file = File {
        app: joining.claims.org_id,
        meeting: joining.claims.meeting_id,
        // Nobody can guess it from others.
        id: parlor.clock.random_id(),
        name: kept_name(&wanted.filename),
    };
    let origin = origin(&parts.headers, &parts.extensions)?;
    let life_secs = i64::try_from(life_secs).expect("lives are bounded by the limits");
    let owner = joining.participant.id;
    let link = |right, secs| file.link(&parlor.links, &origin, (right, owner), now_secs + secs);
    Ok(json(&json!({"success": true, "data": {
        "get_location": link(Right::Get, life_secs),
        "put_location": link(Right::Put, PUT_SECS),
    }})))
}

/// Whether somebody is in the meeting. Those who are stay in one that has become inactive.
async fn is_inside(parlor: &Parlor, joining: &Joining) -> bool {
    let (app, meeting) = (joining.claims.org_id, joining.claims.meeting_id);
    let answer = parlor.live.command(app, meeting, Command::Who).await;
    let Answer::Who(_, present) = answer else {
        return false;
    };
    let me = joining.participant.id;
    present.iter().any(|peer| peer.participant == me)
}

/// A name without a path, without what is not to be seen, and short; its ending stays, because
/// people's computers go by it.
fn kept_name(asked: &str) -> String {
    let last = asked.rsplit(['/', '\\']).next().unwrap_or_default();
    let name: String = last.chars().filter(|letter| !is_unseen(*letter)).collect();
    let name = name.trim().trim_matches('.').trim();
    if name.is_empty() {
        return "file".to_owned();
    }
    let length = name.chars().count();
    if length <= NAME_MAX {
        return name.to_owned();
    }
    let (stem, ending) = name.rsplit_once('.').unwrap_or((name, ""));
    let ending: String = ending.chars().take(16).collect();
    let room = NAME_MAX - ending.chars().count() - 1;
    let stem: String = stem.chars().take(room).collect();
    if ending.is_empty() {
        stem
    } else {
        format!("{stem}.{ending}")
    }
}

/// Controls, and what turns the direction of text: `exe.gpj` must not look like a picture.
fn is_unseen(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_is_the_last_part_of_what_was_asked() {
        for (asked, kept) in [
            ("photo.png", "photo.png"),
            ("../../etc/passwd", "passwd"),
            ("C:\\secret\\plan.pdf", "plan.pdf"),
            ("..", "file"),
            ("", "file"),
            ("a/", "file"),
            (".bashrc", "bashrc"),
            ("Ünïcödé 文件.txt", "Ünïcödé 文件.txt"),
            ("a\r\nb.txt", "ab.txt"),
            ("photo\u{202e}gpj.exe", "photogpj.exe"),
        ] {
            assert_eq!(kept_name(asked), kept, "{asked:?}");
        }
        let long = kept_name(&format!("{}.png", "x".repeat(1000)));
        assert!(long.ends_with("xx.png") && long.chars().count() == NAME_MAX);
    }

    proptest! {
        #[test]
        fn every_name_is_short_and_without_a_path(asked in ".{0,300}") {
            let kept = kept_name(&asked);
            prop_assert!((1..=NAME_MAX).contains(&kept.chars().count()));
            prop_assert!(!kept.contains(['/', '\\', '\n', '\r', '\0']) && kept != ".." && kept != ".");
        }
    }
}
