// Monitors the browsers' consoles. A message that is not allowed, with a reason, fails its scenario.

/** @typedef {{text: RegExp, reason: string}} Allowance */

/** Allowed in every scenario. @type {Allowance[]} */
const ALWAYS_ALLOWED = [
  {
    text: /undefined \(reading 'getStats'\)[^]*sendPingStatsEvent/,
    reason: "the SDK reads the statistics of a transport that it has just closed",
  },
  {
    text: /WebSocket is already in CLOSING or CLOSED state/,
    reason: "the SDK keeps reporting the microphone's level while its socket is closed",
  },
];

/** The browser's messages about a lost connection. @type {Allowance} */
export const CONNECTION_LOST = {
  text: /net::ERR_(CONNECTION|EMPTY_RESPONSE|NETWORK|SOCKET|TIMED_OUT)|WebSocket connection to .* failed|TransportConnectionError: (Socket is not connected|Cannot reconnect closed transport)/,
  reason: "the connection was cut on purpose",
};

export class ConsoleMonitor {
  constructor() {
    /** @type {Map<Allowance, number>} */
    this.allowed = new Map();
    /** @type {{scenario: string, name: string, text: string}[]} */
    this.unexpected = [];
    this.counts = { error: 0, warning: 0, exception: 0 };
  }

  /** Records errors, warnings, exceptions and unhandled rejections of a page. @param {import("playwright-core").Page} page */
  monitor(page, scenario, name) {
    page.on("console", (message) => {
      const kind = message.type();
      if (kind !== "error" && kind !== "warning") return;
      const { url } = message.location();
      this.record(scenario, name, kind, `${kind}: ${message.text()}${url ? ` (${url})` : ""}`);
    });
    page.on("pageerror", (error) => this.record(scenario, name, "exception", `exception: ${error?.stack || `${error?.name}: ${error?.message || error}`}`));
  }

  record(scenario, name, kind, message) {
    // Query strings contain tokens.
    const text = message.replace(/\?[^\s')]*/g, "");
    this.counts[kind] += 1;
    const allowance = [...(scenario.allowedMessages ?? []), ...ALWAYS_ALLOWED].find((one) => one.text.test(text));
    if (allowance) this.allowed.set(allowance, (this.allowed.get(allowance) ?? 0) + 1);
    else this.unexpected.push({ scenario: scenario.name, name, text: text.slice(0, 600) });
  }

  /** The unexpected messages of a scenario, without repetitions, with the names of the participants. */
  unexpectedIn(scenario) {
    const namesByText = new Map();
    for (const { name, text } of this.unexpected.filter((one) => one.scenario === scenario.name)) {
      namesByText.set(text, [...(namesByText.get(text) ?? []), name]);
    }
    return [...namesByText].map(([text, all]) => `${[...new Set(all)].join(", ")} (${all.length} ×) ${text}`);
  }

  /** Forgets the unexpected messages of a scenario that is repeated. */
  forget(scenario) {
    this.unexpected = this.unexpected.filter((one) => one.scenario !== scenario.name);
  }

  /** A summary of all messages, in lines. */
  report() {
    const { error, warning, exception } = this.counts;
    return [
      `consoles: ${error} errors, ${warning} warnings, ${exception} exceptions; unexpected: ${this.unexpected.length}`,
      ...[...this.allowed].map(([{ text, reason }, count]) => `  ${String(count).padStart(4)} × ${text}: ${reason}`),
    ];
  }
}
