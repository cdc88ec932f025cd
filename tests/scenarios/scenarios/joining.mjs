// Joining, the roster, and leaving.

import assert from "node:assert/strict";
import { scenario } from "../suite.mjs";

/** The events of a client that joins a call with media. */
const JOIN_EVENTS = [3, 2, 5, 20, 65536, 196609, 131082, 50331664, 50331649, 50331668];

const others = (m) => m.participants.joined.toArray().map(info);

scenario("two participants join, receive each other in the roster, and one leaves", { events: [...JOIN_EVENTS, 33, 4, 50331665, 50331673, 50331674] }, async (context) => {
  const meeting = await context.server.createMeeting({ title: "Über lunch" });
  const ada = await context.addParticipant(meeting, { preset_name: "group_call_host", custom_participant_id: "ada@example.com" });
  await ada.init();
  assert.equal(await ada.roomState, "init");
  await ada.join();
  assert.deepEqual(await ada.waitForEvent("self", "roomJoined"), [{ reconnected: false }]);
  const before = Date.now() / 1000;
  const about = await ada.evaluate((m) => ({
    state: m.self.roomState, title: m.meta.meetingTitle, session: m.meta.sessionId, meeting: m.meta.meetingId,
    view: m.meta.viewType, name: m.self.name, userId: m.self.userId, customId: m.self.customParticipantId, preset: m.self.presetName,
    stage: m.stage.status, socket: m.meta.socketState.state, media: [m.meta.mediaState.send?.state, m.meta.mediaState.recv?.state],
  }));
  assert.match(about.session, /^[0-9a-f-]{36}$/);
  assert.deepEqual({ ...about, session: 1 }, {
    state: "joined", title: "Über lunch", session: 1, meeting: meeting.id, view: "GROUP_CALL", name: "Ada", userId: ada.userId,
    customId: "ada@example.com", preset: "group_call_host", stage: "ON_STAGE", socket: "connected", media: ["connected", "connected"],
  });
  const since = await ada.waitFor((m) => m.meta.meetingStartedTimestamp?.getTime());
  assert(Math.abs(since / 1000 - before) < 60, `the session began at ${since}`);

  const bob = await context.addParticipant(meeting, { preset_name: "group_call_participant", picture: "https://example.com/bob.png" });
  await bob.enter();
  const [adaId, bobId] = [await ada.peerId, await bob.peerId];
  await ada.eventually(others, [{
    id: bobId, userId: bob.userId, name: "Bob", picture: "https://example.com/bob.png", customParticipantId: "participant-1",
    presetName: "group_call_participant", stageStatus: "ON_STAGE",
  }]);
  const [first] = await bob.evaluate(others);
  assert.deepEqual({ ...first, picture: 1 }, {
    id: adaId, userId: ada.userId, name: "Ada", picture: 1, customParticipantId: "ada@example.com", presetName: "group_call_host", stageStatus: "ON_STAGE",
  });
  assert.equal((await ada.events("participants.joined", "participantJoined")).length, 1);
  assert.equal(await bob.evaluate((m) => m.meta.sessionId), about.session);
  assert.equal(await bob.evaluate((m) => m.meta.meetingStartedTimestamp.getTime()), since);

  await bob.leave();
  assert.deepEqual(await bob.waitForEvent("self", "roomLeft"), [{ state: "left" }]);
  await ada.waitForEvent("participants.joined", "participantLeft", ({ id }) => id === bobId);
  assert.deepEqual(await ada.evaluate(others), []);
  assert.equal(await ada.roomState, "joined");
});

