// Media after a restart of the server, and after the grace period of a participant has ended.

import { CONNECTION_LOST } from "../console.mjs";
import { CALL_PRESETS, MEDIA_ON, expectMutualMedia, producers, mediaScenario as scenario } from "../media.mjs";
import { GRACE_SECONDS } from "../server.mjs";

const BOTH = ["audio", "video"];
const SDK_CLOSE_ERROR = { text: /AwaitQueueStoppedError|InvalidStateError: closed/, reason: "the SDK does not handle errors of operations that are pending when it closes" };
const names = (m) => m.participants.joined.toArray().map(({ name }) => name);

/** Waits until each has the other's producers once, and sees and hears the other. */
async function expectRestored(ada, bob) {
  await ada.eventually(producers, { Bob: BOTH }, undefined, 40_000);
  await bob.eventually(producers, { Ada: BOTH }, undefined, 40_000);
  await expectMutualMedia([ada, bob]);
}

scenario("a participant who reconnects after the grace period is seen and heard again, without duplicates", { events: [3, 4, 50331649], isExclusive: true, timeoutSeconds: 150, allowedMessages: [CONNECTION_LOST, SDK_CLOSE_ERROR] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada] = await context.addParticipants(meeting, [CALL_PRESETS[0]], { init: MEDIA_ON });
  const [bob] = await context.addParticipants(meeting, [CALL_PRESETS[1]], { init: MEDIA_ON, socketProxy: true });
  await expectMutualMedia([ada, bob]);
  bob.socketProxy.cut();
  await ada.eventually(names, [], undefined, (GRACE_SECONDS + 10) * 1000);
  bob.socketProxy.restore();
  await bob.waitForEvent("self", "roomJoined", ({ reconnected }) => reconnected, 30_000);
  await expectRestored(ada, bob);
});

scenario("after the server is killed and restarted, all participants are seen and heard again, without duplicates", {
  events: [3, 50331649], isExclusive: true, timeoutSeconds: 180, allowedMessages: [CONNECTION_LOST, SDK_CLOSE_ERROR],
}, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada, bob] = await context.addParticipants(meeting, CALL_PRESETS, { init: MEDIA_ON });
  await expectMutualMedia([ada, bob]);
  for (const one of [ada, bob]) await one.clearEvents();
  await context.server.kill("SIGKILL");
  for (const one of [ada, bob]) await one.waitForEvent("self", "roomLeft", ({ state }) => state === "disconnected", 20_000);
  await context.server.launch();
  for (const one of [ada, bob]) await one.waitForEvent("self", "roomJoined", ({ reconnected }) => reconnected, 60_000);
  await expectRestored(ada, bob);
});
