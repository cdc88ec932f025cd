// Defines scenarios, and the context in which each of them runs.

import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";
import { Participant } from "./participant.mjs";

/** @type {Scenario[]} */
export const scenarios = [];

/**
 * Options of a scenario.
 * @typedef {object} ScenarioOptions
 * @property {number[]} events numbers of the socket events that must be observed, in either direction
 * @property {import("./console.mjs").Allowance[]} [allowedMessages] in addition to those in console.mjs
 * @property {number} [timeoutSeconds]
 * @property {boolean} [isLong] it waits for a protocol timeout, so it is started before the others
 * @property {boolean} [isHeavy] it keeps a processor busy
 * @property {boolean} [isExclusive] no other scenario may run at the same time
 */

/** @typedef {ScenarioOptions & {name: string, run: (context: ScenarioContext) => Promise<void>}} Scenario */

/**
 * Registers a scenario.
 * @param {string} name a sentence @param {ScenarioOptions} options @param {(context: ScenarioContext) => Promise<void>} run
 */
export function scenario(name, options, run) {
  scenarios.push({ timeoutSeconds: 90, ...options, name, run });
}

const NAMES = ["Ada", "Bob", "Cem", "Dee", "Eli", "Fay"];

/** Limits the number of concurrent tasks; the others wait in order. */
class Semaphore {
  constructor(permits) {
    this.available = permits;
    this.waiting = [];
  }

  async run(task) {
    if (this.available > 0) this.available -= 1;
    else await new Promise((resolve) => { this.waiting.push(resolve); });
    try {
      return await task();
    } finally {
      const next = this.waiting.shift();
      if (next) next();
      else this.available += 1;
    }
  }
}

/**
 * Limits how many SDKs initialise at once. The SDK gives up after three seconds, and more SDKs than
 * processors only delay each other.
 */
const INIT_SEMAPHORE = new Semaphore(3);

export class ScenarioContext {
  initSemaphore = INIT_SEMAPHORE;

  /** @param {object} shared server, browser, siteUrl, consoles and measurements @param {Scenario} scenario */
  constructor(shared, scenario) {
    Object.assign(this, shared);
    this.scenario = scenario;
    /** @type {Participant[]} */
    this.participants = [];
    /** The number of frames in each direction, by event. @type {Map<number, {up: number, down: number}>} */
    this.frames = new Map();
    /** Malformed frames from the server. @type {Set<string>} */
    this.malformedFrames = new Set();
    /** The longest response time in milliseconds, by event. @type {Map<number, number>} */
    this.slowestReplies = new Map();
  }

  /** Violations of the socket protocol: frames without a payload, unanswered requests, and unexpected error replies. */
  protocolErrors() {
    const participants = this.participants.filter(Boolean);
    const expectsErrors = this.scenario.events.includes(65535) || this.scenario.events.includes(50331708);
    return [
      ...this.malformedFrames, ...participants.flatMap((one) => one.unansweredRequests()),
      ...(expectsErrors ? [] : participants.flatMap((one) => one.errorReplies.map(({ text }) => `${one.name} got an unexpected error reply: ${text}`))),
    ];
  }

  /** Records a duration for the report. It has no influence on the result. @param {string} what @param {number} ms */
  recordMeasurement(what, ms) {
    this.measurements.set(what, [...this.measurements.get(what) ?? [], ms]);
  }

  pageFile(file) {
    return fileURLToPath(new URL(`page/${file}`, import.meta.url));
  }

  countFrame(direction, event) {
    const count = this.frames.get(event) ?? { up: 0, down: 0 };
    count[direction] += 1;
    this.frames.set(event, count);
  }

  monitorConsole(page, name) {
    this.consoles.monitor(page, this.scenario, name);
  }

  /** Adds a participant to a meeting and opens a page for them, without joining. */
  async addParticipant(meeting, details, options) {
    const index = this.participants.length;
    const added = await this.server.addParticipant(meeting, {
      name: NAMES[index % NAMES.length], custom_participant_id: `participant-${index}`, ...details,
    });
    return this.openParticipant(added, options);
  }

  /** Opens a page for a participant that has been added. */
  async openParticipant(added, options) {
    const index = this.participants.push(null) - 1;
    const participant = await Participant.open(this, added, options);
    this.participants[index] = participant;
    return participant;
  }

  /**
   * Adds one participant for each preset to a meeting; all of them join concurrently.
   * @param {object} meeting @param {string[]} presets
   * @param {{enter?: boolean, socketProxy?: boolean, mediaProxy?: boolean, init?: object}} [options] `enter: false` only opens their pages
   */
  async addParticipants(meeting, presets, { enter = true, init, ...options } = {}) {
    const first = this.participants.length;
    const all = [];
    for (const [index, preset_name] of presets.entries()) {
      const details = { name: NAMES[(first + index) % NAMES.length], custom_participant_id: `participant-${first + index}`, preset_name };
      all.push(await this.server.addParticipant(meeting, details));
    }
    const participants = await Promise.all(all.map((added) => this.openParticipant(added, options)));
    if (enter) await Promise.all(participants.map((participant) => participant.enter(init)));
    return participants;
  }

  async close() {
    await Promise.all(this.participants.map((participant) => participant?.close().catch(() => {})));
  }
}

/** The files of the site that serves the participants' pages. */
const site = new Map([
  ["/", ["text/html", read("page/index.html")]],
  ["/participant.js", ["text/javascript", read("page/participant.js")]],
  ["/media.js", ["text/javascript", read("page/media.js")]],
  ["/sdk.js", ["text/javascript", readFileSync(new URL("dist/browser.js", sdkDirectory()))]],
  ["/e2ee.js", ["text/javascript", readFileSync(new URL("dist/EncryptionManager.es.js", sdkDirectory()))]],
]);

/** Serves the participants' pages on localhost, which browsers treat as a secure context. */
export async function servePages() {
  const pages = createServer((request, response) => {
    const [type, content] = site.get(new URL(request.url, "http://localhost").pathname) ?? ["text/plain", undefined];
    response.writeHead(content ? 200 : 404, { "Content-Type": type });
    response.end(content);
  });
  pages.listen(0, "localhost");
  await once(pages, "listening");
  return pages;
}

function read(file) {
  return readFileSync(new URL(file, import.meta.url));
}

/** The directory in which npm has installed the SDK. */
function sdkDirectory() {
  return new URL("node_modules/@cloudflare/realtimekit/", import.meta.url);
}
