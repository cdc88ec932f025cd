// Breakout rooms (connected meetings), and moving participants between them.

import assert from "node:assert/strict";
import { scenario } from "../suite.mjs";

const CALL_PRESETS = ["group_call_host", "group_call_participant"];

/** The names of the participants in each room, by the room's title, as this client knows them. */
const rooms = (m) => Object.fromEntries([m.connectedMeetings.parentMeeting, ...m.connectedMeetings.meetings].filter(Boolean).map((room) => [room.title, room.participants.map((one) => one.displayName).sort()]));

const meetingId = (m) => m.meta.meetingId;

scenario("breakout rooms are created, participants are moved into them and back, and the rooms are deleted", { events: [20, 21, 22, 23, 24] }, async (context) => {
  const meeting = await context.server.createMeeting({ title: "Plenum" });
  const [ada, bob, cem] = await context.addParticipants(meeting, [...CALL_PRESETS, "group_call_participant"]);
  await ada.eventually((m) => names(m), ["Bob", "Cem"]);
  await ada.eventually((m) => m.connectedMeetings.parentMeeting?.title, "Plenum");
  assert.equal(await ada.evaluate((m) => m.connectedMeetings.isActive), false);
  const created = await ada.evaluate((m) => m.connectedMeetings.createMeetings([{ title: "Left" }, { title: "Right" }]));
  assert.deepEqual(created.map((one) => one.title), ["Left", "Right"]);
  const [left] = created;
  for (const one of [ada, bob]) {
    await one.waitFor((m) => m.connectedMeetings.meetings.length === 2);
    assert.deepEqual((await one.evaluate((m) => m.connectedMeetings.meetings.map((room) => room.title))).sort(), ["Left", "Right"]);
  }
  const dump = await ada.evaluate((m) => m.connectedMeetings.getConnectedMeetings().then(toPlain));
  assert.equal(dump.parentMeeting.id, meeting.id);
  assert.deepEqual(dump.parentMeeting.participants.map((one) => one.displayName).sort(), ["Ada", "Bob", "Cem"]);
  assert.deepEqual(dump.parentMeeting.participants.map((one) => one.customParticipantId).sort(), ["participant-0", "participant-1", "participant-2"]);

  const session = await bob.evaluate((m) => m.meta.sessionId);
  const bobId = dump.parentMeeting.participants.find((one) => one.displayName === "Bob").id;
  const cemId = dump.parentMeeting.participants.find((one) => one.displayName === "Cem").id;
  const moved = await ada.evaluate((m, [from, to, ids]) => m.connectedMeetings.moveParticipants(from, to, ids), [meeting.id, left.id, [bobId, cemId]]);
  assert.equal(moved.success, true);
  for (const one of [bob, cem]) {
    await one.waitForEvent("connectedMeetings", "changingMeeting", (id) => id === left.id);
    await one.eventually(meetingId, left.id);
    await one.eventually((m) => [m.self.roomState, m.meta.meetingTitle], ["joined", "Left"]);
  }
  await bob.eventually((m) => names(m), ["Cem"]);
  await ada.eventually((m) => names(m), []);
  await ada.eventually(rooms, { Plenum: ["Ada"], Left: ["Bob", "Cem"], Right: [] });
  await bob.eventually(rooms, { Plenum: ["Ada"], Left: ["Bob", "Cem"], Right: [] });
  assert.notEqual(await bob.evaluate((m) => m.meta.sessionId), session);
  await bob.evaluate((m) => m.chat.sendTextMessage("in here"));
  await cem.eventually((m) => texts(m), ["in here"]);
  assert.deepEqual(await ada.evaluate((m) => texts(m)), []);

  // Deleting the rooms moves all participants back.
  await ada.evaluate((m, ids) => m.connectedMeetings.deleteMeetings(ids).then(() => undefined), created.map((one) => one.id));
  for (const one of [bob, cem]) await one.eventually(meetingId, meeting.id, undefined, 20_000);
  await ada.eventually((m) => names(m), ["Bob", "Cem"], undefined, 20_000);
  for (const one of [ada, bob]) await one.eventually((m) => m.connectedMeetings.meetings.length, 0);
});

