// One person: a browser context of their own with the unmodified SDK in a page.

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { Cable, MediaCable } from "./cable.mjs";
import { NAME } from "./parlor.mjs";

/** Requests that the SDK waits for: each must be answered, under its id, with what was asked for or an error. */
const AWAITED = new Set([
  2, 3, 5, 12, 18, 19, 20, 21, 22, 23, 29, 65536, 65539, 65540, 65541, 65546, 131082, 196609, 327680, 327681,
  50331649, 50331650, 50331651, 50331654, 50331655, 50331656, 50331664, 50331665, 50331667, 50331668, 50331698, 50331741,
  50331742,
]);

/** How long something that must happen may take. */
const PATIENCE_MS = 15_000;

export class Person {
  /**
   * Opens a page for somebody who was added to a meeting. They are not in it yet.
   * @param {import("./suite.mjs").World} world @param {object} added the answer to adding them
   * @param {{cable?: boolean, mediaCable?: boolean}} [options] with a cable, the line can be pulled
   */
  static async open(world, added, { cable = false, mediaCable = false } = {}) {
    const person = new Person();
    Object.assign(person, { world, userId: added.id, token: added.token, name: added.name, customId: added.custom_participant_id });
    person.cable = cable ? await Cable.to(world.parlor.tlsPort) : null;
    person.mediaCable = mediaCable ? await MediaCable.to(world.parlor.mediaPort) : null;
    person.context = await world.browser.newContext({ permissions: ["microphone", "camera"] });
    person.refusals = [];
    person.pending = new Map();
    await person.context.exposeBinding("parlorSaw", ({ page }, frame) => person.saw(page, frame));
    await person.context.addInitScript({ path: world.page("wire.js") });
    if (mediaCable) {
      const detour = { from: world.parlor.mediaPort, to: person.mediaCable.port };
      await person.context.addInitScript(`window.mediaDetour = ${JSON.stringify(detour)};`);
    }
    await person.load();
    return person;
  }

  /** Keeps account of a frame: what was asked and not answered yet, what was refused, what has no payload. */
  saw(page, { socket, direction, event, id, at, isBare, refusal }) {
    if (direction === "closed") {
      for (const [key, asked] of this.pending) if (asked.page === page && asked.socket === socket) this.pending.delete(key);
      return;
    }
    this.world.saw(direction, event);
    if (refusal) this.refusals.push({ event, text: refusal });
    if (direction === "up" && AWAITED.has(event)) this.pending.set(id, { page, socket, event, sent: at, since: Date.now() });
    if (direction === "down") {
      const asked = this.pending.get(id);
      if (asked) this.world.slowest.set(asked.event, Math.max(at - asked.sent, this.world.slowest.get(asked.event) ?? 0));
      this.pending.delete(id);
      if (isBare) this.world.faults.add(`event ${event} came without a payload`);
    }
  }

  /** What was asked over sockets that are still open, and not answered for two seconds. */
  unanswered() {
    return [...this.pending.values()].filter(({ page, since }) => !page.isClosed() && page === this.page && Date.now() - since > 2000)
      .map(({ event }) => `${this.name} got no answer to ${event}`);
  }

  /** Loads the page anew, as a reload would, with nobody in it. */
  async load() {
    await this.page?.close();
    this.page = await this.context.newPage();
    this.world.listen(this.page, this.name);
    this.seen = [];
    this.from = 0;
    await this.page.goto(this.world.site);
  }

  /** The authority that the SDK is given. */
  get base() {
    return `${NAME}:${this.cable?.port ?? this.world.parlor.tlsPort}`;
  }

  /** `RealtimeKitClient.init`. Microphone and camera are off unless `options.defaults` says otherwise. */
  async init(options = {}) {
    const all = { authToken: this.token, baseURI: this.base, defaults: { audio: false, video: false }, ...options };
    await this.world.door.pass(() => this.page.evaluate((given) => window.enter(given), all));
    return this;
  }

  join() {
    return this.do((m) => m.join());
  }

  async enter(options) {
    await this.init(options);
    await this.join();
    return this;
  }

  leave() {
    return this.do((m) => m.leave());
  }

  /** Closes the page at once, without a word to the SDK. */
  async vanish() {
    await this.page.close();
  }

  /** Runs a function in the page with the SDK's client. What it returns must be plain. */
  do(run, given) {
    return this.page.evaluate(`Promise.resolve((${run})(window.meeting, ${JSON.stringify(given) ?? "undefined"}))`);
  }

