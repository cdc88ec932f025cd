// Reconnecting after lost connections and after restarts of the server.

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { CONNECTION_LOST } from "../console.mjs";
import { GRACE_SECONDS } from "../server.mjs";
import { scenario } from "../suite.mjs";

const CALL_PRESETS = ["group_call_host", "group_call_participant"];

/** Cuts a participant's connection, restores it, and waits until the participant has reconnected. */
async function interrupt(participant) {
  await participant.clearEvents();
  participant.socketProxy.cut();
  await participant.waitForEvent("self", "roomLeft", ({ state }) => state === "disconnected");
  participant.socketProxy.restore();
  await participant.waitForEvent("self", "roomJoined", ({ reconnected }) => reconnected, 20_000);
}

scenario("two participants reconnect ten times each, and keep their peer ids", { events: [3, 2], isLong: true, timeoutSeconds: 240, allowedMessages: [CONNECTION_LOST] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada] = await context.addParticipants(meeting, ["group_call_host"]);
  const [bob, cem] = await context.addParticipants(meeting, ["group_call_participant", "group_call_participant"], { socketProxy: true });
  await ada.eventually((m) => names(m), ["Bob", "Cem"]);
  const ids = [await bob.peerId, await cem.peerId];
  const session = await ada.evaluate((m) => m.meta.sessionId);
  await ada.clearEvents();
  const sent = [];
  for (let round = 0; round < 10; round += 1) {
    await Promise.all([bob, cem].map(interrupt));
    sent.push(`round ${round}`);
    await (round % 2 ? bob : ada).evaluate((m, text) => m.chat.sendTextMessage(text), sent.at(-1));
    for (const one of [ada, bob, cem]) await one.eventually((m) => texts(m), sent);
  }
  assert.deepEqual([await bob.peerId, await cem.peerId], ids);
  await ada.eventually((m) => m.participants.joined.toArray().map((one) => one.id).sort(), [...ids].sort());
  await bob.eventually((m) => names(m), ["Ada", "Cem"]);
  await cem.eventually((m) => names(m), ["Ada", "Bob"]);
  assert.equal(await bob.evaluate((m) => m.meta.sessionId), session);
  assert.equal((await ada.events("participants.joined", "participantLeft")).length, 0, "a participant left in the meantime");
  const { participants } = await context.server.api("GET", `/sessions/${session}/participants`);
  assert.equal(participants.length, 3);
});

scenario("messages and polls sent during a disconnection are received after reconnecting", { events: [3, 65536, 196609], allowedMessages: [CONNECTION_LOST] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada] = await context.addParticipants(meeting, ["group_call_host"]);
  const [bob] = await context.addParticipants(meeting, ["group_call_participant"], { socketProxy: true });
  await bob.evaluate((m) => m.chat.sendTextMessage("before"));
  bob.socketProxy.cut();
  await bob.waitForEvent("self", "roomLeft", ({ state }) => state === "disconnected");
  await ada.evaluate((m) => m.chat.sendTextMessage("meanwhile"));
  await ada.evaluate((m) => m.polls.create("Back?", ["yes", "no"]));
  const [cem] = await context.addParticipants(meeting, ["group_call_participant"]);
  await cem.eventually((m) => names(m), ["Ada", "Bob"]);
  bob.socketProxy.restore();
  await bob.waitForEvent("self", "roomJoined", ({ reconnected }) => reconnected, 20_000);
  await bob.eventually((m) => [texts(m), m.polls.items.length, names(m)], [["before", "meanwhile"], 1, ["Ada", "Cem"]]);
});

scenario("a connection that stalls without an error is detected, and the participant reconnects", { events: [3], isLong: true, allowedMessages: [CONNECTION_LOST] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada] = await context.addParticipants(meeting, ["group_call_host"]);
  const [bob] = await context.addParticipants(meeting, ["group_call_participant"], { socketProxy: true });
  const id = await bob.peerId;
  bob.socketProxy.stall();
  const began = Date.now();
  await bob.waitForEvent("self", "roomLeft", ({ state }) => state === "disconnected", 50_000);
  assert(Date.now() - began > 10_000, "it was detected at once: the connection was reset, not stalled");
  bob.socketProxy.cut();
  bob.socketProxy.restore();
  await bob.waitForEvent("self", "roomJoined", ({ reconnected }) => reconnected, 30_000);
  await ada.eventually((m) => m.participants.joined.toArray().map((one) => one.id), [id], undefined, 30_000);
});

