// People with the official web SDK in Firefox, with each other and with people in Chromium.
//
//   node tests/firefox/run.mjs BINARY [--only PATTERN] [--keep-log FILE]
//
// What it needs is what scripts/scenarios has installed, and Firefox (apt-get install firefox-esr).

import assert from "node:assert/strict";
import { copyFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { Consoles } from "../../target/scenarios/console.mjs";
import { CALL, ON, SQUARE, hears, hearsNot, hearsScreen, meet, producers, sees, seesNothing, seesScreen, shape } from "../../target/scenarios/media.mjs";
import { NAME, Parlor } from "../../target/scenarios/parlor.mjs";
import { World, servePages } from "../../target/scenarios/suite.mjs";
import { chromium, ownAddress, startFirefox } from "./firefox.mjs";

const { values: options, positionals: [binary] } = parseArgs({
  allowPositionals: true,
  options: { only: { type: "string" }, "keep-log": { type: "string" } },
});

const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-dev-shm-usage", "--mute-audio", "--use-fake-device-for-media-stream=fps=10", "--use-fake-ui-for-media-stream",
  "--autoplay-policy=no-user-gesture-required", "--ignore-certificate-errors",
  `--host-resolver-rules=MAP *.${NAME} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1, EXCLUDE ${ownAddress()}`,
];

/** How long one of them may take. */
const SECONDS = 90;

/** @type {import("../../target/scenarios/suite.mjs").Scenario[]} */
const scenarios = [];
const scenario = (name, play) => scenarios.push({ name, sees: [], play });

/** Lets people enter, each in a browser. @param {World} world @param {Record<string, "firefox" | "chromium">} who */
async function enter(world, who, init = ON) {
  const meeting = await world.parlor.meeting();
  const people = [];
  for (const [name, browser] of Object.entries(who)) {
    world.browser = world.browsers[browser];
    const person = await world.person(meeting, { name, preset_name: world.presets?.[name] ?? CALL[people.length ? 1 : 0] });
    people.push(await person.enter(init));
  }
  return people;
}

/** Somebody turns off and on all there is, and somebody else sees and hears that. @param {Person} one @param {Person} other */
async function turnsAllOffAndOn(one, other) {
  const { name } = one;
  const becomes = (what, is) => other.becomes((m, [who, key]) => named(m, who)[key], is, [name, what]);
  for (let round = 0; round < 2; round += 1) {
    await one.do((m) => m.self.disableVideo());
    await becomes("videoEnabled", false);
    await seesNothing(other, name, 500);
    await one.do((m) => m.self.enableVideo());
    await becomes("videoEnabled", true);
    await sees(other, name);
  }
  await one.do((m) => m.self.disableAudio());
  await becomes("audioEnabled", false);
  await hearsNot(other, name);
  await one.do((m) => m.self.enableAudio());
  await becomes("audioEnabled", true);
  await hears(other, name);
}

/** Somebody shares a screen, and somebody else sees and hears that. */
async function sharesScreen(one, other) {
  const { name } = one;
  const becomes = (is) => other.becomes((m, who) => named(m, who).screenShareEnabled, is, name);
  await one.do(() => window.media.fakeScreen());
  for (let round = 0; round < 2; round += 1) {
    await one.do((m) => m.self.enableScreenShare());
    await becomes(true);
    assert.equal(shape(await seesScreen(other, name)), SQUARE);
    await hearsScreen(other, name);
    await sees(other, name);
    await one.do((m) => m.self.disableScreenShare());
    await becomes(false);
    await other.becomes(producers, { [name]: ["audio", "video"] });
  }
  await sees(other, name);
}

scenario("two people in Firefox see and hear each other, directly over UDP", async (world) => {
  const people = await enter(world, { Ada: "firefox", Bob: "firefox" });
  await meet(people);
  for (const one of people) {
    const ways = await one.do(() => window.media.ways());
    assert.deepEqual(ways.map(({ protocol, relay }) => [protocol, relay ?? "directly"]), [["udp", "directly"], ["udp", "directly"]], one.name);
  }
});

