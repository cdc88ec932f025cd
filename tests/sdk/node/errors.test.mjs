// The SDK's exceptions for API errors: the class, the `errors` array, and no unnecessary retries.

import assert from "node:assert/strict";
import { before, test } from "node:test";
import {
  AuthenticationError, BadRequestError, ConflictError, InternalServerError, NotFoundError, PermissionDeniedError,
} from "cloudflare";
import { connect, failure, createMeeting } from "./client.mjs";

const UNKNOWN_ID = "00000000-0000-7000-8000-000000000000";

/** @type {Awaited<ReturnType<typeof createMeeting>>} */
let fixture;
before(async () => { fixture = await createMeeting(); });

/** @param {object} body @param {string} [meeting] */
function add(body, meeting = fixture.meeting_id) {
  return fixture.client.realtimeKit.meetings.addParticipant(meeting, /** @type {any} */ ({ ...fixture.scope, ...body }));
}

/** @param {import("cloudflare").APIError} error */
const onlyError = (error) => {
  assert.equal(error.errors.length, 1, error.message);
  return error.errors[0] ?? assert.fail();
};

test("a wrong token is an AuthenticationError", async () => {
  const { client, exchanges } = connect({ apiToken: "x".repeat(40) });
  const error = await failure(client.realtimeKit.apps.get({ account_id: fixture.scope.account_id }), AuthenticationError);
  assert.equal(onlyError(error).code, 10000);
  assert.equal(exchanges.length, 1);
});

test("a wrong global key is an AuthenticationError", async () => {
  const { client } = connect({ apiEmail: "dev@example.com", apiKey: "x".repeat(40) });
  const error = await failure(client.realtimeKit.apps.get({ account_id: fixture.scope.account_id }), AuthenticationError);
  assert.equal(onlyError(error).code, 10000);
});

test("another account is a PermissionDeniedError", async () => {
  const call = fixture.client.realtimeKit.apps.get({ account_id: "0123456789abcdef0123456789abcdef" });
  assert.equal(onlyError(await failure(call, PermissionDeniedError)).code, 10000);
});

test("an unknown preset is named in a NotFoundError", async () => {
  const error = await failure(add({ custom_participant_id: "a", preset_name: "nope" }), NotFoundError);
  assert.match(error.message, /No preset found with name nope/);
  assert.match(onlyError(error).message ?? "", /^No preset found with name nope/);
  assert.equal(onlyError(error).code, 404);
  assert.equal(onlyError(error).source?.pointer, "/preset_name");
});

test("a similar preset name is suggested", async () => {
  const error = await failure(add({ custom_participant_id: "a", preset_name: "group-call-host" }), NotFoundError);
  assert.match(onlyError(error).message ?? "", /^No preset found with name group-call-host.*group_call_host/);
});

for (const [field, body] of Object.entries({
  preset_name: { custom_participant_id: "a" },
  custom_participant_id: { preset_name: "group_call_host" },
})) {
  test(`a missing ${field} is a BadRequestError that points at it`, async () => {
    const error = await failure(add(body), BadRequestError);
    assert(onlyError(error).message?.includes(`"${field}" is required`), error.message);
    assert.equal(onlyError(error).code, 400);
    assert.equal(onlyError(error).source?.pointer, `/${field}`);
  });
}

for (const [what, body, pointer] of /** @type {const} */ ([
  ["an empty custom_participant_id", { custom_participant_id: "" }, "/custom_participant_id"],
  ["a null custom_participant_id", { custom_participant_id: null }, "/custom_participant_id"],
  ["a number as name", { name: 7 }, "/name"],
  ["a picture that is not a URL", { picture: "cat" }, "/picture"],
  ["a picture that is not an HTTP URL", { picture: "file:///etc/passwd" }, "/picture"],
])) {
  test(`${what} is rejected`, async () => {
    const call = add(Object.assign({ custom_participant_id: "a", preset_name: "group_call_host" }, body));
    assert.equal(onlyError(await failure(call, BadRequestError)).source?.pointer, pointer);
  });
}

test("an unknown meeting is a NotFoundError", async () => {
  const error = await failure(add({ custom_participant_id: "a", preset_name: "group_call_host" }, UNKNOWN_ID), NotFoundError);
  assert.equal(onlyError(error).code, 404);
});

test("a meeting of another app is a NotFoundError", async () => {
  const other = await createMeeting();
  await failure(fixture.client.realtimeKit.meetings.getMeetingByID(other.meeting_id, fixture.scope), NotFoundError);
});

test("a meeting id that is not a UUID is a BadRequestError", async () => {
  const error = await failure(add({ custom_participant_id: "a", preset_name: "group_call_host" }, "not-a-uuid"), BadRequestError);
  assert.match(onlyError(error).message ?? "", /must be a valid GUID/);
});

test("an unknown participant is a NotFoundError", async () => {
  const { client, scope, meeting_id } = fixture;
  const room = { ...scope, meeting_id };
  await failure(client.realtimeKit.meetings.getMeetingParticipant(UNKNOWN_ID, room), NotFoundError);
  await failure(client.realtimeKit.meetings.refreshParticipantToken(UNKNOWN_ID, room), NotFoundError);
  await failure(client.realtimeKit.meetings.editParticipant(UNKNOWN_ID, { ...room, name: "x" }), NotFoundError);
});

test("a duplicate preset name is a ConflictError that the SDK does not retry", async () => {
  const { client, exchanges, scope, app_id } = fixture;
  const { data: [first] } = await client.realtimeKit.presets.get(app_id, { account_id: scope.account_id });
  const { name, config, permissions, ui } = (await client.realtimeKit.presets.getPresetByID(first?.id ?? "", scope)).data;
  const before = exchanges.length;
  const call = client.realtimeKit.presets.create(app_id, { account_id: scope.account_id, name, config, permissions, ui });
  const error = await failure(call, ConflictError);
  assert.equal(error.headers.get("x-should-retry"), "false");
  assert.equal(onlyError(error).code, 409);
  assert.equal(exchanges.length - before, 1);
});

test("an operation that is not implemented returns 501, and the SDK does not retry it", async () => {
  const { client, exchanges, app_id, scope } = fixture;
  const before = exchanges.length;
  const error = await failure(client.realtimeKit.livestreams.getAllLivestreams(app_id, { account_id: scope.account_id }), InternalServerError);
  assert.equal(error.status, 501);
  assert.equal(onlyError(error).code, 501);
  assert.equal(exchanges.length - before, 1);
});
