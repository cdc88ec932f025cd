//! Meeting settings: accepted input, defaults, patches and rejected input.

use garde::Validate;
use parlor_protocol::{
    MeetingSettings, MeetingStatus,
    meeting::{AudioChannel, BucketConfig, Region, StorageType, VideoCodec, WatermarkPosition},
};
use proptest::{option, prelude::*, sample};
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

fn read(json: Value) -> MeetingSettings {
    serde_json::from_value(json).unwrap()
}

/// The paths of violated limits, as garde reports them.
fn broken(json: Value) -> Vec<String> {
    let errors = read(json)
        .validate()
        .err()
        .map(garde::Report::into_inner)
        .unwrap_or_default();
    errors
        .into_iter()
        .map(|(path, _)| path.to_string())
        .collect()
}

fn under(name: &str, value: Value) -> Value {
    Value::Object([(name.to_owned(), value)].into_iter().collect())
}

fn recording(config: Value) -> Value {
    under("recording_config", config)
}

fn storage(config: Value) -> Value {
    recording(under("storage_config", config))
}

#[test]
fn an_empty_object_disables_every_feature() {
    assert_eq!(
        serde_json::to_value(read(json!({}))).unwrap(),
        json!({
            "record_on_start": false,
            "live_stream_on_start": false,
            "persist_chat": false,
            "summarize_on_end": false,
            "transcribe_on_end": false,
            "session_keep_alive_time_in_secs": 60,
        })
    );
}

#[test]
fn null_means_absent() {
    let names = [
        "record_on_start",
        "live_stream_on_start",
        "persist_chat",
        "summarize_on_end",
        "transcribe_on_end",
        "session_keep_alive_time_in_secs",
        "recording_config",
        "ai_config",
        "preferred_region",
    ];
    for name in names {
        assert_eq!(
            read(json!({ name: null })),
            MeetingSettings::default(),
            "{name}"
        );
    }
    let config = read(storage(Value::Null)).recording_config.unwrap();
    assert_eq!(config.storage_config, None);
}

#[test]
fn defaults_are_filled_inside_the_objects_that_are_given() {
    let settings = read(json!({
        "recording_config": {"video_config": {"watermark": {}}, "audio_config": {}},
        "ai_config": {"transcription": {}, "summarization": {}},
    }));
    assert_eq!(
        serde_json::to_value(&settings.recording_config).unwrap(),
        json!({
            "video_config": {
                "codec": "H264", "width": 1280, "height": 720, "export_file": true,
                "watermark": {"position": "left top"},
            },
            "audio_config": {"codec": "AAC", "channel": "stereo", "export_file": true},
        })
    );
    assert_eq!(
        serde_json::to_value(&settings.ai_config).unwrap(),
        json!({
            "transcription": {"keywords": [], "language": "en-US", "profanity_filter": false},
            "summarization": {
                "word_limit": 500, "text_format": "markdown", "summary_type": "general",
            },
        })
    );
    assert_eq!(
        serde_json::to_value(read(recording(json!({})))).unwrap()["recording_config"],
        json!({})
    );
}

#[test]
fn every_enum_value_is_accepted() {
    let settings = read(json!({
        "preferred_region": "eu-central-1",
        "recording_config": {
            "video_config": {"codec": "VP9", "watermark": {"position": "right bottom"}},
            "audio_config": {"codec": "MP3", "channel": "mono"},
            "storage_config": {"type": "digitalocean"},
        },
        "ai_config": {
            "transcription": {"language": "tlh"},
            "summarization": {"text_format": "plain_text", "summary_type": "one_on_one_meeting"},
        },
    }));
    assert_eq!(settings.preferred_region, Some(Region::EuCentral1));
    let config = settings.recording_config.unwrap();
    let video = config.video_config.unwrap();
    assert_eq!(video.codec, VideoCodec::Vp9);
    assert_eq!(
        video.watermark.unwrap().position,
        WatermarkPosition::RightBottom
    );
    assert_eq!(config.audio_config.unwrap().channel, AudioChannel::Mono);
    assert_eq!(
        config.storage_config.unwrap().kind,
        StorageType::DigitalOcean
    );
    assert_eq!(
        settings.ai_config.unwrap().transcription.unwrap().language,
        "tlh"
    );
    for (status, word) in [
        (MeetingStatus::Active, "ACTIVE"),
        (MeetingStatus::Inactive, "INACTIVE"),
    ] {
        assert_eq!(serde_json::to_value(status).unwrap(), word);
        assert_eq!(status.as_str(), word);
    }
}

