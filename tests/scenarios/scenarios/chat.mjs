// Chat messages, files, and the chat history.

import assert from "node:assert/strict";
import { scenario } from "../suite.mjs";

const CALL_PRESETS = ["group_call_host", "group_call_participant"];

scenario("public messages are sent, edited, pinned and deleted", { events: [65536, 65537, 65539, 65540, 65546] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada, bob] = await context.addParticipants(meeting, CALL_PRESETS);
  const before = Date.now();
  await ada.evaluate((m) => m.chat.sendTextMessage("hello"));
  await bob.evaluate((m) => m.chat.sendTextMessage("Grüße 👋 <b>"));
  for (const one of [ada, bob]) {
    await one.waitFor((m) => m.chat.messages.length === 2);
    assert.deepEqual((await one.evaluate((m) => texts(m))).sort(), ["Grüße 👋 <b>", "hello"].sort());
    assert.equal((await one.events("chat", "chatUpdate")).length, 2);
  }
  const message = await bob.evaluate((m) => toPlain(m.chat.messages.find((one) => one.message === "hello")));
  assert.deepEqual([message.type, message.displayName, message.userId, message.isEdited, message.pinned, message.targetUserIds], ["text", "Ada", ada.userId, false, false, []]);
  assert(Math.abs(message.timeMs - before) < 30_000, `sent at ${message.timeMs}`);
  assert.equal(Math.floor(message.timeMs / 1000) * 1000, message.time);

  await ada.evaluate((m, id) => m.chat.editTextMessage(id, "hello, Bob"), message.id);
  const edited = await bob.waitForEvent("chat", "chatUpdate", ({ action }) => action === "edit");
  assert.deepEqual([edited[0].message.message, edited[0].message.isEdited], ["hello, Bob", true]);
  await ada.waitFor((m) => texts(m).includes("hello, Bob"));

  await ada.evaluate((m, id) => m.chat.pin(id), message.id);
  await bob.waitForEvent("chat", "pinMessage", ({ message: { id } }) => id === message.id);
  assert.equal(await bob.evaluate((m, id) => m.chat.messages.find((one) => one.id === id).pinned, message.id), true);
  const [cem] = await context.addParticipants(meeting, ["group_call_participant"]);
  await cem.waitFor((m, id) => m.chat.messages.find((one) => one.id === id)?.pinned, message.id);
  await ada.evaluate((m, id) => m.chat.unpin(id), message.id);
  await bob.waitForEvent("chat", "unpinMessage", ({ message: { id } }) => id === message.id);

  await ada.evaluate((m, id) => m.chat.deleteMessage(id), message.id);
  for (const one of [ada, bob, cem]) await one.eventually((m) => texts(m), ["Grüße 👋 <b>"]);
  await bob.waitForEvent("chat", "chatUpdate", ({ action }) => action === "delete");
});

scenario("a message cannot be edited or deleted by another participant without the permission", { events: [65539, 65540, 65535] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada, bob] = await context.addParticipants(meeting, CALL_PRESETS);
  await ada.evaluate((m) => m.chat.sendTextMessage("mine"));
  const id = await bob.waitFor((m) => m.chat.messages[0]?.id);
  await bob.evaluate((m, messageId) => m.chat.editTextMessage(messageId, "theirs"), id);
  await bob.evaluate((m, messageId) => m.chat.deleteMessage(messageId), id);
  await bob.waitForErrorReply(/./);
  await ada.consistently((m) => texts(m), ["mine"], 500);
  await bob.consistently((m) => texts(m), ["mine"], 100);
  const unknown = await ada.expectError((m) => m.chat.pin("01a20720-2542-7bde-af6a-a7174a808b04"));
  assert.equal(unknown.code, "0504");
});

