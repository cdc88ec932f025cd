// Polls, stores, plugins and broadcasts.

import assert from "node:assert/strict";
import { scenario } from "../suite.mjs";

const CALL = ["group_call_host", "group_call_participant"];

/** The polls as somebody sees them, without their ids. */
const polls = (m) => m.polls.items.map(({ question, options, anonymous, hideVotes, createdBy, voted }) => ({
  question, anonymous, hideVotes, createdBy, voted: voted.length,
  options: options.map(({ text, count, votes }) => `${text} ${count} ${votes.map((vote) => vote.name).join()}`),
}));

scenario("a poll is asked, answered and found by a late joiner", { sees: [196608, 196609, 196610, 65535] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada, bob, cem] = await world.people(meeting, [...CALL, "group_call_participant"]);
  await ada.do((m) => m.polls.create("Tea?", ["yes", "no"]));
  for (const one of [ada, bob]) {
    await one.becomes(polls, [{ question: "Tea?", anonymous: false, hideVotes: false, createdBy: "Ada", voted: 0, options: ["yes 0 ", "no 0 "] }]);
    assert.equal((await one.events("polls", "pollsUpdate")).length, 1);
  }
  assert.equal(await bob.do((m) => m.polls.items[0].createdByUserId), ada.userId);
  await bob.do((m) => m.polls.vote(m.polls.items[0].id, 0));
  await cem.until((m) => m.polls.items[0].voted.length === 1);
  await cem.do((m) => m.polls.vote(m.polls.items[0].id, 1));
  const answered = [{ question: "Tea?", anonymous: false, hideVotes: false, createdBy: "Ada", voted: 2, options: ["yes 1 Bob", "no 1 Cem"] }];
  for (const one of [ada, bob, cem]) await one.becomes(polls, answered);
  // Nobody votes twice.
  await bob.do((m) => m.polls.vote(m.polls.items[0].id, 1));
  await bob.refusal(/./);
  await ada.stays(polls, answered, 500);
  const [dee] = await world.people(meeting, ["group_call_participant"]);
  await dee.becomes(polls, answered);
  assert.deepEqual((await dee.do((m) => m.polls.items[0].voted)).sort(), [bob.userId, cem.userId].sort());
});

scenario("an anonymous poll tells nobody who voted for what, and hidden votes are shown to those who have voted", { sees: [196608, 196610] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada, bob] = await world.people(meeting, CALL);
  await ada.do((m) => m.polls.create("Who?", ["a", "b", "c"], true, true));
  await bob.until((m) => m.polls.items.length === 1);
  await bob.do((m) => m.polls.vote(m.polls.items[0].id, 2));
  const [cem] = await world.people(meeting, ["group_call_participant"]);
  const counts = { question: "Who?", anonymous: true, hideVotes: true, createdBy: "Ada", voted: 1 };
  // Whoever asked sees how the poll stands, and not whose votes they are.
  for (const one of [ada, bob]) await one.becomes(polls, [{ ...counts, options: ["a 0 ", "b 0 ", "c 1 "] }]);
  await cem.becomes(polls, [{ ...counts, options: ["a 0 ", "b 0 ", "c 0 "] }]);
});

scenario("who may not create polls does not, and who may not see them sees none", { sees: [196609, 65535] }, async (world) => {
  const blind = await world.parlor.preset("group_call_participant", { permissions: { polls: { can_create: false, can_view: false, can_vote: false } } });
  const meeting = await world.parlor.meeting();
  const [ada, bob, cem] = await world.people(meeting, [...CALL, blind]);
  await bob.do((m) => {
    m.self.permissions.polls.canCreate = true;
    return m.polls.create("Coup?", ["yes", "of course"]);
  });
  await bob.refusal(/poll|permission/);
  await ada.do((m) => m.polls.create("Order?", ["yes", "no"]));
  await bob.until((m) => m.polls.items.length === 1);
  assert.deepEqual(await ada.do((m) => m.polls.items.map((one) => one.question)), ["Order?"]);
  await cem.stays((m) => m.polls.items.length, 0, 300);
});

/** What a store has, as this person sees it. */
const content = (m, name) => ({ ...m.stores.stores.get(name).getAll() });

scenario("a store is shared: set, read, changed, deleted, subscribed to, and there for late joiners", { sees: [131081, 131082, 131083] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada, bob] = await world.people(meeting, CALL);
  for (const one of [ada, bob]) {
    await one.do(async (m) => {
      const store = await m.stores.create("board");
      window.told = [];
      store.subscribe("colour", (value) => window.told.push(value));
      store.subscribe("*", (value) => window.told.push({ any: value }));
    });
  }
  await ada.do((m) => m.stores.stores.get("board").set("colour", { name: "blue", rgb: [0, 0, 255] }));
  await bob.becomes(content, { colour: { name: "blue", rgb: [0, 0, 255] } }, "board");
  assert.deepEqual(await bob.do(() => window.told), [
    { colour: { name: "blue", rgb: [0, 0, 255] } }, { any: { colour: { name: "blue", rgb: [0, 0, 255] } } },
  ]);
  assert.deepEqual(await ada.do(() => window.told), []);
  await bob.do((m) => m.stores.stores.get("board").update("colour", { name: "red" }));
  await ada.becomes(content, { colour: { name: "red", rgb: [0, 0, 255] } }, "board");
  await ada.do((m) => m.stores.stores.get("board").bulkSet([{ key: "a", payload: 1 }, { key: "b", payload: "Grüße" }, { key: "c", payload: [null] }]));
  await bob.becomes(content, { colour: { name: "red", rgb: [0, 0, 255] }, a: 1, b: "Grüße", c: [null] }, "board");
  await bob.do((m) => m.stores.stores.get("board").delete("colour"));
  await ada.becomes(content, { a: 1, b: "Grüße", c: [null] }, "board");
  await ada.do((m) => m.stores.stores.get("board").bulkDelete([{ key: "a" }, { key: "c" }]));
  await bob.becomes(content, { b: "Grüße" }, "board");
  const [cem] = await world.people(meeting, ["group_call_participant"]);
  await cem.do((m) => m.stores.create("board").then(() => undefined));
  assert.deepEqual(await cem.do(content, "board"), { b: "Grüße" });
  await cem.do((m) => m.stores.create("another").then(() => undefined));
  assert.deepEqual(await cem.do(content, "another"), {});
  await ada.do((m) => m.stores.stores.get("board").set("d", false));
  await cem.becomes(content, { b: "Grüße", d: false }, "board");
});

