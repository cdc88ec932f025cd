// Connected meetings: rooms beside a meeting, and the way between them.

import assert from "node:assert/strict";
import { scenario } from "../suite.mjs";

const CALL = ["group_call_host", "group_call_participant"];

/** The rooms as this person sees them: title and the names of those inside. */
const rooms = (m) => Object.fromEntries([m.connectedMeetings.parentMeeting, ...m.connectedMeetings.meetings].filter(Boolean).map((room) => [room.title, room.participants.map((one) => one.displayName).sort()]));

const here = (m) => m.meta.meetingId;

scenario("breakout rooms are made, people are moved there and back, and the rooms removed", { sees: [20, 21, 22, 23, 24] }, async (world) => {
  const meeting = await world.parlor.meeting({ title: "Plenum" });
  const [ada, bob, cem] = await world.people(meeting, [...CALL, "group_call_participant"]);
  await ada.becomes((m) => names(m), ["Bob", "Cem"]);
  await ada.becomes((m) => m.connectedMeetings.parentMeeting?.title, "Plenum");
  assert.equal(await ada.do((m) => m.connectedMeetings.isActive), false);
  const made = await ada.do((m) => m.connectedMeetings.createMeetings([{ title: "Left" }, { title: "Right" }]));
  assert.deepEqual(made.map((one) => one.title), ["Left", "Right"]);
  const [left] = made;
  for (const one of [ada, bob]) {
    await one.until((m) => m.connectedMeetings.meetings.length === 2);
    assert.deepEqual((await one.do((m) => m.connectedMeetings.meetings.map((room) => room.title))).sort(), ["Left", "Right"]);
  }
  const dump = await ada.do((m) => m.connectedMeetings.getConnectedMeetings().then(plain));
  assert.equal(dump.parentMeeting.id, meeting.id);
  assert.deepEqual(dump.parentMeeting.participants.map((one) => one.displayName).sort(), ["Ada", "Bob", "Cem"]);
  assert.deepEqual(dump.parentMeeting.participants.map((one) => one.customParticipantId).sort(), ["person-0", "person-1", "person-2"]);

  const session = await bob.do((m) => m.meta.sessionId);
  const bobId = dump.parentMeeting.participants.find((one) => one.displayName === "Bob").id;
  const cemId = dump.parentMeeting.participants.find((one) => one.displayName === "Cem").id;
  const moved = await ada.do((m, [from, to, ids]) => m.connectedMeetings.moveParticipants(from, to, ids), [meeting.id, left.id, [bobId, cemId]]);
  assert.equal(moved.success, true);
  for (const one of [bob, cem]) {
    await one.event("connectedMeetings", "changingMeeting", (id) => id === left.id);
    await one.becomes(here, left.id);
    await one.becomes((m) => [m.self.roomState, m.meta.meetingTitle], ["joined", "Left"]);
  }
  await bob.becomes((m) => names(m), ["Cem"]);
  await ada.becomes((m) => names(m), []);
  await ada.becomes(rooms, { Plenum: ["Ada"], Left: ["Bob", "Cem"], Right: [] });
  await bob.becomes(rooms, { Plenum: ["Ada"], Left: ["Bob", "Cem"], Right: [] });
  assert.notEqual(await bob.do((m) => m.meta.sessionId), session);
  await bob.do((m) => m.chat.sendTextMessage("in here"));
  await cem.becomes((m) => texts(m), ["in here"]);
  assert.deepEqual(await ada.do((m) => texts(m)), []);

  // Removing the rooms brings everybody back.
  await ada.do((m, ids) => m.connectedMeetings.deleteMeetings(ids).then(() => undefined), made.map((one) => one.id));
  for (const one of [bob, cem]) await one.becomes(here, meeting.id, undefined, 20_000);
  await ada.becomes((m) => names(m), ["Bob", "Cem"], undefined, 20_000);
  for (const one of [ada, bob]) await one.becomes((m) => m.connectedMeetings.meetings.length, 0);
});

