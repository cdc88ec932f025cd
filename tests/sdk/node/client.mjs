// Clients of the official SDK for the server under test, which scripts/sdk-tests starts.

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
 * Creates a client of the official SDK, and a list that records all its exchanges, including retries.
 * @param {import("cloudflare").ClientOptions} [options] the credentials; by default the Bearer token
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
 * Returns the error of a call. Fails if the call succeeds, or throws an error of another class.
 * @template {import("cloudflare").APIError} E
 * @param {Promise<unknown>} call @param {new (...args: any) => E} kind @returns {Promise<E>}
 */
export async function failure(call, kind) {
  const outcome = await call.then((response) => ({ response }), (error) => ({ error }));
  assert("error" in outcome, `expected ${kind.name}, got ${JSON.stringify(outcome)}`);
  assert(outcome.error instanceof kind, `expected ${kind.name}, got ${outcome.error}`);
  return outcome.error;
}

/**
 * Returns `data` of a call's response. Fails if the response has none.
 * @template T @param {Promise<{data?: T}>} call @returns {Promise<T>}
 */
export async function data(call) {
  const response = await call;
  assert(response.data, "the response has no data");
  return response.data;
}

/**
 * Returns `data` of a call for which the SDK has no method, and therefore no type.
 * @param {Promise<unknown>} call @returns {Promise<any>}
 */
export const untyped = (call) => data(/** @type {Promise<{data?: any}>} */ (call));

/** Creates an app with one meeting, so that tests are isolated from each other. */
export async function createMeeting() {
  const { client, exchanges } = connect();
  const { app } = await data(client.realtimeKit.apps.post({ account_id, name: "SDK test" }));
  assert(app?.id);
  const meeting = await data(client.realtimeKit.meetings.create(app.id, { account_id, title: "SDK test" }));
  return { client, exchanges, app_id: app.id, meeting_id: meeting.id, scope: { account_id, app_id: app.id } };
}

/** A path below the account, for operations that the SDK has no method for. @param {string[]} segments */
export const kitPath = (...segments) => ["/accounts", account_id, "realtime/kit", ...segments].join("/");
