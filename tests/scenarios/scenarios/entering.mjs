// Coming in, being seen, and going.

import assert from "node:assert/strict";
import { scenario } from "../suite.mjs";

/** Everything that travels when somebody enters a call with media. */
const ENTERING = [3, 2, 5, 20, 65536, 196609, 131082, 50331664, 50331649, 50331668];

const others = (m) => m.participants.joined.toArray().map(who);

scenario("two people meet, see each other, and one leaves", { sees: [...ENTERING, 33, 4, 50331665, 50331673, 50331674] }, async (world) => {
  const meeting = await world.parlor.meeting({ title: "Über lunch" });
  const ada = await world.person(meeting, { preset_name: "group_call_host", custom_participant_id: "ada@example.com" });
  await ada.init();
  assert.equal(await ada.roomState, "init");
  await ada.join();
  assert.deepEqual(await ada.event("self", "roomJoined"), [{ reconnected: false }]);
  const before = Date.now() / 1000;
  const about = await ada.do((m) => ({
    state: m.self.roomState, title: m.meta.meetingTitle, session: m.meta.sessionId, meeting: m.meta.meetingId,
    view: m.meta.viewType, name: m.self.name, userId: m.self.userId, customId: m.self.customParticipantId, preset: m.self.presetName,
    stage: m.stage.status, socket: m.meta.socketState.state, media: [m.meta.mediaState.send?.state, m.meta.mediaState.recv?.state],
  }));
  assert.match(about.session, /^[0-9a-f-]{36}$/);
  assert.deepEqual({ ...about, session: 1 }, {
    state: "joined", title: "Über lunch", session: 1, meeting: meeting.id, view: "GROUP_CALL", name: "Ada", userId: ada.userId,
    customId: "ada@example.com", preset: "group_call_host", stage: "ON_STAGE", socket: "connected", media: ["connected", "connected"],
  });
  const since = await ada.until((m) => m.meta.meetingStartedTimestamp?.getTime());
  assert(Math.abs(since / 1000 - before) < 60, `the session began at ${since}`);

  const bob = await world.person(meeting, { preset_name: "group_call_participant", picture: "https://example.com/bob.png" });
  await bob.enter();
  const [adaId, bobId] = [await ada.peerId, await bob.peerId];
  await ada.becomes(others, [{
    id: bobId, userId: bob.userId, name: "Bob", picture: "https://example.com/bob.png", customParticipantId: "person-1",
    presetName: "group_call_participant", stageStatus: "ON_STAGE",
  }]);
  const [first] = await bob.do(others);
  assert.deepEqual({ ...first, picture: 1 }, {
    id: adaId, userId: ada.userId, name: "Ada", picture: 1, customParticipantId: "ada@example.com", presetName: "group_call_host", stageStatus: "ON_STAGE",
  });
  assert.equal((await ada.events("participants.joined", "participantJoined")).length, 1);
  assert.equal(await bob.do((m) => m.meta.sessionId), about.session);
  assert.equal(await bob.do((m) => m.meta.meetingStartedTimestamp.getTime()), since);

  await bob.leave();
  assert.deepEqual(await bob.event("self", "roomLeft"), [{ state: "left" }]);
  await ada.event("participants.joined", "participantLeft", ({ id }) => id === bobId);
  assert.deepEqual(await ada.do(others), []);
  assert.equal(await ada.roomState, "joined");
});

scenario("four people have the same roster, and search it", { sees: [...ENTERING] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const four = await world.people(meeting, ["group_call_host", "group_call_participant", "group_call_participant", "group_call_guest"]);
  for (const one of four) {
    await one.becomes((m) => names(m), ["Ada", "Bob", "Cem", "Dee"].filter((name) => name !== one.name));
  }
  const [ada, bob] = four;
  const search = (m, [text, limit, offset]) => m.participants.getAllJoinedPeers(text, limit, offset).then((all) => all.map((one) => one.displayName ?? one.name).sort());
  assert.deepEqual(await ada.do(search, ["ce", 10, 0]), ["Cem"]);
  assert.deepEqual(await ada.do(search, ["nobody", 10, 0]), []);
  const pages = [...await bob.do(search, ["", 2, 0]), ...await bob.do(search, ["", 2, 2])];
  assert.deepEqual(pages.sort(), ["Ada", "Cem", "Dee"]);
  const [eli] = await world.people(meeting, ["group_call_participant"], { enter: false });
  await eli.init();
  const early = await eli.do((m) => m.participants.getParticipantsInMeetingPreJoin().then(({ peers }) => peers.map((one) => one.displayName).sort()));
  assert.deepEqual(early, ["Ada", "Bob", "Cem", "Dee"]);
  await eli.stays((m) => m.self.roomState, "init", 300);
  await ada.stays((m) => names(m), ["Bob", "Cem", "Dee"], 300);
});

scenario("somebody who closes the page or walks off to another one has left", { sees: [3, 4] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada, bob, cem] = await world.people(meeting, ["group_call_host", "group_call_participant", "group_call_participant"]);
  await ada.becomes((m) => names(m), ["Bob", "Cem"]);
  await bob.vanish();
  await ada.becomes((m) => names(m), ["Cem"], undefined, 8000);
  await cem.page.goto("about:blank");
  await ada.becomes((m) => names(m), [], undefined, 8000);
});

scenario("a reloaded page is the same person again, and no ghost stays", { sees: [3, 4] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada, bob] = await world.people(meeting, ["group_call_host", "group_call_participant"]);
  const first = await bob.peerId;
  await bob.load();
  await bob.enter();
  assert.notEqual(await bob.peerId, first);
  await ada.becomes((m) => m.participants.joined.toArray().map((one) => one.userId), [bob.userId], undefined, 8000);
});

