// Detects stalls of the test process, the server and the browser during a run, which explain late events.

import { setTimeout as sleep } from "node:timers/promises";

/** The time between two probes, in ms. */
const INTERVAL = 500;

/** Shorter stalls are ignored, in ms. */
const THRESHOLD = 2000;

export class StallMonitor {
  /** All stalls, with the times in ms since the start. @type {{target: string, from: number, to: number}[]} */
  #stalls = [];

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
      if (now - before - expected > THRESHOLD) {
        this.#stalls.push({ target, from: before - this.#started, to: now - this.#started });
      }
      await sleep(INTERVAL);
    }
  }

  /** The current time, in ms since the start. */
  now() {
    return performance.now() - this.#started;
  }

  /** Whether a target stalled at any time since then. @param {number} since a value of {@link now} */
  hasStalledSince(since) {
    return this.#stalls.some(({ to }) => to > since);
  }

  /** Stops probing, and returns one line for each stall. */
  stop() {
    this.#isStopped = true;
    const seconds = (ms) => (ms / 1000).toFixed(1);
    return this.#stalls.map(({ target, from, to }) => `${target} stalled for ${seconds(to - from)} s, until ${seconds(to)} s after the start`);
  }
}
