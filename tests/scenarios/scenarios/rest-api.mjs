// REST calls of the app's backend during a meeting and after it.

import assert from "node:assert/strict";
import { scenario } from "../suite.mjs";

const CALL_PRESETS = ["group_call_host", "group_call_participant"];
const sessionPath = (meeting, suffix = "") => `/meetings/${meeting.id}/active-session${suffix}`;

/** Repeats a call until its result matches, because the server writes some records with a delay. */
async function eventually(call, matches) {
  const deadline = Date.now() + 10_000;
  for (;;) {
    const result = await call();
    if (matches(result)) return result;
    assert(Date.now() < deadline, `the result is still ${JSON.stringify(result)}`);
    await new Promise((resolve) => { setTimeout(resolve, 150); });
  }
}

scenario("the backend reads the live session, kicks one participant and then all, and reads the ended session", { events: [30, 31] }, async (context) => {
  const { server } = context;
  const meeting = await server.createMeeting({ title: "Observed" });
  const [ada, bob, cem] = await context.addParticipants(meeting, [...CALL_PRESETS, "group_call_participant"]);
  const session = await ada.evaluate((m) => m.meta.sessionId);
  const live = await eventually(() => server.api("GET", sessionPath(meeting)), (one) => one.live_participants === 3);
  assert.deepEqual(
    [live.id, live.associated_id, live.meeting_display_name, live.type, live.status, live.max_concurrent_participants],
    [session, meeting.id, "Observed", "meeting", "LIVE", 3],
  );
  await ada.evaluate((m) => m.chat.sendTextMessage('for the record, "quoted"'));
  await cem.eventually((m) => texts(m).length, 1);

  const kicked = await server.api("POST", sessionPath(meeting, "/kick"), { participant_ids: [bob.userId] });
  assert.deepEqual(kicked.participants.map((one) => one.id), [bob.userId]);
  assert.deepEqual(await bob.waitForEvent("self", "roomLeft"), [{ state: "kicked" }]);
  await ada.eventually((m) => names(m), ["Cem"]);
  assert.equal((await server.request("POST", sessionPath(meeting, "/kick"), { custom_participant_ids: ["nobody"] })).status, 404);
  await server.api("POST", sessionPath(meeting, "/kick"), { custom_participant_ids: [cem.customId] });
  await cem.waitForEvent("self", "roomLeft", ({ state }) => state === "kicked");

  const [dee] = await context.addParticipants(meeting, ["group_call_participant"]);
  const all = await server.api("POST", sessionPath(meeting, "/kick-all"));
  assert.equal(all.kicked_participants_count, 2);
  for (const one of [ada, dee]) assert.match((await one.waitForEvent("self", "roomLeft"))[0].state, /ended|kicked/);

  assert.equal((await server.request("GET", sessionPath(meeting))).status, 404);
  const ended = await eventually(() => server.api("GET", `/sessions/${session}`), (one) => one.status === "ENDED");
  assert(ended.ended_at >= ended.started_at && ended.minutes_consumed > 0, JSON.stringify(ended));
  assert.equal(ended.max_concurrent_participants, 3);
  const { sessions } = await server.api("GET", `/sessions?associated_id=${meeting.id}`);
  assert.deepEqual(sessions.map((one) => one.id), [session]);
  const { participants } = await server.api("GET", `/sessions/${session}/participants?per_page=10&include_peer_events=true`);
  assert.deepEqual(participants.map((one) => one.display_name).sort(), ["Ada", "Bob", "Cem", "Dee"]);
  const one = participants.find(({ display_name }) => display_name === "Bob");
  assert.deepEqual([one.user_id, one.custom_participant_id, one.preset_name], [bob.userId, "participant-1", "group_call_participant"]);
  assert(one.left_at > one.joined_at && one.duration > 0, JSON.stringify(one));
  assert.deepEqual(one.peer_events.map(({ event_name }) => event_name).sort(), ["PEER_CREATED", "PEER_JOINING", "PEER_LEAVING"]);
  const dump = await server.api("GET", `/sessions/${session}/chat`);
  const csv = await (await fetch(dump.chat_download_url)).text();
  assert.match(csv, /^id,participantId,sessionId,meetingId,displayName,pinned,isEdited,payloadType,payload,createdAt\r?\n/);
  assert.match(csv, /TEXT_MESSAGE,"for the record, ""quoted"""/);
});

