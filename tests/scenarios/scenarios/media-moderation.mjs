// Power over others' cameras and microphones, who may send and receive, and who is shown.

import assert from "node:assert/strict";
import { CALL, ON, devices, hears, hearsNot, loudness, meet, producers, receivesNothing, sees, seesNothing, mediaScenario as scenario } from "../media.mjs";
import { KICK } from "./moderation.mjs";

const isOn = (m, name) => [named(m, name).audioEnabled, named(m, name).videoEnabled];
const selfOn = (m) => [m.self.audioEnabled, m.self.videoEnabled];

scenario("a host turns off a microphone and a camera, and their owner turns them on again", { sees: [50331741, 50331676, 50331652] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada, bob, cem] = await world.people(meeting, [...CALL, "group_call_participant"], { init: ON });
  await meet([ada, bob, cem]);
  await ada.do((m) => named(m, "Bob").disableAudio());
  await bob.becomes(selfOn, [false, true]);
  for (const one of [ada, cem]) await one.becomes(isOn, [false, true], "Bob");
  await Promise.all([ada, cem].map((one) => hearsNot(one, "Bob")));
  await ada.do((m) => named(m, "Bob").disableVideo());
  await bob.becomes(selfOn, [false, false]);
  for (const one of [ada, cem]) await one.becomes(isOn, [false, false], "Bob");
  await seesNothing(cem, "Bob");
  await bob.do((m) => m.self.enableAudio().then(() => m.self.enableVideo()));
  for (const one of [ada, cem]) await one.becomes(isOn, [true, true], "Bob");
  await Promise.all([ada, cem].flatMap((one) => [sees(one, "Bob"), hears(one, "Bob")]));
});

scenario("a host turns off everybody's microphones and cameras but their own", { sees: [50331742, 50331676] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada, bob, cem] = await world.people(meeting, [...CALL, "group_call_participant"], { init: ON });
  await meet([ada, bob, cem]);
  await ada.do((m) => m.participants.disableAllAudio(true));
  for (const one of [bob, cem]) await one.becomes(selfOn, [false, true]);
  await ada.do((m) => m.participants.disableAllVideo());
  for (const one of [bob, cem]) await one.becomes(selfOn, [false, false]);
  assert.deepEqual(await ada.do(selfOn), [true, true]);
  await bob.becomes(isOn, [false, false], "Cem");
  await receivesNothing(ada);
  await Promise.all([sees(bob, "Ada"), hears(cem, "Ada")]);
});

scenario("the backend mutes everybody", { sees: [50331676] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada, bob] = await world.people(meeting, CALL, { init: ON });
  await meet([ada, bob]);
  await world.parlor.ask("POST", `/meetings/${meeting.id}/active-session/mute-all`, { allow_unmute: true });
  for (const one of [ada, bob]) await one.becomes(selfOn, [false, true]);
  await Promise.all([hearsNot(ada, "Bob"), hearsNot(bob, "Ada")]);
  await bob.do((m) => m.self.enableAudio());
  await hears(ada, "Bob");
});

scenario("whoever loses the right to send stops, cannot begin again by force, and goes on when it is given back", { sees: [327681, 50331676, 50331650, 50331708] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada, bob, cem] = await world.people(meeting, [...CALL, "group_call_participant"], { init: ON });
  await meet([ada, bob, cem]);
  const change = (m, canProduce) => m.participants.updatePermissions([named(m, "Bob").id], { media: { audio: { canProduce }, video: { canProduce } } });
  await ada.do(change, 2);
  await bob.becomes(selfOn, [false, false]);
  for (const one of [ada, cem]) await one.becomes(isOn, [false, false], "Bob");
  await seesNothing(cem, "Bob");
  // A client that takes no notice: it says that its tracks go on, and sends.
  const tracks = await cem.do((m) => named(m, "Bob").producers.map((one) => one.producerId));
  for (const track of tracks) await bob.do((m, id) => void window.ask(50331652, [[1, id], [2, false]]), track);
  await bob.do(() => window.media.sendAll());
  for (const kind of ["audio", "video"]) {
    assert.match((await bob.do((m, what) => window.media.tryToSend(what), kind)).refusal, /can_produce/);
  }
  await seesNothing(cem, "Bob");
  assert((await loudness(cem, "Bob")) < 0.001);
  for (const one of [ada, cem]) await one.stays(isOn, [false, false], 300, "Bob");
  assert.deepEqual((await cem.do(producers)).Bob, ["audio", "video"]);
  await sees(bob, "Ada");
  await bob.do(() => window.media.sendAll(false));

  await ada.do(change, 1);
  await bob.becomes((m) => m.self.permissions.canProduceVideo, "ALLOWED");
  await bob.do((m) => m.self.enableAudio().then(() => m.self.enableVideo()));
  for (const one of [ada, cem]) await one.becomes(isOn, [true, true], "Bob");
  await Promise.all([ada, cem].flatMap((one) => [sees(one, "Bob"), hears(one, "Bob")]));
});

