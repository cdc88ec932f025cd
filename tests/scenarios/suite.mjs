// What a scenario is, and the world it happens in.

import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";
import { Person } from "./person.mjs";

/** @type {Scenario[]} */
export const scenarios = [];

/**
 * What a scenario may say about itself.
 * @typedef {object} About
 * @property {number[]} sees event numbers that must travel in it, in one direction or the other
 * @property {{text: RegExp, reason: string}[]} [allows] console messages that belong to it, besides those of console.mjs
 * @property {number} [seconds] the most it may take
 * @property {boolean} [long] it waits for a time of the contract, so it is started before the others
 * @property {boolean} [isHeavy] it keeps a processor busy
 * @property {boolean} [alone] nothing else may happen at that time
 */

/** @typedef {About & {name: string, play: (world: World) => Promise<void>}} Scenario */

/** @param {string} name a sentence @param {About} about @param {(world: World) => Promise<void>} play */
export function scenario(name, about, play) {
  scenarios.push({ seconds: 90, ...about, name, play });
}

const NAMES = ["Ada", "Bob", "Cem", "Dee", "Eli", "Fay"];

/** Lets so many through at once; the others wait. */
class Door {
  constructor(width) {
    this.free = width;
    this.waiting = [];
  }

  async pass(run) {
    if (this.free > 0) this.free -= 1;
    else await new Promise((resolve) => { this.waiting.push(resolve); });
    try {
      return await run();
    } finally {
      const next = this.waiting.shift();
      if (next) next();
      else this.free += 1;
    }
  }
}

/**
 * How many may start an SDK at once. It gives up after three seconds, and more of them than there
 * are processors only make each other late.
 */
const STARTING = new Door(3);

export class World {
  door = STARTING;

  /** @param {object} shared parlor, browser, site, and who watches consoles @param {Scenario} scenario */
  constructor(shared, scenario) {
    Object.assign(this, shared);
    this.scenario = scenario;
    /** @type {Person[]} */
    this.persons = [];
    /** @type {Map<number, {up: number, down: number}>} */
    this.frames = new Map();
    /** @type {Set<string>} what the server did on the wire that it must never do */
    this.faults = new Set();
    /** @type {Map<number, number>} the slowest answer to a request, in milliseconds */
    this.slowest = new Map();
  }

  /** What was wrong on the wire: no payload, no answer, or a refusal where none is meant to be. */
  wireFaults() {
    const persons = this.persons.filter(Boolean);
    const isRefusing = this.scenario.sees.includes(65535) || this.scenario.sees.includes(50331708);
    return [
      ...this.faults, ...persons.flatMap((person) => person.unanswered()),
      ...(isRefusing ? [] : persons.flatMap((person) => person.refusals.map(({ text }) => `${person.name} was refused: ${text}`))),
    ];
  }

  /** Notes a duration, for the report: nothing fails by it. @param {string} what @param {number} ms */
  figure(what, ms) {
    this.figures.set(what, [...this.figures.get(what) ?? [], ms]);
  }

  page(file) {
    return fileURLToPath(new URL(`page/${file}`, import.meta.url));
  }

  saw(direction, event) {
    const count = this.frames.get(event) ?? { up: 0, down: 0 };
    count[direction] += 1;
    this.frames.set(event, count);
  }

  listen(page, who) {
    this.consoles.listen(page, this.scenario, who);
  }

  /** Adds somebody to the meeting and opens a page for them, without entering. */
  async person(meeting, about, options) {
    const index = this.persons.length;
    const added = await this.parlor.add(meeting, {
      name: NAMES[index % NAMES.length], custom_participant_id: `person-${index}`, ...about,
    });
    const person = await this.again(added, options);
    person.meeting = meeting;
    return person;
  }

  /** Opens a page for somebody who was added before. */
  async again(added, options) {
    const slot = this.persons.push(null) - 1;
    const person = await Person.open(this, added, options);
    this.persons[slot] = person;
    return person;
  }

  /**
   * Adds people with these presets to a meeting and lets all of them enter, at the same time.
   * @param {object} meeting @param {string[]} presets
   * @param {{enter?: boolean, cable?: boolean, mediaCable?: boolean, init?: object}} [options] `enter: false` only opens their pages
   */
  async people(meeting, presets, { enter = true, init, ...options } = {}) {
    const first = this.persons.length;
    const all = [];
    for (const [index, preset_name] of presets.entries()) {
      const about = { name: NAMES[(first + index) % NAMES.length], custom_participant_id: `person-${first + index}`, preset_name };
      all.push(await this.parlor.add(meeting, about));
    }
    const people = await Promise.all(all.map((added) => this.again(added, options)));
    if (enter) await Promise.all(people.map((person) => person.enter(init)));
    return people;
  }

  async close() {
    await Promise.all(this.persons.map((person) => person?.close().catch(() => {})));
  }
}

/** The files of the site that the pages come from. */
const site = new Map([
  ["/", ["text/html", read("page/index.html")]],
  ["/person.js", ["text/javascript", read("page/person.js")]],
  ["/media.js", ["text/javascript", read("page/media.js")]],
  ["/sdk.js", ["text/javascript", readFileSync(new URL("dist/browser.js", sdkHome()))]],
  ["/e2ee.js", ["text/javascript", readFileSync(new URL("dist/EncryptionManager.es.js", sdkHome()))]],
]);

/** Serves the pages that people are on. Its address is one that browsers think secure. */
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

/** Where npm has put the SDK. */
function sdkHome() {
  return new URL("node_modules/@cloudflare/realtimekit/", import.meta.url);
}
