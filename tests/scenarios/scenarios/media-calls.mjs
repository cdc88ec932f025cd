// Video and audio calls.

import assert from "node:assert/strict";
import { CALL_PRESETS, CAMERA_ASPECT, MEDIA_ON, SCREEN_ASPECT, aspectRatio, expectAudio, expectMutualMedia, expectNoMedia, expectNoVideo, expectScreenAudio, expectScreenVideo, expectSilence, expectVideo, mediaOptions, producers, sendRate, mediaScenario as scenario } from "../media.mjs";

/** The events of a call of two participants with camera and microphone. */
const MEDIA_EVENTS = [50331649, 50331650, 50331651, 50331675, 50331698];

/** Joins, and measures the time to the first frame of each of the other participants. */
export async function joinAndMeasure(context, participant, names) {
  await participant.evaluate((m) => {
    window.joining = [performance.now()];
    return m.join().then(() => { window.joining.push(performance.now()); });
  });
  for (const name of names) {
    const [called, joined] = await participant.waitFor((_, other) => {
      const first = window.media.firstFrames[other];
      return first && window.joining.map((at) => first - at);
    }, name, 20_000);
    context.recordMeasurement("from the call of join() to the first frame", called);
    context.recordMeasurement("from the end of join() to the first frame", joined);
  }
}

scenario("two participants see and hear each other", { events: MEDIA_EVENTS }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada, bob] = await context.addParticipants(meeting, CALL_PRESETS, { enter: false });
  for (const one of [ada, bob]) await one.init(MEDIA_ON);
  await joinAndMeasure(context, ada, []);
  await joinAndMeasure(context, bob, ["Ada"]);
  await expectMutualMedia([ada, bob]);
  for (const [one, other] of [[ada, "Bob"], [bob, "Ada"]]) {
    assert.equal(aspectRatio(await expectVideo(one, other)), CAMERA_ASPECT);
    assert.deepEqual(await one.evaluate((m, name) => [byName(m, name).audioEnabled, byName(m, name).videoEnabled], other), [true, true]);
    assert.deepEqual(await one.evaluate(producers), { [other]: ["audio", "video"] });
  }
});

scenario("a muted microphone is silent, sends few packets, and is unmuted", { events: [...MEDIA_EVENTS, 50331652, 50331676] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada, bob] = await context.addParticipants(meeting, CALL_PRESETS, { init: mediaOptions({ audio: true }) });
  await expectAudio(bob, "Ada");
  for (let round = 0; round < 3; round += 1) {
    await ada.evaluate((m) => m.self.disableAudio());
    await bob.eventually((m) => byName(m, "Ada").audioEnabled, false);
    await expectSilence(bob, "Ada");
    if (round === 0) {
      const rate = await sendRate(ada, "audio");
      assert(rate < 15, `a muted microphone sends ${rate} packets a second`);
    }
    await ada.evaluate((m) => m.self.enableAudio());
    await bob.eventually((m) => byName(m, "Ada").audioEnabled, true);
    await expectAudio(bob, "Ada");
  }
  await expectAudio(ada, "Bob");
});

scenario("a camera is turned off and on fifty times without growing the session description", { events: [...MEDIA_EVENTS, 50331652, 50331655, 50331676], isLong: true, timeoutSeconds: 240 }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada, bob] = await context.addParticipants(meeting, CALL_PRESETS, { init: MEDIA_ON });
  await expectVideo(bob, "Ada");
  const first = await bob.evaluate(() => window.media.receiverDescription());
  for (let round = 0; round < 50; round += 1) {
    await ada.evaluate((m) => m.self.disableVideo());
    await bob.eventually((m) => byName(m, "Ada").videoEnabled, false);
    await ada.evaluate((m) => m.self.enableVideo());
    await bob.eventually((m) => byName(m, "Ada").videoEnabled, true);
    if (round % 10 === 9) await expectVideo(bob, "Ada", 2);
  }
  await expectVideo(bob, "Ada");
  const last = await bob.evaluate(() => window.media.receiverDescription());
  assert(last.sections <= first.sections + 2 && last.bytes < first.bytes * 1.5, `the session description has grown: ${JSON.stringify({ first, last })}`);
  await ada.evaluate((m) => m.self.disableVideo());
  await bob.eventually((m) => byName(m, "Ada").videoEnabled, false);
  await expectNoVideo(bob, "Ada");
  await expectAudio(bob, "Ada");
});

