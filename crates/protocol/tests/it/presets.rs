//! Presets: accepted input, defaults, patches and rejected input.

use std::collections::BTreeMap;

use garde::Validate;
use parlor_protocol::{
    PresetBody,
    preset::{AccessControl, Colour, Permissions, PluginConfig, PollPermissions, stock},
};
use proptest::{collection, option, prelude::*, sample};
use serde_json::{Map, Value, json};

use crate::stock_presets::stock_preset;

fn read(json: Value) -> Result<PresetBody, serde_json::Error> {
    serde_json::from_value(json)
}

/// The paths of violated limits, as garde reports them.
fn broken(json: Value) -> Vec<String> {
    let report = read(json).unwrap().validate().err();
    let errors = report.map(garde::Report::into_inner).unwrap_or_default();
    errors
        .into_iter()
        .map(|(path, _)| path.to_string())
        .collect()
}

#[test]
fn an_empty_body_is_an_ordinary_participant_without_transcription() {
    let body = read(json!({})).unwrap();
    let mut participant = stock_preset("group_call_participant");
    participant.permissions.transcription_enabled = false;
    assert_eq!(body, participant);
}

#[test]
fn serialized_presets_are_complete() {
    let written = serde_json::to_value(read(json!({})).unwrap()).unwrap();
    assert_eq!(
        written["config"],
        json!({
            "view_type": "GROUP_CALL",
            "max_video_streams": {"desktop": 9, "mobile": 4},
            "max_screenshare_count": 1,
            "livestream_viewer_qualities": [],
            "media": {
                "audio": {"enable_high_bitrate": false, "enable_stereo": false},
                "video": {"quality": "hd", "frame_rate": 30, "simulcast": false},
                "screenshare": {"quality": "hd", "frame_rate": 5},
            },
        })
    );
    for optional in [
        "is_recorder",
        "stage_enabled",
        "accept_stage_requests",
        "transcription_enabled",
    ] {
        assert_eq!(written["permissions"][optional], json!(false), "{optional}");
    }
    let tokens = &written["ui"]["design_tokens"];
    assert_eq!(tokens["spacing_base"].to_string(), "4");
    assert_eq!(tokens["colors"]["brand"]["500"], "#2160FD");
    assert_eq!(tokens["colors"]["background"]["1000"], "#252525");
    assert_eq!(tokens.get("logo"), None);
}

#[test]
fn unknown_fields_are_ignored() {
    let body = read(json!({
        "name": "vip",
        "config": {"track_recording": {"subscriptions": []}},
        "ui": {"config_diff": {"root": 1}},
    }));
    assert_eq!(body.unwrap(), PresetBody::default());
}

#[test]
fn a_plugin_keeps_its_own_fields() {
    let config = json!({"8f3b": {"access_control": "VIEW_ONLY", "board": {"size": [1, 2]}}});
    let body = read(json!({"permissions": {"plugins": {"config": config}}})).unwrap();
    let plugin = &body.permissions.plugins.config["8f3b"];
    assert_eq!(plugin.access_control, Some(AccessControl::ViewOnly));
    let written = serde_json::to_value(&body).unwrap();
    assert_eq!(written["permissions"]["plugins"]["config"], config);
}

#[test]
fn wrong_types_and_unknown_words_are_refused() {
    for (json, message) in [
        (
            json!({"config": {"view_type": "CHAT"}}),
            "unknown variant `CHAT`",
        ),
        (
            json!({"config": {"max_screenshare_count": "1"}}),
            "invalid type: string",
        ),
        (
            json!({"config": {"max_screenshare_count": -1}}),
            "invalid value: integer `-1`",
        ),
        (
            json!({"permissions": {"can_record": 1}}),
            "invalid type: integer",
        ),
        (
            json!({"permissions": {"can_record": null}}),
            "invalid type: null",
        ),
        (
            json!({"permissions": {"stage_access": "allowed"}}),
            "unknown variant `allowed`",
        ),
        (
            json!({"permissions": {"plugins": {"config": {"x": true}}}}),
            "invalid type: boolean",
        ),
        (
            json!({"ui": {"design_tokens": {"spacing_base": "4"}}}),
            "expected a JSON number",
        ),
        (json!({"ui": []}), "invalid type: sequence"),
    ] {
        let error = PresetBody::default().merge(json.clone());
        // A merge removes nulls, so only a direct read can report them.
        let error = error
            .err()
            .or_else(|| read(json.clone()).err())
            .unwrap()
            .to_string();
        assert!(error.contains(message), "{json}: {error}");
    }
}