scenario("four participants have the same roster, and search it", { events: [...JOIN_EVENTS] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const four = await context.addParticipants(meeting, ["group_call_host", "group_call_participant", "group_call_participant", "group_call_guest"]);
  for (const one of four) {
    await one.eventually((m) => names(m), ["Ada", "Bob", "Cem", "Dee"].filter((name) => name !== one.name));
  }
  const [ada, bob] = four;
  const search = (m, [text, limit, offset]) => m.participants.getAllJoinedPeers(text, limit, offset).then((all) => all.map((one) => one.displayName ?? one.name).sort());
  assert.deepEqual(await ada.evaluate(search, ["ce", 10, 0]), ["Cem"]);
  assert.deepEqual(await ada.evaluate(search, ["nobody", 10, 0]), []);
  const pages = [...await bob.evaluate(search, ["", 2, 0]), ...await bob.evaluate(search, ["", 2, 2])];
  assert.deepEqual(pages.sort(), ["Ada", "Cem", "Dee"]);
  const [eli] = await context.addParticipants(meeting, ["group_call_participant"], { enter: false });
  await eli.init();
  const early = await eli.evaluate((m) => m.participants.getParticipantsInMeetingPreJoin().then(({ peers }) => peers.map((one) => one.displayName).sort()));
  assert.deepEqual(early, ["Ada", "Bob", "Cem", "Dee"]);
  await eli.consistently((m) => m.self.roomState, "init", 300);
  await ada.consistently((m) => names(m), ["Bob", "Cem", "Dee"], 300);
});

scenario("a participant who closes the page or navigates away has left", { events: [3, 4] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada, bob, cem] = await context.addParticipants(meeting, ["group_call_host", "group_call_participant", "group_call_participant"]);
  await ada.eventually((m) => names(m), ["Bob", "Cem"]);
  await bob.closePage();
  await ada.eventually((m) => names(m), ["Cem"], undefined, 8000);
  await cem.page.goto("about:blank");
  await ada.eventually((m) => names(m), [], undefined, 8000);
});

scenario("a reloaded page is a new peer of the same participant, and the old peer leaves", { events: [3, 4] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada, bob] = await context.addParticipants(meeting, ["group_call_host", "group_call_participant"]);
  const first = await bob.peerId;
  await bob.loadPage();
  await bob.enter();
  assert.notEqual(await bob.peerId, first);
  await ada.eventually((m) => m.participants.joined.toArray().map((one) => one.userId), [bob.userId], undefined, 8000);
});

scenario("one participant in two tabs is two peers", { events: [3, 4] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada, bob] = await context.addParticipants(meeting, ["group_call_host", "group_call_participant"]);
  const twin = await context.openParticipant({ ...bob, id: bob.userId, custom_participant_id: bob.customId });
  await twin.enter();
  await ada.eventually((m) => m.participants.joined.toArray().map((one) => one.userId), [bob.userId, bob.userId]);
  assert.deepEqual(await bob.evaluate((m) => m.participants.joined.toArray().map((one) => one.userId).sort()), [ada.userId, bob.userId].sort());
  await ada.evaluate((m) => m.chat.sendTextMessage("to both tabs"));
  await bob.eventually((m) => texts(m), ["to both tabs"]);
  await twin.eventually((m) => texts(m), ["to both tabs"]);
  await bob.leave();
  await ada.eventually((m) => m.participants.joined.toArray().map((one) => one.id), [await twin.peerId]);
  assert.equal(await twin.roomState, "joined");
});

scenario("a presenter and a viewer join a webinar", { events: JOIN_EVENTS }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada, bob] = await context.addParticipants(meeting, ["webinar_presenter", "webinar_viewer"]);
  assert.equal(await ada.evaluate((m) => m.meta.viewType), "WEBINAR");
  assert.equal(await ada.evaluate((m) => m.stage.status), "ACCEPTED_TO_JOIN_STAGE");
  assert.equal(await bob.evaluate((m) => m.stage.status), "OFF_STAGE");
  await bob.eventually((m) => names(m), ["Ada"]);
  await ada.eventually((m) => names(m), ["Bob"]);
  await ada.evaluate((m) => m.stage.join());
  await bob.waitFor((m) => byName(m, "Ada")?.stageStatus === "ON_STAGE");
  await bob.leave();
  await ada.eventually((m) => names(m), []);
});