scenario("a private message reaches its recipient only, also in the history", { events: [65538, 65541] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada, bob, cem] = await context.addParticipants(meeting, [...CALL_PRESETS, "group_call_participant"]);
  await ada.waitFor((m) => names(m).length === 2);
  await bob.waitFor((m) => names(m).length === 2);
  await ada.evaluate((m, id) => m.chat.sendTextMessage("psst", [id]), await bob.peerId);
  await bob.eventually((m) => texts(m), ["psst"]);
  await ada.eventually((m) => texts(m), ["psst"]);
  const targets = await bob.evaluate((m) => m.chat.messages[0].targetUserIds);
  assert.deepEqual([...targets].sort(), [ada.userId, bob.userId].sort());
  await bob.evaluate((m, id) => m.chat.sendTextMessage("what?", [id]), await ada.peerId);
  await ada.eventually((m) => texts(m), ["psst", "what?"]);
  await cem.consistently((m) => texts(m), [], 300);
  const withBob = (m, userId) => m.chat.fetchPrivateMessages({ userId, limit: 10, direction: "before", timestamp: Date.now() + 1000 }).then((all) => all.map((one) => one.message));
  assert.deepEqual(await ada.evaluate(withBob, bob.userId), ["what?", "psst"]);
  assert.deepEqual(await ada.evaluate(withBob, cem.userId), []);
  assert.deepEqual(await cem.evaluate(withBob, bob.userId), []);
  await cem.loadPage();
  await cem.enter();
  await cem.consistently((m) => texts(m), [], 300);
  await bob.loadPage();
  await bob.enter();
  await bob.eventually((m) => texts(m), ["psst", "what?"]);
});

scenario("a late joiner receives the history, and pages through it", { events: [65536, 65541] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada] = await context.addParticipants(meeting, CALL_PRESETS.slice(0, 1));
  for (let index = 0; index < 25; index += 1) await ada.evaluate((m, text) => m.chat.sendTextMessage(text), `message ${index}`);
  const all = Array.from({ length: 25 }, (_, index) => `message ${index}`);
  await ada.eventually((m) => texts(m), all);
  const [bob] = await context.addParticipants(meeting, CALL_PRESETS.slice(1));
  await bob.eventually((m) => texts(m), all);
  const fetchMessages = (m, query) => m.chat.fetchPublicMessages(query).then((page) => page.map((one) => [one.message, one.timeMs]));
  const newest = await bob.evaluate(fetchMessages, { limit: 10, direction: "before", timestamp: Date.now() + 1000 });
  assert.deepEqual(newest.map(([text]) => text), all.slice(15).reverse());
  const times = await bob.evaluate((m) => m.chat.messages.map((one) => one.timeMs));
  const middle = times[12];
  const older = await bob.evaluate(fetchMessages, { limit: 100, direction: "before", timestamp: middle });
  assert.deepEqual(older.map(([text]) => text), all.filter((_, index) => times[index] <= middle).reverse());
  const newer = await bob.evaluate(fetchMessages, { limit: 5, direction: "after", timestamp: middle });
  assert.deepEqual(newer.map(([text]) => text), all.filter((_, index) => times[index] >= middle).slice(0, 5));
  await ada.evaluate((m) => m.chat.pin(m.chat.messages[3].id));
  await bob.waitForEvent("chat", "pinMessage");
  const pinned = await bob.evaluate((m) => m.chat.fetchPinnedMessages({ limit: 10, direction: "before", timestamp: Date.now() + 1000 }).then((page) => page.map((one) => one.message)));
  assert.deepEqual(pinned, ["message 3"]);
});

/** Downloads a file in another participant's page. */
const download = (_, link) => fetch(link).then(async (answer) => ({ status: answer.status, type: answer.headers.get("content-type"), bytes: [...new Uint8Array(await answer.arrayBuffer())] }));