scenario("a screen is shared twice with its audio, next to the camera", { events: [...MEDIA_EVENTS, 50331654, 50331677] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada, bob] = await context.addParticipants(meeting, CALL_PRESETS, { init: MEDIA_ON });
  await expectVideo(bob, "Ada");
  await ada.evaluate(() => window.media.fakeScreen());
  for (let round = 0; round < 2; round += 1) {
    await ada.evaluate((m) => m.self.enableScreenShare());
    await bob.eventually((m) => byName(m, "Ada").screenShareEnabled, true);
    assert.equal(aspectRatio(await expectScreenVideo(bob, "Ada")), SCREEN_ASPECT);
    await expectScreenAudio(bob, "Ada");
    assert.equal(aspectRatio(await expectVideo(bob, "Ada")), CAMERA_ASPECT);
    assert.deepEqual(await bob.evaluate(producers), { Ada: ["audio", "screen audio", "screen video", "video"] });
    await ada.evaluate((m) => m.self.disableScreenShare());
    await bob.eventually((m) => byName(m, "Ada").screenShareEnabled, false);
    await bob.eventually(producers, { Ada: ["audio", "video"] });
  }
  await expectVideo(bob, "Ada");
});

scenario("a late joiner sees and hears the others, and the media of a participant who leaves is removed", { events: [...MEDIA_EVENTS, 50331673, 50331674] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada, bob] = await context.addParticipants(meeting, CALL_PRESETS, { init: MEDIA_ON });
  await expectMutualMedia([ada, bob]);
  const [cem] = await context.addParticipants(meeting, ["group_call_participant"], { enter: false });
  await cem.init(MEDIA_ON);
  await joinAndMeasure(context, cem, ["Ada", "Bob"]);
  await expectMutualMedia([ada, bob, cem]);
  await bob.leave();
  for (const one of [ada, cem]) await one.eventually((m) => names(m), [one === ada ? "Cem" : "Ada"]);
  await ada.eventually(producers, { Cem: ["audio", "video"] });
  await expectMutualMedia([ada, cem]);
  const [dee] = await context.addParticipants(meeting, ["group_call_participant"], { init: MEDIA_ON });
  await dee.eventually(producers, { Ada: ["audio", "video"], Cem: ["audio", "video"] });
  await expectMutualMedia([ada, cem, dee]);
});

scenario("a participant without camera and microphone sees and hears the others", { events: MEDIA_EVENTS }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada] = await context.addParticipants(meeting, ["group_call_host"], { init: MEDIA_ON });
  const [bob] = await context.addParticipants(meeting, ["group_call_participant"]);
  await Promise.all([expectVideo(bob, "Ada"), expectAudio(bob, "Ada")]);
  await expectNoMedia(ada);
  await bob.evaluate((m) => m.self.enableAudio());
  await expectAudio(ada, "Bob");
  await bob.evaluate((m) => m.self.enableVideo());
  await expectVideo(ada, "Bob");
});

scenario("a participant leaves and joins again, and is in the roster once", { events: MEDIA_EVENTS }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada, bob] = await context.addParticipants(meeting, CALL_PRESETS, { init: MEDIA_ON });
  await expectMutualMedia([ada, bob]);
  for (let round = 0; round < 2; round += 1) {
    await bob.leave();
    await ada.eventually((m) => names(m), []);
    await expectNoMedia(ada);
    await bob.loadPage();
    await bob.enter(MEDIA_ON);
    await ada.eventually(producers, { Bob: ["audio", "video"] });
    await expectMutualMedia([ada, bob]);
  }
});

