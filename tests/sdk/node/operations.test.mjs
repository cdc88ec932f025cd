// Every operation of apps, meetings, participants and presets, called once through the SDK and
// held against the shape the SDK declares. The last test counts that none was left out.

import assert from "node:assert/strict";
import { test } from "node:test";
import { account_id, connect, failure, kit, untyped } from "./parlor.mjs";
import { declaredShape } from "./shapes.mjs";
import { NotFoundError } from "cloudflare";

const { client, exchanges } = connect();
const { apps, meetings, presets } = client.realtimeKit;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const INSTANT = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

/** Every operation, as `method template status`; below the app where it does not begin with /apps. */
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
  const reply = declaredShape("Apps", "post", await apps.post({ account_id, name: "Operations" }));
  assert.equal(reply.success, true);
  assert.equal(reply.data?.app?.name, "Operations");
  assert.match(reply.data.app.created_at ?? "", INSTANT);
  assert.match(reply.data.app.id ?? "", /^[0-9a-f]{32}$/);
  app_id = reply.data.app.id ?? "";
});

test("apps are listed, newest first", async () => {
  const reply = declaredShape("Apps", "get", await apps.get({ account_id, per_page: 1 }));
  assert.equal(reply.data?.[0]?.id, app_id);
  assert.equal(reply.data.length, 1);
  assert.deepEqual([reply.paging?.start_offset, reply.paging?.end_offset], [1, 1]);
  assert((reply.paging?.total_count ?? 0) >= 1);
});

test("one app is read, by either spelling of its id", async () => {
  const hyphened = app_id.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
  for (const id of [app_id, hyphened]) {
    const app = await untyped(client.get(kit("apps", id)));
    assert.equal(app.id, app_id);
    assert.equal(app.name, "Operations");
  }
});

test("an app is renamed", async () => {
  await client.patch(kit("apps", app_id), { body: { name: "Renamed" } });
  assert.equal((await untyped(client.get(kit("apps", app_id)))).name, "Renamed");
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
  const reply = declaredShape("Meetings", "create", await meetings.create(app_id, { account_id, ...settings }));
  const { id, created_at, recording_config, ai_config, ...flat } = reply.data ?? assert.fail("no data");
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
  const reply = declaredShape("Meetings", "create", await meetings.create(app_id, { account_id }));
  assert.equal(reply.data?.session_keep_alive_time_in_secs, 60);
  assert.equal(reply.data.record_on_start, false);
});

test("meetings are listed and found", async () => {
  const all = declaredShape("Meetings", "get", await meetings.get(app_id, { account_id }));
  assert.equal(all.paging?.total_count, 2);
  const found = await meetings.get(app_id, { account_id, search: "Weekly", status: "ACTIVE" });
  assert.deepEqual(found.data?.map((m) => m.id), [meeting_id]);
});

test("one meeting is read", async () => {
  const reply = declaredShape("Meetings", "getMeetingByID", await meetings.getMeetingByID(meeting_id, scope()));
  assert.equal(reply.data?.id, meeting_id);
});

test("a change of a meeting leaves the rest as it is", async () => {
  const reply = await meetings.updateMeetingByID(meeting_id, { ...scope(), status: "INACTIVE" });
  declaredShape("Meetings", "updateMeetingByID", reply);
  assert.equal(reply.data?.status, "INACTIVE");
  assert.equal(reply.data.title, "Weekly");
  assert.equal(reply.data.session_keep_alive_time_in_secs, 90);
});

test("a replaced meeting falls back to the defaults", async () => {
  const reply = await meetings.replaceMeetingByID(meeting_id, { ...scope(), title: "Replaced" });
  declaredShape("Meetings", "replaceMeetingByID", reply);
  assert.equal(reply.data?.title, "Replaced");
  assert.equal(reply.data.session_keep_alive_time_in_secs, 60);
  assert.equal(reply.data.persist_chat, false);
});

test("a participant is added", async () => {
  const person = { custom_participant_id: "user-1", preset_name: "group_call_host", name: "Ada", picture: "https://example.com/ada.png" };
  const reply = declaredShape("Meetings", "addParticipant", await meetings.addParticipant(meeting_id, { ...scope(), ...person }));
  const { id, token, created_at, updated_at, ...rest } = reply.data ?? assert.fail("no data");
  assert.match(id, UUID);
  assert.equal(token.split(".").length, 3);
  assert.match(created_at, INSTANT);
  assert.match(updated_at, INSTANT);
  assert.deepEqual({ ...rest, ...person }, rest);
  participant_id = id;
});

test("participants are listed", async () => {
  const reply = await meetings.getMeetingParticipants(meeting_id, scope());
  declaredShape("Meetings", "getMeetingParticipants", reply);
  assert.deepEqual(reply.data?.map((p) => p.id), [participant_id]);
});

test("one participant is read, without a token", async () => {
  const reply = await meetings.getMeetingParticipant(participant_id, room());
  declaredShape("Meetings", "getMeetingParticipant", reply);
  assert.equal(reply.data?.name, "Ada");
  assert(!("token" in reply.data), "a token was read back");
});

