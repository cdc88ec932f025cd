// Polls, stores, plugins and broadcasts.

import assert from "node:assert/strict";
import { scenario } from "../suite.mjs";

const CALL_PRESETS = ["group_call_host", "group_call_participant"];

/** The polls as a participant sees them, without ids. */
const polls = (m) => m.polls.items.map(({ question, options, anonymous, hideVotes, createdBy, voted }) => ({
  question, anonymous, hideVotes, createdBy, voted: voted.length,
  options: options.map(({ text, count, votes }) => `${text} ${count} ${votes.map((vote) => vote.name).join()}`),
}));

scenario("a poll is created, answered, and received by a late joiner", { events: [196608, 196609, 196610, 65535] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada, bob, cem] = await context.addParticipants(meeting, [...CALL_PRESETS, "group_call_participant"]);
  await ada.evaluate((m) => m.polls.create("Tea?", ["yes", "no"]));
  for (const one of [ada, bob]) {
    await one.eventually(polls, [{ question: "Tea?", anonymous: false, hideVotes: false, createdBy: "Ada", voted: 0, options: ["yes 0 ", "no 0 "] }]);
    assert.equal((await one.events("polls", "pollsUpdate")).length, 1);
  }
  assert.equal(await bob.evaluate((m) => m.polls.items[0].createdByUserId), ada.userId);
  await bob.evaluate((m) => m.polls.vote(m.polls.items[0].id, 0));
  await cem.waitFor((m) => m.polls.items[0].voted.length === 1);
  await cem.evaluate((m) => m.polls.vote(m.polls.items[0].id, 1));
  const answered = [{ question: "Tea?", anonymous: false, hideVotes: false, createdBy: "Ada", voted: 2, options: ["yes 1 Bob", "no 1 Cem"] }];
  for (const one of [ada, bob, cem]) await one.eventually(polls, answered);
  // A second vote is rejected.
  await bob.evaluate((m) => m.polls.vote(m.polls.items[0].id, 1));
  await bob.waitForErrorReply(/./);
  await ada.consistently(polls, answered, 500);
  const [dee] = await context.addParticipants(meeting, ["group_call_participant"]);
  await dee.eventually(polls, answered);
  assert.deepEqual((await dee.evaluate((m) => m.polls.items[0].voted)).sort(), [bob.userId, cem.userId].sort());
});

scenario("an anonymous poll does not reveal voters, and hidden votes are shown only to those who have voted", { events: [196608, 196610] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada, bob] = await context.addParticipants(meeting, CALL_PRESETS);
  await ada.evaluate((m) => m.polls.create("Who?", ["a", "b", "c"], true, true));
  await bob.waitFor((m) => m.polls.items.length === 1);
  await bob.evaluate((m) => m.polls.vote(m.polls.items[0].id, 2));
  const [cem] = await context.addParticipants(meeting, ["group_call_participant"]);
  const counts = { question: "Who?", anonymous: true, hideVotes: true, createdBy: "Ada", voted: 1 };
  // The creator sees the counts, but not the voters.
  for (const one of [ada, bob]) await one.eventually(polls, [{ ...counts, options: ["a 0 ", "b 0 ", "c 1 "] }]);
  await cem.eventually(polls, [{ ...counts, options: ["a 0 ", "b 0 ", "c 0 "] }]);
});

scenario("the permissions to create and to view polls are enforced", { events: [196609, 65535] }, async (context) => {
  const noPolls = await context.server.createPreset("group_call_participant", { permissions: { polls: { can_create: false, can_view: false, can_vote: false } } });
  const meeting = await context.server.createMeeting();
  const [ada, bob, cem] = await context.addParticipants(meeting, [...CALL_PRESETS, noPolls]);
  await bob.evaluate((m) => {
    m.self.permissions.polls.canCreate = true;
    return m.polls.create("Coup?", ["yes", "of course"]);
  });
  await bob.waitForErrorReply(/poll|permission/);
  await ada.evaluate((m) => m.polls.create("Order?", ["yes", "no"]));
  await bob.waitFor((m) => m.polls.items.length === 1);
  assert.deepEqual(await ada.evaluate((m) => m.polls.items.map((one) => one.question)), ["Order?"]);
  await cem.consistently((m) => m.polls.items.length, 0, 300);
});

/** The content of a store as a participant sees it. */
const content = (m, name) => ({ ...m.stores.stores.get(name).getAll() });

scenario("a store is shared: keys are set, read, updated, deleted and subscribed to, and late joiners receive them", { events: [131081, 131082, 131083] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada, bob] = await context.addParticipants(meeting, CALL_PRESETS);
  for (const one of [ada, bob]) {
    await one.evaluate(async (m) => {
      const store = await m.stores.create("board");
      window.updates = [];
      store.subscribe("colour", (value) => window.updates.push(value));
      store.subscribe("*", (value) => window.updates.push({ any: value }));
    });
  }
  await ada.evaluate((m) => m.stores.stores.get("board").set("colour", { name: "blue", rgb: [0, 0, 255] }));
  await bob.eventually(content, { colour: { name: "blue", rgb: [0, 0, 255] } }, "board");
  assert.deepEqual(await bob.evaluate(() => window.updates), [
    { colour: { name: "blue", rgb: [0, 0, 255] } }, { any: { colour: { name: "blue", rgb: [0, 0, 255] } } },
  ]);
  assert.deepEqual(await ada.evaluate(() => window.updates), []);
  await bob.evaluate((m) => m.stores.stores.get("board").update("colour", { name: "red" }));
  await ada.eventually(content, { colour: { name: "red", rgb: [0, 0, 255] } }, "board");
  await ada.evaluate((m) => m.stores.stores.get("board").bulkSet([{ key: "a", payload: 1 }, { key: "b", payload: "Grüße" }, { key: "c", payload: [null] }]));
  await bob.eventually(content, { colour: { name: "red", rgb: [0, 0, 255] }, a: 1, b: "Grüße", c: [null] }, "board");
  await bob.evaluate((m) => m.stores.stores.get("board").delete("colour"));
  await ada.eventually(content, { a: 1, b: "Grüße", c: [null] }, "board");
  await ada.evaluate((m) => m.stores.stores.get("board").bulkDelete([{ key: "a" }, { key: "c" }]));
  await bob.eventually(content, { b: "Grüße" }, "board");
  const [cem] = await context.addParticipants(meeting, ["group_call_participant"]);
  await cem.evaluate((m) => m.stores.create("board").then(() => undefined));
  assert.deepEqual(await cem.evaluate(content, "board"), { b: "Grüße" });
  await cem.evaluate((m) => m.stores.create("another").then(() => undefined));
  assert.deepEqual(await cem.evaluate(content, "another"), {});
  await ada.evaluate((m) => m.stores.stores.get("board").set("d", false));
  await cem.eventually(content, { b: "Grüße", d: false }, "board");
});

