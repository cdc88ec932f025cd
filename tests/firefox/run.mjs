// Runs scenarios with the official web SDK in Firefox, together with participants in Firefox and Chromium.
//
//   node tests/firefox/run.mjs BINARY [--only PATTERN] [--keep-log FILE]
//
// Needs the packages that scripts/scenarios installs, and Firefox (apt-get install firefox-esr).

import assert from "node:assert/strict";
import { copyFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { ConsoleMonitor } from "../../target/scenarios/console.mjs";
import {
  CALL_PRESETS, MEDIA_ON, SCREEN_ASPECT, aspectRatio, expectAudio, expectMutualMedia, expectNoVideo, expectScreenAudio, expectScreenVideo,
  expectSilence, expectVideo, producers,
} from "../../target/scenarios/media.mjs";
import { ServerProcess, TLS_NAME } from "../../target/scenarios/server.mjs";
import { ScenarioContext, servePages } from "../../target/scenarios/suite.mjs";
import { chromium, ownAddress, startFirefox } from "./firefox.mjs";

const { values: options, positionals: [binary] } = parseArgs({
  allowPositionals: true,
  options: { only: { type: "string" }, "keep-log": { type: "string" } },
});

const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-dev-shm-usage", "--mute-audio", "--use-fake-device-for-media-stream=fps=10", "--use-fake-ui-for-media-stream",
  "--autoplay-policy=no-user-gesture-required", "--ignore-certificate-errors",
  `--host-resolver-rules=MAP *.${TLS_NAME} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1, EXCLUDE ${ownAddress()}`,
];

/** The timeout of each scenario. */
const TIMEOUT_SECONDS = 90;

/** @typedef {import("../../target/scenarios/participant.mjs").Participant} Participant */

/** @type {import("../../target/scenarios/suite.mjs").Scenario[]} */
const scenarios = [];
const scenario = (name, run) => scenarios.push({ name, events: [], run });

/**
 * Adds participants who join one after another, each in a browser.
 * @param {ScenarioContext} context @param {Record<string, "firefox" | "chromium">} browsers
 */
async function enter(context, browsers, init = MEDIA_ON) {
  const meeting = await context.server.createMeeting();
  const participants = [];
  for (const [name, browser] of Object.entries(browsers)) {
    context.browser = context.browsers[browser];
    const preset_name = context.presets?.[name] ?? CALL_PRESETS[participants.length ? 1 : 0];
    const participant = await context.addParticipant(meeting, { name, preset_name });
    participants.push(await participant.enter(init));
  }
  return participants;
}

/**
 * Turns the sender's camera and microphone off and on, and checks the effect at the receiver.
 * @param {Participant} sender @param {Participant} receiver
 */
async function checkCameraAndMicrophone(sender, receiver) {
  const { name } = sender;
  const waitForState = (property, isOn) => receiver.eventually((m, [who, key]) => byName(m, who)[key], isOn, [name, property]);
  for (let round = 0; round < 2; round += 1) {
    await sender.evaluate((m) => m.self.disableVideo());
    await waitForState("videoEnabled", false);
    await expectNoVideo(receiver, name, 500);
    await sender.evaluate((m) => m.self.enableVideo());
    await waitForState("videoEnabled", true);
    await expectVideo(receiver, name);
  }
  await sender.evaluate((m) => m.self.disableAudio());
  await waitForState("audioEnabled", false);
  await expectSilence(receiver, name);
  await sender.evaluate((m) => m.self.enableAudio());
  await waitForState("audioEnabled", true);
  await expectAudio(receiver, name);
}

/** Shares the sender's screen twice, and checks its video and audio at the receiver. */
async function checkScreenShare(sender, receiver) {
  const { name } = sender;
  const waitForState = (isOn) => receiver.eventually((m, who) => byName(m, who).screenShareEnabled, isOn, name);
  await sender.evaluate(() => window.media.fakeScreen());
  for (let round = 0; round < 2; round += 1) {
    await sender.evaluate((m) => m.self.enableScreenShare());
    await waitForState(true);
    assert.equal(aspectRatio(await expectScreenVideo(receiver, name)), SCREEN_ASPECT);
    await expectScreenAudio(receiver, name);
    await expectVideo(receiver, name);
    await sender.evaluate((m) => m.self.disableScreenShare());
    await waitForState(false);
    await receiver.eventually(producers, { [name]: ["audio", "video"] });
  }
  await expectVideo(receiver, name);
}

scenario("two participants in Firefox see and hear each other, directly over UDP", async (context) => {
  const participants = await enter(context, { Ada: "firefox", Bob: "firefox" });
  await expectMutualMedia(participants);
  for (const participant of participants) {
    const pairs = await participant.evaluate(() => window.media.candidatePairs());
    assert.deepEqual(pairs.map(({ protocol, relay }) => [protocol, relay ?? "direct"]), [["udp", "direct"], ["udp", "direct"]], participant.name);
  }
});

