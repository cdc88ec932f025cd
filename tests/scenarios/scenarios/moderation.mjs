// Moderation: kicking, muting, pinning, and changing permissions.

import assert from "node:assert/strict";
import { scenario } from "../suite.mjs";

const CALL_PRESETS = ["group_call_host", "group_call_participant"];

export const KICK_TIMEOUT = { text: /exception: .*request timeout for callback eventId:30|exception: .*eventId:3[01]/, reason: "the SDK awaits a reply to a kick, which the server must not send" };

scenario("a participant is kicked, and can join again", { events: [30, 4], allowedMessages: [KICK_TIMEOUT] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada, bob, cem] = await context.addParticipants(meeting, [...CALL_PRESETS, "group_call_participant"]);
  await ada.eventually((m) => names(m), ["Bob", "Cem"]);
  await ada.evaluate((m) => byName(m, "Bob").kick());
  assert.deepEqual(await bob.waitForEvent("self", "roomLeft"), [{ state: "kicked" }]);
  assert.equal(await bob.roomState, "kicked");
  await bob.waitFor(() => window.sockets.at(-1).closed?.code === 1000);
  for (const one of [ada, cem]) await one.eventually((m) => names(m), one === ada ? ["Cem"] : ["Ada"]);
  assert.deepEqual([await ada.roomState, await cem.roomState], ["joined", "joined"]);
  await bob.loadPage();
  await bob.enter();
  await ada.eventually((m) => names(m), ["Bob", "Cem"]);
});

scenario("the meeting is ended for all, and a new session starts", { events: [31] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada, bob, cem] = await context.addParticipants(meeting, [...CALL_PRESETS, "group_call_participant"]);
  const session = await ada.evaluate((m) => m.meta.sessionId);
  await ada.evaluate((m) => m.participants.kickAll());
  for (const one of [ada, bob, cem]) assert.deepEqual(await one.waitForEvent("self", "roomLeft"), [{ state: "ended" }]);
  const ended = await context.server.api("GET", `/sessions/${session}`);
  assert.equal(ended.status, "ENDED");
  assert.equal((await context.server.request("GET", `/meetings/${meeting.id}/active-session`)).status, 404);
  await bob.loadPage();
  await bob.enter();
  assert.notEqual(await bob.evaluate((m) => m.meta.sessionId), session);
});

scenario("a participant without permissions cannot kick, end the meeting, mute, pin or change permissions", { events: [65535], allowedMessages: [KICK_TIMEOUT, { text: /exception: .*requires the permission can_change_participant_permissions/, reason: "the SDK does not await changes of permissions" }] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada, bob] = await context.addParticipants(meeting, CALL_PRESETS);
  await bob.eventually((m) => names(m), ["Ada"]);
  assert.equal((await bob.expectError((m) => byName(m, "Ada").kick())).code, "1201");
  assert.equal((await bob.expectError((m) => m.participants.kickAll())).code, "1201");
  // A client that is modified to believe it has the permissions.
  await bob.evaluate((m) => {
    for (const one of ["kickParticipant", "canDisableParticipantAudio", "canAllowParticipantAudio", "canChangeParticipantPermissions", "pinParticipant"]) {
      Object.defineProperty(m.self.permissions, one, { get: () => true });
    }
  });
  await bob.evaluate((m) => m.participants.kickAll());
  bob.evaluate((m) => byName(m, "Ada").kick()).catch(() => {});
  await bob.expectError((m) => byName(m, "Ada").disableAudio());
  await bob.expectError((m) => m.participants.disableAllAudio(true));
  await bob.evaluate((m) => m.participants.updatePermissions([byName(m, "Ada").id], { polls: { canCreate: false } }));
  await bob.evaluate((m) => byName(m, "Ada").pin());
  await bob.waitForErrorReply(/./);
  await ada.consistently((m) => [m.self.roomState, m.self.permissions.polls.canCreate, m.self.isPinned], ["joined", true, false], 700);
  assert.equal(await bob.roomState, "joined");
});

scenario("the server replies to a host's mute requests", { events: [50331741, 50331742] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada, bob] = await context.addParticipants(meeting, CALL_PRESETS);
  await ada.eventually((m) => names(m), ["Bob"]);
  await ada.evaluate((m) => byName(m, "Bob").disableAudio());
  await ada.evaluate((m) => byName(m, "Bob").disableVideo());
  await ada.evaluate((m) => m.participants.disableAllAudio(false));
  await ada.evaluate((m) => m.participants.disableAllVideo());
  assert.equal(await bob.roomState, "joined");
});

scenario("one participant is pinned for all, including late joiners", { events: [50331667, 50331678, 50331668] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada, bob, cem] = await context.addParticipants(meeting, [...CALL_PRESETS, "group_call_participant"]);
  const pinned = (m) => [...m.participants.pinned.toArray().map((one) => one.name), ...(m.self.isPinned ? [m.self.name] : [])];
  await ada.eventually((m) => names(m), ["Bob", "Cem"]);
  await ada.evaluate((m) => byName(m, "Bob").pin());
  for (const one of [ada, bob, cem]) await one.eventually(pinned, ["Bob"]);
  await bob.waitForEvent("self", "pinned");
  const [dee] = await context.addParticipants(meeting, ["group_call_participant"]);
  await dee.eventually(pinned, ["Bob"]);
  await ada.evaluate((m) => m.self.pin());
  for (const one of [ada, bob, cem, dee]) await one.eventually(pinned, ["Ada"]);
  await ada.evaluate((m) => m.self.unpin());
  for (const one of [ada, bob, cem, dee]) await one.eventually(pinned, []);
  await ada.evaluate((m) => byName(m, "Cem").pin());
  await bob.eventually(pinned, ["Cem"]);
  await cem.leave();
  for (const one of [ada, bob]) await one.eventually(pinned, []);
});