scenario("a participant with the permission to switch moves to a room and back to the parent", { events: [20, 23, 24, 65535] }, async (context) => {
  const switching = await context.server.createPreset("group_call_participant", {
    permissions: { connected_meetings: { can_switch_connected_meetings: true, can_switch_to_parent_meeting: true } },
  });
  const meeting = await context.server.createMeeting({ title: "Main" });
  const [ada, bob, cem] = await context.addParticipants(meeting, ["group_call_host", switching, "group_call_participant"]);
  const [room] = await ada.evaluate((m) => m.connectedMeetings.createMeetings([{ title: "Side" }]));
  await bob.waitFor((m) => m.connectedMeetings.meetings.length === 1);
  const move = (m, [from, to, id]) => m.connectedMeetings.moveParticipants(from, to, [id]);
  assert.match((await cem.expectError(move, [meeting.id, room.id, cem.userId])).message, /not allowed/);
  assert.match((await bob.expectError(move, [meeting.id, room.id, cem.userId])).message, /not allowed/);
  const moved = await bob.evaluate(move, [meeting.id, room.id, bob.userId]);
  assert.equal(moved.success, true);
  await bob.eventually(meetingId, room.id);
  await bob.eventually((m) => m.self.roomState, "joined");
  await ada.eventually((m) => names(m), ["Cem"]);
  const id = await bob.evaluate((m) => m.self.userId);
  await bob.waitFor((m) => m.connectedMeetings.parentMeeting?.title === "Main");
  await bob.evaluate(move, [room.id, meeting.id, id]);
  await bob.eventually(meetingId, meeting.id);
  await ada.eventually((m) => names(m), ["Bob", "Cem"]);
  // The server rejects a move without the permission, even if the client allows it.
  const rejected = await cem.evaluate((m, [from, to, id]) => {
    Object.assign(m.self.permissions.connectedMeetings, { canAlterConnectedMeetings: true });
    return m.connectedMeetings.moveParticipants(from, to, [id]).then(toPlain);
  }, [meeting.id, room.id, ada.userId]);
  assert.equal(rejected.success, false);
  await ada.consistently(meetingId, meeting.id, 500);
});

scenario("a participant is moved to a breakout room with another preset", { events: [21, 23, 24] }, async (context) => {
  const meeting = await context.server.createMeeting({ title: "Main" });
  const [ada, bob] = await context.addParticipants(meeting, CALL_PRESETS);
  const [room] = await ada.evaluate((m) => m.connectedMeetings.createMeetings([{ title: "Office" }]));
  const host = (await context.server.api("GET", "/presets?per_page=100")).find((one) => one.name === "group_call_host");
  const moved = await ada.evaluate((m, [from, to, ids]) => m.connectedMeetings.moveParticipantsWithCustomPreset(from, to, ids), [
    meeting.id, room.id, [{ id: bob.userId, presetId: host.id }],
  ]);
  assert.equal(moved.success, true);
  await bob.eventually((m) => [m.meta.meetingId, m.self.roomState, m.self.presetName, m.self.name, m.self.customParticipantId], [room.id, "joined", "group_call_host", "Bob", "participant-1"]);
  const rejected = await ada.evaluate((m, [from, to, id]) => m.connectedMeetings.moveParticipants(from, to, [id]).then(toPlain), [meeting.id, room.id, meeting.id]);
  assert.equal(rejected.success, false);
});

scenario("a broadcast reaches other meetings, and ending the meeting ends the breakout rooms", { events: [39, 31, 24] }, async (context) => {
  const meeting = await context.server.createMeeting({ title: "Main" });
  const [ada, bob] = await context.addParticipants(meeting, CALL_PRESETS);
  const [room] = await ada.evaluate((m) => m.connectedMeetings.createMeetings([{ title: "Room" }]));
  await ada.evaluate((m, [from, to, id]) => m.connectedMeetings.moveParticipants(from, to, [id]), [meeting.id, room.id, bob.userId]);
  await bob.eventually(meetingId, room.id);
  await bob.eventually((m) => m.self.roomState, "joined");
  await bob.clearEvents();
  await ada.evaluate((m, ids) => m.participants.broadcastMessage("come-back", { minutes: 5 }, { meetingIds: ids }), [room.id]);
  const [message] = await bob.waitForEvent("participants", "broadcastedMessage", ({ type }) => type === "come-back");
  assert.deepEqual(message.payload, { minutes: 5 });
  await ada.evaluate((m) => m.participants.kickAll());
  await bob.eventually((m) => m.self.roomState, "ended");
  assert.equal(await ada.roomState, "ended");
});