scenario("a livestream has a host and a count of its viewers", { events: [3, 2, 5, 17, 20] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada, bob] = await context.addParticipants(meeting, ["livestream_host", "livestream_viewer"]);
  assert.equal(await bob.evaluate((m) => m.meta.viewType), "LIVESTREAM");
  assert.equal(await bob.roomState, "joined");
  assert.equal(await bob.evaluate((m) => m.stage.status), "OFF_STAGE");
  assert.equal(await ada.evaluate((m) => m.stage.status), "ACCEPTED_TO_JOIN_STAGE");
  await ada.evaluate((m) => m.stage.join());
  await bob.waitFor((m) => byName(m, "Ada")?.stageStatus === "ON_STAGE");
  const alone = await bob.waitFor((m) => m.livestream.viewerCount);
  const [cem] = await context.addParticipants(meeting, ["livestream_viewer"]);
  await bob.eventually((m) => m.livestream.viewerCount, alone + 1);
  await cem.eventually((m) => m.livestream.viewerCount, alone + 1);
  await cem.leave();
  await bob.eventually((m) => m.livestream.viewerCount, alone);
});

scenario("an audio room is joined like a call", { events: JOIN_EVENTS }, async (context) => {
  const preset = await context.server.createPreset("group_call_participant", { config: { view_type: "AUDIO_ROOM" } });
  const [ada, bob] = await context.addParticipants(await context.server.createMeeting(), [preset, preset]);
  assert.equal(await ada.evaluate((m) => m.meta.viewType), "AUDIO_ROOM");
  await ada.eventually((m) => names(m), ["Bob"]);
  await bob.eventually((m) => names(m), ["Ada"]);
});

scenario("hidden participants and recorders receive the roster but are not in it", { events: [3] }, async (context) => {
  const hidden = await context.server.createPreset("group_call_participant", { permissions: { hidden_participant: true } });
  const recorder = await context.server.createPreset("group_call_participant", { permissions: { hidden_participant: true, recorder_type: "RECORDER" } });
  const meeting = await context.server.createMeeting();
  const [ada, bob, cem] = await context.addParticipants(meeting, ["group_call_host", hidden, recorder]);
  const [dee] = await context.addParticipants(meeting, ["group_call_participant"]);
  await bob.waitFor((m) => names(m).includes("Ada") && names(m).includes("Dee"));
  await cem.waitFor((m) => names(m).includes("Ada") && names(m).includes("Dee"));
  await dee.eventually((m) => names(m), ["Ada"]);
  await ada.consistently((m) => names(m), ["Dee"], 300);
  await bob.leave();
  await ada.consistently((m) => names(m), ["Dee"], 500);
});

scenario("a name set before joining is used if the preset permits it", { events: [3] }, async (context) => {
  const may = await context.server.createPreset("group_call_participant", { permissions: { can_edit_display_name: true } });
  const mayNot = await context.server.createPreset("group_call_participant", { permissions: { can_edit_display_name: false } });
  const meeting = await context.server.createMeeting();
  const [ada] = await context.addParticipants(meeting, ["group_call_host"]);
  const [bob, cem] = await context.addParticipants(meeting, [may, mayNot], { enter: false });
  for (const one of [bob, cem]) {
    await one.init();
    await one.evaluate((m, name) => m.self.setName(name), `Sir ${one.name}`);
    await one.join();
  }
  await ada.eventually((m) => names(m), ["Cem", "Sir Bob"]);
  await cem.eventually((m) => names(m), ["Ada", "Sir Bob"]);
});

scenario("a participant without a name or picture, and with a non-ASCII custom id, can join", { events: [3] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada] = await context.addParticipants(meeting, ["group_call_host"]);
  const unnamed = await context.addParticipant(meeting, { preset_name: "group_call_participant", name: undefined, custom_participant_id: "ü?~ 👋" });
  await unnamed.enter();
  await ada.eventually((m) => m.participants.joined.toArray().map((one) => one.customParticipantId), ["ü?~ 👋"]);
  await unnamed.eventually((m) => names(m), ["Ada"]);
});
