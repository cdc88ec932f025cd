// Media over lines that lose, delay, reorder, are too narrow, or are gone for a moment.

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { CALL, devices, hears, loudness, mediaScenario as scenario, meet, sees } from "../media.mjs";

/** The tone of {@link speaks} has four times this amplitude: what is less is mostly made up. */
const CLEAR = 0.05;

/** Somebody whose media has a cable to take and nothing else. */
async function onCable(world, meeting, preset, weather = {}) {
  const [person] = await world.people(meeting, [preset], { enter: false, mediaCable: true });
  person.mediaCable.suffer(weather);
  await person.page.evaluate(() => window.media.useServers([], false));
  return person;
}

/** Turns on a microphone that says a tone all the time: the browser's own beeps, and a lost one would seem a second of silence. */
const speaks = (person) => person.do((m) => m.self.enableAudio(window.media.voice(0.3)));

/** Two who see and hear each other; the second is behind the cable. */
async function pair(world, weather) {
  const meeting = await world.parlor.meeting();
  const camera = devices({ video: true });
  const [ada] = await world.people(meeting, [CALL[0]], { init: camera });
  const bob = await onCable(world, meeting, CALL[1], weather);
  await bob.enter(camera);
  await Promise.all([ada, bob].map(speaks));
  await meet([ada, bob]);
  assert(bob.mediaCable.carried > 100, "the media does not take the cable");
  return [ada, bob];
}

/** Each with the name of the other. */
const both = ([ada, bob]) => [[ada, "Bob"], [bob, "Ada"]];

/** What the browser counts of media of a kind, one way, added up. @param {"inbound-rtp" | "outbound-rtp"} way */
async function counted(person, way, kind) {
  const reports = await person.do(async () => {
    const all = await Promise.all(window.media.connections.filter((pc) => pc.signalingState !== "closed").map((pc) => pc.getStats()));
    return all.flatMap((one) => [...one.values()]);
  });
  const sums = {};
  for (const report of reports.filter((one) => one.type === way && one.kind === kind)) {
    for (const [name, value] of Object.entries(report)) if (typeof value === "number") sums[name] = (sums[name] ?? 0) + value;
  }
  return sums;
}

/** Which part of the sound between two such counts was made up, because what was said had not come. */
function madeUp(before, after) {
  return (after.concealedSamples - before.concealedSamples) / (after.totalSamplesReceived - before.totalSamplesReceived);
}

/** Looks for `ms`: how many frames of somebody's camera are decoded, the longest wait for one, and how wide they are. */
function watch(person, name, ms) {
  return person.do(async (m, [whom, long]) => {
    const end = performance.now() + long;
    const widths = new Set();
    let [first, frames, last, gap] = [null, null, performance.now(), 0];
    for (let now = last; now < end; now = performance.now()) {
      const seen = await window.media.seen(named(m, whom));
      gap = Math.max(gap, now - last);
      if (seen && seen.frames !== frames) {
        widths.add(seen.width);
        [frames, last] = [seen.frames, now];
        first ??= frames;
      }
      await new Promise((resolve) => { setTimeout(resolve, 100); });
    }
    return { frames: frames - first, gap, widths: [...widths] };
  }, [name, ms]);
}

/** Checks that somebody is heard in each of so many seconds. */
async function hearsAll(person, name, seconds) {
  for (let second = 0; second < seconds; second += 1) {
    const now = await loudness(person, name, 1000);
    assert(now > CLEAR, `${person.name} does not hear ${name} after ${second} s: ${now}`);
  }
}

scenario("a line that loses one datagram in ten, late and out of order, carries picture and sound", { sees: [50331651], alone: true, seconds: 120 }, async (world) => {
  const people = await pair(world, { loss: 0.1, delay: 40, jitter: 30 });
  await Promise.all(both(people).map(async ([one, name]) => {
    const before = await counted(one, "inbound-rtp", "audio");
    const [picture] = await Promise.all([watch(one, name, 8000), hearsAll(one, name, 7)]);
    // Ten frames a second are sent; half of them is the least.
    assert(picture.frames > 40, `${one.name} sees too little of ${name}: ${JSON.stringify(picture)}`);
    const made = madeUp(before, await counted(one, "inbound-rtp", "audio"));
    world.figure("of each second of sound over a line that loses a tenth is made up", made * 1000);
    assert(made < 0.1, `${made} of what ${one.name} hears of ${name} is made up`);
  }));
});

scenario("when the line of media is gone for three seconds, picture and sound go on after it", { sees: [50331651], alone: true, seconds: 120 }, async (world) => {
  const people = await pair(world);
  const [ada, bob] = people;
  const connections = () => window.media.connections.length;
  const before = [await bob.peerId, await bob.do(connections)];
  bob.mediaCable.pull();
  await sleep(3000);
  const seen = (one, name) => one.do((m, whom) => window.media.seen(named(m, whom)), name);
  const last = await Promise.all(both(people).map(([one, name]) => seen(one, name)));
  bob.mediaCable.plug();
  const plugged = performance.now();
  await Promise.all(both(people).map(async ([one, name], index) => {
    // Whoever was out must not need the three seconds after which a browser asks for a key frame by itself.
    const patience = one === bob ? 2000 : 5000;
    while ((await seen(one, name)).frames <= last[index].frames) {
      assert(performance.now() < plugged + patience, `${one.name} still waits for the next frame of ${name}`);
      await sleep(50);
    }
    world.figure(`from the end of an outage of 3 s to the next frame ${one === bob ? "received" : "sent"} over the line`, performance.now() - plugged);
    await Promise.all([sees(one, name), hears(one, name)]);
  }));
  assert.deepEqual([await bob.peerId, await bob.do(connections)], before);
  for (const one of [ada, bob]) assert.equal(await one.roomState, "joined");
});