scenario("the backend mutes participants and creates a poll, which the SDK receives", { events: [196610] }, async (context) => {
  const { server } = context;
  const meeting = await server.createMeeting();
  const [ada, bob] = await context.addParticipants(meeting, CALL_PRESETS);
  const muted = await server.api("POST", sessionPath(meeting, "/mute"), { participant_ids: [bob.userId] });
  assert.deepEqual(muted.participants.map((one) => one.id), [bob.userId]);
  const all = await server.api("POST", sessionPath(meeting, "/mute-all"), { allow_unmute: false });
  assert.equal(all.muted_participants_count, 2);
  assert.equal((await server.request("POST", sessionPath(meeting, "/mute"), { participant_ids: [meeting.id] })).status, 404);
  const { poll } = await server.api("POST", sessionPath(meeting, "/poll"), { question: "From outside?", options: ["yes", "no"], anonymous: false, hide_votes: false });
  for (const one of [ada, bob]) await one.eventually((m) => m.polls.items.map((item) => [item.id, item.question, item.options.length]), [[poll.id, "From outside?", 2]]);
  await bob.evaluate((m, id) => m.polls.vote(id, 1), poll.id);
  await ada.eventually((m) => m.polls.items[0].options.map((option) => option.count), [0, 1]);
  assert.equal((await server.request("POST", sessionPath(meeting, "/poll"), { question: "One?", options: ["only"] })).status, 400);
  assert.deepEqual([await ada.roomState, await bob.roomState], ["joined", "joined"]);
});

scenario("a meeting without a session has no active session to read or change", { events: [] }, async ({ server }) => {
  const meeting = await server.createMeeting();
  for (const [method, suffix, body] of [
    ["GET", ""], ["POST", "/kick", { participant_ids: [meeting.id] }], ["POST", "/kick-all"], ["POST", "/mute", { participant_ids: [meeting.id] }],
    ["POST", "/mute-all", { allow_unmute: true }], ["POST", "/poll", { question: "?", options: ["a", "b"] }],
  ]) {
    const response = await server.request(method, sessionPath(meeting, suffix), body);
    assert.equal(response.status, 404, `${method} ${suffix}: ${JSON.stringify(response.body)}`);
    assert.match(JSON.stringify(response.body), new RegExp(`No active session found for meeting_id ${meeting.id}`));
  }
});

scenario("a deleted participant stays in the call unless drop is true", { events: [4], allowedMessages: [{ text: /status of 404.*participant-details/, reason: "the browser reports every HTTP error" }] }, async (context) => {
  const { server } = context;
  const meeting = await server.createMeeting();
  const [ada, bob, cem] = await context.addParticipants(meeting, [...CALL_PRESETS, "group_call_participant"]);
  await ada.eventually((m) => names(m), ["Bob", "Cem"]);
  await server.api("DELETE", `/meetings/${meeting.id}/participants/${bob.userId}`);
  await ada.consistently((m) => names(m), ["Bob", "Cem"], 1000);
  assert.equal(await bob.roomState, "joined");
  await server.api("DELETE", `/meetings/${meeting.id}/participants/${cem.userId}?drop=true`);
  await cem.waitForEvent("self", "roomLeft", ({ state }) => state === "kicked");
  await ada.eventually((m) => names(m), ["Bob"]);
  await cem.loadPage();
  assert.equal((await cem.expectError((_, options) => window.initMeeting(options), { authToken: cem.token, baseURI: cem.baseURI })).code, "0004");
});

scenario("a changed title or name applies to clients that join later", { events: [3, 5] }, async (context) => {
  const { server } = context;
  const meeting = await server.createMeeting({ title: "Before" });
  const [ada, bob] = await context.addParticipants(meeting, CALL_PRESETS);
  await server.api("PATCH", `/meetings/${meeting.id}`, { title: "After" });
  await server.api("PATCH", `/meetings/${meeting.id}/participants/${bob.userId}`, { name: "Robert" });
  assert.deepEqual([await ada.roomState, await ada.evaluate((m) => m.meta.meetingTitle)], ["joined", "Before"]);
  await bob.loadPage();
  await bob.enter();
  assert.equal(await bob.evaluate((m) => m.meta.meetingTitle), "After");
  await ada.eventually((m) => names(m), ["Robert"]);
});
