// Host control of cameras and microphones, permissions to send and receive, and the selection of displayed participants.

import assert from "node:assert/strict";
import { CALL_PRESETS, MEDIA_ON, audioLevel, expectAudio, expectMutualMedia, expectNoMedia, expectNoVideo, expectSilence, expectVideo, mediaOptions, producers, mediaScenario as scenario } from "../media.mjs";
import { KICK_TIMEOUT } from "./moderation.mjs";

const isOn = (m, name) => [byName(m, name).audioEnabled, byName(m, name).videoEnabled];
const selfOn = (m) => [m.self.audioEnabled, m.self.videoEnabled];

scenario("a host turns off a participant's microphone and camera, and the participant turns them on again", { events: [50331741, 50331676, 50331652] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada, bob, cem] = await context.addParticipants(meeting, [...CALL_PRESETS, "group_call_participant"], { init: MEDIA_ON });
  await expectMutualMedia([ada, bob, cem]);
  await ada.evaluate((m) => byName(m, "Bob").disableAudio());
  await bob.eventually(selfOn, [false, true]);
  for (const one of [ada, cem]) await one.eventually(isOn, [false, true], "Bob");
  await Promise.all([ada, cem].map((one) => expectSilence(one, "Bob")));
  await ada.evaluate((m) => byName(m, "Bob").disableVideo());
  await bob.eventually(selfOn, [false, false]);
  for (const one of [ada, cem]) await one.eventually(isOn, [false, false], "Bob");
  await expectNoVideo(cem, "Bob");
  await bob.evaluate((m) => m.self.enableAudio().then(() => m.self.enableVideo()));
  for (const one of [ada, cem]) await one.eventually(isOn, [true, true], "Bob");
  await Promise.all([ada, cem].flatMap((one) => [expectVideo(one, "Bob"), expectAudio(one, "Bob")]));
});

scenario("a host turns off the microphones and cameras of all other participants", { events: [50331742, 50331676] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada, bob, cem] = await context.addParticipants(meeting, [...CALL_PRESETS, "group_call_participant"], { init: MEDIA_ON });
  await expectMutualMedia([ada, bob, cem]);
  await ada.evaluate((m) => m.participants.disableAllAudio(true));
  for (const one of [bob, cem]) await one.eventually(selfOn, [false, true]);
  await ada.evaluate((m) => m.participants.disableAllVideo());
  for (const one of [bob, cem]) await one.eventually(selfOn, [false, false]);
  assert.deepEqual(await ada.evaluate(selfOn), [true, true]);
  await bob.eventually(isOn, [false, false], "Cem");
  await expectNoMedia(ada);
  await Promise.all([expectVideo(bob, "Ada"), expectAudio(cem, "Ada")]);
});

scenario("the backend mutes all participants", { events: [50331676] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada, bob] = await context.addParticipants(meeting, CALL_PRESETS, { init: MEDIA_ON });
  await expectMutualMedia([ada, bob]);
  await context.server.api("POST", `/meetings/${meeting.id}/active-session/mute-all`, { allow_unmute: true });
  for (const one of [ada, bob]) await one.eventually(selfOn, [false, true]);
  await Promise.all([expectSilence(ada, "Bob"), expectSilence(bob, "Ada")]);
  await bob.evaluate((m) => m.self.enableAudio());
  await expectAudio(ada, "Bob");
});

scenario("a participant who loses the permission to produce stops sending, cannot bypass it, and resumes when it is granted again", { events: [327681, 50331676, 50331650, 50331708] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada, bob, cem] = await context.addParticipants(meeting, [...CALL_PRESETS, "group_call_participant"], { init: MEDIA_ON });
  await expectMutualMedia([ada, bob, cem]);
  const change = (m, canProduce) => m.participants.updatePermissions([byName(m, "Bob").id], { media: { audio: { canProduce }, video: { canProduce } } });
  await ada.evaluate(change, 2);
  await bob.eventually(selfOn, [false, false]);
  for (const one of [ada, cem]) await one.eventually(isOn, [false, false], "Bob");
  await expectNoVideo(cem, "Bob");
  // A client that ignores it: it unpauses its producers and keeps sending.
  const tracks = await cem.evaluate((m) => byName(m, "Bob").producers.map((one) => one.producerId));
  for (const track of tracks) await bob.evaluate((m, id) => void window.sendRequest(50331652, [[1, id], [2, false]]), track);
  await bob.evaluate(() => window.media.forceSending());
  for (const kind of ["audio", "video"]) {
    assert.match((await bob.evaluate((m, arg) => window.media.requestProduce(arg), kind)).error, /can_produce/);
  }
  await expectNoVideo(cem, "Bob");
  assert((await audioLevel(cem, "Bob")) < 0.001);
  for (const one of [ada, cem]) await one.consistently(isOn, [false, false], 300, "Bob");
  assert.deepEqual((await cem.evaluate(producers)).Bob, ["audio", "video"]);
  await expectVideo(bob, "Ada");
  await bob.evaluate(() => window.media.forceSending(false));

  await ada.evaluate(change, 1);
  await bob.eventually((m) => m.self.permissions.canProduceVideo, "ALLOWED");
  await bob.evaluate((m) => m.self.enableAudio().then(() => m.self.enableVideo()));
  for (const one of [ada, cem]) await one.eventually(isOn, [true, true], "Bob");
  await Promise.all([ada, cem].flatMap((one) => [expectVideo(one, "Bob"), expectAudio(one, "Bob")]));
});

