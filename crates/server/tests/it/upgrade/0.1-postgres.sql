CREATE TABLE public.accounts (
    id uuid NOT NULL,
    name text NOT NULL,
    created_at bigint NOT NULL
);
CREATE TABLE public.api_tokens (
    account_id uuid NOT NULL,
    id uuid NOT NULL,
    name text NOT NULL,
    secret_hash bytea NOT NULL,
    permissions text NOT NULL,
    app_ids text,
    created_at bigint NOT NULL,
    expires_at bigint,
    revoked_at bigint
);
CREATE TABLE public.apps (
    account_id uuid NOT NULL,
    id uuid NOT NULL,
    name text NOT NULL,
    created_at bigint NOT NULL
);
CREATE TABLE public.chat_messages (
    app_id uuid NOT NULL,
    meeting_id uuid NOT NULL,
    id uuid NOT NULL,
    session_id uuid NOT NULL,
    peer_id uuid NOT NULL,
    participant_id uuid NOT NULL,
    kind bigint NOT NULL,
    pinned boolean NOT NULL,
    edited boolean NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    targets bytea NOT NULL,
    name text NOT NULL,
    payload text NOT NULL
);
CREATE TABLE public.connected_meetings (
    app_id uuid NOT NULL,
    parent_id uuid NOT NULL,
    meeting_id uuid NOT NULL,
    created_at bigint NOT NULL
);
CREATE TABLE public.idempotency_keys (
    token_id uuid NOT NULL,
    key text NOT NULL COLLATE pg_catalog."C",
    fingerprint bytea NOT NULL,
    reply bytea NOT NULL,
    created_at bigint NOT NULL
);
CREATE TABLE public.meeting_words (
    app_id uuid NOT NULL,
    word text NOT NULL COLLATE pg_catalog."C",
    meeting_id uuid NOT NULL
);
CREATE TABLE public.meetings (
    app_id uuid NOT NULL,
    id uuid NOT NULL,
    title text,
    status text NOT NULL,
    version bigint NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    settings text NOT NULL
);
CREATE TABLE public.participants (
    app_id uuid NOT NULL,
    meeting_id uuid NOT NULL,
    id uuid NOT NULL,
    preset_id uuid NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    custom_participant_id text NOT NULL COLLATE pg_catalog."C",
    name text,
    search_name text COLLATE pg_catalog."C",
    picture text
);
CREATE TABLE public.presets (
    app_id uuid NOT NULL,
    id uuid NOT NULL,
    name text NOT NULL,
    version bigint NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    retired_at bigint,
    body text NOT NULL
);
CREATE TABLE public.purges (
    app_id uuid NOT NULL,
    meeting_id uuid NOT NULL,
    passes bigint NOT NULL,
    due bigint NOT NULL
);
CREATE TABLE public.schema_migrations (
    name text NOT NULL,
    sha256 bytea NOT NULL,
    applied_at bigint NOT NULL
);
CREATE TABLE public.servers (
    id uuid NOT NULL,
    alive_at bigint NOT NULL
);
CREATE TABLE public.session_entries (
    app_id uuid NOT NULL,
    session_id uuid NOT NULL,
    kind text NOT NULL COLLATE pg_catalog."C",
    key text NOT NULL COLLATE pg_catalog."C",
    value bytea NOT NULL
);
CREATE TABLE public.session_peers (
    app_id uuid NOT NULL,
    session_id uuid NOT NULL,
    peer_id uuid NOT NULL,
    meeting_id uuid NOT NULL,
    participant_id uuid NOT NULL,
    preset_id uuid NOT NULL,
    created_at bigint NOT NULL,
    joined_at bigint NOT NULL,
    entered_at bigint NOT NULL,
    left_at bigint,
    consumed_ms bigint NOT NULL,
    updated_at bigint NOT NULL,
    view_type text NOT NULL,
    preset_name text NOT NULL,
    custom_participant_id text NOT NULL COLLATE pg_catalog."C",
    name text,
    picture text
);
CREATE TABLE public.sessions (
    app_id uuid NOT NULL,
    id uuid NOT NULL,
    meeting_id uuid NOT NULL,
    title text NOT NULL,
    started_at bigint NOT NULL,
    ended_at bigint,
    live bigint NOT NULL,
    peak bigint NOT NULL,
    total bigint NOT NULL,
    consumed_ms bigint NOT NULL,
    writes bigint NOT NULL,
    updated_at bigint NOT NULL
);
CREATE TABLE public.signing_keys (
    id text NOT NULL,
    current bigint,
    secret bytea NOT NULL,
    public bytea NOT NULL,
    created_at bigint NOT NULL,
    retired_at bigint
);
CREATE TABLE public.tallies (
    app_id uuid NOT NULL,
    scope uuid NOT NULL,
    lane bigint NOT NULL,
    added bigint NOT NULL,
    removed bigint NOT NULL
);
INSERT INTO public.accounts VALUES ('00000000-0000-0000-0000-000000000007', 'first', 1796115091759);
INSERT INTO public.api_tokens VALUES ('00000000-0000-0000-0000-000000000007', '01a230cd-512f-7000-8000-07b16b52580d', 'first', '\x2dae382d28735ca62da3ec92c0affb6bf2eecc520f13ac65bfe267f9b6c2c729', '["Realtime Admin"]', NULL, 1796115091759, NULL, NULL);
INSERT INTO public.apps VALUES ('00000000-0000-0000-0000-000000000007', '01a230cd-512f-7000-8000-084b4e76def8', 'first', 1796115091759);
INSERT INTO public.idempotency_keys VALUES ('01a230cd-512f-7000-8000-07b16b52580d', 'old', '\x1957b02fb1cf24e2745a6cd557333610c2d0e9b6f71f89a02837a6d6d4dbdec7', '\xf344ca5cda621a3aa698968df3079c2833fd7b28363350eda6ab5aeac19bb3981e203c75d2b916bfe3c7351bf948cf66079c14266d4fe583572f0b6ad279e27aef949751f46f5b47930a9df32201730b110df3881efc81c3c91ae05372d8a7c8b070ec0c83e09b1528389994a20d238318d70b131f9722db5145a1d38655288767827ea5cb44e0948b9fec0a9510ca46455f48f6c7b1d07d580084192285a2d62c95675da575b5e53036c5dbbe4f1b60396968a6339746fdf513932abacd712d13ab34fb1e9176261f3322772f16284cc746fbaa1c2a7ed5ae1eead212ea71450dbc8a3ec16c3b94431680d8adaa5f1d1abca9bd973f70d669b5ce99668387054d2b3cc4dedbeefff91c81827185644a86a3b8b4317314a4117eacb6abc6622102da3514532545afc60fc5dac850ea595b4a85e37d687b6bb7e38d7ea0bab19220f3d88f34e01794e4c0bceb99a179830384f06a21efe4babb68cffd787d189fb3a08b87db6551357223e4a444867652e055629a24afe5b19c1c00db24981f19a2abbea552ab9594719f51697e75910988d694dba6f1a10cfe640ad9ef095cf38646b3b09e2fc3c40393bb3659c04eef4d8da8c1c3d19fce7f726804322c1ecca8f6bdc7a294c0b358146f5772ec1fdb76a70a887965a9cf6550b70b452a5b26cf0db6d5bde29e26281ebb515a9cdbde2f5f744ba5c2d7e808eaaaafe949dc062f52817233ca7bc7eb32f0430441ea37a101c16633fc86ea0ad2aed83b7bd76b2a3dc606510373786d97542e897cecab71fde93324d36b092429facf45af18ba325cdb9e19edfd310facc464118b2fe6f6f02dbacb4624df220063bdc06a94d74d22a875b4e82327bc46bf9bc1d797a15fd0dc8b67a3417f54e471c5e67650c8f5d64fc00adbb5e1e4220ad3369c10a2a6761cfbe03d5a59722a4569c5ec9a196640b23a4498a689ecb7bfe52b6db4357fdcb827667a8acc729be9d5139314427af82304a08dce146a296f3fe6acb72304e86466cd0884f27786f56dfe76898a12ff16bd3efcc986f9f6e196fa31f6e5008b823727db6a382d415405cbbd0dea90ad76283254badd9e381fa28780ae32ed37de43b75dab758b4802201f924b75f33ea8174e95e0a98628aaa0ac91f6a4c1f4000ddb7487a5bc8e8fcac8da052c561a2241429c1e', 1796115092772);
INSERT INTO public.meeting_words VALUES ('01a230cd-512f-7000-8000-084b4e76def8', '0.1', '01a230cd-53a4-7000-8000-2b15316da360');
INSERT INTO public.meeting_words VALUES ('01a230cd-512f-7000-8000-084b4e76def8', 'a meeting of version 0.1', '01a230cd-53a4-7000-8000-2b15316da360');
INSERT INTO public.meeting_words VALUES ('01a230cd-512f-7000-8000-084b4e76def8', 'meeting of version 0.1', '01a230cd-53a4-7000-8000-2b15316da360');
INSERT INTO public.meeting_words VALUES ('01a230cd-512f-7000-8000-084b4e76def8', 'of version 0.1', '01a230cd-53a4-7000-8000-2b15316da360');
INSERT INTO public.meeting_words VALUES ('01a230cd-512f-7000-8000-084b4e76def8', 'version 0.1', '01a230cd-53a4-7000-8000-2b15316da360');
INSERT INTO public.meetings VALUES ('01a230cd-512f-7000-8000-084b4e76def8', '01a230cd-53a4-7000-8000-2b15316da360', 'A meeting of version 0.1', 'ACTIVE', 1, 1796115092388, 1796115092388, '{"record_on_start":false,"live_stream_on_start":false,"persist_chat":false,"summarize_on_end":false,"transcribe_on_end":false,"session_keep_alive_time_in_secs":60}');
INSERT INTO public.participants VALUES ('01a230cd-512f-7000-8000-084b4e76def8', '01a230cd-53a4-7000-8000-2b15316da360', '01a230cd-5524-7000-8000-2cd669333aa1', '01a230cd-512f-7000-8000-0ea62173eed5', 1796115092772, 1796115092772, 'ada', 'Ada', 'ada', NULL);
INSERT INTO public.participants VALUES ('01a230cd-512f-7000-8000-084b4e76def8', '01a230cd-53a4-7000-8000-2b15316da360', '01a230cd-553a-7000-8000-337e0499a8b0', '01a230cd-512f-7000-8000-1050adaac55a', 1796115092794, 1796115092794, 'bob', NULL, NULL, NULL);
INSERT INTO public.presets VALUES ('01a230cd-512f-7000-8000-084b4e76def8', '01a230cd-512f-7000-8000-0ea62173eed5', 'group_call_host', 1, 1796115091759, 1796115091759, NULL, '{"config":{"view_type":"GROUP_CALL","max_video_streams":{"desktop":9,"mobile":4},"max_screenshare_count":1,"livestream_viewer_qualities":[],"media":{"audio":{"enable_high_bitrate":false,"enable_stereo":false},"video":{"quality":"hd","frame_rate":30,"simulcast":false},"screenshare":{"quality":"hd","frame_rate":5}}},"permissions":{"accept_waiting_requests":true,"can_accept_production_requests":true,"can_change_participant_permissions":true,"can_edit_display_name":true,"can_livestream":true,"can_record":true,"can_spotlight":true,"disable_participant_audio":true,"disable_participant_video":true,"disable_participant_screensharing":true,"hidden_participant":false,"kick_participant":true,"pin_participant":true,"show_participant_list":true,"chat":{"public":{"can_send":true,"text":true,"files":true},"private":{"can_send":true,"can_receive":true,"text":true,"files":true}},"polls":{"can_create":true,"can_view":true,"can_vote":true},"plugins":{"can_start":true,"can_close":true,"can_edit_config":true,"config":{}},"connected_meetings":{"can_alter_connected_meetings":true,"can_switch_connected_meetings":true,"can_switch_to_parent_meeting":true},"media":{"audio":{"can_produce":"ALLOWED"},"video":{"can_produce":"ALLOWED"},"screenshare":{"can_produce":"ALLOWED"}},"recorder_type":"NONE","waiting_room_type":"SKIP","is_recorder":false,"stage_enabled":false,"stage_access":"ALLOWED","accept_stage_requests":true,"transcription_enabled":true},"ui":{"design_tokens":{"border_radius":"rounded","border_width":"thin","spacing_base":4,"theme":"dark","colors":{"brand":{"300":"#9FBAFF","400":"#5C8AFF","500":"#2160FD","600":"#1E50D6","700":"#1840AA"},"background":{"600":"#4A4A4A","700":"#3E3E3E","800":"#323232","900":"#2F2F2F","1000":"#252525"},"danger":"#FF2D2D","success":"#62A504","text":"#EEEEEE","text_on_brand":"#EEEEEE","video_bg":"#191919","warning":"#FFCD07"}}}}');
INSERT INTO public.presets VALUES ('01a230cd-512f-7000-8000-084b4e76def8', '01a230cd-512f-7000-8000-1050adaac55a', 'group_call_participant', 1, 1796115091759, 1796115091759, NULL, '{"config":{"view_type":"GROUP_CALL","max_video_streams":{"desktop":9,"mobile":4},"max_screenshare_count":1,"livestream_viewer_qualities":[],"media":{"audio":{"enable_high_bitrate":false,"enable_stereo":false},"video":{"quality":"hd","frame_rate":30,"simulcast":false},"screenshare":{"quality":"hd","frame_rate":5}}},"permissions":{"accept_waiting_requests":false,"can_accept_production_requests":false,"can_change_participant_permissions":false,"can_edit_display_name":true,"can_livestream":false,"can_record":false,"can_spotlight":false,"disable_participant_audio":false,"disable_participant_video":false,"disable_participant_screensharing":false,"hidden_participant":false,"kick_participant":false,"pin_participant":false,"show_participant_list":true,"chat":{"public":{"can_send":true,"text":true,"files":true},"private":{"can_send":true,"can_receive":true,"text":true,"files":true}},"polls":{"can_create":false,"can_view":true,"can_vote":true},"plugins":{"can_start":false,"can_close":false,"can_edit_config":false,"config":{}},"connected_meetings":{"can_alter_connected_meetings":false,"can_switch_connected_meetings":false,"can_switch_to_parent_meeting":false},"media":{"audio":{"can_produce":"ALLOWED"},"video":{"can_produce":"ALLOWED"},"screenshare":{"can_produce":"ALLOWED"}},"recorder_type":"NONE","waiting_room_type":"SKIP","is_recorder":false,"stage_enabled":false,"accept_stage_requests":false,"transcription_enabled":true},"ui":{"design_tokens":{"border_radius":"rounded","border_width":"thin","spacing_base":4,"theme":"dark","colors":{"brand":{"300":"#9FBAFF","400":"#5C8AFF","500":"#2160FD","600":"#1E50D6","700":"#1840AA"},"background":{"600":"#4A4A4A","700":"#3E3E3E","800":"#323232","900":"#2F2F2F","1000":"#252525"},"danger":"#FF2D2D","success":"#62A504","text":"#EEEEEE","text_on_brand":"#EEEEEE","video_bg":"#191919","warning":"#FFCD07"}}}}');
INSERT INTO public.presets VALUES ('01a230cd-512f-7000-8000-084b4e76def8', '01a230cd-512f-7000-8000-173b081a95f8', 'group_call_guest', 1, 1796115091759, 1796115091759, NULL, '{"config":{"view_type":"GROUP_CALL","max_video_streams":{"desktop":9,"mobile":4},"max_screenshare_count":1,"livestream_viewer_qualities":[],"media":{"audio":{"enable_high_bitrate":false,"enable_stereo":false},"video":{"quality":"hd","frame_rate":30,"simulcast":false},"screenshare":{"quality":"hd","frame_rate":5}}},"permissions":{"accept_waiting_requests":false,"can_accept_production_requests":false,"can_change_participant_permissions":false,"can_edit_display_name":true,"can_livestream":false,"can_record":false,"can_spotlight":false,"disable_participant_audio":false,"disable_participant_video":false,"disable_participant_screensharing":false,"hidden_participant":false,"kick_participant":false,"pin_participant":false,"show_participant_list":true,"chat":{"public":{"can_send":true,"text":true,"files":false},"private":{"can_send":false,"can_receive":false,"text":false,"files":false}},"polls":{"can_create":false,"can_view":true,"can_vote":true},"plugins":{"can_start":false,"can_close":false,"can_edit_config":false,"config":{}},"connected_meetings":{"can_alter_connected_meetings":false,"can_switch_connected_meetings":false,"can_switch_to_parent_meeting":false},"media":{"audio":{"can_produce":"ALLOWED"},"video":{"can_produce":"ALLOWED"},"screenshare":{"can_produce":"NOT_ALLOWED"}},"recorder_type":"NONE","waiting_room_type":"ON_PRIVILEGED_USER_ENTRY","is_recorder":false,"stage_enabled":false,"accept_stage_requests":false,"transcription_enabled":true},"ui":{"design_tokens":{"border_radius":"rounded","border_width":"thin","spacing_base":4,"theme":"dark","colors":{"brand":{"300":"#9FBAFF","400":"#5C8AFF","500":"#2160FD","600":"#1E50D6","700":"#1840AA"},"background":{"600":"#4A4A4A","700":"#3E3E3E","800":"#323232","900":"#2F2F2F","1000":"#252525"},"danger":"#FF2D2D","success":"#62A504","text":"#EEEEEE","text_on_brand":"#EEEEEE","video_bg":"#191919","warning":"#FFCD07"}}}}');
INSERT INTO public.presets VALUES ('01a230cd-512f-7000-8000-084b4e76def8', '01a230cd-512f-7000-8000-1a9371f4f1c2', 'webinar_presenter', 1, 1796115091759, 1796115091759, NULL, '{"config":{"view_type":"WEBINAR","max_video_streams":{"desktop":9,"mobile":4},"max_screenshare_count":1,"livestream_viewer_qualities":[],"media":{"audio":{"enable_high_bitrate":false,"enable_stereo":false},"video":{"quality":"hd","frame_rate":30,"simulcast":false},"screenshare":{"quality":"hd","frame_rate":5}}},"permissions":{"accept_waiting_requests":true,"can_accept_production_requests":true,"can_change_participant_permissions":true,"can_edit_display_name":true,"can_livestream":true,"can_record":true,"can_spotlight":true,"disable_participant_audio":true,"disable_participant_video":true,"disable_participant_screensharing":true,"hidden_participant":false,"kick_participant":true,"pin_participant":true,"show_participant_list":true,"chat":{"public":{"can_send":true,"text":true,"files":true},"private":{"can_send":true,"can_receive":true,"text":true,"files":true}},"polls":{"can_create":true,"can_view":true,"can_vote":true},"plugins":{"can_start":true,"can_close":true,"can_edit_config":true,"config":{}},"connected_meetings":{"can_alter_connected_meetings":true,"can_switch_connected_meetings":true,"can_switch_to_parent_meeting":true},"media":{"audio":{"can_produce":"ALLOWED"},"video":{"can_produce":"ALLOWED"},"screenshare":{"can_produce":"ALLOWED"}},"recorder_type":"NONE","waiting_room_type":"SKIP","is_recorder":false,"stage_enabled":true,"stage_access":"ALLOWED","accept_stage_requests":true,"transcription_enabled":true},"ui":{"design_tokens":{"border_radius":"rounded","border_width":"thin","spacing_base":4,"theme":"dark","colors":{"brand":{"300":"#9FBAFF","400":"#5C8AFF","500":"#2160FD","600":"#1E50D6","700":"#1840AA"},"background":{"600":"#4A4A4A","700":"#3E3E3E","800":"#323232","900":"#2F2F2F","1000":"#252525"},"danger":"#FF2D2D","success":"#62A504","text":"#EEEEEE","text_on_brand":"#EEEEEE","video_bg":"#191919","warning":"#FFCD07"}}}}');
INSERT INTO public.presets VALUES ('01a230cd-512f-7000-8000-084b4e76def8', '01a230cd-512f-7000-8000-1da1c0913aff', 'webinar_viewer', 1, 1796115091759, 1796115091759, NULL, '{"config":{"view_type":"WEBINAR","max_video_streams":{"desktop":9,"mobile":4},"max_screenshare_count":1,"livestream_viewer_qualities":[],"media":{"audio":{"enable_high_bitrate":false,"enable_stereo":false},"video":{"quality":"hd","frame_rate":30,"simulcast":false},"screenshare":{"quality":"hd","frame_rate":5}}},"permissions":{"accept_waiting_requests":false,"can_accept_production_requests":false,"can_change_participant_permissions":false,"can_edit_display_name":true,"can_livestream":false,"can_record":false,"can_spotlight":false,"disable_participant_audio":false,"disable_participant_video":false,"disable_participant_screensharing":false,"hidden_participant":false,"kick_participant":false,"pin_participant":false,"show_participant_list":false,"chat":{"public":{"can_send":true,"text":true,"files":false},"private":{"can_send":false,"can_receive":false,"text":false,"files":false}},"polls":{"can_create":false,"can_view":true,"can_vote":true},"plugins":{"can_start":false,"can_close":false,"can_edit_config":false,"config":{}},"connected_meetings":{"can_alter_connected_meetings":false,"can_switch_connected_meetings":false,"can_switch_to_parent_meeting":false},"media":{"audio":{"can_produce":"CAN_REQUEST"},"video":{"can_produce":"CAN_REQUEST"},"screenshare":{"can_produce":"CAN_REQUEST"}},"recorder_type":"NONE","waiting_room_type":"SKIP","is_recorder":false,"stage_enabled":true,"stage_access":"CAN_REQUEST","accept_stage_requests":false,"transcription_enabled":true},"ui":{"design_tokens":{"border_radius":"rounded","border_width":"thin","spacing_base":4,"theme":"dark","colors":{"brand":{"300":"#9FBAFF","400":"#5C8AFF","500":"#2160FD","600":"#1E50D6","700":"#1840AA"},"background":{"600":"#4A4A4A","700":"#3E3E3E","800":"#323232","900":"#2F2F2F","1000":"#252525"},"danger":"#FF2D2D","success":"#62A504","text":"#EEEEEE","text_on_brand":"#EEEEEE","video_bg":"#191919","warning":"#FFCD07"}}}}');
INSERT INTO public.presets VALUES ('01a230cd-512f-7000-8000-084b4e76def8', '01a230cd-512f-7000-8000-22884adb44f4', 'livestream_host', 1, 1796115091759, 1796115091759, NULL, '{"config":{"view_type":"LIVESTREAM","max_video_streams":{"desktop":9,"mobile":4},"max_screenshare_count":1,"livestream_viewer_qualities":[],"media":{"audio":{"enable_high_bitrate":false,"enable_stereo":false},"video":{"quality":"hd","frame_rate":30,"simulcast":false},"screenshare":{"quality":"hd","frame_rate":5}}},"permissions":{"accept_waiting_requests":true,"can_accept_production_requests":true,"can_change_participant_permissions":true,"can_edit_display_name":true,"can_livestream":true,"can_record":true,"can_spotlight":true,"disable_participant_audio":true,"disable_participant_video":true,"disable_participant_screensharing":true,"hidden_participant":false,"kick_participant":true,"pin_participant":true,"show_participant_list":true,"chat":{"public":{"can_send":true,"text":true,"files":true},"private":{"can_send":true,"can_receive":true,"text":true,"files":true}},"polls":{"can_create":true,"can_view":true,"can_vote":true},"plugins":{"can_start":true,"can_close":true,"can_edit_config":true,"config":{}},"connected_meetings":{"can_alter_connected_meetings":true,"can_switch_connected_meetings":true,"can_switch_to_parent_meeting":true},"media":{"audio":{"can_produce":"ALLOWED"},"video":{"can_produce":"ALLOWED"},"screenshare":{"can_produce":"ALLOWED"}},"recorder_type":"NONE","waiting_room_type":"SKIP","is_recorder":false,"stage_enabled":true,"stage_access":"ALLOWED","accept_stage_requests":true,"transcription_enabled":true},"ui":{"design_tokens":{"border_radius":"rounded","border_width":"thin","spacing_base":4,"theme":"dark","colors":{"brand":{"300":"#9FBAFF","400":"#5C8AFF","500":"#2160FD","600":"#1E50D6","700":"#1840AA"},"background":{"600":"#4A4A4A","700":"#3E3E3E","800":"#323232","900":"#2F2F2F","1000":"#252525"},"danger":"#FF2D2D","success":"#62A504","text":"#EEEEEE","text_on_brand":"#EEEEEE","video_bg":"#191919","warning":"#FFCD07"}}}}');
INSERT INTO public.presets VALUES ('01a230cd-512f-7000-8000-084b4e76def8', '01a230cd-512f-7000-8000-244f3df0dac7', 'livestream_viewer', 1, 1796115091759, 1796115091759, NULL, '{"config":{"view_type":"LIVESTREAM","max_video_streams":{"desktop":9,"mobile":4},"max_screenshare_count":1,"livestream_viewer_qualities":[],"media":{"audio":{"enable_high_bitrate":false,"enable_stereo":false},"video":{"quality":"hd","frame_rate":30,"simulcast":false},"screenshare":{"quality":"hd","frame_rate":5}}},"permissions":{"accept_waiting_requests":false,"can_accept_production_requests":false,"can_change_participant_permissions":false,"can_edit_display_name":true,"can_livestream":false,"can_record":false,"can_spotlight":false,"disable_participant_audio":false,"disable_participant_video":false,"disable_participant_screensharing":false,"hidden_participant":false,"kick_participant":false,"pin_participant":false,"show_participant_list":false,"chat":{"public":{"can_send":true,"text":true,"files":false},"private":{"can_send":false,"can_receive":false,"text":false,"files":false}},"polls":{"can_create":false,"can_view":true,"can_vote":true},"plugins":{"can_start":false,"can_close":false,"can_edit_config":false,"config":{}},"connected_meetings":{"can_alter_connected_meetings":false,"can_switch_connected_meetings":false,"can_switch_to_parent_meeting":false},"media":{"audio":{"can_produce":"NOT_ALLOWED"},"video":{"can_produce":"NOT_ALLOWED"},"screenshare":{"can_produce":"NOT_ALLOWED"}},"recorder_type":"NONE","waiting_room_type":"SKIP","is_recorder":false,"stage_enabled":true,"stage_access":"NOT_ALLOWED","accept_stage_requests":false,"transcription_enabled":true},"ui":{"design_tokens":{"border_radius":"rounded","border_width":"thin","spacing_base":4,"theme":"dark","colors":{"brand":{"300":"#9FBAFF","400":"#5C8AFF","500":"#2160FD","600":"#1E50D6","700":"#1840AA"},"background":{"600":"#4A4A4A","700":"#3E3E3E","800":"#323232","900":"#2F2F2F","1000":"#252525"},"danger":"#FF2D2D","success":"#62A504","text":"#EEEEEE","text_on_brand":"#EEEEEE","video_bg":"#191919","warning":"#FFCD07"}}}}');
INSERT INTO public.schema_migrations VALUES ('0001_init', '\xc78fecf5a4e48b72e9b3cce95bfff67c7797ee80d5505adefc17c3146045ea41', 1796115091561);
INSERT INTO public.schema_migrations VALUES ('0002_live', '\x1c76576b70d904236fe94b76e4ea47ff07ace99bb02a773a764f0d068fd9e099', 1796115091594);
INSERT INTO public.schema_migrations VALUES ('0003_peer_reports', '\x7487b8908ce8078d030bf56d3d6f1a5fd3751e0269a253b2d799ab78be639bf6', 1796115091596);
INSERT INTO public.servers VALUES ('01a230cd-5120-7000-8000-03195801e799', 1796115092805);
INSERT INTO public.signing_keys VALUES ('23836442cc782c61', 1, '\x3051020101300506032b657004220420430ea81032c6a8cc0004d0520d399d07fe43448f2d31413414a5e5807e62e7a4812100ee0249f15502cbc44708b978de081b0a9bca3c79410b0c4bd86f7033f4dcf905', '\xee0249f15502cbc44708b978de081b0a9bca3c79410b0c4bd86f7033f4dcf905', 1796115091596, NULL);
INSERT INTO public.tallies VALUES ('01a230cd-512f-7000-8000-084b4e76def8', '01a230cd-512f-7000-8000-084b4e76def8', 20, 1, 0);
INSERT INTO public.tallies VALUES ('01a230cd-512f-7000-8000-084b4e76def8', '01a230cd-53a4-7000-8000-2b15316da360', 20, 2, 0);
ALTER TABLE ONLY public.accounts
    ADD CONSTRAINT accounts_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.api_tokens
    ADD CONSTRAINT api_tokens_pkey PRIMARY KEY (account_id, id);
