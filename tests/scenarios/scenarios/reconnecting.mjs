// Lines that break, servers that die, and people who come back.

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { BROKEN } from "../console.mjs";
import { GRACE_SECONDS } from "../parlor.mjs";
import { scenario } from "../suite.mjs";

const CALL = ["group_call_host", "group_call_participant"];

/** Pulls somebody's line, plugs it in again, and waits until they are back. */
async function pull(person) {
  await person.mark();
  person.cable.pull();
  await person.event("self", "roomLeft", ({ state }) => state === "disconnected");
  person.cable.plug();
  await person.event("self", "roomJoined", ({ reconnected }) => reconnected, 20_000);
}

scenario("two people lose the line ten times each, and are the same peers every time", { sees: [3, 2], long: true, seconds: 240, allows: [BROKEN] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada] = await world.people(meeting, ["group_call_host"]);
  const [bob, cem] = await world.people(meeting, ["group_call_participant", "group_call_participant"], { cable: true });
  await ada.becomes((m) => names(m), ["Bob", "Cem"]);
  const ids = [await bob.peerId, await cem.peerId];
  const session = await ada.do((m) => m.meta.sessionId);
  await ada.mark();
  const said = [];
  for (let round = 0; round < 10; round += 1) {
    await Promise.all([bob, cem].map(pull));
    said.push(`round ${round}`);
    await (round % 2 ? bob : ada).do((m, text) => m.chat.sendTextMessage(text), said.at(-1));
    for (const one of [ada, bob, cem]) await one.becomes((m) => texts(m), said);
  }
  assert.deepEqual([await bob.peerId, await cem.peerId], ids);
  await ada.becomes((m) => m.participants.joined.toArray().map((one) => one.id).sort(), [...ids].sort());
  await bob.becomes((m) => names(m), ["Ada", "Cem"]);
  await cem.becomes((m) => names(m), ["Ada", "Bob"]);
  assert.equal(await bob.do((m) => m.meta.sessionId), session);
  assert.equal((await ada.events("participants.joined", "participantLeft")).length, 0, "somebody was gone for a while");
  const { participants } = await world.parlor.ask("GET", `/sessions/${session}/participants`);
  assert.equal(participants.length, 3);
});

scenario("what is said while the line is cut is there when it is back", { sees: [3, 65536, 196609], allows: [BROKEN] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada] = await world.people(meeting, ["group_call_host"]);
  const [bob] = await world.people(meeting, ["group_call_participant"], { cable: true });
  await bob.do((m) => m.chat.sendTextMessage("before"));
  bob.cable.pull();
  await bob.event("self", "roomLeft", ({ state }) => state === "disconnected");
  await ada.do((m) => m.chat.sendTextMessage("meanwhile"));
  await ada.do((m) => m.polls.create("Back?", ["yes", "no"]));
  const [cem] = await world.people(meeting, ["group_call_participant"]);
  await cem.becomes((m) => names(m), ["Ada", "Bob"]);
  bob.cable.plug();
  await bob.event("self", "roomJoined", ({ reconnected }) => reconnected, 20_000);
  await bob.becomes((m) => [texts(m), m.polls.items.length, names(m)], [["before", "meanwhile"], 1, ["Ada", "Cem"]]);
});

scenario("a line that goes silent is noticed, and the person comes back", { sees: [3], long: true, allows: [BROKEN] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada] = await world.people(meeting, ["group_call_host"]);
  const [bob] = await world.people(meeting, ["group_call_participant"], { cable: true });
  const id = await bob.peerId;
  bob.cable.mute();
  const began = Date.now();
  await bob.event("self", "roomLeft", ({ state }) => state === "disconnected", 50_000);
  assert(Date.now() - began > 10_000, "it was noticed at once: the line was not silent but cut");
  bob.cable.pull();
  bob.cable.plug();
  await bob.event("self", "roomJoined", ({ reconnected }) => reconnected, 30_000);
  await ada.becomes((m) => m.participants.joined.toArray().map((one) => one.id), [id], undefined, 30_000);
});

scenario("a line that stays dead is given up after the grace period, and not before", { sees: [4], long: true, allows: [BROKEN] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada] = await world.people(meeting, ["group_call_host"]);
  const [bob] = await world.people(meeting, ["group_call_participant"], { cable: true });
  await ada.becomes((m) => names(m), ["Bob"]);
  bob.cable.pull();
  await ada.stays((m) => names(m), ["Bob"], (GRACE_SECONDS - 3) * 1000);
  await ada.becomes((m) => names(m), [], undefined, 10_000);
  // And still they may come back, as somebody new.
  bob.cable.plug();
  await bob.event("self", "roomJoined", ({ reconnected }) => reconnected, 20_000);
  await ada.becomes((m) => names(m), ["Bob"]);
});