scenario("a plugin that one participant activates is active for all, including late joiners", { events: [131081, 131082, 65535] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const plugins = [{ id: "whiteboard", name: "Whiteboard", icon: "", permissions: { canActivate: true, canDeactivate: true } }];
  const init = { defaults: { audio: false, video: false, plugins } };
  const [ada, bob] = await context.addParticipants(meeting, CALL_PRESETS, { init });
  const active = (m) => m.plugins.active.toArray().map((one) => [one.name, one.enabledBy]);
  await ada.evaluate((m) => m.plugins.all.toArray()[0].activate());
  await bob.eventually(active, [["Whiteboard", await ada.peerId]]);
  const [cem] = await context.addParticipants(meeting, ["group_call_participant"], { init });
  await cem.eventually(active, [["Whiteboard", await ada.peerId]]);
  // The client's list of plugins permits Bob to close it, but his preset does not.
  await bob.evaluate((m) => m.plugins.all.toArray()[0].deactivate());
  await bob.waitForErrorReply(/./);
  await ada.consistently((m) => m.plugins.active.size, 1, 300);
  await ada.evaluate((m) => m.plugins.all.toArray()[0].deactivate());
  await cem.eventually(active, []);
});

/** The payloads of the broadcasts of a type that a participant received. */
const received = async (participant, type) => (await participant.events("participants", "broadcastedMessage")).filter(([message]) => message.type === type).map(([message]) => message.payload);

/** Waits until the participants have received exactly these broadcasts of a type. */
async function expectBroadcasts(type, expected) {
  for (const [participant, payloads] of expected) {
    if (payloads.length) await participant.waitForEvent("participants", "broadcastedMessage", (message) => message.type === type);
    assert.deepEqual(await received(participant, type), payloads, `${participant.name} received other broadcasts of type ${type}`);
  }
}

scenario("a broadcast reaches all participants, or only its recipients, exactly once", { events: [29, 39] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada, bob, cem] = await context.addParticipants(meeting, [...CALL_PRESETS, "group_call_guest"]);
  for (const one of [ada, bob, cem]) await one.waitFor((m) => names(m).length === 2);
  const hand = { hand: "up", count: 2 };
  await bob.evaluate((m, payload) => m.participants.broadcastMessage("hand", payload), hand);
  await expectBroadcasts("hand", [[cem, [hand]], [ada, [hand]], [bob, [hand]]]);
  await ada.evaluate((m, id) => m.participants.broadcastMessage("whisper", { a: 1 }, { participantIds: [id] }), await bob.peerId);
  await expectBroadcasts("whisper", [[bob, [{ a: 1 }]], [cem, []]]);
  await ada.evaluate((m) => m.participants.broadcastMessage("guests", { b: "two" }, { presetNames: ["group_call_guest"] }));
  await expectBroadcasts("guests", [[cem, [{ b: "two" }]], [bob, []]]);
  assert.deepEqual([await received(bob, "hand"), await received(ada, "hand")], [[hand], [hand]]);
  const [[{ timestamp }]] = await cem.events("participants", "broadcastedMessage");
  assert(Math.abs(timestamp - Date.now()) < 60_000);
});

scenario("the server limits a flood of broadcasts and of store updates", { events: [29, 131081, 65535], allowedMessages: [{ text: /MaxListenersExceededWarning/, reason: "the SDK adds a listener for the reply to each request" }] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada, bob] = await context.addParticipants(meeting, CALL_PRESETS);
  for (const one of [ada, bob]) await one.evaluate((m) => m.stores.create("board").then(() => undefined));
  await ada.evaluate((m) => {
    m.participants.updateRateLimits(1000, 1);
    m.stores.stores.get("board").updateRateLimits(1000, 1);
    for (let index = 0; index < 40; index += 1) {
      m.participants.broadcastMessage("flood", { index }).catch(() => {});
      m.stores.stores.get("board").set(`key ${index}`, index);
    }
  });
  await ada.waitForErrorReply(/./);
  await bob.waitForEvent("participants", "broadcastedMessage", ({ type }) => type === "flood");
  await bob.consistently(() => true, true, 1500);
  const arrived = (await received(bob, "flood")).length;
  assert(arrived >= 5 && arrived <= 20, `${arrived} of 40 broadcasts arrived`);
  const stored = await bob.evaluate((m) => Object.keys(m.stores.stores.get("board").getAll()).length);
  assert(stored >= 5 && stored <= 20, `${stored} of 40 updates arrived`);
  assert.deepEqual([await ada.roomState, await bob.roomState], ["joined", "joined"]);
});
