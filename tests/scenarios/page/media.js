// Runs before the SDK in a participant's page: renders media as an app does, and gives scenarios access to it.
(() => {
  /** The server's media port and the port of the proxy that replaces it. @type {{from: number, to: number} | undefined} */
  const proxy = window.mediaProxy;

  /** Patterns of the URLs of permitted ICE servers; undefined permits all. @type {RegExp[] | undefined} */
  let permittedServers;
  let isTcpPermitted = true;
  const permitted = ({ urls, ...server }) => {
    const matching = [urls].flat().filter((url) => permittedServers.some((one) => one.test(url)));
    return matching.length ? [{ ...server, urls: matching }] : [];
  };

  /** All peer connections that the SDK has created, oldest first. */
  const connections = [];
  window.RTCPeerConnection = class extends window.RTCPeerConnection {
    constructor(settings, ...rest) {
      super(permittedServers ? { ...settings, iceServers: settings.iceServers.flatMap(permitted) } : settings, ...rest);
      connections.push(this);
    }

    setRemoteDescription(description, ...rest) {
      let { sdp } = description;
      if (proxy) sdp = sdp.replace(new RegExp(`^(a=candidate:\\S+ \\d+ udp \\d+ \\S+) ${proxy.from} `, "gim"), `$1 ${proxy.to} `);
      if (!isTcpPermitted) sdp = sdp.replace(/^a=candidate:\S+ \d+ tcp .*\r\n/gim, "");
      return super.setRemoteDescription({ type: description.type, sdp }, ...rest);
    }
  };

  /** The colours of the test card, in two rows of four, as red, green and blue. */
  const TEST_CARD = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [255, 255, 0], [0, 0, 0], [0, 255, 255], [255, 0, 255]];
  /** The tolerated difference of each of the 24 colour values. Encoding changes them by about 30; grey and noise exceed it. */
  const COLOUR_TOLERANCE = 90;

  const isOpen = (pc) => pc.signalingState !== "closed";
  // The SDK offers simulcast on the sending connection before there is a track.
  const isSending = (pc) => /^a=simulcast:send/m.test(pc.localDescription?.sdp ?? "");

  /** The statistics of a received track; null if nothing has been received. @param {MediaStreamTrack | undefined} track */
  async function inboundStats(track) {
    if (!track) return null;
    for (const pc of connections.filter(isOpen)) {
      const receiver = pc.getReceivers().find((one) => one.track.id === track.id);
      if (!receiver) continue;
      return [...(await receiver.getStats()).values()].find((one) => one.type === "inbound-rtp") ?? null;
    }
    return null;
  }

  window.media = {
    connections,

    /**
     * Restricts future connections to the ICE servers whose URLs match.
     * @param {string[]} patterns @param {boolean} [isTcp] permits the server's own TCP candidates
     */
    restrictIceServers(patterns, isTcp = true) {
      permittedServers = patterns.map((pattern) => new RegExp(pattern));
      isTcpPermitted = isTcp;
    },

    /** Statistics of a participant's video as it is received. @param {any} participant @param {boolean} [isScreen] */
    async videoStats(participant, isScreen) {
      const stats = await inboundStats(isScreen ? participant?.screenShareTracks?.video : participant?.videoTrack);
      return stats && {
        frames: stats.framesDecoded ?? 0, width: stats.frameWidth ?? 0, height: stats.frameHeight ?? 0, keyFrames: stats.keyFramesDecoded ?? 0,
        packets: stats.packetsReceived, lost: stats.packetsLost, nacks: stats.nackCount ?? 0, plis: stats.pliCount ?? 0, mid: stats.mid,
        freezes: stats.freezeCount ?? 0, dropped: stats.framesDropped ?? 0, bytes: stats.bytesReceived,
      };
    },

    /** Statistics of a participant's audio as it is received: the total energy, and its duration in seconds. */
    async audioStats(participant, isScreen) {
      const stats = await inboundStats(isScreen ? participant?.screenShareTracks?.audio : participant?.audioTrack);
      return stats && {
        packets: stats.packetsReceived, energy: stats.totalAudioEnergy ?? 0, seconds: stats.totalSamplesDuration ?? 0,
        level: stats.audioLevel ?? 0, lost: stats.packetsLost, mid: stats.mid,
      };
    },

    /** Statistics of the tracks that are sent, one entry for each encoding. */
    async sentStats() {
      const all = [];
      for (const pc of connections.filter(isOpen)) {
        for (const report of (await pc.getStats()).values()) {
          if (report.type !== "outbound-rtp") continue;
          const { kind, rid, packetsSent, bytesSent, framesEncoded, frameWidth, active, mid } = report;
          all.push({ kind, rid, mid, packets: packetsSent, bytes: bytesSent, frames: framesEncoded, width: frameWidth, active });
        }
      }
      return all;
    },

    /** The numbers of packets and frames received from all senders. */
    async receivedTotals() {
      let packets = 0, frames = 0;
      for (const pc of connections.filter(isOpen)) {
        for (const report of (await pc.getStats()).values()) {
          if (report.type !== "inbound-rtp") continue;
          packets += report.packetsReceived;
          frames += report.framesDecoded ?? 0;
        }
      }
      return { packets, frames };
    },

    /** The number of media sections and the size in bytes of the receiving connection's description. */
    receiverDescription() {
      const pc = connections.filter(isOpen).findLast((one) => !isSending(one) && one.remoteDescription?.type);
      const sdp = pc?.remoteDescription?.sdp ?? "";
      return { sections: (sdp.match(/^m=/gm) ?? []).length, bytes: sdp.length, state: pc?.iceConnectionState };
    },

    /** The selected candidate pair of each open connection: protocol and port of the remote end, and the relay, if any. */
    async candidatePairs() {
      const pairs = [];
      for (const pc of connections.filter(isOpen)) {
        const all = [...(await pc.getStats()).values()];
        const transport = all.find((one) => one.type === "transport" && one.selectedCandidatePairId);
        const pair = all.find((one) => one.id === transport?.selectedCandidatePairId);
        const [local, remote] = [pair?.localCandidateId, pair?.remoteCandidateId].map((id) => all.find((one) => one.id === id));
        const { iceTransportPolicy, iceServers } = pc.getConfiguration();
        if (pair) {
          pairs.push({
            protocol: remote?.protocol, port: remote?.port, local: local?.candidateType, relay: local?.relayProtocol, state: pc.iceConnectionState,
            policy: iceTransportPolicy, servers: iceServers.flatMap(({ urls }) => urls),
          });
        }
      }
      return pairs;
    },

    /**
     * An audio track with a tone. `media.setToneGain` changes its gain.
     * @param {number} initialGain from 0 to 1 @param {number} [hertz]
     */
    toneTrack(initialGain, hertz = 440) {
      const context = new AudioContext();
      const tone = new OscillatorNode(context, { frequency: hertz });
      const gain = new GainNode(context, { gain: initialGain });
      const end = new MediaStreamAudioDestinationNode(context);
      tone.connect(gain).connect(end);
      tone.start();
      window.media.setToneGain = (next) => { gain.gain.value = next; };
      return end.stream.getAudioTracks()[0];
    },

    /** A video track with an animation of this size. Pages of one browser share its camera, and the camera's resolution. */
    animationTrack(width, height, rate = 10) {
      const canvas = Object.assign(document.createElement("canvas"), { width, height });
      const context2d = canvas.getContext("2d");
      setInterval(() => {
        context2d.fillStyle = `hsl(${(Date.now() / 20) % 360} 80% 50%)`;
        context2d.fillRect(0, 0, width, height);
        context2d.fillStyle = "white";
        context2d.fillRect((Date.now() / 5) % width, height / 4, width / 8, height / 2);
      }, 1000 / rate);
      return canvas.captureStream(rate).getVideoTracks()[0];
    },

    /** A video track that shows eight fields in eight colours. {@link detectTestCard} recognises it at the receiver. */
    testCardTrack(rate = 10) {
      const canvas = Object.assign(document.createElement("canvas"), { width: 320, height: 180 });
      const context2d = canvas.getContext("2d");
      const [width, height] = [canvas.width / 4, canvas.height / 2];
      setInterval(() => {
        for (const [index, colour] of TEST_CARD.entries()) {
          context2d.fillStyle = `rgb(${colour})`;
          context2d.fillRect(index % 4 * width, Math.floor(index / 4) * height, width, height);
        }
      }, 1000 / rate);
      return canvas.captureStream(rate).getVideoTracks()[0];
    },

    /** Starts to count the rendered frames of a participant's camera, and the test cards among them, in {@link detected}. */
    detectTestCard(participant) {
      const [video, count] = [window.media.cameraElement(participant), { frames: 0, testCards: 0 }];
      const context2d = Object.assign(document.createElement("canvas"), { width: 4, height: 2 }).getContext("2d", { willReadFrequently: true });
      const inspect = () => {
        // Sample the middle of each field, where the encoder does not blend it with its neighbours.
        const [width, height] = [video.videoWidth / 4, video.videoHeight / 2];
        for (const index of TEST_CARD.keys()) {
          const [x, y] = [index % 4, Math.floor(index / 4)];
          context2d.drawImage(video, (x + 0.25) * width, (y + 0.25) * height, width / 2, height / 2, x, y, 1, 1);
        }
        const { data } = context2d.getImageData(0, 0, 4, 2);
        const isTestCard = TEST_CARD.flat().every((expected, index) => Math.abs(expected - data[Math.floor(index / 3) * 4 + index % 3]) < COLOUR_TOLERANCE);
        count.frames += 1;
        count.testCards += Number(isTestCard);
        video.requestVideoFrameCallback(inspect);
      };
      video.requestVideoFrameCallback(inspect);
      window.media.detected = count;
    },

    /** Replaces screen capture by an animation of 640 × 480 with a tone, because a headless browser has no screen. */
    fakeScreen() {
      navigator.mediaDevices.getDisplayMedia = async () => new MediaStream([window.media.animationTrack(640, 480), window.media.toneTrack(0.3, 660)]);
    },

    /**
     * Requests to produce a track, bypassing the SDK's checks. Returns the error, or the producer's id as `value`.
     * @param {"audio" | "video"} kind
     */
    async requestProduce(kind, isScreen = false) {
      const pc = connections.filter(isOpen).findLast(isSending);
      const stream = await navigator.mediaDevices.getUserMedia({ [kind]: true });
      const transceiver = pc.addTransceiver(stream.getTracks()[0], { direction: "sendonly", streams: [stream] });
      await pc.setLocalDescription();
      const appData = JSON.stringify({ e2ee: false, mid: transceiver.mid, screenShare: isScreen });
      return window.sendRequest(50331650, [
        [1, kind], [3, isScreen], [4, [[1, 0], [2, "offer"], [3, pc.localDescription.sdp]]], [5, `${stream.id} track`], [6, appData],
        [7, kind === "audio" ? "audio/opus" : "video/VP8"], [8, window.transports.send.at(-1) ?? ""],
      ], 2);
    },

    /** Sends media on all transceivers, even if the SDK has turned them off, or restores the SDK's tracks. */
    async forceSending(isOn = true) {
      for (const pc of connections.filter(isOpen).filter(isSending)) {
        for (const sender of pc.getSenders()) {
          if (isOn && sender.transport && pc.getTransceivers().find((one) => one.sender === sender).currentDirection === "sendonly") {
            sender.sdkTrack ??= [sender.track];
            const kind = sender.track?.kind ?? (sender.dtmf ? "audio" : "video");
            const stream = await navigator.mediaDevices.getUserMedia({ [kind]: true });
            await sender.replaceTrack(stream.getTracks()[0]);
          } else if (sender.sdkTrack) {
            await sender.replaceTrack(sender.sdkTrack[0]);
          }
        }
      }
    },

    /**
     * Requests to consume a producer, bypassing the SDK. Returns the server's reply.
     * @param {{peer: string, producer: string, transport: string}} track
     */
    requestConsume({ peer, producer, transport }) {
      const request = [[1, peer], [3, producer], [5, transport], [6, [[1, "f"]]]];
      return window.sendRequest(50331651, [[1, request], [2, window.transports.receive.at(-1) ?? ""]], 2);
    },

    /** The counts of {@link detectTestCard}. */
    detected: { frames: 0, testCards: 0 },

    /** The time of the first rendered frame of each participant, by name. @type {Record<string, number>} */
    firstFrames: {},

    /**
     * Renders the video and plays the audio of all participants, which the SDK leaves to the app.
     * @param {any} meeting
     */
    render(meeting) {
      const { joined } = meeting.participants;
      const play = (element, tracks) => {
        const next = tracks.filter(Boolean);
        const current = element.srcObject?.getTracks() ?? [];
        if (next.length === current.length && next.every((track) => current.includes(track))) return;
        element.srcObject = next.length ? new MediaStream(next) : null;
        if (next.length) element.play().catch(() => {});
      };
      const createElement = (kind, participant) => {
        const element = Object.assign(document.createElement(kind), { autoplay: true, playsInline: true, muted: kind === "video" });
        Object.assign(element.style, { width: "320px", height: "180px" });
        element.dataset.participant = participant.id;
        (document.body ?? document.documentElement).append(element);
        return element;
      };
      const renderParticipant = (participant) => {
        const elements = {};
        const update = (name, kind, isOn, track) => {
          if (isOn && track) elements[name] ??= createElement(kind, participant);
          if (elements[name]) play(elements[name], [isOn && track]);
        };
        const updateAll = () => {
          // The SDK sets the stream of a camera's element, and selects the layer by the element's size.
          if (participant.videoEnabled && !elements.camera) {
            elements.camera = createElement("video", participant);
            elements.camera.classList.add("camera");
            elements.camera.requestVideoFrameCallback(() => { window.media.firstFrames[participant.name] ??= performance.now(); });
            participant.registerVideoElement(elements.camera);
          }
          update("microphone", "audio", participant.audioEnabled, participant.audioTrack);
          update("screen", "video", participant.screenShareEnabled, participant.screenShareTracks?.video);
          update("screenAudio", "audio", participant.screenShareEnabled, participant.screenShareTracks?.audio);
        };
        for (const event of ["videoUpdate", "audioUpdate", "screenShareUpdate"]) participant.on(event, updateAll);
        updateAll();
      };
      joined.on("participantJoined", renderParticipant);
      joined.on("participantLeft", ({ id }) => {
        for (const element of document.querySelectorAll(`[data-participant="${id}"]`)) element.remove();
      });
      joined.toArray().forEach(renderParticipant);
    },

    /** The video element of a participant's camera. */
    cameraElement: (participant) => document.querySelector(`video.camera[data-participant="${participant.id}"]`),
  };
})();
