// Chromium takes whatever our side of the SDP says, in any order of things: every step must leave
// it with the transceivers that it should have.
//
//   node tests/sdp/run.mjs BINARY [--runs N] [--steps N] [--seed N] [--keep DIRECTORY]
//
// BINARY is the example `sdp` of crates/sfu. Playwright and sdp-transform, which the SDK munges
// with, are those that scripts/scenarios installs. No media flows: it is about descriptions only.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";

const require = createRequire(new URL("../../target/scenarios/package.json", import.meta.url));
const { chromium } = require("playwright-core");
const transform = require("sdp-transform");

const { values: options, positionals: [binary] } = parseArgs({
  allowPositionals: true,
  options: {
    runs: { type: "string", default: "3" },
    steps: { type: "string", default: "40" },
    seed: { type: "string", default: String(Date.now() % 1e6) },
    keep: { type: "string" },
  },
});

/** Random numbers that a seed repeats. @param {number} seed */
function dice(seed) {
  let state = seed >>> 0;
  return (/** @type {number} */ sides) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * sides);
  };
}

/** Our side, in a process of its own. */
class Ours {
  constructor() {
    this.process = spawn(binary, { stdio: ["pipe", "pipe", "inherit"] });
    this.replies = createInterface({ input: this.process.stdout })[Symbol.asyncIterator]();
  }

  /** @param {...string} words @returns {Promise<string[]>} */
  async ask(...words) {
    this.process.stdin.write(`${words.map((word) => word.replaceAll("\r\n", "\x1f")).join("\t")}\n`);
    const { value } = await this.replies.next();
    const [verdict, ...said] = value.replaceAll("\x1f", "\r\n").split("\t");
    assert.equal(verdict, "ok", `${words[0]}: ${said}`);
    return said;
  }

  close() {
    this.process.stdin.end();
  }
}

/** What the SDK does to an answer before it sets it. @param {string} sdp */
function mungedAnswer(sdp) {
  const parsed = transform.parse(sdp);
  for (const media of parsed.media.filter(({ type }) => type === "audio")) {
    const opus = media.fmtp.find(({ payload }) => payload === 111);
    if (opus) opus.config += ";stereo=1;sprop-stereo=1";
    media.rtcpFb ??= [];
    if (!media.rtcpFb.some(({ type }) => type === "nack")) {
      media.rtcpFb.push({ payload: parseInt(media.payloads, 10), type: "nack" });
    }
  }
  return transform.write(parsed);
}

/** What the SDK does to an offer that closes. @param {string} sdp @param {string} remote @param {(string | null)[]} mids */
function mungedClose(sdp, remote, mids) {
  const [parsed, known] = [transform.parse(sdp), transform.parse(remote)];
  for (const media of parsed.media) {
    const same = known.media.find(({ mid }) => mid === media.mid);
    if (mids.includes(String(media.mid))) {
      for (const part of ["rtp", "fmtp", "payloads", "rtcpFb"]) media[part] = same[part];
    }
    media.ext = same?.ext;
  }
  return transform.write(parsed);
}

/** What the SDK does to an offer before it sends it. @param {string} sdp */
const mungedOffer = (sdp) =>
  `${sdp.replace("minptime=10;useinbandfec=1", "minptime=10;useinbandfec=1;maxaveragebitrate=32000")}a=rtcp-fb:111 nack\r\n`;

/** The mids of an SDP's bundle, and those that are not rejected. @param {string} sdp */
function bundle(sdp) {
  const { groups, media } = transform.parse(sdp);
  return [String(groups[0].mids).split(" "), media.filter(({ port }) => port !== 0).map(({ mid }) => String(mid))];
}

let kept = 0;
/** Keeps a description for reading. @param {string} name @param {string} sdp */
function keep(name, sdp) {
  if (options.keep) writeFileSync(`${options.keep}/${String(++kept).padStart(4, "0")}-${name}.sdp`, sdp);
}

