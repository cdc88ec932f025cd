// Media over lines that break: the socket's, that of media, and both. Those that are only bad: media-weather.mjs.

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { BROKEN } from "../console.mjs";
import { CALL, ON, devices, hears, meet, producers, sees, mediaScenario as scenario } from "../media.mjs";

const BOTH = ["audio", "video"];
const RESET = { text: /AwaitQueueStoppedError|InvalidStateError: closed/, reason: "the SDK does not handle that what it closes had something in hand" };
const connections = () => window.media.connections.length;
const connectionsGrow = (_, count) => window.media.connections.length > count;

scenario("while the socket is cut media flows on, and afterwards nothing is there twice", { sees: [3, 50331677, 50331675], allows: [BROKEN] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada] = await world.people(meeting, [CALL[0]], { init: ON });
  const [bob] = await world.people(meeting, [CALL[1]], { init: ON, cable: true });
  await meet([ada, bob]);
  for (let round = 0; round < 2; round += 1) {
    await bob.mark();
    bob.cable.pull();
    await bob.event("self", "roomLeft", ({ state }) => state === "disconnected");
    await Promise.all([sees(bob, "Ada"), sees(ada, "Bob"), hears(ada, "Bob"), hears(bob, "Ada")]);
    bob.cable.plug();
    await bob.event("self", "roomJoined", ({ reconnected }) => reconnected, 20_000);
    await ada.becomes(producers, { Bob: BOTH });
    await bob.becomes(producers, { Ada: BOTH });
    await meet([ada, bob]);
  }
  // The connections of media are those of the beginning.
  assert.equal(await bob.do(connections), 2);
});

scenario("when the line of media is dead for a while, it is made anew, and nothing is there twice", { sees: [50331649, 50331677, 50331675], long: true, seconds: 150, allows: [RESET] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada] = await world.people(meeting, [CALL[0]], { init: ON });
  const [bob] = await world.people(meeting, [CALL[1]], { enter: false, mediaCable: true });
  await bob.page.evaluate(() => window.media.useServers([], false));
  await bob.enter(ON);
  await meet([ada, bob]);
  assert(bob.mediaCable.carried > 100, "the media does not take the cable");
  bob.mediaCable.pull();
  await bob.until(connectionsGrow, 2, 30_000);
  await sleep(2000);
  bob.mediaCable.plug();
  await ada.becomes(producers, { Bob: BOTH }, undefined, 40_000);
  await meet([ada, bob]);
  assert.equal(await bob.roomState, "joined");
});

scenario("when UDP stops getting through, media goes on over TCP", { sees: [50331650], long: true, seconds: 120, allows: [RESET] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada] = await world.people(meeting, [CALL[0]], { init: ON });
  const [bob] = await world.people(meeting, [CALL[1]], { enter: false, mediaCable: true });
  await bob.page.evaluate(() => window.media.useServers([]));
  await bob.enter(ON);
  await meet([ada, bob]);
  bob.mediaCable.pull();
  const protocols = () => window.media.ways().then((all) => all.map(({ protocol }) => protocol));
  await bob.becomes(protocols, ["tcp", "tcp"], undefined, 30_000);
  await ada.becomes(producers, { Bob: BOTH });
  await meet([ada, bob]);
});

scenario("somebody who loses the line of the socket with the microphone off is still muted, and still heard later", { sees: [3, 50331652], allows: [BROKEN] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada] = await world.people(meeting, [CALL[0]]);
  const [bob] = await world.people(meeting, [CALL[1]], { init: devices({ audio: true }), cable: true });
  await hears(ada, "Bob");
  await bob.do((m) => m.self.disableAudio());
  await ada.becomes((m) => named(m, "Bob").audioEnabled, false);
  bob.cable.pull();
  await bob.event("self", "roomLeft", ({ state }) => state === "disconnected");
  bob.cable.plug();
  await bob.event("self", "roomJoined", ({ reconnected }) => reconnected, 20_000);
  await ada.becomes((m) => named(m, "Bob").audioEnabled, false);
  await bob.do((m) => m.self.enableAudio());
  await ada.becomes((m) => named(m, "Bob").audioEnabled, true);
  await hears(ada, "Bob");
});