#[test]
fn limits_are_refused_with_their_path() {
    let plugins = |count| {
        (0..count)
            .map(|i| (i.to_string(), json!({})))
            .collect::<Map<_, _>>()
    };
    for (json, path) in [
        (
            json!({"config": {"media": {"video": {"frame_rate": 31}}}}),
            "config.media.video.frame_rate",
        ),
        (
            json!({"config": {"media": {"video": {"frame_rate": 0}}}}),
            "config.media.video.frame_rate",
        ),
        (
            json!({"config": {"media": {"screenshare": {"frame_rate": 61}}}}),
            "config.media.screenshare.frame_rate",
        ),
        (
            json!({"config": {"max_video_streams": {"mobile": 1001}}}),
            "config.max_video_streams.mobile",
        ),
        (
            json!({"config": {"max_screenshare_count": 101}}),
            "config.max_screenshare_count",
        ),
        (
            json!({"config": {"livestream_viewer_qualities": vec![720; 17]}}),
            "config.livestream_viewer_qualities",
        ),
        (
            json!({"permissions": {"plugins": {"config": plugins(101)}}}),
            "permissions.plugins.config",
        ),
        (
            json!({"ui": {"design_tokens": {"spacing_base": 0.5}}}),
            "ui.design_tokens.spacing_base",
        ),
        (
            json!({"ui": {"design_tokens": {"logo": "logo.png"}}}),
            "ui.design_tokens.logo",
        ),
        (
            json!({"ui": {"design_tokens": {"logo": format!("http://a/{}", "a".repeat(2040))}}}),
            "ui.design_tokens.logo",
        ),
        (
            json!({"ui": {"design_tokens": {"font_family": "a".repeat(257)}}}),
            "ui.design_tokens.font_family",
        ),
        (
            json!({"ui": {"design_tokens": {"colors": {"brand": {"300": "red"}}}}}),
            "ui.design_tokens.colors.brand.300",
        ),
        (
            json!({"ui": {"design_tokens": {"colors": {"text": "#12"}}}}),
            "ui.design_tokens.colors.text",
        ),
    ] {
        assert_eq!(broken(json.clone()), [path], "{json}");
    }
}

#[test]
fn the_limits_themselves_are_allowed() {
    let body = json!({
        "config": {
            "max_video_streams": {"desktop": 1000, "mobile": 0},
            "max_screenshare_count": 100,
            "livestream_viewer_qualities": [240, 360, 720.5],
            "media": {"video": {"frame_rate": 1}, "screenshare": {"frame_rate": 60}},
        },
        "ui": {"design_tokens": {
            "spacing_base": 1, "logo": "https://example.com/logo.png",
            "colors": {"text": "#FFF", "warning": "#aabbccdd"},
        }},
    });
    assert_eq!(broken(body), Vec::<String>::new());
}

#[test]
fn null_in_a_patch_puts_back_the_default() {
    let host = stock_preset("webinar_presenter");
    let merged = host
        .merge(json!({
            "config": null,
            "permissions": {"can_record": null, "show_participant_list": null, "stage_access": null},
            "ui": {"design_tokens": {"logo": "https://example.com/a.png"}},
        }))
        .unwrap();
    assert_eq!(merged.config, PresetBody::default().config);
    assert!(!merged.permissions.can_record);
    assert!(merged.permissions.show_participant_list);
    assert_eq!(merged.permissions.stage_access, None);
    assert!(
        merged.permissions.can_livestream,
        "what the patch does not name stays"
    );
    let without_logo = merged
        .merge(json!({"ui": {"design_tokens": {"logo": null}}}))
        .unwrap();
    assert_eq!(without_logo.ui, host.ui);
}

