// What browsers write to their consoles: everything that is not allowed here, with a reason, fails the suite.

/** @typedef {{text: RegExp, reason: string}} Allowance */

/** Allowed in every scenario. @type {Allowance[]} */
const EVERYWHERE = [
  {
    text: /undefined \(reading 'getStats'\)[^]*sendPingStatsEvent/,
    reason: "the SDK asks for the statistics of a transport that it has given up a moment before",
  },
  {
    text: /WebSocket is already in CLOSING or CLOSED state/,
    reason: "the SDK goes on saying how loud the microphone is while its socket is gone",
  },
];

/** What a browser says about a line that is gone. @type {Allowance} */
export const BROKEN = {
  text: /net::ERR_(CONNECTION|EMPTY_RESPONSE|NETWORK|SOCKET|TIMED_OUT)|WebSocket connection to .* failed|TransportConnectionError: (Socket is not connected|Cannot reconnect closed transport)/,
  reason: "the line was cut on purpose",
};

export class Consoles {
  constructor() {
    /** @type {Map<Allowance, number>} */
    this.allowed = new Map();
    /** @type {{scenario: string, who: string, text: string}[]} */
    this.unexpected = [];
    this.counts = { error: 0, warning: 0, exception: 0 };
  }

  /** Collects errors, warnings, exceptions and rejections that nobody handled. @param {import("playwright-core").Page} page */
  listen(page, scenario, who) {
    page.on("console", (message) => {
      const kind = message.type();
      if (kind !== "error" && kind !== "warning") return;
      const { url } = message.location();
      this.judge(scenario, who, kind, `${kind}: ${message.text()}${url ? ` (${url})` : ""}`);
    });
    page.on("pageerror", (error) => this.judge(scenario, who, "exception", `exception: ${error?.stack || `${error?.name}: ${error?.message || error}`}`));
  }

  judge(scenario, who, kind, told) {
    // Queries hold tokens.
    const text = told.replace(/\?[^\s')]*/g, "");
    this.counts[kind] += 1;
    const allowance = [...(scenario.allows ?? []), ...EVERYWHERE].find((one) => one.text.test(text));
    if (allowance) this.allowed.set(allowance, (this.allowed.get(allowance) ?? 0) + 1);
    else this.unexpected.push({ scenario: scenario.name, who, text: text.slice(0, 600) });
  }

  /** What was not allowed in a scenario, each once, with who saw it. */
  of(scenario) {
    const seenBy = new Map();
    for (const { who, text } of this.unexpected.filter((one) => one.scenario === scenario.name)) {
      seenBy.set(text, [...(seenBy.get(text) ?? []), who]);
    }
    return [...seenBy].map(([text, all]) => `${[...new Set(all)].join(", ")} (${all.length} ×) ${text}`);
  }

  /** Before a scenario is played again. */
  forget(scenario) {
    this.unexpected = this.unexpected.filter((one) => one.scenario !== scenario.name);
  }

  /** Lines about everything. */
  report() {
    const { error, warning, exception } = this.counts;
    return [
      `consoles: ${error} errors, ${warning} warnings, ${exception} exceptions; not allowed: ${this.unexpected.length}`,
      ...[...this.allowed].map(([{ text, reason }, count]) => `  ${String(count).padStart(4)} × ${text}: ${reason}`),
    ];
  }
}
