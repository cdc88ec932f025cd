// The page at /meet: takes the token, loads the SDK and the UI kit, and shows the call.

import { BASE_URI, install } from "./own-origin.js";
import { installSounds } from "./sounds.js";
import { claimsOf, endOf, takeToken } from "./token.js";
import * as messages from "./messages.js";

/** Whether microphone and camera start on; `?audio=1` and `?video=1` say otherwise. */
const START_WITH = { audio: false, video: false };

/** What a font falls back to that this machine does not have. Nothing is fetched from Google Fonts. */
const FALLBACK_FONTS = '"Inter Variable", system-ui, sans-serif';

function startWith() {
  const wanted = new URLSearchParams(location.search);
  const flag = (name) => (wanted.has(name) ? !["0", "false"].includes(wanted.get(name)) : START_WITH[name]);
  return { audio: flag("audio"), video: flag("video") };
}

async function join(token, claims) {
  messages.opening();
  install(window);
  installSounds(window);
  const [{ default: client }] = await Promise.all([
    import("@cloudflare/realtimekit"),
    import("@cloudflare/realtimekit-ui/dist/esm/realtimekit-ui.js"),
  ]);
  let meeting;
  try {
    meeting = await client.init({ authToken: token, baseURI: BASE_URI, defaults: startWith() });
  } catch (error) {
    messages.refused(claims, error);
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
  if (!token) return messages.explain();
  const claims = claimsOf(token);
  if (!claims) return messages.malformed();
  const end = endOf(claims);
  if (end) return messages.expired(claims, end);
  if (!isSecureContext) return messages.insecure();
  if (typeof RTCPeerConnection === "undefined" || !navigator.mediaDevices) return messages.unsupported();
  await join(token, claims);
}

start().catch((error) => {
  console.error(error);
  messages.refused(null, error);
});
