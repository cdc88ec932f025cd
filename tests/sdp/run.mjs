// Negotiates SDP between Parlor and Chromium in random orders of operations. Chromium must accept every
// description, and have the expected transceivers after every step.
//
//   node tests/sdp/run.mjs BINARY [--runs N] [--steps N] [--seed N] [--keep DIRECTORY]
//
// BINARY is the example `sdp` of crates/sfu. Playwright and sdp-transform, with which the SDK munges SDP, are
// installed by scripts/scenarios. No media is sent: only descriptions are exchanged.

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

/** A seeded random number generator, whose results are below `bound`. @param {number} seed */
function createRandom(seed) {
  let state = seed >>> 0;
  return (/** @type {number} */ bound) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * bound);
  };
}

/** Parlor's side of the negotiation, in a process of its own. */
class Server {
  constructor() {
    this.process = spawn(binary, { stdio: ["pipe", "pipe", "inherit"] });
    this.replies = createInterface({ input: this.process.stdout })[Symbol.asyncIterator]();
  }

  /** @param {...string} words @returns {Promise<string[]>} */
  async call(...words) {
    this.process.stdin.write(`${words.map((word) => word.replaceAll("\r\n", "\x1f")).join("\t")}\n`);
    const { value } = await this.replies.next();
    const [status, ...results] = value.replaceAll("\x1f", "\r\n").split("\t");
    assert.equal(status, "ok", `${words[0]}: ${results}`);
    return results;
  }

  close() {
    this.process.stdin.end();
  }
}

