// People who see and hear each other.

import assert from "node:assert/strict";
import { CALL, ON, SQUARE, WIDE, devices, hears, hearsNot, hearsScreen, meet, producers, receivesNothing, sees, seesNothing, seesScreen, sentPerSecond, shape, mediaScenario as scenario } from "../media.mjs";

/** What travels when two people with camera and microphone meet. */
const MEETING = [50331649, 50331650, 50331651, 50331675, 50331698];

/** Lets somebody join and notes when they saw the first frame of each of the others. */
export async function joinsAndSees(world, person, names) {
  await person.do((m) => {
    window.joining = [performance.now()];
    return m.join().then(() => { window.joining.push(performance.now()); });
  });
  for (const name of names) {
    const [called, joined] = await person.until((_, other) => {
      const first = window.media.firstFrames[other];
      return first && window.joining.map((at) => first - at);
    }, name, 20_000);
    world.figure("from the call of join() to the first frame", called);
    world.figure("from its end to the first frame", joined);
  }
}

scenario("two people see and hear each other", { sees: MEETING }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada, bob] = await world.people(meeting, CALL, { enter: false });
  for (const one of [ada, bob]) await one.init(ON);
  await joinsAndSees(world, ada, []);
  await joinsAndSees(world, bob, ["Ada"]);
  await meet([ada, bob]);
  for (const [one, other] of [[ada, "Bob"], [bob, "Ada"]]) {
    assert.equal(shape(await sees(one, other)), WIDE);
    assert.deepEqual(await one.do((m, name) => [named(m, name).audioEnabled, named(m, name).videoEnabled], other), [true, true]);
    assert.deepEqual(await one.do(producers), { [other]: ["audio", "video"] });
  }
});

scenario("a muted microphone is silent, sends little, and comes back", { sees: [...MEETING, 50331652, 50331676] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada, bob] = await world.people(meeting, CALL, { init: devices({ audio: true }) });
  await hears(bob, "Ada");
  for (let round = 0; round < 3; round += 1) {
    await ada.do((m) => m.self.disableAudio());
    await bob.becomes((m) => named(m, "Ada").audioEnabled, false);
    await hearsNot(bob, "Ada");
    if (round === 0) {
      const rate = await sentPerSecond(ada, "audio");
      assert(rate < 15, `a muted microphone sends ${rate} packets a second`);
    }
    await ada.do((m) => m.self.enableAudio());
    await bob.becomes((m) => named(m, "Ada").audioEnabled, true);
    await hears(bob, "Ada");
  }
  await hears(ada, "Bob");
});

scenario("a camera goes off and on fifty times, and the description of it does not grow", { sees: [...MEETING, 50331652, 50331655, 50331676], long: true, seconds: 240 }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada, bob] = await world.people(meeting, CALL, { init: ON });
  await sees(bob, "Ada");
  const first = await bob.do(() => window.media.receiving());
  for (let round = 0; round < 50; round += 1) {
    await ada.do((m) => m.self.disableVideo());
    await bob.becomes((m) => named(m, "Ada").videoEnabled, false);
    await ada.do((m) => m.self.enableVideo());
    await bob.becomes((m) => named(m, "Ada").videoEnabled, true);
    if (round % 10 === 9) await sees(bob, "Ada", 2);
  }
  await sees(bob, "Ada");
  const last = await bob.do(() => window.media.receiving());
  assert(last.lines <= first.lines + 2 && last.bytes < first.bytes * 1.5, `the description has grown: ${JSON.stringify({ first, last })}`);
  await ada.do((m) => m.self.disableVideo());
  await bob.becomes((m) => named(m, "Ada").videoEnabled, false);
  await seesNothing(bob, "Ada");
  await hears(bob, "Ada");
});

scenario("a screen is shared with its sound beside the camera, and again", { sees: [...MEETING, 50331654, 50331677] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada, bob] = await world.people(meeting, CALL, { init: ON });
  await sees(bob, "Ada");
  await ada.do(() => window.media.fakeScreen());
  for (let round = 0; round < 2; round += 1) {
    await ada.do((m) => m.self.enableScreenShare());
    await bob.becomes((m) => named(m, "Ada").screenShareEnabled, true);
    assert.equal(shape(await seesScreen(bob, "Ada")), SQUARE);
    await hearsScreen(bob, "Ada");
    assert.equal(shape(await sees(bob, "Ada")), WIDE);
    assert.deepEqual(await bob.do(producers), { Ada: ["audio", "screen audio", "screen video", "video"] });
    await ada.do((m) => m.self.disableScreenShare());
    await bob.becomes((m) => named(m, "Ada").screenShareEnabled, false);
    await bob.becomes(producers, { Ada: ["audio", "video"] });
  }
  await sees(bob, "Ada");
});

