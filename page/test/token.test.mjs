// Tests that the token is taken from the URL, stored for the tab, and removed from the URL.

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { expiredSince, parseClaims, takeToken } from "../src/token.js";

let replacedUrl;

beforeEach(() => {
  const storage = new Map();
  globalThis.sessionStorage = { getItem: (name) => storage.get(name) ?? null, setItem: (name, value) => storage.set(name, value) };
  globalThis.history = { replaceState: (_state, _title, address) => (replacedUrl = open(address).pathname + location.search) };
  replacedUrl = null;
});

function open(address) {
  globalThis.location = new URL(address, "http://localhost:8787");
  return globalThis.location;
}

test("a token is removed from the URL, and other parameters are kept", () => {
  open("/meet?video=1&authToken=eyJ.e30.x&audio=0");
  assert.equal(takeToken(), "eyJ.e30.x");
  assert.equal(replacedUrl, "/meet?video=1&audio=0");
});

test("a token after # is also taken", () => {
  open("/meet?video=1#authToken=eyJ.e30.x");
  assert.equal(takeToken(), "eyJ.e30.x");
  assert.equal(replacedUrl, "/meet?video=1");
});

test("the token is available after a reload, and a new link replaces it", () => {
  open("/meet?authToken=first");
  takeToken();
  assert.equal(takeToken(), "first");
  open("/meet?authToken=second");
  assert.equal(takeToken(), "second");
  assert.equal(takeToken(), "second");
});

test("without a token, null is returned", () => {
  open("/meet");
  assert.equal(takeToken(), null);
  assert.equal(replacedUrl, null);
});

test("claims are parsed from tokens only", () => {
  const token = (claims) => `eyJ.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.x`;
  assert.equal(parseClaims(token({ meetingId: "m", note: "~~~???" })).meetingId, "m");
  for (const bad of ["", "eyJ", "a.b", "a.!.c", token({}), token(null), token({ meetingId: 1 })]) {
    assert.equal(parseClaims(bad), null, bad);
  }
});

test("a token expires at its exact second", () => {
  const now = new Date(1000_000);
  assert.equal(expiredSince({ exp: 1001 }, now), null);
  assert.deepEqual(expiredSince({ exp: 1000 }, now), now);
  assert.equal(expiredSince({}, now), null);
});
