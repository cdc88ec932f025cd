// Media over networks with loss, delay, reordering, low bandwidth and short outages.

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { CALL_PRESETS, audioLevel, expectAudio, expectMutualMedia, expectVideo, mediaOptions, mediaScenario as scenario } from "../media.mjs";

/** A quarter of the amplitude of {@link sendTone}. Audio with a lower level is mostly concealment. */
const CLEAR_LEVEL = 0.05;

/** A participant whose media uses only the proxy. */
async function addBehindProxy(context, meeting, preset, impairment = {}) {
  const [participant] = await context.addParticipants(meeting, [preset], { enter: false, mediaProxy: true });
  participant.mediaProxy.impair(impairment);
  await participant.page.evaluate(() => window.media.restrictIceServers([], false));
  return participant;
}

/** Sends a continuous tone. The browser's fake microphone only beeps once a second, so a lost beep would be a second of silence. */
const sendTone = (participant) => participant.evaluate((m) => m.self.enableAudio(window.media.toneTrack(0.3)));

/** Two participants who see and hear each other; the second is behind the proxy. */
async function startCall(context, impairment) {
  const meeting = await context.server.createMeeting();
  const camera = mediaOptions({ video: true });
  const [ada] = await context.addParticipants(meeting, [CALL_PRESETS[0]], { init: camera });
  const bob = await addBehindProxy(context, meeting, CALL_PRESETS[1], impairment);
  await bob.enter(camera);
  await Promise.all([ada, bob].map(sendTone));
  await expectMutualMedia([ada, bob]);
  assert(bob.mediaProxy.delivered > 100, "media does not use the proxy");
  return [ada, bob];
}

/** Each participant with the name of the other. */
const receivers = ([ada, bob]) => [[ada, "Bob"], [bob, "Ada"]];

/** The sums of the browser's statistics of all streams of a type and kind. @param {"inbound-rtp" | "outbound-rtp"} type */
async function sumStats(participant, type, kind) {
  const reports = await participant.evaluate(async () => {
    const all = await Promise.all(window.media.connections.filter((pc) => pc.signalingState !== "closed").map((pc) => pc.getStats()));
    return all.flatMap((one) => [...one.values()]);
  });
  const sums = {};
  for (const report of reports.filter((one) => one.type === type && one.kind === kind)) {
    for (const [name, value] of Object.entries(report)) if (typeof value === "number") sums[name] = (sums[name] ?? 0) + value;
  }
  return sums;
}

/** The share of audio samples between two such sums that was concealed, because packets were missing. */
function concealedShare(before, after) {
  return (after.concealedSamples - before.concealedSamples) / (after.totalSamplesReceived - before.totalSamplesReceived);
}

/** Watches a camera for `ms`: the number of decoded frames, the longest gap between two of them, and their widths. */
function watchVideo(receiver, name, ms) {
  return receiver.evaluate(async (m, [sender, duration]) => {
    const end = performance.now() + duration;
    const widths = new Set();
    let [first, frames, last, gap] = [null, null, performance.now(), 0];
    for (let now = last; now < end; now = performance.now()) {
      const stats = await window.media.videoStats(byName(m, sender));
      gap = Math.max(gap, now - last);
      if (stats && stats.frames !== frames) {
        widths.add(stats.width);
        [frames, last] = [stats.frames, now];
        first ??= frames;
      }
      await new Promise((resolve) => { setTimeout(resolve, 100); });
    }
    return { frames: frames - first, gap, widths: [...widths] };
  }, [name, ms]);
}

/** Checks that a tone is audible in each of `seconds` seconds. */
async function expectContinuousAudio(receiver, name, seconds) {
  for (let second = 0; second < seconds; second += 1) {
    const level = await audioLevel(receiver, name, 1000);
    assert(level > CLEAR_LEVEL, `${receiver.name} does not hear ${name} after ${second} s: ${level}`);
  }
}