ALTER TABLE ONLY public.apps
    ADD CONSTRAINT apps_pkey PRIMARY KEY (account_id, id);
ALTER TABLE ONLY public.chat_messages
    ADD CONSTRAINT chat_messages_pkey PRIMARY KEY (app_id, meeting_id, id);
ALTER TABLE ONLY public.connected_meetings
    ADD CONSTRAINT connected_meetings_pkey PRIMARY KEY (app_id, parent_id, meeting_id);
ALTER TABLE ONLY public.idempotency_keys
    ADD CONSTRAINT idempotency_keys_pkey PRIMARY KEY (token_id, key);
ALTER TABLE ONLY public.meeting_words
    ADD CONSTRAINT meeting_words_pkey PRIMARY KEY (app_id, word, meeting_id);
ALTER TABLE ONLY public.meetings
    ADD CONSTRAINT meetings_pkey PRIMARY KEY (app_id, id);
ALTER TABLE ONLY public.participants
    ADD CONSTRAINT participants_pkey PRIMARY KEY (app_id, meeting_id, id);
ALTER TABLE ONLY public.presets
    ADD CONSTRAINT presets_pkey PRIMARY KEY (app_id, id);
ALTER TABLE ONLY public.purges
    ADD CONSTRAINT purges_pkey PRIMARY KEY (app_id, meeting_id);
