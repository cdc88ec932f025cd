// Media after the server was away, or after it has given up somebody who was away.

import { BROKEN } from "../console.mjs";
import { CALL, ON, meet, producers, mediaScenario as scenario } from "../media.mjs";
import { GRACE_SECONDS } from "../parlor.mjs";

const BOTH = ["audio", "video"];
const RESET = { text: /AwaitQueueStoppedError|InvalidStateError: closed/, reason: "the SDK does not handle that what it closes had something in hand" };
const names = (m) => m.participants.joined.toArray().map(({ name }) => name);

/** Each is there for the other once, and is seen and heard. */
async function restored(ada, bob) {
  await ada.becomes(producers, { Bob: BOTH }, undefined, 40_000);
  await bob.becomes(producers, { Ada: BOTH }, undefined, 40_000);
  await meet([ada, bob]);
}

scenario("whoever comes back after the grace period is seen and heard again, once", { sees: [3, 4, 50331649], alone: true, seconds: 150, allows: [BROKEN, RESET] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada] = await world.people(meeting, [CALL[0]], { init: ON });
  const [bob] = await world.people(meeting, [CALL[1]], { init: ON, cable: true });
  await meet([ada, bob]);
  bob.cable.pull();
  await ada.becomes(names, [], undefined, (GRACE_SECONDS + 10) * 1000);
  bob.cable.plug();
  await bob.event("self", "roomJoined", ({ reconnected }) => reconnected, 30_000);
  await restored(ada, bob);
});

scenario("the server is killed and started again: everybody is seen and heard again, once", {
  sees: [3, 50331649], alone: true, seconds: 180, allows: [BROKEN, RESET],
}, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada, bob] = await world.people(meeting, CALL, { init: ON });
  await meet([ada, bob]);
  for (const one of [ada, bob]) await one.mark();
  await world.parlor.end("SIGKILL");
  for (const one of [ada, bob]) await one.event("self", "roomLeft", ({ state }) => state === "disconnected", 20_000);
  await world.parlor.run();
  for (const one of [ada, bob]) await one.event("self", "roomJoined", ({ reconnected }) => reconnected, 60_000);
  await restored(ada, bob);
});