scenario("a disconnected participant leaves at the end of the grace period, and not before", { events: [4], isLong: true, allowedMessages: [CONNECTION_LOST] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada] = await context.addParticipants(meeting, ["group_call_host"]);
  const [bob] = await context.addParticipants(meeting, ["group_call_participant"], { socketProxy: true });
  await ada.eventually((m) => names(m), ["Bob"]);
  bob.socketProxy.cut();
  await ada.consistently((m) => names(m), ["Bob"], (GRACE_SECONDS - 3) * 1000);
  await ada.eventually((m) => names(m), [], undefined, 10_000);
  // The participant can still reconnect, as a new peer.
  bob.socketProxy.restore();
  await bob.waitForEvent("self", "roomJoined", ({ reconnected }) => reconnected, 20_000);
  await ada.eventually((m) => names(m), ["Bob"]);
});

scenario("the server's pings keep an idle meeting connected", { events: [3], isLong: true }, async (context) => {
  const [ada] = await context.addParticipants(await context.server.createMeeting(), ["group_call_host"]);
  await sleep(45_000);
  assert.equal(await ada.roomState, "joined");
  const sockets = await ada.evaluate(() => window.sockets);
  assert.equal(sockets.length, 1);
  assert(sockets[0].pings >= 2, `${sockets[0].pings} pings in 45 s`);
});

scenario("a viewer of a livestream joins again after a lost connection", { events: [3], allowedMessages: [CONNECTION_LOST] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada] = await context.addParticipants(meeting, ["livestream_host"]);
  await ada.evaluate((m) => m.stage.join());
  const [bob] = await context.addParticipants(meeting, ["livestream_viewer"], { socketProxy: true });
  bob.socketProxy.cut();
  await bob.waitForEvent("self", "roomLeft", ({ state }) => state === "disconnected");
  bob.socketProxy.restore();
  await bob.eventually((m) => m.meta.socketState.state, "connected");
  await bob.eventually((m) => m.self.roomState, "init");
  await bob.join();
  await bob.waitFor((m) => byName(m, "Ada")?.stageStatus === "ON_STAGE");
});

scenario("a participant on the stage is still on it after reconnecting", { events: [3, 38], allowedMessages: [CONNECTION_LOST] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada] = await context.addParticipants(meeting, ["webinar_presenter"]);
  const [bob] = await context.addParticipants(meeting, ["webinar_viewer"], { socketProxy: true });
  await ada.eventually((m) => names(m), ["Bob"]);
  await ada.evaluate((m, id) => m.stage.grantAccess([id]), bob.userId);
  await bob.eventually((m) => m.stage.status, "ACCEPTED_TO_JOIN_STAGE");
  await bob.evaluate((m) => m.stage.join());
  await ada.eventually((m) => byName(m, "Bob").stageStatus, "ON_STAGE");
  await interrupt(bob);
  assert.equal(await bob.evaluate((m) => m.stage.status), "ON_STAGE");
  await ada.eventually((m) => byName(m, "Bob")?.stageStatus, "ON_STAGE");
});

scenario("a deleted participant cannot reconnect", { events: [4], allowedMessages: [CONNECTION_LOST] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada] = await context.addParticipants(meeting, ["group_call_host"]);
  const [bob] = await context.addParticipants(meeting, ["group_call_participant"], { socketProxy: true });
  await ada.eventually((m) => names(m), ["Bob"]);
  await context.server.api("DELETE", `/meetings/${meeting.id}/participants/${bob.userId}`);
  bob.socketProxy.cut();
  await bob.waitForEvent("self", "roomLeft", ({ state }) => state === "disconnected");
  bob.socketProxy.restore();
  // Close code 1000 prevents further attempts; the SDK would otherwise retry fifty times.
  await bob.waitFor(() => window.sockets.at(-1).closed?.code === 1000 && window.sockets.length > 1);
  const attempts = await bob.evaluate(() => window.sockets.length);
  await ada.eventually((m) => names(m), [], undefined, (GRACE_SECONDS + 5) * 1000);
  assert.equal(await bob.evaluate(() => window.sockets.length), attempts);
  assert.equal(await bob.roomState, "disconnected");
});

