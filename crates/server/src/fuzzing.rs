//! Entry points for fuzzers: every parser of untrusted input. Nothing here may panic.

use std::sync::LazyLock;

use garde::Validate;
use http::{HeaderMap, HeaderValue, header};
use parlor_protocol::ids::{AccountId, AppId, MeetingId, ParticipantId};
use parlor_protocol::preset::PresetBody;
use parlor_protocol::{MeetingSettings, merge_patch};
use serde_json::Value;

use crate::http::{Endpoint, auth, parse_value};
use crate::rest::endpoints;

/// Parses a JSON body as the body of every operation.
pub fn body(bytes: &[u8]) {
    for endpoint in &*OPERATIONS {
        endpoint.fuzz(bytes);
    }
}

/// Parses a query string as the query of every operation.
pub fn query(bytes: &[u8]) {
    body(bytes);
}

static OPERATIONS: LazyLock<Vec<Endpoint>> = LazyLock::new(endpoints);

/// Parses an `Authorization` header.
pub fn credentials(bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else {
        return;
    };
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, value);
    let _ = auth::basic(&headers);
    let _ = auth::bearer(&headers);
}

/// Parses ids from paths.
pub fn ids(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let _ = (text.parse::<AccountId>(), text.parse::<AppId>());
    let _ = (text.parse::<MeetingId>(), text.parse::<ParticipantId>());
}

/// Parses a PROXY protocol header.
pub fn proxy_header(bytes: &[u8]) {
    crate::net::read_proxy_header(bytes);
}

/// Parses a join token.
pub fn join_token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let _ = crate::identity::join_token::parse(text);
}

/// Applies a patch to a preset and to a meeting's settings, and checks that an accepted result is
/// within its limits.
pub fn preset_patch(bytes: &[u8]) {
    let Ok(patch) = serde_json::from_slice::<Value>(bytes) else {
        return;
    };
    let mut preset = serde_json::to_value(PresetBody::default()).expect("a preset serialises");
    merge_patch(&mut preset, patch.clone());
    if let Ok(preset) = parse_value::<PresetBody>(preset) {
        assert!(preset.validate().is_ok());
    }
    let _ = parse_value::<MeetingSettings>(MeetingSettings::default().merged(patch));
}
