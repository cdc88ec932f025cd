// Power over others: removing, muting, pinning, permissions.

import assert from "node:assert/strict";
import { scenario } from "../suite.mjs";

const CALL = ["group_call_host", "group_call_participant"];

export const KICK = { text: /exception: .*request timeout for callback eventId:30|exception: .*eventId:3[01]/, reason: "the SDK awaits a reply to a kick that must not be sent" };

scenario("somebody is kicked, and may come back", { sees: [30, 4], allows: [KICK] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada, bob, cem] = await world.people(meeting, [...CALL, "group_call_participant"]);
  await ada.becomes((m) => names(m), ["Bob", "Cem"]);
  await ada.do((m) => named(m, "Bob").kick());
  assert.deepEqual(await bob.event("self", "roomLeft"), [{ state: "kicked" }]);
  assert.equal(await bob.roomState, "kicked");
  await bob.until(() => window.sockets.at(-1).closed?.code === 1000);
  for (const one of [ada, cem]) await one.becomes((m) => names(m), one === ada ? ["Cem"] : ["Ada"]);
  assert.deepEqual([await ada.roomState, await cem.roomState], ["joined", "joined"]);
  await bob.load();
  await bob.enter();
  await ada.becomes((m) => names(m), ["Bob", "Cem"]);
});

scenario("the meeting is ended for all, and another session begins", { sees: [31] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada, bob, cem] = await world.people(meeting, [...CALL, "group_call_participant"]);
  const session = await ada.do((m) => m.meta.sessionId);
  await ada.do((m) => m.participants.kickAll());
  for (const one of [ada, bob, cem]) assert.deepEqual(await one.event("self", "roomLeft"), [{ state: "ended" }]);
  const over = await world.parlor.ask("GET", `/sessions/${session}`);
  assert.equal(over.status, "ENDED");
  assert.equal((await world.parlor.call("GET", `/meetings/${meeting.id}/active-session`)).status, 404);
  await bob.load();
  await bob.enter();
  assert.notEqual(await bob.do((m) => m.meta.sessionId), session);
});

scenario("who has no power cannot kick, end, mute or change anybody", { sees: [65535], allows: [KICK, { text: /exception: .*needs the permission can_change_participant_permissions/, reason: "the SDK does not await changes of permissions" }] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada, bob] = await world.people(meeting, CALL);
  await bob.becomes((m) => names(m), ["Ada"]);
  assert.equal((await bob.fails((m) => named(m, "Ada").kick())).code, "1201");
  assert.equal((await bob.fails((m) => m.participants.kickAll())).code, "1201");
  // A client that believes it has power.
  await bob.do((m) => {
    for (const one of ["kickParticipant", "canDisableParticipantAudio", "canAllowParticipantAudio", "canChangeParticipantPermissions", "pinParticipant"]) {
      Object.defineProperty(m.self.permissions, one, { get: () => true });
    }
  });
  await bob.do((m) => m.participants.kickAll());
  bob.do((m) => named(m, "Ada").kick()).catch(() => {});
  await bob.fails((m) => named(m, "Ada").disableAudio());
  await bob.fails((m) => m.participants.disableAllAudio(true));
  await bob.do((m) => m.participants.updatePermissions([named(m, "Ada").id], { polls: { canCreate: false } }));
  await bob.do((m) => named(m, "Ada").pin());
  await bob.refusal(/./);
  await ada.stays((m) => [m.self.roomState, m.self.permissions.polls.canCreate, m.self.isPinned], ["joined", true, false], 700);
  assert.equal(await bob.roomState, "joined");
});

scenario("a host's mute calls are answered", { sees: [50331741, 50331742] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada, bob] = await world.people(meeting, CALL);
  await ada.becomes((m) => names(m), ["Bob"]);
  await ada.do((m) => named(m, "Bob").disableAudio());
  await ada.do((m) => named(m, "Bob").disableVideo());
  await ada.do((m) => m.participants.disableAllAudio(false));
  await ada.do((m) => m.participants.disableAllVideo());
  assert.equal(await bob.roomState, "joined");
});

scenario("one person is pinned for all, also for late joiners", { sees: [50331667, 50331678, 50331668] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada, bob, cem] = await world.people(meeting, [...CALL, "group_call_participant"]);
  const pinned = (m) => [...m.participants.pinned.toArray().map((one) => one.name), ...(m.self.isPinned ? [m.self.name] : [])];
  await ada.becomes((m) => names(m), ["Bob", "Cem"]);
  await ada.do((m) => named(m, "Bob").pin());
  for (const one of [ada, bob, cem]) await one.becomes(pinned, ["Bob"]);
  await bob.event("self", "pinned");
  const [dee] = await world.people(meeting, ["group_call_participant"]);
  await dee.becomes(pinned, ["Bob"]);
  await ada.do((m) => m.self.pin());
  for (const one of [ada, bob, cem, dee]) await one.becomes(pinned, ["Ada"]);
  await ada.do((m) => m.self.unpin());
  for (const one of [ada, bob, cem, dee]) await one.becomes(pinned, []);
  await ada.do((m) => named(m, "Cem").pin());
  await bob.becomes(pinned, ["Cem"]);
  await cem.leave();
  for (const one of [ada, bob]) await one.becomes(pinned, []);
});