scenario("a participant who is granted the permission to produce is seen and heard", { events: [327681, 50331650, 50331675] }, async (context) => {
  const receiveOnly = await context.server.createPreset("group_call_participant", {
    permissions: { media: { audio: { can_produce: "NOT_ALLOWED" }, video: { can_produce: "NOT_ALLOWED" } } },
  });
  const meeting = await context.server.createMeeting();
  const [ada, bob] = await context.addParticipants(meeting, [CALL_PRESETS[0], receiveOnly], { init: MEDIA_ON });
  await ada.eventually((m) => names(m), ["Bob"]);
  await bob.evaluate((m) => m.self.enableAudio());
  await ada.consistently(producers, { Bob: [] }, 500);
  await ada.evaluate((m) => m.participants.updatePermissions([byName(m, "Bob").id], { media: { audio: { canProduce: 1 }, video: { canProduce: 1 } } }));
  await bob.eventually((m) => m.self.permissions.canProduceVideo, "ALLOWED");
  await bob.evaluate((m) => m.self.enableAudio().then(() => m.self.enableVideo()));
  await expectMutualMedia([ada, bob]);
});

scenario("the server enforces the permission to produce against a client that bypasses the SDK", { events: [50331650, 50331708] }, async (context) => {
  const receiveOnly = await context.server.createPreset("group_call_participant", {
    permissions: { media: { audio: { can_produce: "NOT_ALLOWED" }, video: { can_produce: "NOT_ALLOWED" }, screenshare: { can_produce: "NOT_ALLOWED" } } },
  });
  const meeting = await context.server.createMeeting();
  const [ada, bob] = await context.addParticipants(meeting, [CALL_PRESETS[0], receiveOnly]);
  await ada.eventually((m) => names(m), ["Bob"]);
  for (const [kind, isScreen] of [["audio", false], ["video", false], ["video", true], ["audio", true]]) {
    const { error } = await bob.evaluate((m, args) => window.media.requestProduce(...args), [kind, isScreen]);
    assert.match(error, /can_produce/, `${kind} ${isScreen}`);
  }
  await ada.consistently(producers, { Bob: [] }, 500);
  // The same request from a permitted participant.
  const { error, value } = await ada.evaluate(() => window.media.requestProduce("audio"));
  assert.deepEqual([error, value?.length], ["", 36]);
  await bob.eventually(producers, { Ada: ["audio"] });
});

scenario("a producer cannot be consumed from another meeting", { events: [50331651] }, async (context) => {
  const [meeting, otherMeeting] = [await context.server.createMeeting(), await context.server.createMeeting()];
  const [ada, bob] = await context.addParticipants(meeting, CALL_PRESETS, { init: MEDIA_ON });
  const [cem] = await context.addParticipants(otherMeeting, ["group_call_host"]);
  await expectMutualMedia([ada, bob]);
  const track = (m, kind) => {
    const { id, producers: all } = byName(m, "Ada");
    const { producerId, producingTransportId } = all.find((one) => one.kind === kind);
    return { peer: id, producer: producerId, transport: producingTransportId ?? "" };
  };
  const camera = await bob.evaluate(track, "video");
  const { error, value } = await cem.evaluate((m, arg) => window.media.requestConsume(arg), camera);
  assert.match(error + value, /not_found_track_error/);
  await expectNoMedia(cem);
  // The same request from a permitted participant.
  const allowed = await bob.evaluate((m, arg) => window.media.requestConsume(arg), camera);
  assert.equal(allowed.error, "");
  assert.doesNotMatch(allowed.value, /error/);
});

