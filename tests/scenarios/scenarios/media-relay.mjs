// Media over networks that do not let UDP through.

import assert from "node:assert/strict";
import { CALL, ON, meet, mediaScenario as scenario } from "../media.mjs";

const ways = () => window.media.ways().then((all) => all.map(({ protocol }) => protocol));
/** By which protocol, and by what the browser was told to use. */
const relays = () => window.media.ways().then((all) => all.map(({ relay, policy, servers }) => [relay, policy, servers.length]));

scenario("where everything gets through, media goes directly over UDP", { sees: [50331649] }, async (world) => {
  const people = await world.people(await world.parlor.meeting(), [...CALL, CALL[1]], { init: ON });
  await meet(people);
  for (const one of people) {
    const all = await one.do(() => window.media.ways());
    assert.deepEqual(all.map(({ protocol, relay }) => `${protocol} ${relay ?? "directly"}`), ["udp directly", "udp directly"], one.name);
    assert(all[0].servers.some((url) => url.startsWith("turns:")), "there is no relay to choose instead");
  }
});

scenario("where UDP does not get through, media goes over TCP", { sees: [50331649] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada] = await world.people(meeting, [CALL[0]], { init: ON });
  const [bob] = await world.people(meeting, [CALL[1]], { enter: false, mediaCable: true });
  bob.mediaCable.pull();
  await bob.page.evaluate(() => window.media.useServers([]));
  await bob.enter(ON);
  await meet([ada, bob]);
  assert.deepEqual(await bob.do(ways), ["tcp", "tcp"]);
  assert.deepEqual(await ada.do(ways), ["udp", "udp"]);
});

for (const [how, urls] of [["TCP", "^turn:.*transport=tcp"], ["TLS", "^turns:"]]) {
  scenario(`where only a relay over ${how} gets through, media goes over it`, { sees: [50331649] }, async (world) => {
    const meeting = await world.parlor.meeting();
    const [ada] = await world.people(meeting, [CALL[0]], { init: ON });
    const [bob] = await world.people(meeting, [CALL[1]], { enter: false });
    await bob.page.evaluate((pattern) => window.media.useServers([pattern]), urls);
    await bob.enter({ ...ON, overrides: { forceRelay: true } });
    await meet([ada, bob]);
    const expected = [how.toLowerCase(), "relay", 1];
    assert.deepEqual(await bob.do(relays), [expected, expected]);
  });
}