scenario("cameras, microphones and screens are turned off and on between Firefox and Chromium", async (context) => {
  const [ada, bob] = await enter(context, { Ada: "firefox", Bob: "chromium" });
  await expectMutualMedia([ada, bob]);
  const pairs = [[ada, bob], [bob, ada]];
  await Promise.all(pairs.map(([sender, receiver]) => checkCameraAndMicrophone(sender, receiver)));
  for (const [sender, receiver] of pairs) await checkScreenShare(sender, receiver);
});

scenario("a small video element receives a low layer from Firefox, and a large one a high layer", async (context) => {
  const layers = { config: { media: { video: { quality: "hd", frame_rate: 15, simulcast: true } } } };
  context.presets = { Ada: await context.server.createPreset(CALL_PRESETS[0], layers) };
  const [ada, bob] = await enter(context, { Ada: "firefox", Bob: "chromium" }, {});
  await ada.evaluate((m) => m.self.enableVideo(window.media.animationTrack(1280, 720)));
  await expectVideo(bob, "Ada");
  const sent = await ada.evaluate(() => window.media.sentStats());
  const rids = sent.filter(({ frames }) => frames > 0).map(({ rid }) => rid);
  assert(rids.length > 1, `Ada sends only one layer: ${rids}`);
  const checkWidth = async (elementWidth, matches) => {
    await bob.evaluate((m, width) => {
      Object.assign(window.media.cameraElement(byName(m, "Ada")).style, { width: `${width}px`, height: `${width * 9 / 16}px` });
    }, elementWidth);
    await bob.waitFor(`async (m) => (${matches})((await window.media.videoStats(byName(m, "Ada"))).width)`, undefined, 30_000);
  };
  await checkWidth(160, (width) => width > 0 && width <= 320);
  await checkWidth(1280, (width) => width >= 640);
});

/** Runs a scenario. Fails when it times out or violates the protocol. @param {ScenarioContext} context */
async function runChecked(context) {
  let timer;
  const timeout = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`timed out after ${TIMEOUT_SECONDS} s`)), TIMEOUT_SECONDS * 1000);
  });
  await Promise.race([context.scenario.run(context), timeout]).finally(() => clearTimeout(timer));
  const errors = context.protocolErrors();
  if (errors.length) throw new Error(errors.join("\n"));
}

/** Runs a scenario, prints the result, and returns whether it passed. */
async function runScenario(shared, scenario) {
  const started = Date.now();
  const context = new ScenarioContext(shared, scenario);
  const failure = await runChecked(context).then(() => undefined, async (error) =>
    [error.stack, ...await Promise.all(context.participants.map((one) => one?.describe() ?? "(page not open)"))].join("\n"));
  await context.close();
  const messages = context.consoles.unexpectedIn(scenario);
  const seconds = ((Date.now() - started) / 1000).toFixed(1).padStart(5);
  console.log(`${failure ? "FAILED" : messages.length ? "NOISY " : "ok    "} ${seconds} s  ${scenario.name}`);
  for (const line of [...(failure ? [failure] : []), ...messages]) console.log(line.replace(/^/gm, "          "));
  return !failure && messages.length === 0;
}

/** Starts a server whose media address Firefox can reach. */
async function startServer() {
  const server = await ServerProcess.start({ binary });
  await server.kill("SIGTERM");
  server.arguments[server.arguments.indexOf("--media-listen") + 1] = `${ownAddress()}:${server.mediaPort}`;
  await server.launch();
  return server;
}

const selected = scenarios.filter(({ name }) => new RegExp(options.only ?? "").test(name));
const failures = [];
const started = Date.now();
const server = await startServer();
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => server.stop().then(() => process.exit(130)));
try {
  const [pages, firefoxBrowser, chromiumBrowser] = await Promise.all([
    servePages(), startFirefox(), chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS }),
  ]);
  console.log(`Firefox ${firefoxBrowser.version}, Chromium ${chromiumBrowser.version()}`);
  try {
    const shared = {
      server, browsers: { firefox: firefoxBrowser, chromium: chromiumBrowser }, siteUrl: `http://localhost:${pages.address().port}/`,
      consoles: new ConsoleMonitor(), measurements: new Map(),
    };
    for (const one of selected) if (!await runScenario(shared, one)) failures.push(one.name);
  } finally {
    await Promise.all([firefoxBrowser.close(), chromiumBrowser.close()]);
    pages.close();
  }
  await server.kill("SIGTERM");
  failures.push(...server.loggedErrors().map((line) => `the server logged: ${line}`));
  if (options["keep-log"]) copyFileSync(server.log, options["keep-log"]);
} finally {
  await server.stop();
}
if (selected.length === 0) failures.push(`no scenario matches ${options.only}`);
console.log(`\n${failures.length ? `failed: ${failures.join("; ")}` : `all ${selected.length} passed`} in ${Math.round((Date.now() - started) / 1000)} s`);
process.exit(failures.length === 0 ? 0 : 1);
