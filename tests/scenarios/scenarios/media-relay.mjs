// Media on networks that block UDP.

import assert from "node:assert/strict";
import { CALL_PRESETS, MEDIA_ON, expectMutualMedia, mediaScenario as scenario } from "../media.mjs";

const protocols = () => window.media.candidatePairs().then((all) => all.map(({ protocol }) => protocol));
/** The relay protocol, the ICE transport policy and the number of ICE servers of each connection. */
const relays = () => window.media.candidatePairs().then((all) => all.map(({ relay, policy, servers }) => [relay, policy, servers.length]));

scenario("on an open network, media is sent directly over UDP", { events: [50331649] }, async (context) => {
  const participants = await context.addParticipants(await context.server.createMeeting(), [...CALL_PRESETS, CALL_PRESETS[1]], { init: MEDIA_ON });
  await expectMutualMedia(participants);
  for (const one of participants) {
    const all = await one.evaluate(() => window.media.candidatePairs());
    assert.deepEqual(all.map(({ protocol, relay }) => `${protocol} ${relay ?? "direct"}`), ["udp direct", "udp direct"], one.name);
    assert(all[0].servers.some((url) => url.startsWith("turns:")), "the browser has no relay as an alternative");
  }
});

scenario("where UDP is blocked, media is sent over TCP", { events: [50331649] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada] = await context.addParticipants(meeting, [CALL_PRESETS[0]], { init: MEDIA_ON });
  const [bob] = await context.addParticipants(meeting, [CALL_PRESETS[1]], { enter: false, mediaProxy: true });
  bob.mediaProxy.cut();
  await bob.page.evaluate(() => window.media.restrictIceServers([]));
  await bob.enter(MEDIA_ON);
  await expectMutualMedia([ada, bob]);
  assert.deepEqual(await bob.evaluate(protocols), ["tcp", "tcp"]);
  assert.deepEqual(await ada.evaluate(protocols), ["udp", "udp"]);
});

for (const [transport, urls] of [["TCP", "^turn:.*transport=tcp"], ["TLS", "^turns:"]]) {
  scenario(`where only a relay over ${transport} is reachable, media is sent through it`, { events: [50331649] }, async (context) => {
    const meeting = await context.server.createMeeting();
    const [ada] = await context.addParticipants(meeting, [CALL_PRESETS[0]], { init: MEDIA_ON });
    const [bob] = await context.addParticipants(meeting, [CALL_PRESETS[1]], { enter: false });
    await bob.page.evaluate((pattern) => window.media.restrictIceServers([pattern]), urls);
    await bob.enter({ ...MEDIA_ON, overrides: { forceRelay: true } });
    await expectMutualMedia([ada, bob]);
    const expected = [transport.toLowerCase(), "relay", 1];
    assert.deepEqual(await bob.evaluate(relays), [expected, expected]);
  });
}
