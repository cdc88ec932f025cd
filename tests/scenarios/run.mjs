// Runs the scenarios against one server, several at a time.
//
//   node run.mjs BINARY [--database URL] [--only PATTERN] [--at-once N] [--keep-log FILE]

import { copyFileSync, readdirSync } from "node:fs";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";
import { ConsoleMonitor } from "./console.mjs";
import { EventCoverage } from "./event-coverage.mjs";
import { nameOf } from "./events.mjs";
import { ServerProcess, TLS_NAME } from "./server.mjs";
import { StallMonitor } from "./stall-monitor.mjs";
import { ScenarioContext, scenarios, servePages } from "./suite.mjs";

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
  // The browser can reach only this machine, whatever the SDK requests.
  `--host-resolver-rules=MAP *.${TLS_NAME} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1`,
];

const consoles = new ConsoleMonitor();
const coverage = new EventCoverage();
/** Scenarios that failed or logged unexpected console messages. @type {Set<import("./suite.mjs").Scenario>} */
const failures = new Set();
/** Measured durations in milliseconds, by description. @type {Map<string, number[]>} */
const measurements = new Map();
/** Scenarios that failed and are repeated. @type {import("./suite.mjs").Scenario[]} */
const repeated = [];
/** How many scenarios may be repeated in a run in which nothing stalled. The SDK gives up after three seconds. */
const MAX_REPEATED = 2;
/** Reports of stalls. @type {string[]} */
const stalls = [];
/** Problems that do not belong to a scenario. @type {string[]} */
const problems = [];
// The pending operations of a scenario that timed out are rejected later.
process.on("unhandledRejection", (error) => problems.push(`unhandled rejection: ${error?.stack ?? error}`));

/** The stack of an error, with the frames of scenario files only. @param {Error} error */
function scenarioStack(error) {
  return (error.stack ?? String(error)).split("\n").filter((line) => !/^ {4}at /.test(line) || line.includes("/scenarios/scenarios/")).join("\n");
}

/** Runs a scenario. Fails when it times out, misses an event, or violates the protocol. @param {ScenarioContext} context */
async function runChecked(context) {
  const { scenario } = context;
  let timer;
  const timeout = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`timed out after ${scenario.timeoutSeconds} s`)), scenario.timeoutSeconds * 1000);
  });
  await Promise.race([scenario.run(context), timeout]).finally(() => clearTimeout(timer));
  const missing = scenario.events.filter((event) => !context.frames.has(event));
  const errors = [...missing.map((event) => `event ${event} ${nameOf(event)} was not observed`), ...context.protocolErrors()];
  if (errors.length) throw new Error(errors.join("\n"));
}

/** Runs a scenario and prints the result. @param {object} shared @param {import("./suite.mjs").Scenario} scenario */
async function runScenario(shared, scenario) {
  const started = Date.now();
  const since = shared.monitor.now();
  const context = new ScenarioContext(shared, scenario);
  const failure = await runChecked(context).then(() => undefined, async (error) =>
    [scenarioStack(error), ...await Promise.all(context.participants.map((one) => one?.describe() ?? "(page not open)"))].join("\n"));
  await context.close();
  coverage.add(context);
  const messages = consoles.unexpectedIn(scenario);
  // Timeouts mean nothing while the machine does not run the test. Each scenario is repeated only once.
  const isExcused = shared.monitor.hasStalledSince(since) || repeated.length < MAX_REPEATED;
  const isRepeated = Boolean(failure) && isExcused && !repeated.includes(scenario);
  if (isRepeated) repeated.push(scenario);
  else if (failure || messages.length) failures.add(scenario);
  const seconds = ((Date.now() - started) / 1000).toFixed(1).padStart(5);
  console.log(`${isRepeated ? "REPEAT" : failure ? "FAILED" : messages.length ? "NOISY " : "ok    "} ${seconds} s  ${scenario.name}`);
  for (const line of [...(failure ? [failure] : []), ...messages]) console.log(line.replace(/^/gm, "          "));
}

/** Runs scenarios concurrently, in order. Only one heavy scenario runs at a time until all others have been started. */
async function runAll(shared, list, concurrency) {
  const [heavy, light] = [true, false].map((kind) => list.filter(({ isHeavy = false }) => isHeavy === kind));
  await Promise.all(Array.from({ length: concurrency }, async (_, index) => {
    const queues = index === 0 ? [heavy, light] : [light, heavy];
    const next = () => queues.find((queue) => queue.length)?.shift();
    for (let scenario = next(); scenario; scenario = next()) await runScenario(shared, scenario);
  }));
}

/** @param {ServerProcess} server @param {import("./suite.mjs").Scenario[]} selected */
async function runSelected(server, selected) {
  const pages = await servePages();
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [...FLAGS, `--ignore-certificate-errors-spki-list=${await server.authorityKeyHash()}`],
  });
  const session = await browser.newBrowserCDPSession();
  const monitor = new StallMonitor({
    "the server": () => fetch(`${server.url}/healthz`),
    "the browser": () => session.send("Browser.getVersion"),
  });
  try {
    const shared = { monitor, server, browser, siteUrl: `http://localhost:${pages.address().port}/`, consoles, measurements };
    const rank = ({ isLong }) => Number(isLong ?? false);
    const concurrent = selected.filter(({ isExclusive }) => !isExclusive).sort((one, other) => rank(other) - rank(one));
    await runAll(shared, concurrent, Number(options["at-once"]));
    await runAll(shared, selected.filter(({ isExclusive }) => isExclusive), 1);
    for (const scenario of [...repeated]) {
      consoles.forget(scenario);
      await runScenario(shared, scenario);
    }
  } finally {
    stalls.push(...monitor.stop());
    await browser.close();
    pages.close();
  }
}

for (const file of readdirSync(new URL("scenarios", import.meta.url)).sort()) await import(`./scenarios/${file}`);
const selected = options.only ? scenarios.filter(({ name }) => new RegExp(options.only).test(name)) : scenarios;
if (selected.length === 0) problems.push(`no scenario matches ${options.only}`);

const started = Date.now();
const server = await ServerProcess.start({ binary, database: options.database });
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => server.stop().then(() => process.exit(130)));
try {
  await runSelected(server, selected);
  await server.kill("SIGTERM");
  problems.push(...server.loggedErrors().map((line) => `the server logged: ${line}`));
  if (options["keep-log"]) copyFileSync(server.log, options["keep-log"]);
} finally {
  await server.stop();
}
if (!options.only) {
  problems.push(...coverage.missing().map((event) => `no scenario covered ${event}`));
  problems.push(...coverage.stale().map((event) => `event ${event} is listed in NOT_COVERED but was observed`));
}

console.log(`\n${[...coverage.table(), ...consoles.report(), ...stalls, ...problems].join("\n")}`);
for (const [what, all] of measurements) {
  const [sorted, count] = [all.toSorted((one, other) => one - other).map(Math.round), all.length];
  console.log(`${what}: ${count} measurements, median ${sorted[Math.floor(count / 2)]} ms, from ${sorted[0]} to ${sorted.at(-1)} ms`);
}
if (repeated.length) console.log(`\nrepeated: ${repeated.map(({ name }) => name).join("; ")}`);
const failed = [...failures].map(({ name }) => name);
console.log(`\n${selected.length - failed.length} of ${selected.length} scenarios passed in ${Math.round((Date.now() - started) / 1000)} s`
  + `${failed.length ? `; failed: ${failed.join("; ")}` : ""}`);
process.exit(failed.length + problems.length === 0 ? 0 : 1);