/** Both connections of the SDK in one page. */
const PAGE = () => {
  const audio = () => new AudioContext().createMediaStreamDestination().stream.getTracks()[0];
  const video = () => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [640, 360];
    canvas.getContext("2d").fillRect(0, 0, 10, 10);
    return canvas.captureStream(5).getTracks()[0];
  };
  const layers = [["f", 1], ["h", 2], ["q", 4]].map(([rid, by]) => ({ rid, scaleResolutionDownBy: by }));
  window.tracks = [];
  window.made = {};
  window.open = async (name) => {
    const pc = new RTCPeerConnection({ bundlePolicy: "max-bundle", rtcpMuxPolicy: "require" });
    pc.ontrack = ({ track, transceiver }) => window.tracks.push(`${transceiver.mid}:${track.kind}`);
    window.made[name] = pc;
    pc.addTransceiver("audio", { direction: "sendonly" });
    pc.addTransceiver("video", { direction: "sendonly", ...(name === "send" ? { sendEncodings: layers } : {}) });
    await pc.setLocalDescription(await pc.createOffer());
    return pc.localDescription.sdp;
  };
  window.produce = async (kind, simulcast) => {
    const pc = window.made.send;
    const track = kind === "audio" ? audio() : video();
    const sendEncodings = kind === "video" && simulcast ? layers.slice(0, simulcast) : undefined;
    const transceiver = pc.addTransceiver(track, { direction: "sendonly", streams: [new MediaStream()], sendEncodings });
    const { codecs } = RTCRtpSender.getCapabilities(kind);
    const wanted = kind === "audio" ? "audio/opus" : "video/VP8";
    transceiver.setCodecPreferences([codecs.find(({ mimeType }) => mimeType === wanted)]);
    const offer = await pc.createOffer();
    await pc.setLocalDescription(offer);
    return [transceiver.mid, offer.sdp];
  };
  window.unproduce = async (which) => {
    const pc = window.made.send;
    const open = pc.getTransceivers().slice(2).filter(({ direction }) => direction !== "inactive");
    const transceiver = open[which % open.length];
    if (transceiver) {
      pc.removeTrack(transceiver.sender);
      transceiver.direction = "inactive";
    }
    const offer = await pc.createOffer();
    await pc.setLocalDescription(offer);
    return offer.sdp;
  };
  window.taken = async (name, sdp) => window.made[name].setRemoteDescription({ type: "answer", sdp });
  window.offered = async (sdp) => {
    await window.made.recv.setRemoteDescription({ type: "offer", sdp });
    return (await window.made.recv.createAnswer()).sdp;
  };
  window.answered = async (sdp) => window.made.recv.setLocalDescription({ type: "answer", sdp });
  window.stop = async (mids) => {
    const pc = window.made.recv;
    for (const transceiver of pc.getTransceivers()) if (mids.includes(transceiver.mid)) transceiver.stop();
    return [(await pc.createOffer()).sdp, pc.remoteDescription.sdp];
  };
  window.stopped = async (sdp) => window.made.recv.setLocalDescription({ type: "offer", sdp });
  window.state = (name) => {
    const pc = window.made[name];
    return {
      signalling: pc.signalingState,
      lines: (pc.localDescription.sdp.match(/^m=/gm) ?? []).length,
      transceivers: pc.getTransceivers().map(({ mid, currentDirection, sender, receiver }) =>
        ({ mid, direction: currentDirection, kind: receiver.track.kind, encodings: sender.getParameters().encodings.length })),
    };
  };
};

/** @param {import("playwright-core").Page} page @param {string} name @param {unknown[]} words */
const on = (page, name, ...words) => page.evaluate(([name, words]) => window[name](...words), [name, words]);

/** The connection that a client publishes on. */
async function publish(page, ours, random, steps) {
  const first = await on(page, "open", "send");
  keep("send-offer", first);
  const [answer] = await ours.ask("publish", first);
  keep("send-answer", answer);
  await on(page, "taken", "send", answer);
  const sending = new Map();
  for (let step = 0; step < steps; step += 1) {
    let offer;
    if (random(3) > 0) {
      const kind = random(2) ? "audio" : "video";
      const simulcast = random(2) ? 1 + random(3) : 0;
      const [mid, made] = await on(page, "produce", kind, simulcast);
      sending.set(mid, kind === "video" ? Math.max(simulcast, 1) : 1);
      offer = kind === "audio" ? mungedOffer(made) : made;
    } else {
      offer = await on(page, "unproduce", random(8));
      for (const { mid, direction } of transform.parse(offer).media) if (direction === "inactive") sending.delete(String(mid));
    }
    keep("produce-offer", offer);
    const [answer, uplinks] = await ours.ask("produce", offer);
    keep("produce-answer", answer);
    assert.deepEqual(...bundle(answer));
    await on(page, "taken", "send", answer);
    const { signalling, transceivers } = await on(page, "state", "send");
    assert.equal(signalling, "stable");
    const theirs = transceivers.filter(({ direction }) => direction === "sendonly");
    assert.deepEqual(theirs.map(({ mid }) => mid), uplinks.split(","));
    for (const { mid, encodings } of theirs.slice(2)) assert.equal(encodings, sending.get(mid), `layers of mid ${mid}`);
    assert.equal(theirs.length, sending.size + 2);
  }
}

