// What people say, and what stays of it.

import assert from "node:assert/strict";
import { scenario } from "../suite.mjs";

const CALL = ["group_call_host", "group_call_participant"];

scenario("messages to everybody are said, edited, pinned and deleted", { sees: [65536, 65537, 65539, 65540, 65546] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada, bob] = await world.people(meeting, CALL);
  const before = Date.now();
  await ada.do((m) => m.chat.sendTextMessage("hello"));
  await bob.do((m) => m.chat.sendTextMessage("Grüße 👋 <b>"));
  for (const one of [ada, bob]) {
    await one.until((m) => m.chat.messages.length === 2);
    assert.deepEqual((await one.do((m) => texts(m))).sort(), ["Grüße 👋 <b>", "hello"].sort());
    assert.equal((await one.events("chat", "chatUpdate")).length, 2);
  }
  const message = await bob.do((m) => plain(m.chat.messages.find((one) => one.message === "hello")));
  assert.deepEqual([message.type, message.displayName, message.userId, message.isEdited, message.pinned, message.targetUserIds], ["text", "Ada", ada.userId, false, false, []]);
  assert(Math.abs(message.timeMs - before) < 30_000, `said at ${message.timeMs}`);
  assert.equal(Math.floor(message.timeMs / 1000) * 1000, message.time);

  await ada.do((m, id) => m.chat.editTextMessage(id, "hello, Bob"), message.id);
  const edited = await bob.event("chat", "chatUpdate", ({ action }) => action === "edit");
  assert.deepEqual([edited[0].message.message, edited[0].message.isEdited], ["hello, Bob", true]);
  await ada.until((m) => texts(m).includes("hello, Bob"));

  await ada.do((m, id) => m.chat.pin(id), message.id);
  await bob.event("chat", "pinMessage", ({ message: { id } }) => id === message.id);
  assert.equal(await bob.do((m, id) => m.chat.messages.find((one) => one.id === id).pinned, message.id), true);
  const [cem] = await world.people(meeting, ["group_call_participant"]);
  await cem.until((m, id) => m.chat.messages.find((one) => one.id === id)?.pinned, message.id);
  await ada.do((m, id) => m.chat.unpin(id), message.id);
  await bob.event("chat", "unpinMessage", ({ message: { id } }) => id === message.id);

  await ada.do((m, id) => m.chat.deleteMessage(id), message.id);
  for (const one of [ada, bob, cem]) await one.becomes((m) => texts(m), ["Grüße 👋 <b>"]);
  await bob.event("chat", "chatUpdate", ({ action }) => action === "delete");
});

scenario("another's message is not edited or deleted by somebody without power", { sees: [65539, 65540, 65535] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada, bob] = await world.people(meeting, CALL);
  await ada.do((m) => m.chat.sendTextMessage("mine"));
  const id = await bob.until((m) => m.chat.messages[0]?.id);
  await bob.do((m, given) => m.chat.editTextMessage(given, "theirs"), id);
  await bob.do((m, given) => m.chat.deleteMessage(given), id);
  await bob.refusal(/./);
  await ada.stays((m) => texts(m), ["mine"], 500);
  await bob.stays((m) => texts(m), ["mine"], 100);
  const unknown = await ada.fails((m) => m.chat.pin("01a20720-2542-7bde-af6a-a7174a808b04"));
  assert.equal(unknown.code, "0504");
});

