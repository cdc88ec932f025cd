// The stage of webinars and livestreams.

import assert from "node:assert/strict";
import { scenario } from "../suite.mjs";

const status = (m) => m.stage.status;
const requests = (m) => m.stage.getAccessRequests().stageRequests.map((one) => one.displayName);
const stageOf = (m, name) => named(m, name)?.stageStatus;

scenario("a viewer asks for the stage, is let on it, and leaves it", { sees: [13, 14, 15, 18, 19, 38, 12] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada, bob, cem] = await world.people(meeting, ["webinar_presenter", "webinar_viewer", "webinar_viewer"]);
  await ada.becomes((m) => names(m), ["Bob", "Cem"]);
  await ada.do((m) => m.stage.join());
  await ada.becomes(status, "ON_STAGE");
  await cem.becomes(stageOf, "ON_STAGE", "Ada");

  await bob.do((m) => m.stage.requestAccess());
  await ada.becomes(requests, ["Bob"]);
  await ada.event("stage", "newStageRequest");
  assert.equal(await bob.do(status), "REQUESTED_TO_JOIN_STAGE");
  await bob.do((m) => m.stage.cancelRequestAccess());
  await ada.becomes(requests, []);
  assert.equal(await bob.do(status), "OFF_STAGE");

  await bob.do((m) => m.stage.requestAccess());
  await ada.becomes(requests, ["Bob"]);
  await ada.do((m, id) => m.stage.grantAccess([id]), bob.userId);
  await bob.event("stage", "stageRequestApproved");
  await bob.becomes(status, "ACCEPTED_TO_JOIN_STAGE");
  await ada.becomes(stageOf, "ACCEPTED_TO_JOIN_STAGE", "Bob");
  await ada.becomes(requests, []);
  await bob.do((m) => m.stage.join());
  await bob.becomes(status, "ON_STAGE");
  for (const one of [ada, cem]) await one.becomes(stageOf, "ON_STAGE", "Bob");
  const [dee] = await world.people(meeting, ["webinar_viewer"]);
  await dee.becomes((m) => names(m).map((name) => named(m, name).stageStatus), ["ON_STAGE", "ON_STAGE", "OFF_STAGE"]);

  await bob.do((m) => m.stage.leave());
  await bob.becomes(status, "OFF_STAGE");
  for (const one of [ada, cem, dee]) await one.becomes(stageOf, "OFF_STAGE", "Bob");
  assert.equal(await bob.roomState, "joined");
});

scenario("a viewer is turned down, invited, and taken off the stage", { sees: [13, 15, 16, 18, 19, 38] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada, bob, cem] = await world.people(meeting, ["webinar_presenter", "webinar_viewer", "webinar_viewer"]);
  await ada.becomes((m) => names(m), ["Bob", "Cem"]);
  await ada.do((m) => m.stage.join());
  await bob.do((m) => m.stage.requestAccess());
  await ada.becomes(requests, ["Bob"]);
  await ada.do((m, id) => m.stage.denyAccess([id]), bob.userId);
  await bob.event("stage", "stageRequestRejected");
  await bob.becomes(status, "OFF_STAGE");
  await ada.becomes(requests, []);

  await ada.do((m, id) => m.stage.grantAccess([id]), cem.userId);
  await cem.becomes(status, "ACCEPTED_TO_JOIN_STAGE");
  await cem.do((m) => m.stage.join());
  await bob.becomes(stageOf, "ON_STAGE", "Cem");
  await ada.do((m, id) => m.stage.kick([id]), cem.userId);
  await cem.becomes(status, "OFF_STAGE");
  for (const one of [ada, bob]) await one.becomes(stageOf, "OFF_STAGE", "Cem");
  assert.equal(await ada.do(status), "ON_STAGE");
  assert.deepEqual([await ada.roomState, await cem.roomState], ["joined", "joined"]);
  // Once down, one has to ask again.
  assert.equal((await cem.fails((m) => m.stage.join())).code, "2006");
});

scenario("a viewer who was not let on the stage cannot get there by pretending", { sees: [18, 65535] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada, bob] = await world.people(meeting, ["webinar_presenter", "webinar_viewer"]);
  await ada.becomes((m) => names(m), ["Bob"]);
  await bob.do((m) => m.stage.requestAccess());
  await ada.becomes(requests, ["Bob"]);
  // The client believes that it was accepted.
  await bob.fails((m) => {
    Object.defineProperty(m.stage, "status", { get: () => "ACCEPTED_TO_JOIN_STAGE" });
    return m.stage.join();
  });
  await bob.refusal(/./);
  await ada.stays(stageOf, "REQUESTED_TO_JOIN_STAGE", 300, "Bob");
});

scenario("somebody of a livestream's audience joins the stage with media and leaves it", { sees: [3, 18, 19, 50331664, 50331668] }, async (world) => {
  const asking = await world.parlor.preset("livestream_viewer", {
    permissions: { stage_enabled: true, stage_access: "CAN_REQUEST", media: { audio: { can_produce: "CAN_REQUEST" }, video: { can_produce: "CAN_REQUEST" } } },
  });
  const meeting = await world.parlor.meeting();
  const [ada] = await world.people(meeting, ["livestream_host"]);
  await ada.do((m) => m.stage.join());
  const [bob, cem] = await world.people(meeting, [asking, "livestream_viewer"]);
  await bob.do((m) => m.stage.requestAccess());
  await ada.becomes(requests, ["Bob"]);
  await ada.do((m, id) => m.stage.grantAccess([id]), bob.userId);
  await bob.becomes(status, "ACCEPTED_TO_JOIN_STAGE");
  await bob.do((m) => m.stage.join());
  await bob.becomes((m) => [m.stage.status, m.self.roomState, m.meta.mediaState.send?.state], ["ON_STAGE", "joined", "connected"]);
  await cem.becomes(stageOf, "ON_STAGE", "Bob");
  await bob.do((m) => m.stage.leave());
  await bob.becomes((m) => [m.stage.status, m.self.roomState], ["OFF_STAGE", "joined"]);
  await ada.becomes(stageOf, "OFF_STAGE", "Bob");
});
