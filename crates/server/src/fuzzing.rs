//! The doors through which foreign bytes come in, for fuzzers. Nothing here may panic.

use std::sync::LazyLock;

use garde::Validate;
use http::{HeaderMap, HeaderValue, header};
use parlor_protocol::ids::{AccountId, AppId, MeetingId, ParticipantId};
use parlor_protocol::preset::PresetBody;
use parlor_protocol::{MeetingSettings, merge_patch};
use serde_json::Value;

use crate::http::{Endpoint, auth, checked};
use crate::rest::endpoints;

/// The JSON body of every operation.
pub fn body(bytes: &[u8]) {
    for endpoint in &*OPERATIONS {
        endpoint.fuzz(bytes);
    }
}

/// The query string of every operation.
pub fn query(bytes: &[u8]) {
    body(bytes);
}

static OPERATIONS: LazyLock<Vec<Endpoint>> = LazyLock::new(endpoints);

/// Headers with credentials.
pub fn credentials(bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else {
        return;
    };
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, value);
    let _ = auth::basic(&headers);
    let _ = auth::bearer(&headers);
}

/// Ids in paths.
pub fn ids(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let _ = (text.parse::<AccountId>(), text.parse::<AppId>());
    let _ = (text.parse::<MeetingId>(), text.parse::<ParticipantId>());
}

/// What a proxy puts before a connection.
pub fn proxy_header(bytes: &[u8]) {
    crate::net::read_proxy_header(bytes);
}

/// Tokens that browsers bring.
pub fn join_token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let _ = crate::identity::join_token::parse(text);
}

/// A change to a preset and to a meeting's settings: what is accepted is within its limits.
pub fn preset_patch(bytes: &[u8]) {
    let Ok(patch) = serde_json::from_slice::<Value>(bytes) else {
        return;
    };
    let mut preset = serde_json::to_value(PresetBody::default()).expect("a preset serialises");
    merge_patch(&mut preset, patch.clone());
    if let Ok(preset) = checked::<PresetBody>(preset) {
        assert!(preset.validate().is_ok());
    }
    let _ = checked::<MeetingSettings>(MeetingSettings::default().merged(patch));
}
