// Synthesises the sounds of the UI kit, which it would load from Cloudflare during a call, even on a network
// without internet access.

const RATE = 16_000;

/** The frequency in Hz and the start in seconds of each note, by the path of the kit's URL. */
const TUNES = {
  "/notification_join.mp3": [[523.25, 0], [783.99, 0.12]],
  "/notification_message.mp3": [[880, 0], [1174.66, 0.07]],
  "/ui-kit/speaker-test.mp3": [[261.63, 0], [329.63, 0.3], [392, 0.6], [523.25, 0.9]],
};
/** The duration of the last note, in seconds. */
const NOTE_SECONDS = 0.6;

const urls = new Map();

/** The URL of the sound that replaces the one at `address`, or null if it is not a sound of the UI kit. */
export function soundFor(address) {
  const url = new URL(address, location.href);
  const tune = url.hostname.endsWith(".realtime.cloudflare.com") ? TUNES[url.pathname] : undefined;
  if (!tune) return null;
  if (!urls.has(tune)) urls.set(tune, URL.createObjectURL(new Blob([wave(tune)], { type: "audio/wav" })));
  return urls.get(tune);
}

/** Synthesises notes as a WAV file with 16 bits and one channel. */
export function wave(tune) {
  const end = Math.max(...tune.map(([, start]) => start)) + NOTE_SECONDS;
  const samples = Math.ceil(end * RATE);
  const file = new DataView(new ArrayBuffer(44 + samples * 2));
  const text = (at, letters) => [...letters].forEach((letter, i) => file.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF");
  file.setUint32(4, 36 + samples * 2, true);
  text(8, "WAVEfmt ");
  file.setUint32(16, 16, true);
  file.setUint16(20, 1, true);
  file.setUint16(22, 1, true);
  file.setUint32(24, RATE, true);
  file.setUint32(28, RATE * 2, true);
  file.setUint16(32, 2, true);
  file.setUint16(34, 16, true);
  text(36, "data");
  file.setUint32(40, samples * 2, true);
  for (let i = 0; i < samples; i++) {
    let level = 0;
    for (const [frequency, start] of tune) {
      const t = i / RATE - start;
      // The envelope of a bell: a short attack, which avoids a click, and an exponential decay.
      if (t > 0) level += Math.sin(2 * Math.PI * frequency * t) * Math.min(t * 200, 1) * Math.exp(-t * 9);
    }
    file.setInt16(44 + i * 2, Math.max(-1, Math.min(1, level * 0.45)) * 32_767, true);
  }
  return file.buffer;
}

/** Replaces the sounds in all audio elements of the window. */
export function installSounds(scope) {
  const prototype = scope.HTMLMediaElement.prototype;
  const src = Object.getOwnPropertyDescriptor(prototype, "src");
  Object.defineProperty(prototype, "src", {
    ...src,
    set(address) {
      src.set.call(this, soundFor(address) ?? address);
    },
  });
}
