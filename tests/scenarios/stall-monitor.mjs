// Detects stalls of the test process, the server and the browser during a run, which explain late events.

import { setTimeout as sleep } from "node:timers/promises";

/** The time between two probes, in ms. */
const INTERVAL = 500;

/** Shorter stalls are not reported, in ms. */
const THRESHOLD = 5000;

export class StallMonitor {
  /** The longest stall of each target, and when it ended. @type {Map<string, {ms: number, at: number}>} */
  #longest = new Map();

  #isStopped = false;

  #started = performance.now();

  /** Probes the targets until {@link stop}. @param {Record<string, () => Promise<unknown>>} probes by the name of the target */
  constructor(probes) {
    this.#watch("the test process", () => sleep(INTERVAL), INTERVAL);
    for (const [target, probe] of Object.entries(probes)) this.#watch(target, probe, 0);
  }

  async #watch(target, probe, expected) {
    while (!this.#isStopped) {
      const before = performance.now();
      // While the server is stopped on purpose, the connection is refused at once.
      await probe().catch(() => {});
      const now = performance.now();
      const ms = now - before - expected;
      if (ms > (this.#longest.get(target)?.ms ?? THRESHOLD)) this.#longest.set(target, { ms, at: now - this.#started });
      await sleep(INTERVAL);
    }
  }

  /** Stops probing, and returns one line for each target that stalled. */
  stop() {
    this.#isStopped = true;
    const seconds = (ms) => Math.round(ms / 1000);
    return [...this.#longest].map(([target, { ms, at }]) => `${target} stalled for ${seconds(ms)} s, until ${seconds(at)} s after the start`);
  }
}
