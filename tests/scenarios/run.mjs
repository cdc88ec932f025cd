// Plays every scenario against one server, several at a time.
//
//   node run.mjs BINARY [--database URL] [--only PATTERN] [--at-once N] [--keep-log FILE]

import { copyFileSync, readdirSync } from "node:fs";
import { createServer } from "node:http";
import { once } from "node:events";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";
import { Consoles } from "./console.mjs";
import { USED, UNSEEN, nameOf } from "./events.mjs";
import { NAME, Parlor } from "./parlor.mjs";
import { World, scenarios, site } from "./suite.mjs";

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
  "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
  // Nothing but this machine can be reached, whatever the SDK asks for.
  `--host-resolver-rules=MAP *.${NAME} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1`,
];

for (const file of readdirSync(new URL("scenarios", import.meta.url)).sort()) await import(`./scenarios/${file}`);
const wanted = options.only ? scenarios.filter(({ name }) => new RegExp(options.only).test(name)) : scenarios;

const began = Date.now();
const parlor = await Parlor.start({ binary, database: options.database });
const pages = createServer((request, response) => {
  const [type, content] = site.get(new URL(request.url, "http://localhost").pathname) ?? ["text/plain", undefined];
  response.writeHead(content ? 200 : 404, { "Content-Type": type });
  response.end(content);
}).listen(0, "localhost");
await once(pages, "listening");
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: [...FLAGS, `--ignore-certificate-errors-spki-list=${await parlor.authorityHash()}`],
});

const shared = { parlor, browser, site: `http://localhost:${pages.address().port}/`, consoles: new Consoles(), slowest: new Map() };
/** @type {Map<number, {up: number, down: number, scenarios: string[]}>} */
const travelled = new Map();
const failed = [];

/** An error without the frames that are not of a scenario. @param {Error} error */
function told(error) {
  return (error.stack ?? String(error)).split("\n").filter((line) => !/^ {4}at /.test(line) || line.includes("/scenarios/scenarios/")).join("\n");
}

/** @param {import("./suite.mjs").Scenario} scenario */
async function play(scenario) {
  const started = Date.now();
  const world = new World(shared, scenario);
  let problem;
  try {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`took longer than ${scenario.seconds} s`)), scenario.seconds * 1000);
    });
    await Promise.race([scenario.play(world), late]).finally(() => clearTimeout(timer));
    const missing = scenario.sees.filter((event) => !world.frames.has(event));
    if (missing.length) throw new Error(`events that did not travel: ${missing.map((one) => `${one} ${nameOf(one)}`).join(", ")}`);
    const mayBeRefused = scenario.sees.includes(65535) || scenario.sees.includes(50331708);
    const refusals = mayBeRefused ? [] : world.persons.flatMap((person) => person?.refusals.map(({ text }) => `${person.name} was refused: ${text}`) ?? []);
    const faults = [...world.faults, ...refusals, ...world.persons.flatMap((person) => person?.unanswered() ?? [])];
    if (faults.length) throw new Error(faults.join("\n"));
  } catch (error) {
    problem = [
      told(error),
      ...await Promise.all(world.persons.map((person) => person?.snapshot() ?? "(not opened)")),
    ].join("\n");
  }
  await world.close();
  for (const [event, { up, down }] of world.frames) {
    const sum = travelled.get(event) ?? { up: 0, down: 0, scenarios: [] };
    sum.up += up;
    sum.down += down;
    sum.scenarios.push(scenario.name);
    travelled.set(event, sum);
  }
  const noise = shared.consoles.of(scenario);
  const seconds = ((Date.now() - started) / 1000).toFixed(1).padStart(5);
  console.log(`${problem ? "FAILED" : noise.length ? "NOISY " : "ok    "} ${seconds} s  ${scenario.name}`);
  if (problem) {
    failed.push(scenario.name);
    console.log(problem.replace(/^/gm, "          "));
  }
  const lines = new Map();
  for (const { who, text } of noise) lines.set(text, [...(lines.get(text) ?? []), who]);
  for (const [text, whos] of lines) console.log(`          ${[...new Set(whos)].join(", ")} (${whos.length} ×) ${text}`.replace(/\n/g, "\n            "));
}

/** Plays them so many at a time, in their order. */
async function playAll(list, atOnce) {
  const waiting = [...list];
  await Promise.all(Array.from({ length: atOnce }, async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) await play(next);
  }));
}

const together = wanted.filter(({ alone }) => !alone);
await playAll(together.sort((one, other) => Number(other.long ?? false) - Number(one.long ?? false)), Number(options["at-once"]));
await playAll(wanted.filter(({ alone }) => alone), 1);

await browser.close();
pages.close();
await parlor.end("SIGTERM");
const complaints = parlor.complaints();
if (options["keep-log"]) copyFileSync(parlor.log, options["keep-log"]);
await parlor.stop();

console.log("\nevent       name                            up   down  seen in");
const unseen = [];
const all = new Set([...Object.keys(USED).map(Number), ...travelled.keys()]);
for (const event of [...all].sort((one, other) => one - other)) {
  const { up, down, scenarios: where } = travelled.get(event) ?? { up: 0, down: 0, scenarios: [] };
  for (const direction of (USED[event]?.[1] ?? "").split(" ").filter(Boolean)) {
    const key = `${event} ${direction}`;
    if ({ up, down }[direction] === 0 && !(key in UNSEEN)) unseen.push(`${key} ${nameOf(event)}`);
  }
  const places = where.length ? `${where.length}: ${where.slice(0, 2).join("; ")}${where.length > 2 ? "; …" : ""}` : (UNSEEN[`${event} down`] ?? "nowhere");
  console.log(`${String(event).padEnd(10)}  ${nameOf(event).padEnd(28)}${String(up).padStart(6)} ${String(down).padStart(6)}  ${places}`);
}

const slow = [...shared.slowest].sort(([, one], [, other]) => other - one).slice(0, 5);
console.log(`\nslowest answers: ${slow.map(([event, ms]) => `${nameOf(event)} ${Math.round(ms)} ms`).join(", ")}`);
console.log(`${shared.consoles.report().join("\n")}`);
for (const line of complaints) console.log(`the server logged: ${line}`);
if (unseen.length && !options.only) console.log(`\nevents that the SDK uses and no scenario saw: ${unseen.join(", ")}`);
const good = failed.length === 0 && shared.consoles.unexpected.length === 0 && complaints.length === 0
  && wanted.length > 0 && (options.only || unseen.length === 0);
console.log(`\n${wanted.length - failed.length} of ${wanted.length} scenarios passed in ${Math.round((Date.now() - began) / 1000)} s`
  + `${failed.length ? `; failed: ${failed.join("; ")}` : ""}`);
process.exit(good ? 0 : 1);
