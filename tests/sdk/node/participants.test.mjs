// Adding participants: repeated adds, retries, tokens and pagination.

import assert from "node:assert/strict";
import { createPublicKey, verify } from "node:crypto";
import { before, test } from "node:test";
import { ConflictError, UnprocessableEntityError } from "cloudflare";
import { connect, data, failure, createMeeting, kitPath, token as api_token, untyped, url } from "./client.mjs";
import { checkType } from "./types.mjs";

/** @type {Awaited<ReturnType<typeof createMeeting>>} */
let fixture;
before(async () => { fixture = await createMeeting(); });

/** @param {object} participant @param {Record<string, string>} [headers] */
function add(participant, headers = {}) {
  const { client, meeting_id, scope } = fixture;
  const defaults = { ...scope, custom_participant_id: "someone", preset_name: "group_call_participant" };
  return data(client.realtimeKit.meetings.addParticipant(meeting_id, { ...defaults, ...participant }, { headers }));
}

/** @param {string} segment */
const decode = (segment) => JSON.parse(Buffer.from(segment, "base64url").toString("utf8"));

test("adding a participant again updates the existing one", async () => {
  const first = await add({ custom_participant_id: "twice", name: "Before" });
  const second = await add({ custom_participant_id: "twice", name: "After", preset_name: "group_call_host" });
  assert.equal(second.id, first.id);
  assert.equal(second.created_at, first.created_at);
  assert.deepEqual([second.name, second.preset_name], ["After", "group_call_host"]);
  assert(second.updated_at >= first.updated_at);
});

test("concurrent adds of one participant create one participant", async () => {
  const all = await Promise.all(Array.from({ length: 20 }, () => add({ custom_participant_id: "racer" })));
  assert.equal(new Set(all.map((p) => p.id)).size, 1);
});

test("strict mode rejects the second add, and the SDK does not retry it", async () => {
  const strict = { "Parlor-If-Exists": "reject" };
  await add({ custom_participant_id: "strict" }, strict);
  const before = fixture.exchanges.length;
  const error = await failure(add({ custom_participant_id: "strict" }, strict), ConflictError);
  assert.equal(error.errors[0]?.code, 409);
  assert.equal(fixture.exchanges.length - before, 1);
});

test("an idempotency key replays the first response", async () => {
  const key = { "Idempotency-Key": "sdk-replay" };
  const first = await add({ custom_participant_id: "replayed" }, key);
  assert.deepEqual(await add({ custom_participant_id: "replayed" }, key), first);
});

test("an idempotency key is rejected with another body", async () => {
  const key = { "Idempotency-Key": "sdk-other-body" };
  await add({ custom_participant_id: "kept" }, key);
  await failure(add({ custom_participant_id: "changed" }, key), UnprocessableEntityError);
});

test("a participant needs no name", async () => {
  for (const participant of [{ custom_participant_id: "absent" }, { custom_participant_id: "null", name: null, picture: null }]) {
    const added = await add(participant);
    assert.deepEqual([added.name, added.picture], [null, null]);
  }
});

test("the token's claims name the participant and the meeting, and expire after 100 days", async () => {
  const added = await add({ custom_participant_id: "claims" });
  const [, payload = ""] = added.token.split(".");
  assert.doesNotMatch(payload, /[-_]/, "the web SDK decodes the payload with atob");
  const claims = decode(payload);
  assert.equal(claims.orgId.replaceAll("-", ""), fixture.app_id);
  assert.equal(claims.meetingId, fixture.meeting_id);
  assert.equal(claims.participantId, added.id);
  const { data: presets } = await fixture.client.realtimeKit.presets.get(fixture.app_id, { account_id: fixture.scope.account_id, search: "group_call_participant" });
  assert.equal(claims.presetId, presets[0]?.id);
  assert.equal(claims.exp - claims.iat, 8_640_000);
  assert(Math.abs(claims.iat - Date.now() / 1000) < 60, "iat is not now");
});

