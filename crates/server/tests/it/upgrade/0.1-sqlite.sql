BEGIN TRANSACTION;
CREATE TABLE accounts (
    id BLOB NOT NULL,
    name TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (id)
) STRICT, WITHOUT ROWID;
INSERT INTO "accounts" VALUES(X'00000000000000000000000000000007','first',1796115076312);
CREATE TABLE api_tokens (
    account_id BLOB NOT NULL,
    id BLOB NOT NULL,
    name TEXT NOT NULL,
    secret_hash BLOB NOT NULL,
    permissions TEXT NOT NULL,
    app_ids TEXT,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER,
    PRIMARY KEY (account_id, id)
) STRICT, WITHOUT ROWID;
INSERT INTO "api_tokens" VALUES(X'00000000000000000000000000000007',X'01A230CD14D870008000072E6BEDB91B','first',X'2DAE382D28735CA62DA3EC92C0AFFB6BF2EECC520F13AC65BFE267F9B6C2C729','["Realtime Admin"]',NULL,1796115076312,NULL,NULL);
CREATE TABLE apps (
    account_id BLOB NOT NULL,
    id BLOB NOT NULL,
    name TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (account_id, id)
) STRICT, WITHOUT ROWID;
INSERT INTO "apps" VALUES(X'00000000000000000000000000000007',X'01A230CD14D8700080000875FBB8DD10','first',1796115076312);
CREATE TABLE chat_messages (
    app_id BLOB NOT NULL,
    meeting_id BLOB NOT NULL,
    id BLOB NOT NULL,
    session_id BLOB NOT NULL,
    peer_id BLOB NOT NULL,
    participant_id BLOB NOT NULL,
    kind INTEGER NOT NULL,
    pinned INTEGER NOT NULL,
    edited INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    targets BLOB NOT NULL,
    name TEXT NOT NULL,
    payload TEXT NOT NULL,
    PRIMARY KEY (app_id, meeting_id, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE connected_meetings (
    app_id BLOB NOT NULL,
    parent_id BLOB NOT NULL,
    meeting_id BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (app_id, parent_id, meeting_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE idempotency_keys (
    token_id BLOB NOT NULL,
    key TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    reply BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (token_id, key)
) STRICT, WITHOUT ROWID;
INSERT INTO "idempotency_keys" VALUES(X'01A230CD14D870008000072E6BEDB91B','old',X'00CDD64E359D6FB95F24F04FCECA75E0D9F12E9CA4087B7D676B78D6AAE53C06',X'E77B639DF81D057FF4E73829E7D40D7841BB197388552D815BC4D226C474760C7945A74F8C44338037C0239518860103733ED939F43825A5ABB3E85A9B0EDB3C10ADDA77166550729E572DF08EE12F53426859A1081E23AE5DE97587F603538BBD18BA2173197602EC1245C9BAEBD75F4E39A8F18313EDE6D3DF705D7C22255192B2EB89064E9ACCE03C0CAD6C843C2A28E5779AE5A71C9E631526668AA097FECE14A92AF52EBEE3FA7E0453BF31CCCAB8D08373D1643BD3C1714301D7E821749F0BC5AD3DC15297F8072290B0BF826C08B0231583EED75AD43E84A60F4F16D10C2167894AF4A93E338184A3884A519CE579EC978EF146E3E5D6B8529DC52AFC81E69486ACAA029B487B1ABD9B4A2B4FECC48D9DBE1171D09AD5EF342E0A2C6B4D795FCA2D8EB089801E7AC44B80C1D3B671A381ACB0CABD1AA1A76F27BAFAE169A0E2203D55E1C47A0E875FDDB113CE9364EF2832B8BE3F932979A937D7D862E0356E71418B7EDE1A76E73B83F5C7E322978C67E3867A6A6F73221A0454D81D0D193A613E708FEF70DF27DC96436E9EA62663F7FA46C1559A92F93DBC39F709155BF67335776EED6FD3D3414A4CB52184BD7109EC96AE5C53471D3F94FAEB85248D7AD37DB825E636CA3FD6E3191633443DE15505D9C8F4D08A9626F8E66A2736A5044B8A7184C4B0FB7ECDDFFA75C5C51B7BEAAE205930077E09204F34D72CF34544A90D967AE31C56C90F2BC5816FCEA62264FCCD91282041720C5E8A7A3AF536D3ABD091CCD8FAC9799030F6D172E75939C72861EB2383459D6D5D15CE12F24E898821BF5FA20011A7EC21661605730A8F1114F1FE10A6F177F1549DF915485DF3659F3EF6B44436AF23165F1FEC12BC1DCC767D9301FD772498C5CAE517CC634E7245ECEF016E05A7A93334F34EAA9858E7A229AE69567E692CDD331F122C31EF5DB523BEC4DD4A17C472BDD8A46F0538B7182350415C9C597B93373FDD538AC49563D7AB8E1E9C6DDA238A692C23342569FEFCC20EA169B0CC39F7613316FE1BA4628275B7BA1909AC6AA9C472B3D2DD18FEC7E234AF9DD7AFE08BC951521BCC3136ED932E8E2EC7A25257D6FD010E2E55BF6F2EEE5D24AF24166A5F65D18D87366C1E45FC831C7991325CF6FAF32690ECB5D7984AC814A646BC23F2187FDA5035513577',1796115077760);
CREATE TABLE meeting_words (
    app_id BLOB NOT NULL,
    word TEXT NOT NULL,
    meeting_id BLOB NOT NULL,
    PRIMARY KEY (app_id, word, meeting_id)
) STRICT, WITHOUT ROWID;
INSERT INTO "meeting_words" VALUES(X'01A230CD14D8700080000875FBB8DD10','0.1',X'01A230CD18007000800028A65400C70D');
INSERT INTO "meeting_words" VALUES(X'01A230CD14D8700080000875FBB8DD10','a meeting of version 0.1',X'01A230CD18007000800028A65400C70D');
INSERT INTO "meeting_words" VALUES(X'01A230CD14D8700080000875FBB8DD10','meeting of version 0.1',X'01A230CD18007000800028A65400C70D');
INSERT INTO "meeting_words" VALUES(X'01A230CD14D8700080000875FBB8DD10','of version 0.1',X'01A230CD18007000800028A65400C70D');
INSERT INTO "meeting_words" VALUES(X'01A230CD14D8700080000875FBB8DD10','version 0.1',X'01A230CD18007000800028A65400C70D');
CREATE TABLE meetings (
    app_id BLOB NOT NULL,
    id BLOB NOT NULL,
    title TEXT,
    status TEXT NOT NULL,
    version INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    settings TEXT NOT NULL,
    PRIMARY KEY (app_id, id)
) STRICT, WITHOUT ROWID;
INSERT INTO "meetings" VALUES(X'01A230CD14D8700080000875FBB8DD10',X'01A230CD18007000800028A65400C70D','A meeting of version 0.1','ACTIVE',1,1796115077120,1796115077120,'{"record_on_start":false,"live_stream_on_start":false,"persist_chat":false,"summarize_on_end":false,"transcribe_on_end":false,"session_keep_alive_time_in_secs":60}');
CREATE TABLE participants (
    app_id BLOB NOT NULL,
    meeting_id BLOB NOT NULL,
    id BLOB NOT NULL,
    preset_id BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    custom_participant_id TEXT NOT NULL,
    name TEXT,
    search_name TEXT,
    picture TEXT,
    PRIMARY KEY (app_id, meeting_id, id)
) STRICT, WITHOUT ROWID;
INSERT INTO "participants" VALUES(X'01A230CD14D8700080000875FBB8DD10',X'01A230CD18007000800028A65400C70D',X'01A230CD1A80700080002C2CA0FAAA72',X'01A230CD14D8700080000EB14FE61AF3',1796115077760,1796115077760,'ada','Ada','ada',NULL);
INSERT INTO "participants" VALUES(X'01A230CD14D8700080000875FBB8DD10',X'01A230CD18007000800028A65400C70D',X'01A230CD1AA770008000303EF5D9D45D',X'01A230CD14D870008000121761F0DC92',1796115077799,1796115077799,'bob',NULL,NULL,NULL);
CREATE TABLE presets (
    app_id BLOB NOT NULL,
    id BLOB NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    retired_at INTEGER,
    body TEXT NOT NULL,
    PRIMARY KEY (app_id, id)
) STRICT, WITHOUT ROWID;
INSERT INTO "presets" VALUES(X'01A230CD14D8700080000875FBB8DD10',X'01A230CD14D8700080000EB14FE61AF3','group_call_host',1,1796115076312,1796115076312,NULL,'{"config":{"view_type":"GROUP_CALL","max_video_streams":{"desktop":9,"mobile":4},"max_screenshare_count":1,"livestream_viewer_qualities":[],"media":{"audio":{"enable_high_bitrate":false,"enable_stereo":false},"video":{"quality":"hd","frame_rate":30,"simulcast":false},"screenshare":{"quality":"hd","frame_rate":5}}},"permissions":{"accept_waiting_requests":true,"can_accept_production_requests":true,"can_change_participant_permissions":true,"can_edit_display_name":true,"can_livestream":true,"can_record":true,"can_spotlight":true,"disable_participant_audio":true,"disable_participant_video":true,"disable_participant_screensharing":true,"hidden_participant":false,"kick_participant":true,"pin_participant":true,"show_participant_list":true,"chat":{"public":{"can_send":true,"text":true,"files":true},"private":{"can_send":true,"can_receive":true,"text":true,"files":true}},"polls":{"can_create":true,"can_view":true,"can_vote":true},"plugins":{"can_start":true,"can_close":true,"can_edit_config":true,"config":{}},"connected_meetings":{"can_alter_connected_meetings":true,"can_switch_connected_meetings":true,"can_switch_to_parent_meeting":true},"media":{"audio":{"can_produce":"ALLOWED"},"video":{"can_produce":"ALLOWED"},"screenshare":{"can_produce":"ALLOWED"}},"recorder_type":"NONE","waiting_room_type":"SKIP","is_recorder":false,"stage_enabled":false,"stage_access":"ALLOWED","accept_stage_requests":true,"transcription_enabled":true},"ui":{"design_tokens":{"border_radius":"rounded","border_width":"thin","spacing_base":4,"theme":"dark","colors":{"brand":{"300":"#9FBAFF","400":"#5C8AFF","500":"#2160FD","600":"#1E50D6","700":"#1840AA"},"background":{"600":"#4A4A4A","700":"#3E3E3E","800":"#323232","900":"#2F2F2F","1000":"#252525"},"danger":"#FF2D2D","success":"#62A504","text":"#EEEEEE","text_on_brand":"#EEEEEE","video_bg":"#191919","warning":"#FFCD07"}}}}');
INSERT INTO "presets" VALUES(X'01A230CD14D8700080000875FBB8DD10',X'01A230CD14D870008000121761F0DC92','group_call_participant',1,1796115076312,1796115076312,NULL,'{"config":{"view_type":"GROUP_CALL","max_video_streams":{"desktop":9,"mobile":4},"max_screenshare_count":1,"livestream_viewer_qualities":[],"media":{"audio":{"enable_high_bitrate":false,"enable_stereo":false},"video":{"quality":"hd","frame_rate":30,"simulcast":false},"screenshare":{"quality":"hd","frame_rate":5}}},"permissions":{"accept_waiting_requests":false,"can_accept_production_requests":false,"can_change_participant_permissions":false,"can_edit_display_name":true,"can_livestream":false,"can_record":false,"can_spotlight":false,"disable_participant_audio":false,"disable_participant_video":false,"disable_participant_screensharing":false,"hidden_participant":false,"kick_participant":false,"pin_participant":false,"show_participant_list":true,"chat":{"public":{"can_send":true,"text":true,"files":true},"private":{"can_send":true,"can_receive":true,"text":true,"files":true}},"polls":{"can_create":false,"can_view":true,"can_vote":true},"plugins":{"can_start":false,"can_close":false,"can_edit_config":false,"config":{}},"connected_meetings":{"can_alter_connected_meetings":false,"can_switch_connected_meetings":false,"can_switch_to_parent_meeting":false},"media":{"audio":{"can_produce":"ALLOWED"},"video":{"can_produce":"ALLOWED"},"screenshare":{"can_produce":"ALLOWED"}},"recorder_type":"NONE","waiting_room_type":"SKIP","is_recorder":false,"stage_enabled":false,"accept_stage_requests":false,"transcription_enabled":true},"ui":{"design_tokens":{"border_radius":"rounded","border_width":"thin","spacing_base":4,"theme":"dark","colors":{"brand":{"300":"#9FBAFF","400":"#5C8AFF","500":"#2160FD","600":"#1E50D6","700":"#1840AA"},"background":{"600":"#4A4A4A","700":"#3E3E3E","800":"#323232","900":"#2F2F2F","1000":"#252525"},"danger":"#FF2D2D","success":"#62A504","text":"#EEEEEE","text_on_brand":"#EEEEEE","video_bg":"#191919","warning":"#FFCD07"}}}}');
INSERT INTO "presets" VALUES(X'01A230CD14D8700080000875FBB8DD10',X'01A230CD14D87000800014AE23F893C8','group_call_guest',1,1796115076312,1796115076312,NULL,'{"config":{"view_type":"GROUP_CALL","max_video_streams":{"desktop":9,"mobile":4},"max_screenshare_count":1,"livestream_viewer_qualities":[],"media":{"audio":{"enable_high_bitrate":false,"enable_stereo":false},"video":{"quality":"hd","frame_rate":30,"simulcast":false},"screenshare":{"quality":"hd","frame_rate":5}}},"permissions":{"accept_waiting_requests":false,"can_accept_production_requests":false,"can_change_participant_permissions":false,"can_edit_display_name":true,"can_livestream":false,"can_record":false,"can_spotlight":false,"disable_participant_audio":false,"disable_participant_video":false,"disable_participant_screensharing":false,"hidden_participant":false,"kick_participant":false,"pin_participant":false,"show_participant_list":true,"chat":{"public":{"can_send":true,"text":true,"files":false},"private":{"can_send":false,"can_receive":false,"text":false,"files":false}},"polls":{"can_create":false,"can_view":true,"can_vote":true},"plugins":{"can_start":false,"can_close":false,"can_edit_config":false,"config":{}},"connected_meetings":{"can_alter_connected_meetings":false,"can_switch_connected_meetings":false,"can_switch_to_parent_meeting":false},"media":{"audio":{"can_produce":"ALLOWED"},"video":{"can_produce":"ALLOWED"},"screenshare":{"can_produce":"NOT_ALLOWED"}},"recorder_type":"NONE","waiting_room_type":"ON_PRIVILEGED_USER_ENTRY","is_recorder":false,"stage_enabled":false,"accept_stage_requests":false,"transcription_enabled":true},"ui":{"design_tokens":{"border_radius":"rounded","border_width":"thin","spacing_base":4,"theme":"dark","colors":{"brand":{"300":"#9FBAFF","400":"#5C8AFF","500":"#2160FD","600":"#1E50D6","700":"#1840AA"},"background":{"600":"#4A4A4A","700":"#3E3E3E","800":"#323232","900":"#2F2F2F","1000":"#252525"},"danger":"#FF2D2D","success":"#62A504","text":"#EEEEEE","text_on_brand":"#EEEEEE","video_bg":"#191919","warning":"#FFCD07"}}}}');
INSERT INTO "presets" VALUES(X'01A230CD14D8700080000875FBB8DD10',X'01A230CD14D8700080001A95E4513105','webinar_presenter',1,1796115076312,1796115076312,NULL,'{"config":{"view_type":"WEBINAR","max_video_streams":{"desktop":9,"mobile":4},"max_screenshare_count":1,"livestream_viewer_qualities":[],"media":{"audio":{"enable_high_bitrate":false,"enable_stereo":false},"video":{"quality":"hd","frame_rate":30,"simulcast":false},"screenshare":{"quality":"hd","frame_rate":5}}},"permissions":{"accept_waiting_requests":true,"can_accept_production_requests":true,"can_change_participant_permissions":true,"can_edit_display_name":true,"can_livestream":true,"can_record":true,"can_spotlight":true,"disable_participant_audio":true,"disable_participant_video":true,"disable_participant_screensharing":true,"hidden_participant":false,"kick_participant":true,"pin_participant":true,"show_participant_list":true,"chat":{"public":{"can_send":true,"text":true,"files":true},"private":{"can_send":true,"can_receive":true,"text":true,"files":true}},"polls":{"can_create":true,"can_view":true,"can_vote":true},"plugins":{"can_start":true,"can_close":true,"can_edit_config":true,"config":{}},"connected_meetings":{"can_alter_connected_meetings":true,"can_switch_connected_meetings":true,"can_switch_to_parent_meeting":true},"media":{"audio":{"can_produce":"ALLOWED"},"video":{"can_produce":"ALLOWED"},"screenshare":{"can_produce":"ALLOWED"}},"recorder_type":"NONE","waiting_room_type":"SKIP","is_recorder":false,"stage_enabled":true,"stage_access":"ALLOWED","accept_stage_requests":true,"transcription_enabled":true},"ui":{"design_tokens":{"border_radius":"rounded","border_width":"thin","spacing_base":4,"theme":"dark","colors":{"brand":{"300":"#9FBAFF","400":"#5C8AFF","500":"#2160FD","600":"#1E50D6","700":"#1840AA"},"background":{"600":"#4A4A4A","700":"#3E3E3E","800":"#323232","900":"#2F2F2F","1000":"#252525"},"danger":"#FF2D2D","success":"#62A504","text":"#EEEEEE","text_on_brand":"#EEEEEE","video_bg":"#191919","warning":"#FFCD07"}}}}');
INSERT INTO "presets" VALUES(X'01A230CD14D8700080000875FBB8DD10',X'01A230CD14D8700080001DD4C8BAC32C','webinar_viewer',1,1796115076312,1796115076312,NULL,'{"config":{"view_type":"WEBINAR","max_video_streams":{"desktop":9,"mobile":4},"max_screenshare_count":1,"livestream_viewer_qualities":[],"media":{"audio":{"enable_high_bitrate":false,"enable_stereo":false},"video":{"quality":"hd","frame_rate":30,"simulcast":false},"screenshare":{"quality":"hd","frame_rate":5}}},"permissions":{"accept_waiting_requests":false,"can_accept_production_requests":false,"can_change_participant_permissions":false,"can_edit_display_name":true,"can_livestream":false,"can_record":false,"can_spotlight":false,"disable_participant_audio":false,"disable_participant_video":false,"disable_participant_screensharing":false,"hidden_participant":false,"kick_participant":false,"pin_participant":false,"show_participant_list":false,"chat":{"public":{"can_send":true,"text":true,"files":false},"private":{"can_send":false,"can_receive":false,"text":false,"files":false}},"polls":{"can_create":false,"can_view":true,"can_vote":true},"plugins":{"can_start":false,"can_close":false,"can_edit_config":false,"config":{}},"connected_meetings":{"can_alter_connected_meetings":false,"can_switch_connected_meetings":false,"can_switch_to_parent_meeting":false},"media":{"audio":{"can_produce":"CAN_REQUEST"},"video":{"can_produce":"CAN_REQUEST"},"screenshare":{"can_produce":"CAN_REQUEST"}},"recorder_type":"NONE","waiting_room_type":"SKIP","is_recorder":false,"stage_enabled":true,"stage_access":"CAN_REQUEST","accept_stage_requests":false,"transcription_enabled":true},"ui":{"design_tokens":{"border_radius":"rounded","border_width":"thin","spacing_base":4,"theme":"dark","colors":{"brand":{"300":"#9FBAFF","400":"#5C8AFF","500":"#2160FD","600":"#1E50D6","700":"#1840AA"},"background":{"600":"#4A4A4A","700":"#3E3E3E","800":"#323232","900":"#2F2F2F","1000":"#252525"},"danger":"#FF2D2D","success":"#62A504","text":"#EEEEEE","text_on_brand":"#EEEEEE","video_bg":"#191919","warning":"#FFCD07"}}}}');
INSERT INTO "presets" VALUES(X'01A230CD14D8700080000875FBB8DD10',X'01A230CD14D87000800021C550980933','livestream_host',1,1796115076312,1796115076312,NULL,'{"config":{"view_type":"LIVESTREAM","max_video_streams":{"desktop":9,"mobile":4},"max_screenshare_count":1,"livestream_viewer_qualities":[],"media":{"audio":{"enable_high_bitrate":false,"enable_stereo":false},"video":{"quality":"hd","frame_rate":30,"simulcast":false},"screenshare":{"quality":"hd","frame_rate":5}}},"permissions":{"accept_waiting_requests":true,"can_accept_production_requests":true,"can_change_participant_permissions":true,"can_edit_display_name":true,"can_livestream":true,"can_record":true,"can_spotlight":true,"disable_participant_audio":true,"disable_participant_video":true,"disable_participant_screensharing":true,"hidden_participant":false,"kick_participant":true,"pin_participant":true,"show_participant_list":true,"chat":{"public":{"can_send":true,"text":true,"files":true},"private":{"can_send":true,"can_receive":true,"text":true,"files":true}},"polls":{"can_create":true,"can_view":true,"can_vote":true},"plugins":{"can_start":true,"can_close":true,"can_edit_config":true,"config":{}},"connected_meetings":{"can_alter_connected_meetings":true,"can_switch_connected_meetings":true,"can_switch_to_parent_meeting":true},"media":{"audio":{"can_produce":"ALLOWED"},"video":{"can_produce":"ALLOWED"},"screenshare":{"can_produce":"ALLOWED"}},"recorder_type":"NONE","waiting_room_type":"SKIP","is_recorder":false,"stage_enabled":true,"stage_access":"ALLOWED","accept_stage_requests":true,"transcription_enabled":true},"ui":{"design_tokens":{"border_radius":"rounded","border_width":"thin","spacing_base":4,"theme":"dark","colors":{"brand":{"300":"#9FBAFF","400":"#5C8AFF","500":"#2160FD","600":"#1E50D6","700":"#1840AA"},"background":{"600":"#4A4A4A","700":"#3E3E3E","800":"#323232","900":"#2F2F2F","1000":"#252525"},"danger":"#FF2D2D","success":"#62A504","text":"#EEEEEE","text_on_brand":"#EEEEEE","video_bg":"#191919","warning":"#FFCD07"}}}}');
INSERT INTO "presets" VALUES(X'01A230CD14D8700080000875FBB8DD10',X'01A230CD14D870008000276165EEC303','livestream_viewer',1,1796115076312,1796115076312,NULL,'{"config":{"view_type":"LIVESTREAM","max_video_streams":{"desktop":9,"mobile":4},"max_screenshare_count":1,"livestream_viewer_qualities":[],"media":{"audio":{"enable_high_bitrate":false,"enable_stereo":false},"video":{"quality":"hd","frame_rate":30,"simulcast":false},"screenshare":{"quality":"hd","frame_rate":5}}},"permissions":{"accept_waiting_requests":false,"can_accept_production_requests":false,"can_change_participant_permissions":false,"can_edit_display_name":true,"can_livestream":false,"can_record":false,"can_spotlight":false,"disable_participant_audio":false,"disable_participant_video":false,"disable_participant_screensharing":false,"hidden_participant":false,"kick_participant":false,"pin_participant":false,"show_participant_list":false,"chat":{"public":{"can_send":true,"text":true,"files":false},"private":{"can_send":false,"can_receive":false,"text":false,"files":false}},"polls":{"can_create":false,"can_view":true,"can_vote":true},"plugins":{"can_start":false,"can_close":false,"can_edit_config":false,"config":{}},"connected_meetings":{"can_alter_connected_meetings":false,"can_switch_connected_meetings":false,"can_switch_to_parent_meeting":false},"media":{"audio":{"can_produce":"NOT_ALLOWED"},"video":{"can_produce":"NOT_ALLOWED"},"screenshare":{"can_produce":"NOT_ALLOWED"}},"recorder_type":"NONE","waiting_room_type":"SKIP","is_recorder":false,"stage_enabled":true,"stage_access":"NOT_ALLOWED","accept_stage_requests":false,"transcription_enabled":true},"ui":{"design_tokens":{"border_radius":"rounded","border_width":"thin","spacing_base":4,"theme":"dark","colors":{"brand":{"300":"#9FBAFF","400":"#5C8AFF","500":"#2160FD","600":"#1E50D6","700":"#1840AA"},"background":{"600":"#4A4A4A","700":"#3E3E3E","800":"#323232","900":"#2F2F2F","1000":"#252525"},"danger":"#FF2D2D","success":"#62A504","text":"#EEEEEE","text_on_brand":"#EEEEEE","video_bg":"#191919","warning":"#FFCD07"}}}}');
CREATE TABLE purges (
    app_id BLOB NOT NULL,
    meeting_id BLOB NOT NULL,
    passes INTEGER NOT NULL,
    due INTEGER NOT NULL,
    PRIMARY KEY (app_id, meeting_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE schema_migrations (
        name TEXT NOT NULL,
        sha256 BLOB NOT NULL,
        applied_at INTEGER NOT NULL,
        PRIMARY KEY (name)
    ) STRICT, WITHOUT ROWID;
INSERT INTO "schema_migrations" VALUES('0001_init',X'C78FECF5A4E48B72E9B3CCE95BFFF67C7797EE80D5505ADEFC17C3146045EA41',1796115076048);
INSERT INTO "schema_migrations" VALUES('0002_live',X'1C76576B70D904236FE94B76E4EA47FF07ACE99BB02A773A764F0D068FD9E099',1796115076053);
INSERT INTO "schema_migrations" VALUES('0003_peer_reports',X'7487B8908CE8078D030BF56D3D6F1A5FD3751E0269A253B2D799AB78BE639BF6',1796115076060);
CREATE TABLE servers (
    id BLOB NOT NULL,
    alive_at INTEGER NOT NULL,
    PRIMARY KEY (id)
) STRICT, WITHOUT ROWID;
INSERT INTO "servers" VALUES(X'01A230CD14CC70008000006FD4CB134B',1796115077805);
CREATE TABLE session_entries (
    app_id BLOB NOT NULL,
    session_id BLOB NOT NULL,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (app_id, session_id, kind, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE session_peers (
    app_id BLOB NOT NULL,
    session_id BLOB NOT NULL,
    peer_id BLOB NOT NULL,
    meeting_id BLOB NOT NULL,
    participant_id BLOB NOT NULL,
    preset_id BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    joined_at INTEGER NOT NULL,
    entered_at INTEGER NOT NULL,
    left_at INTEGER,
    consumed_ms INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    view_type TEXT NOT NULL,
    preset_name TEXT NOT NULL,
    custom_participant_id TEXT NOT NULL,
    name TEXT,
    picture TEXT,
    PRIMARY KEY (app_id, session_id, peer_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE sessions (
    app_id BLOB NOT NULL,
    id BLOB NOT NULL,
    meeting_id BLOB NOT NULL,
    title TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at INTEGER,
    live INTEGER NOT NULL,
    peak INTEGER NOT NULL,
    total INTEGER NOT NULL,
    consumed_ms INTEGER NOT NULL,
    writes INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (app_id, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE signing_keys (
    id TEXT NOT NULL,
    current INTEGER,
    secret BLOB NOT NULL,
    public BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    retired_at INTEGER,
    PRIMARY KEY (id)
) STRICT, WITHOUT ROWID;
INSERT INTO "signing_keys" VALUES('74d832223e875ce2',1,X'3051020101300506032B6570042204208158984A32CA33E9BF39F6BFED916378B273612A03915477D801F57A8104680D812100C72DF12DBE3DCD30C1F18275FD8AE3ED46E565D63F1680FE29DEEDFB8A0EA0FE',X'C72DF12DBE3DCD30C1F18275FD8AE3ED46E565D63F1680FE29DEEDFB8A0EA0FE',1796115076087,NULL);
CREATE TABLE tallies (
    app_id BLOB NOT NULL,
    scope BLOB NOT NULL,
    lane INTEGER NOT NULL,
    added INTEGER NOT NULL,
    removed INTEGER NOT NULL,
    PRIMARY KEY (app_id, scope, lane)
) STRICT, WITHOUT ROWID;
INSERT INTO "tallies" VALUES(X'01A230CD14D8700080000875FBB8DD10',X'01A230CD14D8700080000875FBB8DD10',0,1,0);
INSERT INTO "tallies" VALUES(X'01A230CD14D8700080000875FBB8DD10',X'01A230CD18007000800028A65400C70D',0,2,0);
CREATE UNIQUE INDEX api_tokens_secret_hash ON api_tokens (secret_hash);
CREATE UNIQUE INDEX apps_id ON apps (id);
CREATE INDEX meetings_status ON meetings (app_id, status, id);
CREATE INDEX meeting_words_meeting ON meeting_words (app_id, meeting_id);
CREATE INDEX presets_live ON presets (app_id, id) WHERE retired_at IS NULL;
CREATE UNIQUE INDEX presets_name ON presets (app_id, name) WHERE retired_at IS NULL;
CREATE UNIQUE INDEX participants_custom_id
    ON participants (app_id, meeting_id, custom_participant_id);
CREATE INDEX participants_search_name
    ON participants (app_id, meeting_id, search_name, id) WHERE search_name IS NOT NULL;
CREATE INDEX purges_due ON purges (due);
CREATE INDEX idempotency_keys_created_at ON idempotency_keys (created_at);
CREATE UNIQUE INDEX signing_keys_current ON signing_keys (current);
CREATE INDEX sessions_meeting ON sessions (app_id, meeting_id, id);
CREATE INDEX sessions_consumed ON sessions (app_id, consumed_ms, id);
CREATE INDEX sessions_daily ON sessions (app_id, started_at, consumed_ms);
CREATE UNIQUE INDEX sessions_live ON sessions (app_id, meeting_id) WHERE ended_at IS NULL;
CREATE INDEX session_peers_joined ON session_peers (app_id, session_id, joined_at, peer_id);
CREATE INDEX session_peers_inside
    ON session_peers (app_id, session_id, entered_at) WHERE left_at IS NULL;
CREATE INDEX chat_messages_session ON chat_messages (app_id, session_id, id);
CREATE UNIQUE INDEX connected_meetings_meeting ON connected_meetings (app_id, meeting_id);
CREATE INDEX session_peers_peer ON session_peers (app_id, peer_id);
COMMIT;
