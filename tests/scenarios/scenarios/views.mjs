// The same evening in every kind of meeting: what does not depend on the view works in all of them.

import assert from "node:assert/strict";
import { scenario } from "../suite.mjs";
import { KICK } from "./moderation.mjs";

const VIEWS = [
  ["call", "group_call_host", "group_call_participant"],
  ["webinar", "webinar_presenter", "webinar_viewer"],
  ["livestream", "livestream_host", "livestream_viewer"],
];

for (const [view, host, viewer] of VIEWS) {
  scenario(`an evening in a ${view}: talk, a poll, a store, a broadcast, a kick and the end`, {
    sees: [3, 4, 29, 30, 31, 65537, 131081, 196608, 196610, 327680, 327681], allows: [KICK],
  }, async (world) => {
    const meeting = await world.parlor.meeting();
    const [ada] = await world.people(meeting, [host]);
    if (view !== "call") await ada.do((m) => m.stage.join());
    const [bob, cem] = await world.people(meeting, [viewer, viewer]);
    for (const one of [bob, cem]) await one.until((m) => names(m).includes("Ada"));

    await ada.do((m) => m.chat.sendTextMessage("welcome"));
    for (const one of [bob, cem]) await one.becomes((m) => texts(m), ["welcome"]);
    await bob.do((m) => m.chat.sendTextMessage("thanks"));
    for (const one of [ada, bob, cem]) await one.becomes((m) => texts(m), ["welcome", "thanks"]);
    await ada.do((m) => m.chat.pin(m.chat.messages[0].id));
    await cem.event("chat", "pinMessage");

    await ada.do((m) => m.polls.create("Louder?", ["yes", "no"]));
    await bob.until((m) => m.polls.items.length === 1);
    await bob.do((m) => m.polls.vote(m.polls.items[0].id, 0));
    for (const one of [ada, bob, cem]) await one.becomes((m) => m.polls.items.map((poll) => poll.options[0].count), [1]);

    for (const one of [ada, cem]) await one.do((m) => m.stores.create("slides").then(() => undefined));
    await ada.do((m) => m.stores.stores.get("slides").set("page", 3));
    await cem.becomes((m) => m.stores.stores.get("slides").get("page"), 3);

    await ada.do((m) => m.participants.broadcastMessage("applause", { loud: true }));
    for (const one of [ada, bob, cem]) await one.event("participants", "broadcastedMessage", ({ type, payload }) => type === "applause" && payload.loud);

    await ada.until((m) => named(m, "Bob"));
    await ada.do((m) => m.participants.updatePermissions([named(m, "Bob").id], { polls: { canVote: false } }));
    await bob.becomes((m) => m.self.permissions.polls.canVote, false);
    assert.equal((await ada.do((m) => named(m, "Bob").getPermissions())).polls.can_vote, false);

    await ada.do((m) => named(m, "Bob").kick());
    await bob.event("self", "roomLeft", ({ state }) => state === "kicked");
    await ada.becomes((m) => names(m), ["Cem"]);
    await ada.do((m) => m.participants.kickAll());
    for (const one of [ada, cem]) await one.event("self", "roomLeft", ({ state }) => state === "ended");
  });
}