scenario("what somebody in Firefox or Chromium turns off and on is off and on in the other", async (world) => {
  const [ada, bob] = await enter(world, { Ada: "firefox", Bob: "chromium" });
  await meet([ada, bob]);
  const pairs = [[ada, bob], [bob, ada]];
  await Promise.all(pairs.map(([one, other]) => turnsAllOffAndOn(one, other)));
  for (const [one, other] of pairs) await sharesScreen(one, other);
});

scenario("a small picture of what Firefox sends gets few pixels, and a large one many", async (world) => {
  const layers = { config: { media: { video: { quality: "hd", frame_rate: 15, simulcast: true } } } };
  world.presets = { Ada: await world.parlor.preset(CALL[0], layers) };
  const [ada, bob] = await enter(world, { Ada: "firefox", Bob: "chromium" }, {});
  await ada.do((m) => m.self.enableVideo(window.media.drawing(1280, 720)));
  await sees(bob, "Ada");
  const sent = await ada.do(() => window.media.sent());
  const rids = sent.filter(({ frames }) => frames > 0).map(({ rid }) => rid);
  assert(rids.length > 1, `Ada sends one size only: ${rids}`);
  const sized = async (pixels, fits) => {
    await bob.do((m, width) => {
      Object.assign(window.media.camera(named(m, "Ada")).style, { width: `${width}px`, height: `${width * 9 / 16}px` });
    }, pixels);
    await bob.until(`async (m) => (${fits})((await window.media.seen(named(m, "Ada"))).width)`, undefined, 30_000);
  };
  await sized(160, (width) => width > 0 && width <= 320);
  await sized(1280, (width) => width >= 640);
});

/** @param {World} world */
async function act(world) {
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`took longer than ${SECONDS} s`)), SECONDS * 1000); });
  await Promise.race([world.scenario.play(world), late]).finally(() => clearTimeout(timer));
  const faults = world.wireFaults();
  if (faults.length) throw new Error(faults.join("\n"));
}

/** Whether all was well. */
async function play(shared, one) {
  const began = Date.now();
  const world = new World(shared, one);
  const problem = await act(world).then(() => undefined, async (error) =>
    [error.stack, ...await Promise.all(world.persons.map((person) => person?.snapshot() ?? "(not opened)"))].join("\n"));
  await world.close();
  const noise = world.consoles.of(one);
  const seconds = ((Date.now() - began) / 1000).toFixed(1).padStart(5);
  console.log(`${problem ? "FAILED" : noise.length ? "NOISY " : "ok    "} ${seconds} s  ${one.name}`);
  for (const line of [...(problem ? [problem] : []), ...noise]) console.log(line.replace(/^/gm, "          "));
  return !problem && noise.length === 0;
}

/** A server whose media is where Firefox finds it. */
async function startParlor() {
  const parlor = await Parlor.start({ binary });
  await parlor.end("SIGTERM");
  parlor.arguments[parlor.arguments.indexOf("--media-listen") + 1] = `${ownAddress()}:${parlor.mediaPort}`;
  await parlor.run();
  return parlor;
}

const wanted = scenarios.filter(({ name }) => new RegExp(options.only ?? "").test(name));
const bad = [];
const began = Date.now();
const parlor = await startParlor();
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => parlor.stop().then(() => process.exit(130)));
try {
  const [pages, ours, theirs] = await Promise.all([
    servePages(), startFirefox(), chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS }),
  ]);
  console.log(`Firefox ${ours.version}, Chromium ${theirs.version()}`);
  try {
    const shared = {
      parlor, browsers: { firefox: ours, chromium: theirs }, site: `http://localhost:${pages.address().port}/`,
      consoles: new Consoles(), figures: new Map(),
    };
    for (const one of wanted) if (!await play(shared, one)) bad.push(one.name);
  } finally {
    await Promise.all([ours.close(), theirs.close()]);
    pages.close();
  }
  await parlor.end("SIGTERM");
  bad.push(...parlor.complaints().map((line) => `the server logged: ${line}`));
  if (options["keep-log"]) copyFileSync(parlor.log, options["keep-log"]);
} finally {
  await parlor.stop();
}
if (wanted.length === 0) bad.push("there is no such scenario");
console.log(`\n${bad.length ? `failed: ${bad.join("; ")}` : `all ${wanted.length} passed`} in ${Math.round((Date.now() - began) / 1000)} s`);
process.exit(bad.length === 0 ? 0 : 1);
