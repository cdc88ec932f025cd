// The waiting room, of every kind.

import assert from "node:assert/strict";
import { BROKEN } from "../console.mjs";
import { scenario } from "../suite.mjs";

const waiting = (m) => m.participants.waitlisted.toArray().map((one) => one.name).sort();

/** A guest who waits until somebody says yes. */
const waiter = (world) => world.parlor.preset("group_call_participant", { permissions: { waiting_room_type: "SKIP_ON_ACCEPT" } });

/** Lets somebody come to the door and checks that they wait there. */
async function knock(person) {
  await person.enter();
  await person.event("self", "waitlisted");
  assert.equal(await person.roomState, "waitlisted");
}

scenario("who waits is let in, turned away and let in with others", { sees: [33, 34, 35, 36, 37] }, async (world) => {
  const preset = await waiter(world);
  const meeting = await world.parlor.meeting();
  const [ada, bob] = await world.people(meeting, ["group_call_host", "group_call_participant"]);
  await ada.do((m) => m.chat.sendTextMessage("nobody hears this outside"));
  const [cem, dee, eli] = await world.people(meeting, [preset, preset, preset], { enter: false });
  for (const one of [cem, dee, eli]) await knock(one);
  await ada.becomes(waiting, ["Cem", "Dee", "Eli"]);
  assert.deepEqual(await bob.do(waiting), []);
  assert.deepEqual(await bob.do((m) => names(m)), ["Ada"]);
  assert.deepEqual(await cem.do((m) => [texts(m), m.polls.items.length, names(m)]), [[], 0, []]);
  const told = await ada.do((m) => m.participants.waitlisted.toArray().filter((one) => one.name === "Cem").map(who)[0]);
  assert.deepEqual([told.userId, told.customParticipantId, told.presetName], [cem.userId, "person-2", preset]);

  await ada.do((m, id) => m.participants.acceptWaitingRoomRequest(id), await cem.peerId);
  await cem.becomes((m) => m.self.roomState, "joined");
  await cem.becomes((m) => [texts(m), names(m)], [["nobody hears this outside"], ["Ada", "Bob"]]);
  await bob.becomes((m) => names(m), ["Ada", "Cem"]);
  await ada.becomes(waiting, ["Dee", "Eli"]);

  await ada.do((m, id) => m.participants.rejectWaitingRoomRequest(id), await dee.peerId);
  await dee.event("self", "roomLeft", ({ state }) => state === "rejected");
  await ada.becomes(waiting, ["Eli"]);
  await dee.load();
  await knock(dee);
  await ada.becomes(waiting, ["Dee", "Eli"]);
  await ada.do((m, ids) => m.participants.acceptAllWaitingRoomRequest(ids), [await dee.peerId, await eli.peerId]);
  for (const one of [dee, eli]) await one.becomes((m) => m.self.roomState, "joined");
  await ada.becomes(waiting, []);
  for (const one of [ada, bob, cem, dee, eli]) {
    await one.becomes((m) => names(m), ["Ada", "Bob", "Cem", "Dee", "Eli"].filter((name) => name !== one.name));
  }
  // Acceptance is for the person, once.
  await cem.load();
  await cem.enter();
  assert.equal(await cem.roomState, "joined");
});

scenario("who gives up waiting is not waited for", { sees: [33] }, async (world) => {
  const preset = await waiter(world);
  const meeting = await world.parlor.meeting();
  const [ada] = await world.people(meeting, ["group_call_host"]);
  const [bob, cem] = await world.people(meeting, [preset, preset], { enter: false });
  await knock(bob);
  await knock(cem);
  await ada.becomes(waiting, ["Bob", "Cem"]);
  await bob.leave();
  await ada.becomes(waiting, ["Cem"]);
  await cem.vanish();
  await ada.becomes(waiting, []);
  assert.deepEqual(await ada.do((m) => names(m)), []);
});

scenario("a guest waits for the host and comes in with them", { sees: [33, 35] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada, bob, cem, dee] = await world.people(meeting, ["group_call_guest", "group_call_participant", "group_call_host", "group_call_guest"], { enter: false });
  await knock(ada);
  await bob.enter();
  await ada.stays((m) => m.self.roomState, "waitlisted", 500);
  assert.deepEqual(await bob.do((m) => names(m)), []);
  await cem.enter();
  await ada.becomes((m) => m.self.roomState, "joined");
  await cem.becomes((m) => names(m), ["Ada", "Bob"]);
  await bob.becomes((m) => names(m), ["Ada", "Cem"]);
  await cem.becomes(waiting, []);
  await dee.enter();
  await dee.becomes((m) => m.self.roomState, "joined");
});

scenario("whoever may accept later sees who waits already", { sees: [33, 34, 35] }, async (world) => {
  const preset = await waiter(world);
  const meeting = await world.parlor.meeting();
  const [ada] = await world.people(meeting, [preset], { enter: false });
  await knock(ada);
  const [bob] = await world.people(meeting, ["group_call_host"]);
  await bob.becomes(waiting, ["Ada"]);
  await ada.stays((m) => m.self.roomState, "waitlisted", 500);
  await bob.do((m, id) => m.participants.acceptWaitingRoomRequest(id), await ada.peerId);
  await ada.becomes((m) => m.self.roomState, "joined");
});

scenario("somebody who waits and loses the line still waits, and is let in", { sees: [33, 34, 35], allows: [BROKEN] }, async (world) => {
  const preset = await waiter(world);
  const meeting = await world.parlor.meeting();
  const [ada] = await world.people(meeting, ["group_call_host"]);
  const [bob] = await world.people(meeting, [preset], { enter: false, cable: true });
  await knock(bob);
  await ada.becomes(waiting, ["Bob"]);
  bob.cable.pull();
  await bob.becomes((m) => m.meta.socketState.state, "reconnecting");
  bob.cable.plug();
  await bob.becomes((m) => m.meta.socketState.state, "connected");
  await ada.stays(waiting, ["Bob"], 500);
  await ada.do((m, id) => m.participants.acceptWaitingRoomRequest(id), await bob.peerId);
  await bob.becomes((m) => m.self.roomState, "joined");
  await ada.becomes((m) => names(m), ["Bob"]);
});
