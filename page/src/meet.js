// The page at /meet: reads the token, loads the SDK and the UI kit, and shows the call.

import { BASE_URI, install } from "./same-origin.js";
import { installSounds } from "./sounds.js";
import { expiredSince, parseClaims, takeToken } from "./token.js";
import * as messages from "./messages.js";

/** Whether microphone and camera are on at the start; overridden by `?audio=1` and `?video=1`. */
const MEDIA_DEFAULTS = { audio: false, video: false };

/** Fallbacks if the preset's font is not installed. The page does not load fonts from Google Fonts. */
const FALLBACK_FONTS = '"Inter Variable", system-ui, sans-serif';

function mediaDefaults() {
  const parameters = new URLSearchParams(location.search);
  const flag = (name) => (parameters.has(name) ? !["0", "false"].includes(parameters.get(name)) : MEDIA_DEFAULTS[name]);
  return { audio: flag("audio"), video: flag("video") };
}

async function join(token, claims) {
  messages.loading();
  install(window);
  installSounds(window);
  const [{ default: client }] = await Promise.all([
    import("@cloudflare/realtimekit"),
    import("@cloudflare/realtimekit-ui/dist/esm/realtimekit-ui.js"),
  ]);
  let meeting;
  try {
    meeting = await client.init({ authToken: token, baseURI: BASE_URI, defaults: mediaDefaults() });
  } catch (error) {
    messages.joinFailed(claims, error);
    return;
  }
  const call = document.createElement("rtk-meeting");
  call.setAttribute("mode", "fill");
  call.meeting = meeting;
  document.title = meeting.meta.meetingTitle || "Meeting";
  document.body.replaceChildren(call);
  await call.componentOnReady();
  const root = document.documentElement.style;
  const font = root.getPropertyValue("--rtk-font-family");
  root.setProperty("--rtk-font-family", font ? `${font}, ${FALLBACK_FONTS}` : FALLBACK_FONTS);
}

async function start() {
  const token = takeToken();
  if (!token) return messages.instructions();
  const claims = parseClaims(token);
  if (!claims) return messages.malformed();
  const expiredAt = expiredSince(claims);
  if (expiredAt) return messages.expired(claims, expiredAt);
  if (!isSecureContext) return messages.insecure();
  if (typeof RTCPeerConnection === "undefined" || !navigator.mediaDevices) return messages.unsupported();
  await join(token, claims);
}

start().catch((error) => {
  console.error(error);
  messages.joinFailed(null, error);
});