scenario("permissions are changed in the call, are what others are told, and hold", { sees: [327680, 327681, 33, 65535] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada, bob] = await world.people(meeting, CALL);
  await ada.becomes((m) => names(m), ["Bob"]);
  assert.equal((await ada.do((m) => named(m, "Bob").getPermissions())).polls.can_create, false);
  const change = (m, permissions) => m.participants.updatePermissions([named(m, "Bob").id], permissions);
  await ada.do(change, { polls: { canCreate: true }, chat: { public: { text: false, canSend: false } } });
  await bob.event("permissions", "permissionsUpdate");
  assert.deepEqual(await bob.do((m) => [m.self.permissions.polls.canCreate, m.self.permissions.polls.canVote, m.self.permissions.chatPublic]), [
    true, true, { canSend: false, text: false, files: true },
  ]);
  const told = await ada.do((m) => named(m, "Bob").getPermissions());
  assert.deepEqual([told.polls.can_create, told.polls.can_vote, told.chat.public.can_send, told.chat.public.text, told.chat.public.files], [true, true, false, false, true]);
  await bob.do((m) => m.polls.create("May I?", ["yes", "yes!"]));
  await ada.until((m) => m.polls.items.length === 1);
  assert.equal((await bob.fails((m) => m.chat.sendTextMessage("muted"))).code, "0501");
  await bob.do((m) => {
    Object.assign(m.self.permissions.chatPublic, { canSend: true, text: true });
    return m.chat.sendTextMessage("muted");
  });
  await bob.refusal(/./);
  assert.deepEqual(await ada.do((m) => texts(m)), []);

  await ada.do(change, { media: { audio: { canProduce: 2 }, video: { canProduce: 3 }, screenshare: { canProduce: 1 } } });
  await bob.becomes((m) => [m.self.permissions.canProduceAudio, m.self.permissions.canProduceVideo, m.self.permissions.canProduceScreenshare], ["NOT_ALLOWED", "CAN_REQUEST", "ALLOWED"]);

  // What is changed lasts for the session, and a host made in the call is one.
  await ada.do(change, { acceptWaitingRequests: true, kickParticipant: true });
  await bob.becomes((m) => m.self.permissions.acceptWaitingRequests, true);
  const waiter = await world.parlor.preset("group_call_participant", { permissions: { waiting_room_type: "SKIP_ON_ACCEPT" } });
  const [cem] = await world.people(meeting, [waiter]);
  await bob.becomes((m) => m.participants.waitlisted.toArray().map((one) => one.name), ["Cem"]);
  await bob.do((m, id) => m.participants.acceptWaitingRoomRequest(id), await cem.peerId);
  await cem.becomes((m) => m.self.roomState, "joined");
});

scenario("a viewer who is made a stage host gets the requests", { sees: [12, 13, 327681] }, async (world) => {
  const helper = await world.parlor.preset("webinar_presenter", { permissions: { can_accept_production_requests: false, accept_stage_requests: false } });
  const meeting = await world.parlor.meeting();
  const [ada, bob, cem] = await world.people(meeting, ["webinar_presenter", helper, "webinar_viewer"]);
  await ada.becomes((m) => names(m), ["Bob", "Cem"]);
  await cem.do((m) => m.stage.requestAccess());
  await ada.do((m) => m.participants.updatePermissions([named(m, "Bob").id], { canAcceptProductionRequests: true }));
  await bob.becomes((m) => m.self.permissions.acceptStageRequests, true);
  await bob.event("stage", "stageAccessRequestUpdate", (list) => list?.some((one) => one.displayName === "Cem"));
  await bob.do((m, id) => m.stage.grantAccess([id]), cem.userId);
  await cem.becomes((m) => m.stage.status, "ACCEPTED_TO_JOIN_STAGE");
});

const NOT_BUILT = { text: /status of 501.*\/(recordings|livestreams)/, reason: "the browser reports every HTTP error" };
scenario("recording and livestreaming say that they cannot, at once", { sees: [], allows: [NOT_BUILT] }, async (world) => {
  const [ada] = await world.people(await world.parlor.meeting(), ["group_call_host"]);
  const began = Date.now();
  assert.equal((await ada.fails((m) => m.recording.start())).code, "1000");
  assert.equal(await ada.do((m) => m.recording.recordingState), "IDLE");
  const [bob] = await world.people(await world.parlor.meeting(), ["livestream_host"]);
  assert.equal((await bob.fails((m) => m.livestream.start())).code, "1900");
  assert.equal(await bob.do((m) => m.livestream.state), "IDLE");
  assert(Date.now() - began < 15_000);
  assert.deepEqual([await ada.roomState, await bob.roomState], ["joined", "joined"]);
});