scenario("whoever gets the right to send is seen and heard", { sees: [327681, 50331650, 50331675] }, async (world) => {
  const mute = await world.parlor.preset("group_call_participant", {
    permissions: { media: { audio: { can_produce: "NOT_ALLOWED" }, video: { can_produce: "NOT_ALLOWED" } } },
  });
  const meeting = await world.parlor.meeting();
  const [ada, bob] = await world.people(meeting, [CALL[0], mute], { init: ON });
  await ada.becomes((m) => names(m), ["Bob"]);
  await bob.do((m) => m.self.enableAudio());
  await ada.stays(producers, { Bob: [] }, 500);
  await ada.do((m) => m.participants.updatePermissions([named(m, "Bob").id], { media: { audio: { canProduce: 1 }, video: { canProduce: 1 } } }));
  await bob.becomes((m) => m.self.permissions.canProduceVideo, "ALLOWED");
  await bob.do((m) => m.self.enableAudio().then(() => m.self.enableVideo()));
  await meet([ada, bob]);
});

scenario("the server decides who may send, whatever a client asks for", { sees: [50331650, 50331708] }, async (world) => {
  const mute = await world.parlor.preset("group_call_participant", {
    permissions: { media: { audio: { can_produce: "NOT_ALLOWED" }, video: { can_produce: "NOT_ALLOWED" }, screenshare: { can_produce: "NOT_ALLOWED" } } },
  });
  const meeting = await world.parlor.meeting();
  const [ada, bob] = await world.people(meeting, [CALL[0], mute]);
  await ada.becomes((m) => names(m), ["Bob"]);
  for (const [kind, isScreen] of [["audio", false], ["video", false], ["video", true], ["audio", true]]) {
    const { refusal } = await bob.do((m, what) => window.media.tryToSend(...what), [kind, isScreen]);
    assert.match(refusal, /can_produce/, `${kind} ${isScreen}`);
  }
  await ada.stays(producers, { Bob: [] }, 500);
  // The same request of somebody who may.
  const { refusal, value } = await ada.do(() => window.media.tryToSend("audio"));
  assert.deepEqual([refusal, value?.length], ["", 36]);
  await bob.becomes(producers, { Ada: ["audio"] });
});

scenario("nobody receives what is sent in another meeting", { sees: [50331651] }, async (world) => {
  const [here, there] = [await world.parlor.meeting(), await world.parlor.meeting()];
  const [ada, bob] = await world.people(here, CALL, { init: ON });
  const [cem] = await world.people(there, ["group_call_host"]);
  await meet([ada, bob]);
  const track = (m, kind) => {
    const { id, producers: all } = named(m, "Ada");
    const { producerId, producingTransportId } = all.find((one) => one.kind === kind);
    return { peer: id, producer: producerId, transport: producingTransportId ?? "" };
  };
  const camera = await bob.do(track, "video");
  const { refusal, value } = await cem.do((m, wanted) => window.media.tryToReceive(wanted), camera);
  assert.match(refusal + value, /not_found_track_error/);
  await receivesNothing(cem);
  // The same request of somebody who may.
  const allowed = await bob.do((m, wanted) => window.media.tryToReceive(wanted), camera);
  assert.equal(allowed.refusal, "");
  assert.doesNotMatch(allowed.value, /error/);
});