scenario("a quiet meeting stays connected by the server's pings", { sees: [3], long: true }, async (world) => {
  const [ada] = await world.people(await world.parlor.meeting(), ["group_call_host"]);
  await sleep(45_000);
  assert.equal(await ada.roomState, "joined");
  const sockets = await ada.do(() => window.sockets);
  assert.equal(sockets.length, 1);
  assert(sockets[0].pings >= 2, `${sockets[0].pings} pings in 45 s`);
});

scenario("a viewer of a livestream who loses the line joins again", { sees: [3], allows: [BROKEN] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada] = await world.people(meeting, ["livestream_host"]);
  await ada.do((m) => m.stage.join());
  const [bob] = await world.people(meeting, ["livestream_viewer"], { cable: true });
  bob.cable.pull();
  await bob.event("self", "roomLeft", ({ state }) => state === "disconnected");
  bob.cable.plug();
  await bob.becomes((m) => m.meta.socketState.state, "connected");
  await bob.becomes((m) => m.self.roomState, "init");
  await bob.join();
  await bob.until((m) => named(m, "Ada")?.stageStatus === "ON_STAGE");
});

scenario("somebody on the stage who loses the line is still on it", { sees: [3, 38], allows: [BROKEN] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada] = await world.people(meeting, ["webinar_presenter"]);
  const [bob] = await world.people(meeting, ["webinar_viewer"], { cable: true });
  await ada.becomes((m) => names(m), ["Bob"]);
  await ada.do((m, id) => m.stage.grantAccess([id]), bob.userId);
  await bob.becomes((m) => m.stage.status, "ACCEPTED_TO_JOIN_STAGE");
  await bob.do((m) => m.stage.join());
  await ada.becomes((m) => named(m, "Bob").stageStatus, "ON_STAGE");
  await pull(bob);
  assert.equal(await bob.do((m) => m.stage.status), "ON_STAGE");
  await ada.becomes((m) => named(m, "Bob")?.stageStatus, "ON_STAGE");
});

scenario("whoever was deleted does not come back once the line is lost", { sees: [4], allows: [BROKEN] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada] = await world.people(meeting, ["group_call_host"]);
  const [bob] = await world.people(meeting, ["group_call_participant"], { cable: true });
  await ada.becomes((m) => names(m), ["Bob"]);
  await world.parlor.ask("DELETE", `/meetings/${meeting.id}/participants/${bob.userId}`);
  bob.cable.pull();
  await bob.event("self", "roomLeft", ({ state }) => state === "disconnected");
  bob.cable.plug();
  // Refused for good, or the SDK would knock fifty times.
  await bob.until(() => window.sockets.at(-1).closed?.code === 1000 && window.sockets.length > 1);
  const knocks = await bob.do(() => window.sockets.length);
  await ada.becomes((m) => names(m), [], undefined, (GRACE_SECONDS + 5) * 1000);
  assert.equal(await bob.do(() => window.sockets.length), knocks);
  assert.equal(await bob.roomState, "disconnected");
});

/** A meeting with something of everything in it. */
async function furnish(world) {
  const waiter = await world.parlor.preset("group_call_participant", { permissions: { waiting_room_type: "SKIP_ON_ACCEPT" } });
  const meeting = await world.parlor.meeting({ title: "Through thick and thin" });
  const [ada, bob] = await world.people(meeting, CALL);
  const [cem] = await world.people(meeting, [waiter]);
  await ada.until((m) => m.participants.waitlisted.size === 1);
  await ada.do((m, id) => m.participants.acceptWaitingRoomRequest(id), await cem.peerId);
  await cem.becomes((m) => m.self.roomState, "joined");
  await ada.becomes((m) => names(m), ["Bob", "Cem"]);
  await ada.do((m) => m.chat.sendTextMessage("one"));
  // The SDK does not wait for the server when it sends.
  await bob.becomes((m) => texts(m), ["one"]);
  await bob.do((m) => m.chat.sendTextMessage("two"));
  for (const one of [ada, bob, cem]) await one.becomes((m) => texts(m), ["one", "two"]);
  await ada.do((m) => m.chat.pin(m.chat.messages[0].id));
  await ada.do((m) => m.polls.create("Still?", ["yes", "no"]));
  await bob.until((m) => m.polls.items.length === 1);
  await bob.do((m) => m.polls.vote(m.polls.items[0].id, 0));
  await ada.until((m) => m.polls.items[0].voted.length === 1);
  await ada.do((m) => m.stores.create("board").then((store) => store.set("k", { v: 1 })));
  await ada.do((m) => m.participants.updatePermissions([named(m, "Bob").id], { polls: { canCreate: true } }));
  await bob.becomes((m) => m.self.permissions.polls.canCreate, true);
  await bob.do((m) => m.stores.create("board").then(() => undefined));
  await bob.until((m) => m.stores.stores.get("board").get("k"));
  return { meeting, ada, bob, cem, session: await ada.do((m) => m.meta.sessionId), peers: await Promise.all([ada, bob, cem].map((one) => one.peerId)) };
}

