//! Checks the documents in the repository against the code: the API description, the README's table
//! of operations, and the tests and settings that `docs/security.md` mentions. `PARLOR_BLESS=1`
//! regenerates the description and the table.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use parlor_server::limits::Limits;
use parlor_server::rest::operations::{self, OPERATIONS};
use parlor_server::rest::{endpoints, openapi};
use serde_json::Value;

fn in_repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

fn compare(path: &str, current: &str) {
    let path = in_repository(path);
    if std::env::var_os("PARLOR_BLESS").is_some() {
        fs::write(&path, current).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == current,
        "{} is out of date; run PARLOR_BLESS=1 cargo test -p parlor-server --test it description::",
        path.display()
    );
}

#[test]
fn the_committed_api_description_is_up_to_date() {
    compare(
        "docs/openapi.json",
        &format!("{:#}\n", openapi::document(&Limits::default())),
    );
}

#[test]
fn the_table_in_the_readme_is_up_to_date() {
    const START: &str = "<!-- operations -->\n";
    const END: &str = "<!-- /operations -->";
    let readme = fs::read_to_string(in_repository("README.md")).unwrap();
    let (before, rest) = readme.split_once(START).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    compare(
        "README.md",
        &format!("{before}{START}{}{END}{after}", table()),
    );
}

fn table() -> String {
    let planned: BTreeSet<u8> = operations::planned()
        .iter()
        .map(|operation| operation.number)
        .collect();
    let row = |number: &str, method: &str, path: &str, name: &str, on_v2: bool, works: bool| {
        let on_v2 = if on_v2 { "yes" } else { "no" };
        let status = if works { "works" } else { "501" };
        format!("| {number} | {method} | `{path}` | {name} | {on_v2} | {status} |\n")
    };
    let mut table =
        "| # | method | path | operation | surface B | status |\n|--|--|--|--|--|--|\n".to_owned();
    for operation in &OPERATIONS {
        let works = !planned.contains(&operation.number);
        let (number, method) = (operation.number.to_string(), operation.method());
        table += &row(
            &number,
            method.as_str(),
            operation.path,
            operation.name,
            operation.is_on_v2(),
            works,
        );
    }
    for endpoint in endpoints() {
        if OPERATIONS
            .iter()
            .all(|operation| operation.name != endpoint.id())
        {
            let on_v2 = endpoint.mounts().len() > 1;
            table += &row(
                "+",
                endpoint.method().as_str(),
                endpoint.path(),
                endpoint.id(),
                on_v2,
                true,
            );
        }
    }
    table
}

