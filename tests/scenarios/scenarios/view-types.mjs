// The features that do not depend on the view type, in each view type.

import assert from "node:assert/strict";
import { scenario } from "../suite.mjs";
import { KICK_TIMEOUT } from "./moderation.mjs";

const VIEWS = [
  ["call", "group_call_host", "group_call_participant"],
  ["webinar", "webinar_presenter", "webinar_viewer"],
  ["livestream", "livestream_host", "livestream_viewer"],
];

for (const [view, host, viewer] of VIEWS) {
  scenario(`a ${view}: chat, a poll, a store, a broadcast, changed permissions, a kick and the end`, {
    events: [3, 4, 29, 30, 31, 65537, 131081, 196608, 196610, 327680, 327681], allowedMessages: [KICK_TIMEOUT],
  }, async (context) => {
    const meeting = await context.server.createMeeting();
    const [ada] = await context.addParticipants(meeting, [host]);
    if (view !== "call") await ada.evaluate((m) => m.stage.join());
    const [bob, cem] = await context.addParticipants(meeting, [viewer, viewer]);
    for (const one of [bob, cem]) await one.waitFor((m) => names(m).includes("Ada"));

    await ada.evaluate((m) => m.chat.sendTextMessage("welcome"));
    for (const one of [bob, cem]) await one.eventually((m) => texts(m), ["welcome"]);
    await bob.evaluate((m) => m.chat.sendTextMessage("thanks"));
    for (const one of [ada, bob, cem]) await one.eventually((m) => texts(m), ["welcome", "thanks"]);
    await ada.evaluate((m) => m.chat.pin(m.chat.messages[0].id));
    await cem.waitForEvent("chat", "pinMessage");

    await ada.evaluate((m) => m.polls.create("Louder?", ["yes", "no"]));
    await bob.waitFor((m) => m.polls.items.length === 1);
    await bob.evaluate((m) => m.polls.vote(m.polls.items[0].id, 0));
    for (const one of [ada, bob, cem]) await one.eventually((m) => m.polls.items.map((poll) => poll.options[0].count), [1]);

    for (const one of [ada, cem]) await one.evaluate((m) => m.stores.create("slides").then(() => undefined));
    await ada.evaluate((m) => m.stores.stores.get("slides").set("page", 3));
    await cem.eventually((m) => m.stores.stores.get("slides").get("page"), 3);

    await ada.evaluate((m) => m.participants.broadcastMessage("applause", { loud: true }));
    for (const one of [ada, bob, cem]) await one.waitForEvent("participants", "broadcastedMessage", ({ type, payload }) => type === "applause" && payload.loud);

    await ada.waitFor((m) => byName(m, "Bob"));
    await ada.evaluate((m) => m.participants.updatePermissions([byName(m, "Bob").id], { polls: { canVote: false } }));
    await bob.eventually((m) => m.self.permissions.polls.canVote, false);
    assert.equal((await ada.evaluate((m) => byName(m, "Bob").getPermissions())).polls.can_vote, false);

    await ada.evaluate((m) => byName(m, "Bob").kick());
    await bob.waitForEvent("self", "roomLeft", ({ state }) => state === "kicked");
    await ada.eventually((m) => names(m), ["Cem"]);
    await ada.evaluate((m) => m.participants.kickAll());
    for (const one of [ada, cem]) await one.waitForEvent("self", "roomLeft", ({ state }) => state === "ended");
  });
}
