// What the app's backend does over REST while people are in the meeting, and what it finds afterwards.

import assert from "node:assert/strict";
import { scenario } from "../suite.mjs";

const CALL = ["group_call_host", "group_call_participant"];
const at = (meeting, what = "") => `/meetings/${meeting.id}/active-session${what}`;

/** Asks until the answer fits, for what is written after it happened. */
async function eventually(ask, fits) {
  const deadline = Date.now() + 10_000;
  for (;;) {
    const answer = await ask();
    if (fits(answer)) return answer;
    assert(Date.now() < deadline, `it stayed ${JSON.stringify(answer)}`);
    await new Promise((resolve) => { setTimeout(resolve, 150); });
  }
}

scenario("the backend sees the live session, kicks one, kicks all, and reads it when it is over", { sees: [30, 31] }, async (world) => {
  const { parlor } = world;
  const meeting = await parlor.meeting({ title: "Observed" });
  const [ada, bob, cem] = await world.people(meeting, [...CALL, "group_call_participant"]);
  const session = await ada.do((m) => m.meta.sessionId);
  const live = await eventually(() => parlor.ask("GET", at(meeting)), (one) => one.live_participants === 3);
  assert.deepEqual(
    [live.id, live.associated_id, live.meeting_display_name, live.type, live.status, live.max_concurrent_participants],
    [session, meeting.id, "Observed", "meeting", "LIVE", 3],
  );
  await ada.do((m) => m.chat.sendTextMessage('for the record, "quoted"'));
  await cem.becomes((m) => texts(m).length, 1);

  const kicked = await parlor.ask("POST", at(meeting, "/kick"), { participant_ids: [bob.userId] });
  assert.deepEqual(kicked.participants.map((one) => one.id), [bob.userId]);
  assert.deepEqual(await bob.event("self", "roomLeft"), [{ state: "kicked" }]);
  await ada.becomes((m) => names(m), ["Cem"]);
  assert.equal((await parlor.call("POST", at(meeting, "/kick"), { custom_participant_ids: ["nobody"] })).status, 404);
  await parlor.ask("POST", at(meeting, "/kick"), { custom_participant_ids: [cem.customId] });
  await cem.event("self", "roomLeft", ({ state }) => state === "kicked");

  const [dee] = await world.people(meeting, ["group_call_participant"]);
  const all = await parlor.ask("POST", at(meeting, "/kick-all"));
  assert.equal(all.kicked_participants_count, 2);
  for (const one of [ada, dee]) assert.match((await one.event("self", "roomLeft"))[0].state, /ended|kicked/);

  assert.equal((await parlor.call("GET", at(meeting))).status, 404);
  const ended = await eventually(() => parlor.ask("GET", `/sessions/${session}`), (one) => one.status === "ENDED");
  assert(ended.ended_at >= ended.started_at && ended.minutes_consumed > 0, JSON.stringify(ended));
  assert.equal(ended.max_concurrent_participants, 3);
  const { sessions } = await parlor.ask("GET", `/sessions?associated_id=${meeting.id}`);
  assert.deepEqual(sessions.map((one) => one.id), [session]);
  const { participants } = await parlor.ask("GET", `/sessions/${session}/participants?per_page=10&include_peer_events=true`);
  assert.deepEqual(participants.map((one) => one.display_name).sort(), ["Ada", "Bob", "Cem", "Dee"]);
  const one = participants.find(({ display_name }) => display_name === "Bob");
  assert.deepEqual([one.user_id, one.custom_participant_id, one.preset_name], [bob.userId, "person-1", "group_call_participant"]);
  assert(one.left_at > one.joined_at && one.duration > 0, JSON.stringify(one));
  assert.deepEqual(one.peer_events.map(({ event_name }) => event_name).sort(), ["PEER_CREATED", "PEER_JOINING", "PEER_LEAVING"]);
  const dump = await parlor.ask("GET", `/sessions/${session}/chat`);
  const csv = await (await fetch(dump.chat_download_url)).text();
  assert.match(csv, /^id,participantId,sessionId,meetingId,displayName,pinned,isEdited,payloadType,payload,createdAt\r?\n/);
  assert.match(csv, /TEXT_MESSAGE,"for the record, ""quoted"""/);
});

