// The page's sounds are valid files and replace those of the UI kit.

import assert from "node:assert/strict";
import { test } from "node:test";
import { installSounds, soundFor, wave } from "../src/sounds.js";

globalThis.location = new URL("http://localhost:8787/meet");

test("a sound is a complete WAV file that is neither silent nor clipped", () => {
  const file = Buffer.from(wave([[440, 0]]));
  assert.equal(file.toString("latin1", 0, 4), "RIFF");
  assert.equal(file.readUInt32LE(4), file.length - 8);
  assert.equal(file.readUInt32LE(40), file.length - 44);
  const loudest = Math.max(...new Int16Array(file.buffer, file.byteOffset + 44));
  assert.ok(loudest > 4_000 && loudest < 32_767, `${loudest}`);
});

test("only the sounds of the UI kit are replaced", () => {
  class Media {
    get src() {
      return this.value;
    }
    set src(address) {
      this.value = address;
    }
  }
  installSounds({ HTMLMediaElement: Media });
  const element = new Media();
  for (const path of ["rtk-uploads.realtime.cloudflare.com/notification_join.mp3", "rtk-assets.realtime.cloudflare.com/ui-kit/speaker-test.mp3"]) {
    element.src = `https://${path}`;
    assert.match(element.src, /^blob:/);
    assert.equal(element.src, soundFor(`https://${path}`), "created once");
  }
  for (const other of ["https://example.com/notification_join.mp3", "/uploads/song.mp3", "blob:http://localhost:8787/1"]) {
    element.src = other;
    assert.equal(element.src, other);
  }
});
