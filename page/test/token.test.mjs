// The token in the address: taken, kept for the tab, and never left where it is seen.

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { claimsOf, endOf, takeToken } from "../src/token.js";

let shown;

beforeEach(() => {
  const kept = new Map();
  globalThis.sessionStorage = { getItem: (name) => kept.get(name) ?? null, setItem: (name, value) => kept.set(name, value) };
  globalThis.history = { replaceState: (_state, _title, address) => (shown = open(address).pathname + location.search) };
  shown = null;
});

function open(address) {
  globalThis.location = new URL(address, "http://localhost:8787");
  return globalThis.location;
}

test("a token leaves the address, and what else is in the query stays", () => {
  open("/meet?video=1&authToken=eyJ.e30.x&audio=0");
  assert.equal(takeToken(), "eyJ.e30.x");
  assert.equal(shown, "/meet?video=1&audio=0");
});

test("a token after # is taken too", () => {
  open("/meet?video=1#authToken=eyJ.e30.x");
  assert.equal(takeToken(), "eyJ.e30.x");
  assert.equal(shown, "/meet?video=1");
});

test("after a reload the token of the tab is still known, and a new link wins over it", () => {
  open("/meet?authToken=first");
  takeToken();
  assert.equal(takeToken(), "first");
  open("/meet?authToken=second");
  assert.equal(takeToken(), "second");
  assert.equal(takeToken(), "second");
});

test("without a token there is none", () => {
  open("/meet");
  assert.equal(takeToken(), null);
  assert.equal(shown, null);
});

test("claims are read from a token, and from nothing else", () => {
  const token = (claims) => `eyJ.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.x`;
  assert.equal(claimsOf(token({ meetingId: "m", note: "~~~???" })).meetingId, "m");
  for (const bad of ["", "eyJ", "a.b", "a.!.c", token({}), token(null), token({ meetingId: 1 })]) {
    assert.equal(claimsOf(bad), null, bad);
  }
});

test("a token ends at its second", () => {
  const now = new Date(1000_000);
  assert.equal(endOf({ exp: 1001 }, now), null);
  assert.deepEqual(endOf({ exp: 1000 }, now), now);
  assert.equal(endOf({}, now), null);
});
