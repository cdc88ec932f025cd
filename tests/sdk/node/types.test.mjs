// Tests that the type check detects wrong responses.

import assert from "node:assert/strict";
import { test } from "node:test";
import { checkType } from "./types.mjs";

const good = {
  id: "a", token: "t", created_at: "c", updated_at: "u", custom_participant_id: "p", preset_name: "n", name: null, extra: 1,
};
const { token, ...tokenless } = good;

test("a response of the declared type passes, with undeclared fields", () => {
  assert.equal(checkType("Meetings", "addParticipant", { success: true, data: good }).data, good);
});

for (const [what, data] of /** @type {const} */ ([
  ["a missing field", tokenless], ["a number for a string", { ...good, id: 7 }], ["a number for a string or null", { ...good, name: 7 }],
  ["null for a string", { ...good, preset_name: null }], ["a list for an object", []], ["null for an object", null],
])) {
  test(`${what} is detected`, () => {
    assert.throws(() => checkType("Meetings", "addParticipant", { success: true, data }), assert.AssertionError);
  });
}

test("a value outside an enumeration is detected", () => {
  const data = { id: "a", created_at: "c", updated_at: "u", status: "MAYBE" };
  assert.throws(() => checkType("Meetings", "updateMeetingByID", { success: true, data }), assert.AssertionError);
});