scenario("a late joiner sees and hears those who are there, and whoever leaves is gone", { sees: [...MEETING, 50331673, 50331674] }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada, bob] = await world.people(meeting, CALL, { init: ON });
  await meet([ada, bob]);
  const [cem] = await world.people(meeting, ["group_call_participant"], { enter: false });
  await cem.init(ON);
  await joinsAndSees(world, cem, ["Ada", "Bob"]);
  await meet([ada, bob, cem]);
  await bob.leave();
  for (const one of [ada, cem]) await one.becomes((m) => names(m), [one === ada ? "Cem" : "Ada"]);
  await ada.becomes(producers, { Cem: ["audio", "video"] });
  await meet([ada, cem]);
  const [dee] = await world.people(meeting, ["group_call_participant"], { init: ON });
  await dee.becomes(producers, { Ada: ["audio", "video"], Cem: ["audio", "video"] });
  await meet([ada, cem, dee]);
});

scenario("somebody without camera and microphone sees and hears the others", { sees: MEETING }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada] = await world.people(meeting, ["group_call_host"], { init: ON });
  const [bob] = await world.people(meeting, ["group_call_participant"]);
  await Promise.all([sees(bob, "Ada"), hears(bob, "Ada")]);
  await receivesNothing(ada);
  await bob.do((m) => m.self.enableAudio());
  await hears(ada, "Bob");
  await bob.do((m) => m.self.enableVideo());
  await sees(ada, "Bob");
});

scenario("somebody leaves and enters again in the same page, and nobody sees them twice", { sees: MEETING }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada, bob] = await world.people(meeting, CALL, { init: ON });
  await meet([ada, bob]);
  for (let round = 0; round < 2; round += 1) {
    await bob.leave();
    await ada.becomes((m) => names(m), []);
    await receivesNothing(ada);
    await bob.load();
    await bob.enter(ON);
    await ada.becomes(producers, { Bob: ["audio", "video"] });
    await meet([ada, bob]);
  }
});

const LAYERS = { config: { media: { video: { quality: "hd", frame_rate: 15, simulcast: true } } } };
scenario("a small picture gets few pixels, and a large one many", { sees: [50331650, 50331651, 50331656], alone: true, seconds: 150 }, async (world) => {
  const [host, guest] = [await world.parlor.preset(CALL[0], LAYERS), await world.parlor.preset(CALL[1], LAYERS)];
  const meeting = await world.parlor.meeting();
  const [ada] = await world.people(meeting, [host]);
  await ada.do((m) => m.self.enableVideo(window.media.drawing(1280, 720)));
  const [bob] = await world.people(meeting, [guest]);
  const size = (pixels) => bob.do((m, width) => {
    Object.assign(window.media.camera(named(m, "Ada")).style, { width: `${width}px`, height: `${width * 9 / 16}px` });
  }, pixels);
  const width = async (fits) => {
    const asked = `async (m) => { const told = await window.media.seen(named(m, "Ada")); return (${fits})(told?.width ?? 0) && told; }`;
    return bob.until(asked, undefined, 40_000).catch(async (error) => {
      throw new Error(`${error.message}; Ada sends ${JSON.stringify(await ada.do(() => window.media.sent()))}`);
    });
  };
  await sees(bob, "Ada");
  const rids = (await ada.do(() => window.media.sent())).filter(({ frames }) => frames > 0).map(({ rid }) => rid);
  assert(rids.length > 1, `Ada sends one size only: ${rids}`);
  await size(160);
  const { width: small } = await width((pixels) => pixels > 0 && pixels <= 320);
  await size(1280);
  const { width: large } = await width((pixels) => pixels >= 640);
  assert(large > small);
  await size(160);
  await width((pixels) => pixels > 0 && pixels <= 320);
  await sees(bob, "Ada");
});

scenario("two people who share a secret see and hear each other, and whoever does not know it sees nothing", { sees: MEETING }, async (world) => {
  const meeting = await world.parlor.meeting();
  const [ada, bob, cem] = await world.people(meeting, [...CALL, "group_call_participant"], { enter: false });
  await ada.enter({ ...devices({ audio: true }), secret: "open sesame" });
  await ada.do((m) => m.self.enableVideo(window.media.testCard()));
  for (const [one, secret] of [[bob, "open sesame"], [cem, "abracadabra"]]) await one.enter({ ...ON, secret });
  await Promise.all([sees(ada, "Bob"), hears(ada, "Bob"), sees(bob, "Ada"), hears(bob, "Ada")]);
  // A decoder makes a picture of noise of what it cannot decrypt now and then, so pictures are compared with what was sent.
  const packets = (m) => window.media.seen(named(m, "Ada")).then((told) => told?.packets ?? 0);
  for (const one of [bob, cem]) {
    await one.until((m) => window.media.camera(named(m, "Ada")));
    await one.do((m) => window.media.recognise(named(m, "Ada")));
  }
  await bob.until(() => window.media.recognised.cards >= 5);
  const before = await cem.do(packets);
  await cem.until((m, least) => window.media.seen(named(m, "Ada")).then((told) => told?.packets > least), before + 20);
  const shown = await cem.do(() => window.media.recognised);
  assert.equal(shown.cards, 0, `Cem sees Ada: ${JSON.stringify(shown)}`);
});