scenario("who may switch moves themselves, to a room and back to the parent", { sees: [20, 23, 24, 65535] }, async (world) => {
  const switching = await world.parlor.preset("group_call_participant", {
    permissions: { connected_meetings: { can_switch_connected_meetings: true, can_switch_to_parent_meeting: true } },
  });
  const meeting = await world.parlor.meeting({ title: "Hall" });
  const [ada, bob, cem] = await world.people(meeting, ["group_call_host", switching, "group_call_participant"]);
  const [room] = await ada.do((m) => m.connectedMeetings.createMeetings([{ title: "Side" }]));
  await bob.until((m) => m.connectedMeetings.meetings.length === 1);
  const go = (m, [from, to, id]) => m.connectedMeetings.moveParticipants(from, to, [id]);
  assert.match((await cem.fails(go, [meeting.id, room.id, cem.userId])).message, /not allowed/);
  assert.match((await bob.fails(go, [meeting.id, room.id, cem.userId])).message, /not allowed/);
  const moved = await bob.do(go, [meeting.id, room.id, bob.userId]);
  assert.equal(moved.success, true);
  await bob.becomes(here, room.id);
  await bob.becomes((m) => m.self.roomState, "joined");
  await ada.becomes((m) => names(m), ["Cem"]);
  const me = await bob.do((m) => m.self.userId);
  await bob.until((m) => m.connectedMeetings.parentMeeting?.title === "Hall");
  await bob.do(go, [room.id, meeting.id, me]);
  await bob.becomes(here, meeting.id);
  await ada.becomes((m) => names(m), ["Bob", "Cem"]);
  // Whoever has no power is refused by the server too.
  const refused = await cem.do((m, [from, to, id]) => {
    Object.assign(m.self.permissions.connectedMeetings, { canAlterConnectedMeetings: true });
    return m.connectedMeetings.moveParticipants(from, to, [id]).then(plain);
  }, [meeting.id, room.id, ada.userId]);
  assert.equal(refused.success, false);
  await ada.stays(here, meeting.id, 500);
});

scenario("somebody is moved to a breakout room with another preset", { sees: [21, 23, 24] }, async (world) => {
  const meeting = await world.parlor.meeting({ title: "Hall" });
  const [ada, bob] = await world.people(meeting, CALL);
  const [room] = await ada.do((m) => m.connectedMeetings.createMeetings([{ title: "Office" }]));
  const host = (await world.parlor.ask("GET", "/presets?per_page=100")).find((one) => one.name === "group_call_host");
  const moved = await ada.do((m, [from, to, ids]) => m.connectedMeetings.moveParticipantsWithCustomPreset(from, to, ids), [
    meeting.id, room.id, [{ id: bob.userId, presetId: host.id }],
  ]);
  assert.equal(moved.success, true);
  await bob.becomes((m) => [m.meta.meetingId, m.self.roomState, m.self.presetName, m.self.name, m.self.customParticipantId], [room.id, "joined", "group_call_host", "Bob", "person-1"]);
  const gone = await ada.do((m, [from, to, id]) => m.connectedMeetings.moveParticipants(from, to, [id]).then(plain), [meeting.id, room.id, meeting.id]);
  assert.equal(gone.success, false);
});

scenario("a broadcast goes to other meetings, and an end reaches the breakout rooms", { sees: [39, 31, 24] }, async (world) => {
  const meeting = await world.parlor.meeting({ title: "Main" });
  const [ada, bob] = await world.people(meeting, CALL);
  const [room] = await ada.do((m) => m.connectedMeetings.createMeetings([{ title: "Room" }]));
  await ada.do((m, [from, to, id]) => m.connectedMeetings.moveParticipants(from, to, [id]), [meeting.id, room.id, bob.userId]);
  await bob.becomes(here, room.id);
  await bob.becomes((m) => m.self.roomState, "joined");
  await bob.mark();
  await ada.do((m, ids) => m.participants.broadcastMessage("come-back", { minutes: 5 }, { meetingIds: ids }), [room.id]);
  const [message] = await bob.event("participants", "broadcastedMessage", ({ type }) => type === "come-back");
  assert.deepEqual(message.payload, { minutes: 5 });
  await ada.do((m) => m.participants.kickAll());
  await bob.becomes((m) => m.self.roomState, "ended");
  assert.equal(await ada.roomState, "ended");
});
