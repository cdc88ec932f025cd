// What people see and hear of each other, as the browser that decodes it counts.

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { scenario } from "./suite.mjs";

/** @typedef {import("./person.mjs").Person} Person */

/** A scenario in which pictures are encoded and decoded: much work, so few of them are played at once. @type {typeof scenario} */
export const mediaScenario = (name, about, play) => scenario(name, { seconds: 150, ...about, isHeavy: true }, play);

/** Camera and microphone are on, and the pictures are small: a machine has to encode and decode all of them. */
export const ON = devices({ audio: true, video: true });

/** What the SDK is given. @param {{audio?: boolean, video?: boolean, width?: number, height?: number, rate?: number}} wanted */
export function devices({ audio = false, video = false, width = 320, height = 180, rate = 15 } = {}) {
  const picture = { width: { ideal: width }, height: { ideal: height }, frameRate: { ideal: rate } };
  return { defaults: { audio, video, mediaConfiguration: { video: picture } } };
}

/** Both are on, and a host may do everything. */
export const CALL = ["group_call_host", "group_call_participant"];

/** How long media may take to come. */
const PATIENCE_MS = 40_000;

/** The mean amplitude from which on something is a sound. Comfort noise is below. */
const AUDIBLE = 0.003;

const ofCamera = (m, name) => window.media.seen(named(m, name));
const ofScreen = (m, name) => window.media.seen(named(m, name), true);
const ofVoice = (m, name) => window.media.heard(named(m, name));
const ofSound = (m, name) => window.media.heard(named(m, name), true);

/** Waits until so many more frames of somebody's camera are decoded; the last count. @param {Person} person @param {string} name */
export function sees(person, name, frames = 5) {
  return grows(person, name, ofCamera, frames, "camera");
}

export function seesScreen(person, name, frames = 3) {
  return grows(person, name, ofScreen, frames, "screen");
}

async function grows(person, name, measure, frames, what) {
  const deadline = Date.now() + PATIENCE_MS;
  let first = null;
  for (;;) {
    const now = await person.do(measure, name);
    // A new track begins to count anew.
    if (now && (!first || now.frames < first.frames)) first = now;
    if (now && now.frames - first.frames >= frames) return now;
    if (Date.now() > deadline) throw new Error(`${person.name} does not see the ${what} of ${name}: ${JSON.stringify({ first, now })}`);
    await sleep(100);
  }
}

/** How loud somebody is for somebody in the next `ms`: the mean amplitude, 0 when nothing comes. */
export async function loudness(person, name, ms = 600, measure = ofVoice) {
  const before = await person.do(measure, name);
  await sleep(ms);
  const after = await person.do(measure, name);
  if (!before || !after || after.seconds <= before.seconds) return 0;
  return Math.sqrt(Math.max(0, after.energy - before.energy) / (after.seconds - before.seconds));
}

/** Waits until somebody is heard. @param {Person} person @param {string} name */
export function hears(person, name) {
  return becomesLoud(person, name, ofVoice, true);
}

export function hearsScreen(person, name) {
  return becomesLoud(person, name, ofSound, true);
}

/** Waits until somebody is not heard any more. */
export function hearsNot(person, name) {
  return becomesLoud(person, name, ofVoice, false);
}

async function becomesLoud(person, name, measure, isLoud) {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    // The fake microphone beeps once a second.
    const now = await loudness(person, name, 1200, measure);
    if (now > AUDIBLE === isLoud) return now;
    if (Date.now() > deadline) {
      throw new Error(`${person.name} ${isLoud ? "does not hear" : "still hears"} ${name}: ${now}, ${JSON.stringify(await person.do(measure, name))}`);
    }
  }
}

/** Checks that nothing of somebody's camera is decoded for `ms`. */
export async function seesNothing(person, name, ms = 1500) {
  const before = await person.do(ofCamera, name);
  await sleep(ms);
  const after = await person.do(ofCamera, name);
  assert((after?.frames ?? 0) <= (before?.frames ?? 0), `${person.name} sees ${name}: ${JSON.stringify({ before, after })}`);
}

/** Checks that no packet of media comes in for `ms`, whoever it is of. */
export async function receivesNothing(person, ms = 1500) {
  const before = await person.do(() => window.media.received());
  await sleep(ms);
  const after = await person.do(() => window.media.received());
  assert(after.packets <= before.packets, `${person.name} receives something: ${JSON.stringify({ before, after })}`);
}

/** Packets that somebody sends in the next `ms`, a second, of a kind. @param {Person} person @param {"audio" | "video"} kind */
export async function sentPerSecond(person, kind, ms = 2000) {
  const count = (all) => all.filter((one) => one.kind === kind).reduce((sum, one) => sum + one.packets, 0);
  const before = count(await person.do(() => window.media.sent()));
  await sleep(ms);
  return (count(await person.do(() => window.media.sent())) - before) / ms * 1000;
}

/** Everybody sees and hears everybody. @param {Person[]} people */
export async function meet(people) {
  const pairs = people.flatMap((one) => people.filter((other) => other !== one).map((other) => [one, other.name]));
  await Promise.all(pairs.flatMap(([one, name]) => [sees(one, name), hears(one, name)]));
}

/** The shape of a picture: width to height. A browser that is short of time makes a picture smaller, of the same shape. */
export const shape = ({ width, height }) => Math.round(width / height * 100) / 100;

/** The shapes of cameras and of screens here. */
export const [WIDE, SQUARE] = [1.78, 1.33];

/** What a person knows of others' producers: of each, by name, what it is; screens with a mark. */
export const producers = (m) => Object.fromEntries(m.participants.joined.toArray().map((one) => [
  one.name, one.producers.map(({ kind, screenShare }) => `${screenShare ? "screen " : ""}${kind}`).sort(),
]));