const LAYERS = { config: { media: { video: { quality: "hd", frame_rate: 15, simulcast: true } } } };
scenario("a small video element receives a low layer, and a large one a high layer", { events: [50331650, 50331651, 50331656], isExclusive: true, timeoutSeconds: 150 }, async (context) => {
  const [host, viewer] = [await context.server.createPreset(CALL_PRESETS[0], LAYERS), await context.server.createPreset(CALL_PRESETS[1], LAYERS)];
  const meeting = await context.server.createMeeting();
  const [ada] = await context.addParticipants(meeting, [host]);
  await ada.evaluate((m) => m.self.enableVideo(window.media.animationTrack(1280, 720)));
  const [bob] = await context.addParticipants(meeting, [viewer]);
  const resize = (pixels) => bob.evaluate((m, width) => {
    Object.assign(window.media.cameraElement(byName(m, "Ada")).style, { width: `${width}px`, height: `${width * 9 / 16}px` });
  }, pixels);
  const waitForWidth = async (matches) => {
    const fn = `async (m) => { const stats = await window.media.videoStats(byName(m, "Ada")); return (${matches})(stats?.width ?? 0) && stats; }`;
    return bob.waitFor(fn, undefined, 40_000).catch(async (error) => {
      throw new Error(`${error.message}; Ada sends ${JSON.stringify(await ada.evaluate(() => window.media.sentStats()))}`);
    });
  };
  await expectVideo(bob, "Ada");
  // The browser starts with the lowest layer and adds others as its bandwidth estimate grows.
  await ada.waitFor(() => window.media.sentStats().then((all) => all.filter(({ frames }) => frames > 0).length > 1), undefined, 40_000);
  await resize(160);
  const { width: small } = await waitForWidth((pixels) => pixels > 0 && pixels <= 320);
  await resize(1280);
  const { width: large } = await waitForWidth((pixels) => pixels >= 640);
  assert(large > small);
  await resize(160);
  await waitForWidth((pixels) => pixels > 0 && pixels <= 320);
  await expectVideo(bob, "Ada");
});

scenario("two participants with the same encryption key see and hear each other, and one with another key sees nothing", { events: MEDIA_EVENTS }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada, bob, cem] = await context.addParticipants(meeting, [...CALL_PRESETS, "group_call_participant"], { enter: false });
  await ada.enter({ ...mediaOptions({ audio: true }), secret: "open sesame" });
  await ada.evaluate((m) => m.self.enableVideo(window.media.testCardTrack()));
  for (const [one, secret] of [[bob, "open sesame"], [cem, "abracadabra"]]) await one.enter({ ...MEDIA_ON, secret });
  await Promise.all([expectVideo(ada, "Bob"), expectAudio(ada, "Bob"), expectVideo(bob, "Ada"), expectAudio(bob, "Ada")]);
  // Frames that cannot be decrypted are sometimes decoded to noise, so rendered frames are compared with the test card.
  const packets = (m) => window.media.videoStats(byName(m, "Ada")).then((stats) => stats?.packets ?? 0);
  for (const one of [bob, cem]) {
    await one.waitFor((m) => window.media.cameraElement(byName(m, "Ada")));
    await one.evaluate((m) => window.media.detectTestCard(byName(m, "Ada")));
  }
  await bob.waitFor(() => window.media.detected.testCards >= 5);
  const before = await cem.evaluate(packets);
  await cem.waitFor((m, least) => window.media.videoStats(byName(m, "Ada")).then((stats) => stats?.packets > least), before + 20);
  const detected = await cem.evaluate(() => window.media.detected);
  assert.equal(detected.testCards, 0, `Cem sees Ada: ${JSON.stringify(detected)}`);
});