scenario("the backend mutes and asks, and the SDK sees the poll", { sees: [196610] }, async (world) => {
  const { parlor } = world;
  const meeting = await parlor.meeting();
  const [ada, bob] = await world.people(meeting, CALL);
  const muted = await parlor.ask("POST", at(meeting, "/mute"), { participant_ids: [bob.userId] });
  assert.deepEqual(muted.participants.map((one) => one.id), [bob.userId]);
  const all = await parlor.ask("POST", at(meeting, "/mute-all"), { allow_unmute: false });
  assert.equal(all.muted_participants_count, 2);
  assert.equal((await parlor.call("POST", at(meeting, "/mute"), { participant_ids: [meeting.id] })).status, 404);
  const { poll } = await parlor.ask("POST", at(meeting, "/poll"), { question: "From outside?", options: ["yes", "no"], anonymous: false, hide_votes: false });
  for (const one of [ada, bob]) await one.becomes((m) => m.polls.items.map((item) => [item.id, item.question, item.options.length]), [[poll.id, "From outside?", 2]]);
  await bob.do((m, id) => m.polls.vote(id, 1), poll.id);
  await ada.becomes((m) => m.polls.items[0].options.map((option) => option.count), [0, 1]);
  assert.equal((await parlor.call("POST", at(meeting, "/poll"), { question: "One?", options: ["only"] })).status, 400);
  assert.deepEqual([await ada.roomState, await bob.roomState], ["joined", "joined"]);
});

scenario("nothing is live before and nothing can be done to it", { sees: [] }, async ({ parlor }) => {
  const meeting = await parlor.meeting();
  for (const [method, what, body] of [
    ["GET", ""], ["POST", "/kick", { participant_ids: [meeting.id] }], ["POST", "/kick-all"], ["POST", "/mute", { participant_ids: [meeting.id] }],
    ["POST", "/mute-all", { allow_unmute: true }], ["POST", "/poll", { question: "?", options: ["a", "b"] }],
  ]) {
    const answer = await parlor.call(method, at(meeting, what), body);
    assert.equal(answer.status, 404, `${method} ${what}: ${JSON.stringify(answer.body)}`);
    assert.match(JSON.stringify(answer.body), new RegExp(`No active session found for meeting_id ${meeting.id}`));
  }
});

scenario("a participant who is deleted stays in the call, unless they are to be dropped", { sees: [4], allows: [{ text: /status of 404.*participant-details/, reason: "the browser reports every HTTP error" }] }, async (world) => {
  const { parlor } = world;
  const meeting = await parlor.meeting();
  const [ada, bob, cem] = await world.people(meeting, [...CALL, "group_call_participant"]);
  await ada.becomes((m) => names(m), ["Bob", "Cem"]);
  await parlor.ask("DELETE", `/meetings/${meeting.id}/participants/${bob.userId}`);
  await ada.stays((m) => names(m), ["Bob", "Cem"], 1000);
  assert.equal(await bob.roomState, "joined");
  await parlor.ask("DELETE", `/meetings/${meeting.id}/participants/${cem.userId}?drop=true`);
  await cem.event("self", "roomLeft", ({ state }) => state === "kicked");
  await ada.becomes((m) => names(m), ["Bob"]);
  await cem.load();
  assert.equal((await cem.fails((_, given) => window.enter(given), { authToken: cem.token, baseURI: cem.base })).code, "0004");
});

scenario("a new title and a new name are for those who come later", { sees: [3, 5] }, async (world) => {
  const { parlor } = world;
  const meeting = await parlor.meeting({ title: "Before" });
  const [ada, bob] = await world.people(meeting, CALL);
  await parlor.ask("PATCH", `/meetings/${meeting.id}`, { title: "After" });
  await parlor.ask("PATCH", `/meetings/${meeting.id}/participants/${bob.userId}`, { name: "Robert" });
  assert.deepEqual([await ada.roomState, await ada.do((m) => m.meta.meetingTitle)], ["joined", "Before"]);
  await bob.load();
  await bob.enter();
  assert.equal(await bob.do((m) => m.meta.meetingTitle), "After");
  await ada.becomes((m) => names(m), ["Robert"]);
});
