// Calls every operation of apps, meetings, participants and presets through the SDK, and checks the response
// against the SDK's declared type. The last test checks that no operation is missing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { account_id, connect, failure, kitPath, untyped } from "./client.mjs";
import { checkType } from "./types.mjs";
import { NotFoundError } from "cloudflare";

const { client, exchanges } = connect();
const { apps, meetings, presets } = client.realtimeKit;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const INSTANT = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

/** All operations, as `method template status`. Templates that do not start with /apps are below the app. */
const OPERATIONS = [
  "GET /apps 200", "POST /apps 200", "GET /apps/{app} 200",
  "GET /meetings 200", "POST /meetings 201",
  "GET /meetings/{id} 200", "PATCH /meetings/{id} 200", "PUT /meetings/{id} 200",
  "GET /meetings/{id}/participants 200", "POST /meetings/{id}/participants 201",
  "GET /meetings/{id}/participants/{id} 200", "PATCH /meetings/{id}/participants/{id} 200",
  "PUT /meetings/{id}/participants/{id} 200", "DELETE /meetings/{id}/participants/{id} 200",
  "POST /meetings/{id}/participants/{id}/token 200",
  "GET /presets 200", "POST /presets 200",
  "GET /presets/{id} 200", "PATCH /presets/{id} 200", "PUT /presets/{id} 200", "DELETE /presets/{id} 200",
];

let app_id = "";
let meeting_id = "";
let participant_id = "";
let preset_id = "";
const scope = () => ({ account_id, app_id });
const room = () => ({ ...scope(), meeting_id });

test("an app is created", async () => {
  const response = checkType("Apps", "post", await apps.post({ account_id, name: "Operations" }));
  assert.equal(response.success, true);
  assert.equal(response.data?.app?.name, "Operations");
  assert.match(response.data.app.created_at ?? "", INSTANT);
  assert.match(response.data.app.id ?? "", /^[0-9a-f]{32}$/);
  app_id = response.data.app.id ?? "";
});

test("apps are listed, newest first", async () => {
  const response = checkType("Apps", "get", await apps.get({ account_id, per_page: 1 }));
  assert.equal(response.data?.[0]?.id, app_id);
  assert.equal(response.data.length, 1);
  assert.deepEqual([response.paging?.start_offset, response.paging?.end_offset], [1, 1]);
  assert((response.paging?.total_count ?? 0) >= 1);
});

test("an app is read by its id with or without hyphens", async () => {
  const hyphened = app_id.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
  for (const id of [app_id, hyphened]) {
    const app = await untyped(client.get(kitPath("apps", id)));
    assert.equal(app.id, app_id);
    assert.equal(app.name, "Operations");
  }
});

test("an app is renamed", async () => {
  await client.patch(kitPath("apps", app_id), { body: { name: "Renamed" } });
  assert.equal((await untyped(client.get(kitPath("apps", app_id)))).name, "Renamed");
});

test("a meeting is created with every setting the SDK can send", async () => {
  const settings = {
    title: "Weekly", record_on_start: true, live_stream_on_start: false, persist_chat: true,
    summarize_on_end: true, transcribe_on_end: true, session_keep_alive_time_in_secs: 90,
    recording_config: {
      max_seconds: 600, file_name_prefix: "weekly",
      video_config: { codec: /** @type {const} */ ("VP8"), width: 1280, height: 720 },
      audio_config: { codec: /** @type {const} */ ("AAC"), channel: /** @type {const} */ ("mono") },
    },
    ai_config: { transcription: { language: /** @type {const} */ ("de"), keywords: ["Parlor"] }, summarization: { word_limit: 200 } },
  };
  const response = checkType("Meetings", "create", await meetings.create(app_id, { account_id, ...settings }));
  const { id, created_at, recording_config, ai_config, ...flat } = response.data ?? assert.fail("no data");
  assert.match(id, UUID);
  assert.match(created_at, INSTANT);
  assert.equal(flat.title, "Weekly");
  assert.equal(flat.status, "ACTIVE");
  assert.equal(flat.session_keep_alive_time_in_secs, 90);
  assert.equal(recording_config?.video_config?.codec, "VP8");
  assert.equal(ai_config?.transcription?.language, "de");
  meeting_id = id;
});

