//! POST /v2/meetings/chat-upload: issues two links for a file in a chat, one to upload it and one
//! for everyone to download it.

use axum::extract::Request;
use axum::response::Response;
use garde::Validate;
use parlor_live::{Answer, Command};
use parlor_protocol::ids::MeetingId;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::{authenticate, json};
use crate::files::links::{Access, File};
use crate::http::{ApiError, Problem, parse_body, read_body};
use crate::net::origin;
use crate::rest::participants::JoinContext;
use crate::state::ServerState;

/// Validity of the upload link, in seconds.
const PUT_SECS: i64 = 15 * 60;
/// Maximum length of the requested file name, in characters.
const MAX_REQUESTED_NAME: usize = 4096;
/// Maximum length of the stored file name, in characters. Every file system accepts a name of
/// this length in any script.
const MAX_STORED_NAME: usize = 80;

#[derive(Debug, Deserialize, Validate, JsonSchema)]
struct ChatUploadRequest {
    /// The meeting's id, despite the field's name.
    #[serde(rename = "roomUUID")]
    #[garde(skip)]
    room_uuid: MeetingId,
    #[garde(length(chars, max = MAX_REQUESTED_NAME))]
    filename: String,
    /// Validity of the download link, in seconds.
    #[serde(default)]
    #[garde(skip)]
    expiry: Option<u64>,
}

pub(super) async fn handle(state: &ServerState, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let joining = authenticate(state, &parts.headers).await?;
    let wanted: ChatUploadRequest = parse_body(&read_body(state, body).await?)?;
    if !joining.meeting_active && !is_connected(state, &joining).await {
        let message = "Access denied: this meeting is inactive, and this participant is not in it";
        return Err(ApiError::forbidden_with(message));
    }
    let chat = &joining.preset.permissions.chat;
    if !(chat.public.files || chat.private.files) {
        let message = "Access denied: this participant's preset does not allow files in the chat";
        return Err(ApiError::forbidden_with(message));
    }
    if wanted.room_uuid != joining.claims.meeting_id {
        let message = "Access denied: this token is for another meeting";
        return Err(ApiError::forbidden_with(message));
    }
    if wanted.expiry == Some(0) {
        let message = "BAD_REQUEST: \"expiry\" must be greater than or equal to 1";
        return Err(ApiError::invalid(vec![Problem::at("/expiry", message)]));
    }
    state.uploads.take(&joining.participant.id)?;
    let limits = &state.limits;
    let life_secs = wanted.expiry.unwrap_or(limits.file_life_secs);
    let life_secs = life_secs.min(limits.file_life_max_secs);
    let now_secs = state.clock.now_ms() / 1000;
    let file = File {
        app: joining.claims.org_id,
        meeting: joining.claims.meeting_id,
        // A random id cannot be guessed from other ids.
        id: state.clock.random_id(),
        name: sanitize_name(&wanted.filename),
    };
    let origin = origin(&parts.headers, &parts.extensions)?;
    let life_secs = i64::try_from(life_secs).expect("lives are bounded by the limits");
    let owner = joining.participant.id;
    let link = |access, secs| file.link(&state.links, &origin, (access, owner), now_secs + secs);
    Ok(json(&json!({"success": true, "data": {
        "get_location": link(Access::Get, life_secs),
        "put_location": link(Access::Put, PUT_SECS),
    }})))
}

/// Whether the participant is connected. Those who are may stay when a meeting becomes inactive.
async fn is_connected(state: &ServerState, joining: &JoinContext) -> bool {
    let (app, meeting) = (joining.claims.org_id, joining.claims.meeting_id);
    let answer = state.live.command(app, meeting, Command::ListPeers).await;
    let Answer::Peers(_, present) = answer else {
        return false;
    };
    let me = joining.participant.id;
    present.iter().any(|peer| peer.participant == me)
}

/// Sanitizes a file name: removes its path and invisible characters, and shortens it. The extension
/// is kept, because operating systems rely on it.
fn sanitize_name(asked: &str) -> String {
    let last = asked.rsplit(['/', '\\']).next().unwrap_or_default();
    let name: String = last
        .chars()
        .filter(|letter| !is_invisible(*letter))
        .collect();
    let name = name.trim().trim_matches('.').trim();
    if name.is_empty() {
        return "file".to_owned();
    }
    let length = name.chars().count();
    if length <= MAX_STORED_NAME {
        return name.to_owned();
    }
    let (stem, ending) = name.rsplit_once('.').unwrap_or((name, ""));
    let ending: String = ending.chars().take(16).collect();
    let room = MAX_STORED_NAME - ending.chars().count() - 1;
    let stem: String = stem.chars().take(room).collect();
    if ending.is_empty() {
        stem
    } else {
        format!("{stem}.{ending}")
    }
}

/// Control characters and bidirectional overrides: `exe.gpj` must not look like an image.
fn is_invisible(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_is_the_last_part_of_the_requested_path() {
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
            assert_eq!(sanitize_name(asked), kept, "{asked:?}");
        }
        let long = sanitize_name(&format!("{}.png", "x".repeat(1000)));
        assert!(long.ends_with("xx.png") && long.chars().count() == MAX_STORED_NAME);
    }

    proptest! {
        #[test]
        fn every_name_is_short_and_without_a_path(asked in ".{0,300}") {
            let kept = sanitize_name(&asked);
            prop_assert!((1..=MAX_STORED_NAME).contains(&kept.chars().count()));
            prop_assert!(!kept.contains(['/', '\\', '\n', '\r', '\0']) && kept != ".." && kept != ".");
        }
    }
}