scenario("a plugin that one person opens is open for all, and for late joiners", { sees: [131081, 131082, 65535] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const plugins = [{ id: "whiteboard", name: "Whiteboard", icon: "", permissions: { canActivate: true, canDeactivate: true } }];
  const init = { defaults: { audio: false, video: false, plugins } };
  const [ada, bob] = await world.people(meeting, CALL, { init });
  const active = (m) => m.plugins.active.toArray().map((one) => [one.name, one.enabledBy]);
  await ada.do((m) => m.plugins.all.toArray()[0].activate());
  await bob.becomes(active, [["Whiteboard", await ada.peerId]]);
  const [cem] = await world.people(meeting, ["group_call_participant"], { init });
  await cem.becomes(active, [["Whiteboard", await ada.peerId]]);
  // The client's own list says that Bob may close it; his preset says no.
  await bob.do((m) => m.plugins.all.toArray()[0].deactivate());
  await bob.refusal(/./);
  await ada.stays((m) => m.plugins.active.size, 1, 300);
  await ada.do((m) => m.plugins.all.toArray()[0].deactivate());
  await cem.becomes(active, []);
});

/** The broadcasts of a type that somebody got. */
const got = async (person, type) => (await person.events("participants", "broadcastedMessage")).filter(([message]) => message.type === type).map(([message]) => message.payload);

/** Waits until everybody has exactly these broadcasts of a type. */
async function all(type, expected) {
  for (const [person, payloads] of expected) {
    if (payloads.length) await person.event("participants", "broadcastedMessage", (message) => message.type === type);
    assert.deepEqual(await got(person, type), payloads, `${person.name} got another ${type}`);
  }
}

scenario("a broadcast reaches everybody once, or those it is for", { sees: [29, 39] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada, bob, cem] = await world.people(meeting, [...CALL, "group_call_guest"]);
  for (const one of [ada, bob, cem]) await one.until((m) => names(m).length === 2);
  const hand = { hand: "up", count: 2 };
  await bob.do((m, payload) => m.participants.broadcastMessage("hand", payload), hand);
  await all("hand", [[cem, [hand]], [ada, [hand]], [bob, [hand]]]);
  await ada.do((m, id) => m.participants.broadcastMessage("whisper", { a: 1 }, { participantIds: [id] }), await bob.peerId);
  await all("whisper", [[bob, [{ a: 1 }]], [cem, []]]);
  await ada.do((m) => m.participants.broadcastMessage("guests", { b: "two" }, { presetNames: ["group_call_guest"] }));
  await all("guests", [[cem, [{ b: "two" }]], [bob, []]]);
  assert.deepEqual([await got(bob, "hand"), await got(ada, "hand")], [[hand], [hand]]);
  const [[{ timestamp }]] = await cem.events("participants", "broadcastedMessage");
  assert(Math.abs(timestamp - Date.now()) < 60_000);
});

scenario("a flood of broadcasts and of changes to stores is stopped by the server", { sees: [29, 131081, 65535], allows: [{ text: /MaxListenersExceededWarning/, reason: "the SDK listens for the reply to each of many requests" }] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada, bob] = await world.people(meeting, CALL);
  for (const one of [ada, bob]) await one.do((m) => m.stores.create("board").then(() => undefined));
  await ada.do((m) => {
    m.participants.updateRateLimits(1000, 1);
    m.stores.stores.get("board").updateRateLimits(1000, 1);
    for (let index = 0; index < 40; index += 1) {
      m.participants.broadcastMessage("flood", { index }).catch(() => {});
      m.stores.stores.get("board").set(`key ${index}`, index);
    }
  });
  await ada.refusal(/./);
  await bob.event("participants", "broadcastedMessage", ({ type }) => type === "flood");
  await bob.stays(() => true, true, 1500);
  const arrived = (await got(bob, "flood")).length;
  assert(arrived >= 5 && arrived <= 20, `${arrived} of 40 broadcasts arrived`);
  const stored = await bob.do((m) => Object.keys(m.stores.stores.get("board").getAll()).length);
  assert(stored >= 5 && stored <= 20, `${stored} of 40 changes arrived`);
  assert.deepEqual([await ada.roomState, await bob.roomState], ["joined", "joined"]);
});
