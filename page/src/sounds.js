// The sounds of the UI kit, made here: the kit would get them from Cloudflare, in the middle of
// a call that may be in a network without the internet.

const RATE = 16_000;

/** By the end of the kit's address: frequency in Hz and start in seconds of each note. */
const TUNES = {
  "/notification_join.mp3": [[523.25, 0], [783.99, 0.12]],
  "/notification_message.mp3": [[880, 0], [1174.66, 0.07]],
  "/ui-kit/speaker-test.mp3": [[261.63, 0], [329.63, 0.3], [392, 0.6], [523.25, 0.9]],
};
const RING = 0.6;

const made = new Map();

/** The address of the sound that is played instead of the one at `address`, or null for no other. */
export function soundFor(address) {
  const url = new URL(address, location.href);
  const tune = url.hostname.endsWith(".realtime.cloudflare.com") ? TUNES[url.pathname] : undefined;
  if (!tune) return null;
  if (!made.has(tune)) made.set(tune, URL.createObjectURL(new Blob([wave(tune)], { type: "audio/wav" })));
  return made.get(tune);
}

/** The notes as a WAV file: 16 bits, one channel. */
export function wave(tune) {
  const end = Math.max(...tune.map(([, start]) => start)) + RING;
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
      // A struck bell: a short rise, so that it does not click, then it dies away.
      if (t > 0) level += Math.sin(2 * Math.PI * frequency * t) * Math.min(t * 200, 1) * Math.exp(-t * 9);
    }
    file.setInt16(44 + i * 2, Math.max(-1, Math.min(1, level * 0.45)) * 32_767, true);
  }
  return file.buffer;
}

/** Makes audio elements of `scope`, which is the window, play them. */
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
