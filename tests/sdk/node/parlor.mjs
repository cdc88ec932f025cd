// The running server under test, and SDK clients that talk to it.

import assert from "node:assert/strict";
import Cloudflare from "cloudflare";

/** @param {string} name */
function required(name) {
  const value = process.env[name];
  assert(value, `${name} must be set: run scripts/sdk-tests`);
  return value;
}

export const url = required("PARLOR_URL");
export const account_id = required("PARLOR_ACCOUNT_ID");
export const token = required("PARLOR_API_TOKEN");

/**
 * One HTTP exchange that an SDK client made.
 * @typedef {{method: string, path: string, status: number}} Exchange
 */

/**
 * A client of the official SDK, and the list of every exchange it makes, retries included.
 * @param {import("cloudflare").ClientOptions} [options] how it signs in; the Bearer token if absent
 */
export function connect(options = { apiToken: token }) {
  /** @type {Exchange[]} */
  const exchanges = [];
  const client = new Cloudflare({
    apiToken: null, apiKey: null, apiEmail: null, userServiceKey: null, ...options,
    baseURL: `${url}/client/v4`,
    fetch: async (input, init) => {
      const response = await fetch(input, init);
      exchanges.push({ method: init?.method?.toUpperCase() ?? "GET", path: new URL(String(input)).pathname, status: response.status });
      return response;
    },
  });
  return { client, exchanges };
}

/**
 * The error that a call ends with; fails when the call succeeds or fails otherwise.
 * @template {import("cloudflare").APIError} E
 * @param {Promise<unknown>} call @param {new (...args: any) => E} kind @returns {Promise<E>}
 */
export async function failure(call, kind) {
  const outcome = await call.then((reply) => ({ reply }), (error) => ({ error }));
  assert("error" in outcome, `expected ${kind.name}, got ${JSON.stringify(outcome)}`);
  assert(outcome.error instanceof kind, `expected ${kind.name}, got ${outcome.error}`);
  return outcome.error;
}

/**
 * What a call answered in `data`; fails when the reply has none.
 * @template T @param {Promise<{data?: T}>} call @returns {Promise<T>}
 */
export async function data(call) {
  const reply = await call;
  assert(reply.data, "the reply has no data");
  return reply.data;
}

/**
 * The same for the calls that the SDK has no method and so no type for.
 * @param {Promise<unknown>} call @returns {Promise<any>}
 */
export const untyped = (call) => data(/** @type {Promise<{data?: any}>} */ (call));

/** A new app with one meeting, so that tests do not see each other's rows. */
export async function freshMeeting() {
  const { client, exchanges } = connect();
  const { app } = await data(client.realtimeKit.apps.post({ account_id, name: "SDK test" }));
  assert(app?.id);
  const meeting = await data(client.realtimeKit.meetings.create(app.id, { account_id, title: "SDK test" }));
  return { client, exchanges, app_id: app.id, meeting_id: meeting.id, scope: { account_id, app_id: app.id } };
}

/** A path below the app, for the operations that the SDK has no method for. @param {string[]} rest */
export const kit = (...rest) => ["/accounts", account_id, "realtime/kit", ...rest].join("/");
