// Media when the socket, the media path, or both are interrupted. For impaired networks, see media-impairment.mjs.

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { CONNECTION_LOST } from "../console.mjs";
import { CALL_PRESETS, MEDIA_ON, expectAudio, expectMutualMedia, expectVideo, mediaOptions, producers, mediaScenario as scenario } from "../media.mjs";

const BOTH = ["audio", "video"];
const SDK_CLOSE_ERROR = { text: /AwaitQueueStoppedError|InvalidStateError: closed/, reason: "the SDK does not handle errors of operations that are pending when it closes" };
const connections = () => window.media.connections.length;
const connectionsGrow = (_, count) => window.media.connections.length > count;

scenario("media continues while the socket is disconnected, and no producer is duplicated afterwards", { events: [3, 50331677, 50331675], allowedMessages: [CONNECTION_LOST] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada] = await context.addParticipants(meeting, [CALL_PRESETS[0]], { init: MEDIA_ON });
  const [bob] = await context.addParticipants(meeting, [CALL_PRESETS[1]], { init: MEDIA_ON, socketProxy: true });
  await expectMutualMedia([ada, bob]);
  for (let round = 0; round < 2; round += 1) {
    await bob.clearEvents();
    bob.socketProxy.cut();
    await bob.waitForEvent("self", "roomLeft", ({ state }) => state === "disconnected");
    await Promise.all([expectVideo(bob, "Ada"), expectVideo(ada, "Bob"), expectAudio(ada, "Bob"), expectAudio(bob, "Ada")]);
    bob.socketProxy.restore();
    await bob.waitForEvent("self", "roomJoined", ({ reconnected }) => reconnected, 20_000);
    await ada.eventually(producers, { Bob: BOTH });
    await bob.eventually(producers, { Ada: BOTH });
    await expectMutualMedia([ada, bob]);
  }
  // The media connections are still the original ones.
  assert.equal(await bob.evaluate(connections), 2);
});

scenario("after an outage of the media path the connection is replaced, and no producer is duplicated", { events: [50331649, 50331677, 50331675], isLong: true, timeoutSeconds: 150, allowedMessages: [SDK_CLOSE_ERROR] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada] = await context.addParticipants(meeting, [CALL_PRESETS[0]], { init: MEDIA_ON });
  const [bob] = await context.addParticipants(meeting, [CALL_PRESETS[1]], { enter: false, mediaProxy: true });
  await bob.page.evaluate(() => window.media.restrictIceServers([], false));
  await bob.enter(MEDIA_ON);
  await expectMutualMedia([ada, bob]);
  assert(bob.mediaProxy.delivered > 100, "media does not use the proxy");
  bob.mediaProxy.cut();
  await bob.waitFor(connectionsGrow, 2, 30_000);
  await sleep(2000);
  bob.mediaProxy.restore();
  await ada.eventually(producers, { Bob: BOTH }, undefined, 40_000);
  await expectMutualMedia([ada, bob]);
  assert.equal(await bob.roomState, "joined");
});

scenario("when UDP is blocked during a call, media continues over TCP", { events: [50331650], isLong: true, timeoutSeconds: 120, allowedMessages: [SDK_CLOSE_ERROR] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada] = await context.addParticipants(meeting, [CALL_PRESETS[0]], { init: MEDIA_ON });
  const [bob] = await context.addParticipants(meeting, [CALL_PRESETS[1]], { enter: false, mediaProxy: true });
  await bob.page.evaluate(() => window.media.restrictIceServers([]));
  await bob.enter(MEDIA_ON);
  await expectMutualMedia([ada, bob]);
  bob.mediaProxy.cut();
  const protocols = () => window.media.candidatePairs().then((all) => all.map(({ protocol }) => protocol));
  await bob.eventually(protocols, ["tcp", "tcp"], undefined, 30_000);
  await ada.eventually(producers, { Bob: BOTH });
  await expectMutualMedia([ada, bob]);
});

scenario("a participant who reconnects with a muted microphone is still muted, and is heard after unmuting", { events: [3, 50331652], allowedMessages: [CONNECTION_LOST] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada] = await context.addParticipants(meeting, [CALL_PRESETS[0]]);
  const [bob] = await context.addParticipants(meeting, [CALL_PRESETS[1]], { init: mediaOptions({ audio: true }), socketProxy: true });
  await expectAudio(ada, "Bob");
  await bob.evaluate((m) => m.self.disableAudio());
  await ada.eventually((m) => byName(m, "Bob").audioEnabled, false);
  bob.socketProxy.cut();
  await bob.waitForEvent("self", "roomLeft", ({ state }) => state === "disconnected");
  bob.socketProxy.restore();
  await bob.waitForEvent("self", "roomJoined", ({ reconnected }) => reconnected, 20_000);
  await ada.eventually((m) => byName(m, "Bob").audioEnabled, false);
  await bob.evaluate((m) => m.self.enableAudio());
  await ada.eventually((m) => byName(m, "Bob").audioEnabled, true);
  await expectAudio(ada, "Bob");
});
