// The stage of webinars and livestreams.

import assert from "node:assert/strict";
import { scenario } from "../suite.mjs";

const status = (m) => m.stage.status;
const requests = (m) => m.stage.getAccessRequests().stageRequests.map((one) => one.displayName);
const stageOf = (m, name) => byName(m, name)?.stageStatus;

scenario("a viewer requests stage access, is accepted, joins the stage, and leaves it", { events: [13, 14, 15, 18, 19, 38, 12] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada, bob, cem] = await context.addParticipants(meeting, ["webinar_presenter", "webinar_viewer", "webinar_viewer"]);
  await ada.eventually((m) => names(m), ["Bob", "Cem"]);
  await ada.evaluate((m) => m.stage.join());
  await ada.eventually(status, "ON_STAGE");
  await cem.eventually(stageOf, "ON_STAGE", "Ada");

  await bob.evaluate((m) => m.stage.requestAccess());
  await ada.eventually(requests, ["Bob"]);
  await ada.waitForEvent("stage", "newStageRequest");
  assert.equal(await bob.evaluate(status), "REQUESTED_TO_JOIN_STAGE");
  await bob.evaluate((m) => m.stage.cancelRequestAccess());
  await ada.eventually(requests, []);
  assert.equal(await bob.evaluate(status), "OFF_STAGE");

  await bob.evaluate((m) => m.stage.requestAccess());
  await ada.eventually(requests, ["Bob"]);
  await ada.evaluate((m, id) => m.stage.grantAccess([id]), bob.userId);
  await bob.waitForEvent("stage", "stageRequestApproved");
  await bob.eventually(status, "ACCEPTED_TO_JOIN_STAGE");
  await ada.eventually(stageOf, "ACCEPTED_TO_JOIN_STAGE", "Bob");
  await ada.eventually(requests, []);
  await bob.evaluate((m) => m.stage.join());
  await bob.eventually(status, "ON_STAGE");
  for (const one of [ada, cem]) await one.eventually(stageOf, "ON_STAGE", "Bob");
  const [dee] = await context.addParticipants(meeting, ["webinar_viewer"]);
  await dee.eventually((m) => names(m).map((name) => byName(m, name).stageStatus), ["ON_STAGE", "ON_STAGE", "OFF_STAGE"]);

  await bob.evaluate((m) => m.stage.leave());
  await bob.eventually(status, "OFF_STAGE");
  for (const one of [ada, cem, dee]) await one.eventually(stageOf, "OFF_STAGE", "Bob");
  assert.equal(await bob.roomState, "joined");
});

scenario("a viewer is denied stage access, is invited, and is removed from the stage", { events: [13, 15, 16, 18, 19, 38] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada, bob, cem] = await context.addParticipants(meeting, ["webinar_presenter", "webinar_viewer", "webinar_viewer"]);
  await ada.eventually((m) => names(m), ["Bob", "Cem"]);
  await ada.evaluate((m) => m.stage.join());
  await bob.evaluate((m) => m.stage.requestAccess());
  await ada.eventually(requests, ["Bob"]);
  await ada.evaluate((m, id) => m.stage.denyAccess([id]), bob.userId);
  await bob.waitForEvent("stage", "stageRequestRejected");
  await bob.eventually(status, "OFF_STAGE");
  await ada.eventually(requests, []);

  await ada.evaluate((m, id) => m.stage.grantAccess([id]), cem.userId);
  await cem.eventually(status, "ACCEPTED_TO_JOIN_STAGE");
  await cem.evaluate((m) => m.stage.join());
  await bob.eventually(stageOf, "ON_STAGE", "Cem");
  await ada.evaluate((m, id) => m.stage.kick([id]), cem.userId);
  await cem.eventually(status, "OFF_STAGE");
  for (const one of [ada, bob]) await one.eventually(stageOf, "OFF_STAGE", "Cem");
  assert.equal(await ada.evaluate(status), "ON_STAGE");
  assert.deepEqual([await ada.roomState, await cem.roomState], ["joined", "joined"]);
  // A viewer who was removed has to request access again.
  assert.equal((await cem.expectError((m) => m.stage.join())).code, "2006");
});

scenario("a viewer without access cannot join the stage with a modified client", { events: [18, 65535] }, async (context) => {
  const meeting = await context.server.createMeeting();
  const [ada, bob] = await context.addParticipants(meeting, ["webinar_presenter", "webinar_viewer"]);
  await ada.eventually((m) => names(m), ["Bob"]);
  await bob.evaluate((m) => m.stage.requestAccess());
  await ada.eventually(requests, ["Bob"]);
  // The client is modified to believe that it was accepted.
  await bob.expectError((m) => {
    Object.defineProperty(m.stage, "status", { get: () => "ACCEPTED_TO_JOIN_STAGE" });
    return m.stage.join();
  });
  await bob.waitForErrorReply(/./);
  await ada.consistently(stageOf, "REQUESTED_TO_JOIN_STAGE", 300, "Bob");
});

scenario("a viewer of a livestream joins the stage with media and leaves it", { events: [3, 18, 19, 50331664, 50331668] }, async (context) => {
  const requesting = await context.server.createPreset("livestream_viewer", {
    permissions: { stage_enabled: true, stage_access: "CAN_REQUEST", media: { audio: { can_produce: "CAN_REQUEST" }, video: { can_produce: "CAN_REQUEST" } } },
  });
  const meeting = await context.server.createMeeting();
  const [ada] = await context.addParticipants(meeting, ["livestream_host"]);
  await ada.evaluate((m) => m.stage.join());
  const [bob, cem] = await context.addParticipants(meeting, [requesting, "livestream_viewer"]);
  await bob.evaluate((m) => m.stage.requestAccess());
  await ada.eventually(requests, ["Bob"]);
  await ada.evaluate((m, id) => m.stage.grantAccess([id]), bob.userId);
  await bob.eventually(status, "ACCEPTED_TO_JOIN_STAGE");
  await bob.evaluate((m) => m.stage.join());
  await bob.eventually((m) => [m.stage.status, m.self.roomState, m.meta.mediaState.send?.state], ["ON_STAGE", "joined", "connected"]);
  await cem.eventually(stageOf, "ON_STAGE", "Bob");
  await bob.evaluate((m) => m.stage.leave());
  await bob.eventually((m) => [m.stage.status, m.self.roomState], ["OFF_STAGE", "joined"]);
  await ada.eventually(stageOf, "OFF_STAGE", "Bob");
});