#[test]
fn the_older_name_of_the_bucket_is_read_and_patched() {
    let settings = read(recording(json!({"dyte_bucket_config": {"enabled": true}})));
    let bucket = |settings: &MeetingSettings| {
        settings
            .recording_config
            .clone()
            .unwrap()
            .realtimekit_bucket_config
    };
    assert_eq!(bucket(&settings), Some(BucketConfig { enabled: true }));
    let patch = recording(json!({"dyte_bucket_config": {"enabled": false}}));
    let settings = settings.merge(patch).unwrap();
    assert_eq!(bucket(&settings), Some(BucketConfig { enabled: false }));
    let settings = settings
        .merge(recording(json!({"dyte_bucket_config": null})))
        .unwrap();
    assert_eq!(bucket(&settings), None);
}

#[test]
fn limits_are_refused_with_their_path() {
    for (json, path) in [
        (
            json!({"session_keep_alive_time_in_secs": 59}),
            "session_keep_alive_time_in_secs",
        ),
        (
            json!({"session_keep_alive_time_in_secs": 601}),
            "session_keep_alive_time_in_secs",
        ),
        (
            recording(json!({"max_seconds": 59})),
            "recording_config.max_seconds",
        ),
        (
            recording(json!({"max_seconds": 86_401})),
            "recording_config.max_seconds",
        ),
        (
            recording(json!({"video_config": {"width": 0}})),
            "recording_config.video_config.width",
        ),
        (
            recording(json!({"video_config": {"height": 1921}})),
            "recording_config.video_config.height",
        ),
        (
            recording(json!({"video_config": {"watermark": {"url": "ftp://a"}}})),
            "recording_config.video_config.watermark.url",
        ),
        (
            recording(json!({"video_config": {"watermark": {"size": {"width": 0}}}})),
            "recording_config.video_config.watermark.size.width",
        ),
        (
            recording(json!({"live_streaming_config": {"rtmp_url": "https://a"}})),
            "recording_config.live_streaming_config.rtmp_url",
        ),
        (
            json!({"ai_config": {"summarization": {"word_limit": 149}}}),
            "ai_config.summarization.word_limit",
        ),
        (
            json!({"ai_config": {"transcription": {"language": "x".repeat(33)}}}),
            "ai_config.transcription.language",
        ),
        (
            json!({"ai_config": {"transcription": {"keywords": ["a", "k".repeat(101)]}}}),
            "ai_config.transcription.keywords[1]",
        ),
        (
            storage(json!({"type": "sftp", "port": 0})),
            "recording_config.storage_config.port",
        ),
        (
            storage(json!({"type": "gcs", "secret": "s".repeat(16_385)})),
            "recording_config.storage_config.secret",
        ),
    ] {
        assert_eq!(broken(json.clone()), [path], "{json}");
    }
}

#[test]
fn storage_requires_the_fields_of_its_type_and_login() {
    for kind in ["aws", "azure", "digitalocean"] {
        let missing = broken(storage(json!({ "type": kind })));
        assert_eq!(
            missing,
            [
                "recording_config.storage_config.access_key",
                "recording_config.storage_config.region"
            ],
            "{kind}"
        );
        let complete = json!({"type": kind, "access_key": "a", "region": "r"});
        assert_eq!(broken(storage(complete)), Vec::<String>::new(), "{kind}");
    }
    for (method, needed) in [("KEY", "private_key"), ("PASSWORD", "password")] {
        let login = json!({"type": "sftp", "auth_method": method});
        assert_eq!(
            broken(storage(login)),
            [format!("recording_config.storage_config.{needed}")]
        );
        let login = json!({"type": "sftp", "auth_method": method, needed: "x"});
        assert_eq!(broken(storage(login)), Vec::<String>::new(), "{method}");
    }
    for kind in ["gcs", "cloudflare"] {
        assert_eq!(
            broken(storage(json!({ "type": kind }))),
            Vec::<String>::new(),
            "{kind}"
        );
    }
    let nowhere = storage(json!({"bucket": "b"}));
    assert!(serde_json::from_value::<MeetingSettings>(nowhere).is_err());
}

#[test]
fn a_patch_keeps_the_secrets_it_does_not_name() {
    let settings = read(storage(
        json!({"type": "gcs", "bucket": "old", "secret": "s3cret"}),
    ));
    let settings = settings.merge(storage(json!({"bucket": "new"}))).unwrap();
    let config = settings.recording_config.unwrap().storage_config.unwrap();
    assert_eq!(config.bucket.as_deref(), Some("new"));
    assert_eq!(config.secret.unwrap().expose(), "s3cret");
}

