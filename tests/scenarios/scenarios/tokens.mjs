// Who does not get in, and what the SDK tells them.

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { BROKEN } from "../console.mjs";
import { scenario } from "../suite.mjs";

const REFUSED = (status) => ({
  text: new RegExp(`the server responded with a status of ${status}.*participant-details`),
  reason: "the browser reports every HTTP error",
});

/** How `init` fails with this token. */
async function initFails(person, token) {
  return person.fails((_, given) => window.enter(given), { authToken: token, baseURI: person.base, defaults: { audio: false, video: false } });
}

scenario("a token that is no token, forged or another's is refused", { sees: [], allows: [REFUSED(401), { text: /Invalid auth token provided/, reason: "the SDK complains about a token of the wrong form" }] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const person = await world.person(meeting, { preset_name: "group_call_host" });
  const [head, claims, signature] = person.token.split(".");
  assert.equal((await initFails(person, "nonsense")).code, "0004");
  const forged = signature.replace(/^./, (first) => (first === "A" ? "B" : "A"));
  const error = await initFails(person, `${head}.${claims}.${forged}`);
  assert.equal(error.code, "0004");
  assert.match(error.message, /401/);
  const other = Buffer.from(JSON.stringify({ ...JSON.parse(Buffer.from(claims, "base64").toString()), participantId: meeting.id }));
  assert.match((await initFails(person, `${head}.${other.toString("base64")}.${signature}`)).message, /401/);
});

scenario("an expired token is refused, and a refreshed one is good", { sees: [3], allows: [REFUSED(401)] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const person = await world.person(meeting, { preset_name: "group_call_host", expires_in: 1 });
  await sleep(2500);
  assert.match((await initFails(person, person.token)).message, /401/);
  const { token } = await world.parlor.ask("POST", `/meetings/${meeting.id}/participants/${person.userId}/token`);
  person.token = token;
  await person.enter();
  assert.equal(await person.roomState, "joined");
});

scenario("a deleted participant is refused", { sees: [], allows: [REFUSED(404)] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const person = await world.person(meeting, { preset_name: "group_call_host" });
  await world.parlor.ask("DELETE", `/meetings/${meeting.id}/participants/${person.userId}`);
  const error = await initFails(person, person.token);
  assert.equal(error.code, "0004");
  assert.match(error.message, /404/);
});

scenario("a meeting that is made inactive lets nobody in and throws nobody out", { sees: [3, 65535], allows: [REFUSED(403), BROKEN] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada, bob] = await world.people(meeting, ["group_call_host", "group_call_participant"], { cable: true });
  const [cem, dee] = await world.people(meeting, ["group_call_participant", "group_call_participant"], { enter: false });
  await dee.init();
  await world.parlor.ask("PATCH", `/meetings/${meeting.id}`, { status: "INACTIVE" });
  const error = await initFails(cem, cem.token);
  assert.equal(error.code, "0004");
  assert.match(error.message, /403/);
  // Somebody at the door already, with a socket.
  assert.equal((await dee.fails((m) => m.join())).code, "0002");
  assert.deepEqual([await ada.roomState, await bob.roomState], ["joined", "joined"]);
  await ada.do((m) => m.chat.sendTextMessage("still here"));
  await bob.becomes((m) => texts(m), ["still here"]);
  // Somebody who only lost the line is not new.
  bob.cable.pull();
  await bob.event("self", "roomLeft", ({ state }) => state === "disconnected");
  bob.cable.plug();
  await bob.event("self", "roomJoined", ({ reconnected }) => reconnected, 20_000);
  await ada.becomes((m) => names(m), ["Bob"]);
  await world.parlor.ask("PATCH", `/meetings/${meeting.id}`, { status: "ACTIVE" });
  await cem.enter();
  await ada.until((m) => names(m).includes("Cem"));
});