scenario("a private message is for two, also in their history", { sees: [65538, 65541] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada, bob, cem] = await world.people(meeting, [...CALL, "group_call_participant"]);
  await ada.until((m) => names(m).length === 2);
  await bob.until((m) => names(m).length === 2);
  await ada.do((m, id) => m.chat.sendTextMessage("psst", [id]), await bob.peerId);
  await bob.becomes((m) => texts(m), ["psst"]);
  await ada.becomes((m) => texts(m), ["psst"]);
  const targets = await bob.do((m) => m.chat.messages[0].targetUserIds);
  assert.deepEqual([...targets].sort(), [ada.userId, bob.userId].sort());
  await bob.do((m, id) => m.chat.sendTextMessage("what?", [id]), await ada.peerId);
  await ada.becomes((m) => texts(m), ["psst", "what?"]);
  await cem.stays((m) => texts(m), [], 300);
  const withBob = (m, userId) => m.chat.fetchPrivateMessages({ userId, limit: 10, direction: "before", timestamp: Date.now() + 1000 }).then((all) => all.map((one) => one.message));
  assert.deepEqual(await ada.do(withBob, bob.userId), ["what?", "psst"]);
  assert.deepEqual(await ada.do(withBob, cem.userId), []);
  assert.deepEqual(await cem.do(withBob, bob.userId), []);
  await cem.load();
  await cem.enter();
  await cem.stays((m) => texts(m), [], 300);
  await bob.load();
  await bob.enter();
  await bob.becomes((m) => texts(m), ["psst", "what?"]);
});

scenario("a late joiner has the history, and pages through it", { sees: [65536, 65541] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada] = await world.people(meeting, CALL.slice(0, 1));
  for (let index = 0; index < 25; index += 1) await ada.do((m, text) => m.chat.sendTextMessage(text), `message ${index}`);
  const all = Array.from({ length: 25 }, (_, index) => `message ${index}`);
  await ada.becomes((m) => texts(m), all);
  const [bob] = await world.people(meeting, CALL.slice(1));
  await bob.becomes((m) => texts(m), all);
  const fetched = (m, given) => m.chat.fetchPublicMessages(given).then((page) => page.map((one) => [one.message, one.timeMs]));
  const newest = await bob.do(fetched, { limit: 10, direction: "before", timestamp: Date.now() + 1000 });
  assert.deepEqual(newest.map(([text]) => text), all.slice(15).reverse());
  const times = await bob.do((m) => m.chat.messages.map((one) => one.timeMs));
  const middle = times[12];
  const older = await bob.do(fetched, { limit: 100, direction: "before", timestamp: middle });
  assert.deepEqual(older.map(([text]) => text), all.filter((_, index) => times[index] <= middle).reverse());
  const newer = await bob.do(fetched, { limit: 5, direction: "after", timestamp: middle });
  assert.deepEqual(newer.map(([text]) => text), all.filter((_, index) => times[index] >= middle).slice(0, 5));
  await ada.do((m) => m.chat.pin(m.chat.messages[3].id));
  await bob.event("chat", "pinMessage");
  const pinned = await bob.do((m) => m.chat.fetchPinnedMessages({ limit: 10, direction: "before", timestamp: Date.now() + 1000 }).then((page) => page.map((one) => one.message)));
  assert.deepEqual(pinned, ["message 3"]);
});

/** The bytes behind a link, as another person's page gets them. */
const download = (_, link) => fetch(link).then(async (answer) => ({ status: answer.status, type: answer.headers.get("content-type"), bytes: [...new Uint8Array(await answer.arrayBuffer())] }));

