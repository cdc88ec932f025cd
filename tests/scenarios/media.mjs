// Checks of received media, by the statistics of the browser that decodes it.

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { scenario } from "./suite.mjs";

/** @typedef {import("./participant.mjs").Participant} Participant */

/** A scenario that encodes and decodes video. It needs much CPU time, so few of them run at once. @type {typeof scenario} */
export const mediaScenario = (name, options, run) => scenario(name, { timeoutSeconds: 150, ...options, isHeavy: true }, run);

/** SDK options with camera and microphone on. The video is small, because one machine encodes and decodes all of it. */
export const MEDIA_ON = mediaOptions({ audio: true, video: true });

/**
 * SDK options for camera and microphone.
 * @param {{audio?: boolean, video?: boolean, width?: number, height?: number, rate?: number}} options
 */
export function mediaOptions({ audio = false, video = false, width = 320, height = 180, rate = 15 } = {}) {
  const constraints = { width: { ideal: width }, height: { ideal: height }, frameRate: { ideal: rate } };
  return { defaults: { audio, video, mediaConfiguration: { video: constraints } } };
}

/** The presets of a call with a host and a participant. */
export const CALL_PRESETS = ["group_call_host", "group_call_participant"];

/** How long to wait for media. */
const TIMEOUT_MS = 40_000;

/** The mean amplitude above which audio is considered audible. Comfort noise is below it. */
const AUDIBLE = 0.003;

const cameraStats = (m, name) => window.media.videoStats(byName(m, name));
const screenStats = (m, name) => window.media.videoStats(byName(m, name), true);
const microphoneStats = (m, name) => window.media.audioStats(byName(m, name));
const screenAudioStats = (m, name) => window.media.audioStats(byName(m, name), true);

/**
 * Waits until `frames` more frames of a camera are decoded, and returns the last statistics.
 * @param {Participant} receiver @param {string} name of the sender
 */
export function expectVideo(receiver, name, frames = 5) {
  return waitForFrames(receiver, name, cameraStats, frames, "camera");
}

export function expectScreenVideo(receiver, name, frames = 3) {
  return waitForFrames(receiver, name, screenStats, frames, "screen");
}

async function waitForFrames(receiver, name, stats, frames, source) {
  const deadline = Date.now() + TIMEOUT_MS;
  let first = null;
  for (;;) {
    const now = await receiver.evaluate(stats, name);
    // The counters of a new track start at zero.
    if (now && (!first || now.frames < first.frames)) first = now;
    if (now && now.frames - first.frames >= frames) return now;
    if (Date.now() > deadline) throw new Error(`${receiver.name} does not see the ${source} of ${name}: ${JSON.stringify({ first, now })}`);
    await sleep(100);
  }
}

/** The mean amplitude of a sender's audio during the next `ms`; 0 if none is received. */
export async function audioLevel(receiver, name, ms = 600, stats = microphoneStats) {
  const before = await receiver.evaluate(stats, name);
  await sleep(ms);
  const after = await receiver.evaluate(stats, name);
  if (!before || !after || after.seconds <= before.seconds) return 0;
  return Math.sqrt(Math.max(0, after.energy - before.energy) / (after.seconds - before.seconds));
}

/** Waits until a microphone is audible. @param {Participant} receiver @param {string} name of the sender */
export function expectAudio(receiver, name) {
  return waitForAudibility(receiver, name, microphoneStats, true);
}

export function expectScreenAudio(receiver, name) {
  return waitForAudibility(receiver, name, screenAudioStats, true);
}

/** Waits until a microphone is no longer audible. */
export function expectSilence(receiver, name) {
  return waitForAudibility(receiver, name, microphoneStats, false);
}

async function waitForAudibility(receiver, name, stats, isAudible) {
  const deadline = Date.now() + TIMEOUT_MS;
  for (;;) {
    // The fake microphone beeps once a second.
    const level = await audioLevel(receiver, name, 1200, stats);
    if (level > AUDIBLE === isAudible) return level;
    if (Date.now() > deadline) {
      throw new Error(`${receiver.name} ${isAudible ? "does not hear" : "still hears"} ${name}: ${level}, ${JSON.stringify(await receiver.evaluate(stats, name))}`);
    }
  }
}

/** Checks that no frame of a camera is decoded for `ms`. */
export async function expectNoVideo(receiver, name, ms = 1500) {
  const before = await receiver.evaluate(cameraStats, name);
  await sleep(ms);
  const after = await receiver.evaluate(cameraStats, name);
  assert((after?.frames ?? 0) <= (before?.frames ?? 0), `${receiver.name} sees ${name}: ${JSON.stringify({ before, after })}`);
}

/** Checks that no media packet from any sender is received for `ms`. */
export async function expectNoMedia(receiver, ms = 1500) {
  const before = await receiver.evaluate(() => window.media.receivedTotals());
  await sleep(ms);
  const after = await receiver.evaluate(() => window.media.receivedTotals());
  assert(after.packets <= before.packets, `${receiver.name} receives media: ${JSON.stringify({ before, after })}`);
}

/** Packets per second that a sender sends during the next `ms`. @param {Participant} sender @param {"audio" | "video"} kind */
export async function sendRate(sender, kind, ms = 2000) {
  const count = (all) => all.filter((one) => one.kind === kind).reduce((sum, one) => sum + one.packets, 0);
  const before = count(await sender.evaluate(() => window.media.sentStats()));
  await sleep(ms);
  return (count(await sender.evaluate(() => window.media.sentStats())) - before) / ms * 1000;
}

/** Waits until all participants see and hear each other. @param {Participant[]} participants */
export async function expectMutualMedia(participants) {
  const pairs = participants.flatMap((receiver) => participants.filter((sender) => sender !== receiver).map(({ name }) => [receiver, name]));
  await Promise.all(pairs.flatMap(([receiver, name]) => [expectVideo(receiver, name), expectAudio(receiver, name)]));
}

/** The ratio of width to height. An overloaded browser reduces the resolution, but keeps the aspect ratio. */
export const aspectRatio = ({ width, height }) => Math.round(width / height * 100) / 100;

/** The aspect ratio of the cameras in the scenarios: 16 to 9. */
export const CAMERA_ASPECT = 1.78;

/** The aspect ratio of the shared screens in the scenarios: 4 to 3. */
export const SCREEN_ASPECT = 1.33;

/** The kinds of the other participants' producers, by name; those of a screen have the prefix "screen". */
export const producers = (m) => Object.fromEntries(m.participants.joined.toArray().map((one) => [
  one.name, one.producers.map(({ kind, screenShare }) => `${screenShare ? "screen " : ""}${kind}`).sort(),
]));
