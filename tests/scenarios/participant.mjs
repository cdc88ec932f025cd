// A participant: a browser context of its own, whose page runs the unmodified SDK.

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { TcpProxy, UdpProxy } from "./proxy.mjs";
import { TLS_NAME } from "./server.mjs";

/** Requests for which the SDK awaits a reply. The server must reply to each with the same id, with a result or an error. */
const AWAITED = new Set([
  2, 3, 5, 12, 18, 19, 20, 21, 22, 23, 29, 65536, 65539, 65540, 65541, 65546, 131082, 196609, 327680, 327681,
  50331649, 50331650, 50331651, 50331654, 50331655, 50331656, 50331664, 50331665, 50331667, 50331668, 50331698, 50331741,
  50331742,
]);

/** The default timeout of all waits. */
const TIMEOUT_MS = 15_000;

export class Participant {
  /**
   * Opens a page for a participant that has been added to a meeting. It does not join.
   * @param {import("./suite.mjs").ScenarioContext} context @param {object} added the response to adding the participant
   * @param {{socketProxy?: boolean, mediaProxy?: boolean}} [options] which connections go through a proxy
   */
  static async open(context, added, { socketProxy = false, mediaProxy = false } = {}) {
    const participant = new Participant();
    Object.assign(participant, { context, userId: added.id, token: added.token, name: added.name, customId: added.custom_participant_id });
    participant.socketProxy = socketProxy ? await TcpProxy.start(context.server.tlsPort) : null;
    participant.mediaProxy = mediaProxy ? await UdpProxy.start(context.server.mediaPort) : null;
    participant.browserContext = await context.browser.newContext({ permissions: ["microphone", "camera"] });
    participant.errorReplies = [];
    participant.pendingRequests = new Map();
    await participant.browserContext.exposeBinding("reportFrame", ({ page }, frame) => participant.recordFrame(page, frame));
    await participant.browserContext.addInitScript({ path: context.pageFile("socket-recorder.js") });
    if (mediaProxy) {
      const ports = { from: context.server.mediaPort, to: participant.mediaProxy.port };
      await participant.browserContext.addInitScript(`window.mediaProxy = ${JSON.stringify(ports)};`);
    }
    await participant.loadPage();
    return participant;
  }

  /** Records a frame: pending requests, error replies, and frames without a payload. */
  recordFrame(page, { socket, direction, event, id, at, isBare, error }) {
    if (direction === "closed") {
      for (const [key, request] of this.pendingRequests) if (request.page === page && request.socket === socket) this.pendingRequests.delete(key);
      return;
    }
    const { slowestReplies, malformedFrames } = this.context;
    this.context.countFrame(direction, event);
    if (error) this.errorReplies.push({ event, text: error });
    if (direction === "up" && AWAITED.has(event)) this.pendingRequests.set(id, { page, socket, event, sent: at, since: Date.now() });
    if (direction === "down") {
      const request = this.pendingRequests.get(id);
      if (request) slowestReplies.set(request.event, Math.max(at - request.sent, slowestReplies.get(request.event) ?? 0));
      this.pendingRequests.delete(id);
      if (isBare) malformedFrames.add(`event ${event} has no payload`);
    }
  }

  /** Requests on open sockets of the current page that have been pending for more than two seconds. */
  unansweredRequests() {
    return [...this.pendingRequests.values()].filter(({ page, since }) => !page.isClosed() && page === this.page && Date.now() - since > 2000)
      .map(({ event }) => `${this.name} got no reply to ${event}`);
  }

  /** Opens the page, or reloads it. The SDK is not initialised. */
  async loadPage() {
    await this.page?.close();
    this.page = await this.browserContext.newPage();
    this.context.monitorConsole(this.page, this.name);
    this.eventsStart = 0;
    await this.page.goto(this.context.siteUrl);
  }

  /** The SDK's option `baseURI`. */
  get baseURI() {
    return `${TLS_NAME}:${this.socketProxy?.port ?? this.context.server.tlsPort}`;
  }

  /** Calls `RealtimeKitClient.init`. Microphone and camera are off unless `options.defaults` says otherwise. */
  async init(options = {}) {
    const all = { authToken: this.token, baseURI: this.baseURI, defaults: { audio: false, video: false }, ...options };
    await this.context.initSemaphore.run(() => this.page.evaluate((arg) => window.initMeeting(arg), all));
    return this;
  }

  join() {
    return this.evaluate((m) => m.join());
  }

  async enter(options) {
    await this.init(options);
    await this.join();
    return this;
  }

  leave() {
    return this.evaluate((m) => m.leave());
  }

  /** Closes the page without leaving the meeting first. */
  async closePage() {
    await this.page.close();
  }

