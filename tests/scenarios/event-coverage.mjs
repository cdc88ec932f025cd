// Records which socket events were observed in which scenario, and the longest response time of each request.

import { NOT_COVERED, SDK_EVENTS, nameOf } from "./events.mjs";

export class EventCoverage {
  constructor() {
    /** @type {Map<number, {up: number, down: number, scenarios: string[]}>} */
    this.events = new Map();
    /** The longest response time in milliseconds, by event. @type {Map<number, number>} */
    this.slowestReplies = new Map();
  }

  /** Adds the events of a scenario. @param {import("./suite.mjs").ScenarioContext} context */
  add(context) {
    for (const [event, { up, down }] of context.frames) {
      const { up: upBefore, down: downBefore, scenarios } = this.of(event);
      this.events.set(event, { up: upBefore + up, down: downBefore + down, scenarios: [...scenarios, context.scenario.name] });
    }
    for (const [event, ms] of context.slowestReplies) this.slowestReplies.set(event, Math.max(ms, this.slowestReplies.get(event) ?? 0));
  }

  of(event) {
    return this.events.get(event) ?? { up: 0, down: 0, scenarios: [] };
  }

  /** Events and directions that the SDK uses and no scenario covered, except those listed in `NOT_COVERED`. */
  missing() {
    const all = Object.entries(SDK_EVENTS).flatMap(([event, [name, directions]]) => directions.split(" ").map((direction) => ({ event, name, direction })));
    return all.filter(({ event, direction }) => this.of(Number(event))[direction] === 0 && !(`${event} ${direction}` in NOT_COVERED))
      .map(({ event, name, direction }) => `${event} ${name} ${direction}`);
  }

  /** Entries of `NOT_COVERED` that were observed. */
  stale() {
    return Object.keys(NOT_COVERED).filter((key) => {
      const [event, direction] = key.split(" ");
      return this.of(Number(event))[direction] > 0;
    });
  }

  table() {
    const all = [...new Set([...Object.keys(SDK_EVENTS).map(Number), ...this.events.keys()])].sort((one, other) => one - other);
    const row = (event) => {
      const { up, down, scenarios } = this.of(event);
      const list = `${scenarios.length}: ${scenarios.slice(0, 2).join("; ")}${scenarios.length > 2 ? "; …" : ""}`;
      const covered = scenarios.length ? list : NOT_COVERED[`${event} down`] ?? "none";
      return `${String(event).padEnd(10)}  ${nameOf(event).padEnd(28)}${String(up).padStart(6)} ${String(down).padStart(6)}  ${covered}`;
    };
    const slow = [...this.slowestReplies].sort(([, one], [, other]) => other - one).slice(0, 5);
    return [
      "event       name                            up   down  scenarios", ...all.map(row), "",
      `slowest replies: ${slow.map(([event, ms]) => `${nameOf(event)} ${Math.round(ms)} ms`).join(", ")}`,
    ];
  }
}