/** A meeting with state of every kind: messages, a poll, a store, a pinned message, changed permissions. */
async function prepareMeeting(context) {
  const waitingPreset = await context.server.createPreset("group_call_participant", { permissions: { waiting_room_type: "SKIP_ON_ACCEPT" } });
  const meeting = await context.server.createMeeting({ title: "Through thick and thin" });
  const [ada, bob] = await context.addParticipants(meeting, CALL_PRESETS);
  const [cem] = await context.addParticipants(meeting, [waitingPreset]);
  await ada.waitFor((m) => m.participants.waitlisted.size === 1);
  await ada.evaluate((m, id) => m.participants.acceptWaitingRoomRequest(id), await cem.peerId);
  await cem.eventually((m) => m.self.roomState, "joined");
  await ada.eventually((m) => names(m), ["Bob", "Cem"]);
  await ada.evaluate((m) => m.chat.sendTextMessage("one"));
  // The SDK does not await the server when it sends a message.
  await bob.eventually((m) => texts(m), ["one"]);
  await bob.evaluate((m) => m.chat.sendTextMessage("two"));
  for (const one of [ada, bob, cem]) await one.eventually((m) => texts(m), ["one", "two"]);
  await ada.evaluate((m) => m.chat.pin(m.chat.messages[0].id));
  await ada.evaluate((m) => m.polls.create("Still?", ["yes", "no"]));
  await bob.waitFor((m) => m.polls.items.length === 1);
  await bob.evaluate((m) => m.polls.vote(m.polls.items[0].id, 0));
  await ada.waitFor((m) => m.polls.items[0].voted.length === 1);
  await ada.evaluate((m) => m.stores.create("board").then((store) => store.set("k", { v: 1 })));
  await ada.evaluate((m) => m.participants.updatePermissions([byName(m, "Bob").id], { polls: { canCreate: true } }));
  await bob.eventually((m) => m.self.permissions.polls.canCreate, true);
  await bob.evaluate((m) => m.stores.create("board").then(() => undefined));
  await bob.waitFor((m) => m.stores.stores.get("board").get("k"));
  return { meeting, ada, bob, cem, session: await ada.evaluate((m) => m.meta.sessionId), peers: await Promise.all([ada, bob, cem].map((one) => one.peerId)) };
}

for (const [ended, signal] of [["killed", "SIGKILL"], ["stopped", "SIGTERM"]]) {
  scenario(`after the server is ${ended} and restarted, all participants reconnect and the meeting's state is restored`, {
    events: [3, 2, 65536, 196609], isExclusive: true, timeoutSeconds: 180, allowedMessages: [CONNECTION_LOST],
  }, async (context) => {
    const { meeting, ada, bob, cem, session, peers } = await prepareMeeting(context);
    const three = [ada, bob, cem];
    for (const one of three) await one.clearEvents();
    await context.server.kill(signal);
    for (const one of three) await one.waitForEvent("self", "roomLeft", ({ state }) => state === "disconnected");
    await context.server.launch();
    for (const one of three) {
      await one.waitForEvent("self", "roomJoined", ({ reconnected }) => reconnected, 60_000);
      await one.eventually((m) => [m.self.roomState, m.meta.sessionId], ["joined", session]);
      await one.eventually((m) => texts(m), ["one", "two"]);
      await one.eventually((m) => names(m), ["Ada", "Bob", "Cem"].filter((name) => name !== one.name), undefined, 40_000);
    }
    assert.deepEqual(await Promise.all(three.map((one) => one.peerId)), peers);
    assert.equal(await ada.evaluate((m) => m.chat.messages[0].pinned), true);
    await ada.eventually((m) => m.polls.items.map((poll) => [poll.question, poll.options[0].count]), [["Still?", 1]]);
    await ada.evaluate((m) => m.chat.sendTextMessage("three"));
    for (const one of three) await one.eventually((m) => texts(m), ["one", "two", "three"]);
    await bob.evaluate((m) => m.polls.create("May I still?", ["yes", "no"]));
    await ada.waitFor((m) => m.polls.items.length === 2);
    const live = await context.server.api("GET", `/meetings/${meeting.id}/active-session`);
    assert.deepEqual([live.id, live.live_participants], [session, 3]);
    const [dee] = await context.addParticipants(meeting, ["group_call_participant"]);
    await dee.eventually((m) => [m.meta.sessionId, texts(m).length, m.polls.items.length, names(m)], [session, 3, 2, ["Ada", "Bob", "Cem"]]);
    await dee.evaluate((m) => m.stores.create("board").then(() => undefined));
    assert.deepEqual(await dee.evaluate((m) => m.stores.stores.get("board").get("k")), { v: 1 });
    await cem.leave();
    await ada.eventually((m) => names(m), ["Bob", "Dee"]);
  });
}

scenario("participants who do not reconnect after a restart leave at the end of the grace period", {
  events: [3], isExclusive: true, timeoutSeconds: 120, allowedMessages: [CONNECTION_LOST],
}, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada, bob] = await context.addParticipants(meeting, CALL_PRESETS);
  await ada.eventually((m) => names(m), ["Bob"]);
  await ada.clearEvents();
  await context.server.kill("SIGKILL");
  await bob.closePage();
  await context.server.launch();
  await ada.waitForEvent("self", "roomJoined", ({ reconnected }) => reconnected, 60_000);
  await ada.eventually((m) => names(m), [], undefined, (GRACE_SECONDS + 15) * 1000);
  const session = await ada.evaluate((m) => m.meta.sessionId);
  const deadline = Date.now() + (GRACE_SECONDS + 15) * 1000;
  for (;;) {
    const { participants } = await context.server.api("GET", `/sessions/${session}/participants`);
    const left = participants.map((one) => [one.display_name, Boolean(one.left_at)]).sort();
    assert.deepEqual(left[0], ["Ada", false]);
    if (left[1][1]) break;
    assert(Date.now() < deadline, "Bob has not left");
    await sleep(500);
  }
});