/** Munges an answer as the SDK does before setting it. @param {string} sdp */
function mungeAnswer(sdp) {
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

/** Munges an offer that closes consumers as the SDK does. @param {string} sdp @param {string} remote @param {(string | null)[]} mids */
function mungeCloseOffer(sdp, remote, mids) {
  const [parsed, parsedRemote] = [transform.parse(sdp), transform.parse(remote)];
  for (const media of parsed.media) {
    const remoteMedia = parsedRemote.media.find(({ mid }) => mid === media.mid);
    if (mids.includes(String(media.mid))) {
      for (const part of ["rtp", "fmtp", "payloads", "rtcpFb"]) media[part] = remoteMedia[part];
    }
    media.ext = remoteMedia?.ext;
  }
  return transform.write(parsed);
}

/** Munges an offer as the SDK does before sending it. @param {string} sdp */
const mungeOffer = (sdp) =>
  `${sdp.replace("minptime=10;useinbandfec=1", "minptime=10;useinbandfec=1;maxaveragebitrate=32000")}a=rtcp-fb:111 nack\r\n`;

/** The mids in an SDP's bundle group, and the mids of its media sections that are not rejected. @param {string} sdp */
function bundle(sdp) {
  const { groups, media } = transform.parse(sdp);
  return [String(groups[0].mids).split(" "), media.filter(({ port }) => port !== 0).map(({ mid }) => String(mid))];
}

let fileCount = 0;
/** Writes a description to the directory of `--keep`. @param {string} name @param {string} sdp */
function keep(name, sdp) {
  if (options.keep) writeFileSync(`${options.keep}/${String(++fileCount).padStart(4, "0")}-${name}.sdp`, sdp);
}

/** Runs in the page: both peer connections of the SDK. */
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
  window.connections = {};
  window.open = async (name) => {
    const pc = new RTCPeerConnection({ bundlePolicy: "max-bundle", rtcpMuxPolicy: "require" });
    pc.ontrack = ({ track, transceiver }) => window.tracks.push(`${transceiver.mid}:${track.kind}`);
    window.connections[name] = pc;
    pc.addTransceiver("audio", { direction: "sendonly" });
    pc.addTransceiver("video", { direction: "sendonly", ...(name === "send" ? { sendEncodings: layers } : {}) });
    await pc.setLocalDescription(await pc.createOffer());
    return pc.localDescription.sdp;
  };
  window.produce = async (kind, simulcast) => {
    const pc = window.connections.send;
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
    const pc = window.connections.send;
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
  window.setAnswer = async (name, sdp) => window.connections[name].setRemoteDescription({ type: "answer", sdp });
  window.acceptOffer = async (sdp) => {
    await window.connections.recv.setRemoteDescription({ type: "offer", sdp });
    return (await window.connections.recv.createAnswer()).sdp;
  };
  window.setLocalAnswer = async (sdp) => window.connections.recv.setLocalDescription({ type: "answer", sdp });
  window.stop = async (mids) => {
    const pc = window.connections.recv;
    for (const transceiver of pc.getTransceivers()) if (mids.includes(transceiver.mid)) transceiver.stop();
    return [(await pc.createOffer()).sdp, pc.remoteDescription.sdp];
  };
  window.setLocalOffer = async (sdp) => window.connections.recv.setLocalDescription({ type: "offer", sdp });
  window.state = (name) => {
    const pc = window.connections[name];
    return {
      signalling: pc.signalingState,
      sections: (pc.localDescription.sdp.match(/^m=/gm) ?? []).length,
      transceivers: pc.getTransceivers().map(({ mid, currentDirection, sender, receiver }) =>
        ({ mid, direction: currentDirection, kind: receiver.track.kind, encodings: sender.getParameters().encodings.length })),
    };
  };
};

/** @param {import("playwright-core").Page} page @param {string} name @param {unknown[]} args */
const callPage = (page, name, ...args) => page.evaluate(([name, args]) => window[name](...args), [name, args]);

/** Negotiates the publishing connection of a client. */
async function publish(page, server, random, steps) {
  const first = await callPage(page, "open", "send");
  keep("send-offer", first);
  const [answer] = await server.call("publish", first);
  keep("send-answer", answer);
  await callPage(page, "setAnswer", "send", answer);
  const sending = new Map();
  for (let step = 0; step < steps; step += 1) {
    let offer;
    if (random(3) > 0) {
      const kind = random(2) ? "audio" : "video";
      const simulcast = random(2) ? 1 + random(3) : 0;
      const [mid, rawOffer] = await callPage(page, "produce", kind, simulcast);
      sending.set(mid, kind === "video" ? Math.max(simulcast, 1) : 1);
      offer = kind === "audio" ? mungeOffer(rawOffer) : rawOffer;
    } else {
      offer = await callPage(page, "unproduce", random(8));
      for (const { mid, direction } of transform.parse(offer).media) if (direction === "inactive") sending.delete(String(mid));
    }
    keep("produce-offer", offer);
    const [answer, uplinks] = await server.call("produce", offer);
    keep("produce-answer", answer);
    assert.deepEqual(...bundle(answer));
    await callPage(page, "setAnswer", "send", answer);
    const { signalling, transceivers } = await callPage(page, "state", "send");
    assert.equal(signalling, "stable");
    const sendTransceivers = transceivers.filter(({ direction }) => direction === "sendonly");
    assert.deepEqual(sendTransceivers.map(({ mid }) => mid), uplinks.split(","));
    for (const { mid, encodings } of sendTransceivers.slice(2)) assert.equal(encodings, sending.get(mid), `layers of mid ${mid}`);
    assert.equal(sendTransceivers.length, sending.size + 2);
  }
}

/** Negotiates the receiving connection of a client. */
async function receive(page, server, random, steps) {
  const first = await callPage(page, "open", "recv");
  const [answer] = await server.call("receive", first);
  keep("recv-offer", first);
  keep("recv-answer", answer);
  await callPage(page, "setAnswer", "recv", answer);
  // The consumers' mids: open; withdrawn by the server, not yet known to the client; and rejected in an answer to the
  // client, which does not free the media section.
  const [open, withdrawn, rejected] = [new Map(), new Set(), new Set()];
  let [maxStreams, closed] = [0, new Set()];
  const renegotiate = async () => {
    // An offer can be lost before the server gets the answer: before or after the client has seen it.
    const lost = random(6);
    let [offer] = await server.call("offer");
    keep("consume-offer", offer);
    if (lost === 0) [offer] = await server.call("offer");
    if (lost === 1) {
      await callPage(page, "acceptOffer", offer);
      [offer] = await server.call("offer");
    }
    if (lost === 2) {
      await callPage(page, "setLocalAnswer", mungeAnswer(await callPage(page, "acceptOffer", offer)));
      [offer] = await server.call("offer");
    }
    assert.deepEqual(...bundle(offer));
    const answer = mungeAnswer(await callPage(page, "acceptOffer", offer));
    keep("consume-answer", answer);
    await callPage(page, "setLocalAnswer", answer);
    const [unwanted] = await server.call("answered", answer);
    assert.equal(unwanted, "");
    withdrawn.clear();
    rejected.clear();
  };
  for (let step = 0; step < steps; step += 1) {
    const action = random(8);
    if (action < 4) {
      const kinds = Array.from({ length: 1 + random(3) }, () => (random(2) ? "audio" : "video"));
      const [mids] = await server.call("add", kinds.join(","));
      mids.split(",").forEach((mid, index) => open.set(mid, kinds[index]));
      maxStreams = Math.max(maxStreams, open.size + withdrawn.size + rejected.size);
      await renegotiate();
      for (const [mid, kind] of open) assert.ok((await page.evaluate("tracks")).includes(`${mid}:${kind}`), `track of ${mid}`);
    } else if (action < 7) {
      // Includes consumers that the server has withdrawn, in this round or before.
      const known = [...open.keys(), ...withdrawn, ...closed];
      const mids = known.filter(() => random(3) === 0);
      if (mids.length === 0) continue;
      const [rawOffer, remote] = await callPage(page, "stop", mids);
      const present = mids.filter((mid) => transform.parse(rawOffer).media.some((media) => String(media.mid) === mid));
      const offer = mungeCloseOffer(rawOffer, remote, present);
      keep("close-offer", offer);
      await callPage(page, "setLocalOffer", offer);
      const [answer, ended] = await server.call("close", mids.join(","), offer);
      keep("close-answer", answer);
      assert.deepEqual(...bundle(answer));
      assert.deepEqual(ended.split(",").filter(Boolean).sort(), mids.filter((mid) => open.has(mid)).sort());
      await callPage(page, "setAnswer", "recv", answer);
      for (const mid of mids) open.delete(mid);
      for (const mid of withdrawn) {
        closed.add(mid);
        if (!mids.includes(mid)) rejected.add(mid);
      }
      withdrawn.clear();
    } else {
      const mids = [...open.keys()].filter(() => random(3) === 0);
      for (const mid of mids) {
        await server.call("withdraw", mid);
        open.delete(mid);
        withdrawn.add(mid);
      }
      closed = new Set(mids);
      if (random(2)) await renegotiate();
    }
    const { signalling, sections, transceivers } = await callPage(page, "state", "recv");
    assert.equal(signalling, "stable");
    const receiving = transceivers.filter(({ direction }) => direction === "recvonly").map(({ mid }) => mid);
    assert.deepEqual(receiving.sort(), [...open.keys(), ...withdrawn].sort());
    for (const { mid, kind } of transceivers) if (open.has(mid)) assert.equal(kind, open.get(mid));
    assert.ok(sections <= maxStreams + 2, `${sections} media sections for at most ${maxStreams} streams`);
  }
}

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium" });
try {
  for (let run = 0; run < Number(options.runs); run += 1) {
    const seed = Number(options.seed) + run;
    const [page, server] = [await browser.newPage(), new Server()];
    try {
      await page.evaluate(PAGE);
      await publish(page, server, createRandom(seed), Number(options.steps) / 2);
      await receive(page, server, createRandom(seed), Number(options.steps));
      console.log(`ok     seed ${seed}`);
    } catch (error) {
      console.log(`FAILED seed ${seed}\n${error.stack}`);
      process.exitCode = 1;
    }
    server.close();
    await page.close();
  }
} finally {
  await browser.close();
}