scenario("video and audio work over a path with 10 % loss, delay and reordering", { events: [50331651], isExclusive: true, timeoutSeconds: 120 }, async (context) => {
  const participants = await startCall(context, { loss: 0.1, delay: 40, jitter: 30 });
  await Promise.all(receivers(participants).map(async ([receiver, name]) => {
    const before = await sumStats(receiver, "inbound-rtp", "audio");
    const [video] = await Promise.all([watchVideo(receiver, name, 8000), expectContinuousAudio(receiver, name, 7)]);
    // Ten frames per second are sent, and at least half of them must be decoded.
    assert(video.frames > 40, `${receiver.name} receives too few frames of ${name}: ${JSON.stringify(video)}`);
    const concealed = concealedShare(before, await sumStats(receiver, "inbound-rtp", "audio"));
    context.recordMeasurement("concealed audio per second over a path with 10 % loss", concealed * 1000);
    assert(concealed < 0.1, `${concealed} of the audio that ${receiver.name} hears from ${name} is concealed`);
  }));
});

scenario("video and audio resume after an outage of the media path of three seconds", { events: [50331651], isExclusive: true, timeoutSeconds: 120 }, async (context) => {
  const participants = await startCall(context);
  const [ada, bob] = participants;
  const connections = () => window.media.connections.length;
  const before = [await bob.peerId, await bob.evaluate(connections)];
  bob.mediaProxy.cut();
  await sleep(3000);
  const stats = (receiver, name) => receiver.evaluate((m, sender) => window.media.videoStats(byName(m, sender)), name);
  const last = await Promise.all(receivers(participants).map(([receiver, name]) => stats(receiver, name)));
  bob.mediaProxy.restore();
  const restored = performance.now();
  await Promise.all(receivers(participants).map(async ([receiver, name], index) => {
    // Bob's video must resume before his browser requests a key frame by itself, after three seconds.
    const timeout = receiver === bob ? 2000 : 5000;
    while ((await stats(receiver, name)).frames <= last[index].frames) {
      assert(performance.now() < restored + timeout, `${receiver.name} has not received a frame of ${name}`);
      await sleep(50);
    }
    context.recordMeasurement(`from the end of an outage of 3 s to the next frame ${receiver === bob ? "received" : "sent"} through the proxy`, performance.now() - restored);
    await Promise.all([expectVideo(receiver, name), expectAudio(receiver, name)]);
  }));
  assert.deepEqual([await bob.peerId, await bob.evaluate(connections)], before);
  for (const one of [ada, bob]) assert.equal(await one.roomState, "joined");
});

scenario("video and audio work over a path with high delay and jitter, with few key frame requests", { events: [50331651], isExclusive: true, timeoutSeconds: 120 }, async (context) => {
  const participants = await startCall(context, { delay: 150, jitter: 30 });
  const keyFrameRequests = async (sender) => {
    const { pliCount = 0, firCount = 0 } = await sumStats(sender, "outbound-rtp", "video");
    return pliCount + firCount;
  };
  const before = await Promise.all(participants.map(keyFrameRequests));
  await Promise.all(receivers(participants).map(async ([receiver, name]) => {
    const [video] = await Promise.all([watchVideo(receiver, name, 8000), expectContinuousAudio(receiver, name, 7)]);
    assert(video.frames > 60 && video.gap < 1000, `${receiver.name} receives too few frames of ${name}: ${JSON.stringify(video)}`);
  }));
  for (const [index, sender] of participants.entries()) {
    const now = await keyFrameRequests(sender);
    assert(now - before[index] <= 2 && now <= 10, `${sender.name} received ${before[index]} key frame requests before, and ${now} in total`);
  }
});

/**
 * Sends video whose frames differ so much that it uses all of the bandwidth that the browser permits. A simple
 * animation would fit any path. Key frames are hardly larger than the other frames.
 */