for (const [how, signal] of [["killed", "SIGKILL"], ["stopped", "SIGTERM"]]) {
  scenario(`the server is ${how} and started again: everybody comes back by themselves, and all is as it was`, {
    sees: [3, 2, 65536, 196609], alone: true, seconds: 180, allows: [BROKEN],
  }, async (world) => {
    const { meeting, ada, bob, cem, session, peers } = await furnish(world);
    const three = [ada, bob, cem];
    for (const one of three) await one.mark();
    await world.parlor.end(signal);
    for (const one of three) await one.event("self", "roomLeft", ({ state }) => state === "disconnected");
    await world.parlor.run();
    for (const one of three) {
      await one.event("self", "roomJoined", ({ reconnected }) => reconnected, 60_000);
      await one.becomes((m) => [m.self.roomState, m.meta.sessionId], ["joined", session]);
      await one.becomes((m) => texts(m), ["one", "two"]);
      await one.becomes((m) => names(m), ["Ada", "Bob", "Cem"].filter((name) => name !== one.name), undefined, 40_000);
    }
    assert.deepEqual(await Promise.all(three.map((one) => one.peerId)), peers);
    assert.equal(await ada.do((m) => m.chat.messages[0].pinned), true);
    await ada.becomes((m) => m.polls.items.map((poll) => [poll.question, poll.options[0].count]), [["Still?", 1]]);
    await ada.do((m) => m.chat.sendTextMessage("three"));
    for (const one of three) await one.becomes((m) => texts(m), ["one", "two", "three"]);
    await bob.do((m) => m.polls.create("May I still?", ["yes", "no"]));
    await ada.until((m) => m.polls.items.length === 2);
    const live = await world.parlor.ask("GET", `/meetings/${meeting.id}/active-session`);
    assert.deepEqual([live.id, live.live_participants], [session, 3]);
    const [dee] = await world.people(meeting, ["group_call_participant"]);
    await dee.becomes((m) => [m.meta.sessionId, texts(m).length, m.polls.items.length, names(m)], [session, 3, 2, ["Ada", "Bob", "Cem"]]);
    await dee.do((m) => m.stores.create("board").then(() => undefined));
    assert.deepEqual(await dee.do((m) => m.stores.stores.get("board").get("k")), { v: 1 });
    await cem.leave();
    await ada.becomes((m) => names(m), ["Bob", "Dee"]);
  });
}

scenario("people who do not come back after a kill are gone in the end", {
  sees: [3], alone: true, seconds: 120, allows: [BROKEN],
}, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada, bob] = await world.people(meeting, CALL);
  await ada.becomes((m) => names(m), ["Bob"]);
  await ada.mark();
  await world.parlor.end("SIGKILL");
  await bob.vanish();
  await world.parlor.run();
  await ada.event("self", "roomJoined", ({ reconnected }) => reconnected, 60_000);
  await ada.becomes((m) => names(m), [], undefined, (GRACE_SECONDS + 15) * 1000);
  const session = await ada.do((m) => m.meta.sessionId);
  const deadline = Date.now() + (GRACE_SECONDS + 15) * 1000;
  for (;;) {
    const { participants } = await world.parlor.ask("GET", `/sessions/${session}/participants`);
    const left = participants.map((one) => [one.display_name, Boolean(one.left_at)]).sort();
    assert.deepEqual(left[0], ["Ada", false]);
    if (left[1][1]) break;
    assert(Date.now() < deadline, "Bob has not left");
    await sleep(500);
  }
});