scenario("a long way that is never twice the same carries picture and sound, and few key frames are asked for", { sees: [50331651], alone: true, seconds: 120 }, async (world) => {
  const people = await pair(world, { delay: 150, jitter: 30 });
  const asked = async (one) => {
    const { pliCount = 0, firCount = 0 } = await counted(one, "outbound-rtp", "video");
    return pliCount + firCount;
  };
  const before = await Promise.all(people.map(asked));
  await Promise.all(both(people).map(async ([one, name]) => {
    const [picture] = await Promise.all([watch(one, name, 8000), hearsAll(one, name, 7)]);
    assert(picture.frames > 60 && picture.gap < 1000, `${one.name} sees too little of ${name}: ${JSON.stringify(picture)}`);
  }));
  for (const [index, one] of people.entries()) {
    const now = await asked(one);
    assert(now - before[index] <= 2 && now <= 10, `${one.name} is asked for key frames: ${before[index]} times, and ${now} in the end`);
  }
});

/**
 * Turns on a camera whose picture is another one each time, so it takes all that a browser gives it: what a simple
 * drawing takes fits any line. Key frames are hardly larger than the others.
 */
const showsMuch = (person, width, height) => person.do((m, size) => {
  const canvas = Object.assign(document.createElement("canvas"), size);
  const pen = canvas.getContext("2d");
  setInterval(() => {
    for (let count = 0; count < 30; count += 1) {
      pen.fillStyle = `hsl(${Math.random() * 360} 60% ${30 + Math.random() * 40}%)`;
      pen.fillRect(Math.random() * size.width, Math.random() * size.height, size.width / 4, size.height / 4);
    }
  }, 100);
  return m.self.enableVideo(canvas.captureStream(10).getVideoTracks()[0]);
}, { width, height });

const LAYERS = { config: { media: { video: { quality: "vga", frame_rate: 15, simulcast: true } } } };
const [SMALL, LARGE] = [320, 640];

scenario("a narrow line gets the small picture and all of the sound, another the large one meanwhile, and it too once it is wider", { sees: [50331651], alone: true, seconds: 150 }, async (world) => {
  const [host, guest] = [await world.parlor.preset(CALL[0], LAYERS), await world.parlor.preset(CALL[1], LAYERS)];
  const meeting = await world.parlor.meeting();
  const [ada] = await world.people(meeting, [host]);
  await speaks(ada);
  await showsMuch(ada, LARGE, LARGE * 9 / 16);
  const bob = await onCable(world, meeting, guest);
  bob.mediaCable.down.rate = 300;
  const [cem] = await world.people(meeting, [guest], { enter: false });
  // Or the SDK would ask for the small picture by itself.
  for (const one of [bob, cem]) await one.page.addStyleTag({ content: `video.camera { width: ${LARGE}px !important; height: ${LARGE * 9 / 16}px !important; }` });
  const ofLarge = () => ada.do(() => window.media.sent().then((all) => all.filter(({ rid }) => rid === "f").reduce((sum, one) => sum + one.bytes, 0)));
  /** What the large picture takes in the next `ms`, in kbit/s. */
  const rate = async (ms) => {
    const before = await ofLarge();
    await sleep(ms);
    return (await ofLarge() - before) * 8 / ms;
  };
  for (const deadline = performance.now() + 30_000; (await rate(1000)) < 450;) assert(performance.now() < deadline, "the large picture takes too little");
  await Promise.all([bob, cem].map((one) => one.enter()));
  const settled = performance.now() + 8000;
  const width = (one, least) => one.until((m, pixels) => window.media.seen(named(m, "Ada")).then((seen) => seen?.width >= pixels), least, 40_000);
  await Promise.all([width(cem, LARGE), hears(bob, "Ada")]);
  await sleep(settled - performance.now());

  const sound = await counted(bob, "inbound-rtp", "audio");
  const [large, narrow, wide] = await Promise.all([rate(10_000), watch(bob, "Ada", 10_000), watch(cem, "Ada", 10_000), hearsAll(bob, "Ada", 9)]);
  assert(large > 400, `the large picture takes only ${large} kbit/s: the narrow line could carry it`);
  const told = JSON.stringify({ narrow, wide });
  assert.deepEqual([narrow.widths, wide.widths], [[SMALL], [LARGE]], told);
  assert(narrow.gap < 2000, told);
  world.figure("the longest wait for a frame over a line of 300 kbit/s", narrow.gap);
  const made = madeUp(sound, await counted(bob, "inbound-rtp", "audio"));
  world.figure("of each second of sound over a line of 300 kbit/s is made up", made * 1000);
  assert(made < 0.05, `${made} of what Bob hears is made up`);

  bob.mediaCable.down.rate = Infinity;
  const widened = performance.now();
  await width(bob, LARGE);
  world.figure("from the widening of a line to the large picture", performance.now() - widened);
});