scenario("one participant in two tabs is two peers", { sees: [3, 4] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada, bob] = await world.people(meeting, ["group_call_host", "group_call_participant"]);
  const twin = await world.again({ ...bob, id: bob.userId, custom_participant_id: bob.customId });
  await twin.enter();
  await ada.becomes((m) => m.participants.joined.toArray().map((one) => one.userId), [bob.userId, bob.userId]);
  assert.deepEqual(await bob.do((m) => m.participants.joined.toArray().map((one) => one.userId).sort()), [ada.userId, bob.userId].sort());
  await ada.do((m) => m.chat.sendTextMessage("to both tabs"));
  await bob.becomes((m) => texts(m), ["to both tabs"]);
  await twin.becomes((m) => texts(m), ["to both tabs"]);
  await bob.leave();
  await ada.becomes((m) => m.participants.joined.toArray().map((one) => one.id), [await twin.peerId]);
  assert.equal(await twin.roomState, "joined");
});

scenario("a webinar's presenter and viewer meet", { sees: ENTERING }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada, bob] = await world.people(meeting, ["webinar_presenter", "webinar_viewer"]);
  assert.equal(await ada.do((m) => m.meta.viewType), "WEBINAR");
  assert.equal(await ada.do((m) => m.stage.status), "ACCEPTED_TO_JOIN_STAGE");
  assert.equal(await bob.do((m) => m.stage.status), "OFF_STAGE");
  await bob.becomes((m) => names(m), ["Ada"]);
  await ada.becomes((m) => names(m), ["Bob"]);
  await ada.do((m) => m.stage.join());
  await bob.until((m) => named(m, "Ada")?.stageStatus === "ON_STAGE");
  await bob.leave();
  await ada.becomes((m) => names(m), []);
});

scenario("a livestream's host and viewers, who are counted", { sees: [3, 2, 5, 17, 20] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada, bob] = await world.people(meeting, ["livestream_host", "livestream_viewer"]);
  assert.equal(await bob.do((m) => m.meta.viewType), "LIVESTREAM");
  assert.equal(await bob.roomState, "joined");
  assert.equal(await bob.do((m) => m.stage.status), "OFF_STAGE");
  assert.equal(await ada.do((m) => m.stage.status), "ACCEPTED_TO_JOIN_STAGE");
  await ada.do((m) => m.stage.join());
  await bob.until((m) => named(m, "Ada")?.stageStatus === "ON_STAGE");
  const alone = await bob.until((m) => m.livestream.viewerCount);
  const [cem] = await world.people(meeting, ["livestream_viewer"]);
  await bob.becomes((m) => m.livestream.viewerCount, alone + 1);
  await cem.becomes((m) => m.livestream.viewerCount, alone + 1);
  await cem.leave();
  await bob.becomes((m) => m.livestream.viewerCount, alone);
});

scenario("an audio room is entered like a call", { sees: ENTERING }, async (world) => {
  const preset = await world.parlor.preset("group_call_participant", { config: { view_type: "AUDIO_ROOM" } });
  const [ada, bob] = await world.people(await world.parlor.meeting(), [preset, preset]);
  assert.equal(await ada.do((m) => m.meta.viewType), "AUDIO_ROOM");
  await ada.becomes((m) => names(m), ["Bob"]);
  await bob.becomes((m) => names(m), ["Ada"]);
});

scenario("hidden people and recorders see and are not seen", { sees: [3] }, async (world) => {
  const hidden = await world.parlor.preset("group_call_participant", { permissions: { hidden_participant: true } });
  const recorder = await world.parlor.preset("group_call_participant", { permissions: { hidden_participant: true, recorder_type: "RECORDER" } });
  const meeting = await world.parlor.meeting();
  const [ada, bob, cem] = await world.people(meeting, ["group_call_host", hidden, recorder]);
  const [dee] = await world.people(meeting, ["group_call_participant"]);
  await bob.until((m) => names(m).includes("Ada") && names(m).includes("Dee"));
  await cem.until((m) => names(m).includes("Ada") && names(m).includes("Dee"));
  await dee.becomes((m) => names(m), ["Ada"]);
  await ada.stays((m) => names(m), ["Dee"], 300);
  await bob.leave();
  await ada.stays((m) => names(m), ["Dee"], 500);
});

scenario("a name chosen before joining counts for those who may choose", { sees: [3] }, async (world) => {
  const may = await world.parlor.preset("group_call_participant", { permissions: { can_edit_display_name: true } });
  const mayNot = await world.parlor.preset("group_call_participant", { permissions: { can_edit_display_name: false } });
  const meeting = await world.parlor.meeting();
  const [ada] = await world.people(meeting, ["group_call_host"]);
  const [bob, cem] = await world.people(meeting, [may, mayNot], { enter: false });
  for (const one of [bob, cem]) {
    await one.init();
    await one.do((m, name) => m.self.setName(name), `Sir ${one.name}`);
    await one.join();
  }
  await ada.becomes((m) => names(m), ["Cem", "Sir Bob"]);
  await cem.becomes((m) => names(m), ["Ada", "Sir Bob"]);
});

scenario("somebody without a name, picture or plain custom id gets in", { sees: [3] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada] = await world.people(meeting, ["group_call_host"]);
  const nobody = await world.person(meeting, { preset_name: "group_call_participant", name: undefined, custom_participant_id: "ü?~ 👋" });
  await nobody.enter();
  await ada.becomes((m) => m.participants.joined.toArray().map((one) => one.customParticipantId), ["ü?~ 👋"]);
  await nobody.becomes((m) => names(m), ["Ada"]);
});