test("a meeting needs no settings", async () => {
  const response = checkType("Meetings", "create", await meetings.create(app_id, { account_id }));
  assert.equal(response.data?.session_keep_alive_time_in_secs, 60);
  assert.equal(response.data.record_on_start, false);
});

test("meetings are listed and found", async () => {
  const all = checkType("Meetings", "get", await meetings.get(app_id, { account_id }));
  assert.equal(all.paging?.total_count, 2);
  const found = await meetings.get(app_id, { account_id, search: "Weekly", status: "ACTIVE" });
  assert.deepEqual(found.data?.map((m) => m.id), [meeting_id]);
});

test("a meeting is read", async () => {
  const response = checkType("Meetings", "getMeetingByID", await meetings.getMeetingByID(meeting_id, scope()));
  assert.equal(response.data?.id, meeting_id);
});

test("a PATCH of a meeting keeps the other fields", async () => {
  const response = await meetings.updateMeetingByID(meeting_id, { ...scope(), status: "INACTIVE" });
  checkType("Meetings", "updateMeetingByID", response);
  assert.equal(response.data?.status, "INACTIVE");
  assert.equal(response.data.title, "Weekly");
  assert.equal(response.data.session_keep_alive_time_in_secs, 90);
});

test("a PUT of a meeting resets the other fields to the defaults", async () => {
  const response = await meetings.replaceMeetingByID(meeting_id, { ...scope(), title: "Replaced" });
  checkType("Meetings", "replaceMeetingByID", response);
  assert.equal(response.data?.title, "Replaced");
  assert.equal(response.data.session_keep_alive_time_in_secs, 60);
  assert.equal(response.data.persist_chat, false);
});

test("a participant is added", async () => {
  const participant = { custom_participant_id: "user-1", preset_name: "group_call_host", name: "Ada", picture: "https://example.com/ada.png" };
  const response = checkType("Meetings", "addParticipant", await meetings.addParticipant(meeting_id, { ...scope(), ...participant }));
  const { id, token, created_at, updated_at, ...rest } = response.data ?? assert.fail("no data");
  assert.match(id, UUID);
  assert.equal(token.split(".").length, 3);
  assert.match(created_at, INSTANT);
  assert.match(updated_at, INSTANT);
  assert.deepEqual({ ...rest, ...participant }, rest);
  participant_id = id;
});

test("participants are listed", async () => {
  const response = await meetings.getMeetingParticipants(meeting_id, scope());
  checkType("Meetings", "getMeetingParticipants", response);
  assert.deepEqual(response.data?.map((p) => p.id), [participant_id]);
});

test("a participant is read without its token", async () => {
  const response = await meetings.getMeetingParticipant(participant_id, room());
  checkType("Meetings", "getMeetingParticipant", response);
  assert.equal(response.data?.name, "Ada");
  assert(!("token" in response.data), "the response contains a token");
});

test("a PATCH of a participant keeps the other fields", async () => {
  const response = await meetings.editParticipant(participant_id, { ...room(), name: null, preset_name: "group_call_guest" });
  checkType("Meetings", "editParticipant", response);
  assert.equal(response.data?.name, null);
  assert.equal(response.data.preset_name, "group_call_guest");
  assert.equal(response.data.picture, "https://example.com/ada.png");
});

test("a PUT of a participant keeps its id", async () => {
  const body = { custom_participant_id: "user-1", preset_name: "group_call_host", name: "Grace" };
  const replaced = await untyped(client.put(kitPath(app_id, "meetings", meeting_id, "participants", participant_id), { body }));
  assert.equal(replaced.id, participant_id);
  assert.equal(replaced.name, "Grace");
  assert.equal(replaced.picture, null);
});

test("a token is refreshed", async () => {
  const response = await meetings.refreshParticipantToken(participant_id, room());
  checkType("Meetings", "refreshParticipantToken", response);
  assert.equal(response.data?.token.split(".").length, 3);
});