test("a change of a participant brings a new token", async () => {
  const reply = await meetings.editParticipant(participant_id, { ...room(), name: null, preset_name: "group_call_guest" });
  declaredShape("Meetings", "editParticipant", reply);
  assert.equal(reply.data?.name, null);
  assert.equal(reply.data.preset_name, "group_call_guest");
  assert.equal(reply.data.picture, "https://example.com/ada.png");
});

test("a replaced participant keeps its id", async () => {
  const body = { custom_participant_id: "user-1", preset_name: "group_call_host", name: "Grace" };
  const replaced = await untyped(client.put(kit(app_id, "meetings", meeting_id, "participants", participant_id), { body }));
  assert.equal(replaced.id, participant_id);
  assert.equal(replaced.name, "Grace");
  assert.equal(replaced.picture, null);
});

test("a token is refreshed", async () => {
  const reply = await meetings.refreshParticipantToken(participant_id, room());
  declaredShape("Meetings", "refreshParticipantToken", reply);
  assert.equal(reply.data?.token.split(".").length, 3);
});

test("a participant is deleted once", async () => {
  const reply = await meetings.deleteMeetingParticipant(participant_id, room());
  declaredShape("Meetings", "deleteMeetingParticipant", reply);
  assert.equal(reply.data?.custom_participant_id, "user-1");
  await failure(meetings.deleteMeetingParticipant(participant_id, room()), NotFoundError);
});

test("a new app has seven presets", async () => {
  const reply = declaredShape("Presets", "get", await presets.get(app_id, { account_id, per_page: 100 }));
  assert.deepEqual(reply.data.map((p) => p.name).sort(), [
    "group_call_guest", "group_call_host", "group_call_participant", "livestream_host", "livestream_viewer",
    "webinar_presenter", "webinar_viewer",
  ]);
});

test("each of the seven presets is complete", async () => {
  const list = await presets.get(app_id, { account_id, per_page: 100 });
  for (const { id } of list.data) {
    const reply = declaredShape("Presets", "getPresetByID", await presets.getPresetByID(id ?? "", scope()));
    assert.equal(reply.data.permissions.transcription_enabled, true);
  }
});

/** A preset as the server gives it for `group_call_host`, ready to be sent back. */
async function hostPreset() {
  const { data: [host] } = await presets.get(app_id, { account_id, search: "group_call_host" });
  const { name, config, permissions, ui } = (await presets.getPresetByID(host?.id ?? "", scope())).data;
  return { name, config, permissions, ui };
}

test("a preset that the server gave can be sent back under another name", async () => {
  const host = await hostPreset();
  const reply = await presets.create(app_id, { account_id, ...host, name: "mine" });
  declaredShape("Presets", "create", reply);
  const { id, name, config, permissions, ui } = reply.data;
  assert.deepEqual({ name, config, permissions, ui }, { ...host, name: "mine" });
  preset_id = id;
});

test("a change of a preset leaves the rest as it is", async () => {
  const before = (await presets.getPresetByID(preset_id, scope())).data;
  const reply = await presets.update(preset_id, { ...scope(), config: { max_video_streams: { desktop: 3 } } });
  declaredShape("Presets", "update", reply);
  const { updated_at, ...expected } = structuredClone(before);
  expected.config.max_video_streams.desktop = 3;
  const { updated_at: changed_at, ...given } = reply.data;
  assert.deepEqual(given, expected);
  assert(changed_at >= updated_at);
});

test("a preset is replaced", async () => {
  const host = await hostPreset();
  const reply = await presets.replacePresetByID(preset_id, { ...scope(), ...host, name: "mine again" });
  declaredShape("Presets", "replacePresetByID", reply);
  assert.equal(reply.data.id, preset_id);
  assert.deepEqual([reply.data.name, reply.data.config], ["mine again", host.config]);
});

test("a preset is deleted, and the deleted one comes back", async () => {
  const reply = declaredShape("Presets", "delete", await presets.delete(preset_id, scope()));
  assert.equal(reply.data.id, preset_id);
  await failure(presets.getPresetByID(preset_id, scope()), NotFoundError);
});

test("a meeting is deleted", async () => {
  await client.delete(kit(app_id, "meetings", meeting_id));
  await failure(meetings.getMeetingByID(meeting_id, scope()), NotFoundError);
});

test("an app is deleted with everything in it", async () => {
  await client.delete(kit("apps", app_id));
  await failure(client.get(kit("apps", app_id)), NotFoundError);
});

test("every operation was called and answered with its own status", () => {
  const answered = new Set(exchanges.map(({ method, path, status }) => {
    const below = path.split("/realtime/kit")[1] ?? "";
    const template = below.startsWith("/apps") ? below.replace(/^(\/apps\/).+/, "$1{app}") : below.replace(/^\/[^/]+/, "");
    return `${method} ${template.replace(/\/[0-9a-f-]{36}(?=\/|$)/g, "/{id}")} ${status}`;
  }));
  assert.deepEqual(OPERATIONS.filter((operation) => !answered.has(operation)), []);
});
