// Whether the machine, the server or the browser stood still during a run: what is late then is nobody's fault.

import { setTimeout as sleep } from "node:timers/promises";

/** Between two looks, in ms. */
const EVERY = 500;

/** What is shorter is not told, in ms. */
const SHORT = 5000;

export class Pauses {
  /** The longest of each, and when it ended. @type {Map<string, {ms: number, at: number}>} */
  #longest = new Map();

  #over = false;

  #began = performance.now();

  /** Looks on until {@link end}. @param {Record<string, () => Promise<unknown>>} asked who is asked, each by its name */
  constructor(asked) {
    this.#look("this suite", () => sleep(EVERY), EVERY);
    for (const [who, ask] of Object.entries(asked)) this.#look(who, ask, 0);
  }

  async #look(who, ask, usual) {
    while (!this.#over) {
      const before = performance.now();
      // A server that is stopped on purpose answers at once that it is not there.
      await ask().catch(() => {});
      const now = performance.now();
      const ms = now - before - usual;
      if (ms > (this.#longest.get(who)?.ms ?? SHORT)) this.#longest.set(who, { ms, at: now - this.#began });
      await sleep(EVERY);
    }
  }

  /** Stops looking; lines about what stood still. */
  end() {
    this.#over = true;
    const seconds = (ms) => Math.round(ms / 1000);
    return [...this.#longest].map(([who, { ms, at }]) => `${who} stood still for ${seconds(ms)} s, until ${seconds(at)} s after the beginning`);
  }
}