test("payload segments avoid the characters of the URL-safe alphabet for all ids", async () => {
  for (let i = 0; i < 40; i += 1) {
    const { token } = await add({ custom_participant_id: `alphabet-${i}` });
    assert.doesNotMatch(token.split(".")[1] ?? "", /[-_]/);
  }
});

test("the token verifies with the published keys", async () => {
  const { token } = await add({ custom_participant_id: "signed" });
  const [header = "", payload = "", signature = ""] = token.split(".");
  const { alg, kid } = decode(header);
  assert.equal(alg, "EdDSA");
  const { keys } = /** @type {any} */ (await (await fetch(`${url}/.well-known/jwks.json`)).json());
  const jwk = keys.find((/** @type {any} */ key) => key.kid === kid);
  assert(jwk, `no public key ${kid}`);
  const key = createPublicKey({ key: jwk, format: "jwk" });
  assert(verify(null, Buffer.from(`${header}.${payload}`), key, Buffer.from(signature, "base64url")));
  assert(!verify(null, Buffer.from(`${header}.x${payload}`), key, Buffer.from(signature, "base64url")));
});

test("pages have no gaps and no duplicates", async () => {
  const { client, scope, app_id } = fixture;
  const meeting = await data(client.realtimeKit.meetings.create(app_id, { account_id: scope.account_id }));
  for (const n of [1, 2, 3, 4, 5]) {
    await client.realtimeKit.meetings.addParticipant(meeting.id, { ...scope, custom_participant_id: `page-${n}`, preset_name: "group_call_guest" });
  }
  const page = (/** @type {number} */ page_no) => client.realtimeKit.meetings.getMeetingParticipants(meeting.id, { ...scope, page_no, per_page: 2 });
  const pages = await Promise.all([1, 2, 3].map(page));
  assert.deepEqual(pages.map((p) => p.paging), [
    { total_count: 5, start_offset: 1, end_offset: 2 },
    { total_count: 5, start_offset: 3, end_offset: 4 },
    { total_count: 5, start_offset: 5, end_offset: 5 },
  ]);
  assert.equal(new Set(pages.flatMap((p) => p.data.map((x) => x.id))).size, 5);
  assert.deepEqual(await page(0), pages[0]);
  assert.deepEqual((await page(4)).data, []);
});

test("a participant is found and addressed by its custom id", async () => {
  const { client, scope, app_id, meeting_id } = fixture;
  const added = await add({ custom_participant_id: "ada@example.com", name: "Ada" });
  const path = kitPath(app_id, "meetings", meeting_id, "participants");
  const listed = await untyped(client.get(path, { query: { custom_participant_id: "ada@example.com" } }));
  assert.deepEqual(listed.map((/** @type {any} */ p) => p.id), [added.id]);
  const read = await client.realtimeKit.meetings.getMeetingParticipant("custom:ada@example.com", { ...scope, meeting_id });
  assert.equal(read.data?.id, added.id);
});

test("several participants are added in one call, in order", async () => {
  const { client, app_id, meeting_id } = fixture;
  const participants = [1, 2, 3].map((n) => ({ custom_participant_id: `bulk-${n}`, preset_name: "group_call_guest" }));
  const added = await untyped(client.post(kitPath(app_id, "meetings", meeting_id, "participants", "bulk"), { body: { participants } }));
  assert.deepEqual(added.map((/** @type {any} */ p) => p.custom_participant_id), ["bulk-1", "bulk-2", "bulk-3"]);
});

test("the global key headers authenticate like the Bearer token", async () => {
  const { client, exchanges } = connect({ apiEmail: "dev@example.com", apiKey: api_token });
  const response = await client.realtimeKit.meetings.getMeetingParticipants(fixture.meeting_id, fixture.scope);
  checkType("Meetings", "getMeetingParticipants", response);
  assert.equal(exchanges.length, 1);
});
