// Plays every scenario against one server, several at a time.
//
//   node run.mjs BINARY [--database URL] [--only PATTERN] [--at-once N] [--keep-log FILE]

import { copyFileSync, readdirSync } from "node:fs";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";
import { Consoles } from "./console.mjs";
import { nameOf } from "./events.mjs";
import { NAME, Parlor } from "./parlor.mjs";
import { Pauses } from "./pauses.mjs";
import { World, scenarios, servePages } from "./suite.mjs";
import { Travelled } from "./travelled.mjs";

const { values: options, positionals: [binary] } = parseArgs({
  allowPositionals: true,
  options: {
    database: { type: "string" }, only: { type: "string" }, "keep-log": { type: "string" },
    "at-once": { type: "string", default: "3" },
  },
});

const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--mute-audio",
  "--use-fake-device-for-media-stream=fps=10", "--use-fake-ui-for-media-stream", "--autoplay-policy=no-user-gesture-required",
  // Nothing but this machine can be reached, whatever the SDK asks for.
  `--host-resolver-rules=MAP *.${NAME} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1`,
];

const consoles = new Consoles();
const travelled = new Travelled();
/** Scenarios that failed or were noisy. @type {Set<import("./suite.mjs").Scenario>} */
const bad = new Set();
/** Those that were well at their second chance. @type {string[]} */
const unsteady = [];
/** Durations that were measured by the way. @type {Map<string, number[]>} */
const figures = new Map();
/** Who stood still, and when. @type {string[]} */
const stoodStill = [];
/** Whatever else went wrong. @type {string[]} */
const broken = [];
/** So many may have a second chance. When there are more, it is not chance. */
const CHANCES = 5;
// What a scenario that took too long still has in hand ends in rejections.
process.on("unhandledRejection", (error) => broken.push(`an unhandled rejection in the suite: ${error?.stack ?? error}`));

/** An error without the frames that are not of a scenario. @param {Error} error */
function told(error) {
  return (error.stack ?? String(error)).split("\n").filter((line) => !/^ {4}at /.test(line) || line.includes("/scenarios/scenarios/")).join("\n");
}

/** Fails when the scenario takes too long, or the wire was not as it must be. @param {World} world */
async function act(world) {
  const { scenario } = world;
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`took longer than ${scenario.seconds} s`)), scenario.seconds * 1000);
  });
  await Promise.race([scenario.play(world), late]).finally(() => clearTimeout(timer));
  const missing = scenario.sees.filter((event) => !world.frames.has(event));
  const faults = [...missing.map((event) => `event ${event} ${nameOf(event)} did not travel`), ...world.wireFaults()];
  if (faults.length) throw new Error(faults.join("\n"));
}

/** @param {object} shared @param {import("./suite.mjs").Scenario} scenario */
async function play(shared, scenario) {
  const started = Date.now();
  const world = new World(shared, scenario);
  const problem = await act(world).then(() => undefined, async (error) =>
    [told(error), ...await Promise.all(world.persons.map((person) => person?.snapshot() ?? "(not opened)"))].join("\n"));
  await world.close();
  travelled.add(world);
  const noise = consoles.of(scenario);
  if (problem || noise.length) bad.add(scenario);
  const seconds = ((Date.now() - started) / 1000).toFixed(1).padStart(5);
  console.log(`${problem ? "FAILED" : noise.length ? "NOISY " : "ok    "} ${seconds} s  ${scenario.name}`);
  for (const line of [...(problem ? [problem] : []), ...noise]) console.log(line.replace(/^/gm, "          "));
}

/** Plays them so many at a time, in their order; of the heavy ones one, until the others are played. */
async function playAll(shared, list, atOnce) {
  const [heavy, light] = [true, false].map((kind) => list.filter(({ isHeavy = false }) => isHeavy === kind));
  await Promise.all(Array.from({ length: atOnce }, async (_, index) => {
    const order = index === 0 ? [heavy, light] : [light, heavy];
    const next = () => order.find((one) => one.length)?.shift();
    for (let one = next(); one; one = next()) await play(shared, one);
  }));
}

/** @param {Parlor} parlor @param {import("./suite.mjs").Scenario[]} wanted */
async function playOn(parlor, wanted) {
  const pages = await servePages();
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [...FLAGS, `--ignore-certificate-errors-spki-list=${await parlor.authorityHash()}`],
  });
  const session = await browser.newBrowserCDPSession();
  const pauses = new Pauses({
    "the server": () => fetch(`${parlor.url}/healthz`),
    "the browser": () => session.send("Browser.getVersion"),
  });
  try {
    const shared = { parlor, browser, site: `http://localhost:${pages.address().port}/`, consoles, figures };
    const long = ({ long: isLong }) => Number(isLong ?? false);
    const together = wanted.filter(({ alone }) => !alone).sort((one, other) => long(other) - long(one));
    await playAll(shared, together, Number(options["at-once"]));
    await playAll(shared, wanted.filter(({ alone }) => alone), 1);
    // On a busy machine somebody is late now and then.
    for (const scenario of bad.size <= CHANCES ? [...bad] : []) {
      bad.delete(scenario);
      consoles.forget(scenario);
      await play(shared, scenario);
      if (!bad.has(scenario)) unsteady.push(scenario.name);
    }
  } finally {
    stoodStill.push(...pauses.end());
    await browser.close();
    pages.close();
  }
}

for (const file of readdirSync(new URL("scenarios", import.meta.url)).sort()) await import(`./scenarios/${file}`);
const wanted = options.only ? scenarios.filter(({ name }) => new RegExp(options.only).test(name)) : scenarios;
if (wanted.length === 0) broken.push("there is no such scenario");

const began = Date.now();
const parlor = await Parlor.start({ binary, database: options.database });
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => parlor.stop().then(() => process.exit(130)));
try {
  await playOn(parlor, wanted);
  await parlor.end("SIGTERM");
  broken.push(...parlor.complaints().map((line) => `the server logged: ${line}`));
  if (options["keep-log"]) copyFileSync(parlor.log, options["keep-log"]);
} finally {
  await parlor.stop();
}
if (!options.only) {
  broken.push(...travelled.missing().map((what) => `no scenario saw ${what}`));
  broken.push(...travelled.stale().map((what) => `event ${what} is said not to be seen and was`));
}

console.log(`\n${[...travelled.table(), ...consoles.report(), ...stoodStill, ...broken].join("\n")}`);
for (const [what, all] of figures) {
  const [sorted, count] = [all.toSorted((one, other) => one - other).map(Math.round), all.length];
  console.log(`${what}: ${count} times, half of them within ${sorted[Math.floor(count / 2)]} ms, from ${sorted[0]} to ${sorted.at(-1)} ms`);
}
if (unsteady.length) console.log(`\nonly well at the second try: ${unsteady.join("; ")}`);
const failed = [...bad].map(({ name }) => name);
console.log(`\n${wanted.length - failed.length} of ${wanted.length} scenarios passed in ${Math.round((Date.now() - began) / 1000)} s`
  + `${failed.length ? `; failed: ${failed.join("; ")}` : ""}`);
process.exit(failed.length + broken.length === 0 ? 0 : 1);