scenario("the media of a kicked participant stops in both directions", { events: [30, 4], allowedMessages: [KICK_TIMEOUT] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada, bob, cem] = await context.addParticipants(meeting, [...CALL_PRESETS, "group_call_participant"], { init: MEDIA_ON });
  await expectMutualMedia([ada, bob, cem]);
  await ada.evaluate((m) => byName(m, "Bob").kick());
  await bob.waitForEvent("self", "roomLeft", ({ state }) => state === "kicked");
  await expectNoMedia(bob);
  await ada.eventually(producers, { Cem: ["audio", "video"] });
  await cem.eventually(producers, { Ada: ["audio", "video"] });
  await expectMutualMedia([ada, cem]);
  await bob.loadPage();
  await bob.enter(MEDIA_ON);
  await ada.eventually(producers, { Bob: ["audio", "video"], Cem: ["audio", "video"] });
  await expectMutualMedia([ada, bob, cem]);
});

/** A preset with a small video grid. */
const gridPreset = (context, base, desktop) => context.server.createPreset(base, { config: { max_video_streams: { desktop, mobile: desktop } } });
const SMALL_VIDEO = mediaOptions({ video: true, width: 160, height: 90, rate: 5 });
const displayed = (m) => m.participants.videoSubscribed.toArray().map((one) => one.name).sort();

scenario("a pinned participant is displayed for all, in a grid that is smaller than the meeting", { events: [50331667, 50331678, 50331651] }, async (context) => {
  const [host, viewer] = [await gridPreset(context, CALL_PRESETS[0], 2), await gridPreset(context, CALL_PRESETS[1], 2)];
  const meeting = await context.server.createMeeting();
  const participants = [];
  for (const preset of [host, viewer, viewer, viewer]) participants.push(...await context.addParticipants(meeting, [preset], { init: SMALL_VIDEO }));
  const [ada, bob, cem] = participants;
  await ada.eventually(displayed, ["Bob"]);
  await expectVideo(ada, "Bob");
  await ada.evaluate((m) => byName(m, "Dee").pin());
  for (const one of [ada, bob, cem]) {
    await one.waitFor((m) => m.participants.videoSubscribed.toArray().some(({ name }) => name === "Dee"));
    await expectVideo(one, "Dee", 2);
  }
});

scenario("an active speaker is displayed and heard by all, in a meeting of six with a grid of three", { events: [50331688, 50331651], timeoutSeconds: 150 }, async (context) => {
  const [host, viewer] = [await gridPreset(context, CALL_PRESETS[0], 3), await gridPreset(context, CALL_PRESETS[1], 3)];
  const meeting = await context.server.createMeeting();
  const participants = [];
  for (const preset of [host, viewer, viewer, viewer, viewer, viewer]) participants.push(...await context.addParticipants(meeting, [preset], { init: SMALL_VIDEO }));
  for (const one of participants) await one.evaluate((m) => m.self.enableAudio(window.media.toneTrack(0)));
  const [ada, bob] = participants;
  const fay = participants.at(-1);
  await ada.waitFor((m) => names(m).length === 5);
  assert.equal((await ada.evaluate(displayed)).length, 2);
  assert(!(await ada.evaluate(displayed)).includes("Fay"));
  await fay.evaluate(() => window.media.setToneGain(0.5));
  const id = await fay.peerId;
  for (const one of participants.filter((other) => other !== fay)) {
    await one.waitForEvent("participants", "activeSpeaker", ({ peerId }) => peerId === id);
    await one.waitFor((m) => m.participants.videoSubscribed.toArray().some(({ name }) => name === "Fay"));
  }
  await Promise.all([expectVideo(ada, "Fay", 2), expectAudio(ada, "Fay"), expectVideo(bob, "Fay", 2), expectAudio(bob, "Fay")]);
  await fay.evaluate(() => window.media.setToneGain(0));

  // With the smallest grid, a participant outside the list of audio subscriptions is heard once they speak.
  await ada.evaluate((m) => m.participants.setMaxActiveParticipantsCount(1));
  await ada.waitFor((m) => m.participants.audioSubscribed.toArray().length === 4);
  const subscribed = await ada.evaluate((m) => m.participants.audioSubscribed.toArray().map((one) => one.name));
  const outsider = participants.find((one) => one !== ada && !subscribed.includes(one.name));
  await outsider.evaluate(() => window.media.setToneGain(0.5));
  await expectAudio(ada, outsider.name);
});