scenario("whoever is kicked is not seen or heard any more, and sees nobody", { sees: [30, 4], allows: [KICK] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada, bob, cem] = await world.people(meeting, [...CALL, "group_call_participant"], { init: ON });
  await meet([ada, bob, cem]);
  await ada.do((m) => named(m, "Bob").kick());
  await bob.event("self", "roomLeft", ({ state }) => state === "kicked");
  await receivesNothing(bob);
  await ada.becomes(producers, { Cem: ["audio", "video"] });
  await cem.becomes(producers, { Ada: ["audio", "video"] });
  await meet([ada, cem]);
  await bob.load();
  await bob.enter(ON);
  await ada.becomes(producers, { Bob: ["audio", "video"], Cem: ["audio", "video"] });
  await meet([ada, bob, cem]);
});

/** Few pictures at a time, and small ones. */
const grid = (world, like, desktop) => world.parlor.preset(like, { config: { max_video_streams: { desktop, mobile: desktop } } });
const TINY = devices({ video: true, width: 160, height: 90, rate: 5 });
const shown = (m) => m.participants.videoSubscribed.toArray().map((one) => one.name).sort();

scenario("whoever is pinned is shown to all, in a grid that is too small for everybody", { sees: [50331667, 50331678, 50331651] }, async (world) => {
  const [host, guest] = [await grid(world, CALL[0], 2), await grid(world, CALL[1], 2)];
  const meeting = await world.parlor.meeting();
  const people = [];
  for (const preset of [host, guest, guest, guest]) people.push(...await world.people(meeting, [preset], { init: TINY }));
  const [ada, bob, cem] = people;
  await ada.becomes(shown, ["Bob"]);
  await sees(ada, "Bob");
  await ada.do((m) => named(m, "Dee").pin());
  for (const one of [ada, bob, cem]) {
    await one.until((m) => m.participants.videoSubscribed.toArray().some(({ name }) => name === "Dee"));
    await sees(one, "Dee", 2);
  }
});

scenario("whoever speaks is shown and heard by all, in a meeting of six with a grid of three", { sees: [50331688, 50331651], seconds: 150 }, async (world) => {
  const [host, guest] = [await grid(world, CALL[0], 3), await grid(world, CALL[1], 3)];
  const meeting = await world.parlor.meeting();
  const people = [];
  for (const preset of [host, guest, guest, guest, guest, guest]) people.push(...await world.people(meeting, [preset], { init: TINY }));
  for (const one of people) await one.do((m) => m.self.enableAudio(window.media.voice(0)));
  const [ada, bob] = people;
  const fay = people.at(-1);
  await ada.until((m) => names(m).length === 5);
  assert.equal((await ada.do(shown)).length, 2);
  assert(!(await ada.do(shown)).includes("Fay"));
  await fay.do(() => window.media.speak(0.5));
  const id = await fay.peerId;
  for (const one of people.filter((other) => other !== fay)) {
    await one.event("participants", "activeSpeaker", ({ peerId }) => peerId === id);
    await one.until((m) => m.participants.videoSubscribed.toArray().some(({ name }) => name === "Fay"));
  }
  await Promise.all([sees(ada, "Fay", 2), hears(ada, "Fay"), sees(bob, "Fay", 2), hears(bob, "Fay")]);
  await fay.do(() => window.media.speak(0));

  // Of those who are not on the list of a client with the smallest grid, nobody is heard.
  await ada.do((m) => m.participants.setMaxActiveParticipantsCount(1));
  const heard = () => ada.do((m) => m.participants.audioSubscribed.toArray().map((one) => one.name));
  await ada.until((m) => m.participants.audioSubscribed.toArray().length === 4);
  const list = await heard();
  const outsider = people.find((one) => one !== ada && !list.includes(one.name));
  await outsider.do(() => window.media.speak(0.5));
  await hears(ada, outsider.name);
});
