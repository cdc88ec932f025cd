// Which events of the wire travelled in which scenario, and how long their answers took.

import { UNSEEN, USED, nameOf } from "./events.mjs";

export class Travelled {
  constructor() {
    /** @type {Map<number, {up: number, down: number, where: string[]}>} */
    this.events = new Map();
    /** @type {Map<number, number>} the slowest answer to a request, in milliseconds */
    this.slowest = new Map();
  }

  /** Adds what a scenario saw. @param {import("./suite.mjs").World} world */
  add(world) {
    for (const [event, { up, down }] of world.frames) {
      const { up: upBefore, down: downBefore, where } = this.of(event);
      this.events.set(event, { up: upBefore + up, down: downBefore + down, where: [...where, world.scenario.name] });
    }
    for (const [event, ms] of world.slowest) this.slowest.set(event, Math.max(ms, this.slowest.get(event) ?? 0));
  }

  of(event) {
    return this.events.get(event) ?? { up: 0, down: 0, where: [] };
  }

  /** Events and directions that the SDK uses and no scenario saw, without those that cannot be seen yet. */
  missing() {
    const all = Object.entries(USED).flatMap(([event, [name, directions]]) => directions.split(" ").map((direction) => ({ event, name, direction })));
    return all.filter(({ event, direction }) => this.of(Number(event))[direction] === 0 && !(`${event} ${direction}` in UNSEEN))
      .map(({ event, name, direction }) => `${event} ${name} ${direction}`);
  }

  /** Excuses for events that were seen after all. */
  stale() {
    return Object.keys(UNSEEN).filter((key) => {
      const [event, direction] = key.split(" ");
      return this.of(Number(event))[direction] > 0;
    });
  }

  table() {
    const all = [...new Set([...Object.keys(USED).map(Number), ...this.events.keys()])].sort((one, other) => one - other);
    const row = (event) => {
      const { up, down, where } = this.of(event);
      const places = where.length ? `${where.length}: ${where.slice(0, 2).join("; ")}${where.length > 2 ? "; …" : ""}` : UNSEEN[`${event} down`] ?? "nowhere";
      return `${String(event).padEnd(10)}  ${nameOf(event).padEnd(28)}${String(up).padStart(6)} ${String(down).padStart(6)}  ${places}`;
    };
    const slow = [...this.slowest].sort(([, one], [, other]) => other - one).slice(0, 5);
    return [
      "event       name                            up   down  scenarios that saw it", ...all.map(row), "",
      `slowest answers: ${slow.map(([event, ms]) => `${nameOf(event)} ${Math.round(ms)} ms`).join(", ")}`,
    ];
  }
}