  /** Evaluates a function in the page, with the SDK's client as its first argument. The result must be serialisable. */
  evaluate(fn, arg) {
    return this.page.evaluate(`Promise.resolve((${fn})(window.meeting, ${JSON.stringify(arg) ?? "undefined"}))`);
  }

  /** Evaluates a function that must throw, and returns its error. */
  async expectError(fn, arg) {
    const outcome = await this.page.evaluate(`(async () => {
      try { return { value: toPlain(await (${fn})(window.meeting, ${JSON.stringify(arg) ?? "undefined"})) }; }
      catch (error) { return { error: toPlain(error) }; }
    })()`);
    assert(outcome.error, `${this.name}: ${fn} succeeded with ${JSON.stringify(outcome.value)}`);
    return outcome.error;
  }

  /** Waits until a function returns `expected` in the page. */
  async eventually(fn, expected, arg, timeoutMs = TIMEOUT_MS) {
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      const actual = await this.evaluate(fn, arg);
      try {
        assert.deepEqual(actual, expected);
        return actual;
      } catch (error) {
        if (Date.now() < deadline) await sleep(60);
        else throw Object.assign(error, { message: `${this.name}: ${fn}\n${error.message}` });
      }
    }
  }

  /** Waits until a function returns a truthy value in the page, and returns the value. */
  async waitFor(fn, arg, timeoutMs = TIMEOUT_MS) {
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      const actual = await this.evaluate(fn, arg);
      if (actual) return actual;
      if (Date.now() > deadline) throw new Error(`${this.name}: ${fn} still returns ${JSON.stringify(actual)}`);
      await sleep(60);
    }
  }

  /** Checks for `ms` that a function keeps returning `expected` in the page. */
  async consistently(fn, expected, ms, arg) {
    const deadline = Date.now() + ms;
    do {
      assert.deepEqual(await this.evaluate(fn, arg), expected, `${this.name}: ${fn}`);
      await sleep(100);
    } while (Date.now() < deadline);
  }

  /** Makes {@link events} and {@link waitForEvent} ignore all events so far. */
  async clearEvents() {
    this.eventsStart = await this.page.evaluate(() => window.sdkEvents.length);
  }

  /** The arguments of each event with this source and name since {@link clearEvents}. */
  async events(source, name) {
    const all = await this.page.evaluate((start) => window.sdkEvents.slice(start), this.eventsStart);
    return all.filter((one) => one.source === source && one.name === name).map((one) => one.values);
  }

  /** Waits for an event since {@link clearEvents} whose arguments match, and returns the arguments. */
  async waitForEvent(source, name, matches = () => true, timeoutMs = TIMEOUT_MS) {
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      const found = (await this.events(source, name)).find((values) => matches(...values));
      if (found) return found;
      if (Date.now() > deadline) {
        const all = await this.page.evaluate((start) => window.sdkEvents.slice(start), this.eventsStart);
        throw new Error(`${this.name}: no event ${name} of ${source}; the last events: ${all.slice(-25).map((one) => `${one.source}:${one.name}`).join(" ")}`);
      }
      await sleep(60);
    }
  }

  /** Waits for an error reply from the server whose text matches. */
  async waitForErrorReply(pattern, timeoutMs = TIMEOUT_MS) {
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      const found = this.errorReplies.find((one) => pattern.test(one.text));
      if (found) return found;
      if (Date.now() > deadline) throw new Error(`${this.name}: no error reply matches ${pattern}: ${JSON.stringify(this.errorReplies)}`);
      await sleep(60);
    }
  }

  get peerId() {
    return this.evaluate((m) => m.self.id);
  }

  get roomState() {
    return this.evaluate((m) => m.self.roomState);
  }

  /** Describes the participant's state, for the report of a failure. */
  async describe() {
    if (!this.page || this.page.isClosed()) return `${this.name}: page closed`;
    const state = await Promise.race([
      sleep(3000, "the page does not respond"),
      this.page.evaluate(() => JSON.stringify({
        state: window.meeting?.self.roomState, names: window.meeting && names(window.meeting),
        waiting: window.meeting?.participants.waitlisted.toArray().map((one) => one.name),
        sockets: window.sockets.map(({ closed, pings }) => ({ closed, pings })).slice(-3),
        clientErrors: window.clientErrors.slice(-3),
        lastEvents: window.sdkEvents.slice(-12).map((one) => `${one.source}:${one.name}`).join(" "),
      })).catch((error) => error.message),
    ]);
    return `${this.name}: ${state}${this.errorReplies.length ? ` error replies: ${JSON.stringify(this.errorReplies.slice(-5))}` : ""}`;
  }

  async close() {
    await this.browserContext.close();
    this.socketProxy?.close();
    await this.mediaProxy?.close();
  }
}