#[test]
fn the_schema_states_the_limits_that_are_checked() {
    let schema = schemars::schema_for!(PresetBody).to_value();
    let at = |pointer: &str| {
        schema
            .pointer(pointer)
            .unwrap_or_else(|| panic!("{pointer}"))
    };
    let video = at("/$defs/VideoConfig/properties/frame_rate");
    assert_eq!(
        (&video["minimum"], &video["maximum"]),
        (&json!(1), &json!(30))
    );
    let tokens = at("/$defs/DesignTokens/properties");
    assert_eq!(tokens["spacing_base"]["minimum"], 1);
    assert_eq!(tokens["logo"]["pattern"], parlor_protocol::urls::HTTP_URL);
    assert_eq!(tokens["logo"]["maxLength"], 2048);
    assert_eq!(
        at("/$defs/BrandColors/properties/300/pattern"),
        "^#[0-9a-fA-F]{3,8}$"
    );
    assert_eq!(
        at("/$defs/PluginPermissions/properties/config/maxProperties"),
        100
    );
    let qualities = at("/$defs/PresetConfig/properties/livestream_viewer_qualities");
    assert_eq!(qualities["maxItems"], 16);
    assert_eq!(qualities["type"], json!(["array", "null"]));
    assert_eq!(schema.get("required"), None);
}

/// Collects pointers to all members of all objects in a JSON value.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    for (name, member) in value.as_object().into_iter().flatten() {
        let pointer = format!("{at}/{name}");
        pointers(member, &pointer, found);
        found.push(pointer);
    }
}

/// Removes a member. Returns whether it existed.
fn remove(value: &mut Value, pointer: &str) -> bool {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = value.pointer_mut(parent).and_then(Value::as_object_mut);
    parent.and_then(|members| members.remove(name)).is_some()
}

fn any_plugins() -> impl Strategy<Value = BTreeMap<String, PluginConfig>> {
    let plugin = (
        option::of(any::<bool>()),
        collection::btree_map("x[a-z]{1,4}", any::<i64>(), 0..3),
    );
    let plugin = plugin.prop_map(|(handles_view_only, extra)| PluginConfig {
        access_control: handles_view_only.map(|_| AccessControl::FullAccess),
        handles_view_only,
        extra: extra
            .into_iter()
            .map(|(name, number)| (name, json!(number)))
            .collect(),
    });
    collection::btree_map("[a-z]{1,8}", plugin, 0..4)
}

fn any_preset() -> impl Strategy<Value = PresetBody> {
    let texts = (option::of("\\PC{0,20}"), "#[0-9a-fA-F]{3,8}", 1..64_u32);
    let numbers = (
        0..=1000_u32,
        1..=30_u32,
        collection::vec(any::<i32>(), 0..4),
    );
    (
        sample::select(stock::presets().to_vec()),
        any_plugins(),
        texts,
        numbers,
        any::<[bool; 4]>(),
    )
        .prop_map(|((_, mut body), plugins, texts, numbers, flags)| {
            body.permissions.plugins.config = plugins;
            body.permissions = Permissions {
                is_recorder: flags[0],
                polls: PollPermissions {
                    can_create: flags[1],
                    can_view: flags[2],
                    can_vote: flags[3],
                },
                ..body.permissions
            };
            let tokens = &mut body.ui.design_tokens;
            tokens.font_family = texts.0;
            tokens.colors.brand.shade_300 = Colour::from(&*texts.1);
            tokens.spacing_base = texts.2.into();
            body.config.max_video_streams.mobile = numbers.0;
            body.config.media.video.frame_rate = numbers.1;
            body.config.livestream_viewer_qualities =
                numbers.2.into_iter().map(Into::into).collect();
            body
        })
}

proptest! {
    #[test]
    fn a_preset_survives_json(body in any_preset()) {
        let text = serde_json::to_string(&body).unwrap();
        prop_assert_eq!(&serde_json::from_str::<PresetBody>(&text).unwrap(), &body);
        prop_assert_eq!(&body.merge(json!({})).unwrap(), &body);
        prop_assert!(body.validate().is_ok());
    }

    #[test]
    fn omitting_a_field_equals_patching_it_with_null(
        body in any_preset(),
        picks in collection::vec(any::<sample::Index>(), 0..8),
    ) {
        let mut sparse = serde_json::to_value(&body).unwrap();
        let mut all = Vec::new();
        pointers(&sparse, "", &mut all);
        let mut patched = body;
        for pick in picks {
            let pointer = pick.get(&all);
            if !remove(&mut sparse, pointer) {
                continue;
            }
            let patch = pointer.rsplit('/').filter(|name| !name.is_empty()).fold(
                Value::Null,
                |inner, name| json!({ name: inner }),
            );
            patched = patched.merge(patch).unwrap();
        }
        prop_assert_eq!(read(sparse).unwrap(), patched);
    }
}