test("a participant is deleted, and a second deletion is not found", async () => {
  const response = await meetings.deleteMeetingParticipant(participant_id, room());
  checkType("Meetings", "deleteMeetingParticipant", response);
  assert.equal(response.data?.custom_participant_id, "user-1");
  await failure(meetings.deleteMeetingParticipant(participant_id, room()), NotFoundError);
});

test("a new app has seven presets", async () => {
  const response = checkType("Presets", "get", await presets.get(app_id, { account_id, per_page: 100 }));
  assert.deepEqual(response.data.map((p) => p.name).sort(), [
    "group_call_guest", "group_call_host", "group_call_participant", "livestream_host", "livestream_viewer",
    "webinar_presenter", "webinar_viewer",
  ]);
});

test("each of the seven presets is complete", async () => {
  const list = await presets.get(app_id, { account_id, per_page: 100 });
  for (const { id } of list.data) {
    const response = checkType("Presets", "getPresetByID", await presets.getPresetByID(id ?? "", scope()));
    assert.equal(response.data.permissions.transcription_enabled, true);
  }
});

/** The fields of the preset `group_call_host`, as the body of a request. */
async function hostPreset() {
  const { data: [host] } = await presets.get(app_id, { account_id, search: "group_call_host" });
  const { name, config, permissions, ui } = (await presets.getPresetByID(host?.id ?? "", scope())).data;
  return { name, config, permissions, ui };
}

test("a preset from a response can be created under another name", async () => {
  const host = await hostPreset();
  const response = await presets.create(app_id, { account_id, ...host, name: "mine" });
  checkType("Presets", "create", response);
  const { id, name, config, permissions, ui } = response.data;
  assert.deepEqual({ name, config, permissions, ui }, { ...host, name: "mine" });
  preset_id = id;
});

test("a PATCH of a preset keeps the other fields", async () => {
  const before = (await presets.getPresetByID(preset_id, scope())).data;
  const response = await presets.update(preset_id, { ...scope(), config: { max_video_streams: { desktop: 3 } } });
  checkType("Presets", "update", response);
  const { updated_at, ...expected } = structuredClone(before);
  expected.config.max_video_streams.desktop = 3;
  const { updated_at: changed_at, ...given } = response.data;
  assert.deepEqual(given, expected);
  assert(changed_at >= updated_at);
});

test("a preset is replaced", async () => {
  const host = await hostPreset();
  const response = await presets.replacePresetByID(preset_id, { ...scope(), ...host, name: "mine again" });
  checkType("Presets", "replacePresetByID", response);
  assert.equal(response.data.id, preset_id);
  assert.deepEqual([response.data.name, response.data.config], ["mine again", host.config]);
});

test("a preset is deleted, and the response contains it", async () => {
  const response = checkType("Presets", "delete", await presets.delete(preset_id, scope()));
  assert.equal(response.data.id, preset_id);
  await failure(presets.getPresetByID(preset_id, scope()), NotFoundError);
});

test("a meeting is deleted", async () => {
  await client.delete(kitPath(app_id, "meetings", meeting_id));
  await failure(meetings.getMeetingByID(meeting_id, scope()), NotFoundError);
});

test("an app is deleted with everything in it", async () => {
  await client.delete(kitPath("apps", app_id));
  await failure(client.get(kitPath("apps", app_id)), NotFoundError);
});

test("every operation was called and returned its expected status", () => {
  const answered = new Set(exchanges.map(({ method, path, status }) => {
    const below = path.split("/realtime/kit")[1] ?? "";
    const template = below.startsWith("/apps") ? below.replace(/^(\/apps\/).+/, "$1{app}") : below.replace(/^\/[^/]+/, "");
    return `${method} ${template.replace(/\/[0-9a-f-]{36}(?=\/|$)/g, "/{id}")} ${status}`;
  }));
  assert.deepEqual(OPERATIONS.filter((operation) => !answered.has(operation)), []);
});