#[test]
fn null_in_a_patch_puts_back_the_default() {
    let settings = read(json!({
        "record_on_start": true,
        "session_keep_alive_time_in_secs": 600,
        "ai_config": {"summarization": {"word_limit": 200}},
    }));
    let patch = json!({
        "session_keep_alive_time_in_secs": null,
        "ai_config": {"summarization": {"word_limit": null}},
    });
    let settings = settings.merge(patch).unwrap();
    assert!(settings.record_on_start);
    assert_eq!(settings.session_keep_alive_time_in_secs, 60);
    assert_eq!(
        settings
            .ai_config
            .unwrap()
            .summarization
            .unwrap()
            .word_limit,
        500
    );
}

#[test]
fn the_request_schema_requires_fields_that_responses_omit() {
    let schema = |settings: SchemaSettings| {
        settings
            .into_generator()
            .into_root_schema_for::<MeetingSettings>()
            .to_value()
    };
    let request = schema(SchemaSettings::draft2020_12().for_deserialize());
    let reply = schema(SchemaSettings::draft2020_12().for_serialize());
    let storage = "/$defs/RecordingConfig/properties/storage_config";
    let rules = request.pointer(&format!("{storage}/allOf")).unwrap();
    assert_eq!(
        rules[0]["then"]["required"],
        json!(["access_key", "region"])
    );
    let needed = &rules[1]["then"]["properties"];
    assert_eq!(needed, &json!({"private_key": {"type": "string"}}));
    assert_eq!(reply.pointer(&format!("{storage}/allOf")), None);

    let record = "/properties/record_on_start/type";
    assert_eq!(request.pointer(record), Some(&json!(["boolean", "null"])));
    assert_eq!(reply.pointer(record), Some(&json!("boolean")));
    let keep_alive = &request["properties"]["session_keep_alive_time_in_secs"];
    assert_eq!(
        (&keep_alive["minimum"], &keep_alive["maximum"]),
        (&json!(60), &json!(600))
    );
    assert_eq!(keep_alive["default"], 60);
    let secret = request
        .pointer("/$defs/StorageConfig/properties/secret")
        .unwrap();
    assert_eq!(secret["writeOnly"], true);
    assert_eq!(secret["maxLength"], 16_384);
}

/// Marks secrets. No other string in these tests contains a capital Q.
const MARK: &str = "Q7Q";

fn any_settings() -> impl Strategy<Value = Value> {
    let secret = || option::of("[a-z]{0,8}Q7Q[a-z]{0,8}");
    let kinds = sample::select(vec![
        "gcs",
        "aws",
        "azure",
        "digitalocean",
        "sftp",
        "cloudflare",
    ]);
    let storage = (
        kinds,
        secret(),
        secret(),
        secret(),
        secret(),
        option::of("[a-z]{1,8}"),
    );
    let storage = storage.prop_map(
        |(kind, access_key, secret, password, private_key, bucket)| {
            json!({
                "type": kind, "access_key": access_key, "secret": secret, "password": password,
                "private_key": private_key, "bucket": bucket,
            })
        },
    );
    (
        any::<[bool; 5]>(),
        60..=600_u32,
        option::of(storage),
        option::of(60..=86_400_u32),
    )
        .prop_map(|(flags, keep_alive, storage, max_seconds)| {
            json!({
                "record_on_start": flags[0],
                "live_stream_on_start": flags[1],
                "persist_chat": flags[2],
                "summarize_on_end": flags[3],
                "transcribe_on_end": flags[4],
                "session_keep_alive_time_in_secs": keep_alive,
                "recording_config": {"storage_config": storage, "max_seconds": max_seconds},
            })
        })
}

proptest! {
    #[test]
    fn settings_survive_storage(json in any_settings()) {
        let settings = read(json.clone());
        let stored = serde_json::to_string(&settings).unwrap();
        prop_assert_eq!(stored.contains(MARK), json.to_string().contains(MARK));
        prop_assert_eq!(&serde_json::from_str::<MeetingSettings>(&stored).unwrap(), &settings);
        prop_assert_eq!(&settings.merge(json!({})).unwrap(), &settings);
        prop_assert_eq!(&settings.merge(json).unwrap(), &settings);
    }

    #[test]
    fn secrets_appear_in_no_response_and_no_log(json in any_settings()) {
        let settings = read(json);
        let debug = format!("{settings:?}");
        prop_assert!(!debug.contains(MARK), "{}", debug);
        let reply = serde_json::to_string(&settings.public()).unwrap();
        prop_assert!(!reply.contains(MARK), "{}", reply);
        prop_assert_eq!(settings.public().session_keep_alive_time_in_secs,
            settings.session_keep_alive_time_in_secs);
    }
}