  /** Runs what must fail, and returns how it failed. */
  async fails(run, given) {
    const outcome = await this.page.evaluate(`(async () => {
      try { return { value: plain(await (${run})(window.meeting, ${JSON.stringify(given) ?? "undefined"})) }; }
      catch (error) { return { error: plain(error) }; }
    })()`);
    assert(outcome.error, `${this.name}: ${run} succeeded with ${JSON.stringify(outcome.value)}`);
    return outcome.error;
  }

  /** Waits until a function gives `expected` in the page. */
  async becomes(run, expected, given, patience = PATIENCE_MS) {
    const deadline = Date.now() + patience;
    for (;;) {
      const actual = await this.do(run, given);
      try {
        assert.deepEqual(actual, expected);
        return actual;
      } catch (error) {
        if (Date.now() < deadline) await sleep(60);
        else throw Object.assign(error, { message: `${this.name}: ${run}\n${error.message}` });
      }
    }
  }

  /** Waits until a function gives something true in the page, and returns that. */
  async until(run, given, patience = PATIENCE_MS) {
    const deadline = Date.now() + patience;
    for (;;) {
      const actual = await this.do(run, given);
      if (actual) return actual;
      if (Date.now() > deadline) throw new Error(`${this.name}: ${run} stayed ${JSON.stringify(actual)}`);
      await sleep(60);
    }
  }

  /** Checks for `ms` that a function gives `expected` all the time: what must not happen does not. */
  async stays(run, expected, ms, given) {
    const deadline = Date.now() + ms;
    do {
      assert.deepEqual(await this.do(run, given), expected, `${this.name}: ${run}`);
      await sleep(100);
    } while (Date.now() < deadline);
  }

  /** Forgets the events so far, for {@link event} and {@link events}. */
  async mark() {
    this.from = await this.page.evaluate(() => window.happened.length);
  }

  /** The values of every event of that name since the last mark. */
  async events(from, name) {
    const all = await this.page.evaluate((start) => window.happened.slice(start), this.from);
    return all.filter((one) => one.from === from && one.name === name).map((one) => one.values);
  }

  /** Waits for an event since the last mark whose first value `fits`; its values. */
  async event(from, name, fits = () => true, patience = PATIENCE_MS) {
    const deadline = Date.now() + patience;
    for (;;) {
      const found = (await this.events(from, name)).find((values) => fits(...values));
      if (found) return found;
      if (Date.now() > deadline) {
        const all = await this.page.evaluate((start) => window.happened.slice(start), this.from);
        throw new Error(`${this.name}: no event ${name} of ${from}; there were ${all.slice(-25).map((one) => `${one.from}:${one.name}`).join(" ")}`);
      }
      await sleep(60);
    }
  }

  /** What the server refused this person, as its error replies say. */
  async refusal(pattern, patience = PATIENCE_MS) {
    const deadline = Date.now() + patience;
    for (;;) {
      const found = this.refusals.find((one) => pattern.test(one.text));
      if (found) return found;
      if (Date.now() > deadline) throw new Error(`${this.name}: no refusal like ${pattern}; there were ${JSON.stringify(this.refusals)}`);
      await sleep(60);
    }
  }

  get peerId() {
    return this.do((m) => m.self.id);
  }

  get roomState() {
    return this.do((m) => m.self.roomState);
  }

  /** For the report of a failure. */
  async snapshot() {
    if (!this.page || this.page.isClosed()) return `${this.name}: page closed`;
    const told = await Promise.race([
      sleep(3000, "does not answer"),
      this.page.evaluate(() => JSON.stringify({
        state: window.meeting?.self.roomState, names: window.meeting && names(window.meeting),
        waiting: window.meeting?.participants.waitlisted.toArray().map((one) => one.name),
        sockets: window.sockets.map(({ closed, pings }) => ({ closed, pings })).slice(-3),
        clientErrors: window.clientErrors.slice(-3),
        last: window.happened.slice(-12).map((one) => `${one.from}:${one.name}`).join(" "),
      })).catch((error) => error.message),
    ]);
    return `${this.name}: ${told}${this.refusals.length ? ` refused: ${JSON.stringify(this.refusals.slice(-5))}` : ""}`;
  }

  async close() {
    await this.context.close();
    this.cable?.remove();
    await this.mediaCable?.remove();
  }
}
