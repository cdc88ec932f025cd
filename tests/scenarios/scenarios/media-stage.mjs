// Media on the stage, off it, and in front of the door.

import assert from "node:assert/strict";
import { ON, hears, meet, producers, receivesNothing, sees, seesNothing, mediaScenario as scenario } from "../media.mjs";

const isOn = (m, name) => [named(m, name).audioEnabled, named(m, name).videoEnabled];
const turnOn = (m) => m.self.enableAudio().then(() => m.self.enableVideo());

scenario("a viewer sees the stage, is let on it, is seen, and is not after leaving it", { sees: [18, 19, 50331650, 50331675, 50331676, 50331708] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada, bob, cem] = await world.people(meeting, ["webinar_presenter", "webinar_viewer", "webinar_viewer"]);
  await ada.do((m) => m.stage.join());
  await ada.do(turnOn);
  await Promise.all([bob, cem].flatMap((one) => [sees(one, "Ada"), hears(one, "Ada")]));

  // Off the stage nobody sends, by the SDK or by force.
  await bob.do(turnOn).catch(() => {});
  for (const kind of ["audio", "video"]) assert.match((await bob.do((m, what) => window.media.tryToSend(what), kind)).refusal, /can_produce/);
  await ada.stays((m) => named(m, "Bob").producers.length, 0, 500);

  await ada.do((m, id) => m.stage.grantAccess([id]), bob.userId);
  await bob.becomes((m) => m.stage.status, "ACCEPTED_TO_JOIN_STAGE");
  await bob.do((m) => m.stage.join());
  await bob.do(turnOn);
  await Promise.all([ada, cem].flatMap((one) => [sees(one, "Bob"), hears(one, "Bob")]));
  await bob.do((m) => m.stage.leave());
  for (const one of [ada, cem]) await one.becomes(isOn, [false, false], "Bob");
  await seesNothing(cem, "Bob");
  await sees(bob, "Ada");
});

scenario("whoever is taken off the stage is not seen any more, and may be invited again", { sees: [19, 50331676] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada, bob, cem] = await world.people(meeting, ["webinar_presenter", "webinar_viewer", "webinar_viewer"]);
  await ada.do((m) => m.stage.join());
  for (let round = 0; round < 2; round += 1) {
    await ada.do((m, id) => m.stage.grantAccess([id]), bob.userId);
    await bob.becomes((m) => m.stage.status, "ACCEPTED_TO_JOIN_STAGE");
    await bob.do((m) => m.stage.join());
    await bob.do(turnOn);
    await Promise.all([ada, cem].map((one) => sees(one, "Bob")));
    await ada.do((m, id) => m.stage.kick([id]), bob.userId);
    await bob.becomes((m) => m.stage.status, "OFF_STAGE");
    for (const one of [ada, cem]) await one.becomes(isOn, [false, false], "Bob");
    await receivesNothing(cem);
  }
});

scenario("whoever waits in front of the door receives and sends nothing, and does once inside", { sees: [33, 34, 50331675, 50331708] }, async (world) => {
  const waiter = await world.parlor.preset("group_call_participant", { permissions: { waiting_room_type: "SKIP_ON_ACCEPT" } });
  const meeting = await world.parlor.meeting();
  const [ada] = await world.people(meeting, ["group_call_host"], { init: ON });
  const [bob, cem] = await world.people(meeting, ["group_call_participant", waiter], { enter: false });
  await bob.enter(ON);
  await meet([ada, bob]);
  await cem.init(ON);
  const entering = cem.join();
  await ada.until((m) => m.participants.waitlisted.size === 1);
  const camera = await bob.do((m) => {
    const { id, producers: all } = named(m, "Ada");
    const { producerId, producingTransportId } = all.find((one) => one.kind === "video");
    return { peer: id, producer: producerId, transport: producingTransportId ?? "" };
  });
  assert.notEqual((await cem.do((m, wanted) => window.media.tryToReceive(wanted), camera)).refusal, "");
  assert.notEqual((await cem.do(() => window.media.tryToSend("audio"))).refusal, "");
  await receivesNothing(cem);
  await ada.becomes(producers, { Bob: ["audio", "video"] });
  await ada.do((m, id) => m.participants.acceptWaitingRoomRequest(id), await cem.peerId);
  await entering;
  await meet([ada, bob, cem]);
});

scenario("a livestream's host is on the stage and the audience in the page gets the count only", { sees: [17] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada] = await world.people(meeting, ["livestream_host"]);
  await ada.do((m) => m.stage.join());
  await ada.do(turnOn);
  const [bob] = await world.people(meeting, ["livestream_viewer"]);
  await bob.until((m) => named(m, "Ada")?.stageStatus === "ON_STAGE");
  await receivesNothing(bob);
});