#[test]
fn exactly_the_existing_routes_are_described() {
    let mut routes = BTreeSet::new();
    for endpoint in endpoints() {
        let method = endpoint.method().as_str().to_lowercase();
        routes.extend(
            endpoint
                .mounts()
                .into_iter()
                .map(|(_, path)| (path, method.clone())),
        );
    }
    for operation in operations::planned() {
        let method = operation.method().as_str().to_lowercase();
        routes.extend(
            operation
                .mounts()
                .into_iter()
                .map(|(_, path)| (path, method.clone())),
        );
    }
    let document = openapi::document(&Limits::default());
    let paths = document["paths"].as_object().unwrap();
    let methods = |(path, item): (&String, &Value)| {
        item.as_object()
            .unwrap()
            .keys()
            .map(|method| (path.clone(), method.clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        paths.iter().flat_map(methods).collect::<BTreeSet<_>>(),
        routes
    );
}

#[test]
fn every_implemented_operation_has_the_path_and_method_of_the_contract() {
    for endpoint in endpoints() {
        if let Some(operation) = OPERATIONS
            .iter()
            .find(|operation| operation.name == endpoint.id())
        {
            assert_eq!(
                (endpoint.mounts(), endpoint.method()),
                (operation.mounts(), &operation.method())
            );
        }
    }
}

/// The names of the schemas in `docs/openapi.json`. They are part of the public API: generated
/// clients name their types after them. Never rename or remove one.
const COMPONENTS: [&str; 146] = [
    "AffectedParticipant",
    "AiConfig",
    "AiConfigInput",
    "App",
    "AppParams",
    "AudioConfig",
    "AudioConfigInput",
    "BackgroundColors",
    "BackgroundColorsInput",
    "BorderRadius",
    "BorderWidth",
    "BrandColors",
    "BrandColorsInput",
    "CandidatePair",
    "CandidatePairs",
    "ChatLink",
    "ChatPermissions",
    "ChatPermissionsInput",
    "ConnectedMeetingPermissions",
    "ConnectedMeetingPermissionsInput",
    "ConsumerSample",
    "CreatedApp",
    "CreatedPoll",
    "DailyAnalytics",
    "DailyRecordingStats",
    "DailySessionStats",
    "DeletedParticipant",
    "DesignTokens",
    "DesignTokensInput",
    "EmptyBody",
    "Error",
    "ErrorItem",
    "ErrorSource",
    "ErrorSummary",
    "IpInformation",
    "KickAllResult",
    "LiveStreamingConfig",
    "MediaConfig",
    "MediaConfigInput",
    "MediaKindPermission",
    "MediaKindPermissionInput",
    "MediaPermission",
    "MediaPermissions",
    "MediaPermissionsInput",
    "MediaQuality",
    "Meeting",
    "MeetingPatch",
    "MeetingRegion",
    "MeetingStatus",
    "MuteAllParams",
    "MuteAllResult",
    "NewMeeting",
    "NewParticipant",
    "NewParticipants",
    "NewPoll",
    "NewPreset",
    "Paging",
    "Participant",
    "ParticipantActionResult",
    "ParticipantPatch",
    "ParticipantReplacement",
    "ParticipantSelection",
    "ParticipantToken",
    "ParticipantWithToken",
    "PeerEvent",
    "PeerEventName",
    "PeerReport",
    "PeerReportFilter",
    "PeerReportMetadata",
    "PeerReportParticipant",
    "PeerReportResult",
    "PluginAccessControl",
    "PluginConfig",
    "PluginPermissions",
    "PluginPermissionsInput",
    "Poll",
    "PollOption",
    "PollPermissions",
    "PollPermissionsInput",
    "PollVote",
    "Preset",
    "PresetConfig",
    "PresetConfigInput",
    "PresetPatch",
    "PresetPermissions",
    "PresetPermissionsInput",
    "PresetSummary",
    "PresetUi",
    "PresetUiInput",
    "PrivateChatPermissions",
    "PrivateChatPermissionsInput",
    "ProducerSample",
    "PublicChatPermissions",
    "PublicChatPermissionsInput",
    "RealtimeKitBucketConfig",
    "RecorderType",
    "RecordingAudioChannel",
    "RecordingAudioCodec",
    "RecordingAudioConfig",
    "RecordingAudioConfigInput",
    "RecordingConfig",
    "RecordingConfigInput",
    "RecordingStats",
    "RecordingVideoCodec",
    "RecordingVideoConfig",
    "RecordingVideoConfigInput",
    "ScreenshareConfig",
    "ScreenshareConfigInput",
    "Session",
    "SessionDetails",
    "SessionList",
    "SessionParticipant",
    "SessionParticipantList",
    "SessionParticipantResult",
    "SessionParticipantSortBy",
    "SessionParticipantView",
    "SessionResult",
    "SessionSettings",
    "SessionSortBy",
    "SessionStats",
    "SessionStatus",
    "SortOrder",
    "StorageAuthMethod",
    "StorageConfig",
    "StorageType",
    "SummarizationConfig",
    "SummarizationConfigInput",
    "SummaryFormat",
    "SummaryType",
    "Theme",
    "ThemeColors",
    "ThemeColorsInput",
    "TokenParams",
    "TranscriptionConfig",
    "TranscriptionConfigInput",
    "VideoConfig",
    "VideoConfigInput",
    "VideoQuality",
    "VideoStreamLimits",
    "VideoStreamLimitsInput",
    "ViewType",
    "WaitingRoomType",
    "Watermark",
    "WatermarkInput",
    "WatermarkPosition",
    "WatermarkSize",
];

#[test]
fn the_component_names_are_stable() {
    let document = openapi::document(&Limits::default());
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let names: BTreeSet<&str> = schemas.keys().map(String::as_str).collect();
    assert_eq!(names, BTreeSet::from(COMPONENTS));
}

#[test]
fn every_reference_in_the_description_has_a_target() {
    fn references<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
        match value {
            Value::Object(fields) => fields.iter().for_each(|(key, value)| match value.as_str() {
                Some(path) if key == "$ref" => found.push(path),
                _ => references(value, found),
            }),
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let document = openapi::document(&Limits::default());
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 100);
    for path in found {
        assert!(
            document.pointer(path.trim_start_matches('#')).is_some(),
            "{path}"
        );
    }
}

/// Returns the code spans of a Markdown text, in order.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn the_tests_that_the_security_document_names_exist() {
    let document = fs::read_to_string(in_repository("docs/security.md")).unwrap();
    let (_, rest) = document.split_once("<!-- tests -->").unwrap();
    let (guarantees, _) = rest.split_once("<!-- /tests -->").unwrap();
    let (mut path, mut source) = ("", String::new());
    let (mut found, mut missing) = (0, Vec::new());
    for word in code(guarantees) {
        // A path applies to the names that follow it. The checks of `scripts/attack` are listed in
        // a table.
        let exists = if word.contains('/') {
            let read = fs::read_to_string(in_repository(word));
            let exists = read.is_ok();
            (path, source) = (word, read.unwrap_or_default());
            exists
        } else {
            let (function, check) = (format!("fn {word}("), format!("name: \"{word}\""));
            source.contains(&function) || source.contains(&check)
        };
        if exists {
            found += 1;
        } else {
            missing.push(format!("{path}: {word}"));
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    // A low count means that the markers or the backticks are misplaced.
    assert!(found > 100, "{found}");
}

#[test]
fn the_security_document_mentions_every_setting() {
    let readme = fs::read_to_string(in_repository("README.md")).unwrap();
    let (_, table) = readme.split_once("| flag | environment |").unwrap();
    let rows = table.lines().skip(1).take_while(|row| row.starts_with('|'));
    let flags: Vec<&str> = rows
        .filter_map(|row| row.split('|').nth(1))
        .flat_map(code)
        .collect();
    assert!(flags.len() > 50, "{flags:?}");
    let document = fs::read_to_string(in_repository("docs/security.md")).unwrap();
    let mentioned: BTreeSet<&str> = code(&document).collect();
    let missing: Vec<_> = flags
        .iter()
        .filter(|flag| !mentioned.contains(**flag))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