scenario("files, pictures and messages of the app's own kind reach the others", { sees: [65537, 65539] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada, bob] = await world.people(meeting, CALL);
  await ada.do((m) => m.chat.sendImageMessage(new File([new Uint8Array([137, 80, 78, 71, 13, 10, 26, 10, 0])], "a picture.png", { type: "image/png" })));
  const image = await bob.until((m) => plain(m.chat.messages.find((one) => one.type === "image")));
  assert.deepEqual(await bob.do(download, image.link), { status: 200, type: "image/png", bytes: [137, 80, 78, 71, 13, 10, 26, 10, 0] });

  await ada.do((m) => m.chat.sendFileMessage(new File(["Grüße"], "Brief & Söhne.txt", { type: "text/plain" })));
  const file = await bob.until((m) => plain(m.chat.messages.find((one) => one.type === "file")));
  assert.deepEqual([file.name, file.size], ["Brief & Söhne.txt", 7]);
  const got = await bob.do(download, file.link);
  assert.deepEqual([got.status, Buffer.from(got.bytes).toString()], [200, "Grüße"]);

  await ada.do((m, id) => m.chat.editFileMessage(id, new File(["2"], "two.txt", { type: "text/plain" })), file.id);
  await bob.until((m) => m.chat.messages.some((one) => one.type === "file" && one.name === "two.txt"));

  await ada.do((m) => m.chat.sendCustomMessage({
    type: "custom", message: "look", html: "<i>look</i>", files: [new File(["three"], "three.txt", { type: "text/plain" })],
  }));
  const custom = await bob.until((m) => plain(m.chat.messages.find((one) => one.type === "custom")));
  assert.deepEqual([custom.message, custom.html, custom.files[0].name], ["look", "<i>look</i>", "three.txt"]);
  assert.equal(Buffer.from((await bob.do(download, custom.files[0].link)).bytes).toString(), "three");
  assert.equal(await ada.do((m) => m.chat.messages.length), 3);
});

scenario("somebody who may send no files cannot, whatever the client thinks", { sees: [65535], allows: [{ text: /status of 403.*chat-upload/, reason: "the browser reports every HTTP error" }] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada, bob] = await world.people(meeting, ["group_call_host", "group_call_guest"]);
  const permit = (m) => Object.assign(m.self.permissions.chatPublic, { canSend: true, text: true, files: true });
  await bob.do(permit);
  const error = await bob.fails((m) => m.chat.sendFileMessage(new File(["x"], "x.txt", { type: "text/plain" })));
  assert.equal(error.code, "0500");
  // A custom message needs no upload, but the right to send files all the same.
  await bob.do((m) => m.chat.sendCustomMessage({ type: "custom", message: "smuggled", files: ["https://example.com/x"] }));
  await bob.refusal(/files|permission/);
  await bob.do((m) => m.chat.sendTextMessage("only text then"));
  await ada.becomes((m) => texts(m), ["only text then"]);
});

for (const persist of [true, false]) {
  scenario(`messages ${persist ? "outlive" : "end with"} their session when persist_chat is ${persist}`, { sees: [65536, 31] }, async (world) => {
    const meeting = await world.parlor.meeting({ persist_chat: persist });
    const [ada, bob] = await world.people(meeting, CALL);
    await ada.do((m) => m.chat.sendTextMessage("first session"));
    await bob.becomes((m) => texts(m), ["first session"]);
    const session = await ada.do((m) => m.meta.sessionId);
    await ada.do((m) => m.participants.kickAll());
    await bob.event("self", "roomLeft", ({ state }) => state === "ended");
    for (const one of [ada, bob]) {
      await one.load();
      await one.enter();
      await one.becomes((m) => texts(m), persist ? ["first session"] : []);
    }
    assert.notEqual(await ada.do((m) => m.meta.sessionId), session);
    await bob.do((m) => m.chat.sendTextMessage("second session"));
    await ada.becomes((m) => texts(m), [...(persist ? ["first session"] : []), "second session"]);
  });
}

scenario("a flood of messages is stopped by the server where the client has lost its limit", { sees: [65537, 65535] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada, bob] = await world.people(meeting, CALL);
  await ada.do(async (m) => {
    m.chat.updateRateLimits(10_000, 60);
    for (let index = 0; index < 260; index += 1) await m.chat.sendTextMessage(`${index}`);
  });
  await ada.refusal(/./);
  await bob.until((m) => m.chat.messages.length >= 100);
  let last = -1;
  for (let count = 0; count !== last; count = await bob.do((m) => m.chat.messages.length)) {
    last = count;
    await bob.stays(() => true, true, 700);
  }
  assert(last >= 100 && last <= 215, `${last} of 260 messages arrived`);
  assert.equal(await ada.do((m) => m.chat.messages.length), last);
  assert.equal(await ada.roomState, "joined");
});
