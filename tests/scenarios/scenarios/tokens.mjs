// Rejected tokens, and the SDK's errors.

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { CONNECTION_LOST } from "../console.mjs";
import { scenario } from "../suite.mjs";

const HTTP_ERROR = (status) => ({
  text: new RegExp(`the server responded with a status of ${status}.*participant-details`),
  reason: "the browser reports every HTTP error",
});

/** The error of `init` with this token. */
async function initError(participant, token) {
  return participant.expectError((_, options) => window.initMeeting(options), { authToken: token, baseURI: participant.baseURI, defaults: { audio: false, video: false } });
}

scenario("malformed tokens, forged signatures and changed claims are rejected", { events: [], allowedMessages: [HTTP_ERROR(401), { text: /Invalid auth token provided/, reason: "the SDK logs an error for a malformed token" }] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const participant = await context.addParticipant(meeting, { preset_name: "group_call_host" });
  const [head, claims, signature] = participant.token.split(".");
  assert.equal((await initError(participant, "nonsense")).code, "0004");
  const forged = signature.replace(/^./, (first) => (first === "A" ? "B" : "A"));
  const error = await initError(participant, `${head}.${claims}.${forged}`);
  assert.equal(error.code, "0004");
  assert.match(error.message, /401/);
  const other = Buffer.from(JSON.stringify({ ...JSON.parse(Buffer.from(claims, "base64").toString()), participantId: meeting.id }));
  assert.match((await initError(participant, `${head}.${other.toString("base64")}.${signature}`)).message, /401/);
});

scenario("an expired token is rejected, and a refreshed one is accepted", { events: [3], allowedMessages: [HTTP_ERROR(401)] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const participant = await context.addParticipant(meeting, { preset_name: "group_call_host", expires_in: 1 });
  await sleep(2500);
  assert.match((await initError(participant, participant.token)).message, /401/);
  const { token } = await context.server.api("POST", `/meetings/${meeting.id}/participants/${participant.userId}/token`);
  participant.token = token;
  await participant.enter();
  assert.equal(await participant.roomState, "joined");
});

scenario("a deleted participant is rejected", { events: [], allowedMessages: [HTTP_ERROR(404)] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const participant = await context.addParticipant(meeting, { preset_name: "group_call_host" });
  await context.server.api("DELETE", `/meetings/${meeting.id}/participants/${participant.userId}`);
  const error = await initError(participant, participant.token);
  assert.equal(error.code, "0004");
  assert.match(error.message, /404/);
});

scenario("an inactive meeting admits no new participants and keeps those who have joined", { events: [3, 65535], allowedMessages: [HTTP_ERROR(403), CONNECTION_LOST] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada, bob] = await context.addParticipants(meeting, ["group_call_host", "group_call_participant"], { socketProxy: true });
  const [cem, dee] = await context.addParticipants(meeting, ["group_call_participant", "group_call_participant"], { enter: false });
  await dee.init();
  await context.server.api("PATCH", `/meetings/${meeting.id}`, { status: "INACTIVE" });
  const error = await initError(cem, cem.token);
  assert.equal(error.code, "0004");
  assert.match(error.message, /403/);
  // Dee already has a socket, but has not joined.
  assert.equal((await dee.expectError((m) => m.join())).code, "0002");
  assert.deepEqual([await ada.roomState, await bob.roomState], ["joined", "joined"]);
  await ada.evaluate((m) => m.chat.sendTextMessage("still here"));
  await bob.eventually((m) => texts(m), ["still here"]);
  // Reconnecting is still permitted.
  bob.socketProxy.cut();
  await bob.waitForEvent("self", "roomLeft", ({ state }) => state === "disconnected");
  bob.socketProxy.restore();
  await bob.waitForEvent("self", "roomJoined", ({ reconnected }) => reconnected, 20_000);
  await ada.eventually((m) => names(m), ["Bob"]);
  await context.server.api("PATCH", `/meetings/${meeting.id}`, { status: "ACTIVE" });
  await cem.enter();
  await ada.waitFor((m) => names(m).includes("Cem"));
});
