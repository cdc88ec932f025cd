// All types of waiting room.

import assert from "node:assert/strict";
import { CONNECTION_LOST } from "../console.mjs";
import { scenario } from "../suite.mjs";

const waiting = (m) => m.participants.waitlisted.toArray().map((one) => one.name).sort();

/** A preset whose participants wait until they are accepted. */
const createWaitingPreset = (context) => context.server.createPreset("group_call_participant", { permissions: { waiting_room_type: "SKIP_ON_ACCEPT" } });

/** Enters a meeting, and checks that the participant is in the waiting room. */
async function enterWaitingRoom(participant) {
  await participant.enter();
  await participant.waitForEvent("self", "waitlisted");
  assert.equal(await participant.roomState, "waitlisted");
}

scenario("waiting participants are accepted, rejected, and accepted together", { events: [33, 34, 35, 36, 37] }, async (context) => {
  const preset = await createWaitingPreset(context);
  const meeting = await context.server.createMeeting();
  const [ada, bob] = await context.addParticipants(meeting, ["group_call_host", "group_call_participant"]);
  await ada.evaluate((m) => m.chat.sendTextMessage("not for the waiting room"));
  const [cem, dee, eli] = await context.addParticipants(meeting, [preset, preset, preset], { enter: false });
  for (const one of [cem, dee, eli]) await enterWaitingRoom(one);
  await ada.eventually(waiting, ["Cem", "Dee", "Eli"]);
  assert.deepEqual(await bob.evaluate(waiting), []);
  assert.deepEqual(await bob.evaluate((m) => names(m)), ["Ada"]);
  assert.deepEqual(await cem.evaluate((m) => [texts(m), m.polls.items.length, names(m)]), [[], 0, []]);
  const waitingInfo = await ada.evaluate((m) => m.participants.waitlisted.toArray().filter((one) => one.name === "Cem").map(info)[0]);
  assert.deepEqual([waitingInfo.userId, waitingInfo.customParticipantId, waitingInfo.presetName], [cem.userId, "participant-2", preset]);

  await ada.evaluate((m, id) => m.participants.acceptWaitingRoomRequest(id), await cem.peerId);
  await cem.eventually((m) => m.self.roomState, "joined");
  await cem.eventually((m) => [texts(m), names(m)], [["not for the waiting room"], ["Ada", "Bob"]]);
  await bob.eventually((m) => names(m), ["Ada", "Cem"]);
  await ada.eventually(waiting, ["Dee", "Eli"]);

  await ada.evaluate((m, id) => m.participants.rejectWaitingRoomRequest(id), await dee.peerId);
  await dee.waitForEvent("self", "roomLeft", ({ state }) => state === "rejected");
  await ada.eventually(waiting, ["Eli"]);
  await dee.loadPage();
  await enterWaitingRoom(dee);
  await ada.eventually(waiting, ["Dee", "Eli"]);
  await ada.evaluate((m, ids) => m.participants.acceptAllWaitingRoomRequest(ids), [await dee.peerId, await eli.peerId]);
  for (const one of [dee, eli]) await one.eventually((m) => m.self.roomState, "joined");
  await ada.eventually(waiting, []);
  for (const one of [ada, bob, cem, dee, eli]) {
    await one.eventually((m) => names(m), ["Ada", "Bob", "Cem", "Dee", "Eli"].filter((name) => name !== one.name));
  }
  // An accepted participant does not have to wait again.
  await cem.loadPage();
  await cem.enter();
  assert.equal(await cem.roomState, "joined");
});

scenario("a participant who stops waiting is removed from the waiting room", { events: [33] }, async (context) => {
  const preset = await createWaitingPreset(context);
  const meeting = await context.server.createMeeting();
  const [ada] = await context.addParticipants(meeting, ["group_call_host"]);
  const [bob, cem] = await context.addParticipants(meeting, [preset, preset], { enter: false });
  await enterWaitingRoom(bob);
  await enterWaitingRoom(cem);
  await ada.eventually(waiting, ["Bob", "Cem"]);
  await bob.leave();
  await ada.eventually(waiting, ["Cem"]);
  await cem.closePage();
  await ada.eventually(waiting, []);
  assert.deepEqual(await ada.evaluate((m) => names(m)), []);
});

scenario("a guest waits for the host and is admitted when the host joins", { events: [33, 35] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada, bob, cem, dee] = await context.addParticipants(meeting, ["group_call_guest", "group_call_participant", "group_call_host", "group_call_guest"], { enter: false });
  await enterWaitingRoom(ada);
  await bob.enter();
  await ada.consistently((m) => m.self.roomState, "waitlisted", 500);
  assert.deepEqual(await bob.evaluate((m) => names(m)), []);
  await cem.enter();
  await ada.eventually((m) => m.self.roomState, "joined");
  await cem.eventually((m) => names(m), ["Ada", "Bob"]);
  await bob.eventually((m) => names(m), ["Ada", "Cem"]);
  await cem.eventually(waiting, []);
  await dee.enter();
  await dee.eventually((m) => m.self.roomState, "joined");
});

scenario("a host who joins later sees who is already waiting", { events: [33, 34, 35] }, async (context) => {
  const preset = await createWaitingPreset(context);
  const meeting = await context.server.createMeeting();
  const [ada] = await context.addParticipants(meeting, [preset], { enter: false });
  await enterWaitingRoom(ada);
  const [bob] = await context.addParticipants(meeting, ["group_call_host"]);
  await bob.eventually(waiting, ["Ada"]);
  await ada.consistently((m) => m.self.roomState, "waitlisted", 500);
  await bob.evaluate((m, id) => m.participants.acceptWaitingRoomRequest(id), await ada.peerId);
  await ada.eventually((m) => m.self.roomState, "joined");
});

scenario("a participant who reconnects in the waiting room is still waiting, and is accepted", { events: [33, 34, 35], allowedMessages: [CONNECTION_LOST] }, async (context) => {
  const preset = await createWaitingPreset(context);
  const meeting = await context.server.createMeeting();
  const [ada] = await context.addParticipants(meeting, ["group_call_host"]);
  const [bob] = await context.addParticipants(meeting, [preset], { enter: false, socketProxy: true });
  await enterWaitingRoom(bob);
  await ada.eventually(waiting, ["Bob"]);
  bob.socketProxy.cut();
  await bob.eventually((m) => m.meta.socketState.state, "reconnecting");
  bob.socketProxy.restore();
  await bob.eventually((m) => m.meta.socketState.state, "connected");
  await ada.consistently(waiting, ["Bob"], 500);
  await ada.evaluate((m, id) => m.participants.acceptWaitingRoomRequest(id), await bob.peerId);
  await bob.eventually((m) => m.self.roomState, "joined");
  await ada.eventually((m) => names(m), ["Bob"]);
});