/** The connection that a client receives on. */
async function receive(page, ours, random, steps) {
  const first = await on(page, "open", "recv");
  const [answer] = await ours.ask("receive", first);
  keep("recv-offer", first);
  keep("recv-answer", answer);
  await on(page, "taken", "recv", answer);
  /** What goes to the client; what does no more, but the client was not told; and of that, what it has heard from an
   *  answer, which does not free its line. */
  const [open, withdrawn, rejected] = [new Map(), new Set(), new Set()];
  let [most, gone] = [0, new Set()];
  const renegotiate = async () => {
    // Before it is answered, an offer may be lost, before or after the client has seen it.
    const lost = random(6);
    let [offer] = await ours.ask("offer");
    keep("consume-offer", offer);
    if (lost === 0) [offer] = await ours.ask("offer");
    if (lost === 1) {
      await on(page, "offered", offer);
      [offer] = await ours.ask("offer");
    }
    if (lost === 2) {
      await on(page, "answered", mungedAnswer(await on(page, "offered", offer)));
      [offer] = await ours.ask("offer");
    }
    assert.deepEqual(...bundle(offer));
    const answer = mungedAnswer(await on(page, "offered", offer));
    keep("consume-answer", answer);
    await on(page, "answered", answer);
    const [unwanted] = await ours.ask("answered", answer);
    assert.equal(unwanted, "");
    withdrawn.clear();
    rejected.clear();
  };
  for (let step = 0; step < steps; step += 1) {
    const act = random(8);
    if (act < 4) {
      const kinds = Array.from({ length: 1 + random(3) }, () => (random(2) ? "audio" : "video"));
      const [mids] = await ours.ask("add", kinds.join(","));
      mids.split(",").forEach((mid, index) => open.set(mid, kinds[index]));
      most = Math.max(most, open.size + withdrawn.size + rejected.size);
      await renegotiate();
      for (const [mid, kind] of open) assert.ok((await page.evaluate("tracks")).includes(`${mid}:${kind}`), `track of ${mid}`);
    } else if (act < 7) {
      // Also what was withdrawn by the server, in this round or before it.
      const known = [...open.keys(), ...withdrawn, ...gone];
      const mids = known.filter(() => random(3) === 0);
      if (mids.length === 0) continue;
      const [made, remote] = await on(page, "stop", mids);
      const there = mids.filter((mid) => transform.parse(made).media.some((media) => String(media.mid) === mid));
      const offer = mungedClose(made, remote, there);
      keep("close-offer", offer);
      await on(page, "stopped", offer);
      const [answer, ended] = await ours.ask("close", mids.join(","), offer);
      keep("close-answer", answer);
      assert.deepEqual(...bundle(answer));
      assert.deepEqual(ended.split(",").filter(Boolean).sort(), mids.filter((mid) => open.has(mid)).sort());
      await on(page, "taken", "recv", answer);
      for (const mid of mids) open.delete(mid);
      for (const mid of withdrawn) {
        gone.add(mid);
        if (!mids.includes(mid)) rejected.add(mid);
      }
      withdrawn.clear();
    } else {
      const mids = [...open.keys()].filter(() => random(3) === 0);
      for (const mid of mids) {
        await ours.ask("withdraw", mid);
        open.delete(mid);
        withdrawn.add(mid);
      }
      gone = new Set(mids);
      if (random(2)) await renegotiate();
    }
    const { signalling, lines, transceivers } = await on(page, "state", "recv");
    assert.equal(signalling, "stable");
    const receiving = transceivers.filter(({ direction }) => direction === "recvonly").map(({ mid }) => mid);
    assert.deepEqual(receiving.sort(), [...open.keys(), ...withdrawn].sort());
    for (const { mid, kind } of transceivers) if (open.has(mid)) assert.equal(kind, open.get(mid));
    assert.ok(lines <= most + 2, `${lines} media lines for at most ${most} streams`);
  }
}

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium" });
try {
  for (let run = 0; run < Number(options.runs); run += 1) {
    const seed = Number(options.seed) + run;
    const [page, ours] = [await browser.newPage(), new Ours()];
    try {
      await page.evaluate(PAGE);
      await publish(page, ours, dice(seed), Number(options.steps) / 2);
      await receive(page, ours, dice(seed), Number(options.steps));
      console.log(`ok     seed ${seed}`);
    } catch (error) {
      console.log(`FAILED seed ${seed}\n${error.stack}`);
      process.exitCode = 1;
    }
    ours.close();
    await page.close();
  }
} finally {
  await browser.close();
}