scenario("permissions that are changed during a call are reported to others and enforced", { events: [327680, 327681, 33, 65535] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada, bob] = await context.addParticipants(meeting, CALL_PRESETS);
  await ada.eventually((m) => names(m), ["Bob"]);
  assert.equal((await ada.evaluate((m) => byName(m, "Bob").getPermissions())).polls.can_create, false);
  const change = (m, permissions) => m.participants.updatePermissions([byName(m, "Bob").id], permissions);
  await ada.evaluate(change, { polls: { canCreate: true }, chat: { public: { text: false, canSend: false } } });
  await bob.waitForEvent("permissions", "permissionsUpdate");
  assert.deepEqual(await bob.evaluate((m) => [m.self.permissions.polls.canCreate, m.self.permissions.polls.canVote, m.self.permissions.chatPublic]), [
    true, true, { canSend: false, text: false, files: true },
  ]);
  const permissions = await ada.evaluate((m) => byName(m, "Bob").getPermissions());
  assert.deepEqual([permissions.polls.can_create, permissions.polls.can_vote, permissions.chat.public.can_send, permissions.chat.public.text, permissions.chat.public.files], [true, true, false, false, true]);
  await bob.evaluate((m) => m.polls.create("May I?", ["yes", "yes!"]));
  await ada.waitFor((m) => m.polls.items.length === 1);
  assert.equal((await bob.expectError((m) => m.chat.sendTextMessage("muted"))).code, "0501");
  await bob.evaluate((m) => {
    Object.assign(m.self.permissions.chatPublic, { canSend: true, text: true });
    return m.chat.sendTextMessage("muted");
  });
  await bob.waitForErrorReply(/./);
  assert.deepEqual(await ada.evaluate((m) => texts(m)), []);

  await ada.evaluate(change, { media: { audio: { canProduce: 2 }, video: { canProduce: 3 }, screenshare: { canProduce: 1 } } });
  await bob.eventually((m) => [m.self.permissions.canProduceAudio, m.self.permissions.canProduceVideo, m.self.permissions.canProduceScreenshare], ["NOT_ALLOWED", "CAN_REQUEST", "ALLOWED"]);

  // The changes last for the session, and a participant who is made a host during it has the powers of a host.
  await ada.evaluate(change, { acceptWaitingRequests: true, kickParticipant: true });
  await bob.eventually((m) => m.self.permissions.acceptWaitingRequests, true);
  const waitingPreset = await context.server.createPreset("group_call_participant", { permissions: { waiting_room_type: "SKIP_ON_ACCEPT" } });
  const [cem] = await context.addParticipants(meeting, [waitingPreset]);
  await bob.eventually((m) => m.participants.waitlisted.toArray().map((one) => one.name), ["Cem"]);
  await bob.evaluate((m, id) => m.participants.acceptWaitingRoomRequest(id), await cem.peerId);
  await cem.eventually((m) => m.self.roomState, "joined");
});

scenario("a participant who is granted the permission to accept stage requests receives them", { events: [12, 13, 327681] }, async (context) => {
  const helper = await context.server.createPreset("webinar_presenter", { permissions: { can_accept_production_requests: false, accept_stage_requests: false } });
  const meeting = await context.server.createMeeting();
  const [ada, bob, cem] = await context.addParticipants(meeting, ["webinar_presenter", helper, "webinar_viewer"]);
  await ada.eventually((m) => names(m), ["Bob", "Cem"]);
  await cem.evaluate((m) => m.stage.requestAccess());
  await ada.evaluate((m) => m.participants.updatePermissions([byName(m, "Bob").id], { canAcceptProductionRequests: true }));
  await bob.eventually((m) => m.self.permissions.acceptStageRequests, true);
  await bob.waitForEvent("stage", "stageAccessRequestUpdate", (list) => list?.some((one) => one.displayName === "Cem"));
  await bob.evaluate((m, id) => m.stage.grantAccess([id]), cem.userId);
  await cem.eventually((m) => m.stage.status, "ACCEPTED_TO_JOIN_STAGE");
});

const NOT_IMPLEMENTED = { text: /status of 501.*\/(recordings|livestreams)/, reason: "the browser reports every HTTP error" };
scenario("recording and livestreaming fail immediately, because they are not implemented", { events: [], allowedMessages: [NOT_IMPLEMENTED] }, async (context) => {
  const [ada] = await context.addParticipants(await context.server.createMeeting(), ["group_call_host"]);
  const began = Date.now();
  assert.equal((await ada.expectError((m) => m.recording.start())).code, "1000");
  assert.equal(await ada.evaluate((m) => m.recording.recordingState), "IDLE");
  const [bob] = await context.addParticipants(await context.server.createMeeting(), ["livestream_host"]);
  assert.equal((await bob.expectError((m) => m.livestream.start())).code, "1900");
  assert.equal(await bob.evaluate((m) => m.livestream.state), "IDLE");
  assert(Date.now() - began < 15_000);
  assert.deepEqual([await ada.roomState, await bob.roomState], ["joined", "joined"]);
});