const sendComplexVideo = (participant, width, height) => participant.evaluate((m, size) => {
  const canvas = Object.assign(document.createElement("canvas"), size);
  const context2d = canvas.getContext("2d");
  setInterval(() => {
    for (let count = 0; count < 30; count += 1) {
      context2d.fillStyle = `hsl(${Math.random() * 360} 60% ${30 + Math.random() * 40}%)`;
      context2d.fillRect(Math.random() * size.width, Math.random() * size.height, size.width / 4, size.height / 4);
    }
  }, 100);
  return m.self.enableVideo(canvas.captureStream(10).getVideoTracks()[0]);
}, { width, height });

const LAYERS = { config: { media: { video: { quality: "vga", frame_rate: 15, simulcast: true } } } };
const [LOW_WIDTH, HIGH_WIDTH] = [320, 640];

scenario("a path with low bandwidth carries the low layer and all of the audio while another carries the high layer, which follows when the bandwidth increases", { events: [50331651], isExclusive: true, timeoutSeconds: 150 }, async (context) => {
  const [host, viewer] = [await context.server.createPreset(CALL_PRESETS[0], LAYERS), await context.server.createPreset(CALL_PRESETS[1], LAYERS)];
  const meeting = await context.server.createMeeting();
  const [ada] = await context.addParticipants(meeting, [host]);
  await sendTone(ada);
  await sendComplexVideo(ada, HIGH_WIDTH, HIGH_WIDTH * 9 / 16);
  const bob = await addBehindProxy(context, meeting, viewer);
  bob.mediaProxy.down.rate = 300;
  const [cem] = await context.addParticipants(meeting, [viewer], { enter: false });
  // Prevents the SDK from selecting the low layer because of the size of the video element.
  for (const one of [bob, cem]) await one.page.addStyleTag({ content: `video.camera { width: ${HIGH_WIDTH}px !important; height: ${HIGH_WIDTH * 9 / 16}px !important; }` });
  const highLayerBytes = () => ada.evaluate(() => window.media.sentStats().then((all) => all.filter(({ rid }) => rid === "f").reduce((sum, one) => sum + one.bytes, 0)));
  /** The bitrate of the high layer during the next `ms`, in kbit/s. */
  const highLayerBitrate = async (ms) => {
    const before = await highLayerBytes();
    await sleep(ms);
    return (await highLayerBytes() - before) * 8 / ms;
  };
  for (const deadline = performance.now() + 30_000; (await highLayerBitrate(1000)) < 450;) assert(performance.now() < deadline, "the bitrate of the high layer is too low");
  await Promise.all([bob, cem].map((one) => one.enter()));
  const settled = performance.now() + 8000;
  const waitForWidth = (receiver, minimum) => receiver.waitFor((m, pixels) => window.media.videoStats(byName(m, "Ada")).then((stats) => stats?.width >= pixels), minimum, 40_000);
  await Promise.all([waitForWidth(cem, HIGH_WIDTH), expectAudio(bob, "Ada")]);
  await sleep(settled - performance.now());

  const audio = await sumStats(bob, "inbound-rtp", "audio");
  const [bitrate, narrow, wide] = await Promise.all([highLayerBitrate(10_000), watchVideo(bob, "Ada", 10_000), watchVideo(cem, "Ada", 10_000), expectContinuousAudio(bob, "Ada", 9)]);
  assert(bitrate > 400, `the bitrate of the high layer is only ${bitrate} kbit/s, which is too close to the bandwidth of the narrow path`);
  const details = JSON.stringify({ narrow, wide });
  assert.deepEqual([narrow.widths, wide.widths], [[LOW_WIDTH], [HIGH_WIDTH]], details);
  assert(narrow.gap < 2000, details);
  context.recordMeasurement("longest gap between frames over a path of 300 kbit/s", narrow.gap);
  const concealed = concealedShare(audio, await sumStats(bob, "inbound-rtp", "audio"));
  context.recordMeasurement("concealed audio per second over a path of 300 kbit/s", concealed * 1000);
  assert(concealed < 0.05, `${concealed} of the audio that Bob hears is concealed`);

  bob.mediaProxy.down.rate = Infinity;
  const increased = performance.now();
  await waitForWidth(bob, HIGH_WIDTH);
  context.recordMeasurement("from the increase of the bandwidth to the high layer", performance.now() - increased);
});