ALTER TABLE ONLY public.schema_migrations
    ADD CONSTRAINT schema_migrations_pkey PRIMARY KEY (name);
ALTER TABLE ONLY public.servers
    ADD CONSTRAINT servers_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.session_entries
    ADD CONSTRAINT session_entries_pkey PRIMARY KEY (app_id, session_id, kind, key);
ALTER TABLE ONLY public.session_peers
    ADD CONSTRAINT session_peers_pkey PRIMARY KEY (app_id, session_id, peer_id);
ALTER TABLE ONLY public.sessions
    ADD CONSTRAINT sessions_pkey PRIMARY KEY (app_id, id);
ALTER TABLE ONLY public.signing_keys
    ADD CONSTRAINT signing_keys_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.tallies
    ADD CONSTRAINT tallies_pkey PRIMARY KEY (app_id, scope, lane);
CREATE UNIQUE INDEX api_tokens_secret_hash ON public.api_tokens USING btree (secret_hash);
CREATE UNIQUE INDEX apps_id ON public.apps USING btree (id);
CREATE INDEX chat_messages_session ON public.chat_messages USING btree (app_id, session_id, id);
CREATE UNIQUE INDEX connected_meetings_meeting ON public.connected_meetings USING btree (app_id, meeting_id);
CREATE INDEX idempotency_keys_created_at ON public.idempotency_keys USING btree (created_at);
CREATE INDEX meeting_words_meeting ON public.meeting_words USING btree (app_id, meeting_id);
CREATE INDEX meetings_status ON public.meetings USING btree (app_id, status, id);
CREATE UNIQUE INDEX participants_custom_id ON public.participants USING btree (app_id, meeting_id, custom_participant_id);
CREATE INDEX participants_search_name ON public.participants USING btree (app_id, meeting_id, search_name, id) WHERE (search_name IS NOT NULL);
CREATE INDEX presets_live ON public.presets USING btree (app_id, id) WHERE (retired_at IS NULL);
CREATE UNIQUE INDEX presets_name ON public.presets USING btree (app_id, name) WHERE (retired_at IS NULL);
CREATE INDEX purges_due ON public.purges USING btree (due);
CREATE INDEX session_peers_inside ON public.session_peers USING btree (app_id, session_id, entered_at) WHERE (left_at IS NULL);
CREATE INDEX session_peers_joined ON public.session_peers USING btree (app_id, session_id, joined_at, peer_id);
CREATE INDEX session_peers_peer ON public.session_peers USING btree (app_id, peer_id);
CREATE INDEX sessions_consumed ON public.sessions USING btree (app_id, consumed_ms, id);
CREATE INDEX sessions_daily ON public.sessions USING btree (app_id, started_at, consumed_ms);
CREATE UNIQUE INDEX sessions_live ON public.sessions USING btree (app_id, meeting_id) WHERE (ended_at IS NULL);
CREATE INDEX sessions_meeting ON public.sessions USING btree (app_id, meeting_id, id);
CREATE UNIQUE INDEX signing_keys_current ON public.signing_keys USING btree (current);
