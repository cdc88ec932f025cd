// Media on the stage, off the stage, and in the waiting room.

import assert from "node:assert/strict";
import { MEDIA_ON, expectAudio, expectMutualMedia, expectNoMedia, expectNoVideo, expectVideo, producers, mediaScenario as scenario } from "../media.mjs";

const isOn = (m, name) => [byName(m, name).audioEnabled, byName(m, name).videoEnabled];
const turnOn = (m) => m.self.enableAudio().then(() => m.self.enableVideo());

scenario("a viewer sees the stage, joins it and is seen, and is not seen after leaving it", { events: [18, 19, 50331650, 50331675, 50331676, 50331708] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada, bob, cem] = await context.addParticipants(meeting, ["webinar_presenter", "webinar_viewer", "webinar_viewer"]);
  await ada.evaluate((m) => m.stage.join());
  await ada.evaluate(turnOn);
  await Promise.all([bob, cem].flatMap((one) => [expectVideo(one, "Ada"), expectAudio(one, "Ada")]));

  // Off the stage, media can be sent neither with the SDK nor by bypassing it.
  await bob.evaluate(turnOn).catch(() => {});
  for (const kind of ["audio", "video"]) assert.match((await bob.evaluate((m, arg) => window.media.requestProduce(arg), kind)).error, /can_produce/);
  await ada.consistently((m) => byName(m, "Bob").producers.length, 0, 500);

  await ada.evaluate((m, id) => m.stage.grantAccess([id]), bob.userId);
  await bob.eventually((m) => m.stage.status, "ACCEPTED_TO_JOIN_STAGE");
  await bob.evaluate((m) => m.stage.join());
  await bob.evaluate(turnOn);
  await Promise.all([ada, cem].flatMap((one) => [expectVideo(one, "Bob"), expectAudio(one, "Bob")]));
  await bob.evaluate((m) => m.stage.leave());
  for (const one of [ada, cem]) await one.eventually(isOn, [false, false], "Bob");
  await expectNoVideo(cem, "Bob");
  await expectVideo(bob, "Ada");
});

scenario("a participant who is removed from the stage is no longer seen, and can be invited again", { events: [19, 50331676] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada, bob, cem] = await context.addParticipants(meeting, ["webinar_presenter", "webinar_viewer", "webinar_viewer"]);
  await ada.evaluate((m) => m.stage.join());
  for (let round = 0; round < 2; round += 1) {
    await ada.evaluate((m, id) => m.stage.grantAccess([id]), bob.userId);
    await bob.eventually((m) => m.stage.status, "ACCEPTED_TO_JOIN_STAGE");
    await bob.evaluate((m) => m.stage.join());
    await bob.evaluate(turnOn);
    await Promise.all([ada, cem].map((one) => expectVideo(one, "Bob")));
    await ada.evaluate((m, id) => m.stage.kick([id]), bob.userId);
    await bob.eventually((m) => m.stage.status, "OFF_STAGE");
    for (const one of [ada, cem]) await one.eventually(isOn, [false, false], "Bob");
    await expectNoMedia(cem);
  }
});

scenario("a participant in the waiting room neither sends nor receives media until admitted", { events: [33, 34, 50331675, 50331708] }, async (context) => {
  const waitingPreset = await context.server.createPreset("group_call_participant", { permissions: { waiting_room_type: "SKIP_ON_ACCEPT" } });
  const meeting = await context.server.createMeeting();
  const [ada] = await context.addParticipants(meeting, ["group_call_host"], { init: MEDIA_ON });
  const [bob, cem] = await context.addParticipants(meeting, ["group_call_participant", waitingPreset], { enter: false });
  await bob.enter(MEDIA_ON);
  await expectMutualMedia([ada, bob]);
  await cem.init(MEDIA_ON);
  const joined = cem.join();
  await ada.waitFor((m) => m.participants.waitlisted.size === 1);
  const camera = await bob.evaluate((m) => {
    const { id, producers: all } = byName(m, "Ada");
    const { producerId, producingTransportId } = all.find((one) => one.kind === "video");
    return { peer: id, producer: producerId, transport: producingTransportId ?? "" };
  });
  assert.notEqual((await cem.evaluate((m, arg) => window.media.requestConsume(arg), camera)).error, "");
  assert.notEqual((await cem.evaluate(() => window.media.requestProduce("audio"))).error, "");
  await expectNoMedia(cem);
  await ada.eventually(producers, { Bob: ["audio", "video"] });
  await ada.evaluate((m, id) => m.participants.acceptWaitingRoomRequest(id), await cem.peerId);
  await joined;
  await expectMutualMedia([ada, bob, cem]);
});

scenario("a livestream's viewer receives the viewer count but no media", { events: [17] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada] = await context.addParticipants(meeting, ["livestream_host"]);
  await ada.evaluate((m) => m.stage.join());
  await ada.evaluate(turnOn);
  const [bob] = await context.addParticipants(meeting, ["livestream_viewer"]);
  await bob.waitFor((m) => byName(m, "Ada")?.stageStatus === "ON_STAGE");
  await expectNoMedia(bob);
});
