// The check of declared shapes must itself be able to fail.

import assert from "node:assert/strict";
import { test } from "node:test";
import { declaredShape } from "./shapes.mjs";

const good = {
  id: "a", token: "t", created_at: "c", updated_at: "u", custom_participant_id: "p", preset_name: "n", name: null, extra: 1,
};
const { token, ...tokenless } = good;

test("a reply of the declared shape passes, with fields the SDK does not know", () => {
  assert.equal(declaredShape("Meetings", "addParticipant", { success: true, data: good }).data, good);
});

for (const [what, data] of /** @type {const} */ ([
  ["a missing field", tokenless], ["a number for a string", { ...good, id: 7 }], ["a number for a string or null", { ...good, name: 7 }],
  ["null for a string", { ...good, preset_name: null }], ["a list for an object", []], ["null for an object", null],
])) {
  test(`${what} is seen`, () => {
    assert.throws(() => declaredShape("Meetings", "addParticipant", { success: true, data }), assert.AssertionError);
  });
}

test("a value outside an enumeration is seen", () => {
  const data = { id: "a", created_at: "c", updated_at: "u", status: "MAYBE" };
  assert.throws(() => declaredShape("Meetings", "updateMeetingByID", { success: true, data }), assert.AssertionError);
});