scenario("files, images and custom messages are delivered", { events: [65537, 65539] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada, bob] = await context.addParticipants(meeting, CALL_PRESETS);
  await ada.evaluate((m) => m.chat.sendImageMessage(new File([new Uint8Array([137, 80, 78, 71, 13, 10, 26, 10, 0])], "a picture.png", { type: "image/png" })));
  const image = await bob.waitFor((m) => toPlain(m.chat.messages.find((one) => one.type === "image")));
  assert.deepEqual(await bob.evaluate(download, image.link), { status: 200, type: "image/png", bytes: [137, 80, 78, 71, 13, 10, 26, 10, 0] });

  await ada.evaluate((m) => m.chat.sendFileMessage(new File(["Grüße"], "Brief & Söhne.txt", { type: "text/plain" })));
  const file = await bob.waitFor((m) => toPlain(m.chat.messages.find((one) => one.type === "file")));
  assert.deepEqual([file.name, file.size], ["Brief & Söhne.txt", 7]);
  const downloaded = await bob.evaluate(download, file.link);
  assert.deepEqual([downloaded.status, Buffer.from(downloaded.bytes).toString()], [200, "Grüße"]);

  await ada.evaluate((m, id) => m.chat.editFileMessage(id, new File(["2"], "two.txt", { type: "text/plain" })), file.id);
  await bob.waitFor((m) => m.chat.messages.some((one) => one.type === "file" && one.name === "two.txt"));

  await ada.evaluate((m) => m.chat.sendCustomMessage({
    type: "custom", message: "look", html: "<i>look</i>", files: [new File(["three"], "three.txt", { type: "text/plain" })],
  }));
  const custom = await bob.waitFor((m) => toPlain(m.chat.messages.find((one) => one.type === "custom")));
  assert.deepEqual([custom.message, custom.html, custom.files[0].name], ["look", "<i>look</i>", "three.txt"]);
  assert.equal(Buffer.from((await bob.evaluate(download, custom.files[0].link)).bytes).toString(), "three");
  assert.equal(await ada.evaluate((m) => m.chat.messages.length), 3);
});

scenario("a participant without the permission cannot send files, even with a modified client", { events: [65535], allowedMessages: [{ text: /status of 403.*chat-upload/, reason: "the browser reports every HTTP error" }] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada, bob] = await context.addParticipants(meeting, ["group_call_host", "group_call_guest"]);
  const permit = (m) => Object.assign(m.self.permissions.chatPublic, { canSend: true, text: true, files: true });
  await bob.evaluate(permit);
  const error = await bob.expectError((m) => m.chat.sendFileMessage(new File(["x"], "x.txt", { type: "text/plain" })));
  assert.equal(error.code, "0500");
  // A custom message with a file needs no upload, but it does need the permission to send files.
  await bob.evaluate((m) => m.chat.sendCustomMessage({ type: "custom", message: "smuggled", files: ["https://example.com/x"] }));
  await bob.waitForErrorReply(/files|permission/);
  await bob.evaluate((m) => m.chat.sendTextMessage("only text then"));
  await ada.eventually((m) => texts(m), ["only text then"]);
});

for (const persist of [true, false]) {
  scenario(`messages are ${persist ? "kept" : "deleted"} after their session when persist_chat is ${persist}`, { events: [65536, 31] }, async (context) => {
    const meeting = await context.server.createMeeting({ persist_chat: persist });
    const [ada, bob] = await context.addParticipants(meeting, CALL_PRESETS);
    await ada.evaluate((m) => m.chat.sendTextMessage("first session"));
    await bob.eventually((m) => texts(m), ["first session"]);
    const session = await ada.evaluate((m) => m.meta.sessionId);
    await ada.evaluate((m) => m.participants.kickAll());
    await bob.waitForEvent("self", "roomLeft", ({ state }) => state === "ended");
    for (const one of [ada, bob]) {
      await one.loadPage();
      await one.enter();
      await one.eventually((m) => texts(m), persist ? ["first session"] : []);
    }
    assert.notEqual(await ada.evaluate((m) => m.meta.sessionId), session);
    await bob.evaluate((m) => m.chat.sendTextMessage("second session"));
    await ada.eventually((m) => texts(m), [...(persist ? ["first session"] : []), "second session"]);
  });
}

scenario("the server limits a flood of messages if the client has removed its own limit", { events: [65537, 65535] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada, bob] = await context.addParticipants(meeting, CALL_PRESETS);
  await ada.evaluate(async (m) => {
    m.chat.updateRateLimits(10_000, 60);
    for (let index = 0; index < 260; index += 1) await m.chat.sendTextMessage(`${index}`);
  });
  await ada.waitForErrorReply(/./);
  await bob.waitFor((m) => m.chat.messages.length >= 100);
  let last = -1;
  for (let count = 0; count !== last; count = await bob.evaluate((m) => m.chat.messages.length)) {
    last = count;
    await bob.consistently(() => true, true, 700);
  }
  assert(last >= 100 && last <= 215, `${last} of 260 messages arrived`);
  assert.equal(await ada.evaluate((m) => m.chat.messages.length), last);
  assert.equal(await ada.roomState, "joined");
});
