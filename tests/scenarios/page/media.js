// What an app's page does with media, and what a scenario wants to know of it. Loaded before the SDK.
(() => {
  /** Where this person's media goes instead of to the server itself: a cable of the suite. @type {{from: number, to: number} | undefined} */
  const detour = window.mediaDetour;

  /** Patterns of the addresses of ICE servers that may be used; all when there are none. @type {RegExp[] | undefined} */
  let wanted;
  let isTcpUsed = true;
  const only = ({ urls, ...server }) => {
    const fitting = [urls].flat().filter((url) => wanted.some((one) => one.test(url)));
    return fitting.length ? [{ ...server, urls: fitting }] : [];
  };

  /** Every connection that the SDK has made, oldest first. */
  const connections = [];
  window.RTCPeerConnection = class extends window.RTCPeerConnection {
    constructor(settings, ...rest) {
      super(wanted ? { ...settings, iceServers: settings.iceServers.flatMap(only) } : settings, ...rest);
      connections.push(this);
    }

    setRemoteDescription(description, ...rest) {
      let { sdp } = description;
      if (detour) sdp = sdp.replace(new RegExp(`^(a=candidate:\\S+ \\d+ udp \\d+ \\S+) ${detour.from} `, "gim"), `$1 ${detour.to} `);
      if (!isTcpUsed) sdp = sdp.replace(/^a=candidate:\S+ \d+ tcp .*\r\n/gim, "");
      return super.setRemoteDescription({ type: description.type, sdp }, ...rest);
    }
  };
  /** The colours of the test card, two rows of four: red, green and blue of each. */
  const CARD = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [255, 255, 0], [0, 0, 0], [0, 255, 255], [255, 0, 255]];
  /** How far a colour may be off. Encoders change it by some thirty; grey is off by more, and noise in one of the 24 for sure. */
  const UNLIKE = 90;

  const isOpen = (pc) => pc.signalingState !== "closed";
  // The SDK offers several sizes on the connection that sends, before there is a track.
  const isSending = (pc) => /^a=simulcast:send/m.test(pc.localDescription?.sdp ?? "");

  /** How a track comes in, as the browser counts; null when nothing has come. @param {MediaStreamTrack | undefined} track */
  async function incoming(track) {
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

    /** From now on only ICE servers whose addresses are like these are used. @param {string[]} patterns @param {boolean} [isTcp] whether TCP may be used without one */
    useServers(patterns, isTcp = true) {
      wanted = patterns.map((pattern) => new RegExp(pattern));
      isTcpUsed = isTcp;
    },

    /** What is seen of somebody: decoded frames, their size. @param {any} person @param {boolean} [isScreen] */
    async seen(person, isScreen) {
      const told = await incoming(isScreen ? person?.screenShareTracks?.video : person?.videoTrack);
      return told && {
        frames: told.framesDecoded ?? 0, width: told.frameWidth ?? 0, height: told.frameHeight ?? 0, keyFrames: told.keyFramesDecoded ?? 0,
        packets: told.packetsReceived, lost: told.packetsLost, nacks: told.nackCount ?? 0, plis: told.pliCount ?? 0, mid: told.mid,
        freezes: told.freezeCount ?? 0, dropped: told.framesDropped ?? 0, bytes: told.bytesReceived,
      };
    },

    /** What is heard of somebody: the energy of it so far, over so many seconds. */
    async heard(person, isScreen) {
      const told = await incoming(isScreen ? person?.screenShareTracks?.audio : person?.audioTrack);
      return told && {
        packets: told.packetsReceived, energy: told.totalAudioEnergy ?? 0, seconds: told.totalSamplesDuration ?? 0,
        level: told.audioLevel ?? 0, lost: told.packetsLost, mid: told.mid,
      };
    },

    /** What this person sends now, one entry for each encoding. */
    async sent() {
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

    /** Everything that comes in now, whoever it is of: what has arrived in packets and frames. */
    async received() {
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

    /** The m-lines of the connection that receives, and how many bytes its description has. */
    receiving() {
      const pc = connections.filter(isOpen).findLast((one) => !isSending(one) && one.remoteDescription?.type);
      const sdp = pc?.remoteDescription?.sdp ?? "";
      return { lines: (sdp.match(/^m=/gm) ?? []).length, bytes: sdp.length, state: pc?.iceConnectionState };
    },

    /** Which way the media takes: protocol and port of the remote end, whether it is relayed. */
    async ways() {
      const ways = [];
      for (const pc of connections.filter(isOpen)) {
        const all = [...(await pc.getStats()).values()];
        const transport = all.find((one) => one.type === "transport" && one.selectedCandidatePairId);
        const pair = all.find((one) => one.id === transport?.selectedCandidatePairId);
        const [local, remote] = [pair?.localCandidateId, pair?.remoteCandidateId].map((id) => all.find((one) => one.id === id));
        const { iceTransportPolicy, iceServers } = pc.getConfiguration();
        if (pair) {
          ways.push({
            protocol: remote?.protocol, port: remote?.port, local: local?.candidateType, relay: local?.relayProtocol, state: pc.iceConnectionState,
            policy: iceTransportPolicy, servers: iceServers.flatMap(({ urls }) => urls),
          });
        }
      }
      return ways;
    },

    /** A microphone whose loudness (0 to 1) a scenario sets; it says a tone. @param {number} loudness @param {number} [hertz] */
    voice(loudness, hertz = 440) {
      const context = new AudioContext();
      const tone = new OscillatorNode(context, { frequency: hertz });
      const volume = new GainNode(context, { gain: loudness });
      const end = new MediaStreamAudioDestinationNode(context);
      tone.connect(volume).connect(end);
      tone.start();
      window.media.speak = (next) => { volume.gain.value = next; };
      return end.stream.getAudioTracks()[0];
    },

    /** A picture that moves, of this size. People in one browser share its camera, and its size. */
    drawing(width, height, rate = 10) {
      const canvas = Object.assign(document.createElement("canvas"), { width, height });
      const pen = canvas.getContext("2d");
      setInterval(() => {
        pen.fillStyle = `hsl(${(Date.now() / 20) % 360} 80% 50%)`;
        pen.fillRect(0, 0, width, height);
        pen.fillStyle = "white";
        pen.fillRect((Date.now() / 5) % width, height / 4, width / 8, height / 2);
      }, 1000 / rate);
      return canvas.captureStream(rate).getVideoTracks()[0];
    },

    /** A picture of eight fields in eight colours, to be sent instead of the camera's and recognised by {@link recognised}. */
    testCard(rate = 10) {
      const canvas = Object.assign(document.createElement("canvas"), { width: 320, height: 180 });
      const pen = canvas.getContext("2d");
      const [width, height] = [canvas.width / 4, canvas.height / 2];
      setInterval(() => {
        for (const [index, colour] of CARD.entries()) {
          pen.fillStyle = `rgb(${colour})`;
          pen.fillRect(index % 4 * width, Math.floor(index / 4) * height, width, height);
        }
      }, 1000 / rate);
      return canvas.captureStream(rate).getVideoTracks()[0];
    },

    /**
     * Looks at every picture of somebody's camera that is shown from now on: how many there are, and how many of
     * them are the test card, is in {@link recognised}.
     */
    recognise(person) {
      const [video, count] = [window.media.camera(person), { pictures: 0, cards: 0 }];
      const pen = Object.assign(document.createElement("canvas"), { width: 4, height: 2 }).getContext("2d", { willReadFrequently: true });
      const look = () => {
        // The middle of each field, where its neighbours do not reach.
        const [width, height] = [video.videoWidth / 4, video.videoHeight / 2];
        for (const index of CARD.keys()) {
          const [x, y] = [index % 4, Math.floor(index / 4)];
          pen.drawImage(video, (x + 0.25) * width, (y + 0.25) * height, width / 2, height / 2, x, y, 1, 1);
        }
        const { data } = pen.getImageData(0, 0, 4, 2);
        const isCard = CARD.flat().every((wanted, index) => Math.abs(wanted - data[Math.floor(index / 3) * 4 + index % 3]) < UNLIKE);
        count.pictures += 1;
        count.cards += Number(isCard);
        video.requestVideoFrameCallback(look);
      };
      video.requestVideoFrameCallback(look);
      window.media.recognised = count;
    },

    /** From now on what is shared is a drawing of 640 × 480 with a tone: browsers without a screen have none to share. */
    fakeScreen() {
      navigator.mediaDevices.getDisplayMedia = async () => new MediaStream([window.media.drawing(640, 480), window.media.voice(0.3, 660)]);
    },

    /** Asks to send a track, whatever the SDK thinks of it: what the server refuses, and the id of what it takes. @param {"audio" | "video"} kind */
    async tryToSend(kind, isScreen = false) {
      const pc = connections.filter(isOpen).findLast(isSending);
      const stream = await navigator.mediaDevices.getUserMedia({ [kind]: true });
      const line = pc.addTransceiver(stream.getTracks()[0], { direction: "sendonly", streams: [stream] });
      await pc.setLocalDescription();
      const said = JSON.stringify({ e2ee: false, mid: line.mid, screenShare: isScreen });
      return window.ask(50331650, [
        [1, kind], [3, isScreen], [4, [[1, 0], [2, "offer"], [3, pc.localDescription.sdp]]], [5, `${stream.id} track`], [6, said],
        [7, kind === "audio" ? "audio/opus" : "video/VP8"], [8, window.transports.send.at(-1) ?? ""],
      ], 2);
    },

    /** Sends on every line of this person, whatever the SDK has turned off; or leaves that to the SDK again. */
    async sendAll(isOn = true) {
      for (const pc of connections.filter(isOpen).filter(isSending)) {
        for (const sender of pc.getSenders()) {
          if (isOn && sender.transport && pc.getTransceivers().find((one) => one.sender === sender).currentDirection === "sendonly") {
            sender.before ??= [sender.track];
            const kind = sender.track?.kind ?? (sender.dtmf ? "audio" : "video");
            const stream = await navigator.mediaDevices.getUserMedia({ [kind]: true });
            await sender.replaceTrack(stream.getTracks()[0]);
          } else if (sender.before) {
            await sender.replaceTrack(sender.before[0]);
          }
        }
      }
    },

    /** Asks to receive a track of somebody: what the server says of it. @param {{peer: string, producer: string, transport: string}} track */
    tryToReceive({ peer, producer, transport }) {
      const one = [[1, peer], [3, producer], [5, transport], [6, [[1, "f"]]]];
      return window.ask(50331651, [[1, one], [2, window.transports.receive.at(-1) ?? ""]], 2);
    },

    /** What {@link recognise} has seen. */
    recognised: { pictures: 0, cards: 0 },

    /** When the first frame of each person was shown, by name. @type {Record<string, number>} */
    firstFrames: {},

    /**
     * Shows and plays everybody in a meeting, as an app must: the SDK itself does neither.
     * @param {any} meeting
     */
    show(meeting) {
      const { joined } = meeting.participants;
      const play = (element, tracks) => {
        const wanted = tracks.filter(Boolean);
        const has = element.srcObject?.getTracks() ?? [];
        if (wanted.length === has.length && wanted.every((track) => has.includes(track))) return;
        element.srcObject = wanted.length ? new MediaStream(wanted) : null;
        if (wanted.length) element.play().catch(() => {});
      };
      const element = (kind, person) => {
        const made = Object.assign(document.createElement(kind), { autoplay: true, playsInline: true, muted: kind === "video" });
        Object.assign(made.style, { width: "320px", height: "180px" });
        made.dataset.of = person.id;
        (document.body ?? document.documentElement).append(made);
        return made;
      };
      const showOne = (person) => {
        const made = {};
        const has = (name, kind, isOn, track) => {
          if (isOn && track) made[name] ??= element(kind, person);
          if (made[name]) play(made[name], [isOn && track]);
        };
        const update = () => {
          // The SDK fills the element of a camera by itself, and looks at its size.
          if (person.videoEnabled && !made.camera) {
            made.camera = element("video", person);
            made.camera.classList.add("camera");
            made.camera.requestVideoFrameCallback(() => { window.media.firstFrames[person.name] ??= performance.now(); });
            person.registerVideoElement(made.camera);
          }
          has("voice", "audio", person.audioEnabled, person.audioTrack);
          has("screen", "video", person.screenShareEnabled, person.screenShareTracks?.video);
          has("sound", "audio", person.screenShareEnabled, person.screenShareTracks?.audio);
        };
        for (const event of ["videoUpdate", "audioUpdate", "screenShareUpdate"]) person.on(event, update);
        update();
      };
      joined.on("participantJoined", showOne);
      joined.on("participantLeft", ({ id }) => {
        for (const one of document.querySelectorAll(`[data-of="${id}"]`)) one.remove();
      });
      joined.toArray().forEach(showOne);
    },

    /** The element that shows somebody's camera. */
    camera: (person) => document.querySelector(`video.camera[data-of="${person.id}"]`),
  };
})();
